"""The named image sets: digits, MNIST, Fashion-MNIST, CIFAR-10 and a folder of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from data.datasets import Dataset
from data.readers import cifar
from data.readers.idx import read_images_and_labels
from data.readers.image_folder import open_image_folder
from data.readers.opening import data_folder, find_file, need_file
from models.exceptions import UserMistake

MNIST_FOLDERS = ("mnist", "MNIST/raw", "MNIST")
FASHION_MNIST_FOLDERS = ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw", "FashionMNIST")
CIFAR10_FOLDERS = (
    "cifar10",
    "cifar-10-batches-bin",
    "cifar-10-batches-py",
    "cifar10/cifar-10-batches-bin",
    "cifar10/cifar-10-batches-py",
)
IMAGE_FOLDERS = ("image-folder", "imagenet")
TRAIN_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
FOLDER_IMAGE_SIZE = 64
LARGEST_BYTES = 4 << 30
"""An image folder larger than this is read in batches, by those who need it, and not all at once."""


def load_digits(folder: Path | None) -> Dataset:
    """The 1797 handwritten digits of 8 x 8 pixels, 17 grey levels, that scikit-learn carries; 450 held out."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return _with_held_out("digits", images.astype(np.uint8), labels.astype(np.int64), classes=10, every=4)


def load_mnist(folder: Path | None) -> Dataset:
    """MNIST: 60000 digits of 28 x 28 pixels, and 10000 held out."""
    return _load_idx("mnist", data_folder(folder, "mnist"), MNIST_FOLDERS)


def load_fashion_mnist(folder: Path | None) -> Dataset:
    """Fashion-MNIST: 60000 garments of 28 x 28 pixels, and 10000 held out."""
    return _load_idx("fashion-mnist", data_folder(folder, "fashion-mnist"), FASHION_MNIST_FOLDERS)


def load_cifar10(folder: Path | None) -> Dataset:
    """CIFAR-10: colour images of 32 x 32 pixels, as many of the five batches of 10000 as there are, and 10000 held out.

    The binary version is taken where both are there.
    """
    root = data_folder(folder, "cifar10")
    paths = {name: _batch(root, name) for name in TRAIN_BATCHES}
    there = {name: path for name, path in paths.items() if path is not None}
    if not there:
        need_file(root, CIFAR10_FOLDERS, ("data_batch_1.bin", "data_batch_1"), "data set cifar10")
    test = need_file(root, CIFAR10_FOLDERS, ("test_batch.bin", "test_batch"), "data set cifar10")
    batches = [_read_batch(path) for path in there.values()]
    test_images, test_labels = _read_batch(test)
    images = np.concatenate([images for images, _ in batches])
    missing = [name for name in TRAIN_BATCHES if name not in there]
    notes = (f"{len(images)} training images only: {', '.join(missing)} not found",) if missing else ()
    return Dataset(
        "cifar10",
        images,
        np.concatenate([labels for _, labels in batches]),
        np.ascontiguousarray(test_images),
        test_labels,
        cifar.CLASSES,
        cifar.SHAPE,
        notes=notes,
    )


def load_image_folder(folder: Path, size: int = FOLDER_IMAGE_SIZE) -> Dataset:
    """Read every image of an ImageNet-style folder.

    Args:
        folder: holds ``train/CLASS`` and ``val/CLASS``.
        size: images are scaled and cropped to ``(3, size, size)``.

    Raises:
        UserMistake: as :func:`data.readers.image_folder.open_image_folder`; an image that cannot be read; more than
            4 GiB in all.
    """
    images = open_image_folder(folder, size)
    needed = (len(images.train) + len(images.test)) * 3 * size * size
    if needed > LARGEST_BYTES:
        raise UserMistake(
            f"{folder}: {len(images.train) + len(images.test)} images of {size} x {size} pixels take "
            f"{needed / 2**30:.0f} GiB, at most {LARGEST_BYTES >> 30} are read at once; read it in batches with "
            "data.readers.image_folder.open_image_folder"
        )
    return Dataset(
        "image-folder",
        images.read(images.train),
        images.train_labels,
        images.read(images.test),
        images.test_labels,
        len(images.classes),
        images.shape,
    )


def _load_folder(folder: Path | None) -> Dataset:
    root = data_folder(folder, "image-folder")
    places = [root / name for name in IMAGE_FOLDERS if (root / name).is_dir()]
    return load_image_folder(places[0] if places else root)


def _load_idx(name: str, root: Path, folders: tuple[str, ...]) -> Dataset:
    parts = []
    for prefix in ("train", "t10k"):
        pair = []
        for kind in ("images-idx3", "labels-idx1"):
            names = (f"{prefix}-{kind}-ubyte", f"{prefix}-{kind.replace('-', '.')}-ubyte")
            pair.append(need_file(root, folders, names, f"data set {name}"))
        parts.append(read_images_and_labels(pair[0], pair[1], (28, 28), 10))
    (train_images, train_labels), (test_images, test_labels) = parts
    return Dataset(name, train_images, train_labels, test_images, test_labels, 10, (1, 28, 28))


def _batch(root: Path, name: str) -> Path | None:
    return find_file(root, CIFAR10_FOLDERS, (f"{name}.bin", name))


def _read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    return cifar.read_binary(path) if path.name.removesuffix(".gz").endswith(".bin") else cifar.read_python(path)


def _with_held_out(
    name: str, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: int, every: int
) -> Dataset:
    """Hold out one image in ``every``, class by class: the same for ever, with no draw that a library could change."""
    held_out = np.zeros(len(labels), dtype=bool)
    held_out[np.argsort(labels, kind="stable")[::every]] = True
    shape = (1, 8, 8)
    return Dataset(name, images[~held_out], labels[~held_out], images[held_out], labels[held_out], classes, shape)


LOADERS: Mapping[str, Callable[[Path | None], Dataset]] = MappingProxyType(
    {
        "digits": load_digits,
        "mnist": load_mnist,
        "fashion-mnist": load_fashion_mnist,
        "cifar10": load_cifar10,
        "image-folder": _load_folder,
    }
)
"""How each image set is loaded from the folder of data sets."""
