"""Weak-RESET trains taken by themselves, with all of their readings: which curve suits them, and do cycles repeat?

What the populations are fitted to may be a part of the readings; this is all of them, since curves cost little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.curve_models import EXPONENTIAL, LOGARITHM, ONE_LINE, TWO_LINES, Suited, compare_curves, predict_cycles
from calibration.estimate import COVERAGE
from calibration.piecewise import fit_curves
from calibration.result import Check
from calibration.weak_reset_curves import FEWEST_READS, Branch, Staircase

Floats = NDArray[np.float64]

FEWEST_CYCLES = 3
"""Of which one is predicted from the others; two is the least to tell how cycles differ."""

_MOST_LEFT_OUT = 10
_INSIDE = (0.92, 0.98)
"""Share of the readings inside their 95 % intervals that is called right: devices differ, and are not many."""

_CALLED = {
    TWO_LINES: "the weak-RESET curve (two lines with a knee)",
    ONE_LINE: "one line",
    EXPONENTIAL: "a saturating exponential",
    LOGARITHM: "a logarithm",
}


class Trains(NamedTuple):
    """All readings under one condition.

    Attributes:
        pulses: ``(reads,)``, in reference pulses, the 0 included.
        log_r: ``(devices, cycles, reads)`` ln R, finite.
    """

    pulses: Floats
    log_r: Floats


def trains_of(staircases: Sequence[Staircase], branches: Sequence[Branch], members: NDArray[np.bool_]) -> list[Trains]:
    """Trains of some devices by branch; devices that did not conduct at every reading are left out.

    Args:
        staircases: with all their readings, in the order that the branches count them in.
        branches: conditions; their own pulses may be fewer.
        members: ``(devices,)``.
    """
    found = []
    for branch in branches:
        ohms = np.stack([staircases[place].resistance_ohm[members] for place in branch.members], axis=1)
        ohms = ohms[np.isfinite(ohms).all(axis=(1, 2))]
        pulses = branch.stress * np.asarray(staircases[branch.members[0]].pulses, dtype=np.float64)
        found.append(Trains(pulses, np.log(ohms)))
    return found


def suited_curves(trains: Trains) -> tuple[Suited, Suited]:
    """Compare curves of ln R from the first pulse on: for the mean train of each device, and for single trains.

    Readings that follow each other are correlated by 1/f noise and RTN. Curves are therefore compared on so few of
    them, evenly chosen, as the correlation of neighbours, taken for that of a Markov chain, leaves independent.
    """
    t = trains.pulses[1:]
    z = trains.log_r[:, :, 1:] - trains.log_r[:, :, :1]
    mean, single = (_on_independent(t, w) for w in (z.mean(axis=1), z.reshape(-1, len(t))))
    return mean, single


def _on_independent(t: Floats, w: Floats) -> Suited:
    residual = w - fit_curves(t, w).at(t)
    near = float((residual[:, 1:] * residual[:, :-1]).sum() / max(float((residual**2).sum()), 1e-300))
    independent = len(t) * (1.0 - max(near, 0.0)) / (1.0 + max(near, 0.0))
    chosen = np.unique(np.linspace(0, len(t) - 1, max(round(independent), FEWEST_READS)).astype(int))
    return compare_curves(t[chosen], w[:, chosen])


def verdict(what: str, suited: Suited) -> str:
    """Whether our curve suits better than one line, an exponential or a logarithm, in a line for a person."""
    ranking = sorted(suited.bic, key=suited.bic.__getitem__)
    best = ranking[0]
    other = ranking[1] if best == TWO_LINES else TWO_LINES
    by = suited.bic[other] - suited.bic[best]
    trains = sum(suited.trains.values())
    return (
        f"{what}: {_CALLED[best]} suits these devices better than {_CALLED[other]}: its information criterion is "
        f"{by:.4g} better; the weak-RESET curve is the best of four for {suited.trains[TWO_LINES]} of {trains}"
    )


def repeated_cycles(branches: Sequence[Branch], trains: Sequence[Trains]) -> tuple[tuple[Check, ...], list[str]]:
    """Predict cycles that were not fitted from the two-line curves of others, where there are several.

    Each of up to ten cycles is predicted from all others, and the later half from the earlier half, which tells
    whether devices drift from cycle to cycle.
    """
    checks, lines = [], []
    for branch, (t, w) in zip(branches, trains, strict=True):
        cycles = w.shape[1]
        if cycles < FEWEST_CYCLES:
            continue
        left_out = np.unique(np.linspace(0, cycles - 1, min(cycles, _MOST_LEFT_OUT)).round().astype(int))
        others = [predict_cycles(t, np.delete(w, cycle, axis=1), w[:, [cycle]]) for cycle in left_out]
        predicted = {"each from all others": np.mean([item.devices for item in others], axis=0)}
        if cycles >= 2 * FEWEST_CYCLES:
            half = cycles // 2
            predicted["the later half from the earlier"] = predict_cycles(t, w[:, :half], w[:, half:]).devices
        for how, devices in predicted.items():
            inside = float(devices.mean())
            name = f"cycles that were not fitted, {how}, at {branch.device_v:.3g} V"
            text = (
                f"{name}: {inside:.1%} of the readings lie inside their {COVERAGE:.0%} intervals, "
                f"{devices.min():.0%} to {devices.max():.0%} by device"
            )
            lines.append(text)
            good = _INSIDE[0] <= inside <= _INSIDE[1]
            checks.append(Check(name, inside, *_INSIDE, good, text if good else f"{text}, which is not {COVERAGE:.0%}"))
    return tuple(checks), lines
