"""The list of runs: what was recorded, searched by whatever the files say of their runs."""

from __future__ import annotations

from pathlib import Path

from PyQt5.QtCore import QAbstractListModel, QItemSelectionModel, QModelIndex, Qt
from PyQt5.QtGui import QColor
from PyQt5.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListView,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from bench.gui.controller import Controller
from bench.gui.run_folder import RunFolder
from bench.gui.style import ALARM, WARN, colour, note, shade
from bench.gui.units import duration
from bench.run_index import ListedRun
from data.runs import RunStatus

HELP = """<b>Runs</b>: everything that was recorded, the newest first.
<ul><li>Click a run to look at it; Ctrl or Shift and click for several, which are then compared.</li>
<li>The search looks at everything that a file says of its run: procedure, chip, status, every setting, names and
versions. Several words must all be found.</li>
<li>The list follows the folder by itself. A run that goes on is marked, and what is shown of it follows it.</li>
<li>A file that cannot be read stays in the list, with the reason; nothing is ever changed in it.</li>
<li>Another folder: write it, or press the button beside it. The arrow goes back to where runs are recorded.</li>
<li>Facts, Records, Figures, Compare and Export stand beside the list. Report writes one page beside the run file.</li>
<li>A run that ended early says how it is gone on with.</li></ul>"""

COLOURS = {
    RunStatus.RUNNING: WARN,
    RunStatus.STOPPED: WARN,
    RunStatus.FAILED: ALARM,
    RunStatus.INTERRUPTED: ALARM,
}


def status_text(status: RunStatus) -> str:
    """How a run stands, for people."""
    return "being written" if status is RunStatus.RUNNING else status.value


def lines(listed: ListedRun) -> tuple[str, str]:
    """A run in two short lines."""
    run = listed.summary
    if run is None:
        return f"not readable: {listed.path.name}", listed.reason.replace(f"{listed.path} ", "")
    records = "1 record" if run.records == 1 else f"{run.records} records"
    first = f"{run.started.astimezone():%Y-%m-%d %H:%M:%S}  {run.procedure}, {status_text(run.status)}"
    return first, " · ".join(filter(None, [run.chip, records, duration(run.seconds)]))


class RunModel(QAbstractListModel):
    """Runs as two lines each."""

    def __init__(self, owner: QWidget) -> None:
        super().__init__(owner)
        self._owner = owner
        self.runs: list[ListedRun] = []

    def put(self, runs: list[ListedRun]) -> None:
        """Show these."""
        self.beginResetModel()
        self.runs = runs
        self.endResetModel()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Number of runs."""
        return len(self.runs)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        """Text, colour and tool tip of a run."""
        listed = self.runs[index.row()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.AccessibleTextRole):
            return "\n".join(lines(listed))
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{listed.path}\n{listed.reason}".strip()
        if role == Qt.ItemDataRole.ForegroundRole:
            # What went as it should has the colour of all text.
            hue = ALARM if listed.summary is None else COLOURS.get(listed.summary.status)
            return None if hue is None else QColor(shade(hue, self._owner))
        return None


class RunsPanel(QWidget):
    """Controls of the workspace Runs: folder, search and list."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._folder = RunFolder.of(controller)
        self.place = QLineEdit()
        self.place.setToolTip("Folder of run files (*.h5); Enter goes there.")
        self.place.returnPressed.connect(self._on_place)
        browse, home = QToolButton(), QToolButton()
        browse.setText("…")
        browse.setToolTip("Choose another folder of run files.")
        browse.clicked.connect(self._on_browse)
        home.setText("↺")
        home.setToolTip("Back to the folder that runs are recorded in.")
        home.setAccessibleName("back to the folder of this session")
        home.clicked.connect(lambda: self._folder.go_to(None))
        self.search = QLineEdit()
        self.search.setPlaceholderText("procedure, chip, status, any setting")
        self.search.setToolTip("Only runs whose file says all these words; Esc shows all again.")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._fill)
        self.model = RunModel(self)
        self.list = QListView()
        self.list.setModel(self.model)
        self.list.setUniformItemSizes(True)
        self.list.setAlternatingRowColors(True)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.list.setAccessibleName("runs")
        self.list.setMinimumHeight(160)
        self.list.setMinimumWidth(200)
        selection = self.list.selectionModel()
        assert selection is not None
        selection.selectionChanged.connect(self._on_chosen)
        self.counted = note()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        for title, widgets in (("&Folder", (self.place, browse, home)), ("&Search", (self.search,))):
            row = QHBoxLayout()
            label = QLabel(title)
            label.setBuddy(widgets[0])
            row.addWidget(label)
            for widget in widgets:
                row.addWidget(widget)
            layout.addLayout(row)
        layout.addWidget(self.list, 1)
        layout.addWidget(self.counted)
        self._filling = False
        self._folder.changed.connect(self._fill)
        self._fill()

    def choose(self, *paths: Path) -> None:
        """Select these runs in the list."""
        selection = self.list.selectionModel()
        assert selection is not None
        selection.clearSelection()
        for row, listed in enumerate(self.model.runs):
            if listed.path in paths:
                selection.select(self.model.index(row), QItemSelectionModel.SelectionFlag.Select)

    def _fill(self) -> None:
        if not self.place.hasFocus():
            self.place.setText(str(self._folder.path))
        listed = self._folder.listed
        if listed is None:
            self.counted.setText("looking for runs …")
            return
        shown = [each for each in listed if each.matches(self.search.text())]
        if shown != self.model.runs:
            # A reset forgets what is selected, and where the list stood.
            bar = self.list.verticalScrollBar()
            assert bar is not None
            before, chosen, self._filling = bar.value(), self._folder.chosen, True
            self.model.put(shown)
            self.choose(*chosen)
            self._filling = False
            bar.setValue(before)
        self.counted.setText(self._folder.trouble if self._folder.trouble else self._count(len(listed), len(shown)))
        colour(self.counted, ALARM if self._folder.trouble else None)

    def _count(self, total: int, shown: int) -> str:
        if total == 0:
            return f"No runs in {self._folder.path} yet. Run a procedure, or choose another folder above."
        if shown == 0:
            return f"None of the {total} runs has these words; search for less."
        what = "1 run" if total == 1 else f"{total} runs"
        return what if shown == total else f"{shown} of {what}"

    def _on_chosen(self) -> None:
        if self._filling:
            return
        selection = self.list.selectionModel()
        assert selection is not None
        rows = sorted(index.row() for index in selection.selectedIndexes())
        self._folder.choose(tuple(self.model.runs[row].path for row in rows))

    def _on_place(self) -> None:
        text = self.place.text().strip()
        self.list.setFocus()
        self._folder.go_to(Path(text).expanduser() if text else None)

    def _on_browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of run files", str(self._folder.path))
        if chosen:
            self._folder.go_to(Path(chosen))
