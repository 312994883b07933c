"""A simulated wafer: a chip for each of its dies, all of one process that varies smoothly from middle to edge.

Proposed, for want of a public figure of such a wafer: a bowl and a tilt in the logarithm of each quantity below, and
what a die has of its own; dies that the needles find dead, more of them at the edge. Directions and sizes come from the
seed, so that two wafers differ as two seeds do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data.device_files import DeviceFile
from drivers.prober_role import Die
from drivers.simulated.chip import SimulatedChip
from models.cells import Geometry

if TYPE_CHECKING:
    from drivers.simulated.world import Rails, World

HOT_V = 0.1
"""A supply above this is on: needles that touch down or lift off then damage the die."""


class Variation(NamedTuple):
    """How ln of a quantity varies over a wafer: typical sizes of three parts, in ln.

    Attributes:
        bowl: from the middle to the edge.
        tilt: from the middle to the edge, in one direction.
        own: standard deviation of what a die has of its own.
    """

    bowl: float
    tilt: float
    own: float


VARIATIONS: Mapping[str, Variation] = {
    "lrs.median_ohm": Variation(0.06, 0.03, 0.01),
    "hrs.median_ohm": Variation(-0.30, 0.10, 0.05),
    "hrs.sigma_d2d": Variation(0.15, 0.05, 0.05),
    "sense.offset_sigma": Variation(0.15, 0.05, 0.05),
    "thresholds.form_vddc_v": Variation(0.05, 0.02, 0.005),
    "defects.stuck_lrs": Variation(1.8, 0.3, 0.3),
    "defects.stuck_hrs": Variation(1.8, 0.3, 0.3),
    "defects.open": Variation(1.8, 0.3, 0.3),
}
"""Quantities that vary. Oxide and metal are thinner or thicker at the edge, and defects gather there."""

DEAD_INSIDE, DEAD_AT_EDGE, EDGE = 0.02, 0.35, 0.8
"""Share of dead dies in the middle, at the very edge, and the radius beyond which it grows, in wafer radii."""


def dies_across(across: int) -> tuple[Die, ...]:
    """Dies whose middles lie on a round wafer, in the order of a prober: row by row, there and back.

    Args:
        across: dies along the diameter; the middle one, or the one right below the middle, is 0:0.
    """
    reach = across / 2.0
    low, high = -((across - 1) // 2), across // 2
    middle = (low + high) / 2.0
    route = []
    for row in range(low, high + 1):
        columns = [column for column in range(low, high + 1) if math.hypot(column - middle, row - middle) <= reach]
        route += [Die(column, row) for column in (columns if (row - low) % 2 == 0 else reversed(columns))]
    return tuple(route)


class UntouchedChip(SimulatedChip):
    """What the wires of a bench see where no working die is under the needles: nothing reacts, and no current flows."""

    def expose(self, rails: Rails) -> None:
        """No pin of a chip sees the rails."""

    def _reached(self, rails: Rails) -> bool:
        return False


class Wafer:
    """Dies that come to life as the needles touch them, and keep their state when these lift off.

    Args:
        population: what the dies are made of on average.
        geometry: of each die's array.
        seed: of the wafer: of its process and of all its dies.
        chip_id: what the board on the needles calls itself, whatever die is under them.
        across: dies along the diameter.
        arrays: how many arrays are stacked into ``geometry``.

    Attributes:
        dies: in the order of the prober's route.
        hot_moves: how often needles touched down or lifted off with a supply on.
    """

    def __init__(
        self, population: DeviceFile, geometry: Geometry, seed: int, chip_id: str, across: int, arrays: int = 1
    ) -> None:
        self.dies = dies_across(across)
        self.hot_moves = 0
        self.untouched = UntouchedChip(population.model, geometry, seed, chip_id, arrays)
        self._population, self._geometry, self._seed = population, geometry, seed
        self._chip_id, self._arrays = chip_id, arrays
        rng = np.random.default_rng(np.random.SeedSequence([seed, 0x3A]))
        columns, rows = (np.array(axis, dtype=float) for axis in zip(*self.dies, strict=True))
        x, y = ((axis - (axis.min() + axis.max()) / 2.0) / (across / 2.0) for axis in (columns, rows))
        radius = np.hypot(x, y)
        self._factors: dict[str, np.ndarray] = {}
        for name, (bowl, tilt, own) in VARIATIONS.items():
            angle = rng.uniform(0.0, 2.0 * math.pi)
            slope = x * math.cos(angle) + y * math.sin(angle)
            # half of the bowl on either side: the wafer's mean is that of the population
            shape = bowl * rng.uniform(0.6, 1.4) * (radius**2 - 0.5) + tilt * rng.uniform(0.0, 1.0) * slope
            self._factors[name] = np.exp(shape + own * rng.standard_normal(len(self.dies)))
        beyond = np.clip((radius - EDGE) / (1.0 - EDGE), 0.0, 1.0)
        self._dead = rng.random(len(self.dies)) < DEAD_INSIDE + (DEAD_AT_EDGE - DEAD_INSIDE) * beyond**2
        self._chips: dict[Die, SimulatedChip] = {}
        self._left_at: dict[Die, float] = {}
        self._under: Die | None = None

    def is_dead(self, die: Die) -> bool:
        """Whether nothing answers on this die, so that no cell of it forms."""
        return bool(self._dead[self.dies.index(die)])

    def device(self, die: Die) -> DeviceFile:
        """The population that the devices of a die are drawn from."""
        number = self.dies.index(die)
        quantities = self._population.quantities
        return self._population.updated(
            {
                name: replace(
                    quantities[name], value=quantities[name].value * float(factor[number]), low=None, high=None
                )
                for name, factor in self._factors.items()
            }
        )

    def chip(self, die: Die) -> SimulatedChip:
        """The die itself, fresh until the needles first touched it."""
        if die not in self._chips:
            # a die has the seed of its place, however the prober comes to it
            kind = UntouchedChip if self.is_dead(die) else SimulatedChip
            state = np.random.SeedSequence([self._seed, self.dies.index(die)]).generate_state(1)
            self._chips[die] = kind(self.device(die).model, self._geometry, int(state[0]), self._chip_id, self._arrays)
        return self._chips[die]

    def touch(self, die: Die | None, world: World) -> None:
        """The needles touch ``die`` from now on, or nothing; called with the world's lock held."""
        hot = any(volts > HOT_V for volts in world.rails)
        if self._under is not None:
            self._left_at[self._under] = world.now_s
        self.hot_moves += hot
        for moved in (self._under, die):
            if hot and moved is not None:
                self.chip(moved).surge()
        self._under = die
        if die is None:
            world.place(self.untouched)
            return
        chip = self.chip(die)
        # it aged on the chuck too, while the needles were elsewhere
        chip.advance(world.now_s - self._left_at.get(die, 0.0))
        world.place(chip)
