"""The role of a pulse source: one that puts single pulses, or counted trains of them, on the direct-access pads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from drivers.roles import Instrument

DeviceIndex = tuple[int, int, int]
"""Row, column and device of a cell."""


@dataclass(frozen=True)
class SetValue:
    """What was asked for, and what the instrument says it will do.

    Attributes:
        asked, actual: in ``unit``.
        tolerance: largest difference that the instrument's own resolution explains.
    """

    asked: float
    actual: float
    tolerance: float
    unit: str

    @property
    def error(self) -> float:
        """Return actual minus asked, in ``unit``."""
        return self.actual - self.asked

    def __str__(self) -> str:
        return f"{self.actual:g} {self.unit} (asked {self.asked:g}, within {self.tolerance:g})"


@dataclass(frozen=True)
class PulseShape:
    """A pulse as it stands at the load that the source is told to drive.

    Attributes:
        base_v: level before and after the pulse, in V; it stands at the pads as long as the output is on.
        top_v: level of the pulse, in V; below ``base_v`` for a negative pulse.
        width_s: from the middle of the leading to the middle of the trailing edge, in s.
        leading_s, trailing_s: edges from 10 % to 90 %, in s.
        delay_s: from the trigger to the start of the pulse, in s.
    """

    base_v: float
    top_v: float
    width_s: float
    leading_s: float
    trailing_s: float
    delay_s: float = 0.0


@dataclass(frozen=True)
class ProgrammedPulse:
    """What a pulse source will emit at the next trigger, as it read back.

    Attributes:
        period_s: from pulse to pulse of a train.
        count: pulses of a train.
    """

    base_v: SetValue
    top_v: SetValue
    width_s: SetValue
    leading_s: SetValue
    trailing_s: SetValue
    delay_s: SetValue
    period_s: SetValue
    count: int

    @property
    def duration_s(self) -> float:
        """Return the time from the trigger to the end of the last pulse, in s; the whole last period counts."""
        return self.delay_s.actual + self.count * self.period_s.actual


class PulseSource(Instrument, Protocol):
    """A source of voltage pulses with one output, triggered by its client."""

    def set_pulse(self, shape: PulseShape, count: int = 1, period_s: float | None = None) -> ProgrammedPulse:
        """Program what one trigger emits, check the read-back, and return it. The output stays as it is.

        While the output is on, the base level and the direction of the pulse cannot change: they stand at the pads.

        Args:
            shape: levels in V, times in s.
            count: pulses of one train.
            period_s: from pulse to pulse, in s; needed for more than one.

        Raises:
            LimitError: outside the source's ranges or the envelope; nothing is sent.
            ReadBackError: a setting differs from what was asked by more than the source's resolution.
            BenchFailure: the output is on and the base level or the direction would change.
        """

    def set_output(self, on: bool) -> None:
        """Switch the output on, where it stands at the base level, or off, and check the read-back.

        Raises:
            BenchFailure: it is to be switched on and no pulse has been programmed: its level would be anybody's.
        """

    def trigger(self, acting_on: Sequence[DeviceIndex] = ()) -> None:
        """Emit the programmed pulses once, and return when the last one has ended.

        Args:
            acting_on: devices at the pads, to be named should it remain unknown whether the pulses came.

        Raises:
            BenchFailure: nothing was sent: no pulse is programmed, or the output is off.
            InDoubt: the trigger was sent, and what came back does not say that it acted. It is never repeated.
        """
