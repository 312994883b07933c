"""Endurance, retention, temperature and read noise. Samples have fixed seeds; tolerances are five standard errors."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from data.device_files import default_device
from models.cells import DeviceState
from models.device_model import Endurance
from models.devices import ageing
from models.errors import Populations, one_t1r, two_t2r
from models.exceptions import UserMistake

MODEL = default_device().model
WEAR = MODEL.endurance
DEVICES = (20_000,)
EVERY = np.ones(DEVICES, dtype=bool)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize(
    ("compliance_a", "reset_v", "width_s", "at_least", "at_most"),
    [
        # strong, weak and ultra-weak programming, facts: about 100, over 1e8 (billions: over 1e9), over 1e10 cycles
        (600e-6, 2.5, 1e-6, 50.0, 200.0),
        (55e-6, 2.5, 100e-9, 1e9, 1e11),
        (55e-6, 2.0, 100e-9, 1e9, 1e11),
        (20e-6, 1.5, 100e-9, 1e10, 1e13),
        # the operating points of the simulated bench: enough for any run of it
        (64e-6, 2.0, 10e-6, 1e6, 1e9),
    ],
)
def test_v22_cyclability_of_each_programming_condition(compliance_a, reset_v, width_s, at_least, at_most):
    assert at_least < ageing.cyclability(WEAR, compliance_a, reset_v, width_s) < at_most


def test_at_the_reference_condition_the_cyclability_is_the_one_of_the_file():
    assert ageing.cyclability(WEAR, 55e-6, 2.5, 100e-9) == pytest.approx(WEAR.cycles_ref)
    assert ageing.set_wear(WEAR, 55e-6, 100e-9) == ageing.reset_wear(WEAR, 2.5, 100e-9) == 0.5 / WEAR.cycles_ref


def test_a_stronger_pulse_wears_more():
    assert ageing.set_wear(WEAR, 110e-6, 1e-7) == pytest.approx(2**6.4 * ageing.set_wear(WEAR, 55e-6, 1e-7))
    assert ageing.reset_wear(WEAR, 2.5, 1e-7) == pytest.approx(math.e * ageing.reset_wear(WEAR, 2.0, 1e-7))
    assert ageing.reset_wear(WEAR, 2.5, 1e-6) == pytest.approx(10 * ageing.reset_wear(WEAR, 2.5, 1e-7))


def test_the_window_closes_and_errors_rise_with_wear():
    populations = [Populations.of(ageing.worn(MODEL, wear)) for wear in (0.0, 0.01, 0.1, 0.35, 1.0)]
    gaps = [item.gap for item in populations]
    single = [one_t1r(item) for item in populations]
    pairs = [two_t2r(item) for item in populations]
    assert gaps == sorted(gaps, reverse=True)
    assert single == sorted(single)
    assert pairs == sorted(pairs)
    assert gaps[0] - gaps[-1] == pytest.approx(WEAR.window_loss)
    # facts: over 7e8 cycles of weak programming, a third of its cyclability, 1T1R errors grow by orders of magnitude
    assert single[3] > 10 * single[0]
    assert all(pair < one for pair, one in zip(pairs, single, strict=True))


def test_a_fresh_population_is_the_one_of_the_file():
    assert ageing.worn(MODEL, 0.0) == MODEL
    assert ageing.stored(MODEL, 0.0, 85.0) == MODEL


@pytest.mark.parametrize("wear", [-0.1, float("nan")])
def test_a_wear_below_zero_is_refused(wear):
    with pytest.raises(UserMistake, match="0 or more"):
        ageing.worn(MODEL, wear)


def test_devices_stick_in_the_lrs_as_their_lifetimes_are_spread(rng):
    device = ageing.Ageing(MODEL, DEVICES, rng)
    stuck = [device.stress(EVERY, step).mean() for step in (0.5, 0.5, 1.0, 2.0)]
    expected = [ageing.stuck_share(WEAR, total) for total in (0.5, 1.0, 2.0, 4.0)]
    np.testing.assert_allclose(stuck, expected, atol=0.018)
    assert expected[2] == pytest.approx(0.5)
    assert (device.wear == 4.0).all()


def test_without_spread_all_devices_stick_at_once():
    same = dataclasses.replace(WEAR, stuck_sigma=0.0)
    assert [ageing.stuck_share(same, wear) for wear in (1.9, 2.0, 2.1)] == [0.0, 1.0, 1.0]


def test_only_stressed_devices_wear(rng):
    device = ageing.Ageing(MODEL, DEVICES, rng)
    some = np.arange(*DEVICES) < 100
    device.stress(some, 0.25)
    assert (device.wear[some] == 0.25).all()
    assert (device.wear[~some] == 0.0).all()
    change = device.hrs_change(some)
    np.testing.assert_allclose(change.shift, -0.5)
    np.testing.assert_allclose(change.spread, 1.25)


def test_heat_speeds_the_drift_up_after_arrhenius():
    assert ageing.acceleration(MODEL.retention, 25.0) == pytest.approx(1.0)
    kelvins = 1 / 298.15 - 1 / 358.15
    assert ageing.acceleration(MODEL.retention, 85.0) == pytest.approx(math.exp(1.1 / 8.617333e-5 * kelvins), rel=1e-4)
    assert ageing.acceleration(MODEL.retention, 0.0) < 0.1


def test_lrs_and_hrs_drift_by_decades_of_time(rng):
    device = ageing.Ageing(MODEL, DEVICES, rng)
    assert device.log_drift is None
    low = np.arange(*DEVICES) < 10_000
    device.programmed(low, DeviceState.LRS, rng)
    device.programmed(~low, DeviceState.HRS, rng)
    device.advance(999 * 1e3, 25.0)  # three decades
    # 1e4 devices each: standard errors 3e-4 and 9e-4 of the means, 0.7 % of the spreads
    assert device.log_drift[low].mean() == pytest.approx(0.03, abs=1.5e-3)
    assert device.log_drift[low].std() == pytest.approx(0.03, rel=0.04)
    assert device.log_drift[~low].mean() == pytest.approx(-0.06, abs=4.5e-3)
    assert device.log_drift[~low].std() == pytest.approx(0.09, rel=0.04)


def test_time_adds_up_and_the_clock_of_a_device_starts_at_its_programming(rng):
    once, often = (ageing.Ageing(MODEL, DEVICES, np.random.default_rng(3)) for _ in range(2))
    for device in (once, often):
        device.programmed(EVERY, DeviceState.HRS, np.random.default_rng(4))
    once.advance(1e6, 85.0)
    for _ in range(4):
        often.advance(0.25e6, 85.0)
    np.testing.assert_allclose(once.log_drift, often.log_drift)
    half = np.arange(*DEVICES) < 10_000
    once.programmed(half, DeviceState.LRS, rng)
    once.advance(0.0, 85.0)
    assert (once.log_drift[half] == 0.0).all()
    assert (once.log_drift[~half] == often.log_drift[~half]).mean() > 0.999
    once.broken(~half)
    assert (once.log_drift == 0.0).all()


def test_an_hour_of_heat_is_decades_of_storage():
    baked, kept = (ageing.stored(MODEL, *when) for when in ((3600.0, 150.0), (35.4 * 3.156e7, 25.0)))
    assert baked.hrs.median_ohm == pytest.approx(kept.hrs.median_ohm, rel=1e-3)
    assert baked.lrs.median_ohm > MODEL.lrs.median_ohm
    assert baked.hrs.median_ohm < MODEL.hrs.median_ohm
    assert baked.hrs.sigma_c2c > MODEL.hrs.sigma_c2c
    assert two_t2r(Populations.of(baked)) > two_t2r(Populations.of(MODEL))


def test_the_lrs_is_metallic_and_the_hrs_activated():
    states = np.array(DeviceState, dtype=np.int8)
    hot = dict(zip(DeviceState, ageing.temperature_factors(MODEL.temperature, states, 85.0), strict=True))
    assert hot[DeviceState.LRS] == hot[DeviceState.STUCK_LRS] == hot[DeviceState.INTERMEDIATE] == pytest.approx(1.03)
    activated = math.exp(0.03 / 8.617333e-5 * (1 / 358.15 - 1 / 298.15))
    assert hot[DeviceState.HRS] == hot[DeviceState.VIRGIN] == hot[DeviceState.STUCK_HRS] == pytest.approx(activated)
    assert hot[DeviceState.OPEN] == 1.0
    assert (ageing.temperature_factors(MODEL.temperature, states, 25.0) == 1.0).all()


def test_read_noise_grows_with_the_resistance_and_saturates():
    sigma = [ageing.read_noise_sigma(MODEL.read_noise, ohm) for ohm in (7e3, 28e3, 80e3, 10e6)]
    assert sigma[0] == pytest.approx(0.005)
    assert sigma[1] == pytest.approx(0.010)
    assert sigma == sorted(sigma)
    assert sigma[-1] == 0.05


@pytest.mark.parametrize("celsius", [-61.0, 251.0, float("nan"), float("inf")])
def test_a_temperature_that_the_model_is_not_good_for_is_refused(celsius):
    with pytest.raises(UserMistake, match="-60 to 250 degC"):
        ageing.stored(MODEL, 1.0, celsius)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_time_does_not_run_backwards(seconds):
    with pytest.raises(UserMistake, match="0 s or more"):
        ageing.stored(MODEL, seconds, 25.0)


def test_wear_without_a_dependence_on_width_or_voltage_can_be_had():
    flat = dataclasses.replace(WEAR, set_exponent=0.0, width_exponent=0.0)
    assert isinstance(flat, Endurance)
    assert ageing.set_wear(flat, 1e-3, 1.0) == 0.5 / WEAR.cycles_ref
