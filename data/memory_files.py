"""Parameter files of memories: TOML in, the equations of that memory with its parameters and their provenance out.

A file has a ``name``, an optional ``[about]`` of free text, and one section that is named after the memory's module in
``models/devices``, with a quantity per parameter, written as in a device file (:mod:`data.device_files`). Nothing here
knows any memory by name: docs/memories.md tells how to add one.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import models.devices
from data.device_files import Quantity, check_quantity, named_parse, parse_header, quantity_from_table, read_parameters
from models.devices.memory import Memory
from models.exceptions import UserMistake
from models.parameters import Parameters

AnyParameters = TypeVar("AnyParameters", bound=Parameters)


@dataclass(frozen=True)
class MemoryFile:
    """A memory and the provenance of each of its parameters.

    Attributes:
        memory: the equations with their parameters, checked.
        quantities: parameter name to its quantity.
        name: name of the file's population.
        extras: free text about the file.
    """

    memory: Memory
    quantities: Mapping[str, Quantity]
    name: str
    extras: Mapping[str, str]


def load_memory(path: str | Path) -> MemoryFile:
    """Read the parameter file of any memory.

    Raises:
        UserMistake: the file is missing or not TOML; the memory, a key or a unit is unknown; a key is missing; a value
            is out of its range. The text names the file, the key and what is allowed.
    """
    return named_parse(_parse, read_parameters(path, "memory file"), str(path))


def packaged_memory(name: str) -> MemoryFile:
    """The parameter file ``data/devices/NAME.toml`` that comes with the package, of a memory.

    Raises:
        UserMistake: there is none, or as :func:`load_memory`.
    """
    return load_memory(Path(str(resources.files("data"))) / "devices" / f"{name}.toml")


def parameters_from_tables(
    kind: type[AnyParameters], section: str, tables: object
) -> tuple[AnyParameters, dict[str, Quantity]]:
    """Parameters of one section of a file, with their quantities.

    Raises:
        UserMistake: a key or unit is unknown, a key is missing, or a number is out of range.
    """
    if not isinstance(tables, dict):
        raise UserMistake(f"{section} must be a table of quantities")
    schema = kind.schema()
    for key in tables:
        if key not in schema:
            raise UserMistake(f"{section}.{key} is unknown; {section} has {', '.join(schema)}")
    quantities: dict[str, Quantity] = {}
    for key, bounds in schema.items():
        full = f"{section}.{key}"
        if key not in tables:
            raise UserMistake(
                f"{full} is missing ({bounds.doc}); allowed is {bounds.low:g} to {bounds.high:g} {bounds.unit}"
            )
        quantities[key] = quantity_from_table(full, tables[key])
        check_quantity(full, quantities[key], bounds)
    return kind(**{key: quantity.value for key, quantity in quantities.items()}), quantities


def _parse(text: str) -> MemoryFile:
    name, about, sections = parse_header(text)
    known = _memories()
    if len(sections) != 1:
        raise UserMistake(f"a memory file has one section, named after the memory; the memories are {', '.join(known)}")
    (section, tables), *_ = sections.items()
    if section not in known:
        raise UserMistake(f"{section} is unknown; the memories are {', '.join(known)}")
    loaded: tuple[Memory, dict[str, Quantity]] = parameters_from_tables(known[section], section, tables)
    return MemoryFile(*loaded, name, about)


def _memories() -> Mapping[str, Any]:
    """Module name in ``models.devices`` to the memory that it declares as ``MEMORY``."""
    modules = {
        found.name: importlib.import_module(f"models.devices.{found.name}")
        for found in pkgutil.iter_modules(models.devices.__path__)
    }
    return {name: module.MEMORY for name, module in modules.items() if hasattr(module, "MEMORY")}
