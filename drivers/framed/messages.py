"""What the frames say: opcodes, status codes, and the payload of each message, for both ends of the link.

``docs/board-protocol.md`` is the specification. Every ``unpack`` checks the length and each value of what it is given
and raises :class:`PayloadError` with the status code that a board answers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from drivers.framed.bits import pack_bits, pack_devices, plane_bytes, unpack_bits, unpack_devices
from models.cells import Device, DeviceMask, Geometry, Polarity

VERSIONS = (1, 2)
"""Lowest and highest protocol version that this code speaks."""

UNNUMBERED = 0
"""Session id, and protocol version, of a frame that belongs to no session."""

RESPONSE = 0x80
"""Bit that a reply sets in the opcode of its request."""

SMALL_SUM_COLS = 127
"""Up to so many columns, an XNOR sum travels as one signed byte; beyond, as two."""


class Opcode(IntEnum):
    """What a request asks for."""

    HELLO = 0x01
    PING = 0x02
    STATUS = 0x03
    WATCHDOG = 0x04
    OUTPUTS_LOW = 0x05
    PULSE = 0x10
    SENSE = 0x11
    XNOR = 0x12
    CYCLE = 0x13
    DIRECT_CONNECT = 0x20
    DIRECT_DISCONNECT = 0x21
    BAD_FRAME = 0x7F


SINCE: Mapping[int, int] = {Opcode.CYCLE: 2}
"""Protocol version that brought an opcode; all others are in version 1."""


class Status(IntEnum):
    """First payload byte of every reply."""

    OK = 0
    BAD_LENGTH = 1
    BAD_ARGUMENT = 2
    UNKNOWN_OPCODE = 3
    WATCHDOG = 4
    NO_SESSION = 5
    OUT_OF_ORDER = 6
    VERSION = 7
    BAD_FRAME = 8
    MISMATCH = 9
    FAULT = 10


MEANING = {
    Status.BAD_LENGTH: "the payload has the wrong length",
    Status.BAD_ARGUMENT: "a value is out of range",
    Status.UNKNOWN_OPCODE: "this firmware does not know the request",
    Status.WATCHDOG: "the watchdog has tripped; set it again before any pulse or sense",
    Status.NO_SESSION: "the board knows no such session",
    Status.OUT_OF_ORDER: "the request is not the next in sequence",
    Status.VERSION: "the board does not speak this protocol version",
    Status.BAD_FRAME: "the frame arrived damaged",
    Status.MISMATCH: "the sequence number was used for another request",
    Status.FAULT: "the board failed while it carried out the request",
}
"""What each refusal means, for an error message."""


MAX_TEXT_BYTES = 120
"""Longest explanation that a board adds to a refusal."""


class PayloadError(ValueError):
    """A payload that is not what its opcode allows.

    Attributes:
        status: what a board answers to it.
    """

    def __init__(self, status: Status, text: str) -> None:
        self.status = status
        super().__init__(text)


def _require_length(payload: bytes, size: int, what: str) -> None:
    if len(payload) != size:
        raise PayloadError(Status.BAD_LENGTH, f"{what}: {len(payload)} bytes instead of {size}")


def _unpack(layout: struct.Struct, payload: bytes, what: str) -> tuple[int, ...]:
    _require_length(payload, layout.size, what)
    return layout.unpack(payload)


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise PayloadError(Status.BAD_ARGUMENT, text)


@dataclass(frozen=True)
class Hello:
    """HELLO: open a session, or ask again about the one that this nonce opened."""

    nonce: int
    lowest: int
    highest: int

    LAYOUT: ClassVar = struct.Struct("<QBB")

    def pack(self) -> bytes:
        """Return the payload."""
        return self.LAYOUT.pack(self.nonce, self.lowest, self.highest)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Parse a payload."""
        message = cls(*_unpack(cls.LAYOUT, payload, "HELLO"))
        _require(1 <= message.lowest <= message.highest, "HELLO: the range of versions is empty")
        return message


