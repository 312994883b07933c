"""Commands that fit: weak-reset, resistance, bit-error, sense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli.options import JsonOption
from models.exceptions import BenchFailure, UserMistake

RunsArgument = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Run files, or plain tables (.csv) where the fit has them.")
]
DeviceOutOption = Annotated[Path, typer.Option("--out", metavar="FILE", help="Device file to write.")]
BaseOption = Annotated[
    Path | None,
    typer.Option("--base", metavar="FILE", help="Device file that all other numbers come from; ours by default."),
]
ReportOption = Annotated[
    Path | None, typer.Option("--report", metavar="FILE", help="Page (.html) with plots and checks to write as well.")
]
PartialOption = Annotated[bool, typer.Option("--partial", help="Take runs that ended early as well.")]
PopulationOption = Annotated[
    bool, typer.Option("--population", help="Take runs of several chips as one population of devices.")
]
OUT = Path("device.toml")


def add_fits(app: typer.Typer) -> None:
    """Give ``app`` one command for each kind of fit."""
    for name, summary in (
        ("weak-reset", "Fit the populations of the weak-RESET curve, its noise and its voltage dependence."),
        ("resistance", "Fit the LRS and HRS populations, spread of devices and of cycles apart."),
        ("bit-error", "Fit bit error rates against the conditions of programming and reading."),
        ("sense", "Fit offset, noise and speed of the sense amplifiers to shmoo runs."),
    ):
        app.command(name, help=summary)(_command(name))


def _command(name: str) -> Callable[..., None]:
    def command(
        runs: RunsArgument,
        out: DeviceOutOption = OUT,
        base: BaseOption = None,
        report: ReportOption = None,
        partial: PartialOption = False,
        population: PopulationOption = False,
        as_json: JsonOption = False,
    ) -> None:
        fit_command(name, runs, out, base, report, partial, population, as_json)

    return command


def fit_command(
    name: str,
    paths: list[Path],
    out: Path,
    base_path: Path | None,
    report: Path | None,
    partial: bool,
    population: bool,
    as_json: bool,
) -> None:
    """Fit runs, show what was found, and write the device file and the page.

    A fit that did not converge is shown, and its page is written; its device file is not, and the status is 1.
    """
    from bench.console import Reporter
    from bench.fit_reports import write_fit_report
    from bench.pages import check_page
    from calibration.result import fitted_device
    from calibration.script import DEVICE_FILE, KINDS, fit_sources, open_sources
    from data.atomic import check_writable
    from data.device_files import default_device, load_device, save_device

    kind, reporter = KINDS[name], Reporter(as_json)
    check_writable(out, DEVICE_FILE)
    if report is not None:
        check_page(report)
        if report.resolve() == out.resolve():
            raise UserMistake(f"--out and --report are both {out}; the device file and the page need a file each")
    base = default_device() if base_path is None else load_device(base_path)
    reporter.stage(f"reading {', '.join(path.name for path in paths)}")
    runs = open_sources(kind, paths, base, partial=partial, population=population)
    reporter.stage(f"fitting {name}")
    fit = fit_sources(kind, runs, base)
    device = fitted_device(fit, runs, base) if fit.converged else None
    reporter.done(f"{fit.devices} devices, {'converged' if fit.converged else 'NOT converged'}")
    for line in (*fit.report, *(f"left out: {item}" for item in fit.outliers), *fit.problems):
        reporter.note(line)
    for check in fit.checks:
        reporter.note(f"{'ok  ' if check.good else 'FAIL'} {check.text}")
    for comparison in fit.comparisons:
        reporter.note(comparison.text)
    if report is not None:
        write_fit_report(report, name, fit, runs, base)
    if device is not None:
        save_device(out, device)
    values: dict[str, Any] = {
        **fit.as_json(),
        "device_file": None if device is None else str(out),
        "report_file": None if report is None else str(report),
    }
    table = [
        (key, f"{found.value:.5g} ({found.low:.5g} to {found.high:.5g}) {found.unit}")
        for key, found in fit.parameters.items()
    ]
    table.append(("device file", "none: the fit did not converge" if device is None else str(out)))
    if report is not None:
        table.append(("report", str(report)))
    reporter.result(values, table, f"{name} fit of {len(runs)} file(s), {fit.devices} devices, 95 % intervals")
    if not fit.converged:
        raise typer.Exit(BenchFailure.exit_status)
