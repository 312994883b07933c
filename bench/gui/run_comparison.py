"""Several runs held against each other: what differs, their results, and the same curve of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PyQt5.QtWidgets import QTabWidget, QVBoxLayout, QWidget

from bench.comparing import compare
from bench.gui.controller import Controller
from bench.gui.figure_view import FigureView
from bench.gui.style import note
from bench.gui.text_table import Heading, TextTable
from bench.run_facts import brief
from data.runs import open_run
from models.exceptions import UserMistake

KEY = "Compare runs"
HINT = "Select two runs or more in the list (Ctrl or Shift and click) to compare them."
NO_CURVE = "These runs have no curve in common: a staircase, endurance, or resistances by state."
MOST = 40


class ComparisonPage(QWidget):
    """A table of what differs and of the results, above a figure."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._paths: tuple[Path, ...] = ()
        self.said = note(HINT)
        self.table = TextTable("differences and results of the runs")
        self.figure = FigureView(controller, "comparison", NO_CURVE)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.table, "Differences and results")
        self.tabs.addTab(self.figure, "The same curve of each")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.addWidget(self.said)
        layout.addWidget(self.tabs, 1)
        layout.addStretch(0)
        self.put(())

    def put(self, paths: tuple[Path, ...]) -> None:
        """Compare these runs."""
        if paths == self._paths and len(paths) > 1:
            return
        self._paths = paths
        several = 2 <= len(paths) <= MOST
        self.tabs.setVisible(several)
        if not several:
            self.said.setText(HINT if len(paths) < 2 else f"{len(paths)} runs are selected; compare at most {MOST}.")
            return
        self.said.setText("comparing …")

        def work() -> dict[str, Any] | str:
            try:
                return compare([open_run(path) for path in paths])
            except UserMistake as error:
                return str(error)

        def draw() -> list[Any]:
            from bench.figures.overlays import overlay

            drawn = overlay([open_run(path) for path in paths])
            return [] if drawn is None else [drawn]

        self._controller.read(KEY, work, lambda found: self._take(paths, found))
        self.figure.put(draw)

    def _take(self, paths: tuple[Path, ...], found: dict[str, Any] | str) -> None:
        if paths != self._paths:
            return
        if isinstance(found, str):
            self.tabs.setVisible(False)
            self.said.setText(found)
            return
        same = f"The same in all: {', '.join(found['same'])}." if found["same"] else ""
        self.said.setText(f"What differs, and the results. {same}")
        side: list[str] = []
        rows: list[list[str]] = []
        for section, differing in [*found["differences"].items(), ("results", found["results"])]:
            if differing:
                side.append(section.upper().replace("_", " "))
                rows.append([""] * len(paths))
            for name, values in differing.items():
                side.append(f"  {name}")
                rows.append(["–" if value is None else brief(value, 60) for value in values])
        # The date is left out of the head: the files differ in it, and it is long.
        self.table.put([Heading(_short(path), str(path)) for path in paths], side, rows)


def _short(path: Path) -> str:
    """``20260301-120000-123456-forming`` in two lines."""
    parts = path.stem.split("-", 3)
    if len(parts) < 4:
        return path.stem
    return f"{parts[3]}\n{parts[1][:2]}:{parts[1][2:4]}:{parts[1][4:6]}"
