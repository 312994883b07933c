"""A characterisation run becomes a device file: ``python -m calibration.device_fit RUN.h5 --out device.toml``."""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.bit_errors import BitErrorFit, fit_bit_errors
from calibration.estimate import Estimate
from calibration.resistance import LogNormalFit, fit_log_normal
from calibration.weak_reset import StaircaseFit, fit_staircase
from data.device_files import DeviceFile, Quantity, default_device, save_device
from data.runs import Run, RunStatus, open_run
from models.cells import Device
from models.device_model import SCHEMA, DeviceModel
from models.devices.rram import compliance_a, hrs_median_ohm, lrs_median_ohm, reset_device_v
from models.devices.weak_reset import stress_per_pulse
from models.exceptions import RramBenchError, UserMistake

PROCEDURE = "characterise"


@dataclass(frozen=True)
class FitResult:
    """A fitted device and how far it can be trusted.

    Attributes:
        device: the base file with the fitted numbers in place, each with its interval and the run it came from.
        parameters: name to value, low, high and unit, of everything that was estimated.
        converged: every part of the fit could be done with the data at hand.
        report: lines for a person: what was fitted, what was kept, which devices stand out.
        headlines: the report in three phrases.
    """

    device: DeviceFile
    parameters: Mapping[str, Mapping[str, Any]]
    converged: bool
    report: tuple[str, ...]
    headlines: tuple[str, ...]


@dataclass(frozen=True)
class _Conditions:
    """Rails and width under which the run did one kind of operation."""

    vddc_v: float
    vddr_v: float
    width_s: float


def fit_device(run: Run, base: DeviceFile) -> FitResult:
    """Fit what a characterisation can tell, on top of a base file for what it cannot.

    Args:
        run: a finished characterisation.
        base: where all other numbers come from; also the split of each spread between devices and cycles.

    Raises:
        UserMistake: a run of another procedure, an unfinished one, or data that cannot support the fit.
    """
    if run.procedure != PROCEDURE:
        raise UserMistake(f"{run.path}: a run of {run.procedure!r}; the device fit needs one of {PROCEDURE!r}")
    if run.status is not RunStatus.COMPLETED:
        raise UserMistake(f"{run.path}: this run is {run.status}; the device fit needs a completed one")
    operations, patterns, senses, measured = (
        run.read(table) for table in ("operations", "patterns", "senses", "resistances")
    )
    try:
        errors = _fit_errors(patterns, senses)
        lrs, hrs = (_fit_state(measured, run, state) for state in ("LRS", "HRS"))
        weak = _conditions(operations, run, "WEAK_RESET")
        weak_v = reset_device_v(base.model.hrs, weak.vddc_v, weak.vddr_v)
        stress = stress_per_pulse(base.model.weak_reset, weak_v, weak.width_s)
        staircase, staircase_devices = _fit_staircase(measured, stress, base.model)
    except UserMistake as mistake:
        raise UserMistake(f"{run.path}: {mistake}") from None

    at_set, at_reset = (_conditions(operations, run, kind) for kind in ("SET", "RESET"))
    estimates = {
        "lrs.median_ohm": lrs[0].median_ohm.scaled(_lrs_to_reference(base.model, at_set)),
        "hrs.median_ohm": hrs[0].median_ohm.scaled(_hrs_to_reference(base.model, at_reset)),
        "read_error.stuck_fraction": errors.stuck_fraction,
        "read_error.random_rate": errors.random_rate,
        "read_error.transient_rate": errors.transient_rate,
    }
    report = [
        f"LRS median {lrs[0].median_ohm}, s.d. of ln R {lrs[0].sigma}, {lrs[0].devices} devices",
        f"HRS median {hrs[0].median_ohm}, s.d. of ln R {hrs[0].sigma}, {hrs[0].devices} devices",
        "the split of both spreads between devices and cycles is kept from the base file: each was measured once",
        f"bit error rate {errors.bit_error_rate}; {int(errors.stuck.sum())} of {errors.cells} cells are stuck",
        f"weak RESET after {staircase.pulses[-1]} pulses: median of ln(R/R(0)) {staircase.median[-1]}, "
        f"{staircase.devices} devices at {weak_v:.3g} V on the device",
        "the knee, the second slope and the noise of the weak RESET are kept: the staircase ends before the knee",
    ]
    converged = staircase.slope_scale.value >= SCHEMA["weak_reset.slope1_scale"].low
    if converged:
        estimates["weak_reset.slope1_scale"] = _within_schema("weak_reset.slope1_scale", staircase.slope_scale)
    else:
        report.append("the mean slope of the staircase is not positive: the weak-RESET slope is kept, measure more")
    report += _outlier_lines(errors, (("LRS", *lrs), ("HRS", *hrs), ("staircase", staircase, staircase_devices)))

    source = f"run {run.path.name}, sha256 {hashlib.sha256(run.path.read_bytes()).hexdigest()}"
    device = base.updated(
        {
            **{
                key: Quantity(found.value, found.unit, source, "fitted", found.low, found.high)
                for key, found in estimates.items()
            },
            **_split(base, {"lrs": lrs[0], "hrs": hrs[0]}, source),
        },
        name=f"chip {run.attributes['chip_id']}",
        extras={"fitted_to": source, "base": base.name},
    )
    named = estimates | {
        "lrs.sigma": lrs[0].sigma,
        "hrs.sigma": hrs[0].sigma,
        "bit_error_rate": errors.bit_error_rate,
        "weak_reset_median_log_ratio": staircase.median[-1],
    }
    parameters = {
        name: {"value": found.value, "low": found.low, "high": found.high, "unit": found.unit}
        for name, found in named.items()
    }
    headlines = (
        f"LRS {lrs[0].median_ohm.value / 1e3:.2f} kΩ",
        f"HRS {hrs[0].median_ohm.value / 1e3:.1f} kΩ",
        f"bit error rate {errors.bit_error_rate}",
    )
    return FitResult(device, parameters, converged, tuple(report), headlines)


