"""Sweeps on one machine: what a sweep file may say, each point stored once, workers and programs that die."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bench.cli.app import app
from bench.stopping import Stopped, StopToken
from bench.sweeping.experiments import experiment
from bench.sweeping.local import MOST_DEATHS, Processes, Serial
from bench.sweeping.points import Outcome, Task, compute
from bench.sweeping.running import Progress, run_sweep
from bench.sweeping.store import SweepStore, read_sweep
from bench.sweeping.sweep_file import Sweep, load_sweep
from data.device_files import Quantity, default_device, save_device
from data.networks import save_network
from models.architectures import mlp
from models.device_model import SCHEMA
from models.encodings import ThermometerEncoding
from models.exceptions import BenchFailure, UserMistake
from models.networks import build, fold
from tests.bench.made_up_points import FAILS, KILLS, deadly, drawn

RATES = {"stuck_fraction": (2e-3, 1e-3, 4e-3), "random_rate": (1e-4, 5e-5, 2e-4), "transient_rate": (1e-3, 8e-4, 2e-3)}
TEXT = """
experiment = "predict"
seeds = { first = 7, count = 3 }

[settings]
network = "network.safetensors"
device = "device.toml"
samples = 10
modes = ["host"]

[grid.quantities.read_error]
transient_rate = [1e-4, 1e-2]

[sample]
count = 2
seed = 1
ranges = { rows = { low = 16, high = 64, integer = true } }
"""
POINTS = 12


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that nobody trained, and a device file with error rates."""
    folder = tmp_path_factory.mktemp("inputs")
    network = fold(build(mlp("tiny", ThermometerEncoding(64, (8,)), (8,), 10), torch.Generator().manual_seed(1)))
    save_network(folder / "network.safetensors", network, {})
    keys = {f"read_error.{name}": rate for name, rate in RATES.items()}
    found = {
        key: Quantity(value, SCHEMA[key].unit, "test", "proposed", low, high)
        for key, (value, low, high) in keys.items()
    }
    save_device(folder / "device.toml", default_device().updated(found))
    return folder


