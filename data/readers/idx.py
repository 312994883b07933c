"""IDX files, the format of MNIST: magic, dimensions, then bytes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.readers.opening import read_bytes
from models.exceptions import UserMistake

UNSIGNED_BYTE = 0x08
"""The one type of element that the image sets use (third byte of the file)."""


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzipped or plain.

    Args:
        path: the file.
        dimensions: how many it must have: 3 for images ``(n, height, width)``, 1 for labels ``(n,)``.

    Raises:
        UserMistake: wrong magic number, another type, other dimensions, or more or fewer bytes than its header says.
    """
    content = read_bytes(path)
    magic = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        raise UserMistake(
            f"{path}: begins with {content[:4].hex(' ') or 'nothing'}, an IDX file of bytes in {dimensions} "
            f"dimension(s) with {magic.hex(' ')}"
        )
    begin = 4 + 4 * dimensions
    if len(content) < begin:
        raise UserMistake(f"{path}: is cut short inside its header, after {len(content)} of {begin} bytes")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4))
    expected = begin + math.prod(shape)
    if len(content) != expected:
        raise UserMistake(f"{path}: has {len(content)} bytes, its header {shape} asks for {expected}; fetch it again")
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)


def read_images_and_labels(
    images: Path, labels: Path, size: tuple[int, int], classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a pair of IDX files that belong together.

    Returns:
        images ``(n, height * width)`` and labels ``(n,)``.

    Raises:
        UserMistake: as :func:`read_idx`; images of another ``size``, unequal numbers, labels out of range.
    """
    pixels, answers = read_idx(images, 3), read_idx(labels, 1)
    if pixels.shape[1:] != size:
        found = " x ".join(str(side) for side in pixels.shape[1:])
        raise UserMistake(f"{images}: holds images of {found} pixels, expected {size[0]} x {size[1]}")
    if len(pixels) != len(answers):
        raise UserMistake(f"{labels}: holds {len(answers)} labels for the {len(pixels)} images of {images.name}")
    check_labels(answers, classes, labels)
    return pixels.reshape(len(pixels), size[0] * size[1]), answers.astype(np.int64)


def check_labels(labels: NDArray[np.uint8] | NDArray[np.int64], classes: int, path: Path) -> None:
    """Raise UserMistake where a label is none of ``0`` to ``classes - 1``; the text names the file and the first."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise UserMistake(f"{path}: label {labels[wrong[0]]} of item {wrong[0]}, allowed are 0 to {classes - 1}")
