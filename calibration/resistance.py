"""Log-normal populations of the two resistance states, from devices measured one by one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import LOWER, UPPER, Estimate
from models.exceptions import UserMistake

FEWEST = 8
"""Fewer devices than this say nothing useful of a standard deviation: its 95 % interval spans a factor of three."""

OUTLIER_SIGMAS = 5.0
"""A device further than this from the median, in robust standard deviations, is no member of the population:
in a normal population of 1e5 devices, 0.06 are expected there."""

NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


@dataclass(frozen=True)
class LogNormalFit:
    """A log-normal population.

    Attributes:
        median_ohm: with its interval.
        sigma: standard deviation of ln R, with its interval.
        devices: how many went into the fit.
        outliers: ``(n,)`` bool over the readings given, those left out of the fit.
    """

    median_ohm: Estimate
    sigma: Estimate
    devices: int
    outliers: NDArray[np.bool_]


def outlying(log_resistance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Readings too far from the median to belong to the population; infinite ones always are.

    Args:
        log_resistance: ``(n,)`` ln R, +inf where no current flowed.
    """
    finite = np.isfinite(log_resistance)
    if not finite.any():
        return ~finite
    distance = np.abs(log_resistance - np.median(log_resistance[finite]))
    spread = NORMAL_MAD * np.median(distance[finite])
    far: NDArray[np.bool_] = ~finite | (distance > OUTLIER_SIGMAS * spread)
    return far


def fit_log_normal(resistance_ohm: NDArray[np.float64], what: str) -> LogNormalFit:
    """Fit a log-normal population: exact intervals of Student (median) and chi-square (sigma).

    Args:
        resistance_ohm: ``(n,)`` readings, one per device; infinite where no current flowed.
        what: name of the population, for errors.

    Raises:
        UserMistake: NaN, a resistance that is not positive, too few readings, or all equal.
    """
    from scipy import stats

    readings = np.asarray(resistance_ohm, dtype=np.float64)
    if readings.ndim != 1 or np.isnan(readings).any() or (readings <= 0).any():
        raise UserMistake(f"{what}: resistances must be one row of positive numbers, without NaN")
    if len(readings) < FEWEST:
        raise UserMistake(f"{what}: {len(readings)} devices were measured, a fit needs at least {FEWEST}")
    log_resistance = np.log(readings)
    outliers = outlying(log_resistance)
    members = log_resistance[~outliers]
    if len(members) >= FEWEST and np.ptp(members) == 0.0:
        raise UserMistake(
            f"{what}: all {len(members)} devices read the same, and a fit needs varying ones; is the meter saturated?"
        )
    if len(members) < FEWEST:
        raise UserMistake(
            f"{what}: of {len(readings)} devices only {len(members)} have a plausible resistance; "
            "is the meter saturated, or the array not formed?"
        )
    count, mean, sigma = len(members), float(members.mean()), float(members.std(ddof=1))
    margin = float(stats.t.ppf(UPPER, count - 1)) * sigma / math.sqrt(count)
    median = Estimate(math.exp(mean), math.exp(mean - margin), math.exp(mean + margin), "ohm")
    freedom = count - 1
    low, high = (sigma * math.sqrt(freedom / float(stats.chi2.ppf(q, freedom))) for q in (UPPER, LOWER))
    return LogNormalFit(median, Estimate(sigma, low, high, "1"), count, outliers)
