"""A pattern of weights that is programmed once and then looked at again and again, for retention and disturbs."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from bench.procedure import CellMask, Step
from bench.procedures.measuring import MEASURED_COLUMNS, Ohms, measure_into, median, plain
from bench.procedures.preparing import OnFormedCells, prepare
from bench.procedures.program import pattern_weights
from bench.procedures.tables import PATTERNS, RESISTANCES, SENSES, ProgrammedState, pattern_record, sense_records
from data.runs import Column
from drivers.chip import Chip
from models.cells import DeviceMask, Weights, cell_mask_to_devices, lrs_devices

LOOK_COLUMNS = (
    *MEASURED_COLUMNS,
    RESISTANCES.column("state"),
    Column("point", "int32", description="index of the look; 0 is the first after programming"),
    Column("target", "int8", description="weight programmed into its cell"),
    Column("sensed", "int8", description="weight its cell read last: +1, -1, or 0 for undecided"),
)
"""Columns of a table with one row for each device at each look."""

LOOK_TABLES = (RESISTANCES, PATTERNS, SENSES)
"""Tables that are filled on the way; ``senses.pattern`` is the index of the look."""

CURVES = ("lrs_median_ohm", "hrs_median_ohm", "bit_error_rate")
"""Entries of :attr:`Look.curves`."""


class PatternParameters(OnFormedCells):
    """Parameters of an experiment on a pattern: which, how it is programmed, and how often a look senses it."""

    pattern: Literal["random", "checkerboard", "plus", "minus", "zero"] = Field(
        default="random", description="weights to program: random or checkerboard of +1 and -1, or one value"
    )
    seed: int = Field(default=0, ge=0, description="seed of the random pattern")
    attempts: int = Field(default=3, ge=1, le=100, description="programming passes over a cell at most")
    senses: int = Field(default=5, ge=1, le=10000, description="senses of the whole array at each look")


@dataclass(frozen=True)
class StoredPattern:
    """What was programmed: weights ``(rows, cols)``, the selected devices and their states ``(rows, cols, 2)``."""

    target: Weights
    cells: CellMask
    devices: DeviceMask
    state: NDArray[np.int64]


@dataclass(frozen=True)
class Look:
    """What a look found: resistances in ohm ``(rows, cols, 2)``, the last sense, and figures of the whole by names."""

    ohms: Ohms
    sensed: Weights
    curves: dict[str, float | None]


def store_pattern(chip: Chip, parameters: PatternParameters, cells: CellMask) -> Generator[Step, Any, StoredPattern]:
    """Form what is virgin, then program the pattern with verify."""
    yield from prepare(chip, parameters, cells)
    target = pattern_weights(parameters.pattern, chip.geometry, np.random.default_rng(parameters.seed))
    yield pattern_record(0, chip.program(target, used=cells, attempts=parameters.attempts))
    state = np.where(lrs_devices(target), ProgrammedState.LRS, ProgrammedState.HRS)
    return StoredPattern(target, cells, cell_mask_to_devices(cells), state)


def look(
    table: str, chip: Chip, stored: StoredPattern, senses: int, point: int, **columns: ArrayLike
) -> Generator[Step, Any, Look]:
    """Sense the array, then measure each device, at the operating points SENSE and DIRECT.

    Args:
        table: has :data:`LOOK_COLUMNS` and the further ``columns``.
        point: index of the look.
    """
    sensed = chip.read(senses)
    yield sense_records(point, sensed)
    ohms = yield from measure_into(table, chip, stored.devices, **look_columns(stored, sensed[-1], point), **columns)
    low = stored.state == ProgrammedState.LRS
    figures = (
        plain(median(ohms[low])),
        plain(median(ohms[~low])),
        plain(float((sensed != stored.target)[:, stored.cells].mean())),
    )
    return Look(ohms, sensed[-1], dict(zip(CURVES, figures, strict=True)))


def look_columns(stored: StoredPattern, sensed: Weights, point: int) -> dict[str, ArrayLike]:
    """The columns of a look that are not measured through direct access."""
    return {"state": stored.state, "point": point, "target": stored.target, "sensed": sensed}
