"""The wafer that the workspace Wafer is about: shared by its controls, its map and its plots."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from PyQt5.QtCore import QObject, QTimer, pyqtSignal

from bench.gui.controller import Controller
from bench.gui.jobs import Report
from bench.gui.network_work import ToldStages
from bench.gui.run_folder import RunFolder
from bench.source import bench_at
from bench.stopping import StopToken
from bench.wafer import Asked, die_folder, measure_wafer
from bench.wafer_results import FILE, FORMED, Criteria, DieRecord, WaferRecord, load_wafer
from data.atomic import write_atomically
from drivers.prober_role import Die
from models.exceptions import UserMistake

LOOK_MS = 1000
MEASURE, TABLE, PAGE, KEY = "Measure wafer", "Save table of dies", "Write page of the wafer", "Look at the wafer"
VERDICT = "verdict"
"""What is shown before anything that was fitted."""


class WaferStudy(QObject):
    """What is known of a wafer, which of its dies is looked at, and how its dies are judged.

    There is one for each controller. While a folder is open it is looked at again and again, so that a measurement is
    followed, whoever makes it.

    Signals:
        changed(): other dies, another folder, or other criteria.
        chosen_changed(): another die is looked at, or another quantity.

    Attributes:
        folder: of the wafer; None before one is open.
        trouble: why nothing is known; empty where something is.
        die: the one that is looked at.
        shown: what the colours of the map mean: :data:`VERDICT`, the share of formed cells, or a parameter.
    """

    changed = pyqtSignal()
    chosen_changed = pyqtSignal()

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self._found: WaferRecord | None = None
        self._criteria: Criteria | None = None
        self._stamp: tuple[int, int] | None = None
        self.folder: Path | None = None
        self.trouble = ""
        self.die: Die | None = None
        self.shown = VERDICT
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.look)
        self._timer.start(LOOK_MS)

    @staticmethod
    def of(controller: Controller) -> WaferStudy:
        """The one of this controller."""
        known = controller.findChild(WaferStudy)
        return known if isinstance(known, WaferStudy) else WaferStudy(controller)

    @property
    def record(self) -> WaferRecord | None:
        """What is known, judged by the criteria as they stand now; None where nothing is."""
        if self._found is None or self._criteria is None:
            return self._found
        return self._found.model_copy(update={"criteria": self._criteria})

    @property
    def found(self) -> DieRecord | None:
        """What is known of the die that is looked at."""
        record = self.record
        return None if record is None or self.die is None else record.record_of.get(self.die)

    @property
    def changed_at(self) -> datetime | None:
        """When the file was written last, by the clock of this computer; None where there is none."""
        return datetime.fromtimestamp(self._stamp[0] / 1e9) if self._stamp is not None and self._stamp[0] else None

    @property
    def measuring(self) -> bool:
        """Whether this window measures a wafer just now."""
        busy = self._controller.busy
        return busy is not None and busy.title == MEASURE

    @property
    def quantities(self) -> list[str]:
        """What can be shown."""
        return [VERDICT, *([] if self._found is None else self._found.units)]

    def open(self, folder: Path) -> None:
        """Look at another wafer."""
        self.folder, self._found, self._stamp, self._criteria, self.trouble = folder, None, None, None, ""
        self.die, self.shown = None, VERDICT
        self.changed.emit()
        self.look()

    def look(self) -> None:
        """Read the file again if it is another one than before."""
        folder = self.folder
        if folder is None:
            return
        try:
            status = (folder / FILE).stat()
            stamp = status.st_mtime_ns, status.st_size
        except OSError:
            stamp = (0, 0)
        if stamp == self._stamp:
            return
        self._stamp = stamp

        def work() -> tuple[Path, WaferRecord | None, str]:
            try:
                return folder, load_wafer(folder), ""
            except UserMistake as mistake:
                return folder, None, str(mistake)

        self._controller.read(KEY, work, self._take)

    def _take(self, found: tuple[Path, WaferRecord | None, str]) -> None:
        folder, record, trouble = found
        if folder != self.folder:
            return
        self._found, self.trouble = record, trouble
        if self.shown not in self.quantities:
            self.shown = VERDICT
        self.changed.emit()

    def judge(self, criteria: Criteria) -> None:
        """Judge the dies by other criteria; the file keeps its own."""
        if self._found is not None and criteria != (self.record or self._found).criteria:
            self._criteria = criteria
            self.changed.emit()

    def choose(self, die: Die | None) -> None:
        """Look at a die."""
        if die != self.die:
            self.die = die
            self.chosen_changed.emit()

    def show(self, name: str) -> None:
        """Let the colours mean something else."""
        if name in self.quantities and name != self.shown:
            self.shown = name
            self.chosen_changed.emit()

    def values(self) -> dict[Die, float]:
        """The quantity that is shown, on each die that has it; none for the verdict."""
        return {} if self._found is None or self.shown == VERDICT else self._found.values(self.shown)

    @property
    def unit(self) -> str:
        """Of the quantity that is shown."""
        return "1" if self._found is None or self.shown in (VERDICT, FORMED) else self._found.units[self.shown]

    def measure(self, source: str, seed: int, across: int, folder: Path, asked: Asked) -> None:
        """Measure the dies that are not known yet, in the thread of the bench.

        Args:
            source: bench file, or "simulated".
            across: dies across the simulated wafer.
        """
        if self._controller.bench is not None:
            self._controller.complain(MEASURE, "disconnect the bench first: each die gets a session of its own")
            return
        if self._controller.busy is None:
            self.open(folder)

        def work(stop: StopToken, report: Report) -> WaferRecord:
            with bench_at(source, seed, {}, wafer=across) as (config, text):
                return measure_wafer(config, text, folder, asked, ToldStages(report), stop, on_state=report)

        self._controller.by_itself(MEASURE, work, lambda _: self.look(), _said)

    def save_table(self, path: Path) -> None:
        """Save a line for each die, judged as it is now."""
        record = self.record
        if record is not None:
            self._controller.write(
                TABLE,
                lambda: write_atomically(path, record.csv().encode(), "table of the dies"),
                lambda _: self._controller.tell(TABLE, f"{len(record.dies)} dies in {path}"),
            )

    def write_page(self) -> None:
        """Write the page of the wafer into its folder, judged as it is now."""
        record, folder = self.record, self.folder
        if record is None or folder is None:
            return

        def work() -> Path:
            from bench.wafer_report import write_wafer_report

            return write_wafer_report(folder, record)

        self._controller.write(PAGE, work, lambda path: self._controller.tell(PAGE, str(path)))

    def show_runs(self) -> None:
        """Look at the run files of the chosen die in the workspace Runs."""
        if self.folder is None or self.die is None:
            return
        RunFolder.of(self._controller).go_to(self.folder / die_folder(self.die))
        self._controller.show_workspace("Runs")


def _said(record: WaferRecord) -> str:
    return f"{record.good} of {len(record.dies)} dies are good"
