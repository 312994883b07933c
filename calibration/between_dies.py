"""How a quantity differs from die to die beyond what its measurement explains, and from the middle to the edge.

The random-effects model: what is found on a die is the wafer's mean, which may depend on the die's place, plus a
deviation of the die itself with variance tau^2, plus the error of the fit, whose size its interval tells. tau^2 is
estimated by moments (DerSimonian and Laird, Controlled Clinical Trials 7, 177, 1986); intervals of the mean are those
of Knapp and Hartung (Statistics in Medicine 22, 2693, 2003), which hold for few dies too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import UPPER, Estimate

FEWEST_DIES = 4
"""Fewer dies than this tell nothing of how dies differ."""

MOST_RELATIVE = 2.5
"""Logarithms are judged where every value lies within this factor of the lower bound of its interval."""


@dataclass(frozen=True)
class BetweenDies:
    """One quantity over a wafer.

    Attributes:
        dies: how many dies tell it.
        mean: of the dies.
        spread: standard deviation between dies, beyond the errors of the fits; relative where ``relative``.
        middle: of the fitted bowl, at radius 0.
        edge: what it has at the edge, radius 1, over what it has in the middle: a ratio where ``relative``, else a
            difference. In between it goes with the square of the radius.
        relative: the logarithm was judged: the mean is geometric, spread and edge are relative.
    """

    dies: int
    mean: Estimate
    spread: float
    middle: float
    edge: Estimate
    relative: bool

    def bowl(self, radius: NDArray[np.float64]) -> NDArray[np.float64]:
        """What was fitted, at radii in wafer radii."""
        if self.relative:
            return np.asarray(self.middle * self.edge.value ** (radius**2))
        return np.asarray(self.middle + self.edge.value * radius**2)


def between_dies(found: Sequence[Estimate], radius: NDArray[np.float64]) -> BetweenDies | None:
    """Judge one quantity over the dies of a wafer.

    Args:
        found: of each die, with its 95 % interval; all in one unit.
        radius: ``(dies,)`` of each die in wafer radii, 0 in the middle and 1 at the edge.

    Returns:
        what it came to, or None where there are too few dies, where some interval has no width, or where some is open
        towards 0 (a rate of which no event was seen): such numbers have no symmetric error to weigh them by.
    """
    if len(found) < FEWEST_DIES:
        return None
    values, low, high = (np.array([getattr(one, key) for one in found]) for key in ("value", "low", "high"))
    if (low == 0.0).any() or not (high > low).all():
        return None
    # an interval that reaches far down to 0 is not symmetric in the logarithm
    relative = bool((low > values / MOST_RELATIVE).all())
    if relative:
        values, low, high = np.log(values), np.log(low), np.log(high)
    error = (high - low) / (2.0 * _normal_quantile())
    unit = found[0].unit
    mean, mean_error, spread = _random_effects(values, error, np.ones((len(values), 1)))
    reach = _student(len(values) - 1) * float(mean_error[0])
    whole = Estimate(float(mean[0]), float(mean[0]) - reach, float(mean[0]) + reach, unit)
    place = np.column_stack([np.ones(len(values)), radius**2])
    if np.linalg.matrix_rank(place) < 2:
        return None  # all dies at one radius
    (middle, slope), bowl_error, _ = _random_effects(values, error, place)
    reach = _student(len(values) - 2) * float(bowl_error[1])
    edge = Estimate(float(slope), float(slope) - reach, float(slope) + reach, "1" if relative else unit)
    if relative:
        whole, middle, edge = _exponential(whole), math.exp(middle), _exponential(edge)
    return BetweenDies(len(values), whole, spread, float(middle), edge, relative)


def _random_effects(
    values: NDArray[np.float64], error: NDArray[np.float64], design: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Coefficients ``(p,)``, their standard errors, and the standard deviation tau between dies."""
    count, terms = design.shape
    weight = 1.0 / error**2
    inverse = np.linalg.inv(design.T @ (weight[:, None] * design))
    left = values - design @ (inverse @ (design.T @ (weight * values)))
    excess = float(weight @ left**2) - (count - terms)
    norm = weight.sum() - np.trace(inverse @ (design.T @ ((weight**2)[:, None] * design)))
    tau2 = max(0.0, excess / float(norm))
    weight = 1.0 / (error**2 + tau2)
    inverse = np.linalg.inv(design.T @ (weight[:, None] * design))
    beta = inverse @ (design.T @ (weight * values))
    scale = float(weight @ (values - design @ beta) ** 2) / (count - terms)
    return beta, np.sqrt(scale * np.diag(inverse)), math.sqrt(tau2)


def _normal_quantile() -> float:
    from scipy.special import ndtri

    return float(ndtri(UPPER))


def _student(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, UPPER))


def _exponential(one: Estimate) -> Estimate:
    return Estimate(math.exp(one.value), math.exp(one.low), math.exp(one.high), one.unit)
