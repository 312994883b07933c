"""Weak-RESET staircases of many devices, and the description of each: mean curve, RTN and what noise is left.

A description is a summary and no estimate: each number of it is biased by noise, and the populations of descriptions
are wider than those of the devices. :mod:`calibration.weak_reset_population` asks which populations of devices would
be described like the measured ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.piecewise import Curves, fit_curves
from calibration.telegraph import HIGH_MEAN, HIGH_SQUARE, HIGH_VARIANCE, smooth
from models.device_model import WeakReset
from models.devices.weak_reset import stress_per_pulse
from models.exceptions import UserMistake

Floats = NDArray[np.float64]

FEWEST_READS = 16
"""Readings from the first pulse on: four numbers of each curve, and enough left to tell RTN from 1/f noise."""

MOST_READS = 240
"""Readings of a device in all its staircases that whole populations are simulated with: a minute's worth."""

PASSES = 4
"""Rounds of curve and smoother; the curves then stand still to a tenth of their error."""

_FIRST_CEILING = 0.25
_CEILINGS = (0.03, 0.6)
_CEILING_WEIGHT = 0.5
"""A device's ceiling is held to 0.2 by as much as half a reading in the high state would."""
_CEILING_HELD = 0.2
_LEAST_SIGMA = 1e-5


MOST_STRESS = 1e6
"""Reference pulses that one pulse may count for: one of so many would take any device to its ceiling."""


@dataclass(frozen=True)
class Staircase:
    """One SET and the staircase after it, on all devices.

    Attributes:
        pulses: ``(reads,)`` weak-RESET pulses since the SET, rising from 0.
        device_v, width_s: voltage across the devices in each pulse, and its width.
        resistance_ohm: ``(devices, reads)``; infinite where no current flowed.
        in_compliance: ``(devices,)``, those with a reading where the range of the meter ended; None for none.
    """

    pulses: NDArray[np.int64]
    device_v: float
    width_s: float
    resistance_ohm: Floats
    in_compliance: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        pulses, ohms = np.asarray(self.pulses), np.asarray(self.resistance_ohm)
        if ohms.ndim != 2 or pulses.shape != ohms.shape[1:]:
            raise UserMistake(f"weak-reset: resistances {ohms.shape} do not fit {pulses.shape} pulses")
        if len(pulses) < FEWEST_READS + 1:
            raise UserMistake(
                f"weak-reset: {max(len(pulses) - 1, 0)} readings from the first pulse on are too few, the fit needs "
                f"{FEWEST_READS}; measure at more pulse counts"
            )
        if pulses[0] != 0 or (np.diff(pulses) <= 0).any():
            raise UserMistake("weak-reset: pulses must rise from 0, the reading just after the SET")
        if np.isnan(ohms).any() or (ohms <= 0).any():
            raise UserMistake("weak-reset: resistances must be positive numbers, without NaN")

    @property
    def limited(self) -> NDArray[np.bool_]:
        """Devices with a reading where the range of the meter ended, ``(devices,)``."""
        return np.zeros(len(self.resistance_ohm), dtype=bool) if self.in_compliance is None else self.in_compliance

    @property
    def condition(self) -> tuple[float, float, tuple[int, ...]]:
        """What staircases that repeat each other have in common."""
        return self.device_v, self.width_s, tuple(int(count) for count in self.pulses)


