"""How often cells err, with what is not known of it: rates of a population, and what was counted on one chip."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.cells import Weights
from models.exceptions import UserMistake
from models.weight_errors import WeightErrorRates

Counts = NDArray[np.integer] | NDArray[np.floating]
Places = tuple[NDArray[np.integer], NDArray[np.integer]]

_CONCENTRATIONS = np.geomspace(0.3, 1e6, 60)
_MEANS = 80


class Rate(Protocol):
    """An error rate that is known with an uncertainty."""

    def sample(self, rng: np.random.Generator) -> float:
        """One plausible value, between 0 and 1."""


@dataclass(frozen=True)
class CountedRate:
    """A rate known from ``errors`` among ``trials``: Beta(errors + 1/2, trials - errors + 1/2), Jeffreys' posterior."""

    errors: int
    trials: int

    def __post_init__(self) -> None:
        """Raise UserMistake for impossible counts."""
        if not 0 <= self.errors <= self.trials or self.trials < 1:
            raise UserMistake(f"{self.errors} errors among {self.trials} trials give no rate")

    def sample(self, rng: np.random.Generator) -> float:
        """One draw from the posterior."""
        return float(rng.beta(self.errors + 0.5, self.trials - self.errors + 0.5))


BOUND_DEVIATE = 1.959964
"""The bounds of the central 95 % in standard deviations."""


