"""Looks that several panels share. Everything else comes from the palette of the person's desktop."""

from __future__ import annotations

from PyQt5.QtCore import QEvent, QObject, QSize, Qt
from PyQt5.QtGui import QResizeEvent
from PyQt5.QtWidgets import QApplication, QFrame, QLabel, QScrollArea, QSizePolicy, QWidget

from bench.gui.themes import is_dark

ALARM = "#b3121d"
OK = "#1d6b34"
WARN = "#8a5300"
_ON_DARK = {ALARM: "#ff8a80", OK: "#7fd494", WARN: "#f0b64a"}
"""The same, to be read on a dark window."""

DANGER_BUTTON = f"""
QPushButton {{ background: {ALARM}; color: white; font-weight: bold; border: 2px solid #7d0c14; border-radius: 6px;
               padding: 8px; }}
QPushButton:hover {{ background: #cf1825; }}
QPushButton:pressed {{ background: #7d0c14; }}
QPushButton:focus {{ border-color: black; }}
"""

_SHADE = "shade"

CHECKED_BUTTON = "QToolButton:checked { background: palette(highlight); color: palette(highlighted-text); }"


def note(text: str = "") -> QLabel:
    """A label for running text: it wraps, and what it says can be copied."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def shade(value: str, widget: QWidget) -> str:
    """``value`` (ALARM, OK, WARN) as it is read best on the present look of ``widget``."""
    # the palette of the widget itself has the colour that it got last
    return _ON_DARK.get(value, value) if is_dark(QApplication.palette(widget)) else value


def colour(label: QLabel, value: str | None) -> None:
    """Colour the text of a label, also after the look of the window changes; None is as usual."""
    label.setProperty(_SHADE, value)
    label.setStyleSheet("" if value is None else f"color: {shade(value, label)}; font-weight: bold;")


def recolour(window: QWidget) -> None:
    """Colour all labels of a window afresh, after its look changed."""
    for label in window.findChildren(QLabel):
        value = label.property(_SHADE)
        if value is not None:
            colour(label, value)


class FollowsPalette(QWidget):
    """A widget that colours itself from its palette, and does so again when the window turns light or dark."""

    def changeEvent(self, a0: QEvent | None) -> None:
        """Colour it afresh."""
        super().changeEvent(a0)
        if a0 is not None and a0.type() == QEvent.Type.PaletteChange:
            self.follow_palette()

    def follow_palette(self) -> None:
        """Take the colours of the palette; also called once by whoever made it complete."""
        raise NotImplementedError


class Elided(QLabel):
    """A line that ends in … where there is no room for all of it; its tool tip has the whole."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = ""
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def say(self, text: str) -> None:
        """Show ``text``, or its beginning."""
        self._whole = text
        self.setToolTip(text)
        self._fit()

    def resizeEvent(self, a0: QResizeEvent | None) -> None:
        """Show as much as there is room for."""
        super().resizeEvent(a0)
        self._fit()

    def _fit(self) -> None:
        self.setText(self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideRight, self.width()))


class Scrolling(QScrollArea):
    """``content`` in an area that scrolls up and down where the screen is too low for it, and is never too narrow."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self._content = content
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:
        """A content that needs more room than before (longer words on its buttons) gets it."""
        if a1 is not None and a1.type() == QEvent.Type.LayoutRequest and a0 is self._content:
            self.updateGeometry()
        return super().eventFilter(a0, a1)

    def minimumSizeHint(self) -> QSize:
        """As wide as the content needs, with room for the scroll bar."""
        bar = self.verticalScrollBar()
        assert bar is not None
        return QSize(self._content.minimumSizeHint().width() + bar.sizeHint().width(), 80)

    def sizeHint(self) -> QSize:
        """As high as the content would like to be."""
        return QSize(self.minimumSizeHint().width(), self._content.sizeHint().height())
