"""Exact least squares of two straight lines that meet at a knee, for many devices in one compiled pass.

    w(t) = c + m1 t                     for t <  t*
         = c + m1 t* + m2 (t - t*)      for t >= t*

which is the mean weak-RESET curve of Majumdar et al., IEEE Transactions on Electron Devices, 2021. For a knee between
two given readings the best continuous curve is either two independent lines that happen to meet there, or has its
knee on one of the readings; both are solved in closed form from running sums, so that the best knee of all is found
without iteration, and is the global optimum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.exceptions import UserMistake

Floats = NDArray[np.float64]

FEWEST_READINGS = 4
"""Two lines of two readings each: fewer leave nothing to fit."""


class Curves(NamedTuple):
    """The best curve of each device, arrays ``(devices,)``.

    Attributes:
        offset: c.
        slope1, slope2: m1 and m2, per unit of t.
        knee: t*, between the second and the last but one reading.
        residual: weighted sum of squared residuals.
    """

    offset: Floats
    slope1: Floats
    knee: Floats
    slope2: Floats
    residual: Floats

    def at(self, t: Floats) -> Floats:
        """The curves at ``t`` ``(readings,)``: ``(devices, readings)``."""
        early = np.minimum(t, self.knee[:, None])
        late = np.maximum(t - self.knee[:, None], 0.0)
        return self.offset[:, None] + self.slope1[:, None] * early + self.slope2[:, None] * late


def fit_curves(t: Floats, w: Floats, weights: Floats | None = None) -> Curves:
    """Fit each device's curve.

    Args:
        t: ``(readings,)``, rising.
        w: ``(devices, readings)``.
        weights: ``(devices, readings)``, at least 0; all equal when None. A reading of weight 0 counts for nothing.

    Raises:
        UserMistake: shapes that do not fit, fewer than four readings, NaN, or t that does not rise.
    """
    times, values = np.asarray(t, dtype=np.float64), np.asarray(w, dtype=np.float64)
    heavy = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.ndim != 2 or times.shape != values.shape[1:] or heavy.shape != values.shape:
        raise UserMistake(f"curves: readings {values.shape} and weights {heavy.shape} do not fit times {times.shape}")
    if len(times) < FEWEST_READINGS or not (np.diff(times) > 0).all():
        raise UserMistake(f"curves: at least {FEWEST_READINGS} readings at rising times are needed, not {len(times)}")
    if not (np.isfinite(values).all() and np.isfinite(heavy).all() and (heavy >= 0.0).all()):
        raise UserMistake("curves: readings must be finite numbers, their weights 0 or more")
    scale = float(times[-1] - times[0])
    # shifted and scaled to 0..1: the sums of squares stay well conditioned
    found = _fit(np.ascontiguousarray((times - times[0]) / scale), values, heavy)
    offset, slope1, knee, slope2, residual = found.T
    # a knee on a reading may be rounded past it
    knee = np.clip(times[0] + knee * scale, times[1], times[-2])
    return Curves(offset - slope1 / scale * times[0], slope1 / scale, knee, slope2 / scale, residual)


@njit(cache=True)
def _fit(x: Floats, z: Floats, w: Floats) -> Floats:
    devices, readings = z.shape
    found = np.full((devices, 5), np.nan)
    total, left, right = np.empty(6), np.empty(6), np.empty(6)
    for d in range(devices):
        total[:] = 0.0
        left[:] = 0.0
        for k in range(readings):
            _add(total, x[k], z[d, k], w[d, k])
        best = np.inf
        _add(left, x[0], z[d, 0], w[d, 0])
        for k in range(1, readings - 1):
            _add(left, x[k], z[d, k], w[d, k])
            for i in range(6):
                right[i] = total[i] - left[i]
            # the knee on reading k
            c, m1, m2, error = _knee_at(left, right, x[k])
            if error < best:
                best = error
                found[d, 0], found[d, 1], found[d, 2], found[d, 3], found[d, 4] = c, m1, x[k], m2, error
            if k < readings - 2:
                # two free lines; they count where they meet between readings k and k + 1
                a1, b1, e1 = _line(left)
                a2, b2, e2 = _line(right)
                if e1 + e2 < best and b1 != b2:
                    meeting = (a2 - a1) / (b1 - b2)
                    if x[k] <= meeting <= x[k + 1]:
                        best = e1 + e2
                        found[d, 0], found[d, 1], found[d, 2], found[d, 3], found[d, 4] = a1, b1, meeting, b2, best
    return found


@njit(cache=True)
def _add(sums: Floats, x: float, z: float, w: float) -> None:
    """Running sums: weight, x, x squared, z, x z, z squared."""
    sums[0] += w
    sums[1] += w * x
    sums[2] += w * x * x
    sums[3] += w * z
    sums[4] += w * x * z
    sums[5] += w * z * z


@njit(cache=True)
def _line(s: Floats) -> tuple[float, float, float]:
    """Intercept, slope and residual of the best line."""
    determinant = s[0] * s[2] - s[1] * s[1]
    if determinant <= 1e-12 * s[0] * s[2]:
        return 0.0, 0.0, np.inf
    slope = (s[0] * s[4] - s[1] * s[3]) / determinant
    intercept = (s[2] * s[3] - s[1] * s[4]) / determinant
    return intercept, slope, max(s[5] - intercept * s[3] - slope * s[4], 0.0)


@njit(cache=True)
def _knee_at(s: Floats, q: Floats, t: float) -> tuple[float, float, float, float]:
    """Offset, two slopes and residual of the best curve with its knee at ``t``; ``s`` up to it, ``q`` beyond."""
    n11, n12, n13 = s[0] + q[0], s[1] + t * q[0], q[1] - t * q[0]
    n22, n23 = s[2] + t * t * q[0], t * (q[1] - t * q[0])
    n33 = q[2] - 2.0 * t * q[1] + t * t * q[0]
    r1, r2, r3 = s[3] + q[3], s[4] + t * q[3], q[4] - t * q[3]
    m11, m12, m13 = n22 * n33 - n23 * n23, n13 * n23 - n12 * n33, n12 * n23 - n13 * n22
    determinant = n11 * m11 + n12 * m12 + n13 * m13
    if determinant <= 1e-14 * n11 * n22 * n33:
        return 0.0, 0.0, 0.0, np.inf
    m22, m23, m33 = n11 * n33 - n13 * n13, n12 * n13 - n11 * n23, n11 * n22 - n12 * n12
    c = (m11 * r1 + m12 * r2 + m13 * r3) / determinant
    a = (m12 * r1 + m22 * r2 + m23 * r3) / determinant
    b = (m13 * r1 + m23 * r2 + m33 * r3) / determinant
    error = s[5] + q[5] - c * r1 - a * r2 - b * r3
    return c, a, b, max(error, 0.0)
