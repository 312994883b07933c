"""Inference of one network on several chips at the same time, each on a bench of its own.

Every chip programs and answers its tiles in a thread of its own, with a run file of its own. After each layer the chips
meet: their sums are added, and all go on with the activations that come of the sum. A chip that waits has its outputs
off. What stops or fails on one chip stops all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.inference import BATCH, InferenceParameters, Task, inference_procedure
from bench.meeting import POLL_S, Meeting
from bench.procedure import Procedure, Progress, Step
from bench.resuming import check_same, remaining_cells
from bench.runner import RunResult
from bench.several_chips import SharedPlan, plan_on_chips
from bench.stages import StagedRuns, Stages
from bench.stopping import Stopped
from data.runs import Run
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from bench.error_map import ErrorMap


@dataclass(frozen=True)
class Together:
    """An inference on several chips, found to be possible; nothing was driven yet.

    Attributes:
        runs: of each chip: its bench, and what the runs share; one stop stops all.
        procedures: of each chip.
        parameters: of all.
        earlier: of each chip the run to go on with, or None.
    """

    runs: tuple[StagedRuns, ...]
    procedures: tuple[Procedure, ...]
    parameters: InferenceParameters
    earlier: tuple[Run | None, ...]

    def infer(self, stages: Stages) -> dict[str, Any]:
        """Program and infer on all chips at the same time.

        Returns:
            Accuracies; cells, errors and senses of all chips together, layer by layer, and in ``chips`` of each.

        Raises:
            Stopped: a stop was asked for; all benches are in their safe states.
            RramBenchError: of the chip that failed first; the others were stopped, and are in their safe states.
        """
        stages.stage(f"programming tiles and inferring on {len(self.runs)} chips")
        watched = _Watched(stages, len(self.runs))
        workers = [
            _Worker(runs, procedure, self.parameters, earlier, watched, number)
            for number, (runs, procedure, earlier) in enumerate(
                zip(self.runs, self.procedures, self.earlier, strict=True)
            )
        ]
        try:
            for worker in workers:
                worker.start()
                # one after the other: a run looks through the folder for what others left, and is named by the time
                while not worker.begun.wait(POLL_S):
                    pass
            for worker in workers:
                # again and again: where a wait cannot be interrupted, as on Windows, Ctrl-C is heard in between
                while worker.is_alive():
                    worker.join(POLL_S)
        except BaseException:
            # whatever becomes of this thread, no bench is let go of while its run goes on
            self.runs[0].stop.request("the inference on several chips was given up")
            for worker in workers:
                if worker.ident is not None:
                    worker.join()
            raise
        _raise_first(watched.errors)
        outcomes = [worker.outcome for worker in workers if worker.outcome is not None]
        stages.done(f"{sum(outcome.records for outcome in outcomes)} records in {len(outcomes)} files")
        return _joined(self.runs, outcomes)


def together(
    task: Task,
    plan: SharedPlan | None,
    parameters: InferenceParameters,
    runs: Sequence[StagedRuns],
    earlier: Sequence[Run] = (),
    batch: int = BATCH,
    error_maps: Sequence[ErrorMap] | None = None,
) -> Together:
    """Prepare an inference on the chips of ``runs``; nothing is driven.

    Args:
        task: the network and its samples, without a plan.
        plan: which tiles lie on which chip; by default the plain one for these arrays, in their order.
        earlier: runs of these chips that ended early, to go on with. A chip that has none begins anew.

        error_maps: of each chip, so that wrong weights of stuck cells are told from others.

    Raises:
        UserMistake: fewer than two chips, two of one name, a plan for other chips or arrays, a run of another chip or
            experiment, or what :meth:`bench.inference.Task.plan_for` refuses.
        BenchFailure: an interlock is open.
    """
    chips = [each.bench.chip for each in runs]
    ids = [chip.chip_id for chip in chips]
    if len(chips) < 2 or len(set(ids)) < len(ids):
        raise UserMistake(f"the chips in the sockets are {', '.join(ids)}; expected at least two, each with its own id")
    shared = plan_on_chips(task.network, [chip.geometry for chip in chips]) if plan is None else plan
    parts = shared.for_chips(task.network, [(chip.geometry, chip.chip_id) for chip in chips])
    meeting = Meeting(ids)
    maps = [None] * len(chips) if error_maps is None else error_maps
    tasks = [
        replace(task, plan=part, meeting=meeting, error_map=known) for part, known in zip(parts, maps, strict=True)
    ]
    procedures = tuple(inference_procedure(each, batch) for each in tasks)
    for each, chip in zip(tasks, chips, strict=True):
        each.plan_for(chip)
    known = _by_chip(earlier, ids)
    for staged, procedure, chip_id in zip(runs, procedures, ids, strict=True):
        staged.bench.interlocks.check()
        if chip_id in known:
            check_same(known[chip_id], procedure, parameters, staged.bench)
            remaining_cells(known[chip_id])
    return Together(tuple(runs), procedures, parameters, tuple(known.get(chip_id) for chip_id in ids))


class _Watched:
    """Passes on what the chips tell, one at a time, with the progress of all together."""

    def __init__(self, stages: Stages, chips: int) -> None:
        self._stages, self._lock = stages, threading.Lock()
        self._done, self._total = [0] * chips, [0] * chips
        self.errors: list[tuple[str, BaseException]] = []

    def failed(self, chip_id: str, error: BaseException) -> None:
        """The run on a chip ended with ``error``."""
        self.errors.append((chip_id, error))

    def step(self, number: int, chip_id: str, step: Step) -> None:
        """A record of a chip is on disk, or there is progress."""
        with self._lock:
            if isinstance(step, Progress):
                if step.total > 1:  # a wait counts as one step
                    self._done[number], self._total[number] = step.done, step.total
                step = Progress(sum(self._done), sum(self._total), f"{chip_id}: {step.text}", step.live)
            self._stages.step(step)


class _Worker(threading.Thread):
    """The run on one chip."""

    def __init__(
        self,
        runs: StagedRuns,
        procedure: Procedure,
        parameters: InferenceParameters,
        earlier: Run | None,
        watched: _Watched,
        number: int,
    ) -> None:
        self.chip_id = runs.bench.chip.chip_id
        super().__init__(name=f"inference on chip {self.chip_id}")
        self.begun = threading.Event()
        self.outcome: RunResult | None = None
        self._runs, self._procedure, self._parameters, self._earlier = runs, procedure, parameters, earlier
        self._watched, self._number = watched, number

    def run(self) -> None:
        """Run, and stop the others if that fails."""
        try:
            self.outcome = self._runs.run_quietly(self._procedure, self._parameters, self._step, self._earlier)
        except BaseException as error:
            self._watched.failed(self.chip_id, error)
            self._runs.stop.request(f"chip {self.chip_id}: {error}")
        finally:
            self.begun.set()

    def _step(self, step: Step) -> None:
        self.begun.set()
        self._watched.step(self._number, self.chip_id, step)


def _raise_first(errors: Sequence[tuple[str, BaseException]]) -> None:
    """Raise what went wrong first, where anything did: it stopped the other chips."""
    causes = [one for one in errors if not isinstance(one[1], Stopped)]
    for chip_id, cause in [*causes, *errors][:1]:
        for other_id, other in errors:
            if other is not cause:
                told = [] if isinstance(other, Stopped) else [str(other)]
                for text in (*told, *getattr(other, "__notes__", ())):
                    cause.add_note(f"chip {other_id}: {text}")
        if causes:
            cause.add_note(f"that was on chip {chip_id}; the other chips were stopped")
        raise cause


def _by_chip(earlier: Sequence[Run], ids: Sequence[str]) -> dict[str, Run]:
    known: dict[str, Run] = {}
    for run in earlier:
        chip_id = str(run.attributes.get("chip_id"))
        if chip_id not in ids or chip_id in known:
            raise UserMistake(
                f"{run.path} is of chip {chip_id}, and the chips in the sockets are {', '.join(ids)}; name one run of "
                "each, the last"
            )
        known[chip_id] = run
    return known


def _joined(runs: Sequence[StagedRuns], outcomes: Sequence[RunResult]) -> dict[str, Any]:
    """The results of all chips as one: what they all know once, what they count added up."""
    results = [outcome.result for outcome in outcomes]
    first = results[0]
    counted = ("cells", "bit_errors", "errors")
    return {
        **{name: first[name] for name in ("samples", "software_accuracy", "accuracy")},
        "tiles": sum(result["tiles"] for result in results),
        **{name: _added([result[name] for result in results]) for name in counted},
        "senses": {mode: _added([result["senses"][mode] for result in results]) for mode in first["senses"]},
        "layers": [_layer(layers) for layers in zip(*(result["layers"] for result in results), strict=True)],
        "chips": [
            {
                "chip_id": one.bench.chip.chip_id,
                "bench": one.bench.config.name,
                "array": one.bench.chip.geometry._asdict(),
                **{name: outcome.result[name] for name in ("tiles", *counted, "senses")},
                "layers": [
                    {name: layer[name] for name in ("layer", "tiles", "cells", "errors")}
                    for layer in outcome.result["layers"]
                ],
                "run_file": str(outcome.run_file),
            }
            for one, outcome in zip(runs, outcomes, strict=True)
        ],
    }


def _layer(of_chips: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One layer of all chips; its sums were compared when they were joined."""
    tiles, cells = (sum(each[name] for each in of_chips) for name in ("tiles", "cells"))
    return {**of_chips[0], "tiles": tiles, "cells": cells, "errors": _added([each["errors"] for each in of_chips])}


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(each[name] for each in counts) for name in counts[0]}
