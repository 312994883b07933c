"""Bit errors after one programming pass, against rails, compliance, temperature and cycling."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise, product
from math import prod
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from bench.procedure import (
    CellMask,
    CellsDone,
    Procedure,
    Progress,
    ReadTemperature,
    Record,
    SetTemperature,
    Step,
    Steps,
)
from bench.procedures.error_rates import ErrorCounts, single_ended
from bench.procedures.lists import Numbers, WholeNumbers
from bench.procedures.measuring import measure
from bench.procedures.preparing import OnFormedCells, prepare
from bench.procedures.tables import CELL, RESISTANCES, ProgrammedState
from data.run_chain import PART, chain, read_parts
from data.runs import Column, Run, Table
from drivers.chip import Chip, OperationKind, Outcome
from drivers.operating_points import OperatingPoints, RailVoltages
from drivers.temperature_role import TemperatureReading
from models.cells import DeviceMask, Geometry, Weights, cell_mask_to_devices, lrs_devices

POINTS = ("set", "reset", "sense")
AXES = ("set_vddc_v", "set_vddr_v", "reset_vddc_v", "sense_vdd_v", "window_s", "temperature_c", "cycles")
MOST_CONDITIONS = 10_000
CYCLES_AT_ONCE = 1000
"""Cycles between two words of progress, at least."""

SUMMARISED = 24
"""Conditions that the summary has room for; the run file has them all."""


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

BIT_ERRORS = Table(
    "bit_errors",
    (
        Column("condition", "int32", description="index of the condition"),
        Column("pattern", "int32", description="index of the programmed pattern in this run"),
        Column("repeat", "int32", description="index of the sense of this pattern"),
        Column("target", "int8", dims=CELL, description="weight asked for; only selected cells were programmed"),
        Column("sensed", "int8", dims=CELL, description="weight read: +1, -1, or 0 for undecided"),
    ),
    "weights programmed in one pass without repair, and what was read",
)


class BitErrorParameters(OnFormedCells):
    """Parameters of the bit-error map. A list is written with commas; an empty one is the bench file's own value."""

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
    weights: Literal["binary", "ternary"] = Field(default="binary", description="values of the random patterns")
    patterns: int = Field(default=4, ge=1, le=1000, description="random patterns at each condition")
    repeats: int = Field(default=3, ge=1, le=1000, description="senses of each pattern")
    resistances: bool = Field(default=False, description="measure both devices of each cell after programming, too")
    seed: int = Field(default=0, ge=0, description="seed of the patterns")

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


def conditions(parameters: BitErrorParameters, own: OperatingPoints) -> list[Condition]:
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


def random_weights(kind: str, geometry: Geometry, rng: np.random.Generator) -> Weights:
    """Weights drawn evenly from those of a "binary" or a "ternary" network, ``(rows, cols)`` int8."""
    values = {"binary": (-1, 1), "ternary": (-1, 0, 1)}[kind]
    return rng.choice(np.array(values, dtype=np.int8), size=geometry)


def _condition_record(
    index: int, points: OperatingPoints, condition: Condition, measured_c: float, cycles: int
) -> Record:
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


@dataclass(frozen=True)
class _Earlier:
    """What earlier parts of this run have done.

    Attributes:
        sensed: reads ``(repeats, rows, cols)`` by pattern.
        ohms: resistances ``(rows, cols, 2)`` by pattern.
        cycles: cycles that each device has had, ``(rows, cols, 2)``.
    """

    sensed: dict[int, NDArray[np.int8]]
    ohms: dict[int, NDArray[np.float64]]
    cycles: NDArray[np.int64]


def bit_error(chip: Chip, parameters: BitErrorParameters, cells: CellMask) -> Steps:
    """At each condition, program random patterns in one pass, and read them.

    Nothing is repaired: a second pass would hide what is to be counted. Cells whose devices cannot be formed stay in
    the count, as they would in use.
    """
    nothing = _Earlier({}, {}, np.zeros(chip.no_devices().shape, dtype=np.int64))
    return (yield from _bit_error(chip, parameters, cells, nothing))


def resume_bit_error(chip: Chip, parameters: BitErrorParameters, cells: CellMask, earlier: Run) -> Steps:
    """Go on after the patterns that are in the earlier run, and in those that it resumed itself; cycles count on.

    Raises:
        UserMistake: the file of one of them is not there.
    """
    parts = chain(earlier)
    rows = read_parts(parts, "bit_errors", ["pattern", "sensed"])
    sensed = {}
    for pattern in np.unique(rows["pattern"]).tolist():
        for part in range(len(parts)):
            here = (rows["pattern"] == pattern) & (rows[PART] == part)
            if here.sum() == parameters.repeats:
                sensed[pattern] = rows["sensed"][here]
    ohms = {}
    if parameters.resistances:
        measured = read_parts(parts, "resistances", ["row", "col", "device", "pattern", "resistance_ohm"])
        for pattern in list(sensed):
            here = measured["pattern"] == pattern
            ohms[pattern] = np.full(chip.no_devices().shape, np.nan)
            ohms[pattern][tuple(measured[name][here] for name in ("row", "col", "device"))] = measured[
                "resistance_ohm"
            ][here]
            if np.isnan(ohms[pattern][cells]).any():
                del sensed[pattern], ohms[pattern]
    return (yield from _bit_error(chip, parameters, cells, _Earlier(sensed, ohms, _cycles_of(parts, chip))))


