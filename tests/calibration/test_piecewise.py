"""The compiled fit of two lines finds the global optimum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from calibration.piecewise import fit_curves
from models.exceptions import UserMistake

T = np.arange(10.0, 310.0, 10.0)


def brute_force(t: np.ndarray, w: np.ndarray, weights: np.ndarray) -> float:
    """Least residual over many knees, each with the best offset and slopes."""
    best = np.inf
    for knee in np.linspace(t[1], t[-2], 600):
        basis = np.stack([np.ones_like(t), np.minimum(t, knee), np.maximum(t - knee, 0.0)], axis=1)
        root = np.sqrt(weights)
        found, *_ = np.linalg.lstsq(basis * root[:, None], w * root, rcond=None)
        best = min(best, float((weights * (w - basis @ found) ** 2).sum()))
    return best


def test_lines_without_noise_come_back_exactly() -> None:
    # a knee between two readings, one on a reading, and one of a falling curve
    truth = np.array([[0.05, 1e-3, 123.0, 1e-5], [-0.1, 3e-3, 200.0, 0.0], [0.0, -1e-3, 55.5, 2e-3]])
    w = truth[:, :1] + truth[:, 1:2] * np.minimum(T, truth[:, 2:3]) + truth[:, 3:] * np.maximum(T - truth[:, 2:3], 0.0)
    found = fit_curves(T, w)
    np.testing.assert_allclose(found.offset, truth[:, 0], atol=1e-9)
    np.testing.assert_allclose(found.slope1, truth[:, 1], atol=1e-10)
    np.testing.assert_allclose(found.knee, truth[:, 2], atol=1e-5)
    np.testing.assert_allclose(found.slope2, truth[:, 3], atol=1e-10)
    np.testing.assert_allclose(found.at(T), w, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 40), st.booleans())
@example(271, 15, False)
def test_no_search_over_knees_does_better(seed: int, readings: int, weighted: bool) -> None:
    rng = np.random.default_rng(seed)
    t = np.cumsum(rng.uniform(0.5, 5.0, readings))
    w = 0.3 * np.cumsum(rng.standard_normal((1, readings)), axis=1)
    weights = rng.uniform(0.1, 1.0, (1, readings)) if weighted else np.ones((1, readings))
    found = fit_curves(t, w, weights)
    # the search is over a grid, so it may only come close from above
    assert found.residual[0] <= brute_force(t, w[0], weights[0]) * (1 + 1e-9) + 1e-9
    held = float((weights * (w - found.at(t)) ** 2).sum())
    assert held == pytest.approx(found.residual[0], rel=1e-6, abs=1e-9)
    assert t[1] <= found.knee[0] <= t[-2]


def test_a_reading_of_weight_zero_counts_for_nothing() -> None:
    rng = np.random.default_rng(1)
    w = rng.standard_normal((4, len(T)))
    weights = np.ones_like(w)
    weights[:, 7] = 0.0
    spoilt = w.copy()
    spoilt[:, 7] = 1e3
    for one, other in zip(fit_curves(T, w, weights), fit_curves(T, spoilt, weights), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(
    ("t", "w", "part"),
    [
        (T[:3], np.zeros((2, 3)), "at least 4"),
        (T[::-1], np.zeros((2, len(T))), "rising"),
        (T, np.zeros((2, 3)), "do not fit"),
        (T, np.full((2, len(T)), np.nan), "finite"),
    ],
)
def test_readings_that_cannot_be_fitted_are_refused(t: np.ndarray, w: np.ndarray, part: str) -> None:
    with pytest.raises(UserMistake, match=part):
        fit_curves(t, w)
