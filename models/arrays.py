"""The thin seam between equations and the library that runs them: NumPy for the bench, torch for training.

Equations of a device population are written once, on :class:`Arrays`. Operators and indexing of the arrays themselves
are used as they are, since NumPy and torch agree on them; what they do not agree on is a method here. Random draws come
from the generator that the caller passes in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from models.exceptions import UserMistake

if TYPE_CHECKING:
    import torch

Array = Any
"""A numpy.ndarray or a torch.Tensor, as the :class:`Arrays` in use makes them."""


class Arrays(Protocol):
    """What the equations need beyond the operators of the arrays."""

    def uniform(self, shape: Sequence[int]) -> Array:
        """Draw uniform numbers in [0, 1)."""

    def normal(self, shape: Sequence[int]) -> Array:
        """Draw standard normal numbers."""

    def full(self, shape: Sequence[int], value: float) -> Array:
        """An array of floats that are all ``value``."""

    def vector(self, values: Sequence[float]) -> Array:
        """An array of floats with these values."""

    def counts(self, values: object, shape: Sequence[int]) -> Array:
        """``values`` as whole numbers >= 0 broadcast to ``shape``.

        Raises:
            UserMistake: they are not whole, negative, or do not broadcast to the shape.
        """

    def exp(self, x: Array) -> Array:
        """Exponential."""

    def expm1(self, x: Array) -> Array:
        """Exponential less one, exact for small arguments."""

    def log(self, x: Array) -> Array:
        """Natural logarithm."""

    def log1p(self, x: Array) -> Array:
        """Natural logarithm of one plus the argument, exact for small arguments."""

    def sqrt(self, x: Array) -> Array:
        """Square root."""

    def where(self, condition: Array, x: Array | float, y: Array | float) -> Array:
        """``x`` where the condition holds, ``y`` elsewhere."""

    def minimum(self, x: Array, limit: float) -> Array:
        """The smaller of each element and ``limit``."""

    def maximum(self, x: Array, limit: float) -> Array:
        """The larger of each element and ``limit``."""

    def roll_in(self, register: Array, places: Array, fresh: Array) -> Array:
        """Shift each register (last axis) by its own number of places to the right and fill up with ``fresh``."""


class NumpyArrays:
    """Arrays of float64 in NumPy.

    Args:
        generator: where every random draw comes from.
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.exp, self.expm1, self.log, self.log1p, self.sqrt = np.exp, np.expm1, np.log, np.log1p, np.sqrt
        self.where, self.minimum, self.maximum = np.where, np.minimum, np.maximum

    def uniform(self, shape: Sequence[int]) -> Array:
        """Draw uniform numbers in [0, 1)."""
        return self.generator.random(tuple(shape))

    def normal(self, shape: Sequence[int]) -> Array:
        """Draw standard normal numbers."""
        return self.generator.standard_normal(tuple(shape))

    def full(self, shape: Sequence[int], value: float) -> Array:
        """An array of floats that are all ``value``."""
        return np.full(tuple(shape), value, dtype=np.float64)

    def vector(self, values: Sequence[float]) -> Array:
        """An array of floats with these values."""
        return np.asarray(values, dtype=np.float64)

    def counts(self, values: object, shape: Sequence[int]) -> Array:
        """``values`` as whole numbers >= 0 of the shape; raises UserMistake otherwise."""
        array = np.asarray(values)
        _check_counts(np.issubdtype(array.dtype, np.integer), array, tuple(array.shape), tuple(shape))
        return np.broadcast_to(array, tuple(shape))

    def roll_in(self, register: Array, places: Array, fresh: Array) -> Array:
        """Shift each register to the right by its own places and fill up with ``fresh``."""
        source = np.arange(register.shape[-1]) - places[..., None]
        return np.where(source >= 0, np.take_along_axis(register, np.maximum(source, 0), axis=-1), fresh)


