"""A session with a bench: connect every role of its file, check who answers, and leave everything at 0 V and off."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from bench.config import BenchFile, load_bench_file, parse_bench_file
from drivers.chip import Chip
from drivers.errors import LinkError, WrongInstrument
from drivers.framed.board import BoardLimits, FramedBoard
from drivers.framed.link import open_framed
from drivers.keithley_2230g import ChannelLimits, Keithley2230G
from drivers.keithley_2450 import Keithley2450, SmuLimits
from drivers.limits import Range
from drivers.rails import SupplyRails
from drivers.roles import Identity
from drivers.visa_link import open_visa
from models.exceptions import BenchFailure, RramBenchError, UserMistake

SIMULATED = "simulated"
END_TIMEOUT_S = 20.0
_NEW_PROCESS_GROUP = 0x200  # subprocess.CREATE_NEW_PROCESS_GROUP, which exists on Windows only


class Safeable(Protocol):
    """What the safe state needs of an instrument."""

    def safe_off(self) -> None:
        """Outputs to 0 V and off, confirmed by reading back."""

    def close(self) -> None:
        """Close the link."""


@dataclass(frozen=True)
class SafeStep:
    """What became of one instrument on the way to the safe state.

    Attributes:
        role: which part of the bench.
        confirmed: the instrument itself said that it is off. Otherwise its state is UNKNOWN.
        reason: why it could not be confirmed; empty when it was.
    """

    role: str
    confirmed: bool
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.role}: 0 V and off" if self.confirmed else f"{self.role}: UNKNOWN ({self.reason})"


@dataclass(frozen=True)
class SafeReport:
    """The safe state, instrument by instrument, in the order in which they were switched off."""

    steps: tuple[SafeStep, ...]

    @property
    def confirmed(self) -> bool:
        """True when every instrument confirmed it."""
        return all(step.confirmed for step in self.steps)

    def __str__(self) -> str:
        return "; ".join(map(str, self.steps))


@dataclass
class Bench:
    """Everything that a bench file names, connected. A context manager: every exit leaves the outputs off.

    Attributes:
        config: the checked bench file.
        text: the bench file as written, for the record.
        chip: the array, as the application uses it.
        identities: who answered in each role.
    """

    config: BenchFile
    text: str
    chip: Chip
    rails: SupplyRails
    supply: Keithley2230G
    board: FramedBoard
    smu: Keithley2450 | None
    identities: dict[str, Identity]
    _closed: bool = field(default=False, init=False)

    def safe_off(self) -> SafeReport:
        """Bring the bench to its safe state: the board's lines, the source-measure unit, the supply; core rail last.

        Each step runs whatever became of the others. What no instrument confirmed is reported as UNKNOWN.
        """
        steps: list[tuple[str, Callable[[], None]]] = [("board", self.board.safe_off)]
        if self.smu is not None:
            steps.append(("smu", self.smu.safe_off))
        steps.append(("supply", self.rails.off))
        return SafeReport(tuple(_safe_step(role, step) for role, step in steps))

    def close(self) -> SafeReport:
        """Safe state, then close all links. Safe to call twice."""
        if self._closed:
            return SafeReport(())
        report = self.safe_off()
        self._closed = True
        for instrument in (self.board, self.smu, self.supply):
            if instrument is not None:
                instrument.close()
        return report

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        report = self.close()
        if not report.confirmed:
            if error is None:
                raise BenchFailure(f"the safe state is not confirmed: {report}")
            error.add_note(f"the safe state is not confirmed: {report}")


def _safe_step(role: str, step: Callable[[], None]) -> SafeStep:
    try:
        step()
    except (RramBenchError, OSError) as error:
        return SafeStep(role, False, str(error))
    return SafeStep(role, True)


class Connector:
    """Opens the roles of a bench file one by one: for a session, which needs all, or the check, which asks each."""

    def __init__(self, config: BenchFile) -> None:
        self.config = config

    def supply(self) -> Keithley2230G:
        """Open the supply behind the bench file's limits. Raises UserMistake when nobody answers there."""
        section = self.config.supply
        current = Range(0.0, section.current_limit_a, "A", f"supply.current_limit_a of bench {self.config.name!r}")
        limits = {
            getattr(section.channels, rail): ChannelLimits(self.config.limit(f"{rail}_v", "V"), current)
            for rail in ("vdd", "vddc", "vddr")
        }
        with _naming("supply", section.resource):
            return Keithley2230G(open_visa(section.resource), limits, section.serial)

    def smu(self) -> Keithley2450 | None:
        """Open the source-measure unit, or None where the bench has none."""
        section = self.config.smu
        if section is None:
            return None
        limits = SmuLimits(self.config.limit("smu_voltage_v", "V"), self.config.limit("smu_compliance_a", "A"))
        with _naming("smu", section.resource):
            return Keithley2450(open_visa(section.resource), limits, section.serial)

    def board(self) -> FramedBoard:
        """Open the controller board."""
        section = self.config.board
        limits = BoardLimits(
            width=self.config.limit("pulse_width_s", "s"),
            count=self.config.limit("pulse_count", "pulses"),
            window=self.config.limit("sense_window_s", "s"),
        )
        with _naming("board", section.port):
            return FramedBoard(open_framed(section.port, section.baudrate), limits)

    def check_chip(self, board: FramedBoard) -> None:
        """Refuse another chip or geometry than the bench file names, before any voltage."""
        wanted = self.config.chip
        if board.geometry != self.config.geometry:
            raise WrongInstrument(
                f"board {self.config.board.port}: the chip has {board.geometry.rows} x {board.geometry.cols} cells, "
                f"the bench file says {wanted.rows} x {wanted.cols}; correct [chip] or change the chip"
            )
        if wanted.id is not None and board.chip_id != wanted.id:
            raise WrongInstrument(
                f"board {self.config.board.port}: the chip in the socket is {board.chip_id!r}, "
                f"the bench file says {wanted.id!r}; correct chip.id or change the chip"
            )


