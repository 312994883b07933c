"""Current-voltage loops through the wire: harmless by default, the hysteresis of the chip within wider limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.config import parse_bench_file
from bench.procedure import CellMask
from bench.procedures.iv import IV, IvParameters, branch
from bench.runner import run
from bench.session import Bench, connect
from data.runs import open_run
from drivers.chip import OperationKind
from drivers.errors import LimitError
from drivers.simulated.bench import SimulatedBench
from models.cells import Device, DeviceState
from models.devices.ageing import read_noise_sigma
from models.devices.rram import compliance_a, lrs_median_ohm
from models.exceptions import UserMistake

NARROW, WIDE = "smu_voltage_v = [-0.5, 0.5]", "smu_voltage_v = [-1.6, 1.6]"


def some(rows: int, cols: int) -> CellMask:
    cells = np.zeros((32, 32), dtype=bool)
    cells[:rows, :cols] = True
    return cells


def form(bench: Bench, cells: CellMask) -> None:
    bench.chip.form(np.repeat(cells[:, :, None], 2, axis=2), 5)


def loops(path: Path) -> Mapping[str, NDArray[Any]]:
    return open_run(path).read("iv")


@pytest.fixture
def wide_bench(world: SimulatedBench) -> Iterator[Bench]:
    """The same bench, whose file allows voltages that program."""
    text = world.bench_file()
    assert NARROW in text
    text = text.replace(NARROW, WIDE)
    with connect(parse_bench_file(text, "test bench"), text) as session:
        yield session


def test_the_default_sweep_reads_the_resistance_and_disturbs_nothing(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    cells = some(2, 3)
    form(bench, some(1, 3))  # the second row stays virgin
    bench.chip.reset(np.repeat(some(1, 1)[:, :, None], 2, axis=2))
    hidden, state = world.chip.resistance_ohm, world.chip.state
    outcome = run(IV, IV.parse({}), bench, tmp_path, cells=cells)
    assert (world.chip.resistance_ohm == hidden).all()
    assert (world.chip.state == state).all()
    rows = loops(outcome.run_file)
    assert len(rows["row"]) == outcome.result["points"] == 12 * 42
    assert (rows["voltage_v"].min(), rows["voltage_v"].max()) == (-0.4, 0.4)
    assert rows["voltage_measured_v"] == pytest.approx(rows["voltage_v"], abs=1e-3)
    driven = np.abs(rows["voltage_v"]) > 0.3
    ohms = hidden[rows["row"], rows["col"], rows["device"]][driven]
    logs = np.log(rows["voltage_v"][driven] / rows["current_a"][driven] / ohms)
    noise = np.array([read_noise_sigma(world.chip.model.read_noise, float(ohm)) for ohm in ohms])
    assert (np.abs(logs) < 5 * noise + 5e-3).all()
    assert outcome.result["points_in_compliance"] == 0
    stored = open_run(outcome.run_file)
    assert (stored.read("cells_done")["cells"].sum(axis=0) == cells).all()
    kinds = stored.read("operations")
    assert set(kinds["kind"]) == {OperationKind.SWEEP}
    assert len(kinds["kind"]) == 24  # a positive and a negative half on each device
    assert world.world.rails == (0.0, 0.0, 0.0)


def test_wider_limits_show_the_hysteresis_at_the_hidden_thresholds(
    wide_bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    cells = some(3, 3)
    form(wide_bench, cells)
    wide_bench.chip.reset(np.repeat(cells[:, :, None], 2, axis=2))
    good = np.argwhere((world.chip.state == DeviceState.HRS) & cells[:, :, None])
    assert len(good) == 18
    settings = {"positive_v": 1.3, "negative_v": -1.3, "points": 27, "compliance_a": 1e-4}
    rows = loops(run(IV, IV.parse(settings), wide_bench, tmp_path, cells=cells).run_file)
    at, lrs, resets = world.chip.model.thresholds, [], []
    for mine in (_rows_of(rows, *device) for device in good):
        up, back = mine[:27], mine[27:53]
        # one step of the sweep is 50 mV: the current jumps with the first point that reaches the threshold
        assert _jump(rows, up, 0.25) == pytest.approx(at.set_direct_v, abs=1e-9)
        resets.append(_jump(rows, mine[53:80], 0.2))
        assert rows["in_compliance"][up[-1]] == 1
        read = back[(rows["voltage_v"][back] > 0.3) & (rows["voltage_v"][back] < 0.6)]
        lrs.append(np.median(rows["voltage_measured_v"][read] / rows["current_a"][read]))
    # From the onset of the weak RESET on a device may move a little before its RESET, or its first HRS be as low as the
    # LRS; both are rare.
    assert np.median(resets) == pytest.approx(-at.reset_direct_v, abs=1e-9)
    assert np.isclose(resets, -at.reset_direct_v).mean() > 0.75
    assert (world.chip.state[tuple(good.T)] == DeviceState.HRS).all()
    # In direct access the access transistor passes less than the meter allows: it sets the LRS. The population has a
    # total s.d. of 0.2 in ln R; the median of 18 devices is known to 6 %, three times that.
    passed_a = compliance_a(world.chip.model.lrs, wide_bench.config.points.direct.rails.vddr_v)
    assert passed_a < 1e-4
    assert np.median(lrs) == pytest.approx(lrs_median_ohm(world.chip.model.lrs, passed_a), rel=0.18)


def test_the_compliance_of_the_meter_sets_the_lrs(wide_bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    cells, limit_a = some(3, 3), 2e-5
    form(wide_bench, cells)
    wide_bench.chip.reset(np.repeat(cells[:, :, None], 2, axis=2))
    hidden = world.chip.resistance_ohm
    settings = {"positive_v": 1.3, "negative_v": 0.0, "points": 14, "compliance_a": limit_a}
    rows = loops(run(IV, IV.parse(settings), wide_bench, tmp_path, cells=cells).run_file)
    # a device of lower resistance does not see the threshold before the current limit is reached, and stays as it is
    threshold_ohm = world.chip.model.thresholds.set_direct_v / limit_a
    sets = cells[:, :, None] & (hidden > 1.2 * threshold_ohm)
    stays = cells[:, :, None] & (hidden < 0.8 * threshold_ohm)
    assert sets.sum() > 5
    assert stays.any()
    after = world.chip.resistance_ohm
    assert (after[stays] == hidden[stays]).all()
    # log-normal with a total s.d. of 0.2, so many devices, three standard errors of a median
    median = lrs_median_ohm(world.chip.model.lrs, limit_a)
    assert np.median(after[sets]) == pytest.approx(median, rel=3 * 1.25 * 0.2 / np.sqrt(sets.sum()))
    assert np.abs(rows["current_a"]).max() < 1.01 * limit_a


def _rows_of(rows: Mapping[str, NDArray[Any]], row: int, col: int, device: int) -> NDArray[np.int64]:
    """Indices of the rows of one device, in their order."""
    return np.flatnonzero((rows["row"] == row) & (rows["col"] == col) & (rows["device"] == device))


def _jump(rows: Mapping[str, NDArray[Any]], chosen: NDArray[np.int64], least: float) -> float:
    """First set point at which ln of the conductance changes by more than ``least``: well above the noise."""
    seen = chosen[3:]  # the first currents are small
    logs = np.log(rows["current_a"][seen] / rows["voltage_measured_v"][seen])
    return float(rows["voltage_v"][seen[1:]][np.flatnonzero(np.abs(np.diff(logs)) > least)[0]])


def test_one_direction_one_device_and_logarithmic_points(bench: Bench, tmp_path: Path) -> None:
    settings = {"negative_v": 0.0, "devices": "BLB", "spacing": "log", "points": 5, "positive_v": 0.4, "cycles": 3}
    outcome = run(IV, IV.parse(settings), bench, tmp_path, cells=some(1, 2))
    rows = loops(outcome.run_file)
    assert set(rows["device"]) == {Device.BLB}
    there = [0.0, 0.01, 0.4 ** (1 / 3) * 0.01 ** (2 / 3), 0.4 ** (2 / 3) * 0.01 ** (1 / 3), 0.4]
    assert rows["voltage_v"][:9] == pytest.approx([*there, *there[-2::-1]], abs=1e-8)
    assert rows["point"].tolist() == list(range(9)) * 6
    assert rows["cycle"].tolist() == [cycle for _ in range(2) for cycle in (0, 1, 2) for _ in range(9)]


def test_the_limits_of_the_bench_hold_and_nothing_moves(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    before = world.chip.resistance_ohm
    for settings in ({"positive_v": 1.0}, {"negative_v": -0.6}, {"compliance_a": 0.01}):
        with pytest.raises(LimitError):
            run(IV, IV.parse(settings), bench, tmp_path, cells=some(1, 1))
    assert (world.chip.resistance_ohm == before).all()
    assert world.world.rails == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"positive_v": 0.0, "negative_v": 0.0}, "both 0"),
        ({"spacing": "log", "smallest_v": 0.5}, "lower smallest_v"),
        ({"negative_v": 0.3}, "negative_v"),
        ({"points": 2}, "points"),
    ],
)
def test_sweeps_that_lead_nowhere_are_refused(
    settings: dict[str, Any], complaint: str, bench: Bench, tmp_path: Path
) -> None:
    with pytest.raises(UserMistake, match=complaint):
        run(IV, IV.parse(settings), bench, tmp_path, cells=some(1, 1))


def test_a_branch_leads_there_and_back_through_every_point() -> None:
    assert branch(-0.4, IvParameters(points=3)).tolist() == [0.0, -0.2, -0.4, -0.2, 0.0]
    assert branch(0.0, IvParameters()).size == 0
