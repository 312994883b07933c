"""Training of a network from its architecture, as several reproductions do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.reproduce.frame import Context
from data.augmentation import augment
from data.datasets import Dataset
from models.architectures import Architecture, Conv
from models.exceptions import UserMistake
from models.networks import BinaryNetwork, build
from models.training_loop import EpochRecord, FitSettings, accuracy_of, fit
from models.weight_errors import WeightErrorRates

LAST_EPOCHS = 3
"""Accuracies are means over so many last epochs, which jump less than a single one."""

EVALUATED_AT_ONCE = 100
"""Examples; the maps of more of them leave the cache, which makes convolutions twice as slow."""


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
        FitSettings(lesson.epochs, lesson.batch, schedule_each_step=True),
        seed,
        optimizer,
        schedule=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
        augment=partial(_augmented, shape=data.shape) if lesson.augmented else _noisy(plan.input_noise),
        evaluate=lambda: _accuracy(context, network, data),
        after_step=network.clamp,
        also={"inputs": inputs, "errors": errors},
        about={"architecture": str(plan.to_json()), "lesson": str(lesson), "errors": str(rates), "seed": seed},
        checkpoint=context.checkpoint(f"{name}-{seed}"),
        # a quick run has epochs of a fraction of a second
        on_epoch=None if context.quick else lambda record: context.note(_epoch(record, lesson, f"{name}-{seed}")),
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
        found.append(_accuracy(context, network, data))
    network.inject(None, generator)
    return float(np.mean(found))


def _epoch(record: EpochRecord, lesson: Lesson, name: str) -> str:
    return f"{name}: epoch {record.epoch} of {lesson.epochs}, {record.test_accuracy:.2%} of the held-out examples"


def _accuracy(context: Context, network: BinaryNetwork, data: Dataset) -> float:
    """Share of right answers on the held-out examples, with whatever errors the weights have."""
    return accuracy_of(network, data.test_images, data.test_labels, device=context.device, batch=EVALUATED_AT_ONCE)


def with_filters(plan: Architecture, filters: int) -> Architecture:
    """The same network with so many filters in its first convolution, the others in the same ratio to it.

    Raises:
        UserMistake: there is no convolution, or a ratio that is no whole number then.
    """
    counts = [block.filters for block in plan.blocks if isinstance(block, Conv)]
    if not counts:
        raise UserMistake(f"--filters {filters}: {plan.name} has no convolutions; choose other data with --data")
    if odd := [count for count in counts if count * filters % counts[0]]:
        raise UserMistake(
            f"--filters {filters}: {plan.name} has convolutions of {counts[0]} and {odd[0]} filters; their ratio must "
            "leave whole numbers"
        )
    blocks = tuple(
        replace(block, filters=block.filters * filters // counts[0]) if isinstance(block, Conv) else block
        for block in plan.blocks
    )
    return replace(plan, name=f"{plan.name} at {filters} filters", blocks=blocks)


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
