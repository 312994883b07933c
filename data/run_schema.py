"""What a run file holds: tables, columns, dimensions and attributes, as value types and as HDF5 objects.

A table is a group. Its unlimited dimension carries the table's name; each column is one dataset whose further
dimensions are dimension scales at the root. The layout follows the netCDF-4 conventions, so that xarray opens a
closed file as it is. ``docs/run-file.md`` describes the same from a reader's side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from models.exceptions import UserMistake

if TYPE_CHECKING:
    import h5py

SCHEMA = "rram-bench run"
SCHEMA_VERSION = 1
END_GROUP = "end"
"""Group of a file still being written: how the run ended, made up front because SWMR cannot create attributes."""
END_ATTRIBUTES = ("status", "reason", "ended", "result")
REASON_BYTES = 1024
RESULT_BYTES = 32 << 10

Attribute = str | int | float
Array = NDArray[Any]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")


class RunStatus(StrEnum):
    """How a run stands. ``interrupted`` is written by whoever finds that the writer died."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@cache
def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(dtype)  # slow to make, and needed for every integer of every record
    return int(limits.min), int(limits.max)


STATUS_CODES: Mapping[RunStatus, int] = {status: code for code, status in enumerate(RunStatus)}


def _check_name(name: str, what: str) -> None:
    if not _NAME.match(name):
        raise UserMistake(f"{what} {name!r}: a name is a letter followed by letters, digits and underscores")


def _check_flags(flags: Mapping[int, str] | None, dtype: np.dtype[Any], what: str) -> None:
    if flags is None:
        return
    if dtype.kind not in "iu":
        raise UserMistake(f"{what}: flags need an integer dtype, not {dtype}")
    limits = np.iinfo(dtype)
    for value, meaning in flags.items():
        if not limits.min <= value <= limits.max:
            raise UserMistake(f"{what}: flag {value} does not fit {dtype}")
        if not meaning or any(letter.isspace() for letter in meaning):
            raise UserMistake(f"{what}: the meaning {meaning!r} of flag {value} must be one word")
    if not flags:
        raise UserMistake(f"{what}: flags are empty; leave them out")


@dataclass(frozen=True)
class Column:
    """One quantity of a table.

    Attributes:
        name: also the name of the dataset.
        dtype: an integer or floating-point numpy dtype. Missing floats are NaN.
        dims: names of the dimensions that one record of this column has; empty for a scalar.
        units: SI unit, "1" for a plain number.
        description: becomes the attribute ``long_name``.
        flags: for an integer that is a choice, the meaning (one word) of each allowed value.
    """

    name: str
    dtype: DTypeLike
    dims: tuple[str, ...] = ()
    units: str = "1"
    description: str = ""
    flags: Mapping[int, str] | None = None

    def __post_init__(self) -> None:
        """Refuse what netCDF-4 readers cannot read."""
        _check_name(self.name, "column")
        dtype = np.dtype(self.dtype)
        if dtype.kind not in "iuf":
            raise UserMistake(f"column {self.name}: dtype {dtype} is neither integer nor float; use int8 with flags")
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "dims", tuple(self.dims))
        _check_flags(self.flags, dtype, f"column {self.name}")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype as numpy has it."""
        return np.dtype(self.dtype)

    def checked(self, value: ArrayLike, shape: tuple[int, ...], where: str) -> Array:
        """Return ``value`` as a contiguous array of this column's dtype.

        Raises:
            UserMistake: another shape, a kind of number that the dtype cannot hold exactly (floats for an
                integer, integers out of range), or a value that is none of the flags.
        """
        array = np.asarray(value)
        if array.shape != shape:
            raise UserMistake(f"{where}.{self.name} has the shape {array.shape}, expected {shape}")
        dtype = self.numpy_dtype
        if array.dtype != dtype:
            array = self._converted(array, dtype, where)
        if self.flags is not None and array.size:
            low, high = min(self.flags), max(self.flags)
            gaps = high - low + 1 != len(self.flags)
            if array.min() < low or array.max() > high or (gaps and not np.isin(array, list(self.flags)).all()):
                raise UserMistake(f"{where}.{self.name} holds a value other than {sorted(self.flags)}")
        return np.ascontiguousarray(array).reshape(shape)

    def _converted(self, array: Array, dtype: np.dtype[Any], where: str) -> Array:
        if array.size and array.dtype.kind not in ("biu" if dtype.kind in "iu" else "iuf"):
            raise UserMistake(f"{where}.{self.name} is {array.dtype}, expected {dtype}")
        if dtype.kind in "iu":
            if array.dtype.kind != "b" and array.size:
                low, high = _limits(dtype)
                if array.min() < low or array.max() > high:
                    raise UserMistake(f"{where}.{self.name} holds a value outside {low} to {high}")
            return array.astype(dtype)
        try:
            with np.errstate(over="raise"):
                return array.astype(dtype)
        except FloatingPointError:
            raise UserMistake(f"{where}.{self.name} holds a value too large for {dtype}") from None


TIME = Column("time_s", np.float64, units="s", description="time since the start of the run")


@dataclass(frozen=True)
class Table:
    """Records of one kind. The writer adds the column ``time_s`` and the record number, named like the table."""

    name: str
    columns: tuple[Column, ...]
    description: str = ""

    def __post_init__(self) -> None:
        """Refuse an empty table, a doubled column, or one that takes a name of the writer's."""
        _check_name(self.name, "table")
        object.__setattr__(self, "columns", tuple(self.columns))
        names = [column.name for column in self.columns]
        if not names:
            raise UserMistake(f"table {self.name} has no columns")
        for name in names:
            if names.count(name) > 1:
                raise UserMistake(f"table {self.name} has two columns {name!r}")
            if name in (TIME.name, self.name):
                raise UserMistake(f"table {self.name}: the column {name!r} is filled by the writer")

    def column(self, name: str) -> Column:
        """The column ``name``, ``time_s`` included. Raises UserMistake naming those there are."""
        for column in (TIME, *self.columns):
            if column.name == name:
                return column
        listed = ", ".join(column.name for column in (TIME, *self.columns))
        raise UserMistake(f"table {self.name} has no column {name!r}; it has {listed}")


