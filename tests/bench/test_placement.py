"""Placement keeps the accuracy of a chip with stuck cells; the order of tiles saves pulses."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config import parse_bench_file
from bench.dry_instruments import DryWorld, dry_chip
from bench.error_map import ErrorMap, error_map
from bench.inference import InferenceParameters, inference_procedure, inference_task
from bench.mapping import NONE, plan_network
from bench.placement import harm, influence, place, with_stuck
from bench.procedures import PROCEDURES
from bench.procedures.forming import FORMING, QUICK
from bench.programming import ordered, programming_cost
from bench.runner import run
from bench.session import connect
from bench.source import bench_config
from data.datasets import load_dataset
from data.device_files import Quantity, packaged_device
from data.runs import open_run
from drivers.chip import OperationKind
from drivers.simulated.bench import CHIPS, SimulatedBench
from models.cells import Geometry
from models.encodings import ThermometerEncoding
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork
from models.networks import fold
from models.training import train
from tests.bench.test_mapping import fully_connected
from tests.models.random_networks import architectures, random_network

KILOBIT = Geometry(32, 32)
SENSES = 1000
SEEDS = range(20)


def known(stuck: np.ndarray, value: np.ndarray, wrong: np.ndarray | int = 0, chip_id: str = "A7") -> ErrorMap:
    shape = Geometry(*stuck.shape)
    counts = np.broadcast_to(np.asarray(wrong, dtype=np.int64), (3, *shape))
    return ErrorMap(chip_id, shape, stuck, value, counts, np.full((3, *shape), SENSES), ())


def stuck_at_random(array: Geometry, fraction: float, seed: int, values: tuple[int, ...] = (-1, 1)) -> ErrorMap:
    rng = np.random.default_rng(seed)
    stuck = rng.random(array) < fraction
    value = np.where(stuck, rng.choice(values, size=array), 0).astype(np.int8)
    return known(stuck, value, np.where(stuck, 0, rng.poisson(2.0, size=array)))


@pytest.mark.parametrize(
    ("name", "epochs"),
    [
        ("digits-bnn", 8),
        pytest.param("digits-tnn", 20, marks=pytest.mark.slow),
        pytest.param("digits-conv", 20, marks=pytest.mark.slow),
    ],
)
def test_with_two_percent_stuck_cells_at_most_half_of_the_loss_is_left(name: str, epochs: int) -> None:
    data = load_dataset("digits")
    network, _ = train(name, data, 0, epochs)
    plain = plan_network(network, KILOBIT)
    right = network.accuracy(data.test_images, data.test_labels)
    losses = []
    for seed in SEEDS:
        stuck = stuck_at_random(KILOBIT, 0.02, seed)
        placed = plan_network(network, KILOBIT, stuck)
        placed.check(network, KILOBIT, "A7")
        losses.append(
            [
                right - with_stuck(network, plan, stuck).accuracy(data.test_images, data.test_labels)
                for plan in (plain, placed)
            ]
        )
        assert harm(placed, network, stuck).wrong < 0.05 * harm(plain, network, stuck).wrong
    naive, left = np.mean(losses, axis=0)
    assert naive > 0.002
    assert left <= 0.5 * naive


@pytest.mark.slow
def test_a_simulated_chip_reads_back_what_was_placed_on_it(tmp_path: Path) -> None:
    # about 2 % of the cells have a broken device; only some are stuck, others fail for one sign, or now and then
    shares = {"defects.stuck_lrs": 0.003, "defects.stuck_hrs": 0.004, "defects.open": 0.003}
    device = packaged_device(CHIPS["kilobit"].device).updated(
        {name: Quantity(share, "1", "test", "proposed") for name, share in shares.items()}
    )
    network = fully_connected((128, 192, 10), values=(-1, 1))
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 2, (20, 128)).astype(np.uint8), rng.integers(0, 10, 20)
    characterise = PROCEDURES["characterise"]
    asked = {"resistance_cells": 4, "staircase_cells": 2, "xnor_repeats": 0, "pairs": 4}
    with SimulatedBench(1, device) as world:
        text = world.bench_file()
        with connect(parse_bench_file(text, "b"), text) as bench:
            run(FORMING, QUICK, bench, tmp_path)
            made = run(characterise, characterise.parse(asked), bench, tmp_path)
            found = error_map([open_run(made.run_file)])
            results = []
            for plan in (plan_network(network, KILOBIT), plan_network(network, KILOBIT, found)):
                procedure = inference_procedure(inference_task(network, images, labels, plan, found))
                results.append(run(procedure, InferenceParameters(), bench, tmp_path).result["errors"])
    expected = harm(plan_network(network, KILOBIT), network, found)
    naive, placed = (sum(one[cause] for cause in ("stuck", "programming", "read")) for one in results)
    # what the map expects of the naive plan is what comes: a binomial count, within four standard deviations
    assert abs(naive - expected.wrong - expected.weak) < 4 * np.sqrt(expected.wrong + expected.weak)
    assert placed < 0.2 * naive


@settings(max_examples=30, deadline=None)
@given(architectures(), st.integers(0, 2**32 - 1), st.integers(3, 24), st.integers(3, 24), st.floats(0.0, 0.3))
def test_placement_holds_every_weight_and_never_does_more_harm(architecture, seed, rows, cols, fraction) -> None:
    network = fold(random_network(architecture, seed))
    array = Geometry(rows, cols)
    plain = plan_network(network, array)
    if len(plain.tiles) > 60:
        plain = plan_network(network, array := Geometry(64, 64))
    stuck = stuck_at_random(array, fraction, seed, (-1, 0, 1))
    placed = place(plain, network, stuck)
    placed.check(network, array, "A7")
    before, after = harm(plain, network, stuck), harm(placed, network, stuck)
    assert after.harm <= before.harm * (1 + 1e-6) + 1e-6
    # what reads back differs from the network in just the weights that are counted
    read = with_stuck(network, placed, stuck)
    wrong = sum(
        (ours.weights != theirs.weights).sum() for ours, theirs in zip(network.layers, read.layers, strict=True)
    )
    assert wrong == after.wrong


def one_layer(weights: list[list[int]], threshold: int = 0, hidden: bool = False) -> IntegerNetwork:
    matrix = np.array(weights)
    layer = IntegerLayer(matrix, np.ones(len(matrix), int), np.full(len(matrix), threshold))
    last = IntegerLayer(np.ones((2, len(matrix)), int), np.ones(2, int), np.zeros(2, int))
    layers = (layer, last) if hidden else (layer,)
    return IntegerNetwork("small", ThermometerEncoding(matrix.shape[1], (1,)), layers, 2 if hidden else len(matrix))


def test_bad_lines_are_left_out_where_the_tile_leaves_room() -> None:
    network, array = one_layer([[1, 1, 1], [1, 1, 1]]), Geometry(4, 5)
    stuck, value = np.zeros(array, dtype=bool), np.zeros(array, dtype=np.int8)
    stuck[1], value[1] = True, -1
    stuck[:, 0], value[:, 0] = True, -1
    [tile] = place(plan_network(network, array), network, known(stuck, value)).tiles
    assert [row != NONE for row in tile.rows] == [True, False, True]
    assert [col != NONE for col in tile.cols] == [False, True, True, True]
    assert tile.pads.tolist() == [True, False, False, False]
    # a column whose cells err now and then is no reason for pads: they cost pulses and senses
    weak = np.zeros(array, dtype=np.int64)
    weak[:, 0] = SENSES // 100
    nothing = np.zeros(array, dtype=bool)
    [tile] = place(plan_network(network, array), network, known(nothing, nothing.astype(np.int8), weak)).tiles
    assert not tile.pads.any()


def test_stuck_cells_take_weights_of_their_sign_and_weak_ones_those_that_matter_least() -> None:
    rng = np.random.default_rng(0)
    network, array = one_layer(rng.choice([-1, 1], size=(6, 6)).tolist()), Geometry(6, 6)
    stuck = np.zeros(array, dtype=bool)
    stuck[[0, 2, 5, 5], [2, 1, 0, 5]] = True
    opposite = known(stuck, np.where(stuck, -network.layers[0].weights, 0).astype(np.int8))
    assert harm(plan_network(network, array), network, opposite).wrong == 4
    assert harm(plan_network(network, array, opposite), network, opposite).wrong == 0
    # a cell that now and then fails to take one sign is as good as any for the other
    one_sided = np.zeros((3, *array), dtype=np.int64)
    one_sided[network.layers[0].weights[stuck] + 1, *np.nonzero(stuck)] = SENSES // 3
    nothing = np.zeros(array, dtype=bool)
    failing = known(nothing, nothing.astype(np.int8), one_sided)
    assert harm(plan_network(network, array), network, failing).weak == pytest.approx(4 / 3, rel=0.01)
    assert harm(plan_network(network, array, failing), network, failing).weak == 0.0
    # the middle neuron has a threshold that no sum reaches: it takes the row that always errs
    hidden = one_layer([[1, 1, 1], [1, -1, 1], [-1, 1, 1]], hidden=True)
    first = replace(hidden.layers[0], threshold=np.array([0, 9, 0]))
    constant = IntegerNetwork("small", hidden.encoding, (first, hidden.layers[1]), 2)
    assert influence(constant, 0).tolist() == pytest.approx([3**-0.5, 0.0, 3**-0.5])
    assert influence(constant, 1).tolist() == [1.0, 1.0]
    wrong = np.zeros((3, 3), dtype=np.int64)
    wrong[0] = SENSES // 2
    nothing = np.zeros((3, 3), dtype=bool)
    weak = known(nothing, nothing.astype(np.int8), wrong)
    tile = plan_network(constant, Geometry(3, 3), weak).tiles[0]
    assert tile.rows[0] == 1


def test_a_map_of_another_array_or_chip_is_refused() -> None:
    network, array = fully_connected((9, 7, 5)), Geometry(4, 4)
    with pytest.raises(UserMistake, match="error map is of an array of 8 x 8 cells"):
        plan_network(network, array, stuck_at_random(Geometry(8, 8), 0.02, 0))
    plan = plan_network(network, array, stuck_at_random(array, 0.1, 0))
    other = replace(stuck_at_random(array, 0.1, 0), chip_id="B1")
    for asks in (place, harm):
        with pytest.raises(UserMistake, match="of chip B1, and this bench has chip A7"):
            asks(plan, network, other)


@pytest.mark.parametrize("keep_right", [False, True])
def test_counted_pulses_are_those_that_a_chip_is_sent(keep_right: bool) -> None:
    config, network = bench_config("simulated"), fully_connected((90, 70, 40))
    plan = plan_network(network, config.geometry, stuck_at_random(config.geometry, 0.05, 1))
    cost = programming_cost(plan, network, config, keep_right)
    chip, _ = dry_chip(DryWorld(config, obeys=True, virgin=False))
    sent = dict.fromkeys(OperationKind, 0)
    chip.listeners.append(lambda one: sent.update({one.kind: sent[one.kind] + int(np.count_nonzero(one.devices))}))
    for tile in plan.tiles:
        chip.program(*tile.on_array(network.layers[tile.layer].weights, plan.array), keep_right=keep_right)
    assert (cost.sets, cost.resets) == (sent[OperationKind.SET], sent[OperationKind.RESET])
    assert cost.pulses <= plan.pulses
    assert (cost.pulses == plan.pulses) is not keep_right
    assert 0.0 < cost.energy_j < 1e-3
    assert not cost.scaled
    with pytest.raises(UserMistake, match="for an array of 4 x 4 cells, and the bench has one of 32 x 32"):
        programming_cost(plan_network(network, Geometry(4, 4)), network, config)


def test_the_order_of_tiles_saves_pulses_and_leaves_none_out() -> None:
    config, network = bench_config("simulated"), fully_connected((256, 256, 20), values=(-1, 1))
    plan = plan_network(network, config.geometry)
    nearer = ordered(plan, network)
    nearer.check(network, config.geometry)
    assert {id(tile) for tile in nearer.tiles} == {id(tile) for tile in plan.tiles}
    costs = [programming_cost(one, network, config, keep_right=True).pulses for one in (plan, nearer)]
    # among 64 unrelated tiles the nearest differs by about 2.3 standard deviations less than half of 1024 cells
    assert costs[1] < 0.95 * costs[0]
    shades = [tile.on_array(network.layers[0].weights, plan.array)[0] for _, tile in nearer.of_layer(0)]
    following = [(a != b).sum() for a, b in itertools.pairwise(shades)]
    others = [min((shades[0] != b).sum() for b in shades[1:])]
    assert following[0] == others[0]
