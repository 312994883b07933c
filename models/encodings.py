"""How an image or a signal becomes the inputs of the first layer.

All encodings but the real one give whole numbers, so that everything behind them is exact. An encoding of magnitude 1
gives -1 and +1; one of several planes gives the odd numbers that ``sum 2^k s_k`` of +1/-1 planes ``s_k`` can take: an
array answers plane by plane, and the sums are weighted and added.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from models.exceptions import UserMistake

MAX_GREY_LEVEL = 2**30
"""Largest magnitude of a grey level that an image is compared with."""


class Encoding(Protocol):
    """How an image becomes the inputs of the first layer."""

    kind: ClassVar[str]

    @property
    def features(self) -> int:
        """Numbers in one image."""

    @property
    def width(self) -> int:
        """Number of inputs that one image becomes: ``features`` times the inputs of each."""

    @property
    def planes(self) -> int:
        """Planes ``s_k`` of -1 and +1 in each input ``sum 2^k s_k``; 0 where inputs are real."""

    @property
    def presentations(self) -> int:
        """How often an image is presented, each time encoded anew; the scores are added."""

    def encode(self, images: NDArray[np.generic], presentation: int = 0) -> NDArray[np.generic]:
        """Images ``(n, features)`` to inputs ``(n, width)``: int8 for one plane, int32 for more."""


def magnitude(encoding: Encoding) -> int:
    """Largest input that an encoding of whole numbers gives; 1 for -1 and +1."""
    return (1 << encoding.planes) - 1


def presented(encoding: Encoding, images: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    """The inputs ``(n, width)`` of every presentation of images ``(n, features)``."""
    return (encoding.encode(images, presentation) for presentation in range(encoding.presentations))


@dataclass(frozen=True)
class ThermometerEncoding:
    """One input per pixel and threshold: +1 where the pixel is at or above the threshold, else -1.

    The inputs are ordered threshold by threshold: first all pixels against the lowest, and so on. Images of several
    channels so become images of ``channels * len(thresholds)`` channels.

    Attributes:
        features: pixels of an image.
        thresholds: grey levels, rising.
    """

    features: int
    thresholds: tuple[int, ...]

    kind: ClassVar[str] = "thermometer"
    planes: ClassVar[int] = 1
    presentations: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Raise UserMistake where the thresholds are missing or do not rise."""
        if self.features < 1 or not self.thresholds:
            raise UserMistake("a thermometer encoding needs at least one pixel and one threshold")
        if any(low >= high for low, high in pairwise(self.thresholds)):
            raise UserMistake(f"thermometer thresholds {self.thresholds} do not rise")
        if max(map(abs, self.thresholds)) > MAX_GREY_LEVEL:
            raise UserMistake(f"thermometer thresholds {self.thresholds} must lie within +-{MAX_GREY_LEVEL}")

    @property
    def width(self) -> int:
        """Number of inputs that one image becomes."""
        return self.features * len(self.thresholds)

    def encode(self, images: NDArray[np.generic], presentation: int = 0) -> NDArray[np.int8]:
        """Images ``(n, features)`` of whole grey levels to inputs ``(n, width)`` of -1 and +1.

        Raises:
            UserMistake: images of another size, or not of an integer type.
        """
        pixels = _whole_images(images, self.features)
        above = pixels[:, None, :] >= np.asarray(self.thresholds)[:, None]
        return np.where(above, 1, -1).astype(np.int8).reshape(len(pixels), self.width)


@dataclass(frozen=True)
class BitPlaneEncoding:
    """Grey levels as they are, centred: a pixel p of b bits becomes ``2 p - (2^b - 1)``, an odd number.

    Bit k of p, written as -1 or +1, counts ``2^k`` in it: b planes that an array takes one after the other.

    Attributes:
        features: pixels of an image.
        bits: of a grey level, 1 to 8.
    """

    features: int
    bits: int = 8

    kind: ClassVar[str] = "bit-planes"
    presentations: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Raise UserMistake for no pixels or another number of bits."""
        if self.features < 1 or not 1 <= self.bits <= 8:
            raise UserMistake(f"bit planes of {self.features} pixels of {self.bits} bits: expected 1 or more, 1 to 8")

    @property
    def width(self) -> int:
        """Number of inputs that one image becomes."""
        return self.features

    @property
    def planes(self) -> int:
        """Planes of -1 and +1."""
        return self.bits

    def encode(self, images: NDArray[np.generic], presentation: int = 0) -> NDArray[np.integer]:
        """Images ``(n, features)`` of grey levels to centred inputs ``(n, width)``.

        Raises:
            UserMistake: images of another size, not of an integer type, or with levels out of range.
        """
        pixels = _whole_images(images, self.features)
        top = (1 << self.bits) - 1
        _check_levels(pixels, top)
        return (2 * pixels.astype(np.int32) - top).astype(np.int8 if self.bits == 1 else np.int32)


@dataclass(frozen=True)
class StochasticEncoding:
    """Random inputs: +1 with the probability ``pixel / top``, else -1, drawn anew for every presentation.

    The whole network sees an image ``presentations`` times, and the scores are added up (Hirtzlin et al., IEEE Access
    2019). The draws belong to ``seed`` and the place of an image in the batch, as those of a shift register that starts
    from a fixed state do.

    Attributes:
        features: pixels of an image.
        top: grey level that is +1 for certain.
        presentations: how often an image is presented.
        seed: of the draws.
    """

    features: int
    top: int = 255
    presentations: int = 8
    seed: int = 0

    kind: ClassVar[str] = "stochastic"
    planes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Raise UserMistake for numbers below 1."""
        if min(self.features, self.top, self.presentations) < 1 or self.seed < 0:
            raise UserMistake(
                f"stochastic inputs of {self.features} pixels up to {self.top}, {self.presentations} presentations, "
                f"seed {self.seed}: expected at least 1 of each, and a seed of 0 or more"
            )

    @property
    def width(self) -> int:
        """Number of inputs that one image becomes."""
        return self.features

    def encode(self, images: NDArray[np.generic], presentation: int = 0) -> NDArray[np.int8]:
        """Images ``(n, features)`` of grey levels to inputs ``(n, width)`` of -1 and +1.

        Raises:
            UserMistake: images of another size, not of an integer type, or with levels out of range.
        """
        pixels = _whole_images(images, self.features)
        _check_levels(pixels, self.top)
        drawn = np.random.default_rng([self.seed, presentation]).integers(self.top, size=pixels.shape)
        return np.where(drawn < pixels, 1, -1).astype(np.int8)


