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

import numpy as np
from numpy.typing import NDArray

from bench.error_map import ErrorMap, error_map
from bench.inference import BATCH, InferenceParameters, Task, inference_procedure, inference_task
from bench.loop import PREDICTION_DRAWS, PREDICTION_STREAM, counted
from bench.mapping import Plan, plan_network
from bench.measured_map import KnownChip, known_chip
from bench.plan_files import save_plan
from bench.procedure import Progress
from bench.procedures.characterise import CHARACTERISE, CharacteriseParameters
from bench.runner import RunResult
from bench.stages import StagedRuns
from data.runs import open_run
from models.cells import Geometry
from models.prediction import InferenceMode

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
        data: its test set; only the first ``samples`` of it where that is given.
        modes: ways of inferring; the first is the one that the verdict is about.
        runs: runs that characterised the chip before; it is characterised now where there are none.
        plan: how the network is laid on the array; by default placed with what is known of the chip.
        placed: whether weights are placed where stuck and weak cells do least harm.
        samples: how many samples, or None for all.
    """

    network: IntegerNetwork
    data: Dataset
    modes: tuple[InferenceMode, ...] = (InferenceMode.XNOR,)
    runs: Sequence[Path] = field(default_factory=tuple)
    plan: Plan | None = None
    placed: bool = True
    samples: int | None = None


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


def predict_on_chip(
    network: IntegerNetwork,
    images: NDArray[np.integer],
    labels: NDArray[np.int64],
    plan: Plan,
    known: KnownChip,
    modes: Sequence[InferenceMode],
    seed: int,
    on_draw: Callable[[int], None] = lambda done: None,
) -> dict[InferenceMode, Prediction]:
    """Accuracies that a network laid by ``plan`` will show on a chip whose cells are known.

    Args:
        images, labels: the samples that will be inferred.
        on_draw: told after each draw how many are done, of all modes; what it raises ends the prediction.
    """
    from models.prediction import predict_accuracy

    ways = tuple(dict.fromkeys(modes))
    places = [plan.places(index, layer.weights.shape) for index, layer in enumerate(network.layers)]
    streams = np.random.default_rng([seed, PREDICTION_STREAM]).spawn(len(ways))
    return {
        mode: predict_accuracy(
            network,
            images,
            labels,
            known.rates,
            plan.array,
            PREDICTION_DRAWS,
            rng,
            mode,
            places=places,
            measured=known.cells,
            batch=BATCH,
            on_draw=counted(on_draw, number),
        )
        for number, (mode, rng) in enumerate(zip(ways, streams, strict=True))
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

    @property
    def _images(self) -> NDArray[np.integer]:
        return self.wanted.data.test_images[: self.wanted.samples]

    @property
    def _labels(self) -> NDArray[np.int64]:
        return self.wanted.data.test_labels[: self.wanted.samples]

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
        task = inference_task(wanted.network, self._images, self._labels, wanted.plan)
        task.plan_for(chip)
        known = self._known()
        if form_first:
            self.runs.form()
        if known is None:
            known = self._measured(task)
        plan = wanted.plan or plan_network(wanted.network, chip.geometry, known.cells if wanted.placed else None)
        save_plan(self.runs.folder / PLAN_FILE, plan)
        task = replace(task, plan=plan, error_map=known.cells)
        predictions = self._predict(task, plan, known)
        self.on_predicted(plan, predictions)
        inference = inference_procedure(task)
        silicon = self.runs.run(
            "programming tiles and inferring on silicon", inference, InferenceParameters(modes=wanted.modes)
        )
        answer = silicon.result
        self.runs.stages.done(f"{answer['tiles']} tiles, {silicon.records} records in {silicon.run_file.name}")
        return self._result(predictions, silicon, known)

    def _known(self) -> Known | None:
        chip = self.runs.bench.chip
        return known_by(self.wanted.runs, chip.geometry, chip.chip_id) if self.wanted.runs else None

    def _measured(self, task: Task) -> Known:
        cells = self.runs.bench.chip.geometry.cells
        few = CharacteriseParameters.model_fields
        pairs = max(few["pairs"].default, -(-PROGRAMMINGS // (2 * cells)))
        settings = CharacteriseParameters(
            seed=self.runs.seed,
            weights="ternary" if task.network.ternary else "binary",
            pairs=pairs,
            # not more resistances in all than by default: a prediction does without them
            resistance_cells=max(4, min(few["resistance_cells"].default * few["pairs"].default // pairs, cells)),
            staircase_cells=min(few["staircase_cells"].default, cells),
        )
        run_file = self.runs.run("measuring the cells", CHARACTERISE, settings).run_file
        known = error_map([open_run(run_file)])
        self.runs.stages.done(f"{int(known.stuck.sum())} of {cells} cells are stuck; {run_file.name}")
        return Known(known, known_chip([open_run(run_file)], known))

    def _predict(self, task: Task, plan: Plan, known: Known) -> dict[InferenceMode, Prediction]:
        wanted, stages = self.wanted, self.runs.stages
        stages.stage("predicting the accuracy on silicon")
        draws = PREDICTION_DRAWS * len(set(wanted.modes))

        def on_draw(done: int) -> None:
            self.runs.stop.check()
            stages.step(Progress(done, draws, "predicting the accuracy on silicon"))

        found = predict_on_chip(
            wanted.network, self._images, task.labels, plan, known.chip, wanted.modes, self.runs.seed, on_draw
        )
        stages.done(
            "; ".join(f"{mode.value} {one.mean:.2%} ({one.low:.2%} to {one.high:.2%})" for mode, one in found.items())
        )
        return found

    def _result(self, predictions: dict[InferenceMode, Prediction], silicon: RunResult, known: Known) -> dict[str, Any]:
        answer = silicon.result
        modes = {}
        for mode, found in predictions.items():
            measured = answer["accuracy"][mode.value]
            modes[mode.value] = {
                "predicted": {"mean": found.mean, "low": found.low, "high": found.high},
                "measured": measured,
                "inside": found.low <= measured <= found.high,
            }
        return {
            "network": self.wanted.network.name,
            "data": self.wanted.data.name,
            "chip_id": self.runs.bench.chip.chip_id,
            "samples": answer["samples"],
            "software_accuracy": answer["software_accuracy"],
            "mode": self.wanted.modes[0].value,
            **modes[self.wanted.modes[0].value],
            "modes": modes,
            "errors": answer["errors"],
            "senses": answer["senses"],
            "layers": answer["layers"],
            "cells": answer["cells"],
            "stuck_cells": int(known.cells.stuck.sum()),
            "tiles": answer["tiles"],
            "run_file": str(silicon.run_file),
            "plan_file": str(self.runs.folder / PLAN_FILE),
            "seed": self.runs.seed,
        }
