"""What is plotted of a table while it is recorded: which columns, how they are grouped, and few enough points. No Qt.

Known tables have the plot that the field draws of them; for others it is guessed from names and units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.gui.array_state import DEVICE_NAMES
from bench.gui.live_tables import DEVICE, INDEX, PROGRESS, LiveTable
from bench.gui.units import title_of, unit_of, write_quantity
from data.runs import Column, Table
from models.cells import Device

COUNT = "number of points"
"""As y: a histogram of x."""

DEVICES = "each device"
"""As colour: one curve for each device."""

ONE = "one colour"
MAP = "map of "
"""As colour, before the name of a column: a picture of it over x and y."""

MOST_DRAWN = 10_000
FEW_DEVICES = 12
BINS = 40
MOST_PIXELS = 250_000
LINES_APART = ("state", "branch", "cycle", "pattern", "condition", "disturbing", "repeat")
"""A line does not go on where one of these changes, or the device."""

Floats = NDArray[np.float64]
Schema = Mapping[str, Table]


@dataclass(frozen=True)
class Choice:
    """What is to be plotted of a table.

    Attributes:
        x: a column; with y :data:`COUNT` its histogram.
        y: one column, or several that share an axis.
        colour: what tells curves apart: :data:`ONE`, :data:`DEVICES`, a column, or :data:`MAP` and a column.
        lines: connect the points.
    """

    x: str
    y: tuple[str, ...]
    colour: str = ONE
    log_x: bool = False
    log_y: bool = False
    lines: bool = False


@dataclass(frozen=True)
class Series:
    """One curve; x and y are logarithms (base 10) on logarithmic axes, and NaN where a line is interrupted."""

    name: str
    x: Floats
    y: Floats
    lines: bool


@dataclass(frozen=True)
class Picture:
    """A map: ``(len(y), len(x))`` of a quantity, with the middles of its squares; NaN where nothing is known yet."""

    name: str
    x: Floats
    y: Floats
    values: Floats


@dataclass(frozen=True)
class Drawing:
    """Everything that is drawn, and what the axes are."""

    series: tuple[Series, ...]
    picture: Picture | None
    x_label: str
    y_label: str
    left_out: int
    """Points that a plot cannot show: infinite, not measured, or zero on a logarithmic axis."""


_R = ("resistance_ohm",)
HINTS: dict[str, Choice] = {
    "staircase": Choice("pulses", _R, "branch", True, True, True),
    "iv": Choice("voltage_v", ("current_a",), DEVICES, False, True, True),
    "retention": Choice("seconds_s", _R, "state", True, True, True),
    "endurance": Choice("cycles", ("lrs_ohm", "hrs_ohm"), ONE, True, True, True),
    "read_disturb": Choice("reads", _R, "state", True, True, True),
    "shmoo": Choice("window_s", ("vdd_v",), f"{MAP}error_rate", True),
    "bit_errors": Choice("condition", ("error_rate",)),
    "formed_devices": Choice("vddc_v", (COUNT,), "outcome"),
    PROGRESS: Choice("elapsed_s", (), ONE, lines=True),
    "xnor": Choice(INDEX, ("wrong",)),
    "disturbing_senses": Choice("reads", ("mean_wrong",), log_x=True, lines=True),
    "tiles": Choice("tile", ("error_rate",)),
    "programmed_cells": Choice("attempts", (COUNT,), "ending"),
    "resistances": Choice(INDEX, _R, "state", False, True),
    "forming": Choice("vddc_v", ("formed",), lines=True),
    "patterns": Choice(INDEX, ("error_rate",)),
    "senses": Choice(INDEX, ("error_rate",)),
}
"""Known tables; what a run is about comes before what it merely needs."""

COMMON = ("programmed_cells", "resistances", "forming", "patterns", "senses")
"""Tables that many procedures fill on their way; their own tables come first."""

SILENT = ("operations", "conditions", "tiles_done")
"""Tables that are only plotted when they are asked for."""

_ALONG = ("elapsed_s", "seconds_s", "cycles", "cycle", "pulses", "reads", "vddc_v", "vddr_v", "vdd_v", "voltage_v")
_UNITS = ("Ω", "A", "J", "V", "s", "°C")


def main_table(tables: Mapping[str, LiveTable]) -> str | None:
    """The table that tells most of what a run is about; None while there is none."""

    def rank(name: str) -> tuple[int, int]:
        order = list(HINTS).index(name) if name in HINTS else -1
        group = 3 if name in SILENT else 2 if name in COMMON else 1 if name == PROGRESS else 0
        return group, order

    def tells(name: str, table: LiveTable) -> bool:
        # Devices that were formed before have no forming voltage.
        x = HINTS[name].x if name in HINTS else INDEX
        return x not in table.columns or bool(np.isfinite(table.column(x)).any())

    filled = [name for name, table in tables.items() if table.kept > 0 and plottable(table) and tells(name, table)]
    return min(filled, key=rank) if filled else None


def plottable(table: LiveTable) -> bool:
    """Whether a table has anything beside places."""
    return any(name not in (*DEVICE, INDEX) for name in table.columns)


def default(name: str, table: LiveTable, schema: Schema) -> Choice:
    """The plot of a table that nobody has chosen another one for."""
    columns = table.columns
    hint = HINTS.get(name)
    if name == PROGRESS:
        figures = tuple(column for column in columns if column not in (INDEX, "elapsed_s", "samples"))
        return replace(HINTS[PROGRESS], y=figures)
    if hint is None or not {hint.x, *hint.y} <= {*columns, COUNT}:
        hint = _guess(name, table, schema)
    by = hint.colour
    if by.startswith(MAP):
        return hint if by.removeprefix(MAP) in columns else replace(hint, colour=ONE)
    if by not in (ONE, DEVICES) and len(table.codes.get(by) or ()) < 2:
        by = ONE  # nothing to tell apart
    if by == ONE and len(hint.y) == 1 and hint.y[0] != COUNT:
        by = DEVICES
    if by == DEVICES and not _few(table):
        by = "device" if len(table.codes.get("device") or ()) > 1 else ONE
    return replace(hint, colour=by)


def _few(table: LiveTable) -> bool:
    return table.devices is not None and 1 < len(table.devices) <= FEW_DEVICES


def _guess(name: str, table: LiveTable, schema: Schema) -> Choice:
    """A plot for a table that we know nothing of: its first measured quantity along the first thing that was set."""
    columns = [column for column in table.columns if column not in (INDEX, *DEVICE)]
    measured = [column for column in columns if table.codes.get(column, None) is None]
    x = next((column for column in _ALONG if column in columns), None)
    if x is None and len(measured) > 1:
        x = measured[0]  # what is set mostly stands before what is measured
    rest = [column for column in (measured if measured else columns) if column != x]
    rest = rest if rest else [column for column in columns if column != x]
    if not rest:
        return Choice(INDEX, (columns[0],))
    y = min(rest, key=lambda column: _rank(unit(name, column, schema)))
    ohms = unit(name, y, schema) == "Ω"
    return Choice(INDEX if x is None else x, (y,), "state" if "state" in columns else ONE, False, ohms, x is not None)


def _rank(found: str) -> int:
    return _UNITS.index(found) if found in _UNITS else len(_UNITS)


def unit(table: str, column: str, schema: Schema) -> str:
    """Unit of a column, by the table's own description or else by its name; empty for a plain number."""
    described = _described(table, column, schema)
    if described is None:
        return unit_of(column)
    if described.units == "1":
        return ""
    return {"ohm": "Ω", "degC": "°C"}.get(described.units, described.units)


