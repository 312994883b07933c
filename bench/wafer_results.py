"""What is known of the dies of a wafer: one file that grows die by die, and what it says of the whole.

The folder of a wafer has ``wafer.json``, replaced as a whole after each die, the same as a table in ``wafer.csv``, and
a folder for each die with its run files and its device file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibration.between_dies import BetweenDies, between_dies
from calibration.bit_errors import binomial_rate
from calibration.estimate import Estimate
from data.atomic import write_atomically
from drivers.prober_role import Die
from models.exceptions import UserMistake

FILE, TABLE = "wafer.json", "wafer.csv"
FORMED = "formed"
"""Share of the cells of a die that formed; beside the parameters of its fit in every table and map."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Criteria(_Part):
    """What a die must show to count as good.

    Attributes:
        formed: least share of cells that formed.
        stuck: largest share of stuck cells.
        errors: largest bit error rate after programming and verifying.
    """

    formed: Share = 0.99
    stuck: Share = 0.01
    errors: Share = 0.01

    def faults(self, die: DieRecord) -> tuple[str, ...]:
        """Why a die is not good, in words; empty for a good one."""
        if die.failed:
            return (die.failed,)
        faults = []
        if die.formed < self.formed:
            faults.append(f"{die.formed:.2%} of the cells formed, {self.formed:.2%} wanted")
        for name, most in (("read_error.stuck_fraction", self.stuck), ("bit_error_rate", self.errors)):
            if name in die.parameters and die.parameters[name].value > most:
                faults.append(f"{name} {die.parameters[name].value:.3g}, at most {most:.3g} wanted")
        return tuple(faults)


class Number(_Part):
    """A fitted number with its 95 % interval."""

    value: float
    low: float
    high: float
    unit: str

    @property
    def estimate(self) -> Estimate:
        """As the calibration has it."""
        return Estimate(self.value, self.low, self.high, self.unit)


class DieRecord(_Part):
    """One die that the needles have touched.

    Attributes:
        die: column and row on the prober's wafer map.
        chip_id: what it is called in its run files.
        failed: why it could not be measured to the end; empty where it was.
        cells: of its array.
        formed_cells: how many of them formed; None where it was formed before.
        parameters: what was fitted, by name; empty where nothing could be.
        device_file: of this die, below the folder of the wafer; None where nothing was fitted.
        started: local time, ISO 8601.
        seconds: from touching down to lifting off.
    """

    die: tuple[int, int]
    chip_id: str
    failed: str
    cells: int
    formed_cells: int | None
    parameters: Mapping[str, Number]
    device_file: str | None
    started: str
    seconds: float

    @property
    def place(self) -> Die:
        """Where it is."""
        return Die(*self.die)

    @property
    def formed(self) -> float:
        """Share of its cells that formed; 1 where it was formed before."""
        return 1.0 if self.formed_cells is None else self.formed_cells / self.cells


class WaferRecord(_Part):
    """A wafer as far as it was measured.

    Attributes:
        wafer: its name.
        bench_name, simulated: of the bench.
        started: local time, ISO 8601.
        settings: how each die is measured: forming, parameters of the characterisation, operating points, seed.
        versions: of our program and of what it rests on.
        criteria: what a good die must show.
        route: dies of the prober's map, in its order.
        dies: those that were measured, in the order in which they were.
    """

    schema_: Literal["rram-bench wafer 1"] = Field(default="rram-bench wafer 1", alias="schema")
    wafer: str
    bench_name: str
    simulated: bool
    started: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    criteria: Criteria
    route: tuple[tuple[int, int], ...]
    dies: tuple[DieRecord, ...] = ()

    @property
    def record_of(self) -> dict[Die, DieRecord]:
        """What is known of each measured die."""
        return {die.place: die for die in self.dies}

    def with_die(self, die: DieRecord) -> WaferRecord:
        """The same with one more die, or with another verdict on one."""
        return self.model_copy(update={"dies": (*(one for one in self.dies if one.die != die.die), die)})

    @property
    def good(self) -> int:
        """How many of the measured dies are good."""
        return sum(not self.criteria.faults(die) for die in self.dies)

    @property
    def yield_(self) -> Estimate | None:
        """Share of good dies among the measured ones, with its binomial interval; None before the first."""
        return binomial_rate(self.good, len(self.dies)) if self.dies else None

    @property
    def units(self) -> dict[str, str]:
        """Unit of everything that can be shown on a map, by name: the share of formed cells, then the parameters."""
        units = {FORMED: "1"} if any(die.formed_cells is not None for die in self.dies) else {}
        for die in self.dies:
            units |= {name: number.unit for name, number in die.parameters.items()}
        return units

    def values(self, name: str) -> dict[Die, float]:
        """A quantity on each die that has it."""
        if name == FORMED:
            return {die.place: die.formed for die in self.dies if die.formed_cells is not None}
        return {die.place: die.parameters[name].value for die in self.dies if name in die.parameters}

    def across(self, name: str) -> BetweenDies | None:
        """How a fitted parameter differs from die to die; see :func:`calibration.between_dies.between_dies`."""
        told = [die for die in self.dies if name in die.parameters]
        places = [die.place for die in told]
        return between_dies([die.parameters[name].estimate for die in told], radii(self.route, places))

    def save(self, folder: Path) -> None:
        """Write the file and the table. Raises UserMistake when they cannot be written."""
        write_atomically(folder / FILE, (self.model_dump_json(by_alias=True, indent=1) + "\n").encode(), "wafer file")
        write_atomically(folder / TABLE, self.csv().encode(), "table of the dies")

    def csv(self) -> str:
        """One line per measured die: place, verdict, and each parameter with its interval."""
        names = [name for name in self.units if name != FORMED]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        columns = [f"{name}{part}" for name in names for part in ("", " low", " high")]
        table.writerow(["column", "row", "chip", "good", "fault", "cells", "formed", *columns])
        for die in self.dies:
            faults = self.criteria.faults(die)
            formed = "" if die.formed_cells is None else die.formed_cells
            numbers: list[object] = []
            for name in names:
                one = die.parameters.get(name)
                numbers += ["", "", ""] if one is None else [one.value, one.low, one.high]
            table.writerow([*die.die, die.chip_id, int(not faults), "; ".join(faults), die.cells, formed, *numbers])
        return text.getvalue()


def load_wafer(folder: Path) -> WaferRecord:
    """Read the file in the folder of a wafer.

    Raises:
        UserMistake: there is none, or it is not one of ours.
    """
    path = folder / FILE
    try:
        return WaferRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserMistake(f"{path}: {error.strerror}; name the folder of a wafer") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserMistake(f"{path}: no wafer file of this version: {where}: {first['msg']}") from None


def places(route: Sequence[tuple[int, int]], dies: Sequence[Die]) -> NDArray[np.float64]:
    """Middles of dies on the wafer as the map shows them, ``(dies, 2)``: x to the right, y down, in wafer radii.

    The wafer is taken to end with the outermost dies of the route.
    """
    whole = np.array(route, dtype=float)
    low, high = whole.min(axis=0), whole.max(axis=0)
    half = np.maximum((high - low + 1.0) / 2.0, 0.5)
    return np.asarray((np.array(dies, dtype=float).reshape(-1, 2) - (low + high) / 2.0) / half)


def radii(route: Sequence[tuple[int, int]], dies: Sequence[Die]) -> NDArray[np.float64]:
    """Distance of dies from the middle of the wafer, ``(dies,)``, in wafer radii."""
    return np.asarray(np.hypot(*places(route, dies).T))
