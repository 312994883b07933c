"""The page of a fit: what a reader must find on it, and that the figures show what was fitted."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from bench.fit_reports import draw, fit_report_html, write_fit_report
from calibration.estimate import Estimate
from calibration.result import Band, Check, Comparison, Fit, Outlier, Overlay
from calibration.tables import TableRun, read_trains
from data.device_files import default_device
from models.exceptions import UserMistake

BASE = default_device()
X = np.array([0.0, 10.0, 100.0, 1000.0])
LEVEL = 7000.0 * np.exp(3e-4 * X)
CURVE = Overlay(
    "median curve",
    "pulses since SET",
    "resistance (ohm)",
    True,
    True,
    Band(X, LEVEL * 1.1, LEVEL * 1.05, LEVEL * 1.15),
    Band(X, LEVEL, LEVEL * 0.9, LEVEL * 1.1),
)
FIT = Fit(
    {
        "weak_reset.slope1_scale": Estimate(9e-4, 8e-4, 1e-3, "1/pulse"),
        "lrs.median_ohm": Estimate(7000.0, 6900.0, 7100.0, "ohm"),
        "number_of_its_own": Estimate(1.0, 0.5, 2.0, "1"),
    },
    64,
    True,
    report=("a line of the report with <brackets>",),
    outliers=(Outlier(3, 4, 1, "R0 far from the others"),),
    checks=(Check.within("share of RTN", 0.5, 0.2, 0.4), Check.within("median after 100", 1.0, 0.9, 1.1)),
    comparisons=(Comparison("is the knee needed?", "two lines", 37.25, "one line is worse by 37"),),
    overlays=(CURVE,),
)


@pytest.fixture
def run(tmp_path: Path) -> TableRun:
    path = tmp_path / "trains.csv"
    path.write_text("device,pulse,resistance_ohm\nA,0,7000\nA,1,7010\n")
    return read_trains(path, BASE)


def cells(html: str, first: str) -> list[str]:
    """The cells of the table row that begins with ``first``."""
    (row,) = [row for row in re.findall(r"<tr>(.*?)</tr>", html) if row.startswith(f"<td>{first}</td>")]
    return re.findall(r"<td>(.*?)</td>", row)


def test_the_page_has_everything_a_reader_needs(run: TableRun, tmp_path: Path) -> None:
    html = write_fit_report(tmp_path / "fit.html", "weak-reset", FIT, [run], BASE).read_text()
    assert cells(html, "weak_reset.slope1_scale") == [
        "weak_reset.slope1_scale", "0.0009", "0.0008", "0.001", "1/pulse", "0.0006565", "below the interval",
    ]  # fmt: skip
    assert cells(html, "lrs.median_ohm")[-1] == "inside the interval"
    assert cells(html, "number_of_its_own")[-2:] == ["-", "-"]
    assert cells(html, "row 3, column 4, BLB") == ["row 3, column 4, BLB", "R0 far from the others"]
    assert cells(html, "FAILS")[1:5] == ["share of RTN", "0.5", "0.2", "0.4"]
    assert cells(html, "holds")[1] == "median after 100"
    assert cells(html, "is the knee needed?")[1:3] == ["two lines", "37.2"]
    assert "a line of the report with &lt;brackets&gt;" in html
    assert '<p class="alarm">share of RTN: 0.5 measured, 0.2 to 0.4 predicted</p>' in html
    assert html.count("data:image/png;base64,") == 1
    assert "sha256" in html
    assert "http" not in html.replace("http-equiv", "")


def test_a_fit_that_did_not_converge_says_so_first(run: TableRun) -> None:
    problems = ("the staircase ends before the knee",)
    html = fit_report_html("weak-reset", Fit({}, 3, False, problems), [run], BASE)
    assert "did not converge" in html
    assert '<p class="alarm">the staircase ends before the knee</p>' in html
    assert "None." in html


def test_residuals_are_what_is_left_between_data_and_fit() -> None:
    left, right = draw(CURVE).axes
    assert left.get_yscale() == "log"
    assert right.get_yscale() == "linear"
    points = right.containers[0].lines[0]
    assert points.get_ydata() == pytest.approx(np.log(1.1))
    assert points.get_xdata() == pytest.approx(X)
    # the error bars go from the lower to the upper end of the measured interval
    (bars,) = right.containers[0].lines[2]
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    assert ends == pytest.approx(np.log([[1.05, 1.15]] * 4))


def test_a_fitted_curve_with_points_of_its_own_is_read_between_them() -> None:
    few = Band(np.array([1000.0, 1.0]), np.array([3.0, 0.0]), np.array([2.0, -1.0]), np.array([4.0, 1.0]))
    data = Band(np.array([10.0, 100.0]), np.array([1.5, 2.0]), np.array([1.0, 1.0]), np.array([2.0, 3.0]))
    _, right = draw(Overlay("t", "x", "y", True, False, data, few)).axes
    assert right.containers[0].lines[0].get_ydata() == pytest.approx([0.5, 0.0])


def test_a_page_must_be_called_a_page(run: TableRun, tmp_path: Path) -> None:
    from bench.pages import check_page

    with pytest.raises(UserMistake, match=r"end in \.html"):
        check_page(tmp_path / "fit.pdf")
    with pytest.raises(UserMistake, match="cannot write the report"):
        check_page(tmp_path / "missing" / "fit.html")
