"""The chip's three rails on the channels of a supply: set in a safe order, measured, and known or unknown."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from drivers.errors import ReadBackError, TakenAway
from drivers.operating_points import RailVoltages
from drivers.roles import ChannelReading, PowerSupply
from models.exceptions import BenchFailure

RAILS = ("vdd_v", "vddc_v", "vddr_v")
POLL_S = 0.02
STEP_WAIT_S = 0.5
"""Longest wait for a step of another thread to end before the rails are forbidden without it."""


class SupplyRails:
    """VDD, VDDC and VDDR as one thing.

    Args:
        supply: the instrument.
        channels: supply channel of each of ``vdd_v``, ``vddc_v``, ``vddr_v``.
        current_limit_a: current limit programmed on each channel, in A.
        voltage_limits_v: upper bound programmed into the instrument for each rail, in V.
        settle_s: wait once the rails measure what was set, before they are measured again and used, in s.
        tolerance_v: largest accepted difference between set and measured voltage, in V.
        arrive_s: how long a rail may take to come within the tolerance, in s.
    """

    def __init__(
        self,
        supply: PowerSupply,
        channels: Mapping[str, int],
        *,
        current_limit_a: float,
        voltage_limits_v: Mapping[str, float],
        settle_s: float,
        tolerance_v: float,
        arrive_s: float = 5.0,
    ) -> None:
        self._supply = supply
        self._channels = dict(channels)
        self._current_limit_a = current_limit_a
        self._voltage_limits_v = dict(voltage_limits_v)
        self._settle_s = settle_s
        self._tolerance_v = tolerance_v
        self._arrive_s = arrive_s
        self._applied: RailVoltages | None = None
        self._forbidden = ""
        self._stepping = threading.Lock()

    @property
    def applied(self) -> RailVoltages | None:
        """The rails as last set and confirmed; None while they are off or unknown."""
        return self._applied

    def prepare(self) -> None:
        """Outputs off, then the instrument's own limits: what a session does before any voltage."""
        self._applied = None
        self._supply.safe_off()
        for rail in RAILS:
            channel = self._channels[rail]
            self._supply.set_voltage_limit(channel, self._voltage_limits_v[rail])
            self._supply.set_current_limit(channel, self._current_limit_a)

    def forbid(self, reason: str) -> None:
        """Refuse to switch the rails on until :meth:`permit`; callable from any thread, while another applies them.

        When this returns, no step of that thread is under way that could still raise a rail: what is switched off from
        here on stays off. Only a supply that hangs is not waited for; its link is then overtaken.
        """
        self._forbidden = reason
        if self._stepping.acquire(timeout=STEP_WAIT_S):
            self._stepping.release()

    def permit(self) -> None:
        """Allow the rails again."""
        self._forbidden = ""

    def check(self, rails: RailVoltages) -> None:
        """Refuse rails outside the envelope as :meth:`apply` would; nothing is sent. Raises LimitError."""
        self._supply.check_voltages({self._channels[rail]: getattr(rails, rail) for rail in RAILS})

    def apply(self, rails: RailVoltages) -> None:
        """Bring the rails to ``rails`` and confirm it by a measurement. Nothing is sent when they stand there already.

        The core supply comes first; the column supply falls before the word-line supply moves and rises after it, so
        that no word line opens on a column that is still at a programming voltage. From an unknown state, everything
        is switched off first.

        Raises:
            BenchFailure: they were switched off in an emergency, and nobody has allowed them since.
            LimitError: a voltage is outside the envelope; nothing is sent, and the rails stay as they are.
            ReadBackError: a rail does not measure what was set; the rails are then unknown.
        """
        self._check_permitted()
        if rails == self._applied:
            return
        self.check(rails)
        before, self._applied = self._applied, None
        if before is None:
            self.off()
            # At 0 V: switching on moves no voltage yet.
            for rail in RAILS:
                self._step(partial(self._supply.set_output, self._channels[rail], True))
        falling = before is not None and rails.vddc_v < before.vddc_v
        order = ("vdd_v", "vddc_v", "vddr_v") if falling else ("vdd_v", "vddr_v", "vddc_v")
        moves = [rail for rail in order if before is None or getattr(before, rail) != getattr(rails, rail)]
        volts = {self._channels[rail]: getattr(rails, rail) for rail in moves}
        self._step(partial(self._supply.set_voltages, volts))
        self._await(rails)
        self._step(partial(setattr, self, "_applied", rails))

    def _step(self, act: Callable[[], object]) -> None:
        """Do one thing that needs permission, so that the permission cannot be withdrawn in the middle of it."""
        with self._stepping:
            self._check_permitted()
            act()

    def _check_permitted(self) -> None:
        if self._forbidden:
            raise BenchFailure(f"the rails stay off: {self._forbidden}")

    def confirm(self) -> RailVoltages:
        """Measure that the rails still stand where they were set: what was just done was done at these voltages.

        Returns:
            What the rails measure.

        Raises:
            ReadBackError: one is out of tolerance; the rails are then unknown.
            TakenAway: its output is off.
        """
        if self._applied is None:
            raise ReadBackError("the rails are off or unknown; nothing can be said of what was just done")
        readings = self.measure()
        if wrong := self._deviation(readings, self._applied):
            self._applied = None
            self._check_on(readings, wrong)
            raise ReadBackError(f"{wrong}: it moved while it was in use; what was just done is not recorded")
        return RailVoltages(*(readings[rail].voltage_v for rail in RAILS))

    def measure(self) -> dict[str, ChannelReading]:
        """Measure the three rails: name of the rail to its reading."""
        readings = self._supply.measure()
        return {rail: readings[self._channels[rail] - 1] for rail in RAILS}

    def off(self) -> None:
        """Column and word-line supplies to 0 V and off, the core supply last; confirmed by reading back.

        CMOS must stay powered while the array rails fall, to keep its switches defined.
        """
        self._applied = None
        self._supply.safe_off()

    def _await(self, rails: RailVoltages) -> None:
        """Wait until the rails arrive, then for them to settle, then look once more."""
        deadline = time.monotonic() + self._arrive_s
        while wrong := self._deviation(readings := self.measure(), rails):
            self._check_permitted()
            self._check_on(readings, wrong)
            if time.monotonic() > deadline:
                raise ReadBackError(f"{wrong}; check the wiring and the current limit")
            time.sleep(POLL_S)
        if self._settle_s > 0:
            time.sleep(self._settle_s)
            if wrong := self._deviation(readings := self.measure(), rails):
                self._check_on(readings, wrong)
                raise ReadBackError(f"{wrong} after settling; check the wiring and the current limit")

    def _check_on(self, readings: Mapping[str, ChannelReading], wrong: str) -> None:
        """Raise TakenAway where an output is off that was on: nothing on the chip does that."""
        if off := [rail[:-2].upper() for rail, reading in readings.items() if not reading.on]:
            raise TakenAway(
                f"{wrong}: {', '.join(off)} switched off by somebody else (`rram-bench safe`, the front panel, a trip "
                "of the supply); what was just done is not recorded"
            )

    def _deviation(self, readings: Mapping[str, ChannelReading], wanted: RailVoltages) -> str:
        """Which rail does not measure what was wanted; empty when all do."""
        for rail, asked in zip(RAILS, wanted, strict=True):
            found = readings[rail].voltage_v
            if abs(found - asked) > self._tolerance_v:
                return (
                    f"rail {rail[:-2].upper()}: set to {asked:g} V but measures {found:.3f} V "
                    f"(tolerance {self._tolerance_v:g} V)"
                )
        return ""
