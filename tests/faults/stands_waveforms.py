"""Stand of the waveform generator, whose wire is the maker's library: a call of it is what a byte is elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from drivers.keysight_b1530a import KeysightB1530A
from drivers.limits import Range
from drivers.waveform_role import ChannelWaveform, MeasureEvent, Quantity, WaveformLimits
from drivers.wgfmu_library import Status
from tests.faults.setter_tables import NO_NUMBERS, Numbers, Only, Setter, Stand

CHANNEL, PATTERN = 101, b"waveform101"
LEVEL_V, EDGE_S, PLATEAU_S = 1.0, 1e-6, 1e-4
EVENT = MeasureEvent(start_s=1e-5, points=4, interval_s=1e-5, averaging_s=1e-6)
PLATEAU = 1
"""Which of the waveform's segments is the plateau."""

STEP_S = 1e-8
NO_TIMES = (*NO_NUMBERS, -1e-6, -STEP_S, 1e-9, 1.5e-8, 1e5, 1e300)
NO_CHANNELS = (0, 1, 103, -101, 101.5, True, False, None, "101", b"101", math.nan, math.inf)


class Library:
    """A library that takes everything, and keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def function(*arguments: Any) -> int:
            self.calls.append((name.removeprefix("WGFMU_"), arguments))
            if name == "WGFMU_getStatus":
                arguments[0].contents.value = Status.COMPLETED
            return 0

        return function

    def received(self) -> int:
        """Calls so far."""
        return len(self.calls)

    def last(self) -> bytes:
        """The voltages that it was given last."""
        return b" ".join(repr(volts).encode() for _, volts in self.vectors())

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """Arguments of all calls of one function since the last time that everything was cleared."""
        start = max((index for index, (called, _) in enumerate(self.calls) if called == "clear"), default=0)
        return [arguments for called, arguments in self.calls[start:] if called == name]

    def vectors(self) -> list[tuple[float, float]]:
        """Segments that it was given last, as (s, V)."""
        return [(seconds, volts) for pattern, seconds, volts in self.of("addVector") if pattern == PATTERN]


@dataclass(frozen=True)
class Ticks(Numbers):
    """Times in whole steps of the generator."""

    def draw(self, rng: np.random.Generator) -> float:
        """One of them."""
        return round(float(super().draw(rng)) / STEP_S) / 1e8


def _ticks(low: float, high: float) -> Ticks:
    return Ticks(low, high, lambda seconds: 1e-12, decades=True)


def _wave(level_v: Any = LEVEL_V, plateau_s: Any = PLATEAU_S, **changes: Any) -> ChannelWaveform:
    event = replace(EVENT, **{name: value for name, value in changes.items() if hasattr(EVENT, name)})
    others = {name: value for name, value in changes.items() if not hasattr(EVENT, name)}
    segments = ((EDGE_S, level_v), (plateau_s, level_v), (EDGE_S, 0.0))
    return ChannelWaveform(segments, (event,), **others)


@contextmanager
def generator(envelope: float) -> Iterator[Stand]:
    """The B1530A on a library of ours."""
    library = Library()
    most_v = 10.0 * envelope
    limits = WaveformLimits(Range(-most_v, most_v, "V", "campaign"), Range(1e-7, 1.0, "s", "campaign"))
    driver = KeysightB1530A("GPIB0::18::INSTR", limits, library, sleep=lambda seconds: None)
    reach = min(10.0, most_v)

    def load(**changes: Any) -> None:
        driver.load({CHANNEL: _wave(**changes)})

    def put(name: str, value: Any) -> None:
        load(**{name: value})

    def of_event(place: int) -> Callable[[], Any]:
        return lambda: library.of("setMeasureEvent")[-1][place]

    def measured(name: str, place: int, drawn: Numbers, *bad: Any) -> Setter:
        return Setter("load", partial(put, name), Only((*NO_TIMES, *bad)), of_event(place), name, drawn)

    def plateau(column: int) -> float:
        return library.vectors()[PLATEAU][column]

    setters = [
        Setter(
            "load",
            partial(put, "level_v"),
            Numbers(-reach, reach),
            partial(plateau, 1),
            "voltage",
            volts=partial(plateau, 1),
        ),
        Setter(
            "load",
            partial(put, "plateau_s"),
            Only((*NO_TIMES, 0, 0.0, -0.0)),
            partial(plateau, 0),
            "time",
            _ticks(1e-4, 0.9),
        ),
        measured("start_s", 2, _ticks(1e-8, 5e-5)),
        measured("points", 3, Numbers(1, 9, whole=True), 0, 0.5, -1),
        measured("interval_s", 4, _ticks(1e-6, 2e-5), 0, 0.0, -0.0),
        measured("averaging_s", 5, _ticks(1e-8, 1e-5), 0, 0.0, -0.0),
        Setter(
            "load",
            lambda value: load(quantity=Quantity.CURRENT, current_range_a=value),
            Only((*NO_NUMBERS, 0, 0.0, -0.0, -1e-3, 2e-3, 1.0)),
            label="current range",
        ),
        Setter("load", partial(put, "quantity"), Only((None, 0, "V", "A", True, math.nan)), label="quantity"),
        Setter(
            "load",
            lambda value: driver.load({CHANNEL: _wave()}, value),
            Numbers(1, 1_000_000, whole=True),
            lambda: library.of("addSequence")[-1][2],
            "repeats",
            Numbers(1, 100_000, whole=True, decades=True),
        ),
        Setter("load", lambda value: driver.load({value: _wave()}), Only(NO_CHANNELS), label="channel"),
        Setter("wait", driver.wait, Only((*NO_NUMBERS, 0, 0.0, -0.0, -1.0, 1e9)), label="time-out"),
        Setter(
            "start_sense",
            lambda value: driver.start_sense(value, 5e-6),
            Only((*NO_TIMES, 0, 0.0, -0.0)),
            label="precharge",
        ),
        Setter(
            "start_sense",
            lambda value: driver.start_sense(5e-6, value),
            Only((*NO_TIMES, 0, 0.0, -0.0)),
            label="window",
        ),
        Setter("read", driver.read, Only(NO_CHANNELS), label="channel"),
    ]
    yield Stand(driver, (), setters, library, frozenset({"execute"}))


STANDS = {"KeysightB1530A": generator}
