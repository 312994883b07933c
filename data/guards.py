"""Who has to be asked before a run file is opened; light enough to be imported by a command that opens none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_GUARDS: list[Callable[[Path], None]] = []


@contextmanager
def guarded(guard: Callable[[Path], None]) -> Iterator[None]:
    """Ask ``guard`` before a run file is opened, in every thread, for the length of the block; it raises UserMistake.

    Files that a live process writes are not asked about: they change all the time.
    """
    _GUARDS.append(guard)
    try:
        yield
    finally:
        _GUARDS.remove(guard)


def ask_guards(path: Path) -> None:
    """Ask them all.

    Raises:
        UserMistake: one of them has something against the file.
    """
    for guard in _GUARDS:
        guard(path)
