from __future__ import annotations

import dataclasses
from statistics import NormalDist

import numpy as np
import pytest

from data.device_files import default_device
from models import sense
from models.exceptions import UserMistake

SENSE = default_device().model.sense
PLUS, MINUS, ZERO, BOTH_LOW = (80e3, 7e3), (7e3, 80e3), (350e3, 340e3), (7e3, 7.5e3)
LONG, SHORT = 5e-6, 50e-9


def quiet(columns: int) -> sense.SenseAmplifiers:
    return sense.SenseAmplifiers(SENSE, np.zeros(columns))


def cells(*pairs: tuple[float, float], vdd_v: float = 1.2, window_s: float = LONG) -> sense.Margins:
    return sense.margins(SENSE, np.array([pairs]), vdd_v, window_s)


def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def test_an_lrs_decides_in_four_nanoseconds_and_100_kohm_takes_50():
    assert sense.crossing_time_s(SENSE, np.array(7e3), 1.2) == pytest.approx(4e-9, rel=0.01)
    assert sense.crossing_time_s(SENSE, np.array(99e3), 1.2) == pytest.approx(50e-9, rel=0.01)


def test_a_branch_carries_no_more_than_its_transistor_passes():
    shorted = sense.crossing_time_s(SENSE, np.array([1.0, 1e3]), 1.2)
    assert shorted[0] == shorted[1] == pytest.approx(1e-12 * 0.6 / 300e-6)


def test_weights_are_read_with_the_encoding_of_the_array():
    read = quiet(2).read(cells(PLUS, MINUS), 1.2, 50, rng())
    assert read.dtype == np.int8
    assert read.shape == (50, 1, 2)
    assert (read[:, 0, 0] == 1).all()
    assert (read[:, 0, 1] == -1).all()


@pytest.mark.parametrize(("weight", "pair"), [(1, PLUS), (-1, MINUS)])
@pytest.mark.parametrize("x", [1, -1])
def test_xnor_truth_table(weight, pair, x):
    inputs = np.full((20, 1), x, dtype=np.int8)
    assert (quiet(1).xnor(cells(pair), inputs, 1.2, rng()) == weight * x).all()


def test_hrs_pairs_stay_undecided_in_a_short_window_and_decide_in_a_long_one():
    short = quiet(3).read(cells(PLUS, MINUS, ZERO, window_s=SHORT), 1.2, 50, rng())
    assert (short == [1, -1, 0]).all()
    inputs = np.array([[1, 1, 1], [-1, -1, -1]], dtype=np.int8)
    assert (quiet(3).xnor(cells(PLUS, PLUS, ZERO, window_s=SHORT), inputs, 1.2, rng()) == [[2], [-2]]).all()
    assert (quiet(1).read(cells(ZERO), 1.2, 50, rng()) != 0).all()


def test_a_lower_supply_resolves_less_in_the_same_window():
    pair = (90e3, 85e3)
    assert (quiet(1).read(cells(pair, window_s=SHORT), 1.2, 20, rng()) != 0).all()
    low = cells(pair, vdd_v=0.9, window_s=SHORT)
    assert (quiet(1).read(low, 0.9, 20, rng()) == 0).all()


@pytest.mark.parametrize("vdd_v", [0.0, 0.3, 0.6])
def test_an_amplifier_without_supply_decides_nothing(vdd_v):
    dead = cells(PLUS, MINUS, vdd_v=vdd_v)
    assert (quiet(2).read(dead, vdd_v, 3, rng()) == 0).all()
    assert (quiet(2).xnor(dead, np.ones((3, 2), dtype=np.int8), vdd_v, rng()) == 0).all()


def test_the_offset_belongs_to_the_latch_and_not_to_the_weight():
    amplifiers = sense.SenseAmplifiers(SENSE, np.array([5.0, -5.0]))
    equal = cells((7e3, 7e3), (7e3, 7e3))
    assert (amplifiers.read(equal, 1.2, 20, rng()) == [1, -1]).all()
    one = sense.SenseAmplifiers(SENSE, np.array([5.0]))
    inputs = np.array([[1], [-1]], dtype=np.int8)
    # the output is high for either input: as a weight, +1 with x = +1 and -1 with x = -1
    assert (one.xnor(cells((7e3, 7e3)), inputs, 1.2, rng()) == 1).all()


def test_the_offset_grows_towards_the_threshold():
    amplifiers = sense.SenseAmplifiers(dataclasses.replace(SENSE, noise_sigma=0.0), np.array([-1.0]))
    pair = (75e3, 70e3)
    assert (amplifiers.read(cells(pair), 1.2, 20, rng()) == 1).all()
    assert (amplifiers.read(cells(pair, vdd_v=0.75), 0.75, 20, rng()) == -1).all()


