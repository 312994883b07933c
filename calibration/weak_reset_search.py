"""Which populations of devices would be described like the measured ones: indirect inference on the weak-RESET model.

Populations are simulated around a guess, and a quadratic regression of their statistics on the parameters is solved, by
generalised least squares, for the parameters at the measured statistics. Noise that widens or biases the descriptions
does so in both alike, so that it is not taken for variability of the devices. (Gourieroux, Monfort and Renault,
"Indirect inference", Journal of Applied Econometrics, 1993.)

The map is not quadratic, which turns noise into bias. And it is known from so many simulated populations only: the
noise of its slopes makes it answer too weakly, as errors in variables do, so that its solutions scatter less than what
they stand for. At the end populations are therefore simulated at the estimate and around it, and go through the same
solution. Those at the estimate tell its bias and its scatter (a parametric bootstrap: Efron and Tibshirani, "An
Introduction to the Bootstrap", 1993, chapters 6 and 10). Those around it tell how strongly it answers, by which both
are divided (errors in variables: Fuller, "Measurement Error Models", 1987, chapter 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.weak_reset_population import KNEE, Free, Setting, describe_all, simulate, statistics
from models.arrays import NumpyArrays
from models.device_model import WeakReset
from models.devices.weak_reset import sample_parameters
from models.exceptions import UserMistake

Floats = NDArray[np.float64]

_WORK = 60_000
"""Most readings in one simulated population, about."""
_FEWEST_SIMULATED, _MOST_SIMULATED = 128, 1024
_SIMULATED_WIDE = 256
_WIDE, _NARROW = 120, 240
"""Populations in each round of the search."""
_MOST_NARROW = 4 * _NARROW
_AT_ESTIMATE, _PAIRS_AROUND = 150, 120
"""Populations, and pairs of them, in the bootstrap."""
_ROUNDS_WIDE, _ROUNDS_NARROW = 6, 6
_NARROW_SIGMAS = 2.5
_CURVED = 0.15
"""Half widths of the search from which the map from parameters to statistics is taken as quadratic."""
_FURTHEST = 1.6
"""How far a solution may lie from the middle of the populations that the map was fitted to, in half widths."""
_AROUND = 1.0
"""How far around the estimate the pairs lie, in standard errors of independent directions: about as far as the truth.
Over twice as far the solution, which ends where its map does, answers up to a tenth more weakly."""
_FAR = 2.0
"""Standard errors within which the map has to be known, and that a bias may be large."""
_STEPS = 30
_DRAWINGS = 100
_CURVE = KNEE | {"slope1_scale"}


@dataclass(frozen=True)
class Populations:
    """The estimate.

    Attributes:
        section: the populations.
        free: what was estimated.
        value, covariance: of those, in the logarithm where a parameter has one.
        freedom: degrees of freedom that the covariance is known with.
        settled: the search ended inside its last range.
    """

    section: WeakReset
    free: tuple[Free, ...]
    value: Floats
    covariance: Floats
    freedom: float
    settled: bool

    def drawn(self, rng: np.random.Generator) -> WeakReset:
        """Populations drawn within the uncertainty of the estimate; those that no device can be of are drawn again."""
        for _ in range(_DRAWINGS):
            section = _section(self.section, self.free, rng.multivariate_normal(self.value, self.covariance))
            try:
                sample_parameters(section, (1,), NumpyArrays(rng))
            except UserMistake:
                # of what the data hardly tell, some draws lie wholly beyond the truncations
                continue
            return section
        return self.section


def _section(base: WeakReset, free: Sequence[Free], value: Floats) -> WeakReset:
    changes = {}
    for item, x in zip(free, value, strict=True):
        changes[item.name] = float(np.clip(np.exp(x) if item.log else x, item.low, item.high))
    return replace(base, **changes)


def _coordinate(item: Free, value: float) -> float:
    return float(np.log(value)) if item.log else float(value)


def _bounds(free: Sequence[Free]) -> tuple[Floats, Floats]:
    low, high = (
        np.array([_coordinate(item, edge) for item, edge in zip(free, edges, strict=True)])
        for edges in ([item.low for item in free], [item.high for item in free])
    )
    return low, high


class _Map(NamedTuple):
    """Statistics as a quadratic function of the parameters, and the noise that they are weighed with.

    Attributes:
        centre, width: middle and half widths of the range that it was fitted in.
        pairs: parameters whose products it has.
        coefficients: ``(terms, statistics)`` of the scaled statistics.
        scale, weight: of the statistics, and inverse covariance of the scaled ones.
        leverage: inverse of the normal matrix of the regression.
    """

    centre: Floats
    width: Floats
    pairs: list[tuple[int, int]]
    coefficients: Floats
    scale: Floats
    weight: Floats
    leverage: Floats

    def solve(self, observed: Floats, furthest: float = _FURTHEST) -> tuple[Floats, Floats]:
        """Parameters at some statistics by generalised least squares, all sets at once.

        Args:
            observed: ``(sets, statistics)``.
            furthest: where the search ends, in half widths.

        Returns:
            ``(sets, parameters)`` in half widths from the centre, and the normal matrix of the first set.
        """
        free = len(self.centre)
        target = observed / self.scale
        found, damping = np.zeros((len(target), free)), 1e-3
        for _ in range(_STEPS):
            slope = np.repeat(self.coefficients[None, 1 : 1 + free], len(target), axis=0)
            for (one, other), bend in zip(self.pairs, self.coefficients[1 + free :], strict=True):
                slope[:, one] += found[:, other, None] * bend
                slope[:, other] += found[:, one, None] * bend
            weighed = slope @ self.weight
            normal = weighed @ slope.transpose(0, 2, 1) + damping * np.eye(free)
            left = target - _design(found, self.pairs) @ self.coefficients
            wanted = (weighed @ left[..., None])[..., 0] - damping * found
            step = np.linalg.solve(normal, wanted[..., None])[..., 0]
            found = np.clip(found + 0.7 * step, -furthest, furthest)
            if np.abs(step).max() < 1e-4:
                break
        return found, normal[0]

    def spread_at(self, found: Floats) -> float:
        """Variance of the regression itself at a solution, over that of one simulated population."""
        row = _design(found[None], self.pairs)[0]
        return float(row @ self.leverage @ row)


class _Solution(NamedTuple):
    value: Floats
    covariance: Floats
    inside: bool
    map: _Map


def group_size(setting: Setting, devices: int) -> int:
    """Devices in one simulated population: all that were measured, or an even part of them where they are many."""
    most = min(_WORK // setting.reads, _MOST_SIMULATED)
    parts = max(math.ceil(devices / max(most, _FEWEST_SIMULATED)), 1)
    return max(math.ceil(devices / parts), _FEWEST_SIMULATED)


def observe(setting: Setting, measured: Sequence[Floats], devices: int, section: WeakReset) -> Floats:
    """Statistics of the measured devices, the mean of those of groups as large as the simulated populations.

    Statistics of a small population differ on average from those of a large one, by a bias like that of a sample
    standard deviation; groups of one size have the same.

    Args:
        setting: how was measured.
        measured: ln R over the reading at 0 pulses by staircase, ``(members, reads - 1)``.
        devices: how many were measured, those that reached the ceiling included.
        section: for the truncations.
    """
    groups = max(round(devices / group_size(setting, devices)), 1)
    rows = []
    for first in range(groups):
        members = [z[first::groups] for z in measured]
        rows.append(statistics(setting, describe_all(setting, members), members, section))
    return np.asarray(np.mean(rows, axis=0))


def infer(
    setting: Setting,
    observed: Floats,
    devices: int,
    start: WeakReset,
    free: Sequence[Free],
    seed: int,
    progress: Callable[[WeakReset], Floats | None] | None = None,
) -> Populations:
    """Estimate the populations at the measured statistics.

    Args:
        setting: how was measured.
        observed: statistics of the measured devices, see :func:`observe`.
        devices: how many they are.
        start: first guess; also the values of what is not free.
        free: what is estimated.
        seed: of all simulated populations.
        progress: called with the populations after the wide search; may hand back other statistics to go on with.
    """
    rng = np.random.default_rng(seed)
    simulated = group_size(setting, devices)
    free = tuple(free)
    low, high = _bounds(free)
    centre = np.clip([_coordinate(item, getattr(start, item.name)) for item in free], low, high)
    full = np.array([item.width for item in free])
    wide_enough = False
    for _ in range(_ROUNDS_WIDE):
        few = min(simulated, _SIMULATED_WIDE)
        found = _search(setting, observed, start, free, centre, full, few, _WIDE, devices, rng)
        moved = np.clip(found.value, low, high)
        wide_enough = bool((np.abs(moved - centre) <= 0.9 * full).all())
        centre = moved
        if wide_enough:
            break
    if progress is not None:
        changed = progress(_section(start, free, centre))
        observed = observed if changed is None else changed
    # of many devices so little is left to chance that the noise of the map would be most of it
    narrow = min(_NARROW * max(round(devices / simulated), 1), _MOST_NARROW)
    # where the wide search found nothing, one more round tells what there is to report
    for _ in range(_ROUNDS_NARROW if wide_enough else 1):
        width = np.clip(_NARROW_SIGMAS * np.sqrt(np.diag(found.covariance)), 0.1 * full, 1.2 * full)
        found = _search(setting, observed, start, free, centre, width, simulated, narrow, devices, rng)
        centre = np.clip(found.value, low, high)
        if found.inside:
            break
    settled = wide_enough and found.inside
    value, covariance, freedom = centre, found.covariance, math.inf
    if settled:
        value, covariance, freedom = _bootstrap(setting, found, start, free, centre, simulated, devices, rng)
        value = np.clip(value, low, high)
    return Populations(_section(start, free, value), free, value, covariance, freedom, settled)


def _population(setting: Setting, section: WeakReset, devices: int, rng: np.random.Generator) -> Floats:
    """Statistics of one simulated population."""
    measured, kept = simulate(section, setting, devices, rng)
    if kept.sum() < 0.25 * devices or kept.sum() < 8:
        kept[:] = True
    members = [z[kept] for z in measured]
    return statistics(setting, describe_all(setting, members), members, section)


def _search(
    setting: Setting,
    observed: Floats,
    start: WeakReset,
    free: Sequence[Free],
    centre: Floats,
    width: Floats,
    devices: int,
    populations: int,
    measured_devices: int,
    rng: np.random.Generator,
) -> _Solution:
    """Simulate populations around ``centre``, regress their statistics on the parameters, and solve for the measured.

    Args:
        devices, populations: how many are simulated.
        measured_devices: how many were measured.
    """
    low, high = _bounds(free)
    x = rng.uniform(-1.0, 1.0, (populations, len(free)))
    x = (np.clip(centre + width * x, low, high) - centre) / width
    outcome = np.array(
        [_population(setting, _section(start, free, centre + width * point), devices, rng) for point in x]
    )
    pairs = _pairs(free, width)
    design = _design(x, pairs)
    coefficients, *_ = np.linalg.lstsq(design, outcome, rcond=None)
    residual = outcome - design @ coefficients
    freedom = populations - design.shape[1]
    noise = residual.T @ residual / freedom
    scale = np.sqrt(np.diag(noise)) + 1e-9
    noise = noise / np.outer(scale, scale) + 1e-6 * np.eye(len(scale))
    # the inverse of an estimated covariance is too large by this factor
    weight = np.linalg.inv(noise) * max((freedom - len(scale) - 1) / freedom, 0.1)
    leverage = np.asarray(np.linalg.pinv(design.T @ design), dtype=np.float64)
    map_ = _Map(centre, width, pairs, coefficients / scale, scale, weight, leverage)
    solved, normal = map_.solve(observed[None])
    found = solved[0]
    # the measured population scatters as its own size lets it; the regression, as its points around the solution do
    scatter = devices / measured_devices + map_.spread_at(found)
    covariance = np.linalg.inv(normal) * scatter * np.outer(width, width)
    return _Solution(centre + width * found, covariance, bool((np.abs(found) <= 1.0).all()), map_)


def _bootstrap(
    setting: Setting,
    found: _Solution,
    start: WeakReset,
    free: Sequence[Free],
    centre: Floats,
    devices: int,
    measured_devices: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats, float]:
    """What the solution makes of known populations at the estimate and around it, turned round.

    Args:
        found: the last solution, and the map that it was found with.
        start, free: where populations are changed, and what of them.
        centre: the estimate, within what is allowed.
        devices: how many are simulated in each population.
        measured_devices: how many were measured.

    Returns:
        Estimate without the bias, its covariance, and the degrees of freedom of its widths.
    """
    map_, bounds = found.map, _bounds(free)
    # populations of another size than the measured one scatter as that would
    resized = np.sqrt(devices / measured_devices)
    # no further than the map is known, where the data say so little that the search had to stay narrower than that
    known = np.minimum(1.0, map_.width / (_FAR * np.sqrt(np.diag(found.covariance))))
    root = known[:, None] * np.linalg.cholesky(found.covariance)

    def solved(outcome: Floats) -> Floats:
        # in the coordinates of the root
        places, _ = map_.solve(outcome, 2.0 * _FURTHEST)
        made: Floats = np.linalg.solve(root, (map_.centre + map_.width * places - centre).T).T
        return made

    def drawn(points: Floats, seeds: Sequence[int]) -> Floats:
        return np.array(
            [
                _population(setting, _section(start, free, point), devices, np.random.default_rng(seed))
                for point, seed in zip(points, seeds, strict=True)
            ]
        )

    seeds = rng.integers(0, 2**62, _AT_ESTIMATE + _PAIRS_AROUND).tolist()
    at_estimate = drawn(np.repeat(centre[None], _AT_ESTIMATE, axis=0), seeds[:_AT_ESTIMATE])
    mean = at_estimate.mean(axis=0)
    here = solved(mean + (at_estimate - mean) * resized)
    # two populations of the same random numbers, one on either side: most of the noise is in both, and so is what bends
    away = rng.uniform(-_AROUND, _AROUND, (_PAIRS_AROUND, len(free))) @ root.T
    sides = [np.clip(centre + sign * away, *bounds) for sign in (1.0, -1.0)]
    one, other = (solved(drawn(points, seeds[_AT_ESTIMATE:])) for points in sides)
    apart = np.linalg.solve(root, (sides[0] - sides[1]).T).T
    coefficients, *_ = np.linalg.lstsq(apart, one - other, rcond=None)
    # rows are what is asked for, columns what it is made of
    back = np.linalg.inv(coefficients.T)
    value = np.clip(-back @ here.mean(axis=0), -_FAR, _FAR)
    # the bias is itself known from so many simulated devices only
    counted = measured_devices / (devices * _AT_ESTIMATE)
    covariance = back @ np.cov(here, rowvar=False) @ back.T * (1.0 + counted)
    # relative variances of a width: that of the scatter, and that of the slope
    left = (one - other - apart @ coefficients).var(axis=0) / here.var(axis=0)
    doubt = 0.5 / (_AT_ESTIMATE - 1) + float(left.mean() / (apart**2).sum(axis=0).mean())
    return centre + root @ value, root @ covariance @ root.T, 0.5 / doubt


def _pairs(free: Sequence[Free], width: Floats) -> list[tuple[int, int]]:
    """Parameters whose products are in the regression: squares, and products within the mean curve."""
    wide = [place for place in range(len(free)) if width[place] > _CURVED]
    return [
        (one, other)
        for one in wide
        for other in wide
        if one == other or (one < other and {free[one].name, free[other].name} <= _CURVE)
    ]


def _design(x: Floats, pairs: Sequence[tuple[int, int]]) -> Floats:
    products = [x[:, one] * x[:, other] for one, other in pairs]
    return np.column_stack([np.ones(len(x)), x, *products])
