"""Tables of an inference run, and the rows for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.mapping import NONE, Tile
from bench.procedure import Record, flags
from bench.procedures.tables import CELL
from data.runs import Column, Table
from drivers.chip import Programming, Verdict
from models.cells import Geometry, Weights
from models.prediction import InferenceMode

TILES = Table(
    "tiles",
    (
        Column("tile", "int32", description="index in the plan"),
        Column("layer", "int16", description="index of the layer"),
        Column("matrix_row", "int32", dims=("row",), description="row of the layer's matrix held here, -1 for none"),
        Column("matrix_col", "int32", dims=("col",), description="column of the layer's matrix held here, -1 for none"),
        Column("target", "int8", dims=CELL, description="weight asked for; 0 in unused cells"),
        Column("sensed", "int8", dims=CELL, description="weight read back once it was verified"),
        Column("verdict", "int8", dims=CELL, flags=flags(Verdict), description="what programming came to"),
        Column("attempts", "int16", description="passes over the cells, the first included"),
        Column("raw_errors", "int32", description="cells that read wrong after the first pass"),
    ),
    "tiles of the network, as programmed and read back",
)

TILES_DONE = Table(
    "tiles_done",
    (Column("tile", "int32", description="index in the plan"),),
    "tiles that all samples went through; a resumed run does not program them again",
)

XNOR_SUMS = Table(
    "xnor_sums",
    (
        Column("tile", "int32", description="index of the tile in the plan"),
        Column("group", "int32", description="group of the layer whose inputs were presented"),
        Column("first", "int64", description="first input vector of these: sample times positions, plus position"),
        Column("count", "int64", description="input vectors in this row; the rest of it is fill"),
        Column(
            "sums",
            "int32",
            dims=("batch", "row"),
            description="twice the sum of weight times input, as counted; planes joined, padding taken off",
        ),
    ),
    "what the array answered to the inputs in XNOR mode",
)

BATCH_WEIGHTS = Table(
    "batch_weights",
    (
        Column("tile", "int32", description="index of the tile in the plan"),
        Column("first", "int64", description="first sample of the batch that these weights were used for"),
        Column("count", "int64", description="samples of that batch"),
        Column("sensed", "int8", dims=CELL, description="weight read"),
        Column("refreshed", "uint8", dims=CELL, description="1 for each cell programmed again before this read"),
    ),
    "weights sensed afresh before each batch, in the mode 'sensed'",
)

_PREDICTION = "class answered, -1 where this mode was not run"
SAMPLES = Table(
    "samples",
    (
        Column("sample", "int64", description="index in the test set"),
        Column("label", "int16", description="class that the sample belongs to"),
        Column("software", "int16", description="class answered by the integer network in software"),
        *(Column(mode.value, "int16", description=_PREDICTION) for mode in InferenceMode),
    ),
    "what the network answered, sample by sample",
)


class Programmed(NamedTuple):
    """A tile on the array.

    Attributes:
        number: of the tile in the plan.
        tile: what it holds.
        sensed: ``(rows, cols)`` of the array, read back after it was verified.
    """

    number: int
    tile: Tile
    sensed: Weights


def tile_record(programming: Programming, on: Programmed, array: Geometry) -> Record:
    """The row of the tiles table for one programmed tile."""
    tile = on.tile
    rows, cols = np.full(array.rows, NONE), np.full(array.cols, NONE)
    rows[: len(tile.rows)], cols[: len(tile.cols)] = tile.rows, tile.cols
    return Record(
        "tiles",
        {
            "tile": on.number,
            "layer": tile.layer,
            "matrix_row": rows,
            "matrix_col": cols,
            "target": programming.target,
            "sensed": on.sensed,
            "verdict": programming.verdict,
            "attempts": programming.attempts,
            "raw_errors": programming.raw_errors,
        },
    )


def sums_record(
    tile: int, group: int, first: int, sums: NDArray[np.int32], rows: NDArray[np.int64], batch: int, array: Geometry
) -> Record:
    """Rows of the table of XNOR sums for ``sums (vectors, len(rows))``, ``batch`` vectors in each."""
    count = -(-len(sums) // batch)
    filled = np.zeros((count * batch, array.rows), dtype=np.int32)
    filled[: len(sums), rows] = sums
    starts = np.arange(0, len(sums), batch)
    return Record(
        "xnor_sums",
        {
            "tile": np.full(count, tile),
            "group": np.full(count, group),
            "first": first + starts,
            "count": np.minimum(batch, len(sums) - starts),
            "sums": filled.reshape(count, batch, array.rows),
        },
        many=True,
    )


def samples_record(
    answers: Mapping[InferenceMode, NDArray[np.int64]], software: NDArray[np.int64], labels: NDArray[np.int64]
) -> Record:
    """All rows of the table of samples."""
    unknown = np.full(len(labels), -1)
    columns = {
        "sample": np.arange(len(labels)),
        "label": labels,
        "software": software,
        **{mode.value: answers.get(mode, unknown) for mode in InferenceMode},
    }
    return Record("samples", columns, many=True)
