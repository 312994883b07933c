"""The runner: takes a procedure from its first voltage to its safe state, and every record to disk on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.clock import POLL_S
from bench.procedure import (
    CELLS_DONE,
    OPERATIONS,
    SELECTION,
    CellMask,
    CellsDone,
    Parameters,
    Procedure,
    Progress,
    ReadClock,
    ReadTemperature,
    Record,
    Result,
    SetTemperature,
    Step,
    Steps,
    Wait,
    flags,
    operation_record,
)
from bench.provenance import provenance
from bench.resuming import check_same, remaining_cells
from bench.safe import SafeReport, SafeStep
from bench.session import Bench
from bench.states import RunState
from bench.stopping import Stopped, StopToken
from data.runs import Coordinate, Run, RunStatus, RunWriter, find_interrupted, recover, sweep
from drivers.chip import Operation, Outcome
from drivers.temperature_role import TemperatureReading
from models.cells import Device
from models.exceptions import BenchFailure, RramBenchError, UserMistake

DEVICES = Coordinate(
    np.arange(len(Device), dtype=np.int8),
    description="device of a cell; weight +1 is (BL high, BLB low), -1 is (BL low, BLB high)",
    flags=flags(Device),
)
TABLES = (OPERATIONS, SELECTION, CELLS_DONE)
"""What every run records beside its procedure's own tables."""

KEEP_ALIVE_S = 1.0
"""How often the board hears from a run that waits: its watchdog is for hosts that died, not for those that wait."""

SETTLE_TIMEOUT_S = 3600.0
"""Longest time that the temperature may take to settle, on the bench's clock."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        status: "completed"; a run that stopped or failed raises instead, after its file is finished.
        records: rows acknowledged by the store.
        run_file: the HDF5 file.
        result: the procedure's own summary.
    """

    status: str
    records: int
    run_file: Path
    result: Result


def run(
    procedure: Procedure,
    parameters: Parameters,
    bench: Bench,
    folder: Path,
    *,
    cells: CellMask | None = None,
    seeds: Mapping[str, int] | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    on_state: Callable[[RunState], None] = lambda state: None,
    stop: StopToken | None = None,
    resume: Run | None = None,
) -> RunResult:
    """Run a procedure on a connected bench and record it in a new file under ``folder``.

    Runs that a crash left in that folder are closed first, as interrupted.

    Args:
        cells: ``(rows, cols)`` bool, the cells it works on; all by default, or those that ``resume`` left.
        seeds: whatever seeds the run depends on, for the record.
        on_step: told of each record once it is on disk, and of progress.
        on_state: told of each change of state, see :mod:`bench.states`; called in the thread of the run.
        stop: looked at before and after each exchange with the chip; a stop leaves the bench in its safe state, a
            pause holds in it.
        resume: an earlier run of the same procedure, parameters and chip, to go on with where it ended.

    Raises:
        Stopped: the run was stopped; its file says so.
        InterlockTripped: an interlock of the bench is open before the start: there is no run file.
        UserMistake: nothing is left of the run to be resumed, or it was another procedure's, or another chip's.
        RramBenchError: the run failed, an interlock that opens on the way included; its file says so.
    """
    steps = procedure.steps
    if resume is not None:
        check_same(resume, procedure, parameters, bench)
        cells = remaining_cells(resume)
        if procedure.resume is not None:
            go_on = procedure.resume

            def steps(chip: Any, settings: Any, mask: CellMask) -> Steps:
                return go_on(chip, settings, mask, resume)

    selected = np.ones(bench.config.geometry, dtype=bool) if cells is None else cells
    token = StopToken() if stop is None else stop
    token.check()
    bench.interlocks.check()
    folder = prepare_folder(folder)
    for left in find_interrupted(folder):
        try:
            recover(left)
        except RramBenchError as error:
            # An old run that cannot be closed now (a full disk, say) is no reason to refuse a new one.
            on_step(Progress(0, 1, f"left as it is: {error}"))
    sweep(folder)
    path = folder / f"{datetime.now().strftime('%Y%m%d-%H%M%S-%f')}-{procedure.name}.h5"
    writer = RunWriter(
        path,
        procedure.name,
        (*TABLES, *procedure.tables),
        {
            "row": np.arange(bench.config.chip.rows),
            "col": np.arange(bench.config.chip.cols),
            "device": DEVICES,
            **procedure.dimensions,
        },
        provenance(procedure, parameters, bench, selected, seeds, resume),
    )
    with writer:
        conductor = _Conductor(bench, writer, on_step, on_state, token)
        try:
            result = conductor.conduct(selected, steps(bench.chip, parameters, selected))
        except BaseException as error:
            conductor.record_end(error)
            raise
        records = sum(writer.rows(table.name) for table in (*TABLES, *procedure.tables))
        finished = conductor.complete(result)
    return RunResult("completed", records, finished, result)


