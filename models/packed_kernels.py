"""Compiled passes over packed bits: a word holds 64 inputs, 1 for +1 and 0 for -1.

The sum of K products of +1/-1 is K minus twice the number of disagreements, which are the bits of XOR. Outputs run
innermost and are taken eight at a time; four rows share each word of the weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

Words = NDArray[np.uint64]

ROWS = 4
"""Rows that a pass over the weights serves."""

TILE = 8
"""Outputs whose counts are kept in registers together."""

_ONE, _WORD = np.uint64(1), np.uint64(64)


def _count_ones(typing_context: Any, word: Any) -> Any:
    """Number of ones in a word, as a word."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), build


count_ones: Any = intrinsic(_count_ones)
"""Number of ones in a word, as a word: one instruction of the processor."""


@njit(nogil=True, cache=True)
def pack_planes(values: NDArray[np.int32], top: int, planes: int, out: Words) -> None:
    """Bits of inputs ``sum 2^k s_k``, of all planes, channels innermost, the highest plane first.

    Args:
        values: ``(n, channels, positions)``, from ``-top`` to ``top`` in steps of 2.
        top: largest input.
        planes: number of planes.
        out: ``(n, positions, planes, words)``.
    """
    count, channels, positions = values.shape
    words = out.shape[3]
    for image in range(count):
        for position in range(positions):
            for plane in range(planes):
                shift = np.int32(planes - plane)  # (value + top) / 2 has bit k where value + top has bit k + 1
                for word in range(words):
                    first = 64 * word
                    bits = np.uint64(0)
                    for j in range(min(64, channels - first)):
                        raised = values[image, first + j, position] + np.int32(top)
                        bits |= np.uint64((raised >> shift) & np.int32(1)) << np.uint64(j)
                    out[image, position, plane, word] = bits


@njit(nogil=True, cache=True)
def gather(x: Words, sources: NDArray[np.int32], channels: int, groups: int, out: Words) -> None:
    """The windows of a convolution, bit after bit without gaps: tap by tap, channels innermost.

    Args:
        x: ``(n, positions, planes, words)`` of the input.
        sources: ``(places, taps)`` position that a tap sees; -1 beyond the edges, which gives zeros, that is -1.
        channels: of one group.
        groups: number of groups.
        out: ``(n, places, planes, groups, words of a window)``.
    """
    count, _, planes, _ = x.shape
    places, taps = sources.shape
    whole = channels % 64 == 0
    chunks = (channels + 63) // 64
    for image in range(count):
        for place in range(places):
            for plane in range(planes):
                for group in range(groups):
                    row = out[image, place, plane, group]
                    if whole:
                        at = 0
                        for tap in range(taps):
                            source = sources[place, tap]
                            for chunk in range(chunks):
                                word = np.uint64(0)
                                if source >= 0:
                                    word = x[image, source, plane, group * chunks + chunk]
                                row[at] = word
                                at += 1
                        continue
                    at, fill, word = 0, np.uint64(0), np.uint64(0)
                    for tap in range(taps):
                        source = sources[place, tap]
                        for chunk in range(chunks):
                            length = np.uint64(min(64, channels - 64 * chunk))
                            field = np.uint64(0)
                            if source >= 0:
                                first = group * channels + 64 * chunk
                                low, shift = first // 64, np.uint64(first % 64)
                                field = x[image, source, plane, low] >> shift
                                if shift + length > _WORD:
                                    field |= x[image, source, plane, low + 1] << (_WORD - shift)
                                if length < _WORD:
                                    field &= (_ONE << length) - _ONE
                            word |= field << fill
                            fill += length
                            if fill >= _WORD:
                                row[at] = word
                                at += 1
                                fill -= _WORD
                                # what did not fit; nothing where the word came out even
                                word = field >> (length - fill) if fill > np.uint64(0) else np.uint64(0)
                    if fill > np.uint64(0):
                        row[at] = word


