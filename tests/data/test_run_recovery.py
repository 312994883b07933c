"""What a killed program, a damaged file and a foreign file look like to the next program that comes along."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
import pytest

from data import run_recovery
from data.hdf5_crashed import MendedFile
from data.runs import Column, RunStatus, RunWriter, Table, find_interrupted, open_run, recover, sweep
from models.exceptions import BenchFailure, UserMistake

COUNT = Table("count", (Column("value", np.int64), Column("square", np.float64, units="1")))
MAP = Table("map", (Column("level", np.int16, ("row", "col")),))
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["data.runs", "data.run_recovery", "h5py"])


def make(path: Path) -> RunWriter:
    return RunWriter(path, "count", (COUNT, MAP), {"row": np.arange(8), "col": np.arange(8)}, {"seed": 1})


def record(writer: RunWriter) -> None:
    number = writer.rows("count")
    writer.append("count", value=number, square=float(number**2))
    writer.append("map", level=np.full((8, 8), number))


def write_runs(folder: Path, channel: Connection) -> None:
    """Write one run after another and tell what was acknowledged."""
    for run in range(1000):
        with make(folder / f"{run:03}.h5") as writer:
            for _ in range(40):
                record(writer)
                channel.send((run, writer.rows("map")))


def received(channel: Connection) -> Iterator[tuple[int, int]]:
    with contextlib.suppress(EOFError):
        while True:
            yield channel.recv()


def check_records(path: Path, at_least: int) -> int:
    run = open_run(path)
    count, levels = run.read("count"), run.read("map")["level"]
    rows = len(levels)
    assert at_least <= rows <= len(count["value"]) <= rows + 1
    assert count["value"].tolist() == list(range(len(count["value"])))
    assert count["square"].tolist() == [float(number**2) for number in range(len(count["value"]))]
    assert (levels == np.arange(rows)[:, None, None]).all()
    return rows


@pytest.mark.parametrize("seed", range(16))
def test_killed_at_any_instant_every_file_opens_and_nothing_acknowledged_is_missing(tmp_path: Path, seed: int) -> None:
    channel, far = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=write_runs, args=(tmp_path, far))
    process.start()
    far.close()
    time.sleep(random.Random(seed).uniform(0.03, 0.35))
    process.kill()
    acknowledged = dict(received(channel))
    process.join()

    files = sorted(tmp_path.glob("*.h5"))
    assert len(files) >= len(acknowledged)
    interrupted = find_interrupted(tmp_path)
    assert set(interrupted) <= set(files[-1:])
    for number, path in enumerate(files):
        rows = check_records(path, acknowledged.get(number, 0))
        status = open_run(path).status
        assert status in (RunStatus.COMPLETED, RunStatus.INTERRUPTED)
        assert recover(path) == path
        assert check_records(path, rows) == rows
        assert open_run(path).status is status
        with h5py.File(path) as file:
            assert file.attrs["status"] == status
    assert find_interrupted(tmp_path) == []


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A run whose program died after 40 records."""
    path = tmp_path / "000.h5"
    channel, far = FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=die_after, args=(path, far))
    process.start()
    far.close()
    assert list(received(channel)) == [(0, 40)]
    process.join()
    return path


def die_after(path: Path, channel: Connection) -> None:
    writer = make(path)
    for _ in range(40):
        record(writer)
    channel.send((0, writer.rows("map")))
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_recovered_run_says_interrupted_and_opens_in_xarray(crashed: Path) -> None:
    xarray = pytest.importorskip("xarray")
    assert find_interrupted(crashed.parent) == [crashed]
    assert open_run(crashed).status is RunStatus.INTERRUPTED
    assert recover(crashed) == crashed
    with xarray.open_datatree(crashed, engine="h5netcdf") as tree:
        assert tree.attrs["status"] == "interrupted"
        assert "without closing it" in tree.attrs["reason"]
        assert tree["map/level"].sizes == {"map": 40, "row": 8, "col": 8}
    assert sorted(path.name for path in crashed.parent.iterdir()) == ["000.h5"]
    clean = crashed.read_bytes()
    recover(crashed)
    assert crashed.read_bytes() == clean


def test_what_dead_programs_left_beside_run_files_is_swept_away(crashed: Path) -> None:
    folder = crashed.parent
    recover(crashed)
    left = [folder / name for name in ("000.h5.lock", ".001.h5.new", "001.h5.lock", ".000.h5.compact")]
    for path in left:
        path.touch()
    (folder / "notes.lock").touch()
    assert sweep(folder) == [], "too young: another program may be making them"
    for path in left:
        os.utime(path, (0.0, 0.0))
    with make(folder / "live.h5") as writer:
        record(writer)
        os.utime(folder / "live.h5.lock", (0.0, 0.0))
        assert set(sweep(folder)) == set(left)
        assert (folder / "live.h5.lock").exists()
        record(writer)
    assert check_records(folder / "live.h5", 2) == 2
    assert {path.name for path in folder.iterdir()} == {"000.h5", "live.h5", "notes.lock"}


def test_the_result_survives_the_end_and_is_absent_where_there_is_none(tmp_path: Path, crashed: Path) -> None:
    summary = {"median_ohm": 7.1e3, "cells": 4, "worst": [1, 2]}
    writer = make(tmp_path / "run.h5")
    record(writer)
    assert open_run(tmp_path / "run.h5").result == {}
    writer.finish("completed", result=summary)
    assert open_run(tmp_path / "run.h5").result == summary
    with h5py.File(tmp_path / "run.h5") as file:
        assert json.loads(file.attrs["result"]) == summary
    make(tmp_path / "long.h5").finish("completed", result={"all": list(range(20_000))})
    assert "too long" in open_run(tmp_path / "long.h5").result["omitted"]
    assert open_run(crashed).result == open_run(recover(crashed)).result == {}


