"""Characterisation: what the device fit needs to know of an array, in one run.

Inverse pairs of random patterns show which cells are stuck, repeated senses show which reads are unsteady, products of
each row with its own weights show which cells answer whatever the input is, resistances
of the same devices in each pattern show the LRS and HRS populations, with the spread between devices and that between
cycles, and a short staircase shows how weak RESETs move the LRS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from bench.procedure import CellMask, Parameters, Procedure, Progress, Record, Steps
from bench.procedures.bit_error import random_weights
from bench.procedures.measuring import measure
from bench.procedures.tables import (
    CELL,
    PATTERNS,
    RESISTANCES,
    SENSES,
    ProgrammedState,
    pattern_record,
    sense_records,
)
from data.runs import Column, Table
from drivers.chip import Chip
from models.cells import DeviceMask, Weights, lrs_devices
from models.exceptions import UserMistake

XNOR_ROWS = Table(
    "xnor_rows",
    (
        Column("pattern", "int32", description="index of the pattern in the array"),
        Column("sign", "int8", description="inputs of each row are its weights times this; at a zero the sign alone"),
        Column("repeat", "int32", description="index of the sense"),
        Column(
            "sum", "int16", dims=("row",), description="sum of the row; sign times its weights but zeros with no error"
        ),
    ),
    "XNOR of each row with its own weights, and with their inverse, where the whole array is characterised",
)


XNOR_INPUTS = Table(
    "xnor_inputs",
    (
        Column("pattern", "int32", description="index of the pattern in the array"),
        Column("input", "int8", description="input of every column"),
        Column("repeat", "int32", description="index of the sense"),
        Column("sum", "int16", dims=("row",), description="sum of each row; input times the sum of its weights"),
    ),
    "XNOR of ternary patterns with one input for all columns: a zero that reads right, at +1, may answer at -1",
)

XNOR_CELLS = Table(
    "xnor_cells",
    (
        Column("pattern", "int32", description="index of the pattern in the array"),
        Column("repeat", "int32", description="index of the sense"),
        Column(
            "sum", "int16", dims=CELL, description="sum of the row with an input of -1 in this column and +1 beside"
        ),
    ),
    "XNOR of ternary patterns with one column at a time at -1: what each cell by itself answers there",
)


class CharacteriseParameters(Parameters):
    """Parameters of a characterisation."""

    seed: int = Field(default=0, ge=0, description="seed of the patterns and of the sample of devices")
    weights: Literal["binary", "ternary"] = Field(
        default="binary", description="values of the random patterns; ternary where the sense tells zeros"
    )
    pairs: int = Field(default=2, ge=2, le=100, description="pairs of a random pattern and its inverse")
    repeats: int = Field(default=20, ge=2, le=1000, description="senses of each pattern")
    xnor_repeats: int = Field(default=5, ge=0, le=1000, description="XNOR of each row of each pattern; 0 for none")
    attempts: int = Field(
        default=3, ge=1, le=100, description="programming passes over a cell at most; error rates hold for as many"
    )
    resistance_cells: int = Field(
        default=64, ge=4, le=100000, description="cells whose two devices are measured in each pattern"
    )
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
    """Patterns, senses and resistances of each, then the weak-RESET staircase."""
    rng = np.random.default_rng(parameters.seed)
    sample = _draw(cells, parameters, rng)
    patterns = 2 * parameters.pairs
    total = patterns + (parameters.staircase_points + 1)
    raw_errors = failed = done = 0
    measured = _devices(chip, sample.resistance)
    for _ in range(parameters.pairs):
        weights = random_weights(parameters.weights, chip.geometry, rng)
        for target in (weights, -weights):
            yield Progress(done, total, f"pattern {done + 1} of {patterns}")
            programming = chip.program(target, used=cells, attempts=parameters.attempts)
            yield pattern_record(done, programming)
            yield sense_records(done, chip.read(parameters.repeats))
            if cells.all() and parameters.xnor_repeats > 0:
                yield _xnor_rows(chip, done, target, parameters.xnor_repeats)
                if parameters.weights == "ternary":
                    yield _xnor_inputs(chip, done, parameters.xnor_repeats)
                    yield _xnor_cells(chip, done, parameters.xnor_repeats)
            raw_errors += programming.raw_errors
            failed += programming.failed
            state = np.where(lrs_devices(target), np.int8(ProgrammedState.LRS), np.int8(ProgrammedState.HRS))
            yield from measure(chip, measured, state, f"resistances of pattern {done + 1} of {patterns}", pattern=done)
            done += 1
    walking = _devices(chip, sample.staircase)
    chip.set(walking)
    for point in range(parameters.staircase_points + 1):
        pulses = point * parameters.staircase_step
        text = f"weak-RESET staircase, {pulses} pulses"
        yield Progress(done, total, text)
        if point > 0:
            chip.weak_reset(walking, parameters.staircase_step)
        yield from measure(chip, walking, ProgrammedState.LRS, text, pulses=pulses, staircase=True)
        done += 1
    yield Progress(total, total, "characterised")
    return {"patterns": patterns, "raw_errors": raw_errors, "failed": failed, "cells": int(cells.sum())}


def _xnor_rows(chip: Chip, pattern: int, target: Weights, repeats: int) -> Record:
    rows, cols = target.shape
    signs, numbers = (each.ravel() for each in np.meshgrid((1, -1), np.arange(repeats), indexing="ij"))
    inputs = (signs.astype(np.int8)[:, None, None] * np.where(target == 0, np.int8(1), target)).reshape(-1, cols)
    # every vector meets all rows; only the row that it was made for is wanted
    own = chip.xnor(inputs).reshape(-1, rows, rows).diagonal(axis1=1, axis2=2)
    return Record(
        "xnor_rows",
        {"pattern": np.full(len(signs), pattern), "sign": signs, "repeat": numbers, "sum": own},
        many=True,
    )


def _xnor_inputs(chip: Chip, pattern: int, repeats: int) -> Record:
    signs, numbers = (each.ravel() for each in np.meshgrid((1, -1), np.arange(repeats), indexing="ij"))
    inputs = np.repeat(signs.astype(np.int8)[:, None], chip.geometry.cols, axis=1)
    values = {"pattern": np.full(len(signs), pattern), "input": signs, "repeat": numbers, "sum": chip.xnor(inputs)}
    return Record("xnor_inputs", values, many=True)


def _xnor_cells(chip: Chip, pattern: int, repeats: int) -> Record:
    rows, cols = chip.geometry
    one_turned = (1 - 2 * np.eye(cols)).astype(np.int8)
    sums = chip.xnor(np.tile(one_turned, (repeats, 1))).reshape(repeats, cols, rows)
    values = {"pattern": np.full(repeats, pattern), "repeat": np.arange(repeats), "sum": sums.transpose(0, 2, 1)}
    return Record("xnor_cells", values, many=True)


def _devices(chip: Chip, sample: NDArray[np.int64]) -> DeviceMask:
    """Both devices of some cells, ``(n, 2)`` rows and columns."""
    devices = chip.no_devices()
    devices[sample[:, 0], sample[:, 1]] = True
    return devices


CHARACTERISE = Procedure(
    "characterise",
    "measure what a device fit needs: patterns, repeated senses, resistances, a weak-RESET staircase",
    CharacteriseParameters,
    (PATTERNS, SENSES, XNOR_ROWS, XNOR_INPUTS, XNOR_CELLS, RESISTANCES),
    characterise,
)
