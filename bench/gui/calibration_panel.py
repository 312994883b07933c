"""From run files to a device file: which fit, of which runs, on which base; and what to do with what it found."""

from __future__ import annotations

from pathlib import Path

from PyQt5.QtCore import Qt
from PyQt5.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from bench.fitting import DEVICE, FIT_KINDS, FitKind, FitTask
from bench.gui.controller import Controller
from bench.gui.fit_study import SAVE, FitStudy
from bench.gui.run_folder import RunFolder
from bench.gui.runs_panel import lines
from bench.gui.style import ALARM, OK, WARN, colour, note
from calibration.tables import SUFFIX
from data.runs import RunStatus

HELP = """<b>Calibration</b>: from run files to a device file, which training and predictions read.
<ul><li>Choose the kind of fit. Below it stand the runs that it can read; those of the connected chip are ticked.</li>
<li>Plain tables of other people's data (.csv) are added by a button, where the fit reads them.</li>
<li>All numbers that are not fitted come from the base file. Fits of several kinds end up in one file when each
takes the file of the one before as its base.</li>
<li>A fit runs in a process of its own; Stop ends it at once.</li>
<li>Intervals hold 95 %. What a fit cannot tell, or does not describe, stands in red and amber.</li>
<li>A device file is saved only from a fit that converged. A button then makes training and predictions read it.</li>
<li>Devices that were left out can be marked on the map.</li></ul>"""

PATH, SUMMARY = Qt.ItemDataRole.UserRole, Qt.ItemDataRole.UserRole + 1
PACKAGED = "the packaged population"
TOML = "Device file (*.toml)"


