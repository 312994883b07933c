"""The simulated supply, through its wire: what it promises to clients, and what it does to the rails."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from drivers.simulated.keithley_2230g import Keithley2230GServer
from drivers.simulated.world import LEAKAGE_S, Rails, World
from tests.drivers.simulated_instruments import Client, Resistor, world_with

NOISE = 1e-3
"""One step of the read-back's resolution: more than ten standard deviations of its noise."""


@pytest.fixture
def world() -> World:
    return world_with(Resistor())


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    with Keithley2230GServer(world, np.random.default_rng(1)) as server, Client(server) as client:
        yield client


def test_the_laboratorys_own_commands_work(client: Client, world: World) -> None:
    client.do("SYST:REM")
    assert client.ask("*IDN?").split(", ")[:2] == ["Keithley instruments", "2230G-30-1"]
    client.do("*RST")
    for channel, volts in [("CH1", 3.0), ("CH2", 3.5), ("CH3", 1.2)]:
        client.do(f"INST:SEL {channel}")
        assert client.ask("INST?") == channel
        client.do(f"SOUR:VOLT {volts} V")
        client.do("SOUR:CURR 0.1 A")
        client.do("SOUR:CHAN:OUTP 1")
        assert float(client.ask("SOUR:VOLT?")) == volts
        assert float(client.ask("SOUR:CURR?")) == 0.1
        assert float(client.ask(f"FETC:VOLT? {channel}")) == pytest.approx(volts, abs=NOISE)
        assert float(client.ask(f"FETC:CURR? {channel}")) == pytest.approx(volts * LEAKAGE_S, abs=NOISE)
    assert world.rails == Rails(vdd_v=1.2, vddc_v=3.5, vddr_v=3.0)
    voltages = [float(field) for field in client.ask("FETC:VOLT? ALL").split(",")]
    assert voltages == pytest.approx([3.0, 3.5, 1.2], abs=NOISE)
    assert len(client.ask("FETC:CURR? ALL").split(",")) == 3
    client.do("SYST:LOC")
    assert client.errors() == []


def test_reset_is_zero_volt_and_off_on_the_rails_too(client: Client, world: World) -> None:
    client.do("APPL CH2,3,0.5;:INST:NSEL 2;:CHAN:OUTP ON")
    assert world.rails.vddc_v == 3.0
    client.do("*RST")
    assert world.rails == Rails(0.0, 0.0, 0.0)
    assert client.ask("OUTP?;INST:NSEL?;:MEAS:VOLT? ALL") == "0;1;0.000, 0.000, 0.000"
    assert client.ask("SOUR:APPL? CH2") == "0.000, 1.500"


def test_nothing_reaches_the_rails_while_an_output_is_off(client: Client, world: World) -> None:
    client.do("INST CH3;:VOLT 1.2")
    assert world.rails.vdd_v == 0.0
    assert client.ask("MEAS:VOLT?") == "0.000"
    client.do("OUTP ON")
    assert world.rails.vdd_v == 1.2
    client.do("VOLT 1.1")
    assert world.rails.vdd_v == 1.1
    client.do("OUTP OFF")
    assert world.rails.vdd_v == 0.0
    assert client.ask("VOLT?") == "1.100"


def test_output_commands_act_on_one_channel_on_all_and_on_enabled_ones(client: Client) -> None:
    client.do("INST CH2;:CHAN:OUTP 1")
    assert client.ask("CHAN:OUTP:STAT?;:OUTP?;:INST CH1;:CHAN:OUTP?") == "1;1;0"
    client.do("OUTP:ENAB 0;:OUTP:STAT:ALL 1")
    assert client.ask("CHAN:OUTP?;:INST CH3;:CHAN:OUTP?;:SOURCE:OUTP:ENAB?") == "0;1;1"
    client.do("INST CH1;:CHAN:OUTP 1")
    assert client.errors() == [-221]
    client.do("OUTP:ENAB ON;:CHAN:OUTP 1")
    assert client.ask("CHAN:OUTP?") == "1"
    client.do("SOUR:OUTP OFF")
    assert client.ask("OUTP?") == "0"


