"""Which of many independent trials err: found by the gaps between errors, at a cost that goes with the errors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def error_positions(trials: int, rate: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which of ``trials`` independent trials err with probability ``rate``: rising indices ``(n,)``.

    The gaps between errors are geometric, so the cost goes with the errors and not with the trials. Exact.
    """
    if rate <= 0.0:
        return np.zeros(0, dtype=np.int64)
    found: list[NDArray[np.int64]] = []
    last, expected = -1, trials * rate
    while last < trials:
        gaps = rng.geometric(rate, size=max(16, int((trials - last) * rate + 4.0 * math.sqrt(expected))))
        # A gap beyond the end ends the search whatever it is; cut there, sums of gaps cannot overflow.
        found.append(last + np.cumsum(np.minimum(gaps, trials + 1)))
        last = int(found[-1][-1])
    positions = np.concatenate(found)
    return positions[: int(np.searchsorted(positions, trials))]
