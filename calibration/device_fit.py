"""A characterisation run becomes a device file: ``python -m calibration.device_fit RUN.h5 --out device.toml``."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.bit_errors import BitErrorFit, fit_bit_errors, fixed_output_rate
from calibration.estimate import Estimate
from calibration.resistance_runs import fit_resistance_runs
from calibration.result import Fit, provenance, within_schema
from calibration.run_conditions import conditions_of
from calibration.weak_reset import StaircaseFit, fit_staircase
from data.device_files import DeviceFile, Quantity, default_device, save_device
from data.runs import Run, RunStatus, open_run
from models.cells import Device
from models.device_model import SCHEMA, DeviceModel
from models.devices.rram import reset_device_v
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
        resistances: the fit of the resistances that is part of it, with its checks, outliers and curves.
    """

    device: DeviceFile
    parameters: Mapping[str, Mapping[str, Any]]
    converged: bool
    report: tuple[str, ...]
    headlines: tuple[str, ...]
    resistances: Fit


def fit_device(run: Run, base: DeviceFile) -> FitResult:
    """Fit what a characterisation can tell, on top of a base file for what it cannot.

    Args:
        run: a finished characterisation.
        base: where all other numbers come from; also the split of a spread that too few devices can tell.

    Raises:
        UserMistake: a run of another procedure, an unfinished one, or data that cannot support the fit.
    """
    if run.procedure != PROCEDURE:
        raise UserMistake(f"{run.path}: a run of {run.procedure!r}; the device fit needs one of {PROCEDURE!r}")
    if run.status is not RunStatus.COMPLETED:
        raise UserMistake(f"{run.path}: this run is {run.status}; the device fit needs a completed one")
    operations, measured = run.read("operations"), run.read("resistances")
    try:
        errors = _fit_errors(run)
        fixed = fixed_outputs(run)
        resistances = fit_resistance_runs([run], base)
        weak = conditions_of(operations, run, "WEAK_RESET")
        weak_v = reset_device_v(base.model.hrs, weak.vddc_v, weak.vddr_v)
        stress = stress_per_pulse(base.model.weak_reset, weak_v, weak.width_s)
        staircase, staircase_devices = _fit_staircase(measured, stress, base.model)
    except UserMistake as mistake:
        text = str(mistake)
        raise UserMistake(text if text.startswith(str(run.path)) else f"{run.path}: {text}") from None

    populations = resistances.parameters
    estimates = {
        **{key: within_schema(key, one) for key, one in populations.items() if key in SCHEMA},
        "read_error.stuck_fraction": errors.stuck_fraction,
        "read_error.random_rate": errors.random_rate,
        "read_error.transient_rate": errors.transient_rate,
    }
    if fixed is not None:
        estimates["xnor_error.fixed_rate"] = fixed
    report = [
        *resistances.report,
        *resistances.problems,
        f"bit error rate {errors.bit_error_rate}; {int(errors.stuck.sum())} of {errors.cells} cells are stuck",
        f"weak RESET after {staircase.pulses[-1]} pulses: median of ln(R/R(0)) {staircase.median[-1]}, "
        f"{staircase.devices} devices at {weak_v:.3g} V on the device",
        "the knee, the second slope and the noise of the weak RESET are kept: the staircase ends before the knee",
    ]
    converged = staircase.slope_scale.value >= SCHEMA["weak_reset.slope1_scale"].low
    if converged:
        estimates["weak_reset.slope1_scale"] = within_schema("weak_reset.slope1_scale", staircase.slope_scale)
    else:
        report.append("the mean slope of the staircase is not positive: the weak-RESET slope is kept, measure more")
    if fixed is None:
        report.append("XNOR was not measured, which needs the whole array: predictions of it leave its own errors out")
    else:
        report.append(f"share of cells whose XNOR does not follow the input {fixed}")
    report += [f"stuck cell at row {row}, column {col}" for row, col in np.argwhere(errors.stuck)]
    report += [f"left out: {item}" for item in resistances.outliers]
    report += [
        f"left out of the staircase fit: row {row}, column {col}, {Device(device).name}"
        for row, col, device in staircase_devices[staircase.outliers]
    ]

    source = provenance(run)
    device = base.updated(
        {
            **{
                key: Quantity(found.value, found.unit, source, "fitted", found.low, found.high)
                for key, found in estimates.items()
            },
            **_split(base, populations, source),
        },
        name=f"chip {run.attributes['chip_id']}",
        extras={"fitted_to": source, "base": base.name},
    )
    named = estimates | {
        **{name: one for name, one in populations.items() if name not in SCHEMA},
        "bit_error_rate": errors.bit_error_rate,
        "weak_reset_median_log_ratio": staircase.median[-1],
    }
    parameters = {
        name: {"value": found.value, "low": found.low, "high": found.high, "unit": found.unit}
        for name, found in named.items()
    }
    headlines = (
        f"LRS {populations['lrs.median_ohm'].value / 1e3:.2f} kΩ",
        f"HRS {populations['hrs.median_ohm'].value / 1e3:.1f} kΩ",
        f"bit error rate {errors.bit_error_rate}",
    )
    return FitResult(device, parameters, converged, tuple(report), headlines, resistances)


