"""Retention: program a pattern, let time pass with the outputs off, and see what is left of it."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from bench.procedure import (
    CellMask,
    CellsDone,
    Procedure,
    Progress,
    ReadClock,
    ReadTemperature,
    SetTemperature,
    Step,
    Steps,
    Wait,
)
from bench.procedures.stored_pattern import (
    CURVES,
    LOOK_COLUMNS,
    LOOK_TABLES,
    PatternParameters,
    look,
    store_pattern,
)
from data.runs import Column, Table
from drivers.chip import Chip

RETAINED = Table(
    "retention",
    (
        *LOOK_COLUMNS,
        Column("seconds_s", "float64", units="s", description="time since programming, on the bench's clock"),
        Column(
            "temperature_c", "float64", units="degC", description="measured before this look; NaN where none is set"
        ),
        Column("storage_c", "float64", units="degC", description="asked for between looks; NaN where none is set"),
    ),
    "each device at each look, measured at the operating point DIRECT after its cell was sensed",
)

MOST_S = 1e9
"""Longest time since programming: some thirty years."""


class RetentionParameters(PatternParameters):
    """Parameters of retention."""

    first_s: float = Field(
        default=1.0, gt=0.0, le=MOST_S, allow_inf_nan=False, description="second look, time since programming, s"
    )
    last_s: float = Field(
        default=1e5, gt=0.0, le=MOST_S, allow_inf_nan=False, description="last look, time since programming, s"
    )
    points_per_decade: int = Field(default=2, ge=1, le=50, description="looks per decade of time, log-spaced")
    temperature_c: float | None = Field(
        default=None, allow_inf_nan=False, description="storage temperature, degC; left as it is when not given"
    )
    read_c: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="temperature of programming and of each look, degC; when not given, looks are at temperature_c",
    )
    soak_s: float = Field(
        default=120.0, ge=0.0, le=600.0, description="how long a temperature must stand before it counts as reached, s"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if "first_s" in self.model_fields_set and self.first_s > self.last_s:
            raise ValueError(f"first_s = {self.first_s:g} s lies after last_s = {self.last_s:g} s")
        return self

    @property
    def times(self) -> list[float]:
        """Seconds since programming of all looks but the one right after it."""
        if self.first_s >= self.last_s:
            return [self.last_s]
        points = 1 + max(1, round(float(np.log10(self.last_s / self.first_s)) * self.points_per_decade))
        return [float(time) for time in np.geomspace(self.first_s, self.last_s, points)]


def retention(chip: Chip, parameters: RetentionParameters, cells: CellMask) -> Steps:
    """Program, look, and look again at log-spaced times, stored at a temperature and looked at at one temperature.

    A look whose time has passed, while the one before it was taken or the temperature settled, is left out, but for
    the last; each row says when it was really taken.
    """
    temperature = _Temperature(parameters)
    times = parameters.times
    curves: dict[str, list[float | None]] = {name: [] for name in ("seconds_s", *CURVES)}
    yield from temperature.before_programming()
    stored = yield from store_pattern(chip, parameters, cells)
    began = yield ReadClock()
    for point, time_s in enumerate((0.0, *times)):
        since = (yield ReadClock()) - began
        if 0 < point < len(times) and since > time_s:
            continue
        text = f"look {point + 1} of {len(times) + 1}, {time_s:.4g} s after programming"
        yield Progress(int(since), math.ceil(times[-1]), text)
        if point > 0:
            yield from temperature.before_storage()
            since = (yield ReadClock()) - began
            if since < time_s:
                yield Wait(time_s - since, f"stored until {text}")
        # The first look as well: what heat does to a resistance must not be taken for what time does to it.
        yield from temperature.before_look()
        yield from temperature.measure()
        since = (yield ReadClock()) - began
        found = yield from look(
            "retention",
            chip,
            stored,
            parameters.senses,
            point,
            seconds_s=since,
            temperature_c=temperature.now_c,
            storage_c=temperature.storage_c,
        )
        for name, value in {"seconds_s": since, **found.curves}.items():
            curves[name].append(value)
    yield CellsDone(cells)
    yield Progress(math.ceil(times[-1]), math.ceil(times[-1]), f"{len(curves['seconds_s'])} looks")
    return {"cells": int(cells.sum()), **curves}


class _Temperature:
    """The chip's temperature, where the parameters ask for one."""

    def __init__(self, parameters: RetentionParameters) -> None:
        self._read_c, self._storage_c = parameters.read_c, parameters.temperature_c
        self._soak_s = parameters.soak_s
        self._set_c: float | None = None
        self.now_c = np.nan

    @property
    def storage_c(self) -> float:
        """Asked for between looks, in degC; NaN where nothing is."""
        return np.nan if self._storage_c is None else self._storage_c

    def before_programming(self) -> Generator[Step, Any, None]:
        """Bring the chip to the temperature of programming, where one is given."""
        yield from self._bring(self._read_c)

    def before_look(self) -> Generator[Step, Any, None]:
        """Bring the chip to the temperature of a look: its own, or that of the storage."""
        yield from self._bring(self._storage_c if self._read_c is None else self._read_c)

    def before_storage(self) -> Generator[Step, Any, None]:
        """Bring the chip to the storage temperature."""
        yield from self._bring(self._storage_c)

    def _bring(self, celsius: float | None) -> Generator[Step, Any, None]:
        if celsius is None or celsius == self._set_c:
            return
        yield SetTemperature(celsius, soak_s=self._soak_s)
        self._set_c = celsius

    def measure(self) -> Generator[Step, Any, None]:
        """Measure it, where one was set: days may have passed since."""
        if self._set_c is None:
            return
        reading = yield ReadTemperature()
        self.now_c = reading.air_c if reading.device_c is None else reading.device_c


RETENTION = Procedure(
    "retention",
    "program a pattern, wait log-spaced times at a temperature, and read what is left",
    RetentionParameters,
    (*LOOK_TABLES, RETAINED),
    retention,
)
