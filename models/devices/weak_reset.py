"""Weak RESET: many small pulses that move a device from the LRS upwards, a little each.

The model of Majumdar et al., "Model of the weak reset process in HfOx resistive memory for deep learning frameworks",
IEEE Transactions on Electron Devices, 2021 (arXiv 2107.06064)::

    R = R0 exp(w),   w = w_mean + w_RTN + w_pink
    w_mean(t) = m1 t + c1                     for t <  t*
              = m2 t + t* (m1 - m2) + c1      for t >= t*

t counts the pulses since SET. RTN is a two-state chain per device; the 1/f noise follows the half-order fractional
integrator of white noise. Everything advances by any number of pulses at once, in time and memory that do not depend
on how many pulses came before, and n pulses at once equal n times one pulse in distribution.

Ours, not the source's: slopes grow as ``exp((V - v_ref) / efold)`` with the device voltage and the knee shrinks as the
inverse, which is the same as counting each pulse as that many reference pulses ("stress"); stress is proportional to
the pulse width; nothing happens below the onset voltage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import Array, Arrays, normal_quantile
from models.device_model import WeakReset
from models.exceptions import UserMistake

UNIFORM_SD = 1.0 / math.sqrt(12.0)
_POLE_RATIO = 5.0
_SHORTEST_TIME = 0.35
_LEAST_KEPT = 1e-9


class PinkNoise(StrEnum):
    """How the 1/f noise is made.

    STATIONARY: a sum of Ornstein-Uhlenbeck processes with the spectrum of the integrator, centred on zero.
    PUBLISHED: the published code's register of past uniform noise, one per device, not centred: it shifts w up by
        ``alpha / 2`` times the sum of the filter.
    """

    STATIONARY = "stationary"
    PUBLISHED = "published"


@dataclass(frozen=True)
class Imperfections:
    """Which imperfections are in force; each can be switched off by itself.

    Without device-to-device variability every device has the medians of the populations.
    """

    device_to_device: bool = True
    rtn: bool = True
    pink: bool = True


class MeanParameters(NamedTuple):
    """Parameters of each device's mean curve; arrays of one shape.

    Attributes:
        slope1, slope2: m1 and m2, per reference pulse.
        knee: t*, in reference pulses.
        offset: c1.
        r0_ohm: resistance just after SET.
    """

    slope1: Array
    knee: Array
    offset: Array
    slope2: Array
    r0_ohm: Array


def _kept(name: str, low: float, high: float) -> tuple[float, float]:
    if high - low < _LEAST_KEPT:
        raise UserMistake(
            f"weak_reset.{name}_low and weak_reset.{name}_high keep less than {_LEAST_KEPT:g} of the population"
        )
    return low, high - low


def _truncated_exponential(
    arrays: Arrays, u: Array, name: str, loc: float, scale: float, low: float, high: float
) -> Array:
    """Inverse CDF of an exponential population kept in ``low`` to ``high``, at ``u`` in [0, 1)."""
    below, kept = _kept(name, *(-math.expm1(-max(x - loc, 0.0) / scale) for x in (low, high)))
    return loc - scale * arrays.log1p(-(below + kept * u))


def _truncated_normal(arrays: Arrays, u: Array, name: str, mean: float, sd: float, low: float, high: float) -> Array:
    """Inverse CDF of a normal population kept in ``low`` to ``high``, at ``u`` in [0, 1)."""
    population = NormalDist(mean, sd)
    below, kept = _kept(name, population.cdf(low), population.cdf(high))
    return mean + sd * normal_quantile(arrays, below + kept * u)


def _deviates(arrays: Arrays, shape: Sequence[int], device_to_device: bool) -> Array:
    """Ranks of devices in a population: uniform in [0, 1), or all 1/2 (the median)."""
    return arrays.uniform(shape) if device_to_device else arrays.full(shape, 0.5)


def sample_r0(section: WeakReset, shape: Sequence[int], arrays: Arrays, device_to_device: bool) -> Array:
    """Draw R0 in ohm, the resistance just after a SET; the median for all without device-to-device variability."""
    u = _deviates(arrays, shape, device_to_device)
    p = section
    return _truncated_normal(arrays, u, "r0", p.r0_mean_ohm, p.r0_sd_ohm, p.r0_low_ohm, p.r0_high_ohm)


def sample_parameters(
    section: WeakReset, shape: Sequence[int], arrays: Arrays, *, device_to_device: bool = True
) -> MeanParameters:
    """Draw the mean curve's parameters of each device, each by the inverse CDF of its truncated population.

    Args:
        section: the populations.
        shape: shape of the device array.
        arrays: library and generator to draw with.
        device_to_device: when False, every device gets the median of each truncated population.

    Raises:
        UserMistake: a truncation keeps practically nothing of its population.
    """
    p = section
    slope1, knee, offset, slope2 = (_deviates(arrays, shape, device_to_device) for _ in range(4))
    log_knee = _truncated_normal(
        arrays, knee, "knee", math.log(p.knee_scale), p.knee_shape, _log(p.knee_low), _log(p.knee_high)
    )
    return MeanParameters(
        slope1=_truncated_exponential(
            arrays, slope1, "slope1", p.slope1_loc, p.slope1_scale, p.slope1_low, p.slope1_high
        ),
        knee=arrays.exp(log_knee),
        offset=_truncated_normal(arrays, offset, "offset", p.offset_mean, p.offset_sd, p.offset_low, p.offset_high),
        slope2=_truncated_exponential(
            arrays, slope2, "slope2", p.slope2_loc, p.slope2_scale, p.slope2_low, p.slope2_high
        ),
        r0_ohm=sample_r0(section, shape, arrays, device_to_device),
    )


def _log(x: float) -> float:
    return math.log(x) if x > 0.0 else -math.inf


def mean_log_ratio(arrays: Arrays, parameters: MeanParameters, stress: Array) -> Array:
    """w_mean after ``stress`` reference pulses since SET: two straight lines that meet at the knee."""
    p = parameters
    early = p.slope1 * stress + p.offset
    late = p.slope2 * stress + p.knee * (p.slope1 - p.slope2) + p.offset
    return arrays.where(stress < p.knee, early, late)


def stress_per_pulse(section: WeakReset, device_v: float, width_s: float) -> float:
    """How many reference pulses one pulse of ``width_s`` at the device voltage ``device_v`` counts for.

    0 below the onset voltage.
    """
    if device_v < section.onset_v:
        return 0.0
    return math.exp((device_v - section.v_ref_v) / section.efold_v) * width_s / section.width_ref_s


def rtn_high_probability(section: WeakReset, high: Array | float, pulses: Array | int) -> Array:
    """Probability that RTN is high after ``pulses`` more, for devices where it is now ``high`` (1) or low (0).

    The n-th power of the transition matrix in closed form: its second eigenvalue is ``1 - p_low_high - p_high_low``.
    """
    switching = section.rtn_p_low_high + section.rtn_p_high_low
    stationary = section.rtn_p_low_high / switching
    return stationary + (high - stationary) * (1.0 - switching) ** pulses


def integrator_coefficients(length: int) -> NDArray[np.float64]:
    """The first coefficients of the half-order fractional integrator: b_0 = 1, b_k = b_(k-1) (k - 1/2) / k."""
    k = np.arange(1, length)
    return np.concatenate([[1.0], np.cumprod((k - 0.5) / k)])


@cache
def pink_processes(length: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Ornstein-Uhlenbeck processes whose sum has the spectrum of the half-order integrator of unit white noise.

    Correlation times are spaced geometrically from a third of a pulse to ``length`` pulses. The variances are the
    least-squares fit to the integrator's spectrum ``1 / (2 sin(omega / 2))`` from ``1 / length`` per pulse up to the
    Nyquist frequency, together with the variance of the integrator cut at ``length``, which they then have exactly.

    Returns:
        Correlation times in pulses, and variances.
    """
    count = max(2, math.ceil(math.log(length / _SHORTEST_TIME) / math.log(_POLE_RATIO)) + 1)
    times = np.geomspace(_SHORTEST_TIME, length, count)
    rho = np.exp(-1.0 / times)
    omega = 2.0 * np.pi * np.geomspace(1.0 / length, 0.5, 100)
    spectra = (1.0 - rho**2) / (1.0 - 2.0 * rho * np.cos(omega)[:, None] + rho**2)
    wanted = 1.0 / (2.0 * np.sin(omega / 2.0))
    total = float(np.sum(integrator_coefficients(length) ** 2))
    heavy = float(len(omega))
    matrix = np.vstack([spectra / wanted[:, None], np.full(count, heavy / total)])
    variances = np.linalg.lstsq(matrix, np.append(np.ones(len(omega)), heavy), rcond=None)[0]
    variances *= total / variances.sum()
    return tuple(times.tolist()), tuple(variances.tolist())


