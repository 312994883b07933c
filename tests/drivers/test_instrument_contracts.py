"""Every new instrument driver: docstrings with verb and unit, a role, an envelope, fixed strings to switch off."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

from drivers import keysight_e36312a
from drivers.keithley_2230g import ChannelLimits
from drivers.keithley_2450 import SmuLimits
from drivers.keithley_2636b import Keithley2636B, SmuAttributes
from drivers.keysight_81160a import Keysight33500B, Keysight81160A
from drivers.keysight_81160a_registers import PulseLimits, Registers33500B, Registers81160A
from drivers.keysight_e36312a import KeysightE36312A
from drivers.limits import Range
from drivers.mpi_sentio import MpiSentio
from drivers.prober_role import Prober
from drivers.pulse_source_role import ProgrammedPulse, PulseSource, SetValue
from drivers.roles import Instrument, PowerSupply, SourceMeasureUnit
from drivers.temperature_role import TemperatureSource
from drivers.temptronic_ats545 import TemperatureLimits, TemptronicAts545
from drivers.tsp import TspAttributes, TspInstrument
from tests.drivers.test_driver_docstrings import UNIT_OF_WORD, VERBS, public_parts
from tests.drivers.transcript import TranscriptLink

ANY = Range(0.0, 1.0, "", "test")
DRIVERS: dict[str, tuple[Any, type]] = {
    "keysight_e36312a": (KeysightE36312A(TranscriptLink(), {1: ChannelLimits(ANY, ANY)}), PowerSupply),
    "keithley_2636b": (Keithley2636B(TranscriptLink(), SmuLimits(ANY, ANY)), SourceMeasureUnit),
    "keysight_81160a": (Keysight81160A(TranscriptLink(), PulseLimits(ANY, ANY, ANY), load_ohm=50.0), PulseSource),
    "keysight_33500b": (Keysight33500B(TranscriptLink(), PulseLimits(ANY, ANY, ANY), load_ohm=50.0), PulseSource),
    "mpi_sentio": (MpiSentio(TranscriptLink()), Prober),
    "temptronic_ats545": (TemptronicAts545(TranscriptLink(), TemperatureLimits(ANY)), TemperatureSource),
}
DOCUMENTED = (
    *(type(driver) for driver, _ in DRIVERS.values()),
    *(keysight_e36312a.SupplyChannel, keysight_e36312a.ChannelList, SmuAttributes, TspInstrument, TspAttributes),
    *(Registers81160A, Registers33500B, SetValue, ProgrammedPulse),
)
ALL = [(driver, *part) for driver in DOCUMENTED for part in public_parts(driver)]


@pytest.mark.parametrize(("driver", "name", "doc", "signature"), ALL, ids=[f"{d.__name__}.{n}" for d, n, _, _ in ALL])
def test_it_begins_with_a_verb_and_names_the_unit(driver: type, name: str, doc: str, signature: str) -> None:
    assert doc, f"{driver.__name__}.{name} has no docstring"
    assert doc.split(maxsplit=1)[0].rstrip(",.") in VERBS | {"Assign", "Print"}, doc
    for word, unit in {**UNIT_OF_WORD, "celsius": "degrees Celsius", "soak_s": "in s", "period_s": "in s"}.items():
        if f"{word}:" in signature:
            assert unit in doc, f"{driver.__name__}.{name} does not say that {word} is {unit}"


def test_every_register_with_a_quantity_names_its_unit() -> None:
    without = {
        *("output", "polarity", "waveform", "off_mode", "four_wire", "averaging", "average_count", "average_filter"),
        *("source_autorange", "measure_autorange", "source_function", "count", "limit_on", "trigger_source"),
        *("burst_mode", "burst_on", "voltage_limit_on", "setpoint_number", "sensor_kind", "sensor_mode"),
    }
    for driver, name, doc, signature in ALL:
        if doc.startswith("Control") and name not in without and not signature:
            assert any(f", in {unit}" in doc for unit in ("V", "A", "s", "ohm", "cycles", "degrees Celsius")), (
                driver,
                doc,
            )


@pytest.mark.parametrize(("driver", "role"), DRIVERS.values(), ids=DRIVERS)
def test_it_has_all_that_its_role_promises(driver: Any, role: type) -> None:
    for contract in (role, Instrument):
        for name, member in inspect.getmembers(contract, inspect.isfunction):
            if name.startswith("_"):
                continue
            assert inspect.getdoc(member), f"{contract.__name__}.{name} promises nothing"
            own = inspect.signature(getattr(type(driver), name))
            promised = inspect.signature(member)
            assert list(own.parameters)[: len(promised.parameters)] == list(promised.parameters)


@pytest.mark.parametrize(("driver", "role"), DRIVERS.values(), ids=DRIVERS)
def test_it_switches_off_with_fixed_strings(driver: Any, role: type) -> None:
    assert driver._off
    assert all(message.isascii() and message.isprintable() and "?" not in message for message in driver._off)


@pytest.mark.parametrize("limits", [ChannelLimits, SmuLimits, PulseLimits, TemperatureLimits])
def test_an_envelope_is_made_of_ranges(limits: Any) -> None:
    assert dataclasses.is_dataclass(limits)
    assert {field.type for field in dataclasses.fields(limits)} == {"Range"}
    assert limits.__dataclass_params__.frozen


@pytest.mark.parametrize("name", DRIVERS)
def test_it_has_a_transcript(name: str) -> None:
    driver = type(DRIVERS[name][0]).__name__
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert f"{driver}(link, " in tests
