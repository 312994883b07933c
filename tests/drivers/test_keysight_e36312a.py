"""The E36312A's driver against transcripts: what it sends, what it checks, what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import InstrumentError, LimitError, ReadBackError, ReplyError, WrongInstrument
from drivers.keithley_2230g import ChannelLimits
from drivers.keysight_e36312a import KeysightE36312A
from drivers.limits import Range
from drivers.roles import ChannelReading, Instrument, PowerSupply
from models.exceptions import BenchFailure
from tests.drivers.transcript import Exchange, TranscriptLink

NO_ERROR = ("SYST:ERR?", '+0,"No error"')
IDN = ("*IDN?", "Keysight Technologies,E36312A,MY59002391,2.1.0-1.0.4-1.12")
HELLO: list[Exchange] = [IDN, ("*CLS", None), ("OUTP:PAIR?", "OFF")]
OFF: list[Exchange] = [
    ("VOLT 0,(@2)", None),
    ("OUTP 0,(@2)", None),
    ("VOLT 0,(@1)", None),
    ("OUTP 0,(@1)", None),
    ("VOLT 0,(@3)", None),
    ("OUTP 0,(@3)", None),
]
STATES = "VOLT? (@1,2,3);:OUTP? (@1,2,3)"
MEASURE = "MEAS:VOLT? (@1,2,3);:MEAS:CURR? (@1,2,3);:OUTP? (@1,2,3)"
ZEROS = "+0.00000000E+00,+0.00000000E+00,+0.00000000E+00"
LIMITS = {
    1: ChannelLimits(Range(0.0, 5.5, "V", "limits.vddr_v of bench 'test'"), Range(0.0, 0.1, "A", "bench 'test'")),
    2: ChannelLimits(Range(0.0, 5.0, "V", "limits.vddc_v of bench 'test'"), Range(0.0, 0.1, "A", "bench 'test'")),
    3: ChannelLimits(Range(0.0, 99.0, "V", "wide"), Range(0.0, 99.0, "A", "wide")),
}


def supply(exchanges: Iterable[Exchange] = ()) -> tuple[KeysightE36312A, TranscriptLink]:
    link = TranscriptLink(exchanges)
    return KeysightE36312A(link, LIMITS), link


def test_it_takes_the_role() -> None:
    instrument: PowerSupply = supply()[0]
    also: Instrument = instrument
    assert also is instrument


def test_every_command_and_question_names_its_channel() -> None:
    exchanges = [
        *HELLO,
        ("VOLT 4.5,(@2)", None),
        NO_ERROR,
        ("VOLT? (@2)", "+4.50000000E+00"),
        ("CURR 0.05,(@1)", None),
        NO_ERROR,
        ("CURR? (@1)", "+5.00000000E-02"),
        ("VOLT:PROT 5,(@2);:VOLT:PROT:STAT 1,(@2)", None),
        NO_ERROR,
        ("VOLT:PROT? (@2);:VOLT:PROT:STAT? (@2)", "+5.00000000E+00;1"),
        ("OUTP 1,(@3)", None),
        NO_ERROR,
        ("OUTP? (@3)", "1"),
        ("VOLT? (@2)", "+4.50000000E+00"),
        ("CURR? (@1)", "+5.00000000E-02"),
        ("VOLT:PROT? (@2)", "+5.00000000E+00"),
        ("OUTP? (@3)", "1"),
        ("VOLT:PROT:TRIP? (@3)", "0"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = KeysightE36312A(link, LIMITS)
        instrument.set_voltage(2, 4.5)
        instrument.set_current_limit(1, 0.05)
        instrument.set_voltage_limit(2, 5.0)
        instrument.set_output(3, True)
        assert (instrument.voltage(2), instrument.current_limit(1), instrument.voltage_limit(2)) == (4.5, 0.05, 5.0)
        assert instrument.output(3)
        assert not instrument.tripped(3)


@pytest.mark.parametrize("zero", [0.0, -0.0, 0])
def test_zero_volts_in_is_exactly_zero_out(zero: float) -> None:
    with TranscriptLink([*HELLO, ("VOLT 0,(@1)", None), NO_ERROR, ("VOLT? (@1)", "+0.00000000E+00")]) as link:
        KeysightE36312A(link, LIMITS).set_voltage(1, zero)


def test_three_rails_go_out_in_one_message_in_the_order_given() -> None:
    exchanges = [
        *HELLO,
        ("VOLT 1.2,(@3);:VOLT 5,(@1);:VOLT 4.5,(@2)", None),
        NO_ERROR,
        ("VOLT? (@3);:VOLT? (@1);:VOLT? (@2)", "+1.2E+00;+5.0E+00;+4.5E+00"),
    ]
    with TranscriptLink(exchanges) as link:
        KeysightE36312A(link, LIMITS).set_voltages({3: 1.2, 1: 5.0, 2: 4.5})


def test_no_rail_moves_when_one_is_refused() -> None:
    instrument, link = supply()
    with pytest.raises(LimitError, match=r"channel 2: voltage: 5.1 V is refused; limits.vddc_v of bench 'test'"):
        instrument.set_voltages({3: 1.2, 1: 5.0, 2: 5.1})
    instrument.set_voltages({})
    assert link.sent == 0


def test_all_channels_are_measured_in_one_question() -> None:
    reply = "+5.0E+00,+4.5E+00,+1.2E+00;+1.0E-03,+2.0E-03,+0.0E+00;1,1,0"
    with TranscriptLink([*HELLO, (MEASURE, reply)]) as link:
        assert KeysightE36312A(link, LIMITS).measure() == (
            ChannelReading(5.0, 0.001, True),
            ChannelReading(4.5, 0.002, True),
            ChannelReading(1.2, 0.0, False),
        )


@pytest.mark.parametrize(
    "reply",
    [
        "5.0,4.5;0.1,0.2,0.3;1,1,0",
        "5.0,4.5,1.2;0.1,0.2,0.3;1,1",
        "5.0,4.5,1.2;0.1,0.2,0.3;1,1,0,1",
        "5.0,4.5,9.9E37;0.1,0.2,0.3;1,1,0",
        "5.0,4.5,1.2;0.1,0.2,0.3;1,1,2",
        "5.0,4.5,1.2",
        "",
    ],
)
def test_a_measurement_that_is_none_is_an_error(reply: str) -> None:
    instrument, _ = supply([*HELLO, (MEASURE, reply)])
    with pytest.raises(ReplyError):
        instrument.measure()


def test_a_setting_that_was_not_taken() -> None:
    instrument, _ = supply([*HELLO, ("VOLT 5,(@1)", None), NO_ERROR, ("VOLT? (@1)", "+3.0E+00")])
    with pytest.raises(ReadBackError, match=r"E36312A \(TRANSCRIPT\), channel 1: voltage: set to 5 but reads back"):
        instrument.set_voltage(1, 5.0)


def test_the_instruments_own_refusal_is_raised_before_the_read_back() -> None:
    exchanges = [*HELLO, ("OUTP 1,(@1)", None), ("SYST:ERR?", '-221,"Settings conflict"'), NO_ERROR]
    with TranscriptLink(exchanges) as link, pytest.raises(InstrumentError, match=r'-221, "Settings conflict"'):
        KeysightE36312A(link, LIMITS).set_output(1, True)


def test_paired_outputs_are_refused_before_a_voltage() -> None:
    with (
        TranscriptLink([IDN, ("*CLS", None), ("OUTP:PAIR?", "SER")]) as link,
        pytest.raises(BenchFailure, match=r"outputs 2 and 3 are paired \(SER\)"),
    ):
        KeysightE36312A(link, LIMITS).set_voltage(2, 1.0)


def test_a_trip_is_cleared_at_zero_volt_and_off() -> None:
    exchanges = [
        *HELLO,
        ("VOLT 0,(@2);:OUTP 0,(@2);:VOLT:PROT:CLE (@2)", None),
        NO_ERROR,
        ("OUTP 0,(@2)", None),
        NO_ERROR,
        ("OUTP? (@2)", "0"),
        ("VOLT:PROT:TRIP? (@2)", "0"),
    ]
    with TranscriptLink(exchanges) as link:
        KeysightE36312A(link, LIMITS).clear_trip(2)


def test_a_trip_that_stays_is_raised() -> None:
    exchanges = [
        *HELLO,
        ("VOLT 0,(@2);:OUTP 0,(@2);:VOLT:PROT:CLE (@2)", None),
        NO_ERROR,
        ("OUTP 0,(@2)", None),
        NO_ERROR,
        ("OUTP? (@2)", "0"),
        ("VOLT:PROT:TRIP? (@2)", "1"),
    ]
    instrument, _ = supply(exchanges)
    with pytest.raises(BenchFailure, match="channel 2: still tripped"):
        instrument.clear_trip(2)


SETTERS: list[Callable[[KeysightE36312A, object], None]] = [
    lambda instrument, value: instrument.set_voltage(1, value),  # type: ignore[arg-type]
    lambda instrument, value: instrument.set_voltages({1: value}),  # type: ignore[dict-item]
    lambda instrument, value: instrument.set_current_limit(1, value),  # type: ignore[arg-type]
    lambda instrument, value: instrument.set_voltage_limit(1, value),  # type: ignore[arg-type]
]
BAD = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=4),
    st.sampled_from([math.nan, math.inf, -math.inf, -5e-324]),
    st.floats(min_value=5.5, exclude_min=True),
    st.floats(max_value=0.0, exclude_max=True),
)


@given(st.sampled_from(SETTERS), BAD)
def test_no_byte_is_sent_for_a_bad_value(setter: Callable[[KeysightE36312A, object], None], value: object) -> None:
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
        lambda: instrument.clear_trip(channel),  # type: ignore[arg-type]
        lambda: instrument.tripped(channel),  # type: ignore[arg-type]
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
    with pytest.raises(LimitError, match="Keysight E36312A allows 0 to 25 V"):
        instrument.set_voltage(3, 25.1)
    with pytest.raises(LimitError, match="Keysight E36312A allows 0 to 1 A"):
        instrument.set_current_limit(3, 1.1)
    with pytest.raises(LimitError, match="Keysight E36312A allows 0 to 27.5 V"):
        instrument.set_voltage_limit(3, 28.0)
    assert link.sent == 0


def test_limits_and_orders_for_channels_that_do_not_exist() -> None:
    with pytest.raises(LimitError, match="it has the channels 1 to 3"):
        KeysightE36312A(TranscriptLink(), {4: LIMITS[1]})
    with pytest.raises(LimitError, match="each of 1 to 3 is needed once"):
        KeysightE36312A(TranscriptLink(), LIMITS, off_order=(1, 2))


@pytest.mark.parametrize("limits", [LIMITS, {}])
def test_safe_off_takes_every_channel_down_in_order_without_asking_first(limits: dict[int, ChannelLimits]) -> None:
    with TranscriptLink([*OFF, *HELLO, (STATES, f"{ZEROS};0,0,0"), NO_ERROR]) as link:
        KeysightE36312A(link, limits).safe_off()


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        (f"{ZEROS};0,1,0", "channel 2 is on and set to 0 V"),
        ("+0.0E+00,+0.0E+00,+1.2E+00;0,0,0", "channel 3 is off and set to 1.2 V"),
    ],
)
def test_safe_off_is_not_confirmed_by_a_channel_that_is_on_or_set(reply: str, what: str) -> None:
    with TranscriptLink([*OFF, *HELLO, (STATES, reply), NO_ERROR]) as link, pytest.raises(ReadBackError, match=what):
        KeysightE36312A(link, LIMITS).safe_off()


@pytest.mark.parametrize(
    "answer", ["Keysight Technologies,E36313A,1,1", "Keysight Technologies,EDU36311A,1,1", "Other,E36312A,1,1"]
)
def test_another_model_is_refused_before_a_voltage(answer: str) -> None:
    with (
        TranscriptLink([("*IDN?", answer)]) as link,
        pytest.raises(WrongInstrument, match="expected a Keysight E36312A"),
    ):
        KeysightE36312A(link, LIMITS).set_voltage(1, 1.0)


def test_identify_and_close() -> None:
    with TranscriptLink(HELLO) as link:
        instrument = KeysightE36312A(link, LIMITS, serial="MY59002391")
        assert instrument.identify().firmware == "2.1.0-1.0.4-1.12"
        instrument.close()
        assert link.closed
    with TranscriptLink([IDN]) as link, pytest.raises(WrongInstrument, match="expected serial 42"):
        KeysightE36312A(link, LIMITS, serial="42").identify()
