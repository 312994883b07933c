"""The chip as the application sees it: an array of 2T2R cells that is formed, programmed, sensed and measured.

A method that moves voltage is named after what it does to cells. Every one of them first brings the rails to its
operating point, through limits that no caller can step over, and tells the listeners what was done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from drivers.errors import InDoubt, LimitError
from drivers.limits import Range
from drivers.operating_points import OperatingPoints, PulsePoint, RailVoltages
from drivers.rails import SupplyRails
from drivers.roles import ControllerBoard, Measurement, SourceMeasureUnit
from models.cells import Device, DeviceMask, Geometry, Polarity, Weights, checked_weights, lrs_devices
from models.exceptions import BenchFailure

ATTEMPTS = Range(1, 10_000, "passes", "the chip's programming")


class OperationKind(IntEnum):
    """What was done to the array; the codes are those of the run file."""

    FORM = 0
    SET = 1
    RESET = 2
    WEAK_RESET = 3
    SENSE = 4
    XNOR = 5
    RESISTANCE = 6


class Outcome(IntEnum):
    """Whether an operation is known to have acted; the codes are those of the run file."""

    DONE = 0
    IN_DOUBT = 1


class Verdict(IntEnum):
    """What programming a cell came to; the codes are those of the run file."""

    UNUSED = 0
    VERIFIED = 1
    FAILED = 2


@dataclass(frozen=True)
class Operation:
    """One thing that was done to the array.

    Attributes:
        devices: ``(rows, cols, 2)`` bool, the devices it acted on.
        rails: set points.
        measured: what the rails measured right after it; None where it is in doubt.
        width_s: pulse width, or sense window; 0 for a resistance measurement.
        count: pulses, senses, or input vectors.
        seconds: how long it took, rails included.
        outcome: DONE, or IN_DOUBT where pulses were sent and never acknowledged; ``devices`` are then those in doubt.
    """

    kind: OperationKind
    devices: DeviceMask
    rails: RailVoltages
    measured: RailVoltages | None
    width_s: float
    count: int
    seconds: float
    outcome: Outcome = Outcome.DONE


@dataclass(frozen=True)
class Programming:
    """How programming a pattern went.

    Attributes:
        target: ``(rows, cols)`` int8; cells outside ``used`` were left alone.
        used: ``(rows, cols)`` bool.
        sensed: ``(rows, cols)`` int8, the last verify read.
        verdict: ``(rows, cols)`` int8 of :class:`Verdict`.
        attempts: passes over the cells, the first included.
        raw_errors: cells that read wrong after the first pass.
    """

    target: Weights
    used: NDArray[np.bool_]
    sensed: Weights
    verdict: NDArray[np.int8]
    attempts: int
    raw_errors: int

    @property
    def verified(self) -> int:
        """Number of cells that read what was asked."""
        return int((self.verdict == Verdict.VERIFIED).sum())

    @property
    def failed(self) -> int:
        """Number of cells that never read what was asked."""
        return int((self.verdict == Verdict.FAILED).sum())


class Chip:
    """A chip in its socket: the board drives its lines, the supply its rails, the source-measure unit its pads.

    Args:
        board: the controller board.
        rails: the three supplies.
        points: operating points.
        smu: source-measure unit on the direct-access pads, or None when the bench has none.
    """

    def __init__(
        self, board: ControllerBoard, rails: SupplyRails, points: OperatingPoints, smu: SourceMeasureUnit | None
    ) -> None:
        self._board = board
        self._rails = rails
        self._smu = smu
        self.points = points
        self.listeners: list[Callable[[Operation], None]] = []

    @property
    def geometry(self) -> Geometry:
        """Size of the array in cells."""
        return self._board.geometry

    @property
    def chip_id(self) -> str:
        """Identifier of the chip, as the board reports it."""
        return self._board.chip_id

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

    def program(self, weights: Weights, used: NDArray[np.bool_] | None = None, attempts: int = 3) -> Programming:
        """Program weights and verify them by sensing; cells that read wrong are programmed again.

        A SET pass on the devices that must be low is followed by a RESET pass on the others of the same cells.

        Args:
            weights: ``(rows, cols)``, -1, 0 or +1.
            used: ``(rows, cols)`` bool, cells to program; all by default. Others are left as they are.
            attempts: most passes over a cell, at least 1.

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

    def read(self, repeats: int = 1) -> NDArray[np.int8]:
        """Sense the whole array ``repeats`` times: ``(repeats, rows, cols)``, +1, -1, or 0 for undecided."""
        point = self.points.sense
        self._board.check_sense(point.precharge_s, point.window_s, repeats)
        started = time.monotonic()
        self._rails.apply(point.rails)
        sensed = self._board.sense(point.precharge_s, point.window_s, repeats)
        everything = ~self.no_devices()
        self._tell(OperationKind.SENSE, everything, point.rails, point.window_s, repeats, started)
        return sensed

    def xnor(self, inputs: NDArray[np.int8], geometry: Geometry | None = None) -> NDArray[np.int16]:
        """Sums of XNOR in the sense amplifiers, over the upper left ``geometry`` cells (all by default).

        Args:
            inputs: ``(n, geometry.cols)`` of -1 and +1.

        Returns:
            ``(n, geometry.rows)``: sum over the columns of weight times input; undecided cells count zero.
        """
        used = self.geometry if geometry is None else geometry
        point = self.points.sense
        self._board.check_xnor(inputs, point.precharge_s, point.window_s, used)
        started = time.monotonic()
        self._rails.apply(point.rails)
        sums = self._board.xnor(inputs, point.precharge_s, point.window_s, used)
        devices = self.no_devices()
        devices[: used.rows, : used.cols] = True
        self._tell(OperationKind.XNOR, devices, point.rails, point.window_s, len(inputs), started)
        return sums

    def resistance(self, row: int, col: int, device: Device) -> Measurement:
        """Measure one device through direct access; its resistance is voltage over current.

        Raises:
            BenchFailure: the bench has no source-measure unit.
        """
        if self._smu is None:
            raise BenchFailure("this bench has no source-measure unit: a resistance cannot be measured")
        point = self.points.direct
        self._board.check_device(row, col, device)
        started = time.monotonic()
        self._rails.apply(point.rails)
        self._board.connect_device(row, col, device)
        try:
            self._smu.set_source(point.read_v, point.compliance_a)
            self._smu.set_output(True)
            reading = self._smu.measure()
            if self._board.status().watchdog_tripped:
                raise BenchFailure(
                    f"the board's watchdog tripped while device ({row}, {col}, {Device(device).name}) was measured and "
                    "took it off the pads; the reading is not used. Lengthen board.watchdog_s"
                )
        finally:
            # The pads go back to 0 V before the switch matrix moves, whatever happened.
            try:
                self._smu.set_output(False)
            finally:
                self._board.disconnect_device()
        devices = self.no_devices()
        devices[row, col, device] = True
        self._tell(OperationKind.RESISTANCE, devices, point.rails, 0.0, 1, started)
        return reading

    def _pulse(
        self, kind: OperationKind, point: PulsePoint, polarity: Polarity, devices: DeviceMask, count: int
    ) -> None:
        mask = np.asarray(devices)
        if mask.dtype != bool or mask.shape != (*self.geometry, 2):
            raise LimitError(
                f"{kind.name}: the mask of devices is {mask.dtype} of shape {mask.shape}, "
                f"expected bool of shape {(*self.geometry, 2)}"
            )
        if not mask.any():
            return
        self._board.check_pulse(polarity, mask, point.width_s, count)
        started = time.monotonic()
        self._rails.apply(point.rails)
        try:
            self._board.pulse(polarity, mask, point.width_s, count)
        except InDoubt as doubt:
            doubtful = self.no_devices()
            doubtful[tuple(np.array(doubt.devices, dtype=np.int64).reshape(-1, 3).T)] = True
            self._tell(kind, doubtful, point.rails, point.width_s, count, started, Outcome.IN_DOUBT)
            raise
        self._tell(kind, mask, point.rails, point.width_s, count, started)

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
