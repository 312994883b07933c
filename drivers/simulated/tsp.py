"""The core of a simulated TSP instrument: its Lua environment, printing, error queue, and its server.

Instrument settings are fields of tables. A subclass builds the tables of its own; everything that 2600 instruments have
in common is here. Error codes and the print format after the Series 2600B reference manual (2600BS-901-01). Proposed,
for want of a source: a value out of range ends the chunk that it stands in.
"""

from __future__ import annotations

import math
import struct
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from drivers.simulated.lua import RUNTIME_ERROR, SYNTAX_ERROR, LuaError, Value, kind, run_chunk

NOT_A_NUMBER = 9.91e37
TOO_BIG, TOO_SMALL, ILLEGAL, OVERRUN = 1101, 1102, -224, -363
SEVERITY, NODE = 20.0, 1.0
QUEUE_LENGTH = 64

LOAD_AND_RUN, END_SCRIPT = "loadandrunscript", "endscript"


@dataclass(frozen=True)
class Attribute:
    """A field that reads or changes the instrument.

    Attributes:
        get: its value.
        put: sets it; None where it is read only.
    """

    get: Callable[[], Value]
    put: Callable[[Value], None] | None = None


class Fields:
    """A table of the instrument: attributes, functions, constants and other tables."""

    def __init__(self, members: Mapping[str, Value | Attribute]) -> None:
        self.members = dict(members)

    def index(self, key: Value) -> Value:
        """Value of a field; nil for one that does not exist."""
        member = self.members.get(key) if isinstance(key, str) else None
        return member.get() if isinstance(member, Attribute) else member

    def assign(self, key: Value, value: Value) -> None:
        """Set an attribute; raises LuaError for one that does not exist, is read only, or refuses the value."""
        member = self.members.get(key) if isinstance(key, str) else None
        if not isinstance(member, Attribute) or member.put is None:
            raise LuaError(RUNTIME_ERROR, f"TSP Runtime error at line 1: cannot set `{key}'")
        member.put(value)


class Sink:
    """A table without any effect: the front panel's."""

    def index(self, key: Value) -> Value:
        """A function that does nothing."""
        return lambda arguments: []

    def assign(self, key: Value, value: Value) -> None:
        """Take any value."""


def bounded(value: Value, low: float, high: float) -> float:
    """A number inside bounds; raises LuaError."""
    if isinstance(value, bool) or not isinstance(value, float) or math.isnan(value):
        raise LuaError(RUNTIME_ERROR, f"TSP Runtime error at line 1: number expected, got {kind(value)}")
    if value > high:
        raise LuaError(TOO_BIG, "Parameter too big")
    if value < low:
        raise LuaError(TOO_SMALL, "Parameter too small")
    return value + 0.0


def number_of(owner: object, name: str, low: float, high: float, after: Callable[[], None] = lambda: None) -> Attribute:
    """An attribute that is a Python attribute of ``owner``, a number inside bounds."""

    def put(value: Value) -> None:
        setattr(owner, name, bounded(value, low, high))
        after()

    return Attribute(lambda: float(getattr(owner, name)), put)


def choice_of(owner: object, name: str, allowed: Iterable[int], after: Callable[[], None] = lambda: None) -> Attribute:
    """An attribute that is a Python attribute of ``owner``, one of a few whole numbers; booleans count as 1 and 0."""
    numbers = set(map(float, allowed))

    def put(value: Value) -> None:
        wanted = float(value) if isinstance(value, (bool, float)) else math.nan
        if wanted not in numbers:
            raise LuaError(ILLEGAL, "Illegal parameter value")
        setattr(owner, name, int(wanted))
        after()

    return Attribute(lambda: float(getattr(owner, name)), put)


@dataclass
class Format:
    """How results are printed: ``data`` is 1 for ASCII, 2 and 3 for 32- and 64-bit binary."""

    data: int = 1
    asciiprecision: float = 6
    byteorder: int = 1

    def reset(self) -> None:
        """Back to the defaults, in place."""
        self.data, self.asciiprecision, self.byteorder = 1, 6, 1


