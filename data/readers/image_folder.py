"""Folders of images as ImageNet has them: ``train/CLASS/*.jpg`` and ``val/CLASS/*.jpg``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.exceptions import UserMistake

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp"})
SHORTER_SIDE = 256 / 224
"""An image is scaled until its shorter side is so many times the crop, as is usual for ImageNet."""
HELD_OUT = ("val", "validation", "test")


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """Images on disk that are read when they are asked for: no more than a batch need fit in memory.

    Attributes:
        folder: where ``train`` and ``val`` lie.
        classes: names of the classes, in the order of their labels.
        train, test: the files.
        train_labels, test_labels: ``(n,)`` int64.
        size: images are cropped to so many pixels in height and in width.
    """

    folder: Path
    classes: tuple[str, ...]
    train: tuple[Path, ...]
    train_labels: NDArray[np.int64]
    test: tuple[Path, ...]
    test_labels: NDArray[np.int64]
    size: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return (3, self.size, self.size)

    def read(self, paths: Sequence[Path]) -> NDArray[np.uint8]:
        """Read some of the files: ``(n, 3 * size * size)``, planes of red, green and blue.

        Raises:
            UserMistake: a file cannot be read as an image.
        """
        images = np.empty((len(paths), *self.shape), np.uint8)
        for number, path in enumerate(paths):
            images[number] = read_image(path, self.size)
        return images.reshape(len(paths), -1)


def read_image(path: Path, size: int) -> NDArray[np.uint8]:
    """Read one image, scale its shorter side and cut ``size`` x ``size`` pixels from the middle: ``(3, size, size)``.

    Raises:
        UserMistake: it cannot be read as an image, or is so large that it may be a trap.
    """
    from PIL import Image

    try:
        with Image.open(path) as file:
            image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserMistake(f"{path}: cannot be read as an image ({' '.join(str(error).split())})") from error
    scale = SHORTER_SIDE * size / min(image.size)
    width, height = (max(size, round(scale * side)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    cropped = np.asarray(scaled.crop((left, top, left + size, top + size)), np.uint8)
    return np.ascontiguousarray(cropped.transpose(2, 0, 1))


def open_image_folder(folder: Path, size: int = 224) -> ImageFolder:
    """List the images of a folder; none is read yet.

    Args:
        folder: holds ``train`` and one of ``val``, ``validation`` and ``test``, each with a folder per class.
        size: crop, in pixels.

    Raises:
        UserMistake: a part is missing or empty, or the held-out part has a class that the training part lacks.
    """
    if size < 1:
        raise UserMistake(f"images of {size} x {size} pixels were asked for, at least 1 is needed")
    train_folder = folder / "train"
    test_folder = next((folder / name for name in HELD_OUT if (folder / name).is_dir()), None)
    if not train_folder.is_dir() or test_folder is None:
        raise UserMistake(f"{folder}: expected folders 'train' and '{HELD_OUT[0]}' with one folder per class in each")
    classes = _classes(train_folder)
    strange = sorted(set(_classes(test_folder)) - set(classes))
    if strange:
        raise UserMistake(f"{test_folder}: the class {strange[0]!r} does not occur in {train_folder}")
    train, train_labels = _files(train_folder, classes)
    test, test_labels = _files(test_folder, classes)
    return ImageFolder(folder, classes, train, train_labels, test, test_labels, size)


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))


def _files(folder: Path, classes: Sequence[str]) -> tuple[tuple[Path, ...], NDArray[np.int64]]:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        place = folder / name
        found = sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES) if place.is_dir() else []
        paths += found
        labels += [label] * len(found)
    if not paths:
        raise UserMistake(f"{folder}: holds no image ({', '.join(sorted(SUFFIXES))}) in a folder of its class")
    return tuple(paths), np.array(labels, np.int64)
