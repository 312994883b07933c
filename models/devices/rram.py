"""HfO2 resistive memory: what fabrication, forming, SET and RESET leave behind in a population of devices.

A device is virgin until it is formed, then in the low- or high-resistance state, or broken for good. Both resistance
populations are log-normal, with a device-to-device part (a deviate that each device keeps for life) and a
cycle-to-cycle part (drawn at each programming)::

    ln R = ln median + sigma_d2d z_device + sigma_c2c z_cycle

The LRS median is inversely proportional to the compliance current of the SET (about 0.4 to 0.5 V / I, the law of HfOx),
which the word line sets through the access transistor. The HRS median doubles with every ``doubling_v`` of RESET
voltage and grows weakly with the pulse width.

Functions act on arrays; every random draw comes from the generator passed in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import NumpyArrays, normal_quantile
from models.cells import DeviceState
from models.device_model import DeviceModel, Hrs, Lrs, Thresholds, Virgin
from models.devices.ageing import HrsChange

Floats = NDArray[np.float64]
States = NDArray[np.int8]

UNWORN = HrsChange(0.0, 1.0)
"""The HRS of a device that was never cycled."""

BROKEN_STATES = (DeviceState.STUCK_LRS, DeviceState.STUCK_HRS, DeviceState.OPEN)


class Deviates(NamedTuple):
    """What makes one device differ from the next, for life: standard normal deviates, arrays of one shape."""

    lrs: Floats
    hrs: Floats
    virgin: Floats
    forming: Floats


def draw_deviates(shape: tuple[int, ...], rng: np.random.Generator) -> Deviates:
    """Draw the deviates of each device of an array."""
    return Deviates(*(rng.standard_normal(shape) for _ in Deviates._fields))


def fabricated_states(model: DeviceModel, shape: tuple[int, ...], rng: np.random.Generator) -> States:
    """States of devices fresh from fabrication: virgin, but for the defects."""
    rank = rng.random(shape)
    edges = np.cumsum([model.defects.stuck_lrs, model.defects.stuck_hrs, model.defects.open])
    outcomes = np.array([*BROKEN_STATES, DeviceState.VIRGIN], dtype=np.int8)
    return outcomes[np.searchsorted(edges, rank, side="right")]


def damaged_states(count: int, rng: np.random.Generator) -> States:
    """What ``count`` devices become beyond their absolute maximum: each way of breaking is as likely as the others."""
    return rng.choice(np.array(BROKEN_STATES, dtype=np.int8), size=count)


def compliance_a(lrs: Lrs, vddr_v: float) -> float:
    """Current in A that the access transistor lets through in a SET: linear above the gate's threshold, 0 below."""
    overdrive = max(vddr_v - lrs.gate_threshold_v, 0.0)
    return lrs.set_compliance_ref_a * overdrive / (lrs.vddr_ref_v - lrs.gate_threshold_v)


def lrs_median_ohm(lrs: Lrs, current_a: float) -> float:
    """Median LRS after a SET limited to ``current_a`` (> 0), in ohm."""
    return lrs.median_ohm * lrs.set_compliance_ref_a / current_a


def hrs_median_ohm(hrs: Hrs, device_v: float, width_s: float) -> float:
    """Median HRS after a RESET with ``device_v`` across the device for ``width_s``, in ohm."""
    doublings = (device_v - hrs.vddc_ref_v / hrs.drop_ratio) / hrs.doubling_v
    return float(hrs.median_ohm * 2.0**doublings * (width_s / hrs.width_ref_s) ** hrs.width_exponent)


def reset_device_v(hrs: Hrs, vddc_v: float, vddr_v: float) -> float:
    """Voltage across a device in a RESET from the supplies, in V; a word line below VDDC passes its own voltage."""
    return min(vddc_v, vddr_v) / hrs.drop_ratio


