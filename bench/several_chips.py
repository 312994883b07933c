"""One network on several chips: which tiles lie on which of them.

The chips work at the same time, layer by layer, and the host adds their sums; so what is to be even is the work of each
layer. Arrays of one size share a layer tile by tile. Arrays of different sizes share it strip by strip, of rows or of
columns, whichever is done sooner, and each cuts its strips into tiles of its own size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bench.mapping import Plan, Tile, check_complete, cut
from models.cells import Geometry
from models.exceptions import UserMistake
from models.integer import IntegerNetwork, Layer

if TYPE_CHECKING:
    from bench.error_map import ErrorMap

TILE_S = 2.2
"""Programming one tile: moving the rails, most of all, whatever its size (dry run of the packaged kilobit_lab)."""

BYTE_S = 10 / 921_600
"""A byte on the board's line."""

SUM_BYTES = 2
"""Of each row of a tile, for each vector that it answers."""

SAMPLES = 1000
"""Samples that are taken to go through each tile."""


@dataclass(frozen=True)
class SharedPlan:
    """How a network is laid on the arrays of several chips, at least two.

    Attributes:
        parts: for each chip the tiles that lie on it, layer by layer. A part with a chip id is for that chip, whichever
            bench it is on; the others are for the other chips, in order.
    """

    parts: tuple[Plan, ...]

    @property
    def network(self) -> str:
        """Name of the network."""
        return self.parts[0].network

    @property
    def tiles(self) -> int:
        """Of all chips."""
        return sum(len(part.tiles) for part in self.parts)

    def check(self, network: IntegerNetwork) -> None:
        """Refuse a plan for another network, or one that is not whole.

        Raises:
            UserMistake: another network, a weight that is missing or held twice, a chip that holds nothing.
        """
        for part in self.parts:
            part.check_part(network, part.array)
        check_complete(self.parts, network)
        if idle := [number for number, part in enumerate(self.parts, start=1) if not part.tiles]:
            raise UserMistake(
                f"{network.name} leaves nothing for chip {idle[0]} of {len(self.parts)}: use fewer chips, or smaller "
                "ones"
            )

    def for_chips(self, network: IntegerNetwork, chips: Sequence[tuple[Geometry, str]]) -> list[Plan]:
        """The part of each of ``chips``, which are given by the size of their arrays and their names.

        Raises:
            UserMistake: as :meth:`check`, or the plan is for other chips, for more or fewer, or for other arrays.
        """
        self.check(network)
        if len(chips) != len(self.parts):
            raise UserMistake(f"this plan is for {len(self.parts)} chips, and there are {len(chips)}")
        ids = [chip_id for _, chip_id in chips]
        own = {part.chip_id: part for part in self.parts if part.chip_id is not None}
        if missing := sorted(own.keys() - set(ids)):
            raise UserMistake(
                f"this plan avoids the weak cells of chip {missing[0]}, and the chips in the sockets are "
                f"{', '.join(ids)}; make a plan for them, or one without error maps"
            )
        others = iter([part for part in self.parts if part.chip_id is None])
        parts = [own[chip_id] if chip_id in own else next(others) for chip_id in ids]
        for part, (array, chip_id) in zip(parts, chips, strict=True):
            try:
                part.check_part(network, array, chip_id)
            except UserMistake as mistake:
                raise UserMistake(f"chip {chip_id}: {mistake}") from mistake
        return parts


