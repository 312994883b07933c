"""Figures of networks on a faulty memory: binary networks trained in the run, on the digits at hand."""

from __future__ import annotations

from statistics import mean

import numpy as np

from bench.validation.subject import Measured, Subject
from data.datasets import load_dataset
from models.cells import Geometry

NETWORK = "digits-bnn"
DATA = "digits"
NETWORKS = 4
EPOCHS = 20
DRAWS = 50
ERROR_RATE = 1e-3


def measure(subject: Subject, rng: np.random.Generator) -> Measured:
    """Figure V6: mean loss over a few trainings, since one image in the held-out set is 0.2 points by itself."""
    from models.prediction import EstimatedRate, InferenceMode, ReadErrorRates, predict_accuracy
    from models.training import train

    data = load_dataset(DATA)
    none, known = (EstimatedRate(rate, rate, rate) for rate in (0.0, ERROR_RATE))
    flips = ReadErrorRates(stuck_fraction=none, random_rate=known, transient_rate=none)
    losses = []
    for seed in rng.integers(2**31, size=NETWORKS).tolist():
        network, _ = train(NETWORK, data, seed, EPOCHS)
        images, labels = data.test_images, data.test_labels
        faulty = predict_accuracy(network, images, labels, flips, Geometry(32, 32), DRAWS, rng, InferenceMode.HOST)
        losses.append(network.accuracy(images, labels) - faulty.mean)
    return {"accuracy_loss": 100.0 * mean(losses)}
