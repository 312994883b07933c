"""Fields for the parameters of a procedure, made from its parameter model: names, units, limits, defaults and help.

Quantities are read and shown with SI prefixes. What is written is checked against the model itself, as it is typed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from PyQt5.QtCore import QEvent, QObject, Qt, pyqtSignal
from PyQt5.QtGui import QKeyEvent
from PyQt5.QtWidgets import QCheckBox, QComboBox, QGridLayout, QHBoxLayout, QLabel, QLineEdit, QSizePolicy, QWidget

from bench.gui.style import ALARM, colour, note
from bench.gui.units import parse_quantity, title_of, unit_of, write_quantity
from bench.procedure import Parameters

PAIRS_PER_ROW = 2
SHOWN = {"plus": "all +1", "minus": "all −1", "zero": "all 0", "bl": "BL", "blb": "BLb", "BLB": "BLb"}
"""Values that read better on the screen than in a file."""

BAD = f"QLineEdit, QComboBox {{ border: 2px solid {ALARM}; border-radius: 3px; }}"
BOUNDS = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
PLAINLY = {
    "float_parsing": "this is no number; write it as 2.5, 30k or 10 us",
    "int_parsing": "this is no whole number; write it as 20 or 10k",
    "int_from_float": "this must be a whole number",
    **dict.fromkeys(
        ("greater_than", "greater_than_equal", "less_than", "less_than_equal"), "this is outside its limits"
    ),
}
"""Complaints of the model in words that fit a field with units."""


@dataclass(frozen=True)
class Field:
    """A widget for one parameter, and how to read it, to fill it, and to hear of changes."""

    widget: QWidget
    get: Callable[[], Any]
    put: Callable[[Any], None]
    connect: Callable[[Callable[..., None]], object]


class ParameterForm(QWidget):
    """Fields for the parameters of the procedure ``name``, and one line below them for help and complaints.

    Signals:
        changed(): something was written into it.

    Args:
        pairs: parameters beside each other in a row.
        help_line: show the help of the field that has the focus below the fields too, not only as its tool tip.

    Attributes:
        labels: what stands before each field, by parameter.
        problems: what is wrong with which parameter, as its model says; under "" what is wrong with all together.
    """

    changed = pyqtSignal()

    def __init__(
        self,
        name: str,
        parameters: type[Parameters],
        parent: QWidget | None = None,
        pairs: int = PAIRS_PER_ROW,
        help_line: bool = False,
    ) -> None:
        super().__init__(parent)
        self._model, self._help_line = parameters, help_line
        self._fields = {key: _field(key, info) for key, info in parameters.model_fields.items()}
        self.labels: dict[str, QLabel] = {}
        self.problems: dict[str, str] = {}
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setHorizontalSpacing(4)
        layout.setVerticalSpacing(3)
        for index, (key, field) in enumerate(self._fields.items()):
            title, unit = title_of(key), unit_of(key)
            label = self.labels[key] = QLabel(f"{title}, {unit}" if unit else title)
            label.setBuddy(field.widget)
            row, pair = divmod(index, pairs)
            layout.addWidget(label, row, 2 * pair)
            layout.addWidget(field.widget, row, 2 * pair + 1)
            layout.setColumnStretch(2 * pair + 1, 1)
            help_text = describe(key, parameters.model_fields[key])
            for widget in (label, field.widget):
                widget.setToolTip(f"<p>{help_text}</p>")  # as rich text it wraps
            field.widget.setAccessibleName(f"{name} {title}")
            field.widget.setAccessibleDescription(help_text)
            field.widget.installEventFilter(self)
            field.connect(self._on_changed)
        self.line = note()
        self.line.setVisible(False)
        layout.addWidget(self.line, -(-len(self._fields) // pairs), 0, 1, 2 * pairs)
        self._focused = ""
        self._check()

    def settings(self) -> dict[str, Any]:
        """Name to value, as the model takes them; see ``problems`` for what it would refuse."""
        return {key: field.get() for key, field in self._fields.items()}

    def put(self, key: str, value: Any) -> None:
        """Fill the field of the parameter ``key``."""
        self._fields[key].put(value)

    def widget(self, key: str) -> QWidget:
        """The field of the parameter ``key``."""
        return self._fields[key].widget

    def reset(self) -> None:
        """Put every parameter to its default."""
        for key, info in self._model.model_fields.items():
            self.put(key, _default(info))

    def eventFilter(self, a0: QObject | None, a1: QEvent | None) -> bool:
        """Show the help of the field that got the focus."""
        if a1 is not None and a1.type() in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
            key = next((key for key, field in self._fields.items() if field.widget is a0), "")
            self._focused = key if a1.type() == QEvent.Type.FocusIn else ""
            self._say()
        return super().eventFilter(a0, a1)

    def _on_changed(self, *_: object) -> None:
        self._check()
        self.changed.emit()

    def _check(self) -> None:
        self.problems = problems(self._model, self.settings())
        for key, field in self._fields.items():
            field.widget.setStyleSheet(BAD if key in self.problems else "")
        self._say()

    def _say(self) -> None:
        """What is wrong comes first, that of the field at hand before others; then help."""
        key = self._focused if self._focused in self.problems else next(iter(self.problems), None)
        if key is not None:
            self.line.setText(f"{title_of(key)}: {self.problems[key]}" if key else self.problems[key])
        elif self._help_line and self._focused:
            self.line.setText(describe(self._focused, self._model.model_fields[self._focused]))
        colour(self.line, None if key is None else ALARM)
        self.line.setVisible(key is not None or bool(self._help_line and self._focused))


class LineEdit(QLineEdit):
    """A line that needs room for a short number only, and grows with the panel."""

    def __init__(self, placeholder: str = "") -> None:
        super().__init__()
        self.setMinimumWidth(self.fontMetrics().horizontalAdvance("000000"))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setPlaceholderText(placeholder)

    def show_text(self, text: str) -> None:
        """Show a text from its beginning."""
        if text != self.text():
            self.setText(text)
        self.setCursorPosition(0)


class QuantityEdit(LineEdit):
    """A line for one quantity; it is written with prefix and unit once it is left. Up and Down change whole numbers.

    Args:
        whole: whether it is a whole number.
        optional: whether it may be empty, for None.
    """

    def __init__(self, unit: str = "", whole: bool = False, optional: bool = False) -> None:
        super().__init__("none" if optional else "")
        self._unit, self._whole, self._optional = unit, whole, optional
        self.editingFinished.connect(self._tidy)

    def value(self) -> float | str | None:
        """The number in SI units; what was written where it is no number; None where it is empty and may be."""
        if self._optional and not self.text().strip():
            return None
        return read_number(self.text(), self._unit, self._whole)

    def put(self, value: float | str | None) -> None:
        """Show a number."""
        self.show_text(_written(value, self._unit))

    def keyPressEvent(self, a0: QKeyEvent | None) -> None:
        """Up and Down step whole numbers."""
        step = None if a0 is None else {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1}.get(Qt.Key(a0.key()))
        value = self.value()
        if self._whole and step is not None and isinstance(value, int):
            self.put(value + step)
        else:
            super().keyPressEvent(a0)

    def _tidy(self) -> None:
        value = self.value()
        if isinstance(value, int | float):
            self.put(value)


def read_number(text: str, unit: str, whole: bool) -> float | str:
    """A number as it was written; the text itself where it is none, for the model to refuse."""
    value = parse_quantity(text, unit)
    if value is None:
        return text
    return int(value) if whole and value.is_integer() else value


def problems(model: type[Parameters], settings: dict[str, Any]) -> dict[str, str]:
    """What ``model`` refuses: parameter to one line with the rule; under "" what concerns them all."""
    try:
        model.model_validate(settings)
    except ValidationError as error:
        found: dict[str, str] = {}
        for one in error.errors():
            key = str(one["loc"][0]) if one["loc"] else ""
            info = model.model_fields.get(key)
            allowed = "" if info is None else limits(key, info)
            text = PLAINLY.get(one["type"], one["msg"].removeprefix("Value error, "))
            found.setdefault(key, f"{text}; allowed: {allowed}" if allowed else text)
        return found
    except Exception as error:  # a validator of the user's may raise anything
        return {"": f"the parameters cannot be checked: {type(error).__name__}: {error}"}
    return {}


def limits(key: str, info: FieldInfo) -> str:
    """What a parameter may be, as one phrase: "0.01 V to 5 V"; empty where its model sets no limit."""
    unit = unit_of(key)
    bounds = {
        rule: write_quantity(getattr(one, rule), unit)
        for one in info.metadata
        for rule in BOUNDS
        if getattr(one, rule, None) is not None
    }
    if bounds.keys() == {"ge", "le"}:
        return f"{bounds['ge']} to {bounds['le']}"
    return ", ".join(BOUNDS[rule].format(value) for rule, value in bounds.items())


def describe(key: str, info: FieldInfo) -> str:
    """Help for a parameter: its description, limits and default, and the name that the command line uses."""
    parts = ["" if info.description is None else info.description, limits(key, info)]
    default = _default(info)
    if not info.is_required():
        shown = _written(default, unit_of(key))
        parts.append(f"default {shown if shown else 'none'}")
    return f"{'; '.join(part for part in parts if part)} ({key})"


def _default(info: FieldInfo) -> Any:
    return "" if info.is_required() else info.get_default(call_default_factory=True)


def _written(value: Any, unit: str) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(_written(one, unit) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, int | float):
        return write_quantity(value, unit)
    return "" if value is None else str(value)


def _field(key: str, info: FieldInfo) -> Field:
    kind, default, unit = info.annotation, _default(info), unit_of(key)
    parts = get_args(kind)
    optional = type(None) in parts
    if optional and get_origin(kind) is not tuple and len(parts) == 2:
        kind = next(part for part in parts if part is not type(None))
    if kind is bool:
        return _yes_or_no(default)
    if kind in (int, float):
        return _quantity(QuantityEdit(unit, kind is int, optional), default)
    if get_origin(kind) is Literal and not optional:
        return _choice(get_args(kind), default)
    item = get_args(kind)[0] if get_origin(kind) is tuple else None
    if isinstance(item, type) and issubclass(item, Enum):
        return _several(item, default)
    numbers = _number_in(item)
    return _text(default, optional) if numbers is None else _numbers(default, unit, numbers is int)


def _number_in(item: Any) -> type | None:
    """The kind of number in a list's items, with or without rules of their own; None where they are none."""
    kind = get_args(item)[0] if hasattr(item, "__metadata__") else item
    return kind if kind in (int, float) else None


