"""Endurance: cycle devices many times, and look at checkpoints what is left of the window between LRS and HRS.

Between checkpoints the devices are cycled in the board's own loop where there is one. At a checkpoint both weights are
programmed once, without retries, so that each device is measured in both states and each cell is sensed as +1 and as
-1: one more cycle per checkpoint, at the operating points SET and RESET.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.procedure import CellMask, CellsDone, Procedure, Progress, Record, Step, Steps, flags
from bench.procedures.cycle_count import Counts, cycles_made
from bench.procedures.measuring import Ohms, measure_into, median, plain
from bench.procedures.preparing import OnFormedCells, prepare
from bench.procedures.spacing import log_spaced
from bench.procedures.tables import PATTERNS, RESISTANCES, ProgrammedState, pattern_record
from data.run_chain import chain, read_parts
from data.runs import Column, Run, Table
from drivers.chip import Chip
from models.cells import DeviceMask, cell_mask_to_devices, lrs_devices

CURVES = ("cycles", "lrs_median_ohm", "hrs_median_ohm", "ber_1t1r", "ber_2t2r", "stuck")
"""Lists of the summary, one entry per checkpoint of this run."""

ROWS = 2000
"""Rows of the table at most in one record."""

BLOCK = 1000
"""Cycles between two words of progress are at least so many, and at least one part in 50 of the way."""


class Stuck(IntEnum):
    """Whether a device still switches; the codes are those of the run file."""

    SWITCHES = 0
    LOW = 1
    HIGH = 2


CHECKPOINTS = Table(
    "endurance",
    (
        Column("checkpoint", "int32", description="index of the checkpoint, in the order of the cycles"),
        Column("cycles", "int64", description="cycles made before it, those of earlier checkpoints not counted"),
        RESISTANCES.column("row"),
        RESISTANCES.column("col"),
        RESISTANCES.column("device"),
        Column("lrs_ohm", "float64", units="ohm", description="resistance after the SET of this checkpoint"),
        Column("hrs_ohm", "float64", units="ohm", description="resistance after the RESET of this checkpoint"),
        Column("threshold_ohm", "float64", units="ohm", description="derived: geometric mean of the first medians"),
        Column(
            "errors_1t1r", "int8", description="derived: states of 2 on the wrong side of the threshold, -1 unknown"
        ),
        Column("errors_2t2r", "int8", description="weights of 2 that its cell did not sense right (of both devices)"),
        Column("stuck", "int8", flags=flags(Stuck), description="derived: both states alike, below or above threshold"),
    ),
    "each device at each checkpoint; the readings are in resistances, the sensed weights in patterns (2 a checkpoint)",
)


class EnduranceParameters(OnFormedCells):
    """Parameters of endurance."""

    cycles: int = Field(
        default=10_000, ge=1, le=10**12, description="SET / RESET cycles of each device in all; they wear it"
    )
    points_per_decade: int = Field(default=2, ge=1, le=50, description="checkpoints per decade of cycles")
    stuck_tolerance: float = Field(
        default=0.05,
        gt=0.0,
        lt=1.0,
        description="a device whose two states differ by less (in ln R), on one side of the threshold, counts as stuck",
    )

    @property
    def checkpoints(self) -> list[int]:
        """Cycles at which is looked: 0, then log-spaced."""
        decades = np.log10(self.cycles)
        return [0, *log_spaced(1, self.cycles, 1 + round(decades * self.points_per_decade))]


@dataclass
class _History:
    """What earlier runs did: cycles ``(rows, cols, 2)``, whole checkpoints, and the threshold of the first one."""

    made: Counts
    checkpoints: set[int] = field(default_factory=set)
    threshold_ohm: float = np.nan


class _States(NamedTuple):
    """Each device in both states, and the errors of its cell; ``(rows, cols, 2)``."""

    lrs_ohm: Ohms
    hrs_ohm: Ohms
    errors_2t2r: NDArray[np.int8]


def endurance(chip: Chip, parameters: EnduranceParameters, cells: CellMask) -> Steps:
    """Checkpoint, cycles, checkpoint, and so on, from a device's first cycle."""
    return (yield from _endurance(chip, parameters, cells, _History(np.zeros(chip.no_devices().shape, np.int64))))


def resume_endurance(chip: Chip, parameters: EnduranceParameters, cells: CellMask, earlier: Run) -> Steps:
    """Go on after the cycles that an earlier run acknowledged, and those that it resumed itself.

    Raises:
        UserMistake: the file of one of them is not there.
    """
    parts = chain(earlier)
    history = _History(sum((cycles_made(part) for part in parts), start=np.zeros(chip.no_devices().shape, np.int64)))
    rows = read_parts(parts, "endurance", ["checkpoint", "threshold_ohm"])
    index, count = np.unique(rows["checkpoint"], return_counts=True)
    history.checkpoints.update(index[count >= 2 * int(cells.sum())].tolist())
    if len(rows["threshold_ohm"]):
        history.threshold_ohm = float(rows["threshold_ohm"][0])
    return (yield from _endurance(chip, parameters, cells, history))


