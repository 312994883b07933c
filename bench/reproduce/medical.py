"""Electrocardiograms and electroencephalograms in networks that are real, binary in the classifier, or all binary.

Penkovsky et al., DATE 2020 (arXiv 2006.11595). A binary classifier keeps the accuracy of the real network and takes
most of its memory away, since most weights are there; an all-binary network needs more filters to come near.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.figures.style import looks, panels
from bench.reproduce.frame import (
    Context,
    Picture,
    Reproduction,
    Row,
    Size,
    System,
    Verdict,
    enough,
    examples_in_words,
    ordering,
    reproduced,
)
from data.datasets import Dataset, load_dataset
from data.levels import LEVELS, as_levels, electrodes_last
from data.splits import cross_validation
from data.synthetic import synthetic_ecg, synthetic_eeg
from models.architectures import Architecture, Conv, Precision, ecg, eeg
from models.encodings import RealEncoding
from models.exceptions import UserMistake

LEVELS_PER_SPREAD = 32.0
"""Grey levels per standard deviation of a signal: four of them either way fill 8 bits."""
SLACK = 0.01
"""An ordering holds unless it is turned round by more than this accuracy."""
REAL_BITS = (32, 8)


class Kind(StrEnum):
    """What is binary."""

    REAL = "all real"
    CLASSIFIER = "binary classifier"
    BINARY = "all binary"
    WIDER = "all binary, more filters"


PRECISIONS = {
    Kind.REAL: (Precision.REAL, Precision.REAL),
    Kind.CLASSIFIER: (Precision.REAL, Precision.BINARY),
    Kind.BINARY: (Precision.BINARY, Precision.BINARY),
    Kind.WIDER: (Precision.BINARY, Precision.BINARY),
}


@dataclass(frozen=True)
class Task:
    """Signals, and the networks for them.

    Attributes:
        name: of the data set: "ecg", "eeg", or "mit-bih", whose beats are no part of the source.
        filters, dense: of the networks.
        wider: times as many filters in the augmented one.
        slower: samples that are averaged into one.
        learnt: examples to learn from of generated data, whose others are all held out; None for real data.
        epochs, batch: of training.
        seeds: how many trainings. On generated data each has a seed of its own; of real data each holds one fold out,
            and there are no more than records or persons.
        published: accuracies in percent, remembered with low confidence; empty for what is not in the source.
        kinds: of networks that are trained.
        orders: pairs of kinds of which the first is to be no worse than the second.
    """

    name: str
    filters: int
    dense: int
    wider: int
    slower: int
    learnt: int | None
    epochs: int
    batch: int
    seeds: int
    published: Mapping[Kind, str]
    kinds: tuple[Kind, ...] = tuple(Kind)
    orders: tuple[tuple[Kind, Kind], ...] = (
        (Kind.REAL, Kind.CLASSIFIER),
        (Kind.CLASSIFIER, Kind.WIDER),
        (Kind.WIDER, Kind.BINARY),
    )


ECG_PUBLISHED = {Kind.REAL: "96.3", Kind.CLASSIFIER: "96", Kind.WIDER: "94.9", Kind.BINARY: "92.1"}
EEG_PUBLISHED = {Kind.REAL: "88", Kind.CLASSIFIER: "87 to 88", Kind.WIDER: "86", Kind.BINARY: "84.6"}
FULL = (
    Task("ecg", 32, 75, 7, 5, None, 60, 50, 5, ECG_PUBLISHED),
    Task("eeg", 40, 80, 11, 1, None, 60, 50, 5, EEG_PUBLISHED),
)
BEATS = Task("mit-bih", 32, 75, 7, 1, None, 60, 50, 5, {})
"""Only where it is asked for: more real signals than most have of the others."""
QUICK_ORDERS = (Kind.REAL, Kind.CLASSIFIER), (Kind.CLASSIFIER, Kind.BINARY)
QUICK = (
    # 20 epochs: after 10 binary networks are still learning, and what more filters gain drowns in their scatter. The
    # binary classifier gets 36 signs here and 992 in the full run, so that it is not held against more filters.
    Task("ecg", 6, 32, 3, 1, 600, 20, 50, 3, ECG_PUBLISHED, orders=(*QUICK_ORDERS, (Kind.WIDER, Kind.BINARY))),
    Task("eeg", 8, 16, 2, 1, 500, 10, 50, 2, EEG_PUBLISHED, (Kind.REAL, Kind.CLASSIFIER, Kind.BINARY), QUICK_ORDERS),
)


def items_of(task: Task, data: Dataset) -> Dataset:
    """Signals as 8-bit levels on the scale of the whole training set, in the order in which the networks take them."""
    levels = as_levels(data, task.slower, per_spread=LEVELS_PER_SPREAD)
    return electrodes_last(levels) if task.name == "eeg" else levels


def plan(task: Task, kind: Kind, shape: Sequence[int], classes: int = 2) -> Architecture:
    """The network of a kind for 8-bit levels of this shape, as :func:`items_of` gives it."""
    features, classifier = PRECISIONS[kind]
    encoding = RealEncoding(math.prod(shape), 0.5 * (LEVELS - 1), 1.0 / LEVELS_PER_SPREAD)
    filters = task.filters * (task.wider if kind is Kind.WIDER else 1)
    if task.name == "eeg":
        _, length, channels = shape
        return eeg(task.name, encoding, channels, length, classes, filters, task.dense, features, classifier)
    channels, _, length = shape
    return ecg(task.name, encoding, channels, length, classes, filters, task.dense, features, classifier)


@dataclass(frozen=True)
class Weights:
    """Numbers of weights.

    Attributes:
        features: of convolutions.
        classifier: of fully connected layers.
    """

    features: int
    classifier: int

    def bytes(self, kind: Kind, real_bits: int) -> float:
        """Memory of the weights, with so many bits for a real one."""
        bits = [1 if precision is Precision.BINARY else real_bits for precision in PRECISIONS[kind]]
        return (self.features * bits[0] + self.classifier * bits[1]) / 8.0

    def saving(self, kind: Kind, real_bits: int) -> float:
        """Share of the real network's memory that is saved."""
        return 1.0 - self.bytes(kind, real_bits) / self.bytes(Kind.REAL, real_bits)


