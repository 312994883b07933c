"""The two public C2N dialects, byte by byte: frames, command codes, acknowledgements, and how cells are written down.

``docs/c2n-boards.md`` describes both in words. A frame is 0xAA, the command code, the payload, 0xAA; nothing is escaped
and nothing is checksummed, so that a reader must know how long the payload of each command is. Both ends use this
module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.errors import ReplyError
from models.cells import Device, DeviceMask, Geometry, Polarity, Weights

START = 0xAA
END = 0xAA
CONTINUED = 0xAB
"""Last byte of a packet that is not the last of its frame."""

PACKET_BYTES = 64
"""Most bytes that a board takes at once."""

GREETING = b"Hello, C2N!"
USB_PRODUCT_ID = 0x5740
"""USB product id of the boards' virtual serial port."""

TERNARY_GEOMETRY = Geometry(8, 8)
REGISTER_BITS = 64
MOST_GEOMETRY = Geometry(2 * REGISTER_BITS, REGISTER_BITS)
"""Largest array that the five shift registers of the 64-column board can address."""

REGISTER_BYTES = REGISTER_BITS // 8


class TernaryCommand(IntEnum):
    """Command codes of the 8 x 8 ternary board."""

    WRITE_CS = 0
    SET_ADR = 1
    SET = 2
    RESET = 3
    SENSE = 4
    SENSE_UC = 5
    CLK = 6
    CLK2 = 7
    ACK_MODE = 8
    DEBUG_ECHO = 9
    DEBUG_LED = 10


class TernarySignal(IntEnum):
    """Control signals of the 8 x 8 ternary board."""

    CBL = 0
    CBLEN = 1
    CWL = 2
    CSL = 3
    READ = 4
    BIT_IN = 5
    CLK = 6
    CLK2 = 7


class TernaryAck(IntFlag):
    """Bits of the acknowledge mask of the 8 x 8 ternary board."""

    WRITE_CS = 1
    SET_ADR = 2
    SET = 4
    RESET = 8
    CLK = 16
    CLK2 = 32


class ColumnCommand(IntEnum):
    """Command codes of the 64-column board."""

    SET_SR = 0
    FILL_SRS = 1
    SET_CS = 2
    SET_ADR_R = 3
    SET_ADR_C = 4
    GET_CTL = 5
    CLK = 6
    CLK_SR = 7
    CLK_XNOR = 8
    ACK_MODE = 9
    DEBUG_ECHO = 10
    DEBUG_LED = 11


class ColumnSignal(IntEnum):
    """Control signals of the 64-column board; CARAC_EN switches direct access on."""

    CARAC_EN = 0
    CSL = 1
    CBLEN = 2
    ACTIVATE_XNOR = 3
    SR_XNOR = 4
    CBL = 5
    CWL = 6
    READ = 7
    READ_OUT = 8


class ColumnAck(IntFlag):
    """Bits of the acknowledge mask of the 64-column board."""

    SET_SR = 1
    FILL_SRS = 2
    SET_CS = 4
    SET_ADR_R = 8
    SET_ADR_C = 16
    CLK = 32
    CLK_SR = 64
    CLK_XNOR = 128


class Register(IntEnum):
    """Shift registers of the 64-column board: even and odd word lines, source lines, bit lines and complements."""

    WLE = 0
    WLO = 1
    SL = 2
    BL = 3
    BLB = 4


class CellPulse(IntFlag):
    """Which devices of a cell a SET or RESET acts on: one byte of the mask that the command carries."""

    R = 0b10
    RB = 0b01


class SenseCode(IntEnum):
    """What a cell sensed as: one byte of the answer. The high bit is the sense with BIT_IN high, the low bit low."""

    ZERO = 0b00
    MINUS = 0b01
    PLUS = 0b10


SENSED = (0, -1, 1)
"""Weight of each :class:`SenseCode`."""


@dataclass(frozen=True)
class CommandForm:
    """What goes with a command.

    Attributes:
        payload_bytes: after the command code.
        reply_bytes: length of its answer; 0 for a command that is acknowledged instead, or not at all.
        ack: its bit in the acknowledge mask; 0 for none.
    """

    payload_bytes: int = 0
    reply_bytes: int = 0
    ack: int = 0


