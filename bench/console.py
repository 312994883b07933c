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

    def stage(self, text: str) -> None:
        """Begin a stage: a line of its own on standard error."""
        self._end_line()
        self._stage = text
        self._records = 0
        self._begun = time.monotonic()
        self._say(f"{text} ...")

    def step(self, step: Step) -> None:
        """Show a step of a run. On a terminal one line is redrawn; elsewhere only whole stages are printed."""
        if isinstance(step, Record):
            self._records += 1
        elif self._live:
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

        shown = Table(title=title or None, show_header=False, title_justify="left")
        for column in ("name", "value"):
            shown.add_column(column, overflow="fold")
        for name, value in table:
            shown.add_row(name, value)
        Console().print(shown)

    def _say(self, text: str, end: str = "\n") -> None:
        # Nobody listens any more (a closed pipe, a full disk): that is no reason to end a measurement.
        with contextlib.suppress(OSError):
            print(text, end=end, file=sys.stderr, flush=True)

    def _draw(self, step: Progress) -> None:
        now = time.monotonic()
        if now - self._last_drawn < REDRAW_S and step.done < step.total:
            return
        self._last_drawn = now
        elapsed = now - self._begun
        left = elapsed * (step.total - step.done) / step.done if step.done > 0 else None
        estimate = "" if left is None else f", about {left:.0f} s left"
        text = f"  {step.done}/{step.total} {step.text}, {self._records} records{estimate}"
        self._say(f"\r\x1b[2K{text[:100]}", end="")

    def _end_line(self) -> None:
        if self._live and self._last_drawn > 0.0:
            self._say("\r\x1b[2K", end="")
            self._last_drawn = 0.0
