"""Self-test of a bench: who answers, whether the outputs are at 0 V, the chip in the socket, its line registers.

All of that moves no voltage of the array. The sense amplifiers can only be judged by patterns that were programmed into
a formed array: :func:`judge_amplifiers` tells an amplifier that is stuck or random from cells that are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from drivers.errors import ReadBackError, WrongInstrument
from drivers.limits import Range
from drivers.roles import PowerSupply
from models.cells import Geometry, Weights
from models.exceptions import BenchFailure

ECHOED = bytes(range(256))
ECHO_BYTES = 64

MOSTLY = 0.75
"""Share of a column's reads from which on an amplifier counts as stuck, or as never deciding."""

SOMETIMES = 0.2
"""Share of wrong or unsteady reads from which on an amplifier that is not stuck counts as random.

Broken cells are about one in a thousand: one of them in a column of 8 makes a sixteenth of its reads wrong.
"""

UNFORMED_SHARE = 0.5
"""Share of faulty amplifiers from which on it is rather the array that is not formed, or not supplied."""


@dataclass(frozen=True)
class Verdict:
    """What one check came to.

    Attributes:
        name: what was checked.
        ok: whether it passed.
        answer: what was found, or why it failed.
        remedy: what to try; empty where nothing is wrong.
    """

    name: str
    ok: bool
    answer: str
    remedy: str = ""

    def as_json(self) -> dict[str, str | bool]:
        """Return it as a JSON object, with the remedy under ``try``."""
        return {"name": self.name, "ok": self.ok, "answer": self.answer, "try": self.remedy}


@runtime_checkable
class EchoingBoard(Protocol):
    """A board that sends bytes back; optional."""

    def echo(self, data: bytes) -> float:
        """Send ``data`` to the board and back; return the round trip in s. Raises ReplyError for other bytes."""


@runtime_checkable
class NumberedProtocol(Protocol):
    """A board whose protocol has a version that both ends agreed on; optional."""

    @property
    def protocol(self) -> str:
        """Return the protocol and its version."""


@runtime_checkable
class RegisterBoard(Protocol):
    """A board that reaches the chip's lines through shift registers, and can read their ends; optional."""

    def check_registers(self) -> None:
        """Walk patterns through the registers, with no voltage on the array.

        Raises:
            ReadBackError: a register is stuck, reversed, exchanged for another, or wrong in some bits.
        """


def check_at_rest(supply: PowerSupply, channels: Mapping[str, int], tolerance_v: float) -> Verdict:
    """Measure the rails after they were switched off: nobody else may drive them.

    Args:
        channels: supply channel of each rail, by name.
        tolerance_v: largest voltage in V that counts as 0.

    Raises:
        BenchFailure: the supply does not answer.
    """
    readings = supply.measure()
    rails = {rail: readings[channel - 1] for rail, channel in channels.items()}
    found = ", ".join(
        f"{rail} {reading.voltage_v:.3f} V {'on' if reading.on else 'off'}" for rail, reading in rails.items()
    )
    driven = [rail for rail, reading in rails.items() if reading.on or abs(reading.voltage_v) > tolerance_v]
    remedy = f"disconnect whatever else drives {', '.join(driven)}, and switch the supply off by hand" if driven else ""
    return Verdict("outputs at 0 V and off", not driven, found, remedy)


def check_protocol(board: NumberedProtocol) -> Verdict:
    """Name the protocol version that was agreed on; without an agreement there would be no link to the board."""
    return Verdict("protocol version", True, board.protocol)


def check_echo(board: EchoingBoard) -> Verdict:
    """Send every byte value to the board and back."""
    try:
        seconds = sum(board.echo(ECHOED[start : start + ECHO_BYTES]) for start in range(0, len(ECHOED), ECHO_BYTES))
    except BenchFailure as error:
        return Verdict("line to the board", False, str(error), "use another cable, or a lower baud rate")
    return Verdict("line to the board", True, f"{len(ECHOED)} byte values came back in {seconds * 1e3:.1f} ms")


def check_registers(board: RegisterBoard) -> Verdict:
    """Walk patterns through the registers that drive the chip's lines."""
    name = "shift registers"
    try:
        board.check_registers()
    except ReadBackError as error:
        return Verdict(name, False, str(error), "take the chip out, and check its seat, its orientation and the cables")
    return Verdict(name, True, "every bit of every register came out as it went in")


def check_chip(geometry: Geometry, chip_id: str, wanted: Geometry, wanted_id: str | None) -> Verdict:
    """Compare the chip in the socket with the one that the bench file names.

    Args:
        geometry, chip_id: as the board reports them.
        wanted, wanted_id: as the bench file has them; None takes any chip.
    """
    if geometry != wanted:
        return Verdict(
            "chip",
            False,
            f"the chip has {geometry.rows} x {geometry.cols} cells, the bench file says {wanted.rows} x {wanted.cols}",
            "correct [chip] or change the chip",
        )
    if wanted_id is not None and chip_id != wanted_id:
        return Verdict(
            "chip",
            False,
            f"the chip in the socket is {chip_id!r}, the bench file says {wanted_id!r}",
            "correct chip.id or change the chip",
        )
    return Verdict("chip", True, f"chip {chip_id}, {geometry.rows} x {geometry.cols} cells")


def refuse_faulty_lines(board: object, where: str) -> None:
    """Refuse a chip whose line registers do not give back what they are given: a wrong, reversed or missing one.

    Raises:
        WrongInstrument: the walk failed. A board without such registers passes.
    """
    if isinstance(board, RegisterBoard):
        verdict = check_registers(board)
        if not verdict.ok:
            raise WrongInstrument(f"{where}: {verdict.answer}; {verdict.remedy}")


