"""Bit error rates by condition and what they tell: ``python -m calibration.bit_error_runs RUN... --out FILE``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.bit_error_judging import Read, axis_of, compare, majority, overlays, posterior_checks, wrong_reads
from calibration.bit_errors import binomial_rate, clustered_rate, paired_errors
from calibration.error_model import TYPES, Condition, ErrorModelFit, fit_error_model
from calibration.estimate import LOWER, UPPER, Estimate
from calibration.result import Fit, Outlier, chip_of
from calibration.script import run_script
from data.device_files import DeviceFile
from data.run_chain import chain, read_parts
from data.runs import Run
from models.device_model import DeviceModel
from models.devices.ageing import checked_temperature, reset_wear, set_wear, worn
from models.devices.rram import compliance_a, hrs_median_ohm, lrs_median_ohm, reset_device_v
from models.errors import LogNormal, Populations, best_threshold_ohm, one_t1r, two_t2r
from models.exceptions import UserMistake
from models.sense import at_conditions

Counts = NDArray[np.int64]
Mask = NDArray[np.bool_]

WORKING = 0.1
"""Highest share of errors of a condition that cells are judged as stuck by: above it, the devices do not switch."""


class Reads(NamedTuple):
    """One run.

    Attributes:
        conditions: rows of the table, one each.
        of_pattern: ``(patterns,)`` index into the conditions.
        target: ``(patterns, cells)``.
        sensed: ``(patterns, repeats, cells)``.
        cells: ``(cells, 2)`` addresses.
    """

    conditions: list[Mapping[str, float]]
    of_pattern: Counts
    target: NDArray[np.int8]
    sensed: NDArray[np.int8]
    cells: Counts


def read_errors(run: Run) -> Reads:
    """Targets and reads of the selected cells.

    Raises:
        UserMistake: nothing was read.
    """
    parts = chain(run)
    rows = read_parts(parts, "bit_errors", ["condition", "pattern", "target", "sensed"])
    run.check_cells("bit_errors", rows)
    table = read_parts(parts, "conditions")
    patterns, counts = np.unique(rows["pattern"], return_counts=True)
    if not len(patterns):
        raise UserMistake(f"{run.path}: no pattern was read; run the experiment to its end")
    whole = patterns[counts == counts.max()]
    cells = np.argwhere(parts[0].read("selection")["cells"][-1] != 0)
    at = (slice(None), cells[:, 0], cells[:, 1])
    indices = [np.flatnonzero(rows["pattern"] == pattern) for pattern in whole]
    last = {int(index): row for row, index in enumerate(table["condition"])}
    numbers = sorted(last)
    of_pattern = np.array([numbers.index(int(rows["condition"][each[0]])) for each in indices])
    conditions: list[Mapping[str, float]] = [{name: float(table[name][last[one]]) for name in table} for one in numbers]
    target = np.stack([rows["target"][each[0]] for each in indices])[at]
    sensed = np.stack([rows["sensed"][each] for each in indices])[:, *at]
    return Reads(conditions, of_pattern, target, sensed, cells)


def model_at(model: DeviceModel, at: Mapping[str, float]) -> DeviceModel:
    """The population as programmed and sensed under one condition of the table ``conditions``.

    Raises:
        UserMistake: the model is not good for the temperature, or the HRS does not lie above the LRS there.
    """
    current = compliance_a(model.lrs, at["set_vddr_v"])
    device_v = reset_device_v(model.hrs, at["reset_vddc_v"], at["reset_vddr_v"])
    if current == 0.0:
        raise UserMistake(f"a word line of {at['set_vddr_v']:g} V passes no current in a SET")
    wear = at["cycles"] * (
        set_wear(model.endurance, current, at["set_width_s"])
        + reset_wear(model.endurance, device_v, at["reset_width_s"])
    )
    lrs_ohm = lrs_median_ohm(model.lrs, current)
    hrs_ohm = hrs_median_ohm(model.hrs, device_v, at["reset_width_s"])
    sense = model.sense
    if np.isfinite(at["temperature_c"]):
        kelvins = checked_temperature(model.temperature, at["temperature_c"]) - model.temperature.reference_c
        lrs_ohm *= 1.0 + model.temperature.lrs_per_k * kelvins
        hrs_ohm *= _activated(model, at["temperature_c"])
        sense = at_conditions(sense, at["temperature_c"])
    programmed = replace(
        model, lrs=replace(model.lrs, median_ohm=lrs_ohm), hrs=replace(model.hrs, median_ohm=hrs_ohm), sense=sense
    )
    return worn(programmed, wear)


def _activated(model: DeviceModel, temperature_c: float) -> float:
    from models.cells import DeviceState
    from models.devices.ageing import temperature_factors

    return float(temperature_factors(model.temperature, np.array([DeviceState.HRS]), temperature_c)[0])


def fit_bit_error_runs(runs: Sequence[Run], base: DeviceFile) -> Fit:
    """Fit bit-error runs of one chip.

    Returns:
        ``read_error.stuck_fraction``, ``read_error.random_rate`` and ``read_error.transient_rate`` at the first
        condition at which devices of the base file switch (``one_pass.*`` where the base file has such rates, which are
        those of programming with verify and stay), the rates of each type at each condition
        (``condition0.type1``...), 1T1R and 2T2R rates that the fitted populations give at that first condition, and
        counted where resistances were measured, and the model's ``error_model.spread`` and, where it can be told,
        ``error_model.shift``.

    Raises:
        UserMistake: runs of several chips or of other cells, or data that cannot be fitted.
    """
    if len({chip_of(run) for run in runs}) > 1:
        raise UserMistake("bit errors: these runs are of several chips; the same cells err again, so fit chip by chip")
    several = [read_errors(run) for run in runs]
    if any(not np.array_equal(one.cells, several[0].cells) for one in several):
        raise UserMistake("bit errors: these runs are of different cells; fit them one by one")
    stuck = stuck_cells(several)
    conditions = [at for one in several for at in one.conditions]
    errors, trials = (np.concatenate(each) for each in zip(*(_counts(one) for one in several), strict=True))
    first = several[0]
    working = np.array([switches(base.model, at) for at in conditions])
    # A base file that has rates got them from programming with verify: one pass errs more, and must not replace them.
    section = "read_error" if base.model.read_error is None else "one_pass"
    parameters: dict[str, Estimate] = _read_error(several, stuck, int(np.argmax(working)), section)
    report = [f"{int(stuck.sum())} of {len(stuck)} cells are stuck"]
    if section != "read_error":
        report.append("the base file's read_error.* are kept: these runs programmed in one pass, without verifying")
    for index, at in enumerate(conditions):
        report.append(f"condition {index}: {_text(at)}")
        for place, name in enumerate(TYPES):
            tried = trials[index, place] > 0
            if tried.any():
                rate = clustered_rate(errors[index, place][tried], trials[index, place][tried])
                parameters[f"condition{index}.{name}"] = rate
                none = "" if errors[index, place].any() else f", no error in {int(trials[index, place].sum())} reads"
                report.append(f"condition {index}, {name}: {rate}{none}")
    for index in np.flatnonzero(~working).tolist():
        report.append(
            f"condition {index}: devices of the base file do not switch at these supplies; left out of the error model"
        )
    outliers = tuple(
        Outlier(int(row), int(col), 0, "stuck", f"cell at row {row}, column {col}") for row, col in first.cells[stuck]
    )
    good = ~stuck
    if not working.any():
        problem = (
            "at no condition do devices of the base file switch, so that the errors tell nothing of its populations"
        )
        return Fit(parameters, int(good.sum()), False, (problem,), tuple(report), outliers)
    modelled = {index: model_at(base.model, conditions[index]) for index in np.flatnonzero(working).tolist()}
    senses = [
        Condition.of(model, conditions[index]["sense_vdd_v"], conditions[index]["window_s"])
        for index, model in modelled.items()
    ]
    errors, trials = errors[working][..., good], trials[working][..., good]
    found = fit_error_model(errors, trials, senses)
    parameters["error_model.spread"] = found.spread
    report.append(f"spreads of ln R are {found.spread} times those of the base file")
    if found.shift is not None:
        parameters["error_model.shift"] = found.shift
        report.append(f"ln of the HRS over the LRS median is {found.shift} above the base file's")
    else:
        report.append(
            "the distance of the medians is kept: the conditions that erred move it too little or not at all, and only "
            "its ratio to the spread can be told"
        )
    parameters |= _cells_compared(found, senses[0])
    parameters |= _measured_errors(runs, report)
    patterns = _patterns(several, modelled, conditions, good)
    checks, simulated = posterior_checks(patterns, first.cells[good, 1], found)
    axis = axis_of([conditions[index] for index in modelled], _labels(runs[0]))
    drawn = overlays(patterns, errors, trials, found, axis, simulated)
    compared = compare(errors, trials, found)
    return Fit(parameters, int(good.sum()), True, (), tuple(report), outliers, checks, compared, drawn)


def switches(model: DeviceModel, at: Mapping[str, float]) -> bool:
    """Whether the supplies of a condition set and reset devices of the model."""
    needed = model.thresholds
    return (
        at["set_vddc_v"] >= needed.set_vddc_v
        and at["set_vddr_v"] >= needed.set_vddr_v
        and at["reset_vddc_v"] >= needed.reset_vddc_v
        and at["reset_vddr_v"] >= needed.reset_vddr_v
    )


def _labels(run: Run) -> dict[str, str]:
    """Description of each quantity of a condition; the temperature that was asked for is told by the measured one."""
    table = run.tables["conditions"]
    columns = [each for each in table.columns if each.name not in ("condition", "asked_temperature_c")]
    return {each.name: each.description + ("" if each.units == "1" else f" ({each.units})") for each in columns}


def stuck_cells(several: Sequence[Reads]) -> NDArray[np.bool_]:
    """Cells that always read wrong for one of the two signs, asked twice at least, and never for the other."""
    failing = {weight: np.zeros(len(several[0].cells), dtype=np.int64) for weight in (-1, 1)}
    asked = {weight: np.zeros_like(failing[weight]) for weight in (-1, 1)}
    for one in several:
        wrong = majority(one.sensed) != one.target
        for index in range(len(one.conditions)):
            here = one.of_pattern == index
            if not here.any() or wrong[here].mean() > WORKING:
                continue
            for weight in (-1, 1):
                of_weight = one.target[here] == weight
                failing[weight] += (wrong[here] & of_weight).sum(axis=0)
                asked[weight] += of_weight.sum(axis=0)
    always = {weight: (failing[weight] == asked[weight]) & (asked[weight] >= 2) for weight in (-1, 1)}
    never = {weight: failing[weight] == 0 for weight in (-1, 1)}
    return np.asarray((always[1] & never[-1]) | (always[-1] & never[1]) | (always[1] & always[-1]))


def _counts(one: Reads) -> tuple[Counts, Counts]:
    """Errors and trials of each type, ``(conditions, 3, cells)``."""
    shape = (len(one.conditions), len(TYPES), len(one.cells))
    errors, trials = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for place, (wrong, tried) in enumerate(wrong_reads(one.target, one.sensed)):
        np.add.at(errors[:, place], one.of_pattern, wrong.sum(axis=1))
        np.add.at(trials[:, place], one.of_pattern, tried.sum(axis=1))
    return errors, trials


def _read_error(several: Sequence[Reads], stuck: Mask, condition: int, section: str) -> dict[str, Estimate]:
    """What a device file keeps of read errors, at one condition, counted through all runs."""
    one = several[0]
    for following in several[1:]:
        if condition < len(one.conditions):
            break
        condition, one = condition - len(one.conditions), following
    here = one.of_pattern == condition
    sensed, target = one.sensed[here], one.target[here]
    patterns, repeats = sensed.shape[:2]
    if stuck.all():
        raise UserMistake("bit errors: every cell is stuck; is the array formed, and are the rails of SENSE right?")
    found = {"stuck_fraction": binomial_rate(int(stuck.sum()), len(stuck))}
    if repeats == 1:
        found["random_rate"] = clustered_rate((sensed[:, 0] != target).sum(axis=0)[~stuck], patterns)
    else:
        for name, errors in zip(("random_rate", "transient_rate"), paired_errors(target, sensed), strict=True):
            found[name] = clustered_rate(errors.sum(axis=0)[~stuck], patterns * repeats)
    return {f"{section}.{name}": rate for name, rate in found.items()}


def _cells_compared(found: ErrorModelFit, at: Condition) -> dict[str, Estimate]:
    """Rates of 1T1R cells at the best threshold and of 2T2R cells, both from the fitted populations."""
    lrs, hrs = at.populations.lrs, at.populations.hrs
    single, double = [], []
    for spread, shift in found.draws.tolist():
        moved = Populations(
            LogNormal(lrs.median_ohm, spread * lrs.sigma),
            LogNormal(max(hrs.median_ohm * float(np.exp(shift)), 1.001 * lrs.median_ohm), spread * hrs.sigma),
        )
        single.append(one_t1r(moved))
        double.append(two_t2r(moved, at.amplifier))
    return {f"{name}.modelled": _quantiles(rates) for name, rates in (("one_t1r", single), ("two_t2r", double))}


def _quantiles(rates: Sequence[float]) -> Estimate:
    value, low, high = np.quantile(rates, (0.5, LOWER, UPPER))
    return Estimate(float(value), float(low), float(high), "1")


def _measured_errors(runs: Sequence[Run], report: list[str]) -> dict[str, Estimate]:
    """1T1R and 2T2R errors counted on resistances, of patterns of +1 and -1; nothing where none were measured."""
    from calibration.resistance import fit_log_normal
    from calibration.run_conditions import flag_code

    names = ["row", "col", "device", "state", "pattern", "resistance_ohm"]
    rows: list[dict[str, NDArray[Any]]] = []
    for number, run in enumerate(runs):
        block = read_parts(chain(run), "resistances", names)
        code = flag_code(run, "resistances", "state", "LRS")
        kept = block["pattern"] >= 0
        one = {name: block[name][kept] for name in names}
        rows.append({**one, "low": one["state"] == code, "run": np.full(int(kept.sum()), number)})
    whole = {name: np.concatenate([one[name] for one in rows]) for name in rows[0]}
    if not len(whole["row"]):
        return {}
    low, ohms = whole["low"], whole["resistance_ohm"]
    fits = [fit_log_normal(ohms[state], name) for state, name in ((low, "LRS"), (~low, "HRS"))]
    both = [LogNormal(fit.median_ohm.value, fit.sigma.value) for fit in fits]
    threshold = best_threshold_ohm(Populations(*both))
    _, cell = np.unique(np.stack([whole["row"], whole["col"]]), axis=1, return_inverse=True)
    wrong = np.where(low, ohms > threshold, ohms < threshold)
    cell = cell.reshape(-1)
    single = clustered_rate(np.bincount(cell, wrong).astype(np.int64), np.bincount(cell))
    order = np.lexsort((whole["device"], whole["col"], whole["row"], whole["pattern"], whole["run"]))
    bl, blb = order[0::2], order[1::2]
    weight = low[bl] != low[blb]
    # the BL device has the higher resistance for +1
    inverted = np.where(low[blb], ohms[bl] < ohms[blb], ohms[bl] > ohms[blb])[weight]
    places = np.unique(cell[bl][weight], return_inverse=True)[1].reshape(-1)
    double = clustered_rate(np.bincount(places, inverted).astype(np.int64), np.bincount(places))
    report.append(f"resistances against {threshold:.4g} ohm (1T1R): {single}; against each other (2T2R): {double}")
    return {"one_t1r.measured": single, "two_t2r.measured": double}


def _patterns(
    several: Sequence[Reads], models: Mapping[int, DeviceModel], conditions: Sequence[Mapping[str, float]], good: Mask
) -> list[Read]:
    """What was programmed and read of the cells that are not stuck, condition by condition."""
    found, before = [], 0
    for one in several:
        for index in range(len(one.conditions)):
            here, number = one.of_pattern == index, before + index
            if here.any() and number in models:
                at = conditions[number]
                target, sensed = one.target[here][:, good], one.sensed[here][..., good]
                found.append(Read(number, models[number], at["sense_vdd_v"], at["window_s"], target, sensed))
        before += len(one.conditions)
    return found


def _text(at: Mapping[str, float]) -> str:
    heat = f", {at['temperature_c']:g} degC" if np.isfinite(at["temperature_c"]) else ""
    return (
        f"SET at VDDC {at['set_vddc_v']:g} V and VDDR {at['set_vddr_v']:g} V, RESET at VDDC {at['reset_vddc_v']:g} V, "
        f"SENSE at VDD {at['sense_vdd_v']:g} V for {at['window_s'] * 1e9:g} ns, {at['cycles']:g} cycles{heat}"
    )


if __name__ == "__main__":
    sys.exit(run_script("bit-error"))
