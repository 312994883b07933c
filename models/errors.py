"""Bit error rates of resistive cells, from the populations of a device model: in closed form and by sampling.

With ``L`` and ``H`` the resistances of devices in the LRS and in the HRS, both log-normal, and ``D`` the distance of
their medians in ln R:

- 1T1R: one device against a threshold; a bit is wrong when L lies above the threshold or H below it.
- 2T2R: two complementary devices against each other; a bit is wrong when L > H, seen through the offset and the noise
  of the sense amplifier. With equal standard deviations s, 1T1R has ``Q(D / 2s)`` at the best threshold and 2T2R
  ``Q(D / (sqrt(2) s))`` (Bocquet et al., IEDM 2018; Hirtzlin et al., Frontiers in Neuroscience 13, 1383, 2020).
- Ternary: the precharge sense amplifier within its window, with the errors of type 1 (+1 read as -1 or the reverse),
  type 2 (+1 or -1 read as 0) and type 3 (0 read as +1 or -1).

The rates are those of devices that switch: defects add to them. Rare errors are sampled by shifting each distribution
to the most probable failure and weighting every sample with its likelihood ratio (importance sampling).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import simpson
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from models.device_model import DeviceModel, Sense
from models.exceptions import UserMistake
from models.sense import SenseAmplifiers, crossing_time_s, margins, overdrive_ratio

Floats = NDArray[np.float64]

_REACH = 12.0  # standard deviations that integrals extend to
_SHIFT_NODES = 481
_CELL_NODES = 2001
_LOG_RESISTANCES = np.linspace(math.log(1.0), math.log(1e16), 20_001)


@dataclass(frozen=True)
class LogNormal:
    """A population of resistances: median in ohm and standard deviation of ln R.

    Raises:
        UserMistake: the median is not positive, or the spread is below 0.
    """

    median_ohm: float
    sigma: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.median_ohm) and self.median_ohm > 0.0):
            raise UserMistake(f"a median of {self.median_ohm:g} ohm is refused; it must be above 0")
        if not (math.isfinite(self.sigma) and self.sigma >= 0.0):
            raise UserMistake(f"a standard deviation of ln R of {self.sigma:g} is refused; it must be 0 or more")

    @property
    def log_median(self) -> float:
        """Natural logarithm of the median."""
        return math.log(self.median_ohm)


@dataclass(frozen=True)
class Populations:
    """The two resistance populations of devices that are programmed many times, or of many devices.

    Raises:
        UserMistake: the HRS does not lie above the LRS.
    """

    lrs: LogNormal
    hrs: LogNormal

    def __post_init__(self) -> None:
        if self.hrs.median_ohm <= self.lrs.median_ohm:
            raise UserMistake(
                f"an HRS median of {self.hrs.median_ohm:g} ohm is refused; "
                f"it must exceed the LRS median of {self.lrs.median_ohm:g} ohm"
            )

    @classmethod
    def of(cls, model: DeviceModel) -> Populations:
        """Populations after the reference SET and RESET, device-to-device and cycle-to-cycle parts together."""
        lrs, hrs = model.lrs, model.hrs
        return cls(
            LogNormal(lrs.median_ohm, math.hypot(lrs.sigma_d2d, lrs.sigma_c2c)),
            LogNormal(hrs.median_ohm, math.hypot(hrs.sigma_d2d, hrs.sigma_c2c)),
        )

    @property
    def gap(self) -> float:
        """Distance of the medians in ln R."""
        return self.hrs.log_median - self.lrs.log_median

    def spread(self, factor: float) -> Populations:
        """The populations with both standard deviations multiplied by ``factor``."""
        return Populations(
            LogNormal(self.lrs.median_ohm, factor * self.lrs.sigma),
            LogNormal(self.hrs.median_ohm, factor * self.hrs.sigma),
        )


class TernaryErrors(NamedTuple):
    """Rates of the three types of error of a ternary sense.

    Attributes:
        type1: +1 read as -1, or the reverse.
        type2: +1 or -1 read as 0.
        type3: 0 read as +1 or -1.
    """

    type1: float
    type2: float
    type3: float


class Estimate(NamedTuple):
    """A rate from sampling, and its standard error."""

    rate: float
    standard_error: float


class TernaryEstimates(NamedTuple):
    """Rates from sampling of the three types of error of a ternary sense, as in :class:`TernaryErrors`."""

    type1: Estimate
    type2: Estimate
    type3: Estimate


def best_threshold_ohm(populations: Populations) -> float:
    """Resistance that tells LRS from HRS with the fewest errors: where the two densities are equal."""
    low, high, gap = populations.lrs.sigma, populations.hrs.sigma, populations.gap
    if low == 0.0 or high == 0.0:
        return populations.lrs.median_ohm if low == 0.0 else populations.hrs.median_ohm
    # Root above the LRS of A u^2 + 2 B u + C = 0, in the form that also holds for equal spreads (A = 0).
    a = high**2 - low**2
    b = gap * low**2
    c = -(low**2) * (gap**2 + 2.0 * high**2 * math.log(high / low))
    return populations.lrs.median_ohm * math.exp(-c / (b + math.sqrt(b**2 - a * c)))


def one_t1r(populations: Populations, threshold_ohm: float | None = None) -> float:
    """Bit error rate of 1T1R cells, both bits equally likely.

    Args:
        populations: LRS and HRS.
        threshold_ohm: what the resistances are compared with; the best one when None.
    """
    above, below = _distances(populations, threshold_ohm)
    return 0.5 * (_q(above, populations.lrs.sigma) + _q(below, populations.hrs.sigma))


def two_t2r(populations: Populations, offset_sigma: float = 0.0, noise_sigma: float = 0.0) -> float:
    """Bit error rate of 2T2R cells whose devices' resistances are compared with each other.

    Args:
        populations: LRS and HRS.
        offset_sigma: standard deviation over amplifiers of the offset, in ln of the ratio of the resistances.
        noise_sigma: standard deviation from sense to sense, likewise.
    """
    spread = math.hypot(populations.lrs.sigma, populations.hrs.sigma, offset_sigma, noise_sigma)
    return _q(populations.gap, spread)


def two_t2r_from_1t1r(rate: float) -> float:
    """2T2R bit error rate for a 1T1R bit error rate at the best threshold, for equal spreads of LRS and HRS.

    Raises:
        UserMistake: the rate is not between 0 and 0.5.
    """
    return float(ndtr(math.sqrt(2.0) * ndtri(_checked_rate(rate))))


def spread_factor(populations: Populations, one_t1r_rate: float) -> float:
    """Factor on both standard deviations that gives this 1T1R bit error rate at the best threshold.

    Raises:
        UserMistake: no factor from 1e-3 to 1e3 does.
    """
    rate = _checked_rate(one_t1r_rate)

    def excess(log_factor: float) -> float:
        return one_t1r(populations.spread(math.exp(log_factor))) - rate

    low, high = math.log(1e-3), math.log(1e3)
    if not excess(low) < 0.0 < excess(high):
        raise UserMistake(f"no spread of these populations gives a 1T1R bit error rate of {rate:g}")
    return math.exp(brentq(excess, low, high, xtol=1e-12))


def ternary(model: DeviceModel, vdd_v: float, window_s: float) -> TernaryErrors:
    """Error rates of the precharge sense amplifier within its window, averaged over cells, amplifiers and senses.

    Integrals over the distributions that :func:`sample_ternary` samples, exact to about 1 % also for the rarest errors.
    An infinite window gives the binary sense, whose bit error rate is ``type1``. Temperature, corner, wear and storage
    are those of the model passed in (:func:`models.sense.at_conditions`, :mod:`models.devices.ageing`).

    Args:
        model: device model.
        vdd_v: core supply.
        window_s: sense window, > 0.

    Raises:
        UserMistake: the window is not positive.
    """
    if not window_s > 0.0:
        raise UserMistake(f"a sense window of {window_s:g} s is refused; it must be above 0 s")
    shift_sigma = _amplifier_sigma(model.sense, vdd_v)
    if not math.isfinite(shift_sigma):
        return TernaryErrors(0.0, 1.0, 0.0)
    populations = Populations.of(model)
    nodes = np.linspace(-_REACH, _REACH, _SHIFT_NODES)
    weights = _density(nodes)
    weights /= weights.sum()
    half_shift = 0.5 * shift_sigma * nodes
    axis = _TimeAxis(model.sense, vdd_v)
    log_window = math.log(window_s) if math.isfinite(window_s) else math.inf

    late_hrs_bl = _deviate(axis.log_resistance(log_window - half_shift), populations.hrs)
    late_hrs_blb = _deviate(axis.log_resistance(log_window + half_shift), populations.hrs)
    late_lrs_blb = _deviate(axis.log_resistance(log_window + half_shift), populations.lrs)
    type2 = weights @ (ndtr(-late_hrs_bl) * ndtr(-late_lrs_blb))
    in_time, in_time_too = ndtr(late_hrs_bl), ndtr(late_hrs_blb)
    type3 = weights @ (in_time + in_time_too - in_time * in_time_too)

    # A cell of weight +1 read as -1: its HRS branch falls within the window and before its LRS branch.
    latest = np.clip(late_hrs_bl, -_REACH, _REACH)
    fractions = np.linspace(0.0, 1.0, _CELL_NODES)
    hrs_deviates = -_REACH + (latest[:, None] + _REACH) * fractions
    hrs_log_time = axis.log_time(populations.hrs.log_median + populations.hrs.sigma * hrs_deviates)
    slower = _deviate(axis.log_resistance(hrs_log_time + 2.0 * half_shift[:, None]), populations.lrs)
    inverted = simpson(_density(hrs_deviates) * ndtr(-slower), x=hrs_deviates, axis=1)
    return TernaryErrors(float(weights @ inverted), float(type2), float(type3))


def sample_one_t1r(
    populations: Populations, samples: int, rng: np.random.Generator, threshold_ohm: float | None = None
) -> Estimate:
    """As :func:`one_t1r`, by sampling ``samples`` devices in each state."""
    threshold = best_threshold_ohm(populations) if threshold_ohm is None else threshold_ohm
    above, below = _distances(populations, threshold)
    low = _Shifted.draw(_in_deviates(above, populations.lrs.sigma), samples, rng)
    high = _Shifted.draw(-_in_deviates(below, populations.hrs.sigma), samples, rng)
    lrs_ohm, hrs_ohm = low.resistance(populations.lrs), high.resistance(populations.hrs)
    wrong_lrs = _mean(lrs_ohm > threshold, low.log_weight)
    wrong_hrs = _mean(hrs_ohm < threshold, high.log_weight)
    error = 0.5 * math.hypot(wrong_lrs.standard_error, wrong_hrs.standard_error)
    return Estimate(0.5 * (wrong_lrs.rate + wrong_hrs.rate), error)


def sample_two_t2r(
    populations: Populations,
    samples: int,
    rng: np.random.Generator,
    offset_sigma: float = 0.0,
    noise_sigma: float = 0.0,
) -> Estimate:
    """As :func:`two_t2r`, by sampling ``samples`` cells."""
    amplifier = math.hypot(offset_sigma, noise_sigma)
    hrs, lrs, shift = _most_probable_inversion(populations.gap, populations.hrs.sigma, populations.lrs.sigma, amplifier)
    high, low, latch = (_Shifted.draw(centre, samples, rng) for centre in (hrs, lrs, shift))
    ratio = np.log(high.resistance(populations.hrs) / low.resistance(populations.lrs)) + amplifier * latch.deviates
    return _mean(ratio < 0.0, high.log_weight + low.log_weight + latch.log_weight)


def sample_ternary(
    model: DeviceModel, vdd_v: float, window_s: float, samples: int, rng: np.random.Generator
) -> TernaryEstimates:
    """As :func:`ternary`, by sensing ``samples`` cells of each kind with amplifiers of their own.

    Type 1 is sampled with emphasis on the cells that fail; types 2 and 3 as they come.
    """
    populations = Populations.of(model)
    centres: tuple[float, ...] = (0.0, 0.0, 0.0)
    if math.isfinite(_amplifier_sigma(model.sense, vdd_v)):
        medians = np.array([populations.hrs.log_median, populations.lrs.log_median])
        hrs_time, lrs_time = _TimeAxis(model.sense, vdd_v).log_time(medians)
        offset_sigma = model.sense.offset_sigma / overdrive_ratio(model.sense, vdd_v)
        centres = _most_probable_inversion(
            float(hrs_time - lrs_time), populations.hrs.sigma, populations.lrs.sigma, offset_sigma
        )

    def read(bl: Floats, blb: Floats, deviates: Floats) -> NDArray[np.int8]:
        cells = margins(model.sense, np.stack([bl, blb], axis=-1)[None], vdd_v, window_s)
        return np.asarray(SenseAmplifiers(model.sense, deviates).read(cells, vdd_v, 1, rng)[0, 0])

    high, low, latch = (_Shifted.draw(centre, samples, rng) for centre in centres)
    emphasised = read(high.resistance(populations.hrs), low.resistance(populations.lrs), latch.deviates)
    inverted = _mean(emphasised == -1, high.log_weight + low.log_weight + latch.log_weight)
    high, other, low, latch = (_Shifted.draw(0.0, samples, rng) for _ in range(4))
    hrs_ohm = high.resistance(populations.hrs)
    weight = read(hrs_ohm, low.resistance(populations.lrs), latch.deviates)
    zero = read(hrs_ohm, other.resistance(populations.hrs), latch.deviates)
    return TernaryEstimates(inverted, _mean(weight == 0, latch.log_weight), _mean(zero != 0, latch.log_weight))


class _Shifted(NamedTuple):
    """Standard normal deviates drawn about another centre, and the logarithms of their likelihood ratios."""

    deviates: Floats
    log_weight: Floats

    @classmethod
    def draw(cls, centre: float, samples: int, rng: np.random.Generator) -> _Shifted:
        if samples < 1:
            raise UserMistake(f"{samples} samples are refused; at least 1 is needed")
        deviates = centre + rng.standard_normal(samples)
        return cls(deviates, centre * (0.5 * centre - deviates))

    def resistance(self, population: LogNormal) -> Floats:
        return np.asarray(population.median_ohm * np.exp(population.sigma * self.deviates))


class _TimeAxis:
    """The crossing time of a branch against its device's resistance, both ways, in natural logarithms."""

    def __init__(self, sense: Sense, vdd_v: float) -> None:
        times = np.log(crossing_time_s(sense, np.exp(_LOG_RESISTANCES), vdd_v))
        # Below some resistance the transistor limits the current, and the time no longer tells the resistance.
        rising = np.append(np.diff(times) > 0.0, True)
        self._times, self._resistances = times[rising], _LOG_RESISTANCES[rising]

    def log_time(self, log_resistance: Floats) -> Floats:
        return np.asarray(np.interp(log_resistance, self._resistances, self._times))

    def log_resistance(self, log_time: Floats) -> Floats:
        """Resistance whose branch falls at that time; of -inf and inf where none is so fast or so slow."""
        return np.asarray(np.interp(log_time, self._times, self._resistances, left=-np.inf, right=np.inf))


