"""Lines of the log: what was done, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """How a line of the log stands."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Entry:
    """A line of the log; a later one with the same ``key`` replaces it."""

    key: object
    operation: str
    cells: str
    text: str
    outcome: Outcome
