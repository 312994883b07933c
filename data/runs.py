"""Writing a run: one HDF5 file, in which no acknowledged record is lost whatever happens to the program.

The file is written in HDF5's SWMR mode. Its whole layout is made first, under a temporary name; from the moment it
has its own name any HDF5 reader can open it. A record counts as acknowledged when :meth:`RunWriter.append` returns;
it is then out of the process's hands, and on the disk within a second. A finished run is rewritten compactly, read
back and renamed. The schema is in ``docs/run-file.md``.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from data.run_reading import Ending, Run, open_run
from data.run_recovery import find_interrupted, recover, remove_leftovers, rewrite_compactly, sweep
from data.run_schema import (
    END_GROUP,
    REASON_BYTES,
    RESULT_BYTES,
    SCHEMA,
    SCHEMA_VERSION,
    STATUS_CODES,
    TIME,
    Array,
    Attribute,
    Column,
    Coordinate,
    RunStatus,
    Table,
    checked_attributes,
    checked_layout,
    make_column,
    make_index,
    write_dimensions,
)
from data.run_storage import (
    HDF5_ERRORS,
    RENAMES_OPEN_FILES,
    Reserve,
    RunLock,
    Syncer,
    close_on_failed_disk,
    explain,
    is_disk_full,
    sync_folder,
    unborn_path,
)
from models.exceptions import BenchFailure, UserMistake

if TYPE_CHECKING:
    import h5py

__all__ = [
    "Attribute",
    "Column",
    "Coordinate",
    "Ending",
    "Run",
    "RunStatus",
    "RunWriter",
    "Table",
    "find_interrupted",
    "open_run",
    "recover",
    "sweep",
]

LIVE_CHUNK_BYTES = 8 << 10
"""Small, because every append writes its whole chunk again."""

CHUNK_CACHE_BYTES = 2 * LIVE_CHUNK_BYTES
"""Per dataset. Appending needs the last chunk only; HDF5 would keep a megabyte of each and the memory grow with it."""

_HDF5_VERSION = ("v110", "v110")
"""The oldest file format that has SWMR, so that older readers can follow."""
_OPTIONS = {"libver": _HDF5_VERSION, "locking": "best-effort", "rdcc_nbytes": CHUNK_CACHE_BYTES}


class _Sink:
    """A dataset that grows along its first axis, written through h5py's low-level interface (6 times faster)."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        import h5py

        self._simple, self._id = h5py.h5s.create_simple, dataset.id
        self._block: tuple[tuple[int, ...], h5py.h5s.SpaceID] = ((), None)
        self.shape: tuple[int, ...] = dataset.shape[1:]
        self.chunk_bytes = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize

    def write(self, start: int, values: Array) -> None:
        """Put ``values`` at rows ``start`` and after, and hand them to the operating system."""
        extent = (start + len(values), *self.shape)
        self._id.set_extent(extent)
        space = self._simple(extent)
        space.select_hyperslab((start, *(0 for _ in self.shape)), values.shape)
        if self._block[0] != values.shape:
            self._block = values.shape, self._simple(values.shape)
        self._id.write(self._block[1], space, values)
        self._id.flush()