class CalibrationPanel(QWidget):
    """Controls of the workspace Calibration."""

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._folder, self._study = RunFolder.of(controller), FitStudy.of(controller)
        self._ticked: dict[Path, bool] = {}
        self._tables: list[Path] = []
        self.kind = QComboBox()
        self.kind.addItems(list(FIT_KINDS))
        self.kind.setToolTip("What is fitted.")
        self.kind.currentIndexChanged.connect(self._on_kind)
        self.about = note()
        self.runs = QListWidget()
        self.runs.setAccessibleName("runs to fit")
        self.runs.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.runs.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.runs.setAlternatingRowColors(True)
        self.runs.setMinimumHeight(110)
        self.runs.itemChanged.connect(self._on_ticked)
        self.none = note()
        self.all_button, self.table_button = QPushButton("All"), QPushButton("Add tables…")
        self.all_button.setToolTip("Ticks all runs, or none where all are ticked.")
        self.all_button.clicked.connect(self._on_all)
        self.table_button.setToolTip("Adds plain tables (.csv), one line per reading; the manual lists their columns.")
        self.table_button.clicked.connect(self._on_tables)
        self.base, browse = QLineEdit(), QToolButton()
        self.base.setPlaceholderText(PACKAGED)
        self.base.setToolTip("Device file that all other numbers come from; empty for the packaged one.")
        browse.setText("…")
        browse.setToolTip("Choose a device file as the base.")
        browse.clicked.connect(self._on_base)
        self._browse = browse
        self.partial, self.population = QCheckBox("ended early"), QCheckBox("several chips")
        self.partial.setToolTip("Takes runs that were stopped or failed as well (--partial).")
        self.population.setToolTip("Takes runs of several chips as one population of devices (--population).")
        self.fit_button, self.stop_button = QPushButton(), QPushButton("Stop")
        self.fit_button.clicked.connect(self._on_fit)
        self.stop_button.clicked.connect(controller.stop_study)
        self.stop_button.setToolTip("Ends the fit at once; nothing is saved.")
        self.said = note()
        self.save_button, self.report_button = QPushButton("Save device file…"), QPushButton("Save report…")
        self.use_button, self.mark_button = QPushButton("Train and predict with it"), QPushButton()
        self.save_button.clicked.connect(self._on_save)
        self.report_button.clicked.connect(self._on_report)
        self.use_button.clicked.connect(self._on_use)
        self.mark_button.clicked.connect(self._study.show_outliers)
        self.save_button.setToolTip("Each fitted number with its interval and the runs that it came from.")
        self.report_button.setToolTip("One page (.html) with parameters, plots and checks.")
        self.mark_button.setToolTip("Marks the cells of devices that were left out of the fit on the map.")
        self._in_use = note()
        self._arrange()
        for signal in (self._folder.changed, controller.bench_changed):
            signal.connect(self._fill)
        for signal in (self._study.changed, controller.busy_changed, controller.device_changed):
            signal.connect(self._refresh)
        self._on_kind()

    def _arrange(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        fields = QGridLayout()
        for row, (text, widget) in enumerate((("&Kind", self.kind), ("&Base", self.base))):
            label = QLabel(text)
            label.setBuddy(widget)
            fields.addWidget(label, row, 0)
            fields.addWidget(widget, row, 1)
        fields.addWidget(self._browse, 1, 2)
        fields.setColumnStretch(1, 1)
        layout.addLayout(fields)
        layout.addWidget(self.about)
        layout.addWidget(self.runs, 1)
        layout.addWidget(self.none)
        for widgets in (
            (self.all_button, self.table_button),
            (self.partial, self.population),
            (self.fit_button, self.stop_button),
        ):
            row_of = QHBoxLayout()
            for widget in widgets:
                row_of.addWidget(widget, 1 if widget is self.fit_button else 0)
            if self.fit_button not in widgets:
                row_of.addStretch(1)
            layout.addLayout(row_of)
        layout.addWidget(self.said)
        saving = QHBoxLayout()
        saving.addWidget(self.save_button)
        saving.addWidget(self.report_button)
        layout.addLayout(saving)
        layout.addWidget(self.use_button)
        layout.addWidget(self.mark_button)
        layout.addWidget(self._in_use)
        layout.addStretch(0)

    @property
    def fit_kind(self) -> FitKind:
        """The kind that is chosen."""
        return FIT_KINDS[self.kind.currentText()]

    def ticked(self) -> tuple[Path, ...]:
        """Files that are to be fitted."""
        items = (self.runs.item(row) for row in range(self.runs.count()))
        return tuple(
            item.data(PATH) for item in items if item is not None and item.checkState() == Qt.CheckState.Checked
        )

    def tick(self, *paths: Path) -> None:
        """Tick exactly these files."""
        for row in range(self.runs.count()):
            item = self.runs.item(row)
            if item is not None:
                item.setCheckState(Qt.CheckState.Checked if item.data(PATH) in paths else Qt.CheckState.Unchecked)

    def add_tables(self, *paths: Path) -> None:
        """Offer plain tables, ticked."""
        self._tables += [path for path in paths if path not in self._tables]
        self._ticked |= dict.fromkeys(paths, True)
        self._fill()

    def _on_kind(self) -> None:
        kind = self.fit_kind
        tables = ", or plain tables" if kind.tables else ""
        self.about.setText(
            f"{kind.summary[0].upper()}{kind.summary[1:]}. Reads runs of {', '.join(kind.procedures)}{tables}."
        )
        for widget in (self.base, self._browse, self.partial, self.population):
            widget.setEnabled(not kind.single)
        self.table_button.setEnabled(kind.tables)
        self.all_button.setEnabled(not kind.single)
        self._ticked = {path: tick for path, tick in self._ticked.items() if path in self._tables}
        self._fill()

    def _fill(self) -> None:
        """List what the kind can read; what a person ticked stays so."""
        kind, bench = self.fit_kind, self._controller.bench
        listed = () if self._folder.listed is None else self._folder.listed
        fitting = [each for each in listed if each.summary is not None and each.summary.procedure in kind.procedures]
        bar = self.runs.verticalScrollBar()
        assert bar is not None
        place, row = bar.value(), self.runs.currentRow()  # a run that goes on must not move what is looked at
        self.runs.blockSignals(True)
        self.runs.clear()
        taken = False
        for each in fitting:
            assert each.summary is not None
            own = bench is not None and each.summary.chip == bench.chip_id
            whole = each.summary.status is RunStatus.COMPLETED
            proposed = own and whole and not (kind.single and taken)
            taken |= proposed
            self._add(each.path, "\n".join(lines(each)), self._ticked.get(each.path, proposed))
        for path in self._tables if kind.tables else ():
            self._add(path, f"{path.name}\nplain table", self._ticked.get(path, True))
        self.runs.setCurrentRow(row)
        self.runs.blockSignals(False)
        self.runs.setVisible(self.runs.count() > 0)
        self.none.setVisible(self.runs.count() == 0)
        more = " Or add tables of your own." if kind.tables else ""
        self.none.setText(
            f"No runs of {' or '.join(kind.procedures)} in {self._folder.path} yet. Run one in Procedures.{more}"
        )
        self._refresh()
        bar.setValue(place)

    def _add(self, path: Path, text: str, tick: bool) -> None:
        item = QListWidgetItem(text)
        kinds = Qt.ItemFlag
        item.setFlags(Qt.ItemFlags() | kinds.ItemIsEnabled | kinds.ItemIsSelectable | kinds.ItemIsUserCheckable)
        item.setCheckState(Qt.CheckState.Checked if tick else Qt.CheckState.Unchecked)
        item.setData(PATH, path)
        item.setToolTip(str(path))
        self.runs.addItem(item)

    def _on_ticked(self, item: QListWidgetItem) -> None:
        self._ticked[item.data(PATH)] = item.checkState() == Qt.CheckState.Checked
        self._refresh()

    def _on_all(self) -> None:
        items = [self.runs.item(row) for row in range(self.runs.count())]
        paths = [item.data(PATH) for item in items if item is not None]
        self.tick(*(() if len(self.ticked()) == len(paths) else paths))

    def _on_tables(self) -> None:
        chosen, _ = QFileDialog.getOpenFileNames(self, "Plain tables", "", f"Plain table (*{SUFFIX})")
        self.add_tables(*map(Path, chosen))

    def _on_base(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Base device file", "", TOML)
        if chosen:
            self.base.setText(chosen)

    def _on_fit(self) -> None:
        kind, base = self.fit_kind, self.base.text().strip()
        free = not kind.single
        self._study.begin(
            FitTask(
                kind.name,
                self.ticked(),
                Path(base).expanduser() if base and free else None,
                free and self.partial.isChecked(),
                free and self.population.isChecked(),
            )
        )

    def _refresh(self) -> None:
        count, running = len(self.ticked()), self._study.running
        runs = "1 file" if count == 1 else f"{count} files"
        self.fit_button.setText(f"Fit {self.fit_kind.name} to {runs}")
        free = self._controller.studying is None
        self.fit_button.setEnabled(free and (count == 1 if self.fit_kind.single else count > 0))
        self.fit_button.setToolTip(_why_not(free, count, self.fit_kind))
        self.stop_button.setEnabled(bool(running))
        fitted = self._study.fitted
        for button in (self.save_button, self.report_button):
            button.setEnabled(fitted is not None)
        self.use_button.setEnabled(self._study.saved is not None)
        self.use_button.setToolTip(
            "Save the device file first."
            if self._study.saved is None
            else f"Training and predictions read {self._study.saved} from now on."
        )
        outliers = 0 if fitted is None else sum(not item.name for item in fitted.fit.outliers)
        devices = "1 device" if outliers == 1 else f"{outliers} devices"
        self.mark_button.setText(f"Mark {devices} left out")
        self.mark_button.setEnabled(outliers > 0)
        device = self._controller.device
        self._in_use.setText(f"In use: {PACKAGED if device is None else device}")
        self._say()

    def _say(self) -> None:
        study = self._study
        if study.running:
            text, hue = f"{study.running} is under way.", None
        elif study.failure:
            text, hue = study.failure, ALARM
        elif study.fitted is None:
            text, hue = "", None
        else:
            refusal, problems = study.refusal(), study.fitted.fit.problems
            text = refusal if refusal else "; ".join(("converged", *problems))
            hue = ALARM if refusal else WARN if problems else OK
        self.said.setText(text)
        colour(self.said, hue)
        self.said.setVisible(bool(text))

    def _on_save(self) -> None:
        refusal = self._study.refusal()
        if refusal:
            self._controller.complain(SAVE, refusal)
            return
        chosen, _ = QFileDialog.getSaveFileName(self, "Save the device file", self._suggested("device.toml"), TOML)
        if chosen:
            path = Path(chosen)
            self._study.save(path if path.suffix else path.with_suffix(".toml"))

    def _on_report(self) -> None:
        suggestion = self._suggested(
            f"fit-{DEVICE if self._study.fitted is None else self._study.fitted.task.kind}.html"
        )
        chosen, _ = QFileDialog.getSaveFileName(self, "Save the report", suggestion, "Page (*.html)")
        if chosen:
            path = Path(chosen)
            self._study.save_report(path if path.suffix else path.with_suffix(".html"))

    def _suggested(self, name: str) -> str:
        return str(self._folder.path / name)

    def _on_use(self) -> None:
        if self._study.saved is not None:
            self._controller.use_device(self._study.saved)
            self._controller.tell("Use device file", str(self._study.saved))


def _why_not(free: bool, count: int, kind: FitKind) -> str:
    if not free:
        return "Other work on this computer is under way; wait for it or stop it."
    if count == 0:
        return "Tick what is to be fitted first."
    if kind.single and count > 1:
        return "This fit takes one run; tick only one."
    return "Fits in a process of its own; some seconds to some minutes."
