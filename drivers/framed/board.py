"""The role of the controller board, filled by a board that speaks the framed protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from drivers.board_checks import checked_choice, checked_mask
from drivers.errors import LimitError, ReadBackError, ReplyError
from drivers.framed.exchange import Request
from drivers.framed.link import FramedLink
from drivers.framed.messages import (
    SINCE,
    Counters,
    Cycle,
    DirectConnect,
    Opcode,
    PayloadError,
    Pulse,
    Sense,
    Watchdog,
    Xnor,
    unpack_sensed,
)
from drivers.framed.xnor import FramedXnor, checked_vectors
from drivers.limits import Range
from drivers.roles import BoardStatus, Identity
from models.cells import Device, DeviceMask, Geometry, Polarity

LAYER = "the framed board"
MOST_COUNT = Range(1, 0xFFFF_FFFF, "pulses", LAYER)
MOST_CYCLES = Range(1, 10**12, "cycles", LAYER)
MOST_REPEATS = Range(1, 1_000_000, "senses", LAYER)
MOST_WATCHDOG = Range(0.0, 4_294_967.0, "s", LAYER)
SMALLEST_PIECE = 8
"""Senses are cut finely enough to fill the window, but into no fewer senses than this per request."""


@dataclass(frozen=True)
class BoardLimits:
    """The bench file's envelope of what the board may be asked.

    Attributes:
        width: of a pulse, in s.
        count: pulses per device in one call.
        window: of the precharge and of the sense window, in s each; None leaves the board's own range.
        cycles: SET / RESET cycles per device in one call.
    """

    width: Range
    count: Range
    window: Range | None = None
    cycles: Range = MOST_CYCLES


class FramedBoard:
    """A controller board on a framed link.

    Whatever does not fit one frame, or would keep the board busy for too long, is cut into several requests that
    follow each other through the link's window.

    Args:
        link: an open link; the board closes it.
        limits: the bench file's envelope, checked before anything is sent, beside the board's own.
    """

    def __init__(self, link: FramedLink, limits: BoardLimits) -> None:
        self._link = link
        self._limits = limits
        self._watchdog_s = 0.0

    @property
    def link(self) -> FramedLink:
        """The link, for its counters and its name."""
        return self._link

    @property
    def geometry(self) -> Geometry:
        """Size of the array in cells."""
        return self._link.welcome.geometry

    @property
    def chip_id(self) -> str:
        """Identifier of the chip in the socket."""
        return self._link.welcome.chip_id

    @property
    def cycles(self) -> bool:
        """Whether the board has a loop of its own for SET / RESET cycling: protocol version 2 and later."""
        return self._link.welcome.version >= SINCE[Opcode.CYCLE]

    @property
    def protocol(self) -> str:
        """Return the protocol, and the version of it that both ends agreed on."""
        return f"framed, version {self._link.welcome.version}"

    def echo(self, data: bytes) -> float:
        """Send ``data`` to the board and back; return the round trip in s.

        Raises:
            ReplyError: something else came back.
        """
        return self._link.ping(data)

    def identify(self) -> Identity:
        """Ask the board who it is.

        Raises:
            LinkError: it does not answer, or was reset since the session was opened.
        """
        board = self._link.ask_welcome()
        return Identity(board.manufacturer, board.model, board.serial, board.firmware)

    def check_pulse(self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int = 1) -> None:
        """Check arguments as :meth:`pulse` would, sending nothing. Raises LimitError."""
        self._pulse_arguments(polarity, devices, width_s, count)

    def check_cycle(self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int) -> None:
        """Check arguments as :meth:`cycle` would, sending nothing. Raises LimitError."""
        self._cycle_arguments(devices, set_width_s, reset_width_s, count)

    def check_sense(self, precharge_s: float, window_s: float, repeats: int = 1) -> None:
        """Check arguments as :meth:`sense` would, sending nothing. Raises LimitError."""
        self._sense_sizes(precharge_s, window_s, repeats)

    def check_xnor(self, inputs: NDArray[np.int8], precharge_s: float, window_s: float, geometry: Geometry) -> None:
        """Check arguments as :meth:`xnor` would, sending nothing. Raises LimitError."""
        self.xnor_stream(precharge_s, window_s, geometry)
        checked_vectors(inputs, self._part(geometry))

    def check_device(self, row: int, col: int, device: Device) -> None:
        """Check that the array has this device, sending nothing. Raises LimitError."""
        self._direct_message(row, col, device)

    def pulse(self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int = 1) -> None:
        """Apply ``count`` pulses to each selected device, row after row, BL before BLb of each cell.

        Args:
            polarity: SET or RESET.
            devices: ``(rows, cols, 2)`` bool, BL first.
            width_s: width of a pulse in s, to 1 ns.
            count: pulses per device.

        Raises:
            LimitError: before anything is sent.
            InDoubt: the board did not acknowledge some of the pulses; it names their devices.
            InstrumentError: the board refused, for instance because its watchdog has tripped. What it refused did not
                act; other parts of a large call may have.
        """
        polarity, mask, width_ns, pulses = self._pulse_arguments(polarity, devices, width_s, count)
        if mask.any():
            requests = self._in_parts(
                Opcode.PULSE, partial(Pulse, polarity, width_ns), mask, pulses, width_ns + self._link.welcome.setup_ns
            )
            self._link.exchange_many(requests)

    def cycle(self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int) -> None:
        """Cycle each selected device ``count`` times, a SET and then a RESET pulse, in the order of :meth:`pulse`.

        Args:
            devices: ``(rows, cols, 2)`` bool, BL first.
            set_width_s, reset_width_s: widths of the pulses in s, to 1 ns.
            count: cycles per device.

        Raises:
            LimitError: before anything is sent; also where the board speaks version 1 and has no such loop.
            InDoubt: the board did not acknowledge some of the cycles; it names their devices.
            InstrumentError: the board refused; see :meth:`pulse`.
        """
        mask, widths_ns, cycles = self._cycle_arguments(devices, set_width_s, reset_width_s, count)
        if mask.any():
            each_ns = sum(widths_ns) + 2 * self._link.welcome.setup_ns
            requests = self._in_parts(Opcode.CYCLE, partial(Cycle, *widths_ns), mask, cycles, each_ns)
            self._link.exchange_many(requests)

    def sense(self, precharge_s: float, window_s: float, repeats: int = 1) -> NDArray[np.int8]:
        """Sense the whole array ``repeats`` times.

        Args:
            precharge_s, window_s: times of one row's sense, in s, to 1 ns each.
            repeats: 1 to 1 000 000.

        Returns:
            ``(repeats, rows, cols)`` int8: +1, -1, or 0 for undecided.

        Raises:
            LimitError: before anything is sent.
            LinkError: the board does not answer.
            InstrumentError: the board refused, for instance because its watchdog has tripped.
        """
        board, geometry = self._link.welcome, self.geometry
        timing, sizes = self._sense_sizes(precharge_s, window_s, repeats)
        messages = [Sense(*timing, size) for size in sizes]
        replies = self._link.exchange_many(
            Request(
                Opcode.SENSE,
                message.pack(),
                message.busy_ns(geometry, board.setup_ns) * 1e-9,
                Sense.reply_bytes(geometry, message.repeats),
            )
            for message in messages
        )
        try:
            return np.concatenate([unpack_sensed(*pair, geometry) for pair in zip(replies, sizes, strict=True)])
        except PayloadError as error:
            raise self._malformed(error) from None

    def xnor(
        self, inputs: NDArray[np.int8], precharge_s: float, window_s: float, geometry: Geometry
    ) -> NDArray[np.int16]:
        """XNOR ``inputs`` with the upper left ``geometry`` cells in the sense amplifiers, and sum by popcount.

        Args:
            inputs: ``(n, geometry.cols)`` of -1 and +1, any n.
            precharge_s, window_s: times of one row's sense, in s, to 1 ns each.
            geometry: cells that take part.

        Returns:
            ``(n, geometry.rows)`` int16: agreements minus disagreements; undecided cells count zero.

        Raises:
            LimitError: before anything is sent.
            LinkError: the board does not answer.
            InstrumentError: the board refused, for instance because its watchdog has tripped.
        """
        stream = self.xnor_stream(precharge_s, window_s, geometry)
        stream.put(inputs)
        return stream.take()

    def xnor_stream(self, precharge_s: float, window_s: float, geometry: Geometry) -> FramedXnor:
        """XNOR with the upper left ``geometry`` cells, vector after vector, while earlier sums are taken.

        Args:
            precharge_s, window_s: times of one row's sense, in s, to 1 ns each.
            geometry: cells that take part.

        Raises:
            LimitError: nothing is sent.
        """
        used = self._part(geometry)
        board, timing = self._link.welcome, self._sense_timing(precharge_s, window_s)
        empty_in, empty_out = Xnor.request_bytes(0, used.cols), Xnor.reply_bytes(0, used)
        fits_in = (board.max_payload - empty_in) // (Xnor.request_bytes(1, used.cols) - empty_in)
        fits_out = (board.max_payload - empty_out) // (Xnor.reply_bytes(1, used) - empty_out)
        one = Xnor(*timing, used.rows, np.ones((1, used.cols), dtype=np.int8))
        most = self._most(min(fits_in, fits_out), one.busy_ns(board.setup_ns))
        return FramedXnor(self._link, timing, used, most)

    def settle(self) -> None:
        """Wait until all vectors that streams have put in are sensed and their sums are here, to be taken.

        Raises:
            LinkError: the board does not answer.
        """
        self._link.settle()

    def connect_device(self, row: int, col: int, device: Device) -> None:
        """Connect one device to the direct-access pads, and no other.

        Raises:
            LimitError: there is no such device; nothing is sent.
        """
        message = self._direct_message(row, col, device)
        self._link.exchange(Request(Opcode.DIRECT_CONNECT, message.pack()))

    def disconnect_device(self) -> None:
        """Connect no device to the direct-access pads."""
        self._link.exchange(Request(Opcode.DIRECT_DISCONNECT))

    def set_watchdog(self, timeout_s: float) -> None:
        """Take the lines down when the host is silent for ``timeout_s``, in s to 1 ms; 0 switches the watchdog off.

        Also clears a trip. Every call of this class feeds the watchdog.
        """
        seconds = MOST_WATCHDOG.check(timeout_s, "watchdog")
        milliseconds = round(seconds * 1e3)
        if seconds > 0 and milliseconds == 0:
            raise LimitError(f"watchdog: {seconds:g} s is refused; {LAYER} counts in steps of 1 ms, and 0 is off")
        self._link.exchange(Request(Opcode.WATCHDOG, Watchdog(milliseconds).pack()))
        self._watchdog_s = seconds

    def status(self) -> BoardStatus:
        """Read the board's counters; they start at 0 when it is powered."""
        counters = self._counters(self._link.exchange(Request(Opcode.STATUS, reply_bytes=1 + Counters.LAYOUT.size)))
        tripped = counters.watchdog == Counters.TRIPPED
        return BoardStatus(counters.pulses, counters.senses, counters.frames_refused, tripped)

    def safe_off(self) -> None:
        """All lines low and direct access disconnected, confirmed by reading back.

        Works without a session too: after a reset of the board, an interruption, or lost replies.

        Raises:
            LinkError: the port is closed, or the board does not answer: its lines are in an unknown state.
            ReadBackError: a line is not low.
        """
        counters = self._counters(self._link.outputs_low())
        if counters.lines:
            raise ReadBackError(
                f"the board at {self._link.port} reports lines {counters.lines:#04x} after OUTPUTS_LOW; "
                "switch the supplies off"
            )

    def reopen(self, port: str | None = None) -> None:
        """Open the link again after an unplug or a reset of the board, and arm the watchdog as it was.

        Raises:
            WrongInstrument: another board or chip answers.
        """
        self._link.reopen(port)
        if self._watchdog_s > 0:
            self.set_watchdog(self._watchdog_s)

    def close(self) -> None:
        """Close the link. The board's lines stay as they are."""
        self._link.close()

    def _pulse_arguments(
        self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int
    ) -> tuple[Polarity, DeviceMask, int, int]:
        """Polarity, mask, width in ns and pulses, all checked."""
        polarity = checked_choice(Polarity, polarity, "polarity", LAYER)
        mask = checked_mask(devices, self.geometry)
        board = self._link.welcome
        longest = board.max_busy_ms * 1_000_000 - board.setup_ns
        width_ns = self._nanoseconds(width_s, "pulse width", longest, self._limits.width)
        MOST_COUNT.check(count, "pulse count")
        return polarity, mask, width_ns, self._limits.count.check_int(count, "pulse count")

    def _cycle_arguments(
        self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int
    ) -> tuple[DeviceMask, tuple[int, int], int]:
        """Mask, widths of SET and RESET in ns and cycles, all checked."""
        board = self._link.welcome
        if not self.cycles:
            raise LimitError(
                f"{LAYER} at {self._link.port} speaks protocol version {board.version}, which has no loop of SET and "
                f"RESET; it needs version {SINCE[Opcode.CYCLE]}: update its firmware, or alternate SET and RESET"
            )
        mask = checked_mask(devices, self.geometry)
        longest = board.max_busy_ms * 1_000_000 - 2 * board.setup_ns
        widths_ns = (
            self._nanoseconds(set_width_s, "width of the SET in a cycle", longest, self._limits.width),
            self._nanoseconds(reset_width_s, "width of the RESET in a cycle", longest, self._limits.width),
        )
        Range(0, longest * 1e-9, "s", LAYER).check(sum(widths_ns) * 1e-9, "width of SET and RESET in a cycle together")
        MOST_CYCLES.check(count, "cycle count")
        return mask, widths_ns, self._limits.cycles.check_int(count, "cycle count")

    def _sense_sizes(self, precharge_s: float, window_s: float, repeats: int) -> tuple[tuple[int, int], list[int]]:
        """Timing in ns, and how many senses go into each request; all checked."""
        board, geometry = self._link.welcome, self.geometry
        timing = self._sense_timing(precharge_s, window_s)
        senses = MOST_REPEATS.check_int(repeats, "senses")
        empty = Sense.reply_bytes(geometry, 0)
        room = (board.max_payload - empty) // (Sense.reply_bytes(geometry, 1) - empty)
        most = self._most(room, Sense(*timing, 1).busy_ns(geometry, board.setup_ns))
        # Finely enough to fill the window.
        size = min(most, max(-(-senses // board.window), SMALLEST_PIECE))
        return timing, [min(size, senses - start) for start in range(0, senses, size)]

    def _direct_message(self, row: int, col: int, device: Device) -> DirectConnect:
        return DirectConnect(
            Range(0, self.geometry.rows - 1, "rows", LAYER).check_int(row, "row"),
            Range(0, self.geometry.cols - 1, "columns", LAYER).check_int(col, "column"),
            checked_choice(Device, device, "device", LAYER),
        )

    def _in_parts(
        self,
        opcode: Opcode,
        message: Callable[[int, DeviceMask], Pulse | Cycle],
        devices: DeviceMask,
        count: int,
        each_ns: int,
    ) -> Iterator[Request]:
        """Cut ``count`` pulses or cycles of ``each_ns`` on each device into requests; ``message`` makes one of them."""
        board = self._link.welcome
        # As many whole devices as the board may be busy with; a device that is too much by itself gets its pulses
        # in several requests. Either way the order of all pulses is that of the one large request.
        fits = min(board.max_busy_ms * 1_000_000 // each_ns, 0xFFFF_FFFF)
        selected = np.flatnonzero(devices)
        for some in np.split(selected, range(max(1, fits // count), len(selected), max(1, fits // count))):
            part = np.zeros(devices.shape, dtype=bool)
            part.flat[some] = True
            left = count
            while left:
                now = min(left, fits) if fits < count else left
                piece = message(now, part)
                yield Request(opcode, piece.pack(), piece.busy_ns(board.setup_ns) * 1e-9, devices=part)
                left -= now

    def _most(self, room: int, each_ns: int) -> int:
        """How many senses of ``each_ns``, of which ``room`` fit a frame, one request may ask for."""
        board = self._link.welcome
        most = min(room, board.max_busy_ms * 1_000_000 // each_ns, 0xFFFF)
        if most < 1:
            raise LimitError(
                f"one sense of the array would take {each_ns * 1e-9:g} s and {room} fit a frame; "
                f"{LAYER} allows {board.max_busy_ms} ms and needs room for 1: use shorter times or fewer rows"
            )
        return most

    def _sense_timing(self, precharge_s: float, window_s: float) -> tuple[int, int]:
        longest = self._link.welcome.max_busy_ms * 1_000_000
        return (
            self._nanoseconds(precharge_s, "precharge time", longest, self._limits.window),
            self._nanoseconds(window_s, "sense window", longest, self._limits.window),
        )

    def _nanoseconds(self, seconds: float, what: str, longest_ns: int, envelope: Range | None) -> int:
        """Whole nanoseconds of ``seconds``, checked against the board's own range and the bench file's."""
        if envelope is not None:
            envelope.check(seconds, what)
        Range(1e-9, min(longest_ns, 0xFFFF_FFFF) * 1e-9, "s", LAYER).check(seconds, what)
        return round(float(seconds) * 1e9)

    def _part(self, geometry: Geometry) -> Geometry:
        rows, cols = geometry
        return Geometry(
            Range(1, self.geometry.rows, "rows", LAYER).check_int(rows, "rows of the XNOR"),
            Range(1, self.geometry.cols, "columns", LAYER).check_int(cols, "columns of the XNOR"),
        )

    def _counters(self, payload: bytes) -> Counters:
        try:
            return Counters.unpack(payload)
        except PayloadError as error:
            raise self._malformed(error) from None

    def _malformed(self, error: PayloadError) -> ReplyError:
        return ReplyError(f"the board at {self._link.port} sent a malformed answer: {error}")
