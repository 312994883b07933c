"""Which curve suits RESET trains: two straight lines, one line, a saturating exponential, or a logarithm.

All are curves of w = ln R against the pulses t, fitted to each train by least squares::

    two lines     c + m1 t, then slope m2 from the knee on      (Majumdar et al., IEEE TED 2021)
    one line      c + m t
    exponential   c + a (1 - exp(-t / tau))
    logarithm     c + a ln(1 + t / tau)

They are compared by the Bayesian information criterion (Schwarz, Annals of Statistics 6, 461, 1978), summed over the
trains, with one variance of the residuals per train.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import UPPER
from calibration.piecewise import fit_curves
from calibration.result import Band, Comparison
from models.exceptions import UserMistake

Floats = NDArray[np.float64]

TWO_LINES, ONE_LINE, EXPONENTIAL, LOGARITHM = "two lines", "one line", "exponential", "logarithm"
PARAMETERS: Mapping[str, int] = {TWO_LINES: 4, ONE_LINE: 2, EXPONENTIAL: 3, LOGARITHM: 3}
"""Free numbers of each curve, the variance of the residuals not counted."""

_TIMES = 160
_REFINED = 21
_ROUNDS = 3
_BLOCK = 4096
_LEAST_SHARE = 1e-12
"""Of the variance of a train: residuals below it are rounding errors."""


class Suited(NamedTuple):
    """How well the curves suit.

    Attributes:
        bic: sum over trains for each curve; lower is better.
        trains: ``{curve: number of trains that it suits best}``.
        comparison: the best curve against the next best.
    """

    bic: Mapping[str, float]
    trains: Mapping[str, int]
    comparison: Comparison


def compare_curves(t: Floats, w: Floats) -> Suited:
    """Fit all four curves to each train and compare them.

    Args:
        t: ``(readings,)`` pulses, rising from 0 or more.
        w: ``(trains, readings)`` ln R.

    Raises:
        UserMistake: shapes that do not fit, too few readings, or values that are not finite.
    """
    curves = fit_curves(t, w)  # checks the shapes and values
    if len(t) <= PARAMETERS[TWO_LINES] + 1:
        raise UserMistake(f"curves of {len(t)} readings cannot be told apart; at least {PARAMETERS[TWO_LINES] + 2}")
    residuals = {
        TWO_LINES: curves.residual,
        ONE_LINE: _linear(np.asarray(t, dtype=np.float64), w),
        EXPONENTIAL: _in_blocks(t, w, lambda x: -np.expm1(-x)),
        LOGARITHM: _in_blocks(t, w, np.log1p),
    }
    count = len(t)
    least = _LEAST_SHARE * np.square(w - w.mean(axis=1, keepdims=True)).sum(axis=1) + np.finfo(np.float64).tiny
    each = {
        name: count * np.log(np.maximum(residual, least) / count) + (PARAMETERS[name] + 1) * np.log(count)
        for name, residual in residuals.items()
    }
    total = {name: float(values.sum()) for name, values in each.items()}
    best = np.argmin(np.stack(list(each.values())), axis=0)
    trains = {name: int((best == index).sum()) for index, name in enumerate(each)}
    first, second = sorted(total, key=total.__getitem__)[:2]
    evidence = total[second] - total[first]
    text = ", ".join(f"{name} {total[name] - total[first]:.1f}" for name in sorted(total, key=total.__getitem__))
    question = "which curve suits the trains?"
    return Suited(
        total,
        trains,
        Comparison(question, first, evidence, f"{question} {first}; information criteria above the best: {text}"),
    )


def _linear(x: Floats, w: Floats) -> Floats:
    """Residual sums of w = c + a x, for arrays that broadcast, with readings along the last axis."""
    dx, dw = x - x.mean(axis=-1, keepdims=True), w - w.mean(axis=-1, keepdims=True)
    along = np.square((dx * dw).sum(axis=-1)) / np.square(dx).sum(axis=-1)
    return np.asarray(np.maximum(np.square(dw).sum(axis=-1) - along, 0.0))


def _in_blocks(t: Floats, w: Floats, shape: Callable[[Floats], Floats]) -> Floats:
    """:func:`_saturating`, of so many trains at once as fit in memory."""
    return np.concatenate([_saturating(t, w[first : first + _BLOCK], shape) for first in range(0, len(w), _BLOCK)])


def _saturating(t: Floats, w: Floats, shape: Callable[[Floats], Floats]) -> Floats:
    """Least residual sums of w = c + a shape(t / tau) over tau, ``(trains,)``: a coarse search, then finer ones."""
    x = t - t[0]
    tau = np.geomspace(0.1 * np.diff(x).min(), 30.0 * x[-1], _TIMES)
    coarse = np.stack([_linear(shape(x / one), w) for one in tau])
    around, found = np.log(tau)[np.argmin(coarse, axis=0)], coarse.min(axis=0)
    step = float(np.log(tau[1] / tau[0]))
    steps = np.linspace(-1.0, 1.0, _REFINED)
    for _ in range(_ROUNDS):
        tried = around[:, None] + step * steps
        fine = _linear(shape(x / np.exp(tried)[..., None]), w[:, None])
        best = np.argmin(fine, axis=1)[:, None]
        around = np.take_along_axis(tried, best, axis=1)[:, 0]
        found = np.minimum(found, np.take_along_axis(fine, best, axis=1)[:, 0])
        step *= float(steps[1] - steps[0])
    return np.asarray(found)


class HeldOut(NamedTuple):
    """Prediction of cycles that were not fitted.

    Attributes:
        inside: share of the held-out readings inside their intervals.
        devices: ``(devices,)``, the same for each device.
        bands: predicted resistance of each device, in ohm.
    """

    inside: float
    devices: Floats
    bands: tuple[Band, ...]


def predict_cycles(t: Floats, fitted: Floats, held_out: Floats) -> HeldOut:
    """Predict further cycles of the same devices from the two-line curves of some.

    A reading of a new cycle differs from the mean of a device's fitted curves by how the curves differ from cycle to
    cycle, by the error of that mean, and by the noise of a reading. The first is pooled over devices at each pulse, for
    a few cycles of one device say little of it; noise is each device's own. Intervals are Student's, 95 %.

    Args:
        t: ``(readings,)`` pulses.
        fitted: ``(devices, cycles, readings)`` ln R to fit, at least two cycles.
        held_out: ``(devices, further cycles, readings)`` ln R to predict.

    Raises:
        UserMistake: shapes that do not fit, fewer than two cycles to fit, or values that are not finite.
    """
    from scipy import stats

    if fitted.ndim != 3 or fitted.shape[1] < 2 or held_out.shape[::2] != fitted.shape[::2]:
        raise UserMistake(f"cycles {fitted.shape} and {held_out.shape} do not fit; at least two cycles are fitted")
    devices, cycles, readings = fitted.shape
    curves = fit_curves(t, fitted.reshape(-1, readings))
    smooth = curves.at(np.asarray(t, dtype=np.float64)).reshape(fitted.shape)
    freedom = cycles * (readings - PARAMETERS[TWO_LINES])
    noise = curves.residual.reshape(devices, cycles).sum(axis=1) / freedom
    between = smooth.var(axis=1, ddof=1).mean(axis=0)
    middle = smooth.mean(axis=1)
    spread = np.sqrt(between * (1.0 + 1.0 / cycles) + noise[:, None])
    half = float(stats.t.ppf(UPPER, devices * (cycles - 1))) * spread
    hit = np.abs(held_out - middle[:, None]) <= half[:, None]
    bands = tuple(
        Band(np.asarray(t, dtype=np.float64), *(np.exp(row) for row in (mid, mid - wide, mid + wide)))
        for mid, wide in zip(middle, half, strict=True)
    )
    return HeldOut(float(hit.mean()), hit.mean(axis=(1, 2)), bands)
