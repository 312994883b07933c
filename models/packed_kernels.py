"""Compiled passes over packed bits: a word holds 64 inputs, 1 for +1 and 0 for -1.

The sum of K products of +1/-1 is K minus twice the number of disagreements, which are the bits of XOR. Outputs run
innermost, so that the compiler takes many of them at a time; four rows share each word of the weights, and four words
each load of the counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Words = NDArray[np.uint64]

ROWS = 4
"""Rows that a pass over the weights serves."""

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


@njit(nogil=True, cache=True)
def _disagreements(a: Words, b: Words, c: Words, d: Words, weights: Words, counts: Words) -> None:
    """Add the disagreements of four rows with a block of binary weights to the counts.

    All indices but one are constants, so that the compiler sees that nothing overlaps.

    Args:
        a, b, c, d: ``(words,)`` rows.
        weights: ``(words * 64,)``, outputs innermost.
        counts: ``(4 * 64,)``, row by row.
    """
    words = len(a)
    k = 0
    while k + 4 <= words:
        a0, a1, a2, a3 = a[k], a[k + 1], a[k + 2], a[k + 3]
        b0, b1, b2, b3 = b[k], b[k + 1], b[k + 2], b[k + 3]
        c0, c1, c2, c3 = c[k], c[k + 1], c[k + 2], c[k + 3]
        d0, d1, d2, d3 = d[k], d[k + 1], d[k + 2], d[k + 3]
        w = weights[64 * k : 64 * k + 256]
        for o in range(64):
            v0, v1, v2, v3 = w[o], w[o + 64], w[o + 128], w[o + 192]
            counts[o] += count_ones(a0 ^ v0) + count_ones(a1 ^ v1) + count_ones(a2 ^ v2) + count_ones(a3 ^ v3)
            counts[o + 64] += count_ones(b0 ^ v0) + count_ones(b1 ^ v1) + count_ones(b2 ^ v2) + count_ones(b3 ^ v3)
            counts[o + 128] += count_ones(c0 ^ v0) + count_ones(c1 ^ v1) + count_ones(c2 ^ v2) + count_ones(c3 ^ v3)
            counts[o + 192] += count_ones(d0 ^ v0) + count_ones(d1 ^ v1) + count_ones(d2 ^ v2) + count_ones(d3 ^ v3)
        k += 4
    while k < words:
        a0, b0, c0, d0 = a[k], b[k], c[k], d[k]
        w = weights[64 * k : 64 * k + 64]
        for o in range(64):
            v0 = w[o]
            counts[o] += count_ones(a0 ^ v0)
            counts[o + 64] += count_ones(b0 ^ v0)
            counts[o + 128] += count_ones(c0 ^ v0)
            counts[o + 192] += count_ones(d0 ^ v0)
        k += 1


@njit(nogil=True, cache=True)
def _masked_disagreements(a: Words, b: Words, c: Words, d: Words, weights: Words, masks: Words, counts: Words) -> None:
    """As :func:`_disagreements`, where only the weights under a mask count."""
    words = len(a)
    k = 0
    while k + 2 <= words:
        a0, a1, b0, b1, c0, c1, d0, d1 = a[k], a[k + 1], b[k], b[k + 1], c[k], c[k + 1], d[k], d[k + 1]
        w, m = weights[64 * k : 64 * k + 128], masks[64 * k : 64 * k + 128]
        for o in range(64):
            v0, v1, n0, n1 = w[o], w[o + 64], m[o], m[o + 64]
            counts[o] += count_ones((a0 ^ v0) & n0) + count_ones((a1 ^ v1) & n1)
            counts[o + 64] += count_ones((b0 ^ v0) & n0) + count_ones((b1 ^ v1) & n1)
            counts[o + 128] += count_ones((c0 ^ v0) & n0) + count_ones((c1 ^ v1) & n1)
            counts[o + 192] += count_ones((d0 ^ v0) & n0) + count_ones((d1 ^ v1) & n1)
        k += 2
    if k < words:
        a0, b0, c0, d0 = a[k], b[k], c[k], d[k]
        w, m = weights[64 * k : 64 * k + 64], masks[64 * k : 64 * k + 64]
        for o in range(64):
            v0, n0 = w[o], m[o]
            counts[o] += count_ones((a0 ^ v0) & n0)
            counts[o + 64] += count_ones((b0 ^ v0) & n0)
            counts[o + 128] += count_ones((c0 ^ v0) & n0)
            counts[o + 192] += count_ones((d0 ^ v0) & n0)


@njit(nogil=True, cache=True, inline="always")
def _count_rows(
    rows: Words, first: int, group: int, weights: Words, masks: Words, starts: Words, kinds: Any, counts: Words
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
        if len(masks) == 0:
            _disagreements(a, b, c, d, weights, counts)
        else:
            _masked_disagreements(a, b, c, d, weights, masks, counts)


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
                _count_rows(rows, first, group, own, mask, start, kinds, counts)
                for r in range(min(ROWS, total - first)):
                    found = counts[64 * r : 64 * r + 64]
                    bits = np.uint64(0)
                    for j in range(64):
                        bits |= np.uint64(np.int64(found[j]) < 0) << np.uint64(j)
                    out[first + r, word] = bits


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
            for first in range(0, total, ROWS):
                _count_rows(rows, first, group, own, mask, start, kinds, counts)
                for r in range(min(ROWS, total - first)):
                    for j in range(min(64, outputs - 64 * block)):
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