def weights_of(network: Architecture) -> Weights:
    """Weights of an architecture, biases and batch normalisation left out."""
    features = classifier = 0
    sizes = network.sizes()
    for block, size in zip(network.blocks, sizes, strict=False):
        if isinstance(block, Conv):
            features += block.filters * (size[0] // block.groups) * math.prod(block.kernel)
        else:
            classifier += math.prod(size) * block.outputs
    return Weights(features, classifier + math.prod(sizes[-1]) * network.classes)


def mobilenet_v1(classes: int = 1000) -> Weights:
    """MobileNet V1 at full width (Howard et al., arXiv 1704.04861): a convolution, 13 separable, one dense."""
    outputs = (64, 128, 128, 256, 256, *(6 * (512,)), 1024, 1024)
    features, channels = 32 * 3 * 9, 32
    for filters in outputs:
        features += 9 * channels + channels * filters
        channels = filters
    return Weights(features, channels * classes)


def run(context: Context) -> Reproduction:
    """Train the four kinds of networks on both kinds of signals, and draw up the memory."""
    return reproduce(context, QUICK if context.quick else sized(context.size))


def sized(size: Size) -> tuple[Task, ...]:
    """The tasks that are asked for, with other numbers of epochs and filters.

    Raises:
        UserMistake: there is no task on that data set.
    """
    chosen = FULL if size.data is None else tuple(task for task in (*FULL, BEATS) if task.name == size.data)
    if not chosen:
        raise UserMistake(f"--data {size.data}: there are {', '.join(task.name for task in (*FULL, BEATS))}")
    return tuple(
        replace(
            task,
            epochs=task.epochs if size.epochs is None else size.epochs,
            filters=task.filters if size.filters is None else size.filters,
        )
        for task in chosen
    )


def reproduce(context: Context, tasks: Sequence[Task]) -> Reproduction:
    """Run ``tasks``; for networks of another size than those of the source."""
    from bench.reproduce.learning import Lesson, learn

    accuracies: dict[str, dict[Kind, float]] = {}
    counted: dict[str, Weights] = {}
    notes = list[str]()
    held_out: dict[str, list[NDArray[np.int64]]] = {}
    jobs = sum(task.seeds * len(task.kinds) for task in tasks)
    for before, task in enumerate(tasks):
        found: dict[Kind, list[float]] = {kind: [] for kind in task.kinds}
        labels = held_out[task.name] = []
        done = sum(earlier.seeds * len(earlier.kinds) for earlier in tasks[:before])
        for number, raw in enumerate(_parts(context, task)):
            seed = context.seed + number
            notes += [f"{raw.name}: {note}" for note in raw.notes if f"{raw.name}: {note}" not in notes]
            data = items_of(task, raw)
            labels.append(data.test_labels)
            for kind in task.kinds:
                network = plan(task, kind, data.shape, data.classes)
                lesson = Lesson(task.epochs, task.batch)
                name = f"{task.name}-{kind.name.lower()}"
                found[kind].append(learn(context, network, data, lesson, seed, name).accuracy)
                done += 1
                text = f"{found[kind][-1]:.2%} of {len(labels[-1])} held-out examples"
                context.progress(f"{task.name}, {kind}, training {number + 1}: {text}", done / jobs)
        # folds differ in size, and every example counts alike
        weights = [len(some) for some in labels]
        accuracies[task.name] = {kind: float(np.average(values, weights=weights)) for kind, values in found.items()}
    # the published sizes, whatever was trained
    for task in FULL:
        counted[task.name] = weights_of(plan(task, Kind.REAL, PUBLISHED_SHAPES[task.name]))
    counted["MobileNet V1"] = mobilenet_v1()
    rows = [row for task in tasks for row in _rows(task, accuracies[task.name], sum(map(len, held_out[task.name])))]
    return Reproduction(
        SYSTEM.name,
        (*rows, *_memory_rows(counted)),
        (_picture(accuracies, counted),),
        (*_notes(context), *notes),
        _settings(context, tasks, accuracies, counted, held_out),
    )


@dataclass(frozen=True)
class PublishedMemory:
    """What is remembered of the source's table of memory.

    Attributes:
        millions: weights.
        savings: percent by bits of a real weight.
        exact: our network has the same layers, as far as is known.
    """

    millions: float
    savings: Mapping[int, float]
    exact: bool


PUBLISHED_MEMORY = {
    "ecg": PublishedMemory(0.17, {32: 75.0, 8: 65.0}, exact=False),
    "eeg": PublishedMemory(0.31, {32: 64.0, 8: 58.0}, exact=True),
    "MobileNet V1": PublishedMemory(4.2, {32: 20.0, 8: 20.0}, exact=True),
}
PUBLISHED_SHAPES = {"ecg": (12, 1, 1000), "eeg": (1, 960, 64)}
"""10 s at 100 Hz, and 6 s at 160 Hz from 64 electrodes."""


def _parts(context: Context, task: Task) -> Iterator[Dataset]:
    """What each training learns from and is tested on: generated signals of its own seed, or all folds of real ones."""
    if task.learnt is not None:
        yield from (_generated(task, task.learnt, context.seed + number) for number in range(task.seeds))
        return
    data = load_dataset(task.name, context.data_dir, context.seed)
    whole = len(data.train_labels) + len(data.test_labels)
    if data.train_groups is not None and data.test_groups is not None:
        whole = len(np.union1d(data.train_groups, data.test_groups))
    yield from cross_validation(data, min(task.seeds, whole), np.random.default_rng([context.seed, 5]))


def _generated(task: Task, cut: int, seed: int) -> Dataset:
    """Generated signals, of which the first ``cut`` are learnt and all others held out."""
    made = (
        synthetic_ecg(seed, records=1500, rate_hz=50.0, seconds=4.0)
        if task.name == "ecg"
        else synthetic_eeg(seed, trials=1200, channels=9, rate_hz=80.0, depth=0.8, rhythm_uv=12.0)
    )
    items = np.concatenate([made.train_images, made.test_images])
    labels = np.concatenate([made.train_labels, made.test_labels])
    return replace(
        made,
        train_images=items[:cut],
        train_labels=labels[:cut],
        test_images=items[cut:],
        test_labels=labels[cut:],
    )


def _rows(task: Task, of: Mapping[Kind, float], held_out: int) -> list[Row]:
    rows = []
    for better, worse in task.orders:
        rows.append(
            Row(
                f"{task.name}: accuracy, {better} against {worse} (in %; {examples_in_words(held_out)})",
                f"{task.published[better]} against {task.published[worse]} (remembered)" if task.published else None,
                f"{of[better]:.2%} against {of[worse]:.2%}",
                ordering(enough(held_out) and of[better] > of[worse] - SLACK),
            )
        )
    return rows


def _memory_rows(counted: Mapping[str, Weights]) -> list[Row]:
    rows = []
    for name, weights in counted.items():
        millions = (weights.features + weights.classifier) / 1e6
        savings = {bits: 100.0 * weights.saving(Kind.CLASSIFIER, bits) for bits in REAL_BITS}
        published = PUBLISHED_MEMORY[name]
        if published.exact:
            size = reproduced(millions, published.millions, 0.02 * published.millions)
            near = [reproduced(savings[bits], published.savings[bits], 5.0) for bits in REAL_BITS]
            saved = max(near, key=lambda verdict: verdict is Verdict.NOT_REPRODUCED)
        else:
            # a network whose length of input is not known: the order of magnitude, and that most of it is classifier
            size = ordering(0.5 < millions / published.millions < 2.0)
            saved = ordering(min(savings.values()) > 50.0)
        rows += [
            Row(f"{name}: weights (in millions)", published.millions, round(millions, 3), size),
            Row(
                f"{name}: memory saved by the binary classifier against "
                f"{' and '.join(f'{bits}-bit' for bits in REAL_BITS)} weights (in %)",
                " and ".join(f"{published.savings[bits]:g}" for bits in REAL_BITS) + " (remembered)",
                " and ".join(f"{savings[bits]:.1f}" for bits in REAL_BITS),
                saved,
            ),
        ]
    return rows


def _picture(accuracies: Mapping[str, Mapping[Kind, float]], counted: Mapping[str, Weights]) -> Picture:
    figure, (left, right) = panels(2)
    for (name, of), (colour, marker) in zip(accuracies.items(), looks(len(accuracies)), strict=True):
        values = [100.0 * of.get(kind, math.nan) for kind in Kind]
        left.plot(range(len(values)), values, marker=marker, color=colour, label=name)
    left.set_xticks(range(len(Kind)), [kind.value.replace(", ", ",\n") for kind in Kind])
    left.set(ylabel="accuracy (%)")
    left.legend()
    kinds = (Kind.REAL, Kind.CLASSIFIER, Kind.BINARY)
    for (name, weights), (colour, marker) in zip(counted.items(), looks(len(counted)), strict=True):
        values = [weights.bytes(kind, REAL_BITS[0]) / 1024.0 for kind in kinds]
        right.plot(range(len(values)), values, marker=marker, color=colour, label=name)
    right.set_xticks(range(len(kinds)), [str(kind) for kind in kinds])
    right.set(yscale="log", ylabel="memory of the weights (KiB)")
    right.legend()
    caption = (
        "Left: accuracy on held-out signals, mean over trainings. Right: memory of the published networks with the "
        f"same number of filters, real weights with {REAL_BITS[0]} bits."
    )
    return Picture("What is binary", caption, figure)


def _notes(context: Context) -> tuple[str, ...]:
    notes = [
        "All published figures here are remembered with low confidence. An ordering holds unless it is turned round by "
        f"more than {100.0 * SLACK:g} point.",
        "Signals are 8-bit levels for all networks. Memory is that of the weights alone.",
        "ImageNet is not run: of MobileNet V1 only the memory is drawn up, from its layers, with a binary classifier "
        "of a single layer (the source has one of two layers, whose size is not known to us).",
        "The source's length of an electrocardiogram is not known to us; here it has 10 s at 100 Hz, which gives fewer "
        "weights in the classifier.",
    ]
    if not context.quick:
        notes.append(
            "Real signals are cross-validated in five folds, as in the source, or in as many as there are records or "
            "persons to hold out; accuracies are those of all held-out examples together."
        )
    else:
        notes.append(
            "Generated signals and few filters: the accuracies are no figures to hold against the published ones, only "
            "their order is. The all-binary network does not learn the generated electroencephalograms (it stays near "
            "50 %), nor did one with more filters; why is not known. The effect of filters is asked of "
            "electrocardiograms alone. That a binary classifier is better than more filters is asked of the full run, "
            "whose classifier takes 992 signs; with the 36 of the quick run it is worse."
        )
    return tuple(notes)


def _settings(
    context: Context,
    tasks: Sequence[Task],
    accuracies: Mapping[str, Mapping[Kind, float]],
    counted: Mapping[str, Weights],
    held_out: Mapping[str, Sequence[NDArray[np.int64]]],
) -> dict[str, str]:
    settings: dict[str, Any] = {}
    for task in tasks:
        labels = held_out[task.name]
        seeds = ", ".join(str(context.seed + number) for number in range(len(labels)))
        commonest = np.bincount(np.concatenate(labels)).max() / sum(map(len, labels))
        settings[task.name] = (
            f"{task.filters} filters, {task.wider} times as many in the wider network, {task.dense} neurons, "
            f"{task.epochs} epochs, batch {task.batch}, seeds {seeds}, held-out examples of each "
            f"{', '.join(str(len(some)) for some in labels)}, {commonest:.1%} of them of the commonest class"
        )
    for name, of in accuracies.items():
        settings[f"{name}, accuracies"] = ", ".join(f"{kind}: {value:.2%}" for kind, value in of.items())
    for name, weights in counted.items():
        sizes = [f"{kind}: {weights.bytes(kind, REAL_BITS[0]) / 1024.0:.4g} KiB" for kind in Kind if kind != Kind.WIDER]
        settings[f"{name}, weights"] = (
            f"{weights.features} in convolutions, {weights.classifier} in the classifier; {', '.join(sizes)}"
        )
    return settings


SYSTEM = System(
    "medical",
    "electrocardiograms and electroencephalograms: what may be binary, and the memory",
    run,
    ("data", "epochs", "filters"),
    sized,
)
