"""Starting and ending the application."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from types import TracebackType

from PyQt5.QtCore import Qt, QTimer
from PyQt5.QtWidgets import QApplication

from bench.gui.entries import Entry
from bench.gui.memory import Memory
from bench.gui.window import Window
from bench.session import SIMULATED
from models.exceptions import UserMistake

SIGNAL_LOOK_MS = 100
DEFAULT_SIZE = (1280, 720)


@cache
def application() -> QApplication:
    """The one QApplication of this process, made on the first call, and kept: no widget outlives its application.

    Raises:
        UserMistake: there is no screen to show it on.
    """
    running = QApplication.instance()
    if isinstance(running, QApplication):
        return running
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in screens):
        raise UserMistake("there is no screen: neither DISPLAY nor WAYLAND_DISPLAY is set; start it from a desktop")
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_EnableHighDpiScaling)
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_UseHighDpiPixmaps)
    return QApplication(["rram-bench"])


def show(source: str | None, seed: int) -> int:
    """Open the window, connect it to ``source`` ("simulated" or a bench file), and wait until it is closed.

    The window is as this person left it; the tour is offered at the first start. Without a source it is the bench of
    last time: a simulated one is connected, a real one only filled in, for nobody asked for it today.

    Returns:
        An exit status: 1 when the instruments did not confirm at the end that they are off.
    """
    app = application()
    memory = Memory.of_this_person()
    window = Window(memory)
    if memory.layout is None:
        window.resize(*DEFAULT_SIZE)
    window.controller.logged.connect(_tell_console)
    with _complaints_of(window), _closed_by_signals(window):
        window.show()
        chosen, its_seed = memory.bench if source is None else (source, seed)
        window.bench_panel.choose(chosen, its_seed)
        if source is not None or chosen == SIMULATED:
            window.bench_panel.connect_chosen()
        if not memory.toured:
            window.start_tour()
        app.exec_()
    report = window.controller.safe_report
    if report is not None and not report.confirmed:
        print(f"rram-bench: the safe state is not confirmed: {report}", file=sys.stderr)
        return 1
    return 0


def _tell_console(entry: Entry) -> None:
    """Each line of the log also in the terminal that the window was started from."""
    where = f" on {entry.cells}" if entry.cells else ""
    print(f"{datetime.now():%H:%M:%S} {entry.operation}{where}: {entry.text}", file=sys.stderr, flush=True)


@contextmanager
def _complaints_of(window: Window) -> Iterator[None]:
    """An unexpected exception in the window's own thread goes to its log instead of ending the program."""

    def complain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        traceback.print_exception(kind, error, trace)
        window.controller.complain("Window", f"unexpected {kind.__name__}: {error}; its trace is on standard error")

    previous, sys.excepthook = sys.excepthook, complain
    try:
        yield
    finally:
        sys.excepthook = previous


@contextmanager
def _closed_by_signals(window: Window) -> Iterator[None]:
    """Ctrl-C and SIGTERM close the window as its own button does: safe state first."""
    # Python looks at signals only between its own instructions; a timer gives it some.
    timer = QTimer()
    timer.timeout.connect(lambda: None)
    timer.start(SIGNAL_LOOK_MS)
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    previous = {
        getattr(signal, name): signal.signal(getattr(signal, name), lambda *_: window.close()) for name in names
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
