"""Programming conditions of RRAM: how strongly devices are SET and RESET, what that costs and what it does to them.

A file has a ``name``, an optional ``[about]`` of free text, a section ``[scaling]``, and one section per condition,
with quantities written as in a device file (:mod:`data.device_files`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import ClassVar

from data.device_files import Quantity, named_parse, parse_header, read_parameters
from data.memory_files import parameters_from_tables
from models.device_model import DeviceModel
from models.devices import rram
from models.exceptions import UserMistake
from models.parameters import Parameters, quantity

DEFAULT_CONDITIONS = "hfo2_130nm"
"""Name of the file that comes with the package."""


@dataclass(frozen=True)
class Scaling(Parameters):
    """How a condition acts on the populations beyond the laws of the device model."""

    section: ClassVar[str] = "scaling"

    hrs_compliance_exponent: float = quantity(
        "1", 0.0, 2.0, "HRS median goes as (reference compliance / compliance) to this power, at equal RESET voltage"
    )


@dataclass(frozen=True)
class ProgrammingCondition(Parameters):
    """One way to program devices, as at the direct-access pads.

    Energies are those of one pulse on one device. ``one_t1r_rate`` and ``cycles`` are published figures, not results of
    the models.
    """

    section: ClassVar[str] = "condition"

    set_compliance_a: float = quantity("A", 1e-7, 1e-2, "compliance current of the SET")
    reset_v: float = quantity("V", 0.1, 10.0, "voltage across the device in the RESET")
    width_s: float = quantity("s", 1e-9, 1.0, "pulse width")
    set_energy_j: float = quantity("J", 1e-15, 1e-6, "energy of a SET")
    reset_energy_j: float = quantity("J", 1e-15, 1e-6, "energy of a RESET")
    one_t1r_rate: float = quantity("1", 1e-12, 0.5, "bit error rate of single devices, or its upper limit")
    cycles: float = quantity("1", 1.0, 1e15, "cycles that a device endures, or their lower limit")
    spread_factor: float = quantity("1", 0.01, 100.0, "factor on the standard deviations of ln R of the device model")

    @property
    def bit_energy_j(self) -> float:
        """Mean energy in J to write a bit into one device: a SET or a RESET."""
        return 0.5 * (self.set_energy_j + self.reset_energy_j)


@dataclass(frozen=True)
class ProgrammingConditions:
    """The conditions of one technology; as a :class:`~models.devices.memory.Memory`, 1T1R cells written with them.

    Attributes:
        conditions: name to condition, in the order of the file.
        scaling: what conditions do to the populations.
        quantities: ``"section.field"`` to its quantity.
        name: name of the technology.
        extras: free text about the file.
    """

    conditions: Mapping[str, ProgrammingCondition]
    scaling: Scaling
    quantities: Mapping[str, Quantity]
    name: str
    extras: Mapping[str, str]

    def condition(self, name: str) -> ProgrammingCondition:
        """The condition of that name; UserMistake lists those that there are."""
        if name not in self.conditions:
            raise UserMistake(f"{name} is no programming condition; there are {', '.join(self.conditions)}")
        return self.conditions[name]

    def programmed(self, model: DeviceModel, name: str) -> DeviceModel:
        """The device model whose reference SET and RESET leave what condition ``name`` leaves on devices of ``model``.

        The LRS median is inversely proportional to the compliance. The HRS median follows the RESET voltage and the
        pulse width by the law of the model, and the filament that the SET left: with an exponent of 1 the RESET
        voltage alone decides HRS / LRS, since a device RESETs by the same curve when currents are counted in units of
        the compliance. All standard deviations of ln R take the condition's factor.

        Raises:
            UserMistake: there is no such condition, or its populations are out of the range of a device model.
        """
        condition, lrs, hrs = self.condition(name), model.lrs, model.hrs
        thinner = lrs.set_compliance_ref_a / condition.set_compliance_a
        hrs_ohm = rram.hrs_median_ohm(hrs, condition.reset_v, condition.width_s)
        factor = condition.spread_factor
        return replace(
            model,
            lrs=replace(
                lrs,
                median_ohm=rram.lrs_median_ohm(lrs, condition.set_compliance_a),
                set_compliance_ref_a=condition.set_compliance_a,
                sigma_d2d=factor * lrs.sigma_d2d,
                sigma_c2c=factor * lrs.sigma_c2c,
            ),
            hrs=replace(
                hrs,
                median_ohm=hrs_ohm * thinner**self.scaling.hrs_compliance_exponent,
                sigma_d2d=factor * hrs.sigma_d2d,
                sigma_c2c=factor * hrs.sigma_c2c,
            ),
        )

    def bit_energy_j(self, error_rate: float) -> float:
        """Least energy in J to write a bit into a 1T1R cell that is wrong with at most this probability.

        Raises:
            UserMistake: no condition reaches the rate.
        """
        energies = [item.bit_energy_j for item in self.conditions.values() if item.one_t1r_rate <= error_rate]
        if not energies:
            lowest = min(item.one_t1r_rate for item in self.conditions.values())
            raise UserMistake(f"no programming condition reaches {error_rate:g}; the lowest error rate is {lowest:g}")
        return min(energies)


def load_conditions(path: str | Path) -> ProgrammingConditions:
    """Read a file of programming conditions.

    Raises:
        UserMistake: the file is missing or not TOML; a key or unit is unknown; a key is missing; a value is out of its
            range. The text names the file, the key and what is allowed.
    """
    return named_parse(_parse, read_parameters(path, "file of programming conditions"), str(path))


def default_conditions() -> ProgrammingConditions:
    """The conditions that come with the package: strong, weak and ultra_weak."""
    return load_conditions(Path(str(resources.files("data"))) / "conditions" / f"{DEFAULT_CONDITIONS}.toml")


def _parse(text: str) -> ProgrammingConditions:
    name, about, sections = parse_header(text)
    scaling, found = parameters_from_tables(Scaling, Scaling.section, sections.pop(Scaling.section, {}))
    quantities = {f"{Scaling.section}.{key}": item for key, item in found.items()}
    conditions: dict[str, ProgrammingCondition] = {}
    for section, tables in sections.items():
        conditions[section], found = parameters_from_tables(ProgrammingCondition, section, tables)
        quantities |= {f"{section}.{key}": item for key, item in found.items()}
    if not conditions:
        raise UserMistake("there is no programming condition; each is a section such as [weak]")
    return ProgrammingConditions(conditions, scaling, quantities, name, about)
