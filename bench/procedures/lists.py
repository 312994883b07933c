"""Parameters that are lists of numbers, written with commas on the command line and in a form."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]


def _split(value: object) -> object:
    """The parts of a text such as "1.2, 1.3", in brackets or not; a single number is a list of one."""
    if isinstance(value, int | float):
        return (value,)
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.strip().strip("()[]").split(",")]
    # "" is an empty list, and "1.2," one of one: what is written for either must also be read.
    return tuple(parts[:-1] if parts[-1] == "" else parts)


Numbers = Annotated[tuple[Finite, ...], BeforeValidator(_split)]
WholeNumbers = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_split)]
