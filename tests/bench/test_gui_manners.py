"""What makes the window fit to be kept open all day: it remembers, it helps, it is undone, it is exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PyQt5.QtCore import QSettings, Qt
from PyQt5.QtGui import QImage, QPalette
from PyQt5.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from bench.gui.folding import Folding
from bench.gui.memory import Memory
from bench.gui.themes import Theme, is_dark
from bench.gui.window import Window
from drivers.simulated.bench import SimulatedBench
from drivers.simulated.scpi import InstrumentServer
from models.cells import Geometry
from tests.bench.gui_window import close, is_off, last_line, press, select, wait, wait_idle


def kept_in(path: Path) -> Memory:
    return Memory(QSettings(str(path), QSettings.Format.IniFormat))


def test_it_is_as_it_was_left(qtbot: QtBot, tmp_path: Path) -> None:
    first = Window(kept_in(tmp_path / "kept.ini"))
    first.resize(1200, 700)
    first.show()
    first.use_theme(Theme.DARK)
    assert is_dark(first.palette())
    first.bench_panel.choose("simulated", 7)
    first.bench_panel.connect_button.click()
    wait_idle(qtbot, first)
    close(qtbot, first)

    memory = kept_in(tmp_path / "kept.ini")
    assert memory.bench == ("simulated", 7)
    second = Window(memory)
    second.show()
    assert second.size() == first.size()
    assert is_dark(second.palette())
    second.use_theme(Theme.LIGHT)
    assert not is_dark(second.palette())
    second.use_theme(Theme.DESKTOP)
    close(qtbot, second)


def test_what_was_kept_damaged_is_forgotten(qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "kept.ini").write_text(
        "[General]\nbench=[3, no\nshares=7\ngeometry=x\nlayout_version=1\ntheme=purple\n"
    )
    memory = kept_in(tmp_path / "kept.ini")
    assert memory.bench == ("simulated", 0)
    shown = Window(memory)
    shown.show()
    close(qtbot, shown)
    impossible = Memory()
    impossible.shares = {"Cells": float("nan"), "Runs": 7.0, "Network": 0.4}
    assert impossible.shares == {"Network": 0.4}


@pytest.mark.parametrize("theme", [Theme.LIGHT, Theme.DARK])
def test_text_can_be_read_in_every_theme(qtbot: QtBot, window: Window, theme: Theme) -> None:
    window.use_theme(theme)
    palette = window.palette()
    for front, behind in (
        (QPalette.ColorRole.WindowText, QPalette.ColorRole.Window),
        (QPalette.ColorRole.Text, QPalette.ColorRole.Base),
        (QPalette.ColorRole.ButtonText, QPalette.ColorRole.Button),
        (QPalette.ColorRole.HighlightedText, QPalette.ColorRole.Highlight),
    ):
        lightness = sorted(contrast_of(palette.color(role).getRgbF()[:3]) for role in (front, behind))
        # 4.5 is what WCAG asks of running text
        assert (lightness[1] + 0.05) / (lightness[0] + 0.05) >= 4.5
    window.use_theme(Theme.DESKTOP)


def contrast_of(colour: tuple[float, ...]) -> float:
    """Relative luminance as WCAG 2.1 defines it."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_selections_are_undone(qtbot: QtBot, connected: Window) -> None:
    select(connected, "0:4,0:4")
    select(connected, "5,6")
    board = connected.array_map
    qtbot.keyClick(board, Qt.Key.Key_R)
    assert board.selection.text() == "32 cells: row 5, cols 0–31"
    for expected in ("cell (5, 6)", "16 cells: rows 0–3, cols 0–3", "all 1024 cells", "all 1024 cells"):
        qtbot.keyClick(board, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        assert board.selection.text() == expected
    qtbot.keyClick(board, Qt.Key.Key_Y, Qt.KeyboardModifier.ControlModifier)
    assert connected.controller.selection.text() == "16 cells: rows 0–3, cols 0–3"
    qtbot.keyClick(board, Qt.Key.Key_I)
    assert connected.controller.selection.count == 1008


def test_every_workspace_has_its_help_and_its_key(qtbot: QtBot, window: Window) -> None:
    qtbot.keyClick(window, Qt.Key.Key_F1)
    assert window.help_page.isVisible()
    for number, workspace in enumerate(window.workspaces, start=1):
        qtbot.keyClick(window, getattr(Qt.Key, f"Key_{number}"), Qt.KeyboardModifier.AltModifier)
        assert window.workspace is workspace
        assert workspace.view.isVisible()
        assert window.help_page.text().startswith(workspace.name)
        assert len(workspace.help) > 100, f"{workspace.name} has no help page"
    qtbot.keyClick(window, Qt.Key.Key_F1)
    assert not window.help_page.isVisible()


def test_the_tour_shows_every_stop_inside_the_window(qtbot: QtBot, window: Window) -> None:
    window.start_tour()
    seen = 0
    while window.tour is not None:
        card = window.tour.card.geometry()
        assert window.rect().contains(card), f"stop {seen}: {card}"
        seen += 1
        window.tour.next_button.click()
    assert seen == 8
    assert window.memory.toured


def test_the_map_is_exported(qtbot: QtBot, connected: Window, tmp_path: Path) -> None:
    select(connected, "0:2,0:3")
    press(qtbot, connected, "resistance")
    connected.map_pane.export_data(tmp_path / "cells.csv")
    wait(qtbot, lambda: "1024 cells in" in last_line(connected))
    lines = (tmp_path / "cells.csv").read_text().splitlines()
    header = lines[0].split(",")
    assert len(lines) == 1 + 1024
    ohms = [float(line.split(",")[header.index("bl_ohm")]) for line in lines[1:4]]
    state = connected.controller.state
    assert state is not None
    assert ohms == pytest.approx(list(state.resistance_ohm[0, :3, 0]), rel=1e-5)
    assert lines[4].split(",")[header.index("bl_ohm")] == ""
    connected.map_pane.export_image(tmp_path / "map.png")
    assert QImage(str(tmp_path / "map.png")).size() == 2 * connected.map_pane.size()
    connected.map_pane.export_data(tmp_path / "nowhere" / "cells.csv")
    wait(qtbot, lambda: "nowhere" in last_line(connected) and "Export" in last_line(connected))
    assert "No such file or directory" in last_line(connected)


def test_pulses_and_whole_weights_from_the_window(qtbot: QtBot, connected: Window, world: SimulatedBench) -> None:
    select(connected, "0:3,0:4")
    press(qtbot, connected, "forming")
    press(qtbot, connected, "minus")
    state = connected.controller.state
    assert state is not None
    assert (state.sensed[:3, :4] == -1).mean() > 0.8
    before = np.log(world.chip.resistance_ohm[:3, :4, 0])
    form = connected.actions_panel.forms["pulse"]
    for key, value in (("kind", "weak_reset"), ("devices", "bl"), ("count", 500)):
        form.put(key, value)
    press(qtbot, connected, "pulse")
    assert np.median(np.log(world.chip.resistance_ohm[:3, :4, 0]) - before) > 0.02
    # Programming -1 takes BLb to its HRS: one RESET a device, more where it had to be tried again.
    assert (state.resets[:3, :4, 1] >= 1).all()
    assert is_off(world)


def test_an_unplugged_bench_is_reconnected(qtbot: QtBot, connected: Window, world: SimulatedBench) -> None:
    assert set(connected.bench_panel.states().values()) == {"off"}
    port = int(world.smu.resource.split("::")[2])
    world.smu.stop()
    select(connected, "0,0")
    connected.actions_panel.buttons["resistance"].click()
    wait(qtbot, lambda: connected.bench_panel.states()["smu"] == "UNKNOWN")
    wait_idle(qtbot, connected)
    with InstrumentServer(world.smu.instrument, port):
        connected.bench_panel.reconnect_button.click()
        wait_idle(qtbot, connected)
        assert connected.bench_panel.states()["smu"] == "off"
        press(qtbot, connected, "resistance")
        assert "resistance.h5" in last_line(connected)
        connected.bench_panel.disconnect_button.click()
        wait_idle(qtbot, connected)


def test_a_slender_macro_is_folded_and_selected_in_its_parts() -> None:
    folding = Folding.of(Geometry(1024, 32))
    assert folding.parts > 1
    height, width = folding.size
    assert 0.4 < height / width < 2.5
    cells = [folding.cell(line, column) for line in range(height) for column in range(width)]
    found = [cell for cell in cells if cell is not None]
    assert len(found) == len(set(found)) == 1024 * 32
    assert all(folding.cell(*folding.place(*cell)) == cell for cell in found[::97])
    values = np.arange(1024 * 32).reshape(1024, 32)
    shown = folding.unfold(values, -1)
    assert shown[folding.place(700, 31)] == values[700, 31]
    assert (shown == -1).sum() == height * width - values.size


def test_what_is_coloured_can_be_read_on_dark_too(qtbot: QtBot, window: Window) -> None:
    window.bench_panel.off_button.click()
    wait(qtbot, lambda: any("nothing to switch off" in line for line in window.log_panel.lines()))
    item = window.log_panel.table.item(0, 3)
    assert item is not None
    light = item.foreground().color().lightness()
    window.use_theme(Theme.DARK)
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    assert is_dark(window.log_panel.palette())
    assert item.foreground().color().lightness() > 128 > light
    window.use_theme(Theme.DESKTOP)
