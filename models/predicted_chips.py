"""Chips that may be those in question, drawn one after the other with the weights of a network on them.

The weights lie on one chip, or are spread over several. What is known of a chip is either what was counted on its cells
or the fitted rates of chips like it, or its population: then its devices are drawn, programmed and sensed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from models.cells import Geometry, Weights
from models.encodings import magnitude
from models.error_rates import MeasuredMap, Places, ReadErrorRates, SampledRates, TurnedRates
from models.exceptions import UserMistake
from models.integer import IntegerNetwork, Layer
from models.weight_errors import WeightErrorRates, WeightErrors

if TYPE_CHECKING:
    from models.device_model import DeviceModel
    from models.drawn_chips import Conditions
    from models.packed import PackedNetwork

Maps = NDArray[np.float64]


class InferenceMode(StrEnum):
    """Where sums are taken: on the host, from weights sensed once or before every batch; or by XNOR in the array."""

    HOST = "host"
    SENSED = "sensed"
    XNOR = "xnor"


@dataclass(frozen=True, eq=False)
class CountedChip:
    """A chip whose errors were counted, and the weights on it.

    Attributes:
        array: its size.
        rates: of read errors. Chips that share this very object share what is not known of it.
        measured: what is known of its own cells; ``rates`` then gives only what it leaves open: the rate of fixed
            outputs, and those of programming where the map has none.
        places: array row and array column of the weights of each layer, -1 where a weight lies on another chip; those
            of :func:`tiled_places` by default.
    """

    array: Geometry
    rates: ReadErrorRates
    measured: MeasuredMap | None = None
    places: Sequence[Places] | None = None

    def check(self, network: IntegerNetwork) -> None:
        """Refuse what tells nothing of such a network.

        Raises:
            UserMistake: a map of another array, or a ternary network with errors of zeros that are not known.
        """
        measured = self.measured
        if measured is not None and measured.stuck.shape != tuple(self.array):
            raise UserMistake(f"the map of this chip is {measured.stuck.shape}, and the array {tuple(self.array)}")
        known = measured is None or measured.tells_zeros
        programmed = self.rates.tells_zeros or (measured is not None and measured.steady is not None)
        if network.ternary and not (known and programmed):
            raise UserMistake(
                f"the network {network.name} has zero weights, and how often this chip errs in zeros is not known; "
                "rates of errors of type 2 and type 3 are needed"
            )


@dataclass(frozen=True, eq=False)
class PopulationChip:
    """Any chip of a device population, and the weights on it.

    Attributes:
        array, places: as of :class:`CountedChip`.
        model: the population.
        conditions: that the chip is programmed and sensed at.
    """

    array: Geometry
    model: DeviceModel
    conditions: Conditions
    places: Sequence[Places] | None = None


class _Share(NamedTuple):
    """The weights of a layer that lie on one chip.

    Attributes:
        chip: index of the chip.
        here: which they are; all, in their order, where the chip has the whole layer.
        places: array row and array column of each.
    """

    chip: int
    here: NDArray[np.bool_] | EllipsisType
    places: Places


class Spread:
    """Draws the network on the chips that it is spread over.

    Args:
        network: as it was trained.
        chips: that hold its weights, each exactly one; all of one kind.
        mode: of inference.
        batch: inputs that weights are sensed for at a time, in the mode ``sensed``.
        tiles: tile of each column of each layer, ``(columns,)``; by default as the array of the first chip cuts them.
        threads: that share the images.

    Raises:
        UserMistake: places of other layers, or weights that lie on no chip or on two.
    """

    def __init__(
        self,
        network: IntegerNetwork,
        chips: Sequence[CountedChip] | Sequence[PopulationChip],
        mode: InferenceMode,
        batch: int,
        threads: int,
        tiles: Sequence[NDArray[np.integer]] | None = None,
    ) -> None:
        self._network, self._chips, self._mode = network, list(chips), mode
        self._batch, self._threads = batch, threads
        self._tiles = chips[0].array.cols if tiles is None else tiles
        shapes = [layer.weights.shape for layer in network.layers]
        places = [
            [tiled_places(shape, chip.array) for shape in shapes] if chip.places is None else list(chip.places)
            for chip in chips
        ]
        for own in places:
            if len(own) != len(shapes):
                raise UserMistake(f"places of {len(own)} layers for a network of {len(shapes)}")
        self._shares = [_shared_out(shape, [own[index] for own in places]) for index, shape in enumerate(shapes)]

    def draw(self, rng: np.random.Generator) -> PackedNetwork:
        """The network on chips drawn anew."""
        if isinstance(self._chips[0], PopulationChip):
            return self._of_populations(rng)
        return self._counted(rng)

    def _counted(self, rng: np.random.Generator) -> PackedNetwork:
        sampled: dict[int, SampledRates] = {}
        drawn = []
        for chip in cast("list[CountedChip]", self._chips):
            rates = sampled.get(id(chip.rates))
            if rates is None:
                rates = sampled[id(chip.rates)] = chip.rates.sample(rng)
            drawn.append(_Drawn.of(chip, rates, rng))
        read, transient = [], []
        for layer, shares in zip(self._network.layers, self._shares, strict=True):
            weights, own = layer.weights.copy(), []
            for share in shares:
                one = drawn[share.chip]
                left = WeightErrors(_at(one.steady, share.places), rng).disturbed(layer.weights[share.here])
                weights[share.here] = impose_stuck(left, one.stuck, share.places)
                own.append(_at(one.transient, share.places))
            read.append(weights)
            transient.append(own)
        if self._mode == InferenceMode.XNOR:
            return self._xnor(read, transient, drawn, rng)
        return self._reading(read, [self._joined(index, own) for index, own in enumerate(transient)], rng)

    def _reading(
        self, weights: Sequence[Weights], rates: Sequence[WeightErrorRates], rng: np.random.Generator
    ) -> PackedNetwork:
        """The network with products on the host, of weights that are read once or before every batch."""
        # numba takes its time to import, and modes of inference are known without it
        from models.packed import PackedNetwork

        if self._mode == InferenceMode.HOST:
            read = [WeightErrors(own, rng).disturbed(one) for own, one in zip(rates, weights, strict=True)]
            return PackedNetwork(self._network.with_weights(read))
        return self._erring(self._network.with_weights(weights), rates, rng)

    def _xnor(
        self,
        weights: Sequence[Weights],
        transient: Sequence[Sequence[WeightErrorRates]],
        drawn: Sequence[_Drawn],
        rng: np.random.Generator,
    ) -> PackedNetwork:
        """The network with every product in the amplifiers, of weights as they read."""
        turning: dict[int, TurnedRates] = {}
        for number, chip in enumerate(cast("list[CountedChip]", self._chips)):
            if chip.measured is not None and chip.measured.turned is not None:
                turning[number] = chip.measured.turned.sample(rng)
        turned = [np.zeros(one.shape, dtype=np.int8) for one in weights]
        answers = [np.zeros(one.shape, dtype=np.int8) for one in weights]
        rates = []
        for index, (one, shares) in enumerate(zip(weights, self._shares, strict=True)):
            own = []
            for share, errors in zip(shares, transient[index], strict=True):
                held, known = one[share.here], drawn[share.chip].rates
                if share.chip in turning:
                    turned[index][share.here] = turning[share.chip].disturb(held, share.places, rng)
                else:
                    fixed = rng.random(held.shape) < known.fixed_rate
                    answers[index][share.here] = np.where(fixed, held, 0)
                own.append(_xnor_rates(errors, known, answers[index][share.here] != 0))
            rates.append(self._joined(index, own))
        network = self._network.with_weights(weights)
        if len(turning) < len(self._chips):
            network = _fix_products(network, answers)
        return self._erring(network, rates, rng, turned if turning else None)

    def _of_populations(self, rng: np.random.Generator) -> PackedNetwork:
        from models.drawn_chips import DrawnChip

        chips = [
            DrawnChip(chip.model, chip.conditions, chip.array, rng)
            for chip in cast("list[PopulationChip]", self._chips)
        ]
        xnor = self._mode == InferenceMode.XNOR
        read, rates, turned = [], [], []
        for index, (layer, shares) in enumerate(zip(self._network.layers, self._shares, strict=True)):
            weights, off, own = layer.weights.copy(), np.zeros(layer.weights.shape, dtype=np.int8), []
            for share in shares:
                found = chips[share.chip].answers(layer.weights[share.here], share.places)
                weights[share.here], off[share.here] = found.read, found.turned
                own.append(found.noise if xnor else found.read_noise)
            read.append(weights)
            turned.append(off)
            rates.append(self._joined(index, own))
        if xnor:
            return self._erring(self._network.with_weights(read), rates, rng, turned)
        return self._reading(read, rates, rng)

    def _erring(
        self,
        network: IntegerNetwork,
        rates: Sequence[WeightErrorRates],
        rng: np.random.Generator,
        turned: Sequence[Weights] | None = None,
    ) -> PackedNetwork:
        from models.read_errors import ErringNetwork

        return ErringNetwork(
            network,
            rates,
            rng,
            batch=None if self._mode == InferenceMode.XNOR else self._batch,
            tile_columns=self._tiles,
            threads=self._threads,
            turned=turned,
        )

    def _joined(self, index: int, rates: Sequence[WeightErrorRates]) -> WeightErrorRates:
        """Rates of a whole layer, of those of its shares."""
        shares = self._shares[index]
        if len(shares) == 1:
            return rates[0]
        whole: dict[str, Maps] = {}
        for kind in ("inversion", "loss", "gain"):
            whole[kind] = np.zeros(self._network.layers[index].weights.shape)
            for share, own in zip(shares, rates, strict=True):
                whole[kind][share.here] = getattr(own, kind)
        return WeightErrorRates(**whole)


class _Drawn(NamedTuple):
    """One chip as it may be."""

    rates: SampledRates
    stuck: NDArray[np.int8]
    steady: WeightErrorRates
    transient: WeightErrorRates

    @classmethod
    def of(cls, chip: CountedChip, rates: SampledRates, rng: np.random.Generator) -> _Drawn:
        known = chip.measured
        if known is None:
            return cls(rates, stuck_cells(chip.array, rates.stuck_fraction, rng), rates.random, rates.transient)
        transient = known.transient.sample(rng)
        return cls(rates, known.stuck, rates.random if known.steady is None else known.steady.sample(rng), transient)


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


def _shared_out(shape: tuple[int, ...], places: Sequence[Places]) -> list[_Share]:
    """The weights of a layer on each chip that holds some."""
    for rows, cols in places:
        if rows.shape != shape or cols.shape != shape:
            raise UserMistake(f"places of {rows.shape} and {cols.shape} for weights of {shape}")
    here = [(rows >= 0) & (cols >= 0) for rows, cols in places]
    if (np.sum(here, axis=0) != 1).any():
        raise UserMistake(f"not every one of the weights {shape} lies on exactly one chip")
    if here[0].all():
        return [_Share(0, ..., places[0])]
    return [
        _Share(chip, own, (rows[own], cols[own]))
        for chip, (own, (rows, cols)) in enumerate(zip(here, places, strict=True))
        if own.any()
    ]


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
