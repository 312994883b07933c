from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from models.architectures import Architecture, Conv, Precision
from models.cells import Geometry
from models.convolution_shapes import Pool, PoolKind
from models.error_positions import error_positions
from models.error_rates import CellErrors, Counted, MeasuredMap, TurnedErrors
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, ThermometerEncoding, classify
from models.networks import fold
from models.prediction import (
    CountedRate,
    EstimatedRate,
    InferenceMode,
    ReadErrorRates,
    flip_weights,
    impose_stuck,
    predict_accuracy,
    stuck_cells,
)
from tests.models.random_networks import random_network

ARRAY = Geometry(8, 12)
BATCH = 32


def known(rate: float) -> EstimatedRate:
    return EstimatedRate(rate, rate, rate)


def rates(stuck: float = 0.0, random: float = 0.0, transient: float = 0.0) -> ReadErrorRates:
    return ReadErrorRates(known(stuck), known(random), known(transient))


def random_layer(rng: np.random.Generator, outputs: int, inputs: int) -> IntegerLayer:
    sign = rng.choice([-1, 1], size=outputs)
    return IntegerLayer(rng.choice([-1, 1], size=(outputs, inputs)), sign, rng.integers(-4, 5, size=outputs))


@pytest.fixture(scope="module")
def problem():
    """A random network with the labels that it answers itself: any error can only cost accuracy."""
    rng = np.random.default_rng(0)
    layers = (random_layer(rng, 21, 30), random_layer(rng, 4, 21))
    network = IntegerNetwork("net", ThermometerEncoding(15, (4, 12)), layers, 4)
    images = rng.integers(0, 17, size=(80, 15)).astype(np.uint8)
    return network, images, network.predict(images)


