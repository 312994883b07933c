"""The campaign of confirmations: its grid, its table, and how it goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest

import benchmarks.confirmations
from benchmarks.confirmations import GRID, Case, Group, load_kept, run_campaign, table
from drivers.simulated.bench import CHIPS
from models.architectures import ARCHITECTURES, Precision
from models.exceptions import BenchFailure, UserMistake

SMALL = (Group("digits-bnn", "digits", "kilobit", 3, None, 1), Group("digits-tnn", "digits", "ternary", 1, 50, 1))


def test_the_grid_has_a_hundred_cases_and_ten_of_each_kind_at_least() -> None:
    kinds: dict[tuple[str, bool], int] = {}
    for group in GRID:
        ternary = ARCHITECTURES[group.network].last is Precision.TERNARY
        kinds[group.data, ternary] = kinds.get((group.data, ternary), 0) + group.cases
        assert group.chip in CHIPS
        assert group.chip == "ternary" or not ternary
    assert sum(kinds.values()) == 100
    assert set(kinds) == {(data, ternary) for data in ("digits", "mnist", "fashion-mnist") for ternary in (False, True)}
    assert min(kinds.values()) >= 10
    assert {group.chip for group in GRID} == set(CHIPS)


def test_a_campaign_that_was_cut_off_goes_on_and_counts_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def confirmed(_network: object, _data: object, _group: Group, case: Case) -> None:
        asked.append(case.seed)
        if case.seed == 8:
            raise BenchFailure("a fuse blew")
        case.software = 0.96
        case.found = {"xnor": (0.95, 0.94, 0.93, 0.95), "host": (0.95, 0.93, 0.92, 0.94)}

    monkeypatch.setattr(benchmarks.confirmations, "one_case", confirmed)
    monkeypatch.setattr(benchmarks.confirmations, "_trained", lambda group, folder: (None, None))
    kept = tmp_path / "cases.jsonl"
    cases = run_campaign(SMALL, 7, keep=kept)
    # every group has its first case early
    assert asked == [7, 10, 8, 9]
    assert [case.seed for case in cases] == [7, 8, 9, 10]
    assert [case.inside("xnor") for case in cases] == [True, False, True, True]
    assert not any(case.inside("host") for case in cases)
    # cut off within the last line
    kept.write_text(kept.read_text()[:-20])
    asked.clear()
    assert run_campaign(SMALL, 7, keep=kept) == [replace(case, seconds=ANY) for case in cases]
    assert asked == [9]
    with pytest.raises(UserMistake, match="another campaign"):
        load_kept(kept, SMALL[1:], 7)
    lines = table(SMALL, cases)
    assert "seeds 7 to 10" in lines[0]
    assert "3 of 4 in `xnor`, 0 of 4 in `host`" in lines[0]
    assert "counted as outside: 1" in lines[0]
    assert "| digits-bnn, digits, all | 96.00% | kilobit | 2 of 3 | 0 of 3 | +1.00 ± 0.00, +2.00 ± 0.00 |" in lines
    assert "| digits-tnn, digits, 50 | 96.00% | ternary | 1 of 1 | 0 of 1 | +1.00, +2.00 |" in lines
