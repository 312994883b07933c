"""Settings of the simulated Keysight 81160A and 33522B: one output, what it refuses, and the models' ranges.

Proposed, for want of a source: levels are rounded to 0.1 mV into 50 ohm and times to five digits, and conflicts between
settings are refused with -221 and change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from drivers.simulated.scpi import Bounds, ScpiError

SOURCE_OHM = 50.0
WINDOW_V = 5.0
LEVEL_DECIMALS = 4
LEVEL_STEP_V = 1e-4
TIME_DIGITS = 5
HALF_EDGE = 0.625
ROUNDING = 1e-9
TIMES = ("width", "leading", "trailing", "delay", "period")


@dataclass(frozen=True)
class Model:
    """What tells the models apart; levels are those into 50 ohm, times in s.

    Attributes:
        smallest_v, largest_v: difference of the two levels.
        burst_needed: only a burst waits for a trigger; otherwise a trigger source is enough.
    """

    smallest_v: float
    largest_v: float
    width: Bounds
    edge: Bounds
    period: Bounds
    delay: Bounds
    train: Bounds
    load: Bounds
    open_load: bool
    burst_needed: bool


@dataclass(frozen=True)
class State:
    """All settings of an output. Levels are kept as they would stand at 50 ohm (``...50``), and asked for at the load.

    Attributes:
        source: what starts pulses; IMM pulses without end.
        train: pulses of a burst.
        unit: and what follows it has no effect on pulses here.
    """

    shape: str = "SIN"
    high50: float = 0.05
    low50: float = -0.05
    limit_high50: float = WINDOW_V
    limit_low50: float = -WINDOW_V
    limited: bool = False
    load: float = 50.0
    source_ohm: float = 50.0
    period: float = 1e-6
    width: float = 1e-7
    leading: float = 1e-8
    trailing: float = 1e-8
    delay: float = 0.0
    burst: bool = False
    burst_mode: str = "TRIG"
    burst_period: float = 1e-2
    train: float = 2.0
    source: str = "IMM"
    polarity: str = "NORM"
    on: bool = False
    unit: str = "VPP"
    autorange: bool = True
    phase: float = 0.0
    hold: str = "WIDT"
    square_duty: float = 50.0
    symmetry: float = 100.0
    slope: str = "POS"

    @property
    def gain(self) -> float:
        """Level at the load as a multiple of the level into 50 ohm."""
        return 2.0 if math.isinf(self.load) else 2.0 * self.load / (self.load + SOURCE_OHM)

    @property
    def asked(self) -> Mapping[str, float]:
        """Quantities that follow from others: levels at the load in V, frequency in Hz, pulses of a trigger."""
        high, low = self.high50 * self.gain, self.low50 * self.gain
        return {
            "high": high,
            "low": low,
            "amplitude": high - low,
            "offset": (high + low) / 2,
            "limit_high": self.limit_high50 * self.gain,
            "limit_low": self.limit_low50 * self.gain,
            "frequency": 1.0 / self.period,
            "edges": self.leading,
            "triggered": self.train if self.burst else 1.0,
        }

    def having(self, name: str, value: Any) -> State:
        """These settings with one changed, which may be one of :attr:`asked`."""
        middle, half = (self.high50 + self.low50) / 2, (self.high50 - self.low50) / 2
        if name in ("high", "low", "limit_high", "limit_low"):
            changes: dict[str, Any] = {f"{name}50": _rounded(value / self.gain)}
            return replace(self, **changes)
        if name == "amplitude":
            half = value / self.gain / 2
        if name == "offset":
            middle = value / self.gain
        if name in ("amplitude", "offset"):
            return replace(self, high50=_rounded(middle + half), low50=_rounded(middle - half))
        if name == "edges":
            return replace(self, leading=_digits(value), trailing=_digits(value))
        if name == "frequency":
            return replace(self, period=1.0 / value)
        if name == "triggered":
            return replace(self, train=value, burst=value > 1)
        changes = {name: _digits(value) if name in TIMES else value}
        return replace(self, **changes)

    def check(self, model: Model) -> None:
        """Refuse what contradicts itself or lies outside the model; raises ScpiError."""
        low, high = self.low50, self.high50
        if max(abs(low), abs(high)) > WINDOW_V + LEVEL_STEP_V:
            raise ScpiError(-222)
        if self.limited and (low < self.limit_low50 - LEVEL_STEP_V or high > self.limit_high50 + LEVEL_STEP_V):
            raise ScpiError(-222)
        if not model.smallest_v - LEVEL_STEP_V <= high - low + ROUNDING <= model.largest_v + LEVEL_STEP_V:
            raise ScpiError(-221)
        if self.limit_low50 >= self.limit_high50:
            raise ScpiError(-221)
        edges = HALF_EDGE * (self.leading + self.trailing)
        if self.shape == "PULS" and not edges <= self.width * (1 + ROUNDING) <= (self.period - edges) * (1 + 1e-4):
            raise ScpiError(-221)

    @property
    def rest_v(self) -> float:
        """Voltage at open terminals between pulses; 0 when the output is off."""
        level = self.low50 if self.polarity == "NORM" else self.high50
        return 2.0 * level if self.on else 0.0

    @property
    def peak_v(self) -> float:
        """Voltage at open terminals during a pulse."""
        return 2.0 * (self.high50 if self.polarity == "NORM" else self.low50)


def _rounded(volts: float) -> float:
    return round(volts, LEVEL_DECIMALS) + 0.0


def _digits(value: float) -> float:
    return float(f"{value:.{TIME_DIGITS - 1}e}")


FAR = 1e6
MODEL_81160A = Model(
    smallest_v=0.05,
    largest_v=5.0,
    width=Bounds(1.5e-9, FAR, 1e-7),
    edge=Bounds(1e-9, 1e3, 1e-9),
    period=Bounds(3.03e-9, FAR, 1e-6),
    delay=Bounds(0.0, FAR, 0.0),
    train=Bounds(2, 2147483647, 2),
    load=Bounds(0.3, 1e6, 50.0),
    open_load=False,
    burst_needed=False,
)
MODEL_33522B = Model(
    smallest_v=1e-3,
    largest_v=10.0,
    width=Bounds(16e-9, FAR, 1e-7),
    edge=Bounds(8.4e-9, 1e-6, 1e-8),
    period=Bounds(33e-9, FAR, 1e-6),
    delay=Bounds(0.0, 1e3, 0.0),
    train=Bounds(1, 1e8, 1),
    load=Bounds(1.0, 1e4, 50.0),
    open_load=True,
    burst_needed=True,
)
