"""The precharge sense amplifier (PCSA) of a column, in the time domain.

Both nodes of the latch are precharged, then discharge through the two branches of the cell. A branch carries
``I = min(VDD / (R + R_T), I_sat(VDD))``, so that its node falls by the latch's swing after ``t = C dV / I``. The first
node to fall makes the latch decide; when none falls within the sense window the cell stays undecided, which is the
ternary zero. XNOR with an input of -1 swaps the branches.

Offset (one per column, it belongs to the latch) and noise (new at each sense) shift the two nodes' times apart. With
``L = ln(t_BL / t_BLb)``, ``M = ln sqrt(t_BL t_BLb)``, an input ``x`` and the shift ``e = offset + noise``, all in
natural logarithms, the difference is ``d = x L + e`` and the first node falls at ``ln t = M - |d| / 2``, hence::

    output = sign(d) where |d| > dead_zone,  0 elsewhere,   dead_zone = max(0, 2 (M - ln window))

The offset does not change sign with the input: seen from the weight it acts the other way round when x = -1. Offset and
noise are given at ``vdd_ref_v`` and grow towards the threshold as the overdrive shrinks. Temperature and process corner
move the transistors' threshold and mobility: :func:`at_conditions` gives the amplifier of another temperature or
corner.

A ternary chip that has a single output per amplifier senses each row twice, with the input high and then low, and takes
the two outputs as the bits of a weight: 10 is +1, 01 is -1, 00 is 0, and 11 cannot be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.constants import ZERO_C
from models.device_model import Sense
from models.exceptions import UserMistake

Floats = NDArray[np.float64]

CERTAIN_SIGMAS = 6.5
"""Noise is drawn only for cells closer to a decision edge than this many standard deviations.

Leaving the others out is wrong once in 1e10 senses, and makes sensing an array as fast as a matrix product.
"""

_BLOCK = 1 << 22


class Corner(IntEnum):
    """Process corner of the transistors: slow, typical or fast, n and p alike."""

    SS = -1
    TT = 0
    FF = 1


class Margins(NamedTuple):
    """How a cell stands before offset and noise, arrays ``(rows, cols)`` of natural logarithms.

    Attributes:
        log_ratio: L; positive when the BL device has the higher resistance (weight +1).
        dead_zone: half the width of the range of the difference that stays undecided.
    """

    log_ratio: Floats
    dead_zone: Floats


def at_conditions(sense: Sense, temperature_c: float, corner: Corner = Corner.TT) -> Sense:
    """The amplifier at another temperature or process corner, as parameters of the same kind.

    Thresholds fall with temperature and from SS to FF; currents fall with temperature as the mobility does, and rise
    from SS to FF. The offset is a voltage, so that it weighs less the larger the overdrive; the noise is thermal.

    Raises:
        UserMistake: at ``sense.vdd_ref_v`` the amplifier would not work there.
    """
    kelvins = (temperature_c + ZERO_C) / (sense.reference_c + ZERO_C)
    mobility = kelvins**-sense.mobility_exponent * (1.0 + corner * sense.corner_mobility)
    shift_v = sense.threshold_per_k * (temperature_c - sense.reference_c) - corner * sense.corner_threshold_v
    overdrive = 1.0 - shift_v / (sense.vdd_ref_v - sense.threshold_v)
    if not (overdrive > 0.0 and sense.threshold_v + shift_v >= 0.0):
        raise UserMistake(
            f"the sense amplifier does not work at {temperature_c:g} degC in corner {corner.name}: its threshold would "
            f"be {sense.threshold_v + shift_v:g} V at a supply of {sense.vdd_ref_v:g} V"
        )
    return replace(
        sense,
        swing_v=sense.swing_v + shift_v,
        threshold_v=sense.threshold_v + shift_v,
        access_ohm=sense.access_ohm / mobility,
        saturation_a=sense.saturation_a * mobility * overdrive,
        offset_sigma=sense.offset_sigma / overdrive,
        noise_sigma=sense.noise_sigma * math.sqrt(kelvins) / overdrive,
    )


def overdrive_ratio(sense: Sense, vdd_v: float) -> float:
    """Overdrive of the latch at ``vdd_v`` over that at the reference supply; 0 at the threshold and below."""
    return max(vdd_v - sense.threshold_v, 0.0) / (sense.vdd_ref_v - sense.threshold_v)


def crossing_time_s(sense: Sense, resistance_ohm: Floats, vdd_v: float) -> Floats:
    """Time in s for a node to fall by the swing through a device, for ``vdd_v`` above the threshold."""
    current = np.minimum(
        vdd_v / (resistance_ohm + sense.access_ohm), sense.saturation_a * overdrive_ratio(sense, vdd_v)
    )
    return np.asarray(sense.node_capacitance_f * sense.swing_v / current)


def critical_resistance_ohm(sense: Sense, vdd_v: float, window_s: float) -> float:
    """Highest device resistance in ohm whose node falls within the window; 0 when not even a short circuit's does."""
    limit_a = sense.node_capacitance_f * sense.swing_v / window_s
    if sense.saturation_a * overdrive_ratio(sense, vdd_v) < limit_a:
        return 0.0
    return max(vdd_v / limit_a - sense.access_ohm, 0.0)


