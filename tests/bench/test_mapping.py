"""Tiles cover every weight once, whatever the remainders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.mapping import plan_network
from models.cells import Geometry
from models.convolution_shapes import ConvolutionShape
from models.encodings import BitPlaneEncoding
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, ThermometerEncoding, exact_sums
from models.integer_convolution import IntegerConvolution

SIZES = st.integers(1, 70)


def network(sizes: list[int], rng: np.random.Generator) -> IntegerNetwork:
    layers = tuple(
        IntegerLayer(
            rng.choice([-1, 0, 1], size=(outputs, inputs)).astype(np.int8),
            np.ones(outputs, np.int8),
            np.zeros(outputs, np.int32),
        )
        for inputs, outputs in itertools.pairwise(sizes)
    )
    return IntegerNetwork("test", ThermometerEncoding(sizes[0], (1,)), layers, sizes[-1])


@given(st.lists(SIZES, min_size=2, max_size=4), st.integers(1, 40), st.integers(1, 40))
def test_tiles_cover_each_weight_once_and_fit_the_array(sizes: list[int], rows: int, cols: int) -> None:
    subject = network(sizes, np.random.default_rng(1))
    plan = plan_network(subject, Geometry(rows, cols))
    for index, layer in enumerate(subject.layers):
        covered = np.zeros(layer.weights.shape, dtype=int)
        for tile in plan.tiles:
            if tile.layer == index:
                assert 1 <= tile.rows <= rows
                assert 1 <= tile.cols <= cols
                covered[tile.outputs, tile.inputs] += 1
        assert (covered == 1).all()
    assert plan.used == sum(layer.weights.size for layer in subject.layers)
    assert plan.used + plan.wasted == len(plan.tiles) * rows * cols


def test_partial_sums_of_the_tiles_add_up_to_the_layer() -> None:
    rng = np.random.default_rng(2)
    subject = network([45, 37], rng)
    array = Geometry(16, 20)
    inputs = rng.choice([-1, 1], size=(9, 45)).astype(np.int8)
    layer = subject.layers[0]
    total = np.zeros((9, 37), dtype=np.int32)
    for tile in plan_network(subject, array).tiles:
        target, used = tile.on_array(layer.weights, array)
        assert (target[~used] == 0).all()
        block = target[: tile.rows, : tile.cols]
        total[:, tile.outputs] += exact_sums(block, inputs[:, tile.inputs])
    assert (total == layer.sums(inputs)).all()


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        (ThermometerEncoding(6, (3,)), "the network net has convolution; the array takes fully connected layers"),
        (BitPlaneEncoding(6, 2), "has convolution, inputs as bit-planes; the array takes"),
    ],
)
def test_what_is_not_fully_connected_is_one_clear_line(encoding, says) -> None:
    shape = ConvolutionShape(1, (6,), 2, (3,))
    ones = np.ones(2, np.int32)
    first = IntegerConvolution(np.ones((2, 3), np.int8), ones, ones, shape, None, 3)
    subject = IntegerNetwork("net", encoding, (first, IntegerLayer(np.ones((2, 8), np.int8), ones, ones)), 2)
    with pytest.raises(UserMistake, match=says):
        plan_network(subject, Geometry(8, 8))
