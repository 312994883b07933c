"""Data sets by name, with a fixed split and a checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.exceptions import UserMistake


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, split into those to learn from and those held out.

    Attributes:
        name: what :func:`load_dataset` calls it.
        train_images, test_images: ``(n, features)`` uint8, grey levels.
        train_labels, test_labels: ``(n,)`` int64, 0 to ``classes - 1``.
        classes: number of classes.

    Raises:
        UserMistake: shapes that do not fit together, or labels out of range.
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    classes: int

    def __post_init__(self) -> None:
        """Check shapes, types and labels."""
        for part, images, labels in (
            ("train", self.train_images, self.train_labels),
            ("test", self.test_images, self.test_labels),
        ):
            where = f"data set {self.name}, {part} part"
            if images.ndim != 2 or images.dtype != np.uint8 or images.shape[1:] != self.train_images.shape[1:]:
                raise UserMistake(f"{where}: images are {images.dtype} {images.shape}, expected uint8 (n, features)")
            if labels.shape != images.shape[:1] or labels.dtype != np.int64:
                raise UserMistake(f"{where}: labels are {labels.dtype} {labels.shape}, expected int64 ({len(images)},)")
            if not len(labels):
                raise UserMistake(f"{where}: there are no images")
            if labels.min() < 0 or labels.max() >= self.classes:
                found = f"{labels.min()} to {labels.max()}"
                raise UserMistake(f"{where}: labels go from {found}, expected 0 to {self.classes - 1}")

    @property
    def checksum(self) -> str:
        """SHA-256 over all images and labels, split included: equal where a run can be repeated."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def load_dataset(name: str) -> Dataset:
    """Load a data set by its name.

    "digits": the 1797 handwritten digits of 8 x 8 pixels, 17 grey levels, that scikit-learn carries; 450 held out.

    Raises:
        UserMistake: no such data set; the text lists those there are.
    """
    if name not in LOADERS:
        raise UserMistake(f"no data set is called {name!r}; there are: {', '.join(LOADERS)}")
    return LOADERS[name]()


def _load_digits() -> Dataset:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return _with_held_out("digits", images.astype(np.uint8), labels.astype(np.int64), classes=10, every=4)


def _with_held_out(
    name: str, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: int, every: int
) -> Dataset:
    """Hold out one image in ``every``, class by class: the same for ever, with no draw that a library could change."""
    held_out = np.zeros(len(labels), dtype=bool)
    held_out[np.argsort(labels, kind="stable")[::every]] = True
    return Dataset(name, images[~held_out], labels[~held_out], images[held_out], labels[held_out], classes)


LOADERS: Mapping[str, Callable[[], Dataset]] = MappingProxyType({"digits": _load_digits})
"""The data sets there are, and how each is loaded."""
