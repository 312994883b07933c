"""Compiled passes that draw read errors and put them into counts of disagreements; layouts as in packed_kernels.

The gaps between errors are geometric, ``floor(E / -ln(1 - p))`` of an exponential E. Cells are sorted into bins of
similar rates; gaps are drawn with the largest rate of a bin, and a cell of a smaller one takes only its share of what
hits it (thinning), so that each cell errs with its own rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from models.error_cells import rank_bits
from models.error_draws import DRAWN, RANK_BITS, STEP, Draws, begin, draw, fresh_draws, mixed
from models.packed_kernels import ROWS, TILE, Words, add_up, count_rows

CHUNK_ROWS = 64
"""Rows, a power of two, whose counts are held at a time, so that they stay next to the processor."""

MOST_CHANGE = 2**15 - 1
"""Most by which errors may change a count: changes are held in 16 bits."""

_ONE, _SIX, _LOW = np.uint64(1), np.uint64(6), np.uint64(0x3F)
_RANKS = np.uint64((1 << RANK_BITS) - 1)
_LINE = 16
"""Cells in a line of the cache."""


def _negative_sum(typing_context: Any, counts: Any, changes: Any) -> Any:
    """Which of 64 sums of a count and a change are below 0, as the bits of a word; given where the first ones are.

    Written as vectors for the same reason as in packed_kernels.
    """
    word, half, lanes = ir.IntType(64), ir.IntType(16), ir.VectorType(ir.IntType(64), TILE)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = word(0)
        for first in range(0, 64, TILE):
            place = builder.inttoptr(builder.add(arguments[0], word(8 * first)), lanes.as_pointer())
            own = builder.inttoptr(builder.add(arguments[1], word(2 * first)), ir.VectorType(half, TILE).as_pointer())
            change = builder.sext(builder.load(own, align=2), lanes)
            total = builder.add(builder.load(place, align=8), change)
            below = builder.icmp_signed("<", total, ir.Constant(lanes, [0] * TILE))
            found = builder.zext(builder.bitcast(below, ir.IntType(TILE)), word)
            bits = builder.or_(bits, builder.shl(found, word(first)))
        return bits

    return types.uint64(types.intp, types.intp), build


def _prefetch_line(typing_context: Any, address: Any) -> Any:
    """Have the line of the cache fetched that an address is in."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flag, place = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [place, flag, flag, flag])
        fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")  # type: ignore[no-untyped-call]
        builder.call(fetch, [builder.inttoptr(arguments[0], place), flag(0), flag(0), flag(1)])
        return context.get_dummy_value()

    return types.void(types.intp), build


_prefetch: Any = intrinsic(_prefetch_line)
_negative_sums: Any = intrinsic(_negative_sum)


@njit(nogil=True, cache=True, error_model="numpy")
def _change(
    inputs: Words,
    stride: int,
    weights: Words,
    start: NDArray[np.int64],
    cells: NDArray[np.uint32],
    code_bits: int,
    shares: Words,
    gap: NDArray[np.float64],
    rows: int,
    doublings: int,
    scale: int,
    drawn: Draws,
    ahead: NDArray[np.int64],
    changes: NDArray[np.int16],
) -> None:
    """Add what errors change in the counts of a chunk of ``2^doublings`` rows, of which only the first ones are there.

    Where the errors are is drawn first, and their cells are fetched meanwhile: a few hundred of them are then on their
    way at once. Most lines of the list are looked at once per chunk, and should not drive the weights out of the cache.

    Args:
        inputs: words of the first row and all that follow.
        stride: words from one row to the next.
        weights: of the block.
        start: ``(bins + 1,)``.
        rows: that are there.
        scale: what is changed counts ``2^scale``.
        drawn: as of :func:`fresh_draws`.
        ahead: ``(bins,)`` senses until the next error of each bin; moved on.
        changes: ``(rows * 64,)``.
    """
    exponentials, words, hits, state = drawn
    counter, used, spare = state
    doubled, kept = np.uint64(doublings), rank_bits(code_bits)
    fresh = used
    for place in range(len(gap)):
        # one cell after another, each for all rows of the chunk
        mean, at, end = gap[place], ahead[place] + (start[place] << doublings), start[place + 1] << doublings
        while at < end:
            hits[used] = np.uint64(at)
            _prefetch(cells.ctypes.data + ((at >> doublings) << 2))
            at += 1 + np.int64(exponentials[used] * mean)
            used += _ONE
            if used == DRAWN:
                spare = _settle(
                    inputs,
                    stride,
                    weights,
                    cells,
                    code_bits,
                    shares,
                    rows,
                    doubled,
                    scale,
                    kept,
                    words,
                    hits,
                    fresh,
                    used,
                    spare,
                    changes,
                )
                counter, used, fresh = draw(counter, exponentials, words), np.uint64(0), np.uint64(0)
        ahead[place] = at - end
    spare = _settle(
        inputs,
        stride,
        weights,
        cells,
        code_bits,
        shares,
        rows,
        doubled,
        scale,
        kept,
        words,
        hits,
        fresh,
        used,
        spare,
        changes,
    )
    state[0], state[1], state[2] = counter, used, spare


