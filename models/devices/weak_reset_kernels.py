"""Compiled passes over pairs of devices under weak RESET: the state that they keep, and how pulses move it.

Pairs are taken in blocks that stay in the processor's cache. Where many pairs of a block are pulsed, all of them are
worked on, stage by stage, in loops that the compiler can turn into vectors: what a pair without pulses gets is no
change. Where few are, these are visited one by one. Both ways draw the same numbers, which belong to the pair.

What makes these loops vectors of 32 bits, 16 at a time, and is easily lost: whole numbers are brought back to 32 bits
after every operation, as numba would go on in 64; both devices of a pair are read before one is chosen; and a loop
writes few enough arrays that the compiler can check that they do not overlap.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Singles = NDArray[np.float32]

BLOCK = 65536
"""Pairs that are worked on together."""

PINK_STEPS = 4096.0
RTN_STEPS = np.float32(254.0)
_BYTES_MEAN = np.float32(4 * 127.5)
_BYTES_SD = math.sqrt(4 * (256**2 - 1) / 12)
_SPREAD = np.float32(PINK_STEPS / _BYTES_SD)
ZERO, ONE = np.float32(0.0), np.float32(1.0)
_NONE, _FIRST = np.int32(0), np.int32(1)

_ROUND = np.float32(65536.5)
"""Added before the digits are cut off: a multiple of 2^16, which a number of 16 bits forgets, and a half."""

DENSE = 7
"""All pairs of a block are worked on where at least one in so many is pulsed."""

BITS = 4
"""Numbers of pulses of so many bits are put together from powers of two; larger ones are looked up."""

# Keys are those of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a mix of a start plus n times the golden ratio.
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_27, _30, _31, _32 = (np.uint64(bits) for bits in (27, 30, 31, 32))
# A number's own 32 bits are those of its place by lowbias32 (C. Wellons, "Prospecting for hash functions", 2018).
# Places are spread by the golden ratio first: numbers of neighbours would be correlated by up to 0.005 otherwise. Half
# of the key is added before the first round and half between the rounds, so that keys give no shifted copies.
_SPREAD_PLACES = np.uint32(0x9E3779B9)
_ROUND_1, _ROUND_2 = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
_8, _15, _16 = (np.uint32(bits) for bits in (8, 15, 16))
_EVEN_BYTES, _LOW_16, _LOW_8 = (np.uint32(x) for x in (0x00FF00FF, 0xFFFF, 0xFF))


class Pairs(NamedTuple):
    """State and parameters of all pairs; ``(2, n)``, but ``pink`` ``(processes, 2, n)``, ``scales`` ``(processes,)``.

    Attributes:
        base: ln R0 + c1.
        ceiling: largest RTN value, per step of ``rtn``.
        scales: of each process of the 1/f noise in ln R, per step of ``pink``.
    """

    stress: Singles
    rtn: NDArray[np.uint8]
    pink: NDArray[np.int16]
    slope1: Singles
    knee: Singles
    base: Singles
    slope2: Singles
    ceiling: Singles
    scales: Singles


class Tables(NamedTuple):
    """What a number of pulses does, up to the most of a call.

    Attributes:
        left: what is left of a value of each process of the 1/f noise, ``(processes, most + 1)``.
        left_powers: the same for 1, 2, 4 and 8 pulses, ``(processes, 4)``.
        lost: share of the distance of RTN from where it settles that is gone, ``(most + 1,)``.
        lost_powers: the same for 1, 2, 4 and 8 pulses, ``(4,)``.
        stress: reference pulses of one pulse, ``(1,)``.
        settled: probability that RTN is high after very many pulses, ``(1,)``.
    """

    left: Singles
    left_powers: Singles
    lost: Singles
    lost_powers: Singles
    stress: Singles
    settled: Singles


@njit(inline="always")
def _key(key: Any, number: Any) -> Any:
    """Two words that belong to a stream of random numbers."""
    x = key + np.uint64(number + 1) * _GOLDEN
    x = (x ^ (x >> _30)) * _MIX_1
    x = (x ^ (x >> _27)) * _MIX_2
    x = x ^ (x >> _31)
    return np.uint32(x), np.uint32(x >> _32)


@njit(inline="always")
def _place(number: Any) -> Any:
    """The place of a pair, spread. From one pair to the next it grows by :data:`_SPREAD_PLACES`: cheaper in a loop."""
    return np.uint32(np.uint32(number) * _SPREAD_PLACES)


@njit(inline="always")
def _word(place: Any, one: Any, other: Any) -> Any:
    """The random 32 bits of a pair in the stream of a key."""
    x = np.uint32(place + one)
    x = np.uint32((x ^ (x >> _16)) * _ROUND_1)
    x = np.uint32((x ^ (x >> _15) ^ other) * _ROUND_2)
    return np.uint32(x ^ (x >> _16))


@njit(inline="always")
def _single(word: Any) -> Any:
    """A whole number of at most 31 bits."""
    return np.float32(np.int32(word))


@njit(inline="always")
def _stepped(old: Any, left: Any, word: Any) -> Any:
    """The next value of a process of the 1/f noise: what is left of it, and a sum of four bytes, centred."""
    sums = np.uint32(np.uint32(word & _EVEN_BYTES) + np.uint32((word >> _8) & _EVEN_BYTES))
    deviate = _single(np.uint32(np.uint32(sums + np.uint32(sums >> _16)) & _LOW_16)) - _BYTES_MEAN
    fresh = _SPREAD * np.sqrt(ONE - left * left) * deviate
    return np.int16(np.int32(left * old + fresh + _ROUND))


@njit(inline="always")
def _switched(old: Any, share: Any, settled: Any, high: Any, low: Any) -> Any:
    """The next RTN value. Without branches, which a processor could only guess: it is reckoned either way."""
    rank = _single(np.uint32(high >> _8)) * np.float32(2.0**-24)
    dither = _single(np.uint32(high & _LOW_8)) * np.float32(2.0**-8)
    product = _single(np.uint32(low & _LOW_16)) * _single(np.uint32(low >> _16)) * np.float32(2.0**-32)
    level = np.int32(ONE + RTN_STEPS * product + dither)
    was_high = ONE if old > 0 else ZERO
    return np.uint8(level if rank < was_high + (settled - was_high) * share else _NONE)


@njit(fastmath=True, cache=True)
def _pulsed(counts: Any) -> Any:
    """How many pairs are pulsed."""
    total = _NONE
    for j in range(len(counts)):
        total = np.int32(total + np.int32(counts[j] != 0))
    return total


@njit(inline="always")
def _left(count: Any, powers: Any) -> Any:
    """What so many pulses leave, from what powers of two leave."""
    number = np.int32(abs(count))
    left = powers[0] if number & np.int32(1) else ONE
    left = left * powers[1] if number & np.int32(2) else left
    left = left * powers[2] if number & np.int32(4) else left
    return left * powers[3] if number & np.int32(8) else left


@njit(inline="always")
def _lost(count: Any, powers: Any) -> Any:
    """Share that so many pulses take away, from those of powers of two."""
    number = np.int32(abs(count))
    # exact where nearly nothing is lost
    share = powers[0] if number & np.int32(1) else ZERO
    share = share * (ONE - powers[1]) + powers[1] if number & np.int32(2) else share
    share = share * (ONE - powers[2]) + powers[2] if number & np.int32(4) else share
    return share * (ONE - powers[3]) + powers[3] if number & np.int32(8) else share


@njit(fastmath=True, cache=True)
def _look_up(counts: Any, table: Singles, found: Singles) -> None:
    """Either for any number of pulses, in a loop of its own: no vectors can be made of it."""
    for j in range(len(counts)):
        found[j] = table[abs(counts[j])]


@njit(fastmath=True, cache=True)
def _compare_bases(left: Singles, right: Singles, difference: Singles) -> None:
    for j in range(len(difference)):
        difference[j] = left[j] - right[j]


@njit(fastmath=True, cache=True)
def _stress(counts: Any, each: Any, left: Singles, right: Singles) -> None:
    for j in range(len(counts)):
        count = counts[j]
        left[j] += each * np.float32(max(count, _NONE))
        right[j] += each * np.float32(max(np.int32(-count), _NONE))


@njit(fastmath=True, cache=True)
def _drift(sign: Any, stress: Singles, slope1: Any, knee: Any, slope2: Any, difference: Singles) -> None:
    """Two straight lines that meet at the knee."""
    for j in range(len(difference)):
        t, k = stress[j], knee[j]
        difference[j] += sign * (slope1[j] * min(t, k) + slope2[j] * max(t - k, ZERO))


@njit(inline="always")
def _wander(
    j: Any, turned: Any, remains: Any, word: Any, scale: Any, left: Any, right: Any, difference: Singles
) -> None:
    """A process of the 1/f noise: its next value in the device that is pulsed."""
    bl, blb = left[j], right[j]
    value = _stepped(np.float32(blb if turned else bl), remains, word)
    bl, blb = (bl, value) if turned else (value, blb)
    left[j], right[j] = bl, blb
    difference[j] += scale * (np.float32(bl) - np.float32(blb))


@njit(fastmath=True, cache=True)
def _wander_few(
    first: Any, key: Any, scale: Any, counts: Any, powers: Singles, left: Any, right: Any, difference: Singles
) -> None:
    one, other = key
    remains = powers[0], powers[1], powers[2], powers[3]
    place = _place(first)
    for j in range(len(counts)):
        count, word = counts[j], _word(place, one, other)
        place = np.uint32(place + _SPREAD_PLACES)
        _wander(j, count < _NONE, _left(count, remains), word, scale, left, right, difference)


@njit(fastmath=True, cache=True)
def _wander_many(
    first: Any, key: Any, scale: Any, counts: Any, remains: Singles, left: Any, right: Any, difference: Singles
) -> None:
    one, other = key
    place = _place(first)
    for j in range(len(counts)):
        count, word = counts[j], _word(place, one, other)
        place = np.uint32(place + _SPREAD_PLACES)
        _wander(j, count < _NONE, remains[j], word, scale, left, right, difference)


@njit(inline="always")
def _switch(j: Any, count: Any, share: Any, settled: Any, high: Any, low: Any, left: Any, right: Any) -> None:
    """The next RTN value in the device that is pulsed."""
    bl, blb, turned = left[j], right[j], count < _NONE
    old = blb if turned else bl
    drawn = _switched(old, share, settled, high, low)
    value = drawn if count != _NONE else old
    left[j] = bl if turned else value
    right[j] = value if turned else blb


@njit(fastmath=True, cache=True)
def _switch_few(
    first: Any, high: Any, low: Any, settled: Any, counts: Any, powers: Singles, left: Any, right: Any
) -> None:
    shares = powers[0], powers[1], powers[2], powers[3]
    place = _place(first)
    for j in range(len(counts)):
        count, one, other = counts[j], _word(place, high[0], high[1]), _word(place, low[0], low[1])
        place = np.uint32(place + _SPREAD_PLACES)
        _switch(j, count, _lost(count, shares), settled, one, other, left, right)


@njit(fastmath=True, cache=True)
def _switch_many(
    first: Any, high: Any, low: Any, settled: Any, counts: Any, lost: Singles, left: Any, right: Any
) -> None:
    place = _place(first)
    for j in range(len(counts)):
        count, one, other = counts[j], _word(place, high[0], high[1]), _word(place, low[0], low[1])
        place = np.uint32(place + _SPREAD_PLACES)
        _switch(j, count, lost[j], settled, one, other, left, right)


@njit(fastmath=True, cache=True)
def _add_rtn(ceiling_bl: Singles, ceiling_blb: Singles, left: Any, right: Any, difference: Singles) -> None:
    for j in range(len(difference)):
        bl, blb = max(np.float32(left[j]), ONE) - ONE, max(np.float32(right[j]), ONE) - ONE
        difference[j] += ceiling_bl[j] * bl - ceiling_blb[j] * blb


@njit(fastmath=True, cache=True)
def _weigh(difference: Singles, weights: Any) -> None:
    for j in range(len(weights)):
        weights[j] = np.int8(1) if difference[j] > ZERO else np.int8(-1)


@cache
def kernels(processes: int) -> tuple[Any, Any, Any]:
    """Compiled functions for a number of processes, which the compiler must know to unroll its loops."""
    compiled = njit(fastmath=True)

    def log_resistance(at: Pairs, device: int, i: int) -> Any:
        t, knee = at.stress[device, i], at.knee[device, i]
        # two straight lines that meet at the knee
        mean = at.slope1[device, i] * min(t, knee) + at.slope2[device, i] * max(t - knee, ZERO)
        value = at.base[device, i] + mean + at.ceiling[device, i] * (max(np.float32(at.rtn[device, i]), ONE) - ONE)
        for k in range(processes):
            value += at.scales[k] * np.float32(at.pink[k, device, i])
        return value

    evaluate_one = njit(fastmath=True, inline="always")(log_resistance)

    @compiled
    def pulse_some(first: int, last: int, pulses: Any, key: np.uint64, table: Tables, at: Pairs, weights: Any) -> None:
        for i in range(first, last):
            count = pulses[i]
            if count == 0:
                continue
            device, place = 0 if count > 0 else 1, _place(i)
            count = np.int32(abs(count))
            at.stress[device, i] += table.stress[0] * np.float32(count)
            for k in range(processes):
                one, other = _key(key, k)
                old, left = np.float32(at.pink[k, device, i]), table.left[k, count]
                at.pink[k, device, i] = _stepped(old, left, _word(place, one, other))
            one, other = _key(key, processes)
            high = _word(place, one, other)
            one, other = _key(key, processes + 1)
            low = _word(place, one, other)
            share = table.lost[count]
            at.rtn[device, i] = _switched(at.rtn[device, i], share, table.settled[0], high, low)
            weights[i] = np.int8(1) if evaluate_one(at, 0, i) > evaluate_one(at, 1, i) else np.int8(-1)

    @compiled
    def pulse_all(
        first: int, last: int, pulses: Any, key: np.uint64, table: Tables, at: Pairs, weights: Any, space: Any
    ) -> None:
        counts, part, start = pulses[first:last], slice(first, last), np.uint32(first)
        found, difference = space[0, : last - first], space[1, : last - first]
        few = len(table.lost) <= 1 << BITS
        _compare_bases(at.base[0, part], at.base[1, part], difference)
        _stress(counts, table.stress[0], at.stress[0, part], at.stress[1, part])
        for device in range(2):
            sign, slope1, slope2 = np.float32(1 - 2 * device), at.slope1[device, part], at.slope2[device, part]
            _drift(sign, at.stress[device, part], slope1, at.knee[device, part], slope2, difference)
        for k in range(processes):
            stream, scale, bl, blb = _key(key, k), at.scales[k], at.pink[k, 0, part], at.pink[k, 1, part]
            if few:
                _wander_few(start, stream, scale, counts, table.left_powers[k], bl, blb, difference)
            else:
                _look_up(counts, table.left[k], found)
                _wander_many(start, stream, scale, counts, found, bl, blb, difference)
        high, low, rtn_bl, rtn_blb = _key(key, processes), _key(key, processes + 1), at.rtn[0, part], at.rtn[1, part]
        if few:
            _switch_few(start, high, low, table.settled[0], counts, table.lost_powers, rtn_bl, rtn_blb)
        else:
            _look_up(counts, table.lost, found)
            _switch_many(start, high, low, table.settled[0], counts, found, rtn_bl, rtn_blb)
        _add_rtn(at.ceiling[0, part], at.ceiling[1, part], rtn_bl, rtn_blb, difference)
        _weigh(difference, weights[part])

    def pulse(pulses: NDArray[np.int32], key: np.uint64, table: Tables, at: Pairs, weights: NDArray[np.int8]) -> None:
        space = np.empty((2, min(BLOCK, len(pulses))), np.float32)
        for first in range(0, len(pulses), BLOCK):
            last = min(first + BLOCK, len(pulses))
            # where the two ways take about the same time
            if DENSE * _pulsed(pulses[first:last]) < last - first:
                pulse_some(first, last, pulses, key, table, at, weights)
            else:
                pulse_all(first, last, pulses, key, table, at, weights, space)

    def evaluate(at: Pairs, out: Singles) -> None:
        for device in range(2):
            for i in range(out.shape[1]):
                out[device, i] = evaluate_one(at, device, i)

    def weigh(at: Pairs, weights: NDArray[np.int8]) -> None:
        for i in range(len(weights)):
            weights[i] = np.int8(1) if evaluate_one(at, 0, i) > evaluate_one(at, 1, i) else np.int8(-1)

    return compiled(pulse), compiled(evaluate), compiled(weigh)
