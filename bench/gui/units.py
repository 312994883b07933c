"""Quantities as people write them: a number with few digits, an SI prefix and a unit."""

from __future__ import annotations

import math
import re
from decimal import Decimal

PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}


def si(value: float, unit: str, digits: int = 3) -> str:
    """Write ``value`` with an SI prefix: ``si(1e-5, "s")`` is "10 µs". NaN is "unknown"."""
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return f"{'-' if value < 0 else ''}infinite"
    rounded = float(f"{value:.{digits}g}")
    exponent = 0 if rounded == 0 else 3 * math.floor(math.log10(abs(rounded)) / 3)
    exponent = min(max(exponent, min(PREFIXES)), max(PREFIXES))
    scaled = float(f"{rounded / 10.0**exponent:.{digits}g}")
    return f"{scaled:g} {PREFIXES[exponent]}{unit}"


def duration(seconds: float) -> str:
    """Write a time that a person waits for: "8 s", "3 min 20 s", "1 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


SUFFIXES = {"s": "s", "v": "V", "a": "A", "ohm": "Ω", "j": "J", "c": "°C", "w": "W", "hz": "Hz"}
"""Unit of a quantity by the last part of its name: ``width_s``, ``vddc_v``; ``energy_j_at_most`` too."""

SPELLINGS = {"Ω": ("Ω", "Ω", "ohm", "ohms", "Ohm"), "°C": ("°C", "degC", "C")}
_POWERS = {"µ": -6, "μ": -6, "u": -6, "K": 3} | {prefix: power for power, prefix in PREFIXES.items() if prefix}
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*)", re.DOTALL)
_WITHOUT_PREFIX = ("", "°C")
_PLAIN = (Decimal("1e-4"), Decimal("1e6"))
_WHOLE_BELOW = Decimal("1e12")


def unit_of(name: str) -> str:
    """Unit of a quantity by its name; empty where the name does not tell."""
    words = name.removesuffix("_at_most").removesuffix("_at_least").split("_")
    return SUFFIXES.get(words[-1], "") if len(words) > 1 or words[-1] == "ohm" else ""


def title_of(name: str) -> str:
    """What a quantity is called on the screen: its name without the unit, which stands beside it."""
    words = name.split("_")
    if unit_of(name):
        after = 2 if words[-1] in ("most", "least") else 0
        del words[len(words) - after - 1]
    words = ["time"] if words == ["seconds"] else words if words else ["resistance"]
    return " ".join(word.upper() if word in ("vdd", "vddc", "vddr", "lrs", "hrs") else word for word in words)


def parse_quantity(text: str, unit: str = "") -> float | None:
    """The number in SI units that ``text`` means, such as "10 us" or "30k"; None where it means none.

    Args:
        unit: the one that may be written behind it.
    """
    found = _NUMBER.fullmatch(text.strip().replace("−", "-"))
    if found is None:
        return None
    number, rest = Decimal(found[1]), found[2].strip()
    for spelling in sorted(SPELLINGS.get(unit, (unit,)), key=len, reverse=True):
        if spelling and rest.endswith(spelling):
            rest = rest.removesuffix(spelling).strip()
            break
    if rest and rest not in _POWERS:
        return None
    # As decimals: "10 us" is the very number that "1e-5" is.
    return float(number.scaleb(_POWERS.get(rest, 0)))


def write_quantity(value: float, unit: str = "") -> str:
    """Write a number so that :func:`parse_quantity` gives it back exactly: 1e-5 s is "10 µs"."""
    if not math.isfinite(value):
        return str(value)
    number = Decimal(repr(value))
    power = 0
    if unit not in _WITHOUT_PREFIX and number != 0:
        power = min(max(3 * (number.adjusted() // 3), min(PREFIXES)), max(PREFIXES))
        # Nobody says 100 ks, and the rails are in volts throughout.
        power = 0 if (unit == "s" and power > 0) or (unit == "V" and power == -3 and number.adjusted() >= -2) else power
    scaled = number.scaleb(-power)
    whole = scaled == scaled.to_integral_value() and abs(scaled) < _WHOLE_BELOW
    plain = scaled == 0 or _PLAIN[0] <= abs(scaled) < _PLAIN[1] or (unit == "" and whole)
    digits = f"{scaled.normalize():f}" if plain else f"{scaled.normalize():e}".replace("e+", "e")
    return f"{digits} {PREFIXES[power]}{unit}".rstrip()
