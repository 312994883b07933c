from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from data.device_files import Quantity, default_device
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.world import Rails, World
from models.cells import Device, DeviceState, Geometry, Polarity, lrs_devices
from models.exceptions import UserMistake

GEOMETRY = Geometry(32, 32)
OFF, FORM, SET = Rails(0.0, 0.0, 0.0), Rails(1.2, 3.0, 3.0), Rails(1.2, 3.5, 3.0)
RESET, WEAK, SENSE = Rails(1.2, 4.5, 5.0), Rails(1.2, 2.25, 5.0), Rails(1.2, 1.2, 2.5)
EVERY = np.ones((*GEOMETRY, 2), dtype=bool)
LONG = 5e-6
DEFAULT = default_device()


def fabricated(seed: int = 0, **changes: float) -> SimulatedChip:
    device = DEFAULT.updated(
        {
            key: Quantity(value, DEFAULT.quantities[key].unit, "", "proposed")
            for key, value in ((name.replace("__", "."), value) for name, value in changes.items())
        }
    )
    return SimulatedChip(device.model, GEOMETRY, seed, "CHIP-1")


NO_DEFECTS = {"defects__stuck_lrs": 0.0, "defects__stuck_hrs": 0.0, "defects__open": 0.0}
NO_NOISE = {"read_noise__sigma_ref": 0.0}
PERFECT = {**NO_DEFECTS, **NO_NOISE, "thresholds__form_sigma_d2d": 0.0, "thresholds__form_sigma_c2c": 0.0}


@pytest.fixture
def virgin() -> SimulatedChip:
    return fabricated(**PERFECT)


@pytest.fixture
def formed(virgin) -> SimulatedChip:
    virgin.pulse(Polarity.SET, EVERY, 10e-6, 1, FORM)
    return virgin


def program(chip: SimulatedChip, weights) -> None:
    low = lrs_devices(weights)
    chip.pulse(Polarity.SET, low, 10e-6, 1, SET)
    chip.pulse(Polarity.RESET, ~low, 10e-6, 1, RESET)


def random_weights(seed: int = 1):
    return np.random.default_rng(seed).choice(np.array([-1, 1], dtype=np.int8), tuple(GEOMETRY))


def test_forming_comes_first(virgin):
    before = virgin.resistance_ohm
    virgin.pulse(Polarity.RESET, EVERY, 10e-6, 5, RESET)
    virgin.pulse(Polarity.RESET, EVERY, 10e-6, 5, WEAK)
    virgin.pulse(Polarity.SET, EVERY, 10e-6, 5, Rails(1.2, 2.4, 3.0))
    assert (virgin.state == DeviceState.VIRGIN).all()
    assert (virgin.resistance_ohm == before).all()
    virgin.pulse(Polarity.SET, EVERY, 10e-6, 1, FORM)
    assert (virgin.state == DeviceState.LRS).all()
    virgin.pulse(Polarity.RESET, EVERY, 10e-6, 1, RESET)
    assert (virgin.state == DeviceState.HRS).all()


def test_most_devices_form_at_once_a_few_need_more_pulses_and_defects_never_do():
    left, devices = [], 0
    for seed in range(20):
        chip = fabricated(seed)
        working = chip.state == DeviceState.VIRGIN
        devices += working.size
        chip.pulse(Polarity.SET, EVERY, 10e-6, 1, FORM)
        left.append(int((chip.state == DeviceState.VIRGIN).sum()))
        chip.pulse(Polarity.SET, EVERY, 10e-6, 100, FORM)
        left.append(int((chip.state == DeviceState.VIRGIN).sum()))
        assert (chip.state[~working] >= DeviceState.STUCK_LRS).all()
    first, after = sum(left[::2]), sum(left[1::2])
    assert 0 < first < 0.002 * devices
    assert after < first


