"""Reading the array through its sense amplifiers."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from bench.procedure import CellMask, Parameters, Procedure, Progress, Steps
from bench.procedures.tables import SENSES, sense_records
from drivers.chip import Chip


class ReadParameters(Parameters):
    """Parameters of reading."""

    repeats: int = Field(default=1, ge=1, le=10000, description="senses of the whole array")


def read(chip: Chip, parameters: ReadParameters, cells: CellMask) -> Steps:
    """Sense the whole array some times; cells that answer differently from sense to sense are counted."""
    yield Progress(0, 1, f"sensing {parameters.repeats} times")
    sensed = chip.read(parameters.repeats)
    yield sense_records(-1, sensed)
    chosen = sensed[:, cells]
    yield Progress(1, 1, "read")
    return {
        "cells": int(cells.sum()),
        "plus": int((chosen[-1] == 1).sum()),
        "minus": int((chosen[-1] == -1).sum()),
        "undecided": int((chosen[-1] == 0).sum()),
        "unsteady": int(np.any(chosen != chosen[0], axis=0).sum()),
    }


READ = Procedure("read", "sense the whole array", ReadParameters, (SENSES,), read)