def _quantity(edit: QuantityEdit, default: Any) -> Field:
    edit.put(default)
    return Field(edit, edit.value, edit.put, edit.textChanged.connect)


def _numbers(default: Any, unit: str, whole: bool) -> Field:
    """A line with numbers between commas, each with a prefix if need be."""
    edit = LineEdit("none; several with commas")

    def get() -> Sequence[float | str]:
        parts = [part.strip() for part in edit.text().strip().strip("()[]").split(",")]
        return tuple(read_number(part, unit, whole) for part in (parts[:-1] if parts[-1] == "" else parts))

    def put(value: Any) -> None:
        edit.show_text(_written(value, unit))

    put(default)
    return Field(edit, get, put, edit.textChanged.connect)


def _text(default: Any, optional: bool) -> Field:
    """A line of text; an empty one is None where the parameter may be none."""
    edit = LineEdit("none" if optional else "")

    def put(value: Any) -> None:
        edit.show_text(_written(value, ""))

    put(default)
    return Field(
        edit, lambda: None if optional and not edit.text().strip() else edit.text(), put, edit.textChanged.connect
    )


def _yes_or_no(default: bool) -> Field:
    box = QCheckBox()
    box.setChecked(bool(default))
    return Field(box, box.isChecked, box.setChecked, box.toggled.connect)


class _ComboBox(QComboBox):
    """One that the wheel changes only after a click into it: scrolling past it leaves it alone."""

    def wheelEvent(self, e: Any) -> None:
        if self.hasFocus():
            super().wheelEvent(e)
        else:
            e.ignore()


def _choice(values: tuple[Any, ...], default: Any) -> Field:
    box = _ComboBox()
    box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    for value in values:
        box.addItem(SHOWN.get(value, str(value)), value)
    box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    box.setMinimumWidth(box.fontMetrics().horizontalAdvance("all −1") + 2 * box.fontMetrics().height())

    def put(value: Any) -> None:
        box.setCurrentIndex(box.findData(value))

    put(default)
    return Field(box, box.currentData, put, box.currentIndexChanged.connect)


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

    def connect(heard: Callable[..., None]) -> None:
        for box in boxes.values():
            box.toggled.connect(heard)

    put(default)
    return Field(widget, lambda: tuple(member for member, box in boxes.items() if box.isChecked()), put, connect)
