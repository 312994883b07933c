"""The grammar of SCPI as an instrument reads it: headers, parameters, error codes.

Follows IEEE 488.2-1992 chapter 7 and SCPI-1999 volume 1 chapters 5 to 7 and volume 2 chapter 21 (error codes).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple, Protocol

ERROR_TEXTS = {
    0: "No error",
    -101: "Invalid character",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -111: "Header separator error",
    -112: "Program mnemonic too long",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -131: "Invalid suffix",
    -138: "Suffix not allowed",
    -151: "Invalid string data",
    -221: "Settings conflict",
    -222: "Data out of range",
    -224: "Illegal parameter value",
    -230: "Data corrupt or stale",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
}

LONGEST_MNEMONIC = 12
"""Characters allowed in one node of a header (IEEE 488.2, 7.6.1.4.1)."""


class ScpiError(Exception):
    """What goes into the error queue: a code of :data:`ERROR_TEXTS`."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f'{code},"{ERROR_TEXTS[code]}"')

    @property
    def is_command_error(self) -> bool:
        """A parser that met one of these throws away the rest of the message (IEEE 488.2, 6.1.6)."""
        return -200 < self.code <= -100


REMEMBERED = 1024
"""So many messages, and pieces of them, are taken apart once only: a client sends the same ones again and again."""

HeaderArgument = int | str | None
"""What a variable part of a header stands for; None for a choice that was left out."""

_VARIABLE = r"<n>|\{[^}]*\}"


@cache
def _header_pattern(header: str) -> re.Pattern[str]:
    parts = re.findall(_VARIABLE + r"|[A-Za-z]+|.", header)
    return re.compile("".join(map(_part_pattern, parts)))


def _part_pattern(part: str) -> str:
    special = {"[": "(?:", "]": ")?", "<n>": r"(\d+)?"}
    if part in special:
        return special[part]
    if part.startswith("{"):
        return f"({'|'.join(_header_pattern(choice).pattern for choice in part[1:-1].split('|'))})"
    short = short_form(part)
    return re.escape(part) if part == short else f"(?:{short}|{part.upper()})"


def match_header(header: str, text: str) -> tuple[HeaderArgument, ...] | None:
    """Compare upper-case ``text`` with a header written as manuals write it.

    ``VOLTage`` matches VOLT and VOLTAGE; ``[...]`` is optional; ``<n>`` is a numeric suffix (1 when left out);
    ``{VOLTage|CURRent}`` is a choice.

    Returns:
        Values of the numeric suffixes and short forms of the choices, in order; None without a match.
    """
    match = _header_pattern(header).fullmatch(text)
    if match is None:
        return None
    return tuple(map(_argument, re.findall(_VARIABLE, header), match.groups()))


def _argument(variable: str, matched: str | None) -> HeaderArgument:
    if variable == "<n>":
        return 1 if matched is None else int(matched)
    if matched is None:
        return None
    choices = variable[1:-1].split("|")
    return next(short_form(choice) for choice in choices if _header_pattern(choice).fullmatch(matched))


def variables(header: str) -> int:
    """Number of variable parts of a header."""
    return len(re.findall(_VARIABLE, header))


def short_form(header: str) -> str:
    """Short form without the optional parts: ``CURRent[:DC]`` gives CURR."""
    return re.sub(r"\[.*?\]|[a-z]", "", header)


@lru_cache(REMEMBERED)
def split_unquoted(text: str, separator: str) -> tuple[str, ...]:
    """Split where ``separator`` stands outside quoted strings; the parts come stripped.

    Raises:
        ScpiError: -151, a string is not closed.
    """
    parts, part, quote = [], "", ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter == separator:
            parts.append(part.strip())
            part = ""
            continue
        part += letter
    if quote:
        raise ScpiError(-151)
    return *parts, part.strip()


class Unit(NamedTuple):
    """One program message unit: header in upper case, without its question mark; is it a query; parameters."""

    header: str
    query: bool
    parameters: tuple[str, ...]


_UNIT = re.compile(r"(:?\*?[A-Z][A-Z0-9_:]*)(\??)(?:\s+(.*))?", re.IGNORECASE | re.DOTALL)


@lru_cache(REMEMBERED)
def parse_unit(text: str) -> Unit:
    """Take one message unit apart.

    Raises:
        ScpiError: -102, -111, -112 or -151 for what is no header followed by parameters.
    """
    match = _UNIT.fullmatch(text)
    if match is None:
        raise ScpiError(-111 if _UNIT.match(text) else -102)
    header, mark, data = match.groups()
    if any(len(node) > LONGEST_MNEMONIC for node in header.lstrip(":*").split(":")):
        raise ScpiError(-112)
    parameters = () if data is None or not data.strip() else split_unquoted(data, ",")
    return Unit(header.upper(), bool(mark), parameters)


class Parameter(Protocol):
    """What a command expects at one place of its parameter list."""

    @property
    def optional(self) -> bool:
        """May be left out, with all that follow it."""

    def parse(self, text: str, instrument: Any, earlier: Sequence[Any]) -> Any:
        """Value of the parameter; raises ScpiError.

        ``earlier`` holds the variable parts of the header and the parameters before this one.
        """


class Bounds(NamedTuple):
    """What MINimum, MAXimum and DEFault stand for; all that lies outside is refused."""

    low: float
    high: float
    default: float


