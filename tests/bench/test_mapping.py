"""Tiles hold every weight once, whatever the remainders and the order of their rows and columns."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.mapping import NONE, Plan, plan_network
from models.cells import Geometry
from models.encodings import ThermometerEncoding
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, Layer, exact_sums
from models.networks import fold
from tests.bench.test_inference_layers import shuffled
from tests.models.random_networks import architectures, random_network

MOST_TILES = 400


def fully_connected(sizes: tuple[int, ...], seed: int = 1, values: tuple[int, ...] = (-1, 0, 1)) -> IntegerNetwork:
    rng = np.random.default_rng(seed)
    layers = tuple(
        IntegerLayer(rng.choice(values, size=(outputs, inputs)), np.ones(outputs, int), np.zeros(outputs, int))
        for inputs, outputs in itertools.pairwise(sizes)
    )
    return IntegerNetwork("test", ThermometerEncoding(sizes[0], (1,)), layers, sizes[-1])


def sums_of(plan: Plan, index: int, layer: Layer, inputs: np.ndarray) -> np.ndarray:
    """The sums of a layer put together from those of its tiles, as a host does it."""
    met = layer.unfold(inputs)
    total = np.zeros((*met.shape[:2], len(layer.weights)), dtype=np.int32)
    top = int(np.abs(met).max())
    for _, tile in plan.of_layer(index):
        target, used = tile.on_array(layer.weights, plan.array)
        assert (target[~used] == 0).all()
        block = target[: tile.geometry.rows, : tile.geometry.cols]
        for group, rows in tile.groups(layer):
            vectors = met[:, :, group].reshape(-1, met.shape[-1])
            sums = exact_sums(block[rows], tile.values(vectors, top)) - top * int(tile.pads.sum())
            total[:, :, tile.rows[rows]] += sums.reshape(*met.shape[:2], -1)
    return layer.collect(total)


@settings(max_examples=40, deadline=None)
@given(architectures(), st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_tiles_hold_each_weight_once_and_their_sums_add_up(architecture, seed, rows, cols, moved) -> None:
    network, rng, array = fold(random_network(architecture, seed)), np.random.default_rng(seed), Geometry(rows, cols)
    plan = plan_network(network, array)
    assume(len(plan.tiles) <= MOST_TILES)
    assert all(max(tile.rows) == tile.rows[-1] and max(tile.cols) == tile.cols[-1] for tile in plan.tiles)
    if moved:
        plan = replace(plan, tiles=tuple(shuffled(tile, *array, rng) for tile in plan.tiles))
    plan.check(network, array)
    assert plan.used == sum(layer.weights.size for layer in network.layers)
    assert plan.used + plan.wasted == len(plan.tiles) * array.cells
    pads = sum(int((tile.rows != NONE).sum()) * int(tile.pads.sum()) for tile in plan.tiles)
    assert plan.pulses == 2 * (plan.used + pads)
    reach = (1 << network.encoding.planes) - 1
    for index, layer in enumerate(network.layers):
        inputs = 2 * rng.integers(0, 1 + (reach if index == 0 else 1), size=(3, layer.inputs)) - (
            reach if index == 0 else 1
        )
        assert (sums_of(plan, index, layer, inputs) == layer.sums(inputs)).all()
        # where a weight is said to lie is where it is programmed
        row_of, col_of = plan.places(index, layer.weights.shape)
        for _, tile in plan.of_layer(index):
            target, _ = tile.on_array(layer.weights, array)
            here = np.ix_(tile.rows[tile.rows != NONE], tile.cols[tile.cols != NONE])
            assert (target[row_of[here], col_of[here]] == layer.weights[here]).all()


def test_a_plan_is_refused_for_what_it_was_not_made_for() -> None:
    network, array = fully_connected((9, 7, 5)), Geometry(4, 4)
    plan = replace(plan_network(network, array), chip_id="A7", error_map="0" * 64)
    plan.check(network, array, "A7")
    first, *others = plan.tiles
    for wrong, asked, says in (
        (plan, (fully_connected((9, 7, 5), seed=2), array), "for another network, test"),
        (plan, (network, Geometry(4, 8)), "for an array of 4 x 4 cells, and this one has 4 x 8"),
        (plan, (network, array, "B1"), "weak cells of chip A7, and chip B1 is in the socket"),
        (replace(plan, tiles=(*others, first)), (network, array), "not in the order of the network's layers"),
        (replace(plan, tiles=(first, *plan.tiles)), (network, array), "each weight of layer 1 exactly once"),
        (replace(plan, tiles=tuple(others)), (network, array), "each weight of layer 1 exactly once"),
        (replace(plan, tiles=plan.tiles[:-1]), (network, array), "each weight of layer 2 exactly once"),
        (
            replace(plan, tiles=(replace(first, cols=first.cols + 9), *others)),
            (network, array),
            "tile 1 of this plan fits neither its layer nor its array",
        ),
    ):
        with pytest.raises(UserMistake, match=says):
            wrong.check(*asked)
