"""The application on other instruments and boards: the same session, chosen by the bench file alone."""

from __future__ import annotations

import numpy as np
import pytest

from bench.check import check_bench
from bench.config import parse_bench_file
from bench.session import connect
from drivers.pulse_source_role import PulseShape
from drivers.simulated.bench import SimulatedBench
from models.cells import Device
from models.exceptions import UserMistake


@pytest.mark.parametrize(
    ("supply", "smu"), [("keysight-e36312a", "keithley-2450"), ("keithley-2230g", "keithley-2636b")]
)
def test_the_chip_is_formed_programmed_read_and_measured(supply: str, smu: str) -> None:
    target = np.random.default_rng(1).choice(np.array([-1, 1], np.int8), size=(32, 32))
    with SimulatedBench(4, supply=supply, smu=smu) as world:
        text = world.bench_file()
        with connect(parse_bench_file(text, "b"), text) as bench:
            bench.chip.form(~bench.chip.no_devices(), 3)
            assert bench.chip.program(target).verified > 1010
            reading = bench.chip.resistance(3, 3, Device.BLB)
            measured = reading.voltage_v / reading.current_a
            assert measured == pytest.approx(world.chip.resistance_ohm[3, 3, Device.BLB], rel=0.1)
        assert world.world.rails == (0.0, 0.0, 0.0)


def test_pulse_source_and_temperature_act_on_the_same_world_and_are_left_off() -> None:
    with SimulatedBench(4) as world:
        text = world.bench_file()
        rows = check_bench(parse_bench_file(text, "b"))
        assert {row.role: row.ok for row in rows} == dict.fromkeys(
            ("supply", "smu", "pulse_source", "temperature", "board"), True
        )
        with connect(parse_bench_file(text, "b"), text) as bench:
            assert bench.pulse_source is not None
            assert bench.temperature is not None
            bench.rails.apply(bench.chip.points.direct.rails)
            bench.board.connect_device(5, 5, Device.BL)
            before = world.chip.resistance_ohm[5, 5, Device.BL]
            bench.pulse_source.set_pulse(PulseShape(0.0, 3.3, 20e-6, 0.5e-6, 0.5e-6))
            bench.pulse_source.set_output(True)
            bench.pulse_source.trigger()
            after = world.chip.resistance_ohm[5, 5, Device.BL]
            assert before > 1e5
            assert after < 5e4  # 3.3 V at the pads forms a virgin device
            with pytest.raises(UserMistake, match=r"limits\.pulse_level_v"):
                bench.pulse_source.set_pulse(PulseShape(0.0, 5.0, 20e-6, 0.5e-6, 0.5e-6))
            report = bench.close()
        assert report.confirmed
        assert [step.role for step in report.steps] == ["pulse_source", "board", "smu", "supply", "temperature"]


@pytest.mark.parametrize("chip", ["ternary", "array64"])
def test_the_c2n_boards_of_the_simulated_bench_form_and_program(chip: str) -> None:
    with SimulatedBench(4, chip=chip, board="c2n") as world:
        text = world.bench_file()
        with connect(parse_bench_file(text, "b"), text) as bench:
            devices = bench.chip.no_devices()
            devices[:2, :3] = True
            if chip == "ternary":
                bench.chip.form(devices, 3)
                assert (world.chip.resistance_ohm[:2, :3] < 5e4).mean() > 0.9
                assert bench.chip.read().shape == (1, 8, 8)
            else:
                # The 64-column board only connects devices to the pads; the pulse source does the rest.
                assert bench.chip.resistance(1, 1, Device.BL).current_a < 1e-6
        assert world.world.rails == (0.0, 0.0, 0.0)


def test_a_combination_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserMistake, match="no simulated supply 'battery'"):
        SimulatedBench(1, supply="battery")
    with pytest.raises(UserMistake, match="no simulated board"):
        SimulatedBench(1, board="breadboard")
