"""One line of a benchmark's table, and how a repeated measurement is summed up."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A measured figure: median, and the lowest and highest of its repetitions."""

    what: str
    unit: str
    median: float
    low: float
    high: float

    @property
    def taken(self) -> bool:
        """Whether there is a figure; of what is not installed there is none, and the unit says so."""
        return not math.isnan(self.median)

    def __str__(self) -> str:
        if not self.taken:
            return f"{self.what:<64} {self.unit:>12}"
        return f"{self.what:<64} {self.median:>12.4g} {self.unit:<18} ({self.low:.4g} to {self.high:.4g})"


def row(what: str, unit: str, values: list[float]) -> Row:
    """Sum up the repetitions of a measurement."""
    return Row(what, unit, statistics.median(values), min(values), max(values))


def seconds_of(action: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one call in s: wall-clock, or that of the processor with ``time.process_time``."""
    started = clock()
    action()
    return clock() - started


def in_turns(actions: Mapping[str, Callable[[], object]], times: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Processor seconds of each action, all in turns after some calls that do not count.

    The processor's time, not the clock's: what else a shared machine does then counts as little as it can. Before each
    timed call goes one that is not, so that an action finds the caches as in a loop of its own.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(warm_up + times):
        for name, action in actions.items():
            action()
            taken = seconds_of(action, time.process_time)
            if turn >= warm_up:
                seconds[name].append(taken)
    return seconds


def ratio_of_best(what: str, unit: str, over: list[float], under: list[float]) -> Row:
    """Ratio of the shortest times, with the quarter and three quarters of the ratios of neighbours."""
    low, _, high = statistics.quantiles([a / b for a, b in zip(over, under, strict=True)], n=4)
    return Row(what, unit, min(over) / min(under), low, high)
