"""Tables of the run file that several procedures fill, and the rows for them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.procedure import Record, flags
from data.runs import Column, Table
from drivers.chip import DeviceReading, Programming, Verdict
from drivers.errors import ReplyError
from models.cells import Device

CELL = ("row", "col")


class ProgrammedState(IntEnum):
    """What a device was last programmed to, where that is known."""

    LRS = 0
    HRS = 1
    UNKNOWN = 2


PATTERNS = Table(
    "patterns",
    (
        Column("pattern", "int32", description="index of the pattern in this run"),
        Column("target", "int8", dims=CELL, description="weight asked for"),
        Column("sensed", "int8", dims=CELL, description="weight read by the last verify"),
        Column("verdict", "int8", dims=CELL, flags=flags(Verdict), description="what programming came to"),
        Column("attempts", "int16", description="passes over the cells, the first included"),
        Column("raw_errors", "int32", description="cells that read wrong after the first pass"),
    ),
    "weights programmed into the array, with their verdicts; the last row of a pattern is what it came to",
)

SENSES = Table(
    "senses",
    (
        Column("pattern", "int32", description="index of the pattern in the array, -1 where there is none of this run"),
        Column("repeat", "int32", description="index of the sense of this pattern"),
        Column("sensed", "int8", dims=CELL, description="weight read: +1, -1, or 0 for undecided"),
    ),
    "reads of the whole array through the sense amplifiers",
)

RESISTANCES = Table(
    "resistances",
    (
        Column("row", "int16", description="row of the cell"),
        Column("col", "int16", description="column of the cell"),
        Column("device", "int8", flags=flags(Device), description="which device of the cell"),
        Column("state", "int8", flags=flags(ProgrammedState), description="what it was last programmed to"),
        Column("pattern", "int32", description="index of the pattern in the array, -1 where there is none"),
        Column("pulses", "int32", description="weak-RESET pulses since SET"),
        Column("staircase", "int8", description="1 for a point of the weak-RESET staircase"),
        Column("voltage_v", "float64", units="V", description="forced voltage"),
        Column("current_a", "float64", units="A", description="measured current"),
        Column("in_compliance", "int8", description="1 where the current limit was reached"),
        Column("resistance_ohm", "float64", units="ohm", description="voltage over current; infinite where none flows"),
    ),
    "devices measured one by one through direct access",
)


def pattern_record(index: int, programming: Programming) -> Record:
    """The row of the patterns table for one programmed pattern."""
    return Record(
        "patterns",
        {
            "pattern": index,
            "target": programming.target,
            "sensed": programming.sensed,
            "verdict": programming.verdict,
            "attempts": programming.attempts,
            "raw_errors": programming.raw_errors,
        },
    )


def sense_records(pattern: int, sensed: NDArray[np.int8]) -> Record:
    """Rows of the senses table for ``(repeats, rows, cols)`` reads of one pattern."""
    repeats = len(sensed)
    return Record(
        "senses",
        {"pattern": np.full(repeats, pattern), "repeat": np.arange(repeats), "sensed": sensed},
        many=True,
    )


def resistance_records(
    readings: Sequence[DeviceReading],
    state: ArrayLike,
    pattern: ArrayLike = -1,
    pulses: ArrayLike = 0,
    staircase: bool = False,
) -> Record:
    """Rows of the resistances table for some measured devices, in their order.

    Args:
        readings: n of them.
        state: what the devices were last programmed to: one :class:`ProgrammedState` for all, or ``(n,)`` of them.
        pattern, pulses: one for all, or ``(n,)``.

    Raises:
        ReplyError: the meter reports no voltage for one of them, so there is nothing to divide.
    """
    count = len(readings)
    measured = [each.reading for each in readings]
    return Record(
        "resistances",
        {
            "row": np.array([each.row for each in readings], dtype=np.int16),
            "col": np.array([each.col for each in readings], dtype=np.int16),
            "device": np.array([each.device for each in readings], dtype=np.int8),
            "state": np.broadcast_to(np.asarray(state, dtype=np.int8), count),
            "pattern": np.broadcast_to(np.asarray(pattern, dtype=np.int32), count),
            "pulses": np.broadcast_to(np.asarray(pulses, dtype=np.int32), count),
            "staircase": np.full(count, staircase, dtype=np.int8),
            "voltage_v": np.array([reading.voltage_v for reading in measured]),
            "current_a": np.array([reading.current_a for reading in measured]),
            "in_compliance": np.array([reading.in_compliance for reading in measured], dtype=np.int8),
            "resistance_ohm": np.array([resistance_ohm(each) for each in readings]),
        },
        many=True,
    )


def resistance_ohm(measured: DeviceReading) -> float:
    """Voltage over current, in ohm; infinite where no current flows, NaN where nothing was measured.

    Raises:
        ReplyError: the meter reports no voltage, so there is nothing to divide.
    """
    row, col, device, reading = measured
    if reading.voltage_v == 0.0:
        raise ReplyError(
            f"device ({row}, {col}, {device.name}): the meter reports 0 V forced; a resistance needs a voltage"
        )
    # A current of zero or of the wrong sign is noise around an open device: infinite, never a negative resistance.
    ratio = reading.current_a / reading.voltage_v
    if np.isnan(ratio):
        return float(np.nan)
    return 1.0 / ratio if ratio > 0.0 else float(np.inf)


def last_passes(table: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The last row of each pattern of the patterns table, which is what it came to, as the patterns were begun.

    Args:
        table: as :func:`data.run_chain.read_parts` reads it.
    """
    keys = np.stack([table["part"], table["pattern"]], axis=1)
    _, backwards = np.unique(keys[::-1], axis=0, return_index=True)
    rows = len(keys) - 1 - backwards
    return {name: values[rows] for name, values in table.items()}
