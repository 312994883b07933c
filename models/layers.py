"""Binary layers for training, in PyTorch: +1/-1 forward, straight through backward.

A binary layer keeps real hidden weights in [-1, 1] and uses their signs. The sign of zero is +1 everywhere, so
that there are two levels and never a third.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


def _signs(x: Tensor) -> Tensor:
    # adding +0.0 turns -0.0 into +0.0, so that copysign never reads the sign bit of a zero as a minus
    return torch.copysign(torch.ones((), dtype=x.dtype, device=x.device), x + 0.0)


class _SignOfWeight(torch.autograd.Function):
    """Signs forward, the gradient as it is backward: hidden weights are clamped, so that no mask is needed."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        return _signs(hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


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


def binary_weight(hidden: Tensor) -> Tensor:
    """Signs of hidden weights, +1 for zero, with the straight-through gradient (no mask)."""
    return cast(Tensor, _SignOfWeight.apply(hidden))  # type: ignore[no-untyped-call]


def binary_sign(x: Tensor) -> Tensor:
    """Signs of activations, +1 for zero, with the straight-through gradient where ``|x| <= 1``."""
    return cast(Tensor, _SignOfActivation.apply(x))  # type: ignore[no-untyped-call]


def thermometer(pixels: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Inputs ``(n, features * levels)`` of images ``(n, features)``, as ``integer.ThermometerEncoding`` makes them."""
    levels = torch.tensor(thresholds, dtype=pixels.dtype, device=pixels.device)
    return _signs(pixels[:, None, :] - levels[:, None]).flatten(1)


class BinaryLinear(nn.Module):
    """Fully connected layer without bias whose weights act by their signs.

    Args:
        inputs, outputs: size.
        generator: source of the initial hidden weights, uniform in [-spread, spread].
        spread: small, so that signs can still turn early in training.
    """

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator, spread: float = 0.1) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.hidden = nn.Parameter(torch.empty(outputs, inputs).uniform_(-spread, spread, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Sums ``(n, outputs)`` of inputs ``(n, inputs)``; whole numbers where the inputs are +1 and -1."""
        return functional.linear(x, binary_weight(self.hidden))

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring the hidden weights back into [-1, 1]; call it after every optimizer step."""
        self.hidden.clamp_(-1.0, 1.0)


class BatchNormSign(nn.Module):
    """Batch normalisation followed by the sign: the activation of a hidden layer.

    In evaluation mode the decision is taken in float64 by the two operations of :meth:`decision`, each rounded once.
    It therefore rises or falls with the sum without exception, and can be folded exactly into an integer threshold.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features)

    def forward(self, sums: Tensor) -> Tensor:
        """Activations ``(n, features)`` of +1 and -1 from the sums of the layer before."""
        if self.training:
            return binary_sign(self.norm(sums))
        return binary_sign(self.decision(sums)).to(sums.dtype)

    def decision(self, sums: Tensor) -> Tensor:
        """Batch normalisation times the standard deviation, which is positive and so changes no sign, in float64.

        ``gamma * (s - mean) + beta * sqrt(variance + eps)`` with the running statistics.
        """
        norm = self.norm
        mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
        offset = norm.bias.double() * torch.sqrt(variance + norm.eps)
        return (sums.double() - mean) * norm.weight.double() + offset


class ClassScores(nn.Module):
    """Logits of the last layer's sums: one positive scale for all classes, a whole-numbered offset for each.

    A common positive scale cannot change which class is largest, so that ``sum - offset`` in integers answers the same.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        # sums of n random signs have the standard deviation sqrt(n): logits start with a spread of about 3
        self.log_scale = nn.Parameter(torch.log(torch.tensor(3.0 / inputs**0.5)))
        self.offset = nn.Parameter(torch.zeros(classes))

    def forward(self, sums: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of sums ``(n, classes)``; the gradient passes straight through the rounding."""
        # the difference and the sum are exact in floating point, so that the offset is a whole number
        rounded = self.offset + (self.offset.round() - self.offset).detach()
        return torch.exp(self.log_scale) * (sums - rounded)

    def whole_offset(self) -> Tensor:
        """The offsets as whole numbers ``(classes,)``, as :meth:`forward` uses them."""
        return self.offset.detach().round().to(torch.int64)
