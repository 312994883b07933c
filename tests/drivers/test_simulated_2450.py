"""The simulated source-measure unit, through its wire: settings, what stands at the pads, readings."""

from __future__ import annotations

import contextlib
import math
import re
import statistics
from collections.abc import Iterator

import numpy as np
import pytest

from drivers.simulated.keithley_2450 import Keithley2450Server
from tests.drivers.simulated_instruments import Client, Resistor, world_with

OHMS = 10e3
OVERFLOW = "9.900000E+37"
LIMITED, OUTPUT_ON = 32, 128


@pytest.fixture
def resistor() -> Resistor:
    return Resistor(OHMS)


@pytest.fixture
def client(resistor: Resistor) -> Iterator[Client]:
    with Keithley2450Server(world_with(resistor), np.random.default_rng(1)) as server, Client(server) as client:
        yield client


def fields(reply: str) -> list[float]:
    return [float(field) for field in reply.split(",")]


def test_it_is_a_2450_with_its_own_defaults(client: Client) -> None:
    assert client.ask("*IDN?;*LANG?") == "KEITHLEY INSTRUMENTS,MODEL 2450,04500001,1.7.12b;SCPI"
    assert client.ask("SOUR:FUNC?;:SENS:FUNC?;:OUTP?;:ROUT:TERM?") == 'VOLT;"CURR:DC";0;FRON'
    assert fields(client.ask("SOUR:VOLT?")) == [0.0]
    assert fields(client.ask("SOUR:VOLT:ILIM?")) == [1.05e-4]
    assert fields(client.ask("SOUR:CURR:VLIM?")) == [21.0]
    assert client.ask("SOUR:VOLT:RANG:AUTO?;:SENS:CURR:RANG:AUTO?;:SOUR:VOLT:PROT?") == "1;1;NONE"
    assert client.ask("SENS:CURR:NPLC?;AVER?;AVER:COUN?;TCON?") == "1.000000E+00;0;10;REP"
    assert client.errors() == []


def test_errors_come_in_the_event_logs_own_format(client: Client) -> None:
    assert client.ask("SYST:ERR?") == '0,"No error;0;0 0"'
    client.do("SOUR:VOLT")
    assert client.ask("SYST:ERR:COUN?") == "1"
    pattern = r'-109,"Missing parameter;1;\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}"'
    assert re.fullmatch(pattern, client.ask("SYST:ERR:NEXT?"))
    client.do("VOLT 1")  # the source's node is no optional one
    assert client.errors() == [-113]


def test_it_measures_a_resistor(client: Client) -> None:
    client.do("SOUR:FUNC VOLT;VOLT 0.2;VOLT:ILIM 1e-4;:SENS:FUNC 'CURR';:OUTP ON")
    assert float(client.ask("READ?")) == pytest.approx(0.2 / OHMS, rel=1e-4)
    assert float(client.ask("MEAS:VOLT?")) == pytest.approx(0.2, rel=1e-4)
    assert client.ask("SENS:FUNC?") == '"VOLT:DC"'
    assert float(client.ask("MEAS:RES?")) == pytest.approx(OHMS, rel=1e-3)
    assert float(client.ask("MEAS:CURR?")) == pytest.approx(0.2 / OHMS, rel=1e-4)
    volts, amps, status = fields(client.ask('READ? "defbuffer1", SOUR, READ, SOURSTAT'))
    assert volts == pytest.approx(0.2, rel=1e-4)
    assert amps == pytest.approx(0.2 / OHMS, rel=1e-4)
    assert int(status) & (LIMITED | OUTPUT_ON) == OUTPUT_ON
    assert client.ask("SOUR:VOLT:ILIM:TRIP?") == "0"
    assert client.errors() == []


