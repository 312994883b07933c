"""The one physical world behind all simulated instruments: rails, the direct-access pads and a chip.

What the supply puts on VDDC and VDDR decides what a pulse does to a cell; what the source-measure unit sees is the
device that the board's direct access connects to its pads; the chuck sets the temperature. Servers hold
:attr:`World.lock` while they act.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

from drivers.simulated.chip import SimulatedChip

RAIL_OF_CHANNEL: Mapping[int, str] = {1: "vddr", 2: "vddc", 3: "vdd"}
"""Wiring of the laboratory's bench: supply channel 1 is VDDR, 2 is VDDC, 3 is VDD."""

LEAKAGE_S = 2e-4
"""Load of the chip's supply pins, in siemens; only there so that a supply channel measures a current."""


STEP_S = 1.0
"""Time passes in steps of this length as long as the temperature moves."""


class Rails(NamedTuple):
    """Voltages at the chip's supply pins, in V."""

    vdd_v: float
    vddc_v: float
    vddr_v: float


class World:
    """Rails, pads and chip, behind one lock.

    Args:
        chip: the chip in the socket.

    Attributes:
        chip: the chip on the wires now; see :meth:`place`.
        following: brings what follows the time in the world up to now, and tells whether it is still on the move.
    """

    def __init__(self, chip: SimulatedChip) -> None:
        self.chip = chip
        self.following: Callable[[], bool] = lambda: False
        self._now_s = 0.0
        self.lock = threading.RLock()
        self._volts = {"vdd": 0.0, "vddc": 0.0, "vddr": 0.0}

    @property
    def rails(self) -> Rails:
        """What the chip's supply pins see now."""
        return Rails(self._volts["vdd"], self._volts["vddc"], self._volts["vddr"])

    def place(self, chip: SimulatedChip) -> None:
        """Another chip is on the wires from now on: it sees the rails, and has the temperature of the one before."""
        with self.lock:
            chip.temperature_c = self.chip.temperature_c
            chip.disconnect()
            self.chip = chip
            chip.expose(self.rails)

    @property
    def temperature_c(self) -> float:
        """Temperature of the chip in degC; 25 until something sets it."""
        return self.chip.temperature_c

    @temperature_c.setter
    def temperature_c(self, temperature_c: float) -> None:
        with self.lock:
            self.chip.temperature_c = temperature_c

    @property
    def now_s(self) -> float:
        """Seconds that have passed since the world was made; see :meth:`advance`."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Let time pass: devices drift at the chip's temperature, which follows its source. None passes by itself.

        Raises:
            UserMistake: the time is negative or not finite.
        """
        with self.lock:
            moving, left = self.following(), seconds
            while moving and left > STEP_S:
                self._step(STEP_S)
                moving, left = self.following(), left - STEP_S
            self._step(left)
            self.following()

    def _step(self, seconds: float) -> None:
        self.chip.advance(seconds)
        self._now_s += seconds

    def drive_channel(self, channel: int, volts: float) -> None:
        """A supply channel's terminals now stand at ``volts`` (0 when its output is off)."""
        with self.lock:
            self._volts[RAIL_OF_CHANNEL[channel]] = volts
            self.chip.expose(self.rails)

    def channel_current(self, channel: int) -> float:
        """Current in A that the chip draws from a supply channel."""
        with self.lock:
            return self._volts[RAIL_OF_CHANNEL[channel]] * LEAKAGE_S

    def force_pads(self, volts: float, compliance_a: float) -> tuple[float, float]:
        """Force ``volts`` on the direct-access pads with a current limit; return the true (voltage, current).

        Without a connected device the pads are open and draw nothing. A large enough voltage programs or damages
        the device, as it would on a real chip.
        """
        with self.lock:
            return self.chip.force_direct(volts, compliance_a, self.rails)
