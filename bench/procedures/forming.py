"""Forming: bring virgin devices to life, and find the cells that do not come."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from bench.procedure import CellMask, Parameters, Procedure, Progress, Record, Steps
from bench.procedures.tables import CELL, PATTERNS, pattern_record
from data.runs import Column, Table
from drivers.chip import Chip, Verdict
from models.cells import cell_mask_to_devices

FORMED = Table(
    "forming",
    (
        Column("pulses", "int32", description="forming pulses applied so far to the cells still in question"),
        Column("formed", "uint8", dims=CELL, description="1 where the cell reads both weights correctly"),
    ),
    "which cells work, after each round of forming",
)


class FormingParameters(Parameters):
    """Parameters of forming."""

    pulses: int = Field(default=1, ge=1, le=100, description="forming pulses per device and round")
    rounds: int = Field(default=3, ge=1, le=20, description="rounds at most; each forms the cells that fail the check")


def forming(chip: Chip, parameters: FormingParameters, cells: CellMask) -> Steps:
    """Form both devices of each selected cell, then check the cell with both weights; repeat for those that fail.

    A cell counts as formed when it reads +1 after +1 was programmed and -1 after -1: only two working devices do that.
    """
    pending = cells.copy()
    total = parameters.rounds
    for done in range(parameters.rounds):
        yield Progress(done, total, f"forming {int(pending.sum())} cells")
        chip.form(cell_mask_to_devices(pending), parameters.pulses)
        works = pending.copy()
        for index, weight in enumerate((1, -1)):
            target = np.full(chip.geometry, weight, dtype=np.int8)
            programming = chip.program(target, used=pending, attempts=2)
            yield pattern_record(2 * done + index, programming)
            works &= programming.verdict == Verdict.VERIFIED
        pending &= ~works
        formed = cells & ~pending
        yield Record("forming", {"pulses": (done + 1) * parameters.pulses, "formed": formed.astype(np.uint8)})
        if not pending.any():
            break
    yield Progress(total, total, f"{int(formed.sum())} of {int(cells.sum())} cells formed")
    return {
        "cells": int(cells.sum()),
        "formed": int(formed.sum()),
        "not_formed": [[int(row), int(col)] for row, col in np.argwhere(pending)],
    }


FORMING = Procedure(
    "forming",
    "form virgin cells and check that both weights can be read",
    FormingParameters,
    (FORMED, PATTERNS),
    forming,
)
