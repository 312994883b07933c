"""Tables that a program writes into a page, between two markers of its own."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.aims import aim_of
from benchmarks.rows import Row
from models.exceptions import UserMistake


@dataclass(frozen=True)
class Part:
    """What one benchmark gave.

    Attributes:
        name, about: of the benchmark.
        rows: its figures.
        seconds: by the clock.
        processor_s: of processor time, that of processes which it started and which ended included.
        problem: why it failed; empty where it did not.
    """

    name: str
    about: str
    rows: Sequence[Row]
    seconds: float
    processor_s: float
    problem: str


def machine() -> str:
    """Date, machine and how busy it is, in one line."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        named = [line for line in information.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{date.today()}, {model}, {os.cpu_count()} cores, Python {platform.python_version()}{load}"


def as_json(where: str, parts: Sequence[Part]) -> dict[str, Any]:
    """All figures as plain values; None for a figure that could not be taken."""
    return {
        "machine": where,
        "benchmarks": [{**asdict(part), "rows": [_values(row) for row in part.rows]} for part in parts],
    }


def _values(row: Row) -> dict[str, Any]:
    aim = aim_of(row) if row.taken else None
    figures = {name: getattr(row, name) if row.taken else None for name in ("median", "low", "high")}
    wanted = {"aim": None, "met": None} if aim is None else {"aim": str(aim), "met": aim.met(row)}
    return {"what": row.what, "unit": row.unit, **figures, **wanted}


def as_lines(command: str, where: str, end: str, parts: Sequence[Part]) -> list[str]:
    """A Markdown table for each benchmark."""
    lines = [f"`{command}`, {where}: {end}. A figure is the median, or the ratio of the shortest times;", ""]
    lines[0] += " in brackets how far it spreads."
    for part in parts:
        lines += [f"**{part.name}**: {part.about} Took {part.seconds:.0f} s.", ""]
        if part.problem:
            lines += [f"Failed: {part.problem}", ""]
        lines += ["| what is compared | figure | spread | wanted | |", "|---|---:|---|---|---|"]
        for row in part.rows:
            aim = aim_of(row) if row.taken else None
            figure = f"{row.median:.3g} {row.unit}" if row.taken else row.unit
            spread = f"{row.low:.3g} to {row.high:.3g}" if row.taken and row.low < row.high else ""
            wanted = ("", "") if aim is None else (str(aim), "met" if aim.met(row) else "**missed**")
            lines.append(f"| {row.what} | {figure} | {spread} | {wanted[0]} | {wanted[1]} |")
        lines.append("")
    return lines


def replace_between(page: Path, name: str, lines: Sequence[str] | None) -> None:
    """Put ``lines`` between ``<!-- NAME -->`` and ``<!-- end of NAME -->``, in place of what is there.

    Args:
        page: the page.
        name: of the markers.
        lines: None only looks whether there is a place for them.

    Raises:
        UserMistake: there is no such page, or it does not have both markers, in this order.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise UserMistake(f"{page}: {error.strerror}; name an existing page") from None
    opening, closing = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = text.partition(opening)
    _, ended, after = rest.partition(closing)
    if not (found and ended):
        raise UserMistake(f"{page}: the markers {opening} and {closing} are not there")
    if lines is not None:
        page.write_text("\n".join([before + opening, "", *lines, "", closing + after]), encoding="utf-8")
