"""The weak-RESET fit on plain arrays: populations of the mean curve, of RTN and of 1/f noise, with their intervals."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import UPPER, Estimate
from calibration.resistance import FEWEST, outlying
from calibration.result import Fit, Outlier
from calibration.weak_reset_curves import Description, Staircase, branches_of, thinned
from calibration.weak_reset_judging import compare, furthest, judge
from calibration.weak_reset_population import (
    FREE,
    KNEE,
    RTN,
    RTN_RATES,
    Free,
    Setting,
    below_ceiling,
    describe_all,
    first_guess,
    simulate,
)
from calibration.weak_reset_search import Populations, infer, observe
from calibration.weak_reset_trains import repeated_cycles, trains_of
from models.device_model import SCHEMA, DeviceModel, WeakReset
from models.exceptions import UserMistake

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

UNSUPPORTED = 0.8
"""Standard error of a logarithm from which the data say practically nothing: 95 % span a factor of 20."""

_UNSUPPORTED_PLAIN = 0.25

FEWEST_SWITCHES = 10.0
"""Switches of RTN that stand out of the noise, below which its rates are not fitted: even if nothing else blurred them,
so few would tell a rate to a factor of 2 each way at best."""

_JUDGES = 4000
_JUDGE_SEED = 1402
_FAR, _STILL = 1.5, 0.67
"""Residuals above the largest, and movement below the least, of so many simulated devices, with this margin."""

_EXTREME = 19.0
"""Robson and Whitlock, Biometrika 1964: with 95 % confidence the end of a population lies no further beyond the most
extreme member than this many times the distance from there to the next."""


@dataclass
class _Screening:
    """Devices and why they are left out; empty for members."""

    reasons: list[str]

    def leave_out(self, devices: Mask, reason: str) -> None:
        for place in np.flatnonzero(devices):
            if not self.reasons[place]:
                self.reasons[place] = reason

    @property
    def members(self) -> Mask:
        return np.array([not reason for reason in self.reasons])


def fit_weak_reset(
    staircases: Sequence[Staircase], base: DeviceModel, addresses: NDArray[np.int64] | None = None
) -> Fit:
    """Fit the populations of the weak RESET.

    Several staircases under the same condition are taken together; several voltages tell how slopes and knee depend
    on it. Locations and truncations of the populations, the length of the noise filter, onset and ceiling, and the
    meter's noise are those of the base file. Of long trains only so many readings are fitted as whole populations can
    be simulated with, see :func:`~calibration.weak_reset_curves.thinned`.

    Args:
        staircases: in the order of measurement, all of the same devices in the same order.
        base: what is not fitted.
        addresses: ``(devices, 3)`` row, column and device; counted from 0 in one row when None.

    Raises:
        UserMistake: see :class:`~calibration.weak_reset_curves.Staircase`; or devices given twice, pulses below the
            onset, or too few devices that move within the range of the meter.
    """
    section, whole = base.weak_reset, staircases
    staircases = thinned(whole)
    branches = branches_of(staircases, section)
    devices = len(staircases[0].resistance_ohm)
    where = _addresses(devices, addresses)
    log_r = [np.log(item.resistance_ohm) for item in staircases]
    screening, ceiling = _screen(log_r, section, np.any([item.limited for item in staircases], axis=0))
    _enough(screening, ceiling, devices)
    first = np.stack([item[:, 0] for item in log_r], axis=1)
    with np.errstate(invalid="ignore"):  # infinite less infinite, of devices that are left out
        ratio = [item[:, 1:] - item[:, :1] for item in log_r]

    def chosen(mask: Mask) -> list[Floats]:
        return [z[mask & ~ceiling] for z in ratio]

    members = screening.members
    setting = Setting(tuple(staircases), tuple(branches), first[members], base.read_noise, 1.0)
    measured = chosen(members)
    found = describe_all(setting, measured)
    slopes = np.clip(np.concatenate([item.curves.slope1 for item in found]), 0.0, section.slope1_high)
    setting = replace(setting, contrast=0.5 * max(float(slopes.mean()), 1e-9))
    rivals = compare(setting, found, measured, trains_of(whole, branches, members & ~ceiling))
    free, kept = _asked(setting, rivals.knee, rivals.rtn)
    start = first_guess(setting, found, section)
    kept_values = {name: getattr(section, name) for name in kept}
    if not rivals.rtn:
        kept_values["rtn_amplitude_high"] = 0.0
    start = replace(start, **kept_values)

    def put_aside(guess: WeakReset) -> Floats | None:
        strange = _strange(setting, guess, measured)
        if not strange:
            return None
        places = np.flatnonzero(members & ~ceiling)
        for reason, mask in strange.items():
            flagged = np.zeros(devices, dtype=bool)
            flagged[places[mask]] = True
            screening.leave_out(flagged, reason)
        _enough(screening, ceiling, devices)
        left = chosen(screening.members)
        return observe(setting, left, int(screening.members.sum()), section)

    count = int(members.sum())
    observed = observe(setting, measured, count, section)
    populations = infer(setting, observed, count, start, free, _seed(whole), put_aside)
    if not (screening.members == members).all():
        members = screening.members
        setting = replace(setting, log_r0=first[members])
        measured = chosen(members)
        found = describe_all(setting, measured)
        rivals = compare(setting, found, measured, trains_of(whole, branches, members & ~ceiling))
    count = int(members.sum())
    checks, overlays = judge(setting, found, measured, populations, count)
    repeated, held_out = repeated_cycles(branches, trains_of(whole, branches, members & ~ceiling))
    screening.leave_out(ceiling, "reached the ceiling, from where on it does not drift")
    switches = _visible_switches(setting, populations.section, count, found[furthest(setting)].sigma)
    parameters, unsupported = _parameters(populations, count, switches)
    if not rivals.rtn and "rtn_amplitude_high" not in unsupported:
        parameters["weak_reset.rtn_amplitude_high"] = Estimate(0.0, 0.0, 4.0 * found[0].sigma, "1")
    parameters |= _r0(np.exp(first[members]))
    core = "slope1_scale" not in unsupported
    problems = _problems(setting, populations, unsupported, kept, rivals.rtn, switches)
    problems += _beyond(setting, found, section, rivals.knee)
    problems += [f"the fit does not predict: {check.text}" for check in (*checks, *repeated) if not check.good]
    return Fit(
        parameters=parameters,
        devices=count,
        converged=populations.settled and core,
        problems=tuple(problems),
        report=(*_report(setting, section, count, int(ceiling.sum()), whole), *rivals.lines, *held_out),
        outliers=tuple(
            Outlier(int(where[place, 0]), int(where[place, 1]), int(where[place, 2]), reason)
            for place, reason in enumerate(screening.reasons)
            if reason
        ),
        checks=(*checks, *repeated),
        comparisons=rivals.comparisons,
        overlays=overlays,
    )


def _seed(staircases: Sequence[Staircase]) -> int:
    """Drawn from the readings: a fit of the same data gives the same digits, and fits of several chips no common error.

    With one seed for all, what its populations are off by chance would be the same error in each of them.
    """
    digest = hashlib.blake2b(digest_size=8)
    for staircase in staircases:
        digest.update(np.ascontiguousarray(staircase.resistance_ohm, dtype="<f8").tobytes())
    return int.from_bytes(digest.digest(), "little")


def _addresses(devices: int, addresses: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if addresses is None:
        return np.stack([np.zeros(devices), np.arange(devices), np.zeros(devices)], axis=1).astype(np.int64)
    where = np.asarray(addresses, dtype=np.int64)
    if where.shape != (devices, 3):
        raise UserMistake(f"weak-reset: addresses {where.shape} do not fit {devices} devices")
    unique, counts = np.unique(where, axis=0, return_counts=True)
    if (counts > 1).any():
        row, col, device = unique[int(np.argmax(counts > 1))]
        raise UserMistake(f"weak-reset: device {device} of row {row}, column {col} is given {counts.max()} times")
    return where


def _screen(log_r: Sequence[Floats], section: WeakReset, limited: Mask) -> tuple[_Screening, Mask]:
    """Devices that cannot be members, and those that reached the ceiling: members of a kind that are not described."""
    screening = _Screening([""] * len(log_r[0]))
    screening.leave_out(limited, "a reading in compliance: the range of the meter ended there")
    for item in log_r:
        screening.leave_out(~np.isfinite(item[:, 0]), "open: no current flowed right after the SET")
    starts = np.stack([item[:, 0] for item in log_r])
    for row in starts:
        members = screening.members
        far = np.zeros_like(members)
        if members.any() and np.ptp(row[members]) > 0.0:
            far[members] = outlying(row[members])
        screening.leave_out(far, "not in the LRS at 0 pulses")
    screening.leave_out(
        np.all([(item == item[:, :1]).all(axis=1) for item in log_r], axis=0),
        "reads the same at all pulses: stuck or saturated",
    )
    with np.errstate(invalid="ignore"):
        low = [below_ceiling(section, item[:, :1], item[:, 1:] - item[:, :1]) for item in log_r]
    ceiling: Mask = ~np.all(low, axis=0) & screening.members
    return screening, ceiling


def _enough(screening: _Screening, ceiling: Mask, devices: int) -> None:
    left = int((screening.members & ~ceiling).sum())
    if left >= FEWEST:
        return
    reasons = [reason for reason in screening.reasons if reason]
    common = max(set(reasons), key=reasons.count) if reasons else "reached the ceiling"
    if int(ceiling.sum()) > len(reasons):
        common = "reached the ceiling: use fewer or weaker pulses"
    raise UserMistake(
        f"weak-reset: {left} of {devices} devices can be fitted, {FEWEST} are needed"
        + (f"; most others: {common}" if devices > left else "; measure more")
    )


def _asked(setting: Setting, knee: bool, rtn: bool) -> tuple[tuple[Free, ...], frozenset[str]]:
    """What is estimated, and what the data cannot tell."""
    kept: frozenset[str] = frozenset()
    if not knee:
        kept |= KNEE
    if not rtn:
        kept |= RTN
    if np.ptp(setting.voltages) == 0.0:
        kept |= {"efold_v"}
    return tuple(item for item in FREE if item.name not in kept), kept


def _strange(setting: Setting, guess: WeakReset, measured: Sequence[Floats]) -> Mapping[str, Mask]:
    """Devices unlike any of many simulated ones, by the reason."""
    rng = np.random.default_rng(_JUDGE_SEED)
    devices = max(_JUDGES // len(setting.staircases), 500)
    readings, kept = simulate(guess, setting, devices, rng)
    usual = [z[kept] for z in readings] if kept.sum() > 100 else readings
    noise, motion = _noise_and_motion(setting, usual)
    here_noise, here_motion = _noise_and_motion(setting, measured)
    found = {
        "its readings scatter as no device of the population would": here_noise > _FAR * noise.max(),
        "it moves less than any device of the population would: stuck": here_motion < _STILL * motion.min(),
    }
    return {reason: mask for reason, mask in found.items() if mask.any()}


def _noise_and_motion(setting: Setting, measured: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Root mean square residual, and s.d. of the readings, of each device."""
    found = describe_all(setting, measured)
    noise = np.sqrt(np.mean([(item.residual**2).mean(axis=(1, 2)) for item in found], axis=0))
    motion = np.sqrt(np.mean([z.var(axis=1) for z in measured], axis=0))
    return noise, motion


