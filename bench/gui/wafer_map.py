"""The picture of a wafer: one square per die, coloured by its verdict or by what was fitted on it."""

from __future__ import annotations

from collections.abc import Mapping

from PyQt5.QtCore import QEvent, QPointF, QRectF, Qt, pyqtSignal
from PyQt5.QtGui import QColor, QHelpEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPalette, QPen
from PyQt5.QtWidgets import QSizePolicy, QToolTip, QWidget

from bench.figures.style import BLUE, GREY, ORANGE
from bench.gui.array_map import ARROWS
from bench.gui.fit_study import quantity
from bench.gui.legend import lookup_table
from bench.gui.wafer_study import VERDICT, WaferStudy
from bench.wafer_results import FORMED, WaferRecord, outline
from drivers.prober_role import Die

GOOD, BAD, UNKNOWN = "good", "not good", "not measured"
COLOURS = {GOOD: BLUE, BAD: ORANGE}
COLOUR_MAP = "cividis"
MARGIN, LEGEND = 0.35, 4.0
"""Around the wafer, in dies; height of the legend below it, in lines."""


class WaferMap(QWidget):
    """The map, with its legend below. Click or arrows choose a die; the pointer says what is known of one."""

    hovered = pyqtSignal(object)

    def __init__(self, study: WaferStudy, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._study = study
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setAccessibleName("map of the wafer")
        self.setMinimumSize(180, 240)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        for signal in (study.changed, study.chosen_changed):
            signal.connect(self.update)

    def die_at(self, point: QPointF) -> Die | None:
        """The die under a point of the widget, if there is one on the route."""
        record = self._study.record
        if record is None:
            return None
        return next((die for die in record.route if self._square(record, die).contains(point)), None)

    def middle_of(self, die: Die) -> QPointF:
        """The middle of a die on the widget."""
        record = self._study.record
        assert record is not None
        return self._square(record, die).center()

    def mousePressEvent(self, a0: QMouseEvent | None) -> None:
        """Choose a die; beside the dies, none."""
        if a0 is not None and a0.button() == Qt.MouseButton.LeftButton:
            self._study.choose(self.die_at(a0.localPos()))

    def keyPressEvent(self, a0: QKeyEvent | None) -> None:
        """Arrows go to the next die on the map."""
        record = self._study.record
        if a0 is None or record is None or a0.key() not in ARROWS:
            super().keyPressEvent(a0)
            return
        down, right = ARROWS[Qt.Key(a0.key())]
        here = self._study.die
        if here is None:
            self._study.choose(record.route[0])
            return
        ahead = [
            die
            for die in record.route
            if (die.row == here.row if right else die.column == here.column)
            and (die.column - here.column) * right + (die.row - here.row) * down > 0
        ]
        if ahead:
            self._study.choose(min(ahead, key=lambda die: abs(die.column - here.column) + abs(die.row - here.row)))

    def event(self, a0: QEvent | None) -> bool:
        """What is known of the die under the pointer."""
        if isinstance(a0, QHelpEvent) and a0.type() == QEvent.Type.ToolTip:
            die = self.die_at(QPointF(a0.pos()))
            QToolTip.showText(a0.globalPos(), "" if die is None else self.describe(die), self)
            return True
        return super().event(a0)

    def describe(self, die: Die) -> str:
        """A die in a few words."""
        record = self._study.record
        assert record is not None
        found = record.record_of.get(die)
        if found is None:
            return f"die {die}: not measured"
        verdict = "; ".join(record.criteria.faults(found)) or GOOD
        value = self._study.values().get(die)
        if self._study.shown == VERDICT or value is None:
            return f"die {die}: {verdict}"
        return f"die {die}: {self._study.shown} {quantity(value, self._study.unit)}; {verdict}"

    def paintEvent(self, a0: QPaintEvent | None) -> None:
        """Draw it."""
        record = self._study.record
        if record is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().color(QPalette.ColorRole.WindowText)
        middle, side, reach = self._frame(record)
        painter.setPen(QPen(QColor(GREY), 1.5))
        painter.drawEllipse(middle, side * reach, side * reach)
        span = (0.0, 1.0) if self._study.shown == VERDICT else record.scale(self._study.shown)
        known = record.record_of
        values = self._study.values()
        for place in record.route:
            square = self._square(record, place)
            painter.setPen(QPen(QColor(GREY), 1.0))
            colour = self._colour(record, place, values, span)
            painter.setBrush(self.palette().color(QPalette.ColorRole.Base) if colour is None else QColor(colour))
            painter.drawRect(square)
            found = known.get(place)
            bad = found is not None and bool(record.criteria.faults(found))
            if bad and self._study.shown == VERDICT:
                painter.fillRect(square, Qt.BrushStyle.BDiagPattern)
            if found is not None and found.failed:
                self._cross(painter, square)
        if self._study.die in record.route:
            square = self._square(record, self._study.die)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            for pen_colour, width in (("#ffffff", 5.0), ("#111111", 2.5)):
                painter.setPen(QPen(QColor(pen_colour), width))
                painter.drawRect(square)
        painter.setPen(ink)
        if self._study.shown == VERDICT:
            self._paint_verdicts(painter, record)
        else:
            self._paint_scale(painter, span)
        painter.end()

    def _frame(self, record: WaferRecord) -> tuple[QPointF, float, float]:
        """Middle of the wafer on the widget, pixels per die, and radius in dies."""
        _, _, reach = outline(record.route)
        height = self.height() - LEGEND * self.fontMetrics().height()
        side = min(self.width(), height) / (2.0 * (reach + MARGIN))
        return QPointF(self.width() / 2.0, height / 2.0), side, reach

    def _square(self, record: WaferRecord, die: Die) -> QRectF:
        middle, side, _ = self._frame(record)
        column, row, _ = outline(record.route)
        x, y = middle.x() + (die.column - column) * side, middle.y() + (die.row - row) * side
        own = 0.94 * side
        return QRectF(x - own / 2.0, y - own / 2.0, own, own)

    def _colour(
        self, record: WaferRecord, die: Die, values: Mapping[Die, float], span: tuple[float, float]
    ) -> QColor | None:
        if self._study.shown == VERDICT:
            found = record.record_of.get(die)
            return None if found is None else QColor(COLOURS[BAD if record.criteria.faults(found) else GOOD])
        if die not in values:
            return None
        place = (values[die] - span[0]) / (span[1] - span[0])
        return QColor(*(int(part) for part in lookup_table(COLOUR_MAP)[int(255 * min(max(place, 0.0), 1.0))]))

    def _cross(self, painter: QPainter, square: QRectF) -> None:
        inner = square.adjusted(*(part * square.width() * 0.3 for part in (1, 1, -1, -1)))
        for colour, width in (("#ffffff", 4.0), ("#111111", 1.8)):
            painter.setPen(QPen(QColor(colour), width))
            painter.drawLine(inner.topLeft(), inner.bottomRight())
            painter.drawLine(inner.topRight(), inner.bottomLeft())

    def _legend(self) -> tuple[float, float]:
        """Height of a line, and where the legend begins."""
        line = float(self.fontMetrics().height())
        return line, self.height() - LEGEND * line + 0.2 * line

    def _paint_verdicts(self, painter: QPainter, record: WaferRecord) -> None:
        line, top = self._legend()
        measured = len(record.dies)
        counts = {GOOD: record.good, BAD: measured - record.good, UNKNOWN: len(record.route) - measured}
        left = 0.5 * line
        for name, count in counts.items():
            text = f"{name}: {count}"
            if left + self.fontMetrics().horizontalAdvance(text) + 1.4 * line > self.width():
                left, top = 0.5 * line, top + 1.3 * line
            square = QRectF(left, top, line - 2, line - 2)
            painter.setBrush(
                QColor(COLOURS[name]) if name in COLOURS else self.palette().color(QPalette.ColorRole.Base)
            )
            painter.drawRect(square)
            if name == BAD:
                painter.fillRect(square, Qt.BrushStyle.BDiagPattern)
            painter.drawText(QPointF(left + 1.3 * line, top + 0.8 * line), text)
            left += self.fontMetrics().horizontalAdvance(text) + 2.4 * line

    def _paint_scale(self, painter: QPainter, span: tuple[float, float]) -> None:
        line, top = self._legend()
        width = min(self.width() - 6.0 * line, 22.0 * line)
        bar = QRectF((self.width() - width) / 2.0, top, width, 0.8 * line)
        for index, colour in enumerate(lookup_table(COLOUR_MAP)):
            step = width / 256
            part = QRectF(bar.left() + index * step, top, step + 1, bar.height())
            painter.fillRect(part, QColor(*(int(each) for each in colour)))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(bar)
        values = self._study.values().values()
        below, above = any(value < span[0] for value in values), any(value > span[1] for value in values)
        for share in (0.0, 0.5, 1.0):
            value = span[0] + share * (span[1] - span[0])
            place = QRectF(bar.left() + share * width - 5 * line, bar.bottom() + 0.1 * line, 10 * line, line)
            shown = f"{value:.2%}" if self._study.shown == FORMED else quantity(value, self._study.unit)
            beyond = "≤ " if share == 0.0 and below else "≥ " if share == 1.0 and above else ""
            painter.drawText(place, int(Qt.AlignmentFlag.AlignHCenter), beyond + shown)
