"""Commands on run files: runs list, show, plot, export, compare; and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import JsonOption
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from bench.figures import TitledFigure
    from data.run_listing import RunSummary, Unreadable

runs_app = typer.Typer(
    help="List, show, plot, export and compare run files.", no_args_is_help=True, rich_markup_mode=None
)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run file.")]
PICTURES = (".png", ".pdf", ".svg")
FIRST_RECORDS = 20
LIST_HEADER = ("when", "procedure", "status", "records", "cells", "chip", "duration", "file")


@runs_app.command("list")
def list_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of run files.")] = Path("runs"),
    procedure: Annotated[str | None, typer.Option(help="Only runs of this procedure.")] = None,
    status: Annotated[str | None, typer.Option(help="Only completed, stopped, failed, interrupted or running.")] = None,
    chip: Annotated[str | None, typer.Option(help="Only runs on this chip.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only later ones: 2026-03-01, 2026-03-01T14:30, or 12h, 3d ago.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the runs of a folder, the newest last."""
    from data.run_listing import list_runs, parse_since
    from data.runs import RunStatus

    if status is not None and status not in list(RunStatus):
        raise UserMistake(f"--status {status}: a run is {', '.join(RunStatus)}")
    after = None if since is None else parse_since(since)
    found, others = list_runs(folder)
    chosen = [
        run
        for run in found
        if (procedure is None or run.procedure == procedure)
        and (status is None or run.status == status)
        and (chip is None or run.chip == chip)
        and (after is None or run.started >= after)
    ]
    if as_json:
        _print_json({"runs": [run.as_json() for run in chosen], "not_runs": [other.as_json() for other in others]})
    else:
        print("\n".join(_listed(chosen, others, len(found), folder)))


