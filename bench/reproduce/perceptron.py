"""Fully connected binary networks on real-valued images, as several of the source papers train them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def normalised_anew(
    network: nn.Module, images: Tensor, batch: int, prepare: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Inside, batch normalisation has the statistics of the weights as they are; afterwards its running ones again.

    Running statistics are those of the last few dozen steps. Where noise turns signs at every step they belong to
    weights that are no longer there.

    Args:
        network: its mode is restored.
        images: training images that the statistics are taken from.
        batch: images at a time.
        prepare: makes the network's inputs of them.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    kept = [({name: value.clone() for name, value in norm.named_buffers()}, norm.momentum) for norm in norms]
    training = network.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    network.train()
    try:
        with torch.no_grad():
            for part in torch.split(images, batch):
                network(prepare(part))
        network.train(training)
        yield
    finally:
        network.train(training)
        for norm, (buffers, momentum) in zip(norms, kept, strict=True):
            norm.load_state_dict(buffers, strict=False)
            norm.momentum = momentum
