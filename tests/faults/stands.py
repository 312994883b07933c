"""Every driver on the wire of its simulated instrument, with a table of all that can be set through it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

import drivers
from drivers.chip import Chip
from drivers.rails import SupplyRails
from tests.faults import (
    stands_boards,
    stands_c2n,
    stands_chip,
    stands_others,
    stands_pulses,
    stands_smus,
    stands_supplies,
    stands_waveforms,
)
from tests.faults.setter_tables import Stand

StandMaker = Callable[[float], AbstractContextManager[Stand]]
"""Serves an instrument and opens its driver; the envelope is this multiple of the instrument's own ranges."""

STANDS: Mapping[str, StandMaker] = {
    **stands_supplies.STANDS,
    **stands_smus.STANDS,
    **stands_pulses.STANDS,
    **stands_waveforms.STANDS,
    **stands_boards.STANDS,
    **stands_c2n.STANDS,
    **stands_chip.STANDS,
    **stands_others.STANDS,
}
"""By the name of the driver's class."""

INSTRUMENT = ("identify", "safe_off", "close")
"""What every driver of an instrument has."""

ABOVE = (Chip, SupplyRails)
"""What the application uses instead of drivers: the same holds for them."""


def all_drivers() -> list[type]:
    """The classes in ``drivers`` that can set something; what others are built on is left out."""
    found = {kind for module in _modules() for kind in vars(module).values() if _drives(kind, module.__name__)}
    leaves = [kind for kind in found if not found & set(kind.__subclasses__())]
    return sorted((*leaves, *ABOVE), key=lambda kind: kind.__name__)


def _modules() -> Iterator[object]:
    for module in pkgutil.walk_packages(drivers.__path__, "drivers."):
        if not module.name.startswith("drivers.simulated"):
            yield importlib.import_module(module.name)


def _drives(kind: object, module: str) -> bool:
    return (
        inspect.isclass(kind)
        and kind.__module__ == module
        and all(hasattr(kind, name) for name in INSTRUMENT)
        and not inspect.isabstract(kind)
        and not getattr(kind, "_is_protocol", False)
    )
