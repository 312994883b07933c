"""How an array lies on the screen. No Qt here.

A macro of many more rows than columns (arrays stacked row upon row) is cut into parts that stand side by side, as a
column of newspaper print is: each part has ``height`` rows, and a gap of one cell divides it from the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.cells import Geometry

GAP = 1
SLENDER = 3
"""Arrays with more rows than this times their columns are folded."""


@dataclass(frozen=True)
class Folding:
    """Where each cell of an array is on the screen, in cells from the top left corner.

    Attributes:
        geometry: of the array.
        height: rows in each part; the last may have fewer.
    """

    geometry: Geometry
    height: int

    @classmethod
    def of(cls, geometry: Geometry) -> Folding:
        """As it is where it is not slender; else in square parts, where the array is a whole number of them."""
        rows, cols = geometry
        if rows <= SLENDER * cols:
            return cls(geometry, rows)
        parts = max(1, round((rows / cols) ** 0.5))
        whole = [count for count in range(parts, rows // cols + 1) if rows % count == 0]
        return cls(geometry, rows // whole[0] if whole else -(-rows // parts))

    @property
    def parts(self) -> int:
        """How many stand side by side."""
        return -(-self.geometry.rows // self.height)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the whole picture."""
        return self.height, self.parts * (self.geometry.cols + GAP) - GAP

    def place(self, row: int, col: int) -> tuple[int, int]:
        """Line and column of the screen where a cell is."""
        part, line = divmod(row, self.height)
        return line, part * (self.geometry.cols + GAP) + col

    def cell(self, line: int, column: int) -> tuple[int, int] | None:
        """Cell at a place of the screen; None in a gap, or outside."""
        height, width = self.size
        if not (0 <= line < height and 0 <= column < width):
            return None
        part, col = divmod(column, self.geometry.cols + GAP)
        row = part * self.height + line
        return (row, col) if col < self.geometry.cols and row < self.geometry.rows else None

    def nearest(self, line: int, column: int) -> tuple[int, int]:
        """Cell nearest to a place of the screen."""
        height, width = self.size
        part, col = divmod(min(max(column, 0), width - 1), self.geometry.cols + GAP)
        row = part * self.height + min(max(line, 0), height - 1)
        return min(row, self.geometry.rows - 1), min(col, self.geometry.cols - 1)

    def unfold(self, values: NDArray[np.generic], fill: object) -> NDArray[np.generic]:
        """``(rows, cols, ...)`` as it stands on the screen, ``(height, width, ...)``; gaps hold ``fill``."""
        if self.parts == 1:
            return values
        cols = self.geometry.cols
        shown = np.empty((*self.size, *values.shape[2:]), dtype=values.dtype)
        shown[...] = fill
        for part in range(self.parts):
            rows = values[part * self.height : (part + 1) * self.height]
            shown[: len(rows), part * (cols + GAP) : part * (cols + GAP) + cols] = rows
        return shown
