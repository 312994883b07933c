"""Selections of cells, as they are written on the command line."""

from __future__ import annotations

import numpy as np

from bench.procedure import CellMask
from models.cells import Geometry
from models.exceptions import UserMistake

FORMS = "'all', 'ROWS,COLS' with slices or numbers such as '0:4,0:4' or '3,:', or several joined by '+'"


def parse_cells(text: str, geometry: Geometry) -> CellMask:
    """Turn a selection into a mask ``(rows, cols)``.

    Args:
        text: "all", or rectangles "ROWS,COLS" joined by "+"; ROWS and COLS are "START:STOP" (STOP excluded, either may
            be left out) or a single number.

    Raises:
        UserMistake: not of that form, outside the array, or empty.
    """
    mask = np.zeros(geometry, dtype=bool)
    for part in ["0:,0:"] if text.strip() == "all" else text.split("+"):
        axes = part.split(",")
        if len(axes) != 2:
            raise UserMistake(f"cells {text!r}: {part!r} is not a selection; use {FORMS}")
        rows, cols = (_span(axis.strip(), size, text) for axis, size in zip(axes, geometry, strict=True))
        mask[rows, cols] = True
    if not mask.any():
        raise UserMistake(f"cells {text!r}: no cell is selected; use {FORMS}")
    return mask


def _span(axis: str, size: int, text: str) -> slice:
    try:
        bounds = [int(bound) if bound else None for bound in axis.split(":")]
    except ValueError:
        bounds = []
    if len(bounds) == 1 and bounds[0] is not None:
        start, stop = bounds[0], bounds[0] + 1
    elif len(bounds) == 2:
        start = 0 if bounds[0] is None else bounds[0]
        stop = size if bounds[1] is None else bounds[1]
    else:
        raise UserMistake(f"cells {text!r}: {axis!r} is neither a number nor START:STOP; use {FORMS}")
    if not 0 <= start <= stop <= size:
        raise UserMistake(f"cells {text!r}: {axis!r} is outside the array, whose axis counts 0 to {size - 1}")
    return slice(start, stop)
