"""What differs between runs, and what each came to."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from bench.run_facts import facts, flat
from data.runs import Run
from models.exceptions import UserMistake

CONDITIONS = ("procedure", "status", "in_doubt", "chip_id", "bench_name", "simulated", "temperature_c", "cells", "host")
SECTIONS = ("parameters", "operating_points", "instruments", "versions", "seeds", "other")
ABSENT = None


def compare(runs: Sequence[Run]) -> dict[str, Any]:
    """What differs between at least two runs, and their results side by side.

    Returns:
        ``runs``: their files; ``differences``: ``{section: {name: [value of each run]}}`` with what differs only;
        ``same``: names of the sections without any; ``results``: ``{name: [value of each run]}``, all of them. A value
        that a run does not have is None.

    Raises:
        UserMistake: fewer than two runs, or a damaged file.
    """
    if len(runs) < 2:
        raise UserMistake("name two runs to compare, or more")
    known = [facts(run) for run in runs]
    sections: dict[str, list[Mapping[str, Any]]] = {
        "run": [{name: each[name] for name in CONDITIONS} for each in known],
        **{section: [each[section] for each in known] for section in SECTIONS},
        "bench file": [_bench_file(run) for run in runs],
    }
    differences = {name: _differing(values) for name, values in sections.items()}
    results = [flat(each["result"]) for each in known]
    return {
        "runs": [str(run.path) for run in runs],
        "differences": {name: differing for name, differing in differences.items() if differing},
        "same": [name for name, differing in differences.items() if not differing],
        "results": {name: [each.get(name, ABSENT) for each in results] for name in _names(results)},
    }


def _bench_file(run: Run) -> dict[str, Any]:
    """The bench file without its operating points, which have a section of their own."""
    text = str(run.attributes.get("bench_file", ""))
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {"text": text}
    content.pop("operating_points", None)
    return content


def _differing(values: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    flattened = [flat(each) for each in values]
    rows = {name: [each.get(name, ABSENT) for each in flattened] for name in _names(flattened)}
    return {name: row for name, row in rows.items() if any(each != row[0] for each in row[1:])}


def _names(values: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for each in values for name in each))
