from __future__ import annotations

import dataclasses
from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data.device_files import default_device
from data.programming_conditions import default_conditions, load_conditions
from models.devices import ageing, rram
from models.devices.memory import write_saving
from models.errors import Populations, one_t1r, spread_factor, two_t2r
from models.exceptions import UserMistake

MODEL = default_device().model
CONDITIONS = default_conditions()
STRENGTHS = ("strong", "weak", "ultra_weak")
PACKAGED = Path(str(resources.files("data"))) / "conditions" / "hfo2_130nm.toml"


def left_by(name: str) -> Populations:
    return Populations.of(CONDITIONS.programmed(MODEL, name))


def test_the_three_conditions_have_the_published_figures_and_their_sources():
    assert tuple(CONDITIONS.conditions) == STRENGTHS
    weak = CONDITIONS.condition("weak")
    assert (weak.set_compliance_a, weak.reset_v, weak.width_s) == (55e-6, 2.5, 100e-9)
    assert (weak.set_energy_j, weak.reset_energy_j) == (11e-12, 14e-12)
    assert CONDITIONS.quantities["ultra_weak.one_t1r_rate"].trust == "source"
    assert CONDITIONS.quantities["weak.set_compliance_a"].unit == "A"


def test_the_energies_are_those_of_the_compliance_current_for_100_ns():
    for condition in CONDITIONS.conditions.values():
        # the published figures are rounded to 1 pJ
        assert condition.set_energy_j == pytest.approx(2.0 * condition.set_compliance_a * 100e-9, abs=0.5e-12)
        assert condition.reset_energy_j == pytest.approx(2.5 * condition.set_compliance_a * 100e-9, abs=0.5e-12)


def test_weaker_programming_costs_less_errs_more_and_endures_longer():
    in_order = [CONDITIONS.condition(name) for name in STRENGTHS]
    for stronger, weaker in pairwise(in_order):
        assert stronger.set_energy_j > weaker.set_energy_j
        assert stronger.reset_energy_j > weaker.reset_energy_j
        assert stronger.one_t1r_rate < weaker.one_t1r_rate
        assert stronger.cycles < weaker.cycles
    assert CONDITIONS.condition("ultra_weak").cycles > 1e9


@pytest.mark.parametrize("name", STRENGTHS)
def test_the_model_of_wear_gives_the_published_cyclability(name):
    condition = CONDITIONS.condition(name)
    cycles = ageing.cyclability(MODEL.endurance, condition.set_compliance_a, condition.reset_v, condition.width_s)
    if name == "strong":
        # "about 100"
        assert condition.cycles / 3.0 < cycles < condition.cycles * 3.0
    else:
        assert cycles > condition.cycles


def test_the_weakest_condition_takes_a_thirtieth_of_the_energy():
    strong, ultra_weak = CONDITIONS.condition("strong"), CONDITIONS.condition("ultra_weak")
    assert strong.set_energy_j / ultra_weak.set_energy_j == pytest.approx(30.0, rel=0.2)
    # a network trained with errors tolerates 4e-2, and can use the weakest condition
    assert write_saving(CONDITIONS, 1e-6, 4e-2) == pytest.approx(30.0, rel=0.2)
    assert write_saving(CONDITIONS, 1e-6, 1e-2) == pytest.approx(10.8, rel=0.01)


@pytest.mark.parametrize("name", ["weak", "ultra_weak"])
def test_the_populations_have_the_published_1t1r_error_rates(name):
    assert one_t1r(left_by(name)) == pytest.approx(CONDITIONS.condition(name).one_t1r_rate, rel=0.02)


def test_the_strong_populations_stay_below_the_published_limit():
    assert 1e-7 < one_t1r(left_by("strong")) < 1e-6


@pytest.mark.parametrize("name", STRENGTHS)
def test_the_spreads_of_the_file_are_those_of_the_solver(name):
    condition = CONDITIONS.condition(name)
    unspread = left_by(name).spread(1.0 / condition.spread_factor)
    assert condition.spread_factor == pytest.approx(spread_factor(unspread, condition.one_t1r_rate), rel=0.015)


def test_two_devices_per_bit_help_in_every_condition():
    rates = [(one_t1r(left_by(name)), two_t2r(left_by(name))) for name in STRENGTHS]
    assert all(two < 0.5 * one for one, two in rates)
    assert all(stronger < weaker for (_, stronger), (_, weaker) in pairwise(rates))


def test_the_lrs_is_inversely_proportional_to_the_compliance():
    for name in STRENGTHS:
        current_a = CONDITIONS.condition(name).set_compliance_a
        assert left_by(name).lrs.median_ohm * current_a == pytest.approx(0.45, abs=0.01)


