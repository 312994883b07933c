"""CIFAR-10 batches: the binary version, and the python version without running what its pickle says."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.readers.idx import check_labels
from data.readers.opening import read_bytes
from models.exceptions import UserMistake

SHAPE = (3, 32, 32)
"""Channels (red, green, blue), height, width."""
PIXELS = 3 * 32 * 32
CLASSES = 10


def read_binary(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a batch of the binary version: for each image a label byte, then three planes of 1024 bytes.

    Returns:
        images ``(n, 3072)`` and labels ``(n,)``.

    Raises:
        UserMistake: no whole number of images, or a label out of range.
    """
    content = read_bytes(path)
    record = 1 + PIXELS
    if not content or len(content) % record:
        raise UserMistake(f"{path}: has {len(content)} bytes, no whole number of images of {record} bytes; cut short?")
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    check_labels(records[:, 0], CLASSES, path)
    return records[:, 1:], records[:, 0].astype(np.int64)


def read_python(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read a batch of the python version: a pickle of ``{b"data": uint8 (n, 3072), b"labels": [...]}``.

    A pickle is a program. This one may build dictionaries, lists, numbers, strings and arrays of bytes; whatever
    else it names is refused before it is looked up, and the arrays are built by us, not by what the file asks for.

    Returns:
        images ``(n, 3072)`` and labels ``(n,)``.

    Raises:
        UserMistake: the pickle names anything else, is cut short, or holds something other than a batch.
    """
    try:
        batch = _Restricted(io.BytesIO(read_bytes(path)), encoding="bytes").load()
    except _RefusedError as error:
        raise UserMistake(f"{path}: refused, its pickle asks for {error}; a CIFAR-10 batch needs arrays only") from None
    except Exception as error:  # a damaged pickle can make the machine behind it raise anything
        raise UserMistake(f"{path}: is no CIFAR-10 batch of the python version, or is cut short ({error})") from error
    data = batch.get(b"data") if isinstance(batch, dict) else None
    labels = batch.get(b"labels") if isinstance(batch, dict) else None
    if not isinstance(data, _Array) or not isinstance(labels, list) or not all(type(one) is int for one in labels):
        raise UserMistake(f"{path}: holds no array b'data' with a list of numbers b'labels'")
    images = data.bytes_of(path)
    if images.shape != (len(labels), PIXELS) or not labels:
        raise UserMistake(f"{path}: images are {images.shape} for {len(labels)} labels, expected (n, {PIXELS})")
    if min(labels) < 0 or max(labels) >= CLASSES:
        raise UserMistake(f"{path}: labels go from {min(labels)} to {max(labels)}, allowed are 0 to {CLASSES - 1}")
    return images, np.array(labels, np.int64)


class _RefusedError(Exception):
    """The pickle named something that is not on the list."""


class _Element:
    """Stands for a ``numpy.dtype``: remembers what it was made from."""

    def __init__(self, code: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment, which bytes have none of."""


class _Array:
    """Stands for the array that the pickle builds: keeps its state, and turns it into an array when it is checked."""

    def __init__(self) -> None:
        self._state: Any = None

    def __setstate__(self, state: object) -> None:
        self._state = state

    def bytes_of(self, path: Path) -> NDArray[np.uint8]:
        """The array, if it is one of unsigned bytes whose size is right."""
        match self._state:
            case (int(), (int() as rows, int() as cols), _Element(code=(b"u1" | "u1")), fortran, bytes() as content):
                if rows >= 0 and cols >= 0 and rows * cols == len(content) and not fortran:
                    return np.frombuffer(content, np.uint8).reshape(rows, cols)
        raise UserMistake(f"{path}: b'data' is no array of unsigned bytes in rows, or is cut short")


# What a pickle may name are objects without attributes of their own: it could write to those of a class or a function.
class _NdarrayType:
    __slots__ = ()


class _MakeElement:
    __slots__ = ()

    def __call__(self, code: object = None, *_: object) -> _Element:
        return _Element(code)


class _MakeArray:
    __slots__ = ()

    def __call__(self, *_: object) -> _Array:
        return _Array()


_ALLOWED: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy._core.multiarray", "_reconstruct"): _MakeArray(),
    ("numpy", "ndarray"): _NdarrayType(),
    ("numpy", "dtype"): _MakeElement(),
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _ALLOWED:
            raise _RefusedError(f"{module}.{name}")
        return _ALLOWED[module, name]
