"""Bit-error and shmoo runs through the wire become what the chip hides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.config import parse_bench_file
from bench.procedures.bit_error import BIT_ERROR
from bench.procedures.shmoo import SHMOO
from bench.runner import run
from bench.session import Bench, connect
from calibration.bit_error_runs import fit_bit_error_runs
from calibration.result import fitted_device
from calibration.sense_runs import fit_sense_runs
from data.device_files import Quantity, default_device
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.exceptions import UserMistake

HIDDEN = default_device().updated(
    {
        "hrs.sigma_c2c": Quantity(0.9, "1", "test", "proposed"),
        "sense.offset_sigma": Quantity(0.08, "1", "test", "proposed"),
        "sense.node_capacitance_f": Quantity(1.2e-12, "F", "test", "proposed"),
    }
)


@pytest.fixture
def wide() -> Iterator[Bench]:
    with SimulatedBench(5, HIDDEN) as world:
        text = world.bench_file()
        with connect(parse_bench_file(text, "b"), text) as session:
            yield session


def test_bit_errors_of_each_condition_and_the_spread_behind_them(wide: Bench, tmp_path: Path) -> None:
    cells = np.zeros(wide.config.geometry, dtype=bool)
    cells[:12] = True
    outcome = run(
        BIT_ERROR, BIT_ERROR.parse({"reset_vddc_v": "3.9,4.5,3.3", "patterns": 4}), wide, tmp_path, cells=cells
    )
    stored = open_run(outcome.run_file)
    fit = fit_bit_error_runs([stored], default_device())
    assert fit.converged
    rates = [fit.parameters[f"condition{index}.type1"] for index in (0, 1)]
    counted = [one["type1"] for one in outcome.result["conditions"]][:2]
    for rate, one in zip(rates, counted, strict=True):
        assert rate.low == pytest.approx(one["low"], rel=1e-3)
        assert rate.high == pytest.approx(one["high"], rel=1e-3)
    # nothing is ever undecided in a window this long: a bound, not a zero
    assert fit.parameters["condition0.type2"].low == 0.0
    assert 0.0 < fit.parameters["condition0.type2"].high < 0.05
    true = np.hypot(0.9, 0.35) / np.hypot(0.49, 0.35)
    spread = fit.parameters["error_model.spread"]
    assert spread.low < true < spread.high
    assert all(check.good for check in fit.checks)
    # at 3.3 V no device is reset: what is read there tells nothing of the populations
    assert fit.parameters["condition2.type1"].low > 0.05
    assert any(line.startswith("condition 2: devices of the base file do not switch") for line in fit.report)
    answers = {one.question: one.winner for one in fit.comparisons}
    assert answers["do the conditions matter?"].startswith("the populations")
    assert answers["are the populations of the base file enough?"] == "other ones"
    assert [each.title for each in fit.overlays] == [
        f"Rate of type1, of {fit.devices} cells",
        "How the errors are shared among the cells",
    ]
    assert fit.overlays[0].measured.x.tolist() == [3.9, 4.5]
    # a comparator of one device errs more often than one of two
    assert fit.parameters["one_t1r.modelled"].value > fit.parameters["two_t2r.modelled"].value
    device = fitted_device(fit, [stored], default_device())
    assert device.quantities["read_error.random_rate"].trust == "fitted"


@pytest.mark.slow
def test_a_shmoo_tells_the_amplifiers_from_the_devices(wide: Bench, tmp_path: Path) -> None:
    cells = np.zeros(wide.config.geometry, dtype=bool)
    cells[:10] = True
    settings = {"vdd_v": "0.9,1.1,1.2", "window_high_s": 1e-6}
    outcome = run(SHMOO, SHMOO.parse(settings), wide, tmp_path, cells=cells)
    fit = fit_sense_runs([open_run(outcome.run_file)], default_device())
    hidden = dict(HIDDEN.model.values())
    for key in ("sense.offset_sigma", "sense.noise_sigma", "sense.node_capacitance_f"):
        found = fit.parameters[key]
        half = (found.high - found.low) / 2
        assert found.low - 0.5 * half <= hidden[key] <= found.high + 0.5 * half
    assert sum(line.startswith("column ") for line in fit.report) == 32
    assert any(line.startswith("as counted, worst value best at VDD") for line in fit.report)
    assert all(check.good for check in fit.checks)
    assert {"ternary.type1", "ternary.type2", "ternary.type3"} <= set(fit.parameters)
    assert fit.comparisons[0].winner == "an offset for each column"
    assert len(fit.overlays) == 4
    assert len(fit.checks) >= 8


@pytest.mark.slow
def test_without_resistances_offset_and_speed_are_kept(wide: Bench, tmp_path: Path) -> None:
    cells = np.zeros(wide.config.geometry, dtype=bool)
    cells[:6] = True
    settings = {"vdd_v": "1.2", "window_high_s": 1e-6, "windows": 41, "resistances": False}
    wide.chip.form(np.repeat(cells[..., None], 2, axis=2), 3)
    outcome = run(SHMOO, SHMOO.parse({**settings, "form_virgin": False}), wide, tmp_path, cells=cells)
    fit = fit_sense_runs([open_run(outcome.run_file)], default_device())
    assert "sense.offset_sigma" not in fit.parameters
    assert any("no resistances" in line for line in fit.problems)
    noise = fit.parameters["sense.noise_sigma"]
    assert noise.low < 0.02
    few = np.zeros_like(cells)
    few[0, :2] = True
    outcome = run(SHMOO, SHMOO.parse({"vdd_v": "1.2", "windows": 5}), wide, tmp_path, cells=few)
    with pytest.raises(UserMistake, match="2 cells") as caught:
        fit_sense_runs([open_run(outcome.run_file)], default_device())
    assert "\n" not in str(caught.value)
