"""Commands of the loop: demo, fit, train, map, predict, infer."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import typer

from bench.console import Reporter
from bench.stopping import stop_on_signals
from models.cells import Geometry
from models.exceptions import BenchFailure, UserMistake


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


def train_command(name: str, data_name: str, out: Path, seed: int, as_json: bool) -> None:
    """Train a network and save it."""
    from bench.loop import train_network
    from data.datasets import load_dataset

    data = load_dataset(data_name)
    reporter = Reporter(as_json)
    reporter.stage(f"training {name} on {data.name}")
    with stop_on_signals() as stop:
        network = train_network(name, data, seed, out, reporter.step, stop)
    accuracy = network.accuracy(data.test_images, data.test_labels)
    reporter.done(f"{accuracy:.2%} on {len(data.test_labels)} held-out samples")
    values = {"network": name, "data": data.name, "seed": seed, "accuracy": accuracy, "network_file": str(out)}
    table = [("accuracy in software", f"{accuracy:.2%}"), ("network file", str(out))]
    reporter.result(values, table, name)


def map_command(path: Path, rows: int, cols: int, as_json: bool) -> None:
    """How a network is cut into tiles."""
    from bench.mapping import plan_network
    from data.networks import load_network

    plan = plan_network(load_network(path).network, Geometry(rows, cols)).summary()
    table = [
        ("array", f"{rows} x {cols} cells"),
        ("tiles", str(plan["tiles"])),
        ("cells used", str(plan["cells_used"])),
        ("cells left unused", str(plan["cells_wasted"])),
        ("pulses of one programming pass", str(plan["programming_pulses"])),
    ]
    table += [
        (
            f"tile {number + 1}",
            f"layer {tile['layer'] + 1}, outputs {tile['row0']} to {tile['row0'] + tile['rows'] - 1}, "
            f"inputs {tile['col0']} to {tile['col0'] + tile['cols'] - 1}",
        )
        for number, tile in enumerate(plan["placement"])
    ]
    Reporter(as_json).result(plan, table, plan["network"])


def predict_command(
    path: Path, device_file: Path, data_name: str, rows: int, cols: int, seed: int, as_json: bool
) -> None:
    """Accuracy on silicon, predicted from a fitted device file."""
    from bench.loop import predict_silicon
    from data.datasets import load_dataset
    from data.device_files import load_device
    from data.networks import load_network

    network, device, data = load_network(path).network, load_device(device_file), load_dataset(data_name)
    predictions = predict_silicon(network, data, device, Geometry(rows, cols), seed)
    software = network.accuracy(data.test_images, data.test_labels)
    values = {
        "software_accuracy": software,
        "predicted": {
            mode: {"mean": found.mean, "low": found.low, "high": found.high} for mode, found in predictions.items()
        },
    }
    table = [("accuracy in software", f"{software:.2%}")]
    table += [
        (f"predicted for silicon, {mode}", f"{found.mean:.2%} (95 %: {found.low:.2%} to {found.high:.2%})")
        for mode, found in predictions.items()
    ]
    Reporter(as_json).result(values, table, f"{network.name} on {data.name}, {device.name}")


def infer_command(path: Path, data_name: str, source: str, mode: str, out: Path, seed: int, as_json: bool) -> None:
    """Infer a test set on silicon."""
    from bench.inference import inference_procedure
    from bench.procedures.forming import FORMING, QUICK
    from bench.runner import prepare_folder, run
    from bench.session import SIMULATED, open_bench
    from data.datasets import load_dataset
    from data.networks import load_network
    from models.prediction import InferenceMode

    network = load_network(path).network
    data = load_dataset(data_name)
    modes = [choice.value for choice in InferenceMode] if mode == "both" else [mode]
    procedure = inference_procedure(network, data.test_images, data.test_labels)
    try:
        parameters = procedure.parse({"modes": modes})
    except UserMistake:
        raise UserMistake(f"--mode {mode!r}: allowed are host, xnor and both") from None
    prepare_folder(out)
    reporter = Reporter(as_json)
    with stop_on_signals() as stop, open_bench(source, seed) as bench:
        if source == SIMULATED:
            # A simulated chip is fresh from the wafer at every start; one in a laboratory was formed once and for all.
            reporter.stage("forming the simulated chip")
            formed = run(FORMING, QUICK, bench, out, seeds={"seed": seed}, stop=stop).result
            reporter.done(f"{formed['formed']} of {formed['cells']} cells formed")
        reporter.stage("programming tiles and inferring on silicon")
        outcome = run(procedure, parameters, bench, out, seeds={"seed": seed}, on_step=reporter.step, stop=stop)
        reporter.done(f"{outcome.records} records")
    result, errors = outcome.result, outcome.result["bit_errors"]
    table = [
        ("samples", str(result["samples"])),
        ("accuracy in software", f"{result['software_accuracy']:.2%}"),
        *((f"accuracy on silicon, {name}", f"{value:.2%}") for name, value in result["accuracy"].items()),
        ("cells programmed, verified, failed", " / ".join(str(value) for value in result["cells"].values())),
        ("bit errors", f"{errors['raw']} after the first pass, {errors['after_verify']} after verify"),
        ("run file", str(outcome.run_file)),
    ]
    values = {"status": outcome.status, "run_file": str(outcome.run_file), **result}
    reporter.result(values, table, f"{network.name} on {data.name}")
