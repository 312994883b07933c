"""Random telegraph noise as a two-state hidden Markov chain, smoothed for many devices in one compiled pass.

Low: nothing is added to the reading. High: each reading gets the device's ceiling A times two uniform numbers (the RTN
of Majumdar et al., IEEE Transactions on Electron Devices, 2021), which has the mean A/4 and the variance
A^2 (1/9 - 1/16); the smoother takes it as normal. Both states carry the other noise, of standard deviation ``sigma``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HIGH_MEAN = 1.0 / 4.0
HIGH_SQUARE = 1.0 / 9.0
HIGH_VARIANCE = HIGH_SQUARE - HIGH_MEAN**2
_MOST_EVIDENCE = 60.0


class Telegraph(NamedTuple):
    """What the smoother says of each device.

    Attributes:
        high: ``(devices, readings)``, probability of the high state given all readings.
        rises, falls: ``(devices,)``, expected changes of state between readings.
        log_likelihood: ``(devices,)``.
    """

    high: Floats
    rises: Floats
    falls: Floats
    log_likelihood: Floats


def smooth(residual: Floats, pulses: Floats, rise: float, fall: float, ceiling: Floats, sigma: float) -> Telegraph:
    """Forward-backward smoothing.

    Args:
        residual: ``(devices, readings)``, readings less the mean curve, in ln R.
        pulses: ``(readings,)``, pulses since the reading before; the first is not used.
        rise, fall: probability per pulse of low to high and of high to low, their sum above 0.
        ceiling: ``(devices,)``, A, in ln R.
        sigma: standard deviation of the other noise, in ln R.
    """
    gaps = np.ascontiguousarray(pulses, dtype=np.float64)
    return Telegraph(*_smooth(np.ascontiguousarray(residual), gaps, rise, fall, np.ascontiguousarray(ceiling), sigma))


@njit(cache=True)
def _smooth(
    residual: Floats, gaps: Floats, rise: float, fall: float, ceiling: Floats, sigma: float
) -> tuple[Floats, Floats, Floats, Floats]:
    devices, readings = residual.shape
    stationary = rise / (rise + fall)
    ups, downs = np.empty(readings), np.empty(readings)
    for k in range(readings):
        # the n-th power of the transition matrix in closed form
        moved = 1.0 - (1.0 - rise - fall) ** gaps[k]
        ups[k], downs[k] = stationary * moved, (1.0 - stationary) * moved
    high = np.empty((devices, readings))
    rises, falls, likelihood = np.zeros(devices), np.zeros(devices), np.zeros(devices)
    filtered, predicted = np.empty(readings), np.empty(readings)
    for d in range(devices):
        mean = HIGH_MEAN * ceiling[d]
        spread = np.sqrt(sigma * sigma + HIGH_VARIANCE * ceiling[d] ** 2)
        h = stationary
        for k in range(readings):
            r = residual[d, k]
            low_log = -0.5 * (r / sigma) ** 2 - np.log(sigma)
            evidence = -0.5 * ((r - mean) / spread) ** 2 - np.log(spread) - low_log
            odds = np.exp(min(max(evidence, -_MOST_EVIDENCE), _MOST_EVIDENCE))
            if k > 0:
                h = h * (1.0 - downs[k]) + (1.0 - h) * ups[k]
            predicted[k] = h
            norm = h * odds + 1.0 - h
            # of whichever state explains the reading, so that neither exponential overflows
            if evidence > 0.0:
                likelihood[d] += np.log(h + (1.0 - h) * np.exp(-evidence)) + evidence
            else:
                likelihood[d] += np.log(h * np.exp(evidence) + 1.0 - h)
            likelihood[d] += low_log - 0.5 * np.log(2.0 * np.pi)
            h = h * odds / norm
            filtered[k] = h
        high[d, readings - 1] = h
        for k in range(readings - 2, -1, -1):
            ratio_high = high[d, k + 1] / max(predicted[k + 1], 1e-300)
            ratio_low = (1.0 - high[d, k + 1]) / max(1.0 - predicted[k + 1], 1e-300)
            f = filtered[k]
            rises[d] += (1.0 - f) * ups[k + 1] * ratio_high
            fell = f * downs[k + 1] * ratio_low
            falls[d] += fell
            high[d, k] = fell + f * (1.0 - downs[k + 1]) * ratio_high
    return high, rises, falls, likelihood
