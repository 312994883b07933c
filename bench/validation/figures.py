"""The published figures that the models are held against, and how far off a model may be."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.config import explain
from models.exceptions import UserMistake

TOLERANCES = frozenset({"relative", "absolute", "factor", "low", "high"})

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Figure(BaseModel):
    """A published figure with its source and its tolerance.

    Attributes:
        id: target that it belongs to.
        what: what the figure is, in words, without its unit.
        kind: "hard" must hold; "ordering" is remembered, or certain only as an order.
        expected: a number in ``unit``, or a text.
        relative, absolute, factor: largest distance from ``expected``.
        low, high: bounds of what is accepted, where that is not symmetric about ``expected``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    what: str
    source: str
    trust: Literal["source", "derived", "recalled"]
    kind: Literal["hard", "ordering"]
    expected: Finite | str
    unit: str = "1"
    relative: Positive | None = None
    absolute: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    low: Finite | None = None
    high: Finite | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        stated = {name for name in TOLERANCES if getattr(self, name) is not None}
        one = len(stated) == 1 or stated == {"low", "high"}
        if isinstance(self.expected, str) and stated:
            raise ValueError("a text is compared as it is and takes no tolerance")
        if not isinstance(self.expected, str) and not one:
            raise ValueError("a number takes one tolerance: relative, absolute, factor, or the bounds low and high")
        if self.kind == "hard" and self.trust == "recalled":
            raise ValueError("a figure that is only remembered cannot be hard")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest number that is accepted; for a number only."""
        assert not isinstance(self.expected, str)
        if self.factor is not None:
            return self.expected / self.factor, self.expected * self.factor
        if self.relative is not None or self.absolute is not None:
            distance = self.absolute if self.relative is None else self.relative * abs(self.expected)
            assert distance is not None
            return self.expected - distance, self.expected + distance
        return -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high

    def accepts(self, ours: float | str) -> bool:
        """Whether our figure is within the tolerance; another type than expected never is."""
        if isinstance(self.expected, str) or isinstance(ours, str):
            return ours == self.expected
        low, high = self.bounds
        return low <= ours <= high

    @property
    def tolerance(self) -> str:
        """The tolerance in words."""
        if isinstance(self.expected, str) or self.absolute == 0.0:
            return "exact"
        if self.relative is not None:
            return f"±{100.0 * self.relative:g} %"
        if self.absolute is not None:
            return f"±{self.absolute:g}"
        if self.factor is not None:
            return f"factor {self.factor:g}"
        if self.low is None:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"


class Context(BaseModel):
    """Measured figures that plots show beside ours.

    Attributes:
        sister_chip_error_rates: bit error rates of another chip of the technology, under conditions that are not named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    sister_chip_error_rates: tuple[Annotated[float, Field(gt=0, lt=1)], ...]


class Reference(BaseModel):
    """The file of published figures.

    Attributes:
        figures: name of a figure to the figure, in the order of the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    figures: dict[str, Figure]
    context: Context

    def expected(self, name: str) -> float:
        """The number that a figure expects."""
        number = self.figures[name].expected
        assert not isinstance(number, str)
        return number


def packaged_reference() -> Reference:
    """The published figures that come with the package."""
    return load_reference(Path(str(resources.files("data"))) / "reference" / "validation.toml")


def load_reference(path: Path) -> Reference:
    """Read a file of published figures.

    Raises:
        UserMistake: the file is missing or not TOML, a key is unknown or missing, or a figure has no clear tolerance.
            The text names the file and the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserMistake(f"file of published figures {path}: {error}") from error
    figures = _flattened(content.pop("targets", {}))
    try:
        return Reference.model_validate({**content, "figures": figures})
    except ValidationError as error:
        raise UserMistake(f"file of published figures {path}: {explain(error)}") from None


def _flattened(targets: Mapping[str, Any]) -> dict[str, Any]:
    """Figures by name, each with what its target says for all; a figure's own tolerance replaces its target's."""
    figures: dict[str, Any] = {}
    for target, table in targets.items():
        common = {key: value for key, value in table.items() if key != "figures"}
        for name, own in table.get("figures", {}).items():
            replaced = TOLERANCES if TOLERANCES & set(own) else frozenset[str]()
            kept = {key: value for key, value in common.items() if key not in replaced}
            figures[name] = {"id": target, **kept, **own}
    return figures
