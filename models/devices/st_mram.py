"""Spin-transfer-torque magnetic memory (ST-MRAM): a write is a current pulse that may fail.

Above the critical current ``Ic0`` the switching is precessional, and a write fails when the thermal agitation leaves
the magnetization too close to its rest position at the start. With ``i = I / Ic0``, the write error rate is that of
Butler et al., IEEE Transactions on Magnetics 48, 4684 (2012)::

    WER(t) = 1 - exp(-(pi^2 / 4) Delta (i - 1) / (i exp(2 (i - 1) t / tau) - 1))
    tau    = (1 + alpha^2) / (alpha gamma mu0 Hk)

and the mean switching time that of Vincent et al., IEEE Transactions on Electron Devices 62, 164 (2015)::

    <t> = 2 / (alpha gamma mu0 Ms) * Ic0 / (I - Ic0) * ln(pi / (2 theta0)),   theta0 = sqrt(kT / (mu0 Hk Ms V))

where ``theta0 = 1 / sqrt(2 Delta)``, since ``Delta = mu0 Hk Ms V / (2 kT)``. log10(WER) falls linearly with the pulse
length, so that tolerating more errors shortens the pulse and saves energy in proportion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.constants import mu_0, physical_constants

from models.exceptions import UserMistake
from models.parameters import Parameters, quantity

Floats = NDArray[np.float64]

_GYROMAGNETIC_RATIO = physical_constants["electron gyromag. ratio"][0]


@dataclass(frozen=True)
class StMram(Parameters):
    """A magnetic tunnel junction and the way it is written.

    Currents in A and pulse lengths in s may be arrays; they broadcast.
    """

    section: ClassVar[str] = "st_mram"

    thermal_stability: float = quantity("1", 10.0, 200.0, "Delta, energy barrier over kT")
    critical_current_a: float = quantity("A", 1e-6, 1e-2, "Ic0, critical switching current at zero temperature")
    damping: float = quantity("1", 1e-4, 1.0, "alpha, Gilbert damping")
    anisotropy_field_t: float = quantity("T", 1e-3, 10.0, "mu0 Hk, effective anisotropy field")
    magnetization_a_per_m: float = quantity("A/m", 1e4, 1e7, "Ms, saturation magnetization of the free layer")
    write_current_a: float = quantity("A", 1e-6, 1e-2, "current of an ordinary write")
    write_voltage_v: float = quantity("V", 0.05, 10.0, "voltage of the supply that drives the write current")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.write_current_a <= self.critical_current_a:
            raise UserMistake(
                f"st_mram.write_current_a = {self.write_current_a:g} is refused: it must exceed "
                f"st_mram.critical_current_a = {self.critical_current_a:g}"
            )

    @property
    def time_scale_s(self) -> float:
        """Tau, the time scale of the switching."""
        return (1.0 + self.damping**2) / (self.damping * _GYROMAGNETIC_RATIO * self.anisotropy_field_t)

    def write_error_rate(self, current_a: ArrayLike, pulse_s: ArrayLike) -> Floats:
        """Probability that a pulse fails to switch.

        Raises:
            UserMistake: a current is not above the critical current, or a pulse length is below 0.
        """
        overdrive = self._overdrive(current_a)
        pulse = np.asarray(pulse_s, dtype=float)
        allowed = np.isfinite(pulse) & (pulse >= 0.0)
        if not allowed.all():
            raise UserMistake(f"a pulse length of {pulse[~allowed][0]:g} s is refused; it must be 0 s or more")
        decay = np.exp(-2.0 * (overdrive - 1.0) * pulse / self.time_scale_s)
        return np.asarray(-np.expm1(-self._agitation * (overdrive - 1.0) * decay / (overdrive - decay)))

    def pulse_length_s(self, current_a: ArrayLike, error_rate: ArrayLike) -> Floats:
        """Length of the pulse that fails with this probability: the inverse of :meth:`write_error_rate`.

        Raises:
            UserMistake: a current is not above the critical current, or a rate is not between 0 and that of no pulse.
        """
        overdrive = self._overdrive(current_a)
        rate = np.asarray(error_rate, dtype=float)
        highest = -math.expm1(-self._agitation)
        allowed = (rate > 0.0) & (rate < highest)
        if not allowed.all():
            raise UserMistake(
                f"a write error rate of {rate[~allowed][0]:g} is refused; allowed is above 0 and below {highest:g}"
            )
        ratio = 1.0 + self._agitation * (overdrive - 1.0) / -np.log1p(-rate)
        return np.asarray(self.time_scale_s / (2.0 * (overdrive - 1.0)) * np.log(ratio / overdrive))

    def write_energy_j(self, current_a: ArrayLike, pulse_s: ArrayLike) -> Floats:
        """Energy of a write in J: supply voltage times current times pulse length."""
        return np.asarray(self.write_voltage_v * np.asarray(current_a) * np.asarray(pulse_s))

    def mean_switching_time_s(self, current_a: ArrayLike) -> Floats:
        """Mean time to switch in s.

        Raises:
            UserMistake: a current is not above the critical current.
        """
        angle = 1.0 / math.sqrt(2.0 * self.thermal_stability)
        scale = 2.0 / (self.damping * _GYROMAGNETIC_RATIO * mu_0 * self.magnetization_a_per_m)
        return np.asarray(scale / (self._overdrive(current_a) - 1.0) * math.log(math.pi / (2.0 * angle)))

    def bit_energy_j(self, error_rate: float) -> float:
        """Energy in J of a write at ``write_current_a`` that fails with this probability.

        Raises:
            UserMistake: the rate is not between 0 and that of no pulse.
        """
        pulse = self.pulse_length_s(self.write_current_a, error_rate)
        return float(self.write_energy_j(self.write_current_a, pulse))

    @property
    def _agitation(self) -> float:
        return math.pi**2 / 4.0 * self.thermal_stability

    def _overdrive(self, current_a: ArrayLike) -> Floats:
        """``i = I / Ic0``, above 1."""
        current = np.asarray(current_a, dtype=float)
        allowed = np.isfinite(current) & (current > self.critical_current_a)
        if not allowed.all():
            raise UserMistake(
                f"a write current of {current[~allowed][0]:g} A is refused; the equations hold above the critical "
                f"current of {self.critical_current_a:g} A"
            )
        return current / self.critical_current_a


MEMORY = StMram
"""What :func:`data.memory_files.load_memory` makes of a file with a section ``[st_mram]``."""
