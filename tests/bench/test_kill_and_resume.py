"""The campaign: hundreds of runs killed at random moments, each gone on with, none losing what it was told is kept."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from drivers.simulated.bench import SimulatedBench
from tests.bench.killed_runs import Job, bench_of, kill_and_resume, run_and_kill

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals"),
]

GEOMETRY = (32, 32)
KILLS = int(os.environ.get("RRAM_BENCH_KILLS", "200"))
"""So many kills meet a client at work."""

WORK: tuple[tuple[str, dict[str, int], int], ...] = (
    ("resistance", {}, 400),
    ("program", {"attempts": 3}, 100),
    ("weak-reset", {"group": 8, "pulses": 100, "log_points": 4}, 48),
)
"""Procedure, settings, cells."""

IN_A_ROW = 3
"""So many kills at most before a run is completed."""


def jobs(rng: np.random.Generator) -> list[Job]:
    """One of each procedure, on so many cells anywhere that most kills come in the middle of them."""
    chosen = []
    for name, settings, count in WORK:
        cells = np.zeros(GEOMETRY, dtype=bool)
        cells.flat[rng.choice(cells.size, count, replace=False)] = True
        chosen.append(Job(name, settings, cells))
    return chosen


def test_runs_killed_at_random_moments_lose_nothing_and_are_completed(tmp_path: Path) -> None:
    moments, rng = random.Random(3), np.random.default_rng(3)
    kills = chains = 0
    with SimulatedBench(seed=3) as served:
        with bench_of(served.bench_file()) as bench:
            bench.chip.form(~bench.chip.no_devices(), 3)
        lasting = {}
        for job in jobs(rng):
            began = time.monotonic()
            told = run_and_kill(served.bench_file(), tmp_path / job.procedure, job, 300.0)
            assert told.completed
            lasting[job.procedure] = time.monotonic() - began
        started = time.monotonic()
        while kills < KILLS:
            for job in jobs(rng):
                longest = 1.05 * lasting[job.procedure]
                at = [moments.uniform(0.0, longest) for _ in range(moments.randint(1, IN_A_ROW))]
                kills += kill_and_resume(served, tmp_path / f"{chains:04}", job, at)
                chains += 1
    rounded = {name: round(seconds, 2) for name, seconds in lasting.items()}
    print(f"{kills} kills in {chains} runs of {rounded} s, {time.monotonic() - started:.0f} s")
