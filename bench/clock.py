"""The clock that long waits are counted on: the wall's on a real bench, the simulated world's on a simulated one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from drivers.world_clock import WAIT_S

POLL_S = 0.02
"""How often a wait looks up: a stop is obeyed within that time."""


class Clock(Protocol):
    """Time as the chip lives through it."""

    def now(self) -> float:
        """Seconds since some moment of its own."""

    def wait(self, seconds: float, poll: Callable[[], None]) -> None:
        """Let ``seconds`` pass; ``poll`` is called again and again, and what it raises ends the wait.

        Raises:
            LimitError: ``seconds`` is negative, not finite, or too long.
        """


class RealClock:
    """The wall's clock."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def wait(self, seconds: float, poll: Callable[[], None]) -> None:
        """Sleep for ``seconds``; ``poll`` is called every :data:`POLL_S`. Raises LimitError for no length of time."""
        deadline = time.monotonic() + WAIT_S.check(seconds, "time to wait")
        while (left := deadline - time.monotonic()) > 0.0:
            poll()
            time.sleep(min(POLL_S, left))
        poll()
