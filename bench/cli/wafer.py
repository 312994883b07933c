"""The commands of a wafer: run, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.options import (
    AtOption,
    BenchOption,
    ChipOption,
    JsonOption,
    SeedOption,
    SettingsOption,
    given,
    one_bench,
    parse_settings,
)
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from bench.console import Reporter
    from bench.wafer_results import WaferRecord

wafer_app = typer.Typer(
    help="A first look at a wafer: die by die under a prober.", no_args_is_help=True, rich_markup_mode=None
)
FormedOption = Annotated[
    float, typer.Option("--formed", min=0, max=1, help="Least share of cells that form on a good die.")
]
StuckOption = Annotated[
    float, typer.Option("--stuck", min=0, max=1, help="Largest share of stuck cells of a good die.")
]
ErrorsOption = Annotated[float, typer.Option("--errors", min=0, max=1, help="Largest bit error rate of a good die.")]
ACROSS = 7


@wafer_app.command("run")
def run_command(
    bench: BenchOption = None,
    across: Annotated[
        int | None, typer.Option("--across", min=1, help="Dies across the simulated wafer.  [default: 7]")
    ] = None,
    chip: ChipOption = "",
    dies: Annotated[
        str | None, typer.Option("--dies", metavar="DIES", help="Only these, as COLUMN:ROW separated by commas.")
    ] = None,
    forming: Annotated[
        str,
        typer.Option(
            "--forming",
            help="ramp; weights, without a ramp; none, where dies were formed before; auto is ramp, and weights on a "
            "simulated bench.",
        ),
    ] = "auto",
    again: Annotated[bool, typer.Option("--again", help="Measure dies that failed once more.")] = False,
    settings: SettingsOption = None,
    at: AtOption = None,
    formed: FormedOption = 0.99,
    stuck: StuckOption = 0.01,
    errors: ErrorsOption = 0.01,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the wafer.")] = Path("runs/wafer"),
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Form, characterise and fit one die after the other; the same command again goes on with dies not measured yet."""
    from bench.console import Reporter
    from bench.procedures.characterise import CHARACTERISE, CharacteriseParameters
    from bench.session import SIMULATED
    from bench.source import bench_at, parse_overrides
    from bench.stopping import stop_on_signals
    from bench.wafer import Asked, forming_of, measure_wafer, parse_dies
    from bench.wafer_results import Criteria
    from drivers.prober_role import FEWEST_ACROSS, MOST_ACROSS

    source = one_bench(bench, "wafer run")
    if across is not None and source != SIMULATED:
        raise UserMistake(f"--across {across} is of the simulated bench; the bench file {source} has its own wafer")
    if across is not None and not FEWEST_ACROSS <= across <= MOST_ACROSS:
        raise UserMistake(f"--across {across}: wafers of {FEWEST_ACROSS} to {MOST_ACROSS} dies across are simulated")
    parameters = CHARACTERISE.parse({"seed": str(seed), **parse_settings(settings)})
    assert isinstance(parameters, CharacteriseParameters)
    asked = Asked(
        seed,
        forming_of(forming),
        parameters,
        Criteria(formed=formed, stuck=stuck, errors=errors),
        None if dies is None else parse_dies(dies),
        again,
    )
    reporter = Reporter(as_json)
    served = bench_at(source, seed, parse_overrides(given(at)), chip or None, ACROSS if across is None else across)
    with stop_on_signals() as stop, served as (config, text):
        record = measure_wafer(config, text, out, asked, reporter, stop)
    _show(reporter, out, record)


@wafer_app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a wafer.")],
    formed: Annotated[float | None, typer.Option("--formed", min=0, max=1, help="Judge by another share.")] = None,
    stuck: Annotated[float | None, typer.Option("--stuck", min=0, max=1, help="Judge by another share.")] = None,
    errors: Annotated[float | None, typer.Option("--errors", min=0, max=1, help="Judge by another rate.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is known of a wafer, also while it is measured, and write its page; criteria may be others."""
    from bench.console import Reporter
    from bench.wafer_results import load_wafer

    record = load_wafer(folder)
    changed = {"formed": formed, "stuck": stuck, "errors": errors}
    criteria = record.criteria.model_copy(update={name: value for name, value in changed.items() if value is not None})
    _show(Reporter(as_json), folder, record.model_copy(update={"criteria": criteria}))


def _show(reporter: Reporter, folder: Path, record: WaferRecord) -> None:
    from bench.wafer_report import summary, write_wafer_report
    from bench.wafer_results import FILE, TABLE

    page = write_wafer_report(folder, record)
    files = [("wafer file", str(folder / FILE)), ("table", str(folder / TABLE)), ("page", str(page))]
    reporter.result(_plain(record, folder, page), [*summary(record), *files], f"wafer {record.wafer}")


def _plain(record: WaferRecord, folder: Path, page: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from bench.wafer_results import FILE, FORMED

    share = record.yield_
    across = {name: record.across(name) for name in record.units if name != FORMED}
    value = None if share is None else {"value": record.good / len(record.dies), "low": share.low, "high": share.high}
    return {
        "wafer": record.wafer,
        "dies": len(record.route),
        "measured": len(record.dies),
        "good": record.good,
        "yield": value,
        "across": {name: None if one is None else asdict(one) for name, one in across.items()},
        "faults": {str(die.die): list(faults) for die in record.dies if (faults := record.criteria.faults(die))},
        "wafer_file": str(folder / FILE),
        "page": str(page),
    }
