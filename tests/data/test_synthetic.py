from __future__ import annotations

import numpy as np
import pytest

from data.datasets import load_dataset
from data.electrodes import LEADS
from data.synthetic import synthetic_ecg, synthetic_eeg, synthetic_images
from models.exceptions import UserMistake


@pytest.mark.parametrize("make", [synthetic_ecg, synthetic_eeg, synthetic_images])
def test_generated_data_follow_the_seed(make):
    first, same, other = (make(seed, 100) for seed in (4, 4, 5))
    assert first.checksum == same.checksum != other.checksum
    assert np.ptp(np.bincount(first.test_labels)) <= 1
    assert first.notes == ("generated",)


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("synthetic-ecg", (12, 500), 2), ("synthetic-eeg", (16, 480), 2), ("synthetic-images", (3, 16, 16), 10)],
)
def test_generated_sets_have_the_shapes_that_are_documented(name, shape, classes):
    data = load_dataset(name, seed=1)
    assert (data.shape, data.classes) == (shape, classes)


def test_generated_leads_obey_einthoven_and_exchanged_arms_turn_lead_one_over():
    data = synthetic_ecg(1, records=200, noise_mv=0.0, axis_spread_deg=10.0)
    leads = data.train_images.reshape(-1, *data.shape)
    first, second, third = (leads[:, LEADS.index(name)] for name in ("I", "II", "III"))
    changes = [np.diff(lead, axis=1) for lead in (first, second, third)]  # medians were taken off lead by lead
    assert np.allclose(changes[1] - changes[0], changes[2], atol=1e-4)
    upright = first.max(axis=1) > -first.min(axis=1)
    assert np.mean(upright[data.train_labels == 0]) > 0.95
    assert np.mean(upright[data.train_labels == 1]) < 0.05


def test_a_generated_heart_beats_at_the_rate_it_should():
    data = synthetic_ecg(2, records=40, seconds=10.0, noise_mv=0.0)
    lead = data.train_images.reshape(-1, *data.shape)[:, LEADS.index("V5")]
    peaks = [(np.diff((one > 0.6 * one.max()).astype(int)) == 1).sum() for one in lead]
    assert np.quantile(peaks, 0.1) >= 7
    assert np.quantile(peaks, 0.9) <= 18


def test_the_rhythm_is_weaker_opposite_the_imagined_fist():
    data = synthetic_eeg(3, trials=400)
    trials = data.train_images.reshape(-1, *data.shape)
    power = np.abs(np.fft.rfft(trials, axis=2)) ** 2
    frequency = np.fft.rfftfreq(data.shape[1], 1.0 / data.rate_hz)
    mu = power[:, :, (frequency > 8.0) & (frequency < 13.0)].sum(axis=2)
    left, right = mu[:, [5, 9]].sum(axis=1), mu[:, [6, 10]].sum(axis=1)  # inside a grid of 4 x 4, above the sources
    stronger_left = left > right
    assert 0.75 < np.mean(stronger_left == (data.train_labels == 0)) < 1.0


def linear_accuracy(data):
    from sklearn.linear_model import RidgeClassifier

    scale = data.train_images.std()
    found = RidgeClassifier(alpha=300.0).fit(data.train_images / scale, data.train_labels)
    return found.score(data.test_images / scale, data.test_labels)


@pytest.mark.slow
def test_generated_images_can_be_learnt_but_not_by_looking_at_pixels_alone():
    data = synthetic_images(0)
    assert 0.25 < linear_accuracy(data) < 0.9
    assert linear_accuracy(synthetic_images(0, noise=5.0)) > linear_accuracy(synthetic_images(0, noise=120.0))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: synthetic_ecg(0, records=3), "3 items of 500 samples"),
        (lambda: synthetic_ecg(0, swapped=(("RA", "RL"),)), "there is no electrode 'RL'"),
        (lambda: synthetic_eeg(0, depth=1.5), "depth of 1.5"),
        (lambda: synthetic_images(0, classes=1), "1 classes"),
    ],
)
def test_what_cannot_be_generated_is_refused(make, says):
    with pytest.raises(UserMistake, match=says):
        make()
