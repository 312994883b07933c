"""Faults on the line of the framed board: no answer to another question, no pulse twice, none lost without its name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from drivers.errors import InDoubt, InstrumentError, LinkError, ReplyError
from drivers.framed import BoardLimits, FramedBoard, open_framed
from drivers.framed.link import FramedLink
from drivers.limits import Range
from drivers.simulated.board import BoardServer
from drivers.simulated.firmware import BoardProperties
from models.cells import Device, DeviceMask, Geometry, Polarity
from models.exceptions import BenchFailure
from tests.drivers.fake_chip import FakeChip, served
from tests.faults.campaign import Campaign, Row
from tests.faults.mangling import MANGLERS

GEOMETRY = Geometry(4, 6)
LIMITS = BoardLimits(Range(1e-7, 1e-3, "s", "campaign"), Range(1, 1000, "pulses", "campaign"))
WIDTH_S = 1e-5
TIMEOUT_S = 0.02
RATE = 0.2
"""Part of the pieces on the line that a fault befalls."""

TRANSPORTS = ("pty", "tcp")
RETRIES = 2
PATIENCE = 20
"""Attempts to reopen the link on a bad line before the line is left in peace."""

FULL: Mapping[str, int] = {
    "flipped": 2400,
    "lost": 1800,
    "doubled": 2400,
    "cut": 900,
    "reset": 500,
    "late": 800,
    "missing": 1200,
}
"""Faults of each kind at full scale: 10 000 together."""

NAMES: Mapping[str, str] = {
    "flipped": "bits flipped",
    "lost": "bytes lost",
    "doubled": "bytes doubled",
    "cut": "frames cut",
    "reset": "board resets",
    "late": "late replies",
    "missing": "missing requests and replies",
}


@dataclass
class Line:
    """A bad line: hooks into both of its directions.

    Attributes:
        injected: faults so far.
        budget: faults to inject.
        quiet: no faults for the moment.
    """

    kind: str
    server: BoardServer
    rng: np.random.Generator
    budget: int
    injected: int = 0
    quiet: bool = False
    _held: list[tuple[int, bytes]] = field(default_factory=list)

    def attach(self) -> None:
        """Stand between the host and the board."""
        self.server.to_board = self._inward
        self.server.to_host = self._outward

    @property
    def spent(self) -> bool:
        """All faults are injected."""
        return self.injected >= self.budget

    def _strikes(self, data: bytes) -> bool:
        return bool(data) and not self.quiet and not self.spent and self.rng.random() < RATE

    def _inward(self, data: bytes) -> bytes:
        if self.kind == "late" or not self._strikes(data):
            return data
        return self._spoil(data)

    def _outward(self, data: bytes) -> bytes:
        if self.kind == "late":
            return self._delay(data)
        return self._spoil(data) if self._strikes(data) else data

    def _spoil(self, data: bytes) -> bytes:
        if self.kind == "missing":
            spoilt = b""
        elif self.kind == "reset":
            self.server.reset()
            spoilt = data if self.rng.random() < 0.5 else b""
        else:
            spoilt = MANGLERS[self.kind](data, self.rng)
            if spoilt == data:
                return data
        self.injected += 1
        return spoilt

    def _delay(self, data: bytes) -> bytes:
        """Let a reply come after the host has given it up, or after replies that were sent later."""
        self._held = [(left - 1, late) for left, late in self._held]
        due = b"".join(late for left, late in self._held if left <= 0)
        self._held = [(left, late) for left, late in self._held if left > 0]
        if self._strikes(data):
            self.injected += 1
            if self.rng.random() < 0.5:
                self._held.append((int(self.rng.integers(1, 12)), data))
                return due
            time.sleep(TIMEOUT_S * self.rng.uniform(1.05, 2.5))
        return due + data


@dataclass
class Account:
    """The host's own account of what was done to the chip, against what the chip counted."""

    chip: FakeChip
    board: FramedBoard
    link: FramedLink
    line: Line
    rng: np.random.Generator
    row: Row
    doubts: int = 0

    def work(self) -> None:
        """Do one thing, chosen at random, and settle the account."""
        action = self.rng.choice(
            [self._pulse, self._sense, self._xnor, self._ping, self._counters, self._direct],
            p=[0.5, 0.15, 0.15, 0.08, 0.06, 0.06],
        )
        before = self.chip.pulses.copy()
        wrong: str | None = None
        try:
            wrong = action(before)
        except LinkError:
            self._reopen()
        except (InstrumentError, ReplyError) as error:
            wrong = f"one end understood something else: {error}"
        except Exception as error:  # anything but an error of ours is a loss
            wrong = f"{type(error).__name__} instead of a clear error: {error}"
            self._reopen()
        if wrong is None and action != self._pulse and (self.chip.pulses != before).any():
            wrong = "a read pulsed devices"
        if wrong is not None:
            self.row.lose(wrong)

    def _pulse(self, before: np.ndarray) -> str | None:
        mask = self.rng.random((*GEOMETRY, 2)) < 0.2
        polarity = Polarity(int(self.rng.integers(2)))
        count = int(self.rng.integers(1, 30))
        wanted = np.zeros_like(before)
        wanted[..., polarity] = mask * count
        try:
            self.board.pulse(polarity, mask, WIDTH_S, count)
        except InDoubt as error:
            # What the board still has of this session is refused once the next one is open: the count is final.
            self._reopen()
            self.doubts += 1
            return self._judge_doubt(error, self.chip.pulses - before, wanted, mask)
        except BenchFailure:
            if (self.chip.pulses != before).any():
                return "pulses acted although the error names no cell in doubt"
            raise
        return None if (self.chip.pulses - before == wanted).all() else "a pulse acted twice, elsewhere, or not at all"

    @staticmethod
    def _judge_doubt(error: InDoubt, acted: np.ndarray, wanted: np.ndarray, mask: DeviceMask) -> str | None:
        doubtful = np.zeros_like(mask)
        if error.devices:
            doubtful[tuple(np.transpose(error.devices))] = True
        if not doubtful.any() or (doubtful & ~mask).any():
            return f"the cells named in doubt are not those that were pulsed: {error}"
        if (acted > wanted).any():
            return "a pulse in doubt acted twice"
        if (acted != wanted)[~doubtful].any():
            return "a pulse was lost whose cell is not named"
        return None

    def _sense(self, before: np.ndarray) -> str | None:
        # Other weights each time: the answer to any other question is wrong.
        self.chip.weights = self.rng.choice([-1, 0, 1], GEOMETRY).astype(np.int8)
        repeats = int(self.rng.integers(1, 40))
        sensed = self.board.sense(WIDTH_S, WIDTH_S, repeats)
        right = sensed.shape == (repeats, *GEOMETRY) and (sensed == self.chip.weights).all()
        return None if right else "a sense got another answer"

    def _xnor(self, before: np.ndarray) -> str | None:
        self.chip.weights = self.rng.choice([-1, 0, 1], GEOMETRY).astype(np.int8)
        inputs = self.rng.choice([-1, 1], (int(self.rng.integers(1, 60)), GEOMETRY.cols)).astype(np.int8)
        sums = self.board.xnor(inputs, WIDTH_S, WIDTH_S, GEOMETRY)
        return None if (sums == inputs.astype(int) @ self.chip.weights.T).all() else "an XNOR got another answer"

    def _ping(self, before: np.ndarray) -> str | None:
        self.link.ping(self.rng.bytes(int(self.rng.integers(0, 40))))
        return None

    def _counters(self, before: np.ndarray) -> str | None:
        counted = self.board.status().pulses
        # A board that was reset counts anew.
        right = counted <= before.sum() if self.line.kind == "reset" else counted == before.sum()
        return None if right else f"the board counts {counted} pulses, the chip {before.sum()}"

    def _direct(self, before: np.ndarray) -> str | None:
        row, col = (int(self.rng.integers(size)) for size in GEOMETRY)
        device = Device(int(self.rng.integers(2)))
        self.board.connect_device(row, col, device)
        allowed = [(row, col, device), None] if self.line.kind == "reset" else [(row, col, device)]
        if self.chip.connected not in allowed:
            return f"device {(row, col, device)} was to be connected, it is {self.chip.connected}"
        self.board.safe_off()
        return None if self.chip.connected is None else "a device is connected after the safe state was confirmed"

    def _reopen(self) -> None:
        for attempt in range(2 * PATIENCE):
            self.line.quiet = attempt >= PATIENCE
            with contextlib.suppress(LinkError):
                self.board.reopen()
                break
        else:
            raise RuntimeError("the link could not be reopened on a line that is good again")
        self.line.quiet = False


