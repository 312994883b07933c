"""How dies differ: recovered from made-up dies whose spread and bowl are known."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.between_dies import BetweenDies, between_dies
from calibration.estimate import Estimate

RADIUS = np.sqrt(np.linspace(0.0, 1.0, 37))


def found(
    rng: np.random.Generator, spread: float, bowl: float, error: float, radius: np.ndarray = RADIUS
) -> list[Estimate]:
    """Dies with a median of 7 kohm in the middle, a bowl and a spread in ln, and fits with errors that they know."""
    errors = error * rng.uniform(0.5, 1.5, len(radius))
    truth = np.log(7000.0) + bowl * radius**2 + spread * rng.standard_normal(len(radius))
    middle = truth + errors * rng.standard_normal(len(radius))
    return [
        Estimate(float(np.exp(at)), float(np.exp(at - 1.96 * own)), float(np.exp(at + 1.96 * own)), "ohm")
        for at, own in zip(middle, errors, strict=True)
    ]


def told(dies: list[Estimate], radius: np.ndarray = RADIUS) -> BetweenDies:
    across = between_dies(dies, radius)
    assert across is not None
    return across


@pytest.mark.parametrize(("spread", "error"), [(0.0, 0.02), (0.05, 0.02), (0.05, 0.1)])
def test_intervals_of_the_edge_hold_as_often_as_they_say(spread: float, error: float) -> None:
    """400 wafers: 95 % is 380, and 366 to 393 is within three standard deviations."""
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(400):
        edge = told(found(rng, spread, -0.2, error)).edge
        inside += edge.low <= np.exp(-0.2) <= edge.high
    assert 366 <= inside <= 393


def test_what_fits_explain_is_no_spread_between_dies() -> None:
    """Mean over 200 wafers: the moments are unbiased but for what is cut at 0, a third of the fits' error at most."""
    rng = np.random.default_rng(8)
    none = np.mean([told(found(rng, 0.0, 0.0, 0.05)).spread for _ in range(200)])
    some = np.mean([told(found(rng, 0.1, 0.0, 0.05)).spread for _ in range(200)])
    assert none < 0.017
    assert some == pytest.approx(0.1, rel=0.05)


def test_the_mean_of_a_flat_wafer_holds_with_few_dies() -> None:
    """400 wafers of 5 dies: 366 to 393 of them hold the truth."""
    rng = np.random.default_rng(9)
    radius = np.array([0.0, 0.3, 0.5, 0.8, 1.0])
    inside = 0
    for _ in range(400):
        mean = told(found(rng, 0.05, 0.0, 0.05, radius), radius).mean
        inside += mean.low <= 7000.0 <= mean.high
    assert 366 <= inside <= 393


def test_numbers_that_may_be_negative_are_judged_as_they_are() -> None:
    dies = [Estimate(value, value - 0.2, value + 0.2, "1") for value in (0.05, 0.15, 0.0, 0.1, 0.1)]
    across = told(dies, np.array([0.0, 0.2, 0.5, 0.7, 1.0]))
    assert not across.relative
    assert across.mean.value == pytest.approx(0.08)


@pytest.mark.parametrize(
    "dies",
    [
        [Estimate(1.0, 0.5, 2.0, "1")] * 3,
        [Estimate(1.0, 0.5, 2.0, "1")] * 9 + [Estimate(0.1, 0.0, 0.2, "1")],
        [Estimate(1.0, 1.0, 1.0, "1")] * 10,
    ],
    ids=["too few", "no event seen", "no interval"],
)
def test_nothing_is_told_where_nothing_can_be(dies: list[Estimate]) -> None:
    assert between_dies(dies, np.linspace(0.0, 1.0, len(dies))) is None


def test_dies_on_one_ring_tell_no_edge() -> None:
    assert between_dies([Estimate(1.0, 0.5, 2.0, "1")] * 8, np.full(8, 0.9)) is None
