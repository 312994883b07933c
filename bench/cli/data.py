"""The commands of the data sets: list, fetch, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import DataDirOption, JsonOption
from models.exceptions import BenchFailure, UserMistake

if TYPE_CHECKING:
    from data.sources import State

data_app = typer.Typer(
    help="Data sets: what there is, downloading, checking.", no_args_is_help=True, rich_markup_mode=None
)
CHECKED_BYTES = 200_000_000
"""A source larger than this is not read through for a mere list."""
NamesArgument = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Sources; all by default.")]


@data_app.command("list")
def list_command(folder: DataDirOption = None, as_json: JsonOption = False) -> None:
    """List the data sets, where each was found, its size, its licence and where it comes from."""
    from bench.console import Reporter
    from data.datasets import LOADERS
    from data.sources import SOURCES, verify

    root = None if folder is None else _existing(folder.expanduser())
    rows, sources = [], []
    for source in SOURCES.values():
        files = [] if root is None else source.files(root)
        place = None if root is None else source.place(root)
        size = sum(file.stat().st_size for file in files)
        found = f"{len(files)} files, {size / 1e6:.1f} MB in {place}" if files else "not found"
        checked = "not checked, it is large: see 'rram-bench data verify'"
        if root is not None and size <= CHECKED_BYTES:
            checked = _summary(list(verify(source, root)))
        lines = [source.about, found, *([checked] if files else []), source.licence, source.home]
        rows.append((source.name, "\n".join(lines)))
        sources.append(
            {
                "name": source.name,
                "about": source.about,
                "found": None if place is None else str(place),
                "files": len(files),
                "bytes": size,
                "checksums": checked if files else None,
                "licence": source.licence,
                "home": source.home,
            }
        )
    rows.append(("always there", ", ".join(name for name in LOADERS if name == "digits" or name.startswith("synth"))))
    rows.append(("image-folder", "any folder with train/CLASS and val/CLASS, in 'image-folder' or 'imagenet'"))
    values = {"folder": None if root is None else str(root), "datasets": list(LOADERS), "sources": sources}
    title = "no folder named: --data-dir or RRAM_BENCH_DATA" if root is None else f"data sets in {root}"
    Reporter(as_json).result(values, rows, title)


@data_app.command("fetch")
def fetch_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Sources, see 'data list'.")],
    folder: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download from those who publish the data; what was cut off goes on, and every file is checked."""
    from bench.console import Reporter
    from bench.procedure import Progress
    from data.fetching import fetch
    from data.sources import need_source

    sources = [need_source(name) for name in names]
    root = _named(folder)
    reporter = Reporter(as_json)
    found = []
    for source in sources:
        reporter.stage(f"fetching {source.name} ({source.licence})")
        came = fetch(source, root, lambda name, done, total: reporter.step(Progress(done, total, name)))
        reporter.done(f"{came.downloaded} downloaded, {came.already_there} already there")
        found.append(
            {
                "name": source.name,
                "folder": str(came.folder),
                "downloaded": came.downloaded,
                "already_there": came.already_there,
            }
        )
    rows = [(str(entry["name"]), str(entry["folder"])) for entry in found]
    reporter.result({"fetched": found}, rows, "fetched")


@data_app.command("verify")
def verify_command(names: NamesArgument = None, folder: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Check the files against their published SHA-256, or a SHA256SUMS beside them; status 1 where one differs."""
    from bench.console import Reporter
    from data.sources import SOURCES, State, need_source, verify

    root = _existing(_named(folder))
    chosen = list(SOURCES.values()) if not names else [need_source(name) for name in names]
    reporter = Reporter(as_json)
    states = {source.name: list(verify(source, root)) for source in chosen}
    if not any(states.values()):
        raise UserMistake(f"{root} holds no file of {', '.join(states)}; 'rram-bench data list' says where they belong")
    wrong = [path for files in states.values() for path, state in files if state in (State.DIFFERS, State.UNREADABLE)]
    values = {
        "folder": str(root),
        "sources": {
            name: [{"file": str(path.relative_to(root)), "state": state.value} for path, state in files]
            for name, files in states.items()
        },
    }
    rows = [(source.name, _summary(states[source.name])) for source in chosen]
    reporter.result(values, rows, f"data sets in {root}")
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise BenchFailure(f"{wrong[0]}{more}: the content is not what was published; fetch it again")


def _summary(files: list[tuple[Path, State]]) -> str:
    from data.sources import State

    if not files:
        return "not found"
    counts = {state: sum(found is state for _, found in files) for state in State}
    return ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)


def _named(folder: Path | None) -> Path:
    if folder is None:
        raise UserMistake("name the folder of data sets with --data-dir or RRAM_BENCH_DATA")
    return folder.expanduser()


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise UserMistake(f"the folder of data sets {folder} does not exist")
    return folder
