"""The command ``predict``: for any chip, for chips that are known, and over several chips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.console import Reporter
from bench.stopping import stop_on_signals
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from bench.cli.loop import Examples
    from bench.mapping import Plan
    from data.datasets import Dataset
    from models.integer import IntegerNetwork
    from models.prediction import CountedChip, InferenceMode, PopulationChip, Prediction

    Found = dict[InferenceMode, Prediction]
    Values = dict[str, Any]
    Lines = list[tuple[str, str]]


@dataclass(frozen=True)
class ToPredict:
    """A prediction as it was asked for.

    Attributes:
        benches: bench files, one for each chip; none or one where one chip is in question.
        devices: device files, one for all chips or one for each; none where there are runs.
        runs: characterisations of these very chips; none where there are device files.
        plan: plan file, or None.
        placed: where runs are given, place weights where stuck and weak cells do least harm.
        rows, cols: of the array of any chip, or None for those of the bench.
    """

    benches: tuple[str, ...]
    devices: tuple[Path, ...]
    runs: tuple[Path, ...]
    plan: Path | None
    placed: bool
    rows: int | None
    cols: int | None

    @property
    def of_any_chip(self) -> bool:
        """One device file and an array, on which the network is cut as it comes."""
        return len(self.devices) == 1 and len(self.benches) < 2 and not self.runs and self.plan is None


@dataclass(frozen=True)
class _Chips:
    """What is predicted: a network on chips, with how it is laid on each.

    Attributes:
        about: what is said of each.
    """

    chips: Sequence[CountedChip] | Sequence[PopulationChip]
    parts: Sequence[Plan]
    about: list[dict[str, Any]]


def predict_command(path: Path, examples: Examples, asked: ToPredict, seed: int, as_json: bool) -> None:
    """Accuracy on silicon, predicted from device files or from the measured cells of the chips; no bench is opened."""
    from bench.predicting import STAGE
    from data.networks import load_network

    network, reporter = load_network(path).network, Reporter(as_json)
    data = examples.load_for(network)
    values: dict[str, Any]
    if asked.of_any_chip:
        found, values, lines = _of_any_chip(network, data, asked, seed)
    else:
        chips = _chips_of(network, asked)
        reporter.stage(STAGE)
        found = _on_chips(network, data, chips, seed, reporter)
        values, lines = {"chips": chips.about}, [_line(*each) for each in enumerate(chips.about, start=1)]
    software = network.accuracy(data.test_images, data.test_labels)
    values |= {
        "software_accuracy": software,
        "predicted": {mode.value: one.interval for mode, one in found.items()},
    }
    table = [
        ("accuracy in software", f"{software:.2%}"),
        *((f"predicted for silicon, {mode.value}", str(one)) for mode, one in found.items()),
        *lines,
    ]
    reporter.result(values, table, f"{network.name} on {data.name}")


def _of_any_chip(network: IntegerNetwork, data: Dataset, asked: ToPredict, seed: int) -> tuple[Found, Values, Lines]:
    from bench.predicting import bench_and_array, predict_silicon
    from data.device_files import load_device

    device = load_device(asked.devices[0])
    config, array = bench_and_array(network, asked.benches[0] if asked.benches else None, asked.rows, asked.cols)
    found = predict_silicon(network, data, device, array, seed, config)
    return found, {"array": list(array)}, [("device file", device.name)]


def _chips_of(network: IntegerNetwork, asked: ToPredict) -> _Chips:
    """The chips that runs or several device files tell of; refuses what does not go together."""
    from bench.source import check_apart

    if bool(asked.devices) == bool(asked.runs):
        raise UserMistake("a prediction is made from --device FILE, or from --error-map RUN of these very chips")
    if asked.rows is not None or asked.cols is not None:
        raise UserMistake("--rows and --cols are of one array of any chip, predicted from one --device")
    if len(asked.devices) == 1 and asked.plan is not None and len(asked.benches) < 2:
        raise UserMistake("one --device tells of any chip, and --plan lies on one: predict with --error-map RUN of it")
    if asked.devices and len(asked.benches) < 2:
        raise UserMistake("several --device are of several chips: give the bench of each with --bench")
    check_apart(asked.benches)
    return _measured(network, asked) if asked.runs else _from_files(network, asked)


def _on_chips(network: IntegerNetwork, data: Dataset, on: _Chips, seed: int, reporter: Reporter) -> Found:
    from bench.predicting import MODES, predict, progress_of

    with stop_on_signals() as stop:
        on_draw = progress_of(MODES, reporter.step, stop)
        return predict(network, data.test_images, data.test_labels, on.chips, MODES, seed, on_draw, on.parts)


def _line(number: int, chip: Mapping[str, Any]) -> tuple[str, str]:
    array = "{rows} x {cols}".format(**chip["array"])
    return f"chip {number}", f"{chip['chip_id'] or 'any'}, {array} cells, {chip['tiles']} tiles, {chip['known_by']}"


def _measured(network: IntegerNetwork, asked: ToPredict) -> _Chips:
    """Chips whose cells runs tell of; with several benches each bench file names its chip."""
    from bench.confirming import known_before
    from bench.error_map import error_map, runs_of_chips
    from bench.mapping import plan_network
    from bench.plan_files import load_plan, load_shared_plan
    from bench.predicting import measured_chips
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
    return _Chips(measured_chips(network, parts, [one.chip for one in known]), parts, about)


def _from_files(network: IntegerNetwork, asked: ToPredict) -> _Chips:
    """Any chips like those that device files were fitted to, on the arrays of several benches."""
    from bench.plan_files import load_shared_plan
    from bench.predicting import filed_chips
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
    return _Chips(filed_chips(network, parts, devices, configs), parts, about)


def _about(chip_id: str | None, part: Plan, known_by: str) -> dict[str, Any]:
    return {"chip_id": chip_id, "array": part.array._asdict(), "tiles": len(part.tiles), "known_by": known_by}
