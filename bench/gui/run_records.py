"""The records of a run, page by page."""

from __future__ import annotations

from typing import Any

from PyQt5.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from bench.gui.controller import Controller
from bench.gui.style import note
from bench.gui.text_table import Heading, TextTable
from bench.run_facts import cell_text, plain_records
from data.runs import Run
from models.exceptions import UserMistake

PAGE = 100
KEY = "Records of the run"


class RecordsPage(QWidget):
    """One table of a run; a hundred records at a time are read."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._run: Run | None = None
        self._first = self._count = 0
        self._end = False
        self.tables = QComboBox()
        self.tables.setToolTip("Which table of the run.")
        self.tables.setAccessibleName("table of the run")
        self.tables.activated.connect(lambda: self.go_to(0))
        self.buttons: dict[str, QToolButton] = {}
        row = QHBoxLayout()
        row.addWidget(self.tables, 1)
        steps = (("|◀", "first", lambda: 0), ("◀", "previous", lambda: self._first - PAGE))
        more = (("▶", "next", lambda: self._first + PAGE), ("▶|", "last", lambda: self._count))
        for text, name, where in (*steps, *more):
            button = QToolButton()
            button.setText(text)
            button.setToolTip(f"The {name} {PAGE} records.")
            button.setAccessibleName(f"{name} records")
            button.clicked.connect(lambda _, where=where: self.go_to(where()))
            self.buttons[name] = button
            row.addWidget(button)
        self.counted = QLabel()
        self.about = note()
        self.records = TextTable("records")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.about)
        layout.addWidget(self.records, 1)
        layout.addWidget(self.counted)

    def put(self, run: Run | None) -> None:
        """Show this run; the table of the same name that was shown stays, where the run has it."""
        same = run is not None and self._run is not None and run.path == self._run.path
        self._run = run
        if same:
            # A run that goes on: the page stays, its records are read again.
            self.go_to(self._first)
            return
        name = self.tables.currentText()
        self.tables.clear()
        if run is None:
            self.records.put((), (), ())
            self.about.setText("")
            self.counted.setText("")
            return
        self.tables.addItems(list(run.tables))
        self.tables.setCurrentIndex(max(0, self.tables.findText(name)))
        self.go_to(0)

    def go_to(self, first: int) -> None:
        """Show the page with this record; one past the end is the last page."""
        run, table = self._run, self.tables.currentText()
        if run is None or not table:
            return

        def work() -> tuple[Run, str, int, int, dict[str, list[Any]] | str]:
            try:
                count = run.rows(table)
                start = max(0, min(first, (count - 1) // PAGE * PAGE))
                return run, table, start, count, plain_records(run, table, slice(start, start + PAGE))
            except UserMistake as error:
                return run, table, 0, 0, str(error)

        self._controller.read(KEY, work, self._take)

    def _take(self, found: tuple[Run, str, int, int, dict[str, list[Any]] | str]) -> None:
        run, table, self._first, self._count, records = found
        if run is not self._run:
            return
        if isinstance(records, str):
            self.about.setText(records)
            return
        known = run.tables[table]
        length = len(next(iter(records.values()), []))
        self.about.setText(known.description)
        names = [(name, known.column(name)) for name in records]
        heads = [Heading(name if c.units == "1" else f"{name}\n[{c.units}]", c.description) for name, c in names]
        rows = [[cell_text(values[row]) for values in records.values()] for row in range(length)]
        self.records.put(heads, [str(self._first + row) for row in range(length)], rows, numbers=True)
        last = self._first + length
        shown = "no records" if not length else f"records {self._first} to {last - 1} of {self._count}"
        self.counted.setText(shown)
        for name in ("first", "previous"):
            self.buttons[name].setEnabled(self._first > 0)
        for name in ("next", "last"):
            self.buttons[name].setEnabled(last < self._count)
