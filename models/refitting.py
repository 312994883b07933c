"""Thresholds, offsets and last weights of an integer network, fitted to the sums that an array really gives.

An array with wrong weights gives other sums than the network was folded for. What the host keeps beside the array can
follow: the threshold of each neuron or filter, the offset of each class, and the weights of the last layer.

A threshold is set where the activations agree best with those of the exact network. That is the binary counterpart of
taking the batch-norm statistics of the array in the place of those of software, and was chosen for what it does where
nothing is wrong: the old threshold then agrees without exception and stays, while statistics that were estimated anew
from some samples move thresholds by their own uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from models.cells import Weights
from models.integer import IntegerLayer, Layer, classify

AnyLayer = TypeVar("AnyLayer", bound=Layer)

SHIFT_SD = 1.0
"""Standard deviation of the prior of an offset's shift, in logits: without one, classes that are never confused in the
samples could move without bound."""


class Refit(NamedTuple):
    """The integers of a layer beside its weights, fitted anew; arrays ``(rows,)``.

    Attributes:
        sign, threshold: as of :class:`~models.integer.Layer`.
        agreement_before, agreement: share of answers that are as wanted, with the old integers and with these.
    """

    sign: NDArray[np.int8]
    threshold: NDArray[np.int32]
    agreement_before: NDArray[np.float64]
    agreement: NDArray[np.float64]


def with_integers(layer: AnyLayer, sign: NDArray[np.int8], threshold: NDArray[np.int32]) -> AnyLayer:
    """The same layer with other signs and thresholds ``(rows,)``."""
    # every layer is a dataclass with these two fields, which a protocol cannot say
    return cast(AnyLayer, replace(cast(Any, layer), sign=sign, threshold=threshold))


def by_row(layer: Layer, outputs: NDArray[Any]) -> NDArray[Any]:
    """Values ``(n, outputs)`` as ``(rows, n * places)``: what belongs to each row of the layer's matrix."""
    rows = len(layer.weights)
    return outputs.reshape(len(outputs), rows, -1).transpose(1, 0, 2).reshape(rows, -1)


class RefitRow(NamedTuple):
    """Sign and threshold of one neuron or filter, fitted anew, and how many activations differ from those wanted."""

    sign: int
    threshold: int
    differ_before: int
    differ: int


def refit_row(sign: int, threshold: int, sums: NDArray[np.int32], wanted: NDArray[np.integer]) -> RefitRow:
    """Sign and threshold with which a neuron's or filter's activations agree best with ``wanted``.

    The best threshold is found exactly, by counting. Of equal ones the old one is kept, else the nearest to it. The
    sign turns only where that agrees better than any threshold of the old one. A neuron of sign 0 is constant and
    stays.

    Args:
        sign, threshold: the old ones.
        sums: ``(n,)`` that the array gave.
        wanted: ``(n,)`` activations of the exact network, -1 and +1.
    """
    fires = wanted > 0
    fewest, best, before = _best_threshold(sign * sums, fires, threshold)
    if sign == 0:
        return RefitRow(sign, threshold, before, before)
    turned, other, _ = _best_threshold(-sign * sums, fires, threshold)
    if turned < fewest:
        return RefitRow(-sign, other, before, turned)
    return RefitRow(sign, best, before, fewest)


def _best_threshold(seen: NDArray[np.int32], fires: NDArray[np.bool_], old: int) -> tuple[int, int, int]:
    """Fewest disagreements, the threshold that has them, and the disagreements of the old one."""
    low, high = int(seen.min()), int(seen.max()) + 1
    size = high - low + 1
    missed = np.cumsum(np.bincount(seen[fires] - low + 1, minlength=size + 1))[:size]
    quiet = np.cumsum(np.bincount(seen[~fires] - low + 1, minlength=size + 1))[:size]
    # at the threshold t all sums from t on fire
    wrong = missed + (int((~fires).sum()) - quiet)
    kept, fewest = int(wrong[min(max(old, low), high) - low]), int(wrong.min())
    if kept == fewest:
        return fewest, old, kept
    best = low + np.flatnonzero(wrong == fewest)
    return fewest, int(best[np.argmin(np.abs(best - old))]), kept