def _fit_errors(patterns: Mapping[str, NDArray[Any]], senses: Mapping[str, NDArray[Any]]) -> BitErrorFit:
    indices = patterns["pattern"]
    of_pattern = [senses["sensed"][senses["pattern"] == index] for index in indices]
    if not of_pattern or len({len(sensed) for sensed in of_pattern}) != 1:
        raise UserMistake("the patterns were not all sensed equally often; run a characterisation to its end")
    used = (patterns["verdict"] != 0).all(axis=0)
    return fit_bit_errors(patterns["target"], np.stack(of_pattern), used)


def _fit_state(measured: Mapping[str, NDArray[Any]], run: Run, state: str) -> tuple[LogNormalFit, NDArray[np.int64]]:
    """Fit one state; also the addresses ``(n, 3)`` of the devices that were measured in it."""
    column = run.tables["resistances"].column("state")
    code = next(code for code, name in (column.flags or {}).items() if name == state)
    chosen = (measured["state"] == code) & (measured["staircase"] == 0)
    return fit_log_normal(measured["resistance_ohm"][chosen], state), _addresses(measured, chosen)


def _fit_staircase(
    measured: Mapping[str, NDArray[Any]], stress: float, model: DeviceModel
) -> tuple[StaircaseFit, NDArray[np.int64]]:
    chosen = measured["staircase"] == 1
    if not chosen.any():
        raise UserMistake("staircase: no device walked it")
    steps = np.unique(measured["pulses"][chosen])
    readings = [measured["resistance_ohm"][chosen & (measured["pulses"] == step)] for step in steps]
    if len({len(row) for row in readings}) != 1:
        raise UserMistake("staircase: the steps were not all measured on the same devices; run it to its end")
    first = chosen & (measured["pulses"] == steps[0])
    fit = fit_staircase(np.stack(readings, axis=1), steps.astype(np.int64), stress, model.weak_reset)
    return fit, _addresses(measured, first)


