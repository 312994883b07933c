"""The stages of the loop as single calls: fit, train, predict. Command line, demo and screen share them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.procedure import Progress
from data.atomic import check_writable
from data.device_files import DeviceFile, default_device, save_device
from data.networks import save_network
from data.runs import open_run
from models.exceptions import BenchFailure, UserMistake

if TYPE_CHECKING:
    from bench.stopping import StopToken
    from calibration.device_fit import FitResult
    from data.datasets import Dataset
    from models.cells import Geometry
    from models.integer import IntegerNetwork
    from models.prediction import Prediction, ReadErrorRates

EPOCHS = 60
FIXED = "xnor_error.fixed_rate"
PREDICTION_DRAWS = 200
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
) -> IntegerNetwork:
    """Train an architecture, fold it to integers, and save it.

    Args:
        on_progress: told of each epoch and of how good the network is by then.

    Raises:
        UserMistake: unknown architecture, or ``out`` cannot be written.
        BenchFailure: training diverged; the network after the last good epoch is written, if there is one.
        Stopped: a stop was asked for; nothing is written.
    """
    from models.training import TrainingDiverged, train
    from models.training_loop import EpochRecord

    check_writable(out, "network file")

    def on_epoch(epoch: EpochRecord) -> None:
        on_progress(Progress(epoch.epoch, epochs, f"{epoch.test_accuracy:.2%} on held-out samples"))

    def save(network: IntegerNetwork, history: Sequence[EpochRecord]) -> None:
        provenance = {"architecture": name, "data": data.name, "seed": str(seed), "epochs": str(len(history))}
        save_network(out, network, provenance)

    try:
        network, history = train(name, data, seed, epochs, on_epoch=on_epoch, should_stop=lambda: stop.requested)
    except TrainingDiverged as error:
        if not error.history:
            raise
        save(error.network, error.history)
        raise BenchFailure(f"{error}. That network is in {out}") from error
    stop.check()
    save(network, history)
    return network


def predict_silicon(
    network: IntegerNetwork, data: Dataset, device: DeviceFile, array: Geometry, seed: int
) -> dict[str, Prediction]:
    """Accuracy on silicon that the fitted error rates predict, for each way of inferring.

    Raises:
        UserMistake: the device file lacks error rates that the network needs; it was not fitted to such a chip.
    """
    from models.prediction import InferenceMode, predict_accuracy

    rates = error_rates(device, network)
    modes = (InferenceMode.HOST, InferenceMode.XNOR)
    streams = np.random.default_rng([seed, PREDICTION_STREAM]).spawn(len(modes))
    return {
        mode: predict_accuracy(network, data.test_images, data.test_labels, rates, array, PREDICTION_DRAWS, rng, mode)
        for mode, rng in zip(modes, streams, strict=True)
    }


def error_rates(device: DeviceFile, network: IntegerNetwork | None = None) -> ReadErrorRates:
    """The error rates of a fitted device file, with their intervals.

    Raises:
        UserMistake: the file has none, or the network has zeros, whose errors a device file does not know.
    """
    from models.prediction import EstimatedRate, ReadErrorRates

    if network is not None and network.ternary:
        raise UserMistake(
            f"the network {network.name} has zero weights, and how often zeros err is not in a device file; "
            "have it measured on the chip itself with: rram-bench confirm NETWORK"
        )

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
    stuck, random, transient = (
        rate(f"read_error.{name}") for name in ("stuck_fraction", "random_rate", "transient_rate")
    )
    return ReadErrorRates(stuck, random, transient, fixed)
