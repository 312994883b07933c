"""Selections of cells as people write them."""

from __future__ import annotations

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
