"""What one run file tells of one cell, as events in the order in which they were recorded. No Qt here.

Tables are told by their columns, not by the procedure, so that procedures of other people are read as well. Of each
table only the cell's own elements, or the rows that name the cell, are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.gui.array_state import DEVICE_NAMES, PULSES, weight_text
from bench.gui.units import si as write
from data.run_reading import opened, written_rows
from data.run_schema import TIME, Column, Table, read_layout
from drivers.chip import OperationKind, Outcome, Verdict
from models.cells import Device
from models.exceptions import UserMistake

if TYPE_CHECKING:
    import h5py

CELL = ("row", "col")
RESISTANCES = {
    "resistance_ohm": "resistance",
    "lrs_ohm": "resistance after SET",
    "hrs_ohm": "resistance after RESET",
}
"""Columns that are a resistance of the device of their row, measured then."""

si = lru_cache(maxsize=4096)(write)
"""The same rails and widths come with every operation."""

UNITS = {"ohm": "Ω", "degC": "°C"}
RAILS = ("vdd", "vddc", "vddr")
SILENT: Mapping[str, int] = {"pattern": -1, "in_compliance": 0, "staircase": 0, "pulses": 0, "disturbing": 0}
"""Values that say nothing: no pattern, no limit reached, no pulse."""

OWN_NAMES = frozenset({"row", "col", "device", TIME.name})
ANY = "operations"
KNOWN = frozenset({ANY, "selection", "cells_done"})


class EventKind(StrEnum):
    """What kind of thing happened to a cell."""

    PULSE = "pulse"
    ACCESS = "access"
    READ = "read"
    RESISTANCE = "resistance"
    VERDICT = "verdict"
    FORMING = "forming"
    RECORD = "record"


TABLE_KINDS = {"formed_devices": EventKind.FORMING, "programmed_cells": EventKind.VERDICT}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a cell, or was found out about it.

    Attributes:
        moment: when it was recorded, in seconds since 1970 in UTC.
        run: name of the run file.
        seconds: since the start of that run.
        kind: what kind of thing.
        what: in a few words.
        devices: of the cell that it is about; empty where it is about the cell as a whole.
        details: everything else that was recorded with it.
        count: pulses per device; 0 for anything but pulses.
        resistance_ohm: of the one device; NaN where none was measured, infinite where no current flowed.
        bound: the current limit was reached: the resistance is an upper bound.
    """

    moment: float
    run: str
    seconds: float
    kind: EventKind
    what: str
    devices: tuple[Device, ...]
    details: str
    count: int = 0
    resistance_ohm: float = math.nan
    bound: bool = False

    @property
    def device_names(self) -> tuple[str, ...]:
        """BL, BLb, both, or none."""
        return tuple(DEVICE_NAMES[device] for device in self.devices)

    @property
    def measured(self) -> bool:
        """Whether it holds a resistance."""
        return not math.isnan(self.resistance_ohm)


@dataclass(frozen=True)
class _Source:
    """One open run file, and the cell that is asked for."""

    file: h5py.File
    name: str
    start: float
    cell: tuple[int, int]

    def column(self, table: Table, name: str, rows: slice) -> NDArray[Any]:
        return np.asarray(self.file[table.name][name][rows])

    def at_cell(self, table: Table, name: str, rows: int) -> NDArray[Any]:
        return np.asarray(self.file[table.name][name][(slice(0, rows), *self.cell)])

    def event(
        self, seconds: float, kind: EventKind, what: str, devices: Sequence[Device], text: str, **more: Any
    ) -> Event:
        return Event(self.start + seconds, self.name, seconds, kind, what, tuple(devices), text, **more)


def events_of(path: Path, started: float, cell: tuple[int, int]) -> list[Event]:
    """Everything that a run file tells of a cell, in the order of time.

    Args:
        path: the file.
        started: when the run began, in seconds since 1970 in UTC.
        cell: row and column.

    Raises:
        UserMistake: the file is gone or damaged, or its array has no such cell.
    """
    found: list[Event] = []
    with opened(path) as file:
        tables, coordinates = read_layout(file)
        shape = [len(coordinates[dim].array) if dim in coordinates else 0 for dim in CELL]
        if any(shape) and not (cell[0] < shape[0] and cell[1] < shape[1]):
            raise UserMistake(f"{path.name}: its array of {shape[0]} x {shape[1]} cells has no cell {cell}")
        source = _Source(file, path.name, started, cell)
        if ANY in tables:
            found += _operations(source, tables[ANY])
        selected = "selection" not in tables or _was_selected(source, tables["selection"])
        for table in tables.values():
            if table.name in KNOWN or not written_rows(file, table):
                continue
            dims = {column.name: column.dims for column in table.columns}
            if dims.get("row") == () and dims.get("col") == ():
                found += _named(source, table)
            elif CELL in dims.values():
                found += _mapped(source, table, selected)
    # Records of one moment keep their order: what was done comes before what was found.
    return sorted(found, key=lambda event: event.seconds)


def _operations(source: _Source, table: Table) -> Iterator[Event]:
    count = written_rows(source.file, table)
    if not count:
        return
    acted = source.at_cell(table, "devices", count).astype(bool)
    rows = np.flatnonzero(acted.any(axis=1))
    if not rows.size:
        return
    span = slice(int(rows[0]), int(rows[-1]) + 1)
    names = [TIME.name, *(column.name for column in table.columns if column.name != "devices")]
    columns = {name: source.column(table, name, span)[rows - span.start] for name in names}
    for index, row in enumerate(rows):
        one = {name: values[index] for name, values in columns.items()}
        kind = OperationKind(int(one["kind"]))
        pulsed = kind in PULSES
        yield source.event(
            float(one[TIME.name]),
            EventKind.PULSE if pulsed else EventKind.ACCESS,
            kind.name.replace("_", "-"),
            [device for device in Device if acted[row, device]],
            _operation_text(kind, one),
            count=int(one["count"]) if pulsed else 0,
        )


