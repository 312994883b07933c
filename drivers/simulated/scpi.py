"""The core of a simulated SCPI instrument: command tables, status reporting, error queue, and its server.

A subclass declares its commands beside what they do::

    class Supply(ScpiInstrument):
        @command("[SOURce:]VOLTage[:LEVel]", Number(Bounds(0.0, 30.0, 0.0), "V"))
        def set_voltage(self, volts: float) -> None: ...

        @query("MEASure:VOLTage[:DC]")
        def measure_voltage(self) -> str: ...

        SETTINGS = (Setting("DISPlay[:STATe]", Boolean(), lambda s: s.display, "on"),)

A raw socket has no notion of a reply that was not fetched, so the query errors -410 and -420 cannot occur.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import IntFlag
from typing import Any, ClassVar, NamedTuple, TypeVar

from drivers.simulated.line_server import LineHandler, LineServed
from drivers.simulated.scpi_syntax import (
    ERROR_TEXTS,
    Boolean,
    Bounds,
    Choice,
    HeaderArgument,
    Number,
    Parameter,
    ScpiError,
    Text,
    Unit,
    match_header,
    parse_parameters,
    parse_unit,
    split_unquoted,
    variables,
)

__all__ = [
    "Boolean",
    "Bounds",
    "Choice",
    "InstrumentServer",
    "Number",
    "ScpiError",
    "ScpiInstrument",
    "Setting",
    "Text",
    "command",
    "query",
    "show",
]

ALLOWED = bytes((*b"\t\r", *range(32, 127)))
"""What a message may consist of."""

BYTE = Number(Bounds(0, 255, 0), digits=0)
Method = TypeVar("Method", bound=Callable[..., Any])


class Event(IntFlag):
    """Bits of the standard event status register (IEEE 488.2, 11.5.1)."""

    OPERATION_COMPLETE = 1
    QUERY_ERROR = 4
    DEVICE_ERROR = 8
    EXECUTION_ERROR = 16
    COMMAND_ERROR = 32
    POWER_ON = 128


class StatusByte(IntFlag):
    """Bits of the status byte (IEEE 488.2, 11.2; SCPI-1999 volume 1, 9)."""

    ERROR_QUEUE = 4
    MESSAGE_AVAILABLE = 16
    EVENT_SUMMARY = 32
    MASTER_SUMMARY = 64


_EVENT_OF_HUNDREDS = {1: Event.COMMAND_ERROR, 2: Event.EXECUTION_ERROR, 4: Event.QUERY_ERROR}


class Entry(NamedTuple):
    """One command or query of an instrument.

    Attributes:
        call: gets the instrument, then the variable parts of the header, then the parameters.
        rest: what follows the expected parameters, any number of times.
    """

    header: str
    query: bool
    parameters: tuple[Parameter, ...]
    rest: Parameter | None
    call: Callable[..., str | None]


Found = tuple[Entry, tuple[HeaderArgument, ...]]
"""An entry and the variable parts of the header that found it."""


class QueuedError(NamedTuple):
    """An entry of the error queue."""

    code: int
    text: str
    at: datetime


def command(header: str, *parameters: Parameter, rest: Parameter | None = None) -> Callable[[Method], Method]:
    """Make a method answer to a header that is sent without a question mark."""
    return _marked(header, False, parameters, rest)


def query(header: str, *parameters: Parameter, rest: Parameter | None = None) -> Callable[[Method], Method]:
    """Make a method answer to a header that is sent with a question mark; it returns the reply."""
    return _marked(header, True, parameters, rest)


def _marked(
    header: str, is_query: bool, parameters: tuple[Parameter, ...], rest: Parameter | None
) -> Callable[[Method], Method]:
    def mark(method: Method) -> Method:
        method.__dict__.setdefault("scpi_entries", []).append(Entry(header, is_query, parameters, rest, method))
        return method

    return mark


def show(value: object) -> str:
    """Reply for a value: booleans as 1 and 0, all else as it is."""
    return str(int(value)) if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Setting:
    """A value that is set by a command and given back by the query of the same header.

    Attributes:
        owner: object that holds the value; gets the instrument and the variable parts of the header.
        attribute: its name there.
        reply: writes the value.
        after: called with the same arguments as ``owner`` when the value was set.
    """

    header: str
    parameter: Number | Boolean | Choice | Text
    owner: Callable[..., object]
    attribute: str
    reply: Callable[[Any], str] = show
    after: Callable[..., None] = lambda *where: None

    def entries(self) -> Iterable[Entry]:
        """The command and the query; a number's query also takes MINimum, MAXimum and DEFault."""
        asked: tuple[Parameter, ...] = ()
        if isinstance(self.parameter, Number):
            asked = (replace(self.parameter, optional=True),)
        yield Entry(self.header, False, (self.parameter,), None, self._set)
        yield Entry(self.header, True, asked, None, self._get)

    def _set(self, *where_and_value: Any) -> None:
        *where, value = where_and_value
        setattr(self.owner(*where), self.attribute, value)
        self.after(*where)

    def _get(self, *where_and_asked: Any) -> str:
        count = 1 + variables(self.header)
        where, asked = where_and_asked[:count], where_and_asked[count:]
        return self.reply(asked[0] if asked else getattr(self.owner(*where), self.attribute))


