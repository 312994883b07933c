"""Retention: devices drift as the ageing model says, at the time and the temperature that the record says."""

from __future__ import annotations

import math
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from bench.procedure import Progress, Record, Step
from bench.procedures import PROCEDURES
from bench.procedures.retention import RetentionParameters
from bench.procedures.tables import ProgrammedState
from bench.session import Bench
from data.runs import open_run
from drivers.errors import LimitError
from drivers.simulated.bench import SimulatedBench
from models.cells import cell_mask_to_devices
from models.devices import ageing
from models.exceptions import UserMistake
from tests.bench.special_benches import block, run_one, special_bench

DRIFTING = {
    "retention.hrs_drift": -0.15,
    "retention.hrs_sigma": 0.03,
    "retention.lrs_drift": 0.05,
    "retention.lrs_sigma": 0.01,
}


def drifts(table: dict[str, np.ndarray], state: ProgrammedState, point: int) -> np.ndarray:
    """Change of ln R of the devices in a state from the first look to another."""
    rows = table["state"] == state
    first, then = (table["resistance_ohm"][rows & (table["point"] == which)] for which in (0, point))
    return np.asarray(np.log(then / first))


def test_both_states_drift_with_log_time_and_faster_in_the_heat(tmp_path: Path) -> None:
    found: dict[tuple[float, int], float] = {}
    settings = {"first_s": 1e6, "last_s": 1e7, "points_per_decade": 1, "read_c": 25.0, "soak_s": 60.0}
    for celsius in (45.0, 85.0):
        with special_bench(DRIFTING) as (world, bench):
            stored, _ = run_one("retention", bench, tmp_path, block(bench, 8, 8), temperature_c=celsius, **settings)
            model = world.chip.model.retention
        table = stored.read("retention")
        assert table["temperature_c"] == pytest.approx(25.0, abs=1.5)
        assert (table["storage_c"] == celsius).all()
        for point in (1, 2):
            seconds = float(table["seconds_s"][table["point"] == point][0])
            decades = float(ageing.drift_decades(model, seconds * ageing.acceleration(model, celsius)))
            for state, mean, sigma in (
                (ProgrammedState.HRS, model.hrs_drift, model.hrs_sigma),
                (ProgrammedState.LRS, model.lrs_drift, model.lrs_sigma),
            ):
                measured = drifts(table, state, point)
                # four standard errors of the mean of 64 devices, their noise of reading included; a degree of the
                # chuck, and the time it needs to settle, are worth less than 0.06 decades
                margin = 4 * math.hypot(sigma * decades, 0.03) / math.sqrt(64) + 0.06 * abs(mean)
                assert measured.mean() == pytest.approx(mean * decades, abs=margin)
            found[celsius, point] = float(drifts(table, ProgrammedState.HRS, point).mean())
    slope = found[85.0, 2] - found[85.0, 1]
    apart = np.mean([found[85.0, point] - found[45.0, point] for point in (1, 2)]) / slope
    arrhenius = math.log10(ageing.acceleration(model, 85.0) / ageing.acceleration(model, 45.0))
    assert apart == pytest.approx(arrhenius, rel=0.15)


def test_times_are_those_of_the_world_and_the_outputs_are_off_in_between(
    world: SimulatedBench, bench: Bench, tmp_path: Path
) -> None:
    programmed: list[float] = []
    looked: list[float] = []
    waiting: list[object] = []

    def watch(step: Step) -> None:
        if isinstance(step, Record) and step.table == "patterns":
            programmed.append(world.world.now_s)
        if isinstance(step, Record) and step.table == "retention":
            looked.append(world.world.now_s)
        if isinstance(step, Progress) and step.text.startswith("stored until"):
            waiting.append(world.world.rails)

    stored, outcome = run_one("retention", bench, tmp_path, block(bench, 2, 2), watch)
    table = stored.read("retention")
    seconds = table["seconds_s"][table["device"] == 0][::4]
    assert seconds == pytest.approx([time - programmed[0] for time in looked])
    assert seconds == pytest.approx([0.0, *RetentionParameters().times])
    assert len(waiting) == 11
    assert set(waiting) == {(0.0, 0.0, 0.0)}
    assert np.isnan(table["temperature_c"]).all()
    assert (table["sensed"] == table["target"]).mean() > 0.9
    assert outcome.result["seconds_s"] == pytest.approx(seconds.tolist())
    senses, patterns = stored.read("senses"), stored.read("patterns")
    assert len(senses["pattern"]) == 12 * 5
    assert (senses["sensed"][-1][:2, :2] == patterns["sensed"][0][:2, :2]).all()


