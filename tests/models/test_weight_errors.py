from __future__ import annotations

import numpy as np
import pytest
import torch

from models.exceptions import UserMistake
from models.weight_errors import WeightErrorRates, WeightErrors


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def within(count: int, trials: int, rate: float) -> bool:
    """Within 5 standard deviations of a binomial."""
    return abs(count - trials * rate) <= 5 * np.sqrt(trials * rate * (1 - rate)) + 1e-9


def test_each_type_of_error_comes_at_its_own_rate():
    weights = generator().choice(np.array([-1, 0, 1], np.int8), (400, 500))
    rates = WeightErrorRates(inversion=0.02, loss=0.05, gain=0.2)
    found = WeightErrors(rates, generator(1)).disturbed(weights)
    signs, zeros = np.count_nonzero(weights), np.count_nonzero(weights == 0)
    assert within(np.count_nonzero(found == -weights) - np.count_nonzero((weights == 0) & (found == 0)), signs, 0.02)
    assert within(np.count_nonzero((weights != 0) & (found == 0)), signs, 0.05)
    assert within(np.count_nonzero((weights == 0) & (found == 1)), zeros, 0.1)
    assert within(np.count_nonzero((weights == 0) & (found == -1)), zeros, 0.1)


def test_a_map_errs_where_it_says_and_nowhere_else():
    weights = np.ones((40, 500), np.int8)
    rates = np.zeros(weights.shape)
    rates[:, 100:200], rates[:, 300:] = 1.0, 0.1
    found = WeightErrors(WeightErrorRates(inversion=rates), generator()).disturbed(weights)
    assert (found[:, :100] == 1).all()
    assert (found[:, 100:200] == -1).all()
    assert (found[:, 200:300] == 1).all()
    assert within(np.count_nonzero(found[:, 300:] == -1), 40 * 200, 0.1)


def test_errors_are_fresh_at_every_use_or_stay_in_their_places():
    weights = np.ones((50, 60), np.int8)
    rates = WeightErrorRates(inversion=0.1)
    fresh = WeightErrors(rates, generator())
    assert not np.array_equal(fresh.disturbed(weights), fresh.disturbed(weights))
    fixed = WeightErrors(rates, generator(), fresh=False)
    first = fixed.disturbed(weights)
    assert np.array_equal(fixed.disturbed(weights), first)
    assert np.array_equal(fixed.disturbed(-weights), -first)
    assert np.array_equal(WeightErrors(rates, generator()).disturbed(weights), first)


@pytest.mark.parametrize("shape", [(30, 40), (30, 5, 2, 4)])
def test_tensors_and_arrays_meet_the_same_errors(shape):
    weights = generator(3).choice(np.array([-1, 0, 1], np.int8), (30, 40))
    rates = WeightErrorRates(generator(4).random((30, 40)) / 4, 0.1, 0.3)
    tensor = torch.from_numpy(weights.astype(np.float32)).reshape(shape)
    WeightErrors(rates, generator(5)).disturb_(tensor)
    assert np.array_equal(tensor.reshape(30, 40).numpy(), WeightErrors(rates, generator(5)).disturbed(weights))


def test_no_rate_is_no_error():
    weights = np.ones((5, 6), np.int8)
    assert np.array_equal(WeightErrors(WeightErrorRates(), generator()).disturbed(weights), weights)


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        ({"inversion": -0.1}, "'inversion' must lie between 0 and 1"),
        ({"gain": float("nan")}, "'gain' must lie between 0 and 1"),
        ({"loss": np.array([0.5, 1.5])}, "'loss' must lie between 0 and 1"),
        ({"inversion": 0.6, "loss": 0.6}, "add up to more than 1"),
    ],
)
def test_what_is_no_probability_is_refused(rates, says):
    with pytest.raises(UserMistake, match=says):
        WeightErrorRates(**rates)


def test_a_map_of_another_shape_is_refused():
    errors = WeightErrors(WeightErrorRates(inversion=np.full((4, 5), 0.5)), generator())
    with pytest.raises(UserMistake, match=r"shape \(4, 5\), expected that of the weights, \(5, 4\)"):
        errors.disturbed(np.ones((5, 4), np.int8))
