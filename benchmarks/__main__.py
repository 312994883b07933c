"""Run the benchmarks that are named, or all of them, and say of each figure whether what is wanted of it is met.

``python -m benchmarks [NAME ...] [--peers PYTHON] [--json FILE] [--write PAGE]``. With ``--peers`` those that compare
with other simulators run in the environment of that interpreter, which has them installed beside this project. What is
not installed is named, and is no error.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.sweeping.points import processor_s
from benchmarks import (
    confirmations,
    curves,
    links,
    packed,
    peers,
    physics,
    placement,
    read_errors,
    run_store,
    training_step,
    window,
    wire,
)
from benchmarks.aims import aim_of
from benchmarks.rows import Row
from benchmarks.tables import Part, as_json, as_lines, machine, replace_between
from models.exceptions import UserMistake

BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "senses": wire.senses,
    "exchanges": wire.exchanges,
    "links": links.links,
    "weak-reset": physics.weak_reset,
    "chip": physics.chip,
    "injection": physics.injection,
    "training-step": training_step.training_step,
    "packed": packed.packed,
    "steps": packed.steps,
    "read-errors": read_errors.read_errors,
    "peers": peers.peers,
    "store": run_store.store,
    "run-files": run_store.growth,
    "curves": curves.curves,
    "placement": placement.placement,
    "window": window.window,
}

WITH_PEERS = frozenset({"training-step", "read-errors", "peers"})
"""Those that measure simulators of other people where they are installed."""

_IN_THEIRS = (
    "import json, sys, dataclasses; from benchmarks.__main__ import BENCHMARKS; rows = BENCHMARKS[sys.argv[1]]();"
    "print(json.dumps([dataclasses.asdict(row) for row in rows]))"
)


def main() -> int:
    """Print a row per measurement, then how many aims were met; status 2 for a mistake, 1 when a benchmark failed."""
    if sys.argv[1:2] == ["confirmations"]:
        # a campaign of an hour with options of its own, not one of the benchmarks that are all run together
        return confirmations.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measured speeds, side by side.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter whose environment has other simulators too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for all figures")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="page whose tables are replaced")
    options = parser.parse_args()
    try:
        _refuse(options)
    except UserMistake as mistake:
        print(mistake, file=sys.stderr)
        return mistake.exit_status
    where = machine()
    print(where, flush=True)
    began = time.monotonic()
    parts = [_part(name, options.peers) for name in options.names or BENCHMARKS]
    aims = [(row, aim) for part in parts for row in part.rows if row.taken and (aim := aim_of(row)) is not None]
    missed = [row.what for row, aim in aims if not aim.met(row)]
    end = f"{len(aims) - len(missed)} of {len(aims)} aims met in {(time.monotonic() - began) / 60:.1f} min"
    print(end)
    for what in missed:
        print(f"  missed: {what}")
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(where, parts), indent=1) + "\n", encoding="utf-8")
    if options.write is not None:
        theirs = [] if options.peers is None else ["--peers PYTHON"]
        command = " ".join(["python -m benchmarks", *options.names, *theirs])
        replace_between(options.write, "benchmarks", as_lines(command, where, end, parts))
    failed = [part.name for part in parts if part.problem]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _refuse(options: argparse.Namespace) -> None:
    """Raise UserMistake for what would be noticed after the measuring only."""
    for name in options.names:
        if name not in BENCHMARKS:
            known = ", ".join([*BENCHMARKS, "confirmations"])
            raise UserMistake(f"no benchmark is called {name!r}; there are {known}")
    if options.peers is not None and shutil.which(options.peers) is None:
        raise UserMistake(f"--peers {options.peers}: there is no such interpreter; name the python of an environment")
    if options.json is not None and not options.json.absolute().parent.is_dir():
        raise UserMistake(f"--json {options.json}: there is no such folder")
    if options.write is not None:
        replace_between(options.write, "benchmarks", None)


def _part(name: str, theirs: str | None) -> Part:
    """Run one benchmark and print its rows; one that fails costs no other."""
    started, started_s = time.monotonic(), processor_s()
    problem, rows = "", list[Row]()
    try:
        rows = BENCHMARKS[name]() if theirs is None or name not in WITH_PEERS else _rows_of(theirs, name)
    except Exception as error:  # the others take ten minutes, and are not lost for it
        problem = f"{type(error).__name__}: {' '.join(str(error).split())}"
    about = (BENCHMARKS[name].__doc__ or "").splitlines()[0]
    part = Part(name, about, rows, time.monotonic() - started, processor_s() - started_s, problem)
    print(f"{name}: {about}")
    for row in rows:
        aim = aim_of(row) if row.taken else None
        print(f"  {row}" if aim is None else f"  {row}  {'met' if aim.met(row) else 'MISSED'}: {aim}")
    if problem:
        print(f"  FAILED: {problem}")
    print(f"  ({part.seconds:.0f} s, {part.processor_s:.0f} s of processor time)", flush=True)
    return part


def _rows_of(python: str, name: str) -> list[Row]:
    """Rows of a benchmark that runs in another environment."""
    command = [python, "-c", _IN_THEIRS, name]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        print(f"{name}: {python} failed: {ran.stderr.strip()[-200:]}; measured here", file=sys.stderr)
        return BENCHMARKS[name]()
    return [Row(**values) for values in json.loads(ran.stdout.splitlines()[-1])]


if __name__ == "__main__":
    sys.exit(main())
