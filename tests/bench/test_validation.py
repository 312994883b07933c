"""The models against published figures; the whole run through the command line is the slow test at the end."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from bench.cli.physics import validate_command
from bench.validation import Row, Subject, validate
from bench.validation.cells import popcount_sums
from bench.validation.figures import Figure, load_reference, packaged_reference
from bench.validation.report import PAGE, write_report
from bench.validation.rows import PARTS, judge
from data.device_files import DeviceFile
from models.exceptions import BenchFailure, UserMistake

REFERENCE = packaged_reference()
SUBJECT = Subject.packaged()
PACKAGED = Path(str(resources.files("data"))) / "reference" / "validation.toml"
HARD_TARGETS = {"V1", "V2", "V3", "V4", "V8", "V10", "V15", "V20", "V21", "V22", "V25"}
KEYS = {"id", "what", "source", "kind", "expected", "ours", "tolerance", "pass"}
WEAK_RESET, CELLS, BIT_ERRORS, ENERGY, NETWORKS = PARTS
ROW = Row("V1", "median resistance", "a paper", "hard", 7.0, 7.1, "±3 %", True)


def rows_of(part: str, subject: Subject = SUBJECT, seed: int = 0) -> list[Row]:
    return judge(REFERENCE, PARTS[part](subject, np.random.default_rng([seed, 1])))


def failing(part: str, subject: Subject) -> set[str]:
    return {row.id for row in rows_of(part, subject) if not row.passed}


def changed(device: DeviceFile, **values: float) -> DeviceFile:
    """A device file with other values; ``lrs__median_ohm`` is ``lrs.median_ohm``."""
    keys = {name.replace("__", "."): value for name, value in values.items()}
    quantities = {key: replace(device.quantities[key], value=value, low=None, high=None) for key, value in keys.items()}
    return device.updated(quantities)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """All rows but those of the networks, which take longer to train than all others together."""
    return [row for part in PARTS if part != NETWORKS for row in rows_of(part)]


def test_every_row_holds(rows: list[Row]) -> None:
    assert [row for row in rows if not row.passed] == []


def test_every_target_has_its_hard_rows(rows: list[Row]) -> None:
    assert {row.id for row in rows if row.kind == "hard"} == HARD_TARGETS
    assert {figure.id for figure in REFERENCE.figures.values()} - {row.id for row in rows} == {"V6"}


def test_no_remembered_figure_is_hard() -> None:
    kinds = {(figure.kind, figure.trust) for figure in REFERENCE.figures.values()}
    assert ("hard", "recalled") not in kinds
    assert {("hard", "source"), ("hard", "derived"), ("ordering", "recalled")} <= kinds


@pytest.mark.parametrize("part", [CELLS, BIT_ERRORS])
def test_the_verdicts_do_not_hang_on_the_seed(part: str) -> None:
    for seed in (1, 2, 3):
        assert [row for row in rows_of(part, seed=seed) if row.kind == "hard" and not row.passed] == []


def test_the_same_seed_gives_the_same_figures() -> None:
    assert rows_of(CELLS, seed=5) == rows_of(CELLS, seed=5)
    assert rows_of(BIT_ERRORS, seed=5) != rows_of(BIT_ERRORS, seed=6)


@pytest.mark.parametrize(
    ("part", "values", "targets"),
    [
        (WEAK_RESET, {"weak_reset__slope1_scale": 9e-4}, {"V1", "V2"}),
        (WEAK_RESET, {"weak_reset__rtn_p_low_high": 0.0012}, {"V3"}),
        (WEAK_RESET, {"weak_reset__pink_alpha": 0.03}, {"V4"}),
        (
            WEAK_RESET,
            {"weak_reset__slope1_scale": 1e-9, "weak_reset__offset_sd": 1e-3, "weak_reset__r0_sd_ohm": 1.0},
            {"V1", "V2", "V5"},
        ),
        (BIT_ERRORS, {"endurance__cycles_ref": 2e8}, {"V22", "C2"}),
        (BIT_ERRORS, {"lrs__sigma_c2c": 0.5}, {"C1"}),
        # both branches at the limit of their transistors, so that the offset decides
        (CELLS, {"sense__saturation_a": 8e-6, "sense__offset_sigma": 1.5}, {"V25"}),
    ],
)
def test_a_wrong_device_fails_the_rows_that_it_spoils(part: str, values: dict[str, float], targets: set[str]) -> None:
    assert failing(part, replace(SUBJECT, device=changed(SUBJECT.device, **values))) >= targets


def test_a_ternary_chip_whose_zeros_conduct_fails() -> None:
    leaky = changed(SUBJECT.ternary, hrs__median_ohm=40e3)
    assert failing(CELLS, replace(SUBJECT, ternary=leaky)) == {"V15", "V16", "V17"}


def test_wrong_write_energies_fail() -> None:
    barely = replace(SUBJECT.magnetic, write_current_a=1.001 * SUBJECT.magnetic.critical_current_a)
    assert failing(ENERGY, replace(SUBJECT, magnetic=barely)) == {"V8"}
    strong = SUBJECT.conditions.condition("strong")
    costly = {**SUBJECT.conditions.conditions, "strong": replace(strong, set_energy_j=2 * strong.set_energy_j)}
    assert failing(ENERGY, replace(SUBJECT, conditions=replace(SUBJECT.conditions, conditions=costly))) == {"V10"}


def test_popcounts_leave_undecided_weights_out() -> None:
    weights = np.array([[1, -1, 0, 1]], dtype=np.int8)
    inputs = np.array([[1, 1, 1, 1], [-1, 1, -1, -1]], dtype=np.int8)
    assert popcount_sums(weights, inputs).tolist() == [[1], [-3]]


@pytest.mark.parametrize(
    ("tolerance", "inside", "outside", "says"),
    [
        ({"relative": 0.1}, (1.81, 2.19), (1.79, 2.21), "±10 %"),
        ({"absolute": 0.1}, (1.91, 2.09), (1.89, 2.11), "±0.1"),
        ({"absolute": 0.0}, (2.0,), (2.0001,), "exact"),
        ({"factor": 2.0}, (1.01, 3.99), (0.99, 4.01), "factor 2"),
        ({"low": 1.5}, (1.5, 1e9), (1.49,), "at least 1.5"),
        ({"high": 2.5}, (-1.0, 2.5), (2.51,), "at most 2.5"),
        ({"low": 1.6, "high": 2.5}, (1.6, 2.5), (1.59, 2.51), "1.6 to 2.5"),
    ],
)
def test_tolerances(
    tolerance: dict[str, float], inside: tuple[float, ...], outside: tuple[float, ...], says: str
) -> None:
    figure = Figure(id="V0", what="", source="", trust="source", kind="hard", expected=2.0, **tolerance)
    assert all(figure.accepts(value) for value in inside)
    assert not any(figure.accepts(value) for value in (*outside, float("nan"), "2.0"))
    assert figure.tolerance == says


def test_a_negative_figure_has_its_tolerance_on_both_sides() -> None:
    figure = Figure(id="V0", what="", source="", trust="source", kind="hard", expected=-1.0, relative=0.1)
    assert figure.accepts(-1.09)
    assert figure.accepts(-0.91)
    assert not figure.accepts(-1.11)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("relative = 0.02\n[targets.V20.figures]", "[targets.V20.figures]", ["closed_0.1", "takes one tolerance"]),
        ('expected = "10"', 'expected = "10", factor = 2.0', ["code_plus", "takes no tolerance"]),
        ("factor = 3.0", "factr = 3.0", ["factr", "unknown key"]),
        ("absolute = 0.01", "absolute = -0.01", ["rtn_occupancy.absolute"]),
        ("expected = 7.03e3", "expected = nan", ["median_resistance_0.expected"]),
        ('[targets.V16]\nkind = "ordering"', '[targets.V16]\nkind = "hard"', ["ternary_type1", "cannot be hard"]),
        ("[context]", "[contexts]", ["context"]),
        ("[targets.V1]", "[targets.V1", ["validation.toml"]),
    ],
)
def test_a_bad_file_of_figures_is_refused(tmp_path: Path, old: str, new: str, says: list[str]) -> None:
    text = PACKAGED.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "validation.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserMistake) as caught:
        load_reference(path)
    for part in [str(path), *says]:
        assert part in str(caught.value)


def test_a_missing_file_of_figures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserMistake, match=r"nowhere\.toml"):
        load_reference(tmp_path / "nowhere.toml")


def test_a_model_without_a_number_ends_the_run() -> None:
    with pytest.raises(BenchFailure, match="nan for spread_100"):
        judge(REFERENCE, {"spread_100": float("nan")})


def test_a_published_figure_that_no_model_gives_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.validation.rows.PARTS", {ENERGY: PARTS[ENERGY]})
    told: list[str] = []
    with pytest.raises(BenchFailure, match="no model gives"):
        validate(on_part=told.append)
    assert told == [ENERGY]


class Page(HTMLParser):
    """What a page shows and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.loads: list[str] = []
        self.failing_rows = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "img":
            self.images.append(given)
        self.loads += [tag] if tag in ("link", "script", "iframe") else []
        self.failing_rows += given.get("class") == "fails"


