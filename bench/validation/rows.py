"""Our figures beside the published ones: one row each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from bench.validation import cells, error_rates, networks, weak_reset, writing
from bench.validation.figures import Reference, packaged_reference
from bench.validation.subject import Measured, Subject
from models.exceptions import BenchFailure

PARTS: Mapping[str, Callable[[Subject, np.random.Generator], Measured]] = MappingProxyType(
    {
        "weak RESET": weak_reset.measure,
        "cells and sense amplifiers, on simulated chips": cells.measure,
        "bit errors": error_rates.measure,
        "write energy": writing.measure,
        "networks": networks.measure,
    }
)
"""What is measured, in order; each part has random draws of its own."""


@dataclass(frozen=True)
class Row:
    """A published figure and ours.

    Attributes:
        id: target; several rows may share one.
        what: the figure in words, with its unit.
        source: where the published figure comes from.
        kind: "hard" or "ordering".
        expected: published.
        ours: from the models.
        tolerance: in words.
        passed: whether ours is within it.
    """

    id: str
    what: str
    source: str
    kind: str
    expected: float | str
    ours: float | str
    tolerance: str
    passed: bool

    def as_plain(self) -> dict[str, Any]:
        """The row as the command line gives it away."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "passed"}
        return {**plain, "pass": self.passed}


def validate(
    seed: int = 0,
    subject: Subject | None = None,
    reference: Reference | None = None,
    on_part: Callable[[str], None] | None = None,
) -> list[Row]:
    """Hold the models against the published figures.

    Args:
        seed: of every random draw.
        subject: parameter files; those of the package when None.
        reference: published figures; those of the package when None.
        on_part: told what is measured next; may raise to end the run.

    Raises:
        BenchFailure: a model gives no finite number, or none for a published figure.
    """
    tested = Subject.packaged() if subject is None else subject
    published = packaged_reference() if reference is None else reference
    ours: dict[str, float | str] = {}
    for stream, (name, measure) in enumerate(PARTS.items()):
        if on_part is not None:
            on_part(name)
        ours |= measure(tested, np.random.default_rng([seed, stream]))
    missing = sorted(published.figures.keys() - ours.keys())
    if missing:
        raise BenchFailure(f"no model gives the published figure {missing[0]}; correct the file of published figures")
    return judge(published, ours)


def judge(published: Reference, ours: Measured) -> list[Row]:
    """Rows of the published figures that are among ``ours``, in the order of the file.

    Raises:
        BenchFailure: a model gives no finite number.
    """
    return [_row(published, name, ours[name]) for name in published.figures if name in ours]


def _row(published: Reference, name: str, ours: float | str) -> Row:
    figure = published.figures[name]
    if not isinstance(ours, str) and not math.isfinite(ours):
        raise BenchFailure(f"the models give {ours} for {name} ({figure.what})")
    what = figure.what if figure.unit == "1" else f"{figure.what}, in {figure.unit}"
    return Row(
        id=figure.id,
        what=what,
        source=figure.source,
        kind=figure.kind,
        expected=figure.expected,
        ours=ours,
        tolerance=figure.tolerance,
        passed=figure.accepts(ours),
    )
