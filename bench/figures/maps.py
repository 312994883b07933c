"""Figures over the array: one square per cell or device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.figures.records import Records, TitledFigure, plural
from bench.figures.style import UNMEASURED, VERMILION
from bench.procedures.tables import last_passes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE_ORANGE = ("#c75f10", "#e9e9e9", "#1f5a99")
"""Colours of -1, 0 and +1: told apart by every kind of colour vision, and in grey."""
WEIGHT_LABELS = ("−1", "0", "+1")
COUNTS = "YlOrBr"
"""Few are light, many are dark, for every kind of colour vision and in grey."""
VERDICT_FAILED = 2
VERDICT_UNUSED = 0
PANEL_INCHES = 4.3


class Window(NamedTuple):
    """The part of the array that is worth looking at: the rows and columns around the chosen cells."""

    rows: slice
    cols: slice

    @classmethod
    def around(cls, cells: NDArray[np.bool_]) -> Window:
        """The smallest window with all of ``cells``; the whole array where there are none."""
        if not cells.any():
            return cls(slice(0, cells.shape[0]), slice(0, cells.shape[1]))
        rows, cols = (np.flatnonzero(cells.any(axis=axis)) for axis in (1, 0))
        return cls(slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1))

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """For ``imshow``: cell numbers in the middle of the squares, row 0 at the top."""
        return (self.cols.start - 0.5, self.cols.stop - 0.5, self.rows.stop - 0.5, self.rows.start - 0.5)


def array_panels(titles: Sequence[str], window: Window) -> tuple[Figure, Any]:
    """Square panels for the array, with whole numbers along both axes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows, cols = window.rows.stop - window.rows.start, window.cols.stop - window.cols.start
    # A long strip of cells gets a flat figure, and a tall one gets narrow panels.
    height = float(np.clip(PANEL_INCHES * rows / cols, 2.2, 1.4 * PANEL_INCHES)) + 0.6
    figure = Figure(figsize=((PANEL_INCHES + 0.6) * len(titles), height), layout="compressed")
    axes = figure.subplots(1, len(titles), squeeze=False)[0]
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=11)
        axis.set(xlabel="column", ylabel="row")
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def draw(axis: Any, window: Window, values: NDArray[Any], **options: Any) -> Any:
    """Draw ``(rows, cols)`` values; NaN is left in the colour of what was not measured."""
    axis.set_facecolor(UNMEASURED)
    shown = np.ma.masked_invalid(np.asarray(values, dtype=float)[window.rows, window.cols])
    return axis.imshow(shown, extent=window.extent, interpolation="nearest", aspect="equal", **options)


def draw_weights(figure: Figure, axes: Any, window: Window, arrays: Sequence[NDArray[Any]]) -> None:
    """Weights in their three colours, with one bar for all."""
    from matplotlib.colors import BoundaryNorm, ListedColormap

    colours = ListedColormap(BLUE_ORANGE)
    norm = BoundaryNorm([-1.5, -0.5, 0.5, 1.5], colours.N)
    for axis, values in zip(axes, arrays, strict=True):
        image = draw(axis, window, values, cmap=colours, norm=norm)
    bar = figure.colorbar(image, ax=axes, ticks=[-1, 0, 1], fraction=0.046, label="weight")
    bar.ax.set_yticklabels(WEIGHT_LABELS)


def draw_counts(figure: Figure, axis: Any, window: Window, counts: NDArray[Any], label: str, least: int = 0) -> None:
    """Whole numbers per cell, on a scale that begins at ``least`` and has no steps between them."""
    from matplotlib.ticker import MaxNLocator

    top = int(np.nanmax(counts)) if np.isfinite(counts).any() else least
    image = draw(axis, window, counts, cmap=COUNTS, vmin=least, vmax=max(least + 1, top))
    figure.colorbar(image, ax=axis, fraction=0.046, label=label, ticks=MaxNLocator(integer=True))


