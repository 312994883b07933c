"""The sweep file: an experiment, settings that stay, conditions that vary, and seeds. Checked whole, every point of it.

    experiment = "predict"
    seeds = { first = 0, count = 5 }

    [settings]
    network = "network.safetensors"
    device = "device.toml"

    [grid]
    "quantities.read_error.random_rate" = [0.0, 1e-3, 1e-2]
    data = ["digits"]

    [sample]
    count = 40
    seed = 1
    [sample.ranges]
    "quantities.read_error.transient_rate" = { low = 1e-5, high = 1e-2, scale = "log" }

The points are all values of the grid, times all points of the sample, times all seeds.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import isfinite, prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from bench.config import explain
from bench.run_facts import flat
from bench.sweeping.experiments import Experiment, experiment
from bench.sweeping.points import Task, digest_of
from models.exceptions import UserMistake

MOST_POINTS = 1_000_000
LARGEST_SEED = 2**32 - 1
Seed = Annotated[int, Field(strict=True, ge=0, le=LARGEST_SEED)]
Value = bool | int | float | str


class Section(BaseModel):
    """A table of the sweep file: no key that we do not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Seeds(Section):
    """Seeds that count up."""

    first: Seed = 0
    count: int = Field(strict=True, ge=1, le=MOST_POINTS)


class Span(Section):
    """What a sampled condition is drawn from.

    Attributes:
        scale: uniform, or uniform in the logarithm.
        integer: whole numbers only, both ends included.
    """

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    scale: Literal["linear", "log"] = "linear"
    integer: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        if self.scale == "log" and self.low <= 0.0:
            raise ValueError("low must be above 0 on a log scale")
        if self.integer and (self.low != int(self.low) or self.high != int(self.high)):
            raise ValueError("low and high must be whole numbers")
        return self

    def at(self, share: float) -> float | int:
        """The value at a share of the span, from 0 to below 1."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.integer else (self.low, self.high)
        value = low * (high / low) ** share if self.scale == "log" else low + (high - low) * share
        if self.integer:
            return int(min(max(round(value), self.low), self.high))
        return float(min(max(value, self.low), self.high))


class Sample(Section):
    """Conditions that are drawn together.

    Attributes:
        count: of points.
        seed: of the draws.
        method: a Latin hypercube, or independent draws.
        ranges: condition to its span.
    """

    count: int = Field(strict=True, ge=1, le=MOST_POINTS)
    seed: Seed = 0
    method: Literal["latin", "random"] = "latin"
    ranges: dict[str, Span] = Field(min_length=1)

    def draw(self) -> list[dict[str, float | int]]:
        """The points of the sample."""
        from scipy.stats import qmc

        rng = np.random.default_rng(self.seed)
        columns = len(self.ranges)
        if self.method == "latin":
            shares = qmc.LatinHypercube(columns, rng=rng).random(self.count)
        else:
            shares = rng.random((self.count, columns))
        spans = self.ranges.items()
        return [{name: span.at(float(at)) for (name, span), at in zip(spans, row, strict=True)} for row in shares]


class Slurm(Section):
    """Jobs that Slurm is asked for with ``--slurm``; as dask-jobqueue takes them.

    Attributes:
        jobs: how many.
        cores: of each, one worker process on each core.
        memory: of each job, such as "16GB".
        walltime: of each job, such as "02:00:00". Points that a job did not finish run again in another.
        queue, account: partition and account, where the cluster wants them named.
        directives: further lines ``#SBATCH ...``, without that word.
        prologue: lines of shell before the worker starts, such as the activation of an environment.
        python: interpreter on the nodes; that of the client where None.
        interface: network interface of the nodes, such as "ib0".
    """

    jobs: int = Field(strict=True, ge=1)
    cores: int = Field(default=1, strict=True, ge=1)
    memory: str
    walltime: str = "01:00:00"
    queue: str | None = None
    account: str | None = None
    directives: list[str] = Field(default_factory=list)
    prologue: list[str] = Field(default_factory=list)
    python: str | None = None
    interface: str | None = None


class Content(Section):
    """A sweep file as it is written."""

    experiment: str
    seeds: Annotated[
        Annotated[list[Seed], Tag("list")] | Annotated[Seeds, Tag("range")],
        Discriminator(lambda given: "range" if isinstance(given, dict | Seeds) else "list"),
    ] = Field(default=[0])
    settings: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Any] = Field(default_factory=dict)
    sample: Sample | None = None
    slurm: Slurm | None = None

    @model_validator(mode="before")
    @classmethod
    def _flat_ranges(cls, values: Any) -> Any:
        """Take ``[grid.at.SENSE]`` as well as ``"at.SENSE.window_s"``."""
        if not isinstance(values, dict):
            return values
        if isinstance(values.get("grid"), dict):
            values = {**values, "grid": flat(values["grid"])}
        return values


@dataclass(frozen=True)
class Point:
    """A point of a sweep.

    Attributes:
        index: in the order of the sweep.
        conditions: what varies, by dotted name.
        seed: of every random draw.
        settings: of the experiment.
    """

    index: int
    conditions: Mapping[str, Value]
    seed: int
    settings: Mapping[str, Any]

    @property
    def text(self) -> str:
        """For people."""
        return ", ".join(
            [*(f"{name} = {shown(value)}" for name, value in self.conditions.items()), f"seed {self.seed}"]
        )


@dataclass(frozen=True)
class Sweep:
    """A sweep that was checked.

    Attributes:
        path: of its file.
        text: of its file.
        experiment: what runs at each point.
        points: all of them.
        inputs: files that are read, by absolute path, with their SHA-256.
        slurm: what is asked of Slurm, or None.
    """

    path: Path
    text: str
    experiment: Experiment
    points: Sequence[Point]
    inputs: Mapping[str, str]
    slurm: Slurm | None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that the results depend on, which comments, folders and Slurm are not."""
        digests = set(self.inputs.values())
        digest = hashlib.sha256(json.dumps([self.experiment.name, sorted(digests)]).encode())
        places = self.experiment.settings.input_fields + self.experiment.settings.folder_fields
        for point in self.points:
            settings = {name: value for name, value in point.settings.items() if name not in places}
            files = [self.inputs.get(str(point.settings.get(name))) for name in self.experiment.settings.input_fields]
            digest.update(json.dumps([point.seed, settings, files], sort_keys=True).encode())
        return digest.hexdigest()

    def tasks(self, indices: Sequence[int]) -> list[Task]:
        """What workers are told of these points."""
        tasks = []
        for index in indices:
            point = self.points[index]
            named = (point.settings.get(name) for name in self.experiment.settings.input_fields)
            inputs = {str(path): self.inputs[str(path)] for path in named if path is not None}
            tasks.append(Task(index, self.experiment.name, point.settings, point.seed, inputs))
        return tasks


