"""A network on silicon: open or train it, see its plan, program it, infer, and see whether it came out as predicted."""

from __future__ import annotations

from pathlib import Path

from PyQt5.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from bench.figures.records import plural
from bench.gui.accuracy_table import AccuracyTable
from bench.gui.actions_panel import describe_point
from bench.gui.boxes import box, chooser, folded, number, row
from bench.gui.controller import Controller
from bench.gui.network_study import NetworkStudy
from bench.gui.network_work import Source, span
from bench.gui.parameter_form import ParameterForm
from bench.gui.style import ALARM, WARN, colour, note
from bench.gui.units import si
from bench.inference import InferenceParameters
from bench.learning import LearningParameters
from bench.loop import EPOCHS
from bench.session import SIMULATED
from data.datasets import LOADERS
from models.architectures import ARCHITECTURES, Precision

HELP = """<b>Network</b>: from a network file to answers on silicon.
<ul><li>Open a network, or train one, on the data set that is chosen; sets that are read from files need the folder of
data sets (…).</li>
<li>The plan says how many tiles of the array the network takes, with pulses, energy and time of programming them.</li>
<li>A plan can be saved, and one that was saved opened; one for another network, array or chip is refused.</li>
<li>Runs of <i>characterise</i> tell which cells are stuck or weak; weights are then placed around them.</li>
<li><i>Program and infer</i> programs tile by tile with verify, watched on the map, and sends the samples through.
The accuracy is predicted before, with its 95 % interval.</li>
<li><i>Confirm</i> is the whole way: measure the cells, place, predict, program, infer, and put errors to their
causes.</li>
<li>Afterwards: confusion (click a number to see its samples), samples with the wrong ones first, errors by cause
and layer. Older inference runs are opened at the bottom.</li>
<li><i>Tune</i> fits thresholds and offsets to the sums of this very chip; the tuned network is saved beside the
runs. <i>Learn the last layer</i> has it learn on the chip by weak RESETs.</li>
<li>Pause and Stop are at the bottom of the window; F12 switches all outputs off at once.</li></ul>"""

MANY = 1000
USUAL = 500
"""Of a larger test set only so many samples are inferred, unless more are asked for: each takes its time on a wire."""

LAST, CHOSEN, NONE = "last characterisation of this chip", "runs that I choose…", "none: weights as they come"
NETWORKS = "Networks (*.safetensors *.onnx);;All files (*)"
RUNS = "Run files (*.h5)"
PLANS = "Plans (*.json);;All files (*)"


