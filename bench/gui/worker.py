"""A thread that does jobs one after the other, so that the window never waits for a wire.

What a job reports and returns arrives in the window's own thread.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Sequence

from PyQt5.QtCore import QObject, pyqtSignal

from bench.gui.jobs import Job, Purpose, Told
from bench.stopping import Stopped, StopToken
from models.exceptions import RramBenchError

STOPPABLE = frozenset({Purpose.RUN, Purpose.STUDY})
"""Jobs that a stop is meant for."""


class Worker(QObject):
    """Executes jobs in the order in which they were submitted.

    Signals arrive in the thread that made the worker: ``began(job)``; ``reported()`` when :meth:`take_steps` has
    something new; then one of ``succeeded(job, result)``, ``stopped(job, text)``, ``failed(job, text)``; at the very
    end ``finished()``.

    Args:
        name: of its thread.
    """

    began = pyqtSignal(object)
    reported = pyqtSignal()
    succeeded = pyqtSignal(object, object)
    stopped = pyqtSignal(object, str)
    failed = pyqtSignal(object, str)
    finished = pyqtSignal()

    def __init__(self, name: str) -> None:
        super().__init__()
        self._condition = threading.Condition()
        self._jobs: deque[Job] = deque()
        self._token: StopToken | None = None
        self._ending = False
        self._steps: deque[Told] = deque()
        self._announced = False
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the thread has ended; False when it still runs after ``timeout_s``."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Do ``job`` after those that were submitted before. Ignored once :meth:`end` was called."""
        with self._condition:
            if not self._ending:
                self._jobs.append(job)
                self._condition.notify()

    def stop(self, reason: str) -> None:
        """Ask the job under way to stop between two exchanges; what people wait for and did not begin never begins."""
        with self._condition:
            if self._token is not None:
                self._token.request(reason)
            dropped = [job for job in self._jobs if job.purpose in STOPPABLE]
            for job in dropped:
                self._jobs.remove(job)
        for job in dropped:
            self.stopped.emit(job, f"dropped before it began: {reason}")

    def pause(self) -> None:
        """Ask the job under way to hold, with the outputs off, before its next exchange."""
        with self._condition:
            if self._token is not None:
                self._token.pause()

    def go_on(self) -> None:
        """Let a job that is paused go on."""
        with self._condition:
            if self._token is not None:
                self._token.go_on()

    def urgent(self, job: Job, reason: str) -> None:
        """Outputs off at once, whatever the job under way does; it stops, those that wait are dropped, ``job`` is next.

        The switching off has a thread of its own: neither the window nor the job is waited for.
        """
        with self._condition:
            token = self._token
        if token is not None:
            # No daemon: a window that closes meanwhile must not cut it short.
            threading.Thread(target=token.emergency_off, args=(reason,), name=f"{reason} at once").start()
        self._instead(job, reason, ending=False)

    def end(self, last: Job | None, reason: str) -> None:
        """Stop the job under way, drop those that wait, do ``last`` and leave the thread. A second call is ignored.

        What is to be written is written all the same.
        """
        self._instead(last, reason, ending=True)

    def _instead(self, job: Job | None, reason: str, ending: bool) -> None:
        with self._condition:
            if self._ending:
                return
            if self._token is not None:
                self._token.request(reason)
            self._ending = ending
            dropped = [waiting for waiting in self._jobs if waiting.purpose is not Purpose.WRITE]
            for waiting in dropped:
                self._jobs.remove(waiting)
            if job is not None:
                self._jobs.append(job)
            self._condition.notify()
        self._tell_dropped(dropped, reason)

    def _tell_dropped(self, dropped: Sequence[Job], reason: str) -> None:
        for waiting in dropped:
            self.stopped.emit(waiting, f"dropped before it began: {reason}")

    def take_steps(self) -> list[Told]:
        """Steps reported since the last call, oldest first."""
        self._announced = False
        taken = []
        while self._steps:
            taken.append(self._steps.popleft())
        return taken

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._jobs and not self._ending:
                    self._condition.wait()
                if not self._jobs:
                    break
                job = self._jobs.popleft()
                token = self._token = StopToken()
            self._execute(job, token)
            with self._condition:
                self._token = None
        self.finished.emit()

    def _execute(self, job: Job, token: StopToken) -> None:
        self.began.emit(job)
        try:
            result = job.work(token, self._report)
        except Stopped as error:
            self.stopped.emit(job, _text(error))
        except RramBenchError as error:
            self.failed.emit(job, _text(error))
        except BaseException as error:
            # Neither a mistake of ours nor a sys.exit() of the user's code may end the thread: it owns the way to
            # switch the outputs off.
            traceback.print_exc()
            self.failed.emit(job, f"unexpected {type(error).__name__}: {error}; its trace is on standard error")
        else:
            self.succeeded.emit(job, result)

    def _report(self, step: Told) -> None:
        self._steps.append(step)
        # One announcement until the window has looked: a flood of steps never fills its event queue.
        if not self._announced:
            self._announced = True
            self.reported.emit()


def _text(error: RramBenchError) -> str:
    return "; ".join([str(error), *getattr(error, "__notes__", ())])
