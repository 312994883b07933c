"""The clock of a simulated world, at the far end of a socket: to wait on it takes no time of ours."""

from __future__ import annotations

import contextlib
import math
import re
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from drivers.errors import LinkError, LinkTimeout, ReplyError
from drivers.limits import Range
from drivers.scpi_text import format_number, parse_float
from models.exceptions import BenchFailure, UserMistake

URL = re.compile(r"socket://(?P<host>[^:/\s]+):(?P<port>\d{1,5})", re.ASCII)
WAIT_S = Range(0.0, 1e10, "s", "the world's clock")
REPLY_S = 30.0
"""Longest wait for an answer: a world with many devices takes a moment to let them all age."""

LONGEST_REPLY = 200
ROUNDING = 1e-9


class WorldClock:
    """Lets time pass in a simulated world. Threads may share it; a context manager, closed at the end.

    After a failure it connects anew at its next use, so that a late answer is never taken for the answer to another
    question.

    Args:
        url: where it is served, ``socket://HOST:PORT``.

    Raises:
        UserMistake: the URL is malformed.
        LinkError: nobody answers there.
    """

    def __init__(self, url: str) -> None:
        match = URL.fullmatch(url)
        if match is None:
            raise UserMistake(f"{url!r} is not the address of a world's clock; expected socket://HOST:PORT")
        self._url = url
        self._address = match["host"], int(match["port"])
        self._lock = threading.RLock()
        self._socket: socket.socket | None = None
        self.now()

    def now(self) -> float:
        """Seconds that have passed in the world since it was made.

        Raises:
            LinkError: the link is gone.
            ReplyError: the answer is not a number of seconds.
        """
        return self._exchange("NOW?", _seconds)

    def wait(self, seconds: float, poll: Callable[[], None]) -> None:
        """Let ``seconds`` pass in the world, all at once; ``poll`` is called before and after, and may end the wait.

        Raises:
            LimitError: a time that is negative, not finite, or too long; no time passes.
            LinkError: the link is gone; the time may have passed.
            ReplyError: the answer is not what the question allows.
            BenchFailure: the clock refuses.
        """
        step = WAIT_S.check(seconds, "time to wait")
        poll()
        with self._lock:
            before = self.now()
            after = self._exchange(f"ADVANCE {format_number(step)}", _advanced)
        if after - before < step * (1.0 - ROUNDING):
            raise BenchFailure(f"the world's clock ({self._url}) went on by {after - before:g} s instead of {step:g} s")
        poll()

    def close(self) -> None:
        """Disconnect. Safe to call twice."""
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _exchange(self, question: str, decode: Callable[[str], float]) -> float:
        with self._lock:
            answered = False
            try:
                reply = self._ask(question)
                if reply.startswith("ERR "):
                    answered = True
                    raise BenchFailure(f"the world's clock ({self._url}) refuses {question!r}: {reply[4:]}")
                value = decode(reply)
                answered = True
            except ReplyError as error:
                raise ReplyError(f"the world's clock ({self._url}): answer to {question!r}: {error}") from error
            except TimeoutError as error:
                raise LinkTimeout(f"the world's clock ({self._url}) did not answer within {REPLY_S:g} s") from error
            except OSError as error:
                raise LinkError(
                    f"the world's clock ({self._url}) cannot be reached ({error}); is the simulated bench still there?"
                ) from error
            finally:
                if not answered:
                    self.close()
            return value

    def _ask(self, question: str) -> str:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=REPLY_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(f"{question}\n".encode("ascii"))
        received = b""
        while not received.endswith(b"\n"):
            piece = self._socket.recv(LONGEST_REPLY)
            if not piece:
                raise ConnectionResetError("it closed the connection")
            received += piece
            if b"\n" in received[:-1] or len(received) > LONGEST_REPLY:
                raise ReplyError(f"{received[:60]!r} is not one line")
        with contextlib.suppress(UnicodeDecodeError):
            return received[:-1].decode("ascii")
        raise ReplyError(f"{received[:60]!r} is not text")


def _seconds(reply: str) -> float:
    seconds = parse_float(reply)
    if not 0.0 <= seconds < math.inf:
        raise ReplyError(f"{reply!r} is not a time")
    return seconds


def _advanced(reply: str) -> float:
    word, _, seconds = reply.partition(" ")
    if word != "OK":
        raise ReplyError(f"{reply!r} does not begin with OK")
    return _seconds(seconds)
