"""What use and time do to HfO2 resistive memory: endurance, retention, temperature, and the noise of a reading.

- Each SET and each RESET uses up a part of a device's cyclability, more of it the stronger it is. With the wear (1 when
  the cyclability is used up) the HRS falls and spreads, until the device sticks in the LRS. With ``N`` the cyclability
  at the reference condition::

      wear of a SET   = (I / I_ref)^p (width / width_ref)^q / 2N
      wear of a RESET = exp((V - V_ref) / V_0) (width / width_ref)^q / 2N

- ln R drifts with the logarithm of the time since programming. Heat shortens the time scale after Arrhenius.
- The LRS conducts as a metal, HRS and virgin oxide by thermally activated hopping.
- A meter sees the resistance fluctuate from reading to reading, more so in the HRS, where a single trap blocks a larger
  part of the current.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.cells import DeviceMask, DeviceState
from models.constants import BOLTZMANN_EV, ZERO_C
from models.device_model import DeviceModel, Endurance, ReadNoise, Retention, Temperature
from models.exceptions import UserMistake

Floats = NDArray[np.float64]
States = NDArray[np.int8]
Counts = NDArray[np.int64]


class HrsChange(NamedTuple):
    """What wear does to the HRS: a shift of ln R of the median, and a factor on the cycle-to-cycle spread."""

    shift: Floats | float
    spread: Floats | float


def set_wear(endurance: Endurance, current_a: float, width_s: float) -> float:
    """Wear of one SET limited to ``current_a`` for ``width_s``."""
    current = (current_a / endurance.set_ref_a) ** endurance.set_exponent
    return float(0.5 / endurance.cycles_ref * current * _width(endurance, width_s))


def reset_wear(endurance: Endurance, device_v: float, width_s: float) -> float:
    """Wear of one RESET with ``device_v`` across the device for ``width_s``."""
    voltage = math.exp((device_v - endurance.reset_ref_v) / endurance.reset_efold_v)
    return 0.5 / endurance.cycles_ref * voltage * _width(endurance, width_s)


def _width(endurance: Endurance, width_s: float) -> float:
    return float((width_s / endurance.width_ref_s) ** endurance.width_exponent)


def cyclability(endurance: Endurance, current_a: float, device_v: float, width_s: float) -> float:
    """Cycles of one SET and one RESET that use a device up."""
    return 1.0 / (set_wear(endurance, current_a, width_s) + reset_wear(endurance, device_v, width_s))


def hrs_change(endurance: Endurance, wear: Floats | float) -> HrsChange:
    """What wear (>= 0) does to the HRS that the next RESET leaves."""
    progress = wear**endurance.wear_exponent
    return HrsChange(-endurance.window_loss * progress, 1.0 + endurance.spread_growth * progress)


def worn(model: DeviceModel, wear: float) -> DeviceModel:
    """The population of devices that all have this wear; those that stick in the LRS by then are not among them.

    Raises:
        UserMistake: the wear is below 0 or so high that the HRS lies no longer above the LRS.
    """
    if not wear >= 0.0:
        raise UserMistake(f"a wear of {wear:g} is refused; it must be 0 or more")
    change = hrs_change(model.endurance, wear)
    hrs = model.hrs
    worn_hrs = replace(
        hrs, median_ohm=hrs.median_ohm * math.exp(change.shift), sigma_c2c=hrs.sigma_c2c * float(change.spread)
    )
    return replace(model, hrs=worn_hrs)


def stuck_share(endurance: Endurance, wear: float) -> float:
    """Fraction of devices that stick in the LRS by this wear (> 0)."""
    distance = math.log(wear / endurance.stuck_wear)
    if endurance.stuck_sigma == 0.0:
        return float(distance >= 0.0)
    return 0.5 * math.erfc(-distance / (endurance.stuck_sigma * math.sqrt(2.0)))


def acceleration(retention: Retention, temperature_c: float) -> float:
    """How many times faster devices drift at a temperature than at ``retention.reference_c``."""
    return math.exp(_activation(retention.activation_ev, retention.reference_c, temperature_c))


def drift_decades(retention: Retention, equivalent_s: Floats | float) -> Floats | float:
    """Decades of drift after a time since programming, counted at ``retention.reference_c``."""
    return np.log1p(equivalent_s / retention.onset_s) / math.log(10.0)


def stored(model: DeviceModel, seconds: float, temperature_c: float) -> DeviceModel:
    """The population after ``seconds`` of storage at ``temperature_c``, read at the reference temperature.

    Raises:
        UserMistake: a negative time, or a temperature beyond the model's range.
    """
    checked_seconds(seconds)
    equivalent_s = seconds * acceleration(model.retention, checked_temperature(model.temperature, temperature_c))
    decades = float(drift_decades(model.retention, equivalent_s))
    lrs, hrs, drift = model.lrs, model.hrs, model.retention
    return replace(
        model,
        lrs=replace(
            lrs,
            median_ohm=lrs.median_ohm * math.exp(drift.lrs_drift * decades),
            sigma_c2c=math.hypot(lrs.sigma_c2c, drift.lrs_sigma * decades),
        ),
        hrs=replace(
            hrs,
            median_ohm=hrs.median_ohm * math.exp(drift.hrs_drift * decades),
            sigma_c2c=math.hypot(hrs.sigma_c2c, drift.hrs_sigma * decades),
        ),
    )


def temperature_factors(temperature: Temperature, states: States, temperature_c: float) -> Floats:
    """Resistance at ``temperature_c`` over that at the reference temperature, of devices in these states."""
    metallic = 1.0 + temperature.lrs_per_k * (temperature_c - temperature.reference_c)
    # conduction speeds up with heat, so that the resistance falls
    activated = math.exp(-_activation(temperature.hrs_activation_ev, temperature.reference_c, temperature_c))
    factors = np.full(len(DeviceState), activated)
    factors[[DeviceState.LRS, DeviceState.INTERMEDIATE, DeviceState.STUCK_LRS]] = metallic
    factors[DeviceState.OPEN] = 1.0
    return np.asarray(factors[states])


def read_noise_sigma(noise: ReadNoise, resistance_ohm: float) -> float:
    """Standard deviation of ln R from one reading of a meter to the next."""
    grown = noise.sigma_ref * (resistance_ohm / noise.resistance_ref_ohm) ** noise.exponent
    return float(min(grown, noise.sigma_high))


def checked_temperature(temperature: Temperature, temperature_c: float) -> float:
    """Return the temperature; raise UserMistake when the model is not good for it (which also refuses NaN)."""
    if not temperature.low_c <= temperature_c <= temperature.high_c:
        raise UserMistake(
            f"a temperature of {temperature_c:g} degC is refused; the device file's temperature section allows "
            f"{temperature.low_c:g} to {temperature.high_c:g} degC"
        )
    return float(temperature_c)


def checked_seconds(seconds: float) -> float:
    """Return the time; raise UserMistake unless it is finite and 0 s or more."""
    if not (math.isfinite(seconds) and seconds >= 0.0):
        raise UserMistake(f"a time of {seconds:g} s is refused; it must be 0 s or more")
    return float(seconds)


def _activation(activation_ev: float, reference_c: float, temperature_c: float) -> float:
    """Exponent by which a thermally activated rate grows from the reference temperature to another one."""
    return activation_ev / BOLTZMANN_EV * (1.0 / (reference_c + ZERO_C) - 1.0 / (temperature_c + ZERO_C))


class Ageing:
    """Cycles, wear and drift of each device of an array.

    Args:
        model: the population.
        shape: shape of the device array.
        rng: where each device's own lifetime is drawn from.

    Attributes:
        cycles: ``shape`` int64, how many times each device went from the HRS to the LRS.
        wear: ``shape``, used share of its cyclability.
    """

    def __init__(self, model: DeviceModel, shape: tuple[int, ...], rng: np.random.Generator) -> None:
        self._endurance, self._retention = model.endurance, model.retention
        self.cycles = np.zeros(shape, dtype=np.int64)
        self.wear = np.zeros(shape)
        spread = np.exp(self._endurance.stuck_sigma * rng.standard_normal(shape))
        self._stuck_wear = self._endurance.stuck_wear * spread
        self._drift = np.zeros(shape)
        self._clock_s = 0.0
        self._programmed_s = np.zeros(shape)

    def stress(self, devices: DeviceMask, wear: float) -> DeviceMask:
        """Add wear to some devices.

        Returns:
            Those among them that are worn out: they stick in the LRS.
        """
        self.wear[devices] += wear
        return np.asarray(devices & (self.wear >= self._stuck_wear))

    def alternate(
        self, devices: DeviceMask, counts: Counts, set_wear: float, reset_wear: float, spared: DeviceMask
    ) -> tuple[DeviceMask, Counts]:
        """Add the wear of SETs and RESETs in turn to some devices, to each until it is worn out, in closed form.

        Args:
            counts: ``shape``, how many of each.
            set_wear, reset_wear: wear of one SET and of one RESET.
            spared: those whose first SET wears nothing.

        Returns:
            Those that are worn out, and ``shape``, how many SETs each device lived through (0 outside ``devices``).
        """
        start = self.wear[devices] - np.where(spared[devices], set_wear, 0.0)
        limit, asked, both = self._stuck_wear[devices], counts[devices], set_wear + reset_wear
        with np.errstate(divide="ignore"):
            last = np.maximum(np.ceil((limit - start) / both), 1.0)
        worn = last <= asked
        whole = np.where(worn, last - 1.0, asked)
        before = start + whole * both
        by_set = worn & (before + set_wear >= limit)
        self.wear[devices] = before + np.where(by_set, set_wear, np.where(worn, both, 0.0))
        stuck, sets = np.zeros_like(devices), np.zeros_like(counts)
        stuck[devices] = worn
        sets[devices] = whole + (worn & ~by_set)
        return stuck, sets

    def hrs_change(self, devices: DeviceMask) -> HrsChange:
        """What the wear of some devices does to the HRS that a RESET leaves now, ``(n,)`` each."""
        return hrs_change(self._endurance, self.wear[devices])

    def programmed(self, devices: DeviceMask, state: DeviceState, rng: np.random.Generator) -> None:
        """Some devices were programmed to LRS or HRS: they drift anew from now on."""
        at = self._retention
        mean, sigma = (at.lrs_drift, at.lrs_sigma) if state == DeviceState.LRS else (at.hrs_drift, at.hrs_sigma)
        self._drift[devices] = mean + sigma * rng.standard_normal(int(np.count_nonzero(devices)))
        self._programmed_s[devices] = self._clock_s

    def broken(self, devices: DeviceMask) -> None:
        """Some devices broke: their resistance drifts no more."""
        self._drift[devices] = 0.0

    def advance(self, seconds: float, temperature_c: float) -> None:
        """Let ``seconds`` (>= 0) pass at a temperature."""
        self._clock_s += checked_seconds(seconds) * acceleration(self._retention, temperature_c)

    @property
    def log_drift(self) -> Floats | None:
        """Change of ln R of each device since it was programmed; None while no time has passed at all."""
        if self._clock_s == 0.0:
            return None
        return np.asarray(self._drift * drift_decades(self._retention, self._clock_s - self._programmed_s))
