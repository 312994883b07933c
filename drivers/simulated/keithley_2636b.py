"""Simulated Keithley 2636B: two source-measure units behind Lua statements; unit A is on the direct-access pads.

Attributes, defaults and ranges after the Series 2600B reference manual (2600BS-901-01). Proposed, for want of a source:
noise is a fixed part of the range and falls with the square root of integration time and of averaged readings; gain and
offset errors are left out; readings take no time; an output that is off stands at 0 V in every off mode; unit B has
nothing on its terminals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drivers.simulated.lua import Value
from drivers.simulated.scpi import InstrumentServer
from drivers.simulated.tsp import (
    NOT_A_NUMBER,
    Attribute,
    Fields,
    Readings,
    TspInstrument,
    bounded,
    choice_of,
    number_of,
)

if TYPE_CHECKING:
    from drivers.simulated.world import World

Pads = Callable[[float, float], tuple[float, float]]
"""Forces a voltage behind a current limit and gives the true voltage and current."""


class Quantity(NamedTuple):
    """One of the two quantities: its ranges, what its limit may be, and which ranges only measure."""

    ranges: tuple[float, ...]
    measured_ranges: tuple[float, ...]
    lowest_limit: float
    default_limit: float


VOLTAGES, CURRENTS = (0.2, 2.0, 20.0, 200.0), (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1.5)
QUANTITIES = {"v": Quantity(VOLTAGES, VOLTAGES, 0.02, 20.0), "i": Quantity(CURRENTS, (1e-10, *CURRENTS), 1e-10, 0.1)}
OTHER = {"v": "i", "i": "v"}
FUNCTIONS = ("i", "v")
"""What is forced, by the number of the source function."""

OVERRANGE = 1.01
MEASURED_OVERRANGE = 1.02
SOURCE_STEP = 2.5e-5
READ_STEP = 1e-6
NOISE = 5e-6
"""Parts of the range: programming resolution, reading resolution, rms noise at one power-line cycle."""

HIGH_VOLTAGE_V, HIGH_VOLTAGE_A = 20.2, 0.1
LIMITED_BY_VOLTAGE, LIMITED_BY_CURRENT = 1, 2
"""Bits of the measurement condition register."""

CONSTANTS: Mapping[str, int] = {
    "OUTPUT_OFF": 0,
    "OUTPUT_ON": 1,
    "OUTPUT_HIGH_Z": 2,
    "OUTPUT_DCAMPS": 0,
    "OUTPUT_DCVOLTS": 1,
    "OUTPUT_NORMAL": 0,
    "OUTPUT_ZERO": 2,
    "SENSE_LOCAL": 0,
    "SENSE_REMOTE": 1,
    "AUTORANGE_OFF": 0,
    "AUTORANGE_ON": 1,
    "FILTER_OFF": 0,
    "FILTER_ON": 1,
    "FILTER_MOVING_AVG": 0,
    "FILTER_REPEAT_AVG": 1,
    "FILTER_MEDIAN": 2,
    "AUTOZERO_OFF": 0,
    "AUTOZERO_ONCE": 1,
    "AUTOZERO_AUTO": 2,
}


def range_for(ranges: Sequence[float], value: float) -> float:
    """Lowest range that ``value`` fits in; the highest when it fits in none."""
    return next((full for full in ranges if abs(value) <= OVERRANGE * full), ranges[-1])


class Settings:
    """All settings of a unit, at their defaults."""

    def __init__(self) -> None:
        self.func, self.output, self.offmode, self.sense = 1, 0, 0, 0
        self.level = {"v": 0.0, "i": 0.0}
        self.limit = {name: quantity.default_limit for name, quantity in QUANTITIES.items()}
        self.source_range = {name: quantity.ranges[0] for name, quantity in QUANTITIES.items()}
        self.source_auto = {"v": 1, "i": 1}
        self.measure_range = {"v": 20.0, "i": 1e-1}
        self.measure_auto = {"v": 1, "i": 1}
        self.nplc, self.count, self.interval, self.delay, self.autozero = 1.0, 1.0, 0.0, 0.0, 2
        self.filter_enable, self.filter_count, self.filter_type = 0, 1.0, 1


class SmuUnit:
    """One source-measure unit.

    Args:
        pads: what its terminals are wired to.
        generator: reading noise.
    """

    def __init__(self, pads: Pads, generator: np.random.Generator) -> None:
        self._pads = pads
        self._generator = generator
        self._forced: tuple[float, float] | None = None
        self._present = (0.0, 0.0)
        self.buffers = {"nvbuffer1": Readings(), "nvbuffer2": Readings()}
        self.settings = Settings()

    def reset(self) -> None:
        """Output off, 0 V, voltage source, all ranges automatic."""
        vars(self.settings).update(vars(Settings()))
        self.apply()

    def apply(self) -> None:
        """Force the pads when what should stand there has changed."""
        if self._wanted() != self._forced:
            self._force()

    def _force(self) -> tuple[float, float]:
        self._forced = self._wanted()
        self._present = self._pads(*self._forced)
        return self._present

    def _wanted(self) -> tuple[float, float]:
        """Voltage to force and current limit."""
        now = self.settings
        if now.output != 1:
            return 0.0, 1e-3
        if FUNCTIONS[now.func] == "v":
            return now.level["v"], now.limit["i"]
        # A current source is a voltage source at its limit that is held to the wanted current.
        volts = math.copysign(now.limit["v"], now.level["i"]) if now.level["i"] else 0.0
        return volts, max(abs(now.level["i"]), CURRENTS[0])

    @property
    def limited(self) -> bool:
        """Whether the source does not reach its level because of its limit."""
        if self.settings.output != 1 or self._forced is None:
            return False
        function = FUNCTIONS[self.settings.func]
        reached, level = abs(self._present[function == "i"]), abs(self.settings.level[function])
        return reached < level * (1 - 1e-9)

    @property
    def condition(self) -> int:
        """Bits of the measurement condition register."""
        if not self.limited:
            return 0
        return LIMITED_BY_CURRENT if FUNCTIONS[self.settings.func] == "v" else LIMITED_BY_VOLTAGE

    # Attributes

    def put_level(self, name: str, value: Value) -> None:
        """Set the source level of "v" or "i", within its range and the power that the unit has."""
        now, ranges = self.settings, QUANTITIES[name].ranges
        high = OVERRANGE * (ranges[-1] if now.source_auto[name] else now.source_range[name])
        if name == "v" and now.limit["i"] > HIGH_VOLTAGE_A:
            high = min(high, HIGH_VOLTAGE_V)
        level = bounded(value, -high, high)
        if now.source_auto[name]:
            now.source_range[name] = range_for(ranges, level)
        step = SOURCE_STEP * now.source_range[name]
        now.level[name] = round(level / step) * step + 0.0
        self.apply()

    def put_limit(self, name: str, value: Value) -> None:
        """Set the limit of "v" or "i", within what the level leaves of the power."""
        now, quantity = self.settings, QUANTITIES[name]
        high = quantity.ranges[-1] * (OVERRANGE if name == "v" else 1.0)
        if name == "i" and abs(now.level["v"]) > HIGH_VOLTAGE_V:
            high = HIGH_VOLTAGE_A
        limit = bounded(value, quantity.lowest_limit, high)
        step = SOURCE_STEP * range_for(quantity.ranges, limit)
        now.limit[name] = round(limit / step) * step
        self.apply()

    def put_source_range(self, name: str, value: Value) -> None:
        """Fix the source range of "v" or "i"; the level must fit."""
        ranges, level = QUANTITIES[name].ranges, self.settings.level[name]
        wanted = bounded(value, -OVERRANGE * ranges[-1], OVERRANGE * ranges[-1])
        full = range_for(ranges, wanted)
        bounded(abs(level), 0.0, OVERRANGE * full)
        self.settings.source_range[name], self.settings.source_auto[name] = full, 0

    def put_measure_range(self, name: str, value: Value) -> None:
        """Fix the measure range of "v" or "i"."""
        ranges = QUANTITIES[name].measured_ranges
        wanted = bounded(value, -OVERRANGE * ranges[-1], OVERRANGE * ranges[-1])
        self.settings.measure_range[name], self.settings.measure_auto[name] = range_for(ranges, wanted), 0

    def table(self) -> Fields:
        """The unit as a table."""
        now = self.settings
        return Fields(
            {
                **{name: float(value) for name, value in CONSTANTS.items()},
                "source": Fields(self._source_attributes()),
                "measure": Fields(self._measure_attributes()),
                "sense": choice_of(now, "sense", (0, 1)),
                **self.buffers,
                "makebuffer": lambda arguments: [Readings()],
                "reset": self._reset,
                "abort": lambda arguments: [],
            }
        )

    def _source_attributes(self) -> dict[str, Value | Attribute]:
        now = self.settings
        members: dict[str, Value | Attribute] = {
            "func": choice_of(now, "func", (0, 1), self._switch_off),
            "output": choice_of(now, "output", (0, 1, 2), self.apply),
            "offmode": choice_of(now, "offmode", (0, 1, 2)),
            "delay": number_of(now, "delay", -1, 9999),
            "compliance": Attribute(lambda: self.limited),
        }
        for name in QUANTITIES:
            members |= {
                f"level{name}": self._attribute("level", name, self.put_level),
                f"limit{name}": self._attribute("limit", name, self.put_limit),
                f"range{name}": self._attribute("source_range", name, self.put_source_range),
                f"autorange{name}": self._switch("source_auto", name),
            }
        return members

    def _measure_attributes(self) -> dict[str, Value | Attribute]:
        now = self.settings
        members: dict[str, Value | Attribute] = {
            "nplc": number_of(now, "nplc", 0.001, 25),
            "count": number_of(now, "count", 1, 60000),
            "interval": number_of(now, "interval", 0, 1),
            "delay": number_of(now, "delay", -1, 9999),
            "autozero": choice_of(now, "autozero", (0, 1, 2)),
            "filter": Fields(
                {
                    "enable": choice_of(now, "filter_enable", (0, 1)),
                    "count": number_of(now, "filter_count", 1, 100),
                    "type": choice_of(now, "filter_type", (0, 1, 2)),
                }
            ),
        }
        for name in QUANTITIES:
            members |= {
                f"range{name}": self._attribute("measure_range", name, self.put_measure_range),
                f"autorange{name}": self._switch("measure_auto", name),
            }
        for asked in ("i", "v", "r", "p", "iv"):
            members[asked] = lambda arguments, asked=asked: self._measure(asked, arguments)
        return members

    def _attribute(self, values: str, name: str, put: Callable[[str, Value], None]) -> Attribute:
        return Attribute(lambda: getattr(self.settings, values)[name], lambda value: put(name, value))

    def _switch(self, values: str, name: str) -> Attribute:
        def put(value: Value) -> None:
            wanted = bounded(float(value) if isinstance(value, bool) else value, 0, 1)
            getattr(self.settings, values)[name] = int(wanted)

        return Attribute(lambda: float(getattr(self.settings, values)[name]), put)

    def _switch_off(self) -> None:
        self.settings.output = 0
        self.apply()

    def _reset(self, arguments: list[Value]) -> list[Value]:
        self.reset()
        return []

    # Measuring

    def _measure(self, asked: str, arguments: list[Value]) -> list[Value]:
        """Take readings; they land in the buffers given, the last one is the value."""
        buffers = [buffer for buffer in arguments if isinstance(buffer, Readings)]
        for buffer in buffers:
            buffer.start()
        reading: list[float] = []
        for _ in range(int(self.settings.count)):
            reading = self._reading(asked)
            for buffer, value in zip(buffers, reading, strict=False):
                buffer.values.append(value)
        return list(reading)

    def _reading(self, asked: str) -> list[float]:
        volts, amps = self._force()
        v, i = self._read("v", volts), self._read("i", amps)
        missing = NOT_A_NUMBER in (v, i)
        if asked == "r":
            return [NOT_A_NUMBER if missing or i == 0.0 else v / i]
        if asked == "p":
            return [NOT_A_NUMBER if missing else v * i]
        return [{"v": v, "i": i}[name] for name in asked]

    def _read(self, name: str, value: float) -> float:
        """A true value as it is read: with noise, to the resolution of its range, or overflow."""
        now = self.settings
        if FUNCTIONS[now.func] == name:
            full = now.source_range[name]
        else:
            if now.measure_auto[name]:
                now.measure_range[name] = range_for(QUANTITIES[name].measured_ranges, value)
            full = now.measure_range[name]
        cycles = now.nplc * (now.filter_count if now.filter_enable else 1.0)
        read = value + float(self._generator.normal(0.0, NOISE * full / math.sqrt(cycles)))
        if abs(read) > MEASURED_OVERRANGE * full:
            return NOT_A_NUMBER
        step = READ_STEP * full
        return round(read / step) * step + 0.0


class Keithley2636B(TspInstrument):
    """The instrument. What unit A measures is what ``world.force_pads`` gives.

    Args:
        world: whose direct-access pads unit A is wired to.
        generator: reading noise.
    """

    IDENTITY = "Keithley Instruments Inc., Model 2636B, 4036001, 3.2.2"
    MODEL = "2636B"

    def __init__(self, world: World, generator: np.random.Generator) -> None:
        pads: Mapping[str, Pads] = {"smua": world.force_pads, "smub": lambda volts, amps: (volts, 0.0)}
        self.units = {name: SmuUnit(wired, generator) for name, wired in pads.items()}
        super().__init__(world.lock)

    def reset(self) -> None:
        """Both units off and at 0 V."""
        for unit in self.units.values():
            unit.reset()

    def tables(self) -> Mapping[str, Value]:
        """The two units and the status registers that clients read."""
        conditions = {name: Fields({"condition": self._condition(name)}) for name in self.units}
        status = Fields(
            {
                "measurement": Fields({"instrument": Fields(conditions)}),
                "reset": lambda arguments: [],
            }
        )
        return {name: unit.table() for name, unit in self.units.items()} | {"status": status}

    def _condition(self, name: str) -> Attribute:
        return Attribute(lambda: float(self.units[name].condition))


class Keithley2636BServer(InstrumentServer):
    """The instrument on a loopback port.

    Args:
        world: whose direct-access pads unit A is wired to.
        generator: reading noise.
        port: TCP port; 0 for any free one.
    """

    def __init__(self, world: World, generator: np.random.Generator, port: int = 0) -> None:
        super().__init__(Keithley2636B(world, generator), port)
