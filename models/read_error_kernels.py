"""Compiled passes that draw read errors and put them into counts of disagreements; layouts as in packed_kernels.

The gaps between errors are geometric, ``floor(E / -ln(1 - p))`` of an exponential E. Cells are sorted into bins of
rates, one factor of two each; gaps are drawn with the largest rate of a bin, and a cell of a smaller one takes only its
share of what hits it (thinning), so that each cell errs with its own rate. Random numbers are hashes of a counter
(SplitMix64, Steele et al. 2014), drawn a few hundred at a time so that the compiler takes several at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from models.packed_kernels import ROWS, TILE, Words, add_up, count_rows

CHUNK_ROWS = 64
"""Rows, a power of two, whose counts are held at a time, so that they stay next to the processor."""

LONGEST_GAP = 2e17
"""Longest mean gap: the longest gap that can be drawn is 38 times this, and still a whole number of 63 bits."""

_DRAWN = 256
_STEP = np.uint64(0x9E3779B97F4A7C15)
_ONE, _SIX, _LOW = np.uint64(1), np.uint64(6), np.uint64(0x3F)
_RANK_BITS = 11
"""Lowest bits of a word, which its exponential leaves to chance."""
_RANKS = np.uint64((1 << _RANK_BITS) - 1)
_LINE = 16
"""Cells in a line of the cache."""
_SQRT_HALF = np.uint64(0x3FE6A09E667F3BCD)
"""Bits of the square root of one half."""


def _bits_of(typing_context: Any, number: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.uint64))

    return types.uint64(types.float64), build


def _number_of(typing_context: Any, bits: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(types.float64))

    return types.float64(types.uint64), build


def _negative_sum(typing_context: Any, counts: Any, changes: Any) -> Any:
    """Which of 64 sums of a count and a change are below 0, as the bits of a word; given where the first ones are.

    Written as vectors for the same reason as in packed_kernels.
    """
    word, half, lanes = ir.IntType(64), ir.IntType(32), ir.VectorType(ir.IntType(64), TILE)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = word(0)
        for first in range(0, 64, TILE):
            place = builder.inttoptr(builder.add(arguments[0], word(8 * first)), lanes.as_pointer())
            own = builder.inttoptr(builder.add(arguments[1], word(4 * first)), ir.VectorType(half, TILE).as_pointer())
            change = builder.sext(builder.load(own, align=4), lanes)
            total = builder.add(builder.load(place, align=8), change)
            below = builder.icmp_signed("<", total, ir.Constant(lanes, [0] * TILE))
            found = builder.zext(builder.bitcast(below, ir.IntType(TILE)), word)
            bits = builder.or_(bits, builder.shl(found, word(first)))
        return bits

    return types.uint64(types.intp, types.intp), build


_bits: Any = intrinsic(_bits_of)
_number: Any = intrinsic(_number_of)
_negative_sums: Any = intrinsic(_negative_sum)


@njit(nogil=True, cache=True, error_model="numpy")
def mixed(z: Any) -> Any:
    """A hash of a word, in which every bit depends on every bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def draw(counter: Any, exponentials: NDArray[np.float64], words: Words) -> Any:
    """Fill both with fresh draws: exponentials of mean 1 of the highest 53 bits of words; returns the counter after it.

    The lowest 11 bits of a word are not in its exponential. The logarithm is that of ``m 2^e`` with m near 1, by the
    series of the inverse hyperbolic tangent, to 1e-13.
    """
    for i in range(_DRAWN):
        z = mixed(counter + np.uint64(i) * _STEP)
        words[i] = z
        bits = _bits((np.float64(np.int64(z >> np.uint64(11))) + 0.5) * 2.0**-53)
        exponent = np.int64(bits - _SQRT_HALF) >> 52
        m = _number(bits - (np.uint64(exponent) << np.uint64(52)))
        s = (m - 1.0) / (m + 1.0)
        q = s * s
        series = 1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0 + q * (1.0 / 15.0)))
        series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * series)))
        exponentials[i] = -(np.float64(exponent) * 0.6931471805599453 + 2.0 * s * series)
    return counter + np.uint64(_DRAWN) * _STEP


