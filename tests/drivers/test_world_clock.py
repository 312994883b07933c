"""The simulated world's clock: its line protocol, the client that waits on it, and what time does to the world."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from drivers.errors import LimitError, LinkError, ReplyError
from drivers.simulated.bench import SimulatedBench
from drivers.simulated.clock_server import ClockServer
from drivers.simulated.line_server import LineServer
from drivers.simulated.temptronic_ats545 import AIR_TAU_S, AMBIENT_C, CHUCK_TAU_S
from drivers.simulated.world import Rails, World
from drivers.world_clock import WorldClock
from models.cells import Polarity
from models.exceptions import BenchFailure, UserMistake


@pytest.fixture
def simulated() -> SimulatedBench:
    """A bench of which only the clock is served."""
    return SimulatedBench(5)


@pytest.fixture
def server(simulated: SimulatedBench) -> Iterator[ClockServer]:
    with simulated.clock as clock:
        yield clock


def ask(server: ClockServer, *lines: str) -> list[str]:
    """What a raw socket is answered."""
    host, _, port = server.url.removeprefix("socket://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5.0) as raw:
        raw.sendall("".join(f"{line}\n" for line in lines).encode())
        answers = raw.makefile()
        return [answers.readline().rstrip("\n") for _ in lines]


def test_the_line_protocol(server: ClockServer, simulated: SimulatedBench) -> None:
    assert ask(server, "NOW?", "ADVANCE 1.5", "NOW?", "ADVANCE 1e3") == ["0.0", "OK 1.5", "1.5", "OK 1001.5"]
    assert simulated.world.now_s == 1001.5


@pytest.mark.parametrize(
    "line",
    ["", "NOW", "now?", "NOW? 1", "ADVANCE", "ADVANCE x", "ADVANCE nan", "ADVANCE inf", "ADVANCE -1", "ADVANCE 1 2"],
)
def test_what_is_no_command_is_refused_and_time_stands_still(
    line: str, server: ClockServer, simulated: SimulatedBench
) -> None:
    answer, now = ask(server, line, "NOW?")
    assert answer.startswith("ERR ")
    assert now == "0.0"
    assert simulated.world.now_s == 0.0


def test_a_wait_lets_its_time_pass_at_once_and_polls(server: ClockServer) -> None:
    polled: list[float] = []
    with WorldClock(server.url) as clock:
        began = clock.now()
        wall = time.monotonic()
        clock.wait(3.0e7, lambda: polled.append(clock.now()))
        assert clock.now() - began == pytest.approx(3.0e7)
        assert time.monotonic() - wall < 20.0
        clock.wait(0.0, lambda: None)
    assert polled == [0.0, 3.0e7]


def test_what_a_poll_raises_ends_the_wait_before_time_passes(server: ClockServer, simulated: SimulatedBench) -> None:
    def stop() -> None:
        raise KeyError("stop")

    with WorldClock(server.url) as clock, pytest.raises(KeyError):
        clock.wait(10.0, stop)
    assert simulated.world.now_s == 0.0


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, 1e11])
def test_no_length_of_time_is_refused(seconds: float, server: ClockServer, simulated: SimulatedBench) -> None:
    with WorldClock(server.url) as clock, pytest.raises(LimitError, match="time to wait"):
        clock.wait(seconds, lambda: None)
    assert simulated.world.now_s == 0.0


@pytest.mark.parametrize("url", ["", "127.0.0.1:1", "socket://127.0.0.1", "socket://:1", "tcp://127.0.0.1:1"])
def test_a_malformed_address_is_a_mistake(url: str) -> None:
    with pytest.raises(UserMistake, match="expected socket://HOST:PORT"):
        WorldClock(url)


def test_a_clock_that_is_gone_is_a_failure_and_one_that_comes_back_goes_on(simulated: SimulatedBench) -> None:
    simulated.clock.start()
    url = simulated.clock.url
    clock = WorldClock(url)
    try:
        clock.wait(1.0, lambda: None)
        simulated.clock.stop()
        for _ in range(2):
            with pytest.raises(LinkError, match="is the simulated bench still there"):
                clock.wait(1.0, lambda: None)
        with ClockServer(simulated.world, int(url.rpartition(":")[2])):
            assert clock.now() == 1.0
            clock.close()
            clock.close()
    finally:
        clock.close()


class Parrot:
    """Answers each line with what it was told to."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    def execute(self, line: bytes) -> bytes | None:
        return self.answers.pop(0) if self.answers else b"0.0"

    def overrun(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("answers", "what"),
    [
        ([b"soon"], ReplyError),
        ([b"-1"], ReplyError),
        ([b"nan"], ReplyError),
        ([b"0.0\n0.0"], ReplyError),
        ([b"\xff"], ReplyError),
        ([b"1" * 500], ReplyError),
        ([b"0.0", b"1.0"], ReplyError),
        ([b"0.0", b"OK"], ReplyError),
        ([b"0.0", b"OK 1.0 2.0"], ReplyError),
        ([b"0.0", b"OK 0.5"], BenchFailure),
        ([b"0.0", b"ERR no"], BenchFailure),
    ],
)
def test_replies_are_taken_strictly(answers: list[bytes], what: type[Exception]) -> None:
    parrot = Parrot()
    wire = LineServer(parrot)
    wire.start()
    try:
        with WorldClock(f"socket://127.0.0.1:{wire.port}") as clock:
            parrot.answers = answers
            with pytest.raises(what, match="the world's clock"):
                clock.wait(1.0, lambda: None)
            assert clock.now() == 0.0, "the next question gets its own answer"
    finally:
        wire.stop()


