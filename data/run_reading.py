"""Reading run files: finished ones, ones that are being written by another process, and ones a crash left."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data.guards import ask_guards
from data.hdf5_crashed import MendedFile
from data.run_schema import (
    END_GROUP,
    SCHEMA,
    SCHEMA_VERSION,
    STATUS_CODES,
    TIME,
    Array,
    Attribute,
    Coordinate,
    RunStatus,
    Table,
    read_attributes,
    read_layout,
)
from data.run_storage import HDF5_ERRORS, READ_ERRORS, explain, is_locked
from models.exceptions import UserMistake

if TYPE_CHECKING:
    import h5py


class Ending(NamedTuple):
    """How a run ended, as its file says.

    Attributes:
        ended: ISO 8601 in UTC, empty while the run goes on.
        result: the procedure's own summary as JSON; empty where it came to none.
    """

    status: RunStatus
    reason: str
    ended: str
    result: str = ""


def is_live_layout(file: h5py.File) -> bool:
    """Whether the file still has the layout of a run being written (it was never rewritten compactly)."""
    return END_GROUP in file


def read_ending(file: h5py.File) -> Ending:
    """The end record: root attributes of a finished file, datasets of one being written."""
    if not is_live_layout(file):
        texts = [str(file.attrs.get(key, "")) for key in ("reason", "ended", "result")]
        return Ending(RunStatus(str(file.attrs["status"])), *texts)
    group = file[END_GROUP]
    status = list(STATUS_CODES)[int(group["status"][()])]
    keys = [key for key in ("reason", "ended", "result") if key in group]
    return Ending(status, **{key: group[key][()].decode("utf-8", "replace") for key in keys})


def written_rows(file: h5py.File, table: Table) -> int:
    """Number of whole records. In a file being written the record number comes last, so it vouches for the rest."""
    group = file[table.name]
    index = group[table.name]
    if not is_live_layout(file):
        return int(index.shape[0])
    numbers = index[...]
    wrong = np.flatnonzero(numbers != np.arange(len(numbers)))
    rows = int(wrong[0]) if wrong.size else len(numbers)
    return min(rows, *(int(group[column.name].shape[0]) for column in (TIME, *table.columns)))


@contextmanager
def opened(path: Path, *, own_lock: bool = False) -> Iterator[h5py.File]:
    """Open a run file for reading, whatever state it is in; nothing is modified.

    Args:
        path: the file.
        own_lock: the caller holds the file's lock, so nobody else writes it.

    Raises:
        UserMistake: there is no such file, or it is not a run file of a version known here, or it is damaged.
    """
    import h5py

    if not path.is_file():
        raise UserMistake(f"there is no run file {path}")
    if not h5py.is_hdf5(path):
        raise UserMistake(f"{path} is not an HDF5 file")
    live = not own_lock and is_locked(path)
    if not own_lock and not live:  # one that is being written changes all the time
        ask_guards(path)
    try:
        file, stream = _open(path, live=live)
    except HDF5_ERRORS as error:
        raise UserMistake(f"{path} cannot be opened, it is probably truncated: {explain(error)}") from error
    with stream, file:
        try:
            _check_schema(path, file)
            yield file
        except READ_ERRORS as error:
            raise UserMistake(f"{path} is damaged: {explain(error)}") from error


def _open(path: Path, live: bool) -> tuple[h5py.File, AbstractContextManager[object]]:
    """The open file, and what has to be closed after it."""
    import h5py

    with suppress(*HDF5_ERRORS):  # marked as being written, by a live writer or by one that died
        return h5py.File(path, "r", locking="best-effort"), nullcontext()
    if not live:
        stream = MendedFile(path)
        try:
            return h5py.File(stream, "r"), stream
        except HDF5_ERRORS:
            stream.close()
            raise
    with suppress(*HDF5_ERRORS):  # the writer has finished in between, and the file opens the plain way
        return h5py.File(path, "r", swmr=True, locking="best-effort"), nullcontext()
    return h5py.File(path, "r", locking="best-effort"), nullcontext()


def _check_schema(path: Path, file: h5py.File) -> None:
    if file.attrs.get("schema") != SCHEMA:
        raise UserMistake(f"{path} is an HDF5 file, but not a run file of rram-bench")
    version = file.attrs.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UserMistake(f"{path} has version {version} of the run-file schema; this program reads {SCHEMA_VERSION}")


class _Attributes(dict[str, Attribute]):
    """Attributes at the root of a file. One that is asked for and not there is damage."""

    def __init__(self, path: Path, attributes: Mapping[str, Attribute]) -> None:
        super().__init__(attributes)
        self._path = path

    def __missing__(self, name: str) -> Attribute:
        raise UserMistake(f"{self._path} is damaged: it has no attribute {name}")


class Run:
    """A run file. Every access opens it anew, so that a run being written shows its latest records.

    Attributes:
        path: where it is.
        procedure: name of the procedure that made it.
        attributes: everything else at the root: parameters, bench file, identities, versions, seeds, start.
        tables: tables by name, with their columns.
        coordinates: values along the shared dimensions, by name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with opened(path) as file:
            self.attributes: Mapping[str, Attribute] = _Attributes(path, read_attributes(file))
            self.procedure = str(self.attributes["procedure"])
            layout = read_layout(file)
        self.tables: Mapping[str, Table] = layout[0]
        self.coordinates: Mapping[str, Coordinate] = layout[1]

    @property
    def ending(self) -> Ending:
        """Status, reason and time of the end. A file whose writer died counts as interrupted."""
        # The lock is looked at first: a writer that finishes in between has then written its end record.
        locked = is_locked(self.path)
        with opened(self.path) as file:
            ending = read_ending(file)
        if ending.status is RunStatus.RUNNING and not locked:
            return Ending(RunStatus.INTERRUPTED, "the program that wrote the run ended without closing it", "")
        return ending

    @property
    def result(self) -> dict[str, Any]:
        """The procedure's own summary; empty where the run did not come to one."""
        text = self.ending.result
        try:
            return dict(json.loads(text)) if text else {}
        except ValueError as error:
            raise UserMistake(f"{self.path} is damaged: its result is no JSON: {error}") from None

    @property
    def status(self) -> RunStatus:
        """Where the run stands now."""
        return self.ending.status

    def rows(self, table: str) -> int:
        """Number of records that ``table`` holds now."""
        with opened(self.path) as file:
            return written_rows(file, self._table(table))

    def read(self, table: str, columns: Sequence[str] | None = None, rows: slice = slice(None)) -> dict[str, Array]:
        """Read a table, or part of it.

        Args:
            table: name of the table.
            columns: names of the columns, ``time_s`` among them; all when left out.
            rows: which records.

        Returns:
            Arrays ``(records, *dims)`` by column name, all with the same number of records.

        Raises:
            UserMistake: no such table or column, or the file is gone or damaged.
        """
        known = self._table(table)
        names = [column.name for column in (TIME, *known.columns)] if columns is None else list(columns)
        for name in names:
            known.column(name)
        with opened(self.path) as file:
            count = written_rows(file, known)
            start, stop, step = rows.indices(count)
            if step < 1:
                raise UserMistake(f"records are read forwards, not in steps of {step}")
            found = {name: file[table][name][start : max(start, stop) : step] for name in names}
        length = len(range(start, max(start, stop), step))
        for name, array in found.items():
            column = known.column(name)
            shape = (length, *(len(self.coordinates[dim].array) for dim in column.dims))
            try:
                column.checked(array, shape, table)
            except UserMistake as error:
                raise UserMistake(f"{self.path} is damaged: {error}") from None
        return found

    def check_cells(self, table: str, found: Mapping[str, Array]) -> None:
        """Refuse records of devices that the array does not have, and weights that are none.

        Args:
            table: where ``found`` was read from.
            found: columns; of them ``row``, ``col`` and ``device`` are places in the array, ``target`` and ``sensed``
                weights.

        Raises:
            UserMistake: naming the file, the column and the value.
        """
        allowed = {name: self.coordinates[name].array for name in ("row", "col", "device") if name in self.coordinates}
        allowed |= dict.fromkeys(("target", "sensed"), np.array([-1, 0, 1]))
        for name, values in allowed.items():
            if name in found and not (right := np.isin(found[name], values)).all():
                span = f"{values.min()} to {values.max()}"
                raise UserMistake(f"{self.path} is damaged: {table}.{name} holds {found[name][~right][0]}, not {span}")

    def __repr__(self) -> str:
        started = str(self.attributes.get("started", ""))[:19]
        return f"<Run {self.path.name}: {self.procedure}, {self.status}, {started}, tables {', '.join(self.tables)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: procedure, when, how it ended, and the tables with their records."""
        ending = self.ending
        with opened(self.path) as file:
            counts = {name: written_rows(file, table) for name, table in self.tables.items()}
        lines = {
            "procedure": self.procedure,
            "when": " to ".join(filter(None, [str(self.attributes.get("started", "")), ending.ended])),
            "status": f"{ending.status}: {ending.reason}" if ending.reason else ending.status.value,
            "chip": str(self.attributes.get("chip_id", "")),
            "parameters": str(self.attributes.get("parameters", "")),
            "tables": ", ".join(f"{name} ({count})" for name, count in counts.items()),
        }
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(value)}</td></tr>"
            for name, value in lines.items()
            if value
        )
        return f"<table><caption style='text-align:left'>{escape(self.path.name)}</caption>{rows}</table>"

    def _table(self, name: str) -> Table:
        try:
            return self.tables[name]
        except KeyError:
            raise UserMistake(f"{self.path} has no table {name!r}; it has {', '.join(self.tables)}") from None


def open_run(path: str | Path) -> Run:
    """Open a run file for reading.

    Raises:
        UserMistake: there is no such file, it is not a run file, of another version, truncated or damaged.
    """
    return Run(Path(path))
