"""Amplifiers are told from their devices, and their intervals hold what they promise."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from calibration.sense import Counts, SenseFit, _quantiles, fit_sense
from calibration.sense_posterior import independent
from data.device_files import default_device
from models.exceptions import UserMistake
from models.sense import SenseAmplifiers, margins

BASE = default_device().model.sense
TRUTH = {"offset_sigma": 0.04, "noise_sigma": 0.012, "node_capacitance_f": 1.3e-12, "branch_sigma": 0.015}
WINDOWS = np.unique(np.round(np.geomspace(10e-9, 1e-6, 31), 9))


def sensed(
    rng: np.random.Generator, chips: int, rows: int, cols: int, vdd_v: tuple[float, ...], **other: float
) -> tuple[Counts, np.ndarray[Any, Any]]:
    """Zeros, both devices in the HRS, of several chips; 10 senses at each point. ``other`` replaces truths."""
    truth = TRUTH | other
    sense = replace(BASE, **{name: truth[name] for name in ("offset_sigma", "noise_sigma", "node_capacitance_f")})
    points = [(vdd, window) for vdd in vdd_v for window in WINDOWS.tolist()]
    counts: dict[int, list[np.ndarray[Any, Any]]] = {1: [], -1: [], 0: []}
    ohms, columns = [], []
    for chip in range(chips):
        true = 80e3 * np.exp(0.6 * rng.standard_normal((rows, cols, 2)))
        amplifiers = SenseAmplifiers(sense, rng.standard_normal(cols))
        reads = [amplifiers.read(margins(sense, true, *at), at[0], 10, rng).reshape(10, -1) for at in points]
        for value, each in counts.items():
            each.append(np.stack([(read == value).sum(axis=0) for read in reads]))
        # the error is one of the crossing time, which goes with the resistance of device and transistor together
        error = np.exp(TRUTH["branch_sigma"] * rng.standard_normal(true.shape))
        ohms.append(((true + BASE.access_ohm) * error - BASE.access_ohm).reshape(-1, 2))
        columns.append(np.tile(np.arange(cols), rows) + chip * cols)
    plus, minus, none = (np.concatenate(each, axis=1) for each in counts.values())
    vdd, window = (np.array(each) for each in zip(*points, strict=True))
    data = Counts(vdd, window, plus, minus, none, np.concatenate(columns), np.concatenate(ohms))
    return data, np.repeat(np.arange(chips), rows * cols)


def one_chip(seed: int = 1) -> Counts:
    return sensed(np.random.default_rng(seed), 1, 16, 16, (1.05, 1.2))[0]


@pytest.fixture(scope="module")
def fitted() -> SenseFit:
    return fit_sense(one_chip(), BASE)[0]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    # the standard error of 200 is 1.5 % at 95 %; three of them are tolerated, of four parameters
    data, chip = sensed(np.random.default_rng(9), 200, 12, 12, (1.05, 1.2))
    found = fit_sense(data, BASE, chip)
    for name, true in TRUTH.items():
        estimates = [getattr(one, name) for one in found]
        share = np.mean([one.low <= true <= one.high for one in estimates])
        values = np.array([one.value for one in estimates])
        assert 0.905 <= share <= 0.995, name
        # the mean of 200 has itself an error of 0.07 spreads
        assert abs(values.mean() - true) < (0.1 + 0.14) * values.std(), name


def test_intervals_of_draws_that_follow_each_other_closely_hold_as_well() -> None:
    # an autoregression with an autocorrelation time of (1 + 0.98) / (1 - 0.98) = 99
    rng, inside, narrow = np.random.default_rng(2), 0, 0
    for _ in range(400):
        chain = lfilter([math.sqrt(1.0 - 0.98**2)], [1.0, -0.98], rng.standard_normal(2900))[500:]
        truth, found = rng.standard_normal(), _quantiles(chain, "1")
        inside += found.low <= truth <= found.high
        low, high = np.quantile(chain, (0.025, 0.975))
        narrow += low <= truth <= high
    # the standard error of 400 is 1.1 % at 95 %
    assert inside / 400 == pytest.approx(0.95, abs=0.03)
    assert narrow < inside
    long = lfilter([math.sqrt(1.0 - 0.98**2)], [1.0, -0.98], rng.standard_normal(400_000))
    assert independent(long) == pytest.approx(400_000 / 99, rel=0.1)


def test_offset_noise_and_speed_of_one_chip(fitted: SenseFit) -> None:
    for name, true in TRUTH.items():
        found = getattr(fitted, name)
        half = (found.high - found.low) / 2
        # one chip is one draw: three standard errors, where the interval has two
        assert found.low - 0.5 * half <= true <= found.high + 0.5 * half
    assert len(fitted.offsets) == len(fitted.columns) == 16
    assert not fitted.outliers.any()
    assert fitted.converged


def test_offsets_that_hardly_stand_out_of_their_errors_are_not_taken_for_none() -> None:
    # few cells and coarse windows; a prior without an end at 0 put medians at a tenth of the truth, and ends at the
    # least scale that the sampler allows
    data, chip = sensed(np.random.default_rng(21), 3, 6, 12, (1.05, 1.2), offset_sigma=0.02)
    for one in fit_sense(data, BASE, chip):
        assert one.offset_sigma is not None
        assert 3e-4 < one.offset_sigma.low < 0.02 < one.offset_sigma.high
        assert one.offset_sigma.value > 0.25 * 0.02


def test_without_resistances_only_the_noise_is_told() -> None:
    data = one_chip()
    found = fit_sense(data._replace(resistance_ohm=np.full_like(data.resistance_ohm, np.nan)), BASE)[0]
    assert (found.offset_sigma, found.node_capacitance_f, found.offsets) == (None, None, ())
    assert found.noise_sigma.value == pytest.approx(TRUTH["noise_sigma"], rel=0.4)


def test_a_cell_whose_resistance_is_wrong_is_left_out() -> None:
    data = one_chip()
    ohms = data.resistance_ohm.copy()
    ohms[5] *= 100.0
    found = fit_sense(data._replace(resistance_ohm=ohms), BASE)[0]
    assert np.flatnonzero(found.outliers).tolist() == [5]


def test_data_that_cannot_support_a_fit_are_refused() -> None:
    data = one_chip()
    nothing = np.zeros_like(data.plus)
    ohms = data.resistance_ohm.copy()
    ohms[0, 0] = np.nan
    few = data._replace(**{n: getattr(data, n)[:, :4] for n in ("plus", "minus", "undecided")})
    cases = {
        "never decided|ever decided": data._replace(plus=nothing, minus=nothing, undecided=nothing + 10),
        "within the windows": data._replace(plus=nothing + 10, minus=nothing, undecided=nothing),
        "not known": data._replace(resistance_ohm=ohms),
        "finite": data._replace(vdd_v=data.vdd_v * np.nan),
        "4 cells": few._replace(column=data.column[:4], resistance_ohm=data.resistance_ohm[:4]),
        "fewer than 4 columns": data._replace(column=data.column % 2),
        "do not fit": data._replace(plus=data.plus[:-1]),
    }
    for part, wrong in cases.items():
        with pytest.raises(UserMistake, match=part) as caught:
            fit_sense(wrong, BASE)
        assert "\n" not in str(caught.value)
