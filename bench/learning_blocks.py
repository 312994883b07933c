"""How a layer that learns lies on the array: the whole of it at once, in blocks one below the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.cells import DeviceMask, Geometry
from models.exceptions import UserMistake


@dataclass(frozen=True)
class Blocks:
    """A matrix cut into blocks of columns, which take the array's rows one below the other, from the upper left corner.

    Attributes:
        rows, columns: of the matrix.
        width: columns of a block; the last block may have fewer.
        array: size of the array.
    """

    rows: int
    columns: int
    width: int
    array: Geometry

    @property
    def count(self) -> int:
        """Number of blocks."""
        return -(-self.columns // self.width)

    @property
    def geometry(self) -> Geometry:
        """Cells from the upper left corner that take part."""
        return Geometry(self.count * self.rows, self.width)

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Array row and array column of each weight, two arrays ``(rows, columns)``."""
        block, column = np.divmod(np.arange(self.columns), self.width)
        rows = block[None, :] * self.rows + np.arange(self.rows)[:, None]
        return rows, np.broadcast_to(column, rows.shape)

    def laid(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values ``(rows, columns, ...)`` on the array, ``(array rows, array columns, ...)``; 0 elsewhere."""
        on_array = np.zeros((*self.array, *values.shape[2:]), dtype=values.dtype)
        on_array[self.places()] = values
        return on_array

    def taken(self, on_array: NDArray[Any]) -> NDArray[Any]:
        """Values ``(rows, columns, ...)`` from the array."""
        return on_array[self.places()]

    def devices(self, cells: NDArray[np.bool_]) -> DeviceMask:
        """Both devices of the cells of the weights chosen, ``(array rows, array columns, 2)``."""
        return np.repeat(self.laid(cells)[:, :, None], 2, axis=2)

    def presented(self, inputs: NDArray[np.int8]) -> NDArray[np.int8]:
        """Vectors ``(n * blocks, width)`` of inputs ``(n, columns)``; 0 in columns that the last block lacks."""
        padded = np.zeros((len(inputs), self.count * self.width), dtype=np.int8)
        padded[:, : self.columns] = inputs
        return padded.reshape(-1, self.width)

    def joined(self, sums: NDArray[np.int32]) -> NDArray[np.int32]:
        """Sums ``(n, rows)`` from those of all array rows, ``(n * blocks, blocks * rows)``: each block's own, added."""
        own = np.arange(self.count)
        by_block = sums.reshape(-1, self.count, self.count, self.rows)
        joined: NDArray[np.int32] = by_block[:, own, own].sum(axis=1, dtype=np.int32)
        return joined


def blocks_for(rows: int, columns: int, array: Geometry) -> Blocks:
    """Lay a matrix of ``rows`` and ``columns`` on an array, in as few blocks as there must be, of about equal width.

    Raises:
        UserMistake: it does not fit.
    """
    count = -(-columns // array.cols)
    if count * rows > array.rows:
        most = (array.rows // rows) * array.cols
        raise UserMistake(
            f"a layer of {rows} classes and {columns} inputs needs {count} block(s) of {rows} rows, and the array has "
            f"{array.rows} rows and {array.cols} columns: at most {most} inputs fit. Learn a smaller layer, or on "
            "another array"
        )
    return Blocks(rows, columns, -(-columns // count), array)