@pytest.fixture
def file(inputs: Path, tmp_path: Path) -> Path:
    """A sweep file of twelve cheap points."""
    shutil.copytree(inputs, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "sweep.toml"
    path.write_text(TEXT)
    return path


def run(sweep: Sweep, path: Path, engine: object, **options: object) -> Progress:
    """Run a sweep into a file."""
    with SweepStore(path, sweep) as store:
        return run_sweep(sweep, store, engine, options.pop("stop", StopToken()), **options)  # type: ignore[arg-type]


def results(path: Path) -> dict[int, Mapping[str, float]]:
    """What a file holds, without times and hosts."""
    return {index: outcome.results for index, outcome in sorted(read_sweep(path).outcomes.items())}


def test_processes_of_which_one_is_killed_give_what_a_serial_run_gives(file: Path, tmp_path: Path) -> None:
    sweep, engine, killed = load_sweep(file), Processes(2, drawn), list[int]()

    def kill(progress: Progress, outcome: Outcome) -> None:
        if progress.computed == 3:
            killed.append(engine.pids[0])
            os.kill(killed[0], signal.SIGKILL)

    run(sweep, tmp_path / "serial.h5", Serial(drawn))
    progress = run(sweep, tmp_path / "two.h5", engine, on_point=kill)
    assert killed
    assert (progress.done, progress.failed, progress.computed) == (POINTS, 0, POINTS)
    assert list(results(tmp_path / "two.h5")) == list(range(POINTS))
    assert results(tmp_path / "two.h5") == results(tmp_path / "serial.h5")
    assert len({values["value"] for values in results(tmp_path / "two.h5").values()}) == POINTS


def test_a_point_that_kills_its_workers_is_given_up_and_costs_no_other(file: Path, tmp_path: Path) -> None:
    sweep = load_sweep(file)
    progress = run(sweep, tmp_path / "out.h5", Processes(1, deadly))
    assert (progress.done, progress.failed) == (POINTS - 2, 2)
    stored = read_sweep(tmp_path / "out.h5")
    assert f"died {MOST_DEATHS} times" in stored.outcomes[KILLS].error
    assert stored.outcomes[FAILS].error == "no such chip"
    # they are left alone, unless they are asked for
    assert run(sweep, tmp_path / "out.h5", Serial(drawn)).computed == 0
    assert run(sweep, tmp_path / "out.h5", Serial(drawn), retry=True).done == POINTS


def test_the_file_is_understood_by_itself(file: Path, tmp_path: Path) -> None:
    sweep = load_sweep(file)
    run(sweep, tmp_path / "out.h5", Serial())
    with h5py.File(tmp_path / "out.h5") as stored:
        assert stored.attrs["experiment"] == "predict"
        assert stored["sweep_file"].asstr()[()] == TEXT
        assert json.loads(stored.attrs["inputs"])[str(file.parent / "device.toml")]
        rate = stored["conditions/quantities.read_error.transient_rate"]
        assert rate[...].tolist() == [1e-4] * 6 + [1e-2] * 6
        assert rate.dims[0][0].name == "/point"
        assert set(stored["conditions/rows"][...].tolist()) <= set(range(16, 65))
        assert stored["seed"][...].tolist() == [7, 8, 9] * 4
        assert stored["processor_s"].attrs["units"] == "s"
        assert np.all(stored["status"][...] == 1)
        assert np.all(stored["results/host.low"][...] <= stored["results/host.mean"][...])
        assert stored["results/host.low"].dims[0][0].name == "/point"


def test_points_are_stored_once_and_survive_a_crash_and_a_cut_tail(file: Path, tmp_path: Path) -> None:
    sweep, path = load_sweep(file), tmp_path / "out.h5"
    outcomes = [replace(drawn(task), host="h" * 3000) for task in sweep.tasks([0, 3, 4, 5, 6, 7, 8, 9])]
    crashed = tmp_path / "crashed.h5"
    with SweepStore(path, sweep) as store:
        for outcome in outcomes:
            assert store.put(outcome)
            assert not store.put(outcome)
        assert sorted(read_sweep(path).outcomes) == [0, 3, 4, 5, 6, 7, 8, 9]  # while it is being written
        with pytest.raises(UserMistake, match="another process writes"), SweepStore(path, sweep):
            pass
        shutil.copy(path, crashed)
    assert sorted(read_sweep(crashed).outcomes) == [0, 3, 4, 5, 6, 7, 8, 9]
    whole, kept = crashed.read_bytes(), set()
    end = len(whole.rstrip(b"\0"))
    for cut in range(end, end - 24_000, -2000):
        crashed.write_bytes(whole[:cut])
        found = read_sweep(crashed).outcomes
        assert all(found[index] == outcome for outcome in outcomes if (index := outcome.index) in found)
        kept.add(len(found))
    assert kept & set(range(1, 8)), "no cut left some points and lost others"
    crashed.write_bytes(whole[:1000])
    with pytest.raises(UserMistake, match="sweep"):
        read_sweep(crashed)
    crashed.write_bytes(whole[: end - 5000])
    before = len(read_sweep(crashed).outcomes)
    assert run(sweep, crashed, Serial(drawn)).computed == POINTS - before


def test_columns_that_a_crash_at_the_very_end_prevented_are_written_by_the_next_start(
    file: Path, tmp_path: Path
) -> None:
    sweep, path, crashed = load_sweep(file), tmp_path / "out.h5", tmp_path / "crashed.h5"
    with SweepStore(path, sweep) as store:
        for task in sweep.tasks(range(POINTS)):
            store.put(drawn(task))
        shutil.copy(path, crashed)
    assert not read_sweep(crashed).ended
    assert run(sweep, crashed, Serial(drawn)).computed == 0
    with h5py.File(crashed) as stored:
        assert np.all(stored["status"][...] == 1)
        assert "journal" not in stored
    assert results(crashed) == results(path)


def test_a_reason_is_stored_whatever_it_says_and_a_newer_one_takes_its_place(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, path = load_sweep(file), tmp_path / "out.h5"

    def failing(reason: str) -> None:
        def work(*_: object) -> dict[str, float]:
            raise ValueError(reason)

        monkeypatch.setattr("bench.sweeping.experiments.Experiment.run", work)

    failing("a zero \0 and half a\ud800 letter")
    assert run(sweep, path, Serial()).failed == POINTS
    assert read_sweep(path).outcomes[0].error == "ValueError: a zero and half a letter"
    failing("another")
    assert run(sweep, path, Serial(), retry=True).failed == POINTS
    assert read_sweep(path).outcomes[0].error == "ValueError: another"


def test_a_file_of_another_sweep_is_refused_and_comments_make_no_other(file: Path, tmp_path: Path) -> None:
    run(load_sweep(file), tmp_path / "out.h5", Serial(drawn))
    file.write_text("# said before\n" + TEXT + "[slurm]\njobs = 2\nmemory = '2GB'\n")
    assert run(load_sweep(file), tmp_path / "out.h5", Serial(drawn)).computed == 0
    content = (tmp_path / "out.h5").read_bytes()
    file.write_text(TEXT.replace("count = 3", "count = 4"))
    with pytest.raises(UserMistake, match="is of another sweep"):
        run(load_sweep(file), tmp_path / "out.h5", Serial(drawn))
    file.write_text(TEXT)
    device = file.parent / "device.toml"
    device.write_text(device.read_text() + "# changed\n")
    with pytest.raises(UserMistake, match="is of another sweep"):
        run(load_sweep(file), tmp_path / "out.h5", Serial(drawn))
    assert (tmp_path / "out.h5").read_bytes() == content


def test_an_input_that_changed_on_a_worker_fails_the_point(file: Path) -> None:
    (task,) = load_sweep(file).tasks([0])
    with (file.parent / "network.safetensors").open("ab") as network:
        network.write(b" ")
    assert "is not the file that the sweep began with" in compute(task).error


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (('"predict"', '"guess"'), "no experiment is called 'guess'; there are: reproduce, predict, confirm, recovery"),
        (("[settings]", "[setings]"), "setings: unknown key"),
        (("samples = 10", "samples = 0"), "point 0 .*samples: .*greater than or equal to 1"),
        (("samples = 10", "smples = 10"), "smples: unknown key"),
        (("transient_rate =", "transient ="), "point 0 .*read_error.transient is unknown"),
        (("[1e-4, 1e-2]", "[1e-4, 2.0]"), "point 6 .*read_error.transient_rate"),
        (("[1e-4, 1e-2]", "[]"), "must be a list of values"),
        (("[1e-4, 1e-2]", "[1e-4, nan]"), "not finite"),
        (("[1e-4, 1e-2]", "[1e-4, 1e-4]"), "lists a value twice; repeat points with more seeds"),
        (("count = 3", "count = 0"), "seeds.*count: .*greater than or equal to 1"),
        (("count = 3", "count = 1000000"), "4000000 points"),
        (("rows =", "samples ="), "samples is given more than once"),
        (("low = 16", "low = 64"), "low must be below high"),
        (('"device.toml"', '"nowhere.toml"'), "nowhere.toml"),
        (("network = ", "network "), "Expected '=' after a key"),
    ],
)
def test_mistakes_are_found_before_anything_starts(file: Path, change: tuple[str, str], text: str) -> None:
    assert change[0] in TEXT
    file.write_text(TEXT.replace(*change))
    with pytest.raises(UserMistake, match=text) as caught:
        load_sweep(file)
    assert "\n" not in str(caught.value)


