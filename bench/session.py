"""A session with a bench: connect every role of its file, check who answers, and leave everything at 0 V and off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.boards import BenchBoard, open_board
from bench.children import module_command, same_imports
from bench.clock import Clock, RealClock
from bench.config import BenchFile, load_bench_file, parse_bench_file
from bench.instruments import (
    BenchSmu,
    BenchSupply,
    open_prober,
    open_pulse_source,
    open_smu,
    open_supply,
    open_temperature,
)
from bench.interlocking import bench_interlocks, guarded
from bench.lock import BenchLock
from bench.reconnect import reconnect
from bench.safe import Safeable, SafeReport, SafeStep, safe_step, switch_off
from drivers.c2n.usb import resolve_port
from drivers.chip import Chip
from drivers.errors import LinkError, TakenAway, WrongInstrument
from drivers.interlocks import Interlocks
from drivers.prober_role import Die, Prober
from drivers.pulse_source_role import PulseSource
from drivers.rails import SupplyRails
from drivers.roles import ControllerBoard, Identity, Instrument
from drivers.self_test import check_chip, refuse_faulty_lines
from drivers.temperature_role import TemperatureSource
from drivers.world_clock import WorldClock
from models.exceptions import BenchFailure, UserMistake

SIMULATED = "simulated"
END_TIMEOUT_S = 20.0
_NEW_PROCESS_GROUP = 0x200  # subprocess.CREATE_NEW_PROCESS_GROUP, which exists on Windows only


@dataclass
class Bench:
    """Everything that a bench file names, connected. A context manager: every exit leaves the outputs off.

    Attributes:
        config: the checked bench file.
        text: the bench file as written, for the record.
        chip: the array, as the application uses it.
        identities: who answered in each role.
        interlocks: what must hold for a run.
        clock: what long waits are counted on.
        lock: keeps other programs of ours off the bench.
    """

    config: BenchFile
    text: str
    chip: Chip
    rails: SupplyRails
    supply: BenchSupply
    board: BenchBoard
    smu: BenchSmu | None
    pulse_source: PulseSource | None
    temperature: TemperatureSource | None
    identities: dict[str, Identity]
    interlocks: Interlocks
    lock: BenchLock
    clock: Clock = field(default_factory=RealClock)
    _closed: bool = field(default=False, init=False)

    def at(self, config: BenchFile) -> Bench:
        """The same bench, on the same links, at the operating points of ``config``. Nothing is sent."""
        return replace(self, config=config, chip=self.chip.at(config.points))

    def safe_off(self) -> SafeReport:
        """Bring the bench to its safe state: the board's lines, the source-measure unit, the supply; core rail last.

        Each step runs whatever became of the others, and none waits for long for the one before it. What no instrument
        confirmed is reported as UNKNOWN.
        """
        steps = self._electrical_steps()
        if self.temperature is not None:
            steps.append(("temperature", self.temperature.safe_off))
        return switch_off(steps)

    def _electrical_steps(self) -> list[tuple[str, Callable[[], None]]]:
        steps: list[tuple[str, Callable[[], None]]] = []
        if self.pulse_source is not None:
            steps.append(("pulse_source", self.pulse_source.safe_off))
        steps.append(("board", self.board.safe_off))
        if self.smu is not None:
            steps.append(("smu", self.smu.safe_off))
        steps.append(("supply", self.rails.off))
        return steps

    def outputs_off(self) -> SafeReport:
        """Like :meth:`safe_off`, but the temperature is kept: for pauses and waits in the middle of a run."""
        return switch_off(self._electrical_steps())

    def emergency_off(self) -> SafeReport:
        """Outputs off at once, from any thread; the rails stay locked until a new run or :meth:`SupplyRails.permit`."""
        self.rails.forbid("the outputs were switched off in an emergency")
        return self.safe_off()

    def reconnect(self, board_port: str | None = None) -> SafeReport:
        """Open every link again after an unplug, identify everyone, and reach the safe state; see :func:`reconnect`."""
        return reconnect(self, board_port)

    def close(self) -> SafeReport:
        """Safe state, then close all links. Safe to call twice."""
        if self._closed:
            return SafeReport(())
        try:
            report = self.safe_off()
            self._closed = True
            for instrument in (self.pulse_source, self.board, self.smu, self.supply, self.temperature):
                if instrument is not None:
                    instrument.close()
            if isinstance(self.clock, WorldClock):
                self.clock.close()
        finally:
            self.lock.release()
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


class Connector:
    """Opens the roles of a bench file one by one: for a session, which needs all, or the check, which asks each."""

    def __init__(self, config: BenchFile) -> None:
        self.config = config

    def supply(self) -> BenchSupply:
        """Open the supply behind the bench file's limits. Raises UserMistake when nobody answers there."""
        with _naming("supply", self.config.supply.resource):
            return open_supply(self.config)

    def smu(self) -> BenchSmu | None:
        """Open the source-measure unit, or None where the bench has none."""
        with _naming("smu", self.config.resources.get("smu", "")):
            return open_smu(self.config)

    def pulse_source(self) -> PulseSource | None:
        """Open the pulse source, or None where the bench has none."""
        with _naming("pulse source", self.config.resources.get("pulse_source", "")):
            return open_pulse_source(self.config)

    def temperature(self) -> TemperatureSource | None:
        """Open the temperature source, or None where the bench has none."""
        with _naming("temperature", self.config.resources.get("temperature", "")):
            return open_temperature(self.config)

    def prober(self) -> Prober | None:
        """Open the prober, or None where the bench has none. Nothing moves."""
        with _naming("prober", self.config.resources.get("prober", "")):
            return open_prober(self.config)

    def clock(self) -> Clock:
        """Connect to the clock of the bench's simulated world; a bench without one lives in real time."""
        if self.config.world_clock is None:
            return RealClock()
        with _naming("world_clock", self.config.world_clock):
            return WorldClock(self.config.world_clock)

    def board(self) -> BenchBoard:
        """Open the controller board."""
        with _naming("board", self.config.board.port):
            return open_board(self.config)

    def check_chip(self, board: ControllerBoard) -> None:
        """Refuse another chip or geometry than the bench file names, before any voltage."""
        verdict = check_chip(board.geometry, board.chip_id, self.config.geometry, self.config.chip.id)
        if not verdict.ok:
            raise WrongInstrument(f"board {self.config.board.port}: {verdict.answer}; {verdict.remedy}")


