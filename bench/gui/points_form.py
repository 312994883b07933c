"""Changed operating points for one run, as ``--at POINT.KEY=VALUE`` gives them on the command line. Folded at first."""

from __future__ import annotations

from PyQt5.QtCore import Qt, pyqtSignal
from PyQt5.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QLabel, QPushButton, QToolButton, QVBoxLayout, QWidget

from bench.config import BenchFile
from bench.gui.parameter_form import BAD, QuantityEdit
from bench.gui.style import ALARM, colour, note
from bench.gui.units import title_of, unit_of, write_quantity
from bench.source import at_points
from models.exceptions import UserMistake

LIMIT_OF = {
    "width_s": "pulse_width_s",
    "set_width_s": "pulse_width_s",
    "reset_width_s": "pulse_width_s",
    "window_s": "sense_window_s",
    "precharge_s": "sense_window_s",
    "read_v": "smu_voltage_v",
    "compliance_a": "smu_compliance_a",
}
"""Which limit of the bench file holds for a key of an operating point, where it has another name."""


class PointsForm(QWidget):
    """One operating point at a time, each of its values against the limits of the bench file.

    Signals:
        changed(): other values are asked for.

    Attributes:
        fold: the button that opens it.
        points: which operating point is shown.
        edits: the fields of that point, by key.
        problem: what is wrong with the values, in one line; empty while nothing is.
    """

    changed = pyqtSignal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._config: BenchFile | None = None
        self._written: dict[str, float | str] = {}
        self.edits: dict[str, QuantityEdit] = {}
        self.problem = ""
        self.fold = QToolButton()
        self.fold.setCheckable(True)
        self.fold.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.fold.setAutoRaise(True)
        self.fold.setToolTip("Change voltages and times of an operating point for this run; the bench file stays.")
        self.fold.toggled.connect(self._on_fold)
        self.points = QComboBox()
        self.points.setAccessibleName("operating point")
        self.points.currentTextChanged.connect(self._on_point)
        self.forget = QPushButton("As in the file")
        self.forget.setToolTip("Forget all changes: every operating point as the bench file has it.")
        self.forget.clicked.connect(self.reset)
        self._summary = note()
        self._body, self._grid = QWidget(), QGridLayout()
        self._grid.setHorizontalSpacing(4)
        self._grid.setVerticalSpacing(3)
        self._grid.setColumnStretch(1, 1)
        top = QHBoxLayout()
        top.addWidget(self.points, 1)
        top.addWidget(self.forget)
        body = QVBoxLayout(self._body)
        body.setContentsMargins(12, 0, 0, 0)
        body.addLayout(top)
        body.addLayout(self._grid)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.fold)
        layout.addWidget(self._body)
        layout.addWidget(self._summary)
        self._on_fold(False)
        self.use(None)

    def use(self, config: BenchFile | None) -> None:
        """Show the operating points of a bench file; what was changed before is forgotten."""
        self._config = config
        self._written.clear()
        self.setEnabled(config is not None)
        self.points.blockSignals(True)
        self.points.clear()
        if config is not None:
            self.points.addItems([name for name, point in config.operating_points if point is not None])
        self.points.blockSignals(False)
        self._on_point()
        self._check()

    def overrides(self) -> dict[str, float]:
        """What is changed, as ``bench.source.at_points`` takes it; what is no number is in ``problem``."""
        return {name: value for name, value in self._written.items() if not isinstance(value, str)}

    def put(self, name: str, value: float) -> None:
        """Change one value: ``put("SET.vddc_v", 3.3)``."""
        point, _, key = name.partition(".")
        self.points.setCurrentText(point)
        self.edits[key].put(value)

    def reset(self) -> None:
        """Take everything as the bench file has it."""
        if self._written:
            self._written.clear()
            self._on_point()
            self._on_changed()

    def _on_fold(self, opened: bool) -> None:
        self.fold.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self._body.setVisible(opened)

    def _on_point(self) -> None:
        while (item := self._grid.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        self.edits.clear()
        config, point = self._config, self.points.currentText()
        if config is None or not point:
            return
        for row, (key, value) in enumerate(getattr(config.operating_points, point)):
            unit = unit_of(key)
            edit = self.edits[key] = QuantityEdit(unit)
            edit.put(self._written.get(f"{point}.{key}", value))
            edit.textChanged.connect(lambda _, key=key: self._on_written(key))
            label = QLabel(f"{title_of(key)}, {unit}")
            label.setBuddy(edit)
            low, high = getattr(config.limits, LIMIT_OF.get(key, key))
            allowed = f"{write_quantity(low, unit)} to {write_quantity(high, unit)}"
            for widget in (label, edit):
                widget.setToolTip(f"bench file: {write_quantity(value, unit)}; limits: {allowed} ({point}.{key})")
            edit.setAccessibleName(f"{point} {key}")
            self._grid.addWidget(label, row, 0)
            self._grid.addWidget(edit, row, 1)
        self._check()

    def _on_written(self, key: str) -> None:
        assert self._config is not None
        point = self.points.currentText()
        value = self.edits[key].value()
        name = f"{point}.{key}"
        if value is None or value == getattr(getattr(self._config.operating_points, point), key):
            self._written.pop(name, None)
        else:
            self._written[name] = value
        self._on_changed()

    def _on_changed(self) -> None:
        self._check()
        self.changed.emit()

    def _check(self) -> None:
        """Mark what is refused, and say what is changed."""
        wrong = {name: self._refusal(name, value) for name, value in self._written.items()}
        self.problem = next((text for text in wrong.values() if text), "")
        point = self.points.currentText()
        for key, edit in self.edits.items():
            edit.setStyleSheet(BAD if wrong.get(f"{point}.{key}") else "")
        changed = [
            f"{name} = {value if isinstance(value, str) else write_quantity(value, unit_of(name.partition('.')[2]))}"
            for name, value in self._written.items()
        ]
        self.fold.setText(f"Operating points: {len(changed)} changed" if changed else "Operating points")
        self._summary.setText(self.problem if self.problem else "\n".join(changed))
        self._summary.setVisible(bool(changed))
        self.forget.setEnabled(bool(changed))
        colour(self._summary, ALARM if self.problem else None)

    def _refusal(self, name: str, value: float | str) -> str:
        assert self._config is not None
        if isinstance(value, str):
            return f"{name}: {value!r} is not a quantity; write it as 3.3, or 10 us"
        try:
            at_points(self._config, {name: value})
        except UserMistake as error:
            return str(error).removeprefix("--at ")
        return ""
