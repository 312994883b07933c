"""SET / RESET cycling of a chip, through the wires of the simulated bench."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from bench.config import BenchFile, parse_bench_file
from bench.session import Bench, connect
from drivers.chip import Operation, OperationKind, Outcome
from drivers.errors import InDoubt, LimitError
from drivers.framed import FramedBoard
from drivers.operating_points import CyclePoint, RailVoltages
from drivers.pieces import PIECE_S
from drivers.simulated.bench import SimulatedBench
from drivers.simulated.board import BoardServer
from drivers.simulated.firmware import BoardProperties
from models.cells import DeviceMask, DeviceState
from models.exceptions import UserMistake

CYCLE = CyclePoint("CYCLE", RailVoltages(1.2, 4.0, 4.3), 1e-6, 1e-6)


@pytest.fixture
def world() -> Iterator[SimulatedBench]:
    with SimulatedBench(4) as simulated:
        yield simulated


@pytest.fixture
def bench(world: SimulatedBench) -> Iterator[Bench]:
    with opened(world) as session:
        yield session


@contextlib.contextmanager
def opened(world: SimulatedBench) -> Iterator[Bench]:
    """A session whose devices are all formed and in the HRS."""
    text = world.bench_file()
    with connect(parse_bench_file(text, "test bench"), text) as session:
        everything = ~session.chip.no_devices()
        session.chip.form(everything, 3)
        session.chip.reset(everything)
        yield session


def working(world: SimulatedBench, count: int) -> DeviceMask:
    """The first ``count`` devices that are in the HRS."""
    mask = np.zeros(world.chip.state.shape, dtype=bool)
    mask.flat[np.flatnonzero(world.chip.state == DeviceState.HRS)[:count]] = True
    return mask


def told(chip_operations: list[Operation], shape: tuple[int, ...]) -> np.ndarray:
    """Cycles of each device, as the listeners heard of them."""
    total = np.zeros(shape, dtype=np.int64)
    for operation in chip_operations:
        total += operation.devices * operation.count
    return total


def test_the_packaged_benches_have_a_point_at_which_both_polarities_switch(world: SimulatedBench) -> None:
    assert parse_bench_file(world.bench_file(), "b").points.cycle == CYCLE
    at = world.chip.model.thresholds
    assert at.set_vddc_v < CYCLE.rails.vddc_v > at.reset_vddc_v
    assert at.set_vddr_v < CYCLE.rails.vddr_v > at.reset_vddr_v


def test_a_million_cycles_of_64_devices_are_made_by_the_board(bench: Bench, world: SimulatedBench) -> None:
    mask = working(world, 64)
    before = bench.board.status().pulses
    rest = world.chip.resistance_ohm[~mask]
    seen: list[Operation] = []
    bench.chip.listeners.append(seen.append)
    bench.chip.cycle(mask, 10**6)
    assert bench.chip.cycles_fast
    assert bench.board.status().pulses - before == 2 * 64 * 10**6
    assert (world.chip.cycles[mask] == 10**6).all()
    assert not world.chip.cycles[~mask].any()
    assert (told(seen, mask.shape) == mask * 10**6).all()
    assert {operation.kind for operation in seen} == {OperationKind.CYCLE}
    assert {(operation.rails, operation.width_s) for operation in seen} == {(CYCLE.rails, 1e-6)}
    assert max(operation.count for operation in seen) * 64 * 4e-6 <= PIECE_S
    assert (world.chip.state[mask] == DeviceState.HRS).all()
    np.testing.assert_array_equal(world.chip.resistance_ohm[~mask], rest)


def test_what_stops_cycling_stops_it_between_two_pieces(bench: Bench, world: SimulatedBench) -> None:
    mask = working(world, 64)
    seen: list[Operation] = []

    def listen(operation: Operation) -> None:
        seen.append(operation)
        if len(seen) == 7:
            raise KeyboardInterrupt

    bench.chip.listeners.append(listen)
    with pytest.raises(KeyboardInterrupt):
        bench.chip.cycle(mask, 10**9)
    made = told(seen, mask.shape)
    assert 0 < made.max() <= 7 * PIECE_S / 64 / 4e-6
    np.testing.assert_array_equal(world.chip.cycles, made)


def test_cycles_that_were_never_acknowledged_are_told_as_in_doubt(bench: Bench, world: SimulatedBench) -> None:
    mask = working(world, 64)
    seen: list[Operation] = []
    bench.chip.listeners.append(seen.append)
    assert isinstance(bench.board, FramedBoard)
    bench.board.link.timeout_s = 0.1

    def cut_off(operation: Operation) -> None:
        if len(seen) == 3:
            assert isinstance(world.board, BoardServer)
            world.board.to_host = lambda data: b""

    bench.chip.listeners.append(cut_off)
    with pytest.raises(InDoubt) as caught:
        bench.chip.cycle(mask, 10**9)
    assert sorted(caught.value.devices) == [tuple(index) for index in np.argwhere(mask).tolist()]
    assert [operation.outcome for operation in seen] == [Outcome.DONE] * 3 + [Outcome.IN_DOUBT]
    np.testing.assert_array_equal(seen[-1].devices, mask)
    # the board did act, and once: what was told as done, and what is in doubt
    np.testing.assert_array_equal(world.chip.cycles, told(seen, mask.shape))
    assert seen[-1].measured is None
    assert isinstance(world.board, BoardServer)
    world.board.to_host = None
    bench.board.reopen()


def test_without_a_point_cycles_are_set_and_reset(bench: Bench, world: SimulatedBench) -> None:
    mask = working(world, 8)
    chip = bench.chip.at(replace(bench.chip.points, cycle=None))
    seen: list[Operation] = []
    chip.listeners.append(seen.append)
    chip.cycle(mask, 3)
    assert not chip.cycles_fast
    assert [operation.kind for operation in seen] == [OperationKind.SET, OperationKind.RESET] * 3
    assert (world.chip.cycles == mask * 3).all()
    assert (world.chip.state[mask] == DeviceState.HRS).all()


def test_a_board_of_version_1_is_cycled_with_set_and_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SimulatedBench(4)
    plain.board = BoardServer(plain.world, "pty", None, 4, BoardProperties(versions=(1, 1)))
    with plain as world, opened(world) as bench:
        mask = working(world, 8)
        seen: list[Operation] = []
        bench.chip.listeners.append(seen.append)
        bench.chip.cycle(mask, 2)
        assert bench.chip.points.cycle == CYCLE
        assert not bench.chip.cycles_fast
        assert [operation.kind for operation in seen] == [OperationKind.SET, OperationKind.RESET] * 2
        assert (world.chip.cycles == mask * 2).all()


def test_what_is_outside_the_limits_is_refused_before_anything_is_sent(bench: Bench, world: SimulatedBench) -> None:
    mask = working(world, 8)
    seen: list[Operation] = []
    bench.chip.listeners.append(seen.append)
    at = bench.chip.points
    for point in (replace(CYCLE, reset_width_s=1e-3), replace(CYCLE, rails=RailVoltages(1.2, 5.1, 4.3))):
        with pytest.raises(LimitError, match="simulated kilobit bench"):
            bench.chip.at(replace(at, cycle=point)).cycle(mask, 1)
    for count in (0, -1, 1.5, True, 10**13):
        with pytest.raises(LimitError, match="cycles"):
            bench.chip.cycle(mask, count)  # type: ignore[arg-type]
    with pytest.raises(LimitError, match="expected bool"):
        bench.chip.cycle(mask[:3], 1)
    bench.chip.cycle(~mask & mask, 5)
    assert seen == []
    assert not world.chip.cycles.any()


def bench_file(world: SimulatedBench, old: str, new: str) -> BenchFile:
    text = world.bench_file()
    assert old in text
    return parse_bench_file(text.replace(old, new), "bench.toml")


def test_the_bench_file_limits_the_number_of_cycles(world: SimulatedBench) -> None:
    assert parse_bench_file(world.bench_file(), "b").limits.cycle_count == (1, 10**12)
    config = bench_file(world, "pulse_count = [1, 100000]", "pulse_count = [1, 100000]\ncycle_count = [1, 1000]")
    with connect(config, "") as bench:
        mask = working(world, 8) | ~bench.chip.no_devices()
        with pytest.raises(LimitError, match=r"1001 cycles is refused; limits.cycle_count .* allows 1 to 1000 cycles"):
            bench.chip.cycle(mask, 1001)
        bench.chip.cycle(mask, 1000)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("reset_width_s = 1e-6", "reset_width_s = 1e-3", r"operating_points.CYCLE: 0.001 is outside .*pulse_width_s"),
        ("set_width_s = 1e-6\nreset", "set_width_s = 1e-9\nreset", r"operating_points.CYCLE: 1e-09 is outside"),
        ("vddr_v = 4.3", "vddr_v = 5.6", r"operating_points.CYCLE: 5.6 is outside limits.vddr_v"),
        ("set_width_s = 1e-6\nreset", "reset", r"operating_points.CYCLE.set_width_s: this key is missing"),
        (
            "reset_width_s = 1e-6",
            "reset_width_s = 1e-6\nwidth_s = 1e-6",
            r"operating_points.CYCLE.width_s: unknown key",
        ),
        ("pulse_count =", "cycle_count = [9, 1]\npulse_count =", r"cycle_count: \[9, 1\] has its bounds in the wrong"),
    ],
)
def test_a_wrong_cycle_point_or_limit_is_refused_by_name(world: SimulatedBench, old: str, new: str, says: str) -> None:
    with pytest.raises(UserMistake, match=says):
        bench_file(world, old, new)


@pytest.mark.parametrize("chip", ["kilobit", "array64"])
def test_a_bench_with_a_c2n_board_has_no_cycle_point(chip: str) -> None:
    with SimulatedBench(4, chip=chip, board="c2n") as world:
        text = world.bench_file()
    assert parse_bench_file(text, "b").points.cycle is None
    assert "CYCLE" not in text
    with SimulatedBench(4, chip=chip) as framed:
        tables = re.findall(r"(?m)^\[.*\]", framed.bench_file())
    assert re.findall(r"(?m)^\[.*\]", text) == [table for table in tables if "CYCLE" not in table]
