"""Fits from the window: what is fitted, what it says, what it refuses, and where the device file goes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from bench.fitting import FitTask, fit_now
from bench.gui.run_folder import RunFolder
from bench.gui.window import Window
from calibration.estimate import Estimate
from data.device_files import load_device
from models.exceptions import UserMistake
from tests.bench.gui_window import last_line, wait, wait_idle
from tests.bench.recorded import COLS, ROWS, devices, record, repeated

CYCLES = 6
POINTS = {
    "SET": {"vdd_v": 1.2, "vddc_v": 3.5, "vddr_v": 3.0, "width_s": 1e-5},
    "RESET": {"vdd_v": 1.2, "vddc_v": 4.5, "vddr_v": 5.0, "width_s": 1e-5},
}


def variability(path: Path, cycles: int = CYCLES) -> Path:
    """24 devices, programmed to both states in each cycle: LRS 7 kΩ, HRS 80 kΩ."""
    generator = np.random.default_rng(5)
    count = 2 * ROWS * COLS
    columns = repeated(devices(), pattern=np.repeat(np.arange(cycles), 2), state=np.tile([0, 1], cycles))
    spread = np.where(columns["state"] == 0, 0.1, 0.35)
    own = np.tile(generator.standard_normal(count), 2 * cycles) + generator.standard_normal(2 * cycles * count)
    ohms = np.where(columns["state"] == 0, 7e3, 8e4) * np.exp(spread * own)
    ohms[(columns["row"] == 2) & (columns["col"] == 1) & (columns["device"] == 1) & (columns["state"] == 0)] *= 40.0
    rails = {"kind": [1, 2], "vddc_v": [3.5, 4.5], "vddr_v": [3.0, 5.0], "vdd_v": 1.2, "width_s": 1e-5, "devices": 1}
    records = {
        "operations": rails,
        "resistances": {**columns, "resistance_ohm": ohms, "voltage_v": 0.2, "current_a": 0.2 / ohms},
    }
    return record(path, "variability", records, operating_points=json.dumps(POINTS)).path


def offered(qtbot: QtBot, window: Window, kind: str, count: int) -> None:
    window.show_workspace("Calibration")
    window.calibration_panel.kind.setCurrentText(kind)
    RunFolder.of(window.controller).look()
    wait(qtbot, lambda: window.calibration_panel.runs.count() == count)


def test_a_fit_is_shown_saved_and_used(qtbot: QtBot, window: Window, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    path = variability(folder / "a.h5")
    offered(qtbot, window, "resistance", 1)
    panel, view = window.calibration_panel, window.fit_view
    assert not panel.fit_button.isEnabled()
    panel.tick(path)
    panel.fit_button.click()
    wait_idle(qtbot, window)
    assert "converged" in panel.said.text(), panel.said.text()
    names = [view.parameters.item(row, 0).text() for row in range(view.parameters.rowCount())]
    row = names.index("lrs.median_ohm")
    assert "kΩ" in view.parameters.item(row, 1).text()
    assert view.parameters.item(row, 3).text() == "6.988 kΩ"
    assert "row 2, column 1, BLB" in view.outliers.item(0).text()
    assert not panel.use_button.isEnabled()
    panel._study.save(tmp_path / "d.toml")
    wait(qtbot, panel.use_button.isEnabled)
    fitted = load_device(tmp_path / "d.toml").quantities["lrs.median_ohm"]
    assert fitted.trust == "fitted"
    assert fitted.low is not None
    assert fitted.low < fitted.value < 7.6e3
    panel.use_button.click()
    assert window.controller.device == tmp_path / "d.toml"
    panel._study.save_report(tmp_path / "fit.html")
    wait(qtbot, lambda: "fit.html" in last_line(window))
    panel.mark_button.click()
    assert "no bench is connected" in last_line(window)


def test_runs_that_cannot_support_a_fit_and_a_fit_that_is_stopped(qtbot: QtBot, window: Window, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    path = record(folder / "b.h5", "bit-error", {}).path
    offered(qtbot, window, "bit-error", 1)
    panel = window.calibration_panel
    panel.tick(path)
    with qtbot.waitSignal(window.controller.progressed):
        panel.fit_button.click()
    panel.stop_button.click()
    wait_idle(qtbot, window)
    assert "stopped" in panel.said.text()
    panel.fit_button.click()
    wait_idle(qtbot, window)
    assert "b.h5" in panel.said.text()
    assert panel.said.text() in last_line(window)
    assert not panel.save_button.isEnabled()


def test_a_fit_that_did_not_converge_gives_no_device_file(
    qtbot: QtBot, window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calibration import script
    from calibration.result import Fit

    bad = Fit({"lrs.median_ohm": Estimate(7e3, 6e3, 8e3, "ohm")}, 2, False, problems=("only two devices",))
    monkeypatch.setattr(script.Kind, "fit", lambda *_: bad)
    panel = window.calibration_panel
    panel._study._take(fit_now(FitTask("resistance", (variability(tmp_path / "a.h5", 1),))))
    assert "only two devices" in panel.said.text()
    assert "only two devices" in window.fit_view.problems.text()
    panel.save_button.click()
    assert "did not converge" in last_line(window)
    assert not panel.use_button.isEnabled()
    with pytest.raises(UserMistake, match="takes one run; 2 are chosen"):
        fit_now(FitTask("device", (tmp_path / "a.h5", tmp_path / "b.h5")))
