"""Commands that run a procedure: run, and its dry run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from bench.config import BenchFile
from bench.console import Reporter
from bench.jobs import Job, interrupted_note, prepare, prepare_resumed
from bench.runner import RunResult, prepare_folder
from bench.source import bench_config, open_at, parse_overrides
from bench.states import RunState
from bench.stopping import StopToken, stop_on_signals
from models.exceptions import UserMistake


@dataclass(frozen=True)
class Wanted:
    """A run as it was asked for on the command line."""

    procedure: str
    source: str
    settings: dict[str, str]
    cells: str | None
    at: list[str]
    seed: int
    resume: Path | None = None


def job_of(wanted: Wanted, config: BenchFile) -> Job:
    """Check a run that was asked for. Raises UserMistake."""
    if wanted.resume is None:
        return prepare(wanted.procedure, config, wanted.settings, wanted.cells, parse_overrides(wanted.at), wanted.seed)
    given = {"--set": wanted.settings, "--cells": wanted.cells, "--at": wanted.at}
    if extra := [option for option, value in given.items() if value]:
        raise UserMistake(f"--resume takes everything from {wanted.resume}; leave {' and '.join(extra)} out")
    return prepare_resumed(wanted.procedure, config, wanted.resume)


def plan_command(wanted: Wanted, as_json: bool) -> None:
    """What a run would take; nothing is opened and nothing moves."""
    job = job_of(wanted, bench_config(wanted.source))
    found = job.plan()
    values = {"dry_run": True, **found.as_plain(), "resumed": _resumed(job)}
    Reporter(as_json).result(values, found.table(), f"{wanted.procedure}: dry run")


def run_command(wanted: Wanted, out: Path, as_json: bool) -> None:
    """Run a procedure and record it."""
    reporter = Reporter(as_json)
    job = job_of(wanted, bench_config(wanted.source))
    prepare_folder(out)
    if note := interrupted_note(out, wanted.resume):
        reporter.note(note)
    planned = job.quick_plan(reporter.note)
    reporter.stage(f"{wanted.procedure}: {job.procedure.summary}", None if planned is None else planned.expected_s)
    if job.resume is not None:
        reporter.note(f"going on with {job.resume.path.name}: {int(job.cells.sum())} cells left")
    with (
        stop_on_signals() as stop,
        pause_on_signal(stop),
        open_at(wanted.source, job.seed, job.overrides) as bench,
    ):
        outcome = job.run(
            bench, out, on_step=reporter.step, on_state=lambda state: tell_pause(reporter, state), stop=stop
        )
    reporter.done(f"{outcome.status}, {outcome.records} records")
    reporter.result(values_of(outcome, job), shown_of(outcome), wanted.procedure)


def list_command(source: str, as_json: bool) -> None:
    """Every procedure with its parameters, ours and those in the bench file's folder; broken ones with the reason."""
    from bench.procedures.loading import described, listing

    found = listing(bench_config(source).procedures)
    lines = []
    for name, procedure in found.procedures.items():
        about = [procedure.summary]
        for key, rules in described(procedure)["parameters"].items():
            about.append(f"  {key} = {rules['default']}: {rules['description']}")
        lines.append((name, "\n".join(about)))
    lines += [(f"broken: {path}", reason) for path, reason in found.broken.items()]
    Reporter(as_json).result(found.as_json(), lines, "procedures")


def values_of(outcome: RunResult, job: Job) -> dict[str, Any]:
    """A run that completed, for JSON."""
    return {
        "status": outcome.status,
        "records": outcome.records,
        "run_file": str(outcome.run_file),
        "resumed": _resumed(job),
        "cells": int(job.cells.sum()),
        "result": outcome.result,
    }


def shown_of(outcome: RunResult) -> list[tuple[str, str]]:
    """A run that completed, for people."""
    return [*((key, str(value)) for key, value in outcome.result.items()), ("run file", str(outcome.run_file))]


def _resumed(job: Job) -> str | None:
    return None if job.resume is None else str(job.resume.path)


def tell_pause(reporter: Reporter, state: RunState) -> None:
    """A line when a run is held, and when it is asked to end."""
    if state is RunState.PAUSED:
        reporter.note("paused, outputs off")
    elif state is RunState.STOPPING:
        reporter.note("stopping")


@contextmanager
def pause_on_signal(token: StopToken) -> Iterator[None]:
    """Let SIGUSR1 pause a run and let it go on, for the length of the block; on Windows there is no such signal."""
    number = getattr(signal, "SIGUSR1", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def toggle(_number: int, _frame: FrameType | None) -> None:
        if token.paused:
            token.go_on()
        else:
            token.pause()

    previous = signal.signal(number, toggle)
    try:
        yield
    finally:
        signal.signal(number, previous)
