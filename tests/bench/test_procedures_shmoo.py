"""The sense shmoo: its boundary is where the hidden resistances' crossing times lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.procedures.shmoo import SHMOO, ShmooParameters
from bench.runner import run
from bench.session import Bench
from data.runs import Run, open_run
from drivers.chip import OperationKind
from drivers.simulated.bench import SimulatedBench
from models.cells import cell_mask_to_devices
from models.exceptions import UserMistake
from models.sense import crossing_time_s, overdrive_ratio


def sensed(bench: Bench, folder: Path, cells: np.ndarray, **settings: Any) -> tuple[dict[str, Any], Run]:
    """Form the cells and sense them at every point; summary and run file."""
    bench.chip.form(cell_mask_to_devices(cells), 3)
    outcome = run(SHMOO, SHMOO.parse({"form_virgin": False, **settings}), bench, folder, cells=cells)
    return outcome.result, open_run(outcome.run_file)


def test_each_zero_is_told_up_to_the_crossing_time_of_its_faster_branch(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    cells = np.ones(bench.config.geometry, dtype=bool)
    settings = {"vdd_v": "1.05,1.2,1.35", "windows": 41, "window_high_s": 1e-6, "repeats": 4}
    _, stored = sensed(bench, tmp_path, cells, **settings)
    target = stored.read("patterns")["target"][0]
    rows = stored.read("shmoo")
    undecided = rows["undecided"].reshape(3, -1, 32, 32)
    windows_s = rows["window_s"].reshape(3, -1)[0]
    ohms = world.chip.resistance_ohm
    sense = world.chip.model.sense
    for i, vdd_v in enumerate((1.05, 1.2, 1.35)):
        first_s = crossing_time_s(sense, ohms, vdd_v).min(axis=2)
        # half of what offset and noise add or take from the difference of the branches, at four standard deviations
        slack = np.exp(0.5 * 4.0 * (sense.offset_sigma + sense.noise_sigma) / overdrive_ratio(sense, vdd_v))
        for j, window_s in enumerate(windows_s):
            share = undecided[i, j] / 4
            assert (share[first_s > window_s * slack] == 1.0).all()
            assert (share[first_s < window_s / slack] == 0.0).all()
        zero = target == 0
        assert (first_s[zero] > windows_s[0]).mean() > 0.9  # the boundary lies inside the map


def test_counts_add_up_and_the_summary_names_the_best_point_for_each_kind(bench: Bench, tmp_path: Path) -> None:
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[:12, 4:16] = True
    result, stored = sensed(bench, tmp_path, cells, repeats=6)
    rows = stored.read("shmoo")
    points = result["points"]
    assert len(rows["window_s"]) == points == 5 * 25
    assert (rows["plus"] + rows["minus"] + rows["undecided"] == 6).all()
    assert set(rows["precharge_s"]) == {bench.chip.points.sense.precharge_s}
    assert rows["window_s"].min() == 10e-9
    assert rows["window_s"].max() == 100e-6
    target = stored.read("patterns")["target"][0]
    outcomes = {1: rows["plus"], -1: rows["minus"], 0: rows["undecided"]}
    right = sum((outcomes[value] * ((target == value) & cells)).sum(axis=(1, 2)) for value in outcomes)
    shares = right / (6 * cells.sum())
    here = (rows["vdd_v"] == result["best"]["vdd_v"]) & (rows["window_s"] == result["best"]["window_s"])
    assert shares[here] == pytest.approx(result["best"]["share"], abs=1e-6)
    assert shares.max() == pytest.approx(result["best"]["share"], abs=1e-6)
    # within 10 us both branches of a zero have fallen: only a short window tells it
    assert result["best_for_zero"]["window_s"] < 40e-9
    # at 0.9 V the chip is below its threshold: nothing is decided there
    assert (rows["undecided"][rows["vdd_v"] == 0.9] == 6).all()
    assert result["zero_up_to_s"][0] == 100e-6
    assert result["weights_from_s"][0] is None
    # a higher supply discharges faster, and tells a zero for a shorter time
    assert all(a >= b for a, b in zip(result["zero_up_to_s"][1:], result["zero_up_to_s"][2:], strict=False))


def test_a_binary_pattern_reads_best_anywhere_above_threshold(bench: Bench, tmp_path: Path) -> None:
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[:4, :4] = True
    result, _ = sensed(bench, tmp_path, cells, weights="binary")
    assert result["best"]["share"] == 1.0
    assert result["best"]["vdd_v"] > 0.9
    # of equal points the one in the middle, far from both ends
    assert 100e-9 < result["best"]["window_s"] < 10e-6
    assert "best_for_zero" not in result


def test_the_supply_moves_once_per_value_and_other_cells_are_left_alone(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[2, 3] = cells[7, 1] = True
    before = world.chip.resistance_ohm
    _, stored = sensed(bench, tmp_path, cells, windows=5)
    np.testing.assert_array_equal(world.chip.resistance_ohm[~cells], before[~cells])
    operations = stored.read("operations", ["kind", "vdd_v"])
    supplies = operations["vdd_v"][operations["kind"] == OperationKind.SENSE][1:]  # after the verify read
    assert np.count_nonzero(np.diff(supplies)) == 4


def test_windows_are_whole_nanoseconds_and_in_order() -> None:
    windows_s = ShmooParameters(windows=50, window_low_s=10e-9, window_high_s=30e-9).windows_s
    assert (np.diff(windows_s) > 0.5e-9).all()
    np.testing.assert_allclose(windows_s * 1e9, np.round(windows_s * 1e9), atol=1e-6)
    with pytest.raises(UserMistake, match="window_low_s"):
        SHMOO.parse({"window_low_s": 1e-6, "window_high_s": 1e-8})
    with pytest.raises(UserMistake, match="vdd_v"):
        SHMOO.parse({"vdd_v": ""})
