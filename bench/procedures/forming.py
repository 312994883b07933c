"""Forming: bring virgin devices to life, gently, and find those that do not come.

Forming is a SET at supplies of its own: the column supply VDDC drives the device and the word-line supply VDDR limits
the current through the access transistor. The ramp therefore raises VDDC alone, at the VDDR of the operating point
FORM, and each device leaves it with the pulse that formed it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.procedure import CellMask, CellsDone, Parameters, Procedure, Progress, Record, Result, Step, Steps, flags
from bench.procedures.measuring import Ohms, measure
from bench.procedures.tables import CELL, PATTERNS, RESISTANCES, ProgrammedState, pattern_record
from data.runs import Column, Table
from drivers.chip import Chip, Verdict
from models.cells import Device, DeviceMask, cell_mask_to_devices
from models.exceptions import UserMistake

MOST_LISTED = 100
"""So many addresses stand in a summary at most; the table has them all."""


class FormingOutcome(IntEnum):
    """What forming a device came to.

    FORMED_BEFORE is a device that was not virgin: low from the start, or high and set by the ramp. On a chip fresh from
    the wafer such a device is a defect.
    """

    FORMED = 0
    FORMED_BEFORE = 1
    NEVER_FORMED = 2


FORMED = Table(
    "forming",
    (
        Column("pulses", "int32", description="forming pulses applied so far to the cells still in question"),
        Column("vddc_v", "float64", units="V", description="column supply of the latest pulses, NaN before the first"),
        Column("formed", "uint8", dims=CELL, description="1 where both devices of the cell are formed"),
    ),
    "which cells are formed, after each step of the ramp or each round",
)

FORMED_DEVICES = Table(
    "formed_devices",
    (
        Column("row", "int16", description="row of the cell"),
        Column("col", "int16", description="column of the cell"),
        Column("device", "int8", flags=flags(Device), description="which device of the cell"),
        Column("outcome", "int8", flags=flags(FormingOutcome), description="what forming it came to"),
        Column("vddc_v", "float64", units="V", description="column supply of the pulse that formed it, else NaN"),
        Column("pulses", "int32", description="forming pulses that it was given, the one that formed it included"),
        Column("before_ohm", "float64", units="ohm", description="resistance before the first pulse"),
        Column("after_ohm", "float64", units="ohm", description="resistance after the last pulse"),
    ),
    "devices that left the ramp of the column supply, as they left it",
)


class FormingParameters(Parameters):
    """Parameters of forming."""

    check: Literal["auto", "resistance", "weights"] = Field(
        default="auto",
        description="resistance: a ramp of VDDC that each device leaves as soon as it measures as formed; weights: "
        "pulses at the operating point FORM, then both weights are programmed and read; auto: the ramp where the "
        "bench has a source-measure unit",
    )
    start_v: float = Field(default=2.0, gt=0.0, le=20.0, description="ramp: VDDC of the first pulses, V")
    step_v: float = Field(default=0.1, ge=0.01, le=5.0, description="ramp: increase of VDDC from step to step, V")
    stop_v: float | None = Field(
        default=None, gt=0.0, le=20.0, description="ramp: VDDC of the last pulses, V; none for that of the point FORM"
    )
    formed_ohm: float = Field(
        default=30e3, gt=0.0, allow_inf_nan=False, description="ramp: a device below this resistance is formed, ohm"
    )
    virgin_ohm: float = Field(
        default=1e6, gt=0.0, allow_inf_nan=False, description="ramp: a device above it at first is virgin, ohm"
    )
    pulses: int = Field(default=1, ge=1, le=100, description="forming pulses per device and step, or round")
    rounds: int = Field(
        default=3,
        ge=1,
        le=20,
        description="steps at the last voltage of the ramp, or rounds with both weights, at most",
    )


QUICK = FormingParameters(check="weights")
"""Without a ramp and without resistances: for chips that need no care, as those of a simulated bench."""


def forming(chip: Chip, parameters: FormingParameters, cells: CellMask) -> Steps:
    """Form both devices of each selected cell, and say which do not come.

    By resistance, a ramp forms each device at its own voltage and no higher; a device that measures as formed before
    the first pulse is left alone. Devices that were not virgin, or that never form, are reported by their address. By
    weights, a cell counts as formed when it reads +1 after +1 was programmed and -1 after -1: hardly any but two
    working devices do that.

    Raises:
        UserMistake: the ramp would start above its end, or the bench cannot measure resistances.
    """
    by_resistance = parameters.check == "resistance" or (parameters.check == "auto" and chip.measures)
    if not by_resistance:
        return (yield from _by_weights(chip, parameters, cells))
    if not chip.measures:
        raise UserMistake(
            "forming: check = resistance needs a source-measure unit, which this bench does not have; "
            "set check = weights"
        )
    return (yield from _ramp(chip, parameters, cells, ramp_voltages(chip, parameters)))


def ramp_voltages(chip: Chip, parameters: FormingParameters) -> list[float]:
    """VDDC of each step in V: from start to stop, the last repeated ``rounds`` times.

    Raises:
        UserMistake: it would start above its end.
    """
    stop_v = chip.points.form.rails.vddc_v if parameters.stop_v is None else parameters.stop_v
    if parameters.start_v > stop_v:
        raise UserMistake(
            f"forming: the ramp starts at {parameters.start_v:g} V, above its end at {stop_v:g} V; lower start_v"
        )
    below = np.arange(parameters.start_v, stop_v - 1e-9, parameters.step_v)
    return [float(round(volts, 6)) for volts in below] + [stop_v] * parameters.rounds


@dataclass
class _Ramp:
    """The selected devices on their way up, ``(rows, cols, 2)`` each."""

    devices: DeviceMask
    before: Ohms
    after: Ohms
    pending: DeviceMask
    pulses: NDArray[np.int32] = field(init=False)
    outcome: NDArray[np.int8] = field(init=False)

    def __post_init__(self) -> None:
        self.pulses = np.zeros(self.devices.shape, dtype=np.int32)
        self.outcome = np.full(self.devices.shape, FormingOutcome.NEVER_FORMED, dtype=np.int8)

    @property
    def formed(self) -> CellMask:
        """``(rows, cols)``: cells of which both devices are formed."""
        return np.asarray((self.devices & (self.outcome != FormingOutcome.NEVER_FORMED)).all(axis=2))

    def leave(self, devices: DeviceMask, outcome: FormingOutcome, vddc_v: float) -> Generator[Step, Any, None]:
        """These devices are through."""
        done_before = self._done
        self.pending = self.pending & ~devices
        self.outcome[devices] = outcome
        if devices.any():
            row, col, device = np.nonzero(devices)
            count = len(row)
            values = {
                "row": row,
                "col": col,
                "device": device,
                "outcome": np.full(count, outcome),
                "vddc_v": np.full(count, vddc_v),
                "pulses": self.pulses[devices],
                "before_ohm": self.before[devices],
                "after_ohm": self.after[devices],
            }
            yield Record("formed_devices", values, many=True)
        done = self._done & ~done_before
        if done.any():
            yield CellsDone(done)

    @property
    def _done(self) -> CellMask:
        return np.asarray(self.devices.any(axis=2) & ~self.pending.any(axis=2))


def _ramp(chip: Chip, parameters: FormingParameters, cells: CellMask, levels: list[float]) -> Steps:
    for vddc_v in levels:
        _at(chip, vddc_v).check()
    devices = cell_mask_to_devices(cells)
    before = yield from measure(chip, devices, ProgrammedState.UNKNOWN, "resistances before forming")
    ramp = _Ramp(devices, before, before.copy(), devices.copy())
    yield from ramp.leave(devices & (before < parameters.formed_ohm), FormingOutcome.FORMED_BEFORE, np.nan)
    yield _formed_record(0, np.nan, ramp.formed)
    formed_at_v: list[float] = []
    for step, vddc_v in enumerate(levels):
        if not ramp.pending.any():
            break
        trying = ramp.pending
        yield Progress(step, len(levels), f"forming {int(trying.sum())} devices at {vddc_v:g} V")
        _at(chip, vddc_v).form(trying, parameters.pulses)
        ramp.pulses[trying] += parameters.pulses
        text = f"resistances after {vddc_v:g} V"
        ohms = yield from measure(chip, trying, ProgrammedState.UNKNOWN, text)
        ramp.after[trying] = ohms[trying]
        new = trying & (ohms < parameters.formed_ohm)
        virgin = new & (before > parameters.virgin_ohm)
        formed_at_v += [vddc_v] * int(virgin.sum())
        yield from ramp.leave(virgin, FormingOutcome.FORMED, vddc_v)
        yield from ramp.leave(new & ~virgin, FormingOutcome.FORMED_BEFORE, np.nan)
        yield _formed_record((step + 1) * parameters.pulses, vddc_v, ramp.formed)
    never = ramp.pending
    yield from ramp.leave(never, FormingOutcome.NEVER_FORMED, np.nan)
    yield Progress(len(levels), len(levels), f"{int(ramp.formed.sum())} of {int(cells.sum())} cells formed")
    return {
        **_summary(cells, ramp.formed),
        "devices_formed": len(formed_at_v),
        "median_forming_v": float(np.median(formed_at_v)) if formed_at_v else None,
        **_addresses("devices_formed_before", ramp.outcome == FormingOutcome.FORMED_BEFORE),
        **_addresses("devices_never_formed", never),
    }


def _at(chip: Chip, vddc_v: float) -> Chip:
    """The chip at one step of the ramp."""
    form = chip.points.form
    return chip.at(replace(chip.points, form=replace(form, rails=form.rails._replace(vddc_v=vddc_v))))


def _by_weights(chip: Chip, parameters: FormingParameters, cells: CellMask) -> Steps:
    pending = cells.copy()
    total = parameters.rounds
    for done in range(total):
        yield Progress(done, total, f"forming {int(pending.sum())} cells")
        chip.form(cell_mask_to_devices(pending), parameters.pulses)
        works = pending.copy()
        for index, weight in enumerate((1, -1)):
            target = np.full(chip.geometry, weight, dtype=np.int8)
            programming = chip.program(target, used=pending, attempts=2)
            yield pattern_record(2 * done + index, programming)
            works &= programming.verdict == Verdict.VERIFIED
        pending &= ~works
        formed = cells & ~pending
        yield _formed_record((done + 1) * parameters.pulses, chip.points.form.rails.vddc_v, formed)
        if works.any():
            yield CellsDone(works)
        if not pending.any():
            break
    if pending.any():
        yield CellsDone(pending)
    yield Progress(total, total, f"{int(formed.sum())} of {int(cells.sum())} cells formed")
    return _summary(cells, formed)


def _formed_record(pulses: int, vddc_v: float, formed: CellMask) -> Record:
    return Record("forming", {"pulses": pulses, "vddc_v": vddc_v, "formed": formed.astype(np.uint8)})


def _summary(cells: CellMask, formed: CellMask) -> Result:
    not_formed = np.argwhere(cells & ~formed)
    return {
        "cells": int(cells.sum()),
        "formed": int(formed.sum()),
        "not_formed": [[int(row), int(col)] for row, col in not_formed],
    }


def _addresses(name: str, devices: DeviceMask) -> Result:
    """How many devices these are, and the first of them by address."""
    where = np.argwhere(devices)
    listed = [[int(row), int(col), Device(device).name] for row, col, device in where[:MOST_LISTED]]
    return {name: len(where), f"{name}_at": listed}


FORMING = Procedure(
    "forming",
    "form virgin devices with a bounded ramp, and find those that do not come",
    FormingParameters,
    (FORMED, FORMED_DEVICES, RESISTANCES, PATTERNS),
    forming,
)
