"""The strict drivers against the simulated instruments, through PyVISA and real sockets."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from drivers.errors import (
    InstrumentError,
    LimitError,
    LinkError,
    LinkTimeout,
    ReadBackError,
    ReplyError,
    WrongInstrument,
)
from drivers.keithley_2230g import ChannelLimits, Keithley2230G
from drivers.keithley_2450 import Keithley2450, OffMode, SmuLimits, Terminals
from drivers.limits import Range
from drivers.simulated.keithley_2230g import Keithley2230GServer
from drivers.simulated.keithley_2450 import Keithley2450Server
from drivers.simulated.scpi import InstrumentServer
from drivers.simulated.world import Rails, World
from drivers.visa_link import VisaLink, open_visa
from models.exceptions import BenchFailure
from tests.drivers.simulated_instruments import Resistor, world_with

LIMITS = {n: ChannelLimits(Range(0.0, 5.5, "V", "test"), Range(0.0, 1.0, "A", "test")) for n in (1, 2, 3)}
SMU_LIMITS = SmuLimits(Range(-3.0, 3.0, "V", "test"), Range(1e-9, 0.1, "A", "test"))
OHMS = 10e3


@pytest.fixture
def resistor() -> Resistor:
    return Resistor(OHMS)


@pytest.fixture
def world(resistor: Resistor) -> World:
    return world_with(resistor)


@pytest.fixture
def supply_server(world: World) -> Iterator[Keithley2230GServer]:
    with Keithley2230GServer(world, np.random.default_rng(1)) as server:
        yield server


@pytest.fixture
def smu_server(world: World) -> Iterator[Keithley2450Server]:
    with Keithley2450Server(world, np.random.default_rng(2)) as server:
        yield server


@pytest.fixture
def supply(supply_server: Keithley2230GServer) -> Iterator[Keithley2230G]:
    with open_visa(supply_server.resource, timeout_s=2.0) as link:
        yield Keithley2230G(link, LIMITS)


@pytest.fixture
def smu(smu_server: Keithley2450Server) -> Iterator[Keithley2450]:
    with open_visa(smu_server.resource, timeout_s=2.0) as link:
        yield Keithley2450(link, SMU_LIMITS)


def switch_on(supply: Keithley2230G, volts: dict[int, float]) -> None:
    supply.set_voltages(volts)
    for channel in volts:
        supply.set_output(channel, True)


# Supply


def test_the_rails_stand_at_what_was_set(supply: Keithley2230G, world: World) -> None:
    assert supply.identify().model == "2230G-30-1"
    switch_on(supply, {3: 1.2, 1: 5.0, 2: 4.5})
    assert world.rails == Rails(vdd_v=1.2, vddc_v=4.5, vddr_v=5.0)
    readings = supply.measure()
    assert [reading.on for reading in readings] == [True, True, True]
    assert [reading.voltage_v for reading in readings] == pytest.approx([5.0, 4.5, 1.2], abs=2e-3)
    assert (supply.voltage(1), supply.output(1), supply.voltage(3)) == (5.0, True, 1.2)


def test_safe_off_brings_every_rail_to_zero(supply: Keithley2230G, world: World) -> None:
    switch_on(supply, {3: 1.2, 1: 5.0, 2: 4.5})
    supply.safe_off()
    assert world.rails == Rails(0.0, 0.0, 0.0)
    assert [reading.on for reading in supply.measure()] == [False, False, False]
    assert [supply.voltage(channel) for channel in (1, 2, 3)] == [0.0, 0.0, 0.0]


def test_safe_off_lets_the_core_supply_fall_last(supply: Keithley2230G, resistor: Resistor) -> None:
    switch_on(supply, {3: 1.2, 1: 5.0, 2: 4.5})
    resistor.rails.clear()
    supply.safe_off()
    assert resistor.rails == [Rails(1.2, 0.0, 5.0), Rails(1.2, 0.0, 0.0), Rails(0.0, 0.0, 0.0)]


def test_the_instruments_own_limits_are_programmed_and_hold(
    supply: Keithley2230G, supply_server: Keithley2230GServer
) -> None:
    supply.set_voltage_limit(3, 1.5)
    supply.set_current_limit(3, 0.25)
    assert (supply.voltage_limit(3), supply.current_limit(3)) == (1.5, 0.25)
    with pytest.raises(InstrumentError, match="-222"):
        supply.set_voltage(3, 1.6)
    supply.set_voltage(3, 1.4)


def test_a_thousand_random_voltages_read_back(supply: Keithley2230G) -> None:
    generator = np.random.default_rng(3)
    for volts in generator.uniform(0.0, 5.5, 1000):
        supply.set_voltage(1, float(volts))


def test_tiny_voltages_are_zero_to_the_instrument(supply: Keithley2230G) -> None:
    for volts in (5e-324, 1e-12, 4.9e-4):
        supply.set_voltage(1, volts)
        assert supply.voltage(1) == 0.0


def test_a_refused_voltage_moves_nothing(supply: Keithley2230G, resistor: Resistor) -> None:
    switch_on(supply, {1: 2.0})
    resistor.rails.clear()
    for volts in (5.6, -0.1, math.nan, math.inf, True, "1"):
        with pytest.raises(LimitError):
            supply.set_voltages({1: 1.0, 2: volts})  # type: ignore[dict-item]
    assert resistor.rails == []


def test_errors_left_behind_by_others_are_not_blamed_on_us(supply_server: Keithley2230GServer) -> None:
    with open_visa(supply_server.resource) as link:
        link.write("NONSENSE")
    with open_visa(supply_server.resource) as link:
        Keithley2230G(link, LIMITS).set_voltage(1, 1.0)


def test_another_instrument_at_the_address(smu_server: Keithley2450Server) -> None:
    with (
        open_visa(smu_server.resource) as link,
        pytest.raises(WrongInstrument, match=r"2450.*expected a Keithley 2230G"),
    ):
        Keithley2230G(link, LIMITS).identify()


# Faults on the wire


def reply_once(server: InstrumentServer, spoil: Callable[[bytes], bytes | None]) -> None:
    """Spoil the next reply, and no other."""
    pending = [True]

    def tamper(reply: bytes) -> bytes | None:
        return spoil(reply) if pending and pending.pop() else reply

    server.wire.tamper = tamper


@pytest.mark.parametrize(
    "spoil",
    [
        lambda reply: b"garbage\n",
        lambda reply: b"\n",
        lambda reply: reply + reply,
        lambda reply: bytes([reply[0] ^ 0x80]) + reply[1:],
        lambda reply: b"9.9E37\n",
        lambda reply: b"1.0,2.0\n",
        lambda reply: b"NAN\n",
    ],
    ids=["garbled", "empty", "doubled", "bit flip", "overflow", "two values", "nan"],
)
def test_a_spoilt_reply_is_never_a_number(
    supply: Keithley2230G, supply_server: Keithley2230GServer, spoil: Callable[[bytes], bytes | None]
) -> None:
    supply.set_voltage(1, 1.5)
    reply_once(supply_server, spoil)
    with pytest.raises(ReplyError):
        supply.voltage(1)
    supply.resynchronise()
    assert supply.voltage(1) == 1.5


@pytest.mark.parametrize("spoil", [lambda reply: None, lambda reply: reply[:3]], ids=["lost", "cut"])
def test_a_missing_reply_is_a_timeout_and_then_a_refusal(
    supply_server: Keithley2230GServer, spoil: Callable[[bytes], bytes | None]
) -> None:
    with open_visa(supply_server.resource, timeout_s=0.2) as link:
        supply = Keithley2230G(link, LIMITS)
        supply.set_voltage(1, 1.5)
        reply_once(supply_server, spoil)
        with pytest.raises(LinkTimeout):
            supply.voltage(1)
        with pytest.raises(LinkError, match="out of step"):
            supply.set_voltage(1, 2.0)
        supply.resynchronise()
        assert supply.voltage(1) == 1.5


def test_safe_off_on_a_link_out_of_step(supply_server: Keithley2230GServer, world: World) -> None:
    with open_visa(supply_server.resource, timeout_s=0.2) as link:
        supply = Keithley2230G(link, LIMITS)
        switch_on(supply, {1: 5.0})
        reply_once(supply_server, lambda reply: None)
        with pytest.raises(LinkTimeout):
            supply.measure()
        supply.safe_off()
        assert world.rails == Rails(0.0, 0.0, 0.0)
        assert supply.output(1) is False


def test_safe_off_after_the_connection_was_cut(
    supply: Keithley2230G, supply_server: Keithley2230GServer, world: World
) -> None:
    switch_on(supply, {1: 5.0})
    supply_server.wire.disconnect_all()
    supply.safe_off()
    assert world.rails == Rails(0.0, 0.0, 0.0)


def test_safe_off_overtakes_a_thread_whose_answer_never_comes(
    supply: Keithley2230G, supply_server: Keithley2230GServer, world: World
) -> None:
    switch_on(supply, {1: 5.0})
    lost = threading.Event()

    def lose(reply: bytes) -> None:
        lost.set()

    reply_once(supply_server, lose)
    outcome: list[BenchFailure] = []

    def work() -> None:
        try:
            supply.measure()
        except BenchFailure as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert lost.wait(5.0)
    supply.safe_off()
    assert world.rails == Rails(0.0, 0.0, 0.0)
    thread.join(5.0)
    assert isinstance(outcome[0], LinkError)


def test_safe_off_of_an_instrument_that_hangs_is_not_confirmed(
    supply_server: Keithley2230GServer, world: World
) -> None:
    with open_visa(supply_server.resource, timeout_s=0.2) as link:
        supply = Keithley2230G(link, LIMITS)
        switch_on(supply, {1: 5.0})
        supply_server.wire.tamper = lambda reply: None
        with pytest.raises(LinkTimeout):
            supply.safe_off()


def test_safe_off_of_an_instrument_that_is_gone(supply: Keithley2230G, supply_server: Keithley2230GServer) -> None:
    supply.identify()
    supply_server.stop()
    with pytest.raises(LinkError):
        supply.safe_off()


def test_a_power_cycled_instrument_is_prepared_again(supply: Keithley2230G, supply_server: Keithley2230GServer) -> None:
    switch_on(supply, {1: 5.0})
    supply_server.instrument.power_on()
    assert supply.output(1) is False
    assert supply.voltage(1) == 0.0


def test_threads_share_an_instrument(supply: Keithley2230G) -> None:
    """Each thread selects its own channel: without the lock they would set each other's."""
    wrong: list[object] = []

    def work(channel: int) -> None:
        try:
            for step in range(100):
                volts = channel + step / 1000
                supply.set_voltage(channel, volts)
                if supply.voltage(channel) != pytest.approx(volts, abs=1e-9):
                    wrong.append((channel, step))
        except BenchFailure as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(channel,)) for channel in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert wrong == []


