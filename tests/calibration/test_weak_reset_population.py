"""Weak-RESET populations are recovered from staircases, through arrays and through the wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.config import parse_bench_file
from bench.procedures import find_procedure
from bench.procedures.weak_reset import WeakResetParameters
from bench.runner import run
from bench.session import connect
from calibration.curve_models import LOGARITHM
from calibration.result import Fit, fitted_device
from calibration.weak_reset_curves import Staircase, branches_of, thinned
from calibration.weak_reset_fit import fit_weak_reset
from calibration.weak_reset_runs import fit_weak_reset_runs
from calibration.weak_reset_trains import repeated_cycles, suited_curves, trains_of, verdict
from data.device_files import default_device
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.arrays import NumpyArrays
from models.device_model import WeakReset
from models.devices.weak_reset import WeakResetDevices
from models.exceptions import UserMistake

MODEL = default_device().model
# off the base file by up to 30 %, so that nothing is recovered by staying there
TRUE = replace(
    MODEL.weak_reset,
    slope1_scale=8.5e-4,
    knee_scale=430.0,
    offset_sd=0.07,
    slope2_scale=3.8e-5,
    rtn_p_low_high=1.1e-3,
    rtn_p_high_low=1.7e-3,
    pink_alpha=0.031,
)
PULSES = np.arange(0, 2401, 60)
LOG_NAMES = (
    "slope1_scale",
    "knee_scale",
    "knee_shape",
    "offset_sd",
    "slope2_scale",
    "rtn_p_low_high",
    "rtn_p_high_low",
    "rtn_amplitude_high",
    "pink_alpha",
)


def staircases(
    devices: int, seed: int, counts: Sequence[int] | NDArray[np.int64], cycles: int = 1, section: WeakReset = TRUE
) -> list[Staircase]:
    """Readings of a simulated population, with the meter's noise as the base file has it."""
    rng, pulses, noise = np.random.default_rng(seed), np.asarray(counts), MODEL.read_noise
    population = WeakResetDevices(section, (devices,), NumpyArrays(rng))
    made = []
    for _ in range(cycles):
        population.set_again(np.ones(devices, dtype=bool))
        r0 = 7e3 * np.exp(0.2 * rng.standard_normal(devices))
        ohms = [r0]
        for count in np.diff(pulses):
            population.apply(int(count))
            ohms.append(r0 * np.exp(population.log_ratio))
        true_ohm = np.stack(ohms, axis=1)
        sigma = np.minimum(noise.sigma_ref * (true_ohm / noise.resistance_ref_ohm) ** noise.exponent, noise.sigma_high)
        made.append(Staircase(pulses, 1.0, 1e-6, true_ohm * np.exp(sigma * rng.standard_normal(true_ohm.shape))))
    return made


def staircase(devices: int, seed: int, counts: Sequence[int] | NDArray[np.int64] = PULSES) -> Staircase:
    """The same, one staircase of it."""
    return staircases(devices, seed, counts)[0]


def spoilt(change: object = None, devices: int = 16) -> Staircase:
    """A staircase of which ``change(resistances)`` makes another."""
    whole = staircase(devices, 2)
    return replace(whole, resistance_ohm=change(whole.resistance_ohm)) if callable(change) else whole


@pytest.fixture(scope="module")
def fitted() -> Fit:
    """256 devices, of which three are broken in ways of their own."""
    whole = staircase(256, 5)
    ohms = whole.resistance_ohm.copy()
    ohms[10] = np.inf
    ohms[20] = 90e3
    ohms[30] = 7000.0 * (1 + 1e-4 * np.sin(np.arange(len(PULSES))))
    return fit_weak_reset([replace(whole, resistance_ohm=ohms)], MODEL)


def test_populations_are_recovered(fitted: Fit) -> None:
    assert fitted.converged
    for name in ("slope1_scale", "knee_scale", "offset_sd", "slope2_scale", "rtn_p_low_high", "pink_alpha"):
        found, true = fitted.parameters[f"weak_reset.{name}"], getattr(TRUE, name)
        # one draw: three standard errors around the estimate, where the interval has two; in the logarithm
        half = 0.5 * np.log(found.high / found.low)
        assert abs(np.log(found.value / true)) < 1.5 * half, name
        # and the interval is worth having
        assert half < 0.4, name