class TorchArrays:
    """Arrays of float32 (or another floating type) in torch, on the generator's device.

    Args:
        generator: where every random draw comes from; its device is where the arrays live.
        dtype: floating type; float32 when None.
    """

    def __init__(self, generator: torch.Generator, dtype: torch.dtype | None = None) -> None:
        import torch  # here, so that the NumPy path does not pay for it

        self._torch = torch
        self.generator = generator
        self._options: dict[str, Any] = {
            "device": generator.device,
            "dtype": torch.float32 if dtype is None else dtype,
        }
        self.exp, self.expm1, self.sqrt, self.where = torch.exp, torch.expm1, torch.sqrt, torch.where
        self.log, self.log1p = torch.log, torch.log1p

    def uniform(self, shape: Sequence[int]) -> Array:
        """Draw uniform numbers in [0, 1)."""
        return self._torch.rand(tuple(shape), generator=self.generator, **self._options)

    def normal(self, shape: Sequence[int]) -> Array:
        """Draw standard normal numbers."""
        return self._torch.randn(tuple(shape), generator=self.generator, **self._options)

    def full(self, shape: Sequence[int], value: float) -> Array:
        """An array of floats that are all ``value``."""
        return self._torch.full(tuple(shape), value, **self._options)

    def vector(self, values: Sequence[float]) -> Array:
        """An array of floats with these values."""
        return self._torch.tensor(list(values), **self._options)

    def counts(self, values: object, shape: Sequence[int]) -> Array:
        """``values`` as whole numbers >= 0 of the shape; raises UserMistake otherwise."""
        array = self._torch.as_tensor(values, device=self._options["device"])
        whole = not array.is_floating_point() and not array.is_complex() and array.dtype != self._torch.bool
        _check_counts(whole, array, tuple(array.shape), tuple(shape))
        return array.expand(tuple(shape))

    def minimum(self, x: Array, limit: float) -> Array:
        """The smaller of each element and ``limit``."""
        return self._torch.clamp(x, max=limit)

    def maximum(self, x: Array, limit: float) -> Array:
        """The larger of each element and ``limit``."""
        return self._torch.clamp(x, min=limit)

    def roll_in(self, register: Array, places: Array, fresh: Array) -> Array:
        """Shift each register to the right by its own places and fill up with ``fresh``."""
        source = self._torch.arange(register.shape[-1], device=register.device) - places[..., None]
        return self._torch.where(source >= 0, register.gather(-1, source.clamp(min=0)), fresh)


def _check_counts(whole: bool, array: Array, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if not whole:
        raise UserMistake(f"pulse counts must be whole numbers, not {array.dtype}")
    fits = len(shape) <= len(wanted) and all(
        have in (1, want) for have, want in zip(reversed(shape), reversed(wanted), strict=False)
    )
    if not fits:
        raise UserMistake(f"pulse counts have the shape {shape}, expected {wanted}")
    if bool((array < 0).any()):
        raise UserMistake("pulse counts must be 0 or more")


# Rational approximations of Wichura, Applied Statistics 37, 477 (1988), algorithm AS 241, numerators then denominators,
# highest power first: relative error below 1e-15 for probabilities above 1.4e-11.
# fmt: off
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)
_TAIL = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)
# fmt: on
_SMALLEST = 1.4e-11


def normal_quantile(arrays: Arrays, probability: Array) -> Array:
    """Quantile of the standard normal distribution.

    Probabilities closer than 1.4e-11 to 0 or 1 (6.7 standard deviations) answer as if they were that far away.
    """
    centred = probability - 0.5
    r = 0.180625 - centred * centred
    middle = centred * _polynomial(_CENTRE[0], r) / _polynomial(_CENTRE[1], r)
    smaller = arrays.where(centred < 0, probability, 1.0 - probability)
    # Only beyond the middle range is the tail's value kept; its argument is held where the logarithm exists.
    s = arrays.sqrt(-arrays.log(arrays.minimum(arrays.maximum(smaller, _SMALLEST), 0.5))) - 1.6
    tail = _polynomial(_TAIL[0], s) / _polynomial(_TAIL[1], s)
    return arrays.where(r >= 0.0, middle, arrays.where(centred < 0, -tail, tail))


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    value = x * 0.0 + coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
