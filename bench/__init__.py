"""The application: bench file, session, procedures, mapping, inference, command line and screen.

What a notebook needs is here by its own name: see :mod:`bench.notebook`. It is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.notebook import NotebookResult, OpenedBench, RunList, open_bench, plan, run, runs
    from bench.planning import Plan

_HOMES = {
    "NotebookResult": "bench.notebook",
    "OpenedBench": "bench.notebook",
    "Plan": "bench.planning",
    "RunList": "bench.notebook",
    "open_bench": "bench.notebook",
    "plan": "bench.notebook",
    "run": "bench.notebook",
    "runs": "bench.notebook",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


__all__ = ["NotebookResult", "OpenedBench", "Plan", "RunList", "open_bench", "plan", "run", "runs"]
