"""What a run recorded so far, kept for live plots in bounded memory. No Qt here.

Rows of a table become points: scalars as they are, a float for each device as one point per device, other arrays as one
figure. When a table is full, a random half of its points goes: a regular half could be all of one kind of device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.gui.array_state import UNKNOWN
from bench.procedure import Progress, Record
from drivers.chip import Verdict

CAPACITY = 1 << 17
"""Points that a table keeps at most."""

FIRST = 1024
MOST_CODES = 64
"""A column with more different whole numbers than this is no category."""

DEVICE = ("row", "col", "device")
PROGRESS = "progress"
INDEX = "index"
Floats = NDArray[np.float64]


class LiveTable:
    """Points of one table, in the order in which they came.

    Attributes:
        rows: records that came.
        points: points that came, and ``kept`` those that are still there.
        codes: different values of columns with few whole numbers; None where there are too many, or fractions.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._columns: dict[str, NDArray[Any]] = {}
        self._rng = np.random.default_rng(0)
        self._share = 1.0
        self.rows = self.points = self.kept = 0
        self.codes: dict[str, set[int] | None] = {}
        self.devices: set[tuple[int, ...]] | None = set()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns, the running number of the point first."""
        return (INDEX, *(name for name in self._columns if name != INDEX))

    @property
    def thinned(self) -> bool:
        """Whether some points were left out."""
        return self.kept < self.points

    def column(self, name: str) -> NDArray[Any]:
        """Values of a column, ``(kept,)``. Do not keep them: the next points may come into the same place."""
        return self._columns[name][: self.kept]

    def add(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Add points; all columns ``(n,)``. What a column lacked so far is NaN there."""
        count = len(next(iter(values.values())))
        self.rows += 1
        values = {INDEX: np.arange(self.points, self.points + count), **values}
        self.points += count
        self._note_codes(values)
        if self._share < 1.0:
            chosen = self._rng.random(count) < self._share
            values = {name: column[chosen] for name, column in values.items()}
            count = int(chosen.sum())
        first = 0
        while first < count:
            if self.kept == self._capacity:
                self._thin()
            room = min(self._capacity - self.kept, count - first)
            self._put({name: column[first : first + room] for name, column in values.items()}, room)
            first += room

    def _put(self, values: Mapping[str, NDArray[Any]], count: int) -> None:
        needed = self.kept + count
        for name in values:
            if name not in self._columns:
                self._columns[name] = np.full(max(FIRST, needed), np.nan)
        for name, column in self._columns.items():
            if len(column) < needed:
                # Rather a few copies than the whole capacity for each small table.
                grown = np.empty(min(self._capacity, max(needed, 2 * len(column))))
                grown[: self.kept] = column[: self.kept]
                self._columns[name] = column = grown
            column[self.kept : needed] = values.get(name, np.nan)
        self.kept = needed

    def _thin(self) -> None:
        chosen = np.flatnonzero(self._rng.random(self.kept) < 0.5)
        for column in self._columns.values():
            column[: len(chosen)] = column[chosen]
        self.kept = len(chosen)
        self._share /= 2

    def _note_codes(self, values: Mapping[str, NDArray[Any]]) -> None:
        for name, column in values.items():
            if name == INDEX or (known := self.codes.setdefault(name, set())) is None:
                continue
            if column.dtype.kind not in "iub":
                self.codes[name] = None
                continue
            known.update(_different(column))
            if len(known) > MOST_CODES:
                self.codes[name] = None
        if self.devices is not None and all(name in values for name in DEVICE):
            row, col, device = (values[name].astype(np.int64) for name in DEVICE)
            for code in _different((row << 32) | (col << 1) | device):
                self.devices.add((code >> 32, (code & 0xFFFFFFFF) >> 1, code & 1))
            if len(self.devices) > MOST_CODES:
                self.devices = None


def _different(column: NDArray[Any]) -> list[int]:
    # Most rows come one by one, and a set of one needs no sorting.
    found: list[int] = column.tolist() if len(column) == 1 else np.unique(column).tolist()
    return found


