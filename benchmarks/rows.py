"""One line of a benchmark's table, and how a repeated measurement is summed up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A measured figure: median, and the lowest and highest of its repetitions."""

    what: str
    unit: str
    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.what:<64} {self.median:>12.4g} {self.unit:<18} ({self.low:.4g} to {self.high:.4g})"


def row(what: str, unit: str, values: list[float]) -> Row:
    """Sum up the repetitions of a measurement."""
    return Row(what, unit, statistics.median(values), min(values), max(values))


def seconds_of(action: Callable[[], object]) -> float:
    """Wall-clock time of one call, in s."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
