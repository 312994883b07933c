"""How well log-normal populations suit the readings: simulated readings, rival models, overlays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import LOWER, UPPER
from calibration.populations import Cycles, PopulationFit, per_cycle
from calibration.predictive import SEED, Row, predictive_checks, preferred, spread, tails
from calibration.result import Band, Check, Comparison, Overlay

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_READINGS = 10_000_000
MOST_REPLICAS, FEWEST_REPLICAS = 200, 40
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEWEST_LINES = 4
"""Rows or columns of the array, and cycles, from which on a spread between them is looked at."""

POINTS = 25
MOST_CYCLES = 40
"""Points of a curve over the cycles."""


class Members(NamedTuple):
    """Readings of the members of a population.

    Attributes:
        device: ``(readings,)`` index from 0, without gaps.
        cycle: ``(readings,)``; a higher number is a later cycle.
        log_ohm: ``(readings,)`` ln R, or its bound.
        censored: +1, -1 or 0.
        row, col: ``(devices,)`` addresses.
    """

    device: Integers
    cycle: Integers
    log_ohm: Floats
    censored: NDArray[np.int8]
    row: Integers
    col: Integers


class _Layout(NamedTuple):
    """How was measured: the same for the data and for all data simulated.

    Attributes:
        of_device: ``(cycles,)`` device of each cycle.
        of_cycle: ``(readings,)`` index of its cycle.
        moment: ``(cycles,)`` number of the cycle, counted from the first of all.
        late: ``(cycles,)`` -1 in the first half of its device's cycles, +1 in the second, 0 in the middle.
        follows: ``(n,)`` indices of cycles that another one of the same device precedes at once in the order.
        low, high: a reading beyond these counts as just there.
    """

    of_device: Integers
    of_cycle: Integers
    moment: Integers
    late: Floats
    follows: Integers
    low: float
    high: float


class Judged(NamedTuple):
    """What came of it."""

    checks: tuple[Check, ...]
    comparisons: tuple[Comparison, ...]
    overlays: tuple[Overlay, ...]


def judge(state: str, members: Members, found: PopulationFit) -> Judged:
    """Hold the readings against readings simulated from the fit, and the fit against rivals.

    Args:
        state: of the devices, for the words.
    """
    rng = np.random.default_rng(SEED)
    layout = _layout(members)
    real = np.clip(members.log_ohm, layout.low, layout.high)
    count = int(np.clip(MOST_READINGS // len(real), FEWEST_REPLICAS, MOST_REPLICAS))
    chosen = rng.choice(len(found.draws), count, replace=len(found.draws) < count)
    replicas = [_simulated(members, layout, found.draws[one], rng) for one in chosen]
    measured = _numbers(members, layout, real)
    drawn = [_numbers(members, layout, each) for each in replicas]
    rows: list[Row] = [
        (f"{state}, {name}", value, np.array([d[name] for d in drawn])) for name, value in measured.items()
    ]
    overlays = [_distribution(state, members, found, real)]
    if found.sigma_c2c is not None:
        overlays += _over_cycles(state, members, layout, real, replicas)
    return Judged(predictive_checks(rows), _comparisons(state, members, found), tuple(overlays))


def _layout(members: Members) -> _Layout:
    keys, of_cycle = np.unique(np.stack([members.device, members.cycle]), axis=1, return_inverse=True)
    moment = np.unique(keys[1], return_inverse=True)[1].reshape(-1)
    of_device = keys[0]
    count = np.bincount(of_device)
    place = np.arange(len(of_device)) - (np.cumsum(count) - count)[of_device]
    late = np.sign(place - 0.5 * (count[of_device] - 1))
    up, down = members.censored > 0, members.censored < 0
    return _Layout(
        of_device,
        of_cycle.reshape(-1),
        moment,
        late,
        np.flatnonzero(place > 0),
        float(members.log_ohm[down].max()) if down.any() else -math.inf,
        float(members.log_ohm[up].min()) if up.any() else math.inf,
    )


def _simulated(members: Members, layout: _Layout, draw: Floats, rng: np.random.Generator) -> Floats:
    """Readings ``(readings,)`` of the same devices, cycles and meter, with one draw of the fitted numbers."""
    mean, d2d, c2c, noise = draw.tolist()
    devices = mean + math.sqrt(d2d) * rng.standard_normal(len(members.row))
    cycles = devices[layout.of_device] + math.sqrt(c2c) * rng.standard_normal(len(layout.of_device))
    readings = cycles[layout.of_cycle] + math.sqrt(noise) * rng.standard_normal(len(layout.of_cycle))
    return np.asarray(np.clip(readings, layout.low, layout.high))


def _means(index: Integers, values: Floats) -> Floats:
    return np.asarray(np.bincount(index, values) / np.bincount(index))


def _numbers(members: Members, layout: _Layout, readings: Floats) -> dict[str, float]:
    """What is compared; numbers that the data cannot have are left out."""
    cycles = _means(layout.of_cycle, readings)
    devices = _means(layout.of_device, cycles)
    found = {
        f"{100 * quantile:g} % quantile of ln R": float(value)
        for quantile, value in zip(QUANTILES, np.quantile(devices, QUANTILES), strict=True)
    }
    found["s.d. of ln R between devices"] = sd = float(devices.std(ddof=1))
    found["skewness of ln R between devices"] = float(np.mean((devices - devices.mean()) ** 3)) / max(sd, 1e-12) ** 3
    for name, line in (("rows", members.row), ("columns", members.col)):
        where = np.unique(line, return_inverse=True)[1].reshape(-1)
        if FEWEST_LINES <= where.max() + 1 <= len(devices) // 2:
            found[f"s.d. of ln R between the means of {name}"] = float(_means(where, devices).std(ddof=1))
    repeated = len(readings) - len(cycles)
    if repeated > 0:
        found["s.d. of ln R between readings of one cycle"] = math.sqrt(
            float(np.square(readings - cycles[layout.of_cycle]).sum()) / repeated
        )
    freedom = len(cycles) - len(devices)
    if freedom < FEWEST_LINES:
        return found
    left = cycles - devices[layout.of_device]
    within = math.sqrt(float(np.square(left).sum()) / freedom)
    found["s.d. of ln R between cycles of a device"] = within
    found["kurtosis of ln R between cycles"] = float(np.mean(left**4)) / max(float(np.mean(left**2)) ** 2, 1e-300)
    found["rise of ln R from the first to the second half of the cycles"] = 2.0 * float(
        (left * layout.late).sum() / max(np.abs(layout.late).sum(), 1.0)
    )
    found["correlation of ln R between a cycle and the next"] = float(
        np.mean(left[layout.follows] * left[layout.follows - 1])
    ) / max(float(np.mean(left**2)), 1e-300)
    moments = np.bincount(layout.moment)
    if len(moments) >= FEWEST_LINES:
        found["s.d. of ln R between cycles, common to all devices"] = float(_means(layout.moment, left).std(ddof=1))
    several = np.bincount(layout.of_device) > 2
    if several.sum() >= FEWEST_LINES:
        own = _own_sds(layout, left)[several]
        found["spread between devices of their own s.d. from cycle to cycle"] = float(
            np.std(own) / max(own.mean(), 1e-300)
        )
    return found


def _own_sds(layout: _Layout, left: Floats) -> Floats:
    """S.d. from cycle to cycle of each device ``(devices,)``; 0 for one with a single cycle."""
    count = np.bincount(layout.of_device)
    return np.asarray(np.sqrt(np.bincount(layout.of_device, left**2) / np.maximum(count - 1, 1)))


def _comparisons(state: str, members: Members, found: PopulationFit) -> tuple[Comparison, ...]:
    """Rivals for devices that were never beyond the meter's range, whose likelihood is known in closed form."""
    inside = np.bincount(members.device, members.censored != 0)[members.device] == 0
    if not inside.any():
        return ()
    device = np.unique(members.device[inside], return_inverse=True)[1].reshape(-1)
    cycles = per_cycle(device, members.cycle[inside], members.log_ohm[inside], members.censored[inside])
    count = np.bincount(cycles.device)
    means = _means(cycles.device, cycles.value)
    variances = found.draws[:, 1:].mean(axis=0)
    each = variances[1] + cycles.per_cycle * variances[2]
    scale = np.sqrt(variances[0] + each / count)
    compared = [tails(f"{state}: how are the devices distributed?", (means - found.draws[:, 0].mean()) / scale)]
    if found.sigma_c2c is None:
        return tuple(compared)
    free = _best(cycles, None, True)
    alike = _best(cycles, None, False)
    penalty = math.log(len(cycles.device))
    question = f"{state}: do the devices differ beyond what their cycles do?"
    compared.insert(0, preferred(question, "devices and cycles differ", "cycles alone", 2.0 * (free - alike) - penalty))
    if found.noise is not None:
        still = _best(cycles, cycles.per_cycle * float(variances[2]), True)
        question = f"{state}: do the cycles differ beyond repeated readings?"
        compared.insert(
            1, preferred(question, "cycles differ", "noise of reading alone", 2.0 * (free - still) - penalty)
        )
    # of cycles 0 and 1, 2 and 3...: differences that have nothing in common
    place = np.arange(len(cycles.device)) - (np.cumsum(count) - count)[cycles.device]
    second = np.flatnonzero(place % 2 == 1)
    if len(second) >= 2 * FEWEST_LINES:
        difference = cycles.value[second] - cycles.value[second - 1]
        compared.append(tails(f"{state}: how are the cycles of a device distributed?", difference))
    return tuple(compared)


