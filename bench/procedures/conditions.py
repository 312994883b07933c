"""Conditions that an experiment is repeated under: rails, compliance, sense window, temperature and cycling."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from math import prod
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from bench.procedure import Parameters, Progress, ReadTemperature, Record, SetTemperature, Step
from bench.procedures.lists import Numbers, WholeNumbers
from data.runs import Column, Table
from drivers.chip import Chip
from drivers.operating_points import OperatingPoints, RailVoltages
from drivers.temperature_role import TemperatureReading
from models.cells import DeviceMask

POINTS = ("set", "reset", "sense")
AXES = ("set_vddc_v", "set_vddr_v", "reset_vddc_v", "sense_vdd_v", "window_s", "temperature_c", "cycles")
MOST_CONDITIONS = 10_000
CYCLES_AT_ONCE = 1000
"""Cycles between two words of progress, at least."""


def _conditions_table() -> Table:
    rails = (
        Column(f"{point}_{rail}", "float64", units="V", description=f"{rail[:-2].upper()} of {point.upper()}")
        for point in POINTS
        for rail in RailVoltages._fields
    )
    times = {
        "set_width_s": "pulse width of SET",
        "reset_width_s": "pulse width of RESET",
        "precharge_s": "precharge time of the sense",
        "window_s": "sense window",
    }
    return Table(
        "conditions",
        (
            Column("condition", "int32", description="index of the condition in this run"),
            *rails,
            *(Column(name, "float64", units="s", description=text) for name, text in times.items()),
            Column("asked_temperature_c", "float64", units="degC", description="temperature asked for; NaN for none"),
            Column("temperature_c", "float64", units="degC", description="temperature measured; NaN where nothing can"),
            Column("cycles", "int64", description="SET / RESET cycles made before it since the experiment began"),
        ),
        "conditions under which bit errors were counted",
    )


CONDITIONS = _conditions_table()


class OverConditions(Parameters):
    """Parameters of an experiment over conditions. An empty list is the bench file's own value."""

    set_vddc_v: Numbers = Field(default=(), description="VDDC of SET in V, a list; empty for the bench file's own")
    set_vddr_v: Numbers = Field(default=(), description="VDDR of SET in V, which sets the compliance; a list")
    reset_vddc_v: Numbers = Field(default=(), description="VDDC of RESET in V, a list")
    sense_vdd_v: Numbers = Field(default=(), description="VDD of SENSE in V, a list")
    window_s: Numbers = Field(default=(), description="sense window in s, a list")
    temperature_c: Numbers = Field(default=(), description="temperature in degC, a list; empty to leave it alone")
    cycles: WholeNumbers = Field(default=(), description="cycles made before, counted from the start; rising")
    grid: Literal["full", "axes"] = Field(
        default="full", description="every combination, or each list alone with the others at their first value"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.cycles)):
            raise ValueError("cycles cannot be undone: write their numbers rising")
        lengths = [max(1, len(getattr(self, axis))) for axis in AXES]
        count = prod(lengths) if self.grid == "full" else sum(lengths)
        if count > MOST_CONDITIONS:
            raise ValueError(f"{count} conditions are too many for one run; {MOST_CONDITIONS} are allowed")
        return self


@dataclass(frozen=True)
class Condition:
    """One point of the map, by the names of the parameters; a temperature of None leaves it alone."""

    set_vddc_v: float
    set_vddr_v: float
    reset_vddc_v: float
    sense_vdd_v: float
    window_s: float
    temperature_c: float | None
    cycles: int

    def points(self, own: OperatingPoints) -> OperatingPoints:
        """The bench's operating points, changed to this condition."""
        rails = own.set.rails._replace(vddc_v=self.set_vddc_v, vddr_v=self.set_vddr_v)
        return replace(
            own,
            set=replace(own.set, rails=rails),
            reset=replace(own.reset, rails=own.reset.rails._replace(vddc_v=self.reset_vddc_v)),
            sense=replace(own.sense, rails=own.sense.rails._replace(vdd_v=self.sense_vdd_v), window_s=self.window_s),
        )


def conditions(parameters: OverConditions, own: OperatingPoints) -> list[Condition]:
    """The points of the map, fewest cycles first: what cycling does cannot be undone."""
    defaults = Condition(
        own.set.rails.vddc_v,
        own.set.rails.vddr_v,
        own.reset.rails.vddc_v,
        own.sense.rails.vdd_v,
        own.sense.window_s,
        None,
        0,
    )
    axes: dict[str, Sequence[Any]] = {}
    for axis in AXES:
        asked = getattr(parameters, axis)
        axes[axis] = asked if asked else (getattr(defaults, axis),)
    if parameters.grid == "full":
        listed = [Condition(**dict(zip(axes, values, strict=True))) for values in product(*axes.values())]
    else:
        first = Condition(**{name: values[0] for name, values in axes.items()})
        listed = [first]
        listed += [replace(first, **{name: value}) for name, values in axes.items() for value in values[1:]]
    # Within the same number of cycles each temperature comes once: it is the slowest to change.
    return sorted(listed, key=lambda one: (one.cycles, axes["temperature_c"].index(one.temperature_c)))


def condition_record(
    index: int, points: OperatingPoints, condition: Condition, measured_c: float, cycles: int
) -> Record:
    """The row of the conditions table for one condition that is about to be measured."""
    rails = {
        f"{point}_{rail}": volts for point in POINTS for rail, volts in getattr(points, point).rails._asdict().items()
    }
    asked = condition.temperature_c
    return Record(
        "conditions",
        {
            "condition": index,
            **rails,
            "set_width_s": points.set.width_s,
            "reset_width_s": points.reset.width_s,
            "precharge_s": points.sense.precharge_s,
            "window_s": points.sense.window_s,
            "asked_temperature_c": np.nan if asked is None else asked,
            "temperature_c": measured_c,
            "cycles": cycles,
        },
    )


def heat_to(asked_c: float | None, here_c: float | None) -> Generator[Step, Any, tuple[float | None, float]]:
    """Bring the chip to a temperature unless it is there; the last one asked for, and the one measured, in degC.

    The one measured is NaN where no temperature was ever asked for.
    """
    if asked_c is not None and asked_c != here_c:
        yield SetTemperature(asked_c)
        here_c = asked_c
    if here_c is None:
        return None, np.nan
    # hours may lie between two conditions at one temperature
    reading: TemperatureReading = yield ReadTemperature()
    return here_c, reading.air_c if reading.device_c is None else reading.device_c


def cycle_to(chip: Chip, devices: DeviceMask, made: NDArray[np.int64], target: int) -> Generator[Step, Any, None]:
    """Bring the devices to ``target`` cycles, some at a time; those that a stop left behind catch up first."""
    block = max(CYCLES_AT_ONCE, target // 50)
    while (least := int(made[devices].min())) < target:
        behind = devices & (made == least)
        ahead = made[devices & ~behind]
        count = min(block, target - least, int(ahead.min()) - least if ahead.size else target)
        yield Progress(least, target, f"{least} of {target} cycles")
        chip.cycle(behind, count)
        made[behind] += count
