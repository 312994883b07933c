"""Changes of images that do not change what they show: mirrored, and shifted by a few pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.exceptions import UserMistake

Border = Literal["edge", "zero"]


def augment(
    images: NDArray[np.uint8],
    shape: tuple[int, ...],
    generator: np.random.Generator,
    pad: int = 4,
    mirror: bool = True,
    border: Border = "edge",
) -> NDArray[np.uint8]:
    """Mirror images left to right with even odds, and crop them at a random place after padding them.

    This is what the CIFAR-10 networks of the source papers learn from.

    Args:
        images: ``(n, features)``.
        shape: (channels, height, width) of each.
        generator: for each image, in this order: mirrored or not, vertical place, horizontal place.
        pad: pixels added on each side; the image moves by at most so many.
        mirror: whether images may be mirrored.
        border: "edge" repeats the outermost pixels, "zero" adds black ones.

    Returns:
        ``(n, features)``, new images.

    Raises:
        UserMistake: items that are no images of that shape, or a negative ``pad``.
    """
    if len(shape) != 3 or images.ndim != 2 or images.shape[1] != int(np.prod(shape)):
        raise UserMistake(f"items {images.shape} of shape {shape} were to be augmented; images (n, c * h * w) can be")
    if pad < 0:
        raise UserMistake(f"images were to be padded by {pad} pixels, allowed are 0 and more")
    pictures = images.reshape(len(images), *shape)
    if mirror:
        turned = generator.random(len(images)) < 0.5
        pictures = np.where(turned[:, None, None, None], pictures[..., ::-1], pictures)
    down = generator.integers(0, 2 * pad, len(images), endpoint=True)
    across = generator.integers(0, 2 * pad, len(images), endpoint=True)
    sides = ((0, 0), (0, 0), (pad, pad), (pad, pad))
    padded = np.pad(pictures, sides, mode="edge") if border == "edge" else np.pad(pictures, sides)
    places = sliding_window_view(padded, shape[1:], axis=(2, 3))
    cropped = places[np.arange(len(images)), :, down, across]
    return np.ascontiguousarray(cropped).reshape(len(images), -1)
