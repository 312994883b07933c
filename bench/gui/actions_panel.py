"""What can be done to the selected cells. Each button says what will happen before it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PyQt5.QtWidgets import QHBoxLayout, QPushButton, QToolButton, QVBoxLayout, QWidget

from bench.config import Limits
from bench.gui.controller import Controller
from bench.gui.parameter_form import ParameterForm
from bench.gui.style import note
from bench.gui.units import si
from bench.procedure import Procedure
from bench.procedures.forming import FORMING
from bench.procedures.program import PROGRAM
from bench.procedures.pulse import PULSE
from bench.procedures.read import READ
from bench.procedures.resistance import RESISTANCE
from drivers.operating_points import DirectPoint, OperatingPoints, PulsePoint, SensePoint
from drivers.rails import RAILS

HELP = """
<p>Select cells on the map, then press what is to be done to them. Below each button stand the operating points that it
uses; its tool tip tells the limits of the bench file, which nothing leaves.</p>
<p>A virgin chip is formed once, before anything else. Programming ends with a verify by sensing and a verdict for each
cell. Single pulses are for people who know why: nothing verifies them.</p>
<p>With one cell selected, its whole history from the run files stands beside the map.</p>
"""

Point = PulsePoint | SensePoint | DirectPoint


@dataclass(frozen=True)
class Action:
    """A procedure with a button.

    Attributes:
        verb: for the log.
        label: of the button, for a number of selected cells.
        points: the operating points that it brings the rails to.
        after: what else happens.
        shown: the settings are seen from the beginning.
    """

    procedure: Procedure
    verb: str
    label: Callable[[int], str]
    points: Callable[[OperatingPoints], tuple[Point, ...]]
    after: str = ""
    shown: bool = False


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


ACTIONS = (
    Action(
        FORMING,
        "Form",
        lambda cells: f"Form {_cells(cells)}",
        lambda points: (points.form,),
        "at most: VDDC rises until a device is formed; without a source-measure unit, both weights are tested",
    ),
    Action(
        PROGRAM,
        "Program",
        lambda cells: f"Program {_cells(cells)}",
        lambda points: (points.set, points.reset),
        "then a read verifies, and what is wrong is tried again",
    ),
    Action(
        PULSE,
        "Pulse",
        lambda cells: f"Pulse {_cells(cells)}",
        lambda points: (points.set, points.reset, points.weak_reset),
        "one of these, as set beside the button; a sense of the whole array follows, and nothing is verified",
        shown=True,
    ),
    Action(READ, "Read", lambda cells: "Read the whole array", lambda points: (points.sense,)),
    Action(
        RESISTANCE,
        "Measure resistance",
        lambda cells: f"Measure {2 * cells} devices",
        lambda points: (points.direct,),
    ),
)


def describe_point(point: Point) -> str:
    """An operating point as one line: "SET: VDDC 3.5 V, VDDR 3 V, 10 µs"."""
    array = f"VDDC {point.rails.vddc_v:g} V, VDDR {point.rails.vddr_v:g} V"
    if isinstance(point, PulsePoint):
        return f"{point.name}: {array}, {si(point.width_s, 's')}"
    if isinstance(point, SensePoint):
        return f"{point.name}: VDD {point.rails.vdd_v:g} V, {array}, {si(point.window_s, 's')}"
    return f"{point.name}: {point.read_v:g} V on the device, at most {si(point.compliance_a, 'A')}"


def describe_limits(limits: Limits) -> str:
    """The envelope that no action may leave, as the bench file sets it."""
    rails = ", ".join(f"{key[:-2].upper()} {low:g} to {high:g} V" for key, (low, high) in limits if key in RAILS)
    shortest, longest = (si(width, "s") for width in limits.pulse_width_s)
    return f"limits of the bench file: {rails}; pulses {shortest} to {longest}"


class ActionsPanel(QWidget):
    """Right side of the window: one block for each action."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self.buttons: dict[str, QPushButton] = {}
        self.forms: dict[str, ParameterForm] = {}
        self._points = {action.procedure.name: note() for action in ACTIONS}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        self._hint = note()
        layout.addWidget(self._hint)
        for action in ACTIONS:
            self._add(layout, action)
        layout.addStretch(1)
        controller.busy_changed.connect(self.refresh)
        controller.bench_changed.connect(self.refresh)
        controller.selection_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Say what each button would do now, and whether it can."""
        bench = self._controller.bench
        count = 0 if bench is None else self._controller.selection.count
        ready = bench is not None and self._controller.busy is None and count > 0
        for action in ACTIONS:
            name = action.procedure.name
            self.buttons[name].setText(action.label(count) if count > 0 else action.verb)
            self.buttons[name].setEnabled(ready)
            self._points[name].setVisible(bench is not None)
            if bench is not None:
                lines = [describe_point(point) for point in action.points(bench.config.points)]
                self._points[name].setText("\n".join([*lines, action.after] if action.after else lines))
                self._points[name].setToolTip(describe_limits(bench.config.limits))
        for pattern in ("plus", "zero", "minus"):
            self.buttons[pattern].setEnabled(ready)
        self._hint.setText(self._advice(count))
        self._hint.setVisible(bool(self._hint.text()))

    def _advice(self, count: int) -> str:
        if self._controller.bench is None:
            return "Connect to a bench on the left; then cells can be formed, programmed, read and measured here."
        if count == 0:
            return "No cell is selected: drag over the map, or press Ctrl+A in it."
        return ""

    def _add(self, layout: QVBoxLayout, action: Action) -> None:
        name = action.procedure.name
        button = QPushButton(action.verb)
        button.setToolTip(action.procedure.summary)
        button.clicked.connect(lambda: self._start(action))
        form = ParameterForm(name, action.procedure.parameters)
        self.buttons[name], self.forms[name] = button, form
        row = QHBoxLayout()
        row.addWidget(button, 1)
        if action.procedure.parameters.model_fields:
            row.addWidget(self._fold(name, form, action.shown))
        layout.addLayout(row)
        if action.procedure is PROGRAM:
            layout.addLayout(self._make_weights(action))
        layout.addWidget(form)
        layout.addWidget(self._points[name])
        layout.addSpacing(6)

    def _fold(self, name: str, form: ParameterForm, shown: bool) -> QToolButton:
        fold = QToolButton()
        fold.setText("settings ▾")
        fold.setToolTip(f"what {name} is to do in detail")
        fold.setCheckable(True)
        fold.toggled.connect(form.setVisible)
        fold.setChecked(shown)
        form.setVisible(shown)
        return fold

    def _make_weights(self, action: Action) -> QHBoxLayout:
        """One button for each weight that all selected cells can be given at once."""
        row = QHBoxLayout()
        for pattern, weight in (("plus", "+1"), ("zero", "0"), ("minus", "−1")):
            button = QPushButton(f"all {weight}")
            button.setToolTip(f"programs {weight} into every selected cell, with the settings of Program")
            button.clicked.connect(lambda _, pattern=pattern: self._start_pattern(action, pattern))
            self.buttons[pattern] = button
            row.addWidget(button)
        return row

    def _start_pattern(self, action: Action, pattern: str) -> None:
        form = self.forms[action.procedure.name]
        form.put("pattern", pattern)
        form.put("file", None)  # weights of a file come before any pattern
        self._start(action)

    def _start(self, action: Action) -> None:
        settings, selection = self.forms[action.procedure.name].settings(), self._controller.selection
        self._controller.run(action.verb, action.procedure, settings, selection.mask, selection.text())