def test_threads_that_wait_together_add_up(server: ClockServer) -> None:
    with WorldClock(server.url) as clock:
        waits: list[Callable[[], None]] = [lambda: clock.wait(2.0, lambda: None)] * 8
        threads = [threading.Thread(target=wait) for wait in waits]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert clock.now() == 16.0


def formed(world: World) -> None:
    world.chip.pulse(Polarity.SET, np.ones((*world.chip.geometry, 2), dtype=bool), 1e-5, 1, Rails(1.2, 3.5, 3.0))


def test_devices_age_while_time_passes_and_not_otherwise(simulated: SimulatedBench, server: ClockServer) -> None:
    formed(simulated.world)
    before = simulated.chip.resistance_ohm
    with WorldClock(server.url) as clock:
        assert (simulated.chip.resistance_ohm == before).all()
        clock.wait(1e6, lambda: None)
    assert (simulated.chip.resistance_ohm != before).mean() > 0.9


def test_the_temperature_follows_the_time_of_the_world(simulated: SimulatedBench, server: ClockServer) -> None:
    source = simulated.temperature.instrument
    for command in (b"HEAD 1", b"SETN 0", b"SETP 85", b"WNDW 1", b"SOAK 30", b"FLOW 1"):
        source.execute(command)
    with WorldClock(server.url) as clock:
        for seconds in (1.0, 9.0, 30.0):
            clock.wait(seconds, lambda: None)
            passed = clock.now()
            air, chuck = (85.0 + (AMBIENT_C - 85.0) * math.exp(-passed / tau) for tau in (AIR_TAU_S, CHUCK_TAU_S))
            assert float(source.execute(b"TMPA?") or b"nan") == pytest.approx(air, abs=1.0)
            assert simulated.world.temperature_c == pytest.approx(chuck, abs=1.0)
        assert source.execute(b"TECR?") == b"0", "in its window, and not for the whole soak time"
        clock.wait(15.0, lambda: None)
        assert source.execute(b"TECR?") == b"1"


def test_a_long_wait_ages_at_the_temperature_that_is_reached_on_the_way(server: ClockServer) -> None:
    """One step over warming up and storage ages like warming up first: the first minute at 25 degC hardly counts."""
    aged = []
    for parts in ([1e6], [200.0, 1e6 - 200.0]):
        simulated = SimulatedBench(5)
        formed(simulated.world)
        before = np.log(simulated.chip.resistance_ohm)
        for command in (b"HEAD 1", b"SETN 0", b"SETP 125", b"FLOW 1"):
            simulated.temperature.instrument.execute(command)
        for seconds in parts:
            simulated.world.advance(seconds)
        assert simulated.world.temperature_c == pytest.approx(125.0, abs=0.1)
        simulated.world.temperature_c = 25.0
        aged.append(np.log(simulated.chip.resistance_ohm) - before)
    cold = SimulatedBench(5)
    formed(cold.world)
    cold.world.advance(1e6)
    assert aged[0] == pytest.approx(aged[1], rel=1e-3, abs=1e-6)
    assert np.abs(aged[0]).mean() > 1.2 * np.abs(np.log(cold.chip.resistance_ohm) - before).mean()
