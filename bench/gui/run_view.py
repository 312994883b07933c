"""One run: what it was, its records, its figures; or several, compared."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PyQt5.QtCore import QUrl
from PyQt5.QtGui import QDesktopServices
from PyQt5.QtWidgets import QHBoxLayout, QPushButton, QTabWidget, QTextBrowser, QVBoxLayout, QWidget

from bench.figures import figures
from bench.gui.controller import Controller
from bench.gui.figure_view import FigureView
from bench.gui.run_comparison import ComparisonPage
from bench.gui.run_export_page import ExportPage
from bench.gui.run_folder import RunFolder
from bench.gui.run_records import RecordsPage
from bench.gui.runs_panel import COLOURS, status_text
from bench.gui.style import ALARM, WARN, colour, note
from bench.reports import report_path, write_report
from bench.run_facts import ended_early, facts, lines_of, table_lines
from data.run_storage import READ_ERRORS
from data.runs import Run, RunStatus, open_run
from models.exceptions import UserMistake

KEY = "Open run"
NOTHING = (
    "No run is selected.\n\nClick one in the list on the right; Ctrl or Shift and click selects several, "
    "which are then compared."
)


@dataclass(frozen=True)
class Opened:
    """A run that was opened, what it says of itself, and the cells that it worked on; or why it cannot be read."""

    path: Path
    run: Run | None
    known: dict[str, Any]
    cells: NDArray[np.bool_] | None
    reason: str = ""


def look_into(path: Path) -> Opened:
    """Open a run and read all but its records; what is wrong with the file is part of the answer."""
    try:
        run = open_run(path)
        cells = None
        if "selection" in run.tables and run.rows("selection"):
            cells = np.asarray(run.read("selection", ["cells"])["cells"].astype(bool).any(axis=0))
        return Opened(path, run, facts(run), cells)
    except UserMistake as error:
        return Opened(path, None, {}, None, str(error))
    except READ_ERRORS as error:
        return Opened(path, None, {}, None, f"{path} cannot be read: {error}")


def _html(lines: list[tuple[str, str]]) -> str:
    """Names and values as a table in the colours of the desktop."""
    rows = (
        f"<tr><td><b>{escape(name)}</b>&nbsp;&nbsp;</td><td>{escape(value).replace(chr(10), '<br>')}</td></tr>"
        for name, value in lines
    )
    return f"<table width='100%'>{''.join(rows)}</table>"


class RunView(QWidget):
    """What the workspace Runs shows."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller, self._folder = controller, RunFolder.of(controller)
        self._opened: Opened | None = None
        self._report: Path | None = None
        self._stamp: object = None
        self.title, self.state = note(NOTHING), note()
        self.report_button, self.open_button = QPushButton("Write report"), QPushButton("Open report")
        self.map_button = QPushButton("Show on map")
        for button, does, tip in (
            (self.report_button, self._on_report, "Writes one page (.html) about this run beside its file."),
            (self.open_button, self._on_open_report, "Opens the page that was written, in your browser."),
            (self.map_button, self._on_map, "Selects the cells that this run worked on; Ctrl+Z in the map goes back."),
        ):
            button.clicked.connect(does)
            button.setToolTip(tip)
        buttons = QHBoxLayout()
        for button in (self.report_button, self.open_button, self.map_button):
            buttons.addWidget(button)
        buttons.addStretch(1)
        self.facts = QTextBrowser()
        self.facts.setAccessibleName("facts of the run")
        self.records = RecordsPage(controller)
        self.figures = FigureView(controller, "run", "This run holds no records to draw.")
        self.comparison, self.export = ComparisonPage(controller), ExportPage(controller)
        self.tabs = QTabWidget()
        for page, name in (
            (self.facts, "Facts"),
            (self.records, "Records"),
            (self.figures, "Figures"),
            (self.comparison, "Compare"),
            (self.export, "Export"),
        ):
            self.tabs.addTab(page, name)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.title)
        layout.addWidget(self.state)
        layout.addLayout(buttons)
        layout.addWidget(self.tabs, 1)
        layout.addStretch(0)
        self._folder.chosen_changed.connect(self._on_chosen)
        self._folder.changed.connect(self._on_folder)
        self._on_chosen()

    @property
    def run(self) -> Run | None:
        """The run that is shown."""
        return None if self._opened is None else self._opened.run

    def _on_chosen(self) -> None:
        chosen = self._folder.chosen
        self.comparison.put(chosen)
        if len(chosen) > 1:
            self.tabs.setCurrentWidget(self.comparison)
        elif self.tabs.currentWidget() is self.comparison:
            self.tabs.setCurrentWidget(self.facts)
        path = chosen[0] if chosen else None
        if path is None:
            self._show(None)
        elif self._opened is None or self._opened.path != path:
            self._report = None
            self.title.setText(f"opening {path.name} …")
            self._read(path)

    def _on_folder(self) -> None:
        """Follow a run that goes on, and take over what changed in a file."""
        if self._opened is not None:
            listed = self._folder.find(self._opened.path)
            if listed is None and self._folder.listed is not None and self._folder.path == self._opened.path.parent:
                self.state.setText("This file is no longer there; what is shown was read before.")
                colour(self.state, WARN)
                self._stamp = None
            if listed is not None and (listed.being_written or listed.stamp != self._stamp):
                self._read(self._opened.path)

    def _read(self, path: Path) -> None:
        listed = self._folder.find(path)
        self._stamp = None if listed is None else listed.stamp
        self._controller.read(KEY, lambda: look_into(path), self._take)

    def _take(self, found: Opened) -> None:
        if self._folder.chosen[:1] == (found.path,):  # and none or another was chosen meanwhile
            self._show(found)

    def _show(self, found: Opened | None) -> None:
        before, self._opened = self._opened, found
        run = None if found is None else found.run
        self.tabs.setVisible(run is not None or len(self._folder.chosen) > 1)
        self._refresh_buttons()
        self.records.put(run)
        self.export.put(run)
        if found is None:
            self.title.setText(NOTHING)
            self.state.setText("")
            return
        self.title.setText(f"<b>{found.path.name}</b>")
        if run is None:
            self.state.setText(f"{found.reason}. It is left as it is; the report and the figures need a whole file.")
            colour(self.state, ALARM)
            self.facts.setHtml("")
            self.figures.clear("This file cannot be read.")
            return
        self._show_state(found.known)
        scroll = self.facts.verticalScrollBar()
        assert scroll is not None
        place = scroll.value()
        self.facts.setHtml(_html(lines_of(found.known)) + "<h4>Records</h4>" + _html(table_lines(found.known)))
        if before is not None and before.path == found.path:
            scroll.setValue(place)
        path, status = found.path, found.known["status"]
        earlier = before.known.get("status") if before is not None and before.path == path else None
        if earlier is None:
            self.figures.clear("")
        if status == RunStatus.RUNNING or status != earlier:
            self.figures.put(lambda: figures(open_run(path)))

    def _show_state(self, known: dict[str, Any]) -> None:
        status = RunStatus(known["status"])
        text = f"{known['procedure']} on {known['chip_id'] or 'a chip that is not named'}: {status_text(status)}"
        if status is RunStatus.RUNNING:
            text += "; what is shown follows it"
        if ended_early(known):
            text += f" ({known['reason']}). " if known["reason"] else ". "
            text += f"Go on with: rram-bench run {known['procedure']} --resume {known['file']}"
        self.state.setText(text)
        colour(self.state, COLOURS.get(status))

    def _refresh_buttons(self) -> None:
        found = self._opened
        self.report_button.setEnabled(found is not None and found.run is not None)
        self.open_button.setEnabled(self._report is not None)
        self.map_button.setEnabled(found is not None and found.cells is not None)

    def _on_report(self) -> None:
        if self._opened is None:
            return
        path = self._opened.path
        self.report_button.setEnabled(False)

        def work() -> Path:
            run = open_run(path)
            return write_report(run, report_path(run, None))

        self._controller.write("Write report", work, self._on_written, lambda _: self._refresh_buttons())

    def _on_written(self, written: Path) -> None:
        self._report = written
        self._controller.tell("Write report", str(written))
        self._refresh_buttons()

    def _on_open_report(self) -> None:
        if self._report is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._report.resolve())))

    def _on_map(self) -> None:
        found, state = self._opened, self._controller.state
        if found is None or found.cells is None:
            return
        if state is None or found.cells.shape != tuple(state.geometry):
            rows, cols = found.cells.shape
            self._controller.complain("Show on map", f"the map shows no array of {rows} x {cols} cells; connect one")
            return
        self._controller.want_selection(found.cells)
