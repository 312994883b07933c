"""Commands of the loop: demo, fit, train."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bench.console import Reporter
from bench.stopping import stop_on_signals
from models.exceptions import BenchFailure, UserMistake
from models.processes import launched, together

if TYPE_CHECKING:
    from data.datasets import Dataset
    from models.integer import IntegerNetwork


@dataclass(frozen=True)
class Examples:
    """The data set that a person asked for.

    Attributes:
        name: of the data set.
        folder: of data sets; None for that of RRAM_BENCH_DATA.
        samples: only so many of the test set, or None for all.
    """

    name: str
    folder: Path | None
    samples: int | None = None

    def load(self) -> Dataset:
        """Read it, with the split that every command takes."""
        from data.datasets import load_dataset

        return load_dataset(self.name, self.folder).first_tests(self.samples)

    def load_for(self, network: IntegerNetwork) -> Dataset:
        """The same, found to be what the network takes.

        Raises:
            UserMistake: its images have another number of features.
        """
        data = self.load()
        if (features := data.test_images.shape[1]) != (wanted := network.encoding.features):
            raise UserMistake(
                f"data set {data.name} has {features} features, and the network {network.name} takes {wanted}: name "
                "the data that it was trained on with --data"
            )
        return data


def demo_command(seed: int, source: str, out: Path | None, as_json: bool) -> None:
    """The whole loop; prints a short table and where everything lies."""
    from bench.demo import run_demo

    folder = Path("runs") / f"demo-{datetime.now():%Y%m%d-%H%M%S}" if out is None else out
    reporter = Reporter(as_json)
    with stop_on_signals() as stop:
        result = run_demo(seed, source, folder, reporter, stop)
    cells, errors, predicted = result["cells"], result["bit_errors"], result["predicted_accuracy"]
    silicon = result["silicon_accuracy"]
    table = [
        ("accuracy in software", f"{result['software_accuracy']:.2%}"),
        (
            "accuracy predicted for silicon (95 %)",
            f"{predicted['mean']:.2%} ({predicted['low']:.2%} to {predicted['high']:.2%})",
        ),
        ("accuracy on silicon, sums by the host", f"{silicon['host']:.2%}"),
        ("accuracy on silicon, XNOR in the array", f"{silicon['xnor']:.2%}"),
        ("cells formed", f"{cells['formed']} of {cells['total']}"),
        ("cells programmed", f"{cells['programmed']} (verified {cells['verified']}, failed {cells['failed']})"),
        ("bit errors", f"{errors['raw']} after the first pass, {errors['after_verify']} after verify"),
    ]
    reporter.result(result, table, f"loop with seed {seed}")
    if not as_json:
        print(f"run file  {result['run_file']}\npicture   {result['picture']}\nfolder    {result['folder']}")


def fit_device_command(run_file: Path, out: Path, as_json: bool) -> None:
    """Fit a characterisation and write the device file."""
    from bench.loop import fit_characterisation

    fitted = fit_characterisation(run_file, out)
    values: dict[str, Any] = {
        "device_file": str(out),
        "converged": fitted.converged,
        "parameters": fitted.parameters,
        "report": fitted.report,
    }
    lines = [
        (name, f"{entry['value']:.5g} ({entry['low']:.5g} to {entry['high']:.5g}) {entry['unit']}")
        for name, entry in fitted.parameters.items()
    ]
    reporter = Reporter(as_json)
    for line in fitted.report:
        reporter.note(line)
    reporter.result(values, [*lines, ("device file", str(out))], f"fit of {run_file.name}, 95 % intervals")
    if not fitted.converged:
        raise typer.Exit(BenchFailure.exit_status)


def train_command(
    name: str, examples: Examples, epochs: int, out: Path, seed: int, device: Path | None, as_json: bool
) -> None:
    """Train a network and save it; processes of torchrun share the training."""
    from bench.loop import train_network
    from data.device_files import load_device

    data, fitted = examples.load(), None if device is None else load_device(device)
    reporter = Reporter(as_json)
    reporter.stage(f"training {name} on {data.name}")
    with together(launched()), stop_on_signals() as stop:
        network = train_network(name, data, seed, out, reporter.step, stop, epochs, fitted)
    accuracy = network.accuracy(data.test_images, data.test_labels)
    reporter.done(f"{accuracy:.2%} on {len(data.test_labels)} held-out samples")
    values = {"network": name, "data": data.name, "seed": seed, "accuracy": accuracy, "network_file": str(out)}
    table = [("accuracy in software", f"{accuracy:.2%}"), ("network file", str(out))]
    reporter.result(values, table, name)
