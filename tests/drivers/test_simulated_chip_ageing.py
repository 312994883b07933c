"""What use, time and temperature do to the simulated chip; macros of several arrays; the ternary population in it."""

from __future__ import annotations

import numpy as np
import pytest

from data.device_files import DeviceFile, Quantity, default_device, packaged_device
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.world import Rails, World
from models.cells import Device, DeviceState, Geometry, Polarity, lrs_devices
from models.devices import ageing
from models.exceptions import UserMistake
from models.sense import Corner

GEOMETRY = Geometry(32, 32)
FORM, SET, RESET = Rails(1.2, 3.0, 3.0), Rails(1.2, 3.5, 3.0), Rails(1.2, 4.5, 5.0)
WEAK, SENSE = Rails(1.2, 2.25, 5.0), Rails(1.2, 1.2, 2.5)
EVERY = np.ones((*GEOMETRY, 2), dtype=bool)
LONG, SHORT = 5e-6, 50e-9
NO_DEFECTS = {"defects.stuck_lrs": 0.0, "defects.stuck_hrs": 0.0, "defects.open": 0.0}


def changed(device: DeviceFile, changes: dict[str, float]) -> DeviceFile:
    return device.updated(
        {key: Quantity(value, device.quantities[key].unit, "", "proposed") for key, value in changes.items()}
    )


def formed(seed: int = 0, changes: dict[str, float] | None = None, **options) -> SimulatedChip:
    device = changed(default_device(), NO_DEFECTS | ({} if changes is None else changes))
    chip = SimulatedChip(device.model, GEOMETRY, seed, "CHIP-1", **options)
    chip.pulse(Polarity.SET, EVERY, 10e-6, 100, FORM)
    return chip


def cycle(chip: SimulatedChip, devices=EVERY, width_s: float = 10e-6) -> None:
    chip.pulse(Polarity.RESET, devices, width_s, 1, RESET)
    chip.pulse(Polarity.SET, devices, width_s, 1, SET)


def read_errors(chip: SimulatedChip, programmings: int = 4) -> float:
    """Share of cells that do not read the weight just written into them."""
    wrong = 0.0
    for seed in range(programmings):
        weights = np.random.default_rng(seed).choice(np.array([-1, 1], dtype=np.int8), tuple(GEOMETRY))
        low = lrs_devices(weights)
        chip.pulse(Polarity.SET, low, 10e-6, 1, SET)
        chip.pulse(Polarity.RESET, ~low, 10e-6, 1, RESET)
        wrong += float((chip.sense(SENSE, LONG, LONG, 1)[0] != weights).mean())
    return wrong / programmings


def test_cycles_and_wear_are_counted_device_by_device():
    chip = formed()
    assert (chip.cycles == 0).all()
    assert (chip.wear == 0.0).all()
    some = np.zeros_like(EVERY)
    some[3, 4, Device.BL] = some[5, 6, Device.BLB] = True
    for _ in range(7):
        cycle(chip, some)
    chip.pulse(Polarity.SET, some, 10e-6, 5, SET)  # a SET of what is already SET is no cycle, but wears
    assert (chip.cycles[some] == 7).all()
    assert (chip.cycles[~some] == 0).all()
    wear = chip.model.endurance
    expected = 12 * ageing.set_wear(wear, 64e-6, 10e-6) + 7 * ageing.reset_wear(wear, 2.0, 10e-6)
    assert chip.wear[some] == pytest.approx(expected)
    assert (chip.wear[~some] == 0.0).all()


def test_a_thousand_programmings_leave_no_trace_on_the_kilobit_chip():
    chip = formed()
    for _ in range(1000):
        chip.pulse(Polarity.RESET, EVERY, 10e-6, 1, RESET)
        chip.pulse(Polarity.SET, EVERY, 10e-6, 1, SET)
    assert chip.wear.max() < 1e-3
    assert (chip.state == DeviceState.LRS).all()


