"""Placement: which array row and column each row and column of a tile takes, on a chip whose weak cells are known.

What a weight that reads wrong does is measured by its influence (:func:`influence`). The harm of a placement is the
sum over its weights of influence times the error that their cell makes: half the difference between what a stuck cell
reads and the weight, or how often another cell was seen to read such a weight wrong. Rows and columns are assigned in
turns, each time the best assignment there is while the other stays, until nothing is gained: unused rows and columns
take the worst cells, then bad cells take weights that they read anyway, then those of least influence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.error_map import VALUES, ErrorMap
from bench.mapping import NONE, Indices, Plan, Tile
from models.cells import Weights
from models.integer import IntegerNetwork, Layer

Harms = NDArray[np.float64]

ROUNDS = 20
"""Most turns of rows and columns; it hardly ever takes more than five."""

PAD = 0.1
"""Wrong weights of full influence that each column of padding must spare to be worth its pulses and senses."""

TIE = 1e-9
"""Of equal assignments the one that changes least; small against any harm worth avoiding, in the same unit."""

NO_GAIN = 1e-7
"""Turns end where they gain less, in the same unit."""


@dataclass(frozen=True)
class Harm:
    """What the known cells of a chip do to a plan.

    Attributes:
        stuck: weights that lie on a stuck cell.
        wrong: of these, weights that the cell does not read.
        weak: expected number of wrong weights on cells that are not stuck.
        harm: all of them weighed by influence.
    """

    stuck: int
    wrong: int
    weak: float
    harm: float


def place(plan: Plan, network: IntegerNetwork, error_map: ErrorMap) -> Plan:
    """The same tiles, placed so that the stuck and weak cells of ``error_map`` do least harm.

    Rows left out cost nothing. Columns that pad cost pulses and senses: they are used only where the tile is narrower
    than the array and each of them spares :data:`PAD`.

    Raises:
        UserMistake: the plan is for another network, or the map is of an array of another size or of another chip.
    """
    error_map.check(plan.array, plan.chip_id)
    plan.check_part(network, plan.array)
    weighed = [influence(network, index) for index in range(len(network.layers))]
    errors = error_map.errors
    tiles = tuple(_placed(tile, network.layers[tile.layer].weights, weighed[tile.layer], errors) for tile in plan.tiles)
    return replace(plan, tiles=tiles, chip_id=error_map.chip_id, error_map=error_map.sha256)


def influence(network: IntegerNetwork, index: int) -> NDArray[np.float64]:
    """``(rows,)``: how much one wrong weight of each row of a layer matters.

    In a last layer it moves a score in every sample: 1. In a hidden layer it moves a sum of n products by one product
    in each position of the window, and the sum lies within that of its threshold with a chance of about 1 / sqrt(n):
    positions / sqrt(n). A row whose outputs are the same whatever its inputs weighs nothing.
    """
    layer = network.layers[index]
    rows = len(layer.weights)
    if index == len(network.layers) - 1:
        return np.where(layer.sign == 0, 0.0, 1.0)
    products = np.count_nonzero(layer.weights, axis=1) * (layer.products / layer.weights.shape[1])
    reach = (1 << network.encoding.planes) - 1 if index == 0 else 1
    constant = (layer.sign == 0) | (np.abs(layer.threshold.astype(np.int64)) > products * reach)
    return np.where(constant, np.zeros(rows), layer.positions / np.sqrt(np.maximum(products, 1.0)))


def harm(plan: Plan, network: IntegerNetwork, error_map: ErrorMap) -> Harm:
    """What the cells of ``error_map`` do to the weights of ``plan``.

    Raises:
        UserMistake: the map is of an array of another size, or of another chip.
    """
    error_map.check(plan.array, plan.chip_id)
    stuck = wrong = 0
    weak = total = 0.0
    for index, layer in enumerate(network.layers):
        at = plan.places(index, layer.weights.shape)
        held = at[0] != NONE
        here = held & error_map.stuck[at]
        errors = np.where(held, error_map.errors[layer.weights + 1, *at], 0.0)
        stuck += int(here.sum())
        wrong += int((here & (error_map.stuck_value[at] != layer.weights)).sum())
        weak += float(errors[~here].sum())
        total += float((errors * influence(network, index)[:, None]).sum())
    return Harm(stuck, wrong, weak, total)


def with_stuck(network: IntegerNetwork, plan: Plan, error_map: ErrorMap) -> IntegerNetwork:
    """The network as it reads back from the chip where the stuck cells are its only errors.

    Raises:
        UserMistake: the map is of an array of another size, or of another chip.
    """
    error_map.check(plan.array, plan.chip_id)

    def read(index: int, layer: Layer) -> Weights:
        at = plan.places(index, layer.weights.shape)
        here = (at[0] != NONE) & error_map.stuck[at]
        return np.where(here, error_map.stuck_value[at], layer.weights).astype(np.int8)

    return network.with_weights([read(index, layer) for index, layer in enumerate(network.layers)])


def _placed(tile: Tile, weights: Weights, influences: NDArray[np.float64], errors: NDArray[np.float64]) -> Tile:
    """One tile with the best rows and columns that turns of assignments find."""
    rows, cols = tile.rows[tile.rows != NONE], tile.cols[tile.cols != NONE]
    block, weighs = weights[np.ix_(rows, cols)], influences[rows]
    scale = float(weighs.max(initial=0.0))
    if scale == 0.0 or not errors.any():
        return tile
    # what a cell costs depends on the weight that is asked of it, and on nothing else of the column
    asked = [weighs[:, None] / scale * (block == value) for value in VALUES]
    on_row, on_col = np.arange(len(rows)), np.arange(len(cols))
    best = math.inf
    for _ in range(ROUNDS):
        by_row = sum(own @ error[:, on_col].T for own, error in zip(asked, errors, strict=True))
        on_row, _ = _assigned(np.asarray(by_row), TIE)
        by_col = sum(own.T @ error[on_row] for own, error in zip(asked, errors, strict=True))
        on_col, found = _assigned(np.asarray(by_col), PAD)
        if found >= best - NO_GAIN:
            break
        best = found
    return Tile(tile.layer, _laid(rows, on_row), _laid(cols, on_col))


def _assigned(harms: Harms, beyond: float) -> tuple[NDArray[np.int64], float]:
    """Array line for each matrix line, of least harm in all, and that harm.

    Args:
        harms: ``(matrix lines, array lines)``.
        beyond: what a line costs for each array line that it lies further out than lines are needed.
    """
    from scipy.optimize import linear_sum_assignment

    needed, there = harms.shape
    lines, places = np.arange(needed)[:, None], np.arange(there)[None, :]
    further = np.maximum(places - needed + 1, 0)
    priced = harms + TIE / there * np.abs(places - lines) + beyond * further
    chosen = linear_sum_assignment(priced)
    return np.asarray(chosen[1], dtype=np.int64), float(priced[chosen].sum())


def _laid(lines: Indices, on: NDArray[np.int64]) -> Indices:
    """Matrix line held by each array line, as far as the last that holds one."""
    laid = np.full(int(on.max()) + 1, NONE, dtype=np.int32)
    laid[on] = lines
    return laid
