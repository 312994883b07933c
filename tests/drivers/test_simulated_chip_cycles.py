"""Many cycles at once on the simulated chip are what so many SET and RESET pulses in turn are."""

from __future__ import annotations

import numpy as np
import pytest

from data.device_files import Quantity, default_device
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.world import Rails
from models.cells import DeviceState, Geometry, Polarity
from models.devices import ageing
from models.exceptions import UserMistake

GEOMETRY = Geometry(32, 32)
FORM, BOTH = Rails(1.2, 3.0, 3.0), Rails(1.2, 4.0, 4.3)
EVERY = np.ones((*GEOMETRY, 2), dtype=bool)
SET_S, RESET_S = 1e-6, 2e-6
NO_DEFECTS = {"defects.stuck_lrs": 0.0, "defects.stuck_hrs": 0.0, "defects.open": 0.0}
LOW_RESET = {"thresholds.reset_vddc_v": 2.9, "thresholds.reset_vddr_v": 2.6}
SHORT_LIVED = {"endurance.cycles_ref": 8000.0}


def new_chip(changes: dict[str, float], seed: int = 3) -> SimulatedChip:
    device = default_device()
    values = (NO_DEFECTS | changes).items()
    device = device.updated({key: Quantity(v, device.quantities[key].unit, "", "proposed") for key, v in values})
    return SimulatedChip(device.model, GEOMETRY, seed, "CHIP-1")


def in_turn(chip: SimulatedChip, devices: np.ndarray, count: int, rails: Rails, reset_s: float = RESET_S) -> None:
    for _ in range(count):
        chip.pulse(Polarity.SET, devices, SET_S, 1, rails)
        chip.pulse(Polarity.RESET, devices, reset_s, 1, rails)


def assert_alike(fast: SimulatedChip, slow: SimulatedChip) -> None:
    """Equal in distribution: 2048 devices, tolerances of four to five standard errors."""
    for state in DeviceState:
        few, many = (chip.state == state for chip in (fast, slow))
        assert few.mean() == pytest.approx(many.mean(), abs=0.05), state.name
        if many.sum() < 200:
            continue
        log_r = [np.log(chip.resistance_ohm[chip.state == state]) for chip in (fast, slow)]
        spread = log_r[1].std()
        assert np.median(log_r[0]) == pytest.approx(np.median(log_r[1]), abs=5 * spread / np.sqrt(many.sum()) + 1e-9)
        assert log_r[0].std() == pytest.approx(spread, rel=0.12), state.name


@pytest.mark.parametrize(
    ("rails", "changes", "end"),
    [
        pytest.param(BOTH, {}, DeviceState.HRS, id="both switch"),
        pytest.param(BOTH, SHORT_LIVED, DeviceState.STUCK_LRS, id="both switch and wear out"),
        pytest.param(Rails(1.2, 3.5, 3.0), {}, DeviceState.LRS, id="SET and weak RESET"),
        pytest.param(Rails(1.2, 3.5, 3.0), {"weak_reset.onset_v": 2.0}, DeviceState.LRS, id="SET only"),
        pytest.param(Rails(1.2, 4.0, 4.3), {"thresholds.set_vddc_v": 4.5}, DeviceState.HRS, id="RESET only"),
        pytest.param(Rails(1.2, 2.25, 5.0), {}, DeviceState.LRS, id="weak RESET only"),
        pytest.param(Rails(1.2, 1.2, 2.5), {}, DeviceState.LRS, id="nothing"),
        pytest.param(Rails(0.0, 4.0, 4.3), {}, DeviceState.LRS, id="no core supply"),
    ],
)
@pytest.mark.parametrize("start", [DeviceState.LRS, DeviceState.HRS])
def test_the_same_as_pulses_in_turn(rails: Rails, changes: dict[str, float], end: DeviceState, start: DeviceState):
    count = 60
    chips = [new_chip(changes) for _ in range(2)]
    some = np.random.default_rng(1).random(EVERY.shape) < 0.8
    for chip in chips:
        chip.pulse(Polarity.SET, EVERY, 1e-6, 100, FORM)
        if start == DeviceState.HRS:
            chip.pulse(Polarity.RESET, EVERY, 1e-9, 1, Rails(1.2, 4.5, 5.0))
    fast, slow = chips
    rest = fast.resistance_ohm[~some]
    fast.cycle(some, SET_S, RESET_S, count, rails)
    in_turn(slow, some, count, rails)
    # fabrication is of the same seed: what wears out, and when, is the same device by device
    np.testing.assert_array_equal(fast.cycles, slow.cycles)
    np.testing.assert_allclose(fast.wear, slow.wear, rtol=1e-9)
    worn = DeviceState.STUCK_LRS
    np.testing.assert_array_equal(fast.state == worn, slow.state == worn)
    np.testing.assert_array_equal(fast.resistance_ohm[~some], rest)
    assert not fast.cycles[~some].any()
    assert_alike(fast, slow)
    if start == DeviceState.LRS:
        assert (fast.state[some] == end).mean() > 0.3
    if end == worn:
        assert 0.3 < (fast.state[some] == worn).mean() < 0.97


