"""Fully connected binary networks on real-valued images, as several of the source papers train them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.layers import BinaryLinear, binary_sign


class Sign(nn.Module):
    """Signs of activations, with the straight-through gradient where ``|x| <= 1``."""

    def forward(self, x: Tensor) -> Tensor:
        """+1 and -1, of the shape of ``x``."""
        return binary_sign(x)


def binary_perceptron(widths: tuple[int, ...], generator: torch.Generator, spread: float = 0.05) -> nn.Sequential:
    """Binary layers without bias, each followed by batch normalisation, all but the last of these by the sign.

    The last batch normalisation gives the logits: sums of thousands of binary weights as they are would saturate the
    cross-entropy.

    Args:
        widths: inputs, neurons of each layer, classes.
        generator: of the hidden weights, uniform within ``spread`` on either side of 0.
        spread: see there.
    """
    layers = list[nn.Module]()
    for inputs, outputs in pairwise(widths):
        layers += [BinaryLinear(inputs, outputs, generator, spread), nn.BatchNorm1d(outputs), Sign()]
    return nn.Sequential(*layers[:-1])


def scaled(images: Tensor, largest: float) -> Tensor:
    """Grey levels up to ``largest`` as numbers from 0 to 1, ``(n, features)``."""
    return images.to(torch.float32).flatten(1) / largest
