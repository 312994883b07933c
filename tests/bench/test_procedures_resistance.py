"""Resistance maps through the wire, against the hidden resistances of the chip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.procedure import CellMask
from bench.procedures.resistance import RESISTANCE
from bench.procedures.tables import ProgrammedState, resistance_records
from bench.runner import run
from bench.session import Bench
from data.runs import open_run
from drivers.chip import DeviceReading
from drivers.errors import ReplyError
from drivers.roles import Measurement
from drivers.simulated.bench import SimulatedBench
from models.cells import Device
from models.devices.ageing import read_noise_sigma


def both(cells: CellMask) -> CellMask:
    return np.repeat(cells[:, :, None], 2, axis=2)


def noise_of(world: SimulatedBench, ohms: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([read_noise_sigma(world.chip.model.read_noise, float(ohm)) for ohm in ohms])


def test_a_map_shows_the_hidden_resistances_and_changes_none(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    cells = np.random.default_rng(2).random((32, 32)) < 0.15
    bench.chip.form(both(cells), 3)
    bench.chip.reset(both(cells) & (np.indices((32, 32, 2)).sum(axis=0) % 2 == 0))
    hidden = world.chip.resistance_ohm
    outcome = run(RESISTANCE, RESISTANCE.parse({}), bench, tmp_path, cells=cells)
    stored = open_run(outcome.run_file)
    rows = stored.read("resistances")
    places = np.stack([rows[name] for name in ("row", "col", "device")], axis=1)
    assert (places == np.argwhere(both(cells))).all()
    here = hidden[tuple(places.T)]
    known = here < 1e9  # an open device shows the meter's own noise
    # the device's own fluctuation, at most 5 %, and the meter's errors, some 1e-3
    logs = np.log(rows["resistance_ohm"] / here)[known]
    sigma = noise_of(world, here[known])
    assert (np.abs(logs) < 5 * sigma + 2e-3).all()
    assert outcome.result["median_ohm"] == pytest.approx(np.median(here), rel=0.02)
    assert outcome.result["devices"] == 2 * cells.sum()
    assert outcome.result["reading_sd"] is None
    assert (world.chip.resistance_ohm == hidden).all()
    done = stored.read("cells_done")["cells"].astype(bool)
    assert len(done) > 1
    assert (done.sum(axis=0) == cells).all()


def test_repeats_tell_noise_of_reading_from_spread_of_devices(
    bench: Bench, world: SimulatedBench, tmp_path: Path
) -> None:
    cells = np.zeros((32, 32), dtype=bool)
    cells[:8, :8] = True
    bench.chip.form(both(cells), 5)
    outcome = run(RESISTANCE, RESISTANCE.parse({"repeats": 6}), bench, tmp_path, cells=cells)
    rows = open_run(outcome.run_file).read("resistances")
    assert len(rows["row"]) == 6 * 128
    hidden = world.chip.resistance_ohm[cells].ravel()
    noise = np.sqrt(np.mean(noise_of(world, hidden) ** 2))
    # 5 degrees of freedom in each of 128 devices: the s.d. is known to 3 %
    assert outcome.result["reading_sd"] == pytest.approx(noise, rel=0.12)
    assert outcome.result["device_sd"] == pytest.approx(np.std(np.log(hidden)), rel=0.02)
    # the k-th row of a device is its k-th reading
    first = (rows["row"] == 3) & (rows["col"] == 5) & (rows["device"] == Device.BLB)
    assert rows["resistance_ohm"][first] == pytest.approx(world.chip.resistance_ohm[3, 5, 1], rel=0.05)
    assert len(set(rows["resistance_ohm"][first])) == 6


def reading(volts: float, amps: float, place: tuple[int, int] = (1, 2)) -> DeviceReading:
    return DeviceReading(*place, Device.BLB, Measurement(volts, amps, True))


def test_rows_say_what_was_read_of_each_device() -> None:
    readings = [reading(0.2, 1e-5), reading(0.2, -1e-12, (3, 0)), reading(-0.2, -4e-6)]
    states = np.array([ProgrammedState.LRS, ProgrammedState.HRS, ProgrammedState.UNKNOWN])
    many = resistance_records(readings, states, pattern=7, pulses=[0, 8, 16], staircase=True)
    assert many.many
    assert many.values["resistance_ohm"] == pytest.approx([2e4, np.inf, 5e4])
    assert list(zip(*(many.values[name] for name in ("row", "col", "device")), strict=True)) == [
        each[:3] for each in readings
    ]
    assert many.values["state"].tolist() == states.tolist()
    assert many.values["pulses"].tolist() == [0, 8, 16]
    assert set(many.values["pattern"]) == {7}
    assert many.values["voltage_v"].tolist() == [0.2, 0.2, -0.2]
    assert many.values["current_a"].tolist() == [1e-5, -1e-12, -4e-6]
    assert many.values["in_compliance"].tolist() == many.values["staircase"].tolist() == [1, 1, 1]


def test_a_reading_without_a_voltage_is_no_resistance() -> None:
    with pytest.raises(ReplyError, match=r"device \(1, 2, BLB\): the meter reports 0 V"):
        resistance_records([reading(0.2, 1e-5), reading(0.0, 1e-5)], ProgrammedState.UNKNOWN)
