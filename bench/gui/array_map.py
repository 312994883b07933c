"""The picture of the array: one square per cell, axes, the outline of the selection, mouse and keyboard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PyQt5.QtCore import QPointF, QRectF, Qt, QTimer, pyqtSignal
from PyQt5.QtGui import QKeyEvent, QPalette, QResizeEvent
from PyQt5.QtWidgets import QVBoxLayout, QWidget

from bench.gui.selection import Selection
from models.cells import Geometry

OUTLINE = "#111111"
GRID_UP_TO = 128
ARROWS = {
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
}


class WholeNumberAxis(pg.AxisItem):  # type: ignore[misc]
    """An axis whose ticks stand on cells, never between them or beside the array.

    Attributes:
        count: cells along the axis.
    """

    count = 1

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, list[float]]]:  # noqa: N803
        """Ticks within the array, as (spacing, positions)."""
        levels = super().tickValues(minVal, maxVal, size)
        return [(spacing, [tick for tick in ticks if 0 <= tick < self.count]) for spacing, ticks in levels]

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, float]]:  # noqa: N803
        """Spacings of the ticks, at least one cell."""
        spacings = super().tickSpacing(minVal, maxVal, size)
        return [(max(1.0, float(round(spacing))), 0.0) for spacing, _ in spacings]


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


class ArrayMap(QWidget):
    """The array on the screen.

    Signals: ``selected()`` when the selection changed; ``hovered(cell)`` with ``(row, col)`` or None.
    """

    selected = pyqtSignal()
    hovered = pyqtSignal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.selection = Selection(Geometry(1, 1))
        self._box = SelectingViewBox(lockAspect=True, invertY=True, enableMenu=False)
        self._axes = axes = {side: WholeNumberAxis(side) for side in ("left", "bottom")}
        self._plot = pg.PlotWidget(self, viewBox=self._box, axisItems=axes)
        self._plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        self._plot.setBackground(self.palette().color(QPalette.ColorRole.Window))
        for side, label in (("left", "row (word line)"), ("bottom", "column (BL and BLb)")):
            axes[side].setPen(text)
            axes[side].setTextPen(text)
            axes[side].setLabel(label)
            axes[side].enableAutoSIPrefix(False)
        self._image = pg.ImageItem(axisOrder="row-major")
        self._grid = pg.PlotCurveItem(pen=pg.mkPen(255, 255, 255, 150), connect="pairs")
        self._halo = pg.PlotCurveItem(pen=pg.mkPen("#ffffff", width=5), connect="pairs")
        self._outline = pg.PlotCurveItem(pen=pg.mkPen(OUTLINE, width=2.5), connect="pairs")
        for item in (self._image, self._grid, self._halo, self._outline):
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

    def set_geometry(self, geometry: Geometry) -> None:
        """Show an array of another size, all its cells selected."""
        self.selection = Selection(geometry)
        rows, cols = self._axes["left"].count, self._axes["bottom"].count = geometry
        size = max(rows, cols)
        self._box.setLimits(xMin=-3 * size, xMax=4 * size, yMin=-3 * size, yMax=4 * size)
        self._grid.setData(*_grid_lines(geometry))
        self._show_selection()
        self.whole()

    def whole(self) -> None:
        """Zoom so that the whole array is seen."""
        rows, cols = self.selection.geometry
        self._zoomed = False
        self._box.setRange(QRectF(-0.5, -0.5, cols, rows), padding=0.02)

    def draw(self, pixels: NDArray[np.uint8]) -> None:
        """Show the colours of the cells, ``(rows, cols, 3)``."""
        rows, cols = pixels.shape[:2]
        self._image.setImage(pixels, autoLevels=False, levels=(0, 255))
        self._image.setRect(QRectF(-0.5, -0.5, cols, rows))

    def select(self, mask: NDArray[np.bool_]) -> None:
        """Select exactly the cells of ``mask``."""
        self.selection.put(mask)
        self._show_selection()

    def cell_at(self, point: QPointF) -> tuple[int, int] | None:
        """Cell under a point of the plot, None outside the array."""
        row, col = int(np.floor(point.y() + 0.5)), int(np.floor(point.x() + 0.5))
        rows, cols = self.selection.geometry
        return (row, col) if 0 <= row < rows and 0 <= col < cols else None

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        """Be no wider than the array needs at this height: what is beside the map stays close to it."""
        super().resizeEvent(a0)
        # Not from inside the event: Qt would lay the plot out once more, for the size before.
        QTimer.singleShot(0, self._narrow)

    def _narrow(self) -> None:
        rows, cols = self.selection.geometry
        beside = 6 * self.fontMetrics().height()
        self.setMaximumWidth(max(self.minimumWidth(), int(self.height() * cols / rows) + beside))

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Arrows move the selected cell, with Shift they extend it; Ctrl+A selects all, Escape none; Home zooms out."""
        assert event is not None
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        if event.key() in ARROWS:
            extend = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
            self.selection.move(*ARROWS[Qt.Key(event.key())], extend)
        elif event.key() == Qt.Key.Key_Escape:
            self.selection.nothing()
        elif event.key() == Qt.Key.Key_A and control:
            self.selection.everything()
        elif event.key() == Qt.Key.Key_Home:
            self.whole()
        else:
            super().keyPressEvent(event)
            return
        self._show_selection()

    def _nearest(self, point: QPointF) -> tuple[int, int]:
        rows, cols = self.selection.geometry
        row, col = int(np.floor(point.y() + 0.5)), int(np.floor(point.x() + 0.5))
        return min(max(row, 0), rows - 1), min(max(col, 0), cols - 1)

    def _on_zoomed(self, *_: object) -> None:
        self._zoomed = True

    def _on_resized(self, *_: object) -> None:
        if not self._zoomed:
            self.whole()

    def _on_dragged(self, first: QPointF, last: QPointF, add: bool, finished: bool) -> None:
        self.setFocus()
        self.selection.rectangle(self._nearest(first), self._nearest(last), add)
        self._show_selection()

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

    def _show_selection(self) -> None:
        x, y = self.selection.outline()
        self._halo.setData(x, y)
        self._outline.setData(x, y)
        self.selected.emit()


def _adding(event: Any) -> bool:
    return bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)


def _grid_lines(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lines between the cells as pairs of points; none where the cells are too many to tell apart."""
    rows, cols = geometry
    if max(rows, cols) > GRID_UP_TO:
        return np.empty(0), np.empty(0)
    across, down = np.arange(1, cols) - 0.5, np.arange(1, rows) - 0.5
    x = np.concatenate([np.repeat(across, 2), np.tile([-0.5, cols - 0.5], rows - 1)])
    y = np.concatenate([np.tile([-0.5, rows - 0.5], cols - 1), np.repeat(down, 2)])
    return x, y
