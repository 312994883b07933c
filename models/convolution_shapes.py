"""Sizes of convolutions and pooling in one and two dimensions: shared by training, integers and packed bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from models.exceptions import UserMistake


class PaddingValue(StrEnum):
    """What stands beyond the edges: -1 in every plane, as hardware pads, or nothing that counts."""

    MINUS = "minus"
    ZERO = "zero"


class PoolKind(StrEnum):
    """The largest sum of a window, or all of them added (the mean, but for a factor that batch norm takes up)."""

    MAX = "max"
    SUM = "sum"


@dataclass(frozen=True)
class Pool:
    """Pooling of the sums, before batch normalisation; windows that would reach over the edge are left out.

    Attributes:
        kind: what becomes of a window.
        size: of a window, per dimension.
        stride: from window to window; ``size`` when empty.
    """

    kind: PoolKind
    size: tuple[int, ...]
    stride: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Complete the stride; raise UserMistake for sizes that cannot be."""
        object.__setattr__(self, "kind", PoolKind(self.kind))
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "stride", tuple(self.stride) if self.stride else self.size)
        if len(self.size) not in (1, 2) or len(self.stride) != len(self.size) or min(self.size + self.stride) < 1:
            raise UserMistake(f"pooling of the size {self.size} and the stride {self.stride} is refused")

    @property
    def added(self) -> int:
        """Sums that are added up in one window."""
        return math.prod(self.size) if self.kind is PoolKind.SUM else 1

    def output_size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Size of what a map of ``size`` becomes; UserMistake where no window fits."""
        if len(size) != len(self.size) or any(have < window for have, window in zip(size, self.size, strict=True)):
            raise UserMistake(f"pooling windows of {self.size} do not fit a map of {size}")
        return tuple((n - k) // s + 1 for n, k, s in zip(size, self.size, self.stride, strict=True))


@dataclass(frozen=True)
class ConvolutionShape:
    """A convolution in one or two dimensions (a correlation, as everybody's): size of everything.

    Attributes:
        channels: of the input.
        size: of the input map: (length,) or (height, width).
        filters: output channels.
        kernel: size of the window.
        stride, padding: per dimension; 1 and 0 when empty.
        groups: channels and filters are dealt out to groups that do not see each other; as many groups as channels
            make a depth-wise convolution.
        padding_value: what stands beyond the edges.
    """

    channels: int
    size: tuple[int, ...]
    filters: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    groups: int = 1
    padding_value: PaddingValue = PaddingValue.MINUS

    def __post_init__(self) -> None:
        """Complete stride and padding; raise UserMistake for sizes that cannot be."""
        dims = len(self.size)
        for name, missing in (("size", ()), ("kernel", ()), ("stride", (1,) * dims), ("padding", (0,) * dims)):
            given = tuple(getattr(self, name))
            object.__setattr__(self, name, given if given else missing)
        object.__setattr__(self, "padding_value", PaddingValue(self.padding_value))
        if dims not in (1, 2) or any(len(part) != dims for part in (self.kernel, self.stride, self.padding)):
            raise UserMistake(
                f"a convolution of the size {self.size}, kernel {self.kernel}, stride {self.stride} and padding "
                f"{self.padding}: expected one or two numbers in each"
            )
        numbers = (self.channels, self.filters, self.groups, *self.size, *self.kernel, *self.stride)
        if min(numbers) < 1 or min(self.padding) < 0:
            raise UserMistake(f"a convolution needs sizes of at least 1 and paddings of at least 0: {self}")
        if self.channels % self.groups or self.filters % self.groups:
            raise UserMistake(
                f"{self.channels} channels and {self.filters} filters cannot be dealt out to {self.groups} groups"
            )
        if min(self.output_size) < 1:
            raise UserMistake(f"a kernel of {self.kernel} does not fit a map of {self.size} padded by {self.padding}")

    @property
    def dims(self) -> int:
        """1 or 2."""
        return len(self.size)

    @property
    def output_size(self) -> tuple[int, ...]:
        """Size of the output map."""
        rows = zip(self.size, self.kernel, self.stride, self.padding, strict=True)
        return tuple((n + 2 * pad - k) // step + 1 for n, k, step, pad in rows)

    @property
    def positions(self) -> int:
        """Number of places that the window takes."""
        return math.prod(self.output_size)

    @property
    def inputs(self) -> int:
        """Numbers in the input, ``channels`` times its size."""
        return self.channels * math.prod(self.size)

    @property
    def fan_in(self) -> int:
        """Inputs of one filter: columns of its matrix, channel by channel and row by row of the window."""
        return self.channels // self.groups * math.prod(self.kernel)
