"""An instrument of the simulated bench on its wire: what a client sends it is kept, and may be spoilt on the way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from drivers.simulated.line_server import LineHandler, LineServer
from drivers.simulated.scpi import InstrumentServer
from drivers.visa_link import VisaLink, open_visa

SCPI_BASE = frozenset({"apply", "send", "ask", "ask_parts", "ask_values", "decode"})
"""Methods of the base of all SCPI and TSP drivers: they carry messages and know of no quantity."""


class Tap:
    """Stands between the line server and the instrument.

    Attributes:
        lines: what arrived, since the beginning.
        spoil: what becomes of a line, its terminator included, before the instrument gets it; None for nothing.
    """

    def __init__(self, instrument: LineHandler) -> None:
        self.lines: list[bytes] = []
        self.spoil: Callable[[bytes], bytes] | None = None
        self._instrument = instrument
        self._pending: WeakKeyDictionary[threading.Thread, bytes] = WeakKeyDictionary()

    def execute(self, line: bytes) -> bytes | None:
        """See :class:`drivers.simulated.line_server.LineHandler`."""
        self.lines.append(line)
        if self.spoil is None and not self._pending:
            return self._instrument.execute(line)
        arrived = line + b"\n" if self.spoil is None else self.spoil(line + b"\n")
        # What lost its terminator waits in the instrument for the next line of the same connection.
        client = threading.current_thread()  # the server has one for each connection
        *whole, rest = (self._pending.pop(client, b"") + arrived).split(b"\n")
        if rest:
            self._pending[client] = rest
        replies = [self._instrument.execute(each) for each in whole]
        sent = [reply for reply in replies if reply is not None]
        return b"\n".join(sent) if sent else None

    def overrun(self) -> None:
        """See :class:`drivers.simulated.line_server.LineHandler`."""
        self._instrument.overrun()


@dataclass(frozen=True)
class Wire:
    """A served instrument, the link of our driver to it, and the tap between them."""

    server: InstrumentServer
    tap: Tap
    link: VisaLink

    def received(self) -> int:
        """Bytes that the instrument got from our link, since the beginning."""
        # What was sent before this question has arrived once it is answered.
        self.link.query("*IDN?")
        self.tap.lines.pop()
        return sum(map(len, self.tap.lines))

    def last(self) -> bytes:
        """The last message that was no question."""
        return next(line for line in reversed(self.tap.lines) if b"?" not in line and b"print(" not in line)

    def ask(self, question: str) -> str:
        """Ask as a client that is not ours, past whatever our link is in."""
        with socket.create_connection(("127.0.0.1", self.server.wire.port), timeout=5.0) as own:
            own.sendall(question.encode("ascii") + b"\n")
            with own.makefile("rb") as replies:
                return replies.readline().decode("ascii").strip()


@contextmanager
def on_wire(server: InstrumentServer, timeout_s: float = 2.0) -> Iterator[Wire]:
    """Serve an instrument and open a link to it for the length of the block."""
    tap = Tap(server.instrument)
    server.wire = LineServer(tap)
    with server, open_visa(server.resource, timeout_s=timeout_s) as link:
        yield Wire(server, tap, link)
