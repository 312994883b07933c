"""What the workspace Network shows: training, plan, accuracy against its prediction, confusion, samples and errors."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PyQt5.QtCore import QTimer
from PyQt5.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QProxyStyle,
    QPushButton,
    QStyle,
    QStyleOption,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from bench.gui.accuracy_plots import AccuracyPlot, TrainingPlot
from bench.gui.accuracy_table import ROWS, VERDICTS
from bench.gui.answers import SOFTWARE, cause_columns, confusion, layer_rows, names_for, wrong_first
from bench.gui.confusion_table import ConfusionTable
from bench.gui.controller import Controller
from bench.gui.figure_view import FigureView
from bench.gui.network_study import NetworkStudy
from bench.gui.network_work import Planned, span
from bench.gui.sample_list import SampleList
from bench.gui.style import colour, note
from bench.gui.text_table import Heading, TextTable
from bench.gui.units import si

if TYPE_CHECKING:
    from bench.figures.records import TitledFigure

REDRAW_MS = 200
TAB_SPACE = 12
CAPTION = "Each square is a tile on the array, numbered in the order of programming."
NO_TRAINING = "No network was trained yet.\n\nChoose an architecture on the right and press Train."
NO_PLAN = "No network is open.\n\nOpen or train one on the right; how it lies on the array is then shown here."
NO_ACCURACY = (
    "Nothing was inferred yet.\n\nConnect a bench, open a network, and press “Program and infer” or “Confirm”; "
    "or open an earlier inference run."
)
NO_ANSWERS = "No answers yet.\n\nThey are shown after an inference, or when an inference run is opened on the right."
LAYERS = (
    Heading("sums\nwrong", "share of the sums that differ from the exact ones of the same inputs"),
    Heading("rms of the\ndifference", "root mean square difference of the sums"),
    Heading("outputs\nwrong", "share of the outputs that differ from the integer network, whatever the cause"),
)


class _Narrow(QProxyStyle):
    """Tabs no wider than their words need: all of them are seen on a laptop."""

    def pixelMetric(
        self, metric: QStyle.PixelMetric, option: QStyleOption | None = None, widget: QWidget | None = None
    ) -> int:
        """Less space beside the words of a tab."""
        return (
            TAB_SPACE
            if metric == QStyle.PixelMetric.PM_TabBarTabHSpace
            else super().pixelMetric(metric, option, widget)
        )


class NetworkView(QWidget):
    """The middle of the window while a network is at work.

    Attributes:
        tabs: the pages; ``training``, ``figures``, ``accuracy``, ``confusion``, ``samples``, ``causes``, ``layers``:
            what is on them.
        mode: way of inferring whose confusion and samples are shown.
        verdict: whether it came out as predicted.
    """

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller, self._study = controller, NetworkStudy.of(controller)
        self._pair: tuple[int, int] | None = None
        self.training, self.accuracy = TrainingPlot(), AccuracyPlot()
        self.training_about, self.plan_about = note(NO_TRAINING), note(NO_PLAN)
        self.verdict, self.stage = note(NO_ACCURACY), note()
        self.figures = FigureView(controller, "plan", "")
        self.confusion, self.samples = ConfusionTable(), SampleList()
        self.causes, self.layers = TextTable("wrong weights by cause"), TextTable("layers against the exact integers")
        self.mode, self.all_button = QComboBox(), QPushButton("All samples")
        self.mode.setAccessibleName("answers shown")
        self.mode.setToolTip("Whose answers are shown: those on silicon, or those of the network in software.")
        self.mode.currentIndexChanged.connect(lambda *_: self._show_answers())
        self.all_button.setToolTip("Shows all samples again, the wrong ones first.")
        self.all_button.clicked.connect(lambda: self._pick(None))
        self.confusion.picked.connect(lambda row, col: self._pick((row, col)))
        self.mark_button = QPushButton("Show wrong cells on the map")
        self.mark_button.setToolTip("Marks the cells that held a weight that they did not read.")
        self.mark_button.clicked.connect(self._on_mark)
        self.confusion_about, self.samples_about, self.errors_about = note(), note(), note()
        self.tabs = QTabWidget()
        bar = self.tabs.tabBar()
        assert bar is not None
        self._narrow = _Narrow()
        bar.setStyle(self._narrow)
        self.tabs.setUsesScrollButtons(True)
        self._redraw = QTimer(self)
        self._redraw.setSingleShot(True)
        self._redraw.setInterval(REDRAW_MS)
        self._redraw.timeout.connect(self._show_accuracy)
        self._arrange()
        self._study.training_changed.connect(self._show_training)
        self._study.plan_changed.connect(self._show_plan)
        self._study.accuracy_changed.connect(self._on_accuracy)
        self._study.shown_changed.connect(self._on_shown)
        self._show_training()
        self._show_plan()
        self._show_accuracy()
        self._on_shown()

    def _arrange(self) -> None:
        for name, widgets in (
            ("Train", (self.training_about, self.training)),
            ("Plan", (self.plan_about, self.figures)),
            ("Accuracy", (self.verdict, self.stage, self.accuracy)),
            ("Confusion", (self.confusion_about, self.confusion)),
            ("Samples", (self.samples_about, self.samples)),
            ("Errors", (self.errors_about, self.causes, self.layers)),
        ):
            page = QWidget()
            inside = QVBoxLayout(page)
            inside.setContentsMargins(4, 4, 4, 4)
            for widget in widgets:
                inside.addWidget(widget, 0 if isinstance(widget, QLabel) else 1)
            # without content the words stand at the top
            inside.addStretch(0)
            self.tabs.addTab(page, name)
        errors = self.tabs.widget(5)
        assert errors is not None
        layout = errors.layout()
        assert isinstance(layout, QVBoxLayout)
        layout.insertWidget(2, self.mark_button)
        row = QHBoxLayout()
        self._mode_label = QLabel("Answers &of")
        self._mode_label.setBuddy(self.mode)
        row.addWidget(self._mode_label)
        row.addWidget(self.mode, 1)
        row.addWidget(self.all_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addLayout(row)
        layout.addWidget(self.tabs, 1)
        self.tabs.currentChanged.connect(lambda *_: self._show_row())

    def show_page(self, name: str) -> None:
        """Bring a page to the front."""
        names = [self.tabs.tabText(at) for at in range(self.tabs.count())]
        self.tabs.setCurrentIndex(names.index(name))

    def _show_row(self) -> None:
        page = self.tabs.tabText(self.tabs.currentIndex())
        answers = page in ("Confusion", "Samples") and self._study.shown is not None
        for widget in (self._mode_label, self.mode):
            widget.setVisible(answers)
        self.all_button.setVisible(answers and page == "Samples" and self._pair is not None)

    def _show_training(self) -> None:
        study = self._study
        self.training.setVisible(bool(study.training))
        self.training_about.setText(study.training if study.training else NO_TRAINING)
        if study.training:
            if not study.epochs:
                self.show_page("Train")
            elif study.epochs:
                _, held_out, _ = study.epochs[-1]
                best = max(epoch[1] for epoch in study.epochs)
                self.training_about.setText(
                    f"{study.training}: {held_out:.2%} of the held-out samples right after epoch "
                    f"{study.epochs[-1][0]}, {best:.2%} at best"
                )
            self.training.put(study.epochs)

    def _show_plan(self) -> None:
        planned, network = self._study.planned, self._controller.network
        facts = None if planned is None else planned.facts
        self.figures.setVisible(facts is not None)
        if network is None:
            self.plan_about.setText(NO_PLAN)
        elif planned is None:
            self.plan_about.setText("working out the plan …")
        elif facts is None:
            self.plan_about.setText(planned.trouble or f"{planned.tiles} tiles: press Plan on the right.")
        else:
            self.plan_about.setText(plan_text(planned))
            known = {} if planned.known is None else {planned.known.chip_id: planned.known}
            plan, integers = facts.plan, network.network

            def make() -> list[TitledFigure]:
                from bench.figures.records import TitledFigure
                from bench.plan_pictures import plan_figure

                # a plan with its weights as they come is of any chip, and so has no marks of stuck cells
                return [TitledFigure("plan", "Plan", CAPTION, plan_figure(plan, integers, known))]

            self.figures.put(make)
            if self.tabs.tabText(self.tabs.currentIndex()) == "Train" and not self._study.training:
                self.show_page("Plan")

    def _on_accuracy(self) -> None:
        if not self._redraw.isActive():
            self._redraw.start()

    def _show_accuracy(self) -> None:
        study = self._study
        points, foretold = study.running.points, study.foretold
        under_way = bool(study.stage)
        any_there = under_way or bool(points) or foretold is not None
        self.accuracy.setVisible(any_there)
        self.stage.setVisible(under_way)
        self.stage.setText(study.stage)
        if not any_there:
            self.verdict.setText(NO_ACCURACY)
            colour(self.verdict, None)
            return
        count = max([1, *(at for found in points.values() for at, _ in found)])
        if study.shown is not None:
            count = len(study.shown.answers.labels)
        elif foretold is not None:
            count = foretold.samples
        self.accuracy.put(points, foretold, count)
        text, inside = self._verdict()
        self.verdict.setText(text)
        colour(self.verdict, VERDICTS[inside][0])

    def _verdict(self) -> tuple[str, bool | None]:
        """What is to be said of prediction and measurement, and whether all came out as predicted."""
        study = self._study
        foretold, shown = study.foretold, study.shown
        predicted = "" if foretold is None else foretold.text()
        if shown is None:
            return (predicted if predicted else "Nothing was predicted for this run."), None
        lines, verdicts = [], []
        for mode in shown.answers.modes:
            measured = shown.answers.accuracy(mode)
            inside = None if foretold is None else foretold.inside(mode, measured)
            one = None if foretold is None else foretold.modes.get(mode)
            line = f"{ROWS[mode]}: {measured:.2%}"
            if one is not None:
                verdicts.append(bool(inside))
                where = "INSIDE" if inside else "OUTSIDE"
                line += f", {where} the predicted {one.low:.2%} to {one.high:.2%} (mean {one.mean:.2%})"
            lines.append(line)
        count = len(shown.answers.labels)
        lines.append(f"{count} samples; in software {shown.answers.accuracy(SOFTWARE):.2%}")
        if not verdicts:
            lines.append(predicted if predicted else "what was predicted is not kept in run files")
        return "\n".join(lines), all(verdicts) if verdicts else None

    def _on_shown(self) -> None:
        shown, self._pair = self._study.shown, None
        self.mode.blockSignals(True)
        present = self.mode.currentText()
        self.mode.clear()
        if shown is not None:
            for name in (*shown.answers.modes, SOFTWARE):
                self.mode.addItem(f"{ROWS[name]} ({shown.answers.accuracy(name):.2%})", name)
            kept = [at for at in range(self.mode.count()) if self.mode.itemText(at) == present]
            # the last way is the one with the array's own sums, where it was run
            self.mode.setCurrentIndex(kept[0] if kept else len(shown.answers.modes) - 1)
        self.mode.blockSignals(False)
        for widget in (self.confusion, self.samples, self.causes, self.layers, self.mark_button):
            widget.setVisible(shown is not None)
        self._show_accuracy()
        self._show_errors()
        self._show_answers()
        if shown is not None:
            self.show_page("Accuracy")

    def _show_answers(self) -> None:
        shown = self._study.shown
        self._show_row()
        if shown is None:
            self.confusion_about.setText(NO_ANSWERS)
            self.samples_about.setText(NO_ANSWERS)
            return
        answers, mode = shown.answers, self.mode.currentData()
        labels, found, names = answers.labels, answers.by_mode[mode], names_for(answers, shown.data)
        self.confusion.put(confusion(labels, found, len(names)), names)
        wrong = int((labels != found).sum())
        self.confusion_about.setText(
            f"{answers.network}, {ROWS[mode]}: {wrong} of {len(labels)} wrong. Rows: what a sample is; columns: what "
            "was answered. Click a number to see its samples."
        )
        order = wrong_first(labels, found, self._pair)
        self.samples.put(shown.data, order, labels, found, names)
        if self._pair is None:
            text = f"{wrong} of {len(labels)} wrong; wrong ones first, “is → answered”."
        else:
            is_, answered = (names[at] for at in self._pair)
            text = f"{len(order)} samples of {is_} answered {answered}."
        self.samples_about.setText(f"{text} {shown.note}".strip())

    def _pick(self, pair: tuple[int, int] | None) -> None:
        self._pair = pair
        if pair is not None:
            self.show_page("Samples")
        self._show_answers()

    def _show_errors(self) -> None:
        shown = self._study.shown
        if shown is None:
            self.errors_about.setText(NO_ANSWERS)
            return
        answers = shown.answers
        layers, causes = cause_columns(answers.result)
        self.causes.put(
            [Heading(name) for name in layers], [name for name, _ in causes], [row for _, row in causes], True
        )
        rows = layer_rows(answers.result)
        self.layers.put(LAYERS, [name for name, _ in rows], [texts for _, texts in rows], numbers=True)
        errors = answers.result["errors"]
        self.errors_about.setText(
            f"{answers.network} on chip {answers.chip_id}. Wrong weights: {errors['stuck']} on stuck cells, "
            f"{errors['programming']} given up at the verify, {errors['read']} read wrong afterwards."
        )
        wrong = int(np.count_nonzero(answers.wrong_cells))
        bench = self._controller.bench
        here = bench is not None and bench.chip_id == answers.chip_id
        self.mark_button.setText(f"Show {wrong} wrong cells on the map")
        self.mark_button.setEnabled(wrong > 0 and here)

    def _on_mark(self) -> None:
        shown, state = self._study.shown, self._controller.state
        if shown is None or state is None or shown.answers.wrong_cells.shape != tuple(state.geometry):
            self._controller.complain("Show on map", "the run is of another array than the one that is connected")
            return
        self._controller.mark(
            shown.answers.wrong_cells > 0, f"held weights that read wrong in {shown.answers.path.name}"
        )


def plan_text(planned: Planned) -> str:
    """What a plan takes, as a small table."""
    facts = planned.facts
    assert facts is not None
    plan, energy = facts.plan, facts.inference["on_chip_j"]
    layers = max(tile.layer for tile in plan.tiles) + 1
    per_layer = ", ".join(str(len(plan.of_layer(index))) for index in range(layers))
    rows = [
        ("array", f"{plan.array.rows} × {plan.array.cols} cells of {plan.chip_id or 'any chip'}"),
        ("tiles", f"{len(plan.tiles)} (layer by layer: {per_layer})"),
        ("cells", f"{plan.used} used, {plan.wasted} left unused ({plan.wasted / (plan.used + plan.wasted):.0%})"),
    ]
    for name, kind in (("every cell pulsed", "every_cell"), ("changed cells only", "changed_cells")):
        cost = facts.costs[kind]
        scaled = ", scaled up" if cost.scaled else ""
        rows.append((name, f"{cost.pulses} pulses, at most {si(cost.energy_j, 'J')}, {span(cost.seconds)}{scaled}"))
    account = facts.inference.get("note") or f"{si(energy, 'J')} on the chip ({facts.inference['circuits']})"
    rows.append(("one inference", account))
    if planned.known is not None and facts.harms is not None:
        about, (before, after) = planned.known.summary(), facts.harms
        stuck = sum(about["stuck"].values())
        rows += [
            ("defects", f"{stuck} of {about['cells']} cells stuck, {about['weak']} weak"),
            ("weights on them wrong", f"{after.wrong} (as they come: {before.wrong})"),
        ]
    rows.append(("points and pace of", planned.bench))
    cells = "".join(f"<tr><td>{escape(name)}&nbsp;&nbsp;</td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{cells}</table>"
