"""Simulated benches whose chip or bench file a test has made its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.config import parse_bench_file
from bench.procedure import CellMask
from bench.procedures import find_procedure
from bench.runner import RunResult, run
from bench.session import Bench, connect
from bench.stopping import StopToken
from data.device_files import default_device
from data.runs import Run, open_run
from drivers.simulated.bench import SimulatedBench

NO_DEFECTS = {"defects.stuck_lrs": 0.0, "defects.stuck_hrs": 0.0, "defects.open": 0.0}


@contextmanager
def special_bench(
    device: Mapping[str, float], seed: int = 11, text: Mapping[str, str] | None = None
) -> Iterator[tuple[SimulatedBench, Bench]]:
    """A bench without defects, with other values in its chip's device file and other pieces of text in its bench file.

    Args:
        device: quantities of the device file by their keys.
        text: pieces of the bench file, and what takes their places.
    """
    packaged = default_device()
    values = {**NO_DEFECTS, **device}
    quantities = {
        key: replace(packaged.quantities[key], value=value, low=None, high=None) for key, value in values.items()
    }
    with SimulatedBench(seed, packaged.updated(quantities)) as world:
        written = world.bench_file()
        for old, new in ({} if text is None else text).items():
            assert old in written
            written = written.replace(old, new)
        with connect(parse_bench_file(written, "test bench"), written) as bench:
            yield world, bench


def block(bench: Bench, rows: int, cols: int) -> CellMask:
    """The upper left ``rows`` x ``cols`` cells."""
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[:rows, :cols] = True
    return cells


def run_one(
    name: str,
    bench: Bench,
    folder: Path,
    cells: CellMask | None,
    on_step=lambda step: None,
    stop: StopToken | None = None,
    resume: Run | None = None,
    **settings: object,
) -> tuple[Run, RunResult]:
    """Run a procedure to its end; its file and its result."""
    procedure = find_procedure(name)
    outcome = run(
        procedure, procedure.parse(settings), bench, folder, cells=cells, on_step=on_step, stop=stop, resume=resume
    )
    return open_run(outcome.run_file), outcome


def of_device(table: Mapping[str, np.ndarray], values: np.ndarray) -> np.ndarray:
    """The entries of ``(rows, cols, 2)`` values that belong to the rows of a table."""
    return values[table["row"], table["col"], table["device"]]
