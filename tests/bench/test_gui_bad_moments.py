"""What people do at bad moments: odd orders of clicks, files that break, Outputs off while something is to begin."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import pytest
from PyQt5.QtCore import QPointF, Qt
from PyQt5.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from bench.gui import procedures_panel
from bench.gui.entries import Entry, Outcome
from bench.gui.jobs import Job, Purpose, RailsSeen, Session
from bench.gui.legend import Legend
from bench.gui.log_panel import MOST
from bench.gui.network_work import Foretold, ToInfer
from bench.gui.time_left import Left
from bench.gui.views import VIEWS
from bench.gui.window import Window
from bench.procedure import Progress
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.exceptions import BenchFailure
from tests.bench.gui_window import (
    begin_long_run,
    close,
    is_off,
    last_line,
    measured,
    press,
    select,
    tiny_network,
    wait,
    wait_idle,
)


@pytest.fixture
def hold() -> threading.Event:
    """What a job of a test waits for."""
    return threading.Event()


def test_a_smaller_chip_after_a_larger_one_below_the_same_mouse(
    qtbot: QtBot, connected: Window, tmp_path: Path
) -> None:
    with SimulatedBench(5, chip="array64") as larger:
        larger.write_bench_file(tmp_path / "larger.toml")
        for source, cell in ((tmp_path / "larger.toml", (63, 10)), (tmp_path / "bench.toml", None)):
            connected.controller.disconnect_bench()
            wait_idle(qtbot, connected)
            connected.controller.connect_bench(str(source), 0)
            wait_idle(qtbot, connected)
            connected.map_pane.redraw()
            if cell is not None:
                connected.array_map.hovered.emit(cell)
                assert connected.map_pane.facts.text().startswith("row 63, col 10")
    assert connected.map_pane.facts.text().startswith("Drag selects")


def test_a_drag_that_adds_may_go_back(connected: Window) -> None:
    board = connected.array_map
    select(connected, "31,31")
    board._on_dragged(QPointF(0, 0), QPointF(10, 10), True, False)
    board._on_dragged(QPointF(0, 0), QPointF(1, 1), True, True)
    assert board.selection.count == 5
    board.undo()
    assert board.selection.text() == "cell (31, 31)"


def test_what_a_pulse_was_planned_on_is_what_is_selected(
    qtbot: QtBot, connected: Window, hold: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan that comes after all cells were let go must not be run on those that had been selected."""
    panel, make_plan = connected.procedures_panel, procedures_panel.make_plan
    begun: list[object] = []

    def slow(wanted: procedures_panel.Wanted) -> procedures_panel.Planned:
        begun.append(wanted)
        hold.wait(10)
        return make_plan(wanted)

    connected.show_workspace("Procedures")
    panel.choose("resistance")
    monkeypatch.setattr(procedures_panel, "make_plan", slow)
    select(connected, "0:5,0:5")
    wait(qtbot, lambda: bool(begun))
    qtbot.keyClick(connected.array_map, Qt.Key.Key_Escape)
    wait(qtbot, lambda: not panel._settle.isActive())
    hold.set()
    ended: list[bool] = []
    connected.controller.read("after it", lambda: True, ended.append)
    wait(qtbot, lambda: bool(ended))
    assert panel.planned is None
    assert not panel.run_button.isEnabled()


def test_all_plus_is_plus_also_where_a_file_of_weights_is_named(qtbot: QtBot, connected: Window) -> None:
    select(connected, "0:2,0:2")
    connected.actions_panel.forms["program"].put("file", "weights.csv")
    press(qtbot, connected, "plus")
    state = connected.controller.state
    assert state is not None
    assert (state.target[:2, :2] == 1).all()