def test_the_window_closes_errors_rise_and_devices_stick_as_cycles_add_up():
    chip = formed(changes={"endurance.cycles_ref": 2e4, "endurance.width_exponent": 0.0})
    at_nominal = ageing.cyclability(chip.model.endurance, 64e-6, 2.0, 10e-6)
    medians, errors, stuck = [], [], []
    for target in (0.0, 0.3, 1.0, 2.5):
        missing = (target - float(chip.wear.mean())) * at_nominal
        if missing > 0:
            chip.pulse(Polarity.SET, EVERY, 10e-6, int(missing), SET)
            chip.pulse(Polarity.RESET, EVERY, 10e-6, int(missing), RESET)
        working = chip.state < DeviceState.STUCK_LRS
        chip.pulse(Polarity.RESET, EVERY, 10e-6, 1, RESET)
        medians.append(float(np.median(chip.resistance_ohm[working & (chip.state == DeviceState.HRS)])))
        errors.append(read_errors(chip))
        stuck.append(float((chip.state == DeviceState.STUCK_LRS).mean()))
    assert medians == sorted(medians, reverse=True)
    assert medians[2] == pytest.approx(80e3 * np.exp(-1.0), rel=0.1)
    assert errors == sorted(errors)
    assert errors[0] < 2e-3
    assert errors[2] > 1e-2
    assert stuck[0] == 0.0
    # 2048 devices: five standard errors are 0.05
    assert stuck[3] == pytest.approx(ageing.stuck_share(chip.model.endurance, 2.5), abs=0.06)


def test_a_worn_out_device_stays_in_the_lrs_for_good():
    chip = formed(changes={"endurance.cycles_ref": 10.0, "endurance.width_exponent": 0.0})
    for _ in range(200):
        cycle(chip)
    assert (chip.state == DeviceState.STUCK_LRS).mean() > 0.99
    before, cycles = chip.resistance_ohm, chip.cycles
    cycle(chip)
    worn = chip.state == DeviceState.STUCK_LRS
    assert (chip.resistance_ohm[worn] == before[worn]).mean() > 0.99
    assert (chip.cycles[worn] == cycles[worn]).mean() > 0.99
    assert np.median(before) < 15e3


def test_weak_resets_hardly_wear_and_leave_an_intermediate_state():
    chip = formed()
    chip.pulse(Polarity.RESET, EVERY, 1e-6, 1000, WEAK)
    state, resistance = chip.state, chip.resistance_ohm
    assert np.isin(state, (DeviceState.LRS, DeviceState.INTERMEDIATE)).mean() > 0.99  # the others reached the HRS
    between = state == DeviceState.INTERMEDIATE
    assert 0.05 < between.mean() < 0.5
    assert np.median(resistance[between]) > 1.5 * np.median(resistance[state == DeviceState.LRS])
    chip.pulse(Polarity.RESET, EVERY, 1e-6, 15_800, WEAK)
    assert 0.0 < chip.wear.max() < 1e-4  # 16 800 in all: as many as 20 epochs of weak-RESET learning need
    chip.pulse(Polarity.SET, EVERY, 10e-6, 1, SET)
    assert (chip.state == DeviceState.LRS).all()


def test_time_stands_still_unless_it_is_told_to_pass():
    chip = formed()
    chip.pulse(Polarity.RESET, EVERY, 10e-6, 1, RESET)
    before = chip.resistance_ohm
    assert World(chip).temperature_c == 25.0
    chip.sense(SENSE, LONG, LONG, 100)
    assert (chip.resistance_ohm == before).all()
    chip.advance(0.0)
    assert (chip.resistance_ohm == before).all()


def test_storage_lets_devices_drift_hot_storage_more_and_programming_starts_anew():
    drifts = {}
    for celsius in (25.0, 125.0):
        chip = formed()
        world = World(chip)
        chip.pulse(Polarity.RESET, EVERY, 10e-6, 1, RESET)
        fresh = np.log(chip.resistance_ohm)
        world.temperature_c = celsius
        world.advance(1e6)
        world.temperature_c = 25.0
        drifts[celsius] = np.log(chip.resistance_ohm) - fresh
        cycle(chip)
        assert np.median(chip.resistance_ohm) == pytest.approx(6988, rel=0.03)
    assert drifts[25.0].mean() == pytest.approx(-0.02 * 3.0, abs=0.012)
    assert drifts[125.0].mean() < drifts[25.0].mean() - 0.05
    assert drifts[125.0].std() > 2 * drifts[25.0].std()


