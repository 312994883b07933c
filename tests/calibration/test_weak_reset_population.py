"""Weak-RESET populations are recovered from staircases, through arrays and through the wire."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.config import parse_bench_file
from bench.procedures import find_procedure
from bench.runner import run
from bench.session import connect
from calibration.result import Fit, fitted_device
from calibration.weak_reset_curves import Staircase
from calibration.weak_reset_fit import fit_weak_reset
from calibration.weak_reset_runs import fit_weak_reset_runs
from data.device_files import default_device
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.arrays import NumpyArrays
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


def staircase(devices: int, seed: int) -> Staircase:
    """Readings of a simulated population, with the meter's noise as the base file has it."""
    rng = np.random.default_rng(seed)
    population = WeakResetDevices(TRUE, (devices,), NumpyArrays(rng))
    r0 = 7e3 * np.exp(0.2 * rng.standard_normal(devices))
    ohms = [r0]
    for count in np.diff(PULSES):
        population.apply(int(count))
        ohms.append(r0 * np.exp(population.log_ratio))
    true_ohm = np.stack(ohms, axis=1)
    noise = MODEL.read_noise
    sigma = np.minimum(noise.sigma_ref * (true_ohm / noise.resistance_ref_ohm) ** noise.exponent, noise.sigma_high)
    return Staircase(PULSES, 1.0, 1e-6, true_ohm * np.exp(sigma * rng.standard_normal(true_ohm.shape)))


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


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: [spoilt(lambda r: np.where(r > 2e4, np.nan, r))], "NaN"),
        (lambda: [spoilt(lambda r: np.full_like(r, 5e3))], "saturated"),
        (lambda: [spoilt(devices=5)], "8 are needed"),
        (lambda: [replace(spoilt(), pulses=PULSES + 1)], "rise from 0"),
        (lambda: [Staircase(PULSES[:9], 1.0, 1e-6, spoilt().resistance_ohm[:, :9])], "too few"),
        (lambda: [replace(spoilt(), device_v=0.4)], "onset"),
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
