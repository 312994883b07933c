"""Figures of how often something is read right: bit errors, sense shmoo, XNOR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.figures.maps import Window, array_panels, diverging, draw, draw_counts
from bench.figures.records import Arrays, Records, TitledFigure, plural
from bench.figures.style import BLUE, GREY, VERMILION, looks, panels, share_axis

Floats = NDArray[np.float64]

RATE_LEVELS = (0, 10, 25, 50, 75, 90, 95, 99, 100)
MOST_GROUPS = 7
TYPE_LABELS = {"errors": "all errors", "type1": "sign inverted", "type2": "±1 undecided", "type3": "0 not undecided"}


def bit_error_rates(records: Records) -> Iterator[TitledFigure]:
    """Bit error rate against what was varied, with 95 % intervals, and where in the array the errors lie."""
    if not records.has("bit_errors", "condition", "pattern", "target", "sensed") or not records.has("conditions"):
        return
    conditions = _conditions(records)
    rates = _rates(records, conditions["condition"])
    varied = [name for name, values in conditions.items() if name != "condition" and len(_distinct(values)) > 1]
    varied = [name for name in varied if name != "asked_temperature_c"]
    figure, (axis,) = panels(1, 8.6, 4.8)
    if varied:
        _against_condition(axis, records, conditions, rates, varied)
    else:
        _by_type(axis, rates)
    share_axis(axis, "bit error rate")
    axis.set_title(records.title, fontsize=11)
    caption = (
        "Share of wrong reads after one programming pass, with 95 % intervals that count the cells as independent "
    )
    caption += "and the reads of one cell as not. A hollow triangle: no error was seen, and the rate is below it."
    yield TitledFigure("bit-error-rate", "Bit error rate", caption, figure)
    yield from _bit_error_map(records)


def _conditions(records: Records) -> Arrays:
    names = [column.name for column in records.run.tables["conditions"].columns if not column.dims]
    table = records.read("conditions", *names)
    table.pop("part")
    # A resumed run records a condition again; the latest counts.
    _, first = np.unique(table["condition"][::-1], return_index=True)
    return {name: values[::-1][first] for name, values in table.items()}


def _distinct(values: NDArray[Any]) -> NDArray[Any]:
    return np.unique(values[~np.isnan(values)] if values.dtype.kind == "f" else values)


def _rates(records: Records, conditions: NDArray[Any]) -> list[dict[str, Any]]:
    from bench.procedures.error_rates import ErrorCounts

    table = records.read("bit_errors", "condition", "target", "sensed")
    chosen = records.chosen()
    found = []
    for condition in conditions:
        counts = ErrorCounts(chosen)
        for index in np.flatnonzero(table["condition"] == condition):
            counts.add(table["target"][index], table["sensed"][index][None])
        found.append(counts.summary())
    return found


def _against_condition(
    axis: Any, records: Records, conditions: Arrays, rates: Sequence[dict[str, Any]], varied: list[str]
) -> None:
    varied.sort(key=lambda name: -len(_distinct(conditions[name])))
    first, others = varied[0], varied[1:]
    column = records.run.tables["conditions"].column(first)
    labels = [", ".join(f"{name} = {conditions[name][i]:g}" for name in others) for i in range(len(rates))]
    groups = list(dict.fromkeys(labels))
    for group, (colour, marker) in zip(groups[:MOST_GROUPS], looks(MOST_GROUPS), strict=False):
        mine = [i for i, label in enumerate(labels) if label == group and "errors" in rates[i]]
        _interval(axis, conditions[first][mine], [rates[i]["errors"] for i in mine], colour, marker, group)
    values = conditions[first]
    if (values > 0).all() and values.max() > 20.0 * values.min():
        axis.set_xscale("log")
    elif first == "cycles":
        axis.set_xscale("symlog", linthresh=1)
    unit = "" if column.units == "1" else f" ({column.units})"
    axis.set(xlabel=f"{column.description}{unit}")
    if groups != [""]:
        axis.legend(fontsize=8.5, title=f"{MOST_GROUPS} of {len(groups)}" if len(groups) > MOST_GROUPS else None)


def _by_type(axis: Any, rates: Sequence[dict[str, Any]]) -> None:
    kinds = [kind for kind in TYPE_LABELS if kind in rates[0]]
    for place, (kind, (colour, marker)) in enumerate(zip(kinds, looks(len(kinds)), strict=True)):
        _interval(axis, np.array([place]), [rates[0][kind]], colour, marker, "")
    axis.set_xticks(range(len(kinds)), [TYPE_LABELS[kind] for kind in kinds])
    axis.set(xlim=(-0.6, len(kinds) - 0.4))


def _interval(
    axis: Any, xs: NDArray[Any], rates: Sequence[dict[str, Any]], colour: str, marker: str, label: str
) -> None:
    seen = np.array([rate["rate"] is not None for rate in rates], dtype=bool)
    value = np.array([rate["high"] if rate["rate"] is None else rate["rate"] for rate in rates], dtype=float)
    low, high = (np.array([rate[side] for rate in rates], dtype=float) for side in ("low", "high"))
    spread = np.maximum(0.0, [(value - low)[seen], (high - value)[seen]])
    axis.errorbar(
        xs[seen],
        value[seen],
        yerr=spread,
        fmt=f"{marker}-",
        color=colour,
        capsize=3,
        label=label if label else None,
    )
    axis.plot(xs[~seen], value[~seen], "v", color=colour, fillstyle="none", markersize=9)


def _bit_error_map(records: Records) -> Iterator[TitledFigure]:
    table = records.read("bit_errors", "target", "sensed")
    chosen = records.chosen()
    wrong = np.where(chosen, (table["sensed"] != table["target"]).sum(axis=0), np.nan)
    window = Window.around(chosen)
    total = int(np.nansum(wrong))
    figure, (axis,) = array_panels([f"{plural(total, 'error')} in {len(table['target'])} reads of each cell"], window)
    draw_counts(figure, axis, window, wrong, "wrong reads")
    figure.suptitle(records.title, fontsize=11)
    caption = "Wrong reads of each cell, over all patterns and conditions."
    yield TitledFigure("bit-error-map", "Bit error map", caption, figure)


def shmoos(records: Records) -> Iterator[TitledFigure]:
    """How often each kind of weight is read right, against core supply and sense window."""
    if not records.has("shmoo", "vdd_v", "window_s", "plus", "minus", "undecided") or not records.has("patterns"):
        return
    from matplotlib.colors import BoundaryNorm

    table = records.read("shmoo", "vdd_v", "window_s", "plus", "minus", "undecided")
    target, chosen = records.read("patterns", "target")["target"][-1], records.chosen()
    right = np.where(target > 0, table["plus"], np.where(target < 0, table["minus"], table["undecided"]))
    senses = table["plus"] + table["minus"] + table["undecided"]
    kinds = {
        "+1 and −1 read right": chosen & (target != 0),
        "0 read as undecided": chosen & (target == 0),
        "all weights": chosen,
    }
    kinds = {name: cells for name, cells in kinds.items() if cells.any()}
    if len(kinds) == 2:
        kinds.pop("all weights")
    supplies, x = np.unique(table["vdd_v"], return_inverse=True)
    windows, y = np.unique(table["window_s"], return_inverse=True)
    figure, axes = panels(len(kinds), 4.6 * len(kinds) + 1.0)
    norm = BoundaryNorm(RATE_LEVELS, 256)
    for axis, (title, cells) in zip(axes, kinds.items(), strict=True):
        share = np.full((len(windows), len(supplies)), np.nan)
        share[y, x] = 100.0 * right[:, cells].sum(axis=1) / np.maximum(1, senses[:, cells].sum(axis=1))
        image = axis.pcolormesh(
            _edges(supplies), np.exp(_edges(np.log(windows))) * 1e9, share, cmap="cividis", norm=norm
        )
        axis.grid(False)
        axis.set(yscale="log", title=title, xlabel="core supply VDD (V)", ylabel="sense window (ns)")
        if len(supplies) <= 8:
            axis.set_xticks(supplies, [f"{volts:g}" for volts in supplies])
    figure.colorbar(image, ax=list(axes), ticks=RATE_LEVELS, label="senses read right (%)", fraction=0.03, pad=0.01)
    figure.suptitle(records.title, fontsize=11)
    caption = (
        f"Share of senses that read {plural(int(chosen.sum()), 'cell')} right, against core supply and sense window."
    )
    yield TitledFigure("shmoo", "Sense shmoo", caption, figure)


def _edges(values: Floats) -> Floats:
    """Borders of squares around rising values: half-way between them, and as far beyond the first and the last."""
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    middle = (values[1:] + values[:-1]) / 2.0
    return np.concatenate([[2.0 * values[0] - middle[0]], middle, [2.0 * values[-1] - middle[-1]]])


def xnor_tables(records: Records) -> Iterator[TitledFigure]:
    """Which cells do not XNOR, and sums of random vectors against the exact product."""
    if not records.has("xnor", "weight", "input", "wrong", "output"):
        return
    table = records.read("xnor", "weight", "input", "output", "wrong")
    chosen = records.chosen()
    window = Window.around(chosen)
    titles = [
        f"weight {weight:+d}, input {sign:+d}: {int(wrong.sum())} wrong".replace("-", "−")
        for weight, sign, wrong in zip(table["weight"], table["input"], table["wrong"], strict=True)
    ]
    figure, axes = array_panels(titles, window)
    for axis, output in zip(axes, table["output"], strict=True):
        image = draw(axis, window, output, cmap=diverging(), vmin=-1, vmax=1)
    figure.colorbar(image, ax=list(axes), ticks=[-1, 0, 1], fraction=0.02, label="output, mean of its senses")
    figure.suptitle(records.title, fontsize=11)
    caption = "Output of each selected cell for both weights and both inputs: the product of the two where it works."
    yield TitledFigure("xnor", "XNOR truth table", caption, figure)
    yield from _products(records)


def _products(records: Records) -> Iterator[TitledFigure]:
    from matplotlib.ticker import MaxNLocator

    if not records.has("xnor_vectors", "expected", "sum"):
        return
    table = records.read("xnor_vectors", "expected", "sum")
    rows = records.chosen().any(axis=1)
    pairs = np.stack([table["expected"][:, rows].ravel(), table["sum"][:, rows].ravel()], axis=1)
    points, counts = np.unique(pairs, axis=0, return_counts=True)
    right = points[:, 0] == points[:, 1]
    figure, (axis,) = panels(1, 6.0, 5.2)
    ends = [int(points.min()) - 1, int(points.max()) + 1]
    axis.plot(ends, ends, color=GREY, linewidth=1.0, zorder=1)
    for chosen, colour, label in ((right, BLUE, "exact"), (~right, VERMILION, "wrong")):
        size = 12.0 + 90.0 * np.sqrt(counts[chosen] / counts.max())
        text = f"{label}: {counts[chosen].sum()} of {counts.sum()} sums"
        axis.scatter(points[chosen, 0], points[chosen, 1], s=size, color=colour, alpha=0.8, label=text, linewidths=0)
    axis.set(xlabel="exact product of weights and inputs", ylabel="agreements minus disagreements, as measured")
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axis.legend(fontsize=9, loc="upper left", markerscale=0.6)
    axis.set_title(records.title, fontsize=11)
    caption = "Sums of random inputs over random weights against the exact product; big dots stand for many sums."
    yield TitledFigure("xnor-sums", "XNOR sums", caption, figure)
