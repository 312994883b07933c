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
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from models.cells import Geometry, Weights
from models.encodings import magnitude, presented
from models.error_positions import error_positions
from models.error_rates import (
    CountedRate,
    EstimatedRate,
    MeasuredMap,
    Places,
    Rate,
    ReadErrorRates,
    SampledRates,
)
from models.exceptions import UserMistake
from models.integer import IntegerNetwork, Layer, classify
from models.weight_errors import WeightErrorRates, WeightErrors

if TYPE_CHECKING:
    from models.device_model import DeviceModel
    from models.drawn_chips import Conditions
    from models.packed import PackedNetwork

BATCH = 64
"""Inputs that weights are sensed for at a time."""


class InferenceMode(StrEnum):
    """Where sums are taken: on the host, from weights sensed once or before every batch; or by XNOR in the array."""

    HOST = "host"
    SENSED = "sensed"
    XNOR = "xnor"


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


def tiled_places(shape: tuple[int, ...], array: Geometry) -> Places:
    """Where weights lie when a matrix is cut as it comes: (i, j) on cell (i mod rows, j mod cols)."""
    rows, cols = np.indices(shape)
    return rows % array.rows, cols % array.cols


def impose_stuck(weights: Weights, stuck: NDArray[np.int8], places: Places | None = None) -> Weights:
    """What reads back when ``weights`` are cut into tiles and each tile meets the ``stuck`` cells ``(rows, cols)``.

    Args:
        weights: ``(outputs, inputs)``.
        stuck: 0 where a cell is not stuck.
        places: array row and array column of each weight; those of :func:`tiled_places` by default.
    """
    met = stuck[tiled_places(weights.shape, Geometry(*stuck.shape)) if places is None else places]
    return np.where(met != 0, met, weights).astype(np.int8)


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
    _check(images, labels, draws, coverage, mode)
    if places is not None and len(places) != len(network.layers):
        raise UserMistake(f"places of {len(places)} layers for a network of {len(network.layers)}")
    if measured is not None and measured.stuck.shape != tuple(array):
        raise UserMistake(f"the map of this chip is {measured.stuck.shape}, and the array {tuple(array)}")
    known = measured is None or measured.tells_zeros
    programmed = error_model.tells_zeros or (measured is not None and measured.steady is not None)
    if network.ternary and not (known and programmed):
        raise UserMistake(
            f"the network {network.name} has zero weights, and how often this chip errs in zeros is not known; "
            "rates of errors of type 2 and type 3 are needed"
        )
    silicon = _Silicon(network, error_model, measured, array, places, mode, batch, threads)
    return _sampled(silicon.draw, network, images, labels, draws, rng, coverage, on_draw)


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
    from models.drawn_chips import DrawnChip

    _check(images, labels, draws, coverage, mode)
    places = [tiled_places(layer.weights.shape, array) for layer in network.layers]

    def draw(rng: np.random.Generator) -> PackedNetwork:
        from models.packed import PackedNetwork
        from models.read_errors import ErringNetwork

        chip = DrawnChip(model, conditions, array, rng)
        found = [chip.answers(layer.weights, at) for layer, at in zip(network.layers, places, strict=True)]
        if mode == InferenceMode.HOST:
            read = [WeightErrors(one.read_noise, rng).disturbed(one.read) for one in found]
            return PackedNetwork(network.with_weights(read))
        xnor = mode == InferenceMode.XNOR
        return ErringNetwork(
            network.with_weights([one.read for one in found]),
            [one.noise if xnor else one.read_noise for one in found],
            rng,
            batch=None if xnor else batch,
            tile_columns=array.cols,
            threads=threads,
            turned=[one.turned for one in found] if xnor else None,
        )

    return _sampled(draw, network, images, labels, draws, rng, coverage, on_draw)


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


