from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, ThermometerEncoding, classify, exact_sums


def layer(outputs: int, inputs: int, seed: int = 0) -> IntegerLayer:
    rng = np.random.default_rng(seed)
    weights = rng.choice([-1, 0, 1], size=(outputs, inputs))
    return IntegerLayer(weights, np.ones(outputs, np.int8), np.zeros(outputs, np.int32))


def test_thermometer_compares_all_pixels_with_one_threshold_after_the_other():
    encoding = ThermometerEncoding(3, (4, 12))
    images = np.array([[0, 4, 16], [11, 12, 3]], np.uint8)
    assert encoding.width == 6
    assert encoding.encode(images).tolist() == [[-1, 1, 1, -1, -1, 1], [1, 1, -1, -1, 1, -1]]


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.zeros((2, 4), np.uint8), r"\(2, 4\), expected \(n, 3\)"),
        (np.zeros(3, np.uint8), r"\(3,\), expected \(n, 3\)"),
        (np.zeros((2, 3)), "float64, expected whole grey levels"),
    ],
)
def test_images_of_another_size_or_type_are_refused(images, says):
    with pytest.raises(UserMistake, match=says):
        ThermometerEncoding(3, (4,)).encode(images)


@pytest.mark.parametrize("thresholds", [(), (4, 4), (12, 4), (2**40,)])
def test_impossible_thermometers_are_refused(thresholds):
    with pytest.raises(UserMistake):
        ThermometerEncoding(3, thresholds)


@given(st.integers(1, 40), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_sums_are_those_of_integers(outputs, inputs, seed):
    rng = np.random.default_rng(seed)
    weights = rng.choice([-1, 0, 1], size=(outputs, inputs)).astype(np.int8)
    x = rng.choice([-1, 1], size=(5, inputs)).astype(np.int8)
    sums = exact_sums(weights, x)
    assert sums.dtype == np.int32
    assert np.array_equal(sums, x.astype(np.int64) @ weights.T.astype(np.int64))


def test_activation_covers_every_sign_and_fires_on_the_threshold():
    sign = np.array([1, -1, 0, 0], np.int8)
    threshold = np.array([2, 2, 0, 1], np.int32)
    own = IntegerLayer(np.ones((4, 4), np.int8), sign, threshold)
    sums = np.array([[2] * 4, [1] * 4, [-2] * 4, [-1] * 4], np.int32)
    assert own.activate(sums).tolist() == [[1, -1, 1, -1], [-1, -1, 1, -1], [-1, 1, 1, -1], [-1, -1, 1, -1]]


def test_scores_and_the_lowest_of_equal_classes():
    own = IntegerLayer(np.ones((3, 4), np.int8), np.array([1, -1, 1], np.int8), np.array([1, -5, -2], np.int32))
    scores = own.scores(np.array([[4, 2, 1], [0, 9, 0]], np.int32))
    assert scores.tolist() == [[3, 3, 3], [-1, -4, 2]]
    assert classify(scores).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights": np.full((2, 3), 2)}, "-1, 0 or"),
        ({"weights": np.ones(3)}, "shape"),
        ({"weights": np.ones((2, 0), np.int8)}, "2 outputs and 0 inputs"),
        ({"sign": np.ones(3, np.int8)}, "sign is int8"),
        ({"sign": np.full(2, 2, np.int8)}, "sign must lie between -1 and 1"),
        ({"threshold": np.zeros(2)}, "threshold is float64"),
        ({"threshold": np.full(2, 2**31 - 1)}, "threshold must lie between"),
        ({"threshold": np.full(2, -(2**63))}, "threshold must lie between"),
    ],
)
def test_impossible_layers_are_refused(change, says):
    good = {"weights": np.ones((2, 3), np.int8), "sign": np.ones(2, np.int8), "threshold": np.zeros(2, np.int32)}
    with pytest.raises(UserMistake, match=says):
        IntegerLayer(**{**good, **change})


def test_a_layer_keeps_its_own_copy():
    weights = np.ones((2, 3), np.int8)
    own = IntegerLayer(weights, np.ones(2, np.int8), np.zeros(2, np.int32))
    weights[:] = -1
    assert (own.weights == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        own.weights[0, 0] = -1


def test_inputs_of_another_width_are_refused():
    with pytest.raises(UserMistake, match=r"\(1, 4\), expected \(n, 3\)"):
        layer(2, 3).sums(np.ones((1, 4), np.int8))


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ((), "at least one layer"),
        ((layer(5, 7), layer(3, 5)), "layer 0 takes 7 inputs but the encoding gives 8"),
        ((layer(5, 8), layer(3, 6)), "layer 1 takes 6 inputs but layer 0 gives 5"),
        ((layer(5, 8), layer(4, 5)), "4 scores for 3 classes"),
    ],
)
def test_layers_that_do_not_chain_are_refused(layers, says):
    with pytest.raises(UserMistake, match=says):
        IntegerNetwork("net", ThermometerEncoding(4, (1, 2)), layers, 3)


def test_a_network_answers_as_its_layers_do_one_by_one():
    network = IntegerNetwork("net", ThermometerEncoding(4, (3, 9)), (layer(5, 8, 1), layer(3, 5, 2)), 3)
    images = np.random.default_rng(3).integers(0, 16, size=(50, 4)).astype(np.uint8)
    hidden = network.layers[0].activate(network.layers[0].sums(network.encode(images)))
    scores = network.layers[1].scores(network.layers[1].sums(hidden))
    assert np.array_equal(network.scores(images), scores)
    assert np.array_equal(network.predict(images), scores.argmax(1))
    assert network.accuracy(images, scores.argmax(1)) == 1.0


def test_other_weights_leave_the_network_itself_alone():
    network = IntegerNetwork("net", ThermometerEncoding(4, (3, 9)), (layer(5, 8), layer(3, 5)), 3)
    other = network.with_weights([-own.weights for own in network.layers])
    assert np.array_equal(other.layers[1].weights, -network.layers[1].weights)
    with pytest.raises(ValueError, match="zip"):
        network.with_weights([network.layers[0].weights])
