"""The driver of the 64-column board: what it sends, what it refuses, the register walk, and devices on the pads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from data.device_files import default_device
from drivers.c2n import COLUMN, ColumnBoard, open_c2n
from drivers.c2n.protocol import ColumnSignal, Register, Words
from drivers.errors import LimitError, LinkError, ReadBackError, ReplyError
from drivers.roles import BoardStatus
from drivers.simulated.c2n_boards import ColumnBoardServer
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.world import World
from models.cells import Device, Geometry, Polarity
from models.exceptions import BenchFailure, UserMistake
from tests.drivers.c2n_bench import column, running, tap
from tests.drivers.fake_chip import FakeChip

GEOMETRY = Geometry(64, 64)
RANDOM = Words(0x0123_4567_89AB_CDEF, 0xAAAA_AAAA_AAAA_AAAA, 5, 1 << 63, 0xFF)


class Bench:
    """A driver, the board that it is on, and the chip behind that."""

    def __init__(self, server: ColumnBoardServer, board: ColumnBoard, chip: FakeChip) -> None:
        self.server, self.board, self.chip = server, board, chip

    @property
    def words(self) -> Words:
        """What the simulated registers hold."""
        assert self.server._firmware is not None
        return self.server._firmware.words

    def signal(self, signal: ColumnSignal) -> int:
        """How a simulated control signal stands."""
        assert self.server._firmware is not None
        return self.server._firmware._signals[signal]


@pytest.fixture
def bench() -> Iterator[Bench]:
    chip = FakeChip(GEOMETRY)
    with running(column(chip)) as server, open_c2n(server.port, COLUMN, timeout_s=0.3) as link:
        yield Bench(server, ColumnBoard(link, GEOMETRY, "AWESOME-3"), chip)


def without_echoes(seen: bytearray) -> bytes:
    """What was sent, without the echo at the end of each call, whose byte changes."""
    frames = bytes(seen)
    while (place := frames.find(b"\xaa\x0a")) >= 0:
        frames = frames[:place] + frames[place + 4 :]
    return frames


def test_what_it_is(bench: Bench) -> None:
    assert bench.board.geometry == GEOMETRY
    assert bench.board.chip_id == "AWESOME-3"
    assert bench.board.identify().model == "64-column board"


def test_transcript_of_a_device_on_the_pads(bench: Bench) -> None:
    seen = tap(bench.server)
    bench.board.connect_device(5, 3, Device.BLB)
    column_3, nothing = (8).to_bytes(8, "little"), bytes(8)
    words = nothing + (4).to_bytes(8, "little") + column_3 + column_3 + nothing
    assert without_echoes(seen).hex(" ") == (b"\xaa\2\0\0\xaa\xaa\1" + words + b"\xaa\xaa\2\0\1\xaa").hex(" ")
    seen.clear()
    bench.board.disconnect_device()
    assert without_echoes(seen) == b"\xaa\2\0\0\xaa\xaa\1" + bytes(40) + b"\xaa"


def test_transcript_of_signals_addresses_and_xnor_inputs(bench: Bench) -> None:
    seen = tap(bench.server)
    bench.board.set_signal(ColumnSignal.READ_OUT, True)
    bench.board.set_address(0, 63)
    bench.board.send_xnor_inputs(np.array([1, -1], dtype=np.int8))
    assert without_echoes(seen).hex() == ("aa020801aaaa0300aaaa043faaaa020401aaaa08aaaa020400aaaa08aa")
    assert bench.server._firmware is not None
    assert bench.server._firmware.xnor_inputs == 0b10


@pytest.mark.parametrize("device", Device)
@pytest.mark.parametrize(("row", "col"), [(0, 0), (1, 0), (62, 63), (63, 63), (17, 42)])
def test_one_device_is_on_the_pads(bench: Bench, row: int, col: int, device: Device) -> None:
    bench.board.connect_device(row, col, device)
    assert bench.chip.connected == (row, col, device)
    bench.board.disconnect_device()
    assert bench.chip.connected is None
    assert bench.words == Words(0, 0, 0, 0, 0)


def test_no_other_device_is_touched_while_the_registers_move(bench: Bench) -> None:
    bench.board.connect_device(0, 0, Device.BL)
    connected = []

    def watch(data: bytes) -> bytes:
        connected.append(bench.chip.connected)
        return data

    bench.server.to_host = watch
    bench.board.connect_device(9, 9, Device.BLB)
    assert connected == [None, None, (9, 9, Device.BLB), (9, 9, Device.BLB)]


def test_the_simulated_pads_are_open_for_what_is_no_single_device(bench: Bench) -> None:
    bench.board.connect_device(1, 1, Device.BL)
    bench.board.connect_device(1, 1, Device.BL, Polarity.RESET)
    assert bench.chip.connected is None
    bench.board.fill_registers(Words(3, 0, 1, 0, 1))
    bench.board.set_signal(ColumnSignal.CARAC_EN, True)
    assert bench.chip.connected is None
    bench.board.fill_registers(Words(2, 0, 1, 0, 1))
    assert bench.chip.connected is None
    bench.board.set_signal(ColumnSignal.CARAC_EN, True)
    assert bench.chip.connected == (2, 0, Device.BL)


def test_a_walk_gives_back_what_went_in_and_leaves_nothing(bench: Bench) -> None:
    assert bench.board.walk_registers(RANDOM) == RANDOM
    assert bench.words == Words(0, 0, 0, 0, 0)
    bench.board.fill_registers(RANDOM)
    assert bench.words == RANDOM
    assert bench.board.read_ends() == tuple(bool(word >> 63) for word in RANDOM)


def test_sound_registers_pass(bench: Bench) -> None:
    bench.board.connect_device(3, 3, Device.BL)
    bench.board.check_registers()
    assert bench.chip.connected is None


def mirrored(word: int) -> int:
    return int(f"{word:064b}"[::-1], 2)


DAMAGES: list[tuple[str, Callable[[list[int]], list[int]], str]] = [
    ("stuck low", lambda w: [w[0], 0, *w[2:]], "WLO is stuck at 0"),
    ("stuck high", lambda w: [2**64 - 1, *w[1:]], "WLE is stuck at 1"),
    ("reversed", lambda w: [*w[:4], mirrored(w[4])], "BLB is reversed"),
    ("all reversed", lambda w: [mirrored(word) for word in w], "WLE is reversed, WLO is reversed, SL is reversed"),
    ("exchanged", lambda w: [w[1], w[0], *w[2:]], "WLE gives what WLO was given, WLO gives what WLE was given"),
    ("one bit", lambda w: [*w[:2], w[2] | 1 << 40, *w[3:]], r"SL is wrong in 1 of its bits \(40\)"),
    ("too long", lambda w: [*w[:3], w[3] >> 1, w[4]], "BL comes late by 1"),
]


@pytest.mark.parametrize(("damage", "complaint"), [case[1:] for case in DAMAGES], ids=[case[0] for case in DAMAGES])
def test_the_walk_finds_a_wrong_or_reversed_register(
    bench: Bench, damage: Callable[[list[int]], list[int]], complaint: str
) -> None:
    firmware = bench.server._firmware
    assert firmware is not None
    sound = firmware._act

    def damaged(code: int, payload: bytes) -> bytes:
        if code == 1:
            payload = Words(*damage(list(Words.unpack(payload)))).pack()
        return sound(code, payload)  # type: ignore[arg-type]

    firmware._act = damaged  # type: ignore[method-assign]
    with pytest.raises(ReadBackError, match=f"{complaint}.*before any voltage"):
        bench.board.check_registers()


Call = Callable[[ColumnBoard], object]
REFUSED: list[tuple[str, Call, str]] = [
    ("row 64", lambda b: b.connect_device(64, 0, Device.BL), "row: 64 counted from 0 is refused"),
    ("row -1", lambda b: b.connect_device(-1, 0, Device.BL), "row: -1"),
    ("column 64", lambda b: b.connect_device(0, 64, Device.BL), "column: 64"),
    ("column 0.5", lambda b: b.connect_device(0, 0.5, Device.BL), "whole number"),  # type: ignore[arg-type]
    ("a bool row", lambda b: b.connect_device(True, 0, Device.BL), "not a number"),
    ("no such device", lambda b: b.connect_device(0, 0, 2), "BL, BLB"),  # type: ignore[arg-type]
    ("no such polarity", lambda b: b.connect_device(0, 0, Device.BL, 3), "RESET, SET"),  # type: ignore[arg-type]
    ("65 bits", lambda b: b.fill_registers(Words(0, 1 << 64, 0, 0, 0)), "WLO: .* whole numbers of 64 bits"),
    ("a negative word", lambda b: b.walk_registers(Words(0, 0, 0, 0, -1)), "BLB: -1"),
    ("address", lambda b: b.set_address(0, 64), "column: 64"),
    ("signal 9", lambda b: b.set_signal(9, True), "CARAC_EN, CSL"),  # type: ignore[arg-type]
    ("a level that is no bool", lambda b: b.set_signal(ColumnSignal.CSL, 0), "True .high."),  # type: ignore[arg-type]
    ("XNOR inputs of 0", lambda b: b.send_xnor_inputs(np.zeros(3, dtype=np.int8)), "-1 or .1"),
    ("bools as XNOR inputs", lambda b: b.send_xnor_inputs(np.array([True])), "-1 or .1"),
    ("65 XNOR inputs", lambda b: b.send_xnor_inputs(np.ones(65, dtype=np.int8)), "n up to 64"),
    ("watchdog", lambda b: b.set_watchdog(float("inf")), "not finite"),
]


@pytest.mark.parametrize(("call", "complaint"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_refused_sends_nothing(bench: Bench, call: Call, complaint: str) -> None:
    seen = tap(bench.server)
    with pytest.raises(LimitError, match=complaint):
        call(bench.board)
    assert not seen


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda b: b.pulse(Polarity.SET, np.ones((64, 64, 2), dtype=bool), 1e-5), "make pulses"),
        (lambda b: b.sense(5e-6, 5e-6), "not published"),
        (lambda b: b.xnor_stream(5e-6, 5e-6, GEOMETRY), "not published"),
        (lambda b: b.set_watchdog(1.0), "board.watchdog_s = 0"),
        (lambda b: b.check_pulse(Polarity.SET, np.ones((64, 64, 2), dtype=bool), 1e-5), "make pulses"),
        (lambda b: b.check_sense(5e-6, 5e-6), "not published"),
        (lambda b: b.check_xnor(np.ones((1, 64), dtype=np.int8), 5e-6, 5e-6, GEOMETRY), "not published"),
    ],
    ids=["pulse", "sense", "xnor", "watchdog", "check pulse", "check sense", "check xnor"],
)
def test_what_the_board_cannot_do_is_said_in_one_line(bench: Bench, call: Call, complaint: str) -> None:
    seen = tap(bench.server)
    with pytest.raises(BenchFailure, match=f"the 64-column board cannot .*{complaint}") as caught:
        call(bench.board)
    assert "\n" not in str(caught.value)
    assert not seen
    bench.board.set_watchdog(0.0)


def test_a_device_can_be_checked_without_connecting_it(bench: Bench) -> None:
    seen = tap(bench.server)
    bench.board.check_device(63, 63, Device.BLB)
    with pytest.raises(LimitError, match="row: 64"):
        bench.board.check_device(64, 63, Device.BLB)
    assert not seen


def test_status_asks_the_board_whether_it_is_there(bench: Bench) -> None:
    assert bench.board.status() == BoardStatus(pulses=0, senses=0, frames_refused=0, watchdog_tripped=False)
    assert bench.board.echo(bytes(range(256))) > 0
    bench.server.to_host = lambda data: b""
    with pytest.raises(LinkError, match="of an echo"):
        bench.board.status()


@pytest.mark.parametrize("size", [(129, 64), (64, 65), (0, 64), (64, 0)])
def test_an_array_that_the_registers_cannot_address_is_refused(bench: Bench, size: tuple[int, int]) -> None:
    with pytest.raises(LimitError, match="rows|columns"):
        ColumnBoard(bench.board.link, Geometry(*size), "CHIP")


def test_a_register_end_that_is_neither_0_nor_1_is_an_error(bench: Bench) -> None:
    bench.server.to_host = lambda data: b"\2" if data == b"\0" else data
    with pytest.raises(ReplyError, match="as 02; 00 and 01 are allowed"):
        bench.board.read_ends()


def test_the_safe_state_clears_everything_and_reads_back(bench: Bench) -> None:
    bench.board.connect_device(2, 2, Device.BL)
    for signal in ColumnSignal:
        bench.board.set_signal(signal, True)
    bench.board.safe_off()
    assert [bench.signal(signal) for signal in ColumnSignal] == [0] * 9
    assert bench.words == Words(0, 0, 0, 0, 0)
    assert bench.chip.connected is None
    bench.server.to_host = lambda data: b"\1" if data == b"\0" else data
    with pytest.raises(ReadBackError, match="WLE, WLO, SL, BL, BLB is high .* switch the supplies off"):
        bench.board.safe_off()


def test_the_safe_state_works_out_of_step_too(bench: Bench) -> None:
    bench.board.connect_device(2, 2, Device.BL)
    bench.server.to_host = lambda data: b""
    bench.board.link.timeout_s = 0.02
    with pytest.raises(LinkError):
        bench.board.read_ends()
    bench.server.to_host = None
    bench.board.link.timeout_s = 0.3
    bench.board.safe_off()
    assert bench.chip.connected is None
    with pytest.raises(LinkError, match="out of step"):
        bench.board.connect_device(2, 2, Device.BL)
    bench.board.reopen()
    bench.board.connect_device(2, 2, Device.BL)
    assert bench.chip.connected == (2, 2, Device.BL)


def test_a_device_is_measured_through_the_pads() -> None:
    world = World(SimulatedChip(default_device().model, GEOMETRY, 4, "ARRAY"))
    with running(ColumnBoardServer(world)) as server, open_c2n(server.port, COLUMN) as link:
        board = ColumnBoard(link, GEOMETRY, "ARRAY")
        for channel, volts in ((3, 1.2), (2, 0.0), (1, 3.0)):
            world.drive_channel(channel, volts)
        assert world.force_pads(0.1, 1e-3) == (0.1, 0.0)
        before = world.chip.resistance_ohm
        for row, col, device in ((0, 0, Device.BL), (63, 17, Device.BLB)):
            board.connect_device(row, col, device)
            world.force_pads(3.3, 100e-6)
            volts, amps = world.force_pads(0.1, 1e-3)
            resistance = world.chip.resistance_ohm[row, col, device]
            assert resistance < 30e3
            assert volts / amps == pytest.approx(resistance, rel=0.2)
        assert (world.chip.resistance_ohm != before).sum() == 2


def test_too_large_a_chip_does_not_fit_the_simulated_board() -> None:
    with pytest.raises(UserMistake, match="reaches .128, 64. cells, the chip has .64, 128"):
        column(FakeChip(Geometry(64, 128)))


def test_the_larger_array_has_rows_up_to_127() -> None:
    chip = FakeChip(Geometry(128, 64))
    with running(column(chip)) as server, open_c2n(server.port, COLUMN) as link:
        board = ColumnBoard(link, Geometry(128, 64), "CHIP")
        for row in (0, 127, 126):
            board.connect_device(row, 1, Device.BL)
            assert chip.connected == (row, 1, Device.BL)
        assert [register.name for register in Register if bench_words(server)[register]] == ["WLE", "SL", "BLB"]


def bench_words(server: ColumnBoardServer) -> Words:
    assert server._firmware is not None
    return server._firmware.words


def test_it_has_no_loop_of_cycles_and_says_so_in_one_line(bench: Bench) -> None:
    everything = np.ones((*GEOMETRY, 2), dtype=bool)
    assert not bench.board.cycles
    for call in (bench.board.check_cycle, bench.board.cycle):
        with pytest.raises(LimitError, match=r"cannot cycle devices: it makes no pulses"):
            call(everything, 10e-6, 10e-6, 1)
