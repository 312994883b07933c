"""A picture of a plan: the tiles of each layer as they lie on the array, chip by chip, with what is known of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench.figures.maps import WEIGHT_LABELS
from bench.figures.records import plural
from bench.figures.style import BLACK, DPI
from bench.mapping import NONE, Plan, Tile
from bench.several_chips import SharedPlan
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


class _Block(NamedTuple):
    """The tiles of one layer on one chip."""

    part: Plan
    error_map: ErrorMap | None
    layer: int
    tiles: list[tuple[int, Tile]]

    @property
    def high(self) -> float:
        """Height of a tile in inches."""
        return TILE_INCHES * float(np.clip(self.part.array.rows / self.part.array.cols, 0.5, 1.5))


def plan_picture(
    plan: Plan | SharedPlan, network: IntegerNetwork, path: Path, error_maps: Mapping[str, ErrorMap] | None = None
) -> Path:
    """Draw a plan into a PNG.

    Raises:
        UserMistake: it cannot be written there.
    """
    with replacing(path, "picture") as partial:
        plan_figure(plan, network, error_maps).savefig(partial, dpi=DPI, format="png")
    return path


def plan_figure(
    plan: Plan | SharedPlan, network: IntegerNetwork, error_maps: Mapping[str, ErrorMap] | None = None
) -> Figure:
    """The tiles of each layer, chip by chip, the first of them where there are many, with their weights in colours.

    Args:
        error_maps: by the names of the chips; their stuck cells are marked on every tile that has a weight there.
    """
    from matplotlib.figure import Figure

    parts = (plan,) if isinstance(plan, Plan) else plan.parts
    known = {} if error_maps is None else error_maps
    blocks = [
        _Block(part, None if part.chip_id is None else known.get(part.chip_id), index, part.of_layer(index))
        for index in range(len(network.layers))
        for part in parts
        if part.of_layer(index)
    ]
    shown = blocks[:DOWN]
    lines = _lines([len(block.tiles) for block in shown])
    across = TILE_INCHES + GAP_INCHES
    height = sum(count * (block.high + 0.1) for count, block in zip(lines, shown, strict=True))
    size = np.array([0.4 + ACROSS * across, 1.15 + height + TITLE_INCHES * len(shown)])
    figure = Figure(figsize=tuple(size))
    # one set of axes in inches for everything: one for each tile would take seconds
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set(xlim=(0.0, size[0]), ylim=(0.0, size[1]))
    axes.text(0.2, size[1] - 0.3, _title(plan, network, len(shown), len(blocks)), fontsize=10)
    top = size[1] - 0.4
    for count, block in zip(lines, shown, strict=True):
        tiles = block.tiles[: count * ACROSS]
        chip = "" if len(parts) == 1 else f", {_chip(parts, block.part)}"
        axes.text(0.2, top - 0.26, _block_title(block, network, len(tiles), chip), fontsize=8.5)
        top -= TITLE_INCHES
        for place, (number, tile) in enumerate(tiles):
            down, right = divmod(place, ACROSS)
            left, bottom = 0.4 + right * across, top - down * (block.high + 0.1) - block.high
            extent = (left, left + TILE_INCHES, bottom, bottom + block.high)
            weights = network.layers[block.layer].weights
            _draw_tile(axes, extent, block.part.array, tile, weights, block.error_map)
            axes.text(left - 0.03, bottom + block.high, str(number + 1), fontsize=6, ha="right", va="top")
        top -= count * (block.high + 0.1)
    _legend(figure, any(block.error_map is not None for block in shown))
    return figure


def _lines(tiles: list[int]) -> list[int]:
    """Rows of tiles for each block: one at least, and the rest to the blocks that are not yet shown whole."""
    wanted = [-(-count // ACROSS) for count in tiles]
    given = [1] * len(tiles)
    while sum(given) < DOWN and (short := [i for i, lines in enumerate(given) if lines < wanted[i]]):
        given[min(short, key=lambda i: given[i])] += 1
    return given


def _chip(parts: Sequence[Plan], part: Plan) -> str:
    """How a chip is called: by its name, or by its place in the plan."""
    return f"chip {part.chip_id}" if part.chip_id is not None else f"chip {parts.index(part) + 1}"


def _title(plan: Plan | SharedPlan, network: IntegerNetwork, shown: int, blocks: int) -> str:
    if isinstance(plan, Plan):
        parts: Sequence[Plan] = (plan,)
        chip = "any chip" if plan.chip_id is None else f"chip {plan.chip_id}"
        arrays = f"{plan.array.rows} × {plan.array.cols} cells of {chip}"
        left_out = f"layers 1 to {shown} of {len(network.layers)}"
    else:
        parts = plan.parts
        sizes = (f"{_chip(parts, part)} ({part.array.rows} × {part.array.cols})" for part in parts)
        arrays = ", ".join(sizes)
        left_out = f"the first {shown} of {blocks} shares"
    tiles, used = sum(len(part.tiles) for part in parts), sum(part.used for part in parts)
    wasted = sum(part.wasted for part in parts)
    text = (
        f"{plan.network} on {arrays}: {plural(tiles, 'tile')}, {used} cells used, {wasted} "
        f"({wasted / (used + wasted):.0%}) left unused"
    )
    return text if shown == blocks else f"{text}; {left_out}"


def _block_title(block: _Block, network: IntegerNetwork, shown: int, chip: str) -> str:
    layer, tiles = network.layers[block.layer], block.tiles
    rows, cols = layer.weights.shape
    used = sum(tile.cells for _, tile in tiles)
    share = used / (len(tiles) * block.part.array.cells)
    which = plural(len(tiles), "tile") if shown == len(tiles) else f"the first {shown} of {len(tiles)} tiles"
    return (
        f"layer {block.layer + 1}, {layer.kind}, matrix {rows} × {cols}{chip}: {which}, {share:.0%} of their cells used"
    )


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


def _legend(figure: Figure, stuck: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=colour, edgecolor=EDGE, label=f"weight {label}")
        for colour, label in zip(COLOURS, WEIGHT_LABELS, strict=True)
    ]
    handles.append(Patch(facecolor=WASTED, edgecolor=EDGE, label="not used"))
    handles.append(Patch(facecolor=PADDING, edgecolor=EDGE, label="padding"))
    if stuck:
        marks = (("stuck cell that reads its weight", "none"), ("stuck cell that reads another", BLACK))
        handles += [
            Line2D([], [], linestyle="", marker="o", markerfacecolor=inside, markeredgecolor=BLACK, label=label)
            for label, inside in marks
        ]
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.01, 0.0), ncols=4, fontsize=7.5, frameon=False)
