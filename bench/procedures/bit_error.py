"""Bit errors after one programming pass, against rails, compliance, temperature and cycling."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.procedure import (
    CellMask,
    CellsDone,
    Procedure,
    Progress,
    Record,
    Step,
    Steps,
)
from bench.procedures.conditions import (
    CONDITIONS,
    OverConditions,
    condition_record,
    conditions,
    cycle_to,
    heat_to,
)
from bench.procedures.error_rates import ErrorCounts, single_ended
from bench.procedures.measuring import measure
from bench.procedures.preparing import OnFormedCells, prepare
from bench.procedures.tables import CELL, RESISTANCES, ProgrammedState
from data.run_chain import PART, chain, read_parts
from data.runs import Column, Run, Table
from drivers.chip import Chip, OperationKind, Outcome
from models.cells import Geometry, Weights, cell_mask_to_devices, lrs_devices

SUMMARISED = 24
"""Conditions that the summary has room for; the run file has them all."""


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


class BitErrorParameters(OverConditions, OnFormedCells):
    """Parameters of the bit-error map. A list is written with commas; an empty one is the bench file's own value."""

    weights: Literal["binary", "ternary"] = Field(default="binary", description="values of the random patterns")
    patterns: int = Field(default=4, ge=1, le=1000, description="random patterns at each condition")
    repeats: int = Field(default=3, ge=1, le=1000, description="senses of each pattern")
    resistances: bool = Field(default=False, description="measure both devices of each cell after programming, too")
    seed: int = Field(default=0, ge=0, description="seed of the patterns")


def random_weights(kind: str, geometry: Geometry, rng: np.random.Generator) -> Weights:
    """Weights drawn evenly from those of a "binary" or a "ternary" network, ``(rows, cols)`` int8."""
    values = {"binary": (-1, 1), "ternary": (-1, 0, 1)}[kind]
    return rng.choice(np.array(values, dtype=np.int8), size=geometry)


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
    here: float | None = None
    summaries: list[dict[str, Any]] = []
    whole = ErrorCounts(cells)
    for index, condition in enumerate(listed):
        patterns = range(index * parameters.patterns, (index + 1) * parameters.patterns)
        view = chip.at(condition.points(chip.points))
        if any(pattern not in earlier.sensed for pattern in patterns):
            yield from cycle_to(chip, cell_mask_to_devices(cells), earlier.cycles, condition.cycles)
            here, measured_c = yield from heat_to(condition.temperature_c, here)
            yield condition_record(index, view.points, condition, measured_c, condition.cycles)
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
