"""Readings of the simulated Keithley 2450, the buffers that hold them, and how they are written on the wire.

Element names and status bits after the Model 2450 reference manual (2450-901-01) and its successors'.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntFlag

from drivers.simulated.scpi_syntax import Bounds, Choice, Number, ScpiError, Text, short_form

OVERFLOW = 9.9e37
"""What SCPI instruments return for a value beyond the range."""

BUFFER_SIZE = Bounds(10, 1_000_000, 100_000)
DEFAULT_BUFFERS = ("defbuffer1", "defbuffer2")


class ReadingStatus(IntFlag):
    """Bits of the buffer element STATus."""

    QUESTIONABLE = 1
    FRONT_TERMINALS = 8


class SourceStatus(IntFlag):
    """Bits of the buffer element SOURSTATus."""

    OVERVOLTAGE_PROTECTION = 4
    READ_BACK = 8
    LIMITED = 32
    REMOTE_SENSE = 64
    OUTPUT_ON = 128


@dataclass(frozen=True)
class Reading:
    """One measurement. ``value`` and ``source`` in the units named beside them."""

    value: float
    unit: str
    source: float
    source_unit: str
    status: ReadingStatus
    source_status: SourceStatus
    at: datetime


Formatter = Callable[[float], str]

ELEMENTS: Mapping[str, Callable[[Reading, Reading, Formatter], str]] = {
    "DATE": lambda reading, first, number: reading.at.strftime("%m/%d/%Y"),
    "FORMatted": lambda reading, first, number: f"{reading.value:+.6E} {reading.unit}",
    "FRACtional": lambda reading, first, number: number(reading.at.microsecond * 1e-6),
    "READing": lambda reading, first, number: number(reading.value),
    "RELative": lambda reading, first, number: number((reading.at - first.at).total_seconds()),
    "SEConds": lambda reading, first, number: str(int(reading.at.timestamp())),
    "SOURce": lambda reading, first, number: number(reading.source),
    "SOURFORMatted": lambda reading, first, number: f"{reading.source:+.6E} {reading.source_unit}",
    "SOURSTATus": lambda reading, first, number: str(int(reading.source_status)),
    "SOURUNIT": lambda reading, first, number: reading.source_unit,
    "STATus": lambda reading, first, number: str(int(reading.status)),
    "TIME": lambda reading, first, number: reading.at.strftime("%H:%M:%S"),
    "TSTamp": lambda reading, first, number: reading.at.strftime("%m/%d/%Y %H:%M:%S.%f"),
    "UNIT": lambda reading, first, number: reading.unit,
}

ELEMENT = Choice(tuple(ELEMENTS))
BUFFER = Text(optional=True)
INDEX = Number(Bounds(1, BUFFER_SIZE.high, 1), digits=0)

_WRITERS = {short_form(name): writer for name, writer in ELEMENTS.items()}


@dataclass
class Buffer:
    """Readings in the order in which they were taken; the oldest give way when it is full."""

    size: int = int(BUFFER_SIZE.default)
    readings: deque[Reading] = field(default_factory=deque)

    def add(self, reading: Reading) -> None:
        """Store a reading."""
        if len(self.readings) >= self.size:
            self.readings.popleft()
        self.readings.append(reading)

    def last(self) -> Reading:
        """Latest reading; raises ScpiError -230 when there is none."""
        if not self.readings:
            raise ScpiError(-230)
        return self.readings[-1]

    def written(self, readings: Iterable[Reading], elements: Iterable[str], number: Formatter) -> str:
        """The wanted elements of readings that this buffer holds, separated by commas."""
        names = [*elements] or ["READ"]
        return ",".join(_WRITERS[name](reading, self.readings[0], number) for reading in readings for name in names)

    def slice(self, start: float, end: float) -> list[Reading]:
        """Readings from index ``start`` to ``end``, counted from 1; raises ScpiError -222 outside the buffer."""
        if not 1 <= start <= end <= len(self.readings):
            raise ScpiError(-222)
        return list(self.readings)[int(start) - 1 : int(end)]

    def statistic(self, name: str) -> float:
        """AVERage, MAXimum, MINimum, PK2Pk or STDDev (by short form) of the stored readings; 0 without any."""
        values = [reading.value for reading in self.readings]
        if not values:
            return 0.0
        return _STATISTICS[name](values)


_STATISTICS: Mapping[str, Callable[[list[float]], float]] = {
    "AVER": statistics.fmean,
    "MAX": max,
    "MIN": min,
    "PK2P": lambda values: max(values) - min(values),
    "STDD": lambda values: statistics.stdev(values) if len(values) > 1 else 0.0,
}
