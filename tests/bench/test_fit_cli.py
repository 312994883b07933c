"""The fit commands as a user types them: results, files, statuses; and what is refused before anything is written."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench.cli import status_of_command
from bench.procedures.weak_reset import STAIRCASE, WEAK_RESET
from calibration import script
from calibration.estimate import Estimate
from calibration.result import Check, Comparison, Fit, Outlier
from data.device_files import load_device
from data.runs import Run, RunStatus, RunWriter
from models.exceptions import UserMistake

FOUND = Estimate(7.1e-4, 6.6e-4, 7.6e-4, "1/pulse")
GOOD = Fit(
    {"weak_reset.slope1_scale": FOUND, "median_rise": Estimate(0.1, 0.08, 0.12, "1")},
    60,
    True,
    report=("all well",),
    outliers=(Outlier(1, 0, 1, "stays in the HRS"),),
    checks=(Check.within("spread", 0.2, 0.1, 0.3),),
    comparisons=(Comparison("is the knee needed?", "yes", 12.0, "two lines by 12"),),
)

Command = Callable[..., tuple[int, str, str]]


def run_file(path: Path, chip: str = "A1", status: str = "completed", resumes: str = "") -> Path:
    attributes = {"chip_id": chip, **({"resumes": resumes} if resumes else {})}
    with RunWriter(path, "weak-reset", WEAK_RESET.tables, {}, attributes) as writer:
        for pulses in (0, 10):
            writer.append(STAIRCASE.name, **{column.name: pulses for column in STAIRCASE.columns} | {"device": 1})
        writer.finish(status)
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Type a command in an empty folder: status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def typed(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rram-bench", *args])
        status = status_of_command()
        said = capsys.readouterr()
        return status, said.out, said.err

    return typed


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fit | BaseException | list[Run]]:
    """What the weak-RESET fit finds from now on, in place of a real one: the frame around it is tested here."""
    told: dict[str, Fit | BaseException | list[Run]] = {"finds": GOOD}

    def fit(runs: Sequence[Run], base: object) -> Fit:
        told["runs"] = list(runs)
        if isinstance(told["finds"], BaseException):
            raise told["finds"]
        assert isinstance(told["finds"], Fit)
        return told["finds"]

    monkeypatch.setitem(sys.modules, "fit_of_this_test", SimpleNamespace(fit=fit))
    kind = replace(script.KINDS["weak-reset"], module="fit_of_this_test", function="fit")
    monkeypatch.setitem(script.KINDS, "weak-reset", kind)  # type: ignore[arg-type]
    return told


def assert_refused(done: tuple[int, str, str], folder: Path, *parts: str) -> None:
    status, out, err = done
    assert status == 2, err
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("rram-bench:")]
    for part in parts:
        assert part in line
    assert not list(folder.glob("*.toml"))
    assert not list(folder.glob("*.html"))


@pytest.mark.usefixtures("fits")
def test_a_fit_is_told_as_json_and_written(command: Command, tmp_path: Path) -> None:
    run_file(tmp_path / "one.h5")
    status, out, err = command("fit", "weak-reset", "one.h5", "--out", "d.toml", "--report", "fit.html", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert result["parameters"]["weak_reset.slope1_scale"] == {
        "value": 7.1e-4, "low": 6.6e-4, "high": 7.6e-4, "unit": "1/pulse",
    }  # fmt: skip
    assert (result["devices"], result["converged"], result["report"]) == (60, True, ["all well"])
    assert result["outliers"][0]["reason"] == "stays in the HRS"
    assert result["comparisons"][0]["winner"] == "yes"
    assert result["checks"][0]["good"] is True
    assert (result["device_file"], result["report_file"]) == ("d.toml", "fit.html")
    assert load_device(tmp_path / "d.toml").quantities["weak_reset.slope1_scale"].trust == "fitted"
    assert "<td>row 1, column 0, BLB</td><td>stays in the HRS</td>" in (tmp_path / "fit.html").read_text()
    assert "fitting weak-reset" in err
    assert "left out: row 1, column 0" in err


@pytest.mark.usefixtures("fits")
def test_a_fit_is_told_as_a_table(command: Command, tmp_path: Path) -> None:
    run_file(tmp_path / "one.h5")
    status, out, _ = command("fit", "weak-reset", "one.h5")
    assert status == 0
    assert "weak_reset.slope1_scale" in out
    assert "0.00066 to 0.00076" in out
    assert (tmp_path / "device.toml").exists()


def test_a_fit_that_did_not_converge_is_shown_and_no_device_file_written(
    command: Command, fits: dict[str, object], tmp_path: Path
) -> None:
    fits["finds"] = replace(GOOD, converged=False, problems=("the staircase ends before the knee",))
    run_file(tmp_path / "one.h5")
    status, out, err = command("fit", "weak-reset", "one.h5", "--report", "fit.html", "--json")
    assert status == 1
    result = json.loads(out)
    assert result["converged"] is False
    assert result["problems"] == ["the staircase ends before the knee"]
    assert result["parameters"]
    assert result["device_file"] is None
    assert "the staircase ends before the knee" in err
    assert not (tmp_path / "device.toml").exists()
    assert "did not converge" in (tmp_path / "fit.html").read_text()


def test_runs_of_one_chip_are_joined_and_of_several_refused(
    command: Command, fits: dict[str, object], tmp_path: Path
) -> None:
    for name, chip in (("one", "A1"), ("two", "A1"), ("other", "B2")):
        run_file(tmp_path / f"{name}.h5", chip)
    assert command("fit", "weak-reset", "one.h5", "two.h5", "--out", "joined.toml")[0] == 0
    assert [run.path.name for run in fits["runs"]] == ["one.h5", "two.h5"]  # type: ignore[attr-defined]
    (tmp_path / "joined.toml").unlink()
    mixed = ("fit", "weak-reset", "one.h5", "other.h5")
    assert_refused(command(*mixed), tmp_path, "one.h5 is of chip 'A1' and other.h5 of chip 'B2'", "--population")
    assert command(*mixed, "--population")[0] == 0
    assert load_device(tmp_path / "device.toml").name == "chips A1, B2"


@pytest.mark.usefixtures("fits")
def test_what_cannot_be_fitted_is_refused_with_one_line(command: Command, tmp_path: Path) -> None:
    whole = run_file(tmp_path / "whole.h5")
    run_file(tmp_path / "stopped.h5", status=RunStatus.STOPPED)
    run_file(tmp_path / "rest.h5", resumes="stopped.h5")
    (tmp_path / "cut.h5").write_bytes(whole.read_bytes()[:3000])
    (tmp_path / "junk.h5").write_text("no run")
    (tmp_path / "copy.h5").write_bytes(whole.read_bytes())
    (tmp_path / "columns.csv").write_text("device,ohm\nA,7e3\n")
    (tmp_path / "numbers.csv").write_text("device,pulse,resistance_ohm\nA,0,7e3\nA,1,nan\n")
    for args, parts in (
        (["weak-reset", "nowhere.h5"], ["there is no run file nowhere.h5"]),
        (["weak-reset", "junk.h5"], ["junk.h5 is not an HDF5 file"]),
        (["weak-reset", "cut.h5"], ["cut.h5", "truncated"]),
        (["resistance", "whole.h5"], ["whole.h5: a run of 'weak-reset'", "resistance fit needs"]),
        (["sense", "whole.h5"], ["whole.h5: a run of 'weak-reset'", "shmoo"]),
        (["weak-reset", "stopped.h5"], ["stopped.h5: this run is stopped", "--partial"]),
        (["weak-reset", "whole.h5", "whole.h5"], ["whole.h5 is named twice"]),
        (["weak-reset", "whole.h5", "copy.h5"], ["copy.h5 is a copy of whole.h5"]),
        (["weak-reset", "rest.h5", "stopped.h5", "--partial"], ["stopped.h5 would count twice"]),
        (["weak-reset", "columns.csv"], ["columns.csv: column pulse is missing"]),
        (["weak-reset", "numbers.csv"], ["numbers.csv, line 3", "nan"]),
        (["sense", "numbers.csv"], ["numbers.csv", "run files only"]),
        (["weak-reset", "whole.h5", "--base", "nowhere.toml"], ["cannot read the device file nowhere.toml"]),
        (["weak-reset", "whole.h5", "--report", "page.pdf"], ["page.pdf", ".html"]),
        (["weak-reset", "whole.h5", "--out", "missing/d.toml"], ["missing/d.toml"]),
        (["weak-reset", "whole.h5", "--out", "a.html", "--report", "a.html"], ["--out and --report are both a.html"]),
    ):
        assert_refused(command("fit", *args), tmp_path, *parts)


def test_a_mistake_that_the_fit_itself_finds_writes_nothing(
    command: Command, fits: dict[str, object], tmp_path: Path
) -> None:
    run_file(tmp_path / "one.h5")
    fits["finds"] = UserMistake("staircase: 2 devices were measured, a fit needs at least 8")
    done = command("fit", "weak-reset", "one.h5", "--report", "fit.html")
    assert_refused(done, tmp_path, "2 devices were measured")


def ctrl_c_in_compiled_code() -> SystemError:
    """What numba makes of it, as seen in a fit."""
    outer, inner = SystemError("returned a result with an exception set"), SystemError("returned a result")
    outer.__cause__, inner.__cause__ = inner, KeyboardInterrupt()
    return outer


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), ctrl_c_in_compiled_code()])
def test_ctrl_c_is_told_in_one_line_and_nothing_is_written(
    interruption: BaseException, command: Command, fits: dict[str, object], tmp_path: Path
) -> None:
    run_file(tmp_path / "one.h5")
    fits["finds"] = interruption
    status, _, err = command("fit", "weak-reset", "one.h5")
    assert status == 130
    assert err.splitlines()[-1] == "rram-bench: interrupted"
    assert not (tmp_path / "device.toml").exists()


@pytest.mark.usefixtures("fits")
def test_a_stopped_run_and_the_rest_of_a_resumed_one(command: Command, tmp_path: Path) -> None:
    run_file(tmp_path / "stopped.h5", status=RunStatus.STOPPED)
    run_file(tmp_path / "rest.h5", resumes="stopped.h5")
    assert command("fit", "weak-reset", "stopped.h5", "--partial", "--out", "part.toml")[0] == 0
    assert command("fit", "weak-reset", "rest.h5", "--out", "whole.toml")[0] == 0


@pytest.mark.usefixtures("fits")
def test_a_plain_table_is_fitted_and_its_devices_keep_their_names(
    command: Command, fits: dict[str, object], tmp_path: Path
) -> None:
    lines = [f"{name},{pulse},{7000 + pulse}" for name in ("left", "right") for pulse in range(5)]
    (tmp_path / "trains.csv").write_text("\n".join(["device,pulse,resistance_ohm", *lines]))
    status, out, err = command("fit", "weak-reset", "trains.csv", "--json", "--report", "fit.html")
    assert status == 0, err
    assert json.loads(out)["outliers"][0]["name"] == "right"
    assert "left out: right: stays in the HRS" in err
    (run,) = fits["runs"]  # type: ignore[misc]
    assert np.unique(run.read("staircase")["row"]).tolist() == [0, 1]
    assert "table trains.csv, sha256" in load_device(tmp_path / "device.toml").extras["fitted_to"]
    assert "plain table of 2 devices" in (tmp_path / "fit.html").read_text()


@pytest.mark.usefixtures("fits")
def test_tables_of_one_name_in_two_folders_are_two_chips(command: Command, tmp_path: Path) -> None:
    for folder, names in (("a", "AB"), ("b", "BA")):
        (tmp_path / folder).mkdir()
        lines = [f"{name},{pulse},{7000 + pulse}" for name in names for pulse in range(5)]
        (tmp_path / folder / "data.csv").write_text("\n".join(["device,pulse,resistance_ohm", *lines]))
    both = ("fit", "weak-reset", "a/data.csv", "b/data.csv")
    assert_refused(command(*both), tmp_path, "a/data.csv is of chip 'a/data' and b/data.csv of chip 'b/data'")
    assert command(*both, "--population")[0] == 0


def test_outliers_of_several_tables_keep_their_table_and_their_name(command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name, broken in (("one", {"LRS"}), ("two", {"HRS"})):
        lines = ["device,state,cycle,resistance_ohm"]
        for device in range(20):
            for state, median in (("LRS", 7e3), ("HRS", 8e4)):
                wrong = 1e3 if device == 17 and state in broken else 1.0
                lines += [
                    f"{name}-{device},{state},{cycle},{wrong * median * np.exp(0.1 * rng.standard_normal())}"
                    for cycle in range(3)
                ]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines))
    status, out, err = command("fit", "resistance", "one.csv", "two.csv", "--population", "--json")
    assert status == 0, err
    outliers = json.loads(out)["outliers"]
    assert [(item["chip"], item["name"]) for item in outliers] == [("one", "one-17"), ("two", "two-17")]
    assert [item["reason"] for item in outliers] == ["LRS out of the population", "HRS out of the population"]
    assert "left out: chip one, one-17: LRS out of the population" in err


@pytest.mark.usefixtures("fits")
def test_the_scripts_do_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_file(tmp_path / "one.h5")
    out = tmp_path / "device.toml"
    monkeypatch.setattr(sys, "argv", ["weak_reset", str(tmp_path / "one.h5"), "--out", str(out)])
    assert script.run_script("weak-reset") == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert load_device(out).quantities["weak_reset.slope1_scale"].value == FOUND.value
    out.unlink()
    monkeypatch.setattr(sys, "argv", ["weak_reset", str(tmp_path / "none.h5"), "--out", str(out)])
    assert script.run_script("weak-reset") == 2
    assert "none.h5" in capsys.readouterr().err
    assert not out.exists()
