"""Inference on the simulated array agrees with the integer network when the array makes no errors."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from bench.config import parse_bench_file
from bench.inference import InferenceParameters, inference_procedure
from bench.runner import run
from bench.session import Bench, connect
from data.device_files import DeviceFile, Quantity, default_device
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, ThermometerEncoding


def flawless_device() -> DeviceFile:
    """The default population with no defects, no offset, no noise and no overlap."""
    names = ("defects.stuck_lrs", "defects.stuck_hrs", "defects.open", "sense.offset_sigma", "sense.noise_sigma")
    changes = {name: Quantity(0.0, "1", "test", "proposed") for name in names}
    for name in ("lrs.sigma_d2d", "lrs.sigma_c2c", "hrs.sigma_d2d", "hrs.sigma_c2c"):
        changes[name] = Quantity(0.05, "1", "test", "proposed")
    return default_device().updated(changes)


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
    with SimulatedBench(2, flawless_device()) as world:
        text = world.bench_file()
        with connect(parse_bench_file(text, "b"), text) as bench:
            bench.chip.form(~bench.chip.no_devices(), 3)
            procedure = inference_procedure(network, images, labels, batch)
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
    procedure = inference_procedure(network, images, np.zeros(5, dtype=np.int64))
    bench.chip.form(~bench.chip.no_devices())
    outcome = run(procedure, procedure.parse({"modes": ["host"]}), bench, tmp_path)
    samples = open_run(outcome.run_file).read("samples")
    assert set(outcome.result["accuracy"]) == {"host"}
    assert (samples["xnor"] == -1).all()


def test_data_of_another_size_is_refused_before_anything_moves() -> None:
    network = random_network((12, 4), 1)
    with pytest.raises(UserMistake, match="shape"):
        inference_procedure(network, np.zeros((5, 13), dtype=np.uint8), np.zeros(5, dtype=np.int64))
    with pytest.raises(UserMistake, match="labels"):
        inference_procedure(network, np.zeros((5, 12), dtype=np.uint8), np.zeros(4, dtype=np.int64))
