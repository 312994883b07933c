"""A simulated bench for the tests, at the far end of real wires."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.config import parse_bench_file
from bench.session import Bench, connect
from data.datasets import Dataset, load_dataset
from drivers.simulated.bench import SimulatedBench

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from bench.gui.window import Window
    from models.integer import IntegerNetwork

SEED = 11


@pytest.fixture
def world() -> Iterator[SimulatedBench]:
    """A running simulated bench whose insides a test may look at."""
    with SimulatedBench(SEED) as simulated:
        yield simulated


@pytest.fixture
def bench(world: SimulatedBench) -> Iterator[Bench]:
    """A session with it."""
    text = world.bench_file()
    with connect(parse_bench_file(text, "test bench"), text) as session:
        yield session


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """The data set that comes with the installation."""
    return load_dataset("digits")


@pytest.fixture(scope="session")
def network() -> IntegerNetwork:
    """A small network for them, trained."""
    from tests.bench.digits_network import digits_network

    return digits_network()


@pytest.fixture
def window(qtbot: QtBot, tmp_path: Path) -> Iterator[Window]:
    """The window on a laptop's screen, not connected; it is closed, and the bench left, after the test."""
    from bench.gui.window import Window
    from tests.bench.gui_window import close

    shown = Window()
    shown.controller.folder = tmp_path / "runs"
    shown.resize(1366, 768)
    shown.show()
    yield shown
    close(qtbot, shown)


@pytest.fixture
def connected(qtbot: QtBot, window: Window, world: SimulatedBench, tmp_path: Path) -> Window:
    """The window, connected to ``world``."""
    from tests.bench.gui_window import wait_idle

    world.write_bench_file(tmp_path / "bench.toml")
    window.bench_panel.choose(str(tmp_path / "bench.toml"), 0)
    window.bench_panel.connect_button.click()
    wait_idle(qtbot, window)
    assert window.controller.bench is not None, window.log_panel.lines()
    return window