@dataclass(frozen=True)
class EstimatedRate:
    """A rate known by its median and the bounds of its central 95 %.

    Between these three, and beyond them for no longer than as long again and within 0 to 1, the square root is linear
    in the normal deviate: that is how the posterior of a count behaves, also of none, whose mean would otherwise come
    out too high by half.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        """Raise UserMistake for anything but 0 <= low <= value <= high <= 1 (which also refuses NaN)."""
        if not 0.0 <= self.low <= self.value <= self.high <= 1.0:
            raise UserMistake(
                f"error rate {self.value} with bounds {self.low} to {self.high}; "
                "expected 0 <= low <= value <= high <= 1"
            )

    def sample(self, rng: np.random.Generator) -> float:
        """One draw by inversion of the interpolated quantiles."""
        deviate = float(rng.standard_normal()) / BOUND_DEVIATE
        bound = self.low if deviate < 0.0 else self.high
        root = math.sqrt(self.value) + abs(deviate) * (math.sqrt(bound) - math.sqrt(self.value))
        lowest, highest = max(0.0, 2 * self.low - self.value), min(1.0, 2 * self.high - self.value)
        return min(max(max(root, 0.0) ** 2, lowest), highest)


@dataclass(frozen=True)
class ReadErrorRates:
    """The error model of an array.

    Rates of loss and gain are of a chip that tells a zero from -1 and +1. Where they are given, the rates of ``random``
    and ``transient`` are of the opposite sign alone (type 1).

    Attributes:
        stuck_fraction: share of cells that always read the same sign.
        random_rate: chance that a weight was left programmed with the wrong sign.
        transient_rate: chance that one sense answers the wrong sign.
        fixed_rate: chance that a cell answers every input with its weight, in XNOR alone.
        random_loss, random_gain: chance that a weight was left programmed as 0 (type 2), a 0 as -1 or +1 (type 3).
        transient_loss, transient_gain: chance that one sense of a weight answers 0, that of a 0 answers -1 or +1.
        turned_noise: chance that one sense of a 0 with an input of -1 answers -1 or +1, in XNOR alone.
    """

    stuck_fraction: Rate
    random_rate: Rate
    transient_rate: Rate
    fixed_rate: Rate = EstimatedRate(0.0, 0.0, 0.0)
    random_loss: Rate | None = None
    random_gain: Rate | None = None
    transient_loss: Rate | None = None
    transient_gain: Rate | None = None
    turned_noise: Rate | None = None

    @property
    def tells_zeros(self) -> bool:
        """The rates of zeros are known, so that a ternary network can be predicted."""
        return None not in (self.random_loss, self.random_gain, self.transient_loss, self.transient_gain)

    def sample(self, rng: np.random.Generator) -> SampledRates:
        """One plausible set of rates."""
        drawn: dict[str, float] = {}
        for item in fields(self):
            rate: Rate | None = getattr(self, item.name)
            drawn[item.name] = 0.0 if rate is None else rate.sample(rng)
        return SampledRates(**drawn)


@dataclass(frozen=True)
class SampledRates:
    """One draw of :class:`ReadErrorRates`."""

    stuck_fraction: float
    random_rate: float
    transient_rate: float
    fixed_rate: float = 0.0
    random_loss: float = 0.0
    random_gain: float = 0.0
    transient_loss: float = 0.0
    transient_gain: float = 0.0
    turned_noise: float = 0.0

    @property
    def random(self) -> WeightErrorRates:
        """Of programming."""
        return WeightErrorRates(self.random_rate, self.random_loss, self.random_gain)

    @property
    def transient(self) -> WeightErrorRates:
        """Of a sense."""
        return WeightErrorRates(self.transient_rate, self.transient_loss, self.transient_gain)


@dataclass(frozen=True, eq=False)
class Counted:
    """Errors counted cell by cell, and the population of rates that the cells come from.

    The rates of the cells follow a beta distribution. How it lies is judged from all cells together (its mean and its
    concentration on a grid, with Jeffreys' prior on a mean that is small), so that a cell that never erred in a few
    senses has no rate of zero, and one that erred once does not err every tenth time.

    Attributes:
        wrong: ``(rows, cols)`` errors of each cell; fractions where they are means.
        senses: ``(rows, cols)`` senses of each cell; 0 where none tells.

    Raises:
        UserMistake: shapes that differ, impossible counts, or no sense at all.
    """

    wrong: Counts
    senses: Counts

    def __post_init__(self) -> None:
        """Check."""
        if self.wrong.ndim != 2 or self.wrong.shape != self.senses.shape:
            raise UserMistake(f"errors {self.wrong.shape} and senses {self.senses.shape} are not of the same cells")
        if (self.wrong < 0).any() or (self.wrong > self.senses).any() or not self.senses.any():
            raise UserMistake(
                "counted errors must be 0 or more and no more than the senses, of which there must be some"
            )

    @cached_property
    def _population(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Means and concentrations ``(grid, 2)``, and the probability of each."""
        from scipy.special import betaln

        pairs, cells = np.unique(
            np.stack([self.wrong.ravel(), self.senses.ravel()], axis=1), axis=0, return_counts=True
        )
        errors, trials = pairs.T.astype(np.float64)
        means = np.geomspace(0.01 / float(self.senses.sum()), 0.5, _MEANS)
        grid = np.stack(np.meshgrid(means, _CONCENTRATIONS, indexing="ij"), axis=-1).reshape(-1, 2)
        a, b = (grid[:, 0] * grid[:, 1])[:, None], ((1.0 - grid[:, 0]) * grid[:, 1])[:, None]
        each = betaln(a + errors, b + trials - errors) - betaln(a, b)
        log_posterior = each @ cells.astype(np.float64) + 0.5 * np.log(grid[:, 0])
        posterior = np.exp(log_posterior - log_posterior.max())
        return grid, posterior / posterior.sum()

    def sample(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """One plausible rate for each cell ``(rows, cols)``."""
        grid, posterior = self._population
        mean, concentration = grid[rng.choice(len(grid), p=posterior)]
        own = concentration * mean + self.wrong, concentration * (1.0 - mean) + self.senses - self.wrong
        return np.asarray(rng.beta(*own))


@dataclass(frozen=True, eq=False)
class CellErrors:
    """Errors of the cells of one chip by type.

    Attributes:
        inverted: weights that answered the opposite sign (type 1), among weights of -1 and +1.
        lost: the same that answered 0 (type 2); None where that is not counted.
        gained: zeros that answered -1 or +1 (type 3), among zeros; None where a chip is not asked for zeros.

    Raises:
        UserMistake: maps of different sizes.
    """

    inverted: Counted
    lost: Counted | None = None
    gained: Counted | None = None

    def __post_init__(self) -> None:
        """Check."""
        shapes = {counted.wrong.shape for counted in (self.inverted, self.lost, self.gained) if counted is not None}
        if len(shapes) > 1:
            raise UserMistake(f"the maps of one chip have different sizes: {sorted(shapes)}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of the array."""
        return self.inverted.wrong.shape

    @property
    def tells_zeros(self) -> bool:
        """Errors of zeros were counted."""
        return self.lost is not None and self.gained is not None

    def sample(self, rng: np.random.Generator) -> WeightErrorRates:
        """Plausible rates of each cell, in maps ``(rows, cols)``."""
        inversion, loss, gain = (
            np.zeros(self.shape) if counted is None else counted.sample(rng)
            for counted in (self.inverted, self.lost, self.gained)
        )
        return WeightErrorRates(inversion, np.minimum(loss, 1.0 - inversion), gain)


@dataclass(frozen=True, eq=False)
class TurnedErrors:
    """What the cells of one chip do in XNOR with an input of -1 that no read shows, since reads are XNOR with +1.

    Attributes:
        fixed: weights that answer themselves, as they do at +1.
        lost: weights that answer 0.
        gained: zeros that answer -1 or +1.
        up, down: ``(cols,)`` of these zeros, those that answered +1 and -1. In a column they share their sign, that of
            the amplifier's offset: it keeps them within the dead zone at +1 and pushes them out of it at -1.

    Raises:
        UserMistake: maps of different sizes.
    """

    fixed: Counted
    lost: Counted
    gained: Counted
    up: Counts
    down: Counts

    def __post_init__(self) -> None:
        """Check."""
        shapes = {counted.wrong.shape for counted in (self.fixed, self.lost, self.gained)}
        if len(shapes) > 1 or {self.up.shape, self.down.shape} != {self.shape[1:]}:
            raise UserMistake(f"the maps of one chip have different sizes: {sorted(shapes)}, columns {self.up.shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of the array."""
        return self.gained.wrong.shape

    def sample(self, rng: np.random.Generator) -> TurnedRates:
        """Plausible rates of each cell, and signs of each column."""
        fixed, lost, gained = (counted.sample(rng) for counted in (self.fixed, self.lost, self.gained))
        # Jeffreys' prior: a column of which nothing is known may well have one sign only
        return TurnedRates(fixed, np.minimum(lost, 1.0 - fixed), gained, rng.beta(self.up + 0.5, self.down + 0.5))


@dataclass(frozen=True, eq=False)
class TurnedRates:
    """One draw of :class:`TurnedErrors`.

    Attributes:
        fixed, lost, gained: ``(rows, cols)``.
        up: ``(cols,)`` chance that a zero which answers does so with +1.
    """

    fixed: NDArray[np.float64]
    lost: NDArray[np.float64]
    gained: NDArray[np.float64]
    up: NDArray[np.float64]

    def disturb(self, weights: Weights, places: Places, rng: np.random.Generator) -> Weights:
        """By how much each product is off where its input is -1, for weights as they read; of their shape.

        Args:
            places: array row and array column of each weight.
        """
        chance = rng.random(weights.shape)
        fixed, lost, gained = (rate[places] for rate in (self.fixed, self.lost, self.gained))
        signs = np.where(rng.random(weights.shape) < self.up[places[1]], 1, -1)
        of_weights = np.where(chance < fixed, 2, np.where(chance < fixed + lost, 1, 0)) * weights
        return np.where(weights == 0, np.where(chance < gained, signs, 0), of_weights).astype(np.int8)


@dataclass(frozen=True, eq=False)
class MeasuredMap:
    """What was found out about the cells of one chip.

    Attributes:
        stuck: ``(rows, cols)`` int8: -1 or +1 where a cell always reads so, else 0.
        transient: errors of senses that come and go, of cells not stuck.
        steady: weights left wrong by programming, of cells not stuck; None where only their rate over all cells is
            known.
        turned: what XNOR answers to -1, of cells not stuck; None where only the rate of fixed outputs is known.

    Raises:
        UserMistake: maps of different sizes, or other values in ``stuck``.
    """

    stuck: NDArray[np.int8]
    transient: CellErrors
    steady: CellErrors | None = None
    turned: TurnedErrors | None = None

    def __post_init__(self) -> None:
        """Check."""
        if not np.isin(self.stuck, (-1, 0, 1)).all():
            raise UserMistake("stuck cells read -1 or +1; 0 is a cell that is not stuck")
        shapes = {each.shape for each in (self.transient, self.steady, self.turned) if each is not None}
        if shapes != {self.stuck.shape}:
            raise UserMistake(f"the maps of one chip have different sizes: {self.stuck.shape} and {sorted(shapes)}")

    @property
    def tells_zeros(self) -> bool:
        """Errors of zeros were counted."""
        return self.transient.tells_zeros and (self.steady is None or self.steady.tells_zeros)
