"""Training a binary network, and folding it into integers.

The same seed gives the same weights, whatever the number of threads: all draws come from one generator, and training
runs on one thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.exceptions import BenchFailure, UserMistake
from models.integer import IntegerLayer, IntegerNetwork
from models.layers import BatchNormSign, BinaryLinear, binary_weight
from models.networks import BinaryNetwork, build


class LabelledImages(Protocol):
    """A data set, as training needs it."""

    @property
    def name(self) -> str:
        """What the data set is called."""

    @property
    def train_images(self) -> NDArray[np.uint8]:
        """Images to learn from, ``(n, features)``."""

    @property
    def train_labels(self) -> NDArray[np.int64]:
        """Their classes, ``(n,)``."""

    @property
    def test_images(self) -> NDArray[np.uint8]:
        """Images held out, ``(n, features)``."""

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Their classes, ``(n,)``."""

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


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to.

    Attributes:
        epoch: counted from 1.
        loss: mean cross-entropy over the epoch, in nats.
        train_accuracy: share of right answers while learning, input noise included.
        test_accuracy: of the integer network on the held-out images.
    """

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float


class TrainingDiverged(BenchFailure):
    """The loss or a parameter stopped being a number.

    Attributes:
        network: the network after the last good epoch, or as it was before the first.
        history: the good epochs.
    """

    def __init__(self, message: str, network: IntegerNetwork, history: list[EpochRecord]) -> None:
        super().__init__(message)
        self.network, self.history = network, history


@contextmanager
def single_thread() -> Iterator[None]:
    """Run PyTorch on one thread inside, as before outside: sums then never depend on how work is shared out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fold_activation(activation: BatchNormSign, inputs: int) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Fold batch normalisation and sign into ``sign * s >= threshold``, exactly.

    With gamma > 0 the neuron is +1 from the sum ``mean - beta * sqrt(variance + eps) / gamma`` on; with gamma < 0 up
    to there; with gamma = 0 the answer is constant. Division and rounding would miss ties, therefore the threshold is
    searched by bisection in the very decision that the network takes.

    Args:
        activation: with finite parameters.
        inputs: largest magnitude of a sum.

    Returns:
        sign ``(features,)`` in -1, 0, +1 and threshold ``(features,)`` in ``-inputs`` to ``inputs + 1``.
    """
    with torch.no_grad():
        sign = torch.sign(activation.norm.weight).to(torch.int64)
        low = torch.full_like(sign, -inputs)
        high = torch.full_like(sign, inputs + 1)
        while bool((searching := low < high).any()):
            middle = torch.div(low + high, 2, rounding_mode="floor")
            fires = activation.decision(sign * middle) >= 0
            high = torch.where(searching & fires, middle, high)
            low = torch.where(searching & ~fires, middle + 1, low)
    return sign.to(torch.int8).numpy(), low.to(torch.int32).numpy()


def fold(network: BinaryNetwork) -> IntegerNetwork:
    """The integer network that answers as ``network`` does in evaluation mode: equal activations, equal classes.

    Raises:
        UserMistake: a parameter is not finite, or an offset too large for an integer network.
    """
    if not _is_finite(network):
        raise UserMistake(f"the network {network.architecture.name} holds parameters that are not finite")
    layers = []
    for module, activation in zip(network.linears, network.activations, strict=True):
        linear = cast(BinaryLinear, module)
        sign, threshold = fold_activation(cast(BatchNormSign, activation), linear.inputs)
        layers.append(IntegerLayer(_signs(linear), sign, threshold))
    offsets = network.scores.whole_offset().numpy()
    layers.append(IntegerLayer(_signs(network.last), np.ones(len(offsets), np.int8), offsets))
    shape = network.architecture
    return IntegerNetwork(shape.name, shape.encoding, tuple(layers), shape.classes)


def train(
    network_name: str,
    dataset: LabelledImages,
    seed: int,
    epochs: int = 60,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    settings: TrainingSettings = TrainingSettings(),
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

    Returns:
        The integer network and the record of every whole epoch.

    Raises:
        UserMistake: an unknown network, or data of another size than the network takes.
        TrainingDiverged: loss or parameters are no longer numbers; the error carries the last good network.
    """
    with single_thread():
        generator = torch.Generator().manual_seed(seed)
        model = build(network_name, generator)
        _check_fit(model, dataset, epochs)
        images = torch.from_numpy(dataset.train_images.astype(np.float32))
        labels = torch.from_numpy(dataset.train_labels.astype(np.int64))
        steps = max(1, len(images) // settings.batch)
        optimizer = _optimizer(model, settings)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
        network, history = fold(model), list[EpochRecord]()
        for epoch in range(1, epochs + 1):
            total_loss, right = 0.0, 0
            for chosen in torch.randperm(len(images), generator=generator).tensor_split(steps):
                if should_stop is not None and should_stop():
                    return network, history
                loss, hits = _step(model, optimizer, images[chosen], labels[chosen], generator)
                if not math.isfinite(loss):
                    raise TrainingDiverged(_divergence("the loss", epoch, settings), network, history)
                schedule.step()
                total_loss += loss * len(chosen)
                right += hits
            if not _is_finite(model):
                raise TrainingDiverged(_divergence("a parameter", epoch, settings), network, history)
            network = fold(model)
            accuracy = network.accuracy(dataset.test_images, dataset.test_labels)
            history.append(EpochRecord(epoch, total_loss / len(images), right / len(images), accuracy))
            if on_epoch is not None:
                on_epoch(history[-1])
        return network, history


def _step(
    model: BinaryNetwork, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, generator: torch.Generator
) -> tuple[float, int]:
    noise = model.architecture.input_noise * torch.randn(images.shape, generator=generator)
    logits = model(images + noise)
    loss = functional.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    model.clamp()
    return loss.item(), int((logits.argmax(1) == labels).sum())


def _optimizer(model: BinaryNetwork, settings: TrainingSettings) -> torch.optim.Optimizer:
    others = [parameter for name, parameter in model.named_parameters() if name != "scores.offset"]
    groups: list[dict[str, Any]] = [
        {"params": others},
        {"params": [model.scores.offset], "lr": settings.offset_learning_rate},
    ]
    return torch.optim.Adam(groups, lr=settings.learning_rate, fused=True)


def _signs(linear: BinaryLinear) -> NDArray[np.int8]:
    return cast(NDArray[np.int8], binary_weight(linear.hidden.detach()).to(torch.int8).numpy())


def _is_finite(model: BinaryNetwork) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values())


def _divergence(what: str, epoch: int, settings: TrainingSettings) -> str:
    return (
        f"training stopped in epoch {epoch}: {what} is no longer a finite number; the network as it was "
        f"before that epoch is kept. Lower the learning rate ({settings.learning_rate:g}) or look for extreme data"
    )


def _check_fit(model: BinaryNetwork, dataset: LabelledImages, epochs: int) -> None:
    wanted = model.architecture
    features = dataset.train_images.shape[1]
    if (features, dataset.classes) != (wanted.encoding.features, wanted.classes):
        raise UserMistake(
            f"the network {wanted.name} takes images of {wanted.encoding.features} pixels in {wanted.classes} classes; "
            f"the data set {dataset.name} has {features} pixels and {dataset.classes} classes"
        )
    if len(dataset.train_images) < 2:
        raise UserMistake(f"the data set {dataset.name} has too few images to train on, at least 2 are needed")
    if epochs < 1:
        raise UserMistake(f"{epochs} epochs asked for, at least 1 is needed")
