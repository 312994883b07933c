"""Which runs a folder holds, without reading their records."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.run_reading import is_live_layout, opened, read_ending
from data.run_schema import END_GROUP, RunStatus
from data.run_storage import READ_ERRORS, is_locked
from models.exceptions import UserMistake

if TYPE_CHECKING:
    import h5py

_AGE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)\s*([mhd])(?:\s+ago)?\Z")
_AGE_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class RunSummary:
    """A run file at a glance.

    Attributes:
        records: in all tables; of a run that is not closed, as many as there is room for.
        cells: that it was to work on; None where the file does not say.
        seconds: from start to end, to now where it goes on, to the last change of the file where nobody closed it.
        resumes: name of the file that it goes on with, or empty.
    """

    path: Path
    procedure: str
    started: datetime
    status: RunStatus
    records: int
    cells: int | None
    chip: str
    seconds: float
    resumes: str

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "file": str(self.path),
            "procedure": self.procedure,
            "started": self.started.isoformat(),
            "status": self.status.value,
            "records": self.records,
            "cells": self.cells,
            "chip_id": self.chip,
            "seconds": round(self.seconds, 3),
            "resumes": self.resumes,
        }


@dataclass(frozen=True)
class Unreadable:
    """A file that looks like a run by its name, and is none that can be read."""

    path: Path
    reason: str

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"file": str(self.path), "reason": self.reason}


def summarise(path: Path) -> RunSummary:
    """Look at one run file; no records are read.

    Raises:
        UserMistake: it is no run file, or damaged.
    """
    # The lock is looked at first: a writer that finishes in between has then written its end record.
    locked = is_locked(path)
    with opened(path) as file:
        attributes = file.attrs
        ending = read_ending(file)
        status = ending.status
        if status is RunStatus.RUNNING and not locked:
            status = RunStatus.INTERRUPTED
        try:
            started = datetime.fromisoformat(str(attributes["started"]))
            ended = datetime.fromisoformat(ending.ended) if ending.ended else _last_sign(path, status)
            cells = int(attributes["cells"]) if "cells" in attributes else None
        except ValueError as error:
            raise UserMistake(f"{path} is damaged: {error}") from error
        if started.tzinfo is None:
            started = started.replace(tzinfo=UTC)
        return RunSummary(
            path,
            str(attributes["procedure"]),
            started,
            status,
            _records(file),
            cells,
            str(attributes.get("chip_id", "")),
            max(0.0, (ended - started).total_seconds()),
            str(attributes.get("resumes", "")),
        )


def run_paths(folder: Path) -> list[Path]:
    """Files in ``folder`` that are runs by their name (``*.h5``), sorted.

    Raises:
        UserMistake: it is no folder, or closed to us.
    """
    if not folder.is_dir():
        raise UserMistake(f"there is no folder {folder}; name the one that holds your runs")
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".h5" and not path.name.startswith("."))
    except OSError as error:
        raise UserMistake(f"the folder {folder} cannot be read: {error.strerror}") from error


def look_at(path: Path) -> RunSummary | Unreadable:
    """The summary of a run file, or why there is none."""
    try:
        return summarise(path)
    except UserMistake as error:
        return Unreadable(path, str(error))
    except READ_ERRORS as error:
        return Unreadable(path, f"{path} cannot be read: {' '.join(str(error).split())}")


def list_runs(folder: Path) -> tuple[list[RunSummary], list[Unreadable]]:
    """The runs (``*.h5``) in ``folder``, the newest last, and the files of that kind that are none.

    Raises:
        UserMistake: it is no folder, or closed to us.
    """
    runs: list[RunSummary] = []
    others: list[Unreadable] = []
    for path in run_paths(folder):
        found = look_at(path)
        if isinstance(found, RunSummary):
            runs.append(found)
        else:
            others.append(found)
    return sorted(runs, key=lambda run: (run.started, run.path.name)), others


def _records(file: h5py.File) -> int:
    live = is_live_layout(file)
    names = [name for name in file if not (live and name == END_GROUP)]
    groups = [item for item in (file[name] for name in names) if hasattr(item, "keys")]
    return sum(int(group[group.name.lstrip("/")].shape[0]) for group in groups)


def _last_sign(path: Path, status: RunStatus) -> datetime:
    if status is RunStatus.RUNNING:
        return datetime.now(UTC)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC)


def parse_since(text: str) -> datetime:
    """A date, a moment (in the time of this computer where it names no zone), or an age: ``12h``, ``3d``, ``30m``.

    Raises:
        UserMistake: it is none of them.
    """
    if age := _AGE.match(text.strip()):
        return datetime.now(UTC) - timedelta(**{_AGE_UNITS[age[2]]: float(age[1])})
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except ValueError:
        raise UserMistake(
            f"{text!r} is no moment: write 2026-03-01, 2026-03-01T14:30, or an age: 30m, 12h, 3d"
        ) from None
