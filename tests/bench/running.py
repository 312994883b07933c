"""A run in a thread of its own, so that a test can ask something of it while it goes on."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.clock import RealClock
from bench.procedure import (
    CellMask,
    CellsDone,
    Parameters,
    Procedure,
    Progress,
    Step,
    Steps,
    Wait,
)
from bench.runner import RunResult, run
from bench.session import Bench
from bench.states import TRANSITIONS, RunState
from bench.stopping import StopToken
from data.runs import open_run
from drivers.chip import Chip
from drivers.simulated.bench import SimulatedBench
from drivers.world_clock import WorldClock

SEED = 11
PATIENCE_S = 30.0
OFF = (0.0, 0.0, 0.0)


class NoParameters(Parameters):
    """None."""


def procedure(steps: Callable[[Chip, Any, CellMask], Steps]) -> Procedure:
    return Procedure("verbs", "a test", NoParameters, (), steps)


def some(chip: Chip) -> np.ndarray:
    devices = chip.no_devices()
    devices[:3, :4] = True
    return devices


def pulses_and_reads(chip: Chip, parameters: NoParameters, cells: CellMask) -> Steps:
    """A dozen rounds of SET, RESET and a read; the sums of what was read are the result."""
    chip.form(some(chip))
    sums = []
    for done in range(12):
        chip.set(some(chip))
        chip.reset(some(chip) & (np.arange(2) == done % 2))
        sums.append(int(chip.read(3).astype(int)[:, :3, :4].sum()))
        yield Progress(done + 1, 12, "pulses and reads")
    yield CellsDone(cells)
    return {"sums": sums}


def for_ever(chip: Chip, parameters: NoParameters, cells: CellMask) -> Steps:
    for done in itertools.count(1):
        chip.set(some(chip))
        chip.reset(some(chip))
        chip.read()
        yield Progress(done, done + 1, "pulses and reads")
    return {}


def waiting(seconds: float) -> Procedure:
    def steps(chip: Chip, parameters: NoParameters, cells: CellMask) -> Steps:
        chip.read()
        waited = yield Wait(seconds, "in storage")
        chip.read()
        return {"waited_s": waited}

    return procedure(steps)


class Running:
    """A run in a thread of its own, and what it told."""

    def __init__(self, session: Bench, what: Procedure, folder: Path) -> None:
        self.token = StopToken()
        self.states = [RunState.QUEUED]
        self.steps: list[Step] = []
        self.outcome: RunResult | None = None
        self.error: BaseException | None = None
        self.on_step: Callable[[Step], None] = lambda step: None
        self.on_state: Callable[[RunState], None] = lambda state: None
        self._arguments = what, NoParameters(), session, folder
        self._thread = threading.Thread(target=self._work, name="run under test")

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.token.request("the test is over")
        self.join()

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the run never ended"

    def until(self, told: Callable[[], bool]) -> None:
        """Wait until something was told."""
        deadline = time.monotonic() + PATIENCE_S
        while not told():
            assert time.monotonic() < deadline, f"it never came to that: {self.states}, {self.error!r}"
            assert self._thread.is_alive() or told(), f"the run ended first: {self.states}, {self.error!r}"
            time.sleep(0.002)

    def rounds(self) -> int:
        return sum(isinstance(step, Progress) for step in self.steps)

    def _work(self) -> None:
        try:
            self.outcome = run(*self._arguments, on_step=self._step, on_state=self._told, stop=self.token)
        except BaseException as error:
            self.error = error

    def _step(self, step: Step) -> None:
        self.steps.append(step)
        self.on_step(step)

    def _told(self, state: RunState) -> None:
        self.states.append(state)
        self.on_state(state)


def in_real_time(session: Bench) -> None:
    """Let a session with a simulated bench wait as one with a real bench does."""
    assert isinstance(session.clock, WorldClock)
    session.clock.close()
    session.clock = RealClock()


def assert_legal(states: list[RunState]) -> None:
    """Each state follows from the one before, as the table says."""
    for before, after in itertools.pairwise(states):
        assert after in TRANSITIONS[before], states
    assert states[-1].ended


def outputs(world: SimulatedBench) -> tuple[bytes | None, ...]:
    """A raw look at every output: nothing of the session is asked."""
    supply = world.supply.instrument
    channels = [supply.execute(f"INST:SEL CH{number};:SOUR:CHAN:OUTP?".encode()) for number in (1, 2, 3)]
    return (*channels, world.smu.instrument.execute(b"OUTP?"))


def only_run(folder: Path) -> Path:
    (path,) = folder.glob("*.h5")
    return path


def operations(path: Path) -> list[tuple[Any, ...]]:
    """What was done to the array, without the times and the measured rails."""
    rows = open_run(path).read("operations")
    return [
        (int(kind), float(vddc), float(vddr), float(width), int(count), devices.tobytes())
        for kind, vddc, vddr, width, count, devices in zip(
            *(rows[name] for name in ("kind", "vddc_v", "vddr_v", "width_s", "count", "devices")), strict=True
        )
    ]
