"""Predictions of the accuracy that the silicon will show, from what is known of its chips and of their benches.

What is known of a chip are its measured cells, or a device file that was fitted to such chips. A network lies on one
chip or is spread over several; errors of each weight are those of the chip that it lies on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bench.inference import BATCH
from bench.mapping import NONE, Plan
from bench.procedure import Progress
from bench.session import SIMULATED
from bench.source import bench_config
from models.cells import Geometry
from models.exceptions import UserMistake
from models.prediction import CountedChip, EstimatedRate, InferenceMode, PopulationChip, ReadErrorRates

if TYPE_CHECKING:
    from bench.config import BenchFile
    from bench.measured_map import KnownChip
    from bench.stopping import StopToken
    from data.datasets import Dataset
    from data.device_files import DeviceFile
    from models.drawn_chips import Conditions
    from models.error_rates import Places
    from models.integer import IntegerNetwork
    from models.prediction import Prediction

FIXED = "xnor_error.fixed_rate"
READ_ERRORS = ("stuck_fraction", "random_rate", "transient_rate")
TERNARY_BENCH = "simulated_ternary"
DRAWS = 200
"""Chips that are drawn for one prediction."""

MODES = (InferenceMode.HOST, InferenceMode.XNOR)
"""Ways of inferring that are predicted unless others are asked for."""

STAGE = "predicting the accuracy on silicon"
"""What the screen and the command line call it while it is going on."""

_STREAM = 0x9E
"""Second word of the seed of a prediction, so that it shares no draws with the training of the same seed."""

OnDraw = Callable[[int], None]


def predict(
    network: IntegerNetwork,
    images: NDArray[np.integer],
    labels: NDArray[np.int64],
    chips: Sequence[CountedChip] | Sequence[PopulationChip],
    modes: Sequence[InferenceMode],
    seed: int,
    on_draw: OnDraw = lambda done: None,
    parts: Sequence[Plan] | None = None,
) -> dict[InferenceMode, Prediction]:
    """Accuracies that a network will show on these chips, for each way of inferring.

    Args:
        images, labels: the samples that will be inferred.
        chips: of :func:`measured_chips` or :func:`filed_chips`, or one that holds the whole network.
        on_draw: told after each draw how many are done, of all modes; what it raises ends the prediction.
        parts: how the network is laid on each chip; by default it is cut as it comes.

    Raises:
        UserMistake: as of :func:`models.prediction.predict_on_chips`.
    """
    from models.prediction import predict_on_chips

    ways = tuple(dict.fromkeys(modes))
    tiles = None if parts is None else column_tiles(parts, network)
    streams = np.random.default_rng([seed, _STREAM]).spawn(len(ways))

    def counted(number: int) -> OnDraw:
        return lambda done: on_draw(number * DRAWS + done)

    return {
        mode: predict_on_chips(
            network, images, labels, chips, DRAWS, rng, mode, tiles=tiles, batch=BATCH, on_draw=counted(number)
        )
        for number, (mode, rng) in enumerate(zip(ways, streams, strict=True))
    }


def progress_of(modes: Sequence[InferenceMode], report: Callable[[Progress], None], stop: StopToken) -> OnDraw:
    """What tells of each draw of a prediction, and raises Stopped once a stop is asked for."""
    total = DRAWS * len(set(modes))

    def on_draw(done: int) -> None:
        stop.check()
        report(Progress(done, total, STAGE))

    return on_draw


def measured_chips(network: IntegerNetwork, parts: Sequence[Plan], known: Sequence[KnownChip]) -> list[CountedChip]:
    """The very chips whose cells are known, with the part of the network that is laid on each."""
    return [
        CountedChip(part.array, one.rates, one.cells, _places(part, network))
        for part, one in zip(parts, known, strict=True)
    ]


def filed_chips(
    network: IntegerNetwork, parts: Sequence[Plan], devices: Sequence[DeviceFile], configs: Sequence[BenchFile]
) -> list[CountedChip] | list[PopulationChip]:
    """Any chips like those that device files were fitted to, with the part of the network that is laid on each.

    Args:
        devices: of each chip. Where it is one object for several, what is not known of its rates is common to them.
        configs: bench of each chip, at whose operating points a ternary network is programmed and sensed.

    Raises:
        UserMistake: a file lacks error rates.
    """
    places = [_places(part, network) for part in parts]
    if network.ternary:
        each = zip(parts, devices, configs, places, strict=True)
        return [PopulationChip(part.array, file.model, conditions(at), own) for part, file, at, own in each]
    rates = {id(file): error_rates(file) for file in devices}
    counted = zip(parts, devices, places, strict=True)
    return [CountedChip(part.array, rates[id(file)], None, own) for part, file, own in counted]


def predict_silicon(
    network: IntegerNetwork,
    data: Dataset,
    device: DeviceFile,
    array: Geometry,
    seed: int,
    config: BenchFile | None = None,
    modes: Sequence[InferenceMode] = MODES,
    on_draw: OnDraw = lambda done: None,
) -> dict[InferenceMode, Prediction]:
    """Accuracy on silicon that a device file predicts for any chip like those that it was fitted to.

    A binary network is predicted from the file's fitted error rates. No file has rates of zeros: for a ternary one,
    chips are drawn from its populations, programmed and sensed.

    Args:
        config: the bench whose operating points a ternary network is programmed and sensed at; by default the
            packaged one of the simulated ternary chip.
        modes, on_draw: as of :func:`predict`.

    Raises:
        UserMistake: the device file lacks error rates that the network needs; it was not fitted to such a chip. Or its
            cells tell no zeros at these operating points.
    """
    chips: list[CountedChip] | list[PopulationChip]
    if network.ternary:
        chips = [PopulationChip(array, device.model, conditions(ternary_bench() if config is None else config))]
    else:
        chips = [CountedChip(array, error_rates(device))]
    return predict(network, data.test_images, data.test_labels, chips, modes, seed, on_draw)


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


def ternary_bench() -> BenchFile:
    """The packaged bench file of the ternary chip, sensed near threshold."""
    return bench_config(Path(str(files("data"))) / "benches" / f"{TERNARY_BENCH}.toml")


def bench_and_array(
    network: IntegerNetwork, source: Path | str | None, rows: int | None, cols: int | None
) -> tuple[BenchFile, Geometry]:
    """Where a network is predicted to be inferred: the bench that decides the operating points, and the array.

    Args:
        source: bench file; by default the packaged one of a chip that the network can lie on.
        rows, cols: of the array; those of the bench by default.
    """
    usual = ternary_bench() if network.ternary else bench_config(SIMULATED)
    config = usual if source is None else bench_config(source)
    own = config.geometry
    return config, Geometry(own.rows if rows is None else rows, own.cols if cols is None else cols)


def conditions(config: BenchFile) -> Conditions:
    """The operating points of a bench that decide what its cells read as."""
    from models.drawn_chips import Conditions

    at = config.points
    return Conditions(
        set_vddr_v=at.set.rails.vddr_v,
        reset_vddc_v=at.reset.rails.vddc_v,
        reset_vddr_v=at.reset.rails.vddr_v,
        reset_width_s=at.reset.width_s,
        sense_vdd_v=at.sense.rails.vdd_v,
        window_s=at.sense.window_s,
    )


def error_rates(device: DeviceFile) -> ReadErrorRates:
    """The error rates of a fitted device file, with their intervals.

    Raises:
        UserMistake: the file has none.
    """

    def rate(key: str) -> EstimatedRate:
        quantity = device.quantities.get(key)
        if quantity is None or quantity.low is None or quantity.high is None:
            raise UserMistake(
                f"device {device.name!r} has no {key} with an interval; "
                "fit one to a characterisation with: rram-bench fit device RUN"
            )
        return EstimatedRate(quantity.value, quantity.low, quantity.high)

    # measured with the whole array only; without it XNOR is predicted as if every cell followed its input
    fixed = rate(FIXED) if FIXED in device.quantities else EstimatedRate(0.0, 0.0, 0.0)
    stuck, random, transient = (rate(f"read_error.{name}") for name in READ_ERRORS)
    return ReadErrorRates(stuck, random, transient, fixed)


def _places(part: Plan, network: IntegerNetwork) -> list[Places]:
    return [part.places(index, layer.weights.shape) for index, layer in enumerate(network.layers)]
