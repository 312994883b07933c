"""The firmware of the two simulated C2N boards: bytes in, bytes out, one object per power-up.

It follows ``docs/c2n-boards.md``. The laboratory's firmware is not published: how it takes a damaged frame is our guess
(it drops it in silence), as is the length of its pulses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from drivers.c2n.protocol import (
    COLUMN,
    CONTINUED,
    END,
    GREETING,
    NO_LINES,
    REGISTER_BITS,
    START,
    TERNARY,
    ColumnCommand,
    ColumnSignal,
    Dialect,
    Register,
    TernaryCommand,
    Words,
    acknowledgement,
    pack_sensed,
    packet_shares,
    unpack_cells,
)
from drivers.c2n.ternary_board import FirmwareTiming
from models.cells import Device, Polarity

if TYPE_CHECKING:
    from drivers.simulated.world import World

_ONES = (1 << REGISTER_BITS) - 1


class FrameReader:
    """Finds the frames in a stream of bytes. With nothing escaped, the length of each command's payload decides.

    What fits no frame is dropped byte by byte until something does.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._received = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[IntEnum, bytes]]:
        """Take received bytes; yield the command and payload of each frame that they complete."""
        self._received += data
        while self._received:
            found = self._match()
            if found is None:
                del self._received[0]
                continue
            code, payload, length = found
            if length == 0:
                return
            del self._received[:length]
            yield code, payload

    def _match(self) -> tuple[IntEnum, bytes, int] | None:
        """Command, payload and length of the frame at the start; length 0 while it may still become one; or None."""
        received = self._received
        if received[0] != START:
            return None
        if len(received) == 1:
            return self._dialect.echo, b"", 0
        code = next((code for code in self._dialect.forms if code == received[1]), None)
        if code is None:
            return None
        shares = packet_shares(self._dialect.forms[code].payload_bytes)
        payload, place = b"", 2
        for index, share in enumerate(shares):
            end = place + share
            if len(received) <= end:
                return code, b"", 0
            if received[end] != (END if index == len(shares) - 1 else CONTINUED):
                return None
            payload += received[place:end]
            place = end + 1
        return code, payload, place


class NoWatchdog:
    """A board that never trips."""

    watchdog_due = None

    def tick(self) -> None:
        """Do nothing."""


class C2NFirmware(NoWatchdog, ABC):
    """What both boards do alike: acknowledge what the mask asks for, echo, greet."""

    def __init__(self, world: World, dialect: Dialect) -> None:
        self._world = world
        self._dialect = dialect
        self._ack_mask = 0
        self._reader = FrameReader(dialect)
        self._signals = dict.fromkeys(dialect.signals, 0)
        self.lines_low()

    def lines_low(self) -> None:
        """All control signals low, direct access disconnected: how the board powers up and down."""
        self._signals = dict.fromkeys(self._dialect.signals, 0)
        with self._world.lock:
            self._world.chip.disconnect()

    def forget_received(self) -> None:
        """Forget half a frame."""
        self._reader = FrameReader(self._dialect)

    def replies(self, data: bytes) -> Iterator[bytes]:
        """Act on received bytes; yield the answer to each command, empty for none."""
        for code, payload in self._reader.feed(data):
            yield self._answer(code, payload)

    def _answer(self, code: IntEnum, payload: bytes) -> bytes:
        if code == self._dialect.echo:
            return payload
        if code == self._dialect.greet:
            return GREETING
        if code == self._dialect.ack_mode:
            self._ack_mask = payload[0]
            return acknowledgement(code) if self._ack_mask else b""
        if code == self._dialect.write_signal:
            signal, state = payload
            if signal in self._signals:
                self._signals[self._dialect.signals(signal)] = state & 1
        with self._world.lock:
            data = self._act(code, payload)
        return acknowledgement(code) if self._dialect.forms[code].ack & self._ack_mask else data

    @abstractmethod
    def _act(self, code: IntEnum, payload: bytes) -> bytes:
        """Do what a command asks; return the data that it answers with."""


class SenseTimes(NamedTuple):
    """How a waveform generator times a SENSE, in s."""

    precharge_s: float
    window_s: float


