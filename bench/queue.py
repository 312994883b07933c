"""A queue of runs that outlives its process: one folder, one small JSON file per item.

An item is checked and planned when it is added. One process at a time runs the queue, and any other tells it to pause,
go on, stop, or switch the outputs off. What a crash left in the middle is marked interrupted by whoever looks next, and
goes on only when a person asks for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import filelock
import numpy as np
from pydantic import TypeAdapter, ValidationError

from bench.config import BenchFile, explain
from bench.jobs import Job, prepare, prepare_resumed
from bench.procedure import CellMask
from bench.runner import prepare_folder
from bench.session import SIMULATED
from bench.source import bench_config
from bench.states import TRANSITIONS, RunState
from data.atomic import write_atomically
from data.runs import RunStatus, open_run
from models.exceptions import UserMistake

OBEYED_WITHIN_S = 5.0
"""How long a verb waits for the process that runs the queue to take it."""

_ITEMS, _CONTROL, _LOCK, _RUNS = "items", "control", "queue.lock", "runs"


class Verb(StrEnum):
    """What another process may ask of the one that runs the queue."""

    PAUSE = "pause"
    GO_ON = "go-on"
    SKIP = "skip"
    STOP = "stop"
    OFF = "off"


@dataclass(frozen=True)
class Item:
    """A run in the queue.

    Attributes:
        number: its name in the queue.
        source: bench file, or "simulated".
        settings: the procedure's parameters, as they were given.
        cells: the selection as it was written.
        chosen: the cells that it meant when the item was added, one hexadecimal digit for four cells.
        at: changed operating points.
        planned_s: what it was planned to take, in s; the middle of the range. None where that could not be said.
        state, history: where it stands, and when it came there (ISO 8601, UTC).
        run_file: its run file, once there is one.
        reason: why it ended early.
        resume: run file that it goes on with.
        retries: the item that it was made from.
    """

    number: int
    procedure: str
    source: str
    settings: Mapping[str, str]
    cells: str
    chosen: str
    at: Mapping[str, float]
    seed: int
    out: str
    planned_s: float | None
    state: RunState = RunState.QUEUED
    history: tuple[tuple[str, str], ...] = field(default_factory=tuple)
    run_file: str = ""
    reason: str = ""
    resume: str = ""
    retries: int = 0

    def job(self, config: BenchFile) -> Job:
        """The run that it stands for, checked again. Raises UserMistake."""
        if self.resume:
            return prepare_resumed(self.procedure, config, Path(self.resume))
        job = prepare(self.procedure, config, self.settings, None, self.at, self.seed)
        return replace(job, cells=_unpacked(self.chosen, job.cells))

    def at_birth(self) -> Item:
        """The item as it is put into the queue."""
        return replace(self, history=((str(RunState.QUEUED), _now()),))

    def at_state(self, state: RunState, reason: str = "") -> Item:
        """The item in its next state.

        Raises:
            UserMistake: that state cannot follow.
        """
        if state not in TRANSITIONS[self.state]:
            raise UserMistake(f"item {self.number} is {self.state} and cannot become {state}")
        history = (*self.history, (str(state), _now()))
        return replace(self, state=state, history=history, reason=reason)


class Queue:
    """The items in a folder, and the lock that says who runs them.

    Args:
        folder: made when the first item is added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def items(self) -> list[Item]:
        """All items in order. Those of a process that died are marked interrupted on the way, where that can be told.

        Raises:
            UserMistake: a file of the queue cannot be read.
        """
        found = self.items_as_stored()
        if any(_under_way(item.state) for item in found):
            lock = self._lock()
            try:
                lock.acquire()
            except filelock.Timeout:
                return found  # its process lives
            try:
                return [self._mark_interrupted(self.item(item.number)) for item in found]
            finally:
                lock.release()
        return found

    def items_as_stored(self) -> list[Item]:
        """All items in order, as their files say."""
        found = []
        for path in self._stored():
            try:
                found.append(self._load(path))
            except UserMistake:
                if path.exists():
                    raise
                # Somebody took it out of the queue just now.
        return found

    def item(self, number: int) -> Item:
        """One item. Raises UserMistake when there is none."""
        path = self._path(number)
        if not path.is_file():
            numbers = ", ".join(str(int(item.stem)) for item in self._stored())
            raise UserMistake(f"queue {self.folder} has no item {number}; it has {numbers or 'none'}")
        return self._load(path)

    def add(
        self,
        procedure: str,
        source: str,
        settings: Mapping[str, str],
        cells: str | None,
        at: Mapping[str, float],
        seed: int,
        out: Path | None,
        on_note: Callable[[str], None] = lambda text: None,
    ) -> Item:
        """Check a run, plan it, and put it at the end.

        Raises:
            UserMistake: anything that the run itself would be refused for.
        """
        path = source if source == SIMULATED else str(Path(source).absolute())
        job = prepare(procedure, bench_config(path), settings, cells, at, seed)
        folder = prepare_folder(self.folder / _RUNS if out is None else out).absolute()
        planned = job.quick_plan(on_note)
        seconds = None if planned is None else planned.expected_s
        shown = "all" if cells is None else cells
        return self._add(
            lambda number: Item(
                number, procedure, path, settings, shown, _packed(job.cells), at, seed, str(folder), seconds
            )
        )

    def retry(self, number: int) -> Item:
        """Put an item that ended early at the end of the queue again; it goes on where it ended, where that can be.

        Raises:
            UserMistake: it waits, is under way, or is completed.
        """
        self.items()  # marks what a crash left
        item = self.item(number)
        if not item.state.ended or item.state is RunState.COMPLETED:
            raise UserMistake(f"item {number} is {item.state}; only one that ended early is tried again")
        resume = item.run_file if item.run_file and _can_go_on(Path(item.run_file)) else item.resume
        again = replace(
            item, state=RunState.QUEUED, history=(), run_file="", reason="", resume=resume, retries=item.number
        )
        again.job(bench_config(again.source))  # refused now, and not when its turn comes
        return self._add(lambda free: replace(again, number=free))

    def remove(self, number: int) -> Item:
        """Take an item out; its run file stays. Raises UserMistake while it is under way."""
        item = next((item for item in self.items() if item.number == number), None)
        if item is None:
            item = self.item(number)  # says which there are
        if _under_way(item.state):
            raise UserMistake(f"item {number} is {item.state}; stop it first")
        self._path(number).unlink(missing_ok=True)
        return item

    def store(self, item: Item) -> Item:
        """Write an item down. Raises UserMistake when the folder cannot be written to."""
        write_atomically(self._path(item.number), json.dumps(asdict(item), indent=1).encode(), "queue item")
        return item

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the one process that runs the queue, for the length of the block.

        Raises:
            UserMistake: another one is.
        """
        (self.folder / _CONTROL).mkdir(parents=True, exist_ok=True)
        lock = self._lock()
        try:
            lock.acquire()
        except filelock.Timeout:
            raise UserMistake(f"queue {self.folder} is being run by another process; 'queue stop' ends it") from None
        try:
            for verb in self._verbs():
                verb.unlink(missing_ok=True)  # for a process that is gone
            for item in self.items_as_stored():
                self._mark_interrupted(item)
            yield
        finally:
            lock.release()

    @property
    def running(self) -> bool:
        """Whether a process runs the queue now."""
        if not (self.folder / _LOCK).exists():
            return False
        lock = self._lock()
        try:
            lock.acquire()
        except filelock.Timeout:
            return True
        lock.release()
        return False

    def ask(self, verb: Verb) -> float:
        """Tell the process that runs the queue; return after how many seconds it took the verb.

        Raises:
            UserMistake: no process runs the queue, or it does not answer.
        """
        if not self.running:
            remedy = "; 'rram-bench safe --bench FILE' switches a bench off" if verb is Verb.OFF else ""
            raise UserMistake(f"no process runs queue {self.folder}{remedy}")
        began = time.monotonic()
        path = self.folder / _CONTROL / f"{time.time_ns():020d}-{os.getpid()}-{verb}"
        path.touch()
        while path.exists():
            if time.monotonic() - began > OBEYED_WITHIN_S:
                path.unlink(missing_ok=True)
                raise UserMistake(
                    f"the process that runs queue {self.folder} did not take '{verb}' within {OBEYED_WITHIN_S:g} s; "
                    "it may have ended just now, see 'queue list'"
                )
            time.sleep(0.005)
        return time.monotonic() - began

    def take_verbs(self, obey: Callable[[Verb], None]) -> None:
        """Obey what was asked since the last call; each is acknowledged once it is obeyed."""
        for path in self._verbs():
            name = path.name.split("-", 2)[-1]
            if name in tuple(Verb):
                obey(Verb(name))
            # Where it cannot be taken away, whoever asked sees that nobody took it; obeying it again does no harm.
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _verbs(self) -> list[Path]:
        return sorted((self.folder / _CONTROL).glob("*"))

    def _add(self, make: Callable[[int], Item]) -> Item:
        (self.folder / _ITEMS).mkdir(parents=True, exist_ok=True)
        # Two may add at once: the number is claimed by making its file, which only one of them can.
        number = max((int(path.stem) for path in self._stored()), default=0)
        while True:
            number += 1
            claim = self.folder / _ITEMS / f"{number:06d}.claim"
            try:
                claim.touch(exist_ok=False)
            except FileExistsError:
                continue
            try:
                if not self._path(number).exists():
                    return self.store(make(number).at_birth())
            finally:
                claim.unlink(missing_ok=True)

    def _stored(self) -> list[Path]:
        """Files of the items, in order; what else lies in the folder is nobody's item."""
        return sorted(path for path in (self.folder / _ITEMS).glob("*.json") if re.fullmatch("[0-9]{6,}", path.stem))

    def _path(self, number: int) -> Path:
        return self.folder / _ITEMS / f"{number:06d}.json"

    def _lock(self) -> filelock.BaseFileLock:
        return filelock.FileLock(self.folder / _LOCK, timeout=0, thread_local=False)

    def _load(self, path: Path) -> Item:
        try:
            item = TypeAdapter(Item).validate_json(path.read_bytes())
            bytes.fromhex(item.chosen)
        except ValidationError as error:
            raise UserMistake(f"queue item {path} cannot be read: {explain(error)}; remove that file") from None
        except (OSError, ValueError) as error:
            raise UserMistake(f"queue item {path} cannot be read: {error}; remove that file") from None
        if path.name != self._path(item.number).name:
            raise UserMistake(f"queue item {path} cannot be read: it is item {item.number}; remove that file")
        return item

    def _mark_interrupted(self, item: Item) -> Item:
        if not _under_way(item.state):
            return item
        return self.store(item.at_state(RunState.INTERRUPTED, reason="the process that ran it ended without a word"))


def _under_way(state: RunState) -> bool:
    return state is not RunState.QUEUED and not state.ended


def _can_go_on(path: Path) -> bool:
    """Whether a run file is there to be gone on with."""
    try:
        run = open_run(path)
        return run.status not in (RunStatus.COMPLETED, RunStatus.RUNNING) and run.rows("selection") > 0
    except UserMistake:
        return False


def _packed(cells: CellMask) -> str:
    return np.packbits(cells).tobytes().hex()


def _unpacked(text: str, like: CellMask) -> CellMask:
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), dtype=np.uint8))
    if len(bits) != -(-like.size // 8) * 8:
        raise UserMistake("the array of this bench has another size than when the item was added; add it anew")
    return np.asarray(bits[: like.size].astype(bool).reshape(like.shape))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
