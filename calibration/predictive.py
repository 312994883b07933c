"""Posterior predictive checks and comparisons of models, in the words and by the rules that all fits share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import LOWER, UPPER
from calibration.result import Band, Check, Comparison

Floats = NDArray[np.float64]

SEED = 6207
_FAMILY = 0.99
"""All checks of a right fit are good together in this share of cases."""

Row = tuple[str, float, Floats]
"""A number of the data: its name, its value, and its values ``(replicas,)`` in data simulated from the fit."""


def predictive_checks(rows: Sequence[Row]) -> tuple[Check, ...]:
    """Hold numbers of the data against the same numbers of simulated data.

    The bounds told are those of 95 %. A check fails further out, where not one in a hundred right fits has any such
    number: beyond the normal deviate of that and beyond all simulated values, which counts of rare events need.
    Numbers that are the same in all simulated data, or that have no value in some, tell nothing and are left out.
    """
    told = [(name, value, drawn) for name, value, drawn in rows if np.isfinite([value, *drawn]).all() and np.ptp(drawn)]
    if not told:
        return ()
    far = NormalDist().inv_cdf(1.0 - (1.0 - _FAMILY) / (2 * len(told)))
    found = []
    for name, value, drawn in told:
        low, high = (float(each) for each in np.quantile(drawn, (LOWER, UPPER)))
        near = abs(value - float(drawn.mean())) <= far * float(drawn.std(ddof=1))
        good = near or bool(drawn.min() <= value <= drawn.max())
        text = f"{name}: {value:.4g} measured, {low:.4g} to {high:.4g} predicted" + ("" if good else ", far outside")
        found.append(Check(name, float(value), low, high, good, text))
    return tuple(found)


def preferred(
    question: str, ours: str, rival: str, evidence: float, criterion: str = "information criterion"
) -> Comparison:
    """Which of two models has the better information criterion, the Bayesian one if nothing else is said.

    Args:
        evidence: by how much that of ``ours`` is lower than that of ``rival``.
    """
    winner, loser = (ours, rival) if evidence > 0.0 else (rival, ours)
    text = f"{question} {winner}: its {criterion} is {abs(evidence):.4g} better than with {loser}"
    return Comparison(question, winner, abs(evidence), text)


def tails(question: str, values: Floats) -> Comparison:
    """Whether normal values ``(n,)`` rather are those of a Student distribution, which has one parameter more."""
    from scipy import stats
    from scipy.optimize import minimize

    centre, scale = float(np.median(values)), float(values.std())
    normal = float(stats.norm.logpdf(values, values.mean(), scale).sum())

    def cost(at: Floats) -> float:
        # 1 to 200 degrees of freedom: further out nothing tells it from a normal distribution
        freedom = math.exp(float(np.clip(at[2], 0.0, math.log(200.0))))
        return -float(stats.t.logpdf(values, freedom, at[0], math.exp(at[1])).sum())

    found = minimize(cost, [centre, math.log(scale), math.log(8.0)], method="Nelder-Mead")
    evidence = 2.0 * (normal + float(found.fun)) + math.log(len(values))
    return preferred(question, "log-normal", "a heavier tail (Student)", evidence)


def spread(x: Floats, rows: Sequence[Floats] | Floats) -> Band:
    """Median and 95 % of curves ``(curves, points)`` over ``x``."""
    low, median, high = np.quantile(rows, (LOWER, 0.5, UPPER), axis=0)
    return Band(x, median, low, high)