def _best(cycles: Cycles, c2c: float | None, devices_differ: bool) -> float:
    """Highest log-likelihood of random effects, with the variance between cycles free or given, and with devices alike.

    With ``v_i = d2d + c2c / n_i`` the means of the devices are ``N(mu, v_i)``, and the squares within them tell c2c.
    """
    from scipy.optimize import minimize

    count = np.bincount(cycles.device)
    means = _means(cycles.device, cycles.value)
    within = float(np.square(cycles.value - means[cycles.device]).sum())
    freedom = len(cycles.device) - len(count)

    def cost(at: Floats) -> float:
        logs = iter(at.tolist())
        between = math.exp(next(logs)) if devices_differ else 0.0
        each = math.exp(next(logs)) if c2c is None else c2c
        v = between + each / count
        centre = float((means / v).sum() / (1.0 / v).sum())
        log_likelihood = float((np.log(v) + np.log(count) + (means - centre) ** 2 / v).sum())
        return 0.5 * (log_likelihood + freedom * math.log(each) + within / each)

    start = [math.log(max(float(means.var()), 1e-12))] * devices_differ
    start += [math.log(max(within / max(freedom, 1), 1e-12))] * (c2c is None)
    return -float(minimize(cost, start, method="Nelder-Mead").fun)


def _distribution(state: str, members: Members, found: PopulationFit, real: Floats) -> Overlay:
    """The distribution of all readings against the fitted log-normal."""
    from scipy.special import ndtr

    # a reading beyond the range is sorted to its end: the share below any point in between stays right
    reach = np.where(members.censored > 0, np.inf, np.where(members.censored < 0, -np.inf, real))
    x = np.quantile(members.log_ohm[members.censored == 0], np.linspace(0.01, 0.99, POINTS))
    share = np.mean(reach <= x[:, None], axis=1)
    # readings of one device go together: between devices and readings lies the number that counts
    mean, d2d, c2c, noise = found.draws.T
    sigma = np.sqrt(d2d + c2c + noise)
    each = len(real) / found.devices
    effective = len(real) / (1.0 + (each - 1.0) * float(np.mean(d2d / sigma**2)))
    wide = 1.96 * np.sqrt(np.maximum(share * (1.0 - share), 0.5 / effective) / effective)
    return Overlay(
        f"{state} of {found.devices} devices",
        "resistance at the reference condition (Ω)",
        "share of readings below",
        True,
        False,
        Band(np.exp(x), share, np.maximum(share - wide, 0.0), np.minimum(share + wide, 1.0)),
        spread(np.exp(x), ndtr((x - mean[:, None]) / sigma[:, None])),
    )


