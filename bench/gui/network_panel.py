"""A network on silicon: train or open it, program it tile by tile, infer, and compare with software."""

from __future__ import annotations

from pathlib import Path

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from bench.gui.actions_panel import describe_point
from bench.gui.controller import Controller
from bench.gui.jobs import Job, RunEnd
from bench.gui.parameter_form import ParameterForm
from bench.gui.style import WARN, colour, note
from bench.inference import InferenceParameters
from bench.procedure import Progress

SOFTWARE = "software"
ROWS = {
    SOFTWARE: "in software",
    "host": "on silicon, host sums",
    "sensed": "on silicon, sensed per batch",
    "xnor": "on silicon, XNOR in array",
}


class NetworkPanel(QWidget):
    """Right side of the window, below the actions."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addLayout(self._make_source())
        self._about = note()
        layout.addWidget(self._about)
        self.form = ParameterForm("inference", InferenceParameters)
        layout.addWidget(self.form)
        self.infer_button = QPushButton("Program and infer")
        self.infer_button.clicked.connect(self._infer)
        layout.addWidget(self.infer_button)
        self._advice = note()
        layout.addWidget(self._advice)
        layout.addLayout(self._make_table())
        self._summary = note()
        layout.addWidget(self._summary)
        layout.addStretch(1)
        controller.busy_changed.connect(self.refresh)
        controller.bench_changed.connect(self.refresh)
        controller.array_changed.connect(self._refresh_advice)
        controller.network_changed.connect(self._on_network)
        controller.progressed.connect(self._on_progress)
        controller.ran.connect(self._on_ran)
        self.refresh()

    def accuracy(self, name: str) -> str:
        """What the table says for "software", "host" or "xnor"."""
        return self._values[name].text()

    def refresh(self) -> None:
        """Say what there is, and what can be done with it."""
        idle = self._controller.idle
        network, bench = self._controller.network, self._controller.bench
        for widget in (self.train_button, self.open_button, self.seed):
            widget.setEnabled(idle)
        self.infer_button.setEnabled(idle and network is not None and bench is not None)
        if network is None:
            self._about.setText("No network is open. Train one, which takes some seconds, or open a network file.")
        else:
            sizes = " – ".join(str(size) for size in network.sizes)
            about = f"{network.network.name}: {sizes}; {len(network.data.test_labels)} samples to infer"
            if bench is not None:
                about += f"; {len(network.plan(bench.config.geometry).tiles)} tiles"
            self._about.setText(about)
        self._refresh_advice()

    def _make_source(self) -> QHBoxLayout:
        self.train_button, self.open_button = QPushButton("Train digits network"), QPushButton("Open …")
        self.train_button.setToolTip("Train the binary network for the handwritten digits, and save it.")
        self.open_button.setToolTip("Open a network file (.safetensors) of ours.")
        self.seed = QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setPrefix("seed ")
        self.seed.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.seed.setMinimumWidth(self.fontMetrics().horizontalAdvance("seed 00") + 2 * self.fontMetrics().height())
        self.train_button.clicked.connect(lambda: self._controller.train(self.seed.value()))
        self.open_button.clicked.connect(self._on_open)
        layout = QHBoxLayout()
        layout.addWidget(self.train_button)
        layout.addWidget(self.seed, 1)
        layout.addWidget(self.open_button)
        return layout

    def _make_table(self) -> QGridLayout:
        grid = QGridLayout()
        title = QLabel("accuracy")
        title.setAlignment(Qt.AlignmentFlag.AlignRight)
        grid.addWidget(title, 0, 1)
        self._values: dict[str, QLabel] = {}
        for row, (name, text) in enumerate(ROWS.items(), start=1):
            grid.addWidget(QLabel(text), row, 0)
            self._values[name] = QLabel("–")
            self._values[name].setAlignment(Qt.AlignmentFlag.AlignRight)
            grid.addWidget(self._values[name], row, 1)
        grid.setColumnStretch(0, 1)
        return grid

    def _refresh_advice(self) -> None:
        bench, state = self._controller.bench, self._controller.state
        if bench is None or state is None:
            text, shade = "It runs on a connected bench.", None
        elif not (state.formed == 1).any():
            text, shade = "No cell was formed from this window. A virgin chip needs Form on all cells first.", WARN
        else:
            text, shade = f"SET, RESET and SENSE rails, on all {bench.config.geometry.cells} cells", None
            points = bench.config.points
            used = (points.set, points.reset, points.sense)
            self._advice.setToolTip("\n".join(describe_point(point) for point in used))
        self._advice.setText(text)
        colour(self._advice, shade)

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Network", "", "Networks (*.safetensors);;All files (*)")
        if path:
            self._controller.open_network(Path(path))

    def _infer(self) -> None:
        self._forget()
        self._controller.infer(self.form.settings())

    def _forget(self) -> None:
        for name in self._values.keys() - {SOFTWARE}:
            self._values[name].setText("–")
        self._summary.setText("")

    def _on_network(self) -> None:
        assert self._controller.network is not None
        self._forget()
        self._values[SOFTWARE].setText(f"{self._controller.network.software_accuracy:.2%}")
        self.refresh()

    def _on_progress(self, job: Job, step: Progress, left: float | None) -> None:
        for name in self._values.keys() & step.live.keys():
            self._values[name].setText(f"{step.live[name]:.2%}")
            self._summary.setText(f"after {step.live['samples']:.0f} samples")

    def _on_ran(self, run: RunEnd) -> None:
        if run.procedure != "inference":
            return
        result = run.result.result
        for name, value in result["accuracy"].items():
            self._values[name].setText(f"{value:.2%}")
        cells, errors = result["cells"], result["bit_errors"]
        self._summary.setText(
            f"{result['samples']} samples, {result['tiles']} tiles; of {cells['programmed']} cells {cells['failed']} "
            f"failed; bit errors {errors['raw']} raw, {errors['after_verify']} after verify"
        )
