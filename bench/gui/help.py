"""The help page of each workspace, and the tour that a newcomer is offered. Neither is modal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PyQt5.QtCore import QRect, Qt
from PyQt5.QtGui import QColor, QPainter, QPaintEvent, QPen
from PyQt5.QtWidgets import (
    QDockWidget,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QPushButton,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from bench.gui.style import note

KEYS = """
<h4>Keys</h4>
<table cellspacing="4">
<tr><td><b>F12</b></td><td>outputs off, whatever is going on</td></tr>
<tr><td><b>Alt+1 … Alt+6</b></td><td>Cells, Procedures, Runs, Calibration, Network, Wafer</td></tr>
<tr><td><b>Ctrl+1 … Ctrl+8</b></td><td>the views of the map</td></tr>
<tr><td><b>Ctrl+M</b></td><td>into the map; there:</td></tr>
<tr><td><b>arrows</b></td><td>another cell; with <b>Shift</b> a rectangle</td></tr>
<tr><td><b>R</b>, <b>C</b>, <b>I</b></td><td>whole rows, whole columns, all other cells</td></tr>
<tr><td><b>Ctrl+A</b>, <b>Esc</b></td><td>all cells, none</td></tr>
<tr><td><b>Ctrl+Z</b>, <b>Ctrl+Y</b></td><td>undo and redo a selection</td></tr>
<tr><td><b>+</b>, <b>−</b>, <b>Home</b></td><td>zoom in, out, the whole array</td></tr>
<tr><td><b>F1</b></td><td>this page</td></tr>
</table>
"""


class HelpPage(QDockWidget):
    """The page beside the controls; F1 shows it and hides it."""

    def __init__(self, parent: QMainWindow) -> None:
        super().__init__("Help", parent)
        self.setObjectName("Help")
        self._text = QTextBrowser()
        self._text.setOpenExternalLinks(False)
        self.setWidget(self._text)

    def show_about(self, title: str, text: str) -> None:
        """Show the page of one workspace."""
        self.setWindowTitle(f"Help: {title}")
        self._text.setHtml(f"<h3>{title}</h3>{text}{KEYS}")

    def text(self) -> str:
        """What it says."""
        return self._text.toPlainText()


@dataclass(frozen=True)
class Stop:
    """A stop of the tour: what is pointed at, and what is said about it."""

    title: str
    text: str
    target: Callable[[], QWidget]
    before: Callable[[], None] = lambda: None


class Tour(QWidget):
    """A frame around one part of the window after the other, and a card that says what it is for.

    It lies over the window but takes no clicks outside its card: everything can be used meanwhile.
    """

    def __init__(self, parent: QWidget, stops: Sequence[Stop], over: Callable[[], None]) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._stops, self._over, self._at = stops, over, 0
        self.card = QFrame(parent)
        self.card.setFrameShape(QFrame.Shape.StyledPanel)
        self.card.setAutoFillBackground(True)
        self._title, self._text = QLabel(), note()
        self._title.setStyleSheet("font-weight: bold;")
        self.next_button, self.end_button = QPushButton("Next"), QPushButton("End the tour")
        self.next_button.clicked.connect(self.next)
        self.end_button.clicked.connect(self.end)
        row = QHBoxLayout()
        row.addWidget(self.end_button)
        row.addStretch(1)
        row.addWidget(self.next_button)
        layout = QVBoxLayout(self.card)
        layout.addWidget(self._title)
        layout.addWidget(self._text)
        layout.addLayout(row)
        self._show_stop()

    def next(self) -> None:
        """The next stop; after the last one the tour is over."""
        self._at += 1
        if self._at == len(self._stops):
            self.end()
        else:
            self._show_stop()

    def end(self) -> None:
        """Leave the window as it is."""
        self._over()
        self.card.deleteLater()
        self.deleteLater()

    def place(self) -> None:
        """Lay it over the window as it is now."""
        parent = self.parentWidget()
        assert parent is not None
        self.setGeometry(parent.rect())
        self.card.setFixedWidth(min(360, parent.width() - 40))
        self.card.adjustSize()
        target = self._target()
        below = target.bottom() + 12 + self.card.height() < parent.height()
        x = min(max(12, target.center().x() - self.card.width() // 2), parent.width() - self.card.width() - 12)
        y = target.bottom() + 12 if below else max(12, target.top() - 12 - self.card.height())
        if target.height() > parent.height() // 2:  # a tall part: beside it
            right = target.right() + 12 + self.card.width() < parent.width()
            x = target.right() + 12 if right else max(12, target.left() - 12 - self.card.width())
            y = max(12, target.center().y() - self.card.height() // 2)
        self.card.move(x, y)
        for widget in (self, self.card):
            widget.raise_()
            widget.show()
        self.update()

    def paintEvent(self, a0: QPaintEvent | None) -> None:
        """The frame."""
        painter = QPainter(self)
        painter.setPen(QPen(QColor("#d6006c"), 4))
        painter.drawRoundedRect(self._target().adjusted(2, 2, -2, -2), 8, 8)
        painter.end()

    def _target(self) -> QRect:
        widget, parent = self._stops[self._at].target(), self.parentWidget()
        assert parent is not None
        return QRect(widget.mapTo(parent, widget.rect().topLeft()), widget.size())

    def _show_stop(self) -> None:
        stop = self._stops[self._at]
        stop.before()
        self._title.setText(f"{self._at + 1} of {len(self._stops)}: {stop.title}")
        self._text.setText(stop.text)
        self.next_button.setText("Done" if self._at + 1 == len(self._stops) else "Next")
        self.place()
