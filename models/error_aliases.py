"""Tables that deal hits out to cells in proportion to their rates, one look-up for each (Walker 1977, Vose 1991).

An error of a cell of probability p is at least one hit of a Poisson process of the mean ``-ln(1 - p)``: the hits of a
whole block are then those of one process, dealt out to its cells one by one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.packed_kernels import Words

CHUNK_ROWS = 32
"""Most rows that hits are dealt out to together."""

CHUNK_HITS = 512
"""Most hits that are dealt out together, on average: they are compared where two may be of one sense."""

MOST_HITS = 44.0
"""Mean hits of a cell that always errs: it is spared once in 1e19 senses."""

MOST_CODE_BITS = 24
"""Of a cell's code, so that some of the 32 bits of a draw are left for its share beside its row."""


class Aliases(NamedTuple):
    """The tables of one layer.

    Attributes:
        totals: ``(groups, blocks)``: mean hits of a block for each row.
        cells, shares, code_bits: as of :func:`deal_out`.
        doublings: rows go by chunks of at most ``2^doublings``.
    """

    totals: NDArray[np.float64]
    cells: NDArray[np.uint32]
    shares: Words
    code_bits: int
    doublings: int

    def numbers(self, rows: int, planes: int, seed: np.uint64) -> tuple[int, NDArray[np.int64]]:
        """Doublings of the chunks of so many rows, and hits in each, drawn: ``(groups, blocks, chunks, planes)``."""
        doublings = min(self.doublings, (rows - 1).bit_length())
        means = self.totals[:, :, None, None] * 2.0**doublings
        shape = (*self.totals.shape, -(-rows >> doublings), planes)
        return doublings, np.random.default_rng(seed).poisson(means, size=shape)


def aliases(rates: NDArray[np.float64], groups: int, blocks: int, code_bits: int) -> Aliases | None:
    """Tables of cells of these rates ``(filters, columns)``; None where there are too many errors to compare all."""
    with np.errstate(divide="ignore"):
        hits = np.minimum(-np.log1p(-rates), MOST_HITS)
    totals = np.zeros((groups, blocks))
    by_filter = hits.sum(axis=1).reshape(groups, -1)
    for block in range(blocks):
        totals[:, block] = by_filter[:, 64 * block : 64 * block + 64].sum(axis=1)
    most, doublings = float(totals.max(initial=0.0)), 0
    if most > CHUNK_HITS or code_bits > MOST_CODE_BITS:
        return None
    while 2 << doublings <= CHUNK_ROWS and most * (2 << doublings) <= CHUNK_HITS:
        doublings += 1
    cells = np.empty((groups, blocks, 1 << code_bits), dtype=np.uint32)
    shares = np.empty(cells.shape, dtype=np.uint64)
    deal_out(hits, groups, code_bits, totals, cells, shares)
    return Aliases(totals, cells, shares, code_bits, doublings)


@njit(nogil=True, cache=True, error_model="numpy")
def deal_out(
    hits: NDArray[np.float64],
    groups: int,
    code_bits: int,
    totals: NDArray[np.float64],
    cells: NDArray[np.uint32],
    shares: Words,
) -> None:
    """Make the table of each block.

    Args:
        hits: ``(filters, columns)`` mean hits of each cell.
        groups: that the filters are dealt out to; their blocks are of 64 filters.
        code_bits: of a cell's code, which is the bit and the output of a weight (6 bits each), and above them its word.
        totals: ``(groups, blocks)`` sums of the hits.
        cells: ``(groups, blocks, 2^code_bits)``, in the order of the codes: the code of the other cell that a place of
            the table is shared with, and above it the highest bits of the cell's own share.
        shares: of the same shape, the cell's own share in units of 2^-64.
    """
    own, size = hits.shape[0] // groups, 1 << code_bits
    kept = np.uint64(32 - code_bits)
    scaled = np.empty(size)
    waiting = np.empty(size, dtype=np.int64)  # cells of less than their place from below, of more from above
    for group in range(groups):
        for block in range(totals.shape[1]):
            scaled[:] = 0.0
            total = totals[group, block]
            outputs = min(64, own - 64 * block)
            for output in range(outputs):
                for column in range(hits.shape[1]):
                    code = column // 64 << 12 | output << 6 | column % 64
                    scaled[code] = hits[group * own + 64 * block + output, column]
            table, part = cells[group, block], shares[group, block]
            few, many = 0, size
            for code in range(size):
                scaled[code] = scaled[code] * (size / total) if total > 0.0 else 0.0
                if scaled[code] < 1.0:
                    waiting[few] = code
                    few += 1
                else:
                    many -= 1
                    waiting[many] = code
            while few > 0 and many < size:
                few -= 1
                code, other = waiting[few], waiting[many]
                share = _share(scaled[code])
                part[code] = share
                table[code] = np.uint32(np.uint64(other) | share >> (np.uint64(64) - kept) << np.uint64(code_bits))
                scaled[other] = (scaled[other] + scaled[code]) - 1.0
                if scaled[other] < 1.0:
                    many += 1
                    waiting[few] = other
                    few += 1
            # what is left fills its place but for rounding, and is its own other cell
            for left in range(few + size - many):
                code = waiting[left] if left < few else waiting[many + left - few]
                part[code] = np.uint64(0)
                table[code] = np.uint32(code)


@njit(nogil=True, cache=True, error_model="numpy")
def _share(ratio: float) -> Any:
    """A ratio below 1 in units of 2^-64, of which a double holds 53 bits."""
    return np.uint64(np.int64(ratio * 2.0**53)) << np.uint64(11)
