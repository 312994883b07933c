"""Engines on many machines: the workers of a Dask scheduler, or jobs that Slurm is asked for.

Dask gives a point whose worker died to another worker. What it gives up, or loses, is handed to it again from here, and
only so often.
"""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from bench.stopping import StopToken
from bench.sweeping.local import MOST_DEATHS, POLL_S
from bench.sweeping.points import THREAD_VARIABLES, Outcome, Task, compute, lost
from models.exceptions import BenchFailure, UserMistake

if TYPE_CHECKING:
    from distributed import Client

    from bench.sweeping.sweep_file import Slurm

CONNECT_S = 30.0
GATHER_S = 2.0
"""How long one result is waited for; its worker may have died with it, and then it is computed again meanwhile."""


class OnDask:
    """The workers of a Dask scheduler that runs already.

    Args:
        address: of the scheduler, such as tcp://10.0.0.1:8786.
    """

    def __init__(self, address: str) -> None:
        _library("distributed")
        if not re.fullmatch(r"[a-z]+://\S+:\d+", address):
            raise UserMistake(f"--scheduler {address!r}: write it as tcp://HOST:PORT")
        self._address = address

    def __str__(self) -> str:
        return f"the workers of {self._address}"

    def results(self, tasks: Sequence[Task], stop: StopToken) -> Generator[Outcome, None, None]:
        """Compute the points on whatever workers there are, and come to be."""
        with self._connected(len(tasks)) as client:
            yield from _computed(client, tasks, stop)

    def _connected(self, points: int) -> AbstractContextManager[Client]:
        return _client(self._address, f"no Dask scheduler answers at {self._address}")


class OnSlurm(OnDask):
    """Workers in jobs that Slurm is asked for; a job that ended is asked for again while points are left."""

    def __init__(self, options: Slurm) -> None:
        _library("dask_jobqueue")
        self._options = options

    def __str__(self) -> str:
        return f"{self._options.jobs} Slurm jobs of {self._options.cores} cores"

    @contextmanager
    def _connected(self, points: int) -> Iterator[Client]:
        options = self._options
        jobs = min(options.jobs, -(-points // options.cores))
        try:
            cluster = self.cluster()
        except (OSError, ValueError, RuntimeError) as error:
            raise BenchFailure(f"no workers of Slurm: {' '.join(str(error).split())}") from None
        with cluster:
            cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
            with _client(cluster, "the scheduler that was started here does not answer") as client:
                yield client

    def cluster(self) -> Any:
        """The scheduler, before any job was asked for."""
        from dask_jobqueue import SLURMCluster

        options = self._options
        return SLURMCluster(
            cores=options.cores,
            processes=options.cores,
            memory=options.memory,
            walltime=options.walltime,
            queue=options.queue,
            account=options.account,
            interface=options.interface,
            python=sys.executable if options.python is None else options.python,
            job_extra_directives=options.directives,
            job_script_prologue=[*options.prologue, *(f"export {name}=1" for name in THREAD_VARIABLES)],
            scheduler_options={"dashboard_address": None},
        )


def _library(name: str) -> None:
    from importlib.util import find_spec

    if find_spec(name) is None:
        raise UserMistake(f"{name} is not installed; install it with: pip install 'rram-bench[scale]'")


@contextmanager
def _client(address: Any, problem: str) -> Iterator[Client]:
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise UserMistake(f"{problem} ({' '.join(str(error).split())}); it must be reachable from here") from None
    try:
        yield client
    finally:
        client.close()


def _computed(client: Client, tasks: Sequence[Task], stop: StopToken) -> Generator[Outcome, None, None]:
    from distributed import CancelledError, Future, KilledWorker

    session, ended = f"sweep-{uuid.uuid4().hex}", SimpleQueue[Future]()
    futures: dict[int, Future] = {}
    indices: dict[object, int] = {}
    by_index = {task.index: task for task in tasks}
    tries = dict.fromkeys(by_index, 0)

    def submit(index: int) -> None:
        key = session, index, tries[index]
        future = client.submit(compute, by_index[index], key=key, pure=False)
        futures[index], indices[key] = future, index
        future.add_done_callback(ended.put)

    try:
        for index in by_index:
            submit(index)
        while futures and not stop.requested:
            try:
                future = ended.get(timeout=POLL_S)
            except Empty:
                if client.status in ("closing", "closed"):
                    raise _gone() from None
                continue
            index = indices[future.key]
            try:
                outcome = future.result(timeout=GATHER_S)
            except TimeoutError:
                ended.put(future)  # it is computed again; others come first
                continue
            except KilledWorker:
                tries[index] += 1
                if tries[index] < MOST_DEATHS:
                    submit(index)
                    continue
                outcome = lost(index, MOST_DEATHS)
            except CancelledError:
                raise _gone() from None
            except Exception as error:
                problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
                raise BenchFailure(
                    f"the workers cannot compute points ({problem}); each needs this version of rram-bench installed"
                ) from error
            del futures[index]
            yield outcome
    finally:
        if futures and client.status == "running":
            client.cancel(list(futures.values()), force=True)


def _gone() -> BenchFailure:
    return BenchFailure("the Dask scheduler is gone; start it, and the same command goes on from what is stored")
