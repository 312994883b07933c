"""The runs of a folder, kept up to date cheaply: a file is opened again only when it changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.run_listing import RunSummary, Unreadable, look_at, run_paths
from data.run_reading import opened
from data.run_schema import RunStatus, read_attributes
from models.exceptions import UserMistake


@dataclass(frozen=True)
class ListedRun:
    """A file that is a run by its name.

    Attributes:
        summary: the run at a glance; None where the file cannot be read.
        reason: why it cannot be read; empty where it can.
        stamp: changes when the file does.
        words: all that a search looks at, in small letters: file, procedure, chip, status, every setting.
    """

    path: Path
    summary: RunSummary | None
    reason: str
    stamp: tuple[int, int]
    words: str

    @property
    def being_written(self) -> bool:
        """Whether the run goes on."""
        return self.summary is not None and self.summary.status is RunStatus.RUNNING

    def matches(self, search: str) -> bool:
        """Whether every word of ``search`` stands somewhere in what the file says of its run."""
        return all(word in self.words for word in search.lower().split())


class RunIndex:
    """What is known of the run files of one folder after another."""

    def __init__(self) -> None:
        self._known: dict[Path, ListedRun] = {}

    def look(self, folder: Path) -> tuple[ListedRun, ...]:
        """The runs in ``folder`` as they are now, the newest first, and the files that are none at the end.

        A folder that is not there yet holds no runs.

        Raises:
            UserMistake: it is no folder, or closed to us.
        """
        paths = run_paths(folder) if folder.exists() else []
        found: dict[Path, ListedRun] = {}
        for path in paths:
            try:
                status = path.stat()
            except OSError:  # gone since the folder was read
                continue
            stamp = status.st_mtime_ns, status.st_size
            known = self._known.get(path)
            # Whether a run goes on is not in its file alone: its writer may have died.
            current = known is not None and known.stamp == stamp and not known.being_written
            found[path] = known if known is not None and current else _listed(path, stamp)
        self._known = found
        return tuple(sorted(found.values(), key=_newest_first))


def _listed(path: Path, stamp: tuple[int, int]) -> ListedRun:
    found = look_at(path)
    if isinstance(found, RunSummary):
        try:
            with opened(path) as file:
                attributes = read_attributes(file)
        except UserMistake as error:
            found = Unreadable(path, str(error))
        else:
            told = (path.name, found.status.value, *(f"{name} {value}" for name, value in attributes.items()))
            return ListedRun(path, found, "", stamp, "\n".join(told).lower())
    return ListedRun(path, None, found.reason, stamp, f"{path.name}\n{found.reason}\nnot readable".lower())


def _newest_first(listed: ListedRun) -> tuple[bool, float, str]:
    if listed.summary is None:
        return True, 0.0, listed.path.name
    return False, -listed.summary.started.timestamp(), listed.path.name
