"""The C2N link over real wires: what is lost, doubled or late never becomes an answer, and no pulse is sent twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from serial.tools import list_ports

from drivers.c2n import COLUMN, TERNARY, C2NLink, TernaryBoard, open_c2n
from drivers.c2n.link import FILLER, Command
from drivers.c2n.protocol import ColumnCommand, TernaryCommand, pack_cells
from drivers.c2n.usb import resolve_port, usb_identity, usb_ports
from drivers.errors import InDoubt, LinkError, LinkTimeout, ReplyError, WrongInstrument
from drivers.framed.port import SerialPort
from drivers.simulated.c2n_boards import TernaryBoardServer
from models.cells import Geometry, Polarity
from models.exceptions import BenchFailure, UserMistake
from tests.drivers.c2n_bench import LIMITS, TIMING, BadLine, column, running, say, tap, ternary
from tests.drivers.fake_chip import FakeChip

GEOMETRY = Geometry(8, 8)
SOON_S = 0.15
FAULTY_S = 0.04
"""A timeout that may also strike without a fault, where a test allows for that."""
ONE = np.zeros((8, 8, 2), dtype=bool)
ONE[2, 5, 1] = True
SENSE = Command(TernaryCommand.SENSE_UC)
SET_ONE = Command(TernaryCommand.SET, pack_cells(ONE), devices=ONE)


@pytest.fixture
def chip() -> FakeChip:
    return FakeChip(GEOMETRY)


@pytest.fixture
def server(chip: FakeChip) -> Iterator[TernaryBoardServer]:
    with running(ternary(chip)) as started:
        yield started


def open_soon(server: TernaryBoardServer) -> C2NLink:
    return open_c2n(server.port, TERNARY, timeout_s=SOON_S)


def board_on(link: C2NLink) -> TernaryBoard:
    return TernaryBoard(link, LIMITS, "CHIP", TIMING)


@pytest.mark.parametrize("transport", ["pty", "tcp"])
def test_opens_on_every_transport_and_opens_again(chip: FakeChip, transport: str) -> None:
    with running(ternary(chip, transport=transport)) as server:
        for _ in range(2):
            with open_c2n(server.port, TERNARY) as link:
                assert link.in_step
                assert link.identify().model == "8 x 8 ternary board"
        link = open_c2n(server.port, TERNARY)
        server.unplug()
        with pytest.raises(LinkError):
            link.exchange(SENSE)
        server.plug()
        link.reopen(server.port)
        assert len(link.exchange(SENSE)[0]) == 64
        link.close()


def test_every_call_ends_with_an_echo_of_its_own(server: TernaryBoardServer) -> None:
    with open_soon(server) as link:
        seen = tap(server)
        for _ in range(3):
            link.exchange(SENSE)
        fences = {bytes(seen[start + 3 : start + 7]) for start in (0, 7, 14)}
        assert bytes(seen[:3]) == bytes(seen[7:10]) == b"\xaa\x05\xaa"
        assert len(fences) == 3
        assert all(fence[:2] == b"\xaa\x09" and fence[3:] == b"\xaa" and fence[2] > 0xAF for fence in fences)


def test_opening_ends_a_half_frame_without_touching_a_cell(server: TernaryBoardServer, chip: FakeChip) -> None:
    port = SerialPort(server.port, 921600, 1.0)
    port.write(b"\xaa\x02" + b"\3" * 61 + b"\xab")
    port.close()
    # Four bytes of an echo would be just the rest of that frame.
    with open_soon(server) as link:
        link.exchange(SENSE)
    assert chip.pulses.sum() == 0
    assert bytes(64) == FILLER


def test_opening_throws_away_what_an_earlier_client_left(chip: FakeChip) -> None:
    with running(ternary(chip, transport="pty")) as server:
        port = SerialPort(server.port, 921600, 1.0)
        for _ in range(5):
            port.write(b"\xaa\x05\xaa")
        port.close()
        chip.weights = -chip.weights
        with open_soon(server) as link:
            assert (board_on(link).sense(5e-6, 50e-9) == -1).all()


def test_nobody_there_and_nobody_answering(server: TernaryBoardServer) -> None:
    with pytest.raises(LinkError, match="/dev/no-such-board"):
        open_c2n("/dev/no-such-board", TERNARY)
    server.to_host = lambda data: b""
    with pytest.raises(LinkTimeout, match="ternary board at .* does not echo .* powered"):
        open_c2n(server.port, TERNARY, timeout_s=0.02)


def test_a_board_that_never_stops_sending_is_given_up(server: TernaryBoardServer) -> None:
    server.to_host = lambda data: data + b"\x55"
    with pytest.raises(ReplyError, match="does not echo what it is sent"):
        open_c2n(server.port, TERNARY, timeout_s=0.02)


def test_the_other_dialect_is_told_apart(server: TernaryBoardServer) -> None:
    with (
        running(column(FakeChip(Geometry(64, 64)))) as other,
        pytest.raises(WrongInstrument, match="the other C2N dialect"),
    ):
        open_c2n(other.port, TERNARY, timeout_s=SOON_S)
    with pytest.raises(LinkTimeout, match="the right board"):
        open_c2n(server.port, COLUMN, timeout_s=0.02)


@pytest.mark.parametrize("wrong", [{"baudrate": 0}, {"timeout_s": float("nan")}, {"timeout_s": 0}])
def test_impossible_settings_are_refused(server: TernaryBoardServer, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserMistake, match="allows"):
        open_c2n(server.port, TERNARY, **wrong)


def test_another_greeting_is_another_instrument(server: TernaryBoardServer) -> None:
    with open_soon(server) as link:
        server.to_host = lambda data: data.replace(b"C2N", b"LTM")
        with pytest.raises(WrongInstrument, match="Hello, LTM!"):
            link.identify()


def test_a_lost_acknowledgement_leaves_the_pulse_in_doubt_and_never_repeats_it(
    server: TernaryBoardServer, chip: FakeChip
) -> None:
    with open_soon(server) as link:
        server.to_host = lambda data: b"" if data == b"\xaa\x02" else data
        with pytest.raises(InDoubt, match="0 of 1 pulses were acknowledged.*0 of 2 bytes to acknowledge SET") as caught:
            link.exchange(SET_ONE)
        assert caught.value.devices == [(2, 5, 1)]
        assert chip.pulses.sum() == 1
        server.to_host = None
        seen = tap(server)
        for _ in range(3):
            with pytest.raises(LinkError, match="out of step; nothing was sent"):
                link.exchange(SET_ONE)
        assert not seen
        link.reopen()
        link.exchange(SENSE)
        assert chip.pulses.sum() == 1
        link.exchange(SET_ONE)
        assert chip.pulses.sum() == 2


def test_a_pulse_that_was_acknowledged_before_the_line_went_bad_is_in_doubt_too(server: TernaryBoardServer) -> None:
    with open_soon(server) as link:
        server.to_host = lambda data: data if data == b"\xaa\x02" else b""
        with pytest.raises(InDoubt, match="1 of 1 pulses were acknowledged") as caught:
            link.exchange(SET_ONE)
        assert caught.value.devices == [(2, 5, 1)]


def test_a_doubled_acknowledgement_is_no_acknowledgement(server: TernaryBoardServer) -> None:
    with open_soon(server) as link:
        server.to_host = lambda data: data * 2 if data == b"\xaa\x02" else data
        with pytest.raises(InDoubt):
            link.exchange(SET_ONE)


def test_bytes_that_nobody_asked_for_are_seen_before_anything_is_sent(
    server: TernaryBoardServer, chip: FakeChip
) -> None:
    with open_soon(server) as link:
        say(server, b"\xaa\2")
        with pytest.raises(LinkError, match=r"nothing was sent\..*bytes arrived that nobody asked for"):
            link.exchange(SET_ONE)
        with pytest.raises(LinkError, match="nobody asked for"):
            link.exchange(SENSE)
        assert chip.pulses.sum() == 0
        link.resynchronise()
        link.exchange(SET_ONE)
        assert chip.pulses.sum() == 1


def test_a_late_answer_answers_nothing(server: TernaryBoardServer, chip: FakeChip) -> None:
    rng = np.random.default_rng(2)
    with open_soon(server) as link:
        board = board_on(link)
        for _ in range(5):
            server.to_host = BadLine(rng, "hold back", 0)
            with pytest.raises(LinkTimeout):
                board.sense(5e-6, 50e-9)
            chip.weights = -chip.weights
            link.reopen()
            assert (board.sense(5e-6, 50e-9)[0] == chip.weights).all()


@pytest.mark.parametrize("fault", [*BadLine.FAULTS, "double"])
@pytest.mark.parametrize("towards", ["to_board", "to_host"])
def test_no_answer_is_ever_given_to_another_question(
    server: TernaryBoardServer, chip: FakeChip, fault: str, towards: str
) -> None:
    rng = np.random.default_rng([3, len(fault), len(towards)])
    failures = 0
    with open_soon(server) as link:
        board = board_on(link)
        for _ in range(8):
            chip.weights = rng.integers(-1, 2, size=(8, 8)).astype(np.int8)
            line = BadLine(rng, fault, int(rng.integers(2)))
            setattr(server, towards, line)
            link.timeout_s = FAULTY_S
            try:
                assert (board.sense(5e-6, 50e-9)[0] == chip.weights).all()
            except (LinkError, ReplyError):
                failures += 1
                setattr(server, towards, None)
                link.timeout_s = 1.0
                link.reopen()
            assert line.when < 0
    assert failures > 0


@pytest.mark.parametrize("fault", BadLine.FAULTS)
@pytest.mark.parametrize("towards", ["to_board", "to_host"])
def test_pulses_act_once_or_are_in_doubt(server: TernaryBoardServer, chip: FakeChip, fault: str, towards: str) -> None:
    rng = np.random.default_rng([4, len(fault), len(towards)])
    doubts = 0
    with open_soon(server) as link:
        board = board_on(link)
        for _ in range(8):
            mask = rng.random((8, 8, 2)) < 0.3
            before = chip.pulses[..., Polarity.RESET].copy()
            setattr(server, towards, BadLine(rng, fault, int(rng.integers(3))))
            link.timeout_s = FAULTY_S
            doubt = None
            try:
                board.pulse(Polarity.RESET, mask, 10e-6)
            except InDoubt as error:
                doubt = error
                doubts += 1
                setattr(server, towards, None)
                link.timeout_s = 1.0
                link.reopen()
            applied = chip.pulses[..., Polarity.RESET] - before
            assert (applied == mask).all() or (doubt is not None and not applied.any())
            if doubt is not None:
                assert doubt.devices == [tuple(index) for index in np.argwhere(mask)]
    assert chip.pulses[..., Polarity.SET].sum() == 0
    assert doubts > 0


def test_what_no_one_can_see_a_flipped_bit_of_a_mask_pulses_another_device(
    server: TernaryBoardServer, chip: FakeChip
) -> None:
    # The dialect has no checksum. The page of the boards says so; only the cable's own (USB has one) stands between.
    with open_soon(server) as link:
        server.to_board = lambda data: data.replace(b"\1", b"\2")
        link.exchange(SET_ONE)
    assert chip.pulses[2, 5, :, Polarity.SET].tolist() == [1, 0]


def test_a_reset_board_is_noticed_at_the_next_pulse(server: TernaryBoardServer, chip: FakeChip) -> None:
    with open_soon(server) as link:
        server.reset()
        with pytest.raises(InDoubt):
            link.exchange(SET_ONE)
        assert chip.pulses.sum() == 1
        link.reopen()
        link.exchange(SET_ONE)


def test_ctrl_c_leaves_the_link_out_of_step_and_names_the_cells(
    server: TernaryBoardServer, chip: FakeChip, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_soon(server) as link:
        read = SerialPort.read

        def interrupted(port: SerialPort, timeout_s: float) -> bytes:
            if timeout_s == 0:
                return read(port, timeout_s)
            raise KeyboardInterrupt

        monkeypatch.setattr(SerialPort, "read", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            link.exchange(SET_ONE)
        monkeypatch.undo()
        assert "cells in doubt: (2, 5)" in caught.value.__notes__[0]
        with pytest.raises(LinkError, match="interrupted"):
            link.exchange(SENSE)
        link.resynchronise()
        link.exchange(SENSE)
        assert chip.pulses.sum() == 1


def test_threads_take_turns(server: TernaryBoardServer) -> None:
    wrong: list[bytes] = []

    def ask(own: int) -> None:
        for count in range(200):
            byte = bytes([own + count % 16])
            if link.exchange(Command(TernaryCommand.DEBUG_ECHO, byte)) != [byte]:
                wrong.append(byte)

    with open_c2n(server.port, TERNARY) as link:
        threads = [threading.Thread(target=ask, args=(own,)) for own in (16, 48)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_taking_the_lines_down_ends_another_threads_long_call(server: TernaryBoardServer, chip: FakeChip) -> None:
    failures: list[BenchFailure] = []
    low = Command(TernaryCommand.WRITE_CS, b"\2\0")

    def pulse_for_ever() -> None:
        try:
            link.exchange(*[SET_ONE] * 1_000_000)
        except BenchFailure as error:
            failures.append(error)

    with open_c2n(server.port, TERNARY) as link:
        thread = threading.Thread(target=pulse_for_ever)
        thread.start()
        while chip.pulses.sum() < 20:
            pass
        link.take_down(low)
        thread.join()
        assert isinstance(failures[0], InDoubt)
        acknowledged = int(chip.pulses.sum())
        assert f"{acknowledged} of 1000000 pulses were acknowledged" in str(failures[0])
        assert not link.in_step
        link.take_down(low)
        with pytest.raises(LinkError, match="another thread"):
            link.exchange(SENSE)


def test_a_port_that_fails_is_a_link_error(server: TernaryBoardServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise LinkError("device vanished")

    with open_soon(server) as link:
        monkeypatch.setattr(SerialPort, "write", fail)
        with pytest.raises(LinkError, match="vanished"):
            link.exchange(SENSE)
        monkeypatch.undo()
        with pytest.raises(LinkError, match="down"):
            link.exchange(SENSE)
        link.reopen()
        link.exchange(SENSE)


def test_counters(server: TernaryBoardServer) -> None:
    with open_soon(server) as link:
        before = (link.stats.bytes_out, link.stats.bytes_in, link.stats.commands)
        link.exchange(SENSE, Command(TernaryCommand.CLK))
        after = (link.stats.bytes_out, link.stats.bytes_in, link.stats.commands)
        assert [new - old for old, new in zip(before, after, strict=True)] == [3 + 3 + 4, 64 + 2 + 1, 2]


def test_closing_twice_is_harmless_and_a_closed_link_says_so(server: TernaryBoardServer) -> None:
    link = open_soon(server)
    link.close()
    link.close()
    for call in (lambda: link.exchange(SENSE), lambda: link.take_down(), link.resynchronise):
        with pytest.raises(LinkError, match="was closed|could not be resynchronised|interrupted"):
            call()


def usb_port(device: str, pid: int | None, serial: str | None) -> SimpleNamespace:
    return SimpleNamespace(device=device, pid=pid, serial_number=serial, description="STM32 Virtual ComPort")


def test_boards_are_found_by_their_usb_id(monkeypatch: pytest.MonkeyPatch) -> None:
    plugged = [usb_port("/dev/ttyACM1", 0x5740, "B"), usb_port("/dev/ttyS0", None, None)]
    monkeypatch.setattr(list_ports, "comports", lambda: plugged)
    assert resolve_port("usb:5740") == "/dev/ttyACM1"
    assert usb_identity("/dev/ttyACM1").serial == "B"
    assert usb_identity("/dev/ttyS0").serial == ""
    plugged.append(usb_port("/dev/ttyACM0", 0x5740, "A"))
    assert [port.device for port in usb_ports(0x5740)] == ["/dev/ttyACM0", "/dev/ttyACM1"]
    assert resolve_port("usb:5740:A") == "/dev/ttyACM0"
    assert resolve_port("COM4") == "COM4"
    for name, complaint in (
        ("usb:5740", "2 boards answer to it: /dev/ttyACM0 .serial A., /dev/ttyACM1 .serial B."),
        ("usb:5740:C", "no such board"),
        ("usb:1234", "no such board"),
        ("usb:stm", "hexadecimal"),
    ):
        with pytest.raises(UserMistake, match=complaint):
            resolve_port(name)


def test_another_board_on_the_same_port_is_refused(server: TernaryBoardServer, monkeypatch: pytest.MonkeyPatch) -> None:
    plugged = [usb_port(server.port, 0x5740, "A")]
    monkeypatch.setattr(list_ports, "comports", lambda: plugged)
    with open_c2n("usb:5740", TERNARY) as link:
        assert link.port == server.port
        assert link.identify().serial == "A"
        plugged[0].serial_number = "B"
        with pytest.raises(WrongInstrument, match="serial 'B', it was 'A'"):
            link.reopen()
        with pytest.raises(LinkError, match="another board"):
            link.exchange(SENSE)
        plugged[0].serial_number = "A"
        link.reopen()
        link.exchange(SENSE)


def test_the_echo_of_the_column_board_has_another_code() -> None:
    with running(column(FakeChip(Geometry(64, 64)))) as server, open_c2n(server.port, COLUMN) as link:
        seen = tap(server)
        assert link.exchange(Command(ColumnCommand.GET_CTL, b"\0")) == [b"\0"]
        assert bytes(seen[:6]) == b"\xaa\x05\0\xaa\xaa\x0a"
