"""SET / RESET cycling by the board itself, over the framed protocol: version 2, and what version 1 makes of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from drivers.errors import InDoubt, LimitError
from drivers.framed import BoardLimits, FramedBoard, link, open_framed
from drivers.framed.messages import Cycle
from drivers.limits import Range
from drivers.simulated.board import BoardServer
from drivers.simulated.firmware import BoardProperties
from models.cells import Geometry
from tests.drivers.fake_chip import FakeChip, served

GEOMETRY = Geometry(5, 11)
LIMITS = BoardLimits(Range(1e-7, 1e-2, "s", "bench"), Range(1, 10, "pulses", "bench"))
EVERYTHING = np.ones((*GEOMETRY, 2), dtype=bool)
TIME_S = 5e-6
SOME = np.random.default_rng(6).random((*GEOMETRY, 2)) < 0.4
SMALL = BoardProperties(max_payload=100, max_busy_ms=5)


@pytest.fixture
def chip() -> FakeChip:
    return FakeChip(GEOMETRY)


@pytest.fixture
def server(chip: FakeChip) -> Iterator[BoardServer]:
    with served(chip, properties=SMALL) as running:
        yield running


@pytest.fixture
def board(server: BoardServer) -> Iterator[FramedBoard]:
    with open_framed(server.port, timeout_s=0.05, retries=2) as opened:
        yield FramedBoard(opened, LIMITS)


@pytest.mark.parametrize(
    ("set_s", "reset_s", "count"),
    [(1e-5, 2e-5, 1), (1e-5, 2e-5, 60), (1e-5, 2e-5, 1100), (1e-3, 2e-3, 7), (1e-7, 1e-7, 50_000)],
)
def test_cycles_that_take_long_are_cut_and_keep_their_order(
    board: FramedBoard, chip: FakeChip, set_s: float, reset_s: float, count: int
) -> None:
    board.cycle(SOME, set_s, reset_s, count)
    assert (chip.pulses == (SOME * count)[..., None]).all()
    runs = [(device, now) for _, devices, _, _, now, _ in chip.calls for device in devices]
    assert [device for device, _ in runs] == sorted(device for device, _ in runs)
    for _, devices, now_set_s, now_reset_s, now, _ in chip.calls:
        assert (now_set_s, now_reset_s) == (pytest.approx(set_s), pytest.approx(reset_s))
        assert len(devices) * now * (set_s + reset_s + 2e-6) <= 5.000001e-3


def test_no_devices_are_no_cycles(board: FramedBoard, chip: FakeChip) -> None:
    sent = board.link.stats.bytes_out
    board.cycle(~EVERYTHING, TIME_S, TIME_S, 3)
    assert board.link.stats.bytes_out == sent
    assert chip.calls == []


def test_the_message_is_the_numbers_and_two_planes() -> None:
    sent = Cycle(1, 0xFFFF_FFFF, 10**9, SOME)
    packed = sent.pack()
    assert len(packed) == 12 + 2 * 7
    got = Cycle.unpack(packed, GEOMETRY)
    assert (got.set_width_ns, got.reset_width_ns, got.count) == (1, 0xFFFF_FFFF, 10**9)
    np.testing.assert_array_equal(got.devices, SOME)
    assert got.busy_ns(500) == int(SOME.sum()) * 10**9 * (1 + 0xFFFF_FFFF + 1000)


def test_one_cycle_must_fit_into_what_the_board_may_be_busy_with(board: FramedBoard, chip: FakeChip) -> None:
    board.cycle(SOME, 2.499e-3, 2.499e-3, 1)
    with pytest.raises(LimitError, match="SET and RESET in a cycle together: 0.005 s is refused"):
        board.check_cycle(SOME, 2.5e-3, 2.5e-3, 1)
    with pytest.raises(LimitError, match="width of the RESET in a cycle: 0.02 s is refused; bench allows"):
        board.cycle(SOME, TIME_S, 2e-2, 1)
    with pytest.raises(LimitError, match=r"cycle count: 1e\+13 cycles is refused; the framed board allows"):
        board.cycle(SOME, TIME_S, TIME_S, 10**13)
    assert (chip.pulses == SOME[..., None]).all()


def test_the_bench_file_limits_the_cycles(board: FramedBoard) -> None:
    limits = BoardLimits(LIMITS.width, LIMITS.count, cycles=Range(1, 1000, "cycles", "limits.cycle_count"))
    limited = FramedBoard(board.link, limits)
    limited.check_cycle(SOME, TIME_S, TIME_S, 1000)
    with pytest.raises(LimitError, match=r"1001 cycles is refused; limits.cycle_count allows 1 to 1000 cycles"):
        limited.cycle(SOME, TIME_S, TIME_S, 1001)


def test_cycles_without_an_answer_are_in_doubt_and_never_made_twice(
    board: FramedBoard, chip: FakeChip, server: BoardServer
) -> None:
    server.to_host = lambda data: b""
    mask = ~EVERYTHING
    mask[1, 2, 0] = mask[4, 10, 1] = True
    with pytest.raises(InDoubt, match="not acknowledged") as caught:
        board.cycle(mask, TIME_S, TIME_S, 20)
    assert caught.value.devices == [(1, 2, 0), (4, 10, 1)]
    server.to_host = None
    board.reopen()
    assert (chip.pulses == (mask * 20)[..., None]).all()


def test_a_lost_answer_is_asked_for_again_and_the_cycles_act_once(
    board: FramedBoard, chip: FakeChip, server: BoardServer
) -> None:
    lost = iter([True])
    server.to_host = lambda data: b"" if next(lost, False) else data
    board.cycle(SOME, TIME_S, TIME_S, 3)
    assert board.link.stats.retries == 1
    assert (chip.pulses == (SOME * 3)[..., None]).all()


def test_a_board_that_fails_during_cycles_leaves_them_in_doubt(board: FramedBoard, chip: FakeChip) -> None:
    chip.broken = True
    mask = ~EVERYTHING
    mask[1, 2, 0] = True
    with pytest.raises(InDoubt, match="word line driver") as caught:
        board.cycle(mask, TIME_S, TIME_S, 1)
    assert caught.value.devices == [(1, 2, 0)]


def refused_to_cycle(board: FramedBoard, chip: FakeChip) -> None:
    assert not board.cycles
    assert board.protocol == "framed, version 1"
    sent = board.link.stats.bytes_out
    for call in (board.check_cycle, board.cycle):
        with pytest.raises(LimitError, match="protocol version 1, which has no loop of SET and RESET"):
            call(SOME, TIME_S, TIME_S, 1)
    assert board.link.stats.bytes_out == sent
    assert board.sense(TIME_S, TIME_S, 2).shape == (2, *GEOMETRY)
    assert not chip.pulses.any()


def test_both_of_version_2_cycle(board: FramedBoard) -> None:
    assert board.cycles
    assert board.protocol == "framed, version 2"


def test_a_board_of_version_1_is_spoken_to_in_version_1(chip: FakeChip) -> None:
    with served(chip, properties=BoardProperties(versions=(1, 1))) as old, open_framed(old.port) as opened:
        refused_to_cycle(FramedBoard(opened, LIMITS), chip)


def test_a_host_of_version_1_is_served_in_version_1(
    chip: FakeChip, server: BoardServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "VERSIONS", (1, 1))
    with open_framed(server.port) as opened:
        refused_to_cycle(FramedBoard(opened, LIMITS), chip)
