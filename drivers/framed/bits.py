"""Bit planes on the wire: one bit per cell, the first in bit 0 of the first byte, padded to whole bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.cells import DeviceMask, Geometry


def plane_bytes(bits: int) -> int:
    """Length of one plane of so many bits."""
    return (bits + 7) // 8


def pack_bits(bits: NDArray[np.bool_]) -> bytes:
    """Planes ``(..., bits)``, one after the other."""
    return np.packbits(bits, axis=-1, bitorder="little").tobytes()


def unpack_bits(data: bytes, planes: int, bits: int) -> NDArray[np.bool_]:
    """Parse planes: ``(planes, bits)``; the length must be right."""
    packed = np.frombuffer(data, dtype=np.uint8).reshape(planes, plane_bytes(bits))
    return np.unpackbits(packed, axis=-1, count=bits, bitorder="little").astype(bool)


def pack_devices(devices: DeviceMask) -> bytes:
    """A mask of devices, ``(rows, cols, 2)``: the BL plane, then the BLb plane."""
    return pack_bits(devices.reshape(-1, 2).T)


def unpack_devices(data: bytes, geometry: Geometry) -> DeviceMask:
    """Parse a mask of devices: ``(rows, cols, 2)``; the length must be right."""
    return unpack_bits(data, 2, geometry.cells).T.reshape(*geometry, 2)
