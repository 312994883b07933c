"""Stands for an experiment where a test is about what becomes of points, and not about their numbers."""

from __future__ import annotations

import os
import random
import signal
import time

from bench.sweeping.points import Outcome, PointStatus, Task

FAILS, KILLS = 1, 2
"""Indices of the point that fails, and of the one that kills its worker."""
VERSION = "0.1.0"


def drawn(task: Task) -> Outcome:
    """A number that follows from the point alone, after a while."""
    time.sleep(0.03)
    value = random.Random(f"{task.settings} {task.seed}").random()
    return Outcome(task.index, PointStatus.DONE, "", {"value": value}, 0.03, 0.01, "here", VERSION)


def deadly(task: Task) -> Outcome:
    """Like :func:`drawn`, but for two points."""
    if task.index == KILLS:
        os.kill(os.getpid(), signal.SIGKILL)
    if task.index == FAILS:
        return Outcome(task.index, PointStatus.FAILED, "no such chip", {}, 0.0, 0.0, "here", VERSION)
    return drawn(task)
