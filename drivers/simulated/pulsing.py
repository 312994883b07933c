"""What pulses at given rails can do to the devices of the simulated chip."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.arrays import NumpyArrays
from models.cells import DeviceMask
from models.device_model import DeviceModel, Thresholds
from models.devices import rram
from models.devices.weak_reset import WeakResetDevices, mean_log_ratio, stress_per_pulse
from models.exceptions import UserMistake

if TYPE_CHECKING:
    from drivers.simulated.world import Rails


def checked_devices(devices: DeviceMask, shape: tuple[int, ...], widths_s: tuple[float, ...], count: int) -> DeviceMask:
    """The mask of devices; a UserMistake where it, or the widths and the count of their pulses, make no sense."""
    mask = np.asarray(devices)
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise UserMistake(f"devices must be bool of shape {shape}, not {mask.dtype} of {mask.shape}")
    for width_s in widths_s:
        if not (np.isfinite(width_s) and width_s > 0.0) or count < 0:
            raise UserMistake(f"cannot apply {count} pulses of {width_s} s; widths are above 0, counts 0 or more")
    return mask


def reaches_set(at: Thresholds, rails: Rails) -> bool:
    """Whether the SET polarity sets devices at these rails."""
    return rails.vddc_v >= at.set_vddc_v and rails.vddr_v >= at.set_vddr_v


def reaches_reset(at: Thresholds, rails: Rails) -> bool:
    """Whether the RESET polarity resets devices at these rails, and not just a little."""
    return rails.vddc_v >= at.reset_vddc_v and rails.vddr_v >= at.reset_vddr_v


def ceiling_chance(
    model: DeviceModel,
    weak: WeakResetDevices,
    deviates: NDArray[np.float64],
    current_a: float,
    device_v: float,
    width_s: float,
) -> NDArray[np.float64]:
    """Probability that one weak RESET right after a SET takes a device up to the ceiling, which counts as the HRS.

    RTN and 1/f noise, which change by less from one pulse to the next than the SET's own spread, are left out.

    Args:
        deviates: the devices' LRS deviates, any shape.
        current_a: compliance of the SET.
        device_v, width_s: voltage across the devices in the weak RESET, and its width.

    Returns:
        Of the shape of ``deviates``.
    """
    from scipy.special import ndtr

    arrays = NumpyArrays(np.random.default_rng(0))  # nothing is drawn
    stress = stress_per_pulse(model.weak_reset, device_v, width_s)
    rise = mean_log_ratio(arrays, weak.parameters, stress)
    centre = math.log(rram.lrs_median_ohm(model.lrs, current_a)) + model.lrs.sigma_d2d * deviates + rise
    above = centre - math.log(model.weak_reset.ceiling_ohm)
    if model.lrs.sigma_c2c == 0.0:
        return np.asarray(above >= 0.0, dtype=np.float64)
    return np.asarray(ndtr(above / model.lrs.sigma_c2c))
