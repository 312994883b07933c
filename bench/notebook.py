"""The bench in a notebook: open it, plan a run, run it, look at what there is.

from bench import open_bench, plan, run, runs

bench = open_bench("bench.toml")                     # or "simulated"; bench.close() ends it, and so does "with"
plan(bench, "resistance", cells="0:4,0:4")
result = run(bench, "resistance", cells="0:4,0:4", folder="runs")
result.open().read("resistances")
runs("runs")
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.console import TimeLeft
from bench.jobs import Job, prepare, prepare_resumed
from bench.planning import Plan
from bench.procedure import Progress, Record, Step
from bench.runner import RunResult, prepare_folder
from bench.session import SIMULATED, Bench
from bench.source import open_at
from bench.stopping import stop_on_signals
from data.runs import Run, open_run
from drivers.chip import Chip
from models.exceptions import UserMistake

REDRAW_S = 0.2


class OpenedBench:
    """A bench that stays open from one cell of a notebook to the next. Also a context manager.

    Attributes:
        bench: the session.
        seed: of the simulated bench, and of procedures that have one.
    """

    def __init__(self, source: str | Path, seed: int, at: Mapping[str, float]) -> None:
        self.seed = seed
        self.overrides = dict(at)
        self._stack = ExitStack()
        self.bench: Bench = self._stack.enter_context(open_at(source, seed, at))

    @property
    def chip(self) -> Chip:
        """The array."""
        return self.bench.chip

    def close(self) -> None:
        """Outputs off, links closed, and the end of a simulated bench. Safe to call twice."""
        self._stack.close()

    def __enter__(self) -> OpenedBench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _repr_html_(self) -> str:
        rows = [("chip", str(self.chip)), *((role, str(who)) for role, who in self.bench.identities.items())]
        return _table(self.bench.config.name, rows)


@dataclass(frozen=True)
class NotebookResult(RunResult):
    """How a run ended, as a notebook shows it."""

    def open(self) -> Run:
        """Its run file, for reading."""
        return open_run(self.run_file)

    def _repr_html_(self) -> str:
        rows = [("status", self.status), ("records", str(self.records)), ("run file", str(self.run_file))]
        return _table("run", [*rows, *((key, str(value)) for key, value in self.result.items())])


class RunList(list[Run]):
    """The run files of a folder, oldest first."""

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("run", "procedure", "status", "chip", "cells", "started"))
        body = "".join(
            "<tr>"
            + "".join(
                f"<td>{escape(str(value))}</td>"
                for value in (
                    run.path.name,
                    run.procedure,
                    run.status,
                    *(run.attributes.get(key, "") for key in ("chip_id", "cells", "started")),
                )
            )
            + "</tr>"
            for run in self
        )
        return f"<table><tr>{head}</tr>{body}</table>"


def open_bench(source: str | Path = SIMULATED, seed: int = 0, at: Mapping[str, float] | None = None) -> OpenedBench:
    """Connect to a bench and keep it open until :meth:`OpenedBench.close` or the end of a ``with`` block.

    Args:
        source: path of a bench file, or "simulated".
        seed: of the simulated bench.
        at: other operating points, such as ``{"SET.vddc_v": 3.3}``, inside the file's limits.

    Raises:
        UserMistake: a wrong file or operating point, or a resource that nobody serves or that somebody else holds.
        BenchFailure: another instrument or chip than the file says.
    """
    return OpenedBench(source, seed, {} if at is None else at)


def plan(
    bench: OpenedBench | Bench,
    procedure: str,
    *,
    cells: str | None = None,
    resume: str | Path | None = None,
    **parameters: Any,
) -> Plan:
    """What a run would take: time, pulses, energy, and every limit checked; nothing moves.

    Raises:
        UserMistake: what the run itself would be refused for.
    """
    return _job(bench, procedure, cells, resume, parameters).plan()


def run(
    bench: OpenedBench | Bench,
    procedure: str,
    *,
    cells: str | None = None,
    folder: str | Path = "runs",
    resume: str | Path | None = None,
    **parameters: Any,
) -> NotebookResult:
    """Run a procedure and record it; progress is shown live, and interrupting the kernel stops it between exchanges.

    Args:
        procedure: its name, as ``rram-bench run list`` has it.
        cells: a selection, see :func:`bench.cells.parse_cells`; all by default.
        folder: for the run file.
        resume: run file to go on with; parameters and cells then come from it.
        parameters: of the procedure.

    Raises:
        Stopped: it was interrupted; its file says so.
        RramBenchError: it was refused, or failed; in the second case its file says why.
    """
    job = _job(bench, procedure, cells, resume, parameters)
    prepare_folder(Path(folder))
    shown = _Shown(*_display())
    planned = job.quick_plan(shown.say)
    shown.begin(None if planned is None else planned.expected_s)
    with stop_on_signals() as stop:
        outcome = job.run(_session(bench), Path(folder), on_step=shown.step, stop=stop)
    shown.say(f"{procedure}: {outcome.status}, {outcome.records} records")
    return NotebookResult(outcome.status, outcome.records, outcome.run_file, outcome.result)


def runs(folder: str | Path = "runs") -> RunList:
    """The run files of a folder, oldest first; what is no run file is passed over.

    Raises:
        UserMistake: there is no such folder.
    """
    if not Path(folder).is_dir():
        raise UserMistake(f"there is no folder {folder} of run files")
    found = RunList()
    for path in sorted(Path(folder).glob("*.h5")):
        try:
            found.append(open_run(path))
        except UserMistake:
            continue
    return found


def _session(bench: OpenedBench | Bench) -> Bench:
    return bench.bench if isinstance(bench, OpenedBench) else bench


def _job(
    bench: OpenedBench | Bench,
    procedure: str,
    cells: str | None,
    resume: str | Path | None,
    parameters: Mapping[str, Any],
) -> Job:
    config = _session(bench).config
    if resume is None:
        seed = bench.seed if isinstance(bench, OpenedBench) else 0
        return prepare(procedure, config, parameters, cells, None, seed)
    if parameters or cells is not None:
        raise UserMistake(f"resume takes everything from {resume}; leave parameters and cells out")
    job = prepare_resumed(procedure, config, Path(resume))
    if job.config.operating_points != config.operating_points:
        raise UserMistake(f"{resume} was made at other operating points; open the bench with at={dict(job.overrides)}")
    return job


class _Shown:
    """One line that changes while a run goes on."""

    def __init__(self, show: Callable[[str], None], live: bool) -> None:
        self._show = show
        self._live = live
        self._records = 0
        self._drawn = 0.0
        self._left = TimeLeft(None, time.monotonic())

    def begin(self, planned_s: float | None) -> None:
        """Start the clock."""
        self._left = TimeLeft(planned_s, time.monotonic())

    def say(self, text: str) -> None:
        """Show it now."""
        self._show(text)

    def step(self, step: Step) -> None:
        """Show a step, a few times a second at most."""
        if isinstance(step, Record):
            self._records += len(next(iter(step.values.values()))) if step.many else 1
        elif self._live and isinstance(step, Progress):
            now = time.monotonic()
            self._left.update(step.done, step.total, now)
            if now - self._drawn >= REDRAW_S:
                self._drawn = now
                live = "".join(f", {name} {value:.4g}" for name, value in step.live.items())
                text = f"{step.done}/{step.total} {step.text}{live}, {self._records} records"
                self._show(text + self._left.text(now))


def _display() -> tuple[Callable[[str], None], bool]:
    """What shows a line that the next one replaces, and whether it is live: elsewhere only the last line is shown."""
    if "IPython" in sys.modules and importlib.import_module("IPython").get_ipython() is not None:
        display = importlib.import_module("IPython.display")
        handle = display.display(display.HTML(""), display_id=True)
        return lambda text: handle.update(display.HTML(f"<code>{escape(text)}</code>")), True
    live = sys.stdout.isatty()
    return lambda text: print(f"\r\x1b[2K{text}" if live else text, end="" if live else "\n", flush=True), live


def _table(title: str, rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table><caption>{escape(title)}</caption>{cells}</table>"


__all__ = ["NotebookResult", "OpenedBench", "RunList", "open_bench", "plan", "run", "runs"]