@dataclass(frozen=True)
class Welcome:
    """Reply to HELLO: the session, and all that the host must know about the board.

    Attributes:
        window: requests that may be in flight.
        max_payload: longest payload in either direction, in bytes.
        max_busy_ms: longest time that one request may keep the board busy.
        setup_ns: time that the board adds to each pulse of a device and to each sensed row, at most.
    """

    nonce: int
    version: int
    session: int
    boot_id: int
    window: int
    max_payload: int
    max_busy_ms: int
    setup_ns: int
    rows: int
    cols: int
    manufacturer: str
    model: str
    serial: str
    firmware: str
    chip_id: str

    LAYOUT: ClassVar = struct.Struct("<QBHIBHIIHH")

    @property
    def geometry(self) -> Geometry:
        """Size of the array in cells."""
        return Geometry(self.rows, self.cols)

    def pack(self) -> bytes:
        """Return the payload after the status code."""
        numbers = (self.nonce, self.version, self.session, self.boot_id, self.window, self.max_payload)
        timing = (self.max_busy_ms, self.setup_ns, self.rows, self.cols)
        texts = (self.manufacturer, self.model, self.serial, self.firmware, self.chip_id)
        encoded = [text.encode("ascii") for text in texts]
        return self.LAYOUT.pack(*numbers, *timing) + b"".join(bytes([len(text)]) + text for text in encoded)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Parse a payload after the status code."""
        numbers = _unpack(cls.LAYOUT, payload[: cls.LAYOUT.size], "reply to HELLO")
        texts: list[str] = []
        at = cls.LAYOUT.size
        while at < len(payload):
            end = at + 1 + payload[at]
            texts.append(payload[at + 1 : end].decode("ascii", errors="replace"))
            at = end
        if at != len(payload) or len(texts) != 5:
            raise PayloadError(Status.BAD_LENGTH, "reply to HELLO: five texts expected after the numbers")
        message = cls(*numbers, *texts)  # type: ignore[arg-type]
        _require(min(message.session, message.window, message.rows, message.cols) > 0, "reply to HELLO: a zero field")
        return message


@dataclass(frozen=True)
class Counters:
    """Reply to STATUS.

    Attributes:
        watchdog: 0 off, 1 armed, 2 tripped.
        lines: bit 0: a device is connected to the direct-access pads; bit 1: a line of the array is not low.
    """

    pulses: int
    senses: int
    frames_refused: int
    watchdog: int
    lines: int

    TRIPPED: ClassVar = 2
    LAYOUT: ClassVar = struct.Struct("<QQIBB")

    def pack(self) -> bytes:
        """Return the payload after the status code."""
        return self.LAYOUT.pack(self.pulses, self.senses, self.frames_refused, self.watchdog, self.lines)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Parse a payload after the status code."""
        return cls(*_unpack(cls.LAYOUT, payload, "reply to STATUS"))


