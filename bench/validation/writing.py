"""Figures of write energy: what tolerating errors saves, in RRAM and in ST-MRAM."""

from __future__ import annotations

import numpy as np

from bench.validation.subject import Measured, Subject
from models.devices.memory import write_saving

CORRECTED_RATE = 1e-8
"""Error rate of ST-MRAM writes under error correction."""

TOLERATED_RATE = 1e-3
"""Error rate that a binary network tolerates."""


def measure(subject: Subject, rng: np.random.Generator) -> Measured:
    """Figures V8 and V10; nothing is drawn."""
    return {
        "mram_saving": write_saving(subject.magnetic, CORRECTED_RATE, TOLERATED_RATE),
        # a network that is trained with errors tolerates 4e-2
        "rram_saving": write_saving(subject.conditions, 1e-6, 4e-2),
    }