def test_the_reset_voltage_decides_how_far_the_hrs_is_above_the_lrs():
    strong, weak, ultra_weak = (left_by(name) for name in STRENGTHS)
    assert strong.gap > weak.gap > ultra_weak.gap
    # 1 V less halves the ratio twice
    assert weak.gap - ultra_weak.gap == pytest.approx(2.0 * np.log(2.0))
    # weak and strong differ by the width of their pulses alone
    assert strong.gap - weak.gap == pytest.approx(MODEL.hrs.width_exponent * np.log(10.0))


def test_a_chip_programmed_at_its_reference_supplies_has_these_populations():
    model = CONDITIONS.programmed(MODEL, "weak")
    rng = np.random.default_rng(2)
    deviates = rng.standard_normal(100_000)
    lrs_ohm = rram.draw_lrs(model.lrs, rram.compliance_a(model.lrs, model.lrs.vddr_ref_v), deviates, rng)
    reset_v = rram.reset_device_v(model.hrs, model.hrs.vddc_ref_v, 5.0)
    hrs_ohm = rram.draw_hrs(model.hrs, reset_v, model.hrs.width_ref_s, deviates, rng)
    for drawn, expected in ((lrs_ohm, left_by("weak").lrs), (hrs_ohm, left_by("weak").hrs)):
        # 1e5 devices: five standard errors are 0.016 sigma for the mean, 0.011 of the spread
        assert np.log(drawn).mean() == pytest.approx(expected.log_median, abs=0.016 * expected.sigma)
        assert np.log(drawn).std() == pytest.approx(expected.sigma, rel=0.012)


def test_the_laws_can_be_replaced():
    scaling = dataclasses.replace(CONDITIONS.scaling, hrs_compliance_exponent=0.0)
    plain = Populations.of(dataclasses.replace(CONDITIONS, scaling=scaling).programmed(MODEL, "ultra_weak"))
    assert plain.hrs.median_ohm == pytest.approx(rram.hrs_median_ohm(MODEL.hrs, 1.5, 100e-9))


def test_an_unknown_condition_and_a_rate_that_none_reaches_are_refused():
    with pytest.raises(UserMistake, match="mild is no programming condition; there are strong, weak, ultra_weak"):
        CONDITIONS.programmed(MODEL, "mild")
    with pytest.raises(UserMistake, match="the lowest error rate is 1e-06"):
        CONDITIONS.bit_energy_j(1e-9)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("value = 55e-6", "value = 55.0", ["weak.set_compliance_a = 55 A", "1e-07 to 0.01 A"]),
        ("value = 55e-6", "value = inf", ["weak.set_compliance_a", "inf"]),
        ("value = 1e8", "value = 0.0", ["weak.cycles = 0 1", "1 to 1e+15 1"]),
        ('unit = "J"', 'unit = "pJ"', ['strong.set_energy_j has the unit "pJ"', 'allowed is "J"']),
        ("reset_energy_j", "erase_energy_j", ["strong.erase_energy_j is unknown", "reset_energy_j"]),
        ("hrs_compliance_exponent", "hrs_exponent", ["scaling.hrs_exponent is unknown", "hrs_compliance_exponent"]),
        ("[scaling]\n", "[scale]\n", ["scaling.hrs_compliance_exponent is missing", "0 to 2 1"]),
        ("[weak]\n", '[weak]\nnote = "x"\n', ["weak.note is unknown"]),
        ("[weak]\n", "[mild]\n[weak]\n", ["mild.set_compliance_a is missing", "1e-07 to 0.01 A"]),
        ('trust = "recalled"', 'trust = "sure"', ["strong.set_compliance_a", "sure"]),
    ],
)
def test_a_bad_file_is_refused_with_its_name_the_key_and_what_is_allowed(tmp_path, old, new, says):
    text = PACKAGED.read_text()
    assert old in text
    path = tmp_path / "conditions.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UserMistake) as caught:
        load_conditions(path)
    assert "\n" not in str(caught.value)
    for part in [str(path), *says]:
        assert part in str(caught.value)


def test_a_file_without_a_condition_and_one_that_is_missing_are_refused(tmp_path):
    path = tmp_path / "conditions.toml"
    path.write_text(PACKAGED.read_text().split("[strong]")[0])
    with pytest.raises(UserMistake, match="there is no programming condition"):
        load_conditions(path)
    with pytest.raises(UserMistake, match=r"cannot read the file of programming conditions .*nowhere\.toml"):
        load_conditions(tmp_path / "nowhere.toml")