def test_a_stop_keeps_what_is_done_and_a_full_disk_says_so(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, stop = load_sweep(file), StopToken()
    with pytest.raises(Stopped):
        run(sweep, tmp_path / "out.h5", Serial(drawn), stop=stop, on_point=lambda *told: stop.request("Ctrl-C"))
    assert list(results(tmp_path / "out.h5")) == [0]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("bench.sweeping.store.Reserve.ensure", full)
        with pytest.raises(BenchFailure, match="the disk is full"):
            run(sweep, tmp_path / "out.h5", Serial(drawn))
    assert list(results(tmp_path / "out.h5")) == [0]
    assert run(sweep, tmp_path / "out.h5", Serial(drawn)).computed == POINTS - 1


def test_the_command_runs_goes_on_and_reports(file: Path, tmp_path: Path) -> None:
    def command(*words: str) -> dict[str, object]:
        ended = CliRunner().invoke(app, ["sweep", str(file), "--json", *words])
        assert ended.exit_code == 0, ended.output
        return dict(json.loads(ended.stdout))

    listed = command("--dry-run")
    assert len(listed["points"]) == listed["missing"] == POINTS  # type: ignore[arg-type]
    assert listed["seconds_left_of_one_worker"] is None
    assert not (tmp_path / "sweep.h5").exists()
    assert command("--workers", "0")["done"] == POINTS
    assert command("--workers", "0")["computed"] == 0
    assert command("--dry-run")["seconds_left_of_one_worker"] == 0.0
    out, table, plot = str(tmp_path / "sweep.h5"), tmp_path / "table.csv", tmp_path / "plot.png"
    report = command("--report", "--out", out, "--csv", str(table), "--plot", str(plot), "--result", "*.mean")
    first = report["groups"][0]  # type: ignore[index]
    stored = results(Path(out))
    assert first["results"] == {"host.mean": [stored[index]["host.mean"] for index in (0, 1, 2)]}
    lines = table.read_text().splitlines()
    assert len(lines) == POINTS + 1
    assert f"{stored[11]['host.mean']!r}" in lines[-1]
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--csv", "table.csv"], "are of a report: add --report"),
        (["--report", "--result", "value", "--against", "nosuch"], "--against is of the picture: add --plot FILE"),
        (
            ["--report", "--result", "value", "--csv", "network.safetensors"],
            "stands there that is no table of the points",
        ),
        (["--workers", "0", "--out", "."], "is a folder"),
        (
            ["--report", "--result", "value", "--plot", "plot.foo"],
            "no picture is written as .foo; name a file that ends in one of",
        ),
    ],
)
def test_a_command_that_cannot_be_done_says_so_in_one_line(
    file: Path, words: list[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    if "--report" in words:
        run(load_sweep(file), file.with_suffix(".h5"), Serial(drawn))
    before = sorted(file.parent.iterdir())
    with pytest.raises(UserMistake, match=text):
        CliRunner().invoke(app, ["sweep", file.name, *words], catch_exceptions=False)
    assert sorted(file.parent.iterdir()) == before


def test_ctrl_c_ends_the_command_with_130_and_it_goes_on(file: Path, tmp_path: Path) -> None:
    file.write_text(TEXT.replace("count = 3", "count = 300"))
    out = tmp_path / "sweep.h5"
    command = [sys.executable, "-m", "bench.cli", "sweep", str(file), "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out.exists() and read_sweep(out).outcomes) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=30)[1]
    assert (process.returncode, told.splitlines()[-1]) == (130, "rram-bench: stopped: Ctrl-C")
    with h5py.File(out) as stored:  # written to its end
        done = int((stored["status"][...] == 1).sum())
        assert "journal" not in stored
    assert 0 < done < 1200
    assert list(tmp_path.glob(".*")) == list(tmp_path.glob("*.lock")) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings", "some"),
    [
        ("confirm", {"at": {"SENSE.vdd_v": 1.1}, "samples": 5, "modes": ["xnor"]}, "xnor.measured"),
        ("recovery", {"fit": "sense", "rows": 6, "cols": 8, "parameters": {"windows": 15}}, "sense.noise_sigma.low"),
        ("reproduce", {"system": "mram"}, "rows holding"),
    ],
)
@pytest.mark.timeout(600)
def test_each_experiment_gives_the_same_numbers_again(
    inputs: Path, name: str, settings: dict[str, object], some: str
) -> None:
    network = {"network": str(inputs / "network.safetensors")} if name == "confirm" else {}
    experiment(name).check({**settings, **network})
    first, again = (compute(Task(0, name, {**settings, **network}, 5)) for _ in range(2))
    assert first.error == ""
    assert some in first.results
    assert first.results == again.results
    assert compute(Task(0, name, {**settings, **network}, 6)).results != first.results
