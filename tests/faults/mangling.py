"""What a bad cable does to bytes: flips, loses, doubles and cuts them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

LONGEST_RUN = 4
MOST_FLIPS = 3
WHOLE = 0.3
"""How often a doubling repeats all there is, as a line that was sent twice would."""

Mangler = Callable[[bytes, np.random.Generator], bytes]


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip one bit, or a few."""
    damaged = bytearray(data)
    count = min(int(rng.integers(1, MOST_FLIPS + 1)), 8 * len(data))
    for bit in rng.choice(8 * len(data), size=count, replace=False):
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def lose(data: bytes, rng: np.random.Generator) -> bytes:
    """Leave a few bytes out."""
    start, length = _run(data, rng)
    return data[:start] + data[start + length :]


def double(data: bytes, rng: np.random.Generator) -> bytes:
    """Send a few bytes twice, or all of them."""
    if rng.random() < WHOLE:
        return data * 2
    start, length = _run(data, rng)
    return data[: start + length] + data[start:]


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """Send the beginning only."""
    return data[: int(rng.integers(len(data)))]


def _run(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(len(data))), int(rng.integers(1, LONGEST_RUN + 1))


MANGLERS: Mapping[str, Mangler] = {"flipped": flip, "lost": lose, "doubled": double, "cut": cut}
