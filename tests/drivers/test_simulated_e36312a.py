"""The simulated E36312A: through its wire, with other people's commands, and with our driver over PyVISA."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from drivers.errors import InstrumentError, LimitError
from drivers.keithley_2230g import ChannelLimits
from drivers.keysight_e36312a import KeysightE36312A
from drivers.limits import Range
from drivers.simulated.keysight_e36312a import KeysightE36312AServer
from drivers.simulated.world import LEAKAGE_S, Rails, World
from drivers.visa_link import open_visa
from tests.drivers.simulated_instruments import Client, Resistor, world_with

NOISE = 1e-3
LIMITS = {n: ChannelLimits(Range(0.0, 6.0, "V", "test"), Range(0.0, 1.0, "A", "test")) for n in (1, 2, 3)}


@pytest.fixture
def resistor() -> Resistor:
    return Resistor()


@pytest.fixture
def world(resistor: Resistor) -> World:
    return world_with(resistor)


@pytest.fixture
def server(world: World) -> Iterator[KeysightE36312AServer]:
    with KeysightE36312AServer(world, np.random.default_rng(1)) as server:
        yield server


@pytest.fixture
def client(server: KeysightE36312AServer) -> Iterator[Client]:
    with Client(server) as client:
        yield client


@pytest.fixture
def supply(server: KeysightE36312AServer) -> Iterator[KeysightE36312A]:
    with open_visa(server.resource, timeout_s=2.0) as link:
        yield KeysightE36312A(link, LIMITS)


def floats(reply: str) -> list[float]:
    return [float(field) for field in reply.split(",")]


# Raw messages


def test_pymeasures_messages_work(client: Client, world: World) -> None:
    client.do("VOLT 1.5, (@1)")
    client.do("CURR 0.5, (@3)")
    client.do("OUTPut 1, (@1)")
    assert floats(client.ask("VOLT? (@1)")) == [1.5]
    assert floats(client.ask("CURR? (@3)")) == [0.5]
    assert client.ask("OUTPut? (@1)") == "1"
    assert floats(client.ask("MEASure:VOLTage? (@1)")) == pytest.approx([1.5], abs=NOISE)
    assert floats(client.ask("MEAS:CURRent? (@1)")) == pytest.approx([1.5 * LEAKAGE_S], abs=NOISE)
    assert world.rails.vddr_v == 1.5
    assert client.ask("SYST:ERR?") == '+0,"No error"'


def test_channel_lists_ranges_and_the_selected_channel(client: Client, world: World) -> None:
    client.do("VOLT 3,(@1:3);:OUTP ON,(@3,1);:VOLT 2,(@2,3)")
    assert floats(client.ask("VOLT? (@3:1)")) == [2.0, 2.0, 3.0]
    assert client.ask("OUTP? (@1,2,3)") == "1,0,1"
    assert world.rails == Rails(vdd_v=2.0, vddc_v=0.0, vddr_v=3.0)
    client.do("INST:NSEL 2;:VOLT 4;:OUTP 1;:INST P6V")
    assert floats(client.ask("VOLT? (@2)")) == [4.0]
    assert client.ask("INST?;:INST:NSEL?") == "CH1;1"
    client.do("APPL CH3,1.2,0.2")
    assert floats(client.ask("VOLT? (@3)") + "," + client.ask("CURR? (@3)")) == [1.2, 0.2]
    assert client.errors() == []


@pytest.mark.parametrize(("number", "volts", "amps"), [(1, 6.18, 5.15), (2, 25.75, 1.03), (3, 25.75, 1.03)])
def test_what_each_channel_can_be_programmed_to(client: Client, number: int, volts: float, amps: float) -> None:
    assert floats(client.ask(f"VOLT? MAX,(@{number})")) == [pytest.approx(volts)]
    assert floats(client.ask(f"CURR? MAX,(@{number})")) == [pytest.approx(amps)]
    client.do(f"VOLT MAX,(@{number});:CURR MIN,(@{number})")
    assert floats(client.ask(f"VOLT? (@{number})")) == [pytest.approx(volts)]
    client.do(f"VOLT {volts + 0.01},(@{number})")
    client.do(f"CURR -0.1,(@{number})")
    assert client.errors() == [-222, -222]


def test_a_list_is_taken_whole_or_not_at_all(client: Client) -> None:
    client.do("VOLT 10,(@1,2)")
    assert client.errors() == [-222]
    assert floats(client.ask("VOLT? (@1,2)")) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("VOLT 1,(@4)", -224),
        ("VOLT 1,(@)", -224),
        ("VOLT 1,2", -104),
        ("VOLT", -109),
        ("VOLT 1,(@1),(@2)", -108),
        ("VOLT NAN,(@1)", -104),
        ("OUTP 2 V,(@1)", -104),
        ("OUTP:PROT:WDOG 1", -113),
    ],
)
def test_what_it_refuses(client: Client, message: str, code: int) -> None:
    client.do(message)
    assert client.errors() == [code]


def test_the_trip_switches_off_and_stays_off_until_cleared(client: Client, world: World) -> None:
    client.do("VOLT:PROT 3,(@2);:VOLT 3,(@2);:OUTP 1,(@2)")
    client.do("VOLT 3.5,(@2)")
    assert world.rails.vddc_v == 3.5  # not watched yet
    client.do("VOLT:PROT:STAT 1,(@2)")
    assert world.rails.vddc_v == 0.0
    assert client.ask("VOLT:PROT:TRIP? (@1,2);:OUTP? (@2);:VOLT:PROT:STAT? (@2)") == "0,1;0;1"
    client.do("OUTP 1,(@2)")
    assert client.errors() == [-221]
    client.do("VOLT 2,(@2);:OUTP:PROT:CLE (@2);:OUTP 1,(@2)")
    assert client.errors() == []
    assert world.rails.vddc_v == 2.0


def test_the_current_limit_holds_and_is_reported(client: Client, world: World) -> None:
    client.do("VOLT 20,(@2);:CURR 0.002,(@2);:OUTP 1,(@2)")
    assert world.rails.vddc_v == pytest.approx(0.002 / LEAKAGE_S)
    assert client.ask("STAT:QUES:INST:ISUM2:COND?;:STAT:QUES:INST:ISUM1:COND?") == "+1;+0"
    client.do("CURR 1,(@2)")
    assert client.ask("STAT:QUES:INST:ISUM2:COND?") == "+2"
    client.do("STAT:QUES:INST:ISUM4:COND?")
    assert client.errors() == [-114]


def test_reset_is_zero_volt_and_off_on_the_rails_too(client: Client, world: World) -> None:
    client.do("VOLT 3,(@1:3);:OUTP 1,(@1:3)")
    client.do("*RST")
    assert world.rails == Rails(0.0, 0.0, 0.0)
    assert client.ask("OUTP? (@1:3);:VOLT:PROT:STAT? (@1:3);:OUTP:PAIR?") == "0,0,0;0,0,0;OFF"


# Our driver, through PyVISA


def test_the_rails_stand_at_what_was_set(supply: KeysightE36312A, world: World) -> None:
    assert supply.identify().serial == "MY59000001"
    supply.set_voltages({3: 1.2, 1: 5.0, 2: 4.5})
    for channel in (3, 1, 2):
        supply.set_output(channel, True)
    assert world.rails == Rails(vdd_v=1.2, vddc_v=4.5, vddr_v=5.0)
    assert [reading.voltage_v for reading in supply.measure()] == pytest.approx([5.0, 4.5, 1.2], abs=NOISE)
    assert [reading.on for reading in supply.measure()] == [True, True, True]


def test_safe_off_lets_the_core_supply_fall_last(supply: KeysightE36312A, resistor: Resistor) -> None:
    supply.set_voltages({3: 1.2, 1: 5.0, 2: 4.5})
    for channel in (3, 1, 2):
        supply.set_output(channel, True)
    resistor.rails.clear()
    supply.safe_off()
    assert resistor.rails == [Rails(1.2, 0.0, 5.0), Rails(1.2, 0.0, 0.0), Rails(0.0, 0.0, 0.0)]


def test_a_trip_is_noticed_at_the_next_switching_on_and_cleared(supply: KeysightE36312A, world: World) -> None:
    supply.set_voltage_limit(2, 3.0)
    supply.set_output(2, True)
    supply.set_voltage(2, 3.5)
    assert world.rails.vddc_v == 0.0
    assert supply.tripped(2)
    with pytest.raises(InstrumentError, match="-221"):
        supply.set_output(2, True)
    supply.clear_trip(2)
    assert not supply.tripped(2)
    supply.set_output(2, True)
    supply.set_voltage(2, 2.9)
    assert world.rails.vddc_v == 2.9


def test_a_thousand_random_values_read_back(supply: KeysightE36312A) -> None:
    generator = np.random.default_rng(3)
    for volts, amps in zip(generator.uniform(0.0, 6.0, 500), generator.uniform(0.0, 1.0, 500), strict=True):
        supply.set_voltage(1, float(volts))
        supply.set_current_limit(3, float(amps))


def test_a_refused_voltage_moves_nothing(supply: KeysightE36312A, resistor: Resistor) -> None:
    supply.set_output(1, True)
    resistor.rails.clear()
    with pytest.raises(LimitError):
        supply.set_voltages({1: 1.0, 2: 6.1})
    assert resistor.rails == []
