"""Controls of the workspace Wafer: which wafer, how its dies are measured, and what a good one must show."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from PyQt5.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFileDialog,
    QLineEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from bench.gui.boxes import box, chooser, number, row
from bench.gui.controller import Controller
from bench.gui.pictures import export_picture
from bench.gui.style import ALARM, colour, note
from bench.gui.wafer_map import WaferMap
from bench.gui.wafer_study import MEASURE, WaferStudy
from bench.procedures.characterise import CharacteriseParameters
from bench.session import SIMULATED
from bench.wafer import Asked, Forming
from bench.wafer_report import yield_text
from bench.wafer_results import Criteria
from drivers.prober_role import FEWEST_ACROSS, MOST_ACROSS

HELP = """<b>Wafer</b>: dies of a wafer on a prober, one after the other.
<ul><li>Open the folder of a wafer; one that is being measured, here or by <code>rram-bench wafer run</code>, is
followed by itself.</li>
<li>The map shows which dies are good, or any quantity that was fitted. A cross: the die could not be measured to the
end. Hatched, where verdicts are shown: not good.</li>
<li>Click a die, or go to it with the arrow keys: what was fitted there stands beside the map, with its run files.</li>
<li>What a good die must show can be changed at any time; nothing is measured again, and the file keeps its own.</li>
<li>Against the radius: each die with its 95 % interval, and a bowl fitted to all of them.</li>
<li>Measure forms, characterises and fits each die, and goes on with those that are not known yet. The window's own
bench must be disconnected: each die gets a session of its own. Stop and Outputs off work as ever; the needles are
lifted once the outputs are known to be off.</li></ul>"""

FOLDER = Path("runs") / "wafer"
"""The folder of the command line."""
LIMITS = (
    ("formed", "Formed, at least", "Least share of the cells of a good die that form."),
    ("stuck", "Stuck, at most", "Largest share of stuck cells of a good die."),
    ("errors", "Bit errors, at most", "Largest bit error rate of a good die, after programming and verifying."),
)


DECIMALS = 6
"""Of a share in percent."""


class _Percent(QDoubleSpinBox):
    """A share in percent, without the zeros that say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0.0, 100.0)
        self.setDecimals(DECIMALS)
        self.setSingleStep(0.1)
        self.setSuffix(" %")

    def textFromValue(self, v: float) -> str:
        """As few digits as tell the number."""
        return f"{v:.{DECIMALS}f}".rstrip("0").rstrip(".")


