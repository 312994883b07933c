"""Figures of what time and use do: endurance, retention, read disturb."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.figures.curves import banded
from bench.figures.records import Arrays, Records, TitledFigure, pivot, plural
from bench.figures.style import BLACK, BLUE, GREEN, ORANGE, VERMILION, ohm_axis, panels, share_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOOK = ("row", "col", "device", "state", "point", "resistance_ohm")
LOOK_CAPTION = (
    "(medians, bands between the quartiles), and the share of senses that read another weight than was programmed. "
    "Hollow: none did, the share is below."
)
RULE_OF_THREE = 3.0
"""No event in n trials: with 95 % the rate is below three over n."""


def endurance_curves(records: Records) -> Iterator[TitledFigure]:
    """LRS and HRS against cycles, and beside them the error rates and the share of devices that stick."""
    columns = ("checkpoint", "cycles", "row", "col", "device", "lrs_ohm", "hrs_ohm", "threshold_ohm")
    judged = ("errors_1t1r", "errors_2t2r", "stuck")
    if not records.has("endurance", *columns, *judged):
        return
    table = records.read("endurance", *columns, *judged)
    keys = np.stack([table[name] for name in ("row", "col", "device")], axis=1)
    figure, (window, rates) = panels(2, 12.0, 4.8)
    for state, colour, marker in (("lrs", BLUE, "o"), ("hrs", VERMILION, "s")):
        cycles, curves = pivot(keys, table["cycles"], table[f"{state}_ohm"])
        banded(window, cycles, curves, colour, marker, f"{state.upper()}, median of {plural(len(curves), 'device')}")
    threshold = table["threshold_ohm"][np.isfinite(table["threshold_ohm"])]
    if threshold.size:
        window.axhline(threshold[-1], color=BLACK, linewidth=1.0, linestyle=":", label="threshold of 1T1R")
    ohm_axis(window)
    _error_shares(rates, table)
    _from_zero((window, rates), "cycles", table["cycles"])
    figure.suptitle(records.title, fontsize=11)
    caption = "Resistance in both states against the cycles made before (medians, bands between the quartiles), and "
    caption += "shares of wrong bits and of devices that no longer switch. Hollow: none was seen, the share is below."
    yield TitledFigure("endurance", "Endurance", caption, figure)


def _error_shares(axis: Any, table: Arrays) -> None:
    kinds = (
        ("errors_1t1r", "1T1R: beyond the threshold", ORANGE, "^", 2),
        ("errors_2t2r", "2T2R: sensed wrong", GREEN, "o", 2),
        ("stuck", "devices stuck", BLACK, "x", 1),
    )
    for name, label, colour, marker, trials_each in kinds:
        counts = np.minimum(table[name], 1) if name == "stuck" else table[name]
        known = counts >= 0
        _share(axis, table["cycles"][known], counts[known] / trials_each, trials_each, (colour, marker, label))
    share_axis(axis, "share")


def _share(axis: Any, xs: NDArray[Any], wrong: NDArray[Any], trials_each: int, look: tuple[str, str, str]) -> None:
    """Mean of ``wrong`` (0 to 1, one per record) at each distinct x; where it is 0 the bound that this allows."""
    colour, marker, label = look
    at, index, records = np.unique(xs, return_inverse=True, return_counts=True)
    if not len(at):
        return
    share = np.bincount(index.ravel(), weights=wrong, minlength=len(at)) / records
    seen = share > 0.0
    axis.plot(at, np.where(seen, share, np.nan), color=colour, marker=marker, markersize=5, label=label)
    bound = np.minimum(1.0, RULE_OF_THREE / (trials_each * records))
    axis.plot(at[~seen], bound[~seen], "v", color=colour, fillstyle="none", markersize=7)


def retention_curves(records: Records) -> Iterator[TitledFigure]:
    """Both states against the time since programming, and the share of senses that no longer read right."""
    if not records.has("retention", *LOOK, "seconds_s", "storage_c"):
        return
    storage = records.read("retention", "storage_c")["storage_c"]
    stored = np.unique(storage[~np.isnan(storage)])
    title = f", stored at {', '.join(f'{each:g}' for each in stored)} °C" if stored.size else ""
    figure = _looks(records, "retention", "seconds_s", "time since programming (s)", title)
    caption = f"Resistance in both states against the time since programming {LOOK_CAPTION}"
    yield TitledFigure("retention", "Retention", caption, figure)


def read_disturb_curves(records: Records) -> Iterator[TitledFigure]:
    """Both states against the disturbing reads, and the share of senses that no longer read right."""
    if not records.has("read_disturb", *LOOK, "reads", "disturbing"):
        return
    kind = records.parameters.get("kind", "")
    figure = _looks(records, "read_disturb", "reads", "disturbing reads since programming", f", kind {kind}")
    caption = f"Resistance in both states against the disturbing reads {LOOK_CAPTION}"
    yield TitledFigure("read-disturb", "Read disturb", caption, figure)


def _looks(records: Records, name: str, x: str, label: str, title: str) -> Figure:
    """A pattern that is looked at again and again: resistances of both states, and the share of wrong senses."""
    table = records.read(name, *LOOK, x, *(["disturbing"] if name == "read_disturb" else []))
    if "disturbing" in table:
        look = table["disturbing"] == 0
        table = {column: values[look] for column, values in table.items()}
    names = records.flags(name, "state")
    figure, (states, rates) = panels(2, 12.0, 4.8)
    for state, colour, marker in (("LRS", BLUE, "o"), ("HRS", VERMILION, "s")):
        mine = np.array([names[code] == state for code in table["state"]]) & ~np.isnan(table["resistance_ohm"])
        if mine.any():
            keys = np.stack([table[column][mine] for column in ("row", "col", "device")], axis=1)
            xs, curves = pivot(keys, table[x][mine], table["resistance_ohm"][mine])
            banded(states, xs, curves, colour, marker, f"{state}, median of {plural(len(curves), 'device')}")
    ohm_axis(states)
    points, first = np.unique(table["point"], return_index=True)
    _wrong_senses(rates, records, dict(zip(points.tolist(), table[x][first].tolist(), strict=True)))
    share_axis(rates, "share of senses")
    _from_zero((states, rates), label, table[x])
    figure.suptitle(f"{records.title}{title}", fontsize=11)
    return figure


def _wrong_senses(axis: Any, records: Records, x_of_point: dict[int, float]) -> None:
    """Share of wrong senses at each look: in the table of senses the pattern is the index of the look."""
    if not (records.has("senses", "pattern", "sensed") and records.has("patterns", "target")):
        return
    senses, chosen = records.read("senses", "pattern", "sensed"), records.chosen()
    target = records.read("patterns", "target")["target"][-1][chosen]
    known = np.isin(senses["pattern"], list(x_of_point))
    wrong = (senses["sensed"][known][:, chosen] != target).mean(axis=1)
    xs = np.array([x_of_point[point] for point in senses["pattern"][known].tolist()])
    _share(axis, xs, wrong, int(chosen.sum()), (GREEN, "o", "senses that read another weight"))


def _from_zero(axes: tuple[Any, ...], label: str, values: NDArray[Any]) -> None:
    """Logarithmic; from 0 on, and linear up to the first value above it, where something was seen at 0."""
    later = values[values > 0]
    for axis in axes:
        if later.size == values.size:
            axis.set_xscale("log")
        elif later.size:
            least = float(later.min())
            axis.set_xscale("symlog", linthresh=least)
            axis.set_xlim(-0.2 * least, 1.4 * float(values.max()))
        axis.set(xlabel=label)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8.5)