class RunWriter:
    """One run being recorded.

    As a context manager it ends the run as ``completed``, as ``stopped`` on Ctrl-C, or as ``failed`` with the
    exception's text. Methods may be called from any thread.

    Args:
        path: the file to make, usually ``*.h5``; it must not exist yet.
        procedure: name of the procedure.
        tables: what is recorded.
        dimensions: the axes that columns share; plain numbers stand for a :class:`Coordinate` without unit.
        attributes: everything needed to repeat the run (parameters, bench file, identities, versions, seeds).
            ``started`` (ISO 8601, UTC), ``process_id`` and ``host`` are added where they are missing.
        sync_interval_s: records are on the disk at most this long after they were acknowledged.
        clock: monotonic time in s, for the column ``time_s``.

    Raises:
        UserMistake: the layout is inconsistent, the file exists, or its folder is missing or read-only.
        BenchFailure: the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        procedure: str,
        tables: Iterable[Table],
        dimensions: Mapping[str, Coordinate | ArrayLike],
        attributes: Mapping[str, Attribute],
        *,
        sync_interval_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self._tables, coordinates = checked_layout(tables, dimensions)
        root: dict[str, Attribute] = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "procedure": procedure,
            "started": _now(),
            "process_id": os.getpid(),
            "host": platform.node(),
        }
        root |= checked_attributes(attributes)
        self._clock, self._start = clock, clock()
        self._mutex = threading.RLock()
        self._rows = dict.fromkeys(self._tables, 0)
        self._sinks: dict[str, dict[str, _Sink]] = {}
        self._failure: str | None = None
        self._finished = False
        self._file: h5py.File | None = None
        self._descriptor = -1
        self._syncer = Syncer(self.path, sync_interval_s)
        if not self.path.parent.is_dir():
            raise UserMistake(f"the folder {self.path.parent} for a run file does not exist; make it first")
        try:
            self._lock = RunLock(self.path)
            if not self._lock.acquire():
                raise UserMistake(f"another process is writing the run file {self.path}")
            try:
                if os.path.lexists(self.path):
                    raise UserMistake(f"the run file {self.path} exists already; a run is never overwritten")
                remove_leftovers(self.path)
                self._make(root, coordinates)
            except BaseException:
                self._abandon()
                remove_leftovers(self.path)
                raise
        except HDF5_ERRORS as error:
            if is_disk_full(error):
                raise BenchFailure(f"no room for the run file {self.path}: {explain(error)}") from error
            raise UserMistake(f"no run file can be made in {self.path.parent}: {explain(error)}") from error
        self._syncer.start(self._descriptor)

    def _make(self, root: Mapping[str, Attribute], coordinates: Mapping[str, Coordinate]) -> None:
        """Make the whole layout under a temporary name, switch SWMR on, then give the file its name."""
        import h5py

        unborn = unborn_path(self.path)
        file = h5py.File(unborn, "w", track_order=True, **_OPTIONS)
        self._file = file
        self._descriptor = os.open(unborn, os.O_RDWR | getattr(os, "O_BINARY", 0))
        self._reserve = Reserve(self._descriptor)
        self._reserve.ensure(0, sum(coordinate.array.nbytes for coordinate in coordinates.values()))
        for name, value in root.items():
            file.attrs[name] = value
        write_dimensions(file, coordinates)
        for table in self._tables.values():
            self._sinks[table.name] = _make_table(file, table)
        end = file.create_group(END_GROUP)
        status = end.create_dataset("status", data=np.int8(STATUS_CODES[RunStatus.RUNNING]))
        status.attrs["flag_values"] = np.array(list(STATUS_CODES.values()), np.int8)
        status.attrs["flag_meanings"] = " ".join(STATUS_CODES)
        for name, size in (("reason", REASON_BYTES), ("ended", 40), ("result", RESULT_BYTES)):
            end.create_dataset(name, data=np.bytes_(b""), dtype=f"S{size}")
        for name, dataset in end.items():
            dataset.attrs["units"], dataset.attrs["long_name"] = "1", f"{name} of the run"
        file.flush()
        if not RENAMES_OPEN_FILES:
            file.close()
            os.close(self._descriptor)
            self._descriptor = -1
            unborn.rename(self.path)
            file = self._file = h5py.File(self.path, "r+", **_OPTIONS)
            self._descriptor = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            self._reserve = Reserve(self._descriptor)
            self._sinks = {name: _sinks_of(file[name], table) for name, table in self._tables.items()}
        file.swmr_mode = True
        os.fsync(self._descriptor)
        if RENAMES_OPEN_FILES:
            unborn.rename(self.path)
        sync_folder(self.path.parent)

    def __enter__(self) -> RunWriter:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish the run as the block ended, unless that was done already."""
        if self._finished:
            return
        if error is None:
            self.finish(RunStatus.COMPLETED)
            return
        failed = isinstance(error, Exception)
        reason = f"{type(error).__name__}: {error}" if failed else type(error).__name__
        try:
            self.finish(RunStatus.FAILED if failed else RunStatus.STOPPED, reason)
        except BenchFailure as unfinished:
            error.add_note(str(unfinished))

    def append(self, table: str, /, **values: ArrayLike) -> None:
        """Record one row; it is safe from a crash of the program when this returns.

        Args:
            table: name of the table.
            values: every column of it, each of the shape of its ``dims``.

        Raises:
            UserMistake: an unknown table or column, a missing column, a wrong shape, type or flag.
            BenchFailure: the disk is full or lost. Earlier records are kept; no more can be written.
        """
        self._write(table, values, None)

    def extend(self, table: str, /, **arrays: ArrayLike) -> None:
        """Record many rows at once, like :meth:`append`; each array has a leading axis, one entry per row.

        All rows get the same ``time_s``. An array without rows is allowed and records nothing.
        """
        lengths = {name: np.shape(value)[:1] for name, value in arrays.items()}
        if () in lengths.values() or len(set(lengths.values())) > 1:
            shown = ", ".join(f"{name} {np.shape(arrays[name])}" for name in lengths)
            raise UserMistake(f"the columns for {table} need one common leading axis; got {shown}")
        rows = next(iter(lengths.values()))[0] if lengths else 0
        self._write(table, arrays, rows)

    def _write(self, name: str, values: Mapping[str, ArrayLike], rows: int | None) -> None:
        table = self._tables.get(name)
        if table is None:
            raise UserMistake(f"the run has no table {name!r}; it has {', '.join(self._tables)}")
        names = [column.name for column in table.columns]
        if set(names) != values.keys():
            missing, unknown = sorted(set(names) - values.keys()), sorted(values.keys() - set(names))
            raise UserMistake(f"a record of {name}: missing columns {missing}, unknown columns {unknown}")
        sinks = self._sinks[name]
        lead = () if rows is None else (rows,)
        count = 1 if rows is None else rows
        checked: dict[str, Array] = {}
        for column in table.columns:
            shape = sinks[column.name].shape
            array = column.checked(values[column.name], (*lead, *shape), name)
            checked[column.name] = array.reshape(count, *shape)
        with self._mutex:
            self.check()
            if count == 0:
                return
            checked[TIME.name] = np.full(count, self._clock() - self._start)
            start = self._rows[name]
            # The record number goes last: a reader trusts no row without one.
            checked[name] = np.arange(start, start + count)
            self._make_room(sinks, checked)
            try:
                for key, array in checked.items():
                    sinks[key].write(start, array)
            except HDF5_ERRORS as error:
                self._failure = explain(error)
                self._abandon()
                self.check()
            self._rows[name] = start + count
            self._syncer.touch()

    def _make_room(self, sinks: Mapping[str, _Sink], arrays: Mapping[str, Array]) -> None:
        coming = sum(array.nbytes + sinks[name].chunk_bytes for name, array in arrays.items())
        try:
            self._reserve.ensure(self._open_file().id.get_filesize(), coming)
        except OSError as error:
            self._failure = explain(error)
            self.check()

    def _open_file(self) -> h5py.File:
        if self._file is None:
            raise UserMistake(f"the run file {self.path} is closed; nothing can be recorded any more")
        return self._file

    def rows(self, table: str) -> int:
        """Number of acknowledged records of ``table``."""
        return self._rows[table]

    def check(self) -> None:
        """Raise BenchFailure if records can no longer be kept; a lost folder is noticed within a second."""
        if self._failure is None:
            self._failure = self._syncer.failure
        if self._failure is not None:
            raise BenchFailure(f"the run file {self.path} takes no more records: {self._failure}; {self._kept()}")
        self._open_file()

    def sync(self) -> None:
        """Wait until every acknowledged record is on the disk. Raises BenchFailure when the disk refuses."""
        with self._mutex:
            self.check()
            self._syncer.touch()
            self._syncer.sync()
            self.check()

    def finish(self, status: RunStatus | str, reason: str = "", result: Mapping[str, Any] | None = None) -> Path:
        """End the run: store how it ended, rewrite the file compactly, verify that, and put it in place.

        Args:
            status: completed, stopped or failed.
            reason: why, one line; may be empty for a completed run.
            result: the procedure's own summary, stored as JSON; one that is too long is left out, which its place says.

        Returns:
            The path of the finished file.

        Raises:
            UserMistake: another status, or the run was finished before.
            BenchFailure: the disk is full or lost. The records acknowledged so far stay readable where they are,
                and :func:`recover` makes a clean file of them.
        """
        if status not in (RunStatus.COMPLETED, RunStatus.STOPPED, RunStatus.FAILED):
            raise UserMistake(f"a run ends as completed, stopped or failed, not as {status!r}")
        reason = " ".join(reason.split()).encode()[: REASON_BYTES - 1].decode("utf-8", "ignore")
        with self._mutex:
            if self._finished:
                raise UserMistake(f"the run {self.path} was finished before")
            self._finished = True
            ending = Ending(RunStatus(status), reason, _now(), _as_json(result))
            try:
                self._close(ending)
                rewrite_compactly(self.path, ending)
            except UserMistake as error:
                raise BenchFailure(f"the run could not be finished: {error}") from error
            finally:
                self._abandon()
        return self.path

    def _close(self, ending: Ending) -> None:
        """Write the end record in place and close the file."""
        file = self._file
        if not self.path.exists():
            self._failure = "the file or its folder vanished"
        elif file is not None:
            try:
                end = file[END_GROUP]
                for name, value in (("reason", ending.reason), ("ended", ending.ended), ("result", ending.result)):
                    end[name][()] = np.bytes_(value.encode())
                    end[name].id.flush()
                end["status"][()] = STATUS_CODES[ending.status]
                file.flush()
                os.fsync(self._descriptor)
                file.close()
                self._file = None
                return
            except HDF5_ERRORS as error:
                self._failure = explain(error)
        advice = ", recover the file once the disk is in order" if self.path.exists() else ""
        raise BenchFailure(f"the run file {self.path} could not be closed: {self._failure}; {self._kept()}{advice}")

    def _kept(self) -> str:
        if self.path.exists():
            return "earlier records are kept"
        return "if it was moved, its records are where it is now"

    def _abandon(self) -> None:
        """Let go of thread, file, descriptor and lock, leaving on the disk what is there."""
        self._syncer.stop()
        if self._file is not None:
            close_on_failed_disk(self._file)
            self._file = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._lock.release()


def _make_table(file: h5py.File, table: Table) -> dict[str, _Sink]:
    group = file.create_group(table.name, track_order=True)
    make_index(group, table, {"shape": (0,), "maxshape": (None,), "chunks": (LIVE_CHUNK_BYTES // 8,)})
    for column in (TIME, *table.columns):
        shape = tuple(file[dim].shape[0] for dim in column.dims)
        row_bytes = int(np.prod(shape, dtype=np.int64)) * column.numpy_dtype.itemsize
        chunks = (max(1, LIVE_CHUNK_BYTES // row_bytes), *shape)
        make_column(group, column, (0, *shape), {"maxshape": (None, *shape), "chunks": chunks})
    return _sinks_of(group, table)


def _sinks_of(group: Any, table: Table) -> dict[str, _Sink]:
    return {name: _Sink(group[name]) for name in (TIME.name, *(column.name for column in table.columns), table.name)}


def _as_json(result: Mapping[str, Any] | None) -> str:
    if result is None:
        return ""
    text = json.dumps(result, default=str)
    return text if len(text) < RESULT_BYTES else json.dumps({"omitted": f"{len(text)} bytes are too long to be stored"})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
