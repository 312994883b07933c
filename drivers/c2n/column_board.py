"""The role of the controller board, filled by C2N's board of the 64-column array, as far as direct access goes."""

from __future__ import annotations

import math
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from drivers.board_checks import checked_choice, checked_index
from drivers.c2n.link import C2NLink, Command
from drivers.c2n.protocol import (
    COLUMN,
    MOST_GEOMETRY,
    NO_LINES,
    REGISTER_BITS,
    ColumnCommand,
    ColumnSignal,
    Register,
    Words,
    integers,
    select_device,
)
from drivers.c2n.register_walk import PATTERNS, explain_walk
from drivers.errors import LimitError, ReadBackError, ReplyError
from drivers.limits import Range
from drivers.roles import BoardStatus, Identity, XnorStream
from models.cells import Device, DeviceMask, Geometry, Polarity
from models.exceptions import BenchFailure

LAYER = f"the {COLUMN.board}"
NO_PULSES = "make pulses: connect a device to the pads, and pulse it there with a pulse source"
NO_CYCLES = "cycle devices: it makes no pulses; connect a device to the pads, and pulse it there with a pulse source"
NO_SENSE = "sense the array: how its sense amplifiers are read out is not published; measure resistances"
NO_SUMS = "sum XNOR: inputs can be sent, but how the sums are read out is not published"
MOST_WATCHDOG = Range(0.0, math.inf, "s", LAYER)


