"""A SCPI driver's register table: one line per setting, checked before it is sent and read back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, Self, TypeVar, overload

from drivers.errors import LimitError, ReadBackError, ReplyError
from drivers.limits import Range
from drivers.scpi_text import format_number, parse_bool, parse_float, parse_int, parse_word

T = TypeVar("T")
Choice = TypeVar("Choice", bound=Enum)

ROUNDING = 1e-6
"""Part of a resolution step that is left to binary rounding when a read-back is compared."""


@dataclass(frozen=True)
class Change:
    """One checked change of one setting, not sent yet.

    Attributes:
        command: what to send.
        question: what to ask afterwards.
        confirm: compares the answer with what was set; raises ReplyError or ReadBackError.
    """

    command: str
    question: str
    confirm: Callable[[str], None]


class Applying(Protocol):
    """What carries changes and questions to the instrument."""

    def apply(self, *changes: Change) -> None:
        """Send, drain the error queue, read back."""

    def ask(self, question: str, decode: Callable[[str], T]) -> T:
        """Ask one question and decode the answer."""


class Addressed(Protocol):
    """An instrument, or a part of one, that has settings."""

    @property
    def instrument(self) -> Applying:
        """The instrument that it is part of."""

    @property
    def path(self) -> str:
        """Sent before each command to select the part, e.g. "INST:SEL CH1;:"; empty for a whole instrument."""

    @property
    def label(self) -> str:
        """Name for messages."""


Owner = TypeVar("Owner", bound=Addressed)


class Setting(Generic[Owner, T]):
    """One line of a driver's register table: read it to ask the instrument, assign to it to set and verify.

    Args:
        header: the SCPI command without arguments.
        doc: what it is, starting with a verb.
        accept: checks a value against all limits before anything is sent; raises LimitError.
        encode: value to SCPI text.
        decode: answer to value; raises ReplyError.
        same: gets what was set and what reads back; tells whether the setting was taken.
    """

    def __init__(
        self,
        header: str,
        doc: str,
        *,
        accept: Callable[[Owner, object, str], T],
        encode: Callable[[T], str],
        decode: Callable[[str], T],
        same: Callable[[Owner, T, T], bool] = lambda owner, wanted, got: wanted == got,
    ) -> None:
        self.header, self.__doc__ = header, doc
        self._accept, self._encode, self._decode, self._same = accept, encode, decode, same
        self._name = header

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name.replace("_", " ")

    @overload
    def __get__(self, owner: None, kind: type) -> Self: ...

    @overload
    def __get__(self, owner: Owner, kind: type | None = None) -> T: ...

    def __get__(self, owner: Owner | None, kind: type | None = None) -> Self | T:
        if owner is None:
            return self
        return owner.instrument.ask(f"{owner.path}{self.header}?", self._decode)

    def __set__(self, owner: Owner, value: T) -> None:
        owner.instrument.apply(self.change(owner, value))

    def change(self, owner: Owner, value: object) -> Change:
        """Check ``value`` against all limits and make it a change to apply. Sends nothing. Raises LimitError."""
        what = f"{owner.label}: {self._name}"
        wanted = self._accept(owner, value, what)
        text = self._encode(wanted)

        def confirm(reply: str) -> None:
            if not self._same(owner, wanted, self._decode(reply)):
                raise ReadBackError(
                    f"{what}: set to {text} but reads back {reply.strip()}; the setting was not taken: check the "
                    "instrument's front panel for a limit, a lock or a protection that tripped"
                )

        return Change(f"{owner.path}{self.header} {text}", f"{owner.path}{self.header}?", confirm)


def within(ranges: Sequence[Range], value: object, what: str) -> float:
    """Check a number against each of ``ranges``, the instrument's own first. Raises LimitError."""
    numbers = [allowed.check(value, what) for allowed in ranges]
    return numbers[0]


def scpi_float(
    header: str,
    doc: str,
    *,
    resolution: float | Callable[[Owner, float], float],
    ranges: Callable[[Owner], Sequence[Range]],
) -> Setting[Owner, float]:
    """A number inside ``ranges`` that reads back within ``resolution``, one figure or one for each owner and value."""

    def accept(owner: Owner, value: object, what: str) -> float:
        return within(ranges(owner), value, what)

    def same(owner: Owner, wanted: float, got: float) -> bool:
        step = resolution(owner, wanted) if callable(resolution) else resolution
        return abs(got - wanted) <= step * (1 + ROUNDING)

    return Setting(header, doc, accept=accept, encode=format_number, decode=parse_float, same=same)


def scpi_int(header: str, doc: str, *, ranges: Callable[[Owner], Sequence[Range]]) -> Setting[Owner, int]:
    """A whole number inside ``ranges``."""

    def accept(owner: Owner, value: object, what: str) -> int:
        numbers = [allowed.check_int(value, what) for allowed in ranges(owner)]
        return numbers[0]

    return Setting(header, doc, accept=accept, encode=str, decode=parse_int)


def scpi_bool(header: str, doc: str) -> Setting[Addressed, bool]:
    """On or off; only a bool is accepted."""

    def accept(owner: Addressed, value: object, what: str) -> bool:
        if not isinstance(value, bool):
            raise LimitError(f"{what}: {value!r} is refused; allowed are True and False")
        return value

    return Setting(header, doc, accept=accept, encode=lambda on: "1" if on else "0", decode=parse_bool)


def scpi_choice(header: str, doc: str, choices: type[Choice], *, quoted: bool = False) -> Setting[Addressed, Choice]:
    """One of an enum whose values are the command's short forms; answers may use long forms and sub-functions."""

    def encode(choice: Choice) -> str:
        return f'"{choice.value}"' if quoted else str(choice.value)

    def accept(owner: Addressed, value: object, what: str) -> Choice:
        if not isinstance(value, choices):
            raise LimitError(f"{what}: {value!r} is refused; allowed are {', '.join(map(str, choices))}")
        return value

    def decode(reply: str) -> Choice:
        word = parse_word(reply)
        found = [choice for choice in choices if word.startswith(choice.value)]
        if len(found) != 1:
            raise ReplyError(f"{reply!r} is none of {', '.join(choice.value for choice in choices)}")
        return found[0]

    return Setting(header, doc, accept=accept, encode=encode, decode=decode)
