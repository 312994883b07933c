"""How many cycles a run made with each device, from what it recorded of its operations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.runs import Run
from drivers.chip import OperationKind, Outcome
from models.cells import DeviceMask

Counts = NDArray[np.int64]

ROWS = 500
"""Operations read at once: each carries a mask of the whole array."""


def cycles_made(run: Run) -> Counts:
    """Acknowledged cycles of each device, ``(rows, cols, 2)``: those of the board's own loop and those by the host.

    Where a board has no loop a cycle is a SET and a RESET of both devices of a cell. Programming a weight, which is no
    cycle of the experiment, never RESETs both.
    """
    made = np.zeros((len(run.coordinates["row"].array), len(run.coordinates["col"].array), 2), dtype=np.int64)
    reset: DeviceMask = np.zeros(made.shape, dtype=bool)
    for start in range(0, run.rows("operations"), ROWS):
        rows = run.read("operations", ["kind", "count", "devices", "outcome"], slice(start, start + ROWS))
        for kind, count, devices, outcome in zip(*rows.values(), strict=True):
            mask = devices.astype(bool)
            if outcome == Outcome.DONE and kind == OperationKind.RESET:
                reset |= mask  # a large pass is several operations in a row
                continue
            made += _both(reset)
            reset = np.zeros_like(reset)
            if outcome == Outcome.DONE and kind == OperationKind.CYCLE:
                made += np.where(mask, count, 0)
    return made + _both(reset)


def _both(devices: DeviceMask) -> DeviceMask:
    """Devices of cells whose other device is selected too."""
    return np.repeat(devices.all(axis=2, keepdims=True), 2, axis=2)
