"""Runs that are killed: a client in a process of its own, what it was told is stored, and what is found afterwards."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bench.config import parse_bench_file
from bench.procedure import Record, Step
from bench.procedures import find_procedure
from bench.resuming import remaining_cells
from bench.runner import RunResult, run
from bench.session import Bench, connect
from data.runs import Run, RunStatus, find_interrupted, open_run, sweep
from drivers.chip import OperationKind
from drivers.simulated.bench import SimulatedBench
from models.exceptions import UserMistake

FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["bench.runner", "bench.procedures", "bench.session", "h5py", "drivers.keithley_2450"])
PULSES = (OperationKind.FORM, OperationKind.SET, OperationKind.RESET, OperationKind.WEAK_RESET)
COMPLETED = "completed"


@dataclass(frozen=True)
class Job:
    """What a client is to do."""

    procedure: str
    settings: Mapping[str, Any]
    cells: np.ndarray

    def start(self, bench: Bench, folder: Path, earlier: Path | None = None, **options: Any) -> RunResult:
        """Run it, or go on with ``earlier``."""
        procedure = find_procedure(self.procedure)
        resume = None if earlier is None else open_run(earlier)
        return run(procedure, procedure.parse(self.settings), bench, folder, cells=self.cells, resume=resume, **options)


@dataclass
class Told:
    """What a client was told before it died: rows by table and column, and whether it came to its end."""

    rows: dict[str, dict[str, list[np.ndarray]]] = field(default_factory=dict)
    completed: bool = False

    def take(self, message: Any) -> None:
        """Note what the client passed on."""
        if message == COMPLETED:
            self.completed = True
            return
        table, values = message
        for name, rows in values.items():
            self.rows.setdefault(table, {}).setdefault(name, []).append(rows)

    def __len__(self) -> int:
        return sum(len(rows) for columns in self.rows.values() for rows in next(iter(columns.values())))


def bench_of(text: str) -> Bench:
    """A session with a served bench."""
    return connect(parse_bench_file(text, "bench that outlives its clients"), text)


def work(text: str, folder: Path, job: Job, earlier: Path | None, channel: Connection) -> None:
    """The client: pass on each record once the store has acknowledged it."""

    def on_step(step: Step) -> None:
        if isinstance(step, Record):
            rows = {name: np.asarray(value) for name, value in step.values.items()}
            channel.send((step.table, {name: row if step.many else row[None] for name, row in rows.items()}))

    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    with bench_of(text) as bench:
        job.start(bench, folder, earlier, on_step=on_step)
    channel.send(COMPLETED)


def run_and_kill(text: str, folder: Path, job: Job, moment_s: float, earlier: Path | None = None) -> Told:
    """Start a client and send it SIGKILL after ``moment_s``; one that is done by then is a fine outcome too."""
    channel, far = FORKED.Pipe(duplex=False)
    folder.mkdir(parents=True, exist_ok=True)
    process = FORKED.Process(target=work, args=(text, folder, job, earlier, far))
    process.start()
    far.close()
    told = Told()
    deadline = time.monotonic() + moment_s
    with contextlib.suppress(EOFError, ConnectionResetError):
        while (left := deadline - time.monotonic()) > 0.0 and process.is_alive():
            if channel.poll(min(left, 0.01)):
                told.take(channel.recv())
    process.kill()
    for message in _rest(channel):
        told.take(message)
    process.join()
    channel.close()
    assert process.exitcode in (0, -signal.SIGKILL), f"the client ended by itself with status {process.exitcode}"
    return told


def _rest(channel: Connection) -> Iterator[Any]:
    # A message that the kill cut in half was never told.
    with contextlib.suppress(EOFError, OSError):
        while True:
            yield channel.recv()


def check_left(folder: Path, before: set[Path], told: Told) -> Path | None:
    """Look at what a killed client left, as a reader would, and return its run file, if it came that far."""
    files = set(folder.glob("*.h5"))
    assert before <= files
    new = files - before
    assert len(new) <= 1
    for path in before:
        assert open_run(path).status in (RunStatus.COMPLETED, RunStatus.INTERRUPTED)
    assert new or not len(told), "records were acknowledged, and there is no file"
    for path in new:
        left = open_run(path)
        assert left.status is (RunStatus.COMPLETED if told.completed else left.status)
        assert left.status in (RunStatus.COMPLETED, RunStatus.INTERRUPTED)
        assert set(find_interrupted(folder)) <= new | before
        _check_rows(left, told)
        return path
    return None


def _check_rows(left: Run, told: Told) -> None:
    for table, columns in told.rows.items():
        stored = left.read(table)
        for name, parts in columns.items():
            acknowledged = np.concatenate(parts)
            assert len(stored[name]) >= len(acknowledged), f"{table} lost acknowledged records"
            assert np.array_equal(
                stored[name][: len(acknowledged)], acknowledged, equal_nan=acknowledged.dtype.kind == "f"
            )


def kill_and_resume(served: SimulatedBench, folder: Path, job: Job, moments_s: Sequence[float]) -> int:
    """Kill clients of a job at these moments, each going on where the one before was killed; then complete it.

    Returns:
        Kills that met a client at work.
    """
    text, kills, parts, before = served.bench_file(), 0, list[Path](), set[Path]()
    with bench_of(text) as bench:
        pulses_before = bench.board.status().pulses
    for moment_s in moments_s:
        if parts and is_done(parts[-1]):
            break
        told = run_and_kill(text, folder, job, moment_s, parts[-1] if parts else None)
        kills += not told.completed
        left = check_left(folder, before, told)
        before = set(folder.glob("*.h5"))
        if left is not None and open_run(left).rows("selection"):  # else it died before it had chosen its cells
            parts.append(left)
    with bench_of(text) as bench:
        # The next start closes what was left, whatever it is.
        earlier = parts[-1] if parts else None
        if earlier is None or not is_done(earlier):
            outcome = job.start(bench, folder, earlier)
            assert outcome.status == open_run(outcome.run_file).status == RunStatus.COMPLETED
            parts.append(outcome.run_file)
        else:
            Job("read", {"repeats": 1}, job.cells).start(bench, folder)
        pulses = bench.board.status().pulses - pulses_before
    check_closed(folder)
    check_each_cell_done_once(parts, job.cells)
    recorded, largest = recorded_pulses(parts)
    # What was sent when the kill came is on the chip and in no file: one exchange at most.
    assert recorded <= pulses <= recorded + kills * largest
    return kills


def is_done(path: Path) -> bool:
    """Whether a run has finished all its cells, though it may have died before its end."""
    try:
        remaining_cells(open_run(path))
    except UserMistake:
        return True
    return False


def check_closed(folder: Path) -> None:
    """Every file in the folder is a clean one, none is left open, and what lies beside them is swept away."""
    sweep(folder, older_than_s=0.0)
    assert find_interrupted(folder) == []
    for path in folder.glob("*.h5"):
        with h5py.File(path) as file:
            assert file.attrs["status"] in (RunStatus.COMPLETED, RunStatus.INTERRUPTED)
    assert {path.suffix for path in folder.iterdir()} <= {".h5"}


def check_each_cell_done_once(parts: list[Path], cells: np.ndarray) -> None:
    """The parts of a run share no finished cell, and together they finished all that were selected."""
    times = np.zeros(cells.shape, dtype=int)
    for path in parts:
        times += open_run(path).read("cells_done")["cells"].astype(bool).any(axis=0)
    assert np.array_equal(times, cells.astype(int))


def recorded_pulses(parts: list[Path]) -> tuple[int, int]:
    """Pulses on devices in the operations of all parts, and the most that one exchange made."""
    counts = [0]
    for path in parts:
        operations = open_run(path).read("operations", ["kind", "count", "devices"])
        pulsed = np.isin(operations["kind"], PULSES)
        devices = operations["devices"].sum(axis=(1, 2, 3), dtype=np.int64)
        counts += (devices * operations["count"])[pulsed].tolist()
    return sum(counts), max(counts)
