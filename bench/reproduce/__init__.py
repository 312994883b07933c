"""The systems of the source papers, run again: our figures beside the published ones.

Each system is a module of this package with a :class:`~bench.reproduce.frame.System` called ``SYSTEM``. It is imported
only when it is asked for, since most of them import PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from bench.reproduce.frame import Context, Picture, Reproduction, Row, Size, System, Verdict, ordering, reproduced
from models.exceptions import UserMistake

SYSTEMS: Mapping[str, str] = MappingProxyType(
    {
        "weak-reset": "bench.reproduce.weak_reset",
        "metaplasticity": "bench.reproduce.metaplasticity",
        "mram": "bench.reproduce.mram",
        "differential": "bench.reproduce.differential",
        "digital": "bench.reproduce.digital",
        "ternary": "bench.reproduce.ternary",
        "medical": "bench.reproduce.medical",
        "stochastic": "bench.reproduce.stochastic",
    }
)
"""Name of each system, and the module that holds it."""


def system(name: str) -> System:
    """The system called ``name``.

    Raises:
        UserMistake: there is none; the text lists those there are.
    """
    if name not in SYSTEMS:
        raise UserMistake(f"no system is called {name!r}; there are: {', '.join(SYSTEMS)}")
    found = import_module(SYSTEMS[name]).SYSTEM
    assert isinstance(found, System)
    return found


__all__ = [
    "SYSTEMS",
    "Context",
    "Picture",
    "Reproduction",
    "Row",
    "Size",
    "System",
    "Verdict",
    "ordering",
    "reproduced",
    "system",
]
