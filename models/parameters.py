"""Parameters of a memory: frozen dataclasses of plain floats whose fields carry their unit, range and documentation.

A memory's parameters derive from :class:`Parameters`; :mod:`data.memory_files` reads any of them from TOML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import ClassVar

from models.device_model import Bounds, check_value, quantity


class Parameters:
    """Base of frozen dataclasses of quantities; all ranges are checked when one is made.

    Attributes:
        section: name of their table in a parameter file.

    Raises:
        UserMistake: a value is out of its range; the text names the key, the value and what is allowed.
    """

    section: ClassVar[str]

    def __post_init__(self) -> None:
        for name, bounds in self.schema().items():
            check_value(f"{self.section}.{name}", getattr(self, name), bounds)

    @classmethod
    def schema(cls) -> Mapping[str, Bounds]:
        """Field name to its unit, allowed range and documentation."""
        return {item.name: item.metadata["bounds"] for item in fields(cls)}  # type: ignore[arg-type]


__all__ = ["Parameters", "quantity"]
