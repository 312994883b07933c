"""Stands of the temperature source and the prober, and of what stands in front of a driver: guard and adapters."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from drivers.guests import CYCLES, GuestChannel, GuestSmu, GuestSmuKnobs, GuestSupply, knob
from drivers.interlocks import GuardedSmu
from drivers.limits import ChannelLimits, Range, SmuLimits
from drivers.mpi_sentio import MpiSentio
from drivers.prober_role import Die
from drivers.simulated.mpi_sentio import MpiSentioServer
from drivers.simulated.temptronic_ats545 import TemptronicAts545Server
from drivers.temptronic_ats545 import TemperatureLimits, TemptronicAts545
from tests.drivers.simulated_instruments import Resistor, world_with
from tests.faults.on_wire import SCPI_BASE, on_wire
from tests.faults.setter_tables import Numbers, OneOf, Only, Setter, Stand, Switch
from tests.faults.stands_smus import keithley_2450_stand
from tests.faults.stands_supplies import NO_CHANNELS

GUARDED = frozenset({"set_source", "set_integration", "set_output", "set_source_range"})
GUEST_V, GUEST_A = 10.0, 1.0


@contextmanager
def temptronic(envelope: float) -> Iterator[Stand]:
    """The temperature source on its wire."""
    low, high = max(-80.0, -80.0 * envelope), min(225.0, 225.0 * envelope)
    limits = TemperatureLimits(Range(-80.0 * envelope, 225.0 * envelope, "degrees Celsius", "campaign"))
    world = world_with(Resistor())
    with on_wire(TemptronicAts545Server(world.lock, lambda celsius: None)) as wire:
        source = TemptronicAts545(wire.link, limits, sleep=lambda seconds: None)
        celsius = Numbers(low, high, lambda value: 0.1)
        window, soak = Numbers(0.1, 9.9, lambda value: 0.1), Numbers(0.0, 9999.0, lambda value: 1.0)

        def widest() -> None:
            source.lowest_air, source.highest_air = -80.0, 225.0

        def attribute(name: str, allowed: Any) -> Setter:
            put, get = partial(setattr, source, name), partial(getattr, source, name)
            return Setter(name, put, allowed, get, prepare=widest)

        setters = [
            attribute("setpoint", celsius),
            attribute("window", window),
            attribute("soak", soak),
            attribute("lowest_air", Numbers(-80.0, 25.0, lambda value: 1.0)),
            attribute("highest_air", Numbers(25.0, 225.0, lambda value: 1.0)),
            attribute("setpoint_number", Numbers(0, 2, whole=True)),
            attribute("sensor_kind", Numbers(0, 2, whole=True)),
            attribute("sensor_mode", Numbers(0, 1, whole=True)),
            Setter(
                "set_temperature",
                source.set_temperature,
                celsius,
                partial(getattr, source, "setpoint"),
                "celsius",
                prepare=widest,
            ),
            Setter(
                "set_temperature",
                lambda value: source.set_temperature(25.0, value),
                window,
                partial(getattr, source, "window"),
                "window",
            ),
            Setter(
                "set_temperature",
                lambda value: source.set_temperature(25.0, 1.0, value),
                soak,
                partial(getattr, source, "soak"),
                "soak",
            ),
            Setter("set_flow", source.set_flow, Switch(), source.flow, prepare=partial(source.set_temperature, 25.0)),
            Setter("set_head", source.set_head, Switch(), source.head_down),
        ]
        yield Stand(source, (), setters, wire, SCPI_BASE)


ROUTE = tuple(Die(column, row) for row in (-1, 0, 1) for column in (-1, 0, 1))
NO_DIES: tuple[Any, ...] = (
    *(Die(2, 0), Die(0, -2), Die(10**9, 0), (0,), (0, 0, 0), (), 0, 1.0, math.nan, None, "00", "0:0", b"00", True),
    *((0.0, 0.0), (0, math.nan), ("0", "0"), (None, 0), (True, False), (np.True_, 0), (0, 1j), [[0], [0]], object()),
    *((math.inf, 0), (10**400, 0), (0, -(10**400)), {0: 0}, [None, None], (b"0", b"0"), np.array([0.0, 0.0])),
)
"""What is no die, and what is one that is not on the map."""


@contextmanager
def prober(envelope: float) -> Iterator[Stand]:
    """The prober on its wire; it has no range that an envelope could cut."""
    with on_wire(MpiSentioServer(threading.RLock(), ROUTE, lambda die: None)) as wire:
        driver = MpiSentio(wire.link)

        def separated() -> None:
            assert driver.dies == ROUTE
            driver.separate()

        steps = Setter(
            "step", driver.step, Only(NO_DIES), lambda: driver.position, drawn=OneOf(*ROUTE), prepare=separated
        )
        yield Stand(driver, (), [steps], wire, SCPI_BASE)


@contextmanager
def guarded_smu(envelope: float) -> Iterator[Stand]:
    """The guard in front of a 2450."""
    with keithley_2450_stand(envelope) as stand:
        guard = GuardedSmu(stand.driver, None, False)
        # The guard's own methods in the place of those of the unit behind it.
        puts = {
            ("set_source", "volts"): lambda value: guard.set_source(value, 1e-3),
            ("set_source", "compliance"): lambda value: guard.set_source(0.5, value),
            ("set_integration", ""): guard.set_integration,
            ("set_output", ""): guard.set_output,
            ("set_source_range", ""): guard.set_source_range,
        }
        setters = [
            replace(setter, put=puts[setter.name, setter.label]) for setter in stand.setters if setter.name in GUARDED
        ]
        yield Stand(guard, (), setters, stand.far_end)


class Foreigner:
    """A driver object of another library: its settings are attributes, and it checks nothing.

    Attributes:
        told: how often it was told something.
    """

    def __init__(self) -> None:
        vars(self).update(told=0, volts=0.0, amps=0.0, bound=0.0, bounded=False, on=False, cycles=1.0, id="A,B,1,2")

    def __setattr__(self, name: str, value: object) -> None:
        vars(self).update({name: value, "told": self.told + 1})

    def received(self) -> int:
        """How often it was told something."""
        return int(self.told)

    def last(self) -> bytes:
        """The voltage that it was told last."""
        return repr(self.volts).encode()


@contextmanager
def guest_supply(envelope: float) -> Iterator[Stand]:
    """A guest of two channels that are the same object."""
    guest = Foreigner()
    volts, amps = (Range(0.0, high, unit, "campaign") for high, unit in ((GUEST_V, "V"), (GUEST_A, "A")))
    names = ("volts", "amps", "on", "volts", "amps", "bound", "bounded")
    channel = GuestChannel(*(knob(guest, name) for name in names))
    supply = GuestSupply(guest, {1: channel, 2: channel}, {1: ChannelLimits(volts, amps)}, (1, 2))
    put_v, put_a = Numbers(0.0, GUEST_V), Numbers(0.0, GUEST_A)
    reads = partial(partial, getattr, guest)

    def at(name: str, *rest: Any) -> Setter:
        return Setter(name, lambda number: getattr(supply, name)(number, *rest), NO_CHANNELS, label="channel")

    def at_output() -> float:
        return float(guest.volts)

    setters = [
        Setter("set_voltage", partial(supply.set_voltage, 1), put_v, reads("volts"), volts=at_output),
        Setter("set_voltages", lambda value: supply.set_voltages({1: value}), put_v, reads("volts"), volts=at_output),
        Setter("set_current_limit", partial(supply.set_current_limit, 1), put_a, reads("amps")),
        Setter("set_voltage_limit", partial(supply.set_voltage_limit, 1), put_v, reads("bound")),
        Setter("set_output", partial(supply.set_output, 1), Switch(), reads("on")),
        at("set_voltage", 0.5),
        at("set_current_limit", 0.1),
        at("set_voltage_limit", 1.0),
        at("set_output", True),
        Setter("set_voltages", lambda number: supply.set_voltages({number: 0.5}), NO_CHANNELS, label="key"),
    ]
    yield Stand(supply, (), setters, guest)


@contextmanager
def guest_smu(envelope: float) -> Iterator[Stand]:
    """A guest that is a source-measure unit."""
    guest = Foreigner()
    names = ("volts", "amps", "on", "cycles", "volts", "amps")
    limits = SmuLimits(Range(-GUEST_V, GUEST_V, "V", "campaign"), Range(1e-9, GUEST_A, "A", "campaign"))
    smu = GuestSmu(guest, GuestSmuKnobs(*(knob(guest, name) for name in names)), limits)
    reads = partial(partial, getattr, guest)

    def at_output() -> float:
        return float(guest.volts)

    setters = [
        Setter(
            "set_source",
            lambda value: smu.set_source(value, 1e-3),
            Numbers(-GUEST_V, GUEST_V),
            reads("volts"),
            "volts",
            volts=at_output,
        ),
        Setter(
            "set_source",
            lambda value: smu.set_source(0.5, value),
            Numbers(1e-9, GUEST_A, decades=True),
            reads("amps"),
            "compliance",
        ),
        Setter("set_integration", smu.set_integration, Numbers(CYCLES.low, CYCLES.high, decades=True), reads("cycles")),
        Setter("set_output", smu.set_output, Switch(), reads("on")),
    ]
    # it leaves the range to the guest
    yield Stand(smu, (), setters, guest, frozenset({"set_source_range"}))


STANDS = {
    "TemptronicAts545": temptronic,
    "MpiSentio": prober,
    "GuardedSmu": guarded_smu,
    "GuestSupply": guest_supply,
    "GuestSmu": guest_smu,
}