def test_noise_of_the_estimate_is_not_taken_for_variability(fitted: Fit) -> None:
    # read off the devices one by one, offsets spread by a third more than they do
    found = fitted.parameters["weak_reset.offset_sd"]
    assert found.value == pytest.approx(TRUE.offset_sd, rel=0.25)


def test_broken_devices_are_named_and_left_out(fitted: Fit) -> None:
    reasons = {item.col: item.reason for item in fitted.outliers}
    assert "open" in reasons[10]
    assert "LRS" in reasons[20]
    assert "stuck" in reasons[30]
    # the others reached the ceiling, and nothing else
    assert all("ceiling" in reason for col, reason in reasons.items() if col not in (10, 20, 30))


def test_the_models_are_told_apart_and_the_fit_predicts(fitted: Fit) -> None:
    assert [item.winner for item in fitted.comparisons] == ["two lines", "two lines", "RTN"]
    assert all(check.good for check in fitted.checks), [check.text for check in fitted.checks if not check.good]
    assert all(np.isfinite(overlay.fitted.median).all() for overlay in fitted.overlays)


def test_rates_of_rtn_that_hardly_switches_are_not_fitted_and_it_says_so() -> None:
    # 32 devices for 120 pulses: 4 switches, of which half drown in the noise; with twice as many an estimate of the
    # rates, uncertain by a factor of e^2, may as well say that there are enough
    fit = fit_weak_reset([staircase(32, 4, np.arange(0, 121, 6))], MODEL)
    assert fit.converged, fit.problems
    assert not {"weak_reset.rtn_p_low_high", "weak_reset.rtn_p_high_low"} & set(fit.parameters)
    assert any("switches of RTN" in line and "base file's are kept" in line for line in fit.problems)


def trains(devices: int, cycles: int, drift: float = 0.0) -> list[Staircase]:
    """RESET trains that relax as a logarithm, as analogue devices of other kinds do; cycles may drift."""
    rng = np.random.default_rng(8)
    pulses = np.arange(201)
    slope = 0.12 * np.exp(0.2 * rng.standard_normal((devices, 1)))
    made = []
    for cycle in range(cycles):
        log_r = np.log(2e4) + (1.0 + drift * cycle) * slope * np.log1p(pulses / 8.0)
        log_r += 0.04 * rng.standard_normal((devices, 1)) + 0.02 * rng.standard_normal((devices, len(pulses)))
        made.append(Staircase(pulses, 1.0, 1e-6, np.exp(log_r)))
    return made


def test_long_trains_are_thinned() -> None:
    whole = trains(4, 10)
    found = thinned(whole)
    np.testing.assert_array_equal(found[3].resistance_ohm, whole[3].resistance_ohm[:, found[3].pulses])
    assert [len(item.pulses) for item in found] == [25] * 10
    for item in found:
        assert list(item.pulses[:5]) == [0, 1, 2, 3, 4]
        assert item.pulses[-1] == 200
    assert thinned([staircase(8, 1)])[0].pulses.tolist() == PULSES.tolist()


def test_another_curve_that_suits_better_is_called_by_its_name() -> None:
    whole = trains(12, 6)
    branches = branches_of(thinned(whole), MODEL.weak_reset)
    everyone = np.ones(12, dtype=bool)
    taken = trains_of(whole, branches, everyone)
    assert taken[0].log_r.shape == (12, 6, 201)
    mean, single = suited_curves(taken[0])
    assert min(mean.bic, key=mean.bic.__getitem__) == min(single.bic, key=single.bic.__getitem__) == LOGARITHM
    line = verdict("mean train", mean)
    assert "a logarithm suits these devices better than the weak-RESET curve" in line
    ours = trains_of([staircase(64, 6)], branches_of([staircase(64, 6)], MODEL.weak_reset), np.ones(64, dtype=bool))
    assert "the weak-RESET curve (two lines with a knee) suits these devices better" in verdict(
        "", suited_curves(ours[0])[0]
    )