def test_a_long_bake_brings_bit_errors():
    chip = formed(changes={"retention.hrs_drift": -0.2, "retention.hrs_sigma": 0.1})
    weights = np.random.default_rng(1).choice(np.array([-1, 1], dtype=np.int8), tuple(GEOMETRY))
    low = lrs_devices(weights)
    chip.pulse(Polarity.SET, low, 10e-6, 1, SET)
    chip.pulse(Polarity.RESET, ~low, 10e-6, 1, RESET)
    assert (chip.sense(SENSE, LONG, LONG, 1)[0] != weights).mean() < 2e-3
    chip.temperature_c = 150.0
    chip.advance(1e6)
    chip.temperature_c = 25.0
    assert (chip.sense(SENSE, LONG, LONG, 1)[0] != weights).mean() > 0.02


def test_the_temperature_is_felt_by_what_is_read_and_leaves_no_trace():
    chip = formed()
    weights = np.random.default_rng(1).choice(np.array([-1, 1], dtype=np.int8), tuple(GEOMETRY))
    low = lrs_devices(weights)
    chip.pulse(Polarity.RESET, ~low, 10e-6, 1, RESET)
    cold = chip.resistance_ohm
    chip.temperature_c = 85.0
    ratio = chip.resistance_ohm / cold
    assert ratio[low] == pytest.approx(1.03)
    assert ratio[~low] == pytest.approx(ratio[~low][0])
    assert ratio[~low][0] < 0.9
    assert (chip.sense(SENSE, LONG, LONG, 3) == weights).mean() > 0.998
    chip.temperature_c = 25.0
    assert (chip.resistance_ohm == cold).all()


def test_heat_and_corner_reach_the_sense_amplifiers():
    undecided = {}
    for corner in (Corner.SS, Corner.FF):
        for celsius in (0.0, 80.0):
            chip = formed(corner=corner)
            chip.pulse(Polarity.RESET, EVERY, 10e-6, 1, RESET)
            chip.temperature_c = celsius
            undecided[corner, celsius] = (chip.sense(SENSE, LONG, SHORT, 1) == 0).mean()
    assert undecided[Corner.SS, 0.0] > undecided[Corner.FF, 0.0] > undecided[Corner.FF, 80.0]
    assert undecided[Corner.SS, 0.0] > undecided[Corner.SS, 80.0]


@pytest.mark.parametrize("celsius", [-100.0, 300.0, float("nan")])
def test_impossible_temperatures_and_times_are_refused(celsius):
    chip = formed()
    with pytest.raises(UserMistake, match="degC"):
        chip.temperature_c = celsius
    with pytest.raises(UserMistake, match="0 s or more"):
        chip.advance(-1.0)
    assert chip.temperature_c == 25.0


def test_a_meter_sees_the_resistance_fluctuate_more_in_the_hrs_and_disturbs_nothing():
    chip = formed()
    spreads = []
    for rails in (SET, RESET):
        chip.pulse(Polarity(rails is SET), EVERY, 10e-6, 1, rails)
        chip.connect(4, 5, Device.BL)
        true = chip.resistance_ohm[4, 5, Device.BL]
        read = np.array([volts / amps for volts, amps in (chip.force_direct(0.2, 1e-3, SENSE) for _ in range(500))])
        assert np.median(read) == pytest.approx(true, rel=0.01)
        assert (chip.resistance_ohm[4, 5, Device.BL]) == true
        expected = ageing.read_noise_sigma(chip.model.read_noise, float(true))
        assert np.log(read).std() == pytest.approx(expected, rel=0.16)  # five standard errors of 500 readings
        spreads.append(expected)
    assert spreads[1] > 1.5 * spreads[0]


