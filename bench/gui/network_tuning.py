"""Networks that the chip has a hand in: tuned to its sums, or with a last layer that learns on it. No Qt here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.gui.jobs import OpenNetwork, Report
from bench.mapping import Plan
from bench.session import Bench
from bench.stopping import StopToken
from data.runs import open_run

if TYPE_CHECKING:
    from bench.inference import Task
    from bench.procedure import Procedure
    from bench.runner import RunResult
    from models.integer import IntegerNetwork

Made = tuple[OpenNetwork, dict[str, Any]]
"""The network that came of it, opened, and the result of the run."""


@dataclass(frozen=True)
class ToTune:
    """A tuning as it was asked for: fit what the host keeps to the sums of this chip."""

    opened: OpenNetwork
    plan: Plan
    settings: Mapping[str, Any]
    samples: int | None
    out: Path
    seed: int

    def work(self, folder: Path, bench: Bench, stop: StopToken, report: Report) -> Made:
        """Tune, save and open the tuned network; the result of the run too."""
        from bench.tuning import tuned_network, tuning_procedure

        training, held_out = _tasks(self.opened, self.samples, self.samples, self.plan)
        training.plan_for(bench.chip)
        outcome = _run(self.out, tuning_procedure(training, held_out), self.settings, folder, bench, stop, report)
        tuned = tuned_network(self.opened.network, open_run(outcome.run_file))
        return _saved(self, tuned, "tuned_from", outcome)


@dataclass(frozen=True)
class ToLearn:
    """A learning as it was asked for: the last layer, by weak RESETs of its device pairs."""

    opened: OpenNetwork
    settings: Mapping[str, Any]
    samples: int | None
    out: Path
    seed: int

    def work(self, folder: Path, bench: Bench, stop: StopToken, report: Report) -> Made:
        """Learn, save and open the network that learned; the result of the run too."""
        from bench.learning import learned_network, learning_procedure
        from bench.learning_blocks import blocks_for

        training, held_out = _tasks(self.opened, self.samples, None, None)
        last = self.opened.network.layers[-1]
        blocks_for(last.outputs, last.inputs, bench.chip.geometry)
        outcome = _run(self.out, learning_procedure(training, held_out), self.settings, folder, bench, stop, report)
        learned = learned_network(self.opened.network, open_run(outcome.run_file))
        return _saved(self, learned, "learned_from", outcome)


def _tasks(opened: OpenNetwork, samples: int | None, held_out: int | None, plan: Plan | None) -> tuple[Task, Task]:
    """The first training samples, and the first of those that are held out."""
    from bench.inference import inference_task

    data = opened.data
    return (
        inference_task(opened.network, data.train_images[:samples], data.train_labels[:samples], plan),
        inference_task(opened.network, data.test_images[:held_out], data.test_labels[:held_out], plan),
    )


def _run(
    out: Path,
    procedure: Procedure,
    settings: Mapping[str, Any],
    folder: Path,
    bench: Bench,
    stop: StopToken,
    report: Report,
) -> RunResult:
    from bench.runner import prepare_folder, run
    from data.atomic import check_writable

    parameters = procedure.parse(settings)
    prepare_folder(out.parent)
    check_writable(out, "network file")
    return run(procedure, parameters, bench, folder, on_step=report, on_state=report, stop=stop)


def _saved(asked: ToTune | ToLearn, network: IntegerNetwork, how: str, outcome: RunResult) -> Made:
    from bench.made_networks import save_made
    from data.networks import NetworkFile, load_network

    opened, data = asked.opened, asked.opened.data
    original = NetworkFile(opened.network, dict(opened.provenance))
    save_made(asked.out, network, how, original, outcome.run_file, data.name, asked.seed)
    accuracy = network.accuracy(data.test_images, data.test_labels)
    return OpenNetwork(network, data, accuracy, asked.out, load_network(asked.out).provenance), dict(outcome.result)
