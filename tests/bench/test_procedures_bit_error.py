"""The bit-error map: what it counts is what the chip's hidden resistances imply, at every condition."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.procedure import ReadTemperature, Record, SetTemperature, Step
from bench.procedures.bit_error import BIT_ERROR, BitErrorParameters, random_weights
from bench.procedures.conditions import AXES, conditions
from bench.procedures.error_rates import ErrorCounts
from bench.runner import run
from bench.session import Bench
from bench.stopping import Stopped, StopToken
from calibration.bit_errors import clustered_rate
from data.runs import Run, open_run
from drivers.chip import OperationKind
from drivers.simulated.bench import SimulatedBench
from drivers.temperature_role import TemperatureReading
from models.cells import cell_mask_to_devices
from models.errors import LogNormal, Populations, ternary, two_t2r
from models.exceptions import UserMistake


class Spy:
    """Looks at the hidden resistances whenever the procedure records what it read."""

    def __init__(self, world: SimulatedBench) -> None:
        self._world = world
        self.ohms: list[np.ndarray] = []

    def __call__(self, step: Step) -> None:
        if isinstance(step, Record) and step.table == "bit_errors":
            self.ohms.append(self._world.chip.resistance_ohm)


def counted(
    bench: Bench, world: SimulatedBench, folder: Path, cells: np.ndarray | None = None, **settings: Any
) -> tuple[dict[str, Any], Run, list[np.ndarray]]:
    """Form the cells, count; summary, run file, and the hidden resistances ``(rows, cols, 2)`` of each pattern."""
    everything = np.ones(bench.config.geometry, dtype=bool)
    bench.chip.form(cell_mask_to_devices(everything if cells is None else cells), 3)
    spy = Spy(world)
    parameters = BIT_ERROR.parse({"form_virgin": False, **settings})
    outcome = run(BIT_ERROR, parameters, bench, folder, cells=cells, on_step=spy)
    return outcome.result, open_run(outcome.run_file), spy.ohms


def corner(bench: Bench, rows: int = 6, cols: int = 6) -> np.ndarray:
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[:rows, :cols] = True
    return cells


def test_every_error_is_in_the_hidden_resistances_and_the_rate_is_that_of_their_populations(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    # a low compliance and a weak RESET: the populations overlap, and errors are common
    settings = {"set_vddr_v": "2.56", "reset_vddc_v": "3.83", "patterns": 3, "repeats": 2}
    result, stored, ohms = counted(bench, world, tmp_path, **settings)
    rows = stored.read("bit_errors")
    target, sensed = (rows[name].reshape(3, 2, 32, 32) for name in ("target", "sensed"))
    sense = world.chip.model.sense
    log_ratio = np.log([ohm[..., 0] / ohm[..., 1] for ohm in ohms])
    # beyond six standard deviations of offset and noise the order of the two resistances decides alone
    sure = np.abs(log_ratio) > 6.0 * math.hypot(sense.offset_sigma, sense.noise_sigma)
    assert sure.mean() > 0.8
    for repeat in range(2):
        np.testing.assert_array_equal(sensed[:, repeat][sure], np.sign(log_ratio)[sure])

    low = np.stack([target[:, 0] == -1, target[:, 0] == 1], axis=-1)
    hidden = np.stack(ohms)
    lrs, hrs = np.log(hidden[low]), np.log(hidden[~low])
    spread = {name: 1.4826 * np.median(np.abs(logs - np.median(logs))) for name, logs in (("lrs", lrs), ("hrs", hrs))}
    populations = Populations(
        LogNormal(float(np.exp(np.median(lrs))), spread["lrs"]), LogNormal(float(np.exp(np.median(hrs))), spread["hrs"])
    )
    implied = two_t2r(populations, sense.offset_sigma, sense.noise_sigma)
    found = result["errors"]
    assert found["errors"] == int((sensed != target[:, :1].repeat(2, axis=1)).sum())
    assert found["trials"] == 3 * 2 * 1024
    assert implied > 2e-3
    assert found["low"] < implied < found["high"]  # the 95 % interval of this seed


def test_weaker_programming_makes_more_errors(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    result, stored, _ = counted(bench, world, tmp_path, set_vddr_v="3.0,2.6", reset_vddc_v="4.5,3.9", repeats=1)
    rates = {(one["set_vddr_v"], one["reset_vddc_v"]): one["errors"]["errors"] for one in result["conditions"]}
    assert len(rates) == 4
    assert rates[3.0, 4.5] < rates[3.0, 3.9] < rates[2.6, 3.9]
    assert rates[3.0, 4.5] < rates[2.6, 4.5] < rates[2.6, 3.9]
    rows = stored.read("conditions")
    assert list(zip(rows["set_vddr_v"], rows["reset_vddc_v"], strict=True)) == list(rates)
    # what does not vary is in the record, too
    assert set(rows["sense_vdd_v"]) == {1.2}
    assert set(rows["reset_vddr_v"]) == {5.0}
    assert set(rows["set_width_s"]) == {10e-6}
    assert set(rows["window_s"]) == {5e-6}
    assert np.isnan(rows["asked_temperature_c"]).all()
    # one pass and no more: each pattern is one SET, one RESET and its senses
    kinds = stored.read("operations", ["kind"])["kind"]
    assert (kinds == OperationKind.RESET).sum() == 4 * 4


def test_ternary_errors_come_apart_by_type_as_the_model_implies(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    window_s = 30e-9
    result, _, _ = counted(bench, world, tmp_path, weights="ternary", window_s=str(window_s), patterns=6, repeats=2)
    implied = ternary(world.chip.model, 1.2, window_s)
    assert result["type3"]["trials"] + result["type1"]["trials"] == result["errors"]["trials"] == 6 * 2 * 1024
    # the intervals are those of one chip: its devices and amplifiers are drawn once, which widens them by half
    for name in ("type1", "type2", "type3"):
        low, high = result[name]["low"], result[name]["high"]
        middle, half = 0.5 * (low + high), 0.75 * (high - low)
        assert middle - half <= getattr(implied, name) <= middle + half, name
    assert result["type3"]["errors"] > 100
    total = sum(result[name]["errors"] for name in ("type1", "type2", "type3"))
    assert result["errors"]["errors"] == total


def test_without_an_error_the_summary_gives_a_bound_and_no_rate(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    result, stored, _ = counted(bench, world, tmp_path, corner(bench, 4, 4))
    assert result["errors"]["errors"] == 0
    assert result["errors"]["rate"] is None
    assert 0.0 < result["errors"]["high"] < 0.2
    assert "below" in result["bit_error_rate"]
    assert "type3" not in result  # a binary pattern has no zero to read wrong
    json.dumps(result)
    assert stored.result == result


def test_resistances_judge_single_devices(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    settings = {"set_vddr_v": "2.6", "reset_vddc_v": "3.9", "resistances": True, "patterns": 2, "repeats": 1}
    result, stored, ohms = counted(bench, world, tmp_path, corner(bench, 16, 16), **settings)
    found = result["conditions"][0]["resistances"]
    hidden = np.stack(ohms)[:, :16, :16]
    target = stored.read("bit_errors")["target"][:, :16, :16]
    low = np.stack([target == -1, target == 1], axis=-1)
    wrong = np.where(low, hidden > found["threshold_ohm"], hidden < found["threshold_ohm"])
    # the meter's reading fluctuates by some per cent, which moves the few devices next to the threshold
    near = np.abs(np.log(hidden / found["threshold_ohm"])) < 0.15
    assert abs(found["one_t1r"]["errors"] - int(wrong.sum())) <= int(near.sum())
    assert found["one_t1r"]["trials"] == 2 * 2 * 256
    # two devices against each other err less than one against a threshold
    assert found["two_t2r"]["errors"] / found["two_t2r"]["trials"] < found["one_t1r"]["errors"] / 1024
    measured = stored.read("resistances")
    assert (measured["pattern"] == 1).sum() == 2 * 256


def test_other_cells_are_left_as_they_are(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    before = world.chip.resistance_ohm
    cells = corner(bench)
    counted(bench, world, tmp_path, cells, patterns=2, cycles="3")
    after = world.chip.resistance_ohm
    np.testing.assert_array_equal(after[~cells], before[~cells])
    assert (after[cells] != before[cells]).all()


def test_cycles_rise_and_each_condition_knows_how_many_there_were(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    cells = corner(bench, 2, 2)
    _, stored, _ = counted(
        bench, world, tmp_path, cells, cycles="0, 5, 20", window_s="5e-6,1e-6", grid="axes", patterns=1, repeats=1
    )
    rows = stored.read("conditions")
    assert list(zip(rows["cycles"], rows["window_s"], strict=True)) == [(0, 5e-6), (0, 1e-6), (5, 5e-6), (20, 5e-6)]
    # the chip counts from the HRS to the LRS: the first SET after forming is none, each of the patterns may add one
    assert (world.chip.cycles[:2, :2] >= 20 - 1).all()
    assert (world.chip.cycles[:2, :2] <= 20 + 4).all()
    assert not world.chip.cycles[~cells].any()


def test_each_temperature_is_set_once_and_what_was_measured_is_recorded(bench: Bench, world: SimulatedBench) -> None:
    parameters = BitErrorParameters(temperature_c=(25.0, 85.0), sense_vdd_v=(1.1, 1.2), patterns=1, repeats=1)
    steps = BIT_ERROR.steps(bench.chip, parameters, corner(bench, 2, 2))
    asked, rows = [], []
    drift_c = 0.0
    answer: object = None
    with pytest.raises(StopIteration):
        while True:
            step = steps.send(answer)
            answer = None
            if isinstance(step, SetTemperature):
                asked.append(step.celsius)
                world.world.temperature_c = step.celsius
                answer = TemperatureReading(step.celsius + 5.0, step.celsius, True)
            elif isinstance(step, ReadTemperature):
                drift_c += 0.25
                answer = TemperatureReading(asked[-1] + 5.0, asked[-1] + drift_c, True)
            elif isinstance(step, Record) and step.table == "conditions":
                rows.append((step.values["sense_vdd_v"], step.values["temperature_c"]))
    assert asked == [25.0, 85.0]
    assert rows == [(1.1, 25.25), (1.2, 25.5), (1.1, 85.75), (1.2, 86.0)]


def test_a_grid_is_every_combination_or_one_list_at_a_time(bench: Bench) -> None:
    lists = {"set_vddc_v": "3.2,3.5", "sense_vdd_v": "1.1,1.2,1.3", "cycles": "0,10"}
    own = bench.chip.points
    full = conditions(BIT_ERROR.parse(lists), own)  # type: ignore[arg-type]
    assert len(full) == len(set(full)) == 12
    assert [one.cycles for one in full] == [0] * 6 + [10] * 6
    axes = conditions(BIT_ERROR.parse({**lists, "grid": "axes"}), own)  # type: ignore[arg-type]
    assert len(axes) == 1 + 1 + 2 + 1
    first = axes[0]
    for other in axes[1:]:
        assert sum(getattr(first, axis) != getattr(other, axis) for axis in AXES) == 1
    (alone,) = conditions(BIT_ERROR.parse({}), own)  # type: ignore[arg-type]
    assert alone.points(own) == own


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cycles": "10,5"}, "rising"),
        ({"cycles": "-1"}, "greater than or equal to 0"),
        ({"sense_vdd_v": "1.1,nan"}, "sense_vdd_v.1: .*finite"),
        ({"sense_vdd_v": "1.1,,1.2"}, "sense_vdd_v.1: "),
        ({"grid": "diagonal"}, "grid: "),
        ({"sense_vdd_v": ",".join(["1.1"] * 101), "set_vddc_v": ",".join(["3.5"] * 101)}, "10201 conditions"),
    ],
)
def test_lists_that_make_no_sense_are_refused(settings: dict[str, str], says: str) -> None:
    with pytest.raises(UserMistake, match=says):
        BIT_ERROR.parse(settings)


@pytest.mark.parametrize("text", ["1.1, 1.2", "(1.1, 1.2)", "[1.1,1.2]", "1.1,1.2,", (1.1, 1.2), [1.1, 1.2]])
def test_a_list_is_read_as_a_person_and_as_a_form_write_it(text: object) -> None:
    assert BIT_ERROR.parse({"sense_vdd_v": text}).sense_vdd_v == (1.1, 1.2)  # type: ignore[attr-defined]


def test_a_supply_outside_the_limits_is_refused_and_the_run_ends_safely(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    with pytest.raises(UserMistake, match="limits.vddc_v"):
        counted(bench, world, tmp_path, corner(bench, 2, 2), set_vddc_v="5.3")
    assert world.world.rails == (0.0, 0.0, 0.0)


def test_errors_are_counted_by_type() -> None:
    cells = np.array([[True, True, True, False]])
    counts = ErrorCounts(cells)
    counts.add(
        np.array([[1, -1, 0, 1]], dtype=np.int8),
        np.array([[[-1, 0, 1, -1]], [[1, -1, 0, -1]]], dtype=np.int8),
    )
    summary = counts.summary()
    assert {name: (summary[name]["errors"], summary[name]["trials"]) for name in summary} == {
        "errors": (3, 6),
        "type1": (1, 4),
        "type2": (1, 4),
        "type3": (1, 2),
    }


def test_an_interval_holds_the_true_rate_of_cells_with_different_trials_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(400):
        trials = rng.integers(2, 12, size=200)
        own = rng.beta(0.5, 9.5, size=200)  # cells of their own rates, 5 % in the mean
        found = clustered_rate(rng.binomial(trials, own), trials)
        hits += found.low < 0.05 < found.high
    assert 0.92 <= hits / 400 <= 0.98  # 95 %, give or take three standard deviations of 400 draws


def test_a_stopped_map_is_resumed_without_a_pattern_done_twice_or_a_cycle_too_many(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    cells = corner(bench, 3, 3)
    bench.chip.form(cell_mask_to_devices(cells), 3)
    parameters = BIT_ERROR.parse(
        {"form_virgin": False, "cycles": "0,40", "patterns": 2, "repeats": 2, "resistances": True}
    )
    token = StopToken()

    def stop_in_the_third_pattern(step: Step) -> None:
        if isinstance(step, Record) and step.table == "bit_errors" and step.values["pattern"][0] == 2:
            token.request("the test asked")

    with pytest.raises(Stopped):
        run(BIT_ERROR, parameters, bench, tmp_path, cells=cells, on_step=stop_in_the_third_pattern, stop=token)
    (stopped,) = tmp_path.glob("*.h5")
    outcome = run(BIT_ERROR, parameters, bench, tmp_path, resume=open_run(stopped))
    resumed = open_run(outcome.run_file)
    # the third pattern was read and its resistances were not measured: it is done again, the first two are not
    assert resumed.read("bit_errors")["pattern"].tolist() == [2, 2, 3, 3]
    assert resumed.read("conditions")["cycles"].tolist() == [40]
    assert not (resumed.read("operations", ["kind"])["kind"] == OperationKind.CYCLE).any()
    assert (world.chip.cycles[cells] <= 40 + 5).all()
    assert outcome.result["errors"]["trials"] == 4 * 2 * 9
    assert outcome.result["conditions"][0]["resistances"]["one_t1r"]["trials"] == 2 * 2 * 9
    # the patterns are those of a run that was never stopped
    whole = [
        random_weights("binary", bench.config.geometry, rng) for rng in [np.random.default_rng(0)] for _ in range(4)
    ]
    np.testing.assert_array_equal(resumed.read("bit_errors")["target"][0], whole[2])
    np.testing.assert_array_equal(resumed.read("bit_errors")["target"][2], whole[3])
