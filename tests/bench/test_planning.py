"""The dry run: what it counts is what the run does, and what the run would be refused for it refuses first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bench.boards
import bench.instruments
import bench.planning
from bench.cells import parse_cells
from bench.config import BenchFile
from bench.jobs import QUICK_S
from bench.planning import PlanFailed, plan
from bench.procedure import CellMask, Parameters, Procedure, Progress, Record, SetTemperature, Steps, Wait
from bench.procedures import PROCEDURES
from bench.runner import run
from bench.session import Bench
from bench.source import at_points, bench_config
from data.runs import Run, open_run
from drivers.chip import Chip, OperationKind
from models.exceptions import UserMistake

PER_DEVICE = {"FORM", "SET", "RESET", "WEAK_RESET", "CYCLE", "RESISTANCE"}


@pytest.fixture(autouse=True)
def _nothing_is_opened(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if "bench" in request.fixturenames:
        return

    def refuse(*_: object) -> None:
        raise AssertionError("a dry run opened something")

    for module, name in (
        (bench.instruments, "open_visa"),
        (bench.boards, "open_framed"),
        (bench.boards, "open_c2n"),
    ):
        monkeypatch.setattr(module, name, refuse)


@pytest.fixture
def config() -> BenchFile:
    return bench_config("simulated")


def procedure_of(steps: Callable[[Chip, Parameters, CellMask], Steps]) -> Procedure:
    return Procedure("tried", "for a test", Parameters, (), steps)


def operations(run_: Run) -> Counter[str]:
    """How much of each kind a run recorded, as a plan counts it."""
    table = run_.read("operations", ["kind", "count", "devices"])
    found: Counter[str] = Counter()
    for kind, count, devices in zip(*table.values(), strict=True):
        name = OperationKind(kind).name
        found[name] += int(count) * (int(devices.sum()) if name in PER_DEVICE else 1)
    return found


@pytest.mark.parametrize("name", list(PROCEDURES))
def test_every_procedure_can_be_planned_with_its_defaults(name: str, config: BenchFile) -> None:
    procedure = PROCEDURES[name]
    # a device fit needs more devices than 16 cells have
    cells = "0:8,0:8" if name == "characterise" else "0:4,0:4"
    found = plan(procedure, procedure.parse({}), config, parse_cells(cells, config.geometry))
    json.dumps(found.as_plain(), allow_nan=False)
    assert found.complete
    assert 0.0 < found.seconds.low <= found.seconds.high < 600.0
    assert found.kinds
    assert found.records.low > 0
    for rail, volts in found.highest_v.items():
        assert 0.0 < volts <= getattr(config.limits, rail)[1]
    assert "highest voltages" in dict(found.table())
    assert "<table>" in found._repr_html_()


@pytest.mark.parametrize("name", ["read", "resistance", "amplifiers"])
def test_what_does_not_depend_on_the_array_is_counted_exactly(name: str, bench: Bench, tmp_path: Path) -> None:
    procedure, cells = PROCEDURES[name], parse_cells("0:4,0:4", bench.config.geometry)
    parameters = procedure.parse({})
    found = plan(procedure, parameters, bench.config, cells)
    outcome = run(procedure, parameters, bench, tmp_path, cells=cells)
    assert {kind: (count, count) for kind, count in operations(open_run(outcome.run_file)).items()} == found.kinds
    assert found.records == (outcome.records, outcome.records)


@pytest.mark.parametrize("name", ["forming", "program", "weak-reset"])
def test_what_depends_on_the_array_lies_within_the_plan(name: str, bench: Bench, tmp_path: Path) -> None:
    procedure, cells = PROCEDURES[name], parse_cells("0:4,0:4", bench.config.geometry)
    parameters = procedure.parse({})
    found = plan(procedure, parameters, bench.config, cells)
    outcome = run(procedure, parameters, bench, tmp_path, cells=cells)
    for kind, count in operations(open_run(outcome.run_file)).items():
        low, high = found.kinds[kind]
        assert low <= count <= high, kind
    assert found.records.low <= outcome.records <= found.records.high
    assert outcome.run_file.stat().st_size > 0


def test_an_array_that_never_obeys_costs_all_attempts(config: BenchFile) -> None:
    procedure = PROCEDURES["program"]
    found = plan(procedure, procedure.parse({"attempts": 7}), config, parse_cells("0:2,0:2", config.geometry))
    assert found.senses == (1, 7)
    assert found.pulses == (8, 56)
    assert found.energy_j.high == pytest.approx(7 * found.energy_j.low)


def test_a_voltage_beyond_the_limits_is_found_before_anything_is_opened(config: BenchFile) -> None:
    def steps(chip: Chip, _: Parameters, cells: CellMask) -> Steps:
        yield Progress(0, 1, "trying")
        chip.set(np.ones((*chip.geometry, 2), dtype=bool))
        from dataclasses import replace

        point = replace(chip.points.set, rails=chip.points.set.rails._replace(vddc_v=5.5))
        chip.at(replace(chip.points, set=point)).set(np.ones((*chip.geometry, 2), dtype=bool))
        return {}

    with pytest.raises(UserMistake, match=r"tried: .*5\.5 V.*limits\.vddc_v"):
        plan(procedure_of(steps), Parameters(), config)


@pytest.mark.parametrize(
    ("width_s", "count", "named"), [(1.0, 1, "limits.pulse_width_s"), (1e-6, 200_000, "limits.pulse_count")]
)
def test_pulses_beyond_the_limits_are_found(width_s: float, count: int, named: str, config: BenchFile) -> None:
    def steps(chip: Chip, _: Parameters, cells: CellMask) -> Steps:
        from dataclasses import replace

        yield Progress(0, 1, "trying")
        other = chip.at(replace(chip.points, set=replace(chip.points.set, width_s=width_s)))
        other.set(np.ones((*chip.geometry, 2), dtype=bool), count)
        return {}

    with pytest.raises(UserMistake, match=named):
        plan(procedure_of(steps), Parameters(), config)


def test_a_sweep_beyond_the_limits_is_found(config: BenchFile) -> None:
    def steps(chip: Chip, _: Parameters, cells: CellMask) -> Steps:
        from models.cells import Device

        yield Progress(0, 1, "trying")
        chip.sweep(0, 0, Device.BL, [0.1, 0.9], 1e-3)
        return {}

    with pytest.raises(UserMistake, match=r"0\.9 V.*limits\.smu_voltage_v"):
        plan(procedure_of(steps), Parameters(), config)


def test_a_temperature_needs_a_source_and_its_limits(config: BenchFile) -> None:
    def steps(chip: Chip, _: Parameters, cells: CellMask) -> Steps:
        reading = yield SetTemperature(200.0)
        return {"air_c": reading.air_c}

    with pytest.raises(UserMistake, match=r"200.*limits\.temperature_c"):
        plan(procedure_of(steps), Parameters(), config)
    without = config.model_copy(update={"temperature": None})
    with pytest.raises(UserMistake, match="no temperature source"):
        plan(procedure_of(steps), Parameters(), without)


def test_waits_are_counted_and_not_waited(config: BenchFile) -> None:
    def steps(chip: Chip, _: Parameters, cells: CellMask) -> Steps:
        passed = yield Wait(86_400.0, "storage")
        return {"passed_s": passed}

    real = config.model_copy(update={"simulated": False})
    assert plan(procedure_of(steps), Parameters(), real).seconds.low > 86_400.0
    simulated = plan(procedure_of(steps), Parameters(), config)
    assert simulated.waiting_s == (86_400.0, 86_400.0)
    assert simulated.seconds.high < 60.0  # its world's clock runs on by itself


def test_the_time_that_rails_settle_is_counted(config: BenchFile) -> None:
    procedure = PROCEDURES["program"]
    slow = config.model_copy(update={"supply": config.supply.model_copy(update={"settle_s": 0.6})})
    quick, found = (plan(procedure, procedure.parse({"attempts": 1}), one) for one in (config, slow))
    assert found.rail_moves == quick.rail_moves
    assert found.seconds.low - quick.seconds.low == pytest.approx(0.6 * found.rail_moves.low)


def test_what_never_ends_is_cut_short_and_says_so(config: BenchFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.planning, "MOST_EVENTS", 500)

    def steps(chip: Chip, _: Parameters, cells: CellMask) -> Steps:
        while True:
            yield Progress(0, 1, "for ever")
            chip.read()

    found = plan(procedure_of(steps), Parameters(), config)
    assert not found.complete
    assert "endless" in found.notes[0]


def test_a_long_procedure_is_scaled_up_from_its_beginning(config: BenchFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.planning, "MOST_EVENTS", 500)

    def steps(chip: Chip, _: Parameters, cells: CellMask) -> Steps:
        for done in range(10_000):
            yield Progress(done, 10_000, "sensing")
            chip.read()
        return {}

    found = plan(procedure_of(steps), Parameters(), config)
    assert not found.complete
    assert found.senses.low == pytest.approx(10_000, rel=0.02)  # the first sense comes before the first progress


def test_a_record_that_the_run_file_would_refuse_is_found(config: BenchFile) -> None:
    def steps(chip: Chip, _: Parameters, cells: CellMask) -> Steps:
        yield Record("nowhere", {"value": 1})
        return {}

    with pytest.raises(UserMistake, match="nowhere"):
        plan(procedure_of(steps), Parameters(), config)


def test_a_procedure_that_breaks_down_is_no_mistake_of_the_parameters(config: BenchFile) -> None:
    def steps(chip: Chip, _: Parameters, cells: CellMask) -> Steps:
        yield Progress(0, 1, "breaking")
        raise ZeroDivisionError("float division by zero")

    with pytest.raises(PlanFailed, match="ZeroDivisionError"):
        plan(procedure_of(steps), Parameters(), config)


def test_operating_points_change_inside_the_limits_only(config: BenchFile) -> None:
    assert at_points(config, {"SET.vddc_v": 3.3}).points.set.rails.vddc_v == 3.3
    assert at_points(config, {}) == config
    for overrides, named in (
        ({"SET.vddc_v": 9.0}, r"limits\.vddc_v"),
        ({"SETT.vddc_v": 3.0}, "FORM, SET"),
        ({"SET.volts": 3.0}, "vddc_v"),
    ):
        with pytest.raises(UserMistake, match=named):
            at_points(config, overrides)


@pytest.mark.parametrize(
    ("name", "settings", "named"),
    [
        ("weak-reset", {"voltages_v": "1.0,6.0", "pulses": "100000", "read_every": "1"}, "6 V"),
        ("bit-error", {"reset_vddc_v": "4.0,4.5,5.5", "patterns": "1000"}, "5.5 V"),
        ("bit-error", {"window_s": "5e-6,1e-3", "patterns": "1000"}, "0.001 s"),
        ("shmoo", {"vdd_v": "1.0,1.1,1.6", "windows": "500", "repeats": "1000"}, "1.6 V"),
        ("forming", {"stop_v": "6"}, "vddc_v"),
        ("read-disturb", {"vdd_v": "2"}, "2 V"),
        ("retention", {"temperature_c": "200"}, "200 degC"),
    ],
)
def test_limits_that_a_long_run_meets_late_are_found_at_once(
    name: str, settings: dict[str, str], named: str, config: BenchFile
) -> None:
    procedure = PROCEDURES[name]
    with pytest.raises(UserMistake, match=named) as caught:
        plan(procedure, procedure.parse(settings), config, None, QUICK_S)
    assert str(caught.value).count(f"{name}:") == 1


def test_a_few_cells_that_are_too_few_are_no_reason_to_refuse(config: BenchFile) -> None:
    def picky(chip: Chip, parameters: Parameters, cells: CellMask) -> Steps:
        if cells.sum() < 10:
            raise UserMistake("too few cells")
        for done in range(10**9):
            yield Progress(done, 10**9, "")
        return {}

    assert not plan(procedure_of(picky), Parameters(), config, None, 0.1).complete


def test_a_mistake_names_its_procedure_once(config: BenchFile) -> None:
    procedure = PROCEDURES["forming"]
    with pytest.raises(UserMistake, match="^forming: the ramp starts at 4 V"):
        plan(procedure, procedure.parse({"start_v": "4", "stop_v": "3"}), config)