def _visible_switches(setting: Setting, section: WeakReset, devices: int, sigma: float) -> float:
    """How many readings are expected to follow one in the other RTN state, and to tell so.

    A high reading adds the product of three uniform numbers times the largest amplitude: the ceiling of a device, and
    the two of the reading. It tells where that is above twice the noise.

    Args:
        setting: how was measured.
        section: populations.
        devices: how many were measured.
        sigma: standard deviation of the noise in the low state.
    """
    switching = section.rtn_p_low_high + section.rtn_p_high_low
    high = section.rtn_p_low_high / switching
    level = min(max(2.0 * sigma / max(section.rtn_amplitude_high, 1e-12), 1e-12), 1.0)
    decades = -math.log(level)
    told = 1.0 - level * (1.0 + decades + 0.5 * decades**2)
    moved = sum(
        float(-np.expm1(np.log1p(-min(switching, 0.999)) * np.diff(branch.pulses)).sum()) * len(branch.members)
        for branch in setting.branches
    )
    return devices * told * 2.0 * high * (1.0 - high) * moved


def _parameters(populations: Populations, devices: int, switches: float) -> tuple[dict[str, Estimate], list[str]]:
    """Estimates by key, and the names that the data say practically nothing about.

    Args:
        populations: the estimate.
        devices: how many were measured.
        switches: of RTN that are expected to be seen.
    """
    from scipy import stats

    sds = np.sqrt(np.diag(populations.covariance))
    quantile = float(stats.t.ppf(UPPER, min(devices - 1, populations.freedom)))
    estimates, unsupported = {}, []
    for item, x, sd in zip(populations.free, populations.value, sds, strict=True):
        if item.name in RTN_RATES:
            # so many events of each kind tell their rate no better than this
            sd = max(sd, 1.0 / math.sqrt(max(0.5 * switches, 1e-9)))
        few = item.name in RTN_RATES and switches < FEWEST_SWITCHES
        if few or not sd <= (UNSUPPORTED if item.log else _UNSUPPORTED_PLAIN):
            unsupported.append(item.name)
            continue
        # the interval is that of the median; the value of a logarithm is such that its mean is right
        middle = x - 0.5 * sd**2 if item.log else x
        low, value, high = (float(np.exp(y) if item.log else y) for y in (x - quantile * sd, middle, x + quantile * sd))
        key = f"weak_reset.{item.name}"
        estimates[key] = Estimate(value, low, high, SCHEMA[key].unit)
    return estimates, unsupported