def test_the_page_stands_alone_and_shows_every_row_and_plot(rows: list[Row], tmp_path: Path) -> None:
    wrong = replace(rows[0], what="a row that <fails>", passed=False)
    path = write_report(tmp_path / "new" / "folder", [*rows, wrong], seed=3)
    assert path.name == PAGE
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.loads == []
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert page.failing_rows == 1
    assert "a row that &lt;fails&gt;" in text
    assert "seed 3" in text
    assert all(row.tolerance in text and row.id in text for row in rows)
    assert len(page.images) == 6
    for image in page.images:
        kind, _, data = str(image["src"]).partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
        assert len(str(image["alt"])) > 50


def test_a_page_that_cannot_be_written_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserMistake, match="--report"):
        write_report(tmp_path / "file", [ROW], seed=0)


def test_the_command_fails_for_a_hard_row_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [ROW, replace(ROW, id="V6", kind="ordering", passed=False)]
    monkeypatch.setattr("bench.validation.validate", lambda seed, on_part: given)
    validate_command(0, None, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"rows": [row.as_plain() for row in given]}
    given.append(replace(ROW, id="V2", what="spread", ours=9.0, passed=False))
    with pytest.raises(BenchFailure, match=r"1 published figures do not hold: V2 \(spread\)") as caught:
        validate_command(0, None, as_json=False)
    assert caught.value.exit_status == 1
    printed = capsys.readouterr().out
    assert printed.count("FAIL") == 2
    assert printed.index("V2") < printed.index("Orderings") < printed.index("V6")


@pytest.mark.slow
def test_the_whole_run_through_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.cli", "validate", "--json", "--report", "report"],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) == {"rows"}
    assert all(set(row) == KEYS for row in result["rows"])
    assert len(result["rows"]) == len(REFERENCE.figures)
    assert all(isinstance(row["pass"], bool) and row["pass"] for row in result["rows"])
    assert {row["kind"] for row in result["rows"]} == {"hard", "ordering"}
    assert {row["id"] for row in result["rows"] if row["kind"] == "hard"} == HARD_TARGETS
    assert (tmp_path / "report" / PAGE).stat().st_size > 100_000