def test_compliance_limits_the_current_and_says_so(client: Client, resistor: Resistor) -> None:
    client.do("SOUR:VOLT 1;VOLT:ILIM 1e-5;:OUTP 1")
    volts, amps, status = fields(client.ask('READ? "defbuffer1",SOUR,READ,SOURSTAT'))
    assert amps == pytest.approx(1e-5, rel=1e-4)
    assert volts == pytest.approx(1e-5 * OHMS, rel=1e-3)
    assert int(status) & LIMITED
    assert client.ask("SOUR:VOLT:ILIM:TRIP?;:SOUR:VOLT?") == "1;1.000000E+00"
    resistor.ohms = 1e6
    assert client.ask("SOUR:VOLT:ILIM:LEV:TRIPPED?") == "0"
    client.do("SOUR:VOLT:READ:BACK OFF")
    assert client.ask('READ? "defbuffer1",SOUR') == "1.000000E+00"


def test_the_pads_follow_every_change_and_stand_at_zero_when_off(client: Client, resistor: Resistor) -> None:
    client.do("SOUR:VOLT 0.5;VOLT:ILIM 1e-3")
    assert {volts for volts, _ in resistor.forced} == {0.0}
    client.do("OUTP ON")
    assert resistor.forced[-1] == (0.5, 1e-3)
    client.do("SOUR:VOLT -0.3")
    assert resistor.forced[-1] == (-0.3, 1e-3)
    client.do("SOUR:VOLT:ILIM 2e-3")
    assert resistor.forced[-1] == (-0.3, 2e-3)
    count = len(resistor.forced)
    client.do("SENS:CURR:NPLC 5;*CLS")
    assert len(resistor.forced) == count  # what changes nothing at the pads is no new pulse
    client.ask("READ?")
    assert len(resistor.forced) == count + 1
    for state in ("NORM", "HIMP", "ZERO", "GUAR"):
        client.do(f"OUTP ON;:OUTP:SMOD {state};:OUTP OFF")
        assert resistor.forced[-1][0] == 0.0
    assert client.ask("OUTP:VOLT:SMOD?;:OUTP:CURR:SMOD?") == "GUAR;GUAR"
    assert abs(float(client.ask("READ?"))) < 1e-9
    client.do("OUTP ON;*RST")
    assert resistor.forced[-1][0] == 0.0


@pytest.mark.parametrize(
    "change", ["SOUR:FUNC CURR", "ROUT:TERM REAR", "SENS:CURR:RSEN ON", "*RST"], ids=lambda change: change.split()[0]
)
def test_what_rewires_the_output_switches_it_off(client: Client, resistor: Resistor, change: str) -> None:
    client.do("SOUR:VOLT 0.5;:OUTP ON")
    assert client.ask(f"{change};:OUTP?") == "0"
    assert resistor.forced[-1][0] == 0.0


def test_overvoltage_protection_holds_the_pads(client: Client, resistor: Resistor) -> None:
    client.do("SOUR:VOLT:PROT PROT2;:SOUR:VOLT -15;:OUTP ON")
    assert client.ask("SOUR:VOLT:PROT:TRIP?;:SOUR:VOLT:PROT?") == "1;PROT2"
    assert resistor.forced[-1][0] == -2.0
    assert client.ask("SOUR:VOLT 1;VOLT:PROT:TRIP?") == "0"
    client.do("SOUR:VOLT:PROT PROT3")
    assert client.errors() == [-224]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("SOUR:VOLT 211", -222),
        ("SOUR:VOLT:ILIM 1.1", -222),
        ("SOUR:VOLT:ILIM 1e-10", -222),
        ("SOUR:VOLT:ILIM 0", -222),
        ("SOUR:VOLT:ILIM 1 V", -131),
        ("SOUR:VOLT 1 A", -131),
        ("SENS:CURR:NPLC 11", -222),
        ("SENS:CURR:RANG 2", -222),
        ("SENS:FUNC 'TEMP'", -224),
        ("OUTP:SMOD OPEN", -224),
        ("TRAC:CLE 'nowhere'", -224),
        ("TRAC:DATA? 1,2", -222),
        ("FETC?", -230),
        ("INIT", -221),
        ("SOUR:VOLT:RANG 2;:SOUR:VOLT 2.2", -222),
        ("SOUR:VOLT 15;VOLT:RANG 2", -221),
        ("SOUR:VOLT 50;VOLT:ILIM 0.2", -222),
        ("SOUR:VOLT:ILIM 0.2;:SOUR:VOLT 50", -222),
        ("SENS:CURR:RANG 1e-2;:SOUR:VOLT:ILIM 1e-6", -222),
        ("*LANG TSP", -224),
    ],
)
def test_what_the_instrument_cannot_do_is_refused(client: Client, message: str, code: int) -> None:
    client.do(message)
    assert client.errors() == [code]


