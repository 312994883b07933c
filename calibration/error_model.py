"""Bit errors of many conditions at once, against what log-normal populations and an amplifier make of them.

Of a count of errors only the distance of LRS and HRS over their spread can be told: so one factor on both spreads is
fitted, and with conditions that move the distance by a known amount also a shift of the distance itself. With
``h ~ N(m_H, s_H)``, ``l ~ N(m_L, s_L)`` the logarithms of the two resistances, ``a`` the spread of the amplifiers and
``c`` that of the resistance whose node just falls within the window::

    type 1 = P(h < l + a, h < c),   type 2 = P(h > c + a/2) P(l > c + a/2),   type 3 = 1 - P(h > c + a/2)^2

as :mod:`models.errors` has them, but for the part of the offset that both branches share. The likelihood is binomial.
The same cells err again and again, at all conditions, which blurs how many errors there are, and less how conditions
differ, which tells spread and shift apart. So the curvature of the log-likelihood is made that of the scatter of the
cells (Chandler and Bate, Biometrika 94, 167, 2007); where too few err, it is divided by one factor, the variance of the
cells' errors over that of independent trials (a design effect, Kish 1965).

Rates go by deviates ``(distance + shift) / spread``, straight lines of ``1 / spread`` and ``shift / spread``. These are
told evenly, so that the posteriors of spread and shift are skewed. The prior is that of Jeffreys, flat in the two where
errors are many. Values are Zellner's for quotients, of least expected loss ``(error / spread)^2``, right on average to
second order (J. Econometrics 8, 127, 1978); medians and means of a posterior lie too high.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from calibration.estimate import LOWER, UPPER, Estimate
from models.device_model import DeviceModel
from models.errors import Populations
from models.exceptions import UserMistake
from models.sense import critical_resistance_ohm, overdrive_ratio

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TYPES = ("type1", "type2", "type3")
SPREADS = np.geomspace(0.25, 4.0, 161)
SHIFTS = np.linspace(-2.5, 2.5, 101)
"""Grid of the posterior: factors on the spreads, and shifts of ln of the ratio of the medians."""

_CUT = 0.05
"""Density at the end of the grid over the highest, above which more than about 1 % of the posterior lies beyond."""

FEWEST_CELLS = 8
FEWEST_ERRING = 30
"""Cells that err at least, for their scatter to be told direction by direction."""

_STEP, _TURNS = 1e-4, 20
MOST_WRONG = 0.5
DRAWS = 400
_NODES = np.linspace(-8.0, 8.0, 129)
_WEIGHTS = np.exp(-0.5 * _NODES**2) / np.exp(-0.5 * _NODES**2).sum()


class Condition(NamedTuple):
    """One condition as the model has it: the populations there, the amplifier's s.d., ln of the slowest resistance."""

    populations: Populations
    amplifier: float
    log_critical: float

    @classmethod
    def of(cls, model: DeviceModel, vdd_v: float, window_s: float) -> Condition:
        """The populations of ``model`` sensed at a supply and window; no cell is decided below the threshold."""
        ratio = overdrive_ratio(model.sense, vdd_v)
        critical = critical_resistance_ohm(model.sense, vdd_v, window_s) if ratio > 0.0 else 0.0
        amplifier = math.hypot(model.sense.offset_sigma, model.sense.noise_sigma) / ratio if ratio > 0.0 else 1.0
        return cls(Populations.of(model), amplifier, math.log(critical) if critical > 0.0 else -math.inf)

    def rates(self, spread: Floats, shift: Floats) -> Floats:
        """Rates of the three types ``(3, n)`` for ``(n,)`` spreads and shifts."""
        lrs, hrs = self.populations.lrs, self.populations.hrs
        centre, wide, narrow = hrs.log_median + shift, spread * hrs.sigma, spread * lrs.sigma
        late_h = ndtr((centre - self.log_critical) / np.hypot(wide, 0.5 * self.amplifier))
        late_l = ndtr((lrs.log_median - self.log_critical) / np.hypot(narrow, 0.5 * self.amplifier))
        h = centre[:, None] + wide[:, None] * _NODES
        slower = ndtr((lrs.log_median - h) / np.hypot(narrow, self.amplifier)[:, None])
        inverted = (slower * (h < self.log_critical)) @ _WEIGHTS
        return np.stack([inverted, late_h * late_l, 1.0 - late_h**2])