class WeakResetDevices:
    """Devices under weak RESET: their parameters, and the state that pulses move.

    The state is one number of stress, one RTN level and one RTN value per device, and five Ornstein-Uhlenbeck values
    for a noise memory of 127 pulses (about one more per factor of five). With the ``PUBLISHED`` noise it is a register
    of as many values as the memory has pulses.

    Args:
        section: the populations.
        shape: shape of the device array.
        arrays: library and generator that parameters and noise are drawn with.
        imperfections: which imperfections are in force.
        pink_noise: how the 1/f noise is made.

    Raises:
        UserMistake: a truncation keeps practically nothing of its population.
    """

    def __init__(
        self,
        section: WeakReset,
        shape: Sequence[int],
        arrays: Arrays,
        imperfections: Imperfections | None = None,
        pink_noise: PinkNoise = PinkNoise.STATIONARY,
    ) -> None:
        self.section = section
        self.shape = tuple(shape)
        self.imperfections = Imperfections() if imperfections is None else imperfections
        self._arrays = arrays
        device_to_device = self.imperfections.device_to_device
        self.parameters = sample_parameters(section, self.shape, arrays, device_to_device=device_to_device)
        self.stress = arrays.full(self.shape, 0.0)
        if self.imperfections.rtn:
            self._rtn_ceiling = section.rtn_amplitude_high * _deviates(arrays, self.shape, device_to_device)
            self.rtn_high = arrays.uniform(self.shape) < rtn_high_probability(section, 0.0, math.inf)
            self._rtn = self._draw_rtn()
        if self.imperfections.pink:
            self._pink: _StationaryPink | _PublishedPink
            make = _StationaryPink if pink_noise is PinkNoise.STATIONARY else _PublishedPink
            self._pink = make(section, self.shape, arrays)

    def apply(self, pulses: object, device_v: float | None = None, width_s: float | None = None) -> None:
        """Apply ``pulses`` weak RESETs to each device at once.

        Args:
            pulses: whole numbers >= 0 that broadcast to the shape of the devices; 0 leaves a device as it is.
            device_v: voltage across the devices; the reference voltage when None.
            width_s: pulse width; the reference width when None.

        Raises:
            UserMistake: a count is negative or not whole, or the shapes do not match.
        """
        counts = self._arrays.counts(pulses, self.shape)
        voltage = self.section.v_ref_v if device_v is None else device_v
        width = self.section.width_ref_s if width_s is None else width_s
        stress = stress_per_pulse(self.section, voltage, width)
        if stress == 0.0:
            return
        self.stress = self.stress + stress * counts
        if self.imperfections.rtn:
            high = self.rtn_high * 1.0
            probability = rtn_high_probability(self.section, high, counts)
            pulsed = counts > 0
            self.rtn_high = self._arrays.where(pulsed, self._arrays.uniform(self.shape) < probability, self.rtn_high)
            self._rtn = self._arrays.where(pulsed, self._draw_rtn(), self._rtn)
        if self.imperfections.pink:
            self._pink.advance(counts)

    def set_again(self, devices: Array) -> None:
        """Devices that were SET: stress starts again from 0 and R0 is drawn anew. Traps keep their state.

        Args:
            devices: bool, of the shape of the devices.
        """
        fresh = sample_r0(self.section, self.shape, self._arrays, self.imperfections.device_to_device)
        where = self._arrays.where
        self.parameters = self.parameters._replace(r0_ohm=where(devices, fresh, self.parameters.r0_ohm))
        self.stress = where(devices, 0.0, self.stress)

    @property
    def log_ratio(self) -> Array:
        """Log ratio w = ln(R / R0) of each device; two looks between pulses give the same."""
        w = mean_log_ratio(self._arrays, self.parameters, self.stress)
        if self.imperfections.rtn:
            w = w + self._rtn
        if self.imperfections.pink:
            w = w + self._pink.value
        return w

    @property
    def resistance_ohm(self) -> Array:
        """R = R0 exp(w) of each device."""
        return self.parameters.r0_ohm * self._arrays.exp(self.log_ratio)

    def _draw_rtn(self) -> Array:
        """A new RTN value: in the high state the device's ceiling times two uniform numbers, otherwise 0."""
        value = self._rtn_ceiling * self._arrays.uniform(self.shape) * self._arrays.uniform(self.shape)
        return self._arrays.where(self.rtn_high, value, 0.0)