@runs_app.command("show")
def show_command(
    run_file: RunArgument,
    table: Annotated[str | None, typer.Option("--table", metavar="NAME", help="Print records of this table.")] = None,
    rows: Annotated[
        str | None, typer.Option("--rows", metavar="A:B", help="Which records; -10: is the last ten.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a run was, how it ended and what it recorded; or the records of one table."""
    from bench.console import Reporter
    from bench.run_facts import facts, lines_of, parse_rows, table_lines
    from data.runs import open_run

    run = open_run(run_file)
    if table is not None:
        _show_records(run_file, table, parse_rows(rows) if rows is not None else slice(0, FIRST_RECORDS), as_json)
        return
    if rows is not None:
        raise UserMistake("--rows picks records of a table; name it with --table")
    known = facts(run)
    if as_json:
        _print_json(known)
        return
    reporter = Reporter(as_json=False)
    reporter.result({}, lines_of(known), f"{known['procedure']}, {known['status']}")
    reporter.result({}, table_lines(known), "tables; every record has its time_s [s], too")


@runs_app.command("plot")
def plot_command(
    run_file: RunArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Picture: .png, .pdf or .svg.")],
    figure: Annotated[
        str | None, typer.Option("--figure", metavar="NAME", help="Only this figure, such as distributions.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw the figures that belong to a run: the first to FILE, further ones beside it; a PDF holds all."""
    from bench.console import Reporter
    from bench.figures import figures
    from data.runs import open_run

    _check_picture(out)
    run = open_run(run_file)
    drawn = figures(run)
    if not drawn:
        raise UserMistake(f"{run_file} ({run.status}) holds no records to draw")
    if figure is not None:
        names = ", ".join(each.name for each in drawn)
        drawn = [each for each in drawn if each.name == figure]
        if not drawn:
            raise UserMistake(f"--figure {figure}: the figures of this run are {names}")
    written = _save(drawn, out)
    values = {"files": [str(path) for path in written], "figures": [each.name for each in drawn]}
    lines = [(each.name, each.caption) for each in drawn] + [("file", str(path)) for path in written]
    Reporter(as_json).result(values, lines, run.procedure)


@runs_app.command("export")
def export_command(
    run_file: RunArgument,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="csv, netcdf or parquet.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="PATH", help="File; for csv and parquet without --table a folder.")
    ],
    table: Annotated[str | None, typer.Option("--table", metavar="NAME", help="Only this table.")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="A resumed run together with the earlier ones that it goes on with.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    comments: Annotated[
        bool, typer.Option("--comments", help="Begin csv files with lines '# name: value' that say what run it is.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take the records of a run to other programs."""
    from bench.console import Reporter
    from data.run_export import ExportFormat, export
    from data.runs import open_run

    if form not in list(ExportFormat):
        raise UserMistake(f"--format {form}: a run is exported as {', '.join(ExportFormat)}")
    kind = ExportFormat(form)
    if comments and kind is not ExportFormat.CSV:
        raise UserMistake(f"--comments belongs to csv; {form} holds what the run was in its metadata")
    written = export(open_run(run_file), kind, out, table, whole=whole, force=force, commented=comments)
    Reporter(as_json).result({"files": [str(path) for path in written]}, [("written", str(path)) for path in written])


@runs_app.command("compare")
def compare_command(
    run_files: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run files, at least two.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Picture with the same curve of each run.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what differs between runs, and put their results side by side."""
    from bench.comparing import compare
    from bench.figures.overlays import overlay
    from data.runs import open_run

    if out is not None:
        _check_picture(out)
    runs = [open_run(path) for path in run_files]
    compared = compare(runs)
    if out is not None:
        drawn = overlay(runs)
        if drawn is None:
            raise UserMistake("these runs have no curve in common: a staircase, endurance, or resistances by state")
        compared["picture"] = str(_save([drawn], out)[0])
    if as_json:
        _print_json(compared)
    else:
        _print_compared(compared)


def report_command(
    run_file: RunArgument,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Page to write; beside the run file if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one page about a run: what it was, its figures, conditions, and where everything is from."""
    from bench.console import Reporter
    from bench.reports import report_path, write_report
    from data.runs import open_run

    run = open_run(run_file)
    path = write_report(run, report_path(run, out))
    Reporter(as_json).result({"report": str(path)}, [("report", str(path))], run.procedure)


def _print_json(values: Any) -> None:
    import json

    print(json.dumps(values, allow_nan=False, default=str))


def _listed(runs: list[RunSummary], others: list[Unreadable], total: int, folder: Path) -> list[str]:
    """A table in plain text: nothing is cut, however narrow the terminal or the pipe."""
    from bench.console import duration
    from bench.run_facts import local

    rows = [
        (
            local(run.started.isoformat()),
            run.procedure,
            run.status.value,
            str(run.records),
            "" if run.cells is None else str(run.cells),
            run.chip,
            duration(run.seconds),
            run.path.name + (f" (goes on with {run.resumes})" if run.resumes else ""),
        )
        for run in runs
    ]
    counted = f"{total} {'run' if total == 1 else 'runs'} in {folder}"
    lines = [counted if len(runs) == total else f"{len(runs)} of {counted}"]
    if rows:
        lines += _aligned([LIST_HEADER, *rows])
    return lines + [f"not a run: {other.reason}" for other in others]


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _show_records(path: Path, table: str, rows: slice, as_json: bool) -> None:
    from bench.run_facts import cell_text, plain_records
    from data.runs import open_run

    run = open_run(path)
    count = run.rows(table)
    records = plain_records(run, table, rows)
    if as_json:
        _print_json({"table": table, "rows": count, "records": records})
        return
    known = run.tables[table]
    titles = {name: known.column(name).units for name in records}
    header = ("record", *(name if unit == "1" else f"{name} [{unit}]" for name, unit in titles.items()))
    first = range(*rows.indices(count))
    lines = [
        (str(number), *(cell_text(records[name][index]) for name in records)) for index, number in enumerate(first)
    ]
    print(f"{table}: {len(lines)} of {count} records. {known.description}")
    print("\n".join(_aligned([header, *lines])))


def _check_picture(out: Path) -> None:
    from data.atomic import check_writable

    if out.suffix.lower() not in PICTURES:
        raise UserMistake(f"--out {out}: a picture ends in {', '.join(PICTURES)}")
    check_writable(out, "picture")


def _save(drawn: list[TitledFigure], out: Path) -> list[Path]:
    """Write figures; what was there before stays where one fails."""
    from bench.figures.style import DPI
    from data.atomic import replacing

    form = out.suffix.lower().removeprefix(".")
    if form == "pdf":
        from matplotlib.backends.backend_pdf import PdfPages

        with replacing(out, "picture") as partial, PdfPages(partial) as pages:
            for each in drawn:
                pages.savefig(each.figure)
        return [out]
    paths = [out, *(out.with_stem(f"{out.stem}-{each.name}") for each in drawn[1:])]
    for each, path in zip(drawn, paths, strict=True):
        with replacing(path, "picture") as partial:
            each.figure.savefig(partial, format=form, dpi=DPI)
    return paths


def _print_compared(compared: dict[str, Any]) -> None:
    from bench.run_facts import brief

    names = [chr(ord("A") + index) if index < 26 else str(index) for index in range(len(compared["runs"]))]
    print("\n".join(f"{name}  {path}" for name, path in zip(names, compared["runs"], strict=True)))
    for section, rows in [*compared["differences"].items(), ("results", compared["results"])]:
        if rows:
            shown = [(name, *(_missing(brief(value, 60), value) for value in values)) for name, values in rows.items()]
            print(f"\n{section}")
            print("\n".join(_aligned([("", *names), *shown])))
    if compared["same"]:
        print(f"\nthe same in all: {', '.join(compared['same'])}")
    if "picture" in compared:
        print(f"picture  {compared['picture']}")


def _missing(text: str, value: Any) -> str:
    return "-" if value is None else text
