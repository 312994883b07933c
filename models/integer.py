"""A binary or ternary network in integers: what is mapped onto the array, and the reference for what it answers.

Everything here is exact. A hidden neuron compares a signed sum of +1/-1 products with an integer threshold, into
which batch normalisation has been folded; the last layer takes the class with the largest score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.cells import Weights, checked_weights
from models.exceptions import UserMistake

MAX_INPUTS = 2**24
"""Sums of fewer +1/-1 products than this are exact in float32, whatever the order of the additions."""

MAX_THRESHOLD = 2**30
"""Largest magnitude of a threshold, so that ``sign * sum - threshold`` stays within int32."""


class Encoding(Protocol):
    """How an image becomes the +1/-1 inputs of the first layer."""

    kind: ClassVar[str]

    @property
    def width(self) -> int:
        """Number of inputs that one image becomes."""

    def encode(self, images: NDArray[np.integer]) -> NDArray[np.int8]:
        """Images ``(n, features)`` to inputs ``(n, width)`` of -1 and +1."""


@dataclass(frozen=True)
class ThermometerEncoding:
    """One input per pixel and threshold: +1 where the pixel is at or above the threshold, else -1.

    The inputs are ordered threshold by threshold: first all pixels against the lowest, and so on.

    Attributes:
        features: pixels of an image.
        thresholds: grey levels, rising.
    """

    features: int
    thresholds: tuple[int, ...]

    kind: ClassVar[str] = "thermometer"

    def __post_init__(self) -> None:
        """Raise UserMistake where the thresholds are missing or do not rise."""
        if self.features < 1 or not self.thresholds:
            raise UserMistake("a thermometer encoding needs at least one pixel and one threshold")
        if any(low >= high for low, high in pairwise(self.thresholds)):
            raise UserMistake(f"thermometer thresholds {self.thresholds} do not rise")
        if max(map(abs, self.thresholds)) > MAX_THRESHOLD:
            raise UserMistake(f"thermometer thresholds {self.thresholds} must lie within +-{MAX_THRESHOLD}")

    @property
    def width(self) -> int:
        """Number of inputs that one image becomes."""
        return self.features * len(self.thresholds)

    def encode(self, images: NDArray[np.integer]) -> NDArray[np.int8]:
        """Images ``(n, features)`` of whole grey levels to inputs ``(n, width)`` of -1 and +1.

        Raises:
            UserMistake: images of another size, or not of an integer type.
        """
        pixels = np.asarray(images)
        if pixels.ndim != 2 or pixels.shape[1] != self.features:
            raise UserMistake(f"images have the shape {pixels.shape}, expected (n, {self.features})")
        if not np.issubdtype(pixels.dtype, np.integer):
            raise UserMistake(f"images hold {pixels.dtype}, expected whole grey levels")
        above = pixels[:, None, :] >= np.asarray(self.thresholds)[:, None]
        return np.where(above, 1, -1).astype(np.int8).reshape(len(pixels), self.width)


def exact_sums(weights: NDArray[np.int8], inputs: NDArray[np.int8]) -> NDArray[np.int32]:
    """Sums ``inputs @ weights.T``, exact for fewer than :data:`MAX_INPUTS` inputs.

    The product is taken in float32, which a processor multiplies many times faster than integers.

    Args:
        weights: ``(outputs, inputs)``, values -1, 0, +1.
        inputs: ``(n, inputs)``, values -1, +1.

    Returns:
        ``(n, outputs)``: agreements minus disagreements, zero weights counting nothing.
    """
    return (inputs.astype(np.float32) @ weights.T.astype(np.float32)).astype(np.int32)


def classify(scores: NDArray[np.integer]) -> NDArray[np.int64]:
    """Class of each sample from its scores ``(n, classes)``; of equal scores the lowest class wins."""
    return cast(NDArray[np.int64], np.argmax(scores, axis=1).astype(np.int64))


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

    def __post_init__(self) -> None:
        """Check, and keep private read-only copies, so that a layer never changes after it was checked."""
        weights = checked_weights(self.weights)
        outputs, inputs = weights.shape
        if not 0 < inputs < MAX_INPUTS or outputs < 1:
            raise UserMistake(f"a layer of {outputs} outputs and {inputs} inputs cannot be summed exactly")
        arrays: dict[str, NDArray[np.integer]] = {
            "weights": weights,
            "sign": _checked_vector(self.sign, "sign", outputs, 1, np.int8),
            "threshold": _checked_vector(self.threshold, "threshold", outputs, MAX_THRESHOLD, np.int32),
        }
        for name, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def outputs(self) -> int:
        """Number of neurons: rows on the array."""
        return int(self.weights.shape[0])

    @property
    def inputs(self) -> int:
        """Number of inputs of each neuron: columns on the array."""
        return int(self.weights.shape[1])

    def sums(self, inputs: NDArray[np.int8]) -> NDArray[np.int32]:
        """Sums ``(n, outputs)`` of inputs ``(n, inputs)`` of -1 and +1; UserMistake for another width."""
        if inputs.ndim != 2 or inputs.shape[1] != self.inputs:
            raise UserMistake(f"inputs have the shape {inputs.shape}, expected (n, {self.inputs})")
        return exact_sums(self.weights, inputs)

    def activate(self, sums: NDArray[np.integer]) -> NDArray[np.int8]:
        """Hidden activations ``(n, outputs)``: +1 where ``sign * sums >= threshold``, else -1."""
        return np.where(self.sign * sums >= self.threshold, 1, -1).astype(np.int8)

    def scores(self, sums: NDArray[np.integer]) -> NDArray[np.int32]:
        """Scores ``(n, outputs)`` of a last layer: ``sign * sums - threshold``."""
        return (self.sign * sums - self.threshold).astype(np.int32)


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """Layers one after the other, the last of which scores the classes.

    Attributes:
        name: name of the architecture.
        encoding: how an image becomes the inputs of the first layer.
        layers: at least one.
        classes: number of classes.

    Raises:
        UserMistake: the layers do not chain.
    """

    name: str
    encoding: Encoding
    layers: tuple[IntegerLayer, ...]
    classes: int

    def __post_init__(self) -> None:
        """Check that each layer takes what the one before it gives."""
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise UserMistake("a network needs at least one layer")
        width, giver = self.encoding.width, "the encoding"
        for index, layer in enumerate(self.layers):
            if layer.inputs != width:
                raise UserMistake(f"layer {index} takes {layer.inputs} inputs but {giver} gives {width}")
            width, giver = layer.outputs, f"layer {index}"
        if width != self.classes:
            raise UserMistake(f"the last layer gives {width} scores for {self.classes} classes")

    def encode(self, images: NDArray[np.integer]) -> NDArray[np.int8]:
        """Inputs ``(n, width)`` of the first layer for images ``(n, features)``."""
        return self.encoding.encode(images)

    def scores(self, images: NDArray[np.integer]) -> NDArray[np.int32]:
        """Scores ``(n, classes)`` of images ``(n, features)``."""
        x = self.encode(images)
        for layer in self.layers[:-1]:
            x = layer.activate(layer.sums(x))
        last = self.layers[-1]
        return last.scores(last.sums(x))

    def predict(self, images: NDArray[np.integer]) -> NDArray[np.int64]:
        """Class of each image ``(n, features)``; of equal scores the lowest class wins."""
        return classify(self.scores(images))

    def accuracy(self, images: NDArray[np.integer], labels: NDArray[np.integer]) -> float:
        """Share of the images whose predicted class is their label."""
        return float(np.mean(self.predict(images) == labels))

    def with_weights(self, weights: Sequence[Weights]) -> IntegerNetwork:
        """The same network with other weights, one array per layer: what an array read back, for instance."""
        layers = (replace(layer, weights=own) for layer, own in zip(self.layers, weights, strict=True))
        return replace(self, layers=tuple(layers))
