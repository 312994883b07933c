"""Runs taken to other programs, read back there."""

from __future__ import annotations

import csv
import json
import math
import resource
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

import data.run_recovery
from data.run_export import ExportFormat, export
from data.runs import Column, Coordinate, Run, RunWriter, Table, open_run
from models.exceptions import UserMistake

CSV, NETCDF, PARQUET = ExportFormat

POINTS = Table(
    "points",
    (
        Column("device", "int8", flags={0: "BL", 1: "BLB"}, description="which device"),
        Column("current_a", "float64", units="A", description="measured current"),
        Column("volts", "float32", ("rail",), units="V", description="supplies"),
    ),
    "measured points",
)
SENSES = Table("senses", (Column("repeat", "int32"), Column("sensed", "int8", ("row", "col"), description="weight")))
NOTHING = Table("nothing", (Column("count", "int32"), Column("mask", "uint8", ("row", "col"))))
ROWS, COLS = 12, 10
DIMENSIONS = {
    "rail": Coordinate([0, 1], flags={0: "VDD", 1: "VDDC"}),
    "row": np.arange(ROWS),
    "col": np.arange(COLS) + 100,
}
CURRENTS = [1.5e-6, math.nan, math.inf, -1.0 / 3.0]
WEIGHTS = np.random.default_rng(0).integers(-1, 2, (3, ROWS, COLS)).astype(np.int8)


def write(path: Path, resumes: str = "") -> Path:
    attributes = {"parameters": json.dumps({"pulses": 3}), "bench_file": "[chip]\nrows = 12\n"}
    attributes |= {"resumes": resumes} if resumes else {}
    with RunWriter(path, "demo", (POINTS, SENSES, NOTHING), DIMENSIONS, attributes) as writer:
        for index, current in enumerate(CURRENTS):
            writer.append("points", device=index % 2, current_a=current, volts=[1.25, index])
        writer.extend("senses", repeat=np.arange(3), sensed=WEIGHTS)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run(write(tmp_path / "run.h5"))


