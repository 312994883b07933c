"""How well the fitted amplifiers suit the senses: senses simulated from the fit, rival models, overlays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.predictive import SEED, Row, predictive_checks, preferred, spread
from calibration.result import Band, Check, Comparison, Overlay
from calibration.sense import Counts, SenseFit, crossings, log_times
from models.device_model import Sense
from models.sense import overdrive_ratio

Floats = NDArray[np.float64]

REPLICAS = 100
DEVIANCE = "deviance information criterion"
FEWEST = 8
MOST_SUPPLIES = 6
"""Supplies that are looked at one by one; of more, evenly chosen ones."""


class Judged(NamedTuple):
    """What came of it."""

    checks: tuple[Check, ...]
    comparisons: tuple[Comparison, ...]
    overlays: tuple[Overlay, ...]


class _Picture(NamedTuple):
    """What is compared of senses.

    Attributes:
        late: ``(supplies, cells)`` ln of where a cell becomes decided over where its resistance says, NaN if not seen.
        decided: ``(points,)`` share of senses.
        gradual: share of the cells and points that are neither always nor never decided.
        wrong: share of decided senses of the other sign than the resistances say.
        columns: ``(columns,)`` offsets by the difference of ``late`` between the signs.
    """

    late: Floats
    decided: Floats
    gradual: float
    wrong: float
    columns: Floats


def judge(data: Counts, found: SenseFit, base: Sense) -> Judged:
    """Hold the senses against senses of the fitted amplifiers, and the fit against fits without offsets and spread.

    Args:
        data: cells with known resistances.
        found: with draws.
    """
    kept = np.isin(data.column, found.columns) & ~found.outliers
    data = Counts(
        data.vdd_v,
        data.window_s,
        data.plus[:, kept],
        data.minus[:, kept],
        data.undecided[:, kept],
        np.searchsorted(found.columns, data.column[kept]),
        data.resistance_ohm[kept],
    )
    rng = np.random.default_rng(SEED)
    real = _picture(data, base)
    chosen = rng.choice(len(found.draws), REPLICAS)
    replicas = [_picture(_sensed(data, found.draws[one], found.offset_draws[one], base, rng), base) for one in chosen]
    shown = _shown(data)
    return Judged(
        _checks(data, real, replicas, shown),
        _comparisons(found),
        _overlays(data, real, replicas, found, base, shown),
    )


def _shown(data: Counts) -> list[int]:
    """Supplies that are looked at one by one."""
    count = len(np.unique(data.vdd_v))
    return [int(each) for each in np.unique(np.linspace(0, count - 1, min(count, MOST_SUPPLIES)).astype(int))]


def _sensed(data: Counts, draw: Floats, offsets: Floats, base: Sense, rng: np.random.Generator) -> Counts:
    """The same cells sensed at the same points by amplifiers of one draw, with branch errors of their own.

    The first node falls as :mod:`models.sense` has it.
    """
    from scipy.special import ndtr

    noise, _, speed, branch = draw.tolist()
    times = log_times(data, base) + speed + branch * rng.standard_normal(data.resistance_ohm.shape)
    supply = np.unique(data.vdd_v, return_inverse=True)[1].reshape(-1)
    plus, minus = np.zeros_like(data.plus), np.zeros_like(data.minus)
    senses = data.plus + data.minus + data.undecided
    for point, (vdd, window) in enumerate(zip(data.vdd_v.tolist(), data.window_s.tolist(), strict=True)):
        ratio = overdrive_ratio(base, vdd)
        bl, blb = times[supply[point]].T
        difference = bl - blb + offsets[data.column] / ratio
        dead = np.maximum(bl + blb - 2.0 * math.log(window), 0.0)
        up, down = (ndtr((sign * difference - dead) * ratio / noise) for sign in (1.0, -1.0))
        plus[point] = rng.binomial(senses[point], up)
        left = np.clip(down / np.maximum(1.0 - up, 1e-300), 0.0, 1.0)
        minus[point] = rng.binomial(senses[point] - plus[point], left)
    return data._replace(plus=plus, minus=minus, undecided=senses - plus - minus)


def _picture(data: Counts, base: Sense) -> _Picture:
    seen = crossings(data)
    times = log_times(data, base)
    late = seen.time - np.take_along_axis(times, seen.branch[..., None], axis=2)[..., 0]
    decided = data.plus + data.minus
    senses = np.maximum(decided + data.undecided, 1)
    # the branch of the higher resistance falls last: BL for +1
    positive = data.resistance_ohm[:, 0] > data.resistance_ohm[:, 1]
    wrong = np.where(positive, data.minus, data.plus)
    return _Picture(
        late,
        np.asarray((decided / senses).mean(axis=1)),
        float(np.mean((decided > 0) & (data.undecided > 0))),
        float(wrong.sum() / max(int(decided.sum()), 1)),
        _column_offsets(data, late, base)[0],
    )


def _leans(data: Counts, late: Floats, base: Sense) -> tuple[Floats, Floats]:
    """Mean of ``late`` over the supplies of each cell, and what an offset of 1 adds to it; NaN if nothing was seen."""
    ratio = np.array([overdrive_ratio(base, vdd) for vdd in np.unique(data.vdd_v).tolist()])
    sign = np.where((data.plus - data.minus).sum(axis=0) >= 0, -0.5, 0.5)
    known = np.isfinite(late)
    number = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, late, 0.0).sum(axis=0) / number
        lean = np.where(known, 1.0 / ratio[:, None], 0.0).sum(axis=0) / number * sign
    return np.asarray(mean), np.asarray(lean)


def _column_offsets(data: Counts, late: Floats, base: Sense) -> tuple[Floats, Floats]:
    """Offset of each column by the difference of the cells that read -1 and +1, and its standard error."""
    mean, lean = _leans(data, late, base)
    count = int(data.column.max()) + 1
    sums = []
    for side in (lean > 0, lean < 0):
        at = data.column[side]
        number = np.maximum(np.bincount(at, minlength=count), 0).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            centre = np.bincount(at, mean[side], count) / number
            reach = np.bincount(at, np.abs(lean[side]), count) / number
        sums.append((number, centre, reach))
    (n_minus, minus, reach_minus), (n_plus, plus, reach_plus) = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        reach = reach_minus + reach_plus
        error = float(np.nanstd(mean)) * np.sqrt(1.0 / n_minus + 1.0 / n_plus) / reach
    return (minus - plus) / reach, error


def _checks(data: Counts, real: _Picture, replicas: Sequence[_Picture], shown: list[int]) -> tuple[Check, ...]:
    supplies = np.unique(data.vdd_v)
    rows: list[Row] = []

    def add(name: str, values: list[float]) -> None:
        rows.append((name, values[0], np.array(values[1:])))

    every = [real, *replicas]
    for index in shown:
        at, volts = data.vdd_v == supplies[index], f"at VDD {supplies[index]:g} V"
        add(f"share of senses that are decided {volts}", [float(one.decided[at].mean()) for one in every])
        if np.isfinite(real.late[index]).sum() >= FEWEST:
            add(
                f"ln of the crossing time over that of the resistance, mean {volts}",
                [_nan(np.nanmean, one.late[index]) for one in every],
            )
            add(
                f"ln of the crossing time over that of the resistance, s.d. {volts}",
                [_nan(np.nanstd, one.late[index]) for one in every],
            )
    add("share of cells and points that are neither always nor never decided", [one.gradual for one in every])
    add("share of decided senses with the other sign than the resistances", [one.wrong for one in every])
    add("s.d. between columns of the difference of the signs", [_nan(np.nanstd, one.columns) for one in every])
    return predictive_checks(rows)


def _nan(function: Callable[[Floats], np.floating[Any]], values: Floats) -> float:
    """NaN where no value is known, without a warning."""
    return float(function(values)) if np.isfinite(values).any() else math.nan


def _comparisons(found: SenseFit) -> tuple[Comparison, ...]:
    """Whether offsets and branch errors are needed."""
    if len(found.criteria) < 3:
        return ()
    whole, no_offsets, no_branches = found.criteria
    scattered, alone = "a spread of the branches", "the measured resistances alone"
    question = "do crossing times differ from those of the resistances?"
    offsets = "an offset for each column"
    return (
        preferred("are offsets of the columns needed?", offsets, "no offsets", no_offsets - whole, DEVIANCE),
        preferred(question, scattered, alone, no_branches - whole, DEVIANCE),
    )


def _overlays(
    data: Counts, real: _Picture, replicas: Sequence[_Picture], found: SenseFit, base: Sense, shown: list[int]
) -> tuple[Overlay, ...]:
    supplies = np.unique(data.vdd_v)
    senses = np.maximum(data.plus + data.minus + data.undecided, 1)
    drawn = []
    for index in shown:
        here = np.flatnonzero(data.vdd_v == supplies[index])
        here = here[np.argsort(data.window_s[here])]
        share = ((data.plus + data.minus) / senses)[here]
        # the senses of one cell go together: the cells are what counts
        wide = 1.96 * share.std(axis=1, ddof=1) / math.sqrt(share.shape[1])
        mean, x = share.mean(axis=1), data.window_s[here] * 1e9
        measured = Band(x, mean, np.maximum(mean - wide, 0.0), np.minimum(mean + wide, 1.0))
        fitted = spread(x, [one.decided[here] for one in replicas])
        title = f"Decided senses at VDD {supplies[index]:g} V"
        drawn.append(Overlay(title, "sense window (ns)", "share of senses decided", True, False, measured, fitted))
    offset, error = _column_offsets(data, real.late, base)
    known = np.isfinite(offset) & np.isfinite(error)
    if known.any():
        x, value = found.columns[known].astype(np.float64), offset[known]
        measured = Band(x, value, value - 1.96 * error[known], value + 1.96 * error[known])
        fitted = spread(x, found.offset_draws[:, known])
        title = "Offsets, by cells that read -1 against +1 and by the fit"
        drawn.append(Overlay(title, "column", "offset (ln of the branches' ratio)", False, False, measured, fitted))
    share = np.linspace(0.0, 1.0, 27)[1:-1]
    quantiles = [np.nanquantile(one.late, share) for one in (real, *replicas)]
    if np.isfinite(quantiles).all():
        error = 1.96 * np.sqrt(share * (1.0 - share) / np.isfinite(real.late).any(axis=0).sum())
        ends = [np.nanquantile(real.late, np.clip(share + side * error, 0.0, 1.0)) for side in (-1.0, 1.0)]
        drawn.append(
            Overlay(
                "Crossing times over those of the resistances",
                "share of the cells below",
                "ln of the ratio",
                False,
                False,
                Band(share, quantiles[0], *ends),
                spread(share, quantiles[1:]),
            )
        )
    return tuple(drawn)
