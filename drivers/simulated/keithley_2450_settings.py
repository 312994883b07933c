"""What a simulated Keithley 2450 can be set to: ranges, settings with their *RST values, and their commands.

After the Model 2450 reference manual (2450-901-01); noise and resolution after the data sheet (SPEC-2450 Rev. A,
1 power-line cycle).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from drivers.simulated.scpi import Boolean, Bounds, Choice, Number, Setting


class Scale(NamedTuple):
    """Ranges of a quantity, each with its rms noise at one power-line cycle; resolution as a part of the range."""

    ranges: tuple[float, ...]
    noise: tuple[float, ...]
    resolution: float


SCALES = {
    "VOLT": Scale((0.02, 0.2, 2.0, 20.0, 200.0), (1e-6, 1e-6, 1e-5, 1e-4, 1e-3), 5e-7),
    "CURR": Scale(
        (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        (5e-13, 5e-13, 5e-12, 4e-11, 4e-10, 5e-9, 4e-8, 1e-7, 3e-6),
        1e-6,
    ),
}
RANGES = {
    "VOLT": SCALES["VOLT"].ranges,
    "CURR": SCALES["CURR"].ranges,
    "RES": (20.0, 200.0, 2e3, 2e4, 2e5, 2e6, 2e7, 2e8),
}
DEFAULT_RANGES = {"VOLT": 20.0, "CURR": 1e-4, "RES": 2e5}

OVERRANGE = 1.05
"""A range reaches this much beyond its full scale."""

HIGH_VOLTAGE_RANGE_V = 20.0
HIGH_CURRENT_A = 0.105
"""20 W boundary: beyond the 20 V range the current is limited to this."""

LIMIT_TO_RANGE = 1e-3
"""A current limit must be more than this part of a fixed current range."""

SMALLEST_LIMITS = {"VOLT:ILIM": 1e-9, "CURR:VLIM": 0.02}
DEFAULT_LIMITS = {"VOLT:ILIM": 1.05e-4, "CURR:VLIM": 21.0}
PROTECTIONS_V = (2, 5, 10, 20, 40, 60, 80, 100, 120, 140, 160, 180)

UNITS = {"VOLT": "V", "CURR": "A", "RES": "OHM", "VOLT:ILIM": "A", "CURR:VLIM": "V"}
FULL_NAMES = {"VOLT": "VOLT:DC", "CURR": "CURR:DC", "RES": "RES"}

SOURCE = "SOURce[1]:{VOLTage|CURRent}"
LIMIT = "SOURce[1]:{VOLTage:ILIMit|CURRent:VLIMit}[:LEVel]"
FUNCTIONS = "{VOLTage[:DC]|CURRent[:DC]|RESistance}"
SENSE = "[SENSe[1]:]" + FUNCTIONS


@dataclass
class Source:
    """Settings of one source function; ``limit`` is of the other quantity."""

    limit: float
    range: float
    level: float = 0.0
    autorange: bool = True
    delay: float = 0.0
    delay_auto: bool = True
    read_back: bool = True
    off_state: str = "NORM"


@dataclass
class Sense:
    """Settings of one measure function."""

    range: float
    low_limit: float
    autorange: bool = True
    power_line_cycles: float = 1.0
    auto_zero: bool = True
    remote_sense: bool = False
    averaging: bool = False
    average_count: float = 10
    average_type: str = "REP"


@dataclass
class General:
    """Settings of the instrument as a whole."""

    source_function: str = "VOLT"
    sense_function: str = "CURR"
    protection: str = "NONE"
    count: float = 1
    precision: float = 0
    data_format: str = "ASC"
    terminals: str = "FRON"
    language: str = "SCPI"


class Settings:
    """All settings, at their *RST values, and the bounds that they set to each other."""

    def __init__(self) -> None:
        self.general = General()
        self.source = {
            "VOLT": Source(DEFAULT_LIMITS["VOLT:ILIM"], RANGES["VOLT"][0]),
            "CURR": Source(DEFAULT_LIMITS["CURR:VLIM"], RANGES["CURR"][0]),
        }
        self.sense = {name: Sense(DEFAULT_RANGES[name], ranges[0]) for name, ranges in RANGES.items()}

    def level_bounds(self, function: str) -> Bounds:
        """Source level: within a fixed range, within 20 W."""
        source = self.source[function]
        high = OVERRANGE * (RANGES[function][-1] if source.autorange else source.range)
        if function == "VOLT" and source.limit > HIGH_CURRENT_A:
            high = min(high, OVERRANGE * HIGH_VOLTAGE_RANGE_V)
        if function == "CURR" and source.limit > OVERRANGE * HIGH_VOLTAGE_RANGE_V:
            high = min(high, HIGH_CURRENT_A)
        return Bounds(-high, high, 0.0)

    def limit_bounds(self, limit: str) -> Bounds:
        """Source limit: within 20 W, and not too small for a fixed current range."""
        low, default = SMALLEST_LIMITS[limit], DEFAULT_LIMITS[limit]
        if limit == "CURR:VLIM":
            within_power = abs(self.source["CURR"].level) <= HIGH_CURRENT_A
            return Bounds(low, OVERRANGE * (RANGES["VOLT"][-1] if within_power else HIGH_VOLTAGE_RANGE_V), default)
        if not self.sense["CURR"].autorange:
            low = max(low, LIMIT_TO_RANGE * self.sense["CURR"].range)
        within_power = self.source["VOLT"].range <= HIGH_VOLTAGE_RANGE_V
        return Bounds(low, OVERRANGE * RANGES["CURR"][-1] if within_power else HIGH_CURRENT_A, default)


def range_for(ranges: Sequence[float], value: float) -> float:
    """Lowest range that ``value`` fits in; the highest when it fits in none."""
    return next((full_scale for full_scale in ranges if abs(value) <= OVERRANGE * full_scale), ranges[-1])


def range_bounds(function: str) -> Bounds:
    """What a range may be asked for: any positive value that one of the ranges can hold."""
    ranges = RANGES[function]
    return Bounds(ranges[0], OVERRANGE * ranges[-1], DEFAULT_RANGES[function])


def number(value: float) -> str:
    """How the instrument writes a number."""
    return f"{value:.6E}"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _general(smu: Any, *where: str) -> General:
    return smu.settings.general  # type: ignore[no-any-return]


def _source(smu: Any, where: str) -> Source:
    return smu.settings.source[where[:4]]  # type: ignore[no-any-return]


def _sense(smu: Any, function: str) -> Sense:
    return smu.settings.sense[function]  # type: ignore[no-any-return]


def _apply(smu: Any, *where: str) -> None:
    smu.apply()


def _follow(smu: Any, function: str) -> None:
    smu.follow(function)


def _switch_off(smu: Any, *where: str) -> None:
    smu.switch(False)


COUNT = Number(Bounds(1, 300_000, 1), digits=0)
LEVEL_PARAMETER = Number(lambda smu, where: smu.settings.level_bounds(*where), UNITS)
LIMIT_PARAMETER = Number(lambda smu, where: smu.settings.limit_bounds(*where), UNITS)
LOW_LIMIT = Number(lambda smu, where: range_bounds(*where), UNITS)
DELAY = Number(Bounds(0.0, 10_000.0, 0.0), "S")
SOURCE_FUNCTION = Choice(("VOLTage", "CURRent"), quoted=True)
SENSE_FUNCTION = Choice(("VOLTage[:DC]", "CURRent[:DC]", "RESistance"), quoted=True)
PROTECTION = Choice((*(f"PROT{volts}" for volts in PROTECTIONS_V), "NONE"))

TABLE: Sequence[Setting] = (
    Setting("SOURce[1]:FUNCtion[:MODE]", SOURCE_FUNCTION, _general, "source_function", after=_switch_off),
    Setting(SOURCE + "[:LEVel][:IMMediate][:AMPLitude]", LEVEL_PARAMETER, _source, "level", number, _follow),
    Setting(LIMIT, LIMIT_PARAMETER, _source, "limit", number, _apply),
    Setting(SOURCE + ":RANGe:AUTO", Boolean(), _source, "autorange", after=_follow),
    Setting(SOURCE + ":PROTection[:LEVel]", PROTECTION, _general, "protection", after=_apply),
    Setting(SOURCE + ":DELay", DELAY, _source, "delay", number),
    Setting(SOURCE + ":DELay:AUTO", Boolean(), _source, "delay_auto"),
    Setting(SOURCE + ":READ:BACK", Boolean(), _source, "read_back"),
    Setting("[SENSe[1]:]FUNCtion[:ON]", SENSE_FUNCTION, _general, "sense_function", lambda f: f'"{FULL_NAMES[f]}"'),
    Setting(SENSE + ":RANGe:AUTO", Boolean(), _sense, "autorange"),
    Setting(SENSE + ":RANGe:AUTO:LLIMit", LOW_LIMIT, _sense, "low_limit", number),
    Setting(SENSE + ":NPLCycles", Number(Bounds(0.01, 10.0, 1.0)), _sense, "power_line_cycles", number),
    Setting(SENSE + ":AZERo[:STATe]", Boolean(), _sense, "auto_zero"),
    Setting(SENSE + ":RSENse", Boolean(), _sense, "remote_sense", after=_switch_off),
    Setting(SENSE + ":AVERage[:STATe]", Boolean(), _sense, "averaging"),
    Setting(SENSE + ":AVERage:COUNt", Number(Bounds(1, 100, 10), digits=0), _sense, "average_count", _whole),
    Setting(SENSE + ":AVERage:TCONtrol", Choice(("REPeat", "MOVing")), _sense, "average_type"),
    Setting("[SENSe[1]:]COUNt", COUNT, _general, "count", _whole),
    Setting("FORMat:ASCii:PRECision", Number(Bounds(0, 16, 0), digits=0), _general, "precision", _whole),
    Setting("FORMat[:DATA]", Choice(("ASCii",)), _general, "data_format"),
    Setting("ROUTe:TERMinals", Choice(("FRONt", "REAR")), _general, "terminals", after=_switch_off),
    Setting("*LANG", Choice(("SCPI",)), _general, "language"),
)
"""Commands that only set and give back one value, with what else they do."""
