"""How well the model of bit errors suits the counts: patterns read anew from the fit, rivals, overlays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from calibration.bit_errors import binomial_rate, clustered_rate
from calibration.error_model import SHIFTS, SPREADS, TYPES, ErrorModelFit
from calibration.predictive import SEED, Row, predictive_checks, preferred, spread
from calibration.result import Band, Check, Comparison, Overlay
from models.device_model import DeviceModel
from models.sense import margins, overdrive_ratio

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Weights = NDArray[np.int8]

MOST_SENSES = 40_000_000
MOST_REPLICAS, FEWEST_REPLICAS = 200, 40
MANY = 20.0
"""A quantity that spans more than this factor is drawn on a log axis."""


class Read(NamedTuple):
    """Patterns that were programmed and read under one condition.

    Attributes:
        condition: its index.
        model: population there, before the fit.
        vdd_v, window_s: of the senses.
        target: ``(patterns, cells)``.
        sensed: ``(patterns, repeats, cells)``.
    """

    condition: int
    model: DeviceModel
    vdd_v: float
    window_s: float
    target: Weights
    sensed: Weights


class Axis(NamedTuple):
    """What the conditions differ by: values ``(conditions,)`` and a label."""

    values: Floats
    label: str


def majority(sensed: Weights) -> Weights:
    """What most of the repeated reads ``(patterns, repeats, cells)`` say; 0 where they are even or undecided."""
    votes = np.stack([(sensed == value).sum(axis=1) for value in (0, 1, -1)])
    return np.asarray(np.array([0, 1, -1], dtype=np.int8)[votes.argmax(axis=0)])


def wrong_reads(target: Weights, sensed: Weights) -> tuple[tuple[NDArray[np.bool_], NDArray[np.bool_]], ...]:
    """For each type of error the reads that are wrong, and those that could be, ``(patterns, repeats, cells)`` each."""
    target = target[:, None]
    weight, zero = np.broadcast_to(target != 0, sensed.shape), np.broadcast_to(target == 0, sensed.shape)
    return (
        (weight & (sensed == -target), weight),
        (weight & (sensed == 0), weight),
        (zero & (sensed != 0), zero),
    )


def posterior_checks(reads: Sequence[Read], column: Counts, found: ErrorModelFit) -> tuple[tuple[Check, ...], Floats]:
    """Program and read the same patterns again in cells drawn from the fit, and count the same things.

    Args:
        reads: of the cells that are not stuck.
        column: ``(cells,)`` of the array.

    Returns:
        The checks; and errors of each cell in the simulated data, ``(replicas, cells)``.
    """
    rng = np.random.default_rng(SEED)
    senses = sum(one.sensed.size for one in reads)
    count = int(np.clip(MOST_SENSES // senses, FEWEST_REPLICAS, MOST_REPLICAS))
    measured = _numbers(reads, column)
    replicas, errors = [], []
    for one in rng.choice(len(found.draws), count):
        drawn = _simulated(reads, column, float(found.draws[one, 0]), float(found.draws[one, 1]), rng)
        replicas.append(_numbers(drawn, column))
        errors.append(errors_by_cell(drawn))
    rows: list[Row] = [(name, value, np.array([d[name] for d in replicas])) for name, value in measured.items()]
    return predictive_checks(rows), np.stack(errors)


def errors_by_cell(reads: Sequence[Read]) -> Floats:
    """Wrong reads of each cell, ``(cells,)``."""
    return np.asarray(sum((one.sensed != one.target[:, None]).sum(axis=(0, 1)) for one in reads), dtype=np.float64)


def _simulated(
    reads: Sequence[Read], column: Counts, wider: float, shift: float, rng: np.random.Generator
) -> list[Read]:
    """The same patterns in other devices, as ``models.devices.rram`` and ``models.sense`` have them.

    A device keeps its own deviate in each state and a column its offset; each programming and each sense has a new one.
    """
    own = rng.standard_normal((2, len(column), 2))
    offset = rng.standard_normal(int(column.max()) + 1)[column]
    made = []
    for one in reads:
        lrs, hrs, sense = one.model.lrs, one.model.hrs, one.model.sense
        ratio = overdrive_ratio(sense, one.vdd_v)
        if ratio == 0.0:
            made.append(one._replace(sensed=np.zeros_like(one.sensed)))
            continue
        # +1 has its BL device in the HRS, -1 its BLB device, and 0 both
        low = np.stack([one.target < 0, one.target > 0], axis=-1)
        cycle = rng.standard_normal(low.shape)
        log_lrs = math.log(lrs.median_ohm) + wider * (lrs.sigma_d2d * own[0] + lrs.sigma_c2c * cycle)
        log_hrs = math.log(hrs.median_ohm) + shift + wider * (hrs.sigma_d2d * own[1] + hrs.sigma_c2c * cycle)
        cells = margins(sense, np.exp(np.where(low, log_lrs, log_hrs)), one.vdd_v, one.window_s)
        noise = sense.noise_sigma * rng.standard_normal(one.sensed.shape)
        difference = cells.log_ratio[:, None] + (sense.offset_sigma * offset + noise) / ratio
        decided = np.abs(difference) > cells.dead_zone[:, None]
        made.append(one._replace(sensed=np.where(decided, np.sign(difference), 0.0).astype(np.int8)))
    return made


def _numbers(reads: Sequence[Read], column: Counts) -> dict[str, float]:
    found: dict[str, float] = {}
    signs, unsteady = 0, 0
    several = np.zeros(len(column), dtype=np.int64)
    for one in reads:
        for name, (wrong, could) in zip(TYPES, wrong_reads(one.target, one.sensed), strict=True):
            if could.any():
                key = f"condition {one.condition}, errors of {name}"
                found[key] = found.get(key, 0.0) + float(wrong.sum())
        failed = one.sensed != one.target[:, None]
        signs += int((failed & (one.target > 0)[:, None]).sum()) - int((failed & (one.target < 0)[:, None]).sum())
        unsteady += int((one.sensed != majority(one.sensed)[:, None]).sum())
        several += failed.any(axis=1).sum(axis=0)
    by_cell = errors_by_cell(reads)
    found["cells that erred"] = float((by_cell > 0).sum())
    found["cells that erred in several patterns"] = float((several > 1).sum())
    found["errors of the cell that erred most"] = float(by_cell.max())
    found["errors of the column that erred most"] = float(np.bincount(column, by_cell).max())
    found["errors of +1 less those of -1"] = float(signs)
    found["reads that differ from the majority of their pattern"] = float(unsteady)
    return found


def compare(errors: Counts, trials: Counts, found: ErrorModelFit) -> tuple[Comparison, ...]:
    """Rivals of the physical model; nothing where nothing erred, which every model can explain.

    All likelihoods are divided by the design effect, and so is the number of trials.

    Args:
        errors, trials: ``(conditions, 3, cells)``.
    """
    if not errors.any():
        return ()
    wrong, all_ = errors.sum(axis=2), trials.sum(axis=2)
    weight = math.log(max(float(all_.sum()) / found.design_effect, 2.0))
    fitted = found.log_likelihood
    shifts = fitted.shape[1] > 1
    physical = float(fitted.max())
    ours = -2.0 * physical + (2.0 if shifts else 1.0) * weight
    each = -2.0 * _free(wrong, all_) / found.design_effect + float((all_ > 0).sum()) * weight
    alike = -2.0 * _free(wrong.sum(axis=0), all_.sum(axis=0)) / found.design_effect
    alike += float((all_.sum(axis=0) > 0).sum()) * weight
    model = "the populations with one spread" + (" and shift" if shifts else "")
    compared = [preferred("what explains the rates?", model, "a rate for each condition and type", each - ours)]
    if len(errors) > 1:
        compared.append(preferred("do the conditions matter?", model, "one rate per type everywhere", alike - ours))
    middle = int(np.argmin(np.abs(SHIFTS))) if shifts else 0
    base = float(fitted[int(np.argmin(np.abs(SPREADS - 1.0))), middle])
    gain = 2.0 * (physical - base) - (2.0 if shifts else 1.0) * weight
    compared.append(preferred("are the populations of the base file enough?", "other ones", "they are", gain))
    if shifts:
        still = float(fitted[:, middle].max())
        compared.append(
            preferred("is a shift of the medians needed?", "a shift", "no shift", 2.0 * (physical - still) - weight)
        )
    return tuple(compared)


def _free(wrong: Counts, trials: Counts) -> float:
    """Highest log-likelihood of counts that have a rate each."""
    rate = wrong / np.maximum(trials, 1)
    return float((xlogy(wrong, rate) + xlogy(trials - wrong, 1.0 - rate)).sum())


def axis_of(conditions: Sequence[Mapping[str, float]], labels: Mapping[str, str]) -> Axis:
    """What the conditions differ by, where that is one quantity; their numbers else.

    Args:
        labels: description of each quantity with its unit.
    """
    values = {name: np.array([one[name] for one in conditions]) for name in labels}
    varied = [name for name, each in values.items() if len(np.unique(each)) > 1 and np.isfinite(each).all()]
    if len(varied) == 1 and len(np.unique(values[varied[0]])) == len(conditions):
        return Axis(values[varied[0]], labels[varied[0]])
    return Axis(np.arange(len(conditions), dtype=np.float64), "condition")


def overlays(
    reads: Sequence[Read], errors: Counts, trials: Counts, found: ErrorModelFit, axis: Axis, simulated: Floats
) -> tuple[Overlay, ...]:
    """Rates of each type against the condition, and how the errors are shared among the cells.

    Args:
        simulated: see :func:`posterior_checks`.
    """
    drawn = []
    order = np.argsort(axis.values, kind="stable")
    many = bool((axis.values > 0).all() and axis.values.max() > MANY * axis.values.min())
    for place, name in enumerate(TYPES):
        at = order[trials[order, place].any(axis=1)]
        if not len(at):
            continue
        rates = []
        for index in at:
            tried = trials[index, place] > 0
            rates.append(clustered_rate(errors[index, place][tried], trials[index, place][tried]))
        value, low, high = (np.array([getattr(rate, side) for rate in rates]) for side in ("value", "low", "high"))
        if not errors[at, place].any() and found.predicted[2, at, place].max() < value.min():
            continue  # neither seen nor expected: nothing to look at
        # where nothing erred the rate is below its bound, and its lower end has no place on a log axis
        low = np.where(low > 0.0, low, value)
        x = axis.values[at]
        title = f"Rate of {name}, of {len(errors[0, 0])} cells"
        fitted = Band(x, *(found.predicted[side, at, place] for side in range(3)))
        drawn.append(Overlay(title, axis.label, "error rate", many, True, Band(x, value, low, high), fitted))
    by_cell = errors_by_cell(reads)
    if by_cell.any():
        x = np.unique(np.round(np.geomspace(1.0, max(float(by_cell.max()), 3.0), 12)))
        shares = [binomial_rate(float((by_cell >= least).sum()), len(by_cell)) for least in x]
        value, low, high = (np.array([getattr(share, side) for share in shares]) for side in ("value", "low", "high"))
        predicted = spread(x, np.mean(simulated[:, None, :] >= x[:, None], axis=2))
        title = "How the errors are shared among the cells"
        drawn.append(
            Overlay(
                title, "wrong reads", "share of cells with so many", False, False, Band(x, value, low, high), predicted
            )
        )
    return tuple(drawn)