def refit_offsets(
    layer: IntegerLayer, sums: NDArray[np.int32], labels: NDArray[np.int64], presentations: int = 1
) -> Refit:
    """Thresholds of a last layer by penalised cross-entropy of its scores, the common scale of the logits fitted too.

    The logits are ``scale * (sign * sum - presentations * threshold)``; each shift of a threshold has a normal prior of
    :data:`SHIFT_SD` in logits. Rounded to whole numbers. The old ones stay unless more samples come out right.

    Args:
        layer: with its old integers.
        sums: ``(n, classes)`` that the array gave, added over the presentations.
        labels: ``(n,)``.
        presentations: of each sample.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    count, classes = sums.shape
    old = layer.sign.astype(np.float64) * sums - presentations * layer.threshold.astype(np.float64)
    truth = np.zeros((count, classes))
    truth[np.arange(count), labels] = 1.0

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Mean cross-entropy and penalty, and their slopes, in ln(scale) and the shifts in logits."""
        scale, shift = np.exp(point[0]), point[1:]
        logs = log_softmax(scale * old - shift, axis=1)
        wrong = (np.exp(logs) - truth) / count
        penalty = shift / SHIFT_SD**2 / count
        value = -float((logs * truth).sum()) / count + 0.5 * float(shift @ penalty)
        return value, np.concatenate([[scale * float((wrong * old).sum())], penalty - wrong.sum(axis=0)])

    start = np.zeros(1 + classes)
    start[0] = -np.log(max(float(old.std()), 1.0))
    found = minimize(loss, start, jac=True, method="L-BFGS-B")
    shift = found.x[1:] / np.exp(found.x[0]) / presentations
    threshold = (layer.threshold + np.rint(shift - shift.mean())).astype(np.int32)
    new = layer.sign * sums - presentations * threshold
    before, after = (_answers(scores, labels) for scores in (old, new))
    if after[1] <= before[1]:
        threshold, after = layer.threshold.copy(), before
    return Refit(layer.sign.copy(), threshold, before[0], after[0])


def _answers(scores: NDArray[Any], labels: NDArray[np.int64]) -> tuple[NDArray[np.float64], int]:
    """For each class the share of samples rightly put in or left out; and how many samples are right."""
    answers, classes = classify(scores), np.arange(scores.shape[1])
    agrees = (answers[:, None] == classes) == (labels[:, None] == classes)
    return agrees.mean(axis=0), int((answers == labels).sum())


def retraining(
    layer: IntegerLayer,
    features: NDArray[np.int8],
    labels: NDArray[np.int64],
    seed: int,
    epochs: int = 30,
    batch: int = 64,
) -> Iterator[Weights]:
    """Weights ``(classes, inputs)`` of a last layer after each epoch, trained on from the old ones.

    Binary weights where the old ones are, ternary ones otherwise, by Adam and the straight-through estimator.

    Args:
        layer: the old one.
        features: ``(n, inputs)`` of -1 and +1 that the array gave.
        labels: ``(n,)``.
        seed: of the order of the samples.
        epochs, batch: passes over the samples, and samples of a step.
    """
    import torch
    from torch.nn import functional

    from models.architectures import Precision
    from models.layers import ClassScores, Linear
    from models.training import single_thread

    precision = Precision.TERNARY if (layer.weights == 0).any() else Precision.BINARY
    generator = torch.Generator().manual_seed(seed)
    weighing = Linear(layer.inputs, layer.outputs, generator, precision=precision)
    scores = ClassScores(layer.inputs, layer.outputs)
    with torch.no_grad():
        # as far from zero as hidden weights begin in training, twice the threshold of ternary ones
        weighing.hidden.copy_(0.1 * torch.from_numpy(layer.weights.astype(np.float32)))
        scores.offset.copy_(torch.from_numpy(layer.threshold.astype(np.float32)))
    sign = torch.from_numpy(layer.sign.astype(np.float32))
    inputs, wanted = torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels)
    optimizer = torch.optim.Adam([*weighing.parameters(), *scores.parameters()], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        with single_thread():
            order = torch.randperm(len(inputs), generator=generator)
            for first in range(0, len(order), batch):
                chosen = order[first : first + batch]
                loss = functional.cross_entropy(scores(sign * weighing(inputs[chosen])), wanted[chosen])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                weighing.clamp()
        schedule.step()
        yield weighing.matrix()


def import_now() -> None:
    """Import what these functions need: seconds that a bench with a watchdog shall not wait for."""
    for name in ("scipy.optimize", "scipy.special", "models.training"):
        import_module(name)


__all__ = ["Refit", "RefitRow", "by_row", "import_now", "refit_offsets", "refit_row", "retraining", "with_integers"]