def test_a_refused_limit_leaves_the_old_one(client: Client) -> None:
    client.do("SOUR:VOLT:ILIM 2e-5;ILIM 5")
    assert client.errors() == [-222]
    assert float(client.ask("SOUR:VOLT:ILIM?")) == 2e-5


@pytest.mark.parametrize(
    ("asked", "used"), [(1e-8, 1e-8), (1.05e-8, 1e-8), (1.1e-8, 1e-7), (5e-5, 1e-4), (0.05, 0.1), (1.05, 1.0)]
)
def test_a_fixed_range_is_the_lowest_that_fits(client: Client, asked: float, used: float) -> None:
    client.do(f"SENS:CURR:RANG {asked}")
    assert client.ask("SENS:CURR:RANG:AUTO?") == "0"
    assert float(client.ask("SENS:CURR:RANG?")) == used


def test_source_ranges_follow_the_level_until_they_are_fixed(client: Client) -> None:
    client.do("SOUR:VOLT 0.3")
    assert float(client.ask("SOUR:VOLT:RANG?")) == 2.0
    client.do("SOUR:VOLT:RANG:AUTO 0;:SOUR:VOLT:RANG 15")
    assert float(client.ask("SOUR:VOLT:RANG?")) == 20.0
    client.do("SOUR:VOLT 0.01")
    assert float(client.ask("SOUR:VOLT:RANG?")) == 20.0
    client.do("SOUR:VOLT:RANG:AUTO 1")
    assert float(client.ask("SOUR:VOLT:RANG?")) == 0.02


def test_a_reading_beyond_a_fixed_range_overflows_and_auto_range_finds_the_right_one(client: Client) -> None:
    client.do("SOUR:VOLT 1;VOLT:ILIM 1e-3;:SENS:CURR:RANG 1e-5;:OUTP ON")
    assert client.ask("READ?") == OVERFLOW
    assert int(client.ask('FETC? "defbuffer1",STAT')) & 1
    client.do("SENS:CURR:RANG:AUTO ON")
    assert float(client.ask("READ?")) == pytest.approx(1e-4, rel=1e-4)
    assert float(client.ask("SENS:CURR:RANG?")) == 1e-4
    client.do("SENS:CURR:RANG:AUTO:LLIM 1e-3")
    client.ask("READ?")
    assert float(client.ask("SENS:CURR:RANG?")) == 1e-3


def test_open_pads_draw_nothing_and_have_no_resistance(client: Client, resistor: Resistor) -> None:
    resistor.ohms = math.inf
    client.do("SOUR:VOLT 0.2;:OUTP ON")
    assert abs(float(client.ask("MEAS:CURR?"))) < 1e-11
    client.do("SENS:CURR:RANG 1e-4")
    assert client.ask("SENS:RES:RANG 2e5;:MEAS:RES?") == OVERFLOW


def noise_of(client: Client, settings: str, count: int = 400) -> float:
    client.do(f"{settings};:SENS:COUN {count};:TRAC:CLE")
    client.ask("READ?")
    return statistics.stdev(fields(client.ask(f'TRAC:DATA? 1,{count},"defbuffer1",READ')))


