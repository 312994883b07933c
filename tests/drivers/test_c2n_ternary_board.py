"""The driver of the 8 x 8 ternary board: what it sends, what it refuses, and a chip programmed through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from data.device_files import load_device
from drivers.c2n import TERNARY, FirmwareTiming, TernaryBoard, open_c2n
from drivers.c2n.protocol import TernarySignal
from drivers.chip import Chip
from drivers.errors import LimitError, LinkError, LinkTimeout, ReplyError
from drivers.operating_points import DirectPoint, OperatingPoints, PulsePoint, RailVoltages, SensePoint
from drivers.roles import BoardStatus
from drivers.simulated.c2n_boards import TernaryBoardServer
from drivers.simulated.c2n_firmware import SenseTimes
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.world import World
from models.cells import Device, Geometry, Polarity, lrs_devices
from models.exceptions import BenchFailure, UserMistake
from tests.drivers.c2n_bench import LIMITS, TIMING, running, tap, ternary
from tests.drivers.fake_chip import FakeChip

GEOMETRY = Geometry(8, 8)
NOTHING = np.zeros((8, 8, 2), dtype=bool)
EVERYTHING = ~NOTHING


class Bench:
    """A driver, the board that it is on, and the chip behind that."""

    def __init__(self, server: TernaryBoardServer, board: TernaryBoard, chip: FakeChip) -> None:
        self.server, self.board, self.chip = server, board, chip


@pytest.fixture
def bench() -> Iterator[Bench]:
    chip = FakeChip(GEOMETRY)
    with running(ternary(chip)) as server, open_c2n(server.port, TERNARY, timeout_s=0.3) as link:
        yield Bench(server, TernaryBoard(link, LIMITS, "CHIP-7", TIMING), chip)


def without_echoes(seen: bytearray) -> str:
    """What was sent, without the echo at the end of each call, whose byte changes."""
    frames = bytes(seen)
    while (place := frames.find(b"\xaa\x09")) >= 0:
        frames = frames[:place] + frames[place + 4 :]
    return frames.hex(" ")


def test_what_it_is(bench: Bench) -> None:
    assert bench.board.geometry == (8, 8)
    assert bench.board.chip_id == "CHIP-7"
    assert str(bench.board.identify()) == "C2N 8 x 8 ternary board, serial not reported, firmware not reported"


def test_transcript_of_a_set_a_reset_and_a_sense(bench: Bench) -> None:
    seen = tap(bench.server)
    mask = NOTHING.copy()
    mask[0, 0] = (True, False)
    mask[0, 1] = (False, True)
    mask[7, 7] = (True, True)
    bench.board.pulse(Polarity.SET, mask, 10e-6)
    bench.board.pulse(Polarity.RESET, mask, 10e-6, count=2)
    bench.board.sense(5e-6, 50e-9, repeats=2)
    bench.board.set_signal(TernarySignal.BIT_IN, True)
    bench.board.set_signal(TernarySignal.CBL, False)
    cells = "02 01 " + "00 " * 59 + "ab 00 00 03 aa"
    reset = f"aa 03 {cells} "
    assert without_echoes(seen) == f"aa 02 {cells} {reset}{reset}aa 05 aa aa 05 aa aa 00 05 01 aa aa 00 00 00 aa"


def test_pulses_reach_the_devices_asked_for_and_no_other(bench: Bench) -> None:
    mask = np.random.default_rng(5).random((8, 8, 2)) < 0.4
    bench.board.pulse(Polarity.SET, mask, 10e-6, count=3)
    assert (bench.chip.pulses[..., Polarity.SET] == 3 * mask).all()
    assert bench.chip.pulses[..., Polarity.RESET].sum() == 0
    assert {call[3] for call in bench.chip.calls} == {10e-6}


def test_senses_come_back(bench: Bench) -> None:
    bench.chip.weights = np.random.default_rng(6).integers(-1, 2, size=(8, 8)).astype(np.int8)
    sensed = bench.board.sense(5e-6, 50e-9, repeats=3)
    assert sensed.dtype == np.int8
    assert (sensed == bench.chip.weights).all()
    assert sensed.shape == (3, 8, 8)


def test_an_impossible_cell_is_an_error_and_the_link_goes_on(bench: Bench) -> None:
    bench.server.to_host = lambda data: b"\3" + data[1:] if len(data) == 64 else data
    with pytest.raises(ReplyError, match=r"cell \(0, 0\) with 0x3"):
        bench.board.sense(5e-6, 50e-9)
    bench.server.to_host = None
    assert (bench.board.sense(5e-6, 50e-9) == 1).all()


def test_a_generator_times_the_sense_and_starts_before_it() -> None:
    started: list[tuple[float, float]] = []

    class Generator:
        def start_sense(self, precharge_s: float, window_s: float) -> None:
            assert not seen
            started.append((precharge_s, window_s))

    chip = FakeChip(GEOMETRY)
    with running(ternary(chip, generator=SenseTimes(2e-6, 3e-6))) as server, open_c2n(server.port, TERNARY) as link:
        board = TernaryBoard(link, LIMITS, "CHIP", TIMING, Generator())
        seen = tap(server)
        board.sense(2e-6, 3e-6)
        assert without_echoes(seen) == "aa 04 aa"
    assert started == [(2e-6, 3e-6)]
    assert chip.calls[-1][2:4] == (2e-6, 3e-6)


def test_a_sense_without_its_generator_hangs_the_board_not_the_host() -> None:
    class Forgotten:
        def start_sense(self, precharge_s: float, window_s: float) -> None:
            pass

    with (
        running(ternary(FakeChip(GEOMETRY), generator=None)) as server,
        open_c2n(server.port, TERNARY, timeout_s=0.02) as link,
    ):
        board = TernaryBoard(link, LIMITS, "CHIP", TIMING, Forgotten())
        with pytest.raises(LinkTimeout, match="0 of 64 bytes in answer to SENSE"):
            board.sense(5e-6, 5e-6)
        with pytest.raises(LinkTimeout, match="powered"):
            board.reopen()
        server.reset()
        board.reopen()
        board.identify()


Call = Callable[[TernaryBoard], object]
REFUSED: list[tuple[str, Call, str]] = [
    ("8 x 5", lambda b: b.pulse(Polarity.SET, np.ones((8, 5, 2), dtype=bool), 10e-6), r"\(8, 5, 2\); expected bool"),
    ("5 x 8", lambda b: b.pulse(Polarity.SET, np.ones((5, 8, 2), dtype=bool), 10e-6), r"\(5, 8, 2\); expected bool"),
    ("cells, not devices", lambda b: b.pulse(Polarity.SET, np.ones((8, 8), dtype=bool), 10e-6), r"\(8, 8\)"),
    ("integers as mask", lambda b: b.pulse(Polarity.SET, np.ones((8, 8, 2), dtype=int), 10e-6), "int64"),
    ("bool polarity", lambda b: b.pulse(True, EVERYTHING, 10e-6), "RESET, SET"),  # type: ignore[arg-type]
    ("unknown polarity", lambda b: b.pulse(2, EVERYTHING, 10e-6), "RESET, SET"),  # type: ignore[arg-type]
    ("another width", lambda b: b.pulse(Polarity.SET, EVERYTHING, 11e-6), "firmware .* makes 1e-05 s"),
    ("width 0", lambda b: b.pulse(Polarity.SET, EVERYTHING, 0.0), "0 s is refused; test allows"),
    ("width nan", lambda b: b.pulse(Polarity.SET, EVERYTHING, float("nan")), "not finite"),
    ("count 0", lambda b: b.pulse(Polarity.SET, EVERYTHING, 10e-6, 0), "0 pulses is refused"),
    ("count -1", lambda b: b.pulse(Polarity.SET, EVERYTHING, 10e-6, -1), "-1 pulses is refused"),
    ("count 2.5", lambda b: b.pulse(Polarity.SET, EVERYTHING, 10e-6, 2.5), "whole number"),  # type: ignore[arg-type]
    ("count beyond the envelope", lambda b: b.pulse(Polarity.SET, EVERYTHING, 10e-6, 1001), "test allows 1 to 1000"),
    ("another window", lambda b: b.sense(5e-6, 60e-9), "sense window.*firmware .* makes 5e-08 s"),
    ("another precharge", lambda b: b.sense(6e-6, 50e-9), "precharge time.*firmware .* makes 5e-06 s"),
    ("window 0", lambda b: b.sense(5e-6, 0.0), "0 s is refused"),
    ("window beyond the envelope", lambda b: b.sense(5e-6, 1e-3), "test envelope allows"),
    ("no repeats", lambda b: b.sense(5e-6, 50e-9, 0), "0 senses is refused"),
    ("unknown signal", lambda b: b.set_signal(8, True), "CBL, CBLEN"),  # type: ignore[arg-type]
    ("a level that is no bool", lambda b: b.set_signal(TernarySignal.CWL, 1), "True .high."),  # type: ignore[arg-type]
    ("watchdog -1", lambda b: b.set_watchdog(-1.0), "-1 s is refused"),
    ("watchdog nan", lambda b: b.set_watchdog(float("nan")), "not finite"),
]


@pytest.mark.parametrize(("call", "complaint"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_refused_sends_nothing(bench: Bench, call: Call, complaint: str) -> None:
    seen = tap(bench.server)
    with pytest.raises(LimitError, match=complaint):
        call(bench.board)
    assert not seen
    assert bench.board.link.in_step


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda b: b.xnor_stream(5e-6, 5e-6, GEOMETRY), "XNOR"),
        (lambda b: b.connect_device(0, 0, Device.BL), "no direct access"),
        (lambda b: b.set_watchdog(10.0), "board.watchdog_s = 0"),
        (lambda b: b.check_xnor(np.ones((1, 8), dtype=np.int8), 5e-6, 5e-6, GEOMETRY), "XNOR"),
        (lambda b: b.check_device(0, 0, Device.BL), "no direct access"),
    ],
    ids=["xnor", "connect", "watchdog", "check xnor", "check device"],
)
def test_what_the_board_cannot_do_is_said_in_one_line(bench: Bench, call: Call, complaint: str) -> None:
    seen = tap(bench.server)
    with pytest.raises(BenchFailure, match=f"the 8 x 8 ternary board cannot .*{complaint}") as caught:
        call(bench.board)
    assert "\n" not in str(caught.value)
    assert not seen


CHECKED = [case for case in REFUSED if case[0].split()[0] not in ("unknown", "a", "watchdog")]


@pytest.mark.parametrize(("call", "complaint"), [case[1:] for case in CHECKED], ids=[case[0] for case in CHECKED])
def test_a_check_refuses_what_the_call_would(bench: Bench, call: Call, complaint: str) -> None:
    class Checks:
        pulse, sense = bench.board.check_pulse, bench.board.check_sense

    with pytest.raises(LimitError, match=complaint):
        call(Checks())  # type: ignore[arg-type]


def test_a_check_of_what_is_allowed_sends_nothing(bench: Bench) -> None:
    seen = tap(bench.server)
    bench.board.check_pulse(Polarity.RESET, EVERYTHING, 10e-6, 1000)
    bench.board.check_sense(5e-6, 50e-9, 1_000_000)
    assert not seen


def test_status_counts_what_the_driver_did(bench: Bench) -> None:
    mask = NOTHING.copy()
    mask[1, 2:4] = True
    bench.board.pulse(Polarity.SET, mask, 10e-6, count=5)
    bench.board.sense(5e-6, 50e-9, repeats=3)
    assert bench.board.status() == BoardStatus(pulses=20, senses=3, frames_refused=0, watchdog_tripped=False)
    bench.server.to_host = lambda data: b""
    with pytest.raises(LinkTimeout):
        bench.board.status()


def test_every_byte_comes_back_and_another_one_is_an_error(bench: Bench) -> None:
    assert bench.board.echo(bytes(range(256))) > 0
    bench.server.to_host = lambda data: b"\x11" if data == b"\x13" else data
    with pytest.raises(ReplyError, match="echoed 20 bytes as others"):
        bench.board.echo(bytes(range(20)))


def test_nothing_to_do_sends_nothing(bench: Bench) -> None:
    seen = tap(bench.server)
    bench.board.pulse(Polarity.SET, NOTHING, 10e-6)
    bench.board.set_watchdog(0.0)
    bench.board.disconnect_device()
    assert not seen


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mask=arrays(np.bool_, (8, 8, 2)), polarity=st.sampled_from(Polarity))
def test_any_mask_arrives_as_it_is(bench: Bench, mask: Any, polarity: Polarity) -> None:
    before = bench.chip.pulses.copy()
    bench.board.pulse(polarity, mask, 10e-6)
    applied = bench.chip.pulses - before
    assert (applied[..., polarity] == mask).all()
    assert applied.sum() == mask.sum()


def test_the_safe_state_lowers_every_signal_whatever_state_the_link_is_in(bench: Bench) -> None:
    firmware = bench.server._firmware
    assert firmware is not None

    def high() -> list[str]:
        assert firmware is not None
        return [signal.name for signal, level in firmware._signals.items() if level]

    for signal in TernarySignal:
        bench.board.set_signal(signal, True)
    assert len(high()) == 8
    bench.board.safe_off()
    assert high() == []
    bench.board.set_signal(TernarySignal.CWL, True)
    bench.server.to_host = lambda data: b""
    bench.board.link.timeout_s = 0.02
    with pytest.raises(LinkError):
        bench.board.sense(5e-6, 50e-9)
    with pytest.raises(LinkTimeout, match="does not echo"):
        bench.board.safe_off()
    assert high() == []
    bench.server.to_host = None
    bench.board.safe_off()
    with pytest.raises(LinkError, match="out of step"):
        bench.board.sense(5e-6, 50e-9)
    bench.board.reopen()
    assert (bench.board.sense(5e-6, 50e-9) == 1).all()


def test_closing_leaves_the_signals_alone(bench: Bench) -> None:
    bench.board.set_signal(TernarySignal.CWL, True)
    bench.board.close()
    firmware = bench.server._firmware
    assert firmware is not None
    assert firmware._signals[TernarySignal.CWL] == 1


def test_another_chip_does_not_fit_the_simulated_board() -> None:
    with pytest.raises(UserMistake, match="8 x 8 cells, the chip has"):
        ternary(FakeChip(Geometry(8, 5)))


class Rails:
    """A supply that sets the world's rails at once."""

    def __init__(self, world: World) -> None:
        self.world = world

    def apply(self, rails: RailVoltages) -> None:
        for channel, volts in ((1, rails.vddr_v), (2, rails.vddc_v), (3, rails.vdd_v)):
            self.world.drive_channel(channel, volts)

    def confirm(self) -> None:
        """They stand where they were set."""


