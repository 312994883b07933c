"""Bit errors of many conditions: the populations behind them, with intervals that hold."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtri

from calibration.error_model import Condition, design_effect, fit_error_model
from data.device_files import default_device
from models.errors import ternary, two_t2r
from models.exceptions import UserMistake

MODEL = default_device().model
WIDE = replace(MODEL, hrs=replace(MODEL.hrs, sigma_d2d=0.55, sigma_c2c=0.8))


def condition(factor: float = 1.0) -> Condition:
    """The wide population with another HRS median, sensed in a long window."""
    return Condition.of(replace(WIDE, hrs=replace(WIDE.hrs, median_ohm=factor * WIDE.hrs.median_ohm)), 1.2, 5e-6)


def counted(
    rng: np.random.Generator, conditions: list[Condition], cells: int, spread: float, patterns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Errors of cells that differ for life: half of the variance of ln of the ratio is theirs."""
    errors = np.zeros((len(conditions), 3, cells), dtype=np.int64)
    trials = np.zeros_like(errors)
    own = rng.standard_normal(cells)
    for index, one in enumerate(conditions):
        rate = float(one.rates(np.array([spread]), np.zeros(1))[0, 0])
        deviate = math.sqrt(0.3) * own + math.sqrt(0.7) * rng.standard_normal((patterns, cells))
        errors[index, 0] = (deviate < ndtri(rate)).sum(axis=0)
        trials[index, :2] = patterns
    return errors, trials


def test_rates_are_those_of_the_error_model() -> None:
    one = condition()
    rates = one.rates(np.ones(1), np.zeros(1))[:, 0]
    assert rates[0] == pytest.approx(two_t2r(one.populations, one.amplifier), rel=1e-3)
    short = Condition.of(WIDE, 1.2, 20e-9).rates(np.ones(1), np.zeros(1))[:, 0]
    np.testing.assert_allclose(short, ternary(WIDE, 1.2, 20e-9), rtol=0.05)


@pytest.mark.parametrize("true", [1.0, 1.3])
def test_intervals_cover_the_truth_as_often_as_they_say(true: float) -> None:
    # 200 repetitions: 95 % coverage has a standard error of 1.5 %
    rng = np.random.default_rng(3)
    one, inside, values = [condition()], 0, []
    for _ in range(200):
        found = fit_error_model(*counted(rng, one, 400, true, 8), one).spread
        inside += found.low <= true <= found.high
        values.append(found.value)
    assert 0.92 * 200 <= inside <= 0.98 * 200
    # the mean of 200 has itself an error of 0.07 spreads
    assert abs(np.mean(values) - true) < (0.1 + 0.14) * np.std(values)


def test_conditions_that_move_the_distance_tell_the_shift_as_well() -> None:
    listed = [condition(factor) for factor in (0.25, 0.5, 1.0)]
    found = fit_error_model(*counted(np.random.default_rng(4), listed, 1000, 0.9, 8), listed)
    assert found.shift is not None
    assert found.shift.low < 0.0 < found.shift.high
    assert found.spread.low < 0.9 < found.spread.high
    assert found.design_effect > 1.2


@pytest.mark.slow
def test_intervals_of_spread_and_shift_hold_and_values_are_right_on_average() -> None:
    # 200 repetitions: 95 % coverage has a standard error of 1.5 %; populations as badly told as those of one array
    rng = np.random.default_rng(6)
    listed, truth, found = [condition(factor) for factor in (0.4, 0.6, 1.0)], np.array([1.0, 0.0]), []
    for _ in range(200):
        fit = fit_error_model(*counted(rng, listed, 1000, truth[0], 8), listed)
        assert fit.shift is not None
        found.append([[one.value, one.low, one.high] for one in (fit.spread, fit.shift)])
    value, low, high = np.moveaxis(np.array(found), 2, 0)
    inside = ((low <= truth) & (truth <= high)).mean(axis=0)
    assert (inside >= 0.92).all()
    assert (inside <= 0.98).all()
    # the mean of 200 has itself an error of 0.07 of their scatter
    assert (np.abs(value.mean(axis=0) - truth) < (0.1 + 0.14) * value.std(axis=0)).all()


def test_cells_that_err_at_all_conditions_blur_the_shift_less() -> None:
    # what is common to all conditions moves none of them against the others
    listed = [condition(factor) for factor in (0.25, 0.5, 1.0)]
    errors, trials = counted(np.random.default_rng(5), listed, 1000, 0.9, 8)
    apart = errors.copy()
    for index in (1, 2):
        apart[index] = np.roll(errors[index], 300 * index, axis=1)
    same, other = (fit_error_model(each, trials, listed) for each in (errors, apart))
    assert same.design_effect > other.design_effect
    assert same.shift is not None
    assert other.shift is not None
    assert same.shift.high - same.shift.low < 0.95 * (other.shift.high - other.shift.low)


def test_conditions_that_move_the_distance_too_little_keep_it() -> None:
    # nothing bounds distance and spread but their ratio: a fit of both ran over what is sought, and was refused
    listed = [condition(factor) for factor in (0.9, 1.0)]
    found = fit_error_model(*counted(np.random.default_rng(4), listed, 200, 1.2, 8), listed)
    assert found.shift is None
    assert found.spread.low < 1.2 < found.spread.high < 1.5


def test_without_an_error_there_is_only_an_upper_bound() -> None:
    one = [condition()]
    trials = np.full((1, 3, 400), 8)
    trials[:, 2] = 0
    found = fit_error_model(np.zeros_like(trials), trials, one)
    assert found.spread.low == 0.0
    # 400 cells that each count once: the rate lies below about 1 in 100
    assert float(one[0].rates(np.array([found.spread.high]), np.zeros(1))[0, 0]) < 0.02
    assert found.shift is None


def test_errors_of_the_same_cells_weigh_less() -> None:
    errors = np.zeros((1, 3, 100), dtype=np.int64)
    trials = np.full((1, 3, 100), 10)
    errors[0, 0, :10] = 10
    assert design_effect(errors, trials) == pytest.approx(10.0, rel=0.05)


def test_data_that_cannot_support_a_fit_are_refused() -> None:
    one, trials = [condition()], np.full((1, 3, 100), 8)
    often = np.zeros_like(trials)
    often[:, 0] = 3
    cases = {
        "wrong at best": (trials - 3, trials),
        "wide": (often, trials),
        "no more than the trials": (trials + 1, trials),
        "do not fit": (trials[:, :2], trials[:, :2]),
        "at least 8": (trials[..., :4] * 0, trials[..., :4]),
    }
    for part, (errors, tried) in cases.items():
        with pytest.raises(UserMistake, match=part) as caught:
            fit_error_model(errors, tried, one)
        assert "\n" not in str(caught.value)
