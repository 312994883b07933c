"""LRS, HRS and virgin populations from run files: ``python -m calibration.resistance_runs RUN... --out FILE``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import Estimate
from calibration.populations import PopulationFit, fit_population
from calibration.resistance_judging import Members, judge
from calibration.result import Check, Comparison, Fit, Outlier, Overlay, chip_of
from calibration.run_conditions import conditions_of, flag_code, hrs_to_reference, lrs_to_reference
from calibration.script import run_script
from data.device_files import DeviceFile
from data.run_chain import chain, read_parts
from data.runs import Run
from models.device_model import DeviceModel
from models.exceptions import UserMistake

Columns = Mapping[str, NDArray[Any]]

SCALES = {"LRS": ("lrs", "SET", lrs_to_reference), "HRS": ("hrs", "RESET", hrs_to_reference)}
"""State: section of the device file, the operation that leads to it, and the factor to the reference condition."""

ADDRESS = ("row", "col", "device")
UNWORN_SHARE = 0.01
"""Of the cyclability: readings after more cycles are left out of a fit, for wear moves and widens the HRS."""


class Readings(NamedTuple):
    """Readings of one state from several runs, as :func:`~calibration.populations.fit_population` takes them.

    Attributes:
        device: index into ``addresses``.
        cycle: index of the cycle, different in each run.
        resistance_ohm: at the reference condition of the base file.
        censored: +1, -1 or 0.
        addresses: ``(devices, 3)`` row, column and device.
        chips: identifier of the chip of each device.
    """

    device: NDArray[np.int64]
    cycle: NDArray[np.int64]
    resistance_ohm: NDArray[np.float64]
    censored: NDArray[np.int8]
    addresses: NDArray[np.int64]
    chips: tuple[str, ...]


def readings(runs: Sequence[Run], state: str, model: DeviceModel) -> Readings:
    """Collect the readings of one state.

    A reading in compliance says that the resistance is lower than voltage over current; one without current, that it
    is higher than the highest of that run.

    Raises:
        UserMistake: no run has such readings, or one was done under several conditions.
    """
    _, kind, to_reference = SCALES[state]
    blocks: list[dict[str, NDArray[Any]]] = []
    names = list(dict.fromkeys(chip_of(run) for run in runs))
    for number, run in enumerate(runs):
        measured = _measured(run, model)
        chosen = (measured["state"] == flag_code(run, "resistances", "state", state)) & (measured["staircase"] == 0)
        chosen &= measured["pattern"] >= 0  # below 0: just formed, at another operating point than SET
        if not chosen.any():
            continue
        operations = read_parts(chain(run), "operations", ["kind", "vddc_v", "vddr_v", "width_s"])
        factor = to_reference(model, conditions_of(operations, run, kind))
        ohms = measured["resistance_ohm"][chosen]
        finite = np.isfinite(ohms)
        if np.isnan(ohms).any():
            raise UserMistake(f"{run.path}: some resistances were not measured; the bench needs a source-measure unit")
        side = np.where(measured["in_compliance"][chosen] != 0, -1, 0)
        side[~finite] = 1
        blocks.append(
            {
                "chip": np.full(len(ohms), names.index(chip_of(run))),
                "cycle": measured["pattern"][chosen].astype(np.int64) + number * 10**9,
                "ohms": factor * np.where(finite, ohms, ohms[finite].max(initial=1.0)),
                "side": side.astype(np.int8),
                **{name: measured[name][chosen].astype(np.int64) for name in ADDRESS},
            }
        )
    if not blocks:
        raise UserMistake(
            f"{runs[0].path}: no reading of a device known to be in the {state}; measure with variability, "
            "characterise or endurance, which program the devices first"
        )
    whole = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    where = np.stack([whole[name] for name in ("chip", *ADDRESS)], axis=1)
    addresses, device = np.unique(where, axis=0, return_inverse=True)
    chips = tuple(names[chip] for chip in addresses[:, 0])
    return Readings(device.reshape(-1), whole["cycle"], whole["ohms"], whole["side"], addresses[:, 1:], chips)


def _measured(run: Run, model: DeviceModel) -> dict[str, NDArray[Any]]:
    """The table ``resistances`` of a run; of an endurance run only what was read before wear shows."""
    parts = chain(run)
    names = [*ADDRESS, "state", "pattern", "staircase", "in_compliance", "resistance_ohm"]
    measured = read_parts(parts, "resistances", names)
    run.check_cells("resistances", measured)
    if "endurance" not in run.tables:
        return measured
    checkpoints = read_parts(parts, "endurance", ["checkpoint", "cycles"])
    young = checkpoints["cycles"] <= UNWORN_SHARE * model.endurance.cycles_ref
    kept = np.isin(measured["pattern"] // 2, checkpoints["checkpoint"][young]) & (measured["pattern"] >= 0)
    return {name: values[kept] for name, values in measured.items()}


def fit_resistance_runs(runs: Sequence[Run], base: DeviceFile) -> Fit:
    """Fit the populations of all states that the runs measured.

    Returns:
        ``lrs.median_ohm``, ``lrs.sigma_d2d`` and ``lrs.sigma_c2c``, the same of ``hrs``, ``virgin.median_ohm`` and
        ``virgin.sigma`` where devices were measured before they were formed; beside them ``lrs.sigma``, ``hrs.sigma``
        (the spreads together) and ``lrs.reading_sigma``, ``hrs.reading_sigma`` (of repeated readings).

    Raises:
        UserMistake: the runs have no readings of devices in a known state, or too few of them.
    """
    parameters: dict[str, Estimate] = {}
    report, problems = [], []
    outliers: dict[tuple[str, int, int, int], list[str]] = {}
    several = len({chip_of(run) for run in runs}) > 1
    checks: list[Check] = []
    comparisons: list[Comparison] = []
    overlays: list[Overlay] = []
    devices = 0
    for state, (section, _, _) in SCALES.items():
        data = readings(runs, state, base.model)
        found = fit_population(data.device, data.cycle, data.resistance_ohm, state, data.censored)
        parameters |= population_parameters(section, found)
        report += population_lines(state, found)
        if found.sigma_d2d is None:
            problems.append(
                f"{state}: too few devices were read after several programmings, so that their spread "
                "cannot be split between devices and cycles; the base file's split is kept"
            )
        for place in found.outliers:
            row, col, device = data.addresses[place].tolist()
            which = data.chips[place] if several else "", row, col, device
            outliers.setdefault(which, []).append(f"{state} out of the population")
        judged = judge(state, _members(data, found), found)
        checks += judged.checks
        comparisons += judged.comparisons
        overlays += judged.overlays
        devices = max(devices, found.devices)
    virgin = _virgin(runs)
    if virgin is not None:
        parameters |= {"virgin.median_ohm": virgin.median_ohm, "virgin.sigma": virgin.sigma}
        report += population_lines("virgin", virgin)
    return Fit(
        parameters,
        devices,
        True,
        tuple(problems),
        tuple(report),
        tuple(
            Outlier(row, col, device, _reason(reasons), chip=chip)
            for (chip, row, col, device), reasons in sorted(outliers.items())
        ),
        tuple(checks),
        tuple(comparisons),
        tuple(overlays),
    )


def population_parameters(section: str, found: PopulationFit) -> dict[str, Estimate]:
    """A population as keys of a device file, and as what such a file has no place for."""
    parts = {
        f"{section}.median_ohm": found.median_ohm,
        f"{section}.sigma_d2d": found.sigma_d2d,
        f"{section}.sigma_c2c": found.sigma_c2c,
        f"{section}.sigma": found.sigma,
        f"{section}.reading_sigma": found.noise,
    }
    return {name: value for name, value in parts.items() if value is not None}


def population_lines(state: str, found: PopulationFit) -> list[str]:
    """A population for a person."""
    lines = [f"{state} median {found.median_ohm}, s.d. of ln R {found.sigma}, {found.devices} devices"]
    if found.sigma_d2d is not None:
        lines.append(
            f"{state} s.d. of ln R from device to device {found.sigma_d2d}, from cycle to cycle {found.sigma_c2c}"
        )
    if found.noise is not None:
        lines.append(f"{state} s.d. of ln R from reading to reading {found.noise}")
    if found.censored:
        lines.append(f"{state}: {found.censored} of {found.cycles} readings lie beyond the meter's range")
    return lines


def _reason(reasons: Sequence[str]) -> str:
    return "neither state in its population: broken or never formed" if len(reasons) > 1 else reasons[0]


def _members(data: Readings, found: PopulationFit) -> Members:
    kept = ~np.isin(data.device, found.outliers)
    devices, index = np.unique(data.device[kept], return_inverse=True)
    row, col, _ = data.addresses[devices].T
    logs = np.log(data.resistance_ohm[kept])
    return Members(index.reshape(-1).astype(np.int64), data.cycle[kept], logs, data.censored[kept], row, col)


def _virgin(runs: Sequence[Run]) -> PopulationFit | None:
    """Devices that were measured in a run, and then formed in it for the first time; None where that are too few."""
    devices, ohms = [], []
    for number, run in enumerate(runs):
        first = chain(run)[0]
        operations = first.read("operations")
        if not {"devices", "time_s"} <= set(operations):
            continue  # a plain table does not tell what was formed
        formed = np.flatnonzero(operations["kind"] == flag_code(first, "operations", "kind", "FORM"))
        if not len(formed):
            continue
        measured = first.read("resistances", ["time_s", *ADDRESS, "state", "resistance_ohm"])
        mask = operations["devices"][formed[0]].astype(bool)
        where = tuple(measured[name] for name in ADDRESS)
        before = (measured["state"] == flag_code(first, "resistances", "state", "UNKNOWN")) & mask[where]
        before &= measured["time_s"] <= operations["time_s"][formed[0]]
        devices.append(np.ravel_multi_index(where, mask.shape)[before] + number * mask.size)
        ohms.append(measured["resistance_ohm"][before])
    index = np.concatenate(devices) if devices else np.zeros(0, dtype=np.int64)
    try:
        return fit_population(index, np.zeros_like(index), np.concatenate(ohms), "virgin") if len(index) else None
    except UserMistake:
        return None  # a few stragglers were formed on the way: no population


if __name__ == "__main__":
    sys.exit(run_script("resistance"))
