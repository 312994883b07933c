"""The stages of the loop before silicon as single calls: fit, train. Command line, demo and screen share them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.procedure import Progress
from data.atomic import check_writable
from data.device_files import DeviceFile, default_device, save_device
from data.networks import save_network
from data.runs import open_run
from models.exceptions import BenchFailure, UserMistake
from models.processes import agreed, from_first

if TYPE_CHECKING:
    from bench.stopping import StopToken
    from calibration.device_fit import FitResult
    from data.datasets import Dataset
    from models.integer import IntegerNetwork
    from models.weight_errors import WeightErrorRates

EPOCHS = 60


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
    from bench.predicting import READ_ERRORS, error_rates
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
