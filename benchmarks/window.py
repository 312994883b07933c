"""The window under load: gaps of its event loop, frames of a large map, memory over long work, time to the start.

Everything offscreen, so that what a graphics card would do is done by the processor: a desktop is not slower.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir, contextmanager
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.rows import Row, row

if TYPE_CHECKING:
    from PyQt5.QtWidgets import QApplication

    from bench.gui.window import Window

SIZE = (1366, 768)
BEAT_MS = 5
POINTS = 1_000_000
BATCH = 2_000
FRAMES = 60
LARGE = (256, 256)
HOURS_OF_WORK = 60
PATIENCE_S = 600.0

STARTED = """
import time
began = time.perf_counter()
from bench.gui.application import application
app = application()
from bench.gui.window import Window
window = Window()
window.resize(1366, 768)
window.show()
window.bench_panel.connect_chosen()
while window.controller.bench is None or window.controller.busy is not None:
    app.processEvents()
window.map_pane.redraw()
app.processEvents()
print(time.perf_counter() - began)
window.close()
while not window.controller.closed:
    app.processEvents()
"""


def window() -> list[Row]:
    """All rows; takes about two minutes."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    rows = [_start(), *_inference(), *_live(), _frames()]
    # what the others leave behind is no memory of this work: a process of its own
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return [*rows, *pool.submit(_memory).result()]


def _start() -> Row:
    """A process from nothing to a window that shows the array of a simulated bench."""
    seconds = []
    for _ in range(5):
        ran = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=True)
        seconds.append(float(ran.stdout))
    return row("start to a connected window (aim: under 3)", "s", seconds)


def _inference() -> list[Row]:
    """Gaps of the event loop while digits are inferred in two ways, with the network's workspace in front."""
    with _shown() as (app, shown):
        shown.actions_panel.forms["forming"].put("check", "weights")
        shown.actions_panel.buttons["forming"].click()
        _until(app, lambda: shown.controller.idle)
        shown.network_panel.study.train("digits-bnn", 60, 0)
        _until(app, lambda: shown.controller.idle)
        shown.show_workspace("Network")
        shown.show_view("Errors")
        with _beats(app) as gaps:
            shown.network_panel.study.infer({"modes": ["host", "xnor"]})
            _until(app, lambda: shown.controller.idle)
        return _gap_rows("inference", gaps)


def _live() -> list[Row]:
    """Gaps while a million readings reach the live plot, as blocks of a long run."""
    from bench.procedure import Record

    rng = np.random.default_rng(0)
    with _shown() as (app, shown):
        shown.show_workspace("Procedures")
        with _beats(app) as gaps:
            for start in range(0, POINTS, BATCH):
                index = np.arange(start, start + BATCH)
                values = {
                    "row": (index // 32 % 4).astype(np.int16),
                    "col": (index % 32).astype(np.int16),
                    "device": np.zeros(BATCH, dtype=np.int8),
                    "state": np.zeros(BATCH, dtype=np.int8),
                    "pattern": np.full(BATCH, -1),
                    "pulses": index // 128,
                    "staircase": np.ones(BATCH, dtype=np.int8),
                    "voltage_v": np.full(BATCH, 0.2),
                    "current_a": np.full(BATCH, 2e-5),
                    "in_compliance": np.zeros(BATCH, dtype=np.int8),
                    "resistance_ohm": 1e4 * np.exp(rng.normal(1e-6 * index, 0.1)),
                }
                shown.controller.stepped.emit([Record("resistances", values, many=True)])
                _for(app, 0.02)
        return _gap_rows(f"live plot of {POINTS:.0e} points", gaps)


def _frames() -> Row:
    """Whole redraws of a large map with its legend, each painted."""
    from bench.gui.array_state import ArrayState
    from bench.gui.legend import lookup_table
    from bench.gui.views import VIEWS, image
    from models.cells import Geometry

    rng = np.random.default_rng(0)
    with _shown() as (app, shown):
        state = ArrayState(Geometry(*LARGE))
        view = next(view for view in VIEWS if view.name == "R(BL)")
        pane = shown.map_pane
        pane.array_map.set_geometry(state.geometry)
        rates = []
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(FRAMES):
                state.resistance_ohm = rng.uniform(3e3, 3e5, (*LARGE, 2))
                pane.array_map.draw(image(view, state, lookup_table))
                pane.legend.show_view(view, state)
                pane.repaint()
                app.processEvents()
            rates.append(FRAMES / (time.perf_counter() - began))
    return row(f"map of {LARGE[0]} x {LARGE[1]} redrawn (aim: at least 30)", "frames/s", rates)


def _memory() -> list[Row]:
    """Memory of the process over work that would take an hour at the bench: programmed, read, measured, again."""
    with _shown() as (app, shown):
        shown.actions_panel.forms["forming"].put("check", "weights")
        shown.actions_panel.buttons["forming"].click()
        _until(app, lambda: shown.controller.idle)
        shown.cells.setText("0:4,0:16")
        shown.cells.returnPressed.emit()
        sizes = []
        for _ in range(HOURS_OF_WORK):
            for name in ("program", "read", "resistance"):
                shown.actions_panel.buttons[name].click()
                _until(app, lambda: shown.controller.idle)
            sizes.append(_resident_mb())
    third = len(sizes) // 3
    growth = [late - early for early, late in zip(sizes[third : 2 * third], sizes[2 * third :], strict=False)]
    return [
        row("memory of the window's process", "MB", sizes[third:]),
        row(f"growth over {3 * third} runs (from the 2nd to the 3rd third of {3 * len(sizes)})", "MB", growth),
    ]


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def _gap_rows(what: str, gaps: list[float]) -> list[Row]:
    late = 1e3 * np.sort(np.array(gaps))
    p99 = float(np.quantile(late, 0.99))
    name = f"event loop during {what}: gap, p99 (aim: under 50)"
    return [Row(name, "ms", p99, float(np.quantile(late, 0.5)), float(late[-1]))]


@contextmanager
def _beats(app: QApplication) -> Iterator[list[float]]:
    """Times in s between beats of a timer that should beat every few ms, for the length of the block."""
    from PyQt5.QtCore import Qt, QTimer

    gaps: list[float] = []
    last = time.perf_counter()

    def beat() -> None:
        nonlocal last
        now = time.perf_counter()
        gaps.append(now - last)
        last = now

    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(beat)
    timer.start(BEAT_MS)
    try:
        yield gaps
    finally:
        timer.stop()


@contextmanager
def _shown() -> Iterator[tuple[QApplication, Window]]:
    """A window on a simulated bench of its own, in a folder that is gone afterwards."""
    from bench.gui.application import application

    app = application()
    from bench.gui.window import Window

    with TemporaryDirectory() as folder, chdir(folder):
        shown = Window()
        shown.resize(*SIZE)
        shown.show()
        shown.bench_panel.connect_chosen()
        _until(app, lambda: shown.controller.bench is not None and shown.controller.busy is None)
        try:
            yield app, shown
        finally:
            shown.close()
            _until(app, lambda: shown.controller.closed)


def _until(app: QApplication, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        _for(app, 0.001)
        if time.monotonic() > deadline:
            raise TimeoutError(f"the window did not come to an end in {PATIENCE_S:g} s")


def _for(app: QApplication, seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        app.processEvents()
        left = end - time.monotonic()
        if left <= 0.0:
            return
        time.sleep(min(left, 0.001))
