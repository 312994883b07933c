"""A VISA link that never hands an answer to the wrong question.

PyVISA alone does not promise that: a reply that comes after the timeout answers the next question, and stays one
question behind for ever; two threads steal each other's replies without any exception. Here a question and its answer
are one step under one lock, and whatever leaves doubt about which bytes belong to which question puts the link OUT OF
STEP: it then refuses everything except the emergency path until :meth:`VisaLink.resynchronise`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from drivers.errors import LinkError, LinkTimeout, ReplyError
from drivers.visa_open import SocketPeek, brief, close_quietly, has_device_clear, open_resource, visa_errors

if TYPE_CHECKING:
    from pyvisa.resources import MessageBasedResource

EMERGENCY_WAIT_S = 0.5
EMERGENCY_SEND_S = 0.1
TERMINATOR = b"\n"
_WHAT_TO_DO = "resynchronise the link and identify the instrument again"


def _encoded(message: str) -> bytes:
    if not message.isascii() or not message.isprintable():
        raise ValueError(f"a message is printable ASCII in one line, not {message!r}")
    return message.encode("ascii") + TERMINATOR


class VisaLink:
    """One instrument behind a VISA resource name. Threads may share it; a context manager, closed at the end.

    Args:
        resource: VISA resource name, e.g. "TCPIP::192.168.0.5::5025::SOCKET" or "GPIB0::6::INSTR".
        timeout_s: longest wait for a connection, and for a reply unless the question says otherwise, in s.
        backend: PyVISA backend, e.g. "@py"; None takes the vendor's VISA where one is installed, else "@py".
    """

    def __init__(self, resource: str, timeout_s: float = 2.0, backend: str | None = None) -> None:
        self._name = resource
        self._timeout_s = timeout_s
        self._backend = backend
        self._lock = threading.RLock()
        self._visa: MessageBasedResource | None = None
        self._peek: SocketPeek | None = None
        self._visa_timeout_s = timeout_s
        self._trouble: str | None = None
        self._closed = True
        self._generation = 0
        self._overtaken = False

    @property
    def resource(self) -> str:
        """Return the VISA resource name, as given."""
        return self._name

    @property
    def timeout_s(self) -> float:
        """Return the longest wait for a reply, in s, unless a question says otherwise."""
        return self._timeout_s

    @property
    def generation(self) -> int:
        """Count the openings and resynchronisations: when it changes, whoever answers must be identified again."""
        return self._generation

    @property
    def in_step(self) -> bool:
        """Tell whether the link is open and the next bytes to arrive can only answer the next question."""
        return self._visa is not None and self._trouble is None and not self._overtaken

    def open(self) -> None:
        """Connect. Ends within the timeout. Does nothing when the link is open already.

        Raises:
            UserMistake: the resource name or the backend is malformed.
            LinkError: nobody answers there.
        """
        with self._lock:
            if self._visa is None:
                self._connect()

    def close(self) -> None:
        """Disconnect. The instrument's outputs stay as they are. Safe to call twice."""
        with self._lock:
            self._disconnect()
            self._closed = True

    def reopen(self) -> None:
        """Disconnect and connect again, e.g. after an unplug. Same errors as :meth:`open`."""
        with self._lock:
            self._disconnect()
            self._connect()

    @contextlib.contextmanager
    def transaction(self, wait_s: float | None = None) -> Iterator[None]:
        """Keep other threads off the link for the length of the block.

        Args:
            wait_s: longest wait for another thread's transaction to end, in s; None waits as long as it takes.

        Raises:
            LinkError: the link was still busy after ``wait_s``.
        """
        if not self._lock.acquire(timeout=-1 if wait_s is None else wait_s):
            raise LinkError(f"{self._name}: still busy in another thread after {wait_s:g} s")
        try:
            yield
        finally:
            self._lock.release()

    def write(self, message: str) -> None:
        """Send a message that has no answer.

        Raises:
            LinkError: the link is closed, broke, or is out of step.
        """
        data = _encoded(message)
        with self._lock:
            visa = self._usable()
            # Whatever interrupts the write, Ctrl-C included, may leave half a message at the instrument.
            self._trouble = f"sending {message!r} was interrupted"
            self._put(visa, data, message, self._timeout_s)
            self._trouble = None

    def query(self, message: str, timeout_s: float | None = None) -> str:
        """Ask and wait for the answer, which is returned without its terminator.

        Args:
            message: the question, in one line.
            timeout_s: longest wait for the answer, in s; the link's own when None.

        Raises:
            LinkTimeout: no answer in time; the link is out of step.
            ReplyError: bytes came that are not one line of text; the link is out of step.
            LinkError: the link is closed, broke, or is out of step.
        """
        data = _encoded(message)
        with self._lock:
            visa = self._usable()
            # From here to the end of the answer any interruption, Ctrl-C included, leaves an answer on its way.
            self._trouble = f"the question {message!r} was interrupted before its answer came"
            self._put(visa, data, message, self._timeout_s)
            reply = self._get(visa, message, self._timeout_s if timeout_s is None else timeout_s)
            if self._overtaken:
                self._fail(f"an emergency message went out before the answer to {message!r}")
            self._trouble = None
            return reply

    def send_now(self, *messages: str, wait_s: float = EMERGENCY_WAIT_S) -> None:
        """Send fixed messages whatever state the link is in, and ask nothing: the emergency path.

        When another thread still holds the link after ``wait_s``, the messages go out all the same: switching off
        outranks that thread's answer. Its question fails, and nothing else is sent until the link is resynchronised.

        Raises:
            LinkError: the link is closed or broke. Every message was tried.
        """
        datas = [_encoded(message) for message in messages]
        held = self._lock.acquire(timeout=wait_s)
        try:
            visa = self._visa
            if visa is None:
                raise LinkError(self._lost())
            if not held:
                self._overtaken = True
            failure: LinkError | None = None
            for message, data in zip(messages, datas, strict=True):
                try:
                    self._put(visa, data, message, EMERGENCY_SEND_S)
                except LinkError as error:
                    failure = error
            peek = self._peek
            if not held and peek is not None:
                peek.wake_reader()
            if failure is not None:
                raise failure
        finally:
            if held:
                self._lock.release()

    def lose_step(self, reason: str) -> None:
        """Put the link out of step: a reply came that does not fit its question.

        Args:
            reason: what was seen; every refusal quotes it.
        """
        with self._lock:
            self._trouble = reason

    def resynchronise(self) -> None:
        """Bring the link back in step: device clear where the interface has it, else a new connection.

        A new connection leaves late replies behind on the old one. Whoever answers must then be identified again.

        Raises:
            LinkError: the link was closed, or nobody answers any more.
        """
        with self._lock:
            if self._closed:
                raise LinkError(self._lost())
            if self._visa is None or not has_device_clear(self._visa):
                self.reopen()
                return
            try:
                self._visa.clear()
            except visa_errors():
                self.reopen()
                return
            self._in_step_again()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self) -> None:
        self._closed = False
        self._trouble = "it could not be opened"
        self._visa, self._peek = open_resource(self._name, self._timeout_s, self._backend)
        self._visa_timeout_s = self._timeout_s
        self._in_step_again()

    def _in_step_again(self) -> None:
        self._trouble = None
        self._overtaken = False
        self._generation += 1

    def _disconnect(self) -> None:
        if self._visa is not None:
            visa, self._visa, self._peek = self._visa, None, None
            close_quietly(visa)

    def _lost(self) -> str:
        if self._closed:
            return f"{self._name}: the link is closed; open it first"
        return f"{self._name}: the link is lost ({self._trouble}); {_WHAT_TO_DO}"

    def _fail(self, reason: str, kind: type[LinkError] = LinkError, cause: BaseException | None = None) -> NoReturn:
        self._trouble = reason
        raise kind(f"{self._name}: {reason}; the link is out of step: {_WHAT_TO_DO}") from cause

    def _usable(self) -> MessageBasedResource:
        if self._visa is None:
            raise LinkError(self._lost())
        if self._overtaken:
            self._trouble = "an emergency message overtook another thread"
        if self._trouble is not None:
            raise LinkError(f"{self._name}: the link is out of step ({self._trouble}); {_WHAT_TO_DO}")
        if self._peek is not None:
            try:
                waiting = self._peek.unread()
            except OSError as error:
                self._fail(f"the connection broke ({error})", cause=error)
            if waiting is None:
                self._fail("the instrument closed the connection")
            if waiting:
                self._fail("bytes arrived that no question asked for")
        return self._visa

    def _put(self, visa: MessageBasedResource, data: bytes, message: str, wait_s: float) -> None:
        peek = self._peek
        try:
            # PyVISA-py waits for ever where the instrument takes no more bytes.
            if peek is not None and not peek.writable(wait_s):
                self._fail(f"{message!r} could not be sent within {wait_s:g} s", LinkTimeout)
            visa.write_raw(data)
        except visa_errors() as error:
            self._fail(f"sending {message!r} failed ({brief(error)})", cause=error)

    def _get(self, visa: MessageBasedResource, message: str, timeout_s: float) -> str:
        try:
            if self._peek is not None:
                # PyVISA-py cannot tell a closed connection from silence, and spins until the timeout on it.
                if not self._peek.readable(timeout_s):
                    self._fail(f"no answer to {message!r} within {timeout_s:g} s", LinkTimeout)
                if self._peek.unread() is None:
                    self._fail(f"the instrument closed the connection before answering {message!r}")
            if timeout_s != self._visa_timeout_s:
                visa.timeout = timeout_s * 1000
                self._visa_timeout_s = timeout_s
            raw = visa.read_raw()
        except visa_errors() as error:
            if _is_timeout(error):
                self._fail(f"no complete answer to {message!r} within {timeout_s:g} s", LinkTimeout, error)
            self._fail(f"reading the answer to {message!r} failed ({brief(error)})", cause=error)
        if self._peek is not None and self._peek.buffered():
            self._garbled(message, raw, "more bytes follow it")
        try:
            reply = raw.rstrip(b"\r\n").decode("ascii")
        except UnicodeDecodeError:
            self._garbled(message, raw, "it is not ASCII text")
        if not reply.replace("\t", " ").isprintable():
            self._garbled(message, raw, "it holds control characters")
        return reply

    def _garbled(self, message: str, raw: bytes, why: str) -> NoReturn:
        self._trouble = f"the answer to {message!r} was garbled"
        raise ReplyError(
            f"{self._name}: the answer to {message!r} is garbled ({why}): {raw[:60]!r}; "
            f"the link is out of step: {_WHAT_TO_DO}"
        )


def _is_timeout(error: BaseException) -> bool:
    from pyvisa.constants import StatusCode

    return isinstance(error, TimeoutError) or getattr(error, "error_code", None) == StatusCode.error_timeout


def open_visa(resource: str, timeout_s: float = 2.0, backend: str | None = None) -> VisaLink:
    """Open a VISA link; arguments and errors are those of :class:`VisaLink` and :meth:`VisaLink.open`."""
    link = VisaLink(resource, timeout_s, backend)
    link.open()
    return link
