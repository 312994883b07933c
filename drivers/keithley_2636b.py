"""Keithley 2636B: one of its two source-measure units, driven by Lua statements (2600BS-901-01).

Its drivers in use print numbers with six decimals, which turns a compliance of 100 nA into 0.000000. Here every number
goes out as the shortest text that reads back equal, and comes back with more digits than the instrument resolves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum, IntEnum

from drivers.errors import InstrumentError, LimitError, ReadBackError
from drivers.keithley_2450 import Acquisition, range_for
from drivers.limits import Range, SmuLimits
from drivers.roles import Measurement
from drivers.scpi import Link
from drivers.scpi_settings import Change, scpi_float, scpi_int
from drivers.scpi_text import parse_float, parse_int
from drivers.tsp import TspAttributes, TspInstrument, parse_tsp_bool, parse_tsp_switch, tsp_choice, tsp_switch
from models.exceptions import BenchFailure

NAME = "Keithley 2636B"
VOLTAGE_RANGES = (0.2, 2.0, 20.0, 200.0)
CURRENT_RANGES = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1.5)
OVERRANGE = 1.01

VOLTAGE_STEP = 2.5e-5
CURRENT_STEP = 5e-5
"""Programming resolution as a part of the range, rounded up: 5 uV in 200 mV, 20 fA in 1 nA, 50 uA in 1.5 A."""

VOLTS = Range(-202.0, 202.0, "V", NAME)
AMPS = Range(1e-10, 1.5, "A", NAME)
MEASURED_AMPS = Range(CURRENT_RANGES[0], 1.5, "A", NAME)
CYCLES = Range(0.001, 25.0, "power-line cycles", NAME)
AVERAGES = Range(1, 100, "readings", NAME)

HIGH_VOLTAGE_V = 20.2
HIGH_VOLTAGE_A = 0.1
"""Operating boundary: beyond 20.2 V the instrument gives no more than 100 mA."""

PRINTED_DIGITS = 10
"""What the instrument is told to print: enough for the finest step of every range."""

TO_ZERO = ("levelv", "leveli", "output")
"""Attributes of a source that are 0 when it is safe, in the order in which they are set."""


class Unit(Enum):
    """One of the two source-measure units in the box."""

    A = "smua"
    B = "smub"


UNITS = tuple(unit.value for unit in Unit)


class SourceFunction(IntEnum):
    """What is forced."""

    CURRENT = 0
    VOLTAGE = 1


class OffMode(IntEnum):
    """What the terminals are while the output is off.

    NORMAL holds 0 V behind a small current limit, ZERO holds it with the output's own limit; HIGH_IMPEDANCE opens a
    relay, which wears.
    """

    NORMAL = 0
    HIGH_IMPEDANCE = 1
    ZERO = 2


class Filter(IntEnum):
    """How readings are averaged."""

    MOVING = 0
    REPEATING = 1
    MEDIAN = 2


def _voltage_step(unit: SmuAttributes, volts: float) -> float:
    fixed = unit.acquisition.source_range_v
    return VOLTAGE_STEP * (range_for(VOLTAGE_RANGES, volts, OVERRANGE) if fixed is None else fixed)


def _current_step(unit: SmuAttributes, amps: float) -> float:
    return CURRENT_STEP * range_for(CURRENT_RANGES, amps, OVERRANGE)


def _full_scale_step(unit: SmuAttributes, full_scale: float) -> float:
    return CURRENT_STEP * full_scale


def _only(allowed: Range) -> Callable[[SmuAttributes], Sequence[Range]]:
    return lambda unit: (allowed,)


def _voltages(unit: SmuAttributes) -> Sequence[Range]:
    return (VOLTS, unit.limits.voltage)


def _compliances(unit: SmuAttributes) -> Sequence[Range]:
    return (AMPS, unit.limits.compliance)


class SmuAttributes:
    """The attributes of one unit, inside the instrument's ranges and the envelope."""

    output = tsp_switch("source.output", "Control whether the output is on.")
    source_voltage = scpi_float(
        "source.levelv", "Control the source level, in V.", resolution=_voltage_step, ranges=_voltages
    )
    compliance = scpi_float(
        "source.limiti", "Control the current compliance, in A.", resolution=_current_step, ranges=_compliances
    )
    source_function = tsp_choice("source.func", "Control what is forced.", SourceFunction)
    off_mode = tsp_choice("source.offmode", "Control what the terminals are while the output is off.", OffMode)
    four_wire = tsp_switch("sense", "Control whether the voltage is sensed through a second pair of wires.")
    source_autorange = tsp_switch("source.autorangev", "Control whether the source range follows the level.")
    source_range = scpi_float(
        "source.rangev", "Control the source's full scale, in V.", resolution=_full_scale_step, ranges=_only(VOLTS)
    )
    measure_autorange = tsp_switch("measure.autorangei", "Control whether the current range follows the reading.")
    measure_range = scpi_float(
        "measure.rangei", "Control the full scale, in A.", resolution=_full_scale_step, ranges=_only(MEASURED_AMPS)
    )
    cycles = scpi_float(
        "measure.nplc", "Control the integration time, in cycles.", resolution=1e-4, ranges=_only(CYCLES)
    )
    averaging = tsp_switch("measure.filter.enable", "Control whether readings are averaged.")
    average_count = scpi_int("measure.filter.count", "Control how many are averaged.", ranges=_only(AVERAGES))
    average_filter = tsp_choice("measure.filter.type", "Control how readings are averaged.", Filter)
    count = scpi_int("measure.count", "Control how many readings a question starts.", ranges=_only(AVERAGES))

    def __init__(self, smu: Keithley2636B, unit: Unit, limits: SmuLimits) -> None:
        self.instrument = TspAttributes(smu)
        self.path = f"{unit.value}."
        self.limits = limits
        self.acquisition = Acquisition()
        self._smu = smu
        self._unit = unit

    @property
    def label(self) -> str:
        """Return instrument and unit, for messages."""
        return f"{self._smu.label}, {self._unit.value}"