class ColumnBoard:
    """C2N's board of the 64-column array: shift registers that put one device on the direct-access pads.

    The board makes no pulses and reads no sense amplifier that is documented: devices are programmed and measured
    through the pads.

    Args:
        link: an open link of the dialect ``COLUMN``; the board closes it.
        geometry: of the array, at most 128 x 64; the board cannot tell.
        chip_id: of the chip in the socket; the board cannot tell.

    Raises:
        LimitError: an array that the registers cannot address.
    """

    def __init__(self, link: C2NLink, geometry: Geometry, chip_id: str) -> None:
        rows, cols = geometry
        self._geometry = Geometry(
            Range(1, MOST_GEOMETRY.rows, "rows", LAYER).check_int(rows, "rows"),
            Range(1, MOST_GEOMETRY.cols, "columns", LAYER).check_int(cols, "columns"),
        )
        self._link = link
        self._chip_id = chip_id

    @property
    def link(self) -> C2NLink:
        """Return the link, for its counters and its name."""
        return self._link

    @property
    def geometry(self) -> Geometry:
        """Return the size of the array in cells, as the bench file says; the board cannot tell."""
        return self._geometry

    @property
    def chip_id(self) -> str:
        """Return the identifier of the chip in the socket, as the bench file says; the board cannot tell."""
        return self._chip_id

    @property
    def cycles(self) -> bool:
        """Return False: the board makes no pulses."""
        return False

    def identify(self) -> Identity:
        """Ask the board for its greeting. Its serial number is that of its USB port; it tells none itself.

        Raises:
            WrongInstrument: it greets otherwise.
            LinkError: it does not answer, or the link is out of step.
        """
        return self._link.identify()

    def echo(self, data: bytes) -> float:
        """Send ``data`` to the board and back; return how long it took in s.

        Raises:
            ReplyError: something else came back.
        """
        return self._link.echo(data)

    def check_pulse(self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int = 1) -> None:
        """Refuse in one line, as :meth:`pulse` does.

        Raises:
            BenchFailure: always.
        """
        self._cannot(NO_PULSES)

    def check_cycle(self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int) -> None:
        """Refuse in one line, as :meth:`cycle` does.

        Raises:
            LimitError: always.
        """
        raise LimitError(f"{LAYER} cannot {NO_CYCLES}")

    def check_sense(self, precharge_s: float, window_s: float, repeats: int = 1) -> None:
        """Refuse in one line, as :meth:`sense` does.

        Raises:
            BenchFailure: always.
        """
        self._cannot(NO_SENSE)

    def check_xnor(self, inputs: NDArray[np.int8], precharge_s: float, window_s: float, geometry: Geometry) -> None:
        """Refuse in one line, as :meth:`xnor_stream` does.

        Raises:
            BenchFailure: always.
        """
        self._cannot(NO_SUMS)

    def check_device(self, row: int, col: int, device: Device) -> None:
        """Check that the array has this device, sending nothing. Raises LimitError."""
        self._device(row, col, device)

    def connect_device(self, row: int, col: int, device: Device, polarity: Polarity = Polarity.SET) -> None:
        """Connect one device to the direct-access pads, and no other.

        Direct access is off while the registers move, so that no other device is touched on the way.

        Args:
            polarity: SET puts the source line on the driven pad, which is also how a resistance is read; RESET puts
                the bit line there.

        Raises:
            LimitError: there is no such device; nothing is sent.
            LinkError: the board does not acknowledge; which device is on the pads is unknown.
        """
        words = select_device(*self._device(row, col, device), checked_choice(Polarity, polarity, "polarity", LAYER))
        self._link.exchange(*_fill_at_rest(words), _signal(ColumnSignal.CARAC_EN, True))

    def disconnect_device(self) -> None:
        """Disconnect the direct-access pads, and clear all registers."""
        self._link.exchange(*_fill_at_rest(NO_LINES))

    def fill_registers(self, words: Words) -> None:
        """Set all five shift registers, direct access being off afterwards.

        Raises:
            LimitError: a word is not of 64 bits; nothing is sent.
        """
        self._link.exchange(*_fill_at_rest(_checked_words(words)))

    def read_ends(self) -> tuple[bool, ...]:
        """Read the last bit of each shift register, in the order of :class:`Register`."""
        return tuple(_level(answer) for answer in self._link.exchange(*_read_ends()))

    def walk_registers(self, words: Words) -> Words:
        """Set all five registers, then shift them out and return what came out. They are clear afterwards.

        Direct access is off meanwhile. Bit 63 of a word is the first to come out.
        """
        fill = _fill_at_rest(_checked_words(words))
        steps = [*_read_ends(), Command(ColumnCommand.CLK_SR)] * REGISTER_BITS
        answers = self._link.exchange(*fill, *steps, *_fill_at_rest(NO_LINES))[len(fill) :][: len(steps)]
        return Words(*(_word(answers[register :: len(Register) + 1]) for register in Register))

    def check_registers(self) -> None:
        """Tell whether all five shift registers work, by walking patterns through them. Needs no voltage on the array.

        Raises:
            ReadBackError: a register is stuck, reversed, exchanged for another, or wrong in some bits.
        """
        for pattern in PATTERNS:
            complaint = explain_walk(pattern, self.walk_registers(pattern))
            if complaint:
                raise ReadBackError(
                    f"{LAYER} at {self._link.port}: shift registers: {complaint}; check the chip's seat and "
                    "orientation, and its cables, before any voltage"
                )

    def set_signal(self, signal: ColumnSignal, high: bool) -> None:
        """Set one control signal.

        Raises:
            LimitError: no such signal, or not a bool; nothing is sent.
        """
        chosen = checked_choice(ColumnSignal, signal, "control signal", LAYER)
        if not isinstance(high, bool):
            raise LimitError(f"{chosen.name}: {high!r} is refused; True (high) and False (low) are allowed")
        self._link.exchange(_signal(chosen, high))

    def set_address(self, row: int, col: int) -> None:
        """Set the row and column address of the array's own periphery.

        Raises:
            LimitError: there is no such cell; nothing is sent.
        """
        self._link.exchange(
            Command(ColumnCommand.SET_ADR_R, integers(checked_index(row, self._geometry.rows, "row", LAYER))),
            Command(ColumnCommand.SET_ADR_C, integers(checked_index(col, self._geometry.cols, "column", LAYER))),
        )

    def send_xnor_inputs(self, inputs: NDArray[np.int8]) -> None:
        """Send inputs into the XNOR register, the first being shifted the furthest: one SR_XNOR and one CLK_XNOR each.

        Args:
            inputs: ``(n,)`` of -1 and +1, n up to the number of columns.

        Raises:
            LimitError: another shape or value; nothing is sent.
        """
        bits = np.asarray(inputs)
        fits = bits.ndim == 1 and len(bits) <= self._geometry.cols and bits.dtype != np.bool_
        if not fits or not np.isin(bits, (-1, 1)).all():
            raise LimitError(f"XNOR inputs: -1 or +1 of shape (n,) with n up to {self._geometry.cols} are allowed")
        clock = Command(ColumnCommand.CLK_XNOR)
        steps = [(_signal(ColumnSignal.SR_XNOR, bool(bit > 0)), clock) for bit in bits]
        self._link.exchange(*(command for step in steps for command in step))

    def pulse(self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int = 1) -> None:
        """Refuse in one line: this board makes no pulses.

        Raises:
            BenchFailure: always.
        """
        self._cannot(NO_PULSES)

    def cycle(self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int) -> None:
        """Refuse in one line: this board makes no pulses.

        Raises:
            LimitError: always.
        """
        raise LimitError(f"{LAYER} cannot {NO_CYCLES}")

    def sense(self, precharge_s: float, window_s: float, repeats: int = 1) -> NDArray[np.int8]:
        """Refuse in one line: how this board's sense amplifiers are read is not published.

        Raises:
            BenchFailure: always.
        """
        self._cannot(NO_SENSE)

    def xnor_stream(self, precharge_s: float, window_s: float, geometry: Geometry) -> XnorStream:
        """Refuse in one line: inputs can be sent to the XNOR register, but the way back is not published.

        Raises:
            BenchFailure: always.
        """
        self._cannot(NO_SUMS)

    def settle(self) -> None:
        """Wait for nothing: this board has no stream."""

    def set_watchdog(self, timeout_s: float) -> None:
        """Switch the watchdog off with 0 s, which is all that a board without one can do.

        Raises:
            LimitError: negative or not finite.
            BenchFailure: any other time.
        """
        if MOST_WATCHDOG.check(timeout_s, "watchdog") > 0:
            self._cannot("take its lines down when the host goes silent: it has no watchdog; set board.watchdog_s = 0")

    def status(self) -> BoardStatus:
        """Tell that the board echoes; it counts nothing, and makes no pulse or sense that could be counted.

        There is no watchdog that could trip, and no refusal that the board would tell of.

        Raises:
            LinkError: the board does not echo.
        """
        self._link.exchange()
        return BoardStatus(0, 0, 0, False)

    def safe_off(self) -> None:
        """Bring all control signals low and clear all registers, whatever state the link is in; read the ends back.

        Raises:
            LinkError: the port is closed, or the board does not answer: its lines are in an unknown state.
            ReadBackError: a register's end is high.
        """
        lows = [_signal(signal, False) for signal in ColumnSignal]
        answers = self._link.take_down(*lows, Command(ColumnCommand.FILL_SRS, NO_LINES.pack()), *_read_ends())
        high = [Register(i).name for i, end in enumerate(answers[-len(Register) :]) if _level(end)]
        if high:
            raise ReadBackError(
                f"{LAYER} at {self._link.port}: the end of {', '.join(high)} is high after clearing the registers; "
                "switch the supplies off"
            )

    def reopen(self, port: str | None = None) -> None:
        """Open the link again after an unplug, a reset or a doubt; identify the board and bring its lines low.

        Raises:
            WrongInstrument: something else answers.
            LinkError: nobody answers.
        """
        self._link.reopen(port)
        self.identify()
        self.safe_off()

    def close(self) -> None:
        """Close the link. The board's lines stay as they are."""
        self._link.close()

    def _device(self, row: int, col: int, device: Device) -> tuple[int, int, Device]:
        """A device of this array, checked."""
        return (
            checked_index(row, self._geometry.rows, "row", LAYER),
            checked_index(col, self._geometry.cols, "column", LAYER),
            checked_choice(Device, device, "device", LAYER),
        )

    @staticmethod
    def _cannot(what: str) -> NoReturn:
        raise BenchFailure(f"{LAYER} cannot {what}")


def _signal(signal: ColumnSignal, high: bool) -> Command:
    return Command(COLUMN.write_signal, integers(signal, high))


def _fill_at_rest(words: Words) -> list[Command]:
    return [_signal(ColumnSignal.CARAC_EN, False), Command(ColumnCommand.FILL_SRS, words.pack())]


def _read_ends() -> list[Command]:
    return [Command(ColumnCommand.GET_CTL, integers(register)) for register in Register]


def _checked_words(words: Words) -> Words:
    for register, word in zip(Register, words, strict=True):
        # Not a Range: its floats cannot tell large words apart.
        if isinstance(word, bool) or not isinstance(word, int) or not 0 <= word < 1 << REGISTER_BITS:
            raise LimitError(
                f"{register.name}: {word!r} is refused; {LAYER} takes whole numbers of {REGISTER_BITS} bits"
            )
    return words


def _word(levels: list[bytes]) -> int:
    word = 0
    for level in levels:
        word = word << 1 | _level(level)
    return word


def _level(answer: bytes) -> bool:
    if answer not in (b"\0", b"\1"):
        raise ReplyError(f"{LAYER} read the end of a register as {answer.hex()}; 00 and 01 are allowed")
    return answer == b"\1"
