"""Characterisation: what the device fit needs to know of an array, in one run.

Inverse pairs of random patterns show which cells are stuck, repeated senses show which reads are unsteady, resistances
of programmed devices show the LRS and HRS populations, and a short staircase shows how weak RESETs move the LRS.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.procedure import CellMask, Parameters, Procedure, Progress, Record, Steps
from bench.procedures.program import pattern_weights
from bench.procedures.tables import (
    PATTERNS,
    RESISTANCES,
    SENSES,
    ProgrammedState,
    pattern_record,
    resistance_record,
    sense_records,
)
from drivers.chip import Chip
from models.cells import Device, DeviceMask, lrs_devices
from models.exceptions import UserMistake


class CharacteriseParameters(Parameters):
    """Parameters of a characterisation."""

    seed: int = Field(default=0, ge=0, description="seed of the patterns and of the sample of devices")
    pairs: int = Field(default=2, ge=2, le=100, description="pairs of a random pattern and its inverse")
    repeats: int = Field(default=20, ge=2, le=1000, description="senses of each pattern")
    attempts: int = Field(default=3, ge=1, le=100, description="programming passes over a cell at most")
    resistance_cells: int = Field(default=64, ge=4, le=100000, description="cells whose two devices are measured")
    staircase_cells: int = Field(default=24, ge=2, le=100000, description="cells whose two devices walk the staircase")
    staircase_step: int = Field(default=8, ge=1, le=10000, description="weak-RESET pulses between two measurements")
    staircase_points: int = Field(default=5, ge=2, le=10000, description="measurements after the first one at 0 pulses")


@dataclass(frozen=True)
class _Sample:
    """Cells drawn for single-device measurements, ``(n, 2)`` rows and columns each."""

    resistance: NDArray[np.int64]
    staircase: NDArray[np.int64]


def _draw(cells: CellMask, parameters: CharacteriseParameters, rng: np.random.Generator) -> _Sample:
    chosen = np.argwhere(cells)
    needed = max(parameters.resistance_cells, parameters.staircase_cells)
    if len(chosen) < needed:
        raise UserMistake(
            f"characterise: {len(chosen)} cells are selected but {needed} are to be measured; "
            "select more cells, or lower resistance_cells and staircase_cells"
        )
    return _Sample(
        rng.permutation(chosen)[: parameters.resistance_cells], rng.permutation(chosen)[: parameters.staircase_cells]
    )


def characterise(chip: Chip, parameters: CharacteriseParameters, cells: CellMask) -> Steps:
    """Patterns and senses, then resistances in the last pattern, then the weak-RESET staircase."""
    rng = np.random.default_rng(parameters.seed)
    sample = _draw(cells, parameters, rng)
    patterns = 2 * parameters.pairs
    total = patterns + len(sample.resistance) + (parameters.staircase_points + 1)
    raw_errors = failed = done = 0
    low: DeviceMask = chip.no_devices()
    for _ in range(parameters.pairs):
        weights = pattern_weights("random", chip.geometry, rng)
        for target in (weights, -weights):
            yield Progress(done, total, f"pattern {done + 1} of {patterns}")
            programming = chip.program(target, used=cells, attempts=parameters.attempts)
            yield pattern_record(done, programming)
            yield sense_records(done, chip.read(parameters.repeats))
            raw_errors += programming.raw_errors
            failed += programming.failed
            low = lrs_devices(target)
            done += 1
    for row, col in sample.resistance:
        yield Progress(done, total, "resistances")
        for device in Device:
            state = ProgrammedState.LRS if low[row, col, device] else ProgrammedState.HRS
            yield _measure(chip, row, col, device, state, pattern=patterns - 1)
        done += 1
    devices = chip.no_devices()
    devices[sample.staircase[:, 0], sample.staircase[:, 1]] = True
    chip.set(devices)
    for point in range(parameters.staircase_points + 1):
        pulses = point * parameters.staircase_step
        yield Progress(done, total, f"weak-RESET staircase, {pulses} pulses")
        if point > 0:
            chip.weak_reset(devices, parameters.staircase_step)
        yield from _measure_all(chip, sample.staircase, pulses)
        done += 1
    yield Progress(total, total, "characterised")
    return {"patterns": patterns, "raw_errors": raw_errors, "failed": failed, "cells": int(cells.sum())}


def _measure_all(chip: Chip, sample: NDArray[np.int64], pulses: int) -> Iterator[Record]:
    for row, col in sample:
        for device in Device:
            yield _measure(chip, row, col, device, ProgrammedState.LRS, pulses=pulses, staircase=True)


def _measure(
    chip: Chip,
    row: int,
    col: int,
    device: Device,
    state: ProgrammedState,
    pattern: int = -1,
    pulses: int = 0,
    staircase: bool = False,
) -> Record:
    reading = chip.resistance(int(row), int(col), device)
    return resistance_record(int(row), int(col), device, reading, state, pattern, pulses, staircase)


CHARACTERISE = Procedure(
    "characterise",
    "measure what a device fit needs: patterns, repeated senses, resistances, a weak-RESET staircase",
    CharacteriseParameters,
    (PATTERNS, SENSES, RESISTANCES),
    characterise,
)
