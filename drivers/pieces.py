"""Cutting what would keep a board busy for long into pieces, so that a stop is obeyed between two of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from models.cells import DeviceMask

PIECE_S = 0.1
"""Long operations are cut into pieces that keep a board busy for no longer: a stop is obeyed between two of them."""

OVERHEAD_S = 1e-6
"""What a board is taken to add to each pulse and each sensed row, for cutting only."""


def spans(total: int, each_s: float) -> Iterator[int]:
    """Cut ``total`` things of ``each_s`` into pieces of at most :data:`PIECE_S`, and of one thing at least."""
    most = max(1, int(PIECE_S / each_s))
    for start in range(0, total, most):
        yield min(most, total - start)


def pieces(devices: DeviceMask, count: int, each_s: float) -> Iterator[tuple[DeviceMask, int]]:
    """Cut ``count`` pulses of ``each_s`` on each device into pieces of at most :data:`PIECE_S`."""
    selected = np.flatnonzero(devices)
    most = max(1, int(PIECE_S / each_s))
    for start in range(0, len(selected), most):
        some = selected[start : start + most]
        part = np.zeros(devices.shape, dtype=bool)
        part.flat[some] = True
        for pulses in spans(count, len(some) * each_s):
            yield part, pulses


def recut(arrays: Iterable[NDArray[np.int8]], size: int) -> Iterator[NDArray[np.int8]]:
    """Cut arrays that follow each other into pieces of ``size`` rows, whatever their own sizes; the last is the rest.

    An array is drawn no earlier than the piece that needs it.
    """
    held: list[NDArray[np.int8]] = []
    missing = size
    for array in arrays:
        left = array
        while len(left) >= missing:
            yield np.concatenate([*held, left[:missing]])
            left, held, missing = left[missing:], [], size
        if len(left):
            held.append(left.copy())  # the array may be filled anew when the next one is drawn
            missing -= len(left)
    if held:
        yield np.concatenate(held)
