"""Stands of the supplies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from drivers import keithley_2230g, keysight_e36312a
from drivers.keithley_2230g import ChannelLimits, Keithley2230G
from drivers.keysight_e36312a import KeysightE36312A
from drivers.limits import Range
from drivers.simulated.keithley_2230g import Keithley2230GServer
from drivers.simulated.keysight_e36312a import KeysightE36312AServer
from drivers.simulated.scpi import InstrumentServer
from drivers.simulated.world import RAIL_OF_CHANNEL, World
from tests.drivers.simulated_instruments import Resistor, world_with
from tests.faults.on_wire import SCPI_BASE, on_wire
from tests.faults.setter_tables import Numbers, Only, Setter, Stand, Switch

NO_CHANNELS = Only((0, 4, -1, 2.5, -0.0, True, False, None, "1", "CH1", b"1", math.nan, math.inf, 10**400))
READING = SCPI_BASE | {"current_limit", "voltage_limit"}


@dataclass(frozen=True)
class Model:
    """A model of supply.

    Attributes:
        bound_reach: its own bound of a voltage goes up to this multiple of the rating.
        steps: resolutions of the voltage, the current limit and the bound.
    """

    driver: Any
    server: type[InstrumentServer]
    rated_v: Mapping[int, float]
    rated_a: Mapping[int, float]
    bound_reach: float
    steps: tuple[float, float, float]


MODELS = (
    Model(
        Keithley2230G,
        Keithley2230GServer,
        keithley_2230g.RATED_V,
        keithley_2230g.RATED_A,
        1.0,
        (keithley_2230g.RESOLUTION_V, keithley_2230g.RESOLUTION_A, keithley_2230g.RESOLUTION_V),
    ),
    Model(
        KeysightE36312A,
        KeysightE36312AServer,
        keysight_e36312a.RATED_V,
        keysight_e36312a.RATED_A,
        keysight_e36312a.TRIP_REACH,
        (keysight_e36312a.RESOLUTION_V, keysight_e36312a.RESOLUTION_A, keysight_e36312a.TRIP_RESOLUTION_V),
    ),
)


@contextmanager
def supply(model: Model, envelope: float) -> Iterator[Stand]:
    """A supply on its wire; its envelope is this multiple of the rating."""
    world = world_with(Resistor())
    limits = {
        number: ChannelLimits(
            Range(0.0, envelope * model.rated_v[number], "V", "campaign"),
            Range(0.0, envelope * model.rated_a[number], "A", "campaign"),
        )
        for number in model.rated_v
    }
    with on_wire(model.server(world, np.random.default_rng(1))) as wire:
        driver = model.driver(wire.link, limits)
        setters = [each for number in limits for each in _of_channel(driver, number, model, envelope, world)]
        setters += _channel_arguments(driver)
        yield Stand(driver, (driver.channel(1),), setters, wire, READING)


def _of_channel(driver: Any, number: int, model: Model, envelope: float, world: World) -> list[Setter]:
    part, rail, other = driver.channel(number), f"{RAIL_OF_CHANNEL[number]}_v", number % 3 + 1
    step_v, step_a, step_bound = model.steps
    volts = Numbers(0.0, min(1.0, envelope) * model.rated_v[number], lambda value: step_v)
    amps = Numbers(0.0, min(1.0, envelope) * model.rated_a[number], lambda value: step_a)
    bound = Numbers(0.0, min(model.bound_reach, envelope) * model.rated_v[number], lambda value: step_bound)

    def free(on: bool) -> None:
        part.voltage = 0.0
        part.voltage_limit_on = False
        part.output = on

    def setter(name: str, put: Any, allowed: Numbers | Switch, read: str, sees_volts: bool = False) -> Setter:
        at_terminals = (lambda: float(getattr(world.rails, rail))) if sees_volts else None
        get = partial(getattr, part, read)
        return Setter(name, put, allowed, get, f"channel {number}", None, partial(free, sees_volts), at_terminals)

    return [
        setter("voltage", partial(setattr, part, "voltage"), volts, "voltage", True),
        setter("set_voltage", partial(driver.set_voltage, number), volts, "voltage", True),
        setter("set_voltages", lambda value: driver.set_voltages({other: 0.5, number: value}), volts, "voltage", True),
        setter("current_limit", partial(setattr, part, "current_limit"), amps, "current_limit"),
        setter("set_current_limit", partial(driver.set_current_limit, number), amps, "current_limit"),
        setter("voltage_limit", partial(setattr, part, "voltage_limit"), bound, "voltage_limit"),
        setter("set_voltage_limit", partial(driver.set_voltage_limit, number), bound, "voltage_limit"),
        setter("voltage_limit_on", partial(setattr, part, "voltage_limit_on"), Switch(), "voltage_limit_on"),
        setter("output", partial(setattr, part, "output"), Switch(), "output"),
        setter("set_output", partial(driver.set_output, number), Switch(), "output"),
    ]


def _channel_arguments(driver: Any) -> list[Setter]:
    """The channel as an argument of each method that has one."""
    rest: Mapping[str, tuple[Any, ...]] = {
        "set_voltage": (0.5,),
        "set_current_limit": (0.01,),
        "set_voltage_limit": (1.0,),
        "set_output": (True,),
        "clear_trip": (),
        "channel": (),
        "voltage": (),
        "output": (),
        "tripped": (),
    }

    def call(name: str, channel: object) -> None:
        getattr(driver, name)(channel, *rest[name])

    setters = [
        Setter(name, partial(call, name), NO_CHANNELS, label="channel") for name in rest if hasattr(driver, name)
    ]
    return [*setters, Setter("set_voltages", lambda value: driver.set_voltages({value: 0.5}), NO_CHANNELS, label="key")]


STANDS = {model.driver.__name__: partial(supply, model) for model in MODELS}
