"""The chip as the application sees it, through the wires of the simulated bench."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from bench.config import parse_bench_file
from bench.session import Bench, connect
from data.device_files import Quantity, default_device
from drivers.chip import Operation, OperationKind, Verdict
from drivers.errors import LimitError
from drivers.simulated.bench import SimulatedBench
from models.cells import Device, DeviceState, Geometry
from models.exceptions import UserMistake


@pytest.fixture
def world() -> Iterator[SimulatedBench]:
    with SimulatedBench(2) as simulated:
        yield simulated


@pytest.fixture
def bench(world: SimulatedBench) -> Iterator[Bench]:
    text = world.bench_file()
    with connect(parse_bench_file(text, "test bench"), text) as session:
        session.chip.form(~session.chip.no_devices(), 3)
        yield session


def pattern(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), size=(32, 32))


def test_weights_programmed_are_weights_read(bench: Bench, world: SimulatedBench) -> None:
    target = pattern(1)
    programming = bench.chip.program(target)
    working = ~(world.chip.state >= DeviceState.STUCK_LRS).any(axis=2)
    assert programming.verified + programming.failed == 1024
    assert (programming.verdict[working] == Verdict.VERIFIED).mean() > 0.999
    assert (bench.chip.read()[0] == target)[working].mean() > 0.999


def test_plus_one_is_bl_high_and_blb_low(bench: Bench, world: SimulatedBench) -> None:
    target = pattern(2)
    bench.chip.program(target)
    bl, blb = world.chip.resistance_ohm[..., Device.BL], world.chip.resistance_ohm[..., Device.BLB]
    assert (np.sign(np.log(bl / blb)) == target).mean() > 0.995


def test_cells_outside_the_mask_are_left_alone(bench: Bench, world: SimulatedBench) -> None:
    bench.chip.program(pattern(3))
    before = world.chip.resistance_ohm.copy()
    used = np.zeros((32, 32), bool)
    used[4:9, 10:20] = True
    programming = bench.chip.program(pattern(4), used)
    changed = (world.chip.resistance_ohm != before).any(axis=2)
    assert not changed[~used].any()
    assert changed[used].mean() > 0.99
    assert (programming.verdict[~used] == Verdict.UNUSED).all()


def test_a_cell_that_never_takes_its_weight_ends_as_failed_after_the_attempts() -> None:
    leaky = default_device().updated({"defects.open": Quantity(0.01, "1", "test", "proposed")})
    with SimulatedBench(2, leaky) as world, connect(parse_bench_file(world.bench_file(), "b")) as bench:
        bench.chip.form(~bench.chip.no_devices(), 3)
        row, col, device = np.argwhere(world.chip.state == DeviceState.OPEN)[0]
        used = np.zeros((32, 32), bool)
        used[row, col] = True
        seen: list[Operation] = []
        bench.chip.listeners.append(seen.append)
        # The open device is the one that this weight wants low.
        weight = -1 if device == Device.BL else 1
        programming = bench.chip.program(np.full((32, 32), weight, np.int8), used, attempts=4)
    assert programming.verdict[row, col] == Verdict.FAILED
    assert programming.failed == 1
    assert programming.attempts == 4
    assert sum(operation.kind is OperationKind.SET for operation in seen) == 4


def test_xnor_in_the_array_is_the_product_with_the_weights_it_reads(bench: Bench) -> None:
    bench.chip.program(pattern(5))
    inputs = np.random.default_rng(6).choice(np.array([-1, 1], np.int8), size=(77, 19))
    weights = bench.chip.read(9)[:, :13, :19].sum(axis=0)
    sums = bench.chip.xnor(inputs, Geometry(13, 19))
    assert sums.shape == (77, 13)
    # A cell at the edge of its amplifier may answer otherwise for one of the inputs: at most one in this block.
    assert np.abs(sums - inputs.astype(int) @ np.sign(weights).T).max() <= 2


def test_weak_resets_move_a_device_a_little_and_set_brings_it_back(bench: Bench, world: SimulatedBench) -> None:
    devices = ~bench.chip.no_devices()
    bench.chip.set(devices)
    low = np.median(world.chip.resistance_ohm)
    bench.chip.weak_reset(devices, 500)
    # The published median after 500 pulses is 8.56 kohm from 7.03 kohm: a factor of 1.22.
    assert np.median(world.chip.resistance_ohm) / low == pytest.approx(1.22, abs=0.06)
    bench.chip.set(devices)
    assert np.median(world.chip.resistance_ohm) / low == pytest.approx(1.0, abs=0.05)


def test_a_resistance_through_direct_access_is_that_of_the_device(bench: Bench, world: SimulatedBench) -> None:
    bench.chip.program(pattern(7))
    for row, col in ((0, 0), (31, 31), (7, 20)):
        for device in Device:
            reading = bench.chip.resistance(row, col, device)
            measured = reading.voltage_v / reading.current_a
            assert measured == pytest.approx(world.chip.resistance_ohm[row, col, device], rel=0.05)
    assert world.chip.connected is None


def test_masks_and_weights_of_another_shape_are_refused_before_a_pulse(bench: Bench, world: SimulatedBench) -> None:
    before = world.chip.resistance_ohm.copy()
    with pytest.raises(LimitError, match=r"\(8, 5, 2\)"):
        bench.chip.set(np.ones((8, 5, 2), bool))
    with pytest.raises(LimitError, match="expected bool"):
        bench.chip.reset(np.ones((32, 32, 2), np.int8))  # type: ignore[arg-type]
    with pytest.raises(UserMistake, match="expected"):
        bench.chip.program(np.ones((32, 31), np.int8))
    with pytest.raises(UserMistake, match="must be"):
        bench.chip.program(np.full((32, 32), 2))
    with pytest.raises(LimitError, match="attempts"):
        bench.chip.program(np.ones((32, 32), np.int8), attempts=0)
    assert np.array_equal(world.chip.resistance_ohm, before)


def test_an_empty_mask_moves_nothing(bench: Bench) -> None:
    seen: list[Operation] = []
    bench.chip.listeners.append(seen.append)
    bench.chip.form(bench.chip.no_devices())
    assert seen == []