def test_readings_of_a_meter_do_not_change_what_programming_and_sensing_do():
    chips = [formed(3) for _ in range(2)]
    chips[0].connect(0, 0, Device.BL)
    for _ in range(10):
        chips[0].force_direct(0.2, 1e-3, SENSE)
    for chip in chips:
        chip.pulse(Polarity.RESET, EVERY, 10e-6, 1, RESET)
    assert (chips[0].resistance_ohm == chips[1].resistance_ohm).all()


def test_direct_access_wears_too():
    chip = formed()
    chip.connect(1, 2, Device.BL)
    for _ in range(3):
        chip.force_direct(-2.0, 1e-2, SENSE)
        chip.force_direct(2.0, 1e-3, Rails(1.2, 0.0, 3.0))
    assert chip.cycles[1, 2].tolist() == [3, 0]
    assert chip.wear[1, 2, 0] > 0.0


def test_stacked_arrays_share_rows_out_and_nothing_else():
    whole = formed(1)
    stacked = formed(1, arrays=4)
    for chip in (whole, stacked):
        chip.pulse(Polarity.RESET, EVERY, 10e-6, 1, RESET)
    # HRS pairs in a long window: each amplifier decides by its own offset where the devices leave it a choice
    reads = [chip.sense(SENSE, LONG, LONG, 1)[0] for chip in (whole, stacked)]
    assert 0.5 < (reads[0] == reads[1]).mean() < 1.0
    inputs = np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.int8), (50, 32))
    sums = stacked.xnor(inputs, SENSE, LONG, LONG, GEOMETRY)
    part = stacked.xnor(inputs, SENSE, LONG, LONG, Geometry(11, 32))
    assert np.abs(sums[:, :11] - part).mean() < 0.5
    with pytest.raises(UserMistake, match="32 rows cannot be shared out to 5 arrays"):
        formed(arrays=5)


def test_v15_v17_the_ternary_population_on_a_chip():
    device = changed(packaged_device("hfo2_130nm_ternary"), NO_DEFECTS)
    rng = np.random.default_rng(5)
    type2, type3, careful, inverted = [], [], [], 0
    for seed in range(12):
        chip = SimulatedChip(device.model, GEOMETRY, seed, "T")
        weights = rng.choice(np.array([-1, 0, 1], dtype=np.int8), tuple(GEOMETRY))
        low = lrs_devices(weights)
        chip.pulse(Polarity.SET, EVERY, 10e-6, 100, FORM)
        for rails, rates in ((RESET, type3), (Rails(1.2, 5.0, 5.0), careful)):
            chip.pulse(Polarity.SET, low, 10e-6, 1, SET)
            chip.pulse(Polarity.RESET, ~low, 10e-6, 1, rails)
            read = chip.sense(SENSE, LONG, SHORT, 1)[0]
            rates.append((read[weights == 0] != 0).mean())
            type2.append((read[weights != 0] == 0).mean())
            inverted += int((read * weights == -1).sum())
    assert inverted == 0
    assert np.mean(type2) < 0.01
    # 4100 zeros, whose devices come from 12 chips: five standard errors are 0.03 and 0.02
    assert np.mean(type3) == pytest.approx(0.185, abs=0.03)
    assert np.mean(careful) == pytest.approx(0.068, abs=0.02)


def test_plain_programming_with_one_verify_is_careful_too():
    device = changed(packaged_device("hfo2_130nm_ternary"), NO_DEFECTS)
    zeros = []
    for seed in range(12):
        chip = SimulatedChip(device.model, GEOMETRY, seed, "T")
        chip.pulse(Polarity.SET, EVERY, 10e-6, 100, FORM)
        chip.pulse(Polarity.RESET, EVERY, 10e-6, 1, RESET)
        wrong = chip.sense(SENSE, LONG, SHORT, 1)[0] != 0
        chip.pulse(Polarity.RESET, np.repeat(wrong[..., None], 2, axis=2), 10e-6, 1, RESET)
        zeros.append((chip.sense(SENSE, LONG, SHORT, 1)[0] != 0).mean())
    assert 0.065 / 2 < np.mean(zeros) < 0.065 * 2
