"""Opening VISA resources: bounded in time, with errors that say what is wrong, and a look into PyVISA-py's sockets."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import socket
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

from drivers.errors import LinkError
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from pyvisa.resources import MessageBasedResource
    from pyvisa.rname import ResourceName

_TRY = "check that the instrument is switched on, its cable, and the address"
_INSTALL = "install what it asks for, or the vendor's VISA"
MAX_PORT = 65535
_FORMS = (
    "TCPIP::<host>::<port>::SOCKET, TCPIP::<host>::INSTR, USB::<vendor>::<product>::<serial>::INSTR, GPIB::6::INSTR"
)


def visa_errors() -> tuple[type[Exception], ...]:
    """All that a PyVISA backend raises when the far end or the cable fails."""
    from pyvisa.errors import Error  # PyVISA takes a third of a second to import: only where a link is opened

    return (Error, OSError)


def brief(error: BaseException) -> str:
    """First line of an error's text, or its type where it has none."""
    return str(error).strip().splitlines()[0].rstrip(":") if str(error).strip() else type(error).__name__


_AT_ONCE = getattr(socket, "MSG_DONTWAIT", 0)
"""Not on Windows, where a look that finds nothing waits."""


class SocketPeek:
    """What PyVISA-py knows about a socket and does not tell.

    It reports a refused connection as a success, a connection closed by the peer as silence, and keeps bytes that
    follow a reply to prepend them to the next one. All three are seen from its session's socket and buffer.
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    @classmethod
    def of(cls, visa: MessageBasedResource) -> Self | None:
        """Look into ``visa``; None when it is no socket of PyVISA-py."""
        session = getattr(visa.visalib, "sessions", {}).get(visa.session)
        return cls(session) if isinstance(getattr(session, "interface", None), socket.socket) else None

    @property
    def _socket(self) -> socket.socket:
        interface = self._session.interface
        if not isinstance(interface, socket.socket):
            raise OSError("the connection was closed by another thread")
        return interface

    def check_connected(self) -> None:
        """Raise OSError with the reason when the connection was not made; make it send short messages at once."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def buffered(self) -> bool:
        """Tell whether bytes beyond the last reply were received with it."""
        return bool(self._session._pending_buffer)

    def unread(self) -> bool | None:
        """Tell whether bytes wait to be read; None when the peer has closed the connection."""
        if self.buffered():
            return True
        if not self.readable(0.0):
            return False
        try:
            return True if self._socket.recv(1, socket.MSG_PEEK | _AT_ONCE) else None
        except BlockingIOError:  # somebody else has read them since
            return False

    def readable(self, timeout_s: float) -> bool:
        """Wait up to ``timeout_s`` for bytes, or for the end of the connection."""
        return bool(select.select([self._socket], [], [], timeout_s)[0])

    def wake_reader(self) -> None:
        """Let a thread that waits for bytes see the end of the connection now. What was sent still arrives."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)

    def writable(self, timeout_s: float) -> bool:
        """Wait up to ``timeout_s`` for room to send."""
        return bool(select.select([], [self._socket], [], timeout_s)[1])


def has_device_clear(visa: MessageBasedResource) -> bool:
    """Tell whether the interface has a device clear that empties the instrument's output queue."""
    from pyvisa.constants import InterfaceType

    by_protocol = visa.interface_type in (InterfaceType.gpib, InterfaceType.usb, InterfaceType.tcpip)
    return by_protocol and visa.resource_class == "INSTR"


def close_quietly(visa: MessageBasedResource) -> None:
    """Close ``visa``; a link that is given up may be broken already, and then there is nothing left to close."""
    with contextlib.suppress(*visa_errors()):
        visa.close()


def open_resource(name: str, timeout_s: float, backend: str | None) -> tuple[MessageBasedResource, SocketPeek | None]:
    """Open a VISA resource for messages that end in a newline, within ``timeout_s``.

    Raises:
        UserMistake: the name or the backend is malformed.
        LinkError: nobody answers there.
    """
    parsed = _checked_name(name)
    manager = _manager(backend)
    opening: Future[MessageBasedResource] = Future()

    def work() -> None:
        try:
            opening.set_result(_open(manager, name, parsed, timeout_s))
        except Exception as error:  # PyVISA-py raises plain Exception, too
            opening.set_exception(error)

    # Name resolution and some backends know no timeout: they run aside, and are given up when they take too long.
    threading.Thread(target=work, name=f"open {name}", daemon=True).start()
    try:
        visa = opening.result(timeout_s)
        peek = SocketPeek.of(visa)
        if peek is not None:
            peek.check_connected()
    except BaseException as error:
        opening.add_done_callback(_dispose)
        if not isinstance(error, Exception) or isinstance(error, UserMistake):
            raise
        reason = brief(error) if opening.done() else f"no connection in {timeout_s:g} s"
        if isinstance(error, ValueError):  # what PyVISA-py raises when the library of an interface is not installed
            raise LinkError(f"{name}: this computer cannot open it ({reason}); {_INSTALL}") from error
        raise LinkError(f"{name}: nobody answers ({reason}); {_TRY}") from error
    return visa, peek


def _dispose(opening: Future[MessageBasedResource]) -> None:
    if opening.exception() is None:
        close_quietly(opening.result())


def _checked_name(name: str) -> ResourceName:
    from pyvisa.rname import InvalidResourceName, ResourceName, TCPIPSocket

    try:
        parsed = ResourceName.from_string(name)
        if isinstance(parsed, TCPIPSocket) and not 0 < int(parsed.port) <= MAX_PORT:
            raise ValueError(f"port {parsed.port} is not 1 to {MAX_PORT}")
    except (InvalidResourceName, ValueError, AttributeError, TypeError) as error:
        raise UserMistake(f"{name!r} is not a VISA resource name ({error}); expected e.g. {_FORMS}") from error
    return parsed


@functools.cache
def _library(backend: str) -> Any:
    # Cached because looking for the vendor's VISA takes a tenth of a second.
    from pyvisa.highlevel import open_visa_library

    return open_visa_library(backend)


def _manager(backend: str | None) -> Any:
    import pyvisa

    try:
        return pyvisa.ResourceManager(_library("" if backend is None else backend))
    except (ValueError, OSError, pyvisa.errors.Error) as error:
        which = "no VISA backend can" if backend is None else f"the VISA backend {backend!r} cannot"
        raise UserMistake(f"{which} be loaded ({brief(error)}); install pyvisa-py and use '@py'") from error


def _open(manager: Any, name: str, parsed: ResourceName, timeout_s: float) -> MessageBasedResource:
    from pyvisa.resources import MessageBasedResource
    from pyvisa.rname import TCPIPSocket

    if isinstance(parsed, TCPIPSocket):
        socket.getaddrinfo(parsed.host_address, int(parsed.port), socket.AF_INET, socket.SOCK_STREAM)
    visa = manager.open_resource(name, open_timeout=int(timeout_s * 1000) + 500)
    if not isinstance(visa, MessageBasedResource):
        visa.close()
        raise UserMistake(f"{name!r} takes no text messages; expected e.g. {_FORMS}")
    visa.timeout = timeout_s * 1000
    visa.read_termination = "\n"
    return visa
