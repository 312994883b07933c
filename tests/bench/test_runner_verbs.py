"""What may be asked of a run under way: pause, go on, stop, wait, another temperature; and how it ends."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from bench.clock import RealClock
from bench.config import parse_bench_file
from bench.procedure import (
    CellMask,
    CellsDone,
    Progress,
    Record,
    SetTemperature,
    Step,
    Steps,
)
from bench.runner import run
from bench.session import Bench, connect
from bench.states import RunState
from bench.stopping import Stopped, StopToken
from data.runs import RunStatus, open_run
from drivers.chip import Chip
from drivers.errors import LimitError
from drivers.simulated.bench import SimulatedBench
from drivers.world_clock import WorldClock
from models.exceptions import BenchFailure, UserMistake
from tests.bench.running import (
    OFF,
    SEED,
    NoParameters,
    Running,
    assert_legal,
    for_ever,
    in_real_time,
    only_run,
    operations,
    outputs,
    procedure,
    pulses_and_reads,
    some,
    waiting,
)

# Pausing


def test_a_paused_run_holds_with_the_outputs_off_and_goes_on_to_the_same_end(
    bench: Bench, world: SimulatedBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.runner.KEEP_ALIVE_S", 0.05)
    tripped: list[bool] = []

    def guarded(chip: Chip, parameters: NoParameters, cells: CellMask) -> Steps:
        bench.board.set_watchdog(0.5)
        result = yield from pulses_and_reads(chip, parameters, cells)
        tripped.append(bench.board.status().watchdog_tripped)
        return result

    running = Running(bench, procedure(guarded), tmp_path / "paused")
    asked: list[int] = []

    def pause(step: Step) -> None:
        if isinstance(step, Progress) and step.done in (4, 8) and step.done not in asked:
            asked.append(step.done)
            running.token.pause()

    running.on_step = pause
    with running:
        for times in (1, 2):
            running.until(lambda times=times: running.states.count(RunState.PAUSED) == times)  # type: ignore[misc]
            seen = running.rounds()
            for _ in range(20):
                assert world.world.rails == OFF
                time.sleep(0.04)
            supply = world.supply.instrument
            volts = {supply.execute(f"INST:SEL CH{number};:VOLT?".encode()) for number in (1, 2, 3)}
            assert {float(volt or b"nan") for volt in volts} == {0.0}
            assert outputs(world) == (b"0", b"0", b"0", b"0")
            assert running.rounds() == seen
            running.token.go_on()
        running.join()
    assert running.error is None
    assert running.outcome is not None
    assert tripped == [False]
    paused, going = RunState.PAUSED, RunState.RUNNING
    assert running.states[1:] == [going, paused, going, paused, going, RunState.COMPLETED]
    assert_legal(running.states)
    with SimulatedBench(SEED) as equal:
        text = equal.bench_file()
        with connect(parse_bench_file(text, "equal bench"), text) as session:
            straight = run(procedure(pulses_and_reads), NoParameters(), session, tmp_path / "straight")
    assert running.outcome.result == straight.result
    assert operations(running.outcome.run_file) == operations(straight.run_file)


def test_a_paused_run_can_be_stopped(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    running = Running(bench, procedure(for_ever), tmp_path)
    with running:
        running.until(lambda: running.rounds() >= 2)
        running.token.pause()
        running.until(lambda: RunState.PAUSED in running.states)
        running.token.request("enough")
    assert isinstance(running.error, Stopped)
    assert running.states[2:] == [RunState.PAUSED, RunState.STOPPING, RunState.STOPPED]
    assert_legal(running.states)
    assert world.world.rails == OFF
    assert open_run(only_run(tmp_path)).status is RunStatus.STOPPED


# How a run ends


def test_a_completed_run_stores_its_result_and_the_cells_that_are_done(bench: Bench, tmp_path: Path) -> None:
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[1:3, 5:9] = True

    def steps(chip: Chip, parameters: NoParameters, mask: CellMask) -> Steps:
        chip.read()
        for row in (1, 2):
            done = mask.copy()
            done[:row], done[row + 1 :] = False, False
            yield CellsDone(done)
        return {"mean": 0.25, "cells": [[1, 5]], "text": "as told", "none": None}

    states = [RunState.QUEUED]
    outcome = run(procedure(steps), NoParameters(), bench, tmp_path, cells=cells, on_state=states.append)
    stored = open_run(outcome.run_file)
    assert stored.result == outcome.result == {"mean": 0.25, "cells": [[1, 5]], "text": "as told", "none": None}
    done = stored.read("cells_done")["cells"].astype(bool)
    assert len(done) == 2
    assert (done.any(axis=0) == cells).all()
    assert (stored.read("selection")["cells"].astype(bool) == cells).all()
    assert states[1:] == [RunState.RUNNING, RunState.COMPLETED]


def test_a_failed_run_says_so_in_its_state_and_its_file(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    def steps(chip: Chip, parameters: NoParameters, cells: CellMask) -> Steps:
        chip.set(some(chip))
        yield Progress(1, 2, "half")
        raise BenchFailure("the test broke it")

    states = [RunState.QUEUED]
    with pytest.raises(BenchFailure, match="the test broke it"):
        run(procedure(steps), NoParameters(), bench, tmp_path, on_state=states.append)
    assert states[1:] == [RunState.RUNNING, RunState.FAILED]
    stored = open_run(only_run(tmp_path))
    assert (stored.status, stored.ending.reason, stored.result) == (RunStatus.FAILED, "the test broke it", {})
    assert world.world.rails == OFF


def test_a_stop_that_comes_with_the_last_step_lets_the_run_complete(bench: Bench, tmp_path: Path) -> None:
    token = StopToken()

    def steps(chip: Chip, parameters: NoParameters, cells: CellMask) -> Steps:
        yield Progress(1, 1, "all there is")
        token.request("too late")
        return {}

    states = [RunState.QUEUED]
    run(procedure(steps), NoParameters(), bench, tmp_path, on_state=states.append, stop=token)
    assert states[1:] == [RunState.RUNNING, RunState.COMPLETED]


def test_an_interrupted_run_passes_through_stopping(bench: Bench, tmp_path: Path) -> None:
    def steps(chip: Chip, parameters: NoParameters, cells: CellMask) -> Steps:
        yield Progress(1, 2, "half")
        raise KeyboardInterrupt

    states = [RunState.QUEUED]
    with pytest.raises(KeyboardInterrupt):
        run(procedure(steps), NoParameters(), bench, tmp_path, on_state=states.append)
    assert_legal(states)
    assert states[-1] is RunState.STOPPED


def test_a_file_that_cannot_be_finished_is_a_failed_run(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    def steps(chip: Chip, parameters: NoParameters, cells: CellMask) -> Steps:
        chip.read()
        yield Progress(1, 1, "all there is")
        shutil.rmtree(tmp_path / "runs")
        return {}

    states = [RunState.QUEUED]
    with pytest.raises(BenchFailure, match="vanished"):
        run(procedure(steps), NoParameters(), bench, tmp_path / "runs", on_state=states.append)
    assert_legal(states)
    assert states[-1] is RunState.FAILED
    assert world.world.rails == OFF


# Waiting


def test_a_simulated_bench_waits_on_the_clock_of_its_world(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    assert isinstance(bench.clock, WorldClock)
    outcome = run(waiting(1e6), NoParameters(), bench, tmp_path)
    assert outcome.result == {"waited_s": pytest.approx(1e6)}
    assert world.world.now_s == pytest.approx(1e6)


def test_a_bench_without_that_clock_waits_in_real_time(world: SimulatedBench, tmp_path: Path) -> None:
    text = re.sub(r"(?m)^world_clock = .*\n", "", world.bench_file())
    with connect(parse_bench_file(text, "bench"), text) as session:
        assert isinstance(session.clock, RealClock)
        outcome = run(waiting(0.3), NoParameters(), session, tmp_path)
    assert outcome.result["waited_s"] >= 0.3
    assert world.world.now_s == 0.0


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("clock", ["real", "world"])
def test_a_wait_of_no_length_of_time_fails_the_run(clock: str, seconds: float, bench: Bench, tmp_path: Path) -> None:
    if clock == "real":
        in_real_time(bench)
    with pytest.raises(LimitError, match="time to wait"):
        run(waiting(seconds), NoParameters(), bench, tmp_path)


def test_the_outputs_are_off_during_a_wait_and_a_stop_ends_it(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    in_real_time(bench)
    running = Running(bench, waiting(3600.0), tmp_path)
    with running:
        running.until(lambda: running.rounds() == 1)
        time.sleep(0.1)
        assert world.world.rails == OFF
        assert outputs(world) == (b"0", b"0", b"0", b"0")
        running.token.request("enough")
    assert isinstance(running.error, Stopped)
    assert_legal(running.states)
    assert open_run(only_run(tmp_path)).status is RunStatus.STOPPED


def test_a_stop_before_time_passes_in_the_world_keeps_it_from_passing(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    running = Running(bench, waiting(1e6), tmp_path)
    running.on_step = lambda step: running.token.request("enough") if isinstance(step, Progress) else None
    with running:
        running.join()
    assert isinstance(running.error, Stopped)
    assert world.world.now_s == 0.0


def test_a_folder_that_vanishes_during_a_wait_is_noticed(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    in_real_time(bench)
    running = Running(bench, waiting(3600.0), tmp_path / "runs")
    with running:
        running.until(lambda: running.rounds() == 1)
        shutil.rmtree(tmp_path / "runs")
        running.join()
    assert isinstance(running.error, BenchFailure)
    assert "vanished" in str(running.error)
    assert running.states[1:] == [RunState.RUNNING, RunState.FAILED]
    assert world.world.rails == OFF


def test_a_disk_that_is_full_during_a_wait_is_noticed(
    bench: Bench, world: SimulatedBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The records before the wait were acknowledged, and the disk refuses them only when they are synced."""
    in_real_time(bench)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    running = Running(bench, waiting(3600.0), tmp_path)
    running.on_step = lambda step: monkeypatch.setattr("os.fsync", full) if isinstance(step, Record) else None
    with running:
        running.join()
    monkeypatch.undo()
    assert isinstance(running.error, BenchFailure)
    assert "the disk is full" in str(running.error)
    assert running.states[1:] == [RunState.RUNNING, RunState.FAILED]
    assert world.world.rails == OFF
    assert open_run(only_run(tmp_path)).rows("operations") == 1


