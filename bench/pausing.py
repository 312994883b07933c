"""Long work on the host in the middle of a run: the bench is looked after in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.procedure import Wait

Number = TypeVar("Number", bound=np.integer)

PAUSE_S = 1.0
"""The host computes no longer than this before the runner looks after the bench: boards have watchdogs."""

PORTION = 256
"""Samples that are computed in software at a time."""


class Pause:
    """Lets the runner look after the bench while the host computes: its board hears of nobody meanwhile."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, text: str) -> Iterator[Wait]:
        """A wait of no length, with the outputs off, where the last was :data:`PAUSE_S` ago."""
        if time.monotonic() - self._last > PAUSE_S:
            yield Wait(0.0, text)
            self._last = time.monotonic()


def in_portions(
    function: Callable[[NDArray[np.integer]], NDArray[Number]], inputs: NDArray[np.integer], text: str
) -> Generator[Wait, Any, NDArray[Number]]:
    """What ``function`` makes of all inputs, some at a time, so that no watchdog runs out."""
    parts, pause = [], Pause()
    for first in range(0, len(inputs), PORTION):
        parts.append(function(inputs[first : first + PORTION]))
        yield from pause(text)
    return np.concatenate(parts)