@dataclass(frozen=True)
class ErrorModelFit:
    """What the counts say of the populations.

    Attributes:
        spread: factor on the s.d. of ln R of both populations; ``low`` is 0 where nothing erred.
        shift: of ln of the ratio of the medians; None where the conditions do not tell it, or too little of it.
        design_effect: by how much the trials are fewer than they look.
        predicted: value, low and high ``(3, conditions, 3)`` of the rate of each type at each condition.
        draws: ``(DRAWS, 2)`` spreads and shifts of the posterior.
        log_likelihood: of trials as few as they count, ``(len(SPREADS), len(SHIFTS))``; of one shift, 0, where none can
            be told.
    """

    spread: Estimate
    shift: Estimate | None
    design_effect: float
    predicted: Floats
    draws: Floats
    log_likelihood: Floats


def fit_error_model(errors: Integers, trials: Integers, conditions: list[Condition]) -> ErrorModelFit:
    """Fit the counts of many cells under several conditions.

    Args:
        errors, trials: ``(conditions, 3, cells)`` by type.

    Raises:
        UserMistake: shapes that do not fit, more errors than trials, too few cells, or a spread beyond what is sought.
    """
    if errors.shape != trials.shape or errors.shape[:2] != (len(conditions), 3):
        raise UserMistake(
            f"bit errors: counts {errors.shape} and {trials.shape} do not fit {len(conditions)} conditions"
        )
    if (errors < 0).any() or (errors > trials).any() or not trials.any():
        raise UserMistake("bit errors: errors must be 0 or more and no more than the trials")
    if errors.shape[2] < FEWEST_CELLS:
        raise UserMistake(f"bit errors: {errors.shape[2]} cells were read; a fit needs at least {FEWEST_CELLS}")
    if (share := least_wrong(errors, trials)) > MOST_WRONG:
        raise UserMistake(
            f"bit errors: {share:.0%} of the reads are wrong at best, as many as without weights; are the devices "
            "formed, do they switch at these conditions, and are the rails of SENSE right?"
        )
    gaps = {round(one.populations.gap, 3) for one, count in zip(conditions, errors, strict=True) if count.any()}
    effect = design_effect(errors, trials)
    shifts = SHIFTS if len(gaps) > 1 else np.zeros(1)
    rates, log_likelihood, log_posterior = _on_grid(errors, trials, conditions, shifts, effect)
    if len(shifts) > 1 and _runs_over(log_likelihood):
        # the further the medians, the wider the populations: what moved them was too little to tell how far they are
        shifts = np.zeros(1)
        rates, log_likelihood, log_posterior = _on_grid(errors, trials, conditions, shifts, effect)
    spread, shift = (grid.ravel() for grid in np.meshgrid(SPREADS, shifts, indexing="ij"))
    table = _normalised(log_posterior)
    posterior, by_spread = table.ravel(), table.sum(axis=1)
    if _runs_over(log_likelihood):
        raise UserMistake(
            f"bit errors: more than populations {SPREADS[-1]:g} times as wide as the base file's give; "
            "do the devices switch at these conditions?"
        )
    found = _quantiles(SPREADS, by_spread)
    weight = posterior / spread**2
    found = replace(found, value=float(weight @ spread / weight.sum())) if errors.any() else replace(found, low=0.0)
    told = None
    if len(shifts) > 1:
        told = replace(_quantiles(SHIFTS, table.sum(axis=0)), value=float(weight @ shift / weight.sum()))
    flat = rates.reshape(-1, rates.shape[2])
    predicted = np.stack([_weighted(each, posterior) for each in flat], axis=1).reshape(3, len(conditions), 3)
    chosen = np.searchsorted(np.cumsum(posterior), (np.arange(DRAWS) + 0.5) / DRAWS)
    draws = np.stack([spread, shift], axis=1)[np.minimum(chosen, len(spread) - 1)]
    return ErrorModelFit(found, told, effect, predicted, draws, log_likelihood)


