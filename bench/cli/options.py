"""Options that several commands share, with one help text each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from models.exceptions import UserMistake

BenchOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--bench",
        metavar="FILE",
        envvar="RRAM_BENCH_FILE",
        help="Bench file, or 'simulated' to start one for this command.",
    ),
]
BenchesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--bench",
        metavar="FILE",
        envvar="RRAM_BENCH_FILE",
        help="Bench file, or 'simulated' to start one for this command; for several chips one each.",
    ),
]
LARGEST_SEED = 2**32 - 1
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Seed of every random draw, of the simulated bench too.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Machine-readable result on standard output, progress on standard error.")
]
OutFolder = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for run files; made if it is missing.")]
CellsOption = Annotated[
    str | None,
    typer.Option(
        "--cells",
        metavar="CELLS",
        help="'all' (default), 'ROWS,COLS' such as '0:4,0:4' or '3,:', '@FILE' with row,col per line, "
        "'random:N[:SEED]', several joined by '+', and 'except' before what is left out.",
    ),
]
SettingsOption = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter.")]
AtOption = Annotated[
    list[str] | None,
    typer.Option(
        "--at", metavar="POINT.KEY=VALUE", help="Another operating point, such as SET.vddc_v=3.3, inside the limits."
    ),
]
DataOption = Annotated[str, typer.Option("--data", help="Data set.")]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", envvar="RRAM_BENCH_DATA", help="Folder of data sets, see docs/data.md."),
]
ChipOption = Annotated[
    str, typer.Option("--chip", help="Kind of the simulated chip: kilobit (default), ternary, or array64.")
]
ModeOption = Annotated[
    list[str] | None, typer.Option("--mode", help="host, sensed, xnor, or both (host and xnor); may be given again.")
]
PlanOption = Annotated[
    Path | None, typer.Option("--plan", metavar="FILE", help="Plan that 'rram-bench map' wrote; else one is made.")
]
PlacedOption = Annotated[
    bool, typer.Option("--placed/--plain", help="Keep weights away from stuck and weak cells that are known.")
]
SamplesOption = Annotated[
    int | None, typer.Option("--samples", min=1, metavar="N", help="Only the first N samples of the test set.")
]
FormOption = Annotated[
    bool, typer.Option("--form", help="Form the chip first; a simulated one that this starts always is.")
]
NetworkArgument = Annotated[Path, typer.Argument(metavar="NETWORK", help="Network file (.safetensors) of ours.")]


Given = TypeVar("Given")


def given(values: list[Given] | None) -> list[Given]:
    """What an option was given, where it may be given several times."""
    return [] if values is None else values


def one_bench(paths: list[Path] | None, command: str, default: str = "simulated") -> str:
    """The bench of a command that takes one. Raises UserMistake for several: none of them is left out silently."""
    named = benches(paths)
    if len(named) > 1:
        raise UserMistake(f"{command} takes one chip; give one --bench, not {len(named)}: {', '.join(named)}")
    return named[0] if named else default


def benches(paths: list[Path] | None) -> tuple[str, ...]:
    """The benches that were named, one for each chip."""
    return () if paths is None else tuple(str(path) for path in paths)


def parse_settings(settings: list[str] | None) -> dict[str, str]:
    """Turn ``name=value`` options into a dictionary; values are checked later by the parameter model.

    Raises:
        UserMistake: an option is not of that form.
    """
    parsed: dict[str, str] = {}
    for setting in given(settings):
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise UserMistake(f"--set {setting!r}: write it as name=value")
        if name.strip() in parsed:
            raise UserMistake(f"--set {name.strip()} is given twice: {parsed[name.strip()]} and {value.strip()}")
        parsed[name.strip()] = value.strip()
    return parsed
