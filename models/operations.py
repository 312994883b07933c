"""How many operations a network of whole numbers takes: senses, additions, comparisons, bits that move.

Sums are taken tile by tile, as arrays take them: the products of one tile meet in a tree of full adders, and what the
tiles give is accumulated. A full adder turns three bits of equal weight into two, so that a tree which adds ``n`` words
of ``b`` bits needs ``n b - w`` of them, where ``w`` is the number of bits of the largest sum (the (31, 5) counter, for
instance, has 26).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from models.encodings import BitPlaneEncoding, Encoding, StochasticEncoding, ThermometerEncoding
from models.exceptions import UserMistake
from models.integer import IntegerNetwork, Layer
from models.integer_convolution import IntegerConvolution


def tree_adders(words: int, bits: int = 1) -> int:
    """Full adders of a tree that adds ``words`` words of ``bits`` bits each."""
    return max(0, words * bits - (words * ((1 << bits) - 1)).bit_length())


@dataclass(frozen=True)
class LayerWork:
    """What a layer does for one presentation of an image.

    Attributes:
        rows, columns: of its matrix; a row for each neuron or filter.
        positions: places that the window of a convolution takes, 1 for a fully connected layer.
        inputs, outputs: numbers that come in and go out.
        window_inputs: numbers that enter the input registers, over all positions.
        pooled: sums that become one output; 1 without pooling.
        planes: bits of each input.
        ternary: whether there are zero weights.
    """

    rows: int
    columns: int
    positions: int
    inputs: int
    outputs: int
    window_inputs: int
    pooled: int
    planes: int
    ternary: bool

    @property
    def products(self) -> int:
        """Products of a weight and an input."""
        return self.positions * self.rows * self.columns

    @property
    def sums(self) -> int:
        """Sums before pooling."""
        return self.positions * self.rows

    @property
    def sum_bits(self) -> int:
        """Bits of a whole sum, its sign included where weights are ternary."""
        return (self.columns * ((1 << self.planes) - 1)).bit_length() + self.ternary

    def tile_widths(self, tile_columns: int) -> list[int]:
        """Columns in each tile of a row."""
        full, rest = divmod(self.columns, tile_columns)
        return [tile_columns] * full + [rest] * (rest > 0)

    def row_adders(self, tile_columns: int, bits: int) -> int:
        """Full adders of the trees of one row of tiles, for inputs of ``bits`` bits at a time."""
        # a product of a ternary weight has a sign of its own
        return sum(tree_adders(width, bits + self.ternary) for width in self.tile_widths(tile_columns))


def layer_work(layer: Layer, planes: int) -> LayerWork:
    """The work of a layer whose inputs have ``planes`` bits."""
    rows, columns = layer.weights.shape
    ternary = not np.all(layer.weights)
    if isinstance(layer, IntegerConvolution):
        shape, pool = layer.shape, layer.pool
        window_inputs = shape.positions * shape.groups * shape.fan_in
        pooled = 1 if pool is None else math.prod(pool.size)
        return LayerWork(
            rows, columns, shape.positions, layer.inputs, layer.outputs, window_inputs, pooled, planes, ternary
        )
    return LayerWork(rows, columns, 1, layer.inputs, layer.outputs, layer.inputs, 1, planes, ternary)


def network_work(network: IntegerNetwork) -> list[LayerWork]:
    """The work of every layer for one presentation."""
    return [
        layer_work(layer, network.encoding.planes if index == 0 else 1) for index, layer in enumerate(network.layers)
    ]


def pixel_bits(encoding: Encoding) -> int:
    """Bits of a grey level as it comes from outside.

    Raises:
        UserMistake: inputs of another kind.
    """
    if isinstance(encoding, BitPlaneEncoding):
        return encoding.bits
    if isinstance(encoding, StochasticEncoding):
        return encoding.top.bit_length()
    if isinstance(encoding, ThermometerEncoding):
        return max(1, *(abs(threshold).bit_length() for threshold in encoding.thresholds))
    raise UserMistake(f"inputs of the kind {encoding.kind!r} have no account of energy or area")


def conversions(encoding: Encoding) -> int:
    """Comparisons of a grey level that turn one image into inputs, over all presentations: none for bit planes."""
    return 0 if isinstance(encoding, BitPlaneEncoding) else encoding.width * encoding.presentations