_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d+)?)\s*([A-Z]*)", re.IGNORECASE)
_SPECIAL = {"MIN": "low", "MINIMUM": "low", "MAX": "high", "MAXIMUM": "high", "DEF": "default", "DEFAULT": "default"}
_MULTIPLIERS = {"": 1.0, "G": 1e9, "MA": 1e6, "K": 1e3, "M": 1e-3, "U": 1e-6, "N": 1e-9, "P": 1e-12}
_MEGA_UNITS = ("OHM", "HZ")
"""Units in front of which M means mega (SCPI-1999 volume 1, 7.3)."""


@dataclass(frozen=True)
class Number:
    """A decimal number (NRf) with an optional unit, or MINimum, MAXimum, DEFault.

    Attributes:
        bounds: fixed, or a function of the instrument and of what came before (see :class:`Parameter`).
        unit: V, A, S, OHM, or by the first variable part of the header; empty when no suffix is allowed.
        digits: decimals that the instrument resolves; what is finer is rounded.
    """

    bounds: Bounds | Callable[[Any, Sequence[Any]], Bounds]
    unit: str | Mapping[str, str] = ""
    digits: int | None = None
    optional: bool = False

    def limits(self, instrument: Any, earlier: Sequence[Any] = ()) -> Bounds:
        """Bounds that hold now."""
        return self.bounds if isinstance(self.bounds, Bounds) else self.bounds(instrument, earlier)

    def parse(self, text: str, instrument: Any, earlier: Sequence[Any]) -> float:
        """Number in the unit itself (volts, amperes, ...).

        Raises:
            ScpiError: -104 no number, -131 or -138 wrong unit, -222 out of range.
        """
        bounds = self.limits(instrument, earlier)
        if text.upper() in _SPECIAL:
            return float(getattr(bounds, _SPECIAL[text.upper()]))
        match = _NUMBER.fullmatch(text)
        if match is None:
            raise ScpiError(-104)
        unit = self.unit if isinstance(self.unit, str) else self.unit[earlier[0]]
        value = float(match[1]) * _multiplier(match[2].upper(), unit)
        if not bounds.low <= value <= bounds.high:
            raise ScpiError(-222)
        return (value if self.digits is None else round(value, self.digits)) + 0.0


def _multiplier(suffix: str, unit: str) -> float:
    if not suffix:
        return 1.0
    if not unit:
        raise ScpiError(-138)
    prefix = suffix.removesuffix(unit)
    if prefix == suffix or prefix not in _MULTIPLIERS:
        raise ScpiError(-131)
    return 1e6 if prefix == "M" and unit in _MEGA_UNITS else _MULTIPLIERS[prefix]


@dataclass(frozen=True)
class Boolean:
    """ON, OFF, or a number: what rounds to zero is off."""

    optional: bool = False

    def parse(self, text: str, instrument: Any, earlier: Sequence[Any]) -> bool:
        """The state; raises ScpiError -104 for anything else."""
        if text.upper() in ("ON", "OFF"):
            return text.upper() == "ON"
        match = _NUMBER.fullmatch(text)
        if match is None or match[2]:
            raise ScpiError(-104)
        return abs(float(match[1])) >= 0.5


@dataclass(frozen=True)
class Choice:
    """One mnemonic of a list, in its short or long form; the value is the short form.

    Attributes:
        names: written as manuals write them, e.g. ``NORMal`` or ``CURRent[:DC]``.
        quoted: may stand in quotes.
    """

    names: tuple[str, ...]
    quoted: bool = False
    optional: bool = False

    def parse(self, text: str, instrument: Any, earlier: Sequence[Any]) -> str:
        """Short form of the name.

        Raises:
            ScpiError: -104 no mnemonic, -224 not in the list.
        """
        word = text.strip("\"'") if self.quoted else text
        if not re.fullmatch(r"[A-Z][A-Z0-9_:]*", word, re.IGNORECASE):
            raise ScpiError(-104)
        found = _named(self.names, word.upper())
        if found is None:
            raise ScpiError(-224)
        return found


@lru_cache(REMEMBERED)
def _named(names: tuple[str, ...], word: str) -> str | None:
    return next((short_form(name) for name in names if match_header(name, word) is not None), None)


@dataclass(frozen=True)
class Text:
    """A string in single or double quotes; the value comes without them."""

    optional: bool = False

    def parse(self, text: str, instrument: Any, earlier: Sequence[Any]) -> str:
        """The string; raises ScpiError -104 for anything else."""
        if len(text) < 2 or text[0] not in "\"'" or text[-1] != text[0]:
            raise ScpiError(-104)
        return text[1:-1].replace(text[0] * 2, text[0])


def parse_parameters(
    texts: Sequence[str], expected: Sequence[Parameter], rest: Parameter | None, instrument: Any, header: Sequence[Any]
) -> list[Any]:
    """Values of a parameter list.

    Args:
        rest: describes all parameters that follow the expected ones, if any may.
        header: variable parts of the header.

    Raises:
        ScpiError: -108 too many, -109 too few or an empty one, and what the parameters raise.
    """
    if len(texts) > len(expected) and rest is None:
        raise ScpiError(-108)
    needed = sum(not parameter.optional for parameter in expected)
    if len(texts) < needed or "" in texts:
        raise ScpiError(-109)
    values: list[Any] = []
    for place, text in enumerate(texts):
        parameter = expected[place] if place < len(expected) else rest
        assert parameter is not None
        values.append(parameter.parse(text, instrument, [*header, *values]))
    return values
