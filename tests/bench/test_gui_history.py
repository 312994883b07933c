"""The history of a cell: everything that the run files tell of it, in order, and nothing of other cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pytestqt.qtbot import QtBot

from bench.gui.cell_events import EventKind
from bench.gui.cell_history import Histories
from bench.gui.window import Window
from bench.run_index import RunIndex
from data.runs import open_run
from drivers.chip import OperationKind
from tests.bench.gui_window import last_line, press, select, wait
from tests.bench.recorded import COLS, ROWS, devices, record


def pulses_in(folder: Path, cell: tuple[int, int]) -> int:
    """Forming, SET and RESET pulses of a cell, counted straight from the operations of all files."""
    kinds = [OperationKind.FORM, OperationKind.SET, OperationKind.RESET]
    total = 0
    for path in folder.glob("*.h5"):
        table = open_run(path).read("operations", ["kind", "count", "devices"])
        acted = table["devices"][:, cell[0], cell[1]].any(axis=1) & np.isin(table["kind"], kinds)
        total += int(table["count"][acted].sum())
    return total


def test_a_click_on_a_cell_opens_all_that_happened_to_it(qtbot: QtBot, connected: Window, tmp_path: Path) -> None:
    view = connected.history
    wait(qtbot, lambda: "Click one cell" in view.title.text())
    select(connected, "0:2,0:2")
    press(qtbot, connected, "forming")
    press(qtbot, connected, "program")
    select(connected, "1,1")
    wait(qtbot, lambda: view.history is not None and view.history.runs == 2 and not view.history.remarks)
    assert view.history is not None
    events = view.history.events
    assert [event.moment for event in events] == sorted(event.moment for event in events)
    assert sum(event.count for event in events) == pulses_in(connected.controller.folder, (1, 1)) > 0
    first = next(event for event in events if event.what == "FORM")
    assert "VDDC 2 V; VDDR 3 V" in first.details
    assert "1 pulse of 10 µs" in first.details
    verdict = next(event for event in events if event.kind is EventKind.VERDICT)
    assert "programmed to" in verdict.what
    measured = [event for event in events if event.measured]
    assert {event.devices[0] for event in measured} == {0, 1}
    view.table.selectRow(0)
    assert view.details.text()

    press(qtbot, connected, "resistance")
    wait(qtbot, lambda: view.history is not None and view.history.runs == 3 and not view.history.remarks)
    state = connected.controller.state
    assert state is not None
    last = [event.resistance_ohm for event in view.history.events if event.measured][-2:]
    assert last == list(state.resistance_ohm[1, 1])
    view.export(tmp_path / "cell.csv")
    wait(qtbot, lambda: "cell.csv" in last_line(connected))
    assert len((tmp_path / "cell.csv").read_text().splitlines()) == 1 + len(view.history.events)

    select(connected, "5,5")
    wait(qtbot, lambda: "Cell (5, 5)" in view.title.text())
    assert sum(event.count for event in view.history.events) == 0


def test_old_runs_come_on_demand_and_broken_ones_are_named(tmp_path: Path) -> None:
    ohms = np.geomspace(5e3, 9e4, 2 * ROWS * COLS)
    ohms[3] = np.inf
    for number in range(3):
        records = {"resistances": {**devices(), "resistance_ohm": ohms, "in_compliance": number == 2}}
        record(tmp_path / f"{number}.h5", "resistance", records, started=f"2026-03-0{number + 1}T12:00:00+00:00")
    record(tmp_path / "other.h5", "resistance", records, chip_id="CHIP-8")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "0.h5").read_bytes()[:5000])
    listed, histories = RunIndex().look(tmp_path), Histories()
    late = histories.read(listed, "CHIP-7", (0, 1), least=3)
    assert [event.run for event in late.events] == ["1.h5", "1.h5", "2.h5", "2.h5"]
    assert late.older == 1
    assert "cut.h5" in late.remarks[0]
    assert [event.bound for event in late.events] == [False, False, True, True]
    assert [event.resistance_ohm for event in late.events[:2]] == [ohms[2], np.inf]
    assert histories.read(listed, "CHIP-7", (0, 1), least=5).older == 0
    outside = histories.read(listed, "CHIP-7", (0, COLS), least=5)
    assert not outside.events
    assert "no cell (0, 3)" in outside.remarks[1]
