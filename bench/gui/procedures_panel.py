"""Experiments: choose one, set it, see what it would take, and run it now or put it into the queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

from PyQt5.QtCore import QTimer
from PyQt5.QtGui import QStandardItemModel
from PyQt5.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QPushButton,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from bench.cells import write_cells
from bench.config import BenchFile
from bench.gui.controller import Controller
from bench.gui.parameter_form import ParameterForm
from bench.gui.points_form import PointsForm
from bench.gui.queue_table import QueueTable
from bench.gui.queue_work import plain_settings
from bench.gui.style import ALARM, OK, WARN, colour, note
from bench.gui.units import si
from bench.jobs import Job, prepare, prepare_resumed
from bench.plan_figures import Plan
from bench.procedure import CellMask, Procedure
from bench.procedures import PROCEDURES
from bench.procedures.loading import Listing, listing
from bench.queue import Item
from bench.session import SIMULATED
from bench.source import Overrides
from data.runs import open_run
from models.exceptions import UserMistake

SETTLE_MS = 350
"""How long settings must stand before a plan of them is made."""

ENERGY = "energy of the pulses"
WAITING = "of that waiting, outputs off"
FIGURES = ("time", WAITING, "waits on the simulated clock", ENERGY, "pulses", "records", "highest voltages")
"""What of a plan is always shown; the rest is its tool tip."""

HELP = """
<p>Experiments on the cells that are selected on the map.</p>
<ul>
<li>Choose a procedure and change what should differ from its defaults. Quantities take prefixes: 10 us, 30k.</li>
<li>A red field says below what is allowed. A field that is entered shows its help there.</li>
<li>“Operating points” changes voltages and times for this run only, inside the limits of the bench file.</li>
<li>The plan is tried dry: nothing is opened and nothing moves. What would break a limit is refused here.</li>
<li>Run begins at once. “Add to queue” keeps settings and cells as they are now, for later.</li>
<li>The queue is a folder: <tt>rram-bench queue list --queue DIR</tt> shows the same, and pauses or stops it.</li>
<li>“Resume run file” goes on with a run that was stopped, failed, or was interrupted.</li>
<li>The plot follows the run: choose table, axes and curves above it; drag moves, the wheel zooms.</li>
<li>Pause and Stop are at the bottom of the window; F12 switches all outputs off at once.</li>
</ul>
"""


@dataclass(frozen=True)
class Wanted:
    """A run as it stands on the screen: everything that a plan of it depends on."""

    procedure: Procedure
    config: BenchFile
    settings: Mapping[str, Any]
    cells: CellMask
    overrides: Overrides
    seed: int
    resume: Path | None

    def job(self) -> Job:
        """It, checked. Raises UserMistake."""
        if self.resume is not None:
            return prepare_resumed(open_run(self.resume).procedure, self.config, self.resume)
        job = prepare(self.procedure.name, self.config, self.settings, None, self.overrides, self.seed)
        return replace(job, cells=self.cells)


@dataclass(frozen=True)
class Planned:
    """What came of a plan: the run that may begin, or why it may not."""

    job: Job | None
    plan: Plan | None
    text: str


def make_plan(wanted: Wanted) -> Planned:
    """Check a run and try it dry for a second."""
    notes: list[str] = []
    try:
        job = wanted.job()
        plan = job.quick_plan(notes.append)
    except UserMistake as error:
        return Planned(None, None, str(error))
    return Planned(job, plan, "; ".join(notes))


def figures(plan: Plan) -> list[tuple[str, str]]:
    """What a plan says, for people, energies with SI prefixes."""
    low, high = (si(joule, "J", 2) for joule in plan.energy_j)
    # A simulated bench lets its own clock run on while it waits: that is no part of the time it takes.
    apart = plan.waiting_s.high > plan.seconds.high
    names = {WAITING: "waits on the simulated clock"} if apart else {}
    texts = {ENERGY: low if low == high else f"{low} to {high}"}
    return [(names.get(name, name), texts.get(name, text)) for name, text in plan.table()]


class ProceduresPanel(QWidget):
    """Right side of the window: an experiment, and the queue.

    Attributes:
        chooser: which procedure.
        form: its parameters.
        points: changed operating points.
        planned: what the present settings would take; None while that is not known.
        run_button, add_button, resume_button, reset_button: what they say.
        queue: the queue.
    """

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._listing = Listing(PROCEDURES, {})
        self._resume: Path | None = None
        self._wanted_last: Wanted | None = None
        self.planned: Planned | None = None
        self.form = ParameterForm("", next(iter(PROCEDURES.values())).parameters, pairs=1)
        self._forms: dict[str, ParameterForm] = {}
        self.queue = QueueTable(controller)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._plan)
        self._make()
        self._offer()
        controller.bench_changed.connect(self._on_bench)
        controller.selection_changed.connect(self._on_changed)
        controller.busy_changed.connect(self.refresh)
        self._on_bench()

    @property
    def procedure(self) -> Procedure:
        """The one that is chosen."""
        return self._listing.procedures[self.chooser.currentText()]

    def choose(self, name: str) -> None:
        """Choose a procedure by its name."""
        self.chooser.setCurrentText(name)

    def resume(self, path: Path | None) -> None:
        """Go on with this run file; None goes back to the form."""
        self._resume = path
        self._on_changed()

    def refresh(self) -> None:
        """Say what can be done now."""
        bench, selection, planned = self._controller.bench, self._controller.selection, self.planned
        resumed = self._resume is not None
        ready = planned is not None and planned.job is not None
        for widget in (self.form, self.chooser):
            widget.setEnabled(not resumed)
        self.points.setEnabled(bench is not None and not resumed)
        count = planned.job.cells.sum() if planned is not None and planned.job is not None else selection.count
        if resumed:
            self.run_button.setText(f"Go on with this run: {count} cells left" if ready else "Go on with this run")
        else:
            self.run_button.setText(f"Run {self.procedure.name} on {count} cells" if bench is not None else "Run")
        self.run_button.setEnabled(ready and self._controller.busy is None)
        self.add_button.setEnabled(ready and not resumed)
        self.resume_button.setText("Leave that run" if resumed else "Resume run file …")
        self.resume_button.setEnabled(bench is not None)
        self._show_plan()

    def _make(self) -> None:
        self.chooser = QComboBox()
        self.chooser.setAccessibleName("procedure")
        self.chooser.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.chooser.currentTextChanged.connect(self._on_chosen)
        self.reload_button, self.reset_button = QPushButton("Read again"), QPushButton("Defaults")
        self.reload_button.setToolTip("Reads your own procedures again; an edit counts at once.")
        self.reload_button.clicked.connect(self._read_listing)
        self.reset_button.setToolTip("Puts every parameter back to its default.")
        self.reset_button.clicked.connect(lambda: self.form.reset())
        top = QHBoxLayout()
        top.addWidget(self.chooser, 1)
        top.addWidget(self.reload_button)
        top.addWidget(self.reset_button)
        self._summary, self._broken = note(), note()
        colour(self._broken, WARN)
        self._holder = QVBoxLayout()
        self.points = PointsForm()
        self.points.changed.connect(self._on_changed)
        self._state, self._figures = note(), note()
        self.run_button, self.add_button = QPushButton("Run"), QPushButton("Add to queue")
        font = self.run_button.font()
        font.setBold(True)
        self.run_button.setFont(font)
        self.run_button.setToolTip("Begins at once, at the operating points shown; outputs are off at the end.")
        self.run_button.clicked.connect(self._run)
        self.add_button.setToolTip("Puts it at the end of the queue with these settings and cells; nothing moves yet.")
        self.add_button.clicked.connect(self._add)
        self.resume_button = QPushButton()
        self.resume_button.setToolTip("Goes on with a run that was stopped, failed, or was interrupted.")
        self.resume_button.clicked.connect(self._on_resume)
        last = QHBoxLayout()
        last.addWidget(self.add_button)
        last.addWidget(self.resume_button)
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addLayout(top)
        layout.addWidget(self._summary)
        layout.addWidget(self._broken)
        layout.addLayout(self._holder)
        layout.addWidget(self.points)
        layout.addWidget(self._state)
        layout.addWidget(self._figures)
        layout.addWidget(self.run_button)
        layout.addLayout(last)
        layout.addStretch(1)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.addTab(page, "Experiment")
        self.tabs.addTab(self.queue, "Queue")
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.tabs)

    def _on_bench(self) -> None:
        bench = self._controller.bench
        self._resume = None
        self.points.use(None if bench is None else bench.config)
        self.reload_button.setVisible(bench is not None and bench.config.procedures is not None)
        self._read_listing()
        self._on_changed()

    def _read_listing(self) -> None:
        bench = self._controller.bench
        folder = None if bench is None else bench.config.procedures
        if folder is None:
            self._take_listing(Listing(PROCEDURES, {}))
        else:  # files of the user's, which may do anything
            self._controller.read("your procedures", lambda: listing(folder), self._take_listing)

    def _take_listing(self, found: Listing) -> None:
        earlier = self._listing.procedures
        self._listing = found
        for name, form in list(self._forms.items()):
            known = found.procedures.get(name)
            if known is None or known.parameters is not earlier[name].parameters:
                form.deleteLater()
                del self._forms[name]
        self._offer()
        self._broken.setText("\n".join(f"{Path(path).name}: {reason}" for path, reason in found.broken.items()))
        self._broken.setVisible(bool(found.broken))

    def _offer(self) -> None:
        """Fill the chooser; the one that was chosen stays, where it is still there."""
        chosen = self.chooser.currentText()
        self.chooser.blockSignals(True)
        self.chooser.clear()
        model = self.chooser.model()
        assert isinstance(model, QStandardItemModel)
        for name, procedure in self._listing.procedures.items():
            self.chooser.addItem(name)
            item = model.item(self.chooser.count() - 1)
            assert item is not None
            item.setToolTip(procedure.summary)
        self.chooser.setCurrentText(chosen if chosen in self._listing.procedures else next(iter(PROCEDURES)))
        self.chooser.blockSignals(False)
        self._on_chosen()

    def _on_chosen(self) -> None:
        procedure = self.procedure
        self.chooser.setToolTip(procedure.summary)
        self._summary.setText(procedure.summary)
        name = procedure.name
        if name not in self._forms:
            form = self._forms[name] = ParameterForm(name, procedure.parameters, pairs=1, help_line=True)
            form.changed.connect(self._on_changed)
            self._holder.addWidget(form)
        self.form = self._forms[name]
        for each in self._forms.values():
            each.setVisible(each is self.form)
        self._on_changed()

    def _on_changed(self) -> None:
        """What was planned no longer holds; plan anew once nothing changes for a moment."""
        self.planned = self._wanted_last = None
        self._settle.start()
        self.refresh()

    def _wanted(self) -> Wanted | None:
        """What is asked for; None where the form itself says why it cannot be."""
        bench, selection = self._controller.bench, self._controller.selection
        if bench is None:
            return None
        if self._resume is None and (self.form.problems or self.points.problem or selection.count == 0):
            return None
        seed = bench.seed if bench.source == SIMULATED else 0
        return Wanted(
            self.procedure,
            bench.config,
            self.form.settings(),
            selection.mask.copy(),
            self.points.overrides(),
            seed,
            self._resume,
        )

    def _plan(self) -> None:
        wanted = self._wanted_last = self._wanted()
        if wanted is not None:
            self._controller.read("plan", lambda: make_plan(wanted), lambda planned: self._take_plan(wanted, planned))

    def _take_plan(self, wanted: Wanted, planned: Planned) -> None:
        # A plan of what is no longer asked for must not be run: other cells may be selected, or none.
        if wanted is self._wanted_last:
            self.planned = planned
            self.refresh()

    def _show_plan(self) -> None:
        planned, text, shade = self.planned, self._obstacle(), None
        rows: list[tuple[str, str]] = []
        if planned is not None:
            if planned.job is None:
                text, shade = f"refused: {planned.text}", ALARM
            elif planned.plan is None:
                text, shade = f"{planned.text}; it may run, and its limits are checked on the way", WARN
            else:
                text, shade = "would take, inside the limits of the bench file:", OK
                rows = figures(planned.plan)
        elif not text:
            text = "trying it dry …"
        if self._resume is not None:
            text = f"goes on with {self._resume.name}, with its settings: {text}"
        self._state.setText(text)
        colour(self._state, shade)
        shown = [(name, value) for name, value in rows if name in FIGURES or name == "note"]
        lines = "".join(
            f"<tr><td>{escape(name)}&nbsp;&nbsp;</td><td>{escape(value)}</td></tr>" for name, value in shown
        )
        self._figures.setText(f"<table>{lines}</table>" if shown else "")
        self._figures.setToolTip("\n".join(f"{name.strip()}: {value}" for name, value in rows))
        self._figures.setVisible(bool(shown))

    def _obstacle(self) -> str:
        """What must be done before it can be planned; empty while nothing must."""
        if self._controller.bench is None:
            return "Connect to a bench on the left; then what it would take stands here, and it can be run."
        if self._resume is not None:
            return ""
        if self._controller.selection.count == 0:
            return "No cell is selected: drag over the map, or press Ctrl+A in it."
        if self.form.problems or self.points.problem:
            return "Correct what is marked above; then what it would take stands here."
        return ""

    def _run(self) -> None:
        if self.planned is None or self.planned.job is None:
            return
        job, selection = self.planned.job, self._controller.selection
        where = f"{int(job.cells.sum())} cells left" if self._resume is not None else selection.text()
        self._resume = None
        self._controller.run_prepared(job, where)
        self._on_changed()

    def _add(self) -> None:
        wanted, bench = self._wanted(), self._controller.bench
        if wanted is None or bench is None:
            return
        queue, out, source = self.queue.queue, self._controller.folder.absolute(), bench.source
        self.add_button.setEnabled(False)  # until the item is there, or the next change

        def add() -> Item:
            settings = plain_settings(wanted.procedure, wanted.settings)
            cells = write_cells(wanted.cells)
            return queue.add(wanted.procedure.name, source, settings, cells, wanted.overrides, wanted.seed, out)

        def then(item: Item) -> None:
            self._controller.tell("Add to queue", f"item {item.number}: {item.procedure}")
            self.queue.look_now()
            self.refresh()

        self._controller.write("Add to queue", add, then, lambda _: self.refresh())

    def _on_resume(self) -> None:
        if self._resume is not None:
            self.resume(None)
            return
        path, _ = QFileDialog.getOpenFileName(
            self, "Run to go on with", str(self._controller.folder), "Run files (*.h5);;All files (*)"
        )
        if path:
            self.resume(Path(path))