def test_noise_is_the_data_sheets_and_falls_with_integration_and_averaging(client: Client) -> None:
    client.do("SOUR:VOLT 0.1;VOLT:ILIM 1e-3;:OUTP ON;:FORM:ASC:PREC 12")
    # 400 samples: the standard deviation is known to 3.5 %, four of these are allowed
    data_sheet = noise_of(client, "SENS:CURR:RANG 1e-4;NPLC 1")
    assert data_sheet == pytest.approx(4e-10, rel=0.15)
    assert noise_of(client, "SENS:CURR:RANG 1e-2;NPLC 1") == pytest.approx(4e-8, rel=0.15)
    assert noise_of(client, "SENS:CURR:RANG 1e-4;NPLC 0.01") == pytest.approx(4e-9, rel=0.15)
    averaged = "SENS:CURR:RANG 1e-3;NPLC 1;AVER:COUN 4;:SENS:CURR:AVER ON"
    assert noise_of(client, averaged) == pytest.approx(2.5e-9, rel=0.15)


def test_readings_have_the_resolution_of_their_range(client: Client) -> None:
    client.do("SOUR:VOLT 0.1;VOLT:ILIM 1e-3;:SENS:CURR:RANG 1e-4;:FORM:ASC:PREC 16;:OUTP ON")
    steps = float(client.ask("READ?")) / 1e-10
    assert steps == pytest.approx(round(steps), abs=1e-6)


def test_the_same_seed_reads_the_same_and_another_one_does_not() -> None:
    def readings(seed: int) -> list[str]:
        with (
            Keithley2450Server(world_with(Resistor(OHMS)), np.random.default_rng(seed)) as server,
            Client(server) as client,
        ):
            client.do("SOUR:VOLT 0.1;:OUTP ON")
            return [client.ask("READ?") for _ in range(20)]

    assert readings(3) == readings(3)
    assert readings(3) != readings(4)


def test_a_current_source_stops_at_its_voltage_limit(client: Client, resistor: Resistor) -> None:
    client.do("SOUR:FUNC CURR;CURR -2e-5;CURR:VLIM 2;:SENS:FUNC 'VOLT';:OUTP ON")
    assert float(client.ask("READ?")) == pytest.approx(-0.2, rel=1e-3)
    assert client.ask("SOUR:CURR:VLIM:TRIP?") == "0"
    resistor.ohms = 1e6
    assert float(client.ask("READ?")) == pytest.approx(-2.0, rel=1e-3)
    assert client.ask("SOUR:CURR:VLIM:TRIP?;:SOUR:VOLT:ILIM:TRIP?") == "1;0"
    client.do("SOUR:CURR 0")
    assert resistor.forced[-1][0] == 0.0


def test_buffers_hold_readings_and_tell_about_them(client: Client) -> None:
    client.do("SOUR:VOLT 0.1;:OUTP ON;:TRIG:LOAD 'SimpleLoop', 5, 0, 'defbuffer1';:INIT;*WAI")
    assert client.ask("TRAC:ACT?") == "5"
    values = fields(client.ask("TRAC:DATA? 1, 5"))
    assert len(values) == 5
    assert float(client.ask("FETC?")) == values[-1]
    assert float(client.ask("TRAC:STAT:AVER?")) == pytest.approx(statistics.fmean(values), rel=1e-6)
    assert float(client.ask("TRAC:STAT:MAX?")) == max(values)
    assert float(client.ask("TRAC:STAT:MIN?")) == min(values)
    assert float(client.ask("TRAC:STAT:STDD?")) == pytest.approx(statistics.stdev(values), rel=1e-5)
    client.do("TRAC:MAKE 'mine', 10, STAN;:SENS:COUN 12;:TRAC:TRIG 'mine'")
    assert client.ask("TRAC:ACT? 'mine';POIN? 'mine'") == "10;10"
    reply = client.ask("FETC? 'mine', UNIT, SOURUNIT, STAT, DATE, TIME, REL")
    assert re.fullmatch(r"Amp DC,Volt DC,8,\d\d/\d\d/\d{4},\d\d:\d\d:\d\d,\d\.\d{6}E[+-]\d\d", reply)
    client.do("TRAC:POIN 20, 'mine';:TRAC:CLE")
    assert client.ask("TRAC:ACT?;ACT? 'mine';POIN? 'mine'") == "0;0;20"
    client.do("TRAC:DEL 'mine'")
    client.do("TRAC:ACT? 'mine'")
    client.do("TRAC:DEL 'defbuffer1'")
    assert client.errors() == [-224, -224]


