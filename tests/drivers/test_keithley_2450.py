"""The source-measure unit's driver against transcripts: what it sends, what it checks, what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import InstrumentError, LimitError, ReadBackError, ReplyError, WrongInstrument
from drivers.keithley_2450 import Keithley2450, OffMode, SmuLimits, Terminals
from drivers.limits import Range
from drivers.roles import Instrument, Measurement, SourceMeasureUnit
from models.exceptions import BenchFailure
from tests.drivers.transcript import Exchange, TranscriptLink

NO_ERROR = ("SYST:ERR?", '0,"No error;0;0 0"')
IDN = ("*IDN?", "KEITHLEY INSTRUMENTS,MODEL 2450,04096331,1.7.12b")
OFF: list[Exchange] = [("SOUR:VOLT 0", None), ("OUTP 0", None)]
CONFIRMED: list[Exchange] = [("OUTP?;:SOUR:VOLT?", "0;0.000000E+00"), NO_ERROR]
STANDING = ("SOUR:VOLT:ILIM?", "1.050000E-04")
"""What is asked before a source is set: which of the two settings goes first depends on the compliance that stands."""

SETUP = {
    "SOUR:FUNC VOLT": "VOLT",
    'SENS:FUNC "CURR"': '"CURR:DC"',
    "OUTP:VOLT:SMOD NORM": "NORM",
    "SENS:CURR:RSEN 0": "0",
    "SOUR:VOLT:RANG:AUTO 1": "1",
    "SENS:CURR:RANG:AUTO 1": "1",
    "SOUR:VOLT:READ:BACK 1": "1",
    "SENS:CURR:NPLC 1": "1.000000E+00",
    "SENS:CURR:AVER:COUN 1": "1",
    "SENS:CURR:AVER:TCON REP": "REP",
    "SENS:CURR:AVER 0": "0",
    "SENS:COUN 1": "1",
}
READ = 'READ? "defbuffer1",SOUR,READ,SOURSTAT'
LIMITS = SmuLimits(
    Range(-2.0, 3.0, "V", "limits.smu_voltage_v of bench 'test'"),
    Range(1e-6, 5e-3, "A", "limits.smu_compliance_a of bench 'test'"),
)
WIDE = SmuLimits(Range(-500.0, 500.0, "V", "wide"), Range(0.0, 5.0, "A", "wide"))


def hello(setup: dict[str, str] = SETUP) -> list[Exchange]:
    questions = [f"{command.split(' ')[0]}?" for command in setup]
    return [
        IDN,
        ("*CLS", None),
        ("*LANG?", "SCPI"),
        ("SOUR:VOLT 0;:OUTP 0", None),
        NO_ERROR,
        *CONFIRMED,
        (";:".join(setup), None),
        NO_ERROR,
        (";:".join(questions), ";".join(setup.values())),
    ]


HELLO = hello()


def unit(exchanges: Iterable[Exchange] = (), limits: SmuLimits = LIMITS) -> tuple[Keithley2450, TranscriptLink]:
    link = TranscriptLink(exchanges)
    return Keithley2450(link, limits), link


def test_it_takes_the_role() -> None:
    instrument: SourceMeasureUnit = unit()[0]
    also: Instrument = instrument
    assert also is instrument


def test_the_first_exchange_prepares_it_with_its_output_off() -> None:
    with TranscriptLink(HELLO) as link:
        assert Keithley2450(link, LIMITS).identify().model == "2450"


def test_wiring_is_set_when_it_is_prepared() -> None:
    setup = {}
    for command, reply in SETUP.items():
        if command.startswith("OUTP:VOLT:SMOD"):
            setup |= {"OUTP:VOLT:SMOD HIMP": "HIMP", "SENS:CURR:RSEN 1": "1", "ROUT:TERM REAR": "REAR"}
        elif not command.startswith("SENS:CURR:RSEN"):
            setup[command] = reply
    with TranscriptLink(hello(setup)) as link:
        smu = Keithley2450(link, LIMITS, off_mode=OffMode.HIGH_IMPEDANCE, four_wire=True, terminals=Terminals.REAR)
        smu.identify()


def test_a_source_function_that_was_not_taken_is_raised() -> None:
    with (
        TranscriptLink(hello(SETUP | {"SOUR:FUNC VOLT": "CURR"})) as link,
        pytest.raises(ReadBackError, match="source function"),
    ):
        Keithley2450(link, LIMITS).set_output(True)


def test_another_command_set_is_refused() -> None:
    with (
        TranscriptLink([IDN, ("*CLS", None), ("*LANG?", "SCPI2400")]) as link,
        pytest.raises(WrongInstrument, match="its command set is SCPI2400; choose SCPI"),
    ):
        Keithley2450(link, LIMITS).identify()


@pytest.mark.parametrize("answer", ["KEITHLEY INSTRUMENTS,MODEL 2460,1,1", "Keithley instruments, 2230G-30-1, 1, 1"])
def test_another_model_is_refused(answer: str) -> None:
    with TranscriptLink([("*IDN?", answer)]) as link, pytest.raises(WrongInstrument, match="expected a Keithley 2450"):
        Keithley2450(link, LIMITS).identify()


def test_a_lower_compliance_is_set_before_the_level_and_both_are_read_back() -> None:
    exchanges = [
        *HELLO,
        STANDING,
        ("SOUR:VOLT:ILIM 6.4E-5;:SOUR:VOLT 0.2", None),
        NO_ERROR,
        ("SOUR:VOLT:ILIM?;:SOUR:VOLT?", "6.400000E-05;2.000000E-01"),
    ]
    with TranscriptLink(exchanges) as link:
        Keithley2450(link, LIMITS).set_source(0.2, 64e-6)


def test_a_higher_compliance_is_set_after_the_level() -> None:
    exchanges = [
        *HELLO,
        STANDING,
        ("SOUR:VOLT 0.2;:SOUR:VOLT:ILIM 0.001", None),
        NO_ERROR,
        ("SOUR:VOLT?;:SOUR:VOLT:ILIM?", "2.000000E-01;1.000000E-03"),
    ]
    with TranscriptLink(exchanges) as link:
        Keithley2450(link, LIMITS).set_source(0.2, 1e-3)


def test_zero_volts_in_is_exactly_zero_out() -> None:
    exchanges = [
        *HELLO,
        STANDING,
        ("SOUR:VOLT:ILIM 0.0001;:SOUR:VOLT 0", None),
        NO_ERROR,
        ("SOUR:VOLT:ILIM?;:SOUR:VOLT?", "1.000000E-04;0.000000E+00"),
    ]
    with TranscriptLink(exchanges) as link:
        Keithley2450(link, LIMITS).set_source(-0.0, 1e-4)


@pytest.mark.parametrize("read_back", ["1.050000E-04", "6.300000E-05", "1.000000E-03", "0"])
def test_a_compliance_that_was_not_taken_is_raised(read_back: str) -> None:
    exchanges = [
        *HELLO,
        STANDING,
        ("SOUR:VOLT:ILIM 6.4E-5;:SOUR:VOLT 0.2", None),
        NO_ERROR,
        ("SOUR:VOLT:ILIM?;:SOUR:VOLT?", f"{read_back};2.000000E-01"),
    ]
    instrument, _ = unit(exchanges)
    with pytest.raises(ReadBackError, match="compliance: set to 6.4E-5 but reads back"):
        instrument.set_source(0.2, 64e-6)


def test_a_refused_compliance_is_raised() -> None:
    exchanges = [
        *HELLO,
        STANDING,
        ("SOUR:VOLT:ILIM 1E-6;:SOUR:VOLT 0.2", None),
        ("SYST:ERR?", '5076,"Cannot set source limit lower than 0.1% of measure range;1;2020/01/01 10:00:00.000"'),
        NO_ERROR,
    ]
    with TranscriptLink(exchanges) as link, pytest.raises(InstrumentError, match="5076"):
        Keithley2450(link, LIMITS).set_source(0.2, 1e-6)


@pytest.mark.parametrize(
    ("volts", "read_back"), [(0.123456, "1.234550E-01"), (0.02, "2.000000E-02"), (2.9, "2.900400E+00")]
)
def test_a_level_may_be_rounded_to_the_resolution_of_its_range(volts: float, read_back: str) -> None:
    exchanges = [
        *HELLO,
        STANDING,
        (f"SOUR:VOLT:ILIM 0.0001;:SOUR:VOLT {volts}", None),
        NO_ERROR,
        ("SOUR:VOLT:ILIM?;:SOUR:VOLT?", f"1.000000E-04;{read_back}"),
    ]
    with TranscriptLink(exchanges) as link:
        Keithley2450(link, LIMITS).set_source(volts, 1e-4)


BAD_NUMBERS = st.one_of(
    st.none(), st.booleans(), st.text(max_size=4), st.sampled_from([math.nan, math.inf, -math.inf, 210.1, -210.1])
)
BAD_VOLTS = st.one_of(
    BAD_NUMBERS, st.floats(min_value=3.0, exclude_min=True), st.floats(max_value=-2.0, exclude_max=True)
)
BAD_AMPS = st.one_of(
    BAD_NUMBERS, st.floats(min_value=5e-3, exclude_min=True), st.floats(max_value=1e-6, exclude_max=True)
)
Setter = Callable[[Keithley2450, object], None]


@given(BAD_VOLTS)
def test_no_byte_is_sent_for_a_bad_voltage(volts: object) -> None:
    instrument, link = unit()
    with pytest.raises(LimitError):
        instrument.set_source(volts, 1e-4)  # type: ignore[arg-type]
    with pytest.raises(LimitError):
        instrument.source_voltage = volts  # type: ignore[assignment]
    assert link.sent == 0


@given(BAD_AMPS)
def test_no_byte_is_sent_for_a_bad_compliance(amps: object) -> None:
    instrument, link = unit()
    with pytest.raises(LimitError):
        instrument.set_source(0.1, amps)  # type: ignore[arg-type]
    with pytest.raises(LimitError):
        instrument.compliance = amps  # type: ignore[assignment]
    assert link.sent == 0


@given(
    st.sampled_from(["set_integration", "set_averaging", "set_measure_range", "set_source_range", "set_output"]),
    st.one_of(st.text(max_size=4), st.sampled_from([math.nan, math.inf, -math.inf, 1e3, -1e3, b"1", 2j])),
)
def test_no_byte_is_sent_for_bad_settings(setter: str, value: object) -> None:
    instrument, link = unit()
    with pytest.raises(LimitError):
        getattr(instrument, setter)(value)
    assert link.sent == 0


@pytest.mark.parametrize(
    ("setter", "value"),
    [
        ("set_integration", True),
        ("set_integration", None),
        ("set_integration", 0.0),
        ("set_averaging", 0),
        ("set_averaging", 101),
        ("set_averaging", 1.5),
        ("set_averaging", True),
        ("set_measure_range", 0.0),
        ("set_measure_range", True),
        ("set_source_range", False),
        ("set_output", 1),
        ("set_output", None),
    ],
)
def test_no_byte_is_sent_for_values_just_outside(setter: str, value: object) -> None:
    instrument, link = unit()
    with pytest.raises(LimitError):
        getattr(instrument, setter)(value)
    assert link.sent == 0


def test_the_operating_boundary() -> None:
    instrument, link = unit(limits=WIDE)
    with pytest.raises(
        LimitError, match="100 V with a compliance of 0.2 A is refused; Keithley 2450 gives 0.105 A at most"
    ):
        instrument.set_source(100.0, 0.2)
    with pytest.raises(LimitError, match="Keithley 2450 allows -210 to 210 V"):
        instrument.set_source(211.0, 0.1)
    with pytest.raises(LimitError, match=r"Keithley 2450 allows 1e-09 to 1.05 A"):
        instrument.set_source(1.0, 0.0)
    assert link.sent == 0


def test_output() -> None:
    exchanges = [*HELLO, ("OUTP 1", None), NO_ERROR, ("OUTP?", "1"), ("OUTP 0", None), NO_ERROR, ("OUTP?", "0")]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2450(link, LIMITS)
        instrument.set_output(True)
        instrument.set_output(False)


def test_an_output_that_an_interlock_keeps_off_is_raised() -> None:
    instrument, _ = unit([*HELLO, ("OUTP 1", None), NO_ERROR, ("OUTP?", "0")])
    with pytest.raises(ReadBackError, match="output: set to 1 but reads back 0"):
        instrument.set_output(True)


def test_a_reading_is_one_question() -> None:
    exchanges = [
        *HELLO,
        (READ, "2.000012E-01,2.861200E-05,136"),
        (READ, "1.500000E-02,6.400000E-05,168"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2450(link, LIMITS)
        assert instrument.measure() == Measurement(0.2000012, 2.8612e-05, False)
        assert instrument.measure() == Measurement(0.015, 6.4e-05, True)


@pytest.mark.parametrize(
    "reply", ["0.2,9.9E37,136", "0.2,NAN,136", "9.91E37,1E-6,136", "0.2,1E-6", "", "0.2,1E-6,136,7", "a,b,c"]
)
def test_a_reading_that_is_none_is_an_error(reply: str) -> None:
    instrument, _ = unit([*HELLO, (READ, reply)])
    with pytest.raises(ReplyError):
        instrument.measure()


def test_an_overflow_leaves_the_link_in_step() -> None:
    instrument, link = unit([*HELLO, (READ, "0.2,9.9E37,136")])
    with pytest.raises(ReplyError, match="beyond the instrument's range"):
        instrument.measure()
    assert link.in_step


@pytest.mark.parametrize(("status", "why"), [(8, "output was off"), (152, "too hot")])
def test_a_reading_of_no_device_is_refused(status: int, why: str) -> None:
    instrument, _ = unit([*HELLO, (READ, f"0.0,1E-9,{status}")])
    with pytest.raises(BenchFailure, match=why):
        instrument.measure()


def test_long_readings_are_waited_for() -> None:
    exchanges = [
        *HELLO,
        (READ, "0.2,1E-6,136"),
        ("SENS:CURR:NPLC 10", None),
        NO_ERROR,
        ("SENS:CURR:NPLC?", "1.000000E+01"),
        ("SENS:CURR:AVER:COUN 50;:SENS:CURR:AVER:TCON REP;:SENS:CURR:AVER 1", None),
        NO_ERROR,
        ("SENS:CURR:AVER:COUN?;:SENS:CURR:AVER:TCON?;:SENS:CURR:AVER?", "50;REP;1"),
        (READ, "0.2,1E-6,136"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2450(link, LIMITS)
        instrument.measure()
        short = link.timeouts[-1]
        instrument.set_integration(10.0)
        instrument.set_averaging(50)
        instrument.measure()
        long = link.timeouts[-1]
    assert short is not None
    assert long is not None
    assert short < 3.0
    assert long > 50 * 10 / 50.0


def test_averaging_one_reading_switches_averaging_off() -> None:
    exchanges = [
        *HELLO,
        ("SENS:CURR:AVER:COUN 1;:SENS:CURR:AVER:TCON REP;:SENS:CURR:AVER 0", None),
        NO_ERROR,
        ("SENS:CURR:AVER:COUN?;:SENS:CURR:AVER:TCON?;:SENS:CURR:AVER?", "1;REP;0"),
    ]
    with TranscriptLink(exchanges) as link:
        Keithley2450(link, LIMITS).set_averaging(1)


def test_fixed_and_automatic_ranges() -> None:
    exchanges = [
        *HELLO,
        ("SENS:CURR:RANG:AUTO 0;:SENS:CURR:RANG 0.0001", None),
        NO_ERROR,
        ("SENS:CURR:RANG:AUTO?;:SENS:CURR:RANG?", "0;1.000000E-04"),
        ("SOUR:VOLT:RANG:AUTO 0;:SOUR:VOLT:RANG 2", None),
        NO_ERROR,
        ("SOUR:VOLT:RANG:AUTO?;:SOUR:VOLT:RANG?", "0;2.000000E+00"),
        STANDING,
        ("SOUR:VOLT:ILIM 1E-5;:SOUR:VOLT 0.10002", None),
        NO_ERROR,
        ("SOUR:VOLT:ILIM?;:SOUR:VOLT?", "1.000400E-05;1.000000E-01"),
        ("SENS:CURR:RANG:AUTO 1", None),
        NO_ERROR,
        ("SENS:CURR:RANG:AUTO?", "1"),
        ("SOUR:VOLT:RANG:AUTO 1", None),
        NO_ERROR,
        ("SOUR:VOLT:RANG:AUTO?", "1"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2450(link, LIMITS)
        instrument.set_measure_range(64e-6)
        instrument.set_source_range(0.5)
        instrument.set_source(0.10002, 1e-5)
        instrument.set_measure_range(None)
        instrument.set_source_range(None)


def test_a_range_that_was_not_taken_is_raised() -> None:
    exchanges = [
        *HELLO,
        ("SENS:CURR:RANG:AUTO 0;:SENS:CURR:RANG 0.0001", None),
        NO_ERROR,
        ("SENS:CURR:RANG:AUTO?;:SENS:CURR:RANG?", "0;1.000000E-03"),
    ]
    instrument, _ = unit(exchanges)
    with pytest.raises(ReadBackError, match="measure range"):
        instrument.set_measure_range(1e-4)


def test_settings_are_made_again_after_a_lost_link() -> None:
    setup = SETUP | {"SENS:CURR:NPLC 1": ""}
    again = {("SENS:CURR:NPLC 5" if reply == "" else command): reply or "5.0" for command, reply in setup.items()}
    exchanges = [*HELLO, ("SENS:CURR:NPLC 5", None), NO_ERROR, ("SENS:CURR:NPLC?", "5.0"), *hello(again)]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2450(link, LIMITS)
        instrument.set_integration(5.0)
        instrument.resynchronise()


def test_reading_the_state() -> None:
    exchanges = [
        *HELLO,
        ("SOUR:VOLT?", "0.2"),
        ("SOUR:VOLT:ILIM?", "1E-4"),
        ("OUTP?", "0"),
        ("SOUR:VOLT:ILIM:TRIP?", "1"),
        ("OUTP:VOLT:SMOD?", "NORMAL"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2450(link, LIMITS)
        assert (instrument.source_voltage, instrument.compliance, instrument.output) == (0.2, 1e-4, False)
        assert instrument.in_compliance
        assert instrument.off_mode is OffMode.NORMAL


def test_safe_off_needs_no_question_first() -> None:
    with TranscriptLink([*OFF, *HELLO, *CONFIRMED]) as link:
        Keithley2450(link, LIMITS).safe_off()


@pytest.mark.parametrize(
    ("reply", "what"), [("1;0", "the output is on and set to 0 V"), ("0;0.2", "off and set to 0.2 V")]
)
def test_safe_off_is_not_confirmed_by_an_output_that_is_on_or_set(reply: str, what: str) -> None:
    with (
        TranscriptLink([*OFF, *HELLO, ("OUTP?;:SOUR:VOLT?", reply), NO_ERROR]) as link,
        pytest.raises(ReadBackError, match=what),
    ):
        Keithley2450(link, LIMITS).safe_off()
