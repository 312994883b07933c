"""Runs that follow each other on one bench, each of them a stage that somebody watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.procedure import Parameters, Procedure, Step
from bench.procedures.forming import FORMING, QUICK
from bench.runner import RunResult, run
from bench.session import Bench
from bench.states import RunState
from bench.stopping import StopToken
from data.runs import Run


class Stages(Protocol):
    """Who is told how it goes."""

    def stage(self, text: str) -> None:
        """A stage begins."""

    def step(self, step: Step) -> None:
        """A record is on disk, or there is progress."""

    def done(self, text: str) -> None:
        """The stage ended."""


class Quiet:
    """Hears of stages and says nothing."""

    def stage(self, text: str) -> None:
        """A stage begins."""

    def step(self, step: Step) -> None:
        """A record is on disk, or there is progress."""

    def done(self, text: str) -> None:
        """The stage ended."""


@dataclass(frozen=True)
class StagedRuns:
    """What the runs share: the bench, the seed that they record, their folder, who watches, and who may stop them.

    Attributes:
        on_state: told of each change of state of the run under way, see :func:`bench.runner.run`.
    """

    bench: Bench
    seed: int
    folder: Path
    stages: Stages
    stop: StopToken
    on_state: Callable[[RunState], None] = field(default=lambda state: None)

    def run(self, text: str, procedure: Procedure, parameters: Parameters, resume: Run | None = None) -> RunResult:
        """Run a procedure as a stage called ``text``; see :func:`bench.runner.run`."""
        self.stages.stage(text)
        return self.run_quietly(procedure, parameters, self.stages.step, resume)

    def run_quietly(
        self,
        procedure: Procedure,
        parameters: Parameters,
        on_step: Callable[[Step], None],
        resume: Run | None = None,
    ) -> RunResult:
        """Run a procedure that is part of a stage; only ``on_step`` is told of it."""
        return run(
            procedure,
            parameters,
            self.bench,
            self.folder,
            seeds={"seed": self.seed},
            on_step=on_step,
            on_state=self.on_state,
            stop=self.stop,
            resume=resume,
        )

    def form(self) -> dict[str, Any]:
        """Form a chip fresh from the wafer, and say how many cells came of it; the result of the run."""
        formed = self.run("forming", FORMING, QUICK).result
        self.stages.done(f"{formed['formed']} of {formed['cells']} cells formed")
        return formed
