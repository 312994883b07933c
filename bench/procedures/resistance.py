"""A resistance map: both devices of the selected cells, one by one through direct access."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.procedure import CellMask, CellsDone, Parameters, Procedure, Progress, Steps
from bench.procedures.measuring import BATCH
from bench.procedures.tables import RESISTANCES, ProgrammedState, resistance_ohm, resistance_records
from calibration.resistance import outlying
from drivers.chip import Chip
from models.cells import Device, cell_mask_to_devices


class ResistanceParameters(Parameters):
    """Parameters of the resistance map; the operating point DIRECT of the bench file says how to measure."""

    repeats: int = Field(
        default=1, ge=1, le=10000, description="readings of each device: their spread is noise of device and meter"
    )


def resistance(chip: Chip, parameters: ResistanceParameters, cells: CellMask) -> Steps:
    """Measure both devices of each selected cell, ``repeats`` times.

    Some hundred devices are measured one after the other, then the same ones again: the k-th row of a device in the
    table is its k-th reading. In the summary a device counts with the median of its readings.
    """
    chosen = np.argwhere(cells)
    devices = len(chosen) * len(Device)
    total = devices * parameters.repeats
    values = np.zeros((devices, parameters.repeats))
    some_cells = BATCH // len(Device)
    done = 0
    for start in range(0, len(chosen), some_cells):
        part = chosen[start : start + some_cells]
        mask = np.zeros_like(cells)
        mask[tuple(part.T)] = True
        first = start * len(Device)
        for repeat in range(parameters.repeats):
            yield Progress(done, total, f"reading {repeat + 1} of {parameters.repeats} from cell {tuple(part[0])}")
            readings = list(chip.resistances(cell_mask_to_devices(mask)))
            values[first : first + len(readings), repeat] = [resistance_ohm(reading) for reading in readings]
            yield resistance_records(readings, ProgrammedState.UNKNOWN)
            done += len(readings)
        yield CellsDone(mask)
    yield Progress(total, total, f"{devices} devices measured")
    typical = np.median(values, axis=1)
    finite = np.isfinite(typical)
    lowest, median, highest = np.percentile(typical[finite], (0, 50, 100)) if finite.any() else (None, None, None)
    return {
        "devices": devices,
        "open": int((~finite).sum()),
        "lowest_ohm": _rounded(lowest),
        "median_ohm": _rounded(median),
        "highest_ohm": _rounded(highest),
        **_spread(values),
    }


def _spread(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Noise from reading to reading and spread from device to device, as standard deviations of ln R.

    Args:
        values: in ohm, ``(devices, repeats)``. Devices that read open, or lie out of the population of the others, are
            left out and counted: a single one would be most of the spread.
    """
    logs = np.log(values[np.isfinite(values).all(axis=1)])
    logs = logs[~outlying(logs.mean(axis=1))]
    left_out = len(values) - len(logs)
    if not len(logs):
        return {"reading_sd": None, "device_sd": None, "left_out_of_sd": left_out}
    repeats = logs.shape[1]
    noise = float(np.sqrt(np.mean(np.var(logs, axis=1, ddof=1)))) if repeats > 1 else None
    spread = float(np.std(logs.mean(axis=1)))
    return {"reading_sd": _rounded(noise), "device_sd": _rounded(spread), "left_out_of_sd": left_out}


def _rounded(value: float | None) -> float | None:
    """Four digits: more than the meter's noise leaves in a summary."""
    return None if value is None else float(f"{value:.4g}")


RESISTANCE = Procedure(
    "resistance",
    "measure both devices of each cell through direct access",
    ResistanceParameters,
    (RESISTANCES,),
    resistance,
)
