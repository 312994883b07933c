"""What figures and reports read: a run with the earlier runs that it goes on with, and a figure with its words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from data.run_chain import available_chain, read_parts
from data.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class TitledFigure:
    """A figure of a run.

    Attributes:
        name: short, for file names.
        title: heading above it.
        caption: what is seen, in words; also what a reader who cannot see it gets.
    """

    name: str
    title: str
    caption: str
    figure: Figure


class Records:
    """A run as one, with the earlier parts that are there.

    Attributes:
        run: the latest part.
        parts: all of them, the oldest first.
        missing: why a part is missing; empty where it is whole.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.parts, self.missing = available_chain(run)

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """Parameters of the procedure."""
        return dict(json.loads(str(self.run.attributes.get("parameters", "{}"))))

    @cached_property
    def title(self) -> str:
        """Chip, start and name of the file, for the top of a figure."""
        chip = str(self.run.attributes.get("chip_id", "chip not named"))
        started = datetime.fromisoformat(str(self.parts[0].attributes["started"]))
        return f"{self.run.procedure}, {chip}, {started.astimezone():%Y-%m-%d %H:%M}"

    def has(self, table: str, *columns: str) -> bool:
        """Whether there are records in ``table``, with these columns."""
        if any(table not in part.tables for part in self.parts):
            return False
        known = {column.name for column in self.run.tables[table].columns}
        return known.issuperset(columns) and any(part.rows(table) for part in self.parts)

    def read(self, table: str, *columns: str) -> Arrays:
        """Columns of all parts, and ``part``."""
        found = read_parts(self.parts, table, columns)
        self.run.check_cells(table, found)
        return found

    def flags(self, table: str, column: str) -> dict[int, str]:
        """Codes and words of a column that is a choice; empty for another one."""
        flags = self.run.tables[table].column(column).flags
        return {} if flags is None else dict(flags)

    def geometry(self) -> tuple[int, int]:
        """Rows and columns of the array."""
        row, col = (len(self.run.coordinates[dim].array) for dim in ("row", "col"))
        return row, col

    def chosen(self) -> NDArray[np.bool_]:
        """The cells that the run was to work on ``(rows, cols)``; all where it does not say."""
        if not self.has("selection", "cells"):
            return np.ones(self.geometry(), dtype=bool)
        return np.asarray(self.read("selection", "cells")["cells"].astype(bool).any(axis=0))


Maker = Callable[[Records], Iterator[TitledFigure]]
"""Makes the figures of one kind that a run gives rise to; none where it lacks the records."""


def devices_of(table: Arrays) -> list[tuple[tuple[int, int, int], NDArray[np.bool_]]]:
    """Each device ``(row, col, device)`` of a table, with the mask of its records."""
    keys = np.stack([table[name].astype(np.int64) for name in ("row", "col", "device")], axis=1)
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    return [((int(r), int(c), int(d)), inverse.ravel() == index) for index, (r, c, d) in enumerate(unique)]


def pivot(
    keys: NDArray[Any], xs: NDArray[Any], values: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Curves out of records: one row per key, one column per distinct x, NaN where nothing was recorded.

    Where a key has several values at one x the latest counts.
    """
    _, row = np.unique(keys, axis=0, return_inverse=True)
    steps, col = np.unique(xs, return_inverse=True)
    table = np.full((row.max() + 1, len(steps)), np.nan)
    table[row.ravel(), col.ravel()] = values
    return steps, table


def quartiles(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lower quartile, median and upper quartile over the first axis ``(3, n)``; infinite values count as such."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column without any value is NaN, and is not drawn
        return np.asarray(np.nanquantile(table, (0.25, 0.5, 0.75), axis=0, method="nearest"))


def plural(count: int, what: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