def brute_force(problem, model, mode, draws, rng):
    """Every product of every sum is formed and, where it errs, turned by itself."""
    network, images, labels = problem
    accuracies = []
    for _ in range(draws):
        sampled = model.sample(rng)
        stuck = stuck_cells(ARRAY, sampled.stuck_fraction, rng)
        x = network.encode(images)
        for index, layer in enumerate(network.layers):
            weights = layer.weights.copy()
            for i in range(layer.outputs):
                for j in range(layer.inputs):
                    if rng.random() < sampled.random_rate:
                        weights[i, j] *= -1
                    cell = stuck[i % ARRAY.rows, j % ARRAY.cols]
                    weights[i, j] = cell if cell != 0 else weights[i, j]
            every = {InferenceMode.HOST: len(x), InferenceMode.SENSED: BATCH, InferenceMode.XNOR: 1}[mode]
            errors = np.where(rng.random((-(-len(x) // every), *weights.shape)) < sampled.transient_rate, -1, 1)
            errors = np.repeat(errors, every, axis=0)[: len(x)]
            sums = (x[:, None, :] * weights * errors).sum(axis=2)
            last = index == len(network.layers) - 1
            x = layer.scores(sums) if last else layer.activate(sums)
        accuracies.append(np.mean(classify(x) == labels))
    return np.array(accuracies)


@pytest.mark.parametrize("mode", InferenceMode)
@pytest.mark.parametrize(
    "model",
    [rates(transient=0.03), rates(random=0.03), rates(stuck=0.04), rates(0.01, 0.01, 0.02)],
    ids=["transient", "random", "stuck", "all"],
)
def test_prediction_agrees_with_brute_force(problem, mode, model):
    rng = np.random.default_rng(1)
    dense = brute_force(problem, model, mode, 150, rng)
    ours = predict_accuracy(*problem, model, ARRAY, 600, rng, mode, batch=BATCH).samples
    # 4 standard errors of the difference; spreads within a third of each other
    error = math.hypot(dense.std() / math.sqrt(150), ours.std() / math.sqrt(600))
    assert abs(ours.mean() - dense.mean()) < 4 * error
    assert 0.67 < ours.std() / dense.std() < 1.5
    assert ours.mean() < 0.97


@pytest.mark.parametrize("mode", InferenceMode)
def test_without_errors_silicon_is_software(problem, mode):
    network, images, _ = problem
    labels = np.random.default_rng(5).integers(0, 4, size=len(images))
    found = predict_accuracy(network, images, labels, rates(), ARRAY, 20, np.random.default_rng(1), mode)
    software = network.accuracy(images, labels)
    assert (found.mean, found.low, found.high) == (software, software, software)
    assert (found.samples == software).all()


def test_the_interval_is_rounded_outwards_to_sampled_accuracies(problem):
    model = rates(0.005, 0.005, 0.005)
    found = predict_accuracy(*problem, model, ARRAY, 203, np.random.default_rng(1), InferenceMode.XNOR)
    assert found.low in found.samples
    assert found.high in found.samples
    assert found.low <= np.quantile(found.samples, 0.025)
    assert np.quantile(found.samples, 0.975) <= found.high
    assert np.allclose(found.samples * 80, np.round(found.samples * 80))
    narrow = predict_accuracy(*problem, model, ARRAY, 203, np.random.default_rng(1), InferenceMode.XNOR, 0.5)
    assert np.array_equal(narrow.samples, found.samples)
    assert found.low < narrow.low <= narrow.high < found.high


def test_two_draws_are_the_bounds_themselves(problem):
    model = rates(0.01, 0.01, 0.01)
    found = predict_accuracy(*problem, model, ARRAY, 2, np.random.default_rng(1), InferenceMode.XNOR)
    assert found.low == found.samples.min() < found.mean < found.samples.max() == found.high


def test_what_is_not_known_of_the_rates_widens_the_interval(problem):
    unsure = ReadErrorRates(known(0.0), EstimatedRate(0.02, 0.0, 0.15), known(0.0))
    sure = predict_accuracy(*problem, rates(random=0.02), ARRAY, 300, np.random.default_rng(1), InferenceMode.HOST)
    wide = predict_accuracy(*problem, unsure, ARRAY, 300, np.random.default_rng(1), InferenceMode.HOST)
    assert wide.samples.std() > 1.3 * sure.samples.std()


def test_stuck_cells_meet_every_tile_at_the_same_place():
    stuck = np.array([[0, 1, 0], [-1, 0, 0]], np.int8)
    weights = np.full((5, 4), -1, np.int8)
    assert impose_stuck(weights, stuck).tolist() == [
        [-1, 1, -1, -1],
        [-1, -1, -1, -1],
        [-1, 1, -1, -1],
        [-1, -1, -1, -1],
        [-1, 1, -1, -1],
    ]
    assert impose_stuck(-weights, stuck).sum() == 20 - 2 * 4  # two rows of two tiles, the -1 cell in each


def test_stuck_cells_have_the_fraction_asked_for_and_even_signs():
    stuck = stuck_cells(Geometry(300, 300), 0.1, np.random.default_rng(0))
    assert np.mean(stuck != 0) == pytest.approx(0.1, abs=0.004)  # 4 standard errors
    assert np.mean(stuck[stuck != 0] == 1) == pytest.approx(0.5, abs=0.022)


def test_flips_have_the_rate_asked_for_and_leave_zeros():
    weights = np.resize(np.array([-1, 0, 1], np.int8), (300, 300))
    flipped = flip_weights(weights, 0.05, np.random.default_rng(0))
    assert (flipped[weights == 0] == 0).all()
    assert np.mean(flipped[weights != 0] != weights[weights != 0]) == pytest.approx(0.05, abs=0.004)
    assert np.array_equal(flip_weights(weights, 0.0, np.random.default_rng(0)), weights)
    assert np.array_equal(flip_weights(weights, 1.0, np.random.default_rng(0)), -weights)


def test_counts_give_the_posterior_of_jeffreys():
    rng = np.random.default_rng(0)
    draws = np.array([CountedRate(3, 1000).sample(rng) for _ in range(4000)])
    assert draws.mean() == pytest.approx(3.5 / 1001, rel=0.05)
    assert np.array([CountedRate(0, 1000).sample(rng) for _ in range(100)]).max() > 0


def test_an_estimate_gives_its_own_quantiles():
    rate = EstimatedRate(0.002, 0.001, 0.005)
    draws = np.array([rate.sample(np.random.default_rng(seed)) for seed in range(6000)])
    low, median, high = np.quantile(draws, [0.025, 0.5, 0.975])
    assert (low, median, high) == (
        pytest.approx(0.001, abs=1e-4),
        pytest.approx(0.002, abs=1e-4),
        pytest.approx(0.005, abs=3e-4),
    )
    assert (draws >= 0).all()
    assert (draws <= 0.008).all()


def test_an_estimate_of_no_error_has_the_mean_of_its_posterior():
    # median and bounds of Beta(1/2, 1000 + 1/2), whose mean is 0.5 / 1001
    rng, rate = np.random.default_rng(3), EstimatedRate(2.28e-4, 0.0, 2.51e-3)
    assert np.mean([rate.sample(rng) for _ in range(20000)]) == pytest.approx(0.5 / 1001, rel=0.12)


def test_cells_with_a_fixed_output_act_in_xnor_alone(problem):
    network, images, labels = problem
    none = known(0.0)
    fixed = ReadErrorRates(none, none, none, known(1.0))
    arguments = (network, images, labels, fixed, ARRAY, 3, np.random.default_rng(0))
    assert predict_accuracy(*arguments, InferenceMode.HOST).mean == 1.0
    # every sum is that of the weights, whatever the image: one class is answered to all
    same = max(np.bincount(labels)) / len(labels)
    assert predict_accuracy(*arguments, InferenceMode.XNOR).high <= same < 1.0


def small_network(weights: Precision, rng: np.random.Generator):
    """A convolutional network with images and its own answers."""
    convolution = Conv(4, (3, 3), padding=(1, 1), pool=Pool(PoolKind.MAX, (2, 2)), groups=2, weights=weights)
    plan = Architecture("small", ThermometerEncoding(72, (8,)), (convolution,), 3, shape=(2, 6, 6), last=weights)
    network = fold(random_network(plan, 2))
    images = rng.integers(0, 16, (60, 72)).astype(np.uint8)
    return network, images, network.predict(images)


@pytest.mark.parametrize("mode", InferenceMode)
def test_a_measured_map_is_met_where_the_plan_puts_the_weights(mode):
    # the weights are sound but for the cells that a plan makes them lie on
    rng = np.random.default_rng(3)
    network, images, labels = small_network(Precision.BINARY, rng)
    array = Geometry(8, 80)
    stuck = np.zeros(array, np.int8)
    stuck[:4] = rng.choice((-1, 1), size=(4, 80))
    senses = np.full(array, 10**7)
    wrong = np.zeros(array, int)
    wrong[:4] = 5 * 10**6
    here = MeasuredMap(stuck, CellErrors(Counted(wrong, senses)))
    rates_alone = rates(0.5, 0.0, 0.5)  # of which the map takes the place
    subject = (network, images, labels, rates_alone)
    away = [(4 + np.indices(one.weights.shape)[0] % 4, np.indices(one.weights.shape)[1]) for one in network.layers]
    found = {
        name: predict_accuracy(*subject, array, 20, rng, mode, places=places, measured=here)
        for name, places in (("on", None), ("away", away))
    }
    assert found["away"].mean > 0.995
    assert found["on"].high < 0.9
    # the same where programming is known to fail there
    quiet, nothing = CellErrors(Counted(np.zeros(array), senses)), np.zeros(array, np.int8)
    here = MeasuredMap(nothing, quiet, CellErrors(Counted(wrong, senses)))
    assert predict_accuracy(*subject, array, 20, rng, mode, measured=here).high < 0.95
    assert predict_accuracy(*subject, array, 20, rng, mode, places=away, measured=here).mean > 0.995


@pytest.mark.parametrize("mode", InferenceMode)
def test_ternary_networks_need_rates_of_zeros(mode):
    rng = np.random.default_rng(3)
    network, images, labels = small_network(Precision.TERNARY, rng)
    none = known(0.0)
    arguments = (ARRAY, 40, rng, mode)
    with pytest.raises(UserMistake, match="type 2 and type 3"):
        predict_accuracy(network, images, labels, rates(), *arguments)
    exact = ReadErrorRates(none, none, none, none, none, none, none, none)
    assert predict_accuracy(network, images, labels, exact, *arguments).low == 1.0
    for name in ("random_loss", "random_gain", "transient_loss", "transient_gain"):
        found = predict_accuracy(network, images, labels, replace(exact, **{name: known(0.2)}), *arguments)
        assert found.mean < 1.0, name


def test_zeros_that_answer_at_minus_one_have_the_sign_of_their_column():
    # against products one by one; that the signs are shared in a column shifts all sums alike
    rng = np.random.default_rng(5)
    layers = tuple(
        IntegerLayer(rng.integers(-1, 2, size=shape), np.ones(shape[0], int), rng.integers(-2, 3, shape[0]))
        for shape in ((21, 40), (4, 21))
    )
    network = IntegerNetwork("net", ThermometerEncoding(20, (4, 12)), layers, 4)
    images = rng.integers(0, 17, size=(120, 20)).astype(np.uint8)
    labels = network.predict(images)
    often, up = 0.25, np.where(np.arange(ARRAY.cols) < 9, 10**6, 0)
    trials = np.full(ARRAY, 10**6)
    never = Counted(np.zeros(ARRAY, int), trials)
    quiet = CellErrors(never, never, never)
    turned = TurnedErrors(never, never, Counted((often * trials).astype(int), trials), up, 10**6 - up)
    here = MeasuredMap(np.zeros(ARRAY, np.int8), quiet, quiet, turned)
    arguments = (network, images, labels, rates(), ARRAY, 200, rng)
    found = predict_accuracy(*arguments, InferenceMode.XNOR, measured=here).samples
    assert predict_accuracy(*arguments, InferenceMode.HOST, measured=here).mean == pytest.approx(1.0, abs=0.01)
    theirs = []
    for _ in range(200):
        x = network.encode(images)
        for layer in layers:
            sign = np.where(np.indices(layer.weights.shape)[1] % ARRAY.cols < 9, 1, -1)
            off = sign * ((layer.weights == 0) & (rng.random(layer.weights.shape) < often))
            sums = x @ layer.weights.T.astype(int) + (x == -1) @ off.T
            x = layer.scores(sums) if layer is layers[-1] else layer.activate(sums)
        theirs.append(np.mean(classify(x) == labels))
    error = math.hypot(np.std(theirs), found.std()) / math.sqrt(200)
    assert abs(found.mean() - np.mean(theirs)) < 4 * error
    assert 0.8 < found.std() / np.std(theirs) < 1.25
    assert found.mean() < 0.9
    with pytest.raises(UserMistake, match="different sizes"):
        TurnedErrors(never, never, never, up[:3], up[:3])


def test_rates_of_cells_are_shrunk_to_their_population():
    # 4000 cells of a beta population, 50 senses each: the plausible rates have its mean and its spread, errors or not
    rng = np.random.default_rng(6)
    true = rng.beta(0.5, 49.5, (50, 80))
    counted = Counted(rng.binomial(50, true), np.full(true.shape, 50))
    drawn = np.stack([counted.sample(rng) for _ in range(60)])
    assert drawn.mean() == pytest.approx(true.mean(), rel=0.1)
    assert drawn.std() == pytest.approx(true.std(), rel=0.15)
    unseen, seen = counted.wrong == 0, counted.wrong == 1
    assert drawn[:, unseen].mean() == pytest.approx(true[unseen].mean(), rel=0.2)
    assert drawn[:, seen].mean() == pytest.approx(true[seen].mean(), rel=0.2)
    # nothing seen at all is not the same as nothing to come
    quiet = Counted(np.zeros((8, 8), int), np.full((8, 8), 20))
    means = [quiet.sample(rng).mean() for _ in range(300)]
    assert 0.0 < np.mean(means) < 5 / (64 * 20)
    with pytest.raises(UserMistake, match="no more than the senses"):
        Counted(np.full((2, 2), 3), np.full((2, 2), 2))


def test_the_same_generator_gives_the_same_prediction(problem):
    first, again, other = (
        predict_accuracy(*problem, rates(0.01, 0.01, 0.01), ARRAY, 30, np.random.default_rng(seed), InferenceMode.XNOR)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CountedRate(3, 2),
        lambda: CountedRate(-1, 2),
        lambda: CountedRate(0, 0),
        lambda: EstimatedRate(0.1, 0.2, 0.3),
        lambda: EstimatedRate(0.1, 0.0, 1.1),
        lambda: EstimatedRate(math.nan, 0.0, 1.0),
    ],
)
def test_impossible_rates_are_refused(make):
    with pytest.raises(UserMistake):
        make()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"draws": 0}, "0 draws"),
        ({"coverage": 1.0}, "coverage"),
        ({"mode": "analog"}, "'analog'; there are: host, sensed, xnor"),
        ({"labels": np.zeros(3, int)}, "80 images with 3 labels"),
        ({"images": np.zeros((0, 15), np.uint8), "labels": np.zeros(0, int)}, "0 images"),
    ],
)
def test_impossible_questions_are_refused(problem, change, says):
    network, images, labels = problem
    question = {
        "network": network,
        "images": images,
        "labels": labels,
        "error_model": rates(),
        "array": ARRAY,
        "draws": 5,
        "rng": np.random.default_rng(0),
        "mode": InferenceMode.HOST,
    }
    with pytest.raises(UserMistake, match=says):
        predict_accuracy(**{**question, **change})


@pytest.mark.parametrize("rate", [1e-4, 1e-2, 0.3, 0.95])
def test_error_positions_are_independent_trials(rate: float) -> None:
    # Counts of 400 draws of 20 000 trials: binomial mean and variance within five standard errors.
    rng = np.random.default_rng(8)
    trials, draws = 20_000, 400
    found = [error_positions(trials, rate, rng) for _ in range(draws)]
    counts = np.array([len(positions) for positions in found])
    variance = trials * rate * (1 - rate)
    assert counts.mean() == pytest.approx(trials * rate, abs=5 * np.sqrt(variance / draws))
    assert counts.var() == pytest.approx(variance, rel=5 * np.sqrt(2 / draws))
    for positions in found[:20]:
        assert (np.diff(positions) > 0).all()
        assert positions.size == 0 or (positions[0] >= 0 and positions[-1] < trials)
    # No place is favoured: the mean position is the middle, within five standard errors.
    everywhere = np.concatenate(found)
    assert everywhere.mean() == pytest.approx(trials / 2, abs=5 * trials / np.sqrt(12 * len(everywhere)))
