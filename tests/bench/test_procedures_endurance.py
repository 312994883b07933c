"""Endurance: what it finds is what the wear of the simulated chip implies, and no cycle is lost or made twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.procedure import Record, Step
from bench.procedures.cycle_count import cycles_made
from bench.procedures.endurance import EnduranceParameters, Stuck
from bench.session import Bench
from bench.stopping import Stopped, StopToken
from data.run_chain import chain
from data.runs import Run, open_run
from drivers.chip import OperationKind
from drivers.simulated.bench import SimulatedBench
from models.cells import DeviceState, cell_mask_to_devices
from models.devices import ageing, rram
from tests.bench.special_benches import block, of_device, run_one, special_bench

FAST_WEAR = {"endurance.cycles_ref": 2e6}


def transitions(run: Run) -> np.ndarray:
    """How often each device went from HRS to LRS by the record, ``(rows, cols, 2)``; all begin virgin."""
    rows = run.read("operations", ["kind", "count", "devices"])
    high = np.zeros(rows["devices"].shape[1:], dtype=bool)
    found = np.zeros(high.shape, dtype=np.int64)
    for kind, count, devices in zip(rows["kind"], rows["count"], rows["devices"].astype(bool), strict=True):
        if kind == OperationKind.SET:
            found += devices & high
            high &= ~devices
        elif kind == OperationKind.RESET:
            high |= devices
        elif kind == OperationKind.CYCLE:
            found += np.where(devices, np.where(high, count, count - 1), 0)
            high |= devices
    return found


def stop_at(kind: OperationKind, number: int) -> tuple[StopToken, Callable[[Step], None]]:
    """A token, and what asks it for a stop after the ``number``-th operation of a kind."""
    token, seen = StopToken(), [0]

    def on_step(step: Step) -> None:
        if isinstance(step, Record) and step.table == "operations" and step.values["kind"] == kind:
            seen[0] += 1
            if seen[0] == number:
                token.request("the test asked")

    return token, on_step


class Spy:
    """Looks at the hidden wear and states at each checkpoint."""

    def __init__(self, world: SimulatedBench) -> None:
        self._chip = world.chip
        self.wear: list[np.ndarray] = []
        self.state: list[np.ndarray] = []

    def __call__(self, step: Step) -> None:
        if isinstance(step, Record) and step.table == "endurance":
            self.wear.append(self._chip.wear)
            self.state.append(self._chip.state)


def normal_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def test_the_window_closes_errors_rise_and_devices_stick_as_their_wear_implies(tmp_path: Path) -> None:
    with special_bench(FAST_WEAR) as (world, bench):
        spy, cells = Spy(world), block(bench, 8, 8)
        stored, outcome = run_one("endurance", bench, tmp_path, cells, spy, cycles=10_000, points_per_decade=1)
        model = world.chip.model
    table, result = stored.read("endurance"), outcome.result
    fresh_hrs = rram.hrs_median_ohm(model.hrs, 2.0, 10e-6)
    threshold = result["threshold_ohm"]
    assert threshold == pytest.approx(math.sqrt(6988 * fresh_hrs), rel=0.2)
    assert result["cycles"] == [0, 1, 10, 100, 1000, 10_000]
    for index in range(len(result["cycles"])):
        rows = {name: values[table["checkpoint"] == index] for name, values in table.items()}
        wear, state = of_device(rows, spy.wear[index]), of_device(rows, spy.state[index])
        worn_out = state == DeviceState.STUCK_LRS
        typical, works = float(np.median(wear)), ~worn_out
        change = ageing.hrs_change(model.endurance, typical)
        hrs, spread = (
            fresh_hrs * math.exp(change.shift),
            math.hypot(model.hrs.sigma_d2d, model.hrs.sigma_c2c * change.spread),
        )
        # four standard errors of a median of the devices that still switch
        margin = 4 * 1.25 * spread / math.sqrt(works.sum())
        assert math.log(np.median(rows["hrs_ohm"][works]) / hrs) == pytest.approx(0.0, abs=margin)
        assert np.median(rows["lrs_ohm"][works]) == pytest.approx(6988, rel=0.1)
        lrs_wrong = normal_tail(math.log(threshold / 6988) / math.hypot(model.lrs.sigma_d2d, model.lrs.sigma_c2c))
        hrs_wrong = normal_tail(math.log(hrs / threshold) / spread)
        rate = float((rows["errors_1t1r"][works] / 2).mean())
        expected = (lrs_wrong + hrs_wrong) / 2
        assert rate == pytest.approx(expected, abs=4 * math.sqrt(expected / (2 * works.sum())) + 0.005)
        # what is stuck is called so; what is not, rarely: its two states must happen to be alike
        assert (rows["stuck"][worn_out] == Stuck.LOW).all()
        assert (rows["stuck"][works] != Stuck.SWITCHES).mean() < 0.05
        share = ageing.stuck_share(model.endurance, typical) if typical > 0.0 else 0.0
        four_errors = 4 * math.sqrt(max(share, 0.01) * (1.0 - share) / len(worn_out))
        assert worn_out.mean() == pytest.approx(share, abs=four_errors)
    assert float(np.median(spy.wear[-1][cell_mask_to_devices(cells)])) > 1.0
    assert result["hrs_median_ohm"][-1] < 0.6 * result["hrs_median_ohm"][0]
    assert result["ber_2t2r"][0] < 0.01 < 0.03 < result["ber_2t2r"][-1]
    assert result["ber_2t2r"][-1] < result["ber_1t1r"][-1]
    assert result["stuck"][-1] > 3 >= result["stuck"][0]


def test_the_record_has_every_cycle_that_the_chip_has_seen(world: SimulatedBench, bench: Bench, tmp_path: Path) -> None:
    cells = block(bench, 2, 2)
    stored, _ = run_one("endurance", bench, tmp_path, cells, cycles=3000, points_per_decade=1)
    devices = cell_mask_to_devices(cells)
    assert (world.chip.cycles == transitions(stored)).all()
    assert (cycles_made(stored) == np.where(devices, 3000, 0)).all()
    table = stored.read("endurance")
    assert (
        table["cycles"][:: devices.sum()].tolist() == EnduranceParameters(cycles=3000, points_per_decade=1).checkpoints
    )
    readings = stored.read("resistances")
    high = (readings["pattern"] == 2) & (readings["state"] == 1)
    where = {name: readings[name][high] for name in ("row", "col", "device")}
    of_second = {name: values[table["checkpoint"] == 1] for name, values in table.items()}
    recorded = np.full(devices.shape, np.nan)
    recorded[of_second["row"], of_second["col"], of_second["device"]] = of_second["hrs_ohm"]
    assert (of_device(where, recorded) == readings["resistance_ohm"][high]).all()


@pytest.mark.parametrize("own_loop", [True, False])
def test_a_resumed_run_makes_what_is_left_and_nothing_twice(own_loop: bool, tmp_path: Path) -> None:
    cycles, kind, number = (200_000, OperationKind.CYCLE, 12) if own_loop else (12, OperationKind.RESET, 9)
    with special_bench({}) as (_, bench):
        if not own_loop:
            bench.chip.points = replace(bench.chip.points, cycle=None)
        cells, settings = block(bench, 2, 2), {"cycles": cycles, "points_per_decade": 1}
        token, on_step = stop_at(kind, number)
        with pytest.raises(Stopped):
            run_one("endurance", bench, tmp_path, cells, on_step, token, **settings)
        (path,) = tmp_path.glob("*.h5")
        first = open_run(path)
        devices = cell_mask_to_devices(cells)
        made = cycles_made(first)[devices]
        assert made.min() > 0
        assert made.max() < cycles
        last, _ = run_one("endurance", bench, tmp_path, None, resume=first, **settings)
        parts = chain(last)
        assert len(parts) == 2
        assert (sum(cycles_made(part) for part in parts)[devices] == cycles).all()
        checkpoints = np.concatenate([part.read("endurance")["checkpoint"][:: devices.sum()] for part in parts])
        assert checkpoints.tolist() == list(range(len(EnduranceParameters(**settings).checkpoints)))
        thresholds = np.concatenate([part.read("endurance")["threshold_ohm"] for part in parts])
        assert len(set(thresholds.tolist())) == 1


def test_a_stop_within_a_checkpoint_repeats_the_checkpoint_and_no_cycle(bench: Bench, tmp_path: Path) -> None:
    cells, settings = block(bench, 2, 2), {"cycles": 100, "points_per_decade": 1}
    # the second checkpoint: SET, RESET and sense twice each, so that the third SET is the first of it
    token, on_step = stop_at(OperationKind.SET, 3)
    with pytest.raises(Stopped):
        run_one("endurance", bench, tmp_path, cells, on_step, token, **settings)
    (path,) = tmp_path.glob("*.h5")
    first = open_run(path)
    devices = cell_mask_to_devices(cells)
    assert (cycles_made(first)[devices] == 1).all()
    last, _ = run_one("endurance", bench, tmp_path, None, resume=first, **settings)
    assert (cycles_made(last)[devices] == 99).all()
    assert set(first.read("endurance")["checkpoint"].tolist()) == {0}
    assert set(last.read("endurance")["checkpoint"].tolist()) == {1, 2, 3}


def test_a_bench_that_cannot_measure_still_counts_the_errors_of_its_cells(bench: Bench, tmp_path: Path) -> None:
    run_one("forming", bench, tmp_path, block(bench, 2, 2))
    bench.chip._smu = None
    stored, outcome = run_one("endurance", bench, tmp_path, block(bench, 2, 2), cycles=10, points_per_decade=1)
    table = stored.read("endurance")
    assert np.isnan(table["hrs_ohm"]).all()
    assert (table["errors_1t1r"] == -1).all()
    assert outcome.result["ber_2t2r"] == [0.0, 0.0, 0.0]
    assert outcome.result["ber_1t1r"] == [None, None, None]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_cycles_on_64_cells(tmp_path: Path) -> None:
    with special_bench({}) as (world, bench):
        cells = block(bench, 8, 8)
        stored, outcome = run_one("endurance", bench, tmp_path, cells, cycles=1_000_000)
        assert (cycles_made(stored)[cell_mask_to_devices(cells)] == 1_000_000).all()
        working = world.chip.state < DeviceState.STUCK_LRS
        assert (world.chip.cycles[working] == transitions(stored)[working]).all()
    assert outcome.result["cycles"][-1] == 1_000_000
