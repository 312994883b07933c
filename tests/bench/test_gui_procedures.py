"""The window's procedures: forms, plans, the queue and live plots, driven as a person drives them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PyQt5.QtCore import Qt
from pytestqt.qtbot import QtBot

from bench.cells import parse_cells, write_cells
from bench.gui.live_series import COUNT, DEVICES, MAP, ONE, default, draw, main_table
from bench.gui.live_tables import LiveTables
from bench.gui.parameter_form import ParameterForm
from bench.gui.procedures_panel import ProceduresPanel
from bench.gui.queue_work import plain_settings
from bench.gui.units import parse_quantity, title_of, unit_of, write_quantity
from bench.gui.window import Window
from bench.procedure import Progress, Record
from bench.procedures import PROCEDURES
from bench.queue import Queue, Verb
from bench.states import RunState
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.cells import Geometry
from tests.bench.gui_window import is_off, select, wait, wait_idle

NO_SCHEMA = {}  # type: ignore[var-annotated]
OWN = """
from pydantic import Field
from bench.procedure import Parameters, Procedure, Progress, Record
from data.runs import Column, Table

class Wishes(Parameters):
    gap_s: float = Field(default=1e-3, gt=0, le=1, description="pause, s")

def steps(chip, parameters, cells):
    for index in range(3):
        yield Record("levels", {"vddc_v": 1.0 + index, "level_a": 1e-6 * index})
    return {"levels": 3}

