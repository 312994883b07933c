"""Training of a network from its architecture, as several reproductions do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.reproduce.frame import Context
from data.augmentation import augment
from data.datasets import Dataset
from models.architectures import Architecture
from models.networks import BinaryNetwork, build
from models.training_loop import FitSettings, accuracy_of, fit
from models.weight_errors import WeightErrorRates

LAST_EPOCHS = 3
"""Accuracies are means over so many last epochs, which jump less than a single one."""


@dataclass(frozen=True)
class Lesson:
    """How networks are trained: Adam, its learning rates falling to zero along a half cosine.

    Attributes:
        epochs, batch: of training.
        lr: learning rate of hidden weights and batch normalisation.
        real_lr: of real weights.
        offset_lr: of the last layer's offsets, which are counted in whole products and must move faster.
        augmented: images are mirrored and shifted while training.
    """

    epochs: int
    batch: int
    lr: float = 0.01
    real_lr: float = 0.002
    offset_lr: float = 0.1
    augmented: bool = False


@dataclass(frozen=True)
class Learned:
    """A trained network.

    Attributes:
        network: on the device of the run, in evaluation mode.
        accuracy: on the held-out examples, mean over the last epochs.
    """

    network: BinaryNetwork
    accuracy: float


class ErrorDraws:
    """The generator of injected errors, whose state a checkpoint keeps."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng([seed, 2])

    def state_dict(self) -> dict[str, Any]:
        """The state of the generator."""
        return dict(self.generator.bit_generator.state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.generator.bit_generator.state = state_dict


def learn(
    context: Context,
    plan: Architecture,
    data: Dataset,
    lesson: Lesson,
    seed: int,
    name: str,
    rates: WeightErrorRates | None = None,
) -> Learned:
    """Train a fresh network, or go on from its checkpoint.

    Args:
        context: of the run.
        plan: what to build.
        data: what to learn, and what to test on.
        lesson: how.
        seed: of weights, order of the examples and whatever else is drawn.
        name: of the checkpoint, together with the seed.
        rates: of errors in the weights at every forward pass, those of the tests after each epoch included; the
            network that is returned has them no more.

    Raises:
        Stopped: on request.
    """
    network = build(plan, torch.Generator().manual_seed(seed)).to(context.device)
    inputs = torch.Generator(context.device).manual_seed(seed + 1)
    network.draw_from(inputs)
    errors = ErrorDraws(seed)
    network.inject(rates, errors.generator)
    optimizer = _optimizer(network, lesson)
    steps = lesson.epochs * max(1, len(data.train_images) // lesson.batch)
    fitted = fit(
        network,
        data,
        FitSettings(lesson.epochs, lesson.batch, schedule_each_step=True, checkpoint_every=5),
        seed,
        optimizer,
        schedule=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
        augment=partial(_augmented, shape=data.shape) if lesson.augmented else _noisy(plan.input_noise),
        after_step=network.clamp,
        also={"inputs": inputs, "errors": errors},
        about={"architecture": str(plan.to_json()), "lesson": str(lesson), "errors": str(rates), "seed": seed},
        checkpoint=context.checkpoint(f"{name}-{seed}"),
        should_stop=context.should_stop,
        device=context.device,
    )
    context.check()
    network.inject(None, errors.generator)
    network.eval()
    return Learned(network, float(np.mean([record.test_accuracy for record in fitted.history[-LAST_EPOCHS:]])))


def accuracy_with_errors(
    context: Context, network: BinaryNetwork, data: Dataset, rates: WeightErrorRates, draws: int
) -> float:
    """Share of right answers on the held-out examples, mean over ``draws`` sets of errors in the weights."""
    generator = np.random.default_rng([context.seed, 3])
    network.inject(rates, generator, fresh=False)
    found = []
    for _ in range(draws):
        context.check()
        network.inject(rates, generator, fresh=False)
        found.append(accuracy_of(network, data.test_images, data.test_labels, device=context.device))
    network.inject(None, generator)
    return float(np.mean(found))


def _optimizer(network: BinaryNetwork, lesson: Lesson) -> torch.optim.Optimizer:
    """Adam with a learning rate for each kind of parameter."""
    kinds: dict[float, list[torch.nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        last = name.rpartition(".")[2]
        rate = {"real": lesson.real_lr, "bias": lesson.lr, "offset": lesson.offset_lr}.get(last, lesson.lr)
        kinds.setdefault(rate, []).append(parameter)
    return torch.optim.Adam([{"params": kind, "lr": rate} for rate, kind in kinds.items()], lr=lesson.lr)


def _augmented(pixels: Tensor, generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    """Images mirrored and shifted, as :func:`data.augmentation.augment` does it."""
    drawn = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    return torch.from_numpy(augment(pixels.cpu().numpy(), shape, drawn)).to(pixels)


def _noisy(spread: float) -> Callable[[Tensor, torch.Generator], Tensor] | None:
    """Adds the noise that an architecture asks for to training images."""
    if spread == 0.0:
        return None

    def noisy(pixels: Tensor, generator: torch.Generator) -> Tensor:
        return pixels + spread * torch.randn(pixels.shape, generator=generator).to(pixels)

    return noisy