class AmplifierFault(Enum):
    """How a column's sense amplifier is broken."""

    STUCK_AT_0 = "stuck at 0"
    STUCK_AT_1 = "stuck at 1"
    RANDOM = "random"
    UNDECIDED = "never decides"


@dataclass(frozen=True)
class PatternReading:
    """A pattern that was programmed, and how it was read.

    Attributes:
        target: ``(rows, cols)`` int8 of -1 (a sensed 0) and +1 (a sensed 1).
        senses: ``(repeats, rows, cols)`` int8 of -1, 0 (undecided) and +1.
    """

    name: str
    target: Weights
    senses: NDArray[np.int8]


@dataclass(frozen=True)
class FaultyAmplifier:
    """A sense amplifier that does not do its work.

    Attributes:
        column: of the array.
        first_row, last_row: rows that it serves.
        fault: what it does instead.
        wrong: share of its reads that were wrong.
    """

    column: int
    first_row: int
    last_row: int
    fault: AmplifierFault
    wrong: float

    def __str__(self) -> str:
        return f"column {self.column} (rows {self.first_row} to {self.last_row}): {self.fault.value}"


@dataclass(frozen=True)
class AmplifierReport:
    """What the patterns say of the sense amplifiers.

    Attributes:
        faulty: amplifiers that are broken, by column.
        broken_cells: cells of sound amplifiers that read wrong in some pattern: ``(row, col)``.
        amplifiers: how many were judged.
    """

    faulty: tuple[FaultyAmplifier, ...]
    broken_cells: tuple[tuple[int, int], ...]
    amplifiers: int

    @property
    def ok(self) -> bool:
        """True when no amplifier is broken."""
        return not self.faulty

    @property
    def verdict(self) -> Verdict:
        """The report in one line, with what to try."""
        cells = f"{len(self.broken_cells)} single cells read wrong"
        if self.ok:
            return Verdict("sense amplifiers", True, f"all {self.amplifiers} decide both ways; {cells}")
        listed = "; ".join(map(str, self.faulty[:8]))
        more = f" and {len(self.faulty) - 8} more" if len(self.faulty) > 8 else ""
        if len(self.faulty) > UNFORMED_SHARE * self.amplifiers:
            remedy = "form the array first, and check the SENSE rails and times: most amplifiers seem to be at fault"
        else:
            remedy = "leave these columns out of whatever is mapped onto the array"
        return Verdict("sense amplifiers", False, f"{listed}{more}; {cells}", remedy)


def amplifier_patterns(geometry: Geometry) -> dict[str, Weights]:
    """All 0, all 1, checkerboard and its inverse, ``(rows, cols)`` int8 of -1 and +1."""
    rows, cols = np.indices(geometry)
    checkerboard = np.where((rows + cols) % 2 == 0, 1, -1).astype(np.int8)
    ones = np.ones(geometry, dtype=np.int8)
    return {"all 0": -ones, "all 1": ones, "checkerboard": checkerboard, "inverse": -checkerboard}


def judge_amplifiers(
    readings: Sequence[PatternReading], used: NDArray[np.bool_], amplifier_rows: int | None = None
) -> AmplifierReport:
    """Tell which columns' sense amplifiers are stuck or random.

    Args:
        readings: of patterns in which each cell was asked for both weights.
        used: ``(rows, cols)`` bool, cells that were programmed.
        amplifier_rows: rows that share one amplifier, where several arrays are stacked; all rows by default.

    Raises:
        BenchFailure: a used cell was never asked for one of the two weights.
    """
    target = np.concatenate([np.broadcast_to(reading.target, reading.senses.shape) for reading in readings])
    senses = np.concatenate([reading.senses for reading in readings])
    for weight in (-1, 1):
        if not ((target == weight).any(axis=0) | ~used).all():
            raise BenchFailure(
                f"sense amplifiers: no pattern asked every cell for {weight:+d}; judge nothing from this"
            )
    unsteady = np.concatenate(
        [
            np.broadcast_to((reading.senses != reading.senses[0]).any(axis=0), reading.senses.shape)
            for reading in readings
        ]
    )
    rows, cols = used.shape
    height = rows if amplifier_rows is None else Range(1, rows, "rows", "the array").check_int(amplifier_rows, "rows")
    faulty = []
    sound = used.copy()
    judged = 0
    for first in range(0, rows, height):
        for col in range(cols):
            part = (slice(None), np.flatnonzero(used[first : first + height, col]) + first, col)
            if not part[1].size:
                continue
            judged += 1
            fault = _fault(target[part], senses[part], unsteady[part])
            if fault is not None:
                wrong = float((senses[part] != target[part]).mean())
                faulty.append(FaultyAmplifier(col, first, min(first + height, rows) - 1, fault, wrong))
                sound[first : first + height, col] = False
    broken = (senses != target).mean(axis=0) >= SOMETIMES
    cells = tuple((int(row), int(col)) for row, col in np.argwhere(broken & sound))
    return AmplifierReport(tuple(sorted(faulty, key=lambda one: one.column)), cells, judged)


def _fault(target: Weights, senses: NDArray[np.int8], unsteady: NDArray[np.bool_]) -> AmplifierFault | None:
    ones, zeros, undecided = (float((senses == weight).mean()) for weight in (1, -1, 0))
    if undecided >= MOSTLY:
        return AmplifierFault.UNDECIDED
    # Each cell is asked for both weights equally often: a sound amplifier reads ones half of the time.
    if ones >= MOSTLY:
        return AmplifierFault.STUCK_AT_1
    if zeros >= MOSTLY:
        return AmplifierFault.STUCK_AT_0
    if float((senses != target).mean()) >= SOMETIMES or float(unsteady.mean()) >= SOMETIMES:
        return AmplifierFault.RANDOM
    return None