# Another temperature


def test_a_temperature_is_reached_and_its_reading_answered(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    def steps(chip: Chip, parameters: NoParameters, cells: CellMask) -> Steps:
        before = chip.resistance(0, 0, 0).current_a  # type: ignore[arg-type]
        hot = yield SetTemperature(85.0, 1.0, 60.0)
        assert world.world.rails == OFF
        chip.read()
        cold = yield SetTemperature(25.0)
        return {"air_c": [hot.air_c, cold.air_c], "settled": hot.settled and cold.settled, "before_a": before}

    outcome = run(procedure(steps), NoParameters(), bench, tmp_path)
    assert outcome.result["air_c"] == pytest.approx([85.0, 25.0], abs=1.0)
    assert outcome.result["settled"] is True
    assert 90.0 < world.world.now_s < 600.0, "both were soaked, in the world's time"
    assert world.temperature.instrument.execute(b"FLWR?") == b"0.0", "it is off after the run"


def test_a_bench_without_a_temperature_source_refuses_a_temperature(world: SimulatedBench, tmp_path: Path) -> None:
    def steps(chip: Chip, parameters: NoParameters, cells: CellMask) -> Steps:
        yield SetTemperature(85.0)
        return {}

    text = re.sub(r"(?ms)^\[temperature\].*?\n\n", "", world.bench_file())
    with connect(parse_bench_file(text, "bench"), text) as session:
        assert session.temperature is None
        with pytest.raises(UserMistake, match="85 degC is asked for and the bench has no temperature source"):
            run(procedure(steps), NoParameters(), session, tmp_path)
    assert open_run(only_run(tmp_path)).status is RunStatus.FAILED


def test_a_temperature_that_never_settles_ends_the_run(
    bench: Bench, world: SimulatedBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.runner.SETTLE_TIMEOUT_S", 100.0)

    def steps(chip: Chip, parameters: NoParameters, cells: CellMask) -> Steps:
        yield SetTemperature(85.0, 1.0, 500.0)
        return {}

    with pytest.raises(BenchFailure, match="85 degC is not settled after 100 s"):
        run(procedure(steps), NoParameters(), bench, tmp_path)
    assert world.world.now_s == pytest.approx(100.0, abs=5.0)
