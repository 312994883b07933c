"""Lists of the cells that may err, bin by bin of similar rates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.error_draws import RANK_BITS
from models.packed_kernels import Words

CLASSES_PER_OCTAVE = 16
"""Rates are told apart so finely when they are put into bins."""

SPREAD_OF_CLASSES = 64
"""Cells that err less often than the mean over this share the last class: what hits them in vain is a 64th at most."""

COST_OF_BIN = 4.0
"""What another bin costs for each chunk of rows, in draws."""


def rate_bins(rates: NDArray[np.float64], blocks: int, rows: int) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Put cells of similar rates into one bin, such that draws in vain and bins together cost least.

    Args:
        rates: ``(filters, columns)``.
        blocks: that have bins of their own.
        rows: that go through all bins of a block together.

    Returns:
        The bin of each cell, -1 where it never errs, and the largest rate of each bin, falling.
    """
    some = rates > 0.0
    if not some.any():
        return np.full(rates.shape, -1, dtype=np.int16), np.zeros(1)
    most, mean = float(rates[some].max()), float(rates[some].mean())
    last = math.ceil(CLASSES_PER_OCTAVE * math.log2(most / mean * SPREAD_OF_CLASSES))
    below = np.log2(most) - np.log2(rates, where=some, out=np.full(rates.shape, -np.inf))
    classes = np.clip(CLASSES_PER_OCTAVE * below, 0.0, last).astype(np.int64)
    largest = np.zeros(last + 1)
    np.maximum.at(largest, classes[some], rates[some])
    up_to = np.maximum.accumulate(largest[::-1])[::-1]  # of a class and all after it, where it is empty itself
    before = np.concatenate([[0], np.cumsum(np.bincount(classes[some], minlength=last + 1))])
    # the least that all classes before one cost, and where the last bin of them starts
    least, starts = np.zeros(last + 2), np.zeros(last + 2, dtype=np.int64)
    for end in range(1, last + 2):
        draws = up_to[:end] * (before[end] - before[:end]) * (rows / blocks)
        costs = least[:end] + draws + COST_OF_BIN
        starts[end] = np.argmin(costs)
        least[end] = costs[starts[end]]
    firsts: list[int] = []
    end = last + 1
    while end > 0:
        end = int(starts[end])
        firsts.insert(0, end)
    bins = np.searchsorted(np.array(firsts), np.arange(last + 1), side="right") - 1
    return np.where(some, bins[classes], -1).astype(np.int16), np.maximum.reduceat(largest, firsts)


@njit(nogil=True, cache=True, error_model="numpy")
def count_cells(places: NDArray[np.int16], groups: int, counts: Any) -> None:
    """How many cells each block has in each bin.

    Args:
        places: ``(filters, columns)`` bin of each cell; -1 where it never errs.
        groups: that the filters are dealt out to.
        counts: ``(groups, blocks, bins)``, zeros.
    """
    own = places.shape[0] // groups
    for row in range(places.shape[0]):
        here = counts[row // own, (row % own) // 64]
        for place in places[row]:
            if place >= 0:
                here[place] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def list_cells(
    rates: NDArray[np.float64],
    inversion: NDArray[np.float64],
    places: NDArray[np.int16],
    groups: int,
    largest: NDArray[np.float64],
    at: NDArray[np.int64],
    code_bits: int,
    cells: NDArray[np.uint32],
    shares: Words,
    inverting: Words,
) -> None:
    """Write the cells bin by bin.

    Args:
        rates: ``(filters, columns)``.
        inversion: ``(filters, columns)`` part of the rate that turns the sign.
        places, groups: as of :func:`count_cells`.
        largest: ``(bins,)`` largest rate of each.
        at: ``(groups, blocks, bins)`` where the next cell of each goes; moved on.
        code_bits: of a cell's code, which is the bit and the output of a weight (6 bits each), and above them its word.
        cells: codes, and above them the highest bits of the shares.
        shares: of the bin's largest rate at which cells err, in units of 2^-64, less one.
        inverting: the same of the part that turns the sign.
    """
    own = rates.shape[0] // groups
    for row in range(rates.shape[0]):
        here, output = at[row // own, (row % own) // 64], row % own % 64
        for column in range(rates.shape[1]):
            place = places[row, column]
            if place >= 0:
                cell, share = here[place], _share(rates[row, column] / largest[place])
                code = np.uint64((column // 64) << 12 | output << 6 | column % 64)
                cells[cell] = np.uint32(code | share >> np.uint64(64 - rank_bits(code_bits)) << np.uint64(code_bits))
                shares[cell] = share
                inverting[cell] = _share(inversion[row, column] / largest[place])
                here[place] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _share(ratio: float) -> Any:
    """A ratio from 0 to 1 in units of 2^-64, less one; nothing is one unit, so that it takes one in 2^64."""
    if ratio >= 1.0:
        return np.uint64(0xFFFFFFFFFFFFFFFF)
    # a double holds 53 bits of it
    return max(np.uint64(np.int64(math.ceil(ratio * 2.0**53))) << np.uint64(11), np.uint64(1)) - np.uint64(1)


@njit(nogil=True, cache=True, inline="always")
def rank_bits(code_bits: int) -> int:
    """How many of the highest bits of a share fit beside a cell's code."""
    return min(RANK_BITS, 32 - code_bits)
