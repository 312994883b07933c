"""Inference on silicon: program a tile, read it back, send all samples through it, and go on to the next.

Three ways, that give the same answer where the array makes no read errors. ``host``: the weights are sensed once after
programming, and the products are summed by the host. ``sensed``: the same, sensed afresh before every batch. ``xnor``:
the inputs go to the board, the sense amplifiers form XNOR, and popcounts come back; every product is sensed afresh.
Layers of every kind are products of the matrix that lies on the array with vectors of -1 and +1 (see
:mod:`models.presenting`), so that all run the same way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.attribution import Attribution, TileOutcome, compare, layer_facts
from bench.inference_passes import ON_HOST, Pass, Totals, check_memory, put_on_array
from bench.inference_tables import (
    BATCH_WEIGHTS,
    SAMPLES,
    TILES,
    TILES_DONE,
    XNOR_SUMS,
    Programmed,
    samples_record,
    tile_record,
)
from bench.mapping import Plan, Tile, plan_network
from bench.pausing import Pause, in_portions
from bench.procedure import CellMask, Parameters, Procedure, Progress, Record, Step, Steps
from data.run_chain import chain, read_parts
from data.runs import Run
from drivers.chip import Chip, Programming, Verdict
from models.cells import Geometry
from models.encodings import presented
from models.exceptions import UserMistake
from models.integer import IntegerNetwork, Layer, classify
from models.prediction import InferenceMode

if TYPE_CHECKING:
    from bench.error_map import ErrorMap
    from bench.meeting import Meeting

BATCH = 64


class InferenceParameters(Parameters):
    """Parameters of inference."""

    modes: tuple[InferenceMode, ...] = Field(
        default=(InferenceMode.HOST, InferenceMode.XNOR), min_length=1, description="host, sensed, xnor, or several"
    )
    attempts: int = Field(default=3, ge=1, le=100, description="programming passes over a cell at most")
    keep_right: bool = Field(
        default=False, description="cells that already read the weight wanted are not pulsed: fewer pulses, less margin"
    )
    refresh: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="mode sensed: a cell that reads wrong so many times in a row is programmed again; 0 for never",
    )


@dataclass(frozen=True, eq=False)
class Task:
    """A network with the samples to infer, ready to be put on an array.

    Attributes:
        network: the integers.
        inputs: ``(presentations * n, width)`` what enters the first layer.
        labels: ``(n,)``.
        software: ``(n,)`` class answered by the integer network in software.
        plan: how it is laid on the array, or None for the plain one of the array at hand; with ``meeting`` the part
            that lies on one of several chips.
        error_map: cells of the chip known to be stuck, or None.
        images_sha256: digest of the images.
        meeting: where the chips join their sums that infer together, or None for one that is alone.
    """

    network: IntegerNetwork
    inputs: NDArray[np.integer]
    labels: NDArray[np.int64]
    software: NDArray[np.int64]
    plan: Plan | None = None
    error_map: ErrorMap | None = None
    images_sha256: str = ""
    meeting: Meeting | None = None

    @property
    def about(self) -> dict[str, str]:
        """What it is, for the record of a run."""
        tiles = () if self.plan is None else self.plan.tiles
        return {
            "network": self.network.name,
            "network_sha256": self.network.sha256,
            "data_sha256": _of_both(self.images_sha256, _digest(self.labels)),
            "plan_sha256": _digest(*(part for one in tiles for part in (one.rows, one.cols))) if tiles else "",
            **({} if self.meeting is None else {"chips": json.dumps(self.meeting.chips)}),
        }

    def plan_for(self, chip: Chip) -> Plan:
        """Its plan, or the plain one for this array, found to be for this chip.

        Raises:
            UserMistake: the plan is for another array or chip, the chip cannot tell the network's zeros, or the sums
                of so many samples do not fit into memory.
        """
        plan = plan_network(self.network, chip.geometry) if self.plan is None else self.plan
        check = plan.check if self.meeting is None else plan.check_part
        check(self.network, chip.geometry, chip.chip_id)
        check_senses_zeros(self.network, chip)
        check_memory(len(self.inputs), self.network.layers, 1 if self.meeting is None else len(self.meeting.chips))
        return plan

    def classes(self, scores: NDArray[np.int32]) -> NDArray[np.int64]:
        """Class of each sample from the scores ``(presentations * n, classes)`` of all presentations."""
        return classify(scores.reshape(-1, len(self.labels), self.network.classes).sum(axis=0))

    def known_stuck(self, array: Geometry) -> NDArray[np.bool_]:
        """``(rows, cols)`` cells that an error map says are stuck."""
        return np.zeros(array, dtype=bool) if self.error_map is None else self.error_map.stuck


def inference_task(
    network: IntegerNetwork,
    images: NDArray[np.generic],
    labels: NDArray[np.int64],
    plan: Plan | None = None,
    error_map: ErrorMap | None = None,
) -> Task:
    """A network and a test set, checked and encoded.

    Args:
        images: ``(n, features)``.
        labels: ``(n,)``.
        plan: how the network is laid on the array; by default tile after tile as it comes.
        error_map: of this chip, so that wrong weights of stuck cells are told from others.

    Raises:
        UserMistake: the images have another number of features than the network, there are not as many labels or a
            label beyond the classes, or the plan is for another network.
    """
    labels = np.asarray(labels)
    inputs = [np.asarray(one) for one in presented(network.encoding, images)]
    if len(labels) != len(images) or len(labels) == 0:
        raise UserMistake(f"test data: {len(images)} images and {len(labels)} labels; there must be one label for each")
    if labels.min() < 0 or labels.max() >= network.classes:
        raise UserMistake(
            f"test data: labels from {labels.min()} to {labels.max()}, and the network has {network.classes} classes"
        )
    if plan is not None:
        plan.check(network, plan.array)
    return Task(network, np.concatenate(inputs), labels, network.predict(images), plan, error_map, _digest(images))


def inference_procedure(task: Task, batch: int = BATCH) -> Procedure:
    """Inference of one network on one test set as a procedure for the runner; ``batch`` samples at a time."""

    def steps(chip: Chip, parameters: InferenceParameters, cells: CellMask) -> Steps:
        return _infer(chip, parameters, task, cells, batch, [])

    def resume(chip: Chip, parameters: InferenceParameters, cells: CellMask, earlier: Run) -> Steps:
        return _infer(chip, parameters, task, cells, batch, chain(earlier))

    return Procedure(
        "inference",
        "program a network tile by tile and infer a test set",
        InferenceParameters,
        (TILES, TILES_DONE, XNOR_SUMS, BATCH_WEIGHTS, SAMPLES),
        steps,
        dimensions={"batch": np.arange(batch)},
        resume=resume,
        about=task.about,
    )


def check_senses_zeros(network: IntegerNetwork, chip: Chip) -> None:
    """Refuse a ternary network where the sense point cannot tell a zero, judged by the packaged populations.

    Raises:
        UserMistake: at its supply and window more than half of the zeros would be read as weights.
    """
    from data.device_files import PACKAGED_DEVICES, packaged_device
    from models.sense import critical_resistance_ohm

    if not network.ternary:
        return
    point = chip.points.sense
    models = [packaged_device(name).model for name in PACKAGED_DEVICES]
    # whose high resistances a window reaches depends on the chip's population: only what suits none of them is refused
    reaches = [critical_resistance_ohm(each.sense, point.rails.vdd_v, point.window_s) for each in models]
    if all(reach >= each.hrs.median_ohm for reach, each in zip(reaches, models, strict=True)):
        raise UserMistake(
            f"{network.name} has zero weights, and at {point.rails.vdd_v:g} V a sense window of {point.window_s:g} s "
            f"reads devices up to {min(reaches):.3g} ohm as low: zeros cannot be told. Use a ternary bench, or a "
            "shorter window near threshold: --at SENSE.window_s=..."
        )


def _infer(
    chip: Chip, parameters: InferenceParameters, task: Task, cells: CellMask, batch: int, earlier: Sequence[Run]
) -> Steps:
    if not cells.all():
        raise UserMistake("inference uses the whole array; leave the selection of cells at 'all'")
    return (yield from infer(chip, parameters, task, task.plan_for(chip), batch, earlier))


def infer(
    chip: Chip, parameters: InferenceParameters, task: Task, plan: Plan, batch: int = BATCH, earlier: Sequence[Run] = ()
) -> Steps:
    """Send all samples of ``task`` through the tiles of ``plan``; what ``earlier`` parts finished is not done again.

    Returns:
        Accuracies, cells, errors by cause and layer by layer, as plain data.
    """
    return (yield from _Inference(chip, parameters, task, plan, batch, earlier).steps())


class _Inference:
    """One inference: the plan, the passes through it, and what became of the tiles."""

    def __init__(
        self,
        chip: Chip,
        parameters: InferenceParameters,
        task: Task,
        plan: Plan,
        batch: int,
        earlier: Sequence[Run],
    ) -> None:
        self._chip, self._parameters, self._task, self._plan = chip, parameters, task, plan
        self._earlier = _Earlier(earlier)
        self._attribution = Attribution(chip.geometry, task.known_stuck(chip.geometry))
        self._totals = Totals()
        planes = task.network.encoding.planes
        self._passes = [
            Pass(mode, task.inputs, planes, batch, parameters.refresh) for mode in dict.fromkeys(parameters.modes)
        ]

    def steps(self) -> Steps:
        task, network = self._task, self._task.network
        wanted: NDArray[np.integer] = task.inputs
        answers: dict[InferenceMode, NDArray[np.int64]] = {}
        compared: list[dict[str, dict[str, float]]] = []
        for index, layer in enumerate(network.layers):
            last = index == len(network.layers) - 1
            for one in self._passes:
                one.begin(layer)
            for number, tile in self._plan.of_layer(index):
                yield from self._tile(layer, number, tile, last)
            if task.meeting is not None:
                together = yield from task.meeting.join(index, [one.sums for one in self._passes])
                for one, sums in zip(self._passes, together, strict=True):
                    one.sums = sums
            exact = yield from in_portions(layer.sums, wanted, f"layer {index + 1} in software")
            wanted = task.classes(layer.scores(exact)) if last else layer.activate(exact)
            facts = {}
            for one in self._passes:
                sums = one.end(layer)
                outputs: NDArray[np.integer]
                if last:
                    outputs = answers[one.mode] = task.classes(layer.scores(sums))
                else:
                    outputs = layer.activate(sums)
                right = yield from in_portions(layer.sums, one.activations, f"layer {index + 1} in software")
                facts[one.mode.value] = compare(sums, right, outputs, wanted)
                if not last:
                    one.go_on(outputs.astype(np.int8, copy=False))
            compared.append(facts)
        yield samples_record(answers, task.software, task.labels)
        best = ", ".join(f"{mode.value} {(answer == task.labels).mean():.2%}" for mode, answer in answers.items())
        tiles = len(self._plan.tiles)
        yield Progress(tiles, tiles, f"accuracy on silicon: {best}")
        return self._result(answers, compared)

    def _tile(self, layer: Layer, number: int, tile: Tile, last: bool) -> Iterator[Step]:
        total = len(self._plan.tiles)
        yield Progress(number, total, f"layer {tile.layer + 1}, tile {number + 1} of {total}")
        if number in self._earlier.done:
            programming, sensed = self._earlier.tile(number)
            self._account(tile, programming, sensed)
            for one in self._passes:
                one.replay(layer, Programmed(number, tile, sensed), self._earlier.parts)
            return
        # a tile that a stop left in its middle may still be there: only what reads wrong is pulsed
        keep = self._parameters.keep_right or number in self._earlier.begun
        programming, on = put_on_array(self._chip, number, tile, layer.weights, self._parameters.attempts, keep)
        self._account(tile, programming, on.sensed)
        yield tile_record(programming, on, self._chip.geometry)
        final = last and number == total - 1 and self._task.meeting is None
        for one in self._passes:
            pause = Pause()
            for portion in one.through(layer, on, self._chip):
                if portion.record is not None:
                    yield portion.record
                else:
                    yield from pause(ON_HOST)
                if final and portion.answered and self._task.network.encoding.presentations == 1:
                    # The last tile completes the answers batch by batch: the accuracy so far can be shown.
                    yield self._accuracy(one, layer, portion.answered, number)
        yield Record("tiles_done", {"tile": number})

    def _accuracy(self, one: Pass, layer: Layer, answered: int, done: int) -> Progress:
        """Progress with the accuracy over the samples that are answered so far."""
        labels = self._task.labels
        scores = layer.scores(one.end(layer, answered))
        accuracy = float((classify(scores) == labels[:answered]).mean())
        text = f"accuracy on silicon, {one.mode.value}: {accuracy:.2%} after {answered} of {len(labels)} samples"
        live = {one.mode.value: accuracy, "samples": answered}
        return Progress(done, len(self._plan.tiles), text, live)

    def _account(self, tile: Tile, programming: Programming, sensed: NDArray[np.int8]) -> None:
        held = np.zeros(self._chip.geometry, dtype=bool)
        rows, cols = tile.geometry
        held[:rows, :cols] = tile.held
        self._totals.add(programming)
        self._attribution.tiles.append(TileOutcome(tile.layer, held, programming.target, sensed, programming.verdict))

    def _result(
        self, answers: dict[InferenceMode, NDArray[np.int64]], compared: list[dict[str, dict[str, float]]]
    ) -> dict[str, Any]:
        task, stuck = self._task, self._attribution.stuck_cells()
        layers = [
            layer_facts(index, layer.kind, len(self._plan.of_layer(index)), self._attribution, stuck, compared[index])
            for index, layer in enumerate(task.network.layers)
        ]
        return {
            "samples": len(task.labels),
            "software_accuracy": float((task.software == task.labels).mean()),
            "accuracy": {mode.value: float((answer == task.labels).mean()) for mode, answer in answers.items()},
            "tiles": len(self._plan.tiles),
            "cells": self._totals.cells(),
            "bit_errors": self._totals.bit_errors(),
            "errors": self._attribution.errors(stuck),
            "senses": {
                one.mode.value: {"senses": one.senses, "wrong": one.read_errors, "refreshed": one.refreshed}
                for one in self._passes
                if one.mode is not InferenceMode.HOST
            },
            "layers": layers,
        }


@dataclass
class _Earlier:
    """What earlier parts of a run recorded of its tiles."""

    parts: Sequence[Run]
    done: frozenset[int] = frozenset()
    begun: frozenset[int] = frozenset()
    _table: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parts:
            return
        self.done = frozenset(read_parts(self.parts, "tiles_done", ["tile"])["tile"].tolist())
        self._table = read_parts(self.parts, "tiles", ["tile", "target", "sensed", "verdict", "attempts", "raw_errors"])
        # the tile after the last that was recorded may have been programmed before its row was
        self.begun = frozenset(self._table["tile"].tolist()) - self.done

    def tile(self, number: int) -> tuple[Programming, NDArray[np.int8]]:
        """How a tile was programmed, and what it read back."""
        index = int(np.flatnonzero(self._table["tile"] == number)[-1])
        row = {name: self._table[name][index] for name in self._table}
        used = row["verdict"] != Verdict.UNUSED
        programming = Programming(
            row["target"], used, row["sensed"], row["verdict"], int(row["attempts"]), int(row["raw_errors"])
        )
        return programming, row["sensed"]


def data_sha256(images: NDArray[np.generic], labels: NDArray[np.int64]) -> str:
    """Digest of a test set, as runs of it record it."""
    return _of_both(_digest(images), _digest(labels))


def _of_both(images_sha256: str, labels_sha256: str) -> str:
    return hashlib.sha256(f"{images_sha256} {labels_sha256}".encode()).hexdigest()


def _digest(*arrays: NDArray[np.generic]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


__all__ = [
    "InferenceParameters",
    "Task",
    "check_senses_zeros",
    "data_sha256",
    "infer",
    "inference_procedure",
    "inference_task",
]