@pytest.fixture(params=[16 << 20, 64], ids=["at once", "in slices"])
def _slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports are the same whether a table fits into one slice or takes many."""
    monkeypatch.setattr(data.run_recovery, "BLOCK_BYTES", request.param)
    monkeypatch.setattr(data.run_recovery, "CHUNK_BYTES", min(1 << 20, request.param))


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.usefixtures("_slices")
def test_csv_has_a_file_per_table_with_units_and_words(run: Run, tmp_path: Path) -> None:
    written = export(run, CSV, tmp_path / "out")
    assert [path.name for path in written] == ["points.csv", "senses.csv", "nothing.csv"]
    header, *lines = rows_of(written[0])
    assert header == ["time_s [s]", "device", "current_a [A]", "volts[VDD] [V]", "volts[VDDC] [V]"]
    assert [line[1] for line in lines] == ["BL", "BLB", "BL", "BLB"]
    found = [float(line[2]) for line in lines]
    assert np.array_equal(found, CURRENTS, equal_nan=True)  # every digit survives
    assert [[float(cell) for cell in line[3:]] for line in lines] == [[1.25, index] for index in range(4)]


@pytest.mark.usefixtures("_slices")
def test_csv_writes_big_arrays_one_element_a_line(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "senses.csv"
    assert export(run, CSV, out, "senses") == [out]
    header, *lines = rows_of(out)
    assert header == ["record", "time_s [s]", "repeat", "row", "col", "sensed"]
    assert len(lines) == 3 * ROWS * COLS
    for record, _, repeat, row, col, sensed in lines:
        assert record == repeat
        assert int(sensed) == WEIGHTS[int(record), int(row), int(col) - 100]


def test_a_table_without_records_has_its_header(run: Run, tmp_path: Path) -> None:
    export(run, CSV, tmp_path / "out")
    assert rows_of(tmp_path / "out" / "nothing.csv") == [["record", "time_s [s]", "count", "row", "col", "mask"]]
    export(run, PARQUET, tmp_path / "out")
    assert pyarrow.parquet.read_table(tmp_path / "out" / "nothing.parquet").num_rows == 0


def test_csv_comments_say_what_run_it_is(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "points.csv"
    export(run, CSV, out, "points", commented=True)
    comments = [line for line in out.read_text().splitlines() if line.startswith("# ")]
    assert "# procedure: demo" in comments
    assert '# parameters: {"pulses": 3}' in comments
    assert "# exported_from: run.h5" in comments
    assert out.read_text().splitlines()[len(comments)].startswith("time_s")


@pytest.mark.usefixtures("_slices")
def test_parquet_keeps_units_shapes_and_the_run_in_its_metadata(run: Run, tmp_path: Path) -> None:
    export(run, PARQUET, tmp_path / "out")
    points = pyarrow.parquet.read_table(tmp_path / "out" / "points.parquet")
    assert points.schema.field("current_a").metadata[b"units"] == b"A"
    assert points.schema.field("volts").metadata[b"dims"] == b"rail"
    assert np.array_equal(points["current_a"].to_numpy(), CURRENTS, equal_nan=True)
    assert points["device"].to_pylist() == ["BL", "BLB", "BL", "BLB"]
    assert points.schema.metadata[b"procedure"] == b"demo"
    assert points.schema.metadata[b"status"] == b"completed"
    senses = pyarrow.parquet.read_table(tmp_path / "out" / "senses.parquet")
    assert senses.schema.field("sensed").metadata[b"shape"] == f"{ROWS},{COLS}".encode()
    assert np.array_equal(np.array(senses["sensed"].to_pylist()).reshape(WEIGHTS.shape), WEIGHTS)


@pytest.mark.usefixtures("_slices")
def test_netcdf_opens_in_xarray_with_units(run: Run, tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    out = tmp_path / "run.nc"
    export(run, NETCDF, out)
    with xarray.open_datatree(out, engine="h5netcdf") as tree:
        assert tree["points/current_a"].attrs["units"] == "A"
        assert np.array_equal(tree["points/current_a"].values, CURRENTS, equal_nan=True)
        assert tree["senses/sensed"].dims == ("senses", "row", "col")
        assert tree["senses/sensed"].sel(col=103).values.tolist() == WEIGHTS[:, :, 3].tolist()
        assert tree.attrs["procedure"] == "demo"
    with xarray.open_dataset(out, group="points", engine="h5netcdf") as points:
        assert points["volts"].attrs["units"] == "V"
    assert open_run(out).read("senses")["repeat"].tolist() == [0, 1, 2]
    export(run, NETCDF, tmp_path / "one.nc", "senses")
    assert list(open_run(tmp_path / "one.nc").tables) == ["senses"]


@pytest.mark.usefixtures("_slices")
@pytest.mark.parametrize("form", list(ExportFormat))
def test_a_resumed_run_is_exported_as_a_whole(run: Run, tmp_path: Path, form: ExportFormat) -> None:
    later = open_run(write(tmp_path / "later.h5", resumes="run.h5"))
    out = tmp_path / "whole"
    export(later, form, out, "points", whole=True)
    expected = [0, 0, 0, 0, 1, 1, 1, 1]
    if form is CSV:
        header, *lines = rows_of(out)
        assert [int(line[header.index("part")]) for line in lines] == expected
    elif form is PARQUET:
        table = pyarrow.parquet.read_table(out)
        assert table["part"].to_pylist() == expected
        assert table.schema.metadata[b"exported_from"] == b"run.h5 later.h5"
    else:
        assert open_run(out).read("points")["part"].tolist() == expected
        assert "resumes" not in open_run(out).attributes
    export(later, form, tmp_path / "alone", "points")
    run.path.unlink()
    with pytest.raises(UserMistake, match=r"goes on with run\.h5, which is not in its folder"):
        export(later, form, tmp_path / "again", "points", whole=True)


@pytest.mark.parametrize("form", list(ExportFormat))
def test_nothing_is_overwritten_unasked(run: Run, tmp_path: Path, form: ExportFormat) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(UserMistake, match="exists already; name another place, or say --force"):
        export(run, form, out, "points")
    assert out.read_text() == "mine"
    export(run, form, out, "points", force=True)
    assert out.read_bytes() != b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run.h5"]


def test_one_file_in_the_way_stops_the_whole_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "senses.csv").write_text("mine")
    with pytest.raises(UserMistake, match=r"senses\.csv exists already"):
        export(run, CSV, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["senses.csv"]
    with pytest.raises(UserMistake, match="is a file, and the tables of a run become several"):
        export(run, CSV, run.path, force=True)


def test_a_failed_export_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="no table 'volts'; it has points, senses, nothing"):
        export(run, CSV, tmp_path / "out.csv", "volts")
    with pytest.raises(UserMistake, match="cannot write the export"):
        export(run, NETCDF, tmp_path / "no-such-folder" / "out.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["run.h5"]


def test_a_run_that_a_crash_left_can_be_exported(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "run.h5", "demo", (POINTS,), DIMENSIONS, {})
    writer.append("points", device=0, current_a=1.0, volts=[1, 2])
    writer._abandon()
    export(open_run(tmp_path / "run.h5"), NETCDF, tmp_path / "run.nc")
    copy = open_run(tmp_path / "run.nc")
    assert copy.status == "interrupted"
    assert copy.read("points")["current_a"].tolist() == [1.0]


@pytest.mark.slow
@pytest.mark.parametrize("form", list(ExportFormat))
def test_a_big_run_is_never_held_in_memory(tmp_path: Path, form: ExportFormat) -> None:
    wide = Table("wide", (Column("values", "float64", ("place",)),))
    block = np.random.default_rng(0).random((500, 40))
    with RunWriter(tmp_path / "run.h5", "demo", (wide,), {"place": np.arange(40)}, {}) as writer:
        for _ in range(2000):
            writer.extend("wide", values=block)  # 320 MB in all
    run = open_run(tmp_path / "run.h5")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    export(run, form, tmp_path / "out", "wide")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 200, f"{grown:.0f} MiB"
