"""The commands with a chip in the loop: tune, learn."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.on_bench import OnBench
from bench.cli.options import (
    AtOption,
    BenchOption,
    DataDirOption,
    DataOption,
    JsonOption,
    NetworkArgument,
    OutFolder,
    SeedOption,
    SettingsOption,
    given,
    one_bench,
    parse_settings,
)
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from bench.inference import Task
    from bench.mapping import Plan
    from bench.procedure import Procedure
    from bench.runner import RunResult
    from data.networks import NetworkFile
    from data.runs import Run
    from drivers.chip import Chip
    from models.integer import IntegerNetwork

SamplesOption = Annotated[
    int | None, typer.Option("--samples", min=1, help="Training samples to use, the first of the set; all by default.")
]
RUNS = Path("runs")


def tune_command(
    network: NetworkArgument,
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    bench: BenchOption = None,
    settings: SettingsOption = None,
    at: AtOption = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="How the network is laid on the array.")
    ] = None,
    samples: SamplesOption = None,
    save: Annotated[Path, typer.Option("--save", metavar="FILE", help="Network file to write.")] = Path(
        "tuned.safetensors"
    ),
    out: OutFolder = RUNS,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Fit thresholds and offsets of a network to the sums that this very chip gives."""
    from bench.plan_files import load_plan
    from bench.source import parse_overrides
    from bench.tuning import tuned_network, tuning_procedure
    from data.runs import open_run

    job = _Job(network, OnBench(one_bench(bench, "tune"), out, seed, at=parse_overrides(given(at))), save, as_json)
    training, held_out = job.tasks(data, data_dir, samples, None if plan is None else load_plan(plan))
    procedure = tuning_procedure(training, held_out)
    outcome = job.run(procedure, parse_settings(settings), training.plan_for)
    tuned = tuned_network(training.network, open_run(outcome.run_file))
    job.save(tuned, outcome, "tuned_from")
    result, held = outcome.result, outcome.result["held_out_accuracy"]
    table = [
        ("training samples", str(result["training_samples"])),
        *((f"held-out accuracy, {name}", f"{held[name]:.2%}") for name in ("software", "untuned", "tuned")),
        *(
            (
                f"layer {layer['layer'] + 1}, {layer['kind']}",
                f"{layer['changed']} of {layer['rows']} rows changed, agreement {layer['agreement_before']:.2%} "
                f"to {layer['agreement']:.2%}",
            )
            for layer in result["layers"]
        ),
    ]
    job.show(outcome, table, f"{tuned.name} tuned on {data}")


def learn_command(
    network: NetworkArgument,
    data: DataOption = "digits",
    data_dir: DataDirOption = None,
    bench: BenchOption = None,
    settings: SettingsOption = None,
    at: AtOption = None,
    samples: SamplesOption = None,
    save: Annotated[Path, typer.Option("--save", metavar="FILE", help="Network file to write.")] = Path(
        "learned.safetensors"
    ),
    out: OutFolder = RUNS,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Run that ended early; the chip goes on as it is.")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Learn the last layer of a network on the chip, by weak RESETs of its device pairs."""
    from bench.learning import learned_network, learning_procedure
    from bench.learning_blocks import blocks_for
    from bench.source import parse_overrides, points_of
    from data.runs import open_run

    source, earlier = one_bench(bench, "learn"), None if resume is None else open_run(resume)
    wanted: dict[str, Any] = dict(parse_settings(settings))
    overrides = parse_overrides(given(at))
    if earlier is not None:
        if wanted or overrides:
            raise UserMistake(f"--resume takes everything from {resume}; leave --set and --at out")
        if OnBench(source, out, seed).simulated:
            raise UserMistake(
                "--resume goes on with the chip as it stands, and 'simulated' starts a fresh one; "
                "keep one running with rram-bench simulate, and name its bench file"
            )
        wanted, overrides = json.loads(str(earlier.attributes["parameters"])), points_of(earlier)
    job = _Job(network, OnBench(source, out, seed, at=overrides), save, as_json)
    training, held_out = job.tasks(data, data_dir, samples, None)
    procedure = learning_procedure(training, held_out)
    last = training.network.layers[-1]
    outcome = job.run(procedure, wanted, lambda chip: blocks_for(last.outputs, last.inputs, chip.geometry), earlier)
    learned = learned_network(training.network, open_run(outcome.run_file))
    job.save(learned, outcome, "learned_from")
    result, pulses = outcome.result, outcome.result["weak_resets_of_a_device"]
    table = [
        ("training samples", str(result["training_samples"])),
        ("held-out accuracy by epoch", ", ".join(f"{accuracy:.2%}" for accuracy in result["accuracies"])),
        ("weak RESETs of a device", f"{pulses['mean']:.0f} on average, {pulses['most']} at most"),
        ("SETs", str(result["sets"])),
    ]
    job.show(outcome, table, f"last layer of {learned.name} learned on {data}")


@dataclass
class _Job:
    """What both commands do: read, check, run, save, show."""

    path: Path
    on: OnBench
    to: Path
    as_json: bool

    def __post_init__(self) -> None:
        from bench.console import Reporter

        self._reporter = Reporter(self.as_json)
        self._file = self._load()

    def _load(self) -> NetworkFile:
        from data.atomic import check_writable
        from data.networks import load_network

        if self.to.exists() and self.path.exists() and self.to.samefile(self.path):
            raise UserMistake(f"--save {self.to} is the network itself, which would be lost; name another file")
        check_writable(self.to, "network file")
        return load_network(self.path)

    def tasks(self, data: str, folder: Path | None, samples: int | None, plan: Plan | None) -> tuple[Task, Task]:
        """Training and held-out samples of a data set."""
        from bench.cli.loop import Examples
        from bench.inference import inference_task

        self._data = Examples(data, folder, None).load_for(self._file.network)
        network, images, labels = self._file.network, self._data.train_images, self._data.train_labels
        training = inference_task(network, images[:samples], labels[:samples], plan)
        return training, inference_task(network, self._data.test_images, self._data.test_labels, plan)

    def run(
        self,
        procedure: Procedure,
        settings: Mapping[str, Any],
        check: Callable[[Chip], object],
        earlier: Run | None = None,
    ) -> RunResult:
        """Run it on the bench; a simulated chip is formed first, after ``check`` had nothing against it."""
        parameters = procedure.parse(settings)
        with self.on.open(self._reporter) as runs:
            check(runs.bench.chip)
            if self.on.fresh:
                runs.form()
            outcome = runs.run(procedure.summary, procedure, parameters, earlier)
        self._reporter.done(f"{outcome.records} records")
        return outcome

    def save(self, network: IntegerNetwork, outcome: RunResult, how: str) -> None:
        """Write the network with where it came from: the chip and the run, and what the first one came from."""
        from bench.made_networks import save_made

        save_made(self.to, network, how, self._file, outcome.run_file, self._data.name, self.on.seed)

    def show(self, outcome: RunResult, table: list[tuple[str, str]], title: str) -> None:
        """The result, for people or as JSON."""
        values = {
            "status": outcome.status,
            "run_file": str(outcome.run_file),
            "network_file": str(self.to),
            **outcome.result,
        }
        paths = [("network file", str(self.to)), ("run file", str(outcome.run_file))]
        self._reporter.result(values, [*table, *paths], title)
