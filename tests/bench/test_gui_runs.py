"""The list of runs and what is shown of one: whole, broken, being written, and several compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from bench.gui.run_folder import RunFolder
from bench.gui.window import Window
from bench.procedures import PROCEDURES
from bench.procedures.tables import RESISTANCES
from bench.runner import DEVICES, TABLES
from data.runs import RunWriter
from tests.bench.gui_window import last_line, wait, wait_idle
from tests.bench.recorded import ATTRIBUTES, CELLS, COLS, ROWS, devices, record

OHMS = np.geomspace(5e3, 9e4, 2 * ROWS * COLS)


def resistances(path: Path, factor: float = 1.0, **more: str) -> Path:
    """A run of 24 measured devices."""
    records = {"resistances": {**devices(), "resistance_ohm": factor * OHMS, "voltage_v": 0.2}}
    return record(path, "resistance", records, **more).path


@pytest.fixture
def folder(window: Window, tmp_path: Path) -> Path:
    """The folder of the window's runs, with a whole one, one that was stopped, and one that is cut off."""
    place = tmp_path / "runs"
    place.mkdir()
    resistances(place / "20260301-120000-000000-resistance.h5")
    resistances(place / "20260301-130000-000000-resistance.h5", 2.0, status="stopped", reason="Stop button")
    whole = resistances(place / "cut.h5").read_bytes()
    (place / "cut.h5").write_bytes(whole[: len(whole) // 3])
    return place


def listed(qtbot: QtBot, window: Window, count: int) -> None:
    RunFolder.of(window.controller).look()
    wait(qtbot, lambda: len(window.runs_panel.model.runs) == count)


def choose(qtbot: QtBot, window: Window, *paths: Path) -> None:
    window.runs_panel.choose(*paths)
    wait(qtbot, lambda: paths[0].name in window.run_view.title.text() and "opening" not in window.run_view.title.text())


def test_runs_are_searched_opened_and_the_broken_one_says_why(qtbot: QtBot, window: Window, folder: Path) -> None:
    window.show_workspace("Runs")
    listed(qtbot, window, 3)
    panel, view = window.runs_panel, window.run_view
    assert "not readable: cut.h5" in str(panel.model.data(panel.model.index(2)))
    for search, count in (
        ("CHIP-7 resistance", 2),
        ("stopped", 1),
        ("keithley 2450", 2),
        ("truncated", 1),
        ("mars", 0),
    ):
        panel.search.setText(search)
        assert len(panel.model.runs) == count, search
    assert "None of the 3 runs" in panel.counted.text()
    panel.search.clear()

    choose(qtbot, window, folder / "cut.h5")
    assert "truncated" in view.state.text()
    assert not view.tabs.isVisible()
    assert not view.report_button.isEnabled()

    choose(qtbot, window, folder / "20260301-130000-000000-resistance.h5")
    assert "stopped (Stop button)" in view.state.text()
    assert "rram-bench run resistance --resume" in view.state.text()
    assert "24 records" in view.facts.toPlainText()
    view.tabs.setCurrentWidget(view.records)
    view.records.tables.setCurrentText("resistances")
    view.records.go_to(0)
    wait(qtbot, lambda: view.records.records.count == 24)
    assert view.records.records.text(0, 11) == f"{2 * OHMS[0]:.5g}"
    view.tabs.setCurrentWidget(view.figures)
    wait(qtbot, lambda: view.figures.picture.pixmap() is not None and view.figures.picture.pixmap().width() > 200)

    view.report_button.click()
    wait(qtbot, view.open_button.isEnabled)
    assert (folder / "20260301-130000-000000-resistance.html").is_file()
    view.export.table.setCurrentText("resistances")
    view.export.export(folder / "out.csv")
    wait_idle(qtbot, window)
    assert len((folder / "out.csv").read_text().splitlines()) == 25
    view.export.export(folder / "out.csv")
    wait_idle(qtbot, window)
    assert "exist" in last_line(window)


def test_several_runs_are_compared(qtbot: QtBot, window: Window, folder: Path) -> None:
    window.show_workspace("Runs")
    listed(qtbot, window, 3)
    whole = sorted(folder.glob("2026*.h5"))
    choose(qtbot, window, *reversed(whole))
    table = window.run_view.comparison.table
    wait(qtbot, lambda: table.count > 0)
    texts = [table.text(row, 0) + "|" + table.text(row, 1) for row in range(table.count)]
    assert "stopped|completed" in texts
    choose(qtbot, window, whole[0], folder / "cut.h5")
    wait(qtbot, lambda: "truncated" in window.run_view.comparison.said.text())


def test_a_run_being_written_is_followed(qtbot: QtBot, window: Window, tmp_path: Path) -> None:
    window.show_workspace("Runs")
    folder = tmp_path / "runs"
    folder.mkdir()
    tables = (*TABLES, *PROCEDURES["resistance"].tables)
    dimensions = {"row": np.arange(ROWS), "col": np.arange(COLS), "device": DEVICES}
    row = {column.name: 1 for column in RESISTANCES.columns}
    with RunWriter(folder / "a.h5", "resistance", tables, dimensions, ATTRIBUTES) as writer:
        writer.append("selection", cells=CELLS)
        writer.append("resistances", **row)
        listed(qtbot, window, 1)
        choose(qtbot, window, folder / "a.h5")
        view = window.run_view
        assert "being written" in view.state.text()
        view.records.tables.setCurrentText("resistances")
        view.records.go_to(0)
        wait(qtbot, lambda: view.records.records.count == 1)
        for _ in range(4):
            writer.append("resistances", **row)
        RunFolder.of(window.controller).look()
        wait(qtbot, lambda: view.records.records.count == 5)
    RunFolder.of(window.controller).look()
    wait(qtbot, lambda: "completed" in view.state.text())


def test_a_folder_that_cannot_be_read_is_said_once(qtbot: QtBot, window: Window, tmp_path: Path) -> None:
    lines = len(window.log_panel.lines())
    (tmp_path / "file").write_text("no folder")
    window.runs_panel.place.setText(str(tmp_path / "file"))
    window.runs_panel.place.returnPressed.emit()
    wait(qtbot, lambda: "there is no folder" in window.runs_panel.counted.text())
    window.runs_panel.place.setText(str(tmp_path / "later"))
    window.runs_panel.place.returnPressed.emit()
    wait(qtbot, lambda: "No runs in" in window.runs_panel.counted.text())
    assert len(window.log_panel.lines()) == lines
