"""Prediction and confirmation: the accuracy that this very chip will show, then the one that it shows.

What the chip's cells do is measured first, unless runs are given that did so before: patterns and their inverses,
sensed again and again, tell which cells are stuck, which are weak, and how often a good one errs. From that the
accuracy is predicted with its interval; then the network is programmed and the test set inferred, and what went wrong
is put down to its causes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.error_map import ErrorMap, error_map
from bench.inference import InferenceParameters, inference_procedure, inference_task
from bench.mapping import Plan, plan_network
from bench.measured_map import KnownChip, known_chip
from bench.plan_files import save_plan
from bench.predicting import STAGE, measured_chips, predict, progress_of
from bench.procedures.characterise import CHARACTERISE, CharacteriseParameters
from bench.runner import RunResult
from bench.stages import StagedRuns
from data.runs import open_run
from models.cells import Geometry
from models.prediction import CountedChip, InferenceMode

if TYPE_CHECKING:
    from data.datasets import Dataset
    from models.integer import IntegerNetwork
    from models.prediction import Prediction

PLAN_FILE = "plan.json"

PROGRAMMINGS = 4096
"""Cells times patterns that a chip is characterised with at least: a small one in more patterns."""


@dataclass(frozen=True)
class Wanted:
    """What is to be confirmed, and how.

    Attributes:
        network: the integers.
        data: its test set, all of which is inferred.
        modes: ways of inferring; the first is the one that the verdict is about.
        runs: runs that characterised the chip before; it is characterised now where there are none.
        plan: how the network is laid on the array; by default placed with what is known of the chip.
        placed: whether weights are placed where stuck and weak cells do least harm.
    """

    network: IntegerNetwork
    data: Dataset
    modes: tuple[InferenceMode, ...] = (InferenceMode.XNOR,)
    runs: Sequence[Path] = field(default_factory=tuple)
    plan: Plan | None = None
    placed: bool = True


@dataclass(frozen=True)
class Known:
    """What is known of the chip: for placing weights, and for predicting."""

    cells: ErrorMap
    chip: KnownChip


def known_by(paths: Sequence[Path], geometry: Geometry, chip_id: str) -> Known:
    """What runs say of the chip that is to be used.

    Raises:
        UserMistake: they are of another chip, or none of them is a completed characterisation.
    """
    runs = [open_run(path) for path in paths]
    cells = error_map(runs)
    cells.check(geometry, chip_id)
    return Known(cells, known_chip(runs, cells))


def known_before(network: IntegerNetwork, paths: Sequence[Path], geometry: Geometry, chip_id: str) -> Known:
    """What runs say of the chip, found to be enough to predict ``network``.

    Raises:
        UserMistake: as :func:`known_by`, or they say nothing of zeros and the network has some.
    """
    known = known_by(paths, geometry, chip_id)
    CountedChip(geometry, known.chip.rates, known.chip.cells).check(network)
    return known


def measure_cells(runs: StagedRuns, ternary: bool) -> Known:
    """Characterise the chip of a bench as far as a prediction needs it."""
    cells = runs.bench.chip.geometry.cells
    few = CharacteriseParameters.model_fields
    pairs = max(few["pairs"].default, -(-PROGRAMMINGS // (2 * cells)))
    settings = CharacteriseParameters(
        seed=runs.seed,
        weights="ternary" if ternary else "binary",
        pairs=pairs,
        # not more resistances in all than by default: a prediction does without them
        resistance_cells=max(4, min(few["resistance_cells"].default * few["pairs"].default // pairs, cells)),
        staircase_cells=min(few["staircase_cells"].default, cells),
    )
    run_file = runs.run("measuring the cells", CHARACTERISE, settings).run_file
    known = error_map([open_run(run_file)])
    runs.stages.done(f"{int(known.stuck.sum())} of {cells} cells are stuck; {run_file.name}")
    return Known(known, known_chip([open_run(run_file)], known))


def foretell(
    wanted: Wanted, parts: Sequence[Plan], known: Sequence[Known], runs: StagedRuns
) -> dict[InferenceMode, Prediction]:
    """Predict, as a stage, the accuracies of a network that is laid by ``parts`` on chips that are known.

    Args:
        runs: whose seed and stop count, and who is told.

    Raises:
        Stopped: a stop was asked for.
    """
    runs.stages.stage(STAGE)
    chips = measured_chips(wanted.network, parts, [one.chip for one in known])
    on_draw = progress_of(wanted.modes, runs.stages.step, runs.stop)
    examples = wanted.data.test_images, wanted.data.test_labels
    found = predict(wanted.network, *examples, chips, wanted.modes, runs.seed, on_draw, parts)
    runs.stages.done("; ".join(f"{mode.value} {one}" for mode, one in found.items()))
    return found


def verdicts(
    wanted: Wanted, predictions: Mapping[InferenceMode, Prediction], accuracy: Mapping[str, float]
) -> dict[str, Any]:
    """What was predicted and what came of it, of the first mode and of all, with what was inferred."""
    modes = {}
    for mode, found in predictions.items():
        measured = accuracy[mode.value]
        modes[mode.value] = {
            "predicted": found.interval,
            "measured": measured,
            "inside": found.low <= measured <= found.high,
        }
    return {
        "network": wanted.network.name,
        "data": wanted.data.name,
        "mode": wanted.modes[0].value,
        **modes[wanted.modes[0].value],
        "modes": modes,
    }


@dataclass(frozen=True)
class Confirming:
    """A confirmation on one bench.

    Attributes:
        on_predicted: told, before anything is programmed, of the plan and of the accuracies predicted for it.
    """

    runs: StagedRuns
    wanted: Wanted
    on_predicted: Callable[[Plan, Mapping[InferenceMode, Prediction]], None] = lambda plan, found: None

    def confirm(self, form_first: bool) -> dict[str, Any]:
        """Measure the chip, predict, program, infer, compare.

        Args:
            form_first: the chip is fresh from the wafer, as a simulated one is.

        Raises:
            UserMistake: data, plan or runs do not belong to this network or chip; nothing was driven yet.
            Stopped: a stop was asked for; the bench is in its safe state.
        """
        wanted, chip = self.wanted, self.runs.bench.chip
        # all that can be refused is refused before anything is driven
        task = inference_task(wanted.network, wanted.data.test_images, wanted.data.test_labels, wanted.plan)
        task.plan_for(chip)
        known = None
        if wanted.runs:
            known = known_before(wanted.network, wanted.runs, chip.geometry, chip.chip_id)
        if form_first:
            self.runs.form()
        if known is None:
            known = measure_cells(self.runs, wanted.network.ternary)
        plan = wanted.plan or plan_network(wanted.network, chip.geometry, known.cells if wanted.placed else None)
        save_plan(self.runs.folder / PLAN_FILE, plan)
        task = replace(task, plan=plan, error_map=known.cells)
        predictions = foretell(wanted, [plan], [known], self.runs)
        self.on_predicted(plan, predictions)
        inference = inference_procedure(task)
        silicon = self.runs.run(
            "programming tiles and inferring on silicon", inference, InferenceParameters(modes=wanted.modes)
        )
        answer = silicon.result
        self.runs.stages.done(f"{answer['tiles']} tiles, {silicon.records} records in {silicon.run_file.name}")
        return self._result(predictions, silicon, known)

    def _result(self, predictions: dict[InferenceMode, Prediction], silicon: RunResult, known: Known) -> dict[str, Any]:
        answer = silicon.result
        return {
            **verdicts(self.wanted, predictions, answer["accuracy"]),
            "chip_id": self.runs.bench.chip.chip_id,
            **{
                name: answer[name]
                for name in ("samples", "software_accuracy", "errors", "senses", "layers", "cells", "tiles")
            },
            "stuck_cells": int(known.cells.stuck.sum()),
            "run_file": str(silicon.run_file),
            "plan_file": str(self.runs.folder / PLAN_FILE),
            "seed": self.runs.seed,
        }
