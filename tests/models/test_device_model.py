from __future__ import annotations

import dataclasses
import math

import pytest

from data.device_files import default_device
from models.device_model import SCHEMA, SECTIONS, DeviceModel
from models.exceptions import UserMistake


@pytest.fixture
def values() -> dict[str, float]:
    return dict(default_device().model.values())


def test_values_rebuild_the_same_model(values):
    assert DeviceModel.from_values(values) == default_device().model


def test_every_field_has_a_unit_a_range_and_a_line_of_documentation():
    for bounds in SCHEMA.values():
        assert bounds.unit
        assert bounds.low < bounds.high
        assert len(bounds.doc) > 10
    assert len(SCHEMA) == sum(len(dataclasses.fields(section)) for section in SECTIONS.values())


@pytest.mark.parametrize("bad", [50.0, 2e6, -1.0])
def test_a_value_out_of_range_is_refused_with_the_field_and_the_allowed_range(values, bad):
    with pytest.raises(UserMistake, match=r"lrs\.median_ohm = .*allowed is 100 to 1e\+06 ohm"):
        DeviceModel.from_values(values | {"lrs.median_ohm": bad})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(values, bad):
    with pytest.raises(UserMistake, match=r"hrs\.sigma_d2d .*not finite"):
        DeviceModel.from_values(values | {"hrs.sigma_d2d": bad})


@pytest.mark.parametrize("bad", [True, "0.1", None])
def test_what_is_no_number_is_refused(bad):
    sense = default_device().model.sense
    with pytest.raises(UserMistake, match=r"sense\.noise_sigma .*not a number"):
        dataclasses.replace(sense, noise_sigma=bad)


def test_zero_is_a_value(values):
    model = DeviceModel.from_values(values | {"lrs.sigma_d2d": 0.0, "sense.offset_sigma": 0})
    assert model.lrs.sigma_d2d == 0.0
    assert model.sense.offset_sigma == 0.0


def test_every_bound_is_enforced(values):
    for key, bounds in SCHEMA.items():
        if key not in values:
            continue
        for outside in (math.nextafter(bounds.low, -math.inf), math.nextafter(bounds.high, math.inf)):
            with pytest.raises(UserMistake, match=key.replace(".", r"\.")):
                DeviceModel.from_values(values | {key: outside})


def test_unknown_and_missing_keys_are_named_with_what_is_allowed(values):
    with pytest.raises(UserMistake, match=r"lrs\.mean_ohm is unknown; lrs has median_ohm"):
        DeviceModel.from_values(values | {"lrs.mean_ohm": 1.0})
    with pytest.raises(UserMistake, match=r"mram\.delta is unknown; the sections are lrs"):
        DeviceModel.from_values(values | {"mram.delta": 60.0})
    del values["sense.swing_v"]
    with pytest.raises(UserMistake, match=r"sense\.swing_v is missing .*0\.01 to 5 V"):
        DeviceModel.from_values(values)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("hrs.median_ohm", 5e3, r"must exceed lrs\.median_ohm"),
        ("weak_reset.knee_low", 3000.0, r"below weak_reset\.knee_high"),
        ("weak_reset.slope1_loc", 0.5, r"below weak_reset\.slope1_high"),
        ("weak_reset.r0_low_ohm", 9e3, r"below weak_reset\.r0_high_ohm"),
        ("weak_reset.rtn_p_low_high", 1.0, r"rtn_p_high_low"),
        ("lrs.gate_threshold_v", 3.0, r"exceed lrs\.gate_threshold_v"),
        ("sense.threshold_v", 1.2, r"exceed sense\.threshold_v"),
        ("temperature.reference_c", -80.0, r"temperature\.low_c to temperature\.high_c"),
        ("defects.open", 0.9999, r"at most 1"),
    ],
)
def test_values_that_contradict_each_other_are_refused(values, key, value, says):
    with pytest.raises(UserMistake, match=says):
        DeviceModel.from_values(values | {key: value})


def test_read_error_is_optional_but_never_half_there(values):
    assert DeviceModel.from_values(values).read_error is None
    rates = {"read_error.stuck_fraction": 0.0, "read_error.random_rate": 0.0, "read_error.transient_rate": 0.0}
    measured = DeviceModel.from_values(values | rates).read_error
    assert measured is not None
    assert measured.stuck_fraction == 0.0
    with pytest.raises(UserMistake, match=r"read_error\.random_rate is missing"):
        DeviceModel.from_values(values | {"read_error.stuck_fraction": 0.1})
