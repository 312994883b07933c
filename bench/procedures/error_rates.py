"""Errors counted cell by cell, and the rates that they amount to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.procedure import CellMask
from calibration.bit_errors import clustered_rate
from models.cells import Weights, lrs_devices
from models.exceptions import UserMistake

Counts = NDArray[np.int64]
TYPES = {
    "type1": "+1 read as -1, or the reverse",
    "type2": "+1 or -1 read as undecided",
    "type3": "0 read as +1 or -1",
}
"""Types of error of a sense, as in :mod:`models.errors`."""

DIGITS = 4
"""Digits of a rate: more than any interval leaves."""


def rate(errors: Counts, trials: Counts) -> dict[str, Any] | None:
    """Errors of some cells as a rate with its 95 % interval; None without a trial.

    Without an error there is no rate, only a bound: ``rate`` is None and ``high`` says what it is below.

    Args:
        errors, trials: ``(cells,)``.
    """
    tried = trials > 0
    if not tried.any():
        return None
    found = clustered_rate(errors[tried], trials[tried])
    count = int(errors.sum())
    return {
        "errors": count,
        "trials": int(trials.sum()),
        "rate": None if count == 0 else float(f"{found.value:.{DIGITS}g}"),
        "low": float(f"{found.low:.{DIGITS}g}"),
        "high": float(f"{found.high:.{DIGITS}g}"),
    }


class ErrorCounts:
    """Errors of sensed weights, by type.

    Args:
        cells: ``(rows, cols)`` bool, the cells that count.
    """

    def __init__(self, cells: CellMask) -> None:
        self._cells = cells
        self._errors = {name: np.zeros(cells.shape, dtype=np.int64) for name in TYPES}
        self._trials = {name: np.zeros(cells.shape, dtype=np.int64) for name in TYPES}

    def add(self, target: Weights, sensed: NDArray[np.int8]) -> None:
        """Count the ``(repeats, rows, cols)`` reads of one pattern."""
        weight, zero = self._cells & (target != 0), self._cells & (target == 0)
        wrong = {"type1": (sensed == -target) & weight, "type2": (sensed == 0) & weight, "type3": (sensed != 0) & zero}
        tried = {"type1": weight, "type2": weight, "type3": zero}
        for name in TYPES:
            self._errors[name] += wrong[name].sum(axis=0)
            self._trials[name] += len(sensed) * tried[name]

    def merge(self, other: ErrorCounts) -> None:
        """Add what another of the same cells has counted."""
        for name in TYPES:
            self._errors[name] += other._errors[name]
            self._trials[name] += other._trials[name]

    @property
    def _all(self) -> tuple[Counts, Counts]:
        # A weight can err in two ways at each trial, and is tried once.
        errors = sum(self._errors.values(), np.zeros(self._cells.shape, dtype=np.int64))
        return errors[self._cells], (self._trials["type1"] + self._trials["type3"])[self._cells]

    def live(self) -> dict[str, float]:
        """The share of wrong reads so far, for watching."""
        errors, trials = self._all
        return {"bit errors": float(errors.sum() / trials.sum())} if trials.any() else {}

    def summary(self) -> dict[str, Any]:
        """Rates of all errors and of each type, as :func:`rate` has them; types that could not occur are left out."""
        rates = {"errors": rate(*self._all)}
        for name in TYPES:
            rates[name] = rate(self._errors[name][self._cells], self._trials[name][self._cells])
        return {name: one for name, one in rates.items() if one is not None}

    def text(self) -> str:
        """The rate of all errors for a person."""
        found = rate(*self._all)
        if found is None:
            return "not known: nothing was read"
        if found["rate"] is None:
            return f"below {found['high']:.2g} (no error in {found['trials']} reads)"
        return f"{found['rate']:.2g} ({found['low']:.2g} to {found['high']:.2g})"


def single_ended(measured: Sequence[tuple[NDArray[np.float64], Weights]], cells: CellMask) -> dict[str, Any]:
    """What resistances of programmed devices say of 1T1R cells, and of 2T2R cells without an amplifier.

    Args:
        measured: of each pattern the resistances ``(rows, cols, 2)`` in ohm, and the weights.
        cells: ``(rows, cols)`` bool, the cells that count.

    Returns:
        ``threshold_ohm``, best for the two populations, ``one_t1r``: devices on its wrong side, ``two_t2r``: cells
        whose two devices are in the wrong order; the last two as :func:`rate` has them.
    """
    ohms = np.stack([ohm for ohm, _ in measured])
    targets = np.stack([target for _, target in measured])
    low = np.stack([lrs_devices(target) for target in targets])
    order = np.sign(ohms[..., 0] - ohms[..., 1])
    weight = (targets != 0) & cells
    inverted = weight & (order == -targets)
    compared = rate(inverted.sum(axis=0)[cells], weight.sum(axis=0)[cells])
    threshold = _threshold_ohm(ohms[low & cells[..., None]], ohms[~low & cells[..., None]])
    if threshold is None:
        return {"threshold_ohm": None, "one_t1r": None, "two_t2r": compared}
    wrong = np.where(low, ohms > threshold, ohms < threshold).sum(axis=(0, 3))
    devices = np.full(cells.shape, 2 * len(measured))
    return {
        "threshold_ohm": float(f"{threshold:.4g}"),
        "one_t1r": rate(wrong[cells], devices[cells]),
        "two_t2r": compared,
    }


def _threshold_ohm(lrs: NDArray[np.float64], hrs: NDArray[np.float64]) -> float | None:
    """Best threshold between two populations, by their medians and median deviations; None where they overlap."""
    from models.errors import LogNormal, Populations, best_threshold_ohm

    def population(ohms: NDArray[np.float64]) -> LogNormal:
        logs = np.log(ohms[np.isfinite(ohms)])
        median = float(np.median(logs))
        # 1.4826 median deviations are one standard deviation of a normal population; broken devices do not move them.
        return LogNormal(float(np.exp(median)), 1.4826 * float(np.median(np.abs(logs - median))))

    if not (np.isfinite(lrs).any() and np.isfinite(hrs).any()):
        return None
    try:
        return best_threshold_ohm(Populations(population(lrs), population(hrs)))
    except UserMistake:
        return None  # the HRS does not lie above the LRS: no threshold tells them apart
