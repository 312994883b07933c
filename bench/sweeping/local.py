"""Engines on this machine: points one after the other, or side by side in processes that may die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from bench.stopping import StopToken
from bench.sweeping.points import Outcome, Task, compute, lost, one_thread

MOST_DEATHS = 10
"""A point whose workers died so often is given up. Most die of something else, and a point may meet that repeatedly."""

POLL_S = 0.1
END_S = 5.0


class Engine(Protocol):
    """What computes points."""

    def results(self, tasks: Sequence[Task], stop: StopToken) -> Generator[Outcome, None, None]:
        """Yield what came of the points, in any order; returns early once a stop is asked for.

        A point may come twice, with the same numbers. Closing the iterator ends the workers.
        """

    def __str__(self) -> str:
        """The engine in a few words."""


class Serial:
    """Points one after the other, in this process; a stop waits for the point under way.

    Args:
        work: what is done with each point.
    """

    def __init__(self, work: Callable[[Task], Outcome] = compute) -> None:
        self._do = work

    def results(self, tasks: Sequence[Task], stop: StopToken) -> Generator[Outcome, None, None]:
        """Compute the points in their order."""
        for task in tasks:
            if stop.requested:
                return
            yield self._do(task)

    def __str__(self) -> str:
        return "one after the other"


@dataclass
class _Worker:
    process: BaseProcess
    channel: Connection
    task: Task | None = None


class Processes:
    """Points side by side in processes. One that dies is replaced, and its point is computed again.

    Args:
        workers: how many.
        work: what is done with each point.

    Attributes:
        pids: of the workers that live, for whoever watches them.
    """

    def __init__(self, workers: int, work: Callable[[Task], Outcome] = compute) -> None:
        self._count, self._do = workers, work
        self._workers: list[_Worker] = []
        # a process that starts afresh loads its numerical libraries with the threads that it shall have
        self._context = multiprocessing.get_context("spawn")

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [pid for worker in self._workers if (pid := worker.process.pid) is not None]

    def __str__(self) -> str:
        return f"{self._count} processes"

    def results(self, tasks: Sequence[Task], stop: StopToken) -> Generator[Outcome, None, None]:
        """Compute the points, as many at a time as there are workers."""
        one_thread()  # inherited
        waiting, deaths = deque(tasks), dict[int, int]()
        # what a worker that is killed leaves behind lies in here
        with tempfile.TemporaryDirectory(prefix="rram-bench-sweep-") as scratch:
            try:
                while not stop.requested:
                    self._hand_out(waiting, Path(scratch))
                    if not self._workers:
                        return
                    wait([worker.channel for worker in self._workers], POLL_S)
                    for worker in tuple(self._workers):
                        if (outcome := self._heard(worker, waiting, deaths)) is not None:
                            yield outcome
            finally:
                self._end()

    def _hand_out(self, waiting: deque[Task], scratch: Path) -> None:
        while waiting and len(self._workers) < self._count:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_work, args=(theirs, str(scratch), self._do), daemon=True)
            process.start()
            theirs.close()  # so that its end is seen when it dies
            self._workers.append(_Worker(process, ours))
            self._give(self._workers[-1], waiting)
        for worker in tuple(self._workers):
            if worker.task is None:
                if waiting:
                    self._give(worker, waiting)
                else:
                    self._dismiss(worker)

    def _give(self, worker: _Worker, waiting: deque[Task]) -> None:
        worker.task = waiting.popleft()
        try:
            worker.channel.send(worker.task)
        except OSError:  # it died while it was idle, which is not the point's fault
            waiting.appendleft(worker.task)
            self._dismiss(worker)

    def _heard(self, worker: _Worker, waiting: deque[Task], deaths: dict[int, int]) -> Outcome | None:
        """What a worker said; a dead one's point is put at the head of the queue, or given up."""
        task = worker.task
        assert task is not None
        try:
            if not worker.channel.poll():
                return None
            outcome = worker.channel.recv()
        except (EOFError, OSError):
            self._dismiss(worker)
            deaths[task.index] = deaths.get(task.index, 0) + 1
            if deaths[task.index] >= MOST_DEATHS:
                return lost(task.index, MOST_DEATHS)
            waiting.appendleft(task)
            return None
        assert isinstance(outcome, Outcome)
        worker.task = None
        return outcome

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.channel.close()  # an idle worker ends by itself
        worker.process.join(END_S if worker.task is None else 0.0)
        worker.process.terminate()
        worker.process.join(END_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.process.close()

    def _end(self) -> None:
        for worker in self._workers:
            worker.process.terminate()  # all at once; each is waited for below
        while self._workers:
            self._dismiss(self._workers[0])


def _work(channel: Connection, scratch: str, work: Callable[[Task], Outcome]) -> None:
    """A worker: points in, outcomes out, until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; whoever started this ends it
    one_thread()
    tempfile.tempdir = scratch
    try:
        while True:
            channel.send(work(channel.recv()))
    except (EOFError, OSError):
        return


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
