"""Blocks of a network in PyTorch: encoding, weights, pooling, activation, dropout."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.architectures import Activation, Conv, Dense
from models.architectures import Block as BlockPlan
from models.convolution_shapes import Pool, PoolKind
from models.encodings import BitPlaneEncoding, Encoding, RealEncoding, StochasticEncoding, ThermometerEncoding
from models.exceptions import UserMistake
from models.layers import BatchNormReal, BatchNormSign, BatchNormTernary, Convolution, Linear, WeightLayer, thermometer
from models.shared_batches import drawn, drawn_by


def encoded(encoding: Encoding, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Inputs ``(n, width)`` of images ``(n, features)``; equal to those of ``encoding.encode`` for whole grey levels.

    Args:
        encoding: which.
        pixels: grey levels, or samples of a signal; noise may have been added.
        generator: source of random inputs (stochastic encoding), on the device of the pixels.

    Raises:
        UserMistake: another width than the encoding takes, or random inputs without a generator.
    """
    if pixels.ndim != 2 or pixels.shape[1] != encoding.features:
        raise UserMistake(f"images have the shape {tuple(pixels.shape)}, expected (n, {encoding.features})")
    if isinstance(encoding, ThermometerEncoding):
        return thermometer(pixels, encoding.thresholds)
    if isinstance(encoding, BitPlaneEncoding):
        return 2.0 * pixels - float((1 << encoding.bits) - 1)
    if isinstance(encoding, RealEncoding):
        return encoding.gain * (pixels - encoding.centre)
    if isinstance(encoding, StochasticEncoding) and generator is not None:
        options: dict[str, Any] = {"generator": generator, "device": pixels.device, "dtype": pixels.dtype}
        levels = drawn(pixels.shape, lambda shape: torch.rand(shape, **options))
        return torch.where(encoding.top * levels < pixels, 1.0, -1.0).to(pixels)
    raise UserMistake(f"inputs of the kind {encoding.kind!r} are drawn at random: a generator is needed")


def presented_tensor(encoding: Encoding, pixels: Tensor, presentation: int) -> Tensor:
    """The same inputs as ``encoding.encode`` gives for a presentation, drawn with its own seed."""
    if not isinstance(encoding, StochasticEncoding):
        return encoded(encoding, pixels)
    images = pixels.detach().cpu().numpy().astype(np.int64)
    return torch.from_numpy(drawn_by(images, lambda whole: encoding.encode(whole, presentation))).to(pixels)


class Dropout(nn.Module):
    """Activations left out at random while training, the others scaled up, drawn from a generator of its own.

    Args:
        share: of the activations that are left out.
        generator: on the device of the activations.
    """

    def __init__(self, share: float, generator: torch.Generator) -> None:
        super().__init__()
        self.share, self.generator = share, generator

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the same shape."""
        if not self.training:
            return x
        kept = drawn(x.shape, lambda shape: x.new_empty(shape).bernoulli_(1.0 - self.share, generator=self.generator))
        return x * kept.div_(1.0 - self.share)


def pooled(sums: Tensor, pool: Pool | None) -> Tensor:
    """Maps ``(n, filters, ...)`` pooled."""
    if pool is None:
        return sums
    one = len(pool.size) == 1
    if pool.kind is PoolKind.MAX:
        return (functional.max_pool1d if one else functional.max_pool2d)(sums, pool.size, pool.stride)
    size, stride = ((1, *pool.size), (1, *pool.stride)) if one else (pool.size, pool.stride)
    added = functional.avg_pool2d(sums.unsqueeze(2) if one else sums, size, stride, divisor_override=1)
    return added.squeeze(2) if one else added


class Block(nn.Module):
    """A hidden layer: weights, pooling of the sums, batch normalisation and activation, dropout.

    Args:
        plan: what it is.
        size: of what it takes, channels first.
        reach: largest input.
        generator: source of the initial weights, and of dropout.
        spread: of the initial hidden weights.
    """

    def __init__(
        self, plan: BlockPlan, size: tuple[int, ...], reach: int, generator: torch.Generator, spread: float
    ) -> None:
        super().__init__()
        self.plan, self.reach = plan, reach
        self.weighing = _weighing(plan, size, reach, generator, spread)
        self.activation = _activation(plan)
        self.dropout = Dropout(plan.dropout, generator) if plan.dropout else None

    def sums(self, x: Tensor) -> Tensor:
        """Pooled sums ``(n, outputs)`` or ``(n, filters, ...)`` of inputs."""
        if isinstance(self.plan, Dense):
            return cast(Tensor, self.weighing(x.flatten(1)))
        return pooled(self.weighing(x), self.plan.pool)

    def forward(self, x: Tensor) -> Tensor:
        """Activations of inputs."""
        activations: Tensor = self.activation(self.sums(x))
        return activations if self.dropout is None else self.dropout(activations)


def _weighing(
    plan: BlockPlan, size: tuple[int, ...], reach: int, generator: torch.Generator, spread: float
) -> WeightLayer:
    width = None if plan.weights == "real" else spread
    if isinstance(plan, Dense):
        return Linear(int(np.prod(size)), plan.outputs, generator, width, plan.weights)
    return Convolution(plan.shape(size), generator, width, plan.weights, reach=reach)


def _activation(plan: BlockPlan) -> BatchNormSign | BatchNormTernary | BatchNormReal:
    features, dims = (plan.filters, len(plan.kernel)) if isinstance(plan, Conv) else (plan.outputs, 0)
    if plan.activation is Activation.BINARY:
        return BatchNormSign(features, dims)
    if plan.activation is Activation.TERNARY:
        return BatchNormTernary(features, dims)
    return BatchNormReal(features, dims, rectified=plan.activation is Activation.RELU)