def test_set_and_reset_leave_the_populations_of_the_device_file(formed):
    weights = random_weights()
    program(formed, weights)
    low = lrs_devices(weights)
    log_r = np.log(formed.resistance_ohm)
    # 1024 devices each: standard errors of the median 0.8 % and 2.4 %, of sigma 2.2 %
    assert np.exp(np.median(log_r[low])) == pytest.approx(6988, rel=0.04)
    assert np.exp(np.median(log_r[~low])) == pytest.approx(80e3, rel=0.10)
    assert log_r[low].std() == pytest.approx(0.197, rel=0.1)
    assert log_r[~low].std() == pytest.approx(0.602, rel=0.1)


def test_each_device_keeps_its_own_part_from_cycle_to_cycle(formed):
    cycles = []
    for _ in range(20):
        formed.pulse(Polarity.SET, EVERY, 10e-6, 1, SET)
        cycles.append(np.log(formed.resistance_ohm))
    between_devices = np.mean(cycles, axis=0).std()
    within = np.std(cycles, axis=0, ddof=1)
    assert np.sqrt((within**2).mean()) == pytest.approx(0.17, rel=0.05)
    assert between_devices == pytest.approx(np.sqrt(0.10**2 + 0.17**2 / 20), rel=0.1)


def test_only_the_selected_devices_change(formed):
    before = formed.resistance_ohm
    mask = np.zeros_like(EVERY)
    mask[3, 4, Device.BLB] = True
    formed.pulse(Polarity.RESET, mask, 10e-6, 1, RESET)
    assert formed.state[3, 4].tolist() == [DeviceState.LRS, DeviceState.HRS]
    assert (formed.resistance_ohm != before).sum() == 1


@pytest.mark.parametrize(
    ("polarity", "rails"),
    [
        (Polarity.SET, Rails(1.2, 2.97, 3.0)),
        (Polarity.SET, Rails(1.2, 3.5, 2.5)),
        (Polarity.SET, Rails(0.9, 3.5, 3.0)),
        (Polarity.SET, OFF),
        (Polarity.RESET, Rails(0.9, 4.5, 5.0)),
        (Polarity.RESET, Rails(1.2, 4.5, 0.8)),
        (Polarity.RESET, Rails(1.2, 1.3, 5.0)),
        (Polarity.RESET, OFF),
    ],
)
def test_weak_or_missing_supplies_do_nothing(formed, polarity, rails):
    program(formed, random_weights())
    state, resistance = formed.state, formed.resistance_ohm
    formed.pulse(polarity, EVERY, 10e-6, 3, rails)
    assert (formed.state == state).all()
    assert (formed.resistance_ohm == resistance).all()


@pytest.mark.parametrize("rails", [Rails(1.2, 3.8, 5.0), Rails(1.2, 4.5, 4.2)])
def test_a_reset_needs_both_of_its_supplies(formed, rails):
    formed.pulse(Polarity.RESET, EVERY, 1e-7, 1, rails)
    assert (formed.state != DeviceState.HRS).mean() > 0.99


def test_the_word_line_sets_the_lrs_and_the_column_the_hrs(formed):
    formed.pulse(Polarity.SET, EVERY, 10e-6, 1, Rails(1.2, 3.5, 5.2))
    assert np.median(formed.resistance_ohm) == pytest.approx(6988 / 2, rel=0.03)
    formed.pulse(Polarity.RESET, EVERY, 10e-6, 1, Rails(1.2, 4.5 + 0.25 * 2.25, 5.0))
    # the word line of 5 V passes no more than itself: 5.0 V instead of 5.06 V on the column
    assert np.median(formed.resistance_ohm) == pytest.approx(80e3 * 2 ** (0.5 / 2.25 / 0.5), rel=0.06)


