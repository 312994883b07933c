"""Frames on a byte stream: COBS between zero bytes, a fixed header, and a CRC-32 over everything before it.

The wire format is specified in ``docs/board-protocol.md``; both ends use this module.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from cobs import cobs

TERMINATOR = b"\0"
BITS_PER_BYTE = 10
"""On a serial line: a start bit, eight data bits, a stop bit."""

HEADER = struct.Struct("<BHHB")
_CRC = struct.Struct("<I")
OVERHEAD_BYTES = HEADER.size + _CRC.size
"""Header and checksum: what a frame carries besides its payload, before COBS."""


class Frame(NamedTuple):
    """One message, decoded and checked."""

    version: int
    session: int
    sequence: int
    opcode: int
    payload: bytes


class FrameError(ValueError):
    """Bytes between two terminators that are not a frame."""


def encode(frame: Frame) -> bytes:
    """Return the bytes that put ``frame`` on the wire, terminator included."""
    body = HEADER.pack(frame.version, frame.session, frame.sequence, frame.opcode) + frame.payload
    stuffed: bytes = cobs.encode(body + _CRC.pack(zlib.crc32(body)))
    return stuffed + TERMINATOR


def decode(encoded: bytes) -> Frame:
    """Return the frame in the bytes between two terminators.

    Raises:
        FrameError: the bytes are not COBS, are too short, or do not match their checksum.
    """
    try:
        data: bytes = cobs.decode(encoded)
    except cobs.DecodeError as error:
        raise FrameError(f"not COBS: {error}") from None
    if len(data) < OVERHEAD_BYTES:
        raise FrameError(f"{len(data)} bytes are too short for a frame")
    body = data[: -_CRC.size]
    if zlib.crc32(body) != _CRC.unpack_from(data, len(body))[0]:
        raise FrameError("the checksum does not match")
    version, session, sequence, opcode = HEADER.unpack_from(body)
    return Frame(version, session, sequence, opcode, body[HEADER.size :])


def wire_bytes(payload_bytes: int) -> int:
    """Most bytes that a frame with such a payload takes on the wire, terminator included."""
    stuffed: int = cobs.max_encoded_length(OVERHEAD_BYTES + payload_bytes)
    return stuffed + len(TERMINATOR)


class Deframer:
    """Cuts a byte stream into frames. Whatever is garbled is reported, and the next terminator restores order.

    Args:
        max_payload: longest payload to accept, in bytes; what is longer is thrown away as it arrives.
    """

    def __init__(self, max_payload: int) -> None:
        self._limit = wire_bytes(max_payload)
        self._partial = bytearray()
        self._too_long = False

    def feed(self, data: bytes) -> list[Frame | FrameError]:
        """Take received bytes; return each frame that they complete, or the reason why it is none."""
        *complete, rest = data.split(TERMINATOR)
        found: list[Frame | FrameError] = []
        for piece in complete:
            self._add(piece)
            if self._too_long:
                found.append(FrameError(f"longer than {self._limit} bytes"))
            elif self._partial:
                try:
                    found.append(decode(bytes(self._partial)))
                except FrameError as error:
                    found.append(error)
            self._partial.clear()
            self._too_long = False
        self._add(rest)
        return found

    def _add(self, piece: bytes) -> None:
        if self._too_long or len(self._partial) + len(piece) >= self._limit:
            self._too_long = True
            self._partial.clear()
        else:
            self._partial += piece
