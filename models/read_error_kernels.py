"""Compiled passes that draw read errors and put them into counts of disagreements; layouts as in packed_kernels.

Where only signs turn and errors are rare, the hits of a chunk of rows are dealt out to its senses (see error_aliases).
Elsewhere the gaps between errors are geometric, ``floor(E / -ln(1 - p))`` of an exponential E: cells are sorted into
bins of similar rates; gaps are drawn with the largest rate of a bin, and a cell of a smaller one takes only its share
of what hits it (thinning), so that each cell errs with its own rate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from models.error_draws import DRAWN, STEP, begin, draw, fresh_draws, mixed
from models.packed_kernels import ROWS, TILE, Words, add_up, count_rows

CHUNK_ROWS = 64
"""Rows whose counts are held at a time, so that they stay next to the processor."""

RAISED = 1 << 47
"""By how much counts are raised to which errors are added: they stay above 0, and the bits above are free for marks."""

_ONE, _SIX, _TWELVE, _LOW = np.uint64(1), np.uint64(6), np.uint64(12), np.uint64(0x3F)
_MARKS, _LINE = 16, 16
"""Marks of a count; cells in a line of the cache."""

_FIRST_MARK = 48
"""The lowest of the marks; the bit below is 1 where a raised count is not below 0."""


def _not_negative(typing_context: Any, counts: Any) -> Any:
    """Which of 64 raised counts are not below 0, as the bits of a word; ``counts`` is the address of the first.

    Written as vectors for the same reason as in packed_kernels.
    """
    word, vector = ir.IntType(64), ir.VectorType(ir.IntType(64), TILE)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = word(0)
        for first in range(0, 64, TILE):
            place = builder.inttoptr(builder.add(arguments[0], word(8 * first)), vector.as_pointer())
            above = builder.shl(builder.load(place, align=8), ir.Constant(vector, [64 - _FIRST_MARK] * TILE))
            found = builder.icmp_signed("<", above, ir.Constant(vector, [0] * TILE))
            found = builder.zext(builder.bitcast(found, ir.IntType(TILE)), word)
            bits = builder.or_(bits, builder.shl(found, word(first)))
        return bits

    return types.uint64(types.intp), build


_not_negative_bits: Any = intrinsic(_not_negative)


@njit(nogil=True, cache=True, error_model="numpy")
def _deal(
    counter: Any,
    cells: NDArray[np.uint32],
    shares: Words,
    code_bits: int,
    doublings: int,
    stride: int,
    words: Words,
    entries: NDArray[np.uint32],
    hits: NDArray[np.uint32],
) -> None:
    """Draw which senses are hit. Half a word says the row, the place of the table, and which cell of it.

    Args:
        counter: of the draws.
        cells, shares, code_bits: of the block, as of :func:`models.error_aliases.deal_out`.
        doublings: there are ``2^doublings`` rows; with ``code_bits`` less than 32.
        stride: words from one row to the next.
        words, entries: room for the draws, and for what the table says.
        hits: ``(4, hits)``: the code of the cell and above it the row; the word of the inputs; the count that it
            changes; a mark.
    """
    for i in range((hits.shape[1] + 1) // 2):
        words[i] = mixed(counter + np.uint64(i) * STEP)
    halves, code, above = words.view(np.uint32), np.uint64((1 << code_bits) - 1), np.uint64(code_bits)
    high, row_bits, inside = np.uint64(32 - code_bits), np.uint64(doublings), np.uint64((1 << doublings) - 1)
    # by itself: together with what follows the compiler takes several at once, and looks each up from a register
    for i in range(hits.shape[1]):
        entries[i] = cells[np.uint64(halves[i]) >> high]
    known, step, ties = high - row_bits, np.uint64(stride), 0
    ranks = (_ONE << known) - _ONE
    for i in range(hits.shape[1]):
        half, entry = np.uint64(halves[i]), np.uint64(entries[i])
        rank, share = (half >> row_bits) & ranks, entry >> (above + row_bits)
        ties += rank == share
        _note(half >> high if rank < share else entry & code, half & inside, above, step, hits, i)
    if ties == 0:
        return
    for i in range(hits.shape[1]):
        half, entry = np.uint64(halves[i]), np.uint64(entries[i])
        rank = (half >> row_bits) & ranks
        if rank == entry >> (above + row_bits):
            whole = rank << (np.uint64(64) - known) | mixed(~(counter + np.uint64(i))) >> known
            own = whole < shares[half >> high]
            _note(half >> high if own else entry & code, half & inside, above, step, hits, i)


@njit(nogil=True, cache=True, inline="always")
def _note(cell: Any, row: Any, above: Any, step: Any, hits: NDArray[np.uint32], i: int) -> None:
    hits[0, i] = np.uint32(cell | row << above)
    hits[1, i] = np.uint32(row * step + (cell >> _TWELVE))
    hits[2, i] = np.uint32(row << _SIX | (cell >> _SIX & _LOW))
    hits[3, i] = np.uint32(_ONE << ((cell ^ cell >> _TWELVE) & np.uint64(_MARKS - 1)))


@njit(nogil=True, cache=True, error_model="numpy")
def _put(
    inputs: Words,
    weights: Words,
    code_bits: int,
    scale: int,
    hits: NDArray[np.uint32],
    counts: Words,
) -> None:
    """Add what errors change to the counts of a chunk of rows; a sense that is hit twice errs once.

    Args:
        inputs: words of the rows.
        weights: of the block.
        code_bits, hits: as of :func:`_deal`.
        scale: what is changed counts ``2^scale``.
        counts: ``(rows * 64,)``, raised; marks of what was hit are in their highest bits.
    """
    slots, sources, targets, marks = hits[0], hits[1], hits[2], hits[3]
    code = np.uint32((1 << code_bits) - 1)
    unit, twice, first_mark = _ONE << np.uint64(scale), np.uint64(scale + 1), np.uint64(_FIRST_MARK)
    for i in range(len(slots)):
        slot, mark, target = slots[i], np.uint64(marks[i]) << first_mark, targets[i]
        count = counts[target]
        # a mark is shared by many cells, and only tells where to look
        if count & mark and _found(slots, slot, i):
            continue
        differs = inputs[sources[i]] ^ weights[(slot & code) >> np.uint32(6)]
        turned = ((differs >> np.uint64(slot & np.uint32(63))) & _ONE) << twice
        counts[target] = (count | mark) + (unit - turned)


@njit(nogil=True, cache=True, error_model="numpy")
def _found(slots: NDArray[np.uint32], slot: Any, end: int) -> bool:
    found = 0
    for i in range(end):
        found += slots[i] == slot
    return found > 0


@njit(nogil=True, cache=True, error_model="numpy")
def fire_erring(
    rows: Words,
    weights: Words,
    masks: Words,
    starts: Words,
    kinds: NDArray[np.int32],
    cells: NDArray[np.uint32],
    shares: Words,
    code_bits: int,
    doublings: int,
    numbers: NDArray[np.int64],
    seed: Any,
    out: Words,
) -> Any:
    """As :func:`models.packed_kernels.fire`, with signs turned by fresh errors of every sense.

    Args:
        rows, weights, masks, kinds, out: as there.
        starts: as there, and raised by :data:`RAISED`.
        cells, shares, code_bits: as of :func:`models.error_aliases.deal_out`.
        doublings: rows go by chunks of ``2^doublings``, of which the last one may lack some.
        numbers: ``(groups, blocks, chunks, planes)`` of hits in whole chunks.
        seed: of the draws.

    Returns:
        A number of no meaning, for the sake of which the cells are fetched.
    """
    total, planes, width = rows.shape[0], rows.shape[1], rows.shape[3]
    groups, blocks = weights.shape[:2]
    chunk, most, touched = 1 << doublings, 0, np.uint32(0)
    for count in numbers.flat:
        most = max(most, int(count))
    counts = np.zeros(max(chunk, ROWS) * 64, dtype=np.uint64)
    words, entries, room = np.empty(most, dtype=np.uint64), np.empty(most, np.uint32), np.empty(4 * most, np.uint32)
    inputs, stride = rows.reshape(rows.size), planes * groups * width
    # rows that are not there are hit too, and nobody looks at what that changes
    whole = total >> doublings << doublings
    last = np.zeros(chunk * stride, dtype=np.uint64)
    last[: (total - whole) * stride] = inputs[whole * stride :]
    counter = mixed(np.uint64(seed) + STEP)
    for group in range(groups):
        for block in range(blocks):
            own, mask, start = weights[group, block], masks[group, block], starts[group, block]
            table, part = cells[group, block], shares[group, block]
            # hits are spread over all cells: fetched in one go, they are not waited for one by one
            for cell in range(0, len(table), _LINE):
                touched ^= table[cell]
            for first in range(0, total, chunk):
                held = min(chunk, total - first)
                for ahead in range(0, held, ROWS):
                    four = counts[64 * ahead : 64 * (ahead + ROWS)]
                    count_rows(rows, first + ahead, group, own, mask, start, kinds, 64, four)
                seen = inputs[first * stride :] if first < whole else last
                for plane in range(planes):
                    number = numbers[group, block, first >> doublings, plane]
                    hits = room[: 4 * number].reshape(4, number)
                    _deal(counter, table, part, code_bits, doublings, stride, words, entries, hits)
                    _put(seen[(plane * groups + group) * width :], own, code_bits, planes - 1 - plane, hits, counts)
                    counter += np.uint64(number) * STEP
                for k in range(held):
                    bits = _not_negative_bits(counts.ctypes.data + 8 * 64 * k)
                    out[first + k, group * blocks + block] = ~bits
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
        starts: ``(groups, blocks, bins + 1)`` where each bin starts among the cells.
        cells, code_bits, shares: as of :func:`models.error_cells.list_cells`.
        gap: ``(bins,)`` mean gap, ``-1 / ln(1 - rate)``, of the largest rate of each bin; at most :data:`LONGEST_GAP`.
        seed: of the draws.
        inverting: as of :func:`models.error_cells.list_cells`.
        shared: a weight errs for all rows alike, as it does that was sensed once for all of them.
        out: ``(rows, groups, outputs)``.
    """
    total, planes = rows.shape[1], rows.shape[2]
    groups, blocks, bins = weights.shape[0], weights.shape[1], len(gap)
    places, padded, ternary = len(kinds), len(beyond) > 0, masks.shape[2] > 0
    chunk = max(total, 1) if shared else CHUNK_ROWS
    wide = min(64, out.shape[2])
    counts = np.empty((chunk, wide), dtype=np.int64)
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
                    counts[:held].reshape(held, 1, wide),
                )
                for r in range(held):
                    for o in range(wide):
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
