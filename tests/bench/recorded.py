"""Run files of our procedures without a bench: made of records with known content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.procedure import SELECTION, Table
from bench.procedures import PROCEDURES
from bench.runner import DEVICES, TABLES
from data.runs import Run, RunWriter, open_run

ROWS, COLS = 4, 3
CELLS = np.ones((ROWS, COLS), dtype=np.uint8)
POINTS = {
    "SET": {"vdd_v": 1.2, "vddc_v": 3.5, "vddr_v": 3.0, "width_s": 1e-5},
    "DIRECT": {"vdd_v": 1.2, "vddc_v": 1.2, "vddr_v": 2.5, "read_v": 0.2, "compliance_a": 1e-3},
}
ATTRIBUTES: dict[str, Any] = {
    "parameters": json.dumps({"pulses": 3, "kind": "sense"}),
    "operating_points": json.dumps(POINTS),
    "bench_name": "bench of the tests",
    "simulated": 1,
    "bench_file": '[chip]\nrows = 4\ncols = 3\n[board]\nport = "COM3"\n',
    "chip_id": "CHIP-7",
    "instruments": json.dumps({"smu": "Keithley 2450, serial 5"}),
    "seeds": json.dumps({"seed": 4}),
    "versions": json.dumps({"rram-bench": "0.1.0"}),
    "cells": ROWS * COLS,
    "temperature_c": 25.0,
}

Rows = Mapping[str, Any]


def record(
    path: Path,
    procedure: str,
    records: Mapping[str, Rows],
    *,
    tables: tuple[Table, ...] | None = None,
    status: str = "completed",
    reason: str = "",
    result: Mapping[str, Any] | None = None,
    **attributes: Any,
) -> Run:
    """Write a run of ``procedure``; ``records`` are columns by table, scalars are repeated to the longest of them.

    Columns that are left out are zero.
    """
    own = PROCEDURES[procedure].tables if tables is None else tables
    dimensions = {"row": np.arange(ROWS), "col": np.arange(COLS), "device": DEVICES}
    with RunWriter(path, procedure, (*TABLES, *own), dimensions, ATTRIBUTES | attributes) as writer:
        writer.append(SELECTION.name, cells=CELLS)
        for name, rows in records.items():
            table = next(each for each in (*TABLES, *own) if each.name == name)
            count = max((len(values) for values in rows.values() if np.ndim(values)), default=1)
            columns = {}
            for column in table.columns:
                shape = (
                    count,
                    *(len(np.asarray(getattr(dimensions[dim], "array", dimensions[dim]))) for dim in column.dims),
                )
                columns[column.name] = np.broadcast_to(np.asarray(rows.get(column.name, 0), dtype=column.dtype), shape)
            writer.extend(name, **columns)
        writer.finish(status, reason, result)
    return open_run(path)


def devices(count: int = ROWS * COLS) -> dict[str, Any]:
    """Row, column and device of the first ``count`` cells, both devices of each."""
    cell, device = np.divmod(np.arange(2 * count), 2)
    return {"row": cell // COLS, "col": cell % COLS, "device": device}


def repeated(columns: Rows, **steps: Any) -> dict[str, Any]:
    """Every device at every step: columns of the devices tiled, those of the steps repeated."""
    count, length = len(next(iter(columns.values()))), len(next(iter(steps.values())))
    tiled = {name: np.tile(np.asarray(values), length) for name, values in columns.items()}
    return tiled | {name: np.repeat(np.asarray(values), count) for name, values in steps.items()}
