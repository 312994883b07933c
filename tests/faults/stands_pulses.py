"""Stands of the pulse sources."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from drivers.keysight_81160a import Keysight33500B, Keysight81160A, KeysightPulseSource
from drivers.keysight_81160a_registers import (
    LEVEL_STEP_V,
    TIME_PART,
    BurstMode,
    Polarity,
    PulseLimits,
    TriggerSource,
    Waveform,
)
from drivers.limits import Range
from drivers.pulse_source_role import PulseShape
from drivers.simulated.keysight_81160a import Keysight33522BServer, Keysight81160AServer
from tests.drivers.simulated_instruments import Resistor, world_with
from tests.faults.on_wire import SCPI_BASE, on_wire
from tests.faults.setter_tables import Choices, Numbers, OneOf, Only, Setter, Stand, Switch

LOAD_OHM = 50.0
SHAPE = PulseShape(base_v=0.0, top_v=1.0, width_s=1e-4, leading_s=1e-6, trailing_s=1e-6)
LONG_S = 1e4
TALL_V = 2.0


@contextmanager
def pulse_source(
    driver: type[KeysightPulseSource], server: Any, source: TriggerSource, envelope: float
) -> Iterator[Stand]:
    """One channel of a generator on its wire."""
    ranges, reach = driver.ranges, min(1.0, envelope)
    limits = PulseLimits(
        Range(-envelope * ranges.window_v, envelope * ranges.window_v, "V", "campaign"),
        Range(ranges.width.low / envelope, envelope * ranges.width.high, "s", "campaign"),
        Range(ranges.count.low, envelope * ranges.count.high, "pulses", "campaign"),
    )
    resistor = Resistor()
    with on_wire(server(world_with(resistor))) as wire:
        generator = driver(wire.link, limits, load_ohm=LOAD_OHM)
        channel = generator.channel

        def numbers(allowed: Range, step: Callable[[float], float]) -> Numbers:
            return Numbers(allowed.low, allowed.high, step, decades=allowed.low > 0)

        def time_step(value: float) -> float:
            return ranges.time_step_s + TIME_PART * value

        def level_step(value: float) -> float:
            return LEVEL_STEP_V

        window = Numbers(-ranges.window_v, ranges.window_v, level_step)
        level = Numbers(-reach * ranges.window_v, reach * ranges.window_v, level_step)
        width = numbers(Range(max(ranges.width.low, limits.width.low), reach * ranges.width.high, "s", ""), time_step)
        edge, period, delay = (numbers(each, time_step) for each in (ranges.edge, ranges.period, ranges.delay))
        count = Numbers(ranges.count.low, reach * ranges.count.high, whole=True, decades=True)

        def pulse() -> None:
            # The registers were set behind the driver's back: it starts anew.
            generator.resynchronise()
            channel.limit_on = False
            channel.limit_high, channel.limit_low = ranges.window_v, -ranges.window_v
            generator.set_pulse(SHAPE)

        def long_period() -> None:
            pulse()
            channel.period = ranges.period.high

        def long_pulse() -> None:
            long_period()
            channel.width = LONG_S

        def short_pulse() -> None:
            pulse()
            channel.leading = channel.trailing = ranges.edge.low
            channel.width = max(width.low, 1.25 * ranges.edge.low)

        def attribute(name: str, allowed: Any, drawn: Any = None, prepare: Callable[[], None] = pulse) -> Setter:
            put, get = partial(setattr, channel, name), partial(getattr, channel, name)
            taken = (math.inf,) if name == "load" and ranges.open_load else ()
            return Setter(name, put, allowed, get, "", drawn, prepare, taken_too=taken)

        def within(low: float, high: float, step: Callable[[float], float], decades: bool = False) -> Numbers:
            return Numbers(low, high, step, decades=decades)

        def field(name: str, allowed: Numbers, drawn: Numbers | None = None, **others: float) -> Setter:
            def put(value: Any) -> None:
                generator.set_pulse(replace(SHAPE, **{**others, name: value}))

            def get() -> float:
                assert generator.programmed is not None
                return float(getattr(generator.programmed, name).actual)

            return Setter("set_pulse", put, allowed, get, name, drawn, pulse, at_rest if name == "base_v" else None)

        def at_rest() -> float:
            generator.set_output(True)
            volts = resistor.forced[-1][0]
            generator.set_output(False)
            return volts

        low_edge, smallest_v = ranges.edge.low, ranges.amplitude_v[0]
        tallest = TALL_V * reach
        setters = [
            attribute("waveform", Choices(Waveform)),
            attribute("load", Numbers(ranges.load.low, ranges.load.high, lambda ohm: 1e-3 * ohm, decades=True)),
            attribute("amplitude", Numbers(*ranges.amplitude_v, level_step), within(smallest_v, tallest, level_step)),
            attribute("offset", window, within(-tallest, tallest, level_step)),
            attribute("high", level, within(smallest_v, tallest, level_step)),
            attribute("low", level, within(-tallest, 1 - smallest_v, level_step)),
            attribute("limit_high", window, within(1.0, ranges.window_v, level_step)),
            attribute("limit_low", window, within(-ranges.window_v, 0.0, level_step)),
            attribute("limit_on", Switch()),
            attribute("polarity", Choices(Polarity)),
            attribute("width", width, within(2e-6, LONG_S, time_step, True), long_period),
            attribute("leading", edge, within(low_edge, ranges.edge.high, time_step, True), long_pulse),
            attribute("trailing", edge, within(low_edge, ranges.edge.high, time_step, True), long_pulse),
            attribute("period", period, within(1e-6, ranges.period.high, time_step, True), short_pulse),
            attribute("delay", delay),
            attribute("trigger_source", Choices(TriggerSource), OneOf(source)),
            attribute("count", count),
            attribute("output", Switch()),
            field("base_v", level, within(-tallest, 1 - smallest_v, level_step)),
            field("top_v", level, within(smallest_v, tallest, level_step)),
            field("width_s", width, within(2e-6, LONG_S, time_step, True)),
            field("leading_s", edge, within(low_edge, min(10.0, ranges.edge.high), time_step, True), width_s=100.0),
            field("trailing_s", edge, within(low_edge, min(10.0, ranges.edge.high), time_step, True), width_s=100.0),
            field("delay_s", delay),
            Setter(
                "set_pulse",
                lambda value: generator.set_pulse(SHAPE, value, 1e-3),
                count,
                lambda: generator.programmed and generator.programmed.count,
                "count",
                None,
                pulse,
            ),
            Setter(
                "set_pulse",
                lambda value: generator.set_pulse(SHAPE, 2, value),
                period,
                lambda: generator.programmed and generator.programmed.period_s.actual,
                "period",
                within(1e-3, 1e5, time_step, True),
                pulse,
            ),
            Setter("set_pulse", generator.set_pulse, Only((None, 1.0, (0.0, 1.0), "pulse", True)), label="shape"),
            Setter("set_output", generator.set_output, Switch(), partial(getattr, channel, "output"), "", None, pulse),
        ]
        if hasattr(channel, "burst_mode"):
            setters += [attribute("burst_mode", Choices(BurstMode)), attribute("burst_on", Switch())]
        yield Stand(generator, (channel,), setters, wire, SCPI_BASE | {"trigger", "triggering"})


STANDS = {
    "Keysight81160A": partial(pulse_source, Keysight81160A, Keysight81160AServer, TriggerSource.MANUAL),
    "Keysight33500B": partial(pulse_source, Keysight33500B, Keysight33522BServer, TriggerSource.BUS),
}
