"""Resistances of a cell's two devices along its history, with the pulses that they got."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PyQt5.QtCore import Qt
from PyQt5.QtGui import QPalette
from PyQt5.QtWidgets import QVBoxLayout, QWidget

from bench.figures.style import BLUE, GREEN, VERMILION
from bench.gui.array_state import DEVICE_NAMES
from bench.gui.cell_events import Event, EventKind
from bench.gui.cell_history import Axis
from bench.gui.plot_items import SiAxis, follow_palette
from bench.gui.style import FollowsPalette, note
from models.cells import Device

LOOKS = {Device.BL: (BLUE, "o", "●"), Device.BLB: (VERMILION, "s", "■")}
PULSES = {
    "FORM": ("star", "★"), "SET": ("t1", "▲"), "RESET": ("t", "▼"), "WEAK-RESET": ("t2", "▶"), "CYCLE": ("d", "◆"),
    "SWEEP": ("x", "✕"),
}  # fmt: skip
"""Symbols of what changes devices."""

SPAN = 3.0
"""Pulses stand this factor below the lowest resistance, and open devices above the highest."""


class HistoryPlot(FollowsPalette):
    """The plot, and below it what its symbols mean."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.plot = pg.PlotWidget(axisItems={"left": SiAxis("left")})
        self.plot.setLogMode(y=True)
        self.plot.showGrid(x=True, y=True, alpha=0.2)
        self.plot.setLabel("left", "resistance (Ω)")
        self.plot.setMenuEnabled(False)
        self.plot.setAccessibleName("resistances of the cell along its history")
        self.plot.setMinimumHeight(110)
        self.legend = note()
        self._line = pg.InfiniteLine(angle=90)
        self._axis = Axis.NUMBER
        self._places: dict[int, float] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.legend)
        self.follow_palette()

    def follow_palette(self) -> None:
        """Axes and background as the window is, light or dark."""
        follow_palette(self.plot, self.palette())
        ink = self.palette().color(QPalette.ColorRole.Text)
        self._line.setPen(pg.mkPen(ink, style=Qt.PenStyle.DashLine))

    def put(self, events: Sequence[Event], axis: Axis) -> None:
        """Show these events along ``axis``."""
        self._axis = axis
        self.plot.clear()
        timed = axis is Axis.TIME
        self.plot.setAxisItems({"bottom": pg.DateAxisItem("bottom") if timed else pg.AxisItem("bottom")})
        self.plot.setLabel("bottom", "time of day" if timed else "event number")
        self.follow_palette()
        x = np.array([event.moment for event in events]) if timed else np.arange(len(events), dtype=float)
        self._places = {id(event): float(at) for event, at in zip(events, x, strict=True)}
        ohms = np.array([event.resistance_ohm for event in events])
        finite = ohms[np.isfinite(ohms) & (ohms > 0)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (1e3, 1e5)
        marks = self._resistances(events, x, ohms, high * SPAN) + self._pulses(events, x, low / SPAN)
        self.legend.setText("&nbsp; ".join(marks))
        self.plot.addItem(self._line, ignoreBounds=True)
        self._line.setVisible(False)
        self.plot.autoRange()

    def _resistances(
        self, events: Sequence[Event], x: NDArray[np.float64], ohms: NDArray[np.float64], above: float
    ) -> list[str]:
        marks = []
        for device, (colour, symbol, text) in LOOKS.items():
            mine = np.array([event.devices == (device,) and event.measured for event in events], dtype=bool)
            if not mine.any():
                continue
            pen, open_ones = pg.mkPen(colour), np.isinf(ohms[mine])
            values = np.where(open_ones, np.nan, ohms[mine])
            along, values = _apart(x[mine], values, [event.run for event, own in zip(events, mine, strict=True) if own])
            curve = self.plot.plot(
                along,
                values,
                pen=pen,
                symbol=symbol,
                symbolSize=6,
                symbolBrush=colour,
                symbolPen=None,
                connect="finite",
            )
            curve.setDownsampling(auto=True, method="peak")
            curve.setClipToView(True)
            marks.append(_mark(text, colour, DEVICE_NAMES[device]))
            if open_ones.any():
                places = x[mine][open_ones]
                top = np.full(len(places), above)
                self.plot.plot(places, top, pen=None, symbol="t1", symbolSize=8, symbolBrush=None, symbolPen=pen)
                marks.append(_mark("△", colour, f"{DEVICE_NAMES[device]} open"))
        return marks

    def _pulses(self, events: Sequence[Event], x: NDArray[np.float64], below: float) -> list[str]:
        marks = []
        for name, (symbol, text) in PULSES.items():
            mine = np.array([event.kind is EventKind.PULSE and event.what == name for event in events], dtype=bool)
            if mine.any():
                level = np.full(int(mine.sum()), below)
                self.plot.plot(x[mine], level, pen=None, symbol=symbol, symbolSize=8, symbolBrush=GREEN, symbolPen=None)
                marks.append(_mark(text, GREEN, name))
        return marks

    def point_at(self, event: Event) -> None:
        """Show where an event stands."""
        place = self._places.get(id(event))
        self._line.setVisible(place is not None)
        if place is not None:
            self._line.setPos(place)


def _apart(
    x: NDArray[np.float64], values: NDArray[np.float64], runs: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same points with a gap between runs: nobody knows what happened in between."""
    gaps = [index for index in range(1, len(runs)) if runs[index] != runs[index - 1]]
    return np.insert(x, gaps, x[gaps]), np.insert(values, gaps, np.nan)


def _mark(symbol: str, colour: str, text: str) -> str:
    return f'<span style="color: {colour}">{symbol}</span> {escape(text)}'
