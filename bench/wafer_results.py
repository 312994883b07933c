"""What is known of the dies of a wafer: one file that grows die by die, and what it says of the whole.

The folder of a wafer has ``wafer.json``, replaced as a whole after each die, the same as a table in ``wafer.csv``, and
a folder for each die with its run files and its device file.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from calibration.between_dies import BetweenDies, between_dies
from calibration.bit_errors import binomial_rate
from calibration.estimate import Estimate
from data.atomic import write_atomically
from drivers.prober_role import Die
from models.exceptions import UserMistake

FILE, TABLE = "wafer.json", "wafer.csv"
FORMED = "formed"
"""Share of the cells of a die that formed; beside the parameters of its fit in every table and map."""

FAR_OFF = 3.0
"""Quartile distances beyond the quartiles from which on a die does not stretch a scale."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Moment = Annotated[str, AfterValidator(_moment)]
"""Date and time, ISO 8601."""


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

    die: Die
    chip_id: str
    failed: str
    cells: Annotated[int, Field(gt=0)]
    formed_cells: Annotated[int, Field(ge=0)] | None
    parameters: Mapping[str, Estimate]
    device_file: str | None
    started: Moment
    seconds: float

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.formed_cells is not None and self.formed_cells > self.cells:
            raise ValueError(f"{self.formed_cells} of {self.cells} cells formed")
        for name, one in self.parameters.items():
            if not one.low <= one.value <= one.high or math.isinf(one.high - one.low):
                raise ValueError(f"{name}: {one} lies outside of its own interval, or is not finite")
        return self

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
    started: Moment
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    criteria: Criteria
    route: tuple[Die, ...]
    dies: tuple[DieRecord, ...] = ()

    @model_validator(mode="after")
    def _on_the_map(self) -> Self:
        known = self.record_of
        if len(known) < len(self.dies):
            raise ValueError("a die stands there twice")
        if strange := [die for die in known if die not in self.route]:
            raise ValueError(f"die {strange[0]} is not on the wafer map")
        return self

    @property
    def record_of(self) -> dict[Die, DieRecord]:
        """What is known of each measured die."""
        return {die.die: die for die in self.dies}

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
            units |= {name: found.unit for name, found in die.parameters.items()}
        return units

    def values(self, name: str) -> dict[Die, float]:
        """A quantity on each die that has it."""
        if name == FORMED:
            return {die.die: die.formed for die in self.dies if die.formed_cells is not None}
        return {die.die: die.parameters[name].value for die in self.dies if name in die.parameters}

    def across(self, name: str) -> BetweenDies | None:
        """How a fitted parameter differs from die to die; see :func:`calibration.between_dies.between_dies`."""
        told = [die for die in self.dies if name in die.parameters]
        return between_dies([die.parameters[name] for die in told], radii(self.route, [die.die for die in told]))

    def scale(self, name: str) -> tuple[float, float]:
        """Ends of a scale for a quantity: dies that failed, or are far off, would hide how the others differ."""
        values, known = self.values(name), self.record_of
        shown = [value for die, value in values.items() if not known[die].failed] or list(values.values()) or [0.0]
        lower, upper = (float(each) for each in np.percentile(shown, (25.0, 75.0)))
        if upper > lower:
            far = FAR_OFF * (upper - lower)
            shown = [value for value in shown if lower - far <= value <= upper + far]
        low, high = min(shown), max(shown)
        if low == high:
            return (0.0, 1.0) if low == 0.0 else (low - 0.05 * abs(low), low + 0.05 * abs(low))
        return low, high

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
        told = f"{where}: {first['msg']}" if where else first["msg"]
        raise UserMistake(f"{path} is damaged, or no wafer file of this version: {told}") from None


def radii(route: Sequence[Die], dies: Sequence[Die]) -> NDArray[np.float64]:
    """Distance of the middles of dies from that of the wafer, ``(dies,)``, in wafer radii.

    The wafer is taken to end with the outermost dies of the route.
    """
    low, high = np.min(route, axis=0), np.max(route, axis=0)
    from_middle = np.array(dies, dtype=float).reshape(-1, 2) - (low + high) / 2.0
    return np.asarray(np.hypot(*(from_middle / ((high - low + 1.0) / 2.0)).T))


def outline(route: Sequence[Die]) -> tuple[float, float, float]:
    """Column and row of the middle of the wafer, and the radius in dies of a circle around all of them."""
    middle = (np.min(route, axis=0) + np.max(route, axis=0)) / 2.0
    reach = float(np.hypot(*(np.abs(np.array(route) - middle) + 0.5).T).max())
    return float(middle[0]), float(middle[1]), reach + 0.1
