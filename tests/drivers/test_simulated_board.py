"""The simulated board keeps to the specification, whatever a host does."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from drivers.framed import open_framed
from drivers.framed.codec import Frame, FrameError, decode, encode
from drivers.framed.messages import (
    RESPONSE,
    Counters,
    Cycle,
    DirectConnect,
    Hello,
    Opcode,
    Pulse,
    Status,
    Watchdog,
    Welcome,
)
from drivers.simulated.board import BoardServer
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.firmware import BoardFirmware, BoardProperties
from drivers.simulated.world import World
from models.cells import Device, Geometry, Polarity
from models.exceptions import UserMistake
from tests.drivers.fake_chip import FakeChip, served

WINDOW = 3


class Bench:
    """The firmware alone, with a clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.chip = FakeChip(Geometry(2, 2))
        world = World(cast(SimulatedChip, self.chip))
        properties = BoardProperties(window=WINDOW, max_payload=200, max_busy_ms=10)
        self.board = BoardFirmware(world, properties, 77, 0xFFFF, lambda: self.now)
        self.session = self.hello(1).session

    def hello(self, nonce: int, highest: int = 1) -> Welcome:
        reply = self.ask(Opcode.HELLO, Hello(nonce, 1, highest).pack(), version=0, session=0)
        return Welcome.unpack(reply.payload[1:])

    def ask(
        self, opcode: int, payload: bytes = b"", sequence: int = 0, session: int | None = None, version: int = 1
    ) -> Frame:
        number = self.session if session is None else session
        return decode(self.board.handle(Frame(version, number, sequence, opcode, payload))[:-1])

    def status(self) -> Counters:
        return Counters.unpack(self.ask(Opcode.STATUS, session=0).payload[1:])


@pytest.fixture
def bench() -> Bench:
    return Bench()


def cycle(count: int, width_ns: int = 1000) -> bytes:
    return Cycle(width_ns, 1000, count, np.ones((2, 2, 2), dtype=bool)).pack()


def pulse(count: int = 1) -> bytes:
    return Pulse(Polarity.SET, 1000, count, np.ones((2, 2, 2), dtype=bool)).pack()


def test_the_cache_holds_exactly_the_window(bench: Bench) -> None:
    for sequence in range(1, 6):
        assert bench.ask(Opcode.PULSE, pulse(), sequence).payload[0] == Status.OK
    for sequence in (3, 4, 5):
        assert bench.ask(Opcode.PULSE, pulse(), sequence).payload == bytes([Status.OK])
    for sequence in (1, 2, 7):
        assert bench.ask(Opcode.PULSE, pulse(), sequence).payload == bytes([Status.OUT_OF_ORDER, 6, 0])
    assert (bench.chip.pulses[..., Polarity.SET] == 5).all()
    assert bench.status().frames_refused == 3


def test_a_number_used_for_another_request_is_refused(bench: Bench) -> None:
    bench.ask(Opcode.PULSE, pulse(), 1)
    assert bench.ask(Opcode.PULSE, pulse(2), 1).payload == bytes([Status.MISMATCH])
    assert bench.chip.pulses.sum() == 8


def test_a_refused_request_uses_its_number_and_is_remembered(bench: Bench) -> None:
    refused = bench.ask(Opcode.PULSE, pulse(10_000), 1)
    assert refused.payload[:1] == bytes([Status.BAD_ARGUMENT])
    assert bench.ask(Opcode.PULSE, pulse(10_000), 1) == refused
    assert bench.ask(Opcode.PING, b"next", 2).payload == b"\0next"


@pytest.mark.parametrize(
    ("opcode", "payload", "status"),
    [
        (0x55, b"", Status.UNKNOWN_OPCODE),
        (Opcode.PING, bytes(200), Status.BAD_LENGTH),
        (Opcode.STATUS, b"x", Status.BAD_LENGTH),
        (Opcode.OUTPUTS_LOW, b"x", Status.BAD_LENGTH),
        (Opcode.SENSE, b"\1\0\0\0\1\0\0\0\xff\xff", Status.BAD_ARGUMENT),
    ],
)
def test_what_it_cannot_do_is_refused(bench: Bench, opcode: int, payload: bytes, status: Status) -> None:
    assert bench.ask(opcode, payload, 1).payload[0] == status


def test_only_harmless_requests_go_without_a_session(bench: Bench) -> None:
    for opcode in (Opcode.PING, Opcode.STATUS, Opcode.OUTPUTS_LOW):
        assert bench.ask(opcode, session=0, sequence=999).payload[0] == Status.OK
    for opcode in (Opcode.PULSE, Opcode.SENSE, Opcode.XNOR, Opcode.WATCHDOG, Opcode.DIRECT_CONNECT):
        reply = bench.ask(opcode, session=0, sequence=1)
        assert reply.payload == bytes([Status.NO_SESSION, 77, 0, 0, 0])


def test_another_version_or_session_is_not_executed(bench: Bench) -> None:
    assert bench.ask(Opcode.PULSE, pulse(), 1, version=2).payload == bytes([Status.VERSION, 1, 2])
    assert bench.ask(Opcode.PULSE, pulse(), 1, session=5).payload[0] == Status.NO_SESSION
    assert bench.chip.pulses.sum() == 0


