"""The roles that the application asks for. A bench file says which driver fills each of them.

Each docstring is the contract: a driver that keeps it can take the role.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.cells import Device, DeviceMask, Geometry, Polarity


@dataclass(frozen=True)
class Identity:
    """Who answers at the far end of a link."""

    manufacturer: str
    model: str
    serial: str
    firmware: str

    def __str__(self) -> str:
        return f"{self.manufacturer} {self.model}, serial {self.serial}, firmware {self.firmware}"


class Instrument(Protocol):
    """Anything with an identity that can be made safe and closed."""

    def identify(self) -> Identity:
        """Ask who is there. Raises WrongInstrument when it is not the model this driver is for."""

    def safe_off(self) -> None:
        """Outputs to 0 V and off with fixed strings that need no earlier query, then read back.

        Returns only when the read-back confirms it; raises BenchFailure otherwise.
        """

    def close(self) -> None:
        """Close the link. Does not touch the outputs."""


class ChannelReading(NamedTuple):
    """What a supply channel measures at its terminals."""

    voltage_v: float
    current_a: float
    on: bool


class PowerSupply(Instrument, Protocol):
    """A multi-channel DC supply; channels count from 1."""

    def set_voltage(self, channel: int, volts: float) -> None:
        """Set a channel's voltage in V and check the read-back. Raises LimitError before anything is sent."""

    def check_voltages(self, volts: Mapping[int, float]) -> None:
        """Check arguments as :meth:`set_voltages` would, sending nothing. Raises LimitError."""

    def set_voltages(self, volts: Mapping[int, float]) -> None:
        """Set several channels in the order given, all checked against their limits before the first byte."""

    def set_current_limit(self, channel: int, amps: float) -> None:
        """Set a channel's current limit in A and check the read-back."""

    def set_voltage_limit(self, channel: int, volts: float) -> None:
        """Program the instrument's own upper bound of a channel's voltage in V, and check the read-back."""

    def set_output(self, channel: int, on: bool) -> None:
        """Switch a channel on or off and check the read-back."""

    def measure(self) -> tuple[ChannelReading, ...]:
        """Measure all channels at once, in channel order."""


class Measurement(NamedTuple):
    """One reading of a source-measure unit."""

    voltage_v: float
    current_a: float
    in_compliance: bool


class SourceMeasureUnit(Instrument, Protocol):
    """A unit that forces a voltage and measures the current."""

    def check_source(self, volts: float, compliance_a: float) -> None:
        """Check arguments as :meth:`set_source` would, sending nothing. Raises LimitError."""

    def set_source(self, volts: float, compliance_a: float) -> None:
        """Set the source level in V and the current compliance in A; both are read back. Output unchanged."""

    def set_source_range(self, volts: float | None) -> None:
        """Fix the source range to the lowest that holds ``volts``, in V, and read it back; None lets it follow."""

    def set_integration(self, power_line_cycles: float) -> None:
        """Set the integration time of a reading, in power-line cycles."""

    def set_output(self, on: bool) -> None:
        """Switch the output on or off and check the read-back."""

    def measure(self) -> Measurement:
        """Take one reading. An overflow is raised as ReplyError, never returned as a number."""

    def spot(self) -> Measurement:
        """Output on at the source level, one reading, output off; the output reads back off before this returns.

        Errors as for :meth:`measure`. Whatever happens, the output is off or its state is an error that was raised.
        """


@dataclass(frozen=True)
class BoardStatus:
    """Counters that a controller board keeps since it was powered."""

    pulses: int
    senses: int
    frames_refused: int
    watchdog_tripped: bool


class XnorStream(Protocol):
    """Input vectors on their way through the sense amplifiers: more are put in while the sums of others are awaited.

    Reading moves no device: a stream may be left in its middle. Other calls to the board come in between two calls of
    this class; what is with the board is sensed before them, and its sums are kept.
    """

    def put(self, inputs: NDArray[np.int8]) -> None:
        """Send vectors ``(n, cols)`` of -1 and +1; wait where the board takes no more. Raises LimitError."""

    def take(self) -> NDArray[np.int16]:
        """Return the sums ``(n, rows)`` of the oldest vectors that were put in and not taken out; wait for them."""


class ControllerBoard(Instrument, Protocol):
    """The board that drives the chip's word, bit and source lines. It does not know the rails' voltages."""

    @property
    def geometry(self) -> Geometry:
        """Size of the array in cells."""

    @property
    def chip_id(self) -> str:
        """Identifier of the chip in the socket."""

    @property
    def cycles(self) -> bool:
        """Whether the board has a loop of its own for SET / RESET cycling."""

    def check_pulse(self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int = 1) -> None:
        """Check arguments as :meth:`pulse` would, sending nothing. Raises LimitError."""

    def check_cycle(self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int) -> None:
        """Check arguments as :meth:`cycle` would, sending nothing. Raises LimitError."""

    def check_sense(self, precharge_s: float, window_s: float, repeats: int = 1) -> None:
        """Check arguments as :meth:`sense` would, sending nothing. Raises LimitError."""

    def check_xnor(self, inputs: NDArray[np.int8], precharge_s: float, window_s: float, geometry: Geometry) -> None:
        """Check arguments as :meth:`xnor_stream` and its ``put`` would, sending nothing. Raises LimitError."""

    def check_device(self, row: int, col: int, device: Device) -> None:
        """Check that the array has this device, sending nothing. Raises LimitError."""

    def pulse(self, polarity: Polarity, devices: DeviceMask, width_s: float, count: int = 1) -> None:
        """Apply ``count`` pulses of ``width_s`` to each selected device, cell after cell.

        Args:
            devices: ``(rows, cols, 2)`` bool, BL first.

        Raises:
            LimitError: before anything is sent.
            InDoubt: the pulse may or may not have acted. It is never repeated blindly.
        """

    def cycle(self, devices: DeviceMask, set_width_s: float, reset_width_s: float, count: int) -> None:
        """Cycle each selected device ``count`` times, a SET pulse and then a RESET pulse, at the rails as they stand.

        Args:
            devices: ``(rows, cols, 2)`` bool, BL first.

        Raises:
            LimitError: before anything is sent; also where the board has no such loop (:attr:`cycles` is False).
            InDoubt: cycles that may or may not have acted. They are never repeated blindly.
        """

    def sense(self, precharge_s: float, window_s: float, repeats: int = 1) -> NDArray[np.int8]:
        """Sense the whole array ``repeats`` times: ``(repeats, rows, cols)``, +1, -1, or 0 for undecided."""

    def xnor_stream(self, precharge_s: float, window_s: float, geometry: Geometry) -> XnorStream:
        """XNOR of vectors with the upper left ``geometry`` cells in the sense amplifiers, and their sums by popcount.

        A sum is agreements less disagreements of a row, undecided cells counting zero.

        Raises:
            LimitError: nothing is sent.
        """

    def settle(self) -> None:
        """Wait until all vectors that streams have put in are sensed and their sums are here, to be taken."""

    def connect_device(self, row: int, col: int, device: Device) -> None:
        """Connect one device to the direct-access pads (and no other)."""

    def disconnect_device(self) -> None:
        """Connect no device to the direct-access pads."""

    def set_watchdog(self, timeout_s: float) -> None:
        """Take the lines down when the host is silent for ``timeout_s``; 0 switches the watchdog off."""

    def status(self) -> BoardStatus:
        """Read the board's counters."""
