"""A client of a served bench that works until somebody ends it: forms a few cells, then reads and measures."""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from bench.config import load_bench_file
from bench.procedure import Record, Step
from bench.procedures import find_procedure
from bench.runner import run
from bench.session import connect
from bench.stopping import INTERRUPTED_STATUS, Stopped, stop_on_signals

READY, RUN, RECORDED, FAILED = "ready", "run", "recorded", "failed"
CELLS = 24
LOOP = ("read", "resistance")


def work(bench_file: Path, folder: Path, watchdog_s: float, told: Connection) -> None:
    """Run procedures on the bench until stopped, and tell the parent of every record that was acknowledged.

    Args:
        watchdog_s: instead of that in the bench file, which has to be longer than the slowest instrument it may meet.
    """
    # A signal that comes when our handlers are gone again makes the interpreter say so, over and over.
    sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    with stop_on_signals() as stop:
        told.send((READY, ""))
        try:
            config, text = load_bench_file(bench_file)
            config = config.model_copy(update={"board": config.board.model_copy(update={"watchdog_s": watchdog_s})})

            def on_step(step: Step) -> None:
                if isinstance(step, Record):
                    told.send((RECORDED, str(len(next(iter(step.values.values()))) if step.many else 1)))

            with connect(config, text) as bench:
                cells = np.zeros(bench.config.geometry, dtype=bool)
                cells[0, :CELLS] = True
                names = ["forming"]
                while True:
                    for name in names:
                        told.send((RUN, name))
                        procedure = find_procedure(name)
                        run(procedure, procedure.parse({}), bench, folder, cells=cells, on_step=on_step, stop=stop)
                    names = list(LOOP)
        except Stopped:
            sys.exit(INTERRUPTED_STATUS)
        except Exception as error:  # the parent has to know of any
            told.send((FAILED, f"{type(error).__name__}: {error}"))
            sys.exit(2)