@dataclass(frozen=True)
class Coordinate:
    """A dimension that columns share: its values along the axis, e.g. row numbers or temperatures.

    Attributes:
        values: one-dimensional numbers, at least one.
        units, description, flags: as for a :class:`Column`.
    """

    values: ArrayLike = field(compare=False)
    units: str = "1"
    description: str = ""
    flags: Mapping[int, str] | None = None
    array: Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse anything but a non-empty row of numbers."""
        array = np.array(self.values)
        if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iuf":
            raise UserMistake(f"a dimension needs a non-empty row of numbers, not {self.values!r}")
        _check_flags(self.flags, array.dtype, "dimension")
        array.flags.writeable = False
        object.__setattr__(self, "array", array)


def checked_layout(
    tables: Iterable[Table], dimensions: Mapping[str, Coordinate | ArrayLike]
) -> tuple[dict[str, Table], dict[str, Coordinate]]:
    """Check that tables and dimensions fit together; return both by name.

    Raises:
        UserMistake: a doubled name, or a column with an unknown dimension.
    """
    coordinates = {
        name: value if isinstance(value, Coordinate) else Coordinate(value) for name, value in dimensions.items()
    }
    for name in coordinates:
        _check_name(name, "dimension")
    by_name: dict[str, Table] = {}
    for table in tables:
        if table.name in by_name or table.name in coordinates or table.name == END_GROUP:
            raise UserMistake(f"the name {table.name!r} is taken; give the table another one")
        by_name[table.name] = table
        for column in table.columns:
            for dim in column.dims:
                if dim not in coordinates:
                    raise UserMistake(f"column {table.name}.{column.name} has an unknown dimension {dim!r}")
            if len(set(column.dims)) != len(column.dims):
                raise UserMistake(f"column {table.name}.{column.name} has the same dimension twice")
    if not by_name:
        raise UserMistake("a run file needs at least one table")
    return by_name, coordinates


def checked_attributes(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Check the root attributes a caller gives. Raises UserMistake for a reserved name or another type."""
    reserved = ("schema", "schema_version", "procedure", *END_ATTRIBUTES)
    for name, value in attributes.items():
        _check_name(name, "attribute")
        if name in reserved:
            raise UserMistake(f"the attribute {name!r} is written by the run file itself")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UserMistake(f"attribute {name}: {type(value).__name__} is neither text nor a number")
    return dict(attributes)


