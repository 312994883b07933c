"""Light and dark: the palette of every widget, and of the plots."""

from __future__ import annotations

from enum import StrEnum

import pyqtgraph as pg
from PyQt5.QtCore import Qt
from PyQt5.QtGui import QColor, QPainter, QPalette
from PyQt5.QtWidgets import QApplication, QProxyStyle, QStyle, QStyleOption, QWidget


class Theme(StrEnum):
    """How the window looks."""

    DESKTOP = "as the desktop"
    LIGHT = "light"
    DARK = "dark"


class _Marked(QProxyStyle):
    """Fusion with check boxes whose frame is seen on a dark window too: its own is darker than the window."""

    def __init__(self) -> None:
        super().__init__("Fusion")

    def drawPrimitive(
        self,
        element: QStyle.PrimitiveElement,
        option: QStyleOption | None,
        painter: QPainter | None,
        widget: QWidget | None = None,
    ) -> None:
        """Draw one part of a widget."""
        super().drawPrimitive(element, option, painter, widget)
        if element == QStyle.PrimitiveElement.PE_IndicatorCheckBox and option is not None and painter is not None:
            ink = option.palette.color(_ROLES.Text)
            if ink.lightness() > option.palette.color(_ROLES.Base).lightness():
                painter.save()
                painter.setPen(ink)
                painter.setBrush(Qt.BrushStyle.NoBrush)
                painter.drawRect(option.rect.adjusted(0, 0, -1, -1))
                painter.restore()


_ROLES = QPalette.ColorRole
_LIGHT = {
    _ROLES.Window: "#f2f2f0",
    _ROLES.WindowText: "#1a1a1a",
    _ROLES.Base: "#ffffff",
    _ROLES.AlternateBase: "#ececea",
    _ROLES.Text: "#1a1a1a",
    _ROLES.Button: "#e6e6e3",
    _ROLES.ButtonText: "#1a1a1a",
    _ROLES.ToolTipBase: "#fffbe6",
    _ROLES.ToolTipText: "#1a1a1a",
    _ROLES.PlaceholderText: "#6b6b6b",
    _ROLES.Highlight: "#2f6fae",
    _ROLES.HighlightedText: "#ffffff",
    _ROLES.Link: "#1f5a99",
}
_DARK = {
    _ROLES.Window: "#25282c",
    _ROLES.WindowText: "#e8e8e6",
    _ROLES.Base: "#32373d",
    _ROLES.AlternateBase: "#3a4047",
    _ROLES.Text: "#e8e8e6",
    _ROLES.Button: "#3f454c",
    _ROLES.ButtonText: "#e8e8e6",
    _ROLES.ToolTipBase: "#3a3f45",
    _ROLES.ToolTipText: "#f0f0ee",
    _ROLES.PlaceholderText: "#9aa0a6",
    _ROLES.Highlight: "#2f6fae",
    _ROLES.HighlightedText: "#ffffff",
    _ROLES.Link: "#7db8f0",
}
_FADED = (_ROLES.WindowText, _ROLES.Text, _ROLES.ButtonText)


def is_dark(palette: QPalette) -> bool:
    """Whether text is lighter than what is behind it."""
    return palette.color(_ROLES.WindowText).lightness() > palette.color(_ROLES.Window).lightness()


def apply(app: QApplication, theme: Theme) -> None:
    """Give the whole application its look; plots that are made later take theirs from it."""
    if theme is Theme.DESKTOP:
        style = app.style()
        palette = QPalette() if style is None else style.standardPalette()
    else:
        app.setStyle(_Marked())
        palette = QPalette()
        for role, colour in (_LIGHT if theme is Theme.LIGHT else _DARK).items():
            palette.setColor(role, QColor(colour))
        grey = QColor("#8d8d8a" if theme is Theme.LIGHT else "#7b8087")
        for role in _FADED:
            palette.setColor(QPalette.ColorGroup.Disabled, role, grey)
    app.setPalette(palette)
    pg.setConfigOption("background", palette.color(_ROLES.Base))
    pg.setConfigOption("foreground", palette.color(_ROLES.Text))
