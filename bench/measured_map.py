"""What a characterisation tells a prediction about the cells of one chip: stuck cells, and errors cell by cell.

Errors of programming and errors that come and go are told apart by pairs of senses, type by type
(:mod:`calibration.typed_errors`); which cells are stuck says :mod:`bench.error_map`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from bench.error_map import ErrorMap
from bench.procedures.characterise import CHARACTERISE
from calibration.device_fit import fixed_outputs, sensed_patterns
from calibration.estimate import Estimate
from calibration.typed_errors import TYPES, turned_gains, typed_errors
from data.runs import Run, RunStatus
from models.error_rates import CellErrors, Counted, EstimatedRate, MeasuredMap, ReadErrorRates
from models.exceptions import UserMistake

_NEVER = EstimatedRate(0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class KnownChip:
    """What predictions need to know of one chip.

    Attributes:
        cells: stuck cells and errors of each cell.
        rates: what is known of all cells together only: fixed outputs in XNOR.
    """

    cells: MeasuredMap
    rates: ReadErrorRates


def known_chip(runs: Sequence[Run], error_map: ErrorMap) -> KnownChip:
    """What completed characterisations of the chip of ``error_map`` say.

    Raises:
        UserMistake: no such run, or patterns that were sensed once only.
    """
    chosen = [run for run in runs if run.procedure == CHARACTERISE.name and run.status is RunStatus.COMPLETED]
    if not chosen:
        raise UserMistake("a prediction for this chip needs a completed run of characterise; give one, or none at all")
    found = reduce(add, (typed_errors(*sensed_patterns(run)[:2]) for run in chosen))
    stuck = error_map.stuck & (error_map.stuck_value != 0)
    if stuck.all():
        raise UserMistake("every cell is stuck; is the array formed, and are the rails of SENSE right?")

    def errors(wrong: Mapping[str, NDArray[np.float64]], trials: Mapping[str, NDArray[np.int64]]) -> CellErrors:
        # a type that was never tried, as zeros on a binary chip, stays unknown
        inverted, lost, gained = (
            Counted(np.where(stuck, 0.0, wrong[name]), own) if (own := np.where(stuck, 0, trials[name])).any() else None
            for name in TYPES
        )
        if inverted is None:
            raise UserMistake("no weight of -1 or +1 was programmed into a cell that is not stuck; characterise again")
        return CellErrors(inverted, lost, gained)

    cells = MeasuredMap(
        np.where(stuck, error_map.stuck_value, 0).astype(np.int8),
        errors(found.transient, found.senses),
        errors(found.steady, found.programmings),
    )
    fixed = fixed_outputs(chosen[-1])
    rates = ReadErrorRates(_NEVER, _NEVER, _NEVER, _NEVER if fixed is None else _rate(fixed))
    if cells.tells_zeros:
        steady, noise = _turned(chosen[-1])
        rates = replace(rates, turned_gain=_rate(steady), turned_noise=_rate(noise))
    return KnownChip(cells, rates)


def _rate(estimate: Estimate) -> EstimatedRate:
    return EstimatedRate(estimate.value, estimate.low, estimate.high)


def _turned(run: Run) -> tuple[Estimate, Estimate]:
    """How often zeros answer in XNOR with -1: steadily, and now and then.

    Raises:
        UserMistake: it was not measured.
    """
    products = run.read("xnor_inputs") if "xnor_inputs" in run.tables else {}
    if not products or not (turned := products["input"] == -1).any():
        raise UserMistake(
            f"{run.path}: zeros in XNOR were not measured; characterise the whole array, xnor_repeats above 1"
        )
    read = np.sign(sensed_patterns(run)[1].sum(axis=1, dtype=np.int64))
    patterns = run.read("patterns", ["pattern"])["pattern"]
    sums = np.stack([products["sum"][turned & (products["pattern"] == one)] for one in patterns])
    return turned_gains(read.sum(axis=2), sums, (read == 0).sum(axis=2), read[0].size)
