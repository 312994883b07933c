"""Long runs: other processes watch them grow, and the memory of the one that records stays flat."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
import pytest

from bench.procedure import Parameters, Procedure, Progress, Steps, Wait
from bench.procedures.tables import RESISTANCES, SENSES, ProgrammedState, resistance_records, sense_records
from bench.runner import run
from data.runs import RunStatus, open_run
from drivers.chip import Chip
from drivers.simulated.bench import SimulatedBench
from models.cells import cell_mask_to_devices
from tests.bench.killed_runs import COMPLETED, FORKED, Job, bench_of, work

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks, and asks for its peak of memory")

HOURS = 10
ROUNDS = 3600
WARM_UP = 400
GROWTH_BYTES = 4 << 20
"""So much may the peak of memory grow after the warm-up; a kilobyte kept of each round would be all of it."""


class WatchParameters(Parameters):
    """Parameters of the watch."""

    rounds: int = ROUNDS
    wait_s: float = HOURS * 3600.0 / ROUNDS


def watch(chip: Chip, parameters: WatchParameters, cells: np.ndarray) -> Steps:
    """Look at the cells, wait, and look again, as a retention run does."""
    devices = cell_mask_to_devices(cells)
    passed = 0.0
    for number in range(parameters.rounds):
        yield sense_records(-1, chip.read())
        yield resistance_records(list(chip.resistances(devices)), ProgrammedState.UNKNOWN)
        yield Progress(number, parameters.rounds, f"{passed / 3600:.1f} h")
        passed += yield Wait(parameters.wait_s, "waiting")
    return {"passed_s": passed}


WATCH = Procedure("watch", "looks at cells for hours", WatchParameters, (SENSES, RESISTANCES), watch)


def watch_for_hours(text: str, folder: Path, channel: Connection) -> None:
    """The client: tell its peak of memory each round, in bytes, and at the end its run file."""
    unit = 1 if sys.platform == "darwin" else 1024
    cells = np.zeros((32, 32), dtype=bool)
    cells[:4, 0] = True

    def on_step(step: object) -> None:
        if isinstance(step, Progress) and step.total == ROUNDS:
            channel.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)

    with bench_of(text) as bench:
        outcome = run(WATCH, WatchParameters(), bench, folder, cells=cells, on_step=on_step)
    channel.send((str(outcome.run_file), outcome.result["passed_s"]))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_simulated_hours_leave_the_memory_flat(world: SimulatedBench, tmp_path: Path) -> None:
    channel, far = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=watch_for_hours, args=(world.bench_file(), tmp_path, far))
    process.start()
    far.close()
    peaks = []
    while isinstance(message := channel.recv(), int):
        peaks.append(message)
    process.join()
    path, passed_s = message
    assert len(peaks) == ROUNDS
    assert passed_s == pytest.approx(HOURS * 3600.0, rel=1e-3)
    stored = open_run(path)
    assert stored.rows("resistances") == 8 * ROUNDS
    assert stored.rows("senses") == ROUNDS
    assert (np.diff(stored.read("resistances", ["time_s"])["time_s"]) >= 0.0).all()
    growth = peaks[-1] - peaks[WARM_UP]
    print(f"peak {peaks[-1] / 1e6:.0f} MB, {growth / 1e6:.2f} MB of it after the warm-up")
    assert growth < GROWTH_BYTES


def by_open_run(path: Path) -> Generator[np.ndarray, None, None]:
    """Rows of the devices measured so far, as our own reader sees them."""
    stored = open_run(path)
    while True:
        assert stored.status in (RunStatus.RUNNING, RunStatus.COMPLETED)
        yield stored.read("resistances", ["row"])["row"]


def by_h5py(path: Path) -> Generator[np.ndarray, None, None]:
    """The same as any reader of HDF5 sees them, with one handle that stays open."""
    with h5py.File(path, "r", swmr=True) as file:
        column = file["resistances/row"]
        while True:
            column.refresh()
            yield column[...]


@pytest.mark.parametrize("reader", [by_open_run, by_h5py])
def test_another_process_sees_a_run_grow(
    world: SimulatedBench, tmp_path: Path, reader: Callable[[Path], Generator[np.ndarray, None, None]]
) -> None:
    cells = np.zeros(world.chip.geometry, dtype=bool)
    cells[:16] = True
    channel, far = FORKED.Pipe(duplex=False)
    client = FORKED.Process(target=work, args=(world.bench_file(), tmp_path, Job("resistance", {}, cells), None, far))
    client.start()
    far.close()
    message = channel.recv()
    (path,) = tmp_path.glob("*.h5")
    told, seen, sights = 0, [], reader(path)
    while message != COMPLETED:
        table, values = message
        if table == "resistances":
            told += len(values["row"])
            rows = next(sights)
            assert len(rows) >= told
            assert rows.tolist() == np.repeat(np.arange(16), 64)[: len(rows)].tolist()
            seen.append(len(rows))
        message = channel.recv()
    sights.close()
    client.join()
    assert told == 1024
    assert seen == sorted(seen)
    assert len(set(seen)) > 2, "it was seen to grow, not only at its end"
    assert open_run(path).status is RunStatus.COMPLETED
