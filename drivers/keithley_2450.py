"""Keithley 2450: a source-measure unit that forces a voltage and measures the current (2450-901-01, SCPI commands)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntFlag

from drivers.errors import InstrumentError, LimitError, ReadBackError, WrongInstrument
from drivers.limits import Range, SmuLimits
from drivers.roles import Measurement
from drivers.scpi import Link, ScpiInstrument
from drivers.scpi_settings import Change, scpi_bool, scpi_choice, scpi_float, scpi_int
from drivers.scpi_text import parse_bool, parse_float, parse_floats, parse_int, parse_word
from models.exceptions import BenchFailure

NAME = "Keithley 2450"
COMMAND_SET = "SCPI"
VOLTAGE_RANGES = (0.02, 0.2, 2.0, 20.0, 200.0)
CURRENT_RANGES = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
OVERRANGE = 1.05

VOLTAGE_STEP = 2.5e-5
CURRENT_STEP = 5e-5
"""Programming resolution as a part of the range (SPEC-2450 Rev. A): 500 nV in the 20 mV range, 500 fA in 10 nA."""

VOLTS = Range(-210.0, 210.0, "V", NAME)
AMPS = Range(1e-9, 1.05, "A", NAME)
MEASURED_AMPS = Range(CURRENT_RANGES[0], 1.05, "A", NAME)
CYCLES = Range(0.01, 10.0, "power-line cycles", NAME)
AVERAGES = Range(1, 100, "readings", NAME)

HIGH_VOLTAGE_V = 21.0
HIGH_VOLTAGE_A = 0.105
"""Operating boundary: beyond 21 V the instrument gives no more than 105 mA."""

SLOWEST_LINE_HZ = 50.0
CONVERSIONS = 3
"""A reading is a conversion of the signal, one of the reference and one of zero."""

READ = 'READ? "defbuffer1",SOUR,READ,SOURSTAT'
SPOT = f"OUTP 1;:{READ};:OUTP 0;:OUTP?;:SYST:ERR:COUN?"
"""Answered by the reading, the state of the output after it, and the number of queued errors."""


class OffMode(Enum):
    """What the terminals are while the output is off. An output that is off is not isolated, except in the second mode.

    NORMAL holds 0 V behind a current limit: the pads of a chip neither float nor collect charge, and nothing wears.
    HIGH_IMPEDANCE opens a relay, which wears with every switching: for idle times, not for one cell after another.
    """

    NORMAL = "NORM"
    HIGH_IMPEDANCE = "HIMP"


class Terminals(Enum):
    """Which pair of sockets is in use."""

    FRONT = "FRON"
    REAR = "REAR"


class Function(Enum):
    """What is forced, or measured."""

    VOLTAGE = "VOLT"
    CURRENT = "CURR"
    RESISTANCE = "RES"


class Filter(Enum):
    """How readings are averaged: a new set for each reading, or the latest ones."""

    REPEATING = "REP"
    MOVING = "MOV"


class SourceStatus(IntFlag):
    """Bits of the buffer element SOURSTATus that this driver acts on: the source while the reading was taken."""

    OVERTEMPERATURE = 16
    LIMITED = 32
    OUTPUT_ON = 128


@dataclass(frozen=True)
class Acquisition:
    """How readings are taken, as last set and confirmed. A range of None is automatic."""

    power_line_cycles: float = 1.0
    averages: int = 1
    measure_range_a: float | None = None
    source_range_v: float | None = None

    @property
    def longest_s(self) -> float:
        """Upper estimate of the time of one reading: automatic ranging may try every range."""
        tries = self.averages + (len(CURRENT_RANGES) if self.measure_range_a is None else 0)
        return CONVERSIONS * self.power_line_cycles * tries / SLOWEST_LINE_HZ


def range_for(ranges: Sequence[float], value: float, overrange: float = OVERRANGE) -> float:
    """The lowest of ``ranges`` that holds ``value``; each holds up to ``overrange`` times its full scale."""
    return next((full for full in ranges if abs(value) <= full * overrange), ranges[-1])


def _parse_reading(reply: str) -> tuple[float, ...]:
    return parse_floats(reply, 3)


def _voltage_step(smu: Keithley2450, volts: float) -> float:
    fixed = smu.acquisition.source_range_v
    return VOLTAGE_STEP * (range_for(VOLTAGE_RANGES, volts) if fixed is None else fixed)


def _current_step(smu: Keithley2450, amps: float) -> float:
    fixed = smu.acquisition.measure_range_a
    return CURRENT_STEP * max(range_for(CURRENT_RANGES, amps), 0.0 if fixed is None else fixed)


def _full_scale_step(smu: Keithley2450, full_scale: float) -> float:
    return CURRENT_STEP * full_scale


def _only(allowed: Range) -> Callable[[Keithley2450], Sequence[Range]]:
    return lambda smu: (allowed,)


def _voltages(smu: Keithley2450) -> Sequence[Range]:
    return (VOLTS, smu.limits.voltage)


def _compliances(smu: Keithley2450) -> Sequence[Range]:
    return (AMPS, smu.limits.compliance)


class Keithley2450(ScpiInstrument):
    """A Keithley 2450 in the role of a source-measure unit: it forces a voltage and measures the current.

    The first exchange with it, and the first after a lost link, puts it in that function at 0 V with its output off.

    Args:
        link: an open link.
        limits: the bench file's envelope.
        serial: serial number that must answer; None accepts any.
        off_mode: what the terminals are while the output is off.
        four_wire: sense the voltage at the device through the second pair of wires.
        terminals: sockets to use; None leaves what the front panel says.
    """

    name = NAME
    maker = "Keithley"
    models = frozenset({"2450"})

    output = scpi_bool("OUTP", "Control whether the output is on.")
    source_voltage = scpi_float(
        "SOUR:VOLT", "Control the source level, in V.", resolution=_voltage_step, ranges=_voltages
    )
    compliance = scpi_float(
        "SOUR:VOLT:ILIM", "Control the current compliance, in A.", resolution=_current_step, ranges=_compliances
    )
    off_mode = scpi_choice("OUTP:VOLT:SMOD", "Control what the terminals are while the output is off.", OffMode)
    four_wire = scpi_bool("SENS:CURR:RSEN", "Control whether the voltage is sensed through a second pair of wires.")
    terminals = scpi_choice("ROUT:TERM", "Control which pair of sockets is in use.", Terminals)

    _source_function = scpi_choice("SOUR:FUNC", "Control what is forced.", Function)
    _source_autorange = scpi_bool("SOUR:VOLT:RANG:AUTO", "Control whether the source range follows the level.")
    _source_range = scpi_float(
        "SOUR:VOLT:RANG", "Control the full scale, in V.", resolution=_full_scale_step, ranges=_only(VOLTS)
    )
    _source_read_back = scpi_bool("SOUR:VOLT:READ:BACK", "Control whether readings hold the measured source voltage.")
    _measure_function = scpi_choice("SENS:FUNC", "Control what is measured.", Function, quoted=True)
    _measure_autorange = scpi_bool("SENS:CURR:RANG:AUTO", "Control whether the current range follows the reading.")
    _measure_range = scpi_float(
        "SENS:CURR:RANG", "Control the full scale, in A.", resolution=_full_scale_step, ranges=_only(MEASURED_AMPS)
    )
    _cycles = scpi_float(
        "SENS:CURR:NPLC", "Control the integration time, in cycles.", resolution=1e-3, ranges=_only(CYCLES)
    )
    _averaging = scpi_bool("SENS:CURR:AVER", "Control whether readings are averaged.")
    _average_count = scpi_int("SENS:CURR:AVER:COUN", "Control how many are averaged.", ranges=_only(AVERAGES))
    _average_filter = scpi_choice("SENS:CURR:AVER:TCON", "Control how readings are averaged.", Filter)
    _count = scpi_int("SENS:COUN", "Control how many readings a question starts.", ranges=_only(AVERAGES))

    def __init__(
        self,
        link: Link,
        limits: SmuLimits,
        serial: str | None = None,
        *,
        off_mode: OffMode = OffMode.NORMAL,
        four_wire: bool = False,
        terminals: Terminals | None = None,
    ) -> None:
        super().__init__(link, serial, ("SOUR:VOLT 0", "OUTP 0"))
        self.limits = limits
        self.acquisition = Acquisition()
        self._wiring = [Keithley2450.off_mode.change(self, off_mode), Keithley2450.four_wire.change(self, four_wire)]
        if terminals is not None:
            self._wiring.append(Keithley2450.terminals.change(self, terminals))

    @property
    def in_compliance(self) -> bool:
        """Read whether the current compliance limits the source now."""
        return self.ask("SOUR:VOLT:ILIM:TRIP?", parse_bool)

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
            lowers = compliance_a <= self.compliance
            self.apply(*((compliance, level) if lowers else (level, compliance)))

    def set_integration(self, power_line_cycles: float) -> None:
        """Set the integration time of a reading, 0.01 to 10 power-line cycles, and check the read-back."""
        self.apply(Keithley2450._cycles.change(self, power_line_cycles))
        self.acquisition = replace(self.acquisition, power_line_cycles=float(power_line_cycles))

    def set_averaging(self, readings: int) -> None:
        """Set how many readings are averaged into one, 1 to 100, and check the read-back: for weak currents."""
        count = Keithley2450._average_count.change(self, readings)
        self.apply(
            count,
            Keithley2450._average_filter.change(self, Filter.REPEATING),
            Keithley2450._averaging.change(self, readings > 1),
        )
        self.acquisition = replace(self.acquisition, averages=int(readings))

    def set_measure_range(self, amps: float | None) -> None:
        """Set the lowest current range that holds ``amps``, in A, and check the read-back; None lets it follow.

        In a fixed range a larger current is an overflow, which :meth:`measure` raises as ReplyError; and a compliance
        below a thousandth of the range is refused by the instrument.
        """
        full = None if amps is None else range_for(CURRENT_RANGES, MEASURED_AMPS.check(amps, f"{self.label}: range"))
        self.apply(*self._range_changes(full))
        self.acquisition = replace(self.acquisition, measure_range_a=full)

    def set_source_range(self, volts: float | None) -> None:
        """Set the lowest voltage range that holds ``volts``, in V, and check the read-back; None lets it follow.

        An automatic range may overshoot when it changes, by 250 mV typically: enough to disturb a device. Fix the
        range before the output is switched on where the levels lie in different ranges.
        """
        full = None if volts is None else range_for(VOLTAGE_RANGES, VOLTS.check(volts, f"{self.label}: range"))
        self.apply(*self._source_range_changes(full))
        self.acquisition = replace(self.acquisition, source_range_v=full)

    def set_output(self, on: bool) -> None:
        """Set the output on (True) or off (False) and check the read-back."""
        self.output = on

    def measure(self) -> Measurement:
        """Measure voltage in V and current in A once, with the state of the compliance during that very reading.

        Raises:
            ReplyError: an overflow, or an answer that is not a reading.
            BenchFailure: the output was off or too hot: what was read is not the device's current.
        """
        volts, amps, status = self.ask(READ, _parse_reading, self._reading_timeout_s)
        return self._judged(volts, amps, status)

    def spot(self) -> Measurement:
        """Switch the output on, take one reading and switch it off, in one message; errors as for :meth:`measure`.

        The answer tells whether the output is off again, and whether anything was refused: to drain the error queue
        would take a second exchange, and is only needed where its count, which comes for free, is not zero.

        Raises:
            ReadBackError: the output did not read back off; it does since.
            InstrumentError: the instrument refused a part of the message; its output is off.
            BenchFailure: as for :meth:`measure`; or it is not confirmed that the output is off, and the text says so.
        """
        with self._identified(), self._off_whatever_happens():
            reading, state, count = self.ask_parts(SPOT, SPOT.count("?"), self._reading_timeout_s)
            on = self.decode(SPOT, state, parse_bool)
            if self.decode(SPOT, count, parse_int):
                raise InstrumentError(self.label, SPOT, self._drained())
            if on:
                raise ReadBackError(f"{self.label}: the output stayed on after a reading; it was switched off again")
            volts, amps, status = self.decode(SPOT, reading, _parse_reading)
        return self._judged(volts, amps, status)

    def _prepare(self) -> None:
        commands = self.ask("*LANG?", parse_word)
        if commands != COMMAND_SET:
            raise WrongInstrument(
                f"{self.label}: its command set is {commands}; choose SCPI in its menu System > Settings, restart it"
            )
        # A level left behind by others must not come out with the first switching on.
        self.send(";:".join(self._off))
        self._confirm_off()
        smu, taken = Keithley2450, self.acquisition
        self.apply(
            smu._source_function.change(self, Function.VOLTAGE),
            smu._measure_function.change(self, Function.CURRENT),
            *self._wiring,
            *self._source_range_changes(taken.source_range_v),
            *self._range_changes(taken.measure_range_a),
            smu._source_read_back.change(self, True),
            smu._cycles.change(self, taken.power_line_cycles),
            smu._average_count.change(self, taken.averages),
            smu._average_filter.change(self, Filter.REPEATING),
            smu._averaging.change(self, taken.averages > 1),
            smu._count.change(self, 1),
        )

    @property
    def _reading_timeout_s(self) -> float:
        return self.link.timeout_s + self.acquisition.longest_s

    def _judged(self, volts: float, amps: float, status: float) -> Measurement:
        source = SourceStatus(int(status))
        if SourceStatus.OUTPUT_ON not in source:
            raise BenchFailure(f"{self.label}: the output was off during the reading; switch it on before measuring")
        if SourceStatus.OVERTEMPERATURE in source:
            raise BenchFailure(f"{self.label}: too hot for a valid reading; let it cool down with its output off")
        return Measurement(volts, amps, SourceStatus.LIMITED in source)

    def _source_changes(self, volts: float, compliance_a: float) -> tuple[Change, Change]:
        compliance = Keithley2450.compliance.change(self, compliance_a)
        level = Keithley2450.source_voltage.change(self, volts)
        if abs(volts) > HIGH_VOLTAGE_V and compliance_a > HIGH_VOLTAGE_A:
            raise LimitError(
                f"{self.label}: {volts:g} V with a compliance of {compliance_a:g} A is refused; {NAME} gives "
                f"{HIGH_VOLTAGE_A:g} A at most beyond {HIGH_VOLTAGE_V:g} V"
            )
        return level, compliance

    def _range_changes(self, full_scale: float | None) -> list[Change]:
        automatic = Keithley2450._measure_autorange.change(self, full_scale is None)
        return [automatic] if full_scale is None else [automatic, Keithley2450._measure_range.change(self, full_scale)]

    def _source_range_changes(self, full_scale: float | None) -> list[Change]:
        automatic = Keithley2450._source_autorange.change(self, full_scale is None)
        return [automatic] if full_scale is None else [automatic, Keithley2450._source_range.change(self, full_scale)]

    def _not_off(self) -> list[str]:
        question = "OUTP?;:SOUR:VOLT?"
        state, level = self.ask_parts(question, 2)
        on = self.decode(question, state, parse_bool)
        volts = self.decode(question, level, parse_float)
        return [f"the output is {'on' if on else 'off'} and set to {volts:g} V"] if on or volts != 0.0 else []
