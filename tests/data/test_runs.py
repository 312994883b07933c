"""Run files: what is written, what is refused, what a reader sees while the run goes on."""

from __future__ import annotations

import json
import multiprocessing
import re
import resource
import shutil
import sys
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
import pytest

import data.run_storage
import data.runs
from data.run_listing import list_runs
from data.runs import Column, Coordinate, RunStatus, RunWriter, Table, open_run
from models.exceptions import BenchFailure, UserMistake

PULSE = Table(
    "pulse",
    (
        Column("row", np.int16, description="row of the cell"),
        Column("device", np.int8, flags={0: "BL", 1: "BLB"}),
        Column("resistance_ohm", np.float64, units="ohm", description="resistance after the pulse"),
    ),
    "one programming pulse",
)
SENSE = Table("sense", (Column("bits", np.int8, ("row", "col"), flags={-1: "minus", 0: "undecided", 1: "plus"}),))
EMPTY = Table("nothing", (Column("current_a", np.float32, ("col",), units="A"),))
DIMENSIONS = {
    "row": np.arange(4),
    "col": Coordinate(np.arange(3), description="column of the array"),
    "temperature_k": Coordinate([300.0, 350.0], units="K"),
}
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["data.runs", "h5py"])


def make(path: Path, **options: object) -> RunWriter:
    attributes = {"seed": 7, "parameters": json.dumps({"pulses": 3}), "width_s": 1e-6}
    return RunWriter(path, "demo", (PULSE, SENSE, EMPTY), DIMENSIONS, attributes, **options)  # type: ignore[arg-type]


def pulse(writer: RunWriter, row: int) -> None:
    writer.append("pulse", row=row, device=row % 2, resistance_ohm=7e3 + row)