def _described(table: str, column: str, schema: Schema) -> Column | None:
    known = schema.get(table)
    return None if known is None else next((one for one in known.columns if one.name == column), None)


def label(table: str, columns: tuple[str, ...], schema: Schema, signless: bool = False, zero: bool = False) -> str:
    """What stands along an axis: names and unit."""
    if columns == (COUNT,):
        return COUNT
    if columns == (INDEX,):
        return "point, in the order of measurement"
    units = [unit(table, column, schema) for column in columns]
    names = ", ".join(title_of(column) for column in columns)
    text = f"|{names}|" if signless else names
    text += f" ({units[0]})" if units[0] else ""
    return f"{text}; 0 stands at the left end" if zero else text


def colours(table: LiveTable, choice: Choice) -> list[str]:
    """What may tell the curves of a table apart."""
    found = [ONE]
    if table.devices is not None and len(table.devices) > 1:
        found.append(DEVICES)
    taken = (INDEX, choice.x, *choice.y, "row", "col")
    found += [name for name in table.columns if name not in taken and len(table.codes.get(name) or ()) > 1]
    if table.devices == set():
        found += [f"{MAP}{name}" for name in table.columns if name not in taken and table.codes.get(name) is None]
    return found


def draw(
    name: str,
    table: LiveTable,
    choice: Choice,
    schema: Schema,
    within: tuple[float, float] | None = None,
    most: int = MOST_DRAWN,
) -> Drawing:
    """The points of a table as they are drawn.

    Args:
        within: only what lies between these x, as on the axis.
        most: points at most; of more, a random part is drawn, or of a line the extremes.
    """
    if choice.colour.startswith(MAP):
        return _draw_map(name, table, choice, schema)
    x, zero = _along(table.column(choice.x), choice.log_x)
    if choice.y == (COUNT,):
        return _draw_histogram(name, table, choice, schema, x)
    found: list[Series] = []
    left_out, signless = 0, False
    for column in choice.y:
        y = table.column(column)
        if choice.log_y:
            negative = bool(np.any(y < 0))
            signless |= negative
            with np.errstate(divide="ignore", invalid="ignore"):
                # At 0 V only the meter's own noise flows: a gap, as in the figures of a run.
                y = np.log10(np.where(table.column(choice.x) == 0, np.nan, np.abs(y)) if negative else y)
        shown = np.isfinite(x) & np.isfinite(y)
        left_out += len(shown) - int(np.count_nonzero(shown))
        if signless and choice.lines:
            shown |= table.column(choice.x) == 0  # the gap is seen: a line does not bridge it
        if within is not None:
            shown &= (x >= within[0]) & (x <= within[1])
        rows = np.flatnonzero(shown)
        if table.devices is None and len(rows) > 2 * most:
            rows = _some(rows, 2 * most)  # before they are sorted into groups, which takes longer
        for title, part in _groups(name, table, choice, schema, rows):
            text = title if len(choice.y) == 1 else ", ".join(filter(None, (title_of(column), title)))
            share = max(64, most * len(part) // max(1, len(rows) * len(choice.y)))
            found.append(_series(text, table, choice, x, y, part, share))
    x_label = label(name, (choice.x,), schema, zero=zero)
    return Drawing(tuple(found), None, x_label, label(name, choice.y, schema, signless), left_out)


def _along(x: Floats, log: bool) -> tuple[Floats, bool]:
    """X as on the axis; on a logarithmic one, 0 stands half a step before the least that is more than 0."""
    if not log:
        return x, False
    positive = x[x > 0]
    zero = bool(np.any(x == 0)) and positive.size > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(np.where(x == 0, positive.min() / 2, x) if zero else x), zero


def _groups(
    name: str, table: LiveTable, choice: Choice, schema: Schema, rows: NDArray[np.intp]
) -> list[tuple[str, NDArray[np.intp]]]:
    if choice.colour == ONE or len(rows) == 0:
        return [("", rows)]
    if choice.colour == DEVICES:
        if table.devices is None:
            return [("", rows)]
        keys = {
            f"({row}, {col}) {DEVICE_NAMES[Device(device)]}": (row, col, device)
            for row, col, device in sorted(table.devices)
        }
        places = [table.column(column)[rows] for column in DEVICE]
        found = [
            (title, rows[np.all([one == wanted for one, wanted in zip(places, key, strict=True)], axis=0)])
            for title, key in keys.items()
        ]
    else:
        described = _described(name, choice.colour, schema)
        flags = {} if described is None or described.flags is None else described.flags
        if choice.colour == "device":
            flags = {int(device): title for device, title in DEVICE_NAMES.items()}
        values = table.column(choice.colour)[rows]
        codes = table.codes.get(choice.colour)
        found = [
            (flags.get(code, f"{choice.colour.replace('_', ' ')} {code}"), rows[values == code])
            for code in sorted(codes if codes is not None else ())
        ]
    return [(title, part) for title, part in found if len(part) > 0]


def _series(
    title: str, table: LiveTable, choice: Choice, x: Floats, y: Floats, rows: NDArray[np.intp], most: int
) -> Series:
    joined = choice.lines and (table.devices == set() or (table.devices is not None and len(rows) <= most))
    if len(rows) > most:
        ordered = bool(np.all(np.diff(x[rows]) >= 0))
        rows = _extremes(y, rows, most) if joined and ordered else _some(rows, most)
    if joined and len(rows) > 1:
        keys = [
            table.column(column)[rows]
            for column in (*DEVICE, *LINES_APART)
            if column in table.columns and column not in (choice.x, *choice.y)
        ]
        order = np.lexsort([np.arange(len(rows)), *keys]) if keys else np.arange(len(rows))
        apart = [np.diff(np.nan_to_num(key[order], nan=-1.0)) != 0 for key in keys]
        ends = np.flatnonzero(np.any(apart, axis=0)) + 1 if apart else np.empty(0, dtype=np.intp)
        rows = rows[order]
        return Series(title, np.insert(x[rows], ends, np.nan), np.insert(y[rows], ends, np.nan), True)
    return Series(title, x[rows], y[rows], False)


def _some(rows: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    # The same ones each time, or the picture would flicker.
    chosen = np.random.default_rng(0).random(len(rows)) < most / len(rows)
    return rows[chosen]


def _extremes(y: Floats, rows: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    """The lowest and the highest point of each stretch of a line."""
    size = -(-2 * len(rows) // most)
    whole = rows[: len(rows) // size * size].reshape(-1, size)
    first = np.arange(len(whole))
    low, high = whole[first, y[whole].argmin(axis=1)], whole[first, y[whole].argmax(axis=1)]
    return np.unique(np.concatenate([low, high, rows[len(whole) * size :]]))


def _draw_histogram(name: str, table: LiveTable, choice: Choice, schema: Schema, x: Floats) -> Drawing:
    rows = np.flatnonzero(np.isfinite(x))
    found = []
    if len(rows) > 0:
        low, high = float(x[rows].min()), float(x[rows].max())
        whole = not choice.log_x and bool(np.all(x[rows] == np.round(x[rows]))) and high - low < BINS
        different = np.unique(x[rows])
        if whole:
            edges = np.arange(low - 0.5, high + 1.0)
        elif len(different) <= BINS:
            # Values that were set (the steps of a ramp) have a bar each.
            step = float(np.diff(different).min()) if len(different) > 1 else 1.0
            edges = np.arange(low - step / 2, high + step, step)
        else:
            edges = np.linspace(low, high, BINS + 1)
        edges = edges if len(edges) <= 10 * BINS else np.linspace(low, high, BINS + 1)
        for title, part in _groups(name, table, choice, schema, rows):
            counts, _ = np.histogram(x[part], edges)
            steps = np.repeat(edges, 2)[1:-1]
            outline = np.concatenate([[0.0], np.repeat(counts, 2), [0.0]])
            found.append(Series(title, np.concatenate([steps[:1], steps, steps[-1:]]), outline, True))
    x_label = label(name, (choice.x,), schema)
    return Drawing(tuple(found), None, x_label, COUNT, len(x) - len(rows))


def _draw_map(name: str, table: LiveTable, choice: Choice, schema: Schema) -> Drawing:
    column = choice.colour.removeprefix(MAP)
    x, _ = _along(table.column(choice.x), choice.log_x)
    y, z = table.column(choice.y[0]), table.column(column)
    shown = np.isfinite(x) & np.isfinite(y) & np.isfinite(z)
    along, at_x = np.unique(x[shown], return_inverse=True)
    up, at_y = np.unique(y[shown], return_inverse=True)
    picture = None
    if 0 < len(along) * len(up) <= MOST_PIXELS:
        total, count = np.zeros((len(up), len(along))), np.zeros((len(up), len(along)))
        np.add.at(total, (at_y, at_x), z[shown])
        np.add.at(count, (at_y, at_x), 1)
        with np.errstate(invalid="ignore"):
            values = total / count
        picture = Picture(label(name, (column,), schema), along, up, values)
    left_out = len(shown) - int(np.count_nonzero(shown))
    x_label, y_label = label(name, (choice.x,), schema), label(name, choice.y[:1], schema)
    return Drawing((), picture, x_label, y_label, left_out)


def latest(table: LiveTable, choice: Choice, name: str, schema: Schema) -> str:
    """The newest value of what is plotted, for people."""
    if choice.y == (COUNT,) or not choice.y or table.kept == 0:
        return ""
    parts = []
    for column in choice.y:
        value = float(table.column(column)[-1])
        parts.append(write_quantity(float(f"{value:.3g}"), unit(name, column, schema)))
    return ", ".join(parts)