def _tile(
    typing_context: Any, a: Any, b: Any, c: Any, d: Any, weights: Any, masks: Any, counts: Any, words: Any
) -> Any:
    """Add the disagreements of four rows with eight outputs to their counts, which stay in registers meanwhile.

    Written as vectors of eight words, which LLVM brings to whatever the processor has: left to itself, it keeps the
    counts in memory, and half of the time goes there.

    Args:
        typing_context: of Numba.
        a, b, c, d: addresses of the rows.
        weights, masks, counts: addresses of the first ones; masks 0 where all weights count.
        words: of a row.
    """
    word, vector = ir.IntType(64), ir.VectorType(ir.IntType(64), TILE)
    lanes, undefined = ir.VectorType(ir.IntType(32), TILE), ir.Constant(vector, ir.Undefined)
    first_lane, block_bytes = ir.Constant(lanes, [0] * TILE), 64 * 8

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, (weights, masks, counts, words) = arguments[:ROWS], arguments[ROWS:]
        kind = ir.FunctionType(vector, [vector])
        count = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, kind, f"llvm.ctpop.v{TILE}i64"
        )

        def at(address: Any, kind: Any = vector) -> Any:
            return builder.inttoptr(address, kind.as_pointer())

        def loop(masked: bool) -> None:
            places = [at(builder.add(counts, word(r * block_bytes))) for r in range(ROWS)]
            loaded = [builder.load(place, align=8) for place in places]
            sums = [cgutils.alloca_once_value(builder, value) for value in loaded]  # type: ignore[no-untyped-call]
            with cgutils.for_range(builder, words) as turn:
                ahead = builder.mul(turn.index, word(block_bytes))
                weight = builder.load(at(builder.add(weights, ahead)), align=8)
                mask = builder.load(at(builder.add(masks, ahead)), align=8) if masked else None
                for row, total in zip(rows, sums, strict=True):
                    own = builder.load(at(builder.add(row, builder.mul(turn.index, word(8))), word), align=8)
                    spread = builder.insert_element(undefined, own, ir.IntType(32)(0))
                    differ = builder.xor(weight, builder.shuffle_vector(spread, undefined, first_lane))
                    if mask is not None:
                        differ = builder.and_(differ, mask)
                    builder.store(builder.add(builder.load(total), builder.call(count, [differ])), total)
            for place, total in zip(places, sums, strict=True):
                builder.store(builder.load(total), place, align=8)

        with builder.if_else(builder.icmp_signed("==", masks, word(0))) as (plain, masked):
            with plain:
                loop(masked=False)
            with masked:
                loop(masked=True)
        return context.get_dummy_value()

    return types.void(*[types.intp] * (ROWS + 4)), build


_add_tile: Any = intrinsic(_tile)


def _negative(typing_context: Any, counts: Any) -> Any:
    """Which of 64 counts are below 0, as the bits of a word; ``counts`` is the address of the first."""
    word, vector = ir.IntType(64), ir.VectorType(ir.IntType(64), TILE)

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = word(0)
        for first in range(0, 64, TILE):
            place = builder.inttoptr(builder.add(arguments[0], word(8 * first)), vector.as_pointer())
            below = builder.icmp_signed("<", builder.load(place, align=8), ir.Constant(vector, [0] * TILE))
            found = builder.zext(builder.bitcast(below, ir.IntType(TILE)), word)
            bits = builder.or_(bits, builder.shl(found, word(first)))
        return bits

    return types.uint64(types.intp), build


_negative_bits: Any = intrinsic(_negative)


@njit(nogil=True, cache=True)
def _disagreements(
    a: Words, b: Words, c: Words, d: Words, weights: Words, masks: Words, outputs: int, counts: Words
) -> None:
    """Add the disagreements of four rows with a block of weights to the counts.

    Args:
        a, b, c, d: ``(words,)`` rows.
        weights: ``(words * 64,)``, outputs innermost.
        masks: of the same shape, the weights that count; or empty where all do.
        outputs: of the block that are wanted.
        counts: ``(4 * 64,)``, row by row.
    """
    rows = a.ctypes.data, b.ctypes.data, c.ctypes.data, d.ctypes.data
    for first in range(0, outputs, TILE):
        ahead = 8 * first
        mask = masks.ctypes.data + ahead if len(masks) > 0 else 0
        _add_tile(
            rows[0], rows[1], rows[2], rows[3], weights.ctypes.data + ahead, mask, counts.ctypes.data + ahead, len(a)
        )


