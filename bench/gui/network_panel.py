"""A network on silicon: open or train it, see its plan, program it, infer, and see whether it came out as predicted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLayout,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from bench.figures.records import plural
from bench.gui.accuracy_table import AccuracyTable
from bench.gui.actions_panel import describe_point
from bench.gui.controller import Controller
from bench.gui.network_study import NetworkStudy
from bench.gui.network_work import Source, span
from bench.gui.parameter_form import ParameterForm
from bench.gui.style import ALARM, WARN, colour, note
from bench.gui.units import si
from bench.inference import InferenceParameters
from bench.loop import EPOCHS
from bench.session import SIMULATED
from data.datasets import LOADERS
from models.architectures import ARCHITECTURES, Precision

HELP = """<b>Network</b>: from a network file to answers on silicon.
<ul><li>Open a network, or train one, on the data set that is chosen; sets that are read from files need the folder of
data sets (…).</li>
<li>The plan says how many tiles of the array the network takes, with pulses, energy and time of programming them.</li>
<li>Runs of <i>characterise</i> tell which cells are stuck or weak; weights are then placed around them.</li>
<li><i>Program and infer</i> programs tile by tile with verify, watched on the map, and sends the samples through.
The accuracy is predicted before, with its 95 % interval.</li>
<li><i>Confirm</i> is the whole way: measure the cells, place, predict, program, infer, and put errors to their
causes.</li>
<li>Afterwards: confusion (click a number to see its samples), samples with the wrong ones first, errors by cause
and layer. Older inference runs are opened at the bottom.</li>
<li><i>Tune</i> fits thresholds and offsets to the sums of this very chip; the tuned network is saved beside the
runs.</li>
<li>Pause and Stop are at the bottom of the window; F12 switches all outputs off at once.</li></ul>"""

MANY = 1000
USUAL = 500
"""Of a larger test set only so many samples are inferred, unless more are asked for: each takes its time on a wire."""

LAST, CHOSEN, NONE = "last characterisation of this chip", "runs that I choose…", "none: weights as they come"
NETWORKS = "Networks (*.safetensors *.onnx);;All files (*)"
RUNS = "Run files (*.h5)"


class NetworkPanel(QWidget):
    """Controls of the workspace Network.

    Attributes:
        study: what is done with the network.
        open_button, train_button, infer_button, confirm_button, tune_button, answers_button, plan_button: what they
            say.
        data, architecture, epochs, seed, with_errors: what is opened or trained.
        defects, placed: what the plan is made with.
        form, samples, predict, form_first, measure: how the network is inferred.
        table: accuracies, predicted and measured.
    """

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller, self.study = controller, NetworkStudy.of(controller)
        self._folder: Path | None = None
        self._formed = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        for make in (self._make_source, self._make_training, self._make_plan, self._make_silicon, self._make_answers):
            layout.addWidget(make())
        layout.addStretch(1)
        controller.busy_changed.connect(self.refresh)
        controller.bench_changed.connect(self._on_bench)
        controller.array_changed.connect(self._on_array)
        controller.device_changed.connect(self.refresh)
        controller.network_changed.connect(self._on_network)
        self.study.plan_changed.connect(self.refresh)
        self._on_bench()

    def _make_source(self) -> QWidget:
        self.open_button, self._browse = QPushButton("Open network…"), QToolButton()
        self.open_button.setToolTip("Opens a network file (.safetensors), or imports an ONNX file (.onnx).")
        self.open_button.clicked.connect(self._on_open)
        self.data = _chooser(LOADERS, "data set", "What the network is tested with, and trained on.")
        self.data.activated.connect(lambda *_: self._on_source())
        self._browse.setText("…")
        self._browse.setToolTip("Chooses the folder of data sets, for those that are read from files.")
        self._browse.setAccessibleName("folder of data sets")
        self._browse.clicked.connect(self._on_folder)
        self._about = note()
        box, inside = _box("Network")
        inside.addLayout(_row("&Data set", self.data, self._browse))
        inside.addWidget(self.open_button)
        inside.addWidget(self._about)
        return box

    def _make_training(self) -> QWidget:
        names = [
            name for name, plan in ARCHITECTURES.items()
            if Precision.REAL not in (plan.last, *(block.weights for block in plan.blocks))
        ]  # fmt: skip
        self.architecture = _chooser(
            names, "architecture", "What is trained; the array takes networks of whole numbers."
        )
        self.epochs, self.seed = _number(1, 100_000, EPOCHS, "epochs"), _number(0, 2**31 - 1, 0, "seed")
        self.with_errors = QCheckBox()
        self.train_button = QPushButton("Train")
        self.train_button.clicked.connect(self._on_train)
        box, outside = _box("")
        self.train_toggle, content = QToolButton(), QWidget()
        self.train_toggle.setText("Train one")
        self.train_toggle.setToolTip("Shows what a network is trained with, or hides it.")
        self.train_toggle.setCheckable(True)
        self.train_toggle.setAutoRaise(True)
        self.train_toggle.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.train_toggle.toggled.connect(content.setVisible)
        self.train_toggle.toggled.connect(
            lambda shown: self.train_toggle.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        )
        self.train_toggle.setChecked(True)
        inside = QVBoxLayout(content)
        inside.setContentsMargins(0, 0, 0, 0)
        outside.addWidget(self.train_toggle)
        outside.addWidget(content)
        inside.addLayout(_row("&Architecture", self.architecture))
        inside.addLayout(_row("&Epochs", self.epochs, "&Seed", self.seed))
        inside.addWidget(self.with_errors)
        inside.addWidget(self.train_button)
        return box

    def _make_plan(self) -> QWidget:
        self.defects = _chooser((LAST, CHOSEN, NONE), "known defects", "What is known of the cells of this chip.")
        self.defects.activated.connect(lambda *_: self._on_defects())
        self.placed = QCheckBox("&place weights around defects")
        self.placed.setChecked(True)
        self.placed.setToolTip("Deals rows and columns of each tile out so that stuck and weak cells do least harm.")
        self.placed.toggled.connect(self.study.place)
        self._plan = note()
        self.plan_button = QPushButton("Plan")
        self.plan_button.setToolTip("Works the plan out; with so many tiles that takes a while.")
        self.plan_button.clicked.connect(lambda: self.study.plan(asked=True))
        box, inside = _box("Plan")
        inside.addLayout(_row("De&fects", self.defects))
        inside.addWidget(self.placed)
        inside.addWidget(self._plan)
        inside.addWidget(self.plan_button)
        return box

    def _make_silicon(self) -> QWidget:
        self.form = ParameterForm("inference", InferenceParameters, pairs=1)
        self.form.changed.connect(self.refresh)
        self.samples = _number(0, 0, 0, "samples")
        self.samples.setSpecialValueText("all")
        self.samples.setToolTip("How many of the test samples are inferred, from the first on; 0 for all.")
        self.predict = QCheckBox("p&redict first")
        self.predict.setChecked(True)
        self.predict.setToolTip(
            "Predicts the accuracy and its 95 % interval before anything is programmed: from the runs that tell of "
            "this chip, else from the device file in use."
        )
        self.infer_button = QPushButton("Program and infer")
        self.infer_button.clicked.connect(self._on_infer)
        self._advice = note()
        self.measure, self.form_first = QCheckBox("&measure the cells"), QCheckBox("f&orm the chip")
        self.measure.setChecked(True)
        self.measure.setToolTip("Characterises the chip first; otherwise the runs named under Plan tell of it.")
        self.form_first.setToolTip("For a chip fresh from the wafer: forms all cells before anything else.")
        self.confirm_button, self.tune_button = QPushButton("Confirm"), QPushButton("Tune on silicon")
        self.confirm_button.setToolTip(
            "The whole way: measure the cells, place, predict, program, infer, and put errors to their causes."
        )
        self.confirm_button.clicked.connect(self._on_confirm)
        self.tune_button.setToolTip(
            "Fits thresholds and offsets to the sums of this chip, with as many training samples as are set above, "
            "and opens the tuned network, which is saved beside the runs."
        )
        self.tune_button.clicked.connect(self._on_tune)
        box, inside = _box("On silicon")
        inside.addWidget(self.form)
        inside.addLayout(_row("Sam&ples", self.samples, self.predict))
        inside.addWidget(self.infer_button)
        inside.addLayout(_row(self.measure, self.form_first))
        inside.addLayout(_row(self.confirm_button, self.tune_button))
        inside.addWidget(self._advice)
        return box

    def _make_answers(self) -> QWidget:
        box, inside = _box("Accuracy")
        self.table = AccuracyTable(self._controller)
        self.answers_button = QPushButton("Open inference run…")
        self.answers_button.setToolTip("Shows the answers of an earlier inference, from its run file.")
        self.answers_button.clicked.connect(self._on_answers)
        inside.addWidget(self.table)
        inside.addWidget(self.answers_button)
        return box

    def refresh(self) -> None:
        """Say what there is, and what can be done with it."""
        controller, study = self._controller, self.study
        free, network, bench = controller.studying is None, controller.network, controller.bench
        for widget in (self.train_button, self.open_button):
            widget.setEnabled(free)
        why, idle = study.why_not(), controller.idle
        ready = idle and not why and not self.form.problems
        self.infer_button.setEnabled(ready)
        self.tune_button.setEnabled(ready)
        self.confirm_button.setEnabled(idle and network is not None and bench is not None and not self.form.problems)
        self.infer_button.setToolTip(f"Not now: {why}." if why else "Programs tile by tile with verify, then infers.")
        self._about.setText(self._network_text())
        known = bool(study.runs_of_chip())
        self.placed.setEnabled(known)
        self.measure.setEnabled(known)
        if not known:
            self.measure.setChecked(True)
        self._refresh_plan()
        device = controller.device
        self.with_errors.setEnabled(device is not None)
        self.with_errors.setText("with &errors of the fitted device")
        self.with_errors.setToolTip(
            "Fit a characterisation and use its device file first, in the workspace Calibration."
            if device is None
            else f"The weights err while learning as {device} says, so that the network comes to bear it."
        )
        if device is None:
            self.with_errors.setChecked(False)
        self._refresh_advice()

    def _network_text(self) -> str:
        network = self._controller.network
        if network is None:
            return "No network is open. Open a network file, or train one: digits-bnn takes some seconds."
        sizes = " – ".join(str(size) for size in network.sizes)
        return (
            f"<b>{network.network.name}</b>: {sizes}; {len(network.data.test_labels)} test samples of "
            f"{network.data.name}, {network.software_accuracy:.2%} right in software"
        )

    def _refresh_plan(self) -> None:
        planned, hue = self.study.planned, None
        self.plan_button.setVisible(planned is not None and planned.facts is None and not planned.trouble)
        self.plan_button.setEnabled(self._controller.studying is None)
        if self._controller.network is None:
            text = "A network's tiles, pulses, energy and time are said here before anything is programmed."
        elif planned is None:
            text = "working out the plan …"
        elif planned.trouble:
            text, hue = planned.trouble, ALARM
        elif planned.facts is None:
            text = f"{planned.tiles} tiles: press Plan to work out what programming them takes."
        else:
            facts = planned.facts
            cost = facts.costs["every_cell"]
            text = (
                f"{len(facts.plan.tiles)} tiles; programming once: {cost.pulses} pulses, at most "
                f"{si(cost.energy_j, 'J')}, about {span(cost.seconds)}"
            )
            if facts.harms is not None and planned.known is not None:
                stuck, wrong = int(planned.known.stuck.sum()), facts.harms[1].wrong
                text += f"; {plural(stuck, 'stuck cell')}, on which {plural(wrong, 'weight')} will read wrong"
            elif not self.study.runs_of_chip():
                text += "; nothing is known of the cells: run characterise to place weights around defects"
        self._plan.setText(text)
        colour(self._plan, hue)

    def _refresh_advice(self) -> None:
        bench, state = self._controller.bench, self._controller.state
        shade = None
        if bench is None or state is None:
            text = "It runs on a connected bench."
        elif not (state.formed == 1).any():
            text, shade = "No cell was formed from this window. A virgin chip needs Form on all cells first.", WARN
        else:
            text = f"SET, RESET and SENSE rails, on all {bench.config.geometry.cells} cells"
            points = bench.config.points
            used = (points.set, points.reset, points.sense)
            self._advice.setToolTip("\n".join(describe_point(point) for point in used))
        self._advice.setText(text)
        colour(self._advice, shade)

    def _on_bench(self) -> None:
        bench = self._controller.bench
        # a simulated chip is fresh from the wafer at every start
        self.form_first.setChecked(bench is not None and bench.source == SIMULATED)
        self._formed = False
        self.refresh()

    def _on_array(self) -> None:
        state = self._controller.state
        formed = state is not None and bool((state.formed == 1).any())
        if formed and not self._formed:
            self.form_first.setChecked(False)
        self._formed = formed
        self._refresh_advice()

    def _on_network(self) -> None:
        network = self._controller.network
        if network is not None:
            self.train_toggle.setChecked(False)  # what comes next has its place without scrolling
            count = len(network.data.test_labels)
            self.samples.setMaximum(count)
            self.samples.setValue(USUAL if count > MANY else 0)
        self.refresh()

    def _on_source(self) -> None:
        self.study.source = Source(self.data.currentText(), self._folder)

    def _on_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(
            self, "Folder of data sets", "" if self._folder is None else str(self._folder)
        )
        if chosen:
            self.use_folder(Path(chosen))

    def use_folder(self, folder: Path) -> None:
        """Read data sets from this folder."""
        self._folder = folder
        self._browse.setToolTip(f"Folder of data sets: {folder}")
        self._on_source()

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Network", str(self._controller.folder), NETWORKS)
        if path:
            self.study.open(Path(path))

    def _on_train(self) -> None:
        self.study.train(
            self.architecture.currentText(), self.epochs.value(), self.seed.value(), self.with_errors.isChecked()
        )

    def _on_defects(self) -> None:
        choice = self.defects.currentText()
        if choice == CHOSEN:
            paths, _ = QFileDialog.getOpenFileNames(
                self, "Runs of characterise, bit-error or program on this chip", str(self._controller.folder), RUNS
            )
            if not paths:
                present = self.study.defects
                self.defects.setCurrentText(LAST if present is None else CHOSEN if present else NONE)
                return
            self.use_runs(tuple(Path(path) for path in paths))
        else:
            self.defects.setToolTip("What is known of the cells of this chip.")
            self.study.choose_defects(None if choice == LAST else ())

    def use_runs(self, runs: tuple[Path, ...]) -> None:
        """Take what is known of the chip's cells from these runs."""
        self.defects.setCurrentText(CHOSEN)
        self.defects.setToolTip("\n".join(path.name for path in runs))
        self.study.choose_defects(runs)

    def _count(self) -> int | None:
        return self.samples.value() if self.samples.value() else None

    def _on_infer(self) -> None:
        self.study.infer(self.form.settings(), self._count(), self.predict.isChecked())

    def _on_confirm(self) -> None:
        modes = InferenceParameters.model_validate(self.form.settings()).modes
        self.study.confirm(
            tuple(dict.fromkeys(modes)), self._count(), self.form_first.isChecked(), self.measure.isChecked()
        )

    def _on_tune(self) -> None:
        mode = InferenceParameters.model_validate(self.form.settings()).modes[-1]
        self.study.tune({"mode": mode}, self._count())

    def _on_answers(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Inference run", str(self._controller.folder), RUNS)
        if path:
            self.study.open_answers(Path(path))


def _box(title: str) -> tuple[QGroupBox, QVBoxLayout]:
    box = QGroupBox(title)
    layout = QVBoxLayout(box)
    layout.setContentsMargins(6, 4, 6, 4)
    layout.setSpacing(4)
    return box, layout


def _row(*parts: str | QWidget) -> QLayout:
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


def _chooser(texts: Iterable[str], name: str, about: str) -> QComboBox:
    chooser = QComboBox()
    chooser.addItems(list(texts))
    chooser.setAccessibleName(name)
    chooser.setToolTip(about)
    chooser.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    chooser.setMinimumWidth(80)
    return chooser


def _number(low: int, high: int, value: int, name: str) -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, high)
    box.setValue(value)
    box.setAccessibleName(name)
    box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    box.setMinimumWidth(box.fontMetrics().horizontalAdvance("00000") + 2 * box.fontMetrics().height())
    return box
