"""What a network answered on silicon, from the run file alone: accuracies, confusion, order of samples. No Qt here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.attribution import CAUSES, TYPES
from bench.inference import data_sha256
from bench.mapping import NONE
from bench.procedure import Progress
from data.class_names import class_names
from data.datasets import Dataset
from data.run_chain import available_chain, read_parts
from data.runs import Run, RunStatus, open_run
from models.exceptions import UserMistake
from models.prediction import InferenceMode

SOFTWARE = "software"
INFERENCE = "inference"
Ints = NDArray[np.int64]

ERROR_NAMES = dict(
    zip(
        (*CAUSES, *TYPES),
        (
            "on stuck cells",
            "given up at verify",
            "read wrong later",
            "signs turned",
            "read as zero",
            "zeros read as ±1",
        ),
        strict=True,
    )
)
"""Causes and types of wrong weights, for people."""


@dataclass(frozen=True, eq=False)
class Answers:
    """An inference run, as far as people ask about it.

    Attributes:
        path: the run file.
        network: name of the network; ``network_sha256``: its digest.
        data_sha256: digest of the samples, see :func:`bench.inference.data_sha256`.
        chip_id: the chip.
        labels: ``(n,)`` class of each sample.
        by_mode: ``(n,)`` class answered: in software, and in each way of inferring that was run.
        result: what the run says of itself: errors by cause, layers.
        wrong_cells: ``(rows, cols)`` tiles in which a cell held a weight that it did not read.
    """

    path: Path
    network: str
    network_sha256: str
    data_sha256: str
    chip_id: str
    labels: Ints
    by_mode: Mapping[str, Ints]
    result: Mapping[str, Any]
    wrong_cells: NDArray[np.int64]

    @property
    def modes(self) -> tuple[str, ...]:
        """Ways of inferring on silicon that were run."""
        return tuple(mode for mode in self.by_mode if mode != SOFTWARE)

    @property
    def classes(self) -> int:
        """Number of classes that occur."""
        return 1 + int(max(found.max() for found in (self.labels, *self.by_mode.values())))

    def accuracy(self, mode: str) -> float:
        """Share of the samples that were answered right."""
        return float((self.by_mode[mode] == self.labels).mean())

    def is_of(self, data: Dataset) -> bool:
        """Whether these are the first test samples of a data set."""
        count = len(self.labels)
        return len(data.test_labels) >= count and self.data_sha256 == data_sha256(
            data.test_images[:count], data.test_labels[:count]
        )


def read_answers(path: Path) -> Answers:
    """Read an inference run.

    Raises:
        UserMistake: no run file, one of another procedure, or one that ended before the answers were complete.
    """
    run = open_run(path)
    if run.procedure != INFERENCE:
        raise UserMistake(
            f"{path} is a run of {run.procedure}, and no inference of one network; "
            f"choose a run file of {INFERENCE!r}, as Program and infer writes it"
        )
    if run.status is not RunStatus.COMPLETED or not run.rows("samples"):
        raise UserMistake(
            f"{path} is {run.status}: it ended before the answers were complete; go on with it by: "
            f"rram-bench infer NETWORK --resume {path}"
        )
    rows = run.read("samples")
    modes = [mode.value for mode in InferenceMode if (rows[mode.value] >= 0).all()]
    about = {
        name: str(run.attributes.get(name, "")) for name in ("network", "network_sha256", "data_sha256", "chip_id")
    }
    return Answers(
        path,
        labels=rows["label"].astype(np.int64),
        by_mode={mode: rows[mode].astype(np.int64) for mode in (SOFTWARE, *modes)},
        result=run.result,
        wrong_cells=_wrong_cells(run),
        **about,
    )


def _wrong_cells(run: Run) -> NDArray[np.int64]:
    parts, _ = available_chain(run)
    tiles = read_parts(parts, "tiles", ["matrix_row", "matrix_col", "target", "sensed"])
    held = (tiles["matrix_row"] != NONE)[:, :, None] & (tiles["matrix_col"] != NONE)[:, None, :]
    wrong: NDArray[np.int64] = (held & (tiles["target"] != tiles["sensed"])).sum(axis=0)
    return wrong


def names_for(answers: Answers, data: Dataset | None) -> tuple[str, ...]:
    """What the classes are called; numbers where the data set is not at hand."""
    if data is None:
        return class_names("", answers.classes)
    return class_names(data.name, data.classes)


def confusion(labels: Ints, answered: Ints, classes: int) -> Ints:
    """``(classes, classes)``: how many samples of each class (row) were answered with each class (column)."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, answered), 1)
    return counts


def wrong_first(labels: Ints, answered: Ints, pair: tuple[int, int] | None = None) -> NDArray[np.intp]:
    """Indices of the samples, those answered wrong first, each part in the order of the set.

    Args:
        pair: a class and an answer, for only the samples of that class that got it.
    """
    if pair is not None:
        return np.flatnonzero((labels == pair[0]) & (answered == pair[1]))
    wrong = labels != answered
    return np.concatenate([np.flatnonzero(wrong), np.flatnonzero(~wrong)])


def cause_columns(result: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Wrong weights by cause and by type: names of the columns, all layers and each, and rows of name and numbers."""
    layers = result["layers"]
    errors = [result["errors"], *(facts["errors"] for facts in layers)]
    cells = [sum(facts["cells"] for facts in layers), *(facts["cells"] for facts in layers)]
    wrong = [sum(one[cause] for cause in CAUSES) for one in errors]
    shares = [f"{bad / of:.2%}" if of else "–" for bad, of in zip(wrong, cells, strict=True)]
    rows = [("weights", [str(of) for of in cells]), ("wrong", [str(bad) for bad in wrong]), ("share", shares)]
    rows += [(name, [str(one[key]) for one in errors]) for key, name in ERROR_NAMES.items()]
    return ["all layers", *(f"layer {facts['layer']}\n{facts['kind']}" for facts in layers)], rows


def layer_rows(result: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    """How far each layer is from the exact integers, in each way of inferring."""
    return [
        (
            f"layer {facts['layer']}, {mode}",
            (f"{values['sums_wrong']:.2%}", f"{values['sum_rms']:.3g}", f"{values['outputs_wrong']:.2%}"),
        )
        for facts in result.get("layers", [])
        for mode, values in facts["modes"].items()
    ]


@dataclass
class RunningAccuracy:
    """The accuracy over the samples answered so far, way by way.

    Attributes:
        points: of each way of inferring, samples answered and accuracy.
    """

    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def take(self, step: Progress) -> bool:
        """Take in what a step tells; False where it tells nothing of the accuracy."""
        if "samples" not in step.live:
            return False
        found = {mode.value: step.live[mode.value] for mode in InferenceMode if mode.value in step.live}
        for mode, accuracy in found.items():
            self.points.setdefault(mode, []).append((int(step.live["samples"]), accuracy))
        return bool(found)

    @classmethod
    def of(cls, answers: Answers) -> RunningAccuracy:
        """The same from the answers of a run, sample by sample."""
        count = np.arange(1, len(answers.labels) + 1)
        running = {mode: np.cumsum(answers.by_mode[mode] == answers.labels) / count for mode in answers.modes}
        return cls({mode: list(zip(count.tolist(), found.tolist(), strict=True)) for mode, found in running.items()})

    def last(self, mode: str) -> float | None:
        """The latest accuracy; None before the first."""
        return self.points[mode][-1][1] if self.points.get(mode) else None
