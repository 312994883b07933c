"""A binary or ternary network in integers: what is mapped onto the array, and the reference for what it answers.

Everything here is exact. A hidden neuron compares a signed sum of products with an integer threshold, into which batch
normalisation has been folded; the last layer takes the class with the largest score. Fully connected layers are here,
convolutions in :mod:`models.integer_convolution`; every layer has its weights as one matrix, as an array takes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.cells import Weights, checked_weights
from models.encodings import Encoding, ThermometerEncoding, magnitude, plain_encoding, presented
from models.exceptions import UserMistake

MAX_INPUTS = 2**24
"""Sums that stay below this in magnitude are exact in float32, whatever the order of the additions."""

MAX_THRESHOLD = 2**30
"""Largest magnitude of a threshold, so that ``sign * sum - threshold`` stays within int32."""


def exact_sums(weights: NDArray[np.int8], inputs: NDArray[np.integer]) -> NDArray[np.int32]:
    """Sums ``inputs @ weights.T``, exact while they stay below :data:`MAX_INPUTS`.

    The product is taken in float32, which a processor multiplies many times faster than integers.

    Args:
        weights: ``(outputs, inputs)``, values -1, 0, +1.
        inputs: ``(..., inputs)``, whole numbers.

    Returns:
        ``(..., outputs)``: of inputs -1 and +1, agreements minus disagreements, zero weights counting nothing.
    """
    return cast(NDArray[np.int32], (inputs.astype(np.float32) @ weights.T.astype(np.float32)).astype(np.int32))


def classify(scores: NDArray[np.integer]) -> NDArray[np.int64]:
    """Class of each sample from its scores ``(n, classes)``; of equal scores the lowest class wins."""
    return cast(NDArray[np.int64], np.argmax(scores, axis=1).astype(np.int64))


class Layer(Protocol):
    """A layer of whole numbers, fully connected or convolutional.

    Inputs and outputs are flat, ``(n, inputs)`` and ``(n, outputs)``; those of a convolution run channel by channel.
    """

    kind: ClassVar[str]

    @property
    def weights(self) -> Weights:
        """One matrix ``(rows, columns)`` of -1, 0, +1 as it is laid on arrays: a row for each neuron or filter."""

    @property
    def sign(self) -> NDArray[np.int8]:
        """``(rows,)``: +1, -1 or 0."""

    @property
    def threshold(self) -> NDArray[np.int32]:
        """``(rows,)``."""

    @property
    def inputs(self) -> int:
        """Number of inputs."""

    @property
    def outputs(self) -> int:
        """Number of outputs."""

    @property
    def products(self) -> int:
        """Most products in one sum, those that pooling adds up included."""

    @property
    def groups(self) -> int:
        """Into how many groups the rows are dealt out; each group meets inputs of its own."""

    @property
    def positions(self) -> int:
        """How often the matrix meets the inputs of one sample: places of the window, 1 where fully connected."""

    def unfold(self, inputs: NDArray[np.integer]) -> NDArray[np.integer]:
        """Inputs ``(n, inputs)`` as the matrix meets them, ``(n, positions, groups, columns)``."""

    def collect(self, sums: NDArray[np.int32]) -> NDArray[np.int32]:
        """Sums ``(n, outputs)``, pooled, of the sums ``(n, positions, rows)`` that the matrix gives."""

    def sums(self, inputs: NDArray[np.integer]) -> NDArray[np.int32]:
        """Sums ``(n, outputs)`` of inputs ``(n, inputs)``, pooled; UserMistake for another width."""

    def activate(self, sums: NDArray[np.integer]) -> NDArray[np.int8]:
        """Hidden activations ``(n, outputs)``: +1 where ``sign * sums >= threshold``, else -1."""

    def scores(self, sums: NDArray[np.integer]) -> NDArray[np.int32]:
        """Scores ``(n, outputs)`` of a last layer: ``sign * sums - threshold``."""

    def with_weights(self, weights: Weights) -> Self:
        """The same layer with another matrix of weights."""


def checked_rows(weights: ArrayLike, sign: ArrayLike, threshold: ArrayLike) -> dict[str, NDArray[np.integer]]:
    """The three arrays of a layer, checked, as private read-only copies: a layer never changes after it was checked.

    Raises:
        UserMistake: a wrong shape, type or value.
    """
    matrix = checked_weights(weights)
    rows, columns = matrix.shape
    if not 0 < columns < MAX_INPUTS or rows < 1:
        raise UserMistake(f"a layer of {rows} outputs and {columns} inputs cannot be summed exactly")
    arrays: dict[str, NDArray[np.integer]] = {
        "weights": matrix,
        "sign": _checked_vector(sign, "sign", rows, 1, np.int8),
        "threshold": _checked_vector(threshold, "threshold", rows, MAX_THRESHOLD, np.int32),
    }
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def _checked_vector(values: ArrayLike, what: str, length: int, limit: int, dtype: type) -> NDArray[np.integer]:
    array = np.asarray(values)
    if array.shape != (length,) or not np.issubdtype(array.dtype, np.integer):
        raise UserMistake(f"{what} is {array.dtype} of the shape {array.shape}, expected whole numbers, ({length},)")
    if (array < -limit).any() or (array > limit).any():
        raise UserMistake(f"{what} must lie between {-limit} and {limit}")
    return array.astype(dtype)


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """A fully connected layer: ``s = W x``, then ``sign * s`` against ``threshold``.

    Attributes:
        weights: ``(outputs, inputs)`` int8, values -1, 0, +1.
        sign: ``(outputs,)`` int8: +1, or -1 where a negative batch-norm gain turned the comparison round, or 0 where
            a zero gain made the neuron constant.
        threshold: ``(outputs,)`` int32.

    Raises:
        UserMistake: a wrong shape, type or value.
    """

    weights: Weights
    sign: NDArray[np.int8]
    threshold: NDArray[np.int32]

    kind: ClassVar[str] = "linear"
    groups: ClassVar[int] = 1
    positions: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Check, and keep private copies."""
        for name, array in checked_rows(self.weights, self.sign, self.threshold).items():
            object.__setattr__(self, name, array)

    @property
    def outputs(self) -> int:
        """Number of neurons: rows on the array."""
        return int(self.weights.shape[0])

    @property
    def inputs(self) -> int:
        """Number of inputs of each neuron: columns on the array."""
        return int(self.weights.shape[1])

    @property
    def products(self) -> int:
        """Products in one sum."""
        return self.inputs

    def unfold(self, inputs: NDArray[np.integer]) -> NDArray[np.integer]:
        """Inputs ``(n, inputs)`` as ``(n, 1, 1, inputs)``: one position, one group; UserMistake for another width."""
        if inputs.ndim != 2 or inputs.shape[1] != self.inputs:
            raise UserMistake(f"inputs have the shape {inputs.shape}, expected (n, {self.inputs})")
        return inputs[:, None, None, :]

    def collect(self, sums: NDArray[np.int32]) -> NDArray[np.int32]:
        """Sums ``(n, outputs)`` of ``(n, 1, outputs)``."""
        return sums[:, 0, :]

    def sums(self, inputs: NDArray[np.integer]) -> NDArray[np.int32]:
        """Sums ``(n, outputs)`` of inputs ``(n, inputs)`` of whole numbers; UserMistake for another width."""
        return exact_sums(self.weights, self.unfold(inputs)[:, 0, 0])

    def activate(self, sums: NDArray[np.integer]) -> NDArray[np.int8]:
        """Hidden activations ``(n, outputs)``: +1 where ``sign * sums >= threshold``, else -1."""
        return np.where(self.sign * sums >= self.threshold, 1, -1).astype(np.int8)

    def scores(self, sums: NDArray[np.integer]) -> NDArray[np.int32]:
        """Scores ``(n, outputs)`` of a last layer: ``sign * sums - threshold``."""
        return (self.sign * sums - self.threshold).astype(np.int32)

    def with_weights(self, weights: Weights) -> IntegerLayer:
        """The same layer with other weights."""
        return replace(self, weights=weights)


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """Layers one after the other, the last of which, fully connected, scores the classes.

    Attributes:
        name: name of the architecture.
        encoding: how an image becomes the inputs of the first layer.
        layers: at least one.
        classes: number of classes.

    Raises:
        UserMistake: the layers do not chain, or a sum would not be exact.
    """

    name: str
    encoding: Encoding
    layers: tuple[Layer, ...]
    classes: int

    def __post_init__(self) -> None:
        """Check that each layer takes what the one before it gives."""
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise UserMistake("a network needs at least one layer")
        if self.encoding.planes < 1:
            raise UserMistake(f"inputs of the kind {self.encoding.kind!r} are not whole numbers")
        width, giver, largest = self.encoding.width, "the encoding", magnitude(self.encoding)
        for index, layer in enumerate(self.layers):
            if layer.inputs != width:
                raise UserMistake(f"layer {index} takes {layer.inputs} inputs but {giver} gives {width}")
            if layer.products * largest >= MAX_INPUTS:
                raise UserMistake(f"layer {index}: sums of {layer.products} inputs up to {largest} are not exact")
            width, giver, largest = layer.outputs, f"layer {index}", 1
        if not isinstance(self.layers[-1], IntegerLayer):
            raise UserMistake(f"the last layer is a {self.layers[-1].kind}; it must be fully connected")
        if width != self.classes:
            raise UserMistake(f"the last layer gives {width} scores for {self.classes} classes")

    @property
    def ternary(self) -> bool:
        """Some weight is zero: the chip must tell zeros."""
        return any(bool((layer.weights == 0).any()) for layer in self.layers)

    @property
    def sha256(self) -> str:
        """SHA-256 of all that decides what the network answers: encoding, sizes, and every integer."""
        digest = hashlib.sha256(repr(plain_encoding(self.encoding)).encode())
        for layer in self.layers:
            digest.update(f"{layer.kind} {getattr(layer, 'shape', '')} {getattr(layer, 'pool', '')}".encode())
            for array in (layer.weights, layer.sign, layer.threshold):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def encode(self, images: NDArray[np.generic]) -> NDArray[np.integer]:
        """Inputs ``(n, width)`` of the first layer for images ``(n, features)``, as first presented."""
        return cast(NDArray[np.integer], self.encoding.encode(images))

    def hidden(self, inputs: NDArray[np.integer]) -> NDArray[np.integer]:
        """Inputs ``(n, inputs)`` of the last layer, from those of the first."""
        x = inputs
        for layer in self.layers[:-1]:
            x = layer.activate(layer.sums(x))
        return x

    def scores(self, images: NDArray[np.generic]) -> NDArray[np.int32]:
        """Scores ``(n, classes)`` of images ``(n, features)``, added over the presentations."""
        last, total = self.layers[-1], np.zeros((len(images), self.classes), dtype=np.int32)
        for inputs in presented(self.encoding, images):
            total += last.scores(last.sums(self.hidden(cast(NDArray[np.integer], inputs))))
        return total

    def predict(self, images: NDArray[np.generic]) -> NDArray[np.int64]:
        """Class of each image ``(n, features)``; of equal scores the lowest class wins."""
        return classify(self.scores(images))

    def accuracy(self, images: NDArray[np.generic], labels: NDArray[np.integer]) -> float:
        """Share of the images whose predicted class is their label."""
        return float(np.mean(self.predict(images) == labels))

    def with_weights(self, weights: Sequence[Weights]) -> IntegerNetwork:
        """The same network with other weights, one matrix per layer: what an array read back, for instance."""
        layers = (layer.with_weights(own) for layer, own in zip(self.layers, weights, strict=True))
        return replace(self, layers=tuple(layers))

    def fully_connected(self) -> tuple[IntegerLayer, ...]:
        """The layers, of a network that is fully connected and takes -1 and +1, once.

        Raises:
            UserMistake: it is another network, which neither the array nor the model of its errors can take yet.
        """
        layers = tuple(layer for layer in self.layers if isinstance(layer, IntegerLayer))
        odd = [layer.kind for layer in self.layers if not isinstance(layer, IntegerLayer)]
        if self.encoding.planes != 1 or self.encoding.presentations != 1:
            odd.append(f"inputs as {self.encoding.kind}")
        if odd:
            raise UserMistake(
                f"the network {self.name} has {', '.join(dict.fromkeys(odd))}; the array takes fully connected layers "
                "with inputs of -1 and +1 that are presented once"
            )
        return layers


__all__ = [
    "MAX_INPUTS",
    "MAX_THRESHOLD",
    "Encoding",
    "IntegerLayer",
    "IntegerNetwork",
    "Layer",
    "ThermometerEncoding",
    "checked_rows",
    "classify",
    "exact_sums",
]
