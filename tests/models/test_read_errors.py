from __future__ import annotations

import numpy as np
import pytest

from models.architectures import Architecture, Conv, Dense, Precision, mlp
from models.convolution_shapes import PaddingValue, Pool, PoolKind
from models.encodings import BitPlaneEncoding, StochasticEncoding, ThermometerEncoding, magnitude, presented
from models.error_aliases import aliases
from models.exceptions import UserMistake
from models.integer import MAX_THRESHOLD, IntegerLayer, IntegerNetwork
from models.networks import fold
from models.packed import PackedNetwork
from models.presenting import present
from models.read_errors import ErringNetwork
from models.weight_errors import WeightErrorRates, WeightErrors
from tests.models.random_networks import random_network

TILE = 12
ZERO, MINUS = PaddingValue.ZERO, PaddingValue.MINUS


def erring_products(values, weights, rates, rng, turned=0):
    """Sums of vectors of -1 and +1 with a matrix, each product sensed by itself; off by ``turned`` for each -1."""
    shape = (len(values), *weights.shape)
    inversion, loss, gain = (np.broadcast_to(r, weights.shape) for r in (rates.inversion, rates.loss, rates.gain))
    u, sign = rng.random(shape), rng.choice((-1, 1), size=shape)
    products = values[:, None, :] * weights
    changed = np.where(u < inversion, -products, np.where(u < inversion + loss, 0, products))
    off = (values[:, None, :] == -1) * turned
    return (np.where(weights == 0, np.where(u < gain, sign, 0), changed) + off).sum(axis=2)


def erring_scores(network, images, rates, rng, turned=None):
    """Scores of an array that is presented vectors tile by tile, group by group, plane by plane."""
    total = 0
    for x in presented(network.encoding, images):
        planes = network.encoding.planes
        for index, (layer, own) in enumerate(zip(network.layers, rates, strict=True)):
            met = layer.unfold(x)
            n, positions, groups, columns = met.shape
            rows = len(layer.weights) // groups
            doubled = np.zeros((n, positions, len(layer.weights)), dtype=np.int64)
            for group in range(groups):
                held = slice(group * rows, (group + 1) * rows)
                values = met[:, :, group].reshape(-1, columns)
                for first in range(0, columns, TILE):
                    tile = slice(first, first + TILE)
                    shown = present(values[:, tile], planes)
                    part = WeightErrorRates(
                        *(
                            np.broadcast_to(rate, layer.weights.shape)[held, tile]
                            for rate in (own.inversion, own.loss, own.gain)
                        )
                    )
                    off = 0 if turned is None else turned[index][held, tile]
                    sums = erring_products(shown.vectors, layer.weights[held, tile], part, rng, off)
                    doubled[:, :, held] += shown.doubled(sums).reshape(n, positions, rows)
            sums = layer.collect((doubled >> 1).astype(np.int32))
            x, planes = layer.activate(sums), 1
        total = total + layer.scores(sums)
    return total


def layered(rng, network, low, high, ternary):
    """A map of rates for each layer, spread over several powers of two."""
    maps = []
    for layer in network.layers:
        maps.append(
            WeightErrorRates(
                *(
                    np.exp(rng.uniform(np.log(low), np.log(high), layer.weights.shape)) * k
                    for k in (1, ternary, ternary)
                )
            )
        )
    return maps


def conv_net(name, blocks, encoding, shape):
    return Architecture(name, encoding, blocks, 3, shape=shape)


