"""What the colours of the map mean: names and numbers of cells, or a scale in units."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PyQt5.QtCore import QRectF, Qt
from PyQt5.QtGui import QColor, QPainter, QPaintEvent, QPalette, QResizeEvent
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

    def show_view(self, view: View, state: ArrayState) -> None:
        """Explain ``view`` of ``state``."""
        self._view = view
        if isinstance(view, CategoryView):
            self._entries = list(zip(view.categories, counts(view, state), strict=True))
        else:
            values = view.values(state)
            self._decades = decades(values)
            self._entries = [(view.missing, int(np.isnan(values).sum())), (view.infinite, int(np.isinf(values).sum()))]
        self._fit()
        self.update()

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        """As many lines as the new width needs."""
        super().resizeEvent(a0)
        self._fit()

    def _fit(self) -> None:
        """As high as it must be: a narrow map has more lines below it, and never fewer than two."""
        lowest = max((top for *_, top in self._places()), default=0.0)
        self.setFixedHeight(round(max(2.9 * self._line, lowest + 1.4 * self._line)))

    @property
    def _line(self) -> int:
        return self.fontMetrics().height()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw it."""
        if self._view is None:
            return
        painter = QPainter(self)
        painter.setPen(self.palette().color(QPalette.ColorRole.WindowText))
        if isinstance(self._view, LogView):
            self._paint_scale(painter, self._view)
        for category, count, left, top in self._places():
            self._paint_entry(painter, category, count, left, top)
        painter.end()

    def _places(self) -> list[tuple[Category, int, float, float]]:
        """Each entry with its place: one beside the other, and below where there is no room; beside a scale first."""
        start, left, top = 2.0, 2.0, 0.2 * self._line
        if isinstance(self._view, LogView):
            beside = self._bar.right() + 1.6 * self._line
            if beside + max(self._entry_width(*entry) for entry in self._entries) <= self.width():
                start = left = beside
            else:
                top += 2.6 * self._line
        found = []
        for category, count in self._entries:
            wide = self._entry_width(category, count)
            if left > start and left + wide > self.width():
                left, top = start, top + 1.3 * self._line
            found.append((category, count, left, top))
            left += wide
        return found

    @property
    def _bar(self) -> QRectF:
        """The scale; its numbers reach beyond its ends."""
        inset = 1.6 * self._line
        width = max(4.0 * self._line, min(BAR_WIDTH * self._line, self.width() - 2 * inset))
        return QRectF(2.0 + inset, 0.2 * self._line, width, 0.9 * self._line)

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

    def _paint_scale(self, painter: QPainter, view: LogView) -> None:
        """The scale with its numbers below."""
        low, high = self._decades
        bar = self._bar
        step = bar.width() / 256
        for index, colour in enumerate(lookup_table(view.colour_map)):
            part = QRectF(bar.left() + index * step, bar.top(), step + 1, bar.height())
            painter.fillRect(part, QColor(*(int(part) for part in colour)))
        painter.drawRect(bar)
        every = max(1, -(-(high - low) // 4))
        for decade in range(low, high + 1, every):
            x = bar.left() + bar.width() * (decade - low) / (high - low)
            painter.drawLine(int(x), int(bar.bottom()), int(x), int(bar.bottom() + 0.25 * self._line))
            place = QRectF(x - 3 * self._line, bar.bottom() + 0.3 * self._line, 6 * self._line, self._line)
            painter.drawText(place, int(Qt.AlignmentFlag.AlignHCenter), si(10.0**decade, view.unit))