@njit(nogil=True, cache=True, error_model="numpy")
def _settle(
    inputs: Words,
    stride: int,
    weights: Words,
    cells: NDArray[np.uint32],
    code_bits: int,
    shares: Words,
    rows: int,
    doubled: Any,
    scale: int,
    kept: int,
    words: Words,
    hits: Words,
    first: Any,
    end: Any,
    spare: Any,
    changes: NDArray[np.int16],
) -> Any:
    """Put hits into the changes; returns the counter of ties after it.

    Args:
        inputs, stride, weights, cells, code_bits, shares, rows, doubled, scale, changes: as of :func:`_change`.
        kept: bits of a share that are beside its code.
        words: of the draws of the hits, whose lowest bits say which are in vain.
        hits: cells times the rows of a chunk, plus the row.
        first, end: of the hits and words that are meant.
        spare: counter of ties.
    """
    inside, last = (_ONE << doubled) - _ONE, np.uint64(rows - 1)
    code, above, step = (_ONE << np.uint64(code_bits)) - _ONE, np.uint64(code_bits), np.uint64(stride)
    unranked, unit, twice = np.uint64(RANK_BITS - kept), np.int64(1) << scale, np.uint64(scale + 1)
    for i in range(first, end):
        at, tried = hits[i], (words[i] & _RANKS) >> unranked
        cell, r = at >> doubled, at & inside
        entry = np.uint64(cells[cell])
        share, weight = entry >> above, (entry & code) >> _SIX
        hit = np.int64(tried < share)
        if tried == share:
            hit = np.int64((tried << np.uint64(64 - kept)) | (mixed(spare) >> np.uint64(kept)) <= shares[cell])
            spare += STEP
        # what the rows that are not there change, nobody looks at
        differs = ((inputs[min(r, last) * step + (weight >> _SIX)] ^ weights[weight]) >> (entry & _LOW)) & _ONE
        # shifts, and no products: of a product with a bit the compiler makes a branch, and of these half go wrong
        changes[(r << _SIX) | (weight & _LOW)] += np.int16((unit - np.int64(differs << twice)) & -hit)
    return spare


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
    counts, changes = np.empty(ROWS * 64, dtype=np.uint64), np.empty(CHUNK_ROWS * 64, dtype=np.int16)
    drawn = fresh_draws()
    ahead, doublings, touched = np.empty(bins, dtype=np.int64), 0, np.uint32(0)
    while 1 << doublings < min(total, CHUNK_ROWS):
        doublings += 1
    chunk = 1 << doublings
    inputs, stride = rows.reshape(rows.size), planes * groups * rows.shape[3]
    for group in range(groups):
        for block in range(blocks):
            own, mask, limit, start = (
                weights[group, block],
                masks[group, block],
                limits[group, block],
                starts[group, block],
            )
            begin(seed, group * blocks + block, gap, drawn, ahead)
            # errors are spread over all cells: fetched in one go, they are not waited for one by one
            for cell in range(start[0], start[bins], _LINE):
                touched ^= cells[cell]
            for first in range(0, total, chunk):
                held = min(chunk, total - first)
                changes[:] = 0
                for plane in range(planes):
                    seen = inputs[first * stride + (plane * groups + group) * rows.shape[3] :]
                    scale = planes - 1 - plane
                    _change(
                        seen,
                        stride,
                        own,
                        start,
                        cells,
                        code_bits,
                        shares,
                        gap,
                        held,
                        doublings,
                        scale,
                        drawn,
                        ahead,
                        changes,
                    )
                for ahead_of in range(0, held, ROWS):
                    count_rows(rows, first + ahead_of, group, own, mask, limit, kinds, 64, counts)
                    for k in range(min(ROWS, held - ahead_of)):
                        out[first + ahead_of + k, group * blocks + block] = _negative_sums(
                            counts.ctypes.data + 8 * 64 * k, changes.ctypes.data + 2 * 64 * (ahead_of + k)
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
    drawn = fresh_draws()
    exponentials, words, _, state = drawn
    ahead = np.empty(bins, dtype=np.int64)
    nothing, one_kind = np.zeros((1, 1, 64), dtype=np.uint64), np.zeros(1, dtype=np.int32)
    code = np.uint32((_ONE << np.uint64(code_bits)) - _ONE)
    for group in range(groups):
        for block in range(blocks):
            own, mask = weights[group, block], masks[group, block]
            start, margin, up = starts[group, block], slack[group, block], upwards[group, block]
            begin(seed, group * blocks + block, gap, drawn, ahead)
            counter, used, spare = state
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
                                spare += STEP
                                at += 1 + np.int64(exponentials[used] * gap[place])
                                used += _ONE
                                if used == DRAWN:
                                    counter, used = draw(counter, exponentials, words), np.uint64(0)
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
