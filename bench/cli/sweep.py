"""The command ``sweep``."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.console import Reporter, TimeLeft, duration
from models.exceptions import BenchFailure, UserMistake

if TYPE_CHECKING:
    from bench.sweeping.local import Engine
    from bench.sweeping.running import Progress
    from bench.sweeping.store import Stored
    from bench.sweeping.sweep_file import Sweep

NOTED_EVERY_S = 30.0
"""Between lines of progress where no terminal shows it live."""
LISTED = 20


@dataclass(frozen=True)
class SweepOptions:
    """What a person asked for.

    Attributes:
        file: sweep file; for a report the file of its results too.
        out: file of the results, or None for that beside the sweep file.
        workers: processes on this machine, or None for one on each core; 0 for none, one point after the other.
        scheduler: address of a Dask scheduler, or None.
        slurm: ask Slurm for workers.
        retry: compute points that failed again.
    """

    file: Path
    out: Path | None = None
    workers: int | None = None
    scheduler: str | None = None
    slurm: bool = False
    retry: bool = False

    @property
    def results(self) -> Path:
        """The file of the results."""
        return self.file.with_suffix(".h5") if self.out is None else self.out


@dataclass(frozen=True)
class ReportOptions:
    """What a report shall show.

    Attributes:
        results: names or patterns; none for those that the experiment is about.
        against: condition of the plot, or None.
        plot, csv: files to write, or None.
    """

    results: tuple[str, ...] = ()
    against: str | None = None
    plot: Path | None = None
    csv: Path | None = None

    def refuse_without_report(self) -> None:
        """Raise UserMistake where something is asked of a report, and no report is."""
        if self != ReportOptions():
            raise UserMistake("--result, --against, --plot and --csv are of a report: add --report")


def sweep_command(options: SweepOptions, as_json: bool) -> None:
    """Compute what is missing of a sweep."""
    from bench.sweeping.points import PointStatus, one_thread

    one_thread()  # before the numerical libraries are loaded
    from bench.stopping import stop_on_signals
    from bench.sweeping.running import run_sweep
    from bench.sweeping.store import SweepStore
    from bench.sweeping.sweep_file import load_sweep

    sweep, reporter = load_sweep(options.file), Reporter(as_json)
    engine, told = _engine(options, sweep), _Told(reporter)
    with SweepStore(options.results, sweep) as store, stop_on_signals() as stop:
        known = len(store.outcomes)
        earlier = f", {known} of them are stored already" if known else ""
        reporter.stage(f"{sweep.experiment.name} at {len(sweep.points)} points{earlier}; {engine}")
        progress = run_sweep(sweep, store, engine, stop, options.retry, told.of)
        failed = {index: one.error for index, one in store.outcomes.items() if one.status is PointStatus.FAILED}
    reporter.done(_cost(progress))
    values: dict[str, Any] = {
        "out": str(options.results),
        "points": progress.points,
        "done": progress.done,
        "failed": progress.failed,
        "computed": progress.computed,
        "processor_s": progress.processor_s,
        "errors": {str(index): error for index, error in sorted(failed.items())},
    }
    lines = [("points", str(progress.points)), ("done", str(progress.done)), ("failed", str(progress.failed))]
    lines += [(sweep.points[index].text, error) for index, error in sorted(failed.items())[:LISTED]]
    lines += [("time of the processors", duration(progress.processor_s)), ("results", str(options.results))]
    reporter.result(values, lines, f"sweep {options.file.name}")
    if failed:
        raise BenchFailure(f"{len(failed)} of {progress.points} points failed; --retry computes them again")


def list_command(options: SweepOptions, as_json: bool) -> None:
    """The points of a sweep and, once one of them is stored, what the rest will take; nothing is started."""
    from bench.sweeping.store import read_sweep
    from bench.sweeping.sweep_file import load_sweep

    sweep = load_sweep(options.file)
    engine = _engine(options, sweep)
    stored = read_sweep(options.results) if options.results.exists() else None
    if stored is not None:
        stored.check(sweep)
    ended = {} if stored is None else stored.outcomes
    left = len(sweep.points) - len(ended)
    each = sum(one.seconds for one in ended.values()) / len(ended) if ended else None
    values = {
        "experiment": sweep.experiment.name,
        "points": [
            {
                "conditions": dict(point.conditions),
                "seed": point.seed,
                "status": str(ended[point.index].status) if point.index in ended else "missing",
            }
            for point in sweep.points
        ],
        "missing": left,
        "seconds_left_of_one_worker": None if each is None else each * left,
    }
    rows = [
        (str(point.index), point.text + (f"; {ended[point.index].status}" if point.index in ended else ""))
        for point in sweep.points[:LISTED]
    ]
    if len(sweep.points) > LISTED:
        rows.append(("...", f"{len(sweep.points) - LISTED} more points"))
    rows.append(("missing", f"{left} of {len(sweep.points)} points; {engine}"))
    estimate = "known once the first point has ended" if each is None else f"{duration(each * left)} of one worker"
    rows.append(("estimate", estimate))
    Reporter(as_json).result(values, rows, f"{sweep.experiment.name}, {options.file.name}")


def report_command(options: SweepOptions, asked: ReportOptions, as_json: bool) -> None:
    """What came of a sweep."""
    from bench.sweeping.experiments import experiment
    from bench.sweeping.points import PointStatus
    from bench.sweeping.report import chosen_results, groups, plot, table, write_csv
    from bench.sweeping.store import read_sweep

    stored = read_sweep(options.results)
    wanted = asked.results if asked.results else (experiment(stored.attributes["experiment"]).shown,)
    names = chosen_results(stored, wanted)
    found = groups(stored, names)
    if asked.against is not None and asked.plot is None:
        raise UserMistake("--against is of the picture: add --plot FILE")
    if asked.csv is not None:
        write_csv(asked.csv, stored)
    if asked.plot is not None:
        plot(asked.plot, stored, names, asked.against)
    counts = {status.value: stored.count(status) for status in PointStatus}
    values = {
        "file": str(stored.path),
        **counts,
        "groups": [
            {"conditions": one.conditions, "results": one.values, "done": one.done, "failed": one.failed}
            for one in found
        ],
    }
    written = [(name, str(path)) for name, path in (("table", asked.csv), ("picture", asked.plot)) if path is not None]
    title = f"{stored.path.name}: " + ", ".join(f"{count} {status}" for status, count in counts.items())
    Reporter(as_json).result(values, [*table(found), *_cost_of(stored), *written], title)


def _cost_of(stored: Stored) -> list[tuple[str, str]]:
    if not stored.outcomes:
        return []
    worst = max(stored.outcomes.values(), key=lambda one: one.seconds)
    total = sum(one.processor_s for one in stored.outcomes.values())
    return [("cost", f"{duration(total)} of processor time; the longest point {duration(worst.seconds)}")]


def _engine(options: SweepOptions, sweep: Sweep) -> Engine:
    from bench.sweeping.local import Processes, Serial, cores

    asked = [options.workers is not None, options.scheduler is not None, options.slurm]
    if sum(asked) > 1:
        raise UserMistake("--workers, --scheduler and --slurm exclude each other")
    if options.scheduler is not None:
        from bench.sweeping.on_dask import OnDask

        return OnDask(options.scheduler)
    if options.slurm:
        from bench.sweeping.on_dask import OnSlurm

        if sweep.slurm is None:
            raise UserMistake(f"--slurm: {options.file} has no table [slurm], which says what is asked of it")
        return OnSlurm(sweep.slurm)
    workers = cores() if options.workers is None else options.workers
    return Serial() if workers == 0 else Processes(workers)


def _cost(progress: Progress) -> str:
    return (
        f"{progress.done} of {progress.points} points done, {progress.failed} failed, "
        f"{duration(progress.processor_s)} of processor time"
    )


class _Told:
    """Shows how far it is: live on a terminal, elsewhere a line now and then."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._began = self._noted = time.monotonic()
        self._left = TimeLeft(None, self._began)

    def of(self, progress: Progress, outcome: Any) -> None:
        """A point is stored."""
        from bench.procedure import Progress as Step

        now = time.monotonic()
        self._left.update(progress.computed, progress.wanted, now)
        if outcome.error:
            self._reporter.note(f"point {outcome.index} failed: {outcome.error}")
        if os.isatty(2):
            self._reporter.step(Step(progress.computed, progress.wanted, f"points; {_cost(progress)}"))
        elif now - self._noted >= NOTED_EVERY_S:
            self._noted = now
            self._reporter.note(f"{_cost(progress)}{self._left.text(now)}")
