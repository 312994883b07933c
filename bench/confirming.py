"""Prediction and confirmation: the accuracy that this very chip will show, then the one that it shows.

What the chip's cells do is measured first, unless runs are given that did so before: patterns and their inverses,
sensed again and again, tell which cells are stuck, which are weak, and how often a good one errs. From that the
accuracy is predicted with its interval; then the network is programmed and the test set inferred, and what went wrong
is put down to its causes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.error_map import ErrorMap, error_map
from bench.inference import BATCH, InferenceParameters, Task, inference_procedure, inference_task
from bench.loop import PREDICTION_DRAWS, PREDICTION_STREAM
from bench.mapping import Plan, plan_network
from bench.measured_map import KnownChip, known_chip
from bench.plan_files import save_plan
from bench.procedures.characterise import CHARACTERISE, CharacteriseParameters
from bench.runner import RunResult
from bench.stages import StagedRuns
from data.runs import open_run
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
class _Known:
    """What is known of the chip: for placing weights, and for predicting."""

    cells: ErrorMap
    chip: KnownChip


@dataclass(frozen=True)
class Confirming:
    """A confirmation on one bench."""

    runs: StagedRuns
    wanted: Wanted

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
        inference = inference_procedure(task)
        silicon = self.runs.run(
            "programming tiles and inferring on silicon", inference, InferenceParameters(modes=wanted.modes)
        )
        answer = silicon.result
        self.runs.stages.done(f"{answer['tiles']} tiles, {silicon.records} records in {silicon.run_file.name}")
        return self._result(predictions, silicon, known)

    def _known(self) -> _Known | None:
        if not self.wanted.runs:
            return None
        runs = [open_run(path) for path in self.wanted.runs]
        cells = error_map(runs)
        cells.check(self.runs.bench.chip.geometry, self.runs.bench.chip.chip_id)
        return _Known(cells, known_chip(runs, cells))

    def _measured(self, task: Task) -> _Known:
        cells = self.runs.bench.chip.geometry.cells
        few = CharacteriseParameters.model_fields
        settings = CharacteriseParameters(
            seed=self.runs.seed,
            weights="ternary" if task.network.ternary else "binary",
            pairs=max(few["pairs"].default, -(-PROGRAMMINGS // (2 * cells))),
            resistance_cells=min(few["resistance_cells"].default, cells),
            staircase_cells=min(few["staircase_cells"].default, cells),
        )
        run_file = self.runs.run("measuring the cells", CHARACTERISE, settings).run_file
        known = error_map([open_run(run_file)])
        self.runs.stages.done(f"{int(known.stuck.sum())} of {cells} cells are stuck; {run_file.name}")
        return _Known(known, known_chip([open_run(run_file)], known))

    def _predict(self, task: Task, plan: Plan, known: _Known) -> dict[InferenceMode, Prediction]:
        from models.prediction import predict_accuracy

        wanted, array = self.wanted, self.runs.bench.chip.geometry
        self.runs.stages.stage("predicting the accuracy on silicon")
        modes = tuple(dict.fromkeys(wanted.modes))
        places = [plan.places(index, layer.weights.shape) for index, layer in enumerate(wanted.network.layers)]
        streams = np.random.default_rng([self.runs.seed, PREDICTION_STREAM]).spawn(len(modes))
        found = {
            mode: predict_accuracy(
                wanted.network,
                self._images,
                task.labels,
                known.chip.rates,
                array,
                PREDICTION_DRAWS,
                rng,
                mode,
                places=places,
                measured=known.chip.cells,
                batch=BATCH,
            )
            for mode, rng in zip(modes, streams, strict=True)
        }
        self.runs.stages.done(
            "; ".join(f"{mode.value} {one.mean:.2%} ({one.low:.2%} to {one.high:.2%})" for mode, one in found.items())
        )
        return found

    def _result(
        self, predictions: dict[InferenceMode, Prediction], silicon: RunResult, known: _Known
    ) -> dict[str, Any]:
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
