"""What the colours of the map mean: names and numbers of cells, or a scale in units."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PyQt5.QtCore import QRectF, QSize, Qt
from PyQt5.QtGui import QColor, QPainter, QPaintEvent, QPalette
from PyQt5.QtWidgets import QSizePolicy, QWidget

from bench.gui.array_state import ArrayState
from bench.gui.units import si
from bench.gui.views import Category, CategoryView, LogView, View, counts, decades

BAR_WIDTH = 11
"""Of the scale, in heights of a line."""


@cache
def lookup_table(name: str) -> NDArray[np.uint8]:
    """Colours of a colour map, ``(256, 3)``."""
    table: NDArray[np.uint8] = pg.colormap.get(name).getLookupTable(nPts=256, alpha=False)
    return table


class Legend(QWidget):
    """The legend of the view that is shown: in one line below the map where it fits, in more where it must."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view: View | None = None
        self._entries: list[tuple[Category, int]] = []
        self._decades = (0, 1)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """Two lines high; a scale needs the second for its numbers."""
        return QSize(20 * self._line, round(2.9 * self._line))

    def show_view(self, view: View, state: ArrayState) -> None:
        """Explain ``view`` of ``state``."""
        self._view = view
        if isinstance(view, CategoryView):
            self._entries = list(zip(view.categories, counts(view, state), strict=True))
        else:
            values = view.values(state)
            self._decades = decades(values)
            self._entries = [(view.missing, int(np.isnan(values).sum())), (view.infinite, int(np.isinf(values).sum()))]
        self.update()

    @property
    def _line(self) -> int:
        return self.fontMetrics().height()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw it."""
        if self._view is None:
            return
        painter = QPainter(self)
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        left, top = 2.0, 0.2 * self._line
        if isinstance(self._view, LogView):
            left = self._paint_scale(painter, self._view, left, top)
            start = left
        else:
            start = left
        for category, count in self._entries:
            wide = self._entry_width(category, count)
            if left > start and left + wide > self.width():
                left, top = start, top + 1.3 * self._line
            self._paint_entry(painter, category, count, left, top)
            left += wide
        painter.end()

    def _entry(self, category: Category, count: int) -> str:
        return f"{category.label}: {count}"

    def _entry_width(self, category: Category, count: int) -> float:
        return 2.2 * self._line + self.fontMetrics().horizontalAdvance(self._entry(category, count))

    def _paint_entry(self, painter: QPainter, category: Category, count: int, left: float, top: float) -> None:
        square = QRectF(left, top + 1, self._line - 2, self._line - 2)
        painter.fillRect(square, QColor(category.colour))
        painter.drawRect(square)
        place = QRectF(left + 1.4 * self._line, top, self.width(), self._line)
        painter.drawText(place, int(Qt.AlignmentFlag.AlignVCenter), self._entry(category, count))

    def _paint_scale(self, painter: QPainter, view: LogView, left: float, top: float) -> float:
        """The scale with its numbers below, and what it is beside it; returns where the rest may begin."""
        low, high = self._decades
        inset, width, height = 1.2 * self._line, BAR_WIDTH * self._line, 0.9 * self._line
        bar = QRectF(left + inset, top, width, height)
        step = width / 256
        for index, colour in enumerate(lookup_table(view.colour_map)):
            part = QRectF(bar.left() + index * step, top, step + 1, height)
            painter.fillRect(part, QColor(*(int(part) for part in colour)))
        painter.drawRect(bar)
        every = max(1, -(-(high - low) // 4))
        for decade in range(low, high + 1, every):
            x = bar.left() + width * (decade - low) / (high - low)
            painter.drawLine(int(x), int(top + height), int(x), int(top + height + 0.25 * self._line))
            place = QRectF(x - 3 * self._line, top + height + 0.3 * self._line, 6 * self._line, self._line)
            painter.drawText(place, int(Qt.AlignmentFlag.AlignHCenter), si(10.0**decade, view.unit))
        return bar.right() + 1.6 * self._line
