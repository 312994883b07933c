"""Going on with a run that ended early: what is left to do, what is refused, and that nothing is done twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.procedure import CellsDone, Parameters, Procedure, Progress, Record, Step, Steps
from bench.resuming import remaining_cells
from bench.runner import run
from bench.session import Bench
from bench.source import at_points
from bench.stopping import Stopped, StopToken
from data.runs import Column, RunStatus, Table, open_run
from drivers.chip import Chip
from drivers.simulated.bench import SimulatedBench
from models.exceptions import UserMistake
from tests.bench.killed_runs import Job, bench_of, check_each_cell_done_once, kill_and_resume

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

SEEN = Table("seen", (Column("row", "int16"), Column("col", "int16")))
BLOCK = (slice(4, 8), slice(8, 16))


class VisitParameters(Parameters):
    """Parameters of the visit."""

    repeats: int = 1


def visit(chip: Chip, parameters: VisitParameters, cells: np.ndarray) -> Steps:
    """Sense the array once for each cell."""
    for row, col in np.argwhere(cells):
        chip.read(parameters.repeats)
        yield Record("seen", {"row": int(row), "col": int(col)})
        done = np.zeros_like(cells)
        done[row, col] = True
        yield CellsDone(done)
        yield Progress(0, 1, "visiting")
    return {"visited": int(cells.sum())}


VISIT = Procedure("visit", "senses once for each cell", VisitParameters, (SEEN,), visit)


@pytest.fixture
def cells(bench: Bench) -> np.ndarray:
    chosen = np.zeros(bench.config.geometry, dtype=bool)
    chosen[BLOCK] = True
    return chosen


def stopped_after(count: int, bench: Bench, folder: Path, cells: np.ndarray, resume: Path | None = None) -> Path:
    """The file of a visit that was stopped once ``count`` cells were done."""
    token = StopToken()
    left = count

    def on_step(step: Step) -> None:
        nonlocal left
        if isinstance(step, Progress):
            left -= 1
            if left == 0:
                token.request("enough")

    earlier = None if resume is None else open_run(resume)
    before = set(folder.glob("*.h5"))
    with pytest.raises(Stopped):
        run(VISIT, VisitParameters(), bench, folder, cells=cells, on_step=on_step, stop=token, resume=earlier)
    (path,) = set(folder.glob("*.h5")) - before
    return path


def test_a_procedure_that_was_edited_meanwhile_is_not_gone_on_with(
    bench: Bench, tmp_path: Path, cells: np.ndarray
) -> None:
    earlier = open_run(stopped_after(2, bench, tmp_path, cells))
    edited = replace(VISIT, about={"procedure_sha256": "another"})
    with pytest.raises(UserMistake, match="procedure_sha256 None, not another"):
        run(edited, VisitParameters(), bench, tmp_path, resume=earlier)


def test_a_stopped_run_is_gone_on_with_in_parts_and_no_cell_is_done_twice(
    bench: Bench, tmp_path: Path, cells: np.ndarray
) -> None:
    parts = [stopped_after(5, bench, tmp_path, cells)]
    parts.append(stopped_after(7, bench, tmp_path, cells, resume=parts[-1]))
    outcome = run(VISIT, VisitParameters(), bench, tmp_path, resume=open_run(parts[-1]))
    parts.append(outcome.run_file)
    assert outcome.result == {"visited": 32 - 5 - 7}
    seen = [open_run(path).read("seen") for path in parts]
    visited = [cell for part in seen for cell in zip(part["row"].tolist(), part["col"].tolist(), strict=True)]
    assert visited == [(int(row), int(col)) for row, col in np.argwhere(cells)]
    check_each_cell_done_once(parts, cells)
    assert [open_run(path).status for path in parts] == ["stopped", "stopped", "completed"]
    assert [open_run(path).attributes.get("resumes") for path in parts] == [None, parts[0].name, parts[1].name]
    assert [open_run(path).result for path in parts] == [{}, {}, {"visited": 20}]


def test_what_cannot_be_gone_on_with_is_refused_before_any_voltage(
    bench: Bench, world: SimulatedBench, tmp_path: Path, cells: np.ndarray
) -> None:
    part = open_run(stopped_after(3, bench, tmp_path, cells))
    files = set(tmp_path.iterdir())
    other = Procedure("other", "another", VisitParameters, (SEEN,), visit)
    with pytest.raises(UserMistake, match="has procedure visit, not other"):
        run(other, VisitParameters(), bench, tmp_path, resume=part)
    with pytest.raises(UserMistake, match="other parameters: "):
        run(VISIT, VisitParameters(repeats=2), bench, tmp_path, resume=part)
    elsewhere = bench.at(at_points(bench.config, {"SENSE.vdd_v": 1.1}))
    with pytest.raises(UserMistake, match=r"made at SENSE.vdd_v = 1.2, not 1.1; give --at SENSE.vdd_v=1.2"):
        run(VISIT, VisitParameters(), elsewhere, tmp_path, resume=part)
    with SimulatedBench(seed=12) as foreign, bench_of(foreign.bench_file()) as elsewhere:
        with pytest.raises(UserMistake, match="has chip_id SIM-KILOBIT-11, not SIM-KILOBIT-12"):
            run(VISIT, VisitParameters(), elsewhere, tmp_path, resume=part)
        assert foreign.world.rails == (0.0, 0.0, 0.0)
    assert set(tmp_path.iterdir()) == files
    completed = run(VISIT, VisitParameters(), bench, tmp_path, resume=part).run_file
    with pytest.raises(UserMistake, match="is completed; only a run that ended early is resumed"):
        run(VISIT, VisitParameters(), bench, tmp_path, resume=open_run(completed))
    assert world.world.rails == (0.0, 0.0, 0.0)


def test_a_run_stopped_after_its_last_cell_has_nothing_left(bench: Bench, tmp_path: Path, cells: np.ndarray) -> None:
    part = open_run(stopped_after(32, bench, tmp_path, cells))
    with pytest.raises(UserMistake, match="has finished all its cells; there is nothing to resume"):
        remaining_cells(part)


@pytest.mark.parametrize(("procedure", "moment_s"), [("resistance", 0.15), ("resistance", 0.3), ("program", 0.2)])
def test_a_killed_run_is_closed_by_the_next_start_and_resumed(
    world: SimulatedBench, tmp_path: Path, procedure: str, moment_s: float
) -> None:
    cells = np.zeros(world.chip.geometry, dtype=bool)
    cells[:6] = True
    kill_and_resume(world, tmp_path, Job(procedure, {}, cells), [moment_s])
    assert world.world.rails == (0.0, 0.0, 0.0)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "bench.cli", *map(str, arguments)]


def test_the_command_line_goes_on_with_a_run_that_was_killed(world: SimulatedBench, tmp_path: Path) -> None:
    bench_file, folder = tmp_path / "bench.toml", tmp_path / "runs"
    world.write_bench_file(bench_file)
    where = ("--bench", bench_file, "--out", folder)
    settings = ("--cells", "0:6,0:32", "--set", "repeats=3")
    client = subprocess.Popen(command("run", "resistance", *where, *settings), stderr=subprocess.DEVNULL)
    while not (files := list(folder.glob("*.h5"))) or not open_run(files[0]).rows("cells_done"):
        assert client.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    client.kill()
    client.wait()
    resumed = subprocess.run(
        command("run", "resistance", "--resume", files[0], *where, "--json"), capture_output=True, text=True
    )
    assert resumed.returncode == 0, resumed.stderr
    outcome = json.loads(resumed.stdout)
    assert outcome["status"] == "completed"
    parts = [files[0], Path(outcome["run_file"])]
    cells = np.zeros(world.chip.geometry, dtype=bool)
    cells[:6] = True
    check_each_cell_done_once(parts, cells)
    assert open_run(parts[0]).status is RunStatus.INTERRUPTED
    assert world.world.rails == (0.0, 0.0, 0.0)
