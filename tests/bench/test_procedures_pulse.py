"""Pulses by hand do what they say, to the devices that they name, and to no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.procedures.pulse import PULSE
from bench.runner import run
from bench.session import Bench
from data.runs import open_run
from drivers.simulated.bench import SimulatedBench
from models.cells import Device


def test_pulses_reach_the_named_devices_only(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    everything = np.ones((*bench.config.geometry, 2), dtype=bool)
    bench.chip.form(everything)
    bench.chip.set(everything)
    before = world.chip.resistance_ohm.copy()
    cells = np.zeros(bench.config.geometry, dtype=bool)
    cells[2:4, 1:6] = True
    settings = {"kind": "reset", "devices": "blb", "count": 3, "measure": True}
    outcome = run(PULSE, PULSE.parse(settings), bench, tmp_path, cells=cells)
    after = world.chip.resistance_ohm
    # An ordinary RESET takes a device out of its LRS; in 10 devices some may be broken.
    assert (after[cells][:, Device.BLB] > 2 * before[cells][:, Device.BLB]).sum() >= 8
    assert np.allclose(after[cells][:, Device.BL], before[cells][:, Device.BL], rtol=0.5)
    assert np.allclose(after[~cells], before[~cells], rtol=0.5)
    assert outcome.result["pulses"] == 30
    rows = open_run(outcome.run_file).read("resistances")
    assert set(rows["state"][rows["device"] == Device.BLB]) == {1}
    assert set(rows["state"][rows["device"] == Device.BL]) == {2}


def test_a_weak_reset_moves_the_resistance_a_little(bench: Bench, world: SimulatedBench, tmp_path: Path) -> None:
    everything = np.ones((*bench.config.geometry, 2), dtype=bool)
    bench.chip.form(everything)
    bench.chip.set(everything)
    before = np.log(world.chip.resistance_ohm)
    run(PULSE, PULSE.parse({"kind": "weak_reset", "count": 300}), bench, tmp_path)
    # 300 pulses of the packaged population: a rise of some 0.1 to 0.3 in ln R, far from the step to the HRS.
    assert 0.03 < np.median(np.log(world.chip.resistance_ohm) - before) < 1.0
