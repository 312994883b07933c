from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from models.arrays import NumpyArrays, TorchArrays, normal_quantile
from models.exceptions import UserMistake


def both() -> list[NumpyArrays | TorchArrays]:
    return [NumpyArrays(np.random.default_rng(0)), TorchArrays(torch.Generator().manual_seed(0), torch.float64)]


@pytest.mark.parametrize("arrays", both(), ids=["numpy", "torch"])
def test_the_normal_quantile_is_exact_from_the_middle_to_the_tails(arrays):
    p = [1e-10, 1e-6, 0.01, 0.0749, 0.0751, 0.5, 0.9249, 0.9251, 0.999999]
    np.testing.assert_allclose(np.asarray(normal_quantile(arrays, arrays.vector(p))), ndtri(p), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("arrays", both(), ids=["numpy", "torch"])
def test_a_register_rolls_by_its_own_number_of_places(arrays):
    register = arrays.vector([1.0, 2.0, 3.0]) + arrays.full((3, 3), 0.0)
    rolled = arrays.roll_in(register, arrays.counts([0, 1, 5], (3,)), arrays.full((3, 3), 9.0))
    assert np.asarray(rolled).tolist() == [[1, 2, 3], [9, 1, 2], [9, 9, 9]]


@pytest.mark.parametrize("arrays", both(), ids=["numpy", "torch"])
@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ([1, -1], "0 or more"),
        ([1.0, 2.0], "whole"),
        ([True, False], "whole"),
        ([1, 2, 3], r"\(3,\), expected \(2,\)"),
        ([[1, 2]], r"\(1, 2\), expected \(2,\)"),
    ],
)
def test_bad_pulse_counts_are_refused(arrays, counts, says):
    with pytest.raises(UserMistake, match=says):
        arrays.counts(counts, (2,))


@pytest.mark.parametrize("arrays", both(), ids=["numpy", "torch"])
def test_one_count_serves_every_device(arrays):
    assert np.asarray(arrays.counts(7, (2, 3))).tolist() == [[7, 7, 7], [7, 7, 7]]
