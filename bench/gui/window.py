"""The window: the map in the middle, the bench on the left, the workspace's controls on the right, the log below."""

from __future__ import annotations

from collections.abc import Callable

from PyQt5.QtCore import Qt
from PyQt5.QtGui import QCloseEvent, QKeySequence, QResizeEvent, QShowEvent
from PyQt5.QtWidgets import (
    QAction,
    QActionGroup,
    QApplication,
    QDockWidget,
    QMainWindow,
    QMenu,
    QShortcut,
    QSizePolicy,
    QSplitter,
    QStackedWidget,
    QToolBar,
    QToolButton,
    QWidget,
)

from bench.gui import actions_panel, calibration_panel, network_panel, procedures_panel, runs_panel, wafer_panel
from bench.gui.actions_panel import ActionsPanel
from bench.gui.bench_panel import BenchPanel
from bench.gui.boxes import opens_menu
from bench.gui.calibration_panel import CalibrationPanel
from bench.gui.controller import Controller
from bench.gui.fit_view import FitView
from bench.gui.help import HelpPage, Stop, Tour
from bench.gui.history_view import HistoryView
from bench.gui.live_view import LiveView
from bench.gui.log_panel import LogPanel
from bench.gui.map_pane import MapPane
from bench.gui.memory import Memory
from bench.gui.network_panel import NetworkPanel
from bench.gui.network_view import NetworkView
from bench.gui.procedures_panel import ProceduresPanel
from bench.gui.run_view import RunView
from bench.gui.runs_panel import RunsPanel
from bench.gui.style import Scrolling, recolour
from bench.gui.themes import Theme, apply
from bench.gui.views import VIEWS
from bench.gui.wafer_panel import WaferPanel
from bench.gui.wafer_view import WaferView
from bench.gui.workspace import Workspace

LOG_HEIGHT = 150
AREAS = (
    Qt.DockWidgetArea.LeftDockWidgetArea,
    Qt.DockWidgetArea.RightDockWidgetArea,
    Qt.DockWidgetArea.BottomDockWidgetArea,
)


