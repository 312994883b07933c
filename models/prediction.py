"""What accuracy the silicon will show, with an interval: read errors sampled into the integer network.

Three kinds of read error, each with its own rate:

- *stuck cells* sit at the same place in every tile that the layers are cut into, since all tiles are programmed into
  the same array one after the other. A stuck cell always reads the same sign, and so is wrong for about half of the
  weights that come to lie on it;
- *random programming errors*, left over after bounded attempts to verify, are independent from weight to weight;
- *transient errors* of the sense amplifier are fresh at every sense.

XNOR in the array has one more, since programming is verified by reads, which are XNOR with +1: where the amplifier's
offset outweighs the cell, the output is the same whatever the input, and a zero may answer as a weight where the input
is -1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.cells import Geometry, Weights
from models.encodings import presented
from models.error_positions import error_positions
from models.error_rates import CountedRate, EstimatedRate, MeasuredMap, Places, Rate, ReadErrorRates
from models.exceptions import UserMistake
from models.integer import IntegerNetwork, classify
from models.predicted_chips import (
    CountedChip,
    InferenceMode,
    PopulationChip,
    Spread,
    impose_stuck,
    stuck_cells,
    tiled_places,
)

if TYPE_CHECKING:
    from models.device_model import DeviceModel
    from models.drawn_chips import Conditions
    from models.packed import PackedNetwork

BATCH = 64
"""Inputs that weights are sensed for at a time."""


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

    @property
    def interval(self) -> dict[str, float]:
        """Mean and bounds, by name."""
        return {"mean": self.mean, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.mean:.2%} (95 %: {self.low:.2%} to {self.high:.2%})"


def flip_weights(weights: Weights, rate: float, rng: np.random.Generator) -> Weights:
    """Turn each weight's sign with probability ``rate``; a zero weight stays zero."""
    flipped = weights.copy()
    positions = error_positions(weights.size, rate, rng)
    flipped.flat[positions] = -flipped.flat[positions]
    return flipped


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
    *,
    places: Sequence[Places] | None = None,
    measured: MeasuredMap | None = None,
    batch: int = BATCH,
    threads: int = 1,
    on_draw: Callable[[int], None] = lambda done: None,
) -> Prediction:
    """Predict the accuracy of ``network`` on silicon for these very images.

    Each draw takes rates from their distributions, then errors at these rates; the spread of the samples therefore
    holds both what is not known of the chip and what chance does on it.

    Args:
        network: as it was trained, of any layers.
        images: ``(n, features)``.
        labels: ``(n,)``.
        error_model: rates of read errors.
        array: size of the array that the layers are cut for.
        draws: number of samples.
        rng: source of all draws.
        mode: on the host a transient error is drawn once per weight, sensed once per weight and batch, in XNOR mode
            once per product: for each place of a window, plane, presentation, and twice where a zero is presented.
        coverage: of the interval, central.
        places: array row and array column of the weights of each layer; :func:`tiled_places` by default.
        measured: what is known of the cells of this very chip; ``error_model`` then gives only what it leaves open:
            the rate of fixed outputs, and those of programming where the map has none.
        batch: inputs at a time, in the mode ``sensed``.
        threads: that share the images in the modes ``sensed`` and ``xnor``; the samples do not depend on it.
        on_draw: told after each draw how many are done; what it raises ends the prediction.

    Raises:
        UserMistake: draws below 1, a coverage outside 0 to 1, an unknown mode, images that do not fit the network, a
            map of another array, or a ternary network with errors of zeros that are not known.
    """
    one = CountedChip(array, error_model, measured, places)
    return predict_on_chips(
        network, images, labels, [one], draws, rng, mode, coverage, batch=batch, threads=threads, on_draw=on_draw
    )


def predict_of_population(
    network: IntegerNetwork,
    images: NDArray[np.integer],
    labels: NDArray[np.integer],
    model: DeviceModel,
    conditions: Conditions,
    array: Geometry,
    draws: int,
    rng: np.random.Generator,
    mode: InferenceMode,
    coverage: float = 0.95,
    *,
    batch: int = BATCH,
    threads: int = 1,
    on_draw: Callable[[int], None] = lambda done: None,
) -> Prediction:
    """Predict the accuracy of ``network`` on any chip of a device population, with weights as they come.

    Each draw is a chip of its own, whose devices and amplifiers are programmed, verified and sensed by their equations
    (:mod:`models.drawn_chips`); nothing that was counted on a chip is needed, of zeros neither.

    Args:
        network, images, labels, array, draws, rng, mode, coverage, batch, threads, on_draw: as of
            :func:`predict_accuracy`.
        model: the population.
        conditions: that the chip is programmed and sensed at.

    Raises:
        UserMistake: as of :func:`predict_accuracy`, or conditions at which the population tells no zeros.
    """
    one = PopulationChip(array, model, conditions)
    return predict_on_chips(
        network, images, labels, [one], draws, rng, mode, coverage, batch=batch, threads=threads, on_draw=on_draw
    )