@dataclass(frozen=True)
class Watchdog:
    """WATCHDOG: take the lines down when the host is silent for so long; 0 switches it off. Clears a trip."""

    timeout_ms: int

    LAYOUT: ClassVar = struct.Struct("<I")

    def pack(self) -> bytes:
        """Return the payload."""
        return self.LAYOUT.pack(self.timeout_ms)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Parse a payload."""
        return cls(*_unpack(cls.LAYOUT, payload, "WATCHDOG"))


@dataclass(frozen=True, eq=False)
class Pulse:
    """PULSE: ``count`` pulses on each selected device, cell after cell in row-major order, BL before BLb.

    Attributes:
        devices: ``(rows, cols, 2)`` bool, BL first.
    """

    polarity: Polarity
    width_ns: int
    count: int
    devices: DeviceMask

    LAYOUT: ClassVar = struct.Struct("<BII")

    def pack(self) -> bytes:
        """Return the payload: the numbers, the BL plane, the BLb plane."""
        return self.LAYOUT.pack(self.polarity, self.width_ns, self.count) + pack_devices(self.devices)

    @classmethod
    def unpack(cls, payload: bytes, geometry: Geometry) -> Self:
        """Parse a payload for an array of ``geometry``."""
        _require_length(payload, cls.LAYOUT.size + 2 * plane_bytes(geometry.cells), "PULSE")
        polarity, width_ns, count = cls.LAYOUT.unpack_from(payload)
        _require(polarity in (Polarity.RESET, Polarity.SET), f"PULSE: polarity {polarity}")
        _require(width_ns > 0 and count > 0, "PULSE: width and count must not be 0")
        return cls(Polarity(polarity), width_ns, count, unpack_devices(payload[cls.LAYOUT.size :], geometry))

    def busy_ns(self, setup_ns: int) -> int:
        """How long a board is busy with it, in ns."""
        return int(np.count_nonzero(self.devices)) * self.count * (self.width_ns + setup_ns)


@dataclass(frozen=True, eq=False)
class Cycle:
    """CYCLE: ``count`` times a SET and a RESET pulse on each selected device, in the order of PULSE.

    Attributes:
        devices: ``(rows, cols, 2)`` bool, BL first.
    """

    set_width_ns: int
    reset_width_ns: int
    count: int
    devices: DeviceMask

    LAYOUT: ClassVar = struct.Struct("<III")

    def pack(self) -> bytes:
        """Return the payload: the numbers, the BL plane, the BLb plane."""
        return self.LAYOUT.pack(self.set_width_ns, self.reset_width_ns, self.count) + pack_devices(self.devices)

    @classmethod
    def unpack(cls, payload: bytes, geometry: Geometry) -> Self:
        """Parse a payload for an array of ``geometry``."""
        _require_length(payload, cls.LAYOUT.size + 2 * plane_bytes(geometry.cells), "CYCLE")
        set_ns, reset_ns, count = cls.LAYOUT.unpack_from(payload)
        _require(min(set_ns, reset_ns, count) > 0, "CYCLE: widths and count must not be 0")
        return cls(set_ns, reset_ns, count, unpack_devices(payload[cls.LAYOUT.size :], geometry))

    def busy_ns(self, setup_ns: int) -> int:
        """How long a board is busy with it, in ns."""
        each_ns = self.set_width_ns + self.reset_width_ns + 2 * setup_ns
        return int(np.count_nonzero(self.devices)) * self.count * each_ns


@dataclass(frozen=True)
class Sense:
    """SENSE: read the whole array ``repeats`` times."""

    precharge_ns: int
    window_ns: int
    repeats: int

    LAYOUT: ClassVar = struct.Struct("<IIH")

    def pack(self) -> bytes:
        """Return the payload."""
        return self.LAYOUT.pack(self.precharge_ns, self.window_ns, self.repeats)

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Parse a payload."""
        message = cls(*_unpack(cls.LAYOUT, payload, "SENSE"))
        _require(min(message.precharge_ns, message.window_ns, message.repeats) > 0, "SENSE: no field may be 0")
        return message

    def busy_ns(self, geometry: Geometry, setup_ns: int) -> int:
        """How long a board is busy with it, in ns."""
        return self.repeats * geometry.rows * (self.precharge_ns + self.window_ns + setup_ns)

    @staticmethod
    def reply_bytes(geometry: Geometry, repeats: int) -> int:
        """Longest reply payload, status code included."""
        return 2 + repeats * 2 * plane_bytes(geometry.cells)


def pack_sensed(sensed: NDArray[np.int8]) -> bytes:
    """Reply to SENSE after the status code: ``(repeats, rows, cols)`` of -1, 0, +1.

    When no cell of any repeat is undecided, the Qb planes say nothing new and are left out.
    """
    flat = sensed.reshape(len(sensed), -1)
    if flat.all():
        return b"\1" + pack_bits(flat > 0)
    return b"\2" + pack_bits(np.stack([flat > 0, flat < 0], axis=1))


def unpack_sensed(payload: bytes, repeats: int, geometry: Geometry) -> NDArray[np.int8]:
    """Parse the reply to SENSE after the status code: ``(repeats, rows, cols)`` of -1, 0, +1."""
    planes = payload[0] if payload else 0
    size = 1 + repeats * planes * plane_bytes(geometry.cells)
    if planes not in (1, 2) or len(payload) != size:
        raise PayloadError(Status.BAD_LENGTH, f"reply to SENSE: {len(payload)} bytes, {planes} planes")
    bits = unpack_bits(payload[1:], repeats * planes, geometry.cells).reshape(repeats, planes, *geometry)
    q, qb = (bits[:, 0], ~bits[:, 0]) if planes == 1 else (bits[:, 0], bits[:, 1])
    _require(not (q & qb).any(), "reply to SENSE: a cell has both Q and Qb")
    return q.astype(np.int8) - qb.astype(np.int8)


