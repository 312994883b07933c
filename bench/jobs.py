"""A run as it was asked for, checked as a whole before a bench is opened: the command line, the queue, a notebook."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cells import parse_cells
from bench.config import BenchFile
from bench.planning import Plan, PlanFailed, plan
from bench.procedure import CellMask, Parameters, Procedure, Step
from bench.procedures import find_procedure
from bench.resuming import remaining_cells
from bench.runner import RunResult, run
from bench.session import Bench
from bench.source import Overrides, at_points, points_of
from bench.states import RunState
from bench.stopping import StopToken
from data.runs import Run, RunStatus, find_interrupted, open_run, recover
from models.exceptions import UserMistake

QUICK_S = 1.0
"""What may be spent on planning before a run that nobody asked a plan of: a wrong limit shows, long runs are scaled."""


@dataclass(frozen=True)
class Job:
    """A run that was checked and not begun.

    Attributes:
        config: the bench file, at the operating points of the run.
        overrides: which of them were changed.
        cells: ``(rows, cols)`` bool, those that are selected, or left of ``resume``.
        resume: the earlier run to go on with.
        seed: of the simulated bench, and of the procedure where it has one.
    """

    procedure: Procedure
    parameters: Parameters
    config: BenchFile
    overrides: Overrides
    cells: CellMask
    seed: int
    resume: Run | None = None

    def plan(self, budget_s: float | None = None) -> Plan:
        """What it would take. Errors as for :func:`bench.planning.plan`."""
        return plan(self.procedure, self.parameters, self.config, self.cells, budget_s, self.resume)

    def quick_plan(self, on_note: Callable[[str], None]) -> Plan | None:
        """A plan made in a second; None, with a note, where the procedure cannot be tried dry.

        Raises:
            UserMistake: the run would break a limit.
        """
        try:
            return self.plan(QUICK_S)
        except PlanFailed as error:
            on_note(f"no plan: {error}")
            return None

    def run(
        self,
        bench: Bench,
        folder: Path,
        *,
        on_step: Callable[[Step], None] = lambda step: None,
        on_state: Callable[[RunState], None] = lambda state: None,
        stop: StopToken | None = None,
    ) -> RunResult:
        """Run it on a bench that stands at its operating points. Errors as for :func:`bench.runner.run`."""
        return run(
            self.procedure,
            self.parameters,
            bench,
            folder,
            cells=self.cells,
            seeds={"seed": self.seed},
            on_step=on_step,
            on_state=on_state,
            stop=stop,
            resume=self.resume,
        )


def prepare(
    name: str,
    config: BenchFile,
    settings: Mapping[str, Any],
    cells: str | None = None,
    overrides: Overrides | None = None,
    seed: int = 0,
) -> Job:
    """Check a run that was asked for.

    Args:
        name: of the procedure.
        config: the bench file as written.
        settings: its parameters; ``seed`` is that of the run where it has one and none is set.
        cells: a selection, see :func:`bench.cells.parse_cells`; all when None.
        overrides: changed operating points.

    Raises:
        UserMistake: anything of it cannot be done.
    """
    changed: Overrides = {} if overrides is None else dict(overrides)
    at = at_points(config, changed)
    procedure = find_procedure(name, config.procedures)
    chosen = dict(settings)
    if "seed" in procedure.parameters.model_fields:
        chosen.setdefault("seed", seed)
    mask = parse_cells("all" if cells is None else cells, at.geometry)
    return Job(procedure, procedure.parse(chosen), at, changed, mask, seed)


def prepare_resumed(name: str, config: BenchFile, path: Path) -> Job:
    """Check a run that is to go on where an earlier one ended; everything else comes from the earlier one's file.

    A file that a crash left is closed first.

    Raises:
        UserMistake: it is no such run, it is done, it goes on, or it was resumed before.
    """
    earlier = open_run(path)
    if earlier.status is RunStatus.INTERRUPTED:
        recover(path)
        earlier = open_run(path)
    if earlier.procedure != name:
        raise UserMistake(f"{path} is a run of {earlier.procedure}, not of {name}; resume it as that")
    if (later := resumed_by(earlier)) is not None:
        raise UserMistake(f"{path} was resumed by {later.name} already; resume that one, if it ended early")
    if earlier.status in (RunStatus.COMPLETED, RunStatus.RUNNING):
        raise UserMistake(f"{path} is {earlier.status}; only a run that ended early is resumed")
    overrides = points_of(earlier)
    at = at_points(config, overrides)
    procedure = find_procedure(name, config.procedures)
    parameters = procedure.parse(json.loads(str(earlier.attributes["parameters"])))
    seed = int(json.loads(str(earlier.attributes["seeds"])).get("seed", 0))
    left = remaining_cells(earlier)
    if left.shape != tuple(at.geometry):
        raise UserMistake(f"{path} was made on an array of {left.shape} cells; this bench has {tuple(at.geometry)}")
    return Job(procedure, parameters, at, overrides, left, seed, earlier)


def resumed_by(run: Run) -> Path | None:
    """The run in the same folder that went on with ``run``, and got as far as its cells; None where there is none."""
    for path in sorted(run.path.parent.glob("*.h5")):
        try:
            other = open_run(path)
            if other.attributes.get("resumes") == run.path.name and other.rows("selection") > 0:
                return path
        except UserMistake:
            continue  # what is no run file resumes nothing
    return None


def interrupted_note(folder: Path, being_resumed: Path | None = None) -> str:
    """One line about runs that a crash left open in ``folder``, and how to go on with them; empty where there are none.

    The next run closes them; from then on they are ordinary runs that ended early.
    """
    known = None if being_resumed is None else being_resumed.resolve()
    left = [path for path in find_interrupted(folder) if path.resolve() != known] if folder.is_dir() else []
    if not left:
        return ""
    first = open_run(left[0])
    names = ", ".join(path.name for path in left)
    return f"interrupted: {names}; go on with 'rram-bench run {first.procedure} --resume {left[0]}'"


__all__ = ["Job", "interrupted_note", "prepare", "prepare_resumed", "resumed_by"]
