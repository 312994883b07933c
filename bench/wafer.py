"""A first look at a wafer: form and characterise one die after the other, fit each, and keep what was found.

The order is what keeps dies and needles whole: the needles move only while every output is confirmed to be off. Each
die gets a session of its own, so that it begins with a bench that has just said who it is.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

from bench.config import BenchFile
from bench.console import duration
from bench.lock import BenchLock
from bench.procedures.characterise import CHARACTERISE, CharacteriseParameters
from bench.procedures.forming import FORMING, QUICK, FormingParameters
from bench.provenance import PACKAGES
from bench.run_facts import brief
from bench.runner import prepare_folder
from bench.safe import SafeReport, SafeStep, safe_step
from bench.session import Bench, Connector, claim_bench, connect, die_name, make_safe
from bench.stages import StagedRuns, Stages
from bench.states import RunState
from bench.stopping import StopToken
from bench.wafer_results import FILE, Criteria, DieRecord, WaferRecord, load_wafer
from calibration.device_fit import fit_device
from calibration.estimate import Estimate
from data.device_files import default_device, save_device
from data.run_storage import RunLock
from data.runs import open_run
from drivers.errors import LimitError, LinkError, ReplyError, TakenAway, WrongInstrument
from drivers.prober_role import Die, Prober
from models.exceptions import BenchFailure, UserMistake

USABLE = 0.5
"""A die of which fewer cells formed is not characterised: there is nothing to fit."""

DEAD_IN_A_ROW = 5
"""So many dies without one working cell, one after the other, are rather needles that have lost contact."""

_BENCH_FAULTS = (LinkError, ReplyError, WrongInstrument, LimitError, TakenAway)
"""Faults of the bench, and not of a die: they end the run."""


class Forming(StrEnum):
    """How the dies are formed.

    AUTO is the ramp, and WEIGHTS on a simulated bench; NONE is for dies that were formed before.
    """

    AUTO = "auto"
    RAMP = "ramp"
    WEIGHTS = "weights"
    NONE = "none"


@dataclass(frozen=True)
class Asked:
    """How the dies of a wafer are measured.

    Attributes:
        seed: of patterns and samples, the same on every die.
        forming: how they are formed.
        characterise: parameters of the characterisation.
        criteria: what a good die must show.
        dies: only these; None for all of the prober's map.
        again: dies that failed are measured once more.
    """

    seed: int
    forming: Forming
    characterise: CharacteriseParameters
    criteria: Criteria
    dies: tuple[Die, ...] | None = None
    again: bool = False


def measure_wafer(
    config: BenchFile,
    text: str,
    folder: Path,
    asked: Asked,
    stages: Stages,
    stop: StopToken,
    on_die: Callable[[WaferRecord], None] = lambda record: None,
    on_state: Callable[[RunState], None] = lambda state: None,
) -> WaferRecord:
    """Go over the dies of a wafer; what was found stands in ``folder`` after each of them.

    A folder with a wafer is gone on with: dies that it has are left alone, but for failed ones that are asked for
    again.

    Args:
        config, text: a bench with a prober, and its file as written.
        on_die: told after each die.
        on_state: told of each change of state of the run under way, see :func:`bench.runner.run`.

    Raises:
        UserMistake: no prober, a die that is not on its map, or a folder of another wafer or other settings.
        Stopped: a stop was asked for; the outputs are off, the needles lifted, and finished dies kept.
        BenchFailure: the bench failed, or many dies in a row were dead. Finished dies are kept.
    """
    if config.prober is None:
        raise UserMistake(f"bench {config.name!r} has no [prober]; add one to its file, see docs/wafer.md")
    prepare_folder(folder)
    with _owned(folder), BenchLock([config.prober.resource]):
        prober = Connector(config).prober()
        assert prober is not None
        try:
            return _Tour(config, text, folder, asked, stages, stop, on_die, on_state, prober).go()
        finally:
            prober.close()


@contextmanager
def _owned(folder: Path) -> Iterator[None]:
    """Keep all others from writing the wafer of this folder: each would replace what the other found."""
    lock = RunLock(folder / FILE)
    if not lock.acquire():
        raise UserMistake(f"another process measures the wafer in {folder}; wait for it, or name another with --out")
    try:
        yield
    finally:
        lock.release()


@dataclass
class _Tour:
    """One go over the dies."""

    config: BenchFile
    text: str
    folder: Path
    asked: Asked
    stages: Stages
    stop: StopToken
    on_die: Callable[[WaferRecord], None]
    on_state: Callable[[RunState], None]
    prober: Prober
    _hot: SafeReport | None = field(default=None, init=False)
    """A safe state that was not confirmed: the needles stay where they are."""

    def go(self) -> WaferRecord:
        """Measure all dies that are asked for and not known yet."""
        self.stages.stage("lifting the needles")
        self._switch_off()
        self.prober.separate()
        route = self.prober.dies
        wanted = route if self.asked.dies is None else self.asked.dies
        for die in wanted:
            if die not in route:
                raise UserMistake(
                    f"die {die} is not selected on the prober's wafer map; it has {brief([*map(str, route)])}"
                )
        record = self._begin(route)
        known = record.record_of
        left = [die for die in wanted if die not in known or (self.asked.again and known[die].failed)]
        self.stages.done(f"{self.prober.identify()}: {len(route)} dies, {len(left)} to be measured")
        dead, began = 0, time.monotonic()
        for number, die in enumerate(left, start=1):
            self.stop.check()
            each_s = (time.monotonic() - began) / (number - 1) if number > 1 else 0.0
            to_go = f", about {duration(each_s * (len(left) - number + 1))} left" if each_s else ""
            self.stages.stage(f"die {die}, {number} of {len(left)}{to_go}")
            found = self._one(die)
            record = record.with_die(found)
            record.save(self.folder)
            self.on_die(record)
            faults = record.criteria.faults(found)
            self.stages.done(f"die {die}: {'good' if not faults else '; '.join(faults)}")
            dead = 0 if found.parameters or found.formed_cells else dead + 1
            if dead == DEAD_IN_A_ROW and number < len(left):
                raise BenchFailure(
                    f"{dead} dies in a row, the last one {die}, have no working cell: have the needles lost contact? "
                    "Look at them; the same command goes on with the next die, and with --again measures these too"
                )
        return record

    def _switch_off(self) -> None:
        """Outputs off before the needles move for the first time: a program that died may have left them on."""
        electrical = self.config.model_copy(update={"prober": None})
        with claim_bench(electrical):
            report = make_safe(electrical)
        if not report.confirmed:
            raise BenchFailure(f"the needles do not move, as not all outputs are known to be off: {report}")

    def _begin(self, route: tuple[Die, ...]) -> WaferRecord:
        """The wafer's record, with what is known of it already."""
        settings = {
            "seed": self.asked.seed,
            "forming": self._forming.model_dump() if self._forming else None,
            "characterise": self.asked.characterise.model_dump(),
            "operating_points": self.config.operating_points.model_dump(exclude_none=True),
        }
        if not (self.folder / FILE).exists():
            record = WaferRecord(
                wafer=self.config.wafer,
                bench_name=self.config.name,
                simulated=self.config.simulated,
                started=_now(),
                settings=settings,
                versions={"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
                criteria=self.asked.criteria,
                route=route,
            )
            record.save(self.folder)
            return record
        known = load_wafer(self.folder)
        for what, was, now in (
            ("wafer", known.wafer, self.config.wafer),
            ("bench", known.bench_name, self.config.name),
            ("wafer map", known.route, route),
            *((name, known.settings.get(name), value) for name, value in settings.items()),
        ):
            if was != now:
                raise UserMistake(
                    f"{self.folder} holds a wafer with another {what} ({brief(was, 60)}; now {brief(now, 60)}); name "
                    "another folder with --out, or give the same again"
                )
        return known.model_copy(update={"criteria": self.asked.criteria})

    @property
    def _forming(self) -> FormingParameters | None:
        how = self.asked.forming
        if how is Forming.AUTO:
            how = Forming.WEIGHTS if self.config.simulated else Forming.RAMP
        return {Forming.WEIGHTS: QUICK, Forming.RAMP: FormingParameters(), Forming.NONE: None}[how]

    def _one(self, die: Die) -> DieRecord:
        """Touch a die, measure it, lift off again, and fit it."""
        began, started = time.monotonic(), _now()
        found = _Found(self.config.geometry.rows * self.config.geometry.cols)
        folder = self.folder / die_folder(die)
        self.prober.step(die)
        try:
            self.prober.contact()
            self._measure(folder, found)
        except BaseException as error:
            error.add_note(f"that was on die {die}")
            self._lift_after(error)
            raise
        self.prober.separate()
        if found.run_file is not None:
            self._fit(folder, found)
        return DieRecord(
            die=die,
            chip_id=die_name(self.config, die),
            failed=found.failed,
            cells=found.cells,
            formed_cells=found.formed,
            parameters=found.parameters,
            device_file=found.device_file,
            started=started,
            seconds=round(time.monotonic() - began, 3),
        )

    def _lift_after(self, error: BaseException) -> None:
        """Lift the needles on the way out, unless the die may be under voltage."""
        if self._hot is not None:
            error.add_note(f"the needles were left on the die, as not all outputs are known to be off: {self._hot}")
            return
        lifted = safe_step("prober", self.prober.separate)
        if not lifted.confirmed:
            error.add_note(str(lifted))

    def _measure(self, folder: Path, found: _Found) -> None:
        """Form and characterise the die under the needles.

        Raises:
            Stopped: somebody asked for that.
            RramBenchError: the bench failed. What may be the die's own fault is put down as that.
        """
        try:
            with self._connected() as bench:
                runs = StagedRuns(bench, self.asked.seed, prepare_folder(folder), self.stages, self.stop, self.on_state)
                if self._forming is not None:
                    found.formed = runs.run_quietly(FORMING, self._forming, self.stages.step).result["formed"]
                    if found.formed < USABLE * found.cells:
                        found.failed = f"{found.formed} of {found.cells} cells formed"
                        return
                found.run_file = runs.run_quietly(CHARACTERISE, self.asked.characterise, self.stages.step).run_file
        except _BENCH_FAULTS:
            raise
        except BenchFailure as failure:
            if self._hot is not None:
                raise
            found.failed = str(failure)

    @contextmanager
    def _connected(self) -> Iterator[Bench]:
        """The bench, with the die under the needles. Raises BenchFailure when its outputs are not known to be off."""
        bench = connect(self.config, self.text, self.prober)
        self._hot = SafeReport((SafeStep("bench", False, "switching it off was interrupted"),))
        try:
            yield bench
        finally:
            report = bench.close()
            self._hot = None if report.confirmed else report
        if self._hot is not None:
            raise BenchFailure("the die was measured, and not all outputs are known to be off")

    def _fit(self, folder: Path, found: _Found) -> None:
        """Fit the device to what was measured; data that cannot support it are the die's fault."""
        assert found.run_file is not None
        try:
            fitted = fit_device(open_run(found.run_file), default_device())
        except UserMistake as mistake:
            found.failed = str(mistake)
            return
        path = folder / "device.toml"
        save_device(path, fitted.device)
        found.device_file = path.relative_to(self.folder).as_posix()
        found.parameters = {name: Estimate(**values) for name, values in fitted.parameters.items()}
        if not fitted.converged:
            found.failed = "the fit did not converge"


@dataclass
class _Found:
    """What has come of a die so far; see :class:`bench.wafer_results.DieRecord`."""

    cells: int
    formed: int | None = None
    failed: str = ""
    run_file: Path | None = None
    device_file: str | None = None
    parameters: dict[str, Estimate] = field(default_factory=dict)


def die_folder(die: Die) -> str:
    """Name of the folder of a die within that of its wafer."""
    return f"die_{die.column:+d}_{die.row:+d}"


def forming_of(text: str) -> Forming:
    """How dies are formed, by name. Raises UserMistake for any other."""
    try:
        return Forming(text)
    except ValueError:
        raise UserMistake(f"--forming {text!r}: choose one of {', '.join(Forming)}") from None


def parse_dies(text: str) -> tuple[Die, ...]:
    """Dies from ``COLUMN:ROW`` separated by commas.

    Raises:
        UserMistake: something else stands there, or a die twice.
    """
    dies = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d{1,4}):(-?\d{1,4})\s*", part)
        if match is None:
            raise UserMistake(f"--dies {text!r}: {part.strip()!r} is no die; write COLUMN:ROW, such as 0:0,-1:2")
        dies.append(Die(int(match[1]), int(match[2])))
    if len(set(dies)) < len(dies):
        raise UserMistake(f"--dies {text!r}: a die stands there twice")
    return tuple(dies)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
