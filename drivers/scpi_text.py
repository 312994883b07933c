"""SCPI text, strictly: numbers that read back equal, and replies that are what the question allows or an error."""

from __future__ import annotations

import math
import re

from drivers.errors import LimitError, ReplyError

OVERFLOW = 9.9e37
"""SCPI writes infinity as 9.9E37 and not-a-number as 9.91E37 (SCPI-99, volume 1, 7.2.1.4 and 7.2.1.5)."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_NO_NUMBER = re.compile(r"[+-]?(?:nan|inf|infinity|overflow|ovld|ovfl|over)", re.IGNORECASE)
_ERROR = re.compile(r"""([+-]?\d+)\s*,\s*(?:"(.*)"|'(.*)'|([^"']*))""", re.ASCII)


class ReadingOverflow(ReplyError):
    """The instrument answered in due form that the value is beyond its range; the link stays in step."""


def format_number(value: float) -> str:
    """Write a number as the shortest text that reads back equal: 0.0 and -0.0 give "0", 1e-07 gives "1E-7".

    Raises:
        LimitError: ``value`` is NaN or infinite.
    """
    number = float(value)
    if not math.isfinite(number):
        raise LimitError(f"{number} is not a number that an instrument understands")
    mantissa, _, exponent = repr(number + 0.0).partition("e")
    mantissa = mantissa.removesuffix(".0")
    return f"{mantissa}E{int(exponent)}" if exponent else mantissa


def parse_float(reply: str) -> float:
    """Read exactly one number.

    Raises:
        ReadingOverflow: the instrument's own mark for overflow or not-a-number.
        ReplyError: anything else that is not one number.
    """
    text = reply.strip()
    if _NO_NUMBER.fullmatch(text):
        raise ReadingOverflow(f"{text!r} is beyond the instrument's range")
    if not _NUMBER.fullmatch(text):
        raise ReplyError(f"{reply!r} is not one number")
    number = float(text)
    if abs(number) >= OVERFLOW:
        raise ReadingOverflow(f"{text} is SCPI's mark for a value beyond the instrument's range")
    return number + 0.0


def parse_floats(reply: str, count: int) -> tuple[float, ...]:
    """Read exactly ``count`` numbers with commas between them. Raises ReplyError, like :func:`parse_float`."""
    fields = reply.split(",")
    if len(fields) != count:
        raise ReplyError(f"{reply!r} is not {count} numbers")
    return tuple(parse_float(field) for field in fields)


def parse_int(reply: str) -> int:
    """Read exactly one whole number; "4", "+4" and "4.000000E+00" are whole. Raises ReplyError."""
    if _WHOLE.fullmatch(reply.strip()):
        return int(reply)
    number = parse_float(reply)
    if not number.is_integer():
        raise ReplyError(f"{reply!r} is not a whole number")
    return int(number)


def parse_bool(reply: str) -> bool:
    """Read exactly one of 0, 1, OFF, ON. Raises ReplyError."""
    text = reply.strip().upper()
    if text not in ("0", "1", "OFF", "ON"):
        raise ReplyError(f"{reply!r} is not 0 or 1")
    return text in ("1", "ON")


def parse_word(reply: str) -> str:
    """Read one word, in or out of quotes, in upper case. Raises ReplyError."""
    text = reply.strip()
    if text[:1] in ("'", '"') and text[-1:] == text[:1]:
        text = text[1:-1]
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9:]*", text):
        raise ReplyError(f"{reply!r} is not one word")
    return text.upper()


def parse_error(reply: str) -> tuple[int, str]:
    """Read one entry of an error queue: its code and its text. Raises ReplyError."""
    match = _ERROR.fullmatch(reply.strip())
    if match is None:
        raise ReplyError(f"{reply!r} is not an entry of an error queue")
    text = next((group for group in match.groups()[1:] if group is not None), "")
    return int(match[1]), text.strip()


def split_reply(reply: str) -> list[str]:
    """Cut the answer to a compound question at its semicolons, leaving quoted text whole."""
    if '"' not in reply and "'" not in reply:
        return reply.split(";")
    parts, quote = [""], ""
    for character in reply:
        if character == ";" and not quote:
            parts.append("")
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        parts[-1] += character
    return parts