def test_a_finished_run_opens_in_xarray_with_units_and_named_dimensions(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    bits = np.array([[1, 0, -1]] * 4)
    with make(tmp_path / "run.h5") as writer:
        for row in range(5):
            pulse(writer, row)
        writer.append("sense", bits=bits)
        assert writer.rows("pulse") == 5
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = xarray.open_datatree(tmp_path / "run.h5", engine="h5netcdf")
    with tree:
        assert tree["sense/bits"].dims == ("sense", "row", "col")
        assert tree["sense/bits"].values.tolist() == [bits.tolist()]
        assert tree["sense/bits"].attrs["flag_meanings"] == "minus undecided plus"
        assert tree["pulse/resistance_ohm"].attrs["units"] == "ohm"
        assert tree["pulse/resistance_ohm"].values.tolist() == [7000.0, 7001.0, 7002.0, 7003.0, 7004.0]
        assert tree["pulse/time_s"].dtype == np.float64
        assert tree["nothing/current_a"].sizes == {"nothing": 0, "col": 3}
        assert tree["temperature_k"].attrs["units"] == "K"
        for node in tree.subtree:
            for name, variable in node.variables.items():
                assert {"units", "long_name"} <= variable.attrs.keys(), name
        attributes = tree.attrs
    # A column may be called like a dimension; a tree shows the dimension's coordinate there, a single group the column.
    with xarray.open_dataset(tmp_path / "run.h5", group="pulse", engine="h5netcdf") as pulses:
        assert pulses["row"].dims == ("pulse",)
        assert pulses["row"].values.tolist() == [0, 1, 2, 3, 4]
    assert attributes["procedure"] == "demo"
    assert attributes["status"] == "completed"
    assert json.loads(attributes["parameters"]) == {"pulses": 3}
    assert re.match(r"\d{4}-\d\d-\d\dT.*\+00:00\Z", attributes["started"])


def test_everything_reads_back(tmp_path: Path) -> None:
    with make(tmp_path / "run.h5") as writer:
        writer.extend("pulse", row=np.arange(50) % 4, device=np.zeros(50, bool), resistance_ohm=np.full(50, np.nan))
        pulse(writer, 3)
        writer.extend("pulse", row=[], device=[], resistance_ohm=[])
    run = open_run(tmp_path / "run.h5")
    records = run.read("pulse")
    assert records["row"].tolist() == [*(np.arange(50) % 4), 3]
    assert np.isnan(records["resistance_ohm"][:50]).all()
    assert records["resistance_ohm"][50] == 7003.0
    assert (np.diff(records["time_s"]) >= 0).all()
    assert run.tables["pulse"] == PULSE_AS_READ
    assert run.attributes["width_s"] == 1e-6
    assert run.attributes["seed"] == 7
    assert run.coordinates["temperature_k"].array.tolist() == [300.0, 350.0]
    assert run.coordinates["temperature_k"].units == "K"
    assert run.status is RunStatus.COMPLETED
    part = run.read("pulse", ["row"], slice(-3, None))
    assert list(part) == ["row"]
    assert part["row"].tolist() == [0, 1, 3]


PULSE_AS_READ = Table(
    "pulse",
    (
        Column("row", np.int16, description="row of the cell"),
        Column("device", np.int8, description="device", flags={0: "BL", 1: "BLB"}),
        Column("resistance_ohm", np.float64, units="ohm", description="resistance after the pulse"),
    ),
    "one programming pulse",
)


def test_big_tables_are_compressed_and_exact(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(40_000, 3)).astype(np.float32)
    with make(tmp_path / "run.h5") as writer:
        for block in np.split(values, 4):
            writer.extend("nothing", current_a=block)
    assert np.array_equal(open_run(tmp_path / "run.h5").read("nothing")["current_a"], values)
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["nothing/current_a"].compression == "gzip"


def test_a_run_without_records_is_a_run(tmp_path: Path) -> None:
    make(tmp_path / "run.h5").finish("completed")
    assert open_run(tmp_path / "run.h5").read("sense")["bits"].shape == (0, 4, 3)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"row": 1, "device": 0}, r"missing columns \['resistance_ohm'\]"),
        ({"row": 1, "device": 0, "resistance_ohm": 1.0, "colour": 2}, r"unknown columns \['colour'\]"),
        ({"row": 1.0, "device": 0, "resistance_ohm": 1.0}, "pulse.row is float64, expected int16"),
        ({"row": 40_000, "device": 0, "resistance_ohm": 1.0}, "outside -32768 to 32767"),
        ({"row": 1, "device": 2, "resistance_ohm": 1.0}, r"other than \[0, 1\]"),
        ({"row": [1], "device": 0, "resistance_ohm": 1.0}, r"has the shape \(1,\), expected \(\)"),
        ({"row": 1, "device": 0, "resistance_ohm": "7k"}, "expected float64"),
        ({"row": None, "device": 0, "resistance_ohm": 1.0}, "expected int16"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_and_nothing_is_stored(
    tmp_path: Path, values: dict[str, object], complaint: str
) -> None:
    with make(tmp_path / "run.h5") as writer:
        with pytest.raises(UserMistake, match=complaint):
            writer.append("pulse", **values)  # type: ignore[arg-type]
        with pytest.raises(UserMistake, match="no table 'pulses'; it has pulse, sense, nothing"):
            writer.append("pulses", row=1)
        with pytest.raises(UserMistake, match=r"bits has the shape \(3, 4\), expected \(4, 3\)"):
            writer.append("sense", bits=np.zeros((3, 4), np.int8))
        with pytest.raises(UserMistake, match="common leading axis"):
            writer.extend("pulse", row=[1, 2], device=[0, 1], resistance_ohm=[1.0])
    assert open_run(tmp_path / "run.h5").rows("pulse") == 0


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (lambda: Column("a b", np.float64), "a name is a letter"),
        (lambda: Column("ok", bool), "neither integer nor float"),
        (lambda: Column("label", "S8"), "neither integer nor float"),
        (lambda: Column("kind", np.int8, flags={200: "big"}), "does not fit int8"),
        (lambda: Column("kind", np.int8, flags={1: "two words"}), "one word"),
        (lambda: Column("kind", np.float32, flags={1: "one"}), "integer dtype"),
        (lambda: Table("t", ()), "no columns"),
        (lambda: Table("t", (Column("time_s", np.float64),)), "filled by the writer"),
        (lambda: Table("t", (Column("x", np.int8), Column("x", np.int8))), "two columns 'x'"),
        (lambda: Coordinate([]), "non-empty row of numbers"),
    ],
)
def test_a_layout_that_other_readers_could_not_open_is_refused(build: object, complaint: str) -> None:
    with pytest.raises(UserMistake, match=complaint):
        build()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("tables", "attributes", "complaint"),
    [
        ((Table("t", (Column("x", np.int8, ("depth",)),)),), {}, "unknown dimension 'depth'"),
        ((Table("row", (Column("x", np.int8),)),), {}, "'row' is taken"),
        ((), {}, "at least one table"),
        ((PULSE,), {"status": "completed"}, "written by the run file itself"),
        ((PULSE,), {"dry_run": True}, "bool is neither text nor a number"),
    ],
)
def test_an_inconsistent_run_makes_no_file(
    tmp_path: Path, tables: tuple[Table, ...], attributes: dict[str, object], complaint: str
) -> None:
    with pytest.raises(UserMistake, match=complaint):
        RunWriter(tmp_path / "run.h5", "demo", tables, DIMENSIONS, attributes)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_how_a_run_ended_is_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), make(tmp_path / "failed.h5") as writer:
        pulse(writer, 1)
        raise ZeroDivisionError("the supply\nwent away")
    with pytest.raises(KeyboardInterrupt), make(tmp_path / "stopped.h5") as writer:
        pulse(writer, 1)
        raise KeyboardInterrupt
    with make(tmp_path / "chosen.h5") as writer:
        writer.finish("stopped", "enough")
        with pytest.raises(UserMistake, match="closed"):
            pulse(writer, 1)
        with pytest.raises(UserMistake, match="finished before"):
            writer.finish("completed")
    with make(tmp_path / "other.h5") as writer, pytest.raises(UserMistake, match="not as 'interrupted'"):
        writer.finish("interrupted")
    endings = {name: open_run(tmp_path / f"{name}.h5").ending for name in ("failed", "stopped", "chosen", "other")}
    assert endings["failed"][:2] == ("failed", "ZeroDivisionError: the supply went away")
    assert endings["stopped"][:2] == ("stopped", "KeyboardInterrupt")
    assert endings["chosen"][:2] == ("stopped", "enough")
    assert endings["other"][:2] == ("completed", "")
    assert open_run(tmp_path / "failed.h5").rows("pulse") == 1


