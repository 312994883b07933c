"""What cells answer to -1, told from sums of their rows, beside cells that are unsteady."""

from __future__ import annotations

import numpy as np

from calibration.typed_errors import turned_answers, turned_noise

PATTERNS, READS, PRODUCTS, SHAPE = 40, 20, 5, (6, 8)


def test_answers_to_minus_one_are_told_cell_by_cell() -> None:
    rng = np.random.default_rng(3)
    targets = rng.integers(-1, 2, (PATTERNS, *SHAPE)).astype(np.int8)
    plus = targets.copy()
    # the second column's zeros answer +1 to -1 now and then, the fifth's answer -1; some weights stay, some vanish
    minus = -targets
    chance = rng.random(targets.shape)
    for column, sign in ((1, 1), (4, -1)):
        minus[:, :, column] = np.where((targets == 0) & (chance < 0.2), sign, minus)[:, :, column]
    fixed, lost = (targets != 0) & (chance < 0.02), (targets != 0) & (chance > 0.97)
    minus = np.where(fixed, targets, np.where(lost, 0, minus))
    # now and then a zero of each row reads as +1 in half of its senses, at either input
    unsteady = np.zeros(targets.shape, dtype=bool)
    unsteady[::8, :, 7] = targets[::8, :, 7] == 0

    def sensed(answers: np.ndarray, times: int) -> np.ndarray:
        noise = unsteady[:, None] & (rng.random((PATTERNS, times, *SHAPE)) < 0.5)
        return np.where(noise, 1, answers[:, None]).astype(np.int8)

    senses = sensed(plus, READS)
    sums = np.empty((PATTERNS, PRODUCTS, *SHAPE), dtype=np.int16)
    for column in range(SHAPE[1]):
        answers = plus.copy()
        answers[:, :, column] = minus[:, :, column]
        sums[:, :, :, column] = sensed(answers, PRODUCTS).sum(axis=3)
    good = np.ones(SHAPE, dtype=bool)
    good[0, 0] = good[:, 7] = False
    found = turned_answers(targets, senses, sums, good)
    turned = (targets == 0) & (minus != 0)
    # five sums with an unsteady neighbour are off by half a unit once in twenty: 3 of 70 times 41 here
    for name, true in (("fixed", fixed), ("lost", lost), ("turned", turned)):
        wanted = good * true.sum(axis=0)
        assert wanted.sum() > 20
        assert np.abs(getattr(found, name) - wanted).sum() <= 6, name
    assert np.array_equal(found.zeros, good * (targets == 0).sum(axis=0))
    assert np.array_equal(found.weights, good * (targets != 0).sum(axis=0))
    assert np.array_equal(found.up + found.down, found.turned.sum(axis=0))
    assert found.up[1] > 10 > found.down[1]
    assert found.down[4] > 10 > found.up[4]
    both = found + found
    assert np.array_equal(both.turned, 2 * found.turned)


def test_noise_of_zeros_is_the_variance_of_the_sums() -> None:
    rng = np.random.default_rng(4)
    noise = np.where(rng.random((400, 5, 6, 8)) < 0.01, rng.choice((-1, 1), (400, 5, 6, 8)), 0)
    steady = rng.integers(-3, 4, (400, 1, 6))
    found = turned_noise(steady + noise.sum(axis=3), np.full((400, 6), 8), 48)
    # 960 errors in 96 000 senses
    assert abs(found.value - 0.01) < 0.0015
    assert found.low < 0.01 < found.high
    assert turned_noise(np.repeat(steady, 5, axis=1), np.full((400, 6), 8), 48).low == 0.0
