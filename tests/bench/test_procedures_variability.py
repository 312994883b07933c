"""Variability: the same devices programmed and read again and again, and the populations that come of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.procedures.variability import VARIABILITY
from bench.runner import run
from bench.session import Bench
from calibration.resistance_runs import fit_resistance_runs
from calibration.result import fitted_device
from data.device_files import default_device
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.cells import DeviceState
from models.exceptions import UserMistake


@pytest.fixture
def cells(bench: Bench) -> np.ndarray:
    chosen = np.zeros(bench.config.geometry, dtype=bool)
    chosen[:8, :8] = True
    return chosen


def test_a_fresh_chip_gives_its_hidden_populations(
    bench: Bench, world: SimulatedBench, tmp_path: Path, cells: np.ndarray
) -> None:
    before = world.chip.resistance_ohm
    outcome = run(VARIABILITY, VARIABILITY.parse({"cycles": 8}), bench, tmp_path, cells=cells)
    assert outcome.result["devices"] == 128
    np.testing.assert_array_equal(world.chip.resistance_ohm[~cells], before[~cells])
    stored = open_run(outcome.run_file)
    rows = stored.read("resistances", ["state", "pattern"])
    for state in (0, 1):
        counts = np.bincount(rows["pattern"][(rows["state"] == state) & (rows["pattern"] >= 0)])
        assert counts.tolist() == [2 * 128] * 8
    fit = fit_resistance_runs([stored], default_device())
    hidden = dict(world.chip.model.values())
    for key in ("lrs.median_ohm", "lrs.sigma_d2d", "lrs.sigma_c2c", "hrs.median_ohm", "hrs.sigma_d2d", "hrs.sigma_c2c"):
        found = fit.parameters[key]
        half = (found.high - found.low) / 2
        # one chip is one draw: three standard errors, where the interval has two
        assert found.low - 0.5 * half <= hidden[key] <= found.high + 0.5 * half
    virgin = fit.parameters["virgin.median_ohm"]
    assert virgin.low * 0.9 < hidden["virgin.median_ohm"] < virgin.high * 1.1
    assert fit.parameters["lrs.reading_sigma"].value == pytest.approx(hidden["read_noise.sigma_ref"], rel=0.2)
    assert all(check.good for check in fit.checks)
    broken = {tuple(place) for place in np.argwhere((world.chip.state >= DeviceState.STUCK_LRS) & cells[..., None])}
    assert broken <= {(item.row, item.col, item.device) for item in fit.outliers}
    device = fitted_device(fit, [stored], default_device())
    assert device.quantities["hrs.sigma_c2c"].trust == "fitted"


def test_one_cycle_gives_the_spreads_together_and_says_so(bench: Bench, tmp_path: Path, cells: np.ndarray) -> None:
    outcome = run(VARIABILITY, VARIABILITY.parse({"cycles": 1, "readings": 1}), bench, tmp_path, cells=cells)
    assert outcome.result["lrs_cycle_sd"] is None
    fit = fit_resistance_runs([open_run(outcome.run_file)], default_device())
    assert "lrs.sigma_d2d" not in fit.parameters
    assert fit.parameters["lrs.sigma"].value > 0
    assert any("cannot be split" in line for line in fit.problems)


def test_too_few_devices_are_refused_in_one_line(bench: Bench, tmp_path: Path) -> None:
    few = np.zeros(bench.config.geometry, dtype=bool)
    few[0, :2] = True
    outcome = run(VARIABILITY, VARIABILITY.parse({"cycles": 2}), bench, tmp_path, cells=few)
    with pytest.raises(UserMistake, match="at least 8") as caught:
        fit_resistance_runs([open_run(outcome.run_file)], default_device())
    assert "\n" not in str(caught.value)
