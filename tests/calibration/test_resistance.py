"""Log-normal populations are recovered, and the intervals hold what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from calibration.resistance import fit_log_normal
from models.exceptions import UserMistake


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    # 400 data sets of 64 devices: 95 % coverage has a standard error of 1.1 %; four of them are tolerated.
    rng = np.random.default_rng(1)
    median, sigma, covered_median, covered_sigma = 7000.0, 0.2, 0, 0
    for _ in range(400):
        fit = fit_log_normal(median * np.exp(sigma * rng.standard_normal(64)), "LRS")
        covered_median += fit.median_ohm.low <= median <= fit.median_ohm.high
        covered_sigma += fit.sigma.low <= sigma <= fit.sigma.high
    assert covered_median / 400 == pytest.approx(0.95, abs=0.044)
    assert covered_sigma / 400 == pytest.approx(0.95, abs=0.044)


def test_open_and_stuck_devices_are_set_aside_and_named() -> None:
    rng = np.random.default_rng(2)
    readings = 80e3 * np.exp(0.6 * rng.standard_normal(100))
    readings[[3, 50]] = [np.inf, 1e12]
    fit = fit_log_normal(readings, "HRS")
    assert np.flatnonzero(fit.outliers).tolist() == [3, 50]
    assert fit.devices == 98
    assert fit.median_ohm.value == pytest.approx(80e3, rel=0.2)


def test_the_tail_of_a_healthy_population_is_not_called_an_outlier() -> None:
    rng = np.random.default_rng(3)
    assert not fit_log_normal(80e3 * np.exp(0.6 * rng.standard_normal(2048)), "HRS").outliers.any()


@pytest.mark.parametrize(
    ("readings", "part"),
    [
        ([1e3] * 5, "at least 8"),
        ([7e3] * 20, "varying"),
        ([math.inf] * 20, "plausible"),
        ([7e3] * 19 + [math.nan], "NaN"),
        ([7e3] * 19 + [-1.0], "positive"),
    ],
)
def test_data_that_cannot_support_a_fit_are_refused(readings: list[float], part: str) -> None:
    with pytest.raises(UserMistake, match=part):
        fit_log_normal(np.array(readings), "LRS")