def _r0(resistance_ohm: Floats) -> dict[str, Estimate]:
    """R0 as the source describes it: a normal population within the extremes that were read.

    The intervals hold for any population with a fourth moment, of devices that are independent of each other.

    Args:
        resistance_ohm: ``(devices, staircases)`` at 0 pulses.
    """
    from scipy import stats

    devices = len(resistance_ohm)
    quantile = float(stats.t.ppf(UPPER, devices - 1))
    mean, sd = float(resistance_ohm.mean()), float(resistance_ohm.std(ddof=1))
    margin = quantile * float(resistance_ohm.mean(axis=1).std(ddof=1)) / math.sqrt(devices)
    squares = ((resistance_ohm - mean) ** 2).mean(axis=1)
    relative = 0.5 * quantile * float(squares.std(ddof=1)) / math.sqrt(devices) / sd**2
    ordered = np.sort(resistance_ohm, axis=None)
    lowest, highest = float(ordered[0]), float(ordered[-1])
    return {
        "weak_reset.r0_mean_ohm": Estimate(mean, mean - margin, mean + margin, "ohm"),
        "weak_reset.r0_sd_ohm": Estimate(sd, sd * math.exp(-relative), sd * math.exp(relative), "ohm"),
        "weak_reset.r0_low_ohm": Estimate(
            lowest, max(lowest - _EXTREME * float(ordered[1] - ordered[0]), 0.1 * lowest), lowest, "ohm"
        ),
        "weak_reset.r0_high_ohm": Estimate(
            highest, highest, min(highest + _EXTREME * float(ordered[-1] - ordered[-2]), 10.0 * highest), "ohm"
        ),
    }


