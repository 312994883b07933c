"""Opening an HDF5 file whose writer died, without touching it.

Such a file is marked as being written, and its header holds an old end of file. HDF5 opens it only in SWMR mode, in
which a damaged piece of metadata is read again and again, practically for ever, because a writer might still mend it.
Here HDF5 is shown the file with a mended header (as the tool h5clear would write it), so that damage is reported as
damage.

The header is the superblock of version 3 in the HDF5 File Format Specification; its checksum is Bob Jenkins' lookup3.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

_HEADER = struct.Struct("<8s4B4Q")
"""Signature; version, size of offsets, size of lengths, flags; base, extension, end of file, root group."""
_CHECKSUM = struct.Struct("<I")
_VERSION = 3
_MASK = 0xFFFFFFFF


def _turned(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & _MASK


def lookup3(data: bytes) -> int:
    """Checksum of HDF5's metadata: Bob Jenkins' lookup3 (``hashlittle``) with the initial value 0."""
    state = [(0xDEADBEEF + len(data)) & _MASK] * 3
    padded = data + bytes(-len(data) % 12)
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    for start in range(0, len(words), 3):
        for place in range(3):
            state[place] = state[place] + words[start + place] & _MASK
        if start + 3 < len(words):
            for turn, bits in enumerate((4, 6, 8, 16, 19, 4)):
                x, y, z = turn % 3, (turn + 2) % 3, (turn + 1) % 3
                state[x] = (state[x] - state[y] & _MASK) ^ _turned(state[y], bits)
                state[y] = state[y] + state[z] & _MASK
    for turn, bits in enumerate((14, 11, 25, 16, 4, 14, 24)):
        x, y = (turn + 2) % 3, (turn + 1) % 3
        state[x] = (state[x] ^ state[y]) - _turned(state[y], bits) & _MASK
    return state[2]


class MendedFile(io.FileIO):
    """A file open for reading that looks as if its writer had closed it.

    Args:
        path: the file.
        cut_short: it may be shorter than its header says; then only reading what is missing fails.

    Raises:
        OSError: it has no intact header of the kind that a SWMR writer makes, or is shorter than its header says.
    """

    def __init__(self, path: Path, *, cut_short: bool = False) -> None:
        super().__init__(path, "r")
        try:
            self._header = self._mended(os.fstat(self.fileno()).st_size, cut_short)
        except OSError:
            self.close()
            raise

    def _mended(self, size: int, cut_short: bool) -> bytes:
        raw = self.read(_HEADER.size + _CHECKSUM.size)
        if len(raw) < _HEADER.size + _CHECKSUM.size:
            raise OSError("the file ends within its header")
        header, (checksum,) = raw[: _HEADER.size], _CHECKSUM.unpack(raw[_HEADER.size :])
        signature, version, offset_size, length_size, _, base, extension, end, root = _HEADER.unpack(header)
        if version != _VERSION or lookup3(header) != checksum:
            raise OSError("the file's header is damaged")
        if size < end and not cut_short:
            raise OSError(f"the file is cut short: {size} bytes of at least {end}")
        mended = _HEADER.pack(signature, version, offset_size, length_size, 0, base, extension, size, root)
        return mended + _CHECKSUM.pack(lookup3(mended))

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read at the current position; the header comes mended. Raises OSError at the end of the file."""
        position = self.tell()
        count = super().readinto(buffer) or 0
        if count == 0:
            raise OSError(f"the file is cut short at {position} bytes")  # h5py would ask again for ever
        if position < len(self._header):
            stop = min(position + count, len(self._header))
            memoryview(buffer).cast("B")[: stop - position] = self._header[position:stop]
        return count
