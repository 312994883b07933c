"""The recovery campaign: its sums, and a chip whose fit is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest

import benchmarks.recovery
from benchmarks.recovery import CAMPAIGNS, Chip, load_kept, run_campaign, summarise, table
from benchmarks.tables import replace_between
from data.device_files import default_device
from models.device_model import SCHEMA
from models.exceptions import UserMistake

KEY = "weak_reset.slope1_scale"


@pytest.mark.parametrize("name", list(CAMPAIGNS))
def test_every_chip_that_can_be_drawn_is_a_possible_device(name: str) -> None:
    base, rng = default_device(), np.random.default_rng(1)
    for key, drawn in CAMPAIGNS[name].drawn.items():
        bounds = SCHEMA[key]
        assert bounds.low <= drawn.low < base.quantities[key].value < drawn.high <= bounds.high
        values = [drawn.draw(rng) for _ in range(200)]
        assert drawn.low <= min(values) < max(values) <= drawn.high


def chips(shift: float, half: float, count: int = 2000) -> list[Chip]:
    """Estimates with an error of one, shifted, and intervals of some half width."""
    rng = np.random.default_rng(2)
    truths, errors = 10.0 * rng.normal(size=count), shift + rng.normal(size=count)
    values = truths + errors
    return [
        Chip(seed, {KEY: (truth, value, value - half, value + half)})
        for seed, (truth, value) in enumerate(zip(truths, values, strict=True))
    ]


def test_right_intervals_cover_and_wrong_ones_are_told() -> None:
    # s.d. of a coverage of 0.95 in 2000 chips: 0.005; of a mean error: 0.022
    (right,) = summarise(chips(0.0, 1.96))
    assert right.coverage == pytest.approx(0.95, abs=0.02)
    assert right.error_bias == pytest.approx(0.0, abs=0.1)
    assert right.error == pytest.approx(0.1, rel=0.1)
    assert right.good
    (narrow,) = summarise(chips(0.0, 1.0))
    assert narrow.coverage == pytest.approx(0.683, abs=0.04)
    assert not narrow.good
    (biased,) = summarise(chips(2.0, 3.96))
    assert biased.error_bias == pytest.approx(2.0, abs=0.1)
    assert biased.bias == pytest.approx(0.2, abs=0.02)
    assert not biased.good


def test_the_table_counts_chips_that_could_not_be_fitted() -> None:
    told = [*chips(0.0, 1.96, 50), Chip(99, problem="too few devices")]
    lines = table("weak-reset", told)
    assert "--chips 51" in lines[0]
    assert "did not converge: 1." in lines[0]
    (row,) = [line for line in lines if line.startswith(f"| `{KEY}`")]
    assert row.count("|") == lines[2].count("|") == lines[3].count("|")


def test_a_campaign_that_was_cut_off_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, asked = tmp_path / "chips.jsonl", tmp_path / "asked"
    asked.mkdir()

    def told(_: str, seed: int) -> Chip:
        (asked / str(seed)).touch()
        if seed == 2:
            raise ZeroDivisionError("of one chip")
        return Chip(seed, {KEY: (1.0, 1.0 + seed, 0.5, 2.0)})

    monkeypatch.setattr(benchmarks.recovery, "one_chip", told)
    first = run_campaign("weak-reset", 3, 1, 2, kept)
    assert [chip.problem for chip in first] == ["", "ZeroDivisionError: of one chip", ""]
    # cut off within the line of the last chip
    text = kept.read_text()
    kept.write_text(text[:-20])
    (cut_off,) = {1, 2, 3} - {chip.seed for chip in load_kept(kept, "weak-reset", 1, 3)}
    for path in asked.iterdir():
        path.unlink()
    assert run_campaign("weak-reset", 3, 1, 2, kept) == [replace(chip, seconds=ANY) for chip in first]
    assert [path.name for path in asked.iterdir()] == [str(cut_off)]
    with pytest.raises(UserMistake, match="another campaign"):
        load_kept(kept, "resistance", 1, 3)


def test_a_table_replaces_the_one_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- x -->\nold\n<!-- end of x -->\nbelow\n")
    for _ in range(2):
        replace_between(page, "x", ["new"])
    assert page.read_text() == "above\n<!-- x -->\n\nnew\n\n<!-- end of x -->\nbelow\n"
    with pytest.raises(UserMistake, match="markers"):
        replace_between(page, "y", ["new"])