def _problems(
    setting: Setting,
    populations: Populations,
    unsupported: Sequence[str],
    kept: frozenset[str],
    rtn: bool,
    switches: float,
) -> list[str]:
    lines = []
    if not populations.settled:
        lines.append("the search for the populations did not settle; measure more devices or more readings")
    few = switches < FEWEST_SWITCHES and bool(RTN_RATES & set(unsupported))
    lines += [
        f"these readings say practically nothing of weak_reset.{name}: the base file's value is kept"
        for name in unsupported
        if not (few and name in RTN_RATES)
    ]
    if few:
        lines.append(
            f"only about {switches:.1f} switches of RTN are expected to show in these readings, at least "
            f"{FEWEST_SWITCHES:g} are needed: weak_reset.rtn_p_low_high and weak_reset.rtn_p_high_low are not fitted, "
            "the base file's are kept; use more pulses or more devices"
        )
    if kept >= KNEE:
        reach = max(branch.reach for branch in setting.branches)
        lines.append(
            f"no knee is seen within {reach:.0f} reference pulses: knee_scale, knee_shape and slope2_scale of the base "
            "file are kept; use more pulses"
        )
    if not rtn:
        lines.append("no RTN is seen: its amplitude is 0, its rates are those of the base file")
    return lines


def _beyond(setting: Setting, found: Sequence[Description], section: WeakReset, kneed: bool) -> list[str]:
    """Curves that the base file's truncations would not let a device have."""
    curves = found[furthest(setting)].curves
    slope, knee = float(np.median(curves.slope1)), float(np.median(curves.knee))
    lines = []
    if slope > 0.5 * section.slope1_high:
        lines.append((f"first slope, {slope:.3g} per reference pulse,", "slope1_high", section.slope1_high))
    if kneed and not section.knee_low < knee < section.knee_high:
        name = "knee_low" if knee <= section.knee_low else "knee_high"
        lines.append((f"knee, {knee:.3g} reference pulses,", name, getattr(section, name)))
    return [
        f"the {what} of the typical device lies too far out for weak_reset.{name} = {limit:g} of the base file, which "
        "is not fitted: give a base file with wider limits (--base)"
        for what, name, limit in lines
    ]


def _report(setting: Setting, section: WeakReset, devices: int, ceiling: int, whole: Sequence[Staircase]) -> list[str]:
    conditions = ", ".join(
        f"{len(branch.members)} x {len(branch.pulses)} readings up to {branch.pulses[-1]:.0f} pulses at "
        f"{branch.device_v:.3g} V on the device"
        for branch in setting.branches
    )
    lines = [
        f"weak RESET: {devices} devices, {conditions}",
        "kept from the base file: locations and truncations of the populations, length of the noise filter, onset, "
        "ceiling and the meter's noise",
    ]
    if np.ptp(setting.voltages) == 0.0:
        lines.append(
            f"one voltage was measured: weak_reset.efold_v = {section.efold_v:g} V of the base file turns its pulses "
            f"into reference pulses, {setting.branches[0].stress:.4g} each"
        )
    reads = sum(len(item.pulses) for item in whole)
    if reads > setting.reads:
        lines.append(
            f"populations are fitted to {setting.reads} of the {reads} readings of each device, evenly spaced in the "
            "logarithm; curves and cycles are compared on all of them"
        )
    if ceiling:
        lines.append(
            f"{ceiling} devices reached the ceiling; they are not described, and the simulated populations lose theirs "
            "alike, so that this biases nothing"
        )
    return lines
