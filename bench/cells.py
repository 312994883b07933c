"""Selections of cells, as they are written on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.procedure import CellMask
from models.cells import Geometry
from models.exceptions import UserMistake

FORMS = (
    "'all', 'ROWS,COLS' with slices or numbers such as '0:4,0:4' or '3,:', '@FILE' with row,col per line, "
    "'random:N' or 'random:N:SEED', several joined by '+', and 'except' before what is left out"
)
_EXCEPT = " except "


def parse_cells(text: str, geometry: Geometry) -> CellMask:
    """Turn a selection into a mask ``(rows, cols)``.

    Args:
        text: terms joined by "+", optionally followed by " except " and the terms that are left out. A term is

            - "all";
            - a rectangle "ROWS,COLS", each "START:STOP" (STOP excluded, either may be left out) or one number;
            - "@FILE", a text file with "row,col" on each line, with or without a heading;
            - "random:N" or "random:N:SEED", N cells drawn from those that are not excepted (SEED is 0 by default).

    Raises:
        UserMistake: not of that form, outside the array, or empty.
    """
    wanted, found, unwanted = text.partition(_EXCEPT)
    excluded = np.zeros(geometry, dtype=bool)
    if found:
        for term in unwanted.split("+"):
            excluded |= _term(term.strip(), geometry, excluded, text)
    mask = np.zeros(geometry, dtype=bool)
    for term in wanted.split("+"):
        mask |= _term(term.strip(), geometry, excluded, text)
    mask &= ~excluded
    if not mask.any():
        raise UserMistake(f"cells {text!r}: no cell is selected; use {FORMS}")
    return mask


def _term(term: str, geometry: Geometry, excluded: CellMask, text: str) -> CellMask:
    if term == "all":
        return np.ones(geometry, dtype=bool)
    if term.startswith("@"):
        return _listed(Path(term[1:]), geometry, text)
    if term.startswith("random:"):
        return _drawn(term, ~excluded, text)
    axes = term.split(",")
    if len(axes) != 2:
        raise UserMistake(f"cells {text!r}: {term!r} is not a selection; use {FORMS}")
    mask = np.zeros(geometry, dtype=bool)
    rows, cols = (_span(axis.strip(), size, text) for axis, size in zip(axes, geometry, strict=True))
    mask[rows, cols] = True
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
    if start >= stop:
        raise UserMistake(f"cells {text!r}: {axis!r} is empty: START:STOP ends before STOP")
    if not 0 <= start <= stop <= size:
        raise UserMistake(f"cells {text!r}: {axis!r} is outside the array, whose axis counts 0 to {size - 1}")
    return slice(start, stop)


def _listed(path: Path, geometry: Geometry, text: str) -> CellMask:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise UserMistake(f"cells {text!r}: file {str(path)!r}: {reason}") from None
    mask = np.zeros(geometry, dtype=bool)
    first = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        heading, first = first, False
        try:
            row, col = (int(part) for part in line.split(","))
        except ValueError:
            if heading and not any(letter.isdigit() for letter in line):
                continue
            raise UserMistake(f"cells {text!r}: line {number} of {path} is {line.strip()!r}, not row,col") from None
        if not (0 <= row < geometry.rows and 0 <= col < geometry.cols):
            raise UserMistake(
                f"cells {text!r}: line {number} of {path} names cell ({row}, {col}), and the array has "
                f"{geometry.rows} rows and {geometry.cols} columns"
            )
        mask[row, col] = True
    return mask


def _drawn(term: str, pool: CellMask, text: str) -> CellMask:
    try:
        count, seed = (int(part) for part in [*term.split(":"), "0"][1:3])
    except ValueError:
        count = seed = -1
    if count < 1 or seed < 0 or term.count(":") > 2:
        raise UserMistake(f"cells {text!r}: {term!r} is not 'random:N' or 'random:N:SEED' with N of at least 1")
    candidates = np.flatnonzero(pool)
    if count > len(candidates):
        raise UserMistake(f"cells {text!r}: {count} cells are to be drawn, and there are {len(candidates)}")
    mask = np.zeros(pool.shape, dtype=bool)
    mask.flat[np.random.default_rng(seed).choice(candidates, count, replace=False)] = True
    return mask


def write_cells(mask: CellMask) -> str:
    """Write a selection so that :func:`parse_cells` gives it back: "all", or rectangles joined by "+"."""
    if mask.all():
        return "all"
    rows, cols = mask.shape
    left = mask.copy()
    terms = []
    while left.any():
        row, col = divmod(int(np.argmax(left)), cols)
        width = int(np.argmin(np.append(left[row, col:], False)))
        # As many rows as have the whole of it.
        height = int(np.argmin(np.append(left[row:, col : col + width].all(axis=1), False)))
        left[row : row + height, col : col + width] = False
        terms.append(f"{_written(row, height, rows)},{_written(col, width, cols)}")
    return "+".join(terms)


def _written(start: int, length: int, size: int) -> str:
    if length == size:
        return ":"
    return str(start) if length == 1 else f"{start}:{start + length}"
