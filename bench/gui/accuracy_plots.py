"""Curves of accuracy: while a network is trained, and while it is inferred on silicon, with what was predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyqtgraph as pg
from PyQt5.QtGui import QColor
from PyQt5.QtWidgets import QVBoxLayout, QWidget

from bench.figures.style import BLUE, GREEN, ORANGE, VERMILION
from bench.gui.network_work import Foretold
from bench.gui.plot_items import follow_palette
from bench.gui.style import FollowsPalette, note
from models.prediction import InferenceMode

LOOKS = {
    InferenceMode.HOST.value: (BLUE, "host sums"),
    InferenceMode.SENSED.value: (GREEN, "sensed again"),
    InferenceMode.XNOR.value: (VERMILION, "XNOR in array"),
}
HELD_OUT, LEARNING = (BLUE, "held-out samples"), (ORANGE, "training samples, with noise and errors")
BAND_ALPHA = 45
WIDTHS = (5, 3, 2)
"""Of the curves of several ways of inferring, so that equal ones are all seen."""

LEAST_RANGE = 2.0
"""An axis of accuracies shows at least so many percent."""

Curve = tuple[str, str, Sequence[float], Sequence[float]]
"""Name, colour, x and y of a curve; y in percent."""


class PercentPlot(FollowsPalette):
    """Curves in percent, and below them what they are."""

    def __init__(self, along: str, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot = pg.PlotWidget()
        for side in ("left", "bottom"):
            self.plot.getAxis(side).enableAutoSIPrefix(False)
        self.plot.setLabel("left", "right answers (%)")
        self.plot.setLabel("bottom", along)
        self.plot.showGrid(x=True, y=True, alpha=0.2)
        self.plot.setMenuEnabled(False)
        self.plot.setAccessibleName(name)
        self.plot.setMinimumHeight(120)
        self.legend = note()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.legend)
        self.follow_palette()

    def follow_palette(self) -> None:
        """Axes and background as the window is, light or dark."""
        follow_palette(self.plot, self.palette())

    def draw(
        self,
        curves: Sequence[Curve],
        bands: Sequence[tuple[str, float, float, float]],
        most: float,
        widths: Sequence[int],
        settling: float = 0.0,
    ) -> None:
        """Draw curves and bands.

        Args:
            bands: colour, mean, lower and upper bound in percent.
            most: end of the axis along.
            widths: of the curves.
            settling: share of each curve, from its beginning, that may lie outside the axis.
        """
        self.plot.clear()
        ends: list[float] = []
        for hue, mean, low, high in bands:
            ends += [low, high]
            shade = QColor(hue)
            shade.setAlpha(BAND_ALPHA)
            region = pg.LinearRegionItem(
                (low, high), orientation="horizontal", movable=False, brush=shade, pen=pg.mkPen(hue, width=1)
            )
            self.plot.addItem(region, ignoreBounds=True)
            line = pg.InfiniteLine(mean, angle=0, pen=pg.mkPen(hue, width=1, style=pg.QtCore.Qt.PenStyle.DashLine))
            self.plot.addItem(line, ignoreBounds=True)
        for (_, hue, x, y), width in zip(curves, widths, strict=False):
            symbols = {"symbol": "o", "symbolSize": 5, "symbolBrush": hue, "symbolPen": None} if len(x) <= 100 else {}
            self.plot.plot(np.array(x), np.array(y), pen=pg.mkPen(hue, width=width), **symbols)
            settled = y[int(settling * len(y)) :]
            ends += [float(np.min(settled)), float(np.max(settled))] if len(settled) else []
        low, high = (min(ends), max(ends)) if ends else (0.0, 100.0)
        margin = max(0.08 * (high - low), (LEAST_RANGE - (high - low)) / 2, 0.3)
        self.plot.setXRange(0.0, most, padding=0.02)
        self.plot.setYRange(max(0.0, low - margin), min(100.0 + 0.3, high + margin), padding=0.0)


class TrainingPlot(PercentPlot):
    """Accuracy epoch by epoch."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("epoch", "accuracy while training", parent)

    def put(self, epochs: Sequence[tuple[int, float, float]]) -> None:
        """Show these epochs: number, share right held out, share right while learning."""
        number = [float(epoch) for epoch, _, _ in epochs]
        curves = [
            (name, hue, number, [100 * epoch[at] for epoch in epochs])
            for at, (hue, name) in ((1, HELD_OUT), (2, LEARNING))
        ]
        self.draw(curves, (), max([10.0, *number]), (2, 2))
        self.legend.setText("&nbsp;&nbsp; ".join(_mark(hue, name) for hue, name in (HELD_OUT, LEARNING)))


class AccuracyPlot(PercentPlot):
    """Accuracy over the samples answered so far, against the predicted bands."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("samples answered", "accuracy while inferring", parent)

    def put(self, points: Mapping[str, Sequence[tuple[int, float]]], foretold: Foretold | None, samples: int) -> None:
        """Show the accuracy so far in each way of inferring, and what was predicted for all ``samples``."""
        curves = [
            (name, LOOKS[name][0], [float(at) for at, _ in found], [100 * accuracy for _, accuracy in found])
            for name, found in points.items()
        ]
        predicted = {} if foretold is None else foretold.modes
        bands = [(LOOKS[name][0], 100 * one.mean, 100 * one.low, 100 * one.high) for name, one in predicted.items()]
        # the first few samples say little, and would stretch the axis
        self.draw(curves, bands, float(samples), WIDTHS, 0.1)
        names = [name for name in LOOKS if name in points or name in predicted]
        text = "&nbsp;&nbsp; ".join(_mark(*LOOKS[name]) for name in names)
        if bands:
            text += f"<br>Dashed and shaded: predicted mean and 95 % for all {samples} samples."
        self.legend.setText(text)


def _mark(hue: str, name: str) -> str:
    return f"<span style='color:{hue}'>━●━</span> {name}"
