"""Data sets by name, with a fixed split and a checksum."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.exceptions import UserMistake


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images or signals, split into those to learn from and those held out.

    Attributes:
        name: what :func:`load_dataset` calls it.
        train_images, test_images: ``(n, features)``: uint8 grey levels of images, float32 samples of signals, each row
            an item of :attr:`shape` laid flat.
        train_labels, test_labels: ``(n,)`` int64, 0 to ``classes - 1``.
        classes: number of classes.
        shape: (channels, height, width) of an image, (channels, samples) of a signal; one row of pixels by default.
        rate_hz: samples of a signal in a second; None for images.
        train_groups, test_groups: ``(n,)`` int64, equal for items of one person or recording, which must not be parted
            by a split; None where every item stands for itself.
        notes: what a reader of results should know, such as that files are missing.

    Raises:
        UserMistake: shapes that do not fit together, labels out of range, samples that are not finite, or a group on
            both sides.
    """

    name: str
    train_images: NDArray[Any]
    train_labels: NDArray[np.int64]
    test_images: NDArray[Any]
    test_labels: NDArray[np.int64]
    classes: int
    shape: tuple[int, ...] = ()
    rate_hz: float | None = None
    train_groups: NDArray[np.int64] | None = None
    test_groups: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes, types, labels and groups."""
        if not self.shape:
            object.__setattr__(self, "shape", (1, 1, *self.train_images.shape[1:]))
        features = math.prod(self.shape)
        dtype = np.dtype(np.float32 if self.is_signals else np.uint8)
        what = "signals" if self.is_signals else "images"
        for part, images, labels, groups in (
            ("train", self.train_images, self.train_labels, self.train_groups),
            ("test", self.test_images, self.test_labels, self.test_groups),
        ):
            where = f"data set {self.name}, {part} part"
            if images.ndim != 2 or images.dtype != dtype or images.shape[1] != features:
                raise UserMistake(
                    f"{where}: {what} are {images.dtype} {images.shape}, expected {dtype} (n, features = {features})"
                )
            if labels.shape != images.shape[:1] or labels.dtype != np.int64:
                raise UserMistake(f"{where}: labels are {labels.dtype} {labels.shape}, expected int64 ({len(images)},)")
            if not len(labels):
                raise UserMistake(f"{where}: there are no {what}")
            if labels.min() < 0 or labels.max() >= self.classes:
                found = f"{labels.min()} to {labels.max()}"
                raise UserMistake(f"{where}: labels go from {found}, expected 0 to {self.classes - 1}")
            if self.is_signals and not np.isfinite(images).all():
                raise UserMistake(f"{where}: signal {np.flatnonzero(~np.isfinite(images).all(1))[0]} is not finite")
            if groups is not None and (groups.shape != labels.shape or groups.dtype != np.int64):
                raise UserMistake(f"{where}: groups are {groups.dtype} {groups.shape}, expected int64 {labels.shape}")
        if self.train_groups is not None and self.test_groups is not None:
            both = np.intersect1d(self.train_groups, self.test_groups)
            if len(both):
                raise UserMistake(f"data set {self.name}: group {both[0]} is both in the train and in the test part")

    @property
    def is_signals(self) -> bool:
        """Whether the items are signals (channels, samples) rather than images (channels, height, width)."""
        return len(self.shape) == 2

    def first_tests(self, count: int | None) -> Dataset:
        """The same with only the first ``count`` held-out items; with all of them for None."""
        if count is None:
            return self
        groups = None if self.test_groups is None else self.test_groups[:count]
        return replace(
            self, test_images=self.test_images[:count], test_labels=self.test_labels[:count], test_groups=groups
        )

    @property
    def checksum(self) -> str:
        """SHA-256 over all images and labels, split included: equal where a run can be repeated."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def load_dataset(name: str, folder: Path | None = None, seed: int = 0) -> Dataset:
    """Load a data set by its name, one of :data:`LOADERS`; docs/data.md says what each holds.

    Args:
        name: "digits" comes with the installation, "synthetic-..." are generated, the others are read from files.
        folder: of data sets; by default what the environment variable RRAM_BENCH_DATA names.
        seed: of what is drawn: generated data, and the split of sets that come without one. Digits, MNIST,
            Fashion-MNIST, CIFAR-10 and MIT-BIH are the same whatever it is.

    Raises:
        UserMistake: no such data set (the text lists those there are), files missing, cut short or not what they
            should be.
    """
    if name not in LOADERS:
        raise UserMistake(f"no data set is called {name!r}; there are: {', '.join(LOADERS)}")
    return LOADERS[name](folder, seed)


def _images(name: str) -> Callable[[Path | None, int], Dataset]:
    def load(folder: Path | None, seed: int) -> Dataset:
        from data.named_images import LOADERS as IMAGES

        return IMAGES[name](folder)

    return load


def _signals(name: str) -> Callable[[Path | None, int], Dataset]:
    def load(folder: Path | None, seed: int) -> Dataset:
        from data.named_signals import LOADERS as SIGNALS

        return SIGNALS[name](folder, seed)

    return load


def _ecg_levels(folder: Path | None, seed: int) -> Dataset:
    """What the packaged ECG network takes: a fifth of the samples, as a converter to 8 bits gives them."""
    from data.levels import as_levels

    return as_levels(load_dataset("ecg", folder, seed), 5)


def _generated(name: str) -> Callable[[Path | None, int], Dataset]:
    def load(folder: Path | None, seed: int) -> Dataset:
        from data.synthetic import GENERATORS

        return GENERATORS[name](seed)

    return load


LOADERS: Mapping[str, Callable[[Path | None, int], Dataset]] = MappingProxyType(
    {
        **{name: _images(name) for name in ("digits", "mnist", "fashion-mnist", "cifar10", "image-folder")},
        **{name: _signals(name) for name in ("ecg", "ecg-quality", "mit-bih", "ptb", "eeg")},
        "ecg-levels": _ecg_levels,
        **{name: _generated(name) for name in ("synthetic-ecg", "synthetic-eeg", "synthetic-images")},
    }
)
"""The data sets there are, and how each is loaded from a folder with a seed."""
