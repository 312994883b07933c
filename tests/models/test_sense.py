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