class Readings:
    """A reading buffer."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.append = 0

    def index(self, key: Value) -> Value:
        """A reading by its place from 1, or a field."""
        if isinstance(key, float):
            place = int(key)
            return self.values[place - 1] if 1 <= place <= len(self.values) else None
        fields: dict[object, Value] = {
            "n": float(len(self.values)),
            "readings": self,
            "appendmode": float(self.append),
            "clear": self._clear,
        }
        return fields.get(key)

    def assign(self, key: Value, value: Value) -> None:
        """Set the append mode or, without effect, what else a buffer is to collect."""
        if key == "appendmode":
            self.append = int(bounded(value, 0, 1))

    def start(self) -> None:
        """New readings come: they replace the old ones unless the buffer appends."""
        if not self.append:
            self.values.clear()

    def _clear(self, arguments: list[Value]) -> list[Value]:
        self.values.clear()
        return []


class TspInstrument(ABC):
    """Runs Lua chunks line by line. Safe to call from several threads.

    Args:
        lock: held while a line is executed.
    """

    IDENTITY: ClassVar[str]
    MODEL: ClassVar[str]
    LINE_FREQUENCY_HZ: ClassVar[float] = 50.0

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self.power_on()

    def power_on(self) -> None:
        """What switching the instrument off and on does: everything at its default, no variables, no errors."""
        with self._lock:
            self._errors: deque[tuple[int, str]] = deque()
            self._script: list[str] | None = None
            self._replies: list[bytes] = []
            self.format = Format()
            self.reset()
            self._globals = dict(self._environment())

    @abstractmethod
    def reset(self) -> None:
        """Put all settings to their defaults."""

    @abstractmethod
    def tables(self) -> Mapping[str, Value]:
        """Global variables that are the instrument's own, made once: a reset changes what is behind them."""

    def execute(self, line: bytes) -> bytes | None:
        """Act on one line; return what it prints, lines joined by newlines."""
        with self._lock:
            self._replies = []
            try:
                self._execute(line.decode("ascii").strip())
            except UnicodeDecodeError:
                self.report(SYNTAX_ERROR, "TSP Syntax error at line 1: malformed text")
            return b"\n".join(self._replies) if self._replies else None

    def overrun(self) -> None:
        """Report a line that was too long for the input buffer."""
        with self._lock:
            self.report(OVERRUN, "Input buffer over-run")

    def report(self, code: int, text: str) -> None:
        """Queue an error; a full queue ends with -350."""
        if len(self._errors) >= QUEUE_LENGTH:
            self._errors.pop()
            code, text = -350, "Queue overflow"
        self._errors.append((code, text))

    def _execute(self, line: str) -> None:
        if self._script is not None:
            if line == END_SCRIPT:
                chunk, self._script = "\n".join(self._script), None
                self._run(chunk)
            else:
                self._script.append(line)
        elif line.partition(" ")[0] == LOAD_AND_RUN:
            self._script = []
        elif line.startswith("*"):
            self._common(line.upper())
        elif line:
            self._run(line)

    def _run(self, chunk: str) -> None:
        try:
            run_chunk(chunk, self._globals)
        except LuaError as error:
            self.report(error.code, error.text)

    def _common(self, line: str) -> None:
        replies = {"*IDN?": self.IDENTITY, "*OPC?": "1", "*TST?": "0", "*ESR?": "0", "*STB?": self._status_byte()}
        if line in replies:
            self._replies.append(replies[line].encode("ascii"))
        elif line == "*CLS":
            self._errors.clear()
        elif line == "*RST":
            self._reset([])
        elif line not in ("*OPC", "*WAI", "*TRG"):
            self.report(SYNTAX_ERROR, f"TSP Syntax error at line 1: unexpected symbol near `{line[:1]}'")

    def _status_byte(self) -> str:
        return "4" if self._errors else "0"

    def _environment(self) -> Mapping[str, Value]:
        shown = self.format
        return {
            **self.tables(),
            "print": self._print,
            "printbuffer": self._print_buffer,
            "printnumber": self._print,
            "reset": self._reset,
            "delay": lambda arguments: [],
            "waitcomplete": lambda arguments: [],
            "display": Sink(),
            "beeper": Sink(),
            "errorqueue": Fields(
                {
                    "next": self._next_error,
                    "clear": self._clear_errors,
                    "count": Attribute(lambda: float(len(self._errors))),
                }
            ),
            "format": Fields(
                {
                    "data": choice_of(shown, "data", (1, 2, 3)),
                    "asciiprecision": number_of(shown, "asciiprecision", 0, 16),
                    "byteorder": choice_of(shown, "byteorder", (0, 1)),
                    "ASCII": 1.0,
                    "REAL32": 2.0,
                    "REAL64": 3.0,
                    "SREAL": 2.0,
                    "DREAL": 3.0,
                    "LITTLEENDIAN": 1.0,
                    "SWAPPED": 1.0,
                    "BIGENDIAN": 0.0,
                    "NORMAL": 0.0,
                }
            ),
            "localnode": Fields(
                {
                    "model": self.MODEL,
                    "serialno": self.IDENTITY.split(",")[2].strip(),
                    "revision": self.IDENTITY.split(",")[3].strip(),
                    "linefreq": self.LINE_FREQUENCY_HZ,
                    "prompts": Attribute(lambda: 0.0, lambda value: None),
                    "showerrors": Attribute(lambda: 0.0, lambda value: None),
                }
            ),
        }

    def shown(self, value: Value) -> str:
        """How a value is printed."""
        if value is None or isinstance(value, bool):
            return {None: "nil", True: "true", False: "false"}[value]
        if isinstance(value, str):
            return value
        if not isinstance(value, float):
            return kind(value)
        finite = value if math.isfinite(value) else NOT_A_NUMBER
        digits = int(self.format.asciiprecision)
        return f"{finite:g}" if digits == 0 else f"{finite:.{digits - 1}e}"

    def _print(self, arguments: list[Value]) -> list[Value]:
        self._replies.append("\t".join(map(self.shown, arguments)).encode("ascii", "replace"))
        return []

    def _print_buffer(self, arguments: list[Value]) -> list[Value]:
        first, last = (int(bounded(value, 1, 1e6)) for value in (*arguments[:2], 1.0, 1.0)[:2])
        values = [value for buffer in arguments[2:] if isinstance(buffer, Readings) for value in buffer.values]
        chosen = values[first - 1 : last]
        if self.format.data == 1:
            self._replies.append(", ".join(map(self.shown, chosen)).encode("ascii"))
            return []
        order, size = "<" if self.format.byteorder else ">", "f" if self.format.data == 2 else "d"
        self._replies.append(b"#0" + struct.pack(f"{order}{len(chosen)}{size}", *chosen))
        return []

    def _next_error(self, arguments: list[Value]) -> list[Value]:
        code, text = self._errors.popleft() if self._errors else (0, "Queue Is Empty")
        return [float(code), text, SEVERITY if code else 0.0, NODE]

    def _clear_errors(self, arguments: list[Value]) -> list[Value]:
        self._errors.clear()
        return []

    def _reset(self, arguments: list[Value]) -> list[Value]:
        self.format.reset()
        self.reset()
        return []