class LiveTables:
    """All tables of the run under way, and the live figures of its progress as a table of their own.

    Attributes:
        tables: by name, in the order in which they began.
        version: another one after each change.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self.tables: dict[str, LiveTable] = {}
        self.version = 0
        self.selected: NDArray[np.bool_] | None = None
        self._target: NDArray[Any] | None = None
        self._began: float | None = None

    def take(self, step: object, now: float) -> bool:
        """Learn from a step of a run; True when it begins another run.

        Args:
            now: in s, on any clock.
        """
        if isinstance(step, Progress):
            if step.live:
                began = self._began = now if self._began is None else self._began
                self._add(PROGRESS, {"elapsed_s": now - began, **step.live}, many=False)
        elif isinstance(step, Record):
            if step.table == "selection":
                self._begin(np.asarray(step.values["cells"]).astype(bool), now)
                return True
            if step.table != "cells_done":
                self._take_record(step)
        return False

    def _begin(self, selected: NDArray[np.bool_], now: float) -> None:
        self.tables.clear()
        self.selected, self._target, self._began = selected, None, now
        self.version += 1

    def _add(self, table: str, values: Mapping[str, Any], many: bool) -> None:
        columns = {name: np.asarray(value) if many else np.asarray(value)[None] for name, value in values.items()}
        self.tables.setdefault(table, LiveTable(self._capacity)).add(columns)
        self.version += 1

    def _take_record(self, record: Record) -> None:
        values = {name: np.asarray(value) for name, value in record.values.items()}
        if record.many:
            count = len(next(iter(values.values())))
            if all(value.ndim == 1 for value in values.values()):
                self._add(record.table, values, many=True)
            else:
                for index in range(count):
                    self._take_row(record.table, {name: value[index] for name, value in values.items()})
        else:
            self._take_row(record.table, values)

    def _take_row(self, table: str, values: Mapping[str, NDArray[Any]]) -> None:
        scalars = {name: value for name, value in values.items() if value.ndim == 0}
        arrays = {name: value for name, value in values.items() if value.ndim > 0}
        scalars |= self._derived(table, values)
        cells = None if self.selected is None else self.selected.shape
        each = {
            name: value
            for name, value in arrays.items()
            if cells is not None and value.dtype.kind == "f" and value.shape in (cells, (*cells, 2))
        }
        for name, value in arrays.items():
            if name not in each:
                scalars |= self._in_short(name, value)
        if not each:
            self._add(table, scalars, many=False)
            return
        # One point for each device (or cell) that has a figure.
        shape = next(iter(each.values())).shape
        each = {name: value for name, value in each.items() if value.shape == shape}
        known = np.any([~np.isnan(value) for value in each.values()], axis=0)
        places = dict(zip(DEVICE, np.nonzero(known), strict=False))
        spread = {name: np.full(int(known.sum()), value) for name, value in scalars.items()}
        self._add(table, {**spread, **places, **{name: value[known] for name, value in each.items()}}, many=True)

    def _in_short(self, name: str, value: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """An array as one figure: how many are set of marks of cells, else the mean."""
        if value.dtype == np.uint8:
            return {name: np.asarray(np.count_nonzero(value))}
        if value.dtype.kind == "f":
            value = value[np.isfinite(value)]
        return {f"mean_{name}": np.asarray(value.mean() if value.size else np.nan)}

    def _derived(self, table: str, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Errors, where a row has what is needed to count them."""
        selected = self.selected
        target, sensed = values.get("target"), values.get("sensed")
        if selected is None:
            return {}
        if target is not None and target.shape == selected.shape:
            verdict = values.get("verdict")
            used = selected if verdict is None else verdict != Verdict.UNUSED
            self._target = np.where(used, target, UNKNOWN)
        if self._target is None or self._target.shape != selected.shape:
            return {}
        asked = self._target != UNKNOWN
        found: dict[str, NDArray[Any]] = {}
        if sensed is not None and sensed.shape == selected.shape:
            found["error_rate"] = np.asarray(
                np.count_nonzero(asked & (sensed != self._target)) / max(1, int(asked.sum()))
            )
        weights = {"plus": 1, "minus": -1, "undecided": 0}
        outcomes = {weights[name]: values[name] for name in weights if name in values}
        if len(outcomes) == len(weights) and all(count.shape == selected.shape for count in outcomes.values()):
            right = sum(int(count[self._target == weight].sum()) for weight, count in outcomes.items())
            tried = sum(int(count[asked].sum()) for count in outcomes.values())
            found["error_rate"] = np.asarray(1.0 - right / max(1, tried))
        return found
