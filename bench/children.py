"""Processes of our own that a program starts beside itself: they import what it imports, wherever it was started."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def module_command(module: str) -> list[str]:
    """The command that runs a module of ours with the interpreter of this process.

    The working directory is not searched (``-P``): a folder there that is called like a package of ours, such as
    ``data``, would stand in its way.
    """
    return [sys.executable, "-P", "-m", module]


def same_imports() -> dict[str, str]:
    """The environment in which a process finds what this one found: installed, or in a checkout."""
    # an empty entry is the working directory of this process
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
