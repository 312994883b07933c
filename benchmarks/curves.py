"""Mean weak-RESET curves of 2 048 devices: one compiled batch against one ``scipy.optimize.curve_fit`` per device."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from benchmarks.rows import Row, row, seconds_of
from calibration.piecewise import fit_curves
from data.device_files import default_device
from models.arrays import NumpyArrays
from models.devices.weak_reset import WeakResetDevices

DEVICES = 2048
PULSES = np.arange(30.0, 3001.0, 30.0)
REPETITIONS = 5
SAME = 1e-6
"""Residual sums that differ by less, relative to the larger, are the same optimum."""

Floats = NDArray[np.float64]


def _two_lines(t: Floats, offset: float, slope1: float, knee: float, slope2: float) -> Floats:
    return offset + slope1 * np.minimum(t, knee) + slope2 * np.maximum(t - knee, 0.0)


def _readings(seed: int) -> Floats:
    """Log of the resistance ratio ``(devices, readings)``, all imperfections on."""
    devices = WeakResetDevices(default_device().model.weak_reset, (DEVICES,), NumpyArrays(np.random.default_rng(seed)))
    w = np.empty((DEVICES, len(PULSES)))
    for index, count in enumerate(np.diff(PULSES, prepend=0.0)):
        devices.apply(int(count))
        w[:, index] = devices.log_ratio
    return w


def _one_by_one(w: Floats) -> Floats:
    """Residual sums of one general fit per device; it starts from the ends of the curve and the middle of its range."""
    from scipy.optimize import OptimizeWarning, curve_fit

    residual = np.empty(len(w))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        for index, z in enumerate(w):
            slope = (z[len(z) // 5] - z[0]) / (PULSES[len(z) // 5] - PULSES[0])
            start = (z[0], slope, 0.25 * PULSES[-1], 0.1 * slope)
            bounds = ([-np.inf, -np.inf, PULSES[1], -np.inf], [np.inf, np.inf, PULSES[-2], np.inf])
            found, _ = curve_fit(_two_lines, PULSES, z, start, bounds=bounds, x_scale=(0.1, 1e-3, 500.0, 1e-4))
            residual[index] = float(((z - _two_lines(PULSES, *found)) ** 2).sum())
    return residual


def curves() -> list[Row]:
    """Times of both, their ratio, and how their optima compare.

    Raises:
        AssertionError: the batch ends above one of the single fits.
    """
    w = _readings(1)
    fit_curves(PULSES, w[:8])  # compiled before it is timed
    batch = [seconds_of(lambda: fit_curves(PULSES, w)) for _ in range(REPETITIONS)]
    single: list[Floats] = []
    apart = seconds_of(lambda: single.append(_one_by_one(w)))
    ours, theirs = fit_curves(PULSES, w).residual, single[0]
    worst = float(((ours - theirs) / theirs).max())
    assert worst < SAME, f"a single fit is better by {worst:.2g}"
    as_good = float((ours <= theirs * (1.0 + SAME)).mean())
    same, close = (float((theirs - ours < share * ours).mean()) for share in (SAME, 0.01))
    what = f"mean curves of {DEVICES} devices, {len(PULSES)} readings"
    return [
        row(f"{what}, one batch", "s", batch),
        row(f"{what}, one curve_fit each", "s", [apart]),
        row("one curve_fit each over one batch", "times", [apart / seconds for seconds in batch]),
        row("share of devices where the batch ends at least as low", "1", [as_good]),
        row("share of devices where curve_fit finds the same optimum", "1", [same]),
        row("share of devices where its residual sum is within 1 % of ours", "1", [close]),
    ]
