"""The posterior of sense amplifiers and of the branches they sense, by Metropolis within Gibbs; one chain.

The likelihood and its parameters are those of :mod:`calibration.sense`. Several chips are sampled side by side.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calibration.estimate import LOWER, UPPER

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

NEAR = 0.5
"""Branches whose crossing times differ by more than twice this (in ln) never change their order."""

BURN_IN, KEPT = 600, 2400
MOST_KEPT = 8 * KEPT
ENOUGH = 100.0
"""Independent draws that a chain is worth at the ends of an interval, from which on it is not made longer: it is, up to
``MOST_KEPT``, until the slowest parameter of a chip has so many and is settled; of several chips, of half of them."""

SETTLED = 1.2
"""Largest ratio of the spread of both halves of the draws together to that of each half by itself."""

KEPT_OF_RIVAL = 800
"""Of a chain that only an information criterion is taken of."""

UNSHRUNK, FREE, SEEN_FREE = 0.3, 300, 100
"""Offset scale, far above that of any amplifier, at which the first ``FREE`` turns of the burn-in stand still; those
from ``SEEN_FREE`` on say how well each column's offset is told by its own cells."""

LEAST_SCALE = 1e-4
CERTAIN = 8.0
"""Standard deviations from which a probability is 1 to all digits."""

UNKNOWN_TIME = 1.0
"""Prior s.d. of ln t of a branch whose resistance was not measured; wide against everything else."""


class Terms(NamedTuple):
    """Counts that are not certain, ``(terms,)`` each; ``late`` is ln t of each branch less ln window ``(terms, 2)``."""

    cell: Integers
    ratio: Floats
    late: Floats
    plus: Integers
    minus: Integers
    undecided: Integers


class Draws(NamedTuple):
    """Draws ``(kept, ...)`` of ln noise, ln offset scale, speed and branch scale of each chip, and of the offsets.

    ``criterion`` is the deviance information criterion of each chip (Spiegelhalter et al., J. R. Stat. Soc. B 64, 583,
    2002): with ``D`` minus twice the log-likelihood, twice its mean less its value at the mean of all that is drawn.
    """

    noise: Floats
    scale: Floats
    speed: Floats
    branch: Floats
    offsets: Floats
    criterion: Floats


def independent(draws: Floats) -> float:
    """How many independent draws these of a chain ``(kept,)`` are worth.

    Their number over the autocorrelation time, summed up to five times itself (Sokal, "Monte Carlo methods in
    statistical mechanics", 1997).
    """
    count, left = len(draws), draws - draws.mean()
    if not left.any():
        return float(count)
    power = np.abs(np.fft.rfft(left, 2 * count)) ** 2
    correlation = np.fft.irfft(power)[:count]
    time = 2.0 * np.cumsum(correlation / correlation[0]) - 1.0
    far = np.arange(count) >= 5.0 * time
    return count / max(float(time[int(far.argmax()) if far.any() else -1]), 1.0)


def worth_at(draws: Floats, share: float) -> float:
    """How many independent draws would tell a quantile as well as these do; more than tell the mean.

    Vehtari et al., Bayesian Analysis 16, 667, 2021: by the autocorrelation of being below it.
    """
    return independent((draws <= np.quantile(draws, share)).astype(np.float64))


