"""Stopping: a request that is looked at between exchanges, so that no message on a wire is ever cut in half."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from models.exceptions import RramBenchError

INTERRUPTED_STATUS = 130
"""Exit status of a command that was interrupted: the shell's convention for Ctrl-C."""


class Stopped(RramBenchError):
    """Somebody asked for a stop; the bench is left in its safe state on the way out."""

    exit_status = INTERRUPTED_STATUS


class StopToken:
    """A flag that anyone may raise and long work looks at."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""

    def request(self, reason: str) -> None:
        """Ask for a stop; the first reason is kept."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()

    @property
    def requested(self) -> bool:
        """True once a stop was asked for."""
        return self._event.is_set()

    def wait(self) -> None:
        """Wait until a stop is asked for."""
        # A bounded wait in a loop: an unbounded one cannot be interrupted by a signal on Windows.
        while not self._event.wait(timeout=0.5):
            pass

    def check(self) -> None:
        """Raise Stopped when a stop was asked for."""
        if self.requested:
            raise Stopped(f"stopped: {self.reason}")


@contextmanager
def stop_on_signals() -> Iterator[StopToken]:
    """Turn Ctrl-C, SIGTERM and SIGHUP into a request on the token, for the length of the block.

    However often the signal comes, the exchange under way is finished and the safe state is reached first: a signal
    never raises inside it. Outside the main thread the token is returned without handlers.
    """
    token = StopToken()
    if threading.current_thread() is not threading.main_thread():
        yield token
        return

    def ask(number: int, frame: FrameType | None) -> None:
        token.request("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)

    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    previous = {getattr(signal, name): signal.signal(getattr(signal, name), ask) for name in names}
    try:
        yield token
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
