"""What stands between the panels and the bench: it gives jobs to the workers and tells the panels what came of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from PyQt5.QtCore import QObject, QTimer, pyqtSignal

from bench.gui.array_state import ArrayState
from bench.gui.jobs import (
    Connected,
    Disconnected,
    Job,
    OpenNetwork,
    Purpose,
    RailsSeen,
    Report,
    RunEnd,
    Session,
    open_network,
    train_digits,
)
from bench.gui.worker import Worker
from bench.inference import inference_procedure, inference_task
from bench.procedure import CellMask, Procedure, Progress, Record
from bench.safe import SafeReport
from bench.stopping import StopToken
from drivers.operating_points import RailVoltages

RUNS = Path("runs")
POLL_MS = 1500
SETTLE_MS = 300
DATA = "digits"
NETWORK = "digits-bnn"


class Outcome(Enum):
    """How a line of the log stands."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class Entry:
    """A line of the log; a later one with the same ``key`` replaces it."""

    key: object
    operation: str
    cells: str
    text: str
    outcome: Outcome


class Controller(QObject):
    """The window's side of the bench. All its methods return at once; all its signals come in the window's thread.

    Attributes:
        state: what is known of the cells; None while no bench is connected.
        bench: the connected bench; None while there is none.
        network: the open network; None while there is none.
        busy: the job that people wait for; None while idle.
        folder: where runs are recorded.
        safe_report: what the instruments said when they were switched off last; None before the first time.
    """

    logged = pyqtSignal(object)
    busy_changed = pyqtSignal()
    bench_changed = pyqtSignal()
    array_changed = pyqtSignal()
    rails_set = pyqtSignal(object)
    rails_seen = pyqtSignal(object)
    rails_lost = pyqtSignal(str)
    safe_reported = pyqtSignal(object)
    progressed = pyqtSignal(object, object)
    network_changed = pyqtSignal()
    inferred = pyqtSignal(object)
    ended = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state: ArrayState | None = None
        self.bench: Connected | None = None
        self.network: OpenNetwork | None = None
        self.busy: Job | None = None
        self.folder = RUNS
        self.safe_report: SafeReport | None = None
        self._session = Session()
        self._wire, self._study = Worker("bench"), Worker("study")
        self._running = 2
        self._began = time.monotonic()
        self._last_text = ""
        self._polling = self._answering = self._safe_asked = self._closing = False
        for worker in (self._wire, self._study):
            worker.began.connect(self._on_began)
            worker.reported.connect(self._on_reported)
            worker.succeeded.connect(self._on_succeeded)
            worker.stopped.connect(self._on_stopped)
            worker.failed.connect(self._on_failed)
            worker.finished.connect(self._on_thread_finished)
            worker.start()
        self._settling = QTimer(self)
        self._settling.setSingleShot(True)
        self._settling.setInterval(SETTLE_MS)
        self._settling.timeout.connect(self._settle)
        self._poll = QTimer(self)
        self._poll.timeout.connect(self.look_at_rails)
        self._poll.start(POLL_MS)

    def connect_bench(self, source: str, seed: int) -> None:
        """Connect to a bench file, or to "simulated"."""
        self._begin(self._wire, Job(Purpose.CONNECT, "Connect", lambda *_: self._session.connect(source, seed)))

    def disconnect_bench(self) -> None:
        """Outputs off, then close the links."""
        self._begin(self._wire, Job(Purpose.DISCONNECT, "Disconnect", lambda *_: self._session.disconnect()))

    def outputs_off(self) -> None:
        """Stop whatever runs and bring the bench to its safe state at once. Never refused."""
        self._safe_asked = True
        self._wire.urgent(Job(Purpose.SAFE, "Outputs off", lambda *_: self._session.safe_off()), "Outputs off")

    def stop(self) -> None:
        """Stop the job under way between two exchanges; a run leaves the outputs off."""
        for worker in (self._wire, self._study):
            worker.stop("Stop button")

    def run(self, title: str, procedure: Procedure, settings: Mapping[str, Any], cells: CellMask, where: str) -> None:
        """Run a procedure on some cells and record it; ``where`` describes the cells in the log."""
        folder, frozen = self.folder, cells.copy()

        def work(stop: StopToken, report: Report) -> RunEnd:
            return self._session.run(procedure, settings, folder, frozen, stop, report)

        self._begin(self._wire, Job(Purpose.RUN, title, work, where))

    def infer(self, settings: Mapping[str, Any]) -> None:
        """Program the open network tile by tile and infer its test set."""
        if self.network is None or self.state is None:
            self.complain("Infer", "it needs a connected bench and an open network")
            return
        network, folder, everything = self.network, self.folder, np.ones(self.state.geometry, dtype=bool)

        def work(stop: StopToken, report: Report) -> RunEnd:
            data = network.data
            procedure = inference_procedure(inference_task(network.network, data.test_images, data.test_labels))
            return self._session.run(procedure, settings, folder, everything, stop, report)

        tiles = f"{len(network.plan(self.state.geometry).tiles)} tiles"
        self._begin(self._wire, Job(Purpose.RUN, f"Infer {network.network.name}", work, tiles))

    def train(self, seed: int) -> None:
        """Train the network for the digits and open it."""
        out = self.folder / f"{NETWORK}.safetensors"

        def work(stop: StopToken, report: Report) -> OpenNetwork:
            return train_digits(NETWORK, DATA, seed, out, stop, report)

        self._begin(self._study, Job(Purpose.NETWORK, f"Train {NETWORK}", work))

    def open_network(self, file: Path) -> None:
        """Open a network file."""
        self._begin(self._study, Job(Purpose.NETWORK, "Open network", lambda *_: open_network(file, DATA)))

    def complain(self, operation: str, text: str) -> None:
        """Put something into the log that could not even begin."""
        self.logged.emit(Entry(object(), operation, "", text, Outcome.FAILED))

    def look_at_rails(self) -> None:
        """Measure the rails when nothing else is going on."""
        if self.bench is not None and self.busy is None and self._answering and not self._polling:
            self._polling = True
            self._wire.submit(Job(Purpose.RAILS, "Measure the rails", lambda *_: self._session.rails()))

    def close(self) -> None:
        """Stop whatever runs, bring the bench to its safe state, end the threads; then ``ended`` is emitted."""
        if not self._closing:
            self._closing = True
            self._poll.stop()
            last = Job(Purpose.DISCONNECT, "Close", lambda *_: self._session.disconnect())
            self._wire.end(last, "the window was closed")
            self._study.end(None, "the window was closed")

    @property
    def closed(self) -> bool:
        """True once both threads have ended."""
        return self._running == 0

    def _begin(self, worker: Worker, job: Job) -> None:
        if self._closing:
            return
        if self.busy is not None:
            self.complain(job.title, f"{self.busy.title!r} is still under way; wait for it or press Stop")
            return
        self.busy = job
        self._last_text = ""
        self.busy_changed.emit()
        worker.submit(job)

    def _on_began(self, job: Job) -> None:
        if job.purpose is not Purpose.RAILS:
            self._began = time.monotonic()
            self.logged.emit(Entry(job, job.title, job.cells, "under way", Outcome.RUNNING))

    def _on_reported(self) -> None:
        changed = False
        rails: RailVoltages | None = None
        for worker in (self._wire, self._study):
            for step in worker.take_steps():
                if isinstance(step, Progress):
                    self._last_text = step.text
                    self.progressed.emit(step, self._seconds_left(step))
                elif isinstance(step, Record) and self.state is not None:
                    changed |= self.state.take(step)
                    if step.table == "operations":
                        rails = RailVoltages(*(step.values[rail] for rail in RailVoltages._fields))
        if changed:
            self._settling.stop()
            self.array_changed.emit()
        if self.state is not None and not self.state.settled and not self._settling.isActive():
            self._settling.start()
        if rails is not None:
            self.rails_set.emit(rails)

    def _settle(self) -> None:
        if self.state is not None and not self.state.settled:
            self.state.settle()
            self.array_changed.emit()

    def _seconds_left(self, step: Progress) -> float | None:
        elapsed = time.monotonic() - self._began
        return None if step.done <= 0 else elapsed * (step.total - step.done) / step.done

    def _on_succeeded(self, job: Job, result: object) -> None:
        self._on_reported()
        text, outcome = "done", Outcome.DONE
        if isinstance(result, Connected):
            text = f"{result.config.name}, chip {result.chip_id}"
            self._set_bench(result)
        elif isinstance(result, Disconnected):
            text, outcome = self._take_safe_report(result.report)
            self._set_bench(None)
        elif isinstance(result, SafeReport):
            text, outcome = self._take_safe_report(result)
        elif isinstance(result, RailsSeen):
            self.rails_seen.emit(result)
        elif isinstance(result, RunEnd):
            text = f"{self._last_text}; {result.result.run_file.name}"
            if result.procedure == "inference":
                self.inferred.emit(result.result)
        elif isinstance(result, OpenNetwork):
            self.network = result
            text = (
                f"{result.software_accuracy:.2%} in software on {len(result.data.test_labels)} samples; {result.file}"
            )
            self.network_changed.emit()
        self._end(job, text, outcome)

    def _take_safe_report(self, report: SafeReport) -> tuple[str, Outcome]:
        self._safe_asked = False
        self._answering = report.confirmed
        self.safe_report = report
        self.safe_reported.emit(report)
        if not report.steps:
            return "no bench is connected: there is nothing to switch off", Outcome.DONE
        return str(report), Outcome.DONE if report.confirmed else Outcome.FAILED

    def _on_stopped(self, job: Job, text: str) -> None:
        self._end(job, text, Outcome.STOPPED)
        self._confirm_safe(job)

    def _on_failed(self, job: Job, text: str) -> None:
        if job.purpose in (Purpose.CONNECT, Purpose.DISCONNECT):
            self._set_bench(None)
        elif job.purpose in (Purpose.SAFE, Purpose.RAILS):
            self._safe_asked = self._answering = False
            self.rails_lost.emit(text)
        self._end(job, text, Outcome.FAILED)
        self._confirm_safe(job)

    def _confirm_safe(self, job: Job) -> None:
        """A run that did not complete has switched the outputs off; ask the instruments, and show what they say."""
        if self.bench is not None and job.purpose is Purpose.RUN and not self._safe_asked and not self._closing:
            self.outputs_off()

    def _end(self, job: Job, text: str, outcome: Outcome) -> None:
        self._on_reported()
        if job.purpose is Purpose.RAILS:
            self._polling = False
            if outcome is not Outcome.FAILED:
                return
        self.logged.emit(Entry(job, job.title, job.cells, text, outcome))
        if job is self.busy:
            self._settle()
            self.busy = None
            self.busy_changed.emit()
        self.look_at_rails()

    def _set_bench(self, bench: Connected | None) -> None:
        self.bench = bench
        self.state = None if bench is None else ArrayState(bench.config.geometry)
        self._answering = bench is not None
        self.bench_changed.emit()
        self.array_changed.emit()

    def _on_thread_finished(self) -> None:
        self._running -= 1
        if self.closed:
            for worker in (self._wire, self._study):
                worker.join()
            self.ended.emit()
