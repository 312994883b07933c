"""The strict SCPI base: numbers, replies, settings, transactions, identification, safe-off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import (
    InstrumentError,
    LimitError,
    LinkError,
    LinkTimeout,
    ReadBackError,
    ReplyError,
    WrongInstrument,
)
from drivers.limits import Range
from drivers.roles import Identity
from drivers.scpi import MOST_ERRORS, ScpiInstrument
from drivers.scpi_settings import scpi_bool, scpi_choice, scpi_float, scpi_int
from drivers.scpi_text import (
    ReadingOverflow,
    format_number,
    parse_bool,
    parse_error,
    parse_float,
    parse_floats,
    parse_int,
    parse_word,
    split_reply,
)
from tests.drivers.transcript import TranscriptLink

IDN = ("*IDN?", "MAKER INC.,MODEL 1,42,1.0")
HELLO = [IDN, ("*CLS", None)]
NO_ERROR = ("SYST:ERR?", '0,"No error"')


class Shape(Enum):
    SINE = "SIN"
    SQUARE = "SQU"


def allowed(box: Box) -> Sequence[Range]:
    return (Range(-10.0, 10.0, "V", "Maker 1"), Range(0.0, 3.0, "V", "limits.level_v in bench.toml"))


def points(box: Box) -> Sequence[Range]:
    return (Range(1, 100, "points", "Maker 1"),)


class Box(ScpiInstrument):
    """An instrument with one setting of each kind."""

    name = "Maker 1"
    maker = "Maker"
    models = frozenset({"1"})

    level = scpi_float("SOUR:LEV", "Control the level, in V.", resolution=1e-3, ranges=allowed)
    count = scpi_int("SENS:COUN", "Control the count.", ranges=points)
    on = scpi_bool("OUTP", "Control the output.")
    shape = scpi_choice("FUNC", "Control the shape.", Shape)
    quoted = scpi_choice("SENS:FUNC", "Control the function.", Shape, quoted=True)

    def __init__(self, link: TranscriptLink, serial: str | None = None) -> None:
        super().__init__(link, serial, ("SOUR:LEV 0", "OUTP 0"))

    def _not_off(self) -> list[str]:
        return ["the output is on"] if self.ask("OUTP?", parse_bool) else []


# Text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-4.5, "-4.5"),
        (1e-7, "1E-7"),
        (6.4e-5, "6.4E-5"),
        (1e22, "1E22"),
        (5e-324, "5E-324"),
    ],
)
def test_numbers_are_written_short(value: float, text: str) -> None:
    assert format_number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False, max_value=9.8e37, min_value=-9.8e37))
def test_a_written_number_reads_back_equal(value: float) -> None:
    text = format_number(value)
    assert parse_float(text) == value
    assert float(text) == value
    assert not text.startswith("-0") or value < 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_not_written(value: float) -> None:
    with pytest.raises(LimitError):
        format_number(value)


@pytest.mark.parametrize(
    ("reply", "value"),
    [("1.2", 1.2), ("+4.500000E+00", 4.5), ("-1e-9", -1e-9), (".5", 0.5), ("3.", 3.0), (" 7 ", 7.0), ("-0.000", 0.0)],
)
def test_a_float_is_read(reply: str, value: float) -> None:
    assert parse_float(reply) == value
    assert math.copysign(1.0, parse_float("-0.0")) == 1.0


@pytest.mark.parametrize(
    "reply", ["9.9E37", "9.91E37", "-9.9e37", "+9.900000E+37", "1E400", "NAN", "inf", "-INF", "OVLD"]
)
def test_an_overflow_is_no_number(reply: str) -> None:
    with pytest.raises(ReadingOverflow, match="beyond the instrument's range"):
        parse_float(reply)


@pytest.mark.parametrize(
    "reply", ["", " ", "1.2,3.4", "1.2 V", "1.2;3", "1_0", "0x10", "1,2", "e5", "1e", "--1", "garbage", "1 2"]
)
def test_what_is_not_one_float_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError, match="not one number"):
        parse_float(reply)


@given(st.text(max_size=12))
def test_parsers_raise_reply_errors_and_nothing_else(reply: str) -> None:
    for parse in (parse_float, parse_int, parse_bool, parse_word, parse_error, lambda text: parse_floats(text, 2)):
        try:
            value = parse(reply)
        except ReplyError:
            continue
        assert not (isinstance(value, float) and (math.isnan(value) or math.isinf(value)))


def test_lists_words_booleans_and_whole_numbers() -> None:
    assert parse_floats("1.0, -2,3E-3", 3) == (1.0, -2.0, 3e-3)
    for reply in ("1,2", "1,2,3,4", ""):
        with pytest.raises(ReplyError, match="not 3 numbers"):
            parse_floats(reply, 3)
    with pytest.raises(ReadingOverflow):
        parse_floats("1,9.9E37,3", 3)
    assert (parse_int("4"), parse_int("+1.000000E+01")) == (4, 10)
    with pytest.raises(ReplyError, match="whole"):
        parse_int("1.5")
    assert (parse_bool("1"), parse_bool("off")) == (True, False)
    with pytest.raises(ReplyError, match="0 or 1"):
        parse_bool("2")
    assert (parse_word('"CURR:DC"'), parse_word("volt")) == ("CURR:DC", "VOLT")
    with pytest.raises(ReplyError, match="one word"):
        parse_word("CURR VOLT")


@pytest.mark.parametrize(
    ("reply", "entry"),
    [
        ('0,"No error"', (0, "No error")),
        ('-113,"Undefined header"', (-113, "Undefined header")),
        ("-222, 'Data out of range'", (-222, "Data out of range")),
        ("+0,No Error", (0, "No Error")),
        ('-109,"Missing parameter;1;2015/05/06 12:55:33.648"', (-109, "Missing parameter;1;2015/05/06 12:55:33.648")),
    ],
)
def test_an_error_entry_is_read(reply: str, entry: tuple[int, str]) -> None:
    assert parse_error(reply) == entry


@pytest.mark.parametrize("reply", ["", "0", "No error", '1.5,"x"', '0,"No error'])
def test_what_is_no_error_entry_is_refused(reply: str) -> None:
    with pytest.raises(ReplyError, match="error queue"):
        parse_error(reply)


def test_compound_answers_are_cut_outside_quotes_only() -> None:
    assert split_reply('1.2;0,"No error;0;0 0";1') == ["1.2", '0,"No error;0;0 0"', "1"]
    assert split_reply("") == [""]


# Settings


def test_a_setting_is_sent_checked_and_read_back() -> None:
    exchanges = [*HELLO, ("SOUR:LEV 1.2", None), NO_ERROR, ("SOUR:LEV?", "1.200")]
    with TranscriptLink(exchanges) as link:
        Box(link).level = 1.2


def test_reading_a_setting_asks() -> None:
    exchanges = [*HELLO, ("SOUR:LEV?", "+1.5E0"), ("OUTP?", "ON"), ("FUNC?", "SQUARE"), ("SENS:FUNC?", '"SIN:DC"')]
    with TranscriptLink(exchanges) as link:
        box = Box(link)
        assert (box.level, box.on, box.shape, box.quoted) == (1.5, True, Shape.SQUARE, Shape.SINE)


def test_several_changes_share_one_message_one_error_check_and_one_read_back() -> None:
    exchanges = [
        *HELLO,
        ('SENS:COUN 7;:FUNC SQU;:SENS:FUNC "SIN";:OUTP 1', None),
        NO_ERROR,
        ("SENS:COUN?;:FUNC?;:SENS:FUNC?;:OUTP?", '7;SQU;"SIN";1'),
    ]
    with TranscriptLink(exchanges) as link:
        box = Box(link)
        box.apply(
            Box.count.change(box, 7),
            Box.shape.change(box, Shape.SQUARE),
            Box.quoted.change(box, Shape.SINE),
            Box.on.change(box, True),
        )


def test_zero_is_sent_as_zero() -> None:
    for zero in (0.0, -0.0, 0):
        with TranscriptLink([*HELLO, ("SOUR:LEV 0", None), NO_ERROR, ("SOUR:LEV?", "0.000")]) as link:
            Box(link).level = zero


NOT_NUMBERS = st.one_of(st.none(), st.booleans(), st.text(max_size=5), st.binary(max_size=3), st.complex_numbers())
BAD_NUMBERS = st.one_of(
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.floats(min_value=3.0, exclude_min=True),
    st.floats(max_value=0.0, exclude_max=True),
)


@given(st.one_of(NOT_NUMBERS, BAD_NUMBERS))
def test_nothing_is_sent_for_a_bad_level(value: object) -> None:
    link = TranscriptLink()
    with pytest.raises(LimitError):
        Box(link).level = value  # type: ignore[assignment]
    assert link.sent == 0


@given(st.one_of(NOT_NUMBERS, st.integers(max_value=0), st.integers(min_value=101), st.just(1.5), st.just(math.nan)))
def test_nothing_is_sent_for_a_bad_count(value: object) -> None:
    link = TranscriptLink()
    with pytest.raises(LimitError):
        Box(link).count = value  # type: ignore[assignment]
    assert link.sent == 0


@pytest.mark.parametrize("value", [0, 1, "ON", None, math.nan])
def test_a_switch_takes_only_true_and_false(value: object) -> None:
    link = TranscriptLink()
    with pytest.raises(LimitError, match="allowed are True and False"):
        Box(link).on = value  # type: ignore[assignment]
    assert link.sent == 0


@pytest.mark.parametrize("value", ["SIN", "sine", 0, None])
def test_a_choice_takes_only_its_enum(value: object) -> None:
    link = TranscriptLink()
    with pytest.raises(LimitError, match=r"allowed are Shape\.SINE, Shape\.SQUARE"):
        Box(link).shape = value  # type: ignore[assignment]
    assert link.sent == 0


def test_a_refusal_names_the_layer_and_what_it_allows() -> None:
    box = Box(TranscriptLink())
    with pytest.raises(LimitError, match=r"Maker 1 \(TRANSCRIPT\): level: 11 V is refused; Maker 1 allows -10 to 10 V"):
        box.level = 11.0
    with pytest.raises(LimitError, match=r"limits.level_v in bench.toml allows 0 to 3 V"):
        box.level = 4.0


def test_the_last_change_is_refused_before_the_first_is_sent() -> None:
    link = TranscriptLink()
    box = Box(link)
    with pytest.raises(LimitError):
        box.apply(Box.level.change(box, 1.0), Box.count.change(box, 1000))
    assert link.sent == 0


@pytest.mark.parametrize(("reply", "taken"), [("1.2005", True), ("1.2011", False), ("1.1", False), ("0.000", False)])
def test_a_read_back_may_differ_by_the_resolution_and_no_more(reply: str, taken: bool) -> None:
    link = TranscriptLink([*HELLO, ("SOUR:LEV 1.2", None), NO_ERROR, ("SOUR:LEV?", reply)])
    box = Box(link)
    if taken:
        box.level = 1.2
    else:
        with pytest.raises(ReadBackError, match=f"level: set to 1.2 but reads back {reply}; the setting was not taken"):
            box.level = 1.2
        assert link.in_step


@pytest.mark.parametrize("reply", ["", "1.2,1.2", "1.2;1.2", "garbage"])
def test_a_read_back_that_does_not_fit_puts_the_link_out_of_step(reply: str) -> None:
    link = TranscriptLink([*HELLO, ("SOUR:LEV 1.2", None), NO_ERROR, ("SOUR:LEV?", reply)])
    box = Box(link)
    with pytest.raises(ReplyError, match=r"answer to 'SOUR:LEV\?'"):
        box.level = 1.2
    with pytest.raises(LinkError, match="out of step"):
        box.level = 1.3


def test_an_overflow_is_raised_but_leaves_the_link_in_step() -> None:
    link = TranscriptLink([*HELLO, ("SOUR:LEV?", "+9.9E37"), ("SOUR:LEV?", "1.0")])
    box = Box(link)
    with pytest.raises(ReplyError, match="beyond the instrument's range"):
        _ = box.level
    assert box.level == 1.0


# Errors


def test_the_error_queue_is_drained_and_raised_with_the_command() -> None:
    exchanges = [
        *HELLO,
        ("SOUR:LEV 1.2", None),
        ("SYST:ERR?", '-113,"Undefined header"'),
        ("SYST:ERR?", '-222,"Data out of range"'),
        NO_ERROR,
        ("OUTP?", "0"),
    ]
    with TranscriptLink(exchanges) as link:
        box = Box(link)
        with pytest.raises(InstrumentError) as caught:
            box.level = 1.2
        assert caught.value.command == "SOUR:LEV 1.2"
        assert caught.value.errors == [(-113, "Undefined header"), (-222, "Data out of range")]
        assert '-113, "Undefined header"; -222' in str(caught.value)
        assert box.on is False


def test_an_error_queue_without_end_is_given_up() -> None:
    link = TranscriptLink([*HELLO, ("OUTP 1", None), *[("SYST:ERR?", '-350,"Queue overflow"')] * MOST_ERRORS])
    with pytest.raises(InstrumentError):
        Box(link).on = True
    assert not link.in_step
    assert link.exchanges == []


# Identification


def test_an_identity_is_asked_once_and_again_after_the_link_was_lost() -> None:
    exchanges = [*HELLO, ("OUTP?", "0"), ("OUTP?", "0"), *HELLO, ("OUTP?", "0")]
    with TranscriptLink(exchanges) as link:
        box = Box(link)
        assert not box.on
        assert not box.on
        link.resynchronise()
        assert not box.on


def test_identify_says_who_is_there() -> None:
    with TranscriptLink([*HELLO, IDN]) as link:
        box = Box(link, serial="42")
        assert box.identify() == Identity("MAKER INC.", "1", "42", "1.0")
        assert str(box.identify()) == "MAKER INC. 1, serial 42, firmware 1.0"


@pytest.mark.parametrize("answer", ["MAKER INC.,MODEL 2,42,1.0", "OTHER INC.,MODEL 1,42,1.0", "MAKER,1,43,1.0"])
def test_another_instrument_is_refused_before_any_command(answer: str) -> None:
    with TranscriptLink([("*IDN?", answer)]) as link:
        box = Box(link, serial="42")
        with pytest.raises(WrongInstrument, match="expected"):
            box.on = True


def test_another_instrument_of_the_same_model_after_a_lost_link_is_refused() -> None:
    with TranscriptLink([*HELLO, ("*IDN?", "MAKER INC.,MODEL 1,43,1.0")]) as link:
        box = Box(link)
        box.identify()
        with pytest.raises(WrongInstrument, match="serial 43 answers, before it was 42"):
            box.resynchronise()


@pytest.mark.parametrize("answer", ["", "1.2", "MAKER,1,42", "MAKER,,42,1.0", "a,b,c,d,e"])
def test_an_identity_that_is_none_is_a_garbled_reply(answer: str) -> None:
    link = TranscriptLink([("*IDN?", answer)])
    with pytest.raises(ReplyError, match="maker, model"):
        Box(link).identify()
    assert not link.in_step


# Safe-off

OFF = [("SOUR:LEV 0", None), ("OUTP 0", None)]


class LossyLink(TranscriptLink):
    """A transcript whose emergency path, or whose questions, fail as often as asked."""

    lost_sends = 0
    failing_questions: tuple[LinkError, ...] = ()

    def send_now(self, *messages: str) -> None:
        if self.lost_sends:
            self.lost_sends -= 1
            raise LinkError("lost")
        super().send_now(*messages)

    def query(self, message: str, timeout_s: float | None = None) -> str:
        if message == "OUTP?" and self.failing_questions:
            error, *rest = self.failing_questions
            self.failing_questions = tuple(rest)
            self.lose_step("lost")
            raise error
        return super().query(message, timeout_s)


def test_safe_off_sends_fixed_strings_first_and_reads_back() -> None:
    with TranscriptLink([*OFF, *HELLO, ("OUTP?", "0"), NO_ERROR]) as link:
        Box(link).safe_off()


def test_safe_off_raises_when_the_read_back_says_on() -> None:
    exchanges = [*OFF, *HELLO, ("OUTP?", "1"), ("SYST:ERR?", '-200,"Execution error"'), NO_ERROR]
    with TranscriptLink(exchanges) as link, pytest.raises(ReadBackError, match=r"the output is on .*-200.*by hand"):
        Box(link).safe_off()


def test_safe_off_forgives_errors_of_what_went_wrong_before() -> None:
    with TranscriptLink([*OFF, *HELLO, ("OUTP?", "0"), ("SYST:ERR?", '-113,"x"'), NO_ERROR]) as link:
        Box(link).safe_off()


def test_safe_off_on_a_link_out_of_step_goes_out_first_and_again_once_it_is_in_step() -> None:
    with TranscriptLink([*OFF, *OFF, *HELLO, ("OUTP?", "0"), NO_ERROR]) as link:
        link.lose_step("a late reply")
        Box(link).safe_off()
        assert link.generation == 2


def test_safe_off_tries_a_new_connection_when_the_old_one_is_lost() -> None:
    with LossyLink([*OFF, *HELLO, ("OUTP?", "0"), NO_ERROR]) as link:
        link.lost_sends = 1
        Box(link).safe_off()
    with LossyLink([*OFF, *HELLO, *OFF, *HELLO, ("OUTP?", "0"), NO_ERROR]) as link:
        link.failing_questions = (LinkError("lost"),)
        Box(link).safe_off()


def test_safe_off_is_not_confirmed_by_an_instrument_that_hangs() -> None:
    with LossyLink([*OFF, *HELLO]) as link:
        link.failing_questions = (LinkTimeout("no answer"),)
        with pytest.raises(LinkTimeout):
            Box(link).safe_off()


def test_closing_sends_nothing() -> None:
    link = TranscriptLink()
    Box(link).close()
    assert link.closed
    assert link.sent == 0
