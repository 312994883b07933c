"""The population of the ternary chip: what the sense amplifier makes of it near threshold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import data
from data.device_files import default_device, load_device
from models import sense
from models.device_model import DeviceModel
from models.devices import rram
from models.errors import ternary

FILE = load_device(Path(data.__file__).parent / "devices" / "hfo2_130nm_ternary.toml")
MODEL = FILE.model
VDD_V, WINDOW_S = 1.2, 50e-9


def reset_at(vddc_v: float) -> DeviceModel:
    """The population whose HRS a RESET with this VDDC (and VDDR at 5 V) leaves."""
    device_v = rram.reset_device_v(MODEL.hrs, vddc_v, 5.0)
    return replace(MODEL, hrs=replace(MODEL.hrs, median_ohm=rram.hrs_median_ohm(MODEL.hrs, device_v, 10e-6)))


@pytest.mark.parametrize(("vddc_v", "type3"), [(4.5, 0.185), (5.0, 0.065)])
def test_v16_v17_errors_near_threshold_after_plain_and_careful_programming(vddc_v, type3):
    errors = ternary(reset_at(vddc_v), VDD_V, WINDOW_S)
    assert errors.type1 < 1e-6
    assert errors.type2 < 0.01
    # facts allow a factor of two; 10 % here
    assert errors.type3 == pytest.approx(type3, rel=0.1)


def test_v16_no_sign_is_inverted_in_a_million_senses():
    rng = np.random.default_rng(0)
    cells = (1000, 1000)
    low = rram.draw_lrs(MODEL.lrs, MODEL.lrs.set_compliance_ref_a, rng.standard_normal(cells), rng)
    high = rram.draw_hrs(MODEL.hrs, 2.0, 10e-6, rng.standard_normal(cells), rng)
    amplifiers = sense.SenseAmplifiers(MODEL.sense, rng.standard_normal(1000))
    margins = sense.margins(MODEL.sense, np.stack([high, low], axis=-1), VDD_V, WINDOW_S)
    read = amplifiers.read(margins, VDD_V, 1, rng)
    assert (read == -1).sum() == 0
    assert (read == 0).mean() < 0.01


@pytest.mark.parametrize("corner", list(sense.Corner))
@pytest.mark.parametrize("celsius", [0.0, 25.0, 80.0])
@pytest.mark.parametrize("vdd_v", [1.08, 1.2, 1.32])
def test_process_voltage_and_temperature_move_the_errors_but_not_their_kind(corner, celsius, vdd_v):
    there = replace(MODEL, sense=sense.at_conditions(MODEL.sense, celsius, corner))
    errors = ternary(there, vdd_v, WINDOW_S)
    assert errors.type1 < 1e-6
    assert errors.type2 < 0.01
    assert 0.185 / 2 < errors.type3 < 0.185 * 2


def test_a_longer_window_or_a_higher_supply_decides_more_zeros_and_a_long_one_all():
    by_window = [ternary(MODEL, VDD_V, window_s).type3 for window_s in (20e-9, 50e-9, 200e-9, 5e-6)]
    by_supply = [ternary(MODEL, vdd_v, WINDOW_S).type3 for vdd_v in (0.9, 1.2, 1.4)]
    assert by_window == sorted(by_window)
    assert by_window[-1] > 0.999
    assert by_supply == sorted(by_supply)


def test_near_the_threshold_signs_get_lost_and_below_it_everything_is_zero():
    assert ternary(MODEL, 0.87, WINDOW_S).type2 > ternary(MODEL, 1.2, WINDOW_S).type2
    assert ternary(MODEL, 0.8, WINDOW_S) == (0.0, 1.0, 0.0)


def test_only_what_ternary_reading_needs_differs_from_the_binary_population():
    values = dict(default_device().model.values())
    changed = {key for key, value in MODEL.values() if values[key] != value}
    assert changed == {
        "lrs.median_ohm",
        "lrs.set_compliance_ref_a",
        "hrs.median_ohm",
        "thresholds.core_vdd_v",
        "sense.threshold_v",
        "sense.offset_sigma",
        "sense.noise_sigma",
    }
