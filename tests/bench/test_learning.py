"""Learning a last layer on the simulated chip, through the wire."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.inference import Task, inference_task
from bench.learning import EPOCHS, learned_network, learning_procedure
from bench.learning_blocks import blocks_for
from bench.procedure import Record, Step
from bench.runner import run
from bench.session import Bench
from bench.stopping import Stopped, StopToken
from data.datasets import load_dataset
from data.runs import open_run
from drivers.chip import OperationKind
from models.cells import Device, Geometry
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, exact_sums
from models.refitting import refit_offsets, retraining
from tests.bench.digits_network import digits_network
from tests.bench.test_inference import random_network


def tasks(network: IntegerNetwork, training: int = 1347, held_out: int = 450) -> tuple[Task, Task]:
    data = load_dataset("digits")
    return (
        inference_task(network, data.train_images[:training], data.train_labels[:training]),
        inference_task(network, data.test_images[:held_out], data.test_labels[:held_out]),
    )


def software(training: Task, held_out: Task) -> float:
    """Accuracy of a binary perceptron that learned the same with ordinary hidden weights."""
    layer = training.network.layers[-1]
    assert isinstance(layer, IntegerLayer)
    features = training.network.hidden(training.inputs).astype(np.int8)
    random = np.random.default_rng(0).choice([-1, 1], size=layer.weights.shape).astype(np.int8)
    *_, weights = retraining(layer.with_weights(random), features, training.labels, seed=0)
    offsets = refit_offsets(layer, exact_sums(weights, features), training.labels).threshold
    sums = exact_sums(weights, training.network.hidden(held_out.inputs))
    return float(((sums - offsets).argmax(axis=1) == held_out.labels).mean())


def test_the_chip_learns_digits(bench: Bench, tmp_path: Path) -> None:
    training, held_out = tasks(digits_network())
    bench.chip.form(~bench.chip.no_devices(), 3)
    procedure = learning_procedure(training, held_out)
    outcome = run(procedure, procedure.parse({"epochs": 5, "halve_every": 2}), bench, tmp_path)
    found, result = open_run(outcome.run_file), outcome.result
    assert result["blocks"] == 2
    assert result["accuracies"][0] < 0.3
    assert result["accuracy"] > 0.75
    assert result["accuracy"] > software(training, held_out) - 0.12
    # the learned layer in software is the one on the chip, but for noise between two senses
    learned = learned_network(training.network, found)
    data = load_dataset("digits")
    assert learned.accuracy(data.test_images, data.test_labels) == pytest.approx(result["accuracy"], abs=0.05)
    # the account of pulses is that of everything that was done to the array
    operations = found.read("operations", ["kind", "count", "devices"])
    weak = operations["kind"] == OperationKind.WEAK_RESET
    given = np.tensordot(operations["count"][weak], operations["devices"][weak].astype(np.int64), axes=1)
    assert given.sum() == result["weak_resets"]
    assert given.max() == result["weak_resets_of_a_device"]["most"]
    assert given[20:].sum() == 0  # two blocks of 10 rows: the other cells are left alone
    kinds = set(operations["kind"].tolist())
    assert kinds == {OperationKind.SET, OperationKind.WEAK_RESET, OperationKind.SENSE}
    sets = operations["kind"] == OperationKind.SET
    assert operations["devices"][sets].sum() == result["sets"] == 2 * 640


def test_a_stopped_learning_goes_on_with_the_chip_as_it_stands(bench: Bench, tmp_path: Path) -> None:
    """By XNOR, with features of the chip, and with pairs that turned programmed again."""
    network = random_network((64, 20, 4), 3)
    rng = np.random.default_rng(1)
    images, labels = rng.integers(0, 17, size=(120, 64)).astype(np.uint8), rng.integers(0, 4, size=120)
    bench.chip.form(~bench.chip.no_devices(), 3)
    task, stop = inference_task(network, images, labels), StopToken()
    procedure = learning_procedure(task, task)
    settings = {"epochs": 4, "mode": "xnor", "features_on": "silicon", "reprogram": True}
    pulses: list[np.ndarray] = []

    def in_the_third_epoch(step: Step) -> None:
        if isinstance(step, Record) and step.table == "operations" and step.values["kind"] == OperationKind.WEAK_RESET:
            pulses.append(step.values["count"] * step.values["devices"].astype(np.int64))
            if epochs == [0, 1, 2]:
                stop.request("for the test")
        if isinstance(step, Record) and step.table == EPOCHS.name:
            epochs.append(step.values["epoch"])

    epochs: list[int] = []
    with pytest.raises(Stopped):
        run(procedure, procedure.parse(settings), bench, tmp_path, on_step=in_the_third_epoch, stop=stop)
    [path] = tmp_path.glob("*.h5")
    with pytest.raises(UserMistake, match="resume"):
        learned_network(network, open_run(path))
    given = sum(pulses)
    outcome = run(procedure, procedure.parse(settings), bench, tmp_path, resume=open_run(path))
    rest = open_run(outcome.run_file)
    assert rest.read("epochs")["epoch"].tolist() == [3, 4]
    assert not len(rest.read("tiles")["tile"])  # the array holds the layer: nothing else is programmed
    operations = rest.read("operations", ["kind", "count", "devices"])
    weak = operations["kind"] == OperationKind.WEAK_RESET
    given = given + np.tensordot(operations["count"][weak], operations["devices"][weak].astype(np.int64), axes=1)
    assert given.sum() == outcome.result["weak_resets"]
    assert outcome.result["sets"] > 2 * 80  # pairs that turned were SET again
    features = open_run(path).read("features")["values"]
    exact = network.hidden(task.inputs)
    assert 0.9 < (features[:120] == exact).mean() <= 1.0


def test_what_cannot_be_learned_is_refused_before_any_voltage(bench: Bench, tmp_path: Path) -> None:
    images, labels = np.zeros((5, 97), dtype=np.uint8), np.zeros(5, dtype=np.int64)
    task = inference_task(random_network((97, 10), 1), images, labels)
    procedure = learning_procedure(task, task)
    before = bench.chip._board.status().pulses
    with pytest.raises(UserMistake, match="at most 96 inputs fit"):
        run(procedure, procedure.parse({}), bench, tmp_path)
    with pytest.raises(UserMistake, match="sensed or xnor"):
        procedure.parse({"mode": "host"})
    with pytest.raises(UserMistake, match="another network"):
        learning_procedure(task, replace(task, network=random_network((97, 10), 2)))
    assert bench.chip._board.status().pulses == before


@pytest.mark.parametrize(("rows", "columns"), [(10, 64), (3, 70), (32, 5), (1, 1)])
def test_blocks_hold_each_weight_once_and_their_sums_are_those_of_the_matrix(rows: int, columns: int) -> None:
    array = Geometry(32, 32)
    blocks = blocks_for(rows, columns, array)
    rng = np.random.default_rng(rows)
    weights = rng.choice([-1, 1], size=(rows, columns)).astype(np.int8)
    inputs = rng.choice([-1, 1], size=(7, columns)).astype(np.int8)
    on_array = blocks.laid(weights)
    assert (on_array != 0).sum() == rows * columns
    assert (blocks.taken(on_array) == weights).all()
    assert blocks.devices(weights > 0).sum() == 2 * (weights > 0).sum()
    used = on_array[: blocks.geometry.rows, : blocks.geometry.cols]
    assert (blocks.joined(exact_sums(used, blocks.presented(inputs))) == exact_sums(weights, inputs)).all()
    sides = np.zeros((rows, columns, len(Device)), dtype=bool)
    sides[0, -1, Device.BLB] = True
    assert np.argwhere(blocks.laid(sides)).tolist() == [[*(int(place[0, -1]) for place in blocks.places()), Device.BLB]]
