"""Networks for training in PyTorch, built from their architectures, and folded into integers."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.architectures import ARCHITECTURES, Activation, Architecture, Conv, Precision, architecture
from models.encodings import magnitude
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, Layer
from models.integer_convolution import IntegerConvolution
from models.layers import BatchNormSign, ClassScores, Convolution, Linear, RealScores, WeightLayer
from models.modules import Block, encoded, presented_tensor
from models.training_loop import is_finite
from models.weight_errors import WeightErrorRates, WeightErrors


class BinaryNetwork(nn.Module):
    """Hidden blocks as an architecture says, and a last layer that scores the classes.

    Args:
        architecture: what to build.
        generator: source of the initial weights, and later of dropout and random inputs.

    Attributes:
        architecture: as given.
        generator: as given, unless :meth:`draw_from` set another; a checkpoint keeps its state.
        blocks: the hidden layers.
        last, scores: weights of the last layer, and what makes logits of its sums.
    """

    def __init__(self, architecture: Architecture, generator: torch.Generator) -> None:
        super().__init__()
        self.architecture, self.generator = architecture, generator
        *sizes, last = architecture.sizes()
        reach = magnitude(architecture.encoding) if architecture.encoding.planes else 1
        reaches = (reach, *(1 for _ in architecture.blocks))
        spread, classes = architecture.spread, architecture.classes
        plans = zip(architecture.blocks, sizes, reaches, strict=False)
        self.blocks = nn.ModuleList(Block(plan, size, reach, generator, spread) for plan, size, reach in plans)
        self.reach_of_last = reaches[-1]
        real = architecture.last is Precision.REAL
        self.last = Linear(math.prod(last), classes, generator, None if real else spread, architecture.last)
        self.scores = RealScores(classes) if real else ClassScores(math.prod(last), classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of images ``(n, features)`` in grey levels, or of signals.

        Random inputs are drawn once while training, from :attr:`generator`; in evaluation as often as the encoding
        presents an image, with its own seed, and the logits are averaged.
        """
        if self.training:
            inputs = encoded(self.architecture.encoding, pixels, self.generator)
            return cast(Tensor, self.scores(self.last(self._through(inputs)[-1])))
        times = self.architecture.encoding.presentations
        total = sum(self.last(self.hidden(pixels, presentation)[-1]) for presentation in range(times))
        return cast(Tensor, self.scores(total, times))

    def hidden(self, pixels: Tensor, presentation: int = 0) -> list[Tensor]:
        """The flat inputs ``(n, inputs)`` of every layer: the encoded images, then each block's activations."""
        return self._through(presented_tensor(self.architecture.encoding, pixels, presentation))

    def _through(self, inputs: Tensor) -> list[Tensor]:
        flat = [inputs]
        x = inputs.view(len(inputs), *self.architecture.sizes()[0])
        for block in self.blocks:
            x = block(x)
            flat.append(x.flatten(1))
        return flat

    def weight_layers(self) -> list[WeightLayer]:
        """All layers with weights, from the first to the last."""
        return [*(cast(Block, block).weighing for block in self.blocks), self.last]

    def offset_parameters(self) -> list[nn.Parameter]:
        """The last layer's offsets, which are counted in whole products and must move faster; none in a real one."""
        return [self.scores.offset] if isinstance(self.scores, ClassScores) else []

    def clamp(self) -> None:
        """Bring all quantised layers' hidden weights back into [-1, 1]; call it after every optimizer step."""
        for layer in self.weight_layers():
            layer.clamp()

    def draw_from(self, generator: torch.Generator) -> None:
        """Take dropout and random inputs from another generator, on another device for instance."""
        self.generator = generator
        for block in self.blocks:
            dropout = cast(Block, block).dropout
            if dropout is not None:
                dropout.generator = generator

    def inject(self, rates: WeightErrorRates | None, generator: np.random.Generator, *, fresh: bool = True) -> None:
        """Put errors into the weights of all quantised layers from now on, at the same rates; None for no more.

        Rates or maps of a single layer: set ``layer.errors`` of that one of :meth:`weight_layers`.
        """
        for layer in self.weight_layers():
            quantised = layer.precision is not Precision.REAL
            layer.errors = WeightErrors(rates, generator, fresh=fresh) if rates is not None and quantised else None


def build(name: str | Architecture, generator: torch.Generator) -> BinaryNetwork:
    """A fresh network of the architecture, or of the named one, its weights drawn from ``generator``."""
    return BinaryNetwork(architecture(name) if isinstance(name, str) else name, generator)


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
    return sign.to(torch.int8).cpu().numpy(), low.to(torch.int32).cpu().numpy()


def fold(network: BinaryNetwork) -> IntegerNetwork:
    """The integer network that answers as ``network`` does in evaluation mode: equal activations, equal classes.

    Errors that are injected are left out; dropout does nothing in evaluation.

    Raises:
        UserMistake: a parameter is not finite, an offset too large for an integer network, or a layer, an activation
            or the inputs are no whole numbers of two levels.
    """
    shape = network.architecture
    if not is_finite(network):
        raise UserMistake(f"the network {shape.name} holds parameters that are not finite")
    if shape.encoding.planes < 1:
        raise UserMistake(f"the network {shape.name} takes {shape.encoding.kind} inputs; it cannot be folded")
    layers = [_folded(cast(Block, block), index, shape.name) for index, block in enumerate(network.blocks)]
    if not isinstance(network.scores, ClassScores):
        raise UserMistake(f"the network {shape.name} has a last layer of real weights; it cannot be folded")
    offsets = network.scores.whole_offset().cpu().numpy()
    layers.append(IntegerLayer(network.last.matrix(), np.ones(len(offsets), np.int8), offsets))
    return IntegerNetwork(shape.name, shape.encoding, tuple(layers), shape.classes)


def _folded(block: Block, index: int, name: str) -> Layer:
    plan = block.plan
    if plan.weights is Precision.REAL or plan.activation is not Activation.BINARY:
        raise UserMistake(
            f"block {index} of the network {name} has {plan.weights} weights and {plan.activation} activations; "
            "to be folded it needs binary or ternary weights and binary activations"
        )
    matrix = block.weighing.matrix()
    activation, columns = cast(BatchNormSign, block.activation), matrix.shape[1]
    if isinstance(plan, Conv):
        added = 1 if plan.pool is None else plan.pool.added
        sign, threshold = fold_activation(activation, columns * added * block.reach)
        return IntegerConvolution(
            matrix, sign, threshold, cast(Convolution, block.weighing).shape, plan.pool, block.reach
        )
    return IntegerLayer(matrix, *fold_activation(activation, columns * block.reach))


__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "BinaryNetwork",
    "architecture",
    "build",
    "fold",
    "fold_activation",
]
