from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.architectures import ARCHITECTURES, Activation, Architecture, Conv, Dense, Precision, ecg, mlp, vgg
from models.convolution_shapes import Pool, PoolKind
from models.encodings import BitPlaneEncoding, RealEncoding, StochasticEncoding
from models.exceptions import UserMistake
from models.layers import BatchNormSign
from models.networks import build, fold, fold_activation
from models.training import single_thread
from models.weight_errors import WeightErrorRates

INPUTS = 12


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


def test_a_network_that_is_not_finite_is_not_folded():
    model = build("digits-bnn", torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.blocks[0].activation.norm.bias[3] = math.nan
    with pytest.raises(UserMistake, match="not finite"):
        fold(model)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_named_architecture_is_plain_data_and_back(name):
    own = ARCHITECTURES[name]
    assert Architecture.from_json(json.loads(json.dumps(own.to_json()))) == own


SMALL = [
    vgg("conv", BitPlaneEncoding(3 * 64), (3, 8, 8), 4, filters=4, dense=(9,), weights=Precision.TERNARY),
    ecg("ecg", RealEncoding(2 * 64), 2, 64, filters=4, dense=5, features=Precision.REAL, classifier=Precision.BINARY),
    mlp("stochastic", StochasticEncoding(30), (20,), 3, dropout=0.5),
    Architecture(
        "ternary", BitPlaneEncoding(6), (Dense(7, Precision.TERNARY, Activation.TERNARY),), 3, last=Precision.REAL
    ),
]


@pytest.mark.parametrize("plan", SMALL, ids=lambda plan: plan.name)
def test_all_kinds_of_networks_learn_and_are_the_same_for_the_same_seed(plan):
    with single_thread():
        check_learning(plan)


def check_learning(plan):
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, plan.classes, 60))
    # every class has a grey level of its own
    images = torch.from_numpy(rng.integers(0, 60, (60, plan.encoding.features))).float() + 60.0 * labels[:, None]
    found = []
    for _ in range(2):
        model = build(plan, torch.Generator().manual_seed(3)).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        losses = []
        for _ in range(30):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model.clamp()
            losses.append(loss.item())
        found.append((losses, {name: value.clone() for name, value in model.state_dict().items()}))
    assert min(found[0][0][-5:]) < 0.6 * found[0][0][0]
    assert found[0][0] == found[1][0]
    assert all(torch.equal(value, found[1][1][name]) for name, value in found[0][1].items())


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        (SMALL[1], "takes real inputs"),
        (SMALL[3], "block 0 of the network ternary has ternary weights and ternary activations"),
        (Architecture("r", BitPlaneEncoding(6), (Dense(7),), 3, last=Precision.REAL), "a last layer of real weights"),
    ],
)
def test_what_has_no_integers_is_not_folded(plan, says):
    with pytest.raises(UserMistake, match=says):
        fold(build(plan, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Architecture("a", BitPlaneEncoding(6), (), 3, shape=(2, 2)), "do not have 6 features"),
        (lambda: Architecture("a", BitPlaneEncoding(6), (Conv(2, (3,)),), 3), r"kernel of \(3,\), cannot take \(6,\)"),
        (lambda: Architecture("a", BitPlaneEncoding(6), (Conv(2, (7,)),), 3, shape=(1, 6)), "does not fit"),
        (
            lambda: Architecture(
                "a", BitPlaneEncoding(6), (Conv(2, (3,), pool=Pool(PoolKind.MAX, (5,))),), 3, shape=(1, 6)
            ),
            "do not fit a map",
        ),
        (lambda: Architecture("a", BitPlaneEncoding(6), (Conv(3, (3,), groups=2),), 3, shape=(2, 3)), "2 groups"),
        (lambda: Architecture("a", BitPlaneEncoding(6), (), 1), "1 classes"),
        (lambda: Dense(0), "0 outputs"),
        (lambda: Dense(5, dropout=1.0), "dropout of 1.0"),
        (lambda: BitPlaneEncoding(6, 9), "1 to 8"),
        (lambda: StochasticEncoding(6, presentations=0), "0 presentations"),
        (lambda: Architecture.from_json({"name": "a"}), "the description of an architecture is wrong"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, says):
    with pytest.raises(UserMistake, match=says):
        make()


def test_errors_are_injected_into_quantised_layers_alone_and_taken_out_again():
    model = build(SMALL[1], torch.Generator().manual_seed(0)).eval()
    signals = torch.randn(5, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = model(signals)
        model.inject(WeightErrorRates(inversion=0.2), np.random.default_rng(0))
        disturbed = model(signals)
        assert not torch.equal(disturbed, before)
        assert not torch.equal(model(signals), disturbed)
        assert [layer.errors is not None for layer in model.weight_layers()] == [False] * 5 + [True] * 2
        model.inject(None, np.random.default_rng(0))
        assert torch.equal(model(signals), before)


def test_the_gradient_passes_through_errors_and_the_hidden_weights_stay():
    model = build(SMALL[0], torch.Generator().manual_seed(0))
    model.inject(WeightErrorRates(inversion=0.3, loss=0.1, gain=0.2), np.random.default_rng(0))
    before = [layer.hidden.detach().clone() for layer in model.weight_layers()]
    model(torch.rand(6, 192, generator=torch.Generator().manual_seed(1)).mul_(255).round_()).square().sum().backward()
    for layer, old in zip(model.weight_layers(), before, strict=True):
        assert torch.equal(layer.hidden, old)
        assert layer.hidden.grad.abs().sum() > 0


def test_random_inputs_have_the_probability_of_their_pixels():
    encoding = StochasticEncoding(4, top=16, presentations=400, seed=1)
    images = np.array([[0, 4, 12, 16]], np.uint8)
    drawn = np.array([encoding.encode(images, k)[0] for k in range(400)])
    # 5 standard deviations of the mean of 400 draws
    assert np.allclose((drawn == 1).mean(0), images[0] / 16, atol=5 * math.sqrt(0.25 / 400))
    assert (drawn[:, 0] == -1).all()
    assert (drawn[:, 3] == 1).all()


def test_bit_planes_add_up_to_the_centred_grey_level():
    levels = BitPlaneEncoding(16, 4).encode(np.arange(16, dtype=np.uint8)[None])[0]
    planes = np.where(np.arange(16)[:, None] >> np.arange(4) & 1, 1, -1)
    assert np.array_equal(levels, planes @ (1 << np.arange(4)))
