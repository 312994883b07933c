"""A small problem that every network learns in a moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Blobs:
    """Four noisy patterns of 20 pixels: easily learnt."""

    name: str = "blobs"
    count: int = 200
    held_out: int = 100

    def __post_init__(self):
        rng = np.random.default_rng(0)
        patterns = rng.integers(0, 200, (4, 20))
        self.train_labels, self.test_labels = (rng.integers(0, 4, n) for n in (self.count, self.held_out))
        self.train_images, self.test_images = (
            np.clip(patterns[labels] + rng.normal(0, 40, (len(labels), 20)), 0, 255).astype(np.uint8)
            for labels in (self.train_labels, self.test_labels)
        )
