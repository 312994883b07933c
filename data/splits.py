"""Splitting, reducing and normalising data sets, with every draw from a generator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data.datasets import Dataset
from models.exceptions import UserMistake


def fold_numbers(
    labels: NDArray[np.int64], folds: int, generator: np.random.Generator, groups: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Deal items out to folds, class by class, so that each fold has its share of every class to within one.

    Args:
        labels: ``(n,)`` classes, from 0.
        folds: number of folds, at least 2.
        generator: shuffles items of a class.
        groups: ``(n,)``, equal for items that must stay together. Groups of like composition are dealt out evenly;
            where no two are alike, shares are as even as that allows.

    Returns:
        ``(n,)`` the fold of each item, 0 to ``folds - 1``.

    Raises:
        UserMistake: fewer than 2 folds, or fewer groups than folds.
    """
    dealt, member = _dealing_order(labels, generator, groups)
    if not 2 <= folds <= len(dealt):
        raise UserMistake(f"{folds} folds were asked for, allowed are 2 to {len(dealt)}, one item or group in each")
    fold_of_group = np.empty(len(dealt), np.int64)
    fold_of_group[dealt] = np.arange(len(dealt)) % folds
    return fold_of_group[member]


def held_out(
    labels: NDArray[np.int64], share: float, generator: np.random.Generator, groups: NDArray[np.int64] | None = None
) -> NDArray[np.bool_]:
    """Choose what to hold out: a share of every class.

    Args:
        labels: ``(n,)`` classes, from 0.
        share: of the items (of the groups, where there are any) to hold out, between 0 and 1.
        generator: as for :func:`fold_numbers`.
        groups: as for :func:`fold_numbers`.

    Returns:
        ``(n,)`` True for an item held out.

    Raises:
        UserMistake: a share that leaves one of the sides empty.
    """
    if not 0.0 < share < 1.0:
        raise UserMistake(f"a share of {share} was to be held out, it must lie between 0 and 1")
    dealt, member = _dealing_order(labels, generator, groups)
    # Spread evenly along the order, which goes class by class: every class gives its share to within one.
    taken = np.diff(np.floor(share * np.arange(len(dealt) + 1) + 0.5)).astype(bool)
    if not taken.any() or taken.all():
        raise UserMistake(f"a share of {share:g} of {len(dealt)} items or groups leaves one side of the split empty")
    chosen = np.zeros(len(dealt), bool)
    chosen[dealt[taken]] = True
    return chosen[member]


def split(
    name: str,
    items: NDArray[np.uint8] | NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    shape: tuple[int, ...],
    chosen: NDArray[np.bool_],
    groups: NDArray[np.int64] | None = None,
    rate_hz: float | None = None,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """The data set whose test part is what was ``chosen``; ``items`` are ``(n, features)``."""
    return Dataset(
        name,
        items[~chosen],
        labels[~chosen],
        items[chosen],
        labels[chosen],
        classes,
        shape,
        rate_hz,
        None if groups is None else groups[~chosen],
        None if groups is None else groups[chosen],
        notes,
    )


def cross_validation(dataset: Dataset, folds: int, generator: np.random.Generator) -> Iterator[Dataset]:
    """Both parts of a data set together, dealt out anew: one data set per fold, which holds that fold out.

    Classes are shared out evenly, and groups stay together, as :func:`fold_numbers` does it.
    """
    items = np.concatenate([dataset.train_images, dataset.test_images])
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    groups = None
    if dataset.train_groups is not None and dataset.test_groups is not None:
        groups = np.concatenate([dataset.train_groups, dataset.test_groups])
    numbers = fold_numbers(labels, folds, generator, groups)
    for fold in range(folds):
        chosen = numbers == fold
        yield split(
            dataset.name,
            items,
            labels,
            dataset.classes,
            dataset.shape,
            chosen,
            groups,
            dataset.rate_hz,
            (*dataset.notes, f"fold {fold + 1} of {folds} held out"),
        )


def reduced(dataset: Dataset, train: int, test: int, generator: np.random.Generator) -> Dataset:
    """A smaller data set with the same shares of classes: ``train`` and ``test`` items, in their order.

    Raises:
        UserMistake: fewer than one item, or more than there are.
    """
    chosen = []
    for what, labels, count in (("train", dataset.train_labels, train), ("test", dataset.test_labels, test)):
        if not 1 <= count <= len(labels):
            raise UserMistake(f"{count} items of the {what} part were asked for, {dataset.name} has {len(labels)}")
        order, _ = _dealing_order(labels, generator, None)
        taken = np.diff(np.arange(len(labels) + 1) * count // len(labels)).astype(bool)
        chosen.append(np.sort(order[taken]))
    kept, tested = chosen
    return replace(
        dataset,
        train_images=dataset.train_images[kept],
        train_labels=dataset.train_labels[kept],
        test_images=dataset.test_images[tested],
        test_labels=dataset.test_labels[tested],
        train_groups=None if dataset.train_groups is None else dataset.train_groups[kept],
        test_groups=None if dataset.test_groups is None else dataset.test_groups[tested],
        notes=(*dataset.notes, f"reduced to {train} items to learn from and {test} held out"),
    )


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Mean and standard deviation of each channel.

    Attributes:
        mean, sd: ``(channels,)`` float64, in the units of the data.
        shape: of an item, channels first.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    shape: tuple[int, ...]

    def apply(self, items: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
        """Items ``(n, features)`` less the mean, over the standard deviation: ``(n, features)`` float32."""
        channels = items.reshape(len(items), len(self.mean), -1).astype(np.float32)
        channels -= self.mean[:, None].astype(np.float32)
        channels /= self.sd[:, None].astype(np.float32)
        return channels.reshape(len(items), -1)


def normalisation(dataset: Dataset) -> Normalisation:
    """Mean and standard deviation of each channel, from the train part alone.

    Raises:
        UserMistake: a channel that never changes.
    """
    channels = dataset.train_images.reshape(len(dataset.train_images), dataset.shape[0], -1)
    mean = channels.mean(axis=(0, 2), dtype=np.float64)
    sd = np.array([channels[:, number].std(dtype=np.float64) for number in range(dataset.shape[0])])
    if not (sd > 0.0).all():
        raise UserMistake(f"channel {np.flatnonzero(sd <= 0.0)[0]} of the data set {dataset.name} never changes")
    return Normalisation(mean, sd, dataset.shape)


def _dealing_order(
    labels: NDArray[np.int64], generator: np.random.Generator, groups: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order of the groups in which like ones are neighbours, shuffled among themselves; and each item's group.

    Without groups every item is one of its own, and like ones are those of a class.
    """
    if groups is None:
        member = np.arange(len(labels))
        kinds = labels[:, None]
    else:
        names, member = np.unique(groups, return_inverse=True)
        kinds = np.zeros((len(names), int(labels.max()) + 1), np.int64)
        np.add.at(kinds, (member, labels), 1)
    shuffled = generator.permutation(len(kinds))
    return shuffled[np.lexsort(kinds[shuffled].T[::-1])], member
