"""Where along an axis of counts a procedure looks: evenly or log-spaced."""

from __future__ import annotations

import numpy as np


def log_spaced(first: int, last: int, points: int) -> list[int]:
    """Whole numbers from ``first`` (>= 1) to ``last``, evenly spaced in their logarithm.

    Both ends are among them. Where rounding makes two the same there are fewer than ``points``.
    """
    if first >= last:
        return [last]
    return [int(x) for x in np.unique(np.rint(np.geomspace(first, last, max(points, 2))).astype(np.int64))]


def evenly_spaced(step: int, last: int) -> list[int]:
    """``step``, twice ``step`` and so on up to ``last``, which is among them."""
    return [*range(step, last, step), last]
