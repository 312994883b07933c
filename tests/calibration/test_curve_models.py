"""Curves compared on trains of which it is known what they are."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from calibration.curve_models import EXPONENTIAL, LOGARITHM, ONE_LINE, TWO_LINES, compare_curves, predict_cycles
from models.exceptions import UserMistake

T = np.arange(201.0)
NOISE = 0.02
CURVES = {
    TWO_LINES: np.where(T < 60, 4e-3 * T, 0.24 + 5e-4 * (T - 60)),
    ONE_LINE: 2e-3 * T,
    EXPONENTIAL: 0.5 * (1 - np.exp(-T / 30)),
    LOGARITHM: 0.15 * np.log1p(T / 3),
}


@pytest.mark.parametrize("name", list(CURVES))
def test_the_curve_that_made_the_trains_is_found(name: str) -> None:
    rng = np.random.default_rng(1)
    w = 9.0 + CURVES[name] + NOISE * rng.normal(size=(20, len(T)))
    suited = compare_curves(T, w)
    assert suited.comparison.winner == name
    assert suited.comparison.evidence > 30
    assert suited.trains[name] >= 15
    assert sum(suited.trains.values()) == 20


def test_the_best_time_constant_is_found() -> None:
    """Residuals of the right curve are those of its noise: the search in tau leaves nothing behind."""
    rng = np.random.default_rng(2)
    noise = 1e-4 * rng.normal(size=(5, len(T)))
    suited = compare_curves(T, CURVES[EXPONENTIAL] + noise)
    expected = sum(len(T) * np.log(np.square(row).mean()) + 4 * np.log(len(T)) for row in noise)
    # three fitted numbers take up about three of 201 degrees of freedom in each train
    assert suited.bic[EXPONENTIAL] == pytest.approx(expected, abs=5 * 10)


def test_few_or_bad_readings_are_refused() -> None:
    with pytest.raises(UserMistake, match="cannot be told apart"):
        compare_curves(T[:5], np.zeros((2, 5)))
    with pytest.raises(UserMistake, match="finite"):
        compare_curves(T, np.full((2, len(T)), np.nan))
    with pytest.raises(UserMistake, match="at least two cycles"):
        predict_cycles(T, np.zeros((3, 1, len(T))), np.zeros((3, 1, len(T))))


def test_new_cycles_lie_in_their_intervals_at_the_stated_rate() -> None:
    rng = np.random.default_rng(3)
    devices, cycles = 40, 10
    scale = (1 + 0.2 * rng.normal(size=(devices, 1, 1))) * (1 + 0.1 * rng.normal(size=(devices, cycles, 1)))
    level = 9.0 + 0.1 * rng.normal(size=(devices, 1, 1)) + 0.03 * rng.normal(size=(devices, cycles, 1))
    w = level + scale * CURVES[TWO_LINES] + NOISE * rng.normal(size=(devices, cycles, len(T)))
    held_out = predict_cycles(T, w[:, :5], w[:, 5:])
    # 200 cycles whose errors go together along each: s.d. of the rate about 0.01
    assert held_out.inside == pytest.approx(0.95, abs=0.03)
    assert len(held_out.bands) == devices
    assert np.median(held_out.bands[0].median) == pytest.approx(np.exp(np.median(w[0])), rel=0.1)


def test_fourteen_real_devices() -> None:
    """Needs the measured devices, which do not come with the package: RRAM_BENCH_DATA names their folder."""
    from benchmarks.real_devices import judge, read_folder

    root = os.environ.get("RRAM_BENCH_DATA")
    folder = None if root is None else Path(root) / "rram" / "ethz_almond_vcm"
    if folder is None or not folder.is_dir():
        pytest.skip("RRAM_BENCH_DATA names no folder with the measured devices")
    trains = read_folder(folder)
    assert trains.resistance_ohm.shape == (14, 10, 201)
    assert len(set(trains.names)) == 14
    # a RESET: the resistance rises along the train
    assert (np.median(trains.resistance_ohm[:, :, -20:]) / np.median(trains.resistance_ohm[:, :, 0])) > 1.3
    judged = judge(trains)
    assert judged.single.comparison.winner == TWO_LINES
    assert judged.mean.comparison.winner == LOGARITHM
    assert np.mean([one.inside for one in judged.left_out]) == pytest.approx(0.95, abs=0.02)
