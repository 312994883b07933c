from __future__ import annotations

import numpy as np
import pytest

from data.device_files import default_device
from models.cells import DeviceState
from models.devices import rram

MODEL = default_device().model
DEVICES = (100_000,)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def deviates(rng) -> rram.Deviates:
    return rram.draw_deviates(DEVICES, rng)


def nominal_lrs(deviates, rng):
    return rram.draw_lrs(MODEL.lrs, MODEL.lrs.set_compliance_ref_a, deviates.lrs, rng)


def nominal_hrs(deviates, rng):
    return rram.draw_hrs(MODEL.hrs, 2.0, 10e-6, deviates.hrs, rng)


def test_both_populations_are_log_normal_with_the_medians_and_spreads_of_the_file(deviates, rng):
    # 1e5 devices: standard errors of the median and of sigma are below 0.4 % and 0.3 %
    for draw, median, sigma in [(nominal_lrs, 6988.0, 0.1972), (nominal_hrs, 80e3, 0.6022)]:
        log_r = np.log(draw(deviates, rng))
        assert np.exp(np.median(log_r)) == pytest.approx(median, rel=0.01)
        assert log_r.std() == pytest.approx(sigma, rel=0.01)
        skew = np.mean(((log_r - log_r.mean()) / log_r.std()) ** 3)
        assert abs(skew) < 0.03


@pytest.mark.parametrize(("draw", "section"), [(nominal_lrs, MODEL.lrs), (nominal_hrs, MODEL.hrs)])
def test_device_to_device_and_cycle_to_cycle_parts_stay_apart(deviates, rng, draw, section):
    first, second = (np.log(draw(deviates, rng)) for _ in range(2))
    covariance = np.cov(first, second)[0, 1]
    assert np.sqrt(covariance) == pytest.approx(section.sigma_d2d, rel=0.02)
    assert (first - second).std() / np.sqrt(2) == pytest.approx(section.sigma_c2c, rel=0.01)


def test_the_lrs_is_inversely_proportional_to_the_compliance_current():
    reference = rram.compliance_a(MODEL.lrs, 3.0)
    assert reference == pytest.approx(64e-6)
    assert rram.compliance_a(MODEL.lrs, 0.8 + 2 * 2.2) == pytest.approx(2 * reference)
    assert rram.compliance_a(MODEL.lrs, 0.8) == 0.0
    assert rram.compliance_a(MODEL.lrs, 0.1) == 0.0
    for current in (20e-6, 55e-6, 200e-6):
        # facts: LRS about 0.4 to 0.5 V / I
        assert 0.4 < rram.lrs_median_ohm(MODEL.lrs, current) * current < 0.5


def test_the_hrs_doubles_with_half_a_volt_and_grows_weakly_with_the_width():
    reference = rram.hrs_median_ohm(MODEL.hrs, 2.0, 10e-6)
    assert reference == pytest.approx(80e3)
    assert rram.hrs_median_ohm(MODEL.hrs, 2.5, 10e-6) == pytest.approx(2 * reference)
    assert rram.hrs_median_ohm(MODEL.hrs, 1.5, 10e-6) == pytest.approx(reference / 2)
    assert 1.0 < rram.hrs_median_ohm(MODEL.hrs, 2.0, 100e-6) / reference < 1.3
    assert rram.reset_device_v(MODEL.hrs, 4.5, 5.0) == pytest.approx(2.0)


def test_a_word_line_below_the_column_supply_limits_a_reset():
    assert rram.reset_device_v(MODEL.hrs, 4.5, 2.25) == pytest.approx(1.0)


def test_virgin_devices_are_far_above_the_hrs(deviates, rng):
    virgin = rram.virgin_ohm(MODEL.virgin, deviates.virgin)
    assert np.median(virgin) == pytest.approx(10e6, rel=0.02)
    assert np.median(virgin) > 50 * np.median(nominal_hrs(deviates, rng))


def test_forming_voltages_are_spread_and_nearly_all_devices_form_at_the_form_supplies(deviates, rng):
    def share(volts: float, pulses: int) -> float:
        return rram.formed(MODEL.thresholds, volts, 2.55, deviates.forming, pulses, rng).mean()

    assert share(2.55, 1) == pytest.approx(0.5, abs=0.01)
    assert share(2.0, 1) < 1e-3
    assert 0.998 < share(3.0, 1) < 1.0
    assert share(3.0, 20) > share(3.0, 1)
    assert share(3.5, 1) == 1.0


def test_pulses_at_once_form_as_many_devices_as_one_after_the_other(deviates, rng):
    virgin = np.ones(DEVICES, dtype=bool)
    for _ in range(10):
        virgin[virgin] = ~rram.formed(MODEL.thresholds, 2.4, 2.55, deviates.forming[virgin], 1, rng)
    at_once = rram.formed(MODEL.thresholds, 2.4, 2.55, deviates.forming, 10, rng)
    # two shares of 1e5 devices: five standard errors are 0.01
    assert at_once.mean() == pytest.approx(1 - virgin.mean(), abs=0.01)
    assert at_once.mean() > 1.5 * rram.formed(MODEL.thresholds, 2.4, 2.55, deviates.forming, 1, rng).mean()


def test_defects_come_in_the_fractions_of_the_file(rng):
    states = rram.fabricated_states(MODEL, (1_000_000,), rng)
    for state, fraction in [
        (DeviceState.STUCK_LRS, 3e-4),
        (DeviceState.STUCK_HRS, 4e-4),
        (DeviceState.OPEN, 3e-4),
    ]:
        assert (states == state).mean() == pytest.approx(fraction, rel=0.3)
    assert (states == DeviceState.VIRGIN).mean() == pytest.approx(0.999, abs=3e-4)
    assert not np.isin(states, (DeviceState.LRS, DeviceState.HRS)).any()


def test_broken_devices_keep_the_resistance_of_the_way_they_broke(rng):
    states = rram.damaged_states(30_000, rng)
    deviates = rram.draw_deviates(states.shape, rng)
    resistance = rram.broken_ohm(MODEL, states, deviates, rng)
    assert np.median(resistance[states == DeviceState.STUCK_LRS]) == pytest.approx(6988, rel=0.05)
    assert np.median(resistance[states == DeviceState.STUCK_HRS]) == pytest.approx(80e3, rel=0.05)
    assert (resistance[states == DeviceState.OPEN] == 1e12).all()
    assert np.unique(states, return_counts=True)[1].min() > 9_500