# Source-measure unit


def test_a_resistor_is_measured(smu: Keithley2450, smu_server: Keithley2450Server) -> None:
    smu.set_source(0.2, 1e-4)
    smu.set_output(True)
    reading = smu.measure()
    assert reading.voltage_v / reading.current_a == pytest.approx(OHMS, rel=1e-3)
    assert reading.in_compliance is False
    assert not smu.in_compliance
    smu.set_output(False)


def test_the_first_exchange_takes_over_what_others_left_on(smu_server: Keithley2450Server, resistor: Resistor) -> None:
    with open_visa(smu_server.resource) as link:
        link.write("SOUR:FUNC VOLT;:SOUR:VOLT 2;:OUTP 1")
        assert link.query("OUTP?") == "1"
    with open_visa(smu_server.resource) as link:
        smu = Keithley2450(link, SMU_LIMITS)
        smu.identify()
        assert resistor.forced[-1][0] == 0.0
        assert smu.output is False
        smu.set_output(True)
        assert resistor.forced[-1][0] == 0.0


def test_compliance_limits_the_current_and_is_reported(smu: Keithley2450) -> None:
    smu.set_source(1.0, 1e-5)
    smu.set_output(True)
    reading = smu.measure()
    assert reading.in_compliance
    assert reading.current_a == pytest.approx(1e-5, rel=1e-2)
    assert reading.voltage_v == pytest.approx(0.1, rel=1e-2)
    assert smu.in_compliance


