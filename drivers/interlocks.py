"""Interlocks: what must hold before a run may start, and as long as it lasts.

An :class:`Interlock` is a name, a reading and an allowed range; :class:`Interlocks` reads them at a bounded rate. What
cannot be read counts as out of range. A trip stops a run like any other failure: outputs off, and the record says why.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from drivers.errors import LimitError
from drivers.limits import Range
from drivers.rails import SupplyRails
from drivers.roles import Identity, Measurement, SourceMeasureUnit
from drivers.temperature_role import TemperatureSource
from models.exceptions import BenchFailure, RramBenchError

Readings = Mapping[str, float]
"""What one exchange measured: values by the name of what they belong to."""

_NO_SECONDS = Range(0.0, 1e6, "s", "the interlocks")
_UNCHANGED = Range(2, 1_000_000, "readings", "the interlocks")


@dataclass(frozen=True)
class Interlock:
    """One condition.

    Attributes:
        name: for messages.
        read: measures; one exchange may give several values, each of which must be allowed.
        allowed: range of all of them, with its layer.
        frozen_after: so many equal readings in a row mean a dead sensor; None where equal readings are no sign of it.

    Raises:
        LimitError: ``frozen_after`` is not at least 2.
    """

    name: str
    read: Callable[[], Readings]
    allowed: Range
    frozen_after: int | None = None

    def __post_init__(self) -> None:
        if self.frozen_after is not None:
            _UNCHANGED.check_int(self.frozen_after, f"interlock {self.name!r}: frozen after")


class Trip(NamedTuple):
    """One value that is not allowed.

    Attributes:
        interlock, who: which condition, and which of its values.
        value: what was read; None where nothing could be read.
        allowed: the range.
        since: when it was first seen so.
        reason: why, in words.
    """

    interlock: str
    who: str
    value: float | None
    allowed: Range
    since: datetime
    reason: str

    def __str__(self) -> str:
        who = f"{self.interlock}, {self.who}" if self.who else self.interlock
        return (
            f"interlock {who}: {self.reason}; {self.allowed.layer} allows {self.allowed}; since {self.since:%H:%M:%S}"
        )


class InterlockTripped(BenchFailure):
    """A condition of the bench does not hold: no run starts, and a run that is under way ends.

    Attributes:
        trips: every value that is not allowed.
    """

    def __init__(self, *trips: Trip) -> None:
        self.trips = trips
        super().__init__("; ".join(map(str, trips)))


class Interlocks:
    """The conditions of a bench, read together.

    Args:
        interlocks: the conditions; none is a bench without any.
        period_s: :meth:`poll` reads no more often than this.
        hold_s: after a trip all must have held for so long before :meth:`check` lets a run start, so that a value that
            flaps does not restart anything.
        clock: monotonic time in s.

    Raises:
        LimitError: a time that is negative or not finite.
    """

    def __init__(
        self,
        interlocks: Sequence[Interlock] = (),
        period_s: float = 1.0,
        hold_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interlocks = tuple(interlocks)
        self._period_s = _NO_SECONDS.check(period_s, "period of the interlocks")
        self._hold_s = _NO_SECONDS.check(hold_s, "hold time of the interlocks")
        self._clock = clock
        self._read_at = -math.inf
        self._since: dict[tuple[str, str], datetime] = {}
        self._unchanged: dict[tuple[str, str], tuple[float, int]] = {}
        self._last: InterlockTripped | None = None
        self._last_at = -math.inf

    def __len__(self) -> int:
        return len(self._interlocks)

    def check(self) -> None:
        """Read all conditions now: the gate before a start.

        Raises:
            InterlockTripped: some value is not allowed, or was not within the hold time.
        """
        self._read()
        held_s = self._clock() - self._last_at
        if self._last is not None and held_s < self._hold_s:
            raise InterlockTripped(
                *(
                    trip._replace(
                        reason=f"{trip.reason} until {held_s:.0f} s ago, and must hold for {self._hold_s:g} s"
                    )
                    for trip in self._last.trips
                )
            )

    def poll(self) -> None:
        """Read all conditions if the last time is a period ago: what a run does between its steps.

        Raises:
            InterlockTripped: some value is not allowed.
        """
        if self._interlocks and self._clock() - self._read_at >= self._period_s:
            self._read()

    def _read(self) -> None:
        self._read_at = self._clock()
        trips = [trip for interlock in self._interlocks for trip in self._judge(interlock)]
        tripped = {(trip.interlock, trip.who) for trip in trips}
        self._since = {key: since for key, since in self._since.items() if key in tripped}
        if trips:
            self._last, self._last_at = InterlockTripped(*trips), self._clock()
            raise self._last

    def _judge(self, interlock: Interlock) -> list[Trip]:
        try:
            readings = interlock.read()
        except RramBenchError as error:
            return [self._trip(interlock, "", None, f"cannot be read ({error})")]
        trips = []
        for who, value in readings.items():
            reason = self._complaint(interlock, who, value)
            if reason:
                trips.append(self._trip(interlock, who, value, reason))
        return trips

    def _complaint(self, interlock: Interlock, who: str, value: float) -> str:
        try:
            interlock.allowed.check(value, who)
        except LimitError:
            return f"reads {value:g} {interlock.allowed.unit}"
        if interlock.frozen_after is None:
            return ""
        before, times = self._unchanged.get((interlock.name, who), (value, 0))
        times = times + 1 if before == value else 1
        self._unchanged[interlock.name, who] = (value, times)
        if times < interlock.frozen_after:
            return ""
        return f"has read {value:g} {interlock.allowed.unit} {times} times in a row: the sensor seems dead"

    def _trip(self, interlock: Interlock, who: str, value: float | None, reason: str) -> Trip:
        since = self._since.setdefault((interlock.name, who), datetime.now())
        return Trip(interlock.name, who, value, interlock.allowed, since, reason)


def rail_current(rails: SupplyRails, allowed: Range) -> Interlock:
    """Currents of the three rails, as the supply measures them."""
    return Interlock(
        "rail current", lambda: {_rail(key): now.current_a for key, now in rails.measure().items()}, allowed
    )


def temperature_band(source: TemperatureSource, allowed: Range, frozen_after: int | None = None) -> Interlock:
    """Temperature at the chip: of the sensor there, or of the air where there is none."""

    def read() -> Readings:
        now = source.measure()
        return {"air": now.air_c} if now.device_c is None else {"device": now.device_c}

    return Interlock("temperature", read, allowed, frozen_after)


def _rail(key: str) -> str:
    return key.removesuffix("_v").upper()


class GuardedSmu:
    """A source-measure unit whose every reading is judged: a trip comes with the reading itself, not a period later.

    Args:
        smu: the unit behind the guard.
        current: allowed measured current in A; None allows any.
        compliance_trips: whether a reading in compliance is a trip.
    """

    def __init__(self, smu: SourceMeasureUnit, current: Range | None, compliance_trips: bool) -> None:
        self._smu = smu
        self._current = current
        self._compliance_trips = compliance_trips

    def identify(self) -> Identity:
        """Ask who is there; see the unit."""
        return self._smu.identify()

    def set_source_range(self, volts: float | None) -> None:
        """Fix the source range, or let it follow; see the unit."""
        self._smu.set_source_range(volts)

    def check_source(self, volts: float, compliance_a: float) -> None:
        """Check a source level and a compliance, sending nothing; see the unit."""
        self._smu.check_source(volts, compliance_a)

    def set_source(self, volts: float, compliance_a: float) -> None:
        """Set the source level in V and the current compliance in A; see the unit."""
        self._smu.set_source(volts, compliance_a)

    def set_integration(self, power_line_cycles: float) -> None:
        """Set the integration time, in power-line cycles; see the unit."""
        self._smu.set_integration(power_line_cycles)

    def set_output(self, on: bool) -> None:
        """Switch the output; see the unit."""
        self._smu.set_output(on)

    def measure(self) -> Measurement:
        """Take one reading, and judge it.

        Raises:
            InterlockTripped: the current is not allowed, or is limited by the compliance.
        """
        return self._judged(self._smu.measure())

    def spot(self) -> Measurement:
        """Take one reading with the output on for no longer than that, and judge it as :meth:`measure` does."""
        return self._judged(self._smu.spot())

    def safe_off(self) -> None:
        """Outputs to 0 V and off; see the unit."""
        self._smu.safe_off()

    def close(self) -> None:
        """Close the link; see the unit."""
        self._smu.close()

    def _judged(self, reading: Measurement) -> Measurement:
        if self._current is not None:
            try:
                self._current.check(reading.current_a, "current")
            except LimitError:
                reason = f"reads {reading.current_a:g} A at {reading.voltage_v:g} V"
                raise self._tripped("current", reading, self._current, reason) from None
        if self._compliance_trips and reading.in_compliance:
            allowed = Range(0.0, 0.0, "readings in compliance", "interlocks.smu_compliance")
            reason = f"limits the source to {reading.current_a:g} A at {reading.voltage_v:g} V"
            raise self._tripped("compliance", reading, allowed, reason)
        return reading

    @staticmethod
    def _tripped(what: str, reading: Measurement, allowed: Range, reason: str) -> InterlockTripped:
        return InterlockTripped(Trip("source-measure unit", what, reading.current_a, allowed, datetime.now(), reason))
