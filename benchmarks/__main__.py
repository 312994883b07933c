"""Run the benchmarks that are named, or all of them, and print one table with the aims that were met and missed.

``python -m benchmarks [NAME ...] [--peers PYTHON]``. With ``--peers`` those that compare with other simulators run in
the environment of that interpreter, which has them installed beside this project.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date

from benchmarks import (
    confirmations,
    curves,
    links,
    packed,
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
    "store": run_store.store,
    "growth": run_store.growth,
    "curves": curves.curves,
    "placement": placement.placement,
    "window": window.window,
}


WITH_PEERS = frozenset({"training-step", "read-errors"})
"""Those that measure simulators of other people where they are installed."""

_IN_THEIRS = (
    "import json, sys, dataclasses; from benchmarks.__main__ import BENCHMARKS; rows = BENCHMARKS[sys.argv[1]]();"
    "print(json.dumps([dataclasses.asdict(row) for row in rows]))"
)


def main() -> int:
    """Print a row per measurement, then how many aims were met; exit status 2 for an unknown name."""
    if sys.argv[1:2] == ["confirmations"]:
        # a campaign of an hour with options of its own, not one of the benchmarks that are all run together
        return confirmations.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measured speeds, side by side.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter whose environment has aihwkit or CrossSim too")
    options = parser.parse_args()
    names = options.names if options.names else list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        known = [*BENCHMARKS, "confirmations"]
        print(f"no benchmark is called {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    began = time.monotonic()
    missed, held = [], 0
    for name in names:
        started = time.monotonic()
        theirs = options.peers if name in WITH_PEERS else None
        for row in BENCHMARKS[name]() if theirs is None else _rows_of(theirs, name):
            aim = aim_of(row)
            print(row if aim is None else f"{row}  {'met' if aim.met(row) else 'MISSED'}: {aim}", flush=True)
            held += aim is not None
            if aim is not None and not aim.met(row):
                missed.append(row.what)
        print(f"  ({name}: {time.monotonic() - started:.0f} s)", flush=True)
    print(f"{held - len(missed)} of {held} aims met in {(time.monotonic() - began) / 60:.1f} min")
    for what in missed:
        print(f"  missed: {what}")
    return 0


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
