"""XNOR as a stream: vectors cut into requests that fill frames, sums put together again as they come."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from drivers.errors import LimitError, ReplyError
from drivers.framed.exchange import Request
from drivers.framed.link import FramedLink
from drivers.framed.messages import Opcode, PayloadError, Xnor, unpack_sums
from drivers.framed.stream import RequestStream
from models.cells import Geometry


class FramedXnor:
    """Vectors on their way through the board's sense amplifiers; see :class:`drivers.roles.XnorStream`.

    Args:
        link: an open link.
        timing_ns: precharge time and sense window.
        used: cells that take part.
        most: vectors that fit one request.
    """

    def __init__(self, link: FramedLink, timing_ns: tuple[int, int], used: Geometry, most: int) -> None:
        self._link, self._timing_ns, self._used, self._most = link, timing_ns, used, most
        self._stream = RequestStream(link)
        self._sizes: deque[list[int]] = deque()

    def put(self, inputs: NDArray[np.int8]) -> None:
        """Send ``(n, cols)`` of -1 and +1; wait where the window is full.

        Raises:
            LimitError: another shape or value; nothing is sent.
            LinkError: the board does not answer.
            InstrumentError: the board refused an earlier request.
        """
        vectors = checked_vectors(inputs, self._used)
        setup_ns = self._link.welcome.setup_ns
        # As few requests as can be, all of about one size: a small one among large ones would leave the line idle.
        parts = np.array_split(vectors, -(-len(vectors) // self._most)) if len(vectors) else []
        self._sizes.append([len(part) for part in parts])
        for part in parts:
            message = Xnor(*self._timing_ns, self._used.rows, part)
            busy_s, reply_bytes = message.busy_ns(setup_ns) * 1e-9, Xnor.reply_bytes(len(part), self._used)
            self._stream.put(Request(Opcode.XNOR, message.pack(), busy_s, reply_bytes))

    def take(self) -> NDArray[np.int16]:
        """Return the sums ``(n, rows)`` of the oldest vectors put in and not taken out yet.

        Raises:
            LinkError: the board does not answer.
            InstrumentError: the board refused, for instance because its watchdog has tripped.
            ReplyError: the board's answer is malformed.
        """
        sums = [np.zeros((0, self._used.rows), dtype=np.int16)]
        for size in self._sizes.popleft():
            try:
                sums.append(unpack_sums(self._stream.take(), size, self._used))
            except PayloadError as error:
                raise ReplyError(f"the board at {self._link.port} sent a malformed answer: {error}") from None
        return np.concatenate(sums)


def checked_vectors(inputs: NDArray[np.int8], used: Geometry) -> NDArray[np.int8]:
    """Input vectors ``(n, cols)`` as int8. Raises LimitError for another shape, or values beside -1 and +1."""
    vectors = np.asarray(inputs)
    if vectors.ndim != 2 or vectors.shape[1] != used.cols:
        raise LimitError(f"XNOR inputs have the shape {vectors.shape}; expected (n, {used.cols})")
    if vectors.dtype == bool or not ((vectors == 1) | (vectors == -1)).all():
        raise LimitError("XNOR inputs must be -1 or +1")
    return vectors.astype(np.int8, copy=False)