class _StationaryPink:
    """Sum of Ornstein-Uhlenbeck processes, stationary from the start; jumps of any length are exact."""

    def __init__(self, section: WeakReset, shape: tuple[int, ...], arrays: Arrays) -> None:
        times, variances = pink_processes(int(section.pink_memory))
        self._arrays, self._times = arrays, times
        self._sds = [section.pink_alpha * UNIFORM_SD * math.sqrt(variance) for variance in variances]
        self._values = [sd * arrays.normal(shape) for sd in self._sds]

    def advance(self, counts: Array) -> None:
        xp = self._arrays
        for i, (time, sd) in enumerate(zip(self._times, self._sds, strict=True)):
            spread = sd * xp.sqrt(-xp.expm1(counts * (-2.0 / time)))
            self._values[i] = self._values[i] * xp.exp(counts * (-1.0 / time)) + spread * xp.normal(counts.shape)

    @property
    def value(self) -> Array:
        return sum(self._values[1:], self._values[0])


class _PublishedPink:
    """The published code's register: alpha times the filter over the last uniform numbers, new ones rolled in."""

    def __init__(self, section: WeakReset, shape: tuple[int, ...], arrays: Arrays) -> None:
        self._arrays = arrays
        coefficients = integrator_coefficients(int(section.pink_memory))
        self._weights = arrays.vector((section.pink_alpha * coefficients).tolist())
        self._register = arrays.uniform((*shape, len(coefficients)))

    def advance(self, counts: Array) -> None:
        fresh = self._arrays.uniform(self._register.shape)
        self._register = self._arrays.roll_in(self._register, counts, fresh)

    @property
    def value(self) -> Array:
        return self._register @ self._weights
