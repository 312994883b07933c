"""Populations of weak-RESET devices, measured like the real ones, and the statistics of their descriptions.

Both are simulated by the very model that predicts with the result. :mod:`calibration.weak_reset_search` looks for the
populations whose statistics are those of the measured devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.weak_reset_curves import Branch, Description, Staircase, describe
from models.arrays import NumpyArrays
from models.device_model import ReadNoise, WeakReset
from models.devices.weak_reset import UNIFORM_SD, WeakResetDevices, integrator_coefficients

Floats = NDArray[np.float64]

CEILING_SHARE = 0.9
"""A device read above this share of the ceiling has reached it, or is about to: what it does then is no drift."""


class Free(NamedTuple):
    """A parameter that is estimated.

    Attributes:
        name: field of the section ``weak_reset``.
        log: its logarithm is what is estimated.
        width: half width of the first search.
        low, high: allowed values.
    """

    name: str
    log: bool
    width: float
    low: float
    high: float


FREE = (
    Free("slope1_scale", True, 0.6, 1e-9, 0.5),
    Free("knee_scale", True, 0.6, 1e-1, 1e9),
    Free("knee_shape", True, 0.5, 0.05, 4.0),
    Free("offset_mean", False, 0.05, -1.0, 1.0),
    Free("offset_sd", True, 0.6, 1e-4, 1.0),
    Free("slope2_scale", True, 0.8, 1e-9, 0.5),
    Free("rtn_p_low_high", True, 0.8, 1e-7, 0.45),
    Free("rtn_p_high_low", True, 0.8, 1e-7, 0.45),
    Free("rtn_amplitude_high", True, 0.5, 1e-3, 4.0),
    Free("pink_alpha", True, 0.6, 1e-5, 4.0),
    Free("efold_v", True, 0.4, 0.02, 5.0),
)
"""What the weak-RESET staircase can tell, in the device file's units."""

KNEE = frozenset({"knee_scale", "knee_shape", "slope2_scale"})
RTN_RATES = frozenset({"rtn_p_low_high", "rtn_p_high_low"})
RTN = RTN_RATES | {"rtn_amplitude_high"}


@dataclass(frozen=True)
class Setting:
    """What a simulated population has in common with the measured one.

    Attributes:
        staircases: in the order of measurement; only their conditions are used.
        branches: the same by condition.
        log_r0: ``(devices, staircases)`` measured ln R at 0 pulses.
        noise: of the meter's readings, from the base file.
        contrast: difference of the slopes from which a knee counts for half.
    """

    staircases: tuple[Staircase, ...]
    branches: tuple[Branch, ...]
    log_r0: Floats
    noise: ReadNoise
    contrast: float

    @property
    def reads(self) -> int:
        """Readings of one device."""
        return sum(len(item.pulses) for item in self.staircases)

    @property
    def voltages(self) -> Floats:
        """Device voltage of each branch."""
        return np.array([branch.device_v for branch in self.branches])


def simulate(
    section: WeakReset, setting: Setting, devices: int, rng: np.random.Generator
) -> tuple[list[Floats], NDArray[np.bool_]]:
    """Measure a simulated population as the real one was.

    Returns:
        ln R over the reading at 0 pulses by staircase, ``(devices, reads - 1)``, and which devices stay below the
        ceiling throughout.
    """
    population = WeakResetDevices(section, (devices,), NumpyArrays(rng))
    log_r0 = setting.log_r0[rng.integers(0, len(setting.log_r0), devices)]
    kept = np.ones(devices, dtype=bool)
    measured = []
    for place, staircase in enumerate(setting.staircases):
        if place > 0:
            population.set_again(np.ones(devices, dtype=bool))
        w = np.empty((devices, len(staircase.pulses) - 1))
        for index, count in enumerate(np.diff(staircase.pulses)):
            population.apply(int(count), staircase.device_v, staircase.width_s)
            w[:, index] = population.log_ratio
        first = log_r0[:, place : place + 1]
        shared = _read_noise(setting.noise, first) * rng.standard_normal((devices, 1))
        z = w + _read_noise(setting.noise, first + w) * rng.standard_normal(w.shape) - shared
        kept &= below_ceiling(section, first, z)
        measured.append(z)
    return measured, kept


def below_ceiling(section: WeakReset, log_r0: Floats, log_ratio: Floats) -> NDArray[np.bool_]:
    """Devices all of whose readings ``(devices, reads)`` stay below the ceiling."""
    limit = np.log(CEILING_SHARE * section.ceiling_ohm)
    low: NDArray[np.bool_] = (log_r0 + log_ratio < limit).all(axis=1)
    return low


def _read_noise(noise: ReadNoise, log_r: Floats) -> Floats:
    """Standard deviation of ln R between readings, as :func:`models.devices.ageing.read_noise_sigma` of an array."""
    # the square keeps the exponent of a huge resistance from overflowing
    grown = np.exp(np.minimum(noise.exponent * (log_r - np.log(noise.resistance_ref_ohm)), 50.0))
    return np.asarray(np.minimum(noise.sigma_ref * grown, noise.sigma_high))


def describe_all(setting: Setting, measured: Sequence[Floats]) -> list[Description]:
    """Descriptions by branch of readings by staircase."""
    return [
        describe(branch, np.stack([measured[place] for place in branch.members], axis=1)) for branch in setting.branches
    ]


