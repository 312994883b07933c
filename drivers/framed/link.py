"""The host's end of the framed link: one session with one board, requests answered in order, nothing done twice."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self

from drivers.errors import InDoubt, InstrumentError, LinkError, LinkTimeout, ReplyError, WrongInstrument
from drivers.framed.codec import BITS_PER_BYTE, TERMINATOR, Deframer, Frame, FrameError, encode
from drivers.framed.exchange import SEQUENCES, Answer, Exchange, Refusal, Request, SessionLostError, device_indices
from drivers.framed.messages import (
    MEANING,
    RESPONSE,
    UNNUMBERED,
    VERSIONS,
    Hello,
    Opcode,
    PayloadError,
    Status,
    Welcome,
)
from drivers.framed.port import SerialPort
from drivers.limits import Range
from models.exceptions import BenchFailure

SLICE_BYTES = 4096
"""Most bytes given to the port at once, so that the limit on a write's time holds at any baud rate."""

_LONGEST_PAYLOAD = 0xFFFF
_BAUDRATE = Range(50, 50_000_000, "bit/s", "the framed link")
_TIMEOUT = Range(0.001, 60.0, "s", "the framed link")
_RETRIES = Range(0, 100, "retries", "the framed link")


@dataclass
class LinkStats:
    """What went over a link since it was made.

    Attributes:
        damaged: pieces received that were no frame.
        stale: good frames received that answered no open question.
        retries: times that requests were sent again.
    """

    bytes_out: int = 0
    bytes_in: int = 0
    frames_in: int = 0
    damaged: int = 0
    stale: int = 0
    retries: int = 0


