"""Simulated Temptronic ATS-545: blows tempered air on the chip, whose temperature follows.

Commands, registers and ranges after the manuals of the TP04300 and ATS-545 as clients of the real instruments quote
them. Proposed, for want of a source: air and chip follow their targets exponentially, each with one time constant; the
head moves at once; what is out of range sets the execution error bit and changes nothing; the identification string.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from drivers.simulated.scpi import (
    Boolean,
    Bounds,
    Found,
    InstrumentServer,
    Number,
    ScpiError,
    ScpiInstrument,
    Setting,
    command,
    query,
)

AMBIENT_C = 25.0
AIR_TAU_S, CHUCK_TAU_S = 4.0, 20.0
"""Time constants of the air at the nozzle and of the chuck under it (proposed)."""

STANDING_C = 0.01
"""What is this close to its target moves no more."""

OPERATOR_SCREEN, START_SCREEN = 10, 63
NO_SENSOR_C = 999.9
AT_TEMPERATURE, NOT_AT_TEMPERATURE = 1, 2
HEAD_UP, SENSOR_MODE, FLOW, READY, MANUAL = 4, 16, 32, 64, 256
NO_SENSOR_FAULT = 16384


@dataclass
class SetPoint:
    """One of the three settings of the Operator screen: degrees Celsius and s."""

    celsius: float = AMBIENT_C
    window: float = 1.0
    soak: float = 30.0
    ramp: float = 9999.0


@dataclass
class Panel:
    """Settings that have no effect on the temperature here."""

    test_time: float = 1000.0
    constant: float = 100.0
    air_to_device: float = 50.0
    learning: bool = False
    cycles: float = 1.0
    cycling: bool = False
    compressor: bool = True


def _decimal(value: float) -> str:
    return f"{value:.1f}"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _source(source: TemptronicAts545) -> TemptronicAts545:
    return source


def _panel(source: TemptronicAts545) -> Panel:
    return source.panel


def _active(source: TemptronicAts545) -> SetPoint:
    return source.active


def _restart(source: TemptronicAts545) -> None:
    source.restart()


class TemptronicAts545(ScpiInstrument):
    """The instrument.

    Args:
        lock: held while a message is executed.
        set_temperature_c: gets the chuck's temperature whenever it has moved on.
        clock: gives the time in s.
    """

    IDENTITY = "TEMPTRONIC,ATS545,5450001,Ver 3.2.0"
    SETTINGS: ClassVar[Sequence[Setting]] = (
        Setting("SETN", Number(Bounds(0, 17, 1), digits=0), _source, "number", _whole, _restart),
        Setting(
            "SETP", Number(lambda source, _: source.setpoint_bounds, digits=1), _active, "celsius", _decimal, _restart
        ),
        Setting("WNDW", Number(Bounds(0.1, 9.9, 1.0), digits=1), _active, "window", _decimal, _restart),
        Setting("SOAK", Number(Bounds(0, 9999, 30), digits=0), _active, "soak", _whole, _restart),
        Setting("RAMP", Number(Bounds(0, 9999, 9999), digits=1), _active, "ramp", _decimal),
        Setting("LLIM", Number(Bounds(-99, 25, -80), digits=0), _source, "lowest", _whole),
        Setting("ULIM", Number(Bounds(25, 225, 225), digits=0), _source, "highest", _whole),
        Setting("DUTM", Boolean(), _source, "sensor_mode", after=_restart),
        Setting("DSNS", Number(Bounds(0, 2, 0), digits=0), _source, "sensor", _whole, _restart),
        Setting("TTIM", Number(Bounds(0, 9999, 1000), digits=0), _panel, "test_time", _whole),
        Setting("DUTC", Number(Bounds(20, 500, 100), digits=0), _panel, "constant", _whole),
        Setting("ADMD", Number(Bounds(10, 300, 50), digits=0), _panel, "air_to_device", _whole),
        Setting("LRNM", Boolean(), _panel, "learning"),
        Setting("CYCC", Number(Bounds(0, 9999, 1), digits=0), _panel, "cycles", _whole),
        Setting("CYCL", Boolean(), _panel, "cycling"),
        Setting("COOL", Boolean(), _panel, "compressor"),
    )

    def __init__(
        self,
        lock: threading.RLock,
        set_temperature_c: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._set_temperature_c = set_temperature_c
        self._clock = clock
        self._at = clock()
        self._air_c = self._chuck_c = AMBIENT_C
        self.head_down = self.head_locked = False
        self.faults = 0
        super().__init__(lock)

    def reset(self) -> None:
        """Flow off, head as it is, air control, widest limits, room temperature on every setting."""
        self.points = [SetPoint() for _ in range(18)]
        self.panel = Panel()
        self.number, self.lowest, self.highest = 1.0, -80.0, 225.0
        self.sensor, self.sensor_mode, self.flow = 0.0, False, False
        self.screen = OPERATOR_SCREEN
        self._entered: float | None = None

    @property
    def active(self) -> SetPoint:
        """The setting in use."""
        return self.points[int(self.number)]

    @property
    def setpoint_bounds(self) -> Bounds:
        """What a setpoint may be: within the limits of the air."""
        return Bounds(self.lowest, self.highest, AMBIENT_C)

    @property
    def chuck_c(self) -> float:
        """Temperature of the chuck now, in degrees Celsius."""
        with self._lock:
            self._advance()
            return self._chuck_c

    def follow(self) -> bool:
        """Bring air and chuck up to now; return whether they are still on the way to their targets."""
        with self._lock:
            self._advance()
            air_target, chuck_target = self._targets
            return max(abs(self._air_c - air_target), abs(self._chuck_c - chuck_target)) > STANDING_C

    def restart(self) -> None:
        """Another temperature, window or soak time: what was settled is not any more."""
        self._entered = self._at if self._deviation(self._regulated) <= self.active.window else None

    def execute(self, line: bytes) -> bytes | None:
        """Act on one message; what a serial line needs for want of GPIB's own lines is taken without effect."""
        with self._lock:
            self._advance()
            if line.strip() in (b"%RM", b"%GL", b"%LL"):
                return None
            reply = super().execute(line)
            self._advance()
            return reply

    def _lookup(self, header: str, is_query: bool) -> Found:
        if ":" in header:
            raise ScpiError(-113)  # this instrument has no subsystems, the error queue of SCPI included
        return super()._lookup(header, is_query)

    @property
    def _regulated(self) -> float:
        return self._chuck_c if self.sensor_mode else self._air_c

    @property
    def _targets(self) -> tuple[float, float]:
        """What the air and the chuck are on the way to."""
        air = self.active.celsius if self.flow else AMBIENT_C
        return air, air if self.head_down else AMBIENT_C

    def _deviation(self, celsius: float) -> float:
        return abs(celsius - self.active.celsius)

    def _advance(self) -> None:
        """Let air and chuck follow their targets up to now, and note when the window was entered."""
        now = self._clock()
        elapsed, before, self._at = now - self._at, self._at, now
        air_target, chuck_target = self._targets
        tau, deviation, window = AIR_TAU_S, self._deviation(self._regulated), self.active.window
        if self.sensor_mode:
            tau = CHUCK_TAU_S
        self._air_c = air_target + (self._air_c - air_target) * math.exp(-elapsed / AIR_TAU_S)
        self._chuck_c = chuck_target + (self._chuck_c - chuck_target) * math.exp(-elapsed / CHUCK_TAU_S)
        if not self.flow or self._deviation(self._regulated) > window:
            self._entered = None
        elif self._entered is None:
            self._entered = before + max(0.0, tau * math.log(deviation / window)) if deviation > window else before
        self._set_temperature_c(self._chuck_c)

    @query("TECR")
    def _ask_condition(self) -> str:
        if self._entered is None:
            return str(NOT_AT_TEMPERATURE if self.flow else 0)
        return str(AT_TEMPERATURE if self._at - self._entered >= self.active.soak else 0)

    @query("TESR")
    def _ask_events(self) -> str:
        return self._ask_condition()

    @query("AUXC")
    def _ask_auxiliary(self) -> str:
        bits = READY | MANUAL
        bits |= FLOW if self.flow else 0
        bits |= SENSOR_MODE if self.sensor_mode else 0
        return str(bits | (0 if self.head_down else HEAD_UP))

    @query("EROR")
    def _ask_faults(self) -> str:
        return str(self.faults | (0 if self.sensor else NO_SENSOR_FAULT))

    @command("CLER")
    def _clear_faults(self) -> None:
        self.faults = 0

    @command("FLOW", Boolean())
    def _switch_flow(self, on: bool) -> None:
        self.flow = on
        self._entered = None

    @command("HEAD", Boolean())
    @command("STND", Boolean())
    def _move_head(self, down: bool) -> None:
        if not self.head_locked:
            self.head_down = down

    @query("HEAD")
    @query("STND")
    def _ask_head(self) -> str:
        return str(int(self.head_down))

    @query("TEMP")
    def _ask_temperature(self) -> str:
        return self._ask_device() if self.sensor_mode else self._ask_air()

    @query("TMPA")
    def _ask_air(self) -> str:
        return _decimal(self._air_c)

    @query("TMPD")
    def _ask_device(self) -> str:
        return _decimal(self._chuck_c if self.sensor else NO_SENSOR_C)

    @query("SETD")
    def _ask_dynamic(self) -> str:
        return _decimal(self.active.celsius)

    @query("FLWR")
    def _ask_flow_rate(self) -> str:
        return _decimal(18.0 if self.flow else 0.0)

    @query("FLRL")
    def _ask_flow_litres(self) -> str:
        return _decimal(8.5 if self.flow else 0.0)

    @query("WHAT")
    def _ask_screen(self) -> str:
        return str(self.screen)

    @command("RSTO")
    def _to_operator_screen(self) -> None:
        self.reset()
        if not self.head_locked:
            self.head_down = False

    @command("NEXT")
    @command("RMPC", Boolean())
    @command("RMPS", Boolean())
    @command("CFIL", Number(Bounds(1, 12, 1), digits=0))
    @command("SFIL", Number(Bounds(1, 12, 1), digits=0))
    def _without_effect(self, argument: float | bool = False) -> None:
        """Nothing is cycled, and there are no setup files."""


class TemptronicAts545Server(InstrumentServer):
    """The temperature source on a loopback port.

    Args:
        lock: of the world that its chuck is in.
        set_temperature_c: gets the chuck's temperature whenever it has moved on.
        clock: gives the time in s.
        port: TCP port; 0 for any free one.

    Attributes:
        source: the far end itself.
    """

    def __init__(
        self,
        lock: threading.RLock,
        set_temperature_c: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
        port: int = 0,
    ) -> None:
        self.source = TemptronicAts545(lock, set_temperature_c, clock)
        super().__init__(self.source, port)
