"""The safe state with one instrument that fails: all others are off, and the one is called UNKNOWN."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.config import parse_bench_file
from bench.procedure import Parameters, Procedure, Steps
from bench.runner import run as run_procedure
from bench.safe import switch_off
from bench.session import Bench, connect
from data.runs import RunStatus, open_run
from drivers.chip import Chip
from drivers.errors import LinkError, ReadBackError
from drivers.framed import BoardLimits, FramedBoard, open_framed
from drivers.keithley_2230g import Keithley2230G
from drivers.keithley_2450 import Keithley2450
from drivers.keysight_81160a import Keysight81160A
from drivers.limits import Range
from drivers.pulse_source_role import PulseShape
from drivers.simulated.bench import SimulatedBench
from drivers.simulated.keysight_81160a import Keysight81160AServer
from drivers.simulated.line_server import LineServer
from drivers.simulated.scpi import InstrumentServer
from drivers.visa_link import open_visa
from models.cells import Device
from models.exceptions import BenchFailure
from tests.faults.campaign import Campaign, Row
from tests.faults.on_wire import Tap
from tests.faults.victims import PULSE_LIMITS, SMU_LIMITS, SUPPLY_LIMITS

BENCH_FULL, FOUR_FULL = 45, 400
ERRORS: tuple[type[Exception], ...] = (
    *(RuntimeError, ValueError, KeyError, TypeError, OSError, ZeroDivisionError, UnicodeDecodeError, TimeoutError),
    *(BenchFailure, LinkError, ReadBackError),
)
FAILURES = ("raises", "gone", "hangs", "babbles", "stuck")
SILENT_S = 60.0
OFF_COMMANDS = (b"SOUR:CHAN:OUTP 0", b"OUTP 0")


def raising(error: type[Exception]) -> Callable[[], None]:
    """A safe-off that raises."""

    def safe_off() -> None:
        if error is UnicodeDecodeError:
            raise UnicodeDecodeError("ascii", b"\xff", 0, 1, "injected")
        raise error("injected")

    return safe_off


# One instrument of a bench, while a run is under way


def _in_full_swing(bench: Bench, inject: Callable[[], None]) -> Procedure:
    """A procedure that has everything switched on when the fault comes."""

    def steps(chip: Chip, parameters: Parameters, cells: Any) -> Steps:
        chip.read()
        bench.board.connect_device(1, 2, Device.BL)
        assert bench.smu is not None
        bench.smu.set_source(0.2, 1e-3)
        bench.smu.set_output(True)
        inject()
        yield from ()
        return {}

    return Procedure("full-swing", "everything on", Parameters, (), steps)


def _fail(world: SimulatedBench, bench: Bench, role: str, failure: str, rng: np.random.Generator) -> None:
    """Make one instrument fail."""
    driver = getattr(bench, role)
    if failure == "raises":
        driver.safe_off = raising(ERRORS[int(rng.integers(len(ERRORS)))])
        return
    if role == "board":
        board = world.board
        if failure == "gone":
            board.unplug()
        elif failure == "babbles":
            board.to_host = lambda data: rng.bytes(len(data))
        else:
            board.to_board = lambda data: b""
        return
    server: InstrumentServer = getattr(world, role)
    if failure == "gone":
        server.stop()
    elif failure == "babbles":
        server.wire.tamper = lambda reply: rng.bytes(len(reply)) + b"\n"
    elif failure == "hangs":
        server.wire.delay_s = SILENT_S


def _may_stick(role: str, server: InstrumentServer, stuck: set[str]) -> None:
    """Give an instrument an output that does not go off any more once ``stuck`` names it."""
    tap = Tap(server.instrument)

    def spoil(line: bytes) -> bytes:
        for off in OFF_COMMANDS if role in stuck else ():
            line = line.replace(off, b"*OPC")
        return line

    tap.spoil = spoil
    server.wire = LineServer(tap)


def _state(world: SimulatedBench) -> dict[str, bool]:
    """Which roles are off, as the world sees it."""
    volts = world.supply.instrument
    return {
        "board": world.chip.connected is None,
        "smu": not world.smu.instrument.output,
        "supply": world.world.rails == (0.0, 0.0, 0.0) and not any(_on(volts)),
    }


def _on(supply: Any) -> Iterator[bool]:
    for name in ("CH1", "CH2", "CH3"):
        yield supply.channel([name]).on


def on_a_bench(role: str, failure: str, rng: np.random.Generator, seed: int) -> str | None:
    """One instrument of a bench fails at the end of a run; return what is wrong with the others or with the record."""
    world = SimulatedBench(seed)
    stuck: set[str] = set()
    _may_stick("supply", world.supply, stuck)
    _may_stick("smu", world.smu, stuck)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, world:
        text = world.bench_file()
        bench = connect(parse_bench_file(text, "campaign"), text)
        try:

            def inject() -> None:
                if any(_state(world).values()):
                    raise RuntimeError("not everything was on before the fault: nothing would be shown")
                if failure == "stuck":
                    stuck.add(role)
                _fail(world, bench, role, failure, rng)

            procedure = _in_full_swing(bench, inject)
            try:
                run_procedure(procedure, Parameters(), bench, Path(folder))
                return "the run ended as if nothing had happened"
            except BenchFailure as error:
                told = str(error) + "".join(getattr(error, "__notes__", ()))
            others = {name: off for name, off in _state(world).items() if name != role}
            if not all(others.values()):
                return f"others were left on: {others}; {told}"
            ending = open_run(next(Path(folder).glob("*.h5"))).ending
            reason = ending.reason
            if ending.status is not RunStatus.FAILED or f"{role}: UNKNOWN" not in reason:
                return f"the record does not say UNKNOWN for the {role}: {ending}"
            if reason.count("UNKNOWN") != 1 or told.count(f"{role}: UNKNOWN") < 1:
                return f"others are called UNKNOWN, too, or the error does not say so: {reason} / {told}"
            return None
        finally:
            world.stop()
            with contextlib.suppress(BenchFailure):
                bench.close()


# One of four instruments


def of_four(row: Row, rng: np.random.Generator, seed: int, tell: Callable[[Row], None]) -> None:
    """Pulse source, board, source-measure unit and supply: each in turn raises, whatever an exception can be."""
    world = SimulatedBench(seed)
    with (
        world,
        Keysight81160AServer(world.world) as pulses,
        open_visa(pulses.resource) as pulses_link,
        open_visa(world.smu.resource) as smu_link,
        open_visa(world.supply.resource) as supply_link,
        open_framed(world.board.port) as board_link,
    ):
        source = Keysight81160A(pulses_link, PULSE_LIMITS, load_ohm=50.0)
        limits = BoardLimits(Range(1e-7, 1e-3, "s", "campaign"), Range(1, 1000, "pulses", "campaign"))
        board = FramedBoard(board_link, limits)
        smu, supply = Keithley2450(smu_link, SMU_LIMITS), Keithley2230G(supply_link, SUPPLY_LIMITS)
        drivers = {"pulses": source, "board": board, "smu": smu, "supply": supply}
        while row.injected < row.total:
            board.connect_device(1, 2, Device.BLB)
            smu.set_source(0.1, 1e-4)
            smu.set_output(True)
            for channel, volts in ((3, 1.2), (1, 1.0), (2, 1.0)):
                supply.set_voltage(channel, volts)
                supply.set_output(channel, True)
            source.set_pulse(PulseShape(0.0, 0.2, 1e-6, 1e-8, 1e-8))
            source.set_output(True)
            broken = list(drivers)[row.injected % len(drivers)]
            error = ERRORS[int(rng.integers(len(ERRORS)))]
            steps = [(role, raising(error) if role == broken else each.safe_off) for role, each in drivers.items()]
            report = switch_off(steps)
            row.injected += 1
            state = {**_state(world), "pulses": not pulses.instrument.channel(1).on}
            left = [role for role, off in state.items() if not off]
            unknown = [step.role for step in report.steps if not step.confirmed]
            if left != [broken] or unknown != [broken] or f"{broken}: UNKNOWN" not in str(report):
                row.lose(f"{broken} raised {error.__name__}: left on {left}, called UNKNOWN {unknown}")
            tell(row)


def run(campaign: Campaign) -> None:
    """Both rows."""
    row = campaign.row("safe-off of four instruments, one raising", FOUR_FULL)
    started = time.monotonic()
    of_four(row, campaign.rng("four"), campaign.seed, campaign.tell)
    campaign.finish(row, time.monotonic() - started)
    row = campaign.row("end of a run with one instrument failing", BENCH_FULL)
    started = time.monotonic()
    rng = campaign.rng("bench")
    # What a board reports of its lines comes from the same wires that hold them: it has nothing to be stuck with.
    cases = [(role, failure) for failure in FAILURES for role in ("board", "smu", "supply")]
    cases.remove(("board", "stuck"))
    for number in range(row.total):
        role, failure = cases[number % len(cases)]
        wrong = on_a_bench(role, failure, rng, campaign.seed)
        row.injected += 1
        if wrong is not None:
            row.lose(f"{role} {failure}: {wrong}")
        campaign.tell(row)
    campaign.finish(row, time.monotonic() - started)