def test_weak_resets_move_lrs_devices_a_little_each(formed):
    weights = random_weights()
    program(formed, weights)
    low, before, state = lrs_devices(weights), formed.resistance_ohm, formed.state
    medians = []
    for _ in range(5):
        formed.pulse(Polarity.RESET, EVERY, 1e-6, 100, WEAK)
        medians.append(float(np.median((formed.resistance_ohm / before)[low])))
    assert (formed.resistance_ohm[~low] == before[~low]).all()
    assert (formed.state[~low] == state[~low]).all()
    assert np.isin(formed.state[low], (DeviceState.LRS, DeviceState.INTERMEDIATE)).mean() > 0.998
    assert medians == sorted(medians)
    # the published median curve without noise, 7.48 and 8.56 kohm after 100 and 500 pulses from an R0 of 6.988 kohm,
    # which RTN (high in 29 % of the devices, by 0.0625 on average) raises by 2 %; 1024 devices
    assert medians[0] == pytest.approx(1.018 * 7.48 / 6.988, rel=0.02)
    assert medians[4] == pytest.approx(1.018 * 8.56 / 6.988, rel=0.05)


def test_weak_resets_depend_on_voltage_and_width(formed):
    start = formed.resistance_ohm

    def moved(vddc_v: float, width_s: float) -> float:
        formed.pulse(Polarity.SET, EVERY, 10e-6, 1, SET)
        # the offset c1 comes with the first pulse
        formed.pulse(Polarity.RESET, EVERY, width_s, 1, Rails(1.2, vddc_v, 5.0))
        before = np.log(formed.resistance_ohm)
        formed.pulse(Polarity.RESET, EVERY, width_s, 20, Rails(1.2, vddc_v, 5.0))
        return float(np.median(np.log(formed.resistance_ohm) - before))

    reference = moved(2.25, 1e-6)
    assert 0.0 < reference < 0.03
    assert moved(2.25 + 0.2 * 2.25, 1e-6) > 4 * reference
    assert moved(2.25, 10e-6) > 4 * reference
    assert start.shape == EVERY.shape


def test_a_device_that_drifts_up_to_the_ceiling_is_in_the_hrs(formed):
    formed.pulse(Polarity.RESET, EVERY, 1e-6, 2_000_000, WEAK)
    assert (formed.state == DeviceState.HRS).mean() > 0.9
    assert formed.resistance_ohm.max() == pytest.approx(200e3)
    formed.pulse(Polarity.SET, EVERY, 10e-6, 1, SET)
    assert np.median(formed.resistance_ohm) == pytest.approx(6988, rel=0.03)


def test_pulses_at_once_equal_pulses_one_by_one(virgin):
    at_once, singly = (fabricated(5, **PERFECT) for _ in range(2))
    for chip in (at_once, singly):
        chip.pulse(Polarity.SET, EVERY, 10e-6, 1, FORM)
    start = np.log(at_once.resistance_ohm)
    assert (start == np.log(singly.resistance_ohm)).all()
    at_once.pulse(Polarity.RESET, EVERY, 1e-6, 50, WEAK)
    for _ in range(50):
        singly.pulse(Polarity.RESET, EVERY, 1e-6, 1, WEAK)
    for quantile in (0.25, 0.5, 0.75):
        moves = [np.quantile(np.log(chip.resistance_ohm) - start, quantile) for chip in (at_once, singly)]
        # the two differ in their noise; RTN, 0.07 where it is high, weighs most in the upper quartile
        assert moves[0] == pytest.approx(moves[1], abs=0.01)


def test_no_pulse_is_no_pulse(formed):
    before = formed.resistance_ohm
    formed.pulse(Polarity.RESET, EVERY, 10e-6, 0, RESET)
    formed.pulse(Polarity.RESET, ~EVERY, 10e-6, 3, RESET)
    assert (formed.resistance_ohm == before).all()


def test_a_programmed_array_reads_back_its_weights(formed):
    weights = random_weights()
    program(formed, weights)
    r = formed.resistance_ohm
    assert (r[..., Device.BL] > r[..., Device.BLB])[weights == 1].mean() > 0.99
    read = formed.sense(SENSE, LONG, LONG, 7)
    assert read.shape == (7, *GEOMETRY)
    assert read.dtype == np.int8
    assert (read == weights).mean() > 0.998
    assert (read != 0).all()
    assert (formed.resistance_ohm == r).all()