def resistance_maps(records: Records) -> Iterator[TitledFigure]:
    """Latest resistance of every device, BL and BLB side by side."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import EngFormatter

    if not records.has("resistances", "row", "col", "device", "resistance_ohm"):
        return
    table = records.read("resistances", "row", "col", "device", "resistance_ohm")
    names = records.flags("resistances", "device")
    latest = np.full((*records.geometry(), len(names)), np.nan)
    # Later records write over earlier ones: numpy assigns in order.
    latest[table["row"], table["col"], table["device"]] = table["resistance_ohm"]
    finite = latest[np.isfinite(latest) & (latest > 0.0)]
    if not finite.size:
        return
    window = Window.around(~np.isnan(latest).all(axis=2))
    low, high = np.quantile(finite, (0.01, 0.99))
    figure, axes = array_panels(list(names.values()), window)
    for device, axis in enumerate(axes):
        values = latest[:, :, device]
        image = draw(
            axis,
            window,
            np.where(np.isinf(values), np.nan, values),
            cmap="cividis",
            norm=LogNorm(low, max(high, low * 1.01)),
        )
        for row, col in np.argwhere(np.isinf(values)):
            axis.plot(col, row, "x", color=VERMILION, markersize=5)
    bar = figure.colorbar(image, ax=axes, fraction=0.046, label="resistance (Ω)", extend="both")
    _few_ticks(bar, low, high, EngFormatter(unit="Ω"))
    figure.suptitle(records.title, fontsize=11)
    opened = int(np.isinf(latest).sum())
    caption = (
        f"Latest resistance of {plural(int((~np.isnan(latest)).sum()), 'device')}; colours span the 1st to the 99th "
        "percentile."
    )
    if opened:
        caption += f" A cross: no current flowed ({plural(opened, 'device')})."
    yield TitledFigure("resistance-map", "Resistance map", caption, figure)


def _few_ticks(bar: Any, low: float, high: float, formatter: Any) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100.0 * low else (1.0,)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(formatter)


def forming_maps(records: Records) -> Iterator[TitledFigure]:
    """Supply, or number of pulses, after which each cell was found formed."""
    if not records.has("forming", "pulses", "formed"):
        return
    ramped = records.has("forming", "vddc_v")
    table = records.read("forming", "pulses", "formed", *(["vddc_v"] if ramped else []))
    formed, chosen = table["formed"].astype(bool), records.chosen()
    ever = formed.any(axis=0)
    first = formed.argmax(axis=0)
    window = Window.around(chosen)
    figure, (axis,) = array_panels(
        [f"{int((chosen & ever).sum())} of {plural(int(chosen.sum()), 'cell')} formed"], window
    )
    by_volts = ramped and len(np.unique(table["vddc_v"])) > 1
    if by_volts:
        image = draw(axis, window, np.where(ever, table["vddc_v"][first], np.nan), cmap="cividis")
        figure.colorbar(image, ax=axis, fraction=0.046, label="VDDC at which the whole cell was formed (V)")
    else:
        counts = np.where(ever, table["pulses"][first].astype(float), np.nan)
        draw_counts(figure, axis, window, counts, "forming pulses per device", 1)
    left = chosen & ~ever
    for row, col in np.argwhere(left):
        axis.plot(col, row, "x", color=VERMILION, markersize=5, markeredgewidth=1.6)
    figure.suptitle(records.title, fontsize=11)
    caption = f"{'Column supply' if by_volts else 'Forming pulses'} after which both devices of a cell were formed."
    yield TitledFigure("forming-map", "Forming map", caption + (" A cross: not formed." if left.any() else ""), figure)


def pattern_maps(records: Records) -> Iterator[TitledFigure]:
    """The last pattern as asked for and as read, and how often each cell failed over all patterns."""
    if not records.has("patterns", "pattern", "target", "sensed", "verdict"):
        return
    table = last_passes(records.read("patterns", "pattern", "target", "sensed", "verdict"))
    used = table["verdict"] != VERDICT_UNUSED
    failed = (table["verdict"] == VERDICT_FAILED).sum(axis=0)
    count = len(used)
    shown = used.any(axis=0)
    window = Window.around(shown)
    last = plural(count, "pattern") if count == 1 else f"pattern {count} of {count}"
    figure, axes = array_panels(
        [f"{last}: target", f"{last}: last verify", f"failed: {int(failed.sum())} of {int(used.sum())}"], window
    )
    weights = [np.where(used[-1], table[name][-1], np.nan) for name in ("target", "sensed")]
    draw_weights(figure, axes[:2], window, weights)
    draw_counts(figure, axes[2], window, np.where(shown, failed, np.nan), "patterns in which the cell failed")
    figure.suptitle(records.title, fontsize=11)
    caption = "Weights asked for, weights read by the last verify, and how often each cell failed over all patterns."
    yield TitledFigure("patterns", "Patterns", caption, figure)


def sense_maps(records: Records) -> Iterator[TitledFigure]:
    """Mean weight over the senses of the last pattern, and which cells are unsteady."""
    if not records.has("senses", "sensed"):
        return
    columns = ["sensed"] + (["pattern"] if records.has("senses", "pattern") else [])
    table = records.read("senses", *columns)
    pattern = table.get("pattern", np.zeros(len(table["sensed"]), dtype=int))
    sensed = table["sensed"]
    last = sensed[pattern == pattern[-1]]
    unsteady = np.zeros(sensed.shape[1:])
    for each in np.unique(pattern):
        group = sensed[pattern == each]
        unsteady += (group != group[0]).any(axis=0)
    chosen = records.chosen()
    window = Window.around(chosen)
    titles = [f"mean of {plural(len(last), 'sense')}", f"{int((unsteady[chosen] > 0).sum())} unsteady cells"]
    figure, axes = array_panels(titles, window)
    image = draw(axes[0], window, last.mean(axis=0), cmap=diverging(), vmin=-1, vmax=1)
    figure.colorbar(image, ax=axes[0], fraction=0.046, label="weight, mean of its senses", ticks=[-1, 0, 1])
    draw_counts(figure, axes[1], window, unsteady, "patterns in which the senses differ")
    figure.suptitle(records.title, fontsize=11)
    caption = "Weight read through the sense amplifiers, and in how many patterns the senses of a cell differ."
    yield TitledFigure("senses", "Senses", caption, figure)


def diverging() -> Any:
    """Colours from -1 over 0 to +1, those of the weights at the three."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("weights", BLUE_ORANGE)


