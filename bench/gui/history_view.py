"""The whole history of the cell that is selected on the map: a plot of its resistances, and everything in a table."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from PyQt5.QtCore import QAbstractTableModel, QModelIndex, QObject, Qt, QTimer
from PyQt5.QtGui import QShowEvent
from PyQt5.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QPushButton,
    QSplitter,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from bench.gui.cell_events import Event, EventKind
from bench.gui.cell_history import LEAST, Axis, Histories, History, as_csv
from bench.gui.controller import Controller
from bench.gui.history_plot import HistoryPlot
from bench.gui.run_folder import RunFolder
from bench.gui.style import WARN, colour, note
from bench.gui.units import si
from data.atomic import write_atomically

KEY = "History of a cell"
SETTLE_MS = 120
HEADINGS = ("what", "on", "resistance", "when", "details", "run")
NO_BENCH = "Connect a bench, then click a cell on its map: its whole history from all run files is shown here."
NO_CELL = "Click one cell on the map to see its whole history."
NOTHING = "No run file of chip {chip} in {folder} tells anything of this cell yet. Do something to it first."

FILTERS = {
    "most": frozenset(EventKind) - {EventKind.ACCESS},
    "everything": frozenset(EventKind),
    "pulses": frozenset({EventKind.PULSE, EventKind.FORMING}),
    "resistances": frozenset({EventKind.RESISTANCE}),
    "weights": frozenset({EventKind.READ, EventKind.VERDICT}),
    "other": frozenset({EventKind.RECORD}),
}


class EventModel(QAbstractTableModel):
    """Events as rows."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.events: list[Event] = []

    def put(self, events: list[Event]) -> None:
        """Show these."""
        self.beginResetModel()
        self.events = events
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Number of events."""
        return len(self.events)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Number of columns."""
        return len(HEADINGS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Name of a column."""
        shown = role == Qt.ItemDataRole.DisplayRole and orientation == Qt.Orientation.Horizontal
        return HEADINGS[section] if shown else None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Text of a cell of the table."""
        event = self.events[index.row()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{_when(event, '%Y-%m-%d %H:%M:%S.%f')}, {event.seconds:.3f} s into {event.run}\n{_text(event)}"
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        ohms = f"{'≤ ' if event.bound else ''}{si(event.resistance_ohm, 'Ω')}" if event.measured else ""
        texts = (_what(event), "+".join(event.device_names), ohms, _when(event, "%m-%d %H:%M:%S"))
        return (*texts, event.details, event.run)[index.column()]


class HistoryView(QWidget):
    """What the workspace Cells shows beside the map."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller, self._folder = controller, RunFolder.of(controller)
        self._histories = Histories()
        self._least = LEAST
        self._cell: tuple[int, int] | None = None
        self.history: History | None = None
        self.title, self.remarks, self.details = note(NO_BENCH), note(), note()
        colour(self.remarks, WARN)
        self.axis, self.shown = QComboBox(), QComboBox()
        for kind in Axis:
            self.axis.addItem(f"by {kind.value}", kind)
        self.axis.setToolTip("What the plot runs along: the events one by one, or the time of day.")
        self.axis.setAccessibleName("axis of the history")
        self.axis.currentIndexChanged.connect(self._fill)
        self.shown.addItems(list(FILTERS))
        self.shown.setToolTip(
            "What the table lists. Most: all but senses, XNOR and direct access, whose results are listed."
        )
        self.shown.setAccessibleName("what the history lists")
        self.shown.currentIndexChanged.connect(self._fill)
        self.older_button, self.export_button = QPushButton("Older"), QPushButton("CSV…")
        self.older_button.setToolTip("Reads older run files as well.")
        self.export_button.setToolTip("Saves all events that were read, not only those listed, as a table.")
        self.older_button.clicked.connect(self._on_older)
        self.export_button.clicked.connect(self._on_export)
        for box in (self.axis, self.shown):
            box.setMinimumContentsLength(6)
        row = QHBoxLayout()
        row.setSpacing(3)
        for widget in (self.axis, self.shown, self.older_button, self.export_button):
            row.addWidget(widget)
        self.plot = HistoryPlot()
        self.model = EventModel(self)
        self.table = QTableView()
        self.table.setModel(self.model)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setAlternatingRowColors(True)
        self.table.setAccessibleName("events of the cell")
        self.table.setWordWrap(False)
        self._shape_table()
        split = QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.plot)
        split.addWidget(self.table)
        split.setSizes([200, 220])
        self._split = split
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.title)
        layout.addWidget(self.remarks)
        layout.addLayout(row)
        layout.addWidget(split, 1)
        layout.addWidget(self.details)
        self._settling = QTimer(self)
        self._settling.setSingleShot(True)
        self._settling.setInterval(SETTLE_MS)
        self._settling.timeout.connect(self._read)
        controller.selection_changed.connect(self._settling.start)
        controller.bench_changed.connect(self._settling.start)
        self._folder.changed.connect(self._settling.start)
        self._show(None)

    def showEvent(self, a0: QShowEvent | None) -> None:
        """Nothing is read while nobody looks."""
        super().showEvent(a0)
        self._settling.start()

    def _shape_table(self) -> None:
        side, head = self.table.verticalHeader(), self.table.horizontalHeader()
        assert side is not None
        assert head is not None
        side.setVisible(False)
        side.setDefaultSectionSize(self.fontMetrics().lineSpacing() + 4)
        for column, text in enumerate(("WEAK-RESET ×10", "BL+BLb", "resistance", "00-00 00:00:00")):
            self.table.setColumnWidth(column, self.fontMetrics().horizontalAdvance(text) + 12)
        self.table.setColumnWidth(4, 500)
        self.table.setColumnWidth(5, 300)
        head.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
        selection = self.table.selectionModel()
        assert selection is not None
        selection.currentRowChanged.connect(self._on_row)

    def _read(self) -> None:
        if not self.isVisible():
            return
        bench, selection = self._controller.bench, self._controller.selection
        if bench is None or selection.count != 1:
            several = f" {selection.count} cells are selected." if bench is not None and selection.count else ""
            self._cell = None
            self._show(None)
            self.title.setText(NO_BENCH if bench is None else NO_CELL + several)
            return
        row, col = (int(axis[0]) for axis in np.nonzero(selection.mask))
        if self._cell != (row, col):
            self._least = LEAST
        self._cell = row, col
        listed, chip, cell, least = self._folder.listed, bench.chip_id, (row, col), self._least
        if listed is None:
            self.title.setText("looking for runs …")
            return
        self._controller.read(KEY, lambda: (cell, self._histories.read(listed, chip, cell, least)), self._take)

    def _take(self, found: tuple[tuple[int, int], History]) -> None:
        cell, history = found
        if cell != self._cell:
            return
        self._show(history)
        bench = self._controller.bench
        chip = "" if bench is None else bench.chip_id
        pulses = sum(event.count for event in history.events)
        if history.events or history.older:
            runs = "1 run" if history.runs == 1 else f"{history.runs} runs"
            self.title.setText(
                f"Cell ({cell[0]}, {cell[1]}) of {chip}: {len(history.events)} events in {runs}, {pulses} pulses"
            )
        else:
            self.title.setText(f"Cell {cell}. {NOTHING.format(chip=chip, folder=self._folder.path)}")

    def _show(self, history: History | None) -> None:
        same = history is not None and history == self.history
        self.history = history
        self._split.setVisible(history is not None and bool(history.events))
        for widget in (self.axis, self.shown, self.older_button, self.export_button):
            widget.setVisible(history is not None)
        self.remarks.setText("" if history is None else "; ".join(history.remarks))
        self.remarks.setVisible(bool(self.remarks.text()))
        older = 0 if history is None else history.older
        self.older_button.setEnabled(older > 0)
        self.older_button.setText(f"Older ({older})" if older else "Older")
        self.export_button.setEnabled(history is not None and bool(history.events))
        if not same:
            self._fill()

    def _fill(self) -> None:
        events = () if self.history is None else self.history.events
        kinds = FILTERS[self.shown.currentText()]
        listed, bar = [event for event in events if event.kind in kinds], self.table.verticalScrollBar()
        assert bar is not None
        # More of the same cell, of a run that goes on: what somebody looks at stays where it is.
        more = bool(self.model.events) and listed[: len(self.model.events)] == self.model.events
        place = bar.value() if more and bar.value() < bar.maximum() else None
        row = self.table.currentIndex().row() if more else -1
        self.model.put(listed)
        self.details.setText("")
        self.plot.put(events, Axis(self.axis.currentData()))
        if row >= 0:
            self.table.setCurrentIndex(self.model.index(row, 0))
        if place is None:
            self.table.scrollToBottom()
        else:
            bar.setValue(place)

    def _on_row(self, current: QModelIndex, _: QModelIndex) -> None:
        if current.isValid():
            event = self.model.events[current.row()]
            self.details.setText(_text(event))
            self.plot.point_at(event)

    def _on_older(self) -> None:
        count = 0 if self.history is None else len(self.history.events)
        self._least = count + LEAST
        self._read()

    def _on_export(self) -> None:
        row, col = (0, 0) if self._cell is None else self._cell
        suggestion = str(self._folder.path / f"cell-{row}-{col}.csv")
        chosen, _ = QFileDialog.getSaveFileName(self, "Save the history", suggestion, "CSV table (*.csv)")
        if chosen:
            self.export(Path(chosen))

    def export(self, path: Path) -> None:
        """Save all events that were read as a table."""
        events = () if self.history is None else self.history.events

        def work() -> Path:
            write_atomically(path, as_csv(events), "history")
            return path

        def tell(written: Path) -> None:
            self._controller.tell("Save history", f"{len(events)} events; {written}")

        self._controller.write("Save history", work, tell)


def _when(event: Event, form: str) -> str:
    return f"{datetime.fromtimestamp(event.moment):{form}}"


def _what(event: Event) -> str:
    return f"{event.what} ×{event.count}" if event.count > 1 else event.what


def _text(event: Event) -> str:
    on = "+".join(event.device_names)
    ohms = f" {si(event.resistance_ohm, 'Ω', 4)}{', in compliance: at most' if event.bound else ''}"
    parts = f"{_what(event)}{f' on {on}' if on else ''}{ohms if event.measured else ''}"
    return f"{parts}. {event.details}" if event.details else f"{parts}."
