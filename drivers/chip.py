"""The chip as the application sees it: an array of 2T2R cells that is formed, programmed, sensed and measured.

A method that moves voltage is named after what it does to cells. Every one of them first brings the rails to its
operating point, through limits that no caller can step over, and tells the listeners what was done.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from drivers.errors import InDoubt, LimitError, ReadBackError
from drivers.limits import Range
from drivers.operating_points import OperatingPoints, PulsePoint, RailVoltages
from drivers.operations import DeviceReading, Operation, OperationKind, Outcome, Programming, Verdict
from drivers.pieces import OVERHEAD_S, pieces, recut, spans
from drivers.rails import SupplyRails
from drivers.roles import ControllerBoard, Measurement, SourceMeasureUnit, XnorStream
from drivers.xnor_flow import XnorFlow, flow_sizes
from models.cells import Device, DeviceMask, Geometry, Polarity, Weights, checked_weights, lrs_devices
from models.exceptions import BenchFailure, RramBenchError

T = TypeVar("T")

ATTEMPTS = Range(1, 10_000, "passes", "the chip's programming")
CYCLES = Range(1, 10**12, "cycles", "the chip's cycling")
REPEATS = Range(1, 1_000_000, "senses", "the chip's reading")

SPOTS = 32
"""So many resistances are measured between two confirmations of the rails."""


class Chip:
    """A chip in its socket: the board drives its lines, the supply its rails, the source-measure unit its pads.

    Attributes:
        points: operating points; :meth:`at` gives the same chip with others.
        listeners: told of each operation once it is done, or known to be in doubt.
        gates: called before each exchange that moves or drives anything; what one raises keeps it from being sent.
            Between two exchanges of one operation a gate may switch the outputs off, after :meth:`settle`: they are
            brought back.

    Args:
        board: the controller board.
        rails: the three supplies.
        points: operating points.
        smu: source-measure unit on the direct-access pads, or None when the bench has none.
        name: what the chip is called where the board cannot tell: one die of a wafer from the next.
    """

    def __init__(
        self,
        board: ControllerBoard,
        rails: SupplyRails,
        points: OperatingPoints,
        smu: SourceMeasureUnit | None,
        name: str | None = None,
    ) -> None:
        self._name = name
        self._board = board
        self._rails = rails
        self._smu = smu
        self.points = points
        self.listeners: list[Callable[[Operation], None]] = []
        self.gates: list[Callable[[], None]] = []
        self._flows: list[XnorFlow] = []

    def __repr__(self) -> str:
        rows, cols = self.geometry
        return f"<Chip {self.chip_id}: {rows} x {cols} cells>"

    def at(self, points: OperatingPoints) -> Chip:
        """The same chip, on the same wires and with the same listeners and gates, at other operating points.

        Nothing is sent; the limits of the bench hold for these points when they are used.
        """
        view = copy.copy(self)
        view.points = points
        return view

    def check(self, *, senses: bool = False) -> None:
        """Refuse rails outside the envelope at any operating point, and with ``senses`` its window; nothing is sent.

        For a procedure that comes to some of its operating points long after it began. Raises LimitError.
        """
        points = self.points
        for point in (points.form, points.set, points.reset, points.weak_reset, points.sense, points.direct):
            self._rails.check(point.rails)
        if senses:
            self._board.check_sense(points.sense.precharge_s, points.sense.window_s)

    @property
    def measures(self) -> bool:
        """Whether the bench has a source-measure unit on the direct-access pads."""
        return self._smu is not None

    @property
    def cycles_fast(self) -> bool:
        """Whether cycles run in the board's own loop, at the operating point CYCLE."""
        return self._board.cycles and self.points.cycle is not None

    @property
    def geometry(self) -> Geometry:
        """Size of the array in cells."""
        return self._board.geometry

    @property
    def chip_id(self) -> str:
        """Identifier of the chip: the board's, unless it has a name of its own."""
        return self._board.chip_id if self._name is None else self._name

    def no_devices(self) -> DeviceMask:
        """An empty mask, ``(rows, cols, 2)``."""
        return np.zeros((*self.geometry, 2), dtype=bool)

    def form(self, devices: DeviceMask, count: int = 1) -> None:
        """Apply forming pulses: the control sequence of SET at the FORM rails."""
        self._pulse(OperationKind.FORM, self.points.form, Polarity.SET, devices, count)

    def set(self, devices: DeviceMask, count: int = 1) -> None:
        """SET the selected devices: HRS to LRS."""
        self._pulse(OperationKind.SET, self.points.set, Polarity.SET, devices, count)

    def reset(self, devices: DeviceMask, count: int = 1) -> None:
        """RESET the selected devices: LRS to HRS."""
        self._pulse(OperationKind.RESET, self.points.reset, Polarity.RESET, devices, count)

    def weak_reset(self, devices: DeviceMask, count: int = 1) -> None:
        """Apply ``count`` weak-RESET pulses: RESET at rails too weak to reach the HRS in one pulse."""
        self._pulse(OperationKind.WEAK_RESET, self.points.weak_reset, Polarity.RESET, devices, count)

    def program(
        self,
        weights: Weights,
        used: NDArray[np.bool_] | None = None,
        attempts: int = 3,
        keep_right: bool = False,
    ) -> Programming:
        """Program weights and verify them by sensing; cells that read wrong are programmed again.

        A SET pass on the devices that must be low is followed by a RESET pass on the others of the same cells.

        Args:
            weights: ``(rows, cols)``, -1, 0 or +1.
            used: ``(rows, cols)`` bool, cells to program; all by default. Others are left as they are.
            attempts: most passes over a cell, at least 1.
            keep_right: sense first, and leave cells alone that already read what is asked.

        Raises:
            UserMistake: wrong shape or value, before anything is sent.
        """
        target = checked_weights(weights, self.geometry)
        mask = np.ones(self.geometry, dtype=bool) if used is None else np.asarray(used)
        if mask.dtype != bool or mask.shape != tuple(self.geometry):
            raise LimitError(
                f"the mask of used cells is {mask.dtype} of shape {mask.shape}, "
                f"expected bool of shape {tuple(self.geometry)}"
            )
        most = ATTEMPTS.check_int(attempts, "attempts")
        low = lrs_devices(target)
        pending, sensed, raw_errors, passes = mask, np.zeros_like(target), 0, 0
        if keep_right and mask.any():
            sensed = self.read()[0]
            pending = mask & (sensed != target)
        while pending.any() and passes < most:
            passes += 1
            chosen = pending[:, :, None]
            self.set(low & chosen)
            self.reset(~low & chosen)
            sensed = self.read()[0]
            pending = mask & (sensed != target)
            if passes == 1:
                raw_errors = int(pending.sum())
        verdict = np.where(mask, np.where(sensed == target, Verdict.VERIFIED, Verdict.FAILED), Verdict.UNUSED)
        return Programming(target, mask, sensed, verdict.astype(np.int8), passes, raw_errors)

    def cycle(self, devices: DeviceMask, count: int) -> None:
        """Cycle the selected devices ``count`` times, SET and then RESET.

        In the board's own loop where there is one, at the operating point CYCLE; with SET and RESET at their own rails
        otherwise, which takes as long as the supply needs to move between them.

        Raises:
            LimitError: before anything is sent.
        """
        mask = self._checked_mask(OperationKind.CYCLE, devices)
        cycles = CYCLES.check_int(count, "cycles")
        if not mask.any():
            return
        point = self.points.cycle
        if point is None or not self._board.cycles:
            for _ in range(cycles):
                self.set(mask)
                self.reset(mask)
            return
        self._board.check_cycle(mask, point.set_width_s, point.reset_width_s, cycles)
        widths = point.set_width_s, point.reset_width_s
        for part, some in pieces(mask, cycles, sum(widths) + 2 * OVERHEAD_S):
            call = partial(self._board.cycle, part, *widths, some)
            self._act(OperationKind.CYCLE, point.rails, part, point.set_width_s, some, call)

    def read(self, repeats: int = 1) -> NDArray[np.int8]:
        """Sense the whole array ``repeats`` times: ``(repeats, rows, cols)``, +1, -1, or 0 for undecided."""
        point = self.points.sense
        senses = REPEATS.check_int(repeats, "senses")
        self._board.check_sense(point.precharge_s, point.window_s, senses)
        everything = ~self.no_devices()
        parts = []
        for some in spans(senses, self.geometry.rows * (point.precharge_s + point.window_s + OVERHEAD_S)):
            call = partial(self._board.sense, point.precharge_s, point.window_s, some)
            parts.append(self._act(OperationKind.SENSE, point.rails, everything, point.window_s, some, call))
        return np.concatenate(parts)

    def xnor(self, inputs: NDArray[np.int8], geometry: Geometry | None = None) -> NDArray[np.int16]:
        """Sums of XNOR in the sense amplifiers, over the upper left ``geometry`` cells (all by default).

        Args:
            inputs: ``(n, geometry.cols)`` of -1 and +1.

        Returns:
            ``(n, geometry.rows)``: sum over the columns of weight times input; undecided cells count zero.

        Raises:
            LimitError: before anything is sent.
        """
        [sums] = self.xnor_stream([inputs], geometry)
        return sums

    def xnor_stream(
        self, batches: Iterable[NDArray[np.int8]], geometry: Geometry | None = None
    ) -> Iterator[NDArray[np.int16]]:
        """Sums of XNOR batch after batch: the host makes the next vectors, and uses the last sums, meanwhile.

        Batches are drawn ahead of the sums, as far as the board may be kept busy beyond a stop. Other calls may come in
        between: what is with the board is sensed before them. A consumer that breaks off waits for that much too.

        Args:
            batches: ``(n, geometry.cols)`` of -1 and +1 each, any n.

        Yields:
            For each batch in order ``(n, geometry.rows)``, as of :meth:`xnor`, once the rails were confirmed.

        Raises:
            LimitError: a batch of another shape or value; nothing of it is sent.
        """
        used = self.geometry if geometry is None else geometry
        point = self.points.sense
        # Not in the generator: what is wrong is said here and now.
        return self._xnor_flow(batches, used, self._board.xnor_stream(point.precharge_s, point.window_s, used))

    def _xnor_flow(
        self, batches: Iterable[NDArray[np.int8]], used: Geometry, stream: XnorStream
    ) -> Iterator[NDArray[np.int16]]:
        point = self.points.sense
        devices = self.no_devices()
        devices[: used.rows, : used.cols] = True
        sizes: deque[int] = deque()

        def drawn() -> Iterator[NDArray[np.int8]]:
            for batch in batches:
                self._board.check_xnor(batch, point.precharge_s, point.window_s, used)
                sizes.append(len(batch))
                yield np.asarray(batch)

        def tell(count: int, started: float) -> None:
            self._tell(OperationKind.XNOR, devices, point.rails, point.window_s, count, started)

        flow = XnorFlow(stream, used.rows, tell)
        vectors, most = flow_sizes(used.rows * (point.precharge_s + point.window_s + OVERHEAD_S))
        self._flows.append(flow)
        try:
            for piece in recut(drawn(), vectors):
                while flow.in_flight >= most:
                    flow.receive()
                self._send(flow, piece, point.rails)
                while sizes and flow.confirmed >= sizes[0]:
                    yield flow.give(sizes.popleft())
            flow.settle()
            while sizes:
                yield flow.give(sizes.popleft())
        except BaseException as error:
            # What is with the board will have been sensed: it is told of, and leaves the link in order.
            try:
                flow.settle()
            except RramBenchError as further:
                if str(further) != str(error):
                    error.add_note(f"then: {further}")
            raise
        finally:
            self._flows.remove(flow)

    def _send(self, flow: XnorFlow, piece: NDArray[np.int8], rails: RailVoltages) -> None:
        self._settle(flow)
        self._pass_gates()
        if flow.in_flight and self._rails.applied != rails:
            raise ReadBackError("the rails were moved while the board sensed; what was with it is not recorded")
        flow.begin()
        self._rails.apply(rails)
        flow.put(piece)

    def settle(self) -> None:
        """Wait until nothing that :meth:`xnor_stream` sent is with the board, so that the outputs may be switched off.

        The sums are kept for whoever goes on with the stream.
        """
        self._settle(None)

    def _settle(self, own: XnorFlow | None) -> None:
        for flow in self._flows:
            if flow is not own:
                flow.settle()

    def resistance(self, row: int, col: int, device: Device) -> Measurement:
        """Measure one device through direct access; its resistance is voltage over current.

        Raises:
            LimitError: there is no such device; nothing is sent.
            BenchFailure: the bench has no source-measure unit.
        """
        self._board.check_device(row, col, device)
        return self._spots(np.array([[row, col, device]]))[0].reading

    def resistances(self, devices: DeviceMask) -> Iterator[DeviceReading]:
        """Measure the selected devices one by one through direct access, in row-major order, BL before BLb.

        A reading is given out once the rails were confirmed to stand after it; a stop in between loses no more than
        the last few.

        Raises:
            BenchFailure: the bench has no source-measure unit, or the board's watchdog ran out.
        """
        chosen = np.argwhere(self._checked_mask(OperationKind.RESISTANCE, devices))
        for start in range(0, len(chosen), SPOTS):
            yield from self._spots(chosen[start : start + SPOTS])

    def sweep(
        self, row: int, col: int, device: Device, volts: Sequence[float], compliance_a: float
    ) -> list[Measurement]:
        """Force ``volts`` one after the other on one device through direct access, and measure at each.

        The output is at 0 V before the first and off after the last.

        Args:
            volts: in V; positive works in the SET direction, negative in the RESET direction.
            compliance_a: current limit in A.

        Raises:
            LimitError: a level or the compliance is outside the envelope; nothing is sent.
            BenchFailure: the bench has no source-measure unit, or the board's watchdog ran out.
        """
        smu = self._source_measure_unit()
        rails = self.points.direct.rails
        self._board.check_device(row, col, device)
        for level in (0.0, *volts):
            smu.check_source(level, compliance_a)
        self.settle()
        started = time.monotonic()
        readings: list[Measurement] = []
        driven = False
        try:
            smu.set_source(0.0, compliance_a)
            # A range that follows the level overshoots where it changes, enough to disturb a device.
            smu.set_source_range(max(map(abs, volts), default=0.0))
            for level in volts:
                self._pass_gates()
                if not driven or self._rails.applied != rails:
                    self._rails.apply(rails)
                    self._board.connect_device(row, col, device)
                    driven = True
                    smu.set_source(0.0, compliance_a)
                    smu.set_output(True)
                smu.set_source(level, compliance_a)
                readings.append(smu.measure())
            self._check_watchdog(f"device ({row}, {col}, {Device(device).name}) was swept")
        finally:
            # The pads go back to 0 V before the switch matrix moves, whatever happened.
            try:
                smu.set_output(False)
                smu.set_source_range(None)
            finally:
                if driven:
                    self._board.disconnect_device()
        devices = self.no_devices()
        devices[row, col, device] = True
        self._tell(OperationKind.SWEEP, devices, rails, 0.0, len(readings), started)
        return readings

    def _spots(self, chosen: NDArray[np.int64]) -> list[DeviceReading]:
        """Measure a few devices, ``(n, 3)`` of row, column and device."""
        smu, point = self._source_measure_unit(), self.points.direct
        self.settle()
        started = time.monotonic()
        readings: list[DeviceReading] = []
        prepared = False
        try:
            for row, col, device in chosen.tolist():
                self._pass_gates()
                if not prepared or self._rails.applied != point.rails:
                    self._rails.apply(point.rails)
                    smu.set_source(point.read_v, point.compliance_a)
                    prepared = True
                # The output is off here: the switch matrix never moves while the pads are driven.
                self._board.connect_device(row, col, Device(device))
                readings.append(DeviceReading(row, col, Device(device), smu.spot()))
            self._check_watchdog(f"{len(readings)} device(s) from ({row}, {col}) back were measured")
        finally:
            if prepared:
                self._board.disconnect_device()
        devices = self.no_devices()
        devices[tuple(chosen.T)] = True
        self._tell(OperationKind.RESISTANCE, devices, point.rails, 0.0, 1, started)
        return readings

    def _source_measure_unit(self) -> SourceMeasureUnit:
        if self._smu is None:
            raise BenchFailure("this bench has no source-measure unit: a resistance cannot be measured")
        return self._smu

    def _check_watchdog(self, what: str) -> None:
        if self._board.status().watchdog_tripped:
            raise BenchFailure(
                f"the board's watchdog tripped while {what} and took the pads off; these readings are not used. "
                "Lengthen board.watchdog_s"
            )

    def _checked_mask(self, kind: OperationKind, devices: DeviceMask) -> DeviceMask:
        mask = np.asarray(devices)
        if mask.dtype != bool or mask.shape != (*self.geometry, 2):
            raise LimitError(
                f"{kind.name}: the mask of devices is {mask.dtype} of shape {mask.shape}, "
                f"expected bool of shape {(*self.geometry, 2)}"
            )
        return mask

    def _pulse(
        self, kind: OperationKind, point: PulsePoint, polarity: Polarity, devices: DeviceMask, count: int
    ) -> None:
        mask = self._checked_mask(kind, devices)
        if not mask.any():
            return
        self._board.check_pulse(polarity, mask, point.width_s, count)
        for part, some in pieces(mask, count, point.width_s + OVERHEAD_S):
            call = partial(self._board.pulse, polarity, part, point.width_s, some)
            self._act(kind, point.rails, part, point.width_s, some, call)

    def _act(
        self,
        kind: OperationKind,
        rails: RailVoltages,
        devices: DeviceMask,
        width_s: float,
        count: int,
        call: Callable[[], T],
    ) -> T:
        """One exchange with the array: gates, rails, the exchange itself, and word of it to the listeners."""
        self.settle()
        self._pass_gates()
        started = time.monotonic()
        self._rails.apply(rails)
        try:
            answer = call()
        except InDoubt as doubt:
            doubtful = self.no_devices()
            doubtful[tuple(np.array(doubt.devices, dtype=np.int64).reshape(-1, 3).T)] = True
            self._tell(kind, doubtful, rails, width_s, count, started, Outcome.IN_DOUBT)
            raise
        self._tell(kind, devices, rails, width_s, count, started)
        return answer

    def _pass_gates(self) -> None:
        for gate in self.gates:
            gate()

    def _tell(
        self,
        kind: OperationKind,
        devices: DeviceMask,
        rails: RailVoltages,
        width_s: float,
        count: int,
        started: float,
        outcome: Outcome = Outcome.DONE,
    ) -> None:
        """Tell the listeners, once the rails are confirmed to stand where the operation wanted them."""
        measured = self._rails.confirm() if outcome is Outcome.DONE else None
        operation = Operation(kind, devices, rails, measured, width_s, count, time.monotonic() - started, outcome)
        for listener in self.listeners:
            listener(operation)


__all__ = ["Chip", "DeviceReading", "Operation", "OperationKind", "Outcome", "Programming", "Verdict"]
