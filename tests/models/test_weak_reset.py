"""Statistical tests have fixed seeds; the tolerances are the targets' own, far above the standard errors."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from data.device_files import default_device
from models.arrays import NumpyArrays, TorchArrays
from models.device_model import WeakReset
from models.devices.weak_reset import (
    Imperfections,
    PinkNoise,
    WeakResetDevices,
    integrator_coefficients,
    pink_processes,
    rtn_high_probability,
    sample_parameters,
    stress_per_pulse,
)
from models.exceptions import UserMistake

SECTION = default_device().model.weak_reset
MANY = (100_000,)
ONLY_MEAN = Imperfections(rtn=False, pink=False)
ONLY_RTN = Imperfections(device_to_device=False, pink=False)
ONLY_PINK = Imperfections(device_to_device=False, rtn=False)


def arrays(seed: int = 1) -> NumpyArrays:
    return NumpyArrays(np.random.default_rng(seed))


def without_drift(memory: int) -> WeakReset:
    """The populations with practically flat mean curves and a noise memory of so many pulses."""
    flat = {"slope1_loc": 0.0, "slope1_low": 0.0, "slope1_scale": 1e-12, "slope2_scale": 1e-12}
    return dataclasses.replace(SECTION, pink_memory=float(memory), **flat)


@pytest.fixture(scope="module")
def parameters():
    return sample_parameters(SECTION, MANY, arrays())


@pytest.mark.parametrize(
    ("name", "population", "low", "high"),
    [
        ("slope1", stats.expon(3.7415768e-5, 6.5646780e-4), 3.74e-5, 7.6e-3),
        ("knee", stats.lognorm(0.80338177, 0, 542.538522), 41, 2000),
        ("offset", stats.norm(5.293141e-3, 5.320804e-2), -0.15, 0.15),
        ("slope2", stats.expon(0, 2.8890517e-5), 0, 1.3e-4),
        ("r0_ohm", stats.norm(6988, 381.7), 6252, 7897),
    ],
)
def test_each_parameter_has_its_published_truncated_population(parameters, name, population, low, high):
    drawn = getattr(parameters, name)
    assert low <= drawn.min()
    assert drawn.max() <= high
    below, above = population.cdf([low, high])
    test = stats.kstest(drawn, lambda x: (population.cdf(x) - below) / (above - below))
    assert test.pvalue > 0.001


def test_sample_statistics_of_the_published_populations(parameters):
    assert parameters.slope1.mean() == pytest.approx(6.9e-4, rel=0.02)
    assert np.median(parameters.slope1) == pytest.approx(4.9e-4, rel=0.02)
    assert parameters.knee.mean() == pytest.approx(629, rel=0.02)
    assert np.median(parameters.knee) == pytest.approx(515, rel=0.02)
    assert parameters.slope2.mean() == pytest.approx(2.75e-5, rel=0.02)


def test_parameters_of_a_device_are_independent(parameters):
    correlation = np.corrcoef([parameters.slope1, parameters.knee, parameters.offset, parameters.slope2])
    assert np.abs(correlation - np.eye(4)).max() < 0.02


def test_v1_v2_population_curve_of_the_mean_model():
    devices = WeakResetDevices(SECTION, MANY, arrays(), ONLY_MEAN)
    before = 0
    for pulses, median, spread in [
        (0, 7.03e3, 0.052),
        (100, 7.48e3, 0.084),
        (500, 8.56e3, 0.294),
        (1000, 9.04e3, 0.466),
    ]:
        devices.apply(pulses - before)
        before = pulses
        assert np.median(devices.resistance_ohm) == pytest.approx(median, rel=0.03)
        assert devices.log_ratio.std() == pytest.approx(spread, rel=0.05)


def test_the_mean_curve_is_two_straight_lines_that_meet_and_only_rises():
    devices = WeakResetDevices(SECTION, (2000,), arrays(), ONLY_MEAN)
    p = devices.parameters
    curve = [devices.log_ratio]
    for _ in range(250):
        devices.apply(10)
        curve.append(devices.log_ratio)
    steps = np.diff(curve, axis=0)
    assert (steps > 0).all()
    np.testing.assert_allclose(curve[0], p.offset)
    assert np.isclose(steps[0], 10 * p.slope1).all()
    assert np.isclose(steps[-1], 10 * p.slope2).all()
    assert (steps <= 10 * np.maximum(p.slope1, p.slope2) * (1 + 1e-9)).all()


def test_v3_rtn_switches_and_settles_as_published():
    devices = WeakResetDevices(SECTION, (1_000_000,), arrays(), ONLY_RTN)
    assert devices.rtn_high.mean() == pytest.approx(0.286, abs=0.01)
    before = devices.rtn_high
    devices.apply(1)
    assert devices.rtn_high[~before].mean() == pytest.approx(0.0008, rel=0.15)
    assert (~devices.rtn_high[before]).mean() == pytest.approx(0.002, rel=0.15)
    devices.rtn_high[:] = False
    devices.apply(20_000)
    assert devices.rtn_high.mean() == pytest.approx(0.286, abs=0.01)


def test_rtn_after_n_pulses_is_the_matrix_power():
    matrix = np.linalg.matrix_power(np.array([[1 - 0.0008, 0.0008], [0.002, 1 - 0.002]]), 137)
    assert rtn_high_probability(SECTION, 0.0, 137) == pytest.approx(matrix[0, 1], rel=1e-9)
    assert rtn_high_probability(SECTION, 1.0, 137) == pytest.approx(matrix[1, 1], rel=1e-9)


def test_rtn_amplitude_has_the_published_moments():
    with_d2d = WeakResetDevices(SECTION, (1_000_000,), arrays(), Imperfections(pink=False))
    mean_only = with_d2d.parameters.offset
    value = (with_d2d.log_ratio - mean_only)[with_d2d.rtn_high]
    assert value.mean() == pytest.approx(0.0625, rel=0.02)
    assert value.std() == pytest.approx(0.073, rel=0.02)
    assert np.quantile(value, 0.95) == pytest.approx(0.22, rel=0.03)
    assert (with_d2d.log_ratio == mean_only)[~with_d2d.rtn_high].all()


def test_the_filter_of_the_half_order_integrator():
    np.testing.assert_allclose(integrator_coefficients(5), [1, 0.5, 0.375, 0.3125, 0.2734375])


@pytest.mark.parametrize(("memory", "sd", "mean"), [(15, 0.0100, 0.054), (127, 0.0117, 0.159)])
def test_v4_spread_of_the_pink_noise(memory, sd, mean):
    for noise, centre in [(PinkNoise.STATIONARY, 0.0), (PinkNoise.PUBLISHED, mean)]:
        devices = WeakResetDevices(without_drift(memory), (50_000,), arrays(), ONLY_PINK, noise)
        for pulses in (0, 40, 10_000):
            devices.apply(pulses)
            w = devices.log_ratio - devices.parameters.offset
            assert w.std() == pytest.approx(sd, rel=0.05)
            assert w.mean() == pytest.approx(centre, abs=0.001)


@pytest.mark.parametrize("noise", list(PinkNoise))
def test_v4_spectral_slope_of_the_pink_noise(noise):
    devices = WeakResetDevices(without_drift(127), (128,), arrays(5), ONLY_PINK, noise)
    series = np.empty((1016, 128))
    for i in range(len(series)):
        devices.apply(1)
        series[i] = devices.log_ratio
    series -= series.mean(axis=0)
    power = (np.abs(np.fft.rfft(series * np.hanning(len(series))[:, None], axis=0)) ** 2).mean(axis=1)
    frequency = np.fft.rfftfreq(len(series))
    edges = np.geomspace(1 / 127, 0.25, 13)
    inside = [(frequency >= low) & (frequency < high) for low, high in itertools.pairwise(edges)]
    log_f = [np.log(frequency[bins]).mean() for bins in inside]
    log_p = [np.log(power[bins].mean()) for bins in inside]
    assert np.polyfit(log_f, log_p, 1)[0] == pytest.approx(-1.0, abs=0.15)


@pytest.mark.parametrize("memory", [2, 3, 15, 127, 1000, 30_000, 1_000_000])
def test_the_processes_follow_the_integrator_at_any_memory(memory):
    times, variances = pink_processes(memory)
    assert min(variances) > 0.0
    assert sum(variances) == pytest.approx(np.sum(integrator_coefficients(memory) ** 2))
    rho = np.exp(-1 / np.array(times))
    omega = 2 * np.pi * np.geomspace(1 / memory, 0.5, 37)[:, None]
    spectrum = ((1 - rho**2) / (1 - 2 * rho * np.cos(omega) + rho**2)) @ np.array(variances)
    decibels = 10 * np.log10(spectrum * 2 * np.sin(omega[:, 0] / 2))
    assert np.abs(decibels).max() < (0.1 if memory >= 15 else 1.0)
    assert len(times) <= 2 + np.log(memory / 0.35) / np.log(5)


@pytest.mark.parametrize("noise", list(PinkNoise))
def test_pulses_at_once_equal_pulses_one_by_one_in_distribution(noise):
    once = WeakResetDevices(SECTION, (20_000,), arrays(11), pink_noise=noise)
    singly = WeakResetDevices(SECTION, (20_000,), arrays(12), pink_noise=noise)
    once.rtn_high[:] = False
    singly.rtn_high[:] = False
    before = once.log_ratio, singly.log_ratio
    once.apply(25)
    for _ in range(25):
        singly.apply(1)
    assert stats.ks_2samp(once.log_ratio, singly.log_ratio).pvalue > 0.01
    moved = once.log_ratio - before[0], singly.log_ratio - before[1]
    assert stats.ks_2samp(*moved).pvalue > 0.01
    assert once.rtn_high.mean() == pytest.approx(singly.rtn_high.mean(), abs=0.006)


def test_the_noise_remembers_as_much_after_one_jump_as_after_many_steps():
    def kept(steps: list[int]) -> float:
        devices = WeakResetDevices(SECTION, (40_000,), arrays(3), ONLY_PINK)
        before = devices.log_ratio
        for step in steps:
            devices.apply(step)
        return float(np.corrcoef(before, devices.log_ratio)[0, 1])

    assert kept([20]) == pytest.approx(kept([1] * 20), abs=0.025)
    assert kept([20]) > 0.3
    assert abs(kept([100_000])) < 0.025


def test_each_device_gets_its_own_number_of_pulses():
    devices = WeakResetDevices(SECTION, (4, 3), arrays())
    before = devices.log_ratio
    counts = np.array([[0, 1, 500]] * 4)
    devices.apply(counts)
    assert (devices.log_ratio[:, 0] == before[:, 0]).all()
    assert (devices.log_ratio[:, 1:] != before[:, 1:]).all()
    assert (devices.stress == counts).all()
    np.testing.assert_array_equal(devices.log_ratio, devices.log_ratio)


def test_each_imperfection_can_be_switched_off_by_itself():
    none = WeakResetDevices(SECTION, (500,), arrays(), Imperfections(False, False, False))
    none.apply(300)
    assert np.ptp(none.resistance_ohm) == 0.0
    assert none.parameters.r0_ohm[0] == pytest.approx(6997, rel=0.002)
    for one in (
        Imperfections(True, False, False),
        Imperfections(False, True, False),
        Imperfections(False, False, True),
    ):
        devices = WeakResetDevices(SECTION, (500,), arrays(), one)
        devices.apply(300)
        assert np.ptp(devices.log_ratio) > 0.01


def test_voltage_scales_the_slopes_up_and_the_knee_down():
    assert stress_per_pulse(SECTION, 1.0, 1e-6) == pytest.approx(1.0)
    assert stress_per_pulse(SECTION, 1.2, 1e-6) == pytest.approx(np.exp(2))
    assert stress_per_pulse(SECTION, 1.0, 10e-6) == pytest.approx(10)
    assert stress_per_pulse(SECTION, 0.59, 1e-6) == 0.0
    none = Imperfections(False, False, False)
    strong, reference = (WeakResetDevices(SECTION, (1,), arrays(), none) for _ in range(2))
    knee = reference.parameters.knee[0]
    reference.apply(int(knee))
    strong.apply(int(knee), device_v=1.0 + 0.1 * np.log(2))
    # w at the knee is reached after half as many pulses; beyond it only the small slope is left
    assert strong.log_ratio[0] - reference.log_ratio[0] < 0.1 * reference.log_ratio[0]
    half = WeakResetDevices(SECTION, (1,), arrays(), none)
    half.apply(int(knee / 2), device_v=1.0 + 0.1 * np.log(2))
    assert half.log_ratio[0] == pytest.approx(reference.log_ratio[0], rel=0.01)


def test_below_the_onset_nothing_moves():
    devices = WeakResetDevices(SECTION, (100,), arrays())
    before = devices.log_ratio
    devices.apply(10_000, device_v=0.2)
    assert (devices.log_ratio == before).all()


def test_a_set_starts_again_with_a_new_lrs():
    devices = WeakResetDevices(SECTION, (2000,), arrays(), ONLY_MEAN)
    fresh = devices.parameters.r0_ohm
    devices.apply(1000)
    again = np.arange(2000) < 1000
    devices.set_again(again)
    np.testing.assert_allclose(devices.log_ratio[again], devices.parameters.offset[again])
    assert (devices.parameters.r0_ohm[again] != fresh[again]).all()
    assert (devices.parameters.r0_ohm[~again] == fresh[~again]).all()
    assert (devices.stress[~again] == 1000).all()


@pytest.mark.parametrize(("counts", "says"), [(-1, "0 or more"), (1.5, "whole"), (np.ones(3, int), r"\(3,\)")])
def test_bad_pulse_counts_are_refused_and_move_nothing(counts, says):
    devices = WeakResetDevices(SECTION, (4,), arrays())
    before = devices.log_ratio
    with pytest.raises(UserMistake, match=says):
        devices.apply(counts)
    assert (devices.log_ratio == before).all()


def test_a_truncation_that_keeps_nothing_is_refused():
    nothing = dataclasses.replace(SECTION, r0_low_ohm=9e4, r0_high_ohm=1e5)
    with pytest.raises(UserMistake, match=r"weak_reset\.r0_low"):
        sample_parameters(nothing, (3,), arrays())


def test_the_same_seed_gives_the_same_devices():
    def run(seed: int) -> list[float]:
        devices = WeakResetDevices(SECTION, (50,), arrays(seed))
        devices.apply(33)
        return devices.resistance_ohm.tolist()

    assert run(4) == run(4)
    assert run(4) != run(5)


@pytest.mark.parametrize("noise", list(PinkNoise))
def test_torch_draws_from_the_same_distribution(noise):
    here = WeakResetDevices(SECTION, (20_000,), arrays(), pink_noise=noise)
    there = WeakResetDevices(SECTION, (20_000,), TorchArrays(torch.Generator().manual_seed(2)), pink_noise=noise)
    for devices in (here, there):
        devices.apply(3)
        devices.apply(200, device_v=1.05)
    assert there.resistance_ohm.dtype == torch.float32
    assert stats.ks_2samp(here.resistance_ohm, there.resistance_ohm.numpy()).pvalue > 0.01