@njit(nogil=True, cache=True, error_model="numpy")
def count_cells(rates: NDArray[np.float64], groups: int, lowest: int, counts: Any, largest: Any) -> None:
    """How many cells each block has in each bin, and the largest rate of each bin.

    Args:
        rates: ``(filters, columns)``.
        groups: that the filters are dealt out to.
        lowest: binary exponent of the last bin, which takes all lower rates.
        counts: ``(groups, blocks, bins)``, zeros.
        largest: ``(bins,)``, zeros.
    """
    own, bins = rates.shape[0] // groups, counts.shape[2]
    for row in range(rates.shape[0]):
        here = counts[row // own, (row % own) // 64]
        for column in range(rates.shape[1]):
            rate = rates[row, column]
            if rate > 0.0:
                place = bins - 1 - max(math.frexp(rate)[1] - lowest, 0)
                here[place] += 1
                largest[place] = max(largest[place], rate)


@njit(nogil=True, cache=True, error_model="numpy")
def list_cells(
    rates: NDArray[np.float64],
    inversion: NDArray[np.float64],
    groups: int,
    lowest: int,
    largest: NDArray[np.float64],
    at: NDArray[np.int64],
    code_bits: int,
    cells: NDArray[np.uint32],
    shares: Words,
    inverting: Words,
) -> None:
    """Write the cells bin by bin.

    Args:
        rates, groups, lowest, largest: as of :func:`count_cells`.
        inversion: ``(filters, columns)`` part of the rate that turns the sign.
        at: ``(groups, blocks, bins)`` where the next cell of each goes; moved on.
        code_bits: of a cell's code, which is the bit and the output of a weight (6 bits each), and above them its word.
        cells: codes, and above them the highest bits of the shares.
        shares: of the bin's largest rate at which cells err, in units of 2^-64, less one.
        inverting: the same of the part that turns the sign.
    """
    own, (_, blocks, bins) = rates.shape[0] // groups, at.shape
    for group in range(groups):
        for block in range(blocks):
            here, head = at[group, block], group * own + 64 * block
            # the outputs of a column follow each other, so that errors which do so change different counts
            for column in range(rates.shape[1]):
                for output in range(min(64, own - 64 * block)):
                    rate = rates[head + output, column]
                    if rate > 0.0:
                        place = bins - 1 - max(math.frexp(rate)[1] - lowest, 0)
                        cell = here[place]
                        share = _share(rate / largest[place])
                        code = np.uint64((column // 64) << 12 | output << 6 | column % 64)
                        cells[cell] = np.uint32(code | share >> np.uint64(64 - rank_bits(code_bits)) << np.uint64(code_bits))
                        shares[cell] = share
                        inverting[cell] = _share(inversion[head + output, column] / largest[place])
                        here[place] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _share(ratio: float) -> Any:
    """A ratio from 0 to 1 in units of 2^-64, less one; nothing is one unit, so that it takes one in 2^64."""
    if ratio >= 1.0:
        return np.uint64(0xFFFFFFFFFFFFFFFF)
    # a double holds 53 bits of it
    return max(np.uint64(np.int64(math.ceil(ratio * 2.0**53))) << np.uint64(11), _ONE) - _ONE


@njit(nogil=True, cache=True, inline="always")
def rank_bits(code_bits: int) -> int:
    """How many of the highest bits of a share fit beside a cell's code."""
    return min(_RANK_BITS, 32 - code_bits)


@njit(nogil=True, cache=True)
def tie(tried: Any, spare: Any, share: Any, bits: int) -> bool:
    """Whether a rank that starts with the same bits as a share is within it; its other bits are of the counter."""
    return (np.uint64(tried) << np.uint64(64 - bits)) | (mixed(spare) >> np.uint64(bits)) <= share


@njit(nogil=True, cache=True, error_model="numpy")
def fire_erring(
    rows: Words,
    weights: Words,
    masks: Words,
    limits: Words,
    kinds: NDArray[np.int32],
    starts: NDArray[np.int64],
    cells: NDArray[np.uint32],
    code_bits: int,
    shares: Words,
    gap: NDArray[np.float64],
    seed: Any,
    out: Words,
) -> Any:
    """As :func:`models.packed_kernels.fire`, with signs turned by fresh errors of every sense.

    Args:
        rows, weights, masks, limits, kinds, out: as ``rows, weights, masks, starts, kinds, out`` there.
        starts: ``(groups, blocks, bins + 1)`` where each bin starts among the cells.
        cells, code_bits, shares: as of :func:`list_cells`.
        gap: ``(bins,)`` mean gap, ``-1 / ln(1 - rate)``, of the largest rate of each bin; at most :data:`LONGEST_GAP`.
        seed: of the draws.

    Returns:
        A number of no meaning, for the sake of which the cells are fetched.
    """
    total, planes, bins = rows.shape[0], rows.shape[1], len(gap)
    groups, blocks = weights.shape[:2]
    counts, changes = np.empty(ROWS * 64, dtype=np.uint64), np.empty(CHUNK_ROWS * 64, dtype=np.int32)
    exponentials, words = np.empty(_DRAWN), np.empty(_DRAWN, dtype=np.uint64)
    ahead, chunk, doublings = np.empty(bins, dtype=np.int64), 1, np.uint64(0)
    while chunk < min(total, CHUNK_ROWS):
        chunk, doublings = 2 * chunk, doublings + _ONE
    flat, row_words, plane_words = rows.reshape(rows.size), np.uint64(rows[0].size), np.uint64(rows[0, 0].size)
    code = np.uint64((_ONE << np.uint64(code_bits)) - _ONE)
    above, unranked, touched = np.uint64(code_bits), np.uint64(_RANK_BITS - rank_bits(code_bits)), np.uint32(0)
    for group in range(groups):
        for block in range(blocks):
            own, mask, limit, start = (
                weights[group, block],
                masks[group, block],
                limits[group, block],
                starts[group, block],
            )
            # where the streams of two blocks begin is a hash, so that they are far apart
            counter = mixed(np.uint64(seed) + np.uint64(group * blocks + block + 1) * _STEP)
            spare = ~counter
            counter = draw(counter, exponentials, words)
            used = np.uint64(bins % _DRAWN)
            for place in range(bins):
                ahead[place] = np.int64(exponentials[place % _DRAWN] * gap[place])
            # errors are spread over all cells: fetched in one go, they are not waited for one by one
            for cell in range(start[0], start[bins], _LINE):
                touched ^= cells[cell]
            for first in range(0, total, chunk):
                held = min(chunk, total - first)
                last = np.uint64(held - 1)
                changes[:] = 0
                for plane in range(planes):
                    unit = np.int64(1) << (planes - 1 - plane)
                    base = np.uint64(first) * row_words + np.uint64(plane) * plane_words
                    base += np.uint64(group) * np.uint64(rows.shape[3])
                    for place in range(bins):
                        mean, at = gap[place], ahead[place] + start[place] * chunk
                        end = start[place + 1] * chunk
                        # one cell after another, each for all rows of the chunk
                        while at < end:
                            cell, r = np.uint64(at) >> doublings, np.uint64(at) & np.uint64(chunk - 1)
                            entry, tried = np.uint64(cells[cell]), (words[used] & _RANKS) >> unranked
                            at += 1 + np.int64(exponentials[used] * mean)
                            used += _ONE
                            if used == _DRAWN:
                                counter, used = draw(counter, exponentials, words), np.uint64(0)
                            share = entry >> above
                            hit = np.int64(tried < share)
                            if tried == share:
                                hit = np.int64(tie(tried, spare, shares[cell], rank_bits(code_bits)))
                                spare += _STEP
                            weight = (entry & code) >> _SIX
                            # what rows beyond the last one change, nobody looks at
                            differs = flat[base + min(r, last) * row_words + (weight >> _SIX)] ^ own[weight]
                            step = unit - (np.int64((differs >> (entry & _LOW)) & _ONE) * (2 * unit))
                            changes[(r << _SIX) | (weight & _LOW)] += np.int32(step & -hit)
                        ahead[place] = at - end
                for ahead_of in range(0, held, ROWS):
                    count_rows(rows, first + ahead_of, group, own, mask, limit, kinds, 64, counts)
                    for k in range(min(ROWS, held - ahead_of)):
                        out[first + ahead_of + k, group * blocks + block] = _negative_sums(
                            counts.ctypes.data + 8 * 64 * k, changes.ctypes.data + 4 * 64 * (ahead_of + k)
                        )
    return touched


@njit(nogil=True, cache=True, error_model="numpy")
def _half_steps(zero: bool, share: Any, inverts: Any, rank: Any, differs: Any) -> Any:
    """By how many halves of a disagreement an error changes the count, 0 where the cell is spared.

    Args:
        zero: the weight is 0; then ``differs`` is the sign that it reads as.
        share, inverts: of the ranks at which it errs, and at which its sign turns.
        rank: drawn.
        differs: the product is -1.
    """
    if rank > share:
        return np.int64(0)
    step = np.int64(1) - np.int64(2) * np.int64(differs)
    return step * np.int64(2) if rank <= inverts and not zero else step


@njit(nogil=True, cache=True, error_model="numpy")
def sense(
    rows: Words,
    weights: Words,
    masks: Words,
    slack: NDArray[np.int64],
    upwards: NDArray[np.int64],
    kinds: NDArray[np.int32],
    beyond: Words,
    twice: Words,
    starts: NDArray[np.int64],
    cells: NDArray[np.uint32],
    code_bits: int,
    shares: Words,
    inverting: Words,
    gap: NDArray[np.float64],
    shared: bool,
    seed: Any,
    out: NDArray[np.int64],
) -> None:
    """Sums less thresholds, with errors of every kind wherever a sense errs.

    Counts are held in quarters of a disagreement: an error may be a half, and a presentation may count half.

    Args:
        rows: ``(groups, rows, planes, words)``.
        weights, masks, kinds: as of :func:`models.packed_kernels.fire`.
        slack: ``(groups, blocks, kinds * 64)``: by how much the sum without a disagreement exceeds the threshold.
        upwards: ``(groups, blocks, 64)`` 1 where a half is rounded down in the sum, 0 where the sum is turned.
        beyond: ``(kinds, words)`` columns that see a zero, or ``(0, 0)`` where none does.
        twice: ``(kinds, words)`` columns presented twice, because one beside them sees a zero.
        starts, cells, code_bits, shares, gap, seed: as of :func:`fire_erring`.
        inverting: as of :func:`list_cells`.
        shared: a weight errs for all rows alike, as it does that was sensed once for all of them.
        out: ``(rows, groups, outputs)``.
    """
    total, planes = rows.shape[1], rows.shape[2]
    groups, blocks, bins = weights.shape[0], weights.shape[1], len(gap)
    places, padded, ternary = len(kinds), len(beyond) > 0, masks.shape[2] > 0
    chunk = max(total, 1) if shared else CHUNK_ROWS
    counts = np.empty((chunk, 64), dtype=np.int64)
    exponentials, words = np.empty(_DRAWN), np.empty(_DRAWN, dtype=np.uint64)
    ahead = np.empty(bins, dtype=np.int64)
    nothing, one_kind = np.zeros((1, 1, 64), dtype=np.uint64), np.zeros(1, dtype=np.int32)
    code = np.uint32((_ONE << np.uint64(code_bits)) - _ONE)
    for group in range(groups):
        for block in range(blocks):
            own, mask = weights[group, block], masks[group, block]
            start, margin, up = starts[group, block], slack[group, block], upwards[group, block]
            counter = mixed(np.uint64(seed) + np.uint64(group * blocks + block + 1) * _STEP)
            spare = ~counter
            counter = draw(counter, exponentials, words)
            used = bins % _DRAWN
            for place in range(bins):
                ahead[place] = np.int64(exponentials[place % _DRAWN] * gap[place])
            for first in range(0, total, chunk):
                held = min(chunk, total - first)
                add_up(
                    rows[group, first : first + held].reshape(held, planes, 1, rows.shape[3]),
                    own.reshape(1, 1, len(own)),
                    mask.reshape(1, 1, len(mask)),
                    nothing,
                    one_kind,
                    counts[:held].reshape(held, 1, 64),
                )
                for r in range(held):
                    for o in range(64):
                        counts[r, o] *= 4
                # what is shared is drawn once, and then put into all rows
                for r in range(1 if shared else held):
                    kind = kinds[(first + r) % places]
                    shows = 1
                    if padded and not shared:
                        for marks in twice[kind]:
                            if marks:
                                shows = 2
                    for sensed in range(shows if shared else shows * planes):
                        plane, show = sensed // shows, sensed % shows
                        for place in range(bins):
                            low, length, at = start[place], start[place + 1] - start[place], ahead[place]
                            while at < length:
                                cell, rank = low + at, mixed(spare)
                                spare += _STEP
                                at += 1 + np.int64(exponentials[used] * gap[place])
                                used += 1
                                if used == _DRAWN:
                                    counter, used = draw(counter, exponentials, words), 0
                                entry = cells[cell] & code
                                word, output = np.int64(entry) >> 12, (np.int64(entry) >> 6) & 63
                                shift = np.uint64(entry & np.uint32(63))
                                weight = own[64 * word + output] >> shift
                                zero = ternary and not (mask[64 * word + output] >> shift) & _ONE
                                if zero:
                                    # ranks that are below the share leave their lowest bits to chance
                                    weight = rank
                                share, inverts = shares[cell], inverting[cell]
                                if shared:
                                    for each in range(held):
                                        if padded and (beyond[kinds[each % places], word] >> shift) & _ONE:
                                            continue
                                        for part in range(planes):
                                            differs = ((rows[group, each, part, word] >> shift) ^ weight) & _ONE
                                            step = _half_steps(zero, share, inverts, rank, differs)
                                            counts[each, output] += (2 * step) << (planes - 1 - part)
                                    continue
                                differs = ((rows[group, first + r, plane, word] >> shift) ^ weight) & _ONE
                                counted = np.int64(2)
                                if padded:
                                    again = np.int64((twice[kind, word] >> shift) & _ONE)
                                    counted = counted - again if show == 0 or again else np.int64(0)
                                    # zeros are -1 in the rows; the first time they show as +1
                                    if show == 0:
                                        differs ^= (beyond[kind, word] >> shift) & _ONE
                                step = _half_steps(zero, share, inverts, rank, differs)
                                counts[r, output] += (counted * step) << (planes - 1 - plane)
                            ahead[place] = at - length
                for r in range(held):
                    kind = kinds[(first + r) % places]
                    limits, found = margin[64 * kind : 64 * kind + 64], counts[r]
                    for o in range(min(64, out.shape[2] - 64 * block)):
                        out[first + r, group, 64 * block + o] = limits[o] - ((found[o] + up[o]) >> 1)
