"""The weak-RESET slope is recovered from a short staircase."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.weak_reset import fit_staircase, median_interval
from data.device_files import default_device
from models.arrays import NumpyArrays
from models.devices.weak_reset import WeakResetDevices
from models.exceptions import UserMistake

SECTION = default_device().model.weak_reset
STEPS = np.arange(0, 41, 8)


def staircase(devices: int, seed: int) -> np.ndarray:
    """Resistances ``(devices, steps)`` of the model, all imperfections on."""
    model = WeakResetDevices(SECTION, (devices,), NumpyArrays(np.random.default_rng(seed)))
    readings = [np.array(model.resistance_ohm)]
    for _ in STEPS[1:]:
        model.apply(np.full(devices, STEPS[1]))
        readings.append(np.array(model.resistance_ohm))
    return np.stack(readings, axis=1)


def test_the_published_slope_is_recovered_from_many_devices() -> None:
    fit = fit_staircase(staircase(20_000, 1), STEPS, 1.0, SECTION)
    # Truncation at 7.6e-3 takes 1e-4 of the mean, and RTN that switches on adds a little: 5 % are tolerated.
    assert fit.slope_scale.value == pytest.approx(SECTION.slope1_scale, rel=0.05)
    # RTN that is high at the first reading puts one device in a thousand outside the LRS population.
    assert fit.devices > 19_900


def test_the_interval_of_a_small_sample_covers_the_truth() -> None:
    # 100 samples of 48 devices; the mean of an exponential is skewed, so 95 % is reached within 7 %.
    covered = [fit_staircase(staircase(48, seed), STEPS, 1.0, SECTION).slope_scale for seed in range(100)]
    share = np.mean([found.low <= SECTION.slope1_scale <= found.high for found in covered])
    assert share == pytest.approx(0.95, abs=0.07)


def test_a_stronger_pulse_counts_for_more() -> None:
    readings = staircase(500, 3)
    weak, strong = (fit_staircase(readings, STEPS, stress, SECTION).slope_scale.value for stress in (0.5, 1.0))
    location = SECTION.slope1_loc
    assert weak + location == pytest.approx(2 * (strong + location))


def test_the_median_interval_covers_the_median() -> None:
    rng = np.random.default_rng(5)
    found = [median_interval(rng.exponential(size=40)) for _ in range(400)]
    share = np.mean([entry.low <= np.log(2) <= entry.high for entry in found])
    # Order statistics cover at least what they say; with 40 values it is 96 to 98 %.
    assert 0.94 <= share <= 0.995


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda r, p: (r, p * 100), "knee"),
        (lambda r, p: (r, p + 1), "rise from 0"),
        (lambda r, p: (r[:, :2], p[:2]), "at least 3"),
        (lambda r, p: (np.where(r > 0, np.nan, r), p), "NaN"),
        (lambda r, p: (r[:3], p), "needed"),
    ],
)
def test_a_staircase_that_says_nothing_is_refused(change, part: str) -> None:  # type: ignore[no-untyped-def]
    readings, pulses = change(staircase(20, 6), STEPS)
    with pytest.raises(UserMistake, match=part):
        fit_staircase(readings, pulses, 1.0, SECTION)
