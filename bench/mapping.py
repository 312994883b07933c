"""Mapping: any layer cut into tiles of the array's size.

A tile holds a block of a layer's matrix: array rows are neurons or filters, array columns are their inputs, because a
word line selects one neuron and the sense amplifiers under the columns answer for all its inputs at once. Which array
row and column each row and column of the block takes is free: placement makes use of that on a chip whose weak cells
are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.cells import Geometry, Weights
from models.exceptions import UserMistake
from models.integer import IntegerNetwork, Layer

if TYPE_CHECKING:
    from bench.error_map import ErrorMap

Indices = NDArray[np.int32]
NONE = -1
"""Index of no matrix row or column: an array row that is not looked at, a column that pads."""


@dataclass(frozen=True, eq=False)
class Tile:
    """A block of a layer on the upper left corner of the array.

    Attributes:
        layer: index of the layer.
        rows: ``(tile rows,)`` matrix row that each array row holds, from the top; -1 for an array row left out.
        cols: ``(tile columns,)`` matrix column that each array column holds, from the left; -1 for a column that pads:
            its weights are +1, its input is +1, and what it contributes is taken off again.
    """

    layer: int
    rows: Indices
    cols: Indices

    @property
    def geometry(self) -> Geometry:
        """Cells from the upper left corner that take part, those left out in between included."""
        return Geometry(len(self.rows), len(self.cols))

    @property
    def held(self) -> NDArray[np.bool_]:
        """Which cells of its geometry carry a weight of the layer."""
        held: NDArray[np.bool_] = (self.rows != NONE)[:, None] & (self.cols != NONE)[None, :]
        return held

    @property
    def cells(self) -> int:
        """Number of cells that carry a weight of the layer."""
        return int((self.rows != NONE).sum()) * int((self.cols != NONE).sum())

    @property
    def pads(self) -> NDArray[np.bool_]:
        """``(tile columns,)``: which columns pad."""
        pads: NDArray[np.bool_] = self.cols == NONE
        return pads

    def block(self, weights: Weights) -> Weights:
        """The tile's part of its layer's matrix, of its geometry: +1 in columns that pad, 0 in rows left out."""
        block = weights[np.ix_(self.rows, self.cols)]
        block[:, self.pads] = 1
        block[self.rows == NONE] = 0
        return block

    def on_array(self, weights: Weights, array: Geometry) -> tuple[Weights, NDArray[np.bool_]]:
        """The weights laid on an array, zero elsewhere, and the mask of cells to program; both of the array's shape."""
        target = np.zeros(array, dtype=np.int8)
        used = np.zeros(array, dtype=bool)
        rows, cols = self.geometry
        target[:rows, :cols] = self.block(weights)
        used[:rows, :cols] = (self.rows != NONE)[:, None]
        return target, used

    def groups(self, layer: Layer) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """The groups of ``layer`` that have rows in the tile, each with the array rows that hold them."""
        of_row = np.where(self.rows == NONE, NONE, self.rows // (len(layer.weights) // layer.groups))
        for group in np.unique(of_row[of_row != NONE]):
            yield int(group), np.flatnonzero(of_row == group)

    def values(self, met: NDArray[np.integer], top: int) -> NDArray[np.integer]:
        """The inputs ``(n, tile columns)`` of its columns, from those that the matrix meets, ``(n, columns)``.

        Columns that pad get ``top``, the largest input, which is +1 in every plane.
        """
        values = met[:, self.cols]
        values[:, self.pads] = top
        return values


@dataclass(frozen=True)
class Plan:
    """How a network is laid on an array, tile after tile; or part of one, whose rest lies on other chips.

    Attributes:
        network: name of the network.
        network_sha256: digest of all its integers.
        array: size of the array.
        tiles: in the order in which they are programmed; layer by layer.
        chip_id: the chip for whose cells it was made; None where it suits any chip of this size.
        error_map: SHA-256 of the error map that it was made with, or None.
    """

    network: str
    network_sha256: str
    array: Geometry
    tiles: tuple[Tile, ...]
    chip_id: str | None = None
    error_map: str | None = None

    @property
    def used(self) -> int:
        """Cells that carry a weight, over all tiles."""
        return sum(tile.cells for tile in self.tiles)

    @property
    def wasted(self) -> int:
        """Cells that carry none, over all tiles."""
        return len(self.tiles) * self.array.cells - self.used

    @property
    def pulses(self) -> int:
        """Programming pulses of one pass: a SET or a RESET for each device of each cell, those that pad included."""
        return 2 * sum(int((tile.rows != NONE).sum()) * len(tile.cols) for tile in self.tiles)

    def of_layer(self, index: int) -> list[tuple[int, Tile]]:
        """The tiles of a layer with their numbers, in order."""
        return [(number, tile) for number, tile in enumerate(self.tiles) if tile.layer == index]

    def places(self, index: int, shape: tuple[int, int]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """Array row and array column on which each weight of a layer of ``shape`` lies, two arrays of ``shape``.

        -1 where the weight lies on another chip.
        """
        row_of, col_of = np.full(shape, NONE, dtype=np.int16), np.full(shape, NONE, dtype=np.int16)
        for _, tile in self.of_layer(index):
            array_rows, array_cols = np.flatnonzero(tile.rows != NONE), np.flatnonzero(tile.cols != NONE)
            weights = np.ix_(tile.rows[array_rows], tile.cols[array_cols])
            row_of[weights], col_of[weights] = array_rows[:, None], array_cols[None, :]
        return row_of, col_of

    def check(self, network: IntegerNetwork, array: Geometry, chip_id: str | None = None) -> None:
        """Refuse a plan that was made for something else; ``chip_id`` is that of the chip it is to run on.

        Raises:
            UserMistake: another network, array or chip, or a plan that does not hold each weight exactly once.
        """
        self.check_part(network, array, chip_id)
        check_complete((self,), network)

    def check_part(self, network: IntegerNetwork, array: Geometry, chip_id: str | None = None) -> None:
        """Like :meth:`check`, for a plan that may hold only some of the weights.

        Raises:
            UserMistake: another network, array or chip, or tiles that fit neither.
        """
        if self.network_sha256 != network.sha256:
            raise UserMistake(f"this plan is for another network, {self.network}; make one with: rram-bench map")
        if self.array != array:
            ours, theirs = "{} x {}".format(*self.array), "{} x {}".format(*array)
            raise UserMistake(f"this plan is for an array of {ours} cells, and this one has {theirs}; make another")
        if chip_id is not None and self.chip_id not in (None, chip_id):
            raise UserMistake(
                f"this plan avoids the weak cells of chip {self.chip_id}, and chip {chip_id} is in the socket; "
                "make a plan for it, or one without an error map"
            )
        orders = [tile.layer for tile in self.tiles]
        if orders != sorted(orders) or not set(orders) <= set(range(len(network.layers))):
            raise UserMistake("the tiles of this plan are not in the order of the network's layers")
        for number, tile in enumerate(self.tiles):
            rows, cols = network.layers[tile.layer].weights.shape
            fits = len(tile.rows) <= self.array.rows and len(tile.cols) <= self.array.cols
            if not (fits and _within(tile.rows, rows) and _within(tile.cols, cols)):
                raise UserMistake(f"tile {number + 1} of this plan fits neither its layer nor its array")

    def summary(self) -> dict[str, Any]:
        """The plan as plain data: totals, and what each tile holds."""
        return {
            "network": self.network,
            "array": {"rows": self.array.rows, "cols": self.array.cols},
            "chip_id": self.chip_id,
            "tiles": len(self.tiles),
            "cells_used": self.used,
            "cells_wasted": self.wasted,
            "programming_pulses": self.pulses,
            "placement": [
                {"layer": tile.layer, "rows": tile.rows.tolist(), "cols": tile.cols.tolist()} for tile in self.tiles
            ],
        }


def plan_network(network: IntegerNetwork, array: Geometry, error_map: ErrorMap | None = None) -> Plan:
    """Cut every layer of ``network`` into tiles of at most ``array``; remainders make smaller tiles.

    Args:
        error_map: of the chip that the plan is for: weights are then placed where its stuck and weak cells do least
            harm (:mod:`bench.placement`). Without one the plan suits any chip.

    Raises:
        UserMistake: the inputs are not whole numbers, or the map is of an array of another size.
    """
    tiles = tuple(tile for index, layer in enumerate(network.layers) for tile in cut(index, layer, array))
    plan = Plan(network.name, network.sha256, array, tiles)
    if error_map is None:
        return plan
    from bench.placement import place

    return place(plan, network, error_map)


def cut(
    index: int, layer: Layer, array: Geometry, rows: range | None = None, cols: range | None = None
) -> Iterator[Tile]:
    """The tiles of one layer, or of a block of its matrix, in order, each row and column where it comes."""
    rows = range(len(layer.weights)) if rows is None else rows
    cols = range(layer.weights.shape[1]) if cols is None else cols
    for row0 in rows[:: array.rows]:
        for col0 in cols[:: array.cols]:
            yield Tile(index, _span(row0, array.rows, rows.stop), _span(col0, array.cols, cols.stop))


def check_complete(parts: Sequence[Plan], network: IntegerNetwork) -> None:
    """Refuse plans, each checked as a part, that do not hold each weight of ``network`` exactly once together.

    Raises:
        UserMistake: a weight is missing, or held twice.
    """
    for index, layer in enumerate(network.layers):
        held = np.zeros(layer.weights.shape, dtype=np.int64)
        for part in parts:
            for _, tile in part.of_layer(index):
                np.add.at(held, np.ix_(tile.rows[tile.rows != NONE], tile.cols[tile.cols != NONE]), 1)
        if (held != 1).any():
            raise UserMistake(f"this plan does not hold each weight of layer {index + 1} exactly once")


def _within(indices: Indices, size: int) -> bool:
    held = indices[indices != NONE]
    return len(held) > 0 and bool(held.min() >= 0) and bool(held.max() < size)


def _span(first: int, most: int, end: int) -> Indices:
    return np.arange(first, min(first + most, end), dtype=np.int32)
