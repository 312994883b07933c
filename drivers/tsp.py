"""The strict base of TSP drivers: instruments that run Lua statements instead of SCPI commands.

Settings are attributes, ``smua.source.levelv = 0.2``, and are asked for with ``print(smua.source.levelv)``. Numbers
come back in the format that the instrument is told to print in, so a driver sets that format before it compares
anything: the default of six digits would round.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from enum import IntEnum
from typing import TypeVar

from drivers.errors import InstrumentError, LimitError, ReplyError
from drivers.scpi import MOST_ERRORS, NO_ERROR, ScpiInstrument
from drivers.scpi_settings import Addressed, Change, Setting
from drivers.scpi_text import parse_float

T = TypeVar("T")
Choice = TypeVar("Choice", bound=IntEnum)

NEXT_ERROR = "print(errorqueue.next())"
ERROR_FIELDS = 4


class TspAttributes:
    """Carries settings to an instrument that speaks Lua: the header of each is the name of an attribute."""

    def __init__(self, instrument: TspInstrument) -> None:
        self._instrument = instrument

    def apply(self, *changes: Change) -> None:
        """Assign all attributes in one message, drain the error queue, and print all of them in one message."""
        self._instrument.apply(*changes)

    def ask(self, question: str, decode: Callable[[str], T]) -> T:
        """Print one attribute and decode the answer."""
        return self._instrument.ask(f"print({question.removesuffix('?')})", decode)


class TspInstrument(ScpiInstrument):
    """An instrument that is identified like a SCPI one and then driven by Lua statements.

    Its statements are fixed strings and numbers only: nothing that a user typed becomes a part of a program.
    """

    @abstractmethod
    def _not_off(self) -> list[str]:
        """Ask the instrument, and say of each output that is not at 0 V and off how it stands."""

    def apply(self, *changes: Change) -> None:
        """Send changes in one message, drain the error queue once, and read all of them back in one message.

        Raises:
            InstrumentError: the instrument's error queue was not empty afterwards.
            ReadBackError: a setting reads back as something else.
            ReplyError: an answer was not what its question allows; the link is out of step.
            LinkError: the link is closed, broke, or is out of step.
        """
        with self._identified():
            self.send(" ".join(change.command.replace(" ", " = ", 1) for change in changes))
            replies = self.ask_values([change.question.removesuffix("?") for change in changes])
            for change, reply in zip(changes, replies, strict=True):
                self.decode(change.question, reply, change.confirm)

    def ask_values(self, expressions: list[str], timeout_s: float | None = None, before: str = "") -> list[str]:
        """Print expressions in one message and cut the answer into their values.

        Args:
            expressions: Lua expressions, each with one value.
            timeout_s: longest wait in s; the link's own when None.
            before: statements to run first, in the same message.

        Raises:
            ReplyError: there are more or fewer values; the link is out of step.
            LinkError: the link is closed, broke, or is out of step.
        """

        def cut(reply: str) -> list[str]:
            values = reply.split("\t")
            if len(values) != len(expressions):
                raise ReplyError(f"{reply!r} has {len(values)} value(s), {len(expressions)} were asked for")
            return values

        return self.ask(f"{before} print({', '.join(expressions)})".lstrip(), cut, timeout_s)

    def _drained(self) -> list[tuple[int, str]]:
        errors: list[tuple[int, str]] = []
        for _ in range(MOST_ERRORS):
            code, text = self.decode(NEXT_ERROR, self.link.query(NEXT_ERROR), parse_tsp_error)
            if code == NO_ERROR:
                return errors
            errors.append((code, text))
        self.link.lose_step("the error queue never came to an end")
        raise InstrumentError(self.label, NEXT_ERROR, errors[:3])


def parse_tsp_error(reply: str) -> tuple[int, str]:
    """Read one entry of an error queue: code, text, severity and node with tabs between. Raises ReplyError."""
    fields = reply.split("\t")
    if len(fields) != ERROR_FIELDS:
        raise ReplyError(f"{reply!r} is not an entry of an error queue")
    return _whole(fields[0]), fields[1].strip()


def parse_tsp_bool(reply: str) -> bool:
    """Read exactly one of true and false. Raises ReplyError."""
    if reply.strip() not in ("true", "false"):
        raise ReplyError(f"{reply!r} is not true or false")
    return reply.strip() == "true"


def parse_tsp_switch(reply: str) -> bool:
    """Read 0 or 1, printed as any number is. Raises ReplyError."""
    value = _whole(reply)
    if value not in (0, 1):
        raise ReplyError(f"{reply!r} is not 0 or 1")
    return value == 1


def tsp_switch(header: str, doc: str) -> Setting[Addressed, bool]:
    """An attribute that is 1 or 0; only a bool is accepted."""

    def accept(owner: Addressed, value: object, what: str) -> bool:
        if not isinstance(value, bool):
            raise LimitError(f"{what}: {value!r} is refused; allowed are True and False")
        return value

    return Setting(header, doc, accept=accept, encode=lambda on: "1" if on else "0", decode=parse_tsp_switch)


def tsp_choice(header: str, doc: str, choices: type[Choice]) -> Setting[Addressed, Choice]:
    """An attribute that is one of the numbers of an enum."""

    def accept(owner: Addressed, value: object, what: str) -> Choice:
        if not isinstance(value, choices):
            raise LimitError(f"{what}: {value!r} is refused; allowed are {', '.join(map(str, choices))}")
        return value

    def decode(reply: str) -> Choice:
        number = _whole(reply)
        if number not in list(choices):
            raise ReplyError(f"{reply!r} is none of {', '.join(f'{choice:d}' for choice in choices)}")
        return choices(number)

    return Setting(header, doc, accept=accept, encode=lambda choice: f"{choice:d}", decode=decode)


def _whole(reply: str) -> int:
    number = parse_float(reply)
    if not number.is_integer():
        raise ReplyError(f"{reply!r} is not a whole number")
    return int(number)
