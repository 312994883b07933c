"""The report of a run: one page that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bench.inference import SAMPLES, TILES
from bench.procedure import OPERATIONS
from bench.reports import report_html, report_path, write_report
from data.runs import Run
from drivers.chip import Outcome
from models.exceptions import UserMistake
from tests.bench.recorded import COLS, ROWS, record
from tests.bench.test_figures import MADE, characterise, staircase

PICTURE = re.compile(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)">')
VOID = ("meta", "img", "br")


class Balance(HTMLParser):
    """Every element that is opened is closed, in order; nothing is fetched from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(page: str) -> str:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    return page


@pytest.mark.parametrize("procedure", ["characterise", "endurance", "bit-error"])
def test_the_page_holds_pictures_conditions_and_provenance(procedure: str, tmp_path: Path) -> None:
    run = MADE[procedure](tmp_path / "run.h5")
    page = checked(report_html(run))
    pictures = PICTURE.findall(page)
    assert pictures
    assert all(base64.b64decode(data).startswith(b"\x89PNG") for data, _ in pictures)
    digest = hashlib.sha256(run.path.read_bytes()).hexdigest()
    for part in (procedure, "CHIP-7", "Keithley 2450, serial 5", digest, "DIRECT", "compliance_a", "seed 4", "25.0 °C"):
        assert part in page, part
    assert "ended early" not in page


def operations_in_doubt(path: Path) -> Run:
    outcome = [int(Outcome.DONE), int(Outcome.IN_DOUBT)]
    return record(
        path, "read", {OPERATIONS.name: {"outcome": outcome}}, status="failed", reason="the <board> fell silent"
    )


def test_the_page_says_first_that_a_run_ended_early_and_what_is_in_doubt(tmp_path: Path) -> None:
    page = checked(report_html(operations_in_doubt(tmp_path / "run.h5")))
    alarms = re.findall(r'<p class="alarm">(.*?)</p>', page)
    assert alarms[0] == "This run ended early: failed. the &lt;board&gt; fell silent"
    assert alarms[1].startswith("1 operations were sent and never acknowledged")
    assert page.index(alarms[0]) < page.index("Conditions")
    assert not PICTURE.findall(page)


def test_a_missing_part_is_said_on_the_page(tmp_path: Path) -> None:
    run = record(tmp_path / "b.h5", "read", {}, resumes="a.h5")
    assert "a.h5, which is not in its folder" in report_html(run)


def test_an_inference_has_a_report(tmp_path: Path) -> None:
    target = np.ones((1, ROWS, COLS), dtype=int)
    run = record(
        tmp_path / "run.h5",
        "inference",
        {
            "tiles": {"target": target, "sensed": target, "verdict": target},
            "samples": {
                "sample": range(4),
                "label": [0, 1, 2, 0],
                "software": [0, 1, 2, 0],
                "host": [0, 1, 2, 1],
                "xnor": -1,
            },
        },
        tables=(TILES, SAMPLES),
        network="digits-bnn",
        result={"accuracy": {"host": 0.75}},
    )
    page = checked(report_html(run))
    assert len(PICTURE.findall(page)) == 2
    assert "digits-bnn" in page
    assert "host 0.75" in page


def test_the_page_lies_beside_the_run_and_is_never_half_written(tmp_path: Path) -> None:
    run = staircase(tmp_path / "run.h5")
    assert report_path(run, None) == tmp_path / "run.html"
    written = write_report(run, report_path(run, tmp_path / "page.html"))
    assert checked(written.read_text(encoding="utf-8")).startswith("<!doctype html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "run.h5"]
    with pytest.raises(UserMistake, match=r"let its name end in \.html"):
        report_path(run, run.path)
    with pytest.raises(UserMistake, match="cannot write the report"):
        report_path(run, tmp_path / "nowhere" / "page.html")


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = characterise(tmp_path / "run.h5")
    assert report_html(run) == report_html(run)
