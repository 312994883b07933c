"""How well the weak-RESET model suits the measured devices: rival models, posterior predictive checks, overlays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.curve_models import ONE_LINE, TWO_LINES
from calibration.estimate import UPPER
from calibration.piecewise import fit_curves
from calibration.predictive import preferred, spread
from calibration.result import Band, Check, Comparison, Overlay
from calibration.weak_reset_curves import Branch, Description
from calibration.weak_reset_population import Setting, describe_all, simulate
from calibration.weak_reset_search import Populations
from calibration.weak_reset_trains import Trains, suited_curves, verdict

Floats = NDArray[np.float64]

REPLICAS = 40
"""Populations simulated from the fit, each with parameters drawn within their uncertainty."""

_SEED = 6206
_MOST_READINGS = 250_000
_FAMILY = 0.99
"""All checks of a right fit are good together in this share of cases."""

_QUANTILES = (0.1, 0.5, 0.9)
_TIMES = (0.05, 0.2, 0.5, 1.0)
"""Where along the staircase readings are compared, as shares of its pulses."""

_LAGS = 10


class Rivals(NamedTuple):
    """Which models the data prefer.

    Attributes:
        comparisons: for the report.
        lines: which curve suits, for a person.
        knee: two lines are better than one.
        rtn: two-state noise is better than none.
    """

    comparisons: tuple[Comparison, ...]
    lines: tuple[str, ...]
    knee: bool
    rtn: bool


def compare(
    setting: Setting, found: Sequence[Description], measured: Sequence[Floats], trains: Sequence[Trains]
) -> Rivals:
    """Hold the model against simpler and other ones by the Bayesian information criterion, summed over the devices.

    Args:
        setting: how was measured.
        found: descriptions of the measured devices.
        measured: the readings that are described.
        trains: all readings by branch.
    """
    whole = trains[furthest(setting)]
    mean, single = suited_curves(whole)
    knee = mean.bic[ONE_LINE] - mean.bic[TWO_LINES]
    rtn = sum(_rtn_evidence(setting.branches[index], item, measured) for index, item in enumerate(found))
    comparisons = [
        mean.comparison,
        preferred("is the knee needed?", TWO_LINES, ONE_LINE, knee),
        preferred("is RTN needed?", "RTN", "one level of noise", rtn),
    ]
    lines = [verdict("mean train of each device", mean)]
    if whole.log_r.shape[1] > 1:
        question = "which curve suits single trains?"
        text = single.comparison.text.replace(single.comparison.question, question)
        comparisons.append(replace(single.comparison, question=question, text=text))
        lines.append(verdict("single trains", single))
    return Rivals(tuple(comparisons), tuple(lines), knee > 0.0, rtn > 0.0)


def furthest(setting: Setting) -> int:
    """The branch that goes furthest along the curve."""
    return max(range(len(setting.branches)), key=lambda place: setting.branches[place].reach)


def _rtn_evidence(branch: Branch, found: Description, measured: Sequence[Floats]) -> float:
    """Difference of the criteria of two-state and of plain noise, for the readings of one branch."""
    z = np.stack([measured[member] for member in branch.members], axis=1)
    devices, cycles, reads = z.shape
    t = branch.stress * branch.pulses
    residual = z - fit_curves(t, z.mean(axis=1)).at(t)[:, None, :]
    variance = max(float((residual**2).mean()), 1e-12)
    plain = -0.5 * residual.size * (np.log(2.0 * np.pi * variance) + 1.0)
    gained = 2.0 * (float(found.log_likelihood.sum()) - plain)
    return float(gained - 2.0 * np.log(residual.size) - devices * np.log(cycles * reads))


class _Picture(NamedTuple):
    """What is compared of one population.

    Attributes:
        quantiles: ``(3, reads)`` of ln R ratio over the devices.
        correlation: ``(lags,)`` of residuals.
        roughness: root mean square difference of readings that follow each other.
        sigma: s.d. of the noise in the low state.
        slopes: ``(101,)`` percentiles of the described first slopes.
    """

    quantiles: Floats
    correlation: Floats
    roughness: float
    sigma: float
    slopes: Floats


def _picture(setting: Setting, found: Sequence[Description], measured: Sequence[Floats]) -> _Picture:
    place = furthest(setting)
    branch, item = setting.branches[place], found[place]
    z = np.concatenate([measured[member] for member in branch.members])
    residual = item.residual - item.residual.mean(axis=2, keepdims=True)
    lags = range(1, min(_LAGS, residual.shape[2] - 2) + 1)
    total = max(float((residual**2).mean()), 1e-300)
    correlation = [float((residual[:, :, lag:] * residual[:, :, :-lag]).mean()) / total for lag in lags]
    return _Picture(
        np.quantile(z, _QUANTILES, axis=0),
        np.array(correlation),
        float(np.sqrt(np.median(np.diff(z, axis=1) ** 2))),
        item.sigma,
        np.percentile(item.curves.slope1, np.arange(101.0)),
    )


def judge(
    setting: Setting, found: Sequence[Description], measured: Sequence[Floats], populations: Populations, devices: int
) -> tuple[tuple[Check, ...], tuple[Overlay, ...]]:
    """Simulate the fitted populations and hold the measured one against them.

    Args:
        setting: how was measured.
        found: descriptions of the measured devices.
        measured: their readings.
        populations: the fit.
        devices: how many devices were measured, those that reached the ceiling included.
    """
    rng = np.random.default_rng(_SEED)
    real = _picture(setting, found, measured)
    many = min(devices, max(_MOST_READINGS // setting.reads, 64))
    replicas = []
    for _ in range(REPLICAS):
        readings, kept = simulate(populations.drawn(rng), setting, many, rng)
        members = [z[kept] for z in readings] if kept.sum() >= 2 else readings
        replicas.append(_picture(setting, describe_all(setting, members), members))
    pulses = setting.branches[furthest(setting)].pulses
    return _checks(real, replicas, pulses), _overlays(real, replicas, pulses)


def _checks(real: _Picture, replicas: Sequence[_Picture], pulses: Floats) -> tuple[Check, ...]:
    rows: list[tuple[str, float, Floats]] = []
    for index in sorted({int(np.argmin(np.abs(pulses - share * pulses[-1]))) for share in _TIMES}):
        for level, quantile in enumerate(_QUANTILES):
            name = f"{quantile:.0%} quantile of ln(R/R0) at {pulses[index]:g} pulses"
            rows.append((name, real.quantiles[level, index], np.array([r.quantiles[level, index] for r in replicas])))
        name = f"spread of ln(R/R0) at {pulses[index]:g} pulses, 10 % to 90 %"
        widths = [r.quantiles[-1, index] - r.quantiles[0, index] for r in replicas]
        rows.append((name, real.quantiles[-1, index] - real.quantiles[0, index], np.array(widths)))
    for lag in (1, 2, 5):
        if lag <= len(real.correlation):
            name = f"autocorrelation of the residuals, {lag} readings apart"
            rows.append((name, real.correlation[lag - 1], np.array([r.correlation[lag - 1] for r in replicas])))
    rows.append(("step between readings", real.roughness, np.array([r.roughness for r in replicas])))
    rows.append(("residual noise", real.sigma, np.array([r.sigma for r in replicas])))
    each, family = NormalDist().inv_cdf(UPPER), NormalDist().inv_cdf(1.0 - (1.0 - _FAMILY) / (2 * len(rows)))
    return tuple(_check(name, value, predicted, each, family) for name, value, predicted in rows)


def _check(name: str, value: float, predicted: Floats, each: float, family: float) -> Check:
    # so few replicas have no outer quantiles to speak of: bounds are those of a normal distribution
    mean, sd = float(predicted.mean()), float(predicted.std(ddof=1))
    low, high = mean - each * sd, mean + each * sd
    good = abs(value - mean) <= family * sd
    text = f"{name}: {value:.4g} measured, {low:.4g} to {high:.4g} predicted" + ("" if good else ", far outside")
    return Check(name, float(value), low, high, good, text)


def _overlays(real: _Picture, replicas: Sequence[_Picture], pulses: Floats) -> tuple[Overlay, ...]:
    curves = np.mean([r.quantiles for r in replicas], axis=0)
    lags = np.arange(1.0, len(real.correlation) + 1.0)
    correlations = spread(lags, [r.correlation for r in replicas])
    share = np.arange(101.0) / 100.0
    slopes = spread(share, [r.slopes for r in replicas])
    return (
        Overlay(
            "Weak RESET: median, 10 % and 90 % of the devices",
            "weak-RESET pulses since SET",
            "ln(R / R0)",
            False,
            False,
            Band(pulses, real.quantiles[1], real.quantiles[0], real.quantiles[2]),
            Band(pulses, curves[1], curves[0], curves[2]),
        ),
        Overlay(
            "Slopes before the knee, as read off each device",
            "share of the devices below",
            "slope (1/reference pulse)",
            False,
            False,
            Band(share, real.slopes, real.slopes, real.slopes),
            slopes,
        ),
        Overlay(
            "Residuals: correlation of readings",
            "readings apart",
            "autocorrelation",
            False,
            False,
            Band(lags, real.correlation, real.correlation, real.correlation),
            correlations,
        ),
    )
