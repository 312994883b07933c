"""Batch normalisation and scales of a foreign network, folded into integer thresholds without rounding.

What such a network computes of the sum ``s`` of a layer, up to its sign, is a line over a standard deviation::

    value(s) = (slope s + shift) / sqrt(variance) + offset

with rational numbers everywhere but under the root. Whether it reaches a level is then decided exactly, by comparing
squares: a tie is a tie, and never a matter of rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction


@dataclass(frozen=True)
class Line:
    """``(slope s + shift) / sqrt(variance) + offset`` of a sum s.

    Attributes:
        slope, shift, offset: rational.
        variance: rational, above 0.
    """

    slope: Fraction
    shift: Fraction = Fraction(0)
    offset: Fraction = Fraction(0)
    variance: Fraction = Fraction(1)

    def scaled(self, factor: Fraction, term: Fraction) -> Line:
        """``factor * value + term``."""
        return replace(self, slope=factor * self.slope, shift=factor * self.shift, offset=factor * self.offset + term)

    def normalised(self, gain: Fraction, bias: Fraction, mean: Fraction, variance: Fraction) -> Line | None:
        """``gain (value - mean) / sqrt(variance) + bias``; None where this line has a root of its own already."""
        if self.variance != 1:
            return None
        shift = self.shift + self.offset - mean
        return Line(gain * self.slope, gain * shift, bias, variance)

    def turned(self) -> Line:
        """The same of ``-s``."""
        return replace(self, slope=-self.slope)

    def compared(self, total: int, level: Fraction) -> int:
        """-1, 0 or +1: whether the value of the sum ``total`` is below, at or above a level."""
        rational, rooted = self.slope * total + self.shift, self.offset - level
        signs = _sign(rational), _sign(rooted)
        if signs[0] * signs[1] >= 0:
            return _sign(Fraction(signs[0] + signs[1]))
        return signs[0] * _sign(rational**2 - rooted**2 * self.variance)

    def zero_of(self, level: Fraction) -> float:
        """The sum whose value is the level, about; the slope is not 0."""
        root = math.sqrt(self.variance)
        return (float(level - self.offset) * root - float(self.shift)) / float(self.slope)


def _sign(number: Fraction) -> int:
    return (number > 0) - (number < 0)


@dataclass(frozen=True)
class Decision:
    """``sign * s >= threshold``, and a sum (up to its sign) whose value is exactly at the level, if there is one."""

    sign: int
    threshold: int
    tie: int | None


def folded(line: Line, level: Fraction, reach: int, *, strict: bool = False) -> Decision:
    """The integer comparison that answers as ``value(s) >= level`` does for all sums within ``-reach`` to ``reach``.

    Args:
        line: value of a sum.
        level: that is compared with.
        reach: largest magnitude of a sum.
        strict: whether the value must be above the level.

    Returns:
        The decision; its threshold lies within ``-reach`` to ``reach + 1``.
    """
    needed = 1 if strict else 0
    if line.slope == 0:
        found = line.compared(0, level)
        return Decision(0, 0 if found >= needed else 1, reach if found == 0 else None)
    sign = _sign(line.slope)
    rising = line if sign > 0 else line.turned()

    def fires(total: int) -> bool:
        return rising.compared(total, level) >= needed

    low, high = -reach, reach + 1  # the first sum that fires lies in here
    about = rising.zero_of(level)
    if low + 2 < about < high - 2:
        # floating point is right to within a sum or two, nearly always: look there first
        near = math.floor(about)
        if not fires(near - 1) and fires(near + 2):
            low, high = near, near + 2
    while low < high:
        middle = (low + high) // 2
        if fires(middle):
            high = middle
        else:
            low = middle + 1
    touching = (low, low - 1) if strict else (low,)
    ties = [total for total in touching if abs(total) <= reach and rising.compared(total, level) == 0]
    return Decision(sign, low, ties[0] if ties else None)