class Keithley2636B(TspInstrument):
    """One unit of a Keithley 2636B in the role of a source-measure unit: it forces a voltage and measures the current.

    The first exchange with it, and the first after a lost link, puts that unit in this function at 0 V with its output
    off, and leaves the other one alone. :meth:`safe_off` switches both off: whatever hangs on the other one is as close
    to the chip.

    Args:
        link: an open link.
        limits: the bench file's envelope.
        serial: serial number that must answer; None accepts any.
        unit: which of the two units.
        off_mode: what the terminals are while the output is off.
        four_wire: sense the voltage at the device through the second pair of wires.
    """

    name = NAME
    maker = "Keithley"
    models = frozenset({"2636B"})

    def __init__(
        self,
        link: Link,
        limits: SmuLimits,
        serial: str | None = None,
        *,
        unit: Unit = Unit.A,
        off_mode: OffMode = OffMode.NORMAL,
        four_wire: bool = False,
    ) -> None:
        super().__init__(link, serial, tuple(f"{name}.source.{act} = 0" for name in UNITS for act in TO_ZERO))
        self.attributes = SmuAttributes(self, unit, limits)
        self._name = unit.value
        table = SmuAttributes
        self._wiring = [
            table.off_mode.change(self.attributes, off_mode),
            table.four_wire.change(self.attributes, four_wire),
        ]

    @property
    def in_compliance(self) -> bool:
        """Read whether the current compliance limits the source now."""
        return self.ask(f"print({self._name}.source.compliance)", parse_tsp_bool)

    def check_source(self, volts: float, compliance_a: float) -> None:
        """Check a source level in V and a compliance in A as set_source would; nothing is sent. Raises LimitError."""
        self._source_changes(volts, compliance_a)

    def set_source(self, volts: float, compliance_a: float) -> None:
        """Set the source level in V and the current compliance in A; both are read back. The output stays as it is.

        While the level changes, the lower of the old and the new compliance stands: no state in between drives a
        device harder than the one before or the one after, or is beyond the operating boundary.

        Raises:
            LimitError: outside the instrument's range, its operating boundary or the envelope; nothing is sent.
            InstrumentError: the instrument refused it.
            ReadBackError: the compliance or the level was not taken.
        """
        level, compliance = self._source_changes(volts, compliance_a)
        with self._identified():
            lowers = compliance_a <= self.attributes.compliance
            self.apply(*((compliance, level) if lowers else (level, compliance)))

    def set_integration(self, power_line_cycles: float) -> None:
        """Set the integration time of a reading, 0.001 to 25 power-line cycles, and check the read-back."""
        self.attributes.cycles = power_line_cycles
        self.attributes.acquisition = replace(self.attributes.acquisition, power_line_cycles=float(power_line_cycles))

    def set_averaging(self, readings: int) -> None:
        """Set how many readings are averaged into one, 1 to 100, and check the read-back: for weak currents."""
        self.apply(*self._average_changes(readings))
        self.attributes.acquisition = replace(self.attributes.acquisition, averages=int(readings))

    def set_measure_range(self, amps: float | None) -> None:
        """Set the lowest current range that holds ``amps``, in A, and check the read-back; None lets it follow.

        In a fixed range a larger current is an overflow, which :meth:`measure` raises as ReplyError.
        """
        what = f"{self.attributes.label}: range"
        full = None if amps is None else range_for(CURRENT_RANGES, MEASURED_AMPS.check(amps, what), OVERRANGE)
        self.apply(*self._range_changes(full))
        self.attributes.acquisition = replace(self.attributes.acquisition, measure_range_a=full)

    def set_source_range(self, volts: float | None) -> None:
        """Set the lowest voltage range that holds ``volts``, in V, and check the read-back; None lets it follow.

        Fix the range before the output is switched on where the levels lie in different ranges: a change of range may
        overshoot.
        """
        what = f"{self.attributes.label}: range"
        full = None if volts is None else range_for(VOLTAGE_RANGES, VOLTS.check(volts, what), OVERRANGE)
        self.apply(*self._source_range_changes(full))
        self.attributes.acquisition = replace(self.attributes.acquisition, source_range_v=full)

    def set_output(self, on: bool) -> None:
        """Set the output on (True) or off (False) and check the read-back."""
        self.attributes.output = on

    def measure(self) -> Measurement:
        """Measure voltage in V and current in A once, with the state of the compliance right after the reading.

        Raises:
            ReplyError: an overflow, or an answer that is not a reading.
            BenchFailure: the output was off: what was read is not the device's current.
        """
        asked = ["v", "i", f"{self._name}.source.compliance", f"{self._name}.source.output"]
        reading = f"local i, v = {self._name}.measure.iv()"
        return self._judged(reading, self.ask_values(asked, self._reading_timeout_s, reading))

    def spot(self) -> Measurement:
        """Switch the output on, take one reading and switch it off, in one line; errors as for :meth:`measure`.

        The answer tells whether the output is off again, and whether anything was refused: to drain the error queue
        would take a second exchange, and is only needed where its count, which comes for free, is not zero.

        Raises:
            ReadBackError: the output did not read back off; it does since.
            InstrumentError: the instrument refused a part of the line; its output is off.
            BenchFailure: as for :meth:`measure`; or it is not confirmed that the output is off, and the text says so.
        """
        source = f"{self._name}.source"
        line = (
            f"{source}.output = 1 local i, v = {self._name}.measure.iv() "
            f"local c, o = {source}.compliance, {source}.output {source}.output = 0"
        )
        asked = ["v", "i", "c", "o", f"{source}.output", "errorqueue.count"]
        with self._identified(), self._off_whatever_happens():
            *reading, state, count = self.ask_values(asked, self._reading_timeout_s, line)
            on = self.decode(line, state, parse_tsp_switch)
            if self.decode(line, count, parse_int):
                raise InstrumentError(self.label, line, self._drained())
            if on:
                raise ReadBackError(
                    f"{self.attributes.label}: the output stayed on after a reading; it was switched off again"
                )
            return self._judged(line, reading)

    def _prepare(self) -> None:
        # With the few digits that others may have left behind, every read-back would be rounded.
        self.send(f"format.asciiprecision = {PRINTED_DIGITS}")
        # A level left behind by others must not come out with the first switching on.
        self.send(" ".join(f"{self._name}.source.{act} = 0" for act in TO_ZERO))
        wrong = self._wrong(self._name)
        if wrong:
            raise BenchFailure(f"{self.label}: not at 0 V and off: {', '.join(wrong)}; switch it off by hand")
        table, unit, taken = SmuAttributes, self.attributes, self.attributes.acquisition
        self.apply(
            table.source_function.change(unit, SourceFunction.VOLTAGE),
            *self._wiring,
            *self._source_range_changes(taken.source_range_v),
            *self._range_changes(taken.measure_range_a),
            table.cycles.change(unit, taken.power_line_cycles),
            *self._average_changes(taken.averages),
            table.count.change(unit, 1),
        )

    @property
    def _reading_timeout_s(self) -> float:
        return self.link.timeout_s + self.attributes.acquisition.longest_s

    def _judged(self, question: str, values: list[str]) -> Measurement:
        volts, amps, limited, state = values
        measured = Measurement(
            self.decode(question, volts, parse_float),
            self.decode(question, amps, parse_float),
            self.decode(question, limited, parse_tsp_bool),
        )
        if not self.decode(question, state, parse_tsp_switch):
            raise BenchFailure(
                f"{self.attributes.label}: the output was off during the reading; switch it on before measuring"
            )
        return measured

    def _source_changes(self, volts: float, compliance_a: float) -> tuple[Change, Change]:
        table = SmuAttributes
        compliance = table.compliance.change(self.attributes, compliance_a)
        level = table.source_voltage.change(self.attributes, volts)
        if abs(volts) > HIGH_VOLTAGE_V and compliance_a > HIGH_VOLTAGE_A:
            raise LimitError(
                f"{self.attributes.label}: {volts:g} V with a compliance of {compliance_a:g} A is refused; {NAME} "
                f"gives {HIGH_VOLTAGE_A:g} A at most beyond {HIGH_VOLTAGE_V:g} V"
            )
        return level, compliance

    def _average_changes(self, readings: int) -> list[Change]:
        table, unit = SmuAttributes, self.attributes
        return [
            table.average_count.change(unit, readings),
            table.average_filter.change(unit, Filter.REPEATING),
            table.averaging.change(unit, readings > 1),
        ]

    def _range_changes(self, full_scale: float | None) -> list[Change]:
        table, unit = SmuAttributes, self.attributes
        automatic = table.measure_autorange.change(unit, full_scale is None)
        return [automatic] if full_scale is None else [automatic, table.measure_range.change(unit, full_scale)]

    def _source_range_changes(self, full_scale: float | None) -> list[Change]:
        table, unit = SmuAttributes, self.attributes
        automatic = table.source_autorange.change(unit, full_scale is None)
        return [automatic] if full_scale is None else [automatic, table.source_range.change(unit, full_scale)]

    def _wrong(self, *names: str) -> list[str]:
        asked = [f"{name}.source.{what}" for name in names for what in ("output", "levelv")]
        replies = self.ask_values(asked)
        wrong = []
        for name, state, level in zip(names, replies[::2], replies[1::2], strict=True):
            on = self.decode(f"{name}.source.output", state, parse_tsp_switch)
            volts = self.decode(f"{name}.source.levelv", level, parse_float)
            if on or volts != 0.0:
                wrong.append(f"{name} is {'on' if on else 'off'} and set to {volts:g} V")
        return wrong

    def _not_off(self) -> list[str]:
        return self._wrong(*UNITS)
