"""Whole numbers as the -1 and +1 that an array takes: which vectors are presented, and how their sums are joined.

An input of b planes is an odd number ``sum 2^k s_k`` of signs ``s_k``: each plane is presented by itself, and its sums
count ``2^k``. A zero, which padding gives, is presented as +1 and again as -1, and the sums are halved: what an array
senses twice so counts nothing, without a third input level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.exceptions import UserMistake


@dataclass(frozen=True, eq=False)
class Presented:
    """Vectors of -1 and +1 that stand for vectors of whole numbers.

    Attributes:
        vectors: ``(presented, columns)`` int8 of -1 and +1.
        owner: ``(presented,)`` index of the vector of whole numbers that each belongs to.
        halves: ``(presented,)`` what its sums count, in halves.
        count: vectors of whole numbers.
    """

    vectors: NDArray[np.int8]
    owner: NDArray[np.int64]
    halves: NDArray[np.int64]
    count: int

    def doubled(self, sums: NDArray[np.integer]) -> NDArray[np.int32]:
        """Twice the sums ``(count, rows)`` of the whole numbers, from the sums ``(presented, rows)`` of the vectors.

        Where senses err, the two sums of a zero may differ by an odd number: halves are rounded once all tiles of a
        sum are there, and not before.
        """
        doubled = np.zeros((self.count, sums.shape[1]), dtype=np.int64)
        np.add.at(doubled, self.owner, sums * self.halves[:, None])
        return doubled.astype(np.int32)


def present(values: NDArray[np.integer], planes: int) -> Presented:
    """The vectors of -1 and +1 for ``values``.

    Args:
        values: ``(n, columns)``: odd numbers from ``-(2^planes - 1)`` to ``2^planes - 1``, and zeros.
        planes: at least 1.

    Raises:
        UserMistake: another value, or no planes.
    """
    if planes < 1:
        raise UserMistake(f"inputs of {planes} planes cannot be presented to an array; it takes -1 and +1")
    top = (1 << planes) - 1
    wide = np.asarray(values, dtype=np.int32)
    zero = wide == 0
    if ((np.abs(wide) > top) | ((wide & 1 == 0) & ~zero)).any():
        raise UserMistake(f"inputs of {planes} plane(s) must be odd numbers up to {top} in magnitude, or 0")
    indices = np.arange(len(wide))
    twice = np.flatnonzero(zero.any(axis=1))
    once = np.delete(indices, twice)
    vectors, owners, halves = [], [], []
    # +1 and -1 in every plane add up to top and -top, which cancel
    parts = (
        [(wide, once, 2)]
        if not len(twice)
        else [
            (wide, once, 2),
            (np.where(zero, top, wide), twice, 1),
            (np.where(zero, -top, wide), twice, 1),
        ]
    )
    for numbers, chosen, weight in parts:
        levels = (numbers[chosen] + top) >> 1
        for plane in range(planes):
            vectors.append(np.where((levels >> plane) & 1, 1, -1).astype(np.int8))
            owners.append(chosen)
            halves.append(np.full(len(chosen), weight << plane, dtype=np.int64))
    return Presented(np.concatenate(vectors), np.concatenate(owners), np.concatenate(halves), len(wide))
