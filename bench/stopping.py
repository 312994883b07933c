"""Stopping: a request that is looked at between exchanges, so that no message on a wire is ever cut in half."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from models.exceptions import RramBenchError

INTERRUPTED_STATUS = 130
"""Exit status of a command that was interrupted: the shell's convention for Ctrl-C."""

POLL_S = 0.005
"""How often somebody who waits on a token looks at it."""


class Stopped(RramBenchError):
    """Somebody asked for a stop; the bench is left in its safe state on the way out."""

    exit_status = INTERRUPTED_STATUS


class StopToken:
    """What anyone may ask of a run under way, from any thread: pause, go on, stop, outputs off at once.

    A stop and a pause are obeyed between two exchanges with the chip. :meth:`emergency_off` does not wait for that.
    """

    def __init__(self) -> None:
        # Plain flags: a signal handler may set them in the very thread that waits on them, which a lock would not
        # survive (an Event's is not re-entrant).
        self._requested = False
        self._paused = False
        self._emergency = False
        self.reason = ""
        self.on_emergency: list[Callable[[], object]] = []

    def request(self, reason: str) -> None:
        """Ask for a stop; the first reason is kept. A run that is paused stops too."""
        if not self._requested:
            self.reason = reason
            self._requested = True
            self._paused = False

    def emergency_off(self, reason: str = "emergency off") -> None:
        """Ask for a stop and switch the outputs off at once, in the calling thread, whatever the run is doing."""
        self._emergency = True
        self.request(reason)
        for switch_off in tuple(self.on_emergency):  # a run that ends meanwhile takes its own away
            switch_off()

    def pause(self) -> None:
        """Ask the run to hold, with the outputs off, before its next exchange."""
        if not self.requested:
            self._paused = True

    def go_on(self) -> None:
        """Let a paused run go on."""
        self._paused = False

    @property
    def requested(self) -> bool:
        """True once a stop was asked for."""
        return self._requested

    @property
    def emergency(self) -> bool:
        """True once the outputs were switched off in the middle of whatever the run was doing."""
        return self._emergency

    @property
    def paused(self) -> bool:
        """True while the run is asked to hold."""
        return self._paused and not self._requested

    def wait(self) -> None:
        """Wait until a stop is asked for."""
        while not self._requested:
            time.sleep(POLL_S)

    def wait_while_paused(self, timeout_s: float) -> bool:
        """Wait until the run may go on or must stop, for ``timeout_s`` at most; return whether it is still paused."""
        deadline = time.monotonic() + timeout_s
        while self.paused and (left := deadline - time.monotonic()) > 0.0:
            time.sleep(min(left, POLL_S))
        return self.paused

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