@dataclass(frozen=True)
class Dialect:
    """One of the two dialects.

    Attributes:
        board: name of the board, for messages.
        forms: all commands.
        ack_mode, echo, greet: the commands ACK_MODE, DEBUG_ECHO and DEBUG_LED.
        signals: the control signals, all of which are low in the safe state.
        write_signal: the command that sets one of them.
    """

    board: str
    forms: Mapping[IntEnum, CommandForm]
    ack_mode: IntEnum
    echo: IntEnum
    greet: IntEnum
    signals: type[IntEnum]
    write_signal: IntEnum

    @property
    def ack_all(self) -> int:
        """The acknowledge mask that has every bit."""
        return sum(form.ack for form in self.forms.values())


TERNARY = Dialect(
    "8 x 8 ternary board",
    {
        TernaryCommand.WRITE_CS: CommandForm(2, ack=TernaryAck.WRITE_CS),
        TernaryCommand.SET_ADR: CommandForm(1, ack=TernaryAck.SET_ADR),
        TernaryCommand.SET: CommandForm(TERNARY_GEOMETRY.cells, ack=TernaryAck.SET),
        TernaryCommand.RESET: CommandForm(TERNARY_GEOMETRY.cells, ack=TernaryAck.RESET),
        TernaryCommand.SENSE: CommandForm(reply_bytes=TERNARY_GEOMETRY.cells),
        TernaryCommand.SENSE_UC: CommandForm(reply_bytes=TERNARY_GEOMETRY.cells),
        TernaryCommand.CLK: CommandForm(ack=TernaryAck.CLK),
        TernaryCommand.CLK2: CommandForm(ack=TernaryAck.CLK2),
        TernaryCommand.ACK_MODE: CommandForm(1),
        TernaryCommand.DEBUG_ECHO: CommandForm(1, reply_bytes=1),
        TernaryCommand.DEBUG_LED: CommandForm(reply_bytes=len(GREETING)),
    },
    TernaryCommand.ACK_MODE,
    TernaryCommand.DEBUG_ECHO,
    TernaryCommand.DEBUG_LED,
    TernarySignal,
    TernaryCommand.WRITE_CS,
)

COLUMN = Dialect(
    "64-column board",
    {
        ColumnCommand.SET_SR: CommandForm(2, ack=ColumnAck.SET_SR),
        ColumnCommand.FILL_SRS: CommandForm(len(Register) * REGISTER_BYTES, ack=ColumnAck.FILL_SRS),
        ColumnCommand.SET_CS: CommandForm(2, ack=ColumnAck.SET_CS),
        ColumnCommand.SET_ADR_R: CommandForm(1, ack=ColumnAck.SET_ADR_R),
        ColumnCommand.SET_ADR_C: CommandForm(1, ack=ColumnAck.SET_ADR_C),
        ColumnCommand.GET_CTL: CommandForm(1, reply_bytes=1),
        ColumnCommand.CLK: CommandForm(ack=ColumnAck.CLK),
        ColumnCommand.CLK_SR: CommandForm(ack=ColumnAck.CLK_SR),
        ColumnCommand.CLK_XNOR: CommandForm(ack=ColumnAck.CLK_XNOR),
        ColumnCommand.ACK_MODE: CommandForm(1),
        ColumnCommand.DEBUG_ECHO: CommandForm(1, reply_bytes=1),
        ColumnCommand.DEBUG_LED: CommandForm(reply_bytes=len(GREETING)),
    },
    ColumnCommand.ACK_MODE,
    ColumnCommand.DEBUG_ECHO,
    ColumnCommand.DEBUG_LED,
    ColumnSignal,
    ColumnCommand.SET_CS,
)


