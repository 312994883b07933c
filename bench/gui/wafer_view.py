"""What is looked at of a wafer: its map, a quantity against the radius, and all that is known of one die."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QComboBox, QHBoxLayout, QPushButton, QSplitter, QStackedWidget, QVBoxLayout, QWidget

from bench.figures.style import BLUE, GREY, VERMILION
from bench.figures.wafer import label
from bench.gui.controller import Controller
from bench.gui.plot_items import SiAxis, follow_palette
from bench.gui.style import Elided, FollowsPalette, note
from bench.gui.text_table import Heading, TextTable
from bench.gui.wafer_map import WaferMap
from bench.gui.wafer_study import VERDICT, WaferStudy
from bench.wafer_report import described, with_interval
from bench.wafer_results import FORMED, radii

EMPTY = (
    "No wafer is open.\n\nOpen the folder of one on the right, or measure one there: the simulated wafer needs nothing "
    "but this computer."
)
NO_DIE = "Click a die, or go to one with the arrow keys."
COLUMNS = (Heading("value, and 95 % interval"),)


class RadiusPlot(FollowsPalette):
    """A quantity of the dies against their distance from the middle, with the bowl that was fitted to them."""

    def __init__(self, study: WaferStudy, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.study = study
        self.plot = pg.PlotWidget(axisItems={"left": SiAxis("left")})
        for side in ("left", "bottom"):
            self.plot.getAxis(side).enableAutoSIPrefix(False)
        self.plot.setLabel("bottom", "radius (of the wafer)")
        self.plot.showGrid(x=True, y=True, alpha=0.2)
        self.plot.setMenuEnabled(False)
        self.plot.setAccessibleName("quantity against the radius")
        self.plot.setMinimumHeight(130)
        self.told = note()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.plot, 1)
        layout.addWidget(self.told)
        self.follow_palette()
        for signal in (study.changed, study.chosen_changed):
            signal.connect(self.draw)

    def follow_palette(self) -> None:
        """Axes and background as the window is, light or dark."""
        follow_palette(self.plot, self.palette())

    def draw(self) -> None:
        """Draw what is shown now."""
        self.plot.clear()
        record, name = self.study.record, self.study.shown
        if record is None or name == VERDICT:
            self.plot.setLabel("left", "")
            self.told.setText("Choose above the map what is shown here against the radius.")
            return
        self.plot.setLabel("left", label(name, self.study.unit))
        values = self.study.values()
        dies = list(values)
        radius, value = radii(record.route, dies), np.array([values[die] for die in dies])
        if name != FORMED:
            known = record.record_of
            found = [known[die].parameters[name] for die in dies]
            low, high = (np.array([getattr(one, key) for one in found]) for key in ("low", "high"))
            middle, reach = (low + high) / 2.0, high - low
            self.plot.addItem(pg.ErrorBarItem(x=radius, y=middle, height=reach, pen=pg.mkPen(GREY)))
            if (across := record.across(name)) is not None:
                along = np.linspace(0.0, 1.0, 60)
                self.plot.plot(along, across.bowl(along), pen=pg.mkPen(VERMILION, width=2))
            mean, spread, edge = described(record, name)
            self.told.setText(f"Mean {mean}. Between dies: {spread}. Edge against middle: {edge}.")
            if across is None:
                self.told.setText(
                    f"{mean} over the dies. Fewer than four tell it, or some have seen no event: no mean is told."
                )
        else:
            self.told.setText("Share of the cells of each die that formed.")
        self.plot.plot(radius, value, pen=None, symbol="o", symbolSize=7, symbolBrush=BLUE, symbolPen=None)
        if self.study.die in values:
            at = dies.index(self.study.die)
            ring = pg.mkPen(VERMILION, width=2)
            self.plot.plot(
                radius[at : at + 1],
                value[at : at + 1],
                pen=None,
                symbol="o",
                symbolSize=13,
                symbolBrush=None,
                symbolPen=ring,
            )
        self.plot.setXRange(0.0, 1.0, padding=0.03)


class WaferView(QWidget):
    """The view of the workspace Wafer."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.study = study = WaferStudy.of(controller)
        self.shown = QComboBox()
        self.shown.setAccessibleName("what the map of the wafer shows")
        self.shown.setToolTip("What the colours mean.")
        self.shown.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.shown.addItem(VERDICT)
        self.shown.activated.connect(lambda index: study.show(self.shown.itemText(index)))
        self._said = Elided()
        bar = QHBoxLayout()
        bar.addWidget(self.shown)
        bar.addWidget(self._said, 1)
        self.map = WaferMap(study)
        self.radius = RadiusPlot(study)
        self.about = note(NO_DIE)
        self.runs_button = QPushButton("Show its runs")
        self.runs_button.setToolTip("The run files of this die, in the workspace Runs.")
        self.runs_button.clicked.connect(study.show_runs)
        self.table = TextTable("what was fitted on the die")
        self.table.setMinimumHeight(7 * self.fontMetrics().lineSpacing() + 40)
        above = QHBoxLayout()
        above.addWidget(self.about, 1)
        above.addWidget(self.runs_button)
        side = QWidget()
        beside = QVBoxLayout(side)
        beside.setContentsMargins(0, 0, 0, 0)
        beside.addWidget(self.radius, 1)
        beside.addLayout(above)
        beside.addWidget(self.table, 1)
        split = QSplitter(Qt.Orientation.Horizontal)
        split.addWidget(self.map)
        split.addWidget(side)
        split.setSizes([385, 615])
        split.setChildrenCollapsible(False)
        page = QWidget()
        inner = QVBoxLayout(page)
        inner.setContentsMargins(4, 4, 4, 4)
        inner.addLayout(bar)
        inner.addWidget(split, 1)
        self._empty = note(EMPTY)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._pages = QStackedWidget()
        self._pages.addWidget(self._empty)
        self._pages.addWidget(page)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._pages)
        for signal in (study.changed, study.chosen_changed, controller.busy_changed):
            signal.connect(self._fill)
        self._fill()

    def _fill(self) -> None:
        record = self.study.record
        self._pages.setCurrentIndex(0 if record is None else 1)
        if record is None:
            folder = self.study.folder
            waiting = "Nothing is known of this wafer yet: the first die is being measured."
            trouble = waiting if self.study.measuring else self.study.trouble
            self._empty.setText(EMPTY if folder is None else trouble or f"reading {folder} …")
            return
        names = self.study.quantities
        if [self.shown.itemText(index) for index in range(self.shown.count())] != names:
            self.shown.clear()
            self.shown.addItems(names)
        self.shown.setCurrentText(self.study.shown)
        left = len(record.route) - len(record.dies)
        self._said.say(f"wafer {record.wafer}: {len(record.dies)} dies measured, {left} to go")
        self._fill_die()

    def _fill_die(self) -> None:
        record, die, found = self.study.record, self.study.die, self.study.found
        assert record is not None
        self.runs_button.setEnabled(found is not None)
        if die is None or found is None:
            self.about.setText(NO_DIE if die is None else f"Die {die} is not measured.")
            self.table.put(COLUMNS, (), ())
            return
        verdict = "; ".join(record.criteria.faults(found)) or "good"
        formed = (
            "formed before" if found.formed_cells is None else f"{found.formed_cells} of {found.cells} cells formed"
        )
        self.about.setText(f"<b>Die {die}</b>: {verdict}. {formed}, {found.seconds:.1f} s")
        rows = []
        for number in found.parameters.values():
            rows.append((with_interval(number),))
        self.table.put(COLUMNS, tuple(found.parameters), rows)
