"""The run store: records per second against raw h5py, bytes per record, and what becomes of it as a file grows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bench.procedure import CellMask, Parameters, Procedure, Record, Steps
from bench.procedures.tables import RESISTANCES, SENSES
from bench.runner import run
from bench.session import Bench, open_bench
from benchmarks.rows import Row, row, seconds_of
from data.runs import RunWriter, Table, open_run
from drivers.chip import Chip

REPETITIONS = 5
ROWS = COLS = 32
DIMENSIONS = {"row": np.arange(ROWS), "col": np.arange(COLS)}
BLOCK = 256
"""Records of a block: resistances of an eighth of a kilobit array, both devices."""
SIZES_BYTES = (1e6, 1e7, 1e8, 1e9)
APPENDS = 2000
SLICE = 1000
Values = Mapping[str, Any]


def resistances(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Records of measured devices that look like real ones, so that they compress as real ones do."""
    ohm = np.exp(rng.normal(np.log(2e4), 1.0, count))
    noise = 0.2 * (1.0 + 1e-5 * rng.normal(size=count))
    return {
        "row": rng.integers(0, ROWS, count).astype(np.int16),
        "col": rng.integers(0, COLS, count).astype(np.int16),
        "device": (np.arange(count) % 2).astype(np.int8),
        "state": np.full(count, 2, np.int8),
        "pattern": np.full(count, -1, np.int32),
        "pulses": np.zeros(count, np.int32),
        "staircase": np.zeros(count, np.int8),
        "voltage_v": noise,
        "current_a": noise / ohm,
        "in_compliance": np.zeros(count, np.int8),
        "resistance_ohm": ohm,
    }


def single(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The first of many records, as a procedure gives out a single one: plain numbers and maps."""
    return {name: column[0] if column.ndim > 1 else column[0].item() for name, column in values.items()}


def store() -> list[Row]:
    """Records per second through runner and store, and through raw h5py, in turn."""
    rng = np.random.default_rng(0)
    many = resistances(BLOCK, rng)
    sensed = {
        "pattern": np.zeros(1, np.int32),
        "repeat": np.zeros(1, np.int32),
        "sensed": rng.choice(np.array([-1, 1], np.int8), size=(1, ROWS, COLS)),
    }
    cases: dict[str, tuple[Table, int, Record]] = {
        "one row of 11 numbers": (RESISTANCES, 2000, Record("resistances", single(many))),
        f"blocks of {BLOCK} such rows": (RESISTANCES, 400, Record("resistances", many, many=True)),
        "one 32 x 32 map": (SENSES, 2000, Record("senses", single(sensed))),
    }
    table = []
    with open_bench() as bench, tempfile.TemporaryDirectory() as name:
        for case, (layout, count, record) in cases.items():
            rows = BLOCK if record.many else 1
            peers: dict[str, Callable[[], float]] = {
                "runner and store": lambda t=layout, r=record, n=count: _through_the_runner(bench, Path(name), t, r, n),
                "raw h5py": lambda t=layout, r=record, n=count: _through_h5py(Path(name) / "raw.h5", t, r, n),
            }
            rates: dict[str, list[float]] = {}
            for _ in range(REPETITIONS):
                for peer, action in peers.items():
                    rates.setdefault(peer, []).append(count * rows / action())
            table += [row(f"{case}: {peer}", "rows per second", values) for peer, values in rates.items()]
            pairs = zip(rates["runner and store"], rates["raw h5py"], strict=True)
            table.append(row(f"{case}: runner and store / raw h5py", "ratio", [ours / raw for ours, raw in pairs]))
    return table


def _through_the_runner(bench: Bench, folder: Path, table: Table, record: Record, count: int) -> float:
    """Seconds between the first and the last of ``count`` records of a procedure that measures nothing."""

    def steps(chip: Chip, parameters: Parameters, cells: CellMask) -> Steps:
        started = time.perf_counter()
        for _ in range(count):
            yield record
        return {"seconds": time.perf_counter() - started}

    outcome = run(Procedure("store", "records only", Parameters, (table,), steps), Parameters(), bench, folder)
    outcome.run_file.unlink()
    return float(outcome.result["seconds"])


def _through_h5py(path: Path, table: Table, record: Record, count: int) -> float:
    """Seconds for ``count`` records the way a user of h5py writes them.

    The same columns and the time, one resizable dataset each, chunks of h5py's choice, SWMR, each dataset flushed after
    each record. No record number, no checks, no reserve on the disk, no sync.
    """
    rows = BLOCK if record.many else 1
    with h5py.File(path, "w", libver="latest") as file:
        sinks = {}
        for name, dtype, dims in [("time_s", "float64", ()), *((c.name, c.dtype, c.dims) for c in table.columns)]:
            shape = tuple(len(DIMENSIONS[dim]) for dim in dims)
            sinks[name] = file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=True)
        file.swmr_mode = True
        started = time.perf_counter()
        for number in range(count):
            start = number * rows
            values = {"time_s": time.monotonic(), **record.values}
            for name, sink in sinks.items():
                sink.resize(start + rows, axis=0)
                sink[start : start + rows] = values[name]
                sink.flush()
        return time.perf_counter() - started


def growth() -> list[Row]:
    """What one-row records, the end of a run, opening and slicing take while files grow by three decades."""
    table = []
    rng = np.random.default_rng(0)
    block = resistances(2000, rng)
    payload = sum(column.nbytes // len(column) for column in block.values()) + 8
    for size in SIZES_BYTES:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "run.h5"
            writer = RunWriter(path, "store", (RESISTANCES,), DIMENSIONS, {})
            blocks = max(1, round(size / payload / len(block["row"])))
            for _ in range(blocks):
                writer.extend("resistances", **{key: np.roll(column, 1) for key, column in block.items()})
                block["resistance_ohm"] = np.exp(rng.normal(np.log(2e4), 1.0, len(block["row"])))
                block["current_a"] = block["voltage_v"] / block["resistance_ohm"]
            one = single(block)
            writer.sync()  # or the rates were those of a disk that still swallows the filling
            rates = []
            for _ in range(REPETITIONS):
                seconds = seconds_of(lambda w=writer, r=one: [w.append("resistances", **r) for _ in range(APPENDS)])
                rates.append(APPENDS / seconds)
            rows = writer.rows("resistances")
            live_bytes = path.stat().st_size
            ending = seconds_of(lambda w=writer: w.finish("completed"))
            opening = [seconds_of(lambda p=path: open_run(p)) for _ in range(REPETITIONS)]
            stored = open_run(path)
            middle = slice(rows // 2, rows // 2 + SLICE)
            slicing = [seconds_of(lambda s=stored, m=middle: s.read("resistances", rows=m)) for _ in range(REPETITIONS)]
            finished_bytes = path.stat().st_size
        what = f"{rows * payload / 1e6:.0f} MB of records"
        table += [
            row(f"{what}: one-row records into it", "rows per second", rates),
            row(f"{what}: file while it is written / raw payload", "ratio", [live_bytes / (rows * payload)]),
            row(f"{what}: finished file / raw payload", "ratio", [finished_bytes / (rows * payload)]),
            row(f"{what}: finishing (rewritten, read back, compared)", "s", [ending]),
            row(f"{what}: opening", "s", opening),
            row(f"{what}: reading {SLICE} records in its middle", "s", slicing),
        ]
    return table
