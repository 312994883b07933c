"""WFDB records, the format of PhysioNet, read with the wfdb package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.readers.recordings import Mark, Recording, missing_library
from models.exceptions import UserMistake


def read_wfdb(header: Path, annotations: str | None = None) -> Recording:
    """Read a WFDB record whose signals share one rate.

    Args:
        header: its header file, ``.../100.hea``; the signal files lie beside it.
        annotations: extension of an annotation file beside it, such as "atr".

    Returns:
        The recording in its physical units (mV as a rule). A mark lasts no time.

    Raises:
        UserMistake: a file is missing, cut short, or not what its header says.
    """
    try:
        import wfdb
    except ImportError as error:
        raise missing_library("WFDB records", "wfdb") from error
    if not header.is_file():
        raise UserMistake(f"there is no record {header}")
    record_path = str(header.with_suffix(""))
    try:
        record = wfdb.rdrecord(record_path)
        signals, rate_hz = record.p_signal, float(record.fs)
        marks = []
        if annotations is not None:
            found = wfdb.rdann(record_path, annotations)
            marks = [
                Mark(int(sample) / rate_hz, 0.0, str(symbol))
                for sample, symbol in zip(found.sample, found.symbol, strict=True)
            ]
    except Exception as error:  # the package raises what its parsing happens to meet
        reason = " ".join(str(error).split())
        raise UserMistake(
            f"{header}: the record cannot be read, a file of it is missing, cut short or damaged "
            f"({type(error).__name__}: {reason})"
        ) from error
    if signals is None or signals.ndim != 2 or len(signals) != record.sig_len or not len(signals):
        raise UserMistake(f"{header}: its signal files do not hold the {record.sig_len} samples that it announces")
    return Recording(
        header.stem,
        np.ascontiguousarray(signals.T, np.float32),
        rate_hz,
        tuple(record.sig_name),
        tuple(record.units),
        tuple(marks),
        tuple(record.comments),
    )
