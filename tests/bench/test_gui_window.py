"""The window, driven as a person drives it, on a simulated bench behind real wires."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyqtgraph as pg
import pytest
from PyQt5.QtCore import QEvent, QPoint, QPointF, Qt
from PyQt5.QtGui import QMouseEvent
from PyQt5.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from bench.gui.array_state import UNKNOWN
from bench.gui.window import Window
from data.networks import save_network
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from tests.bench.gui_window import (
    begin_long_run,
    close,
    is_off,
    last_line,
    measured,
    only_run,
    press,
    select,
    tiny_network,
    wait,
    wait_idle,
)


def test_the_simulated_bench_connects_and_leaves(qtbot: QtBot, window: Window) -> None:
    assert not window.actions_panel.buttons["forming"].isEnabled()
    window.bench_panel.choose("simulated", 3)
    window.bench_panel.connect_button.click()
    wait_idle(qtbot, window)
    assert "SIM-KILOBIT-3" in last_line(window)
    assert window.actions_panel.buttons["forming"].text() == "Form 1024 cells"
    window.bench_panel.disconnect_button.click()
    wait_idle(qtbot, window)
    assert "supply: 0 V and off" in last_line(window)
    assert window.controller.state is None
    assert not window.actions_panel.buttons["forming"].isEnabled()


def test_it_fits_on_a_laptop_screen(connected: Window) -> None:
    least = connected.minimumSizeHint()
    assert least.width() <= 1366
    assert least.height() <= 768


def test_the_story_of_some_cells(qtbot: QtBot, connected: Window, world: SimulatedBench) -> None:
    state = connected.controller.state
    assert state is not None
    select(connected, "0:4,0:6")
    chosen = connected.array_map.selection.mask.copy()
    assert connected.actions_panel.buttons["forming"].text() == "Form 24 cells"
    press(qtbot, connected, "forming")
    assert (state.formed[chosen] == 1).all()
    assert (state.formed[~chosen] == UNKNOWN).all()
    assert "24 of 24 cells formed" in last_line(connected)

    connected.actions_panel.forms["program"].put("pattern", "checkerboard")
    press(qtbot, connected, "program")
    rows, cols = np.indices(state.geometry)
    assert (state.target[chosen] == np.where((rows + cols) % 2 == 0, 1, -1)[chosen]).all()
    assert not state.wrong[chosen].any()

    press(qtbot, connected, "read")
    assert (state.sensed != UNKNOWN).all()

    select(connected, "2,5")
    press(qtbot, connected, "resistance")
    assert measured(connected) == 2
    truth = world.chip.resistance_ohm[2, 5]
    assert state.resistance_ohm[2, 5] == pytest.approx(truth, rel=0.2)
    assert is_off(world)
    assert len(list(connected.controller.folder.glob("*.h5"))) == 4


def test_what_will_happen_stands_beneath_the_buttons(connected: Window) -> None:
    shown = "\n".join(
        label.text() for label in connected.actions_panel.findChildren(type(connected.log_panel.run_row._text))
    )
    for text in ("FORM: VDDC 3 V, VDDR 3 V, 10 µs", "SET: VDDC 3.5 V, VDDR 3 V", "RESET: VDDC 4.5 V, VDDR 5 V"):
        assert text in shown
    assert "DIRECT: 0.2 V on the device, at most 1 mA" in shown


def test_without_selected_cells_there_is_nothing_to_do(qtbot: QtBot, connected: Window) -> None:
    qtbot.keyClick(connected.array_map, Qt.Key.Key_Escape)
    assert not connected.actions_panel.buttons["program"].isEnabled()
    qtbot.keyClick(connected.array_map, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    assert connected.actions_panel.buttons["program"].text() == "Program 1024 cells"
    qtbot.keyClick(connected.array_map, Qt.Key.Key_Escape)
    qtbot.keyClick(connected.array_map, Qt.Key.Key_Right)
    qtbot.keyClick(connected.array_map, Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    assert connected.actions_panel.buttons["program"].text() == "Program 2 cells"
    select(connected, "40,1")
    assert "outside the array" in last_line(connected)


@pytest.fixture
def every_mouse_move() -> Iterator[None]:
    """Pyqtgraph skips moves that follow each other faster than any hand moves a mouse."""
    limit = pg.getConfigOption("mouseRateLimit")
    pg.setConfigOption("mouseRateLimit", -1)
    yield
    pg.setConfigOption("mouseRateLimit", limit)


@pytest.mark.usefixtures("every_mouse_move")
def test_a_drag_selects_a_rectangle_and_a_click_a_cell(connected: Window) -> None:
    plot, box = connected.array_map._plot, connected.array_map._box
    viewport = plot.viewport()

    def mouse(kind: QEvent.Type, col: float, row: float, held: Qt.MouseButton) -> None:
        point: QPoint = plot.mapFromScene(box.mapViewToScene(QPointF(col, row)))
        button = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else Qt.MouseButton.LeftButton
        event = QMouseEvent(kind, QPointF(point), button, held, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(viewport, event)

    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    mouse(QEvent.Type.MouseButtonPress, 2, 1, left)
    for step in np.linspace(0, 1, 8):
        mouse(QEvent.Type.MouseMove, 2 + 8 * step, 1 + 4 * step, left)
    mouse(QEvent.Type.MouseButtonRelease, 10, 5, none)
    assert connected.array_map.selection.text() == "45 cells: rows 1–5, cols 2–10"
    mouse(QEvent.Type.MouseButtonPress, 20, 30, left)
    mouse(QEvent.Type.MouseButtonRelease, 20, 30, none)
    assert connected.array_map.selection.text() == "cell (30, 20)"
    mouse(QEvent.Type.MouseMove, 3, 7, none)
    assert connected.map_pane.facts.text().startswith("row 7, col 3")


def test_every_view_can_be_shown(qtbot: QtBot, connected: Window) -> None:
    before = connected.array_map.grab().toImage()
    for key, name in ((2, "Target"), (3, "Errors"), (4, "Verdict"), (5, "R(BL)"), (6, "R(BLb)"), (1, "Weight")):
        qtbot.keyClick(connected, getattr(Qt.Key, f"Key_{key}"), Qt.KeyboardModifier.ControlModifier)
        assert connected.view == name
    assert connected.array_map.grab().toImage() == before


def test_a_network_is_inferred_on_the_array(qtbot: QtBot, connected: Window) -> None:
    connected.actions_panel.forms["forming"].put("check", "weights")
    press(qtbot, connected, "forming")
    connected.controller.network = tiny_network()
    connected.controller.network_changed.emit()
    panel = connected.network_panel
    assert panel.table.accuracy("software") == "100.00%"
    running: list[str] = []
    connected.controller.progressed.connect(lambda job, step, left: running.append(panel.table.accuracy("xnor")))
    panel.infer_button.click()
    wait_idle(qtbot, connected)
    assert "100.00%" in running
    wait(qtbot, lambda: "150 samples, 2 tiles" in panel.table.summary.text())
    assert (panel.table.accuracy("host"), panel.table.accuracy("xnor")) == ("100.00%", "100.00%")
    state = connected.controller.state
    assert state is not None
    assert (state.target[:4, :4] == tiny_network().network.layers[1].weights).all()
    assert "inference.h5" in last_line(connected)


def test_a_network_file_is_opened_or_refused(qtbot: QtBot, window: Window, tmp_path: Path) -> None:
    window.network_panel.study.open(tmp_path / "none.safetensors")
    wait_idle(qtbot, window)
    assert "none.safetensors" in last_line(window)
    save_network(tmp_path / "tiny.safetensors", tiny_network().network, {})
    window.network_panel.study.open(tmp_path / "tiny.safetensors")
    wait_idle(qtbot, window)
    assert "does not fit the data set digits" in last_line(window)
    assert not window.network_panel.infer_button.isEnabled()


def test_stop_ends_a_run_with_its_outputs_off(qtbot: QtBot, connected: Window, world: SimulatedBench) -> None:
    begin_long_run(qtbot, connected)
    assert not is_off(world)
    connected.log_panel.run_row.stop_button.click()
    wait_idle(qtbot, connected)
    wait(qtbot, lambda: "Outputs off" in last_line(connected))
    wait(qtbot, lambda: "board: 0 V and off; smu: 0 V and off; supply: 0 V and off" in last_line(connected))
    assert "stopped: Stop button" in connected.log_panel.lines()[1]
    assert is_off(world)
    assert measured(connected) < 2048
    run = open_run(only_run(connected))
    assert run.status == "stopped"
    assert len(run.read("resistances")["row"]) == measured(connected)


def test_outputs_off_by_its_key_works_in_the_middle_of_a_run(
    qtbot: QtBot, connected: Window, world: SimulatedBench
) -> None:
    begin_long_run(qtbot, connected)
    qtbot.keyClick(connected, Qt.Key.Key_F12)
    wait(qtbot, lambda: "supply: 0 V and off" in last_line(connected))
    assert is_off(world)
    assert connected.bench_panel._safety.text().count("0 V and off") == 4
    wait(qtbot, lambda: "all outputs off" in connected.bench_panel._rails_state.text())
    assert "stopped: Outputs off" in connected.log_panel.lines()[1]
    press(qtbot, connected, "read")
    assert "read" in last_line(connected)


def test_outputs_off_is_never_refused(qtbot: QtBot, window: Window) -> None:
    assert window.bench_panel.off_button.isEnabled()
    window.bench_panel.off_button.click()
    wait(qtbot, lambda: any("nothing to switch off" in line for line in window.log_panel.lines()))


def test_closing_the_window_stops_the_run_first(qtbot: QtBot, connected: Window, world: SimulatedBench) -> None:
    begin_long_run(qtbot, connected)
    close(qtbot, connected)
    assert not connected.isVisible()
    assert is_off(world)
    report = connected.controller.safe_report
    assert report is not None
    assert report.confirmed
    assert open_run(only_run(connected)).status == "stopped"


def test_a_bench_file_that_does_not_exist_is_said_in_the_log(qtbot: QtBot, window: Window) -> None:
    window.bench_panel.choose("nowhere/bench.toml", 0)
    window.bench_panel.connect_button.click()
    wait_idle(qtbot, window)
    assert "nowhere/bench.toml" in last_line(window)
    assert window.controller.bench is None
    assert window.bench_panel.connect_button.isEnabled()


def test_an_instrument_unplugged_in_the_middle_of_a_run_is_unknown(
    qtbot: QtBot, connected: Window, world: SimulatedBench
) -> None:
    begin_long_run(qtbot, connected)
    world.smu.stop()
    wait_idle(qtbot, connected)
    wait(qtbot, lambda: "smu: UNKNOWN" in last_line(connected))
    assert "board: 0 V and off" in last_line(connected)
    assert "supply: 0 V and off" in last_line(connected)
    assert is_off(world)
    wait(qtbot, lambda: "UNKNOWN" in connected.bench_panel._rails_state.text())
    assert open_run(only_run(connected)).status == "failed"


def test_cells_selected_during_a_run_do_not_change_it(qtbot: QtBot, connected: Window) -> None:
    select(connected, "0:2,0:2")
    connected.actions_panel.buttons["resistance"].click()
    select(connected, "all")
    wait_idle(qtbot, connected)
    assert measured(connected) == 8
    assert "4 cells: rows 0–1, cols 0–1" in last_line(connected)
