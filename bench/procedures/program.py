"""Programming a pattern of weights with verify."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from bench.procedure import CellMask, Parameters, Procedure, Progress, Steps
from bench.procedures.tables import PATTERNS, pattern_record
from drivers.chip import Chip
from models.cells import Geometry, Weights


class ProgramParameters(Parameters):
    """Parameters of programming."""

    pattern: Literal["random", "checkerboard", "plus", "minus", "zero"] = Field(
        default="random", description="weights to program: random or checkerboard of +1 and -1, or one value"
    )
    seed: int = Field(default=0, ge=0, description="seed of the random pattern")
    attempts: int = Field(default=3, ge=1, le=100, description="passes over a cell at most")


def pattern_weights(name: str, geometry: Geometry, rng: np.random.Generator) -> Weights:
    """A test pattern of weights, ``(rows, cols)`` int8."""
    if name == "random":
        return rng.choice(np.array([-1, 1], dtype=np.int8), size=geometry)
    if name == "checkerboard":
        rows, cols = np.indices(geometry)
        return np.where((rows + cols) % 2 == 0, 1, -1).astype(np.int8)
    value = {"plus": 1, "minus": -1, "zero": 0}[name]
    return np.full(geometry, value, dtype=np.int8)


def program(chip: Chip, parameters: ProgramParameters, cells: CellMask) -> Steps:
    """Program a pattern into the selected cells, with bounded attempts and a verdict per cell."""
    yield Progress(0, 1, f"programming {int(cells.sum())} cells")
    weights = pattern_weights(parameters.pattern, chip.geometry, np.random.default_rng(parameters.seed))
    programming = chip.program(weights, used=cells, attempts=parameters.attempts)
    yield pattern_record(0, programming)
    yield Progress(1, 1, f"{programming.verified} of {int(cells.sum())} cells verified")
    return {
        "cells": int(cells.sum()),
        "verified": programming.verified,
        "failed": programming.failed,
        "raw_errors": programming.raw_errors,
        "attempts": programming.attempts,
    }


PROGRAM = Procedure("program", "program a pattern of weights with verify", ProgramParameters, (PATTERNS,), program)
