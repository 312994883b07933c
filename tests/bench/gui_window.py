"""How tests drive the window: press, select, wait, and look at what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from pytestqt.qtbot import QtBot

from bench.gui.jobs import OpenNetwork
from bench.gui.window import Window
from data.datasets import Dataset
from drivers.simulated.bench import SimulatedBench
from models.integer import IntegerLayer, IntegerNetwork, ThermometerEncoding

PATIENCE_MS = 30_000


def wait(qtbot: QtBot, condition: Callable[[], bool]) -> None:
    qtbot.waitUntil(condition, timeout=PATIENCE_MS)


def wait_idle(qtbot: QtBot, window: Window) -> None:
    wait(qtbot, lambda: window.controller.idle)


def close(qtbot: QtBot, window: Window) -> None:
    window.close()
    wait(qtbot, lambda: window.controller.closed)


def press(qtbot: QtBot, window: Window, action: str) -> None:
    button = window.actions_panel.buttons[action]
    assert button.isEnabled()
    button.click()
    wait_idle(qtbot, window)


def select(window: Window, cells: str) -> None:
    window.cells.setText(cells)
    window.cells.returnPressed.emit()


def begin_long_run(qtbot: QtBot, window: Window) -> None:
    """Begin to measure all resistances, and return when the first are there."""
    select(window, "all")
    window.actions_panel.buttons["resistance"].click()
    wait(qtbot, lambda: measured(window) >= 3)


def measured(window: Window) -> int:
    assert window.controller.state is not None
    return int((~np.isnan(window.controller.state.resistance_ohm)).sum())


def last_line(window: Window) -> str:
    return window.log_panel.lines()[0]


def is_off(world: SimulatedBench) -> bool:
    return world.world.rails == (0.0, 0.0, 0.0)


def only_run(window: Window) -> Path:
    (path,) = window.controller.folder.glob("*.h5")
    return path


def tiny_network() -> OpenNetwork:
    """Four classes told apart by which of four pixels is bright; two layers, so that activations travel too."""
    own = np.where(np.eye(4), 1, -1).astype(np.int8)
    none, plus = np.zeros(4, dtype=np.int32), np.ones(4, dtype=np.int8)
    layers = (IntegerLayer(own, plus, none + 1), IntegerLayer(own, plus, none))
    network = IntegerNetwork("tiny", ThermometerEncoding(4, (8,)), layers, 4)
    labels = np.arange(150, dtype=np.int64) % 4
    images = (15 * np.eye(4, dtype=np.uint8))[labels]
    data = Dataset("four pixels", images, labels, images, labels, 4)
    return OpenNetwork(network, data, network.accuracy(images, labels), Path("tiny.safetensors"), {"by": "hand"})