def _on_grid(
    errors: Integers, trials: Integers, conditions: list[Condition], shifts: Floats, effect: float
) -> tuple[Floats, Floats, Floats]:
    """Rates ``(conditions, 3, grid)``, log-likelihood of dependent trials, and log posterior ``(spreads, shifts)``."""
    spread, shift = (grid.ravel() for grid in np.meshgrid(SPREADS, shifts, indexing="ij"))
    rates = _rates(conditions, spread, shift)
    likelihood = _log_likelihood(errors, trials, rates)
    shape = (len(SPREADS), len(shifts))
    best = int(likelihood.argmax())
    lines = np.stack([1.0 / spread, shift / spread])[: 1 if len(shifts) == 1 else 2]
    weighed = (likelihood - likelihood[best]) / effect
    if (errors.sum(axis=(0, 1)) > 0).sum() >= FEWEST_ERRING:
        told = _scattered(errors, trials, conditions, lines, best)
        if told is not None:
            at_best, ratio = told
            weighed = (likelihood - _log_likelihood(errors, trials, at_best)[0]) * ratio
    adjusted = (weighed + likelihood[best] / effect).reshape(shape)
    return rates, adjusted, adjusted + _log_jeffreys(rates, trials, shape)


def _rates(conditions: list[Condition], spread: Floats, shift: Floats) -> Floats:
    return np.clip(np.stack([one.rates(spread, shift) for one in conditions]), 1e-12, 1.0 - 1e-12)


def _log_likelihood(errors: Integers, trials: Integers, rates: Floats) -> Floats:
    """Of independent trials, ``(grid,)``."""
    wrong, right = errors.sum(axis=2)[..., None], (trials - errors).sum(axis=2)[..., None]
    return np.asarray((wrong * np.log(rates) + right * np.log1p(-rates)).sum(axis=(0, 1)))


def _log_jeffreys(rates: Floats, trials: Integers, shape: tuple[int, int]) -> Floats:
    """Logarithm of the root of the determinant of Fisher's information, of ln spread and shift, ``shape``."""
    weight = trials.sum(axis=2)[..., None, None] / (rates * (1.0 - rates)).reshape(*rates.shape[:2], *shape)
    table = rates.reshape(*rates.shape[:2], *shape)
    slopes = [np.gradient(table, axis=2 + axis) for axis in (0, 1) if shape[axis] > 1]
    information = np.array([[(weight * one * other).sum(axis=(0, 1)) for one in slopes] for other in slopes])
    determinant = np.linalg.det(np.moveaxis(information, (0, 1), (2, 3)))
    return np.asarray(0.5 * np.log(np.maximum(determinant, 1e-300)))


