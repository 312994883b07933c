"""Sweeps as they grow: what storing a point costs as points become many, and what more workers gain.

A cheap point does nothing, so that what is left is the sweep itself: reading its file, handing out, storing, writing
the columns. A point of the workers predicts the accuracy of a small network that nobody trained.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.stopping import StopToken
from bench.sweeping.local import Engine, Processes, Serial
from bench.sweeping.on_dask import OnDask
from bench.sweeping.points import Outcome, PointStatus, Task, own_version, processor_s
from bench.sweeping.running import run_sweep
from bench.sweeping.store import SweepStore
from bench.sweeping.sweep_file import load_sweep

WORKERS = (1, 2, 4, 8)
ENGINES = ("processes", "Dask workers")
POINTS = 24
RATES = ("stuck_fraction", "random_rate", "transient_rate")

_FILE = """
experiment = "predict"
seeds = {{ first = 0, count = {points} }}
[settings]
network = "network.safetensors"
device = "device.toml"
modes = ["host"]
"""


@dataclass(frozen=True)
class Crew:
    """What one number of workers took for the same points.

    Attributes:
        engine: one of :data:`ENGINES`.
        workers: how many.
        seconds: by the clock, from the start of the workers to the end of the last point.
        processor_s: of all processes together.
    """

    engine: str
    workers: int
    seconds: float
    processor_s: float


def cheap(task: Task) -> Outcome:
    """A point that costs nothing."""
    return Outcome(task.index, PointStatus.DONE, "", {"value": task.seed / 2}, 0.0, 0.0, "here", own_version())


def cheap_points(workers: int) -> Callable[[int], Callable[[], object]]:
    """A sweep of so many cheap points, computed by so many processes; 0 for none."""

    def prepare(points: int) -> Callable[[], object]:
        def work() -> None:
            engine = Processes(workers, cheap) if workers else Serial(cheap)
            with tempfile.TemporaryDirectory() as name:
                _run(_sweep_file(Path(name), points), engine)

        return work

    return prepare


def crew(engine: str, workers: int) -> Crew:
    """The same points with so many workers, which are started for them."""
    with tempfile.TemporaryDirectory() as name:
        path = _sweep_file(Path(name), POINTS)
        load_sweep(path)  # what is loaded and compiled once for all counts for no number of workers
        began, began_s = time.monotonic(), processor_s()
        if engine == "processes":
            _run(path, Processes(workers))
        else:
            with _dask(workers) as address:
                _run(path, OnDask(address))
        return Crew(engine, workers, time.monotonic() - began, processor_s() - began_s)


def _run(path: Path, engine: Engine) -> None:
    sweep = load_sweep(path)
    with SweepStore(path.with_suffix(".h5"), sweep) as store:
        found = run_sweep(sweep, store, engine, StopToken())
    if found.done != len(sweep.points):
        raise AssertionError(f"{found.failed} of {len(sweep.points)} points failed with {engine}")


@contextmanager
def _dask(workers: int) -> Iterator[str]:
    from distributed import LocalCluster

    with LocalCluster(
        workers, threads_per_worker=1, dashboard_address=None, memory_limit=None, silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster.scheduler_address


def _sweep_file(folder: Path, points: int) -> Path:
    import torch

    from data.device_files import Quantity, default_device, save_device
    from data.networks import save_network
    from models.architectures import mlp
    from models.device_model import SCHEMA
    from models.encodings import ThermometerEncoding
    from models.networks import build, fold

    plan = mlp("tiny", ThermometerEncoding(64, (8,)), (64,), 10)
    save_network(folder / "network.safetensors", fold(build(plan, torch.Generator().manual_seed(1))), {})
    keys = [f"read_error.{name}" for name in RATES]
    rates = {key: Quantity(1e-3, SCHEMA[key].unit, "benchmark", "proposed", 5e-4, 2e-3) for key in keys}
    save_device(folder / "device.toml", default_device().updated(rates))
    path = folder / "sweep.toml"
    path.write_text(_FILE.format(points=points), encoding="utf-8")
    return path
