"""Which bench is meant: a simulated one or a bench file, with the operating points that the user changed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.config import BenchFile, Points, explain, load_bench_file, parse_bench_file
from bench.session import SIMULATED, Bench, claim_bench, connect, simulated_bench
from data.runs import Run
from models.exceptions import UserMistake

Overrides = Mapping[str, float]
"""Changed operating points: ``{"SET.vddc_v": 3.3}``."""

_FURTHER = """
[pulse_source]
driver = "keysight-81160a"
resource = "of the simulated bench"

[temperature]
driver = "temptronic-ats545"
resource = "of the simulated bench"
"""


def bench_config(source: str | Path) -> BenchFile:
    """The bench file that ``source`` names ("simulated", or a path), read and checked; nothing is opened or started."""
    if str(source) != SIMULATED:
        return load_bench_file(Path(source))[0]
    text = (files("data") / "benches" / "simulated.toml").read_text(encoding="utf-8")
    # the chip gets its name when the bench is started
    text = text.replace('id = "@chip@"\n', "", 1)
    return parse_bench_file(text.replace("\n[chip]\n", _FURTHER + "\n[chip]\n", 1), "bench file of the simulated bench")


def check_apart(sources: Sequence[str]) -> None:
    """Refuse benches of which two would drive the same instrument or the same chip; nothing is opened.

    Simulated benches that a command starts itself are apart.

    Raises:
        UserMistake: a resource, or a chip, that two bench files name; or a bench file with a mistake.
    """
    claimed: dict[str, str] = {}
    for source in sources:
        if source == SIMULATED:
            continue
        config = bench_config(source)
        claims = {f"resource {key}": name for key, name in claim_bench(config).resources.items()}
        claims |= {} if config.chip.id is None else {f"chip {config.chip.id}": f"chip {config.chip.id}"}
        for key, name in claims.items():
            if key in claimed:
                raise UserMistake(
                    f"{name} is on both benches {claimed[key]} and {source}; each chip needs a bench of its own"
                )
            claimed[key] = source


def parse_overrides(settings: Sequence[str]) -> dict[str, float]:
    """Turn ``POINT.KEY=VALUE`` options into overrides. Raises UserMistake for anything of another form."""
    parsed: dict[str, float] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not equals or name.count(".") != 1 or not math.isfinite(value):
            raise UserMistake(f"--at {setting!r}: write it as POINT.KEY=NUMBER, such as SET.vddc_v=3.3")
        parsed[name] = value
    return parsed


def at_points(config: BenchFile, overrides: Overrides) -> BenchFile:
    """The same bench file at other operating points, checked like one that was written so.

    Raises:
        UserMistake: no such operating point or key, or a value outside the file's limits.
    """
    content: dict[str, Any] = config.model_dump(by_alias=True)
    points = content["operating_points"] = {
        name: values for name, values in content["operating_points"].items() if values is not None
    }
    for name, value in overrides.items():
        point, _, key = name.partition(".")
        if point not in points:
            raise UserMistake(f"--at {name}: no operating point of this bench is called {point!r}; {_listed(points)}")
        if key not in points[point]:
            raise UserMistake(f"--at {name}: {point} has no {key!r}; it has {', '.join(points[point])}")
        points[point][key] = float(value)
    try:
        return BenchFile.model_validate(content)
    except ValidationError as error:
        changed = ", ".join(f"{name}={value:g}" for name, value in overrides.items())
        raise UserMistake(f"--at {changed}: {explain(error)}") from None


def points_of(run: Run) -> dict[str, float]:
    """The operating points that were in force in a run, as overrides; empty where its file does not tell."""
    recorded = json.loads(str(run.attributes.get("operating_points", "{}")))
    return {f"{point}.{key}": value for point, values in recorded.items() for key, value in values.items()}


def points_json(points: Points) -> str:
    """All operating points as JSON, for the record."""
    return json.dumps(points.model_dump(exclude_none=True))


@contextmanager
def bench_at(
    source: str | Path, seed: int, overrides: Overrides, chip: str | None = None, wafer: int = 0
) -> Iterator[tuple[BenchFile, str]]:
    """The bench that ``source`` names, at its operating points with ``overrides``, and its file as written.

    Nothing is opened, but a simulated bench is served for the length of the block.

    Args:
        seed, chip, wafer: of the simulated bench, as in :func:`bench.session.simulated_bench`.

    Raises:
        UserMistake: a kind of simulated chip was asked for beside a bench file.
    """
    if str(source) == SIMULATED:
        with simulated_bench(seed, chip=chip, wafer=wafer) as (config, text):
            yield at_points(config, overrides), text
    elif chip is not None:
        raise UserMistake(f"--chip {chip} is of the simulated bench; the bench file {source} has its own")
    else:
        config, text = load_bench_file(Path(source))
        yield at_points(config, overrides), text


@contextmanager
def open_at(source: str | Path, seed: int, overrides: Overrides, chip: str | None = None) -> Iterator[Bench]:
    """Connect to the bench that ``source`` names; see :func:`bench_at`."""
    with bench_at(source, seed, overrides, chip) as (config, text), connect(config, text) as bench:
        yield bench


def _listed(names: Mapping[str, object]) -> str:
    return f"there are {', '.join(names)}"
