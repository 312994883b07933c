"""The weak-RESET slope of a population, from a short staircase of pulses and resistances."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import LOWER, UPPER, Estimate
from calibration.resistance import FEWEST, outlying
from models.device_model import WeakReset
from models.exceptions import UserMistake


@dataclass(frozen=True)
class StaircaseFit:
    """What a staircase says.

    Attributes:
        pulses: ``(steps,)`` weak-RESET pulses since SET.
        median: of ln(R/R(0)) at each step, with its interval.
        slope_scale: scale of the exponential population of the first slope m1, in 1/pulse at the reference condition.
        devices: how many went into the fit.
        outliers: ``(devices,)`` bool, those left out.
    """

    pulses: NDArray[np.int64]
    median: tuple[Estimate, ...]
    slope_scale: Estimate
    devices: int
    outliers: NDArray[np.bool_]


def median_interval(values: NDArray[np.float64]) -> Estimate:
    """Sample median with the order-statistics interval, which needs no assumption on the distribution."""
    from scipy import stats

    ordered = np.sort(values)
    rank = int(stats.binom.ppf(LOWER, len(ordered), 0.5))
    low, high = ordered[max(0, rank - 1)], ordered[min(len(ordered) - 1, len(ordered) - rank)]
    return Estimate(float(np.median(ordered)), float(low), float(high), "1")


def fit_staircase(
    resistance_ohm: NDArray[np.float64], pulses: NDArray[np.int64], stress: float, section: WeakReset
) -> StaircaseFit:
    """Fit the median curve and the population of the first slope.

    Each device's slope m1 is that of the least-squares line over its readings after the first pulse; the line does not
    pass through the reading at 0 pulses, from which the first pulse also moves it by its offset c1 and by noise. The
    population of m1 is exponential (Majumdar et al., IEEE TED 2021), so its scale is the mean slope less the location:
    noise of the readings widens the spread of the slopes but does not move their mean.

    Args:
        resistance_ohm: ``(devices, steps)``, the first at 0 pulses.
        pulses: ``(steps,)``, rising from 0; the last must lie before the knee for the line to hold.
        stress: reference pulses that one pulse of this staircase counts for.
        section: the population so far, for the location of the slopes and the knee.

    Raises:
        UserMistake: shapes that do not fit, NaN, too few devices or steps, or a staircase beyond the knee.
    """
    from scipy import stats

    steps = np.asarray(pulses, dtype=np.int64)
    readings = np.asarray(resistance_ohm, dtype=np.float64)
    if readings.ndim != 2 or readings.shape[1] != len(steps) or len(steps) < 3:
        raise UserMistake(f"staircase: resistances {readings.shape} do not fit {len(steps)} steps (at least 3)")
    if steps[0] != 0 or (np.diff(steps) <= 0).any():
        raise UserMistake("staircase: pulses must rise from 0")
    if np.isnan(readings).any() or (readings <= 0).any():
        raise UserMistake("staircase: resistances must be positive numbers, without NaN")
    if stress <= 0.0:
        raise UserMistake("staircase: pulses below the onset voltage move nothing; raise VDDC at WEAK_RESET")
    if steps[-1] * stress > section.knee_low:
        raise UserMistake(
            f"staircase: {steps[-1]} pulses reach beyond the earliest knee ({section.knee_low / stress:.0f} pulses "
            "at this voltage and width), where one line no longer holds; use fewer pulses"
        )
    outliers = outlying(np.log(readings[:, 0])) | ~np.isfinite(readings).all(axis=1)
    members = readings[~outliers]
    if len(members) < FEWEST:
        raise UserMistake(f"staircase: {len(members)} of {len(readings)} devices are in the LRS; {FEWEST} are needed")
    ratio = np.log(members / members[:, :1])
    distance = stress * (steps[1:] - steps[1:].mean())
    slopes = ratio[:, 1:] @ distance / float(distance @ distance)
    margin = float(stats.t.ppf(UPPER, len(slopes) - 1)) * float(slopes.std(ddof=1)) / math.sqrt(len(slopes))
    scale = float(slopes.mean()) - section.slope1_loc
    return StaircaseFit(
        steps,
        tuple(median_interval(ratio[:, step]) for step in range(len(steps))),
        Estimate(scale, scale - margin, scale + margin, "1/pulse"),
        len(members),
        outliers,
    )