@dataclass(frozen=True)
class RealEncoding:
    """Real inputs ``gain * (value - centre)``, for a first layer that stays real; such a network is not folded.

    Attributes:
        features: numbers in one image or signal.
        centre, gain: of the scaling.
    """

    features: int
    centre: float = 0.0
    gain: float = 1.0

    kind: ClassVar[str] = "real"
    planes: ClassVar[int] = 0
    presentations: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Raise UserMistake for no features or a scaling that is not finite."""
        if self.features < 1 or not (math.isfinite(self.centre) and math.isfinite(self.gain) and self.gain != 0.0):
            raise UserMistake(f"real inputs of {self.features} features, centre {self.centre}, gain {self.gain}")

    @property
    def width(self) -> int:
        """Number of inputs that one image becomes."""
        return self.features

    def encode(self, images: NDArray[np.generic], presentation: int = 0) -> NDArray[np.float32]:
        """Images or signals ``(n, features)`` to inputs ``(n, width)``; UserMistake for another size."""
        values = _sized(images, self.features)
        return (np.float32(self.gain) * (values.astype(np.float32) - np.float32(self.centre))).astype(np.float32)


def _sized(images: NDArray[np.generic], features: int) -> NDArray[np.generic]:
    pixels = np.asarray(images)
    if pixels.ndim != 2 or pixels.shape[1] != features:
        raise UserMistake(f"images have the shape {pixels.shape}, expected (n, {features})")
    return pixels


def _whole_images(images: NDArray[np.generic], features: int) -> NDArray[np.integer]:
    pixels = _sized(images, features)
    if not np.issubdtype(pixels.dtype, np.integer):
        raise UserMistake(f"images hold {pixels.dtype}, expected whole grey levels")
    return pixels.view()  # type: ignore[return-value]


def _check_levels(pixels: NDArray[np.integer], top: int) -> None:
    if pixels.size and (pixels.min() < 0 or pixels.max() > top):
        raise UserMistake(f"images hold grey levels from {pixels.min()} to {pixels.max()}, expected 0 to {top}")


_KINDS: Mapping[str, type[Any]] = {
    encoding.kind: encoding for encoding in (ThermometerEncoding, BitPlaneEncoding, StochasticEncoding, RealEncoding)
}


def plain_encoding(encoding: Encoding) -> dict[str, Any]:
    """An encoding as plain data, as :func:`encoding_from` takes it."""
    values = {item.name: getattr(encoding, item.name) for item in fields(_KINDS[encoding.kind])}
    return {
        "kind": encoding.kind,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in values.items()},
    }


def encoding_from(plain: Mapping[str, Any]) -> Encoding:
    """An encoding of plain data, ``{"kind": ..., field: number or numbers, ...}``.

    Raises:
        UserMistake: an unknown kind, or fields that are missing, too many or of another type.
    """
    given = dict(plain)
    kind = given.pop("kind", None)
    if type(kind) is not str:
        raise UserMistake("the encoding lacks 'kind'")
    if kind not in _KINDS:
        raise UserMistake(f"the encoding {kind!r} is unknown; supported: {', '.join(_KINDS)}")
    wanted = {item.name: item.type for item in fields(_KINDS[kind])}
    if set(given) != set(wanted):
        raise UserMistake(f"the encoding {kind!r} has the fields {sorted(given)}, expected {sorted(wanted)}")
    for name, value in given.items():
        if wanted[name] == "tuple[int, ...]":
            if not isinstance(value, (list, tuple)) or not all(type(item) is int for item in value):
                raise UserMistake(f"the encoding's {name} {value} are not whole numbers")
            given[name] = tuple(value)
        elif type(value) is not int and (wanted[name] == "int" or type(value) is not float):
            raise UserMistake(f"the encoding: {name!r} is {value!r}, expected a number of the type {wanted[name]}")
    encoding: Encoding = _KINDS[kind](**given)
    return encoding
