"""From files to a fit and on to a device file: what the command line and ``python -m calibration.X`` share."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from calibration.result import Fit, chip_of, fitted_device
from calibration.tables import SUFFIX, TableRun, read_states, read_trains
from data.atomic import check_writable
from data.device_files import DeviceFile, default_device, load_device, save_device
from data.run_chain import chain
from data.runs import Run, RunStatus, open_run
from models.exceptions import RramBenchError, UserMistake

DEVICE_FILE = "device file"


@dataclass(frozen=True)
class Kind:
    """One kind of fit.

    Attributes:
        name: as the command line calls it.
        summary: one line.
        module, function: where ``fit_X_runs(runs, base) -> Fit`` is; imported when it is used.
        procedures: whose runs it can read.
        table: reads a plain table as such a run; None where there is no such table.
    """

    name: str
    summary: str
    module: str
    function: str
    procedures: tuple[str, ...]
    table: Callable[[Path, DeviceFile], TableRun] | None = None

    def fit(self, runs: Sequence[Run], base: DeviceFile) -> Fit:
        """Fit runs of these procedures.

        Raises:
            UserMistake: the data cannot be fitted at all.
        """
        function = getattr(importlib.import_module(self.module), self.function)
        found: Fit = function(runs, base)
        return found


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "weak-reset",
            "populations of the weak-RESET curve, its noise and its voltage dependence",
            "calibration.weak_reset_runs",
            "fit_weak_reset_runs",
            ("weak-reset",),
            read_trains,
        ),
        Kind(
            "resistance",
            "LRS and HRS populations, spread of devices and of cycles apart",
            "calibration.resistance_runs",
            "fit_resistance_runs",
            ("variability", "resistance", "characterise", "endurance"),
            read_states,
        ),
        Kind(
            "bit-error",
            "bit error rates against the conditions of programming and reading",
            "calibration.bit_error_runs",
            "fit_bit_error_runs",
            ("bit-error",),
        ),
        Kind(
            "sense",
            "offset, noise and speed of the sense amplifiers",
            "calibration.sense_runs",
            "fit_sense_runs",
            ("shmoo",),
        ),
    )
}
"""The fits, by name."""


def open_sources(
    kind: Kind, paths: Sequence[Path], base: DeviceFile, *, partial: bool = False, population: bool = False
) -> list[Run]:
    """Open and check what a fit is to be made of.

    Args:
        paths: run files, or plain tables where the kind has them. Of a resumed run the last part is enough.
        base: conditions that a plain table does not tell are taken from it.
        partial: take runs that ended early as well.
        population: take runs of several chips, as one population.

    Raises:
        UserMistake: a file is missing, truncated, of another procedure, unfinished, named twice, or of another chip.
    """
    runs = [_open(kind, path, base) for path in paths]
    for run in runs:
        if not partial and run.status is not RunStatus.COMPLETED:
            raise UserMistake(f"{run.path}: this run is {run.status}; resume it, or fit what there is with --partial")
    _refuse_twice(runs)
    chips = {chip_of(run): run.path for run in runs}
    if len(chips) > 1 and not population:
        (first, one), (second, other) = list(chips.items())[:2]
        raise UserMistake(
            f"{one} is of chip {first!r} and {other} of chip {second!r}; fit each chip by itself, "
            "or all as one population with --population"
        )
    return runs


def _open(kind: Kind, path: Path, base: DeviceFile) -> Run:
    if path.suffix.lower() == SUFFIX:
        if kind.table is None:
            raise UserMistake(f"{path}: the {kind.name} fit reads run files only, no plain tables")
        return kind.table(path, base)
    run = open_run(path)
    if run.procedure not in kind.procedures:
        raise UserMistake(
            f"{path}: a run of {run.procedure!r}; the {kind.name} fit needs one of {', '.join(kind.procedures)}"
        )
    return run


def _refuse_twice(runs: Sequence[Run]) -> None:
    """Refuse records that would count twice."""
    seen: dict[Path, Path] = {}
    contents: dict[str, Path] = {}
    for run in runs:
        same = contents.setdefault(hashlib.sha256(run.path.read_bytes()).hexdigest(), run.path)
        if same.resolve() != run.path.resolve():
            raise UserMistake(f"{run.path} is a copy of {same}, and its records would count twice; name one of them")
        for part in chain(run):
            where = part.path.resolve()
            if where in seen:
                raise UserMistake(
                    f"{part.path} would count twice: by itself and as a part of {seen[where]}; "
                    "of a resumed run name the last part alone"
                    if seen[where] != part.path
                    else f"{part.path} is named twice"
                )
            seen[where] = run.path


def fit_sources(kind: Kind, runs: Sequence[Run], base: DeviceFile) -> Fit:
    """Fit opened sources; outliers of plain tables get the names that the tables give them.

    Raises:
        UserMistake: the data cannot be fitted at all.
    """
    fit = kind.fit(runs, base)
    several = len({chip_of(run) for run in runs}) > 1
    names = {chip_of(run) if several else "": run.names for run in runs if isinstance(run, TableRun)}
    named = (replace(item, name=names[item.chip][item.row]) if item.chip in names else item for item in fit.outliers)
    return replace(fit, outliers=tuple(named))


def run_script(name: str) -> int:
    """The whole of ``python -m calibration.X``: fit the files on the command line; returns the exit status.

    Args:
        name: a key of :data:`KINDS`.
    """
    kind = KINDS[name]
    parser = argparse.ArgumentParser(description=f"Fit {kind.summary}.")
    what = f"run file of {' or '.join(kind.procedures)}" + ("" if kind.table is None else ", or a plain table (.csv)")
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=what)
    parser.add_argument("--out", type=Path, default=Path("device.toml"), help="device file to write")
    parser.add_argument("--base", type=Path, help="device file that all other numbers are taken from")
    parser.add_argument("--partial", action="store_true", help="take runs that ended early as well")
    parser.add_argument("--population", action="store_true", help="take runs of several chips, as one population")
    options = parser.parse_args()
    try:
        check_writable(options.out, DEVICE_FILE)
        base = default_device() if options.base is None else load_device(options.base)
        runs = open_sources(kind, options.runs, base, partial=options.partial, population=options.population)
        fit = fit_sources(kind, runs, base)
        if fit.converged:
            save_device(options.out, fitted_device(fit, runs, base))
    except RramBenchError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    for key, found in fit.parameters.items():
        print(f"{key}: {found}")
    lines = (*fit.report, *(f"left out: {item}" for item in fit.outliers), *fit.problems)
    print("\n".join((*lines, f"wrote {options.out}" if fit.converged else "not converged: no device file is written")))
    return 0 if fit.converged else 1