def thinned(staircases: Sequence[Staircase]) -> list[Staircase]:
    """The staircases at so few pulse counts that all together have at most :data:`MOST_READS` readings of a device.

    What is left out loses information but biases nothing, as simulated populations are read at the same counts. Those
    kept are evenly spaced in the logarithm, since the drift slows down and telegraph noise is told by short gaps as
    well as by long ones; first and last are always kept.
    """
    most = max(FEWEST_READS, MOST_READS // max(len(staircases), 1))
    found = []
    for item in staircases:
        pulses = np.asarray(item.pulses)
        places = np.arange(1, len(pulses))
        if len(places) > most:
            places = _log_spaced(pulses, most)
        kept = np.concatenate([[0], places])
        found.append(replace(item, pulses=pulses[kept], resistance_ohm=item.resistance_ohm[:, kept]))
    return found


def _log_spaced(pulses: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Places of ``wanted`` pulse counts after the 0, evenly spaced in the logarithm where counts are dense enough."""
    position = np.log(pulses[1:] / pulses[1])
    for points in range(wanted, 100 * wanted):
        places = np.unique(np.searchsorted(position, np.linspace(0.0, position[-1] * (1.0 - 1e-12), points)))
        if len(places) >= wanted:
            break
    return places + 1


@dataclass(frozen=True)
class Branch:
    """The staircases under one condition.

    Attributes:
        pulses: ``(reads,)`` without the 0.
        device_v: voltage across the devices.
        stress: reference pulses that one pulse counts for under the base file.
        members: places of its staircases in the order of measurement.
    """

    pulses: Floats
    device_v: float
    stress: float
    members: tuple[int, ...]

    @property
    def reach(self) -> float:
        """Reference pulses at the last reading."""
        return float(self.stress * self.pulses[-1])


def branches_of(staircases: Sequence[Staircase], section: WeakReset) -> list[Branch]:
    """Staircases by condition.

    Raises:
        UserMistake: no staircases, not the same number of devices in all, or pulses below the onset voltage or far
            above what is weak.
    """
    if not staircases:
        raise UserMistake("weak-reset: there are no staircases to fit")
    counts = {len(item.resistance_ohm) for item in staircases}
    if len(counts) != 1:
        raise UserMistake(f"weak-reset: staircases of {sorted(counts)} devices; all need the same devices")
    members: dict[tuple[float, float, tuple[int, ...]], list[int]] = {}
    for place, item in enumerate(staircases):
        members.setdefault(item.condition, []).append(place)
    found = []
    for (device_v, width_s, pulses), places in members.items():
        stress = stress_per_pulse(section, device_v, width_s)
        if stress <= 0.0:
            raise UserMistake(
                f"weak-reset: {device_v:.3g} V across the devices is below weak_reset.onset_v = {section.onset_v:g} V, "
                "where pulses move nothing; measure at a higher VDDC"
            )
        if stress > MOST_STRESS:
            raise UserMistake(
                f"weak-reset: a pulse of {width_s:.3g} s at {device_v:.3g} V across the devices would count as "
                f"{stress:.3g} weak ones of {section.v_ref_v:g} V; look at the units of voltage and width"
            )
        found.append(Branch(np.array(pulses[1:], dtype=np.float64), device_v, stress, tuple(places)))
    return found


class Description(NamedTuple):
    """The devices of one branch.

    Attributes:
        curves: mean curves against reference pulses.
        residual: ``(devices, cycles, reads)``, readings less the mean curve.
        high: of the same shape, probability that RTN is high.
        ceiling: ``(devices,)`` RTN ceiling, in ln R.
        rise, fall: RTN probabilities per pulse.
        sigma: standard deviation of the noise in the low state.
        rough: ``(devices,)``, mean square of the difference of two readings in the low state that follow each other.
        calm: ``(devices,)``, how many such differences there are.
        log_likelihood: ``(devices,)``, of the residuals under the smoother.
    """

    curves: Curves
    residual: Floats
    high: Floats
    ceiling: Floats
    rise: float
    fall: float
    sigma: float
    rough: Floats
    calm: Floats
    log_likelihood: Floats


def describe(branch: Branch, log_ratio: Floats) -> Description:
    """Describe each device: alternately its curve, from readings weighted and corrected by RTN, and RTN from residuals.

    Args:
        branch: the condition.
        log_ratio: ``(devices, cycles, reads)``, ln of the readings over the reading at 0 pulses.
    """
    devices, cycles, reads = log_ratio.shape
    t = branch.stress * branch.pulses
    gaps = np.diff(branch.pulses, prepend=0.0)
    steps = np.abs(np.diff(log_ratio, axis=2))
    sigma = max(float(np.median(steps)) * 1.4826 / np.sqrt(2.0), _LEAST_SIGMA)
    weights, corrected = np.ones_like(log_ratio), log_ratio
    ceiling = np.full(devices, _FIRST_CEILING)
    rise = fall = 1.0 / float(branch.pulses[-1])
    for turn in range(PASSES):
        total = weights.sum(axis=1)
        curves = fit_curves(t, (weights * corrected).sum(axis=1) / total, total)
        residual = log_ratio - curves.at(t)[:, None, :]
        seen = residual
        if turn == 0:
            # the first curve runs between the two states; most readings of most devices are low
            seen = residual - np.percentile(residual, 20, axis=(1, 2))[:, None, None]
        flat = np.ascontiguousarray(seen.reshape(devices * cycles, reads))
        state = smooth(flat, gaps, rise, fall, np.repeat(ceiling, cycles), sigma)
        high = state.high.reshape(log_ratio.shape)
        squares = (high * seen**2).sum(axis=(1, 2)) + _CEILING_WEIGHT * _CEILING_HELD**2 * HIGH_SQUARE
        ceiling = np.clip(np.sqrt(squares / HIGH_SQUARE / (high.sum(axis=(1, 2)) + _CEILING_WEIGHT)), *_CEILINGS)
        rise, fall = _rates(high, float(state.rises.sum() + state.falls.sum()), gaps)
        low = 1.0 - high
        sigma = max(float(np.sqrt((low * seen**2).sum() / max(low.sum(), 1.0))), _LEAST_SIGMA)
        in_high = sigma**2 + HIGH_VARIANCE * ceiling[:, None, None] ** 2
        weights = low + high * sigma**2 / in_high
        shift = high * HIGH_MEAN * ceiling[:, None, None] * (sigma**2 / in_high)
        corrected = log_ratio - shift / weights
    both = (1.0 - high[:, :, 1:]) * (1.0 - high[:, :, :-1])
    calm = both.sum(axis=(1, 2))
    rough = (both * np.diff(log_ratio, axis=2) ** 2).sum(axis=(1, 2)) / np.maximum(calm, 1e-9)
    likelihood = state.log_likelihood.reshape(devices, cycles).sum(axis=1)
    return Description(curves, residual, high, ceiling, rise, fall, sigma, rough, calm, likelihood)


def _rates(high: Floats, changes: float, gaps: Floats) -> tuple[float, float]:
    """RTN probabilities per pulse for which so many changes of state are expected; gaps may differ."""
    before = high[:, :, :-1].sum(axis=(0, 1))
    share = float(np.clip(high.mean(), 1e-4, 1.0 - 1e-4))
    leaving = share * (high.shape[0] * high.shape[1] - before) + (1.0 - share) * before
    low, high_rate = np.log(1e-7), np.log(0.9)
    for _ in range(40):
        rate = np.exp(0.5 * (low + high_rate))
        if float((leaving * -np.expm1(-rate * gaps[1:])).sum()) < changes:
            low = np.log(rate)
        else:
            high_rate = np.log(rate)
    return share * float(rate), (1.0 - share) * float(rate)
