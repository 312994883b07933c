"""The role of the controller board, filled by C2N's board of the 8 x 8 ternary chip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from drivers.board_checks import checked_choice, checked_mask
from drivers.c2n.link import C2NLink, Command
from drivers.c2n.protocol import (
    TERNARY,
    TERNARY_GEOMETRY,
    TernaryCommand,
    TernarySignal,
    integers,
    pack_cells,
    unpack_sensed,
)
from drivers.errors import LimitError
from drivers.framed.board import BoardLimits
from drivers.limits import Range
from drivers.roles import BoardStatus, Identity, XnorStream
from models.cells import Device, DeviceMask, Geometry, Polarity
from models.exceptions import BenchFailure

LAYER = f"the {TERNARY.board}"
MOST_COUNT = Range(1, 1_000_000, "pulses", LAYER)
MOST_REPEATS = Range(1, 1_000_000, "senses", LAYER)
MOST_WATCHDOG = Range(0.0, math.inf, "s", LAYER)
SENSE_TIME = Range(1e-9, 1.0, "s", LAYER)
NO_XNOR = "compute XNOR in the sense amplifiers: its firmware drives their input itself; sense the weights"
NO_CYCLES = "cycle devices by itself: its firmware has no such loop; alternate SET and RESET"
NO_DIRECT_ACCESS = "connect a device to pads: the chip has no direct access; resistances cannot be measured here"
SENSE_S = 1.0
"""How long a generator may take for the control pulses of one read, lead time included."""


class SenseGenerator(Protocol):
    """A waveform generator that drives BIT_IN, CWL, CSL and CLK while the board runs SENSE."""

    def start_sense(self, precharge_s: float, window_s: float) -> None:
        """Start the control pulses of one read of the whole array; return before the first of them."""


@dataclass(frozen=True)
class FirmwareTiming:
    """What the board's firmware times by itself. It is not published: measure it, and write it into the bench file.

    Attributes:
        pulse_width_s: of SET and RESET, in s.
        precharge_s, window_s: of SENSE_UC, in s.
    """

    pulse_width_s: float
    precharge_s: float
    window_s: float


class TernaryBoard:
    """C2N's board of the 8 x 8 ternary chip: SET, RESET and SENSE, each on the whole array at once.

    Args:
        link: an open link of the dialect ``TERNARY``; the board closes it.
        limits: the bench file's envelope, checked before anything is sent.
        chip_id: of the chip in the socket; the board cannot tell.
        timing: what the firmware times by itself; the board is asked for nothing else.
        generator: times the senses from outside (SENSE); without one the board times them itself (SENSE_UC).
    """

    def __init__(
        self,
        link: C2NLink,
        limits: BoardLimits,
        chip_id: str,
        timing: FirmwareTiming,
        generator: SenseGenerator | None = None,
    ) -> None:
        self._link = link
        self._limits = limits
        self._chip_id = chip_id
        self._timing = timing
        self._generator = generator
        self._pulses = self._senses = 0

    @property
    def link(self) -> C2NLink:
        """Return the link, for its counters and its name."""
        return self._link

    @property
    def geometry(self) -> Geometry:
        """Return the size of the array in cells."""
        return TERNARY_GEOMETRY

    @property
    def chip_id(self) -> str:
        """Return the identifier of the chip in the socket, as the bench file says; the board cannot tell."""
        return self._chip_id

    @property
    def cycles(self) -> bool:
        """Return False: the firmware has no loop of SET and RESET."""
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
        """Check arguments as :meth:`pulse` would, sending nothing. Raises LimitError."""
        self._pulse_arguments(polarity, devices, width_s, count)

    def check_cycle(self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int) -> None:
        """Refuse in one line, as :meth:`cycle` does.

        Raises:
            LimitError: always.
        """
        raise LimitError(f"{LAYER} cannot {NO_CYCLES}")

    def check_sense(self, precharge_s: float, window_s: float, repeats: int = 1) -> None:
        """Check arguments as :meth:`sense` would, sending nothing. Raises LimitError."""
        for seconds, fixed_s, what in (
            (precharge_s, self._timing.precharge_s, "precharge time"),
            (window_s, self._timing.window_s, "sense window"),
        ):
            if self._limits.window is not None:
                self._limits.window.check(seconds, what)
            SENSE_TIME.check(seconds, what)
            if self._generator is None:
                self._check_fixed(seconds, fixed_s, what)
        MOST_REPEATS.check_int(repeats, "senses")

    def check_xnor(self, inputs: NDArray[np.int8], precharge_s: float, window_s: float, geometry: Geometry) -> None:
        """Refuse in one line, as :meth:`xnor_stream` does.

        Raises:
            BenchFailure: always.
        """
        self._cannot(NO_XNOR)

    def check_device(self, row: int, col: int, device: Device) -> None:
        """Refuse in one line, as :meth:`connect_device` does.

        Raises:
            BenchFailure: always.
        """
        self._cannot(NO_DIRECT_ACCESS)

    def pulse(self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int = 1) -> None:
        """Apply ``count`` pulses to each selected device: all of them once, then all of them again.

        Args:
            polarity: SET or RESET; forming is SET at the forming supplies.
            devices: ``(8, 8, 2)`` bool, BL first.
            width_s: width of a pulse in s; the firmware's own, no other can be had.
            count: pulses per device.

        Raises:
            LimitError: before anything is sent.
            InDoubt: something went wrong after the first byte. It names all devices: each may have had any number of
                its pulses. It is never repeated.
        """
        code, mask, pulses = self._pulse_arguments(polarity, devices, width_s, count)
        selected = int(mask.sum())
        if selected:
            busy_s = selected * self._timing.pulse_width_s
            self._link.exchange(*[Command(code, pack_cells(mask), busy_s, mask)] * pulses)
            self._pulses += selected * pulses

    def cycle(self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int) -> None:
        """Refuse in one line: this board has no loop of SET and RESET.

        Raises:
            LimitError: always.
        """
        raise LimitError(f"{LAYER} cannot {NO_CYCLES}")

    def sense(self, precharge_s: float, window_s: float, repeats: int = 1) -> NDArray[np.int8]:
        """Sense the whole array ``repeats`` times.

        Args:
            precharge_s, window_s: times of one row's sense, in s; without a generator the firmware's own.
            repeats: 1 to 1 000 000.

        Returns:
            ``(repeats, 8, 8)`` int8: +1, -1, or 0 for a cell that answers low to both polarities of BIT_IN.

        Raises:
            LimitError: before anything is sent.
            ReplyError: a cell answered high to both polarities, which no sense amplifier can.
            LinkError: the board does not answer; with a generator, perhaps because it did not start.
        """
        self.check_sense(precharge_s, window_s, repeats)
        senses = int(repeats)
        if self._generator is None:
            answers = self._link.exchange(*[Command(TernaryCommand.SENSE_UC)] * senses)
        else:
            answers = [self._sense_timed(self._generator, precharge_s, window_s) for _ in range(senses)]
        self._senses += senses
        return np.stack([unpack_sensed(answer) for answer in answers])

    def xnor_stream(self, precharge_s: float, window_s: float, geometry: Geometry) -> XnorStream:
        """Refuse in one line: this board cannot put inputs on the sense amplifiers.

        Raises:
            BenchFailure: always.
        """
        self._cannot(NO_XNOR)

    def settle(self) -> None:
        """Wait for nothing: this board has no stream."""

    def connect_device(self, row: int, col: int, device: Device) -> None:
        """Refuse in one line: this chip has no direct access.

        Raises:
            BenchFailure: always.
        """
        self._cannot(NO_DIRECT_ACCESS)

    def disconnect_device(self) -> None:
        """Disconnect nothing: no device of this chip is ever on pads."""

    def set_watchdog(self, timeout_s: float) -> None:
        """Switch the watchdog off with 0 s, which is all that a board without one can do.

        Raises:
            LimitError: negative or not finite.
            BenchFailure: any other time.
        """
        if MOST_WATCHDOG.check(timeout_s, "watchdog") > 0:
            self._cannot("take its lines down when the host goes silent: it has no watchdog; set board.watchdog_s = 0")

    def status(self) -> BoardStatus:
        """Count what this driver did since it was made, after an echo; the board itself counts nothing.

        There is no watchdog that could trip, and no refusal that the board would tell of.

        Raises:
            LinkError: the board does not echo.
        """
        self._link.exchange()
        return BoardStatus(self._pulses, self._senses, 0, False)

    def set_signal(self, signal: TernarySignal, high: bool) -> None:
        """Set one control signal, for working on the board by hand; the firmware drives them in SET, RESET and SENSE.

        Raises:
            LimitError: no such signal, or not a bool; nothing is sent.
        """
        chosen = checked_choice(TernarySignal, signal, "control signal", LAYER)
        if not isinstance(high, bool):
            raise LimitError(f"{chosen.name}: {high!r} is refused; True (high) and False (low) are allowed")
        self._link.exchange(Command(TernaryCommand.WRITE_CS, integers(chosen, high)))

    def safe_off(self) -> None:
        """Bring all control signals low, whatever state the link is in.

        The board acknowledges each of them; it cannot be asked how a line stands.

        Raises:
            LinkError: the port is closed, or the board does not answer: its lines are in an unknown state.
        """
        self._link.take_down(*(Command(TERNARY.write_signal, integers(signal, 0)) for signal in TERNARY.signals))

    def reopen(self, port: str | None = None) -> None:
        """Open the link again after an unplug, a reset or a doubt; identify the board and bring its signals low.

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

    def _pulse_arguments(
        self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int
    ) -> tuple[TernaryCommand, DeviceMask, int]:
        """Command, mask and number of pulses, all checked."""
        chosen = checked_choice(Polarity, polarity, "polarity", LAYER)
        mask = checked_mask(devices, TERNARY_GEOMETRY)
        self._limits.width.check(width_s, "pulse width")
        self._check_fixed(width_s, self._timing.pulse_width_s, "pulse width")
        MOST_COUNT.check(count, "pulse count")
        code = TernaryCommand.SET if chosen == Polarity.SET else TernaryCommand.RESET
        return code, mask, self._limits.count.check_int(count, "pulse count")

    def _sense_timed(self, generator: SenseGenerator, precharge_s: float, window_s: float) -> bytes:
        generator.start_sense(precharge_s, window_s)
        return self._link.exchange(Command(TernaryCommand.SENSE, busy_s=SENSE_S))[0]

    @staticmethod
    def _check_fixed(asked_s: float, fixed_s: float, what: str) -> None:
        # What cannot be set must not be accepted and ignored.
        if not math.isclose(asked_s, fixed_s, rel_tol=1e-6):
            raise LimitError(
                f"{what}: {asked_s:g} s is refused; the firmware of {LAYER} makes {fixed_s:g} s and nothing else, by "
                "the bench file: ask for that, or correct it after a measurement"
            )

    @staticmethod
    def _cannot(what: str) -> NoReturn:
        raise BenchFailure(f"{LAYER} cannot {what}")
