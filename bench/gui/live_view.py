"""Live plots: what the run under way measures, as it comes, with the axes that the field has for it."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
import pyqtgraph as pg
from PyQt5.QtCore import QEvent, QRectF, Qt, QTimer
from PyQt5.QtGui import QPalette, QShowEvent
from PyQt5.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from bench.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION
from bench.gui.controller import Controller
from bench.gui.legend import lookup_table
from bench.gui.live_series import (
    COUNT,
    MAP,
    Choice,
    Drawing,
    Picture,
    colours,
    default,
    draw,
    latest,
    main_table,
    plottable,
)
from bench.gui.live_tables import DEVICE, LiveTable, LiveTables
from bench.gui.plot_items import Points, SiAxis
from bench.gui.style import CHECKED_BUTTON, note
from bench.gui.units import title_of
from bench.procedures import PROCEDURES
from data.runs import Table

REDRAW_MS = 200
SHARE = 5
"""Drawing may take one part in so many of the time."""

SLICE_S = 0.012
"""Longest time for taking in records before the window gets its turn."""

CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, GREY)
MANY_COLOURS = "viridis"
MAP_COLOURS = "cividis"
NAMED = 12
MARKED_UP_TO = 2000
"""Lines of so few points show the points too."""

EMPTY = (
    "Nothing is being measured.\n\nChoose a procedure on the right, look at what it would take, and run it; "
    "what it measures is drawn here as it comes."
)


class LiveView(QWidget):
    """The middle of the window while procedures run.

    Attributes:
        tables: what the run recorded so far.
        choice: what is plotted of the table that is shown; None while there is nothing.
        drawing: what is drawn.
        table, x_axis, y_axis, colour: the selectors; log_x, log_y: the scales.
        hold: while it is down, the picture stands still; everything is taken in all the same.
    """

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self.tables = LiveTables()
        self.choice: Choice | None = None
        self.drawing: Drawing | None = None
        self._schema: dict[str, Table] = {
            table.name: table for procedure in PROCEDURES.values() for table in procedure.tables
        }
        self._waiting: deque[object] = deque()
        self._picked = ""
        self._choices: dict[str, Choice] = {}
        self._filling = False
        self._title = ""
        self._curves: list[tuple[pg.PlotCurveItem, Points]] = []
        self._intake = QTimer(self)
        self._intake.setInterval(0)
        self._intake.timeout.connect(self._take_in)
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_MS)
        self._redraw.timeout.connect(self.redraw)
        self._make()
        controller.stepped.connect(self._on_stepped)
        controller.bench_changed.connect(self._on_bench_changed)

    def redraw(self) -> None:
        """Draw what there is now."""
        if not self.isVisible():
            return
        began = time.perf_counter()
        name = self._picked if self._picked in self.tables.tables else main_table(self.tables.tables)
        if name is None:
            self._pages.setCurrentIndex(0)
            return
        self._pages.setCurrentIndex(1)
        table = self.tables.tables[name]
        chosen = self._choices.get(name)
        choice = default(name, table, self._schema) if chosen is None else chosen
        self._fill(name, table, choice)
        within = None
        if not self._box.autoRangeEnabled()[0]:
            low, high = self._box.viewRange()[0]
            margin = 0.05 * (high - low)
            within = (low - margin, high + margin)
        if choice != self.choice:
            for side, log in (("bottom", choice.log_x), ("left", choice.log_y)):
                self._axes[side].setLogMode(x=log, y=log)
        self.choice, self.drawing = choice, draw(name, table, choice, self._schema, within)
        self._show(self.drawing)
        self._facts.setText(self._footer(name, table, choice, self.drawing))
        # What takes long is done less often: the window must stay quick.
        self._redraw.setInterval(max(REDRAW_MS, round(1000 * SHARE * (time.perf_counter() - began))))

    def show_table(self, name: str) -> None:
        """Show this table from now on, and not the one that tells most."""
        self._picked = name
        self._everything()

    def choose(self, choice: Choice) -> None:
        """Plot the table that is shown in this way from now on."""
        if self.table.currentText():
            self._choices[self.table.currentText()] = choice
            self._everything()

    def changeEvent(self, a0: QEvent | None) -> None:
        """Follow the colours of the desktop."""
        super().changeEvent(a0)
        if a0 is not None and a0.type() == QEvent.Type.PaletteChange:
            self._paint_frame()

    def showEvent(self, a0: QShowEvent | None) -> None:
        """Catch up."""
        super().showEvent(a0)
        if not self.hold.isChecked():
            self.redraw()

    def _make(self) -> None:
        self.table, self.x_axis, self.y_axis, self.colour = (
            self._combo(text) for text in ("table", "x", "y", "colour")
        )
        self.table.setToolTip("Table of the run. The one that tells most is shown until you choose another.")
        self.table.activated.connect(lambda: self.show_table(self.table.currentText()))
        for combo in (self.x_axis, self.y_axis, self.colour):
            combo.activated.connect(self._on_chosen)
        self.log_x, self.log_y = QCheckBox("log x"), QCheckBox("log y")
        for box in (self.log_x, self.log_y):
            box.clicked.connect(self._on_chosen)
        self.hold, self.everything = QToolButton(), QToolButton()
        self.hold.setText("Hold")
        self.hold.setCheckable(True)
        self.hold.setStyleSheet(CHECKED_BUTTON)
        self.hold.setToolTip("The picture stands still; the run goes on, and is recorded.")
        self.hold.toggled.connect(self._later)
        self.everything.setText("Show all")
        self.everything.setToolTip("Axes follow the data again after you zoomed or moved the picture.")
        self.everything.clicked.connect(self._everything)
        grid = QGridLayout()
        grid.setSpacing(3)
        first = QHBoxLayout()
        for widget in (self.table, self.hold, self.everything):
            first.addWidget(widget, 1 if widget is self.table else 0)
        grid.addLayout(first, 0, 0, 1, 5)
        for column, (text, combo) in enumerate((("y", self.y_axis), ("x", self.x_axis))):
            label = QLabel(text)
            label.setBuddy(combo)
            grid.addWidget(label, 1, 2 * column)
            grid.addWidget(combo, 1, 2 * column + 1)
            grid.setColumnStretch(2 * column + 1, 1)
        by = QLabel("by")
        by.setBuddy(self.colour)
        last = QHBoxLayout()
        last.addWidget(self.colour, 1)
        last.addWidget(self.log_y)
        last.addWidget(self.log_x)
        grid.addWidget(by, 2, 0)
        grid.addLayout(last, 2, 1, 1, 3)
        self._axes = {side: SiAxis(side) for side in ("left", "bottom")}
        self._box = pg.ViewBox(enableMenu=False)
        self.plot = pg.PlotWidget(self, viewBox=self._box, axisItems=self._axes)
        self.plot.hideButtons()
        self.plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._box.sigRangeChangedManually.connect(self._later)
        self._image = pg.ImageItem(axisOrder="row-major")
        self.plot.addItem(self._image)
        self._legend, self._facts = note(), note()
        self._legend.setTextFormat(Qt.TextFormat.RichText)
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(3)
        layout.addLayout(grid)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self._legend)
        layout.addWidget(self._facts)
        self._empty = note(EMPTY)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._empty.setMargin(30)
        self._pages = QStackedWidget()
        self._pages.addWidget(self._empty)
        self._pages.addWidget(page)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._pages)
        self._paint_frame()

    def _combo(self, name: str) -> QComboBox:
        combo = QComboBox()
        combo.setAccessibleName(f"{name} of the live plot")
        combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        combo.setMinimumWidth(combo.fontMetrics().horizontalAdvance("resistance") + 10)
        return combo

    def _paint_frame(self) -> None:
        self.plot.setBackground(self.palette().color(QPalette.ColorRole.Base))
        text = self.palette().color(QPalette.ColorRole.Text)
        for axis in self._axes.values():
            axis.setPen(text)
            axis.setTextPen(text)
            axis.enableAutoSIPrefix(False)
            axis.setGrid(40)

    def _on_bench_changed(self) -> None:
        bench = self._controller.bench
        folder = None if bench is None else bench.config.procedures
        if folder is None:
            return

        def read() -> dict[str, Table]:
            from bench.procedures.loading import listing

            return {table.name: table for own in listing(folder).procedures.values() for table in own.tables}

        self._controller.read("tables of your procedures", read, self._schema.update)

    def _on_stepped(self, steps: list[object]) -> None:
        self._waiting.extend(steps)
        self._take_in()

    def _take_in(self) -> None:
        """Take in what came, for a moment; the rest when the window had its turn."""
        until, before = time.perf_counter() + SLICE_S, self.tables.version
        while self._waiting and time.perf_counter() < until:
            if self.tables.take(self._waiting.popleft(), time.monotonic()):
                self._begin_run()
        if not self._waiting:
            self._intake.stop()
        elif not self._intake.isActive():
            self._intake.start()
        if self.tables.version != before:
            self._later()

    def _begin_run(self) -> None:
        self._choices.clear()
        self._picked = ""
        self.hold.setChecked(False)
        busy = self._controller.busy
        self._title = "" if busy is None else busy.title
        self._box.enableAutoRange()

    def _later(self, *_: object) -> None:
        if not self._redraw.isActive() and not self.hold.isChecked():
            self._redraw.start()

    def _everything(self) -> None:
        self._box.enableAutoRange()
        self.redraw()

    def _on_chosen(self) -> None:
        if self.choice is None or self._filling:
            return
        y = self.y_axis.currentData()
        self.choose(
            Choice(
                self.x_axis.currentData(),
                tuple(y) if isinstance(y, tuple | list) else (y,),
                self.colour.currentData(),
                self.log_x.isChecked(),
                self.log_y.isChecked(),
                self.choice.lines,
            )
        )

    def _fill(self, name: str, table: LiveTable, choice: Choice) -> None:
        """Offer what there is, with what is shown chosen."""
        self._filling = True
        places = [column for column in table.columns if column not in DEVICE]
        several = default(name, table, self._schema).y
        ys: list[tuple[str, object]] = [(title_of(column), (column,)) for column in places]
        if len(several) > 1:
            ys.insert(0, (" and ".join(title_of(column) for column in several), several))
        ys.append((COUNT, (COUNT,)))
        names = [one for one, each in self.tables.tables.items() if plottable(each)]
        offered = colours(table, choice)
        _offer(self.table, [(one, one) for one in names], name)
        _offer(self.x_axis, [(title_of(column), column) for column in table.columns], choice.x)
        _offer(self.y_axis, ys, choice.y)
        _offer(self.colour, [(one.replace("_", " "), one) for one in offered], choice.colour)
        self.log_x.setChecked(choice.log_x)
        self.log_y.setChecked(choice.log_y)
        self._filling = False

    def _show(self, drawing: Drawing) -> None:
        self._axes["bottom"].setLabel(drawing.x_label)
        self._axes["left"].setLabel(drawing.y_label)
        self._show_picture(drawing.picture)
        points = sum(len(one.x) for one in drawing.series)
        while len(self._curves) < len(drawing.series):
            curve, scatter = pg.PlotCurveItem(connect="finite"), Points()
            self.plot.addItem(curve)
            self.plot.addItem(scatter)
            self._curves.append((curve, scatter))
        shades = _shades(len(drawing.series))
        for (curve, scatter), one, shade in zip(self._curves, drawing.series, shades, strict=False):
            curve.setPen(pg.mkPen(shade, width=1))
            curve.setData(one.x, one.y) if one.lines else curve.clear()
            if not one.lines or (points <= MARKED_UP_TO and drawing.y_label != COUNT):
                scatter.setData(one.x, one.y, shade, 5 if points <= MARKED_UP_TO else 2)
            else:
                scatter.clear()
        for curve, scatter in self._curves[len(drawing.series) :]:
            curve.clear()
            scatter.clear()
        named = [(one.name, shade) for one, shade in zip(drawing.series, shades, strict=True) if one.name]
        squares = [f'<span style="color:{shade}">■</span> {name}' for name, shade in named[:NAMED]]
        if len(named) > NAMED:
            squares.append(f"… and {len(named) - NAMED} more")
        if drawing.picture is None:
            self._legend.setText("&nbsp; ".join(squares))
            self._legend.setVisible(len(squares) > 1)

    def _show_picture(self, picture: Picture | None) -> None:
        self._image.setVisible(picture is not None)
        if picture is None:
            self._image.clear()
            return
        values, table = picture.values, lookup_table(MAP_COLOURS)
        known = values[np.isfinite(values)]
        low, high = float(known.min()), float(known.max())
        high = high if high > low else low + 1.0
        self._image.setImage(values, levels=(low, high), lut=table)
        steps = [_step(picture.x), _step(picture.y)]
        self._image.setRect(
            QRectF(
                picture.x[0] - steps[0] / 2,
                picture.y[0] - steps[1] / 2,
                steps[0] * len(picture.x),
                steps[1] * len(picture.y),
            )
        )
        squares = []
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            red, green, blue = (int(part) for part in table[round(255 * share)])
            value = low + share * (high - low)
            squares.append(f'<span style="color:rgb({red},{green},{blue})">■</span> {value:.3g}')
        self._legend.setText(f"{picture.name}: {'&nbsp; '.join(squares)}")
        self._legend.setVisible(True)

    def _footer(self, name: str, table: LiveTable, choice: Choice, drawing: Drawing) -> str:
        parts = [f"{_count(table.points)} points"]
        if table.thinned:
            parts.append(f"{_count(table.kept)} of them, drawn at random, are kept here; the run file has all")
        if drawing.left_out:
            parts.append(f"{_count(drawing.left_out)} not drawn: infinite, unknown or 0 on a log axis")
        if choice.colour.startswith(MAP):
            return f"{self._title}: {'; '.join(parts)}"
        if last := latest(table, choice, name, self._schema):
            parts.append(f"latest {last}")
        return f"{self._title}: {'; '.join(parts)}" if self._title else "; ".join(parts)


def _offer(combo: QComboBox, items: list[tuple[str, Any]], chosen: object) -> None:
    """Fill a selector, and leave it alone where nothing is new: it may be open."""
    present = [(combo.itemText(index), combo.itemData(index)) for index in range(combo.count())]
    if present != items:
        combo.clear()
        for text, data in items:
            combo.addItem(text, data)
    index = next((index for index, (_, data) in enumerate(items) if data == chosen), -1)
    if combo.currentIndex() != index:
        combo.setCurrentIndex(index)


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _shades(count: int) -> list[str]:
    if count <= len(CYCLE):
        return list(CYCLE[:count])
    table = lookup_table(MANY_COLOURS)
    picked = np.linspace(0, 0.9 * 255, count).astype(int)
    return ["#" + "".join(f"{int(part):02x}" for part in table[index]) for index in picked]


def _step(middles: Any) -> float:
    return float(middles[-1] - middles[0]) / (len(middles) - 1) if len(middles) > 1 else 1.0
