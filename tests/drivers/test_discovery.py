"""Discovery: known kinds are asked within a time limit, strangers are listed and left alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from bench.lock import BenchLock
from drivers.c2n.protocol import COLUMN
from drivers.discovery import (
    C2N_COLUMN,
    C2N_TERNARY,
    FRAMED,
    STM_PORT,
    STM_VENDOR,
    Answer,
    Candidate,
    Listing,
    Named,
    Outcome,
    Probes,
    SerialPortInfo,
    ask_port,
    ask_visa,
    discover,
    look_around,
)
from drivers.resource_names import canonical, usb_ids
from drivers.simulated.bench import SimulatedBench
from models.cells import Geometry
from models.exceptions import UserMistake
from tests.drivers.c2n_bench import column, running, ternary
from tests.drivers.fake_chip import FakeChip

SUPPLY = "USB0::0x05E6::0x2230::9200001::INSTR"


@pytest.fixture
def world() -> Iterator[SimulatedBench]:
    with SimulatedBench(11) as simulated:
        yield simulated


class Asked:
    """Probes that remember who was asked, and ask where a test put the far end."""

    def __init__(self, moved: dict[str, str] | None = None) -> None:
        self.moved = {} if moved is None else moved
        self.visa_asked: list[str] = []
        self.ports_asked: list[tuple[str, str]] = []

    @property
    def probes(self) -> Probes:
        return Probes(self.visa, self.port)

    def visa(self, resource: str, timeout_s: float) -> Answer:
        self.visa_asked.append(resource)
        return ask_visa(self.moved[resource], timeout_s)

    def port(self, port: str, driver: str, baudrate: int, timeout_s: float) -> Answer:
        self.ports_asked.append((port, driver))
        return ask_port(port, driver, baudrate, timeout_s)


def only(found: list[Candidate]) -> Candidate:
    (candidate,) = found
    return candidate


def test_a_known_usb_instrument_is_asked_and_its_driver_named(world: SimulatedBench) -> None:
    asked = Asked({SUPPLY: world.supply.resource})
    found = only(discover(Listing([SUPPLY]), probes=asked.probes))
    assert found.outcome is Outcome.ANSWERS
    assert found.driver == "keithley-2230g"
    assert "2230G-30-1, serial 9200001" in found.answer
    assert "Keithley 2230G by its USB id" in found.kind
    assert found.milliseconds is not None


def test_asking_changes_nothing_at_the_instrument(world: SimulatedBench) -> None:
    supply = world.supply.instrument
    for line in (b"INST:SEL CH2", b"VOLT 1.0", b"OUTP 1", b"NO:SUCH:COMMAND"):
        supply.execute(line)
    discover(Listing(), [Named("supply", "keithley-2230g", world.supply.resource)])
    assert world.world.rails.vddc_v == pytest.approx(1.0)
    assert supply.execute(b"INST:SEL?") == b"CH2"
    assert supply.execute(b"SYST:ERR?") != b'0,"No error"'  # even its error queue is left to whoever caused it


@pytest.mark.parametrize(
    "stranger", ["USB0::0x1234::0x0001::X::INSTR", "GPIB0::18::INSTR", "ASRL1::INSTR", "TCPIP0::10.0.0.7::inst0::INSTR"]
)
def test_a_resource_that_cannot_be_placed_is_listed_and_left_alone(stranger: str) -> None:
    asked = Asked()
    found = only(discover(Listing([stranger]), probes=asked.probes))
    assert found.outcome is Outcome.NOT_ASKED
    assert "nothing was written" in found.answer
    assert "--bench" in found.remedy
    assert asked.visa_asked == []


def test_an_address_that_a_bench_file_names_is_asked(world: SimulatedBench) -> None:
    asked = Asked({"GPIB0::6::INSTR": world.supply.resource})
    found = discover(
        Listing(["GPIB0::6::INSTR", "GPIB0::18::INSTR"]),
        [Named("supply", "keithley-2230g", "gpib::6::INSTR")],
        probes=asked.probes,
    )
    assert [one.outcome for one in found] == [Outcome.ANSWERS, Outcome.NOT_ASKED]
    assert asked.visa_asked == ["GPIB0::6::INSTR"]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_not_a_byte_reaches_a_port_that_cannot_be_placed() -> None:
    far, near = os.openpty()
    os.set_blocking(far, False)
    try:
        name = os.ttyname(near)
        strangers = [SerialPortInfo(name), SerialPortInfo(name, 0x2341, 0x0043, "a motor controller")]
        for stranger in strangers:
            found = only(discover(Listing(ports=[stranger])))
            assert found.outcome is Outcome.NOT_ASKED
            with pytest.raises(BlockingIOError):
                os.read(far, 1)
    finally:
        os.close(far)
        os.close(near)


def stm(device: str) -> Listing:
    return Listing(ports=[SerialPortInfo(device, STM_VENDOR, STM_PORT, "STM32 Virtual ComPort")])


def test_a_framed_board_is_found_by_its_usb_id(world: SimulatedBench) -> None:
    found = only(discover(stm(world.board.port), timeout_s=0.1))
    assert (found.outcome, found.driver) == (Outcome.ANSWERS, FRAMED)
    assert world.chip.chip_id in found.answer
    assert "protocol version 2" in found.answer


def test_the_two_c2n_boards_are_told_apart() -> None:
    with running(ternary(FakeChip(Geometry(8, 8)))) as board:
        found = only(discover(stm(board.port), timeout_s=0.2))
        assert (found.outcome, found.driver) == (Outcome.ANSWERS, C2N_TERNARY)
    with running(column(FakeChip(Geometry(64, 64)))) as board:
        found = only(discover(stm(board.port), timeout_s=0.2))
        assert (found.outcome, found.driver) == (Outcome.ANSWERS, C2N_COLUMN)
        assert COLUMN.board in found.answer


def test_no_pulse_is_applied_by_asking() -> None:
    chip = FakeChip(Geometry(8, 8))
    with running(ternary(chip)) as board:
        for driver in (C2N_TERNARY, C2N_COLUMN, FRAMED):
            discover(Listing(), [Named("board", driver, board.port)], timeout_s=0.1)
        discover(stm(board.port), timeout_s=0.1)
    assert not chip.pulses.any()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_a_board_that_says_nothing_is_given_up_with_causes_and_what_to_try() -> None:
    far, near = os.openpty()
    try:
        started = time.monotonic()
        found = only(discover(stm(os.ttyname(near)), timeout_s=0.05))
        assert time.monotonic() - started < 5.0
    finally:
        os.close(far)
        os.close(near)
    assert found.outcome is Outcome.SILENT
    assert "c2n-ternary: " in found.answer
    assert "framed: " in found.answer
    assert "power" in found.remedy


def test_a_probe_that_never_comes_back_is_given_up() -> None:
    free = threading.Event()

    def hang(resource: str, timeout_s: float) -> Answer:
        free.wait()
        return Answer("", "")

    try:
        found = discover(Listing([SUPPLY, SUPPLY.replace("9200001", "9200002")]), (), 0.01, probes=Probes(visa=hang))
    finally:
        free.set()
    assert [one.outcome for one in found] == [Outcome.SILENT, Outcome.SILENT]
    assert "did not come back" in found[0].answer


def test_a_dead_address_is_silent_with_its_cause() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"TCPIP::127.0.0.1::{free.getsockname()[1]}::SOCKET"
        found = only(discover(Listing(), [Named("smu", "keithley-2450", dead)]))
    assert found.outcome is Outcome.SILENT
    assert "nobody answers" in found.answer
    assert found.kind == "smu of the bench file"


def test_what_another_program_holds_is_not_disturbed(world: SimulatedBench) -> None:
    asked = Asked({SUPPLY: world.supply.resource})

    def claim(resource: str) -> AbstractContextManager[object]:
        return BenchLock([resource])

    with BenchLock([SUPPLY]):
        found = only(discover(Listing([SUPPLY]), claim=claim, probes=asked.probes))
    assert found.outcome is Outcome.IN_USE
    assert f"process {os.getpid()}" in found.answer
    assert asked.visa_asked == []
    assert only(discover(Listing([SUPPLY]), claim=claim, probes=asked.probes)).outcome is Outcome.ANSWERS


def test_an_unknown_model_behind_a_known_id_is_said_to_be_one(world: SimulatedBench) -> None:
    world.supply.wire.tamper = lambda reply: reply.replace(b"2230G-30-1", b"2231A-30-3")
    found = only(discover(Listing([SUPPLY]), probes=Asked({SUPPLY: world.supply.resource}).probes))
    assert (found.outcome, found.driver) == (Outcome.ANSWERS, "")
    assert "no driver of ours" in found.remedy


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_time_limit_must_be_above_zero(timeout_s: float) -> None:
    with pytest.raises(UserMistake, match="time limit"):
        discover(Listing(), (), timeout_s)


def test_looking_around_opens_nothing_and_ends() -> None:
    listing = look_around()
    assert all(name.startswith(("USB", "GPIB")) for name in listing.visa)
    assert all(port.device for port in listing.ports)


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("USB0::0x05E6::0x2230::9200001::INSTR", (0x05E6, 0x2230)),
        ("USB0::1510::8752::9200001::0::INSTR", (0x05E6, 0x2230)),
        ("GPIB0::6::INSTR", None),
        ("TCPIP::127.0.0.1::5025::SOCKET", None),
        ("/dev/ttyACM0", None),
    ],
)
def test_usb_ids_are_read_from_a_name(name: str, ids: tuple[int, int] | None) -> None:
    assert usb_ids(name) == ids
    assert canonical(canonical(name)) == canonical(name)


@contextmanager
def bench_file(world: SimulatedBench, folder: Path) -> Iterator[Path]:
    path = folder / "bench.toml"
    world.write_bench_file(path)
    yield path


def test_the_command_lists_what_a_bench_file_names(world: SimulatedBench, tmp_path: Path) -> None:
    with bench_file(world, tmp_path) as path:
        command = [sys.executable, "-m", "bench.cli", "instruments", "--bench", str(path), "--timeout", "1", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    rows = {row["kind"]: row for row in json.loads(done.stdout)["instruments"]}
    assert rows["supply of the bench file"]["driver"] == "keithley-2230g"
    assert rows["smu of the bench file"]["outcome"] == "answers"
    assert rows["board of the bench file"]["driver"] == "framed"
    assert set(rows["board of the bench file"]) == {
        *("resource", "kind", "outcome", "answer", "try", "driver", "milliseconds"),
    }