def _addresses(measured: Mapping[str, NDArray[Any]], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.stack([measured[name][chosen].astype(np.int64) for name in ("row", "col", "device")], axis=1)


def _conditions(operations: Mapping[str, NDArray[Any]], run: Run, kind: str) -> _Conditions:
    """The rails and width of all operations of one kind; they do not change within a characterisation."""
    column = run.tables["operations"].column("kind")
    code = next(code for code, name in (column.flags or {}).items() if name == kind)
    chosen = operations["kind"] == code
    names = ("vddc_v", "vddr_v", "width_s")
    values = np.unique(np.stack([operations[name][chosen] for name in names], axis=1), axis=0)
    if len(values) != 1:
        raise UserMistake(f"{kind} was done under {len(values)} conditions; the device fit needs exactly one")
    return _Conditions(*(float(value) for value in values[0]))


def _lrs_to_reference(model: DeviceModel, at: _Conditions) -> float:
    """Factor from the LRS median under the run's SET to that at the file's reference."""
    used, reference = (
        lrs_median_ohm(model.lrs, compliance_a(model.lrs, vddr)) for vddr in (at.vddr_v, model.lrs.vddr_ref_v)
    )
    return reference / used


def _hrs_to_reference(model: DeviceModel, at: _Conditions) -> float:
    """Factor from the HRS median under the run's RESET to that at the file's reference."""
    used_v = reset_device_v(model.hrs, at.vddc_v, at.vddr_v)
    return model.hrs.median_ohm / hrs_median_ohm(model.hrs, used_v, at.width_s)


def _split(base: DeviceFile, fits: Mapping[str, LogNormalFit], source: str) -> dict[str, Quantity]:
    """Parts of each measured spread, in the proportion of the base file: each device was measured once only."""
    parts = {}
    for section, fit in fits.items():
        names = [f"{section}.sigma_d2d", f"{section}.sigma_c2c"]
        old = [base.quantities[name].value for name in names]
        total = math.hypot(*old)
        if total == 0.0:
            raise UserMistake(f"the base file gives {section} no spread, so the measured one cannot be split")
        for name, value in zip(names, old, strict=True):
            text = f"total s.d. {fit.sigma} fitted to {source}; its split between devices and cycles as in {base.name}"
            parts[name] = Quantity(fit.sigma.value * value / total, "1", text, "derived")
    return parts


def _within_schema(key: str, found: Estimate) -> Estimate:
    """The part of an interval that is physically possible."""
    bounds = SCHEMA[key]
    return Estimate(found.value, max(found.low, bounds.low), min(found.high, bounds.high), found.unit)


def _outlier_lines(
    errors: BitErrorFit, fits: tuple[tuple[str, LogNormalFit | StaircaseFit, NDArray[np.int64]], ...]
) -> list[str]:
    lines = [f"stuck cell at row {row}, column {col}" for row, col in np.argwhere(errors.stuck)]
    for what, fit, addresses in fits:
        lines += [
            f"left out of the {what} fit: row {row}, column {col}, {Device(device).name}"
            for row, col, device in addresses[fit.outliers]
        ]
    return lines


def main() -> int:
    """Fit the run named on the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m calibration.device_fit", description=__doc__)
    parser.add_argument("run", type=Path, help="run file of a characterisation")
    parser.add_argument("--out", type=Path, default=Path("device.toml"), help="device file to write")
    options = parser.parse_args()
    try:
        fitted = fit_device(open_run(options.run), default_device())
        save_device(options.out, fitted.device)
    except RramBenchError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print("\n".join((*fitted.report, f"wrote {options.out}")))
    return 0 if fitted.converged else 1


if __name__ == "__main__":
    sys.exit(main())