NETWORKS = [
    mlp("planes", BitPlaneEncoding(9, 3), (70,), 3),
    mlp("ternary", StochasticEncoding(20, 15, 2), (12,), 3, weights=Precision.TERNARY),
    conv_net(
        "1-D, groups, two planes, zeros around",
        (Conv(6, (5,), padding=(2,), groups=2, padding_value=ZERO), Dense(5)),
        BitPlaneEncoding(4 * 8, 2),
        (4, 8),
    ),
    conv_net(
        "2-D, pooled, -1 around, ternary",
        (Conv(6, (3, 3), padding=(1, 1), pool=Pool(PoolKind.MAX, (2, 2)), weights=Precision.TERNARY), Dense(5)),
        ThermometerEncoding(2 * 16, (8,)),
        (2, 4, 4),
    ),
    conv_net(
        "sums pooled, strides, ternary with zeros around",
        (
            Conv(
                6,
                (3, 2),
                (2, 1),
                (1, 0),
                padding_value=ZERO,
                pool=Pool(PoolKind.SUM, (2, 2), (1, 1)),
                weights=Precision.TERNARY,
            ),
            Conv(4, (1, 2)),
        ),
        ThermometerEncoding(2 * 30, (8,)),
        (2, 6, 5),
    ),
]


@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda one: one.name)
@pytest.mark.parametrize("kinds", [0, 1], ids=["signs", "all types"])
def test_scores_have_the_distribution_of_single_senses(architecture, kinds):
    network = fold(random_network(architecture, 3))
    rng = np.random.default_rng(1)
    images = rng.integers(
        0,
        8 if network.encoding.planes == 3 else 4 if network.encoding.planes == 2 else 16,
        (2, network.encoding.features),
    )
    draws = 600 if network.encoding.presentations > 1 else 1500
    rates = layered(rng, network, 0.002, 0.2, 0.8 * kinds)
    if not kinds:
        rates = [WeightErrorRates(np.asarray(own.inversion), 0.0, 0.0) for own in rates]
    many = np.repeat(images.astype(np.uint8), draws, axis=0)
    if network.encoding.presentations > 1:
        # inputs belong to the place in the batch: the same ones for both, a batch at a time
        erring = ErringNetwork(network, rates, rng, tile_columns=TILE)
        ours = np.stack([erring.scores(images.astype(np.uint8)) for _ in range(draws)], axis=1)
        theirs = np.stack([erring_scores(network, images.astype(np.uint8), rates, rng) for _ in range(draws)], axis=1)
    else:
        ours = ErringNetwork(network, rates, rng, tile_columns=TILE).scores(many).reshape(2, draws, -1)
        theirs = erring_scores(network, many, rates, rng).reshape(2, draws, -1)
    # means within 4.5 standard errors of their difference; standard deviations within 15 %
    error = np.sqrt((ours.var(axis=1) + theirs.var(axis=1)) / draws)
    assert (np.abs(ours.mean(axis=1) - theirs.mean(axis=1)) < 4.5 * error + 1e-9).all()
    assert np.allclose(ours.std(axis=1), theirs.std(axis=1), rtol=0.15)
    assert ours.std(axis=1).min() > 0.5


@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda one: one.name)
def test_products_that_are_off_at_minus_one_add_up_exactly(architecture):
    network = fold(random_network(architecture, 3))
    rng = np.random.default_rng(2)
    levels = 16 if network.encoding.planes == 1 else 1 << network.encoding.planes
    images = rng.integers(0, levels, (20, network.encoding.features)).astype(np.uint8)
    turned = [
        (rng.integers(-2, 3, one.weights.shape) * (rng.random(one.weights.shape) < 0.2)).astype(np.int8)
        for one in network.layers
    ]
    none = [WeightErrorRates() for _ in network.layers]
    ours = ErringNetwork(network, none, rng, tile_columns=TILE, turned=turned).scores(images)
    assert np.array_equal(ours, erring_scores(network, images, none, rng, turned))
    assert not np.array_equal(ours, network.scores(images))


def one_layer(weights):
    rows = len(weights)
    return IntegerNetwork(
        "one",
        ThermometerEncoding(weights.shape[1], (1,)),
        (IntegerLayer(weights, np.ones(rows, int), np.zeros(rows, int)),),
        rows,
    )


