"""The simulated wafer: dies of one process, each of which keeps what was done to it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from data.device_files import default_device
from drivers.prober_role import Die
from drivers.simulated.wafer import Wafer, dies_across
from drivers.simulated.world import World
from models.cells import DeviceState, Geometry

GEOMETRY = Geometry(8, 8)


def wafer_of(seed: int, across: int = 7) -> Wafer:
    return Wafer(default_device(), GEOMETRY, seed, "SIM", across)


def alive(wafer: Wafer) -> list[Die]:
    return [die for die in wafer.dies if not wafer.is_dead(die)]


@pytest.mark.parametrize(("across", "count"), [(3, 9), (4, 12), (5, 21), (7, 37)])
def test_the_route_visits_each_die_of_a_round_wafer_once_and_never_jumps_far(across: int, count: int) -> None:
    route = dies_across(across)
    assert len(route) == len(set(route)) == count
    assert Die(0, 0) in route
    assert all(abs(a.row - b.row) <= 1 and abs(a.column - b.column) <= 2 for a, b in pairwise(route))


def test_wafers_are_as_their_seeds() -> None:
    one, same, other = wafer_of(3), wafer_of(3), wafer_of(4)
    die = one.dies[5]
    assert one.device(die).quantities == same.device(die).quantities
    assert one.device(die).quantities != other.device(die).quantities
    assert np.array_equal(one.chip(die).resistance_ohm, same.chip(die).resistance_ohm)


def test_the_hrs_falls_and_defects_gather_towards_the_edge() -> None:
    """Over 30 wafers, where the middle and the outermost dies differ by the bowl: 0.9 of exp(-0.3), and of exp(1.8)."""
    ratios = []
    for seed in range(30):
        wafer = wafer_of(seed)
        middle, edge = (wafer.device(die).quantities for die in (Die(0, 0), Die(3, 1)))
        ratios.append([edge[name].value / middle[name].value for name in ("hrs.median_ohm", "defects.open")])
    hrs, broken = np.exp(np.mean(np.log(ratios), axis=0))
    assert hrs == pytest.approx(np.exp(-0.3 * 10 / 12.25), rel=0.06)
    assert broken == pytest.approx(np.exp(1.8 * 10 / 12.25), rel=0.4)


def test_a_die_keeps_its_state_while_the_needles_are_elsewhere_and_ages_there() -> None:
    wafer = wafer_of(1)
    world = World(wafer.untouched)
    first, second = alive(wafer)[:2]
    wafer.touch(first, world)
    chip = world.chip
    before = chip.resistance_ohm
    chip.pulse(*_set(chip))
    formed = chip.resistance_ohm
    assert not np.array_equal(before, formed)
    wafer.touch(None, world)
    wafer.touch(second, world)
    assert world.chip is not chip
    world.advance(1e7)
    wafer.touch(None, world)
    wafer.touch(first, world)
    assert world.chip is chip
    drifted = chip.resistance_ohm
    assert not np.array_equal(drifted, formed)
    assert np.allclose(drifted, formed, rtol=0.5)


def _set(chip: object) -> tuple[object, ...]:
    from drivers.simulated.world import Rails
    from models.cells import Polarity

    return Polarity.SET, np.ones((*GEOMETRY, 2), dtype=bool), 1e-6, 1, Rails(1.2, 3.5, 3.0)


def test_needles_that_touch_down_or_lift_off_under_voltage_break_devices() -> None:
    wafer = wafer_of(1)
    world = World(wafer.untouched)
    die = alive(wafer)[0]
    world.drive_channel(3, 1.2)
    wafer.touch(die, world)
    broken = np.isin(wafer.chip(die).state, (DeviceState.STUCK_LRS, DeviceState.STUCK_HRS, DeviceState.OPEN)).sum()
    assert broken > 2
    wafer.touch(None, world)
    assert wafer.hot_moves == 2
    world.drive_channel(3, 0.0)
    wafer.touch(die, world)
    assert wafer.hot_moves == 2


def test_where_no_die_is_touched_nothing_reacts() -> None:
    wafer = wafer_of(2)
    world = World(wafer.untouched)
    for channel, volts in ((1, 3.0), (2, 3.5), (3, 1.2)):
        world.drive_channel(channel, volts)
    chip = world.chip
    before = chip.state
    chip.pulse(*_set(chip))
    assert np.array_equal(chip.state, before)
    assert not chip.sense(world.rails, 1e-7, 1e-6, 2).any()
    chip.connect(0, 0, 0)
    assert world.force_pads(0.1, 1e-3) == (0.1, 0.0)
