"""Prediction and confirmation of one network on several chips: what is known of each, and what all show together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.confirming import PLAN_FILE, Known, Wanted, foretell, known_before, measure_cells, verdicts
from bench.error_map import runs_of_chips
from bench.inference import InferenceParameters, inference_task
from bench.inference_together import together
from bench.plan_files import save_shared_plan
from bench.several_chips import SharedPlan, plan_on_chips
from bench.stages import StagedRuns, Stages


@dataclass(frozen=True)
class ConfirmingTogether:
    """A confirmation on several benches.

    Attributes:
        runs: of each chip.
        wanted: without a plan. Chips that its runs say nothing of are characterised.
        plan: which tiles lie on which chip; by default placed with what is known of each.
    """

    runs: tuple[StagedRuns, ...]
    wanted: Wanted
    plan: SharedPlan | None = None

    def confirm(self, stages: Stages, form_first: Sequence[bool]) -> dict[str, Any]:
        """Measure the chips one after the other, predict, program and infer on all at the same time, compare.

        Args:
            form_first: which of the chips are fresh from the wafer.

        Raises:
            UserMistake: data, plan or runs do not belong to this network or these chips; nothing was driven yet.
            Stopped: a stop was asked for; all benches are in their safe states.
            RramBenchError: of the chip that failed first; all benches are in their safe states.
        """
        wanted, chips = self.wanted, [each.bench.chip for each in self.runs]
        # all that can be refused is refused before anything is driven
        task = inference_task(wanted.network, wanted.data.test_images, wanted.data.test_labels)
        parameters = InferenceParameters(modes=wanted.modes)
        together(task, self.plan, parameters, self.runs)
        before = self._known()
        known = []
        for runs, fresh, one in zip(self.runs, form_first, before, strict=True):
            if fresh:
                runs.form()
            known.append(measure_cells(runs, wanted.network.ternary) if one is None else one)
        maps = [one.cells for one in known]
        arrays = [chip.geometry for chip in chips]
        plan = self.plan or plan_on_chips(wanted.network, arrays, maps if wanted.placed else None)
        plan_file = self.runs[0].folder / PLAN_FILE
        save_shared_plan(plan_file, plan)
        parts = plan.for_chips(wanted.network, [(chip.geometry, chip.chip_id) for chip in chips])
        predictions = foretell(wanted, parts, known, self.runs[0])
        answer = together(task, plan, parameters, self.runs, error_maps=maps).infer(stages)
        counts = [int(one.stuck.sum()) for one in maps]
        return {
            **verdicts(wanted, predictions, answer["accuracy"]),
            **{
                name: answer[name]
                for name in ("samples", "software_accuracy", "errors", "senses", "layers", "cells", "tiles")
            },
            "stuck_cells": sum(counts),
            "chips": [{**chip, "stuck_cells": count} for chip, count in zip(answer["chips"], counts, strict=True)],
            "plan_file": str(plan_file),
            "seed": self.runs[0].seed,
        }

    def _known(self) -> list[Known | None]:
        """What earlier runs say of each chip; None of one that they are not of."""
        chips = [each.bench.chip for each in self.runs]
        of_chips = runs_of_chips(self.wanted.runs, [chip.chip_id for chip in chips], "the chips in the sockets are")
        return [
            known_before(self.wanted.network, own, chip.geometry, chip.chip_id) if own else None
            for own, chip in zip(of_chips, chips, strict=True)
        ]
