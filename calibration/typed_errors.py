"""Errors by type, cell by cell, from patterns that were programmed and then sensed many times.

Type 1: a sign inverted; type 2: a weight read as zero; type 3: a zero read as a weight. Of each, what is steady from
sense to sense (an error of programming) and what is not, from pairs of senses as in :mod:`calibration.bit_errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from calibration.bit_errors import binomial_rate, clustered_rate
from calibration.estimate import Estimate
from models.exceptions import UserMistake

TYPES = ("type1", "type2", "type3")


@dataclass(frozen=True, eq=False)
class TypedErrors:
    """What each cell did, by type of error; arrays of the array's shape.

    Attributes:
        steady: programmings that were wrong for good; a fraction where senses of one programming differ.
        transient: senses that were wrong unlike their fellows.
        programmings: how often the cell was programmed to a weight (types 1 and 2) or to zero (type 3).
        senses: how often it was sensed then.
    """

    steady: Mapping[str, NDArray[np.float64]]
    transient: Mapping[str, NDArray[np.float64]]
    programmings: Mapping[str, NDArray[np.int64]]
    senses: Mapping[str, NDArray[np.int64]]

    def __add__(self, other: TypedErrors) -> TypedErrors:
        """Errors and trials of both."""
        return TypedErrors(
            {name: self.steady[name] + other.steady[name] for name in TYPES},
            {name: self.transient[name] + other.transient[name] for name in TYPES},
            {name: self.programmings[name] + other.programmings[name] for name in TYPES},
            {name: self.senses[name] + other.senses[name] for name in TYPES},
        )

    def rates(self, good: NDArray[np.bool_]) -> dict[str, Estimate]:
        """``random_type1``, ``transient_type1`` and so on over the cells ``good``; types never tried are left out."""
        found = {}
        for name in TYPES:
            tried = good & (self.programmings[name] > 0)
            if tried.any():
                found[f"random_{name}"] = clustered_rate(self.steady[name][tried], self.programmings[name][tried])
                found[f"transient_{name}"] = clustered_rate(self.transient[name][tried], self.senses[name][tried])
        return found


def typed_errors(targets: NDArray[np.int8], senses: NDArray[np.int8]) -> TypedErrors:
    """Sort the errors of repeated patterns by type, cell by cell.

    Args:
        targets: ``(patterns, rows, cols)``, -1, 0 or +1.
        senses: ``(patterns, repeats, rows, cols)``, two repeats at least.

    Raises:
        UserMistake: shapes that do not fit, or one sense only.
    """
    if senses.ndim != 4 or targets.shape != (senses.shape[0], *senses.shape[2:]):
        raise UserMistake(f"senses {senses.shape} and targets {targets.shape} do not belong to the same patterns")
    repeats = senses.shape[1]
    if repeats < 2:
        raise UserMistake("every pattern was sensed once only; transient errors show from 2 senses on")
    weight, asked = targets != 0, targets[:, None]
    wrong = {
        "type1": (weight[:, None] & (senses == -asked)).sum(axis=1),
        "type2": (weight[:, None] & (senses == 0)).sum(axis=1),
        "type3": (~weight[:, None] & (senses != 0)).sum(axis=1),
    }
    programmings = {name: (weight if name != "type3" else ~weight).sum(axis=0) for name in TYPES}
    pairs = repeats - 1
    return TypedErrors(
        {name: (count * (count - 1) / (pairs * repeats)).sum(axis=0) for name, count in wrong.items()},
        {name: (count * (repeats - count) / pairs).sum(axis=0) for name, count in wrong.items()},
        programmings,
        {name: repeats * count for name, count in programmings.items()},
    )


@dataclass(frozen=True, eq=False)
class TurnedAnswers:
    """What cells do in XNOR with an input of -1 that their reads, which are XNOR with +1, do not show.

    Counted over programmings, by the majority of their senses; arrays of the array's shape but for the last two.

    Attributes:
        fixed: weights that answer themselves, as they do at +1.
        lost: weights that answer 0.
        weights: programmings that read a weight, as was asked.
        turned: zeros that answer a weight.
        zeros: programmings that read zero, as was asked.
        up, down: ``(cols,)`` of ``turned``, those that answer +1 and -1: the sign is that of the amplifier's offset.
    """

    fixed: NDArray[np.int64]
    lost: NDArray[np.int64]
    weights: NDArray[np.int64]
    turned: NDArray[np.int64]
    zeros: NDArray[np.int64]
    up: NDArray[np.int64]
    down: NDArray[np.int64]

    def __add__(self, other: TurnedAnswers) -> TurnedAnswers:
        """Counts of both."""
        return TurnedAnswers(*(getattr(self, item.name) + getattr(other, item.name) for item in fields(self)))


def turned_answers(
    targets: NDArray[np.int8], senses: NDArray[np.int8], sums: NDArray[np.integer], good: NDArray[np.bool_]
) -> TurnedAnswers:
    """Tell apart what each cell answers at -1, from sums of its row with this input in its column alone.

    Args:
        targets: ``(patterns, rows, cols)``, -1, 0 or +1.
        senses: ``(patterns, repeats, rows, cols)``.
        sums: ``(patterns, any repeats, rows, cols)`` of the row, with -1 in the cell's column and +1 in all others.
        good: ``(rows, cols)`` cells that count.
    """
    # what the others of the row add is what they read on average, so that an unsteady one is not blamed on this
    mean = senses.mean(axis=1)
    others = mean.sum(axis=2, keepdims=True) - mean
    answers = np.clip(np.rint(sums.mean(axis=1) - others), -1, 1).astype(np.int8)
    right = good & (np.rint(mean) == targets)
    weights, zeros = right & (targets != 0), right & (targets == 0)
    return TurnedAnswers(
        fixed=(weights & (answers == targets)).sum(axis=0),
        lost=(weights & (answers == 0)).sum(axis=0),
        weights=weights.sum(axis=0),
        turned=(zeros & (answers != 0)).sum(axis=0),
        zeros=zeros.sum(axis=0),
        up=(zeros & (answers == 1)).sum(axis=(0, 1)),
        down=(zeros & (answers == -1)).sum(axis=(0, 1)),
    )


def turned_noise(sums: NDArray[np.integer], zeros: NDArray[np.int64], cells: int) -> Estimate:
    """How often a sense of a zero in XNOR with an input of -1 answers a weight now and then.

    What comes and goes is what the variance of a row's sum from sense to sense counts.

    Args:
        sums: ``(patterns, repeats, rows)`` sums of XNOR with -1 in all columns, two repeats at least.
        zeros: ``(patterns, rows)`` how many of them read zero.
        cells: of the array: so many trials count at least, where nothing was seen.
    """
    trials = zeros.sum(axis=0)
    tried = trials > 0
    if not tried.any():
        raise UserMistake("no zero was programmed; characterise with weights=ternary")
    errors = sums.astype(np.float64).var(axis=1, ddof=1).sum(axis=0)[tried]
    if not errors.any():
        return binomial_rate(0, min(cells, int(trials.sum())))
    return clustered_rate(errors, trials[tried])
