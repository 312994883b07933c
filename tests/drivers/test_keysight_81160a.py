"""The pulse source's driver, for both families of commands, against transcripts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import InDoubt, InstrumentError, LimitError, ReadBackError, WrongInstrument
from drivers.keysight_81160a import Keysight33500B, Keysight81160A
from drivers.keysight_81160a_registers import PulseLimits
from drivers.limits import Range
from drivers.pulse_source_role import PulseShape, PulseSource, SetValue
from drivers.roles import Instrument
from models.exceptions import BenchFailure
from tests.drivers.transcript import Exchange, TranscriptLink

NO_ERROR = ("SYST:ERR?", '0,"No error"')
IDN = ("*IDN?", "Agilent Technologies,81160A,MY51400292,1.0.3.0-2.6")
LIMITS = PulseLimits(
    Range(-2.0, 3.0, "V", "limits.direct_v of bench 'test'"),
    Range(1e-7, 1e-3, "s", "limits.pulse_width_s of bench 'test'"),
    Range(1, 1000, "pulses", "limits.pulses of bench 'test'"),
)
SET = PulseShape(base_v=0.0, top_v=2.0, width_s=10e-6, leading_s=0.5e-6, trailing_s=0.5e-6)
RESET = replace(SET, top_v=-2.0, width_s=20e-6)

HELLO: list[Exchange] = [
    IDN,
    ("*CLS", None),
    ("OUTP1 0", None),
    NO_ERROR,
    ("OUTP1?", "0"),
    NO_ERROR,
    ("VOLT1:LIM:STAT 0;:OUTP1:LOAD 50;:FUNC1 PULS", None),
    NO_ERROR,
    ("VOLT1:LIM:STAT?;:OUTP1:LOAD?;:FUNC1?", "0;5.00E+01;PULS"),
    ("VOLT1 0.0625;:VOLT1:OFFS 0.5", None),
    NO_ERROR,
    ("VOLT1:LIM:HIGH 3;:VOLT1:LIM:LOW -2;:VOLT1:LIM:STAT 1;:ARM:SOUR1 MAN", None),
    NO_ERROR,
    ("VOLT1:LIM:HIGH?;:VOLT1:LIM:LOW?;:VOLT1:LIM:STAT?;:ARM:SOUR1?", "3.00;-2.00;1;MAN"),
]
NARROW = "PULS:TRAN1 1E-9;:PULS:TRAN1:TRA 1E-9;:PULS:WIDT1 1.5E-9"
TIMES = "PULS:PER1 {};:PULS:WIDT1 {};:PULS:TRAN1 5E-7;:PULS:TRAN1:TRA 5E-7;:PULS:DEL1 0;:TRIG1:COUN {}"
ASKED_TIMES = "PULS:PER1?;:PULS:WIDT1?;:PULS:TRAN1?;:PULS:TRAN1:TRA?;:PULS:DEL1?;:TRIG1:COUN?"
LEVELS = "VOLT1:HIGH?;:VOLT1:LOW?"
SET_PULSE: list[Exchange] = [
    ("OUTP1?", "0"),
    (f"VOLT1 0.0625;:VOLT1:OFFS 1;:{NARROW}", None),
    NO_ERROR,
    (f"OUTP1:POL NORM;:VOLT1:HIGH 2;:VOLT1:LOW 0;:{TIMES.format('2.2E-5', '1E-5', 1)}", None),
    NO_ERROR,
    (f"OUTP1:POL?;:{LEVELS};:{ASKED_TIMES}", "NORM;2.0005;0.0;2.2E-5;1.0001E-5;5E-7;5E-7;0.0;1"),
]
ON: list[Exchange] = [("OUTP1 1", None), NO_ERROR, ("OUTP1?", "1")]


def source(exchanges: Iterable[Exchange] = (), load_ohm: float = 50.0) -> tuple[Keysight81160A, TranscriptLink]:
    link = TranscriptLink(exchanges)
    return Keysight81160A(link, LIMITS, load_ohm=load_ohm, sleep=lambda seconds: None), link


def test_they_take_the_role() -> None:
    first: PulseSource = source()[0]
    second: PulseSource = Keysight33500B(TranscriptLink(), LIMITS, load_ohm=math.inf)
    also: Instrument = first
    assert also is first
    assert second.set_pulse is not None


def test_the_first_exchange_switches_off_and_programs_the_instruments_own_limits() -> None:
    with TranscriptLink(HELLO) as link:
        assert Keysight81160A(link, LIMITS, load_ohm=50.0).identify().model == "81160A"


def test_a_pulse_is_programmed_without_conflicts_and_its_actual_values_are_reported() -> None:
    with TranscriptLink([*HELLO, *SET_PULSE]) as link:
        instrument = Keysight81160A(link, LIMITS, load_ohm=50.0)
        pulse = instrument.set_pulse(SET)
    assert (pulse.top_v.asked, pulse.top_v.actual, pulse.top_v.unit) == (2.0, 2.0005, "V")
    assert pulse.top_v.error == pytest.approx(5e-4)
    assert abs(pulse.top_v.error) <= pulse.top_v.tolerance
    assert pulse.width_s.actual == 1.0001e-5
    assert pulse.base_v == SetValue(0.0, 0.0, pulse.base_v.tolerance, "V")
    assert pulse.count == 1
    assert pulse.duration_s == pytest.approx(2.2e-5)
    assert str(pulse.top_v) == "2.0005 V (asked 2, within 0.001)"
    assert instrument.programmed is pulse


def test_a_negative_pulse_rests_at_its_high_level() -> None:
    exchanges: list[Exchange] = [
        *HELLO,
        ("OUTP1?", "0"),
        (f"VOLT1 0.0625;:VOLT1:OFFS -1;:{NARROW}", None),
        NO_ERROR,
        (f"OUTP1:POL INV;:VOLT1:HIGH 0;:VOLT1:LOW -2;:{TIMES.format('4.2E-5', '2E-5', 1)}", None),
        NO_ERROR,
        (f"OUTP1:POL?;:{LEVELS};:{ASKED_TIMES}", "INV;0.0;-2.0;4.2E-5;2E-5;5E-7;5E-7;0.0;1"),
    ]
    with TranscriptLink(exchanges) as link:
        pulse = Keysight81160A(link, LIMITS, load_ohm=50.0).set_pulse(RESET)
    assert (pulse.base_v.actual, pulse.top_v.actual) == (0.0, -2.0)


def test_with_the_output_on_only_the_other_level_moves() -> None:
    exchanges: list[Exchange] = [
        *HELLO,
        *SET_PULSE,
        *ON,
        (NARROW, None),
        NO_ERROR,
        (f"VOLT1:HIGH 1.5;:VOLT1:LOW 0;:{TIMES.format('0.001', '1E-5', 100)}", None),
        NO_ERROR,
        (f"{LEVELS};:{ASKED_TIMES}", "1.5;0.0;1E-3;1E-5;5E-7;5E-7;0.0;100"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = Keysight81160A(link, LIMITS, load_ohm=50.0)
        instrument.set_pulse(SET)
        instrument.set_output(True)
        pulse = instrument.set_pulse(replace(SET, top_v=1.5), count=100, period_s=1e-3)
    assert (pulse.count, pulse.period_s.actual) == (100, 1e-3)
    assert pulse.duration_s == pytest.approx(0.1)


@pytest.mark.parametrize("shape", [RESET, replace(SET, base_v=0.5)])
def test_with_the_output_on_the_resting_level_stays(shape: PulseShape) -> None:
    with TranscriptLink([*HELLO, *SET_PULSE, *ON, ("OUTP1?", "1")]) as link:
        instrument = Keysight81160A(link, LIMITS, load_ohm=50.0)
        pulse = instrument.set_pulse(SET)
        instrument.set_output(True)
        with pytest.raises(BenchFailure, match="another base level or direction would stand at the pads"):
            instrument.set_pulse(shape)
        assert instrument.programmed is pulse


def test_nothing_is_switched_on_or_triggered_before_a_pulse_is_programmed() -> None:
    with TranscriptLink(HELLO) as link:
        instrument = Keysight81160A(link, LIMITS, load_ohm=50.0)
        with pytest.raises(BenchFailure, match="no pulse is programmed"):
            instrument.set_output(True)
        with pytest.raises(BenchFailure, match="no pulse is programmed"):
            instrument.trigger()


def test_a_trigger_is_sent_once_and_waited_for() -> None:
    slept: list[float] = []
    exchanges = [*HELLO, *SET_PULSE, *ON, ("OUTP1?", "1"), ("*TRG", None), ("*OPC?", "1"), NO_ERROR]
    with TranscriptLink(exchanges) as link:
        instrument = Keysight81160A(link, LIMITS, load_ohm=50.0, sleep=slept.append)
        instrument.set_pulse(SET)
        instrument.set_output(True)
        instrument.trigger()
        assert link.timeouts[-2] is not None
        assert link.timeouts[-2] >= 2.0
    assert slept == [pytest.approx(2.2e-5)]


def test_a_trigger_with_the_output_off_is_refused_unsent() -> None:
    with TranscriptLink([*HELLO, *SET_PULSE, ("OUTP1?", "0")]) as link:
        instrument = Keysight81160A(link, LIMITS, load_ohm=50.0)
        instrument.set_pulse(SET)
        with pytest.raises(BenchFailure, match="the output is off") as refused:
            instrument.trigger([(1, 2, 0)])
        assert not isinstance(refused.value, InDoubt)


@pytest.mark.parametrize(
    "after",
    [
        [("*OPC?", "garbage")],
        [("*OPC?", "1"), ("SYST:ERR?", "garbage")],
        [("*OPC?", "1"), ("SYST:ERR?", '-211,"Trigger ignored"'), NO_ERROR],
    ],
)
def test_whatever_goes_wrong_after_the_trigger_leaves_the_named_devices_in_doubt(after: list[Exchange]) -> None:
    instrument, link = source([*HELLO, *SET_PULSE, *ON, ("OUTP1?", "1"), ("*TRG", None), *after])
    instrument.set_pulse(SET)
    instrument.set_output(True)
    with pytest.raises(InDoubt, match=r"cells in doubt: \(1, 2\)") as doubt:
        instrument.trigger([(1, 2, 0)])
    assert doubt.value.devices == [(1, 2, 0)]
    assert link.exchanges == []


def test_a_pulse_that_was_not_taken_is_raised_and_none_is_programmed() -> None:
    exchanges = [*SET_PULSE[:-1], (SET_PULSE[-1][0], "NORM;2.0;0.0;2.2E-5;1.1E-5;5E-7;5E-7;0.0;1")]
    instrument, _ = source([*HELLO, *exchanges])
    with pytest.raises(ReadBackError, match="channel 1: width: set to 1E-5 but reads back 1.1E-5"):
        instrument.set_pulse(SET)
    assert instrument.programmed is None


def test_the_instruments_own_refusal_is_raised() -> None:
    exchanges = [*HELLO, *SET_PULSE[:4], ("SYST:ERR?", '-221,"Settings conflict"'), NO_ERROR]
    with TranscriptLink(exchanges) as link, pytest.raises(InstrumentError, match="-221"):
        Keysight81160A(link, LIMITS, load_ohm=50.0).set_pulse(SET)


def test_after_a_lost_link_a_pulse_has_to_be_programmed_again() -> None:
    with TranscriptLink([*HELLO, *SET_PULSE, *HELLO]) as link:
        instrument = Keysight81160A(link, LIMITS, load_ohm=50.0)
        instrument.set_pulse(SET)
        instrument.resynchronise()
        with pytest.raises(BenchFailure, match="no pulse is programmed"):
            instrument.set_output(True)


# Refused before a byte is sent

BAD: Any = st.one_of(
    st.none(), st.booleans(), st.text(max_size=3), st.sampled_from([math.nan, math.inf, -math.inf, 1e7, -1e7, b"1"])
)


@given(st.sampled_from(["base_v", "top_v", "width_s", "leading_s", "trailing_s", "delay_s"]), BAD)
def test_no_byte_is_sent_for_a_bad_shape(name: str, value: Any) -> None:
    instrument, link = source()
    with pytest.raises(LimitError):
        instrument.set_pulse(replace(SET, **{name: value}))
    assert link.sent == 0


@given(BAD.filter(lambda value: value is not None))
def test_no_byte_is_sent_for_a_bad_count_or_period(value: Any) -> None:
    instrument, link = source()
    with pytest.raises(LimitError):
        instrument.set_pulse(SET, count=value, period_s=1.0)
    with pytest.raises(LimitError):
        instrument.set_pulse(SET, count=2, period_s=value)
    assert link.sent == 0


@pytest.mark.parametrize(
    ("changed", "count", "period_s", "why"),
    [
        ({"top_v": 3.1}, 1, None, "limits.direct_v of bench 'test' allows -2 to 3 V"),
        ({"top_v": -2.1}, 1, None, "limits.direct_v"),
        ({"base_v": 3.5, "top_v": 3.0}, 1, None, "limits.direct_v"),
        ({"top_v": 0.0}, 1, None, "Keysight 81160A allows 0.05 to 5 V"),
        ({"width_s": 2e-3}, 1, None, "limits.pulse_width_s"),
        ({"width_s": 1e-9}, 1, None, "Keysight 81160A allows 1.5e-09"),
        ({"leading_s": 5e-10}, 1, None, "Keysight 81160A allows 1e-09"),
        ({"leading_s": 20e-6}, 1, None, "do not fit into a width"),
        ({"delay_s": -1e-9}, 1, None, "delay"),
        ({}, 1001, 1.0, "limits.pulses"),
        ({}, 2, None, "a train of 2 pulses needs a period"),
        ({}, 2, 1.05e-5, "a period of 1.05e-05 s is too short"),
        ({}, 1.5, None, "not a whole number"),
        ({}, 0, None, "limits.pulses"),
    ],
)
def test_no_byte_is_sent_for_what_does_not_fit(
    changed: dict[str, float], count: Any, period_s: float | None, why: str
) -> None:
    instrument, link = source()
    with pytest.raises(LimitError, match=why):
        instrument.set_pulse(replace(SET, **changed), count, period_s)
    assert link.sent == 0


@pytest.mark.parametrize("shape", [None, 1.0, "pulse", {"top_v": 1.0}])
def test_no_byte_is_sent_for_what_is_no_shape(shape: Any) -> None:
    instrument, link = source()
    with pytest.raises(LimitError, match="is no pulse shape"):
        instrument.set_pulse(shape)
    assert link.sent == 0


@pytest.mark.parametrize("on", [1, 0, "ON", None, 1.0])
def test_no_byte_is_sent_for_an_output_that_is_neither_on_nor_off(on: Any) -> None:
    instrument, link = source()
    with pytest.raises(LimitError):
        instrument.set_output(on)
    assert link.sent == 0


@pytest.mark.parametrize("load_ohm", [0.0, 0.2, 1.1e6, math.inf, math.nan, -50.0, True, None, "50"])
def test_a_load_that_it_cannot_be_told_to_expect(load_ohm: Any) -> None:
    with pytest.raises(LimitError, match="load"):
        Keysight81160A(TranscriptLink(), LIMITS, load_ohm=load_ohm)


@pytest.mark.parametrize("channel", [0, 3, True, 1.0, "1"])
def test_a_channel_that_it_does_not_have(channel: Any) -> None:
    with pytest.raises(LimitError, match="allowed are 1 and 2"):
        Keysight81160A(TranscriptLink(), LIMITS, load_ohm=50.0, channel=channel)


def test_an_envelope_without_room_for_a_pulse() -> None:
    narrow = PulseLimits(Range(0.0, 0.01, "V", "test"), LIMITS.width, LIMITS.count)
    with pytest.raises(LimitError, match="no room for its smallest pulse"):
        Keysight81160A(TranscriptLink(), narrow, load_ohm=50.0)


def test_the_window_grows_with_the_load() -> None:
    wide = PulseLimits(Range(-20.0, 20.0, "V", "wide"), LIMITS.width, LIMITS.count)
    for load_ohm, reach in ((50.0, 5.0), (1e6, 10.0)):
        instrument = Keysight81160A(TranscriptLink(), wide, load_ohm=load_ohm)
        with pytest.raises(LimitError, match="high: .* Keysight 81160A allows"):
            instrument.set_pulse(replace(SET, base_v=reach - 1.0, top_v=reach + 0.1))
        with pytest.raises(LimitError, match="low: .* Keysight 81160A allows"):
            instrument.set_pulse(replace(SET, base_v=-reach + 1.0, top_v=-reach - 0.1))


def test_safe_off_needs_no_question_first() -> None:
    with TranscriptLink([("OUTP1 0", None), *HELLO, ("OUTP1?", "0"), NO_ERROR]) as link:
        Keysight81160A(link, LIMITS, load_ohm=50.0).safe_off()
    with (
        TranscriptLink([("OUTP1 0", None), *HELLO, ("OUTP1?", "1"), NO_ERROR]) as link,
        pytest.raises(ReadBackError, match="channel 1 is on"),
    ):
        Keysight81160A(link, LIMITS, load_ohm=50.0).safe_off()


@pytest.mark.parametrize("answer", ["Agilent Technologies,81150A,1,1", "Other,81160A,1,1", "RIGOL,DG4000,1,1"])
def test_another_model_or_maker_is_refused(answer: str) -> None:
    with (
        TranscriptLink([("*IDN?", answer)]) as link,
        pytest.raises(WrongInstrument, match="expected a Keysight 81160A"),
    ):
        Keysight81160A(link, LIMITS, load_ohm=50.0).set_pulse(SET)


# The other family of commands


def test_a_33522b_is_told_the_same_in_its_own_words() -> None:
    narrow = "SOUR2:FUNC:PULS:TRAN:LEAD 8.4E-9;:SOUR2:FUNC:PULS:TRAN:TRA 8.4E-9;:SOUR2:FUNC:PULS:WIDT 1.6E-8"
    exchanges: list[Exchange] = [
        ("*IDN?", "Keysight Technologies,33522B,MY57800256,5.00-1.19-2.00-58-00"),
        ("*CLS", None),
        ("OUTP2 0", None),
        NO_ERROR,
        ("OUTP2?", "0"),
        NO_ERROR,
        ("SOUR2:VOLT:LIM:STAT 0;:OUTP2:LOAD INF;:SOUR2:FUNC PULS", None),
        NO_ERROR,
        ("SOUR2:VOLT:LIM:STAT?;:OUTP2:LOAD?;:SOUR2:FUNC?", "0;9.9000000000000E+37;PULS"),
        ("SOUR2:VOLT 0.0025;:SOUR2:VOLT:OFFS 0.5", None),
        NO_ERROR,
        (
            "SOUR2:VOLT:LIM:HIGH 3;:SOUR2:VOLT:LIM:LOW -2;:SOUR2:VOLT:LIM:STAT 1;"
            ":TRIG2:SOUR BUS;:SOUR2:BURS:MODE TRIG;:SOUR2:BURS:STAT 1",
            None,
        ),
        NO_ERROR,
        (
            "SOUR2:VOLT:LIM:HIGH?;:SOUR2:VOLT:LIM:LOW?;:SOUR2:VOLT:LIM:STAT?;"
            ":TRIG2:SOUR?;:SOUR2:BURS:MODE?;:SOUR2:BURS:STAT?",
            "+3.0E+00;-2.0E+00;1;BUS;TRIG;1",
        ),
        ("OUTP2?", "0"),
        (f"SOUR2:VOLT 0.0025;:SOUR2:VOLT:OFFS 1;:{narrow}", None),
        NO_ERROR,
        (
            "OUTP2:POL NORM;:SOUR2:VOLT:HIGH 2;:SOUR2:VOLT:LOW 0;:SOUR2:FUNC:PULS:PER 0.001;"
            ":SOUR2:FUNC:PULS:WIDT 1E-5;:SOUR2:FUNC:PULS:TRAN:LEAD 5E-7;:SOUR2:FUNC:PULS:TRAN:TRA 5E-7;"
            ":TRIG2:DEL 1E-6;:SOUR2:BURS:NCYC 10",
            None,
        ),
        NO_ERROR,
        (
            "OUTP2:POL?;:SOUR2:VOLT:HIGH?;:SOUR2:VOLT:LOW?;:SOUR2:FUNC:PULS:PER?;:SOUR2:FUNC:PULS:WIDT?;"
            ":SOUR2:FUNC:PULS:TRAN:LEAD?;:SOUR2:FUNC:PULS:TRAN:TRA?;:TRIG2:DEL?;:SOUR2:BURS:NCYC?",
            "NORM;+2.0E+00;+0.0E+00;+1.0E-03;+1.0E-05;+5.0E-07;+5.0E-07;+1.0E-06;+1.0E+01",
        ),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = Keysight33500B(link, LIMITS, load_ohm=math.inf, channel=2)
        pulse = instrument.set_pulse(replace(SET, delay_s=1e-6), count=10, period_s=1e-3)
    assert (pulse.count, pulse.delay_s.actual) == (10, 1e-6)
