"""Predictions of a network that is laid on one chip or on several: what is known of each, put together.

What is known of a chip are its measured cells, or a device file that was fitted to such chips. Errors of each weight
are those of the chip that it lies on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.inference import BATCH
from bench.loop import PREDICTION_DRAWS, PREDICTION_STREAM, conditions, counted, error_rates
from bench.mapping import NONE, Plan
from models.prediction import CountedChip, InferenceMode, PopulationChip

if TYPE_CHECKING:
    from bench.config import BenchFile
    from bench.measured_map import KnownChip
    from data.device_files import DeviceFile
    from models.error_rates import Places
    from models.integer import IntegerNetwork
    from models.prediction import Prediction

OnDraw = Callable[[int], None]


def predict_measured(
    network: IntegerNetwork,
    images: NDArray[np.integer],
    labels: NDArray[np.int64],
    parts: Sequence[Plan],
    known: Sequence[KnownChip],
    modes: Sequence[InferenceMode],
    seed: int,
    on_draw: OnDraw = lambda done: None,
) -> dict[InferenceMode, Prediction]:
    """Accuracies that a network will show on the very chips whose cells are known.

    Args:
        images, labels: the samples that will be inferred.
        parts: how the network is laid on each chip.
        known: of each chip.
        on_draw: told after each draw how many are done, of all modes; what it raises ends the prediction.
    """
    chips = [
        CountedChip(part.array, one.rates, one.cells, _places(part, network))
        for part, one in zip(parts, known, strict=True)
    ]
    return _predict(network, images, labels, chips, parts, modes, seed, on_draw)


def predict_from_files(
    network: IntegerNetwork,
    images: NDArray[np.integer],
    labels: NDArray[np.int64],
    parts: Sequence[Plan],
    devices: Sequence[DeviceFile],
    configs: Sequence[BenchFile],
    modes: Sequence[InferenceMode],
    seed: int,
    on_draw: OnDraw = lambda done: None,
) -> dict[InferenceMode, Prediction]:
    """Accuracies that device files predict for any chips like those that they were fitted to.

    Args:
        images, labels, parts, on_draw: as of :func:`predict_measured`.
        devices: of each chip. Where it is one object for several, what is not known of its rates is common to them.
        configs: bench of each chip, at whose operating points a ternary network is programmed and sensed.

    Raises:
        UserMistake: a file lacks error rates, or its cells tell no zeros at the operating points of its bench.
    """
    each = zip(parts, devices, configs, strict=True)
    if network.ternary:
        drawn = [PopulationChip(one.array, file.model, conditions(at), _places(one, network)) for one, file, at in each]
        return _predict(network, images, labels, drawn, parts, modes, seed, on_draw)
    rates = {id(file): error_rates(file) for file in devices}
    chips = [CountedChip(part.array, rates[id(file)], None, _places(part, network)) for part, file, _ in each]
    return _predict(network, images, labels, chips, parts, modes, seed, on_draw)


def column_tiles(parts: Sequence[Plan], network: IntegerNetwork) -> list[NDArray[np.int64]]:
    """The tile of each column of each layer, ``(columns,)``; of several, which hold other rows, the one with most."""
    tiles = []
    for index, layer in enumerate(network.layers):
        tile_of = np.full(layer.weights.shape[1], NONE, dtype=np.int64)
        most = np.zeros(len(tile_of), dtype=np.int64)
        for number, tile in enumerate(tile for part in parts for _, tile in part.of_layer(index)):
            cols, rows = tile.cols[tile.cols != NONE], int((tile.rows != NONE).sum())
            better = cols[most[cols] < rows]
            tile_of[better], most[better] = number, rows
        tiles.append(tile_of)
    return tiles


def _predict(
    network: IntegerNetwork,
    images: NDArray[np.integer],
    labels: NDArray[np.int64],
    chips: Sequence[CountedChip] | Sequence[PopulationChip],
    parts: Sequence[Plan],
    modes: Sequence[InferenceMode],
    seed: int,
    on_draw: OnDraw,
) -> dict[InferenceMode, Prediction]:
    from models.prediction import predict_on_chips

    ways = tuple(dict.fromkeys(modes))
    tiles = column_tiles(parts, network)
    streams = np.random.default_rng([seed, PREDICTION_STREAM]).spawn(len(ways))
    return {
        mode: predict_on_chips(
            network,
            images,
            labels,
            chips,
            PREDICTION_DRAWS,
            rng,
            mode,
            tiles=tiles,
            batch=BATCH,
            on_draw=counted(on_draw, number),
        )
        for number, (mode, rng) in enumerate(zip(ways, streams, strict=True))
    }


def _places(part: Plan, network: IntegerNetwork) -> list[Places]:
    return [part.places(index, layer.weights.shape) for index, layer in enumerate(network.layers)]