def _amplifier_sigma(sense: Sense, vdd_v: float) -> float:
    """Standard deviation of offset and noise together, in ln of the branch resistances; infinite without supply."""
    ratio = overdrive_ratio(sense, vdd_v)
    return math.hypot(sense.offset_sigma, sense.noise_sigma) / ratio if ratio > 0.0 else math.inf


def _most_probable_inversion(gap: float, *sigmas: float) -> tuple[float, ...]:
    """Deviates of HRS, LRS and amplifier at the most probable point where the order of two branches turns round."""
    variance = sum(sigma**2 for sigma in sigmas)
    if variance == 0.0:
        return tuple(0.0 for _ in sigmas)
    return tuple(sign * gap * sigma / variance for sign, sigma in zip((-1.0, 1.0, -1.0), sigmas, strict=True))


def _distances(populations: Populations, threshold_ohm: float | None) -> tuple[float, float]:
    """Distances in ln R from the LRS up to the threshold, and from the HRS down to it."""
    threshold = best_threshold_ohm(populations) if threshold_ohm is None else threshold_ohm
    if not (math.isfinite(threshold) and threshold > 0.0):
        raise UserMistake(f"a threshold of {threshold:g} ohm is refused; it must be above 0")
    log_threshold = math.log(threshold)
    return log_threshold - populations.lrs.log_median, populations.hrs.log_median - log_threshold


