from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.datasets import load_dataset
from models.exceptions import UserMistake
from models.integer import ThermometerEncoding
from models.layers import BatchNormSign
from models.networks import Architecture, BinaryNetwork, build
from models.training import TrainingDiverged, TrainingSettings, fold, fold_activation, single_thread, train

INPUTS = 12


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


def activation(gamma, beta, mean, variance):
    own = BatchNormSign(len(gamma)).eval()
    with torch.no_grad():
        for tensor, values in zip(
            (own.norm.weight, own.norm.bias, own.norm.running_mean, own.norm.running_var),
            (gamma, beta, mean, variance),
            strict=True,
        ):
            tensor.copy_(torch.tensor(values, dtype=torch.float32))
    return own


def folded_activations(own, sums):
    sign, threshold = fold_activation(own, INPUTS)
    assert (threshold >= -INPUTS).all()
    assert (threshold <= INPUTS + 1).all()
    return np.where(sign * sums[:, None] >= threshold, 1, -1)


ALL_SUMS = np.arange(-INPUTS, INPUTS + 1)
# halves and zeros make ties on the threshold common; the wide floats make everything else
numbers = st.one_of(
    st.integers(-24, 24).map(lambda k: k / 2), st.floats(-(2.0**100), 2.0**100, width=32), st.just(-0.0)
)
variances = st.one_of(st.sampled_from([0.0, 1.0, 4.0]), st.floats(0.0, 2.0**100, width=32))


@given(st.lists(st.tuples(numbers, numbers, numbers, variances), min_size=1, max_size=20))
def test_folding_is_exact_for_every_sum_and_every_batch_normalisation(parameters):
    own = activation(*zip(*parameters, strict=True))
    with torch.no_grad():
        expected = own(torch.from_numpy(ALL_SUMS).float()[:, None].expand(-1, len(parameters))).numpy()
    assert np.array_equal(folded_activations(own, ALL_SUMS), expected)


@pytest.mark.parametrize(
    ("gamma", "beta", "mean", "fires"),
    [
        (2.0, 0.0, 3.0, lambda s: s >= 3),  # a tie on the threshold is +1
        (-2.0, 0.0, 3.0, lambda s: s <= 3),
        (0.0, 0.0, 3.0, lambda s: s == s),
        (0.0, -0.0, 3.0, lambda s: s == s),
        (0.0, 1e-30, 3.0, lambda s: s == s),
        (0.0, -1e-30, 3.0, lambda s: s != s),
        (1.0, -1e9, 0.0, lambda s: s != s),
        (-1.0, 1e9, 0.0, lambda s: s == s),
        (1e-38, 1e-38, 0.5, lambda s: s >= -0.5),
    ],
)
def test_folding_by_hand(gamma, beta, mean, fires):
    own = activation([gamma], [beta], [mean], [1.0])
    assert np.array_equal(folded_activations(own, ALL_SUMS)[:, 0] == 1, fires(ALL_SUMS))


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_a_folded_network_gives_the_same_activations_and_classes(seed):
    generator = torch.Generator().manual_seed(seed)
    model = BinaryNetwork(Architecture("net", ThermometerEncoding(10, (4, 12)), (31, 9), 4, 1.0), generator).eval()
    with torch.no_grad():
        for own in model.activations:
            own.norm.weight.normal_(generator=generator)
            own.norm.weight[0] = 0.0
            own.norm.bias.normal_(generator=generator)
            own.norm.running_mean.copy_(torch.randint(-5, 6, own.norm.running_mean.shape, generator=generator))
            own.norm.bias[1] = 0.0  # with a whole mean: ties
            own.norm.running_var.uniform_(0.1, 30.0, generator=generator)
        model.scores.offset.normal_(0.0, 4.0, generator=generator)
    images = torch.randint(0, 17, (60, 10), generator=generator)
    network = fold(model)
    with torch.no_grad():
        hidden = [x.numpy() for x in model.hidden(images.float())]
        logits = model(images.float()).numpy()
    x = network.encode(images.numpy())
    for layer, following in zip(network.layers, hidden[1:], strict=False):
        x = layer.activate(layer.sums(x))
        assert np.array_equal(x, following)
    assert np.array_equal(network.predict(images.numpy()), logits.argmax(1))


def test_a_network_that_is_not_finite_is_not_folded():
    model = build("digits-bnn", torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.activations[0].norm.bias[3] = math.nan
    with pytest.raises(UserMistake, match="not finite"):
        fold(model)


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
