"""What procedures do before the experiment proper: find the devices that are still virgin, and form them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from pydantic import Field

from bench.procedure import CellMask, Parameters, Step
from bench.procedures.measuring import Ohms, measure
from bench.procedures.tables import ProgrammedState
from drivers.chip import Chip
from models.cells import DeviceMask, cell_mask_to_devices

FORM_ROUNDS = 3
"""Forming pulses at most, one at a time, for a device that stays virgin."""


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
