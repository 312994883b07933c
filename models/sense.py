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
noise are given at ``vdd_ref_v`` and grow towards the threshold as the overdrive shrinks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.device_model import Sense
from models.exceptions import UserMistake

Floats = NDArray[np.float64]

CERTAIN_SIGMAS = 6.5
"""Noise is drawn only for cells closer to a decision edge than this many standard deviations.

Leaving the others out is wrong once in 1e10 senses, and makes sensing an array as fast as a matrix product.
"""

_BLOCK = 1 << 22


class Margins(NamedTuple):
    """How a cell stands before offset and noise, arrays ``(rows, cols)`` of natural logarithms.

    Attributes:
        log_ratio: L; positive when the BL device has the higher resistance (weight +1).
        dead_zone: half the width of the range of the difference that stays undecided.
    """

    log_ratio: Floats
    dead_zone: Floats


def overdrive_ratio(sense: Sense, vdd_v: float) -> float:
    """Overdrive of the latch at ``vdd_v`` over that at the reference supply; 0 at the threshold and below."""
    return max(vdd_v - sense.threshold_v, 0.0) / (sense.vdd_ref_v - sense.threshold_v)


def crossing_time_s(sense: Sense, resistance_ohm: Floats, vdd_v: float) -> Floats:
    """Time in s for a node to fall by the swing through a device, for ``vdd_v`` above the threshold."""
    current = np.minimum(
        vdd_v / (resistance_ohm + sense.access_ohm), sense.saturation_a * overdrive_ratio(sense, vdd_v)
    )
    return np.asarray(sense.node_capacitance_f * sense.swing_v / current)


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


class SenseAmplifiers:
    """One precharge sense amplifier per column.

    Args:
        sense: parameters.
        deviates: standard normal deviate of each column's offset, ``(cols,)``.
    """

    def __init__(self, sense: Sense, deviates: Floats) -> None:
        self.sense = sense
        self._deviates = deviates

    def read(self, cells: Margins, vdd_v: float, repeats: int, rng: np.random.Generator) -> NDArray[np.int8]:
        """Sense all cells with an input of +1, ``repeats`` times.

        Args:
            cells: ``(rows, cols)``, cols as many as there are amplifiers.

        Returns:
            ``(repeats, rows, cols)``: +1, -1, or 0 for undecided.
        """
        shifted, noise_sigma = self._shifted(cells, vdd_v, 1)
        quiet = _decide(shifted, cells.dead_zone)
        out = np.repeat(quiet[None], repeats, axis=0)
        rows, cols = _uncertain(shifted, cells.dead_zone, noise_sigma)
        noisy = shifted[rows, cols] + noise_sigma * rng.standard_normal((repeats, rows.size))
        out[:, rows, cols] = _decide(noisy, cells.dead_zone[rows, cols])
        return out

    def xnor(
        self, cells: Margins, inputs: NDArray[np.int8], vdd_v: float, rng: np.random.Generator
    ) -> NDArray[np.int16]:
        """XNOR of inputs and cells in the amplifiers, summed over the columns of each row.

        Args:
            cells: ``(rows, cols)``, cols at most as many as there are amplifiers.
            inputs: ``(n, cols)`` of -1 and +1.

        Returns:
            ``(n, rows)``: agreements minus disagreements; undecided cells count zero.
        """
        by_sign = {sign: self._shifted(cells, vdd_v, sign) for sign in (1, -1)}
        plus, minus = (_decide(shifted, cells.dead_zone).astype(np.float32) for shifted, _ in by_sign.values())
        # Sums of at most a few thousand halves of small integers: exact in single precision.
        sums: NDArray[np.float32] = 0.5 * (inputs.astype(np.float32) @ (plus - minus).T + (plus + minus).sum(axis=1))
        for sign, (shifted, noise_sigma) in by_sign.items():
            rows, cols = _uncertain(shifted, cells.dead_zone, noise_sigma)
            if not rows.size:
                continue
            centre, dead_zone = shifted[rows, cols], cells.dead_zone[rows, cols]
            quiet = _decide(centre, dead_zone)
            to_rows = (rows[:, None] == np.arange(plus.shape[0])).astype(np.float32)
            block = max(_BLOCK // rows.size, 1)
            for start in range(0, len(inputs), block):
                part = slice(start, start + block)
                noise = noise_sigma * rng.standard_normal((len(inputs[part]), rows.size))
                change = (_decide(centre + noise, dead_zone) - quiet) * (inputs[part][:, cols] == sign)
                sums[part] += change.astype(np.float32) @ to_rows
        return sums.astype(np.int16)

    def _shifted(self, cells: Margins, vdd_v: float, sign: int) -> tuple[Floats, float]:
        """``sign * L + offset`` of each cell, and the noise's standard deviation at this supply."""
        ratio = overdrive_ratio(self.sense, vdd_v)
        if ratio == 0.0:
            return cells.log_ratio, 0.0
        offset = self.sense.offset_sigma / ratio * self._deviates[: cells.log_ratio.shape[1]]
        return sign * cells.log_ratio + offset, self.sense.noise_sigma / ratio


def _decide(difference: Floats, dead_zone: Floats) -> NDArray[np.int8]:
    return np.where(np.abs(difference) > dead_zone, np.sign(difference), 0.0).astype(np.int8)


def _uncertain(shifted: Floats, dead_zone: Floats, noise_sigma: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the cells that noise could push over the nearest edge of their dead zone."""
    near = np.abs(np.abs(shifted) - dead_zone) <= CERTAIN_SIGMAS * noise_sigma
    rows, cols = np.nonzero(near)
    return rows, cols
