"""What all simulated controller boards share: a thread, the board's end of a serial line, its speed and its faults."""

from __future__ import annotations

import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from drivers.framed.codec import BITS_PER_BYTE
from drivers.simulated.serial_line import PseudoTerminal, SerialLine, TcpPort
from models.exceptions import UserMistake

NOT_STARTED = "the simulated board is not plugged in: start it first"

Fault = Callable[[bytes], bytes]
"""Something that happens to bytes on their way: returns what arrives of them."""


class Firmware(Protocol):
    """A board from power-up to power-down, as the server sees it."""

    @property
    def watchdog_due(self) -> float | None:
        """When :meth:`tick` must be called at the latest; None for never."""

    def tick(self) -> None:
        """Let the watchdog look at the clock."""

    def lines_low(self) -> None:
        """All lines low, direct access disconnected."""


FirmwareT = TypeVar("FirmwareT", bound=Firmware)


class _Direction:
    """One direction of the line at its baud rate: bytes go in, and come out when their last bit would have."""

    def __init__(self, seconds_per_byte: float) -> None:
        self._seconds_per_byte = seconds_per_byte
        self._free_at = 0.0
        self._queue: deque[tuple[float, bytes]] = deque()

    @property
    def due(self) -> float | None:
        """When the next bytes come out; None when there are none."""
        return self._queue[0][0] if self._queue else None

    def put(self, data: bytes, now: float) -> None:
        if data:
            self._free_at = max(self._free_at, now) + len(data) * self._seconds_per_byte
            self._queue.append((self._free_at, data))

    def take(self, now: float) -> bytes:
        arrived = []
        while self._queue and self._queue[0][0] <= now:
            arrived.append(self._queue.popleft()[1])
        return b"".join(arrived)

    def clear(self) -> None:
        self._queue.clear()


