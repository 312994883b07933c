"""Parameter files of energy and area: TOML in, the figures of :mod:`models.energy` and :mod:`models.area` out.

A file has a ``name``, an optional ``[about]`` of free text, and the sections ``[energy]`` and ``[area]``, with
quantities written as in a device file (:mod:`data.device_files`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from data.device_files import Quantity, named_parse, parse_header, read_parameters
from data.memory_files import parameters_from_tables
from models.area import CircuitArea
from models.energy import CircuitEnergy
from models.exceptions import UserMistake

DEFAULT_CIRCUITS = "hfo2_130nm"
"""Name of the file of the chips that this bench is for."""


@dataclass(frozen=True)
class Circuits:
    """Energies and areas of the circuits of one technology, and where each figure comes from.

    Attributes:
        energy: of single operations.
        area: of single circuits.
        quantities: ``"section.field"`` to its quantity.
        name: name of the technology.
        extras: free text about the file.
    """

    energy: CircuitEnergy
    area: CircuitArea
    quantities: Mapping[str, Quantity]
    name: str
    extras: Mapping[str, str]


def load_circuits(path: str | Path) -> Circuits:
    """Read a file of energies and areas.

    Raises:
        UserMistake: the file is missing or not TOML; a section, key or unit is unknown; a key is missing; a value is
            out of its range. The text names the file, the key and what is allowed.
    """
    return named_parse(_parse, read_parameters(path, "file of energies and areas"), str(path))


def packaged_circuits(name: str = DEFAULT_CIRCUITS) -> Circuits:
    """The file ``data/energy/NAME.toml`` that comes with the package; UserMistake where there is none."""
    folder = Path(str(resources.files("data"))) / "energy"
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if name not in known:
        raise UserMistake(f"no energies and areas are called {name!r}; there are {', '.join(known)}")
    return load_circuits(folder / f"{name}.toml")


def _parse(text: str) -> Circuits:
    name, about, sections = parse_header(text)
    wanted = (CircuitEnergy.section, CircuitArea.section)
    for section in sections:
        if section not in wanted:
            raise UserMistake(f"{section} is unknown; the sections are {', '.join(wanted)}")
    energy, energies = parameters_from_tables(CircuitEnergy, wanted[0], sections.get(wanted[0], {}))
    area, areas = parameters_from_tables(CircuitArea, wanted[1], sections.get(wanted[1], {}))
    quantities = {f"{wanted[0]}.{key}": item for key, item in energies.items()}
    quantities |= {f"{wanted[1]}.{key}": item for key, item in areas.items()}
    return Circuits(energy, area, quantities, name, about)