@pytest.mark.parametrize("rate", [1e-3, 0.03, 0.5, 1.0])
def test_errors_of_one_sum_are_binomial(rate):
    # chi-square against Binomial(70, rate): every input agrees, so a score is 70 less twice the errors
    from scipy import stats

    network = one_layer(np.ones((65, 70), np.int8))
    rates = [WeightErrorRates(inversion=rate)]
    scores = ErringNetwork(network, rates, np.random.default_rng(4)).scores(np.ones((600, 70), np.uint8))
    assert ((70 - scores) % 2 == 0).all()
    counts = np.bincount((70 - scores).ravel() // 2, minlength=71)
    expected = stats.binom.pmf(np.arange(71), 70, rate) * scores.size
    if rate == 1.0:
        assert counts[70] == scores.size
        return
    often = expected >= 8
    seen, wanted = np.append(counts[often], counts[~often].sum()), np.append(expected[often], expected[~often].sum())
    seen, wanted = seen[wanted > 0.5], wanted[wanted > 0.5]
    assert stats.chi2.sf((np.square(seen - wanted) / wanted).sum(), len(seen) - 1) > 1e-4


@pytest.mark.parametrize("rate", [1e-4, 1e-3, 0.03, 0.1])
def test_hidden_neurons_fire_as_often_as_binomial_errors_allow(rate):
    # neurons that differ in their thresholds alone, two of them out of reach; a last layer that does not err shows them
    from scipy import stats

    columns, rows, images = 70, 66, 20001
    threshold = np.array([-MAX_THRESHOLD, MAX_THRESHOLD, *range(columns - 2 * (rows - 3), columns + 1, 2)])
    hidden = IntegerLayer(np.ones((rows, columns), np.int8), np.ones(rows, int), threshold)
    shown = IntegerLayer((2 * np.eye(rows) - 1).astype(np.int8), np.ones(rows, int), np.zeros(rows, int))
    network = IntegerNetwork("hidden", ThermometerEncoding(columns, (1,)), (hidden, shown), rows)
    rates = [WeightErrorRates(inversion=rate), WeightErrorRates()]
    scores = ErringNetwork(network, rates, np.random.default_rng(8)).scores(np.ones((images, columns), np.uint8))
    # of each image, the neuron at +1 scores more than the one at -1 by 4
    fired = scores == scores.max(axis=1, keepdims=True)
    assert fired[:, 0].all()
    assert not fired[:, 1].any()
    expected = stats.binom.cdf((columns - threshold[2:]) // 2, columns, rate)
    spread = np.sqrt(expected * (1 - expected) / images)
    # 4.5 standard deviations, and one image where a neuron is all but certain
    assert (np.abs(fired[:, 2:].mean(axis=0) - expected) <= 4.5 * spread + 1 / images).all()


def test_each_cell_errs_with_its_own_rate_and_a_rate_of_zero_never():
    # one weight of a row at a time has a rate: its errors are counted in that row's score
    rng = np.random.default_rng(5)
    rates = 2.0 ** -rng.integers(1, 12, 64)
    rates[::8] = 0.0
    network = one_layer(rng.choice(np.array([-1, 1], np.int8), size=(64, 64)))
    draws = 40000
    errors = ErringNetwork(network, [WeightErrorRates(np.diag(rates))], rng).scores(np.ones((draws, 64), np.uint8))
    errors = (errors != network.scores(np.ones((1, 64), np.uint8))).mean(axis=0)
    assert (errors[::8] == 0).all()
    assert (np.abs(errors - rates) <= 4.5 * np.sqrt(rates * (1 - rates) / draws)).all()


def test_hits_are_dealt_out_in_proportion_to_the_rates():
    # a place goes to its own cell with its share, else to the other one; a cell errs where it is hit at least once
    rng = np.random.default_rng(6)
    rates = np.exp(rng.normal(-8, 2, (70, 100))).clip(0, 0.9)
    rates[rng.random(rates.shape) < 0.1] = 0.0
    tables = aliases(rates, 1, 2, 13)
    for block in range(2):
        own = tables.shares[0, block] / 2.0**64
        chance = own.copy()
        np.add.at(chance, tables.cells[0, block] & 0x1FFF, 1.0 - own)
        found = -np.expm1(-chance * tables.totals[0, block] / 2**13)
        here = rates[64 * block : 64 * block + 64]
        column, output = np.arange(100), np.arange(len(here))[:, None]
        errs = found[column // 64 << 12 | output << 6 | column % 64]
        assert np.allclose(errs, here, rtol=1e-9, atol=1e-14)
        assert (errs[here == 0.0] == 0.0).all()
        assert np.isclose(-np.log1p(-found).sum(), tables.totals[0, block])


def test_answers_do_not_depend_on_threads_and_without_errors_are_exact():
    network = fold(random_network(NETWORKS[3], 3))
    images = np.random.default_rng(1).integers(0, 16, (70000 // 8, network.encoding.features)).astype(np.uint8)
    none = [WeightErrorRates()] * len(network.layers)
    some = [WeightErrorRates(0.01, 0.01, 0.01)] * len(network.layers)
    exact = PackedNetwork(network).scores(images[:300])
    assert np.array_equal(ErringNetwork(network, none, np.random.default_rng(0)).scores(images[:300]), exact)
    for batch in (None, 64):
        one, two = (
            ErringNetwork(network, some, np.random.default_rng(7), batch=batch, threads=threads) for threads in (1, 2)
        )
        first = one.scores(images[:3000])
        assert np.array_equal(first, two.scores(images[:3000]))
        assert not np.array_equal(first, one.scores(images[:3000]))


@pytest.mark.parametrize("architecture", NETWORKS, ids=lambda one: one.name)
def test_weights_sensed_for_a_batch_err_for_all_of_it_alike(architecture):
    # images of one batch are all the same, so their scores are; over batches they are those of disturbed weights
    network = fold(random_network(architecture, 3))
    if network.encoding.presentations > 1:
        network = IntegerNetwork(
            "once", ThermometerEncoding(network.encoding.features, (8,)), network.layers, network.classes
        )
    rng = np.random.default_rng(2)
    top = magnitude(network.encoding) if network.encoding.planes > 1 else 15
    image = rng.integers(0, top + 1, (1, network.encoding.features)).astype(np.uint8)
    rates, draws = [WeightErrorRates(0.05, 0.04, 0.06)] * len(network.layers), 1000
    scores = ErringNetwork(network, rates, rng, batch=3).scores(np.repeat(image, 3 * draws, axis=0))
    ours = scores.reshape(draws, 3, -1)
    assert (ours == ours[:, :1]).all()
    errors = WeightErrors(rates[0], rng)
    theirs = np.concatenate(
        [
            network.with_weights([errors.disturbed(one.weights) for one in network.layers]).scores(image)
            for _ in range(draws)
        ]
    )
    error = np.sqrt((ours[:, 0].var(axis=0) + theirs.var(axis=0)) / draws)
    assert (np.abs(ours[:, 0].mean(axis=0) - theirs.mean(axis=0)) < 4.5 * error).all()
    assert np.allclose(ours[:, 0].std(axis=0), theirs.std(axis=0), rtol=0.15)


@pytest.mark.parametrize(
    ("rates", "extra", "says"),
    [
        ([], {}, "0 layers"),
        ([WeightErrorRates(np.zeros((3, 3)))], {}, "shape of the weights"),
        ([WeightErrorRates()], {"batch": 0}, "at least 1"),
        ([WeightErrorRates()], {"threads": 0}, "threads"),
    ],
)
def test_impossible_requests_are_refused(rates, extra, says):
    network = one_layer(np.ones((2, 5), np.int8))
    with pytest.raises(UserMistake, match=says):
        ErringNetwork(network, rates, np.random.default_rng(0), **extra)
