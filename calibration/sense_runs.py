"""The sense amplifiers of a chip from shmoo runs: ``python -m calibration.sense_runs RUN... --out device.toml``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.bit_errors import clustered_rate
from calibration.estimate import Estimate
from calibration.result import Fit, Outlier, chip_of
from calibration.run_conditions import flag_code
from calibration.script import run_script
from calibration.sense import Counts, SenseFit, at_working_supplies, fit_sense
from calibration.sense_judging import Judged, judge
from data.device_files import DeviceFile
from data.run_chain import chain, read_parts
from data.runs import Run
from models.device_model import Sense
from models.exceptions import UserMistake
from models.sense import margins, overdrive_ratio

Floats = NDArray[np.float64]

OUTCOMES = ("plus", "minus", "undecided")


class Shmoo(NamedTuple):
    """One run: the counts of the cells that belong to the fit, their addresses ``(cells, 2)`` and weights."""

    counts: Counts
    cells: NDArray[np.int64]
    target: NDArray[np.int8]


def read_shmoo(run: Run) -> Shmoo:
    """Counts of all programmed cells, with the resistances that were measured of them after programming.

    Raises:
        UserMistake: nothing was sensed.
    """
    parts = chain(run)
    rows = read_parts(parts, "shmoo", ["pattern", "vdd_v", "window_s", "plus", "minus", "undecided"])
    patterns = read_parts(parts, "patterns", ["pattern", "target", "verdict"])
    if not len(rows["vdd_v"]) or not len(patterns["pattern"]):
        raise UserMistake(f"{run.path}: nothing was sensed; run the shmoo to its end")
    if not (np.isfinite(rows["vdd_v"]).all() and np.isfinite(rows["window_s"]).all()):
        raise UserMistake(f"{run.path}: supplies and windows must be finite numbers; is the file damaged?")
    target = patterns["target"][-1]
    ohms = np.full((*target.shape, 2), np.nan)
    measured = read_parts(parts, "resistances", ["row", "col", "device", "pattern", "in_compliance", "resistance_ohm"])
    good = (measured["pattern"] == patterns["pattern"][-1]) & (measured["in_compliance"] == 0)
    where = tuple(measured[name][good] for name in ("row", "col", "device"))
    # infinite is an open device; NaN was not measured
    ohms[where] = np.minimum(measured["resistance_ohm"][good], 1e15)
    unused = flag_code(run, "patterns", "verdict", "UNUSED")
    chosen = patterns["verdict"][-1] != unused
    if not np.isnan(ohms[chosen]).all():
        chosen &= np.isfinite(ohms).all(axis=2)
    cells = np.argwhere(chosen)
    at = tuple(cells.T)
    plus, minus, undecided = (rows[name][:, cells[:, 0], cells[:, 1]].astype(np.int64) for name in OUTCOMES)
    data = Counts(rows["vdd_v"], rows["window_s"], plus, minus, undecided, cells[:, 1], ohms[at])
    return Shmoo(data, cells, target[at])


def fit_sense_runs(runs: Sequence[Run], base: DeviceFile) -> Fit:
    """Fit the amplifiers of one chip to shmoo runs of it.

    Without resistances only the noise can be told: where a cell becomes decided then says as much of its devices as of
    the amplifier. Runs are fitted together where they have the same supplies and windows.

    Returns:
        ``sense.offset_sigma``, ``sense.noise_sigma`` and ``sense.node_capacitance_f``; beside them
        ``sense.branch_sigma`` (what the crossing times differ from those of the resistances) and ``ternary.type1`` to
        ``ternary.type3``, the counted errors at the supply and window that read best.

    Raises:
        UserMistake: runs of several chips or of different supplies and windows, or data that cannot be fitted.
    """
    if len({chip_of(run) for run in runs}) > 1:
        raise UserMistake("sense: these runs are of several chips, and each amplifier belongs to one; fit chip by chip")
    several = [read_shmoo(run) for run in runs]
    whole = _joined(several, runs)
    whole = whole._replace(counts=at_working_supplies(whole.counts, base.model.sense))
    found = fit_sense(whole.counts, base.model.sense, rivals=True)[0]
    parameters = {"sense.noise_sigma": found.noise_sigma}
    report = [f"noise {found.noise_sigma} from sense to sense, in ln of the branch resistances, {found.cells} cells"]
    problems: list[str] = []
    judged = Judged((), (), ())
    if found.offset_sigma is None or found.node_capacitance_f is None or found.branch_sigma is None:
        problems.append(
            "no resistances were measured: offset and speed cannot be told apart from the devices and are kept"
        )
    else:
        parameters |= {
            "sense.offset_sigma": found.offset_sigma,
            "sense.node_capacitance_f": found.node_capacitance_f,
            "sense.branch_sigma": found.branch_sigma,
        }
        report += [
            f"offset {found.offset_sigma} over {len(found.columns)} columns",
            f"node capacitance {found.node_capacitance_f} at a swing of {base.model.sense.swing_v:g} V, which is kept: "
            "only their product can be told",
            f"crossing times scatter by {found.branch_sigma} about those of the measured resistances",
        ]
        report += [
            f"column {column}: offset {offset}" for column, offset in zip(found.columns, found.offsets, strict=True)
        ]
        predicted = predicted_shares(whole, found, base.model.sense)
        judged = judge(whole.counts, found, base.model.sense)
        report += best_point(whole, predicted, "by the fitted amplifiers")[1]
    senses = np.maximum(whole.counts.plus + whole.counts.minus + whole.counts.undecided, 1)
    point, lines = best_point(whole, [getattr(whole.counts, name) / senses for name in OUTCOMES], "as counted")
    rates = error_types(whole, point)
    parameters |= rates
    report += [*lines, *(f"{name} at the first of these: {rate}" for name, rate in rates.items())]
    if not found.converged:
        problems.append("the draws of the posterior have not settled: sense more cells, or at more windows")
    outliers = tuple(
        Outlier(
            int(row),
            int(col),
            0,
            "its crossing time does not fit the resistance of its faster branch",
            f"cell at row {row}, column {col}",
        )
        for row, col in whole.cells[found.outliers]
    )
    return Fit(parameters, found.cells, found.converged, tuple(problems), tuple(report), outliers, *judged)


def _joined(several: Sequence[Shmoo], runs: Sequence[Run]) -> Shmoo:
    first = several[0].counts
    for one, run in zip(several, runs, strict=True):
        same = np.array_equal(one.counts.vdd_v, first.vdd_v) and np.array_equal(one.counts.window_s, first.window_s)
        if not same:
            raise UserMistake(f"{run.path}: other supplies and windows than {runs[0].path}; fit these runs one by one")
    plus, minus, undecided = (
        np.concatenate([getattr(one.counts, name) for one in several], axis=1) for name in OUTCOMES
    )
    column, ohms = (
        np.concatenate([getattr(one.counts, name) for one in several]) for name in ("column", "resistance_ohm")
    )
    return Shmoo(
        Counts(first.vdd_v, first.window_s, plus, minus, undecided, column, ohms),
        np.concatenate([one.cells for one in several]),
        np.concatenate([one.target for one in several]),
    )


def best_point(data: Shmoo, shares: Sequence[Floats], what: str) -> tuple[int, list[str]]:
    """The points that read a ternary weight best, by the worst and by the mean of its values.

    Args:
        shares: of plus, minus and undecided, ``(points, cells)`` each.
        what: where these come from.

    Returns:
        Index of the point with the best worst value, and lines for a person.
    """
    chosen = {"+1": data.target > 0, "-1": data.target < 0, "0": data.target == 0}
    right = {
        name: share[:, cells].mean(axis=1)
        for (name, cells), share in zip(chosen.items(), shares, strict=True)
        if cells.any()
    }
    table, lines, best = np.stack(list(right.values())), [], []
    for kind, score in (("worst", table.min(axis=0)), ("mean", table.mean(axis=0))):
        # of equal points the one in the middle
        equal = np.flatnonzero(score >= score.max() - 1e-9)
        best.append(int(equal[len(equal) // 2]))
        vdd, window = data.counts.vdd_v[best[-1]], data.counts.window_s[best[-1]]
        each = ", ".join(f"{name} {share[best[-1]]:.2%}" for name, share in right.items())
        lines.append(f"{what}, {kind} value best at VDD {vdd:g} V, window {window * 1e9:g} ns: right are {each}")
    return best[0], lines


def error_types(data: Shmoo, point: int) -> dict[str, Estimate]:
    """Rates of the errors of type 1, 2 and 3 at one point; types that could not occur are left out."""
    plus, minus, undecided = (getattr(data.counts, name)[point] for name in OUTCOMES)
    weight, zero = data.target != 0, data.target == 0
    wrong = {
        "type1": (np.where(data.target > 0, minus, plus), weight),
        "type2": (undecided, weight),
        "type3": (plus + minus, zero),
    }
    trials = plus + minus + undecided
    return {
        f"ternary.{name}": clustered_rate(count[cells], trials[cells])
        for name, (count, cells) in wrong.items()
        if cells.any()
    }


def predicted_shares(data: Shmoo, found: SenseFit, base: Sense) -> tuple[Floats, Floats, Floats]:
    """Shares of plus, minus and undecided senses that the fitted amplifiers give, ``(points, cells)`` each.

    Each cell has its measured resistances and the offset of its column; see :mod:`models.sense`.
    """
    from scipy.special import ndtr

    assert found.node_capacitance_f is not None
    sense = replace(base, node_capacitance_f=found.node_capacitance_f.value)
    offsets = np.zeros(int(data.counts.column.max()) + 1)
    offsets[found.columns] = [offset.value for offset in found.offsets]
    plus, minus = np.zeros(data.counts.plus.shape), np.zeros(data.counts.plus.shape)
    for index, (vdd, window) in enumerate(zip(data.counts.vdd_v.tolist(), data.counts.window_s.tolist(), strict=True)):
        ratio = overdrive_ratio(sense, vdd)
        if ratio == 0.0:
            continue
        cells = margins(sense, data.counts.resistance_ohm[None], vdd, window)
        difference = cells.log_ratio[0] + offsets[data.counts.column] / ratio
        noise = found.noise_sigma.value / ratio
        plus[index] = ndtr((difference - cells.dead_zone[0]) / noise)
        minus[index] = ndtr((-difference - cells.dead_zone[0]) / noise)
    return plus, minus, 1.0 - plus - minus


if __name__ == "__main__":
    sys.exit(run_script("sense"))