class _Conductor:
    """What stands between a procedure and the bench while it runs: records, pauses, stops, waits."""

    def __init__(
        self,
        bench: Bench,
        writer: RunWriter,
        on_step: Callable[[Step], None],
        on_state: Callable[[RunState], None],
        token: StopToken,
    ) -> None:
        self._bench, self._writer, self._token = bench, writer, token
        self._on_step, self._on_state = on_step, on_state
        self._heard_at = time.monotonic()
        self._state: RunState | None = None
        self._safe = SafeReport((SafeStep("bench", False, "switching it off was interrupted"),))

    def _tell(self, state: RunState) -> None:
        """Tell of a change of state, once."""
        if state is not self._state:
            self._state = state
            self._on_state(state)

    def conduct(self, selected: CellMask, steps: Steps) -> Result:
        """Take the procedure from its first voltage to the safe state; return its summary.

        Raises:
            Stopped: somebody asked for that.
            BenchFailure: the bench failed, or did not confirm at the end that its outputs are off.
        """
        try:
            self._begin(selected)
            result = self._drive(steps)
        except BaseException as error:
            if self._token.requested or isinstance(error, KeyboardInterrupt):
                self._tell(RunState.STOPPING)
            raise
        finally:
            self._let_go()
            self._safe = self._bench.safe_off()
        if not self._safe.confirmed:
            raise BenchFailure("the run ended, and not all outputs are known to be off")
        # Only now: until the outputs are off, the watchdog is what guards them against a host that dies.
        self._bench.board.set_watchdog(0.0)
        return result

    def complete(self, result: Result) -> Path:
        """Finish the file of a run that came to its end; return its path."""
        try:
            finished = self._writer.finish(RunStatus.COMPLETED, result=result)
        except BaseException:
            self._tell(RunState.FAILED)
            raise
        self._tell(RunState.COMPLETED)
        return finished

    def record_end(self, error: BaseException) -> None:
        """Write why the run ended early, and put on the error what else went wrong on the way out."""
        if not self._safe.confirmed:
            error.add_note(f"the safe state is not confirmed: {self._safe}")
        stopped = isinstance(error, Stopped | KeyboardInterrupt)
        reason = str(error) if isinstance(error, RramBenchError) else f"{type(error).__name__}: {error}"
        status = RunStatus.STOPPED if stopped else RunStatus.FAILED
        try:
            self._writer.finish(status, _with_safe_state(reason, self._safe))
        except BenchFailure as unfinished:
            error.add_note(str(unfinished))
        self._tell(RunState.STOPPED if stopped else RunState.FAILED)

    def _begin(self, selected: CellMask) -> None:
        """Stand between the chip and everyone who uses it, and arm the watchdog."""
        self._tell(RunState.RUNNING)
        self._bench.chip.listeners.append(self._on_operation)
        self._bench.chip.gates.append(self._gate)
        # In this order: an emergency that comes in between forbids the rails for good.
        self._bench.rails.permit()
        self._token.on_emergency.append(self._bench.emergency_off)
        self._store(Record("selection", {"cells": selected.astype(np.uint8)}))
        self._bench.board.set_watchdog(self._bench.config.board.watchdog_s)

    def _let_go(self) -> None:
        """Let go of the chip."""
        for waiting, mine in (
            (self._bench.chip.listeners, self._on_operation),
            (self._bench.chip.gates, self._gate),
            (self._token.on_emergency, self._bench.emergency_off),
        ):
            if mine in waiting:
                waiting.remove(mine)  # type: ignore[arg-type]

    def _drive(self, steps: Steps) -> Result:
        """Take the procedure through its steps; return its summary.

        Raises:
            Stopped: somebody asked for that; also where the outputs were switched off in the middle of an exchange,
                which fails it.
        """
        answer: object = None
        try:
            while True:
                self._gate()
                try:
                    step = steps.send(answer)
                except StopIteration as end:
                    result: Result = end.value
                    return result
                answer = self._carry_out(step)
        except BenchFailure as error:
            if self._token.emergency:
                raise Stopped(f"stopped: {self._token.reason}; what was under way failed ({error})") from error
            raise
        finally:
            steps.close()

    def _carry_out(self, step: Step) -> object:
        match step:
            case Record():
                self._store(step)
            case CellsDone():
                self._store(Record("cells_done", {"cells": step.cells.astype(np.uint8)}))
            case Wait():
                return self._wait(step)
            case ReadClock():
                return self._bench.clock.now()
            case SetTemperature():
                return self._set_temperature(step)
            case ReadTemperature():
                return None if self._bench.temperature is None else self._bench.temperature.measure()
            case _:
                self._on_step(step)
        return None

    def _gate(self) -> None:
        """Before each exchange: a stop ends the run here, a pause holds it here."""
        self._token.check()
        if self._token.paused:
            self._switch_off()
            self._tell(RunState.PAUSED)  # only now: whoever reads it may touch the pads
            while self._token.wait_while_paused(POLL_S):
                self._keep_alive()
            self._token.check()
            self._tell(RunState.RUNNING)
        self._bench.interlocks.poll()

    def _on_operation(self, operation: Operation) -> None:
        # Each exchange with the chip reaches the disk before the next one, and a stop is obeyed after it: a step of a
        # procedure can be many exchanges long.
        self._store(operation_record(operation))
        if operation.outcome is Outcome.DONE:  # one in doubt is about to raise: nothing may take the place of that
            self._token.check()
            self._bench.interlocks.poll()

    def _store(self, record: Record) -> None:
        """Write a record; only then is anybody told of it."""
        if record.many:
            self._writer.extend(record.table, **record.values)
        else:
            self._writer.append(record.table, **record.values)
        self._on_step(record)

    def _wait(self, step: Wait) -> float:
        """Wait with the outputs off: storage is without bias, and nobody may be needed to guard it."""
        self._switch_off()
        self._on_step(Progress(0, 1, step.text))
        clock = self._bench.clock
        began = clock.now()
        clock.wait(step.seconds, self._while_waiting)
        return clock.now() - began

    def _set_temperature(self, step: SetTemperature) -> TemperatureReading:
        self._bench.config.check_temperature(step.celsius)
        source = self._bench.temperature
        assert source is not None
        self._switch_off()
        source.set_temperature(step.celsius, step.window_c, step.soak_s)
        section = self._bench.config.temperature
        if section is not None and section.moves_head:
            # Raised, it would bring the air to the temperature, and not the chip.
            source.set_head(True)
        source.set_flow(True)
        clock = self._bench.clock
        deadline = clock.now() + SETTLE_TIMEOUT_S
        while not (reading := source.measure()).settled:
            if clock.now() > deadline:
                raise BenchFailure(f"{step.celsius:g} degC is not settled after {SETTLE_TIMEOUT_S:g} s")
            self._on_step(Progress(0, 1, f"{reading.air_c:.1f} degC, on the way to {step.celsius:g} degC"))
            clock.wait(1.0, self._while_waiting)
        return reading

    def _while_waiting(self) -> None:
        self._gate()
        self._writer.check()
        self._keep_alive()

    def _switch_off(self) -> None:
        self._bench.chip.settle()
        report = self._bench.outputs_off()
        if not report.confirmed:
            raise BenchFailure(_with_safe_state("the outputs were to be off for a while", report))

    def _keep_alive(self) -> None:
        if time.monotonic() - self._heard_at > KEEP_ALIVE_S:
            self._bench.board.status()
            self._heard_at = time.monotonic()


def _with_safe_state(text: str, report: SafeReport) -> str:
    """Why a run ended, with what became of the safe state where no instrument confirmed it."""
    return text if report.confirmed else f"{text}; the safe state is not confirmed: {report}"


def prepare_folder(folder: Path) -> Path:
    """Make a folder that runs can be written to, before any voltage moves. Raises UserMistake when that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserMistake(f"folder {folder}: {error.strerror}; name one that can be written to with --out") from None
    return folder


__all__ = ["RunResult", "Stopped", "prepare_folder", "run"]
