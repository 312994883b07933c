"""The controller board of the simulated bench: the firmware at the end of a serial line."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from drivers.framed.codec import BITS_PER_BYTE, TERMINATOR, Deframer
from drivers.simulated.firmware import BoardFirmware, BoardProperties
from drivers.simulated.serial_line import PseudoTerminal, SerialLine, TcpPort
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from drivers.simulated.world import World

NOT_STARTED = "the simulated board is not plugged in: start it first"

Fault = Callable[[bytes], bytes]
"""Something that happens to bytes on their way: returns what arrives of them."""


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


class BoardServer:
    """A simulated controller board, in a thread of its own, at the end of a serial line.

    Start it, open :attr:`port` with any client of the framed protocol, stop it. Do not hold ``world.lock`` while
    calling its methods.

    Args:
        world: rails, pads and chip that it acts on.
        transport: "pty" (POSIX) or "tcp".
        baud: serial speed to honour in bit/s, both directions at once; None for as fast as it goes.
        seed: of the random ids that it draws at each power-up.
        properties: what the board says of itself.

    Attributes:
        to_board, to_host: what happens to bytes on their way in each direction, in pieces of at most one frame; None
            for a perfect line. A fault may itself reset or unplug the board.

    Raises:
        UserMistake: no such transport or baud rate.
    """

    def __init__(
        self,
        world: World,
        transport: str = "pty",
        baud: int | None = None,
        seed: int = 0,
        properties: BoardProperties | None = None,
    ) -> None:
        if transport not in ("pty", "tcp"):
            raise UserMistake(f'transport of the simulated board: {transport!r} is refused; "pty" or "tcp" is allowed')
        if baud is not None and baud <= 0:
            raise UserMistake(f"baud rate of the simulated board: {baud} is refused; it must be above 0")
        self.to_board: Fault | None = None
        self.to_host: Fault | None = None
        self._world = world
        self._transport = transport
        self._properties = BoardProperties() if properties is None else properties
        self._rng = np.random.default_rng(seed)
        seconds_per_byte = 0.0 if baud is None else BITS_PER_BYTE / baud
        self._inward, self._outward = _Direction(seconds_per_byte), _Direction(seconds_per_byte)
        self._unsent = b""
        self._deframer = Deframer(self._properties.max_payload)
        self._firmware: BoardFirmware | None = None
        self._line: SerialLine | None = None
        self._tcp_number = 0
        self._thread: threading.Thread | None = None
        self._commands: deque[tuple[Callable[[], None], threading.Event]] = deque()
        self._stopping = False
        self._readable: set[int] = set()

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
        boot_id, first_session = (int(self._rng.integers(1, high)) for high in (1 << 32, 1 << 16))
        self._firmware = BoardFirmware(self._world, self._properties, boot_id, first_session)
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
        self._deframer = Deframer(self._properties.max_payload)

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
        for piece in _pieces(data):
            self._inward.put(piece if self.to_board is None else self.to_board(piece), now)

    def _act(self) -> None:
        firmware = self._firmware
        for item in self._deframer.feed(self._inward.take(time.monotonic())):
            if firmware is None or firmware is not self._firmware:
                return  # without power, or reset since these bytes came
            reply = firmware.handle(item)
            if reply and self.to_host is not None:
                reply = self.to_host(reply)
            self._outward.put(reply, time.monotonic())
            self._send()

    def _send(self) -> None:
        self._unsent += self._outward.take(time.monotonic())
        if self._unsent and self._line is not None:
            self._unsent = self._unsent[self._line.send(self._unsent) :]


def _pieces(data: bytes) -> list[bytes]:
    """Cut received bytes after each terminator, so that a frame is there before the next has arrived."""
    *whole, rest = data.split(TERMINATOR)
    return [piece + TERMINATOR for piece in whole] + [rest]
