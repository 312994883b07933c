"""Figures of a wafer: where its good dies are, and how what was fitted differs over it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.figures.records import TitledFigure, plural
from bench.figures.style import BLUE, GREY, ORANGE, UNMEASURED, VERMILION, panels
from bench.wafer_results import FORMED, WaferRecord, outline, radii
from drivers.prober_role import Die

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAPS_IN_A_ROW = 3
GAP = 0.06
"""Between two dies, of a die."""


def wafer_figures(record: WaferRecord) -> Iterator[TitledFigure]:
    """Verdicts, then everything that was fitted: as maps, and against the radius where dies can be told apart."""
    yield _verdicts(record)
    names = list(record.units)
    if names:
        yield _maps(record, names)
    told = {name: across for name in names if name != FORMED and (across := record.across(name)) is not None}
    if told:
        yield _against_radius(record, list(told))


def label(name: str, unit: str) -> str:
    """Name of a quantity with its unit, as on an axis."""
    shown = {"ohm": "Ω", "1": ""}.get(unit, unit)
    return f"{name} ({shown})" if shown else name


def _grid(count: int, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    rows = -(-count // MAPS_IN_A_ROW)
    figure = Figure(figsize=(12.0, height * rows), layout="constrained")
    axes = figure.subplots(rows, MAPS_IN_A_ROW, squeeze=False).ravel()
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def _wafer(axis: Any, record: WaferRecord, title: str) -> None:
    """The outline of the wafer, with column and row numbers."""
    from matplotlib.patches import Circle
    from matplotlib.ticker import MaxNLocator

    x, y, reach = outline(record.route)
    axis.add_patch(Circle((x, y), reach, fill=False, color=GREY))
    axis.set(xlim=(x - reach - 0.2, x + reach + 0.2), ylim=(y + reach + 0.2, y - reach - 0.2), aspect="equal")
    axis.set(xlabel="column", ylabel="row")
    axis.set_title(title, fontsize=11)
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_locator(MaxNLocator(nbins=7, integer=True))


def _die(axis: Any, die: Die, colour: Any, hatch: str = "") -> None:
    from matplotlib.patches import Rectangle

    side = 1.0 - GAP
    corner = (die.column - side / 2.0, die.row - side / 2.0)
    axis.add_patch(Rectangle(corner, side, side, facecolor=colour, edgecolor="#666666", linewidth=0.5, hatch=hatch))


def _mark_failed(axis: Any, record: WaferRecord, die: Die) -> None:
    """A cross on a die that could not be measured to the end."""
    found = record.record_of.get(die)
    if found is not None and found.failed:
        axis.plot(die.column, die.row, "x", color=VERMILION, markersize=6)


def _verdicts(record: WaferRecord) -> TitledFigure:
    from matplotlib.patches import Patch

    figure, (axis, rings) = panels(2, height=5.0)
    axis.grid(visible=False)
    _wafer(axis, record, f"dies of wafer {record.wafer}")
    looks = {"good": (BLUE, ""), "not good": (ORANGE, "//"), "not measured": (UNMEASURED, "")}
    known = record.record_of
    for place in record.route:
        verdict = "not measured"
        if place in known:
            verdict = "not good" if record.criteria.faults(known[place]) else "good"
        _die(axis, place, *looks[verdict])
        _mark_failed(axis, record, place)
    axis.legend(
        handles=[
            Patch(facecolor=face, hatch=hatch, edgecolor="#666666", label=name) for name, (face, hatch) in looks.items()
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.12),
        ncols=3,
        fontsize=9,
        frameon=False,
    )
    _rings(rings, record)
    caption = (
        f"{record.good} of {plural(len(record.dies), 'measured die')} good, {len(record.route)} on the prober's map. "
        "A cross: the die could not be measured to the end."
    )
    return TitledFigure("wafer-verdicts", "Good dies", caption, figure)


def _rings(axis: Any, record: WaferRecord) -> None:
    """Share of good dies within rings of equal area, since defects gather at the edge."""
    radius = radii(record.route, [die.die for die in record.dies])
    good = np.array([not record.criteria.faults(die) for die in record.dies])
    edges = np.sqrt(np.linspace(0.0, 1.0, 4))
    axis.set_title("share of good dies in rings of equal area", fontsize=11)
    axis.set(xlabel="radius (of the wafer)", ylabel="good dies (%)", ylim=(0.0, 105.0), xlim=(0.0, 1.0))
    for inner, outer in pairwise(edges):
        inside = (radius >= inner) & (radius < outer if outer < 1.0 else radius <= outer)
        if inside.any():
            share = 100.0 * good[inside].mean()
            axis.bar((inner + outer) / 2, share, width=(outer - inner) * 0.94, color=BLUE, alpha=0.7)
            axis.text(
                (inner + outer) / 2, share / 2, f"{good[inside].sum()} of {inside.sum()}", ha="center", fontsize=9
            )


def _maps(record: WaferRecord, names: list[str]) -> TitledFigure:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import EngFormatter

    units = record.units
    figure, axes = _grid(len(names), 3.5)
    for axis, name in zip(axes, names, strict=True):
        values = record.values(name)
        _wafer(axis, record, label(name, units[name]))
        norm, colours = Normalize(*record.scale(name), clip=True), colormaps["cividis"]
        for place in record.route:
            _die(axis, place, colours(norm(values[place])) if place in values else UNMEASURED)
            _mark_failed(axis, record, place)
        bar = figure.colorbar(ScalarMappable(norm, colours), ax=axis, fraction=0.046)
        if units[name] == "ohm":
            bar.ax.yaxis.set_major_formatter(EngFormatter())
    caption = (
        "Values that were fitted on each die; what is pale was not measured, or could not be fitted. A cross: the die "
        "failed; colours span the others, but for those that are far off."
    )
    return TitledFigure("wafer-maps", "Maps of what was fitted", caption, figure)


def _against_radius(record: WaferRecord, names: list[str]) -> TitledFigure:
    from matplotlib.ticker import EngFormatter

    units = record.units
    figure, axes = _grid(len(names), 3.4)
    for axis, name in zip(axes, names, strict=True):
        told = [die for die in record.dies if name in die.parameters]
        radius = radii(record.route, [die.die for die in told])
        found = [die.parameters[name] for die in told]
        value, low, high = (np.array([getattr(one, key) for one in found]) for key in ("value", "low", "high"))
        bars = np.maximum([value - low, high - value], 0.0)
        axis.errorbar(radius, value, bars, fmt="o", color=BLUE, ecolor=GREY, markersize=4, linewidth=0.8)
        across = record.across(name)
        assert across is not None
        grid = np.linspace(0.0, 1.0, 50)
        axis.plot(grid, across.bowl(grid), color=VERMILION, linewidth=1.5)
        axis.set(xlabel="radius (of the wafer)", xlim=(-0.02, 1.02))
        axis.set_title(label(name, units[name]), fontsize=11)
        axis.grid(True, color="#dddddd", linewidth=0.6)
        if units[name] == "ohm":
            axis.yaxis.set_major_formatter(EngFormatter())
    caption = (
        "Each die with the 95 % interval of its fit, and a bowl fitted to all of them, which goes with the square of "
        "the radius."
    )
    return TitledFigure("wafer-radius", "From the middle to the edge", caption, figure)