@contextmanager
def _naming(role: str, resource: str) -> Iterator[None]:
    """A link that cannot be opened is a mistake in the bench file or on the desk: say which role it is."""
    try:
        yield
    except LinkError as error:
        raise UserMistake(f"{role} ({resource}): {error}") from error


def connect(config: BenchFile, text: str = "", prober: Prober | None = None) -> Bench:
    """Open and identify every instrument, switch all outputs off and program the instruments' own limits.

    On a bench with a prober the needles are where somebody brought them: it is only asked which die they touch, which
    names the chip in every record.

    Args:
        prober: that of the bench, where the caller has it open already, and its resource claimed.

    Raises:
        UserMistake: a resource that nobody serves, or that another program holds; or no die is under the needles.
        BenchFailure: another instrument, chip or geometry than the file says, or a setting that was not taken.
    """
    lock = claim_bench(config if prober is None else config.model_copy(update={"prober": None}))
    lock.acquire()
    connector = Connector(config)
    opened: dict[str, Instrument] = {}
    identities: dict[str, Identity] = {}
    try:
        die = None if config.prober is None else _touched(connector, prober, identities)
        # The board first: its port has one owner, so that nothing is switched on a bench that somebody else uses.
        opened["board"] = board = connector.board()
        opened["supply"] = supply = connector.supply()
        smu, pulse_source, temperature = connector.smu(), connector.pulse_source(), connector.temperature()
        others = {"smu": smu, "pulse_source": pulse_source, "temperature": temperature}
        opened |= {role: instrument for role, instrument in others.items() if instrument is not None}
        for role, instrument in opened.items():
            identities[role] = instrument.identify()
        connector.check_chip(board)
        if pulse_source is not None:
            pulse_source.safe_off()
        rails = _prepare(config, supply, smu, board)
        refuse_faulty_lines(board, f"board {config.board.port}")
        interlocks = bench_interlocks(config, rails, temperature)
        clock = connector.clock()  # the last one: nothing is left to go wrong that would have to close it
    except BaseException as error:
        for role, opened_one in opened.items():
            # What is not the instrument that the bench file names is somebody else's: it is left alone.
            step = safe_step(role, opened_one.safe_off) if role in identities else SafeStep(role, True)
            if not step.confirmed:
                error.add_note(str(step))
            opened_one.close()
        lock.release()
        raise
    name = None if die is None else die_name(config, die)
    chip = Chip(board, rails, config.points, guarded(config, smu), name)
    return Bench(
        config, text, chip, rails, supply, board, smu, pulse_source, temperature, identities, interlocks, lock, clock
    )


def die_name(config: BenchFile, die: Die) -> str:
    """What a die is called in records: the board cannot tell one from the next."""
    return f"{config.wafer}/{die}"


