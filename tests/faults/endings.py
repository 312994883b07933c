"""Processes ended from outside in the middle of a run: killed, terminated, interrupted once and over and over.

Every time the process had a say, all outputs are off and the end is on record. Where it had none (SIGKILL), the board's
watchdog takes its lines down; what no watchdog guards stays as it was, until the next session takes it down.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.config import BenchFile
from bench.session import connect, simulated_bench
from bench.stopping import INTERRUPTED_STATUS
from data.runs import RunStatus, find_interrupted, open_run, recover
from drivers.framed.codec import TERMINATOR, Deframer, Frame, encode
from drivers.framed.messages import RESPONSE, UNNUMBERED, Counters, Opcode
from drivers.framed.port import SerialPort
from tests.faults import ending_client
from tests.faults.campaign import Campaign, Row

FULL = 200
WATCHDOG_S = 0.6
"""Short, so that the campaign need not wait long for it."""

LONG_WATCHDOG_S = 10.0
EARLY = 0.2
"""Part of the ends that may come while the client still connects; the others come once it is in a run."""

LONGEST_S = 1.0
"""Latest moment of an end."""

PATIENCE_S = 20.0
STEP_S = 0.002
HAMMERS = (5, 100)
"""Fewest and most signals of a hammered Ctrl-C, one every few milliseconds."""

BENCHES = 3
"""Served benches that are used at once: most of the time is spent waiting."""

OFF_V = 0.01
ARMED = 1
WATCHED, ON_PADS, POWERED = "watchdog armed", "device on the pads", "supply on"


class Outputs(NamedTuple):
    """What the instruments themselves say, asked by a client that is not ours."""

    supply: str
    smu: str
    board: Counters

    @property
    def supply_off(self) -> bool:
        """All three channels are off, set to 0 V, and measure 0 V."""
        *settings, measured = self.supply.split(";")
        volts = [float(part) for part in (*settings[::2], *measured.split(","))]
        return all(abs(value) < OFF_V for value in volts) and all(part.strip() == "0" for part in settings[1::2])

    @property
    def smu_off(self) -> bool:
        """The output is off and set to 0 V."""
        on, level = self.smu.split(";")
        return on.strip() == "0" and float(level) == 0.0


@dataclass
class Served:
    """A simulated bench in a process of its own, which outlives its clients.

    Attributes:
        seen: how often a client was ended in which state of the bench.
    """

    config: BenchFile
    text: str
    folder: Path
    runs: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    @property
    def file(self) -> Path:
        """Its bench file."""
        return self.folder / "bench.toml"

    def ask(self, resource: str, question: str) -> str:
        """Ask an instrument through a plain socket."""
        _, host, port, _ = resource.split("::")
        with socket.create_connection((host, int(port)), timeout=5) as wire, wire.makefile("rb") as replies:
            wire.sendall(question.encode("ascii") + b"\n")
            return replies.readline().decode("ascii").strip()

    def board(self) -> Counters:
        """Ask the board for its counters, without a session: nothing changes by asking."""
        port = SerialPort(self.config.board.port, self.config.board.baudrate, 1.0)
        try:
            port.write(TERMINATOR + encode(Frame(UNNUMBERED, UNNUMBERED, 7, Opcode.STATUS, b"")))
            deframer, deadline = Deframer(0xFFFF), time.monotonic() + 5.0
            while time.monotonic() < deadline:
                for item in deframer.feed(port.read(0.1)):
                    if isinstance(item, Frame) and item.opcode == Opcode.STATUS | RESPONSE and item.sequence == 7:
                        return Counters.unpack(item.payload[1:])
        finally:
            port.close()
        raise RuntimeError("the board does not answer")

    def outputs(self) -> Outputs:
        """Ask all instruments."""
        assert self.config.smu is not None
        channels = ";".join(f":INST:SEL CH{n};:SOUR:VOLT?;:SOUR:CHAN:OUTP?" for n in (1, 2, 3))
        return Outputs(
            self.ask(self.config.supply.resource, f"{channels};:MEAS:VOLT? ALL"),
            self.ask(self.config.smu.resource, "OUTP?;:SOUR:VOLT?"),
            self.board(),
        )

    def new_folder(self) -> Path:
        """Where the next client puts its run files."""
        self.runs += 1
        folder = self.folder / f"runs-{self.runs}"
        folder.mkdir()
        return folder


@dataclass
class Client:
    """A client process, and what it has told so far."""

    process: BaseProcess
    told: Connection
    folder: Path
    messages: list[tuple[str, str]] = field(default_factory=list)

    def listen(self, until: str = "", deadline: float = 0.0) -> None:
        """Take what it told; with ``until``, wait for that."""
        while True:
            wait_s = max(0.0, deadline - time.monotonic()) if until else 0.0
            try:
                if not self.told.poll(wait_s):
                    return
                self.messages.append(self.told.recv())
            except (EOFError, OSError):  # it has ended
                return
            if until and self.messages[-1][0] == until:
                return

    @property
    def acknowledged(self) -> int:
        """Records that it was told of in its last run."""
        kinds = [kind for kind, _ in self.messages]
        start = len(kinds) - kinds[::-1].index(ending_client.RUN) if ending_client.RUN in kinds else len(kinds)
        return sum(int(text) for kind, text in self.messages[start:] if kind == ending_client.RECORDED)

    @property
    def failure(self) -> str:
        """Why it ended by itself; empty when it did not."""
        return next((text for kind, text in self.messages if kind == ending_client.FAILED), "")


@contextlib.contextmanager
def served(seed: int) -> Iterator[Served]:
    """Serve a bench for the length of the block."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, simulated_bench(seed) as (config, text):
        bench = Served(config, text, Path(folder))
        bench.file.write_text(text, encoding="utf-8")
        yield bench


