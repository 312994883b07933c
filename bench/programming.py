"""What it takes to program the tiles of a plan, and the order of tiles in which it takes least."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.config import BenchFile
from bench.dry_instruments import DryWorld, dry_chip
from bench.mapping import Plan
from bench.planning import DEVICE
from data.device_files import packaged_device
from models.cells import Polarity, Weights, lrs_devices
from models.devices.energy import pulse_energy_j
from models.exceptions import UserMistake
from models.integer import IntegerNetwork

UNKNOWN = 2
"""Weight of a cell of which nothing is known: no weight is equal to it."""

NEAR = 512
"""Tiles among which the next one is chosen; more hardly bring a closer one, and take long."""

DRY_TILES = 1000
"""Tiles that are programmed on dry instruments; the time of the rest is scaled up from these."""


@dataclass(frozen=True)
class Cost:
    """What programming all tiles once takes, where every cell obeys the first pass.

    Attributes:
        sets, resets: pulses on all devices together.
        energy_j: that they put into the devices, at most.
        layer_seconds: of each layer, moving the rails and the senses that verify each tile included.
        scaled: whether they are scaled up from the first :data:`DRY_TILES` tiles.
    """

    sets: int
    resets: int
    energy_j: float
    layer_seconds: tuple[float, ...]
    scaled: bool

    @property
    def pulses(self) -> int:
        """SET and RESET pulses together."""
        return self.sets + self.resets

    @property
    def seconds(self) -> float:
        """Of all layers together."""
        return sum(self.layer_seconds)

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"pulses": self.pulses, "seconds": self.seconds, **asdict(self)}


def cost_together(costs: Sequence[Cost]) -> Cost:
    """What several chips take that program at the same time: each layer lasts as long as on the slowest of them."""
    return Cost(
        sum(cost.sets for cost in costs),
        sum(cost.resets for cost in costs),
        sum(cost.energy_j for cost in costs),
        tuple(max(layer) for layer in zip(*(cost.layer_seconds for cost in costs), strict=True)),
        any(cost.scaled for cost in costs),
    )


def programming_cost(plan: Plan, network: IntegerNetwork, config: BenchFile, keep_right: bool = False) -> Cost:
    """Pulses, energy and time to program the tiles of a plan in their order; nothing is opened.

    Args:
        config: the bench file: its operating points, and how fast its instruments are.
        keep_right: each tile is sensed first, and only the cells that read something else are pulsed. The first tile
            then meets an array whose cells all read 0, as after forming.

    Raises:
        UserMistake: the bench has an array of another size, or its limits refuse what a tile needs.
    """
    if config.geometry != plan.array:
        ours, theirs = "{} x {}".format(*plan.array), "{} x {}".format(*config.geometry)
        raise UserMistake(f"this plan is for an array of {ours} cells, and the bench has one of {theirs}")
    state = np.zeros(plan.array, dtype=np.int8)
    sets = resets = 0
    for target, used in _laid(plan, network):
        pulsed = used & (target != state) if keep_right else used
        low = lrs_devices(target)[pulsed]
        sets += int(np.count_nonzero(low))
        resets += int(np.count_nonzero(~low))
        state = np.where(used, target, state)
    model, points = packaged_device(DEVICE).model, config.points
    set_j, reset_j = (
        pulse_energy_j(model, polarity, point.rails.vddc_v, point.rails.vddr_v, point.width_s)
        for polarity, point in ((Polarity.SET, points.set), (Polarity.RESET, points.reset))
    )
    tried = replace(plan, tiles=plan.tiles[:DRY_TILES])
    seconds = _dry_seconds(tried, network, config, keep_right)
    seconds += [sum(seconds) / len(seconds)] * (len(plan.tiles) - len(seconds)) if seconds else []
    by_layer = [
        sum(took for took, tile in zip(seconds, plan.tiles, strict=True) if tile.layer == index)
        for index in range(len(network.layers))
    ]
    return Cost(sets, resets, sets * set_j + resets * reset_j, tuple(by_layer), len(plan.tiles) > DRY_TILES)


def _dry_seconds(plan: Plan, network: IntegerNetwork, config: BenchFile, keep_right: bool) -> list[float]:
    """What each tile takes."""
    world = DryWorld(config, obeys=True, virgin=False)
    chip, _ = dry_chip(world)
    moments = [world.seconds]
    for target, used in _laid(plan, network):
        chip.program(target, used, attempts=1, keep_right=keep_right)
        moments.append(world.seconds)
    return [after - before for before, after in itertools.pairwise(moments)]


def _laid(plan: Plan, network: IntegerNetwork) -> Iterator[tuple[Weights, NDArray[np.bool_]]]:
    """Target and used cells of each tile, in order, of the array's shape."""
    for tile in plan.tiles:
        yield tile.on_array(network.layers[tile.layer].weights, plan.array)


def ordered(plan: Plan, network: IntegerNetwork) -> Plan:
    """The same tiles, each followed by the one of its layer that changes the fewest cells of what the array then holds.

    Worth it where cells that already read right are not pulsed (``keep_right``); otherwise every order costs the same.
    """
    state = np.full(plan.array.cells, UNKNOWN, dtype=np.int8)
    tiles = []
    for index in range(len(network.layers)):
        own = [tile for _, tile in plan.of_layer(index)]
        if not own:
            continue  # the layer lies on other chips
        laid = list(_laid(replace(plan, tiles=tuple(own)), network))
        targets = np.stack([target.ravel() for target, _ in laid])
        used = np.stack([mask.ravel() for _, mask in laid])
        for left in range(len(own), 0, -1):
            near, last = min(left, NEAR), left - 1
            changed = np.count_nonzero((targets[:near] != state) & used[:near], axis=1)
            nearest = int(np.argmin(changed))
            tiles.append(own[nearest])
            state = np.where(used[nearest], targets[nearest], state)
            # those left stay together at the front
            own[nearest], targets[nearest], used[nearest] = own[last], targets[last], used[last]
    return replace(plan, tiles=tuple(tiles))
