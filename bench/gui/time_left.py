"""How long a job may still take, from how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bench.procedure import Progress


class Left(NamedTuple):
    """What is still to come.

    Attributes:
        seconds: at the pace so far.
        of_stage: of the present stage alone; nobody knows how long the next ones take.
    """

    seconds: float
    of_stage: bool


@dataclass
class Watch:
    """The pace of a job. Where its count starts again, or is of another total, another stage began.

    Args:
        began: when the job began, on the monotonic clock in s; time that it was held for counts for nothing.
    """

    began: float
    _first: int = 0
    _done: int = 0
    _total: int | None = None
    _stages: bool = False
    _held: float | None = None

    def left(self, step: Progress, now: float) -> Left | None:
        """What is left once ``step`` is done; None where nothing is known of the pace, or nothing left."""
        if self._total is not None and (step.total != self._total or step.done < self._done):
            self.began, self._first, self._stages = now, step.done, True
        self._done, self._total = step.done, step.total
        gone = step.done - self._first
        if gone <= 0 or step.done >= step.total:
            return None
        return Left((now - self.began) * (step.total - step.done) / gone, self._stages)

    def hold(self, held: bool, now: float) -> None:
        """The job is held, or goes on."""
        if held and self._held is None:
            self._held = now
        elif not held and self._held is not None:
            self.began += now - self._held
            self._held = None
