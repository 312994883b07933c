"""Where an inference went wrong: every wrong weight put down to its cause, and every layer held to the exact integers.

Causes are told apart by what was seen: a cell that is known to be stuck, or that reads the same in every tile although
both signs were asked of it; a cell that was given up when the tile was verified; a cell that was verified and reads
another weight at a later sense. Of each, the type: 1 a sign inverted, 2 a weight read as zero, 3 a zero read as a
weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivers.chip import Verdict
from models.cells import Geometry, Weights

CAUSES = ("stuck", "programming", "read")
TYPES = ("type1", "type2", "type3")


@dataclass(frozen=True, eq=False)
class TileOutcome:
    """What became of one tile: arrays of the array's shape.

    Attributes:
        layer: index of the layer.
        held: cells that carry a weight of the layer.
        target, sensed: weights asked for, and read back after the verify.
        verdict: values of :class:`~drivers.chip.Verdict`.
    """

    layer: int
    held: NDArray[np.bool_]
    target: Weights
    sensed: Weights
    verdict: NDArray[np.int8]


@dataclass
class Attribution:
    """Gathers the outcomes of tiles, and says what the wrong weights come from.

    Attributes:
        array: size of the array.
        stuck: ``(rows, cols)`` cells known to be stuck before, by an error map; none without one.
    """

    array: Geometry
    stuck: NDArray[np.bool_]
    tiles: list[TileOutcome] = field(default_factory=list)

    def stuck_cells(self) -> NDArray[np.bool_]:
        """``(rows, cols)`` cells that are stuck: known before, or given up each time with the same reading.

        Told from the tiles only where at least two different weights were asked of a cell.
        """
        found = self.stuck.copy()
        if not self.tiles:
            return found
        held, target, sensed, failed = (
            np.stack(part)
            for part in zip(
                *((tile.held, tile.target, tile.sensed, tile.verdict == Verdict.FAILED) for tile in self.tiles),
                strict=True,
            )
        )
        signs = np.stack([(held & (target == sign)).any(axis=0) for sign in (-1, 0, 1)])
        same = np.stack([(~held | (sensed == sign)).all(axis=0) for sign in (-1, 0, 1)]).any(axis=0)
        other = held & (sensed != target)
        found |= (signs.sum(axis=0) >= 2) & same & other.any(axis=0) & (~other | failed).all(axis=0)
        return found

    def errors(self, stuck: NDArray[np.bool_], layer: int | None = None) -> dict[str, int]:
        """Weights that read wrong after the verify, by cause and by type, of one layer or of all.

        Args:
            stuck: cells that count as stuck, see :meth:`stuck_cells`.
            layer: index of the layer, or None for all.
        """
        counts = dict.fromkeys((*CAUSES, *TYPES), 0)
        for tile in self.tiles:
            if layer is not None and tile.layer != layer:
                continue
            wrong = tile.held & (tile.sensed != tile.target)
            failed = tile.verdict == Verdict.FAILED
            causes = (wrong & stuck, wrong & ~stuck & failed, wrong & ~stuck & ~failed)
            zero = tile.target == 0
            types = (wrong & ~zero & (tile.sensed != 0), wrong & ~zero & (tile.sensed == 0), wrong & zero)
            for name, cells in zip((*CAUSES, *TYPES), (*causes, *types), strict=True):
                counts[name] += int(cells.sum())
        return counts

    def cells(self, layer: int) -> int:
        """Cells that carry weights of a layer."""
        return sum(int(tile.held.sum()) for tile in self.tiles if tile.layer == layer)


def layer_facts(
    index: int,
    kind: str,
    tiles: int,
    attribution: Attribution,
    stuck: NDArray[np.bool_],
    modes: dict[str, dict[str, float]],
) -> dict[str, Any]:
    """What is said of one layer: its weights, their errors, and how far its sums and outputs are from the integers."""
    return {
        "layer": index + 1,
        "kind": kind,
        "tiles": tiles,
        "cells": attribution.cells(index),
        "errors": attribution.errors(stuck, index),
        "modes": modes,
    }


def compare(
    sums: NDArray[np.int32],
    exact: NDArray[np.int32],
    outputs: NDArray[np.integer],
    wanted: NDArray[np.integer],
) -> dict[str, float]:
    """How a layer on silicon compares with the integer network.

    Args:
        sums: ``(n, outputs)`` of the silicon.
        exact: the same from the very inputs that the silicon had, with the weights asked for.
        outputs: what the layer gives on silicon: activations, or the classes of the last.
        wanted: what the integer network has there, from its own inputs.

    Returns:
        ``sums_wrong``: share of the sums that differ; ``sum_rms``: their root mean square difference;
        ``outputs_wrong``: share of the outputs that differ, whatever the cause, errors of earlier layers included.
    """
    off = sums.astype(np.float64) - exact
    return {
        "sums_wrong": float((off != 0).mean()),
        "sum_rms": float(np.sqrt((off**2).mean())),
        "outputs_wrong": float((outputs != wanted).mean()),
    }


def cause_lines(layers: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """The layers as lines of a table for a person."""
    lines = []
    for facts in layers:
        causes = ", ".join(f"{facts['errors'][cause]} {cause}" for cause in CAUSES)
        wrong = "; ".join(f"{mode} {values['outputs_wrong']:.2%}" for mode, values in facts["modes"].items())
        lines.append((f"layer {facts['layer']}, {facts['kind']}", f"wrong weights: {causes}; outputs wrong: {wrong}"))
    return lines