def _mean(outcomes: NDArray[np.bool_], log_weight: Floats) -> Estimate:
    weighted = np.where(outcomes, np.exp(log_weight), 0.0)
    return Estimate(float(weighted.mean()), float(weighted.std() / math.sqrt(weighted.size)))


def _q(distance: float, sigma: float) -> float:
    """Probability that a normal variable exceeds its mean by more than ``distance``."""
    if sigma == 0.0:
        return 0.0 if distance >= 0.0 else 1.0
    return float(ndtr(-distance / sigma))


def _in_deviates(distance: float, sigma: float) -> float:
    """Where to shift a distribution so that half of the samples lie beyond ``distance``; nowhere for near ones."""
    return max(distance, 0.0) / sigma if sigma > 0.0 else 0.0


def _deviate(log_resistance: Floats, population: LogNormal) -> Floats:
    """Standard normal deviate of a resistance in its population."""
    distance = log_resistance - population.log_median
    if population.sigma == 0.0:
        return np.where(distance >= 0.0, np.inf, -np.inf)
    return np.asarray(distance / population.sigma)


def _density(deviates: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * deviates**2) / math.sqrt(2.0 * math.pi))


def _checked_rate(rate: float) -> float:
    if not 0.0 < rate < 0.5:
        raise UserMistake(f"a bit error rate of {rate:g} is refused; allowed is above 0 and below 0.5")
    return rate