LEVELS = Table("levels", (Column("vddc_v", "float64", units="V"), Column("level_a", "float64", units="A")))
OWN = Procedure("own-levels", "levels of my own", Wishes, (LEVELS,), steps)
"""


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("10 us", "s", 1e-5),
        ("10µs", "s", 1e-5),
        ("30k", "Ω", 30e3),
        ("30 kohm", "Ω", 30e3),
        ("2.25", "", 2.25),
        ("-0.4 V", "V", -0.4),
        ("200 uA", "A", 2e-4),
        ("85 °C", "°C", 85.0),
        ("1e5", "s", 1e5),
        ("3 M", "Ω", 3e6),
        ("10 V", "s", None),
        ("ten", "s", None),
        ("1,5", "V", None),
    ],
)
def test_quantities_are_read_with_si_prefixes(text: str, unit: str, value: float | None) -> None:
    assert parse_quantity(text, unit) == value


def test_a_quantity_that_is_written_is_read_back_exactly() -> None:
    rng = np.random.default_rng(0)
    for unit in ("s", "V", "Ω", "A", "J", "°C", ""):
        for value in [0.0, 1e-5, 30e3, 1e9, *(10.0 ** rng.uniform(-12, 9, 50) * rng.choice([-1, 1], 50)).tolist()]:
            assert parse_quantity(write_quantity(value, unit), unit) == value
    assert write_quantity(1e-5, "s") == "10 µs"
    assert (unit_of("energy_j_at_most"), title_of("set_vddc_v"), unit_of("attempts")) == ("J", "set VDDC", "")


def test_a_selection_is_written_as_the_command_line_reads_it() -> None:
    rng = np.random.default_rng(1)
    for share in (0.02, 0.5, 0.97, 1.0):
        mask = rng.random((12, 7)) < share
        mask[3, 3] = True
        assert (parse_cells(write_cells(mask), Geometry(12, 7)) == mask).all()
    assert write_cells(np.ones((2, 2), dtype=bool)) == "all"


@pytest.mark.parametrize("name", PROCEDURES)
def test_settings_of_any_form_can_be_queued(qtbot: QtBot, name: str) -> None:
    procedure = PROCEDURES[name]
    form = ParameterForm(name, procedure.parameters)
    qtbot.addWidget(form)
    assert form.problems == {}
    assert plain_settings(procedure, form.settings()) == {}
    if name == "bit-error":
        form.put("set_vddc_v", "3.3, 3400 mV")
        form.put("resistances", True)
        assert plain_settings(procedure, form.settings()) == {"set_vddc_v": "3.3, 3.4", "resistances": "true"}


def test_a_bad_value_is_shown_in_place_as_it_is_typed(qtbot: QtBot) -> None:
    form = ParameterForm("forming", PROCEDURES["forming"].parameters, pairs=1, help_line=True)
    qtbot.addWidget(form)
    form.show()
    edit = form.widget("step_v")
    edit.selectAll()  # type: ignore[attr-defined]
    qtbot.keyClicks(edit, "1 mV")
    assert "0.01 V to 5 V" in form.line.text()
    assert "border" in edit.styleSheet()
    assert form.settings()["step_v"] == 1e-3
    edit.selectAll()  # type: ignore[attr-defined]
    qtbot.keyClicks(edit, "50 mV")
    assert form.problems == {}
    assert edit.styleSheet() == ""
    form.put("pulses", "5k")
    assert "1 to 100" in form.problems["pulses"]
    form.reset()
    assert form.settings()["pulses"] == 1
    assert "VDDC of the first pulses" in form.widget("start_v").toolTip()


@pytest.fixture
def panel(qtbot: QtBot, connected: Window) -> ProceduresPanel:
    """The panel, in front, with four cells selected."""
    connected.show_workspace("Procedures")
    select(connected, "0:2,0:2")
    return connected.procedures_panel


def ready(qtbot: QtBot, panel: ProceduresPanel, name: str, **settings: object) -> None:
    panel.choose(name)
    for key, value in settings.items():
        panel.form.put(key, value)
    wait(qtbot, lambda: panel.planned is not None)


def add(qtbot: QtBot, panel: ProceduresPanel) -> None:
    before = 0 if panel.queue.shown is None else len(panel.queue.shown.items)
    panel.add_button.click()
    wait(qtbot, lambda: panel.queue.shown is not None and len(panel.queue.shown.items) == before + 1)


def states(panel: ProceduresPanel) -> list[RunState]:
    return [item.state for item in panel.queue.queue.items_as_stored()]


def test_a_run_is_planned_before_it_begins_and_plotted_as_it_goes(
    qtbot: QtBot, connected: Window, panel: ProceduresPanel
) -> None:
    ready(qtbot, panel, "weak-reset", pulses="0.1k", log_points=5)
    assert panel.run_button.text() == "Run weak-reset on 4 cells"
    figures = panel._figures.text()
    assert "highest voltages" in figures
    assert "µJ" in figures or "nJ" in figures
    assert "inside the limits" in panel._state.text()

    panel.points.put("WEAK_RESET.vddc_v", 9.0)
    assert "outside limits.vddc_v" in panel.points.problem
    assert not panel.run_button.isEnabled()
    panel.points.put("WEAK_RESET.vddc_v", 1.0)
    wait(qtbot, lambda: panel.planned is not None)
    panel.run_button.click()
    wait_idle(qtbot, connected)
    (path,) = connected.controller.folder.glob("*.h5")
    run = open_run(path)
    assert '"WEAK_RESET": {"vdd_v": 1.2, "vddc_v": 1.0' in str(run.attributes["operating_points"])
    assert set(run.read("staircase")["vddc_v"].tolist()) == {1.0}

    view = connected.live_view
    wait(qtbot, lambda: view.table.currentText() == "staircase")
    wait(qtbot, lambda: view.drawing is not None and len(view.drawing.series) == 8)
    assert view.drawing is not None
    assert (view.drawing.y_label, view.drawing.x_label.partition(";")[0]) == ("resistance (Ω)", "pulses")
    assert len(view.tables.tables["staircase"].column("pulses")) == run.rows("staircase")
    view.show_table("resistances")
    assert view.choice is not None
    assert view.choice.y == ("resistance_ohm",)


def test_a_voltage_outside_the_limits_is_refused_before_anything_moves(
    qtbot: QtBot, connected: Window, panel: ProceduresPanel
) -> None:
    ready(qtbot, panel, "forming", stop_v="19 V")
    assert "refused" in panel._state.text()
    assert "limits.vddc_v" in panel._state.text()
    assert not panel.run_button.isEnabled()
    assert not panel.add_button.isEnabled()
    select(connected, "all")
    qtbot.keyClick(connected.array_map, Qt.Key.Key_Escape)
    assert "No cell is selected" in panel._state.text()


def test_the_queue_runs_on_the_connected_bench_and_obeys_another_terminal(
    qtbot: QtBot, connected: Window, panel: ProceduresPanel, world: SimulatedBench
) -> None:
    ready(qtbot, panel, "resistance", repeats=500)
    add(qtbot, panel)
    ready(qtbot, panel, "read", repeats=2)
    add(qtbot, panel)
    panel.tabs.setCurrentIndex(1)
    folder = connected.controller.folder.absolute() / "queue"
    assert str(folder) in panel.queue._path.text()
    panel.queue.start.click()
    wait(qtbot, lambda: "resistances" in connected.live_view.tables.tables)

    other = Queue(folder)  # as another process sees it
    other.ask(Verb.PAUSE)
    wait(qtbot, lambda: states(panel) == [RunState.PAUSED, RunState.QUEUED])
    wait(qtbot, lambda: is_off(world))
    wait(qtbot, lambda: panel.queue.pause.text() == "Go on")
    assert connected.log_panel.pause_button.text() == "Go on"
    assert connected.log_panel.run_row._left.text() == "paused"
    assert set(connected.bench_panel.states().values()) == {"off"}
    assert connected.bench_panel._rails_state.text() == "paused: all outputs were confirmed to be off"
    connected.log_panel.pause_button.click()
    wait(qtbot, lambda: connected.log_panel.pause_button.text() == "Pause")
    assert states(panel)[0] is RunState.RUNNING
    connected.log_panel.pause_button.click()
    wait(qtbot, lambda: states(panel)[0] is RunState.PAUSED)
    panel.queue.pause.click()
    wait(qtbot, lambda: states(panel)[0] is RunState.RUNNING)
    panel.queue.skip.click()
    wait_idle(qtbot, connected)
    assert states(panel) == [RunState.STOPPED, RunState.COMPLETED]
    wait(qtbot, lambda: "2 items ended" in "".join(connected.log_panel.lines()))
    wait(qtbot, lambda: panel.queue.shown is not None and 2 in panel.queue.shown.results)
    first, second = other.items()
    assert open_run(Path(first.run_file)).status == "stopped"
    assert Path(second.run_file).parent == connected.controller.folder.absolute()

    panel.queue.table.selectRow(0)
    assert "queue skip" in panel.queue._details.text()
    panel.queue.retry.click()
    wait(qtbot, lambda: len(states(panel)) == 3)
    wait(qtbot, lambda: panel.queue.table.rowCount() == 3)
    panel.queue.table.selectRow(2)
    panel.queue.remove.click()
    wait(qtbot, lambda: len(states(panel)) == 2)


def test_outputs_off_ends_the_queue_at_once(
    qtbot: QtBot, connected: Window, panel: ProceduresPanel, world: SimulatedBench
) -> None:
    ready(qtbot, panel, "resistance", repeats=500)
    add(qtbot, panel)
    add(qtbot, panel)
    panel.queue.start.click()
    wait(qtbot, lambda: "resistances" in connected.live_view.tables.tables)
    qtbot.keyClick(connected, Qt.Key.Key_F12)
    wait(qtbot, lambda: is_off(world))
    wait_idle(qtbot, connected)
    wait(qtbot, lambda: states(panel)[0].ended)
    assert states(panel) == [RunState.STOPPED, RunState.QUEUED]
    assert "stopped: Outputs off" in "".join(connected.log_panel.lines())


def test_an_item_for_another_bench_is_refused_before_the_queue_begins(
    qtbot: QtBot, connected: Window, panel: ProceduresPanel
) -> None:
    panel.queue.queue.add("read", "simulated", {}, "0,0", {}, 5, None)
    panel.queue.look_now()
    wait(qtbot, lambda: panel.queue.start.isEnabled())
    panel.queue.start.click()
    wait_idle(qtbot, connected)
    text = "".join(connected.log_panel.lines())
    assert "item 1 is for the simulated bench with seed 5, and this window is connected to" in text
    assert states(panel) == [RunState.QUEUED]


def test_a_run_that_was_stopped_goes_on_from_its_file(qtbot: QtBot, connected: Window, panel: ProceduresPanel) -> None:
    ready(qtbot, panel, "resistance", repeats=30)
    panel.run_button.click()
    wait(qtbot, lambda: "resistances" in connected.live_view.tables.tables)
    connected.controller.stop()
    wait_idle(qtbot, connected)
    (path,) = connected.controller.folder.glob("*.h5")
    panel.resume(path)
    wait(qtbot, lambda: panel.planned is not None)
    assert panel.run_button.text() == "Go on with this run: 4 cells left"
    panel.run_button.click()
    wait_idle(qtbot, connected)
    later = max(connected.controller.folder.glob("*.h5"))
    assert open_run(later).attributes["resumes"] == path.name
    panel.resume(path)
    wait(qtbot, lambda: panel.planned is not None)
    assert "was resumed by" in panel._state.text()
    panel.resume(None)


def test_procedures_of_the_user_have_forms_and_plots_too(
    qtbot: QtBot, window: Window, world: SimulatedBench, tmp_path: Path
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "levels.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "own" / "broken.py").write_text("1 / 0", encoding="utf-8")
    world.write_bench_file(tmp_path / "bench.toml")
    text = (tmp_path / "bench.toml").read_text(encoding="utf-8")
    (tmp_path / "bench.toml").write_text(text.replace("\nname = ", '\nprocedures = "own"\nname = ', 1), "utf-8")
    window.show_workspace("Procedures")
    window.bench_panel.choose(str(tmp_path / "bench.toml"), 0)
    window.bench_panel.connect_chosen()
    panel = window.procedures_panel
    wait(qtbot, lambda: panel.chooser.findText("own-levels") >= 0)
    assert "ZeroDivisionError" in panel._broken.text()
    select(window, "0,0")
    ready(qtbot, panel, "own-levels", gap_s="5 ms")
    assert panel.form.labels["gap_s"].text() == "gap, s"
    panel.run_button.click()
    wait_idle(qtbot, window)
    wait(qtbot, lambda: window.live_view.drawing is not None)
    drawing = window.live_view.drawing
    assert drawing is not None
    assert (drawing.x_label, drawing.y_label) == ("VDDC (V)", "level (A)")
    assert drawing.series[0].y.tolist() == pytest.approx([0, 1e-6, 2e-6])


def taken(*steps: object) -> LiveTables:
    tables = LiveTables(capacity=1000)
    tables.take(Record("selection", {"cells": np.ones((4, 4), dtype=np.uint8)}), 0.0)
    for second, step in enumerate(steps):
        tables.take(step, float(second))
    return tables


def readings(count: int, devices: int, **more: object) -> Record:
    number = np.arange(count)
    values = {"row": number % devices // 2, "col": number * 0, "device": number % 2, "state": number % 2}
    return Record("resistances", {**values, "resistance_ohm": 1e4 * 10.0 ** (number % 2), **more}, many=True)


def test_memory_is_bounded_and_every_kind_of_device_stays() -> None:
    tables = taken(*(readings(700, 16) for _ in range(20)))
    table = tables.tables["resistances"]
    assert table.points == 14_000
    assert 400 < table.kept <= 1000
    assert table.thinned
    assert set(table.column("device").tolist()) == {0, 1}
    drawing = draw("resistances", table, default("resistances", table, NO_SCHEMA), NO_SCHEMA, most=100)
    assert sum(len(series.x) for series in drawing.series) < 300
    # The whole run is there, and not only its end.
    assert drawing.series[0].x.min() < 3000
    assert drawing.series[0].x.max() > 11_000


def test_known_tables_have_the_plot_of_the_field() -> None:
    tables = taken(readings(64, 4, resistance_ohm=np.where(np.arange(64) == 3, np.inf, 1e4)))
    table = tables.tables["resistances"]
    choice = default("resistances", table, NO_SCHEMA)
    assert (choice.colour, choice.log_y) == ("state", True)
    assert draw("resistances", table, choice, NO_SCHEMA).left_out == 1

    loop = np.concatenate([np.linspace(0, 1, 5), np.linspace(1, -1, 9)])
    sweep = {"row": loop * 0, "col": loop * 0, "voltage_v": loop, "current_a": 1e-3 * loop + 1e-9}
    steps = [
        Record("iv", {**{k: v if k.endswith(("_v", "_a")) else v.astype(int) for k, v in sweep.items()},
                      "device": np.full(14, device), "cycle": np.zeros(14, dtype=int)}, many=True)
        for device in (0, 1)
    ]  # fmt: skip
    tables = taken(*steps)
    choice = default("iv", tables.tables["iv"], NO_SCHEMA)
    drawing = draw("iv", tables.tables["iv"], choice, NO_SCHEMA)
    assert choice.colour == DEVICES
    assert [series.name for series in drawing.series] == ["(0, 0) BL", "(0, 0) BLb"]
    assert drawing.y_label == "|current| (A)"
    assert drawing.series[0].y[4] == pytest.approx(-3.0, abs=1e-4)
    assert np.isnan(drawing.series[0].y[[0, 9]]).all()  # nothing but noise flows at 0 V

    target = np.where(np.arange(16).reshape(4, 4) % 2, 1, -1).astype(np.int8)
    pattern = Record("patterns", {"target": target, "sensed": target, "verdict": np.ones((4, 4), dtype=np.int8)})
    shmoo = [
        Record("shmoo", {"vdd_v": vdd, "window_s": window, "plus": 10 * (target == 1) * right,
                         "minus": 10 * (target == -1) * right, "undecided": np.full((4, 4), 10 * (1 - right))})
        for vdd in (1.0, 1.1) for window, right in ((1e-8, 0), (1e-6, 1), (1e-4, 1))
    ]  # fmt: skip
    tables = taken(pattern, *shmoo)
    assert main_table(tables.tables) == "shmoo"
    choice = default("shmoo", tables.tables["shmoo"], NO_SCHEMA)
    assert choice.colour == f"{MAP}error_rate"
    picture = draw("shmoo", tables.tables["shmoo"], choice, NO_SCHEMA).picture
    assert picture is not None
    assert picture.values.tolist() == [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    assert picture.x.tolist() == pytest.approx([-8, -6, -4])


def test_errors_progress_histograms_and_arrays_are_plotted() -> None:
    target = np.ones((4, 4), dtype=np.int8)
    wrong = target.copy()
    wrong[0, :2] = -1
    ohm = np.full((4, 4, 2), np.nan)
    ohm[:2, 0] = 5e3
    outcomes = {"row": 0, "col": 0, "device": 0, "outcome": 0, "pulses": 1, "after_ohm": 5e3}
    tables = taken(
        Record("bit_errors", {"condition": 3, "target": target, "sensed": wrong}),
        Record("reset_ramp", {"vddc_v": 2.5, "ohm": ohm}),
        Progress(1, 4, "epoch 1", {"accuracy": 0.5}),
        Progress(2, 4, "epoch 2", {"accuracy": 0.75, "loss": 0.1}),
        *(Record("formed_devices", {**outcomes, "vddc_v": vddc}) for vddc in (2.4, 2.5, 2.5, 2.6)),
    )
    found = {name: default(name, table, NO_SCHEMA) for name, table in tables.tables.items()}
    assert tables.tables["bit_errors"].column("error_rate").tolist() == [0.125]
    ramp = draw("reset_ramp", tables.tables["reset_ramp"], found["reset_ramp"], NO_SCHEMA)
    assert [series.y.tolist() for series in ramp.series] == [[pytest.approx(np.log10(5e3))]] * 4
    assert ramp.y_label == "resistance (Ω)"
    assert found["progress"].y == ("accuracy", "loss")
    progress = draw("progress", tables.tables["progress"], found["progress"], NO_SCHEMA)
    assert progress.series[0].y.tolist() == [0.5, 0.75]
    assert (found["formed_devices"].y, found["formed_devices"].colour) == ((COUNT,), ONE)
    bars = draw("formed_devices", tables.tables["formed_devices"], found["formed_devices"], NO_SCHEMA).series[0]
    assert sorted(set(bars.y.tolist())) == [0, 1, 2]