def test_cycles_are_predicted_where_devices_do_not_drift() -> None:
    whole = trains(12, 8)
    branches, everyone = branches_of(thinned(whole), MODEL.weak_reset), np.ones(12, dtype=bool)
    checks, lines = repeated_cycles(branches, trains_of(whole, branches, everyone))
    assert len(checks) == len(lines) == 2
    assert all(check.good for check in checks), lines
    drifting = trains(12, 8, drift=0.15)
    checks, lines = repeated_cycles(branches, trains_of(drifting, branches, everyone))
    assert not checks[-1].good
    assert "later half" in checks[-1].text


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: [spoilt(lambda r: np.where(r > 2e4, np.nan, r))], "NaN"),
        (lambda: [spoilt(lambda r: np.full_like(r, 5e3))], "saturated"),
        (lambda: [spoilt(devices=5)], "8 are needed"),
        (lambda: [spoilt(lambda r: np.where(np.arange(r.shape[1]) == 0, np.inf, r))], "no current flowed"),
        (lambda: [replace(spoilt(), in_compliance=np.ones(16, dtype=bool))], "most others: a reading in compliance"),
        (lambda: [replace(spoilt(), pulses=PULSES + 1)], "rise from 0"),
        (lambda: [Staircase(PULSES[:9], 1.0, 1e-6, spoilt().resistance_ohm[:, :9])], "too few"),
        (lambda: [replace(spoilt(), device_v=0.4)], "onset"),
        (lambda: [replace(spoilt(), device_v=40.0)], "look at the units of voltage and width"),
        (lambda: [spoilt(), spoilt(devices=12)], "same devices"),
    ],
)
def test_data_that_cannot_be_fitted_are_refused(make, part: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserMistake, match=part):
        fit_weak_reset(make(), MODEL)


def test_a_device_given_twice_is_refused() -> None:
    addresses = np.zeros((16, 3), dtype=np.int64)
    addresses[:, 1] = [*range(15), 3]
    with pytest.raises(UserMistake, match="column 3 is given 2 times"):
        fit_weak_reset([spoilt()], MODEL, addresses)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_published_population_of_2048_devices_is_recovered_within_5_percent() -> None:
    # six staircases of the procedure's log-spaced reads; one alone leaves standard errors of up to 6 % (docs)
    reads = WeakResetParameters(pulses=4000, log_points=30, cycles=6).reads
    published = MODEL.weak_reset
    fit = fit_weak_reset(staircases(2048, 1, reads, 6, published), MODEL)
    assert fit.converged, fit.problems
    wrong = {}
    for name in LOG_NAMES:
        found, true = fit.parameters[f"weak_reset.{name}"], getattr(published, name)
        if abs(found.value / true - 1.0) > 0.05:
            wrong[name] = f"{found} of {true:.4g}"
    assert not wrong
    # the mean of 2048 offsets is itself uncertain by a fifth of it: it is held to the spread of the offsets
    found = fit.parameters["weak_reset.offset_mean"]
    assert abs(found.value - published.offset_mean) < 0.05 * published.offset_sd
    assert found.low < published.offset_mean < found.high


def test_a_run_through_the_wire_is_fitted(tmp_path: Path) -> None:
    base = default_device()
    with SimulatedBench(3) as world:
        text = world.bench_file()
        with connect(parse_bench_file(text, "b"), text) as bench:
            procedure = find_procedure("weak-reset")
            cells = np.zeros((32, 32), dtype=bool)
            cells[:4, :8] = True
            parameters = procedure.parse({"pulses": 2400, "log_points": 24})
            outcome = run(procedure, parameters, bench, tmp_path, cells=cells)
    measured = open_run(outcome.run_file)
    fit = fit_weak_reset_runs([measured], base)
    assert fit.devices > 55
    assert fit.converged, fit.problems
    slope = fit.parameters["weak_reset.slope1_scale"]
    half = np.log(slope.high / slope.value)
    # 64 devices: three standard errors
    assert abs(np.log(slope.value / base.model.weak_reset.slope1_scale)) < 1.5 * half
    written = fitted_device(fit, [measured], base)
    assert written.quantities["weak_reset.slope1_scale"].trust == "fitted"
    assert written.model.weak_reset.slope1_scale == slope.value