def predict_on_chips(
    network: IntegerNetwork,
    images: NDArray[np.integer],
    labels: NDArray[np.integer],
    chips: Sequence[CountedChip] | Sequence[PopulationChip],
    draws: int,
    rng: np.random.Generator,
    mode: InferenceMode,
    coverage: float = 0.95,
    *,
    tiles: Sequence[NDArray[np.integer]] | None = None,
    batch: int = BATCH,
    threads: int = 1,
    on_draw: Callable[[int], None] = lambda done: None,
) -> Prediction:
    """Predict the accuracy of ``network`` on one chip or on several that hold parts of it.

    Args:
        network, images, labels, draws, rng, mode, coverage, batch, threads, on_draw: as of :func:`predict_accuracy`.
        chips: with the weights that lie on each; all counted ones, or all of populations.
        tiles: tile of each column of each layer, ``(columns,)``: in XNOR, padding with zeros has a tile presented
            twice. By default columns are cut as they come, for the array of the first chip.

    Raises:
        UserMistake: as of :func:`predict_accuracy` and :func:`predict_of_population`, or weights that lie on no chip
            or on two.
    """
    _check(images, labels, draws, coverage, mode)
    for chip in chips:
        if isinstance(chip, CountedChip):
            chip.check(network)
    spread = Spread(network, chips, mode, batch, threads, tiles)
    return _sampled(spread.draw, network, images, labels, draws, rng, coverage, on_draw)


def _check(
    images: NDArray[np.integer], labels: NDArray[np.integer], draws: int, coverage: float, mode: InferenceMode
) -> None:
    """Raise UserMistake for what nothing can be predicted of."""
    if draws < 1 or not 0.0 < coverage < 1.0:
        raise UserMistake(f"{draws} draws with coverage {coverage}: expected at least 1 draw, coverage between 0 and 1")
    if mode not in tuple(InferenceMode):
        raise UserMistake(f"no inference mode is called {mode!r}; there are: {', '.join(InferenceMode)}")
    if len(images) == 0 or len(images) != len(labels):
        raise UserMistake(f"{len(images)} images with {len(labels)} labels: expected as many of both, at least one")


def _sampled(
    draw_chip: Callable[[np.random.Generator], PackedNetwork],
    network: IntegerNetwork,
    images: NDArray[np.integer],
    labels: NDArray[np.integer],
    draws: int,
    rng: np.random.Generator,
    coverage: float,
    on_draw: Callable[[int], None],
) -> Prediction:
    """The accuracies of chips that are drawn one after the other."""
    inputs = np.concatenate([np.asarray(one) for one in presented(network.encoding, images)])
    right = np.empty(draws, dtype=np.int64)
    for draw in range(draws):
        scores = draw_chip(rng).scores_of_inputs(inputs)
        added = scores.reshape(-1, len(labels), network.classes).sum(axis=0)
        right[draw] = np.count_nonzero(classify(added) == labels)
        on_draw(draw + 1)
    samples = right / len(labels)
    tail = (1.0 - coverage) / 2
    return Prediction(
        # from the counts: a mean of rounded quotients could fall outside low and high by the last bit
        mean=int(right.sum()) / (draws * len(labels)),
        low=float(np.quantile(samples, tail, method="lower")),
        high=float(np.quantile(samples, 1.0 - tail, method="higher")),
        samples=samples,
    )


__all__ = [
    "CountedChip",
    "CountedRate",
    "EstimatedRate",
    "InferenceMode",
    "MeasuredMap",
    "PopulationChip",
    "Prediction",
    "Rate",
    "ReadErrorRates",
    "flip_weights",
    "impose_stuck",
    "predict_accuracy",
    "predict_of_population",
    "predict_on_chips",
    "stuck_cells",
    "tiled_places",
]
