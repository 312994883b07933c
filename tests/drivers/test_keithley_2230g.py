"""The supply driver against transcripts: what it sends, what it checks, what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import InstrumentError, LimitError, ReadBackError, ReplyError, WrongInstrument
from drivers.keithley_2230g import ChannelLimits, Keithley2230G
from drivers.limits import Range
from drivers.roles import ChannelReading, Instrument, PowerSupply
from tests.drivers.transcript import Exchange, TranscriptLink

NO_ERROR = ("SYST:ERR?", '0,"No error"')
IDN = ("*IDN?", "Keithley instruments, 2230G-30-1, 9203269, 1.16-1.04")
HELLO: list[Exchange] = [IDN, ("*CLS", None), ("SYST:REM", None), NO_ERROR]
OFF: list[Exchange] = [
    ("INST:SEL CH2;:SOUR:VOLT 0", None),
    ("INST:SEL CH2;:SOUR:CHAN:OUTP 0", None),
    ("INST:SEL CH1;:SOUR:VOLT 0", None),
    ("INST:SEL CH1;:SOUR:CHAN:OUTP 0", None),
    ("INST:SEL CH3;:SOUR:VOLT 0", None),
    ("INST:SEL CH3;:SOUR:CHAN:OUTP 0", None),
]
STATES = (
    "INST:SEL CH1;:SOUR:VOLT?;:SOUR:CHAN:OUTP?;:INST:SEL CH2;:SOUR:VOLT?;:SOUR:CHAN:OUTP?;"
    ":INST:SEL CH3;:SOUR:VOLT?;:SOUR:CHAN:OUTP?"
)
MEASURE = (
    "MEAS:VOLT? ALL;:MEAS:CURR? ALL;:INST:SEL CH1;:SOUR:CHAN:OUTP?;:INST:SEL CH2;:SOUR:CHAN:OUTP?;"
    ":INST:SEL CH3;:SOUR:CHAN:OUTP?"
)
LIMITS = {
    1: ChannelLimits(Range(0.0, 5.5, "V", "limits.vddr_v of bench 'test'"), Range(0.0, 0.1, "A", "bench 'test'")),
    2: ChannelLimits(Range(0.0, 5.0, "V", "limits.vddc_v of bench 'test'"), Range(0.0, 0.1, "A", "bench 'test'")),
    3: ChannelLimits(Range(0.0, 9.9, "V", "limits.vdd_v of bench 'test'"), Range(0.0, 9.9, "A", "bench 'test'")),
}


def supply(exchanges: Iterable[Exchange] = (), **options: object) -> tuple[Keithley2230G, TranscriptLink]:
    link = TranscriptLink(exchanges)
    return Keithley2230G(link, LIMITS, **options), link  # type: ignore[arg-type]


def test_it_takes_the_role() -> None:
    instrument: PowerSupply = supply()[0]
    also: Instrument = instrument
    assert also is instrument


def test_setting_a_voltage_selects_and_sets_in_one_message() -> None:
    with TranscriptLink(
        [*HELLO, ("INST:SEL CH2;:SOUR:VOLT 4.5", None), NO_ERROR, ("INST:SEL CH2;:SOUR:VOLT?", "4.500")]
    ) as link:
        Keithley2230G(link, LIMITS).set_voltage(2, 4.5)


@pytest.mark.parametrize("zero", [0.0, -0.0, 0])
def test_zero_volts_in_is_exactly_zero_out(zero: float) -> None:
    with TranscriptLink(
        [*HELLO, ("INST:SEL CH1;:SOUR:VOLT 0", None), NO_ERROR, ("INST:SEL CH1;:SOUR:VOLT?", "0.000")]
    ) as link:
        Keithley2230G(link, LIMITS).set_voltage(1, zero)


def test_three_rails_go_out_in_one_message_in_the_order_given() -> None:
    exchanges = [
        *HELLO,
        ("INST:SEL CH3;:SOUR:VOLT 1.2;:INST:SEL CH1;:SOUR:VOLT 5;:INST:SEL CH2;:SOUR:VOLT 4.5", None),
        NO_ERROR,
        ("INST:SEL CH3;:SOUR:VOLT?;:INST:SEL CH1;:SOUR:VOLT?;:INST:SEL CH2;:SOUR:VOLT?", "1.200;5.000;4.500"),
    ]
    with TranscriptLink(exchanges) as link:
        Keithley2230G(link, LIMITS).set_voltages({3: 1.2, 1: 5.0, 2: 4.5})


def test_no_rail_moves_when_one_is_refused() -> None:
    instrument, link = supply()
    with pytest.raises(LimitError, match=r"channel 2: voltage: 5.1 V is refused; limits.vddc_v of bench 'test'"):
        instrument.set_voltages({3: 1.2, 1: 5.0, 2: 5.1})
    assert link.sent == 0


def test_setting_no_rail_sends_nothing() -> None:
    instrument, link = supply()
    instrument.set_voltages({})
    assert link.sent == 0


def test_limits_and_outputs() -> None:
    exchanges = [
        *HELLO,
        ("INST:SEL CH1;:SOUR:CURR 0.1", None),
        NO_ERROR,
        ("INST:SEL CH1;:SOUR:CURR?", "0.100"),
        ("INST:SEL CH3;:SOUR:VOLT:LIM 1.5;:INST:SEL CH3;:SOUR:VOLT:LIM:STAT 1", None),
        NO_ERROR,
        ("INST:SEL CH3;:SOUR:VOLT:LIM?;:INST:SEL CH3;:SOUR:VOLT:LIM:STAT?", "1.500;1"),
        ("INST:SEL CH2;:SOUR:CHAN:OUTP 1", None),
        NO_ERROR,
        ("INST:SEL CH2;:SOUR:CHAN:OUTP?", "1"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2230G(link, LIMITS)
        instrument.set_current_limit(1, 0.1)
        instrument.set_voltage_limit(3, 1.5)
        instrument.set_output(2, True)


def test_reading_settings_back() -> None:
    exchanges = [
        *HELLO,
        ("INST:SEL CH1;:SOUR:VOLT?", "1.200"),
        ("INST:SEL CH1;:SOUR:CURR?", "0.100"),
        ("INST:SEL CH1;:SOUR:VOLT:LIM?", "5.500"),
        ("INST:SEL CH1;:SOUR:CHAN:OUTP?", "0"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = Keithley2230G(link, LIMITS)
        assert (instrument.voltage(1), instrument.current_limit(1), instrument.voltage_limit(1)) == (1.2, 0.1, 5.5)
        assert instrument.output(1) is False


def test_all_channels_are_measured_in_one_question() -> None:
    with TranscriptLink([*HELLO, (MEASURE, "5.000, 4.500, 1.200;0.001, 0.002, 0.000;1;1;0")]) as link:
        assert Keithley2230G(link, LIMITS).measure() == (
            ChannelReading(5.0, 0.001, True),
            ChannelReading(4.5, 0.002, True),
            ChannelReading(1.2, 0.0, False),
        )


@pytest.mark.parametrize(
    "reply",
    [
        "5.0,4.5;0.1,0.2,0.3;1;1;0",
        "5.0,4.5,1.2;0.1,0.2,0.3;1;1",
        "5.0,4.5,9.9E37;0.1,0.2,0.3;1;1;0",
        "5.0,4.5,NAN;0.1,0.2,0.3;1;1;0",
        "5.0,4.5,1.2;0.1,0.2,0.3;1;1;2",
        "5.0,4.5,1.2",
        "",
    ],
)
def test_a_measurement_that_is_none_is_an_error(reply: str) -> None:
    instrument, _ = supply([*HELLO, (MEASURE, reply)])
    with pytest.raises(ReplyError):
        instrument.measure()


def test_a_setting_that_was_not_taken() -> None:
    instrument, _ = supply([*HELLO, ("INST:SEL CH1;:SOUR:VOLT 5", None), NO_ERROR, ("INST:SEL CH1;:SOUR:VOLT?", "3.0")])
    with pytest.raises(
        ReadBackError, match=r"2230G-30-1 \(TRANSCRIPT\), channel 1: voltage: set to 5 but reads back 3.0"
    ):
        instrument.set_voltage(1, 5.0)


def test_an_output_that_stays_off() -> None:
    instrument, _ = supply(
        [*HELLO, ("INST:SEL CH1;:SOUR:CHAN:OUTP 1", None), NO_ERROR, ("INST:SEL CH1;:SOUR:CHAN:OUTP?", "0")]
    )
    with pytest.raises(ReadBackError, match="output: set to 1 but reads back 0"):
        instrument.set_output(1, True)


def test_the_instruments_own_refusal_is_raised_before_the_read_back() -> None:
    exchanges = [
        *HELLO,
        ("INST:SEL CH1;:SOUR:VOLT 5", None),
        ("SYST:ERR?", '-222,"Data out of range"'),
        NO_ERROR,
    ]
    with TranscriptLink(exchanges) as link, pytest.raises(InstrumentError, match=r'-222, "Data out of range"'):
        Keithley2230G(link, LIMITS).set_voltage(1, 5.0)


SETTERS: list[Callable[[Keithley2230G, object], None]] = [
    lambda instrument, value: instrument.set_voltage(1, value),  # type: ignore[arg-type]
    lambda instrument, value: instrument.set_voltages({1: value}),  # type: ignore[dict-item]
    lambda instrument, value: instrument.set_current_limit(1, value),  # type: ignore[arg-type]
    lambda instrument, value: instrument.set_voltage_limit(1, value),  # type: ignore[arg-type]
]
BAD = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=4),
    st.sampled_from([math.nan, math.inf, -math.inf, -5e-324, 30.0000001]),
    st.floats(min_value=5.5, exclude_min=True),
    st.floats(max_value=0.0, exclude_max=True),
)


@given(st.sampled_from(SETTERS), BAD)
def test_no_byte_is_sent_for_a_bad_value(setter: Callable[[Keithley2230G, object], None], value: object) -> None:
    instrument, link = supply()
    with pytest.raises(LimitError):
        setter(instrument, value)
    assert link.sent == 0


@given(
    st.one_of(
        st.none(), st.booleans(), st.text(max_size=2), st.floats(), st.integers().filter(lambda n: n not in (1, 2, 3))
    )
)
def test_no_byte_is_sent_for_a_bad_channel(channel: object) -> None:
    instrument, link = supply()
    for act in (
        lambda: instrument.set_voltage(channel, 1.0),  # type: ignore[arg-type]
        lambda: instrument.set_output(channel, False),  # type: ignore[arg-type]
        lambda: instrument.voltage(channel),  # type: ignore[arg-type]
    ):
        with pytest.raises(LimitError, match="the bench file gives limits for 1, 2, 3"):
            act()
    assert link.sent == 0


@pytest.mark.parametrize("on", [1, 0, "ON", None, 1.0])
def test_no_byte_is_sent_for_an_output_that_is_neither_on_nor_off(on: object) -> None:
    instrument, link = supply()
    with pytest.raises(LimitError):
        instrument.set_output(1, on)  # type: ignore[arg-type]
    assert link.sent == 0


def test_the_rating_holds_where_the_envelope_is_wider() -> None:
    instrument, link = supply()
    with pytest.raises(LimitError, match="Keithley 2230G-30-1 allows 0 to 6 V"):
        instrument.set_voltage(3, 6.1)
    with pytest.raises(LimitError, match="Keithley 2230G-30-1 allows 0 to 5 A"):
        instrument.set_current_limit(3, 5.1)
    assert link.sent == 0


def test_limits_for_a_channel_that_does_not_exist() -> None:
    with pytest.raises(LimitError, match="it has the channels 1 to 3"):
        Keithley2230G(TranscriptLink(), {4: LIMITS[1]})


def test_an_order_of_switching_off_must_name_every_channel_once() -> None:
    with pytest.raises(LimitError, match="each of 1 to 3 is needed once"):
        Keithley2230G(TranscriptLink(), LIMITS, off_order=(1, 2))


def test_safe_off_takes_every_channel_down_in_order_without_asking_first() -> None:
    with TranscriptLink([*OFF, *HELLO, (STATES, "0.000;0;0.000;0;0.000;0"), NO_ERROR]) as link:
        Keithley2230G(link, LIMITS).safe_off()


def test_safe_off_covers_channels_that_have_no_limits() -> None:
    with TranscriptLink([*OFF, *HELLO, (STATES, "0.000;0;0.000;0;0.000;0"), NO_ERROR]) as link:
        Keithley2230G(link, {}).safe_off()


@pytest.mark.parametrize(
    ("reply", "what"),
    [("0;0;0;1;0;0", "channel 2 is on and set to 0 V"), ("0;0;0;0;1.2;0", "channel 3 is off and set to 1.2 V")],
)
def test_safe_off_is_not_confirmed_by_a_channel_that_is_on_or_set(reply: str, what: str) -> None:
    with TranscriptLink([*OFF, *HELLO, (STATES, reply), NO_ERROR]) as link, pytest.raises(ReadBackError, match=what):
        Keithley2230G(link, LIMITS).safe_off()


@pytest.mark.parametrize(
    "answer",
    ["Keithley instruments, 2230G-30-3, 1, 1.0", "KEITHLEY INSTRUMENTS,MODEL 2450,1,1", "Other, 2230G-30-1, 1, 1"],
)
def test_another_model_is_refused_before_a_voltage(answer: str) -> None:
    with (
        TranscriptLink([("*IDN?", answer)]) as link,
        pytest.raises(WrongInstrument, match="expected a Keithley 2230G-30-1"),
    ):
        Keithley2230G(link, LIMITS).set_voltage(1, 1.0)


def test_another_serial_number_is_refused() -> None:
    with TranscriptLink([IDN]) as link, pytest.raises(WrongInstrument, match="9203269 answers, expected serial 42"):
        Keithley2230G(link, LIMITS, serial="42").identify()


def test_identify_and_close() -> None:
    with TranscriptLink(HELLO) as link:
        instrument = Keithley2230G(link, LIMITS, serial="9203269")
        assert instrument.identify().firmware == "1.16-1.04"
        instrument.close()
        assert link.closed
