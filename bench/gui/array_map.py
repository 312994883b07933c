"""The picture of the array: one square per cell, axes, the outline of the selection, mouse and keyboard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PyQt5.QtCore import QEvent, QPointF, QRectF, Qt, pyqtSignal
from PyQt5.QtGui import QKeyEvent, QPalette
from PyQt5.QtWidgets import QVBoxLayout, QWidget

from bench.gui.folding import GAP, Folding
from bench.gui.selection import Selection, outline
from bench.gui.style import FollowsPalette
from models.cells import Geometry

OUTLINE = "#111111"
GRID_UP_TO = 128
UNDO_STEPS = 50
ARROWS = {
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
}


class CellAxis(pg.AxisItem):  # type: ignore[misc]
    """An axis whose ticks stand on cells, never between them or beside the array; parts side by side count afresh.

    Attributes:
        count: cells along the axis of one part.
        parts: how many parts stand along it, each ``count`` cells and a gap long.
    """

    count = 1
    parts = 1

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, list[float]]]:  # noqa: N803
        """Ticks within the array, as (spacing, positions)."""
        if self.parts == 1:
            levels = super().tickValues(minVal, maxVal, size)
            return [(spacing, [tick for tick in ticks if 0 <= tick < self.count]) for spacing, ticks in levels]
        # Side by side: the first column of each part, and more where there is room for their numbers.
        step = self.count + GAP
        shown = size / max(maxVal - minVal, 1e-9)
        between = next((every for every in (1, 2, 5, 10, 20, 50, 100) if every * shown > 28), self.count)
        ticks = [part * step + col for part in range(self.parts) for col in range(0, self.count, between)]
        return [(float(between), [float(tick) for tick in ticks if minVal <= tick <= maxVal])]

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, float]]:  # noqa: N803
        """Spacings of the ticks, at least one cell."""
        spacings = super().tickSpacing(minVal, maxVal, size)
        return [(max(1.0, float(round(spacing))), 0.0) for spacing, _ in spacings]

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        """Columns count from zero in each part."""
        if self.parts == 1:
            return list(super().tickStrings(values, scale, spacing))
        return [str(round(value) % (self.count + GAP)) for value in values]


class SelectingViewBox(pg.ViewBox):  # type: ignore[misc]
    """Left drag selects; the wheel zooms, the middle button moves the picture, the right one zooms."""

    dragged = pyqtSignal(object, object, bool, bool)
    clicked = pyqtSignal(object, bool)

    def mouseDragEvent(self, ev: Any, axis: int | None = None) -> None:
        """Report a left drag from its first to its present point, and whether it ended; others as usual."""
        if ev.button() != Qt.MouseButton.LeftButton or axis is not None:
            super().mouseDragEvent(ev, axis)
            return
        ev.accept()
        first, last = self.mapToView(ev.buttonDownPos()), self.mapToView(ev.pos())
        self.dragged.emit(first, last, _adding(ev), bool(ev.isFinish()))

    def mouseClickEvent(self, ev: Any) -> None:
        """Report a left click; others as usual."""
        if ev.button() != Qt.MouseButton.LeftButton:
            super().mouseClickEvent(ev)
            return
        ev.accept()
        self.clicked.emit(self.mapToView(ev.pos()), _adding(ev))


class ArrayMap(FollowsPalette):
    """The array on the screen.

    Signals: ``selected()`` when the selection changed; ``hovered(cell)`` with ``(row, col)`` or None.
    """

    selected = pyqtSignal()
    hovered = pyqtSignal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.selection = Selection(Geometry(1, 1))
        self.folding = Folding.of(self.selection.geometry)
        self._past: list[NDArray[np.bool_]] = []
        self._future: list[NDArray[np.bool_]] = []
        self._now = self.selection.mask
        self._box = SelectingViewBox(lockAspect=True, invertY=True, enableMenu=False)
        self._axes = axes = {side: CellAxis(side) for side in ("left", "bottom")}
        self._plot = pg.PlotWidget(self, viewBox=self._box, axisItems=axes)
        self._plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for side in ("left", "bottom"):
            axes[side].enableAutoSIPrefix(False)
        self._image = pg.ImageItem(axisOrder="row-major")
        self._grid = pg.PlotCurveItem(pen=pg.mkPen(255, 255, 255, 150), connect="pairs")
        self._halo = pg.PlotCurveItem(pen=pg.mkPen("#ffffff", width=5), connect="pairs")
        self._outline = pg.PlotCurveItem(pen=pg.mkPen(OUTLINE, width=2.5), connect="pairs")
        self._marks = pg.ScatterPlotItem(symbol="o", brush=None, pen=pg.mkPen("#d6006c", width=2.5), pxMode=False)
        for item in (self._image, self._grid, self._marks, self._halo, self._outline):
            self._plot.addItem(item, ignoreBounds=item is not self._image)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._plot)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(260, 240)
        self._zoomed = False
        self._box.sigRangeChangedManually.connect(self._on_zoomed)
        self._box.sigResized.connect(self._on_resized)
        self._box.dragged.connect(self._on_dragged)
        self._box.clicked.connect(self._on_clicked)
        self._plot.scene().sigMouseMoved.connect(self._on_moved)
        self.follow_palette()

    def follow_palette(self) -> None:
        """Axes and background as the window is, light or dark."""
        text = self.palette().color(QPalette.ColorRole.WindowText)
        self._plot.setBackground(self.palette().color(QPalette.ColorRole.Window))
        for axis in self._axes.values():
            axis.setPen(text)
            axis.setTextPen(text)

    def set_geometry(self, geometry: Geometry) -> None:
        """Show an array of another size, all its cells selected."""
        self.selection = Selection(geometry)
        self.folding = fold = Folding.of(geometry)
        self._past, self._future, self._now = [], [], self.selection.mask
        left, bottom = self._axes["left"], self._axes["bottom"]
        left.count, bottom.count, bottom.parts = fold.height, geometry.cols, fold.parts
        beside = "" if fold.parts == 1 else f", {fold.parts} parts of {fold.height} rows side by side"
        left.setLabel("row (word line)")
        bottom.setLabel(f"column (BL and BLb){beside}")
        size = max(fold.size)
        self._box.setLimits(xMin=-3 * size, xMax=4 * size, yMin=-3 * size, yMax=4 * size)
        self._grid.setData(*_grid_lines(fold))
        self.mark(None)
        self._show_selection()
        self.whole()

    def whole(self) -> None:
        """Zoom so that the whole array is seen."""
        height, width = self.folding.size
        self._zoomed = False
        self._box.setRange(QRectF(-0.5, -0.5, width, height), padding=0.02)

    def mark(self, cells: NDArray[np.bool_] | None) -> None:
        """Put rings around the cells of a mask; None takes them away."""
        places = [] if cells is None else [self.folding.place(*cell) for cell in np.argwhere(cells).tolist()]
        self._marks.setData([column for _, column in places], [line for line, _ in places], size=1.3)

    def undo(self) -> None:
        """Go back to the selection before."""
        self._step(self._past, self._future)

    def redo(self) -> None:
        """Take the last undo back."""
        self._step(self._future, self._past)

    def _step(self, source: list[NDArray[np.bool_]], other: list[NDArray[np.bool_]]) -> None:
        if source:
            other.append(self._now)
            self._now = source.pop()
            self.selection.put(self._now)
            self._show_selection(keep=False)

    def draw(self, pixels: NDArray[np.uint8]) -> None:
        """Show the colours of the cells, ``(rows, cols, 3)``."""
        gap = self.palette().color(QPalette.ColorRole.Window)
        shown = self.folding.unfold(pixels, (gap.red(), gap.green(), gap.blue()))
        self._image.setImage(shown, autoLevels=False, levels=(0, 255))
        self._image.setRect(QRectF(-0.5, -0.5, shown.shape[1], shown.shape[0]))

    def keyed(self, key: Qt.Key) -> None:
        """What pressing ``key`` in the map does."""
        self.keyPressEvent(QKeyEvent(QEvent.Type.KeyPress, key, Qt.KeyboardModifier.NoModifier))

    def select(self, mask: NDArray[np.bool_]) -> None:
        """Select exactly the cells of ``mask``."""
        self.selection.put(mask)
        self._show_selection()

    def cell_at(self, point: QPointF) -> tuple[int, int] | None:
        """Cell under a point of the plot, None outside the array."""
        return self.folding.cell(*_on_screen(point))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Keys of the map: arrows, Shift+arrows, Ctrl+A, Escape, R, C, I, Ctrl+Z, Ctrl+Y, plus, minus, Home."""
        assert event is not None
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        if event.key() in ARROWS:
            extend = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self.selection.move(*ARROWS[Qt.Key(event.key())], extend)
        elif event.key() == Qt.Key.Key_Escape:
            self.selection.nothing()
        elif event.key() == Qt.Key.Key_A and control:
            self.selection.everything()
        elif event.key() in (Qt.Key.Key_R, Qt.Key.Key_C) and not control:
            self.selection.whole_lines(event.key() == Qt.Key.Key_R)
        elif event.key() == Qt.Key.Key_I and not control:
            self.selection.the_others()
        elif event.key() in (Qt.Key.Key_Z, Qt.Key.Key_Y) and control:
            (self.undo if event.key() == Qt.Key.Key_Z else self.redo)()
            return
        elif event.key() in (Qt.Key.Key_Plus, Qt.Key.Key_Minus):
            factor = 0.8 if event.key() == Qt.Key.Key_Plus else 1.25
            self._box.scaleBy((factor, factor))
            self._zoomed = True
            return
        elif event.key() == Qt.Key.Key_Home:
            self.whole()
            return
        else:
            super().keyPressEvent(event)
            return
        self._show_selection()

    def _nearest(self, point: QPointF) -> tuple[int, int]:
        return self.folding.nearest(*_on_screen(point))

    def _on_zoomed(self, *_: object) -> None:
        self._zoomed = True

    def _on_resized(self, *_: object) -> None:
        if not self._zoomed:
            self.whole()

    def _on_dragged(self, first: QPointF, last: QPointF, add: bool, finished: bool) -> None:
        self.setFocus()
        if add:
            # Added to what was selected before the drag, not to where it has been: it may go back.
            self.selection.put(self._now)
        self.selection.rectangle(self._nearest(first), self._nearest(last), add)
        self._show_selection(keep=finished)

    def _on_clicked(self, point: QPointF, toggle: bool) -> None:
        self.setFocus()
        cell = self.cell_at(point)
        if cell is None:
            self.selection.nothing()
        elif toggle:
            self.selection.toggle(cell)
        else:
            self.selection.rectangle(cell, cell)
        self._show_selection()

    def _on_moved(self, position: QPointF) -> None:
        inside = self._box.sceneBoundingRect().contains(position)
        self.hovered.emit(self.cell_at(self._box.mapSceneToView(position)) if inside else None)

    def _show_selection(self, keep: bool = True) -> None:
        """Draw it and tell of it; with ``keep`` the one before can be gone back to."""
        if keep and not np.array_equal(self._now, self.selection.mask):
            self._past = [*self._past[-UNDO_STEPS + 1 :], self._now]
            self._future.clear()
        if keep:
            self._now = self.selection.mask.copy()
        x, y = outline(self.folding.unfold(self.selection.mask, False).astype(bool))
        self._halo.setData(x, y)
        self._outline.setData(x, y)
        self.selected.emit()


def _adding(event: Any) -> bool:
    return bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)


def _on_screen(point: QPointF) -> tuple[int, int]:
    return int(np.floor(point.y() + 0.5)), int(np.floor(point.x() + 0.5))


def _grid_lines(folding: Folding) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lines between the cells as pairs of points; none where the cells are too many to tell apart."""
    height, width = folding.size
    if max(height, width) > GRID_UP_TO:
        return np.empty(0), np.empty(0)
    across, down = np.arange(1, width) - 0.5, np.arange(1, height) - 0.5
    x = np.concatenate([np.repeat(across, 2), np.tile([-0.5, width - 0.5], height - 1)])
    y = np.concatenate([np.tile([-0.5, height - 0.5], width - 1), np.repeat(down, 2)])
    return x, y
