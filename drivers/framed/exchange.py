"""Go-back-N: which requests are in flight, what a received frame means for them, and what to send again.

No wire and no clock here. The board executes each sequence number at most once and answers a repeated request from
its cache, so that sending again is always safe.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from drivers.framed.codec import Frame, encode, wire_bytes
from drivers.framed.messages import RESPONSE, UNNUMBERED, Opcode, Status
from models.cells import DeviceMask

SEQUENCES = 1 << 16


@dataclass(frozen=True, eq=False)
class Request:
    """One request, and what its sender must know about it.

    Attributes:
        opcode: what is asked.
        payload: as packed by its message class.
        busy_s: how long the board is busy with it.
        reply_bytes: longest payload of its reply.
        devices: ``(rows, cols, 2)`` bool, the devices it pulses; None for a request that pulses nothing.
    """

    opcode: Opcode
    payload: bytes = b""
    busy_s: float = 0.0
    reply_bytes: int = 1
    devices: DeviceMask | None = None


@dataclass(frozen=True)
class Refusal:
    """A reply that is not OK."""

    request: Request
    status: int
    text: str


class Answer(NamedTuple):
    """What the board said to one request: its status, and the payload after the status code."""

    request: Request
    status: int
    body: bytes

    @property
    def refusal(self) -> Refusal | None:
        """Why the board did not do it; None when it did."""
        if self.status == Status.OK:
            return None
        return Refusal(self.request, self.status, self.body.decode("ascii", errors="replace"))


class SessionLostError(Exception):
    """The board does not accept this session any more; the text says why."""


class Exchange:
    """A run of requests through the window of one session, answered in order.

    Args:
        requests: taken one by one as the window opens.
        version: protocol version of the session.
        session: session id.
        boot_id: the board's boot id when the session was opened.
        first: sequence number of the first request.
        window: most requests in flight.
        answers: where the answers go, in order; a list of its own by default.

    Attributes:
        answers: what came so far and nobody has taken.
    """

    def __init__(
        self,
        requests: Iterable[Request],
        version: int,
        session: int,
        boot_id: int,
        first: int,
        window: int,
        answers: deque[Answer] | None = None,
    ) -> None:
        self._waiting = iter(requests)
        self._version, self._session, self._boot_id = version, session, boot_id
        self._next, self._oldest, self._window = first, first, window
        self._in_flight: dict[int, tuple[Request, bytes]] = {}
        self._early: dict[int, Answer] = {}
        self._exhausted = False
        self._going_back = False
        self._refused: set[int] = set()
        self._asked_again: set[int] = set()
        self.answers: deque[Answer] = deque() if answers is None else answers
        self.refusal: Refusal | None = None
        self.attempts = 0

    @property
    def next_sequence(self) -> int:
        """Sequence number of the next request that was not sent yet."""
        return self._next

    @property
    def replies(self) -> list[bytes]:
        """Payloads of the answers after their status codes, in order."""
        return [answer.body for answer in self.answers]

    @property
    def in_flight(self) -> int:
        """Number of requests sent and not answered."""
        return len(self._in_flight)

    @property
    def finished(self) -> bool:
        """True when nothing is in flight and nothing will be."""
        return not self._in_flight and (self._exhausted or self.refusal is not None)

    @property
    def room(self) -> bool:
        """Whether another request may be sent now."""
        # The window counts from the oldest unanswered request: the board caches no more replies than that.
        return self.refusal is None and self._distance(self._next) < self._window

    def launch(self, request: Request) -> bytes:
        """Put one more request in flight, where there is room for it; return its frame."""
        frame = encode(Frame(self._version, self._session, self._next, request.opcode, request.payload))
        self._in_flight[self._next] = (request, frame)
        self._next = (self._next + 1) % SEQUENCES
        return frame

    def fresh(self) -> bytes:
        """Take the next requests as far as the window allows; return their frames."""
        frames = []
        while not self._exhausted and self.room:
            request = next(self._waiting, None)
            if request is None:
                self._exhausted = True
                break
            frames.append(self.launch(request))
        return b"".join(frames)

    def again(self) -> bytes:
        """Return the frames of all unanswered requests, oldest first, and count the attempt."""
        self.attempts += 1
        self._settle()
        return b"".join(frame for _, frame in self._in_flight.values())

    def reply_damaged(self) -> bytes:
        """Some reply arrived garbled: return the frame of the oldest request, whose reply it must have been."""
        return self._ask_again([self._oldest] if self._oldest in self._in_flight else [])

    def allowance_s(self, seconds_per_byte: float) -> float:
        """How long the requests in flight may take on the board and on the wire, both ways."""
        return sum(
            request.busy_s + (len(frame) + wire_bytes(request.reply_bytes)) * seconds_per_byte
            for request, frame in self._in_flight.values()
        )

    def take(self, frame: Frame) -> bytes:
        """Take a received frame; return the frames to send again because of it.

        Raises:
            SessionLostError: the board was reset, or serves another session.
        """
        status = frame.payload[0] if frame.payload else Status.BAD_LENGTH
        if frame.session == UNNUMBERED and frame.opcode == Opcode.BAD_FRAME | RESPONSE:
            return self._request_damaged()
        entry = self._in_flight.get(frame.sequence)
        if frame.session != self._session or entry is None or frame.opcode != entry[0].opcode | RESPONSE:
            return b""
        if status == Status.OUT_OF_ORDER:
            return self._out_of_order(frame.sequence)
        if status in (Status.NO_SESSION, Status.VERSION, Status.MISMATCH):
            raise SessionLostError(self._why_lost(status, frame.payload[1:]))
        return self._accept(frame, entry[0], status)

    def devices_in_doubt(self) -> list[tuple[int, int, int]]:
        """Devices of all pulses that were not acknowledged, those never sent included.

        The caller of a pulse that was split must not take a device for pulsed whose part was still waiting.
        """
        requests = (*(request for request, _ in self._in_flight.values()), *self._waiting)
        return device_indices([request.devices for request in requests if request.devices is not None])

    def _distance(self, sequence: int) -> int:
        return (sequence - self._oldest) % SEQUENCES

    def _accept(self, frame: Frame, request: Request, status: int) -> bytes:
        # The board answers in order: what is older and still open was executed, and its reply was lost on the way.
        place = self._distance(frame.sequence)
        older = [sequence for sequence in self._in_flight if self._distance(sequence) < place]
        del self._in_flight[frame.sequence]
        self._asked_again.discard(frame.sequence)
        answer = self._early[frame.sequence] = Answer(request, status, frame.payload[1:])
        if self.refusal is None:
            self.refusal = answer.refusal
        self._settle()
        while self._oldest in self._early:
            self.answers.append(self._early.pop(self._oldest))
            self._oldest = (self._oldest + 1) % SEQUENCES
            self.attempts = 0
        return self._ask_again(older)

    def _ask_again(self, sequences: list[int]) -> bytes:
        # Once only: a second loss is left to the timer, so that a noisy line cannot multiply what is sent.
        wanted = [sequence for sequence in sequences if sequence not in self._asked_again]
        self._asked_again.update(wanted)
        return b"".join(self._in_flight[sequence][1] for sequence in wanted)

    def _out_of_order(self, sequence: int) -> bytes:
        # One lost request makes all later ones in flight come back refused, once for each time they were sent. Only
        # the first of those refusals, or one that comes a second time, means that something was lost since.
        if self._going_back and sequence not in self._refused:
            self._refused.add(sequence)
            return b""
        frames = self.again()
        self._going_back, self._refused = True, {sequence}
        return frames

    def _request_damaged(self) -> bytes:
        if self._going_back or not self._in_flight:
            return b""
        frames = self.again()
        self._going_back = True
        return frames

    def _settle(self) -> None:
        self._going_back = False
        self._refused = set()

    def _why_lost(self, status: int, body: bytes) -> str:
        if status == Status.NO_SESSION:
            if len(body) == 4 and int.from_bytes(body, "little") == self._boot_id:
                return "another program opened a session on the board"
            return "the board was reset"
        if status == Status.VERSION:
            return "the board does not speak the protocol version of the session any more"
        return "the board executed another request under the same sequence number"


def device_indices(masks: Sequence[DeviceMask]) -> list[tuple[int, int, int]]:
    """Indices ``(row, col, device)`` of the devices that are in any of ``masks``, in order."""
    if not masks:
        return []
    return [(int(row), int(col), int(device)) for row, col, device in np.argwhere(np.any(masks, axis=0))]
