"""Spread of devices and spread of cycles are told apart, and their intervals hold what they promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from calibration.populations import fit_population
from models.exceptions import UserMistake

MEDIAN = 70e3


def drawn(
    rng: np.random.Generator, devices: int, fewest: int, most: int, d2d: float, c2c: float
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Devices, cycles and resistances; each device has another number of cycles."""
    counts = rng.integers(fewest, most + 1, devices)
    device = np.repeat(np.arange(devices), counts)
    logs = d2d * rng.standard_normal(devices)[device] + c2c * rng.standard_normal(len(device))
    return device, np.arange(len(device)), MEDIAN * np.exp(logs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("d2d", "c2c", "bound"), [(0.35, 0.49, math.inf), (0.1, 0.17, math.inf), (0.03, 0.17, math.inf), (0.35, 0.49, 0.6)]
)
def test_intervals_cover_the_truth_as_often_as_they_say(d2d: float, c2c: float, bound: float) -> None:
    # 200 repetitions: 95 % coverage has a standard error of 1.5 %, and 92 to 98 % are two of them
    rng = np.random.default_rng(5)
    truth = np.array([math.log(MEDIAN), d2d, c2c])
    inside, values = np.zeros(3), np.zeros((200, 3))
    for repetition in range(200):
        device, cycle, ohms = drawn(rng, 60, 2, 6, d2d, c2c)
        highest = MEDIAN * math.exp(bound)
        fit = fit_population(device, cycle, np.minimum(ohms, highest), "HRS", (ohms > highest).astype(np.int8))
        assert fit.sigma_d2d is not None
        assert fit.sigma_c2c is not None
        found = fit.median_ohm, fit.sigma_d2d, fit.sigma_c2c
        scaled = [MEDIAN, d2d, c2c]
        inside += [one.low <= true <= one.high for one, true in zip(found, scaled, strict=True)]
        values[repetition] = [math.log(found[0].value), found[1].value, found[2].value]
    assert (inside >= 0.92 * 200).all()
    assert (inside <= 0.98 * 200).all()
    # the mean of 200 has itself an error of 0.07 spreads
    assert (np.abs(values.mean(axis=0) - truth) < (0.1 + 0.14) * values.std(axis=0)).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_interval_of_the_median_is_students_where_all_have_as_many_cycles(seed: int) -> None:
    # merely random draws share an error of the ends between all fits: 0.1 standard errors with the default seed
    device, cycle, ohms = drawn(np.random.default_rng(2), 60, 8, 8, 0.2, 0.3)
    found = fit_population(device, cycle, ohms, "LRS", seed=seed).median_ohm
    means = np.log(ohms).reshape(60, 8).mean(axis=1)
    error = means.std(ddof=1) / math.sqrt(60)
    ends = (np.log([found.low, found.value, found.high]) - means.mean()) / error
    np.testing.assert_allclose(ends, stats.t.ppf([0.025, 0.5, 0.975], 59), atol=0.03)


def test_a_spread_that_is_not_there_is_bounded_and_not_invented() -> None:
    device, cycle, ohms = drawn(np.random.default_rng(1), 100, 4, 4, 0.0, 0.17)
    fit = fit_population(device, cycle, ohms, "LRS")
    assert fit.sigma_d2d is not None
    assert fit.sigma_d2d.low == 0.0
    assert fit.sigma_d2d.high < 0.08


def test_repeated_readings_take_the_meter_out_of_the_cycles() -> None:
    rng = np.random.default_rng(2)
    device, cycle, ohms = drawn(rng, 200, 4, 4, 0.1, 0.1)
    noise = 0.1
    readings = np.repeat(ohms, 3) * np.exp(noise * rng.standard_normal(3 * len(ohms)))
    fit = fit_population(np.repeat(device, 3), np.repeat(cycle, 3), readings, "LRS")
    assert fit.noise is not None
    assert fit.sigma_c2c is not None
    assert fit.noise.value == pytest.approx(noise, rel=0.06)
    assert fit.sigma_c2c.value == pytest.approx(0.1, rel=0.1)
    assert fit.cycles == len(ohms)


def test_broken_devices_are_left_out_by_address_and_saturated_readings_are_not() -> None:
    rng = np.random.default_rng(3)
    device, cycle, ohms = drawn(rng, 100, 4, 4, 0.35, 0.49)
    ohms[device == 17] = 1e11
    ohms[device == 60] = 4e3
    limit = 2e5
    side = ((ohms > limit) & (device != 17)).astype(np.int8)
    assert side.any()
    fit = fit_population(device + 500, cycle, np.where(side > 0, limit, ohms), "HRS", side)
    assert fit.outliers.tolist() == [517, 560]
    assert fit.censored == side.sum()
    assert fit.median_ohm.low < MEDIAN < fit.median_ohm.high


@pytest.mark.slow
def test_half_of_the_population_beyond_the_range_still_gives_its_median() -> None:
    device, cycle, ohms = drawn(np.random.default_rng(4), 300, 5, 5, 0.3, 0.4)
    fit = fit_population(device, cycle, np.minimum(ohms, MEDIAN), "HRS", (ohms > MEDIAN).astype(np.int8))
    assert fit.censored == pytest.approx(750, abs=150)
    assert fit.median_ohm.value == pytest.approx(MEDIAN, rel=0.1)
    assert fit.sigma.value == pytest.approx(0.5, rel=0.1)


def test_one_reading_per_device_gives_the_whole_spread_only() -> None:
    device, cycle, ohms = drawn(np.random.default_rng(6), 400, 1, 1, 0.3, 0.4)
    fit = fit_population(device, cycle, ohms, "HRS")
    assert (fit.sigma_d2d, fit.sigma_c2c) == (None, None)
    assert fit.sigma.low < 0.5 < fit.sigma.high


@pytest.mark.parametrize(
    ("devices", "ohms", "part"),
    [
        (5, 7e3, "at least 8"),
        (20, 7e3, "varying"),
        (20, math.inf, "within the meter's range"),
        (20, math.nan, "NaN"),
        (20, -1.0, "positive"),
    ],
)
def test_data_that_cannot_support_a_fit_are_refused(devices: int, ohms: float, part: str) -> None:
    device, cycle = np.repeat(np.arange(devices), 3), np.tile(np.arange(3), devices)
    with pytest.raises(UserMistake, match=part) as caught:
        fit_population(device, cycle, np.full(len(device), ohms), "LRS")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserMistake, match="same length"):
        fit_population(device, cycle[:-1], np.full(len(device), 7e3), "LRS")
