"""XNOR in the sense amplifiers: the truth table of each cell, and random vectors against the exact product."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.procedure import CellMask, CellsDone, Procedure, Progress, Record, Step, Steps
from bench.procedures.bit_error import random_weights
from bench.procedures.preparing import OnFormedCells, prepare
from bench.procedures.tables import CELL, PATTERNS, RESISTANCES, pattern_record
from data.runs import Column, Table
from drivers.chip import Chip
from models.cells import Geometry, Weights

Sums = NDArray[np.int16]

SIGNS = (-1, 1)
SENSES_OF_OTHERS = 9
"""Senses that tell the weight of a cell outside the selection by their majority."""

CHUNK = 1000
"""Vectors to one record."""

FAULTY_LISTED = 200
"""Faulty cells that the summary has room for; the run file has them all."""

XNOR_SUMS = Table(
    "xnor_sums",
    (
        Column("weight", "int8", description="weight that the selected cells were programmed to"),
        Column("input", "int8", description="input of the last column of the sum; that of the columns before is +1"),
        Column("columns", "int16", description="columns that were summed, from the left"),
        Column("repeat", "int32", description="index of the sense"),
        Column("sum", "int16", dims=("row",), description="agreements minus disagreements"),
    ),
    "sums over the first columns, as the board gave them",
)

XNOR_TABLE = Table(
    "xnor",
    (
        Column("weight", "int8", description="weight asked for"),
        Column("input", "int8", description="input of the cell"),
        Column("expected", "int8", dims=CELL, description="weight times input; 0 for cells that were not selected"),
        Column(
            "output", "float64", dims=CELL, description="mean output of the cell, derived from xnor_sums; NaN likewise"
        ),
        Column("wrong", "uint8", dims=CELL, description="1 where the output is another than expected"),
    ),
    "truth table of each selected cell",
)

XNOR_VECTORS = Table(
    "xnor_vectors",
    (
        Column("vector", "int32", description="index of the input vector"),
        Column("inputs", "int8", dims=("col",), description="inputs; 0 for columns that were not summed"),
        Column("expected", "int16", dims=("row",), description="exact product of weights and inputs"),
        Column("sum", "int16", dims=("row",), description="agreements minus disagreements, as the board gave them"),
    ),
    "random vectors; rows below the last selected one are 0",
)


class XnorParameters(OnFormedCells):
    """Parameters of the XNOR procedure."""

    repeats: int = Field(default=5, ge=1, le=1000, description="senses at each weight and input")
    attempts: int = Field(default=3, ge=1, le=100, description="programming passes over a cell at most")
    vectors: int = Field(default=100, ge=0, le=100_000, description="random input vectors; 0 for none")
    seed: int = Field(default=0, ge=0, description="seed of the weights and the vectors")


def xnor(chip: Chip, parameters: XnorParameters, cells: CellMask) -> Steps:
    """Measure the truth table of each selected cell, then random vectors on random weights.

    The board gives sums over the first columns of a row. The output of one cell is the sum that ends with its column
    less the sum that ends before it, with the same inputs: what the cells on its left hold drops out. Their noise does
    not, so the outputs are means over the repeats.
    """
    yield from prepare(chip, parameters, cells)
    faulty = np.zeros(cells.shape, dtype=bool)
    unsteady = np.zeros(cells.shape, dtype=bool)
    errors: dict[str, int] = {}
    for index, weight in enumerate(SIGNS):
        target = np.full(chip.geometry, weight, dtype=np.int8)
        yield Progress(index, 3, f"weight {weight:+d}")
        yield pattern_record(index, chip.program(target, used=cells, attempts=parameters.attempts))
        outputs, steady = yield from _outputs(chip, weight, cells, parameters.repeats)
        unsteady |= ~steady
        for sign in SIGNS:
            wrong = cells & (np.rint(outputs[sign]) != weight * sign)
            faulty |= wrong
            errors[f"weight {weight:+d}, input {sign:+d}"] = int(wrong.sum())
            yield Record(
                "xnor",
                {
                    "weight": weight,
                    "input": sign,
                    "expected": np.where(cells, weight * sign, 0),
                    "output": np.where(cells, outputs[sign], np.nan),
                    "wrong": wrong,
                },
            )
    products: dict[str, int] = {}
    if parameters.vectors > 0:
        yield Progress(2, 3, f"{parameters.vectors} random vectors")
        products = yield from _random_vectors(chip, parameters, cells)
    yield CellsDone(cells)
    yield Progress(3, 3, f"{int(faulty.sum())} of {int(cells.sum())} cells do not XNOR")
    return {
        "cells": int(cells.sum()),
        "errors": errors,
        "faulty": int(faulty.sum()),
        "faulty_cells": np.argwhere(faulty)[:FAULTY_LISTED].tolist(),
        "unsteady": int((unsteady & cells).sum()),
        **products,
    }


def _outputs(
    chip: Chip, weight: int, cells: CellMask, repeats: int
) -> Generator[Step, Any, tuple[dict[int, NDArray[np.float64]], NDArray[np.bool_]]]:
    """Mean output of each cell at both inputs, and which cells gave the same output at each repeat.

    Only columns with selected cells are measured; other cells get zeros.
    """
    rows, cols = chip.geometry
    outputs = {sign: np.zeros((rows, cols)) for sign in SIGNS}
    steady = np.ones((rows, cols), dtype=bool)
    sums: dict[tuple[int, int], Sums] = {(0, 1): np.zeros((repeats, rows), dtype=np.int16)}
    for col in np.flatnonzero(cells.any(axis=0)).tolist():
        # The sum that ends before this column may be that of the selected column on its left.
        wanted = [(col, 1), (col + 1, 1), (col + 1, -1)]
        for columns, sign in [one for one in wanted if one not in sums]:
            inputs = np.ones((repeats, columns), dtype=np.int8)
            inputs[:, -1] = sign
            sums[columns, sign] = chip.xnor(inputs, Geometry(rows, columns))
            yield _sums_record(weight, sign, columns, sums[columns, sign])
        for sign in SIGNS:
            each = sums[col + 1, sign] - sums[col, 1]
            outputs[sign][:, col] = each.mean(axis=0)
            steady[:, col] &= (each == each[0]).all(axis=0)
    return outputs, steady


def _sums_record(weight: int, sign: int, columns: int, sums: Sums) -> Record:
    repeats = len(sums)
    return Record(
        "xnor_sums",
        {
            "weight": np.full(repeats, weight),
            "input": np.full(repeats, sign),
            "columns": np.full(repeats, columns),
            "repeat": np.arange(repeats),
            "sum": sums,
        },
        many=True,
    )


def _random_vectors(chip: Chip, parameters: XnorParameters, cells: CellMask) -> Generator[Step, Any, dict[str, int]]:
    """Random weights in the selected cells and random inputs, over the smallest part that holds the selection."""
    rng = np.random.default_rng(parameters.seed)
    weights = random_weights("binary", chip.geometry, rng)
    yield pattern_record(len(SIGNS), chip.program(weights, used=cells, attempts=parameters.attempts))
    part = Geometry(*(int(last) + 1 for last in np.argwhere(cells).max(axis=0)))
    held = _held(chip, weights, cells)[: part.rows, : part.cols]
    inputs = rng.choice(np.array(SIGNS, dtype=np.int8), size=(parameters.vectors, part.cols))
    expected = (inputs.astype(np.int32) @ held.T.astype(np.int32)).astype(np.int16)
    sums = chip.xnor(inputs, part)
    rows = np.flatnonzero(cells.any(axis=1))
    wide = {
        "inputs": (inputs, chip.geometry.cols),
        "expected": (expected, chip.geometry.rows),
        "sum": (sums, chip.geometry.rows),
    }
    columns = {name: np.pad(values, ((0, 0), (0, size - values.shape[1]))) for name, (values, size) in wide.items()}
    for start in range(0, parameters.vectors, CHUNK):
        some = slice(start, start + CHUNK)
        numbers = np.arange(parameters.vectors)[some]
        yield Record(
            "xnor_vectors", {"vector": numbers, **{name: values[some] for name, values in columns.items()}}, many=True
        )
    difference = np.abs(sums[:, rows].astype(np.int32) - expected[:, rows])
    return {
        "products": int(difference.size),
        "wrong_products": int((difference != 0).sum()),
        "largest_difference": int(difference.max()),
    }


def _held(chip: Chip, weights: Weights, cells: CellMask) -> Weights:
    """Weights asked of the selected cells, and for others what they read: those are summed, too."""
    if cells.all():
        return weights
    read = np.sign(chip.read(SENSES_OF_OTHERS).sum(axis=0, dtype=np.int64)).astype(np.int8)
    return np.where(cells, weights, read)


XNOR = Procedure(
    "xnor",
    "measure the XNOR truth table of each cell, and sums of random vectors against the exact product",
    XnorParameters,
    (XNOR_TABLE, XNOR_SUMS, XNOR_VECTORS, PATTERNS, RESISTANCES),
    xnor,
)
