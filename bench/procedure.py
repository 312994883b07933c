"""What a procedure is: a parameter model, the tables it fills, and a generator of records.

The runner does the rest: it stores each record, shows progress, stops, and leaves the bench in its safe state. To add
a procedure, write a module under :mod:`bench.procedures` with one :class:`Procedure` and add it to the registry there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from bench.config import explain
from data.runs import Column, Run, Table
from drivers.chip import Chip, Operation, OperationKind, Outcome
from drivers.operating_points import RailVoltages
from models.exceptions import UserMistake

CellMask = NDArray[np.bool_]
Result = dict[str, Any]


class Parameters(BaseModel):
    """Base of all parameter models: frozen, and no name that is not known. Fields carry unit and help."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Record:
    """One row for a table of the run file, or with ``many`` as many rows as the leading axis is long."""

    table: str
    values: Mapping[str, Any]
    many: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done, total: steps.
        text: what it is doing.
        live: numbers worth watching while it runs, by name.
    """

    done: int
    total: int
    text: str
    live: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Wait:
    """Let time pass with the outputs off, on the bench's clock; the runner answers with the seconds that passed."""

    seconds: float
    text: str


@dataclass(frozen=True)
class ReadClock:
    """Ask for the time in s on the clock that waits are counted on; what counts is the difference of two answers."""


@dataclass(frozen=True)
class SetTemperature:
    """Bring the chip to a temperature and wait until it has settled, with the outputs off.

    The runner answers with the :class:`~drivers.temperature_role.TemperatureReading`; a bench without a temperature
    source refuses.
    """

    celsius: float
    window_c: float = 1.0
    soak_s: float = 30.0


@dataclass(frozen=True)
class ReadTemperature:
    """Ask for the :class:`~drivers.temperature_role.TemperatureReading` of now; None where the bench has no source."""


@dataclass(frozen=True)
class CellsDone:
    """These cells ``(rows, cols)`` are finished, their records are stored: a resumed run leaves them out."""

    cells: CellMask


Step = Record | Progress | Wait | ReadClock | SetTemperature | ReadTemperature | CellsDone
Steps = Generator[Step, Any, Result]


@dataclass(frozen=True)
class Procedure:
    """An experiment.

    Attributes:
        name: as on the command line.
        summary: one line for lists and help.
        parameters: its parameter model; the command line and the GUI form are both made from it.
        tables: what it records, beside the operations that every run records.
        steps: generator of records and progress; it returns a summary with plain numbers.
            Called with the chip, the parameters and the selected cells ``(rows, cols)``.
        dimensions: coordinates of further dimensions of its tables, beside row, col and device.
        resume: generator that goes on where an earlier run of the same parameters ended, called with the chip, the
            parameters, the cells that are not done and that run. Without one, ``steps`` is called with those cells.
        about: what it works with beside the parameters (a network, a data set), for the record.
    """

    name: str
    summary: str
    parameters: type[Parameters]
    tables: tuple[Table, ...]
    steps: Callable[[Chip, Any, CellMask], Steps]
    dimensions: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    resume: Callable[[Chip, Any, CellMask, Run], Steps] | None = None
    about: Mapping[str, str] = field(default_factory=dict)

    def parse(self, settings: Mapping[str, Any]) -> Parameters:
        """Check ``settings`` against the parameter model. Raises UserMistake naming the parameter and its rule."""
        try:
            return self.parameters.model_validate(dict(settings))
        except ValidationError as error:
            known = ", ".join(self.parameters.model_fields)
            raise UserMistake(f"{self.name}: {explain(error)}; its parameters are {known}") from None


def flags(kinds: Any) -> dict[int, str]:
    """Codes and names of an enum, for a column of the run file."""
    return {int(kind): kind.name for kind in kinds}


OPERATIONS = Table(
    "operations",
    (
        Column("kind", "int8", flags=flags(OperationKind), description="what was done to the array"),
        Column("vdd_v", "float64", units="V", description="core supply, set point"),
        Column("vddc_v", "float64", units="V", description="array column supply, set point"),
        Column("vddr_v", "float64", units="V", description="word-line supply, set point"),
        Column("vdd_measured_v", "float64", units="V", description="core supply, measured right after"),
        Column("vddc_measured_v", "float64", units="V", description="array column supply, measured right after"),
        Column("vddr_measured_v", "float64", units="V", description="word-line supply, measured right after"),
        Column("width_s", "float64", units="s", description="pulse width, or sense window"),
        Column("count", "int64", description="pulses per device, senses, or input vectors"),
        Column("devices", "uint8", dims=("row", "col", "device"), description="1 for each device it acted on"),
        Column("outcome", "int8", flags=flags(Outcome), description="IN_DOUBT: sent, and never acknowledged"),
        Column("seconds", "float64", units="s", description="duration, changes of the rails included"),
    ),
    "everything that was done to the array, in order",
)


SELECTION = Table(
    "selection",
    (Column("cells", "uint8", dims=("row", "col"), description="1 for each cell that the run is to work on"),),
    "the cells that were chosen",
)

CELLS_DONE = Table(
    "cells_done",
    (Column("cells", "uint8", dims=("row", "col"), description="1 for each cell that was finished by then"),),
    "cells that are finished; a resumed run leaves them out",
)


def operation_record(operation: Operation) -> Record:
    """The row of the operations table for one operation."""
    unknown = RailVoltages(np.nan, np.nan, np.nan)
    measured = unknown if operation.measured is None else operation.measured
    return Record(
        "operations",
        {
            "kind": int(operation.kind),
            "vdd_v": operation.rails.vdd_v,
            "vddc_v": operation.rails.vddc_v,
            "vddr_v": operation.rails.vddr_v,
            "vdd_measured_v": measured.vdd_v,
            "vddc_measured_v": measured.vddc_v,
            "vddr_measured_v": measured.vddr_v,
            "width_s": operation.width_s,
            "count": operation.count,
            "devices": operation.devices.astype(np.uint8),
            "outcome": int(operation.outcome),
            "seconds": operation.seconds,
        },
    )