def statistics(
    setting: Setting, found: Sequence[Description], measured: Sequence[Floats], section: WeakReset
) -> Floats:
    """What is compared between the measured population and a simulated one; one row of numbers."""
    reach = max(branch.reach for branch in setting.branches)
    pairs = list(zip(setting.branches, found, strict=True))
    slopes = [_slope_statistics(item, section) for item in found]
    knees = [_knee_statistics(b, item, section, setting.contrast) for b, item in pairs if b.reach >= 0.7 * reach]
    noises = [_noise_statistics(item) for item in found]
    rises = [_rise_statistics(b, measured) for b in setting.branches]
    parts = [np.mean(group, axis=0) for group in (slopes, knees, noises, rises)]
    if np.ptp(setting.voltages) > 0.0:
        lever = setting.voltages - setting.voltages.mean()
        against = np.stack([[slope[0], rise[-2]] for slope, rise in zip(slopes, rises, strict=True)])
        parts.append(lever @ against / float(lever @ lever))
    return np.concatenate(parts)


def _log(value: float) -> float:
    return float(np.log(max(value, 1e-12)))


def _slope_statistics(found: Description, section: WeakReset) -> list[float]:
    slope, offset = np.clip(found.curves.slope1, 0.0, section.slope1_high), found.curves.offset
    centre = float(np.median(offset))
    return [
        _log(float(slope.mean())),
        _log(float(np.median(np.maximum(slope, 1e-3 * slope.mean())))),
        centre,
        float(np.clip(offset, -1.0, 1.0).mean()),
        _log(float(np.clip(offset - centre, -1.0, 1.0).std())),
        _log(float(np.median(np.abs(offset - centre)))),
    ]


def _knee_statistics(branch: Branch, found: Description, section: WeakReset, contrast: float) -> list[float]:
    curves = found.curves
    clear = (curves.slope1 - curves.slope2) ** 2
    clear = clear / (clear + contrast**2)
    total = max(float(clear.sum()), 1e-9)
    log_knee = np.log(curves.knee)
    mean = float((clear * log_knee).sum()) / total
    late = curves.slope2[curves.knee < 0.6 * branch.reach]
    late = late if len(late) else np.zeros(1)
    high = section.slope2_high
    return [
        mean,
        0.5 * _log(float((clear * (log_knee - mean) ** 2).sum()) / total),
        _log(float(np.clip(late, 0.0, high).mean())),
        float(np.clip(late, -0.25 * high, high).mean()) / high,
    ]


def _noise_statistics(found: Description) -> list[float]:
    high = found.high.mean(axis=(1, 2))
    total = max(float(high.sum()), 1e-9)
    return [
        _log(float(high.mean())),
        _log(found.rise),
        _log(found.fall),
        _log(float((found.ceiling * high).sum()) / total),
        _log(float(((found.ceiling * high) ** 2).sum()) / total),
        _log(float((found.rough * found.calm).sum()) / max(float(found.calm.sum()), 1e-9)),
        _log(found.sigma),
    ]


def _rise_statistics(branch: Branch, measured: Sequence[Floats]) -> list[float]:
    """How far the readings themselves rise, from the first, up to some points of the staircase and to its end."""
    z = np.mean([measured[place] for place in branch.members], axis=0)
    numbers = []
    for share in (0.25, 1.0):
        index = max(int(np.searchsorted(branch.pulses, share * branch.pulses[-1])), 1)
        risen = np.clip(z[:, index] - z[:, 0], -1.0, 6.0)
        numbers += [_log(float(np.maximum(risen, 1e-4).mean())), _log(float(np.median(np.maximum(risen, 1e-4))))]
    return numbers


def first_guess(setting: Setting, found: Sequence[Description], base: WeakReset) -> WeakReset:
    """Populations of about the right size, straight from the descriptions."""
    best = max(range(len(found)), key=lambda place: setting.branches[place].reach)
    item, branch = found[best], setting.branches[best]
    slope = float(np.clip(item.curves.slope1, 0.0, base.slope1_high).mean())
    knees = _knee_statistics(branch, item, base, setting.contrast)
    high = item.high.mean(axis=(1, 2))
    centre = float(np.median(item.curves.offset))
    ceiling = float((item.ceiling * high).sum()) / max(float(high.sum()), 1e-9)
    integrator = float(np.sqrt((integrator_coefficients(int(base.pink_memory)) ** 2).sum()))
    meter = float(np.median(_read_noise(setting.noise, setting.log_r0)))
    own = np.sqrt(max(item.sigma**2 - 2.0 * meter**2, 0.1 * item.sigma**2))
    guess = {
        "slope1_scale": max(slope - base.slope1_loc, 0.2 * slope),
        "knee_scale": float(np.clip(np.exp(knees[0]), max(base.knee_low, branch.pulses[0]), base.knee_high)),
        "knee_shape": float(np.clip(np.exp(knees[1]), 0.2, 1.5)),
        "offset_mean": float(np.clip(centre, base.offset_low, base.offset_high)),
        "offset_sd": 1.4826 * float(np.median(np.abs(item.curves.offset - centre))),
        "slope2_scale": 0.5 * float(np.exp(knees[2])),
        "rtn_p_low_high": item.rise,
        "rtn_p_high_low": item.fall,
        "rtn_amplitude_high": 1.3 * ceiling,
        "pink_alpha": float(own) / (UNIFORM_SD * integrator),
    }
    limits = {item.name: item for item in FREE}
    return replace(base, **{n: float(np.clip(x, limits[n].low, limits[n].high)) for n, x in guess.items()})
