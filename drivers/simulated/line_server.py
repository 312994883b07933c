"""A line server on the loopback interface: the wire of the simulated SCPI instruments."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

LONGEST_LINE = 65536
"""Bytes of one program message; what is longer is thrown away up to its end of line."""

ACCEPT_TIMEOUT_S = 1.0
ACCEPT_PAUSE_S = 0.01


class LineHandler(Protocol):
    """What answers the lines."""

    def execute(self, line: bytes) -> bytes | None:
        """Act on one line, without its terminator; return the reply without its terminator, None for no reply."""

    def overrun(self) -> None:
        """A line was longer than :data:`LONGEST_LINE` and thrown away."""


class LineServer:
    """Serves lines on 127.0.0.1, each client in a thread of its own. Start and stop it, as often as needed.

    Args:
        handler: answers; called from several threads.
        port: TCP port; 0 for any free one.

    Attributes:
        tamper: gets each reply with its terminator and returns what really goes on the wire; None for nothing.
            For fault campaigns.
        delay_s: seconds to wait before a reply.
    """

    def __init__(self, handler: LineHandler, port: int = 0) -> None:
        self.tamper: Callable[[bytes], bytes | None] | None = None
        self.delay_s = 0.0
        self._handler = handler
        self._wanted_port = port
        self._listener: socket.socket | None = None
        self._clients: dict[threading.Thread, socket.socket] = {}
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._acceptor: threading.Thread | None = None

    @property
    def port(self) -> int:
        """TCP port that is served; raises RuntimeError when stopped."""
        if self._listener is None:
            raise RuntimeError("the server is not started")
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        if self._listener is not None:
            raise RuntimeError("the server is started already")
        self._stopping.clear()
        self._listener = socket.create_server(("127.0.0.1", self._wanted_port))
        self._listener.settimeout(ACCEPT_TIMEOUT_S)
        self._acceptor = threading.Thread(
            target=self._accept, args=(self._listener,), name=f"line server {self.port}", daemon=True
        )
        self._acceptor.start()

    def stop(self) -> None:
        """Close all connections and wait for the threads to end. Harmless when stopped already."""
        if self._listener is None or self._acceptor is None:
            return
        self._stopping.set()
        # A connection of our own ends the wait in accept() at once on every platform; closing the listener does not.
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        self._acceptor.join()
        self._listener.close()
        self.disconnect_all()
        with self._guard:
            threads = list(self._clients)
        for thread in threads:
            thread.join()
        self._listener = self._acceptor = None

    def disconnect_all(self) -> None:
        """Close every connection, as a pulled cable would."""
        with self._guard:
            for client in self._clients.values():
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # nobody for a while, gone already, or no descriptors left: none of it ends the service
                if self._stopping.wait(ACCEPT_PAUSE_S):
                    return
                continue
            if self._stopping.is_set():
                client.close()
                return
            thread = threading.Thread(target=self._serve, args=(client,), name="line server client", daemon=True)
            with self._guard:
                self._clients[thread] = client
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError):  # a client that vanishes is no fault of the server
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve_lines(client)
        finally:
            with self._guard:
                del self._clients[threading.current_thread()]

    def _serve_lines(self, client: socket.socket) -> None:
        pending = b""
        skipping = False
        while chunk := client.recv(65536):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                if skipping or len(line) > LONGEST_LINE:
                    self._handler.overrun()
                    skipping = False
                elif not self._reply(client, self._handler.execute(line)):
                    return
            if len(pending) > LONGEST_LINE:
                pending, skipping = b"", True

    def _reply(self, client: socket.socket, reply: bytes | None) -> bool:
        """Send a reply; False when the server is being stopped."""
        if reply is None:
            return True
        sent = reply + b"\n"
        if self.delay_s and self._stopping.wait(self.delay_s):
            return False
        tampered = sent if self.tamper is None else self.tamper(sent)
        if tampered is not None:
            client.sendall(tampered)
        return True


class LineServed:
    """Something on a loopback port of its own. Use it as a context manager, or start and stop it.

    Attributes:
        wire: the line server; its ``tamper`` and ``delay_s`` spoil replies.
    """

    def __init__(self, handler: LineHandler, port: int = 0) -> None:
        self.wire = LineServer(handler, port)

    def start(self) -> None:
        """Serve; raises OSError when the port is taken."""
        self.wire.start()

    def stop(self) -> None:
        """Close all connections. What is served keeps its state."""
        self.wire.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
