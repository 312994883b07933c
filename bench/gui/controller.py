"""What stands between the panels and the bench: it gives jobs to the workers and tells the panels what came of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PyQt5.QtCore import QObject, QTimer, pyqtSignal
from pyqtgraph.util.garbage_collector import GarbageCollector

from bench.gui.array_state import ArrayState
from bench.gui.entries import Entry, Outcome
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
    Told,
    done,
    nothing,
)
from bench.gui.selection import Selection
from bench.gui.time_left import Watch
from bench.gui.worker import Worker
from bench.jobs import Job as Prepared
from bench.procedure import CellMask, Procedure, Progress, Record
from bench.safe import SafeReport
from bench.session import Bench
from bench.states import RunState
from bench.stopping import StopToken
from drivers.operating_points import RailVoltages
from models.cells import Geometry

RUNS = Path("runs")
POLL_MS = 1500
SETTLE_MS = 300
GARBAGE_S = 1.0
"""How often somebody looks whether there is garbage to be collected."""

SILENT = frozenset({Purpose.RAILS, Purpose.READ, Purpose.WRITE})
"""What has no line in the log, unless it fails."""


class Controller(QObject):
    """The window's side of the bench. All its methods return at once; all its signals come in the window's thread.

    Three threads work for it: one owns the bench, one does long work on this computer (fits, training), and one reads
    files. A job of each may be under way at the same time.

    Signals:
        logged(Entry), busy_changed(), bench_changed(), array_changed(), network_changed(), ended()
        stepped(list): steps of the run under way, as they came.
        progressed(Job, Progress, Left or None); state_changed(RunState) of the run under way.
        ran(RunEnd): a run completed. completed(Job): a job that drove the bench came to its end, with all outputs off.
        run_over(Job): a job on the bench ended, however it did.
        device_changed(): another device file is the one to train and predict with.
        selection_changed(): other cells are selected.
        selection_wanted(mask): somebody wants these cells selected.
        marked(mask or None, text): cells that somebody wants to be seen on the map.
        workspace_wanted(str): show the workspace of that name.

    Attributes:
        state: what is known of the cells; None while no bench is connected.
        bench: the connected bench; None while there is none.
        network: the open network; None while there is none.
        busy: the job on the bench that people wait for; None while idle.
        studying: the long job on this computer; None while idle.
        run_state: where the run under way stands; None while there is none.
        selection: cells that actions and procedures work on.
        device: the device file to train and predict with; None for the packaged one.
        folder: where runs are recorded.
        offs: how often the outputs were asked to be switched off: what was asked for before must not begin after it.
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
    stepped = pyqtSignal(list)
    progressed = pyqtSignal(object, object, object)
    state_changed = pyqtSignal(object)
    network_changed = pyqtSignal()
    device_changed = pyqtSignal()
    selection_changed = pyqtSignal()
    selection_wanted = pyqtSignal(object)
    marked = pyqtSignal(object, str)
    workspace_wanted = pyqtSignal(str)
    ran = pyqtSignal(object)
    completed = pyqtSignal(object)
    run_over = pyqtSignal(object)
    ended = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.state: ArrayState | None = None
        self.bench: Connected | None = None
        self.network: OpenNetwork | None = None
        self.busy: Job | None = None
        self.studying: Job | None = None
        self.run_state: RunState | None = None
        self.selection = Selection(Geometry(1, 1))
        self.device: Path | None = None
        self.folder = RUNS
        self.offs = 0
        self.safe_report: SafeReport | None = None
        self._session = Session()
        self._wire, self._study, self._desk = Worker("bench"), Worker("study"), Worker("desk")
        self._workers = self._wire, self._study, self._desk
        self._asked: dict[str, Job] = {}
        self._running = len(self._workers)
        self._watches: dict[Job, Watch] = {}
        self._last_text = ""
        self._polling = self._answering = self._safe_asked = self._closing = False
        # Python collects cycles in whatever thread it is just in: a worker would destroy widgets, and Qt with them.
        self._garbage = GarbageCollector(GARBAGE_S)
        for worker in self._workers:
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

    @property
    def idle(self) -> bool:
        """True while nobody waits for the bench or for long work on this computer."""
        return self.busy is None and self.studying is None

    @property
    def reading(self) -> bool:
        """True while somebody waits for files to be read, or for what is drawn of them."""
        return bool(self._asked)

    def connect_bench(self, source: str, seed: int) -> None:
        """Connect to a bench file, or to "simulated"."""
        self._begin(self._wire, Job(Purpose.CONNECT, "Connect", lambda *_: self._session.connect(source, seed)))

    def disconnect_bench(self) -> None:
        """Outputs off, then close the links."""
        self._begin(self._wire, Job(Purpose.DISCONNECT, "Disconnect", lambda *_: self._session.disconnect()))

    def reconnect_bench(self) -> None:
        """Open every link again after an unplug; everyone is identified, and every output brought to 0 V and off."""
        self._begin(self._wire, Job(Purpose.RECONNECT, "Reconnect", lambda *_: self._session.reconnect()))

    def outputs_off(self) -> None:
        """Bring the bench to its safe state at once, and stop whatever runs. Never refused."""
        self._safe_asked = True
        self.offs += 1
        self._wire.urgent(Job(Purpose.SAFE, "Outputs off", lambda *_: self._session.safe_off()), "Outputs off")

    def stop(self) -> None:
        """Stop the job on the bench between two exchanges; a run leaves the outputs off."""
        self._wire.stop("Stop button")

    def stop_study(self) -> None:
        """Stop the long job on this computer."""
        self._study.stop("Stop button")

    def pause(self) -> None:
        """Let the run under way hold before its next exchange, with the outputs off."""
        self._wire.pause()

    def go_on(self) -> None:
        """Let a paused run go on."""
        self._wire.go_on()

    def run(self, title: str, procedure: Procedure, settings: Mapping[str, Any], cells: CellMask, where: str) -> None:
        """Run a procedure on some cells and record it; ``where`` describes the cells in the log."""
        folder, frozen = self.folder, cells.copy()

        def work(stop: StopToken, report: Report) -> RunEnd:
            return self._session.run(procedure, settings, folder, frozen, stop, report)

        self._begin(self._wire, Job(Purpose.RUN, title, work, where))

    def run_prepared(self, prepared: Prepared, where: str) -> None:
        """Run what was checked before, at its own operating points, and record it."""
        folder = self.folder

        def work(stop: StopToken, report: Report) -> RunEnd:
            return self._session.run_prepared(prepared, folder, stop, report)

        self._begin(self._wire, Job(Purpose.RUN, prepared.procedure.name, work, where))

    def on_bench(
        self,
        title: str,
        work: Callable[[Bench, StopToken, Report], Any],
        then: Callable[[Any], None] = nothing,
        where: str = "",
    ) -> None:
        """Do ``work`` with the connected bench, in its thread; ``then`` gets in the window's what came of it.

        However it ends, the outputs are confirmed to be off afterwards.
        """

        def with_it(stop: StopToken, report: Report) -> object:
            return work(self._session.bench, stop, report)

        self._begin(self._wire, Job(Purpose.RUN, title, with_it, where, then))

    def by_itself(
        self,
        title: str,
        work: Callable[[StopToken, Report], Any],
        then: Callable[[Any], None] = nothing,
        say: Callable[[Any], str] = done,
    ) -> None:
        """Do ``work`` that connects to a bench by itself, in the bench's thread: Stop and Outputs off reach it."""
        self._begin(self._wire, Job(Purpose.RUN, title, work, then=then, say=say))

    def study(
        self,
        title: str,
        work: Callable[[StopToken, Report], Any],
        then: Callable[[Any], None] = nothing,
        say: Callable[[Any], str] = done,
        otherwise: Callable[[str], None] = nothing,
    ) -> None:
        """Do long ``work`` on this computer; ``then`` gets in the window's thread what came of it.

        Args:
            say: what the log is to say of it.
            otherwise: gets there why nothing came of it.
        """
        job = Job(Purpose.STUDY, title, work, then=then, otherwise=otherwise, say=say)
        self._begin(self._study, job)

    def read(self, key: str, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Read files off the window's thread, without a line in the log unless it fails.

        Args:
            key: who asks; what was asked with the same key before, and did not come yet, is forgotten.
        """
        if not self._closing:
            job: Job
            # What was superseded before its turn came is not read at all.
            job = Job(Purpose.READ, key, lambda *_: work() if self._asked.get(key) is job else None, then=then)
            self._asked[key] = job
            self._desk.submit(job)

    def write(
        self,
        title: str,
        work: Callable[[], Any],
        then: Callable[[Any], None] = nothing,
        otherwise: Callable[[str], None] = nothing,
    ) -> None:
        """Write something off the window's thread; unlike what is read it is done in any case, also when it closes.

        Args:
            otherwise: gets in the window's thread why nothing came of it; the log says it too.
        """
        self._desk.submit(Job(Purpose.WRITE, title, lambda *_: work(), then=then, otherwise=otherwise))

    def use_device(self, file: Path | None) -> None:
        """Train and predict with this device file from now on; None for the packaged one."""
        self.device = file
        self.device_changed.emit()

    def select(self, selection: Selection) -> None:
        """These cells are selected now."""
        self.selection = selection
        self.selection_changed.emit()

    def want_selection(self, cells: CellMask) -> None:
        """Have cells selected on the map."""
        self.selection_wanted.emit(cells)

    def mark(self, cells: CellMask | None, text: str = "") -> None:
        """Have cells seen on the map, with the reason; None for none."""
        self.marked.emit(cells, text)

    def show_workspace(self, name: str) -> None:
        """Bring the workspace of that name to the front."""
        self.workspace_wanted.emit(name)

    def complain(self, operation: str, text: str) -> None:
        """Put something into the log that could not even begin."""
        self.logged.emit(Entry(object(), operation, "", text, Outcome.FAILED))

    def tell(self, operation: str, text: str) -> None:
        """Put something into the log that was done without a job."""
        self.logged.emit(Entry(object(), operation, "", text, Outcome.DONE))

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
            self._desk.end(None, "the window was closed")

    @property
    def closed(self) -> bool:
        """True once all threads have ended."""
        return self._running == 0

    def _begin(self, worker: Worker, job: Job) -> None:
        if self._closing:
            return
        present = self.busy if worker is self._wire else self.studying
        if present is not None:
            self.complain(job.title, f"{present.title!r} is still under way; wait for it or press Stop")
            return
        if worker is self._wire:
            self.busy = job
        else:
            self.studying = job
        self._last_text = ""
        self.busy_changed.emit()
        worker.submit(job)

    def _on_began(self, job: Job) -> None:
        if job.purpose not in SILENT:
            self._watches[job] = Watch(time.monotonic())
            self.logged.emit(Entry(job, job.title, job.cells, "under way", Outcome.RUNNING))

    def _on_reported(self) -> None:
        if self.studying is not None:
            for told in self._study.take_steps():
                if isinstance(told, Progress):
                    self._take_progress(self.studying, told)
        steps = self._wire.take_steps()
        if steps:
            self._take_steps(steps)

    def _take_steps(self, steps: list[Told]) -> None:
        changed = False
        rails: RailVoltages | None = None
        last: Progress | None = None
        for step in steps:
            if isinstance(step, RunState):
                self.run_state = step
                if self.busy in self._watches:
                    self._watches[self.busy].hold(step is RunState.PAUSED, time.monotonic())
                self.state_changed.emit(step)
            elif isinstance(step, Progress):
                # One announcement for all that came since the last; their live figures are kept.
                last = step if last is None else replace(step, live={**last.live, **step.live})
            elif isinstance(step, Record) and self.state is not None:
                changed |= self.state.take(step)
                if step.table == "operations":
                    rails = RailVoltages(*(step.values[rail] for rail in RailVoltages._fields))
        self.stepped.emit(steps)
        if last is not None and self.busy is not None:
            self._last_text = last.text
            self._take_progress(self.busy, last)
        if changed:
            self._settling.stop()
            self.array_changed.emit()
        if self.state is not None and not self.state.settled and not self._settling.isActive():
            self._settling.start()
        if rails is not None:
            self.rails_set.emit(rails)

    def _take_progress(self, job: Job, step: Progress) -> None:
        watch = self._watches.get(job)
        self.progressed.emit(job, step, None if watch is None else watch.left(step, time.monotonic()))

    def _settle(self) -> None:
        if self.state is not None and not self.state.settled:
            self.state.settle()
            self.array_changed.emit()

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
            self.ran.emit(result)
        elif isinstance(result, OpenNetwork):
            self.network = result
            text = (
                f"{result.software_accuracy:.2%} in software on {len(result.data.test_labels)} samples; {result.file}"
            )
            self.network_changed.emit()
        elif isinstance(result, str):
            text = result
        else:
            text = job.say(result)
        wanted = self._wanted(job)
        self._end(job, text, outcome)
        if wanted:
            job.then(result)

    def _wanted(self, job: Job) -> bool:
        """Whether somebody waits for what comes of it: nobody does while it closes, or where more was asked since."""
        return not self._closing and (job.purpose is not Purpose.READ or self._asked.get(job.title) is job)

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
        if not self._closing:
            job.otherwise(text)

    def _on_failed(self, job: Job, text: str) -> None:
        if job.purpose in (Purpose.CONNECT, Purpose.DISCONNECT):
            self._set_bench(None)
        elif job.purpose in (Purpose.SAFE, Purpose.RAILS, Purpose.RECONNECT):
            self._safe_asked = self._answering = False
            self.rails_lost.emit(text)
        self._end(job, text, Outcome.FAILED)
        self._confirm_safe(job)
        if not self._closing:
            job.otherwise(text)

    def _confirm_safe(self, job: Job) -> None:
        """A run that did not complete has switched the outputs off; ask the instruments, and show what they say."""
        if self.bench is not None and job.purpose is Purpose.RUN and not self._safe_asked and not self._closing:
            self.outputs_off()

    def _end(self, job: Job, text: str, outcome: Outcome) -> None:
        self._on_reported()
        self._watches.pop(job, None)
        if self._asked.get(job.title) is job:
            del self._asked[job.title]
        if job.purpose is Purpose.RAILS:
            self._polling = False
        if job.purpose in SILENT and outcome is not Outcome.FAILED:
            return
        self.logged.emit(Entry(job, job.title, job.cells, text, outcome))
        if job is self.busy:
            self._settle()
            self.busy = self.run_state = None
            self.busy_changed.emit()
            if job.purpose is Purpose.RUN and outcome is Outcome.DONE:
                self._answering = True  # whatever an earlier look at the rails came to
                self.completed.emit(job)
            self.run_over.emit(job)
        elif job is self.studying:
            self.studying = None
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
            for worker in self._workers:
                worker.join()
            self._garbage.timer.stop()
            gc.enable()
            self.ended.emit()
