"""The map with all that belongs to it: which view, what its colours mean, which cells are selected, what a cell is."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

from PyQt5.QtCore import Qt, QTimer
from PyQt5.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLineEdit,
    QMenu,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from bench.cells import parse_cells
from bench.gui.array_map import ArrayMap
from bench.gui.boxes import opens_menu
from bench.gui.controller import Controller
from bench.gui.legend import Legend, lookup_table
from bench.gui.pictures import export_picture
from bench.gui.style import Elided, note
from bench.gui.views import VIEWS, image
from data.atomic import write_atomically
from models.exceptions import UserMistake

REDRAW_MS = 40
HINT = "Drag selects, Ctrl adds; a click shows a cell's history. F1: keys."


class MapPane(QWidget):
    """The middle of the window; says what to do while no bench is connected.

    Attributes:
        array_map: the picture.
        cells: the line in which a selection can be written.
        facts: what is known of the cell below the mouse.
    """

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._hovered: tuple[int, int] | None = None
        self.array_map, self.legend = ArrayMap(), Legend()
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_MS)
        self._redraw.timeout.connect(self.redraw)
        self._empty = note()
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._empty.setMargin(20)
        self._pages = QStackedWidget()
        self._pages.addWidget(self._empty)
        self._pages.addWidget(self._make_page())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._pages)
        controller.array_changed.connect(self._on_array_changed)
        controller.bench_changed.connect(self._on_bench_changed)
        controller.busy_changed.connect(self._refresh_empty)
        controller.marked.connect(self._on_marked)
        controller.selection_wanted.connect(self.array_map.select)
        self.array_map.selected.connect(self._on_selected)
        self.array_map.hovered.connect(self._on_hovered)
        self._on_bench_changed()

    @property
    def view(self) -> str:
        """Name of the view that is shown."""
        return VIEWS[self.views.currentIndex()].name

    def show_view(self, name: str) -> None:
        """Show the view called ``name``."""
        self.views.setCurrentIndex([view.name for view in VIEWS].index(name))
        self.redraw()

    def redraw(self) -> None:
        """Draw the map and its legend afresh."""
        state = self._controller.state
        if state is None:
            return
        view = VIEWS[self.views.currentIndex()]
        self.array_map.draw(image(view, state, lookup_table))
        self.legend.show_view(view, state)
        self._on_hovered(self._hovered)

    def export_image(self, path: Path) -> None:
        """Save the map with its legend as a picture, at twice the resolution of the screen."""
        export_picture(self, path, "the map", self._controller)

    def export_data(self, path: Path) -> None:
        """Save what is known of each cell as a table."""
        state = self._controller.state
        if state is None:
            self._controller.complain("Export", "no bench is connected: nothing is known of any cell")
            return
        now = deepcopy(state)  # a large array takes a second, in which a run goes on
        self._controller.write(
            "Export",
            lambda: write_atomically(path, now.table().encode(), "table of the cells"),
            lambda _: self._controller.tell("Export", f"{now.geometry.cells} cells in {path}"),
        )

    def _make_page(self) -> QWidget:
        self.views = QComboBox()
        for index, view in enumerate(VIEWS):
            self.views.addItem(view.name)
            self.views.setItemData(index, f"{view.help} (Ctrl+{index + 1})", Qt.ItemDataRole.ToolTipRole)
        self.views.setAccessibleName("view of the map")
        self.views.currentIndexChanged.connect(self._on_view)
        self._about = Elided()
        self.menu_button = QToolButton()
        self.menu_button.setToolTip("Undo of selections, rows and columns, zoom, export")
        opens_menu(self.menu_button, "Map", self._make_menu())
        bar = QHBoxLayout()
        bar.addWidget(self.views)
        bar.addWidget(self._about, 1)
        bar.addWidget(self.menu_button)
        self._marked = note()
        self._marked.setVisible(False)
        self.facts = note(HINT)
        self.facts.setFixedHeight(2 * self.fontMetrics().lineSpacing() + 2)
        self._selected = Elided()
        self.cells = QLineEdit()
        self.cells.setPlaceholderText("all, or 0:4,0:4 + 7,:")
        self.cells.setToolTip(
            "Cells to select: rows,columns from zero; START:STOP leaves STOP out, : is all. Several are joined by +."
        )
        self.cells.setAccessibleName("cells to select")
        self.cells.returnPressed.connect(self._on_cells_written)
        below = QHBoxLayout()
        below.addWidget(self._selected, 3)
        below.addWidget(self.cells, 2)
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addLayout(bar)
        layout.addWidget(self.array_map, 1)
        layout.addWidget(self.legend)
        for widget in (self._marked, self.facts):
            layout.addWidget(widget)
        layout.addLayout(below)
        self._on_view()
        return page

    def _make_menu(self) -> QMenu:
        menu, board = QMenu(self), self.array_map
        menu.addAction("Undo selection\tCtrl+Z", board.undo)
        menu.addAction("Redo selection\tCtrl+Y", board.redo)
        menu.addAction("Whole rows\tR", lambda: board.keyed(Qt.Key.Key_R))
        menu.addAction("Whole columns\tC", lambda: board.keyed(Qt.Key.Key_C))
        menu.addAction("All other cells\tI", lambda: board.keyed(Qt.Key.Key_I))
        menu.addAction("Show the whole array\tHome", board.whole)
        menu.addAction("Take the marks away", lambda: self._controller.mark(None))
        menu.addSeparator()
        menu.addAction("Export the picture …", self._on_export_image)
        menu.addAction("Export the data …", self._on_export_data)
        return menu

    def _on_view(self) -> None:
        self._about.say(VIEWS[self.views.currentIndex()].help)
        self.redraw()

    def _on_bench_changed(self) -> None:
        state = self._controller.state
        self._pages.setCurrentIndex(0 if state is None else 1)
        self._refresh_empty()
        self._hovered = None  # of the array before, which may have been larger
        if state is not None:
            self.array_map.set_geometry(state.geometry)
            self.redraw()
            self.array_map.setFocus()

    def _refresh_empty(self) -> None:
        busy = self._controller.busy
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
        self._selected.say(f"{selection.text()} selected")
        self._controller.select(selection)

    def _on_hovered(self, cell: tuple[int, int] | None) -> None:
        self._hovered = cell
        state = self._controller.state
        self.facts.setText(HINT if cell is None or state is None else state.describe(*cell))

    def _on_marked(self, cells: object, text: str) -> None:
        state = self._controller.state
        fits = cells is not None and state is not None and getattr(cells, "shape", None) == tuple(state.geometry)
        self.array_map.mark(cells if fits else None)  # type: ignore[arg-type]
        self._marked.setVisible(fits)
        self._marked.setText(f"○ {text}")

    def _on_cells_written(self) -> None:
        try:
            mask = parse_cells(self.cells.text(), self.array_map.selection.geometry)
        except UserMistake as error:
            self._controller.complain("Select", str(error))
            return
        self.array_map.select(mask)
        self.array_map.setFocus()

    def _on_export_image(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Picture of the map", "map.png", "PNG (*.png)")
        if path:
            self.export_image(Path(path))

    def _on_export_data(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "What is known of each cell", "cells.csv", "CSV (*.csv)")
        if path:
            self.export_data(Path(path))
