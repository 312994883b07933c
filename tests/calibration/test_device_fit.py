"""A characterisation through the wire becomes a device file that says what the chip hides."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.config import parse_bench_file
from bench.procedures import find_procedure
from bench.runner import run
from bench.session import connect
from calibration.device_fit import fit_device
from data.device_files import Quantity, default_device, load_device, save_device
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from drivers.simulated.chip import SimulatedChip
from models.cells import DeviceState, Geometry
from models.exceptions import UserMistake

HIDDEN = default_device().updated(
    {
        "lrs.median_ohm": Quantity(5200.0, "ohm", "test", "proposed"),
        "hrs.median_ohm": Quantity(120e3, "ohm", "test", "proposed"),
        "defects.open": Quantity(4e-3, "1", "test", "proposed"),
    }
)


@pytest.fixture(scope="module")
def characterised(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A run file, and which cells of the chip have a broken device."""
    folder = tmp_path_factory.mktemp("runs")
    with SimulatedBench(21, HIDDEN) as world:
        text = world.bench_file()
        with connect(parse_bench_file(text, "b"), text) as bench:
            forming, characterise = find_procedure("forming"), find_procedure("characterise")
            run(forming, forming.parse({"check": "weights"}), bench, folder)
            outcome = run(characterise, characterise.parse({"resistance_cells": 128}), bench, folder)
        return outcome.run_file, (world.chip.state >= DeviceState.STUCK_LRS).any(axis=2)


def test_the_hidden_populations_lie_in_their_intervals(characterised: tuple[Path, np.ndarray]) -> None:
    fitted = fit_device(open_run(characterised[0]), default_device())
    assert fitted.converged
    hidden = dict(HIDDEN.model.values())
    for key in ("lrs.median_ohm", "hrs.median_ohm", "weak_reset.slope1_scale"):
        found = fitted.device.quantities[key]
        assert found.low is not None
        assert found.high is not None
        # One chip is one draw: three standard errors around the estimate, where the interval has two.
        half = (found.high - found.low) / 2
        assert found.value - 1.5 * half <= hidden[key] <= found.value + 1.5 * half
    assert fitted.device.model.lrs.median_ohm < 6500


def test_broken_cells_are_found_and_named(characterised: tuple[Path, np.ndarray]) -> None:
    run_file, broken = characterised
    fitted = fit_device(open_run(run_file), default_device())
    stuck_lines = [line for line in fitted.report if line.startswith("stuck cell")]
    assert 1 <= len(stuck_lines) <= int(broken.sum())
    error = fitted.device.quantities["read_error.stuck_fraction"]
    assert error.low is not None
    assert error.low <= broken.mean() * 1.2
    assert error.value > 0


def test_the_file_tells_where_each_number_comes_from_and_makes_a_chip(
    characterised: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    fitted = fit_device(open_run(characterised[0]), default_device())
    save_device(tmp_path / "device.toml", fitted.device)
    again = load_device(tmp_path / "device.toml")
    assert again.model == fitted.device.model
    measured = again.quantities["hrs.median_ohm"]
    assert measured.trust == "fitted"
    assert "sha256" in measured.source
    assert again.quantities["virgin.median_ohm"].trust != "fitted"
    chip = SimulatedChip(again.model, Geometry(8, 8), 1, "from the fit")
    assert chip.resistance_ohm.shape == (8, 8, 2)


def test_a_run_of_another_procedure_is_refused(characterised: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    forming = next(characterised[0].parent.glob("*forming.h5"))
    with pytest.raises(UserMistake, match="'forming'.*'characterise'"):
        fit_device(open_run(forming), default_device())
    command = [sys.executable, "-m", "calibration.device_fit", str(forming), "--out", str(tmp_path / "no.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "no.toml").exists()


def test_the_script_writes_the_same_file(characterised: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    out = tmp_path / "device.toml"
    command = [sys.executable, "-m", "calibration.device_fit", str(characterised[0]), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert load_device(out).model == fit_device(open_run(characterised[0]), default_device()).device.model
