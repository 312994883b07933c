"""What every fit hands back, and the device file that comes of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.estimate import Estimate
from data.device_files import DeviceFile, Quantity
from models.cells import Device
from models.device_model import SCHEMA, check_value
from models.exceptions import UserMistake


@dataclass(frozen=True)
class Outlier:
    """A device that was left out of a fit, and why.

    Attributes:
        row, col, device: its address; ``device`` is a :class:`~models.cells.Device` code.
        reason: one phrase.
        name: what a plain table calls it; empty for a device of our arrays.
        chip: identifier of its chip in a fit of several; empty in a fit of one.
    """

    row: int
    col: int
    device: int
    reason: str
    name: str = ""
    chip: str = ""

    @property
    def address(self) -> str:
        """Where the device is, for a person."""
        own = self.name if self.name else f"row {self.row}, column {self.col}, {Device(self.device).name}"
        return f"chip {self.chip}, {own}" if self.chip else own

    def __str__(self) -> str:
        return f"{self.address}: {self.reason}"


@dataclass(frozen=True)
class Check:
    """A number of the data held against what the fit predicts for it.

    Attributes:
        name: what is compared.
        value: in the data.
        low, high: what the fit predicts, with the coverage of all intervals here.
        good: the value lies where it should.
        text: one line for a person, complete in itself.
    """

    name: str
    value: float
    low: float
    high: float
    good: bool
    text: str

    @classmethod
    def within(cls, name: str, value: float, low: float, high: float, text: str = "") -> Check:
        """A check that is good when the value lies between its bounds."""
        good = bool(low <= value <= high)
        said = text if text else f"{name}: {value:.4g} measured, {low:.4g} to {high:.4g} predicted"
        return cls(name, float(value), float(low), float(high), good, said)


@dataclass(frozen=True)
class Comparison:
    """Two models of the same data.

    Attributes:
        question: what was asked, for example "is the knee needed?".
        winner: name of the model that the data prefer.
        evidence: how clearly: difference of the information criteria (Bayesian, or of the deviance where the text says
            so), positive in favour of the winner.
        text: one line for a person, complete in itself.
    """

    question: str
    winner: str
    evidence: float
    text: str


class Band(NamedTuple):
    """A curve with an interval around it; four arrays ``(points,)``."""

    x: NDArray[np.float64]
    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Overlay:
    """Measured and fitted values over the same quantity, for one plot.

    Attributes:
        title, x_label, y_label: texts; the labels carry their units.
        log_x, log_y: logarithmic axes.
        measured, fitted: the two curves; their ``x`` need not agree.
    """

    title: str
    x_label: str
    y_label: str
    log_x: bool
    log_y: bool
    measured: Band
    fitted: Band


@dataclass(frozen=True)
class Fit:
    """What a fit found, and how far it can be trusted.

    Attributes:
        parameters: device-file key ("lrs.median_ohm") or the name of a number that the file has no place for, to its
            estimate.
        devices: members of the fit.
        converged: the data could support everything that was asked of them.
        problems: why it did not converge, and what the data cannot support.
        report: lines for a person.
        outliers: devices that were left out.
        checks: residuals and posterior predictive checks.
        comparisons: models held against each other.
        overlays: for the report page.
    """

    parameters: Mapping[str, Estimate]
    devices: int
    converged: bool
    problems: tuple[str, ...] = ()
    report: tuple[str, ...] = ()
    outliers: tuple[Outlier, ...] = ()
    checks: tuple[Check, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    overlays: tuple[Overlay, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Everything but the overlays, as plain JSON values."""
        return {
            "parameters": {name: _plain(found) for name, found in self.parameters.items()},
            "devices": int(self.devices),
            "converged": bool(self.converged),
            "report": list(self.report),
            "problems": list(self.problems),
            "outliers": [_plain(item) for item in self.outliers],
            "checks": [_plain(item) for item in self.checks],
            "comparisons": [_plain(item) for item in self.comparisons],
        }


def _plain(item: Estimate | Outlier | Check | Comparison) -> dict[str, Any]:
    """The fields of a value as JSON takes them: None for what is not finite."""
    values: dict[str, Any] = {}
    for name, value in vars(item).items():
        if isinstance(value, bool | np.bool_):
            values[name] = bool(value)
        elif isinstance(value, int | np.integer):
            values[name] = int(value)
        elif isinstance(value, float):
            values[name] = float(value) if np.isfinite(value) else None
        else:
            values[name] = value
    return values


class Source(Protocol):
    """A file that data were read from: a run, or a plain table."""

    @property
    def path(self) -> Path:
        """Where it lies."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What it says of itself: ``chip_id`` where it knows."""


def chip_of(source: Source) -> str:
    """Identifier of the chip that a file tells of; the file's own name where it does not say."""
    return str(source.attributes.get("chip_id", source.path.stem))


def provenance(source: Source) -> str:
    """``run NAME, sha256 ...`` of the file as it lies there now."""
    kind = "table" if source.path.suffix.lower() == ".csv" else "run"
    return f"{kind} {source.path.name}, sha256 {hashlib.sha256(source.path.read_bytes()).hexdigest()}"


def within_schema(key: str, found: Estimate) -> Estimate:
    """The part of an interval that is physically possible; UserMistake where the value itself is not."""
    bounds = SCHEMA[key]
    check_value(key, found.value, bounds)
    return Estimate(found.value, max(found.low, bounds.low), min(found.high, bounds.high), found.unit)


def fitted_device(fit: Fit, runs: Sequence[Source], base: DeviceFile) -> DeviceFile:
    """The base file with the fitted numbers in place, each with its interval and the runs that it came from.

    Numbers of the fit that a device file has no key for are left out. Fits of several kinds are merged by taking the
    file of one as the base of the next. A base that was fitted itself stays as it is where the fit adds nothing.

    Args:
        fit: a fit that converged.
        runs: what it was fitted to.
        base: where all other numbers come from.

    Raises:
        UserMistake: a fitted value is physically impossible, contradicts one that was kept, or nothing was fitted.
    """
    source = "; ".join(provenance(run) for run in runs)
    fitted = {key: within_schema(key, found) for key, found in fit.parameters.items() if key in SCHEMA}
    # a file that was fitted before may have all that this fit could add, and better: it is kept as it is
    if not fitted and "fitted_to" not in base.extras:
        raise UserMistake("the fit found nothing that a device file has a place for")
    chips = list(dict.fromkeys(chip_of(run) for run in runs))
    earlier = [base.extras["fitted_to"]] if "fitted_to" in base.extras else []
    return base.updated(
        {
            key: Quantity(found.value, found.unit, source, "fitted", found.low, found.high)
            for key, found in fitted.items()
        },
        name=f"chip {chips[0]}" if len(chips) == 1 else f"chips {', '.join(chips)}",
        extras={
            "fitted_to": "; ".join([*earlier, source]),
            "base": base.extras["base"] if earlier and "base" in base.extras else base.name,
            "software": f"rram-bench {version('rram-bench')}",
        },
    )
