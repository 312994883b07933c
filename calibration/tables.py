"""Plain tables of other people's measurements: CSV in, the same tables and columns out that our run files have.

One line per reading, with a header. ``docs/calibration.md`` lists the columns.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.device_files import DeviceFile
from data.run_reading import Ending, Run
from data.run_schema import TIME, Array, Column, RunStatus, Table
from drivers.chip import OperationKind
from models.exceptions import UserMistake

SUFFIX = ".csv"
STATES = {"LRS": 0, "HRS": 1}
"""States of the table ``resistances``; the codes are those of a run file."""


@dataclass(frozen=True)
class Field:
    """A column of a plain table.

    Attributes:
        whole: only whole numbers are allowed.
        low: the smallest number allowed.
        open_low: ``low`` itself is not allowed.
        infinite: infinity is allowed: no current flowed.
    """

    whole: bool = False
    low: float = -math.inf
    open_low: bool = False
    infinite: bool = False
    high: float = math.inf

    def parse(self, text: str, name: str) -> float:
        """The number in a cell; UserMistake says what is allowed."""
        try:
            value = float(text)
        except ValueError:
            raise UserMistake(f"{name} = {text!r} is not a number") from None
        if math.isnan(value) or (math.isinf(value) and not (self.infinite and value > 0)):
            raise UserMistake(f"{name} = {text!r} is not a finite number")
        if self.whole and not (value.is_integer() and abs(value) <= LARGEST_WHOLE):
            raise UserMistake(f"{name} = {text!r} must be a whole number, of at most {LARGEST_WHOLE:.0f}")
        if value < self.low or (self.open_low and value == self.low):
            raise UserMistake(f"{name} = {text!r} must be {'above' if self.open_low else 'at least'} {self.low:g}")
        if value > self.high:
            raise UserMistake(f"{name} = {text!r} must be at most {self.high:g}")
        return value


LARGEST_WHOLE = 2.0**31 - 1.0
"""Of pulses and cycles."""

FIELDS: Mapping[str, Field] = {
    "pulse": Field(whole=True, low=0.0),
    "cycle": Field(whole=True, low=0.0),
    "resistance_ohm": Field(low=0.0, open_low=True, infinite=True),
    "voltage_v": Field(low=0.0, open_low=True),
    "width_s": Field(low=0.0, open_low=True),
    "current_a": Field(),
    "in_compliance": Field(whole=True, low=0.0, high=1.0),
}
"""Numeric columns by name; ``device`` and ``state`` are text."""


@dataclass(frozen=True)
class Layout:
    """What one kind of fit reads.

    Attributes:
        needed, optional: names of columns.
        procedure: the procedure whose run files have the same tables.
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...]
    procedure: str


TRAINS = Layout(
    ("device", "pulse", "resistance_ohm"), ("cycle", "voltage_v", "width_s", "current_a", "in_compliance"), "weak-reset"
)
"""RESET trains: resistances after 0, 1, 2... pulses of one amplitude."""

STATES_LAYOUT = Layout(
    ("device", "state", "resistance_ohm"), ("cycle", "voltage_v", "current_a", "in_compliance"), "resistance"
)
"""Resistances after SET and after RESET; ``voltage_v`` is that of the reading."""


class Columns(NamedTuple):
    """A checked table.

    Attributes:
        names: devices in the order of their first line.
        device: ``(lines,)`` index into ``names``.
        state: ``(lines,)`` codes of :data:`STATES`; empty for a layout without states.
        numbers: the numeric columns that the file has, ``(lines,)`` each.
    """

    names: tuple[str, ...]
    device: NDArray[np.int64]
    state: NDArray[np.int8]
    numbers: Mapping[str, NDArray[np.float64]]


