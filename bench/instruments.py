"""Opening the instruments that a bench file names, each behind the file's limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from bench.config import BenchFile
from drivers.keithley_2230g import Keithley2230G
from drivers.keithley_2450 import Keithley2450
from drivers.keithley_2636b import Keithley2636B
from drivers.keysight_81160a import Keysight33500B, Keysight81160A
from drivers.keysight_81160a_registers import PulseLimits
from drivers.keysight_e36312a import KeysightE36312A
from drivers.limits import ChannelLimits, Range, SmuLimits
from drivers.mpi_sentio import MpiSentio
from drivers.prober_role import Prober
from drivers.pulse_source_role import PulseSource
from drivers.roles import Identity, PowerSupply, SourceMeasureUnit
from drivers.temperature_role import TemperatureSource
from drivers.temptronic_ats545 import TemperatureLimits, TemptronicAts545
from drivers.visa_link import VisaLink, open_visa

PADS_OHM = 1e6
"""What a pulse source is told that it drives: the direct-access pads. Told 50 ohm, it would double the voltage."""


class Resynchronising(Protocol):
    """An instrument whose link can be opened again after an unplug."""

    def resynchronise(self) -> Identity:
        """Clear or reopen the link, and identify the instrument again."""


class BenchSupply(PowerSupply, Resynchronising, Protocol):
    """A supply that can be reconnected."""


class BenchSmu(SourceMeasureUnit, Resynchronising, Protocol):
    """A source-measure unit that can be reconnected."""


SupplyMaker = Callable[[VisaLink, Mapping[int, ChannelLimits], str | None, Sequence[int]], BenchSupply]

SUPPLIES: Mapping[str, SupplyMaker] = {"keithley-2230g": Keithley2230G, "keysight-e36312a": KeysightE36312A}
SMUS: Mapping[str, Callable[[VisaLink, SmuLimits, str | None], BenchSmu]] = {
    "keithley-2450": Keithley2450,
    "keithley-2636b": Keithley2636B,
}


def open_supply(config: BenchFile) -> BenchSupply:
    """Open the supply of the rails. Raises LinkError when nobody answers there."""
    return supply_on(open_visa(config.supply.resource), config)


def supply_on(link: VisaLink, config: BenchFile) -> BenchSupply:
    """The supply at the far end of ``link``, behind the bench file's limits; nothing is sent."""
    section = config.supply
    current = Range(0.0, section.current_limit_a, "A", f"supply.current_limit_a of bench {config.name!r}")
    limits = {
        getattr(section.channels, rail): ChannelLimits(config.limit(f"{rail}_v", "V"), current)
        for rail in ("vdd", "vddc", "vddr")
    }
    # The core supply goes down last: CMOS must stay powered while the array rails fall.
    off_order = (section.channels.vddc, section.channels.vddr, section.channels.vdd)
    return SUPPLIES[section.driver](link, limits, section.serial, off_order)


def open_smu(config: BenchFile) -> BenchSmu | None:
    """Open the source-measure unit, or None where the bench has none."""
    return None if config.smu is None else smu_on(open_visa(config.smu.resource), config)


def smu_on(link: VisaLink, config: BenchFile) -> BenchSmu:
    """The source-measure unit at the far end of ``link``, behind the bench file's limits; nothing is sent.

    The bench file must have one.
    """
    section = config.smu
    assert section is not None
    limits = SmuLimits(config.limit("smu_voltage_v", "V"), config.limit("smu_compliance_a", "A"))
    return SMUS[section.driver](link, limits, section.serial)


def open_pulse_source(config: BenchFile) -> PulseSource | None:
    """Open the pulse source on the direct-access pads, or None where the bench has none."""
    section = config.pulse_source
    if section is None:
        return None
    limits = PulseLimits(
        config.limit("pulse_level_v", "V"), config.limit("pulse_width_s", "s"), config.limit("pulse_count", "pulses")
    )
    link = open_visa(section.resource)
    if section.driver == "keysight-33500b":
        return Keysight33500B(link, limits, section.serial, load_ohm=math.inf)
    return Keysight81160A(link, limits, section.serial, load_ohm=PADS_OHM)


def open_temperature(config: BenchFile) -> TemperatureSource | None:
    """Open the temperature source, or None where the bench has none."""
    section = config.temperature
    if section is None:
        return None
    limits = TemperatureLimits(config.limit("temperature_c", "degC"))
    return TemptronicAts545(open_visa(section.resource), limits, section.serial)


def open_prober(config: BenchFile) -> Prober | None:
    """Open the prober, or None where the bench has none; nothing moves."""
    section = config.prober
    return None if section is None else MpiSentio(open_visa(section.resource), section.serial)