def load_sweep(path: Path) -> Sweep:
    """Read a sweep file and check every point of it.

    Raises:
        UserMistake: anything that any of its points would be refused for; nothing was started.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = Content.model_validate(tomllib.loads(text))
    except OSError as error:
        raise UserMistake(f"sweep file {path}: {error.strerror}; name an existing file") from None
    except UnicodeDecodeError:
        raise UserMistake(f"sweep file {path}: this is no text; name a TOML file") from None
    except ValidationError as error:
        raise UserMistake(f"sweep file {path}: {explain(error)}") from None
    except ValueError as error:
        raise UserMistake(f"sweep file {path}: {' '.join(str(error).split())}") from None
    try:
        chosen = experiment(content.experiment)
        points = list(_points(content, chosen, path.absolute().parent))
        inputs: dict[str, str] = {}
        checked: Mapping[str, Any] | None = None
        for point in points:
            if point.settings is checked:
                continue  # it differs from the one before in its seed alone
            checked = point.settings
            try:
                settings = chosen.check(point.settings)
            except UserMistake as mistake:
                raise UserMistake(f"point {point.index} ({point.text}): {mistake}") from None
            inputs |= {str(file): digest_of(file) for file in settings.inputs if str(file) not in inputs}
    except UserMistake as mistake:
        raise UserMistake(f"sweep file {path}: {mistake}") from None
    return Sweep(path, text, chosen, points, inputs, content.slurm)


def _points(content: Content, chosen: Experiment, folder: Path) -> Iterator[Point]:
    grid, sample = content.grid, content.sample
    for name, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserMistake(f"grid: {name} must be a list of values, such as [1, 2]")
        if not all(isinstance(value, Value) for value in values):
            raise UserMistake(f"grid: {name} lists something that is neither number, text nor true or false")
        if len({(isinstance(value, bool), value) for value in values}) < len(values):
            raise UserMistake(f"grid: {name} lists a value twice; repeat points with more seeds")
        if not all(isinstance(value, str) or isfinite(value) for value in values):
            raise UserMistake(f"grid: {name} lists something that is not finite")
    seeds = content.seeds
    if isinstance(seeds, Seeds):
        seeds = list(range(seeds.first, seeds.first + seeds.count))
        if seeds[-1] > LARGEST_SEED:
            raise UserMistake(f"seeds: {seeds[-1]} is above {LARGEST_SEED}")
    if len(set(seeds)) != len(seeds) or not seeds:
        raise UserMistake("seeds: list each seed once, and one at least")
    count = prod(len(values) for values in grid.values()) * (1 if sample is None else sample.count) * len(seeds)
    if count > MOST_POINTS:
        raise UserMistake(f"it has {count} points; at most {MOST_POINTS} are allowed")
    fixed = flat(content.settings)
    names = [*fixed, *grid, *(() if sample is None else sample.ranges)]
    for name in names:
        if names.count(name) > 1:
            raise UserMistake(f"{name} is given more than once, among settings, grid and sample")
    drawn = [{}] if sample is None else sample.draw()
    index = 0
    for values in product(*grid.values()):
        for one in drawn:
            conditions: dict[str, Value] = {**dict(zip(grid, values, strict=True)), **one}
            settings = _placed(_nested({**fixed, **conditions}), chosen, folder)
            for seed in seeds:
                yield Point(index, conditions, seed, settings)
                index += 1


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names as a table of what is before the first dot."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        first, dot, rest = name.partition(".")
        table = found.setdefault(first, {}) if dot else found
        if not isinstance(table, dict):
            raise UserMistake(f"{name}: {first} has a value already")
        table[rest if dot else name] = value
    return found


def _placed(settings: dict[str, Any], chosen: Experiment, folder: Path) -> dict[str, Any]:
    """Files and folders are named from where the sweep file lies."""
    for name in (*chosen.settings.input_fields, *chosen.settings.folder_fields):
        if isinstance(settings.get(name), str):
            settings[name] = str((folder / Path(settings[name]).expanduser()).absolute())
    return settings


def shown(value: Value) -> str:
    """A condition for people."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
