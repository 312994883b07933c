"""What a setter is to the campaign: how to set, how to read back, and what is allowed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from drivers.scpi_settings import Setting

ROUNDING = 1e-6
"""Part of a resolution that is left to binary rounding, as in the drivers."""

NO_NUMBERS: tuple[Any, ...] = (
    *(math.nan, math.inf, -math.inf, np.float64("nan"), np.float32("inf")),
    *(True, False, np.True_, None, "1", "1.0", "MAX", "", b"1", 1 + 0j, 1j),
    *([1.0], (1.0,), {}, np.array([1.0, 2.0]), np.array(1.0), Decimal(1), object()),
    *(10**400, -(10**400), Fraction(10**400)),
)
"""What no setter of a number may take: not finite, not a number, a bool, or too large for one."""

NO_SWITCHES: tuple[Any, ...] = (0, 1, 1.0, -0.0, math.nan, None, "1", "ON", "off", "", b"1", [True], np.True_, object())
NO_CHOICES: tuple[Any, ...] = (0.0, math.nan, None, "", "NORM", b"NORM", True, False, object(), [1], 99, -1)
ZEROS: tuple[Any, ...] = (0, 0.0, -0.0, np.float32(-0.0), np.int64(0), Fraction(0))


@dataclass(frozen=True)
class Numbers:
    """Numbers from ``low`` to ``high`` that read back within ``step`` of a value.

    Attributes:
        decades: values are drawn evenly over the decades.
    """

    low: float
    high: float
    step: Callable[[float], float] = lambda value: 0.0
    whole: bool = False
    decades: bool = False

    def bad(self) -> Iterator[Any]:
        """Whatever must be refused."""
        yield from NO_NUMBERS
        if self.whole:
            yield self.low + 0.5
        span = self.high - self.low
        for part in (1e-6, 0.01, 1.0, 1e6):
            reach = max(1.0, part * span) if self.whole else part * span
            for value in (self.high + reach, self.low - reach):
                yield round(value) if self.whole else value
        yield from (1e300, -1e300)
        if self.low > 0:
            yield from (0, 0.0, -0.0, 5e-324, -self.low, self.low * (1 - 1e-6) if not self.whole else 0)

    def draw(self, rng: np.random.Generator) -> float | int:
        """A value that must be taken; the ends of the range come up, too."""
        if rng.random() < 0.02:
            value = float(rng.choice([self.low, self.high]))
        elif self.decades:
            value = float(np.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        else:
            value = float(rng.uniform(self.low, self.high))
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value

    def same(self, wanted: Any, got: Any) -> bool:
        """Tell whether a read-back is what was set, within the resolution."""
        return abs(float(got) - float(wanted)) <= self.step(float(wanted)) * (1 + ROUNDING)


@dataclass(frozen=True)
class FullScales(Numbers):
    """Numbers of which the instrument takes the lowest of its full scales that holds them.

    Attributes:
        scales: in ascending order.
        overrange: how far each reaches, as a multiple of itself.
    """

    scales: Sequence[float] = ()
    overrange: float = 1.0

    def same(self, wanted: Any, got: Any) -> bool:
        """Tell whether it is that full scale."""
        holding = next((full for full in self.scales if abs(wanted) <= full * self.overrange), self.scales[-1])
        return abs(float(got) - holding) <= ROUNDING * holding


class OneOf:
    """A few values."""

    def __init__(self, *values: Any) -> None:
        self._values = values

    def draw(self, rng: np.random.Generator) -> Any:
        """One of them."""
        return self._values[int(rng.integers(len(self._values)))]

    def same(self, wanted: Any, got: Any) -> bool:
        """Tell whether a read-back is what was set."""
        if isinstance(wanted, tuple):
            return bool(got == wanted)
        return got is wanted or (isinstance(wanted, float) and abs(got - wanted) <= ROUNDING * abs(wanted))


@dataclass(frozen=True)
class Switch:
    """True or False."""

    def bad(self) -> Iterator[Any]:
        """Whatever must be refused."""
        yield from NO_SWITCHES

    def draw(self, rng: np.random.Generator) -> bool:
        """One of the two."""
        return bool(rng.integers(2))

    def same(self, wanted: Any, got: Any) -> bool:
        """Tell whether a read-back is what was set."""
        return wanted is got


@dataclass(frozen=True)
class Choices:
    """A member of an enum."""

    kind: type[Enum]
    bad_too: tuple[Any, ...] = ()

    def bad(self) -> Iterator[Any]:
        """Whatever must be refused."""
        yield from NO_CHOICES
        yield from self.bad_too

    def draw(self, rng: np.random.Generator) -> Enum:
        """One of its members."""
        return list(self.kind)[int(rng.integers(len(self.kind)))]

    def same(self, wanted: Any, got: Any) -> bool:
        """Tell whether a read-back is what was set."""
        return wanted is got


@dataclass(frozen=True)
class Only:
    """An argument that is no plain value: what must be refused is listed."""

    refused: tuple[Any, ...]

    def bad(self) -> Iterator[Any]:
        """Whatever must be refused."""
        yield from self.refused


@dataclass(frozen=True)
class Setter:
    """One argument of one setter.

    Attributes:
        name: of the attribute or method; ``label`` tells its arguments apart.
        put: sets a value.
        allowed: what it takes.
        get: reads back what the instrument has now; None where there is nothing to read.
        drawn: what random values are drawn from, where other settings leave less than ``allowed``.
        prepare: brings the instrument to where all of ``drawn`` can be set.
        volts: at the terminals; given where a setting of 0 means 0 V there.
        taken_too: values among the bad ones that this setter documents as allowed.
    """

    name: str
    put: Callable[[Any], object]
    allowed: Numbers | Switch | Choices | Only
    get: Callable[[], Any] | None = None
    label: str = ""
    drawn: Numbers | OneOf | None = None
    prepare: Callable[[], object] = lambda: None
    volts: Callable[[], float] | None = None
    taken_too: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}({self.label})" if self.label else self.name

    def bad(self) -> Iterator[Any]:
        """Whatever must be refused."""
        for value in self.allowed.bad():
            if not any(value is taken or (type(value) is type(taken) and value == taken) for taken in self.taken_too):
                yield value

    @property
    def values(self) -> Numbers | OneOf | Switch | Choices | None:
        """What random values are drawn from."""
        if self.drawn is not None:
            return self.drawn
        return None if isinstance(self.allowed, Only) else self.allowed


class FarEnd(Protocol):
    """What the far end of a driver's wire has got."""

    def received(self) -> int:
        """Bytes, since the beginning; all that was sent before is counted."""

    def last(self) -> bytes:
        """The last message that set something."""


@dataclass(frozen=True)
class Stand:
    """A driver on the wire of its simulated instrument.

    Attributes:
        driver: the driver.
        parts: objects that hold further settings, e.g. a channel.
        setters: all arguments of all setters.
        far_end: of its wire.
        reading: public methods that set nothing although they have arguments.
    """

    driver: Any
    parts: tuple[Any, ...]
    setters: list[Setter]
    far_end: FarEnd
    reading: frozenset[str] = frozenset()

    def uncovered(self) -> list[str]:
        """Public settings, and public methods with arguments, that no setter of the table stands for."""
        covered = {setter.name for setter in self.setters} | self.reading
        found = (name for thing in (self.driver, *self.parts) for name in _settable(type(thing)))
        return sorted(set(found) - covered)


def _settable(kind: type) -> Iterable[str]:
    for name, part in inspect.getmembers_static(kind):
        if name.startswith(("_", "check_")):  # a check sets nothing
            continue
        takes = inspect.isfunction(part) and len(inspect.signature(part).parameters) > 1
        settable = isinstance(part, property) and part.fset is not None
        if isinstance(part, Setting) or takes or settable:
            yield name