def draw_lrs(lrs: Lrs, current_a: float, deviates: Floats, rng: np.random.Generator) -> Floats:
    """Resistances in ohm after a SET limited to ``current_a``, one cycle deviate each.

    Args:
        deviates: the devices' LRS deviates, any shape.
    """
    return _log_normal(lrs_median_ohm(lrs, current_a), lrs.sigma_d2d, deviates, lrs.sigma_c2c, rng)


def draw_hrs(
    hrs: Hrs,
    device_v: float,
    width_s: float,
    deviates: Floats,
    rng: np.random.Generator,
    change: HrsChange = UNWORN,
) -> Floats:
    """Resistances in ohm after a RESET with ``device_v`` across the devices for ``width_s``, one cycle deviate each.

    Args:
        deviates: the devices' HRS deviates, any shape.
        change: what wear has done to the HRS of each device.
    """
    median = hrs_median_ohm(hrs, device_v, width_s) * np.exp(change.shift)
    return _log_normal(median, hrs.sigma_d2d, deviates, hrs.sigma_c2c * change.spread, rng)


def virgin_ohm(virgin: Virgin, deviates: Floats) -> Floats:
    """Resistances in ohm of devices that were never formed."""
    return np.asarray(virgin.median_ohm * np.exp(virgin.sigma * deviates))


def broken_ohm(model: DeviceModel, states: States, deviates: Deviates, rng: np.random.Generator) -> Floats:
    """Resistances in ohm of broken devices, fixed for good.

    Args:
        states: STUCK_LRS, STUCK_HRS or OPEN, any shape; ``deviates`` have the same shape.
    """
    low = draw_lrs(model.lrs, model.lrs.set_compliance_ref_a, deviates.lrs, rng)
    high = _log_normal(model.hrs.median_ohm, model.hrs.sigma_d2d, deviates.hrs, model.hrs.sigma_c2c, rng)
    stuck = np.where(states == DeviceState.STUCK_LRS, low, high)
    return np.where(states == DeviceState.OPEN, model.defects.open_ohm, stuck)


def formed(
    thresholds: Thresholds,
    applied_v: float,
    median_v: float,
    deviates: Floats,
    pulses: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Which virgin devices form within ``pulses`` (>= 1) pulses of ``applied_v``.

    A device's forming voltage varies about its own mean from pulse to pulse; the lowest of ``pulses`` draws is drawn at
    once, as the quantile of a minimum.

    Args:
        median_v: median forming voltage over devices, for this way of applying it.
        deviates: the devices' forming deviates.
    """
    xp = NumpyArrays(rng)
    lowest = normal_quantile(xp, -np.expm1(np.log1p(-rng.random(deviates.shape)) / pulses))
    spread = thresholds.form_sigma_d2d * deviates + thresholds.form_sigma_c2c * lowest
    return np.asarray(applied_v >= median_v * (1.0 + spread))


def forming_pulses(
    thresholds: Thresholds, applied_v: float, median_v: float, deviates: Floats, rng: np.random.Generator
) -> Floats:
    """How many pulses of ``applied_v`` each virgin device needs until it forms; infinite where it never does.

    The same law as :func:`formed`: each pulse has the same chance.

    Args:
        median_v: median forming voltage over devices, for this way of applying it.
        deviates: the devices' forming deviates.
    """
    from scipy.special import ndtr

    margin = applied_v / median_v - 1.0 - thresholds.form_sigma_d2d * deviates
    if thresholds.form_sigma_c2c == 0.0:
        return np.where(margin >= 0.0, 1.0, np.inf)
    with np.errstate(divide="ignore"):
        rate = -np.log1p(-ndtr(margin / thresholds.form_sigma_c2c))
        return np.asarray(np.maximum(np.ceil(rng.standard_exponential(deviates.shape) / rate), 1.0))


def _log_normal(
    median: Floats | float, sigma_d2d: float, deviates: Floats, sigma_c2c: Floats | float, rng: np.random.Generator
) -> Floats:
    cycle = rng.standard_normal(deviates.shape)
    return np.asarray(median * np.exp(sigma_d2d * deviates + sigma_c2c * cycle))
