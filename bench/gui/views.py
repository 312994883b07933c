"""The ways in which the array can be looked at: which colour every cell has, and what the colours mean. No Qt here.

Colours are told apart by people of every colour vision, and most of them in grey too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.figures.maps import BLUE_ORANGE
from bench.gui.array_state import DEVICE_NAMES, ArrayState
from drivers.chip import Verdict
from models.cells import Device

MINUS, _, PLUS = BLUE_ORANGE
ZERO, BLANK, BLACK = "#f3e3b3", "#d3d8de", "#16181c"
GOOD, BAD = "#8fb8de", "#b3400a"

DEFAULT_DECADES = (3, 6)


@dataclass(frozen=True)
class Category:
    """One meaning and its colour."""

    label: str
    colour: str


@dataclass(frozen=True)
class CategoryView:
    """A view with a few meanings.

    Attributes:
        name: as on its button.
        help: one line.
        categories: in the order of the legend.
        codes: ``(rows, cols)`` index of each cell's category.
    """

    name: str
    help: str
    categories: tuple[Category, ...]
    codes: Callable[[ArrayState], NDArray[np.intp]]


@dataclass(frozen=True)
class LogView:
    """A view of a positive quantity on a logarithmic scale.

    Attributes:
        name: as on its button.
        help: one line.
        quantity: what the scale shows.
        unit: SI unit of the scale.
        colour_map: name of a perceptually uniform map that colour-blind people can read.
        missing, infinite: what NaN and infinity mean, and their colours.
        values: ``(rows, cols)`` of the quantity.
    """

    name: str
    help: str
    quantity: str
    unit: str
    colour_map: str
    missing: Category
    infinite: Category
    values: Callable[[ArrayState], NDArray[np.float64]]


View = CategoryView | LogView


def _sensed(state: ArrayState) -> NDArray[np.intp]:
    read = state.sensed
    undecided = (read == 0) & (state.target != 0)
    return np.select([read == 1, undecided, read == 0, read == -1], [0, 3, 1, 2], 4)


def _targets(state: ArrayState) -> NDArray[np.intp]:
    asked = state.target
    return np.select([asked == 1, asked == 0, asked == -1], [0, 1, 2], 3)


def _errors(state: ArrayState) -> NDArray[np.intp]:
    undecided = state.wrong & (state.sensed == 0)
    return np.select([undecided, state.wrong, state.compared], [2, 1, 0], 3)


def _verdicts(state: ArrayState) -> NDArray[np.intp]:
    verified, failed = state.verdict == Verdict.VERIFIED, state.verdict == Verdict.FAILED
    return np.select([verified, state.formed == 0, failed], [0, 2, 1], 3)


def _resistance(device: Device, name: str) -> LogView:
    return LogView(
        f"R({name})",
        f"resistance of the device on {name}, measured since its last pulse",
        f"resistance of {name}",
        "Ω",
        "cividis",
        Category("not measured", "#ffffff"),
        Category("open: no current", "#a8323e"),
        lambda state: state.resistance_ohm[:, :, device],
    )


def _cycles(state: ArrayState) -> NDArray[np.float64]:
    cycles = state.resets.max(axis=-1).astype(float)
    return np.where(cycles > 0, cycles, np.nan)


_WEIGHTS = (Category("+1", PLUS), Category("0", ZERO), Category("−1", MINUS))

VIEWS: tuple[View, ...] = (
    CategoryView(
        "Weight",
        "weight that each cell read last",
        (*_WEIGHTS, Category("undecided", BLACK), Category("unknown", BLANK)),
        _sensed,
    ),
    CategoryView(
        "Target",
        "weight that each cell was asked to hold",
        (*_WEIGHTS, Category("unknown", BLANK)),
        _targets,
    ),
    CategoryView(
        "Errors",
        "target against read-back",
        (
            Category("as asked", GOOD),
            Category("wrong", BAD),
            Category("undecided", BLACK),
            Category("not compared", BLANK),
        ),
        _errors,
    ),
    CategoryView(
        "Verdict",
        "what programming each cell came to",
        (
            Category("verified", GOOD),
            Category("failed", BAD),
            Category("not formed", BLACK),
            Category("not programmed", BLANK),
        ),
        _verdicts,
    ),
    *(_resistance(device, name) for device, name in DEVICE_NAMES.items()),
    LogView(
        "Margin",
        "larger over smaller resistance of the cell; below 1 it stands for the other weight than was asked for",
        "margin",
        "",
        "cividis",
        Category("not measured", "#ffffff"),
        Category("one is open", "#a8323e"),
        lambda state: state.margin,
    ),
    LogView(
        "Cycles",
        "full RESETs of the more used device since the window was connected",
        "SET / RESET cycles",
        "",
        "cividis",
        Category("none", "#ffffff"),
        Category("beyond counting", "#a8323e"),
        _cycles,
    ),
)


def counts(view: CategoryView, state: ArrayState) -> list[int]:
    """Cells in each category of ``view``."""
    return [int(count) for count in np.bincount(view.codes(state).ravel(), minlength=len(view.categories))]


def decades(values: NDArray[np.float64]) -> tuple[int, int]:
    """Whole decades (low, high) that a logarithmic scale must span to show all finite positive ``values``."""
    shown = values[np.isfinite(values) & (values > 0)]
    if shown.size == 0:
        return DEFAULT_DECADES
    exponents = np.log10(shown)
    low, high = int(np.floor(exponents.min())), int(np.ceil(exponents.max()))
    return low, max(high, low + 1)


def image(view: View, state: ArrayState, colour_map: Callable[[str], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Colour of each cell, ``(rows, cols, 3)`` uint8.

    Args:
        colour_map: gives the colours of a map by its name, ``(256, 3)`` from low to high.
    """
    if isinstance(view, CategoryView):
        palette = np.array([rgb(category.colour) for category in view.categories], dtype=np.uint8)
        return palette[view.codes(state)]
    values = view.values(state)
    low, high = decades(values)
    finite = np.isfinite(values) & (values > 0)
    share = (np.log10(np.where(finite, values, 10.0**low)) - low) / (high - low)
    pixels = colour_map(view.colour_map)[np.rint(share * 255).astype(np.intp)]
    pixels[np.isnan(values)] = rgb(view.missing.colour)
    pixels[np.isinf(values)] = rgb(view.infinite.colour)
    return pixels


def rgb(colour: str) -> tuple[int, int, int]:
    """``"#1f5a99"`` as (31, 90, 153)."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


__all__ = ["VIEWS", "Category", "CategoryView", "LogView", "View", "counts", "decades", "image", "rgb"]
