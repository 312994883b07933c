"""The file of a sweep: HDF5, each point once, whatever becomes of the program in the middle of it.

While a sweep runs its file holds a journal: a line for each point that ended, with a checksum, appended in HDF5's SWMR
mode and synced to the disk before the point counts as stored. When the sweep ends, however it ends, the file is written
anew with a column for each result, read back and renamed. A journal that a crash left is read as far as it is whole,
and the next start goes on from it. Only one process writes.
"""

from __future__ import annotations

import json
import os
import platform
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.sweeping.points import Outcome, PointStatus
from data.hdf5_crashed import MendedFile
from data.run_recovery import remove_leftovers
from data.run_storage import (
    HDF5_ERRORS,
    Reserve,
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

    from bench.sweeping.sweep_file import Sweep, Value

SCHEMA, SCHEMA_VERSION = "rram-bench sweep", 1
CHUNK_BYTES = 4 << 10
PACKAGES = ("rram-bench", "numpy", "scipy", "torch")
CODES = {PointStatus.MISSING: 0, PointStatus.DONE: 1, PointStatus.FAILED: 2}
_OPTIONS = {"libver": ("v110", "v110"), "locking": "best-effort"}
_UNITS = {"v": "V", "s": "s", "ohm": "ohm", "c": "degC", "a": "A", "f": "F"}


@dataclass(frozen=True)
class Stored:
    """What a file of a sweep holds.

    Attributes:
        path: the file.
        attributes: where the sweep comes from: digests, versions, host, when it began.
        sweep_file: text of the sweep file.
        seeds: of the points.
        conditions: what varies, one value for each point.
        outcomes: of the points that ended, by index.
        ended: the columns are written; otherwise it is being written, or a crash left it.
    """

    path: Path
    attributes: Mapping[str, str]
    sweep_file: str
    seeds: Sequence[int]
    conditions: Mapping[str, Sequence[Value]]
    outcomes: Mapping[int, Outcome]
    ended: bool

    def check(self, sweep: Sweep) -> None:
        """Raise UserMistake where these are results of another sweep."""
        if self.attributes["points_sha256"] != sweep.digest:
            raise UserMistake(
                f"{self.path} is of another sweep than {sweep.path} (its points, or files that it reads, differ); "
                "name another file with --out"
            )

    def count(self, status: PointStatus) -> int:
        """How many points are of this status."""
        if status is PointStatus.MISSING:
            return len(self.seeds) - len(self.outcomes)
        return sum(outcome.status is status for outcome in self.outcomes.values())


def read_sweep(path: Path, *, own_lock: bool = False) -> Stored:
    """Read the file of a sweep, whatever state it is in; nothing is modified.

    Args:
        path: the file.
        own_lock: the caller holds the file's lock, so nobody else writes it.

    Raises:
        UserMistake: there is no such file, or it is none of a sweep, or it is damaged.
    """
    import h5py

    if path.is_dir():
        raise UserMistake(f"{path} is a folder; name a file of results")
    if not path.is_file():
        raise UserMistake(f"there is no file of results {path}")
    if not h5py.is_hdf5(path):
        raise UserMistake(f"{path} is not an HDF5 file")
    try:
        with _opened(path, live=not own_lock and is_locked(path)) as file:
            if file.attrs.get("schema") != SCHEMA:
                raise UserMistake(f"{path} is an HDF5 file, but not one of a sweep")
            if file.attrs["schema_version"] != SCHEMA_VERSION:
                raise UserMistake(f"{path} has version {file.attrs['schema_version']}; known is {SCHEMA_VERSION}")
            ended = "journal" not in file
            return Stored(
                path,
                {name: str(value) for name, value in file.attrs.items()},
                file["sweep_file"].asstr()[()],
                file["seed"][...].tolist(),
                {name: _values(column) for name, column in file["conditions"].items()},
                _columns(file) if ended else _journal(file["journal"]),
                ended,
            )
    except HDF5_ERRORS as error:
        raise UserMistake(
            f"the file of the sweep {path} is damaged: {explain(error)}; move it away to start the sweep anew"
        ) from error


@contextmanager
def _opened(path: Path, live: bool) -> Iterator[h5py.File]:
    import h5py

    try:
        file, stream = h5py.File(path, "r", locking="best-effort"), nullcontext()
    except HDF5_ERRORS:  # being written, by a live process or by one that died
        if live:
            file, stream = h5py.File(path, "r", swmr=True, locking="best-effort"), nullcontext()
        else:
            stream = MendedFile(path, cut_short=True)  # type: ignore[assignment]
            try:
                file = h5py.File(stream, "r")
            except HDF5_ERRORS:
                stream.close()  # type: ignore[attr-defined]
                raise
    with stream, file:
        yield file


def _values(column: h5py.Dataset) -> list[Any]:
    import h5py

    return list(column.asstr()[...] if h5py.check_string_dtype(column.dtype) else column[...].tolist())


def _journal(journal: h5py.Dataset) -> dict[int, Outcome]:
    """Outcomes of the lines that are whole; what was cut off is computed again."""
    parts = []
    for start in range(0, len(journal), CHUNK_BYTES):
        try:
            parts.append(journal[start : start + CHUNK_BYTES].tobytes())
        except HDF5_ERRORS:
            break  # the end of the file is missing
    found: dict[int, Outcome] = {}
    for line in b"".join(parts).split(b"\n"):
        checksum, _, content = line.partition(b" ")
        if checksum == _checksum(content):
            values = json.loads(content)
            outcome = Outcome(**{**values, "status": PointStatus(values["status"])})
            found[outcome.index] = outcome
    return found


def _checksum(content: bytes) -> bytes:
    return b"%08x" % zlib.crc32(content)


def _columns(file: h5py.File) -> dict[int, Outcome]:
    status, seconds, processor_s = (file[name][...] for name in ("status", "seconds", "processor_s"))
    texts = [file[name].asstr()[...] for name in ("error", "host", "version")]
    results = {name: column[...] for name, column in file["results"].items()}
    found = {}
    for index in np.flatnonzero(status).tolist():
        numbers = {name: float(column[index]) for name, column in results.items() if np.isfinite(column[index])}
        error, host, made_by = (str(column[index]) for column in texts)
        kind = PointStatus.DONE if status[index] == CODES[PointStatus.DONE] else PointStatus.FAILED
        times = float(seconds[index]), float(processor_s[index])
        found[index] = Outcome(index, kind, error, numbers, *times, host, made_by)
    return found


class SweepStore:
    """The one writer of a sweep's file.

    Use it as a context manager. What an earlier start stored is there already. Nothing is written before the first
    :meth:`put`, but for the columns of a sweep that died before it wrote them.

    Raises:
        UserMistake: the file is of another sweep, or another process writes it, or it cannot be written there.
    """

    def __init__(self, path: Path, sweep: Sweep) -> None:
        if path.is_dir():  # which has no name to put a lock beside
            raise UserMistake(f"{path} is a folder; name a file for the results with --out")
        self.path, self._sweep = path, sweep
        self.outcomes: dict[int, Outcome] = {}
        self._ended = True
        self._file: h5py.File | None = None
        self._descriptor = -1
        self._lock = RunLock(path)
        self._began = datetime.now(UTC).isoformat(timespec="seconds")

    def __enter__(self) -> SweepStore:
        """Take the lock, and read what is there."""
        try:
            if not self._lock.acquire():
                raise UserMistake(f"another process writes {self.path}; wait for it, or name another file with --out")
        except OSError as error:
            raise UserMistake(f"cannot write {self.path}: {explain(error)}; name another file with --out") from None
        try:
            if os.path.lexists(self.path):
                earlier = read_sweep(self.path, own_lock=True)
                earlier.check(self._sweep)
                self.outcomes, self._began = dict(earlier.outcomes), earlier.attributes["began"]
                self._ended = earlier.ended
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Write the columns, unless they are there with all that is stored, and let go."""
        try:
            if self._file is not None:
                self._end_journal()
            if not self._ended:
                self._write(compact_path(self.path), self._put_columns)
        finally:
            self._lock.release()

    def put(self, outcome: Outcome) -> bool:
        """Store what came of a point; it is on the disk when this returns.

        Returns:
            False when that point is done already, or failed like this: it is stored once only.

        Raises:
            BenchFailure: the disk is full or lost; what was stored before stays.
        """
        earlier = self.outcomes.get(outcome.index)
        if earlier is not None and (earlier.status is PointStatus.DONE or outcome == earlier):
            return False
        if self._file is None:
            self._begin_journal()
        assert self._file is not None
        line = _line(outcome)
        try:
            journal = self._file["journal"]
            start = len(journal)
            self._reserve.ensure(self._file.id.get_filesize(), len(line) + 2 * CHUNK_BYTES)
            journal.resize((start + len(line),))
            journal[start:] = np.frombuffer(line, np.uint8)
            journal.flush()
            os.fsync(self._descriptor)
        except HDF5_ERRORS as error:
            self._abandon()
            raise BenchFailure(
                f"{self.path} takes no more points: {explain(error)}; those stored before are kept, and the same "
                "command goes on from them"
            ) from error
        self.outcomes[outcome.index] = outcome
        return True

    def _begin_journal(self) -> None:
        """Write a file with a journal of all that is known, and open it to append."""
        import h5py

        remove_leftovers(self.path)
        self._write(unborn_path(self.path), self._put_journal)
        try:
            self._ended = False
            self._file = h5py.File(self.path, "r+", **_OPTIONS)
            self._file.swmr_mode = True
            self._descriptor = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            self._reserve = Reserve(self._descriptor)
        except HDF5_ERRORS as error:
            raise BenchFailure(f"cannot write {self.path}: {explain(error)}") from error

    def _end_journal(self) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
        os.close(self._descriptor)

    def _abandon(self) -> None:
        assert self._file is not None
        close_on_failed_disk(self._file)
        self._file = None
        self._ended = True  # as far as this start goes: the columns would not be taken either
        os.close(self._descriptor)

    def _write(self, partial: Path, put: Callable[[h5py.File], None]) -> None:
        """Write a whole file beside the old one, read it back, and rename it."""
        import h5py

        try:
            file = h5py.File(partial, "w", track_order=True, **_OPTIONS)
            try:
                self._put_head(file)
                put(file)
                file.flush()
                file.close()
            except HDF5_ERRORS:
                close_on_failed_disk(file)
                raise
            if read_sweep(partial, own_lock=True).outcomes != self.outcomes:
                raise BenchFailure(f"what was written to {partial} does not read back equal")
            replace_durably(partial, self.path)
        except HDF5_ERRORS as error:
            partial.unlink(missing_ok=True)
            raise BenchFailure(f"cannot write {self.path}: {explain(error)}; points stored before are kept") from error

    def _put_head(self, file: h5py.File) -> None:
        sweep, points = self._sweep, self._sweep.points
        file.attrs.update(
            {
                "schema": SCHEMA,
                "schema_version": SCHEMA_VERSION,
                "experiment": sweep.experiment.name,
                "sweep_sha256": sha256(sweep.text.encode()).hexdigest(),
                "points_sha256": sweep.digest,
                "inputs": json.dumps(dict(sweep.inputs)),
                "versions": json.dumps({name: version(name) for name in PACKAGES}),
                "python": platform.python_version(),
                "host": platform.node(),
                "began": self._began,
                "written": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
        _describe(file.create_dataset("sweep_file", data=sweep.text), "1", "text of the sweep file")
        file.create_dataset("point", data=np.arange(len(points))).make_scale("point")
        _describe(file["point"], "1", "index of the point")
        self._put_column(file, "seed", [point.seed for point in points], "1", "seed of every random draw")
        conditions = file.create_group("conditions", track_order=True)
        for name in points[0].conditions:
            column = [point.conditions[name] for point in points]
            self._put_column(conditions, name, column, condition_unit(name), "")

    def _put_journal(self, file: h5py.File) -> None:
        lines = np.frombuffer(b"".join(_line(outcome) for outcome in self.outcomes.values()), np.uint8)
        file.create_dataset("journal", data=lines, maxshape=(None,), chunks=(CHUNK_BYTES,))
        _describe(file["journal"], "1", "a line of JSON with its CRC-32 for each point that ended")

    def _put_columns(self, file: h5py.File) -> None:
        indices = range(len(self._sweep.points))
        known = [self.outcomes.get(index, Outcome(index, PointStatus.MISSING)) for index in indices]
        self._put_column(file, "status", np.array([CODES[one.status] for one in known], np.int8), "1", "")
        file["status"].attrs["flag_values"] = np.array(list(CODES.values()), np.int8)
        file["status"].attrs["flag_meanings"] = " ".join(CODES)
        for name, about in (
            ("error", "why the point failed"),
            ("host", "where it was computed"),
            ("version", "of the program that computed it"),
        ):
            self._put_column(file, name, [getattr(one, name) for one in known], "1", about)
        for name, about in (("seconds", "by the clock"), ("processor_s", "of processor time")):
            self._put_column(file, name, [getattr(one, name) for one in known], "s", about)
        results = file.create_group("results", track_order=True)
        for name in dict.fromkeys(name for one in known for name in one.results):
            column = np.array([one.results.get(name, np.nan) for one in known])
            self._put_column(results, name, column, self._sweep.experiment.unit(name), "")

    def _put_column(self, group: h5py.Group, name: str, values: Any, unit: str, about: str) -> None:
        import h5py

        mixed = isinstance(values, list) and any(isinstance(value, str) for value in values)
        if mixed:
            values = np.array([str(value) for value in values], dtype=h5py.string_dtype())
        column = group.create_dataset(name, data=values)
        column.dims[0].attach_scale(group.file["point"])
        _describe(column, unit, about if about else name)


def _line(outcome: Outcome) -> bytes:
    content = json.dumps(asdict(outcome), allow_nan=False).encode()
    return _checksum(content) + b" " + content + b"\n"


def _describe(dataset: h5py.Dataset, unit: str, about: str) -> None:
    dataset.attrs["units"], dataset.attrs["long_name"] = unit, about


def condition_unit(name: str) -> str:
    """Unit of a condition: of a device file's quantity, or as the end of its name says; 1 where neither tells."""
    from models.device_model import SCHEMA as QUANTITIES

    key = name.partition(".")[2]
    if key in QUANTITIES:
        return QUANTITIES[key].unit
    return _UNITS.get(name.rpartition("_")[2], "1") if "_" in name else "1"
