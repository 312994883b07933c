"""The workspace Wafer: a wafer measured from the window, followed, judged anew, and taken elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PyQt5.QtCore import QPoint, Qt
from pytestqt.qtbot import QtBot

from bench.gui.wafer_study import VERDICT
from bench.gui.window import Window
from bench.wafer_results import Criteria, DieRecord, WaferRecord, load_wafer
from calibration.estimate import Estimate
from drivers.prober_role import Die
from drivers.simulated.bench import SimulatedBench
from tests.bench.gui_window import close, last_line, wait, wait_idle

ROUTE = tuple(Die(column, row) for row in (-1, 0, 1) for column in (-1, 0, 1))


def record_of(*dies: DieRecord) -> WaferRecord:
    return WaferRecord(
        wafer="W7",
        bench_name="prober bench",
        simulated=False,
        started="2026-11-23T10:00:00+00:00",
        settings={},
        versions={},
        criteria=Criteria(),
        route=ROUTE,
        dies=dies,
    )


def die(column: int, row: int, ohm: float = 7000.0, formed: int = 1024, failed: str = "") -> DieRecord:
    numbers = {"lrs.median_ohm": Estimate(ohm, 0.97 * ohm, 1.03 * ohm, "ohm")}
    return DieRecord(
        die=Die(column, row),
        chip_id=f"W7/{column}:{row}",
        failed=failed,
        cells=1024,
        formed_cells=formed,
        parameters={} if failed else numbers,
        device_file=None,
        started="2026-11-23T10:00:00+00:00",
        seconds=1.5,
    )


@pytest.fixture
def opened(qtbot: QtBot, window: Window, tmp_path: Path) -> tuple[Window, Path]:
    """The window with a wafer of which five dies are known: one failed, one formed badly."""
    folder = tmp_path / "W7"
    folder.mkdir()
    dies = (
        die(-1, -1),
        die(0, -1, 7100),
        die(1, -1, 7300),
        die(1, 0, formed=1000),
        die(0, 0, failed="tripped", formed=0),
    )
    record_of(*dies).save(folder)
    window.show_workspace("Wafer")
    window.wafer_panel.open(folder)
    wait(qtbot, lambda: window.wafer_panel.picture_button.isEnabled())
    return window, folder


@pytest.fixture
def prober() -> Iterator[SimulatedBench]:
    with SimulatedBench(5, wafer=3) as simulated:
        yield simulated


@pytest.fixture
def under_way(qtbot: QtBot, window: Window, prober: SimulatedBench, tmp_path: Path) -> tuple[Window, SimulatedBench]:
    """The window while it measures a wafer, with voltage on a die."""
    prober.write_bench_file(tmp_path / "prober.toml")
    window.show_workspace("Wafer")
    window.wafer_panel.folder.setText(str(tmp_path / "W"))
    window.wafer_panel.bench.setText(str(tmp_path / "prober.toml"))
    window.wafer_panel.measure_button.click()
    wait(qtbot, lambda: prober.world.rails != (0.0, 0.0, 0.0))
    return window, prober


def test_a_die_that_is_clicked_says_what_is_known_of_it(qtbot: QtBot, opened: tuple[Window, Path]) -> None:
    window, _ = opened
    board, view = window.wafer_view.map, window.wafer_view
    qtbot.mouseClick(board, Qt.MouseButton.LeftButton, pos=board.middle_of(Die(0, -1)).toPoint())
    assert "Die 0:-1" in view.about.text()
    assert view.table.text(0, 0) == "7.1 kΩ (6.89 kΩ to 7.31 kΩ)"
    qtbot.keyClick(board, Qt.Key.Key_Down)
    assert "tripped" in view.about.text()
    qtbot.keyClick(board, Qt.Key.Key_Down)
    assert "Die 0:1 is not measured" in view.about.text()
    assert not view.runs_button.isEnabled()
    qtbot.mouseClick(board, Qt.MouseButton.LeftButton, pos=QPoint(2, 2))
    assert view.table.count == 0


def test_the_wafer_that_was_shown_last_is_shown_again(qtbot: QtBot, opened: tuple[Window, Path]) -> None:
    window, folder = opened
    memory = window.memory
    close(qtbot, window)
    again = Window(memory)
    again.show()
    wait(qtbot, lambda: "3 of 5 measured dies" in again.wafer_panel.yield_.text())
    assert again.wafer_panel.folder.text() == str(folder)
    close(qtbot, again)
    folder.rename(folder.with_name("gone"))
    third = Window(memory)
    third.show()
    assert third.wafer_panel.opened is None
    assert third.wafer_panel.state.text() == ""
    close(qtbot, third)


def test_the_map_says_which_dies_are_good_by_the_criteria_as_they_are_set(opened: tuple[Window, Path]) -> None:
    window, folder = opened
    board, panel = window.wafer_view.map, window.wafer_panel
    assert "3 of 5 measured dies" in panel.yield_.text()
    assert board.describe(Die(1, 0)) == "die 1:0: 97.66% of the cells formed, 99.00% wanted"
    panel.limits["formed"].setValue(95.0)
    assert "4 of 5 measured dies" in panel.yield_.text()
    assert board.describe(Die(1, 0)) == "die 1:0: good"
    assert load_wafer(folder).criteria == Criteria()


def test_a_limit_that_is_not_touched_stays_to_its_last_digit(qtbot: QtBot, window: Window, tmp_path: Path) -> None:
    kept = record_of(die(0, 0)).model_copy(update={"criteria": Criteria(errors=4.2e-10, stuck=4e-6)})
    kept.save(tmp_path)
    panel = window.wafer_panel
    panel.open(tmp_path)
    wait(qtbot, lambda: panel.opened is not None)
    assert [panel.limits[name].text() for name in ("formed", "stuck", "errors")] == ["99 %", "0.0004 %", "0 %"]
    panel.limits["formed"].setValue(95.5)
    assert panel.criteria == Criteria(formed=0.955, errors=4.2e-10, stuck=4e-6)


def test_a_quantity_is_shown_on_the_map_and_against_the_radius(opened: tuple[Window, Path]) -> None:
    window, _ = opened
    view = window.wafer_view
    assert [view.shown.itemText(index) for index in range(view.shown.count())] == [VERDICT, "formed", "lrs.median_ohm"]
    view.study.show("lrs.median_ohm")
    assert view.map.describe(Die(1, -1)) == "die 1:-1: lrs.median_ohm 7.3 kΩ; good"
    assert "Edge against middle" in view.radius.told.text()
    colours = view.grab().toImage()
    places = [view.map.mapTo(view, view.map.middle_of(at).toPoint()) for at in (Die(-1, -1), Die(1, -1))]
    assert len({colours.pixel(at) for at in places}) == 2


def test_a_measurement_elsewhere_is_followed(qtbot: QtBot, opened: tuple[Window, Path]) -> None:
    window, folder = opened
    window.wafer_view.study.choose(Die(1, 1))
    load_wafer(folder).with_die(die(1, 1, 7200)).save(folder)
    wait(qtbot, lambda: "6 of 9 dies" in window.wafer_panel.state.text())
    assert "Die 1:1" in window.wafer_view.about.text()
    assert window.wafer_view.table.text(0, 0).startswith("7.2 kΩ ")


def test_a_die_that_is_far_off_does_not_hide_the_others(qtbot: QtBot, opened: tuple[Window, Path]) -> None:
    window, folder = opened
    window.wafer_view.study.show("lrs.median_ohm")
    load_wafer(folder).with_die(die(1, 1, 90000)).with_die(die(-1, 0, 7200)).save(folder)
    wait(qtbot, lambda: "7 of 9 dies" in window.wafer_panel.state.text())
    assert "last changed" in window.wafer_panel.state.text()
    view = window.wafer_view
    colours = view.map.grab().toImage()
    places = [view.map.middle_of(at).toPoint() for at in (Die(-1, -1), Die(-1, 0), Die(1, 1))]
    assert len({colours.pixel(at) for at in places}) == 3


def test_what_is_no_wafer_is_said_in_a_line(qtbot: QtBot, window: Window, tmp_path: Path) -> None:
    window.show_workspace("Wafer")
    window.wafer_panel.open(tmp_path)
    wait(qtbot, lambda: "name the folder of a wafer" in window.wafer_panel.state.text())
    (tmp_path / "wafer.json").write_text("[]")
    wait(qtbot, lambda: "no wafer file of this version" in window.wafer_panel.state.text())
    assert not window.wafer_panel.picture_button.isEnabled()


def test_picture_table_and_page_are_written(qtbot: QtBot, opened: tuple[Window, Path], tmp_path: Path) -> None:
    window, folder = opened
    window.wafer_panel.save_picture(tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 5000
    window.wafer_panel.page_button.click()
    wait(qtbot, lambda: (folder / "report.html").exists())
    window.wafer_panel.limits["formed"].setValue(95.0)
    window.wafer_view.study.save_table(tmp_path / "dies.csv")
    wait(qtbot, lambda: (tmp_path / "dies.csv").exists())
    assert sum(line.split(",")[3] == "1" for line in (tmp_path / "dies.csv").read_text().splitlines()) == 4


def test_a_wafer_is_measured_from_the_window_and_stopped(
    qtbot: QtBot, window: Window, prober: SimulatedBench, tmp_path: Path
) -> None:
    prober.write_bench_file(tmp_path / "prober.toml")
    window.show_workspace("Wafer")
    panel = window.wafer_panel
    panel.folder.setText(str(tmp_path / "W"))
    panel.bench.setText(str(tmp_path / "prober.toml"))
    panel.measure_button.click()
    wait(qtbot, lambda: window.wafer_view.study.record is not None and len(window.wafer_view.study.record.dies) >= 2)
    assert not panel.measure_button.isEnabled()
    panel.stop_button.click()
    wait_idle(qtbot, window)
    assert prober.prober is not None
    assert not prober.prober.prober.touching
    assert prober.world.rails == (0.0, 0.0, 0.0)
    known = len(json.loads((tmp_path / "W" / "wafer.json").read_text())["dies"])
    assert 2 <= known < 9
    assert "stopped" in last_line(window)


def test_a_wafer_under_way_is_held_and_goes_on(qtbot: QtBot, under_way: tuple[Window, SimulatedBench]) -> None:
    window, prober = under_way
    pause = window.log_panel.pause_button
    assert "first die is being measured" in window.wafer_view._empty.text()
    pause.click()
    wait(qtbot, lambda: pause.text() == "Go on")
    assert prober.world.rails == (0.0, 0.0, 0.0)
    pause.click()
    wait(qtbot, lambda: pause.text() == "Pause" and prober.world.rails != (0.0, 0.0, 0.0))
    window.controller.stop()
    wait_idle(qtbot, window)


def test_outputs_off_reaches_a_wafer_under_way(qtbot: QtBot, under_way: tuple[Window, SimulatedBench]) -> None:
    window, prober = under_way
    window.controller.outputs_off()
    wait_idle(qtbot, window)
    assert prober.world.rails == (0.0, 0.0, 0.0)
    assert prober.wafer is not None
    assert prober.prober is not None
    assert (prober.wafer.hot_moves, prober.prober.prober.touching) == (0, False)


def test_a_session_with_the_windows_own_bench_keeps_the_wafer_off_it(qtbot: QtBot, connected: Window) -> None:
    connected.show_workspace("Wafer")
    assert not connected.wafer_panel.measure_button.isEnabled()
    assert "Disconnect the bench" in connected.wafer_panel.why.text()
    assert not connected.map_pane.isVisible()
    connected.show_workspace("Cells")
    assert connected.map_pane.isVisible()