@pytest.mark.parametrize(
    ("changes", "rails"),
    [
        ({"thresholds.form_vddc_v": 3.1} | LOW_RESET, Rails(1.2, 3.0, 3.0)),
        ({"thresholds.form_vddc_v": 3.1} | LOW_RESET | SHORT_LIVED, Rails(1.2, 3.0, 3.0)),
        ({"thresholds.form_vddc_v": 3.1}, Rails(1.2, 3.0, 3.0)),
        ({"thresholds.form_vddc_v": 2.7}, Rails(1.2, 2.6, 3.0)),
        ({"thresholds.form_vddc_v": 3.1, "thresholds.form_sigma_c2c": 0.0}, Rails(1.2, 3.0, 3.0)),
        ({}, Rails(1.2, 4.0, 2.5)),
    ],
)
def test_virgin_devices_join_in_when_they_form(changes: dict[str, float], rails: Rails):
    fast, slow = new_chip(changes), new_chip(changes)
    fast.cycle(EVERY, SET_S, RESET_S, 20, rails)
    in_turn(slow, EVERY, 20, rails)
    assert_alike(fast, slow)
    virgin = (slow.state == DeviceState.VIRGIN).mean()
    assert 0.2 < virgin < 0.9 or rails.vddr_v < 2.55
    # mean over 2048 devices of a number between 0 and 20
    assert fast.cycles.mean() == pytest.approx(slow.cycles.mean(), abs=0.9)
    assert fast.wear.mean() == pytest.approx(slow.wear.mean(), rel=0.1, abs=1e-30)


def test_weak_resets_that_reach_the_ceiling_at_once_make_cycles():
    rails, reset_s = Rails(1.2, 3.82, 5.0), 100e-6
    fast, slow = new_chip({}), new_chip({})
    for chip in (fast, slow):
        chip.pulse(Polarity.SET, EVERY, 1e-6, 100, FORM)
    fast.cycle(EVERY, SET_S, reset_s, 40, rails)
    in_turn(slow, EVERY, 40, rails, reset_s)
    assert_alike(fast, slow)
    assert 0.1 < (slow.state == DeviceState.HRS).mean() < 0.9
    # the devices are the same on both, and most of them always do or never do
    assert np.abs(fast.cycles - slow.cycles).mean() < 1.0
    assert fast.cycles.mean() == pytest.approx(slow.cycles.mean(), rel=0.02)


def test_cycles_in_pieces_are_the_cycles_of_one_call():
    whole, parts = new_chip(SHORT_LIVED), new_chip(SHORT_LIVED)
    whole.cycle(EVERY, SET_S, RESET_S, 100, BOTH)
    for count in (1, 9, 30, 60):
        parts.cycle(EVERY, SET_S, RESET_S, count, BOTH)
    np.testing.assert_array_equal(whole.cycles, parts.cycles)
    np.testing.assert_allclose(whole.wear, parts.wear, rtol=1e-9)
    assert_alike(whole, parts)


@pytest.mark.parametrize("count", [10**6, 10**9, 10**12])
def test_any_number_of_cycles_ages_as_the_model_says(count: int):
    chip = new_chip({})
    chip.pulse(Polarity.SET, EVERY, 1e-6, 100, FORM)
    chip.pulse(Polarity.RESET, EVERY, 1e-9, 1, Rails(1.2, 4.5, 5.0))
    chip.cycle(EVERY, 100e-9, 100e-9, count, BOTH)
    current = 64e-6 * (4.3 - 0.8) / (3.0 - 0.8)
    wear = count / ageing.cyclability(chip.model.endurance, current, 4.0 / 2.25, 100e-9)
    worn = chip.state == DeviceState.STUCK_LRS
    # 2048 devices: five standard errors are 0.055
    assert worn.mean() == pytest.approx(ageing.stuck_share(chip.model.endurance, wear), abs=0.055)
    assert (chip.cycles[~worn] == count).all()
    assert (chip.cycles[worn] < count).all()
    assert chip.wear[~worn] == pytest.approx(wear)


def test_no_cycles_and_cycles_that_make_no_sense():
    chip = new_chip({})
    before = chip.resistance_ohm
    chip.cycle(EVERY, SET_S, RESET_S, 0, BOTH)
    chip.cycle(~EVERY, SET_S, RESET_S, 10, BOTH)
    with pytest.raises(UserMistake, match="widths are above 0"):
        chip.cycle(EVERY, SET_S, 0.0, 1, BOTH)
    with pytest.raises(UserMistake, match="counts 0 or more"):
        chip.cycle(EVERY, SET_S, RESET_S, -1, BOTH)
    with pytest.raises(UserMistake, match="devices must be bool"):
        chip.cycle(EVERY[:3], SET_S, RESET_S, 1, BOTH)
    np.testing.assert_array_equal(chip.resistance_ohm, before)
