"""Single pulses by hand: SET, RESET or weak RESET on chosen devices, and what the cells read afterwards."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from bench.procedure import CellMask, Parameters, Procedure, Progress, Steps
from bench.procedures.tables import RESISTANCES, SENSES, ProgrammedState, resistance_records, sense_records
from drivers.chip import Chip
from models.cells import Device
from models.exceptions import UserMistake

DEVICES = {"both": (Device.BL, Device.BLB), "bl": (Device.BL,), "blb": (Device.BLB,)}
NAMES = {"set": "SET", "reset": "RESET", "weak_reset": "weak RESET"}
STATES = {"set": ProgrammedState.LRS, "reset": ProgrammedState.HRS, "weak_reset": ProgrammedState.UNKNOWN}


class PulseParameters(Parameters):
    """Parameters of pulses by hand."""

    kind: Literal["set", "reset", "weak_reset"] = Field(
        default="weak_reset", description="what the pulses are; each at its operating point of the bench file"
    )
    devices: Literal["both", "bl", "blb"] = Field(default="both", description="devices of each selected cell")
    count: int = Field(default=1, ge=1, le=100_000, description="pulses on each device")
    measure: bool = Field(default=False, description="measure the resistances of the selected cells afterwards")


def pulse(chip: Chip, parameters: PulseParameters, cells: CellMask) -> Steps:
    """Apply the pulses, sense the array once, and measure where that was asked for."""
    if parameters.measure and not chip.measures:
        raise UserMistake("measure: this bench has no source-measure unit; leave it out")
    mask = np.zeros((*cells.shape, len(Device)), dtype=bool)
    for device in DEVICES[parameters.devices]:
        mask[..., device] = cells
    apply = {"set": chip.set, "reset": chip.reset, "weak_reset": chip.weak_reset}[parameters.kind]
    told = f"{parameters.count} {NAMES[parameters.kind]} on {int(mask.sum())} devices"
    yield Progress(0, 2, told)
    apply(mask, parameters.count)
    sensed = chip.read(1)
    yield sense_records(-1, sensed)
    yield Progress(1, 2, "sensed")
    if parameters.measure:
        readings = list(chip.resistances(np.repeat(cells[..., np.newaxis], len(Device), axis=-1)))
        pulsed = [bool(mask[each.row, each.col, each.device]) for each in readings]
        yield resistance_records(readings, np.where(pulsed, STATES[parameters.kind], ProgrammedState.UNKNOWN))
    yield Progress(2, 2, told)
    chosen = sensed[0][cells]
    return {
        "devices": int(mask.sum()),
        "pulses": int(mask.sum()) * parameters.count,
        "plus": int((chosen == 1).sum()),
        "minus": int((chosen == -1).sum()),
        "undecided": int((chosen == 0).sum()),
    }


PULSE = Procedure("pulse", "SET, RESET or weak RESET pulses by hand", PulseParameters, (SENSES, RESISTANCES), pulse)
