"""Pieces that control panels are put together from."""

from __future__ import annotations

from collections.abc import Iterable

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLayout,
    QMenu,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)


def box(title: str) -> tuple[QGroupBox, QVBoxLayout]:
    """A group of widgets with a title, and the layout to put them into."""
    group = QGroupBox(title)
    layout = QVBoxLayout(group)
    layout.setContentsMargins(6, 4, 6, 4)
    layout.setSpacing(4)
    return group, layout


def row(*parts: str | QWidget) -> QLayout:
    """Widgets side by side; a text is the label of the widget behind it."""
    layout = QHBoxLayout()
    label: QLabel | None = None
    for part in parts:
        if isinstance(part, str):
            label = QLabel(part)
            layout.addWidget(label)
            continue
        if label is not None:
            label.setBuddy(part)
            label = None
        layout.addWidget(part, 0 if isinstance(part, QToolButton | QCheckBox) else 1)
    return layout


def folded(title: str, about: str, content: QWidget) -> QToolButton:
    """The button that shows ``content`` below itself, and hides it; it is shown at first."""
    button = QToolButton()
    button.setText(title)
    button.setToolTip(about)
    button.setCheckable(True)
    button.setAutoRaise(True)
    button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
    arrows = {True: Qt.ArrowType.DownArrow, False: Qt.ArrowType.RightArrow}
    button.toggled.connect(content.setVisible)
    button.toggled.connect(lambda shown: button.setArrowType(arrows[shown]))
    button.setChecked(True)
    return button


def opens_menu(button: QToolButton, title: str, menu: QMenu) -> None:
    """Have a button open a menu; the arrow is in its text.

    A menu of the button's own would draw a second arrow, and a style sheet without that keeps the colours of a window
    that has turned dark since.
    """
    button.setText(f"{title} ▾")
    button.clicked.connect(lambda: menu.popup(button.mapToGlobal(button.rect().bottomLeft())))


def chooser(texts: Iterable[str], name: str, about: str) -> QComboBox:
    """A choice of texts that needs little room.

    Args:
        name: for people who hear the screen; ``about`` is its tool tip.
    """
    combo = QComboBox()
    combo.addItems(list(texts))
    combo.setAccessibleName(name)
    combo.setToolTip(about)
    combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    combo.setMinimumWidth(80)
    return combo


def number(low: int, high: int, value: int, name: str) -> QSpinBox:
    """A whole number between bounds."""
    spin = QSpinBox()
    spin.setRange(low, high)
    spin.setValue(value)
    spin.setAccessibleName(name)
    spin.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    spin.setMinimumWidth(spin.fontMetrics().horizontalAdvance("00000") + 2 * spin.fontMetrics().height())
    return spin
