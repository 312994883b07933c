"""Read disturb: read a pattern again and again, and see whether the reads themselves change it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from bench.procedure import CellMask, CellsDone, Procedure, Progress, Record, Steps
from bench.procedures.measuring import Ohms, measure_into, plain
from bench.procedures.spacing import log_spaced
from bench.procedures.stored_pattern import (
    CURVES,
    LOOK_COLUMNS,
    LOOK_TABLES,
    PatternParameters,
    look,
    look_columns,
    store_pattern,
)
from data.runs import Column, Table
from drivers.chip import Chip
from drivers.operating_points import RailVoltages
from models.exceptions import UserMistake

DISTURBED = Table(
    "read_disturb",
    (
        *LOOK_COLUMNS,
        Column("reads", "int64", description="disturbing reads since programming, those of the looks not counted"),
        Column("disturbing", "int8", description="1 for a disturbing read itself, 0 for a look"),
    ),
    "each device at each look, and each disturbing read through direct access",
)

DISTURBING_SENSES = Table(
    "disturbing_senses",
    (
        Column("reads", "int64", description="disturbing senses since programming, when these had been made"),
        Column("count", "int64", description="senses that are counted in this row"),
        Column("wrong", "int32", dims=("row", "col"), description="senses of this row that did not read the target"),
    ),
    "what the disturbing senses themselves read",
)

SENSES_AT_ONCE = 1000
"""Senses of the array that are held in memory at once."""

DIRECT_READS = 100
SENSE_READS = 10_000


class ReadDisturbParameters(PatternParameters):
    """Parameters of read disturb."""

    kind: Literal["sense", "direct"] = Field(
        default="sense",
        description="what disturbs: senses of the whole array, or reads of each device by direct access",
    )
    reads: int | None = Field(
        default=None,
        ge=1,
        le=10**9,
        description=f"disturbing reads in all; {SENSE_READS} senses or {DIRECT_READS} direct reads when not given",
    )
    points_per_decade: int = Field(default=2, ge=1, le=50, description="looks per decade of reads, log-spaced")
    vdd_v: float | None = Field(
        default=None, allow_inf_nan=False, description="VDD of the disturbing reads, V; as usual when not given"
    )
    vddc_v: float | None = Field(
        default=None, allow_inf_nan=False, description="VDDC of the disturbing reads, V; as usual when not given"
    )
    vddr_v: float | None = Field(
        default=None, allow_inf_nan=False, description="VDDR of the disturbing reads, V; as usual when not given"
    )
    read_v: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="voltage of the disturbing direct reads, negative in the RESET direction, V; as usual if not given",
    )

    @model_validator(mode="after")
    def _voltage_fits(self) -> Self:
        if self.read_v is not None and (self.kind != "direct" or self.read_v == 0.0):
            raise ValueError("read_v is for kind direct, and is not 0")
        return self

    @property
    def total(self) -> int:
        """Disturbing reads in all."""
        if self.reads is not None:
            return self.reads
        return SENSE_READS if self.kind == "sense" else DIRECT_READS

    @property
    def looks(self) -> list[int]:
        """Disturbing reads before each look, the first before any."""
        return [0, *log_spaced(1, self.total, 1 + round(float(np.log10(self.total)) * self.points_per_decade))]


def read_disturb(chip: Chip, parameters: ReadDisturbParameters, cells: CellMask) -> Steps:
    """Program and look; then disturb, and look again after log-spaced numbers of reads.

    Raises:
        UserMistake: direct reads are asked for on a bench without a source-measure unit.
    """
    if parameters.kind == "direct" and not chip.measures:
        raise UserMistake("read-disturb: kind direct needs a source-measure unit, and this bench has none")
    disturbing = _at_disturbing_points(chip, parameters)
    stored = yield from store_pattern(chip, parameters, cells)
    looks, total = parameters.looks, parameters.total
    curves: dict[str, list[float | None]] = {name: [] for name in (*CURVES, "largest_shift")}
    first = last = None
    done = 0
    for point, reads in enumerate(looks):
        while done < reads:
            yield Progress(done, total, f"{done} of {total} disturbing reads")
            if parameters.kind == "sense":
                count = min(reads - done, SENSES_AT_ONCE)
                wrong = (disturbing.read(count) != stored.target).sum(axis=0, dtype=np.int32)
                done += count
                yield Record("disturbing_senses", {"reads": done, "count": count, "wrong": wrong})
            else:
                assert last is not None
                done += 1
                columns = look_columns(stored, last.sensed, point)
                yield from measure_into("read_disturb", disturbing, stored.devices, **columns, reads=done, disturbing=1)
        last = yield from look("read_disturb", chip, stored, parameters.senses, point, reads=reads, disturbing=0)
        first = last if first is None else first
        for name, value in {**last.curves, "largest_shift": _largest_shift(first.ohms, last.ohms)}.items():
            curves[name].append(value)
    yield CellsDone(cells)
    yield Progress(total, total, f"{total} disturbing reads")
    return {"cells": int(cells.sum()), "reads": looks, **curves}


def _at_disturbing_points(chip: Chip, parameters: ReadDisturbParameters) -> Chip:
    """The chip at the operating points of the disturbing reads."""
    asked = {name: getattr(parameters, name) for name in RailVoltages._fields}
    rails = {name: value for name, value in asked.items() if value is not None}
    sense, direct = chip.points.sense, chip.points.direct
    return chip.at(
        replace(
            chip.points,
            sense=replace(sense, rails=sense.rails._replace(**rails)),
            direct=replace(
                direct,
                rails=direct.rails._replace(**rails),
                read_v=direct.read_v if parameters.read_v is None else parameters.read_v,
            ),
        )
    )


def _largest_shift(before: Ohms, after: Ohms) -> float | None:
    """Largest change of ln R of a device, as an absolute value; None where nothing was measured."""
    known = np.isfinite(before) & np.isfinite(after)
    return plain(float(np.abs(np.log(after[known] / before[known])).max())) if known.any() else None


READ_DISTURB = Procedure(
    "read-disturb",
    "read a pattern many times, and see whether the reads change it",
    ReadDisturbParameters,
    (*LOOK_TABLES, DISTURBED, DISTURBING_SENSES),
    read_disturb,
)
