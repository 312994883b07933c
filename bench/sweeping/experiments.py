"""The experiments that a sweep can run. Each is a model of its settings and a pure function of settings and seed.

What a point gives back are plain numbers by name. Everything that can be refused is refused by :meth:`Experiment.check`
before the first point is begun.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.config import explain
from bench.run_facts import flat
from bench.session import SIMULATED, connect, simulated_bench
from bench.source import at_points, bench_config
from bench.stages import Quiet, StagedRuns
from bench.stopping import StopToken
from bench.sweeping.points import digest_of
from data.device_files import DeviceFile, Quantity, load_device
from models.device_model import SCHEMA, unknown_key
from models.exceptions import UserMistake
from models.prediction import InferenceMode

if TYPE_CHECKING:
    from bench.recovery import Campaign
    from data.datasets import Dataset
    from models.integer import IntegerNetwork

Numbers = dict[str, float]
Sizes = Field(default=None, ge=1, le=1024)
_MODES = (InferenceMode.HOST, InferenceMode.XNOR)


class Settings(BaseModel):
    """Settings of an experiment: no key that it does not know.

    Attributes:
        input_fields: those that name files, which must be the same on every host and to the end of the sweep.
        folder_fields: those that name folders.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    input_fields: ClassVar[tuple[str, ...]] = ()
    folder_fields: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Check settings. Raises UserMistake for the first mistake."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UserMistake(explain(error)) from None

    @property
    def inputs(self) -> list[Path]:
        """The files that are read."""
        return [Path(value) for name in self.input_fields if (value := getattr(self, name)) is not None]


class OnExamples(Settings):
    """Settings of what a network classifies.

    Attributes:
        network: network file.
        data: name of the data set.
        data_dir: folder of data sets; None for that of RRAM_BENCH_DATA.
        samples: only the first so many of the test set; None for all.
        modes: ways of inferring.
    """

    input_fields: ClassVar[tuple[str, ...]] = ("network",)
    folder_fields: ClassVar[tuple[str, ...]] = ("data_dir",)

    network: str
    data: str = "digits"
    data_dir: str | None = None
    samples: int | None = Field(default=None, ge=1)
    modes: tuple[InferenceMode, ...] = Field(default=_MODES, min_length=1)

    def examples(self) -> Dataset:
        """The data set, with the test samples that are asked for."""
        return _dataset(self.data, self.data_dir).first_tests(self.samples)


class ReproduceSettings(Settings):
    """A system of the source papers, see ``rram-bench reproduce list``."""

    folder_fields = ("data_dir",)

    system: str
    quick: bool = True
    device: Literal["cpu", "cuda"] = "cpu"
    data_dir: str | None = None


class PredictSettings(OnExamples):
    """An accuracy predicted from a device file.

    Attributes:
        device: fitted device file.
        quantities: numbers put in place of those of the file, known exactly: ``{"read_error.random_rate": 1e-3}``.
        bench: bench file whose array and operating points count.
        rows, cols: of the array; those of the bench file where None.
    """

    input_fields = ("network", "device", "bench")

    device: str
    quantities: dict[str, float] = Field(default_factory=dict)
    bench: str | None = None
    rows: int | None = Sizes
    cols: int | None = Sizes


class ConfirmSettings(OnExamples):
    """A prediction and its confirmation on a fresh simulated chip, whose seed is that of the point.

    Attributes:
        chip: kind of chip; the usual one where None.
        device: device file of the chip's population; that of the kind of chip where None.
        at: operating points: ``{"SENSE.window_s": 2e-8}``.
        placed: weights are placed where stuck and weak cells do least harm.
    """

    input_fields = ("network", "device")

    chip: Literal["kilobit", "ternary", "array64"] | None = None
    device: str | None = None
    at: dict[str, float] = Field(default_factory=dict)
    placed: bool = True


