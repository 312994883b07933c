"""A picture of a plan: for each layer its tiles as they lie on the array, with what is known of the chip's cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.figures.maps import WEIGHT_LABELS
from bench.figures.records import plural
from bench.figures.style import BLACK, DPI
from bench.mapping import NONE, Plan, Tile
from data.atomic import replacing
from models.cells import Geometry, Weights
from models.integer import IntegerNetwork

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.error_map import ErrorMap

Extent = tuple[float, float, float, float]
"""Left, right, bottom and top."""

ACROSS = 8
"""Tiles beside each other."""

DOWN = 10
"""Rows of tiles in all: what does not fit is left out, and the picture says so."""

COLOURS = ("#e2a477", "#dcdcdc", "#7b9fc6")
"""Of -1, 0 and +1: as everywhere, but light enough for marks to be seen on them."""
WASTED, PADDING, EDGE = "#ffffff", "#b5d6a7", "#9a9a9a"
TILE_INCHES, GAP_INCHES, TITLE_INCHES = 1.35, 0.24, 0.36
MOST_MARKS = 400
"""Stuck cells that are marked on a tile one by one; with more the tile could not be seen."""


def plan_picture(plan: Plan, network: IntegerNetwork, path: Path, error_map: ErrorMap | None = None) -> Path:
    """Draw a plan into a PNG.

    Raises:
        UserMistake: it cannot be written there.
    """
    with replacing(path, "picture") as partial:
        plan_figure(plan, network, error_map).savefig(partial, dpi=DPI, format="png")
    return path


def plan_figure(plan: Plan, network: IntegerNetwork, error_map: ErrorMap | None = None) -> Figure:
    """The tiles of each layer, the first of them where there are many, with their weights in colours.

    Args:
        error_map: of the chip; its stuck cells are marked on every tile that has a weight there.
    """
    from matplotlib.figure import Figure

    shown_layers = min(len(network.layers), DOWN)
    lines = _lines([len(plan.of_layer(index)) for index in range(shown_layers)])
    high = TILE_INCHES * float(np.clip(plan.array.rows / plan.array.cols, 0.5, 1.5))
    step = np.array([TILE_INCHES + GAP_INCHES, high + 0.1])
    size = np.array([0.4 + ACROSS * step[0], 1.15 + sum(lines) * step[1] + TITLE_INCHES * shown_layers])
    figure = Figure(figsize=tuple(size))
    # one set of axes in inches for everything: one for each tile would take seconds
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set(xlim=(0.0, size[0]), ylim=(0.0, size[1]))
    axes.text(0.2, size[1] - 0.3, _title(plan, shown_layers, len(network.layers)), fontsize=10)
    top = size[1] - 0.4
    for index in range(shown_layers):
        tiles = plan.of_layer(index)[: lines[index] * ACROSS]
        axes.text(0.2, top - 0.26, _layer_title(plan, network, index, len(tiles)), fontsize=8.5)
        top -= TITLE_INCHES
        for place, (number, tile) in enumerate(tiles):
            down, across = divmod(place, ACROSS)
            left, bottom = 0.4 + across * step[0], top - down * step[1] - high
            extent = (left, left + TILE_INCHES, bottom, bottom + high)
            _draw_tile(axes, extent, plan.array, tile, network.layers[index].weights, error_map)
            axes.text(left - 0.03, bottom + high, str(number + 1), fontsize=6, ha="right", va="top")
        top -= lines[index] * step[1]
    _legend(figure, error_map)
    return figure


def _lines(tiles: list[int]) -> list[int]:
    """Rows of tiles for each layer: one at least, and the rest to the layers that are not yet shown whole."""
    wanted = [-(-count // ACROSS) for count in tiles]
    given = [1] * len(tiles)
    while sum(given) < DOWN and (short := [i for i, lines in enumerate(given) if lines < wanted[i]]):
        given[min(short, key=lambda i: given[i])] += 1
    return given


def _title(plan: Plan, shown: int, layers: int) -> str:
    cells = len(plan.tiles) * plan.array.cells
    chip = "any chip" if plan.chip_id is None else f"chip {plan.chip_id}"
    text = (
        f"{plan.network} on {plan.array.rows} × {plan.array.cols} cells of {chip}: {plural(len(plan.tiles), 'tile')}, "
        f"{plan.used} cells used, {plan.wasted} ({plan.wasted / cells:.0%}) left unused"
    )
    return text if shown == layers else f"{text}; layers 1 to {shown} of {layers}"


def _layer_title(plan: Plan, network: IntegerNetwork, index: int, shown: int) -> str:
    layer, tiles = network.layers[index], plan.of_layer(index)
    rows, cols = layer.weights.shape
    used = sum(tile.cells for _, tile in tiles)
    share = used / (len(tiles) * plan.array.cells)
    which = plural(len(tiles), "tile") if shown == len(tiles) else f"the first {shown} of {len(tiles)} tiles"
    return f"layer {index + 1}, {layer.kind}, matrix {rows} × {cols}: {which}, {share:.0%} of their cells used"


def _draw_tile(
    axes: Any, extent: Extent, array: Geometry, tile: Tile, weights: Weights, error_map: ErrorMap | None
) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    target, _ = tile.on_array(weights, array)
    held = np.zeros(array, dtype=bool)
    pads = np.zeros(array, dtype=bool)
    rows, cols = tile.geometry
    held[:rows, :cols] = tile.held
    pads[:rows, :cols] = (tile.rows != NONE)[:, None] & tile.pads[None, :]
    picture = np.broadcast_to(to_rgb(WASTED), (*array, 3)).copy()
    picture[held] = np.array([to_rgb(colour) for colour in COLOURS])[target[held] + 1]
    picture[pads] = to_rgb(PADDING)
    axes.imshow(picture, interpolation="nearest", extent=extent, aspect="auto", zorder=1)
    left, right, bottom, top = extent
    axes.add_patch(Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor=EDGE, linewidth=0.6))
    if error_map is None:
        return
    agrees = error_map.stuck_value == target
    for cells, inside in ((held & agrees, "none"), (held & ~agrees, BLACK)):
        at = np.argwhere(error_map.stuck & cells)[:MOST_MARKS] + 0.5
        x, y = left + (right - left) * at[:, 1] / array.cols, top - (top - bottom) * at[:, 0] / array.rows
        axes.scatter(x, y, s=11.0, marker="o", facecolors=inside, edgecolors=BLACK, linewidths=0.8, zorder=2)


def _legend(figure: Figure, error_map: ErrorMap | None) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=colour, edgecolor=EDGE, label=f"weight {label}")
        for colour, label in zip(COLOURS, WEIGHT_LABELS, strict=True)
    ]
    handles.append(Patch(facecolor=WASTED, edgecolor=EDGE, label="not used"))
    handles.append(Patch(facecolor=PADDING, edgecolor=EDGE, label="padding"))
    if error_map is not None:
        marks = (("stuck cell that reads its weight", "none"), ("stuck cell that reads another", BLACK))
        handles += [
            Line2D([], [], linestyle="", marker="o", markerfacecolor=inside, markeredgecolor=BLACK, label=label)
            for label, inside in marks
        ]
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.01, 0.0), ncols=4, fontsize=7.5, frameon=False)
