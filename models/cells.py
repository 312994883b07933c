"""The vocabulary of a 2T2R array: devices, polarities, device states, weights.

A cell command, a device state and a weight are three types on purpose: the same two bits mean different
things in each of them.

Arrays of weights are ``int8`` of shape ``(rows, cols)`` with values -1, 0, +1; masks of devices are ``bool`` of
shape ``(rows, cols, 2)`` with BL first.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.exceptions import UserMistake

Weights = NDArray[np.int8]
DeviceMask = NDArray[np.bool_]


class Device(IntEnum):
    """Which of the two devices of a 2T2R cell: the one on the bit line BL, or on its complement BLb."""

    BL = 0
    BLB = 1


class Polarity(IntEnum):
    """Direction of a programming pulse: SET drives the source line high, RESET drives the bit line high."""

    RESET = 0
    SET = 1


class DeviceState(IntEnum):
    """What a device is. The last three are for good: no pulse brings the device back.

    INTERMEDIATE is a device that weak RESETs have moved out of the LRS and not yet into the HRS.
    """

    VIRGIN = 0
    LRS = 1
    HRS = 2
    INTERMEDIATE = 3
    STUCK_LRS = 4
    STUCK_HRS = 5
    OPEN = 6


class Geometry(NamedTuple):
    """Size of an array in cells."""

    rows: int
    cols: int

    @property
    def cells(self) -> int:
        """Number of 2T2R cells."""
        return self.rows * self.cols


def checked_weights(weights: object, geometry: Geometry | None = None) -> Weights:
    """Return ``weights`` as int8 of shape ``(rows, cols)``; raise UserMistake for another shape or value."""
    array = np.asarray(weights)
    if array.ndim != 2 or (geometry is not None and array.shape != tuple(geometry)):
        wanted = "(rows, cols)" if geometry is None else tuple(geometry)
        raise UserMistake(f"weights have the shape {array.shape}, expected {wanted}")
    if not np.isin(array, (-1, 0, 1)).all():
        raise UserMistake("weights must be -1, 0 or +1")
    return array.astype(np.int8)


def lrs_devices(weights: Weights) -> DeviceMask:
    """Devices that must be in the LRS for ``weights``; all others must be in the HRS.

    +1 is (BL HRS, BLb LRS), -1 is (BL LRS, BLb HRS), 0 is both HRS: the encoding of the C2N ternary chip.

    Args:
        weights: ``(rows, cols)``, values -1, 0, +1.

    Returns:
        ``(rows, cols, 2)`` bool, BL first.
    """
    return np.stack([weights == -1, weights == 1], axis=-1)


def cell_mask_to_devices(cells: NDArray[np.bool_]) -> DeviceMask:
    """Both devices of each selected cell: ``(rows, cols)`` bool to ``(rows, cols, 2)`` bool."""
    return np.repeat(np.asarray(cells, dtype=bool)[:, :, None], 2, axis=2)
