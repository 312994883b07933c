"""The weak-RESET staircase: what is recorded follows the hidden parameters of the simulated chip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from bench.procedure import Record, Step
from bench.procedures.spacing import evenly_spaced, log_spaced
from bench.procedures.weak_reset import WEAK_RESET, WeakResetParameters
from bench.session import Bench
from bench.stopping import Stopped, StopToken
from data.runs import open_run
from drivers.chip import OperationKind
from drivers.errors import LimitError
from drivers.simulated.bench import SimulatedBench
from models.arrays import NumpyArrays
from models.cells import DeviceState, cell_mask_to_devices
from models.devices.ageing import read_noise_sigma
from models.devices.weak_reset import MeanParameters, mean_log_ratio, stress_per_pulse
from models.exceptions import UserMistake
from tests.bench.special_benches import block, of_device, run_one, special_bench

QUIET = {"weak_reset.rtn_amplitude_high": 0.0}
"""Without telegraph noise, which is as large as the curve itself in some devices."""

PINK_SD = 0.0117
"""Of the 1/f noise with a memory of 127 pulses, in ln R (target V4)."""

ARRAYS = NumpyArrays(np.random.default_rng(0))


def by_device(table: dict[str, np.ndarray], reads: int) -> dict[str, np.ndarray]:
    """The columns as ``(devices, reads)``, in the order of the pulses."""
    order = np.lexsort((table["pulses"], table["device"], table["col"], table["row"]))
    return {name: values[order].reshape(-1, reads) for name, values in table.items()}


def hidden(world: SimulatedBench, table: dict[str, np.ndarray]) -> MeanParameters:
    """The parameters of each device of a :func:`by_device` table, ``(devices, 1)``."""
    where = {name: table[name][:, :1] for name in ("row", "col", "device")}
    return MeanParameters(*(of_device(where, values) for values in world.chip._weak.parameters))


def rise(parameters: MeanParameters, stress: np.ndarray) -> np.ndarray:
    """Mean of ln R above that right after the SET; the offset c1 comes with the first pulse."""
    return np.where(stress > 0.0, mean_log_ratio(ARRAYS, parameters, stress), 0.0)


def test_each_device_follows_its_two_slopes_and_its_knee(tmp_path: Path) -> None:
    with special_bench(QUIET) as (world, bench):
        cells = block(bench, 8, 4)
        stored, outcome = run_one("weak-reset", bench, tmp_path, cells, pulses=3000, log_points=14)
        table = stored.read("staircase")
        reads = len(np.unique(table["pulses"]))
        table = by_device(table, reads)
        measured = np.log(table["resistance_ohm"] / table["resistance_ohm"][:, :1])
        expected = rise(hidden(world, table), table["pulses"] * 1.0)
        noise, model = world.chip.model.read_noise, world.chip.model.weak_reset
        metering = np.vectorize(lambda ohm: read_noise_sigma(noise, ohm))(table["resistance_ohm"])
    below = expected < 0.9 * np.log(model.ceiling_ohm / model.r0_high_ohm)
    sigma = np.sqrt(PINK_SD**2 + metering**2 + metering[:, :1] ** 2)
    assert measured.shape == (64, 15)
    assert below.mean() > 0.95
    # each reading within five standard deviations; the middle device within 0.01, the median curve within 0.03
    assert (np.abs(measured - expected)[below] < 5 * sigma[below]).all()
    assert np.median(measured - expected, axis=0) == pytest.approx(0.0, abs=0.01)
    assert np.median(measured, axis=0) == pytest.approx(np.median(expected, axis=0), abs=0.03)
    (branch,) = outcome.result["branches"]
    assert branch["pulses"] == table["pulses"][0].tolist()
    assert branch["mean_log_ratio"] == pytest.approx(measured.mean(axis=0).tolist(), abs=1e-4)
    assert np.median(table["resistance_ohm"][:, 0]) == pytest.approx(6988, rel=0.08)
    assert table["voltage_v"] / table["current_a"] == pytest.approx(table["resistance_ohm"])


def test_the_curve_runs_faster_with_the_voltage_as_the_activation_says(tmp_path: Path) -> None:
    with special_bench(QUIET) as (world, bench):
        cells = block(bench, 8, 4)
        settings = {"pulses": 200, "log_points": 6, "voltages_v": "2.25, 2.475,2.7"}
        stored, _ = run_one("weak-reset", bench, tmp_path, cells, **settings)
        section = world.chip.model.weak_reset
        found = {}
        for branch, vddc_v in enumerate((2.25, 2.475, 2.7)):
            table = stored.read("staircase")
            table = {name: values[table["branch"] == branch] for name, values in table.items()}
            table = by_device(table, len(np.unique(table["pulses"])))
            assert (table["vddc_v"] == vddc_v).all()
            assert table["device_v"] == pytest.approx(vddc_v / 2.25)
            measured = np.log(table["resistance_ohm"] / table["resistance_ohm"][:, :1])
            of = hidden(world, table)

            def misfit(stress, of=of, pulses=table["pulses"], measured=measured) -> float:
                return float(((measured - rise(of, pulses * stress)) ** 2).sum())

            found[vddc_v / 2.25] = minimize_scalar(misfit, bounds=(0.1, 30.0), method="bounded").x
        operations = stored.read("operations", ["kind", "vddc_v"])
    for device_v, stress in found.items():
        assert stress == pytest.approx(stress_per_pulse(section, device_v, 1e-6), rel=0.05)
    assert (operations["kind"] == OperationKind.SET).sum() == 3
    assert set(operations["vddc_v"][operations["kind"] == OperationKind.WEAK_RESET]) == {2.25, 2.475, 2.7}


def test_every_pulse_is_counted_and_other_cells_are_left_as_they_were(
    world: SimulatedBench, bench: Bench, tmp_path: Path
) -> None:
    cells = block(bench, 2, 3)
    before = world.chip.resistance_ohm
    stored, _ = run_one("weak-reset", bench, tmp_path, cells, pulses=25, read_every=10, cycles=2, group=4)
    table, devices = stored.read("staircase"), cell_mask_to_devices(cells)
    operations = stored.read("operations", ["kind", "count", "devices"])
    weak = operations["kind"] == OperationKind.WEAK_RESET
    given = (operations["devices"][weak] * operations["count"][weak][:, None, None, None]).sum(axis=0)
    assert sorted(set(table["pulses"].tolist())) == [0, 10, 20, 25]
    assert len(table["pulses"]) == 2 * 4 * 12
    assert (given[devices] == 2 * 25).all()
    assert (given[~devices] == 0).all()
    assert world.chip._weak.stress[devices] == pytest.approx(25.0)
    assert (world.chip.resistance_ohm[~devices] == before[~devices]).all()
    assert (world.chip.state[~devices] != DeviceState.LRS).all()


def test_a_stop_loses_no_more_than_the_group_at_hand(bench: Bench, tmp_path: Path) -> None:
    token = StopToken()

    def stop_after_a_group(step: Step) -> None:
        if isinstance(step, Record) and step.table == "cells_done":
            token.request("one group is enough")

    cells, settings = block(bench, 2, 2), {"pulses": 20, "read_every": 10, "group": 2}
    with pytest.raises(Stopped):
        run_one("weak-reset", bench, tmp_path, cells, stop_after_a_group, token, **settings)
    (path,) = tmp_path.glob("*.h5")
    first = open_run(path)
    second, outcome = run_one("weak-reset", bench, tmp_path, None, resume=first, **settings)
    seen = [
        set(zip(*(part.read("staircase")[axis].tolist() for axis in ("row", "col")), strict=True))
        for part in (first, second)
    ]
    assert seen == [{(0, 0), (0, 1)}, {(1, 0), (1, 1)}]
    assert outcome.result["cells"] == 2


def test_a_voltage_beyond_the_limits_is_refused_and_never_applied(
    world: SimulatedBench, bench: Bench, tmp_path: Path
) -> None:
    with pytest.raises(LimitError, match="limits.vddc_v"):
        run_one("weak-reset", bench, tmp_path, block(bench, 1, 1), pulses=2, voltages_v="5.2")
    (path,) = tmp_path.glob("*.h5")
    assert open_run(path).rows("operations") == 0
    assert world.world.rails == (0.0, 0.0, 0.0)


def test_a_bench_that_cannot_measure_is_told_before_anything_moves(bench: Bench, tmp_path: Path) -> None:
    bench.chip._smu = None
    with pytest.raises(UserMistake, match="source-measure unit"):
        run_one("weak-reset", bench, tmp_path, block(bench, 1, 1))
    (path,) = tmp_path.glob("*.h5")
    assert open_run(path).rows("operations") == 0


@pytest.mark.parametrize("text", ["2.1,x", "2.1,nan", "inf"])
def test_voltages_that_are_no_numbers_are_refused(text: str) -> None:
    with pytest.raises(UserMistake, match="weak-reset: voltages_v"):
        WEAK_RESET.parse({"voltages_v": text})


def test_reads_are_spaced_as_asked() -> None:
    assert WeakResetParameters(pulses=100, read_every=30).reads == [0, 30, 60, 90, 100]
    assert WeakResetParameters(pulses=5, read_every=10).reads == [0, 5]
    reads = WeakResetParameters().reads
    assert reads[:2] == [0, 10]
    assert reads[-1] == 4000
    assert len(reads) == 41
    assert log_spaced(1, 1000, 4) == [1, 10, 100, 1000]
    assert log_spaced(1, 4, 20) == [1, 2, 3, 4]
    assert log_spaced(1, 1, 3) == [1]
    assert evenly_spaced(10, 30) == [10, 20, 30]
    numbers = WEAK_RESET.parse({"voltages_v": "2.0,2.25"})
    assert isinstance(numbers, WeakResetParameters)
    assert numbers.voltages_v == (2.0, 2.25)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_thousand_devices_walk_a_thousand_pulses_through_the_whole_chip(tmp_path: Path) -> None:
    with special_bench({}) as (world, bench):
        stored, _ = run_one("weak-reset", bench, tmp_path, None, pulses=1000, read_every=10)
        table = by_device(stored.read("staircase"), 101)
        of = hidden(world, table)
    measured = np.log(table["resistance_ohm"] / table["resistance_ohm"][:, :1])
    assert measured.shape == (2048, 101)
    # telegraph noise is one-sided: the median device is up to 0.02 above its mean curve
    assert np.median(measured - rise(of, table["pulses"] * 1.0), axis=0) == pytest.approx(0.0, abs=0.02)
