"""Accuracies way by way: predicted with the interval, and measured on silicon."""

from __future__ import annotations

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import QGridLayout, QLabel, QWidget

from bench.gui.answers import SOFTWARE
from bench.gui.controller import Controller
from bench.gui.network_study import NetworkStudy
from bench.gui.style import ALARM, OK, colour, note
from models.prediction import InferenceMode

ROWS = {
    SOFTWARE: "in software",
    InferenceMode.HOST.value: "host sums",
    InferenceMode.SENSED.value: "sensed again",
    InferenceMode.XNOR.value: "XNOR in array",
}
VERDICTS: dict[bool | None, tuple[str | None, str]] = {
    True: (OK, "inside the predicted interval"),
    False: (ALARM, "outside the predicted interval"),
    None: (None, ""),
}
UNKNOWN = "–"


class AccuracyTable(QWidget):
    """The table, and one line about the run."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller, self._study = controller, NetworkStudy.of(controller)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        self._values: dict[str, QLabel] = {}
        self._bands: dict[str, QLabel] = {}
        for column, text in enumerate(("predicted", "measured"), start=1):
            grid.addWidget(_right(text), 0, column)
        for row, (name, text) in enumerate(ROWS.items(), start=1):
            grid.addWidget(QLabel(text), row, 0)
            self._bands[name], self._values[name] = _right(""), _right(UNKNOWN)
            grid.addWidget(self._bands[name], row, 1)
            grid.addWidget(self._values[name], row, 2)
        grid.setColumnStretch(1, 1)
        self.summary = note()
        grid.addWidget(self.summary, len(ROWS) + 1, 0, 1, 3)
        controller.network_changed.connect(self.refresh)
        self._study.accuracy_changed.connect(self.refresh)
        self._study.shown_changed.connect(self.refresh)
        self.refresh()

    def accuracy(self, name: str) -> str:
        """What it says for "software", "host", "sensed" or "xnor"."""
        return self._values[name].text()

    def refresh(self) -> None:
        """Show what is known now."""
        study = self._study
        network = self._controller.network if study.at_work is None else study.at_work
        shown = None if study.shown is None else study.shown.answers
        foretold = study.foretold
        for name, label in self._values.items():
            predicted = None if foretold is None else foretold.modes.get(name)
            self._bands[name].setText("" if predicted is None else f"{predicted.low:.1%} to {predicted.high:.1%}")
            if shown is not None:
                value = shown.accuracy(name) if name in shown.by_mode else None
            elif name == SOFTWARE:
                value = None if network is None else network.software_accuracy
            else:
                value = study.running.last(name)
            label.setText(UNKNOWN if value is None else f"{value:.2%}")
            inside = None if shown is None or foretold is None or value is None else foretold.inside(name, value)
            hue, verdict = VERDICTS[inside]
            colour(label, hue)
            label.setToolTip(verdict)
        self.summary.setText(self._summary_text())

    def _summary_text(self) -> str:
        study = self._study
        if study.shown is None:
            return study.stage
        result = study.shown.answers.result
        cells, errors = result["cells"], result["bit_errors"]
        return (
            f"{result['samples']} samples, {result['tiles']} tiles; of {cells['programmed']} cells {cells['failed']} "
            f"failed; bit errors {errors['raw']} raw, {errors['after_verify']} after verify; "
            f"{study.shown.answers.path.name}"
        )


def _right(text: str) -> QLabel:
    label = QLabel(text)
    label.setAlignment(Qt.AlignmentFlag.AlignRight)
    return label
