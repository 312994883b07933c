"""Figures of the weak RESET: mean curve, random telegraph noise, 1/f noise, and which imperfection weighs most."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bench.validation.subject import Measured, Subject
from models.arrays import NumpyArrays
from models.device_model import WeakReset
from models.devices.weak_reset import Imperfections, PinkNoise, WeakResetDevices, mean_log_ratio

PULSES = (0, 100, 500, 1000)
MEAN_ONLY = Imperfections(rtn=False, pink=False)
NOISE_ONLY = Imperfections(device_to_device=False)
RTN_ONLY = Imperfections(device_to_device=False, pink=False)
PINK_ONLY = Imperfections(device_to_device=False, rtn=False)

DEVICES = 200_000
RTN_DEVICES = 1_000_000
RTN_STEPS = 10
RTN_SETTLING = 20_000
PINK_DEVICES = 50_000
MEMORIES = (15, 127)
SPECTRUM_DEVICES = 128
PERIODS = 8


def measure(subject: Subject, rng: np.random.Generator) -> Measured:
    """Figures V1 to V5."""
    section, arrays = subject.device.model.weak_reset, NumpyArrays(rng)
    return {**_mean_curve(section, arrays), **_telegraph(section, arrays), **_pink(section, arrays)}


def _mean_curve(section: WeakReset, arrays: NumpyArrays) -> dict[str, float]:
    figures: dict[str, float] = {}
    variable = WeakResetDevices(section, (DEVICES,), arrays, MEAN_ONLY)
    noisy = WeakResetDevices(section, (DEVICES,), arrays, NOISE_ONLY)
    for before, pulses in pairwise((0, *PULSES)):
        for devices in (variable, noisy):
            devices.apply(pulses - before)
        figures[f"median_resistance_{pulses}"] = float(np.median(variable.resistance_ohm))
        figures[f"spread_{pulses}"] = float(variable.log_ratio.std())
        spreads = [float(np.log(devices.resistance_ohm).std()) for devices in (variable, noisy)]
        figures[f"device_to_device_{pulses}"] = spreads[0] / spreads[1]
    return figures


def _telegraph(section: WeakReset, arrays: NumpyArrays) -> dict[str, float]:
    devices = WeakResetDevices(section, (RTN_DEVICES,), arrays, RTN_ONLY)
    risen = fallen = could_rise = could_fall = 0
    for _ in range(RTN_STEPS):
        before = devices.rtn_high
        devices.apply(1)
        risen += int(np.count_nonzero(devices.rtn_high & ~before))
        fallen += int(np.count_nonzero(before & ~devices.rtn_high))
        could_rise += int(np.count_nonzero(~before))
        could_fall += int(np.count_nonzero(before))
    devices.rtn_high[:] = False
    devices.apply(RTN_SETTLING)
    return {
        "rtn_occupancy": float(devices.rtn_high.mean()),
        "rtn_low_high": risen / could_rise,
        "rtn_high_low": fallen / could_fall,
    }


def _pink(section: WeakReset, arrays: NumpyArrays) -> dict[str, float]:
    figures: dict[str, float] = {}
    for noise in PinkNoise:
        for memory in MEMORIES:
            remembering = replace(section, pink_memory=float(memory))
            devices = WeakResetDevices(remembering, (PINK_DEVICES,), arrays, PINK_ONLY, noise)
            devices.apply(memory)
            # without device-to-device variability, the 1/f noise is all that tells devices apart
            figures[f"{noise}_sd_{memory}"] = float(devices.log_ratio.std())
        figures[f"{noise}_slope"] = _spectral_slope(remembering, arrays, noise)
    return figures


def _spectral_slope(section: WeakReset, arrays: NumpyArrays, noise: PinkNoise) -> float:
    """Slope of the power spectrum, log-log, from one over the memory of the noise to a quarter of the pulse rate."""
    devices = WeakResetDevices(section, (SPECTRUM_DEVICES,), arrays, PINK_ONLY, noise)
    memory = int(section.pink_memory)
    series = np.empty((PERIODS * memory, SPECTRUM_DEVICES))
    for row in series:
        devices.apply(1)
        row[:] = devices.log_ratio - mean_log_ratio(arrays, devices.parameters, devices.stress)
    power = _mean_power(series)
    frequency = np.fft.rfftfreq(len(series))
    bins = [(frequency >= low) & (frequency < high) for low, high in pairwise(np.geomspace(1.0 / memory, 0.25, 13))]
    log_frequency = [np.log(frequency[chosen]).mean() for chosen in bins]
    log_power = [math.log(power[chosen].mean()) for chosen in bins]
    return float(np.polyfit(log_frequency, log_power, 1)[0])


def _mean_power(series: NDArray[np.float64]) -> NDArray[np.float64]:
    """Power spectrum of each column, averaged over the columns; Hann's window keeps the drift out of it."""
    centred = (series - series.mean(axis=0)) * np.hanning(len(series))[:, None]
    return np.asarray((np.abs(np.fft.rfft(centred, axis=0)) ** 2).mean(axis=1))
