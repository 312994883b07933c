"""The firmware of the simulated controller board: frames in, frames out, one object per power-up.

It follows ``docs/board-protocol.md`` to the letter. It knows nothing of ports: whoever runs it brings the frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from drivers.framed.codec import Frame, FrameError, encode
from drivers.framed.messages import (
    MAX_TEXT_BYTES,
    RESPONSE,
    SINCE,
    UNNUMBERED,
    VERSIONS,
    Counters,
    Cycle,
    DirectConnect,
    Hello,
    Opcode,
    PayloadError,
    Pulse,
    Sense,
    Status,
    Watchdog,
    Welcome,
    Xnor,
    pack_sensed,
    pack_sums,
)
from models.cells import Geometry

if TYPE_CHECKING:
    from drivers.simulated.world import World

WITHOUT_SESSION = frozenset({Opcode.HELLO, Opcode.PING, Opcode.STATUS, Opcode.OUTPUTS_LOW})
STOPPED_BY_WATCHDOG = frozenset({Opcode.PULSE, Opcode.SENSE, Opcode.XNOR, Opcode.CYCLE, Opcode.DIRECT_CONNECT})


@dataclass(frozen=True)
class BoardProperties:
    """What a board says of itself; see :class:`drivers.framed.messages.Welcome`."""

    versions: tuple[int, int] = VERSIONS
    window: int = 32
    max_payload: int = 4160
    max_busy_ms: int = 100
    setup_ns: int = 1000
    manufacturer: str = "rram-bench"
    model: str = "simulated controller board"
    serial: str = "SIM-BOARD-1"
    firmware: str = "1.0"


@dataclass
class _Session:
    """One session: what the board remembers of it.

    Attributes:
        replies: request and encoded reply of the last ``window`` sequence numbers.
    """

    number: int
    nonce: int
    version: int
    replies: dict[int, tuple[Frame, bytes]]
    expected: int = 1


class BoardFirmware:
    """The board from power-up to power-down.

    Args:
        world: rails, pads and chip that it acts on.
        properties: what it says of itself.
        boot_id: random at every power-up.
        first_session: id of its first session, random at every power-up.
        clock: seconds on a clock that never goes back.
    """

    def __init__(
        self,
        world: World,
        properties: BoardProperties,
        boot_id: int,
        first_session: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._world = world
        self._properties = properties
        self._boot_id = boot_id
        self._next_session = first_session
        self._session: _Session | None = None
        self._pulses = self._senses = self._refused = 0
        self._timeout_s = 0.0
        self._heard_at = 0.0
        self._tripped = False
        self._connected = False
        self.lines_low()

    @property
    def watchdog_due(self) -> float | None:
        """When the watchdog trips if nothing is heard until then; None while it is not armed."""
        return self._heard_at + self._timeout_s if self._timeout_s > 0 and not self._tripped else None

    def tick(self) -> None:
        """Let the watchdog look at the clock."""
        due = self.watchdog_due
        if due is not None and self._clock() >= due:
            self._tripped = True
            self.lines_low()

    def lines_low(self) -> None:
        """All lines low, direct access disconnected."""
        with self._world.lock:
            self._world.chip.disconnect()
        self._connected = False

    def handle(self, received: Frame | FrameError) -> bytes:
        """Act on one received frame; return the encoded reply, empty for none."""
        self.tick()
        if isinstance(received, FrameError):
            self._refused += 1
            expected = 0 if self._session is None else self._session.expected
            body = bytes([Status.BAD_FRAME]) + expected.to_bytes(2, "little")
            return encode(Frame(UNNUMBERED, UNNUMBERED, 0, Opcode.BAD_FRAME | RESPONSE, body))
        if received.opcode & RESPONSE:
            # Our own reply, looped back by a crossed cable: answering it would never end.
            self._refused += 1
            return b""
        reply = self._answer(received)
        self._heard_at = self._clock()
        return reply

    def _answer(self, frame: Frame) -> bytes:
        if frame.opcode == Opcode.HELLO or (frame.session == UNNUMBERED and frame.opcode in WITHOUT_SESSION):
            return self._reply(frame, *self._execute(frame))
        session = self._session
        if session is None or frame.session != session.number:
            self._refused += 1
            return self._reply(frame, Status.NO_SESSION, self._boot_id.to_bytes(4, "little"))
        if frame.version != session.version:
            self._refused += 1
            return self._reply(frame, Status.VERSION, bytes(self._properties.versions))
        if frame.sequence in session.replies:
            request, reply = session.replies[frame.sequence]
            if request == frame:
                return reply
            self._refused += 1
            return self._reply(frame, Status.MISMATCH)
        if frame.sequence != session.expected:
            self._refused += 1
            return self._reply(frame, Status.OUT_OF_ORDER, session.expected.to_bytes(2, "little"))
        reply = self._reply(frame, *self._execute(frame))
        session.replies[frame.sequence] = (frame, reply)
        session.replies.pop((frame.sequence - self._properties.window) & 0xFFFF, None)
        session.expected = (session.expected + 1) & 0xFFFF
        return reply

    def _reply(self, frame: Frame, status: int, body: bytes = b"") -> bytes:
        return encode(frame._replace(opcode=frame.opcode | RESPONSE, payload=bytes([status]) + body))

    def _execute(self, frame: Frame) -> tuple[Status, bytes]:
        if frame.version < SINCE.get(frame.opcode, 1) and frame.session != UNNUMBERED:
            return Status.UNKNOWN_OPCODE, b""
        if self._tripped and frame.opcode in STOPPED_BY_WATCHDOG:
            return Status.WATCHDOG, b""
        try:
            return self._run(frame.opcode, frame.payload)
        except PayloadError as error:
            return error.status, _text(str(error))
        except Exception as error:
            # A board whose chip fails still answers: the host must not wait for nothing.
            return Status.FAULT, _text(f"{type(error).__name__}: {error}")

    def _run(self, opcode: int, payload: bytes) -> tuple[Status, bytes]:
        match opcode:
            case Opcode.HELLO:
                return self._hello(Hello.unpack(payload))
            case Opcode.PING:
                if len(payload) >= self._properties.max_payload:
                    raise PayloadError(Status.BAD_LENGTH, f"PING: {len(payload)} bytes and a status are too long")
                return Status.OK, payload
            case Opcode.WATCHDOG:
                self._timeout_s = Watchdog.unpack(payload).timeout_ms * 1e-3
                self._tripped = False
                return Status.OK, b""
            case Opcode.PULSE:
                return self._pulse(Pulse.unpack(payload, self._geometry))
            case Opcode.CYCLE:
                return self._cycle(Cycle.unpack(payload, self._geometry))
            case Opcode.SENSE:
                return self._sense(Sense.unpack(payload))
            case Opcode.XNOR:
                return self._xnor(Xnor.unpack(payload, self._geometry))
            case Opcode.DIRECT_CONNECT:
                return self._connect(DirectConnect.unpack(payload, self._geometry))
            case Opcode.STATUS | Opcode.OUTPUTS_LOW | Opcode.DIRECT_DISCONNECT:
                if payload:
                    raise PayloadError(Status.BAD_LENGTH, f"{Opcode(opcode).name}: a payload where none belongs")
                return self._simple(opcode)
        return Status.UNKNOWN_OPCODE, b""

    @property
    def _geometry(self) -> Geometry:
        return self._world.chip.geometry

    def _hello(self, hello: Hello) -> tuple[Status, bytes]:
        lowest, highest = self._properties.versions
        version = min(hello.highest, highest)
        if version < max(hello.lowest, lowest):
            return Status.VERSION, hello.nonce.to_bytes(8, "little") + bytes((lowest, highest))
        if self._session is None or self._session.nonce != hello.nonce:
            self.lines_low()
            self._timeout_s, self._tripped = 0.0, False
            self._session = _Session(self._next_session, hello.nonce, version, {})
            self._next_session = self._next_session % 0xFFFF + 1
        own = self._properties
        welcome = Welcome(
            hello.nonce,
            self._session.version,
            self._session.number,
            self._boot_id,
            own.window,
            own.max_payload,
            own.max_busy_ms,
            own.setup_ns,
            *self._geometry,
            own.manufacturer,
            own.model,
            own.serial,
            own.firmware,
            self._world.chip.chip_id,
        )
        return Status.OK, welcome.pack()

    def _simple(self, opcode: int) -> tuple[Status, bytes]:
        if opcode == Opcode.STATUS:
            watchdog = Counters.TRIPPED if self._tripped else int(self._timeout_s > 0)
            lines = int(self._connected)
            return Status.OK, Counters(self._pulses, self._senses, self._refused, watchdog, lines).pack()
        self.lines_low()
        return Status.OK, b""

    def _pulse(self, pulse: Pulse) -> tuple[Status, bytes]:
        self._check_busy(pulse.busy_ns(self._properties.setup_ns))
        with self._world.lock:
            rails = self._world.rails
            self._world.chip.pulse(pulse.polarity, pulse.devices, pulse.width_ns * 1e-9, pulse.count, rails)
        self._pulses += int(np.count_nonzero(pulse.devices)) * pulse.count
        return Status.OK, b""

    def _cycle(self, cycle: Cycle) -> tuple[Status, bytes]:
        self._check_busy(cycle.busy_ns(self._properties.setup_ns))
        widths_s = cycle.set_width_ns * 1e-9, cycle.reset_width_ns * 1e-9
        with self._world.lock:
            self._world.chip.cycle(cycle.devices, *widths_s, cycle.count, self._world.rails)
        self._pulses += 2 * int(np.count_nonzero(cycle.devices)) * cycle.count
        return Status.OK, b""

    def _sense(self, sense: Sense) -> tuple[Status, bytes]:
        self._check_busy(sense.busy_ns(self._geometry, self._properties.setup_ns))
        self._check_room(Sense.reply_bytes(self._geometry, sense.repeats))
        with self._world.lock:
            sensed = self._world.chip.sense(
                self._world.rails, sense.precharge_ns * 1e-9, sense.window_ns * 1e-9, sense.repeats
            )
        self._senses += sense.repeats
        return Status.OK, pack_sensed(sensed)

    def _xnor(self, xnor: Xnor) -> tuple[Status, bytes]:
        n, cols = xnor.inputs.shape
        used = Geometry(xnor.rows, cols)
        self._check_busy(xnor.busy_ns(self._properties.setup_ns))
        self._check_room(Xnor.reply_bytes(n, used))
        with self._world.lock:
            sums = self._world.chip.xnor(
                xnor.inputs, self._world.rails, xnor.precharge_ns * 1e-9, xnor.window_ns * 1e-9, used
            )
        self._senses += n
        return Status.OK, pack_sums(sums, cols)

    def _connect(self, connect: DirectConnect) -> tuple[Status, bytes]:
        with self._world.lock:
            self._world.chip.connect(connect.row, connect.col, connect.device)
        self._connected = True
        return Status.OK, b""

    def _check_busy(self, busy_ns: int) -> None:
        allowed = self._properties.max_busy_ms
        if busy_ns > allowed * 1_000_000:
            raise PayloadError(Status.BAD_ARGUMENT, f"it would take {busy_ns * 1e-6:g} ms, {allowed} ms are allowed")

    def _check_room(self, reply_bytes: int) -> None:
        allowed = self._properties.max_payload
        if reply_bytes > allowed:
            raise PayloadError(Status.BAD_ARGUMENT, f"the reply may take {reply_bytes} bytes, {allowed} are allowed")


def _text(text: str) -> bytes:
    return text.encode("ascii", errors="replace")[:MAX_TEXT_BYTES]
