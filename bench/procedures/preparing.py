"""What procedures do before the experiment proper: measure many devices, and form those that are still virgin."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from bench.procedure import CellMask, Parameters, Progress, Step
from bench.procedures.tables import ProgrammedState, resistance_ohm, resistance_records
from drivers.chip import Chip, DeviceReading
from models.cells import DeviceMask, cell_mask_to_devices

CHUNK = 256
"""So many readings make one record: some tenths of a second of measuring."""

FORM_ROUNDS = 3
"""Forming pulses at most, one at a time, for a device that stays virgin."""

Ohms = NDArray[np.float64]


class OnFormedCells(Parameters):
    """Parameters of an experiment that needs formed devices."""

    form_virgin: bool = Field(
        default=True,
        description="form devices that measure above virgin_ohm first, at the operating point FORM; "
        "nothing is formed where the bench has no source-measure unit",
    )
    virgin_ohm: float = Field(
        default=1e6, gt=0.0, allow_inf_nan=False, description="resistance above which a device is taken as virgin, ohm"
    )


def measure(
    chip: Chip,
    devices: DeviceMask,
    state: ProgrammedState | NDArray[np.integer[Any]],
    text: str,
    pattern: int = -1,
    pulses: ArrayLike = 0,
    staircase: bool = False,
) -> Generator[Step, Any, Ohms]:
    """Measure the selected devices and record them in the table ``resistances``, some hundreds at a time.

    Args:
        devices: ``(rows, cols, 2)`` bool.
        state: what the devices were last programmed to, for all or ``(rows, cols, 2)``.
        text: what the progress says.
        pulses: weak-RESET pulses since SET, for all or ``(rows, cols, 2)``.

    Returns:
        Resistances in ohm, ``(rows, cols, 2)``: infinite where no current flows, NaN where nothing was measured.

    Raises:
        BenchFailure: the bench has no source-measure unit.
    """
    ohms = np.full(devices.shape, np.nan)
    total = int(devices.sum())
    states, counts = np.broadcast_to(state, devices.shape), np.broadcast_to(pulses, devices.shape)
    yield Progress(0, total, text)
    chunk: list[DeviceReading] = []
    for done, reading in enumerate(chip.resistances(devices), start=1):
        chunk.append(reading)
        if len(chunk) == CHUNK or done == total:
            where = tuple(np.array([each[:3] for each in chunk]).T)
            ohms[where] = [resistance_ohm(each) for each in chunk]
            yield resistance_records(chunk, states[where], pattern, counts[where], staircase)
            yield Progress(done, total, text)
            chunk = []
    return ohms


def prepare(chip: Chip, parameters: OnFormedCells, cells: CellMask) -> Generator[Step, Any, CellMask]:
    """Measure both devices of the selected cells and form those that are still virgin; to be yielded from.

    Everything measured goes into the table ``resistances``, which the procedure must have. A bench without a
    source-measure unit cannot tell virgin devices, and nothing is done.

    Returns:
        ``(rows, cols)``: the selected cells without those of which a device stayed above ``virgin_ohm``.
    """
    if not (parameters.form_virgin and chip.measures):
        return cells
    devices = cell_mask_to_devices(cells)
    ohms = yield from measure(chip, devices, ProgrammedState.UNKNOWN, "looking for virgin devices")
    virgin = _above(ohms, parameters.virgin_ohm)
    for _ in range(FORM_ROUNDS):
        if not virgin.any():
            break
        chip.form(virgin)
        ohms = yield from measure(chip, virgin, ProgrammedState.LRS, f"{int(virgin.sum())} devices after forming")
        virgin = _above(ohms, parameters.virgin_ohm)
    return np.asarray(cells & ~virgin.any(axis=2))


def _above(ohms: Ohms, limit_ohm: float) -> DeviceMask:
    """Devices above a resistance; those that were not measured (NaN) are not."""
    return np.asarray(ohms > limit_ohm)
