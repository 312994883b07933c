"""Training a named network that folds into integers.

The same seed gives the same weights, whatever the number of threads: all draws come from one generator, and training
runs on one thread. Several processes share out batches and tests as :mod:`models.training_loop` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from models.encodings import StochasticEncoding
from models.exceptions import UserMistake
from models.integer import IntegerNetwork
from models.networks import BinaryNetwork, build, fold
from models.processes import place, summed
from models.shared_batches import shared
from models.training_loop import Diverged, EpochRecord, FitSettings, LabelledData, fit, threads
from models.weight_errors import WeightErrorRates

ERROR_STREAM = 2
"""Second word of the seed of errors in the weights."""


class LabelledImages(LabelledData, Protocol):
    """A data set of flat images in grey levels, as a network with an encoding of its own needs it."""

    @property
    def classes(self) -> int:
        """Number of classes."""


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
        batch: images of a step, at least (what remains of an epoch is shared out over its steps).
        learning_rate: of Adam at the start; it falls to zero along a half cosine.
        offset_learning_rate: of the last layer's offsets, which are counted in whole products and must move faster.
    """

    batch: int = 64
    learning_rate: float = 0.01
    offset_learning_rate: float = 0.1

    def __post_init__(self) -> None:
        """Raise UserMistake for a batch that has no variance, or a learning rate that is no positive number."""
        if self.batch < 2:
            raise UserMistake(f"a batch of {self.batch} was asked for; batch normalisation needs at least 2 images")
        for rate in (self.learning_rate, self.offset_learning_rate):
            if not 0.0 < rate < math.inf:
                raise UserMistake(f"a learning rate of {rate} was asked for; it must be positive and finite")


class TrainingDiverged(Diverged):
    """The loss or a parameter stopped being a number.

    Attributes:
        network: the network after the last good epoch, or as it was before the first.
        history: the good epochs.
    """

    def __init__(self, message: str, network: IntegerNetwork, history: list[EpochRecord]) -> None:
        super().__init__(message, history)
        self.network = network


@contextmanager
def single_thread() -> Iterator[None]:
    """Run PyTorch on one thread inside, as before outside: sums then never depend on how work is shared out."""
    with threads(1):
        yield


def train(
    network_name: str,
    dataset: LabelledImages,
    seed: int,
    epochs: int = 60,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    settings: TrainingSettings = TrainingSettings(),
    errors: WeightErrorRates | None = None,
) -> tuple[IntegerNetwork, list[EpochRecord]]:
    """Train a named network with Adam and a straight-through estimator, and fold it.

    Args:
        network_name: one of ``networks.ARCHITECTURES``.
        dataset: what to learn, and what to test on.
        seed: of the initial weights, the order of the images and the input noise.
        epochs: passes over the training images.
        on_epoch: called after each epoch.
        should_stop: asked before each step; once true, training ends with the last whole epoch (before the first: with
            the untrained network and an empty history).
        settings: batch and learning rates.
        errors: put into the weights afresh at every step of learning, so that the network comes to bear them; what
            is tested and returned has none.

    Returns:
        The integer network and the record of every whole epoch.

    Raises:
        UserMistake: an unknown network, or data of another size than the network takes.
        TrainingDiverged: loss or parameters are no longer numbers; the error carries the last good network.
    """
    with single_thread():
        generator = torch.Generator().manual_seed(seed)
        model = build(network_name, generator)
        _check_fit(model, dataset)
        model.inject(errors, np.random.default_rng([seed, ERROR_STREAM]))
        folded = [fold(model)]

        def evaluate() -> float:
            folded.append(fold(model))
            return _accuracy(folded[-1], dataset)

        def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
            return images + model.architecture.input_noise * torch.randn(images.shape, generator=generator)

        how = FitSettings(epochs, settings.batch, schedule_each_step=True)
        optimizer = _optimizer(model, settings)
        steps = epochs * max(1, len(dataset.train_images) // settings.batch)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        try:
            fitted = fit(
                model,
                dataset,
                how,
                generator,
                optimizer,
                schedule=schedule,
                augment=noisy,
                evaluate=evaluate,
                after_step=model.clamp,
                on_epoch=on_epoch,
                should_stop=should_stop,
            )
        except Diverged as error:
            raise TrainingDiverged(str(error), folded[-1], error.history) from error
    return folded[-1], fitted.history


def _accuracy(network: IntegerNetwork, dataset: LabelledImages) -> float:
    """On the held-out images, shared out where several processes train."""
    images, labels = dataset.test_images, dataset.test_labels
    # random inputs go by an image's place among all
    if place().size == 1 or isinstance(network.encoding, StochasticEncoding):
        return network.accuracy(images, labels)
    with shared(len(images)) as share:
        mine = share.examples
    right = int((network.predict(images[mine]) == labels[mine]).sum())
    return int(summed([right])[0]) / len(images)


def _optimizer(model: BinaryNetwork, settings: TrainingSettings) -> torch.optim.Optimizer:
    others = [parameter for name, parameter in model.named_parameters() if name != "scores.offset"]
    groups: list[dict[str, Any]] = [
        {"params": others},
        {"params": model.offset_parameters(), "lr": settings.offset_learning_rate},
    ]
    return torch.optim.Adam(groups, lr=settings.learning_rate, fused=True)


def _check_fit(model: BinaryNetwork, dataset: LabelledImages) -> None:
    wanted = model.architecture
    features = dataset.train_images.shape[1]
    if (features, dataset.classes) != (wanted.encoding.features, wanted.classes):
        raise UserMistake(
            f"the network {wanted.name} takes images of {wanted.encoding.features} pixels in {wanted.classes} classes; "
            f"the data set {dataset.name} has {features} pixels and {dataset.classes} classes"
        )
