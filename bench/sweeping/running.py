"""Running a sweep: what is missing is computed, what comes back is stored, and somebody is told how it goes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from bench.stopping import StopToken
from bench.sweeping.local import Engine
from bench.sweeping.points import Outcome, PointStatus, own_version
from bench.sweeping.store import SweepStore
from bench.sweeping.sweep_file import Sweep
from models.exceptions import UserMistake


@dataclass
class Progress:
    """How far a sweep is.

    Attributes:
        points: of the whole sweep.
        wanted: how many this start computes.
        computed: of those, how many ended.
        done, failed: points that are stored, of this start and of earlier ones.
        processor_s: that all stored points took.
    """

    points: int
    wanted: int
    computed: int = 0
    done: int = 0
    failed: int = 0
    processor_s: float = 0.0

    def count(self, outcome: Outcome, times: int) -> None:
        """Take note of a point that is stored, or with -1 of one that is not stored any more."""
        self.done += times * (outcome.status is PointStatus.DONE)
        self.failed += times * (outcome.status is PointStatus.FAILED)
        self.processor_s += times * outcome.processor_s


def wanted_points(sweep: Sweep, store: SweepStore, retry: bool) -> list[int]:
    """Points that are missing; with ``retry`` those that failed too."""

    def wanted(index: int) -> bool:
        outcome = store.outcomes.get(index)
        return outcome is None or (retry and outcome.status is PointStatus.FAILED)

    return [point.index for point in sweep.points if wanted(point.index)]


def run_sweep(
    sweep: Sweep,
    store: SweepStore,
    engine: Engine,
    stop: StopToken,
    retry: bool = False,
    on_point: Callable[[Progress, Outcome], None] = lambda progress, outcome: None,
) -> Progress:
    """Compute what is missing and store it.

    Args:
        store: opened; only this process writes.
        retry: compute points that failed again.
        on_point: told of each point once it is on the disk.

    Raises:
        UserMistake: a worker has another version of this program.
        BenchFailure: the disk or the engine is lost; what is stored stays.
        Stopped: on request, likewise.
    """
    wanted = wanted_points(sweep, store, retry)
    left, ours = set(wanted), own_version()
    progress = Progress(len(sweep.points), len(wanted))
    for outcome in store.outcomes.values():
        progress.count(outcome, 1)
    if wanted:
        with contextlib.closing(engine.results(sweep.tasks(wanted), stop)) as results:
            for outcome in results:
                if outcome.version != ours:
                    raise UserMistake(f"{outcome.host} has version {outcome.version} of rram-bench, here it is {ours}")
                earlier = store.outcomes.get(outcome.index)
                if store.put(outcome):
                    if earlier is not None:
                        progress.count(earlier, -1)
                    progress.count(outcome, 1)
                left.discard(outcome.index)
                progress.computed = len(wanted) - len(left)
                on_point(progress, outcome)
    if left:
        stop.check()
    return progress
