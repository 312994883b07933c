"""Learning on the chip: the last layer of a network, trained by weak RESETs of its device pairs.

The hidden weight of a pair is the difference of the logarithms of its two resistances. It is never read: the forward
pass senses the pair, which gives its sign, and the gradient, worked out on the host for those signs, becomes a number
of weak RESETs on BL (which raises the weight) or on BLb (which lowers it), as Adam's step in whole pulses (Majumdar et
al., IEEE TED 2021, see :mod:`models.optimizers`). All devices are SET first. Offsets of the classes and the scale of
the logits stay on the host, and are stepped by Adam.

A layer with more inputs than the array has columns lies on it in blocks, one below the other.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from bench.inference import BATCH, Task
from bench.inference_passes import Pass
from bench.inference_tables import BATCH_WEIGHTS, TILES, XNOR_SUMS
from bench.learning_blocks import Blocks, blocks_for
from bench.pausing import in_portions
from bench.procedure import CellMask, Parameters, Procedure, Progress, Record, Result, Step, Steps
from bench.procedures.tables import CELL
from bench.tuning import Sender
from data.run_chain import chain, read_parts
from data.runs import Column, Run, Table
from drivers.chip import Chip, OperationKind
from models.cells import Device, DeviceMask, Weights
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, classify, exact_sums
from models.prediction import InferenceMode
from models.presenting import present

if TYPE_CHECKING:
    from models.learning_steps import HostSteps

FINAL_SENSES = 9
"""Senses after the last epoch, of whose majority the learned weights are."""

FEATURE_ROWS = 2000

FEATURES = Table(
    "features",
    (
        Column("sample", "int64", description="index; training samples first, held-out ones behind them"),
        Column("values", "int8", dims=("input",), description="-1 and +1 that enter the last layer"),
    ),
    "what the last layer learns from",
)

EPOCHS = Table(
    "epochs",
    (
        Column("epoch", "int32", description="epochs done; 0 for the array just after SET"),
        Column("rate", "float64", description="learning rate of the epoch, pulses; 0 before the first"),
        Column("loss", "float64", description="cross-entropy of the training samples as they came; NaN before any"),
        Column("train_accuracy", "float64", description="share of them that were right; NaN before any"),
        Column("test_accuracy", "float64", description="share of the held-out samples, on silicon, after the epoch"),
        Column("turned", "int64", description="how often a weight read otherwise than at the read before"),
        Column("weak_resets", "int64", description="weak-RESET pulses on all devices so far"),
        Column("sets", "int64", description="SET pulses on all devices so far"),
        Column("sensed", "int8", dims=CELL, description="weights read after the epoch"),
    ),
    "learning, epoch by epoch",
)

LEARNING_STATE = Table(
    "learning_state",
    (
        Column("epoch", "int32", description="epochs done"),
        Column("first", "float32", dims=CELL, description="Adam's mean of the slope"),
        Column("second", "float32", dims=CELL, description="Adam's mean of its square"),
        Column("others", "float64", dims=("other",), description="host's parameters, with Adam's means of each"),
        Column("steps", "int64", description="steps of Adam so far"),
    ),
    "what learning goes on with, beside the resistances",
)

LEARNED = Table(
    "learned",
    (
        Column("weights", "int8", dims=("class", "input"), description="weights, the majority of the last senses"),
        Column("threshold", "int32", dims=("class",), description="what is taken off the sum of each class"),
    ),
    "the layer that was learned",
)


class LearningParameters(Parameters):
    """Parameters of learning on the chip."""

    mode: InferenceMode = Field(
        default=InferenceMode.SENSED, description="forward pass: sensed (weights read for each batch) or xnor"
    )
    features_on: str = Field(
        default="software",
        pattern="^(software|silicon)$",
        description="software or silicon: where the layers before the last are computed",
    )
    epochs: int = Field(default=16, ge=1, le=10_000, description="passes over the training samples")
    batch: int = Field(default=50, ge=1, description="training samples of a step, at least")
    rate: float = Field(default=10.0, gt=0.0, allow_inf_nan=False, description="learning rate, pulses")
    halve_every: int = Field(default=4, ge=0, description="epochs after which the rate is halved; 0 for never")
    most_pulses: int = Field(default=14, ge=1, le=1000, description="pulses of a step on one device at most")
    host_rate: float = Field(
        default=0.1, gt=0.0, allow_inf_nan=False, description="learning rate of the offsets of the classes"
    )
    reprogram: bool = Field(
        default=False,
        description="pairs whose weight turned are SET on both sides, and get one weak RESET for the new sign",
    )
    attempts: int = Field(default=3, ge=1, le=100, description="programming passes, where features are on silicon")
    seed: int = Field(default=0, ge=0, lt=2**32, description="of the order of the samples")

    @field_validator("mode")
    @classmethod
    def _fresh(cls, mode: InferenceMode) -> InferenceMode:
        if mode is InferenceMode.HOST:
            raise ValueError("weights change at every step; they are sensed afresh: sensed or xnor")
        return mode


def learning_procedure(training: Task, held_out: Task) -> Procedure:
    """Learning of the last layer of a network on the chip, as a procedure for the runner.

    The weights of that layer in the network are not used, only its size. :func:`learned_network` makes the network of
    the run file.

    Args:
        training: the network and what is learned from.
        held_out: samples of the same network on which each epoch is judged.

    Raises:
        UserMistake: the held-out samples are of another network, or its last layer takes other inputs than -1 and +1,
            presented once.
    """
    from models.learning_steps import HostSteps

    network = training.network
    if held_out.network.sha256 != network.sha256:
        raise UserMistake(f"the held-out samples are for another network, {held_out.network.name}")
    encoding = network.encoding
    if encoding.presentations > 1 or (encoding.planes > 1 and len(network.layers) == 1):
        raise UserMistake(f"{network.name}: a layer that learns takes inputs of -1 and +1, presented once")
    last = network.layers[-1]
    HostSteps((last.outputs, last.inputs), 1, 1.0)  # imports and compiles now: no watchdog shall wait for that

    def steps(chip: Chip, parameters: LearningParameters, cells: CellMask) -> Steps:
        return _learn(chip, parameters, (training, held_out), cells, [])

    def resume(chip: Chip, parameters: LearningParameters, cells: CellMask, earlier: Run) -> Steps:
        return _learn(chip, parameters, (training, held_out), cells, chain(earlier))

    return Procedure(
        "learning",
        "learn a last layer on the chip by weak RESETs",
        LearningParameters,
        (TILES, XNOR_SUMS, BATCH_WEIGHTS, FEATURES, EPOCHS, LEARNING_STATE, LEARNED),
        steps,
        dimensions={
            "batch": np.arange(BATCH),
            "class": np.arange(last.outputs),
            "input": np.arange(last.inputs),
            "other": np.arange(3 * (last.outputs + 1)),
        },
        resume=resume,
        about=training.about | {"held_out_sha256": held_out.about["data_sha256"]},
    )


def learned_network(network: IntegerNetwork, run: Run) -> IntegerNetwork:
    """The network with the last layer that a completed run of :func:`learning_procedure` learned.

    Raises:
        UserMistake: not such a run, one of another network, or one that ended early.
    """
    if run.procedure != "learning" or run.attributes.get("network_sha256") != network.sha256:
        raise UserMistake(f"{run.path} is no learning of this network, {network.name}")
    learned = run.read("learned")
    if not len(learned["weights"]):
        raise UserMistake(f"{run.path} ended before it had learned; resume it")
    weights, threshold = learned["weights"][-1], learned["threshold"][-1]
    last = IntegerLayer(weights, np.ones(len(weights), dtype=np.int8), threshold)
    return replace(network, layers=(*network.layers[:-1], last))


def _learn(
    chip: Chip, parameters: LearningParameters, tasks: tuple[Task, Task], cells: CellMask, earlier: Sequence[Run]
) -> Steps:
    if not cells.all():
        raise UserMistake("learning uses the whole array; leave the selection of cells at 'all'")
    last = tasks[0].network.layers[-1]
    blocks = blocks_for(last.outputs, last.inputs, chip.geometry)
    if parameters.features_on == "silicon":
        tasks[0].plan_for(chip)
    features = _recorded_features(earlier, sum(len(task.labels) for task in tasks))
    if features is None:
        features = yield from _features(chip, parameters, tasks)
    return (yield from _Learning(chip, parameters, tasks, blocks, features, earlier).steps())


def _recorded_features(earlier: Sequence[Run], wanted: int) -> NDArray[np.int8] | None:
    """The features of all samples, where earlier parts recorded them whole: the array may hold the layer by now."""
    for part in reversed(earlier):
        found: NDArray[np.int8] = part.read("features", ["values"])["values"]
        if len(found) == wanted:
            return found
    return None


def _features(
    chip: Chip, parameters: LearningParameters, tasks: tuple[Task, Task]
) -> Generator[Step, Any, NDArray[np.int8]]:
    """The inputs of the last layer for all samples, ``(n, inputs)``, recorded."""
    network = tasks[0].network
    inputs = np.concatenate([task.inputs for task in tasks])
    if parameters.features_on == "software":
        found = yield from in_portions(network.hidden, inputs, "features in software")
    else:
        sender = Sender(chip, tasks[0].plan_for(chip), parameters.attempts)
        one = Pass(parameters.mode, inputs, network.encoding.planes, BATCH)
        for index, layer in enumerate(network.layers[:-1]):
            yield from sender.through(index, layer, [("", one)])
            one.go_on(layer.activate(one.end(layer)))
        found = one.activations
    features = found.astype(np.int8)
    for first in range(0, len(features), FEATURE_ROWS):
        part = features[first : first + FEATURE_ROWS]
        yield Record("features", {"sample": first + np.arange(len(part)), "values": part}, many=True)
    return features


@dataclass
class _Account:
    """Pulses given: ``(rows, cols, 2)`` weak RESETs of each device, and SETs in all."""

    weak: NDArray[np.int64]
    sets: int = 0
    steps: int = field(default=0)

    @classmethod
    def of(cls, chip: Chip, earlier: Sequence[Run]) -> _Account:
        """What earlier parts gave, those pulses included that came after the last epoch that was recorded."""
        account = cls(np.zeros(chip.no_devices().shape, dtype=np.int64))
        for part in earlier:
            done = part.read("operations", ["kind", "count", "devices"])
            weak = done["kind"] == OperationKind.WEAK_RESET
            account.weak += np.tensordot(done["count"][weak], done["devices"][weak].astype(np.int64), axes=1)
            for kind, count, devices in zip(done["kind"], done["count"], done["devices"], strict=True):
                account.sets += int(count) * int(devices.sum()) if kind == OperationKind.SET else 0
        return account


class _Learning:
    """One learning: the layer on the array, the samples, and what the host keeps."""

    def __init__(
        self,
        chip: Chip,
        parameters: LearningParameters,
        tasks: tuple[Task, Task],
        blocks: Blocks,
        features: NDArray[np.int8],
        earlier: Sequence[Run],
    ) -> None:
        self._chip, self._parameters, self._blocks = chip, parameters, blocks
        count = len(tasks[0].labels)
        self._inputs, self._labels = features[:count], tasks[0].labels
        self._held_out, self._held_labels = features[count:], tasks[1].labels
        self._account = _Account.of(chip, earlier)
        self._earlier = earlier
        self._read: Weights | None = None
        self._turned = 0

    def steps(self) -> Steps:
        from models.learning_steps import HostSteps

        parameters, blocks = self._parameters, self._blocks
        host = HostSteps((blocks.rows, blocks.columns), parameters.most_pulses, parameters.host_rate)
        done = self._go_on(host)
        accuracies: list[float] = []
        if done < 0:
            yield Progress(0, parameters.epochs, "SET of all devices of the layer")
            self._set(blocks.devices(np.ones((blocks.rows, blocks.columns), dtype=bool)))
            done = 0
            accuracies.append((yield from self._judge(host, 0, 0.0, np.nan, np.nan)))
        for epoch in range(done + 1, parameters.epochs + 1):
            halvings = (epoch - 1) // parameters.halve_every if parameters.halve_every else 0
            rate = parameters.rate * 0.5**halvings
            loss, right = yield from self._epoch(host, epoch, rate)
            accuracies.append((yield from self._judge(host, epoch, rate, loss, right)))
        weights = self._final()
        yield Record("learned", {"weights": weights, "threshold": host.offsets})
        weak = self._account.weak[blocks.devices(np.ones((blocks.rows, blocks.columns), dtype=bool))]
        yield Progress(parameters.epochs, parameters.epochs, "learned")
        result: Result = {
            "mode": parameters.mode.value,
            "training_samples": len(self._labels),
            "held_out_samples": len(self._held_labels),
            "blocks": blocks.count,
            "epochs": parameters.epochs,
            "accuracies": [round(accuracy, 6) for accuracy in accuracies[-100:]],
            "accuracy": accuracies[-1],
            "weak_resets": int(weak.sum()),
            "weak_resets_of_a_device": {"mean": float(weak.mean()), "most": int(weak.max())},
            "sets": self._account.sets,
            "steps": host.steps,
        }
        return result

    def _go_on(self, host: HostSteps) -> int:
        """Take up what the last epoch of earlier parts left; epochs done, -1 where there is none."""
        states = read_parts(self._earlier, "learning_state") if self._earlier else {"epoch": np.zeros(0)}
        if not len(states["epoch"]):
            return -1
        blocks = self._blocks
        first, second = (blocks.taken(states[name][-1]) for name in ("first", "second"))
        host.load(first, second, states["others"][-1], int(states["steps"][-1]))
        return int(states["epoch"][-1])

    def _epoch(self, host: HostSteps, epoch: int, rate: float) -> Generator[Step, Any, tuple[float, float]]:
        parameters, count = self._parameters, len(self._labels)
        order = np.random.default_rng([parameters.seed, epoch]).permutation(count)
        parts = np.array_split(order, max(1, count // parameters.batch))
        loss, right = 0.0, 0
        for number, chosen in enumerate(parts):
            text = f"epoch {epoch} of {parameters.epochs}, step {number + 1} of {len(parts)}"
            yield Progress((epoch - 1) * len(parts) + number, parameters.epochs * len(parts), text)
            inputs, labels = self._inputs[chosen], self._labels[chosen]
            sums = self._sums(inputs)
            own, correct, pulses = host.step(inputs, sums, labels, rate)
            loss, right = loss + own * len(chosen), right + correct
            before = self._read
            self._pulse(pulses)
            if parameters.reprogram and before is not None:
                self._program_turned(before)
        return loss / count, right / count

    def _sums(self, inputs: NDArray[np.int8]) -> NDArray[np.int32]:
        """Sums ``(n, classes)`` of the layer as it is on the array."""
        if self._parameters.mode is InferenceMode.XNOR:
            if self._parameters.reprogram:
                self._weights()
            shown = present(self._blocks.presented(inputs), 1)
            doubled = shown.doubled(self._chip.xnor(shown.vectors, self._blocks.geometry))
            return self._blocks.joined(doubled) >> 1
        return exact_sums(self._weights(), inputs)

    def _weights(self) -> Weights:
        """The weights as they read now, ``(classes, inputs)``; how many turned since the last look is counted."""
        weights = self._blocks.taken(self._chip.read()[0])
        if self._read is not None:
            self._turned += int((weights != self._read).sum())
        self._read = weights
        return weights

    def _pulse(self, pulses: NDArray[np.int32]) -> None:
        """Weak RESETs: so many on BL where positive, on BLb where negative; one exchange for each bit of the counts."""
        counts = np.stack([np.maximum(pulses, 0), np.maximum(-pulses, 0)], axis=-1)
        for bit in range(int(counts.max(initial=0)).bit_length()):
            self._weak_reset(self._blocks.laid((counts >> bit) & 1 > 0), 1 << bit)

    def _program_turned(self, before: Weights) -> None:
        """SET both devices of the pairs whose weight turned, and give one weak RESET for what it is now."""
        now = self._weights()
        turned = (now != before) & (now != 0)
        if turned.any():
            self._set(self._blocks.devices(turned))
            sides = np.zeros((*now.shape, len(Device)), dtype=bool)
            sides[..., Device.BL], sides[..., Device.BLB] = turned & (now > 0), turned & (now < 0)
            self._weak_reset(self._blocks.laid(sides), 1)
            self._weights()

    def _weak_reset(self, devices: DeviceMask, count: int) -> None:
        self._chip.weak_reset(devices, count)
        self._account.weak += count * devices

    def _set(self, devices: DeviceMask) -> None:
        self._chip.set(devices)
        self._account.sets += int(devices.sum())

    def _judge(
        self, host: HostSteps, epoch: int, rate: float, loss: float, right: float
    ) -> Generator[Step, Any, float]:
        """Infer the held-out samples, and record the epoch and what the next one goes on with."""
        answers = classify(self._sums(self._held_out) - host.offsets)
        accuracy = float((answers == self._held_labels).mean())
        blocks, weights = self._blocks, self._weights()
        yield Record(
            "epochs",
            {
                "epoch": epoch,
                "rate": rate,
                "loss": loss,
                "train_accuracy": right,
                "test_accuracy": accuracy,
                "turned": self._turned,
                "weak_resets": int(self._account.weak.sum()),
                "sets": self._account.sets,
                "sensed": blocks.laid(weights),
            },
        )
        self._turned = 0
        first, second, others = host.state()
        state = {"first": blocks.laid(first), "second": blocks.laid(second), "others": others, "steps": host.steps}
        yield Record("learning_state", {"epoch": epoch, **state})
        live = {"accuracy": accuracy} | ({} if np.isnan(loss) else {"loss": loss})
        text = f"{accuracy:.2%} of the held-out samples after epoch {epoch} of {self._parameters.epochs}"
        yield Progress(epoch, self._parameters.epochs, text, live)
        return accuracy

    def _final(self) -> Weights:
        """The majority of several senses; a draw counts as +1, so that a binary layer stays binary."""
        senses = self._chip.read(FINAL_SENSES).sum(axis=0, dtype=np.int32)
        return np.where(self._blocks.taken(senses) >= 0, 1, -1).astype(np.int8)


__all__ = ["LearningParameters", "learned_network", "learning_procedure"]
