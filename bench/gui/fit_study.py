"""The fit that the workspace Calibration is about: shared by its controls and its view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PyQt5.QtCore import QObject, pyqtSignal

from bench.fit_reports import write_fit_report
from bench.fitting import FitTask, Fitted, fit_apart
from bench.gui.controller import Controller
from bench.gui.units import si
from bench.pages import check_page
from data.device_files import save_device
from models.exceptions import UserMistake

PREFIXED = {"ohm": "Ω", "V": "V", "A": "A", "s": "s", "F": "F", "J": "J", "ohm/s": "Ω/s"}
SAVE, REPORT, SHOW = "Save device file", "Save fit report", "Show on map"


def quantity(value: float, unit: str) -> str:
    """A fitted number for people, with its SI unit."""
    if unit in PREFIXED:
        return si(value, PREFIXED[unit], 4)
    return f"{value:.4g}" if unit == "1" else f"{value:.4g} {unit}"


class FitStudy(QObject):
    """What was fitted last, and what was done with it. There is one for each controller.

    Signals:
        changed(): another fit, or another state of it.

    Attributes:
        fitted: the last fit that came to an end; None before the first.
        failure: why the last one came to none; empty where it did.
        saved: device file that the fit was saved as; None while it was not.
        running: title of the fit under way; empty while there is none.
    """

    changed = pyqtSignal()

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller = controller
        self.fitted: Fitted | None = None
        self.failure = ""
        self.saved: Path | None = None
        self.running = ""

    @staticmethod
    def of(controller: Controller) -> FitStudy:
        """The one of this controller."""
        known = controller.findChild(FitStudy)
        return known if isinstance(known, FitStudy) else FitStudy(controller)

    def begin(self, task: FitTask) -> None:
        """Fit, off the window's thread."""
        if self._controller.studying is not None:
            self._controller.complain(f"Fit {task.kind}", "other work on this computer is under way; wait or stop it")
            return
        self.running, self.failure = f"Fit {task.kind}", ""
        self.changed.emit()
        self._controller.study(
            self.running, lambda stop, report: fit_apart(task, stop, report), self._take, _said, self._on_failed
        )

    def _take(self, fitted: Fitted) -> None:
        self.fitted, self.saved, self.running, self.failure = fitted, None, "", ""
        fit = fitted.fit
        if not fit.converged:
            self._controller.complain(f"Fit {fitted.task.kind}", "; ".join((_said(fitted), *fit.problems)))
        self.changed.emit()

    def _on_failed(self, why: str) -> None:
        self.running, self.failure = "", why
        self.changed.emit()

    def refusal(self) -> str:
        """Why there is no device file to save; empty where there is one."""
        if self.fitted is None:
            return "nothing was fitted yet"
        if self.fitted.device is None:
            why = "; ".join(self.fitted.fit.problems)
            return f"the fit did not converge, so no device file comes of it: {why or 'see its checks'}"
        return ""

    def save(self, path: Path) -> None:
        """Save the device file that comes of the fit."""
        refusal, fitted = self.refusal(), self.fitted
        if refusal or fitted is None or fitted.device is None:
            self._controller.complain(SAVE, refusal)
            return
        device = fitted.device

        def work() -> Path:
            save_device(path, device)
            return path

        self._controller.write(SAVE, work, lambda written: self._on_saved(fitted, written))

    def _on_saved(self, fitted: Fitted, path: Path) -> None:
        self._controller.tell(SAVE, str(path))
        if fitted is self.fitted:
            self.saved = path
            self.changed.emit()

    def save_report(self, path: Path) -> None:
        """Save the page of the fit, converged or not."""
        fitted = self.fitted
        if fitted is None:
            self._controller.complain(REPORT, self.refusal())
            return

        def work() -> Path:
            check_page(path)
            return write_fit_report(path, fitted.task.kind, fitted.fit, fitted.runs, fitted.base)

        self._controller.write(REPORT, work, lambda written: self._controller.tell(REPORT, str(written)))

    def show_outliers(self) -> None:
        """Mark the devices that were left out on the map."""
        state, bench, fitted = self._controller.state, self._controller.bench, self.fitted
        if fitted is None:
            return
        chips = {str(run.attributes.get("chip_id", "")) for run in fitted.runs}
        try:
            if state is None or bench is None:
                raise UserMistake("no bench is connected; connect the one with the chip that was fitted")
            if chips != {bench.chip_id}:
                raise UserMistake(f"the fit is of {', '.join(sorted(chips))}; chip {bench.chip_id} is connected")
            mask = np.zeros(state.geometry, dtype=bool)
            for item in fitted.fit.outliers:
                mask[item.row, item.col] = True
        except UserMistake as error:
            self._controller.complain(SHOW, str(error))
            return
        self._controller.mark(mask, f"left out of the {fitted.task.kind} fit")


def _said(fitted: Fitted) -> str:
    fit = fitted.fit
    return f"{fit.devices} devices, {'converged' if fit.converged else 'NOT converged'}"
