"""The link over real wires: faults, resets, unplugged cables, several threads; and nothing is ever done twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import serial

from drivers.errors import InDoubt, InstrumentError, LinkError, LinkTimeout, WrongInstrument
from drivers.framed import BoardLimits, FramedBoard, FramedLink, open_framed
from drivers.framed.codec import BITS_PER_BYTE
from drivers.framed.exchange import Request
from drivers.framed.messages import Opcode, Pulse
from drivers.framed.port import SerialPort
from drivers.limits import Range
from drivers.simulated.board import BoardServer
from drivers.simulated.firmware import BoardProperties
from models.cells import Geometry, Polarity
from models.exceptions import UserMistake
from tests.drivers.fake_chip import FakeChip, served

GEOMETRY = Geometry(4, 4)
LIMITS = BoardLimits(Range(1e-7, 1e-3, "s", "test"), Range(1, 1000, "pulses", "test"))
WIDTH_S = 1e-5


@pytest.fixture(params=["pty", "tcp"])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def chip() -> FakeChip:
    return FakeChip(GEOMETRY)


@pytest.fixture
def server(chip: FakeChip) -> Iterator[BoardServer]:
    with served(chip) as running:
        yield running


def one_device(row: int, col: int, device: int) -> Any:
    mask = np.zeros((*GEOMETRY, 2), dtype=bool)
    mask[row, col, device] = True
    return mask


def pulse_request(mask: Any) -> Request:
    return Request(Opcode.PULSE, Pulse(Polarity.SET, 10_000, 1, mask).pack(), devices=mask)


class Mangler:
    """Flips bits of, drops, doubles and cuts some of the pieces that pass, and puts garbage before some."""

    def __init__(self, rng: np.random.Generator, rate: float) -> None:
        self.rng, self.rate = rng, rate
        self.done = 0

    def __call__(self, data: bytes) -> bytes:
        if not data or self.rng.random() >= self.rate:
            return data
        self.done += 1
        match self.rng.integers(5):
            case 0:
                damaged = bytearray(data)
                for bit in self.rng.integers(8 * len(data), size=self.rng.integers(1, 4)):
                    damaged[bit // 8] ^= 1 << bit % 8
                return bytes(damaged)
            case 1:
                return b""
            case 2:
                return data * 2
            case 3:
                return data[: self.rng.integers(len(data))]
            case _:
                return self.rng.bytes(self.rng.integers(1, 30)) + data


def test_opens_on_every_transport_and_opens_again(chip: FakeChip, transport: str) -> None:
    with served(chip, transport) as server:
        for _ in range(2):
            with open_framed(server.port) as link:
                assert link.welcome.geometry == GEOMETRY
                link.ping(b"\0 any bytes \xff")


def test_a_port_is_ours_alone(server: BoardServer) -> None:
    with open_framed(server.port), pytest.raises(LinkError, match="free"):
        open_framed(server.port)


def test_a_second_client_on_tcp_waits_and_disturbs_nobody(chip: FakeChip) -> None:
    with served(chip, "tcp") as server, open_framed(server.port) as first:
        with pytest.raises(LinkTimeout, match="no other program"):
            open_framed(server.port, timeout_s=0.02, retries=1)
        first.ping()


def test_nobody_there() -> None:
    with pytest.raises(LinkError, match="/dev/no-such-board"):
        open_framed("/dev/no-such-board")
    with pytest.raises(UserMistake, match="magic"):
        open_framed("magic://board")


@pytest.mark.parametrize("wrong", [{"baudrate": 0}, {"timeout_s": float("nan")}, {"timeout_s": 0}, {"retries": -1}])
def test_impossible_settings_are_refused(server: BoardServer, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserMistake, match="allows"):
        open_framed(server.port, **wrong)


def test_a_silent_line_is_given_up(server: BoardServer) -> None:
    server.to_host = lambda data: b""
    with pytest.raises(LinkTimeout, match="no answer to HELLO"):
        open_framed(server.port, timeout_s=0.02, retries=2)


def test_another_protocol_version_is_refused_with_both_versions(chip: FakeChip) -> None:
    refused = pytest.raises(WrongInstrument, match="versions 3 to 4, this program speaks 1 to 2")
    with served(chip, properties=BoardProperties(versions=(3, 4))) as server, refused:
        open_framed(server.port)


def test_requests_fill_the_window(chip: FakeChip) -> None:
    with served(chip, properties=BoardProperties(window=4)) as server, open_framed(server.port, timeout_s=10) as link:
        held: list[bytes] = []

        def hold_back(data: bytes) -> bytes:
            held.append(data)
            return b"".join(held[-4:]) if len(held) % 4 == 0 else b""

        # Answers come in fours: a host that waited for each of them would get none.
        server.to_host = hold_back
        echoes = link.exchange_many([Request(Opcode.PING, bytes([number])) for number in range(16)])
        assert echoes == [bytes([number]) for number in range(16)]
        assert link.stats.retries == 0


def test_garbage_on_the_line_is_passed_over(server: BoardServer) -> None:
    noise = np.random.default_rng(3)
    with open_framed(server.port, timeout_s=0.1) as link:
        server.to_host = lambda data: noise.bytes(200) + b"\0" + data + noise.bytes(50) + b"\0"
        for number in range(20):
            link.ping(bytes([number]))
        assert link.stats.damaged >= 20


def test_numbers_wrap_around(server: BoardServer) -> None:
    with open_framed(server.port) as link:
        requests = (Request(Opcode.PING, number.to_bytes(4, "little")) for number in range(66_000))
        for number, echo in enumerate(link.exchange_many(requests)):
            assert number.to_bytes(4, "little") == echo


def test_two_threads_get_their_own_answers(server: BoardServer) -> None:
    wrong: list[bytes] = []

    def hammer(link: FramedLink, name: bytes) -> None:
        for number in range(1000):
            asked = [name + number.to_bytes(4, "little") + bytes([part]) for part in range(number % 3 + 1)]
            if link.exchange_many(Request(Opcode.PING, data) for data in asked) != asked:
                wrong.append(name)

    with open_framed(server.port) as link:
        threads = [threading.Thread(target=hammer, args=(link, name)) for name in (b"a", b"b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("seed", [1, 2])
def test_faults_never_pulse_twice_nor_answer_wrong(chip: FakeChip, seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected = np.zeros_like(chip.pulses)
    # A board that is soon busy too long: most pulses travel as several requests through the window.
    properties = BoardProperties(max_busy_ms=1)
    in_doubt = 0
    with served(chip, properties=properties) as server, open_framed(server.port, timeout_s=0.04) as link:
        board = FramedBoard(link, LIMITS)
        inward, outward = Mangler(rng, 0.03), Mangler(rng, 0.03)
        server.to_board, server.to_host = inward, outward
        for turn in range(750):
            mask = rng.random((*GEOMETRY, 2)) < 0.3
            count = int(rng.integers(1, 40))
            before = chip.pulses.copy()
            wanted = np.zeros_like(before)
            cycles = turn % 3 == 0
            wanted[..., Polarity.RESET if cycles else Polarity.SET :] = (mask * count)[..., None]
            try:
                if cycles:
                    board.cycle(mask, WIDTH_S, WIDTH_S, count)
                else:
                    board.pulse(Polarity.SET, mask, WIDTH_S, count)
            except InDoubt as error:
                in_doubt += 1
                doubtful = np.zeros_like(mask)
                doubtful[tuple(np.transpose(error.devices))] = True
                # what the board still has of this session is refused once the next one is open: the count is final
                board.reopen()
                acted = chip.pulses - before
                assert (acted == wanted)[~doubtful].all()
                assert (acted <= wanted).all()
                expected += acted
            else:
                expected += wanted
            np.testing.assert_array_equal(chip.pulses, expected)
            if turn % 2:
                chip.weights = rng.choice([-1, 0, 1], GEOMETRY).astype(np.int8)
                np.testing.assert_array_equal(board.sense(WIDTH_S, WIDTH_S, 2), np.stack([chip.weights] * 2))
    assert inward.done > 50
    assert outward.done > 50
    assert in_doubt < 5


@pytest.mark.parametrize("when", ["before the pulse", "after the pulse"])
def test_a_reset_leaves_the_pulse_in_doubt(server: BoardServer, chip: FakeChip, when: str) -> None:
    def reset_once(data: bytes) -> bytes:
        server.to_board = server.to_host = None
        server.reset()
        return data if when == "before the pulse" else b""

    with open_framed(server.port, timeout_s=0.05) as link:
        board = FramedBoard(link, LIMITS)
        board.pulse(Polarity.SET, one_device(0, 0, 0), WIDTH_S)
        setattr(server, "to_board" if when == "before the pulse" else "to_host", reset_once)
        with pytest.raises(InDoubt, match="the board was reset") as caught:
            board.pulse(Polarity.SET, one_device(1, 2, 1), WIDTH_S)
        assert caught.value.devices == [(1, 2, 1)]
        assert chip.pulses[1, 2, 1, Polarity.SET] == (when == "after the pulse")
        with pytest.raises(LinkError, match="reopen"):
            board.sense(WIDTH_S, WIDTH_S)
        board.reopen()
        board.pulse(Polarity.SET, one_device(1, 2, 1), WIDTH_S)
        assert board.status().pulses == 1
        assert chip.pulses.sum() == 2 + (when == "after the pulse")


def test_resets_at_any_moment_never_pulse_twice(server: BoardServer, chip: FakeChip) -> None:
    rng = np.random.default_rng(5)
    done = np.zeros((*GEOMETRY, 2), dtype=int)
    resets = 0
    named: list[bool] = []

    def reset_sometimes(data: bytes) -> bytes:
        nonlocal resets
        if rng.random() < 0.02:
            resets += 1
            server.reset()
            return b"" if rng.random() < 0.5 else data
        return data

    with open_framed(server.port, timeout_s=0.03) as link:
        board = FramedBoard(link, LIMITS)
        for turn in range(300):
            mask = one_device(turn % 4, turn // 4 % 4, turn % 2)
            server.to_board = server.to_host = reset_sometimes
            before = chip.pulses.sum()
            try:
                link.exchange_many([pulse_request(mask)] * 3)
            except InDoubt as error:
                named.append(error.devices == [tuple(index) for index in np.argwhere(mask)])
                server.to_board = server.to_host = None
                done[mask] += chip.pulses.sum() - before
                assert chip.pulses.sum() - before <= 3
                board.reopen()
            else:
                done[mask] += 3
            np.testing.assert_array_equal(chip.pulses[..., Polarity.SET], done)
    assert resets > 10
    assert len(named) > 10
    assert all(named)


def test_a_lost_acknowledgement_leaves_the_pulse_in_doubt_and_the_lines_can_be_taken_down(
    server: BoardServer, chip: FakeChip
) -> None:
    with open_framed(server.port, timeout_s=0.02, retries=2) as link:
        board = FramedBoard(link, LIMITS)
        server.to_host = lambda data: b""
        with pytest.raises(InDoubt, match="did not answer 3 times") as caught:
            board.pulse(Polarity.SET, one_device(3, 0, 0) | one_device(0, 1, 1), WIDTH_S)
        assert caught.value.devices == [(0, 1, 1), (3, 0, 0)]
        assert chip.pulses.sum() == 2
        server.to_host = None
        with pytest.raises(LinkError, match="reopen"):
            board.connect_device(0, 0, 0)  # type: ignore[arg-type]
        board.safe_off()
        board.reopen()
        assert board.status().pulses == 2


def test_a_lost_read_is_a_link_error(server: BoardServer) -> None:
    with open_framed(server.port, timeout_s=0.02, retries=1) as link:
        server.to_board = lambda data: b""
        with pytest.raises(LinkTimeout, match="did not answer 2 times"):
            FramedBoard(link, LIMITS).sense(WIDTH_S, WIDTH_S)


def test_an_unplugged_cable(chip: FakeChip, transport: str) -> None:
    with served(chip, transport) as server:
        link = open_framed(server.port)
        board = FramedBoard(link, LIMITS)

        def unplug(data: bytes) -> bytes:
            server.to_host = None
            server.unplug()
            return b""

        server.to_host = unplug
        with pytest.raises(InDoubt, match="lost the board") as caught:
            board.pulse(Polarity.SET, one_device(2, 2, 0), WIDTH_S)
        assert caught.value.devices == [(2, 2, 0)]
        for call in (board.status, board.safe_off, board.identify, board.reopen):
            with pytest.raises(LinkError):
                call()
        server.plug()
        board.reopen(server.port)
        board.pulse(Polarity.SET, one_device(2, 2, 0), WIDTH_S)
        assert board.status().pulses == 2
        server.stop()
        with pytest.raises(LinkError):
            board.sense(WIDTH_S, WIDTH_S)
        board.close()
        board.close()


def test_another_chip_after_the_unplug_is_refused(server: BoardServer, chip: FakeChip) -> None:
    with open_framed(server.port) as link:
        chip.chip_id = "ANOTHER"
        for _ in range(2):
            with pytest.raises(WrongInstrument, match="ANOTHER"):
                link.reopen()
        chip.chip_id = link.welcome.chip_id
        link.reopen()


def test_a_reset_is_noticed_by_asking_who_is_there(server: BoardServer) -> None:
    with open_framed(server.port) as link:
        assert link.ask_welcome() == link.welcome
        link.ping()
        server.reset()
        with pytest.raises(LinkError, match="the board was reset"):
            link.ask_welcome()


def test_an_interrupted_call_leaves_nothing_to_be_mixed_up(server: BoardServer, chip: FakeChip) -> None:
    def requests() -> Iterator[Request]:
        yield from [pulse_request(one_device(0, 0, 0))] * 2
        raise KeyboardInterrupt

    with open_framed(server.port) as link:
        with pytest.raises(KeyboardInterrupt) as caught:
            link.exchange_many(requests())
        assert "in doubt" in caught.value.__notes__[0]
        with pytest.raises(LinkError, match="interrupted"):
            link.ping()
        link.outputs_low()
        link.reopen()
        link.exchange(pulse_request(one_device(0, 0, 0)))
        assert chip.pulses.sum() == 1


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_ctrl_c_at_any_moment_never_pulses_twice(server: BoardServer, chip: FakeChip) -> None:
    rng = np.random.default_rng(8)
    mask = one_device(1, 1, 0)
    with open_framed(server.port) as link:
        board = FramedBoard(link, LIMITS)
        for _ in range(40):
            before, acknowledged = chip.pulses.sum(), 0
            signal.signal(signal.SIGALRM, signal.default_int_handler)
            signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(2e-4, 4e-3)))
            try:
                while True:
                    board.pulse(Polarity.SET, mask, WIDTH_S)
                    acknowledged += 1
            except KeyboardInterrupt:
                board.safe_off()
            assert chip.pulses.sum() - before in (acknowledged, acknowledged + 1)
            board.reopen()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_a_refused_request_says_why_and_the_link_goes_on(server: BoardServer) -> None:
    with open_framed(server.port) as link:
        with pytest.raises(InstrumentError, match="SENSE.*BAD_LENGTH.*3 bytes instead of 10"):
            link.exchange(Request(Opcode.SENSE, b"abc"))
        link.ping(b"still here")


@pytest.mark.parametrize("baud", [57600, 460800])
def test_the_simulated_line_is_no_faster_than_its_baud_rate(chip: FakeChip, transport: str, baud: int) -> None:
    with served(chip, transport, baud) as server, open_framed(server.port, baud) as link:
        link.ping()
        before = (link.stats.bytes_out, link.stats.bytes_in)
        started = time.monotonic()
        link.exchange_many(Request(Opcode.PING, bytes(100)) for _ in range(12))
        elapsed = time.monotonic() - started
        moved = (link.stats.bytes_out - before[0], link.stats.bytes_in - before[1])
        assert min(moved) > 1200
        assert max(moved) * BITS_PER_BYTE / baud <= elapsed


def test_a_port_without_a_descriptor_reads_the_same() -> None:
    port = SerialPort("loop://", 921600, 1.0)
    try:
        port.write(b"abc")
        received = b""
        while len(received) < 3:
            received += port.read(1.0)
        assert received == b"abc"
        assert port.read(0.001) == b""
    finally:
        port.close()


def test_a_port_that_fails_is_a_link_error(server: BoardServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise serial.SerialException("device vanished")

    with open_framed(server.port) as link:
        monkeypatch.setattr(serial.Serial, "write", fail)
        with pytest.raises(LinkError, match="device vanished"):
            link.ping()
        monkeypatch.undo()
        link.reopen()
        link.ping()
