"""The network that the workspace Network is about: shared by its controls and its view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PyQt5.QtCore import QObject, pyqtSignal

from bench.gui.answers import INFERENCE, RunningAccuracy
from bench.gui.controller import Controller
from bench.gui.jobs import Job, OpenNetwork, RunEnd
from bench.gui.network_tuning import ToLearn, ToTune
from bench.gui.network_work import (
    Announced,
    Foretold,
    Planned,
    Shown,
    Source,
    ToConfirm,
    ToInfer,
    Training,
    mode_lines,
    open_network,
    plan_for,
    show_answers,
    unused_network_file,
)
from bench.gui.run_folder import RunFolder
from bench.gui.time_left import Left
from bench.procedure import Progress
from bench.procedures.characterise import CHARACTERISE
from data.runs import RunStatus
from models.prediction import InferenceMode

OPEN, TRAIN, PLAN, PREDICT, CONFIRM, ANSWERS = (
    "Open network",
    "Train",
    "Plan of the network",
    "Predict accuracy",
    "Confirm",
    "Open inference run",
)
SAVE_PLAN = "Save plan"
DIGITS = Source("digits")


class NetworkStudy(QObject):
    """What is done with the open network. There is one for each controller.

    Signals:
        plan_changed(): another plan, or it is being worked out.
        training_changed(): another epoch, or a new training.
        accuracy_changed(): another prediction, or more samples were answered.
        shown_changed(): the answers of another run are shown, or none.

    Attributes:
        source: data set that networks are opened, trained and tested with.
        planned: how the open network lies on the array; None until that is worked out.
        defects: run files that tell of the chip's cells; None for the last characterisation of the chip.
        placed: whether weights are laid around known defects.
        plan_file: plan that was opened; None where one is made.
        epochs: of the training under way or the last one: number, share right held out, share right while learning.
        training: what it is called; empty before the first.
        foretold: what was predicted for the run under way, or the last one; None where nothing was asked.
        running: the accuracy so far.
        stage: what the run is doing; empty while there is none.
        at_work: the network of the run under way; None while there is none.
        shown: the run whose answers are shown; None for none.
        confirmed: what the last confirmation came to; None where the answers shown are of something else.
    """

    plan_changed = pyqtSignal()
    training_changed = pyqtSignal()
    accuracy_changed = pyqtSignal()
    shown_changed = pyqtSignal()

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller)
        self._controller, self._folder = controller, RunFolder.of(controller)
        self.source = DIGITS
        self.planned: Planned | None = None
        self.defects: tuple[Path, ...] | None = None
        self.placed = True
        self.plan_file: Path | None = None
        self.epochs: list[tuple[int, float, float]] = []
        self.training = ""
        self.foretold: Foretold | None = None
        self.running = RunningAccuracy()
        self.stage = ""
        self.shown: Shown | None = None
        self.confirmed: dict[str, Any] | None = None
        self._planned_with: object = None
        self.at_work: OpenNetwork | None = None
        controller.network_changed.connect(self._on_network)
        controller.bench_changed.connect(self.plan)
        self._folder.changed.connect(self._on_runs)
        controller.progressed.connect(self._on_progressed)
        controller.stepped.connect(self._on_stepped)
        controller.run_over.connect(self._on_run_over)

    @staticmethod
    def of(controller: Controller) -> NetworkStudy:
        """The one of this controller."""
        known = controller.findChild(NetworkStudy)
        return known if isinstance(known, NetworkStudy) else NetworkStudy(controller)

    def open(self, file: Path) -> None:
        """Open a network file with the data set that is chosen."""
        source = self.source
        self._controller.study(OPEN, lambda *_: open_network(file, source))

    def train(self, name: str, epochs: int, seed: int, with_errors: bool = False) -> None:
        """Train a network on the data set that is chosen, save it among the runs, and open it."""
        device = self._controller.device if with_errors else None
        wise = "" if device is None else f"-{device.stem}"
        what = f"{name}-on-{self.source.name}-{epochs}-epochs-seed-{seed}{wise}"
        out = unused_network_file(self._controller.folder, what)
        training = Training(name, self.source, epochs, seed, device, out)
        if self._controller.studying is None:
            self.training, self.epochs = f"{name} on {self.source.name}, {epochs} epochs, seed {seed}", []
            self.training_changed.emit()
        self._controller.study(f"{TRAIN} {name}", training.work)

    def runs_of_chip(self) -> tuple[Path, ...]:
        """The runs that tell of the chip's cells: those chosen, else its last characterisation."""
        bench = self._controller.bench
        if self.defects is not None:
            return self.defects
        listed = () if bench is None or self._folder.listed is None else self._folder.listed
        for one in listed:
            found = one.summary
            if (
                found is not None
                and bench is not None
                and (found.procedure, found.chip, found.status)
                == (CHARACTERISE.name, bench.chip_id, RunStatus.COMPLETED)
            ):
                return (one.path,)
        return ()

    def choose_defects(self, runs: tuple[Path, ...] | None) -> None:
        """Take what is known of the chip's cells from these runs; None for its last characterisation."""
        self.defects = runs
        self.plan()

    def place(self, placed: bool) -> None:
        """Lay weights around known defects, or as they come."""
        self.placed = placed
        self.plan()

    def use_plan(self, file: Path | None) -> None:
        """Lay the network as this plan file says; None to make a plan again. What it does not fit is refused."""
        self.plan_file = file
        self.plan()

    def save_plan(self, path: Path) -> None:
        """Save how the network lies on the array, as ``rram-bench map`` does."""
        from bench.plan_files import save_plan

        facts = None if self.planned is None else self.planned.facts
        if facts is None:
            self._controller.complain(SAVE_PLAN, "there is no plan yet")
            return
        done = f"{len(facts.plan.tiles)} tiles; {path}"
        self._controller.write(
            SAVE_PLAN, lambda: save_plan(path, facts.plan), lambda _: self._controller.tell(SAVE_PLAN, done)
        )

    def plan(self, asked: bool = False) -> None:
        """Work out how the open network lies on the array, off the window's thread."""
        self.planned = None
        self.plan_changed.emit()
        work = self._planning(asked)
        if work is None:
            return
        if asked:
            self._controller.study(PLAN, lambda *_: work(), self._take_plan)
        else:
            self._controller.read(PLAN, work, self._take_plan)

    def _planning(self, asked: bool) -> Callable[[], Planned] | None:
        opened, bench = self._controller.network, self._controller.bench
        if opened is None:
            return None
        config, chip_id = (None, None) if bench is None else (bench.config, bench.chip_id)
        runs, placed, file = self.runs_of_chip(), self.placed, self.plan_file
        self._planned_with = runs
        return lambda: plan_for(opened, config, chip_id, runs, placed, asked, file)

    def why_not(self) -> str:
        """Why nothing can be programmed now; empty where it can."""
        if self._controller.network is None:
            return "no network is open"
        if self._controller.bench is None:
            return "no bench is connected"
        if self.planned is not None and self.planned.facts is None:
            return self.planned.trouble or "the plan is not worked out yet; press Plan"
        return ""

    def infer(self, settings: Mapping[str, Any], samples: int | None = None, predict: bool = False) -> None:
        """Program the open network tile by tile and infer its test set; ``predict`` the accuracy before."""
        if self._plans_first(lambda: self.infer(settings, samples, predict)):
            return
        asked = self._to_infer(settings, samples)
        if asked is None:
            return
        if not predict:
            self._forget()
            self._infer(asked, None)
        elif self._controller.busy is not None:
            self._controller.complain(PREDICT, f"{self._controller.busy.title!r} is still under way; wait or stop it")
        else:
            self._forget()
            begin = self._unless_off(lambda found: self._infer(asked, found))
            self._controller.study(PREDICT, asked.foretell, begin, Foretold.text)

    def _unless_off(self, begin: Callable[[Any], None]) -> Callable[[Any], None]:
        """``begin``, unless the outputs were switched off or the bench was left meanwhile: then nothing may begin."""
        controller = self._controller
        bench, offs = controller.bench, controller.offs

        def later(found: Any) -> None:
            if controller.bench is bench and controller.offs == offs:
                begin(found)
            else:
                why = "the outputs were switched off" if controller.bench is bench else "the bench was left"
                controller.complain("Network", f"not begun: {why} meanwhile; press the button again")

        return later

    def _plans_first(self, then: Callable[[], None]) -> bool:
        """Whether the plan is not there yet; ``then`` follows once it is."""
        work = self._planning(asked=True) if self.planned is None and not self.why_not() else None
        if work is None:
            return False

        begin = self._unless_off(lambda _: then())

        def take(planned: Planned) -> None:
            self._take_plan(planned)
            if self.planned is planned:
                begin(planned)

        self._controller.study(PLAN, lambda *_: work(), take)
        return True

    def _to_infer(self, settings: Mapping[str, Any], samples: int | None) -> ToInfer | None:
        opened, bench, planned = self._controller.network, self._controller.bench, self.planned
        why = self.why_not()
        if why or opened is None or bench is None or planned is None or planned.facts is None:
            self._controller.complain("Infer", why)
            return None
        return ToInfer(
            opened,
            planned.facts.plan,
            planned.known,
            planned.runs,
            settings,
            samples,
            self._controller.device,
            bench.seed,
            bench.config,
            bench.chip_id,
        )

    def _infer(self, asked: ToInfer, foretold: Foretold | None) -> None:
        self.foretold = foretold
        self.accuracy_changed.emit()
        folder, tiles = self._controller.folder, len(asked.plan.tiles)
        if self._controller.busy is None:
            self.at_work = asked.opened
        self._controller.on_bench(
            f"Infer {asked.opened.network.name}",
            lambda bench, stop, report: asked.infer(folder, bench, stop, report),
            self._on_inferred,
            f"{tiles} tiles",
        )

    def confirm(
        self, modes: tuple[InferenceMode, ...], samples: int | None, form_first: bool, measure: bool = True
    ) -> None:
        """Measure the chip, place, predict, program, infer, and put down what went wrong to its causes."""
        opened, bench = self._controller.network, self._controller.bench
        if opened is None or bench is None:
            self._controller.complain(CONFIRM, "it needs a connected bench and an open network")
            return
        why = self.why_not() if self.plan_file is not None else ""
        if why or (self.plan_file is not None and self.planned is None):
            self._controller.complain(CONFIRM, why or "the plan is still being looked at")
            return
        facts = None if self.plan_file is None or self.planned is None else self.planned.facts
        if self._controller.busy is None:
            self._forget()
            self.at_work = opened
        runs = () if measure else self.runs_of_chip()
        plan = None if facts is None else facts.plan
        asked = ToConfirm(opened, plan, modes, runs, self.placed, samples, form_first, bench.seed)
        folder = self._controller.folder
        self._controller.on_bench(
            f"{CONFIRM} {opened.network.name}",
            lambda bench, stop, report: asked.work(folder, bench, stop, report),
            self._on_confirmed,
            "all cells",
        )

    def tune(self, settings: Mapping[str, Any], samples: int | None) -> None:
        """Fit thresholds and offsets of the open network to the sums of this chip, and open what comes of it."""
        if self._plans_first(lambda: self.tune(settings, samples)):
            return
        asked = self._to_infer({}, samples)
        if asked is None:
            return
        folder, opened = self._controller.folder, asked.opened
        out = unused_network_file(folder, f"{opened.file.stem}-tuned")
        tuning = ToTune(opened, asked.plan, settings, samples, out, asked.seed)
        self._controller.on_bench(
            f"Tune {opened.network.name}",
            lambda bench, stop, report: tuning.work(folder, bench, stop, report),
            self._on_tuned,
            f"{len(asked.plan.tiles)} tiles",
        )

    def learn(self, settings: Mapping[str, Any], samples: int | None) -> None:
        """Have the last layer of the open network learn on this chip, and open what comes of it."""
        opened, bench, folder = self._controller.network, self._controller.bench, self._controller.folder
        if opened is None or bench is None:
            self._controller.complain("Learn", "it needs a connected bench and an open network")
            return
        out = unused_network_file(folder, f"{opened.file.stem}-learned")
        learning = ToLearn(opened, settings, samples, out, bench.seed)
        self._controller.on_bench(
            f"Learn {opened.network.name}",
            lambda bench, stop, report: learning.work(folder, bench, stop, report),
            self._on_learned,
            "the last layer",
        )

    def open_answers(self, path: Path) -> None:
        """Show the answers of an inference run, older ones too."""
        opened, source = self._controller.network, self.source
        at_hand = None if opened is None else opened.data
        self._controller.read(ANSWERS, lambda: show_answers(path, at_hand, source), self._on_older)

    def _forget(self) -> None:
        """A new run begins: what was predicted and answered before is not of it."""
        self.foretold, self.shown, self.confirmed = None, None, None
        self.running, self.stage = RunningAccuracy(), ""
        self.accuracy_changed.emit()
        self.shown_changed.emit()

    def _on_network(self) -> None:
        if self.at_work is None:  # else what is predicted and answered is of the network that is on the array
            self._forget()
        self.plan_file = None  # a plan is of one network
        self.plan()

    def _on_runs(self) -> None:
        if self._controller.network is not None and self.runs_of_chip() != self._planned_with:
            self.plan()

    def _take_plan(self, planned: Planned) -> None:
        if planned.opened is self._controller.network:
            self.planned = planned
            self.plan_changed.emit()

    def _on_progressed(self, job: Job, step: Progress, left: Left | None) -> None:
        if job is self._controller.studying and "held_out" in step.live:
            live = step.live
            self.epochs.append((int(live["epoch"]), live["held_out"], live["training"]))
            self.training_changed.emit()

    def _on_stepped(self, steps: list[object]) -> None:
        if self.at_work is None:
            return
        changed = False
        for step in steps:
            if isinstance(step, Announced) and step.foretold is not None:
                self.foretold, changed = step.foretold, True
            elif isinstance(step, Progress):
                self.running.take(step)
                self.stage, changed = step.text, True
        if changed:
            self.accuracy_changed.emit()

    def _on_run_over(self, job: Job) -> None:
        if self.at_work is not None:
            self.at_work, self.stage = None, ""
            self.accuracy_changed.emit()

    def _on_inferred(self, run: RunEnd) -> None:
        if run.procedure == INFERENCE:
            self._read_own(run.result.run_file)

    def _on_confirmed(self, found: dict[str, Any]) -> None:
        self.confirmed = found
        inside = all(one["inside"] for one in found["modes"].values())
        (self._controller.tell if inside else self._controller.complain)(CONFIRM, mode_lines(found))
        self._read_own(Path(found["run_file"]))

    def _read_own(self, path: Path) -> None:
        opened, source = self._controller.network, self.source
        at_hand = None if opened is None else opened.data
        self._controller.read(ANSWERS, lambda: show_answers(path, at_hand, source), self._on_own)

    def _on_own(self, shown: Shown) -> None:
        self.shown = shown
        if not self.running.points:  # a network of several presentations tells nothing on the way
            self.running = RunningAccuracy.of(shown.answers)
        self.shown_changed.emit()

    def _on_older(self, shown: Shown) -> None:
        """What was predicted is not kept in run files: of an older run nothing is known of it."""
        self._forget()
        self.running = RunningAccuracy.of(shown.answers)
        self.shown = shown
        self.accuracy_changed.emit()
        self.shown_changed.emit()

    def _on_tuned(self, found: tuple[OpenNetwork, dict[str, Any]]) -> None:
        tuned, result = found
        held = result["held_out_accuracy"]
        shares = ", ".join(f"{name} {held[name]:.2%}" for name in ("software", "untuned", "tuned"))
        self._open_made(tuned)
        self._controller.tell(
            f"Tune {tuned.network.name}", f"on {result['held_out_samples']} held-out samples: {shares}; {tuned.file}"
        )

    def _on_learned(self, found: tuple[OpenNetwork, dict[str, Any]]) -> None:
        learned, result = found
        pulses = result["weak_resets_of_a_device"]["mean"]
        self._open_made(learned)
        self._controller.tell(
            f"Learn {learned.network.name}",
            f"{result['accuracy']:.2%} of {result['held_out_samples']} held-out samples on silicon after "
            f"{result['epochs']} epochs; {pulses:.0f} weak RESETs of a device on average; {learned.file}",
        )

    def _open_made(self, made: OpenNetwork) -> None:
        self._controller.network = made
        self._controller.network_changed.emit()
