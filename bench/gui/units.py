"""Quantities as people write them: a number with few digits, an SI prefix and a unit."""

from __future__ import annotations

import math

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
