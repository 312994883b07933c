"""Mapping: any layer cut into tiles of the array's size.

A tile holds a block of a weight matrix as it is: array rows are output neurons, array columns are inputs, because a
word line selects one neuron and the sense amplifiers under the columns answer for all its inputs at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.cells import Geometry, Weights
from models.integer import IntegerNetwork


@dataclass(frozen=True)
class Tile:
    """A block of a layer on the upper left corner of the array.

    Attributes:
        layer: index of the layer.
        row0, col0: first output neuron and first input of the block.
        rows, cols: size of the block; at most the array's.
    """

    layer: int
    row0: int
    col0: int
    rows: int
    cols: int

    @property
    def geometry(self) -> Geometry:
        """Size of the block."""
        return Geometry(self.rows, self.cols)

    @property
    def outputs(self) -> slice:
        """Output neurons of the layer that this tile contributes to."""
        return slice(self.row0, self.row0 + self.rows)

    @property
    def inputs(self) -> slice:
        """Inputs of the layer that this tile takes."""
        return slice(self.col0, self.col0 + self.cols)

    def block(self, weights: Weights) -> Weights:
        """The tile's part of its layer's ``(outputs, inputs)`` weights, ``(rows, cols)``."""
        return weights[self.outputs, self.inputs]

    def on_array(self, weights: Weights, array: Geometry) -> tuple[Weights, NDArray[np.bool_]]:
        """The weights laid on an array, zero elsewhere, and the mask of used cells; both of the array's shape."""
        target = np.zeros(array, dtype=np.int8)
        used = np.zeros(array, dtype=bool)
        target[: self.rows, : self.cols] = self.block(weights)
        used[: self.rows, : self.cols] = True
        return target, used


@dataclass(frozen=True)
class Plan:
    """How a network is laid on an array, tile after tile.

    Attributes:
        network: name of the network.
        array: size of the array.
        tiles: in the order in which they are programmed; layer by layer.
    """

    network: str
    array: Geometry
    tiles: tuple[Tile, ...]

    @property
    def used(self) -> int:
        """Cells that carry a weight, over all tiles."""
        return sum(tile.geometry.cells for tile in self.tiles)

    @property
    def wasted(self) -> int:
        """Cells left unused, over all tiles."""
        return len(self.tiles) * self.array.cells - self.used

    @property
    def pulses(self) -> int:
        """Programming pulses of one pass: a SET or a RESET for each device of each used cell."""
        return 2 * self.used

    def summary(self) -> dict[str, Any]:
        """The plan as plain data: totals, and every tile with its place."""
        return {
            "network": self.network,
            "array": {"rows": self.array.rows, "cols": self.array.cols},
            "tiles": len(self.tiles),
            "cells_used": self.used,
            "cells_wasted": self.wasted,
            "programming_pulses": self.pulses,
            "placement": [asdict(tile) for tile in self.tiles],
        }


def plan_network(network: IntegerNetwork, array: Geometry) -> Plan:
    """Cut every layer of ``network`` into tiles of at most ``array``; remainders make smaller tiles.

    Raises:
        UserMistake: the network is not fully connected, or its inputs are not -1 and +1.
    """
    tiles = []
    for index, layer in enumerate(network.fully_connected()):
        outputs, inputs = layer.weights.shape
        for row0 in range(0, outputs, array.rows):
            for col0 in range(0, inputs, array.cols):
                rows, cols = min(array.rows, outputs - row0), min(array.cols, inputs - col0)
                tiles.append(Tile(index, row0, col0, rows, cols))
    return Plan(network.name, array, tuple(tiles))
