"""The queue on the bench that the window is connected to: what it may run, and what is shown of it. No Qt here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.gui.jobs import Connected, Report
from bench.gui.units import duration, write_quantity
from bench.procedure import Procedure, Progress
from bench.queue import Item, Queue
from bench.queue_runner import QueueRunner
from bench.session import SIMULATED, Bench
from bench.source import Overrides, at_points
from bench.states import RunState
from bench.stopping import Stopped, StopToken
from data.runs import open_run
from models.exceptions import BenchFailure, UserMistake

FEW = 3
"""Figures of a result that are shown beside an item."""


@dataclass(frozen=True)
class Shown:
    """The queue as it stands.

    Attributes:
        items: in order.
        results: of items with a run file, a few figures of what came of them, by number.
        elsewhere: whether another process runs it.
    """

    items: tuple[Item, ...]
    results: Mapping[int, str]
    elsewhere: bool

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(item.state is RunState.QUEUED for item in self.items)


class QueueReader:
    """Reads a queue's folder again and again, and each run file of it once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def read(self, queue: Queue, ours: bool) -> Shown:
        """What stands in the queue now.

        Args:
            ours: whether this window runs it.

        Raises:
            UserMistake: a file of the queue cannot be read.
        """
        items = queue.items_as_stored() if ours else queue.items()
        under_way = any(item.state is not RunState.QUEUED and not item.state.ended for item in items)
        results = {item.number: self._result(item) for item in items if item.state is RunState.COMPLETED}
        return Shown(tuple(items), results, not ours and under_way and queue.running)

    def _result(self, item: Item) -> str:
        if item.run_file not in self._known:
            try:
                self._known[item.run_file] = in_short(open_run(Path(item.run_file)).result)
            except UserMistake as error:
                self._known[item.run_file] = str(error)
        return self._known[item.run_file]


def in_short(result: Mapping[str, Any]) -> str:
    """A few figures of a run's result for people."""
    plain = {name: value for name, value in result.items() if isinstance(value, int | float | str)}
    parts = [
        f"{name.replace('_', ' ')}: {value if isinstance(value, str) else write_quantity(float(f'{value:.4g}'))}"
        for name, value in list(plain.items())[:FEW]
    ]
    return "; ".join(parts)


def belongs(item: Item, connected: Connected) -> bool:
    """Whether an item is for the bench that the window is connected to."""
    if item.source == SIMULATED or connected.source == SIMULATED:
        return item.source == connected.source and item.seed == connected.seed
    return Path(item.source).resolve() == Path(connected.source).resolve()


def refusal(item: Item, connected: Connected) -> str:
    """Why an item cannot run on the connected bench."""

    def named(source: str, seed: int) -> str:
        return f"the simulated bench with seed {seed}" if source == SIMULATED else source

    return (
        f"item {item.number} is for {named(item.source, item.seed)}, and this window is connected to "
        f"{named(connected.source, connected.seed)}; connect to that one, or remove the item"
    )


def check_all(items: tuple[Item, ...], connected: Connected) -> None:
    """Refuse a queue in which something waits for another bench. Raises UserMistake, naming the first item."""
    for item in items:
        if item.state is RunState.QUEUED and not belongs(item, connected):
            raise UserMistake(refusal(item, connected))


class WindowQueue:
    """Runs a queue on the connected bench, in the thread that owns it.

    Args:
        queue: which one.
        connected: the bench, as the window knows it.
        on_change: called, in the thread of the run, whenever an item begins or ends.

    Attributes:
        runner: takes what is asked of the queue; None until it runs.
    """

    def __init__(self, queue: Queue, connected: Connected, on_change: Callable[[], None]) -> None:
        self._queue, self._connected, self._on_change = queue, connected, on_change
        self.runner: QueueRunner | None = None
        self._item: Item | None = None

    def work(self, bench: Bench, stop: StopToken, report: Report) -> str:
        """Run what waits, item by item; return one line for the log.

        Raises:
            UserMistake: something waits for another bench; nothing was begun.
            Stopped: the queue was stopped.
            BenchFailure: some items failed; the others were run.
        """
        check_all(tuple(self._queue.items()), self._connected)

        @contextmanager
        def opened(source: str, seed: int, overrides: Overrides) -> Iterator[Bench]:
            assert self._item is not None
            if not belongs(self._item, self._connected):
                raise UserMistake(refusal(self._item, self._connected))
            yield bench.at(at_points(bench.config, overrides))

        def begin(item: Item, *_: object) -> None:
            self._item = item
            report(Progress(0, 1, f"item {item.number}, {item.procedure}"))
            self._on_change()

        def end(item: Item) -> None:
            report(Progress(0, 1, f"item {item.number} {item.state}" + (f": {item.reason}" if item.reason else "")))
            self._on_change()

        self.runner = QueueRunner(self._queue, stop, False, begin, report, end, opened, report)
        ended = self.runner.run()
        if stop.requested:
            raise Stopped(f"stopped: {stop.reason}")
        if self.runner.ended_by is not None:
            raise Stopped(f"stopped: queue {self.runner.ended_by}")
        failed = [item for item in ended if item.state is RunState.FAILED]
        if failed:
            raise BenchFailure("; ".join(f"item {item.number} failed: {item.reason}" for item in failed))
        return f"{len(ended)} items ended" if ended else "nothing waited"


def about(item: Item) -> str:
    """What an item is, in a line or two: cells, changed operating points, settings that were given."""
    lines = [f"cells {item.cells if len(item.cells) < 60 else f'{item.cells[:50]} …'}; {item.source}"]
    lines += [f"{name} = {value:g}" for name, value in item.at.items()]
    lines += [f"{name} = {value}" for name, value in item.settings.items()]
    return "\n".join(lines)


def cell_count(item: Item) -> int:
    """How many cells an item works on."""
    return sum(byte.bit_count() for byte in bytes.fromhex(item.chosen))


def planned(item: Item) -> str:
    """How long it is planned to take, for people; empty where that is not known."""
    return "" if item.planned_s is None else f"about {duration(item.planned_s)}"


def plain_settings(procedure: Procedure, settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings of a form as the command line would write them, for an item of the queue; defaults are left out.

    Raises:
        UserMistake: they break a rule, or cannot be written so.
    """
    wanted = procedure.parse(settings)
    defaults = {
        key: info.get_default(call_default_factory=True) for key, info in procedure.parameters.model_fields.items()
    }
    plain = {key: _plain(value) for key, value in wanted.model_dump().items() if value != defaults[key]}
    if procedure.parse(plain) != wanted:
        raise UserMistake(f"{procedure.name}: these settings cannot be written into the queue; run it at once instead")
    return plain


def _plain(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(_plain(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(getattr(value, "value", value))
