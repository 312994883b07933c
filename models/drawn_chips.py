"""Chips drawn from a device population: what each weight of a network reads as on one of them, device by device.

A device file gives the resistances that SET and RESET leave, with the part that a device keeps and the part of each
programming, the broken devices, and the sense amplifier. So a weight can be programmed and verified as the bench does
it: both devices of its cell are drawn, read through the amplifier of its column, and programmed again where they read
wrong. What the pair then answers to +1 and to -1 follows from the amplifier's equation, and so does how often noise
makes a sense answer something else. Devices are fresh, at the reference temperature, and all of them were formed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from models.cells import Geometry, Weights, lrs_devices
from models.device_model import DeviceModel
from models.devices import rram
from models.error_rates import Places
from models.exceptions import UserMistake
from models.sense import SenseAmplifiers, critical_resistance_ohm, margins, overdrive_ratio
from models.weight_errors import WeightErrorRates

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Conditions:
    """Operating points that cells are programmed and sensed at.

    Attributes:
        set_vddr_v: word line of SET, which limits its current.
        reset_vddc_v, reset_vddr_v, reset_width_s: of RESET.
        sense_vdd_v, window_s: of the sense.
        attempts: programming passes over a cell at most.
    """

    set_vddr_v: float
    reset_vddc_v: float
    reset_vddr_v: float
    reset_width_s: float
    sense_vdd_v: float
    window_s: float
    attempts: int = 3


class Answers(NamedTuple):
    """What the weights of one layer do, arrays of its shape.

    Attributes:
        read: what they answer to +1 but for noise, which is what they read as.
        turned: by how much the answer to -1 is off that of a weight which reads so.
        read_noise: how often noise makes a read err.
        noise: how often noise makes a sense err, over both inputs alike.
    """

    read: Weights
    turned: Weights
    read_noise: WeightErrorRates
    noise: WeightErrorRates


class DrawnChip:
    """One chip of a population.

    Args:
        model: the population.
        conditions: that it is programmed and sensed at.
        array: its size.
        rng: source of all draws.

    Raises:
        UserMistake: the amplifier does not work at the supply of the sense, or reads the median high resistance as
            low, so that it tells no zero.
    """

    def __init__(self, model: DeviceModel, conditions: Conditions, array: Geometry, rng: np.random.Generator) -> None:
        at = conditions
        self._model, self._at, self._rng = model, at, rng
        self._current = rram.compliance_a(model.lrs, at.set_vddr_v)
        self._device_v = rram.reset_device_v(model.hrs, at.reset_vddc_v, at.reset_vddr_v)
        critical = critical_resistance_ohm(model.sense, at.sense_vdd_v, at.window_s)
        median = rram.hrs_median_ohm(model.hrs, self._device_v, at.reset_width_s)
        if self._current <= 0.0 or critical <= 0.0 or critical >= median:
            raise UserMistake(
                f"at a sense of {at.sense_vdd_v:g} V and {at.window_s:g} s a device reads as low up to "
                f"{critical:.3g} ohm, and the median high resistance of this population is {median:.3g} ohm: its "
                "cells tell no zeros there"
            )
        shape = (*array, 2)
        self._deviates = rram.draw_deviates(shape, rng)
        states = rram.fabricated_states(model, shape, rng)
        self._broken = np.isin(states, rram.BROKEN_STATES)
        self._broken_ohm = rram.broken_ohm(model, states, self._deviates, rng)
        self._offsets = rng.standard_normal(array.cols)

    def answers(self, weights: Weights, places: Places) -> Answers:
        """Program and verify weights on the cells of ``places``, array row and column of each."""
        model, at = self._model, self._at
        where = places[0].ravel(), places[1].ravel()
        target = weights.ravel()
        offsets = self._offsets[where[1]]
        amplifiers = SenseAmplifiers(model.sense, offsets)
        ohm = self._programmed(target, where)
        for attempt in range(at.attempts):
            cells = margins(model.sense, ohm[None], at.sense_vdd_v, at.window_s)
            wrong = amplifiers.read(cells, at.sense_vdd_v, 1, self._rng)[0, 0] != target
            if attempt + 1 == at.attempts or not wrong.any():
                break
            ohm[wrong] = self._programmed(target[wrong], (where[0][wrong], where[1][wrong]))
        ratio = overdrive_ratio(model.sense, at.sense_vdd_v)
        shifts = model.sense.offset_sigma / ratio * offsets
        plus, minus = (
            _chances(sign * cells.log_ratio[0] + shifts, cells.dead_zone[0], model.sense.noise_sigma / ratio)
            for sign in (1, -1)
        )
        read, answered = _likeliest(plus), _likeliest(minus)
        erring, turned_erring = _errors(plus, read), _errors(minus, answered)
        both = WeightErrorRates(
            *(
                (np.asarray(getattr(erring, kind)) + np.asarray(getattr(turned_erring, kind))) / 2
                for kind in ("inversion", "loss", "gain")
            )
        )
        shape = weights.shape
        return Answers(
            read.reshape(shape), (answered + read).reshape(shape), _shaped(erring, shape), _shaped(both, shape)
        )

    def _programmed(self, target: Weights, where: Places) -> Floats:
        """Resistances ``(n, 2)`` after one programming pass."""
        model, rng = self._model, self._rng
        low = rram.draw_lrs(model.lrs, self._current, self._deviates.lrs[where], rng)
        high = rram.draw_hrs(model.hrs, self._device_v, self._at.reset_width_s, self._deviates.hrs[where], rng)
        switched = np.where(lrs_devices(target[None])[0], low, high)
        return np.where(self._broken[where], self._broken_ohm[where], switched)


class _Chances(NamedTuple):
    """Probabilities ``(n,)`` that a sense answers -1 and +1."""

    down: Floats
    up: Floats


def _chances(difference: Floats, dead_zone: Floats, noise_sigma: float) -> _Chances:
    if noise_sigma == 0.0:
        return _Chances((difference < -dead_zone).astype(np.float64), (difference > dead_zone).astype(np.float64))
    down, up = (ndtr((sign * difference - dead_zone) / noise_sigma) for sign in (-1, 1))
    return _Chances(np.asarray(down, dtype=np.float64), np.asarray(up, dtype=np.float64))


def _likeliest(chances: _Chances) -> Weights:
    neither = 1.0 - chances.down - chances.up
    stacked = np.stack([chances.down, neither, chances.up])
    return np.asarray(np.argmax(stacked, axis=0) - 1, dtype=np.int8)


def _errors(chances: _Chances, answer: Weights) -> WeightErrorRates:
    """How often a sense answers something else than it does most often."""
    neither = np.clip(1.0 - chances.down - chances.up, 0.0, 1.0)
    opposite = np.where(answer > 0, chances.down, chances.up)
    zero = answer == 0
    return WeightErrorRates(
        np.where(zero, 0.0, opposite), np.where(zero, 0.0, neither), np.where(zero, 1.0 - neither, 0.0)
    )


def _shaped(rates: WeightErrorRates, shape: tuple[int, ...]) -> WeightErrorRates:
    return WeightErrorRates(*(np.reshape(rate, shape) for rate in (rates.inversion, rates.loss, rates.gain)))
