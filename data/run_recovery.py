"""Rewriting a run file compactly: at the end of a run, or later for a run whose program died."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from data.run_reading import Ending, is_live_layout, open_run, opened, read_ending, written_rows
from data.run_schema import (
    TIME,
    Array,
    Attribute,
    Coordinate,
    RunStatus,
    Table,
    make_column,
    make_index,
    read_attributes,
    read_layout,
    write_dimensions,
)
from data.run_storage import (
    HDF5_ERRORS,
    HEADROOM_BYTES,
    RunLock,
    close_on_failed_disk,
    compact_path,
    explain,
    is_locked,
    replace_durably,
    unborn_path,
)
from models.exceptions import BenchFailure, UserMistake

if TYPE_CHECKING:
    import h5py

COMPRESSED_FROM_BYTES = 64 << 10
CHUNK_BYTES = 1 << 20
BLOCK_BYTES = 16 << 20

LEFT_ALONE_S = 60.0
"""What another program makes beside its run file right now is younger than this."""


def rewrite_compactly(path: Path, ending: Ending) -> None:
    """Replace a run file by a compact one that says how the run ended; the original stays until that is verified.

    The caller holds the run's lock.

    Raises:
        BenchFailure: the disk refused; the original is untouched.
    """
    compact = compact_path(path)
    with opened(path, own_lock=True) as source:
        contents = _Contents.of(source)
        try:
            needed, free = path.stat().st_size + HEADROOM_BYTES, shutil.disk_usage(path.parent).free
            if free < needed:
                raise BenchFailure(f"it takes {needed / 1e6:.0f} MB, and the disk has {free / 1e6:.0f} MB free")
            _write_compact(source, contents, compact, ending)
            _verify(source, contents, compact, ending)
        except BaseException as error:
            with contextlib.suppress(OSError):  # it may never have been made
                compact.unlink()
            if not isinstance(error, (BenchFailure, *HDF5_ERRORS)):
                raise
            cause = str(error) if isinstance(error, BenchFailure) else explain(error)
            raise BenchFailure(
                f"the run's records are complete in {path}, but it could not be rewritten compactly: {cause}; "
                "put that right and recover the file"
            ) from error
    replace_durably(compact, path)


class _Contents(NamedTuple):
    tables: dict[str, Table]
    coordinates: dict[str, Coordinate]
    attributes: dict[str, Attribute]
    rows: dict[str, int]

    @classmethod
    def of(cls, file: h5py.File) -> _Contents:
        tables, coordinates = read_layout(file)
        rows = {name: written_rows(file, table) for name, table in tables.items()}
        return cls(tables, coordinates, read_attributes(file), rows)


def _write_compact(source: h5py.File, contents: _Contents, compact: Path, ending: Ending) -> None:
    import h5py

    attributes = contents.attributes | {name: str(value) for name, value in ending._asdict().items()}
    target = h5py.File(compact, "w", track_order=True)
    try:
        for name, value in attributes.items():
            target.attrs[name] = value
        write_dimensions(target, contents.coordinates)
        for table in contents.tables.values():
            count = contents.rows[table.name]
            group = target.create_group(table.name, track_order=True)
            index = make_index(group, table, {"shape": (count,), **compact_storage((count,), np.dtype(np.int64))})
            index[...] = np.arange(count)
            for column in (TIME, *table.columns):
                original = source[table.name][column.name]
                shape = (count, *original.shape[1:])
                dataset = make_column(group, column, shape, compact_storage(shape, original.dtype))
                for block in blocks(shape, original.dtype):
                    dataset[block] = _intact(original, block)
        target.flush()
        target.close()
    except HDF5_ERRORS:
        close_on_failed_disk(target)
        raise
    except BaseException:
        target.close()
        raise


def _intact(original: h5py.Dataset, block: slice) -> Array:
    try:
        return np.asarray(original[block])
    except HDF5_ERRORS as error:
        raise UserMistake(f"the run file is damaged in {original.name}: {explain(error)}") from error


def compact_storage(shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    """How to store a dataset whose size will not change: small ones in one piece, big ones in compressed chunks."""
    if shape[0] == 0:
        # netCDF-4 knows an empty dimension only as an unlimited one.
        return {"maxshape": (None, *shape[1:]), "chunks": (1, *shape[1:])}
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    if row_bytes * shape[0] < COMPRESSED_FROM_BYTES:
        return {}
    rows = min(shape[0], max(1, CHUNK_BYTES // row_bytes))
    return {"chunks": (rows, *shape[1:]), "compression": "gzip", "compression_opts": 1, "shuffle": True}


def blocks(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[slice]:
    """Whole chunks of records, about ``BLOCK_BYTES`` each, so that no table is ever held in memory at once."""
    row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    chunk = max(1, CHUNK_BYTES // row_bytes)
    rows = chunk * max(1, BLOCK_BYTES // (chunk * row_bytes))
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def _verify(source: h5py.File, contents: _Contents, compact: Path, ending: Ending) -> None:
    """Read the new file back and compare it with the original, bit for bit."""
    with opened(compact) as copy:
        same = _Contents.of(copy) == contents and read_ending(copy) == ending
        same = same and all(_same_bits(copy[name][...], source[name][...]) for name in contents.coordinates)
        for table in contents.tables.values():
            for column in (TIME, *table.columns):
                same = same and _same_records(source, copy, f"{table.name}/{column.name}", contents.rows[table.name])
        if not same:
            raise BenchFailure("what was written does not read back equal")


def _same_records(source: h5py.File, copy: h5py.File, name: str, rows: int) -> bool:
    original, written = source[name], copy[name]
    cuts = blocks((rows, *original.shape[1:]), original.dtype)
    return all(_same_bits(_intact(original, block), written[block]) for block in cuts)


def _same_bits(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def find_interrupted(folder: str | Path) -> list[Path]:
    """Run files in ``folder`` (``*.h5``) that nobody writes any more and that were never finished cleanly.

    Files of other kinds, and run files that cannot be read, are passed over.
    """
    found = []
    for path in sorted(Path(folder).glob("*.h5")):
        if is_locked(path):
            continue
        try:
            with opened(path) as file:
                if is_live_layout(file):
                    found.append(path)
        except UserMistake:
            continue
    return found


def recover(path: str | Path) -> Path:
    """Make a clean file of a run whose program died: all records kept, status ``interrupted``.

    A run that had ended but could not be rewritten (a full disk) keeps the status it ended with. A file that is
    clean already is left alone.

    Raises:
        UserMistake: the run is still being written, or the file is no run file, truncated or damaged.
        BenchFailure: the disk refused; the original is untouched.
    """
    path = Path(path)
    run = open_run(path)
    lock = RunLock(path)
    try:
        if not lock.acquire():
            writer = f"process {run.attributes.get('process_id')} on {run.attributes.get('host')}"
            raise UserMistake(f"{path} is still being written by {writer}; stop that run first")
    except OSError as error:
        raise UserMistake(f"{path} cannot be recovered where it is: {explain(error)}; copy it elsewhere") from error
    try:
        with opened(path, own_lock=True) as file:
            live, ending = is_live_layout(file), read_ending(file)
        if live:
            if ending.status is RunStatus.RUNNING:
                last_change = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
                reason = "the program that wrote the run ended without closing it"
                ending = Ending(RunStatus.INTERRUPTED, reason, last_change)
            rewrite_compactly(path, ending)
            remove_leftovers(path)
    finally:
        lock.release()
    return path


def remove_leftovers(path: Path) -> None:
    """Remove what a crash during the making or the rewriting of ``path`` left beside it."""
    for leftover in (unborn_path(path), compact_path(path)):
        leftover.unlink(missing_ok=True)


def sweep(folder: str | Path, older_than_s: float = LEFT_ALONE_S) -> list[Path]:
    """Remove what programs that died left beside run files: locks, unborn files, half a compact copy.

    Nothing that is younger than ``older_than_s``, or that belongs to a run being written, is touched.

    Returns:
        What was removed.
    """
    removed = []
    for path in (*Path(folder).glob("*.h5.lock"), *Path(folder).glob(".*.h5.new"), *Path(folder).glob(".*.h5.compact")):
        run_file = path.with_name(path.stem.removeprefix("."))
        with contextlib.suppress(OSError):  # another program may sweep too, and a folder that refuses is left as it is
            if time.time() - path.stat().st_mtime >= older_than_s and not is_locked(run_file):
                path.unlink()
                removed.append(path)
    return removed
