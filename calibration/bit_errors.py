"""Error rates of an array, from patterns that were programmed with verify and then sensed many times.

Three kinds are told apart, because they act differently in a network: stuck cells, that always read the same weight;
random programming errors, that differ from pattern to pattern; and transient read errors, that differ from sense to
sense.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import LOWER, UPPER, Estimate
from models.exceptions import UserMistake


@dataclass(frozen=True)
class BitErrorFit:
    """Error rates with their intervals.

    Attributes:
        stuck_fraction: of the cells.
        random_rate: per programmed weight, in cells that are not stuck.
        transient_rate: per sense.
        bit_error_rate: share of all weights that the majority of their senses read wrong, stuck cells included.
        stuck: ``(rows, cols)`` bool.
        cells: how many were judged.
    """

    stuck_fraction: Estimate
    random_rate: Estimate
    transient_rate: Estimate
    bit_error_rate: Estimate
    stuck: NDArray[np.bool_]
    cells: int


def binomial_rate(errors: float, trials: float) -> Estimate:
    """A rate by Jeffreys' posterior, Beta(errors + 1/2, trials - errors + 1/2): its median and central interval.

    Without an error the lower bound is 0, and the value is the median of the posterior rather than 0: that nothing was
    seen in so many trials does not say that nothing ever happens.

    Args:
        errors: may be a fraction, where trials are clusters that erred in part.
    """
    from scipy import stats

    posterior = stats.beta(errors + 0.5, trials - errors + 0.5)
    low = 0.0 if errors == 0 else float(posterior.ppf(LOWER))
    high = 1.0 if errors == trials else float(posterior.ppf(UPPER))
    return Estimate(float(posterior.median()), low, high, "1")


def clustered_rate(errors: NDArray[np.int64], trials_each: int | NDArray[np.int64]) -> Estimate:
    """A rate from cells that were each tried several times, and whose errors go together.

    The same marginal cells err again and again, so the trials are fewer than they look: their number is divided by the
    design effect, the variance of the ratio of errors to trials over that of independent trials (Kish 1965). Where
    nothing was seen, and for a single cell, each cell counts as one trial.

    Args:
        errors: ``(cells,)`` errors of each cell.
        trials_each: trials of each cell, or ``(cells,)`` of them where they differ, at least one each.
    """
    cells, each = len(errors), np.broadcast_to(trials_each, errors.shape)
    trials = int(each.sum())
    rate = float(errors.sum()) / trials
    independent = rate * (1.0 - rate) / trials
    if independent == 0.0 or cells == 1:
        return binomial_rate(rate * cells, cells)
    spread = float(np.square(errors - rate * each).sum()) * cells / (cells - 1) / trials**2
    effective = trials / max(1.0, spread / independent)
    return binomial_rate(rate * effective, effective)


def fit_bit_errors(
    targets: NDArray[np.int8], senses: NDArray[np.int8], used: NDArray[np.bool_] | None = None
) -> BitErrorFit:
    """Sort the errors of repeated patterns by kind, and give each kind its rate.

    A cell is stuck when every pattern that asked for one of the weights read wrong, twice at least, and the others read
    right; or when it never read right.

    Args:
        targets: ``(patterns, rows, cols)``, -1 or +1; each weight is asked of each cell at least twice.
        senses: ``(patterns, repeats, rows, cols)``, -1, 0 or +1.
        used: ``(rows, cols)`` bool, the cells that were programmed; all by default.

    Raises:
        UserMistake: shapes that do not fit, or too few patterns or senses to tell the kinds apart.
    """
    if senses.ndim != 4 or targets.shape != (senses.shape[0], *senses.shape[2:]):
        raise UserMistake(f"senses {senses.shape} and targets {targets.shape} do not belong to the same patterns")
    if senses.shape[1] < 2:
        raise UserMistake("every pattern was sensed once only; transient errors show from 2 senses on")
    chosen = np.ones(targets.shape[1:], dtype=bool) if used is None else used
    asked = {weight: (targets == weight).sum(axis=0) for weight in (-1, 1)}
    if not chosen.any() or min(int(count[chosen].min()) for count in asked.values()) < 2:
        raise UserMistake("each cell must be asked for each weight at least twice; program more pairs of patterns")

    majority = np.sign(senses.sum(axis=1, dtype=np.int64)).astype(np.int8)
    wrong = (majority != targets) & chosen
    failing = {weight: (wrong & (targets == weight)).sum(axis=0) for weight in (-1, 1)}
    always = {weight: failing[weight] == asked[weight] for weight in (-1, 1)}
    never = {weight: failing[weight] == 0 for weight in (-1, 1)}
    stuck = chosen & ((always[1] & never[-1]) | (always[-1] & never[1]) | (always[1] & always[-1]))

    good = chosen & ~stuck
    if not good.any():
        raise UserMistake("every cell is stuck; is the array formed, and are the rails of SENSE right?")
    cells, patterns = int(chosen.sum()), len(targets)
    flipped = (senses != majority[:, None]) & chosen
    return BitErrorFit(
        stuck_fraction=binomial_rate(int(stuck.sum()), cells),
        random_rate=clustered_rate(wrong.sum(axis=0)[good], patterns),
        transient_rate=clustered_rate(flipped.sum(axis=(0, 1))[chosen], patterns * senses.shape[1]),
        # The patterns of one cell err together, so each cell counts as one trial.
        bit_error_rate=binomial_rate(float(wrong.sum()) / patterns, cells),
        stuck=stuck,
        cells=cells,
    )
