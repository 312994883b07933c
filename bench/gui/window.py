"""The window: the map in the middle, the bench on the left, the workspace's controls on the right, the log below."""

from __future__ import annotations

from PyQt5.QtCore import Qt, QTimer
from PyQt5.QtGui import QCloseEvent, QKeySequence, QShowEvent
from PyQt5.QtWidgets import (
    QAction,
    QActionGroup,
    QButtonGroup,
    QDockWidget,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMainWindow,
    QShortcut,
    QSplitter,
    QStackedWidget,
    QToolBar,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from bench.cells import parse_cells
from bench.gui.actions_panel import ActionsPanel
from bench.gui.array_map import ArrayMap
from bench.gui.bench_panel import BenchPanel
from bench.gui.calibration_panel import CalibrationPanel
from bench.gui.controller import Controller
from bench.gui.fit_view import FitView
from bench.gui.history_view import HistoryView
from bench.gui.legend import Legend, lookup_table
from bench.gui.live_view import LiveView
from bench.gui.log_panel import LogPanel
from bench.gui.network_panel import NetworkPanel
from bench.gui.network_view import NetworkView
from bench.gui.procedures_panel import ProceduresPanel
from bench.gui.run_view import RunView
from bench.gui.runs_panel import RunsPanel
from bench.gui.style import CHECKED_BUTTON, Scrolling, note
from bench.gui.views import VIEWS, image
from bench.gui.workspace import Workspace
from models.exceptions import UserMistake

REDRAW_MS = 40
LOG_HEIGHT = 170
HELP = (
    "Drag selects a rectangle, click a cell, Ctrl adds; arrows move, Shift extends; Ctrl+A all, Esc none; "
    "the wheel zooms, Home shows everything."
)


class Window(QMainWindow):
    """The one window of the bench."""

    def __init__(self) -> None:
        super().__init__()
        self.setWindowTitle("rram-bench")
        self.controller = Controller(self)
        self.bench_panel, self.log_panel = BenchPanel(self.controller), LogPanel(self.controller)
        self.actions_panel, self.history = ActionsPanel(self.controller), HistoryView(self.controller)
        self.procedures_panel, self.live_view = ProceduresPanel(self.controller), LiveView(self.controller)
        self.runs_panel, self.run_view = RunsPanel(self.controller), RunView(self.controller)
        self.calibration_panel, self.fit_view = CalibrationPanel(self.controller), FitView(self.controller)
        self.network_panel, self.network_view = NetworkPanel(self.controller), NetworkView(self.controller)
        self.workspaces = (
            Workspace("Cells", "do something to the selected cells", self.actions_panel, self.history, 0.42),
            Workspace("Procedures", "experiments, and their queue", self.procedures_panel, self.live_view, 0.55),
            Workspace("Runs", "what was recorded", self.runs_panel, self.run_view, 0.65),
            Workspace("Calibration", "from runs to a device file", self.calibration_panel, self.fit_view, 0.65),
            Workspace("Network", "a network on silicon", self.network_panel, self.network_view, 0.55),
        )
        self.array_map, self.legend = ArrayMap(), Legend()
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_MS)
        self._redraw.timeout.connect(self.redraw)
        self._make_centre()
        self._make_docks()
        self._make_bar()
        self._make_keys()
        self.controller.array_changed.connect(self._on_array_changed)
        self.controller.bench_changed.connect(self._on_bench_changed)
        self.controller.busy_changed.connect(self._refresh_empty)
        self.controller.ended.connect(self._on_ended)
        self.array_map.selected.connect(self._on_selected)
        self.array_map.hovered.connect(self._on_hovered)
        self._on_bench_changed()

    @property
    def view(self) -> str:
        """Name of the view that is shown."""
        return VIEWS[self._views.checkedId()].name

    def show_view(self, name: str) -> None:
        """Show the view called ``name``."""
        index = [view.name for view in VIEWS].index(name)
        button = self._views.button(index)
        assert button is not None
        button.setChecked(True)
        self.redraw()

    def redraw(self) -> None:
        """Draw the map and its legend afresh."""
        state = self.controller.state
        if state is None:
            return
        view = VIEWS[self._views.checkedId()]
        self.array_map.draw(image(view, state, lookup_table))
        self.legend.show_view(view, state)
        self._on_hovered(self._hovered)

    def showEvent(self, a0: QShowEvent | None) -> None:
        """Share out the space once its size is known."""
        super().showEvent(a0)
        bench, controls, log = self._docks
        self.resizeDocks([bench, controls], [250, 350], Qt.Orientation.Horizontal)
        self.resizeDocks([log], [max(LOG_HEIGHT, self.height() // 6)], Qt.Orientation.Vertical)
        self._share_out()

    def closeEvent(self, a0: QCloseEvent | None) -> None:
        """Stop whatever runs, reach the safe state, and only then close."""
        assert a0 is not None
        if self.controller.closed:
            a0.accept()
            return
        a0.ignore()
        self.setWindowTitle("rram-bench: switching the outputs off …")
        self.controller.close()

    def _on_ended(self) -> None:
        self.close()

    def _make_centre(self) -> None:
        self._hovered: tuple[int, int] | None = None
        self._views = QButtonGroup(self)
        bar = QHBoxLayout()
        bar.setSpacing(2)
        for index, view in enumerate(VIEWS):
            button = QToolButton()
            button.setText(view.name)
            button.setToolTip(f"{view.help} (Ctrl+{index + 1})")
            button.setCheckable(True)
            button.setStyleSheet(CHECKED_BUTTON)
            button.setChecked(index == 0)
            self._views.addButton(button, index)
            bar.addWidget(button)
        bar.addStretch(1)
        self._views.idClicked.connect(self.redraw)
        self._facts = note()
        self._facts.setFixedHeight(2 * self.fontMetrics().lineSpacing() + 2)
        self._selected = QLabel()
        self.cells = QLineEdit()
        self.cells.setPlaceholderText("select: all, or 0:4,0:4 or 3,: joined by +")
        self.cells.setToolTip("Rows,columns from zero; START:STOP leaves STOP out. Several are joined by +.")
        self.cells.returnPressed.connect(self._on_cells_written)
        below = QHBoxLayout()
        below.addWidget(self._selected, 1)
        below.addWidget(self.cells, 1)
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addLayout(bar)
        layout.addWidget(self.array_map, 1)
        layout.addWidget(self.legend)
        layout.addWidget(self._facts)
        layout.addLayout(below)
        self._empty = note()
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._empty.setMargin(40)
        self._pages = QStackedWidget()
        self._pages.addWidget(self._empty)
        self._pages.addWidget(page)
        self._views_shown = QStackedWidget()
        self._controls_shown = QStackedWidget()
        for workspace in self.workspaces:
            self._views_shown.addWidget(workspace.view)
            self._controls_shown.addWidget(Scrolling(workspace.controls))
        self._split = QSplitter(Qt.Orientation.Horizontal)
        self._split.addWidget(self._pages)
        self._split.addWidget(self._views_shown)
        self._split.setChildrenCollapsible(False)
        self._split.splitterMoved.connect(self._remember_share)
        self._shares = {workspace.name: workspace.share for workspace in self.workspaces}
        self.setCentralWidget(self._split)

    def _make_docks(self) -> None:
        areas = Qt.DockWidgetArea
        left, right, bottom = areas.LeftDockWidgetArea, areas.RightDockWidgetArea, areas.BottomDockWidgetArea
        self.setCorner(Qt.Corner.BottomLeftCorner, left)
        self.setCorner(Qt.Corner.BottomRightCorner, right)
        self._docks = [
            self._dock("Bench", self.bench_panel, left),
            self._dock("Controls", self._controls_shown, right),
            self._dock("Log", self.log_panel, bottom),
        ]

    def _dock(self, title: str, content: QWidget, area: Qt.DockWidgetArea) -> QDockWidget:
        dock = QDockWidget(title, self)
        dock.setObjectName(title)
        kinds = QDockWidget.DockWidgetFeature
        dock.setFeatures(QDockWidget.DockWidgetFeatures() | kinds.DockWidgetMovable | kinds.DockWidgetFloatable)
        dock.setWidget(content)
        self.addDockWidget(area, dock)
        return dock

    def _make_bar(self) -> None:
        """One button for each workspace, above everything."""
        self._bar = QToolBar("Workspaces")
        self._bar.setObjectName("Workspaces")
        self._bar.setMovable(False)
        self._bar.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)
        group = QActionGroup(self)
        for index, workspace in enumerate(self.workspaces):
            action = QAction(workspace.name, self)
            action.setCheckable(True)
            action.setShortcut(QKeySequence(f"Alt+{index + 1}"))
            action.setToolTip(f"{workspace.about} (Alt+{index + 1})")
            action.triggered.connect(lambda _, name=workspace.name: self.show_workspace(name))
            group.addAction(action)
            self._bar.addAction(action)
        self.addToolBar(Qt.ToolBarArea.TopToolBarArea, self._bar)
        self.controller.workspace_wanted.connect(self.show_workspace)
        self.show_workspace(self.workspaces[0].name)

    @property
    def workspace(self) -> Workspace:
        """The one that is shown."""
        return self.workspaces[self._views_shown.currentIndex()]

    def show_workspace(self, name: str) -> None:
        """Show the workspace called ``name``; the map keeps its place."""
        index = [workspace.name for workspace in self.workspaces].index(name)
        self._bar.actions()[index].setChecked(True)
        self._views_shown.setCurrentIndex(index)
        self._controls_shown.setCurrentIndex(index)
        self._docks[1].setWindowTitle(name)
        self._share_out()

    def _share_out(self) -> None:
        width, share = self._split.width(), self._shares[self.workspace.name]
        self._split.setSizes([round(width * (1 - share)), round(width * share)])

    def _remember_share(self, *_: int) -> None:
        map_width, view_width = self._split.sizes()
        self._shares[self.workspace.name] = view_width / max(1, map_width + view_width)

    def _make_keys(self) -> None:
        QShortcut(QKeySequence("F12"), self, self.controller.outputs_off)
        for index, view in enumerate(VIEWS):
            QShortcut(QKeySequence(f"Ctrl+{index + 1}"), self, lambda name=view.name: self.show_view(name))

    def _on_bench_changed(self) -> None:
        state = self.controller.state
        self._pages.setCurrentIndex(0 if state is None else 1)
        self._refresh_empty()
        if state is not None:
            self.array_map.set_geometry(state.geometry)
            self.redraw()
            self.array_map.setFocus()

    def _refresh_empty(self) -> None:
        busy = self.controller.busy
        if busy is not None:
            self._empty.setText(f"{busy.title} …")
        else:
            self._empty.setText(
                "No bench is connected.\n\nChoose one on the left and press Connect. "
                "The simulated bench needs nothing but this computer."
            )

    def _on_array_changed(self) -> None:
        if not self._redraw.isActive():
            self._redraw.start()

    def _on_selected(self) -> None:
        selection = self.array_map.selection
        self._selected.setText(f"Selected: {selection.text()}")
        self.controller.select(selection)

    def _on_hovered(self, cell: tuple[int, int] | None) -> None:
        self._hovered = cell
        state = self.controller.state
        self._facts.setText(HELP if cell is None or state is None else state.describe(*cell))

    def _on_cells_written(self) -> None:
        try:
            mask = parse_cells(self.cells.text(), self.array_map.selection.geometry)
        except UserMistake as error:
            self.controller.complain("Select", str(error))
            return
        self.array_map.select(mask)
        self.array_map.setFocus()
