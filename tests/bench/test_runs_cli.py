"""``runs`` and ``report`` as a user types them."""

from __future__ import annotations

import csv
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from bench.cli import status_of_command
from data.runs import Run, RunWriter, open_run
from tests.bench.recorded import ROWS, record
from tests.bench.test_figures import characterise, endurance, resistances, staircase


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs of several kinds, and files that are none."""
    runs = tmp_path / "runs"
    runs.mkdir()
    staircase(runs / "c-staircase.h5")
    endurance(runs / "b-endurance.h5")
    record(runs / "a-read.h5", "read", {}, status="failed", reason="no supply", chip_id="CHIP-8")
    (runs / "junk.h5").write_bytes(b"not a run")
    (runs / "notes.txt").write_text("mine")
    monkeypatch.chdir(tmp_path)
    return runs


class Shell:
    """The command line, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *args: str, status: int = 0) -> str:
        """Run a command that must end with ``status``; its output, or its one line of complaint."""
        self._monkeypatch.setattr(sys, "argv", ["rram-bench", *args])
        assert status_of_command() == status, self._capsys.readouterr().err
        found = self._capsys.readouterr()
        if status == 0:
            return found.out
        assert found.out == ""
        assert len(found.err.splitlines()) == 1, found.err
        return found.err


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)


def started(run: Run) -> str:
    return str(run.attributes["started"])


def test_the_list_has_the_newest_last_and_names_what_is_no_run(folder: Path, shell: Shell) -> None:
    lines = shell("runs", "list").splitlines()
    assert lines[0] == "3 runs in runs"
    assert [line.split()[-1] for line in lines[2:5]] == ["c-staircase.h5", "b-endurance.h5", "a-read.h5"]
    assert lines[5:] == ["not a run: runs/junk.h5 is not an HDF5 file"]
    (folder / "a-read.h5").unlink()
    (folder / "b-endurance.h5").unlink()
    assert shell("runs", "list").splitlines()[0] == "1 run in runs"
    assert "notes.txt" not in "".join(lines)
    row = lines[3].split()
    assert row[2:4] == ["endurance", "completed"]
    assert row[5:7] == ["12", "CHIP-7"]


def test_the_list_can_be_narrowed(folder: Path, shell: Shell) -> None:
    def names(*args: str) -> list[str]:
        return [Path(run["file"]).name for run in json.loads(shell("runs", "list", "runs", *args, "--json"))["runs"]]

    assert names("--procedure", "weak-reset") == ["c-staircase.h5"]
    assert names("--status", "failed") == names("--chip", "CHIP-8") == ["a-read.h5"]
    assert len(names("--since", "1h")) == 3
    assert len(names("--since", (datetime.now() - timedelta(minutes=5)).isoformat())) == 3
    assert names("--since", "2999-01-01") == []
    assert "no moment" in shell("runs", "list", "--since", "yesterday", status=2)
    assert "a run is running, completed" in shell("runs", "list", "--status", "fine", status=2)
    assert "there is no folder nowhere" in shell("runs", "list", "nowhere", status=2)


def test_a_run_whose_program_died_is_listed_as_interrupted(folder: Path, shell: Shell) -> None:
    table = open_run(folder / "c-staircase.h5").tables["selection"]
    writer = RunWriter(folder / "d.h5", "read", (table,), {"row": range(ROWS), "col": range(3)}, {})
    (running,) = json.loads(shell("runs", "list", "--status", "running", "--json"))["runs"]
    assert running["procedure"] == "read"
    writer._abandon()
    (dead,) = json.loads(shell("runs", "list", "--status", "interrupted", "--json"))["runs"]
    assert Path(dead["file"]).name == "d.h5"