def test_ternary_zeros_are_undecided_in_a_short_window_of_a_strongly_reset_array(formed):
    weights = np.zeros(tuple(GEOMETRY), dtype=np.int8)
    weights[::2] = random_weights()[::2]
    low = lrs_devices(weights)
    formed.pulse(Polarity.SET, low, 10e-6, 1, SET)
    formed.pulse(Polarity.RESET, ~low, 10e-6, 1, Rails(1.2, 5.5, 6.0))
    read = formed.sense(SENSE, LONG, 20e-9, 1)[0]
    assert (read[::2] == weights[::2]).mean() > 0.99
    assert (read[1::2] == 0).mean() > 0.9


def test_virgin_cells_say_nothing_about_a_weight(virgin):
    read = virgin.sense(SENSE, LONG, LONG, 1)
    assert abs(int(read.sum())) < 0.15 * GEOMETRY.cells
    assert (read == 1).any()
    assert (read == -1).any()


@pytest.mark.parametrize("rails", [OFF, Rails(0.9, 1.2, 2.5), Rails(1.2, 1.2, 0.5)])
def test_nothing_is_sensed_without_core_or_word_lines(formed, rails):
    program(formed, random_weights())
    assert (formed.sense(rails, LONG, LONG, 2) == 0).all()
    inputs = np.ones((3, 32), dtype=np.int8)
    assert (formed.xnor(inputs, rails, LONG, LONG, GEOMETRY) == 0).all()


def test_too_short_a_precharge_leaves_everything_undecided(formed):
    program(formed, random_weights())
    assert (formed.sense(SENSE, 1e-9, LONG, 1) == 0).all()


@pytest.mark.parametrize("part", [GEOMETRY, Geometry(5, 7), Geometry(1, 1)])
def test_xnor_popcounts_are_those_of_the_weights_that_read_back(formed, part):
    program(formed, random_weights())
    inputs = np.random.default_rng(2).choice(np.array([-1, 1], dtype=np.int8), (200, part.cols))
    sums = formed.xnor(inputs, SENSE, LONG, LONG, part)
    assert sums.dtype == np.int16
    weights = formed.sense(SENSE, LONG, LONG, 1)[0, : part.rows, : part.cols].astype(np.int16)
    assert (sums == inputs.astype(np.int16) @ weights.T).mean() > 0.99


def test_xnor_of_no_input_is_empty(formed):
    assert formed.xnor(np.empty((0, 32), dtype=np.int8), SENSE, LONG, LONG, GEOMETRY).shape == (0, 32)


@pytest.mark.parametrize(
    ("shape", "value", "part"),
    [((3, 31), 1, GEOMETRY), ((32,), 1, GEOMETRY), ((3, 32), 0, GEOMETRY), ((3, 33), 1, Geometry(32, 33))],
)
def test_bad_inputs_are_refused(formed, shape, value, part):
    with pytest.raises(UserMistake):
        formed.xnor(np.full(shape, value, dtype=np.int8), SENSE, LONG, LONG, part)


def test_bad_pulses_are_refused(formed):
    with pytest.raises(UserMistake, match="shape"):
        formed.pulse(Polarity.SET, EVERY[:, :5], 10e-6, 1, SET)
    with pytest.raises(UserMistake, match="bool"):
        formed.pulse(Polarity.SET, EVERY.astype(int), 10e-6, 1, SET)
    for width_s, count in [(0.0, 1), (-1.0, 1), (float("nan"), 1), (1e-6, -1)]:
        with pytest.raises(UserMistake, match="pulses"):
            formed.pulse(Polarity.SET, EVERY, width_s, count, SET)


