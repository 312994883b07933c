"""A session with a bench: who answers, what is refused, and how it is left."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from bench.check import check_bench
from bench.config import parse_bench_file
from bench.session import Bench, connect, open_bench
from drivers.errors import LimitError, ReadBackError, WrongInstrument
from drivers.simulated.bench import SimulatedBench
from models.cells import Device
from models.exceptions import UserMistake


def test_connecting_identifies_everyone_and_moves_no_voltage(bench: Bench, world: SimulatedBench) -> None:
    assert "2230G-30-1" in bench.identities["supply"].model
    assert "2450" in bench.identities["smu"].model
    assert bench.chip.chip_id == world.chip.chip_id
    assert world.world.rails == (0.0, 0.0, 0.0)


def test_leaving_a_session_switches_everything_off_even_after_an_error(world: SimulatedBench) -> None:
    text = world.bench_file()
    with pytest.raises(RuntimeError, match="in the middle"), connect(parse_bench_file(text, "b"), text) as bench:
        bench.chip.read()
        assert world.world.rails.vdd_v == pytest.approx(1.2, abs=0.01)
        raise RuntimeError("in the middle")
    assert world.world.rails == (0.0, 0.0, 0.0)


def test_the_other_instruments_are_switched_off_when_one_is_gone(world: SimulatedBench) -> None:
    text = world.bench_file()
    bench = connect(parse_bench_file(text, "b"), text)
    bench.chip.read()
    world.smu.stop()
    report = bench.close()
    steps = {step.role: step for step in report.steps}
    assert not steps["smu"].confirmed
    assert "UNKNOWN" in str(report)
    assert steps["supply"].confirmed
    assert world.world.rails == (0.0, 0.0, 0.0)


def test_limits_of_the_bench_file_hold_on_the_instruments_themselves(bench: Bench, world: SimulatedBench) -> None:
    # The supply could do 30 V on this channel, and the chip dies above 5.5 V: the bench file says 5 V.
    with pytest.raises(LimitError, match=r"limits\.vddc_v"):
        bench.supply.set_voltage(2, 5.2)
    assert bench.smu is not None
    with pytest.raises(LimitError, match=r"limits\.smu_voltage_v"):
        bench.smu.set_source(1.5, 1e-3)
    devices = bench.chip.no_devices()
    devices[0, 0, Device.BL] = True
    with pytest.raises(LimitError, match=r"limits\.pulse_count"):
        bench.chip.form(devices, 10**6)
    assert world.world.rails.vddc_v <= 5.0


def test_another_chip_or_geometry_is_refused_before_any_voltage(world: SimulatedBench) -> None:
    text = world.bench_file()
    for old, new in (("rows = 32", "rows = 16"), (f'id = "{world.chip.chip_id}"', 'id = "ANOTHER"')):
        assert old in text
        with pytest.raises(WrongInstrument, match="socket|cells"):
            connect(parse_bench_file(text.replace(old, new), "b"))
        assert world.world.rails == (0.0, 0.0, 0.0)


def test_a_port_that_nobody_serves_is_a_mistake_that_names_the_role(world: SimulatedBench) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"TCPIP::127.0.0.1::{free.getsockname()[1]}::SOCKET"
        text = world.bench_file().replace(world.supply.resource, dead)
        with pytest.raises(UserMistake, match="supply"):
            connect(parse_bench_file(text, "b"))
        rows = {row.role: row for row in check_bench(parse_bench_file(text, "b"))}
    assert not rows["supply"].ok
    assert rows["supply"].exit_status == 2
    assert rows["smu"].ok
    assert rows["board"].ok


def test_a_simulated_bench_in_its_own_process_lives_as_long_as_the_block() -> None:
    with open_bench(seed=3) as bench:
        resource = bench.config.supply.resource
        sensed = bench.chip.read()
        assert sensed.shape == (1, 32, 32)
    host, port = resource.split("::")[1:3]
    with pytest.raises(OSError, match="refused|reset|timed out"):
        socket.create_connection((host, int(port)), timeout=2.0).close()


def test_a_folder_that_is_called_like_a_package_of_ours_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "drivers").mkdir()
    monkeypatch.chdir(tmp_path)
    with open_bench(seed=3) as bench:
        assert bench.chip.geometry == (32, 32)


def test_the_same_seed_gives_the_same_chip() -> None:
    def fingerprint(seed: int) -> np.ndarray:
        with SimulatedBench(seed) as world:
            config = parse_bench_file(world.bench_file(), "b")
            with connect(config) as bench:
                bench.chip.form(~bench.chip.no_devices())
                bench.chip.program(np.ones((32, 32), dtype=np.int8))
                return world.chip.resistance_ohm.copy()

    first, again, other = fingerprint(5), fingerprint(5), fingerprint(6)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_rail_that_does_not_come_is_noticed_before_a_pulse(bench: Bench, world: SimulatedBench) -> None:
    # Somebody lowers the current limit at the front panel: the column supply cannot hold its voltage.
    bench.chip.read()
    before = world.chip.resistance_ohm.copy()
    bench.supply.set_current_limit(2, 0.0)
    with pytest.raises(ReadBackError, match="VDDC"):
        bench.chip.form(~bench.chip.no_devices())
    assert np.array_equal(world.chip.resistance_ohm, before)
    assert bench.rails.applied is None
