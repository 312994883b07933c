"""What a recording of several signals is, whatever format it was read from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.exceptions import UserMistake


@dataclass(frozen=True)
class Mark:
    """An annotation.

    Attributes:
        onset_s, duration_s: from the start of the recording, in s.
        text: what the annotator wrote, such as "T1" (a cue) or "V" (a ventricular beat).
    """

    onset_s: float
    duration_s: float
    text: str


@dataclass(frozen=True, eq=False)
class Recording:
    """Signals taken together.

    Attributes:
        name: of the record.
        signals: ``(channels, samples)`` float32, in ``units``; NaN where the file says that a sample is missing.
        rate_hz: samples in a second.
        channels, units: names and units, one each per channel.
        marks: annotations, in order.
        comments: lines of the header.
    """

    name: str
    signals: NDArray[np.float32]
    rate_hz: float
    channels: tuple[str, ...]
    units: tuple[str, ...]
    marks: tuple[Mark, ...] = ()
    comments: tuple[str, ...] = ()

    def window(self, begin_s: float, samples: int) -> NDArray[np.float32] | None:
        """``(channels, samples)`` from ``begin_s`` on; None where it leaves the recording or holds missing samples."""
        begin = round(begin_s * self.rate_hz)
        if begin < 0 or begin + samples > self.signals.shape[1]:
            return None
        cut = self.signals[:, begin : begin + samples]
        return cut if bool(np.isfinite(cut).all()) else None


def missing_library(what: str, library: str) -> UserMistake:
    """The error for a library of the optional extra that is not installed."""
    return UserMistake(f"reading {what} needs {library}: pip install 'rram-bench[data]'")