def test_cycles_belong_to_version_2_and_are_made_once(bench: Bench) -> None:
    assert bench.ask(Opcode.CYCLE, cycle(2), 1).payload == bytes([Status.UNKNOWN_OPCODE])
    bench.session = bench.hello(2, highest=2).session
    for _ in range(3):
        assert bench.ask(Opcode.CYCLE, cycle(2), 1, version=2).payload == bytes([Status.OK])
    assert (bench.chip.pulses == 2).all()
    assert bench.status().pulses == 8 * 2 * 2


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (cycle(2)[:-1], Status.BAD_LENGTH),
        (cycle(0), Status.BAD_ARGUMENT),
        (cycle(1, 0), Status.BAD_ARGUMENT),
        # 8 devices, 4 us a cycle with setup, 10 ms at most
        (cycle(313), Status.BAD_ARGUMENT),
        (cycle(312), Status.OK),
    ],
)
def test_cycles_that_it_cannot_make_are_refused(bench: Bench, payload: bytes, status: Status) -> None:
    bench.session = bench.hello(2, highest=2).session
    assert bench.ask(Opcode.CYCLE, payload, 1, version=2).payload[0] == status
    assert bench.chip.pulses.any() == (status == Status.OK)


def test_the_same_hello_opens_no_second_session(bench: Bench) -> None:
    bench.ask(Opcode.PULSE, pulse(), 1)
    assert bench.hello(1).session == bench.session
    assert bench.ask(Opcode.PULSE, pulse(), 1).payload[0] == Status.OK
    assert bench.chip.pulses.sum() == 8


def test_a_new_session_starts_safe_and_skips_session_0(bench: Bench) -> None:
    bench.ask(Opcode.DIRECT_CONNECT, DirectConnect(0, 1, Device.BL).pack(), 1)
    bench.ask(Opcode.WATCHDOG, Watchdog(100).pack(), 2)
    assert bench.status().watchdog == 1
    assert bench.session == 0xFFFF
    assert bench.hello(2).session == 1
    assert bench.chip.connected is None
    assert bench.status().watchdog == 0


def test_a_crossed_cable_is_not_answered(bench: Bench) -> None:
    assert bench.board.handle(Frame(1, bench.session, 1, Opcode.PULSE | RESPONSE, b"\0")) == b""


def test_the_watchdog_counts_from_the_last_good_frame(bench: Bench) -> None:
    bench.ask(Opcode.DIRECT_CONNECT, DirectConnect(0, 1, Device.BL).pack(), 1)
    bench.ask(Opcode.WATCHDOG, Watchdog(100).pack(), 2)
    bench.now = 0.09
    bench.ask(Opcode.PING, b"", 3)
    bench.now = 0.18
    bench.board.handle(FrameError("noise"))
    assert bench.board.watchdog_due == pytest.approx(0.19)
    bench.now = 0.19
    assert bench.ask(Opcode.PULSE, pulse(), 4).payload == bytes([Status.WATCHDOG])
    assert bench.chip.connected is None
    assert bench.status().watchdog == Counters.TRIPPED
    assert bench.ask(Opcode.DIRECT_DISCONNECT, b"", 5).payload[0] == Status.OK
    bench.ask(Opcode.WATCHDOG, Watchdog(0).pack(), 6)
    assert bench.ask(Opcode.PULSE, pulse(), 7).payload == bytes([Status.OK])


def test_ids_differ_from_one_power_up_to_the_next_and_follow_the_seed() -> None:
    def ids(seed: int) -> list[str]:
        seen = []
        with served(FakeChip(Geometry(2, 2)), seed=seed) as server:
            for _ in range(2):
                firmware = server._firmware
                assert firmware is not None
                seen.append(firmware.handle(Frame(0, 0, 1, Opcode.HELLO, Hello(1, 1, 1).pack())).hex())
                server.reset()
        return seen

    assert len(set(ids(1))) == 2
    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


def test_it_powers_down_safe_and_starts_and_stops_at_will() -> None:
    chip = FakeChip(Geometry(2, 2))
    server = BoardServer(World(cast(SimulatedChip, chip)), "tcp")
    with pytest.raises(UserMistake, match="start it first"):
        _ = server.port
    with pytest.raises(UserMistake, match="start it first"):
        server.reset()
    server.stop()
    server.start()
    server.start()
    port = server.port
    chip.connected = (0, 0, Device.BL)
    server.stop()
    server.stop()
    assert chip.connected is None
    server.start()
    assert server.port == port
    server.stop()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("transport", ["pty", "tcp"])
def test_nothing_stays_open(transport: str) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for _ in range(5):
        with served(FakeChip(Geometry(2, 2)), transport) as server:
            link = open_framed(server.port)
            server.unplug()
            server.plug()
        link.close()
    assert descriptors() == before


@pytest.mark.parametrize("wrong", [{"transport": "carrier pigeon"}, {"baud": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserMistake, match="refused"):
        BoardServer(World(cast(SimulatedChip, FakeChip(Geometry(2, 2)))), **wrong)  # type: ignore[arg-type]


def test_encoding_is_what_the_board_sends(bench: Bench) -> None:
    reply = bench.board.handle(Frame(0, 0, 9, Opcode.PING, b"abc"))
    assert reply == encode(Frame(0, 0, 9, Opcode.PING | RESPONSE, b"\0abc"))
