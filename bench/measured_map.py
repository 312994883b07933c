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
from calibration.typed_errors import TYPES, TurnedAnswers, turned_answers, turned_noise, typed_errors
from data.runs import Run, RunStatus
from models.error_rates import CellErrors, Counted, EstimatedRate, MeasuredMap, ReadErrorRates, TurnedErrors
from models.exceptions import UserMistake

_NEVER = EstimatedRate(0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class KnownChip:
    """What predictions need to know of one chip.

    Attributes:
        cells: stuck cells and errors of each cell.
        rates: what is known of all cells together only: of XNOR, fixed outputs of a binary chip, and the noise of
            zeros at an input of -1.
    """

    cells: MeasuredMap
    rates: ReadErrorRates


def known_chip(runs: Sequence[Run], error_map: ErrorMap) -> KnownChip:
    """What completed characterisations of the chip of ``error_map`` say.

    Raises:
        UserMistake: no such run, or patterns that were sensed once only.
    """
    # a run that is named twice tells no more than once
    each = {run.path.resolve(): run for run in runs}.values()
    chosen = [run for run in each if run.procedure == CHARACTERISE.name and run.status is RunStatus.COMPLETED]
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
    if cells.tells_zeros:
        # binary patterns may be among them, which have no zeros that XNOR could be asked of
        wide = [run for run in chosen if "xnor_cells" in run.tables and run.rows("xnor_cells")] or chosen
        noise = _rate(_noise(wide[-1]))
        turned = reduce(add, (_turned(run, ~stuck) for run in wide))
        return KnownChip(
            replace(
                cells,
                turned=TurnedErrors(
                    Counted(turned.fixed, turned.weights),
                    Counted(turned.lost, turned.weights),
                    Counted(turned.turned, turned.zeros),
                    turned.up,
                    turned.down,
                ),
            ),
            ReadErrorRates(_NEVER, _NEVER, _NEVER, turned_noise=noise),
        )
    fixed = next((one for run in reversed(chosen) if (one := fixed_outputs(run)) is not None), None)
    return KnownChip(cells, ReadErrorRates(_NEVER, _NEVER, _NEVER, _NEVER if fixed is None else _rate(fixed)))


def _rate(estimate: Estimate) -> EstimatedRate:
    return EstimatedRate(estimate.value, estimate.low, estimate.high)


def _turned(run: Run, good: NDArray[np.bool_]) -> TurnedAnswers:
    """What each cell answers in XNOR with -1."""
    targets, senses, _ = sensed_patterns(run)
    return turned_answers(targets, senses, _sums(run, "xnor_cells"), good)


def _noise(run: Run) -> Estimate:
    """How often zeros answer in XNOR with -1 now and then."""
    zeros = np.rint(sensed_patterns(run)[1].mean(axis=1)) == 0
    return turned_noise(_sums(run, "xnor_inputs"), zeros.sum(axis=2), zeros[0].size)


def _sums(run: Run, table: str) -> NDArray[np.integer]:
    """Sums of a table of products, ``(patterns, repeats, ...)``, those with one input for all columns at -1 alone.

    Raises:
        UserMistake: it was not measured.
    """
    products = run.read(table) if table in run.tables else {}
    if not products or not len(products["pattern"]):
        raise UserMistake(
            f"{run.path}: zeros in XNOR were not measured; characterise the whole array, xnor_repeats above 1"
        )
    wanted = products["input"] == -1 if "input" in products else np.ones(len(products["pattern"]), dtype=bool)
    patterns = run.read("patterns", ["pattern"])["pattern"]
    return np.stack([products["sum"][wanted & (products["pattern"] == one)] for one in patterns])
