"""What accuracy the silicon will show, with an interval: read errors sampled into the integer network.

Three kinds of read error, each with its own rate:

- *stuck cells* sit at the same place in every tile that the layers are cut into, since all tiles are programmed into
  the same array one after the other. A stuck cell always reads the same sign, and so is wrong for about half of the
  weights that come to lie on it;
- *random programming errors*, left over after bounded attempts to verify, are independent from weight to weight;
- *transient errors* of the sense amplifier are fresh at every sense.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.cells import Geometry, Weights
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, classify, exact_sums


class InferenceMode(StrEnum):
    """Where the sums are taken: from weights sensed once, on the host; or by XNOR in the array, input by input."""

    HOST = "host"
    XNOR = "xnor"


class Rate(Protocol):
    """An error rate that is known with an uncertainty."""

    def sample(self, rng: np.random.Generator) -> float:
        """One plausible value, between 0 and 1."""


@dataclass(frozen=True)
class CountedRate:
    """A rate known from ``errors`` among ``trials``: Beta(errors + 1/2, trials - errors + 1/2), Jeffreys' posterior."""

    errors: int
    trials: int

    def __post_init__(self) -> None:
        """Raise UserMistake for impossible counts."""
        if not 0 <= self.errors <= self.trials or self.trials < 1:
            raise UserMistake(f"{self.errors} errors among {self.trials} trials give no rate")

    def sample(self, rng: np.random.Generator) -> float:
        """One draw from the posterior."""
        return float(rng.beta(self.errors + 0.5, self.trials - self.errors + 0.5))


@dataclass(frozen=True)
class EstimatedRate:
    """A rate known by its median and the bounds of its central 95 %.

    Between these three, and for as long again beyond the bounds as within 0 to 1, the quantiles are interpolated
    linearly.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        """Raise UserMistake for anything but 0 <= low <= value <= high <= 1 (which also refuses NaN)."""
        if not 0.0 <= self.low <= self.value <= self.high <= 1.0:
            raise UserMistake(
                f"error rate {self.value} with bounds {self.low} to {self.high}; "
                "expected 0 <= low <= value <= high <= 1"
            )

    def sample(self, rng: np.random.Generator) -> float:
        """One draw by inversion of the interpolated quantiles."""
        lowest, highest = max(0.0, 2 * self.low - self.value), min(1.0, 2 * self.high - self.value)
        quantiles = (lowest, self.low, self.value, self.high, highest)
        return float(np.interp(rng.random(), (0.0, 0.025, 0.5, 0.975, 1.0), quantiles))


@dataclass(frozen=True)
class ReadErrorRates:
    """The error model of an array.

    Attributes:
        stuck_fraction: share of cells that always read the same sign.
        random_rate: chance that a weight was left programmed with the wrong sign.
        transient_rate: chance that one sense answers the wrong sign.
    """

    stuck_fraction: Rate
    random_rate: Rate
    transient_rate: Rate

    def sample(self, rng: np.random.Generator) -> SampledRates:
        """One plausible set of rates."""
        return SampledRates(**{item.name: getattr(self, item.name).sample(rng) for item in fields(self)})


@dataclass(frozen=True)
class SampledRates:
    """One draw of :class:`ReadErrorRates`."""

    stuck_fraction: float
    random_rate: float
    transient_rate: float


@dataclass(frozen=True, eq=False)
class Prediction:
    """Accuracy predicted for the silicon, on the images asked about.

    Attributes:
        mean: over the samples.
        low, high: bounds of the central interval, rounded outwards to accuracies that were sampled.
        samples: ``(draws,)``.
    """

    mean: float
    low: float
    high: float
    samples: NDArray[np.float64]


def error_positions(trials: int, rate: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which of ``trials`` independent trials err with probability ``rate``: rising indices ``(n,)``.

    The gaps between errors are geometric, so the cost goes with the errors and not with the trials. Exact.
    """
    if rate <= 0.0:
        return np.zeros(0, dtype=np.int64)
    found: list[NDArray[np.int64]] = []
    last, expected = -1, trials * rate
    while last < trials:
        gaps = rng.geometric(rate, size=max(16, int((trials - last) * rate + 4.0 * math.sqrt(expected))))
        # A gap beyond the end ends the search whatever it is; cut there, sums of gaps cannot overflow.
        found.append(last + np.cumsum(np.minimum(gaps, trials + 1)))
        last = int(found[-1][-1])
    positions = np.concatenate(found)
    return positions[: int(np.searchsorted(positions, trials))]


def flip_weights(weights: Weights, rate: float, rng: np.random.Generator) -> Weights:
    """Turn each weight's sign with probability ``rate``; a zero weight stays zero."""
    flipped = weights.copy()
    positions = error_positions(weights.size, rate, rng)
    flipped.flat[positions] = -flipped.flat[positions]
    return flipped


def stuck_cells(array: Geometry, fraction: float, rng: np.random.Generator) -> NDArray[np.int8]:
    """An array's stuck cells ``(rows, cols)``: +1 or -1, at even odds, where a cell is stuck, 0 elsewhere."""
    stuck = rng.random(tuple(array)) < fraction
    return np.where(stuck, rng.choice((-1, 1), size=tuple(array)), 0).astype(np.int8)