def tile_maps(records: Records) -> Iterator[TitledFigure]:
    """The first tile of a network as asked for and as read back, and errors per cell over all tiles."""
    if not records.has("tiles", "target", "sensed", "verdict"):
        return
    yield TitledFigure(
        "tiles",
        "Tiles of the network",
        "Weights asked for, weights read back, and in how many tiles each cell of the array failed.",
        tiles_figure(records, records.title),
    )


def tiles_figure(records: Records, title: str) -> Figure:
    """Target and read-back of the first tile, and errors per array cell over all tiles."""
    tiles = records.read("tiles", "target", "sensed", "verdict")
    used = tiles["verdict"] != VERDICT_UNUSED
    wrong = (tiles["verdict"] == VERDICT_FAILED).sum(axis=0)
    window = Window.around(np.ones(used.shape[1:], dtype=bool))
    figure, axes = array_panels(
        [
            f"tile 1 of {len(used)}: target",
            f"tile 1 of {len(used)}: read back",
            f"errors: {int(wrong.sum())} of {int(used.sum())} cells in all tiles",
        ],
        window,
    )
    weights = [np.where(used[0], tiles[name][0], np.nan) for name in ("target", "sensed")]
    draw_weights(figure, axes[:2], window, weights)
    draw_counts(figure, axes[2], window, np.where(used.any(axis=0), wrong, np.nan), "tiles in which the cell failed")
    figure.suptitle(title, fontsize=11)
    return figure
