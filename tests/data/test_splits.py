from __future__ import annotations

import numpy as np
import pytest

from data.augmentation import augment
from data.datasets import Dataset, load_dataset
from data.splits import cross_validation, fold_numbers, held_out, normalisation, reduced
from models.exceptions import UserMistake


def generator(seed=0):
    return np.random.default_rng(seed)


LABELS = np.repeat(np.arange(4), [100, 50, 23, 7])


def test_every_fold_has_its_share_of_every_class():
    folds = fold_numbers(LABELS, 5, generator())
    shares = np.array([[np.sum(LABELS[folds == fold] == label) for label in range(4)] for fold in range(5)])
    assert np.ptp(shares, axis=0).max() <= 1
    assert shares.sum(axis=0).tolist() == [100, 50, 23, 7]


def test_a_split_is_stratified_and_decided_by_the_seed():
    chosen = held_out(LABELS, 0.2, generator(1))
    assert np.abs(np.bincount(LABELS[chosen]) - 0.2 * np.bincount(LABELS)).max() <= 1.0
    assert chosen.sum() == 36
    assert np.array_equal(chosen, held_out(LABELS, 0.2, generator(1)))
    assert not np.array_equal(chosen, held_out(LABELS, 0.2, generator(2)))


def test_groups_are_never_parted_and_still_dealt_out_evenly():
    groups = np.repeat(np.arange(40), 6) * 7
    labels = np.repeat((np.arange(40) < 10).astype(np.int64), 6)
    folds = fold_numbers(labels, 5, generator(), groups)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in groups)
    assert [int(labels[folds == fold].sum()) for fold in range(5)] == [12] * 5


@pytest.mark.parametrize("folds", [1, 4])
def test_more_folds_than_groups_are_refused(folds):
    with pytest.raises(UserMistake, match=f"{folds} folds were asked for, allowed are 2 to 3"):
        fold_numbers(np.array([0, 1, 0, 1]), folds, generator(), np.array([5, 5, 6, 7]))


@pytest.mark.parametrize("share", [0.0, 1.0, 0.001, np.nan])
def test_a_split_with_an_empty_side_is_refused(share):
    with pytest.raises(UserMistake, match="share of"):
        held_out(LABELS, share, generator())


@pytest.fixture(scope="module")
def ecg():
    from data.synthetic import synthetic_ecg

    return synthetic_ecg(3, records=50, seconds=1.0)


def test_cross_validation_holds_out_everything_once(ecg):
    folds = list(cross_validation(ecg, 5, generator()))
    assert len(folds) == 5
    everything = np.concatenate([fold.test_images for fold in folds])
    ours = np.concatenate([ecg.train_images, ecg.test_images])
    assert np.array_equal(everything[np.lexsort(everything.T)], ours[np.lexsort(ours.T)])
    assert {np.bincount(fold.test_labels).tolist() == [5, 5] for fold in folds} == {True}
    assert folds[1].notes[-1] == "fold 2 of 5 held out"
    assert (folds[0].shape, folds[0].rate_hz) == (ecg.shape, ecg.rate_hz)


def test_a_reduced_set_keeps_the_shares_of_the_classes():
    digits = load_dataset("digits")
    small = reduced(digits, 200, 100, generator())
    assert (len(small.train_labels), len(small.test_labels)) == (200, 100)
    assert np.abs(np.bincount(small.train_labels) - 20).max() <= 1
    assert small.notes == ("reduced to 200 items to learn from and 100 held out",)
    with pytest.raises(UserMistake, match="5000 items of the train part were asked for, digits has 1347"):
        reduced(digits, 5000, 100, generator())


def test_normalised_channels_have_zero_mean_and_unit_deviation_from_the_train_part_alone(ecg):
    found = normalisation(ecg)
    train = found.apply(ecg.train_images).reshape(-1, *ecg.shape)
    assert train.dtype == np.float32
    assert np.allclose(train.mean(axis=(0, 2)), 0.0, atol=1e-4)
    assert np.allclose(train.std(axis=(0, 2)), 1.0, atol=1e-4)
    shifted = Dataset("s", ecg.train_images, ecg.train_labels, ecg.test_images + 9, ecg.test_labels, 2, ecg.shape)
    assert np.array_equal(normalisation(shifted).mean, found.mean)


def test_a_channel_that_never_changes_cannot_be_normalised():
    images, labels = np.zeros((4, 8), np.uint8), np.zeros(4, np.int64)
    images[:, 0] = np.arange(4)
    with pytest.raises(UserMistake, match="channel 1 of the data set flat never changes"):
        normalisation(Dataset("flat", images, labels, images, labels, 1, (2, 2, 2)))


def test_augmented_images_are_mirrored_and_shifted_copies():
    shape = (2, 6, 5)
    image = generator().integers(1, 256, shape).astype(np.uint8)
    images = np.repeat(image.reshape(1, -1), 400, axis=0)
    found = augment(images, shape, generator(1), pad=1).reshape(-1, *shape)
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
    turned = padded[..., ::-1]
    possible = {
        picture[:, down : down + 6, across : across + 5].tobytes()
        for picture in (padded, turned)
        for down in range(3)
        for across in range(3)
    }
    assert {picture.tobytes() for picture in found} == possible  # 18 of them, none that is something else
    assert np.array_equal(images[0].reshape(shape), image)


def test_augmentation_is_decided_by_its_generator_and_can_be_switched_off():
    shape = (3, 8, 8)
    images = generator().integers(0, 256, (20, 192)).astype(np.uint8)
    assert np.array_equal(augment(images, shape, generator(4)), augment(images, shape, generator(4)))
    assert np.array_equal(augment(images, shape, generator(4), pad=0, mirror=False), images)
    black = augment(np.full((200, 192), 9, np.uint8), shape, generator(5), border="zero")
    assert set(np.unique(black)) == {0, 9}
    with pytest.raises(UserMistake, match="were to be augmented"):
        augment(images, (2, 96), generator())
