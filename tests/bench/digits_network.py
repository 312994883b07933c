"""A small network for the digits, whose last layer fits onto one array."""

from __future__ import annotations

from functools import cache

import pytest

import models.architectures
from data.datasets import load_dataset
from models.architectures import ARCHITECTURES, mlp
from models.encodings import ThermometerEncoding
from models.integer import IntegerNetwork
from models.training import train


@cache
def digits_network(epochs: int = 6) -> IntegerNetwork:
    """128 inputs, 64 hidden neurons, 10 classes: 8 + 2 tiles of 32 x 32 cells; somewhat over 90 % right."""
    small = mlp("digits-64", ThermometerEncoding(64, (4, 12)), (64,), 10, input_noise=2.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.architectures, "ARCHITECTURES", {**ARCHITECTURES, small.name: small})
        return train(small.name, load_dataset("digits"), seed=1, epochs=epochs)[0]
