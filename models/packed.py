"""Packed inference: an integer network in words of 64 bits, with XNOR, popcounts and thresholds, bit for bit the same.

Activations between layers are ``(n, positions, planes, words)``: the channels of a position, packed. A comparison that
batch normalisation turned round is undone by the opposite weights. What padding adds to a sum, and the threshold, are
where the count of disagreements starts, so that its sign is the answer.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from models.convolution_shapes import ConvolutionShape, PaddingValue, Pool, PoolKind
from models.encodings import magnitude, presented
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, Layer, classify
from models.integer_convolution import IntegerConvolution
from models.packed_kernels import Words, add_up, fire, gather, pack_planes, pool_bits

CHUNK_IMAGES = 256
"""Images that go through the network together."""

CHUNK_WORDS = 2**16
"""Most words of unfolded windows at a time, so that they stay near the processor."""

ALWAYS = 2**40
"""More disagreements than there are: the limit of a neuron that fires whatever comes; its opposite never does."""


class _Bank(NamedTuple):
    """The weights of one layer as the compiled passes take them.

    Attributes:
        weights, masks, starts, kinds: as of :func:`models.packed_kernels.fire`.
        zeros: starts of a bare count of disagreements.
        bases: ``(kinds, filters)`` sums without a disagreement.
        threshold: ``(filters,)`` what a sum must reach; the signs of a comparison are in the weights.
        live: ``(filters,)`` 1, or 0 where the gain is zero and the sum does not matter.
    """

    weights: Words
    masks: Words
    starts: Words
    kinds: NDArray[np.int32]
    zeros: Words
    bases: NDArray[np.int64]
    threshold: NDArray[np.int64]
    live: NDArray[np.int64]


class PackedDense:
    """A fully connected layer; after maps of several positions its columns are brought into their order."""

    def __init__(self, layer: IntegerLayer, positions: int, top: int) -> None:
        # flat inputs run channel by channel, packed ones position by position, each from a word of its own on
        channels = layer.inputs // positions
        columns = layer.weights.reshape(layer.outputs, channels, positions).transpose(0, 2, 1)
        wide = np.pad(columns, ((0, 0), (0, 0), (0, -channels % 64)))
        self.bank = _bank(layer, wide.reshape(layer.outputs, -1), 1, np.zeros((1, layer.outputs), np.int64), top)
        self.positions, self.outputs = 1, layer.outputs

    def activations(self, x: Words) -> Words:
        """Bits ``(n, 1, 1, words)``."""
        fired = np.zeros((len(x), -(-self.outputs // 64)), dtype=np.uint64)
        bank = self.bank
        fire(_rows(x), bank.weights, bank.masks, bank.starts, bank.kinds, fired)
        return fired[:, None, None, :]

    def scores(self, x: Words) -> NDArray[np.int32]:
        """Scores ``(n, outputs)``, as of the integer layer."""
        sums = _sums(_rows(x), self.bank, self.outputs)
        return (self.bank.live * sums - self.bank.threshold).astype(np.int32)


class PackedConvolution:
    """A convolution with its pooling."""

    def __init__(self, layer: IntegerConvolution, top: int) -> None:
        self.shape, self.pool = layer.shape, layer.pool
        shape = layer.shape
        channels, taps = shape.channels // shape.groups, math.prod(shape.kernel)
        by_channel = layer.weights.reshape(shape.filters, channels, taps)
        self.sources = _sources(shape)
        # places that miss the same taps share their corrections
        missing, kinds = np.unique(self.sources < 0, axis=0, return_inverse=True)
        corrections = top * missing.astype(np.int64) @ by_channel.sum(axis=1, dtype=np.int64).T
        if shape.padding_value is PaddingValue.MINUS:
            corrections[:] = 0
        by_tap = by_channel.transpose(0, 2, 1).reshape(shape.filters, -1)
        self.bank = _bank(layer, by_tap, shape.groups, corrections, top, kinds.reshape(-1).astype(np.int32))
        self.windows = None if layer.pool is None else _windows(layer.pool, shape.output_size)
        self.turned = packed_bits(layer.sign[None] < 0)[0]
        self.positions, self.outputs = math.prod(layer.pooled_size), shape.filters

    def activations(self, x: Words) -> Words:
        """Bits ``(n, positions, 1, words)``."""
        out = np.empty((len(x), self.positions, -(-self.outputs // 64)), dtype=np.uint64)
        shape, planes = self.shape, x.shape[2]
        window = -(-shape.fan_in // 64)
        chunk = max(1, CHUNK_WORDS // (shape.positions * planes * shape.groups * window))
        unfolded = np.zeros((min(chunk, len(x)), shape.positions, planes, shape.groups, window), dtype=np.uint64)
        for first in range(0, len(x), chunk):
            images = x[first : first + chunk]
            own = unfolded[: len(images)]
            gather(images, self.sources, shape.channels // shape.groups, shape.groups, own)
            out[first : first + chunk] = self._pooled(own.reshape(-1, planes, shape.groups, window), len(images))
        return out[:, :, None, :]

    def _pooled(self, rows: Words, images: int) -> Words:
        """Activations ``(images, positions, words)`` of unfolded windows."""
        shape, bank = self.shape, self.bank
        if self.pool is not None and self.pool.kind is PoolKind.SUM:
            sums = _sums(rows, bank, shape.filters).reshape(images, shape.positions, shape.filters)
            added = sums[:, self.windows].sum(axis=2)
            return packed_bits(bank.live * added >= bank.threshold)
        fired = np.zeros((len(rows), shape.groups * bank.weights.shape[1]), dtype=np.uint64)
        fire(rows, bank.weights, bank.masks, bank.starts, bank.kinds, fired)
        fired = compact(fired, shape.groups, shape.filters).reshape(images, shape.positions, -1)
        if self.windows is None:
            return fired
        pooled = np.empty((images, self.positions, fired.shape[2]), dtype=np.uint64)
        pool_bits(fired, self.windows, self.turned, pooled)
        return pooled


class PackedNetwork:
    """An integer network in packed bits: the same scores and classes, many times faster than matrix products.

    Args:
        network: which.
        threads: that share the images.

    Raises:
        UserMistake: fewer than one thread.
    """

    def __init__(self, network: IntegerNetwork, threads: int = 1) -> None:
        if threads < 1:
            raise UserMistake(f"{threads} threads were asked for, at least 1 is needed")
        self.network, self.threads = network, threads
        self._top, positions = magnitude(network.encoding), 1
        first = network.layers[0]
        self._entry = math.prod(first.shape.size) if isinstance(first, IntegerConvolution) else 1
        self._hidden: list[PackedDense | PackedConvolution] = []
        top = self._top
        for layer in network.layers[:-1]:
            self._hidden.append(_layer(layer, positions, top))
            positions, top = self._hidden[-1].positions, 1
        self._last = PackedDense(cast(IntegerLayer, network.layers[-1]), positions, top)

    def scores(self, images: NDArray[np.generic]) -> NDArray[np.int32]:
        """Scores ``(n, classes)`` of images ``(n, features)``, those of :meth:`IntegerNetwork.scores`."""
        total = np.zeros((len(images), self.network.classes), dtype=np.int32)
        for inputs in presented(self.network.encoding, images):
            total += self.scores_of_inputs(cast(NDArray[np.integer], inputs))
        return total

    def scores_of_inputs(self, inputs: NDArray[np.integer]) -> NDArray[np.int32]:
        """Scores ``(n, classes)`` of encoded inputs ``(n, width)``."""
        # large enough that Python is not felt, small enough that every thread gets its share
        size = max(1, min(CHUNK_IMAGES, -(-len(inputs) // self.threads)))
        chunks = [inputs[first : first + size] for first in range(0, len(inputs), size)]
        if self.threads == 1 or len(chunks) < 2:
            found = [self._chunk(chunk) for chunk in chunks]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                found = list(pool.map(self._chunk, chunks))
        return np.concatenate(found) if found else np.zeros((0, self.network.classes), dtype=np.int32)

    def predict(self, images: NDArray[np.generic]) -> NDArray[np.int64]:
        """Class of each image ``(n, features)``; of equal scores the lowest class wins."""
        return classify(self.scores(images))

    def accuracy(self, images: NDArray[np.generic], labels: NDArray[np.integer]) -> float:
        """Share of the images whose predicted class is their label."""
        return float(np.mean(self.predict(images) == labels))

    def _chunk(self, inputs: NDArray[np.integer]) -> NDArray[np.int32]:
        x = self._packed(inputs)
        for layer in self._hidden:
            x = layer.activations(x)
        return self._last.scores(x)

    def _packed(self, inputs: NDArray[np.integer]) -> Words:
        """Encoded inputs as ``(n, positions, planes, words)``, the highest plane first."""
        planes = self.network.encoding.planes
        maps = inputs.reshape(len(inputs), -1, self._entry)
        if planes == 1:
            return packed_bits(maps.transpose(0, 2, 1) > 0)[:, :, None, :]
        packed = np.empty((len(inputs), self._entry, planes, -(-maps.shape[1] // 64)), dtype=np.uint64)
        pack_planes(np.ascontiguousarray(maps, dtype=np.int32), self._top, planes, packed)
        return packed


def _layer(layer: Layer, positions: int, top: int) -> PackedDense | PackedConvolution:
    if isinstance(layer, IntegerConvolution):
        return PackedConvolution(layer, top)
    if isinstance(layer, IntegerLayer):
        return PackedDense(layer, positions, top)
    raise UserMistake(f"a layer of the kind {layer.kind!r} cannot be packed")


def _bank(
    layer: Layer,
    matrix: NDArray[np.int8],
    groups: int,
    corrections: NDArray[np.int64],
    top: int,
    kinds: NDArray[np.int32] | None = None,
) -> _Bank:
    """Pack a matrix ``(filters, columns)`` whose sums are corrected by ``(kinds, filters)``."""
    filters = len(matrix)
    blocks = -(-(filters // groups) // 64)
    sign = layer.sign.astype(np.int64)
    turned = np.where(sign < 0, -1, 1).astype(np.int8)
    acting = matrix * turned[:, None]
    bases = top * np.count_nonzero(matrix, axis=1) + corrections * turned
    threshold = layer.threshold.astype(np.int64)
    # sum = base - 2 * disagreements >= threshold
    limits = np.where(sign == 0, np.where(threshold <= 0, ALWAYS, -ALWAYS), (bases - threshold) // 2)
    starts = blocked(-1 - limits, groups, blocks)
    # columns that only fill up a word are zeros on both sides, and never disagree
    ternary = bool((layer.weights == 0).any())
    masks = _words_of(matrix != 0, groups, blocks) if ternary else np.zeros((groups, blocks, 0), dtype=np.uint64)
    return _Bank(
        weights=_words_of(acting > 0, groups, blocks),
        masks=masks,
        starts=starts,
        kinds=np.zeros(1, np.int32) if kinds is None else kinds,
        zeros=np.zeros_like(starts),
        bases=bases,
        threshold=threshold,
        live=(sign != 0).astype(np.int64),
    )


def _rows(x: Words) -> Words:
    """Activations ``(n, positions, planes, words)`` as rows ``(n, planes, 1, all words)`` of a full connection."""
    count, positions, planes, words = x.shape
    return np.ascontiguousarray(x).reshape(count, planes, 1, positions * words)


def _sums(rows: Words, bank: _Bank, outputs: int) -> NDArray[np.int64]:
    """Sums ``(rows, outputs)``, turned as the weights are."""
    groups, places = bank.weights.shape[0], len(bank.kinds)
    counts = np.empty((len(rows), groups, outputs // groups), dtype=np.int64)
    add_up(rows, bank.weights, bank.masks, bank.zeros, bank.kinds, counts)
    sums = bank.bases[bank.kinds] - 2 * counts.reshape(-1, places, outputs)
    return cast(NDArray[np.int64], sums.reshape(len(rows), outputs))


def packed_bits(bits: NDArray[np.bool_]) -> Words:
    """Bits ``(..., n)`` in words ``(..., words)``, the first bit the lowest, zeros at the end."""
    width = bits.shape[-1]
    octets = np.zeros((*bits.shape[:-1], -(-width // 64) * 8), dtype=np.uint8)
    octets[..., : -(-width // 8)] = np.packbits(np.ascontiguousarray(bits), axis=-1, bitorder="little")
    return octets.view("<u8").astype(np.uint64, copy=False)


def _words_of(bits: NDArray[np.bool_], groups: int, blocks: int) -> Words:
    """Bits ``(filters, columns)`` as ``(groups, blocks, words * 64)``, filters innermost."""
    words = packed_bits(bits)
    return blocked(words.T, groups, blocks)


def blocked(values: NDArray[np.integer], groups: int, blocks: int) -> Words:
    """Numbers ``(m, filters)`` as ``(groups, blocks, m * 64)``, filters innermost, zeros where there are none."""
    count, filters = values.shape
    by_group = values.reshape(count, groups, filters // groups)
    wide = np.pad(by_group, ((0, 0), (0, 0), (0, 64 * blocks - filters // groups)))
    ordered = wide.reshape(count, groups, blocks, 64).transpose(1, 2, 0, 3)
    return np.ascontiguousarray(ordered).reshape(groups, blocks, count * 64).astype(np.uint64)


def compact(fired: Words, groups: int, filters: int) -> Words:
    """Bits of groups that start with words of their own, ``(rows, groups * blocks)``, without gaps."""
    if groups == 1:
        return fired
    bits = np.unpackbits(fired.astype("<u8", copy=False).view(np.uint8), axis=1, bitorder="little")
    used = bits.reshape(len(fired), groups, -1)[:, :, : filters // groups]
    return packed_bits(used.reshape(len(fired), filters).astype(bool))


def _sources(shape: ConvolutionShape) -> NDArray[np.int32]:
    """Input position under each place and tap of the window, ``(places, taps)``; -1 beyond the edges."""
    positions = np.arange(math.prod(shape.size), dtype=np.int32).reshape(shape.size)
    wide = np.pad(positions, [(pad, pad) for pad in shape.padding], constant_values=-1)
    return _windowed(wide, shape.kernel, shape.stride)


def _windows(pool: Pool, size: tuple[int, ...]) -> NDArray[np.int32]:
    """Positions in each window of the pooling, ``(places, taps)``."""
    return _windowed(np.arange(math.prod(size), dtype=np.int32).reshape(size), pool.size, pool.stride)


def _windowed(maps: NDArray[np.int32], size: tuple[int, ...], stride: tuple[int, ...]) -> NDArray[np.int32]:
    windows = np.lib.stride_tricks.sliding_window_view(maps, size)[tuple(slice(None, None, step) for step in stride)]
    return np.ascontiguousarray(windows.reshape(-1, math.prod(size)))
