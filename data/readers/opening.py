"""Finding and opening the files of a data set, gzipped or plain."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable
from pathlib import Path

from models.exceptions import UserMistake

FOLDER_VARIABLE = "RRAM_BENCH_DATA"
"""Environment variable that names the folder of data sets."""
GZIP_MAGIC = b"\x1f\x8b"


def data_folder(folder: Path | None, wanted: str) -> Path:
    """The folder that data sets lie in: ``folder``, or what the environment says.

    Args:
        folder: as the user named it, or None.
        wanted: the data set that is looked for, for the error.

    Raises:
        UserMistake: neither is given, or it is no folder.
    """
    if folder is None:
        named = os.environ.get(FOLDER_VARIABLE, "")
        if not named:
            raise UserMistake(
                f"the data set {wanted} is read from a folder: name it with --data-dir or {FOLDER_VARIABLE} "
                "('rram-bench data fetch' downloads, 'rram-bench data list' shows what there is)"
            )
        folder = Path(named)
    folder = folder.expanduser()
    if not folder.is_dir():
        raise UserMistake(f"the folder of data sets {folder} does not exist; looked there for {wanted}")
    return folder


def find_file(root: Path, folders: Iterable[str], names: Iterable[str]) -> Path | None:
    """The first of ``names``, plain or with ``.gz``, in the first of ``folders`` below ``root`` that holds one.

    ``root`` itself is looked at last, for a user who names the folder of one data set.
    """
    names = tuple(names)
    for place in (*(root / folder for folder in folders), root):
        for name in names:
            for path in (place / name, place / f"{name}.gz"):
                if path.is_file():
                    return path
    return None


def need_file(root: Path, folders: Iterable[str], names: Iterable[str], wanted: str) -> Path:
    """As :func:`find_file`.

    Raises:
        UserMistake: there is none; the text says where it was looked for.
    """
    folders, names = tuple(folders), tuple(names)
    found = find_file(root, folders, names)
    if found is None:
        places = ", ".join(str(root / folder) for folder in folders)
        raise UserMistake(f"{wanted}: there is no {' or '.join(names)} (or .gz) in {places} or {root}")
    return found


def need_folder(root: Path, folders: Iterable[str], holds: str, wanted: str) -> Path:
    """The first of ``folders`` below ``root``, or ``root`` itself, that holds a file like the glob ``holds``.

    Raises:
        UserMistake: there is none; the text says where it was looked for.
    """
    folders = tuple(folders)
    for place in (*(root / folder for folder in folders), root):
        if place.is_dir() and next(place.glob(holds), None) is not None:
            return place
    places = ", ".join(str(root / folder) for folder in folders)
    raise UserMistake(f"{wanted}: there is no {holds} in {places} or {root}")


def read_bytes(path: Path) -> bytes:
    """The whole content of a file, unpacked if it is gzipped.

    Raises:
        UserMistake: it cannot be read, or the gzip stream is cut short or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserMistake(f"cannot read {path}: {error.strerror}") from error
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise UserMistake(f"{path}: the gzip file is cut short or damaged ({error}); fetch it again") from error
