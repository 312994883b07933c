"""A link that plays a transcript: pairs (sent, received) in order, nothing else, and nothing left at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from drivers.errors import LinkError

Exchange = tuple[str, str | None]


class TranscriptLink:
    """Answers exactly what the transcript says, and fails the test for anything else that is sent.

    Args:
        exchanges: message and answer; None for a message that has no answer.
    """

    resource = "TRANSCRIPT"
    timeout_s = 2.0

    def __init__(self, exchanges: Iterable[Exchange] = ()) -> None:
        self.exchanges = list(exchanges)
        self.generation = 1
        self.trouble: str | None = None
        self.timeouts: list[float | None] = []
        self.sent = 0
        self.closed = False

    @property
    def in_step(self) -> bool:
        return self.trouble is None

    @contextlib.contextmanager
    def transaction(self, wait_s: float | None = None) -> Iterator[None]:
        yield

    def write(self, message: str) -> None:
        self._refuse_when_out_of_step()
        assert self._next(message) is None, f"{message!r} was written, the transcript expects its answer to be read"

    def query(self, message: str, timeout_s: float | None = None) -> str:
        self._refuse_when_out_of_step()
        self.timeouts.append(timeout_s)
        reply = self._next(message)
        assert reply is not None, f"{message!r} was asked, the transcript has no answer to it"
        return reply

    def send_now(self, *messages: str) -> None:
        for message in messages:
            assert self._next(message) is None

    def lose_step(self, reason: str) -> None:
        self.trouble = reason

    def resynchronise(self) -> None:
        self.trouble = None
        self.generation += 1

    def close(self) -> None:
        self.closed = True

    def _refuse_when_out_of_step(self) -> None:
        if self.trouble is not None:
            raise LinkError(f"out of step: {self.trouble}")

    def _next(self, message: str) -> str | None:
        assert self.exchanges, f"{message!r} was sent after the end of the transcript"
        expected, reply = self.exchanges.pop(0)
        assert message == expected
        self.sent += 1
        return reply

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            assert not self.exchanges, f"never sent: {[sent for sent, _ in self.exchanges]}"
