"""Weak RESET on millions of device pairs, as training needs it: one compiled pass, and few bytes per device.

The model, its parameters and its populations are those of :mod:`models.devices.weak_reset`, which is the reference and
stays the choice for anything but training. What differs is how the state of a device is kept and drawn:

- stress in single precision: whole numbers are exact up to 2^24 reference pulses;
- each Ornstein-Uhlenbeck value of the 1/f noise in 16 bits, in steps of 1/4096 of its standard deviation;
- the RTN value in one byte: 0 while it is low, otherwise the share of the device's ceiling in 254 steps;
- normal deviates as sums of four random bytes: odd moments vanish, the kurtosis is 2.7 instead of 3. (The published
  model drives its 1/f noise with single uniform numbers, of kurtosis 1.8.)

A call visits each pair once, whatever the number of pulses, and brings the weights of the pulsed pairs up to date.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.arrays import NumpyArrays
from models.cells import Device
from models.device_model import WeakReset
from models.devices.weak_reset import (
    UNIFORM_SD,
    Imperfections,
    pink_processes,
    rtn_high_probability,
    sample_parameters,
    sample_r0,
    stress_per_pulse,
)
from models.devices.weak_reset_kernels import (
    BITS,
    ONE,
    PINK_STEPS,
    RTN_STEPS,
    ZERO,
    Pairs,
    Singles,
    Tables,
    kernels,
)
from models.exceptions import UserMistake

MOST_PULSES = 1_000_000
"""Most pulses on a device in one call."""


class WeakResetPairs:
    """Pairs of devices under weak RESET; the weight of a pair is the sign of R_BL - R_BLb.

    Args:
        section: the populations.
        shape: shape of the array of pairs.
        generator: where parameters and noise are drawn from.
        imperfections: which imperfections are in force.

    Raises:
        UserMistake: a truncation keeps practically nothing of its population.
    """

    def __init__(
        self,
        section: WeakReset,
        shape: Sequence[int],
        generator: np.random.Generator,
        imperfections: Imperfections | None = None,
    ) -> None:
        self.section = section
        self.shape = tuple(shape)
        self.imperfections = Imperfections() if imperfections is None else imperfections
        self._generator = generator
        flat = (len(Device), math.prod(self.shape))
        d2d = self.imperfections.device_to_device
        drawn = sample_parameters(section, flat, NumpyArrays(generator), device_to_device=d2d)
        self._offset = np.asarray(drawn.offset, dtype=np.float32)
        ranks = generator.random(flat, dtype=np.float32) if d2d else np.full(flat, 0.5, dtype=np.float32)
        times, variances = pink_processes(int(section.pink_memory)) if self.imperfections.pink else ((), ())
        self._times = np.array(times)[:, None]
        self._pairs = Pairs(
            stress=np.zeros(flat, dtype=np.float32),
            rtn=self._settled_rtn(flat),
            pink=self._settled_pink(len(times), flat),
            slope1=np.asarray(drawn.slope1, dtype=np.float32),
            knee=np.asarray(drawn.knee, dtype=np.float32),
            base=np.log(drawn.r0_ohm).astype(np.float32) + self._offset,
            slope2=np.asarray(drawn.slope2, dtype=np.float32),
            ceiling=ranks * np.float32(section.rtn_amplitude_high / float(RTN_STEPS)),
            scales=(section.pink_alpha * UNIFORM_SD / PINK_STEPS * np.sqrt(variances)).astype(np.float32),
        )
        self._pulse, self._evaluate, self._weigh = kernels(len(times))
        self._weights = np.empty(flat[1], dtype=np.int8)
        self._weigh(self._pairs, self._weights)

    def apply(self, pulses: object, device_v: float | None = None, width_s: float | None = None) -> None:
        """Apply weak RESETs to one device of each pair at once.

        Args:
            pulses: whole numbers that broadcast to the shape of the pairs: n pulses BL n times, -n pulses BLb n times,
                0 leaves a pair as it is.
            device_v: voltage across the devices; the reference voltage when None.
            width_s: pulse width; the reference width when None.

        Raises:
            UserMistake: counts that are not whole, beyond :data:`MOST_PULSES`, or of another shape.
        """
        counts, most = self._counts(pulses)
        voltage = self.section.v_ref_v if device_v is None else device_v
        width = self.section.width_ref_s if width_s is None else width_s
        stress = stress_per_pulse(self.section, voltage, width)
        if stress == 0.0 or most == 0:
            return
        numbers, powers = np.arange(most + 1), 2 ** np.arange(BITS)
        table = Tables(
            left=self._left(numbers),
            left_powers=self._left(powers),
            lost=self._lost(numbers),
            lost_powers=self._lost(powers),
            stress=np.array([stress], dtype=np.float32),
            settled=np.array([self.imperfections.rtn * rtn_high_probability(self.section, 0.0, math.inf)], np.float32),
        )
        key = self._generator.integers(2**64, dtype=np.uint64)
        self._pulse(counts, key, table, self._pairs, self._weights)

    def set_again(self, devices: NDArray[np.bool_]) -> None:
        """Devices that were SET: stress starts again from 0 and R0 is drawn anew. Traps keep their state.

        Args:
            devices: bool, ``(2, *shape)``, BL first.

        Raises:
            UserMistake: another shape or type.
        """
        mask = np.asarray(devices)
        wanted = (len(Device), *self.shape)
        if mask.dtype != np.bool_ or mask.shape != wanted:
            raise UserMistake(f"devices must be bool of shape {wanted}, not {mask.dtype} of {mask.shape}")
        flat = mask.reshape(self._offset.shape)
        count = (int(np.count_nonzero(flat)),)
        fresh = sample_r0(self.section, count, NumpyArrays(self._generator), self.imperfections.device_to_device)
        self._pairs.base[flat] = np.log(fresh).astype(np.float32) + self._offset[flat]
        self._pairs.stress[flat] = 0.0
        self._weigh(self._pairs, self._weights)

    @property
    def stress(self) -> Singles:
        """Reference pulses since SET, ``(2, *shape)``, BL first; a copy."""
        return self._shaped(self._pairs.stress.copy())

    @property
    def log_resistance(self) -> Singles:
        """ln(R / 1 ohm) of each device, ``(2, *shape)``, BL first; two looks between pulses give the same."""
        out = np.empty_like(self._pairs.stress)
        self._evaluate(self._pairs, out)
        return self._shaped(out)

    @property
    def log_ratio(self) -> Singles:
        """Log ratio w = ln(R / R0) of each device, ``(2, *shape)``, BL first."""
        return self.log_resistance - self._shaped(self._pairs.base - self._offset)

    @property
    def weights(self) -> NDArray[np.int8]:
        """Binary weight of each pair, ``shape``: +1 where R_BL exceeds R_BLb, -1 elsewhere; a copy.

        Where the two are the same to single precision, either.
        """
        return self._weights.reshape(self.shape).copy()

    @property
    def rtn_high(self) -> NDArray[np.bool_]:
        """Which devices' RTN is high, ``(2, *shape)``, BL first."""
        return (self._pairs.rtn > 0).reshape(len(Device), *self.shape)

    @property
    def state_bytes(self) -> int:
        """Memory in bytes of what pulses change: stress, RTN and 1/f noise of all devices."""
        return self._pairs.stress.nbytes + self._pairs.rtn.nbytes + self._pairs.pink.nbytes

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Parameters and state of all devices by name, to go on from later; copies. The generator is not among them."""
        arrays = {name: getattr(self._pairs, name) for name in Pairs._fields}
        others = {"offset": self._offset, "weights": self._weights}
        return {name: array.copy() for name, array in (arrays | others).items()}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from :meth:`state_dict` of pairs of the same shape.

        Raises:
            UserMistake: an array is missing, or of another shape or type.
        """
        own = {name: getattr(self._pairs, name) for name in Pairs._fields}
        own |= {"offset": self._offset, "weights": self._weights}
        for name, array in own.items():
            found = state.get(name)
            if found is None or found.shape != array.shape or found.dtype != array.dtype:
                what = "nothing" if found is None else f"{found.dtype} of {found.shape}"
                raise UserMistake(f"the state of the pairs has {what} for {name}, not {array.dtype} of {array.shape}")
        for name, array in own.items():
            array[...] = state[name]

    def _left(self, numbers: NDArray[np.int64]) -> Singles:
        """What so many pulses leave of a value of each process of the 1/f noise, ``(processes, numbers)``."""
        remains: Singles = np.exp(-numbers / self._times).astype(np.float32)
        return remains.reshape(len(self._times), len(numbers))

    def _lost(self, numbers: NDArray[np.int64]) -> Singles:
        """What so many pulses take away of the distance from where RTN settles."""
        switching = self.section.rtn_p_low_high + self.section.rtn_p_high_low
        return (1.0 - (1.0 - switching) ** numbers).astype(np.float32)

    def _settled_rtn(self, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """RTN of traps that have been switching for long."""
        if not self.imperfections.rtn:
            return np.zeros(shape, dtype=np.uint8)
        rank, one, other, dither = (self._generator.random(shape, dtype=np.float32) for _ in range(4))
        level = np.minimum(ONE + RTN_STEPS * one * other + dither, np.float32(255.0))
        return np.where(rank < rtn_high_probability(self.section, 0.0, math.inf), level, ZERO).astype(np.uint8)

    def _settled_pink(self, processes: int, shape: tuple[int, int]) -> NDArray[np.int16]:
        """1/f noise that has been running for long."""
        pink = np.empty((processes, *shape), dtype=np.int16)
        for values in pink:
            normal = self._generator.standard_normal(shape, dtype=np.float32)
            values[:] = np.rint(np.clip(np.float32(PINK_STEPS) * normal, -32767, 32767))
        return pink

    def _shaped(self, flat: Singles) -> Singles:
        return flat.reshape(len(Device), *self.shape)

    def _counts(self, pulses: object) -> tuple[NDArray[np.int32], int]:
        """The counts as the compiled pass takes them, and the largest of them without its sign."""
        counts = np.asarray(pulses)
        if not np.issubdtype(counts.dtype, np.integer):
            raise UserMistake(f"pulse counts must be whole numbers, not {counts.dtype}")
        try:
            counts = np.broadcast_to(counts, self.shape)
        except ValueError:
            raise UserMistake(f"pulse counts have the shape {counts.shape}, expected {self.shape}") from None
        most = max(int(counts.max(initial=0)), -int(counts.min(initial=0)))
        if most > MOST_PULSES:
            raise UserMistake(f"{most} pulses in one call are refused; at most {MOST_PULSES} are allowed")
        return np.ascontiguousarray(counts, dtype=np.int32).reshape(-1), most
