"""Variability: program the same devices again and again, and read them after each SET and each RESET.

How the readings of one device differ is the spread from cycle to cycle; how the devices differ, that from device to
device. The resistance fit takes them apart.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.procedure import CellMask, CellsDone, Procedure, Progress, Step, Steps
from bench.procedures.measuring import measure, median, plain
from bench.procedures.preparing import OnFormedCells, prepare
from bench.procedures.tables import RESISTANCES, ProgrammedState
from calibration.resistance import outlying
from drivers.chip import Chip
from models.cells import cell_mask_to_devices
from models.exceptions import UserMistake

GROUP = 256
"""Cells that go through all their cycles together; a resumed run begins with the first group that is not done."""


class VariabilityParameters(OnFormedCells):
    """Parameters of variability."""

    cycles: int = Field(default=10, ge=1, le=100_000, description="times that each device is SET, read, RESET and read")
    readings: int = Field(
        default=2, ge=1, le=1000, description="readings in each state: their spread is noise of device and meter"
    )


def variability(chip: Chip, parameters: VariabilityParameters, cells: CellMask) -> Steps:
    """SET, read, RESET, read, group by group; the index of the cycle is in the column ``pattern``.

    Raises:
        UserMistake: the bench has no source-measure unit.
    """
    if not chip.measures:
        raise UserMistake("variability reads resistances, and this bench has no source-measure unit")
    yield from prepare(chip, parameters, cells)
    chosen = np.argwhere(cells)
    logs: dict[ProgrammedState, list[NDArray[np.float64]]] = {ProgrammedState.LRS: [], ProgrammedState.HRS: []}
    for start in range(0, len(chosen), GROUP):
        group = np.zeros_like(cells)
        group[tuple(chosen[start : start + GROUP].T)] = True
        part = f"cells {start} to {start + int(group.sum()) - 1} of {len(chosen)}"
        found = yield from _cycles(chip, parameters, group, part)
        for state, values in found.items():
            logs[state].append(values)
        yield CellsDone(group)
    yield Progress(1, 1, f"{parameters.cycles} cycles of {2 * len(chosen)} devices")
    summary: dict[str, Any] = {"devices": 2 * len(chosen), "cycles": parameters.cycles}
    for state, several in logs.items():
        summary |= _summary(state.name.lower(), np.concatenate(several, axis=1))
    return summary


def _cycles(
    chip: Chip, parameters: VariabilityParameters, group: CellMask, part: str
) -> Generator[Step, Any, dict[ProgrammedState, NDArray[np.float64]]]:
    """All cycles of one group; by state ln R ``(cycles, devices)``, of the mean reading, infinite without current."""
    devices = cell_mask_to_devices(group)
    found: dict[ProgrammedState, list[NDArray[np.float64]]] = {ProgrammedState.LRS: [], ProgrammedState.HRS: []}
    for cycle in range(parameters.cycles):
        for state, values in found.items():
            if state is ProgrammedState.LRS:
                chip.set(devices)
            else:
                chip.reset(devices)
            text = f"{part}: {state.name} of cycle {cycle + 1} of {parameters.cycles}"
            total = np.zeros(int(devices.sum()))
            for _ in range(parameters.readings):
                ohms = yield from measure(chip, devices, state, text, pattern=cycle)
                total += np.log(ohms[devices])
            values.append(total / parameters.readings)
    return {state: np.stack(values) for state, values in found.items()}


def _summary(state: str, logs: NDArray[np.float64]) -> dict[str, float | None]:
    """Median, and spread between the cycles of the typical device.

    Devices that ever read open, or lie out of the population of the others, are left out of the spread and counted.
    """
    whole = logs[:, np.isfinite(logs).all(axis=0)]
    whole = whole[:, ~outlying(whole.mean(axis=0))]
    spread = median(whole.std(axis=0, ddof=1)) if len(logs) > 1 and whole.size else np.nan
    return {
        f"{state}_left_out_of_sd": logs.shape[1] - whole.shape[1],
        f"{state}_median_ohm": plain(float(np.exp(median(logs.ravel())))),
        f"{state}_cycle_sd": plain(spread),
    }


VARIABILITY = Procedure(
    "variability",
    "SET and RESET the same devices again and again, and read them each time",
    VariabilityParameters,
    (RESISTANCES,),
    variability,
)