@pytest.mark.parametrize(("channel", "volts", "amps"), [("CH1", 30.0, 1.5), ("CH2", 30.0, 1.5), ("CH3", 6.0, 5.0)])
def test_the_rating_of_each_channel_is_its_limit(client: Client, channel: str, volts: float, amps: float) -> None:
    client.do(f"INST:SEL {channel}")
    assert client.ask("VOLT? MAX;CURR? MAX;VOLT? MIN") == f"{volts:.3f};{amps:.3f};0.000"
    client.do(f"VOLT {volts};:CURR {amps}")
    client.do(f"APPL {channel},{volts},{amps}")
    assert client.errors() == []
    for refused in (f"VOLT {volts + 0.01}", f"CURR {amps + 0.01}", "VOLT -0.1", f"VOLT:LIM {volts + 0.01}"):
        client.do(refused)
    assert client.errors() == [-222] * 4
    assert client.ask(f"APPL? {channel}") == f"{volts:.3f}, {amps:.3f}"


def test_apply_changes_all_or_nothing_and_leaves_the_selection(client: Client) -> None:
    client.do("APPL CH3,1.2V,200MA")
    assert client.ask("INST?;:APPL? CH3") == "CH1;1.200, 0.200"
    client.do("APPLY CH3,1.0,9")
    assert client.errors() == [-222]
    assert client.ask("SOUR:APPL? CH3") == "1.200, 0.200"
    client.do("APPL CH3,1.3")
    assert client.ask("SOUR:APPL? CH3") == "1.300, 0.200"
    client.do("APPL CH4,1")
    assert client.errors() == [-224]


def test_the_instruments_own_voltage_limit_is_kept(client: Client) -> None:
    client.do("INST CH2;:VOLT:LIM 5.5;:VOLT 6")
    assert client.errors() == []
    client.do("VOLT:LIM:STAT ON")
    assert client.errors() == [-221]
    client.do("VOLT 5;:VOLT:LIM:STAT ON;:VOLT 5.501;:APPL CH2,5.6,1")
    assert client.errors() == [-222, -222]
    client.do("VOLT:LIM 4.9")
    assert client.errors() == [-221]
    assert client.ask("VOLT?;VOLT:LIM?;VOLT:LIM:STAT?") == "5.000;5.500;1"
    client.do("VOLT:LIM:STAT OFF;:VOLT 6;:INST CH1;:VOLT 20")
    assert client.errors() == []


def test_settings_are_rounded_to_a_millivolt_and_a_milliampere(client: Client, world: World) -> None:
    client.do("VOLT 1.23456;:CURR 0.12345;:CHAN:OUTP 1")
    assert client.ask("VOLT?;:CURR?") == "1.235;0.123"
    assert world.rails.vddr_v == 1.235


def test_the_current_limit_holds_and_is_reported(client: Client, world: World) -> None:
    amps = 0.002
    client.do(f"APPL CH1,20,{amps};:CHAN:OUTP 1")
    assert world.rails.vddr_v == pytest.approx(amps / LEAKAGE_S)
    assert client.ask("STAT:QUES:INST:ISUM1:COND?;:STAT:QUES:INST:ISUM2:COND?;:VOLT?") == "1;0;20.000"
    assert float(client.ask("MEAS:CURR? CH1")) == pytest.approx(amps, abs=NOISE)
    assert float(client.ask("MEAS:VOLT? CH1")) == pytest.approx(amps / LEAKAGE_S, abs=NOISE)
    assert float(client.ask("MEAS:POW? CH1")) == pytest.approx(amps**2 / LEAKAGE_S, abs=20 * NOISE)
    client.do("CURR 1")
    assert world.rails.vddr_v == 20.0
    assert client.ask("STAT:QUES:INST:ISUM:COND?") == "2"
    client.do("CURR 0")
    assert world.rails.vddr_v == 0.0
    client.do("STAT:QUES:INST:ISUM4:COND?")
    assert client.errors() == [-114]


