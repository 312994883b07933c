"""What the workspace Network has done off the window's thread; each calls what the command line calls. No Qt here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config import BenchFile
from bench.gui.answers import Answers, read_answers
from bench.gui.jobs import OpenNetwork, Report, RunEnd
from bench.gui.units import duration, si
from bench.mapping import Plan
from bench.procedure import Progress, Step
from bench.session import Bench
from bench.stopping import StopToken
from data.device_files import DeviceFile, default_device, load_device
from data.runs import open_run
from models.cells import Geometry
from models.exceptions import UserMistake
from models.prediction import InferenceMode, Prediction

if TYPE_CHECKING:
    from bench.error_map import ErrorMap
    from bench.plan_facts import PlanFacts
    from data.datasets import Dataset

ONNX = ".onnx"
TILES_AT_ONCE = 2000
"""A plan of so many tiles is worked out without being asked for."""


@dataclass(frozen=True)
class Source:
    """A data set as it is chosen: its name, and the folder of data sets or None for the usual one."""

    name: str
    folder: Path | None = None

    def load(self) -> Dataset:
        """Read it. Raises UserMistake."""
        from data.datasets import load_dataset

        return load_dataset(self.name, self.folder)


@dataclass(frozen=True)
class Training:
    """A training as it was asked for.

    Attributes:
        name: of the architecture.
        device: file of the device whose read errors the weights have while learning; None for none.
        out: network file.
    """

    name: str
    source: Source
    epochs: int
    seed: int
    device: Path | None
    out: Path

    def work(self, stop: StopToken, report: Report) -> OpenNetwork:
        """Train, save and open."""
        from bench.loop import train_network
        from bench.runner import prepare_folder
        from data.networks import load_network

        device = None if self.device is None else load_device(self.device)
        prepare_folder(self.out.parent)
        report(Progress(0, self.epochs, f"loading {self.source.name}"))
        data = self.source.load()
        network = train_network(self.name, data, self.seed, self.out, report, stop, self.epochs, device)
        accuracy = network.accuracy(data.test_images, data.test_labels)
        return OpenNetwork(network, data, accuracy, self.out, load_network(self.out).provenance)


def unused_network_file(folder: Path, stem: str) -> Path:
    """A network file called ``stem``, numbered where there is one already: what was made before is never replaced."""
    numbered = (folder / f"{stem}{'' if number == 1 else f'-{number}'}.safetensors" for number in count(1))
    return next(file for file in numbered if not file.exists())


def open_network(file: Path, source: Source) -> OpenNetwork:
    """Open a network file, or import an ONNX file, and the data set that it is to be inferred on.

    Raises:
        UserMistake: it is no network, or takes other samples than the data set has.
    """
    from data.networks import NetworkFile, load_network

    if file.suffix.lower() == ONNX:
        from models.onnx_import import import_onnx

        loaded = NetworkFile(import_onnx(file).network, {})
    else:
        loaded = load_network(file)
    network, data = loaded.network, source.load()
    features = network.encoding.features
    if features != data.test_images.shape[1]:
        raise UserMistake(
            f"{file}: {network.name} takes {features} values, and a sample of {data.name} has "
            f"{data.test_images.shape[1]}: it does not fit the data set {data.name}; choose the one it was trained for"
        )
    if network.classes < data.classes:
        raise UserMistake(
            f"{file}: {network.name} tells {network.classes} classes, and {data.name} has {data.classes}: it does not "
            f"fit the data set {data.name}; choose the one it was trained for"
        )
    return OpenNetwork(network, data, network.accuracy(data.test_images, data.test_labels), file, loaded.provenance)


@dataclass(frozen=True)
class Planned:
    """How a network lies on the array.

    Attributes:
        opened: the network.
        facts: the plan and what it takes; None where there is none.
        known: the chip's cells, as runs tell; None without such runs.
        runs: these runs.
        bench: name of the bench whose points and pace count.
        trouble: why there is no plan; empty where there is one.
        tiles: how many tiles the network takes as it comes.
    """

    opened: OpenNetwork
    facts: PlanFacts | None
    known: ErrorMap | None
    runs: tuple[Path, ...]
    bench: str
    trouble: str
    tiles: int


def plan_for(
    opened: OpenNetwork,
    config: BenchFile | None,
    chip_id: str | None,
    runs: Sequence[Path],
    placed: bool,
    asked: bool,
    file: Path | None = None,
) -> Planned:
    """Lay the network on the array; what is wrong with the runs is part of the answer.

    Args:
        config: of the connected bench; None for the usual one.
        runs: that tell of the cells of this chip.
        placed: lay the weights around known defects.
        asked: whether a person waits for it: a large plan is worked out only then.
        file: plan that was made before; None to make one.
    """
    from bench.error_map import error_map
    from bench.plan_facts import usual_bench, work_out
    from bench.plan_files import load_plan

    at = usual_bench() if config is None else config
    tiles = tiles_of(opened, at.geometry)
    try:
        known = error_map([open_run(path) for path in runs]) if runs else None
        if known is not None:
            known.check(at.geometry, chip_id)
        given = None if file is None else load_plan(file)
        if given is not None:
            given.check(opened.network, at.geometry, chip_id)
        if tiles > TILES_AT_ONCE and not asked:
            return Planned(opened, None, known, tuple(runs), at.name, "", tiles)
        facts = work_out(opened.network, at, known, placed, given)
        return Planned(opened, facts, known, tuple(runs), at.name, "", tiles)
    except UserMistake as error:
        return Planned(opened, None, None, tuple(runs), at.name, str(error), tiles)


def tiles_of(opened: OpenNetwork, array: Geometry) -> int:
    """How many tiles a network takes as it comes."""
    shapes = (layer.weights.shape for layer in opened.network.layers)
    return sum(-(-rows // array.rows) * -(-cols // array.cols) for rows, cols in shapes)


def span(seconds: float) -> str:
    """A time that a plan takes, short ones with an SI prefix."""
    return duration(seconds) if seconds >= 10 else si(seconds, "s", 2)


@dataclass(frozen=True)
class Foretold:
    """What was predicted before an inference.

    Attributes:
        modes: the accuracy in each way of inferring; none where nothing can be predicted.
        source: what it was predicted from.
        trouble: why nothing was predicted; empty where something was.
        samples: how many samples it is about.
    """

    modes: Mapping[str, Prediction]
    source: str
    trouble: str
    samples: int

    def text(self) -> str:
        """In one line."""
        if self.trouble:
            return f"no prediction: {self.trouble}"
        found = (f"{mode} {one.mean:.2%} (95 %: {one.low:.2%} to {one.high:.2%})" for mode, one in self.modes.items())
        return f"{'; '.join(found)}; from {self.source}"

    def inside(self, mode: str, measured: float) -> bool | None:
        """Whether an accuracy lies within the interval; None where nothing was predicted for this way."""
        one = self.modes.get(mode)
        return None if one is None else one.low <= measured <= one.high


@dataclass(frozen=True)
class ToInfer:
    """An inference as it was asked for.

    Attributes:
        plan: how the network lies on the array.
        runs: that tell of the cells of this chip; ``known``: what they say.
        settings: of inference.
        samples: how many, or None for all.
        device: device file to predict from where no run tells of this chip; None for the packaged one.
        seed: of the prediction.
    """

    opened: OpenNetwork
    plan: Plan
    known: ErrorMap | None
    runs: tuple[Path, ...]
    settings: Mapping[str, Any]
    samples: int | None
    device: Path | None
    seed: int
    config: BenchFile
    chip_id: str

    @property
    def modes(self) -> tuple[InferenceMode, ...]:
        """Ways of inferring, each once."""
        from bench.inference import InferenceParameters

        return tuple(dict.fromkeys(InferenceParameters.model_validate(dict(self.settings)).modes))

    def data(self) -> Dataset:
        """The data set with only so many test samples."""
        return self.opened.data.first_tests(self.samples)

    def foretell(self, stop: StopToken, report: Report) -> Foretold:
        """Predict the accuracies: from runs of this chip, else from the device file. Raises Stopped.

        That nothing can be predicted is part of the answer: it does not keep anybody from inferring.
        """
        from bench.confirming import known_by
        from bench.predicting import STAGE, measured_chips, predict, predict_silicon, progress_of

        network, data, modes = self.opened.network, self.data(), self.modes
        on_draw = progress_of(modes, report, stop)
        report(Progress(0, 1, STAGE))
        count = len(data.test_labels)
        try:
            if self.runs:
                known = known_by(self.runs, self.config.geometry, self.chip_id)
                chips = measured_chips(network, [self.plan], [known.chip])
                examples = data.test_images, data.test_labels
                found = predict(network, *examples, chips, modes, self.seed, on_draw, [self.plan])
                source = f"runs of this chip ({', '.join(path.name for path in self.runs)})"
            else:
                device, array = _device(self.device), self.config.geometry
                found = predict_silicon(network, data, device, array, self.seed, self.config, modes, on_draw)
                source = f"device file {device.name}, for any such chip"
        except UserMistake as error:
            return Foretold({}, "", str(error), count)
        return Foretold({mode.value: one for mode, one in found.items()}, source, "", count)

    def infer(self, folder: Path, bench: Bench, stop: StopToken, report: Report) -> RunEnd:
        """Program tile by tile and infer."""
        from bench.inference import inference_procedure, inference_task
        from bench.runner import run

        data = self.data()
        task = inference_task(self.opened.network, data.test_images, data.test_labels, self.plan, self.known)
        task.plan_for(bench.chip)
        procedure = inference_procedure(task)
        result = run(
            procedure, procedure.parse(self.settings), bench, folder, on_step=report, on_state=report, stop=stop
        )
        return RunEnd(procedure.name, result)


def _device(path: Path | None) -> DeviceFile:
    return default_device() if path is None else load_device(path)


@dataclass(frozen=True)
class Announced(Progress):
    """A stage of a confirmation begins or ended, or its prediction is there: told on the way, like all progress."""

    foretold: Foretold | None = None
    ended: bool = False


@dataclass
class ToldStages:
    """Tells the stages of a confirmation as progress."""

    report: Report
    _stage: str = field(default="", init=False)

    def stage(self, text: str) -> None:
        """A stage begins."""
        self._stage = text
        self.report(Announced(0, 1, text))

    def step(self, step: Step) -> None:
        """A record is on disk, or there is progress."""
        self.report(step)

    def done(self, text: str) -> None:
        """The stage ended."""
        self.report(Announced(1, 1, f"{self._stage}: {text}", ended=True))


@dataclass(frozen=True)
class ToConfirm:
    """A confirmation as it was asked for.

    Attributes:
        plan: one that was opened; None to make one with what is known of the chip.
        form_first: the chip is fresh from the wafer.
    """

    opened: OpenNetwork
    plan: Plan | None
    modes: tuple[InferenceMode, ...]
    runs: tuple[Path, ...]
    placed: bool
    samples: int | None
    form_first: bool
    seed: int

    def work(self, folder: Path, bench: Bench, stop: StopToken, report: Report) -> dict[str, Any]:
        """Measure the chip, place, predict, program, infer, attribute."""
        from bench.confirming import Confirming, Wanted
        from bench.stages import StagedRuns

        data = self.opened.data.first_tests(self.samples)
        count = len(data.test_labels)
        wanted = Wanted(self.opened.network, data, self.modes, self.runs, self.plan, self.placed)

        def on_predicted(plan: Plan, found: Mapping[InferenceMode, Prediction]) -> None:
            foretold = Foretold({mode.value: one for mode, one in found.items()}, "the cells of this chip", "", count)
            report(Announced(1, 1, f"predicted: {foretold.text()}", foretold=foretold))

        runs = StagedRuns(bench, self.seed, folder, ToldStages(report), stop, report)
        return Confirming(runs, wanted, on_predicted).confirm(self.form_first)


@dataclass(frozen=True, eq=False)
class Shown:
    """An inference run with its samples; ``data`` is None, and ``note`` says why, where they are not at hand."""

    answers: Answers
    data: Dataset | None
    note: str


def show_answers(path: Path, at_hand: Dataset | None, source: Source) -> Shown:
    """Read an inference run and find its samples: in the data set at hand, else in the one that is chosen.

    Raises:
        UserMistake: no inference run.
    """
    answers = read_answers(path)
    if at_hand is not None and answers.is_of(at_hand):
        return Shown(answers, at_hand, "")
    try:
        chosen = source.load()
    except UserMistake as error:
        return Shown(answers, None, f"The samples cannot be shown: {error}")
    if answers.is_of(chosen):
        return Shown(answers, chosen, "")
    note = f"These are not the samples of {source.name}; choose the run's data set on the right and open it again."
    return Shown(answers, None, note)


def mode_lines(found: Mapping[str, Any]) -> str:
    """What a confirmation came to, in one line."""
    lines = (
        f"{mode}: predicted {one['predicted']['low']:.2%} to {one['predicted']['high']:.2%}, "
        f"measured {one['measured']:.2%}, {'inside' if one['inside'] else 'OUTSIDE'}"
        for mode, one in found["modes"].items()
    )
    return "; ".join(lines)
