"""Pictures of the window at work, for the README: ``python -m bench.gui.screenshot OUT.png``.

It connects to a simulated bench, forms and programs the array, measures some resistances, trains the network for the
digits, infers it on the simulated silicon, and saves what the window shows.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

from PyQt5.QtGui import QFont
from PyQt5.QtWidgets import QApplication

from bench.gui.application import application
from bench.gui.window import Window
from bench.session import SIMULATED

SIZE = (1366, 768)
POINTS = 9
PATIENCE_S = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the arguments (of the command by default), drive the window, and return an exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.gui.screenshot", description="Save a picture of the window.")
    parser.add_argument("out", type=Path, help="PNG file to write")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, metavar=("WIDTH", "HEIGHT"), help="in pixels")
    parser.add_argument("--view", default="Weight", help="view of the array at the end")
    parser.add_argument("--stages", action="store_true", help="also save a picture after each stage: OUT-1.png, …")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated bench and of the network")
    options = parser.parse_args(arguments)
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    app = application()
    app.setFont(QFont(app.font().family(), POINTS))
    out = options.out.absolute()
    with TemporaryDirectory() as folder, chdir(folder):
        window = Window()
        window.resize(*options.size)
        window.show()
        try:
            stages = _stages(window, options.seed)
            for number, stage in enumerate(stages, start=1):
                stage()
                _wait(app, lambda: window.controller.idle)
                if options.stages:
                    grab(window, out.with_stem(f"{out.stem}-{number}"))
            window.show_view(options.view)
            grab(window, out)
        finally:
            window.close()
            _wait(app, lambda: window.controller.closed)
    return 0


def grab(window: Window, path: Path) -> None:
    """Save a picture of the window as it stands."""
    window.map_pane.redraw()
    QApplication.processEvents()
    if not window.grab().save(str(path)):
        raise OSError(f"cannot write {path}")


def _stages(window: Window, seed: int) -> list[Callable[[], None]]:
    def form() -> None:
        window.actions_panel.forms["forming"].put("check", "weights")  # the ramp takes its time
        window.actions_panel.buttons["forming"].click()

    def measure() -> None:
        window.cells.setText("0:8,0:8")
        window.cells.returnPressed.emit()
        window.show_view("R(BL)")
        window.actions_panel.buttons["resistance"].click()

    def train() -> None:
        window.show_view("Weight")
        window.controller.train(seed)

    def infer() -> None:
        window.network_panel.infer_button.click()

    return [
        lambda: window.controller.connect_bench(SIMULATED, seed),
        form,
        window.actions_panel.buttons["program"].click,
        measure,
        train,
        infer,
    ]


def _wait(app: QApplication, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        app.processEvents()
        time.sleep(0.005)
        if time.monotonic() > deadline:
            raise TimeoutError(f"the window did not come to an end in {PATIENCE_S:g} s")
    app.processEvents()


if __name__ == "__main__":
    sys.exit(main())
