from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.architectures import Architecture, Conv, Precision, mlp, vgg
from models.convolution_shapes import PaddingValue, Pool, PoolKind
from models.encodings import BitPlaneEncoding, ThermometerEncoding
from models.exceptions import UserMistake
from models.networks import fold
from models.packed import PackedNetwork
from models.training import single_thread
from tests.models.random_networks import architectures, grey_levels, random_network


def images_for(architecture: Architecture, count: int, seed: int) -> np.ndarray:
    encoding = architecture.encoding
    return np.random.default_rng(seed).integers(0, grey_levels(encoding), (count, encoding.features)).astype(np.uint8)


@pytest.fixture(autouse=True)
def one_thread():
    with single_thread():
        yield


def check(architecture: Architecture, seed: int, count: int = 7) -> None:
    model = random_network(architecture, seed)
    images = images_for(architecture, count, seed)
    network = fold(model)
    with torch.no_grad():
        hidden = [x.numpy() for x in model.hidden(torch.from_numpy(images).float())]
        logits = model(torch.from_numpy(images).float()).numpy()
    x = network.encode(images)
    assert np.array_equal(x, hidden[0])
    for layer, following in zip(network.layers[:-1], hidden[1:], strict=True):
        x = layer.activate(layer.sums(x))
        assert np.array_equal(x, following)
    scores = network.scores(images)
    assert np.array_equal(network.predict(images), logits.argmax(1))
    packed = PackedNetwork(network)
    found = packed.scores(images)
    assert found.dtype == scores.dtype
    assert np.array_equal(found, scores)


@settings(max_examples=40, deadline=None)
@given(architectures(), st.integers(0, 2**31))
def test_pytorch_integers_and_packed_bits_give_the_same(architecture, seed):
    check(architecture, seed)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(architectures(), st.integers(0, 2**31))
def test_pytorch_integers_and_packed_bits_give_the_same_in_many_more_networks(architecture, seed):
    check(architecture, seed)


@pytest.mark.parametrize(
    ("plan", "count"),
    [
        (mlp("two chunks and a rest", ThermometerEncoding(100, (4, 12)), (192, 65), 10), 259),
        (vgg("vgg", BitPlaneEncoding(3 * 64), (3, 8, 8), 10, filters=64, dense=(70,)), 9),
        (
            vgg("t", ThermometerEncoding(64, (8,)), (1, 8, 8), 5, 40, (30,), Precision.TERNARY, padding_value="zero"),
            9,
        ),
        (
            Architecture(
                "depth-wise over more than a word",
                ThermometerEncoding(130 * 7, (8,)),
                (
                    Conv(130, (3,), padding=(1,), groups=130, padding_value=PaddingValue.ZERO),
                    Conv(128, (1,), pool=Pool(PoolKind.SUM, (3,), (2,))),
                    Conv(66, (2,), groups=2, stride=(2,)),
                ),
                3,
                shape=(130, 7),
            ),
            9,
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Architecture) else "",
)
def test_larger_networks_and_batches_give_the_same(plan, count):
    check(plan, 5, count)


def test_threads_share_the_images_and_change_nothing():
    plan = vgg("vgg", ThermometerEncoding(64, (8,)), (1, 8, 8), 10, filters=8, dense=(20,))
    network = fold(random_network(plan, 1))
    images = images_for(plan, 23, 2)
    labels = network.predict(images)
    for threads in (1, 2, 5):
        packed = PackedNetwork(network, threads)
        assert np.array_equal(packed.predict(images), labels)
        assert packed.accuracy(images, labels) == 1.0
    assert PackedNetwork(network).scores(images[:0]).shape == (0, 10)


def test_what_cannot_be_packed_or_given_is_refused():
    network = fold(random_network(mlp("net", ThermometerEncoding(10, (8,)), (5,), 3), 0))
    with pytest.raises(UserMistake, match="0 threads"):
        PackedNetwork(network, 0)
    with pytest.raises(UserMistake, match=r"\(2, 11\), expected \(n, 10\)"):
        PackedNetwork(network).scores(np.zeros((2, 11), np.uint8))
