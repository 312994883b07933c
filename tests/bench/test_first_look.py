"""Run files that HDF5 cannot cope with are refused, and never hold the program that opens them."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bench.first_look import FirstLook
from data.guards import guarded
from data.run_listing import list_runs
from data.runs import Column, RunWriter, Table, open_run
from models.exceptions import UserMistake

_HEAP = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HH4xQ")


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "good.h5"
    table = Table("pulse", (Column("row", np.int16),), "one pulse")
    with RunWriter(path, "demo", (table,), {}, {"seed": 7, "about": "x" * 100}) as writer:
        writer.append("pulse", row=3)
    return path


@pytest.fixture
def first_look() -> Iterator[FirstLook]:
    with closing(FirstLook(3.0)) as look, guarded(look):
        yield look


def endless(path: Path, other: Path) -> None:
    """A copy whose heaps of texts end in free places of no length, which HDF5 2.0 goes over for ever."""
    content = bytearray(path.read_bytes())
    heap = content.find(b"GCOL")
    assert heap >= 0
    while heap >= 0:
        place, end = heap + _HEAP.size, heap + _HEAP.unpack_from(content, heap)[2]
        while place < end:
            number, _, size = _OBJECT.unpack_from(content, place)
            if number == 0:
                _OBJECT.pack_into(content, place, 0, 0, _OBJECT.size)
                break
            place += _OBJECT.size + (size + 7) // 8 * 8
        heap = content.find(b"GCOL", end)
    other.write_bytes(content)


def test_a_good_run_is_read_and_read_again_once_it_changed(run_file: Path, first_look: FirstLook) -> None:
    assert open_run(run_file).read("pulse")["row"].tolist() == [3]
    run_file.write_bytes(run_file.read_bytes()[:1000])
    with pytest.raises(UserMistake, match="truncated"):
        open_run(run_file)


@pytest.mark.timeout(60)
def test_a_file_that_is_read_for_ever_is_refused_and_hides_no_other(run_file: Path, first_look: FirstLook) -> None:
    bad = run_file.with_name("bad.h5")
    endless(run_file, bad)
    runs, others = list_runs(run_file.parent)
    assert "good.h5" in [one.path.name for one in runs]
    # a later HDF5 may cope with it
    assert {one.reason for one in others} <= {f"{bad} is damaged: reading it does not come to an end"}
    assert len(runs) + len(others) == 2
    assert open_run(run_file).procedure == "demo"


def test_a_process_that_dies_is_started_again(run_file: Path, first_look: FirstLook) -> None:
    open_run(run_file)
    assert first_look._child is not None
    first_look._child.kill()
    first_look._child.wait()
    run_file.touch()
    assert open_run(run_file).procedure == "demo"


def test_nobody_is_asked_after_the_block(run_file: Path) -> None:
    def never(path: Path) -> None:
        raise UserMistake(f"{path} is not to be read")

    with guarded(never), pytest.raises(UserMistake, match="not to be read"):
        open_run(run_file)
    assert open_run(run_file).procedure == "demo"


@pytest.mark.timeout(100)
def test_a_command_refuses_it_too(run_file: Path) -> None:
    bad = run_file.with_name("bad.h5")
    endless(run_file, bad)
    command = [sys.executable, "-m", "bench.cli", "runs", "show", str(bad)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, cwd=run_file.parent, check=False)
    # a later HDF5 may cope with it
    if done.returncode != 0:
        assert done.returncode == 2
        assert done.stderr == f"rram-bench: {bad} is damaged: reading it does not come to an end\n"
