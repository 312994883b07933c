"""The ways of inferring with a programmed tile: what each asks of the chip, and the sums that it gives.

Each pass holds, for its way alone, the activations that enter the present layer and the sums of that layer so far. Ways
therefore go through the network side by side, on the same programmed tiles, each with the errors of its own senses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.inference_tables import Programmed, sums_record
from bench.mapping import NONE, Tile
from bench.procedure import Record
from data.run_chain import read_parts
from data.runs import Run
from drivers.chip import Chip, Programming
from models.cells import Weights
from models.exceptions import UserMistake
from models.integer import Layer, exact_sums
from models.prediction import InferenceMode
from models.presenting import Presented, present

MOST_UNFOLDED = 1 << 22
"""Most unfolded inputs that are held at a time."""

MOST_SUMS = 1 << 29
"""Most sums of one layer that are held: 2 GiB."""


ON_HOST = "multiplying on the host"
"""What is said while the host computes for long."""


class Portion(NamedTuple):
    """Sums that a step of a pass added: how many samples are answered by now, and what is to be recorded of it."""

    answered: int
    record: Record | None


class _Asked(NamedTuple):
    """What was sent to the board and is not answered yet."""

    chunk: slice
    group: int
    held: NDArray[np.int64]
    shown: Presented
    exact: NDArray[np.int32]


@dataclass
class Pass:
    """One way of inferring, on its way through the network.

    Attributes:
        mode: which way.
        activations: ``(n, inputs)`` whole numbers that enter the present layer.
        planes: planes of -1 and +1 in these.
        batch: samples at a time.
        refresh_reads: in the mode ``sensed``, cells that read wrong so many times in a row are programmed again; 0 for
            never.
        sums: ``(n, positions, rows)`` of the present layer, of the tiles so far; twice the sums in XNOR mode.
        read_errors: senses that read another weight than after the verify, of ``senses`` in all; in XNOR mode at least
            so many, since only their sums are seen.
        refreshed: cells that were programmed again.
    """

    mode: InferenceMode
    activations: NDArray[np.integer]
    planes: int
    batch: int
    refresh_reads: int = 0
    sums: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0, 0), dtype=np.int32))
    read_errors: int = 0
    senses: int = 0
    refreshed: int = 0

    def begin(self, layer: Layer) -> None:
        """Enter a layer."""
        self.sums = np.zeros((len(self.activations), layer.positions, len(layer.weights)), dtype=np.int32)

    def end(self, layer: Layer, answered: int | None = None) -> NDArray[np.int32]:
        """The layer's pooled sums ``(n, outputs)``; of the first ``answered`` samples only, where that is given."""
        sums = self.sums[:answered]
        return layer.collect(sums >> 1 if self.mode is InferenceMode.XNOR else sums)

    def go_on(self, activations: NDArray[np.int8]) -> None:
        """Take the activations that enter the next layer."""
        self.activations, self.planes = activations, 1

    def through(self, layer: Layer, on: Programmed, chip: Chip) -> Iterator[Portion]:
        """Send all samples through a programmed tile, portion by portion."""
        if self.mode is InferenceMode.HOST:
            for chunk in self._chunks(layer):
                self._multiply(layer, on.tile, on.sensed, chunk)
                yield Portion(chunk.stop, None)
        elif self.mode is InferenceMode.SENSED:
            yield from self._sensed(layer, on, chip)
        else:
            yield from self._xnor(layer, on, chip)

    def replay(self, layer: Layer, on: Programmed, parts: Sequence[Run]) -> None:
        """Add the sums that earlier runs recorded of a tile.

        Raises:
            UserMistake: they recorded other samples.
        """
        done = 0
        if self.mode is InferenceMode.HOST:
            for chunk in self._chunks(layer):
                self._multiply(layer, on.tile, on.sensed, chunk)
            return
        if self.mode is InferenceMode.SENSED:
            table = read_parts(parts, "batch_weights", ["tile", "first", "count", "sensed", "refreshed"])
            for index in _last_of_each(table, on.number):
                samples = slice(int(table["first"][index]), int(table["first"][index] + table["count"][index]))
                self._multiply(layer, on.tile, table["sensed"][index], samples)
                done += int(table["count"][index])
            wanted = len(self.activations)
        else:
            table = read_parts(parts, "xnor_sums", ["tile", "group", "first", "count", "sums"])
            groups = dict(on.tile.groups(layer))
            flat = self.sums.reshape(-1, self.sums.shape[2])
            for index in _last_of_each(table, on.number):
                rows, count = groups[int(table["group"][index])], int(table["count"][index])
                vectors = np.arange(int(table["first"][index]), int(table["first"][index]) + count)
                flat[np.ix_(vectors, on.tile.rows[rows])] += table["sums"][index][:count, rows]
                done += count
            wanted = len(flat) * len(groups)
        if done != wanted:
            raise UserMistake(f"{parts[-1].path} recorded {done} of {wanted} sums of tile {on.number + 1}; start anew")

    def _chunks(self, layer: Layer) -> Iterator[slice]:
        size = layer.positions * layer.groups * layer.weights.shape[1]
        step = max(1, min(self.batch, MOST_UNFOLDED // size))
        for first in range(0, len(self.activations), step):
            yield slice(first, min(first + step, len(self.activations)))

    def _multiply(self, layer: Layer, tile: Tile, weights: Weights, chunk: slice) -> None:
        """Products of these samples with the weights as read, on the host."""
        met = layer.unfold(self.activations[chunk])
        count, positions = met.shape[:2]
        held = np.flatnonzero(tile.cols != NONE)
        for group, rows in tile.groups(layer):
            values = met[:, :, group].reshape(count * positions, -1)[:, tile.cols[held]]
            sums = exact_sums(weights[np.ix_(rows, held)], values).reshape(count, positions, -1)
            self.sums[chunk, :, tile.rows[rows]] += sums

    def _sensed(self, layer: Layer, on: Programmed, chip: Chip) -> Iterator[Portion]:
        target, used = on.tile.on_array(layer.weights, chip.geometry)
        # cells that never read right are not refreshed: they were given up when the tile was verified
        sound = used & (on.sensed == target)
        wrong_for = np.zeros(target.shape, dtype=np.int64)
        refreshed = np.zeros(target.shape, dtype=bool)
        for chunk in self._chunks(layer):
            weights = chip.read()[0]
            wrong = sound & (weights != target)
            self.read_errors += int(wrong.sum())
            self.senses += int(sound.sum())
            self._multiply(layer, on.tile, weights, chunk)
            row = {
                "tile": on.number,
                "first": chunk.start,
                "count": chunk.stop - chunk.start,
                "sensed": weights,
                "refreshed": refreshed.astype(np.uint8),
            }
            yield Portion(chunk.stop, Record("batch_weights", row))
            wrong_for = np.where(wrong, wrong_for + 1, 0)
            refreshed = wrong_for >= self.refresh_reads if self.refresh_reads else np.zeros_like(wrong)
            if refreshed.any():
                chip.program(target, refreshed)
                self.refreshed += int(refreshed.sum())
                wrong_for[refreshed] = 0

    def _xnor(self, layer: Layer, on: Programmed, chip: Chip) -> Iterator[Portion]:
        tile = on.tile
        rows, cols = tile.geometry
        # what columns that pad contribute to each presented vector, as they were read
        padding = on.sensed[:rows, :cols][:, tile.pads].sum(axis=1, dtype=np.int32)
        columns = np.flatnonzero(~tile.pads)
        waiting: deque[_Asked] = deque()

        def vectors() -> Iterator[NDArray[np.int8]]:
            for chunk in self._chunks(layer):
                met = layer.unfold(self.activations[chunk])
                for group, held in tile.groups(layer):
                    values = tile.values(met[:, :, group].reshape(-1, met.shape[3]), (1 << self.planes) - 1)
                    shown = present(values, self.planes)
                    exact = exact_sums(on.sensed[np.ix_(held, columns)], values[:, columns])
                    waiting.append(_Asked(chunk, group, held, shown, exact))
                    yield shown.vectors

        groups = len(list(tile.groups(layer)))
        for number, answer in enumerate(chip.xnor_stream(vectors(), tile.geometry), start=1):
            chunk, group, held, shown, exact = waiting.popleft()
            sums = shown.doubled(answer.astype(np.int32) - padding)[:, held]
            count = chunk.stop - chunk.start
            self.sums[chunk, :, tile.rows[held]] += sums.reshape(count, layer.positions, -1)
            # fewest senses that must have erred for these sums: errors of opposite sign in one sum stay unseen
            self.read_errors += int((-(-np.abs(sums - 2 * exact) // (2 << self.planes))).sum())
            self.senses += len(shown.vectors) * len(held) * len(columns)
            record = sums_record(on.number, group, chunk.start * layer.positions, sums, held, self.batch, chip.geometry)
            yield Portion(chunk.stop if number % groups == 0 else chunk.start, record)


def put_on_array(
    chip: Chip, number: int, tile: Tile, weights: Weights, attempts: int, keep_right: bool = False
) -> tuple[Programming, Programmed]:
    """Program a tile of a layer's ``weights`` and read it back.

    The read is one of its own: the last verify is the one that ended the attempts, so it errs less than a fresh read.
    """
    target, used = tile.on_array(weights, chip.geometry)
    programming = chip.program(target, used, attempts=attempts, keep_right=keep_right)
    return programming, Programmed(number, tile, chip.read()[0])


@dataclass
class Totals:
    """Running account of programmed cells."""

    programmed: int = 0
    verified: int = 0
    failed: int = 0
    raw_errors: int = 0

    def add(self, programming: Programming) -> None:
        """Count one tile."""
        self.programmed += int(programming.used.sum())
        self.verified += programming.verified
        self.failed += programming.failed
        self.raw_errors += programming.raw_errors

    def cells(self) -> dict[str, int]:
        """Cells programmed, verified and given up."""
        return {"programmed": self.programmed, "verified": self.verified, "failed": self.failed}

    def bit_errors(self) -> dict[str, int]:
        """Cells that read wrong after the first pass, and after the last verify."""
        return {"raw": self.raw_errors, "after_verify": self.failed}


def check_memory(samples: int, layers: Sequence[Layer], chips: int = 1) -> None:
    """Refuse more presented samples than the sums of each of ``layers`` can be held of.

    Args:
        chips: how many infer at the same time, each with sums of its own.

    Raises:
        UserMistake: fewer samples at a time would do.
    """
    for layer in layers:
        each = layer.positions * len(layer.weights) * chips
        if samples * each > MOST_SUMS:
            on = "" if chips == 1 else f" on each of {chips} chips"
            raise UserMistake(
                f"{samples} presented samples with {layer.positions} x {len(layer.weights)} sums each{on} do not fit "
                f"into memory; infer at most {MOST_SUMS // each} at a time (--samples)"
            )


def _last_of_each(table: dict[str, NDArray[np.integer]], tile: int) -> Iterator[int]:
    """Rows of a tile, the last part only that recorded it: an attempt that broke off is not counted."""
    own = np.flatnonzero(table["tile"] == tile)
    yield from (int(index) for index in own[table["part"][own] == table["part"][own].max(initial=-1)])
