"""The self-test of the sense amplifiers: four patterns in a formed array, and which columns cannot read them."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from bench.procedure import CellMask, Parameters, Procedure, Progress, Steps
from bench.procedures.tables import PATTERNS, SENSES, pattern_record, sense_records
from drivers.chip import Chip
from drivers.self_test import PatternReading, amplifier_patterns, judge_amplifiers


class AmplifierParameters(Parameters):
    """Parameters of the self-test of the sense amplifiers."""

    repeats: int = Field(default=5, ge=2, le=1000, description="senses of each pattern")
    amplifier_rows: int = Field(
        default=0, ge=0, le=1024, description="rows that share an amplifier, where arrays are stacked; 0 for all rows"
    )


def amplifiers(chip: Chip, parameters: AmplifierParameters, cells: CellMask) -> Steps:
    """Program all 0, all 1, a checkerboard and its inverse, once each, and sense them.

    One pass without retries: the cells of a broken column would only be worn by more of them.
    """
    patterns = amplifier_patterns(chip.geometry)
    readings = []
    for done, (name, target) in enumerate(patterns.items()):
        yield Progress(done, len(patterns), f"pattern: {name}")
        yield pattern_record(done, chip.program(target, used=cells, attempts=1))
        senses = chip.read(parameters.repeats)
        yield sense_records(done, senses)
        readings.append(PatternReading(name, target, senses))
    rows = parameters.amplifier_rows
    report = judge_amplifiers(readings, np.asarray(cells), None if rows == 0 else rows)
    yield Progress(len(patterns), len(patterns), report.verdict.answer)
    return {
        "amplifiers": report.amplifiers,
        "faulty": [
            {"column": one.column, "first_row": one.first_row, "last_row": one.last_row, "fault": one.fault.value}
            for one in report.faulty
        ],
        "broken_cells": [list(cell) for cell in report.broken_cells],
        "ok": report.ok,
        "answer": report.verdict.answer,
        "try": report.verdict.remedy,
    }


AMPLIFIERS = Procedure(
    "amplifiers",
    "program four patterns into a formed array and name the columns whose sense amplifier is stuck or random",
    AmplifierParameters,
    (PATTERNS, SENSES),
    amplifiers,
)
