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

BAR_LINES = 9
WIDEST = "not programmed  9999"


@cache
def lookup_table(name: str) -> NDArray[np.uint8]:
    """Colours of a colour map, ``(256, 3)``."""
    table: NDArray[np.uint8] = pg.colormap.get(name).getLookupTable(nPts=256, alpha=False)
    return table


class Legend(QWidget):
    """The legend of the view that is shown."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view: View | None = None
        self._entries: list[tuple[Category, int]] = []
        self._decades = (0, 1)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        """Wide enough for the longest entry."""
        return QSize(self.fontMetrics().horizontalAdvance(WIDEST) + 3 * self._line, 14 * self._line)

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
        top = 0.5 * self._line
        if isinstance(self._view, LogView):
            top = self._paint_scale(painter, self._view, top)
        else:
            self._text(painter, 0, top, "cells")
            top += 1.5 * self._line
        for category, count in self._entries:
            self._paint_entry(painter, category, count, top)
            top += 1.5 * self._line
        painter.end()

    def _text(self, painter: QPainter, left: float, top: float, text: str, right: bool = False) -> None:
        side = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
        flags = int(side | Qt.AlignmentFlag.AlignVCenter)
        painter.drawText(QRectF(left, top, self.width() - left - 2, self._line), flags, text)

    def _paint_entry(self, painter: QPainter, category: Category, count: int, top: float) -> None:
        square = QRectF(1, top + 1, self._line - 2, self._line - 2)
        painter.fillRect(square, QColor(category.colour))
        painter.drawRect(square)
        self._text(painter, 1.5 * self._line, top, category.label)
        self._text(painter, 1.5 * self._line, top, str(count), right=True)

    def _paint_scale(self, painter: QPainter, view: LogView, top: float) -> float:
        low, high = self._decades
        self._text(painter, 0, top, view.quantity)
        top += 2 * self._line
        height, width = BAR_LINES * self._line, 1.2 * self._line
        step = height / 256
        for index, colour in enumerate(lookup_table(view.colour_map)):
            bar = QRectF(1, top + height - (index + 1) * step, width, step + 1)
            painter.fillRect(bar, QColor(*(int(part) for part in colour)))
        painter.drawRect(QRectF(1, top, width, height))
        for decade in range(low, high + 1):
            y = top + height * (high - decade) / (high - low)
            painter.drawLine(int(width + 1), int(y), int(width + 0.4 * self._line), int(y))
            self._text(painter, width + 0.6 * self._line, y - 0.5 * self._line, si(10.0**decade, view.unit))
        return top + height + 1.5 * self._line