def test_the_rails_never_overshoot(client: Client) -> None:
    resistor = Resistor()
    with Keithley2230GServer(world_with(resistor), np.random.default_rng(1)) as server, Client(server) as own:
        own.ask("APPL CH2,4.5,0.0001;:INST CH2;:CHAN:OUTP 1;:CURR 1;:VOLT 3;:OUTP OFF;:OUTP?")
    assert max(rails.vddc_v for rails in resistor.rails) == 4.5
    assert resistor.rails[-1] == Rails(0.0, 0.0, 0.0)


def test_the_forms_in_which_other_drivers_write(client: Client, world: World) -> None:
    # One message without a colon after the selection, as PyMeasure's driver of this family sends it.
    client.do("INST:SEL CH2;VOLT 1.456")
    assert client.ask("INST:SEL CH2;VOLT?") == "1.456"
    client.do("INST:SEL CH2;SOURCE:OUTP:ENAB 1")
    client.do("INST:SEL CH2;VOLT:LIM:STAT 0")
    client.do(":DISP 0")
    client.do(":DISP:TEXT:DATA 'hello'")
    assert client.ask("DISP?;:DISP:TEXT:DATA?") == '0;"hello"'
    client.do("inst:nsel 2")
    client.do("volt 1.5")
    client.do("CHAN:OUTP ON")
    client.do("CHANnel:OUTPut 1")
    assert client.ask("MEAS:VOLT:DC?  CH2") == client.ask("FETCH:SCALAR:VOLTAGE?") == client.ask("MEAS?") == "1.500"
    client.do("SOUR:APPL ch2, 1.6")
    assert client.ask("SOUR:APPL? ch2").split(", ")[0] == "1.600"
    client.do("APPLY CH1,1.8V,400mA ")
    client.do("OUTP:PROT:CLE;:*CLS;:INST:COMB:OFF")
    assert client.ask("VOLT 1.7;:*OPC?;:INST:COMB?;:SYST:VERS?") == "1;NONE;1999.0"
    assert world.rails.vddc_v == 1.7
    assert client.errors() == []


def test_the_same_seed_reads_the_same_and_another_one_does_not() -> None:
    def readings(seed: int) -> list[str]:
        with (
            Keithley2230GServer(world_with(Resistor()), np.random.default_rng(seed)) as server,
            Client(server) as client,
        ):
            client.do("APPL CH1,0.0005;:APPL CH1,10.0;:CHAN:OUTP 1")
            return [client.ask("MEAS:POW? CH1") for _ in range(100)]

    assert readings(3) == readings(3)
    assert readings(3) != readings(4)


def test_power_cycling_takes_the_rails_down(world: World) -> None:
    with Keithley2230GServer(world, np.random.default_rng(1)) as server, Client(server) as client:
        assert client.ask("*CLS;:APPL CH1,3;:CHAN:OUTP 1;*ESR?") == "0"
        server.instrument.power_on()
        assert world.rails.vddr_v == 0.0
        assert client.ask("OUTP?;*ESR?") == "0;128"


def test_pyvisa_talks_to_it(world: World) -> None:
    pyvisa = pytest.importorskip("pyvisa")
    manager = pyvisa.ResourceManager("@py")
    with (
        Keithley2230GServer(world, np.random.default_rng(1)) as server,
        contextlib.closing(manager),
        contextlib.closing(manager.open_resource(server.resource)) as supply,
    ):
        supply.read_termination = supply.write_termination = "\n"
        supply.write("INST:SEL CH3;:SOUR:VOLT 1.2;:SOUR:CHAN:OUTP 1")
        assert float(supply.query("MEAS:VOLT? CH3")) == pytest.approx(1.2, abs=NOISE)