def test_weak_currents_are_averaged(smu: Keithley2450, resistor: Resistor) -> None:
    resistor.ohms = 1e9
    smu.set_integration(10.0)
    smu.set_averaging(100)
    smu.set_source(0.2, 1e-6)
    smu.set_output(True)
    assert smu.measure().current_a == pytest.approx(2e-10, rel=1e-2)


def test_a_current_beyond_a_fixed_range_is_an_error_not_a_number(smu: Keithley2450) -> None:
    smu.set_measure_range(1e-6)
    smu.set_source_range(2.0)
    smu.set_source(1.0, 1e-3)
    smu.set_output(True)
    with pytest.raises(ReplyError, match="beyond the instrument's range"):
        smu.measure()
    smu.set_measure_range(None)
    smu.set_source_range(None)
    assert smu.measure().current_a == pytest.approx(1e-4, rel=1e-2)


def test_a_reading_with_the_output_off_is_refused(smu: Keithley2450) -> None:
    smu.set_source(0.2, 1e-4)
    with pytest.raises(BenchFailure, match="output was off"):
        smu.measure()


def test_random_sources_read_back(smu: Keithley2450) -> None:
    generator = np.random.default_rng(4)
    for volts, exponent in zip(generator.uniform(-3.0, 3.0, 300), generator.uniform(-9.0, -1.0, 300), strict=True):
        smu.set_source(float(volts), float(10.0**exponent))


