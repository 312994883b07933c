"""Measuring many devices into a table of one's own, a few hundred rows at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.procedure import Progress, Record, Step
from bench.procedures.tables import RESISTANCES, ProgrammedState, resistance_records
from drivers.chip import Chip, DeviceReading
from drivers.roles import Measurement
from models.cells import Device, DeviceMask

Ohms = NDArray[np.float64]

MEASURED = ("row", "col", "device", "voltage_v", "current_a", "in_compliance", "resistance_ohm")
"""Columns of the table ``resistances`` that say what was measured, and where."""

MEASURED_COLUMNS = tuple(RESISTANCES.column(name) for name in MEASURED)

BATCH = 256
"""So many readings make one record: some tenths of a second of measuring."""

UNMEASURED = Measurement(np.nan, np.nan, False)


def measure_into(table: str, chip: Chip, devices: DeviceMask, **columns: ArrayLike) -> Generator[Step, Any, Ohms]:
    """Measure the selected devices through direct access, and record one row for each of them.

    On a bench without a source-measure unit the rows are recorded all the same, with NaN for what it would measure.

    Args:
        table: has :data:`MEASURED_COLUMNS` and the columns below.
        devices: ``(rows, cols, 2)`` bool.
        columns: the table's other columns: one value for all, or ``(rows, cols)`` or ``(rows, cols, 2)`` of them.

    Returns:
        Resistances in ohm, ``(rows, cols, 2)``: infinite where no current flows, NaN where nothing was measured.
    """
    readings = chip.resistances(devices) if chip.measures else _unmeasured(devices)
    return (yield from _recorded(table, readings, devices, columns))


def measure(
    chip: Chip,
    devices: DeviceMask,
    state: ProgrammedState | NDArray[np.integer[Any]],
    text: str,
    pattern: int = -1,
    pulses: ArrayLike = 0,
    staircase: bool = False,
) -> Generator[Step, Any, Ohms]:
    """Measure the selected devices and record them in the table ``resistances``, telling how far it is.

    Args:
        devices: ``(rows, cols, 2)`` bool.
        state: what the devices were last programmed to, for all or ``(rows, cols, 2)``.
        text: what the progress says.
        pulses: weak-RESET pulses since SET, for all or ``(rows, cols, 2)``.

    Returns:
        Resistances in ohm, ``(rows, cols, 2)``: infinite where no current flows, NaN where nothing was measured.

    Raises:
        BenchFailure: the bench has no source-measure unit.
    """
    columns = {"state": state, "pattern": pattern, "pulses": pulses, "staircase": int(staircase)}
    return (yield from _recorded("resistances", chip.resistances(devices), devices, columns, text))


def _recorded(
    table: str,
    readings: Iterator[DeviceReading],
    devices: DeviceMask,
    columns: Mapping[str, ArrayLike],
    text: str | None = None,
) -> Generator[Step, Any, Ohms]:
    """Record readings as they come, with further columns, and return the resistances."""
    ohms = np.full(devices.shape, np.nan)
    further = {name: _per_device(value, devices.shape) for name, value in columns.items()}
    done, total = 0, int(devices.sum())
    if text is not None:
        yield Progress(done, total, text)
    while batch := list(islice(readings, BATCH)):
        rows = resistance_records(batch, ProgrammedState.UNKNOWN).values
        measured = {name: rows[name] for name in MEASURED}
        where = (measured["row"], measured["col"], measured["device"])
        ohms[where] = measured["resistance_ohm"]
        yield Record(table, {**measured, **{name: values[where] for name, values in further.items()}}, many=True)
        done += len(batch)
        if text is not None:
            yield Progress(done, total, text)
    return ohms


def plain(value: float) -> float | None:
    """A number for a summary: six digits; None where it is not finite, which JSON has no number for."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def median(values: NDArray[np.float64]) -> float:
    """Median of what was measured; NaN where nothing was."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else np.nan


def _per_device(value: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.asarray(value)
    return np.broadcast_to(array[:, :, None] if array.ndim == 2 else array, shape)


def _unmeasured(devices: DeviceMask) -> Iterator[DeviceReading]:
    for row, col, device in np.argwhere(devices).tolist():
        yield DeviceReading(row, col, Device(device), UNMEASURED)
