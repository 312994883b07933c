"""The RTN smoother agrees with the sum over all paths of states."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from calibration.telegraph import HIGH_MEAN, HIGH_VARIANCE, smooth

RISE, FALL, SIGMA = 0.03, 0.05, 0.02


def enumerated(residual: np.ndarray, gaps: np.ndarray, ceiling: float) -> tuple[np.ndarray, float, float, float]:
    """Probability of high, expected rises and falls, and log likelihood, from all paths."""
    step = np.array([[1 - RISE, RISE], [FALL, 1 - FALL]])
    start = np.array([FALL, RISE]) / (RISE + FALL)
    means, sds = (0.0, HIGH_MEAN * ceiling), (SIGMA, np.sqrt(SIGMA**2 + HIGH_VARIANCE * ceiling**2))
    total, high, rises, falls = 0.0, np.zeros(len(residual)), 0.0, 0.0
    for path in product((0, 1), repeat=len(residual)):
        weight = start[path[0]]
        for k, state in enumerate(path):
            if k:
                weight *= np.linalg.matrix_power(step, int(gaps[k]))[path[k - 1], state]
            z = (residual[k] - means[state]) / sds[state]
            weight *= np.exp(-0.5 * z**2) / (sds[state] * np.sqrt(2 * np.pi))
        changes = np.diff(path)
        total += weight
        high += weight * np.array(path)
        rises += weight * (changes == 1).sum()
        falls += weight * (changes == -1).sum()
    return high / total, rises / total, falls / total, float(np.log(total))


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_the_sum_over_all_paths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    gaps = rng.integers(1, 40, 9).astype(float)
    ceilings = np.array([0.1, 0.3])
    residual = SIGMA * rng.standard_normal((2, 9)) + np.where(rng.random((2, 9)) < 0.4, 0.1, 0.0)
    found = smooth(residual, gaps, RISE, FALL, ceilings, SIGMA)
    for device in range(2):
        high, rises, falls, likelihood = enumerated(residual[device], gaps, float(ceilings[device]))
        np.testing.assert_allclose(found.high[device], high, atol=1e-9)
        assert found.rises[device] == pytest.approx(rises, abs=1e-9)
        assert found.falls[device] == pytest.approx(falls, abs=1e-9)
        assert found.log_likelihood[device] == pytest.approx(likelihood, abs=1e-9)


def test_a_reading_far_above_the_noise_is_likely_under_rtn() -> None:
    # a thousand standard deviations of the low state would end any product of densities; it must stay a finite number
    residual = np.array([[0.0, 0.0, 20.0, 0.0]])
    found = smooth(residual, np.full(4, 10.0), RISE, FALL, np.array([40.0]), SIGMA)
    assert found.high[0, 2] == pytest.approx(1.0)
    assert np.isfinite(found.log_likelihood[0])
    assert -20.0 < found.log_likelihood[0] < 20.0