def read_columns(path: Path, layout: Layout) -> Columns:
    """Read and check a plain table.

    Raises:
        UserMistake: the file cannot be read, a column is missing, unknown or named twice, a cell is empty, no number or
            out of range, a reading occurs twice, or the pulses of a train do not rise. The text names file and line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a table of text"
        raise UserMistake(f"cannot read the table {path}: {reason}") from None
    header = [name.strip() for name in lines[0]] if lines else []
    _check_header(path, header, layout)
    rows = [(number, line) for number, line in enumerate(lines[1:], start=2) if line]
    if not rows:
        raise UserMistake(f"{path}: the table has a header and no lines")
    parse = _parsers(header)
    cells: list[list[Any]] = []
    for number, line in rows:
        if len(line) != len(header):
            raise UserMistake(f"{path}, line {number}: {len(line)} cells, and {len(header)} columns")
        try:
            cells.append([read(text.strip()) for read, text in zip(parse, line, strict=True)])
        except UserMistake as mistake:
            raise UserMistake(f"{path}, line {number}: {mistake}") from None
    by_name = dict(zip(header, zip(*cells, strict=True), strict=True))
    names = tuple(dict.fromkeys(by_name["device"]))
    index = {name: position for position, name in enumerate(names)}
    found = Columns(
        names,
        np.array([index[name] for name in by_name["device"]], dtype=np.int64),
        np.array(by_name.get("state", ()), dtype=np.int8),
        {name: np.array(by_name[name], dtype=np.float64) for name in header if name in FIELDS},
    )
    _check_order(path, found, [number for number, _ in rows])
    return found


def _check_header(path: Path, header: Sequence[str], layout: Layout) -> None:
    missing = [name for name in layout.needed if name not in header]
    if missing:
        raise UserMistake(f"{path}: column {missing[0]} is missing; needed are {', '.join(layout.needed)}")
    known = (*layout.needed, *layout.optional)
    unknown = [name for name in header if name not in known]
    if unknown:
        raise UserMistake(f"{path}: column {unknown[0]!r} is unknown; known are {', '.join(known)}; leave it out")
    twice = [name for name in known if header.count(name) > 1]
    if twice:
        raise UserMistake(f"{path}: there are two columns {twice[0]}")


def _parsers(header: Sequence[str]) -> list[Callable[[str], Any]]:
    def device(text: str) -> str:
        if not text:
            raise UserMistake("device is empty; give each device a name or a number")
        return text

    def state(text: str) -> int:
        if text.upper() not in STATES:
            raise UserMistake(f"state = {text!r} is unknown; allowed are {', '.join(STATES)}")
        return STATES[text.upper()]

    texts: Mapping[str, Callable[[str], Any]] = {"device": device, "state": state}

    def number(name: str) -> Callable[[str], float]:
        return lambda text: FIELDS[name].parse(text, name)

    return [texts[name] if name in texts else number(name) for name in header]


def _check_order(path: Path, found: Columns, numbers: Sequence[int]) -> None:
    """Refuse readings that occur twice and trains whose pulses do not rise."""
    lines = len(found.device)
    cycle = found.numbers.get("cycle", np.zeros(lines))
    voltage = found.numbers.get("voltage_v", np.zeros(lines)) if len(found.state) == 0 else np.zeros(lines)
    state = found.state if len(found.state) else np.zeros(lines)
    pulse = found.numbers.get("pulse", np.zeros(lines))
    keys = np.stack([found.device, cycle, voltage, state], axis=1)
    _, train = np.unique(keys, axis=0, return_inverse=True)
    train = train.reshape(-1)
    order = np.argsort(train, kind="stable")
    same = np.diff(train[order]) == 0
    steps = np.diff(pulse[order])
    wrong = np.flatnonzero(same & (steps <= 0))
    if len(wrong) == 0:
        return
    # the earliest line of the file that is wrong, not the first of the sorted order
    worst = wrong[np.argmin(order[wrong + 1])]
    line = int(order[worst + 1])
    who = f"{path}, line {numbers[line]}: device {found.names[found.device[line]]}, cycle {cycle[line]:g}"
    earlier = (train[:line] == train[line]) & (pulse[:line] == pulse[line])
    if earlier.any():
        first = numbers[int(np.flatnonzero(earlier)[0])]
        what = f"pulse {pulse[line]:g} was" if "pulse" in found.numbers else "this reading was"
        raise UserMistake(f"{who}: {what} given already in line {first}")
    raise UserMistake(f"{who}: pulse {pulse[line]:g} comes after pulse {pulse[order[worst]]:g}; sort the pulses")


class TableRun(Run):
    """A plain table that reads like a run file: the same tables, columns and codes.

    Attributes:
        names: of the devices; a device's ``row`` is its place in them, its ``col`` and ``device`` are 0.
    """

    def __init__(self, path: Path, procedure: str, blocks: Mapping[str, Mapping[str, Array]], names: Sequence[str]):
        self.path = path
        self.procedure = procedure
        # with its folder: tables of one name in two places are of two chips, whose devices are not each other's
        self.attributes = {"procedure": procedure, "chip_id": str(path.with_suffix(""))}
        self.coordinates = {}
        self.names = tuple(names)
        self._blocks = {name: {TIME: np.zeros(_length(block)), **block} for name, block in blocks.items()}
        self.tables = {
            name: Table(name, tuple(_column(key, values) for key, values in block.items()), f"from {path.name}")
            for name, block in blocks.items()
        }

    @property
    def ending(self) -> Ending:
        """A table is always complete."""
        return Ending(RunStatus.COMPLETED, "", "")

    def rows(self, table: str) -> int:
        """Number of lines in ``table``."""
        return _length(self._blocks[self._table(table).name])

    def read(self, table: str, columns: Sequence[str] | None = None, rows: slice = slice(None)) -> dict[str, Array]:
        """Read a table; see :meth:`data.run_reading.Run.read`."""
        block = self._blocks[self._table(table).name]
        for name in () if columns is None else columns:
            if name not in block:
                self.tables[table].column(name)
        return {name: block[name][rows] for name in (block if columns is None else columns)}


def _length(block: Mapping[str, Array]) -> int:
    return len(next(iter(block.values())))


_FLAGS: Mapping[str, Mapping[int, str]] = {
    "state": {code: name for name, code in STATES.items()},
    "kind": {int(kind): kind.name for kind in OperationKind},
}


def _column(name: str, values: Array) -> Column:
    return Column(name, values.dtype.name, flags=_FLAGS.get(name))


def read_trains(path: Path, base: DeviceFile) -> TableRun:
    """RESET trains as the table ``staircase`` of a weak-RESET run.

    Without ``voltage_v`` and ``width_s`` the pulses count as reference pulses of the base file.

    Raises:
        UserMistake: see :func:`read_columns`; or the trains of one voltage have pulses of several widths.
    """
    found = read_columns(path, TRAINS)
    lines = len(found.device)
    section, numbers = base.model.weak_reset, found.numbers
    voltage = numbers.get("voltage_v", np.full(lines, section.v_ref_v))
    width = numbers.get("width_s", np.full(lines, section.width_ref_s))
    volts, branch = np.unique(voltage, return_inverse=True)
    branch = branch.reshape(-1)
    first = np.array([width[branch == index][0] for index in range(len(volts))])
    if (width != first[branch]).any():
        raise UserMistake(f"{path}: width_s differs between pulses of one voltage; give each width a table of its own")
    vddc = volts * base.model.hrs.drop_ratio
    staircase = {
        **_addresses(found),
        **_meter(found, read_voltage=None),
        "branch": branch.astype(np.int16),
        "cycle": numbers.get("cycle", np.zeros(lines)).astype(np.int32),
        "vddc_v": vddc[branch],
        "device_v": voltage,
        "pulses": numbers["pulse"].astype(np.int64),
    }
    operations = _operations([OperationKind.WEAK_RESET] * len(volts), vddc, vddc, first)
    return TableRun(path, TRAINS.procedure, {"staircase": staircase, "operations": operations}, found.names)


def read_states(path: Path, base: DeviceFile) -> TableRun:
    """Resistances after SET and RESET as the table ``resistances``; the cycle stands in its column ``pattern``.

    The conditions of SET and RESET are taken to be the reference ones of the base file.

    Raises:
        UserMistake: see :func:`read_columns`.
    """
    found = read_columns(path, STATES_LAYOUT)
    lines = len(found.device)
    measured = {
        **_addresses(found),
        **_meter(found, read_voltage="voltage_v"),
        "state": found.state,
        "pattern": found.numbers.get("cycle", np.zeros(lines)).astype(np.int32),
        "pulses": np.zeros(lines, dtype=np.int32),
        "staircase": np.zeros(lines, dtype=np.int8),
    }
    lrs, hrs = base.model.lrs, base.model.hrs
    operations = _operations(
        [OperationKind.SET, OperationKind.RESET],
        np.array([hrs.vddc_ref_v, hrs.vddc_ref_v]),
        np.array([lrs.vddr_ref_v, hrs.vddc_ref_v]),
        np.array([hrs.width_ref_s, hrs.width_ref_s]),
    )
    return TableRun(path, STATES_LAYOUT.procedure, {"resistances": measured, "operations": operations}, found.names)


def _addresses(found: Columns) -> dict[str, Array]:
    zeros = np.zeros(len(found.device), dtype=np.int16)
    return {"row": found.device.astype(np.int32), "col": zeros, "device": zeros.astype(np.int8)}


def _meter(found: Columns, read_voltage: str | None) -> dict[str, Array]:
    """What the meter said; voltage and current are NaN where the table does not tell them."""
    lines = len(found.device)
    nothing = np.full(lines, np.nan)
    return {
        "voltage_v": nothing if read_voltage is None else found.numbers.get(read_voltage, nothing),
        "current_a": found.numbers.get("current_a", nothing),
        "in_compliance": found.numbers.get("in_compliance", np.zeros(lines)).astype(np.int8),
        "resistance_ohm": found.numbers["resistance_ohm"],
    }


def _operations(
    kinds: Sequence[OperationKind], vddc_v: NDArray[np.float64], vddr_v: NDArray[np.float64], width_s: Array
) -> dict[str, Array]:
    return {
        "kind": np.array([int(kind) for kind in kinds], dtype=np.int8),
        "vddc_v": vddc_v,
        "vddr_v": vddr_v,
        "width_s": width_s,
    }
