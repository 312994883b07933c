"""Starting and ending the window as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PyQt5.QtGui import QImage

from bench.gui.screenshot import main

CLOSED_BY_A_SIGNAL = """
import os, signal, sys
from PyQt5.QtCore import QTimer
from bench.gui.application import application, show
from bench.gui.window import Window

app = application()

def look():
    for window in app.topLevelWidgets():
        if isinstance(window, Window) and window.controller.bench is not None:
            timer.stop()
            print("connected", flush=True)
            os.kill(os.getpid(), signal.SIGTERM)

timer = QTimer()
timer.timeout.connect(look)
timer.start(20)
status = show("simulated", 1)
print("closed", flush=True)
sys.exit(status)
"""


ONE_AFTER_THE_OTHER = """
import gc, time
from PyQt5.QtWidgets import QApplication
from bench.gui.application import application
from bench.gui.window import Window

def shown():
    app, window = application(), Window()
    window.show()
    for workspace in window.workspaces:
        window.show_workspace(workspace.name)
        app.processEvents()
    window.close()
    while not window.controller.closed:
        app.processEvents()
        time.sleep(0.001)

for _ in range(6):
    shown()
    assert QApplication.instance() is not None, "the application has ended"
gc.collect()
print("all closed", flush=True)
"""


def alone(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """What came of a script in a process of its own, with its settings in ``folder``."""
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "XDG_CONFIG_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_windows_one_after_the_other_share_one_application(tmp_path: Path) -> None:
    """Nobody but the program itself holds the application: it must not end with the first of them."""
    ended = alone(ONE_AFTER_THE_OTHER, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "all closed\n"), ended.stderr[-500:]


def test_a_signal_closes_the_window_in_order(tmp_path: Path) -> None:
    ended = alone(CLOSED_BY_A_SIGNAL, tmp_path)
    assert ended.stdout.split() == ["connected", "closed"]
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    assert "Connect: simulated kilobit bench, chip SIM-KILOBIT-1" in ended.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is always a screen")
def test_without_a_screen_one_line_says_so() -> None:
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    ended = subprocess.run(
        [sys.executable, "-m", "bench.cli", "gui"],
        env={name: value for name, value in os.environ.items() if name not in hidden},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "there is no screen" in ended.stderr


@pytest.mark.slow
def test_the_pictures_for_the_readme_are_made(qapp: object, tmp_path: Path) -> None:
    assert main([str(tmp_path), "--size", "1400", "800", "--until", "procedures"]) == 0
    assert QImage(str(tmp_path / "procedures.png")).width() == 1400
    picture = QImage(str(tmp_path / "window.png"))
    assert (picture.width(), picture.height()) == (1400, 800)
