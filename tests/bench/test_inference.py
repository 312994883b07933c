"""Inference on the simulated array agrees with the integer network when the array makes no errors."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from bench.cli.confirming import Inferring, parameters_for
from bench.inference import InferenceParameters, inference_procedure, inference_task
from bench.inference_passes import check_memory
from bench.procedure import Record, Step
from bench.runner import run
from bench.session import Bench
from bench.stopping import Stopped, StopToken
from data.runs import open_run
from drivers.chip import OperationKind
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, ThermometerEncoding
from models.prediction import InferenceMode
from tests.bench.flawless import flawless_bench


def random_network(sizes: tuple[int, ...], seed: int) -> IntegerNetwork:
    rng = np.random.default_rng(seed)
    layers = tuple(
        IntegerLayer(
            rng.choice([-1, 1], size=(outputs, inputs)).astype(np.int8),
            rng.choice([-1, 1, 1], size=outputs).astype(np.int8),
            rng.integers(-5, 6, size=outputs).astype(np.int32),
        )
        for inputs, outputs in itertools.pairwise(sizes)
    )
    return IntegerNetwork("random", ThermometerEncoding(sizes[0], (8,)), layers, sizes[-1])


@pytest.mark.parametrize(("sizes", "batch"), [((33, 40, 10), 7), ((64, 31, 3), 64), ((5, 2), 100)])
def test_both_ways_equal_the_integer_network_on_a_flawless_chip(
    sizes: tuple[int, ...], batch: int, tmp_path: Path
) -> None:
    network = random_network(sizes, 3)
    rng = np.random.default_rng(4)
    images = rng.integers(0, 17, size=(23, sizes[0])).astype(np.uint8)
    labels = rng.integers(0, sizes[-1], size=23)
    with flawless_bench() as bench:
        procedure = inference_procedure(inference_task(network, images, labels), batch)
        outcome = run(procedure, InferenceParameters(), bench, tmp_path)
    samples = open_run(outcome.run_file).read("samples")
    expected = network.predict(images)
    assert samples["host"].tolist() == expected.tolist()
    assert samples["xnor"].tolist() == expected.tolist()
    assert outcome.result["cells"]["failed"] == 0
    assert outcome.result["accuracy"]["host"] == pytest.approx(float((expected == labels).mean()))


def test_only_the_mode_asked_for_is_run(bench: Bench, tmp_path: Path) -> None:
    network = random_network((12, 4), 1)
    images = np.zeros((5, 12), dtype=np.uint8)
    procedure = inference_procedure(inference_task(network, images, np.zeros(5, dtype=np.int64)))
    bench.chip.form(~bench.chip.no_devices())
    outcome = run(procedure, procedure.parse({"modes": ["host"]}), bench, tmp_path)
    samples = open_run(outcome.run_file).read("samples")
    assert set(outcome.result["accuracy"]) == {"host"}
    assert (samples["xnor"] == -1).all()


def test_data_of_another_size_is_refused_before_anything_moves() -> None:
    network = random_network((12, 4), 1)
    with pytest.raises(UserMistake, match="shape"):
        inference_task(network, np.zeros((5, 13), dtype=np.uint8), np.zeros(5, dtype=np.int64))
    with pytest.raises(UserMistake, match="labels"):
        inference_task(network, np.zeros((5, 12), dtype=np.uint8), np.zeros(4, dtype=np.int64))


def test_an_interrupted_inference_goes_on_where_it_ended_with_the_same_answers(world, bench, tmp_path: Path) -> None:
    network = random_network((40, 64, 10), 5)
    rng = np.random.default_rng(6)
    images, labels = rng.integers(0, 17, size=(70, 40)).astype(np.uint8), rng.integers(0, 10, size=70)
    bench.chip.form(~bench.chip.no_devices(), 3)
    procedure = inference_procedure(inference_task(network, images, labels), 32)
    parameters = InferenceParameters(modes=tuple(InferenceMode))
    stop, tiles = StopToken(), []

    def stop_in_the_third_tile(step: Step) -> None:
        if isinstance(step, Record) and step.table == "tiles":
            tiles.append(step.values)
            if len(tiles) == 3:
                stop.request("for the test")

    with pytest.raises(Stopped):
        run(procedure, parameters, bench, tmp_path, on_step=stop_in_the_third_tile, stop=stop)
    [first] = tmp_path.glob("*.h5")
    earlier = open_run(first)
    assert earlier.read("tiles_done")["tile"].tolist() == [0, 1]
    # what nobody asks for anew is that of the run; what differs is named
    assert parameters_for(procedure, Inferring((), None, {}, False, (first,)), earlier) == parameters
    other = parameters_for(procedure, Inferring(("host",), None, {}, False, (first,)), earlier)
    with pytest.raises(UserMistake, match="other parameters: modes = "):
        run(procedure, other, bench, tmp_path, resume=earlier)
    fewer = inference_procedure(inference_task(network, images[:30], labels[:30]), 32)
    with pytest.raises(UserMistake, match="made with other samples"):
        run(fewer, parameters, bench, tmp_path, resume=earlier)
    pulses = bench.chip._board.status().pulses
    outcome = run(procedure, parameters, bench, tmp_path, resume=earlier)
    rest = open_run(outcome.run_file)
    # the tile that was begun is still on the array: only what reads wrong is pulsed again
    assert rest.read("tiles")["tile"].tolist()[0] == 2
    again = rest.read("operations", ["kind", "devices"])
    until_used = again["kind"][: int(np.argmax(again["kind"] == OperationKind.XNOR))]
    pulsed = again["devices"][: len(until_used)][until_used <= OperationKind.RESET].sum()
    assert pulsed < 0.1 * tiles[2]["target"].size
    assert bench.chip._board.status().pulses > pulses
    assert len(rest.read("samples")["sample"]) == 70
    # the recorded sums of both parts give the recorded answers
    for mode in InferenceMode:
        assert outcome.result["accuracy"][mode.value] == (rest.read("samples")[mode.value] == labels).mean()
    assert outcome.result["tiles"] == 6
    assert sum(layer["tiles"] for layer in outcome.result["layers"]) == 6
    with pytest.raises(UserMistake, match="completed"):
        run(procedure, parameters, bench, tmp_path, resume=rest)


def test_the_resumed_sums_are_those_of_an_uninterrupted_run(tmp_path: Path) -> None:
    """On a flawless chip, where both must equal the integer network."""
    network = random_network((40, 64, 10), 5)
    rng = np.random.default_rng(6)
    images, labels = rng.integers(0, 17, size=(70, 40)).astype(np.uint8), rng.integers(0, 10, size=70)
    procedure = inference_procedure(inference_task(network, images, labels), 32)
    parameters = InferenceParameters(modes=tuple(InferenceMode))
    with flawless_bench() as bench:
        stop = StopToken()

        def stop_late(step: Step) -> None:
            if isinstance(step, Record) and step.table == "xnor_sums" and step.values["tile"][0] == 3:
                stop.request("for the test")

        with pytest.raises(Stopped):
            run(procedure, parameters, bench, tmp_path, on_step=stop_late, stop=stop)
        [first] = tmp_path.glob("*.h5")
        outcome = run(procedure, parameters, bench, tmp_path, resume=open_run(first))
    samples = open_run(outcome.run_file).read("samples")
    for mode in InferenceMode:
        assert samples[mode.value].tolist() == network.predict(images).tolist()


def test_a_cell_that_drifted_is_programmed_again_before_the_batches_that_follow(world, bench, tmp_path: Path) -> None:
    network = random_network((32, 32), 7)
    images = np.random.default_rng(8).integers(0, 17, size=(40, 32)).astype(np.uint8)
    bench.chip.form(~bench.chip.no_devices(), 3)
    procedure = inference_procedure(inference_task(network, images, np.zeros(40, dtype=np.int64)), 8)
    turned = []

    def disturb(step: Step) -> None:
        """Turn a sound cell round behind the program's back, once the tile was verified."""
        if isinstance(step, Record) and step.table == "tiles":
            row, col = np.argwhere(step.values["sensed"] == 1)[5]
            devices = bench.chip.no_devices()
            devices[row, col, 0] = True
            bench.chip.set(devices)
            devices = bench.chip.no_devices()
            devices[row, col, 1] = True
            bench.chip.reset(devices)
            turned.append((row, col))

    parameters = InferenceParameters(modes=(InferenceMode.SENSED,), refresh=2)
    outcome = run(procedure, parameters, bench, tmp_path, on_step=disturb)
    table = open_run(outcome.run_file).read("batch_weights")
    values = table["sensed"][(slice(None), *turned[0])].tolist()
    assert values == [-1, -1, 1, 1, 1]
    assert table["refreshed"][(slice(None), *turned[0])].tolist() == [0, 0, 1, 0, 0]
    assert outcome.result["senses"]["sensed"]["refreshed"] >= 1


def test_more_samples_than_memory_holds_are_refused() -> None:
    with pytest.raises(UserMistake, match="at most 131072 at a time"):
        check_memory(140_000, random_network((4, 4096), 1).layers)
