"""Current-voltage sweeps of single devices through direct access."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.procedure import CellMask, CellsDone, Parameters, Procedure, Progress, Record, Steps, flags
from data.runs import Column, Table
from drivers.chip import Chip
from drivers.roles import Measurement
from models.cells import Device
from models.exceptions import UserMistake

IV_POINTS = Table(
    "iv",
    (
        Column("row", "int16", description="row of the cell"),
        Column("col", "int16", description="column of the cell"),
        Column("device", "int8", flags=flags(Device), description="which device of the cell"),
        Column("cycle", "int32", description="index of the loop on this device"),
        Column("point", "int32", description="index of the point in its loop"),
        Column("voltage_v", "float64", units="V", description="forced, set point; positive is the SET direction"),
        Column("voltage_measured_v", "float64", units="V", description="voltage at the pads, measured"),
        Column("current_a", "float64", units="A", description="measured current"),
        Column("in_compliance", "int8", description="1 where the current limit was reached"),
    ),
    "points of the current-voltage loops, in order",
)

CHOSEN = {"both": (Device.BL, Device.BLB), "BL": (Device.BL,), "BLB": (Device.BLB,)}


class IvParameters(Parameters):
    """Parameters of current-voltage sweeps. The defaults only read: they disturb no device."""

    positive_v: float = Field(default=0.4, ge=0.0, le=20.0, description="end of the sweep in the SET direction, V")
    negative_v: float = Field(default=-0.4, ge=-20.0, le=0.0, description="end of the sweep in the RESET direction, V")
    points: int = Field(default=11, ge=3, le=500, description="points from 0 V to an end; as many lead back")
    spacing: Literal["linear", "log"] = Field(default="linear", description="how the points lie between 0 V and an end")
    smallest_v: float = Field(
        default=0.01, gt=0.0, le=1.0, description="log: first voltage after 0 V, V, of either direction"
    )
    cycles: int = Field(default=1, ge=1, le=10000, description="loops on each device")
    compliance_a: float = Field(default=2e-4, gt=0.0, le=1.0, description="current limit at positive voltages, A")
    negative_compliance_a: float = Field(
        default=1e-3, gt=0.0, le=1.0, description="current limit at negative voltages, A: a RESET needs more than a SET"
    )
    devices: Literal["both", "BL", "BLB"] = Field(default="both", description="devices of each cell")


def branch(end_v: float, parameters: IvParameters) -> NDArray[np.float64]:
    """Set points in V from 0 V to ``end_v`` and back to 0 V, ``(2 points - 1,)``; none where the end is 0 V.

    Raises:
        UserMistake: ``log``, and the end is no further than the first voltage.
    """
    if end_v == 0.0:
        return np.zeros(0)
    if parameters.spacing == "linear":
        there = np.linspace(0.0, end_v, parameters.points)
    else:
        if abs(end_v) <= parameters.smallest_v:
            raise UserMistake(
                f"iv: the sweep ends at {end_v:g} V, within smallest_v = {parameters.smallest_v:g} V; lower smallest_v"
            )
        steps = np.geomspace(parameters.smallest_v, abs(end_v), parameters.points - 1)
        there = np.concatenate([[0.0], np.sign(end_v) * steps])
    return np.round(np.concatenate([there, there[-2::-1]]), 9)


def iv(chip: Chip, parameters: IvParameters, cells: CellMask) -> Steps:
    """Sweep each selected device: 0 V, up to the positive end, back, down to the negative end, back; again and again.

    The limits of the bench hold for each point, and are checked for a whole sweep before it begins.

    Raises:
        UserMistake: both ends are 0 V, or the points cannot lie so.
        LimitError: an end or a compliance is outside the envelope.
    """
    halves = [
        (branch(end_v, parameters), compliance_a)
        for end_v, compliance_a in (
            (parameters.positive_v, parameters.compliance_a),
            (parameters.negative_v, parameters.negative_compliance_a),
        )
        if end_v != 0.0
    ]
    if not halves:
        raise UserMistake("iv: positive_v and negative_v are both 0; set one of them to sweep to")
    forced = np.concatenate([volts for volts, _ in halves])
    chosen = np.argwhere(cells)
    per_cell = [(device, cycle) for device in CHOSEN[parameters.devices] for cycle in range(parameters.cycles)]
    total = len(chosen) * len(per_cell)
    largest_a, limited = 0.0, 0
    for index, (row, col) in enumerate(chosen.tolist()):
        for done, (device, cycle) in enumerate(per_cell, start=index * len(per_cell)):
            yield Progress(
                done, total, f"device ({row}, {col}, {device.name}), loop {cycle + 1} of {parameters.cycles}"
            )
            readings = [
                reading
                for volts, compliance_a in halves
                for reading in chip.sweep(row, col, device, volts.tolist(), compliance_a)
            ]
            yield _records(row, col, device, cycle, forced, readings)
            largest_a = max(largest_a, *(abs(reading.current_a) for reading in readings))
            limited += sum(reading.in_compliance for reading in readings)
        mask = np.zeros_like(cells)
        mask[row, col] = True
        yield CellsDone(mask)
    yield Progress(total, total, f"{total} loops on {len(chosen) * len(CHOSEN[parameters.devices])} devices")
    return {
        "devices": len(chosen) * len(CHOSEN[parameters.devices]),
        "loops": total,
        "points": total * len(forced),
        "points_in_compliance": limited,
        "largest_current_a": largest_a,
    }


def _records(
    row: int, col: int, device: Device, cycle: int, forced: NDArray[np.float64], readings: list[Measurement]
) -> Record:
    """The rows of one loop."""
    count = len(readings)
    values = {
        "row": np.full(count, row),
        "col": np.full(count, col),
        "device": np.full(count, int(device)),
        "cycle": np.full(count, cycle),
        "point": np.arange(count),
        "voltage_v": forced,
        "voltage_measured_v": np.array([reading.voltage_v for reading in readings]),
        "current_a": np.array([reading.current_a for reading in readings]),
        "in_compliance": np.array([reading.in_compliance for reading in readings], dtype=np.int8),
    }
    return Record("iv", values, many=True)


IV = Procedure(
    "iv",
    "current-voltage loops of single devices through direct access",
    IvParameters,
    (IV_POINTS,),
    iv,
)
