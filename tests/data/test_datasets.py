from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data.datasets import Dataset, load_dataset
from models.exceptions import UserMistake


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_digits_are_split_once_and_for_all(digits):
    assert digits.train_images.shape == (1347, 64)
    assert digits.test_images.shape == (450, 64)
    assert digits.train_images.dtype == np.uint8
    assert (digits.train_images.min(), digits.train_images.max()) == (0, 16)
    assert digits.checksum == load_dataset("digits").checksum
    assert digits.checksum.startswith("f3f3898f5adb8005")


def test_every_class_is_held_out_in_proportion(digits):
    train = np.bincount(digits.train_labels, minlength=10)
    held_out = np.bincount(digits.test_labels, minlength=10)
    assert np.allclose(held_out / (train + held_out), 0.25, atol=0.006)


def test_no_image_is_lost_or_doubled(digits):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    ours = np.concatenate([digits.train_images, digits.test_images])
    ours = np.column_stack([ours, np.concatenate([digits.train_labels, digits.test_labels])])
    theirs = np.column_stack([images, labels])
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


def test_the_checksum_sees_every_label_and_the_split(digits):
    labels = digits.test_labels.copy()
    labels[7] = (labels[7] + 1) % 10
    changed = dataclasses.replace(digits, test_labels=labels)
    swapped = Dataset("digits", digits.test_images, digits.test_labels, digits.train_images, digits.train_labels, 10)
    assert len({digits.checksum, changed.checksum, swapped.checksum}) == 3


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(UserMistake, match="no data set is called 'mnits'; there are: digits"):
        load_dataset("mnits")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train_labels": np.array([0, 3])}, "train part: labels go from 0 to 3, expected 0 to 2"),
        ({"train_labels": np.array([-1, 2])}, "labels go from -1 to 2"),
        ({"train_labels": np.array([0.0, 1.0])}, "labels are float64"),
        ({"test_labels": np.array([0])}, r"test part: labels are int64 \(1,\), expected int64 \(2,\)"),
        ({"test_images": np.zeros((2, 5), np.uint8)}, r"test part: images are uint8 \(2, 5\)"),
        ({"train_images": np.zeros((2, 4))}, "images are float64"),
        ({"test_images": np.zeros((0, 4), np.uint8), "test_labels": np.zeros(0, np.int64)}, "no images"),
    ],
)
def test_data_that_do_not_fit_together_are_refused(change, says):
    images, labels = np.zeros((2, 4), np.uint8), np.array([0, 2])
    good = {"train_images": images, "train_labels": labels, "test_images": images, "test_labels": labels}
    with pytest.raises(UserMistake, match=says):
        Dataset("mine", **{**good, **change}, classes=3)
