"""Packed inference in which every single sense may err, each cell at its own rate, fresh at each sense.

Exact in distribution: an error turns the product of an input and a weight round (type 1), loses it (type 2), or makes a
product of a zero weight (type 3), independently of all others, and the sums are those of an array that answers so. Each
plane of an input is sensed by itself, and so is each of the two presentations of an input that padding leaves at zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from models.cells import Weights
from models.convolution_shapes import PaddingValue, PoolKind
from models.error_aliases import aliases
from models.error_cells import count_cells, list_cells, rate_bins
from models.error_draws import LONGEST_GAP
from models.exceptions import UserMistake
from models.integer import IntegerNetwork, Layer
from models.integer_convolution import IntegerConvolution
from models.packed import (
    ALWAYS,
    CHUNK_IMAGES,
    CHUNK_WORDS,
    PackedConvolution,
    PackedDense,
    PackedNetwork,
    blocked,
    compact,
    packed_bits,
)
from models.packed_kernels import Words, gather, pool_bits
from models.read_error_kernels import CHUNK_ROWS, RAISED, fire_erring, sense
from models.weight_errors import WeightErrorRates

CHUNK_ACTIVATIONS = 2**17
"""Words of the widest activations of the images that go through the network together, where these are many: the lists
of cells are larger than the weights, and each is fetched once for all of them."""


class ErringNetwork(PackedNetwork):
    """A packed network whose senses err; the same images give other scores each time.

    Args:
        network: with the weights that are programmed, errors of programming included.
        rates: of the errors of a sense, for each layer: numbers, or maps of the shape of its weights.
        generator: where the errors come from; one number is taken at each call, so that the answers do not depend on
            the number of threads.
        batch: inputs that each weight is sensed once for, as an array that is read before every batch does; by
            default every product is a sense of its own.
        tile_columns: columns of the array, or of each layer the tile that each column lies in. Only a tile one of whose
            columns sees a zero is presented twice.
        threads: that share the images.
        turned: of each layer, by how much products are off whenever their input is -1, in the shape of its weights;
            by default nothing is.

    Raises:
        UserMistake: rates for another number of layers or of another shape, a batch or a tile of nothing, no thread.
    """

    def __init__(
        self,
        network: IntegerNetwork,
        rates: Sequence[WeightErrorRates],
        generator: np.random.Generator,
        *,
        batch: int | None = None,
        tile_columns: int | Sequence[NDArray[np.integer]] | None = None,
        threads: int = 1,
        turned: Sequence[Weights] | None = None,
    ) -> None:
        super().__init__(network, threads)
        if len(rates) != len(network.layers):
            raise UserMistake(f"error rates of {len(rates)} layers for a network of {len(network.layers)}")
        if (batch is not None and batch < 1) or (isinstance(tile_columns, int) and tile_columns < 1):
            raise UserMistake(f"batches of {batch} and tiles of {tile_columns} columns: expected at least 1")
        alike = tile_columns is None or isinstance(tile_columns, int)
        self._generator, self._batch = generator, batch
        widest = max([one.positions * -(-one.outputs // 64) for one in self._hidden], default=1)
        self._images = max(CHUNK_IMAGES, CHUNK_ACTIVATIONS // widest)
        self._erring = [
            _ErringLayer(layer, packed, positions, own, batch is not None, tile, off)
            for layer, packed, positions, own, tile, off in zip(
                network.layers,
                [*self._hidden, self._last],
                [1, *(one.positions for one in self._hidden)],
                rates,
                [tile_columns] * len(rates) if alike else cast("Any", tile_columns),
                [None] * len(rates) if turned is None else turned,
                strict=True,
            )
        ]

    def scores_of_inputs(self, inputs: NDArray[np.integer]) -> NDArray[np.int32]:
        """Scores ``(n, classes)`` of encoded inputs ``(n, width)``, with fresh errors."""
        size = self._images if self._batch is None else self._batch
        firsts = range(0, len(inputs), size)
        seeds = self._generator.integers(2**64, dtype=np.uint64) + np.arange(len(firsts), dtype=np.uint64) * _STRIDE

        def scores(first: int, seed: np.uint64) -> NDArray[np.int32]:
            x = self._packed(inputs[first : first + size])
            for index, layer in enumerate(self._erring[:-1]):
                x = layer.activations(x, _seed(seed, index))
            return self._erring[-1].scores(x, _seed(seed, len(self._erring) - 1))

        if self.threads == 1 or len(firsts) < 2:
            found = [scores(first, seed) for first, seed in zip(firsts, seeds, strict=True)]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                found = list(pool.map(scores, firsts, seeds))
        return np.concatenate(found) if found else np.zeros((0, self.network.classes), dtype=np.int32)


_STRIDE = np.uint64(0xD1342543DE82EF95)


def _seed(seed: np.uint64, *places: int) -> np.uint64:
    """A seed of its own for each place that a chunk of images comes to."""
    return np.uint64(np.random.SeedSequence([int(seed), *places]).generate_state(1, np.uint64)[0])


class _ErringLayer:
    """A layer with the rates of its cells, in the order of the packed weights."""

    def __init__(
        self,
        layer: Layer,
        packed: PackedDense | PackedConvolution,
        positions: int,
        rates: WeightErrorRates,
        shared: bool,
        tiles: int | NDArray[np.integer] | None,
        turned: Weights | None,
    ) -> None:
        self._packed, self._shared = packed, shared
        self._groups = layer.groups
        bank = packed.bank
        blocks = bank.weights.shape[1]
        ordered = self._list_cells(layer, positions, rates, blocks)
        self._live = bank.live > 0
        slack = np.where(self._live, bank.bases - bank.threshold, np.where(bank.threshold <= 0, ALWAYS, -ALWAYS))
        self._slack = blocked(slack, layer.groups, blocks).view(np.int64)
        self._upwards = blocked((layer.sign[None] >= 0).astype(np.int64), layer.groups, blocks).view(np.int64)
        self._beyond = self._twice = np.zeros((0, 0), dtype=np.uint64)
        if isinstance(packed, PackedConvolution) and packed.shape.padding_value is PaddingValue.ZERO:
            self._present_zeros(packed, tiles)
        self._downwards = (layer.sign < 0).reshape(layer.groups, -1)
        self._turned = [] if turned is None or not turned.any() else _by_group(layer, positions, turned)
        simple = not (self._lossy or len(self._beyond) or shared or self._turned)
        self._aliases = aliases(ordered, layer.groups, blocks, self._code_bits) if simple else None
        self._raised = bank.starts + np.uint64(RAISED)

    def activations(self, x: Words, seed: np.uint64) -> Words:
        """Bits ``(n, positions, 1, words)`` of packed inputs."""
        packed = self._packed
        if isinstance(packed, PackedDense):
            return self._fired(_flat(x), seed)[:, None, None, :]
        shape = packed.shape
        planes, window = x.shape[2], -(-shape.fan_in // 64)
        out = np.empty((len(x), packed.positions, -(-packed.outputs // 64)), dtype=np.uint64)
        chunk = max(1, CHUNK_WORDS // (shape.positions * planes * shape.groups * window))
        for first in range(0, len(x), chunk):
            images = x[first : first + chunk]
            unfolded = np.zeros((len(images), shape.positions, planes, shape.groups, window), dtype=np.uint64)
            gather(images, packed.sources, shape.channels // shape.groups, shape.groups, unfolded)
            rows = unfolded.reshape(-1, planes, shape.groups, window)
            # a weight that was sensed once errs for all places alike
            out[first : first + chunk] = self._pooled(rows, len(images), seed if self._shared else _seed(seed, first))
        return out[:, :, None, :]

    def scores(self, x: Words, seed: np.uint64) -> NDArray[np.int32]:
        """Scores ``(n, outputs)`` of packed inputs."""
        return np.where(self._live, self._over(_flat(x), seed), -self._packed.bank.threshold).astype(np.int32)

    def _pooled(self, rows: Words, images: int, seed: np.uint64) -> Words:
        packed = cast(PackedConvolution, self._packed)
        if packed.pool is not None and packed.pool.kind is PoolKind.SUM:
            threshold = packed.bank.threshold
            sums = (self._over(rows, seed) + threshold).reshape(images, packed.shape.positions, -1)
            return packed_bits(self._live * sums[:, packed.windows].sum(axis=2) >= threshold)
        fired = self._fired(rows, seed).reshape(images, packed.shape.positions, -1)
        if packed.windows is None:
            return fired
        pooled = np.empty((images, packed.positions, fired.shape[2]), dtype=np.uint64)
        pool_bits(fired, packed.windows, packed.turned, pooled)
        return pooled

    def _fired(self, rows: Words, seed: np.uint64) -> Words:
        """Activations ``(rows, words)`` of rows ``(rows, planes, groups, words)``."""
        if self._aliases is None:
            return packed_bits(self._over(rows, seed) >= 0)
        bank = self._packed.bank
        fired = np.empty((len(rows), self._groups * bank.weights.shape[1]), dtype=np.uint64)
        doublings, numbers = self._aliases.numbers(len(rows), rows.shape[1], seed)
        fire_erring(
            rows,
            bank.weights,
            bank.masks,
            self._raised,
            bank.kinds,
            self._aliases.cells,
            self._aliases.shares,
            self._code_bits,
            doublings,
            numbers,
            seed,
            fired,
        )
        return compact(fired, self._groups, len(self._live))

    def _over(self, rows: Words, seed: np.uint64) -> NDArray[np.int64]:
        """By how much the sums ``(rows, outputs)``, turned as the weights are, exceed their thresholds."""
        bank = self._packed.bank
        out = np.empty((len(rows), self._groups, len(self._live) // self._groups), dtype=np.int64)
        sense(
            np.ascontiguousarray(rows.transpose(2, 0, 1, 3)),
            bank.weights,
            bank.masks,
            self._slack,
            self._upwards,
            bank.kinds,
            self._beyond,
            self._twice,
            self._starts,
            self._cells,
            self._code_bits,
            self._shares,
            self._inverting,
            self._gap,
            self._shared,
            seed,
            out,
        )
        if self._turned:
            out += self._turned_sums(rows)
        return out.reshape(len(rows), -1)

    def _turned_sums(self, rows: Words) -> NDArray[np.int64]:
        """By how much the sums ``(rows, groups, outputs of a group)`` are off for inputs of -1."""
        planes = rows.shape[1]
        kinds = self._packed.bank.kinds
        doubled = np.zeros((len(rows), self._groups, len(self._live) // self._groups), dtype=np.int64)
        for group, off in enumerate(self._turned):
            # zeros of the padding are -1 in the rows, and count half
            half = np.asarray(off @ _bits(self._beyond).T).T if len(self._beyond) else None
            for plane in range(planes):
                minus = 1 - _bits(rows[:, plane, group])
                own = 2 * np.asarray(off @ minus.T).T
                if half is not None:
                    own -= half[kinds[np.arange(len(rows)) % len(kinds)]]
                doubled[:, group] += own << (planes - 1 - plane)
        # a half is rounded down in the sum, before it is turned
        return (doubled + self._downwards) >> 1

    def _list_cells(self, layer: Layer, positions: int, rates: WeightErrorRates, blocks: int) -> NDArray[np.float64]:
        """Sort the cells that may err into bins of rates; returns their rates, in the order of the packed weights."""
        shape = layer.weights.shape
        zero = layer.weights == 0
        changed = np.asarray(rates.inversion, dtype=np.float64) + np.asarray(rates.loss, dtype=np.float64)
        if any(np.shape(rate) not in ((), shape) for rate in (rates.inversion, rates.loss, rates.gain)):
            raise UserMistake(f"a map of error rates must have the shape of the weights, {shape}")
        whole = np.where(zero, rates.gain, np.minimum(changed, 1.0)).astype(np.float64)
        turned = np.where(zero, 0.0, rates.inversion).astype(np.float64)
        self._lossy = bool((turned != whole).any())
        ordered, inversion = (_in_order(layer, positions, each) for each in (whole, turned))
        places, largest = rate_bins(ordered, layer.groups * blocks, CHUNK_ROWS)
        counts = np.zeros((layer.groups, blocks, len(largest)), dtype=np.int64)
        count_cells(places, layer.groups, counts)
        ends = np.cumsum(counts).reshape(counts.shape)
        begins = ends - counts
        self._starts = np.concatenate([begins, ends[:, :, -1:]], axis=2)
        self._code_bits = 12 + ((ordered.shape[1] - 1) // 64).bit_length()
        self._cells = np.empty(int(counts.sum()), dtype=np.uint32)
        self._shares, self._inverting = (np.empty(len(self._cells), dtype=np.uint64) for _ in range(2))
        list_cells(
            ordered,
            inversion,
            places,
            layer.groups,
            largest,
            begins,
            self._code_bits,
            self._cells,
            self._shares,
            self._inverting,
        )
        with np.errstate(divide="ignore", over="ignore"):
            self._gap = np.minimum(-1.0 / np.log1p(-largest), LONGEST_GAP)
        self._gap[largest == 0.0] = LONGEST_GAP
        return ordered

    def _present_zeros(self, packed: PackedConvolution, tiles: int | NDArray[np.integer] | None) -> None:
        """Which columns see a zero at each kind of place, and which are presented twice for it."""
        missing = np.empty((len(packed.bank.bases), math.prod(packed.shape.kernel)), dtype=bool)
        missing[packed.bank.kinds] = packed.sources < 0
        channels = packed.shape.channels // packed.shape.groups
        by_channel = np.tile(missing, (1, channels))  # columns run channel by channel, tap by tap
        if not by_channel.any():
            return
        columns = by_channel.shape[1]
        width = columns if tiles is None else tiles
        tile = np.arange(columns) // width if isinstance(width, int) else width
        twice = np.stack([np.isin(tile, tile[row]) for row in by_channel])
        order = np.arange(columns).reshape(channels, -1).T.reshape(-1)
        self._beyond, self._twice = (packed_bits(each[:, order]) for each in (by_channel, twice))


def _by_group(layer: Layer, positions: int, values: Weights) -> list[Any]:
    """Sparse matrices ``(outputs, packed columns)`` of each group, turned as the weights are."""
    from scipy.sparse import csr_array

    turned = _in_order(layer, positions, np.where(layer.sign[:, None] >= 0, values, -values).astype(np.int32))
    wide = np.pad(turned, ((0, 0), (0, -turned.shape[1] % 64)))
    return [csr_array(part) for part in np.split(wide, layer.groups)]


def _bits(words: Words) -> NDArray[np.int32]:
    """The bits of ``(..., words)``, ``(..., 64 * words)``, the first the lowest."""
    octets = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(octets, axis=-1, bitorder="little").astype(np.int32)


def _flat(x: Words) -> Words:
    """Activations ``(n, positions, planes, words)`` as rows ``(n, planes, 1, all words)`` of a full connection."""
    count, positions, planes, words = x.shape
    return np.ascontiguousarray(x).reshape(count, planes, 1, positions * words)


def _in_order(layer: Layer, positions: int, values: NDArray[Any]) -> NDArray[Any]:
    """Values ``(rows, columns)`` of the weights with the columns as they are packed; 0 where one fills up a word.

    Args:
        positions: places of the map that a fully connected layer takes.
    """
    rows = len(values)
    if isinstance(layer, IntegerConvolution):
        by_tap = values.reshape(rows, -1, math.prod(layer.shape.kernel)).transpose(0, 2, 1)
        return np.ascontiguousarray(by_tap).reshape(rows, -1)
    columns = values.reshape(rows, -1, positions).transpose(0, 2, 1)
    wide = np.pad(columns, ((0, 0), (0, 0), (0, -columns.shape[2] % 64)))
    return np.ascontiguousarray(wide).reshape(rows, -1)