def _scattered(
    errors: Integers, trials: Integers, conditions: list[Condition], lines: Floats, start: int
) -> tuple[Floats, Floats] | None:
    """Where the likelihood is highest, and by what its logarithm counts less elsewhere: vertical adjustment.

    Args:
        lines: ``1 / spread`` and, where it is sought, ``shift / spread`` over the grid, ``(1 or 2, grid)``.
        start: where on the grid it is about highest.

    Returns:
        The rates ``(conditions, 3, 1)`` there, and the factor ``(grid,)``; None where it lies beyond the grid.
    """
    tried, at = trials.sum(axis=2), lines[:, start].copy()
    places = np.concatenate([np.zeros((1, len(at))), np.eye(len(at)), -np.eye(len(at))])
    for _ in range(_TURNS):
        near = at + _STEP * places
        shift = near[:, 1] / near[:, 0] if len(at) > 1 else np.zeros(len(near))
        rates = _rates(conditions, 1.0 / near[:, 0], shift)
        slopes = (rates[..., 1 : 1 + len(at)] - rates[..., 1 + len(at) :]) / (2.0 * _STEP)
        rate = rates[..., 0]
        scale = slopes / (rate * (1.0 - rate))[..., None]
        information = np.einsum("ct,cti,ctj->ij", tried, scale, slopes)
        if not np.linalg.cond(information) < 1e12:
            return None
        move = np.linalg.solve(information, np.einsum("ct,cti->i", errors.sum(axis=2) - tried * rate, scale))
        if move @ information @ move < 1e-6:
            break
        at = at + move
        if not lines[0].min() <= at[0] <= lines[0].max():
            return None
    else:
        return None
    cells = errors.shape[2]
    scores = np.einsum("ctn,cti->ni", errors - trials * rate[..., None], scale)
    scatter = scores.T @ scores * cells / (cells - 1)
    if not np.linalg.cond(scatter) < 1e12:
        return None
    robust = information @ np.linalg.solve(scatter, information)
    away = lines - at[:, None]
    return rate[..., None], np.einsum("ig,ij,jg->g", away, robust, away) / np.maximum(
        np.einsum("ig,ij,jg->g", away, information, away), np.finfo(np.float64).tiny
    )


def _normalised(log_posterior: Floats) -> Floats:
    posterior = np.exp(log_posterior - log_posterior.max())
    return np.asarray(posterior / posterior.sum())


def _runs_over(log_likelihood: Floats) -> bool:
    """Whether what the counts say goes on beyond the widest populations, or beyond the shifts, that are sought."""
    table = _normalised(log_likelihood)
    spreads, shifts = table.sum(axis=1), table.sum(axis=0)
    ends = shifts[[0, -1]].max() if len(shifts) > 1 else 0.0
    return bool(spreads[-1] > _CUT * spreads.max() or ends > _CUT * shifts.max())


def least_wrong(errors: Integers, trials: Integers) -> float:
    """Share of wrong reads at the best condition; a read of a weight is a trial of both type 1 and type 2."""
    reads = (trials[:, 0] + trials[:, 2]).sum(axis=1)
    wrong = errors.sum(axis=(1, 2))
    return float((wrong[reads > 0] / reads[reads > 0]).min(initial=1.0))


def design_effect(errors: Integers, trials: Integers) -> float:
    """Variance of the cells' errors over that of independent trials, 1 at least, ``(conditions, 3, cells)``."""
    total = trials.sum(axis=2)
    share = errors.sum(axis=2) / np.maximum(total, 1)
    independent = float((total * share * (1.0 - share)).sum())
    if independent == 0.0:
        # nothing erred: each cell counts as one trial of each condition, as in calibration.bit_errors
        return float(trials.sum() / max(int((trials > 0).sum()), 1))
    left = (errors - share[..., None] * trials).sum(axis=(0, 1))
    cells = len(left)
    return max(1.0, float(np.square(left).sum()) * cells / (cells - 1) / independent)


def _quantiles(grid: Floats, density: Floats) -> Estimate:
    """Median and interval of a posterior on a grid, between its points."""
    low, value, high = np.interp((LOWER, 0.5, UPPER), np.cumsum(density) - 0.5 * density, grid)
    return Estimate(float(value), float(low), float(high), "1")


def _weighted(values: Floats, weights: Floats) -> Floats:
    """Median, low and high of weighted values."""
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order]) - 0.5 * weights[order]
    return np.asarray(np.interp((0.5, LOWER, UPPER), cumulated, values[order]))
