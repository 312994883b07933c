"""What the classes of the known data sets are called."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_GARMENTS = ("T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
_THINGS = ("aeroplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "lorry")

CLASS_NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "fashion-mnist": _GARMENTS,
        "cifar10": _THINGS,
        "ecg-quality": ("acceptable", "not"),
        "mit-bih": ("N", "S", "V", "F"),
    }
)
"""Of the data sets whose classes are not simply numbers."""


def class_names(data: str, classes: int) -> tuple[str, ...]:
    """Names of the ``classes`` of a data set; numbers where it has none, or not as many."""
    known = CLASS_NAMES.get(data, ())
    return known if len(known) == classes else tuple(str(number) for number in range(classes))