class WaferPanel(QWidget):
    """The controls."""

    def __init__(self, controller: Controller, board: WaferMap, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller, self._map, self._study = controller, board, WaferStudy.of(controller)
        self.folder, browse = QLineEdit(str(FOLDER)), QToolButton()
        self.folder.setToolTip(
            "Folder of the wafer: the one to look at, and the one that is measured into. Enter opens it."
        )
        self.folder.returnPressed.connect(self._on_open)
        browse.setText("…")
        browse.setToolTip("Choose the folder of a wafer.")
        browse.clicked.connect(self._on_browse)
        self.state, self.yield_ = note(), note()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addLayout(row("&Folder", self.folder, browse))
        layout.addWidget(self.state)
        layout.addWidget(self._make_criteria())
        layout.addWidget(self._make_measure())
        self.picture_button, self.table_button, self.page_button = (
            QPushButton("Picture…"),
            QPushButton("Table…"),
            QPushButton("Page"),
        )
        self.picture_button.setToolTip("Saves the map as it is shown, as PNG.")
        self.table_button.setToolTip("Saves a line for each die, as CSV.")
        self.page_button.setToolTip(
            "Writes report.html into the folder of the wafer, with maps of all that was fitted."
        )
        self.picture_button.clicked.connect(self._on_picture)
        self.table_button.clicked.connect(self._on_table)
        self.page_button.clicked.connect(self._study.write_page)
        layout.addLayout(row(self.picture_button, self.table_button, self.page_button))
        layout.addStretch(1)
        for signal in (self._study.changed, controller.busy_changed, controller.bench_changed):
            signal.connect(self._refresh)
        self._refresh()

    def _make_criteria(self) -> QWidget:
        group, inner = box("A good die")
        self.limits: dict[str, QDoubleSpinBox] = {}
        usual = Criteria()
        for name, title, about in LIMITS:
            spin = _Percent()
            spin.setValue(100.0 * getattr(usual, name))
            spin.setToolTip(about)
            spin.valueChanged.connect(self._on_limit)
            self.limits[name] = spin
            inner.addLayout(row(title, spin))
        inner.addWidget(self.yield_)
        return group

    def _make_measure(self) -> QWidget:
        group, inner = box("Measure")
        self.bench, browse = QLineEdit(SIMULATED), QToolButton()
        self.bench.setToolTip("Bench file with a [prober], or 'simulated'.")
        self.bench.textChanged.connect(self._refresh)
        browse.setText("…")
        browse.setToolTip("Choose a bench file.")
        browse.clicked.connect(self._on_bench)
        self.across, self.seed = number(FEWEST_ACROSS, MOST_ACROSS, 7, "dies across"), number(0, 2**31 - 1, 0, "seed")
        self.across.setToolTip("Dies across the simulated wafer.")
        self.seed.setToolTip("Seed of patterns and samples, and of the simulated wafer.")
        about = (
            "ramp: gently, by resistance; weights: at the point FORM; none: formed before; auto: ramp, and weights on "
            "a simulated bench."
        )
        self.forming = chooser(list(Forming), "forming", about)
        self.again = QCheckBox("failed dies once more")
        self.again.setToolTip("Measures dies that failed again, beside those that are not known yet.")
        self.measure_button, self.stop_button = QPushButton(MEASURE), QPushButton("Stop")
        self.measure_button.clicked.connect(self._on_measure)
        self.stop_button.clicked.connect(self._controller.stop)
        self.stop_button.setToolTip("Outputs off, needles up; dies that are done are kept.")
        self.why = note()
        inner.addLayout(row("&Bench", self.bench, browse))
        inner.addLayout(row("Dies &across", self.across, "&Seed", self.seed))
        inner.addLayout(row("F&orming", self.forming))
        inner.addWidget(self.again)
        inner.addLayout(row(self.measure_button, self.stop_button))
        inner.addWidget(self.why)
        return group

    @property
    def criteria(self) -> Criteria:
        """What a good die must show, as it is set."""
        record = self._study.record
        known = Criteria() if record is None else record.criteria
        shares = {}
        for name, spin in self.limits.items():
            own = getattr(known, name)
            # what was not touched stays to its last digit
            untouched = spin.value() == round(100.0 * own, DECIMALS)
            shares[name] = own if untouched else round(spin.value() / 100.0, DECIMALS + 2)
        return Criteria(**shares)

    @property
    def opened(self) -> Path | None:
        """Folder of the wafer that is shown; None where none is."""
        return None if self._study.record is None else self._study.folder

    def open(self, folder: Path) -> None:
        """Look at the wafer in a folder."""
        self.folder.setText(str(folder))
        self._study.open(folder)

    def save_picture(self, path: Path) -> None:
        """Save the map as it is shown, at twice the resolution of the screen."""
        export_picture(self._map, path, "the wafer", self._controller)

    def _refresh(self) -> None:
        record, study = self._study.record, self._study
        simulated = self.bench.text().strip() == SIMULATED
        self.across.setEnabled(simulated)
        for button in (self.picture_button, self.table_button, self.page_button):
            button.setEnabled(record is not None)
        busy = self._controller.busy
        measuring = study.measuring
        why = (
            "" if self._controller.bench is None else "Disconnect the bench first: each die gets a session of its own."
        )
        self.why.setText(why)
        self.measure_button.setEnabled(busy is None and not why)
        self.stop_button.setEnabled(measuring)
        if record is None:
            self.state.setText(study.trouble if study.folder is not None else "")
            colour(self.state, ALARM if study.trouble and not measuring else None)
            self.yield_.setText("")
            return
        colour(self.state, None)
        world = "simulated" if record.simulated else "real"
        last = "" if study.changed_at is None else f", last changed {study.changed_at:%Y-%m-%d %H:%M:%S}"
        self.state.setText(
            f"Wafer {record.wafer} ({world}), {len(record.dies)} of {len(record.route)} dies, begun "
            f"{datetime.fromisoformat(record.started):%Y-%m-%d %H:%M}{last}."
        )
        self.yield_.setText(f"Good: {yield_text(record)}.")
        for name, spin in self.limits.items():
            if not spin.hasFocus():
                spin.blockSignals(True)
                spin.setValue(100.0 * getattr(record.criteria, name))
                spin.blockSignals(False)

    def _on_open(self) -> None:
        self.open(Path(self.folder.text().strip()).expanduser())

    def _on_browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of a wafer", self.folder.text())
        if chosen:
            self.open(Path(chosen))

    def _on_bench(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Bench file with a prober", "", "Bench file (*.toml)")
        if path:
            self.bench.setText(path)

    def _on_limit(self) -> None:
        self._study.judge(self.criteria)

    def _on_measure(self) -> None:
        seed = self.seed.value()
        asked = Asked(
            seed,
            Forming(self.forming.currentText()),
            CharacteriseParameters(seed=seed),
            self.criteria,
            again=self.again.isChecked(),
        )
        folder = Path(self.folder.text().strip()).expanduser()
        bench = self.bench.text().strip()
        if not bench:
            self._controller.complain(MEASURE, "name a bench file with a prober first, or 'simulated'")
            return
        source = SIMULATED if bench == SIMULATED else str(Path(bench).expanduser())
        self._study.measure(source, seed, self.across.value(), folder, asked)

    def _on_picture(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Picture of the wafer", "wafer.png", "PNG (*.png)")
        if path:
            self.save_picture(Path(path))

    def _on_table(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Table of the dies", "dies.csv", "CSV (*.csv)")
        if path:
            self._study.save_table(Path(path))