class Window(QMainWindow):
    """The one window of the bench.

    Args:
        memory: what it remembers from its last time; by default nothing, and nothing is kept.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        super().__init__()
        self.memory = Memory() if memory is None else memory
        self.setWindowTitle("rram-bench")
        self.controller = Controller(self)
        self.bench_panel, self.log_panel = BenchPanel(self.controller), LogPanel(self.controller)
        self.actions_panel, self.history = ActionsPanel(self.controller), HistoryView(self.controller)
        self.procedures_panel, self.live_view = ProceduresPanel(self.controller), LiveView(self.controller)
        self.runs_panel, self.run_view = RunsPanel(self.controller), RunView(self.controller)
        self.calibration_panel, self.fit_view = CalibrationPanel(self.controller), FitView(self.controller)
        self.network_panel, self.network_view = NetworkPanel(self.controller), NetworkView(self.controller)
        self.wafer_view = WaferView(self.controller)
        self.wafer_panel = WaferPanel(self.controller, self.wafer_view.map)
        self.workspaces = (
            Workspace(
                "Cells",
                "do something to the selected cells",
                self.actions_panel,
                self.history,
                actions_panel.HELP,
                0.42,
            ),
            Workspace(
                "Procedures",
                "experiments, and their queue",
                self.procedures_panel,
                self.live_view,
                procedures_panel.HELP,
                0.55,
            ),
            Workspace("Runs", "what was recorded", self.runs_panel, self.run_view, runs_panel.HELP, 0.65),
            Workspace(
                "Calibration",
                "from runs to a device file",
                self.calibration_panel,
                self.fit_view,
                calibration_panel.HELP,
                0.65,
            ),
            Workspace(
                "Network",
                "a network on silicon",
                self.network_panel,
                self.network_view,
                network_panel.HELP,
                0.55,
            ),
            Workspace(
                "Wafer", "die by die on a prober", self.wafer_panel, self.wafer_view, wafer_panel.HELP, 1.0, alone=True
            ),
        )
        self.map_pane = MapPane(self.controller)
        self.array_map, self.cells = self.map_pane.array_map, self.map_pane.cells
        self.tour: Tour | None = None
        self._arranged = False
        self._make_centre()
        self._make_docks()
        self._make_bar()
        self._make_keys()
        self._recall()
        self.controller.ended.connect(self._on_ended)

    @property
    def view(self) -> str:
        """Name of the view of the map that is shown."""
        return self.map_pane.view

    def show_view(self, name: str) -> None:
        """Show the view of the map called ``name``."""
        self.map_pane.show_view(name)

    def showEvent(self, a0: QShowEvent | None) -> None:
        """Share out the space once its size is known."""
        super().showEvent(a0)
        self._arrange()

    def _arrange(self) -> None:
        if self._arranged:
            return
        self._arranged = True
        bench, controls, log = self._docks
        self.resizeDocks([bench, controls], [250, 350], Qt.Orientation.Horizontal)
        self.resizeDocks([log], [max(LOG_HEIGHT, self.height() // 6)], Qt.Orientation.Vertical)
        self._share_out()

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        """A tour that is on follows."""
        super().resizeEvent(a0)
        if self.tour is not None:
            self.tour.place()

    def closeEvent(self, a0: QCloseEvent | None) -> None:
        """Stop whatever runs, reach the safe state, and only then close."""
        assert a0 is not None
        if self.controller.closed:
            a0.accept()
            return
        a0.ignore()
        self._keep()
        self.setWindowTitle("rram-bench: switching the outputs off …")
        self.controller.close()

    def _on_ended(self) -> None:
        self.close()

    def _make_centre(self) -> None:
        self._views_shown = QStackedWidget()
        self._controls_shown = QStackedWidget()
        for workspace in self.workspaces:
            self._views_shown.addWidget(workspace.view)
            self._controls_shown.addWidget(Scrolling(workspace.controls))
        self._split = QSplitter(Qt.Orientation.Horizontal)
        self._split.addWidget(self.map_pane)
        self._split.addWidget(self._views_shown)
        self._split.setChildrenCollapsible(False)
        self._split.splitterMoved.connect(self._remember_share)
        self._shares = {workspace.name: workspace.share for workspace in self.workspaces} | self.memory.shares
        self.setCentralWidget(self._split)

    def _make_docks(self) -> None:
        left, right, bottom = AREAS
        self.setCorner(Qt.Corner.BottomLeftCorner, left)
        self.setCorner(Qt.Corner.BottomRightCorner, right)
        self._docks = [
            self._dock("Bench", self.bench_panel, left),
            self._dock("Controls", self._controls_shown, right),
            self._dock("Log", self.log_panel, bottom),
        ]
        self.help_page = HelpPage(self)
        self.addDockWidget(right, self.help_page)
        self.help_page.hide()

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
        space = QWidget()
        space.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self._bar.addWidget(space)
        menu = QMenu(self)
        self.theme_actions: dict[Theme, QAction] = {}
        looks = QActionGroup(self)
        for theme in Theme:
            action = QAction(f"Look: {theme}", self)
            action.setCheckable(True)
            action.triggered.connect(lambda _, theme=theme: self.use_theme(theme))
            looks.addAction(action)
            menu.addAction(action)
            self.theme_actions[theme] = action
        menu.addSeparator()
        menu.addAction("Layout as at the first start", self.forget_layout)
        menu.addAction("Show the tour", self.start_tour)
        look = QToolButton()
        look.setToolTip("light and dark, layout, tour")
        opens_menu(look, "Window", menu)
        self._bar.addWidget(look)
        help_action = QAction("Help (F1)", self)
        help_action.setShortcut(QKeySequence("F1"))
        help_action.setToolTip("what this workspace is for, and the keys (F1)")
        help_action.triggered.connect(self.toggle_help)
        self._bar.addAction(help_action)
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
        self.map_pane.setVisible(not self.workspace.alone)
        self._docks[1].setWindowTitle(name)
        self.help_page.show_about(name, self.workspaces[index].help)
        self._share_out()

    def toggle_help(self) -> None:
        """Show the help page, or hide it."""
        self.help_page.setVisible(not self.help_page.isVisible())

    def use_theme(self, theme: Theme) -> None:
        """Light, dark, or as the desktop is; remembered."""
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        self.memory.theme = theme
        self.theme_actions[theme].setChecked(True)
        apply(app, theme)
        recolour(self)

    def forget_layout(self) -> None:
        """Everything where it was at the first start."""
        for dock, area in zip(self._docks, AREAS, strict=True):
            dock.setFloating(False)
            self.addDockWidget(area, dock)
        self._shares = {workspace.name: workspace.share for workspace in self.workspaces}
        self._arranged = False
        self._arrange()
        self.memory.layout, self.memory.shares = None, {}

    def start_tour(self) -> None:
        """Point at one part after the other."""
        if self.tour is None:
            self.tour = Tour(self, tour_stops(self), self._on_tour_over)

    def _on_tour_over(self) -> None:
        self.tour = None
        self.memory.toured = True

    def _recall(self) -> None:
        """As it was left; what was kept of another layout is not used."""
        kept = self.memory.layout
        if kept is not None:
            geometry, state = kept
            self._arranged = self.restoreGeometry(geometry) and self.restoreState(state)
        if self.memory.theme is not Theme.DESKTOP:
            self.use_theme(self.memory.theme)
        self.theme_actions[self.memory.theme].setChecked(True)
        if (wafer := self.memory.wafer) is not None:
            self.wafer_panel.open(wafer)

    def _keep(self) -> None:
        self.memory.layout = self.saveGeometry(), self.saveState()
        self.memory.shares = self._shares
        if self.controller.bench is not None:
            self.memory.bench = self.controller.bench.source, self.controller.bench.seed
        if (wafer := self.wafer_panel.opened) is not None:
            self.memory.wafer = wafer

    def _share_out(self) -> None:
        if self.workspace.alone:
            return
        width, share = self._split.width(), self._shares[self.workspace.name]
        self._split.setSizes([round(width * (1 - share)), round(width * share)])

    def _remember_share(self, *_: int) -> None:
        map_width, view_width = self._split.sizes()
        self._shares[self.workspace.name] = view_width / max(1, map_width + view_width)

    def _make_keys(self) -> None:
        off = QShortcut(QKeySequence("F12"), self)
        # In every window of this program, and whichever of two windows of the bench it may be meant for.
        off.setContext(Qt.ShortcutContext.ApplicationShortcut)
        off.activated.connect(self.controller.outputs_off)
        off.activatedAmbiguously.connect(self.controller.outputs_off)
        QShortcut(QKeySequence("Ctrl+M"), self, self.array_map.setFocus)
        for index, view in enumerate(VIEWS):
            QShortcut(QKeySequence(f"Ctrl+{index + 1}"), self, lambda name=view.name: self.show_view(name))


def tour_stops(window: Window) -> list[Stop]:
    """What a newcomer is shown, in the order of the first ten minutes."""

    def at(name: str) -> Callable[[], None]:
        return lambda: window.show_workspace(name)

    return [
        Stop(
            "the bench",
            "Who answers, and what stands on the rails: set, and as measured. What is not known is called UNKNOWN.",
            lambda: window.bench_panel,
        ),
        Stop(
            "Outputs off",
            "This button, or F12, brings every output to 0 V and off at once, whatever else is going on.",
            lambda: window.bench_panel.off_button,
        ),
        Stop(
            "the array",
            "Every square is a 2T2R cell. Drag to select cells; choose above what the colours show.",
            lambda: window.map_pane,
            at("Cells"),
        ),
        Stop(
            "cells",
            "Form the virgin chip first, then program and read. Each button says what it will do before it does it.",
            lambda: window.actions_panel,
            at("Cells"),
        ),
        Stop(
            "procedures",
            "Experiments with all their parameters, what they would take, a queue, and live plots.",
            lambda: window.procedures_panel,
            at("Procedures"),
        ),
        Stop(
            "calibration",
            "Runs are fitted into a device file, which then predicts how a network will do on this silicon.",
            lambda: window.calibration_panel,
            at("Calibration"),
        ),
        Stop(
            "the network",
            "Train or open one, program it tile by tile, infer, and see whether it came out as predicted.",
            lambda: window.network_panel,
            at("Network"),
        ),
        Stop(
            "the log",
            "What is under way with the time left, Pause and Stop, and a line for everything that was done.",
            lambda: window.log_panel,
            at("Cells"),
        ),
    ]