def test_a_compliance_too_small_for_a_fixed_range_is_raised(smu: Keithley2450) -> None:
    smu.set_measure_range(1e-2)
    with pytest.raises((InstrumentError, ReadBackError)):
        smu.set_source(0.2, 1e-6)


def test_wiring_and_off_mode(smu_server: Keithley2450Server) -> None:
    with open_visa(smu_server.resource) as link:
        smu = Keithley2450(link, SMU_LIMITS, off_mode=OffMode.HIGH_IMPEDANCE, four_wire=True, terminals=Terminals.REAR)
        smu.identify()
        assert (smu.off_mode, smu.four_wire, smu.terminals) == (OffMode.HIGH_IMPEDANCE, True, Terminals.REAR)


def test_the_unit_is_made_safe(smu: Keithley2450, resistor: Resistor) -> None:
    smu.set_source(1.0, 1e-3)
    smu.set_output(True)
    assert resistor.forced[-1][0] == 1.0
    smu.safe_off()
    assert resistor.forced[-1][0] == 0.0
    assert (smu.output, smu.source_voltage) == (False, 0.0)


def test_the_units_link_comes_back_with_its_settings_and_its_output_off(
    smu: Keithley2450, smu_server: Keithley2450Server
) -> None:
    smu.set_integration(0.1)
    smu.set_source(1.0, 1e-3)
    smu.set_output(True)
    smu_server.wire.disconnect_all()
    smu_server.instrument.power_on()
    with pytest.raises(LinkError):
        smu.measure()
    smu.resynchronise()
    assert smu.output is False
    assert isinstance(smu.link, VisaLink)
    assert float(smu.link.query("SENS:CURR:NPLC?")) == 0.1
