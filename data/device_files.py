"""Device parameter files: TOML in, a :class:`~models.device_model.DeviceModel` with its provenance out, and back.

A file has a ``name``, an optional table ``[about]`` of free text, and one table per quantity::

    [lrs.median_ohm]
    value = 6988.0
    unit = "ohm"
    source = "WRST MLP/utils.py"
    trust = "source"
    low = 6900.0     # optional interval
    high = 7100.0
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Literal, TypeVar, get_args

import tomli_w

from data.atomic import write_atomically
from models.device_model import SCHEMA, SECTIONS, Bounds, DeviceModel, check_value, unknown_key
from models.exceptions import UserMistake

Trust = Literal["source", "derived", "recalled", "proposed", "fitted"]
"""How far a number can be trusted: read in a source, computed from one, remembered, reasonable, or measured."""

Parsed = TypeVar("Parsed")

DEFAULT_DEVICE = "hfo2_130nm"
PACKAGED_DEVICES = (DEFAULT_DEVICE, "hfo2_130nm_ternary")
"""Names of the parameter files of RRAM that come with the package."""


@dataclass(frozen=True)
class Quantity:
    """A number with its unit, where it comes from, and an optional interval that contains it.

    Raises:
        UserMistake: a number is not finite, the interval does not contain the value, or the trust is unknown.
    """

    value: float
    unit: str
    source: str
    trust: Trust
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if name != "value" and number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
                raise UserMistake(f"{name} = {number!r} is not a finite number")
            object.__setattr__(self, name, float(number))
        for name in ("unit", "source"):
            if not isinstance(getattr(self, name), str):
                raise UserMistake(f"{name} = {getattr(self, name)!r} is not text")
        if self.trust not in get_args(Trust):
            raise UserMistake(f"trust = {self.trust!r} is unknown; allowed are {', '.join(get_args(Trust))}")
        if (self.low is not None and self.low > self.value) or (self.high is not None and self.high < self.value):
            raise UserMistake(f"the interval {self.low} to {self.high} does not contain the value {self.value:g}")


@dataclass(frozen=True)
class DeviceFile:
    """A device model and the provenance of each of its numbers.

    Attributes:
        model: the numbers, checked.
        quantities: ``"section.field"`` to its quantity, in the order of the schema.
        name: name of the population.
        extras: free text about the file, for example the run it was fitted to.
    """

    model: DeviceModel
    quantities: Mapping[str, Quantity]
    name: str
    extras: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_quantities(
        cls, name: str, quantities: Mapping[str, Quantity], extras: Mapping[str, str] | None = None
    ) -> DeviceFile:
        """Check the quantities against the schema and build the model.

        Raises:
            UserMistake: a key or unit is unknown, a key is missing, or a number is out of range.
        """
        for key, quantity in quantities.items():
            if key not in SCHEMA:
                raise UserMistake(unknown_key(key))
            check_quantity(key, quantity, SCHEMA[key])
        model = DeviceModel.from_values({key: quantity.value for key, quantity in quantities.items()})
        ordered = {key: quantities[key] for key in SCHEMA if key in quantities}
        return cls(model, ordered, name, {} if extras is None else dict(extras))

    def updated(
        self,
        quantities: Mapping[str, Quantity],
        *,
        name: str | None = None,
        extras: Mapping[str, str] | None = None,
    ) -> DeviceFile:
        """A new file with some quantities replaced or added; everything is checked again.

        Args:
            quantities: ``"section.field"`` to the new quantity.
            name: new name; the old one stays when None.
            extras: free text to add to the old.

        Raises:
            UserMistake: as :meth:`from_quantities`.
        """
        merged_extras = {**self.extras, **({} if extras is None else extras)}
        return self.from_quantities(
            self.name if name is None else name, {**self.quantities, **quantities}, merged_extras
        )


def check_quantity(key: str, quantity: Quantity, bounds: Bounds) -> None:
    """Raise UserMistake when a quantity has another unit than its bounds, or a number outside of them."""
    if quantity.unit != bounds.unit:
        raise UserMistake(f'{key} has the unit "{quantity.unit}"; allowed is "{bounds.unit}"')
    for number in (quantity.value, quantity.low, quantity.high):
        if number is not None:
            check_value(key, number, bounds)


def quantity_from_table(key: str, table: object) -> Quantity:
    """The quantity that a TOML table describes; UserMistake names ``key`` and what is wrong with it."""
    if not isinstance(table, dict):
        raise UserMistake(f"{key} must be a table with value, unit, source and trust")
    allowed = {item.name: item for item in fields(Quantity)}
    unknown = sorted(set(table) - set(allowed))
    if unknown:
        raise UserMistake(f"{key}.{unknown[0]} is unknown; allowed are {', '.join(allowed)}")
    missing = [name for name in ("value", "unit", "source", "trust") if name not in table]
    if missing:
        raise UserMistake(f"{key}.{missing[0]} is missing; a quantity needs value, unit, source and trust")
    try:
        return Quantity(**table)
    except UserMistake as mistake:
        raise UserMistake(f"{key}: {mistake}") from mistake


def parse_header(text: str) -> tuple[str, dict[str, str], dict[str, object]]:
    """The name of a parameter file, its free text and its sections, from TOML.

    Raises:
        UserMistake: it is not TOML, the name is missing, or ``[about]`` holds more than texts.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserMistake(f"not valid TOML: {error}") from error
    name = content.pop("name", None)
    if not isinstance(name, str) or not name:
        raise UserMistake('name is missing; a parameter file starts with a line such as name = "hfo2_130nm"')
    about = content.pop("about", {})
    if not isinstance(about, dict) or not all(isinstance(value, str) for value in about.values()):
        raise UserMistake("about must be a table of texts")
    return name, about, content


