"""What the tests of the C2N boards share: served chips, and a line that goes wrong now and then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy as np

from drivers.c2n import FirmwareTiming
from drivers.framed import BoardLimits
from drivers.limits import Range
from drivers.simulated.board_server import SimulatedBoardServer
from drivers.simulated.c2n_boards import ColumnBoardServer, TernaryBoardServer
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.world import World
from tests.drivers.fake_chip import FakeChip

LIMITS = BoardLimits(
    Range(1e-7, 1e-3, "s", "test"), Range(1, 1000, "pulses", "test"), Range(1e-8, 1e-4, "s", "test envelope")
)
TIMING = FirmwareTiming(pulse_width_s=10e-6, precharge_s=5e-6, window_s=50e-9)
Server = TypeVar("Server", bound=SimulatedBoardServer[Any])


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Start a server for the length of the block."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


def world_of(chip: FakeChip | SimulatedChip) -> World:
    """A world around any chip."""
    return World(cast(SimulatedChip, chip))


def ternary(chip: FakeChip | SimulatedChip, **options: Any) -> TernaryBoardServer:
    """The 8 x 8 ternary board in front of ``chip``."""
    return TernaryBoardServer(world_of(chip), **options)


def column(chip: FakeChip | SimulatedChip, **options: Any) -> ColumnBoardServer:
    """The 64-column board in front of ``chip``."""
    return ColumnBoardServer(world_of(chip), **options)


def tap(server: SimulatedBoardServer[Any]) -> bytearray:
    """Collect what reaches the board from now on."""
    seen = bytearray()

    def listen(data: bytes) -> bytes:
        seen.extend(data)
        return data

    server.to_board = listen
    return seen


def say(server: SimulatedBoardServer[Any], data: bytes) -> None:
    """Let the board send bytes that answer nothing; they are on the wire when this returns."""

    def speak() -> None:
        server._unsent += data
        server._send()

    server._in_thread(speak)


class BadLine:
    """Does one thing wrong to the piece whose number is ``when``: to a byte of it, or to the whole of it.

    Attributes:
        held: what was held back; it comes in front of the next piece.
    """

    FAULTS = ("lose byte", "double byte", "cut", "lose", "hold back")

    def __init__(self, rng: np.random.Generator, fault: str, when: int) -> None:
        self.rng, self.fault, self.when = rng, fault, when
        self.held = b""

    def __call__(self, data: bytes) -> bytes:
        if not data:
            return data
        self.when -= 1
        data, self.held = self.held + data, b""
        if self.when != -1:
            return data
        place = int(self.rng.integers(len(data)))
        match self.fault:
            case "lose byte":
                return data[:place] + data[place + 1 :]
            case "double byte":
                return data[: place + 1] + data[place:]
            case "cut":
                return data[:place]
            case "double":
                return data * 2
            case "hold back":
                self.held = data
                return b""
            case _:
                return b""