def sensed_patterns(run: Run) -> tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.bool_]]:
    """Targets ``(patterns, rows, cols)``, their senses ``(patterns, repeats, rows, cols)``, and the cells programmed.

    Raises:
        UserMistake: the patterns of this characterisation were not all sensed equally often.
    """
    patterns = run.read("patterns", ["pattern", "target", "verdict"])
    senses = run.read("senses", ["pattern", "sensed"])
    run.check_cells("patterns", patterns)
    run.check_cells("senses", senses)
    of_pattern = [senses["sensed"][senses["pattern"] == index] for index in patterns["pattern"]]
    if not of_pattern or len({len(sensed) for sensed in of_pattern}) != 1:
        raise UserMistake(f"{run.path}: the patterns were not all sensed equally often; run it to its end")
    return patterns["target"], np.stack(of_pattern), (patterns["verdict"] != 0).all(axis=0)


def _fit_errors(run: Run) -> BitErrorFit:
    targets, senses, used = sensed_patterns(run)
    if (targets[:, used] == 0).any():
        raise UserMistake(
            "ternary patterns were characterised, which rram-bench confirm predicts from; the device fit needs binary "
            "ones: rram-bench run characterise"
        )
    return fit_bit_errors(targets, senses, used)


def fixed_outputs(run: Run) -> Estimate | None:
    """Share of cells whose XNOR output is fixed, by a characterisation; None where no XNOR was measured."""
    if "xnor_rows" not in run.tables:
        return None
    products = run.read("xnor_rows")
    if not len(products["pattern"]):
        return None
    target, senses, _ = sensed_patterns(run)
    patterns, cols = len(target), target.shape[2]
    # an undecided cell misses half of what a wrong one does, in a sum and here
    own = target[:, None]
    wrong = 0.5 * (np.abs(senses - own) * (own != 0)).sum(axis=3, dtype=np.int64).reshape(-1, target.shape[1])
    read_wrong = patterns * wrong.mean(axis=0)
    # of zeros, whose inputs do not follow a weight, errors cancel on average
    weights = (target != 0).sum(axis=2)[products["pattern"]]
    missing = weights - products["sign"][:, None] * products["sum"].astype(np.int64)
    xnor_wrong = patterns * (0.5 * missing).mean(axis=0)
    return fixed_output_rate(read_wrong, xnor_wrong, patterns * cols)


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


def _split(base: DeviceFile, populations: Mapping[str, Estimate], source: str) -> dict[str, Quantity]:
    """Parts of a measured spread in the proportion of the base file, where the data could not tell them apart."""
    parts = {}
    for section in ("lrs", "hrs"):
        names = [f"{section}.sigma_d2d", f"{section}.sigma_c2c"]
        if all(name in populations for name in names):
            continue
        whole, old = populations[f"{section}.sigma"], [base.quantities[name].value for name in names]
        total = math.hypot(*old)
        if total == 0.0:
            raise UserMistake(f"the base file gives {section} no spread, so the measured one cannot be split")
        for name, value in zip(names, old, strict=True):
            text = f"total s.d. {whole} fitted to {source}; its split between devices and cycles as in {base.name}"
            parts[name] = Quantity(whole.value * value / total, "1", text, "derived")
    return parts


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