@dataclass(frozen=True, eq=False)
class Xnor:
    """XNOR: input vectors against the upper left cells of the array.

    Attributes:
        inputs: ``(n, cols)`` int8 of -1 and +1.
        rows: how many rows take part; as many columns as the inputs have.
    """

    precharge_ns: int
    window_ns: int
    rows: int
    inputs: NDArray[np.int8]

    LAYOUT: ClassVar = struct.Struct("<IIHHH")

    def pack(self) -> bytes:
        """Return the payload."""
        n, cols = self.inputs.shape
        return self.LAYOUT.pack(self.precharge_ns, self.window_ns, self.rows, cols, n) + pack_bits(self.inputs > 0)

    @classmethod
    def unpack(cls, payload: bytes, geometry: Geometry) -> Self:
        """Parse a payload for an array of ``geometry``."""
        precharge_ns, window_ns, rows, cols, n = _unpack(cls.LAYOUT, payload[: cls.LAYOUT.size], "XNOR")
        _require(min(precharge_ns, window_ns, rows, cols, n) > 0, "XNOR: no field may be 0")
        _require(rows <= geometry.rows and cols <= geometry.cols, f"XNOR: {rows} x {cols} cells are not in the array")
        packed = payload[cls.LAYOUT.size :]
        if len(packed) != n * plane_bytes(cols):
            raise PayloadError(Status.BAD_LENGTH, f"XNOR: {len(packed)} bytes of inputs for {n} vectors of {cols}")
        inputs = np.where(unpack_bits(packed, n, cols), 1, -1).astype(np.int8)
        return cls(precharge_ns, window_ns, rows, inputs)

    def busy_ns(self, setup_ns: int) -> int:
        """How long a board is busy with it, in ns."""
        return len(self.inputs) * self.rows * (self.precharge_ns + self.window_ns + setup_ns)

    @classmethod
    def request_bytes(cls, n: int, cols: int) -> int:
        """Length of the request's payload."""
        return cls.LAYOUT.size + n * plane_bytes(cols)

    @staticmethod
    def reply_bytes(n: int, used: Geometry) -> int:
        """Length of the reply's payload, status code included."""
        return 1 + n * used.rows * _sum_type(used.cols).itemsize


def _sum_type(cols: int) -> np.dtype[np.signedinteger]:
    return np.dtype("i1") if cols <= SMALL_SUM_COLS else np.dtype("<i2")


def pack_sums(sums: NDArray[np.int16], cols: int) -> bytes:
    """Reply to XNOR after the status code: ``(n, rows)`` of agreements minus disagreements over ``cols`` columns."""
    return sums.astype(_sum_type(cols)).tobytes()


def unpack_sums(payload: bytes, n: int, used: Geometry) -> NDArray[np.int16]:
    """Parse the reply to XNOR after the status code: ``(n, rows)``."""
    if len(payload) != Xnor.reply_bytes(n, used) - 1:
        raise PayloadError(Status.BAD_LENGTH, f"reply to XNOR: {len(payload)} bytes for {n} x {used.rows} sums")
    sums = np.frombuffer(payload, dtype=_sum_type(used.cols)).astype(np.int16).reshape(n, used.rows)
    _require(bool((np.abs(sums) <= used.cols).all()), f"reply to XNOR: a sum is beyond {used.cols} columns")
    return sums


@dataclass(frozen=True)
class DirectConnect:
    """DIRECT_CONNECT: connect one device, and no other, to the direct-access pads."""

    row: int
    col: int
    device: Device

    LAYOUT: ClassVar = struct.Struct("<HHB")

    def pack(self) -> bytes:
        """Return the payload."""
        return self.LAYOUT.pack(self.row, self.col, self.device)

    @classmethod
    def unpack(cls, payload: bytes, geometry: Geometry) -> Self:
        """Parse a payload for an array of ``geometry``."""
        row, col, device = _unpack(cls.LAYOUT, payload, "DIRECT_CONNECT")
        inside = row < geometry.rows and col < geometry.cols and device in (Device.BL, Device.BLB)
        _require(inside, f"DIRECT_CONNECT: there is no device ({row}, {col}, {device})")
        return cls(row, col, Device(device))