def margins(sense: Sense, resistance_ohm: Floats, vdd_v: float, window_s: float) -> Margins:
    """Margins of cells with two devices each.

    Args:
        resistance_ohm: ``(rows, cols, 2)``, BL first.
        vdd_v: core supply.
        window_s: sense window, > 0.

    Raises:
        UserMistake: the window is not positive.
    """
    if not window_s > 0.0:
        raise UserMistake(f"a sense window of {window_s:g} s is refused; it must be above 0 s")
    if overdrive_ratio(sense, vdd_v) == 0.0:
        shape = resistance_ohm.shape[:-1]
        return Margins(np.zeros(shape), np.full(shape, np.inf))
    log_time = np.log(crossing_time_s(sense, resistance_ohm, vdd_v))
    late = log_time.sum(axis=-1) - 2.0 * math.log(window_s)
    return Margins(log_time[..., 0] - log_time[..., 1], np.maximum(late, 0.0))


class _NoisyCells(NamedTuple):
    """Cells that noise may push over an edge when the input is ``sign``; arrays ``(cells,)``, row by row."""

    sign: int
    noise_sigma: float
    rows: NDArray[np.intp]
    cols: NDArray[np.intp]
    centre: Floats
    dead_zone: Floats


@dataclass(frozen=True, eq=False)
class PreparedXnor:
    """XNOR sums of cells that do not change, for any inputs. Made by :meth:`SenseAmplifiers.prepare_xnor`.

    Attributes:
        slope: ``(cols, rows)``, what an input adds to the sum of each row, but for noise.
        constant: ``(rows,)``, what the sums are besides.
        noisy: cells that noise is drawn for, by sign of the input.
    """

    slope: NDArray[np.float32]
    constant: NDArray[np.float32]
    noisy: tuple[_NoisyCells, ...]

    def sums(self, inputs: NDArray[np.int8], rng: np.random.Generator) -> NDArray[np.int16]:
        """Sums ``(n, rows)`` of inputs ``(n, cols)``; see :meth:`SenseAmplifiers.xnor`."""
        sums: NDArray[np.float32] = inputs.astype(np.float32) @ self.slope + self.constant
        for sign, noise_sigma, rows, cols, centre, dead_zone in self.noisy:
            quiet = _decide(centre, dead_zone)
            # the cells come row by row: where each row begins among them, and which row it is
            begins = np.flatnonzero(np.diff(rows, prepend=-1))
            block = max(_BLOCK // rows.size, 1)
            for start in range(0, len(inputs), block):
                part = inputs[start : start + block]
                noise = noise_sigma * rng.standard_normal((len(part), rows.size))
                change = (_decide(centre + noise, dead_zone) - quiet) * (part[:, cols] == sign)
                sums[start : start + block, rows[begins]] += np.add.reduceat(change, begins, axis=1, dtype=np.int16)
        return sums.astype(np.int16)


class SenseAmplifiers:
    """One precharge sense amplifier per column, and per array where several arrays are stacked row upon row.

    Args:
        sense: parameters.
        deviates: standard normal deviate of each amplifier's offset, ``(cols,)`` or ``(arrays, cols)``.
        rows: rows of one array; needed with several arrays only.

    Attributes:
        sense: parameters; replace them when the temperature changes.
    """

    def __init__(self, sense: Sense, deviates: Floats, rows: int = 1) -> None:
        self.sense = sense
        self._deviates = deviates if deviates.ndim == 1 else np.repeat(deviates, rows, axis=0)

    def read(
        self, cells: Margins, vdd_v: float, repeats: int, rng: np.random.Generator, input_sign: int = 1
    ) -> NDArray[np.int8]:
        """Sense all cells ``repeats`` times, with one input for all of them.

        Args:
            cells: ``(rows, cols)``, cols as many as there are amplifiers.
            input_sign: the input, +1 (the read of a weight) or -1.

        Returns:
            ``(repeats, rows, cols)``: +1, -1, or 0 for undecided.
        """
        shifted, noise_sigma = self._shifted(cells, vdd_v, input_sign)
        quiet = _decide(shifted, cells.dead_zone)
        out = np.repeat(quiet[None], repeats, axis=0)
        rows, cols = _uncertain(shifted, cells.dead_zone, noise_sigma)
        noisy = shifted[rows, cols] + noise_sigma * rng.standard_normal((repeats, rows.size))
        out[:, rows, cols] = _decide(noisy, cells.dead_zone[rows, cols])
        return out

    def read_two_bits(self, cells: Margins, vdd_v: float, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Sense all cells twice, with the input high and then low, as the C2N ternary chip does.

        Args:
            cells: ``(rows, cols)``, cols as many as there are amplifiers.

        Returns:
            ``(rows, cols)``: 0b10 for +1, 0b01 for -1, 0b00 for 0; 0b11 where an offset outweighs the weight.
        """
        high, low = (self.read(cells, vdd_v, 1, rng, sign)[0] > 0 for sign in (1, -1))
        return np.asarray(2 * high + low, dtype=np.uint8)

    def xnor(
        self, cells: Margins, inputs: NDArray[np.int8], vdd_v: float, rng: np.random.Generator
    ) -> NDArray[np.int16]:
        """XNOR of inputs and cells in the amplifiers, summed over the columns of each row.

        Args:
            cells: ``(rows, cols)``, at most as many as there are amplifiers.
            inputs: ``(n, cols)`` of -1 and +1.

        Returns:
            ``(n, rows)``: agreements minus disagreements; undecided cells count zero.
        """
        return self.prepare_xnor(cells, vdd_v).sums(inputs, rng)

    def prepare_xnor(self, cells: Margins, vdd_v: float) -> PreparedXnor:
        """What :meth:`xnor` needs of the cells, whatever the inputs; good until cells or amplifiers change."""
        by_sign = {sign: self._shifted(cells, vdd_v, sign) for sign in (1, -1)}
        plus, minus = (_decide(shifted, cells.dead_zone).astype(np.float32) for shifted, _ in by_sign.values())
        noisy = []
        for sign, (shifted, noise_sigma) in by_sign.items():
            rows, cols = _uncertain(shifted, cells.dead_zone, noise_sigma)
            if rows.size:
                centre, dead_zone = shifted[rows, cols], cells.dead_zone[rows, cols]
                noisy.append(_NoisyCells(sign, noise_sigma, rows, cols, centre, dead_zone))
        # Sums of at most a few thousand halves of small integers: exact in single precision.
        return PreparedXnor(0.5 * (plus - minus).T, 0.5 * (plus + minus).sum(axis=1), tuple(noisy))

    def _shifted(self, cells: Margins, vdd_v: float, sign: int) -> tuple[Floats, float]:
        """``sign * L + offset`` of each cell, and the noise's standard deviation at this supply."""
        ratio = overdrive_ratio(self.sense, vdd_v)
        if ratio == 0.0:
            return cells.log_ratio, 0.0
        rows, cols = cells.log_ratio.shape
        own = self._deviates[:cols] if self._deviates.ndim == 1 else self._deviates[:rows, :cols]
        return sign * cells.log_ratio + self.sense.offset_sigma / ratio * own, self.sense.noise_sigma / ratio


def _decide(difference: Floats, dead_zone: Floats) -> NDArray[np.int8]:
    return np.where(np.abs(difference) > dead_zone, np.sign(difference), 0.0).astype(np.int8)


def _uncertain(shifted: Floats, dead_zone: Floats, noise_sigma: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the cells that noise could push over the nearest edge of their dead zone."""
    near = np.abs(np.abs(shifted) - dead_zone) <= CERTAIN_SIGMAS * noise_sigma
    rows, cols = np.nonzero(near)
    return rows, cols