@contextmanager
def _naming(role: str, resource: str) -> Iterator[None]:
    """A link that cannot be opened is a mistake in the bench file or on the desk: say which role it is."""
    try:
        yield
    except LinkError as error:
        raise UserMistake(f"{role} ({resource}): {error}") from error


def connect(config: BenchFile, text: str = "") -> Bench:
    """Open and identify every instrument, switch all outputs off and program the instruments' own limits.

    Raises:
        UserMistake: a resource that nobody serves.
        BenchFailure: another instrument, chip or geometry than the file says, or a setting that was not taken.
    """
    connector = Connector(config)
    opened: list[tuple[str, Safeable]] = []
    try:
        supply = connector.supply()
        opened.append(("supply", supply))
        smu = connector.smu()
        if smu is not None:
            opened.append(("smu", smu))
        board = connector.board()
        opened.append(("board", board))
        identities = {"supply": supply.identify(), "board": board.identify()}
        if smu is not None:
            identities["smu"] = smu.identify()
        connector.check_chip(board)
        rails = _prepare(config, supply, smu, board)
    except BaseException as error:
        for role, instrument in reversed(opened):
            step = _safe_step(role, instrument.safe_off)
            if not step.confirmed:
                error.add_note(str(step))
            instrument.close()
        raise
    chip = Chip(board, rails, config.points, smu)
    return Bench(config, text, chip, rails, supply, board, smu, identities)


def _prepare(config: BenchFile, supply: Keithley2230G, smu: Keithley2450 | None, board: FramedBoard) -> SupplyRails:
    board.safe_off()
    if smu is not None and config.smu is not None:
        smu.safe_off()
        smu.set_integration(config.smu.power_line_cycles)
    channels = config.supply.channels
    rails = SupplyRails(
        supply,
        {"vdd_v": channels.vdd, "vddc_v": channels.vddc, "vddr_v": channels.vddr},
        current_limit_a=config.supply.current_limit_a,
        voltage_limits_v={key: getattr(config.limits, key)[1] for key in ("vdd_v", "vddc_v", "vddr_v")},
        settle_s=config.supply.settle_s,
        tolerance_v=config.supply.tolerance_v,
    )
    rails.prepare()
    return rails


