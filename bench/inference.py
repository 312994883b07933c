"""Inference on silicon: program a tile, read it back, use it for all samples, and go on to the next.

Two ways, that give the same answer where the array makes no read errors. ``host``: the weights are sensed once after
programming, and the products are summed by the host. ``xnor``: the inputs go to the board, the sense amplifiers form
XNOR, and popcounts come back; every product is sensed afresh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.mapping import Tile, plan_network
from bench.procedure import CellMask, Parameters, Procedure, Progress, Record, Steps, flags
from bench.procedures.tables import CELL
from data.runs import Column, Table
from drivers.chip import Chip, Programming, Verdict
from models.cells import Weights
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, classify, exact_sums
from models.prediction import InferenceMode

Sums = NDArray[np.int32]
HOST, XNOR = InferenceMode


class InferenceParameters(Parameters):
    """Parameters of inference."""

    modes: tuple[InferenceMode, ...] = Field(default=(HOST, XNOR), min_length=1, description="host, xnor, or both")
    attempts: int = Field(default=3, ge=1, le=100, description="programming passes over a cell at most")


TILES = Table(
    "tiles",
    (
        Column("layer", "int16", description="index of the layer"),
        Column("row0", "int32", description="first output neuron of the tile"),
        Column("col0", "int32", description="first input of the tile"),
        Column("target", "int8", dims=CELL, description="weight asked for; 0 in unused cells"),
        Column("sensed", "int8", dims=CELL, description="weight read back once it was verified"),
        Column("verdict", "int8", dims=CELL, flags=flags(Verdict), description="what programming came to"),
        Column("attempts", "int16", description="passes over the cells, the first included"),
        Column("raw_errors", "int32", description="cells that read wrong after the first pass"),
    ),
    "tiles of the network, as programmed and read back",
)

XNOR_SUMS = Table(
    "xnor_sums",
    (
        Column("tile", "int32", description="index in the tiles table"),
        Column("first", "int64", description="index of the first sample of this batch"),
        Column("count", "int64", description="samples in this batch; the rest of the row is fill"),
        Column(
            "sums", "int16", dims=("batch", "row"), description="agreements minus disagreements, as the board counted"
        ),
    ),
    "what the board answered to each batch of inputs",
)

_PREDICTION = "class answered, -1 where this mode was not run"
SAMPLES = Table(
    "samples",
    (
        Column("sample", "int64", description="index in the test set"),
        Column("label", "int16", description="class that the sample belongs to"),
        Column("software", "int16", description="class answered by the integer network in software"),
        Column("host", "int16", description=_PREDICTION),
        Column("xnor", "int16", description=_PREDICTION),
    ),
    "what the network answered, sample by sample",
)


def inference_procedure(
    network: IntegerNetwork, images: NDArray[np.uint8], labels: NDArray[np.int64], batch: int = 64
) -> Procedure:
    """Inference of one network on one test set as a procedure for the runner.

    Args:
        images: ``(n, features)``.
        labels: ``(n,)``.
        batch: input vectors sent to the board at a time.

    Raises:
        UserMistake: the images have another number of features than the network, or it cannot be laid on an array.
    """
    network.fully_connected()
    inputs = network.encode(images).astype(np.int8, copy=False)
    if len(labels) != len(inputs) or len(labels) == 0:
        raise UserMistake(f"test data: {len(inputs)} images and {len(labels)} labels; there must be one label for each")

    def steps(chip: Chip, parameters: InferenceParameters, cells: CellMask) -> Steps:
        if not cells.all():
            raise UserMistake("inference uses the whole array; leave the selection of cells at 'all'")
        return _infer(chip, parameters, network, inputs, network.predict(images), labels, batch)

    return Procedure(
        "inference",
        "program a network tile by tile and infer a test set",
        InferenceParameters,
        (TILES, XNOR_SUMS, SAMPLES),
        steps,
        dimensions={"batch": np.arange(batch)},
        about={
            "network": network.name,
            "network_sha256": _digest(network),
            "data_sha256": _digest_arrays(images, labels),
        },
    )


def _digest(network: IntegerNetwork) -> str:
    """SHA-256 over all integers of the network, layer by layer: weights, signs, thresholds."""
    return _digest_arrays(
        *(array for layer in network.layers for array in (layer.weights, layer.sign, layer.threshold))
    )


def _digest_arrays(*arrays: NDArray[np.integer]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _infer(
    chip: Chip,
    parameters: InferenceParameters,
    network: IntegerNetwork,
    inputs: NDArray[np.int8],
    software: NDArray[np.int64],
    labels: NDArray[np.int64],
    batch: int,
) -> Steps:
    plan, layers = plan_network(network, chip.geometry), network.fully_connected()
    totals = _Totals()
    activations = dict.fromkeys(parameters.modes, inputs)
    answers: dict[InferenceMode, NDArray[np.int64]] = {}
    for index, layer in enumerate(layers):
        sums = {mode: np.zeros((len(inputs), len(layer.weights)), dtype=np.int32) for mode in parameters.modes}
        for number, tile in ((n, t) for n, t in enumerate(plan.tiles) if t.layer == index):
            yield Progress(number, len(plan.tiles), f"layer {index + 1}, tile {number + 1} of {len(plan.tiles)}")
            programming = chip.program(*tile.on_array(layer.weights, chip.geometry), attempts=parameters.attempts)
            totals.add(programming)
            # A read of its own: the last verify is the one that ended the attempts, so it errs less than a fresh read.
            sensed = chip.read()[0]
            yield _tile_record(tile, programming, sensed)
            if HOST in parameters.modes:
                block = sensed[: tile.rows, : tile.cols]
                sums[HOST][:, tile.outputs] += exact_sums(block, activations[HOST][:, tile.inputs])
                if tile is plan.tiles[-1]:
                    yield _accuracy(HOST, layer, sums[HOST], labels, number, len(plan.tiles))
            if XNOR in parameters.modes:
                for record, answered in _xnor(chip, tile, number, activations[XNOR], sums[XNOR], batch):
                    yield record
                    if tile is plan.tiles[-1]:
                        # The last tile completes the answers batch by batch: the accuracy so far can be shown.
                        yield _accuracy(XNOR, layer, sums[XNOR][:answered], labels, number, len(plan.tiles))
        if index < len(layers) - 1:
            activations = {mode: layer.activate(sums[mode]) for mode in parameters.modes}
        else:
            answers = {mode: classify(layer.scores(sums[mode])) for mode in parameters.modes}
    yield _sample_records(answers, software, labels)
    best = ", ".join(f"{mode.value} {(answer == labels).mean():.2%}" for mode, answer in answers.items())
    yield Progress(len(plan.tiles), len(plan.tiles), f"accuracy on silicon: {best}")
    accuracy = {mode.value: float((answer == labels).mean()) for mode, answer in answers.items()}
    return {
        "samples": len(labels),
        "software_accuracy": float((software == labels).mean()),
        "accuracy": accuracy,
        "tiles": len(plan.tiles),
        "cells": totals.summary(),
        "bit_errors": {"raw": totals.raw_errors, "after_verify": totals.failed},
    }


def _xnor(
    chip: Chip, tile: Tile, number: int, activations: NDArray[np.int8], sums: Sums, batch: int
) -> Iterator[tuple[Record, int]]:
    """Send all inputs through a tile; yield the record of each batch and how many samples are answered so far."""
    for first in range(0, len(activations), batch):
        vectors = activations[first : first + batch, tile.inputs]
        answered = chip.xnor(vectors, tile.geometry)
        sums[first : first + len(vectors), tile.outputs] += answered
        padded = np.zeros((batch, chip.geometry.rows), dtype=np.int16)
        padded[: len(vectors), : tile.rows] = answered
        record = Record("xnor_sums", {"tile": number, "first": first, "count": len(vectors), "sums": padded})
        yield record, first + len(vectors)


def _accuracy(
    mode: InferenceMode, last: IntegerLayer, sums: Sums, labels: NDArray[np.int64], done: int, total: int
) -> Progress:
    """Progress with the accuracy over the samples that are answered so far."""
    answered = len(sums)
    accuracy = float((classify(last.scores(sums)) == labels[:answered]).mean())
    text = f"accuracy on silicon, {mode.value}: {accuracy:.2%} after {answered} of {len(labels)} samples"
    return Progress(done, total, text, {mode.value: accuracy, "samples": answered})


def _sample_records(
    answers: dict[InferenceMode, NDArray[np.int64]], software: NDArray[np.int64], labels: NDArray[np.int64]
) -> Record:
    unknown = np.full(len(labels), -1)
    columns = {
        "sample": np.arange(len(labels)),
        "label": labels,
        "software": software,
        **{mode.value: answers.get(mode, unknown) for mode in InferenceMode},
    }
    return Record("samples", columns, many=True)


def _tile_record(tile: Tile, programming: Programming, sensed: Weights) -> Record:
    """The row of the tiles table for one programmed tile."""
    return Record(
        "tiles",
        {
            "layer": tile.layer,
            "row0": tile.row0,
            "col0": tile.col0,
            "target": programming.target,
            "sensed": sensed,
            "verdict": programming.verdict,
            "attempts": programming.attempts,
            "raw_errors": programming.raw_errors,
        },
    )


class _Totals:
    """Running account of programmed cells."""

    def __init__(self) -> None:
        self.programmed = self.verified = self.failed = self.raw_errors = 0

    def add(self, programming: Programming) -> None:
        self.programmed += int(programming.used.sum())
        self.verified += programming.verified
        self.failed += programming.failed
        self.raw_errors += programming.raw_errors

    def summary(self) -> dict[str, int]:
        return {"programmed": self.programmed, "verified": self.verified, "failed": self.failed}


__all__ = ["InferenceParameters", "inference_procedure"]