class SimulatedBoardServer(ABC, Generic[FirmwareT]):
    """A simulated controller board, in a thread of its own, at the end of a serial line.

    Start it, open :attr:`port` with any client of its protocol, stop it. Do not hold the world's lock while calling its
    methods.

    Args:
        transport: "pty" (POSIX) or "tcp".
        baud: serial speed to honour in bit/s, both directions at once; None for as fast as it goes.

    Attributes:
        to_board, to_host: what happens to bytes on their way in each direction, in pieces of at most one frame; None
            for a perfect line. A fault may itself reset or unplug the board.

    Raises:
        UserMistake: no such transport or baud rate.
    """

    def __init__(self, transport: str = "pty", baud: int | None = None) -> None:
        if transport not in ("pty", "tcp"):
            raise UserMistake(f'transport of the simulated board: {transport!r} is refused; "pty" or "tcp" is allowed')
        if baud is not None and baud <= 0:
            raise UserMistake(f"baud rate of the simulated board: {baud} is refused; it must be above 0")
        self.to_board: Fault | None = None
        self.to_host: Fault | None = None
        self._transport = transport
        seconds_per_byte = 0.0 if baud is None else BITS_PER_BYTE / baud
        self._inward, self._outward = _Direction(seconds_per_byte), _Direction(seconds_per_byte)
        self._unsent = b""
        self._firmware: FirmwareT | None = None
        self._line: SerialLine | None = None
        self._tcp_number = 0
        self._thread: threading.Thread | None = None
        self._commands: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._stopping = False
        self._readable: set[int] = set()

    @abstractmethod
    def _new_firmware(self) -> FirmwareT:
        """Power the board up."""

    @abstractmethod
    def _replies(self, firmware: FirmwareT, data: bytes) -> Iterator[bytes]:
        """Feed received bytes to the firmware; yield its replies one by one, each as soon as it has acted."""

    @abstractmethod
    def _forget_received(self) -> None:
        """Forget half a frame: the line was cut."""

    @staticmethod
    @abstractmethod
    def _pieces(data: bytes) -> list[bytes]:
        """Cut received bytes where a frame or packet ends, so that one is there before the next has arrived."""

    @property
    def port(self) -> str:
        """What a client opens: "/dev/pts/N" or "socket://127.0.0.1:PORT"."""
        if self._line is None:
            raise UserMistake(NOT_STARTED)
        return self._line.port

    def start(self) -> None:
        """Power the board and plug it in. Starting twice is harmless."""
        if self._thread is not None:
            return
        self._stopping = False
        self._power_up()
        self._plug()
        self._waker, self._wake = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="simulated-board", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Unplug the board and take its power away. Stopping twice is harmless."""
        if self._thread is None:
            return
        self._stopping = True
        self._wake.send(b"!")
        self._thread.join()
        self._thread = None
        self._unplug()
        self._power_down()
        self._waker.close()
        self._wake.close()

    def reset(self) -> None:
        """Take the board's power away for a moment: it forgets everything but its serial number."""
        self._in_thread(self._power_up)

    def unplug(self) -> None:
        """Pull the cable; the board stays powered."""
        self._in_thread(self._unplug)

    def plug(self) -> None:
        """Put the cable back. A pseudo-terminal may come back under another name, as USB ports do."""
        self._in_thread(self._plug)

    def _in_thread(self, action: Callable[[], None]) -> None:
        if self._thread is None:
            raise UserMistake(NOT_STARTED)
        if threading.current_thread() is self._thread:  # called by a fault
            action()
            return
        done = threading.Event()
        self._commands.append((action, done))
        self._wake.send(b"!")
        done.wait()

    def _power_up(self) -> None:
        self._firmware = self._new_firmware()
        self._forget_line()

    def _power_down(self) -> None:
        if self._firmware is not None:
            self._firmware.lines_low()
            self._firmware = None

    def _plug(self) -> None:
        if self._line is None:
            if self._transport == "pty":
                self._line = PseudoTerminal()
            else:
                self._line = tcp = TcpPort(self._tcp_number)
                self._tcp_number = tcp.number
            self._forget_line()

    def _unplug(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
            self._forget_line()

    def _forget_line(self) -> None:
        self._inward.clear()
        self._outward.clear()
        self._unsent = b""
        self._forget_received()

    def _serve(self) -> None:
        while not self._stopping:
            while self._commands:
                action, done = self._commands.popleft()
                action()
                done.set()
            self._wait()
            if self._firmware is not None:
                self._firmware.tick()
            self._receive()
            self._act()
            self._send()

    def _wait(self) -> None:
        line, firmware = self._line, self._firmware
        readers = [self._waker.fileno()] if line is None else [self._waker.fileno(), line.reader]
        # A pseudo-terminal or socket with room is always ready to write: only ask when something is waiting for room.
        writers = [line.reader] if line is not None and line.connected and self._unsent else []
        dues = [self._inward.due, self._outward.due, None if firmware is None else firmware.watchdog_due]
        due = min((moment for moment in dues if moment is not None), default=None)
        timeout = None if due is None else max(0.0, due - time.monotonic())
        self._readable = set(select.select(readers, writers, [], timeout)[0])
        if self._waker.fileno() in self._readable:
            self._waker.recv(64)

    def _receive(self) -> None:
        line = self._line
        if line is None or line.reader not in self._readable:
            return
        was_connected = line.connected
        data = line.receive()
        if line.connected != was_connected:
            # Replies to the client that has gone reach nobody; its requests, once sent, still count.
            self._outward.clear()
            self._unsent = b""
        now = time.monotonic()
        for piece in self._pieces(data):
            self._inward.put(piece if self.to_board is None else self.to_board(piece), now)

    def _act(self) -> None:
        firmware, data = self._firmware, self._inward.take(time.monotonic())
        if firmware is None:
            return
        replies = self._replies(firmware, data)
        # A fault may take the power away or reset the board between two replies: the rest of the bytes goes with it.
        while self._firmware is firmware:
            reply = next(replies, None)
            if reply is None:
                return
            if reply and self.to_host is not None:
                reply = self.to_host(reply)
            self._outward.put(reply, time.monotonic())
            self._send()

    def _send(self) -> None:
        self._unsent += self._outward.take(time.monotonic())
        if self._unsent and self._line is not None:
            self._unsent = self._unsent[self._line.send(self._unsent) :]
