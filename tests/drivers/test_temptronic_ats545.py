"""The temperature source: its driver against transcripts, the simulated one through its wire, and both together."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import InstrumentError, LimitError, ReadBackError, ReplyError, WrongInstrument
from drivers.limits import Range
from drivers.roles import Instrument
from drivers.simulated.temptronic_ats545 import AIR_TAU_S, AMBIENT_C, CHUCK_TAU_S, TemptronicAts545Server
from drivers.temperature_role import TemperatureReading, TemperatureSource
from drivers.temptronic_ats545 import Fault, Sensor, TemperatureLimits, TemptronicAts545
from drivers.visa_link import open_visa
from models.exceptions import BenchFailure
from tests.drivers.simulated_instruments import Client
from tests.drivers.transcript import Exchange, TranscriptLink

IDN = ("*IDN?", "TEMPTRONIC,ATS545,4000,Ver 3.2.0")
QUIET: list[Exchange] = [("*ESR?", "0"), ("EROR?", "16384")]
LIMITS = TemperatureLimits(Range(-40.5, 125.5, "degrees Celsius", "limits.temperature_c of bench 'test'"))


def settings(*pairs: tuple[str, str]) -> list[Exchange]:
    """Exchanges of settings that are taken as they are sent."""
    exchanges: list[Exchange] = []
    for command, reply in pairs:
        exchanges += [(command, None), *QUIET, (f"{command.split(' ')[0]}?", reply)]
    return exchanges


HELLO: list[Exchange] = [
    IDN,
    ("*CLS", None),
    ("WHAT?", "10"),
    ("DSNS 0", None),
    ("CLER", None),
    *settings(("LLIM -41", "-41"), ("ULIM 126", "126"), ("DSNS 0", "0"), ("DUTM 0", "0")),
]
SET_85 = settings(("SETN 0", "0"), ("SETP 85", "85.0"), ("WNDW 1", "1.0"), ("SOAK 30", "30"))


def source(exchanges: Iterable[Exchange] = ()) -> tuple[TemptronicAts545, TranscriptLink]:
    link = TranscriptLink(exchanges)
    return TemptronicAts545(link, LIMITS, sleep=lambda seconds: None), link


# Transcripts


def test_it_takes_the_role() -> None:
    instrument: TemperatureSource = source()[0]
    also: Instrument = instrument
    assert also is instrument


def test_the_first_exchange_programs_the_envelope_and_starts_nothing() -> None:
    with TranscriptLink(HELLO) as link:
        assert TemptronicAts545(link, LIMITS).identify().model == "ATS545"


def test_a_sensor_at_the_chip_is_regulated_to_and_a_serial_line_asks_for_remote_control() -> None:
    wanted = (("LLIM -41", "-41"), ("ULIM 126", "126"), ("DSNS 1", "1"), ("DUTM 1", "1"))
    chosen = [("EROR?", "0") if exchange[0] == "EROR?" else exchange for exchange in settings(*wanted)]
    exchanges = [*HELLO[:2], ("%RM", None), ("WHAT?", "10"), ("DSNS 1", None), ("CLER", None), *chosen]
    with TranscriptLink(exchanges) as link:
        link.resource = "ASRL3::INSTR"
        TemptronicAts545(link, LIMITS, sensor=Sensor.THERMOCOUPLE_T).identify()


@pytest.mark.parametrize(("celsius", "number"), [(-40, 2), (20, 2), (20.1, 1), (25, 1), (29.9, 1), (30, 0), (125, 0)])
def test_each_temperature_has_its_own_setting(celsius: float, number: int) -> None:
    exchanges = settings(
        (f"SETN {number}", str(number)), (f"SETP {celsius}", f"{celsius:.1f}"), ("WNDW 0.5", "0.5"), ("SOAK 60", "60")
    )
    with TranscriptLink([*HELLO, *exchanges]) as link:
        TemptronicAts545(link, LIMITS).set_temperature(celsius, window_c=0.5, soak_s=60)


@pytest.mark.parametrize("zero", [0.0, -0.0, 0])
def test_zero_degrees_in_is_exactly_zero_out(zero: float) -> None:
    exchanges = settings(("SETN 2", "2"), ("SETP 0", "0.0"), ("WNDW 1", "1.0"), ("SOAK 0", "0"))
    with TranscriptLink([*HELLO, *exchanges]) as link:
        TemptronicAts545(link, LIMITS).set_temperature(zero, soak_s=0.0)


def test_the_flow_is_read_back_and_needs_a_temperature() -> None:
    exchanges: list[Exchange] = [
        *HELLO,
        *SET_85,
        ("FLOW 1", None),
        *QUIET,
        ("AUXC?", "352"),
        ("FLOW 0", None),
        *QUIET,
        ("AUXC?", "320"),
        ("FLOW 1", None),
        *QUIET,
        ("AUXC?", "320"),
    ]
    with TranscriptLink(exchanges) as link:
        instrument = TemptronicAts545(link, LIMITS)
        instrument.set_temperature(85.0)
        instrument.set_flow(True)
        instrument.set_flow(False)
        with pytest.raises(ReadBackError, match="flow: set to 1 but reads back 0"):
            instrument.set_flow(True)
    with TranscriptLink(HELLO) as link, pytest.raises(BenchFailure, match="no temperature is set"):
        TemptronicAts545(link, LIMITS).set_flow(True)


def test_the_head_is_waited_for() -> None:
    slept: list[float] = []
    exchanges: list[Exchange] = [*HELLO, ("HEAD 1", None), *QUIET, ("HEAD?", "0"), ("HEAD?", "0"), ("HEAD?", "1")]
    with TranscriptLink(exchanges) as link:
        TemptronicAts545(link, LIMITS, sleep=slept.append).set_head(True)
    assert len(slept) == 2
    stuck: list[Exchange] = [*HELLO, ("HEAD 0", None), *QUIET, *[("HEAD?", "1")] * 40]
    instrument, _ = source(stuck)
    with pytest.raises(ReadBackError, match="the head did not come up; see whether it is locked"):
        instrument.set_head(False)


@pytest.mark.parametrize(("condition", "settled"), [("1", True), ("2", False), ("0", False), ("3", False)])
def test_a_reading(condition: str, settled: bool) -> None:
    exchanges = [*HELLO, ("EROR?", "16384"), ("TMPA?", "84.9"), ("TECR?", condition)]
    with TranscriptLink(exchanges) as link:
        assert TemptronicAts545(link, LIMITS).measure() == TemperatureReading(84.9, None, settled)


@pytest.mark.parametrize(
    ("replies", "error", "why"),
    [
        (["16385"], BenchFailure, "it reports OVERHEAT"),
        (["16384", "999.9"], ReplyError, "a sensor that is missing or broken"),
        (["16384", "hot"], ReplyError, "not one number"),
        (["16384", "25.0", "1.5"], ReplyError, "not a whole number"),
        (["many"], ReplyError, "not one number"),
    ],
)
def test_a_reading_that_is_none_is_an_error(replies: list[str], error: type[Exception], why: str) -> None:
    instrument, _ = source([*HELLO, *zip(("EROR?", "TMPA?", "TECR?"), replies, strict=False)])
    with pytest.raises(error, match=why):
        instrument.measure()


@pytest.mark.parametrize(
    ("events", "faults", "why"),
    [("16", "16384", '16, "EXECUTION error"'), ("32", "0", '32, "COMMAND error"'), ("0", "24", '8, "fault LOW_FLOW"')],
)
def test_a_refused_command_and_a_fault_are_raised(events: str, faults: str, why: str) -> None:
    exchanges = [*HELLO, ("SETN 0", None), ("*ESR?", events), ("EROR?", faults)]
    with TranscriptLink(exchanges) as link, pytest.raises(InstrumentError, match=why):
        TemptronicAts545(link, LIMITS).set_temperature(85.0)


def test_a_setpoint_that_was_not_taken_leaves_no_temperature_set() -> None:
    exchanges = [*HELLO, *settings(("SETN 0", "0"), ("SETP 85", "25.0"))]
    instrument, _ = source(exchanges)
    with pytest.raises(ReadBackError, match="setpoint: set to 85 but reads back 25.0"):
        instrument.set_temperature(85.0)
    with pytest.raises(BenchFailure, match="no temperature is set"):
        instrument.set_flow(True)


def test_another_screen_is_refused() -> None:
    with (
        TranscriptLink([*HELLO[:2], ("WHAT?", "63")]) as link,
        pytest.raises(BenchFailure, match="not on its Operator screen"),
    ):
        TemptronicAts545(link, LIMITS).set_temperature(25.0)


def test_another_model_is_refused() -> None:
    with (
        TranscriptLink([("*IDN?", "TEMPTRONIC,TP04300A,4000,Ver 3.2.0")]) as link,
        pytest.raises(WrongInstrument, match="expected a Temptronic ATS-545"),
    ):
        TemptronicAts545(link, LIMITS).identify()


def test_safe_off_stops_the_flow_and_moves_nothing() -> None:
    with TranscriptLink([("FLOW 0", None), *HELLO, ("AUXC?", "320"), *QUIET]) as link:
        TemptronicAts545(link, LIMITS).safe_off()
    with (
        TranscriptLink([("FLOW 0", None), *HELLO, ("AUXC?", "352"), *QUIET]) as link,
        pytest.raises(ReadBackError, match="tempered air still flows"),
    ):
        TemptronicAts545(link, LIMITS).safe_off()


BAD: Any = st.one_of(
    st.none(), st.booleans(), st.text(max_size=3), st.sampled_from([math.nan, math.inf, -math.inf, 1e6, -1e6, b"1"])
)
SETTERS: list[Callable[[TemptronicAts545, Any], None]] = [
    lambda instrument, value: instrument.set_temperature(value),
    lambda instrument, value: instrument.set_temperature(25.0, window_c=value),
    lambda instrument, value: instrument.set_temperature(25.0, soak_s=value),
]


@given(st.sampled_from(SETTERS), BAD)
def test_no_byte_is_sent_for_a_bad_value(setter: Callable[[TemptronicAts545, Any], None], value: Any) -> None:
    instrument, link = source()
    with pytest.raises(LimitError):
        setter(instrument, value)
    assert link.sent == 0


@given(st.one_of(st.floats(min_value=125.5, exclude_min=True), st.floats(max_value=-40.5, exclude_max=True)))
def test_no_byte_is_sent_outside_the_envelope(celsius: float) -> None:
    instrument, link = source()
    with pytest.raises(LimitError, match=r"limits.temperature_c|Temptronic ATS-545 allows|not finite"):
        instrument.set_temperature(celsius)
    assert link.sent == 0


@pytest.mark.parametrize("value", [1, 0, "ON", None, 1.0])
def test_no_byte_is_sent_for_a_flow_or_a_head_that_is_neither(value: Any) -> None:
    instrument, link = source()
    for setter in (instrument.set_flow, instrument.set_head):
        with pytest.raises(LimitError):
            setter(value)
    assert link.sent == 0


# The simulated instrument


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def chuck() -> list[float]:
    """Temperatures that the chuck was put to."""
    return []


@pytest.fixture
def server(clock: Clock, chuck: list[float]) -> Iterator[TemptronicAts545Server]:
    with TemptronicAts545Server(threading.RLock(), chuck.append, clock) as server:
        yield server


@pytest.fixture
def client(server: TemptronicAts545Server) -> Iterator[Client]:
    with Client(server) as client:
        yield client


@pytest.fixture
def live(server: TemptronicAts545Server) -> Iterator[TemptronicAts545]:
    with open_visa(server.resource, timeout_s=2.0) as link:
        yield TemptronicAts545(link, LIMITS, sleep=lambda seconds: None)


def test_pymeasures_messages_work(client: Client) -> None:
    client.do("%RM")
    for message in (
        "WNDW 1",
        "LLIM -60",
        "ULIM 220",
        "DSNS 1",
        "TTIM 1000",
        "DUTC 100",
        "DUTM 1",
        "ADMD 50",
        "SOAK 30",
        "SETN 0",
        "SETP 85",
        "FLOW 1",
        "HEAD 1",
        "COOL 1",
        "LRNM 0",
        "RAMP 12.5",
        "CYCC 3",
        "CYCL 0",
    ):
        client.do(message)
    assert client.ask("TTIM?;DUTM?;DSNS?;HEAD?;SETN?") == "1000;1;1;1;0"
    assert float(client.ask("SETP?")) == 85.0
    assert float(client.ask("RAMP?")) == 12.5
    assert int(client.ask("AUXC?")) & 32
    assert int(client.ask("TECR?")) == 2
    assert int(client.ask("EROR?")) == 0
    assert (client.ask("WHAT?"), client.ask("TESR?")) == ("10", "2")
    for name in ("TEMP", "TMPA", "TMPD", "SETD", "FLWR", "FLRL"):
        float(client.ask(f"{name}?"))
    client.do("%GL")
    assert client.ask("*ESR?") == "128"  # the power-on event, and no error


@pytest.mark.parametrize(
    ("message", "event"), [("SETP 226", 16), ("WNDW 0", 16), ("SETP hot", 32), ("NONSENSE", 32), ("SYST:ERR?", 32)]
)
def test_what_it_refuses_sets_an_event_bit(client: Client, message: str, event: int) -> None:
    client.do("*CLS")
    client.send(message)
    assert int(client.ask("*ESR?")) == event
    assert client.ask("SETP?") == "25.0"


def test_the_limits_of_the_air_bound_the_setpoint(client: Client) -> None:
    client.do("*CLS;ULIM 100;SETN 0;SETP 101")
    assert client.ask("*ESR?;SETP?") == "16;25.0"


def test_air_and_chuck_follow_each_at_its_own_pace(client: Client, clock: Clock, chuck: list[float]) -> None:
    client.do("SETN 0;SETP 125;FLOW 1")
    clock.now += AIR_TAU_S
    assert float(client.ask("TMPA?")) == pytest.approx(125 - 100 / math.e, abs=0.1)
    assert chuck[-1] == AMBIENT_C  # the head is up
    client.do("HEAD 1")
    clock.now += CHUCK_TAU_S
    client.do("*CLS")
    assert chuck[-1] == pytest.approx(125 - 100 / math.e, abs=0.1)
    client.do("FLOW 0")
    clock.now += 100 * CHUCK_TAU_S
    client.do("*CLS")
    assert chuck[-1] == pytest.approx(AMBIENT_C)


def test_it_is_at_temperature_after_the_soak_time(client: Client, clock: Clock) -> None:
    client.do("SETN 0;SETP 125;WNDW 1;SOAK 30;FLOW 1")
    inside = AIR_TAU_S * math.log(100.0)  # when the deviation has fallen from 100 to 1
    for later, condition in ((inside - 0.1, 2), (0.2, 0), (29.7, 0), (0.3, 1), (1000.0, 1)):
        clock.now += later
        assert int(client.ask("TECR?")) == condition
    client.do("SETP 124")
    assert int(client.ask("TECR?")) == 0
    clock.now += 30.1
    assert int(client.ask("TECR?")) == 1
    client.do("FLOW 0")
    assert int(client.ask("TECR?")) == 0


def test_the_driver_brings_the_chuck_to_temperature(
    live: TemptronicAts545, clock: Clock, chuck: list[float], server: TemptronicAts545Server
) -> None:
    live.set_temperature(85.0, window_c=0.5, soak_s=20.0)
    live.set_head(True)
    assert not live.measure().settled
    live.set_flow(True)
    assert not live.measure().settled
    for _ in range(200):
        clock.now += 1.0
        reading = live.measure()
        if reading.settled:
            break
    assert reading == TemperatureReading(85.0, None, True)
    clock.now += 1000.0
    live.measure()
    assert chuck[-1] == pytest.approx(85.0, abs=0.01)
    live.safe_off()
    assert not live.flow()
    assert live.head_down()
    clock.now += 1000.0
    assert server.instrument.chuck_c == pytest.approx(AMBIENT_C)  # type: ignore[attr-defined]


def test_a_sensor_at_the_chip_is_what_settles(server: TemptronicAts545Server, clock: Clock) -> None:
    with open_visa(server.resource, timeout_s=2.0) as link:
        live = TemptronicAts545(link, LIMITS, sensor=Sensor.THERMOCOUPLE_K)
        live.set_temperature(-40.0, soak_s=0.0)
        live.set_head(True)
        live.set_flow(True)
        clock.now += 10 * AIR_TAU_S
        reading = live.measure()
        assert reading.air_c == pytest.approx(-40.0, abs=0.1)
        assert reading.device_c is not None
        assert reading.device_c > -38.0
        assert not reading.settled
        clock.now += 5 * CHUCK_TAU_S
        assert live.measure().settled


def test_a_fault_stops_the_reading_and_the_next_setting(live: TemptronicAts545, server: TemptronicAts545Server) -> None:
    live.set_temperature(25.0)
    server.instrument.faults = int(Fault.LOW_INPUT_AIR_PRESSURE)  # type: ignore[attr-defined]
    assert live.faults() == Fault.LOW_INPUT_AIR_PRESSURE
    with pytest.raises(BenchFailure, match="it reports LOW_INPUT_AIR_PRESSURE"):
        live.measure()
    with pytest.raises(InstrumentError, match="fault LOW_INPUT_AIR_PRESSURE"):
        live.set_temperature(30.0)


def test_a_locked_head_is_noticed(live: TemptronicAts545, server: TemptronicAts545Server) -> None:
    server.instrument.head_locked = True  # type: ignore[attr-defined]
    with pytest.raises(ReadBackError, match="did not come down"):
        live.set_head(True)


def test_random_temperatures_read_back(live: TemptronicAts545) -> None:
    generator = np.random.default_rng(6)
    for celsius, window in zip(generator.uniform(-40.5, 125.5, 100), generator.uniform(0.1, 9.9, 100), strict=True):
        live.set_temperature(float(celsius), float(window), float(round(celsius + 41)))