def test_noise_grows_towards_the_threshold():
    r = 70e3
    pair = ((r + SENSE.access_ohm) * np.exp(SENSE.noise_sigma) - SENSE.access_ohm, r)
    # a quarter of the overdrive at 0.75 V: the same margin is a quarter as many standard deviations
    for vdd_v, sigmas in [(1.2, 1.0), (0.75, 0.25)]:
        read = quiet(1).read(cells(pair, vdd_v=vdd_v), vdd_v, 20_000, rng())
        assert (read == 1).mean() == pytest.approx(NormalDist().cdf(sigmas), abs=0.018)


@pytest.mark.parametrize("sigmas", [0.0, 0.5, -1.5])
def test_noise_flips_marginal_cells_as_often_as_its_distribution_says(sigmas):
    r = 7e3
    other = (r + SENSE.access_ohm) * np.exp(sigmas * SENSE.noise_sigma) - SENSE.access_ohm
    read = quiet(1).read(cells((other, r)), 1.2, 20_000, rng())
    # five standard errors of 20 000 senses are below 0.018
    assert (read == 1).mean() == pytest.approx(NormalDist().cdf(sigmas), abs=0.018)


def test_noise_moves_cells_across_the_edge_of_the_window():
    # the first node falls just at the end of the window: noise decides whether that is in time
    r = 1.2 * SHORT / 0.6e-12 - SENSE.access_ohm
    read = quiet(1).read(cells((1e6, r), window_s=SHORT), 1.2, 20_000, rng())
    assert set(np.unique(read)) == {0, 1}
    assert (read == 1).mean() == pytest.approx(0.5, abs=0.018)


def test_xnor_sums_are_those_of_cells_sensed_one_by_one():
    generator = rng()
    noisy = dataclasses.replace(SENSE, noise_sigma=0.3)
    resistance = generator.lognormal(np.log(60e3), 0.5, (4, 6, 2))
    deviates = generator.standard_normal(6)
    margins = sense.margins(noisy, resistance, 1.2, SHORT)
    inputs = generator.choice(np.array([-1, 1], dtype=np.int8), (1, 6))
    sums = sense.SenseAmplifiers(noisy, deviates).xnor(margins, np.repeat(inputs, 20_000, axis=0), 1.2, generator)
    # the same by swapping the branches by hand and reading every cell
    swapped = np.where(inputs[0][None, :, None] == 1, resistance, resistance[..., ::-1])
    by_hand = sense.margins(noisy, swapped, 1.2, SHORT)
    reads = sense.SenseAmplifiers(noisy, deviates).read(by_hand, 1.2, 20_000, generator)
    singles = reads.astype(np.int16).sum(axis=2)
    np.testing.assert_allclose(sums.mean(axis=0), singles.mean(axis=0), atol=0.09)
    np.testing.assert_allclose(sums.var(axis=0), singles.var(axis=0), rtol=0.08)
    assert singles.var(axis=0).min() > 0.5


def test_a_large_batch_is_the_same_as_small_ones(monkeypatch):
    resistance = rng().lognormal(np.log(60e3), 0.02, (8, 8, 2))
    margins = sense.margins(SENSE, resistance, 1.2, LONG)
    inputs = rng().choice(np.array([-1, 1], dtype=np.int8), (101, 8))
    whole = quiet(8).xnor(margins, inputs, 1.2, rng())
    monkeypatch.setattr(sense, "_BLOCK", 256)
    cut = quiet(8).xnor(margins, inputs, 1.2, rng())
    assert (whole == cut).all()
    certain = quiet(8).xnor(margins, inputs, 1.2, np.random.default_rng(4))
    assert (whole != certain).any()


def test_certain_cells_draw_no_noise():
    generator, untouched = rng(), rng()
    quiet(2).read(cells(PLUS, MINUS), 1.2, 1000, generator)
    assert generator.random() == untouched.random()


@pytest.mark.parametrize("window_s", [0.0, -1e-9, float("nan")])
def test_a_window_that_is_not_positive_is_refused(window_s):
    with pytest.raises(UserMistake, match="sense window"):
        cells(PLUS, window_s=window_s)


def test_v15_two_senses_give_the_two_bits_of_a_ternary_weight():
    three = cells(PLUS, MINUS, ZERO, window_s=SHORT)
    for seed in range(20):
        bits = quiet(3).read_two_bits(three, 1.2, np.random.default_rng(seed))
        assert bits.tolist() == [[0b10, 0b01, 0b00]]


