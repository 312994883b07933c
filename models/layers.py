"""Binary, ternary and real layers for training, in PyTorch: quantised forward, straight through backward.

A quantised layer keeps real hidden weights and acts by their signs, or by their signs where they are large and zero
where they are small. The sign of zero is +1 everywhere, so that a binary weight has two levels and never a third.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.architectures import Precision
from models.convolution_shapes import ConvolutionShape, PaddingValue
from models.weight_errors import WeightErrors

TERNARY_THRESHOLD = 0.05
"""Hidden weights up to this magnitude are 0 (the threshold of the published ternary networks)."""


def _signs(x: Tensor) -> Tensor:
    # adding +0.0 turns -0.0 into +0.0, so that copysign never reads the sign bit of a zero as a minus
    shifted = x + 0.0
    return torch.copysign(torch.ones((), dtype=x.dtype, device=x.device), shifted, out=shifted)


def _trits(x: Tensor, threshold: float) -> Tensor:
    return torch.sign(functional.hardshrink(x, threshold))


class _SignOfWeight(torch.autograd.Function):
    """Signs forward, the gradient as it is backward: hidden weights are clamped, so that no mask is needed."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        return _signs(hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class _TritOfWeight(torch.autograd.Function):
    """-1, 0 and +1 forward, the gradient as it is backward."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, threshold: float) -> Tensor:
        return _trits(hidden, threshold)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _SignOfActivation(torch.autograd.Function):
    """Signs forward; backward the gradient where ``|x| <= 1`` and zero elsewhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _signs(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return gradients[0] * (x.abs() <= 1)


class _TritOfActivation(torch.autograd.Function):
    """-1, 0 and +1 forward; backward the gradient where ``|x| <= 1`` and zero elsewhere."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(x)
        return _trits(x, threshold)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x: Tensor = ctx.saved_tensors[0]
        return gradients[0] * (x.abs() <= 1), None


def binary_weight(hidden: Tensor) -> Tensor:
    """Signs of hidden weights, +1 for zero, with the straight-through gradient (no mask)."""
    return cast(Tensor, _SignOfWeight.apply(hidden))  # type: ignore[no-untyped-call]


def ternary_weight(hidden: Tensor, threshold: float = TERNARY_THRESHOLD) -> Tensor:
    """0 where ``|hidden| <= threshold``, else the sign, with the straight-through gradient (no mask)."""
    return cast(Tensor, _TritOfWeight.apply(hidden, threshold))  # type: ignore[no-untyped-call]


def binary_sign(x: Tensor) -> Tensor:
    """Signs of activations, +1 for zero, with the straight-through gradient where ``|x| <= 1``."""
    return cast(Tensor, _SignOfActivation.apply(x))  # type: ignore[no-untyped-call]


def ternary_sign(x: Tensor, threshold: float = TERNARY_THRESHOLD) -> Tensor:
    """0 where ``|x| <= threshold``, else the sign, with the straight-through gradient where ``|x| <= 1``."""
    return cast(Tensor, _TritOfActivation.apply(x, threshold))  # type: ignore[no-untyped-call]


def thermometer(pixels: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Inputs ``(n, features * levels)`` of images ``(n, features)``, as ``integer.ThermometerEncoding`` makes them."""
    levels = torch.tensor(thresholds, dtype=pixels.dtype, device=pixels.device)
    return _signs(pixels[:, None, :] - levels[:, None]).flatten(1)


class WeightLayer(nn.Module):
    """What all layers with weights share: hidden weights, their quantisation, and errors put into it.

    Args:
        shape: of the weights, a row for each neuron or filter first.
        generator: source of the initial hidden weights, uniform in [-spread, spread].
        spread: small, so that signs can still turn early in training; None for ``1 / sqrt(fan-in)``.
        precision: levels of a weight.
        threshold: of ternary weights.

    Attributes:
        hidden: the parameter that is learnt; ``real`` instead where the weights are real.
        errors: put into the quantised weights at every forward pass, training or not; None for none. The gradient
            passes straight through, and the hidden weights stay as they are.
    """

    hidden: nn.Parameter
    real: nn.Parameter

    def __init__(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator,
        spread: float | None = 0.1,
        precision: Precision = Precision.BINARY,
        threshold: float = TERNARY_THRESHOLD,
    ) -> None:
        super().__init__()
        width = 1.0 / math.sqrt(math.prod(shape[1:])) if spread is None else spread
        self.precision, self.threshold = precision, threshold
        initial = nn.Parameter(torch.empty(shape).uniform_(-width, width, generator=generator))
        # names of their own, so that rules for hidden weights never meet real ones
        self.register_parameter("real" if precision is Precision.REAL else "hidden", initial)
        self.errors: WeightErrors | None = None

    def weight(self) -> Tensor:
        """The weights as they act, errors included."""
        if self.precision is Precision.REAL:
            return self.real
        if self.errors is None and self.precision is Precision.BINARY and getattr(self.hidden, "holds_signs", False):
            return self.hidden  # an optimizer keeps them at -1 and +1
        weight = self._quantised()
        if self.errors is not None:
            self.errors.disturb_(weight.detach())
        return weight

    def _quantised(self) -> Tensor:
        if self.precision is Precision.BINARY:
            return binary_weight(self.hidden)
        return ternary_weight(self.hidden, self.threshold)

    @torch.no_grad()
    def matrix(self) -> NDArray[np.int8]:
        """Quantised weights without errors as whole numbers, ``(rows, columns)``, a row for each neuron or filter."""
        return self._quantised().flatten(1).to(torch.int8).cpu().numpy()

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring the hidden weights back into [-1, 1] unless they are real; call it after every optimizer step."""
        if self.precision is not Precision.REAL:
            self.hidden.clamp_(-1.0, 1.0)


class Linear(WeightLayer):
    """Fully connected layer without bias.

    Args:
        inputs, outputs: size.
        generator, spread, precision, threshold: as of :class:`WeightLayer`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        generator: torch.Generator,
        spread: float | None = 0.1,
        precision: Precision = Precision.BINARY,
        threshold: float = TERNARY_THRESHOLD,
    ) -> None:
        super().__init__((outputs, inputs), generator, spread, precision, threshold)
        self.inputs, self.outputs = inputs, outputs

    def forward(self, x: Tensor) -> Tensor:
        """Sums ``(n, outputs)`` of inputs ``(n, inputs)``; whole numbers where the inputs and weights are."""
        return functional.linear(x, self.weight())


