"""The named architectures, and their form for training in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn

from models.exceptions import UserMistake
from models.integer import ThermometerEncoding
from models.layers import BatchNormSign, BinaryLinear, ClassScores, thermometer


@dataclass(frozen=True)
class Architecture:
    """A fully connected binary network.

    Attributes:
        name: what a person asks for.
        encoding: how an image becomes the +1/-1 inputs.
        hidden: neurons of each hidden layer.
        classes: number of classes.
        input_noise: standard deviation of the noise added to the pixels while training, in grey levels. It turns the
            inputs of pixels near a threshold at random, which keeps the network from learning small data sets by heart.
    """

    name: str
    encoding: ThermometerEncoding
    hidden: tuple[int, ...]
    classes: int
    input_noise: float


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        # 30 tiles of 32 x 32 cells: 6 x 4 for the hidden layer and 6 for the last
        "digits-bnn": Architecture("digits-bnn", ThermometerEncoding(64, (4, 12)), (192,), 10, input_noise=2.0),
    }
)


class BinaryNetwork(nn.Module):
    """Binary layers with batch normalisation and sign, and a binary last layer that scores the classes.

    Args:
        architecture: sizes and encoding.
        generator: source of the initial weights.
    """

    def __init__(self, architecture: Architecture, generator: torch.Generator) -> None:
        super().__init__()
        self.architecture = architecture
        widths = (architecture.encoding.width, *architecture.hidden)
        pairs = pairwise(widths)
        self.linears = nn.ModuleList(BinaryLinear(inputs, outputs, generator) for inputs, outputs in pairs)
        self.activations = nn.ModuleList(BatchNormSign(outputs) for outputs in architecture.hidden)
        self.last = BinaryLinear(widths[-1], architecture.classes, generator)
        self.scores = ClassScores(widths[-1], architecture.classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits ``(n, classes)`` of images ``(n, features)`` in grey levels."""
        return cast(Tensor, self.scores(self.last(self.hidden(pixels)[-1])))

    def hidden(self, pixels: Tensor) -> list[Tensor]:
        """The +1/-1 inputs of every layer: the encoded images, then each hidden layer's activations."""
        inputs = [thermometer(pixels, self.architecture.encoding.thresholds)]
        for linear, activation in zip(self.linears, self.activations, strict=True):
            inputs.append(activation(linear(inputs[-1])))
        return inputs

    def clamp(self) -> None:
        """Bring all hidden weights back into [-1, 1]; call it after every optimizer step."""
        for linear in (*self.linears, self.last):
            cast(BinaryLinear, linear).clamp()


def architecture(name: str) -> Architecture:
    """Look an architecture up by its name; UserMistake lists the names there are."""
    if name not in ARCHITECTURES:
        raise UserMistake(f"no network is called {name!r}; there are: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def build(name: str, generator: torch.Generator) -> BinaryNetwork:
    """A fresh network of the architecture ``name``, its weights drawn from ``generator``."""
    return BinaryNetwork(architecture(name), generator)