@pytest.mark.parametrize("what", ["pulse/row", "pulse", "col"])
def test_an_object_that_became_another_kind_is_damage_that_hides_no_other_run(tmp_path: Path, what: str) -> None:
    for name in ("good.h5", "bad.h5"):
        with make(tmp_path / name) as writer:
            pulse(writer, 1)
    with h5py.File(tmp_path / "bad.h5", "r+") as file:
        del file[what]
        file[what] = np.dtype("f8")
    with pytest.raises(UserMistake, match=r"bad\.h5 is damaged"):
        open_run(tmp_path / "bad.h5")
    runs, others = list_runs(tmp_path)
    assert "good.h5" in [run.path.name for run in runs]
    assert {one.path.name for one in (*runs, *others)} == {"good.h5", "bad.h5"}


def test_a_dimension_that_is_gone_is_damage(tmp_path: Path) -> None:
    with make(tmp_path / "run.h5") as writer:
        pulse(writer, 1)
    with h5py.File(tmp_path / "run.h5", "r+") as file:
        del file["col"]
    with pytest.raises(UserMistake, match=r"run\.h5 is damaged"):
        open_run(tmp_path / "run.h5")


def test_places_where_no_run_can_be_made(tmp_path: Path) -> None:
    with make(tmp_path / "run.h5"), pytest.raises(UserMistake, match="another process is writing"):
        make(tmp_path / "run.h5")
    before = (tmp_path / "run.h5").read_bytes()
    with pytest.raises(UserMistake, match="exists already"):
        make(tmp_path / "run.h5")
    assert (tmp_path / "run.h5").read_bytes() == before
    with pytest.raises(UserMistake, match="does not exist; make it first"):
        make(tmp_path / "absent" / "run.h5")
    with pytest.raises(UserMistake, match="does not exist"):
        make(tmp_path / "run.h5" / "run.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which not even root can write")
def test_a_read_only_folder_is_refused() -> None:
    with pytest.raises(UserMistake, match="no run file can be made in /proc"):
        make(Path("/proc/run.h5"))