def _touched(connector: Connector, prober: Prober | None, identities: dict[str, Identity]) -> Die:
    """The die under the needles, and who said so."""
    asked = connector.prober() if prober is None else prober
    assert asked is not None
    try:
        identities["prober"] = asked.identify()
        die = asked.position
        if die is None or not asked.in_contact:
            where = "over no die" if die is None else f"above die {die} and touch nothing"
            if prober is not None:
                raise TakenAway(f"the prober's needles are {where}: somebody else moved them since they touched down")
            raise UserMistake(
                f"the prober's needles are {where}; bring them into contact at its screen, or let `rram-bench wafer "
                "run` go over the dies"
            )
    finally:
        if prober is None:
            asked.close()
    return die


def claim_bench(config: BenchFile) -> BenchLock:
    """The lock on every resource that a bench file names; not taken yet."""
    return BenchLock(_plugged(resource) for resource in config.resources.values())


def _plugged(resource: str) -> str:
    try:
        return resolve_port(resource)
    except UserMistake:
        return resource  # nothing of that kind is plugged in, which opening it will say


def _prepare(config: BenchFile, supply: BenchSupply, smu: BenchSmu | None, board: BenchBoard) -> SupplyRails:
    board.safe_off()
    if smu is not None and config.smu is not None:
        smu.safe_off()
        smu.set_integration(config.smu.power_line_cycles)
        # A compliance inside the envelope stands before anything can switch the output on.
        smu.set_source(0.0, config.operating_points.DIRECT.compliance_a)
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
    seed: int = 0,
    device: Path | None = None,
    baud: int | None = None,
    chip: str | None = None,
    arrays: int = 1,
    wafer: int = 0,
) -> Iterator[tuple[BenchFile, str]]:
    """Start a simulated bench in a process of its own for the length of the block; yield its bench file.

    Args:
        seed: of the simulated chip and instruments.
        device: device file of the chip's population; that of the kind of chip when None.
        baud: serial speed to honour, in bit/s.
        chip: kind of chip: kilobit (also when None), ternary, or array64.
        arrays: how many arrays of it are stacked into one macro.
        wafer: dies across a wafer of such chips on a prober; 0 for one chip in a socket.

    Raises:
        UserMistake: no such chip, device file, number of arrays or of dies.
        BenchFailure: the process did not come up.
    """
    command = [*module_command("drivers.simulated"), "--seed", str(seed)]
    command += [] if device is None else ["--device", str(device)]
    command += [] if baud is None else ["--baud", str(baud)]
    command += [] if chip is None else ["--chip", chip]
    command += ["--arrays", str(arrays), "--wafer", str(wafer)]
    command += ["--transport", "pty" if sys.platform != "win32" else "tcp"]
    # Ctrl-C reaches the whole foreground group; the bench must outlive its client to be switched off by it.
    apart = {"start_new_session": True} if sys.platform != "win32" else {"creationflags": _NEW_PROCESS_GROUP}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=same_imports(), **apart
    )
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
def open_bench(
    source: str | Path = SIMULATED, seed: int = 0, baud: int | None = None, chip: str | None = None, arrays: int = 1
) -> Iterator[Bench]:
    """Connect to the bench that ``source`` names: "simulated", or the path of a bench file.

    Args:
        source: "simulated" starts a simulated bench for the length of the block.
        seed, baud, chip, arrays: of the simulated bench, as in :func:`simulated_bench`; a bench file has its own world.
    """
    if str(source) == SIMULATED:
        with (
            simulated_bench(seed, baud=baud, chip=chip, arrays=arrays) as (config, text),
            connect(config, text) as bench,
        ):
            yield bench
    else:
        config, text = load_bench_file(Path(source))
        with connect(config, text) as bench:
            yield bench


def make_safe(config: BenchFile) -> SafeReport:
    """Switch off every instrument of a bench file, each on its own, whatever becomes of the others.

    For when nothing else helps: it asks no chip for its name, and takes no lock. A run under way in another program
    finds its rails gone and ends as failed. A prober lifts its needles last, and only once every output is known to be
    off: under voltage they would damage the die.
    """
    connector = Connector(config)
    openers: dict[str, Callable[[], Safeable | None]] = {
        "pulse_source": connector.pulse_source,
        "board": connector.board,
        "smu": connector.smu,
        "supply": connector.supply,
        "temperature": connector.temperature,
    }

    def off(opener: Callable[[], Safeable | None]) -> None:
        instrument = opener()
        assert instrument is not None
        try:
            instrument.safe_off()
        finally:
            instrument.close()

    report = switch_off([(role, partial(off, opener)) for role, opener in openers.items() if role in config.resources])
    if config.prober is None:
        return report
    needles = SafeStep("prober", False, "its needles were left where they are, as not all outputs are known to be off")
    if report.confirmed:
        needles = safe_step("prober", partial(off, connector.prober))
    return SafeReport((*report.steps, needles))
