"""Energy that a programming pulse puts into a device: upper bounds, for budgets and estimates.

In a SET the access transistor limits the current, so that the column supply delivers at most::

    E = VDDC I_compliance(VDDR) t

In a RESET the device starts in the LRS and only becomes more resistive, so that it takes at most::

    E = V_device^2 / R_LRS t

with the median LRS of the reference SET. Forming is a SET at other supplies.
"""

from __future__ import annotations

import math

from models.cells import Polarity
from models.device_model import DeviceModel
from models.devices.rram import compliance_a, reset_device_v
from models.exceptions import UserMistake


def set_energy_j(model: DeviceModel, vddc_v: float, vddr_v: float, width_s: float) -> float:
    """Energy in J that one SET or forming pulse puts into one device, at most.

    Args:
        vddc_v, vddr_v: column and word-line supply in V.
        width_s: pulse width in s.

    Raises:
        UserMistake: one of them is negative or not finite.
    """
    _check(vddc_v, vddr_v, width_s)
    return vddc_v * compliance_a(model.lrs, vddr_v) * width_s


def reset_energy_j(model: DeviceModel, vddc_v: float, vddr_v: float, width_s: float) -> float:
    """Energy in J that one RESET or weak-RESET pulse puts into one device in the median LRS, at most.

    Arguments and errors as for :func:`set_energy_j`.
    """
    _check(vddc_v, vddr_v, width_s)
    return reset_device_v(model.hrs, vddc_v, vddr_v) ** 2 / model.lrs.median_ohm * width_s


def pulse_energy_j(model: DeviceModel, polarity: Polarity, vddc_v: float, vddr_v: float, width_s: float) -> float:
    """Energy in J that one pulse of a polarity puts into one device, at most; see the two functions above."""
    energy = set_energy_j if polarity is Polarity.SET else reset_energy_j
    return energy(model, vddc_v, vddr_v, width_s)


def _check(vddc_v: float, vddr_v: float, width_s: float) -> None:
    for name, value in (("vddc_v", vddc_v), ("vddr_v", vddr_v), ("width_s", width_s)):
        if not (math.isfinite(value) and value >= 0.0):
            raise UserMistake(f"{name} = {value} gives no pulse energy: it must be a finite number, 0 or more")
