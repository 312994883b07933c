"""Simulated Keithley 2450 source-measure unit (command set SCPI) on the chip's direct-access pads.

Commands and the event log's format after the Model 2450 reference manual (2450-901-01). Proposed, for want of a
source: noise falls with the square root of integration time and of averaged readings; gain and offset errors are
left out; readings take no time; an output that is off stands at 0 V in every output-off state.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from drivers.simulated.keithley_2450_buffers import (
    BUFFER,
    BUFFER_SIZE,
    DEFAULT_BUFFERS,
    ELEMENT,
    INDEX,
    OVERFLOW,
    Buffer,
    Reading,
    ReadingStatus,
    SourceStatus,
)
from drivers.simulated.keithley_2450_settings import (
    COUNT,
    FUNCTIONS,
    LIMIT,
    OVERRANGE,
    RANGES,
    SCALES,
    SENSE,
    SOURCE,
    TABLE,
    UNITS,
    Settings,
    number,
    range_bounds,
    range_for,
)
from drivers.simulated.scpi import (
    Boolean,
    Bounds,
    Choice,
    InstrumentServer,
    Number,
    QueuedError,
    ScpiError,
    ScpiInstrument,
    Text,
    command,
    query,
    show,
)

if TYPE_CHECKING:
    from drivers.simulated.world import World

MEASURED_OVERRANGE = 1.06
"""A reading overflows a little beyond what a range can force: noise on its last level is no overflow."""

UNIT_NAMES = {"VOLT": "Volt DC", "CURR": "Amp DC", "RES": "Ohm"}
RANGE = Number(lambda smu, where: range_bounds(where[0]), UNITS)
OFF_STATE = Choice(("NORMal", "HIMPedance", "ZERO", "GUARd"))
LINE_FREQUENCY_HZ = 50


class Keithley2450(ScpiInstrument):
    """The instrument. What it measures is what ``world.force_pads`` gives.

    Args:
        world: whose direct-access pads both pairs of terminals are wired to.
        generator: reading noise.
    """

    IDENTITY = "KEITHLEY INSTRUMENTS,MODEL 2450,04500001,1.7.12b"
    SETTINGS = TABLE

    def __init__(self, world: World, generator: np.random.Generator) -> None:
        self._world = world
        self._generator = generator
        self._forced: tuple[float, float] | None = None
        self._present = (0.0, 0.0)
        super().__init__(world.lock)

    def reset(self) -> None:
        """Output off, 0 V, 105 uA, measure current, all ranges automatic, buffers empty."""
        self.settings = Settings()
        self._buffers = {name: Buffer() for name in DEFAULT_BUFFERS}
        self._loop: tuple[int, str] | None = None
        self.switch(False)

    def error_reply(self, error: QueuedError | None) -> str:
        """Code, then text, severity and time in quotes."""
        if error is None:
            return '0,"No error;0;0 0"'
        return f'{error.code},"{error.text};1;{error.at:%Y/%m/%d %H:%M:%S}.{error.at.microsecond // 1000:03d}"'

    # What stands at the pads

    def switch(self, on: bool) -> None:
        """Output on or off."""
        self.output = on
        self.apply()

    def follow(self, function: str) -> None:
        """Let an automatic source range follow the level, then the pads."""
        source = self.settings.source[function]
        if source.autorange:
            source.range = range_for(RANGES[function], source.level)
        self.apply()

    def apply(self) -> None:
        """Force the pads when what should stand there has changed."""
        if self._wanted() != self._forced:
            self._force()

    def _force(self) -> tuple[float, float]:
        self._forced = self._wanted()
        self._present = self._world.force_pads(*self._forced)
        return self._present

    def _wanted(self) -> tuple[float, float]:
        """Voltage to force and current limit."""
        function = self.settings.general.source_function
        source = self.settings.source[function]
        if not self.output:
            return 0.0, self.settings.sense["CURR"].range / 10
        if function == "VOLT":
            return math.copysign(min(abs(source.level), self._protection_v), source.level), source.limit
        # A current source is a voltage source at its limit that is held to the wanted current.
        volts = math.copysign(min(source.limit, self._protection_v), source.level) if source.level else 0.0
        return volts, max(abs(source.level), RANGES["CURR"][0])

    @property
    def _protection_v(self) -> float:
        name = self.settings.general.protection
        return math.inf if name == "NONE" else float(name.removeprefix("PROT"))

    @property
    def _protected(self) -> bool:
        function = self.settings.general.source_function
        source = self.settings.source[function]
        return self.output and abs(source.level if function == "VOLT" else source.limit) > self._protection_v

    @property
    def _limited(self) -> bool:
        """The other quantity is at its limit, so that the source does not reach its level."""
        if not self.output or self._forced is None:
            return False
        reached, level = abs(self._present[0]), abs(self._forced[0])
        if self.settings.general.source_function == "CURR":
            reached, level = abs(self._present[1]), abs(self.settings.source["CURR"].level)
        return reached < level * (1 - 1e-9)

    # Measuring

    def _take(self, function: str) -> Reading:
        volts, amps = self._force()
        measured = {
            "VOLT": self._measured("VOLT", volts, function),
            "CURR": self._measured("CURR", amps, function),
        }
        value = self._resistance(measured["VOLT"], measured["CURR"]) if function == "RES" else measured[function]
        source_function = self.settings.general.source_function
        source = self.settings.source[source_function]
        flags = {
            SourceStatus.OVERVOLTAGE_PROTECTION: self._protected,
            SourceStatus.READ_BACK: source.read_back,
            SourceStatus.LIMITED: self._limited,
            SourceStatus.REMOTE_SENSE: self.settings.sense[function].remote_sense,
            SourceStatus.OUTPUT_ON: self.output,
        }
        status = {
            ReadingStatus.QUESTIONABLE: value == OVERFLOW,
            ReadingStatus.FRONT_TERMINALS: self.settings.general.terminals == "FRON",
        }
        return Reading(
            value=value,
            unit=UNIT_NAMES[function],
            source=measured[source_function] if source.read_back else source.level,
            source_unit=UNIT_NAMES[source_function],
            status=ReadingStatus(sum(flag for flag, is_set in status.items() if is_set)),
            source_status=SourceStatus(sum(flag for flag, is_set in flags.items() if is_set)),
            at=datetime.now(),
        )

    def _measured(self, quantity: str, value: float, function: str) -> float:
        """A true value as it is read: with noise, to the resolution of its range, or overflow."""
        sense, scale = self.settings.sense[quantity], SCALES[quantity]
        if quantity == self.settings.general.source_function:
            full_scale = self.settings.source[quantity].range
        else:
            if sense.autorange:
                sense.range = range_for(scale.ranges, max(abs(value), sense.low_limit))
            full_scale = sense.range
        timing = self.settings.sense[function]
        cycles = timing.power_line_cycles * (timing.average_count if timing.averaging else 1)
        noise = scale.noise[scale.ranges.index(full_scale)] / math.sqrt(cycles)
        read = value + float(self._generator.normal(0.0, noise))
        if abs(read) > MEASURED_OVERRANGE * full_scale:
            return OVERFLOW
        step = scale.resolution * full_scale
        return round(read / step) * step + 0.0

    def _resistance(self, volts: float, amps: float) -> float:
        sense = self.settings.sense["RES"]
        if amps == 0.0 or OVERFLOW in (volts, amps):
            return OVERFLOW
        ohms = volts / amps
        if sense.autorange:
            sense.range = range_for(RANGES["RES"], max(abs(ohms), sense.low_limit))
        return ohms if abs(ohms) <= OVERRANGE * sense.range else OVERFLOW

    def _number(self, value: float) -> str:
        digits = int(self.settings.general.precision)
        return f"{value:.{digits - 1}E}" if digits else number(value)

    # Commands

    @command("OUTPut[1][:STATe]", Boolean())
    def _switch(self, on: bool) -> None:
        self.switch(on)

    @query("OUTPut[1][:STATe]")
    def _ask_output(self) -> str:
        return show(self.output)

    @command("OUTPut[1][:{VOLTage|CURRent}]:SMODe", OFF_STATE)
    def _set_off_state(self, function: str | None, state: str) -> None:
        for name in self.settings.source if function is None else (function,):
            self.settings.source[name].off_state = state

    @query("OUTPut[1][:{VOLTage|CURRent}]:SMODe")
    def _ask_off_state(self, function: str | None) -> str:
        return self.settings.source[self.settings.general.source_function if function is None else function].off_state

    @command(SOURCE + ":RANGe", Number(lambda smu, where: Bounds(*_both_signs(where[0])), UNITS))
    def _set_source_range(self, function: str, value: float) -> None:
        source = self.settings.source[function]
        full_scale = range_for(RANGES[function], value)
        if abs(source.level) > OVERRANGE * full_scale:
            raise ScpiError(-221)
        source.range, source.autorange = full_scale, False
        self.apply()

    @query(SOURCE + ":RANGe")
    def _ask_source_range(self, function: str) -> str:
        return number(self.settings.source[function].range)

    @command(SENSE + ":RANGe[:UPPer]", RANGE)
    def _set_sense_range(self, function: str, value: float) -> None:
        sense = self.settings.sense[function]
        sense.range, sense.autorange = range_for(RANGES[function], value), False

    @query(SENSE + ":RANGe[:UPPer]")
    def _ask_sense_range(self, function: str) -> str:
        return number(self.settings.sense[function].range)

    @query(LIMIT + ":TRIPped")
    def _ask_limited(self, limit: str) -> str:
        if self.output:
            self._force()
        return show(self._limited and limit.startswith(self.settings.general.source_function))

    @query(SOURCE + ":PROTection[:LEVel]:TRIPped")
    def _ask_protected(self, function: str) -> str:
        return show(self._protected)

    @query("READ", BUFFER, rest=ELEMENT)
    def _read(self, name: str = DEFAULT_BUFFERS[0], *elements: str) -> str:
        buffer = self._buffer(name)
        self._fill(buffer, int(self.settings.general.count))
        return buffer.written([buffer.last()], elements, self._number)

    @query(f"MEASure[:{FUNCTIONS}]", BUFFER, rest=ELEMENT)
    def _measure(self, function: str | None, name: str = DEFAULT_BUFFERS[0], *elements: str) -> str:
        self._buffer(name)
        if function is not None:
            self.settings.general.sense_function = function
        return self._read(name, *elements)

    @query("FETCh", BUFFER, rest=ELEMENT)
    def _fetch(self, name: str = DEFAULT_BUFFERS[0], *elements: str) -> str:
        buffer = self._buffer(name)
        return buffer.written([buffer.last()], elements, self._number)

    def _fill(self, buffer: Buffer, count: int) -> None:
        for _ in range(count):
            buffer.add(self._take(self.settings.general.sense_function))

    def _buffer(self, name: str) -> Buffer:
        if name not in self._buffers:
            raise ScpiError(-224)
        return self._buffers[name]

    @command("TRIGger:LOAD", Text(), COUNT, Number(Bounds(0.0, 1e5, 0.0), "S", optional=True), BUFFER)
    def _load(self, model: str, count: float, delay: float = 0.0, name: str = DEFAULT_BUFFERS[0]) -> None:
        self._buffer(name)
        if model.upper() != "SIMPLELOOP":
            raise ScpiError(-224)
        self._loop = int(count), name

    @command("INITiate[:IMMediate]")
    def _initiate(self) -> None:
        if self._loop is None:
            raise ScpiError(-221)
        count, name = self._loop
        self._fill(self._buffer(name), count)

    @command("TRACe:TRIGger", BUFFER)
    def _trigger(self, name: str = DEFAULT_BUFFERS[0]) -> None:
        self._fill(self._buffer(name), int(self.settings.general.count))

    @command("TRACe:CLEar", BUFFER)
    def _clear(self, name: str = DEFAULT_BUFFERS[0]) -> None:
        self._buffer(name).readings.clear()

    @query("TRACe:ACTual", BUFFER)
    def _count_readings(self, name: str = DEFAULT_BUFFERS[0]) -> str:
        return str(len(self._buffer(name).readings))

    @query("TRACe:DATA", INDEX, INDEX, BUFFER, rest=ELEMENT)
    def _data(self, start: float, end: float, name: str = DEFAULT_BUFFERS[0], *elements: str) -> str:
        buffer = self._buffer(name)
        return buffer.written(buffer.slice(start, end), elements, self._number)

    @query("TRACe:STATistics:{AVERage|MAXimum|MINimum|PK2Pk|STDDev}", BUFFER)
    def _statistic(self, statistic: str, name: str = DEFAULT_BUFFERS[0]) -> str:
        return self._number(self._buffer(name).statistic(statistic))

    @command("TRACe:POINts", Number(BUFFER_SIZE, digits=0), BUFFER)
    def _resize(self, size: float, name: str = DEFAULT_BUFFERS[0]) -> None:
        self._buffer(name)
        self._buffers[name] = Buffer(int(size))

    @query("TRACe:POINts", BUFFER)
    def _ask_size(self, name: str = DEFAULT_BUFFERS[0]) -> str:
        return str(self._buffer(name).size)

    @command(
        "TRACe:MAKE", Text(), Number(BUFFER_SIZE, digits=0), Choice(("STANdard", "COMPact", "FULL"), optional=True)
    )
    def _make(self, name: str, size: float, style: str = "STAN") -> None:
        if name in self._buffers:
            raise ScpiError(-224)
        self._buffers[name] = Buffer(int(size))

    @command("TRACe:DELete", Text())
    def _delete(self, name: str) -> None:
        self._buffer(name)
        if name in DEFAULT_BUFFERS:
            raise ScpiError(-224)
        del self._buffers[name]

    @query("SYSTem:LFRequency")
    def _ask_line_frequency(self) -> str:
        return str(LINE_FREQUENCY_HZ)

    @command("SYSTem:BEEPer[:IMMediate]", Number(Bounds(20, 2e6, 500)), Number(Bounds(0.001, 100, 0.1)))
    def _beep(self, hertz: float, seconds: float) -> None:
        """Nobody hears it."""

    @command("ABORt")
    @command("*TRG")
    @command("[SENSe[1]:]AZERo:ONCE")
    def _without_effect(self) -> None:
        """A measurement has always ended before the next command is read, and the zero does not drift."""


def _both_signs(function: str) -> tuple[float, float, float]:
    bounds = range_bounds(function)
    return -bounds.high, bounds.high, RANGES[function][0]


class Keithley2450Server(InstrumentServer):
    """The source-measure unit on a loopback port.

    Args:
        world: whose direct-access pads the terminals are wired to.
        generator: reading noise.
        port: TCP port; 0 for any free one.
    """

    def __init__(self, world: World, generator: np.random.Generator, port: int = 0) -> None:
        super().__init__(Keithley2450(world, generator), port)
