"""The board's end of a serial line: a pseudo-terminal, or a loopback TCP port where there is none."""

from __future__ import annotations

import os
import socket
from typing import Protocol

CHUNK_BYTES = 65536


class SerialLine(Protocol):
    """A line on which one client at a time may come and go."""

    @property
    def port(self) -> str:
        """What a client opens."""

    @property
    def reader(self) -> int:
        """Descriptor that becomes readable when :meth:`receive` has something to do."""

    @property
    def connected(self) -> bool:
        """False while what is sent would reach nobody."""

    def receive(self) -> bytes:
        """Return what has arrived, without waiting; empty when a client came or went."""

    def send(self, data: bytes) -> int:
        """Send what the line takes now, without waiting; return how many bytes that was."""

    def close(self) -> None:
        """Pull the plug."""


class PseudoTerminal:
    """A pseudo-terminal in raw mode (POSIX only)."""

    def __init__(self) -> None:
        # Imported here: these modules do not exist on Windows.
        import pty
        import tty

        self._master, self._slave = pty.openpty()
        # The slave stays open on our side too, so that reading does not fail while no client has it open.
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self.connected = True

    @property
    def reader(self) -> int:
        """The master's descriptor."""
        return self._master

    def receive(self) -> bytes:
        """See :class:`SerialLine`."""
        try:
            return os.read(self._master, CHUNK_BYTES)
        except BlockingIOError:
            return b""

    def send(self, data: bytes) -> int:
        """See :class:`SerialLine`."""
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """See :class:`SerialLine`."""
        os.close(self._slave)
        os.close(self._master)


class TcpPort:
    """A loopback TCP port. As on a real line there is one client; the next one waits until it has gone.

    Args:
        number: port to listen on; 0 for any.
    """

    def __init__(self, number: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", number))
        self._listener.setblocking(False)
        self._client: socket.socket | None = None
        self.number: int = self._listener.getsockname()[1]
        self.port = f"socket://127.0.0.1:{self.number}"

    @property
    def connected(self) -> bool:
        """True while a client is connected."""
        return self._client is not None

    @property
    def reader(self) -> int:
        """The client's descriptor, or the listener's while there is no client."""
        return (self._listener if self._client is None else self._client).fileno()

    def receive(self) -> bytes:
        """See :class:`SerialLine`."""
        try:
            if self._client is None:
                self._client, _ = self._listener.accept()
                self._client.setblocking(False)
                self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return b""
            data = self._client.recv(CHUNK_BYTES)
        except BlockingIOError:
            return b""
        except ConnectionError:
            data = b""
        if not data:
            self._drop()
        return data

    def send(self, data: bytes) -> int:
        """See :class:`SerialLine`."""
        if self._client is None:
            return 0
        try:
            return self._client.send(data)
        except BlockingIOError:
            return 0
        except ConnectionError:
            self._drop()
            return 0

    def close(self) -> None:
        """See :class:`SerialLine`."""
        self._drop()
        self._listener.close()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
