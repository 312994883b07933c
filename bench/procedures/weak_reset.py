"""The weak-RESET staircase: many small pulses after a SET, and the resistance of each device between them.

What it measures is the curve of Majumdar et al., IEEE TED 2021: two straight lines of ln R against the pulses, with a
knee after some hundred of them, random telegraph noise and 1/f noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from pydantic import Field

from bench.procedure import CellMask, CellsDone, Procedure, Progress, Step, Steps
from bench.procedures.lists import Numbers
from bench.procedures.measuring import MEASURED_COLUMNS, Ohms, measure_into, plain
from bench.procedures.preparing import OnFormedCells, prepare
from bench.procedures.spacing import evenly_spaced, log_spaced
from bench.procedures.tables import RESISTANCES
from data.runs import Column, Table
from drivers.chip import Chip
from drivers.operating_points import RailVoltages
from models.cells import DeviceMask, cell_mask_to_devices
from models.exceptions import UserMistake

STAIRCASE = Table(
    "staircase",
    (
        *MEASURED_COLUMNS,
        Column("branch", "int16", description="index of the voltage; each branch begins with a SET"),
        Column("cycle", "int32", description="index of the repetition of the whole staircase"),
        Column("vddc_v", "float64", units="V", description="column supply during the pulses, set point"),
        Column(
            "device_v", "float64", units="V", description="derived: voltage across the device, VDDC over drop_ratio"
        ),
        Column("pulses", "int64", description="weak-RESET pulses since the SET; 0 right after it"),
    ),
    "resistances along the weak-RESET staircase, measured at the operating point DIRECT",
)

READ_DECADES = 400
"""Log-spaced reads begin at this fraction of the pulses: earlier ones would hardly see more than noise."""


class WeakResetParameters(OnFormedCells):
    """Parameters of the weak-RESET staircase."""

    pulses: int = Field(default=4000, ge=1, le=10**7, description="weak-RESET pulses after each SET")
    read_every: int | None = Field(
        default=None, ge=1, description="a read every so many pulses; log-spaced reads when left out"
    )
    log_points: int = Field(default=40, ge=2, le=10000, description="reads after the SET where they are log-spaced")
    voltages_v: Numbers = Field(
        default=(), description="VDDC of each branch, with commas; that of the operating point WEAK_RESET when empty, V"
    )
    cycles: int = Field(default=1, ge=1, le=10**6, description="how often all branches are gone through")
    group: int = Field(
        default=256, ge=1, description="cells handled together: a group is finished before the next one begins"
    )
    drop_ratio: float = Field(
        default=2.25,
        gt=0.0,
        allow_inf_nan=False,
        description="VDDC over the voltage across a device, for the column device_v only; "
        "derived from 4.5 V on VDDC doing what 2.0 V does in direct access",
    )

    @property
    def reads(self) -> list[int]:
        """Pulses since the SET at which is read, 0 included."""
        if self.read_every is not None:
            return [0, *evenly_spaced(self.read_every, self.pulses)]
        return [0, *log_spaced(max(1, self.pulses // READ_DECADES), self.pulses, self.log_points)]


class _Curves:
    """Mean of ln(R / R after the SET) of all devices, ``(branches, reads)``, without keeping their resistances."""

    def __init__(self, branches: int, reads: int) -> None:
        self._sums = np.zeros((branches, reads))
        self._counts = np.zeros((branches, reads), dtype=np.int64)

    def add(self, branch: int, read: int, first: Ohms, ohms: Ohms) -> None:
        """Add the devices of one read, ``first`` after the SET; those that conduct nothing are left out."""
        known = np.isfinite(first) & np.isfinite(ohms)
        valid = ohms[known] / first[known]
        self._sums[branch, read] += np.log(valid).sum()
        self._counts[branch, read] += len(valid)

    def mean(self, branch: int) -> list[float | None]:
        """The mean curve of a branch."""
        with np.errstate(invalid="ignore"):
            curve = self._sums[branch] / self._counts[branch]
        return [plain(value) for value in curve]


@dataclass(frozen=True)
class _Branch:
    """One voltage of the staircase."""

    index: int
    rails: RailVoltages
    device_v: float


def weak_reset(chip: Chip, parameters: WeakResetParameters, cells: CellMask) -> Steps:
    """Form what is virgin, then for each group of cells and each voltage: SET, pulses, and reads between them.

    Raises:
        UserMistake: the bench has no source-measure unit.
    """
    if not chip.measures:
        raise UserMistake("weak-reset: resistances are all it records, and this bench has no source-measure unit")
    branches, reads, groups = _branches(chip, parameters), parameters.reads, _groups(cells, parameters.group)
    for branch in branches:
        _at(chip, branch).check()
    curves = _Curves(len(branches), len(reads))
    total = len(groups) * parameters.cycles * len(branches) * len(reads)
    done = 0
    for group in groups:
        yield from prepare(chip, parameters, group)
        for cycle, branch in product(range(parameters.cycles), branches):
            steps = _staircase(chip, branch, cycle, reads, cell_mask_to_devices(group), curves)
            for step in steps:
                if isinstance(step, Progress):
                    step = replace(step, done=done, total=total)
                    done += 1
                yield step
        yield CellsDone(group)
    yield Progress(total, total, f"{total} reads of the staircase")
    return {
        "cells": int(cells.sum()),
        "branches": [
            {
                "vddc_v": branch.rails.vddc_v,
                "device_v": plain(branch.device_v),
                "pulses": reads,
                "mean_log_ratio": curves.mean(branch.index),
            }
            for branch in branches
        ],
    }


def _staircase(
    chip: Chip, branch: _Branch, cycle: int, reads: Sequence[int], devices: DeviceMask, curves: _Curves
) -> Iterator[Step]:
    """One SET, and the reads of one branch; each begins with a Progress that does not count yet."""
    weak = _at(chip, branch)
    chip.set(devices)
    first: Ohms | None = None
    for index, pulses in enumerate(reads):
        yield Progress(0, 0, f"{int(devices.sum())} devices, VDDC {branch.rails.vddc_v:g} V, {pulses} pulses")
        if index > 0:
            weak.weak_reset(devices, pulses - reads[index - 1])
        ohms = yield from measure_into(
            "staircase",
            chip,
            devices,
            branch=branch.index,
            cycle=cycle,
            vddc_v=branch.rails.vddc_v,
            device_v=branch.device_v,
            pulses=pulses,
        )
        first = ohms if first is None else first
        curves.add(branch.index, index, first, ohms)


def _at(chip: Chip, branch: _Branch) -> Chip:
    return chip.at(replace(chip.points, weak_reset=replace(chip.points.weak_reset, rails=branch.rails)))


def _branches(chip: Chip, parameters: WeakResetParameters) -> list[_Branch]:
    rails = chip.points.weak_reset.rails
    voltages = parameters.voltages_v if parameters.voltages_v else (rails.vddc_v,)
    # a word line below VDDC passes no more than its own voltage
    return [
        _Branch(index, rails._replace(vddc_v=vddc_v), min(vddc_v, rails.vddr_v) / parameters.drop_ratio)
        for index, vddc_v in enumerate(voltages)
    ]


def _groups(cells: CellMask, size: int) -> list[CellMask]:
    """The selected cells in row-major order, ``size`` at a time."""
    chosen = np.flatnonzero(cells)
    groups = []
    for start in range(0, len(chosen), size):
        group = np.zeros_like(cells)
        group.flat[chosen[start : start + size]] = True
        groups.append(group)
    return groups


WEAK_RESET = Procedure(
    "weak-reset",
    "weak-RESET staircase: resistances while small pulses move the LRS upwards, at several voltages",
    WeakResetParameters,
    (RESISTANCES, STAIRCASE),
    weak_reset,
)