def test_the_result_of_a_run_that_could_not_be_rewritten_comes_back_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.h5"
    writer = make(path)
    record(writer)
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(run_recovery.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(BenchFailure, match="could not be rewritten compactly"):
        writer.finish("completed", result={"cells": 1})
    assert open_run(path).result == {"cells": 1}
    monkeypatch.undo()
    assert open_run(recover(path)).result == {"cells": 1}
    assert open_run(path).status is RunStatus.COMPLETED


def test_files_from_before_there_was_a_result_are_read_and_recovered(tmp_path: Path, crashed: Path) -> None:
    make(tmp_path / "old.h5").finish("stopped", "enough", result={"cells": 1})
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        del file.attrs["result"]
    old = open_run(tmp_path / "old.h5")
    assert old.ending[:2] == ("stopped", "enough")
    assert old.result == {}
    assert "result" not in old.attributes
    contents = memoryview(bytearray(crashed.stat().st_size))
    with MendedFile(crashed) as mended:
        mended.seek(0)
        mended.readinto(contents)
    crashed.write_bytes(contents)  # with a header that lets it be opened for writing
    with h5py.File(crashed, "r+") as file:
        del file["end/result"]
    assert open_run(crashed).result == {}
    assert open_run(recover(crashed)).status is RunStatus.INTERRUPTED
    assert check_records(crashed, 40) == 40


def test_a_run_being_written_is_not_recovered(tmp_path: Path) -> None:
    with make(tmp_path / "run.h5") as writer:
        record(writer)
        assert find_interrupted(tmp_path) == []
        with pytest.raises(UserMistake, match=r"still being written by process \d+ on "):
            recover(tmp_path / "run.h5")
        record(writer)
    check_records(tmp_path / "run.h5", 2)


def test_a_file_whose_disk_is_too_full_to_recover_is_left_as_it_is(
    crashed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = crashed.read_bytes()
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(run_recovery.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(BenchFailure, match="could not be rewritten compactly: it takes .* has 0 MB free"):
        recover(crashed)
    assert crashed.read_bytes() == before
    monkeypatch.undo()
    recover(crashed)
    assert check_records(crashed, 40) == 40


def test_a_copy_that_does_not_read_back_equal_never_replaces_the_original(
    crashed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = crashed.read_bytes()
    write = run_recovery._write_compact

    def write_wrongly(source: h5py.File, contents: object, compact: Path, ending: object) -> None:
        write(source, contents, compact, ending)  # type: ignore[arg-type]
        with h5py.File(compact, "r+") as file:
            file["map/level"][7, 3, 3] = 99

    monkeypatch.setattr(run_recovery, "_write_compact", write_wrongly)
    with pytest.raises(BenchFailure, match="does not read back equal"):
        recover(crashed)
    assert crashed.read_bytes() == before
    assert [path.name for path in crashed.parent.iterdir()] == ["000.h5"]


@pytest.mark.parametrize("reader", [open_run, recover])
def test_files_that_are_no_runs_are_named_and_left_alone(tmp_path: Path, reader: object) -> None:
    make(tmp_path / "run.h5").finish("completed")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with h5py.File(tmp_path / "newer.h5", "w") as file:
        file.attrs["schema"], file.attrs["schema_version"] = "rram-bench run", 99
    with h5py.File(tmp_path / "gutted.h5", "w") as file:
        file.attrs["schema"], file.attrs["schema_version"] = "rram-bench run", 1
    (tmp_path / "truncated.h5").write_bytes((tmp_path / "run.h5").read_bytes()[:3000])
    (tmp_path / "text.h5").write_text("resistance 7 kohm")
    contents = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for name, complaint in {
        "absent": "there is no run file",
        "foreign": "not a run file of rram-bench",
        "newer": "version 99 of the run-file schema; this program reads 1",
        "gutted": "damaged",
        "truncated": "probably truncated",
        "text": "not an HDF5 file",
    }.items():
        with pytest.raises(UserMistake, match=complaint) as caught:
            reader(tmp_path / f"{name}.h5")  # type: ignore[operator]
        assert "\n" not in str(caught.value)
    assert find_interrupted(tmp_path) == []
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == contents


def test_a_crashed_run_cut_short_is_refused_and_left_alone(crashed: Path) -> None:
    whole = crashed.read_bytes()
    for size in (600, 3000, 9000, 20_000):
        crashed.write_bytes(whole[:size])
        with pytest.raises(UserMistake) as caught:
            recover(crashed)
        assert "\n" not in str(caught.value)
        assert crashed.read_bytes() == whole[:size]


@pytest.mark.parametrize("seed", range(6))
def test_a_crashed_run_with_flipped_bytes_is_read_or_refused_but_never_hangs(crashed: Path, seed: int) -> None:
    whole = bytearray(crashed.read_bytes())
    generator = random.Random(seed)
    for _ in range(20):
        damaged = whole.copy()
        for place in generator.sample(range(60_000), 3):
            damaged[place] ^= 1 << generator.randrange(8)
        crashed.write_bytes(damaged)
        with contextlib.suppress(UserMistake):
            run = open_run(crashed)
            assert len(run.read("count")["value"]) <= 40
        assert crashed.read_bytes() == damaged


def test_asking_for_what_a_run_does_not_have(crashed: Path) -> None:
    run = open_run(crashed)
    with pytest.raises(UserMistake, match="no table 'sense'; it has count, map"):
        run.read("sense")
    with pytest.raises(UserMistake, match="no column 'cube'; it has time_s, value, square"):
        run.read("count", ["cube"])
    with pytest.raises(UserMistake, match="forwards"):
        run.read("count", rows=slice(None, None, -1))
