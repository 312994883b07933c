"""Signals as whole levels of 8 bits, which is what networks on a chip take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.datasets import Dataset
from models.exceptions import UserMistake

LEVELS = 256


def as_levels(data: Dataset, averaged: int, *, per_unit: float | None = None, per_spread: float = 32.0) -> Dataset:
    """Signals as 8-bit levels with zero in the middle, as an analogue-to-digital converter gives them.

    Beyond its first and its last level the converter cuts off.

    Args:
        data: signals; what is over at the end, when ``averaged`` does not divide their length, is left out.
        averaged: neighbouring samples that become one, their mean.
        per_unit: levels per unit of the signals; None for a converter whose range was set to the training signals.
        per_spread: levels per standard deviation of the training signals, then.

    Returns:
        Maps of the shape (channels, 1, samples).

    Raises:
        UserMistake: the data set holds no signals.
    """
    if len(data.shape) != 2:
        raise UserMistake(f"the data set {data.name} holds images; 8-bit levels are made of signals")
    channels, length = data.shape
    samples = length // averaged

    def means(signals: NDArray[Any]) -> NDArray[Any]:
        kept = signals.reshape(-1, channels, length)[:, :, : samples * averaged]
        return np.asarray(kept.reshape(-1, channels, samples, averaged).mean(axis=-1))

    train, test = means(data.train_images), means(data.test_images)
    gain = per_spread / float(train.std()) if per_unit is None else per_unit

    def levels(signals: NDArray[Any]) -> NDArray[np.uint8]:
        whole = np.rint(0.5 * (LEVELS - 1) + gain * signals)
        return np.clip(whole, 0, LEVELS - 1).astype(np.uint8).reshape(len(signals), -1)

    return replace(
        data, train_images=levels(train), test_images=levels(test), shape=(channels, 1, samples), rate_hz=None
    )


def electrodes_last(data: Dataset) -> Dataset:
    """Maps (channels, 1, samples) as maps (1, samples, channels), which convolve over time and then over electrodes."""
    channels, _, samples = data.shape

    def turned(maps: NDArray[Any]) -> NDArray[Any]:
        return maps.reshape(-1, channels, samples).transpose(0, 2, 1).reshape(len(maps), -1)

    return replace(
        data,
        train_images=turned(data.train_images),
        test_images=turned(data.test_images),
        shape=(1, samples, channels),
    )