def test_looks_that_the_oven_overtakes_are_left_out_and_the_last_is_taken(bench: Bench, tmp_path: Path) -> None:
    settings = {"temperature_c": 60.0, "first_s": 1.0, "last_s": 1000.0, "points_per_decade": 2}
    stored, _ = run_one("retention", bench, tmp_path, block(bench, 1, 2), **settings)
    table = stored.read("retention")
    points, first = np.unique(table["point"], return_index=True)
    seconds = table["seconds_s"][first]
    assert points[0] == 0
    assert seconds[0] > 120.0  # the soak: the first look is taken at the temperature of the others
    assert points[-1] == len(RetentionParameters(**settings).times)
    assert len(points) < 1 + points[-1]
    assert seconds[-1] == pytest.approx(1000.0)
    assert (np.diff(seconds) > 0).all()
    assert table["temperature_c"] == pytest.approx(60.0, abs=1.5)


def test_bit_errors_show_in_the_curve_once_the_window_has_closed(tmp_path: Path) -> None:
    with special_bench({"retention.hrs_drift": -0.5, "retention.hrs_sigma": 0.2}) as (_, bench):
        settings = {"first_s": 1e9, "last_s": 1e9}
        _, outcome = run_one("retention", bench, tmp_path, block(bench, 6, 6), **settings)
    before, after = outcome.result["bit_error_rate"]
    assert before < 0.01
    assert after > 0.1


def test_other_cells_are_left_as_they_were(world: SimulatedBench, bench: Bench, tmp_path: Path) -> None:
    cells = block(bench, 2, 2)
    others = ~cell_mask_to_devices(cells)
    before = world.chip.resistance_ohm
    run_one("retention", bench, tmp_path, cells, first_s=1e4, last_s=1e4)
    assert (world.chip.resistance_ohm[others] == before[others]).all()


def test_the_temperature_of_each_look_is_that_at_the_look(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that drifts by 0.1 degC from one measurement to the next is never recorded twice alike."""
    source = bench.temperature
    assert source is not None
    measure, times = source.measure, count()
    monkeypatch.setattr(source, "measure", lambda: measure()._replace(device_c=60.0 + 0.1 * next(times)))
    settings = {"temperature_c": 60.0, "first_s": 1e3, "last_s": 1e5, "points_per_decade": 1}
    stored, _ = run_one("retention", bench, tmp_path, block(bench, 1, 1), **settings)
    table = stored.read("retention")
    looks = [table["temperature_c"][table["point"] == point][0] for point in (1, 2, 3)]
    assert looks[1] - looks[0] == pytest.approx(0.1)
    assert looks[2] - looks[1] == pytest.approx(0.1)


def test_a_first_look_after_the_last_is_refused() -> None:
    with pytest.raises(UserMistake, match="first_s = 1000 s lies after last_s = 10 s"):
        PROCEDURES["retention"].parse({"first_s": "1000", "last_s": "10"})


def test_a_temperature_outside_the_limits_is_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="temperature_c"):
        run_one("retention", bench, tmp_path, block(bench, 1, 1), temperature_c=200.0)
    (path,) = tmp_path.glob("*.h5")
    assert open_run(path).status == "failed"
