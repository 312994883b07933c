"""Runs on the command line: dry run, other operating points, going on after a stop and after a crash, pause."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench.cli.running import Wanted, plan_command, run_command
from bench.console import Reporter, TimeLeft
from bench.jobs import prepare
from bench.procedure import Progress, Record, Step
from bench.procedures import PROCEDURES
from bench.session import connect
from bench.source import bench_config
from bench.states import TRANSITIONS, RunState
from bench.stopping import Stopped, StopToken
from data.runs import RunStatus, find_interrupted, open_run
from drivers.simulated.bench import SimulatedBench
from models.exceptions import UserMistake

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def bench_file(world: SimulatedBench, tmp_path: Path) -> str:
    path = tmp_path / "bench.toml"
    world.write_bench_file(path)
    return str(path)


def wanted(
    source: str,
    procedure: str = "resistance",
    cells: str | None = "0:8,0:8",
    at: list[str] | None = None,
    resume: Path | None = None,
    **settings: str,
) -> Wanted:
    return Wanted(procedure, source, settings, cells, [] if at is None else at, 0, resume)


def devices_of(*paths: Path) -> list[tuple[int, int, int]]:
    """The devices that were measured, by the records of some runs."""
    found: list[tuple[int, int, int]] = []
    for path in paths:
        table = open_run(path).read("resistances", ["row", "col", "device"])
        found += list(zip(*(table[name].tolist() for name in ("row", "col", "device")), strict=True))
    return found


def stopped_run(source: str, folder: Path, rows: str) -> Path:
    """A resistance map that is stopped once its first cells are done."""
    token = StopToken()

    def stop_soon(step: Step) -> None:
        if isinstance(step, Record) and step.table == "cells_done":
            token.request("enough")

    config = bench_config(source)
    with connect(config) as bench, pytest.raises(Stopped):
        prepare("resistance", config, {}, rows).run(bench, folder, on_step=stop_soon, stop=token)
    return next(iter(folder.glob("*.h5")))


def test_a_dry_run_needs_no_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with SimulatedBench(3) as gone:
        gone.write_bench_file(tmp_path / "bench.toml")
    plan_command(wanted(str(tmp_path / "bench.toml"), "program", "0:2,0:2", attempts="5"), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["dry_run"]
    assert found["senses"] == {"low": 1, "high": 5}
    assert found["complete"]
    plan_command(wanted(str(tmp_path / "bench.toml"), "program"), as_json=False)
    assert "highest voltages" in capsys.readouterr().out


def test_a_dry_run_ends_with_status_0_and_a_broken_limit_with_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.cli", "run", "program", "--dry-run", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["procedure"] == "program"
    refused = subprocess.run(
        [*command, "--at", "SET.vddc_v=9"], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "limits.vddc_v" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_other_operating_points_are_used_and_recorded(
    bench_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command(wanted(bench_file, "program", "0:2,0:2", at=["SET.vddc_v=3.3"]), tmp_path / "runs", as_json=True)
    run = open_run(json.loads(capsys.readouterr().out)["run_file"])
    points = json.loads(str(run.attributes["operating_points"]))
    assert points["SET"]["vddc_v"] == 3.3
    assert points["RESET"]["vddc_v"] == 4.5
    table = run.read("operations", ["kind", "vddc_v"])
    assert set(table["vddc_v"][table["kind"] == 1].tolist()) == {3.3}


def test_a_stopped_run_is_resumed_with_no_cell_done_twice(
    bench_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    first = stopped_run(bench_file, folder, "0:32,0:20")
    done = int(open_run(first).read("cells_done")["cells"].astype(bool).any(axis=0).sum())
    assert 0 < done < 640
    run_command(wanted(bench_file, cells=None, resume=first), folder, as_json=True)
    told = capsys.readouterr()
    result = json.loads(told.out)
    assert result["status"] == "completed"
    assert result["resumed"] == str(first)
    assert result["cells"] == 640 - done
    assert f"{640 - done} cells left" in told.err
    cells = np.zeros((32, 32), dtype=int)
    for path in (first, Path(result["run_file"])):
        cells += open_run(path).read("cells_done")["cells"].astype(int).sum(axis=0)
    assert cells[:, :20].min() == cells[:, :20].max() == 1
    assert cells[:, 20:].max() == 0
    with pytest.raises(UserMistake, match="resumed by"):
        run_command(wanted(bench_file, cells=None, resume=first), folder, as_json=True)
    with pytest.raises(UserMistake, match="completed"):
        run_command(wanted(bench_file, cells=None, resume=Path(result["run_file"])), folder, as_json=True)


def test_what_cannot_be_resumed_is_refused(bench_file: str, tmp_path: Path) -> None:
    first = stopped_run(bench_file, tmp_path / "runs", "0:32,0:20")
    for other, named in (
        (wanted(bench_file, "resistance", "0:2,0:2", resume=first), "leave --cells out"),
        (wanted(bench_file, "resistance", None, ["SET.vddc_v=3"], first), "leave --at out"),
        (wanted(bench_file, "resistance", None, None, first, repeats="2"), "leave --set out"),
        (wanted(bench_file, "program", None, resume=first), "run of resistance"),
        (wanted(bench_file, "resistance", None, resume=tmp_path / "nowhere.h5"), "nowhere.h5"),
    ):
        with pytest.raises(UserMistake, match=named):
            run_command(other, tmp_path / "runs", as_json=True)
    with SimulatedBench(99) as elsewhere:
        elsewhere.write_bench_file(tmp_path / "other.toml")
        with pytest.raises(UserMistake, match="chip_id"):
            run_command(wanted(str(tmp_path / "other.toml"), cells=None, resume=first), tmp_path / "runs", as_json=True)


def test_a_resumed_run_stands_at_the_operating_points_of_the_first(
    bench_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = StopToken()

    def stop_soon(step: Step) -> None:
        if isinstance(step, Record) and step.table == "cells_done":
            token.request("enough")

    config = bench_config(bench_file)
    job = prepare("resistance", config, {}, "0:32,0:20", {"DIRECT.read_v": 0.11})
    with connect(job.config) as bench, pytest.raises(Stopped):
        job.run(bench, tmp_path / "runs", on_step=stop_soon, stop=token)
    first = next(iter((tmp_path / "runs").glob("*.h5")))
    run_command(wanted(bench_file, cells=None, resume=first), tmp_path / "runs", as_json=True)
    volts = open_run(json.loads(capsys.readouterr().out)["run_file"]).read("resistances", ["voltage_v"])["voltage_v"]
    assert volts == pytest.approx(0.11, rel=0.02)


def client(bench_file: str, folder: Path, cells: str = "all") -> subprocess.Popen[str]:
    options = ["--bench", bench_file, "--cells", cells, "--out", str(folder), "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "bench.cli", "run", "resistance", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_cells(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until the run in ``folder`` has finished some cells."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        for path in folder.glob("*.h5"):
            try:
                if open_run(path).rows("cells_done") > 0:
                    return
            except UserMistake:
                continue  # it is just being made
        time.sleep(0.02)
    pytest.fail("no cell was finished")


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_after_a_crash_the_next_run_names_the_interrupted_one_and_it_can_be_resumed(
    bench_file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs"
    process = client(bench_file, folder)
    try:
        wait_for_cells(folder, process)
    finally:
        process.kill()
        process.communicate()
    (crashed,) = find_interrupted(folder)
    run_command(wanted(bench_file, "read", "0:2,0:2"), folder, as_json=True)
    told = capsys.readouterr()
    assert f"interrupted: {crashed.name}; go on with 'rram-bench run resistance --resume {crashed}'" in told.err
    assert open_run(crashed).status is RunStatus.INTERRUPTED
    run_command(wanted(bench_file, cells=None, resume=crashed), folder, as_json=True)
    second = Path(json.loads(capsys.readouterr().out)["run_file"])
    done = sum(open_run(path).read("cells_done")["cells"].astype(int).sum(axis=0) for path in (crashed, second))
    assert np.all(done == 1)
    assert set(devices_of(crashed, second)) == {(r, c, d) for r in range(32) for c in range(32) for d in range(2)}


@pytest.mark.skipif(sys.platform == "win32", reason="sends a POSIX signal")
def test_sigusr1_pauses_with_the_outputs_off_and_goes_on(
    world: SimulatedBench, bench_file: str, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    process = client(bench_file, folder, "0:16,:")
    try:
        wait_for_cells(folder, process)
        os.kill(process.pid, signal.SIGUSR1)
        deadline = time.monotonic() + 10
        while any(world.world.rails) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert tuple(world.world.rails) == (0.0, 0.0, 0.0)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGUSR1)
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, errors
    assert "paused, outputs off" in errors
    assert json.loads(out)["result"]["devices"] == 1024


def test_the_time_left_follows_the_plan_first_and_the_pace_later() -> None:
    left = TimeLeft(100.0, 0.0)
    assert left.seconds(0.0) == 100.0
    left.update(0, 10, 5.0)
    assert left.seconds(5.0) == 95.0
    left.update(5, 10, 200.0)  # half of it took 200 s
    assert left.seconds(200.0) == pytest.approx(200.0)
    assert TimeLeft(None, 0.0).seconds(5.0) is None


def test_nothing_left_is_never_said_while_a_run_goes_on() -> None:
    left = TimeLeft(10.0, 0.0)
    left.update(999, 1000, 100.0)
    assert left.seconds(100.0) == pytest.approx(0.1, rel=0.01)
    assert "2.0 min" in left.text(220.0)  # the last step has lasted two minutes: as long again is a fair guess
    left.update(1000, 1000, 230.0)
    assert left.text(400.0) == ""
    late = TimeLeft(10.0, 0.0)
    assert late.text(60.0) == ", longer than planned"


def test_a_wait_in_the_middle_does_not_reset_the_time_left() -> None:
    left = TimeLeft(None, 0.0)
    left.update(50, 100, 50.0)
    left.update(0, 1, 51.0)
    assert left.seconds(60.0) == pytest.approx(60.0)


def test_records_in_bulk_are_counted_row_by_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    reporter = Reporter(as_json=True)
    reporter.stage("trying", 30.0)
    reporter.step(Record("resistances", {"row": np.zeros(7)}, many=True))
    reporter.step(Progress(1, 10, "measuring"))
    told = capsys.readouterr().err
    assert "trying ... about 30 s" in told
    assert "7 records" in told


def documented(section: str) -> dict[str, str]:
    """First and second column of the table in a section of the page on procedures."""
    page = (DOCS / "procedures.md").read_text(encoding="utf-8")
    text = page.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `([\w-]+)` \| ([^|]*)\|", text, re.M))


def test_the_documented_states_are_those_of_the_program() -> None:
    shown = {state: set(re.findall(r"`(\w+)`", followers)) for state, followers in documented("States").items()}
    assert shown == {str(state): set(map(str, followers)) for state, followers in TRANSITIONS.items()}
    assert set(shown) == set(map(str, RunState))


def test_every_procedure_is_documented_with_parameters_that_it_has() -> None:
    page = (DOCS / "procedures.md").read_text(encoding="utf-8").split("\n## The procedures\n")[1]
    rows = dict(re.findall(r"^\| `([\w-]+)` \| [^|]* \| ([^|]*) \|", page, re.M))
    assert set(rows) == set(PROCEDURES)
    for name, parameters in rows.items():
        assert set(re.findall(r"`(\w+)`", parameters)) <= set(PROCEDURES[name].parameters.model_fields), name
