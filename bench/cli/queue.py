"""The commands of the queue: add, list, start, pause, go-on, skip, stop, off, remove, retry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import (
    AtOption,
    BenchOption,
    CellsOption,
    JsonOption,
    SeedOption,
    SettingsOption,
    given,
    one_bench,
    parse_settings,
)
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from bench.queue import Item, Queue, Verb

queue_app = typer.Typer(
    help="Runs one after the other, in a queue that outlives its process.", no_args_is_help=True, rich_markup_mode=None
)
QueueFolder = Annotated[
    Path, typer.Option("--queue", metavar="DIR", envvar="RRAM_BENCH_QUEUE", help="Folder of the queue.")
]
ItemArgument = Annotated[int, typer.Argument(metavar="ITEM", min=1, help="Number of the item.")]
QUEUE = Path("queue")


def _queue(folder: Path) -> Queue:
    """The queue in a folder, which may not be there yet. Raises UserMistake where something else stands there."""
    from bench.queue import Queue

    if folder.exists() and not folder.is_dir():
        raise UserMistake(f"queue {folder} is no folder; name that of a queue with --queue")
    return Queue(folder)


@queue_app.command("add")
def add_command(
    procedure: Annotated[str, typer.Argument(metavar="PROCEDURE", help="Name of the procedure.")],
    bench: BenchOption = None,
    settings: SettingsOption = None,
    cells: CellsOption = None,
    at: AtOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder for its run file; that of the queue by default.")
    ] = None,
    seed: SeedOption = 0,
    queue: QueueFolder = QUEUE,
    as_json: JsonOption = False,
) -> None:
    """Check and plan a run, and put it at the end of the queue."""
    from bench.console import Reporter
    from bench.source import parse_overrides

    reporter = Reporter(as_json)
    parsed, source = parse_settings(settings), one_bench(bench, "queue add")
    item = _queue(queue).add(procedure, source, parsed, cells, parse_overrides(given(at)), seed, out, reporter.note)
    reporter.result(_plain(item), [_row(item)], "added to the queue")


@queue_app.command("list")
def list_command(queue: QueueFolder = QUEUE, as_json: JsonOption = False) -> None:
    """List the items, and where each stands."""
    from bench.console import Reporter

    found = _queue(queue)
    items = found.items()
    running = found.running
    empty = "is in the queue" if queue.exists() else f"is in the queue: there is no folder {queue} yet"
    rows = [_row(item) for item in items] or [("nothing", empty)]
    rows.append(("queue", "a process runs it" if running else "nobody runs it; 'rram-bench queue start' does"))
    Reporter(as_json).result({"running": running, "items": [_plain(item) for item in items]}, rows, f"queue {queue}")


@queue_app.command("start")
def start_command(
    stop_on_failure: Annotated[
        bool, typer.Option("--stop-on-failure", help="Leave the rest waiting when an item fails.")
    ] = False,
    queue: QueueFolder = QUEUE,
    as_json: JsonOption = False,
) -> None:
    """Run what waits, one item after the other, until nothing waits or somebody stops it.

    Status 1 when an item failed, 130 when the queue was stopped.
    """
    from bench.console import Reporter
    from bench.jobs import Job
    from bench.planning import Plan
    from bench.queue_runner import QueueRunner
    from bench.states import RunState
    from bench.stopping import Stopped, stop_on_signals
    from models.exceptions import BenchFailure

    reporter = Reporter(as_json)

    def begin(item: Item, job: Job, planned: Plan | None) -> None:
        seconds = None if planned is None else planned.expected_s
        reporter.stage(f"item {item.number}, {item.procedure}: {job.procedure.summary}", seconds)

    def end(item: Item) -> None:
        reporter.done(f"item {item.number} {item.state}" + (f": {item.reason}" if item.reason else ""))

    found = _queue(queue)
    with stop_on_signals() as stop:
        runner = QueueRunner(found, stop, stop_on_failure, begin, reporter.step, end)
        ended = runner.run()
    waiting = sum(item.state is RunState.QUEUED for item in found.items())
    rows = [_row(item) for item in ended] or [("nothing", "waited")]
    values = {"ended": [_plain(item) for item in ended], "waiting": waiting}
    reporter.result(values, [*rows, ("still waiting", str(waiting))], f"queue {queue}")
    if stop.requested:
        raise Stopped(f"stopped: {stop.reason}")
    if runner.ended_by is not None:
        raise Stopped(f"stopped: queue {runner.ended_by}")
    if failed := [str(item.number) for item in ended if item.state is RunState.FAILED]:
        raise BenchFailure(f"of the queue's items failed: {', '.join(failed)}")


@queue_app.command("pause")
def pause_command(queue: QueueFolder = QUEUE, as_json: JsonOption = False) -> None:
    """Hold the item under way before its next exchange, with the outputs off; nothing else begins."""
    _ask("pause", queue, as_json)


@queue_app.command("go-on")
def go_on_command(queue: QueueFolder = QUEUE, as_json: JsonOption = False) -> None:
    """Let a paused item go on."""
    _ask("go-on", queue, as_json)


@queue_app.command("skip")
def skip_command(queue: QueueFolder = QUEUE, as_json: JsonOption = False) -> None:
    """Stop the item under way after its exchange, and go on with the next item."""
    _ask("skip", queue, as_json)


@queue_app.command("stop")
def stop_command(queue: QueueFolder = QUEUE, as_json: JsonOption = False) -> None:
    """Stop the item under way after its exchange, and the queue with it; what waits keeps waiting."""
    _ask("stop", queue, as_json)


@queue_app.command("off")
def off_command(queue: QueueFolder = QUEUE, as_json: JsonOption = False) -> None:
    """Emergency off: every output of the item's bench off at once, whatever it is doing; the queue ends."""
    _ask("off", queue, as_json)


@queue_app.command("remove")
def remove_command(item: ItemArgument, queue: QueueFolder = QUEUE, as_json: JsonOption = False) -> None:
    """Take an item out of the queue; its run file stays."""
    from bench.console import Reporter

    removed = _queue(queue).remove(item)
    Reporter(as_json).result(_plain(removed), [_row(removed)], "removed from the queue")


@queue_app.command("retry")
def retry_command(item: ItemArgument, queue: QueueFolder = QUEUE, as_json: JsonOption = False) -> None:
    """Put an item that ended early at the end again; it goes on where it ended, where that can be."""
    from bench.console import Reporter

    again = _queue(queue).retry(item)
    Reporter(as_json).result(_plain(again), [_row(again)], "added to the queue")


def _ask(name: str, queue: Path, as_json: bool) -> None:
    from bench.console import Reporter
    from bench.queue import Verb

    verb: Verb = Verb(name)
    seconds = _queue(queue).ask(verb)
    Reporter(as_json).result({"asked": name, "taken_after_s": round(seconds, 3)}, [(name, f"taken in {seconds:.3f} s")])


def _plain(item: Item) -> dict[str, object]:
    from dataclasses import asdict

    values = asdict(item)
    del values["chosen"]
    return values


def _row(item: Item) -> tuple[str, str]:
    from bench.console import duration

    parts = [f"{item.procedure}, cells {item.cells}, {item.source}: {item.state}"]
    if not item.state.ended and item.planned_s is not None:
        parts.append(f"planned: about {duration(item.planned_s)}")
    parts += [text for text in (item.reason, item.run_file) if text]
    if item.resume:
        parts.append(f"goes on with {item.resume}")
    return str(item.number), "\n".join(parts)
