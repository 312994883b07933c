"""Random draws of the compiled passes that place errors.

Random numbers are hashes of a counter (SplitMix64, Steele et al. 2014), drawn a few hundred at a time so that the
compiler takes several at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from models.packed_kernels import Words

Draws = tuple[NDArray[np.float64], Words, Words, Words]
"""As of :func:`fresh_draws`."""

LONGEST_GAP = 2e17
"""Longest mean gap: the longest gap that can be drawn is 38 times this, and still a whole number of 63 bits."""

DRAWN = 256
"""Draws at a time."""

STEP = np.uint64(0x9E3779B97F4A7C15)
"""What a counter goes on by."""

RANK_BITS = 11
"""Lowest bits of a word, which its exponential leaves to chance."""

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


_bits: Any = intrinsic(_bits_of)
_number: Any = intrinsic(_number_of)


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
    for i in range(DRAWN):
        z = mixed(counter + np.uint64(i) * STEP)
        words[i] = z
        bits = _bits((np.float64(np.int64(z >> np.uint64(11))) + 0.5) * 2.0**-53)
        exponent = np.int64(bits - _SQRT_HALF) >> 52
        m = _number(bits - (np.uint64(exponent) << np.uint64(52)))
        s = (m - 1.0) / (m + 1.0)
        q = s * s
        series = 1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0 + q * (1.0 / 15.0)))
        series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * series)))
        exponentials[i] = -(np.float64(exponent) * 0.6931471805599453 + 2.0 * s * series)
    return counter + np.uint64(DRAWN) * STEP


@njit(nogil=True, cache=True)
def fresh_draws() -> Draws:
    """Room for exponentials, words, hits, and where they are: a counter, how many are used, and a counter for ties."""
    return (
        np.empty(DRAWN),
        np.empty(DRAWN, dtype=np.uint64),
        np.empty(DRAWN, dtype=np.uint64),
        np.empty(3, dtype=np.uint64),
    )


@njit(nogil=True, cache=True, error_model="numpy")
def begin(
    seed: Any,
    block: int,
    gap: NDArray[np.float64],
    drawn: Draws,
    ahead: NDArray[np.int64],
) -> None:
    """Start the stream of draws of a block, and draw how many senses are ahead of the first error of each bin."""
    exponentials, words, _, state = drawn
    # where the streams of two blocks begin is a hash, so that they are far apart
    counter = mixed(np.uint64(seed) + np.uint64(block + 1) * STEP)
    state[2] = mixed(~counter)
    counter, used = draw(counter, exponentials, words), 0
    for place in range(len(gap)):
        ahead[place] = np.int64(exponentials[used] * gap[place])
        used += 1
        if used == DRAWN:
            counter, used = draw(counter, exponentials, words), 0
    state[0], state[1] = counter, np.uint64(used)
