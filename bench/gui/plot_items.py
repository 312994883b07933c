"""Parts of live plots: an axis with SI prefixes, and points that are drawn fast enough to follow a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PyQt5.QtCore import QRectF, Qt
from PyQt5.QtGui import QPainter, QPalette, QPen, QPolygonF
from PyQt5.QtWidgets import QWidget

from bench.gui.units import PREFIXES

Floats = NDArray[np.float64]

SHORT = 1.2
"""Decades of a logarithmic axis below which each of its digits has a number."""


class SiAxis(pg.AxisItem):  # type: ignore[misc]
    """An axis whose numbers have SI prefixes, also where it is logarithmic: 1 k, 10 k, 100 k."""

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        """Texts for ticks at these values."""
        if self.logMode:
            return [self._decade(value) for value in values]
        if not len(values):
            return []
        power = _power(max(abs(value) for value in values))
        # As many digits as tell neighbours apart.
        digits = max(0, int(np.ceil(-np.log10(spacing / 10.0**power) - 1e-9))) if spacing > 0 else 3
        return [f"{value / 10.0**power:.{digits}f} {PREFIXES[power]}".strip() for value in values]

    def _decade(self, value: float) -> str:
        exponent = int(np.floor(value + 1e-9))
        digit = 10.0 ** (value - exponent)
        shown = range(1, 10) if self.range[1] - self.range[0] < SHORT else (1, 2, 5)
        if abs(digit - round(digit)) > 1e-6 or round(digit) not in shown:
            return ""
        power = 0 if abs(exponent) < 3 else min(max(3 * (exponent // 3), min(PREFIXES)), max(PREFIXES))
        return f"{round(digit) * 10.0 ** (exponent - power):g} {PREFIXES[power]}".strip()


def follow_palette(plot: pg.PlotWidget, palette: QPalette) -> None:
    """Axes and background of a plot as the window is, light or dark."""
    ink = palette.color(QPalette.ColorRole.Text)
    plot.setBackground(palette.color(QPalette.ColorRole.Base))
    for side in ("left", "bottom"):
        axis = plot.getAxis(side)
        axis.setPen(ink)
        axis.setTextPen(ink)


def _power(value: float) -> int:
    exponent = 0 if value == 0 else int(np.floor(np.log10(value) + 1e-9))
    # A figure such as 0.05 or 2000 is read more easily as it is.
    if -2 <= exponent <= 3:
        return 0
    return min(max(3 * (exponent // 3), min(PREFIXES)), max(PREFIXES))


class Points(pg.GraphicsObject):  # type: ignore[misc]
    """Many points of one colour and size, without outlines or tool tips: a tenth of the time of a scatter plot item."""

    def __init__(self) -> None:
        super().__init__()
        self._x = self._y = np.empty(0)
        self._polygon = QPolygonF()
        self._pen = QPen()

    def setData(self, x: Floats, y: Floats, colour: str, size: float) -> None:
        """Show other points; NaN are left out."""
        known = np.isfinite(x) & np.isfinite(y)
        self._x, self._y = x[known], y[known]
        self._polygon = pg.functions.arrayToQPolygonF(self._x, self._y)
        self._pen = pg.mkPen(colour, width=size)
        self._pen.setCapStyle(Qt.PenCapStyle.RoundCap if size > 3 else Qt.PenCapStyle.SquareCap)
        self.prepareGeometryChange()
        self.informViewBoundsChanged()
        self.update()

    def clear(self) -> None:
        """Show none."""
        if len(self._x):
            self.setData(np.empty(0), np.empty(0), "#000000", 1)

    def dataBounds(self, ax: int, frac: float = 1.0, orthoRange: object = None) -> tuple[float | None, float | None]:  # noqa: N803
        """Least and most along an axis, for the automatic range."""
        values = (self._x, self._y)[ax]
        return (float(values.min()), float(values.max())) if len(values) else (None, None)

    def pixelPadding(self) -> float:
        """How far points reach beyond their middles, in pixels."""
        return float(self._pen.widthF() / 2)

    def boundingRect(self) -> QRectF:
        """What is painted in."""
        if not len(self._x):
            return QRectF()
        left, top = float(self._x.min()), float(self._y.min())
        return QRectF(left, top, float(self._x.max()) - left, float(self._y.max()) - top)

    def paint(self, painter: QPainter, option: object, widget: QWidget | None = None) -> None:
        """Draw them, in pixels: the scales of the axes would stretch each point."""
        points = painter.transform().map(self._polygon)
        painter.save()
        painter.resetTransform()
        painter.setPen(self._pen)
        painter.drawPoints(points)
        painter.restore()
