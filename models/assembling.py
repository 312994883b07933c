"""A foreign network put together step by step as a network of whole numbers: what all importers share.

An importer walks through the layers of a user's own network and calls one method for each. Scales, biases and batch
normalisations are gathered as exact lines over the sums (:mod:`models.exact_folding`) until an activation folds them
into thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from models.convolution_shapes import ConvolutionShape, PaddingValue, Pool, PoolKind
from models.encodings import Encoding, magnitude
from models.exact_folding import Line, folded
from models.exceptions import UserMistake
from models.integer import IntegerLayer, IntegerNetwork, Layer
from models.integer_convolution import IntegerConvolution

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Imported:
    """A network that was imported.

    Attributes:
        network: the integers.
        notes: what a person should know about them, one line each.
    """

    network: IntegerNetwork
    notes: tuple[str, ...]


@dataclass
class _Pending:
    """A layer whose activation has not come yet."""

    weights: NDArray[np.int8]
    lines: list[Line]
    shape: ConvolutionShape | None
    pool: Pool | None = None

    def size(self) -> tuple[int, ...]:
        if self.shape is None:
            return (len(self.weights),)
        size = self.shape.output_size
        return (len(self.weights), *(size if self.pool is None else self.pool.output_size(size)))


class Assembler:
    """Takes a network in, layer by layer.

    Args:
        encoding: how an image becomes whole-numbered inputs.
        size: of one image as the first layer takes it, channels first.
        low, high: what the foreign network is fed where we have the lowest and the highest input.

    Raises:
        UserMistake: (of every method) what cannot be mapped, without the name of the layer.
    """

    def __init__(self, encoding: Encoding, size: Sequence[int], low: float = -1.0, high: float = 1.0) -> None:
        if encoding.planes < 1:
            raise UserMistake(f"inputs of the kind {encoding.kind!r} are not whole numbers")
        self._encoding, self._size = encoding, tuple(size)
        if math.prod(self._size) != encoding.width:
            raise UserMistake(f"inputs of the shape {self._size} are not the {encoding.width} that the encoding gives")
        self._reach = magnitude(encoding)
        self._low, self._high = exact(low, "low"), exact(high, "high")
        if self._low == self._high:
            raise UserMistake(f"low and high are both {low:g}")
        self._layers: list[Layer] = []
        self._pending: _Pending | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """Size of what the next layer takes, channels first."""
        return self._size if self._pending is None else self._pending.size()

    def linear(self, weights: Floats) -> None:
        """A fully connected layer of weights ``(outputs, inputs)``; maps before it are flattened."""
        self.flatten()
        if weights.ndim != 2 or weights.shape[1] != self._size[0]:
            raise UserMistake(f"weights of the shape {weights.shape} do not take {self._size[0]} inputs")
        self._weigh(weights, None)

    def convolution(
        self,
        weights: Floats,
        stride: tuple[int, ...] = (),
        padding: tuple[int, ...] = (),
        groups: int = 1,
        padding_level: float = 0.0,
    ) -> None:
        """A convolution of weights ``(filters, channels / groups, *kernel)``, padded with ``padding_level``."""
        if weights.ndim not in (3, 4) or len(self._size) != weights.ndim - 1:
            raise UserMistake(f"weights of the shape {weights.shape} do not fit inputs of the shape {self._size}")
        beyond = self._padding(exact(padding_level, "the padding")) if any(padding) else PaddingValue.MINUS
        filters, _, *kernel = weights.shape
        channels, *size = self._size
        shape = ConvolutionShape(channels, tuple(size), filters, tuple(kernel), stride, padding, groups, beyond)
        if math.prod(weights.shape[1:]) != shape.fan_in:
            raise UserMistake(f"weights of the shape {weights.shape} do not take {channels} channels")
        self._weigh(weights.reshape(filters, -1), shape)

    def _padding(self, level: Fraction) -> PaddingValue:
        if level == self._low:
            return PaddingValue.MINUS
        if level == 0 and self._low + self._high == 0:
            return PaddingValue.ZERO
        raise UserMistake(
            f"padding with {float(level):g} cannot be mapped where inputs lie between {float(self._low):g} and "
            f"{float(self._high):g}; the lowest of them can, and 0 where they lie evenly around it"
        )

    def _weigh(self, weights: Floats, shape: ConvolutionShape | None) -> None:
        if self._pending is not None:
            raise UserMistake("it follows another layer of weights without an activation between them")
        levels, scales = split_levels(weights)
        gain, centre = (self._high - self._low) / (2 * self._reach), (self._high + self._low) / 2
        totals = levels.sum(axis=1, dtype=np.int64).tolist()
        lines = [Line(scale * gain, scale * centre * total) for scale, total in zip(scales, totals, strict=True)]
        self._pending = _Pending(levels, lines, shape)

    def scale(self, factor: Floats, term: Floats, *, divide: bool = False) -> None:
        """Each channel times a factor (or divided by it) plus a term; scalars, or a number per channel."""
        if self._pending is None:
            if factor.size != 1 or term.size != 1 or factor.item() == 0.0:
                raise UserMistake("channels of the inputs are scaled apart, or by 0")
            (gain,), (shift,) = _per_channel(factor, 1, "factors"), _per_channel(term, 1, "terms")
            gain = 1 / gain if divide else gain
            self._low, self._high = gain * self._low + shift, gain * self._high + shift
            return
        channels = len(self._pending.lines)
        factors, terms = _per_channel(factor, channels, "factors"), _per_channel(term, channels, "terms")
        if divide:
            factors = [1 / factor for factor in factors]
        self._pending.lines = [
            line.scaled(a, b) for line, a, b in zip(self._pending.lines, factors, terms, strict=True)
        ]

    def batch_norm(self, gain: Floats, bias: Floats, mean: Floats, variance: Floats, epsilon: float) -> None:
        """``gain (value - mean) / sqrt(variance + epsilon) + bias`` of each channel."""
        if self._pending is None:
            raise UserMistake("it normalises inputs; normalise images before they are encoded")
        channels, named = len(self._pending.lines), {"gains": gain, "biases": bias, "means": mean}
        columns = [_per_channel(values, channels, name) for name, values in named.items()]
        variances = [one + exact(epsilon, "epsilon") for one in _per_channel(variance, channels, "variances")]
        if min(variances) <= 0:
            raise UserMistake("a variance plus epsilon is not above 0")
        lines = [
            line.normalised(*numbers) for line, *numbers in zip(self._pending.lines, *columns, variances, strict=True)
        ]
        if any(line is None for line in lines):
            raise UserMistake("it is the second batch normalisation of one layer")
        self._pending.lines = [line for line in lines if line is not None]

    def pool(self, kind: PoolKind, size: tuple[int, ...], stride: tuple[int, ...] = ()) -> None:
        """Pooling of values or of activations: the largest of a window, or (:attr:`PoolKind.SUM`) the mean."""
        pool, pending = Pool(kind, size, stride), self._pending
        if pending is None:
            self._pool_activations(pool)
            return
        if pending.shape is None or pending.pool is not None:
            raise UserMistake("it pools what is no map, or was pooled before")
        if kind is PoolKind.MAX:
            # the largest value is that of the largest sum where lines rise: turn those that fall
            falling = np.array([line.slope < 0 for line in pending.lines])
            pending.weights = np.where(falling[:, None], -pending.weights, pending.weights)
            pending.lines = [line.turned() if line.slope < 0 else line for line in pending.lines]
        else:
            share = Fraction(1, math.prod(size))
            pending.lines = [Line(line.slope * share, line.shift, line.offset, line.variance) for line in pending.lines]
        pending.pool = pool
        pending.size()

    def _pool_activations(self, pool: Pool) -> None:
        layer = self._layers[-1] if self._layers else None
        if not isinstance(layer, IntegerConvolution) or len(self._size) < 2:
            raise UserMistake("it pools inputs, or what is no map")
        if pool.kind is not PoolKind.MAX or layer.pool is not None:
            raise UserMistake("of activations only the largest can be pooled, once; pool sums before the activation")
        # the largest activation is that of the largest sum where neurons rise: turn those that fall
        falling = layer.sign < 0
        weights = np.where(falling[:, None], -layer.weights, layer.weights)
        sign = np.where(falling, -layer.sign, layer.sign)
        self._layers[-1] = IntegerConvolution(weights, sign, layer.threshold, layer.shape, pool, layer.reach)
        self._size = (self._size[0], *self._layers[-1].pooled_size)  # type: ignore[attr-defined]

    def flatten(self) -> None:
        """Maps become one row of numbers, channel by channel."""
        if self._pending is None:
            self._size = (math.prod(self._size),)
        elif len(self._pending.size()) > 1:
            raise UserMistake("it flattens sums before their activation; flatten activations")

    def reshape(self, size: tuple[int, ...]) -> None:
        """Activations take another shape, in the same order."""
        if self._pending is not None:
            raise UserMistake("it reshapes sums before their activation; reshape activations")
        if math.prod(size) != math.prod(self._size):
            raise UserMistake(f"it makes the shape {size} of {self._size}")
        self._size = size

    def compare(
        self,
        level: Floats,
        above: float = 1.0,
        below: float = -1.0,
        *,
        strict: bool = False,
        ties: Callable[[int], None] | None = None,
    ) -> None:
        """An activation: ``above`` where a value is at the level or above it (strict: above it), else ``below``.

        Args:
            level: a scalar, or a number per channel.
            above, below: the two answers.
            strict: whether a value at the level counts as below.
            ties: called with the number of neurons for which a sum exactly at the level can come up.
        """
        answers = exact(above, "an activation"), exact(below, "an activation")
        if answers[0] == answers[1]:
            raise UserMistake("it gives the same for all values")
        if self._pending is None:
            self._compare_inputs(level, answers, strict)
            return
        pending = self._pending
        channels = len(pending.lines)
        added = math.prod(pending.pool.size) if pending.pool is not None and pending.pool.kind is PoolKind.SUM else 1
        reach = pending.weights.shape[1] * added * self._reach
        levels = _per_channel(level, channels, "levels")
        found = [folded(line, one, reach, strict=strict) for line, one in zip(pending.lines, levels, strict=True)]
        sign, threshold = np.array([item.sign for item in found]), np.array([item.threshold for item in found])
        if ties is not None:
            parity = self._parity(pending)
            ties(sum(item.tie is not None and (parity is None or item.tie % 2 == parity) for item in found))
        if answers[0] < answers[1]:
            sign, threshold, answers = -sign, 1 - threshold, (answers[1], answers[0])
        size = pending.size()
        arrays = pending.weights, sign.astype(np.int8), threshold.astype(np.int32)
        if pending.shape is None:
            self._layers.append(IntegerLayer(*arrays))
        else:
            self._layers.append(IntegerConvolution(*arrays, pending.shape, pending.pool, self._reach))
        self._pending, self._size, self._reach = None, size, 1
        self._high, self._low = answers

    def _parity(self, pending: _Pending) -> int | None:
        """Remainder by 2 of all sums, where they have one in common: sums of n odd numbers are even or odd as n is."""
        summed = pending.pool is not None and pending.pool.kind is PoolKind.SUM
        skipped = pending.shape is not None and pending.shape.padding_value is PaddingValue.ZERO
        if summed or (skipped and any(pending.shape.padding)) or not pending.weights.all():  # type: ignore[union-attr]
            return None
        return int(pending.weights.shape[1]) % 2

    def _compare_inputs(self, level: Floats, answers: tuple[Fraction, Fraction], strict: bool) -> None:
        if self._reach != 1 or level.size != 1:
            raise UserMistake("it compares inputs of many levels; encode images with thermometer thresholds instead")
        cut = exact(level.item(), "a level")
        ends = (self._low, self._high)
        self._low, self._high = (answers[0] if end > cut or (end == cut and not strict) else answers[1] for end in ends)
        if self._low == self._high:
            raise UserMistake("it gives the same for all inputs")

    def finish(self, name: str) -> Imported:
        """The network, once its last layer was given."""
        pending = self._pending
        if pending is None:
            raise UserMistake("the network ends without a layer that scores the classes")
        if pending.shape is not None:
            raise UserMistake("the last layer is a convolution; it must be fully connected")
        squares = {line.slope**2 / line.variance for line in pending.lines}
        if len(squares) > 1 or squares == {Fraction(0)}:
            raise UserMistake(
                "the last layer scales its classes apart (batch normalisation, or weights of several scales); an array "
                "compares plain sums: retrain with one scale for all classes"
            )
        offsets = [_offset(line) for line in pending.lines]
        # what all classes have in common changes nothing, so that the first one's fraction is no rounding
        common = offsets[0] - round(offsets[0])
        relative = [offset - common for offset in offsets]
        whole = [round(offset) for offset in relative]
        sign = np.array([1 if line.slope > 0 else -1 for line in pending.lines], dtype=np.int8)
        self._layers.append(IntegerLayer(pending.weights, sign, -np.array(whole, dtype=np.int32)))
        worst = max(abs(offset - number) for offset, number in zip(relative, whole, strict=True))
        notes = []
        if worst > 0:
            notes.append(
                f"offsets of the classes were rounded to whole sums, by {float(worst):.2g} at most: classes whose "
                "scores are closer than that may change places"
            )
        network = IntegerNetwork(name, self._encoding, tuple(self._layers), len(whole))
        return Imported(network, tuple(notes))


def _offset(line: Line) -> Fraction:
    """What is added to the sum, in sums."""
    if line.offset == 0 or line.variance == 1:
        return (line.shift + line.offset) / abs(line.slope)
    return (line.shift + line.offset * Fraction(math.sqrt(line.variance))) / abs(line.slope)


def exact(number: float, what: str) -> Fraction:
    """A floating-point number as the rational number that it is; UserMistake where it is not finite."""
    if not math.isfinite(number):
        raise UserMistake(f"{what} is {number}; only finite numbers can be mapped")
    return Fraction(number)


def _per_channel(values: Floats, channels: int, what: str) -> list[Fraction]:
    flat = np.ravel(values)
    if flat.size == 1:
        return [exact(float(flat[0]), what)] * channels
    if flat.size != channels:
        raise UserMistake(f"there are {flat.size} {what} for {channels} channels")
    return [exact(float(value), what) for value in flat]


def split_levels(weights: Floats) -> tuple[NDArray[np.int8], list[Fraction]]:
    """Weights ``(rows, columns)`` of -a, 0, +a as their signs and the scale a of each row.

    Raises:
        UserMistake: a row holds other values.
    """
    if not np.isfinite(weights).all():
        raise UserMistake("weights are not finite")
    sizes = np.abs(weights)
    scales = sizes.max(axis=1, initial=0.0)
    odd = ((sizes != 0.0) & (sizes != scales[:, None])).any(axis=1)
    if odd.any():
        row = int(np.flatnonzero(odd)[0])
        raise UserMistake(f"row {row} of the weights holds more than -a, 0 and +a; quantise it first")
    fractions = [Fraction(float(scale)) if scale else Fraction(1) for scale in scales]
    return np.sign(weights).astype(np.int8, order="C"), fractions