def test_nothing_begins_by_itself_after_outputs_off(
    qtbot: QtBot, connected: Window, world: SimulatedBench, hold: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected.controller.network = tiny_network()
    connected.controller.network_changed.emit()
    wait(qtbot, lambda: connected.network_panel.study.planned is not None)

    def slow(*_: object) -> Foretold:
        hold.wait(10)
        return Foretold({}, "", "nobody knows", 150)

    monkeypatch.setattr(ToInfer, "foretell", slow)
    connected.network_panel.infer_button.click()
    assert connected.controller.studying is not None
    qtbot.keyClick(connected, Qt.Key.Key_F12)
    hold.set()
    wait(qtbot, lambda: "not begun: the outputs were switched off meanwhile" in "\n".join(connected.log_panel.lines()))
    wait(qtbot, lambda: any("supply: 0 V and off" in line for line in connected.log_panel.lines()))
    assert connected.controller.busy is None
    assert not list(connected.controller.folder.glob("*.h5"))
    assert is_off(world)


def test_a_network_that_is_opened_meanwhile_takes_nothing_from_the_one_at_work(connected: Window) -> None:
    study = connected.network_panel.study
    study.at_work = tiny_network()
    study.foretold = Foretold({}, "", "nobody knows", 150)
    connected.controller.network = None
    connected.controller.network_changed.emit()
    assert study.foretold is not None
    assert connected.network_panel.table.accuracy("software") == "100.00%"
    connected.controller.run_over.emit(Job(Purpose.RUN, "Infer", lambda *_: None))
    assert study.at_work is None


def test_outputs_off_works_in_every_window_of_the_program(qtbot: QtBot, connected: Window) -> None:
    other = QWidget(connected, Qt.WindowType.Window)
    with qtbot.waitActive(other):
        other.show()
        other.activateWindow()
    qtbot.keyClick(other, Qt.Key.Key_F12)
    assert connected.controller.offs == 1
    wait(qtbot, lambda: "supply: 0 V and off" in last_line(connected))
    other.close()


def test_a_bar_of_more_steps_than_qt_counts_to(window: Window) -> None:
    job, row = Job(Purpose.RUN, "Cycle", lambda *_: None), window.log_panel.run_row
    row.show_job(job)
    row.show_step(job, Progress(3 * 10**9, 10**10, "cycling"), Left(60.0, of_stage=False))
    assert row._bar.value() / row._bar.maximum() == pytest.approx(0.3)
    row.show_job(None)


def test_what_is_to_be_written_is_written_each_time_and_at_the_end(
    qtbot: QtBot, window: Window, hold: threading.Event, tmp_path: Path
) -> None:
    files = [tmp_path / f"{number}.txt" for number in range(3)]
    window.controller.read("slow", lambda: hold.wait(10), lambda _: None)
    for file in files:
        window.controller.write("Save", lambda file=file: file.write_text("saved"))  # type: ignore[misc]
    window.close()
    hold.set()
    wait(qtbot, lambda: window.controller.closed)
    assert [file.read_text() for file in files] == ["saved"] * 3


def test_a_broken_queue_is_said_beside_its_items_and_not_each_second_in_the_log(qtbot: QtBot, window: Window) -> None:
    queue = window.procedures_panel.queue
    items = queue.folder / "items"
    items.mkdir(parents=True)
    (items / "000001.json").write_text("{broken")
    window.show_workspace("Procedures")
    window.procedures_panel.tabs.setCurrentWidget(queue)
    wait(qtbot, lambda: "000001.json cannot be read" in queue._advice.text())
    assert not window.log_panel.lines()
    (items / "000001.json").unlink()
    wait(qtbot, lambda: queue._advice.text().startswith("Nothing is in the queue"))


def test_a_cell_that_is_measured_again_and_again_is_followed(qtbot: QtBot, connected: Window) -> None:
    begin_long_run(qtbot, connected)
    select(connected, "0,0")
    connected.history._folder.look()
    wait(qtbot, lambda: connected.history.history is not None and bool(connected.history.history.events))
    assert "so far" in connected.history.remarks.text()
    history = connected.history.history
    assert history is not None
    ohms = [event.resistance_ohm for event in history.events if event.measured]
    connected.controller.stop()
    wait(qtbot, lambda: measured(connected) > 0 and connected.controller.busy is None)
    (path,) = connected.controller.folder.glob("*.h5")
    rows = open_run(path).read("resistances")
    assert ohms == rows["resistance_ohm"][(rows["row"] == 0) & (rows["col"] == 0)].tolist()[: len(ohms)]
    wait(qtbot, lambda: "so far" not in connected.history.remarks.text())


def test_every_entry_of_a_legend_is_seen(qtbot: QtBot, connected: Window) -> None:
    legend, state = Legend(), connected.controller.state
    assert state is not None
    qtbot.addWidget(legend)
    legend.show()
    for width, view in itertools.product((260, 420, 900), VIEWS):
        legend.resize(width, legend.height())
        legend.show_view(view, state)
        for category, count, left, top in legend._places():
            assert left + legend._entry_width(category, count) <= width
            assert top + legend._line <= legend.height()


def test_a_run_folder_that_goes_while_a_run_is_looked_at(qtbot: QtBot, connected: Window) -> None:
    select(connected, "0:2,0:2")
    press(qtbot, connected, "resistance")
    (path,) = connected.controller.folder.glob("*.h5")
    connected.show_workspace("Runs")
    wait(qtbot, lambda: bool(connected.runs_panel.model.runs))
    connected.runs_panel.choose(path)
    wait(qtbot, lambda: connected.run_view.run is not None)
    path.unlink()
    connected.run_view._folder.look()
    wait(qtbot, lambda: "no longer there" in connected.run_view.state.text())
    close(qtbot, connected)


def test_a_look_at_the_rails_that_failed_once_is_made_again_after_a_run(
    qtbot: QtBot, connected: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the rails that the run set would be shown as ON for ever."""
    controller, rails = connected.controller, Session.rails

    def fail(session: Session) -> RailsSeen:
        monkeypatch.setattr(Session, "rails", rails)
        raise BenchFailure("no answer in time")

    monkeypatch.setattr(Session, "rails", fail)
    controller.look_at_rails()
    wait(qtbot, lambda: "UNKNOWN: no answer in time" in connected.bench_panel._rails_state.text())
    select(connected, "0,0")
    press(qtbot, connected, "resistance")
    wait(qtbot, lambda: connected.bench_panel._rails_state.text() == "known: all outputs off")


def test_the_log_keeps_a_day_and_the_lines_that_changed_last(window: Window) -> None:
    for number in range(MOST + 5):
        window.controller.tell("Note", f"line {number}")
    lines = window.log_panel.lines()
    assert len(lines) == MOST
    assert lines[0].endswith(f"line {MOST + 4}")
    assert lines[-1].endswith("line 5")
    key = object()
    for outcome in (Outcome.RUNNING, Outcome.DONE):
        window.controller.logged.emit(Entry(key, "Read", "", str(outcome), outcome))
    assert [line.split("\t")[1] for line in window.log_panel.lines()[:2]] == ["Read", "Note"]
