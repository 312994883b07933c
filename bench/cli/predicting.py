"""The command ``predict`` for chips that are known, and over several chips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.console import Reporter
from bench.procedure import Progress
from bench.stopping import stop_on_signals
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from bench.cli.loop import Examples
    from bench.config import BenchFile
    from bench.confirming import Known
    from bench.mapping import Plan
    from data.device_files import DeviceFile
    from models.integer import IntegerNetwork


@dataclass(frozen=True)
class ToForetell:
    """A prediction of known chips, or over several, as it was asked for.

    Attributes:
        benches: bench files, one for each chip; none or one where the runs are of one chip.
        devices: device files, one for all chips or one for each; none where there are runs.
        runs: characterisations of these very chips; none where there are device files.
        plan: plan file, or None.
        placed: where runs are given, place weights where stuck and weak cells do least harm.
        sized: rows or columns of the array were given.
    """

    benches: tuple[str, ...]
    devices: tuple[Path, ...]
    runs: tuple[Path, ...]
    plan: Path | None
    placed: bool
    sized: bool


@dataclass(frozen=True)
class _Chips:
    """What is predicted: parts of the network, each on a chip, of which a file or its own cells tell.

    Attributes:
        about: what is said of each.
    """

    parts: Sequence[Plan]
    about: list[dict[str, Any]]
    devices: Sequence[DeviceFile] = ()
    configs: Sequence[BenchFile] = ()
    known: Sequence[Known] = ()


def foretell_command(path: Path, examples: Examples, asked: ToForetell, seed: int, as_json: bool) -> None:
    """Accuracy on silicon, predicted from the measured cells of the chips or from device files; no bench is opened."""
    from bench.loop import PREDICTION_DRAWS
    from bench.predicting import predict_from_files, predict_measured
    from bench.source import check_apart
    from data.networks import load_network
    from models.prediction import InferenceMode

    network, data = load_network(path).network, examples.load()
    if bool(asked.devices) == bool(asked.runs):
        raise UserMistake("a prediction is made from --device FILE, or from --error-map RUN of these very chips")
    if asked.sized:
        raise UserMistake("--rows and --cols are of one array of any chip, predicted from one --device")
    if asked.devices and len(asked.benches) < 2:
        raise UserMistake("several --device, and --plan, are of several chips: give the bench of each with --bench")
    check_apart(asked.benches)
    chips = _measured(network, asked) if asked.runs else _from_files(network, asked)
    reporter, text = Reporter(as_json), "predicting the accuracy on silicon"
    reporter.stage(text)
    ways = (InferenceMode.HOST, InferenceMode.XNOR)
    subject = network, data.test_images, data.test_labels, chips.parts
    with stop_on_signals() as stop:

        def on_draw(done: int) -> None:
            stop.check()
            reporter.step(Progress(done, PREDICTION_DRAWS * len(ways), text))

        if chips.known:
            found = predict_measured(*subject, [one.chip for one in chips.known], ways, seed, on_draw)
        else:
            found = predict_from_files(*subject, chips.devices, chips.configs, ways, seed, on_draw)
    software = network.accuracy(data.test_images, data.test_labels)
    predicted = {mode.value: {"mean": one.mean, "low": one.low, "high": one.high} for mode, one in found.items()}
    lines = [("accuracy in software", f"{software:.2%}")]
    lines += [
        (f"predicted for silicon, {mode.value}", f"{one.mean:.2%} (95 %: {one.low:.2%} to {one.high:.2%})")
        for mode, one in found.items()
    ]
    for number, chip in enumerate(chips.about, start=1):
        array = "{rows} x {cols}".format(**chip["array"])
        lines.append(
            (f"chip {number}", f"{chip['chip_id'] or 'any'}, {array} cells, {chip['tiles']} tiles, {chip['known_by']}")
        )
    values = {"software_accuracy": software, "predicted": predicted, "chips": chips.about}
    reporter.result(values, lines, f"{network.name} on {data.name}")


def _measured(network: IntegerNetwork, asked: ToForetell) -> _Chips:
    """Chips whose cells runs tell of; with several benches each bench file names its chip."""
    from bench.confirming import known_before
    from bench.error_map import error_map, runs_of_chips
    from bench.mapping import plan_network
    from bench.plan_files import load_plan, load_shared_plan
    from bench.several_chips import plan_on_chips
    from bench.source import bench_config
    from data.runs import open_run

    configs = [bench_config(bench) for bench in asked.benches]
    if len(configs) < 2:
        cells = error_map([open_run(run) for run in asked.runs])
        for config in configs:
            cells.check(config.geometry, config.chip.id)
        known = [known_before(network, asked.runs, cells.geometry, cells.chip_id)]
        plan = plan_network(network, cells.geometry, cells if asked.placed else None)
        if asked.plan is not None:
            plan = load_plan(asked.plan)
            plan.check(network, cells.geometry, cells.chip_id)
        of_chips, parts = [list(asked.runs)], [plan]
    else:
        ids = [config.chip.id for config in configs]
        of_chips = runs_of_chips(asked.runs, ids, "the bench files name", "; each names its chip as id in [chip]")
        known = []
        for bench, config, own in zip(asked.benches, configs, of_chips, strict=True):
            if not own:
                raise UserMistake(
                    f"no --error-map is of the chip of {bench}, {config.chip.id or 'which it does not name'}"
                )
            known.append(known_before(network, own, config.geometry, str(config.chip.id)))
        maps = [one.cells for one in known] if asked.placed else None
        arrays = [config.geometry for config in configs]
        shared = plan_on_chips(network, arrays, maps) if asked.plan is None else load_shared_plan(asked.plan)
        parts = shared.for_chips(network, [(one.cells.geometry, one.cells.chip_id) for one in known])
    about = [
        _about(one.cells.chip_id, part, ", ".join(run.name for run in own))
        for one, part, own in zip(known, parts, of_chips, strict=True)
    ]
    return _Chips(parts, about, known=known)


def _from_files(network: IntegerNetwork, asked: ToForetell) -> _Chips:
    """Any chips like those that device files were fitted to, on the arrays of several benches."""
    from bench.plan_files import load_shared_plan
    from bench.several_chips import plan_on_chips
    from bench.source import bench_config
    from data.device_files import load_device

    if len(asked.devices) not in (1, len(asked.benches)):
        raise UserMistake(f"{len(asked.devices)} device files for {len(asked.benches)} benches; give one, or one each")
    files = {path: load_device(path) for path in asked.devices}
    paths = asked.devices if len(asked.devices) > 1 else asked.devices * len(asked.benches)
    devices = [files[path] for path in paths]
    configs = [bench_config(bench) for bench in asked.benches]
    arrays = [config.geometry for config in configs]
    shared = plan_on_chips(network, arrays) if asked.plan is None else load_shared_plan(asked.plan)
    names = [config.chip.id or f"of {bench}" for config, bench in zip(configs, asked.benches, strict=True)]
    parts = shared.for_chips(network, list(zip(arrays, names, strict=True)))
    about = [_about(part.chip_id, part, device.name) for part, device in zip(parts, devices, strict=True)]
    return _Chips(parts, about, devices=devices, configs=configs)


def _about(chip_id: str | None, part: Plan, known_by: str) -> dict[str, Any]:
    return {"chip_id": chip_id, "array": part.array._asdict(), "tiles": len(part.tiles), "known_by": known_by}
