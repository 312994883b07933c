"""Figures of one quantity against another: I-V, staircases, and anything against time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.figures.records import Arrays, Records, TitledFigure, devices_of, pivot, plural, quartiles
from bench.figures.style import BLUE, GREY, VERMILION, looks, ohm_axis, panels

MOST_CURVES = 40
"""Single curves in one figure; more of them become one grey patch."""
MOST_POINTS = 20_000
MOST_COLUMNS = 4


def few(count: int, most: int = MOST_CURVES) -> NDArray[np.int64]:
    """Indices of at most ``most`` of ``count`` curves, evenly spread, so that a figure is the same each time."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def banded(
    axis: Any, xs: NDArray[Any], table: NDArray[np.float64], colour: str, marker: str, label: str, line: str = "-"
) -> None:
    """Median of the curves ``(curves, xs)`` with a band from the lower to the upper quartile."""
    low, median, high = quartiles(table)
    shown = np.isfinite(median)
    axis.plot(xs[shown], median[shown], line, color=colour, marker=marker, markersize=4, linewidth=1.8, label=label)
    band = np.isfinite(low) & np.isfinite(high)
    if len(table) > 1:
        axis.fill_between(xs[band], low[band], high[band], color=colour, alpha=0.2, linewidth=0.0)


def staircases(records: Records) -> Iterator[TitledFigure]:
    """Resistance against weak-RESET pulses: median and quartiles of each voltage, over some single devices."""
    columns = ("row", "col", "device", "branch", "cycle", "vddc_v", "pulses", "resistance_ohm")
    if not records.has("staircase", *columns):
        return
    table = records.read("staircase", *columns)
    if not np.isfinite(table["resistance_ohm"]).any():
        return
    branches = np.unique(table["branch"])
    figure, (axis,) = panels(1, 8.4, 5.0)
    count = 0
    drawn: list[NDArray[np.float64]] = []
    for branch, (colour, marker) in zip(branches, looks(len(branches)), strict=True):
        chosen = table["branch"] == branch
        part = {name: values[chosen] for name, values in table.items()}
        keys = np.stack([part[name] for name in ("cycle", "row", "col", "device")], axis=1)
        pulses, curves = pivot(keys, part["pulses"], part["resistance_ohm"])
        count = max(count, len(curves))
        if len(branches) == 1:
            _faint(axis, pulses, curves)
            drawn = [curves]
        banded(axis, pulses, curves, colour, marker, f"VDDC {part['vddc_v'][0]:g} V, median of {len(curves)}")
    ohm_axis(axis, "y", drawn)
    axis.set(xlabel="weak-RESET pulses since SET")
    axis.legend(fontsize=9)
    axis.set_title(records.title, fontsize=11)
    caption = (
        f"Resistance along the weak-RESET staircase: medians and bands between the quartiles of {count} staircases"
    )
    caption += " per voltage." if len(branches) > 1 else f", over {min(count, MOST_CURVES)} single ones in grey."
    yield TitledFigure("staircase", "Weak-RESET staircase", caption, figure)


def short_staircases(records: Records) -> Iterator[TitledFigure]:
    """The staircase of a characterisation, which lies in the table of resistances."""
    columns = ("row", "col", "device", "staircase", "pulses", "resistance_ohm")
    if not records.has("resistances", *columns):
        return
    table = records.read("resistances", *columns)
    chosen = table["staircase"] == 1
    if not np.isfinite(table["resistance_ohm"][chosen]).any():
        return
    keys = np.stack([table[name][chosen] for name in ("row", "col", "device")], axis=1)
    pulses, curves = pivot(keys, table["pulses"][chosen], table["resistance_ohm"][chosen])
    figure, (axis,) = panels(1, 8.4, 5.0)
    _faint(axis, pulses, curves)
    banded(axis, pulses, curves, BLUE, "o", f"median of {plural(len(curves), 'device')}, with quartiles")
    ohm_axis(axis, "y", [curves])
    axis.set(xlabel="weak-RESET pulses since SET")
    axis.legend(fontsize=9)
    axis.set_title(records.title, fontsize=11)
    caption = "Resistance after a SET and some weak-RESET pulses: single devices, their median, and the quartiles."
    yield TitledFigure("staircase", "Weak-RESET staircase", caption, figure)


