"""Compiled passes over pairs of devices under weak RESET: the state that they keep, and how pulses move it.

Pairs are taken in blocks that stay in the processor's cache. Where many pairs of a block are pulsed, all of them are
worked on, stage by stage, in loops that the compiler can turn into vectors: what a pair without pulses gets is no
change. Where few are, these are visited one by one. Both ways draw the same numbers, which belong to the pair.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Singles = NDArray[np.float32]

BLOCK = 1024
"""Pairs that are worked on together."""

PINK_STEPS = 4096.0
RTN_STEPS = np.float32(254.0)
_BYTES_MEAN = np.float32(4 * 127.5)
BYTES_SD = math.sqrt(4 * (256**2 - 1) / 12)
ZERO, ONE = np.float32(0.0), np.float32(1.0)

DENSE = 3
"""All pairs of a block are worked on where at least one in so many is pulsed."""

# SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the n-th number is a mix of the key plus n times the golden ratio.
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_EVEN_BYTES, _LOW_16, _LOW_8 = (np.uint64(x) for x in (0x00FF00FF00FF00FF, 0xFFFF, 0xFF))
_8, _16, _27, _30, _31, _32, _40 = (np.uint64(bits) for bits in (8, 16, 27, 30, 31, 32, 40))


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
    """What a number of pulses does, up to the most of a call; ``(most + 1,)``, the first two ``(processes, most + 1)``.

    Attributes:
        kept, fresh: share of a value of the 1/f noise that is left, and weight of the noise that is new.
        rises, stays: probability that RTN is high in the end, from low and from high.
        stress: reference pulses.
        gone: share of a value that a power of two of pulses takes away, ``(processes + 1, bits)``, bits a multiple of
            4; the last row is that of RTN.
        settled: probability that RTN is high after very many pulses, ``(1,)``.
    """

    kept: Singles
    fresh: Singles
    rises: Singles
    stays: Singles
    stress: Singles
    gone: Singles
    settled: Singles


def _mixed(x: np.uint64) -> np.uint64:
    """The random 64 bits that belong to a counter."""
    x = (x ^ (x >> _30)) * _MIX_1
    x = (x ^ (x >> _27)) * _MIX_2
    return x ^ (x >> _31)


def _single(bits: np.uint64) -> np.float32:
    """A whole number of at most 31 bits."""
    return np.float32(np.int32(bits))


_mix, _whole = njit(inline="always")(_mixed), njit(inline="always")(_single)


@njit(fastmath=True, cache=True)
def _draw(start: np.uint64, step: np.uint64, bits: Any) -> None:
    """Random words of neighbouring pairs."""
    for j in range(len(bits)):
        bits[j] = _mix(start + np.uint64(j) * step)


@njit(fastmath=True, cache=True)
def _deviates(bits: Any, low: Singles, high: Singles) -> None:
    """Sums of the four lower and of the four higher bytes, centred."""
    for j in range(len(bits)):
        pairs = (bits[j] & _EVEN_BYTES) + ((bits[j] >> _8) & _EVEN_BYTES)
        sums = pairs + (pairs >> _16)
        low[j] = _whole(sums & _LOW_16) - _BYTES_MEAN
        high[j] = _whole((sums >> _32) & _LOW_16) - _BYTES_MEAN


@njit(fastmath=True, cache=True)
def _sizes(counts: Any, numbers: Any) -> None:
    for j in range(len(counts)):
        numbers[j] = abs(counts[j])


@njit(fastmath=True, cache=True)
def _forget(numbers: Any, masks: Any, gone: Any, lost: Singles) -> None:
    """What four bits of the numbers of pulses add to the share that is lost: exact where nearly nothing is."""
    mask_0, mask_1, mask_2, mask_3 = masks
    gone_0, gone_1, gone_2, gone_3 = gone
    for j in range(len(lost)):
        number, share = numbers[j], lost[j]
        share += (gone_0 if (number & mask_0) != 0 else ZERO) * (ONE - share)
        share += (gone_1 if (number & mask_1) != 0 else ZERO) * (ONE - share)
        share += (gone_2 if (number & mask_2) != 0 else ZERO) * (ONE - share)
        share += (gone_3 if (number & mask_3) != 0 else ZERO) * (ONE - share)
        lost[j] = share


@njit(fastmath=True, cache=True)
def _wander(counts: Any, deviates: Singles, lost: Singles, left: Any, right: Any, values: Any) -> None:
    """The next value of a process of the 1/f noise in the device that is pulsed."""
    spread, two = np.float32(PINK_STEPS / BYTES_SD), np.float32(2.0)
    for j in range(len(counts)):
        old, share = np.float32(right[j] if counts[j] < 0 else left[j]), lost[j]
        fresh = spread * np.sqrt(share * (two - share)) * deviates[j]
        values[j] = np.int16(np.int32(np.rint(old - share * old + fresh)))


@njit(fastmath=True, cache=True)
def _switch(counts: Any, words: Any, lost: Singles, settled: Any, left: Any, right: Any, values: Any) -> None:
    """The next RTN value in the device that is pulsed."""
    for j in range(len(counts)):
        low, high = words[2 * j], words[2 * j + 1]
        rank = np.float32(np.int32(high >> np.uint32(8))) * np.float32(2.0**-24)
        first, second = np.float32(np.int32(low & np.uint32(0xFFFF))), np.float32(np.int32(low >> np.uint32(16)))
        dither = np.float32(np.int32(high & np.uint32(0xFF))) * np.float32(2.0**-8)
        level = np.int32(ONE + RTN_STEPS * (first * second * np.float32(2.0**-32)) + dither)
        old = np.int32(right[j] if counts[j] < 0 else left[j])
        was_high = ONE if old > 0 else ZERO
        value = level if rank < was_high + (settled - was_high) * lost[j] else np.int32(0)
        values[j] = np.uint8(value if counts[j] != 0 else old)


@njit(fastmath=True, cache=True)
def _place(counts: Any, values: Any, left: Any, right: Any) -> None:
    """Put the values into the devices that they belong to."""
    for j in range(len(counts)):
        value, turned = values[j], counts[j] < 0
        left[j] = left[j] if turned else value
        right[j] = value if turned else right[j]


@njit(fastmath=True, cache=True)
def _add_pink(scale: Any, pink: Any, log: Singles) -> None:
    for j in range(len(log)):
        log[j] += scale * np.float32(pink[j])


@njit(fastmath=True, cache=True)
def _add_rtn(ceiling: Singles, rtn: Any, log: Singles) -> None:
    for j in range(len(log)):
        log[j] += ceiling[j] * (max(np.float32(rtn[j]), ONE) - ONE)


@njit(fastmath=True, cache=True)
def _drift(
    counts: Any, side: Any, each: Any, stress: Singles, slope1: Any, knee: Any, base: Any, slope2: Any, log: Any
) -> None:
    """Add the stress of the pulses on one side; the mean of ln R is what ``log`` becomes."""
    for j in range(len(counts)):
        t = stress[j] + each * np.float32(max(counts[j] * side, 0))
        stress[j] = t
        log[j] = base[j] + slope1[j] * min(t, knee[j]) + slope2[j] * max(t - knee[j], ZERO)


@njit(fastmath=True, cache=True)
def _compare(left: Singles, right: Singles, weights: Any) -> None:
    for j in range(len(weights)):
        weights[j] = np.int8(1) if left[j] > right[j] else np.int8(-1)


@cache
def kernels(processes: int) -> tuple[Any, Any, Any]:
    """Compiled functions for a number of processes, which the compiler must know to unroll its loops."""
    numbers = np.uint64(processes // 2 + 2)
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
            device = 0 if count > 0 else 1
            count = abs(count)
            at.stress[device, i] += table.stress[count]
            counter = key + np.uint64(i) * numbers * _GOLDEN
            sums = np.uint64(0)
            for k in range(processes):
                if k % 2 == 0:
                    counter += _GOLDEN
                    bits = _mix(counter)
                    pairs = (bits & _EVEN_BYTES) + ((bits >> _8) & _EVEN_BYTES)
                    sums = pairs + (pairs >> _16)
                else:
                    sums = sums >> _32
                deviate = _whole(sums & _LOW_16) - _BYTES_MEAN
                value = table.kept[k, count] * np.float32(at.pink[k, device, i]) + table.fresh[k, count] * deviate
                at.pink[k, device, i] = np.int16(np.rint(value))
            # Without branches, which a processor could only guess: value and probability are reckoned either way.
            bits = _mix(counter + _GOLDEN)
            rank = _whole(bits >> _40) * np.float32(2.0**-24)
            share = _whole(bits & _LOW_16) * _whole((bits >> _16) & _LOW_16) * np.float32(2.0**-32)
            dither = _whole((bits >> _32) & _LOW_8) * np.float32(2.0**-8)
            level = np.int32(ONE + RTN_STEPS * share + dither)
            was_high = np.float32(at.rtn[device, i] > 0)
            chance = table.rises[count] + was_high * (table.stays[count] - table.rises[count])
            at.rtn[device, i] = np.uint8(level * np.int32(rank < chance))
            weights[i] = np.int8(1) if evaluate_one(at, 0, i) > evaluate_one(at, 1, i) else np.int8(-1)

    @compiled
    def forget(numbers: Any, gone: Singles, lost: Singles) -> None:
        lost[:] = ZERO
        for bit in range(0, len(gone), 4):
            one = np.int32(1) << np.int32(bit)
            masks = np.int32(one), np.int32(2 * one), np.int32(4 * one), np.int32(8 * one)
            _forget(numbers, masks, (gone[bit], gone[bit + 1], gone[bit + 2], gone[bit + 3]), lost)

    @compiled
    def pulse_all(
        first: int, last: int, pulses: Any, key: np.uint64, table: Tables, at: Pairs, weights: Any, space: Any
    ) -> None:
        bits, low, high, logs, lost, sizes, pink, rtn = space
        n, step = last - first, numbers * _GOLDEN
        counts, left, right, gone = pulses[first:last], logs[0, :n], logs[1, :n], lost[:n]
        number, noise, level, each, part = sizes[:n], pink[:n], rtn[:n], table.stress[1], slice(first, last)
        _sizes(counts, number)
        for device in range(2):
            _drift(
                counts,
                np.int32(1 - 2 * device),
                each,
                at.stress[device, part],
                at.slope1[device, part],
                at.knee[device, part],
                at.base[device, part],
                at.slope2[device, part],
                logs[device, :n],
            )
        counter = key + np.uint64(first) * step
        for k in range(processes):
            if k % 2 == 0:
                counter += _GOLDEN
                _draw(counter, step, bits)
                _deviates(bits, low, high)
            own, other = at.pink[k, 0, part], at.pink[k, 1, part]
            forget(number, table.gone[k], gone)
            _wander(counts, low if k % 2 == 0 else high, gone, own, other, noise)
            _place(counts, noise, own, other)
            _add_pink(at.scales[k], own, left)
            _add_pink(at.scales[k], other, right)
        _draw(counter + _GOLDEN, step, bits)
        own_rtn, other_rtn = at.rtn[0, part], at.rtn[1, part]
        forget(number, table.gone[processes], gone)
        _switch(counts, bits.view(np.uint32), gone, table.settled[0], own_rtn, other_rtn, level)
        _place(counts, level, own_rtn, other_rtn)
        _add_rtn(at.ceiling[0, part], own_rtn, left)
        _add_rtn(at.ceiling[1, part], other_rtn, right)
        _compare(left, right, weights[part])

    def pulse(pulses: NDArray[np.int32], key: np.uint64, table: Tables, at: Pairs, weights: NDArray[np.int8]) -> None:
        space = (
            np.empty(BLOCK, np.uint64),
            np.empty(BLOCK, np.float32),
            np.empty(BLOCK, np.float32),
            np.empty((2, BLOCK), np.float32),
            np.empty(BLOCK, np.float32),
            np.empty(BLOCK, np.int32),
            np.empty(BLOCK, np.int16),
            np.empty(BLOCK, np.uint8),
        )
        for first in range(0, len(pulses), BLOCK):
            last = min(first + BLOCK, len(pulses))
            pulsed = 0
            for i in range(first, last):
                pulsed += pulses[i] != 0
            # where the two ways take about the same time
            if DENSE * pulsed < last - first:
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
