"""Convolutional layers in integers: unfolded into the matrix product that an array takes, pooled, and compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.cells import Weights
from models.convolution_shapes import ConvolutionShape, PaddingValue, Pool, PoolKind
from models.exceptions import UserMistake
from models.integer import checked_rows

CHUNK_NUMBERS = 2**24
"""Most unfolded inputs that are held at a time."""


@dataclass(frozen=True, eq=False)
class IntegerConvolution:
    """A convolution, pooling of its sums, then ``sign * s`` against ``threshold``, filter by filter.

    Attributes:
        weights: ``(filters, fan_in)`` int8, values -1, 0, +1: the matrix that each place of the window meets, columns
            channel by channel (of the filter's group), and row by row of the window.
        sign: ``(filters,)`` int8, as of :class:`models.integer.IntegerLayer`.
        threshold: ``(filters,)`` int32.
        shape: sizes of the convolution.
        pool: pooling of the sums, or None.
        reach: largest input: 1 for -1 and +1, ``2^b - 1`` for b planes; padding with -1 means -1 in each of them.

    Raises:
        UserMistake: arrays that do not fit the shape, or a window of the pooling that does not fit the map.
    """

    weights: Weights
    sign: NDArray[np.int8]
    threshold: NDArray[np.int32]
    shape: ConvolutionShape
    pool: Pool | None = None
    reach: int = 1

    kind: ClassVar[str] = "convolution"

    def __post_init__(self) -> None:
        """Check, and keep private copies."""
        for name, array in checked_rows(self.weights, self.sign, self.threshold).items():
            object.__setattr__(self, name, array)
        wanted = (self.shape.filters, self.shape.fan_in)
        if self.weights.shape != wanted:
            raise UserMistake(f"weights have the shape {self.weights.shape}, expected {wanted} for {self.shape}")
        if self.reach < 1:
            raise UserMistake(f"inputs reach {self.reach}, expected 1 or more")
        self.pooled_size  # noqa: B018 - raises where the window does not fit

    @property
    def pooled_size(self) -> tuple[int, ...]:
        """Size of the output map."""
        size = self.shape.output_size
        return size if self.pool is None else self.pool.output_size(size)

    @property
    def inputs(self) -> int:
        """Number of inputs, channel by channel."""
        return self.shape.inputs

    @property
    def outputs(self) -> int:
        """Number of outputs, filter by filter."""
        return self.shape.filters * math.prod(self.pooled_size)

    @property
    def products(self) -> int:
        """Most products in one sum, those that pooling adds up included."""
        return self.shape.fan_in * (1 if self.pool is None else self.pool.added)

    @property
    def groups(self) -> int:
        """Into how many groups the filters are dealt out."""
        return self.shape.groups

    @property
    def positions(self) -> int:
        """Places of the window."""
        return self.shape.positions

    def unfold(self, inputs: NDArray[np.integer]) -> NDArray[np.integer]:
        """What the matrix meets: ``(n, positions, groups, fan_in)`` of inputs ``(n, inputs)``.

        Rows ``g * filters / groups`` onwards of the matrix belong to group g. Padding that counts nothing shows as 0.

        Raises:
            UserMistake: inputs of another width.
        """
        if inputs.ndim != 2 or inputs.shape[1] != self.inputs:
            raise UserMistake(f"inputs have the shape {inputs.shape}, expected (n, {self.inputs})")
        shape, count = self.shape, len(inputs)
        maps = inputs.reshape(count, shape.channels, *shape.size)
        beyond = -self.reach if shape.padding_value is PaddingValue.MINUS else 0
        wide = np.pad(maps, ((0, 0), (0, 0), *((pad, pad) for pad in shape.padding)), constant_values=beyond)
        axes = tuple(range(2, 2 + shape.dims))
        windows = np.lib.stride_tricks.sliding_window_view(wide, shape.kernel, axis=axes)
        windows = windows[(slice(None), slice(None), *(slice(None, None, step) for step in shape.stride))]
        # (n, channels, *places, *window) to (n, *places, channels, *window)
        order = (0, *axes, 1, *range(2 + shape.dims, 2 + 2 * shape.dims))
        return windows.transpose(order).reshape(count, shape.positions, shape.groups, shape.fan_in)

    def sums(self, inputs: NDArray[np.integer]) -> NDArray[np.int32]:
        """Sums ``(n, outputs)`` of inputs ``(n, inputs)`` of whole numbers, pooled; UserMistake for another width."""
        if inputs.ndim != 2 or inputs.shape[1] != self.inputs:
            raise UserMistake(f"inputs have the shape {inputs.shape}, expected (n, {self.inputs})")
        sums = np.empty((len(inputs), self.outputs), dtype=np.int32)
        chunk = max(1, CHUNK_NUMBERS // (self.shape.positions * self.shape.groups * self.shape.fan_in))
        for first in range(0, len(inputs), chunk):
            rows = slice(first, first + chunk)
            sums[rows] = self.pooled(self._convolved(inputs[rows]))
        return sums

    def _convolved(self, inputs: NDArray[np.integer]) -> NDArray[np.int32]:
        """Sums ``(n, filters, *output_size)`` before pooling."""
        groups = self.shape.groups
        # groups go first, so that each is one product of matrices
        met = self.unfold(inputs).transpose(2, 0, 1, 3).astype(np.float32)
        matrices = self.weights.reshape(groups, -1, self.shape.fan_in).transpose(0, 2, 1).astype(np.float32)
        sums = (met.reshape(groups, -1, self.shape.fan_in) @ matrices).astype(np.int32)
        by_group = sums.reshape(groups, len(inputs), self.shape.positions, -1).transpose(1, 0, 3, 2)
        return by_group.reshape(len(inputs), self.shape.filters, *self.shape.output_size)

    def collect(self, sums: NDArray[np.int32]) -> NDArray[np.int32]:
        """Pooled sums ``(n, outputs)`` of the sums ``(n, positions, filters)`` that the matrix gives."""
        return self.pooled(sums.transpose(0, 2, 1).reshape(len(sums), self.shape.filters, *self.shape.output_size))

    def pooled(self, sums: NDArray[np.int32]) -> NDArray[np.int32]:
        """Sums ``(n, outputs)`` of the sums ``(n, filters, *output_size)`` of the convolution."""
        if self.pool is not None:
            axes = tuple(range(2, 2 + self.shape.dims))
            windows = np.lib.stride_tricks.sliding_window_view(sums, self.pool.size, axis=axes)
            windows = windows[(slice(None), slice(None), *(slice(None, None, step) for step in self.pool.stride))]
            inner = tuple(range(2 + self.shape.dims, 2 + 2 * self.shape.dims))
            if self.pool.kind is PoolKind.MAX:
                sums = windows.max(axis=inner)
            else:
                sums = windows.sum(axis=inner, dtype=np.int32)
        return np.ascontiguousarray(sums).reshape(len(sums), -1)

    def activate(self, sums: NDArray[np.integer]) -> NDArray[np.int8]:
        """Hidden activations ``(n, outputs)``: +1 where ``sign * sums >= threshold``, else -1."""
        sign, threshold = self._each_output()
        return np.where(sign * sums >= threshold, 1, -1).astype(np.int8)

    def scores(self, sums: NDArray[np.integer]) -> NDArray[np.int32]:
        """Scores ``(n, outputs)``: ``sign * sums - threshold``."""
        sign, threshold = self._each_output()
        return (sign * sums - threshold).astype(np.int32)

    def with_weights(self, weights: Weights) -> IntegerConvolution:
        """The same layer with another matrix."""
        return replace(self, weights=weights)

    def _each_output(self) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
        places = math.prod(self.pooled_size)
        return np.repeat(self.sign, places), np.repeat(self.threshold, places)
