"""CSV and Parquet of one table, through Arrow.

CSV is for people and spreadsheets: choices are words, and a record with arrays of more than :data:`WIDE_ELEMENTS`
numbers becomes one line per element (long form). Parquet keeps one row per record, its arrays as lists of fixed length.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from data.run_export import Source
from data.run_schema import TIME, Array, Attribute, Column, Coordinate

WIDE_ELEMENTS = 64
"""Arrays of so many numbers per record become columns of a CSV file; bigger ones become lines."""

RECORD = "record"
"""Column of a long CSV file: the record that a line is an element of."""

NOT_COMMENTED = ("bench_file", "result", "schema", "schema_version")
"""Attributes that are left out of the comments of a CSV file: many lines, or nothing that a reader of it needs."""


def write_csv(path: Path, source: Source, about: Mapping[str, Attribute]) -> None:
    """Write a table as CSV with a header line of ``name [unit]``; the unit is left out for plain numbers.

    Args:
        about: written as ``# name: value`` ahead of the header; nothing when empty.
    """
    with path.open("wb") as file:
        for name, value in about.items():
            if name not in NOT_COMMENTED:
                file.write(f"# {name}: {' '.join(str(value).split())}\n".encode())
        elements = sum(int(np.prod(source.shape(column))) for column in source.table.columns if column.dims)
        batches = _long(source) if elements > WIDE_ELEMENTS else _wide(source)
        writer = None
        for batch in batches:
            if writer is None:
                file.write(_header(batch.schema.names))
                options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
                writer = pa.csv.CSVWriter(file, batch.schema, write_options=options)
            writer.write(batch)
        if writer is not None:
            writer.close()


def write_parquet(path: Path, source: Source, about: Mapping[str, Attribute]) -> None:
    """Write a table as Parquet, one row per record; units and descriptions are in the metadata of the fields."""
    columns = (TIME, *source.table.columns)
    fields = [_field(source, column) for column in columns]
    metadata = {name: str(value) for name, value in about.items()} | {
        "table": source.table.name,
        "description": source.table.description,
    }
    schema = pa.schema(fields, metadata=metadata)
    with pa.parquet.ParquetWriter(path, schema) as writer:
        for block in source.slices():
            arrays = [
                _arrow(block[column.name], column, field.type) for column, field in zip(columns, fields, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _header(names: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(names)
    return text.getvalue().encode()


def _titled(column: Column | Coordinate, name: str) -> str:
    return name if column.units == "1" else f"{name} [{column.units}]"


def _words(values: Array, flags: Mapping[int, str] | None) -> Any:
    """Values as Arrow has them, choices as words."""
    if flags is None:
        return pa.array(values)
    codes = np.array(list(flags))
    order = np.argsort(codes)
    found = order[np.searchsorted(codes[order], values)].astype(np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(found), pa.array(list(flags.values())))


def _plain_words(values: Array, flags: Mapping[int, str] | None) -> Any:
    """As :func:`_words`, without a dictionary, which Arrow's CSV writer does not take."""
    words = _words(values, flags)
    return words if flags is None else words.dictionary_decode()


def _wide(source: Source) -> Iterator[Any]:
    """One line per record; each element of an array is a column ``name[row,col,...]``."""
    empty = True
    for block in source.slices():
        empty = False
        yield _wide_batch(source, block)
    if empty:
        yield _wide_batch(source, _no_records(source))


def _wide_batch(source: Source, block: Mapping[str, Array]) -> Any:
    arrays, names = [], []
    for column in (TIME, *source.table.columns):
        values = block[column.name]
        if not column.dims:
            arrays.append(_plain_words(values, column.flags))
            names.append(_titled(column, column.name))
            continue
        for index in np.ndindex(*values.shape[1:]):
            place = ",".join(
                _label(source.coordinates[dim], position) for dim, position in zip(column.dims, index, strict=True)
            )
            arrays.append(_plain_words(np.ascontiguousarray(values[(slice(None), *index)]), column.flags))
            names.append(_titled(column, f"{column.name}[{place}]"))
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _label(coordinate: Coordinate, position: int) -> str:
    value = coordinate.array[position].item()
    return f"{value:g}" if coordinate.flags is None else coordinate.flags[value]


def _long(source: Source) -> Iterator[Any]:
    """One line per record and element: record number, scalars repeated, coordinates, values."""
    sizes = {dim: len(coordinate.array) for dim, coordinate in source.coordinates.items()}
    elements = int(np.prod(list(sizes.values())))
    start = 0
    # What is repeated weighs more than what is there: eight bytes for each column of each line.
    for block in source.slices(expansion=len(source.table.columns) + len(sizes) + 2):
        count = len(block[TIME.name])
        yield _long_batch(source, block, sizes, elements, start)
        start += count
    if start == 0:
        yield _long_batch(source, _no_records(source), sizes, elements, 0)


def _long_batch(source: Source, block: Mapping[str, Array], sizes: Mapping[str, int], elements: int, start: int) -> Any:
    count = len(block[TIME.name])
    taken = {TIME.name, *sizes, *(column.name for column in source.table.columns)}
    # A table cannot have a column of its own name.
    names = [RECORD if RECORD not in taken else source.table.name]
    arrays = [pa.array(np.repeat(np.arange(start, start + count), elements))]
    for column in (TIME, *source.table.columns):
        if not column.dims:
            names.append(_titled(column, column.name))
            arrays.append(_plain_words(np.repeat(block[column.name], elements), column.flags))
    shape = (count, *sizes.values())
    for axis, (dim, coordinate) in enumerate(source.coordinates.items(), start=1):
        along = coordinate.array.reshape([-1 if other == axis else 1 for other in range(len(shape))])
        names.append(_titled(coordinate, dim))
        arrays.append(_plain_words(np.broadcast_to(along, shape).ravel(), coordinate.flags))
    for column in source.table.columns:
        if column.dims:
            axes = [column.dims.index(dim) + 1 for dim in sizes if dim in column.dims]
            values = block[column.name].transpose(0, *axes)
            values = values.reshape(count, *(sizes[dim] if dim in column.dims else 1 for dim in sizes))
            names.append(_titled(column, column.name))
            arrays.append(_plain_words(np.broadcast_to(values, shape).ravel(), column.flags))
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _no_records(source: Source) -> dict[str, Array]:
    return {
        column.name: np.empty((0, *source.shape(column)), column.numpy_dtype)
        for column in (TIME, *source.table.columns)
    }


def _field(source: Source, column: Column) -> Any:
    metadata = {"units": column.units, "long_name": column.description}
    kind = pa.from_numpy_dtype(column.numpy_dtype)
    if column.flags is not None:
        metadata["flags"] = json.dumps(column.flags)
        if not column.dims:
            kind = pa.dictionary(pa.int32(), pa.string())
    if column.dims:
        shape = source.shape(column)
        metadata |= {"dims": ",".join(column.dims), "shape": ",".join(str(size) for size in shape)}
        kind = pa.list_(kind, int(np.prod(shape)))
    return pa.field(column.name, kind, metadata=metadata)


def _arrow(values: Array, column: Column, kind: Any) -> Any:
    if column.dims:
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, kind.list_size)
    return _words(values, column.flags)
