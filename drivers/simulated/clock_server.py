"""The simulated world's clock on a loopback port: a client lets time pass, instead of waiting for it.

A line protocol: ``ADVANCE <seconds>`` is answered by ``OK <world seconds>`` once that time has passed for everything in
the world, ``NOW?`` by the world seconds alone, and anything that is neither by ``ERR <why>``, without effect.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from drivers.simulated.line_server import LineServed

if TYPE_CHECKING:
    from drivers.simulated.world import World

MOST_S = 1e10
"""Most seconds of one step: some 300 years."""


class ClockHandler:
    """Answers the lines.

    Args:
        world: whose time it is.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def execute(self, line: bytes) -> bytes | None:
        """Act on one line; return the answer."""
        words = line.decode("ascii", "replace").split()
        match words:
            case ["NOW?"]:
                return repr(self._world.now_s).encode()
            case ["ADVANCE", text]:
                return self._advance(text)
        return b"ERR it is ADVANCE <seconds> or NOW?"

    def overrun(self) -> None:
        """Nothing answers a line that is far too long."""

    def _advance(self, text: str) -> bytes:
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0.0 <= seconds <= MOST_S:
            return f"ERR 0 to {MOST_S:g} seconds can pass at once".encode()
        with self._world.lock:
            self._world.advance(seconds)
            return f"OK {self._world.now_s!r}".encode()


class ClockServer(LineServed):
    """The clock on a loopback port.

    Args:
        world: whose time it is.
        port: TCP port; 0 for any free one.
    """

    def __init__(self, world: World, port: int = 0) -> None:
        super().__init__(ClockHandler(world), port)

    @property
    def url(self) -> str:
        """Where it is served: ``socket://127.0.0.1:PORT``."""
        return f"socket://127.0.0.1:{self.wire.port}"
