from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from data.datasets import load_dataset
from models.exceptions import UserMistake
from models.training import TrainingDiverged, TrainingSettings, single_thread, train


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@dataclass
class Images:
    """A data set of the digits' size, or of another."""

    features: int = 64
    classes: int = 10
    count: int = 40
    name: str = "images"

    def __post_init__(self):
        rng = np.random.default_rng(0)
        self.train_images = self.test_images = rng.integers(0, 17, (self.count, self.features)).astype(np.uint8)
        self.train_labels = self.test_labels = rng.integers(0, self.classes, self.count)


@pytest.mark.parametrize("seed", [0, 4])
def test_digits_are_learnt(digits, seed):
    seen = []
    network, history = train("digits-bnn", digits, seed, on_epoch=seen.append)
    assert history == seen
    assert [record.epoch for record in history] == list(range(1, 61))
    assert history[-1].test_accuracy == network.accuracy(digits.test_images, digits.test_labels) >= 0.955
    tiles = sum(math.ceil(layer.outputs / 32) * math.ceil(layer.inputs / 32) for layer in network.layers)
    assert tiles <= 45


def test_the_same_seed_gives_the_same_weights_on_one_and_on_two_threads(digits):
    networks = []
    threads = torch.get_num_threads()
    state = torch.get_rng_state()
    try:
        for count, seed in ((1, 7), (2, 7), (2, 8)):
            torch.set_num_threads(count)
            networks.append(train("digits-bnn", digits, seed, epochs=3)[0])
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    one, two, other = ([layer.weights for layer in network.layers] for network in networks)
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert all(
        np.array_equal(a.threshold, b.threshold) for a, b in zip(networks[0].layers, networks[1].layers, strict=True)
    )
    assert not np.array_equal(one[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_are_given_back_after_an_error():
    threads = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="inside"), single_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError("inside")
    assert torch.get_num_threads() == threads


def test_stopping_keeps_the_last_whole_epoch(digits):
    whole, _ = train("digits-bnn", digits, 1, epochs=5, should_stop=lambda: False)
    asked = []

    def stop_within_the_third_epoch():
        asked.append(None)
        return len(asked) > 2 * (1347 // 64) + 5

    stopped, history = train("digits-bnn", digits, 1, epochs=5, should_stop=stop_within_the_third_epoch)
    assert [record.epoch for record in history] == [1, 2]
    assert stopped.accuracy(digits.test_images, digits.test_labels) == history[-1].test_accuracy
    assert not np.array_equal(stopped.layers[0].weights, whole.layers[0].weights)


def test_a_loss_that_is_no_number_stops_training_and_keeps_the_last_good_network():
    images = Images()
    wild = TrainingSettings(learning_rate=1e38, offset_learning_rate=1e38)
    with pytest.raises(TrainingDiverged, match=r"training stopped in epoch \d+: .*Lower the learning rate") as caught:
        train("digits-bnn", images, 0, epochs=20, settings=wild)
    assert len(caught.value.history) < 20
    assert caught.value.network.predict(images.test_images).shape == (40,)


@pytest.mark.parametrize(
    ("name", "images", "epochs", "says"),
    [
        ("no-such", Images(), 1, "no network is called 'no-such'; there are: digits-bnn"),
        ("digits-bnn", Images(features=63), 1, "takes images of 64 pixels in 10 classes; the data set images has 63"),
        ("digits-bnn", Images(classes=11), 1, "has 64 pixels and 11 classes"),
        ("digits-bnn", Images(count=1), 1, "too few images"),
        ("digits-bnn", Images(), 0, "0 epochs asked for"),
    ],
)
def test_what_cannot_be_trained_is_refused(name, images, epochs, says):
    with pytest.raises(UserMistake, match=says):
        train(name, images, 0, epochs)


@pytest.mark.parametrize("change", [{"batch": 1}, {"learning_rate": math.nan}, {"offset_learning_rate": 0.0}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(UserMistake):
        TrainingSettings(**change)