@contextlib.contextmanager
def client(bench: Served, watchdog_s: float) -> Iterator[Client]:
    """Start a client, and wait until it can be stopped."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.ending_client", "pyvisa", "pyvisa_py", "h5py"])
    parent, child = context.Pipe(duplex=False)
    folder = bench.new_folder()
    process = context.Process(target=ending_client.work, args=(bench.file, folder, watchdog_s, child), daemon=True)
    process.start()
    child.close()
    started = Client(process, parent, folder)
    try:
        started.listen(ending_client.READY, time.monotonic() + PATIENCE_S)
        yield started
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        parent.close()


def end_it(bench: Served, rng: np.random.Generator, ending: str) -> str | None:
    """End one client at a random moment; return what is wrong afterwards, None for nothing."""
    killed = ending == "SIGKILL"
    with client(bench, WATCHDOG_S if killed else LONG_WATCHDOG_S) as one:
        if rng.random() > EARLY:
            one.listen(ending_client.RUN, time.monotonic() + PATIENCE_S)
        time.sleep(rng.uniform(0.0, LONGEST_S))
        if one.process.exitcode is not None:
            one.listen()
            return f"the client ended by itself: {one.failure}"
        if killed:
            one.process.kill()
            one.process.join()
            one.listen()
            return _after_kill(bench, one)
        _signal(one, ending, rng)
        one.process.join(PATIENCE_S)
        one.listen()
        if one.process.exitcode is None:
            return f"still running {PATIENCE_S:g} s after {ending}"
        return _after_ending(bench, one)


def _signal(one: Client, ending: str, rng: np.random.Generator) -> None:
    pid = one.process.pid
    assert pid is not None
    times = int(rng.integers(*HAMMERS)) if ending == "Ctrl-C, hammered" else 1
    for _ in range(times):
        # exitcode reaps the process: its number cannot be somebody else's as long as it is None. A look at all children
        # from another thread may have reaped it in between.
        if one.process.exitcode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM if ending == "SIGTERM" else signal.SIGINT)
        if times > 1:
            time.sleep(STEP_S)


def _after_ending(bench: Served, one: Client) -> str | None:
    code = one.process.exitcode
    # A signal that comes when all is over, and our handlers are gone, ends the interpreter itself.
    if code not in (INTERRUPTED_STATUS, 1, -signal.SIGINT) or one.failure:
        return f"it ended with status {code}: {one.failure}"
    now = bench.outputs()
    if not now.supply_off or not now.smu_off or now.board.lines:
        return f"not all is off: {now}"
    for path in sorted(one.folder.glob("*.h5")):
        status = open_run(path).status
        if status not in (RunStatus.COMPLETED, RunStatus.STOPPED):
            return f"the end of {path.name} is not on record: {status}"
    return _records_kept(one)


def _after_kill(bench: Served, one: Client) -> str | None:
    before = bench.outputs()
    bench.seen[WATCHED] += before.board.watchdog == ARMED
    bench.seen[ON_PADS] += bool(before.board.lines)
    bench.seen[POWERED] += not before.supply_off
    time.sleep(WATCHDOG_S + 0.1)
    after = bench.board()
    if after.lines:
        return f"the watchdog left lines up: {after}"
    if before.board.watchdog == ARMED and after.watchdog != Counters.TRIPPED:
        return f"the watchdog did not trip: {after}"
    if after.pulses != before.board.pulses:
        return "devices were pulsed after the kill"
    connect(bench.config, bench.text).close()  # the next session takes down what no watchdog guards
    now = bench.outputs()
    if not now.supply_off or not now.smu_off:
        return f"the next session left outputs on: {now}"
    wrong = _records_kept(one)
    for path in find_interrupted(one.folder):
        status = open_run(recover(path)).status
        # One that had ended and was killed while its file was rewritten keeps the status it had ended with.
        if status not in (RunStatus.COMPLETED, RunStatus.INTERRUPTED):
            return f"{path.name} was recovered as {status}"
    return wrong


def _records_kept(one: Client) -> str | None:
    """What was acknowledged is on disk."""
    if not one.acknowledged:
        return None
    newest = open_run(max(one.folder.glob("*.h5")))
    rows = sum(newest.rows(table) for table in newest.tables)
    return None if rows >= one.acknowledged else f"{one.acknowledged} records were acknowledged, {rows} are on disk"


ENDINGS = {"SIGKILL": FULL, "SIGTERM": FULL, "Ctrl-C": FULL // 2, "Ctrl-C, hammered": FULL // 2}


def run(campaign: Campaign, benches: int = BENCHES) -> None:
    """All kinds of endings, on several served benches at once."""
    with contextlib.ExitStack() as stack:
        pool = [stack.enter_context(served(campaign.seed + number)) for number in range(benches)]
        for ending, full in ENDINGS.items():
            row = campaign.row(f"{ending} in the middle of a run", full)
            started = time.monotonic()
            _share(campaign, row, ending, pool)
            if ending == "SIGKILL":
                seen = sum((bench.seen for bench in pool), Counter[str]())
                row.remarks.append(
                    f"the kill found the watchdog armed {seen[WATCHED]} times, a device on the direct-access pads "
                    f"{seen[ON_PADS]} times, and the supply on {seen[POWERED]} times: that model has no watchdog, the "
                    "next session took it down"
                )
            campaign.finish(row, time.monotonic() - started)


def _share(campaign: Campaign, row: Row, ending: str, pool: Sequence[Served]) -> None:
    """Share the endings of a row among the benches."""
    guard = threading.Lock()
    rngs = campaign.rng("endings", ending).spawn(row.total)
    left = list(enumerate(rngs))

    def work(bench: Served) -> None:
        while True:
            with guard:
                if not left:
                    return
                number, rng = left.pop()
            wrong = end_it(bench, rng, ending)
            with guard:
                row.injected += 1
                if wrong is not None:
                    row.lose(f"{ending} {number}: {wrong}")
                campaign.tell(row)

    with ThreadPoolExecutor(len(pool)) as executor:
        for each in [executor.submit(work, bench) for bench in pool]:
            each.result()
