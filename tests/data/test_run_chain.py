"""Runs that were resumed, read as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data.run_chain import available_chain, chain, read_whole
from data.runs import Column, RunWriter, Table, open_run
from models.exceptions import UserMistake

READS = Table(
    "reads", (Column("value", "float64", units="V"), Column("bits", "int8", ("col",))), "what was read in a cell"
)


def write(path: Path, values: list[float], resumes: str = "", procedure: str = "demo") -> Path:
    attributes = {"resumes": resumes} if resumes else {}
    with RunWriter(path, procedure, (READS,), {"col": np.arange(2)}, attributes) as writer:
        for value in values:
            writer.append("reads", value=value, bits=[int(value), 0])
    return path


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return [
        write(tmp_path / "a.h5", [1.0, 2.0]),
        write(tmp_path / "b.h5", [], "a.h5"),
        write(tmp_path / "c.h5", [3.0], "b.h5"),
    ]


def test_parts_come_oldest_first_and_read_as_one(three: list[Path]) -> None:
    run = open_run(three[-1])
    assert [part.path for part in chain(run)] == three
    assert [part.path for part in chain(open_run(three[0]))] == three[:1]
    whole = read_whole(run, "reads", ["value"])
    assert whole["value"].tolist() == [1.0, 2.0, 3.0]
    assert whole["part"].tolist() == [0, 0, 2]
    assert read_whole(run, "reads")["bits"].tolist() == [[1, 0], [2, 0], [3, 0]]


def test_a_part_that_is_missing_is_named(three: list[Path]) -> None:
    three[0].unlink()
    with pytest.raises(UserMistake, match=r"b\.h5 goes on with a\.h5, which is not in its folder"):
        chain(open_run(three[-1]))
    parts, why = available_chain(open_run(three[-1]))
    assert [part.path for part in parts] == three[2:]
    assert "a.h5" in why


def test_a_part_of_another_procedure_and_a_circle_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", [1.0], procedure="other")
    with pytest.raises(UserMistake, match=r"\(demo\) goes on with .*a\.h5, which is other"):
        chain(open_run(write(tmp_path / "b.h5", [1.0], "a.h5")))
    write(tmp_path / "x.h5", [1.0], "y.h5")
    with pytest.raises(UserMistake, match="goes on with itself"):
        chain(open_run(write(tmp_path / "y.h5", [1.0], "x.h5")))


def test_an_earlier_part_lies_in_the_same_folder_only(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "a.h5", [1.0])
    with pytest.raises(UserMistake, match="not in its folder"):
        chain(open_run(write(tmp_path / "elsewhere" / "b.h5", [2.0], "../a.h5")))