def _endurance(chip: Chip, parameters: EnduranceParameters, cells: CellMask, history: _History) -> Steps:
    devices = cell_mask_to_devices(cells)
    curves: dict[str, list[Any]] = {name: [] for name in CURVES}
    if not (history.made.any() or history.checkpoints):
        yield from prepare(chip, parameters, cells)
    for index, cycles in enumerate(parameters.checkpoints):
        yield from _cycle(chip, devices, history.made, cycles, parameters.cycles)
        if index in history.checkpoints:
            continue
        states = yield from _checkpoint(chip, index, cells)
        if np.isnan(history.threshold_ohm):
            history.threshold_ohm = float(np.sqrt(median(states.lrs_ohm) * median(states.hrs_ohm)))
        judged = _judge(states, history.threshold_ohm, parameters.stuck_tolerance)
        yield from _records(devices, index, cycles, {**judged, "threshold_ohm": history.threshold_ohm})
        for name, value in zip(CURVES, (cycles, *_totals(judged, devices)), strict=True):
            curves[name].append(value)
    yield CellsDone(cells)
    yield Progress(parameters.cycles, parameters.cycles, f"{parameters.cycles} cycles")
    return {"cells": int(cells.sum()), "threshold_ohm": plain(history.threshold_ohm), **curves}


def _totals(judged: dict[str, NDArray[Any]], devices: DeviceMask) -> tuple[float | None, ...]:
    """What a checkpoint comes to, in the order of :data:`CURVES`."""
    of = {name: values[devices] for name, values in judged.items()}
    known = (of["errors_1t1r"] >= 0).all()
    return (
        plain(median(of["lrs_ohm"])),
        plain(median(of["hrs_ohm"])),
        plain(of["errors_1t1r"].mean() / 2) if known else None,
        plain(of["errors_2t2r"].mean() / 2),
        int((of["stuck"] != Stuck.SWITCHES).sum()),
    )


def _cycle(chip: Chip, devices: DeviceMask, made: Counts, target: int, total: int) -> Generator[Step, Any, None]:
    """Bring the devices to ``target`` cycles; those that an earlier run left behind catch up first."""
    block = max(BLOCK, target // 50)
    while (least := int(made[devices].min())) < target:
        behind = devices & (made == least)
        ahead = made[devices & ~behind]
        count = min(block, (int(ahead.min()) if ahead.size else target) - least, target - least)
        yield Progress(least, total, f"{least} of {total} cycles")
        chip.cycle(behind, count)
        made[behind] += count


def _checkpoint(chip: Chip, index: int, cells: CellMask) -> Generator[Step, Any, _States]:
    """Program +1 and -1 once each, and measure and sense both."""
    devices = cell_mask_to_devices(cells)
    lrs, hrs = np.full(devices.shape, np.nan), np.full(devices.shape, np.nan)
    errors = np.zeros(cells.shape, dtype=np.int8)
    for second, weight in enumerate((1, -1)):
        target = np.full(cells.shape, weight, dtype=np.int8)
        programming = chip.program(target, used=cells, attempts=1)
        pattern = 2 * index + second
        yield pattern_record(pattern, programming)
        low = devices & lrs_devices(target)
        state = np.where(low, ProgrammedState.LRS, ProgrammedState.HRS)
        ohms = yield from measure_into(
            "resistances", chip, devices, state=state, pattern=pattern, pulses=0, staircase=0
        )
        lrs[low], hrs[devices & ~low] = ohms[low], ohms[devices & ~low]
        errors += cells & (programming.sensed != target)
    return _States(lrs, hrs, np.repeat(errors[:, :, None], 2, axis=2))


def _judge(states: _States, threshold_ohm: float, tolerance: float) -> dict[str, NDArray[Any]]:
    """The columns of the endurance table that each device has of its own, ``(rows, cols, 2)``."""
    lrs, hrs = states.lrs_ohm, states.hrs_ohm
    unknown = np.isnan(lrs) | np.isnan(hrs) | ~np.isfinite(threshold_ohm)
    errors = (lrs > threshold_ohm).astype(np.int8) + (hrs < threshold_ohm)
    both_open = np.isinf(lrs) & np.isinf(hrs)
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = both_open | (np.abs(np.log(hrs / lrs)) < tolerance)
    stuck = np.full(lrs.shape, Stuck.SWITCHES, dtype=np.int8)
    stuck[alike & (lrs < threshold_ohm) & (hrs < threshold_ohm)] = Stuck.LOW
    stuck[alike & (lrs > threshold_ohm) & (hrs > threshold_ohm)] = Stuck.HIGH
    return {
        "lrs_ohm": lrs,
        "hrs_ohm": hrs,
        "errors_1t1r": np.where(unknown, np.int8(-1), errors),
        "errors_2t2r": states.errors_2t2r,
        "stuck": stuck,
    }


def _records(devices: DeviceMask, index: int, cycles: int, columns: dict[str, Any]) -> Iterator[Record]:
    """The rows of one checkpoint, some at a time."""
    chosen = np.argwhere(devices)
    for start in range(0, len(chosen), ROWS):
        row, col, device = where = tuple(chosen[start : start + ROWS].T)
        count = len(row)
        yield Record(
            "endurance",
            {
                "checkpoint": np.full(count, index),
                "cycles": np.full(count, cycles),
                "row": row,
                "col": col,
                "device": device,
                **{name: np.broadcast_to(values, devices.shape)[where] for name, values in columns.items()},
            },
            many=True,
        )


ENDURANCE = Procedure(
    "endurance",
    "cycle devices and watch the window between LRS and HRS close, bit errors rise and devices stick",
    EnduranceParameters,
    (RESISTANCES, PATTERNS, CHECKPOINTS),
    endurance,
    resume=resume_endurance,
)