class _Silicon:
    """Chips that may be the one in question, drawn one after the other."""

    def __init__(
        self,
        network: IntegerNetwork,
        error_model: ReadErrorRates,
        measured: MeasuredMap | None,
        array: Geometry,
        places: Sequence[Places] | None,
        mode: InferenceMode,
        batch: int,
        threads: int,
    ) -> None:
        self._network, self._error_model, self._measured, self._array = network, error_model, measured, array
        shapes = [layer.weights.shape for layer in network.layers]
        self._places = [tiled_places(shape, array) for shape in shapes] if places is None else list(places)
        for shape, (rows, cols) in zip(shapes, self._places, strict=True):
            if rows.shape != shape or cols.shape != shape:
                raise UserMistake(f"places of {rows.shape} and {cols.shape} for weights of {shape}")
        self._mode, self._batch, self._threads = mode, batch, threads

    def draw(self, rng: np.random.Generator) -> PackedNetwork:
        """The network on one chip."""
        # numba takes its time to import, and modes of inference are known without it
        from models.packed import PackedNetwork
        from models.read_errors import ErringNetwork

        rates = self._error_model.sample(rng)
        if self._measured is None:
            stuck, steady, cells = stuck_cells(self._array, rates.stuck_fraction, rng), rates.random, rates.transient
        else:
            known = self._measured
            stuck, cells = known.stuck, known.transient.sample(rng)
            steady = rates.random if known.steady is None else known.steady.sample(rng)
        weights, transient = [], []
        for layer, places in zip(self._network.layers, self._places, strict=True):
            left = WeightErrors(_at(steady, places), rng).disturbed(layer.weights)
            weights.append(impose_stuck(left, stuck, places))
            transient.append(_at(cells, places))
        if self._mode == InferenceMode.HOST:
            read = [WeightErrors(own, rng).disturbed(one) for own, one in zip(transient, weights, strict=True)]
            return PackedNetwork(self._network.with_weights(read))
        if self._mode == InferenceMode.XNOR:
            return self._xnor(weights, transient, rates, rng)
        return ErringNetwork(
            self._network.with_weights(weights),
            transient,
            rng,
            batch=self._batch,
            tile_columns=self._array.cols,
            threads=self._threads,
        )

    def _xnor(
        self,
        weights: Sequence[Weights],
        transient: Sequence[WeightErrorRates],
        rates: SampledRates,
        rng: np.random.Generator,
    ) -> PackedNetwork:
        """The network with every product in the amplifiers, of weights as they read."""
        from models.read_errors import ErringNetwork

        network, turned = self._network.with_weights(weights), None
        if self._measured is not None and self._measured.turned is not None:
            cells = self._measured.turned.sample(rng)
            turned = [cells.disturb(one, places, rng) for one, places in zip(weights, self._places, strict=True)]
            fixed = [np.zeros(one.shape, dtype=bool) for one in weights]
        else:
            answers = [np.where(rng.random(one.shape) < rates.fixed_rate, one, 0).astype(np.int8) for one in weights]
            network, fixed = _fix_products(network, answers), [one != 0 for one in answers]
        return ErringNetwork(
            network,
            [_xnor_rates(own, rates, cells) for own, cells in zip(transient, fixed, strict=True)],
            rng,
            tile_columns=self._array.cols,
            threads=self._threads,
            turned=turned,
        )


def _at(cells: WeightErrorRates, places: Places) -> WeightErrorRates:
    """Rates of weights, of maps of the cells that they lie on; numbers, which hold for all cells, stay numbers."""
    if not isinstance(cells.inversion, np.ndarray):
        return cells
    return WeightErrorRates(*(np.asarray(rate)[places] for rate in (cells.inversion, cells.loss, cells.gain)))


def _xnor_rates(rates: WeightErrorRates, sampled: SampledRates, fixed: NDArray[np.bool_]) -> WeightErrorRates:
    """Rates of senses in XNOR: inputs are as often -1 as +1, and outputs that are fixed do not err."""
    gain = (
        np.asarray(rates.gain) if sampled.turned_noise == 0.0 else (np.asarray(rates.gain) + sampled.turned_noise) / 2
    )
    parts = (rates.inversion, rates.loss, gain)
    return WeightErrorRates(*(np.where(fixed, 0.0, rate) for rate in parts))


def _fix_products(network: IntegerNetwork, fixed: Sequence[NDArray[np.int8]]) -> IntegerNetwork:
    """The network where some products are the same whatever the input: no weight there, but another threshold."""
    layers: list[Layer] = []
    top = magnitude(network.encoding)
    for layer, answers in zip(network.layers, fixed, strict=True):
        own = answers.sum(axis=1, dtype=np.int64)
        # pooling that adds sums adds as many of these as one sum has products
        times = top * (layer.products // layer.weights.shape[1])
        threshold = (layer.threshold - layer.sign * own * times).astype(np.int32)
        weights = np.where(answers != 0, 0, layer.weights).astype(np.int8)
        layers.append(replace(cast("Any", layer), weights=weights, threshold=threshold))
        top = 1
    return replace(network, layers=tuple(layers))


__all__ = [
    "CountedRate",
    "EstimatedRate",
    "InferenceMode",
    "MeasuredMap",
    "Prediction",
    "Rate",
    "ReadErrorRates",
    "flip_weights",
    "impose_stuck",
    "predict_accuracy",
    "predict_of_population",
    "stuck_cells",
    "tiled_places",
]