class BinaryLinear(Linear):
    """Fully connected layer without bias whose weights act by their signs."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, spread: float = 0.1) -> None:
        super().__init__(inputs, outputs, generator, spread, Precision.BINARY)


class Convolution(WeightLayer):
    """Convolution without bias in one or two dimensions, as its shape says.

    Args:
        shape: sizes, padding and groups.
        generator, spread, precision, threshold: as of :class:`WeightLayer`.
        reach: largest input; padding with -1 pads with ``-reach``, which is -1 in every plane of the input.
    """

    def __init__(
        self,
        shape: ConvolutionShape,
        generator: torch.Generator,
        spread: float | None = 0.1,
        precision: Precision = Precision.BINARY,
        threshold: float = TERNARY_THRESHOLD,
        reach: int = 1,
    ) -> None:
        sizes = (shape.filters, shape.channels // shape.groups, *shape.kernel)
        super().__init__(sizes, generator, spread, precision, threshold)
        self.shape, self.reach = shape, reach

    def forward(self, x: Tensor) -> Tensor:
        """Sums ``(n, filters, *output_size)`` of inputs ``(n, channels, *size)``."""
        shape = self.shape
        if any(shape.padding):
            beyond = -float(self.reach) if shape.padding_value is PaddingValue.MINUS else 0.0
            # the last dimension comes first
            edges = [pad for pads in reversed(shape.padding) for pad in (pads, pads)]
            x = functional.pad(x, edges, value=beyond)
        convolve = functional.conv1d if shape.dims == 1 else functional.conv2d
        return convolve(x, self.weight(), stride=shape.stride, groups=shape.groups)


def batch_norm(features: int, dims: int = 0) -> nn.BatchNorm1d | nn.BatchNorm2d:
    """Batch normalisation of sums ``(n, features)`` (dims 0), ``(n, features, length)`` or of maps (dims 2)."""
    return nn.BatchNorm2d(features) if dims == 2 else nn.BatchNorm1d(features)


class BatchNormSign(nn.Module):
    """Batch normalisation followed by the sign: the activation of a hidden layer.

    In evaluation mode the decision is taken in float64 by the two operations of :meth:`decision`, each rounded once.
    It therefore rises or falls with the sum without exception, and can be folded exactly into an integer threshold.

    Args:
        features: neurons, or filters.
        dims: of the maps that the filters make; 0 for neurons.
    """

    def __init__(self, features: int, dims: int = 0) -> None:
        super().__init__()
        self.norm = batch_norm(features, dims)

    def forward(self, sums: Tensor) -> Tensor:
        """Activations ``(n, features, ...)`` of +1 and -1 from the sums of the layer before."""
        if self.training:
            return binary_sign(self.norm(sums))
        return binary_sign(self.decision(sums)).to(sums.dtype)

    def decision(self, sums: Tensor) -> Tensor:
        """Batch normalisation times the standard deviation, which is positive and so changes no sign, in float64.

        ``gamma * (s - mean) + beta * sqrt(variance + eps)`` with the running statistics.
        """
        norm = self.norm
        shape = (-1,) + (1,) * (sums.ndim - 2)
        mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
        offset = norm.bias.double() * torch.sqrt(variance + norm.eps)
        return (sums.double() - mean.view(shape)) * norm.weight.double().view(shape) + offset.view(shape)


class BatchNormTernary(nn.Module):
    """Batch normalisation followed by -1, 0 or +1; it is not folded.

    Args:
        features: neurons, or filters.
        dims: of the maps that the filters make; 0 for neurons.
        threshold: normalised sums up to this magnitude become 0.
    """

    def __init__(self, features: int, dims: int = 0, threshold: float = TERNARY_THRESHOLD) -> None:
        super().__init__()
        self.norm, self.threshold = batch_norm(features, dims), threshold

    def forward(self, sums: Tensor) -> Tensor:
        """Activations ``(n, features, ...)`` of -1, 0 and +1."""
        return ternary_sign(self.norm(sums), self.threshold)


class BatchNormReal(nn.Module):
    """Batch normalisation followed by a real activation: hard tanh, or the rectifier; it is not folded.

    Args:
        features: neurons, or filters.
        dims: of the maps that the filters make; 0 for neurons.
        rectified: the rectifier.
    """

    def __init__(self, features: int, dims: int = 0, *, rectified: bool = False) -> None:
        super().__init__()
        self.norm, self.rectified = batch_norm(features, dims), rectified

    def forward(self, sums: Tensor) -> Tensor:
        """Activations ``(n, features, ...)``."""
        normal = self.norm(sums)
        return functional.relu(normal) if self.rectified else functional.hardtanh(normal)


class ClassScores(nn.Module):
    """Logits of the last layer's sums: one positive scale for all classes, a whole-numbered offset for each.

    A common positive scale cannot change which class is largest, so that ``sum - offset`` in integers answers the same.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        # sums of n random signs have the standard deviation sqrt(n): logits start with a spread of about 3
        self.log_scale = nn.Parameter(torch.log(torch.tensor(3.0 / inputs**0.5)))
        self.offset = nn.Parameter(torch.zeros(classes))

    def forward(self, sums: Tensor, presentations: int = 1) -> Tensor:
        """Logits ``(n, classes)`` of sums ``(n, classes)``, which were added over so many presentations of an image.

        The gradient passes straight through the rounding.
        """
        # the difference and the sum are exact in floating point, so that the offset is a whole number
        rounded = self.offset + (self.offset.round() - self.offset).detach()
        # whole numbers until the last product, so that equal scores stay equal
        return torch.exp(self.log_scale) / presentations * (sums - presentations * rounded)

    def whole_offset(self) -> Tensor:
        """The offsets as whole numbers ``(classes,)``, as :meth:`forward` uses them."""
        return self.offset.detach().round().to(torch.int64)


class RealScores(nn.Module):
    """Logits of a real last layer: its sums and a bias."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, sums: Tensor, presentations: int = 1) -> Tensor:
        """Logits ``(n, classes)`` of sums ``(n, classes)``, which were added over so many presentations of an image."""
        return sums / presentations + self.bias
