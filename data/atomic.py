"""Writing a file so that a reader only ever sees the old one or the whole new one."""

from __future__ import annotations

import os
from pathlib import Path

from models.exceptions import UserMistake


def write_atomically(path: Path, content: bytes, what: str) -> None:
    """Write ``content`` beside ``path``, sync it to the disk and rename it over ``path``.

    Args:
        path: where the file shall be.
        content: the whole file.
        what: what the file is, for the error.

    Raises:
        UserMistake: it cannot be written there. What was there before is untouched.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserMistake(f"cannot write the {what} {path}: {error.strerror}") from error
