"""The kinds of error are told apart, and rates come with intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.bit_errors import binomial_rate, clustered_rate, fit_bit_errors, fixed_output_rate
from models.exceptions import UserMistake


def patterns(pairs: int, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
    halves = [rng.choice(np.array([-1, 1], np.int8), size=(rows, cols)) for _ in range(pairs)]
    return np.stack([half * sign for half in halves for sign in (1, -1)]).astype(np.int8)


def test_each_kind_of_error_is_counted_as_what_it_is() -> None:
    rng = np.random.default_rng(1)
    targets = patterns(2, 32, 32, rng)
    true = targets.copy()
    true[:, 4, 5] = 1  # stuck: reads +1 whatever was asked
    true[:, 6, 7] = -1
    true[1, 9, 9] *= -1  # programming failed once
    senses = np.repeat(true[:, None], 10, axis=1)
    senses[2, 3, 20, 20] *= -1  # one sense differed
    fit = fit_bit_errors(targets, senses)
    assert np.argwhere(fit.stuck).tolist() == [[4, 5], [6, 7]]
    assert fit.stuck_fraction.value == pytest.approx(2 / 1024, rel=0.2)
    assert fit.random_rate.low < 1 / (4 * 1022) < fit.random_rate.high
    assert fit.transient_rate.low < 1 / (4 * 10 * 1024) < fit.transient_rate.high
    assert fit.bit_error_rate.value == pytest.approx((4 + 1) / 4 / 1024, rel=0.4)


def test_no_error_seen_gives_an_upper_bound_and_not_a_zero() -> None:
    rate = binomial_rate(0, 1000)
    assert rate.low == 0.0
    assert 0.0 < rate.value < rate.high
    # The rule of three: with none in n, 95 % of the rates lie below about 2.5/n.
    assert rate.high == pytest.approx(2.5 / 1000, rel=0.1)


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.3])
def test_rates_are_covered_as_often_as_they_say(rate: float) -> None:
    # 500 draws of 2000 trials; Jeffreys' intervals cover 95 % within 2.5 % here, and the draws add 1 % of noise.
    rng = np.random.default_rng(2)
    covered = [binomial_rate(count, 2000) for count in rng.binomial(2000, rate, size=500)]
    assert np.mean([found.low <= rate <= found.high for found in covered]) == pytest.approx(0.95, abs=0.035)


def test_errors_that_gather_in_marginal_cells_widen_the_interval() -> None:
    # A population of cells, most of them good and 3 % marginal, sensed 80 times each. 300 arrays of 1024 cells: the
    # interval of independent trials holds the true mean in about half of them, the clustered one in 95 % within 5 %.
    rng = np.random.default_rng(6)
    true_rate = 0.97 * 1e-5 + 0.03 * 0.25
    independent = clustered = 0
    for _ in range(300):
        marginal = rng.random(1024) < 0.03
        rates = np.where(marginal, rng.beta(1, 3, size=1024), 1e-5)
        errors = rng.binomial(80, rates)
        plain, robust = binomial_rate(int(errors.sum()), 80 * 1024), clustered_rate(errors, 80)
        independent += plain.low <= true_rate <= plain.high
        clustered += robust.low <= true_rate <= robust.high
    assert independent / 300 < 0.7
    assert clustered / 300 == pytest.approx(0.95, abs=0.05)


def test_marginal_cells_are_not_counted_twice() -> None:
    # 4 % of the weights read wrong half of the time: one fresh sense errs 2 % of the time, and random and transient
    # rates together are to say that; flips from the majority would make 2 % and 1.7 % of it.
    rng = np.random.default_rng(7)
    targets = patterns(2, 64, 64, rng)
    marginal = rng.random(targets.shape) < 0.04
    wrong = marginal[:, None] & (rng.random((len(targets), 20, 64, 64)) < 0.5)
    fit = fit_bit_errors(targets, np.where(wrong, -targets[:, None], targets[:, None]).astype(np.int8))
    stuck_part = 0.5 * fit.stuck_fraction.value
    assert fit.random_rate.value + fit.transient_rate.value + stuck_part == pytest.approx(wrong.mean(), rel=0.06)


def test_cells_with_a_fixed_output_are_counted_beyond_the_reads() -> None:
    # 1 % of 32 x 32 cells answer with their weight whatever the input, 2 % read wrong at any input
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(200):
        fixed, wrong = rng.binomial(128, 0.01, size=32), rng.binomial(128, 0.02, size=32)
        found = fixed_output_rate(wrong.astype(float), wrong + 0.5 * fixed, 128)
        covered += found.low <= 0.01 <= found.high
    assert covered / 200 == pytest.approx(0.95, abs=0.05)
    assert fixed_output_rate(wrong.astype(float), wrong.astype(float), 128).low == 0.0


def test_unused_cells_do_not_count() -> None:
    rng = np.random.default_rng(3)
    targets = patterns(2, 8, 8, rng)
    senses = np.repeat(targets[:, None], 3, axis=1)
    senses[:, :, 0, :] = 0
    used = np.ones((8, 8), bool)
    used[0] = False
    fit = fit_bit_errors(targets, senses, used)
    assert fit.cells == 56
    assert fit.bit_error_rate.low == 0.0


def test_too_little_to_tell_the_kinds_apart_is_refused() -> None:
    rng = np.random.default_rng(4)
    targets = patterns(1, 4, 4, rng)
    with pytest.raises(UserMistake, match="at least twice"):
        fit_bit_errors(targets, np.repeat(targets[:, None], 3, axis=1))
    targets = patterns(2, 4, 4, rng)
    with pytest.raises(UserMistake, match="once only"):
        fit_bit_errors(targets, targets[:, None])
    with pytest.raises(UserMistake, match="do not belong"):
        fit_bit_errors(targets[:3], np.repeat(targets[:, None], 3, axis=1))
