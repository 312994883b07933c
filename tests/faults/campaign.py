"""What all parts of the campaign share: rows that count, generators with a seed, and progress on standard error."""

from __future__ import annotations

import sys
import time
import zlib
from dataclasses import dataclass, field
from typing import TextIO

import numpy as np

TELL_EVERY_S = 5.0
MOST_NOTES = 5


@dataclass
class Row:
    """One kind of fault.

    Attributes:
        fault: what was done to the bench.
        total: how many are to be injected.
        injected: how many were.
        lost: those that did what must never happen.
        undetectable: those that no client could have noticed, because what arrived was a valid answer.
        notes: the first few of either, in words.
        remarks: figures that belong to the row and are neither.
    """

    fault: str
    total: int
    injected: int = 0
    lost: int = 0
    undetectable: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def survived(self) -> int:
        """Faults that were repaired, refused or reported, as they must be."""
        return self.injected - self.lost - self.undetectable

    def lose(self, note: str) -> None:
        """Count what must never happen."""
        self.lost += 1
        self._note(f"LOST {note}")

    def pass_unseen(self, note: str) -> None:
        """Count what cannot be noticed."""
        self.undetectable += 1
        self._note(f"undetectable: {note}")

    def _note(self, note: str) -> None:
        if len(self.notes) < MOST_NOTES:
            self.notes.append(note)


class Campaign:
    """How much is injected, from which seed, and what came of it.

    Args:
        scale: part of the full number of faults.
        seed: of everything random.
        progress: where progress is told.
    """

    def __init__(self, scale: float, seed: int, progress: TextIO = sys.stderr) -> None:
        self.scale, self.seed = scale, seed
        self.rows: list[Row] = []
        self._progress = progress
        self._told_at = time.monotonic()

    @property
    def lost(self) -> int:
        """Losses of all rows."""
        return sum(row.lost for row in self.rows)

    def count(self, full: int) -> int:
        """A number of repetitions at this scale, at least 1."""
        return max(1, round(full * self.scale))

    def rng(self, *key: object) -> np.random.Generator:
        """A generator for one part of the campaign, whatever else is run."""
        return np.random.default_rng([self.seed, *(zlib.crc32(str(part).encode()) for part in key)])

    def row(self, fault: str, full: int) -> Row:
        """Begin a row of ``full`` faults at full scale."""
        row = Row(fault, self.count(full))
        self.rows.append(row)
        return row

    def tell(self, row: Row) -> None:
        """Show how far a row is, now and then."""
        if time.monotonic() - self._told_at >= TELL_EVERY_S:
            self._tell(f"{row.fault}: {row.injected} of {row.total}")

    def finish(self, row: Row, seconds: float) -> None:
        """Show what came of a row."""
        row.seconds = seconds
        self._tell(f"{row.fault}: {row.injected} injected, {row.lost} lost, {seconds:.1f} s")
        for note in row.notes:
            self._tell(f"    {note}")

    def _tell(self, text: str) -> None:
        self._told_at = time.monotonic()
        print(text, file=self._progress, flush=True)
