"""Account of the vectors that a stream of XNOR has with the board: sent, answered, and answered at known voltages."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from drivers.pieces import PIECE_S
from drivers.roles import XnorStream

SHARES = 4
"""Vectors are sent in so many pieces for each :data:`PIECE_S` of the board's time, all of which may be in flight."""


def flow_sizes(each_s: float) -> tuple[int, int]:
    """Vectors in a piece, and pieces in flight, of vectors that keep the board busy for ``each_s`` each.

    All that is in flight takes no longer than :data:`PIECE_S`, or is one vector: a stop is obeyed within that time.
    """
    vectors = max(1, int(PIECE_S / SHARES / each_s))
    return vectors, max(1, min(SHARES, int(PIECE_S / (vectors * each_s))))


class XnorFlow:
    """What one stream has sent and received.

    Sums are given out once they were told of, which confirms the rails that they were sensed at; that is done for
    several pieces together, while others are in flight.

    Args:
        stream: of the board.
        rows: sums per vector.
        tell: told how many vectors were sensed and since when, in s of ``time.monotonic``; what it raises keeps the
            sums from being given out.

    Attributes:
        in_flight: pieces sent and not answered.
    """

    def __init__(self, stream: XnorStream, rows: int, tell: Callable[[int, float], None]) -> None:
        self.in_flight = 0
        self._stream = stream
        self._tell = tell
        self._since = 0.0
        self._answered: list[NDArray[np.int16]] = []
        self._confirmed: list[NDArray[np.int16]] = [np.zeros((0, rows), dtype=np.int16)]

    @property
    def confirmed(self) -> int:
        """Vectors whose sums may be given out."""
        return sum(map(len, self._confirmed))

    def begin(self) -> None:
        """Start the clock of what is sent next, unless something is under way already."""
        if not self.in_flight and not self._answered:
            self._since = time.monotonic()

    def put(self, inputs: NDArray[np.int8]) -> None:
        """Send a piece."""
        self._stream.put(inputs)
        self.in_flight += 1

    def receive(self) -> None:
        """Wait for the oldest piece in flight."""
        self.in_flight -= 1
        self._answered.append(self._stream.take())
        if len(self._answered) >= SHARES:
            self.confirm()

    def confirm(self) -> None:
        """Tell of what was answered; from then on it may be given out."""
        answered, self._answered = self._answered, []
        since, self._since = self._since, time.monotonic()
        if answered:
            self._tell(sum(map(len, answered)), since)
            self._confirmed += answered

    def settle(self) -> None:
        """Wait until nothing is in flight, and tell of it."""
        try:
            while self.in_flight:
                self.receive()
        finally:
            self.confirm()

    def give(self, vectors: int) -> NDArray[np.int16]:
        """Give out the sums of so many vectors, confirmed ones, the oldest first."""
        sums = np.concatenate(self._confirmed)
        self._confirmed = [sums[vectors:]]
        return sums[:vectors]
