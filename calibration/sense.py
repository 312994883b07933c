"""Offset, noise and speed of the sense amplifiers, from cells of known resistances sensed at many supplies and windows.

The model is that of :mod:`models.sense`: with ``t`` the crossing times of the two branches and ``e`` the offset of the
column over the relative overdrive, the first node falls at::

    ln T = ln t_BLb - e / 2  for +1,     ln t_BL + e / 2  for -1

so that the window at which a cell becomes decided tells its branch's crossing time, how that differs between cells of
either sign in a column tells the column's offset, and how gradual it is tells the noise. The crossing time of a branch
may differ from that of its measured resistance by an error of its own (of the meter, or of a resistance that is another
at the voltage of a sense). Only the product of a node's capacitance and swing can be told: the swing is kept, and the
capacitance is fitted.

The posterior is sampled, Metropolis within Gibbs; scales have the prior 1 / scale. Values are its medians. Draws follow
each other closely, so that intervals go by how many independent ones they are worth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import LOWER, UPPER, Estimate
from calibration.sense_posterior import (
    KEPT_OF_RIVAL,
    NEAR,
    SETTLED,
    Draws,
    Sampler,
    Terms,
    halves_apart,
    worth_at,
)
from models.device_model import Sense
from models.exceptions import UserMistake
from models.sense import crossing_time_s, overdrive_ratio

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

FEWEST_CELLS = 8
FEWEST_COLUMNS = 4
BESIDE = 2
"""Windows on either side of where a cell becomes decided that count; at the others it is certain."""

WRONG = 1.5
"""A cell that becomes decided further than this from where its resistance says does not belong to the fit."""

FEWEST_DRAWS = 1.0 / LOWER - 1.0
"""Independent draws whose lowest and highest are the ends of a 95 % interval; fewer have none."""


class Counts(NamedTuple):
    """What was sensed.

    Attributes:
        vdd_v, window_s: ``(points,)``.
        plus, minus, undecided: ``(points, cells)`` senses of each outcome.
        column: ``(cells,)`` which amplifier sensed the cell; any numbers.
        resistance_ohm: ``(cells, 2)``, BL first; NaN where it was not measured.
    """

    vdd_v: Floats
    window_s: Floats
    plus: Integers
    minus: Integers
    undecided: Integers
    column: Integers
    resistance_ohm: Floats


@dataclass(frozen=True)
class SenseFit:
    """What the counts say of the amplifiers.

    Attributes:
        offset_sigma, node_capacitance_f, branch_sigma: None where the resistances are not known; ``branch_sigma`` is
            the s.d. of ln of the crossing time that the measured resistance leaves open.
        noise_sigma: from sense to sense.
        columns: ``(columns,)`` the amplifiers.
        offsets: of each, in the same order; empty without resistances.
        outliers: ``(cells,)`` bool, left out: their crossing time does not fit their resistance.
        cells: how many told something.
        converged: both halves of the draws agree.
        draws: ``(kept, 4)`` of the noise, the offset spread, ln of the speed (how much later branches cross than the
            base file's capacitance has it) and the branch spread.
        offset_draws: ``(kept, columns)``; both empty without resistances.
        criteria: deviance information criteria of the fit and, where they were asked for, of the models without offsets
            and without branch errors.
    """

    offset_sigma: Estimate | None
    noise_sigma: Estimate
    node_capacitance_f: Estimate | None
    branch_sigma: Estimate | None
    columns: Integers
    offsets: tuple[Estimate, ...]
    outliers: Mask
    cells: int
    converged: bool
    draws: Floats
    offset_draws: Floats
    criteria: tuple[float, ...] = ()


def fit_sense(
    data: Counts, base: Sense, group: Integers | None = None, seed: int = 0, *, rivals: bool = False
) -> list[SenseFit]:
    """Fit the amplifiers of one chip, or of several that have nothing in common.

    Args:
        data: all of them together.
        base: access resistance, threshold, saturation and swing are taken from it.
        group: ``(cells,)`` chip of each cell, from 0; columns of different chips need different numbers. One chip by
            default.
        seed: of the draws; the same data give the same fit.
        rivals: take the information criteria of models without offsets and without branch errors as well, where the
            resistances are known; it costs half the time again.

    Raises:
        UserMistake: shapes that do not fit, NaN, too few cells or columns, resistances of some cells only, supplies
            below the threshold only, or no cell that becomes decided within the windows.
    """
    chip = np.zeros(len(data.column), dtype=np.int64) if group is None else group
    known = _check(data)
    data = at_working_supplies(data, base)
    seen = crossings(data)
    if not np.isfinite(seen.time).any():
        raise UserMistake(
            "sense: no cell goes from undecided to decided within the windows; choose shorter or longer ones"
        )
    if not known:
        data, seen = _stand_in(data, seen, base)
    times = log_times(data, base)
    late = seen.time - np.take_along_axis(times, seen.branch[..., None], axis=2)[..., 0]
    speed = np.array([np.nanmedian(late[:, chip == one]) for one in range(int(chip.max()) + 1)])
    with np.errstate(invalid="ignore"):
        outliers = (np.abs(late - speed[chip]) > WRONG).any(axis=0)
    terms = _terms(data, times, seen, speed[chip], ~outliers, base)
    if len(np.unique(terms.cell)) < FEWEST_CELLS:
        raise UserMistake(
            f"sense: {len(np.unique(terms.cell))} cells become decided within the windows; {FEWEST_CELLS} are needed"
        )
    columns, column = np.unique(data.column, return_inverse=True)
    parts = (terms, column.reshape(-1), chip, speed, known)
    sampler = Sampler(*parts, np.random.default_rng(seed))
    draws = sampler.run()
    criteria = [draws.criterion]
    if known and rivals:
        for offsets, branches in ((False, True), (True, False)):
            rival = Sampler(*parts, np.random.default_rng(seed), offsets=offsets, branches=branches)
            criteria.append(rival.run(KEPT_OF_RIVAL, KEPT_OF_RIVAL).criterion)
    told = np.zeros(len(chip), dtype=bool)
    told[terms.cell] = True
    fits = [_fit(one, draws, sampler, columns, outliers & (chip == one), told, base) for one in range(len(speed))]
    return [replace(fit, criteria=tuple(float(each[one]) for each in criteria)) for one, fit in enumerate(fits)]


def at_working_supplies(data: Counts, base: Sense) -> Counts:
    """The counts without the supplies at which nothing was ever decided: the chip does not work there.

    Raises:
        UserMistake: none is left.
    """
    decided = (data.plus + data.minus).sum(axis=1)
    alive = [vdd for vdd in np.unique(data.vdd_v).tolist() if decided[data.vdd_v == vdd].any()]
    works = np.isin(data.vdd_v, [vdd for vdd in alive if overdrive_ratio(base, vdd) > 0.0])
    if not works.any():
        raise UserMistake(
            "sense: no cell was ever decided; is the array programmed, does VDD reach the chip's threshold?"
        )
    return data._replace(
        vdd_v=data.vdd_v[works],
        window_s=data.window_s[works],
        plus=data.plus[works],
        minus=data.minus[works],
        undecided=data.undecided[works],
    )


def _check(data: Counts) -> bool:
    """Refuse what cannot be fitted; whether the resistances are known."""
    points, cells = len(data.vdd_v), len(data.column)
    if any(array.shape != (points, cells) for array in (data.plus, data.minus, data.undecided)):
        raise UserMistake("sense: the counts do not fit the points and cells")
    if data.resistance_ohm.shape != (cells, 2) or len(data.window_s) != points:
        raise UserMistake("sense: the resistances or windows do not fit the counts")
    if not (np.isfinite(data.vdd_v).all() and np.isfinite(data.window_s).all() and (data.window_s > 0).all()):
        raise UserMistake("sense: supplies and windows must be finite numbers, windows above 0")
    if min(int(array.min(initial=0)) for array in (data.plus, data.minus, data.undecided)) < 0:
        raise UserMistake("sense: counts must be 0 or more")
    unknown = np.isnan(data.resistance_ohm)
    if unknown.any() and not unknown.all():
        raise UserMistake("sense: some cells' resistances are not known; leave these cells out")
    if not unknown.all() and not (data.resistance_ohm > 0).all():
        raise UserMistake("sense: resistances must be positive numbers")
    if cells < FEWEST_CELLS:
        raise UserMistake(f"sense: {cells} cells were sensed; a fit needs at least {FEWEST_CELLS}")
    if len(np.unique(data.column)) < FEWEST_COLUMNS and not unknown.all():
        raise UserMistake(f"sense: the cells lie in fewer than {FEWEST_COLUMNS} columns; offsets have no spread there")
    return not bool(unknown.all())


class Crossings(NamedTuple):
    """Where cells become decided: ln of the window ``(supplies, cells)``, NaN where not seen; which branch is first."""

    vdd_v: Floats
    time: Floats
    branch: Integers


def crossings(data: Counts) -> Crossings:
    """Where each cell becomes decided at each supply: between the windows at which it mostly is not, and mostly is."""
    supplies = np.unique(data.vdd_v)
    time = np.full((len(supplies), len(data.column)), np.nan)
    ahead = (data.plus - data.minus).sum(axis=0)
    for index, vdd in enumerate(supplies):
        here = np.flatnonzero(data.vdd_v == vdd)
        here = here[np.argsort(data.window_s[here])]
        logs = np.log(data.window_s[here])
        senses = data.plus[here] + data.minus[here] + data.undecided[here]
        decided = 2 * data.undecided[here] < senses
        first = decided.argmax(axis=0)
        crossed = decided.any(axis=0) & ~decided[0]
        time[index, crossed] = 0.5 * (logs[first] + logs[np.maximum(first - 1, 0)])[crossed]
    branch = np.broadcast_to(np.where(ahead >= 0, 1, 0), time.shape)
    return Crossings(supplies, time, branch)


def _stand_in(data: Counts, seen: Crossings, base: Sense) -> tuple[Counts, Crossings]:
    """Data of the supply that tells most, with resistances that would explain where each cell becomes decided.

    One supply only: from one to the next the offset, which is not known here, moves where that is. The slower branch
    never falls, and a decided sense counts as decided, whatever its sign.
    """
    index = int(np.isfinite(seen.time).sum(axis=1).argmax())
    here = data.vdd_v == seen.vdd_v[index]
    time, branch = seen.time[index : index + 1], seen.branch[index : index + 1]
    told = np.where(np.isfinite(time[0]), time[0], 0.0)
    fast = np.exp(told) * seen.vdd_v[index] / (base.node_capacitance_f * base.swing_v) - base.access_ohm
    ohms = np.full((len(data.column), 2), 1e15)
    ohms[np.arange(len(ohms)), branch[0]] = np.where(np.isfinite(time[0]), np.maximum(fast, 1.0), 1e15)
    decided = (data.plus + data.minus)[here]
    return data._replace(
        vdd_v=data.vdd_v[here],
        window_s=data.window_s[here],
        plus=np.where(branch == 1, decided, 0),
        minus=np.where(branch == 1, 0, decided),
        undecided=data.undecided[here],
        resistance_ohm=ohms,
    ), Crossings(seen.vdd_v[index : index + 1], time, branch)


def log_times(data: Counts, base: Sense) -> Floats:
    """Logarithms of the crossing times that the resistances say, ``(supplies, cells, 2)``."""
    supplies = np.unique(data.vdd_v).tolist()
    ohms = np.minimum(data.resistance_ohm, 1e16)
    return np.stack([np.log(crossing_time_s(base, ohms, vdd)) for vdd in supplies])


def _terms(data: Counts, times: Floats, seen: Crossings, speed: Floats, chosen: Mask, base: Sense) -> Terms:
    blocks: list[Terms] = []
    for index, vdd in enumerate(seen.vdd_v.tolist()):
        ratio = overdrive_ratio(base, vdd)
        here = np.flatnonzero(data.vdd_v == vdd)
        here = here[np.argsort(data.window_s[here])]
        logs = np.log(data.window_s[here])
        fast, slow = (choose(times[index], axis=1) + speed for choose in (np.min, np.max))
        spacing = float(np.diff(logs).max(initial=0.0))
        counts = [getattr(data, name)[here] for name in ("plus", "minus", "undecided")]
        # far from the first window that decides a cell for certain, and from the last that never does, all is certain
        mixed = np.minimum(counts[0] + counts[1], counts[2]) > 0
        edge = mixed | np.diff(counts[2] > 0, axis=0, prepend=np.ones((1, len(chosen)), dtype=bool)).astype(bool)
        around = edge.copy()
        for steps in range(1, BESIDE + 1):
            around[steps:] |= edge[:-steps]
            around[:-steps] |= edge[steps:]
        near = chosen & around & (np.abs(logs[:, None] - fast) < WRONG)
        # long after both branches have fallen only the sign is open, and all windows tell the same
        over = chosen & (logs[:, None] >= 0.5 * (fast + slow) + NEAR + spacing) & ~near
        over &= slow - fast < 2 * NEAR
        point, cell = np.nonzero(near)
        late = times[index][cell] - logs[point][:, None]
        ratios = np.full(len(cell), ratio)
        blocks.append(Terms(cell, ratios, late, *(each[point, cell] for each in counts)))
        cell = np.flatnonzero(over.any(axis=0))
        sums = [np.where(over, each, 0).sum(axis=0)[cell] for each in counts]
        blocks.append(Terms(cell, np.full(len(cell), ratio), times[index][cell] - 99.0, *sums))
    return Terms(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _fit(
    one: int, draws: Draws, sampler: Sampler, columns: Integers, outliers: Mask, told: Mask, base: Sense
) -> SenseFit:
    known = sampler.known
    mine = np.flatnonzero((sampler.of_column == one) & sampler.told_columns)
    watched = [draws.noise[:, one]] + ([draws.scale[:, one], draws.speed[:, one]] if known else [])
    kept = len(draws.noise) if known else 0
    speed = _quantiles(np.exp(draws.speed[:, one]), "1")
    return SenseFit(
        _quantiles(np.exp(draws.scale[:, one]), "1") if known else None,
        _quantiles(np.exp(draws.noise[:, one]), "1"),
        Estimate(speed.value, speed.low, speed.high, "F").scaled(base.node_capacitance_f) if known else None,
        _quantiles(draws.branch[:, one], "1") if known else None,
        columns[mine],
        tuple(_quantiles(draws.offsets[:, place], "1") for place in mine) if known else (),
        outliers,
        int((told & (sampler.chip == one)).sum()),
        all(_settled(each) for each in watched),
        np.stack([np.exp(draws.noise), np.exp(draws.scale), draws.speed, draws.branch], axis=2)[:, one][:kept],
        draws.offsets[:kept, mine],
    )


def _settled(draws: Floats) -> bool:
    """Whether both halves of the draws lie in the same place, and they are worth enough for an interval."""
    return halves_apart(draws) < SETTLED and _worth(draws) >= FEWEST_DRAWS


def _worth(draws: Floats) -> float:
    return min(worth_at(draws, LOWER), worth_at(draws, UPPER))


def _quantiles(draws: Floats, unit: str) -> Estimate:
    """Median and interval of correlated draws.

    Of n independent draws, those at places k from either end hold the truth in 1 - 2 k / (n + 1) of all cases: less
    than the share of the draws between them. The places are chosen by how many independent draws these are worth.
    """
    worth = max(_worth(draws), FEWEST_DRAWS)
    low, high = ((each * (worth + 1.0) - 1.0) / (worth - 1.0) for each in (LOWER, UPPER))
    bottom, value, top = np.quantile(draws, (max(low, 0.0), 0.5, min(high, 1.0)))
    return Estimate(float(value), float(bottom), float(top), unit)
