"""A fitted number with the interval that contains it."""

from __future__ import annotations

from dataclasses import dataclass

COVERAGE = 0.95
"""Coverage of every interval in this package."""

LOWER, UPPER = (1 - COVERAGE) / 2, (1 + COVERAGE) / 2
"""Quantiles of the two bounds of a central interval."""


@dataclass(frozen=True)
class Estimate:
    """A value with its central 95 % interval.

    Attributes:
        value: best estimate, in ``unit``.
        low, high: bounds of the interval.
        unit: SI unit, "1" for a plain number.
    """

    value: float
    low: float
    high: float
    unit: str

    def scaled(self, factor: float) -> Estimate:
        """The same estimate times a known positive factor."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor, self.unit)

    def __str__(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        return f"{self.value:.4g}{unit} ({self.low:.4g} to {self.high:.4g})"