def _over_cycles(state: str, members: Members, layout: _Layout, real: Floats, replicas: list[Floats]) -> list[Overlay]:
    """How much each device differs from cycle to cycle, and where all devices go with the cycles."""
    overlays = []
    several = np.bincount(layout.of_device) > 2

    def left(readings: Floats) -> Floats:
        cycles = _means(layout.of_cycle, readings)
        return np.asarray(cycles - _means(layout.of_device, cycles)[layout.of_device])

    if several.sum() >= FEWEST_LINES:
        share = np.linspace(0.0, 1.0, POINTS + 2)[1:-1]

        def sds(readings: Floats) -> Floats:
            return np.asarray(np.quantile(_own_sds(layout, left(readings))[several], share))

        overlays.append(
            Overlay(
                f"{state}: s.d. from cycle to cycle of each device",
                "share of the devices below",
                "s.d. of ln R",
                False,
                False,
                _resampled(share, _own_sds(layout, left(real))[several], lambda values: np.quantile(values, share)),
                spread(share, [sds(each) for each in replicas]),
            )
        )
    moments = int(layout.moment.max()) + 1
    if moments >= FEWEST_LINES:
        block = layout.moment * min(moments, MOST_CYCLES) // moments
        at = _means(block, layout.moment.astype(np.float64))
        mine = left(real)
        mean = _means(block, mine)
        error = np.sqrt(np.bincount(block, (mine - mean[block]) ** 2)) / np.maximum(np.bincount(block) - 1, 1)
        overlays.append(
            Overlay(
                f"{state}: do the devices drift with the cycles?",
                "cycle",
                "ln R less the mean of its device",
                False,
                False,
                Band(at, mean, mean - 1.96 * error, mean + 1.96 * error),
                spread(at, [_means(block, left(each)) for each in replicas]),
            )
        )
    return overlays


def _resampled(x: Floats, values: Floats, curve: Callable[[Floats], Floats]) -> Band:
    """A curve of values ``(n,)`` with the 95 % interval of the bootstrap."""
    rng = np.random.default_rng(SEED)
    drawn = [curve(rng.choice(values, len(values))) for _ in range(MOST_REPLICAS)]
    low, high = np.quantile(drawn, (LOWER, UPPER), axis=0)
    return Band(x, np.asarray(curve(values)), low, high)
