"""One point of a sweep: what a worker is told, what it gives back, and the function between the two."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.exceptions import BenchFailure, RramBenchError, UserMistake

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What numerical libraries take their number of threads from, when they are loaded."""


class PointStatus(StrEnum):
    """How a point stands."""

    MISSING = "missing"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Task:
    """A point as a worker gets it: plain values only, so that it travels to any host.

    Attributes:
        index: of the point, in the order of the sweep.
        experiment: name of the experiment.
        settings: of the experiment at this point, checked before.
        seed: of every random draw.
        inputs: files that the experiment reads, with the SHA-256 that they had when the sweep began.
    """

    index: int
    experiment: str
    settings: Mapping[str, Any]
    seed: int
    inputs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of a point.

    Attributes:
        index: of the point.
        status: done or failed.
        error: why it failed; empty for a point that is done.
        results: numbers by name; empty for a point that failed.
        seconds: by the clock.
        processor_s: of processor time, that of a simulated bench which the point started included.
        host: where it was computed.
        version: of the program that computed it.
    """

    index: int
    status: PointStatus
    error: str = ""
    results: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    processor_s: float = 0.0
    host: str = ""
    version: str = ""


@lru_cache(maxsize=1)
def own_version() -> str:
    """Version of this program; looked up once, since each look reads the whole description of the package (1 ms)."""
    return version("rram-bench")


def lost(index: int, deaths: int) -> Outcome:
    """A point of which every worker died."""
    reason = f"its worker died {deaths} times; it may need more memory or time than a worker has"
    return Outcome(index, PointStatus.FAILED, reason, version=own_version())


def compute(task: Task) -> Outcome:
    """Compute a point with one thread; whatever goes wrong with it is told and costs no other point."""
    from bench.sweeping.experiments import experiment

    began, began_processor = time.monotonic(), processor_s()
    status, error, results = PointStatus.DONE, "", dict[str, float]()
    try:
        one_thread()
        for path, digest in task.inputs.items():
            _check_input(Path(path), digest)
        found = experiment(task.experiment).run(task.settings, task.seed)
        results = {name: _finite(name, value) for name, value in found.items()}
    except RramBenchError as mistake:
        status, error = PointStatus.FAILED, _one_line(mistake)
    except Exception as bug:  # a sweep of a week must not end with one of its points
        status, error = PointStatus.FAILED, f"{type(bug).__name__}: {_one_line(bug)}"
    return Outcome(
        task.index,
        status,
        error,
        results,
        time.monotonic() - began,
        processor_s() - began_processor,
        platform.node(),
        own_version(),
    )


def _one_line(error: Exception) -> str:
    """What an error says, without what the file of results cannot hold as text (a zero byte, a lone surrogate)."""
    return " ".join("".join(one if one.isprintable() else " " for one in str(error)).split())


def one_thread() -> None:
    """Have numerical libraries of this process, and of those it starts, take one thread: points share the cores."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))  # for what is loaded from here on
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def digest_of(path: Path) -> str:
    """SHA-256 of a file. Raises UserMistake when it cannot be read."""
    try:
        facts = path.stat()
        return _digest(path, facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise UserMistake(f"cannot read {path}: {error.strerror}") from None


@lru_cache(maxsize=64)
def _digest(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_input(path: Path, digest: str) -> None:
    if digest_of(path) != digest:
        raise UserMistake(f"{path} on {platform.node()} is not the file that the sweep began with; put that one there")


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise BenchFailure(f"the result {name!r} is {value}")
    return float(value)


def processor_s() -> float:
    """Processor time in s of this process, and of those that it started and that ended."""
    own = os.times()
    return time.process_time() + own.children_user + own.children_system
