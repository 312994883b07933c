"""Writing a file so that a reader only ever sees the old one or the whole new one."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from models.exceptions import UserMistake

_HEAD = 2**16
_BEGINNINGS = {
    "device file": rb"(?m)^(\w+ = \{ )?value = ",
    "network file": rb'(?s)\A.{8}\{"__metadata__":\{"rram-bench"',
    "plan": rb'\A\{"schema": "rram-bench plan',
    "ONNX file": rb"\A\x08",
    "picture": rb"\A(\x89PNG|%PDF|%!PS|<\?xml|<svg|\xff\xd8|II\*|RIFF)",
    "report": rb"(?i)\A<!doctype html",
    "table of the points": rb"\Apoint,",
    "table of the cells": rb"\Arow,col,",
    "table of the dies": rb"\Acolumn,row,chip,",
}
"""What the first bytes of a file show that may be replaced by one of a kind: measurements are not made twice."""


@contextlib.contextmanager
def replacing(path: Path, what: str) -> Iterator[Path]:
    """Yield a path beside ``path`` to write to; at the end of the block it is synced and renamed over ``path``.

    Args:
        path: where the file shall be.
        what: what the file is, for the error.

    Raises:
        UserMistake: it cannot be written there. What was there before is untouched, whatever the block raises.
    """
    check_writable(path, what)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        reason = " ".join(str(error).split()) if error.strerror is None else error.strerror
        raise UserMistake(f"cannot write the {what} {path}: {reason}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes, what: str) -> None:
    """Write ``content`` beside ``path``, sync it to the disk and rename it over ``path``.

    Args:
        path: where the file shall be.
        content: the whole file.
        what: what the file is, for the error.

    Raises:
        UserMistake: it cannot be written there. What was there before is untouched.
    """
    with replacing(path, what) as partial:
        partial.write_bytes(content)


def check_writable(path: Path, what: str) -> None:
    """Look whether a file can be put at ``path``, before the work that makes its content.

    Raises:
        UserMistake: the folder is missing or closed to us, or something other than a plain file stands there: a device
            or a link would be replaced, not written to. Or a file of another kind stands there, which would be lost.
    """
    if not path.name or path.is_dir():
        raise UserMistake(f"cannot write the {what} {str(path)!r}: it names a folder; give a file name")
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UserMistake(f"cannot write the {what} {path}: something that is no plain file stands there")
        if path.exists() and what in _BEGINNINGS:
            with path.open("rb") as file:
                head = file.read(_HEAD)
            if head and not re.search(_BEGINNINGS[what], head):
                raise UserMistake(
                    f"cannot write the {what} {path}: a file stands there that is no {what}; name another place, "
                    "or move it away"
                )
        probe = path.with_name(f".{os.getpid()}.probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserMistake(f"cannot write the {what} {path}: {error.strerror}; name another place") from error
