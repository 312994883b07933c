"""Ranges that a value must lie in before it goes near a wire. Nothing is ever clamped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from drivers.errors import LimitError


@dataclass(frozen=True)
class Range:
    """A closed range of a physical quantity, and the layer that sets it.

    Attributes:
        low, high: bounds in ``unit``, both allowed.
        unit: SI unit, for the message.
        layer: who forbids what lies outside, e.g. "Keithley 2230G-30-1" or "limits.vddc_v in bench.toml".
    """

    low: float
    high: float
    unit: str
    layer: str

    def check(self, value: object, what: str) -> float:
        """Return ``value`` as a float (-0.0 becomes 0.0).

        Raises:
            LimitError: ``value`` is no number, a bool, NaN, infinite, or outside the range.
        """
        if isinstance(value, bool) or not isinstance(value, Real):
            raise LimitError(f"{what}: {value!r} is not a number in {self.unit}")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise LimitError(f"{what}: {number} is not finite; {self.layer} allows {self}")
        if not self.low <= number <= self.high:
            raise LimitError(f"{what}: {number:g} {self.unit} is refused; {self.layer} allows {self}")
        return number + 0.0

    def check_int(self, value: object, what: str) -> int:
        """Like :meth:`check`, for whole numbers; a float with no fractional part is accepted."""
        number = self.check(value, what)
        if number != int(number):
            raise LimitError(f"{what}: {number:g} is not a whole number")
        return int(number)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} {self.unit}"


@dataclass(frozen=True)
class ChannelLimits:
    """The bench file's envelope of one supply channel.

    Attributes:
        voltage: allowed voltage settings, in V.
        current: allowed current limits, in A.
    """

    voltage: Range
    current: Range


@dataclass(frozen=True)
class SmuLimits:
    """The bench file's envelope of a source-measure unit.

    Attributes:
        voltage: allowed source voltages, in V.
        compliance: allowed current compliances, in A.
    """

    voltage: Range
    compliance: Range