class ScpiInstrument(ABC):
    """Executes program messages. Safe to call from several threads.

    Args:
        lock: held while a message is executed.
    """

    IDENTITY: ClassVar[str]
    SCPI_VERSION: ClassVar[str] = "1999.0"
    QUEUE_LENGTH: ClassVar[int] = 20
    SETTINGS: ClassVar[Sequence[Setting]] = ()
    ROOT_FALLBACK: ClassVar[bool] = False
    """Whether a header that does not exist below the header path is looked for from the root."""

    _table: ClassVar[Sequence[Entry]]

    def __init_subclass__(cls) -> None:
        methods = (getattr(cls, name) for name in dir(cls) if not name.startswith("__"))
        cls._table = [entry for method in methods for entry in getattr(method, "scpi_entries", ())]
        cls._table += [entry for setting in cls.SETTINGS for entry in setting.entries()]

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._known: dict[tuple[str, bool], Found] = {}
        self.power_on()

    def power_on(self) -> None:
        """What switching the instrument off and on does: everything at its default, the power-on event set."""
        with self._lock:
            self._errors: deque[QueuedError] = deque()
            self._events = int(Event.POWER_ON)
            self._event_enable = self._service_enable = 0
            self._reply_waits = False
            self.reset()

    @abstractmethod
    def reset(self) -> None:
        """Put all settings to their *RST values."""

    def execute(self, line: bytes) -> bytes | None:
        """Act on one program message; return the replies of its queries joined by semicolons."""
        replies: list[str] = []
        with self._lock:
            try:
                self._execute_units(line, replies)
            except ScpiError as error:
                self.report(error)
        return ";".join(replies).encode("ascii") if replies else None

    def overrun(self) -> None:
        """Report a message that was too long for the input buffer."""
        with self._lock:
            self.report(ScpiError(-363))

    def report(self, error: ScpiError) -> None:
        """Queue an error and set its event bit; a full queue ends with -350."""
        hundreds = -error.code // 100 if error.code < 0 else 0
        self._events |= _EVENT_OF_HUNDREDS.get(hundreds, Event.DEVICE_ERROR)
        if len(self._errors) >= self.QUEUE_LENGTH:
            self._errors.pop()
            error = ScpiError(-350)
        self._errors.append(QueuedError(error.code, ERROR_TEXTS[error.code], datetime.now()))

    def error_reply(self, error: QueuedError | None) -> str:
        """How SYSTem:ERRor? gives an entry back; None when the queue is empty."""
        return '0,"No error"' if error is None else f'{error.code},"{error.text}"'

    def _execute_units(self, line: bytes, replies: list[str]) -> None:
        if line.translate(None, ALLOWED):
            raise ScpiError(-101)
        path = ""
        for text in split_unquoted(line.decode("ascii"), ";"):
            if not text:
                continue
            unit = parse_unit(text)
            (entry, arguments), path = self._find(unit, path)
            self._reply_waits = bool(replies)
            try:
                values = parse_parameters(unit.parameters, entry.parameters, entry.rest, self, arguments)
                reply = entry.call(self, *arguments, *values)
            except ScpiError as error:
                if error.is_command_error:
                    raise
                self.report(error)
                continue
            if reply is not None:
                replies.append(reply)

    def _find(self, unit: Unit, path: str) -> tuple[Found, str]:
        """What a unit calls, and the header path for the unit after it (IEEE 488.2, A.1.1)."""
        if unit.header.lstrip(":").startswith("*"):
            return self._lookup(unit.header.lstrip(":"), unit.query), path
        candidates = [path + unit.header]
        if unit.header.startswith(":"):
            candidates = [unit.header[1:]]
        elif path and self.ROOT_FALLBACK:
            candidates.append(unit.header)
        for header in candidates:
            with contextlib.suppress(ScpiError):
                return self._lookup(header, unit.query), header[: header.rfind(":") + 1]
        raise ScpiError(-113)

    def _lookup(self, header: str, is_query: bool) -> Found:
        if (header, is_query) in self._known:
            return self._known[header, is_query]
        for entry in self._table:
            arguments = match_header(entry.header, header)
            if arguments is not None and entry.query == is_query:
                if "<n>" not in entry.header:  # a client could send any number of numbers
                    self._known[header, is_query] = entry, arguments
                return entry, arguments
        raise ScpiError(-113)

    @query("*IDN")
    def _identity(self) -> str:
        return self.IDENTITY

    @command("*RST")
    def _reset(self) -> None:
        self.reset()

    @command("*CLS")
    @command("STATus:CLEar")
    def _clear_status(self) -> None:
        self._events = 0
        self._errors.clear()

    @command("*ESE", BYTE)
    def _set_event_enable(self, mask: float) -> None:
        self._event_enable = int(mask)

    @query("*ESE")
    def _ask_event_enable(self) -> str:
        return str(self._event_enable)

    @query("*ESR")
    def _read_events(self) -> str:
        events, self._events = self._events, 0
        return str(events)

    @command("*SRE", BYTE)
    def _set_service_enable(self, mask: float) -> None:
        self._service_enable = int(mask) & ~int(StatusByte.MASTER_SUMMARY)

    @query("*SRE")
    def _ask_service_enable(self) -> str:
        return str(self._service_enable)

    @query("*STB")
    def _read_status_byte(self) -> str:
        status = StatusByte.ERROR_QUEUE if self._errors else StatusByte(0)
        if self._reply_waits:
            status |= StatusByte.MESSAGE_AVAILABLE
        if self._events & self._event_enable:
            status |= StatusByte.EVENT_SUMMARY
        if status & self._service_enable:
            status |= StatusByte.MASTER_SUMMARY
        return str(int(status))

    @command("*OPC")
    def _note_completion(self) -> None:
        self._events |= Event.OPERATION_COMPLETE

    @query("*OPC")
    def _ask_completion(self) -> str:
        return "1"

    @query("*TST")
    def _self_test(self) -> str:
        return "0"

    @command("*WAI")  # noqa: B027 (there is nothing to do, on any instrument)
    @command("STATus:PRESet")
    def _nothing_to_do(self) -> None:
        """Commands are executed one after the other, so there is never anything to wait for."""

    @query("SYSTem:ERRor[:NEXT]")
    def _next_error(self) -> str:
        return self.error_reply(self._errors.popleft() if self._errors else None)

    @query("SYSTem:ERRor:COUNt")
    def _count_errors(self) -> str:
        return str(len(self._errors))

    @command("SYSTem:CLEar")
    def _clear_errors(self) -> None:
        self._errors.clear()

    @query("SYSTem:VERSion")
    def _scpi_version(self) -> str:
        return self.SCPI_VERSION


class InstrumentServer(LineServed):
    """An instrument on its own loopback port.

    Attributes:
        instrument: the far end itself, for tests that play tricks on it (``instrument.power_on()``).
    """

    def __init__(self, instrument: LineHandler, port: int = 0) -> None:
        super().__init__(instrument, port)
        self.instrument = instrument

    @property
    def resource(self) -> str:
        """VISA resource name of the running server."""
        return f"TCPIP::127.0.0.1::{self.wire.port}::SOCKET"
