"""What all controller boards check before a byte is sent."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

import numpy as np

from drivers.errors import LimitError
from drivers.limits import Range
from models.cells import DeviceMask, Geometry

Choice = TypeVar("Choice", bound=IntEnum)


def checked_choice(kind: type[Choice], value: object, what: str, layer: str) -> Choice:
    """Return the member of ``kind`` that ``value`` is, or names as a plain int.

    Raises:
        LimitError: it is none of them.
    """
    # A float, a bool or another enum's member may equal one of these and yet mean something else.
    if not (isinstance(value, kind) or type(value) is int) or value not in tuple(kind):
        raise LimitError(f"{what}: {value!r} is refused; {layer} allows {', '.join(item.name for item in kind)}")
    return kind(value)


def checked_index(value: object, size: int, what: str, layer: str) -> int:
    """Return ``value`` as an index below ``size``.

    Raises:
        LimitError: it is none.
    """
    return Range(0, size - 1, "counted from 0", layer).check_int(value, what)


def checked_mask(devices: object, geometry: Geometry) -> DeviceMask:
    """Return a mask of devices, bool ``(rows, cols, 2)``.

    Raises:
        LimitError: another type or shape.
    """
    mask = np.asarray(devices)
    wanted = (*geometry, 2)
    if mask.dtype != np.bool_ or mask.shape != wanted:
        raise LimitError(f"mask of devices: {mask.dtype} of shape {mask.shape}; expected bool of shape {wanted}")
    return mask