class RecoverySettings(Settings):
    """A chip with parameters drawn at random, measured and fitted, see :mod:`bench.recovery`.

    Attributes:
        fit: name of the campaign.
        rows, cols: of the selection of cells; those of the campaign where None.
        parameters: of its procedures, in place of those of the campaign.
    """

    fit: Literal["weak-reset", "resistance", "bit-error", "sense"]
    rows: int | None = Sizes
    cols: int | None = Sizes
    parameters: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """What can be run at each point.

    Attributes:
        name: what the sweep file says.
        settings: model of the settings.
        work: does it: settings and seed to numbers.
        refuse: raises UserMistake for settings that could not be run; nothing is started.
        shown: patterns of the results that a report shows by default.
        unit: of a result, by its name.
    """

    name: str
    settings: type[Settings]
    work: Callable[[Any, int], Numbers]
    refuse: Callable[[Any], None]
    shown: str
    unit: Callable[[str], str] = lambda name: "1"

    def check(self, values: Mapping[str, Any]) -> Settings:
        """Settings that could be run. Raises UserMistake for any others."""
        settings = self.settings.parse(values)
        self.refuse(settings)
        return settings

    def run(self, values: Mapping[str, Any], seed: int) -> Numbers:
        """Run it at a point; the same values and seed give the same numbers."""
        return self.work(self.settings.parse(values), seed)


