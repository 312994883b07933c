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
    finite = [value for value in values if np.isfinite(value)]
    lowest, median, highest = np.percentile(finite, (0, 50, 100)) if finite else (None, None, None)
    return {
        "devices": len(values),
        "open": len(values) - len(finite),
        "lowest_ohm": _rounded(lowest),
        "median_ohm": _rounded(median),
        "highest_ohm": _rounded(highest),
    }


def _rounded(ohm: float | None) -> float | None:
    """Four digits: more than the meter's noise leaves in a summary."""
    return None if ohm is None else float(f"{ohm:.4g}")


RESISTANCE = Procedure(
    "resistance",
    "measure both devices of each cell through direct access",
    ResistanceParameters,
    (RESISTANCES,),
    resistance,
)
