"""Fields for the parameters of a procedure, made from its parameter model: its names, limits, defaults and help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from PyQt5.QtGui import QWheelEvent
from PyQt5.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QWidget,
)

from bench.procedure import Parameters

LARGEST = 2**31 - 1
PAIRS_PER_ROW = 2
SHOWN = {"plus": "all +1", "minus": "all −1", "zero": "all 0"}
"""Values that read better on the screen than in a file."""


@dataclass(frozen=True)
class Field:
    """A widget for one parameter, and how to read it and to fill it."""

    widget: QWidget
    get: Callable[[], Any]
    put: Callable[[Any], None]


class ParameterForm(QWidget):
    """Fields for the parameters of the procedure ``name``, some beside each other."""

    def __init__(self, name: str, parameters: type[Parameters], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._fields = {key: _field(info) for key, info in parameters.model_fields.items()}
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(4)
        for index, (key, field) in enumerate(self._fields.items()):
            title = key.replace("_", " ")
            label = QLabel(title)
            label.setBuddy(field.widget)
            row, pair = divmod(index, PAIRS_PER_ROW)
            layout.addWidget(label, row, 2 * pair)
            layout.addWidget(field.widget, row, 2 * pair + 1)
            layout.setColumnStretch(2 * pair + 1, 1)
            for widget in (label, field.widget):
                widget.setToolTip(_help(parameters.model_fields[key]))
            field.widget.setAccessibleName(f"{name} {title}")

    def settings(self) -> dict[str, Any]:
        """Name to value, not checked yet."""
        return {key: field.get() for key, field in self._fields.items()}

    def put(self, key: str, value: Any) -> None:
        """Fill the field of the parameter ``key``."""
        self._fields[key].put(value)


class _SpinBox(QSpinBox):
    """A spin box that the wheel changes only after a click into it: scrolling past it leaves it alone."""

    def wheelEvent(self, e: QWheelEvent | None) -> None:
        if self.hasFocus():
            super().wheelEvent(e)
        elif e is not None:
            e.ignore()


def _field(info: FieldInfo) -> Field:
    kind, default = info.annotation, info.get_default(call_default_factory=True)
    if kind is int and not any(bound is not None and abs(bound) > LARGEST for bound in _bounds(info)):
        return _whole_number(info, default)
    if kind is bool:
        return _yes_or_no(default)
    if get_origin(kind) is Literal:
        return _choice(get_args(kind), default)
    item = get_args(kind)[0] if get_origin(kind) is tuple else None
    if isinstance(item, type) and issubclass(item, Enum):
        return _several(item, default)
    return _text(default)


def _text(default: Any) -> Field:
    """A line of text; numbers of a list stand between commas, and an empty line is None where that is the default."""
    edit = QLineEdit()
    # Room for a short number; it grows with the panel.
    edit.setMinimumWidth(edit.fontMetrics().horizontalAdvance("000000"))
    edit.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def get() -> str | None:
        return None if default is None and not edit.text().strip() else edit.text()

    def put(value: Any) -> None:
        several = isinstance(value, tuple | list)
        edit.setText("" if value is None else ", ".join(map(str, value)) if several else str(value))
        edit.setCursorPosition(0)

    put(default)
    return Field(edit, get, put)


def _whole_number(info: FieldInfo, default: int) -> Field:
    box = _SpinBox()
    low, high = _bounds(info)
    box.setRange(-LARGEST if low is None else low, LARGEST if high is None else high)
    box.setValue(default)
    # Room for some digits, not for the largest number that fits into the range; it grows with the panel.
    box.setMinimumWidth(box.fontMetrics().horizontalAdvance("000") + 2 * box.fontMetrics().height())
    box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return Field(box, box.value, box.setValue)


def _yes_or_no(default: bool) -> Field:
    box = QCheckBox()
    box.setChecked(default)
    return Field(box, box.isChecked, box.setChecked)


def _choice(values: tuple[str, ...], default: str) -> Field:
    box = QComboBox()
    for value in values:
        box.addItem(SHOWN.get(value, value), value)

    def put(value: str) -> None:
        box.setCurrentIndex(box.findData(value))

    put(default)
    return Field(box, box.currentData, put)


def _several(kind: type[Enum], default: tuple[Enum, ...]) -> Field:
    widget = QWidget()
    layout = QHBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    boxes = {member: QCheckBox(str(member.value)) for member in kind}
    for box in boxes.values():
        layout.addWidget(box)

    def put(members: tuple[Enum, ...]) -> None:
        for member, box in boxes.items():
            box.setChecked(member in members)

    put(default)
    return Field(widget, lambda: tuple(member for member, box in boxes.items() if box.isChecked()), put)


def _bounds(info: FieldInfo) -> tuple[int | None, int | None]:
    low = next((int(rule.ge) for rule in info.metadata if hasattr(rule, "ge")), None)
    high = next((int(rule.le) for rule in info.metadata if hasattr(rule, "le")), None)
    return low, high


def _help(info: FieldInfo) -> str:
    low, high = _bounds(info)
    text = "" if info.description is None else info.description
    if low is None and high is None:
        return text
    if high is None:
        return f"{text}; at least {low}"
    return f"{text}; {low} to {high}"