def experiment(name: str) -> Experiment:
    """The experiment called ``name``. Raises UserMistake, with those there are, for another name."""
    if name not in EXPERIMENTS:
        raise UserMistake(f"no experiment is called {name!r}; there are: {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


@lru_cache(maxsize=2)
def _dataset(name: str, folder: str | None) -> Dataset:
    from data.datasets import load_dataset

    return load_dataset(name, None if folder is None else Path(folder))


@lru_cache(maxsize=8)
def _network_of(path: str, digest: str) -> IntegerNetwork:
    from data.networks import load_network

    return load_network(path).network


@lru_cache(maxsize=8)
def _device_of(path: str, digest: str) -> DeviceFile:
    return load_device(path)


def _network(settings: OnExamples) -> IntegerNetwork:
    """The network, read once for all points; again where the file changed."""
    return _network_of(settings.network, digest_of(Path(settings.network)))


@lru_cache(maxsize=64)
def _fit_together(path: str, digest: str, name: str, folder: str | None) -> None:
    """Raise UserMistake for a network that cannot classify these data; looked at once for all points."""
    from bench.inference import inference_task

    data = _dataset(name, folder)
    inference_task(_network_of(path, digest), data.test_images, data.test_labels)


def _check_examples(settings: OnExamples) -> None:
    _fit_together(settings.network, digest_of(Path(settings.network)), settings.data, settings.data_dir)


def _check_reproduce(settings: ReproduceSettings) -> None:
    from bench.reproduce import system

    system(settings.system)


def _reproduce(settings: ReproduceSettings, seed: int) -> Numbers:
    from bench.reproduce import Context, Verdict, system

    with TemporaryDirectory(prefix="rram-bench-sweep-") as folder:
        data_dir = None if settings.data_dir is None else Path(settings.data_dir)
        found = system(settings.system).run(
            Context(
                settings.quick,
                seed,
                Path(folder),
                data_dir,
                settings.device,
                lambda text, fraction: None,
                lambda: False,
            )
        )
    holds = [row.verdict is not Verdict.NOT_REPRODUCED for row in found.rows]
    numbers: Numbers = {"rows": len(holds), "rows holding": sum(holds)}
    for row, good in zip(found.rows, holds, strict=True):
        # what was accepted is no part of the name, and rows that are told apart by it alone are counted
        name = told = re.sub(r" *\(accepted:[^)]*\)|; accepted:[^)]*", "", row.what).replace("/", " per ").strip()
        count = 1
        while f"{name}: holds" in numbers:
            count += 1
            name = f"{told} ({count})"
        numbers[f"{name}: holds"] = good
        if not isinstance(row.ours, str):
            numbers[name] = row.ours
    return numbers


def _device(settings: PredictSettings) -> DeviceFile:
    device = _device_of(settings.device, digest_of(Path(settings.device)))
    for key in settings.quantities:
        if key not in SCHEMA:
            raise UserMistake(f"quantities: {unknown_key(key)}")
    return device.updated(
        {
            key: Quantity(value, SCHEMA[key].unit, "sweep file", "proposed", value, value)
            for key, value in settings.quantities.items()
        }
    )


def _check_predict(settings: PredictSettings) -> None:
    from bench.predicting import error_rates

    _check_examples(settings)
    device = _device(settings)
    if not _network(settings).ternary:
        error_rates(device)
    if settings.bench is not None:
        bench_config(settings.bench)


def _predict(settings: PredictSettings, seed: int) -> Numbers:
    from bench.predicting import bench_and_array, predict_silicon

    network, data = _network(settings), settings.examples()
    config, array = bench_and_array(network, settings.bench, settings.rows, settings.cols)
    found = predict_silicon(network, data, _device(settings), array, seed, config, settings.modes)
    numbers = {"software_accuracy": network.accuracy(data.test_images, data.test_labels)}
    for mode, one in found.items():
        numbers |= {f"{mode}.{name}": value for name, value in one.interval.items()}
    return numbers


def _check_confirm(settings: ConfirmSettings) -> None:
    _check_examples(settings)
    if settings.device is not None:
        load_device(settings.device)
    if settings.chip is None:  # the bench file of another kind is known once that chip is served
        at_points(bench_config(SIMULATED), settings.at)


def _confirm(settings: ConfirmSettings, seed: int) -> Numbers:
    from bench.confirming import Confirming, Wanted

    device = settings.device
    wanted = Wanted(_network(settings), settings.examples(), settings.modes, placed=settings.placed)
    with (
        TemporaryDirectory(prefix="rram-bench-sweep-") as folder,
        simulated_bench(seed, None if device is None else Path(device), chip=settings.chip) as (config, text),
        connect(at_points(config, settings.at), text) as bench,
    ):
        result = Confirming(StagedRuns(bench, seed, Path(folder), Quiet(), StopToken()), wanted).confirm(True)
    kept = {name: result[name] for name in ("software_accuracy", "samples", "stuck_cells", "tiles", "errors", "cells")}
    every = flat({**kept, **result["modes"]})
    return {name: float(value) for name, value in every.items() if isinstance(value, int | float)}


def _check_recovery(settings: RecoverySettings) -> None:
    from bench.procedures import find_procedure

    for name, values in _campaign(settings).procedures:
        find_procedure(name).parse(values)


def _campaign(settings: RecoverySettings) -> Campaign:
    from bench.recovery import CAMPAIGNS

    campaign = CAMPAIGNS[settings.fit]
    sizes = {name: value for name in ("rows", "cols") if (value := getattr(settings, name)) is not None}
    procedures = tuple((name, {**values, **settings.parameters}) for name, values in campaign.procedures)
    return replace(campaign, procedures=procedures, **sizes)


def _recovery(settings: RecoverySettings, seed: int) -> Numbers:
    from bench.recovery import one_chip

    chip = one_chip(settings.fit, seed, _campaign(settings))
    if not chip.found:
        raise UserMistake(chip.problem)
    numbers: Numbers = {"converged": not chip.problem}
    for key, (truth, value, low, high) in chip.found.items():
        numbers |= {f"{key}.truth": truth, f"{key}.value": value, f"{key}.low": low, f"{key}.high": high}
        numbers[f"{key}.inside"] = low <= truth <= high
    return numbers


def _recovered_unit(name: str) -> str:
    key, _, kind = name.rpartition(".")
    known = kind in ("truth", "value", "low", "high") and key in SCHEMA
    return SCHEMA[key].unit if known else "1"


EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        one.name: one
        for one in (
            Experiment("reproduce", ReproduceSettings, _reproduce, _check_reproduce, "rows*"),
            Experiment("predict", PredictSettings, _predict, _check_predict, "*.mean"),
            Experiment("confirm", ConfirmSettings, _confirm, _check_confirm, "*.measured"),
            Experiment("recovery", RecoverySettings, _recovery, _check_recovery, "*.inside", _recovered_unit),
        )
    }
)
"""Name to experiment."""

__all__ = ["EXPERIMENTS", "Experiment", "Settings", "experiment"]