class TernaryFirmware(C2NFirmware):
    """The board of the 8 x 8 ternary chip.

    Args:
        timing: what the firmware times by itself.
        generator: times of the waveform generator that drives a SENSE, or None when none is started: SENSE then waits
            for it for ever, and so does whoever talks to the board.
    """

    def __init__(self, world: World, timing: FirmwareTiming, generator: SenseTimes | None) -> None:
        super().__init__(world, TERNARY)
        self._timing = timing
        self._generator = generator
        self._waiting = False

    def replies(self, data: bytes) -> Iterator[bytes]:
        """Act on received bytes, unless a SENSE waits for its generator."""
        for code, payload in self._reader.feed(data):
            if self._waiting:
                return
            yield self._answer(code, payload)

    def _act(self, code: IntEnum, payload: bytes) -> bytes:
        chip, rails = self._world.chip, self._world.rails
        match code:
            case TernaryCommand.SET | TernaryCommand.RESET:
                polarity = Polarity.SET if code == TernaryCommand.SET else Polarity.RESET
                chip.pulse(polarity, unpack_cells(payload), self._timing.pulse_width_s, 1, rails)
            case TernaryCommand.SENSE if self._generator is None:
                self._waiting = True
            case TernaryCommand.SENSE if self._generator is not None:
                return pack_sensed(chip.sense(rails, *self._generator, 1)[0])
            case TernaryCommand.SENSE_UC:
                return pack_sensed(chip.sense(rails, self._timing.precharge_s, self._timing.window_s, 1)[0])
            case _:
                pass  # SET_ADR, CLK and CLK2 move no cell by themselves
        return b""


class ColumnFirmware(C2NFirmware):
    """The board of the 64-column array: shift registers in front of the direct-access pads.

    A register shifts away from its input; GET_CTL reads its last bit. A new word goes in bit 63 first, so that bit 0
    stands next to the input in the end.
    """

    def __init__(self, world: World) -> None:
        self._words = list(NO_LINES)
        self._inputs = [0] * len(Register)
        self._xnor_inputs = 0
        super().__init__(world, COLUMN)

    @property
    def words(self) -> Words:
        """What the five registers hold."""
        return Words(*self._words)

    @property
    def xnor_inputs(self) -> int:
        """What the XNOR register holds; the bit that came last is bit 0."""
        return self._xnor_inputs

    def _act(self, code: IntEnum, payload: bytes) -> bytes:
        match code:
            case ColumnCommand.SET_SR if payload[0] < len(Register):
                self._inputs[payload[0]] = payload[1] & 1
            case ColumnCommand.FILL_SRS:
                self._words = list(Words.unpack(payload))
                self._inputs = [word & 1 for word in self._words]
            case ColumnCommand.CLK_SR:
                self._words = [(word << 1 | bit) & _ONES for word, bit in zip(self._words, self._inputs, strict=True)]
            case ColumnCommand.CLK_XNOR:
                self._xnor_inputs = (self._xnor_inputs << 1 | self._signals[ColumnSignal.SR_XNOR]) & _ONES
            case ColumnCommand.GET_CTL:
                return bytes([self._end(payload[0])])
            case _:
                pass  # the addresses and CLK move no cell by themselves
        self._connect()
        return b""

    def _end(self, register: int) -> int:
        return self._words[register] >> (REGISTER_BITS - 1) if register < len(Register) else 0

    def _connect(self) -> None:
        """Let the pads see what the registers select: one device with its source line high, or nothing.

        The pads' two sides change places for a device selected for RESET, and several devices in parallel are no
        device that can be measured: the simulated pads are open for both.
        """
        chosen = self._selected() if self._signals[ColumnSignal.CARAC_EN] else []
        if len(chosen) == 1:
            self._world.chip.connect(*chosen[0])
        else:
            self._world.chip.disconnect()

    def _selected(self) -> list[tuple[int, int, Device]]:
        words = self.words
        rows, cols = self._world.chip.geometry
        opened = [row for row in range(rows) if (words.wlo if row % 2 else words.wle) >> (row // 2) & 1]
        sides = ((words.bl, Device.BL), (words.blb, Device.BLB))
        across = [
            (col, device, words.sl >> col & 1)
            for col in range(cols)
            for word, device in sides
            if (word ^ words.sl) >> col & 1
        ]
        if not all(source_high for *_, source_high in across):
            return []
        return [(row, col, device) for row in opened for col, device, _ in across]
