"""Fine-tuning with the chip in the loop: a bad chip gains, a good one loses nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.config import parse_bench_file
from bench.inference import inference_procedure, inference_task
from bench.mapping import plan_network
from bench.procedure import Record, Step
from bench.runner import run
from bench.session import Bench, connect
from bench.stopping import Stopped, StopToken
from bench.tuning import TUNED, plan_of_tuned, tuned_network, tuning_procedure
from data.datasets import Dataset
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, classify
from models.refitting import refit_offsets, refit_row
from tests.bench.flawless import carry_out, flawless_bench, population
from tests.bench.test_inference import random_network

GOOD, BAD = (5, 6), (5, 6, 7)
"""Seeds of chips."""


def tuned_on(
    seed: int, stuck: float, network: IntegerNetwork, data: Dataset, folder: Path, **settings: object
) -> tuple[dict[str, float], float, IntegerNetwork]:
    """Tune on a chip of which the share ``stuck`` of devices is; what came of it, and an inference of its own after."""
    halves = {f"defects.{name}": stuck / 2 for name in ("stuck_lrs", "stuck_hrs")}
    with SimulatedBench(seed, population(**halves)) as world:
        text = world.bench_file()
        with connect(parse_bench_file(text, "b"), text) as bench:
            bench.chip.form(~bench.chip.no_devices(), 3)
            training = inference_task(network, data.train_images, data.train_labels)
            procedure = tuning_procedure(training, inference_task(network, data.test_images, data.test_labels))
            outcome = run(procedure, procedure.parse(settings), bench, folder)
            tuned = tuned_network(network, open_run(outcome.run_file))
            plan = plan_of_tuned(plan_network(network, bench.chip.geometry), tuned)
            again = inference_procedure(inference_task(tuned, data.test_images, data.test_labels, plan))
            confirmed = run(again, again.parse({"modes": [settings["mode"]]}), bench, folder).result
            return outcome.result, confirmed["accuracy"][str(settings["mode"])], tuned


def test_a_bad_chip_gains_and_a_good_one_loses_nothing(
    network: IntegerNetwork, digits: Dataset, tmp_path: Path
) -> None:
    few = replace(digits, train_images=digits.train_images[:600], train_labels=digits.train_labels[:600])
    result, confirmed, tuned = tuned_on(3, 0.2, network, few, tmp_path, mode="host")
    accuracy = result["held_out_accuracy"]
    assert result["bit_errors"]["after_verify"] > 0.02 * result["cells"]["programmed"]
    assert accuracy["tuned"] > accuracy["untuned"]
    assert confirmed > accuracy["untuned"]
    assert result["layers"][0]["agreement"] > result["layers"][0]["agreement_before"]
    for own, old in zip(tuned.layers, network.layers, strict=True):
        assert (own.weights == old.weights).all()
    assert (tuned.layers[0].threshold != network.layers[0].threshold).sum() == result["layers"][0]["changed"]
    # on a chip without errors nothing at all is changed in the hidden layers
    with flawless_bench() as bench:
        procedure = tuning_procedure(inference_task(network, few.train_images, few.train_labels))
        result, records = carry_out(procedure, procedure.parse({}), bench.chip)
    assert result["layers"][0]["changed"] == 0
    assert result["layers"][0]["agreement"] == 1.0
    assert "held_out_accuracy" not in result
    assert {record.table for record in records} == {"tiles", TUNED.name}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"mode": "host"}, {"mode": "host", "classifier": True}, {"mode": "xnor"}])
def test_tuning_over_chips(
    settings: dict[str, object], network: IntegerNetwork, digits: Dataset, tmp_path: Path
) -> None:
    gains, confirmed_gains = [], []
    for seed in BAD:
        result, confirmed, _ = tuned_on(seed, 0.2, network, digits, tmp_path, **settings)
        accuracy = result["held_out_accuracy"]
        gains.append(accuracy["tuned"] - accuracy["untuned"])
        confirmed_gains.append(confirmed - accuracy["untuned"])
    assert min(gains) > 0.0
    assert np.mean(confirmed_gains) > 0.01
    for seed in GOOD:
        result, _, _ = tuned_on(seed, 0.0, network, digits, tmp_path, **settings)
        accuracy = result["held_out_accuracy"]
        # the number of samples right may move by chance, by no more than its own standard error
        assert accuracy["tuned"] >= accuracy["untuned"] - 0.008


def test_a_stop_ends_it_and_an_unfinished_run_gives_no_network(bench: Bench, tmp_path: Path) -> None:
    network = random_network((40, 40, 4), 2)
    rng = np.random.default_rng(2)
    images, labels = rng.integers(0, 17, size=(30, 40)).astype(np.uint8), rng.integers(0, 4, size=30)
    bench.chip.form(~bench.chip.no_devices(), 3)
    task, stop = inference_task(network, images, labels), StopToken()

    def in_the_last_layer(step: Step) -> None:
        if isinstance(step, Record) and step.table == TUNED.name:
            stop.request("for the test")

    procedure = tuning_procedure(task, task)
    with pytest.raises(Stopped):
        run(procedure, procedure.parse({"mode": "xnor"}), bench, tmp_path, on_step=in_the_last_layer, stop=stop)
    [path] = tmp_path.glob("*.h5")
    found = open_run(path)
    assert found.read("untuned_xnor_sums")["count"].tolist() == [30] * 4
    assert found.read("xnor_sums")["count"].tolist() == [60] * 4  # held-out samples behind those of the training
    with pytest.raises(UserMistake, match="layer 2"):
        tuned_network(network, found)
    with pytest.raises(UserMistake, match="no tuning"):
        tuned_network(random_network((40, 40, 4), 3), found)


def test_what_does_not_belong_together_is_refused(bench: Bench, tmp_path: Path) -> None:
    images, labels = np.zeros((5, 12), dtype=np.uint8), np.zeros(5, dtype=np.int64)
    one, other = (inference_task(random_network((12, 4), seed), images, labels) for seed in (1, 2))
    with pytest.raises(UserMistake, match="another network"):
        tuning_procedure(one, other)
    procedure = tuning_procedure(one)
    before = bench.chip._board.status().pulses
    with pytest.raises(UserMistake, match="whole array"):
        run(procedure, procedure.parse({}), bench, tmp_path, cells=np.eye(32, dtype=bool))
    assert bench.chip._board.status().pulses == before


def test_the_best_threshold_is_the_best_of_all() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        sums, wanted = rng.integers(-6, 7, size=20).astype(np.int32), rng.choice([-1, 1], size=20).astype(np.int8)
        sign, old = int(rng.choice([-1, 1])), int(rng.integers(-9, 10))
        found = refit_row(sign, old, sums, wanted)

        def differ(own_sign: int, threshold: int, sums=sums, wanted=wanted) -> int:
            return int((np.where(own_sign * sums >= threshold, 1, -1) != wanted).sum())

        assert found.differ_before == differ(sign, old)
        assert found.differ == differ(found.sign, found.threshold)
        assert found.differ == min(differ(s, t) for s in (-1, 1) for t in range(-12, 13))
        if found.differ == found.differ_before:
            assert (found.sign, found.threshold) == (sign, old)
    assert refit_row(0, 3, sums, wanted)[:2] == (0, 3)


def test_offsets_make_up_for_a_class_that_lost_its_sums() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, size=400)
    sums = rng.normal(0, 4, size=(400, 3)) + 10 * np.eye(3)[labels]
    sums[:, 1] -= 9
    sums = np.rint(sums).astype(np.int32)
    layer = IntegerLayer(np.ones((3, 8), np.int8), np.ones(3, np.int8), np.array([2, 0, 0], np.int32))
    found = refit_offsets(layer, sums, labels)
    right = [
        (classify(replace(layer, threshold=one).scores(sums)) == labels).mean()
        for one in (layer.threshold, found.threshold)
    ]
    assert right[1] > right[0] + 0.05
    shifts = found.threshold - layer.threshold
    assert shifts[[0, 2]].mean() - shifts[1] == pytest.approx(10, abs=2.5)
    # presented twice, with the sums added, offsets count twice and so come out the same
    twice = refit_offsets(layer, 2 * sums, labels, presentations=2)
    assert (twice.threshold == found.threshold).all()