@njit(nogil=True, cache=True, inline="always")
def count_rows(
    rows: Words,
    first: int,
    group: int,
    weights: Words,
    masks: Words,
    starts: Words,
    kinds: Any,
    outputs: int,
    counts: Words,
) -> None:
    """Starts plus the disagreements of four rows with a block of weights, planes weighted by powers of two.

    Args:
        rows: ``(rows, planes, groups, words)``.
        first: of the four rows; the last one is repeated where there are fewer.
        group: whose weights these are.
        weights: ``(words * 64,)``.
        masks: of the same length, or empty where all weights count.
        starts: ``(kinds * 64,)``.
        kinds: ``(places,)`` kind of each place; row r is at the place ``r % places``.
        outputs: of the block that are wanted.
        counts: ``(4 * 64,)``; overwritten.
    """
    last, planes, places = rows.shape[0] - 1, rows.shape[1], len(kinds)
    second, third, fourth = min(first + 1, last), min(first + 2, last), min(first + 3, last)
    if places == 1:
        for o in range(64):
            value = starts[o]
            counts[o] = value
            counts[o + 64] = value
            counts[o + 128] = value
            counts[o + 192] = value
    else:
        place = first % places
        for r in range(ROWS):
            start, own = starts[64 * kinds[place] : 64 * kinds[place] + 64], counts[64 * r : 64 * r + 64]
            for o in range(64):
                own[o] = start[o]
            place = place + 1 if place + 1 < places else 0
    for plane in range(planes):
        if plane > 0:
            # the start is to count once: what it becomes when it is doubled, it is less of
            place = first % places
            for r in range(ROWS):
                start, own = starts[64 * kinds[place] : 64 * kinds[place] + 64], counts[64 * r : 64 * r + 64]
                for o in range(64):
                    own[o] = (own[o] << _ONE) - start[o]
                place = place + 1 if place + 1 < places else 0
        a, b = rows[first, plane, group], rows[second, plane, group]
        c, d = rows[third, plane, group], rows[fourth, plane, group]
        _disagreements(a, b, c, d, weights, masks, outputs, counts)


@njit(nogil=True, cache=True)
def fire(rows: Words, weights: Words, masks: Words, starts: Words, kinds: NDArray[np.int32], out: Words) -> None:
    """Activations as bits: 1 where start and disagreements together are below 0, in two's complement.

    Args:
        rows: ``(rows, planes, groups, words)``.
        weights: ``(groups, blocks, words * 64)``: blocks of 64 outputs, which run innermost.
        masks: of the same shape, or of no words where all weights count.
        starts: ``(groups, blocks, kinds * 64)``: ``-1 - limit``, where ``limit`` disagreements are just allowed, and 0
            for outputs that only fill up a block.
        kinds: ``(places,)`` kind of each place; row r is at the place ``r % places``.
        out: ``(rows, words)`` of at least as many bits as there are blocks times 64, zeros.
    """
    total = rows.shape[0]
    groups, blocks = weights.shape[:2]
    counts = np.empty(ROWS * 64, dtype=np.uint64)
    for group in range(groups):
        for block in range(blocks):
            own, mask, start = weights[group, block], masks[group, block], starts[group, block]
            word = group * blocks + block
            for first in range(0, total, ROWS):
                count_rows(rows, first, group, own, mask, start, kinds, 64, counts)
                for r in range(min(ROWS, total - first)):
                    out[first + r, word] = _negative_bits(counts.ctypes.data + 64 * 8 * r)


@njit(nogil=True, cache=True)
def add_up(
    rows: Words, weights: Words, masks: Words, starts: Words, kinds: NDArray[np.int32], out: NDArray[np.int64]
) -> None:
    """Starts plus disagreements; arguments as of :func:`fire`, out ``(rows, groups, outputs of a group)``."""
    total, outputs = rows.shape[0], out.shape[2]
    groups, blocks = weights.shape[:2]
    counts = np.empty(ROWS * 64, dtype=np.uint64)
    for group in range(groups):
        for block in range(blocks):
            own, mask, start = weights[group, block], masks[group, block], starts[group, block]
            wanted = min(64, outputs - 64 * block)
            for first in range(0, total, ROWS):
                count_rows(rows, first, group, own, mask, start, kinds, wanted, counts)
                for r in range(min(ROWS, total - first)):
                    for j in range(wanted):
                        out[first + r, group, 64 * block + j] = np.int64(counts[64 * r + j])


@njit(nogil=True, cache=True)
def pool_bits(x: Words, windows: NDArray[np.int32], turned: Words, out: Words) -> None:
    """Activations of the largest sum of each window: any that fires, or all of them where the comparison is turned.

    Args:
        x: ``(n, positions, words)``.
        windows: ``(places, taps)`` positions.
        turned: ``(words,)``, 1 where the largest sum is the hardest to fire.
        out: ``(n, places, words)``.
    """
    for image in range(x.shape[0]):
        for place in range(windows.shape[0]):
            for word in range(x.shape[2]):
                turn, bits = turned[word], np.uint64(0)
                for tap in range(windows.shape[1]):
                    bits |= x[image, windows[place, tap], word] ^ turn
                out[image, place, word] = bits ^ turn