def _operation_text(kind: OperationKind, one: Mapping[str, Any]) -> str:
    count, width = int(one["count"]), float(one["width_s"])
    unit = {
        OperationKind.SENSE: "senses", OperationKind.XNOR: "input vectors", OperationKind.CYCLE: "cycles",
        OperationKind.SWEEP: "points", OperationKind.RESISTANCE: "readings",
    }.get(kind, "pulses")  # fmt: skip
    length = f" of {si(width, 's')}" if width > 0 else ""
    parts = [f"{count} {unit[:-1] if count == 1 else unit}{length}"]
    parts += [f"{rail.upper()} {si(float(one[f'{rail}_v']), 'V', 4)}" for rail in RAILS]
    measured = [float(one[f"{rail}_measured_v"]) for rail in RAILS]
    if not any(map(math.isnan, measured)):
        parts.append(f"measured {', '.join(si(value, 'V', 4) for value in measured)}")
    if one["outcome"] == Outcome.IN_DOUBT:
        parts.insert(0, "IN DOUBT: sent, never acknowledged")
    return "; ".join(parts)


def _was_selected(source: _Source, table: Table) -> bool:
    count = written_rows(source.file, table)
    return bool(count and source.at_cell(table, "cells", count).any())


def _named(source: _Source, table: Table) -> Iterator[Event]:
    """Rows that name the cell."""
    whole = slice(0, written_rows(source.file, table))
    here = [source.column(table, name, whole) == at for name, at in zip(CELL, source.cell, strict=True)]
    rows = np.flatnonzero(here[0] & here[1])
    if not rows.size:
        return
    span = slice(int(rows[0]), int(rows[-1]) + 1)
    known = [column for column in table.columns if column.dims == ()]
    columns = {c.name: source.column(table, c.name, span)[rows - span.start] for c in (TIME, *known)}
    ohms = {name: text for name, text in RESISTANCES.items() if name in columns and "device" in columns}
    told = [column for column in known if column.name not in OWN_NAMES | ohms.keys()]
    for index in range(len(rows)):
        one = {name: values[index] for name, values in columns.items()}
        devices = [Device(int(one["device"]))] if "device" in one else []
        seconds, text = float(one[TIME.name]), _values_text(told, one)
        if not ohms:
            kind = TABLE_KINDS.get(table.name, EventKind.RECORD)
            yield source.event(seconds, kind, table.name.replace("_", " "), devices, text)
        bound = bool(one.get("in_compliance", 0))
        for name, what in ohms.items():
            value = float(one[name])
            yield source.event(seconds, EventKind.RESISTANCE, what, devices, text, resistance_ohm=value, bound=bound)


def _mapped(source: _Source, table: Table, selected: bool) -> Iterator[Event]:
    """Rows that hold something for every cell."""
    count = written_rows(source.file, table)
    told = [column for column in table.columns if column.dims == ()]
    maps = [column for column in table.columns if column.dims == CELL]
    columns = {c.name: source.column(table, c.name, slice(0, count)) for c in (TIME, *told)}
    columns |= {column.name: source.at_cell(table, column.name, count) for column in maps}
    if "formed" in columns:
        yield from _formed(source, columns, told, selected)
        return
    for index in range(count):
        one = {name: values[index] for name, values in columns.items()}
        seconds, text = float(one[TIME.name]), _values_text(told, one)
        if "verdict" in one and one["verdict"] != Verdict.UNUSED:
            verdict = Verdict(int(one["verdict"])).name.lower()
            what = f"programmed to {weight_text(int(one['target']))}: {verdict}"
            yield source.event(seconds, EventKind.VERDICT, what, (), f"read {weight_text(int(one['sensed']))}; {text}")
        elif "sensed" in one:
            # Where there are verdicts and this cell has none, nothing was asked of it.
            known = selected and "target" in one and "verdict" not in one
            asked = f"asked for {weight_text(int(one['target']))}; " if known else ""
            yield source.event(seconds, EventKind.READ, f"read {weight_text(int(one['sensed']))}", (), asked + text)
        elif selected:
            more = _values_text(maps, one)
            yield source.event(
                seconds, EventKind.RECORD, table.name.replace("_", " "), (), "; ".join(filter(None, [more, text]))
            )


def _formed(
    source: _Source, columns: Mapping[str, NDArray[Any]], told: Sequence[Column], selected: bool
) -> Iterator[Event]:
    """The step at which the cell was found formed, or the last one where it never was."""
    formed = columns["formed"].astype(bool)
    if not selected:
        return
    index = int(np.argmax(formed)) if formed.any() else len(formed) - 1
    one = {name: values[index] for name, values in columns.items()}
    what = "formed" if formed.any() else "not formed"
    yield source.event(float(one[TIME.name]), EventKind.FORMING, what, (), _values_text(told, one))


def _values_text(columns: Sequence[Column], one: Mapping[str, Any]) -> str:
    """Values by name with their units; what is missing is left out."""
    parts = []
    for column in columns:
        value = one[column.name]
        name = column.name
        if SILENT.get(name) == value or (isinstance(value, np.floating) and math.isnan(value)):
            continue
        if column.flags is not None:
            text = column.flags[int(value)].lower() if int(value) in column.flags else str(value)
        elif column.units == "1":
            text = f"{value:g}" if isinstance(value, np.floating) else str(value)
        else:
            name = name.rpartition("_")[0]
            text = si(float(value), UNITS.get(column.units, column.units), 4)
        parts.append(f"{name.replace('_', ' ')} {text}")
    return "; ".join(parts)
