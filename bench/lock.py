"""One bench, one owner: a lock on every resource of a bench, which says who holds it.

Two programs on one instrument take turns in setting it and read each other's answers; where the wire itself does not
keep the second one out (GPIB, USB, TCP), this does. A holder that crashes loses its locks with its process.
"""

from __future__ import annotations

import errno
import getpass
import hashlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import filelock

from drivers.resource_names import canonical
from models.exceptions import UserMistake

FOLDER_VARIABLE = "RRAM_BENCH_LOCKS"
"""Environment variable that names the folder of the locks: one for all accounts that share a computer's bench."""

_END = ".lock"
_SHARED = 0o666


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        pid: process id.
        command: as it was typed.
        since: local time, ISO 8601.
    """

    pid: int
    user: str
    host: str
    command: str
    since: str

    def __str__(self) -> str:
        return f"{self.user} on {self.host}, process {self.pid} ({self.command}), since {self.since}"


class BenchLock:
    """A claim on resources, all of them or none. A context manager; safe to release twice.

    Args:
        resources: VISA resource names and serial ports; different spellings of one of them are one.
        folder: where the locks are; by default that of :func:`lock_folder`.
    """

    def __init__(self, resources: Iterable[str], folder: Path | None = None) -> None:
        # Sorted, so that two programs that want the same ones ask in the same order.
        self._resources = dict(sorted((canonical(resource), resource) for resource in resources))
        self._folder = lock_folder() if folder is None else folder
        self._held: list[tuple[filelock.FileLock, Path]] = []

    @property
    def resources(self) -> dict[str, str]:
        """What it claims: each resource as it was named, by the one spelling for all of its names."""
        return dict(self._resources)

    def acquire(self) -> None:
        """Take all locks at once, without waiting.

        Raises:
            UserMistake: somebody holds one of them, who is named, or the folder cannot be written to.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for key, resource in self._resources.items():
                self._take(key, resource)
        except OSError as error:
            self.release()
            raise UserMistake(
                f"folder {self._folder} of the bench's locks: {error.strerror}; "
                f"name one that can be written to in {FOLDER_VARIABLE}"
            ) from None
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give all locks back."""
        while self._held:
            lock, note = self._held.pop()
            note.unlink(missing_ok=True)
            lock.release()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _take(self, key: str, resource: str) -> None:
        note = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
        # Not thread-local: whichever thread closes the bench gives the lock back.
        path = note.with_suffix(_END)
        lock = filelock.FileLock(path, timeout=0, mode=_SHARED, thread_local=False)
        # filelock reports a file that it may not open as a lock that somebody else holds.
        if not os.access(path if path.exists() else self._folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        try:
            lock.acquire()
        except filelock.Timeout:
            raise UserMistake(
                f"{resource} is in use by {_read(note)}; end that program first: it leaves the outputs off"
            ) from None
        self._held.append((lock, note))
        # A holder that crashed left a note, and maybe another account wrote it.
        note.unlink(missing_ok=True)
        note.write_text(json.dumps({"resource": resource, **asdict(_ourselves())}), encoding="utf-8")


def lock_folder() -> Path:
    """Where locks are kept: a folder of the user's own, unless the environment names a shared one."""
    shared = os.environ.get(FOLDER_VARIABLE, "")
    if shared:
        return Path(shared)
    who = str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
    return Path(tempfile.gettempdir()) / f"rram-bench-{who}"


def _ourselves() -> Holder:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account without a name, as containers have
        user = f"user {os.getuid()}"
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return Holder(
        os.getpid(), user, socket.gethostname(), command, datetime.now().isoformat(sep=" ", timespec="seconds")
    )


def _read(note: Path) -> str:
    """Who wrote the note; the lock itself says only that somebody does."""
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        content.pop("resource")
        return str(Holder(**content))
    except (OSError, ValueError, TypeError, KeyError):
        return "another program"