def plan_on_chips(
    network: IntegerNetwork, arrays: Sequence[Geometry], error_maps: Sequence[ErrorMap | None] | None = None
) -> SharedPlan:
    """Share ``network`` out among chips with ``arrays``; the same for the same arguments.

    Args:
        error_maps: for each chip what is known of its cells, or None: its tiles are then placed as in
            :func:`bench.mapping.plan_network`.

    Raises:
        UserMistake: a map is of an array of another size, two are of one chip, or nothing is left for one of the chips.
    """
    known = [None] * len(arrays) if error_maps is None else error_maps
    ids = [one.chip_id for one in known if one is not None]
    if len(set(ids)) < len(ids):
        raise UserMistake(f"two of the chips have the same name; they are {', '.join(ids)}")
    load = [0.0] * len(arrays)
    shares: list[list[Tile]] = [[] for _ in arrays]
    for index, layer in enumerate(network.layers):
        planes = network.encoding.planes if index == 0 else 1
        best = min(_shared_out(index, layer, planes, arrays, load), key=lambda share: share.rank)
        for chip, tiles in enumerate(best.tiles):
            load[chip] += best.seconds[chip]
            shares[chip] += tiles
    parts = tuple(
        Plan(network.name, network.sha256, array, tuple(tiles)) for array, tiles in zip(arrays, shares, strict=True)
    )
    SharedPlan(parts).check(network)
    if any(one is not None for one in known):
        from bench.placement import place

        parts = tuple(
            part if one is None else place(part, network, one) for part, one in zip(parts, known, strict=True)
        )
    return SharedPlan(parts)


class _Share(NamedTuple):
    """A way of sharing out a layer: the tiles of each chip, and how long it works on them."""

    tiles: list[list[Tile]]
    seconds: list[float]

    @property
    def rank(self) -> tuple[float, float]:
        """The slowest chip counts, then all work."""
        return max(self.seconds), sum(self.seconds)


def _shared_out(
    index: int, layer: Layer, planes: int, arrays: Sequence[Geometry], load: Sequence[float]
) -> Iterator[_Share]:
    """Ways of sharing out a layer.

    Args:
        load: what each chip has to do in the layers before: of chips that are equal otherwise, the least loaded works.
    """
    sizes = dict.fromkeys(arrays)
    for by_rows in (True, False):
        for some in ([*sizes], *([size] for size in sizes if len(sizes) > 1)):
            tiles: list[list[Tile]] = [[] for _ in arrays]
            seconds = [0.0] * len(arrays)
            for size, blocks in _strips(layer, planes, some, arrays, by_rows).items():
                own = [tile for rows, cols in blocks for tile in cut(index, layer, size, rows, cols)]
                took = [tile_seconds(tile, layer, planes) for tile in own]
                chips = [chip for chip, array in enumerate(arrays) if array == size]
                # the longest first, each to the chip that is done first with what it has
                for number in sorted(range(len(own)), key=lambda number: -took[number]):
                    chip = min(chips, key=lambda chip: (seconds[chip], load[chip], chip))
                    tiles[chip].append(own[number])
                    seconds[chip] += took[number]
            yield _Share(tiles, seconds)


def _strips(
    layer: Layer, planes: int, sizes: Sequence[Geometry], arrays: Sequence[Geometry], by_rows: bool
) -> dict[Geometry, list[tuple[range, range]]]:
    """Blocks of rows and columns of the matrix for each size of array, dealt out from one end to the other."""
    rows, cols = layer.weights.shape
    length = rows if by_rows else cols
    blocks: dict[Geometry, list[tuple[range, range]]] = {size: [] for size in sizes}
    done = dict.fromkeys(sizes, 0.0)
    first = 0
    while first < length:
        ends = {}
        for size in sizes:
            last = min(first + (size.rows if by_rows else size.cols), length)
            block = (range(first, last), range(cols)) if by_rows else (range(rows), range(first, last))
            took = sum(tile_seconds(tile, layer, planes) for tile in cut(0, layer, size, *block))
            # chips of one size share the strip
            ends[size] = done[size] + took / sum(array == size for array in arrays), block
        size = min(sizes, key=lambda size: ends[size][0])
        done[size], block = ends[size]
        blocks[size].append(block)
        first = block[0].stop if by_rows else block[1].stop
    return blocks


def tile_seconds(tile: Tile, layer: Layer, planes: int) -> float:
    """About what a tile takes, in s: programming, and :data:`SAMPLES` samples with the sums that come back."""
    rows, cols = tile.geometry
    groups = 1 if layer.groups == 1 else sum(1 for _ in tile.groups(layer))
    vectors = SAMPLES * layer.positions * planes * groups
    return TILE_S + vectors * (SUM_BYTES * rows + cols / 8) * BYTE_S
