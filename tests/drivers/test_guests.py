"""Guests: other people's drivers behind our roles, with our limits in front and every setting read back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.chip import Chip
from drivers.errors import LimitError, ReadBackError, ReplyError, WrongInstrument
from drivers.framed.board import BoardLimits, FramedBoard
from drivers.framed.link import open_framed
from drivers.guests import GuestChannel, GuestSmu, GuestSmuKnobs, GuestSupply, Knob, knob
from drivers.limits import ChannelLimits, Range, SmuLimits
from drivers.operating_points import DirectPoint, OperatingPoints, PulsePoint, RailVoltages, SensePoint
from drivers.rails import SupplyRails
from drivers.roles import PowerSupply, SourceMeasureUnit
from drivers.simulated.bench import SimulatedBench
from drivers.simulated.world import Rails
from models.cells import Device, Polarity
from models.exceptions import BenchFailure, UserMistake
from tests.drivers.simulated_instruments import Client

LIMITS = {
    channel: ChannelLimits(Range(0.0, high, "V", f"limits of channel {channel}"), Range(0.0, 0.05, "A", "limits"))
    for channel, high in ((1, 5.5), (2, 5.0), (3, 1.5))
}
SMU_LIMITS = SmuLimits(Range(-0.5, 0.5, "V", "limits.smu_voltage_v"), Range(1e-9, 2e-3, "A", "limits.smu_compliance_a"))
BAD = (math.nan, math.inf, -math.inf, True, "1.0", None, -0.001, 5.001, 70.0)


class PropertyChannel:
    """A channel of the supply as PyMeasure has it: properties that send and ask, and check next to nothing."""

    def __init__(self, link: Client, number: int) -> None:
        self._link = link
        self._select = f"INST:SEL CH{number};"

    def ask(self, question: str) -> str:
        return self._link.ask(self._select + question)

    def write(self, command: str) -> None:
        self._link.send(self._select + command)

    @property
    def voltage_setpoint(self) -> float:
        return float(self.ask("VOLT?"))

    @voltage_setpoint.setter
    def voltage_setpoint(self, volts: float) -> None:
        self.write(f"VOLT {volts:g}")

    @property
    def current_limit(self) -> float:
        return float(self.ask("CURR?"))

    @current_limit.setter
    def current_limit(self, amps: float) -> None:
        self.write(f"CURR {amps:g}")

    @property
    def voltage_limit(self) -> float:
        return float(self.ask("VOLT:LIM?"))

    @voltage_limit.setter
    def voltage_limit(self, volts: float) -> None:
        self.write(f"VOLT:LIM {volts:g}")

    @property
    def voltage_limit_enabled(self) -> bool:
        return self.ask("VOLT:LIM:STAT?") == "1"

    @voltage_limit_enabled.setter
    def voltage_limit_enabled(self, on: bool) -> None:
        self.write(f"VOLT:LIM:STAT {on:d}")

    @property
    def voltage(self) -> float:
        return float(self.ask("MEAS:VOLT?"))

    @property
    def current(self) -> float:
        return float(self.ask("MEAS:CURR?"))


class PropertyGuest:
    """The supply as PyMeasure has it, on a link to the simulated one."""

    def __init__(self, link: Client) -> None:
        self.link = link
        self.ch_1, self.ch_2, self.ch_3 = (PropertyChannel(link, number) for number in (1, 2, 3))

    @property
    def id(self) -> str:
        return self.link.ask("*IDN?")

    def close(self) -> None:
        self.link.close()


def channel_of(guest: Any, number: int) -> GuestChannel:
    """What the settings of a channel are called in PyMeasure's Keithley2200.

    Its own ``output_enabled`` only permits a channel to be switched on: the switch is another command.
    """
    channel = getattr(guest, f"ch_{number}")
    return GuestChannel(
        voltage=knob(guest, f"ch_{number}.voltage_setpoint"),
        current_limit=knob(guest, f"ch_{number}.current_limit"),
        output=Knob(
            f"ch_{number} output",
            lambda: channel.ask("SOUR:CHAN:OUTP?").strip(),
            lambda on: channel.write(f"SOUR:CHAN:OUTP {on:d}"),
        ),
        measured_voltage=knob(guest, f"ch_{number}.voltage"),
        measured_current=knob(guest, f"ch_{number}.current"),
        voltage_limit=knob(guest, f"ch_{number}.voltage_limit"),
        voltage_limit_on=knob(guest, f"ch_{number}.voltage_limit_enabled"),
    )


def supply_of(guest: Any, **options: Any) -> GuestSupply:
    channels = {number: channel_of(guest, number) for number in (1, 2, 3)}
    return GuestSupply(guest, channels, LIMITS, (2, 1, 3), model="2230G", **options)


@pytest.fixture
def world() -> Iterator[SimulatedBench]:
    with SimulatedBench(11) as simulated:
        yield simulated


def property_guest(world: SimulatedBench) -> GuestSupply:
    return supply_of(PropertyGuest(Client(world.supply)))


def pymeasure_guest(world: SimulatedBench) -> GuestSupply:
    keithley = pytest.importorskip("pymeasure.instruments.keithley.keithley2200", reason="needs the extra 'guests'")
    guest = keithley.Keithley2200(
        world.supply.resource, visa_library="@py", read_termination="\n", write_termination="\n"
    )
    return supply_of(guest)


@pytest.fixture(params=[property_guest, pymeasure_guest], ids=["pymeasure-shaped", "pymeasure"])
def supply(request: pytest.FixtureRequest, world: SimulatedBench) -> Iterator[GuestSupply]:
    make: Callable[[SimulatedBench], GuestSupply] = request.param
    guest = make(world)
    yield guest
    guest.close()


def test_it_says_who_it_is_and_another_model_is_refused(supply: GuestSupply, world: SimulatedBench) -> None:
    identity = supply.identify()
    assert (identity.model, identity.serial) == ("2230G-30-1", "9200001")
    world.supply.wire.tamper = lambda reply: reply.replace(b"2230G-30-1", b"2231A-30-3")
    with pytest.raises(WrongInstrument, match="expected a 2230G"):
        supply.identify()


def test_settings_arrive_and_are_read_back(supply: GuestSupply, world: SimulatedBench) -> None:
    role: PowerSupply = supply
    role.set_current_limit(2, 0.05)
    role.set_voltage_limit(2, 5.0)
    role.set_output(2, True)
    role.set_voltages({2: 3.5})
    assert world.world.rails.vddc_v == pytest.approx(3.5)
    reading = role.measure()[1]
    assert reading.on
    assert reading.voltage_v == pytest.approx(3.5, abs=0.01)
    assert world.supply.instrument.execute(b"INST:SEL CH2;:VOLT:LIM:STAT?") == b"1"
    role.safe_off()
    assert world.world.rails == (0.0, 0.0, 0.0)
    assert not any(reading.on for reading in role.measure())


@pytest.mark.parametrize("volts", BAD)
def test_the_guest_never_hears_of_a_bad_voltage(supply: GuestSupply, world: SimulatedBench, volts: Any) -> None:
    heard: list[bytes] = []
    execute = world.supply.instrument.execute
    world.supply.instrument.execute = lambda line: (heard.append(line), execute(line))[1]  # type: ignore[method-assign]
    with pytest.raises(LimitError):
        supply.set_voltage(2, volts)
    with pytest.raises(LimitError):
        supply.set_voltages({1: 1.0, 2: volts})  # not even the good one before it
    with pytest.raises(LimitError):
        supply.check_voltages({2: volts})
    with pytest.raises(LimitError):
        supply.set_voltage_limit(2, volts)
    with pytest.raises(LimitError):
        supply.set_current_limit(2, volts)
    assert heard == []


def test_zero_is_a_value_and_minus_zero_too(supply: GuestSupply, world: SimulatedBench) -> None:
    supply.set_output(3, True)
    supply.set_voltage(3, 1.2)
    supply.set_voltage(3, -0.0)
    assert world.world.rails.vdd_v == 0.0


@pytest.mark.parametrize("channel", [0, 4, True, "1", None])
def test_a_channel_that_is_not_in_the_envelope_is_refused(supply: GuestSupply, channel: Any) -> None:
    with pytest.raises(LimitError, match="limits are given for 1, 2, 3"):
        supply.set_voltage(channel, 1.0)


@pytest.mark.parametrize("on", [1, 0, "on", None])
def test_an_output_is_switched_with_true_or_false_only(supply: GuestSupply, on: Any) -> None:
    with pytest.raises(LimitError, match="True"):
        supply.set_output(1, on)


def test_a_setting_that_was_not_taken_is_an_error(supply: GuestSupply, world: SimulatedBench) -> None:
    supply.set_voltage_limit(2, 2.0)
    with pytest.raises(ReadBackError, match=r"set to 3\.5 and reads back 0"):
        supply.set_voltage(2, 3.5)  # the instrument refuses it, and the guest does not notice


@pytest.mark.parametrize("reply", [b"9.9E37\n", b"nan\n", b"garbage\n", b"1.0, 2.0\n"])
def test_a_reading_that_is_no_number_is_an_error(supply: GuestSupply, world: SimulatedBench, reply: bytes) -> None:
    world.supply.wire.tamper = lambda _: reply
    with pytest.raises(BenchFailure):
        supply.measure()
    world.supply.wire.tamper = None


def test_an_exception_of_the_guest_is_a_failure_of_the_bench(supply: GuestSupply, world: SimulatedBench) -> None:
    supply.identify()
    world.supply.wire.disconnect_all()
    with pytest.raises(BenchFailure, match="guest .*voltage_setpoint"):
        supply.set_voltage(2, 1.0)
    with pytest.raises(BenchFailure, match="switch it off by hand"):
        supply.safe_off()


def test_safe_off_tries_every_channel_whatever_becomes_of_one(world: SimulatedBench) -> None:
    guest = PropertyGuest(Client(world.supply))
    supply = supply_of(guest)
    for channel in (1, 2, 3):
        supply.set_output(channel, True)
        supply.set_voltage(channel, 1.0)

    def refuse(command: str) -> None:
        raise RuntimeError("the channel is busy")

    guest.ch_2.write = refuse  # type: ignore[method-assign]
    with pytest.raises(BenchFailure, match="the channel is busy.*switch it off by hand"):
        supply.safe_off()
    assert world.world.rails.vddc_v == pytest.approx(1.0)
    assert (world.world.rails.vdd_v, world.world.rails.vddr_v) == (0.0, 0.0)
    supply.close()


def test_a_misspelt_setting_is_found_before_it_is_used(world: SimulatedBench) -> None:
    # To set it would only make a new attribute, and no instrument would hear of it.
    guest = PropertyGuest(Client(world.supply))
    with pytest.raises(UserMistake, match="PropertyGuest has no 'ch_1.voltage_set_point'"):
        knob(guest, "ch_1.voltage_set_point")
    with pytest.raises(UserMistake, match="ch_4"):
        knob(guest, "ch_4.voltage_setpoint")
    guest.close()


def test_limits_and_order_must_fit_the_channels(world: SimulatedBench) -> None:
    guest = PropertyGuest(Client(world.supply))
    channels = {number: channel_of(guest, number) for number in (1, 2)}
    with pytest.raises(LimitError, match="limits are given for channels"):
        GuestSupply(guest, channels, LIMITS, (1, 2))
    with pytest.raises(LimitError, match="order of switching off"):
        GuestSupply(guest, channels, {1: LIMITS[1]}, (1,))
    guest.close()


def test_a_chip_is_formed_and_read_with_a_guest_as_its_supply(supply: GuestSupply, world: SimulatedBench) -> None:
    form, sense = RailVoltages(1.2, 3.0, 3.0), RailVoltages(1.2, 1.2, 2.5)
    pulse = PulsePoint("FORM", form, 10e-6)
    points = OperatingPoints(
        pulse, pulse, pulse, pulse, SensePoint("SENSE", sense, 5e-6, 5e-6), DirectPoint("DIRECT", sense, 0.2, 1e-3)
    )
    rails = SupplyRails(
        supply,
        {"vdd_v": 3, "vddc_v": 2, "vddr_v": 1},
        current_limit_a=0.05,
        voltage_limits_v={"vdd_v": 1.5, "vddc_v": 5.0, "vddr_v": 5.5},
        settle_s=0.0,
        tolerance_v=0.05,
    )
    limits = BoardLimits(Range(1e-7, 1e-4, "s", "test"), Range(1, 1000, "pulses", "test"))
    with open_framed(world.board.port) as link:
        chip = Chip(FramedBoard(link, limits), rails, points, None)
        rails.prepare()
        chip.form(~chip.no_devices())
        assert chip.read().shape == (1, 32, 32)
        rails.off()
    assert (world.chip.resistance_ohm < 20e3).mean() > 0.95
    assert world.world.rails == (0.0, 0.0, 0.0)


# A source-measure unit as QCoDeS has it.


class Parameter:
    """A parameter as QCoDeS has it: called without a value it asks, with one it sets."""

    def __init__(self, ask: Callable[[], Any], tell: Callable[[Any], None] | None = None) -> None:
        self._ask, self._tell = ask, tell

    def __call__(self, *value: Any) -> Any:
        if not value:
            return self._ask()
        assert self._tell is not None
        return self._tell(*value)


class Part:
    """A submodule of an instrument."""


class ParameterGuest:
    """The 2450 as QCoDeS has it, on a link to the simulated one."""

    def __init__(self, link: Client) -> None:
        self.link = link
        self.source, self.sense = Part(), Part()
        self.source.voltage = self._number("SOUR:VOLT")  # type: ignore[attr-defined]
        self.source.limit = self._number("SOUR:VOLT:ILIM")  # type: ignore[attr-defined]
        self.sense.nplc = self._number("SENS:CURR:NPLC")  # type: ignore[attr-defined]
        self.sense.current = Parameter(lambda: float(link.ask("MEAS:CURR?")))  # type: ignore[attr-defined]
        self.output_enabled = Parameter(lambda: link.ask("OUTP?") == "1", lambda on: link.send(f"OUTP {on:d}"))
        link.send("SOUR:FUNC VOLT")
        link.send('SENS:FUNC "CURR"')

    def _number(self, header: str) -> Parameter:
        return Parameter(
            lambda: float(self.link.ask(f"{header}?")), lambda value: self.link.send(f"{header} {value:.12f}")
        )

    def get_idn(self) -> dict[str, str | None]:
        vendor, model, serial, firmware = (part.strip() for part in self.link.ask("*IDN?").split(","))
        return {"vendor": vendor, "model": model, "serial": serial, "firmware": firmware}

    def close(self) -> None:
        self.link.close()


@pytest.fixture
def smu(world: SimulatedBench) -> Iterator[GuestSmu]:
    guest = ParameterGuest(Client(world.smu))
    knobs = GuestSmuKnobs(
        voltage=knob(guest, "source.voltage"),
        compliance=knob(guest, "source.limit"),
        output=knob(guest, "output_enabled"),
        cycles=knob(guest, "sense.nplc"),
        measured_voltage=knob(guest, "source.voltage"),
        measured_current=knob(guest, "sense.current"),
    )
    unit = GuestSmu(guest, knobs, SMU_LIMITS, model="2450")
    yield unit
    unit.close()


def test_a_resistance_is_measured_through_callable_parameters(smu: GuestSmu, world: SimulatedBench) -> None:
    role: SourceMeasureUnit = smu
    assert role.identify().serial == "04500001"
    for rail, channel, volts in (("vdd", 3, 1.2), ("vddc", 2, 3.5), ("vddr", 1, 3.0)):
        world.supply.instrument.execute(f"INST:SEL CH{channel};:VOLT {volts};:SOUR:CHAN:OUTP 1".encode())
        assert getattr(world.world.rails, f"{rail}_v") == pytest.approx(volts)
    devices = world.chip.resistance_ohm > 0
    world.chip.pulse(Polarity.SET, devices, 10e-6, 1, Rails(1.2, 3.5, 3.0))
    world.chip.connect(0, 0, Device.BL)
    role.set_integration(1.0)
    role.set_source(0.2, 1e-3)
    role.set_output(True)
    reading = role.measure()
    assert reading.voltage_v / reading.current_a == pytest.approx(world.chip.resistance_ohm[0, 0, 0], rel=0.2)
    assert not reading.in_compliance
    role.set_source(0.2, 1e-6)
    assert role.measure().in_compliance
    role.safe_off()
    assert world.smu.instrument.execute(b"OUTP?") == b"0"
    with pytest.raises(BenchFailure, match="output is off"):
        role.measure()


def test_a_spot_leaves_the_output_off_even_when_its_reading_fails(smu: GuestSmu, world: SimulatedBench) -> None:
    for volts, compliance_a in ((0.2, 1e-3), (0.1, 1e-6), (0.3, 1e-4)):
        smu.check_source(volts, compliance_a)
        smu.set_source(volts, compliance_a)
        assert smu.spot().voltage_v == pytest.approx(volts, rel=1e-3)
        assert world.smu.instrument.execute(b"OUTP?") == b"0"
    readings = iter([b"nan\n"])
    world.smu.wire.tamper = lambda reply: next(readings, reply) if b"E-" in reply else reply
    with pytest.raises(ReplyError):
        smu.spot()
    assert world.smu.instrument.execute(b"OUTP?") == b"0"
    with pytest.raises(LimitError):
        smu.check_source(0.6, 1e-3)


@pytest.mark.parametrize(
    ("volts", "compliance_a"),
    [(0.6, 1e-3), (-0.6, 1e-3), (math.nan, 1e-3), (0.2, 0.0), (0.2, 5e-3), (0.2, math.inf), (True, 1e-3)],
)
def test_a_source_outside_the_envelope_is_never_set(
    smu: GuestSmu, world: SimulatedBench, volts: float, compliance_a: float
) -> None:
    before = world.smu.instrument.execute(b"SOUR:VOLT?"), world.smu.instrument.execute(b"SOUR:VOLT:ILIM?")
    with pytest.raises(LimitError):
        smu.set_source(volts, compliance_a)
    assert before == (world.smu.instrument.execute(b"SOUR:VOLT?"), world.smu.instrument.execute(b"SOUR:VOLT:ILIM?"))


def test_an_identity_with_a_part_missing_is_no_identity(smu: GuestSmu, world: SimulatedBench) -> None:
    world.smu.wire.tamper = lambda reply: b"KEITHLEY,MODEL 2450,,\n"
    with pytest.raises(ReplyError, match="not maker, model, serial"):
        smu.identify()
    world.smu.wire.tamper = None
