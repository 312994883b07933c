"""Stands of the source-measure units."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from drivers import keithley_2450, keithley_2636b
from drivers.keithley_2450 import Keithley2450, SmuLimits
from drivers.keithley_2636b import Keithley2636B
from drivers.limits import Range
from drivers.simulated.keithley_2450 import Keithley2450Server
from drivers.simulated.keithley_2636b import Keithley2636BServer
from tests.drivers.simulated_instruments import Resistor, world_with
from tests.faults.on_wire import SCPI_BASE, on_wire
from tests.faults.setter_tables import Choices, FullScales, Numbers, OneOf, Setter, Stand, Switch

SWITCHES = ("four_wire", "source_autorange", "measure_autorange", "averaging")
READ_COMPLIANCE_A, LEVEL_V = 1e-3, 0.5


def _limits(module: Any, envelope: float) -> SmuLimits:
    lowest = module.AMPS.low * (1.0 if envelope >= 1 else 2.0)
    return SmuLimits(
        Range(envelope * module.VOLTS.low, envelope * module.VOLTS.high, "V", "campaign"),
        Range(lowest, envelope * module.AMPS.high, "A", "campaign"),
    )


def _step(part: float, ranges: Sequence[float], overrange: float) -> Callable[[float], float]:
    return lambda value: part * next((full for full in ranges if abs(value) <= overrange * full), ranges[-1])


def _levels(module: Any, envelope: float) -> tuple[Numbers, Numbers]:
    """What the source level and the compliance may be, with their resolutions."""
    limits, reach = _limits(module, envelope), min(1.0, envelope)
    volts = Numbers(
        reach * module.VOLTS.low,
        reach * module.VOLTS.high,
        _step(module.VOLTAGE_STEP, module.VOLTAGE_RANGES, module.OVERRANGE),
    )
    amps = Numbers(
        limits.compliance.low,
        reach * module.AMPS.high,
        _step(module.CURRENT_STEP, module.CURRENT_RANGES, module.OVERRANGE),
        decades=True,
    )
    return volts, amps


def _role(
    module: Any,
    driver: Any,
    table: Any,
    ask: Callable[[str], float],
    ready: Callable[[], None],
    resistor: Resistor,
    envelope: float,
) -> list[Setter]:
    """The setters that all source-measure units have; ``table`` holds their registers."""
    volts, amps = _levels(module, envelope)
    at_terminals = partial(_forced, resistor)
    level, compliance = (partial(getattr, table, name) for name in ("source_voltage", "compliance"))
    ranges = FullScales(
        module.MEASURED_AMPS.low,
        module.MEASURED_AMPS.high,
        decades=True,
        scales=module.CURRENT_RANGES,
        overrange=module.OVERRANGE,
    )
    sources = FullScales(module.VOLTS.low, module.VOLTS.high, scales=module.VOLTAGE_RANGES, overrange=module.OVERRANGE)
    cycles = Numbers(module.CYCLES.low, module.CYCLES.high, lambda value: 1e-3, decades=True)
    averages = Numbers(module.AVERAGES.low, module.AVERAGES.high, whole=True)
    set_source = driver.set_source
    return [
        Setter(
            "set_source",
            lambda value: set_source(value, READ_COMPLIANCE_A),
            volts,
            level,
            "volts",
            None,
            ready,
            at_terminals,
        ),
        Setter("set_source", lambda value: set_source(LEVEL_V, value), amps, compliance, "compliance", None, ready),
        Setter(
            "source_voltage", partial(setattr, table, "source_voltage"), volts, level, "", None, ready, at_terminals
        ),
        Setter("compliance", partial(setattr, table, "compliance"), amps, compliance, prepare=ready),
        Setter("set_output", driver.set_output, Switch(), partial(getattr, table, "output"), prepare=ready),
        Setter("output", partial(setattr, table, "output"), Switch(), partial(getattr, table, "output"), prepare=ready),
        Setter("set_integration", driver.set_integration, cycles, partial(ask, "cycles")),
        Setter("set_averaging", driver.set_averaging, averages, partial(ask, "averages")),
        Setter("set_measure_range", driver.set_measure_range, ranges, partial(ask, "range"), taken_too=(None,)),
        Setter(
            "set_source_range",
            driver.set_source_range,
            sources,
            partial(ask, "source range"),
            prepare=ready,
            taken_too=(None,),
        ),
    ]


def _forced(resistor: Resistor) -> float:
    return resistor.forced[-1][0]


@contextmanager
def keithley_2450_stand(envelope: float) -> Iterator[Stand]:
    """A 2450 on its wire."""
    resistor = Resistor()
    with on_wire(Keithley2450Server(world_with(resistor), np.random.default_rng(1))) as wire:
        smu = Keithley2450(wire.link, _limits(keithley_2450, envelope))
        headers = {
            "cycles": "SENS:CURR:NPLC?",
            "averages": "SENS:CURR:AVER:COUN?",
            "range": "SENS:CURR:RANG?",
            "source range": "SOUR:VOLT:RANG?",
        }

        def ready() -> None:
            smu.set_output(False)
            smu.set_measure_range(None)
            smu.set_source_range(None)
            smu.set_source(0.0, READ_COMPLIANCE_A)
            smu.set_output(True)

        setters = _role(keithley_2450, smu, smu, lambda what: float(wire.ask(headers[what])), ready, resistor, envelope)
        for name, allowed in (
            ("off_mode", Choices(keithley_2450.OffMode)),
            ("four_wire", Switch()),
            ("terminals", Choices(keithley_2450.Terminals)),
        ):
            setters.append(
                Setter(name, partial(setattr, smu, name), allowed, partial(getattr, smu, name), prepare=ready)
            )
        yield Stand(smu, (), setters, wire, SCPI_BASE)


@contextmanager
def keithley_2636b_stand(envelope: float) -> Iterator[Stand]:
    """Unit A of a 2636B on its wire."""
    resistor = Resistor()
    with on_wire(Keithley2636BServer(world_with(resistor), np.random.default_rng(1))) as wire:
        smu = Keithley2636B(wire.link, _limits(keithley_2636b, envelope))
        unit = smu.attributes
        registers = {
            "cycles": "cycles",
            "averages": "average_count",
            "range": "measure_range",
            "source range": "source_range",
        }

        def ready() -> None:
            smu.set_output(False)
            unit.source_function = keithley_2636b.SourceFunction.VOLTAGE
            smu.set_measure_range(None)
            smu.set_source_range(None)
            smu.set_source(0.0, READ_COMPLIANCE_A)
            smu.set_output(True)

        def attribute(name: str, allowed: Any, drawn: Numbers | None = None) -> Setter:
            put, get = partial(setattr, unit, name), partial(getattr, unit, name)
            return Setter(name, put, allowed, get, drawn=drawn, prepare=ready)

        module = keithley_2636b
        setters = _role(
            module, smu, unit, lambda what: float(getattr(unit, registers[what])), ready, resistor, envelope
        )
        setters += [
            attribute("source_function", Choices(module.SourceFunction)),
            attribute("off_mode", Choices(module.OffMode)),
            attribute("average_filter", Choices(module.Filter)),
            *(attribute(name, Switch()) for name in SWITCHES),
            # A full scale reads back as such only when it is one.
            attribute("source_range", Numbers(module.VOLTS.low, module.VOLTS.high), OneOf(*module.VOLTAGE_RANGES)),
            attribute(
                "measure_range",
                Numbers(module.MEASURED_AMPS.low, module.MEASURED_AMPS.high),
                OneOf(*module.CURRENT_RANGES),
            ),
            attribute("cycles", Numbers(module.CYCLES.low, module.CYCLES.high, lambda value: 1e-4, decades=True)),
            attribute("average_count", Numbers(module.AVERAGES.low, module.AVERAGES.high, whole=True)),
            attribute("count", Numbers(module.AVERAGES.low, module.AVERAGES.high, whole=True)),
        ]
        yield Stand(smu, (unit,), setters, wire, SCPI_BASE)


STANDS = {"Keithley2450": keithley_2450_stand, "Keithley2636B": keithley_2636b_stand}
