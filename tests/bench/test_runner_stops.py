"""Stops in the middle of a run: an emergency takes the rails down for good, and a stop is fast."""

from __future__ import annotations

import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.runner import run
from bench.session import Bench
from bench.states import RunState
from bench.stopping import Stopped
from data.runs import RunStatus, open_run
from drivers.simulated.bench import SimulatedBench
from models.exceptions import BenchFailure
from tests.bench.running import (
    OFF,
    PATIENCE_S,
    NoParameters,
    Running,
    assert_legal,
    for_ever,
    only_run,
    outputs,
    procedure,
    pulses_and_reads,
)

# Emergency off


def test_an_emergency_takes_the_rails_down_at_once_and_for_good(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    """At random moments of a run that moves its rails all the time; nothing raises one after the call came back."""
    raised: list[tuple[int, float]] = []
    drive, dice = world.world.drive_channel, random.Random(5)
    over = threading.Event()

    def watched(channel: int, volts: float) -> None:
        drive(channel, volts)
        if over.is_set() and volts != 0.0:
            raised.append((channel, volts))

    world.world.drive_channel = watched  # type: ignore[method-assign]
    for number in range(15):
        over.clear()
        running = Running(bench, procedure(for_ever), tmp_path / str(number))
        with running:
            running.until(lambda running=running: running.rounds() >= 1)  # type: ignore[misc]
            time.sleep(dice.uniform(0.0, 0.03))
            running.token.emergency_off("somebody hit the button")
            over.set()
            assert world.world.rails == OFF
            running.join()
        assert isinstance(running.error, Stopped), running.error
        assert raised == []
        assert world.world.rails == OFF
        assert outputs(world) == (b"0", b"0", b"0", b"0")
        assert running.states[-2:] == [RunState.STOPPING, RunState.STOPPED]
        assert_legal(running.states)
        stored = open_run(only_run(tmp_path / str(number)))
        assert stored.status is RunStatus.STOPPED
        assert "somebody hit the button" in stored.ending.reason
        with pytest.raises(BenchFailure, match="the rails stay off: the outputs were switched off in an emergency"):
            bench.chip.read()
    over.clear()
    outcome = run(procedure(pulses_and_reads), NoParameters(), bench, tmp_path)
    assert outcome.status == "completed", "a new run permits the rails again"


def test_rails_that_are_forbidden_in_the_middle_of_a_change_stay_off(bench: Bench, world: SimulatedBench) -> None:
    """The thread that changes them is held between its permission and its message: forbidding waits for that."""
    inside, switch = threading.Event(), bench.supply.set_output

    def slow(channel: int, on: bool) -> None:
        inside.set()
        time.sleep(0.2)
        switch(channel, on)

    bench.supply.set_output = slow  # type: ignore[method-assign]
    failures: list[BenchFailure] = []

    def change() -> None:
        try:
            bench.chip.read()
        except BenchFailure as failure:
            failures.append(failure)

    thread = threading.Thread(target=change)
    thread.start()
    assert inside.wait(PATIENCE_S)
    report = bench.emergency_off()
    assert report.confirmed
    assert world.world.rails == OFF
    assert outputs(world)[:3] == (b"0", b"0", b"0")
    thread.join(PATIENCE_S)
    assert world.world.rails == OFF
    assert outputs(world)[:3] == (b"0", b"0", b"0")
    assert "the rails stay off" in str(failures[0])


# How fast a stop is


@pytest.fixture
def pulses(world: SimulatedBench) -> list[float]:
    """When each pulse reached the chip."""
    times: list[float] = []
    pulse = world.chip.pulse

    def counted(*arguments: Any) -> None:
        times.append(time.monotonic())
        pulse(*arguments)

    world.chip.pulse = counted  # type: ignore[assignment, method-assign]
    return times


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_stop_is_obeyed_within_one_exchange_and_no_pulse_follows_it(
    bench: Bench, world: SimulatedBench, tmp_path: Path, pulses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    moments, dice = 1000, random.Random(17)
    latencies, ends, exchanges = [], [], []
    for number in range(moments):
        folder = tmp_path / str(number)
        running = Running(bench, procedure(for_ever), folder)
        acknowledged: list[tuple[float, int]] = []

        def told(state: RunState, acknowledged: list[tuple[float, int]] = acknowledged) -> None:
            if state is RunState.STOPPING:
                acknowledged.append((time.monotonic(), len(pulses)))

        running.on_state = told
        with running:
            running.until(lambda running=running: RunState.RUNNING in running.states)  # type: ignore[misc]
            time.sleep(dice.uniform(0.0, 0.05))
            asked = time.monotonic()
            running.token.request("now")
            running.join()
        ends.append(time.monotonic() - asked)
        ((at, count),) = acknowledged
        latencies.append(at - asked)
        assert len(pulses) == count, "a pulse followed the stop"
        assert world.world.rails == OFF
        exchanges += open_run(only_run(folder)).read("operations")["seconds"].tolist()
        shutil.rmtree(folder)
    p50, p99, most = (1e3 * float(value) for value in np.percentile(latencies, [50, 99, 100]))
    exchange = [1e3 * float(value) for value in np.percentile(exchanges, [50, 99, 100])]
    with capsys.disabled():
        print(
            f"\n{moments} stops: obeyed after p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {most:.1f} ms; run and file "
            f"ended after p99 {1e3 * float(np.percentile(ends, 99)):.0f} ms; one exchange takes p50 "
            f"{exchange[0]:.1f} ms, p99 {exchange[1]:.1f} ms, at most {exchange[2]:.1f} ms; {len(pulses)} pulses"
        )
    assert p99 < exchange[1] + 50.0
