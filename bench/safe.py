"""The safe state: every output at 0 V and off, instrument by instrument, and an honest word on each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.exceptions import RramBenchError

GRACE_S = 0.5
"""How long one instrument may take before the next is switched off too: long enough to keep the order on a bench that
answers, short enough for one that does not."""

PATIENCE_S = 8.0
"""How long the slowest may take before its state is called UNKNOWN: a lost link is opened once more in that time."""

OFF = "0 V and off"
SAFE_STATES = {"temperature": "off", "prober": "needles lifted"}
"""What is safe for those that have no output."""


class Safeable(Protocol):
    """What the safe state needs of an instrument."""

    def safe_off(self) -> None:
        """Outputs to 0 V and off, confirmed by reading back."""

    def close(self) -> None:
        """Close the link."""


@dataclass(frozen=True)
class SafeStep:
    """What became of one instrument on the way to the safe state.

    Attributes:
        role: which part of the bench.
        confirmed: the instrument itself said that it is off. Otherwise its state is UNKNOWN.
        reason: why it could not be confirmed; empty when it was.
    """

    role: str
    confirmed: bool
    reason: str = ""

    def __str__(self) -> str:
        return (
            f"{self.role}: {SAFE_STATES.get(self.role, OFF)}"
            if self.confirmed
            else f"{self.role}: UNKNOWN ({self.reason})"
        )


@dataclass(frozen=True)
class SafeReport:
    """The safe state, instrument by instrument, in the order in which they were switched off."""

    steps: tuple[SafeStep, ...]

    @property
    def confirmed(self) -> bool:
        """True when every instrument confirmed it."""
        return all(step.confirmed for step in self.steps)

    def __str__(self) -> str:
        return "; ".join(map(str, self.steps))


def safe_step(role: str, step: Callable[[], object]) -> SafeStep:
    """Do one step towards the safe state, and say what became of it."""
    try:
        step()
    except Exception as error:  # whatever it is, it must not keep the other instruments from being switched off
        return SafeStep(role, False, str(error) if isinstance(error, RramBenchError) else repr(error))
    return SafeStep(role, True)


def switch_off(steps: Sequence[tuple[str, Callable[[], object]]]) -> SafeReport:
    """Do the steps in their order, each in a thread of its own, so that one that hangs delays the rest by little.

    Args:
        steps: role, and what switches it off and confirms that.
    """
    done: dict[str, SafeStep] = {}

    def work(role: str, step: Callable[[], object]) -> None:
        done[role] = safe_step(role, step)

    threads = [
        threading.Thread(target=work, args=(role, step), name=f"safe state of the {role}", daemon=True)
        for role, step in steps
    ]
    for thread in threads:
        thread.start()
        thread.join(GRACE_S)
    deadline = time.monotonic() + PATIENCE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"it did not finish in {PATIENCE_S:g} s"
    return SafeReport(tuple(done.get(role, SafeStep(role, False, late)) for role, _ in steps))
