"""What was done, and how far the present job is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from PyQt5.QtCore import QEvent, Qt, QTimer
from PyQt5.QtGui import QColor, QKeySequence
from PyQt5.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QProgressBar,
    QPushButton,
    QShortcut,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from bench.gui.controller import Controller
from bench.gui.entries import Entry, Outcome
from bench.gui.jobs import Job, Purpose
from bench.gui.style import ALARM, OK, WARN, shade
from bench.gui.time_left import Left
from bench.gui.units import duration
from bench.procedure import Progress
from bench.states import RunState

COLOURS = {Outcome.FAILED: ALARM, Outcome.STOPPED: WARN, Outcome.DONE: OK}
HEADINGS = ("time", "operation", "cells", "result")
MOST = 1000
"""Lines that are kept; the terminal that the window was started from has them all."""

SETTLE_MS = 150
BAR_STEPS = 1000
"""Of a bar: the numbers of a run may be larger than any that Qt counts to."""


class ProgressRow(QWidget):
    """How far one job is, and its Stop button."""

    def __init__(self, stop: Callable[[], None], help_text: str) -> None:
        super().__init__()
        self._job: Job | None = None
        self._held = False
        self._bar = QProgressBar()
        self._bar.setMaximumWidth(260)
        self._text = QLabel("idle")
        self._text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._left = QLabel()
        self.stop_button = QPushButton("Stop")
        self.stop_button.setToolTip(help_text)
        self.stop_button.clicked.connect(stop)
        self.row = QHBoxLayout(self)
        self.row.setContentsMargins(0, 0, 0, 0)
        for widget in (self._bar, self._text, self._left, self.stop_button):
            self.row.addWidget(widget, 1 if widget is self._text else 0)
        self.show_job(None)

    def show_job(self, job: Job | None) -> None:
        """A job began, or None is under way; the one that is shown already goes on."""
        if job is not None and job is self._job:
            return
        self._job = job
        self.stop_button.setEnabled(job is not None and job.purpose in (Purpose.RUN, Purpose.STUDY))
        self._text.setText("idle" if job is None else f"{job.title} …")
        self._left.setText("")
        self._bar.setRange(0, 1 if job is None else 0)
        self._bar.setValue(0)
        self._bar.setTextVisible(False)

    def show_step(self, job: Job, step: Progress, left: Left | None) -> None:
        """The job got so far."""
        if job is not self._job:
            return
        # With nothing done yet the bar only shows that something moves.
        self._bar.setRange(0, BAR_STEPS if step.done > 0 else 0)
        self._bar.setValue(BAR_STEPS * min(step.done, step.total) // max(1, step.total))
        self._bar.setTextVisible(step.done > 0)
        self._text.setText(f"{job.title}: {step.text}")
        stage = " of this stage" if left is not None and left.of_stage else ""
        text = "" if left is None else f"about {duration(left.seconds)} left{stage}"
        self._left.setText("paused" if self._held else text)

    def show_held(self, held: bool) -> None:
        """The job is paused, nobody knows for how long; or it goes on."""
        self._held = held
        self._left.setText("paused" if held else "")


class LogPanel(QWidget):
    """Bottom of the window: progress, Pause and Stop, and one line for everything that was done, the newest first."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._items: dict[object, QTableWidgetItem] = {}
        self.run_row = ProgressRow(
            controller.stop, "Ends the run after the exchange that is under way; the outputs are switched off."
        )
        self.study_row = ProgressRow(controller.stop_study, "Ends the work on this computer; what was saved stays.")
        self.pause_button = QPushButton("Pause")
        self.pause_button.setToolTip("Holds the run before its next exchange, outputs off; press again to go on.")
        self.pause_button.clicked.connect(self._on_pause)
        self.run_row.row.insertWidget(3, self.pause_button)
        self.table = QTableWidget(0, len(HEADINGS))
        self.table.setHorizontalHeaderLabels(list(HEADINGS))
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setWordWrap(True)
        self.table.setTextElideMode(Qt.TextElideMode.ElideNone)
        self.table.setMinimumHeight(60)
        # Laying all lines out takes long: each when it is written, and all once their width has changed.
        self._settling = QTimer(self)
        self._settling.setSingleShot(True)
        self._settling.setInterval(SETTLE_MS)
        self._settling.timeout.connect(self.table.resizeRowsToContents)
        self._shape_columns()
        copy = QShortcut(QKeySequence(QKeySequence.StandardKey.Copy), self.table)
        copy.setContext(Qt.ShortcutContext.WidgetShortcut)
        copy.activated.connect(self._copy)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 2, 4, 4)
        layout.addWidget(self.run_row)
        layout.addWidget(self.study_row)
        layout.addWidget(self.table)
        controller.logged.connect(self._on_logged)
        controller.busy_changed.connect(self._on_busy)
        controller.progressed.connect(self._on_progress)
        controller.state_changed.connect(self._on_state)
        self._on_busy()

    def lines(self) -> list[str]:
        """The log as text, the newest line first."""
        rows, columns = range(self.table.rowCount()), range(self.table.columnCount())
        return ["\t".join(self._item(row, column).text() for column in columns) for row in rows]

    def _item(self, row: int, column: int) -> QTableWidgetItem:
        item = self.table.item(row, column)
        assert item is not None
        return item

    def _shape_columns(self) -> None:
        header, side = self.table.horizontalHeader(), self.table.verticalHeader()
        assert header is not None
        assert side is not None
        side.setVisible(False)
        header.setResizeContentsPrecision(50)  # what is seen and a little more, not a thousand lines each time
        header.sectionResized.connect(lambda *_: self._settling.start())
        for column in range(len(HEADINGS) - 1):
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(len(HEADINGS) - 1, QHeaderView.ResizeMode.Stretch)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)

    def _on_logged(self, entry: Entry) -> None:
        first = self._items.get(entry.key)
        row = 0 if first is None else self.table.row(first)
        if first is None:
            self.table.insertRow(0)
            if self.table.rowCount() > MOST:
                self.table.removeRow(MOST)
                del self._items[next(iter(self._items))]
            first = self._items[entry.key] = QTableWidgetItem(f"{datetime.now():%H:%M:%S}")
            self.table.setItem(0, 0, first)
        for column, text in enumerate((entry.operation, entry.cells, entry.text), start=1):
            self.table.setItem(row, column, QTableWidgetItem(text))
        result = self._item(row, len(HEADINGS) - 1)
        result.setData(Qt.ItemDataRole.UserRole, COLOURS.get(entry.outcome))
        self._colour(result)
        for column in range(len(HEADINGS)):
            self._item(row, column).setTextAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.table.resizeRowToContents(row)
        if row == 0:
            self.table.scrollToTop()

    def _colour(self, item: QTableWidgetItem) -> None:
        value = item.data(Qt.ItemDataRole.UserRole)
        if value is not None:
            item.setForeground(QColor(shade(value, self)))

    def changeEvent(self, a0: QEvent | None) -> None:
        """Follow the look of the window: light or dark."""
        super().changeEvent(a0)
        if a0 is not None and a0.type() == QEvent.Type.PaletteChange and hasattr(self, "table"):
            for row in range(self.table.rowCount()):
                self._colour(self._item(row, len(HEADINGS) - 1))

    def _on_busy(self) -> None:
        job = self._controller.busy
        self.run_row.show_job(job)
        self.study_row.show_job(self._controller.studying)
        self.study_row.setVisible(self._controller.studying is not None)
        self.pause_button.setEnabled(job is not None and job.purpose is Purpose.RUN)
        if job is None:
            self._on_state(RunState.COMPLETED)

    def _on_progress(self, job: Job, step: Progress, left: Left | None) -> None:
        for row in (self.run_row, self.study_row):
            row.show_step(job, step, left)

    def _on_state(self, state: RunState) -> None:
        self.pause_button.setText("Go on" if state is RunState.PAUSED else "Pause")
        self.run_row.show_held(state is RunState.PAUSED)

    def _on_pause(self) -> None:
        if self._controller.run_state is RunState.PAUSED:
            self._controller.go_on()
        else:
            self._controller.pause()

    def _copy(self) -> None:
        rows = sorted({index.row() for index in self.table.selectedIndexes()})
        clipboard = QApplication.clipboard()
        assert clipboard is not None
        lines = self.lines()
        clipboard.setText("\n".join(lines[row] for row in rows))