@contextmanager
def simulated_bench(
    seed: int = 0, device: Path | None = None, baud: int | None = None
) -> Iterator[tuple[BenchFile, str]]:
    """Start a simulated bench in a process of its own for the length of the block; yield its bench file.

    Args:
        seed: of the simulated chip and instruments.
        device: device file of the chip's population; the default one when None.
        baud: serial speed to honour, in bit/s.

    Raises:
        BenchFailure: the process did not come up.
    """
    command = [sys.executable, "-m", "drivers.simulated", "--seed", str(seed)]
    command += [] if device is None else ["--device", str(device)]
    command += [] if baud is None else ["--baud", str(baud)]
    command += ["--transport", "pty" if sys.platform != "win32" else "tcp"]
    # Ctrl-C reaches the whole foreground group; the bench must outlive its client to be switched off by it.
    apart = {"start_new_session": True} if sys.platform != "win32" else {"creationflags": _NEW_PROCESS_GROUP}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **apart)
    try:
        text = _read_bench_file(process)
        yield parse_bench_file(text, "bench file of the simulated bench"), text
    finally:
        _end(process)


def _read_bench_file(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        if line == "\0\n":
            return "".join(lines)
        lines.append(line)
    status = process.wait()
    failure = UserMistake if status == UserMistake.exit_status else BenchFailure
    raise failure(f"the simulated bench did not start (status {status}); its own message is above")


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    try:
        process.wait(timeout=END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def open_bench(source: str | Path = SIMULATED, seed: int = 0, baud: int | None = None) -> Iterator[Bench]:
    """Connect to the bench that ``source`` names: "simulated", or the path of a bench file.

    Args:
        source: "simulated" starts a simulated bench for the length of the block.
        seed: of the simulated bench; a bench file has its own world.
        baud: serial speed of the simulated bench.
    """
    if str(source) == SIMULATED:
        with simulated_bench(seed, baud=baud) as (config, text), connect(config, text) as bench:
            yield bench
    else:
        config, text = load_bench_file(Path(source))
        with connect(config, text) as bench:
            yield bench


@dataclass(frozen=True)
class CheckRow:
    """Verdict on one role of a bench file."""

    role: str
    driver: str
    resource: str
    ok: bool
    answer: str
    milliseconds: float | None
    exit_status: int


def check_bench(config: BenchFile) -> list[CheckRow]:
    """Connect to each instrument in turn and say who answered or why not. Switches outputs off, moves no voltage."""
    connector = Connector(config)
    openers: list[tuple[str, str, str, Callable[[], Keithley2230G | Keithley2450 | FramedBoard | None]]] = [
        ("supply", config.supply.driver, config.supply.resource, connector.supply),
        ("board", config.board.driver, config.board.port, connector.board),
    ]
    if config.smu is not None:
        openers.insert(1, ("smu", config.smu.driver, config.smu.resource, connector.smu))
    return [_check_one(connector, *opener) for opener in openers]


def _check_one(
    connector: Connector,
    role: str,
    driver: str,
    resource: str,
    opener: Callable[[], Keithley2230G | Keithley2450 | FramedBoard | None],
) -> CheckRow:
    try:
        instrument = opener()
        assert instrument is not None
        try:
            started = time.monotonic()
            answer = str(instrument.identify())
            elapsed_ms = (time.monotonic() - started) * 1e3
            if isinstance(instrument, FramedBoard):
                connector.check_chip(instrument)
                answer += f"; chip {instrument.chip_id}, {instrument.geometry.rows} x {instrument.geometry.cols} cells"
            instrument.safe_off()
        finally:
            instrument.close()
    except RramBenchError as error:
        return CheckRow(role, driver, resource, False, str(error), None, error.exit_status)
    return CheckRow(role, driver, resource, True, answer, elapsed_ms, 0)