class NetworkPanel(QWidget):
    """Controls of the workspace Network.

    Attributes:
        study: what is done with the network.
        open_button, train_button, infer_button, confirm_button, tune_button, learn_button, answers_button,
            plan_button: what they say.
        data, architecture, epochs, seed, with_errors: what is opened or trained.
        defects, placed: what the plan is made with; plan_file_button, save_plan_button: plans as files.
        form, samples, predict, form_first, measure: how the network is inferred; learning: how its last layer learns.
        table: accuracies, predicted and measured.
    """

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller, self.study = controller, NetworkStudy.of(controller)
        self._folder: Path | None = None
        self._formed = False
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        for make in (
            self._make_source,
            self._make_training,
            self._make_plan,
            self._make_silicon,
            self._make_learning,
            self._make_answers,
        ):
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
        self.data = chooser(LOADERS, "data set", "What the network is tested with, and trained on.")
        self.data.activated.connect(lambda *_: self._on_source())
        self._browse.setText("…")
        self._browse.setToolTip("Chooses the folder of data sets, for those that are read from files.")
        self._browse.setAccessibleName("folder of data sets")
        self._browse.clicked.connect(self._on_folder)
        self._about = note()
        group, inside = box("Network")
        inside.addLayout(row("&Data set", self.data, self._browse))
        inside.addWidget(self.open_button)
        inside.addWidget(self._about)
        return group

    def _make_training(self) -> QWidget:
        names = [
            name for name, plan in ARCHITECTURES.items()
            if Precision.REAL not in (plan.last, *(block.weights for block in plan.blocks))
        ]  # fmt: skip
        self.architecture = chooser(
            names, "architecture", "What is trained; the array takes networks of whole numbers."
        )
        self.epochs, self.seed = number(1, 100_000, EPOCHS, "epochs"), number(0, 2**31 - 1, 0, "seed")
        self.with_errors = QCheckBox()
        self.train_button = QPushButton("Train")
        self.train_button.clicked.connect(self._on_train)
        group, outside = box("")
        content = QWidget()
        self.train_toggle = folded("Train one", "Shows what a network is trained with, or hides it.", content)
        inside = QVBoxLayout(content)
        inside.setContentsMargins(0, 0, 0, 0)
        outside.addWidget(self.train_toggle)
        outside.addWidget(content)
        inside.addLayout(row("&Architecture", self.architecture))
        inside.addLayout(row("&Epochs", self.epochs, "&Seed", self.seed))
        inside.addWidget(self.with_errors)
        inside.addWidget(self.train_button)
        return group

    def _make_plan(self) -> QWidget:
        self.defects = chooser((LAST, CHOSEN, NONE), "known defects", "What is known of the cells of this chip.")
        self.defects.activated.connect(lambda *_: self._on_defects())
        self.placed = QCheckBox("&place weights around defects")
        self.placed.setChecked(True)
        self.placed.setToolTip("Deals rows and columns of each tile out so that stuck and weak cells do least harm.")
        self.placed.toggled.connect(self.study.place)
        self._plan = note()
        self.plan_button = QPushButton("Plan")
        self.plan_button.setToolTip("Works the plan out; with so many tiles that takes a while.")
        self.plan_button.clicked.connect(lambda: self.study.plan(asked=True))
        self.plan_file_button, self.save_plan_button = QPushButton(), QPushButton("Save plan…")
        self.plan_file_button.clicked.connect(self._on_plan_file)
        self.save_plan_button.setToolTip("Saves which cell holds which weight, for infer, confirm and tune --plan.")
        self.save_plan_button.clicked.connect(self._on_save_plan)
        group, inside = box("Plan")
        inside.addLayout(row("De&fects", self.defects))
        inside.addWidget(self.placed)
        inside.addWidget(self._plan)
        inside.addWidget(self.plan_button)
        inside.addLayout(row(self.plan_file_button, self.save_plan_button))
        return group

    def _make_silicon(self) -> QWidget:
        self.form = ParameterForm("inference", InferenceParameters, pairs=1)
        self.form.changed.connect(self.refresh)
        self.samples = number(0, 0, 0, "samples")
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
        group, inside = box("On silicon")
        inside.addWidget(self.form)
        inside.addLayout(row("Sam&ples", self.samples, self.predict))
        inside.addWidget(self.infer_button)
        inside.addLayout(row(self.measure, self.form_first))
        inside.addLayout(row(self.confirm_button, self.tune_button))
        inside.addWidget(self._advice)
        return group

    def _make_learning(self) -> QWidget:
        self.learning = ParameterForm("learning", LearningParameters, pairs=1)
        self.learning.changed.connect(self.refresh)
        self.learn_button = QPushButton("Learn on silicon")
        self.learn_button.clicked.connect(self._on_learn)
        self.learn_button.setToolTip(
            "SETs the devices of the last layer and lets them learn by weak RESETs, with as many training samples as "
            "are set above; opens the network that learned, which is saved beside the runs."
        )
        content = QWidget()
        self.learn_toggle = folded("Learn the last layer", "Shows what learning is set to, or hides it.", content)
        group, outside = box("")
        inside = QVBoxLayout(content)
        inside.setContentsMargins(0, 0, 0, 0)
        outside.addWidget(self.learn_toggle)
        outside.addWidget(content)
        inside.addWidget(self.learning)
        inside.addWidget(self.learn_button)
        self.learn_toggle.setChecked(False)
        return group

    def _make_answers(self) -> QWidget:
        group, inside = box("Accuracy")
        self.table = AccuracyTable(self._controller)
        self.answers_button = QPushButton("Open inference run…")
        self.answers_button.setToolTip("Shows the answers of an earlier inference, from its run file.")
        self.answers_button.clicked.connect(self._on_answers)
        inside.addWidget(self.table)
        inside.addWidget(self.answers_button)
        return group

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
        possible = idle and network is not None and bench is not None
        self.confirm_button.setEnabled(possible and not self.form.problems)
        self.learn_button.setEnabled(possible and not self.learning.problems)
        self.infer_button.setToolTip(f"Not now: {why}." if why else "Programs tile by tile with verify, then infers.")
        self._about.setText(self._network_text())
        known = bool(study.runs_of_chip())
        self.placed.setEnabled(known and study.plan_file is None)
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
        planned, file, hue = self.study.planned, self.study.plan_file, None
        self.plan_file_button.setText("Open plan…" if file is None else "Leave that plan")
        self.plan_file_button.setToolTip(
            "Takes a plan that was saved here, or made by rram-bench map." if file is None else "Makes a plan again."
        )
        self.plan_file_button.setEnabled(self._controller.network is not None)
        self.save_plan_button.setEnabled(planned is not None and planned.facts is not None)
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
            elif not self.study.runs_of_chip() and file is None:
                text += "; nothing is known of the cells: run characterise to place weights around defects"
        self._plan.setText(text if file is None else f"{file.name}: {text}")
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

    def _on_plan_file(self) -> None:
        path = ""
        if self.study.plan_file is None:
            path, _ = QFileDialog.getOpenFileName(self, "Plan", str(self._controller.folder), PLANS)
            if not path:
                return
        self.study.use_plan(Path(path) if path else None)

    def _on_save_plan(self) -> None:
        network = self._controller.network
        name = "plan.json" if network is None else f"{network.network.name}-plan.json"
        path, _ = QFileDialog.getSaveFileName(self, "Save the plan", str(self._controller.folder / name), PLANS)
        if path:
            self.study.save_plan(Path(path) if Path(path).suffix else Path(path).with_suffix(".json"))

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

    def _on_learn(self) -> None:
        self.study.learn(self.learning.settings(), self._count())

    def _on_answers(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Inference run", str(self._controller.folder), RUNS)
        if path:
            self.study.open_answers(Path(path))
