"""The process that runs a queue: one item after the other, while a second thread listens to what others ask."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from bench.jobs import Job
from bench.planning import Plan
from bench.procedure import Step
from bench.queue import Item, Queue, Verb
from bench.session import Bench
from bench.source import Overrides, bench_config, open_at
from bench.states import RunState
from bench.stopping import Stopped, StopToken
from data.runs import open_run
from models.exceptions import RramBenchError, UserMistake

LISTEN_S = 0.02
"""How often the runner looks for what others ask: a verb is late by no more than this and what a full disk costs."""


class QueueRunner:
    """Runs the items of a queue, until none waits or somebody stops it.

    Args:
        queue: nobody else may run it.
        outer: what is asked of the whole process (Ctrl-C, the window): a stop, a pause and an emergency off reach the
            item that is under way too.
        stop_on_failure: leave the following items waiting when one fails.
        on_begin: told of each item before it begins, with its job and its plan.
        on_step, on_state, on_end: told of its steps and states, and of the item when it ended.
        opened: gives the bench of an item (source, seed, overrides) for as long as the item needs it.

    Attributes:
        ended_by: the verb that ended the queue, STOP or OFF; None where nobody asked.
    """

    def __init__(
        self,
        queue: Queue,
        outer: StopToken,
        stop_on_failure: bool = False,
        on_begin: Callable[[Item, Job, Plan | None], None] = lambda item, job, planned: None,
        on_step: Callable[[Step], None] = lambda step: None,
        on_end: Callable[[Item], None] = lambda item: None,
        opened: Callable[[str, int, Overrides], AbstractContextManager[Bench]] = open_at,
        on_state: Callable[[RunState], None] = lambda state: None,
    ) -> None:
        self._queue, self._outer = queue, outer
        self._opened = opened
        self._stop_on_failure = stop_on_failure
        self._on_begin, self._on_step, self._on_end, self._on_state = on_begin, on_step, on_end, on_state
        self._token: StopToken | None = None
        self._held = False
        self.ended_by: Verb | None = None

    @property
    def held(self) -> bool:
        """Whether somebody asked it to pause, also between two items."""
        return self._held

    def run(self) -> list[Item]:
        """Run until nothing waits; return the items that were begun, as they ended."""
        ended: list[Item] = []
        with self._queue.held(), self._listening():
            while (item := self._next()) is not None:
                ended.append(self._run_item(item))
                self._on_end(ended[-1])
                if self._stop_on_failure and ended[-1].state is RunState.FAILED:
                    break
        return ended

    def _next(self) -> Item | None:
        while self._held and not self._over:
            time.sleep(LISTEN_S)
        if self._over:
            return None
        return next((item for item in self._queue.items_as_stored() if item.state is RunState.QUEUED), None)

    @property
    def _over(self) -> bool:
        return self.ended_by is not None or self._outer.requested

    def _run_item(self, item: Item) -> Item:
        token = StopToken()
        keeper = _Keeper(self._queue, item)
        keeper.move(RunState.RUNNING)
        self._token = token
        if self._held:
            token.pause()

        def tell(state: RunState) -> None:
            keeper.move(state)
            self._on_state(state)

        reason, state = "", RunState.COMPLETED
        try:
            job = item.job(bench_config(item.source))
            self._on_begin(item, job, job.quick_plan(lambda text: None))
            with self._opened(item.source, item.seed, job.overrides) as bench:
                job.run(bench, Path(item.out), on_step=self._on_step, on_state=tell, stop=token)
        except Stopped as stopped:
            state, reason = RunState.STOPPED, str(stopped)
        except RramBenchError as error:
            state, reason = RunState.FAILED, "; ".join([str(error), *getattr(error, "__notes__", ())])
        except Exception as error:  # a procedure of the user's may raise anything, and the next item is not to blame
            state, reason = RunState.FAILED, f"{type(error).__name__}: {error}"
        finally:
            self._token = None
        if token.requested and token.reason not in reason:
            reason = f"{token.reason}; {reason}"
        return keeper.end(state, reason)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        over = threading.Event()

        def listen() -> None:
            while not over.wait(LISTEN_S):
                self._queue.take_verbs(self.obey)
                if self._outer.paused is not self._held:
                    self.obey(Verb.PAUSE if self._outer.paused else Verb.GO_ON)
                token = self._token
                if self._outer.requested and token is not None:
                    token.request(self._outer.reason)

        def off() -> None:
            self.obey(Verb.OFF)

        listener = threading.Thread(target=listen, name="queue control")
        self._outer.on_emergency.append(off)
        listener.start()
        try:
            yield
        finally:
            over.set()
            listener.join()
            self._outer.on_emergency.remove(off)
            self._queue.take_verbs(self.obey)

    def obey(self, verb: Verb) -> None:
        """Do what is asked, in the thread of whoever asks: the run's own may be in the middle of a long exchange."""
        token = self._token
        # The outer token first: what it says holds, and the listener follows it.
        held = verb is Verb.PAUSE
        (self._outer.pause if held else self._outer.go_on)()
        self._held = held
        if verb in (Verb.PAUSE, Verb.GO_ON):
            if token is not None:
                (token.pause if held else token.go_on)()
            return
        if verb is not Verb.SKIP:
            self.ended_by = verb
        if token is None:
            return
        if verb is Verb.OFF:
            token.emergency_off("emergency off")
        else:
            token.request(f"queue {verb}")


class _Keeper:
    """Writes down each change of an item's state, and its run file as soon as there is one: a crash may come next."""

    def __init__(self, queue: Queue, item: Item) -> None:
        self._queue, self._item = queue, item
        self._before = self._run_files()

    def move(self, state: RunState) -> None:
        """Take the item to ``state``. How it ended is written by :meth:`end`, with the reason."""
        item = self._with_run_file()
        if state is not item.state and not state.ended:
            item = item.at_state(state)
        if item is not self._item:
            self._item = self._queue.store(item)

    def end(self, state: RunState, reason: str) -> Item:
        """Write down how it ended. A stop that came before the first voltage passes through STOPPING like any other."""
        if state is RunState.STOPPED:
            self.move(RunState.STOPPING)
        self._item = self._queue.store(self._with_run_file().at_state(state, reason))
        return self._item

    def _with_run_file(self) -> Item:
        if self._item.run_file:
            return self._item
        # Another process may write runs of the same procedure to the same folder.
        made = [path for path in sorted(self._run_files() - self._before) if _is_ours(path)]
        return replace(self._item, run_file=str(made[-1])) if made else self._item

    def _run_files(self) -> set[Path]:
        return set(Path(self._item.out).glob(f"*-{self._item.procedure}.h5"))


def _is_ours(path: Path) -> bool:
    try:
        return open_run(path).attributes["process_id"] == os.getpid()
    except UserMistake:
        return False  # somebody else's, and just being made
