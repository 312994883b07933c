"""The host's end of a C2N dialect: one question at a time, and no doubt about which bytes answer it.

The dialects have neither checksums nor sequence numbers, so that nothing can ever be sent again blindly. What can be
known is how many bytes must come. Every call ends with an echo of a changing byte, which must come back alone: a byte
lost, doubled or late anywhere in the call shows there. Whatever leaves doubt puts the link OUT OF STEP, and it then
refuses everything but :meth:`C2NLink.take_down` until it is resynchronised.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType
from typing import NoReturn, Self

from drivers.c2n.protocol import GREETING, PACKET_BYTES, Dialect, acknowledgement, integers, packets
from drivers.c2n.usb import UsbIdentity, resolve_port, usb_identity
from drivers.errors import InDoubt, LinkError, LinkTimeout, ReplyError, WrongInstrument
from drivers.framed.codec import BITS_PER_BYTE
from drivers.framed.exchange import device_indices
from drivers.framed.port import SerialPort
from drivers.limits import Range
from drivers.roles import Identity
from models.cells import DeviceMask
from models.exceptions import BenchFailure

FILLER = bytes(PACKET_BYTES)
"""Ends whatever half frame a board may still hold: to a mask of cells zeros mean "leave alone", no end byte is zero,
and no frame starts with it."""

GREETING_S = 5.0
"""How long a board may blink before it greets."""

UNTOLD = "not reported"
QUIET_S = 0.02
_ECHOES, _IN_A_ROW, _SILENCES = 16, 3, 3
_FENCES = range(0xB0, 0xFF)
"""Echoed bytes: none of them is a command, a cell, an acknowledgement, or a letter of the greeting."""

_BAUDRATE = Range(50, 50_000_000, "bit/s", "the C2N link")
_TIMEOUT = Range(0.001, 60.0, "s", "the C2N link")


@dataclass(frozen=True, eq=False)
class Command:
    """One command, and what its sender must know about it.

    Attributes:
        code: from the dialect.
        payload: of exactly the length that the command takes.
        busy_s: how long the board is busy with it.
        devices: ``(rows, cols, 2)`` bool, the devices it pulses; None for a command that pulses nothing.
    """

    code: IntEnum
    payload: bytes = b""
    busy_s: float = 0.0
    devices: DeviceMask | None = None


@dataclass
class LinkStats:
    """What went over a link since it was made."""

    bytes_out: int = 0
    bytes_in: int = 0
    commands: int = 0
    resynchronised: int = 0


class C2NLink:
    """A serial line to a board that speaks one of the two C2N dialects. Make one with :func:`open_c2n`.

    Threads may share it: calls take turns.

    Attributes:
        dialect: what the board speaks.
        stats: counters.
    """

    def __init__(self, port: str, dialect: Dialect, baudrate: int, timeout_s: float) -> None:
        self.dialect = dialect
        self.timeout_s = _TIMEOUT.check(timeout_s, "timeout of the board's link")
        self.stats = LinkStats()
        self._baudrate = _BAUDRATE.check_int(baudrate, "baud rate of the board's link")
        self._seconds_per_byte = BITS_PER_BYTE / self._baudrate
        self._wanted = port
        self._name = port
        self._lock = threading.RLock()
        self._emergency = threading.Event()
        self._fences = os.urandom(1)[0]
        self._port: SerialPort | None = None
        self._usb = UsbIdentity()
        self._trouble: str | None = None
        self._open()

    @property
    def port(self) -> str:
        """Return the name of the port."""
        return self._name

    @property
    def usb(self) -> UsbIdentity:
        """Return what USB tells of whatever is plugged in there; empty for a port that is not on USB."""
        return self._usb

    @property
    def in_step(self) -> bool:
        """Tell whether the next bytes to arrive can only answer the next question."""
        return self._port is not None and self._trouble is None

    def exchange(self, *commands: Command) -> list[bytes]:
        """Send commands one after another, each after the answer to the one before; return the answers.

        An answer is empty for a command that is acknowledged. Nothing is ever sent twice.

        Raises:
            LinkError: the link is closed or out of step, or bytes had arrived that nobody asked for; nothing was sent.
            InDoubt: a pulse was sent, and something went wrong before the end of the call. Out of step.
            LinkTimeout: an answer did not come in time. Out of step.
            ReplyError: other bytes came. Out of step.
        """
        with self._lock:
            self._check_usable()
            # Taken back only at the end: wherever Ctrl-C strikes, an answer is still on its way.
            self._trouble = "a call was interrupted"
            answers: list[bytes] = []
            try:
                for command in commands:
                    if answers:
                        self._check_emergency()
                    answers.append(self._ask(command))
                self._fence()
            except BenchFailure as error:
                self._trouble = str(error)
                self._fail(commands, len(answers), error)
            except BaseException as error:
                error.add_note(str(InDoubt("the board may still act on what was sent", _devices(commands))))
                raise
            self._trouble = None
            return answers

    def take_down(self, *commands: Command) -> list[bytes]:
        """Send commands whatever state the link is in, then resynchronise and send them again for their answers.

        The emergency path: a call of another thread ends after its present command. A link that was out of step stays
        so for everything else. Only for commands that do no harm when they come twice.

        Raises:
            LinkError: the port is closed, or the board does not answer: nobody knows the state of its lines.
        """
        self._emergency.set()
        try:
            with self._lock:
                self._emergency.clear()
                trouble = self._trouble
                self._trouble = "taking the lines down was interrupted"
                self._send(FILLER)
                for command in commands:
                    self._send(*packets(self.dialect, command.code, command.payload))
                self._settle()
                answers = [self._ask(command) for command in commands]
                self._fence()
                self._trouble = trouble
                return answers
        finally:
            self._emergency.clear()

    def resynchronise(self) -> None:
        """Bring host and board to the same place in the conversation, after a lost answer or an interruption.

        What the board did meanwhile stays unknown. Whoever answers must be identified again.

        Raises:
            LinkError: the port is closed, or nobody answers.
            WrongInstrument: a board of the other dialect answers.
        """
        with self._lock:
            self._trouble = "it could not be resynchronised"
            self._settle()
            self._trouble = None
            self.stats.resynchronised += 1

    def identify(self) -> Identity:
        """Ask the board for its greeting, for which it blinks its light; all else is what USB tells.

        Raises:
            WrongInstrument: the greeting is another one.
        """
        answer = self.exchange(Command(self.dialect.greet, busy_s=GREETING_S))[0]
        if answer != GREETING:
            raise WrongInstrument(f"{self._who()} greets with {answer!r} instead of {GREETING!r}; check the port")
        return Identity("C2N", self.dialect.board, self._usb.serial if self._usb.serial else UNTOLD, UNTOLD)

    def echo(self, data: bytes) -> float:
        """Send ``data`` to the board and back, byte by byte; return how long it took in s.

        Raises:
            ReplyError: something else came back.
        """
        started = time.monotonic()
        came = b"".join(self.exchange(*(Command(self.dialect.echo, bytes([byte])) for byte in data)))
        if came != data:
            raise ReplyError(f"{self._who()} echoed {len(data)} bytes as others; check its cable")
        return time.monotonic() - started

    def reopen(self, port: str | None = None) -> None:
        """Open the port again, after an unplug or a reset of the board, and resynchronise.

        Args:
            port: where the board is now; where it was, by default.

        Raises:
            LinkError: nobody answers.
            UserMistake: a port named by its USB id is not there.
            WrongInstrument: another dialect, or another USB serial number than before.
        """
        with self._lock:
            before = self._usb
            self._close_port("it could not be reopened")
            self._wanted = self._wanted if port is None else port
            self._open()
            if before.serial != self._usb.serial:
                found, self._usb = self._usb, before
                self._close_port("another board is plugged in")
                raise WrongInstrument(f"{self._who()} has the USB serial {found.serial!r}, it was {before.serial!r}")

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

    def _open(self) -> None:
        self._name = resolve_port(self._wanted)
        self._usb = usb_identity(self._name)
        self._port = SerialPort(self._name, self._baudrate, self.timeout_s + 2 * PACKET_BYTES * self._seconds_per_byte)
        try:
            self.resynchronise()
        except BaseException:
            self._close_port("the board did not answer")
            raise

    def _close_port(self, reason: str) -> None:
        self._trouble = reason
        if self._port is not None:
            self._port.close()
            self._port = None

    def _who(self) -> str:
        return f"the {self.dialect.board} at {self._name}"

    def _wire(self) -> SerialPort:
        if self._port is None:
            raise LinkError(f"{self._who()}: the link is down; reopen it (cause: {self._trouble})")
        return self._port

    def _check_emergency(self) -> None:
        if self._emergency.is_set():
            raise LinkError(f"{self._who()}: another thread takes its lines down")

    def _check_usable(self) -> None:
        self._wire()
        self._check_emergency()
        if self._trouble is None and self._receive(0.0):
            self._trouble = "bytes arrived that nobody asked for"
        if self._trouble is not None:
            raise LinkError(
                f"{self._who()}: the link is out of step; nothing was sent. Reopen it, and identify the board again "
                f"(cause: {self._trouble})"
            )

    def _fail(self, commands: Sequence[Command], answered: int, error: BenchFailure) -> NoReturn:
        # Of a call that failed, the caller must not take a device for pulsed whose turn had not come, nor the reverse.
        if _pulses(commands[: answered + 1]):
            told = f"{_pulses(commands[:answered])} of {_pulses(commands)} pulses were acknowledged, then {error}"
            raise InDoubt(told, _devices(commands)) from error
        raise error

    def _send(self, *pieces: bytes) -> None:
        port = self._wire()
        try:
            for piece in pieces:
                port.write(piece)
                self.stats.bytes_out += len(piece)
        except LinkError as error:
            self._close_port(str(error))
            raise

    def _receive(self, timeout_s: float) -> bytes:
        port = self._wire()
        try:
            data = port.read(timeout_s)
        except LinkError as error:
            self._close_port(str(error))
            raise
        self.stats.bytes_in += len(data)
        return data

    def _take(self, count: int, busy_s: float, what: str) -> bytes:
        deadline = time.monotonic() + self.timeout_s + busy_s + (count + 2 * PACKET_BYTES) * self._seconds_per_byte
        came = b""
        while len(came) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise LinkTimeout(
                    f"{self._who()} sent {len(came)} of {count} bytes {what} within {self.timeout_s + busy_s:g} s; "
                    "check its power and cable, then reopen the link"
                )
            came += self._receive(left)
        if len(came) > count:
            raise ReplyError(f"{self._who()} sent {len(came)} bytes {what} instead of {count}: {came[:40].hex(' ')}")
        return came

    def _ask(self, command: Command) -> bytes:
        code = command.code
        form = self.dialect.forms[code]
        self._send(*packets(self.dialect, code, command.payload))
        self.stats.commands += 1
        if form.reply_bytes:
            return self._take(form.reply_bytes, command.busy_s, f"in answer to {code.name}")
        wanted = acknowledgement(code)
        came = self._take(len(wanted), command.busy_s, f"to acknowledge {code.name}")
        if came != wanted:
            raise ReplyError(f"{self._who()} answered {code.name} with {came.hex(' ')} instead of {wanted.hex(' ')}")
        return b""

    def _echo(self) -> bytes:
        """Send an echo; return the byte that must come back."""
        self._fences = (self._fences + 1) % len(_FENCES)
        nonce = bytes([_FENCES[self._fences]])
        self._send(*packets(self.dialect, self.dialect.echo, nonce))
        return nonce

    def _fence(self) -> None:
        """Prove that every byte that came so far belonged to its question."""
        nonce = self._echo()
        came = self._take(1, 0.0, "of an echo")
        if came != nonce:
            raise ReplyError(
                f"{self._who()} echoed {nonce.hex()} as {came.hex()}: bytes were lost or doubled; reopen the link"
            )

    def _settle(self) -> None:
        """Find the place in the conversation by echoes, and have every command acknowledged from there on."""
        self._send(FILLER)
        self._drain()
        exact = silent = 0
        for _ in range(_ECHOES):
            nonce = self._echo()
            came = self._receive(self.timeout_s + 2 * PACKET_BYTES * self._seconds_per_byte)
            if came == nonce:
                exact += 1
                if exact == _IN_A_ROW:
                    self._ask(Command(self.dialect.ack_mode, integers(self.dialect.ack_all)))
                    self._fence()
                    return
                continue
            exact = 0
            silent += not came
            if acknowledgement(self.dialect.echo) in came:
                # To the other dialect our echo is its ACK_MODE, and it acknowledges.
                raise WrongInstrument(
                    f"{self._who()} does not echo but acknowledges: a board of the other C2N dialect is plugged in; "
                    "correct the bench file or change the board"
                )
            if silent == _SILENCES:
                raise LinkTimeout(
                    f"{self._who()} does not echo ({silent} times within {self.timeout_s:g} s); is it powered, is it "
                    "the right port and the right board, and does its own client answer?"
                )
            self._drain()
        raise ReplyError(f"{self._who()} does not echo what it is sent, {_ECHOES} times; check the port and the cable")

    def _drain(self) -> None:
        """Throw away what still comes."""
        deadline = time.monotonic() + self.timeout_s + QUIET_S
        while self._receive(QUIET_S):
            if time.monotonic() > deadline:
                raise LinkError(f"{self._who()} does not stop sending; unplug it, then reopen the link")


def _pulses(commands: Sequence[Command]) -> int:
    return sum(command.devices is not None for command in commands)


def _devices(commands: Sequence[Command]) -> list[tuple[int, int, int]]:
    # The same command often comes many times.
    masks = {id(command.devices): command.devices for command in commands if command.devices is not None}
    return device_indices(list(masks.values()))


def open_c2n(port: str, dialect: Dialect, baudrate: int = 921600, timeout_s: float = 1.0) -> C2NLink:
    """Open a board's serial port for us alone, and find the place in the conversation.

    Args:
        port: device name, pseudo-terminal, pyserial URL, or ``usb:5740`` for the one board with that product id.
        dialect: ``TERNARY`` or ``COLUMN``; a board cannot be asked which of them it speaks.
        baudrate: bit/s; nominal, as the boards are on USB.
        timeout_s: how long the board may be silent beyond what its work and the wire take, 1 ms to 60 s.

    Raises:
        LinkError: the port cannot be opened, another program holds it, or nobody answers.
        UserMistake: no such port, or several boards with that product id.
        WrongInstrument: a board of the other dialect answers.
    """
    return C2NLink(port, dialect, baudrate, timeout_s)
