"""The command line with a system of the tests' own, `shared`: one network learns digits for as long as it is told.

Each process leaves its number in a file, so that a test can end it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import bench.reproduce
from bench.cli import main
from bench.reproduce import Context, Reproduction, Row, System, ordering
from data.datasets import load_dataset
from models.architectures import architecture
from models.processes import place


def run(context: Context) -> Reproduction:
    from bench.reproduce.learning import Lesson, learn

    folder = Path(os.environ["SHARED_FOLDER"])
    (folder / f"process-{place().rank}").write_text(str(os.getpid()))
    lesson = Lesson(int(os.environ["SHARED_EPOCHS"]), 64)
    context.progress("begun", 0.0)
    learned = learn(context, architecture("digits-bnn"), load_dataset("digits"), lesson, context.seed, "digits")
    row = Row("accuracy", None, learned.accuracy, ordering(learned.accuracy > 0.9))
    return Reproduction("shared", (row,), settings={"processes": str(place().size)})


if __name__ == "__main__":
    module = ModuleType("shared_system")
    module.SYSTEM = System("shared", "one network, several processes", run)  # type: ignore[attr-defined]
    sys.modules["shared_system"] = module
    bench.reproduce.SYSTEMS = {"shared": "shared_system"}
    main()
