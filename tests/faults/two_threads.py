"""Two threads on one link: no answer ever goes to the other thread, or to another question of the same one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from drivers.framed import open_framed
from drivers.framed.exchange import Request
from drivers.framed.messages import Opcode
from drivers.simulated.keithley_2230g import Keithley2230GServer
from drivers.visa_link import open_visa
from models.cells import Geometry
from tests.drivers.fake_chip import FakeChip, served
from tests.drivers.simulated_instruments import Resistor, world_with
from tests.faults.campaign import Campaign, Row

FULL = 100_000
THREADS = (1, 2)
MILLIVOLTS = 5000
"""Different answers that a thread can ask for, one after the other."""

BATCH = 500
Hammer = Callable[[int, range], int]
"""Asks the questions of a thread with the given numbers; returns how many answers were wrong."""


def hammer(row: Row, work: Hammer, tell: Callable[[Row], None]) -> None:
    """Let two threads ask at once until all questions of the row are asked."""
    guard = threading.Lock()

    def ask(thread: int) -> None:
        share = (row.total + thread - 1) // len(THREADS)
        for start in range(0, share, BATCH):
            numbers = range(start, min(start + BATCH, share))
            wrong, failure = 0, ""
            try:
                wrong = work(thread, numbers)
            except Exception as error:  # a question that fails is as bad as one answered wrongly
                wrong, failure = len(numbers), f"{type(error).__name__}: {error}"
            with guard:
                row.injected += len(numbers)
                for _ in range(wrong):
                    row.lose(f"thread {thread}, questions {numbers}: {failure or 'another answer'}")
            tell(row)

    threads = [threading.Thread(target=ask, args=(thread,), name=f"thread {thread}") for thread in THREADS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def visa(row: Row, tell: Callable[[Row], None]) -> None:
    """Each question of a VISA link sets another voltage and asks for it, each thread on a channel of its own."""
    with (
        Keithley2230GServer(world_with(Resistor()), np.random.default_rng(1)) as server,
        open_visa(server.resource) as link,
    ):

        def work(thread: int, numbers: range) -> int:
            wrong = 0
            for number in numbers:
                wanted = f"{(number % MILLIVOLTS) / 1000:.3f}"
                answer = link.query(f"INST:SEL CH{thread};:SOUR:VOLT {wanted};:INST:SEL?;:SOUR:VOLT?")
                wrong += answer != f"CH{thread};{wanted}"
            return wrong

        hammer(row, work, tell)


def framed(row: Row, tell: Callable[[Row], None]) -> None:
    """Each question of a framed link is answered by its own bytes; some go in a bunch through the window."""
    with served(FakeChip(Geometry(4, 4))) as server, open_framed(server.port) as link:

        def work(thread: int, numbers: range) -> int:
            wrong, left = 0, list(numbers)
            while left:
                bunch, left = left[: 1 + left[0] % 3], left[1 + left[0] % 3 :]
                asked = [bytes([thread]) + number.to_bytes(4, "little") for number in bunch]
                answers = link.exchange_many(Request(Opcode.PING, data, reply_bytes=6) for data in asked)
                wrong += sum(answer != data for answer, data in zip(answers, asked, strict=True))
            return wrong

        hammer(row, work, tell)


def run(campaign: Campaign) -> None:
    """Both kinds of link."""
    for name, action in (("VISA", visa), ("framed", framed)):
        row = campaign.row(f"two threads on one {name} link", FULL)
        started = time.monotonic()
        action(row, campaign.tell)
        campaign.finish(row, time.monotonic() - started)
