"""Commands that deal with a bench: simulate, check, instruments, safe, recover, gui."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from bench.config import BenchFile, load_bench_file
from bench.console import Reporter
from bench.stopping import stop_on_signals
from models.exceptions import BenchFailure, UserMistake


@dataclass(frozen=True)
class Simulated:
    """What a simulated bench consists of, as asked for on the command line."""

    seed: int
    device: Path | None
    baud: int | None
    tcp: bool
    chip: str
    arrays: int
    supply: str
    smu: str
    board: str
    wafer: int


def simulate_command(wanted: Simulated, write: Path, as_json: bool) -> None:
    """Serve a simulated bench until Ctrl-C."""
    from data.device_files import load_device
    from drivers.simulated.bench import SimulatedBench

    population = None if wanted.device is None else load_device(wanted.device)
    transport = "tcp" if wanted.tcp or sys.platform == "win32" else "pty"
    simulated = SimulatedBench(
        wanted.seed,
        population,
        transport,
        wanted.baud,
        wanted.chip,
        wanted.arrays,
        wanted.supply,
        wanted.smu,
        wanted.board,
        wanted.wafer,
    )
    with stop_on_signals() as stop, simulated as bench:
        bench.write_bench_file(write)
        reporter = Reporter(as_json)
        resources = {
            "supply": bench.supply.resource,
            "smu": bench.smu.resource,
            "pulse_source": bench.pulse_source.resource,
            "temperature": bench.temperature.resource,
            "board": bench.board.port,
            **({} if bench.prober is None else {"prober": bench.prober.resource}),
        }
        values = {"bench_file": str(write), "seed": wanted.seed, **resources}
        reporter.result(values, [("bench file", str(write)), *resources.items()], "simulated bench; Ctrl-C ends it")
        sys.stdout.flush()
        stop.wait()


def _bench_file(source: str) -> tuple[BenchFile, str]:
    return load_bench_file(Path(source))


def check_command(source: str, patterns: bool, out: Path, seed: int, as_json: bool) -> None:
    """Verdict on every instrument of a bench, and on the sense amplifiers where that is asked for."""
    from bench.check import check_bench, show_check
    from bench.session import SIMULATED, connect, simulated_bench

    with ExitStack() as stack:
        is_simulated = source == SIMULATED
        config, text = stack.enter_context(simulated_bench(seed)) if is_simulated else _bench_file(source)
        rows = check_bench(config)
        good = all(row.ok for row in rows)
        amplifiers = None
        if patterns and good:
            from bench.amplifier_check import check_amplifiers

            reporter = Reporter(as_json)
            with stop_on_signals() as stop, connect(config, text) as bench:
                amplifiers = check_amplifiers(bench, out, seed, is_simulated, reporter, stop)
    show_check(f"bench {source}", rows, amplifiers, as_json)
    if not good:
        raise typer.Exit(max(row.exit_status for row in rows))
    if amplifiers is not None and not amplifiers["ok"]:
        raise typer.Exit(BenchFailure.exit_status)


def instruments_command(source: Path | None, timeout_s: float, as_json: bool) -> None:
    """What is plugged in, and who answers."""
    from bench.lock import BenchLock
    from drivers.discovery import Named, discover, look_around

    named = []
    if source is not None:
        config, _ = load_bench_file(source)
        for role, resource in config.resources.items():
            section = getattr(config, role)
            named.append(Named(role, section.driver, resource, getattr(section, "baudrate", 0)))
    listing = look_around()
    found = discover(listing, named, timeout_s, lambda resource: BenchLock([resource]))
    values = {"instruments": [one.as_json() for one in found], "notes": list(listing.notes)}
    lines = [
        (one.resource, "\n".join(filter(None, [f"{one.outcome.value}: {one.answer}", one.kind, one.remedy])))
        for one in found
    ]
    lines += [("note", note) for note in listing.notes]
    Reporter(as_json).result(values, lines if lines else [("nothing", "is plugged in")], "instruments")


def safe_command(source: str, as_json: bool) -> None:
    """Every output at 0 V and off, whatever can be reached; status 1 when one is UNKNOWN."""
    from bench.session import SIMULATED, make_safe, simulated_bench

    with stop_on_signals():
        if source == SIMULATED:
            with simulated_bench() as (config, _):
                report = make_safe(config)
        else:
            report = make_safe(_bench_file(source)[0])
    values = {"confirmed": report.confirmed, "instruments": [asdict(step) for step in report.steps]}
    Reporter(as_json).result(values, [(step.role, str(step)) for step in report.steps], "safe state")
    if not report.confirmed:
        raise BenchFailure("the safe state is not confirmed: switch the instruments named UNKNOWN off by hand")


def recover_command(path: Path, as_json: bool) -> None:
    """Finish run files that a crash left."""
    from data.runs import find_interrupted, recover

    left = find_interrupted(path) if path.is_dir() else [path]
    recovered = [str(recover(run_file)) for run_file in left]
    lines = [("recovered", name) for name in recovered] or [("nothing to recover in", str(path))]
    Reporter(as_json).result({"recovered": recovered}, lines)


def gui_command(source: str | None, seed: int, as_json: bool) -> None:
    """Open the window, and say at the end whether the instruments confirmed that they are off."""
    from bench.session import SIMULATED

    try:
        from bench.gui import show
    except ImportError as error:
        raise UserMistake(f"the window cannot open: {error}; install Qt's system libraries, see the README") from None
    if source is not None and source != SIMULATED:
        _bench_file(source)  # a mistake in it is said here, not in a window
    status = show(source, seed)
    if as_json:
        print(json.dumps({"bench": source, "left_safe": status == 0}))
    if status != 0:
        raise typer.Exit(status)
