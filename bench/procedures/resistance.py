"""A resistance map: both devices of the selected cells, one by one through direct access."""

from __future__ import annotations

import numpy as np

from bench.procedure import CellMask, Parameters, Procedure, Progress, Steps
from bench.procedures.tables import RESISTANCES, ProgrammedState, resistance_record
from drivers.chip import Chip
from models.cells import Device


class ResistanceParameters(Parameters):
    """Parameters of the resistance map: none; the operating point DIRECT of the bench file says how to measure."""


def resistance(chip: Chip, parameters: ResistanceParameters, cells: CellMask) -> Steps:
    """Measure both devices of each selected cell."""
    chosen = np.argwhere(cells)
    values: list[float] = []
    for done, (row, col) in enumerate(chosen):
        yield Progress(done, len(chosen), f"cell ({row}, {col})")
        for device in Device:
            reading = chip.resistance(int(row), int(col), device)
            record = resistance_record(int(row), int(col), device, reading, ProgrammedState.UNKNOWN)
            values.append(float(record.values["resistance_ohm"]))
            yield record
    yield Progress(len(chosen), len(chosen), f"{len(values)} devices measured")
    return {"devices": len(values), "median_ohm": float(np.median(values))}


RESISTANCE = Procedure(
    "resistance",
    "measure both devices of each cell through direct access",
    ResistanceParameters,
    (RESISTANCES,),
    resistance,
)
