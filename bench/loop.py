"""The stages of the loop as single calls: fit, train, predict. Command line, demo and screen share them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.procedure import Progress
from data.atomic import check_writable
from data.device_files import DeviceFile, default_device, save_device
from data.networks import save_network
from data.runs import open_run
from models.exceptions import BenchFailure, UserMistake
from models.processes import agreed, from_first

if TYPE_CHECKING:
    from bench.config import BenchFile
    from bench.stopping import StopToken
    from calibration.device_fit import FitResult
    from data.datasets import Dataset
    from models.cells import Geometry
    from models.drawn_chips import Conditions
    from models.integer import IntegerNetwork
    from models.prediction import Prediction, ReadErrorRates
    from models.weight_errors import WeightErrorRates

EPOCHS = 60
FIXED = "xnor_error.fixed_rate"
READ_ERRORS = ("stuck_fraction", "random_rate", "transient_rate")
PREDICTION_DRAWS = 200
TERNARY_BENCH = "simulated_ternary"
PREDICTION_STREAM = 0x9E
"""Second word of the seed of a prediction, so that it shares no draws with the training of the same seed."""


def fit_characterisation(run_file: Path, out: Path) -> FitResult:
    """Fit a characterisation run on top of the default device, and write the device file.

    Raises:
        UserMistake: not a run file of a characterisation, or its data cannot support a fit; nothing is written.
    """
    from calibration.device_fit import fit_device

    fitted = fit_device(open_run(run_file), default_device())
    save_device(out, fitted.device)
    return fitted


def train_network(
    name: str,
    data: Dataset,
    seed: int,
    out: Path,
    on_progress: Callable[[Progress], None],
    stop: StopToken,
    epochs: int = EPOCHS,
    device: DeviceFile | None = None,
) -> IntegerNetwork:
    """Train an architecture, fold it to integers, and save it; of several processes that train, the first saves it.

    Args:
        on_progress: told of each epoch and of how good the network is by then.
        device: fitted to silicon whose read errors the weights have while learning; None for none.

    Raises:
        UserMistake: unknown architecture, ``out`` cannot be written, or a device that says nothing of the errors of
            such weights.
        BenchFailure: training diverged; the network after the last good epoch is written, if there is one.
        Stopped: a stop was asked for; nothing is written.
    """
    from models.training import TrainingDiverged, train
    from models.training_loop import EpochRecord

    from_first(lambda: check_writable(out, "network file"))
    errors = None if device is None else training_errors(name, device)

    def on_epoch(epoch: EpochRecord) -> None:
        live = {"epoch": epoch.epoch, "held_out": epoch.test_accuracy, "training": epoch.train_accuracy}
        on_progress(Progress(epoch.epoch, epochs, f"{epoch.test_accuracy:.2%} on held-out samples", live))

    def save(network: IntegerNetwork, history: Sequence[EpochRecord]) -> None:
        provenance = {"architecture": name, "data": data.name, "seed": str(seed), "epochs": str(len(history))}
        if device is not None:
            provenance["errors_of_device"] = device.name
        from_first(lambda: save_network(out, network, provenance))

    try:
        network, history = train(
            name, data, seed, epochs, on_epoch=on_epoch, should_stop=lambda: stop.requested, errors=errors
        )
    except TrainingDiverged as error:
        if not error.history:
            raise
        save(error.network, error.history)
        raise BenchFailure(f"{error}. That network is in {out}") from error
    if agreed(stop.requested):
        stop.request("another process was asked to")
    stop.check()
    save(network, history)
    return network


def training_errors(name: str, device: DeviceFile) -> WeightErrorRates:
    """How often a weight reads wrong on silicon like that of a fitted device file, whatever the cause.

    Raises:
        UserMistake: no such architecture, one with zero weights, of whose errors no device file knows, or a file
            without error rates.
    """
    from models.architectures import Precision, architecture
    from models.weight_errors import WeightErrorRates

    plan = architecture(name)
    if Precision.TERNARY in (plan.last, *(block.weights for block in plan.blocks)):
        raise UserMistake(
            f"the network {name} has zero weights, and how often zeros err is not in a device file; "
            "train it without the errors of a device"
        )
    error_rates(device)  # refuses a file that has none
    stuck, random, transient = (device.quantities[f"read_error.{rate}"].value for rate in READ_ERRORS)
    # a stuck cell reads the weight that is wanted half of the time
    return WeightErrorRates(stuck / 2 + random + transient)


def predict_silicon(
    network: IntegerNetwork,
    data: Dataset,
    device: DeviceFile,
    array: Geometry,
    seed: int,
    config: BenchFile | None = None,
    modes: Sequence[str] = ("host", "xnor"),
    on_draw: Callable[[int], None] = lambda done: None,
) -> dict[str, Prediction]:
    """Accuracy on silicon that a device file predicts, for each way of inferring.

    A binary network is predicted from the file's fitted error rates. No file has rates of zeros: for a ternary one,
    chips are drawn from its populations, programmed and sensed.

    Args:
        config: the bench whose operating points a ternary network is programmed and sensed at; by default the
            packaged one of the simulated ternary chip.
        modes: ways of inferring.
        on_draw: told after each draw how many are done, of all modes; what it raises ends the prediction.

    Raises:
        UserMistake: the device file lacks error rates that the network needs; it was not fitted to such a chip. Or its
            cells tell no zeros at these operating points.
    """
    from models.prediction import InferenceMode, predict_accuracy, predict_of_population

    ways = [InferenceMode(mode) for mode in modes]
    streams = np.random.default_rng([seed, PREDICTION_STREAM]).spawn(len(ways))
    examples = network, data.test_images, data.test_labels
    if network.ternary:
        at = conditions(ternary_bench() if config is None else config)
        return {
            mode: predict_of_population(
                *examples, device.model, at, array, PREDICTION_DRAWS, rng, mode, on_draw=counted(on_draw, number)
            )
            for number, (mode, rng) in enumerate(zip(ways, streams, strict=True))
        }
    rates = error_rates(device)
    return {
        mode: predict_accuracy(*examples, rates, array, PREDICTION_DRAWS, rng, mode, on_draw=counted(on_draw, number))
        for number, (mode, rng) in enumerate(zip(ways, streams, strict=True))
    }


def counted(on_draw: Callable[[int], None], number: int) -> Callable[[int], None]:
    """What hears of the draws of the prediction ``number`` in a row of them, and tells ``on_draw`` of all draws."""
    return lambda done: on_draw(number * PREDICTION_DRAWS + done)


def ternary_bench() -> BenchFile:
    """The packaged bench file of the ternary chip, sensed near threshold."""
    from bench.source import bench_config

    return bench_config(Path(str(files("data"))) / "benches" / f"{TERNARY_BENCH}.toml")


def bench_and_array(
    network: IntegerNetwork, source: Path | str | None, rows: int | None, cols: int | None
) -> tuple[BenchFile, Geometry]:
    """Where a network is predicted to be inferred: the bench that decides the operating points, and the array.

    Args:
        source: bench file; by default the packaged one of a chip that the network can lie on.
        rows, cols: of the array; those of the bench by default.
    """
    from bench.session import SIMULATED
    from bench.source import bench_config
    from models.cells import Geometry

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
    from models.prediction import EstimatedRate, ReadErrorRates

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