def halves_apart(draws: Floats) -> float:
    """Spread of both halves of the draws of a chain ``(kept,)`` together, over that of each half by itself.

    Gelman and Rubin, Statistical Science 7, 457, 1992.
    """
    halves = draws[: len(draws) // 2 * 2].reshape(2, -1)
    within, between = float(halves.var(axis=1, ddof=1).mean()), float(halves.mean(axis=1).var(ddof=1))
    return math.sqrt(1.0 + between / within) if within > 0.0 else 1.0


class _Adaptive:
    """Proposals of a Metropolis step whose widths settle, one by one, at an acceptance of 0.4 during the burn-in."""

    def __init__(self, count: int, width: float, rng: np.random.Generator) -> None:
        self._log_width = np.full(count, math.log(width))
        self._rng = rng

    def step(self) -> Floats:
        return np.asarray(np.exp(self._log_width) * self._rng.standard_normal(len(self._log_width)))

    def accept(self, gain: Floats, turn: int) -> Mask:
        accepted: Mask = np.log(1.0 - self._rng.random(len(gain))) < gain
        if turn < BURN_IN:
            self._log_width += (accepted - 0.4) / (1.0 + 0.05 * turn)
        return accepted


class Sampler:
    """The chain. Branch errors ``v`` include the speed of the chip; a branch that cannot be told about is just that.

    Args:
        known: the resistances were measured.
        offsets, branches: False for the rival model without any offset, or without errors of the branches.
    """

    def __init__(
        self,
        terms: Terms,
        column: Integers,
        chip: Integers,
        speed: Floats,
        known: bool,
        rng: np.random.Generator,
        *,
        offsets: bool = True,
        branches: bool = True,
    ) -> None:
        self.offsets, self.branches = offsets and known, branches
        self.terms, self.column, self.chip, self.known, self.rng = terms, column, chip, known, rng
        self.of_column = np.zeros(int(column.max()) + 1, dtype=np.int64)
        self.of_column[column] = chip
        self.told_columns = np.zeros(len(self.of_column), dtype=bool)
        self.told_columns[column[terms.cell]] = True
        self.chips = len(speed)
        gap = terms.late[:, 0] - terms.late[:, 1]
        self.free = np.zeros((len(column), 2), dtype=bool)
        np.logical_or.at(self.free, terms.cell, np.stack([gap < 2 * NEAR, gap > -2 * NEAR], axis=1))
        if not known:
            self.free[terms.cell, (gap > 0).astype(int)] = True
            self.free[terms.cell, (gap <= 0).astype(int)] = False
        sign = np.zeros(len(column))
        sign[terms.cell] = np.sign(gap)
        self.lean = np.stack([np.where(sign < 0, -1.0, 0.0), np.where(sign > 0, 1.0, 0.0)], axis=1)
        ratio = np.bincount(terms.cell, terms.ratio, len(column)) / np.maximum(
            np.bincount(terms.cell, None, len(column)), 1
        )
        self.lean *= 0.5 / np.where(ratio > 0, ratio, 1.0)[:, None]
        self.v = np.repeat(speed[chip][:, None], 2, axis=1)
        self.offset = np.zeros(len(self.of_column))
        self.noise = np.full(self.chips, math.log(0.05))
        self.scale = np.full(self.chips, math.log(0.05))
        self.speed = speed.copy()
        self.branch = np.full(self.chips, 0.1 if known else UNKNOWN_TIME)
        self.told = np.zeros(len(self.offset))
        count = len(column)
        self.moves = {
            "BL": _Adaptive(count, 0.02, rng),
            "BLb": _Adaptive(count, 0.02, rng),
            "offset": _Adaptive(len(self.offset), 0.02, rng),
            "both": _Adaptive(len(self.offset), 0.02, rng),
            **{name: _Adaptive(self.chips, 0.1, rng) for name in ("noise", "branch", "scale")},
            "speed": _Adaptive(self.chips, 0.01, rng),
        }

    def run(self, kept: int = KEPT, most: int = MOST_KEPT) -> Draws:
        """All turns of the chain; those of the burn-in are thrown away.

        Args:
            kept: draws after which it is seen whether they are enough, and as many again where they are not.
            most: draws after which it ends anyway.
        """
        drawn: list[tuple[Floats, ...]] = []
        of_chip = self.chip[self.terms.cell]
        deviance, sum_v, sum_offset, sum_noise = (
            np.zeros_like(each) for each in (self.noise, self.v, self.offset, self.noise)
        )
        now = self._log_likelihood(self.v, self.offset, self.noise)
        now = self._burn_in(now)
        while len(drawn) < most:
            for _ in range(kept):
                now = self._turn(BURN_IN, now)
                deviance -= 2.0 * self._sum(of_chip, now, self.chips)
                sum_v += self.v
                sum_offset += self.offset
                sum_noise += self.noise
                state = (self.noise, self.scale, self.speed, self.branch, self.offset)
                drawn.append(tuple(each.copy() for each in state))
            if len(drawn) < most and self._enough(drawn):
                break
        count = len(drawn)
        means = (each / count for each in (sum_v, sum_offset, sum_noise))
        at_mean = -2.0 * self._sum(of_chip, self._log_likelihood(*means), self.chips)
        noise, scale, speed, branch, offsets = (np.stack(each) for each in zip(*drawn, strict=True))
        return Draws(noise, scale, speed, branch, offsets, 2.0 * deviance / count - at_mean)

    def _burn_in(self, now: Floats) -> Floats:
        """Find where the posterior lies and, with free offsets, how well each column tells its own."""
        if self.offsets:
            at_first, self.scale = self.scale, np.full(self.chips, math.log(UNSHRUNK))
            seen: list[Floats] = []
            for turn in range(FREE):
                now = self._turn(turn, now, free=True)
                if turn >= SEEN_FREE:
                    seen.append(self.offset.copy())
            self.told, self.scale = np.stack(seen).var(axis=0), at_first
        for turn in range(FREE if self.offsets else 0, BURN_IN):
            now = self._turn(turn, now)
        return now

    def _offset_prior(self, scale: Floats) -> Floats:
        """Logarithm of the prior of the logarithm of the offset scale, ``(chips,)``.

        Jeffreys' for offsets each known with the variance ``told``. Far above their errors it is flat. A flat one below
        would have no end (Gelman, Bayesian Analysis 1, 515, 2006): the posterior would pile up at a scale of 0.
        """
        at = self.told_columns
        chip = self.of_column[at]
        information = np.bincount(chip, (np.exp(2.0 * scale)[chip] + self.told[at]) ** -2, self.chips)
        return np.asarray(2.0 * scale + 0.5 * np.log(np.maximum(information, 1e-300)))

    def _enough(self, drawn: list[tuple[Floats, ...]]) -> bool:
        watched = [np.stack(each).T for each in list(zip(*drawn, strict=True))[: 4 if self.known else 1]]
        worth = [[worth_at(row, share) for row in each] for each in watched for share in (LOWER, UPPER)]
        # ends may be told well by a chain that wanders between them
        apart = [[halves_apart(row) for row in each] for each in watched[:3]]
        return bool(np.median(np.min(worth, axis=0)) >= ENOUGH and np.median(np.max(apart, axis=0)) < SETTLED)

    def _turn(self, turn: int, now: Floats, *, free: bool = False) -> Floats:
        for side in (0, 1) if self.branches else ():
            now = self._move_branch(side, turn, now)
        if self.known:
            if self.offsets:
                now = self._move_offsets(turn, now, together=False)
                now = self._move_offsets(turn, now, together=True) if self.branches else now
            moved = ("speed", *(["branch"] if self.branches else []), *(["scale"] if self.offsets and not free else []))
            for name in moved:
                now = self._move_chip(name, turn, now)
            if self.offsets and not free:
                self._offset_scale()
            if self.branches:
                self._branch_scale()  # moves branches only where that changes nothing
        return self._move_noise(turn, now)

    def _log_likelihood(self, v: Floats, offset: Floats, noise: Floats) -> Floats:
        """Of each term."""
        at, terms = self.terms.cell, self.terms
        shift = offset[self.column[at]] / terms.ratio
        inverse = terms.ratio * np.exp(-noise[self.chip[at]])
        found: Floats = _log_binomial(
            terms.late[:, 0] + v[at, 0],
            terms.late[:, 1] + v[at, 1],
            shift,
            inverse,
            terms.plus,
            terms.minus,
            terms.undecided,
        )
        return found

    def _move_branch(self, side: int, turn: int, now: Floats) -> Floats:
        move = self.moves[("BL", "BLb")[side]]
        step = np.zeros_like(self.v)
        step[:, side] = np.where(self.free[:, side], move.step(), 0.0)
        new = self._log_likelihood(self.v + step, self.offset, self.noise)
        gain = self._sum(self.terms.cell, new - now, len(self.v)) + self._prior(step).sum(axis=1)
        accepted = move.accept(gain, turn) & self.free[:, side]
        self.v[accepted] += step[accepted]
        return np.where(accepted[self.terms.cell], new, now)

    @staticmethod
    def _sum(index: Integers, values: Floats, length: int) -> Floats:
        return np.asarray(np.bincount(index, values, length), dtype=np.float64)

    def _prior(self, step: Floats) -> Floats:
        """Gain of the branch errors' prior by a step, ``(cells, 2)``."""
        own = self.v - self.speed[self.chip][:, None]
        gain = np.where(self.free, -0.5 * step * (step + 2.0 * own), 0.0)
        return np.asarray(gain / self.branch[self.chip][:, None] ** 2)

    def _move_offsets(self, turn: int, now: Floats, *, together: bool) -> Floats:
        """Move offsets; ``together`` with the branches of their cells, so that these become decided where they did."""
        move = self.moves["both" if together else "offset"]
        step = move.step()
        shift = step[self.column][:, None] * self.lean * self.free if together else np.zeros_like(self.v)
        new = self._log_likelihood(self.v + shift, self.offset + step, self.noise)
        by_column = self.column[self.terms.cell]
        gain = self._sum(by_column, new - now, len(step))
        gain += self._sum(self.column, self._prior(shift).sum(axis=1), len(step))
        gain -= 0.5 * step * (step + 2.0 * self.offset) * np.exp(-2.0 * self.scale[self.of_column])
        accepted = move.accept(gain, turn)
        self.offset[accepted] += step[accepted]
        moved = accepted[self.column]
        self.v[moved] += shift[moved]
        return np.where(accepted[by_column], new, now)

    def _move_chip(self, name: str, turn: int, now: Floats) -> Floats:
        """Move all branches or all offsets of a chip at once, with the number that is common to them.

        Both stand to each other as before, so that only the likelihood changes; one by one they would be slow to
        follow. A scale is moved in its logarithm, in which the prior of the branches' is flat.
        """
        step = self.moves[name].step()
        v, offset = self.v, self.offset
        allowed = np.ones(self.chips, dtype=bool)
        if name == "speed":
            v = v + step[self.chip][:, None]
        elif name == "branch":
            centre = self.speed[self.chip][:, None]
            v = centre + (v - centre) * np.exp(step)[self.chip][:, None]
            allowed = np.log(self.branch) + step > math.log(LEAST_SCALE)
        else:
            offset = offset * np.exp(step)[self.of_column]
            allowed = self.scale + step > math.log(LEAST_SCALE)
        new = self._log_likelihood(v, offset, self.noise)
        by_chip = self.chip[self.terms.cell]
        gain = np.where(allowed, self._sum(by_chip, new - now, self.chips), -np.inf)
        if name == "scale":
            gain = gain + self._offset_prior(self.scale + step) - self._offset_prior(self.scale)
        accepted = self.moves[name].accept(gain, turn)
        self.v = np.where(accepted[self.chip][:, None], v, self.v)
        self.offset = np.where(accepted[self.of_column], offset, self.offset)
        moved = np.where(accepted, step, 0.0)
        if name == "speed":
            self.speed = self.speed + moved
        elif name == "branch":
            self.branch = self.branch * np.exp(moved)
        else:
            self.scale = self.scale + moved
        return np.where(accepted[by_chip], new, now)

    def _move_noise(self, turn: int, now: Floats) -> Floats:
        step = self.moves["noise"].step()
        new = self._log_likelihood(self.v, self.offset, self.noise + step)
        by_chip = self.chip[self.terms.cell]
        gain = self._sum(by_chip, new - now, self.chips)
        gain = np.where(self.noise + step < math.log(LEAST_SCALE), -np.inf, gain)
        accepted = self.moves["noise"].accept(gain, turn)
        self.noise[accepted] += step[accepted]
        return np.where(accepted[by_chip], new, now)

    def _offset_scale(self) -> None:
        """Draw the scale of each chip's offsets given these."""
        at = self.told_columns
        squares = np.bincount(self.of_column[at], self.offset[at] ** 2, self.chips)
        number = np.bincount(self.of_column[at], None, self.chips)
        drawn = 0.5 * np.log(np.maximum(squares, 1e-300) / self.rng.chisquare(np.maximum(number, 1)))
        drawn = np.maximum(drawn, math.log(LEAST_SCALE))
        # the draw is that for a flat prior; the other one is in whether it is taken
        gain = self._offset_prior(drawn) - self._offset_prior(self.scale)
        self.scale = np.where(np.log(1.0 - self.rng.random(self.chips)) < gain, drawn, self.scale)

    def _branch_scale(self) -> None:
        """Draw the speed and the branch scale of each chip given the branches, from their exact conditionals."""
        cell, side = np.nonzero(self.free)
        chip, v = self.chip[cell], self.v[cell, side]
        number = np.maximum(np.bincount(chip, None, self.chips), 2)
        mean = np.bincount(chip, v, self.chips) / number
        squares = np.bincount(chip, (v - mean[chip]) ** 2, self.chips)
        self.branch = np.maximum(np.sqrt(squares / self.rng.chisquare(number - 1)), LEAST_SCALE)
        self.speed = mean + self.branch / np.sqrt(number) * self.rng.standard_normal(self.chips)
        self.v = np.where(self.free, self.v, self.speed[self.chip][:, None])


@njit(cache=True)
def _log_normal_tail(x: float) -> float:
    """Logarithm of the probability that a standard normal variable lies below ``x``."""
    if x > CERTAIN:
        return 0.0
    if x > -36.0:
        return math.log(0.5 * math.erfc(-x / math.sqrt(2.0)))
    return -0.5 * x * x - math.log(-x) - 0.5 * math.log(2.0 * math.pi)


@njit(cache=True)
def _log_binomial(
    late_bl: Floats, late_blb: Floats, shift: Floats, inverse: Floats, plus: Integers, minus: Integers, none: Integers
) -> Floats:
    """Log-likelihood of counts, ``(terms,)`` each.

    Args:
        late_bl, late_blb: ln of each branch's crossing time over the window.
        shift: offset, in the same logarithm.
        inverse: 1 over the s.d. of the noise.
    """
    out = np.zeros(len(late_bl))
    for i in range(len(out)):
        difference = late_bl[i] - late_blb[i] + shift[i]
        dead = max(late_bl[i] + late_blb[i], 0.0)
        if plus[i] > 0:
            out[i] += plus[i] * _log_normal_tail((difference - dead) * inverse[i])
        if minus[i] > 0:
            out[i] += minus[i] * _log_normal_tail((-difference - dead) * inverse[i])
        if none[i] > 0:
            near, far = (dead - abs(difference)) * inverse[i], (-dead - abs(difference)) * inverse[i]
            if near > CERTAIN and far < -CERTAIN:
                continue
            inner, outer = _log_normal_tail(near), _log_normal_tail(far)
            # a cell past its dead zone cannot be undecided: as unlikely as anything can be
            out[i] += none[i] * (inner + math.log(max(-math.expm1(min(outer - inner, 0.0)), 1e-12)))
    return out
