"""Taking a run to other programs: CSV, netCDF-4 and Parquet, slice by slice, so that a run of any size fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data.atomic import check_writable, replacing
from data.run_chain import PART, chain
from data.run_reading import Run
from data.run_recovery import blocks, compact_storage
from data.run_schema import (
    TIME,
    Array,
    Attribute,
    Column,
    Coordinate,
    Table,
    make_column,
    make_index,
    write_dimensions,
)
from models.exceptions import UserMistake

PART_COLUMN = Column(PART, "int32", description="index of the part of the run, the oldest is 0")
WHAT = "export"


class ExportFormat(StrEnum):
    """What a run can be exported to."""

    CSV = "csv"
    NETCDF = "netcdf"
    PARQUET = "parquet"


@dataclass(frozen=True)
class Source:
    """One table of one run, or of all its parts, to be read in slices.

    Attributes:
        parts: the runs, the oldest first.
        table: as it is exported: of a whole run it has the column ``part`` as well.
        counts: records of each part, as they were when the export began.
    """

    parts: Sequence[Run]
    table: Table
    counts: Sequence[int]

    @classmethod
    def of(cls, parts: Sequence[Run], name: str, whole: bool) -> Source:
        """The table ``name`` of ``parts``."""
        # Counted first: it says so where there is no such table.
        counts = [part.rows(name) for part in parts]
        table = parts[-1].tables[name]
        for part in parts[:-1]:
            if part.tables[name] != table or any(
                not np.array_equal(part.coordinates[dim].array, parts[-1].coordinates[dim].array)
                for column in table.columns
                for dim in column.dims
            ):
                raise UserMistake(f"the table {name} is laid out otherwise in {part.path}; export the parts one by one")
        if whole:
            table = Table(table.name, (PART_COLUMN, *table.columns), table.description)
        return cls(parts, table, counts)

    @property
    def rows(self) -> int:
        """Records of all parts together."""
        return sum(self.counts)

    @cached_property
    def coordinates(self) -> dict[str, Coordinate]:
        """The dimensions of the table's columns, in the order in which they first come."""
        known = self.parts[-1].coordinates
        return {dim: known[dim] for column in self.table.columns for dim in column.dims}

    def shape(self, column: Column) -> tuple[int, ...]:
        """Of one record of a column."""
        return tuple(len(self.coordinates[dim].array) for dim in column.dims)

    def slices(self, expansion: int = 1) -> Iterator[dict[str, Array]]:
        """All records in slices of a few megabytes.

        Args:
            expansion: so many times as big as the records is what the caller makes of them.
        """
        names = [column.name for column in self.table.columns if column is not PART_COLUMN]
        size = sum(
            int(np.prod(self.shape(column))) * column.numpy_dtype.itemsize for column in (TIME, *self.table.columns)
        )
        for index, (part, count) in enumerate(zip(self.parts, self.counts, strict=True)):
            for rows in blocks((count, size * expansion), np.dtype(np.uint8)):
                block = part.read(self.table.name, [TIME.name, *names], rows)
                if PART_COLUMN in self.table.columns:
                    block[PART] = np.full(rows.stop - rows.start, index, dtype=np.int32)
                yield block


def export(
    run: Run,
    form: ExportFormat,
    out: Path,
    table: str | None = None,
    *,
    whole: bool = False,
    force: bool = False,
    commented: bool = False,
) -> list[Path]:
    """Write a run, or one table of it, in another format.

    Args:
        out: the file; for CSV and Parquet without ``table`` the folder, made if it is missing, that gets one file per
            table.
        table: the one table; all when None.
        whole: take the earlier runs that this one goes on with as well; records then have a column ``part``.
        force: write over files that exist.
        commented: begin CSV files with lines ``# name: value`` that say what run it is.

    Returns:
        The files written.

    Raises:
        UserMistake: no such table, a file that exists, a place that cannot be written to, or a part that is missing.
    """
    parts = chain(run) if whole else [run]
    names = list(run.tables) if table is None else [table]
    sources = [Source.of(parts, name, whole) for name in names]
    about = describe_parts(parts)
    if form is ExportFormat.NETCDF:
        _refuse_existing([out], force)
        with replacing(out, WHAT) as partial:
            _write_netcdf(partial, sources, about)
        return [out]
    from data.run_export_tables import write_csv, write_parquet

    paths = [out] if table is not None else _paths(out, names, form.value, force)
    _refuse_existing(paths, force)
    for path, source in zip(paths, sources, strict=True):
        with replacing(path, WHAT) as partial:
            if form is ExportFormat.CSV:
                write_csv(partial, source, about if commented else {})
            else:
                write_parquet(partial, source, about)
    return paths


def describe_parts(parts: Sequence[Run]) -> dict[str, Attribute]:
    """The attributes of a run, how it ended among them; of several parts those of the latest, and the files' names."""
    attributes: dict[str, Attribute] = dict(parts[-1].attributes)
    attributes |= {name: str(value) for name, value in parts[-1].ending._asdict().items()}
    attributes["exported_from"] = " ".join(part.path.name for part in parts)
    if len(parts) > 1:
        attributes.pop("resumes", None)
        attributes["started"] = parts[0].attributes["started"]
    return attributes


def _paths(out: Path, names: Sequence[str], suffix: str, force: bool) -> list[Path]:
    """One file per table in the folder ``out``."""
    if out.exists() and not out.is_dir():
        raise UserMistake(f"{out} is a file, and the tables of a run become several; name a folder, or one --table")
    paths = [out / f"{name}.{suffix}" for name in names]
    _refuse_existing(paths, force)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserMistake(f"the folder {out} cannot be made: {error.strerror}; name another one") from error
    return paths


def _refuse_existing(paths: Sequence[Path], force: bool) -> None:
    for path in paths:
        if path.exists() and not path.is_dir() and not force:
            raise UserMistake(f"{path} exists already; name another place, or say --force to replace it")
        if path.parent.exists():
            check_writable(path, WHAT)


def _write_netcdf(path: Path, sources: Sequence[Source], about: dict[str, Attribute]) -> None:
    """The layout of the run file itself, compact: dimension scales at the root, one group per table."""
    import h5py

    with h5py.File(path, "w", track_order=True) as target:
        for name, value in about.items():
            target.attrs[name] = value
        write_dimensions(target, {name: scale for source in sources for name, scale in source.coordinates.items()})
        for source in sources:
            _write_group(target, source)


def _write_group(target: Any, source: Source) -> None:
    table, rows = source.table, source.rows
    group = target.create_group(table.name, track_order=True)
    index = make_index(group, table, {"shape": (rows,), **compact_storage((rows,), np.dtype(np.int64))})
    index[...] = np.arange(rows)
    datasets = {}
    for column in (TIME, *table.columns):
        shape = (rows, *source.shape(column))
        datasets[column.name] = make_column(group, column, shape, compact_storage(shape, column.numpy_dtype))
    start = 0
    for block in source.slices():
        stop = start + len(block[TIME.name])
        for name, values in block.items():
            datasets[name][start:stop] = values
        start = stop
