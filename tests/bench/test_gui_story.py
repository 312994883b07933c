"""The whole story in one window, and Stop pressed at any instant of it."""

from __future__ import annotations

import time

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from bench.gui.screenshot import STORY
from bench.gui.window import Window
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from tests.bench.gui_window import is_off, press, select, wait, wait_idle

ENDED = {"completed", "stopped", "failed"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_connect_form_program_read_fit_map_and_infer(qtbot: QtBot, connected: Window, world: SimulatedBench) -> None:
    for stages in STORY.values():
        for stage in stages:
            stage(connected)
            # panels plan, read and draw of their own accord before they hand a job on
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                qtbot.wait(20)
            qtbot.waitUntil(lambda: connected.controller.idle, timeout=120_000)
    lines = connected.log_panel.lines()
    done = "\n".join(lines)
    for operation in ("Connect", "Form", "Program", "Measure resistance", "characterise", "weak-reset", "Fit device"):
        assert operation in done
    assert "accuracy on silicon" in done
    measured = connected.network_panel.table
    assert connected.fit_view.parameters.rowCount() > 10
    assert measured is not None
    assert {open_run(path).status for path in connected.controller.folder.glob("*.h5")} == {"completed"}
    assert is_off(world)


def test_stop_at_any_instant_leaves_the_outputs_off_and_every_record(
    qtbot: QtBot, connected: Window, world: SimulatedBench
) -> None:
    rng = np.random.default_rng(9)
    select(connected, "0:8,0:8")
    press(qtbot, connected, "forming")
    for name, longest_s in (("resistance", 0.6), ("program", 0.15), ("pulse", 0.1), ("resistance", 0.02)):
        for _ in range(3):
            connected.actions_panel.buttons[name].click()
            qtbot.wait(int(1e3 * longest_s * rng.random()))
            connected.log_panel.run_row.stop_button.click()
            wait_idle(qtbot, connected)
            wait(qtbot, lambda: set(connected.bench_panel.states().values()) == {"off"})
            assert is_off(world)
    runs = [open_run(path) for path in connected.controller.folder.glob("*.h5")]
    assert {run.status for run in runs} <= ENDED
    assert sum(run.status == "stopped" for run in runs) >= 3
    press(qtbot, connected, "read")
    assert connected.log_panel.lines()[0].split("\t")[1] == "Read"
