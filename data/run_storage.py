"""What stands between HDF5 and a disk that may be full, lost or pulled: locks, reserved space, syncing, renaming."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import filelock

if TYPE_CHECKING:
    import h5py

HEADROOM_BYTES = 1 << 20
"""Disk space held ahead of what HDF5 uses: far more than one append's metadata can need."""

RENAMES_OPEN_FILES = os.name != "nt"

HDF5_ERRORS = (OSError, RuntimeError, ValueError, KeyError)
"""What h5py raises for a failed read or write, by layer of the library that met it."""

READ_ERRORS = (*HDF5_ERRORS, AttributeError, TypeError, IndexError)
"""What reading a damaged file may come to: besides, an object may be of another kind than it was written as."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explain(error: BaseException) -> str:
    """One line for a disk error; HDF5's own texts run over several lines and name its internals."""
    if is_disk_full(error):
        return "the disk is full (or a quota is used up)"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return " ".join(str(error).split())[:200]


def is_disk_full(error: BaseException) -> bool:
    """Whether a write was refused for want of room (HDF5 tells it in the text of its errors only)."""
    number = error.errno if isinstance(error, OSError) else None
    return number in _DISK_FULL or any(f"errno = {code}," in str(error) for code in _DISK_FULL)


def lock_path(path: Path) -> Path:
    """The lock file beside a run file."""
    return path.with_name(f"{path.name}.lock")


def unborn_path(path: Path) -> Path:
    """Where a run file is until its layout is complete."""
    return path.with_name(f".{path.name}.new")


def compact_path(path: Path) -> Path:
    """Where the compact copy of a run file is until it is verified."""
    return path.with_name(f".{path.name}.compact")


class RunLock:
    """Held by the one process that writes a run file. The system releases it when that process dies."""

    def __init__(self, path: Path) -> None:
        self._path = lock_path(path)
        # Not thread-local: a run may be finished by another thread than the one that started it.
        self._lock = filelock.FileLock(self._path, timeout=0, thread_local=False)

    def acquire(self) -> bool:
        """Take the lock; False when somebody else holds it. Raises OSError when the folder does not allow it."""
        # filelock reports a folder where the file cannot be made as a lock that somebody else holds.
        self._path.touch()
        try:
            self._lock.acquire()
        except filelock.Timeout:
            return False
        return True

    def release(self) -> None:
        """Let go, and remove the lock file; nothing happens when it is not held."""
        if not self._lock.is_locked:
            return
        self._lock.release()
        with contextlib.suppress(OSError):  # a folder that vanished took the lock file along
            self._path.unlink()


def is_locked(path: Path) -> bool:
    """Whether a live process writes ``path``. Creates nothing; when it cannot be found out, the answer is yes."""
    if not lock_path(path).exists():
        return False
    lock = filelock.FileLock(lock_path(path), timeout=0)
    try:
        lock.acquire()
    except (filelock.Timeout, OSError):
        return True
    lock.release()
    return False


class Reserve:
    """Keeps disk space allocated ahead of HDF5, so that a full disk is met here and never inside the library.

    HDF5 cannot be brought back from a failed write: closing the file fails and the process may crash at exit.

    Args:
        descriptor: open for writing on the run file, apart from HDF5's own.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ensure(self, used: int, coming: int) -> None:
        """Hold room for ``coming`` bytes after the ``used`` ones, and the headroom. Raises OSError if there is none."""
        allocated = os.fstat(self._descriptor).st_size
        wanted = used + coming + HEADROOM_BYTES
        if wanted <= allocated:
            return
        wanted = -(-wanted // HEADROOM_BYTES) * HEADROOM_BYTES
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._descriptor, 0, wanted)
            return
        position = max(allocated, used)
        while position < wanted:
            os.lseek(self._descriptor, position, os.SEEK_SET)
            position += os.write(self._descriptor, bytes(min(wanted - position, HEADROOM_BYTES)))


class Syncer:
    """A thread that syncs a file to its disk at most ``interval_s`` after it was touched, and sees it vanish.

    Args:
        path: the visible name of the file.
        interval_s: how often to sync.
    """

    def __init__(self, path: Path, interval_s: float) -> None:
        self._path, self._interval_s = path, interval_s
        self._descriptor = -1
        self._touched, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: str | None = None

    def start(self, descriptor: int) -> None:
        """Begin, with an open descriptor of the file for writing; it stays the caller's."""
        self._descriptor = descriptor
        self._thread = threading.Thread(target=self._work, name=f"sync {self._path.name}", daemon=True)
        self._thread.start()

    def touch(self) -> None:
        """Something was written."""
        self._touched.set()

    def sync(self) -> None:
        """Sync now if something was written, look whether the file is still there, and remember what went wrong."""
        try:
            if self._touched.is_set():
                self._touched.clear()
                os.fsync(self._descriptor)
            ours, visible = os.fstat(self._descriptor), self._path.stat()
        except FileNotFoundError:
            self.failure = "the file or its folder vanished"
        except OSError as error:
            self.failure = explain(error)
        else:
            if (ours.st_dev, ours.st_ino) != (visible.st_dev, visible.st_ino):
                self.failure = "another file took its place"

    def stop(self) -> None:
        """End the thread, if there is one; does not sync."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self.sync()


def close_on_failed_disk(file: h5py.File) -> None:
    """Close an HDF5 file whose disk refused a write, leaving what is on the disk as it is.

    HDF5 keeps the refused data and tries again at close and at exit, where it crashes the process. Its descriptor is
    therefore pointed at the null device first, which accepts everything.
    """
    if os.name == "posix":
        sink = os.open(os.devnull, os.O_RDWR)
        os.dup2(sink, file.id.get_vfd_handle(), inheritable=False)
        os.close(sink)
    with contextlib.suppress(*HDF5_ERRORS):  # the failure itself has been reported by the caller already
        file.close()


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable (where the system can sync a folder)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_durably(source: Path, target: Path) -> None:
    """Rename ``source`` over ``target``, both synced to the disk."""
    descriptor = os.open(source, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    source.replace(target)
    sync_folder(target.parent)