def test_an_offset_that_outweighs_the_weight_answers_high_to_both_inputs():
    strong = sense.SenseAmplifiers(SENSE, np.array([30.0, -30.0]))
    assert strong.read_two_bits(cells(BOTH_LOW, BOTH_LOW), 1.2, rng()).tolist() == [[0b11, 0b00]]


def test_at_reference_temperature_and_typical_corner_the_amplifier_is_the_one_of_the_file():
    here = sense.at_conditions(SENSE, SENSE.reference_c)
    for key, value in dataclasses.asdict(SENSE).items():
        assert getattr(here, key) == pytest.approx(value)


def test_heat_lowers_the_threshold_and_slows_the_transistors():
    hot = sense.at_conditions(SENSE, 85.0)
    assert hot.threshold_v == pytest.approx(SENSE.threshold_v - 0.06)
    assert hot.swing_v == pytest.approx(SENSE.swing_v - 0.06)
    slower = (358.15 / 298.15) ** -1.5
    assert hot.access_ohm == pytest.approx(SENSE.access_ohm / slower)
    # the overdrive grew by a tenth, so that the offset, a voltage, weighs a tenth less
    assert hot.saturation_a == pytest.approx(SENSE.saturation_a * slower * 1.1)
    assert hot.offset_sigma == pytest.approx(SENSE.offset_sigma / 1.1)
    assert hot.noise_sigma == pytest.approx(SENSE.noise_sigma * np.sqrt(358.15 / 298.15) / 1.1)


def test_slow_transistors_decide_later_and_are_less_even():
    slow, fast = (sense.at_conditions(SENSE, 25.0, corner) for corner in (sense.Corner.SS, sense.Corner.FF))
    r = np.array(60e3)
    assert sense.crossing_time_s(slow, r, 1.0) > sense.crossing_time_s(SENSE, r, 1.0)
    assert sense.crossing_time_s(SENSE, r, 1.0) > sense.crossing_time_s(fast, r, 1.0)
    assert slow.offset_sigma > SENSE.offset_sigma > fast.offset_sigma
    assert sense.overdrive_ratio(slow, 0.62) == 0.0 < sense.overdrive_ratio(fast, 0.62)


def test_a_temperature_at_which_the_amplifier_does_not_work_is_refused():
    cold = dataclasses.replace(SENSE, threshold_per_k=-2.5e-3)
    with pytest.raises(UserMistake, match="does not work at"):
        sense.at_conditions(cold, -250.0)


def test_the_critical_resistance_is_where_the_window_ends():
    critical = sense.critical_resistance_ohm(SENSE, 1.2, SHORT)
    assert critical == pytest.approx(99e3)
    assert sense.crossing_time_s(SENSE, np.array(critical), 1.2) == pytest.approx(SHORT)
    assert sense.critical_resistance_ohm(SENSE, 1.2, 1e-9) == 0.0
    assert sense.critical_resistance_ohm(SENSE, 0.6, SHORT) == 0.0


def test_stacked_arrays_have_amplifiers_of_their_own():
    stacked = sense.SenseAmplifiers(SENSE, np.array([[5.0, -5.0], [-5.0, 5.0]]), rows=2)
    equal = sense.margins(SENSE, np.full((4, 2, 2), 7e3), 1.2, LONG)
    wanted = [[1, -1], [1, -1], [-1, 1], [-1, 1]]
    assert (stacked.read(equal, 1.2, 20, rng()) == wanted).all()
    part = sense.Margins(*(item[:3, :1] for item in equal))
    inputs = np.ones((5, 1), dtype=np.int8)
    assert (stacked.xnor(part, inputs, 1.2, rng()) == [1, 1, -1]).all()


def test_xnor_sums_of_rows_with_and_without_unsteady_cells():
    r = 70e3
    unsteady = (r, r * 1.001)
    rows = sense.margins(
        SENSE, np.array([[PLUS, PLUS], [PLUS, unsteady], [MINUS, MINUS], [unsteady, unsteady]]), 1.2, LONG
    )
    inputs = np.ones((4000, 2), dtype=np.int8)
    sums = quiet(2).xnor(rows, inputs, 1.2, rng())
    assert (sums[:, 0] == 2).all()
    assert (sums[:, 2] == -2).all()
    assert set(np.unique(sums[:, 1])) == {0, 2}
    assert set(np.unique(sums[:, 3])) == {-2, 0, 2}
