"""Log-normal populations of devices that were programmed and read several times.

What differs from device to device, from cycle to cycle and from reading to reading is told apart. With i
the device and j its cycle, one-way random effects of ln R::

    y_ij = mu + a_i + e_ij,     a_i ~ N(0, d2d^2),     e_ij ~ N(0, c2c^2)

where readings of the same cycle are repeated, their own scatter is taken off c2c. Values and intervals are quantiles of
the generalised pivotal quantities of Weerahandi (Exact Statistical Methods for Data Analysis, 1995, chapter 9): with
``SSW`` the squares within devices and ``w_i = 1 / (d2d^2 + c2c^2 / n_i)``::

    c2c^2 = SSW / chi2(N - n),     d2d^2 solves  sum w_i (y_i - y_w)^2 = chi2(n - 1),     mu = y_w - Z / sqrt(sum w_i)

They hold for unequal numbers of cycles, and for a component that is near 0. Readings beyond the meter's range are drawn
anew in each turn from what the rest of the data leaves for them (data augmentation, Tanner and Wong, JASA 82, 528,
1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import LOWER, UPPER, Estimate
from calibration.resistance import FEWEST, NORMAL_MAD, OUTLIER_SIGMAS
from models.exceptions import UserMistake

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DRAWS = 4000
"""Draws that the quantiles are taken of. Each variable is drawn once from each of so many equal shares of its
distribution: taken anywhere, all fits of one seed would share an error of their ends, of 2 % of an interval."""

CHAINS, BURN_IN, KEPT = 64, 40, 60
"""Chains of the data augmentation, turns that are thrown away and turns that count."""

BISECTIONS = 40
FEWEST_REPEATED = 8
"""Devices that were read in two cycles at least, below which the two spreads cannot be told apart."""


@dataclass(frozen=True)
class PopulationFit:
    """A log-normal population with its spreads.

    Attributes:
        median_ohm: with its interval.
        sigma: of ln R, all that differs between two devices that were each programmed once.
        sigma_d2d, sigma_c2c: its parts; None where too few devices were read in several cycles.
        noise: from reading to reading; None where no reading was repeated. Then it is part of ``sigma_c2c``.
        devices: how many went into the fit.
        cycles: how many readings of them, those of one cycle counted once.
        censored: how many of these lay beyond the meter's range.
        outliers: device indices that were left out, rising.
        draws: ``(n, 4)`` of the mean of ln R and of its variances between devices, cycles and readings; one that is not
            known is 0, and part of the one before.
    """

    median_ohm: Estimate
    sigma: Estimate
    sigma_d2d: Estimate | None
    sigma_c2c: Estimate | None
    noise: Estimate | None
    devices: int
    cycles: int
    censored: int
    outliers: Integers
    draws: Floats


class Cycles(NamedTuple):
    """One value per device and cycle: device index from 0, ln R or its bound, censoring, and the noise left in it."""

    device: Integers
    value: Floats
    censored: NDArray[np.int8]
    noise_ss: float
    noise_freedom: int
    per_cycle: float


def fit_population(
    device: Integers,
    cycle: Integers,
    resistance_ohm: Floats,
    what: str,
    censored: NDArray[np.int8] | None = None,
    seed: int = 0,
) -> PopulationFit:
    """Fit a population to readings of many devices.

    A device whose median lies too far from those of the others (or beyond a bound that does) is left out. Readings of
    the same device and cycle are repeated ones.

    Args:
        device: ``(readings,)`` index of the device, any numbers.
        cycle: ``(readings,)`` index of its cycle.
        resistance_ohm: ``(readings,)``, for a censored one its bound; an infinite one counts as censored at the highest
            finite reading.
        what: name of the population, for errors.
        censored: ``(readings,)``: +1 where the resistance is higher than the bound, -1 where it is lower, else 0.
        seed: of the draws; the same data give the same fit.

    Raises:
        UserMistake: shapes that do not fit, NaN, a resistance that is not positive, too few devices, or all readings
            equal or beyond the meter's range.
    """
    values = np.asarray(resistance_ohm, dtype=np.float64)
    side = np.zeros(values.shape, dtype=np.int8) if censored is None else np.asarray(censored, dtype=np.int8).copy()
    if values.ndim != 1 or not (device.shape == cycle.shape == side.shape == values.shape):
        raise UserMistake(f"{what}: devices, cycles and resistances must be rows of the same length")
    if np.isnan(values).any() or (values <= 0).any():
        raise UserMistake(f"{what}: resistances must be one row of positive numbers, without NaN")
    finite = np.isfinite(values)
    seen = finite & (side == 0)
    if not seen.any():
        raise UserMistake(f"{what}: no reading lies within the meter's range; is the array formed, is it saturated?")
    side[~finite] = 1
    logs = np.log(np.where(finite, values, values[finite].max()))
    names, index = np.unique(device, return_inverse=True)
    index = index.reshape(-1).astype(np.int64)
    if len(names) < FEWEST:
        raise UserMistake(f"{what}: {len(names)} devices were measured, a fit needs at least {FEWEST}")
    out = _outlying(_medians(index, logs, len(names)))
    kept = ~out[index]
    if (~out).sum() >= FEWEST and np.ptp(logs[kept]) == 0.0:
        same = f"all {int((~out).sum())} devices read the same"
        raise UserMistake(f"{what}: {same}, and a fit needs varying ones; is the meter saturated?")
    if (~out).sum() < FEWEST or not (kept & (side == 0)).any():
        raise UserMistake(
            f"{what}: of {len(names)} devices only {int((~out).sum())} have a plausible resistance; "
            "is the meter saturated, or the array not formed?"
        )
    members = np.cumsum(~out) - 1
    cycles = per_cycle(members[index[kept]], cycle[kept], logs[kept], side[kept])
    if (np.bincount(np.bincount(cycles.device))[2:].sum()) < FEWEST_REPEATED:
        # too few to tell the spreads apart: each device counts once
        first = np.unique(cycles.device, return_index=True)[1]
        cycles = cycles._replace(
            device=cycles.device[first], value=cycles.value[first], censored=cycles.censored[first]
        )
    rng = np.random.default_rng(seed)
    drawn = _augmented(cycles, rng) if (cycles.censored != 0).any() else _drawn(_sums(cycles), DRAWS, rng)
    return _fit(cycles, drawn, rng, names[out].astype(np.int64))


def _outlying(medians: Floats) -> NDArray[np.bool_]:
    """Devices too far from the others; the spread is that of the wider side, for a bound piles up values on one."""
    distance = medians - np.median(medians)
    sides = [np.abs(distance[side]) for side in (distance < 0.0, distance > 0.0) if side.any()]
    spread = NORMAL_MAD * max((float(np.median(side)) for side in sides), default=0.0)
    return np.asarray(np.abs(distance) > OUTLIER_SIGMAS * spread)


def _medians(index: Integers, logs: Floats, devices: int) -> Floats:
    """Median reading of each device."""
    order = np.lexsort((logs, index))
    count = np.bincount(index, minlength=devices)
    start = np.cumsum(count) - count
    ordered = logs[order]
    return np.asarray(0.5 * (ordered[start + (count - 1) // 2] + ordered[start + count // 2]))


def per_cycle(device: Integers, cycle: Integers, logs: Floats, side: NDArray[np.int8]) -> Cycles:
    """Means of the readings of each cycle, devices indexed from 0.

    One that is mostly beyond the range counts as beyond its mean bound.
    """
    keys, which, readings = np.unique(np.stack([device, cycle]), axis=1, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    mean_side = np.bincount(which, side) / readings
    beyond = np.where(np.abs(mean_side) > 0.5, np.sign(mean_side), 0.0).astype(np.int8)
    counted = side == beyond[which]
    number = np.bincount(which, counted)
    value = np.bincount(which, np.where(counted, logs, 0.0)) / number
    plain = counted & (beyond[which] == 0)
    squares = float(np.square(logs - value[which])[plain].sum())
    freedom = int(plain.sum() - (beyond == 0).sum())
    return Cycles(
        keys[0], value, beyond, squares, freedom, float(np.mean(1.0 / number[beyond == 0])) if freedom > 0 else 0.0
    )


class _Sums(NamedTuple):
    """What the pivots need; the leading axis of the arrays is that of the chains, of length 1 without censoring.

    Attributes:
        within: ``(chains,)`` squares within devices.
        freedom: of them.
        counts: ``(groups,)`` cycles of a device, different ones only.
        devices: ``(groups,)`` how many devices have that many.
        first, second: ``(chains, groups)`` sums over these devices of their means, and of the squares of these.
        centre: what was taken off all values first, so that squares of large numbers do not cancel.
    """

    within: Floats
    freedom: int
    counts: Floats
    devices: Floats
    first: Floats
    second: Floats
    centre: float


class _Drawn(NamedTuple):
    """Draws ``(n,)`` of the mean and of the two variances; one reading per device leaves their sum, as ``d2d``."""

    mean: Floats
    d2d: Floats
    c2c: Floats | None


def _sums(cycles: Cycles, values: Floats | None = None) -> _Sums:
    y = cycles.value[None] if values is None else values
    count = np.bincount(cycles.device)
    order = np.argsort(cycles.device, kind="stable")
    start = np.cumsum(count) - count
    centre = float(np.median(cycles.value))
    ordered = y[:, order] - centre
    means = np.add.reduceat(ordered, start, axis=1) / count
    within = np.square(ordered - np.repeat(means, count, axis=1)).sum(axis=1)
    sizes, group = np.unique(count, return_inverse=True)
    member = (group.reshape(-1)[:, None] == np.arange(len(sizes))).astype(np.float64)
    return _Sums(
        within,
        len(cycles.device) - len(count),
        sizes.astype(np.float64),
        member.sum(axis=0),
        means @ member,
        np.square(means) @ member,
        centre,
    )


def _drawn(sums: _Sums, draws: int, rng: np.random.Generator) -> _Drawn:
    """Draw the pivots: ``draws`` of them for one data set, or one for each chain."""
    from scipy.special import ndtri

    devices = sums.devices.sum()
    c2c = sums.within / _chi_square(sums.freedom, draws, rng) if sums.freedom > 0 else np.zeros(draws)
    target = _chi_square(devices - 1, draws, rng)
    per_cycle = c2c[:, None] / sums.counts

    def between(d2d: Floats) -> tuple[Floats, Floats, Floats]:
        weights = 1.0 / np.maximum(d2d[:, None] + per_cycle, np.finfo(np.float64).tiny)
        total = weights @ sums.devices
        mean = (weights * sums.first).sum(axis=1) / total
        return (weights * sums.second).sum(axis=1) - mean**2 * total, mean, total

    spread = sums.second.sum(axis=1) - sums.first.sum(axis=1) ** 2 / devices
    low, high = np.zeros(draws), spread / target
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        above = between(middle)[0] > target
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    d2d = np.where(between(np.zeros(draws))[0] > target, 0.5 * (low + high), 0.0) if sums.freedom > 0 else high
    _, mean, total = between(d2d)
    mean = sums.centre + mean + ndtri(_stratified(draws, rng)) / np.sqrt(total)
    return _Drawn(mean, d2d, c2c if sums.freedom > 0 else None)


def _stratified(draws: int, rng: np.random.Generator) -> Floats:
    """Uniform draws, one from each of ``draws`` equal shares of (0, 1), in random order.

    Several such variables together are a Latin hypercube (McKay, Beckman and Conover, Technometrics 21, 239, 1979).
    """
    return np.asarray((rng.permutation(draws) + rng.uniform(1e-12, 1.0 - 1e-12, draws)) / draws)


def _chi_square(freedom: float, draws: int, rng: np.random.Generator) -> Floats:
    """Stratified draws of chi-square with so many degrees of freedom."""
    from scipy.special import gammaincinv

    return np.asarray(2.0 * gammaincinv(0.5 * freedom, _stratified(draws, rng)))


def _augmented(cycles: Cycles, rng: np.random.Generator) -> _Drawn:
    """Draw the pivots in turn with the readings beyond the range, in several chains at once."""
    beyond = np.flatnonzero(cycles.censored)
    side = cycles.censored[beyond].astype(np.float64)
    bound = cycles.value[beyond]
    concerned, owner = np.unique(cycles.device[beyond], return_inverse=True)
    owner = owner.reshape(-1)
    count = np.bincount(cycles.device)[concerned]
    seen = cycles.censored == 0
    fixed = np.bincount(cycles.device[seen], cycles.value[seen], minlength=int(cycles.device.max()) + 1)[concerned]
    belongs = (owner[:, None] == np.arange(len(concerned))).astype(np.float64)
    values = np.repeat(cycles.value[None], CHAINS, axis=0)
    values[:, beyond] += side * 0.5 * cycles.value[seen].std() * rng.random((CHAINS, len(beyond)))
    kept: list[_Drawn] = []
    for turn in range(BURN_IN + KEPT):
        drawn = _drawn(_sums(cycles, values), CHAINS, rng)
        if drawn.c2c is None:
            centre, sigma = drawn.mean[:, None], np.sqrt(drawn.d2d)[:, None]
        else:
            c2c = np.maximum(drawn.c2c, np.finfo(np.float64).tiny)[:, None]
            share = drawn.d2d[:, None] / (drawn.d2d[:, None] + c2c / count)
            own = (fixed + values[:, beyond] @ belongs) / count - drawn.mean[:, None]
            effect = share * own + np.sqrt(share * c2c / count) * rng.standard_normal(own.shape)
            centre, sigma = drawn.mean[:, None] + effect[:, owner], np.sqrt(c2c)
        values[:, beyond] = _beyond(bound, side, centre, sigma, rng)
        if turn >= BURN_IN:
            kept.append(drawn)
    c2c_kept = [one.c2c for one in kept if one.c2c is not None]
    return _Drawn(
        np.concatenate([one.mean for one in kept]),
        np.concatenate([one.d2d for one in kept]),
        np.concatenate(c2c_kept) if c2c_kept else None,
    )


def _beyond(bound: Floats, side: Floats, centre: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
    """Normal draws about ``centre`` that lie above their bound, or below it where ``side`` is -1."""
    from scipy.special import ndtr, ndtri

    distance = side * (bound - centre) / sigma
    # further out than this the tail has no room left in double precision; the draw is then the bound itself
    tail = ndtr(-np.minimum(distance, 35.0)) * (1.0 - rng.random(distance.shape))
    return np.asarray(centre + side * sigma * np.maximum(-ndtri(tail), distance))


def _fit(cycles: Cycles, drawn: _Drawn, rng: np.random.Generator, outliers: Integers) -> PopulationFit:
    c2c, noise = drawn.c2c, None
    squared = np.zeros(len(drawn.mean))
    if cycles.noise_freedom > 0:
        squared = cycles.noise_ss / _chi_square(cycles.noise_freedom, len(drawn.mean), rng)
        noise = _quantiles(np.sqrt(squared), "1")
        if c2c is not None:
            c2c = np.maximum(c2c - cycles.per_cycle * squared, 0.0)
    total = drawn.d2d if c2c is None else drawn.d2d + c2c
    log_median = _quantiles(drawn.mean, "1")
    return PopulationFit(
        Estimate(math.exp(log_median.value), math.exp(log_median.low), math.exp(log_median.high), "ohm"),
        _quantiles(np.sqrt(total), "1"),
        None if c2c is None else _quantiles(np.sqrt(drawn.d2d), "1"),
        None if c2c is None else _quantiles(np.sqrt(c2c), "1"),
        noise,
        int(cycles.device.max()) + 1,
        len(cycles.device),
        int((cycles.censored != 0).sum()),
        outliers,
        np.stack([drawn.mean, drawn.d2d, np.zeros(len(squared)) if c2c is None else c2c, squared], axis=1),
    )


def _quantiles(draws: Floats, unit: str) -> Estimate:
    low, value, high = np.quantile(draws, (LOWER, 0.5, UPPER))
    return Estimate(float(value), float(low), float(high), unit)
