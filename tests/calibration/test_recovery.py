"""The recovery campaign: its sums, and a chip whose fit is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import ANY

import numpy as np
import pytest

import benchmarks.recovery
from bench.recovery import CAMPAIGNS, Chip, error_rates, hidden_device
from benchmarks.recovery import load_kept, run_campaign, summarise, table
from benchmarks.tables import replace_between
from data.device_files import default_device
from models.device_model import SCHEMA
from models.errors import Populations
from models.exceptions import UserMistake
from models.sense import SenseAmplifiers, margins

KEY = "weak_reset.slope1_scale"


@pytest.mark.parametrize("name", list(CAMPAIGNS))
def test_every_chip_that_can_be_drawn_is_a_possible_device(name: str) -> None:
    base, rng, campaign = default_device(), np.random.default_rng(1), CAMPAIGNS[name]
    for key, drawn in campaign.drawn.items():
        if key in SCHEMA:
            bounds = SCHEMA[key]
            assert bounds.low <= drawn.low < base.quantities[key].value < drawn.high <= bounds.high
        values = [drawn.draw(rng) for _ in range(200)]
        assert drawn.low <= min(values) < max(values) <= drawn.high
    for _ in range(20):
        hidden = hidden_device(campaign, base, {key: drawn.draw(rng) for key, drawn in campaign.drawn.items()})
        assert hidden.model != base.model


def test_the_true_error_rates_are_those_of_two_senses(monkeypatch: pytest.MonkeyPatch) -> None:
    model = hidden_device(
        CAMPAIGNS["bit-error"], default_device(), {"error_model.spread": 2.0, "error_model.shift": -0.3}
    ).model
    model = replace(model, sense=replace(model.sense, offset_sigma=0.1, noise_sigma=0.2))
    at = {"sense_vdd_v": 1.2, "window_s": 5e-6}
    monkeypatch.setattr("calibration.bit_error_runs.read_errors", lambda run: SimpleNamespace(conditions=[at]))
    monkeypatch.setattr("calibration.bit_error_runs.model_at", lambda hidden, condition: hidden)
    rates = error_rates(model, [ANY])
    rng, populations = np.random.default_rng(7), Populations.of(model)
    assert populations.gap == pytest.approx(Populations.of(default_device().model).gap - 0.3)
    # weights of +1 sensed by the simulated chip's own amplifiers, each with an offset of its own
    rows, cols = 20, 20_000
    both = (populations.hrs, populations.lrs)
    log_r = [one.log_median + one.sigma * rng.standard_normal((rows, cols)) for one in both]
    cells = margins(model.sense, np.exp(np.stack(log_r, axis=-1)), 1.2, 5e-6)
    amplifiers = SenseAmplifiers(model.sense, rng.standard_normal(cols))
    wrong = amplifiers.read(cells, 1.2, 2, rng) != 1
    # 5 % of 400 000 cells: to 0.7 %, and half a percent that differ: to 2 %
    assert rates["read_error.random_rate"] == pytest.approx(wrong.all(axis=0).mean(), rel=0.03)
    assert rates["read_error.transient_rate"] == pytest.approx(0.5 * (wrong[0] != wrong[1]).mean(), rel=0.06)
    assert rates["condition0.type1"] == pytest.approx(wrong.mean(), rel=0.03)


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