def describe(dataset: h5py.Dataset, column: Column | Coordinate, name: str) -> None:
    """Write the attributes that make a dataset understood by itself."""
    dataset.attrs["units"] = column.units
    dataset.attrs["long_name"] = column.description if column.description else name.replace("_", " ")
    if dataset.dtype.kind == "f" and isinstance(column, Column):
        dataset.attrs["_FillValue"] = dataset.dtype.type(np.nan)
    if column.flags is not None:
        dataset.attrs["flag_values"] = np.array(list(column.flags), dtype=dataset.dtype)
        dataset.attrs["flag_meanings"] = " ".join(column.flags.values())


def write_dimensions(file: h5py.File, coordinates: Mapping[str, Coordinate]) -> None:
    """Make the dimension scales at the root."""
    for name, coordinate in coordinates.items():
        scale = file.create_dataset(name, data=coordinate.array)
        scale.make_scale(name)
        describe(scale, coordinate, name)


def make_column(group: h5py.Group, column: Column, shape: tuple[int, ...], storage: Mapping[str, Any]) -> h5py.Dataset:
    """Make the dataset of one column and attach its dimensions.

    Args:
        group: the table's group, which holds the scale of its own dimension already.
        column: what to make.
        shape: ``(records, *dims)``.
        storage: further arguments of ``h5py.Group.create_dataset``.
    """
    fill = np.nan if column.numpy_dtype.kind == "f" else None
    dataset = group.create_dataset(column.name, shape=shape, dtype=column.dtype, fillvalue=fill, **storage)
    table = group.name.rpartition("/")[2]
    dataset.dims[0].attach_scale(group[table])
    for axis, dim in enumerate(column.dims, start=1):
        dataset.dims[axis].attach_scale(group.file[dim])
    describe(dataset, column, column.name)
    return dataset


def make_index(group: h5py.Group, table: Table, storage: Mapping[str, Any]) -> h5py.Dataset:
    """Make the table's own dimension scale (record numbers, -1 where none was written)."""
    index = group.create_dataset(table.name, dtype=np.int64, fillvalue=-1, **storage)
    index.make_scale(table.name)
    index.attrs["units"] = "1"
    index.attrs["long_name"] = "record number"
    group.attrs["description"] = table.description
    group.attrs["columns"] = " ".join(column.name for column in table.columns)
    return index


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _flags_of(dataset: h5py.Dataset) -> dict[int, str] | None:
    if "flag_values" not in dataset.attrs:
        return None
    values: Sequence[int] = np.atleast_1d(dataset.attrs["flag_values"]).tolist()
    return dict(zip(values, _text(dataset.attrs["flag_meanings"]).split(), strict=True))


def _dim_name(dataset: h5py.Dataset, axis: int) -> str:
    return str(dataset.dims[axis][0].name).rpartition("/")[2]


def read_layout(file: h5py.File) -> tuple[dict[str, Table], dict[str, Coordinate]]:
    """Read back what :func:`checked_layout` gave to the writer."""
    import h5py

    tables: dict[str, Table] = {}
    coordinates: dict[str, Coordinate] = {}
    for name in file:
        item = file[name]  # unlike items(), this raises for an object that cannot be read
        if isinstance(item, h5py.Dataset):
            attrs = item.attrs
            coordinates[name] = Coordinate(item[...], _text(attrs["units"]), _text(attrs["long_name"]), _flags_of(item))
        elif name != END_GROUP:
            columns = []
            for column in _text(item.attrs["columns"]).split():
                dataset = item[column]
                dims = tuple(_dim_name(dataset, axis) for axis in range(1, dataset.ndim))
                units, description = (_text(dataset.attrs[key]) for key in ("units", "long_name"))
                columns.append(Column(column, dataset.dtype, dims, units, description, _flags_of(dataset)))
            tables[name] = Table(name, tuple(columns), _text(item.attrs["description"]))
    for table in tables.values():
        for found in table.columns:
            if unknown := [dim for dim in found.dims if dim not in coordinates]:
                raise ValueError(f"{table.name}.{found.name} is along {unknown[0]}, which is not there")
    return tables, coordinates


def read_attributes(file: h5py.File) -> dict[str, Attribute]:
    """Root attributes as plain Python values, without those that say how the run ended."""
    values: dict[str, Attribute] = {}
    for name, value in file.attrs.items():
        if name not in END_ATTRIBUTES:
            values[name] = value.item() if isinstance(value, np.generic) else _text(value)
    return values
