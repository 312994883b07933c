"""The workspace Network: open, train, plan, infer, confirm, and look at the answers; and what goes wrong on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PyQt5.QtGui import QColor, QFont
from pytestqt.qtbot import QtBot

from bench.gui.answers import RunningAccuracy, confusion, wrong_first
from bench.gui.jobs import OpenNetwork
from bench.gui.network_work import Foretold
from bench.gui.sample_list import PICTURE, sample_picture
from bench.gui.window import Window
from bench.plan_files import load_plan, save_plan
from bench.predicting import READ_ERRORS
from bench.procedure import Progress
from bench.states import RunState
from data.class_names import class_names
from data.datasets import load_dataset
from data.device_files import Quantity, default_device, save_device
from data.networks import load_network, save_network
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.integer import IntegerLayer, IntegerNetwork
from models.prediction import InferenceMode
from tests.bench.digits_network import digits_network
from tests.bench.gui_window import is_off, last_line, press, tiny_network, wait, wait_idle


def fitted(path: Path, rate: float) -> Path:
    """A device file as a fit leaves one, with the same rate of all read errors."""
    rates = {f"read_error.{name}": Quantity(rate, "1", "seen", "fitted", rate / 2, 2 * rate) for name in READ_ERRORS}
    save_device(path, default_device().updated(rates))
    return path


def show(window: Window, opened: OpenNetwork) -> None:
    window.controller.network = opened
    window.controller.network_changed.emit()


def form(qtbot: QtBot, window: Window) -> None:
    window.actions_panel.forms["forming"].put("check", "weights")
    press(qtbot, window, "forming")


def wait_answers(qtbot: QtBot, window: Window) -> None:
    wait(qtbot, lambda: window.network_panel.study.shown is not None and window.controller.idle)


def runs(window: Window, procedure: str) -> Sequence[Path]:
    return sorted(window.controller.folder.glob(f"*-{procedure}.h5"))


def test_answers_are_counted_and_the_wrong_ones_come_first() -> None:
    labels, answered = np.array([0, 1, 1, 2, 1]), np.array([0, 2, 1, 2, 2])
    assert confusion(labels, answered, 3).tolist() == [[1, 0, 0], [0, 1, 2], [0, 0, 1]]
    assert wrong_first(labels, answered).tolist() == [1, 4, 0, 2, 3]
    assert wrong_first(labels, answered, (1, 2)).tolist() == [1, 4]
    assert class_names("fashion-mnist", 10)[9] == "boot"
    assert class_names("fashion-mnist", 3) == ("0", "1", "2")
    running = RunningAccuracy()
    assert not running.take(Progress(0, 2, "layer 1"))
    assert running.take(Progress(1, 2, "", {"xnor": 0.5, "samples": 64}))
    assert running.last("xnor") == 0.5
    assert running.last("host") is None


def test_images_and_signals_become_pictures() -> None:
    ink = QColor("black")
    digit = sample_picture(np.array([0, 16, 16, 0], dtype=np.uint8), (1, 2, 2), 16.0, ink)
    assert (digit.width(), digit.height()) == (PICTURE, PICTURE)
    assert [digit.pixelColor(x, 1).lightness() for x in (1, PICTURE - 2)] == [0, 255]
    colours = sample_picture(np.array([255, 0, 0], dtype=np.uint8), (3, 1, 1), 255.0, ink)
    assert colours.pixelColor(1, 1) == QColor(255, 0, 0)
    flat, step = np.zeros(100, dtype=np.float32), np.repeat([0.0, 1.0], 50).astype(np.float32)
    traces = sample_picture(np.concatenate([flat, step]), (2, 100), 255.0, ink)
    dark = np.array([[traces.pixelColor(x, y).alpha() > 100 for x in range(traces.width())] for y in range(PICTURE)])
    # the step of the second channel falls in the lower half, from its bottom to its top
    assert dark[PICTURE // 2 :, :50].any(axis=1).sum() < 5
    assert dark[PICTURE // 2 :].any(axis=1).sum() > PICTURE // 2 - 8


def test_a_network_is_trained_here_with_the_errors_of_the_device(qtbot: QtBot, window: Window, tmp_path: Path) -> None:
    panel, view, study = window.network_panel, window.network_view, window.network_panel.study
    panel.epochs.setValue(2)
    assert not panel.with_errors.isEnabled()
    window.controller.use_device(fitted(tmp_path / "bad.toml", 0.1))
    panel.with_errors.setChecked(True)
    panel.train_button.click()
    wait_idle(qtbot, window)
    opened = window.controller.network
    assert opened is not None, last_line(window)
    assert [epoch for epoch, _, _ in study.epochs] == [1, 2]
    assert study.epochs[-1][1] == opened.software_accuracy > 0.5
    assert view.training.isVisibleTo(view)
    found = load_network(opened.file)
    assert found.provenance["errors_of_device"] == default_device().name
    panel.with_errors.setChecked(False)
    panel.train_button.click()
    wait_idle(qtbot, window)
    plain = window.controller.network
    assert plain is not None
    assert plain.file != opened.file
    before = plain.file.read_bytes()
    panel.train_button.click()
    wait_idle(qtbot, window)
    again = window.controller.network
    assert again is not None
    assert again.file.stem == f"{plain.file.stem}-2"
    assert plain.file.read_bytes() == before  # it may be of other data under the same name
    assert (plain.network.layers[0].weights != found.network.layers[0].weights).any()
    # zeros err too, and no device file says how often
    panel.architecture.setCurrentText("digits-tnn")
    panel.with_errors.setChecked(True)
    panel.train_button.click()
    wait_idle(qtbot, window)
    assert "train it without the errors" in last_line(window)
    # a stop keeps nothing
    panel.architecture.setCurrentText("digits-bnn")
    panel.epochs.setValue(1000)
    panel.train_button.click()
    wait(qtbot, lambda: len(study.epochs) >= 2)
    window.log_panel.study_row.stop_button.click()
    wait_idle(qtbot, window)
    assert "stopped" in last_line(window)
    assert len(list(window.controller.folder.glob("*.safetensors"))) == 3


def test_what_is_no_network_is_refused(qtbot: QtBot, window: Window, tmp_path: Path) -> None:
    study = window.network_panel.study
    save_network(tmp_path / "tiny.safetensors", tiny_network().network, {})
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "tiny.safetensors").read_bytes()[:-9])
    for path, said in (
        (cut, "cut.safetensors is not a safetensors file"),
        (tmp_path / "tiny.safetensors", "takes 4 values, and a sample of digits has 64"),
        (tmp_path / "none.onnx", "none.onnx"),
    ):
        study.open(path)
        wait_idle(qtbot, window)
        assert said in last_line(window)
    assert window.controller.network is None
    network = digits_network()
    save_network(tmp_path / "digits.safetensors", network, {})
    window.network_panel.data.setCurrentText("mnist")
    window.network_panel.use_folder(tmp_path)
    study.open(tmp_path / "digits.safetensors")
    wait_idle(qtbot, window)
    assert str(tmp_path) in last_line(window)
    window.network_panel.data.setCurrentText("digits")
    window.network_panel.use_folder(tmp_path)
    study.open(tmp_path / "digits.safetensors")
    wait_idle(qtbot, window)
    assert window.controller.network is not None
    # without a bench there is a plan all the same
    wait(qtbot, lambda: "10 tiles" in window.network_panel._plan.text())
    assert "8, 2" in window.network_view.plan_about.text()
    assert not window.network_panel.infer_button.isEnabled()


def test_confirm_goes_the_whole_way_and_its_run_can_be_opened_again(
    qtbot: QtBot, connected: Window, world: SimulatedBench
) -> None:
    panel, view, study = connected.network_panel, connected.network_view, connected.network_panel.study
    digits = load_dataset("digits")
    network = digits_network()
    show(connected, OpenNetwork(network, digits, network.accuracy(digits.test_images, digits.test_labels), Path("d")))
    panel.samples.setValue(100)
    panel.form_first.setChecked(True)
    panel.form.put("modes", ("host",))
    bands: list[Foretold | None] = []
    connected.controller.stepped.connect(lambda steps: bands.append(study.foretold))
    panel.confirm_button.click()
    wait(qtbot, lambda: connected.controller.run_state is RunState.RUNNING)
    connected.log_panel.pause_button.click()
    wait(qtbot, lambda: connected.controller.run_state is RunState.PAUSED)
    assert is_off(world)
    connected.log_panel.pause_button.click()
    wait_answers(qtbot, connected)
    assert is_off(world)
    assert study.shown is not None, connected.log_panel.lines()
    answers, foretold = study.shown.answers, study.foretold
    # the prediction was there before the first tile was programmed
    assert foretold is not None
    assert bands.index(foretold) < len(bands) - 5
    assert foretold.modes["host"].low <= foretold.modes["host"].mean <= foretold.modes["host"].high
    file = open_run(answers.path).read("samples")
    assert answers.accuracy("host") == (file["host"] == file["label"]).mean()
    verdict = "INSIDE" if foretold.inside("host", answers.accuracy("host")) else "OUTSIDE"
    assert f"{answers.accuracy('host'):.2%}, {verdict} the predicted" in view.verdict.text()
    assert not panel.form_first.isChecked()
    # confusion and samples
    wrong = np.flatnonzero(file["host"] != file["label"])
    assert len(wrong) > 0
    row, col = int(file["label"][wrong[0]]), int(file["host"][wrong[0]])
    assert int(view.confusion.text(row, col)) == ((file["label"] == row) & (file["host"] == col)).sum()
    assert view.samples.count == 100
    assert view.samples.text(0) == f"{row} → {col}"
    assert "✓" in view.samples.text(99)
    view.confusion.picked.emit(row, col)
    assert view.tabs.tabText(view.tabs.currentIndex()) == "Samples"
    assert view.samples.text(0) == f"{row} → {col}"
    assert view.samples.count == int(view.confusion.text(row, col))
    view.all_button.click()
    assert view.samples.count == 100
    # errors add up to those of the run
    result = open_run(answers.path).result
    assert view.causes.text(1, 0) == str(sum(result["errors"][cause] for cause in ("stuck", "programming", "read")))
    assert view.layers.count == 2
    # the plan follows what was measured
    (measured,) = runs(connected, "characterise")
    wait(qtbot, lambda: study.planned is not None and study.planned.runs == (measured,))
    assert study.planned is not None
    assert study.planned.facts is not None
    assert study.planned.facts.plan.chip_id == answers.chip_id
    # an older run is opened from its file alone
    panel.infer_button.click()
    wait_answers(qtbot, connected)
    assert study.shown.answers.path != answers.path
    assert study.foretold is not None
    assert measured.name in study.foretold.text()
    study.open_answers(answers.path)
    wait(qtbot, lambda: study.shown is not None and study.shown.answers.path == answers.path)
    assert study.shown.data is digits
    assert "not kept in run files" in view.verdict.text()


def test_a_stop_in_the_middle_leaves_a_run_that_has_no_answers(
    qtbot: QtBot, connected: Window, world: SimulatedBench, tmp_path: Path
) -> None:
    panel, view, study = connected.network_panel, connected.network_view, connected.network_panel.study
    form(qtbot, connected)
    digits, network = load_dataset("digits"), digits_network()
    show(connected, OpenNetwork(network, digits, 0.9, Path("d")))
    panel.predict.setChecked(False)
    panel.infer_button.click()
    wait(qtbot, lambda: "tile 2 of 10" in study.stage)
    connected.log_panel.run_row.stop_button.click()
    wait_idle(qtbot, connected)
    wait(qtbot, lambda: is_off(world))
    assert study.shown is None
    assert study.stage == ""
    (stopped,) = runs(connected, "inference")
    (formed,) = runs(connected, "forming")
    broken = tmp_path / "broken.h5"
    broken.write_bytes(stopped.read_bytes()[:2000])
    for path, said in (
        (stopped, "ended before the answers were complete"),
        (formed, "is a run of forming, and no inference"),
        (broken, "broken.h5"),
        (tmp_path / "none.h5", "none.h5"),
    ):
        study.open_answers(path)
        wait(qtbot, lambda said=said: said in last_line(connected))
    assert study.shown is None
    assert "No answers yet" in view.confusion_about.text()
    # a prediction that is stopped begins no run
    panel.predict.setChecked(True)
    connected.controller.use_device(fitted(tmp_path / "device.toml", 0.01))
    panel.infer_button.click()
    connected.log_panel.study_row.stop_button.click()
    wait_idle(qtbot, connected)
    assert len(runs(connected, "inference")) == 1


def test_what_does_not_suit_the_chip_is_refused_before_any_voltage(qtbot: QtBot, connected: Window) -> None:
    panel, study = connected.network_panel, connected.network_panel.study
    tiny = tiny_network()
    own = np.where(np.eye(4), 1, 0).astype(np.int8)
    layers = (IntegerLayer(own, np.ones(4, dtype=np.int8), np.zeros(4, dtype=np.int32)), tiny.network.layers[1])
    ternary = IntegerNetwork("zeros", tiny.network.encoding, layers, 4)
    show(connected, OpenNetwork(ternary, tiny.data, 1.0, Path("zeros.safetensors")))
    panel.predict.setChecked(False)
    panel.infer_button.click()
    wait_idle(qtbot, connected)
    wait(qtbot, lambda: any("has zero weights" in line for line in connected.log_panel.lines()))
    assert not runs(connected, "inference")
    # runs of a chip that is not this one, and files that are no runs, say so where the plan stands
    (connected.controller.folder).mkdir(exist_ok=True)
    nonsense = connected.controller.folder / "nonsense.h5"
    nonsense.write_bytes(b"nothing")
    panel.use_runs((nonsense,))
    wait(qtbot, lambda: "nonsense.h5" in panel._plan.text())
    assert not panel.infer_button.isEnabled()
    panel.defects.setCurrentIndex(2)
    panel.defects.activated.emit(2)
    wait(qtbot, lambda: "2 tiles" in panel._plan.text())
    assert panel.infer_button.isEnabled()
    assert study.why_not() == ""


def test_tuning_opens_the_tuned_network(qtbot: QtBot, connected: Window) -> None:
    form(qtbot, connected)
    panel = connected.network_panel
    show(connected, tiny_network())
    panel.samples.setValue(40)
    panel.tune_button.click()
    wait_idle(qtbot, connected)
    opened = connected.controller.network
    assert opened is not None
    assert opened.file == connected.controller.folder / "tiny-tuned.safetensors", connected.log_panel.lines()
    found = load_network(opened.file)
    assert found.network.sha256 == opened.network.sha256
    assert found.provenance["tuned_from"] == tiny_network().network.sha256
    assert (found.provenance["before"], found.provenance["seed"]) == ({"by": "hand"}, "0")
    assert "40 held-out samples: software 100.00%" in last_line(connected)


def test_it_fits_beside_the_map_on_a_laptop(window: Window) -> None:
    window.show_workspace("Network")
    window.setFont(QFont(window.font().family(), 9))
    assert window.network_panel.minimumSizeHint().width() <= 350
    bar = window.network_view.tabs.tabBar()
    assert bar is not None
    assert bar.sizeHint().width() <= 365


def test_a_plan_is_saved_and_opened_and_refused_for_another_chip(
    qtbot: QtBot, connected: Window, tmp_path: Path
) -> None:
    panel, study, bench = connected.network_panel, connected.network_panel.study, connected.controller.bench
    assert bench is not None
    show(connected, tiny_network())
    wait(qtbot, panel.save_plan_button.isEnabled)
    study.save_plan(tmp_path / "plan.json")
    wait(qtbot, lambda: "2 tiles" in last_line(connected))
    own = load_plan(tmp_path / "plan.json")
    first, second = own.tiles
    # the same network otherwise on the array: the rows of its first tile turned round
    turned = replace(own, tiles=(replace(first, rows=first.rows[::-1].copy()), second))
    save_plan(tmp_path / "turned.json", turned)
    study.use_plan(tmp_path / "turned.json")
    wait(qtbot, panel.save_plan_button.isEnabled)
    assert study.planned is not None
    assert study.planned.facts is not None
    assert study.planned.facts.plan.tiles[0].rows.tolist() == [3, 2, 1, 0]
    assert panel._plan.text().startswith("turned.json: 2 tiles")
    form(qtbot, connected)
    panel.predict.setChecked(False)
    panel.infer_button.click()
    wait_answers(qtbot, connected)
    (path,) = runs(connected, "inference")
    assert open_run(path).read("tiles")["matrix_row"][0, :4].tolist() == [3, 2, 1, 0]
    for wrong, why in (
        (replace(own, chip_id="OTHER", error_map="0" * 64), f"chip OTHER, and chip {bench.chip_id} is in the socket"),
        (replace(own, network_sha256="0" * 64), "this plan is for another network"),
    ):
        save_plan(tmp_path / "wrong.json", wrong)
        study.use_plan(tmp_path / "wrong.json")
        wait(qtbot, lambda why=why: why in panel._plan.text())  # type: ignore[misc]
        assert not panel.infer_button.isEnabled()
        study.confirm((InferenceMode.XNOR,), None, False)
        assert why in last_line(connected)
        study.use_plan(None)
        wait(qtbot, panel.infer_button.isEnabled)
    assert len(runs(connected, "inference")) == 1


def test_the_last_layer_learns_on_the_chip(qtbot: QtBot, connected: Window) -> None:
    panel = connected.network_panel
    assert not panel.learn_button.isEnabled()
    form(qtbot, connected)
    show(connected, tiny_network())
    panel.learning.put("epochs", 2)
    assert panel.learn_button.isEnabled()
    panel.learn_button.click()
    wait(qtbot, lambda: connected.controller.idle and "held-out samples on silicon" in last_line(connected))
    (path,) = runs(connected, "learning")
    result = open_run(path).result
    assert f"{result['accuracy']:.2%} of 150 held-out samples on silicon after 2 epochs" in last_line(connected)
    learned = connected.controller.network
    assert learned is not None
    found = load_network(connected.controller.folder / "tiny-learned.safetensors")
    assert found.network.sha256 == learned.network.sha256
    assert found.provenance["learned_from"] == tiny_network().network.sha256
    assert found.provenance["run"] == path.name
    # an error of the settings is said at the field, and nothing begins
    panel.learning.put("epochs", 0)
    assert not panel.learn_button.isEnabled()
