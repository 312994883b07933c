"""What a run file says of its run, as plain data: shown on the command line, put into reports, compared."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from data.run_listing import summarise
from data.runs import Column, Run, RunStatus, Table
from drivers.chip import Outcome
from models.exceptions import UserMistake

JSON_ATTRIBUTES = ("parameters", "instruments", "seeds", "versions", "operating_points")
KNOWN = (
    *JSON_ATTRIBUTES,
    "schema",
    "schema_version",
    "procedure",
    "started",
    "bench_file",
    "bench_name",
    "simulated",
    "chip_id",
    "cells",
    "temperature_c",
    "host",
    "process_id",
    "platform",
    "resumes",
)


def facts(run: Run) -> dict[str, Any]:
    """Everything but the records.

    Returns:
        Plain data by name: where it came from, how it ended, ``parameters``, ``operating_points`` ``{point: {key:
        value}}``, ``instruments``, ``versions``, ``seeds``, ``result``, ``tables``, ``other`` attributes. What the file
        does not say is empty or None.
    """
    attributes, ending, summary = run.attributes, run.ending, summarise(run.path)
    temperature_c = attributes.get("temperature_c")
    if isinstance(temperature_c, str):
        raise UserMistake(f"{run.path} is damaged: its temperature_c is {temperature_c!r}")
    parsed = {name: _parsed(attributes.get(name)) for name in JSON_ATTRIBUTES}
    return {
        "file": str(run.path),
        "bytes": run.path.stat().st_size,
        "procedure": run.procedure,
        "started": str(attributes["started"]),
        "ended": ending.ended,
        "seconds": round(summary.seconds, 3),
        "status": ending.status.value,
        "reason": ending.reason,
        "resumes": summary.resumes,
        "in_doubt": in_doubt(run),
        "chip_id": summary.chip,
        "cells": summary.cells,
        "bench_name": str(attributes.get("bench_name", "")),
        "simulated": None if "simulated" not in attributes else bool(attributes["simulated"]),
        "temperature_c": temperature_c,
        **parsed,
        "operating_points": parsed["operating_points"] or _points_of_bench_file(str(attributes.get("bench_file", ""))),
        "result": run.result,
        "host": str(attributes.get("host", "")),
        "platform": str(attributes.get("platform", "")),
        "other": {name: value for name, value in attributes.items() if name not in KNOWN},
        "tables": {name: table_facts(run, table) for name, table in run.tables.items()},
    }


def in_doubt(run: Run) -> int:
    """Operations that were sent and never acknowledged: nobody knows whether they acted."""
    if "operations" not in run.tables:
        return 0
    return int((run.read("operations", ["outcome"])["outcome"] == Outcome.IN_DOUBT).sum())


def table_facts(run: Run, table: Table) -> dict[str, Any]:
    """A table: how many records, and what each column is."""
    return {
        "description": table.description,
        "rows": run.rows(table.name),
        "columns": {column.name: _column_facts(run, column) for column in table.columns},
    }


def _column_facts(run: Run, column: Column) -> dict[str, Any]:
    return {
        "type": str(column.numpy_dtype),
        "dims": {dim: len(run.coordinates[dim].array) for dim in column.dims},
        "unit": column.units,
        "description": column.description,
        "choices": None if column.flags is None else list(column.flags.values()),
    }


def _parsed(text: object) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(str(text))
    except ValueError:
        return {"text": str(text)}
    return found if isinstance(found, dict) else {"value": found}


def _points_of_bench_file(text: str) -> dict[str, Any]:
    try:
        return dict(tomllib.loads(text).get("operating_points", {}))
    except tomllib.TOMLDecodeError:
        return {}


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with names like ``SET.vddc_v``."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def brief(value: object, most: int = 200) -> str:
    """A value for people: five digits, and no more of a long list than fits a line or two."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not known"}[value]
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, Mapping):
        text = ", ".join(f"{name} {brief(each)}" for name, each in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        text = ", ".join(
            f"({brief(each)})" if isinstance(each, Mapping | list | tuple) else brief(each) for each in value
        )
        text = text if value else "none"
    else:
        text = str(value)
    return text if len(text) <= most else f"{text[:most].rstrip()} ... ({_size(value, text)})"


def _size(value: object, text: str) -> str:
    return f"{len(text)} characters" if isinstance(value, str | Mapping) else f"{len(value)} in all"  # type: ignore[arg-type]


def lines_of(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The facts of a run as lines of name and value, for people; tables apart."""
    doubt = known["in_doubt"]
    lines = [
        ("run file", known["file"]),
        ("when", f"{local(known['started'])}, {known['seconds']:.1f} s"),
        ("ended", " ".join(filter(None, [known["status"], f"({known['reason']})" if known["reason"] else ""]))),
        ("in doubt", "nothing" if doubt == 0 else f"{doubt} operations were sent and never acknowledged"),
        ("goes on with", known["resumes"]),
        ("chip", known["chip_id"]),
        ("bench", f"{known['bench_name']}{', simulated' if known['simulated'] else ''}"),
        ("temperature", "" if known["temperature_c"] is None else f"{known['temperature_c']:.1f} °C at the start"),
        ("cells", "" if known["cells"] is None else str(known["cells"])),
        ("parameters", "\n".join(f"{name} = {brief(value)}" for name, value in known["parameters"].items())),
        ("result", "\n".join(f"{name}: {brief(value)}" for name, value in known["result"].items())),
        ("operating points", "\n".join(f"{name}: {brief(value)}" for name, value in known["operating_points"].items())),
        ("instruments", "\n".join(f"{role}: {who}" for role, who in known["instruments"].items())),
        ("seeds", brief(known["seeds"])),
        ("versions", brief(known["versions"])),
        ("computer", ", ".join(filter(None, [known["host"], known["platform"]]))),
        *((name, brief(value)) for name, value in known["other"].items()),
    ]
    return [(name, value) for name, value in lines if value]


def table_lines(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The tables of a run as lines of name and columns, for people."""
    lines = []
    for name, table in known["tables"].items():
        count = "1 record" if table["rows"] == 1 else f"{table['rows']} records"
        texts = [f"{count}: {table['description']}".rstrip(": ")]
        for column, about in table["columns"].items():
            unit = "" if about["unit"] == "1" else f" [{about['unit']}]"
            shape = "".join(f" {dim} {size}" for dim, size in about["dims"].items())
            choices = f" ({' | '.join(about['choices'])})" if about["choices"] else ""
            texts.append(f"  {column}{unit}{' per' + shape if shape else ''}: {about['description']}{choices}")
        lines.append((name, "\n".join(texts)))
    return lines


def local(iso: str) -> str:
    """A moment in the time of this computer."""
    return f"{datetime.fromisoformat(iso).astimezone():%Y-%m-%d %H:%M:%S}"


def parse_rows(text: str) -> slice:
    """``A:B``, ``A:``, ``:B`` or a single number as a slice. Raises UserMistake for anything else."""
    first, colon, last = text.partition(":")
    try:
        if not colon:
            row = int(first)
            return slice(row, row + 1 if row != -1 else None)
        return slice(*(int(part) if part.strip() else None for part in (first, last)))
    except ValueError:
        raise UserMistake(f"--rows {text!r}: write A:B, such as 0:20, or -10: for the last ten") from None


def plain_records(run: Run, table: str, rows: slice) -> dict[str, list[Any]]:
    """Records as plain data: choices as words, NaN as None, infinities as ``"inf"`` and ``"-inf"``."""
    found = run.read(table, rows=rows)
    return {name: _plain(values, run.tables[table].column(name)) for name, values in found.items()}


def cell_text(value: Any) -> str:
    """One value of :func:`plain_records` for people; of an array its shape and range."""
    if not isinstance(value, list):
        return brief(value) if isinstance(value, float) else "nan" if value is None else str(value)
    array = np.array(value, dtype=object)
    shape = "x".join(str(size) for size in array.shape)
    plain = [each for each in array.ravel() if isinstance(each, int | float)]
    if not plain:
        return f"{shape} of {', '.join(sorted({str(each) for each in array.ravel()})[:4])}"
    if array.size <= 8:
        return f"[{' '.join(brief(each) if isinstance(each, float) else str(each) for each in array.ravel())}]"
    return f"{shape}: {brief(min(plain))} to {brief(max(plain))}, sum {brief(sum(plain))}"


def _plain(values: np.ndarray[Any, Any], column: Column) -> list[Any]:
    if column.flags is not None:
        words = np.array(list(column.flags.values()), dtype=object)
        return list(words[_positions(values, column.flags)].tolist())
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return list(values.tolist())
    kept = values.astype(object)
    kept[np.isnan(values)] = None
    kept[np.isposinf(values)] = "inf"
    kept[np.isneginf(values)] = "-inf"
    return list(kept.tolist())


def _positions(values: np.ndarray[Any, Any], flags: Mapping[int, str]) -> np.ndarray[Any, Any]:
    codes = np.array(list(flags))
    order = np.argsort(codes)
    return np.asarray(order[np.searchsorted(codes[order], values)])


def ended_early(known: Mapping[str, Any]) -> bool:
    """Whether the run came to another end than its procedure's own."""
    return known["status"] not in (RunStatus.COMPLETED, RunStatus.RUNNING)
