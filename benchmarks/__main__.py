"""Run the benchmarks that are named, or all of them, and print one table."""

from __future__ import annotations

import platform
import sys
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
    wire,
)
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
}


def main() -> int:
    """Print a row per measurement; exit status 2 for an unknown name."""
    if sys.argv[1:2] == ["confirmations"]:
        # a campaign of an hour with options of its own, not one of the benchmarks that are all run together
        return confirmations.main(sys.argv[2:])
    names = sys.argv[1:] if len(sys.argv) > 1 else list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"no benchmark is called {unknown[0]!r}; there are {', '.join(BENCHMARKS)}, confirmations", file=sys.stderr)
        return 2
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}")
    for name in names:
        for row in BENCHMARKS[name]():
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
