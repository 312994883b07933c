"""Fine-tuning with the forward pass on silicon: what the host keeps is fitted to the sums that the chip really gives.

The network is programmed tile by tile, once. Training samples go through each layer on the array; from its sums the
thresholds of the layer are fitted anew (:mod:`models.refitting`) before its activations go on to the next, so that
every layer is fitted to what the layers before it make of the samples on this chip. In the last layer the offsets of
the classes are fitted, and where asked for its weights are first trained on, on the features of the chip.

Held-out samples go along: once through the network as it was and once through the tuned one, on the same programmed
cells. They are never fitted to.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.inference import BATCH, Task
from bench.inference_passes import ON_HOST, Pass, Totals, put_on_array
from bench.inference_tables import BATCH_WEIGHTS, TILES, XNOR_SUMS, tile_record
from bench.mapping import Plan
from bench.pausing import Pause, in_portions
from bench.procedure import CellMask, Parameters, Procedure, Progress, Record, Result, Step, Steps, Wait
from data.runs import Column, Run, Table
from drivers.chip import Chip
from models.cells import Weights
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, Layer, classify
from models.prediction import InferenceMode
from models.refitting import Refit, by_row, import_now, refit_offsets, refit_row, retraining, with_integers

HELD_BACK = 5
"""One in so many training samples decides whether weights that were trained on are better than the old ones."""

UNTUNED = "untuned_"
"""Before the names of the tables of what the network answered as it was."""

TUNED = Table(
    "tuned",
    (
        Column("layer", "int16", description="index of the layer"),
        Column("matrix_row", "int32", description="neuron, filter or class: row of the layer's matrix"),
        Column("sign_before", "int8", description="sign of the sum, as it was"),
        Column("sign", "int8", description="sign of the sum, tuned"),
        Column("threshold_before", "int32", description="threshold, as it was"),
        Column("threshold", "int32", description="threshold, tuned"),
        Column(
            "agreement_before",
            "float64",
            description="share of training activations on silicon equal to those of the exact network, at the old "
            "threshold; in the last layer, share of training samples rightly put into this class or left out",
        ),
        Column("agreement", "float64", description="the same, tuned"),
    ),
    "integers beside the weights, before and after, row by row",
)

CLASSIFIER = Table(
    "classifier",
    (Column("weights", "int8", dims=("class", "input"), description="weights of the last layer"),),
    "weights of the last layer where they were trained on",
)

HELD_OUT = Table(
    "held_out",
    (
        Column("sample", "int64", description="index in the held-out set"),
        Column("label", "int16", description="class that the sample belongs to"),
        Column("software", "int16", description="class answered by the untuned integer network in software"),
        Column("untuned", "int16", description="class answered on silicon by the network as it was"),
        Column("tuned", "int16", description="class answered on silicon by the tuned network"),
    ),
    "what the network answered to samples that it was not tuned on",
)


class TuningParameters(Parameters):
    """Parameters of fine-tuning."""

    mode: InferenceMode = Field(default=InferenceMode.HOST, description="way of inferring: host, sensed or xnor")
    attempts: int = Field(default=3, ge=1, le=100, description="programming passes over a cell at most")
    classifier: bool = Field(
        default=False, description="train the last layer's weights on, on the features of the chip, and program them"
    )
    epochs: int = Field(default=30, ge=1, le=10_000, description="of training the last layer on")
    seed: int = Field(default=0, ge=0, lt=2**32, description="of the order of samples in that training")


@dataclass
class Sender:
    """Programs the tiles of a plan and sends samples through them.

    Attributes:
        chip: where.
        plan: how.
        attempts: programming passes over a cell at most.
        totals: cells so far.
    """

    chip: Chip
    plan: Plan
    attempts: int
    totals: Totals = field(default_factory=Totals, init=False)

    def through(self, index: int, layer: Layer, passes: Sequence[tuple[str, Pass]]) -> Iterator[Step]:
        """Program each tile of a layer, and take the passes through it; what each records goes to its own tables.

        Args:
            index: of the layer in the plan.
            layer: whose weights are programmed.
            passes: each with what stands before the names of its tables.
        """
        for _, one in passes:
            one.begin(layer)
        total = len(self.plan.tiles)
        for number, tile in self.plan.of_layer(index):
            yield Progress(number, total, f"layer {index + 1}, tile {number + 1} of {total}")
            programming, on = put_on_array(self.chip, number, tile, layer.weights, self.attempts)
            self.totals.add(programming)
            yield tile_record(programming, on, self.chip.geometry)
            for before, one in passes:
                pause = Pause()
                for portion in one.through(layer, on, self.chip):
                    if portion.record is not None:
                        yield replace(portion.record, table=before + portion.record.table)
                    else:
                        yield from pause(ON_HOST)


def exact_activations(layer: Layer) -> Callable[[NDArray[np.integer]], NDArray[np.integer]]:
    """The activations of a hidden layer as a function of its inputs."""
    return lambda inputs: layer.activate(layer.sums(inputs))


def tuning_procedure(training: Task, held_out: Task | None = None, batch: int = BATCH) -> Procedure:
    """Fine-tuning of one network on training samples as a procedure for the runner.

    :func:`tuned_network` makes the tuned network of its run file.

    Args:
        training: the network and what it is tuned on, and how it is laid on the array.
        held_out: samples of the same network on which the gain is measured; by default it is not.
        batch: samples at a time.

    Raises:
        UserMistake: the held-out samples are of another network.
    """
    network = training.network
    if held_out is not None and held_out.network.sha256 != network.sha256:
        raise UserMistake(
            f"the held-out samples are for another network, {held_out.network.name}, than the training samples"
        )
    last, encoding = network.layers[-1], network.encoding
    import_now()

    def steps(chip: Chip, parameters: TuningParameters, cells: CellMask) -> Steps:
        if parameters.classifier and encoding.planes > 1 and len(network.layers) == 1:
            raise UserMistake(f"{network.name} has no features of -1 and +1 that its last layer could be trained on")
        if not cells.all():
            raise UserMistake("tuning uses the whole array; leave the selection of cells at 'all'")
        return (yield from _Tuning(chip, parameters, training, held_out, batch).steps())

    return Procedure(
        "tuning",
        "fine-tune a network with the forward pass on silicon",
        TuningParameters,
        (
            TILES,
            XNOR_SUMS,
            BATCH_WEIGHTS,
            *(replace(table, name=UNTUNED + table.name) for table in (XNOR_SUMS, BATCH_WEIGHTS)),
            TUNED,
            CLASSIFIER,
            HELD_OUT,
        ),
        steps,
        dimensions={
            "batch": np.arange(batch),
            "class": np.arange(last.outputs),
            "input": np.arange(last.inputs),
        },
        about=training.about | ({} if held_out is None else {"held_out_sha256": held_out.about["data_sha256"]}),
    )


def tuned_network(network: IntegerNetwork, run: Run) -> IntegerNetwork:
    """The network as a completed tuning run left it.

    Args:
        network: the one that was tuned.
        run: of :func:`tuning_procedure`.

    Raises:
        UserMistake: not such a run, one of another network, or one that ended early.
    """
    if run.procedure != "tuning" or run.attributes.get("network_sha256") != network.sha256:
        raise UserMistake(f"{run.path} is no tuning of this network, {network.name}")
    rows, matrices = run.read("tuned"), run.read("classifier")["weights"]
    layers: list[Layer] = []
    for index, layer in enumerate(network.layers):
        own = rows["layer"] == index
        if int(own.sum()) != len(layer.weights):
            raise UserMistake(f"{run.path} ended before layer {index + 1} was tuned; tune again")
        order = np.argsort(rows["matrix_row"][own])
        tuned = with_integers(layer, rows["sign"][own][order], rows["threshold"][own][order])
        last = index == len(network.layers) - 1
        layers.append(tuned.with_weights(matrices[-1]) if last and len(matrices) else tuned)
    return replace(network, layers=tuple(layers))


def plan_of_tuned(plan: Plan, tuned: IntegerNetwork) -> Plan:
    """The plan that a network was tuned with, for the tuned one: the same weights on the same cells."""
    return replace(plan, network=tuned.name, network_sha256=tuned.sha256)


class _Tuning:
    """One tuning: the samples on their way through the network, and the layers fitted so far."""

    def __init__(
        self, chip: Chip, parameters: TuningParameters, training: Task, held_out: Task | None, batch: int
    ) -> None:
        self._parameters, self._training, self._held_out = parameters, training, held_out
        self._sender = Sender(chip, training.plan_for(chip), parameters.attempts)
        planes, inputs = training.network.encoding.planes, training.inputs
        self._untuned: list[tuple[str, Pass]] = []
        if held_out is not None:
            self._untuned = [(UNTUNED, Pass(parameters.mode, held_out.inputs, planes, batch))]
            inputs = np.concatenate([inputs, held_out.inputs])
        # training samples first; held-out ones behind them
        self._tuned = Pass(parameters.mode, inputs, planes, batch)
        self._facts: list[dict[str, Any]] = []

    def steps(self) -> Steps:
        network = self._training.network
        exact: NDArray[np.integer] = self._training.inputs
        for index, layer in enumerate(network.layers[:-1]):
            yield from self._sender.through(index, layer, [*self._untuned, ("", self._tuned)])
            exact = yield from in_portions(exact_activations(layer), exact, f"layer {index + 1} in software")
            sums = self._tuned.end(layer)
            found = yield from self._refit(layer, sums[: len(exact)], exact)
            yield self._record(index, layer, found)
            self._tuned.go_on(with_integers(layer, found.sign, found.threshold).activate(sums))
            for _, one in self._untuned:
                one.go_on(layer.activate(one.end(layer)))
        return (yield from self._last(len(network.layers) - 1, cast(IntegerLayer, network.layers[-1])))

    def _last(self, index: int, layer: IntegerLayer) -> Steps:
        task, training, before = self._training, len(self._training.inputs), layer
        if self._parameters.classifier:
            if self._untuned:
                yield from self._sender.through(index, before, self._untuned)
            weights = yield from self._trained_on(before)
            yield Record("classifier", {"weights": weights})
            layer = before.with_weights(weights)
            yield from self._sender.through(index, layer, [("", self._tuned)])
        else:
            yield from self._sender.through(index, layer, [*self._untuned, ("", self._tuned)])
        sums, presentations = self._tuned.end(layer), task.network.encoding.presentations
        of_sample = sums[:training].reshape(presentations, len(task.labels), -1).sum(axis=0)
        found = refit_offsets(layer, of_sample, task.labels, presentations)
        yield self._record(index, before, found)
        tuned = with_integers(layer, found.sign, found.threshold)
        result: Result = {
            "mode": self._parameters.mode.value,
            "training_samples": len(task.labels),
            "training_accuracy": float((task.classes(tuned.scores(sums[:training])) == task.labels).mean()),
            "layers": self._facts,
            "cells": self._sender.totals.cells(),
            "bit_errors": self._sender.totals.bit_errors(),
        }
        if self._held_out is not None:
            untuned = self._held_out.classes(before.scores(self._untuned[0][1].end(before)))
            answers = self._held_out.classes(tuned.scores(sums[training:]))
            yield _held_out_record(self._held_out, untuned, answers)
            shares = {"software": self._held_out.software, "untuned": untuned, "tuned": answers}
            result["held_out_samples"] = len(answers)
            result["held_out_accuracy"] = {
                name: float((found == self._held_out.labels).mean()) for name, found in shares.items()
            }
        tiles = len(self._sender.plan.tiles)
        yield Progress(tiles, tiles, "tuned")
        return result

    def _refit(self, layer: Layer, sums: NDArray[np.int32], wanted: NDArray[np.integer]) -> Generator[Wait, Any, Refit]:
        """Signs and thresholds of a hidden layer, row by row."""
        found, pause = [], Pause()
        rows = zip(layer.sign, layer.threshold, by_row(layer, sums), by_row(layer, wanted), strict=True)
        for sign, threshold, own, exact in rows:
            found.append(refit_row(int(sign), int(threshold), own, exact))
            yield from pause("fitting thresholds")
        sign, threshold, differ_before, differ = np.array(found).T
        samples = sums.size // len(found)
        return Refit(
            sign.astype(np.int8), threshold.astype(np.int32), 1.0 - differ_before / samples, 1.0 - differ / samples
        )

    def _trained_on(self, layer: IntegerLayer) -> Generator[Wait, Any, Weights]:
        """Weights of the last layer, trained on the activations of the training samples on silicon.

        Every fifth sample is held back, and the old weights stay unless the new ones get more of these right: training
        on from weights that are good already mostly wears them to the samples.
        """
        task, parameters = self._training, self._parameters
        presentations = task.network.encoding.presentations
        features = self._tuned.activations[: len(task.inputs)].astype(np.int8)
        labels = np.tile(task.labels, presentations)
        back = np.tile(np.arange(len(task.labels)) % HELD_BACK == 0, presentations)
        weights = layer.weights
        trained = retraining(layer, features[~back], labels[~back], parameters.seed, parameters.epochs)
        for epoch, newest in enumerate(trained, start=1):
            weights = newest
            # with the outputs off: the array is not needed for a while
            yield Wait(0.0, f"training the last layer on, epoch {epoch} of {parameters.epochs}")
        right = []
        for one in (layer, layer.with_weights(weights)):
            sums = one.sums(features)
            offsets = refit_offsets(one, sums[~back], labels[~back]).threshold
            scores = with_integers(one, one.sign, offsets).scores(sums[back])
            right.append(int((classify(scores) == labels[back]).sum()))
        return weights if right[1] > right[0] else layer.weights

    def _record(self, index: int, layer: Layer, found: Refit) -> Record:
        rows = len(layer.weights)
        changed = (found.sign != layer.sign) | (found.threshold != layer.threshold)
        self._facts.append(
            {
                "layer": index,
                "kind": layer.kind,
                "rows": rows,
                "changed": int(changed.sum()),
                "agreement_before": float(found.agreement_before.mean()),
                "agreement": float(found.agreement.mean()),
            }
        )
        return Record(
            "tuned",
            {
                "layer": np.full(rows, index),
                "matrix_row": np.arange(rows),
                "sign_before": layer.sign,
                "threshold_before": layer.threshold,
                **found._asdict(),
            },
            many=True,
        )


def _held_out_record(task: Task, untuned: NDArray[np.int64], tuned: NDArray[np.int64]) -> Record:
    columns = {
        "sample": np.arange(len(task.labels)),
        "label": task.labels,
        "software": task.software,
        "untuned": untuned,
        "tuned": tuned,
    }
    return Record("held_out", columns, many=True)


__all__ = [
    "Sender",
    "TuningParameters",
    "exact_activations",
    "plan_of_tuned",
    "tuned_network",
    "tuning_procedure",
]