def _parse(text: str) -> DeviceFile:
    name, about, content = parse_header(text)
    quantities: dict[str, Quantity] = {}
    for section, tables in content.items():
        if section not in SECTIONS:
            raise UserMistake(unknown_key(section))
        if not isinstance(tables, dict):
            raise UserMistake(f"{section} must be a table of quantities")
        for key, table in tables.items():
            full = f"{section}.{key}"
            if full not in SCHEMA:
                raise UserMistake(unknown_key(full))
            quantities[full] = quantity_from_table(full, table)
    return DeviceFile.from_quantities(name, quantities, about)


def load_device(path: str | Path) -> DeviceFile:
    """Read a device parameter file.

    Raises:
        UserMistake: the file is missing or not readable as TOML; a section, key or unit is unknown; a key is missing;
            a value is out of its range. The text names the file, the key and what is allowed.
    """
    return named_parse(_parse, read_parameters(path, "device file"), str(path))


def default_device() -> DeviceFile:
    """The population that comes with the package: HfO2 devices in a 130 nm CMOS back end."""
    return packaged_device(DEFAULT_DEVICE)


def packaged_device(name: str) -> DeviceFile:
    """The device file of that name which comes with the package."""
    resource = resources.files("data") / "devices" / f"{name}.toml"
    return named_parse(_parse, resource.read_text(encoding="utf-8"), f"data/devices/{name}.toml")


def read_parameters(path: str | Path, what: str) -> str:
    """Text of the parameter file at ``path``; UserMistake says which kind of file (``what``) cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserMistake(f"cannot read the {what} {path}: {reason}") from error


def named_parse(parse: Callable[[str], Parsed], text: str, where: str) -> Parsed:
    """Parse the text of a parameter file; a UserMistake also names the file."""
    try:
        return parse(text)
    except UserMistake as mistake:
        raise UserMistake(f"{where}: {mistake}") from mistake


def save_device(path: str | Path, device_file: DeviceFile) -> None:
    """Write a device parameter file; :func:`load_device` reads it back equal. An old file is replaced as a whole.

    Raises:
        UserMistake: the file cannot be written there.
    """
    content: dict[str, object] = {"name": device_file.name}
    if device_file.extras:
        content["about"] = dict(device_file.extras)
    for key, quantity in device_file.quantities.items():
        section, _, name = key.partition(".")
        table = {item.name: getattr(quantity, item.name) for item in fields(quantity)}
        tables = content.setdefault(section, {})
        assert isinstance(tables, dict)
        tables[name] = {item: value for item, value in table.items() if value is not None}
    write_atomically(Path(path), tomli_w.dumps(content).encode("utf-8"), "device file")
