"""The runner: takes a procedure from its first voltage to its safe state, and every record to disk on the way."""

from __future__ import annotations

import json
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bench.procedure import (
    OPERATIONS,
    CellMask,
    Parameters,
    Procedure,
    Progress,
    Record,
    Result,
    Step,
    flags,
    operation_record,
)
from bench.safe import SafeReport
from bench.session import Bench
from bench.stopping import Stopped, StopToken
from data.runs import Coordinate, RunStatus, RunWriter, find_interrupted, recover
from drivers.chip import Operation, Outcome
from models.cells import Device
from models.exceptions import BenchFailure, RramBenchError, UserMistake

DEVICES = Coordinate(
    np.arange(len(Device), dtype=np.int8),
    description="device of a cell; weight +1 is (BL high, BLB low), -1 is (BL low, BLB high)",
    flags=flags(Device),
)
PACKAGES = ("rram-bench", "numpy", "h5py", "pyvisa", "pyserial")


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
    seeds: dict[str, int] | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    stop: StopToken | None = None,
) -> RunResult:
    """Run a procedure on a connected bench and record it in a new file under ``folder``.

    Runs that a crash left in that folder are closed first, as interrupted.

    Args:
        cells: ``(rows, cols)`` bool, the cells it works on; all by default.
        seeds: whatever seeds the run depends on, for the record.
        on_step: told of each record once it is on disk, and of progress.
        stop: looked at after each exchange with the chip; a stop leaves the bench in its safe state.

    Raises:
        Stopped: the run was stopped; its file says so.
        InterlockTripped: an interlock of the bench is open before the start: there is no run file.
        RramBenchError: the run failed, an interlock that opens on the way included; its file says so.
    """
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
    path = folder / f"{datetime.now().strftime('%Y%m%d-%H%M%S-%f')}-{procedure.name}.h5"
    writer = RunWriter(
        path,
        procedure.name,
        (OPERATIONS, *procedure.tables),
        {
            "row": np.arange(bench.config.chip.rows),
            "col": np.arange(bench.config.chip.cols),
            "device": DEVICES,
            **procedure.dimensions,
        },
        provenance(procedure, parameters, bench, selected, seeds),
    )

    def on_operation(operation: Operation) -> None:
        # Each exchange with the chip reaches the disk before the next one, and a stop is obeyed after it: a step of a
        # procedure can be many exchanges long.
        _store(writer, operation_record(operation), on_step)
        if operation.outcome is Outcome.DONE:  # one in doubt is about to raise: nothing may take the place of that
            token.check()
            bench.interlocks.poll()

    bench.chip.listeners.append(on_operation)
    with writer:
        try:
            try:
                bench.board.set_watchdog(bench.config.board.watchdog_s)
                result = _drive(procedure, parameters, bench, selected, writer, on_step, token)
            finally:
                bench.chip.listeners.remove(on_operation)
                report = bench.safe_off()
        except BaseException as error:
            _record_end(writer, error, report)
            raise
        if not report.confirmed:
            raise BenchFailure(_with_safe_state("the run ended", report))
        # Only now: until the outputs are off, the watchdog is what guards them against a host that dies.
        bench.board.set_watchdog(0.0)
        records = sum(writer.rows(table.name) for table in (OPERATIONS, *procedure.tables))
        finished = writer.finish(RunStatus.COMPLETED)
    return RunResult("completed", records, finished, result)


def _record_end(writer: RunWriter, error: BaseException, report: SafeReport) -> None:
    """Write why a run ended early, and put on the error what else went wrong on the way out."""
    if not report.confirmed:
        error.add_note(_with_safe_state("on the way out", report))
    stopped = isinstance(error, Stopped | KeyboardInterrupt)
    reason = str(error) if isinstance(error, RramBenchError) else f"{type(error).__name__}: {error}"
    try:
        writer.finish(RunStatus.STOPPED if stopped else RunStatus.FAILED, _with_safe_state(reason, report))
    except BenchFailure as unfinished:
        error.add_note(str(unfinished))


def _with_safe_state(text: str, report: SafeReport) -> str:
    """Why a run ended, with what became of the safe state where no instrument confirmed it."""
    return text if report.confirmed else f"{text}; the safe state is not confirmed: {report}"


def _drive(
    procedure: Procedure,
    parameters: Parameters,
    bench: Bench,
    cells: CellMask,
    writer: RunWriter,
    on_step: Callable[[Step], None],
    token: StopToken,
) -> Result:
    steps = procedure.steps(bench.chip, parameters, cells)
    try:
        while True:
            token.check()
            bench.interlocks.poll()
            try:
                step = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Record):
                _store(writer, step, on_step)
            else:
                on_step(step)
    finally:
        steps.close()


def _store(writer: RunWriter, record: Record, on_step: Callable[[Step], None]) -> None:
    """Write a record; only then is anybody told of it."""
    if record.many:
        writer.extend(record.table, **record.values)
    else:
        writer.append(record.table, **record.values)
    on_step(record)


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


def _temperature(bench: Bench) -> dict[str, float]:
    """What the temperature source measures at the start, in degrees Celsius, where the bench has one."""
    return {} if bench.temperature is None else {"temperature_c": bench.temperature.measure().air_c}


def provenance(
    procedure: Procedure, parameters: Parameters, bench: Bench, cells: CellMask, seeds: dict[str, int] | None
) -> dict[str, Any]:
    """Everything that is needed to repeat the run, as attributes of its file."""
    return {
        "parameters": parameters.model_dump_json(),
        "bench_name": bench.config.name,
        "simulated": int(bench.config.simulated),
        "bench_file": bench.text,
        "chip_id": bench.chip.chip_id,
        "instruments": json.dumps({role: str(identity) for role, identity in bench.identities.items()}),
        "seeds": json.dumps({} if seeds is None else seeds),
        "cells": int(cells.sum()),
        **_temperature(bench),
        "versions": json.dumps({"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "started": datetime.now(UTC).isoformat(),
        **procedure.about,
    }


__all__ = ["RunResult", "Stopped", "prepare_folder", "provenance", "run"]
