"""What the command line shows: progress on standard error, results on standard output, as a table or as JSON."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bench.procedure import Progress, Record, Step

REDRAW_S = 0.1
TRUST_FRACTION = 0.2
"""From this share of a run on, only its own pace counts, and no longer what was planned."""


def duration(seconds: float) -> str:
    """A duration for people, with about two digits."""
    if seconds < 1.0:
        return "less than 1 s"
    for size, unit, most in ((1.0, "s", 120.0), (60.0, "min", 7200.0), (3600.0, "h", 172_800.0)):
        if seconds < most:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 or unit == "s" else f"{value:.1f} {unit}"
    return f"{seconds / 86_400.0:.1f} days"


class TimeLeft:
    """How long a run will still take: what was planned at first, its own pace later.

    Args:
        planned_s: what the whole run was planned to take, in s; None where nobody planned it.
        now: the moment it begins, on any clock in s.
    """

    def __init__(self, planned_s: float | None, now: float) -> None:
        self._planned_s = planned_s
        self._begun = self._moved = now
        self._done = self._total = 0

    def update(self, done: int, total: int, now: float) -> None:
        """Take note of ``done`` steps of ``total``. A wait in between, which counts as one step, is passed over."""
        if total > 1 or self._total <= 1:
            if (done, total) != (self._done, self._total):
                self._moved = now
            self._done, self._total = done, total

    def seconds(self, now: float) -> float | None:
        """Seconds left, or None where nothing honest can be said."""
        elapsed = now - self._begun
        fraction = self._done / self._total if self._total > 0 else 0.0
        if fraction >= 1.0:
            return None  # whatever it is doing, it is no longer what was counted
        paced = elapsed * (1.0 - fraction) / fraction if fraction > 0.0 else None
        planned = None if self._planned_s is None else self._planned_s - elapsed
        if paced is None:
            return planned if planned is not None and planned > 0.0 else None
        if planned is not None and planned > 0.0 and fraction < TRUST_FRACTION:
            trust = fraction / TRUST_FRACTION
            paced = trust * paced + (1.0 - trust) * planned
        # A step that has taken this long is not about to end because the ones before it were short.
        return max(paced, now - self._moved)

    def text(self, now: float) -> str:
        """For the end of a line: empty where nothing honest can be said."""
        left = self.seconds(now)
        if left is not None:
            return f", about {duration(left)} left"
        late = self._planned_s is not None and self._done == 0 and now - self._begun > self._planned_s
        return ", longer than planned" if late else ""


class Reporter:
    """Progress and results of one command.

    Args:
        as_json: the result goes to standard output as one JSON document, and nothing else does.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._live = sys.stderr.isatty()
        self._last_drawn = 0.0
        self._records = 0
        self._stage = ""
        self._begun = time.monotonic()
        self._left = TimeLeft(None, self._begun)

    def stage(self, text: str, planned_s: float | None = None) -> None:
        """Begin a stage: a line of its own on standard error.

        Args:
            planned_s: what it is planned to take, in s.
        """
        self._end_line()
        self._stage = text
        self._records = 0
        self._begun = time.monotonic()
        self._left = TimeLeft(planned_s, self._begun)
        planned = "" if planned_s is None else f" about {duration(planned_s)}"
        self._say(f"{text} ...{planned}")

    def step(self, step: Step) -> None:
        """Show a step of a run. On a terminal one line is redrawn; elsewhere only whole stages are printed."""
        if isinstance(step, Record):
            self._records += len(next(iter(step.values.values()))) if step.many else 1
        elif self._live and isinstance(step, Progress):
            self._draw(step)

    def note(self, text: str) -> None:
        """A line about the stage that is under way or has just ended."""
        self._end_line()
        self._say(f"  {text}")

    def done(self, text: str) -> None:
        """End a stage with what came of it and how long it took."""
        self.note(f"{text} ({time.monotonic() - self._begun:.1f} s)")

    def result(self, values: Mapping[str, Any], table: Sequence[tuple[str, str]], title: str = "") -> None:
        """The result of the command: ``values`` as JSON, or ``table`` for people."""
        self._end_line()
        if self.as_json:
            print(json.dumps(values, allow_nan=False))
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        # As text: "[s]" is a unit here, and a style to rich's markup.
        shown = Table(title=Text(title) if title else None, show_header=False, title_justify="left")
        for column in ("name", "value"):
            shown.add_column(column, overflow="fold")
        for name, value in table:
            shown.add_row(Text(name), Text(value))
        Console().print(shown)

    def _say(self, text: str, end: str = "\n") -> None:
        # Nobody listens any more (a closed pipe, a full disk): that is no reason to end a measurement.
        with contextlib.suppress(OSError):
            print(text, end=end, file=sys.stderr, flush=True)

    def _draw(self, step: Progress) -> None:
        now = time.monotonic()
        self._left.update(step.done, step.total, now)
        if now - self._last_drawn < REDRAW_S and step.done < step.total:
            return
        self._last_drawn = now
        records = f", {self._records} records" if self._records else ""
        text = f"  {step.done}/{step.total} {step.text}{records}{self._left.text(now)}"
        self._say(f"\r\x1b[2K{text[:100]}", end="")

    def _end_line(self) -> None:
        if self._live and self._last_drawn > 0.0:
            self._say("\r\x1b[2K", end="")
            self._last_drawn = 0.0
