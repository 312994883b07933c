"""Which cells are selected, and the outline to draw around cells. No Qt here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.cells import Geometry

Cell = tuple[int, int]


class Selection:
    """Cells that the next action works on.

    Attributes:
        geometry: size of the array.
        mask: ``(rows, cols)`` bool.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.mask = np.ones(geometry, dtype=bool)
        self._anchor: Cell = (0, 0)
        self._cursor: Cell | None = None

    @property
    def count(self) -> int:
        """Number of selected cells."""
        return int(self.mask.sum())

    def everything(self) -> None:
        """Select all cells."""
        self.mask = np.ones(self.geometry, dtype=bool)
        self._cursor = None

    def nothing(self) -> None:
        """Select no cell."""
        self.mask = np.zeros(self.geometry, dtype=bool)
        self._cursor = None

    def put(self, mask: NDArray[np.bool_]) -> None:
        """Select exactly the cells of ``mask``."""
        self.mask = mask.copy()
        self._cursor = None

    def rectangle(self, first: Cell, last: Cell, add: bool = False) -> None:
        """Select the rectangle between two corners, both included; with ``add`` in addition to what is selected."""
        if not add:
            self.nothing()
        (top, bottom), (left, right) = (sorted(axis) for axis in zip(first, last, strict=True))
        self.mask[top : bottom + 1, left : right + 1] = True
        self._anchor, self._cursor = first, last

    def toggle(self, cell: Cell) -> None:
        """Add a cell to the selection, or take it out."""
        self.mask[cell] = not self.mask[cell]
        self._anchor = self._cursor = cell

    def move(self, down: int, right: int, extend: bool = False) -> None:
        """Move the cursor and select the cell under it; with ``extend`` the rectangle from where it started."""
        if self._cursor is None:
            self.rectangle((0, 0), (0, 0))
            return
        row = min(max(self._cursor[0] + down, 0), self.geometry.rows - 1)
        col = min(max(self._cursor[1] + right, 0), self.geometry.cols - 1)
        self.rectangle(self._anchor if extend else (row, col), (row, col))

    def whole_lines(self, rows: bool) -> None:
        """Extend the selection to the whole of its rows, or of its columns."""
        along = self.mask.any(axis=1 if rows else 0, keepdims=True)
        self.put(np.broadcast_to(along, self.mask.shape))

    def the_others(self) -> None:
        """Select what is not selected."""
        self.put(~self.mask)

    def text(self) -> str:
        """The selection for people and for the log: "all 1024 cells", "16 cells: rows 0–3, cols 4–7", "5 cells"."""
        if self.count == 0:
            return "no cell"
        if self.count == self.geometry.cells:
            return f"all {self.count} cells"
        rows, cols = np.nonzero(self.mask.any(axis=1))[0], np.nonzero(self.mask.any(axis=0))[0]
        box = (rows[-1] - rows[0] + 1) * (cols[-1] - cols[0] + 1)
        if self.count == 1:
            return f"cell ({rows[0]}, {cols[0]})"
        if box != self.count:
            return f"{self.count} cells"
        return f"{self.count} cells: {_span('row', rows)}, {_span('col', cols)}"


def outline(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges between the cells of ``mask`` and others as pairs of points: x and y, both ``(2 n,)``.

    The cell at ``(line, column)`` covers x from column - 0.5 to column + 0.5 and y from line - 0.5 to line + 0.5.
    """
    padded = np.pad(mask, 1)
    row, col = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    flat_x, flat_y = np.stack([col - 0.5, col + 0.5], axis=1), np.stack([row - 0.5, row - 0.5], axis=1)
    row, col = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    steep_x, steep_y = np.stack([col - 0.5, col - 0.5], axis=1), np.stack([row - 0.5, row + 0.5], axis=1)
    return np.concatenate([flat_x, steep_x]).ravel(), np.concatenate([flat_y, steep_y]).ravel()


def _span(name: str, indices: NDArray[np.intp]) -> str:
    if len(indices) == 1:
        return f"{name} {indices[0]}"
    return f"{name}s {indices[0]}–{indices[-1]}"