def test_a_chip_is_formed_programmed_and_read_through_it() -> None:
    model = load_device(Path(__file__).parents[2] / "data/devices/hfo2_130nm_ternary.toml").model
    world = World(SimulatedChip(model, GEOMETRY, 11, "TERNARY"))
    points = OperatingPoints(
        form=PulsePoint("FORM", RailVoltages(1.2, 3.0, 3.0), 10e-6),
        set=PulsePoint("SET", RailVoltages(1.2, 3.5, 3.0), 10e-6),
        reset=PulsePoint("RESET", RailVoltages(1.2, 5.0, 5.0), 10e-6),
        weak_reset=PulsePoint("WEAK_RESET", RailVoltages(1.2, 2.25, 5.0), 10e-6),
        sense=SensePoint("SENSE", RailVoltages(1.2, 1.2, 2.5), 5e-6, 50e-9),
        direct=DirectPoint("DIRECT", RailVoltages(1.2, 0.0, 3.0), 0.1, 1e-3),
    )
    weights = np.random.default_rng(12).integers(-1, 2, size=(8, 8)).astype(np.int8)
    with running(TernaryBoardServer(world)) as server, open_c2n(server.port, TERNARY) as link:
        board = TernaryBoard(link, LIMITS, "TERNARY", FirmwareTiming(10e-6, 5e-6, 50e-9))
        chip = Chip(board, Rails(world), points, None)  # type: ignore[arg-type]
        assert (chip.read()[0] == 0).all()
        chip.form(EVERYTHING, 3)
        programming = chip.program(weights, attempts=8)
    # A few defective devices, and zeros whose HRS came out low, may fail; a wrong bit order would fail all.
    assert programming.verified >= 58
    low = world.chip.resistance_ohm < 20e3
    assert (low == lrs_devices(weights)).mean() > 0.97


def test_it_has_no_loop_of_cycles_and_says_so_in_one_line(bench: Bench) -> None:
    seen = tap(bench.server)
    assert not bench.board.cycles
    for call in (bench.board.check_cycle, bench.board.cycle):
        with pytest.raises(LimitError, match=r"^the .* ternary board cannot cycle devices by itself.*alternate"):
            call(EVERYTHING, 10e-6, 10e-6, 1)
    assert not seen
    assert not bench.chip.pulses.any()
