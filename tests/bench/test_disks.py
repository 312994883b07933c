"""Disks that fill up, vanish or refuse, at every stage of a run: it stops safely and says what is kept."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.procedure import CellsDone, Parameters, Procedure, Record, Step, Steps, Wait
from bench.runner import run
from bench.session import Bench
from bench.states import RunState
from data.runs import Column, RunStatus, Table, find_interrupted, open_run, recover
from drivers.chip import Chip
from drivers.simulated.bench import SimulatedBench
from models.exceptions import BenchFailure, RramBenchError, UserMistake

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the disks of POSIX systems")

NOISE = Table("noise", (Column("value", "float64", dims=("row", "col")),))
MAPS = 64
DISK_BYTES = 3 << 20
CAP_DAC_OVERRIDE = 1


class NoiseParameters(Parameters):
    """Parameters of the noise."""

    blocks: int = 400
    wait_s: float = 0.0


def noise(chip: Chip, parameters: NoiseParameters, cells: np.ndarray) -> Steps:
    """Sense, record half a megabyte that cannot be compressed, and wait, again and again."""
    rng = np.random.default_rng(0)
    for _ in range(parameters.blocks):
        chip.read()
        yield Record("noise", {"value": rng.normal(size=(MAPS, *cells.shape))}, many=True)
        if parameters.wait_s > 0.0:
            yield Wait(parameters.wait_s, "waiting")
    yield CellsDone(cells)
    return {}


NOISE_RUN = Procedure("noise", "fills disks", NoiseParameters, (NOISE,), noise)


class Told:
    """What the run told: rows of noise that were acknowledged, and its states.

    Args:
        after: strike when so many blocks are acknowledged.
        fault: what strikes.
    """

    def __init__(self, after: int, fault: Callable[[], object]) -> None:
        self.rows, self.states = 0, list[RunState]()
        self._after, self._fault = after, fault
        self.struck_s = float("nan")

    def step(self, step: Step) -> None:
        """Count, and let the fault strike at its moment."""
        if isinstance(step, Record) and step.table == "noise":
            self.rows += MAPS
            if self.rows == self._after * MAPS:
                self._fault()
                self.struck_s = time.monotonic()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of three megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", place], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a small disk can be mounted by root only")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(disk: Path) -> None:
    """Take all the room that is left."""
    free = shutil.disk_usage(disk).free
    with (disk / "other").open("ab") as file:
        file.write(bytes(free))


def check_stopped(world: SimulatedBench, caught: BaseException, kept: str) -> None:
    """The bench is off, and the one line says what happened and what is kept."""
    assert world.world.rails == (0.0, 0.0, 0.0)
    assert world.smu.instrument.output is False
    assert isinstance(caught, RramBenchError)
    for line in (str(caught), *getattr(caught, "__notes__", ())):
        assert "\n" not in line
    assert kept in str(caught)


def test_a_full_disk_stops_the_run_at_the_record_that_does_not_fit(
    bench: Bench, world: SimulatedBench, disk: Path
) -> None:
    told = Told(0, lambda: None)
    with pytest.raises(BenchFailure, match="takes no more records: the disk is full") as caught:
        run(NOISE_RUN, NoiseParameters(), bench, disk, on_step=told.step, on_state=told.states.append)
    check_stopped(world, caught.value, "earlier records are kept")
    assert caught.value.exit_status == 1
    assert told.states[-1] is RunState.FAILED
    (path,) = disk.glob("*.h5")
    assert told.rows > 0
    assert open_run(path).rows("noise") == told.rows
    # The compact copy does not fit beside it; the end of the run is told all the same.
    assert open_run(path).status is RunStatus.FAILED
    assert "disk is full" in open_run(path).ending.reason
    (elsewhere := disk.parent / "copy.h5").write_bytes(path.read_bytes())
    assert open_run(recover(elsewhere)).status is RunStatus.FAILED
    assert np.isfinite(open_run(elsewhere).read("noise")["value"]).all()


def test_a_disk_that_fills_up_during_a_wait_costs_nothing_before_the_next_record(
    bench: Bench, world: SimulatedBench, disk: Path
) -> None:
    told = Told(2, lambda: fill(disk))
    with pytest.raises(BenchFailure, match="the disk is full") as caught:
        run(NOISE_RUN, NoiseParameters(wait_s=0.05), bench, disk, on_step=told.step, on_state=told.states.append)
    check_stopped(world, caught.value, "earlier records are kept")
    (path,) = disk.glob("*.h5")
    assert open_run(path).rows("noise") == told.rows >= 2 * MAPS


def test_a_disk_too_full_to_finish_keeps_the_whole_run(bench: Bench, world: SimulatedBench, disk: Path) -> None:
    told = Told(3, lambda: fill(disk))
    with pytest.raises(BenchFailure, match="records are complete in .* could not be rewritten") as caught:
        run(NOISE_RUN, NoiseParameters(blocks=3), bench, disk, on_step=told.step, on_state=told.states.append)
    check_stopped(world, caught.value, "recover the file")
    assert told.states[-1] is RunState.FAILED
    (path,) = disk.glob("*.h5")
    assert open_run(path).rows("noise") == told.rows == 3 * MAPS
    assert open_run(path).status is RunStatus.COMPLETED
    elsewhere = disk.parent / path.name
    shutil.copy(path, elsewhere)
    assert open_run(recover(elsewhere)).rows("noise") == told.rows


def test_no_run_starts_on_a_full_disk(bench: Bench, world: SimulatedBench, disk: Path) -> None:
    fill(disk)
    with pytest.raises(BenchFailure, match="no room for the run file") as caught:
        run(NOISE_RUN, NoiseParameters(), bench, disk)
    check_stopped(world, caught.value, "disk is full")
    assert [path.name for path in disk.iterdir()] == ["other"]


def vanish(folder: Path) -> None:
    """The whole folder is gone."""
    shutil.rmtree(folder)


def delete(folder: Path) -> None:
    """Somebody deletes the run file."""
    for path in folder.glob("*.h5"):
        path.unlink()


def move(folder: Path) -> None:
    """The folder gets another name."""
    folder.rename(folder.with_name("moved"))


@pytest.mark.parametrize("fault", [vanish, delete, move])
@pytest.mark.parametrize("wait_s", [0.0, 30.0])
def test_a_file_that_vanishes_stops_the_run(
    bench: Bench, world: SimulatedBench, tmp_path: Path, fault: Callable[[Path], None], wait_s: float
) -> None:
    folder = tmp_path / "runs"
    told = Told(1, lambda: fault(folder))
    with pytest.raises(BenchFailure, match="the file or its folder vanished") as caught:
        run(NOISE_RUN, NoiseParameters(wait_s=wait_s), bench, folder, on_step=told.step, on_state=told.states.append)
    check_stopped(world, caught.value, "if it was moved, its records are where it is now")
    assert caught.value.exit_status == 1
    assert told.states[-1] is RunState.FAILED
    if fault is move:
        (path,) = (tmp_path / "moved").glob("*.h5")
        assert open_run(path).rows("noise") == told.rows
        assert open_run(recover(path)).status is RunStatus.INTERRUPTED
    elif folder.exists():
        assert list(folder.iterdir()) == [], "nothing of ours is left beside the file that was deleted"


def test_a_file_that_vanishes_with_the_last_record_is_missed_at_the_end(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    told = Told(2, lambda: delete(tmp_path))
    with pytest.raises(BenchFailure, match="could not be closed: the file or its folder vanished") as caught:
        run(NOISE_RUN, NoiseParameters(blocks=2), bench, tmp_path, on_step=told.step, on_state=told.states.append)
    check_stopped(world, caught.value, "if it was moved")
    assert told.states[-1] is RunState.FAILED


@pytest.fixture
def as_a_user() -> Iterator[None]:
    """Obey the permissions of folders, which root does not."""
    if os.geteuid() != 0:
        yield
        return
    if not sys.platform.startswith("linux"):
        pytest.skip("root writes everywhere here")
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    fewer = (ctypes.c_uint32 * 6)(*before)
    fewer[0] &= ~(1 << CAP_DAC_OVERRIDE)
    assert libc.capset(header, fewer) == 0
    yield
    assert libc.capset(header, before) == 0


@pytest.mark.usefixtures("as_a_user")
def test_a_folder_that_becomes_read_only_lets_the_run_end_and_keeps_it(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    told = Told(1, lambda: folder.chmod(0o555))
    with pytest.raises(BenchFailure, match="records are complete in .* could not be rewritten.*ermission") as caught:
        run(NOISE_RUN, NoiseParameters(blocks=3), bench, folder, on_step=told.step, on_state=told.states.append)
    check_stopped(world, caught.value, "recover the file")
    assert told.states[-1] is RunState.FAILED
    (path,) = folder.glob("*.h5")
    assert open_run(path).rows("noise") == told.rows == 3 * MAPS
    assert open_run(path).status is RunStatus.COMPLETED
    with pytest.raises(UserMistake, match="can be written to with --out") as refused:
        run(NOISE_RUN, NoiseParameters(blocks=3), bench, folder)
    check_stopped(world, refused.value, "--out")
    folder.chmod(0o755)
    recover(path)
    assert find_interrupted(folder) == []
    assert open_run(path).rows("noise") == 3 * MAPS


@pytest.mark.parametrize("fault", [vanish, delete])
@pytest.mark.slow
def test_the_outputs_are_off_a_second_after_the_file_vanished(
    bench: Bench, world: SimulatedBench, tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    folder = tmp_path / "runs"
    told = Told(2, lambda: fault(folder))
    with pytest.raises(BenchFailure, match="vanished"):
        run(NOISE_RUN, NoiseParameters(blocks=10_000), bench, folder, on_step=told.step)
    assert time.monotonic() - told.struck_s < 2.0, "a second, and what the safe state takes on a busy machine"
    assert world.world.rails == (0.0, 0.0, 0.0)


def test_the_command_line_says_it_in_one_line_with_status_1(world: SimulatedBench, tmp_path: Path) -> None:
    bench_file = tmp_path / "bench.toml"
    world.write_bench_file(bench_file)
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, 2_500_000)); "
        "from bench.cli import main; main()"
    )
    command = ["run", "read", "--bench", str(bench_file), "--set", "repeats=10000", "--out", str(tmp_path / "runs")]
    ended = subprocess.run([sys.executable, "-c", limited, *command], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("rram-bench: the run file")]
    assert "takes no more records: the disk is full" in line
    assert "earlier records are kept" in line
    assert world.world.rails == (0.0, 0.0, 0.0)
    (path,) = (tmp_path / "runs").glob("*.h5")
    assert open_run(path).status in (RunStatus.FAILED, RunStatus.INTERRUPTED)
    assert open_run(path).rows("operations") >= 1
