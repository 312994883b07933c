"""The whole history of one cell: every pulse, read, resistance and verdict that the run files hold. No Qt here."""

from __future__ import annotations

import csv
import io
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from bench.gui.cell_events import Event, events_of
from bench.run_index import ListedRun
from models.exceptions import UserMistake

LEAST = 2000
"""So many events are looked for at once; older runs follow on demand."""

NAMED = 3
"""So many files that cannot be read are named."""

KEPT = 200_000
"""Events of cells looked at before that stay in memory."""


class Axis(StrEnum):
    """What a history is plotted against."""

    NUMBER = "event"
    TIME = "time"


@dataclass(frozen=True)
class History:
    """What happened to a cell.

    Attributes:
        events: the oldest first.
        runs: files that were looked at.
        older: files of the same chip that were not looked at yet, all older.
        remarks: what could not be read, or is still being written.
    """

    events: tuple[Event, ...]
    runs: int
    older: int
    remarks: tuple[str, ...]


class Histories:
    """Reads histories; what was read of a finished file is kept."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, tuple[int, int], tuple[int, int]], tuple[Event, ...]] = OrderedDict()
        self._size = 0

    def read(self, runs: Sequence[ListedRun], chip: str, cell: tuple[int, int], least: int = LEAST) -> History:
        """The history of ``cell`` (row, column) of ``chip``.

        Args:
            runs: all files of the folder, the newest first.
            least: files are read back in time until there are so many events.
        """
        remarks = []
        broken = [each.path.name for each in runs if each.summary is None]
        if broken:
            more = f" and {len(broken) - NAMED} more, see Runs" if len(broken) > NAMED else ""
            remarks.append(f"not readable: {', '.join(broken[:NAMED])}{more}")
        files = [each for each in runs if each.summary is not None and each.summary.chip == chip]
        going_on = sum(each.being_written for each in files)
        if going_on:
            remarks.append("a run is being written: what it has recorded so far is shown")
        blocks: list[tuple[Event, ...]] = []
        looked_at = count = 0
        for each in files:
            if count >= least:
                break
            looked_at += 1
            try:
                events = self._events(each, cell)
            except UserMistake as error:
                remarks.append(str(error))
                continue
            count += len(events)
            blocks.append(events)
        whole = tuple(event for block in reversed(blocks) for event in block)
        return History(whole, looked_at, len(files) - looked_at, tuple(remarks))

    def _events(self, listed: ListedRun, cell: tuple[int, int]) -> tuple[Event, ...]:
        key = listed.path, listed.stamp, cell
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        assert listed.summary is not None
        events = tuple(events_of(listed.path, listed.summary.started.timestamp(), cell))
        if listed.being_written:
            return events  # more will come, and may come within the same stamp
        self._kept[key] = events
        # Files without events cost something too.
        self._size += len(events) + 1
        while self._size > KEPT and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._size -= len(oldest) + 1
        return events


def as_csv(events: Sequence[Event]) -> bytes:
    """Events as a table: one line each, numbers in SI units, UTF-8."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ("time_utc", "run", "run_time [s]", "kind", "what", "devices", "pulses", "resistance [ohm]", "details")
    )
    writer.writerows(_line(event) for event in events)
    return out.getvalue().encode("utf-8")


def _line(event: Event) -> Iterator[str]:
    yield datetime.fromtimestamp(event.moment, UTC).isoformat(timespec="microseconds")
    yield event.run
    yield f"{event.seconds:.6f}"
    yield event.kind.value
    yield event.what
    yield "+".join(event.device_names)
    yield str(event.count) if event.count else ""
    yield repr(event.resistance_ohm) if event.measured else ""
    yield event.details