@pytest.mark.parametrize("rails", [Rails(1.9, 0.0, 0.0), Rails(1.2, 5.6, 5.0), Rails(1.2, 4.5, 6.1)])
def test_supplies_beyond_the_absolute_maximum_break_devices_for_good(formed, rails):
    formed.expose(rails)
    broken = formed.state >= DeviceState.STUCK_LRS
    assert broken.mean() == pytest.approx(0.1, abs=0.03)
    state, resistance = formed.state, formed.resistance_ohm
    formed.pulse(Polarity.SET, EVERY, 10e-6, 3, SET)
    formed.pulse(Polarity.RESET, EVERY, 10e-6, 3, RESET)
    assert (formed.state[broken] == state[broken]).all()
    assert (formed.resistance_ohm[broken] == resistance[broken]).all()
    assert (formed.state[~broken] == DeviceState.HRS).all()
    formed.expose(rails)
    assert (formed.resistance_ohm[broken] == resistance[broken]).all()
    assert (formed.state >= DeviceState.STUCK_LRS).mean() == pytest.approx(0.19, abs=0.04)


@pytest.mark.parametrize("rails", [OFF, FORM, SET, RESET, WEAK, SENSE, Rails(1.8, 5.5, 6.0)])
def test_supplies_within_the_absolute_maximum_break_nothing(formed, rails):
    before = formed.resistance_ohm
    formed.expose(rails)
    assert (formed.resistance_ohm == before).all()


def test_a_supply_set_too_high_reaches_the_chip_through_the_world(formed):
    world = World(formed)
    world.drive_channel(2, 5.4)
    assert (formed.state == DeviceState.LRS).all()
    world.drive_channel(2, 30.0)
    assert (formed.state >= DeviceState.STUCK_LRS).any()


def test_a_small_voltage_reads_the_connected_device_and_disturbs_nothing(formed):
    formed.connect(2, 3, Device.BLB)
    before = formed.resistance_ohm
    for volts in (0.2, -0.2, 0.5, 0.0):
        for _ in range(50):
            true_v, true_a = formed.force_direct(volts, 1e-3, SENSE)
        assert true_v == volts
        assert true_a == pytest.approx(volts / before[2, 3, Device.BLB])
    assert (formed.resistance_ohm == before).all()


def test_compliance_limits_the_current(formed):
    formed.connect(0, 0, Device.BL)
    resistance = formed.resistance_ohm[0, 0, 0]
    true_v, true_a = formed.force_direct(0.2, 1e-6, SENSE)
    assert true_a == pytest.approx(1e-6)
    assert true_v == pytest.approx(1e-6 * resistance)
    true_v, true_a = formed.force_direct(-0.2, 1e-6, SENSE)
    assert true_a == pytest.approx(-1e-6)


@pytest.mark.parametrize("rails", [OFF, Rails(1.2, 1.2, 0.8), Rails(0.0, 1.2, 2.5)])
def test_a_device_whose_transistor_is_closed_reads_open(formed, rails):
    formed.connect(0, 0, Device.BL)
    before = formed.resistance_ohm
    assert formed.force_direct(2.5, 1e-3, rails) == (2.5, 0.0)
    assert (formed.resistance_ohm == before).all()


def test_without_a_connected_device_the_pads_are_open(formed):
    assert formed.force_direct(3.9, 1e-3, SENSE) == (3.9, 0.0)
    formed.connect(1, 1, Device.BL)
    assert formed.connected == (1, 1, Device.BL)
    formed.disconnect()
    assert formed.connected is None
    assert formed.force_direct(3.9, 1e-3, SENSE) == (3.9, 0.0)
    assert (formed.state == DeviceState.LRS).all()


@pytest.mark.parametrize("cell", [(32, 0), (0, 32), (-1, 0)])
def test_a_cell_that_is_not_there_cannot_be_connected(formed, cell):
    with pytest.raises(UserMistake, match="no cell"):
        formed.connect(*cell, Device.BL)


