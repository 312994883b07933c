"""Programming a pattern of weights with verify: bounded attempts, bounded energy, and a verdict for each cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.procedure import CellMask, CellsDone, Parameters, Procedure, Progress, Record, Step, Steps, flags
from bench.procedures.tables import PATTERNS, pattern_record
from data.device_files import default_device
from data.run_chain import available_chain
from data.runs import Column, Run, Table
from drivers.chip import Chip, OperationKind, Programming, Verdict
from models.cells import Geometry, Polarity, Weights, checked_weights, lrs_devices
from models.device_model import DeviceModel
from models.devices.energy import pulse_energy_j
from models.exceptions import UserMistake


class Ending(IntEnum):
    """How programming a cell ended."""

    VERIFIED = 0
    OUT_OF_ATTEMPTS = 1
    OUT_OF_ENERGY = 2


PROGRAMMED_CELLS = Table(
    "programmed_cells",
    (
        Column("row", "int16", description="row of the cell"),
        Column("col", "int16", description="column of the cell"),
        Column("ending", "int8", flags=flags(Ending), description="how programming it ended"),
        Column("attempts", "int16", description="passes over it"),
        Column("energy_j", "float64", units="J", description="estimated upper bound of what its pulses put into it"),
    ),
    "cells as they are finished",
)


class ProgramParameters(Parameters):
    """Parameters of programming."""

    pattern: Literal["random", "checkerboard", "plus", "minus", "zero"] = Field(
        default="random", description="weights to program: random or checkerboard of +1 and -1, or one value"
    )
    file: str | None = Field(
        default=None, description="CSV or .npy file with a weight (-1, 0, +1) for each cell of the array, not a pattern"
    )
    seed: int = Field(default=0, ge=0, description="seed of the random pattern")
    attempts: int = Field(default=3, ge=1, le=100, description="passes over a cell at most")
    energy_j_at_most: float = Field(
        default=1e-6, gt=0.0, allow_inf_nan=False, description="estimated energy of all pulses on a cell at most, J"
    )


def pattern_weights(name: str, geometry: Geometry, rng: np.random.Generator) -> Weights:
    """A test pattern of weights, ``(rows, cols)`` int8."""
    if name == "random":
        return rng.choice(np.array([-1, 1], dtype=np.int8), size=geometry)
    if name == "checkerboard":
        rows, cols = np.indices(geometry)
        return np.where((rows + cols) % 2 == 0, 1, -1).astype(np.int8)
    value = {"plus": 1, "minus": -1, "zero": 0}[name]
    return np.full(geometry, value, dtype=np.int8)


def read_weights(path: Path, geometry: Geometry) -> Weights:
    """Weights of all cells from a CSV file (one line per row) or an .npy file, ``(rows, cols)`` int8.

    Raises:
        UserMistake: it cannot be read, has another shape, or holds anything but -1, 0 and +1.
    """
    try:
        array = np.load(path) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise UserMistake(f"weights file {path}: {reason}; give a CSV or .npy file of -1, 0 and +1") from None
    try:
        return checked_weights(array, geometry)
    except UserMistake as error:
        raise UserMistake(f"weights file {path}: {error}") from None


def program(chip: Chip, parameters: ProgramParameters, cells: CellMask) -> Steps:
    """Program weights into the selected cells, pass after pass over those that read wrong.

    Each pass is a SET of the devices that must be low, a RESET of the others and a read. A cell is finished when it
    reads right, after ``attempts`` passes, or when another pass could exceed ``energy_j_at_most``, as estimated from
    the operating points and the packaged device file.

    Raises:
        UserMistake: the weights cannot be had, or the energy allows not even one pass.
    """
    budget = _Budget(chip, _weights(chip, parameters), parameters)
    return (yield from _program(chip, budget, cells))


def resume(chip: Chip, parameters: ProgramParameters, cells: CellMask, earlier: Run) -> Steps:
    """Go on with the cells that are left; what the earlier runs did to them counts against their bounds."""
    budget = _Budget(chip, _weights(chip, parameters), parameters)
    for run in available_chain(earlier)[0]:
        budget.charge_run(run)
    return (yield from _program(chip, budget, cells))


@dataclass
class _Budget:
    """What was spent on each cell, against what may be: ``(rows, cols)`` arrays.

    Attributes:
        pass_j: energy of one pass at most, in J.
        attempts, energy_j: passes made, and their energy.
    """

    chip: Chip
    target: Weights
    parameters: ProgramParameters
    model: DeviceModel = field(default_factory=lambda: default_device().model)
    pass_j: NDArray[np.float64] = field(init=False)
    attempts: NDArray[np.int64] = field(init=False)
    energy_j: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        low, points = lrs_devices(self.target).sum(axis=2), self.chip.points
        set_j, reset_j = (
            pulse_energy_j(self.model, polarity, point.rails.vddc_v, point.rails.vddr_v, point.width_s)
            for polarity, point in ((Polarity.SET, points.set), (Polarity.RESET, points.reset))
        )
        self.pass_j = low * set_j + (2 - low) * reset_j
        self.attempts = np.zeros(self.chip.geometry, dtype=np.int64)
        self.energy_j = np.zeros(self.chip.geometry)

    def check(self, cells: CellMask) -> None:
        """Refuse a bound that allows these cells not one pass. Raises UserMistake."""
        needed_j, most_j = self.pass_j[cells].max(initial=0.0), self.parameters.energy_j_at_most
        if needed_j > most_j:
            raise UserMistake(
                f"program: energy_j_at_most = {most_j:g} J allows not one pass, which takes up to {needed_j:.3g} J "
                "per cell; raise it, or shorten the pulses"
            )

    def charge(self, cells: CellMask) -> None:
        """One pass was made over these cells."""
        self.attempts[cells] += 1
        self.energy_j[cells] += self.pass_j[cells]

    def charge_run(self, run: Run) -> None:
        """Passes and pulses of an earlier run, whether their effect is in doubt or not."""
        self.attempts += len(run.read("patterns", ["pattern"])["pattern"])
        done = run.read("operations", ["kind", "vddc_v", "vddr_v", "width_s", "count", "devices"])
        for kind, polarity in ((OperationKind.SET, Polarity.SET), (OperationKind.RESET, Polarity.RESET)):
            for row in np.flatnonzero(done["kind"] == kind):
                vddc_v, vddr_v, width_s = (float(done[name][row]) for name in ("vddc_v", "vddr_v", "width_s"))
                pulse_j = pulse_energy_j(self.model, polarity, vddc_v, vddr_v, width_s)
                self.energy_j += pulse_j * int(done["count"][row]) * done["devices"][row].sum(axis=2)

    def may_try(self, cells: CellMask) -> CellMask:
        """Those of the cells that another pass is allowed."""
        return np.asarray(cells & (self.attempts < self.parameters.attempts) & self._affordable)

    def finish(self, cells: CellMask, verified: bool) -> Iterator[Step]:
        """These cells are through: verified, or allowed no further pass."""
        if not cells.any():
            return
        row, col = np.nonzero(cells)
        failed = np.where(self._affordable, Ending.OUT_OF_ATTEMPTS, Ending.OUT_OF_ENERGY)[cells]
        values = {
            "row": row,
            "col": col,
            "ending": np.full(len(row), Ending.VERIFIED) if verified else failed,
            "attempts": self.attempts[cells],
            "energy_j": self.energy_j[cells],
        }
        yield Record("programmed_cells", values, many=True)
        yield CellsDone(cells)

    @property
    def _affordable(self) -> CellMask:
        return np.asarray(self.energy_j + self.pass_j <= self.parameters.energy_j_at_most)


def _program(chip: Chip, budget: _Budget, cells: CellMask) -> Steps:
    budget.check(cells)
    total = int(cells.sum())
    sensed, verdict = np.zeros_like(budget.target), np.zeros(chip.geometry, dtype=np.int8)
    verdict[cells] = Verdict.FAILED
    pending = budget.may_try(cells)
    yield from budget.finish(cells & ~pending, verified=False)
    passes = raw_errors = 0
    while pending.any():
        passes += 1
        yield Progress(total - int(pending.sum()), total, f"pass {passes} over {int(pending.sum())} cells")
        made = chip.program(budget.target, used=pending, attempts=1)
        budget.charge(pending)
        sensed, right = made.sensed, made.verdict == Verdict.VERIFIED
        verdict[right] = Verdict.VERIFIED
        if passes == 1:
            raw_errors = made.raw_errors
        yield pattern_record(0, Programming(budget.target, cells, sensed, verdict.copy(), passes, raw_errors))
        yield from budget.finish(right, verified=True)
        wrong = pending & ~right
        pending = budget.may_try(wrong)
        yield from budget.finish(wrong & ~pending, verified=False)
    failed = cells & (verdict != Verdict.VERIFIED)
    yield Progress(total, total, f"{total - int(failed.sum())} of {total} cells verified")
    return {
        "cells": total,
        "verified": total - int(failed.sum()),
        "failed": int(failed.sum()),
        "raw_errors": raw_errors,
        "attempts": passes,
        "failed_at": [[int(row), int(col)] for row, col in np.argwhere(failed)],
        "largest_energy_j": float(budget.energy_j[cells].max(initial=0.0)),
    }


def _weights(chip: Chip, parameters: ProgramParameters) -> Weights:
    if parameters.file is not None:
        return read_weights(Path(parameters.file), chip.geometry)
    return pattern_weights(parameters.pattern, chip.geometry, np.random.default_rng(parameters.seed))


PROGRAM = Procedure(
    "program",
    "program weights with verify, a verdict for each cell",
    ProgramParameters,
    (PATTERNS, PROGRAMMED_CELLS),
    program,
    resume=resume,
)
