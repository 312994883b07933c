"""The kinds of simulated chip, single and stacked, through their wires; and the options that choose them."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from bench.config import parse_bench_file
from bench.session import connect, open_bench, simulated_bench
from data.device_files import Quantity, default_device, save_device
from drivers.simulated.bench import CHIPS, SimulatedBench
from models.cells import Device, DeviceState, Geometry
from models.exceptions import UserMistake

TERNARY = np.array([-1, 0, 1], dtype=np.int8)
BINARY = np.array([-1, 1], dtype=np.int8)


@pytest.mark.parametrize(
    ("chip", "arrays", "geometry"),
    [
        ("kilobit", 1, Geometry(32, 32)),
        ("ternary", 1, Geometry(8, 8)),
        ("array64", 1, Geometry(64, 64)),
        ("kilobit", 3, Geometry(96, 32)),
        ("array64", 16, Geometry(1024, 64)),
    ],
)
def test_a_pattern_goes_in_and_out_of_every_kind_of_chip(chip, arrays, geometry):
    rng = np.random.default_rng(1)
    with SimulatedBench(0, chip=chip, arrays=arrays) as world:
        text = world.bench_file()
        config = parse_bench_file(text, "simulated")
        assert config.geometry == geometry
        with connect(config, text) as bench:
            assert bench.chip.geometry == geometry
            bench.chip.form(~bench.chip.no_devices(), 3)
            weights = rng.choice(TERNARY if chip == "ternary" else BINARY, size=geometry)
            programming = bench.chip.program(weights, attempts=3)
            assert programming.failed <= 0.02 * geometry.cells
            sensed = bench.chip.read()[0]
            inputs = rng.choice(BINARY, size=(20, geometry.cols))
            sums = bench.chip.xnor(inputs)
            exact = inputs.astype(int) @ sensed.astype(int).T
            assert np.abs(sums - exact).mean() < 0.05
            assert (world.world.temperature_c, world.chip.temperature_c) == (25.0, 25.0)
        assert world.world.rails == (0.0, 0.0, 0.0)


def test_the_kilobit_chip_stays_as_it_was():
    with SimulatedBench(7) as world:
        assert world.chip.chip_id == "SIM-KILOBIT-7"
        assert world.chip.geometry == Geometry(32, 32)
        assert 'name = "simulated kilobit bench"' in world.bench_file()
        assert world.chip.model == default_device().model


def test_chips_of_different_kinds_and_sizes_have_different_names():
    names = {SimulatedBench(0, chip=chip, arrays=arrays).chip.chip_id for chip in CHIPS for arrays in (1, 2)}
    assert len(names) == 2 * len(CHIPS)


def test_the_ternary_bench_senses_near_threshold():
    with SimulatedBench(0, chip="ternary") as world:
        config = parse_bench_file(world.bench_file(), "b")
    point = config.points.sense
    assert (point.rails.vdd_v, point.window_s) == (1.2, 50e-9)


def test_single_devices_of_the_array_are_formed_and_programmed_through_the_pads():
    with open_bench(seed=2, chip="array64") as bench:
        row, col, device = 40, 63, Device.BLB
        before = bench.chip.resistance(row, col, device)
        assert before.voltage_v / before.current_a > 1e6
        bench.rails.apply(bench.chip.points.set.rails)
        assert bench.smu is not None
        seen = []
        for volts, compliance_a in ((3.3, 64e-6), (-2.0, 2e-3), (2.0, 64e-6)):
            bench.board.connect_device(row, col, device)
            bench.smu.set_source(volts, compliance_a)
            bench.smu.set_output(True)
            bench.smu.measure()
            bench.smu.set_output(False)
            bench.board.disconnect_device()
            reading = bench.chip.resistance(row, col, device)
            seen.append(reading.voltage_v / reading.current_a)
            bench.rails.apply(bench.chip.points.set.rails)
    assert seen[0] < 20e3
    assert seen[1] > 20e3
    assert seen[2] < 20e3


def test_a_population_of_ones_own_goes_with_any_kind(tmp_path):
    own = default_device().updated({"lrs.median_ohm": Quantity(12e3, "ohm", "a test", "proposed")})
    save_device(tmp_path / "own.toml", own)
    with simulated_bench(1, tmp_path / "own.toml", chip="array64") as (config, text), connect(config, text) as bench:
        bench.chip.form(~bench.chip.no_devices())
        reading = [bench.chip.resistance(i, i, Device.BL) for i in range(10)]
    ohms = [item.voltage_v / item.current_a for item in reading]
    assert 10e3 < float(np.median(ohms)) < 15e3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"chip": "megabit"}, "kilobit, ternary, array64"),
        ({"arrays": 0}, "1 to 32 can be stacked"),
        ({"arrays": 33}, "1 to 32 can be stacked"),
        ({"chip": "array64", "arrays": 17}, "1 to 16 can be stacked"),
    ],
)
def test_chips_that_cannot_be_are_refused(options, says):
    with pytest.raises(UserMistake, match=says):
        SimulatedBench(0, **options)


def test_the_session_passes_a_refusal_on(capfd):
    with pytest.raises(UserMistake, match="did not start"), simulated_bench(chip="megabit"):
        pass
    assert "there is no simulated chip 'megabit'" in capfd.readouterr().err


def test_the_command_line_serves_the_chip_that_was_asked_for(tmp_path):
    file = tmp_path / "bench.toml"
    options = ["--chip", "ternary", "--arrays", "2", "--seed", "4", "--write", str(file), "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.cli", "simulate", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 30.0
        while not file.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        with open_bench(file) as bench:
            assert bench.chip.geometry == Geometry(16, 8)
            assert bench.chip.chip_id == "SIM-TERNARY-X2-4"
    finally:
        process.terminate()
        out, _ = process.communicate(timeout=10.0)
    assert json.loads(out)["seed"] == 4


def test_a_refused_chip_ends_the_command_with_one_line(tmp_path):
    command = [sys.executable, "-m", "bench.cli", "simulate", "--chip", "x", "--write", str(tmp_path / "b.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "kilobit, ternary, array64" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "b.toml").exists()


def test_states_of_a_ternary_bench_are_those_that_were_programmed():
    with SimulatedBench(3, chip="ternary") as world:
        text = world.bench_file()
        with connect(parse_bench_file(text, "b"), text) as bench:
            bench.chip.form(~bench.chip.no_devices(), 3)
            bench.chip.program(np.zeros((8, 8), dtype=np.int8), attempts=1)
        assert (world.chip.state == DeviceState.HRS).mean() > 0.97