def test_direct_access_forms_resets_sets_and_moves_one_device(virgin):
    gate = Rails(1.2, 0.0, 3.0)
    virgin.connect(4, 5, Device.BL)

    def force(volts: float, compliance_a: float = 1e-3) -> DeviceState:
        virgin.force_direct(volts, compliance_a, gate)
        return DeviceState(virgin.state[4, 5, 0])

    assert force(2.0) is DeviceState.VIRGIN
    assert force(-3.0) is DeviceState.VIRGIN
    assert force(2.9) is DeviceState.LRS
    low = virgin.resistance_ohm[4, 5, 0]
    assert force(-1.0) is DeviceState.LRS
    assert virgin.resistance_ohm[4, 5, 0] != low
    assert force(-2.0) is DeviceState.HRS
    assert virgin.resistance_ohm[4, 5, 0] > 2 * low
    assert force(0.9) is DeviceState.HRS
    assert force(1.5) is DeviceState.LRS
    assert force(-2.0) is DeviceState.HRS
    assert force(1.5, compliance_a=1e-6) is DeviceState.HRS
    others = np.ones_like(EVERY)
    others[4, 5, 0] = False
    assert (virgin.state[others] == DeviceState.VIRGIN).all()


def test_the_compliance_of_a_direct_set_decides_the_lrs(formed):
    gate = Rails(1.2, 0.0, 3.0)
    medians = {}
    for compliance_a in (32e-6, 64e-6, 1e-3):
        drawn = []
        for row in range(32):
            for col in range(8):
                formed.connect(row, col, Device.BL)
                formed.force_direct(-2.0, 1e-2, gate)
                formed.force_direct(2.0, compliance_a, gate)
                drawn.append(formed.resistance_ohm[row, col, 0])
        medians[compliance_a] = np.median(drawn)
    assert medians[32e-6] == pytest.approx(2 * 6988, rel=0.06)
    assert medians[64e-6] == pytest.approx(6988, rel=0.06)
    # the gate at 3.0 V passes no more than 64 uA, whatever the source would give
    assert medians[1e-3] == pytest.approx(6988, rel=0.06)


@pytest.mark.parametrize("volts", [4.5, -4.5])
def test_too_high_a_direct_voltage_breaks_the_device_for_good(formed, volts):
    formed.connect(6, 6, Device.BLB)
    formed.force_direct(volts, 1e-2, Rails(1.2, 0.0, 3.0))
    broken = formed.state >= DeviceState.STUCK_LRS
    assert broken.sum() == 1
    assert broken[6, 6, Device.BLB]


def exchange(seed: int) -> list[object]:
    chip = fabricated(seed)
    answers: list[object] = []
    chip.pulse(Polarity.SET, EVERY, 10e-6, 3, FORM)
    program(chip, random_weights())
    answers.append(chip.sense(SENSE, LONG, LONG, 3).tobytes())
    chip.pulse(Polarity.RESET, EVERY, 1e-6, 30, WEAK)
    inputs = np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.int8), (20, 32))
    answers.append(chip.xnor(inputs, SENSE, LONG, 30e-9, GEOMETRY).tobytes())
    chip.connect(1, 1, Device.BL)
    answers.append(chip.force_direct(0.2, 1e-3, SENSE))
    answers.append(chip.force_direct(-2.0, 1e-3, SENSE))
    chip.expose(Rails(1.2, 9.0, 3.0))
    answers.append(chip.resistance_ohm.tobytes())
    return answers


def test_the_same_exchanges_give_the_same_answers_bit_by_bit():
    assert exchange(8) == exchange(8)
    assert all(one != other for one, other in zip(exchange(8), exchange(9), strict=True))


def test_reading_more_often_does_not_change_what_programming_does():
    chips = [fabricated(2) for _ in range(2)]
    chips[0].sense(SENSE, LONG, LONG, 10)
    for chip in chips:
        chip.pulse(Polarity.SET, EVERY, 10e-6, 1, FORM)
    assert (chips[0].resistance_ohm == chips[1].resistance_ohm).all()


def test_what_the_chip_hands_out_is_a_copy(formed):
    formed.state[:] = DeviceState.OPEN
    formed.resistance_ohm[:] = 0.0
    assert (formed.state == DeviceState.LRS).all()
    assert formed.resistance_ohm.min() > 1e3


def test_the_simulated_chip_loads_neither_torch_nor_scipy():
    code = "import sys, drivers.simulated.chip; print([m for m in ('torch', 'scipy', 'h5py') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
