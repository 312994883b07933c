"""Fits for the screen: what the fit commands do, in a process of its own, so that a fit can be stopped at any moment.

A fit has no points at which it could look for a stop, and its arithmetic would hold up the bench's own thread.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import IO

from bench.children import module_command, same_imports
from bench.procedure import Progress
from bench.stopping import StopToken
from calibration.device_fit import PROCEDURE as CHARACTERISATION
from calibration.device_fit import fit_device
from calibration.estimate import Estimate
from calibration.result import Fit, fitted_device
from calibration.script import KINDS, fit_sources, open_sources
from data.device_files import DeviceFile, default_device, load_device
from data.runs import Run, open_run
from models.exceptions import BenchFailure, RramBenchError, UserMistake

POLL_S = 0.1
NICENESS = 5


@dataclass(frozen=True)
class FitKind:
    """A kind of fit, as a person chooses it.

    Attributes:
        name: as on the command line.
        summary: one line.
        procedures: whose runs it reads.
        tables: it reads plain tables (.csv) as well.
        single: it takes one run, completed, on the packaged base file: there is nothing else to choose.
    """

    name: str
    summary: str
    procedures: tuple[str, ...]
    tables: bool
    single: bool = False


DEVICE = "device"
FIT_KINDS: Mapping[str, FitKind] = {
    DEVICE: FitKind(
        DEVICE, "the short fit of one characterisation: a little of everything", (CHARACTERISATION,), False, True
    ),
    **{kind.name: FitKind(kind.name, kind.summary, kind.procedures, kind.table is not None) for kind in KINDS.values()},
}
"""All fits by name."""


@dataclass(frozen=True)
class FitTask:
    """What to fit.

    Attributes:
        kind: a name in :data:`FIT_KINDS`.
        paths: run files, or plain tables.
        base: device file that all other numbers come from; None for the packaged one.
        partial, population: as the options of the command.
    """

    kind: str
    paths: tuple[Path, ...]
    base: Path | None = None
    partial: bool = False
    population: bool = False


@dataclass(frozen=True)
class Fitted:
    """What came of a fit.

    Attributes:
        task: what was asked for.
        fit: the fit.
        runs: what it was made of.
        base: what it stands on.
        device: the device file that comes of it; None where the fit did not converge.
    """

    task: FitTask
    fit: Fit
    runs: tuple[Run, ...]
    base: DeviceFile
    device: DeviceFile | None


def fit_now(task: FitTask, tell: Callable[[str], None] = lambda text: None) -> Fitted:
    """Fit, as the commands do.

    Args:
        tell: gets a line at each stage.

    Raises:
        UserMistake: nothing to fit, a file that the fit does not take, or data that cannot be fitted at all.
    """
    if not task.paths:
        raise UserMistake(f"choose runs for the {task.kind} fit first")
    base = default_device() if task.base is None else load_device(task.base)
    names = ", ".join(path.name for path in task.paths)
    if FIT_KINDS[task.kind].single:
        if len(task.paths) > 1:
            raise UserMistake(f"the {task.kind} fit takes one run; {len(task.paths)} are chosen")
        tell(f"fitting {task.kind} to {names}")
        run = open_run(task.paths[0])
        return _device_fit(task, run, base)
    kind = KINDS[task.kind]
    tell(f"reading {names}")
    runs = open_sources(kind, task.paths, base, partial=task.partial, population=task.population)
    tell(f"fitting {task.kind} to {names}")
    fit = fit_sources(kind, runs, base)
    return Fitted(task, fit, tuple(runs), base, fitted_device(fit, runs, base) if fit.converged else None)


def _device_fit(task: FitTask, run: Run, base: DeviceFile) -> Fitted:
    found = fit_device(run, base)
    parts = found.resistances
    fit = Fit(
        {name: Estimate(**values) for name, values in found.parameters.items()},
        parts.devices,
        found.converged,
        () if found.converged else ("the mean slope of the staircase is not positive: measure more",),
        found.report,
        parts.outliers,
        parts.checks,
        parts.comparisons,
        parts.overlays,
    )
    return Fitted(task, fit, (run,), base, found.device if found.converged else None)


def fit_apart(task: FitTask, stop: StopToken, report: Callable[[Progress], None]) -> Fitted:
    """Fit in a process of its own.

    Args:
        stop: ends that process at once.
        report: told of each stage, and every second how long it takes.

    Raises:
        UserMistake, BenchFailure: as :func:`fit_now`, or the process died.
        bench.stopping.Stopped: a stop was asked for.
    """
    # A module of its own, and not a process of multiprocessing: that would run the caller's script once more.
    # Ctrl-C reaches the whole foreground group; it is the window's to decide what becomes of the fit.
    child = subprocess.Popen(
        module_command(__name__),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=same_imports(),
        start_new_session=os.name == "posix",
    )
    assert child.stdin is not None
    assert child.stdout is not None
    messages: Queue[object] = Queue()
    reader = threading.Thread(target=_read, args=(child.stdout, messages), name="messages of a fit", daemon=True)
    reader.start()
    try:
        with suppress(BrokenPipeError):  # it died at once, which its reader tells
            pickle.dump(task, child.stdin)
            child.stdin.close()
        return _wait_for(messages, child, task, stop, report)
    finally:
        child.kill()
        child.wait()
        reader.join()
        child.stdout.close()


def _read(stream: IO[bytes], messages: Queue[object]) -> None:
    """Pass on what the child says; None when it says no more."""
    while True:
        try:
            messages.put(pickle.load(stream))
        except (EOFError, pickle.UnpicklingError):
            messages.put(None)
            return


def _wait_for(
    messages: Queue[object],
    child: subprocess.Popen[bytes],
    task: FitTask,
    stop: StopToken,
    report: Callable[[Progress], None],
) -> Fitted:
    start = told = time.monotonic()
    stage = f"starting the {task.kind} fit"
    report(Progress(0, 1, stage))
    while True:
        stop.check()
        with suppress(Empty):
            message = messages.get(timeout=POLL_S)
            if isinstance(message, Fitted):
                return message
            if isinstance(message, RramBenchError):
                raise message
            if message is None:
                raise BenchFailure(
                    f"the process of the {task.kind} fit ended with status {child.wait()} and no result; "
                    "perhaps the memory did not suffice: fit fewer runs at once"
                )
            stage, told = str(message), 0.0
        if time.monotonic() - told >= 1.0:
            told = time.monotonic()
            report(Progress(0, 1, f"{stage}, {told - start:.0f} s so far"))


def serve() -> None:
    """What the child does: a task comes on standard input, stages and the answer go to standard output."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the messages
    if hasattr(os, "nice"):
        os.nice(NICENESS)

    def send(message: object) -> None:
        pickle.dump(message, out)
        out.flush()

    task = pickle.load(sys.stdin.buffer)
    try:
        send(fit_now(task, send))
    except UserMistake as error:
        send(UserMistake(str(error)))
    except RramBenchError as error:
        send(BenchFailure(str(error)))
    except Exception as error:
        traceback.print_exc()
        send(BenchFailure(f"unexpected {type(error).__name__}: {error}; its trace is on standard error"))


if __name__ == "__main__":
    # Under its own name: what is sent must be of the classes that the parent knows.
    from bench.fitting import serve as serve_by_name

    serve_by_name()
