"""Every public part of a driver says what it does, beginning with a verb, and in which unit."""

from __future__ import annotations

import inspect

import pytest

from drivers.keithley_2230g import Keithley2230G, SupplyChannel
from drivers.keithley_2450 import Keithley2450
from drivers.scpi_settings import Setting
from drivers.visa_link import VisaLink

VERBS = {
    *("Ask", "Bring", "Check", "Close", "Control", "Count", "Decode", "Disconnect", "Apply", "Identify", "Keep"),
    *("Connect", "Measure", "Put", "Read", "Return", "Say", "Send", "Set", "Switch", "Tell"),
}
UNIT_OF_WORD = {"volts": "in V", "voltage": "in V", "amps": "in A", "current": "in A", "compliance_a": "in A"}


def public_parts(driver: type) -> list[tuple[str, str, str]]:
    """Name, docstring and signature of all that a user can call, read or set."""
    parts = []
    for name, part in inspect.getmembers_static(driver):
        if name.startswith("_") or not (isinstance(part, (Setting, property)) or inspect.isfunction(part)):
            continue
        signature = str(inspect.signature(part)) if inspect.isfunction(part) else ""
        parts.append((name, (part.__doc__ or "").strip(), signature))
    return parts


ALL = [
    (driver, *part)
    for driver in (Keithley2230G, SupplyChannel, Keithley2450, VisaLink)
    for part in public_parts(driver)
]


@pytest.mark.parametrize(("driver", "name", "doc", "signature"), ALL, ids=[f"{d.__name__}.{n}" for d, n, _, _ in ALL])
def test_it_begins_with_a_verb_and_names_the_unit(driver: type, name: str, doc: str, signature: str) -> None:
    assert doc, f"{driver.__name__}.{name} has no docstring"
    assert doc.split(maxsplit=1)[0].rstrip(".") in VERBS, doc
    for word, unit in UNIT_OF_WORD.items():
        if f"{word}:" in signature:
            assert unit in doc, f"{driver.__name__}.{name} does not say that {word} is {unit}"


def test_every_register_with_a_quantity_names_its_unit() -> None:
    for _, name, doc, _ in ALL:
        if name in ("voltage", "current_limit", "voltage_limit", "source_voltage", "compliance"):
            assert ", in V" in doc or ", in A" in doc, doc
