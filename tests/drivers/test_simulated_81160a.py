"""The simulated pulse generators: with other people's messages, with our driver, and with a chip on their output."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from data.device_files import default_device
from drivers.errors import InDoubt, InstrumentError, LinkError
from drivers.keysight_81160a import Keysight33500B, Keysight81160A, KeysightPulseSource
from drivers.keysight_81160a_registers import PulseLimits
from drivers.limits import Range
from drivers.pulse_source_role import PulseShape
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.keysight_81160a import Keysight33522BServer, Keysight81160AServer
from drivers.simulated.world import World
from drivers.visa_link import open_visa
from models.cells import Device, DeviceState, Geometry
from models.exceptions import BenchFailure
from tests.drivers.simulated_instruments import Client, Resistor, world_with

LIMITS = PulseLimits(Range(-3.0, 3.5, "V", "test"), Range(1e-7, 1e-2, "s", "test"), Range(1, 1000, "pulses", "test"))
SET = PulseShape(base_v=0.0, top_v=2.0, width_s=10e-6, leading_s=0.5e-6, trailing_s=0.5e-6)
HIGH_OHM = 1e6
STEP_V = 2e-3


@pytest.fixture
def resistor() -> Resistor:
    return Resistor()


@pytest.fixture
def server(resistor: Resistor) -> Iterator[Keysight81160AServer]:
    with Keysight81160AServer(world_with(resistor)) as server:
        yield server


@pytest.fixture
def client(server: Keysight81160AServer) -> Iterator[Client]:
    with Client(server) as client:
        yield client


@pytest.fixture
def other(resistor: Resistor) -> Iterator[Client]:
    with Keysight33522BServer(world_with(resistor)) as server, Client(server) as client:
        yield client


@pytest.fixture(params=[Keysight81160A, Keysight33500B])
def source(request: pytest.FixtureRequest, resistor: Resistor) -> Iterator[KeysightPulseSource]:
    driver: type[KeysightPulseSource] = request.param
    serving = Keysight81160AServer if driver is Keysight81160A else Keysight33522BServer
    with serving(world_with(resistor)) as server, open_visa(server.resource, timeout_s=2.0) as link:
        yield driver(link, LIMITS, load_ohm=HIGH_OHM if driver is Keysight81160A else math.inf)


def volts(resistor: Resistor) -> list[float]:
    """What the pads were put to."""
    return [pytest.approx(forced[0], abs=STEP_V) for forced in resistor.forced]


# Raw messages


def test_pymeasures_messages_to_an_81160a_work(client: Client) -> None:
    assert "Agilent Technologies,81160A" in client.ask("*IDN?")
    exchanges = {
        ":FUNC1 PULS": "PULS",
        ":VOLT1 1.000000": 1.0,
        ":VOLT1:OFFS 0.500000": 0.5,
        ":VOLT1:HIGH 1.500000": 1.5,
        ":VOLT1:LOW -0.500000": -0.5,
        ":VOLT1:LIM:HIGH 4.000000": 4.0,
        ":VOLT1:LIM:LOW -4.000000": -4.0,
        ":VOLT1:LIM:STAT 1": 1.0,
        ":PULS:PER1 1.000000e-03": 1e-3,
        ":PULS:WIDT1 1.000000e-05": 1e-5,
        ":FUNC1:PULS:TRAN 2.000000e-09": 2e-9,
        ":OUTP1:LOAD 5.000000e+01": 50.0,
        ":VOLT1:UNIT VPP": "VPP",
        ":PULS:HOLD1 DCYCLE": "DCYC",
        ":FUNC1:SQU:DCYC 20.000000": 20.0,
        ":BURS1:STAT 1": 1.0,
        ":BURS1:MODE TRIGGERED": "TRIG",
        ":BURS1:INT:PER 1.000000e-02": 1e-2,
        ":BURS1:NCYC 5": 5.0,
        ":TRIG1:COUN 7": 7.0,
        ":ARM:SOUR1 MAN": "MAN",
        "OUTP1 1": 1.0,
        ":PULS:PER 2.000000e-03": 2e-3,
    }
    for message, expected in exchanges.items():
        client.do(message)
        answer = client.ask(f"{message.split(' ')[0]}?")
        assert (answer if isinstance(expected, str) else float(answer)) == expected, message
    client.do("*TRG;*WAI")
    client.do(":APPL1:PULS 1000, 1, 0.5")
    assert float(client.ask(":FREQ1?")) == pytest.approx(1000.0)
    assert client.errors() == []


def test_messages_of_a_memory_bench_with_a_pulse_generator_work(client: Client, resistor: Resistor) -> None:
    for message in (
        ":OUTP1 OFF",
        ":OUTP1:IMP 50OHM",
        ":OUTP1:POL INV",
        ":FUNC1 PULS",
        ":VOLT1:HIGH 0",
        ":VOLT1:LOW -1.9",
        ":PULS:PER1 100MS",
        ":PULS:WIDT1 6MS",
        ":PULS:TRAN1 50US",
        ":PULS:TRAN1:TRA 50US",
        ":ARM:SOUR1 MAN",
        ":TRIG1:COUN 1",
        ":OUTP1 ON",
        "*TRG",
        ":OUTP1 OFF",
    ):
        client.do(message)
    assert client.errors() == []
    assert -3.8 in volts(resistor)  # told to expect 50 ohm, it puts twice the level on an open end


def test_qcodes_messages_to_a_33522b_work(other: Client, resistor: Resistor) -> None:
    exchanges = {
        "SOURce1:FUNCtion PULS": "PULS",
        "SOURce1:FREQuency 1000.0": 1000.0,
        "SOURce1:VOLTage 1.0": 1.0,
        "SOURce1:VOLTage:OFFSet 0.5": 0.5,
        "SOURce1:FUNCtion:PULSE:WIDTh 1e-05": 1e-5,
        "SOURce1:FUNCtion:PULSe:TRANsition 2e-08": 2e-8,
        "SOURce1:VOLTage:UNIT VPP": "VPP",
        "SOURce1:VOLTage:RANGe:AUTO ON": 1.0,
        "SOURce1:PHASe 90.0": 90.0,
        "SOURce1:FUNCtion:RAMP:SYMMetry 40": 40.0,
        "TRIGger1:SLOPe NEG": "NEG",
        "TRIGger1:SOURce BUS": "BUS",
        "TRIGger1:DELay 0.001": 1e-3,
        "OUTPut1:POLarity NORM": "NORM",
        "SOURce1:BURSt:MODE TRIG": "TRIG",
        "SOURce1:BURSt:NCYCles 3": 3.0,
        "SOURce1:BURSt:STATe ON": 1.0,
        "OUTPut1:LOAD INF": 9.9e37,
        "OUTPut1 ON": 1.0,
    }
    for message, expected in exchanges.items():
        other.do(message)
        answer = other.ask(f"{message.split(' ')[0]}?")
        assert (answer if isinstance(expected, str) else float(answer)) == pytest.approx(expected), message
    assert float(other.ask("SOUR1:VOLT:HIGH?")) == pytest.approx(2.0)  # levels double with the load
    resistor.forced.clear()
    other.do("*TRG")
    assert volts(resistor) == [2.0, 2.0, 2.0, 0.0]
    assert other.errors() == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (":VOLT1:HIGH 5.1", -222),
        (":VOLT1:LOW 0.1", -221),
        (":VOLT1 0.01", -221),
        (":VOLT1 6", -221),
        (":VOLT1 11", -222),
        (":VOLT3 1", -114),
        (":FUNC1 PULS;:PULS:WIDT1 2E-6", -221),
        (":FUNC1 PULS;:PULS:PER1 5E-8", -221),
        (":PULS:TRAN1 1E-10", -222),
        (":BURS1:NCYC 1", -222),
        (":OUTP1:LOAD INF", -104),
        (":OUTP1:LOAD 2E6", -222),
        (":VOLT1:LIM:HIGH 0;:VOLT1:LIM:STAT 1", -222),
        ("SOUR1:VOLT 1", -113),
    ],
)
def test_what_an_81160a_refuses_changes_nothing(client: Client, message: str, code: int) -> None:
    asked = ":VOLT1:HIGH?;:VOLT1:LOW?;:PULS:WIDT1?;:PULS:PER1?;:OUTP1:LOAD?"
    before = client.ask(asked)
    client.do(message)
    assert client.errors() == [code]
    assert client.ask(asked) == before


def test_its_own_level_limits_hold(client: Client) -> None:
    client.do(":VOLT1:LIM:HIGH 1;:VOLT1:LIM:LOW -1;:VOLT1:LIM:STAT 1;:VOLT1:HIGH 1.1")
    assert client.errors() == [-222]
    client.do(":VOLT1:HIGH 1;:VOLT1:LIM:HIGH 0.9")
    assert client.errors() == [-222]
    client.do(":VOLT1:LIM:STAT 0;:VOLT1:LIM:HIGH -2")
    assert client.errors() == [-221]


def test_nothing_reaches_the_pads_while_the_output_is_off(client: Client, resistor: Resistor) -> None:
    client.do(":FUNC1 PULS;:VOLT1:HIGH 2;:VOLT1:LOW 1;:ARM:SOUR1 MAN;*TRG;:TRIG1")
    assert volts(resistor) == []
    client.do(":OUTP2 1;:VOLT2:HIGH 3")
    assert volts(resistor) == []  # the second output is not on the pads
    client.do(":OUTP1 1")
    assert volts(resistor) == [2.0]
    client.do(":OUTP1 0")
    assert volts(resistor) == [2.0, 0.0]


def test_an_output_that_waits_for_no_trigger_pulses_at_once(client: Client, resistor: Resistor) -> None:
    client.do(":FUNC1 PULS;:VOLT1:HIGH 2;:VOLT1:LOW 0;:OUTP1 1")
    assert 4.0 in volts(resistor)


def test_reset_and_power_cycling_take_the_output_down(client: Client, server: Keysight81160AServer) -> None:
    client.do(":ARM:SOUR1 MAN;:VOLT1:HIGH 2;:OUTP1 1;*RST")
    assert client.ask(":OUTP1?;:ARM:SOUR1?;:FUNC1?") == "0;IMM;SIN"
    client.do(":OUTP1 1")
    server.instrument.power_on()
    assert client.ask(":OUTP1?") == "0"


# Our driver


def test_a_pulse_reaches_the_pads_once_per_trigger(source: KeysightPulseSource, resistor: Resistor) -> None:
    pulse = source.set_pulse(SET)
    assert pulse.top_v.actual == pytest.approx(2.0, abs=pulse.top_v.tolerance)
    source.set_output(True)
    resistor.forced.clear()
    source.trigger()
    source.trigger()
    assert volts(resistor) == [2.0, 0.0, 2.0, 0.0]
    assert {amps for _, amps in resistor.forced} == {0.2}


def test_a_train_is_counted(source: KeysightPulseSource, resistor: Resistor) -> None:
    source.set_pulse(replace(SET, top_v=1.0), count=25, period_s=1e-4)
    source.set_output(True)
    resistor.forced.clear()
    source.trigger()
    assert volts(resistor) == [1.0] * 25 + [0.0]


def test_no_sequence_of_pulses_puts_another_level_at_the_pads(source: KeysightPulseSource, resistor: Resistor) -> None:
    generator = np.random.default_rng(4)
    for _ in range(100):
        base = float(generator.uniform(-1.0, 1.0))
        top = float(generator.uniform(-2.5, 3.0))
        if abs(top - base) < 0.2:
            continue
        source.set_pulse(replace(SET, base_v=base, top_v=top, width_s=float(generator.uniform(2e-6, 1e-4))))
        source.set_output(True)
        resistor.forced.clear()
        source.trigger()
        again = top + (0.3 if top > base else -0.3)
        source.set_pulse(replace(SET, base_v=base, top_v=again))
        source.trigger()
        assert volts(resistor) == [pytest.approx(level, abs=2 * STEP_V) for level in (top, base, again, base)]
        source.set_output(False)


def test_the_envelope_is_kept_by_the_instrument_too(source: KeysightPulseSource) -> None:
    source.identify()
    number = source.channel.number
    name = f"VOLT{number}:HIGH" if isinstance(source, Keysight81160A) else f"SOUR{number}:VOLT:HIGH"
    with pytest.raises(InstrumentError, match="-222"):
        source.send(f"{name} 3.6")


def test_a_thousand_random_settings_read_back(source: KeysightPulseSource) -> None:
    generator = np.random.default_rng(5)
    for _ in range(150):
        base, top = (float(value) for value in generator.uniform(-3.0, 3.5, 2))
        if not 0.1 <= abs(top - base) <= 5.0:
            continue
        width = float(10 ** generator.uniform(-5.5, -2.1))
        edge = float(10 ** generator.uniform(-7.9, -6.1))
        pulse = source.set_pulse(PulseShape(base, top, width, edge, edge, width / 3), 3, 4 * width)
        for value in (pulse.base_v, pulse.top_v, pulse.width_s, pulse.leading_s, pulse.delay_s, pulse.period_s):
            assert abs(value.error) <= value.tolerance * (1 + 1e-6)


def test_safe_off_takes_the_base_level_away(source: KeysightPulseSource, resistor: Resistor) -> None:
    source.set_pulse(replace(SET, base_v=0.5))
    source.set_output(True)
    assert volts(resistor)[-1] == 0.5
    source.safe_off()
    assert volts(resistor)[-1] == 0.0
    with pytest.raises(BenchFailure, match="the output is off"):
        source.trigger()


def test_a_trigger_without_an_answer_is_in_doubt_and_never_repeated(
    server: Keysight81160AServer, resistor: Resistor
) -> None:
    with open_visa(server.resource, timeout_s=0.2) as link:
        source = Keysight81160A(link, LIMITS, load_ohm=HIGH_OHM)
        source.set_pulse(SET)
        source.set_output(True)
        resistor.forced.clear()
        replies: list[bytes] = []

        def lose_the_second(reply: bytes) -> bytes | None:
            replies.append(reply)
            return reply if len(replies) == 1 else None

        server.wire.tamper = lose_the_second
        with pytest.raises(InDoubt, match=r"cells in doubt: \(3, 4\)"):
            source.trigger([(3, 4, 1)])
        assert volts(resistor) == [2.0, 0.0]
        with pytest.raises(LinkError, match="out of step"):
            source.trigger()
        server.wire.tamper = None
        assert volts(resistor) == [2.0, 0.0]
        source.safe_off()
        with pytest.raises(BenchFailure, match="no pulse is programmed"):
            source.trigger()


# With a chip


@pytest.fixture
def chip_world() -> World:
    world = World(SimulatedChip(default_device().model, Geometry(2, 2), 3, "CHIP"))
    world.chip.connect(0, 1, Device.BL)
    for channel, rail_v in ((3, 1.2), (1, 5.0)):
        world.drive_channel(channel, rail_v)
    return world


def test_direct_access_pulses_form_set_and_reset_a_device(chip_world: World) -> None:
    def state() -> int:
        return int(chip_world.chip.state[0, 1, Device.BL])

    shape = PulseShape(base_v=0.0, top_v=3.3, width_s=20e-6, leading_s=0.5e-6, trailing_s=0.5e-6)
    with Keysight81160AServer(chip_world) as server, open_visa(server.resource) as link:
        source = Keysight81160A(link, LIMITS, load_ohm=HIGH_OHM)
        assert state() == DeviceState.VIRGIN
        source.set_pulse(shape)
        source.set_output(True)
        assert state() == DeviceState.VIRGIN
        source.trigger()
        assert state() == DeviceState.LRS
        source.set_output(False)
        source.set_pulse(replace(shape, top_v=-2.0))
        source.set_output(True)
        assert state() == DeviceState.LRS
        source.trigger()
        assert state() == DeviceState.HRS
        source.set_output(False)
        source.set_pulse(replace(shape, top_v=2.0))
        source.set_output(True)
        source.trigger()
        assert state() == DeviceState.LRS


def test_a_load_that_is_stated_wrongly_breaks_the_device(chip_world: World) -> None:
    shape = PulseShape(base_v=0.0, top_v=3.0, width_s=20e-6, leading_s=0.5e-6, trailing_s=0.5e-6)
    with Keysight81160AServer(chip_world) as server, open_visa(server.resource) as link:
        source = Keysight81160A(link, LIMITS, load_ohm=50.0)
        source.set_pulse(shape)
        source.set_output(True)
        source.trigger()
    assert chip_world.chip.state[0, 1, Device.BL] not in (DeviceState.VIRGIN, DeviceState.LRS, DeviceState.HRS)
