"""What the window asks for, as jobs: each calls the functions that the command line calls. No Qt here.

The session and the bench in it belong to the one thread that executes these jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from bench.config import BenchFile
from bench.jobs import Job as Prepared
from bench.procedure import CellMask, Procedure, Step
from bench.runner import RunResult, run
from bench.safe import SafeReport
from bench.session import Bench, open_bench
from bench.states import RunState
from bench.stopping import StopToken
from data.datasets import Dataset
from drivers.operating_points import RailVoltages
from drivers.roles import BoardStatus, ChannelReading, Identity
from drivers.temperature_role import TemperatureReading
from models.exceptions import UserMistake
from models.integer import IntegerNetwork

Told = Step | RunState
"""What a job tells on its way: steps of a run, and changes of its state."""

Report = Callable[[Told], None]


class Purpose(Enum):
    """What a job is for."""

    CONNECT = "connect"
    DISCONNECT = "disconnect"
    SAFE = "outputs off"
    RECONNECT = "open the links again"
    RAILS = "measure the rails"
    RUN = "run on the bench"
    STUDY = "work on this computer"
    READ = "read files"
    WRITE = "write a file"


def nothing(result: Any) -> None:
    """Nobody waits for what comes of a job."""


def done(result: Any) -> str:
    """There is no more to say of it."""
    return "done"


@dataclass(frozen=True, eq=False)
class Job:
    """Something to do off the window's thread.

    Attributes:
        purpose: what it is for.
        title: what it is, for the log.
        work: does it; takes a stop token and a place to report steps to. All that it depends on is fixed beforehand.
        cells: which cells it works on, for the log.
        then: gets in the window's thread what came of it.
        otherwise: gets there in one line why nothing came of it.
        say: what the log is to say of what came of it.
    """

    purpose: Purpose
    title: str
    work: Callable[[StopToken, Report], object]
    cells: str = ""
    then: Callable[[Any], None] = nothing
    otherwise: Callable[[str], None] = nothing
    say: Callable[[Any], str] = done


@dataclass(frozen=True)
class Connected:
    """A bench answered: its file, who answers in each role, and the chip in its socket."""

    source: str
    seed: int
    config: BenchFile
    identities: dict[str, Identity]
    chip_id: str


@dataclass(frozen=True)
class Disconnected:
    """The bench was left; how its instruments were switched off."""

    report: SafeReport


@dataclass(frozen=True)
class RailsSeen:
    """What a look at an idle bench found.

    Attributes:
        applied: what the rails were last set and confirmed to; None while off or unknown.
        readings: what they measure.
        board: counters of the board.
        answer_s: how long the board took to answer.
        temperature: at the chip; None on a bench without a source of it.
    """

    applied: RailVoltages | None
    readings: dict[str, ChannelReading]
    board: BoardStatus
    answer_s: float
    temperature: TemperatureReading | None


@dataclass(frozen=True)
class RunEnd:
    """A run completed: its result, and the procedure's name."""

    procedure: str
    result: RunResult


@dataclass(frozen=True)
class OpenNetwork:
    """A network, the samples to infer, how good it is on them in software, and where it came from."""

    network: IntegerNetwork
    data: Dataset
    software_accuracy: float
    file: Path
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, then the neurons of each layer."""
        layers = self.network.layers
        return (layers[0].inputs, *(layer.outputs for layer in layers))


class Session:
    """The bench that the window is connected to, if any."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bench: Bench | None = None

    @property
    def bench(self) -> Bench:
        """The connected bench. Raises UserMistake when there is none."""
        if self._bench is None:
            raise UserMistake("no bench is connected; press Connect first")
        return self._bench

    def connect(self, source: str, seed: int) -> Connected:
        """Connect to ``source``, a bench file or "simulated"; what was connected before is closed first."""
        self.disconnect()
        bench = self._stack.enter_context(open_bench(source, seed))
        self._bench = bench
        return Connected(source, seed, bench.config, dict(bench.identities), bench.chip.chip_id)

    def disconnect(self) -> Disconnected:
        """Safe state, then close; a report without steps when nothing was connected."""
        bench, self._bench = self._bench, None
        try:
            return Disconnected(SafeReport(()) if bench is None else bench.close())
        finally:
            self._stack.close()

    def safe_off(self) -> SafeReport:
        """Bring the bench to its safe state, instrument by instrument."""
        return SafeReport(()) if self._bench is None else self._bench.safe_off()

    def rails(self) -> RailsSeen:
        """Measure the rails and the temperature, and ask the board how it is."""
        bench = self.bench
        readings = bench.rails.measure()
        asked = time.perf_counter()
        board = bench.board.status()
        answer_s = time.perf_counter() - asked
        temperature = None if bench.temperature is None else bench.temperature.measure()
        return RailsSeen(bench.rails.applied, readings, board, answer_s, temperature)

    def reconnect(self) -> SafeReport:
        """Open every link again after an unplug, and reach the safe state."""
        return self.bench.reconnect()

    def run(
        self,
        procedure: Procedure,
        settings: Mapping[str, Any],
        folder: Path,
        cells: CellMask,
        stop: StopToken,
        report: Report,
    ) -> RunEnd:
        """Run a procedure on the connected bench and record it under ``folder``; ``settings`` are checked first."""
        parameters = procedure.parse(settings)
        seed = getattr(parameters, "seed", None)
        seeds = {} if seed is None else {"seed": seed}
        result = run(
            procedure,
            parameters,
            self.bench,
            folder,
            cells=cells,
            seeds=seeds,
            on_step=report,
            on_state=report,
            stop=stop,
        )
        return RunEnd(procedure.name, result)

    def run_prepared(self, prepared: Prepared, folder: Path, stop: StopToken, report: Report) -> RunEnd:
        """Run what was checked before, at its operating points, and record it under ``folder``."""
        bench = self.bench.at(prepared.config)
        return RunEnd(prepared.procedure.name, prepared.run(bench, folder, on_step=report, on_state=report, stop=stop))
