"""EDF and EDF+ recordings, read with pyEDFlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.readers.recordings import Mark, Recording, missing_library
from models.exceptions import UserMistake

HEADER_BYTES = 256
"""Of the file, and again for each of its signals."""


def read_edf(path: Path) -> Recording:
    """Read a continuous EDF or EDF+ file whose signals share one rate.

    Returns:
        The recording in the units of the file (µV as a rule) and its annotations.

    Raises:
        UserMistake: no such file, not EDF, cut short, discontinuous, or signals of several rates.
    """
    try:
        import pyedflib
    except ImportError as error:
        raise missing_library("EDF files", "pyEDFlib") from error
    _check_size(path)
    try:
        with pyedflib.EdfReader(str(path)) as file:
            rates = sorted({float(file.getSampleFrequency(number)) for number in range(file.signals_in_file)})
            if len(rates) != 1:
                raise UserMistake(f"{path}: its signals have the rates {rates} Hz, exactly one is expected")
            signals = np.stack([file.readSignal(number) for number in range(file.signals_in_file)])
            names = tuple(label.strip(" .") for label in file.getSignalLabels())
            units = tuple(file.getPhysicalDimension(number).strip() for number in range(file.signals_in_file))
            onsets, durations, texts = file.readAnnotations()
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()).removeprefix(f"{path}: ")
        raise UserMistake(f"{path}: cannot be read as EDF: {reason}") from error
    marks = tuple(
        Mark(float(onset), float(duration), str(text))
        for onset, duration, text in zip(onsets, durations, texts, strict=True)
    )
    return Recording(path.stem, signals.astype(np.float32), rates[0], names, units, marks)


def _check_size(path: Path) -> None:
    """The library reads on beyond the end of some files that are cut short: the header says what there must be."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
            signals = _number(header, 252, 256, "number of signals", path)
            per_signal = file.read(HEADER_BYTES * signals)
    except OSError as error:
        raise UserMistake(f"cannot read the recording {path}: {error.strerror}") from error
    if signals < 1 or len(per_signal) != HEADER_BYTES * signals:
        raise UserMistake(f"{path}: its header is cut short, or no EDF header ({signals} signals, {size} bytes)")
    records = _number(header, 236, 244, "number of records", path)
    begin = 216 * signals
    samples = sum(
        _number(per_signal, begin + 8 * number, begin + 8 * number + 8, "samples of a signal", path)
        for number in range(signals)
    )
    expected = HEADER_BYTES * (1 + signals) + 2 * samples * records
    if size != expected:
        raise UserMistake(f"{path}: has {size} bytes, its header asks for {expected}; it is cut short or damaged")


def _number(header: bytes, begin: int, end: int, what: str, path: Path) -> int:
    text = header[begin:end]
    try:
        return int(text.decode("ascii"))
    except ValueError as error:
        raise UserMistake(f"{path}: is no EDF file, its {what} reads {text!r}") from error
