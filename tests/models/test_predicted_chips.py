"""A network that is spread over several chips: each weight has the errors of the chip that it lies on, and no other."""

from __future__ import annotations

import numpy as np
import pytest

from models.cells import Geometry
from models.error_rates import CellErrors, Counted, EstimatedRate, MeasuredMap, TurnedErrors
from models.exceptions import UserMistake
from models.integer import IntegerNetwork, ThermometerEncoding, classify
from models.prediction import CountedChip, InferenceMode, ReadErrorRates, predict_on_chips
from tests.models.test_prediction import known, random_layer, rates

ARRAYS = (Geometry(8, 12), Geometry(16, 6))
MANY = 10**9
"""Counts so large that a rate of 0 or 1 is hit by every draw."""


@pytest.fixture(scope="module")
def problem():
    """A random network, some samples, and for each layer which weights lie on the second chip."""
    rng = np.random.default_rng(0)
    layers = (random_layer(rng, 21, 30), random_layer(rng, 4, 21))
    network = IntegerNetwork("net", ThermometerEncoding(15, (4, 12)), layers, 4)
    images = rng.integers(0, 17, size=(80, 15)).astype(np.uint8)
    second = [rng.random(layer.weights.shape) < 0.4 for layer in layers]
    places = [
        [
            tuple(np.where(mask == bool(chip), rng.integers(0, most, size=mask.shape), -1) for most in array)
            for mask in second
        ]
        for chip, array in enumerate(ARRAYS)
    ]
    return network, images, rng.integers(0, 4, size=len(images)), second, places


def counted(array: Geometry, share: float) -> Counted:
    return Counted(np.full(array, share * MANY), np.full(array, MANY))


def accuracy(network, images, labels, weights, answers_at_minus=None) -> float:
    """By sums of products one by one; a product with an input of -1 may be off."""
    x = network.encode(images)
    for index, (layer, own) in enumerate(zip(network.layers, weights, strict=True)):
        sums = (x @ own.T.astype(np.int64)).astype(np.int32)
        if answers_at_minus is not None:
            sums += ((x == -1).astype(np.int32) @ (own + answers_at_minus[index]).T.astype(np.int32)).astype(np.int32)
        x = layer.scores(sums) if index == len(network.layers) - 1 else layer.activate(sums)
    return float(np.mean(classify(x) == labels))


def test_each_weight_errs_as_the_chip_does_that_it_lies_on(problem) -> None:
    network, images, labels, second, places = problem
    stuck = np.random.default_rng(1).choice((-1, 0, 1), size=ARRAYS[0]).astype(np.int8)
    never = CellErrors(counted(ARRAYS[0], 0.0), counted(ARRAYS[0], 0.0), counted(ARRAYS[0], 0.0))
    one, other = counted(ARRAYS[0], 0.0), counted(ARRAYS[0], 1.0)
    turned = TurnedErrors(other, one, one, np.ones(12), np.ones(12))
    # The first chip has stuck cells, and in XNOR all of its weights answer themselves; the second reads all inverted.
    chips = [
        CountedChip(ARRAYS[0], rates(), MeasuredMap(stuck, never, never, turned), places[0]),
        CountedChip(ARRAYS[1], rates(random=1.0), None, places[1]),
    ]
    read = []
    for index, (layer, mask) in enumerate(zip(network.layers, second, strict=True)):
        met = stuck[places[0][index]]
        read.append(np.where(mask, -layer.weights, np.where(met != 0, met, layer.weights)))
    fixed = [np.where(mask, -own, own) for mask, own in zip(second, read, strict=True)]
    exact = accuracy(network, images, labels, read)
    assert exact != network.accuracy(images, labels)
    for mode in InferenceMode:
        found = predict_on_chips(network, images, labels, chips, 3, np.random.default_rng(2), mode)
        wanted = accuracy(network, images, labels, read, fixed) if mode is InferenceMode.XNOR else exact
        assert (found.low, found.high) == (wanted, wanted), mode
    assert accuracy(network, images, labels, read, fixed) != exact
    # the same of a chip of which the rate of fixed outputs is all that is known
    chips[0] = CountedChip(ARRAYS[0], ReadErrorRates(known(0.0), known(0.0), known(0.0), known(1.0)), None, places[0])
    read = [np.where(mask, -layer.weights, layer.weights) for layer, mask in zip(network.layers, second, strict=True)]
    fixed = [np.where(mask, -own, own) for mask, own in zip(second, read, strict=True)]
    found = predict_on_chips(network, images, labels, chips, 3, np.random.default_rng(2), InferenceMode.XNOR)
    wanted = accuracy(network, images, labels, read, fixed)
    assert (found.low, found.high) == (wanted, wanted)


def test_what_is_not_known_of_a_file_is_common_to_the_chips_that_share_it(problem) -> None:
    network, images, _, _, places = problem
    labels = network.predict(images)

    def unsure() -> ReadErrorRates:
        return ReadErrorRates(known(0.0), EstimatedRate(0.05, 0.0, 0.3), known(0.0))

    def spread(*each: ReadErrorRates) -> float:
        chips = [CountedChip(array, own, None, at) for array, own, at in zip(ARRAYS, each, places, strict=True)]
        mode, rng = InferenceMode.HOST, np.random.default_rng(3)
        return float(predict_on_chips(network, images, labels, chips, 300, rng, mode).samples.std())

    shared = unsure()
    assert spread(shared, shared) > 1.1 * spread(unsure(), unsure())


def test_weights_on_no_chip_or_on_two_are_refused(problem) -> None:
    network, images, labels, _, places = problem
    for first in (None, places[1]):
        chips = [CountedChip(array, rates(), None, at) for array, at in zip(ARRAYS, (first, places[1]), strict=True)]
        with pytest.raises(UserMistake, match="lies on exactly one chip"):
            predict_on_chips(network, images, labels, chips, 1, np.random.default_rng(0), InferenceMode.HOST)