def test_the_forms_in_which_other_drivers_write(client: Client) -> None:
    # As PyMeasure and QCoDeS write to this model.
    client.do("*RST;:stat:pres;:*CLS;")
    client.do(":SOUR:FUNC VOLT")
    client.do(":SOUR:VOLT:RANG:AUTO 1")
    client.do(":SOUR:VOLT:ILIM 0.0001")
    client.do(":SENS:FUNC 'CURR';:SENS:CURR:NPLC 1.000000;")
    client.do(":SENS:CURR:RANG:AUTO 1;")
    client.do(":SENS:VOLT:RANG:AUTO 0;:SENS:VOLT:RANG 21")
    client.do(":SENS:RES:RSENSE 0")
    client.do(":SOUR:VOLT:DEL 0.1")
    client.do(":SOUR:VOLT:DEL:AUTO 0")
    client.do(":SENS:CURR:AVER:TCON REP;:SENS:CURR:AVER:COUNT 5")
    client.do(":OUTP:CURR:SMOD HIMP")
    client.do(":TRAC:POIN 100;:TRAC:CLEAR;")
    client.do(":FORM:DATA ASCII")
    client.do(":ABOR")
    client.do(":SYST:BEEP 440, 0.5")
    client.do("*TRG")
    client.do(":SOUR:VOLT:LEV 0.1")
    client.do("OUTPUT ON")
    assert client.ask("OUTPUT?") == "1"
    assert float(client.ask(":READ?")) == pytest.approx(1e-5, rel=1e-3)
    client.do(':SENS:FUNC "CURR:DC"')
    client.do(":SENSe:CURRent:RSENse 0")
    client.do(":SENSe:CURRent:AZERo 1")
    client.do(":SENSe:AZERo:ONCE")
    client.do(":SENSe:COUNt 1")
    client.do(":SOURce:VOLTage:READ:BACK 1")
    client.do(":TRACe:MAKE 'buffer', 100, STANdard")
    client.do(":OUTP 1")
    assert float(client.ask(":MEASure? 'buffer'")) == pytest.approx(1e-5, rel=1e-3)
    assert client.ask(":TRACe:ACTual? 'buffer'") == "1"
    assert len(client.ask(":FETCh? 'buffer', READing,SOURce,RELative").split(",")) == 3
    assert client.ask(":SYSTem:LFRequency?") == "50"
    client.do(":TRACe:DELete 'buffer';:STATus:CLEar;:SYSTem:CLEar")
    assert client.errors() == []


def test_pyvisa_talks_to_it(resistor: Resistor) -> None:
    pyvisa = pytest.importorskip("pyvisa")
    manager = pyvisa.ResourceManager("@py")
    with (
        Keithley2450Server(world_with(resistor), np.random.default_rng(1)) as server,
        contextlib.closing(manager),
        contextlib.closing(manager.open_resource(server.resource)) as smu,
    ):
        smu.read_termination = smu.write_termination = "\n"
        smu.write("SOUR:VOLT 0.2;:OUTP ON")
        assert smu.query_ascii_values('READ? "defbuffer1",SOUR,READ') == pytest.approx([0.2, 0.2 / OHMS], rel=1e-3)
