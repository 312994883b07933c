"""What a fit found: its numbers, data over fitted curves, checks, and what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PyQt5.QtCore import QEvent, Qt
from PyQt5.QtGui import QColor
from PyQt5.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QListWidget,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from bench.fit_reports import against, caption, draw
from bench.fitting import Fitted
from bench.gui.controller import Controller
from bench.gui.figure_view import FigureView
from bench.gui.fit_study import FitStudy, quantity
from bench.gui.style import ALARM, OK, WARN, colour, note, shade
from calibration.estimate import COVERAGE
from calibration.result import Overlay

if TYPE_CHECKING:
    from bench.figures.records import TitledFigure

EMPTY = (
    "Nothing was fitted yet.\n\nChoose the kind of fit and the runs on the right, then press Fit. "
    "What it finds is shown here, each number with its interval."
)
INSIDE = "inside the interval"
Row = tuple[tuple[str, ...], str | None, str]
"""Texts of the columns, a colour or None, and a tool tip."""


class FitView(QWidget):
    """What the workspace Calibration shows."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        self._shown: Fitted | None = None
        super().__init__(parent)
        self._study = FitStudy.of(controller)
        self.title, self.problems = note(EMPTY), note()
        self.parameters = _table("parameters", ("parameter", "fitted", f"{COVERAGE:.0%} interval", "base file"))
        self.checks = _table("checks and comparisons", ("verdict", "what the data say"))
        self.figures = FigureView(controller, "fit", "This fit draws no curves.")
        self.outliers, self.notes = QListWidget(), QListWidget()
        for texts, name in ((self.outliers, "devices left out"), (self.notes, "notes of the fit")):
            texts.setAccessibleName(name)
            texts.setWordWrap(True)
        self.tabs = QTabWidget()
        for page, name in (
            (self.parameters, "Parameters"),
            (self.figures, "Figures"),
            (self.checks, "Checks"),
            (self.outliers, "Left out"),
            (self.notes, "Notes"),
        ):
            self.tabs.addTab(page, name)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.title)
        layout.addWidget(self.problems)
        layout.addWidget(self.tabs, 1)
        layout.addStretch(0)
        self._study.changed.connect(self._on_changed)
        self._on_changed()

    def _on_changed(self) -> None:
        fitted = self._study.fitted
        self.tabs.setVisible(fitted is not None)
        self.problems.setVisible(fitted is not None and bool(self.problems.text()))
        if fitted is not None and fitted is not self._shown:
            self._shown = fitted
            self._show(fitted)

    def _show(self, fitted: Fitted) -> None:
        fit = fitted.fit
        runs = "1 file" if len(fitted.runs) == 1 else f"{len(fitted.runs)} files"
        chips = ", ".join(dict.fromkeys(str(run.attributes.get("chip_id", run.path.stem)) for run in fitted.runs))
        verdict = "converged" if fit.converged else "NOT converged"
        self.title.setText(
            f"<b>Fit of {fitted.task.kind} to {chips}</b>: {fit.devices} devices in {runs}, {verdict}; "
            f"base {fitted.base.name}"
        )
        self.problems.setText("\n".join(fit.problems))
        self.problems.setVisible(bool(fit.problems))
        colour(self.problems, WARN if fit.converged else ALARM)
        self._fill_tables(fitted)
        failed = sum(not item.good for item in fit.checks)
        self.tabs.setTabText(2, f"Checks ({failed} fail)" if failed else "Checks")
        self.tabs.setTabText(3, f"Left out ({len(fit.outliers)})")
        self.outliers.clear()
        self.outliers.addItems([str(item) for item in fit.outliers] or ["No device was left out."])
        self.notes.clear()
        self.notes.addItems(fit.report or ["The fit has nothing to add."])
        overlays = fit.overlays
        self.figures.put(lambda: _drawn(overlays))

    def changeEvent(self, a0: QEvent | None) -> None:
        """The colours follow the look of the window."""
        super().changeEvent(a0)
        if a0 is not None and a0.type() == QEvent.Type.PaletteChange and self._shown is not None:
            self._fill_tables(self._shown)

    def _fill_tables(self, fitted: Fitted) -> None:
        fit = fitted.fit
        _fill(self.parameters, [self._parameter(fitted, name) for name in fit.parameters])
        checks: list[Row] = [
            (("holds" if item.good else "FAILS", item.text), OK if item.good else ALARM, item.name)
            for item in fit.checks
        ]
        checks += [(("compared", item.text), None, item.question) for item in fit.comparisons]
        _fill(self.checks, checks)

    def _parameter(self, fitted: Fitted, name: str) -> Row:
        found, known = fitted.fit.parameters[name], fitted.base.quantities.get(name)
        low, high = quantity(found.low, found.unit), quantity(found.high, found.unit)
        unit = high.partition(" ")[2]
        # One unit for both, where it is the same: the column stays narrow.
        interval = f"{low.removesuffix(f' {unit}') if unit else low} to {high}"
        if known is None:
            return (name, quantity(found.value, found.unit), interval, ""), None, "The base file has no such number."
        place = against(found, known.value)
        texts = (name, quantity(found.value, found.unit), interval, quantity(known.value, known.unit))
        return texts, None if place == INSIDE else WARN, f"The base file's value lies {place}."


def _drawn(overlays: Sequence[Overlay]) -> list[TitledFigure]:
    from bench.figures.records import TitledFigure

    return [TitledFigure(f"overlay-{at}", each.title, caption(each), draw(each)) for at, each in enumerate(overlays)]


def _table(name: str, headings: Sequence[str]) -> QTableWidget:
    table = QTableWidget(0, len(headings))
    table.setHorizontalHeaderLabels(list(headings))
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setAlternatingRowColors(True)
    table.setWordWrap(True)
    table.setTextElideMode(Qt.TextElideMode.ElideNone)
    table.setAccessibleName(name)
    side, head = table.verticalHeader(), table.horizontalHeader()
    assert side is not None
    assert head is not None
    side.setVisible(False)
    side.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    last = len(headings) - 1
    for column in range(last):
        head.setSectionResizeMode(column, QHeaderView.ResizeMode.ResizeToContents)
    head.setSectionResizeMode(last, QHeaderView.ResizeMode.Stretch)
    head.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft)
    return table


def _fill(table: QTableWidget, rows: Sequence[Row]) -> None:
    """The colour belongs to the last column of numbers, and to the verdict where there are two columns only."""
    table.setRowCount(len(rows))
    for row, (texts, hue, tip) in enumerate(rows):
        coloured = 0 if len(texts) == 2 else len(texts) - 1
        for column, text in enumerate(texts):
            item = QTableWidgetItem(text)
            item.setToolTip(tip)
            if hue is not None and column == coloured:
                item.setForeground(QColor(shade(hue, table)))
            table.setItem(row, column, item)