class FramedLink:
    """A session with a board that speaks the framed protocol. Make one with :func:`open_framed`.

    Calls from several threads take turns; one call's requests are never mixed with another's. After a failure that
    leaves the board's state unknown the link refuses everything but :meth:`outputs_low` until :meth:`reopen`.

    Attributes:
        welcome: what the board said of itself when the session was opened.
        stats: counters.
    """

    welcome: Welcome

    def __init__(self, port: str, baudrate: int, timeout_s: float, retries: int) -> None:
        self.timeout_s = _TIMEOUT.check(timeout_s, "timeout of the board's link")
        self.stats = LinkStats()
        self._retries = _RETRIES.check_int(retries, "retries of the board's link")
        self._baudrate = _BAUDRATE.check_int(baudrate, "baud rate of the board's link")
        self._seconds_per_byte = BITS_PER_BYTE / self._baudrate
        self._name = port
        self._lock = threading.RLock()
        self._tag = 0
        self._sequence = 1
        self._nonce = 0
        self._port: SerialPort | None = None
        self._deframer = Deframer(_LONGEST_PAYLOAD)
        self._lost: str | None = None
        self._streaming: Exchange | None = None
        self._connect()

    @property
    def port(self) -> str:
        """Name of the port."""
        return self._name

    def exchange(self, request: Request) -> bytes:
        """Send one request and return its reply's payload after the status code. See :meth:`exchange_many`."""
        return self.exchange_many([request])[0]

    def exchange_many(self, requests: Iterable[Request]) -> list[bytes]:
        """Send requests, as many in flight as the board allows; return the payload after each status code, in order.

        Raises:
            InDoubt: pulses were sent, and the board was reset or did not acknowledge them after all retries.
            LinkError: the same without a pulse, or the link is closed or out of step.
            InstrumentError: the board refused a request; the later ones that were not in flight yet were not sent.
        """
        with self._lock:
            self._check_open()
            self._settle()
            run = self._run_of(requests)
            with self._interruptible(run):
                self._drive(run)
            if run.refusal is not None:
                self._refuse(run.refusal)
            return run.replies

    def settle(self) -> None:
        """Wait until nothing that a stream sent is in flight; the replies are kept for it.

        Raises:
            LinkError: as :meth:`exchange_many`.
        """
        with self._lock:
            self._settle()

    def ping(self, data: bytes = b"") -> float:
        """Send ``data`` to the board and back; return the round trip in s. Feeds the watchdog.

        Raises:
            ReplyError: something else came back.
        """
        started = time.monotonic()
        echo = self.exchange(Request(Opcode.PING, data, reply_bytes=1 + len(data)))
        if echo != data:
            raise ReplyError(f"the board at {self._name} answered a ping of {len(data)} bytes with other bytes")
        return time.monotonic() - started

    def ask_welcome(self) -> Welcome:
        """Ask the board who it is, without disturbing the session.

        Raises:
            LinkError: the board was reset or serves another session.
        """
        with self._lock:
            self._check_open()
            self._settle()
            answer = self._hello(self._nonce)
            if answer != self.welcome:
                same = answer.boot_id == self.welcome.boot_id
                self._lost = "another program opened a session on the board" if same else "the board was reset"
                raise self._down()
            return answer

    def outputs_low(self, tries: int = 2) -> bytes:
        """All lines low and direct access disconnected, whatever the state of the session; then read back.

        Returns:
            the payload of the board's STATUS reply after its status code.
        """
        with self._lock:
            self._unnumbered(Opcode.OUTPUTS_LOW, b"", tries)
            return self._unnumbered(Opcode.STATUS, b"", tries)

    def reopen(self, port: str | None = None) -> None:
        """Open the port again, and a new session with the same board, after an unplug, a reset or an interruption.

        Args:
            port: where the board is now; where it was, by default.

        Raises:
            WrongInstrument: another board or another chip answers.
            LinkError: nobody answers.
        """
        with self._lock:
            before = self.welcome
            self._close_port("it could not be reopened")
            self._name = self._name if port is None else port
            self._connect()
            for what in ("serial", "chip_id", "geometry"):
                was, now = getattr(before, what), getattr(self.welcome, what)
                if was != now:
                    self.welcome = before
                    self._close_port(f"its {what} is another than before")
                    raise WrongInstrument(f"the board at {self._name} has the {what} {now}, it was {was} before")

    def close(self) -> None:
        """Close the port. The board's lines stay as they are."""
        with self._lock:
            self._close_port("it was closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run_of(self, requests: Iterable[Request], answers: deque[Answer] | None = None) -> Exchange:
        board = self.welcome
        return Exchange(requests, board.version, board.session, board.boot_id, self._sequence, board.window, answers)

    @contextmanager
    def _interruptible(self, run: Exchange) -> Iterator[None]:
        """Drive a run inside; whatever ends that early marks the link."""
        # Taken back only when all went well: wherever Ctrl-C strikes, a used sequence number is not used again.
        self._lost = "a call was interrupted"
        try:
            yield
        except BenchFailure as error:
            self._fail(run, str(error), error)
        except SessionLostError as error:
            self._fail(run, str(error), LinkError(f"{error} ({self._name}); reopen the link"))
        except BaseException as error:
            error.add_note(str(InDoubt("the board may still act on what was sent", run.devices_in_doubt())))
            raise
        self._sequence = run.next_sequence
        self._lost = None

    def _settle(self) -> None:
        run, self._streaming = self._streaming, None
        if run is not None and run.in_flight:
            with self._interruptible(run):
                self._drive(run)

    def _connect(self) -> None:
        self._port = SerialPort(self._name, self._baudrate, self.timeout_s + 2 * SLICE_BYTES * self._seconds_per_byte)
        try:
            self._port.flush_input()
            self._deframer = Deframer(_LONGEST_PAYLOAD)
            self._nonce = int.from_bytes(os.urandom(8), "little")
            self.welcome = self._hello(self._nonce)
        except BaseException:
            self._close_port("the board did not open a session")
            raise
        self._sequence = 1
        self._lost = None

    def _close_port(self, reason: str) -> None:
        self._lost = reason
        self._streaming = None
        if self._port is not None:
            self._port.close()
            self._port = None

    def _check_open(self) -> None:
        if self._lost is not None:
            raise self._down()

    def _wire(self) -> SerialPort:
        if self._port is None:
            raise self._down()
        return self._port

    def _down(self) -> LinkError:
        return LinkError(f"the link to the board at {self._name} is down; reopen it (cause: {self._lost})")

    def _write(self, data: bytes) -> None:
        port = self._wire()
        try:
            for start in range(0, len(data), SLICE_BYTES):
                port.write(data[start : start + SLICE_BYTES])
        except LinkError as error:
            self._close_port(str(error))
            raise
        self.stats.bytes_out += len(data)

    def _read(self, deadline: float) -> list[Frame | FrameError]:
        port = self._wire()
        try:
            data = port.read(max(0.0, deadline - time.monotonic()))
        except LinkError as error:
            self._close_port(str(error))
            raise
        found = self._deframer.feed(data)
        damaged = sum(isinstance(item, FrameError) for item in found)
        self.stats.bytes_in += len(data)
        self.stats.damaged += damaged
        self.stats.frames_in += len(found) - damaged
        return found

    def _drive(self, run: Exchange) -> None:
        while True:
            self._write(run.fresh())
            if run.finished:
                return
            self._await(run)

    def _await(self, run: Exchange) -> None:
        """Wait until something that is in flight is answered; send again what is not."""
        open_before = run.in_flight
        deadline = self._deadline(run)
        # A quiet board has until the deadline; an answer opens the window and starts the clock again.
        while run.in_flight == open_before:
            repeat = b"".join(self._take(run, item) for item in self._read(deadline))
            if run.in_flight == open_before and not repeat and time.monotonic() >= deadline:
                repeat = TERMINATOR + run.again()
            if run.attempts > self._retries:
                raise LinkTimeout(
                    f"the board at {self._name} did not answer {run.attempts} times in a row, {self.timeout_s:g} s "
                    "each; check its power and cable, then reopen the link"
                )
            if repeat:
                self.stats.retries += 1
                self._write(repeat)
                deadline = self._deadline(run)

    def _deadline(self, run: Exchange) -> float:
        return time.monotonic() + self.timeout_s + run.allowance_s(self._seconds_per_byte)

    def _take(self, run: Exchange, item: Frame | FrameError) -> bytes:
        if isinstance(item, FrameError):
            return run.reply_damaged()
        open_before = run.in_flight
        repeat = run.take(item)
        if run.in_flight == open_before and not repeat:
            self.stats.stale += 1
        return repeat

    def _refuse(self, refusal: Refusal) -> NoReturn:
        request = refusal.request
        told = f"{_meaning(refusal.status)}{f' ({refusal.text})' if refusal.text else ''}"
        if refusal.status == Status.FAULT and request.devices is not None:
            devices = device_indices([request.devices])
            raise InDoubt(f"the board at {self._name} failed during a pulse: {told}", devices)
        raise InstrumentError(f"the board at {self._name}", request.opcode.name, [(refusal.status, told)])

    def _fail(self, run: Exchange, reason: str, error: BenchFailure) -> NoReturn:
        self._lost = reason
        doubtful = run.devices_in_doubt()
        if doubtful:
            raise InDoubt(f"pulses were not acknowledged: {reason}", doubtful) from error
        raise error

    def _hello(self, nonce: int) -> Welcome:
        lowest, highest = VERSIONS

        def ours(frame: Frame) -> bool:
            return frame.payload[1:9] == nonce.to_bytes(8, "little")

        payload = Hello(nonce, lowest, highest).pack()
        try:
            return Welcome.unpack(self._unnumbered(Opcode.HELLO, payload, self._retries + 1, ours))
        except PayloadError as error:
            raise ReplyError(f"the board at {self._name} sent a malformed answer: {error}") from None

    def _unnumbered(
        self, opcode: Opcode, payload: bytes, tries: int, ours: Callable[[Frame], bool] = lambda _: True
    ) -> bytes:
        self._tag = (self._tag + 1) % SEQUENCES
        request = encode(Frame(UNNUMBERED, UNNUMBERED, self._tag, opcode, payload))
        for attempt in range(tries):
            self.stats.retries += attempt > 0
            # The leading terminator closes whatever half frame the board may have of us.
            self._write(TERMINATOR + request)
            deadline = time.monotonic() + self.timeout_s + len(request) * self._seconds_per_byte
            if self._streaming is not None:  # the board does what a stream has sent first
                deadline += self._streaming.allowance_s(self._seconds_per_byte)
            while time.monotonic() < deadline:
                for frame in self._read(deadline):
                    if isinstance(frame, FrameError):
                        continue
                    header = (frame.session, frame.sequence, frame.opcode)
                    if header == (UNNUMBERED, self._tag, opcode | RESPONSE) and frame.payload and ours(frame):
                        return self._unnumbered_answer(opcode, frame.payload)
                    self._overhear(frame)
        raise LinkTimeout(
            f"no answer to {opcode.name} from a board at {self._name} within {self.timeout_s:g} s, {tries} times; "
            "is it powered, is it the right port, and is no other program using it?"
        )

    def _overhear(self, frame: Frame) -> None:
        """Keep what answers a stream's request, so that it need not be asked for again; anything else is stale."""
        run = self._streaming
        if run is None:
            self.stats.stale += 1
        else:
            # What should be sent again, or that the session is lost, the stream will find out when it next waits.
            with suppress(SessionLostError):
                self._take(run, frame)

    def _unnumbered_answer(self, opcode: Opcode, payload: bytes) -> bytes:
        status, body = payload[0], payload[1:]
        if status == Status.OK:
            return body
        if status == Status.VERSION and len(body) == 10:
            raise WrongInstrument(
                f"the board at {self._name} speaks protocol versions {body[8]} to {body[9]}, this program speaks "
                f"{VERSIONS[0]} to {VERSIONS[1]}; update the older of the two"
            )
        raise InstrumentError(f"the board at {self._name}", opcode.name, [(status, _meaning(status))])


def open_framed(port: str, baudrate: int = 921600, timeout_s: float = 1.0, retries: int = 5) -> FramedLink:
    """Open a board's serial port for us alone, and a session with the board.

    Args:
        port: device name, pseudo-terminal, or pyserial URL such as ``socket://127.0.0.1:4000``.
        baudrate: bit/s.
        timeout_s: how long the board may be silent beyond what its work and the wire take, 1 ms to 60 s.
        retries: times that an unanswered request is sent again, with the same sequence number.

    Raises:
        LinkError: the port cannot be opened, another program holds it, or nobody answers.
        WrongInstrument: the board speaks other protocol versions.
    """
    return FramedLink(port, baudrate, timeout_s, retries)


def _meaning(status: int) -> str:
    try:
        known = Status(status)
    except ValueError:
        return f"status {status}, which protocol version {VERSIONS[1]} does not know"
    return f"{known.name}: {MEANING[known]}"