def _cycles_of(parts: Sequence[Run], chip: Chip) -> NDArray[np.int64]:
    """Cycles that each device has had: those of the board's loop, and at least those before the last condition."""
    cycles = np.zeros(chip.no_devices().shape, dtype=np.int64)
    for part in parts:
        rows = part.read("operations", ["kind", "count", "devices", "outcome"])
        for row in np.flatnonzero((rows["kind"] == OperationKind.CYCLE) & (rows["outcome"] == Outcome.DONE)):
            cycles += rows["count"][row] * rows["devices"][row].astype(np.int64)
    started = read_parts(parts, "conditions", ["cycles"])["cycles"]
    return np.asarray(np.maximum(cycles, started.max(initial=0)))


def _bit_error(chip: Chip, parameters: BitErrorParameters, cells: CellMask, earlier: _Earlier) -> Steps:
    listed = conditions(parameters, chip.points)
    for condition in listed:
        chip.at(condition.points(chip.points)).check(senses=True)
    yield from prepare(chip, parameters, cells)
    rng = np.random.default_rng(parameters.seed)
    total = len(listed) * parameters.patterns
    here, measured_c = None, np.nan
    summaries: list[dict[str, Any]] = []
    whole = ErrorCounts(cells)
    for index, condition in enumerate(listed):
        patterns = range(index * parameters.patterns, (index + 1) * parameters.patterns)
        view = chip.at(condition.points(chip.points))
        if any(pattern not in earlier.sensed for pattern in patterns):
            yield from _cycle(chip, cell_mask_to_devices(cells), earlier.cycles, condition.cycles)
            if condition.temperature_c is not None and condition.temperature_c != here:
                yield SetTemperature(condition.temperature_c)
                here = condition.temperature_c
            if here is not None:  # hours may lie between two conditions at one temperature
                reading: TemperatureReading = yield ReadTemperature()
                measured_c = reading.air_c if reading.device_c is None else reading.device_c
            yield _condition_record(index, view.points, condition, measured_c, condition.cycles)
        counts = ErrorCounts(cells)
        ohms: list[tuple[NDArray[np.float64], Weights]] = []
        for pattern in patterns:
            # Drawn even where it is not needed again, so that the patterns after it stay the same.
            target = random_weights(parameters.weights, chip.geometry, rng)
            yield Progress(pattern, total, f"condition {index + 1} of {len(listed)}", counts.live())
            if pattern in earlier.sensed:
                counts.add(target, earlier.sensed[pattern])
                ohms += [(earlier.ohms[pattern], target)] if parameters.resistances else []
                continue
            sensed = _program_and_read(view, target, cells, parameters.repeats)
            yield _bit_error_records(index, pattern, target, sensed)
            counts.add(target, sensed)
            if parameters.resistances:
                ohms.append(((yield from _measure(chip, target, cells, pattern)), target))
        whole.merge(counts)
        summaries.append({"condition": index, **asdict(condition), **counts.summary()})
        if ohms:
            summaries[-1]["resistances"] = single_ended(ohms, cells)
    yield CellsDone(cells)
    yield Progress(total, total, f"bit error rate {whole.text()}", whole.live())
    return {
        "cells": int(cells.sum()),
        "bit_error_rate": whole.text(),
        **whole.summary(),
        "conditions": summaries[:SUMMARISED],
        "conditions_not_listed": max(0, len(summaries) - SUMMARISED),
    }


def _cycle(chip: Chip, devices: DeviceMask, made: NDArray[np.int64], target: int) -> Generator[Step, Any, None]:
    """Bring the devices to ``target`` cycles, some at a time; those that a stop left behind catch up first."""
    block = max(CYCLES_AT_ONCE, target // 50)
    while (least := int(made[devices].min())) < target:
        behind = devices & (made == least)
        ahead = made[devices & ~behind]
        count = min(block, target - least, int(ahead.min()) - least if ahead.size else target)
        yield Progress(least, target, f"{least} of {target} cycles")
        chip.cycle(behind, count)
        made[behind] += count


def _program_and_read(chip: Chip, target: Weights, cells: CellMask, repeats: int) -> NDArray[np.int8]:
    """Program in one pass; ``(repeats, rows, cols)`` reads, of which the verify read is the first."""
    programming = chip.program(target, used=cells, attempts=1)
    if repeats == 1:
        return programming.sensed[None]
    return np.concatenate([programming.sensed[None], chip.read(repeats - 1)])


def _bit_error_records(condition: int, pattern: int, target: Weights, sensed: NDArray[np.int8]) -> Record:
    repeats = len(sensed)
    return Record(
        "bit_errors",
        {
            "condition": np.full(repeats, condition),
            "pattern": np.full(repeats, pattern),
            "repeat": np.arange(repeats),
            "target": np.broadcast_to(target, sensed.shape),
            "sensed": sensed,
        },
        many=True,
    )


def _measure(chip: Chip, target: Weights, cells: CellMask, pattern: int) -> Generator[Step, Any, NDArray[np.float64]]:
    states = np.where(lrs_devices(target), np.int8(ProgrammedState.LRS), np.int8(ProgrammedState.HRS))
    return (yield from measure(chip, cell_mask_to_devices(cells), states, f"resistances of pattern {pattern}", pattern))


BIT_ERROR = Procedure(
    "bit-error",
    "count bit errors after one programming pass, against rails, compliance, temperature and cycles",
    BitErrorParameters,
    (CONDITIONS, BIT_ERRORS, RESISTANCES),
    bit_error,
    resume=resume_bit_error,
)
