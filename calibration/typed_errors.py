"""Errors by type, cell by cell, from patterns that were programmed and then sensed many times.

Type 1: a sign inverted; type 2: a weight read as zero; type 3: a zero read as a weight. Of each, what is steady from
sense to sense (an error of programming) and what is not, from pairs of senses as in :mod:`calibration.bit_errors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


def turned_gains(
    sensed: NDArray[np.integer], sums: NDArray[np.integer], zeros: NDArray[np.int64], cells: int
) -> tuple[Estimate, Estimate]:
    """How often a zero answers as a weight in XNOR with an input of -1: steadily, and now and then.

    Programming is verified by reads, which are XNOR with +1. At -1 the offset of an amplifier acts the other way round,
    so that zeros which were verified may lie outside its dead zone. The signs of what they answer are even, so that the
    square of what a row's sum is off by counts them, and the product of two senses of it counts the steady ones.

    Args:
        sensed: ``(patterns, rows)`` sum of the weights of each row as they read.
        sums: ``(patterns, repeats, rows)`` sums of XNOR with -1 in all columns, two repeats at least.
        zeros: ``(patterns, rows)`` how many of them read zero.
        cells: of the array: so many trials count at least, where nothing was seen.
    """
    off = (sums + sensed[:, None]).astype(np.float64)
    repeats = off.shape[1]
    square, whole = (off**2).sum(axis=1), off.sum(axis=1) ** 2
    steady = ((whole - square) / (repeats * (repeats - 1))).sum(axis=0)
    transient = (square / repeats).sum(axis=0) - steady
    trials = zeros.sum(axis=0)
    tried = trials > 0
    if not tried.any():
        raise UserMistake("no zero was programmed; characterise with weights=ternary")
    return _signed_rate(steady[tried], trials[tried], cells), _signed_rate(transient[tried], trials[tried], cells)


def _signed_rate(errors: NDArray[np.float64], trials: NDArray[np.int64], cells: int) -> Estimate:
    """A rate whose counts may come out below 0 in single rows; below 0 over all it is none."""
    if errors.sum() <= 0.0:
        return binomial_rate(0, min(cells, int(trials.sum())))
    return clustered_rate(errors, trials)
