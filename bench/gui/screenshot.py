"""Pictures of every workspace at work, for the README and the docs: ``python -m bench.gui.screenshot FOLDER``.

It drives the window through the story of the first ten minutes on a simulated bench: form, program, measure, run an
experiment, look at its file, fit, train, infer, measure a wafer. At each size that is asked for, one picture of each
workspace is saved, and one on a dark window.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from PyQt5.QtGui import QFont
from PyQt5.QtWidgets import QApplication

from bench.gui.application import application
from bench.gui.themes import Theme
from bench.gui.window import Window
from bench.session import SIMULATED
from drivers.prober_role import Die

SIZES = ((1366, 768), (2560, 1440))
POINTS = 9
PATIENCE_S = 300.0
QUIET_S = 1.5
"""How long nothing must happen before a picture is taken: panels read files and draw figures of their own accord."""

Stage = Callable[[Window], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments (of the command by default), drive the window, and return an exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.gui.screenshot", description="Save pictures of the window.")
    parser.add_argument("folder", type=Path, help="where the PNG files go")
    parser.add_argument("--size", type=int, nargs=2, action="append", metavar=("WIDTH", "HEIGHT"), help="in pixels")
    parser.add_argument("--until", choices=list(STORY), default=list(STORY)[-1], help="last picture of the story")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated bench and of the network")
    options = parser.parse_args(arguments)
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = application()
    app.setFont(QFont(app.font().family(), POINTS))
    folder, sizes = options.folder.absolute(), [tuple(size) for size in options.size or SIZES]
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as runs, chdir(runs):
        window = Window()
        window.resize(*sizes[0])
        window.show()
        try:
            window.controller.connect_bench(SIMULATED, options.seed)
            _wait(app, lambda: window.controller.idle)
            for name, stages in STORY.items():
                for stage in stages:
                    stage(window)
                    _wait(app, lambda: _at_rest(window), QUIET_S)
                for number, size in enumerate(sizes):
                    window.resize(*size)
                    _wait(app, lambda: _at_rest(window), QUIET_S)
                    grab(window, folder / f"{name}{'' if number == 0 else f'-{size[0]}'}.png")
                window.resize(*sizes[0])
                if name == options.until:
                    break
        finally:
            window.use_theme(Theme.DESKTOP)
            window.close()
            _wait(app, lambda: window.controller.closed)
    return 0


def grab(window: Window, path: Path) -> None:
    """Save a picture of the window as it stands."""
    window.map_pane.redraw()
    QApplication.processEvents()
    if not window.grab().save(str(path)):
        raise OSError(f"cannot write {path}")


def select(window: Window, cells: str) -> None:
    """Select cells as they are written."""
    window.cells.setText(cells)
    window.cells.returnPressed.emit()


def _form(window: Window) -> None:
    window.actions_panel.forms["forming"].put("check", "weights")  # the ramp takes its time
    window.actions_panel.buttons["forming"].click()


def _program(window: Window) -> None:
    window.actions_panel.buttons["program"].click()


def _measure(window: Window) -> None:
    select(window, "0:16,0:16")
    window.actions_panel.buttons["resistance"].click()


def _history(window: Window) -> None:
    window.show_view("R(BL)")
    select(window, "5,9")


def _characterise(window: Window) -> None:
    select(window, "all")
    window.procedures_panel.choose("characterise")
    _wait_for_plan(window)
    window.procedures_panel.run_button.click()


def _weak_reset(window: Window) -> None:
    window.show_workspace("Procedures")
    window.show_view("Weight")
    select(window, "0:4,0:4")
    window.procedures_panel.choose("weak-reset")
    for key, value in (("pulses", 1000), ("log_points", 24)):
        window.procedures_panel.form.put(key, value)
    _wait_for_plan(window)
    window.procedures_panel.run_button.click()


def _show_run(window: Window) -> None:
    window.show_workspace("Runs")
    window.runs_panel.choose(_newest(window, "characterise"))


def _figures_of_run(window: Window) -> None:
    window.run_view.tabs.setCurrentWidget(window.run_view.figures)


def _fit(window: Window) -> None:
    window.show_workspace("Calibration")
    panel = window.calibration_panel
    panel.kind.setCurrentText("device")
    panel.tick(_newest(window, "characterise"))
    panel.fit_button.click()


def _train(window: Window) -> None:
    window.show_workspace("Network")
    window.network_panel.train_button.click()


def _infer(window: Window) -> None:
    window.show_view("Errors")
    window.network_panel.infer_button.click()


def _samples(window: Window) -> None:
    window.network_view.show_page("Samples")


def _dark(window: Window) -> None:
    window.use_theme(Theme.DARK)
    window.show_workspace("Cells")
    window.show_view("Weight")
    select(window, "5,9")


def _leave_bench(window: Window) -> None:
    window.use_theme(Theme.DESKTOP)
    window.bench_panel.disconnect_button.click()


def _measure_wafer(window: Window) -> None:
    window.show_workspace("Wafer")
    window.wafer_panel.measure_button.click()


def _one_die(window: Window) -> None:
    window.wafer_view.study.show("hrs.median_ohm")
    window.wafer_view.study.choose(Die(1, 0))


STORY: Mapping[str, Sequence[Stage]] = {
    "window": (_form, _program, _measure, _history),
    "procedures": (_characterise, _weak_reset),
    "runs": (_show_run, _figures_of_run),
    "calibration": (_fit,),
    "network": (_train, _infer),
    "samples": (_samples,),
    "dark": (_dark,),
    "wafer": (_leave_bench, _measure_wafer, _one_die),
}
"""Each picture with what is done before it."""


def _newest(window: Window, procedure: str) -> Path:
    return sorted(window.controller.folder.glob(f"*-{procedure}.h5"))[-1]


def _at_rest(window: Window) -> bool:
    return window.controller.idle and not window.controller.reading


def _wait_for_plan(window: Window) -> None:
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    _wait(app, window.procedures_panel.run_button.isEnabled, QUIET_S)


def _wait(app: QApplication, done: Callable[[], bool], quiet_s: float = 0.0) -> None:
    """Wait until ``done`` has held for so long."""
    deadline = time.monotonic() + PATIENCE_S
    since: float | None = None
    while True:
        app.processEvents()
        time.sleep(0.005)
        now = time.monotonic()
        since = (now if since is None else since) if done() else None
        if since is not None and now - since >= quiet_s:
            return
        if now > deadline:
            raise TimeoutError(f"the window did not come to an end in {PATIENCE_S:g} s")


if __name__ == "__main__":
    sys.exit(main())
