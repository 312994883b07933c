"""The compiled pairs against the reference model. Fixed seeds; tolerances are those of the targets."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats

from data.device_files import default_device
from models.arrays import NumpyArrays
from models.devices.weak_reset import Imperfections, WeakResetDevices, pink_processes
from models.devices.weak_reset_pairs import WeakResetPairs
from models.exceptions import UserMistake

SECTION = default_device().model.weak_reset
ONLY_MEAN = Imperfections(rtn=False, pink=False)
ONLY_RTN = Imperfections(device_to_device=False, pink=False)
ONLY_PINK = Imperfections(device_to_device=False, rtn=False)
BL, BLB = 0, 1


def pairs(shape, seed: int = 1, imperfections: Imperfections | None = None) -> WeakResetPairs:
    return WeakResetPairs(SECTION, shape, np.random.default_rng(seed), imperfections)


def weights_agree(some: WeakResetPairs) -> bool:
    bl, blb = some.log_resistance
    # ln R is about 9, in steps of 1e-6 in single precision: within two of them either sign is right
    told_apart = np.abs(bl - blb) > 2e-6
    return bool(told_apart.mean() > 0.99 and (some.weights == np.where(bl > blb, 1, -1))[told_apart].all())


def test_the_mean_curve_is_that_of_the_reference():
    reference = WeakResetDevices(SECTION, (2, 5000), NumpyArrays(np.random.default_rng(4)), ONLY_MEAN)
    compiled = pairs((5000,), 4, ONLY_MEAN)
    for step in (0, 10, 30, 400, 3000):
        reference.apply(step)
        compiled.apply(step)
        compiled.apply(-step)
        np.testing.assert_allclose(compiled.log_ratio, reference.log_ratio, atol=3e-6)
        np.testing.assert_allclose(compiled.log_resistance, np.log(reference.resistance_ohm), atol=3e-6)


def test_signs_choose_the_device_and_zero_leaves_a_pair_alone():
    few = pairs((3,))
    before = few.log_ratio
    few.apply([5, 0, -7])
    assert few.stress.tolist() == [[5, 0, 0], [0, 0, 7]]
    moved = few.log_ratio != before
    assert moved.tolist() == [[True, False, False], [False, False, True]]
    few.apply(np.int8(2))
    assert few.stress.tolist() == [[7, 2, 2], [0, 0, 7]]


def test_v1_v2_population_curve():
    many = pairs((100_000,), imperfections=ONLY_MEAN)
    for pulses, median, spread in [
        (0, 7.03e3, 0.052),
        (100, 7.48e3, 0.084),
        (500, 8.56e3, 0.294),
        (1000, 9.04e3, 0.466),
    ]:
        many.apply(pulses - int(many.stress[BL, 0]))
        assert np.median(np.exp(many.log_resistance[BL])) == pytest.approx(median, rel=0.03)
        assert many.log_ratio[BL].std() == pytest.approx(spread, rel=0.05)


def test_v3_rtn_settles_and_switches_as_published():
    many = pairs((1_000_000,), imperfections=ONLY_RTN)
    high = many.rtn_high[BL]
    assert high.mean() == pytest.approx(0.286, abs=0.01)
    many.apply(1)
    now = many.rtn_high[BL]
    # 714 000 low and 286 000 high devices: five standard errors are 21 % each
    assert now[~high].mean() == pytest.approx(0.0008, rel=0.21)
    assert (~now[high]).mean() == pytest.approx(0.002, rel=0.21)
    many.apply(20_000)
    assert many.rtn_high[BL].mean() == pytest.approx(0.286, abs=0.01)


@pytest.mark.parametrize("pulses", [0, 50])
def test_rtn_amplitude_has_the_published_moments(pulses):
    # without a drift to tell apart: both draw the same parameters
    with_rtn, without = (pairs((500_000,), imperfections=Imperfections(rtn=rtn, pink=False)) for rtn in (True, False))
    for some in (with_rtn, without):
        some.apply(pulses)
    value = (with_rtn.log_ratio - without.log_ratio)[BL]
    high = with_rtn.rtn_high[BL]
    assert value[high].mean() == pytest.approx(0.0625, rel=0.02)
    assert value[high].std() == pytest.approx(0.073, rel=0.02)
    assert np.abs(value[~high]).max() < 3e-6


def test_v4_spread_and_spectrum_of_the_pink_noise():
    series = np.empty((1016, 200))
    some = pairs((200,), 5, ONLY_PINK)
    for i in range(len(series)):
        some.apply(1)
        series[i] = some.log_ratio[BL]
    series -= series.mean(axis=1, keepdims=True)  # the drift, the same for all without device-to-device variability
    series -= series.mean(axis=0)
    power = (np.abs(np.fft.rfft(series * np.hanning(len(series))[:, None], axis=0)) ** 2).mean(axis=1)
    frequency = np.fft.rfftfreq(len(series))
    edges = np.geomspace(1 / 127, 0.25, 13)
    inside = [(frequency >= low) & (frequency < high) for low, high in itertools.pairwise(edges)]
    log_f = [np.log(frequency[bins]).mean() for bins in inside]
    log_p = [np.log(power[bins].mean()) for bins in inside]
    assert np.polyfit(log_f, log_p, 1)[0] == pytest.approx(-1.0, abs=0.15)
    many = pairs((100_000,), 6, ONLY_PINK)
    for pulses in (0, 1, 40, 5000):
        many.apply(pulses)
        assert many.log_ratio[BL].std() == pytest.approx(0.0117, rel=0.05)
    assert stats.kurtosis(many.log_ratio[BL]) == pytest.approx(0.0, abs=0.15)


def test_the_processes_of_the_noise_stay_apart_and_standard_normal():
    many = pairs((50_000,), 7, ONLY_PINK)
    for pulses in (14, -3, 1):
        many.apply(pulses)
    values = many._pairs.pink[:, BL].astype(float) / 4096
    correlation = np.corrcoef(values)
    assert np.abs(correlation - np.eye(len(values))).max() < 0.025
    assert np.abs(values.mean(axis=1)).max() < 0.025
    np.testing.assert_allclose(values.std(axis=1), 1.0, rtol=0.02)
    neighbours = np.corrcoef(values[:, 1:].ravel(), values[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.012


@pytest.mark.parametrize("memory", [15, 127, 1000])
def test_the_noise_remembers_as_the_reference_does(memory):
    section = dataclasses.replace(SECTION, pink_memory=float(memory))
    many = WeakResetPairs(section, (60_000,), np.random.default_rng(8), ONLY_PINK)
    before = many.log_ratio[BL]
    many.apply(20)
    times, variances = np.array(pink_processes(memory))
    expected = (variances * np.exp(-20 / times)).sum() / variances.sum()
    assert np.corrcoef(before, many.log_ratio[BL])[0, 1] == pytest.approx(expected, abs=0.02)


def test_pulses_at_once_equal_pulses_one_by_one_in_distribution():
    once, singly = pairs((30_000,), 21), pairs((30_000,), 22)
    before = once.log_ratio[BL], singly.log_ratio[BL]
    once.apply(25)
    for _ in range(25):
        singly.apply(1)
    assert stats.ks_2samp(once.log_ratio[BL], singly.log_ratio[BL]).pvalue > 0.01
    assert stats.ks_2samp(once.log_ratio[BL] - before[0], singly.log_ratio[BL] - before[1]).pvalue > 0.01


@pytest.mark.parametrize("pulses", [1, 14, 700])
def test_a_pair_fares_the_same_among_many_pulsed_ones_and_among_few(pulses):
    # blocks are worked on as a whole or pair by pair, with the same random numbers
    shape = (2_500,)
    many, few = pairs(shape, 11), pairs(shape, 11)
    all_pulsed = np.where(np.arange(shape[0]) % 3 == 0, -pulses, pulses)
    chosen = np.arange(shape[0]) % 10 == 0
    many.apply(all_pulsed)
    few.apply(np.where(chosen, all_pulsed, 0))
    assert np.array_equal(many.stress[:, chosen], few.stress[:, chosen])
    assert np.array_equal(many._pairs.rtn[:, chosen], few._pairs.rtn[:, chosen])
    # whole steps of the noise, rounded the other way at most
    steps = np.abs(many._pairs.pink[:, :, chosen].astype(int) - few._pairs.pink[:, :, chosen])
    assert steps.max() <= 1
    assert (steps != 0).mean() < 0.01
    assert weights_agree(many)


def test_the_distribution_is_that_of_the_reference():
    reference = WeakResetDevices(SECTION, (40_000,), NumpyArrays(np.random.default_rng(31)))
    compiled = pairs((40_000,), 32)
    for pulses, volts in ((3, 1.0), (200, 1.05)):
        reference.apply(pulses, volts)
        compiled.apply(-pulses, volts)
    assert stats.ks_2samp(reference.resistance_ohm, np.exp(compiled.log_resistance[BLB])).pvalue > 0.01


def test_weights_follow_the_resistances():
    many = pairs((50, 40))
    generator = np.random.default_rng(9)
    for _ in range(5):
        many.apply(generator.integers(-14, 15, (50, 40)))
        assert weights_agree(many)
    again = np.zeros((2, 50, 40), dtype=bool)
    again[BL, :25] = True
    kept = many.log_resistance
    many.set_again(again)
    assert (many.stress[again] == 0).all()
    assert (many.log_resistance[~again] == kept[~again]).all()
    assert (many.log_resistance[again] != kept[again]).mean() > 0.99
    assert weights_agree(many)


def test_looking_changes_nothing_and_what_is_handed_out_is_a_copy():
    some = pairs((100,))
    first = some.log_resistance
    some.weights[:] = 0
    some.stress[:] = 7
    assert (some.log_resistance == first).all()
    assert set(np.unique(some.weights)) <= {-1, 1}
    assert (some.stress == 0).all()


def test_each_imperfection_can_be_switched_off_by_itself():
    none = pairs((50,), imperfections=Imperfections(False, False, False))
    none.apply(300)
    assert np.ptp(none.log_resistance[BL]) == 0.0
    for one in ((True, False, False), (False, True, False), (False, False, True)):
        some = pairs((500,), imperfections=Imperfections(*one))
        some.apply(300)
        assert np.ptp(some.log_ratio[BL]) > 0.01


def test_below_the_onset_nothing_moves():
    some = pairs((100,))
    before = some.log_ratio
    some.apply(1000, device_v=0.2)
    assert (some.log_ratio == before).all()
    assert (some.stress == 0).all()


def test_the_same_seed_gives_the_same_pairs():
    def run(seed: int) -> list[float]:
        some = pairs((60,), seed)
        some.apply(np.arange(-30, 30))
        return some.log_resistance.tolist()

    assert run(4) == run(4)
    assert run(4) != run(5)


def test_a_device_takes_fifteen_bytes_of_state():
    assert pairs((1000,)).state_bytes == 2 * 1000 * 15


@pytest.mark.parametrize(
    ("counts", "says"),
    [(1.5, "whole"), (np.ones(3, int), r"\(3,\)"), (1_000_001, "1000000 are allowed"), (True, "whole")],
)
def test_bad_pulse_counts_are_refused_and_move_nothing(counts, says):
    some = pairs((4,))
    before = some.log_ratio
    with pytest.raises(UserMistake, match=says):
        some.apply(counts)
    assert (some.log_ratio == before).all()


@pytest.mark.parametrize("devices", [np.ones((2, 3), dtype=bool), np.ones((2, 4), dtype=int)])
def test_a_set_of_another_shape_or_type_is_refused(devices):
    with pytest.raises(UserMistake, match="bool of shape"):
        pairs((4,)).set_again(devices)
