"""Error rates of an array, from patterns that were programmed with verify and then sensed many times.

Three kinds are told apart, because they act differently in a network: stuck cells, that always read the same weight;
random programming errors, that differ from pattern to pattern; and transient read errors, that differ from sense to
sense. Marginal cells make both of the latter, so that the two are taken from pairs of senses: with a chance p of a
wrong sense, different from weight to weight, E[p^2] is that of two wrong senses and E[p (1 - p)] half that of two that
differ. Together they are E[p], the chance that one sense is wrong; flips from the majority would count the senses that
err in the right direction as errors, too.

A fourth kind shows in XNOR alone: where an amplifier's offset outweighs the cell, the output stays the same whatever
the input. A read, which is XNOR with an input of +1, is then right or wrong for good, and verifying selects the right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import LOWER, UPPER, Estimate
from models.error_rates import BOUND_DEVIATE
from models.exceptions import UserMistake


@dataclass(frozen=True)
class BitErrorFit:
    """Error rates with their intervals.

    Attributes:
        stuck_fraction: of the cells.
        random_rate: chance that two senses of a programmed weight are both wrong, in cells that are not stuck.
        transient_rate: half the chance that two senses of it differ, likewise.
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


def clustered_rate(errors: NDArray[np.int64] | NDArray[np.float64], trials_each: int | NDArray[np.int64]) -> Estimate:
    """A rate from cells that were each tried several times, and whose errors go together.

    The same marginal cells err again and again, so the trials are fewer than they look: their number is divided by the
    design effect, the variance of the ratio of errors to trials over that of independent trials (Kish 1965). Where
    nothing was seen, and for a single cell, each cell counts as one trial.

    Args:
        errors: ``(cells,)`` errors of each cell; fractions where they are means.
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


def paired_errors(
    targets: NDArray[np.int8], senses: NDArray[np.int8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steady and transient errors of each programmed weight, from all pairs of its senses.

    Args:
        targets: ``(patterns, ...)``.
        senses: ``(patterns, repeats, ...)``, two repeats at least.

    Returns:
        ``(patterns, ...)`` each, counted in senses: how many are wrong as their fellows are, and how many are wrong
        unlike their fellows; together as many as are wrong.
    """
    repeats = senses.shape[1]
    wrong = (senses != targets[:, None]).sum(axis=1)
    return wrong * (wrong - 1) / (repeats - 1), wrong * (repeats - wrong) / (repeats - 1)


def fixed_output_rate(read_wrong: NDArray[np.float64], xnor_wrong: NDArray[np.float64], trials: int) -> Estimate:
    """How many cells answer every input with their weight, from products at both inputs and reads at +1 alone.

    Such a cell is wrong for an input of -1 and right in a read. So twice the errors of products over both inputs, less
    those of reads, counts them.

    Args:
        read_wrong, xnor_wrong: ``(rows,)`` weights of each row that a read, and a product, has wrong on average.
        trials: weights of a row.
    """
    rows = len(read_wrong)
    excess = 2.0 * (xnor_wrong - read_wrong)
    rate = float(excess.sum()) / (rows * trials)
    if not 0.0 < rate < 1.0 or rows == 1:
        return binomial_rate(0 if rate <= 0.0 else rows * trials * min(rate, 1.0), rows * trials)
    spread = float(np.square(excess - rate * trials).sum()) * rows / (rows - 1) / (rows * trials) ** 2
    effective = rate * (1.0 - rate) / max(spread, rate * (1.0 - rate) / (rows * trials))
    if rate * effective < 1.0:
        # no more than its own standard error: a difference of two noisy counts, and not the few errors of few trials
        return Estimate(rate, 0.0, min(1.0, rate + BOUND_DEVIATE * math.sqrt(spread)), "1")
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
    both, differ = paired_errors(targets, senses)
    trials = patterns * senses.shape[1]
    return BitErrorFit(
        stuck_fraction=binomial_rate(int(stuck.sum()), cells),
        random_rate=clustered_rate(both.sum(axis=0)[good], trials),
        transient_rate=clustered_rate(differ.sum(axis=0)[good], trials),
        # The patterns of one cell err together, so each cell counts as one trial.
        bit_error_rate=binomial_rate(float(wrong.sum()) / patterns, cells),
        stuck=stuck,
        cells=cells,
    )
