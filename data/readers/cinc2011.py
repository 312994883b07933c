"""The text records of the PhysioNet / Computing in Cardiology Challenge 2011: twelve leads, 10 s, 500 Hz."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.exceptions import UserMistake

RATE_HZ = 500.0
SAMPLES = 5000
MV_PER_LSB = 0.005
"""5 µV a step, as the challenge states."""
FILE_ORDER = (0, 1, 2, 3, 5, 4, 6, 7, 8, 9, 10, 11)
"""Column of each of I II III aVR aVL aVF V1..V6. The files have aVF before aVL: in each of them the fifth column is
(II + III) / 2 and the sixth (I - III) / 2, to half a step."""
ACCEPTABLE, UNACCEPTABLE = "acceptable", "unacceptable"


def read_record(path: Path) -> NDArray[np.float32]:
    """Read one record.

    Returns:
        ``(12, 5000)`` in mV, leads in the order I II III aVR aVL aVF V1 to V6.

    Raises:
        UserMistake: no such file, not 5000 lines of a sample number and twelve whole numbers, or samples missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # an empty file is only warned of
            table = np.loadtxt(path, delimiter=",", dtype=np.int64, ndmin=2)
    except OSError as error:
        raise UserMistake(f"cannot read the record {path}: {error.strerror or error}") from error
    except (ValueError, UserWarning) as error:
        reason = " ".join(str(error).split())
        raise UserMistake(f"{path}: is no record of sample number and twelve leads ({reason})") from error
    if table.shape != (SAMPLES, 13):
        raise UserMistake(f"{path}: holds {table.shape} numbers, expected ({SAMPLES}, 13); is it cut short?")
    if not np.array_equal(table[:, 0], np.arange(SAMPLES)):
        raise UserMistake(f"{path}: its sample numbers do not count from 0 to {SAMPLES - 1}")
    return np.ascontiguousarray((MV_PER_LSB * table[:, 1:]).T[list(FILE_ORDER)], np.float32)


def read_qualities(folder: Path) -> dict[str, bool]:
    """Which records are acceptable: from ``REFERENCE.csv``, or from the two ``RECORDS-...`` lists of the challenge.

    Returns:
        Acceptable or not by record name, sorted by name.

    Raises:
        UserMistake: neither is there, or a line of it cannot be understood.
    """
    reference = folder / "REFERENCE.csv"
    if reference.is_file():
        found = _reference(reference)
    else:
        found = {}
        for name in (ACCEPTABLE, UNACCEPTABLE):
            found.update(dict.fromkeys(_names(folder / f"RECORDS-{name}"), name == ACCEPTABLE))
    if not found:
        raise UserMistake(f"{folder}: names no records")
    return dict(sorted(found.items()))


def _reference(path: Path) -> dict[str, bool]:
    found = {}
    rows = list(csv.reader(_text(path).splitlines()))
    for number, row in enumerate(rows, start=1):
        if row == ["record", "quality"] or not row:
            continue
        if len(row) != 2 or row[1] not in (ACCEPTABLE, UNACCEPTABLE):
            raise UserMistake(f"{path}, line {number}: {','.join(row)!r}, expected 'record,acceptable' or unacceptable")
        found[row[0]] = row[1] == ACCEPTABLE
    return found


def _names(path: Path) -> list[str]:
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise UserMistake(
            f"cannot read {path}: {error.strerror}; the labels stand in REFERENCE.csv or in RECORDS-{ACCEPTABLE} and "
            f"RECORDS-{UNACCEPTABLE}"
        ) from error
    except UnicodeDecodeError as error:
        raise UserMistake(f"{path}: is no plain text") from error