def befall(row: Row, kind: str, rng: np.random.Generator, tell: Callable[[Row], None], seed: int = 0) -> None:
    """Let all faults of one kind befall a board, half of them on each transport."""
    doubts = 0
    for number, transport in enumerate(TRANSPORTS):
        chip = FakeChip(GEOMETRY)
        before = row.injected
        budget = (row.total + number) // len(TRANSPORTS)
        # A board that is soon busy too long: most calls travel as several requests through the window.
        properties = BoardProperties(max_busy_ms=1)
        with (
            served(chip, transport, seed=seed, properties=properties) as server,
            open_framed(server.port, timeout_s=TIMEOUT_S, retries=RETRIES) as link,
        ):
            on_line, at_host = rng.spawn(2)
            line = Line(kind, server, on_line, budget)
            account = Account(chip, FramedBoard(link, LIMITS), link, line, at_host, row)
            line.attach()
            while not line.spent:
                account.work()
                row.injected = before + line.injected
                tell(row)
        doubts += account.doubts
    row.remarks.append(f"{doubts} calls ended with an error that names the cells in doubt")


def run(campaign: Campaign) -> None:
    """All kinds of faults."""
    for kind, full in FULL.items():
        row = campaign.row(f"framed board: {NAMES[kind]}", full)
        started = time.monotonic()
        befall(row, kind, campaign.rng("framed", kind), campaign.tell, campaign.seed)
        campaign.finish(row, time.monotonic() - started)
