"""Cables pulled and put back: the bench comes back without a restart, and never believes what it knew before."""

from __future__ import annotations

import numpy as np
import pytest

from bench.config import parse_bench_file
from bench.session import Bench, connect
from drivers.errors import InDoubt, LinkError
from drivers.simulated.bench import SimulatedBench
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.scpi import InstrumentServer
from models.cells import Geometry
from models.exceptions import BenchFailure, UserMistake


def pull_every_cable(world: SimulatedBench) -> None:
    world.supply.wire.disconnect_all()
    world.smu.wire.disconnect_all()
    world.board.unplug()
    world.board.plug()


def test_after_an_unplug_the_bench_works_again_from_zero_volts(bench: Bench, world: SimulatedBench) -> None:
    bench.chip.read()
    assert world.world.rails.vdd_v > 1.0
    pull_every_cable(world)
    with pytest.raises((BenchFailure, LinkError)):
        bench.chip.read()
    report = bench.reconnect(world.board.port)
    assert report.confirmed
    assert {step.role for step in report.steps} == {"supply", "smu", "board"}
    assert world.world.rails == (0.0, 0.0, 0.0)
    assert bench.rails.applied is None
    assert bench.chip.read().shape == (1, 32, 32)


def test_what_the_instruments_forgot_is_programmed_again(bench: Bench, world: SimulatedBench) -> None:
    # Power-cycled while its cable was out: the supply is back at its full range, without our bound on the voltage.
    channel = bench.config.supply.channels.vddc
    world.supply.instrument.power_on()
    pull_every_cable(world)
    bench.reconnect(world.board.port)
    assert bench.supply.voltage_limit(channel) == pytest.approx(bench.config.limits.vddc_v[1])
    assert bench.supply.current_limit(channel) == pytest.approx(bench.config.supply.current_limit_a)


def test_what_was_switched_on_meanwhile_is_switched_off(bench: Bench, world: SimulatedBench) -> None:
    pull_every_cable(world)
    supply = world.supply.instrument
    for line in (b"INST:SEL CH2", b"VOLT 2.0", b"OUTP 1"):  # somebody at the front panel
        supply.execute(line)
    assert world.world.rails.vddc_v == pytest.approx(2.0)
    assert bench.reconnect(world.board.port).confirmed
    assert world.world.rails == (0.0, 0.0, 0.0)


def test_one_that_stays_away_is_named_unknown_and_can_be_brought_back_later(world: SimulatedBench) -> None:
    bench = connect(parse_bench_file(world.bench_file(), "b"))
    bench.chip.read()
    host, port = world.smu.resource.split("::")[1:3]
    world.smu.stop()
    with pytest.raises(BenchFailure, match="smu: UNKNOWN") as failure:
        bench.reconnect()
    assert host in str(failure.value)
    assert world.world.rails == (0.0, 0.0, 0.0)
    assert bench.rails.applied is None
    with InstrumentServer(world.smu.instrument, int(port)):
        assert bench.reconnect().confirmed
        assert bench.chip.read().shape == (1, 32, 32)
        assert bench.close().confirmed


def test_another_chip_in_the_socket_is_not_taken_for_the_old_one(world: SimulatedBench) -> None:
    bench = connect(parse_bench_file(world.bench_file(), "b"))
    pull_every_cable(world)
    swapped = SimulatedChip(world.chip.model, Geometry(32, 32), 99, "ANOTHER-CHIP")
    world.world.chip = swapped
    world.board.reset()
    with pytest.raises(BenchFailure, match=r"board: UNKNOWN .*chip_id.* ANOTHER-CHIP"):
        bench.reconnect(world.board.port)
    with pytest.raises(LinkError):
        bench.chip.read()
    assert not np.any(swapped.cycles)
    assert [step.role for step in bench.close().steps if not step.confirmed] == ["board"]


def test_an_unplug_in_the_middle_of_pulses_names_the_cells_and_leaves_them_to_the_caller(
    bench: Bench, world: SimulatedBench
) -> None:
    def pull(data: bytes) -> bytes:
        world.board.to_host = None
        world.board.unplug()
        return b""

    devices = bench.chip.no_devices()
    devices[3, 4, 0] = True
    bench.chip.read()
    world.board.to_host = pull  # the board acts, and its acknowledgement never comes
    with pytest.raises(InDoubt) as doubt:
        bench.chip.form(devices)
    assert doubt.value.devices == [(3, 4, 0)]
    before = world.chip.cycles.copy()
    world.board.plug()
    assert bench.reconnect(world.board.port).confirmed
    assert np.array_equal(world.chip.cycles, before)  # nothing is applied a second time


def test_the_bench_stays_locked_while_it_reconnects(bench: Bench, world: SimulatedBench) -> None:
    pull_every_cable(world)
    bench.reconnect(world.board.port)
    with pytest.raises(UserMistake, match="in use"):
        connect(parse_bench_file(world.bench_file(), "b"))
