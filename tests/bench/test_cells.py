"""Selections of cells as people write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.cells import parse_cells
from models.cells import Geometry
from models.exceptions import UserMistake

ARRAY = Geometry(8, 5)


@pytest.mark.parametrize(
    ("text", "count"),
    [("all", 40), ("0:4,0:4", 16), ("3,:", 5), (":,4", 8), ("7,4", 1), ("0,0+7,4", 2), ("0:2,:+1:3,:", 15)],
)
def test_selections(text: str, count: int) -> None:
    mask = parse_cells(text, ARRAY)
    assert mask.shape == (8, 5)
    assert mask.sum() == count


def test_a_rectangle_is_where_it_says() -> None:
    rows, cols = np.nonzero(parse_cells("2:4,1:3", ARRAY))
    assert sorted(zip(rows.tolist(), cols.tolist(), strict=True)) == [(2, 1), (2, 2), (3, 1), (3, 2)]


@pytest.mark.parametrize("text", ["", "3", "a,b", "0:9,:", "-1,0", "8,0", "1:2:3,0", "4:2,:", "2:2,:", "0,0,0"])
def test_nonsense_is_refused_with_the_forms_that_work(text: str) -> None:
    with pytest.raises(UserMistake, match="cells"):
        parse_cells(text, ARRAY)


def test_an_empty_range_is_not_called_outside() -> None:
    with pytest.raises(UserMistake, match="'4:2' is empty"):
        parse_cells("4:2,:", ARRAY)


def test_cells_come_from_a_file_with_or_without_a_heading(tmp_path: Path) -> None:
    plain, headed = tmp_path / "plain.csv", tmp_path / "headed.csv"
    plain.write_text("3,4\n\n5, 2\n")
    headed.write_text("row,col\n3,4\n5,2\n")
    for path in (plain, headed):
        assert np.argwhere(parse_cells(f"@{path}", ARRAY)).tolist() == [[3, 4], [5, 2]]
    assert parse_cells(f"@{plain}+0,:", ARRAY).sum() == 7


@pytest.mark.parametrize(
    ("content", "named"), [("3,4\nrow,col\n", "line 2"), ("8,0\n", "8 rows"), ("3;4\n", "line 1"), ("", "no cell")]
)
def test_a_wrong_file_is_refused_with_its_line(content: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.write_text(content)
    with pytest.raises(UserMistake, match=named):
        parse_cells(f"@{path}", ARRAY)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match="nowhere.csv"):
        parse_cells(f"@{tmp_path / 'nowhere.csv'}", ARRAY)


def test_a_random_sample_is_the_same_for_the_same_seed() -> None:
    one, same, other = (parse_cells(text, ARRAY) for text in ("random:9:5", "random:9:5", "random:9:6"))
    assert one.sum() == 9
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.array_equal(parse_cells("random:9", ARRAY), parse_cells("random:9:0", ARRAY))


def test_except_leaves_cells_out_and_a_sample_is_drawn_from_the_others() -> None:
    assert parse_cells("all except 3,:", ARRAY).sum() == 35
    assert parse_cells("0:4,: except 3,:+0,0", ARRAY).sum() == 14
    sample = parse_cells("random:35 except 3,:", ARRAY)
    assert sample.sum() == 35
    assert not sample[3].any()


@pytest.mark.parametrize("text", ["random:0", "random:41", "random:x", "random:1:2:3", "random:3:-1", "all except all"])
def test_impossible_samples_are_refused(text: str) -> None:
    with pytest.raises(UserMistake, match="cells"):
        parse_cells(text, ARRAY)