def impose_stuck(weights: Weights, stuck: NDArray[np.int8]) -> Weights:
    """What reads back when ``weights`` are cut into tiles and each tile meets the ``stuck`` cells ``(rows, cols)``.

    Weight (i, j) lies on cell (i mod rows, j mod cols).
    """
    outputs, inputs = weights.shape
    rows, cols = stuck.shape
    met = stuck[np.ix_(np.arange(outputs) % rows, np.arange(inputs) % cols)]
    return np.where(met != 0, met, weights).astype(np.int8)


def disturb_sums(
    sums: NDArray[np.int32], senses: NDArray[np.int64], rate: float, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Sums as they come out when each of their senses errs with probability ``rate``.

    Exact: the number of errors in a sum is binomial, and how many of them fall on agreeing products is hypergeometric,
    so that the two kinds of error are two independent binomials. An error on an agreement takes 2 off the sum, one on
    a disagreement adds 2.

    Args:
        sums: ``(n, outputs)`` without transient errors.
        senses: ``(outputs,)`` products in each sum (non-zero weights).
        rate: chance of an error in one sense.
        rng: source of the draws.
    """
    # the number of senses runs slowest, because the binomial sampler is set up anew whenever it changes
    errors = rng.binomial(senses[:, None], rate, size=sums.T.shape).T
    sample, output = np.nonzero(errors)
    agreements = (senses[output] + sums[sample, output]) // 2
    hit = errors[sample, output]
    lost = rng.hypergeometric(agreements, senses[output] - agreements, hit)
    disturbed = sums.copy()
    disturbed[sample, output] += (2 * (hit - 2 * lost)).astype(np.int32)
    return disturbed


def predict_accuracy(
    network: IntegerNetwork,
    images: NDArray[np.integer],
    labels: NDArray[np.integer],
    error_model: ReadErrorRates,
    array: Geometry,
    draws: int,
    rng: np.random.Generator,
    mode: InferenceMode,
    coverage: float = 0.95,
) -> Prediction:
    """Predict the accuracy of ``network`` on silicon for these very images.

    Each draw takes rates from their distributions, then errors at these rates; the spread of the samples therefore
    holds both what is not known of the chip and what chance does on it.

    Args:
        network: as it was trained.
        images: ``(n, features)``.
        labels: ``(n,)``.
        error_model: rates of read errors.
        array: size of the array that the layers are cut for.
        draws: number of samples.
        rng: source of all draws.
        mode: on the host a transient error is drawn once per weight; in XNOR mode once per weight and image.
        coverage: of the interval, central.

    Raises:
        UserMistake: draws below 1, a coverage outside 0 to 1, an unknown mode, images that do not fit the network, or a
            network that is not fully connected.
    """
    if draws < 1 or not 0.0 < coverage < 1.0:
        raise UserMistake(f"{draws} draws with coverage {coverage}: expected at least 1 draw, coverage between 0 and 1")
    if mode not in tuple(InferenceMode):
        raise UserMistake(f"no inference mode is called {mode!r}; there are: {', '.join(InferenceMode)}")
    if len(images) == 0 or len(images) != len(labels):
        raise UserMistake(f"{len(images)} images with {len(labels)} labels: expected as many of both, at least one")
    layers = network.fully_connected()
    inputs = network.encode(images)
    right = np.empty(draws, dtype=np.int64)
    for draw in range(draws):
        rates = error_model.sample(rng)
        stuck = stuck_cells(array, rates.stuck_fraction, rng)
        x = inputs
        for layer in layers[:-1]:
            x = layer.activate(_sums_with_errors(layer, x, stuck, rates, mode, rng))
        last = layers[-1]
        scores = last.scores(_sums_with_errors(last, x, stuck, rates, mode, rng))
        right[draw] = np.count_nonzero(classify(scores) == labels)
    samples = right / len(labels)
    tail = (1.0 - coverage) / 2
    return Prediction(
        # from the counts: a mean of rounded quotients could fall outside low and high by the last bit
        mean=int(right.sum()) / (draws * len(labels)),
        low=float(np.quantile(samples, tail, method="lower")),
        high=float(np.quantile(samples, 1.0 - tail, method="higher")),
        samples=samples,
    )


def _sums_with_errors(
    layer: IntegerLayer,
    inputs: NDArray[np.integer],
    stuck: NDArray[np.int8],
    rates: SampledRates,
    mode: InferenceMode,
    rng: np.random.Generator,
) -> NDArray[np.int32]:
    programmed = impose_stuck(flip_weights(layer.weights, rates.random_rate, rng), stuck)
    if mode == InferenceMode.HOST:
        return exact_sums(flip_weights(programmed, rates.transient_rate, rng), inputs)
    senses = np.count_nonzero(programmed, axis=1)
    return disturb_sums(exact_sums(programmed, inputs), senses, rates.transient_rate, rng)
