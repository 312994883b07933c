"""What was done to the array, and what it came to: the records that the chip hands out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivers.operating_points import RailVoltages
from drivers.roles import Measurement
from models.cells import Device, DeviceMask, Weights


class OperationKind(IntEnum):
    """What was done to the array; the codes are those of the run file."""

    FORM = 0
    SET = 1
    RESET = 2
    WEAK_RESET = 3
    SENSE = 4
    XNOR = 5
    RESISTANCE = 6
    CYCLE = 7
    SWEEP = 8


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
        width_s: pulse width (of the SET in a cycle), or sense window; 0 for a measurement through direct access.
        count: pulses or cycles per device, senses, input vectors, or points of a sweep.
        seconds: how long it took, rails included, and what the host did meanwhile where vectors were streamed.
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


class DeviceReading(NamedTuple):
    """One device measured through direct access."""

    row: int
    col: int
    device: Device
    reading: Measurement