def integers(*values: int) -> bytes:
    """Write whole numbers one after another, each little endian in the fewest bytes; 0 takes one."""
    return b"".join(value.to_bytes(max(1, (value.bit_length() + 7) // 8), "little") for value in values)


def packet_shares(payload_bytes: int) -> list[int]:
    """How many payload bytes each packet of a frame carries, so that none is longer than a board can take."""
    shares = [min(payload_bytes, PACKET_BYTES - 3)]
    while sum(shares) < payload_bytes:
        shares.append(min(payload_bytes - sum(shares), PACKET_BYTES - 1))
    return shares


def packets(dialect: Dialect, code: IntEnum, payload: bytes = b"") -> list[bytes]:
    """Cut a command into the packets that go on the wire, in order.

    Raises:
        ValueError: the payload has another length than the command takes.
    """
    wanted = dialect.forms[code].payload_bytes
    if len(payload) != wanted:
        raise ValueError(f"{code.name} takes {wanted} payload bytes, not {len(payload)}")
    *shares, last = packet_shares(wanted)
    cut, found = 0, []
    for share in shares:
        found.append(payload[cut : cut + share] + bytes([CONTINUED]))
        cut += share
    found.append(payload[cut : cut + last] + bytes([END]))
    found[0] = bytes([START, code]) + found[0]
    return found


def acknowledgement(code: IntEnum) -> bytes:
    """What a board sends once it has done what an acknowledged command asks."""
    return bytes([START, code])


def pack_cells(devices: DeviceMask) -> bytes:
    """Write a mask of devices ``(rows, cols, 2)`` bool, BL first, as one :class:`CellPulse` byte per cell."""
    codes = devices[..., Device.BL] * CellPulse.R + devices[..., Device.BLB] * CellPulse.RB
    return codes.astype(np.uint8).tobytes()


def unpack_cells(data: bytes, geometry: Geometry = TERNARY_GEOMETRY) -> DeviceMask:
    """Read :func:`pack_cells` back; only the two bits of each byte that have a meaning count."""
    codes = np.frombuffer(data, dtype=np.uint8).reshape(geometry)
    return np.stack([codes & CellPulse.R != 0, codes & CellPulse.RB != 0], axis=-1)


def pack_sensed(weights: Weights) -> bytes:
    """Write sensed weights ``(rows, cols)`` as one :class:`SenseCode` byte per cell."""
    codes = np.where(weights > 0, SenseCode.PLUS, np.where(weights < 0, SenseCode.MINUS, SenseCode.ZERO))
    return codes.astype(np.uint8).tobytes()


def unpack_sensed(data: bytes, geometry: Geometry = TERNARY_GEOMETRY) -> Weights:
    """Read one answer of SENSE: ``(rows, cols)`` int8 of -1, 0, +1.

    Raises:
        ReplyError: a cell answered what no sense amplifier can, 0b11 included.
    """
    codes: NDArray[np.uint8] = np.frombuffer(data, dtype=np.uint8).reshape(geometry)
    wrong = np.argwhere(codes > SenseCode.PLUS)
    if len(wrong):
        row, col = (int(index) for index in wrong[0])
        raise ReplyError(
            f"{len(wrong)} cells sensed as codes that do not exist, the first is cell ({row}, {col}) with "
            f"{int(codes[row, col]):#x}; 0b00, 0b01 and 0b10 are allowed: sense again, and check the line if it stays"
        )
    weights: Weights = np.array(SENSED, dtype=np.int8)[codes]
    return weights


class Words(NamedTuple):
    """What the five shift registers hold, 64 bits each; bit k of a word is line k of its kind."""

    wle: int
    wlo: int
    sl: int
    bl: int
    blb: int

    def pack(self) -> bytes:
        """Write the words as the payload of FILL_SRS."""
        return b"".join(word.to_bytes(REGISTER_BYTES, "little") for word in self)

    @classmethod
    def unpack(cls, payload: bytes) -> Words:
        """Read the payload of FILL_SRS."""
        cuts = range(0, len(payload), REGISTER_BYTES)
        return cls(*(int.from_bytes(payload[cut : cut + REGISTER_BYTES], "little") for cut in cuts))


NO_LINES = Words(0, 0, 0, 0, 0)


def select_device(row: int, col: int, device: Device, polarity: Polarity) -> Words:
    """Words that put one device between the direct-access pads, and no other.

    The lines of its column differ across the device, source line high for SET and low for RESET, and are equal across
    the other device of the cell; all other columns are at rest. Even rows are in one word-line register, odd ones in
    the other.
    """
    word_line = 1 << (row // 2)
    source_high = polarity == Polarity.SET
    bl_high = (device == Device.BLB) == source_high
    even = row % 2 == 0
    return Words(
        word_line if even else 0,
        0 if even else word_line,
        int(source_high) << col,
        int(bl_high) << col,
        int(not bl_high) << col,
    )