def test_nothing_in_the_list_is_cut(folder: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert "b-endurance.h5" in shell("runs", "list")
    assert "weak-reset" in shell("runs", "list")


def test_show_tells_what_a_run_was(folder: Path, shell: Shell) -> None:
    known = json.loads(shell("runs", "show", "runs/b-endurance.h5", "--json"))
    assert known["status"] == "completed"
    assert known["operating_points"]["DIRECT"]["read_v"] == 0.2
    assert known["instruments"] == {"smu": "Keithley 2450, serial 5"}
    assert known["tables"]["endurance"]["columns"]["lrs_ohm"]["unit"] == "ohm"
    assert known["tables"]["operations"]["columns"]["devices"]["dims"] == {"row": 4, "col": 3, "device": 2}
    text = shell("runs", "show", "runs/a-read.h5")
    for part in ("failed (no supply)", "CHIP-8", "pulses = 3", "width_s [s]", "IN_DOUBT"):
        assert part in text, part


def test_show_prints_records(folder: Path, shell: Shell) -> None:
    args = ("runs", "show", "runs/c-staircase.h5", "--table", "staircase")
    header, *rows = shell(*args, "--rows", "2:4").splitlines()[1:]
    assert header.split()[:3] == ["record", "time_s", "[s]"]
    assert [row.split()[0] for row in rows] == ["2", "3"]
    last = json.loads(shell(*args, "--rows", "-1", "--json"))
    assert last["rows"] == 96
    assert last["records"]["device"] == ["BLB"]
    assert last["records"]["pulses"] == [1000]
    assert "write A:B" in shell(*args, "--rows", "first", status=2)
    assert "--rows picks records of a table" in shell("runs", "show", "runs/a-read.h5", "--rows", "1", status=2)


def test_json_has_no_number_that_json_does_not_know(folder: Path, shell: Shell) -> None:
    resistances(folder / "r.h5")
    shown = json.loads(shell("runs", "show", "runs/r.h5", "--table", "resistances", "--json"))
    assert shown["records"]["resistance_ohm"][5] == "inf"


def test_plots_are_written_in_each_format(folder: Path, shell: Shell) -> None:
    characterise(folder / "d.h5")
    values = json.loads(shell("runs", "plot", "runs/d.h5", "--out", "d.png", "--json"))
    assert (
        values["files"] == ["d.png", "d-" + values["figures"][1] + ".png"] if len(values["figures"]) > 1 else ["d.png"]
    )
    assert Path("d.png").read_bytes().startswith(b"\x89PNG")
    shell("runs", "plot", "runs/d.h5", "--out", "d.pdf")
    assert Path("d.pdf").read_bytes().startswith(b"%PDF")
    shell("runs", "plot", "runs/d.h5", "--out", "d.svg", "--figure", "distributions")
    assert "<svg" in Path("d.svg").read_text()
    assert "figures of this run are distributions" in shell(
        "runs", "plot", "runs/d.h5", "--out", "d.svg", "--figure", "x", status=2
    )
    assert "a picture ends in" in shell("runs", "plot", "runs/d.h5", "--out", "runs/d.h5", status=2)
    assert "holds no records to draw" in shell("runs", "plot", "runs/a-read.h5", "--out", "x.png", status=2)


def test_export_writes_what_other_programs_read(folder: Path, shell: Shell) -> None:
    args = ("runs", "export", "runs/c-staircase.h5", "--format", "csv", "--table", "staircase", "--out", "s.csv")
    assert json.loads(shell(*args, "--json")) == {"files": ["s.csv"]}
    with Path("s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 96
    assert float(rows[0]["resistance_ohm [ohm]"]) == 7000.0
    assert "--force" in shell(*args, status=2)
    shell(*args, "--force")
    assert "csv, netcdf, parquet" in shell(
        "runs", "export", "runs/a-read.h5", "--format", "xls", "--out", "x", status=2
    )
    assert "--comments belongs to csv" in shell(
        "runs", "export", "runs/a-read.h5", "--format", "netcdf", "--out", "x", "--comments", status=2
    )


def test_compare_says_what_differs(folder: Path, shell: Shell) -> None:
    staircase(folder / "e.h5", 2.0)
    other = record(folder / "f.h5", "read", {}, chip_id="CHIP-8", result={"plus": 3}, parameters='{"pulses": 4}')
    compared = json.loads(shell("runs", "compare", "runs/c-staircase.h5", "runs/e.h5", str(other.path), "--json"))
    assert compared["differences"]["run"]["chip_id"] == ["CHIP-7", "CHIP-7", "CHIP-8"]
    assert compared["differences"]["parameters"] == {"pulses": [3, 3, 4], "kind": ["sense", "sense", None]}
    assert "operating_points" in compared["same"]
    assert compared["results"] == {"plus": [None, None, 3]}
    shell("runs", "compare", "runs/c-staircase.h5", "runs/e.h5", "--out", "both.png")
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")
    assert "two runs" in shell("runs", "compare", "runs/e.h5", status=2)
    assert "no curve in common" in shell("runs", "compare", "runs/e.h5", "runs/a-read.h5", "--out", "x.png", status=2)


def test_report_is_written_beside_the_run(folder: Path, shell: Shell) -> None:
    written = Path(json.loads(shell("report", "runs/c-staircase.h5", "--json"))["report"])
    assert written == Path("runs/c-staircase.html")
    assert "Weak-RESET staircase" in written.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "args",
    [
        ("runs", "show"),
        ("runs", "plot", "--out", "x.png"),
        ("runs", "export", "--format", "csv", "--out", "x"),
        ("report",),
    ],
)
def test_a_file_that_is_no_run_is_refused_in_one_line(args: tuple[str, ...], folder: Path, shell: Shell) -> None:
    assert "is not an HDF5 file" in shell(*args, "runs/junk.h5", status=2)
    assert "there is no run file" in shell(*args, "nowhere.h5", status=2)
    assert [path.name for path in Path().iterdir()] == ["runs"]


def test_a_run_shows_itself_in_a_notebook(folder: Path) -> None:
    run = open_run(folder / "b-endurance.h5")
    assert repr(run).startswith("<Run b-endurance.h5: endurance, completed, ")
    html = run._repr_html_()
    for part in ("endurance", "completed", started(run), "CHIP-7", "endurance (96)"):
        assert part in html, part
    assert (
        "no &lt;supply&gt;" in record(folder / "x.h5", "read", {}, status="failed", reason="no <supply>")._repr_html_()
    )