def test_a_vanished_folder_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    writer = make(folder / "run.h5", sync_interval_s=0.02)
    pulse(writer, 1)
    shutil.rmtree(folder)
    deadline = time.monotonic() + 5.0
    with pytest.raises(BenchFailure, match="vanished"):
        while time.monotonic() < deadline:
            pulse(writer, 2)
    with pytest.raises(BenchFailure, match="could not be closed.*vanished"):
        writer.finish("failed", "folder gone")


def test_systems_that_cannot_rename_an_open_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.runs, "RENAMES_OPEN_FILES", False)
    with make(tmp_path / "run.h5") as writer:
        pulse(writer, 2)
        assert open_run(tmp_path / "run.h5").status is RunStatus.RUNNING
    assert open_run(tmp_path / "run.h5").read("pulse")["row"].tolist() == [2]


def test_systems_without_space_reservation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(data.run_storage.os, "posix_fallocate", raising=False)
    values = np.arange(1_200_000, dtype=np.float32).reshape(-1, 3)
    with make(tmp_path / "run.h5") as writer:
        for block in np.split(values, 8):
            writer.extend("nothing", current_a=block)
            pulse(writer, 1)
    assert np.array_equal(open_run(tmp_path / "run.h5").read("nothing")["current_a"], values)


def write_slowly(path: Path, channel: Connection) -> None:
    with make(path) as writer:
        while not channel.poll(0.002):
            pulse(writer, writer.rows("pulse") % 4)
            channel.send(writer.rows("pulse"))


def test_another_process_follows_a_run(tmp_path: Path) -> None:
    channel, far = FORKED.Pipe()
    process = FORKED.Process(target=write_slowly, args=(tmp_path / "run.h5", far))
    process.start()
    try:
        seen = []
        for _ in range(5):
            acknowledged = channel.recv()
            run = open_run(tmp_path / "run.h5")
            rows = run.read("pulse")
            assert len(rows["row"]) >= acknowledged
            assert rows["row"].tolist() == [number % 4 for number in range(len(rows["row"]))]
            assert run.status is RunStatus.RUNNING
            seen.append(len(rows["row"]))
        assert seen == sorted(set(seen))
    finally:
        channel.send("stop")
        process.join(20)
    assert open_run(tmp_path / "run.h5").status is RunStatus.COMPLETED


def fill_the_disk(path: Path, channel: Connection, reserve: bool) -> None:
    """Write until the file may not grow any more, with and without the reserve that meets it first."""
    if not reserve:
        data.run_storage.Reserve.ensure = lambda self, used, coming: None  # type: ignore[method-assign]
    writer = make(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
    block = np.random.default_rng(1).normal(size=(5000, 3)).astype(np.float32)
    messages = []
    try:
        while True:
            writer.extend("nothing", current_a=block)
            channel.send(writer.rows("nothing"))
    except BenchFailure as failure:
        messages.append(str(failure))
    for attempt in (lambda: writer.extend("nothing", current_a=block), lambda: writer.finish("failed", "disk full")):
        try:
            attempt()
        except BenchFailure as failure:
            messages.append(str(failure))
    channel.send(messages)


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of a file as POSIX does")
@pytest.mark.parametrize("reserve", [True, False])
def test_a_full_disk_stops_the_run_and_keeps_what_was_recorded(tmp_path: Path, reserve: bool) -> None:
    channel, far = FORKED.Pipe()
    process = FORKED.Process(target=fill_the_disk, args=(tmp_path / "run.h5", far, reserve))
    process.start()
    acknowledged = 0
    while isinstance(message := channel.recv(), int):
        acknowledged = message
    process.join(20)
    assert process.exitcode == 0, "a full disk must not crash the program at its end"
    assert acknowledged >= 20_000
    assert "takes no more records: the disk is full" in message[0]
    assert message[1] == message[0]
    run = open_run(tmp_path / "run.h5")
    assert run.rows("nothing") == acknowledged
    assert np.isfinite(run.read("nothing")["current_a"]).all()
    if reserve:
        assert len(message) == 2, "the compact copy still fits"
        assert run.status is RunStatus.FAILED
        assert run.ending.reason == "disk full"
    else:
        assert "could not be closed: the disk is full" in message[2]
        assert run.status is RunStatus.INTERRUPTED