def _faint(axis: Any, xs: NDArray[Any], curves: NDArray[np.float64]) -> None:
    for index in few(len(curves)):
        shown = np.isfinite(curves[index])
        axis.plot(xs[shown], curves[index][shown], color=GREY, linewidth=0.5, alpha=0.6)


def current_voltage(records: Records) -> Iterator[TitledFigure]:
    """|I| on a log axis against V, one line per sweep."""
    columns = ("row", "col", "device", "cycle", "point", "voltage_v", "current_a", "in_compliance")
    if not records.has("iv", *columns):
        return
    table = records.read("iv", *columns)
    devices = devices_of(table)
    figure, (axis,) = panels(1, 8.4, 5.0)
    cycles = np.unique(table["cycle"])
    names = records.flags("iv", "device")
    crowded = len(devices) > 8
    for index, (colour, _) in zip(few(len(devices)), looks(MOST_CURVES), strict=False):
        (row, col, device), mine = devices[index]
        for cycle in cycles[few(len(cycles), 20)]:
            sweep = np.flatnonzero(mine & (table["cycle"] == cycle))
            sweep = sweep[np.argsort(table["point"][sweep], kind="stable")]
            label = f"({row}, {col}) {names.get(device, str(device))}" if cycle == cycles[0] and not crowded else None
            style = {"color": GREY, "alpha": 0.5, "linewidth": 0.7} if crowded else {"color": colour, "linewidth": 1.1}
            _sweep(axis, table, sweep, label, style)
    limited = table["in_compliance"] == 1
    if limited.any():
        axis.plot(
            table["voltage_v"][limited],
            np.abs(table["current_a"][limited]),
            ".",
            color=VERMILION,
            markersize=3,
            label="at the current limit",
        )
    axis.set(yscale="log", xlabel="voltage (V)", ylabel="|current| (A)")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8.5)
    axis.set_title(records.title, fontsize=11)
    caption = f"Size of the current against the voltage across {plural(len(devices), 'device')}, "
    caption += f"{plural(len(cycles), 'cycle')} each; points at 0 V are left out."
    yield TitledFigure("iv", "I-V", caption, figure)


def _sweep(axis: Any, table: Arrays, sweep: NDArray[np.int64], label: str | None, style: dict[str, Any]) -> None:
    volts, current = table["voltage_v"][sweep], np.abs(table["current_a"][sweep])
    # Zero has no logarithm, and at 0 V only the meter's own noise flows: both are gaps.
    axis.plot(volts, np.where((current > 0.0) & (volts != 0.0), current, np.nan), label=label, **style)


def against_time(records: Records) -> Iterator[TitledFigure]:
    """What is left for procedures that nobody drew figures for: their first numbers against time."""
    for name, table in records.run.tables.items():
        if name in ("operations", "selection", "cells_done"):
            continue
        columns = [column for column in table.columns if not column.dims and column.flags is None][:MOST_COLUMNS]
        if not columns or not records.has(name):
            continue
        read = records.read(name, "time_s", *(column.name for column in columns))
        time_s = read["time_s"] + _offsets(records)[read["part"]]
        step = max(1, len(time_s) // MOST_POINTS)
        figure, axes = panels(len(columns), 4.6 * len(columns), 3.8)
        for axis, column in zip(axes, columns, strict=True):
            unit = "" if column.units == "1" else f" ({column.units})"
            axis.plot(time_s[::step], read[column.name][::step], ".", color=BLUE, markersize=3)
            axis.set(xlabel="time since the start (s)", ylabel=f"{column.name}{unit}")
        figure.suptitle(f"{records.title}: {name}")
        described = table.description if table.description else f"table {name}"
        yield TitledFigure(name.replace("_", "-"), name.replace("_", " "), f"{described}, against time.", figure)


def _offsets(records: Records) -> NDArray[np.float64]:
    """When each part began, in s after the first one."""
    began = [datetime.fromisoformat(str(part.attributes["started"])) for part in records.parts]
    return np.array([(each - began[0]).total_seconds() for each in began])
