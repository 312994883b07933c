"""The role of the controller board, filled over the framed protocol."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.errors import InDoubt, InstrumentError, LimitError, ReadBackError, ReplyError
from drivers.framed import BoardLimits, FramedBoard, open_framed
from drivers.framed.codec import decode, encode
from drivers.framed.messages import RESPONSE, Opcode
from drivers.limits import Range
from drivers.roles import BoardStatus, ControllerBoard, Identity
from drivers.simulated.board import BoardServer
from drivers.simulated.firmware import BoardProperties
from drivers.simulated.world import Rails
from models.cells import Device, Geometry, Polarity
from tests.drivers.fake_chip import FakeChip, served

GEOMETRY = Geometry(5, 11)
LIMITS = BoardLimits(
    width=Range(1e-7, 1e-3, "s", "limits.pulse_width_s"),
    count=Range(1, 5000, "pulses", "limits.pulse_count"),
    window=Range(1e-6, 1e-4, "s", "limits.sense_window_s"),
    cycles=Range(1, 10**6, "cycles", "limits.cycle_count"),
)
TIME_S = 5e-6
EVERYTHING = np.ones((*GEOMETRY, 2), dtype=bool)


@pytest.fixture
def chip() -> FakeChip:
    return FakeChip(GEOMETRY, np.random.default_rng(4).choice([-1, 0, 1], GEOMETRY).astype(np.int8))


@pytest.fixture
def server(chip: FakeChip) -> Iterator[BoardServer]:
    # Small frames and short busy times, so that everything here has to be cut.
    with served(chip, properties=BoardProperties(max_payload=100, max_busy_ms=5)) as running:
        yield running


@pytest.fixture
def board(server: BoardServer) -> Iterator[FramedBoard]:
    with open_framed(server.port) as link:
        yield FramedBoard(link, LIMITS)


def role(board: ControllerBoard) -> ControllerBoard:
    return board


def test_it_fills_the_role_and_says_who_it_is(board: FramedBoard) -> None:
    assert role(board).geometry == GEOMETRY
    assert board.chip_id == "FAKE-5x11"
    assert board.identify() == Identity("rram-bench", "simulated controller board", "SIM-BOARD-1", "1.0")


def test_a_pulse_reaches_each_device_of_the_mask_and_no_other(board: FramedBoard, chip: FakeChip) -> None:
    mask = np.random.default_rng(5).random((*GEOMETRY, 2)) < 0.5
    board.pulse(Polarity.SET, mask, 2.5e-6, 3)
    board.pulse(Polarity.RESET, ~mask, 1e-5)
    np.testing.assert_array_equal(chip.pulses[..., Polarity.SET], mask * 3)
    np.testing.assert_array_equal(chip.pulses[..., Polarity.RESET], ~mask)
    assert {round(call[3] * 1e9) for call in chip.calls} == {2500, 10_000}
    assert {call[-1] for call in chip.calls} == {Rails(0.0, 0.0, 0.0)}


@pytest.mark.parametrize(("width_s", "count"), [(1e-5, 1), (1e-5, 60), (1e-5, 1100), (1e-3, 7), (1e-7, 5000)])
def test_pulses_that_take_long_are_cut_and_keep_their_order(
    board: FramedBoard, chip: FakeChip, width_s: float, count: int
) -> None:
    mask = np.random.default_rng(6).random((*GEOMETRY, 2)) < 0.4
    board.pulse(Polarity.RESET, mask, width_s, count)
    np.testing.assert_array_equal(chip.pulses[..., Polarity.RESET], mask * count)
    per_device = [device for _, _, devices, _, now, _ in chip.calls for device in devices for _ in range(now)]
    assert per_device == [int(device) for device in np.flatnonzero(mask) for _ in range(count)]
    for _, _, devices, _, now, _ in chip.calls:
        assert len(devices) * now * (width_s + 1e-6) <= 5.000001e-3


def test_no_devices_is_no_pulse(board: FramedBoard, chip: FakeChip) -> None:
    sent = board.link.stats.bytes_out
    board.pulse(Polarity.SET, ~EVERYTHING, TIME_S)
    assert board.link.stats.bytes_out == sent
    assert chip.calls == []


@pytest.mark.parametrize("repeats", [1, 2, 7, 8, 9, 63, 64, 65, 200])
@pytest.mark.parametrize("undecided", [True, False])
def test_senses_of_every_number(board: FramedBoard, chip: FakeChip, repeats: int, undecided: bool) -> None:
    if not undecided:
        chip.weights[chip.weights == 0] = 1
    sensed = board.sense(TIME_S, 2 * TIME_S, repeats)
    assert sensed.dtype == np.int8
    np.testing.assert_array_equal(sensed, np.repeat(chip.weights[None], repeats, axis=0))
    assert sum(call[4] for call in chip.calls) == repeats
    assert chip.calls[0][2:4] == (pytest.approx(TIME_S), pytest.approx(2 * TIME_S))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(0, 70), rows=st.integers(1, 5), cols=st.integers(1, 11), seed=st.integers(0, 9))
def test_xnor_of_every_size(board: FramedBoard, chip: FakeChip, n: int, rows: int, cols: int, seed: int) -> None:
    inputs = np.random.default_rng(seed).choice([-1, 1], (n, cols)).astype(np.int8)
    sums = board.xnor(inputs, TIME_S, TIME_S, Geometry(rows, cols))
    assert sums.dtype == np.int16
    assert sums.shape == (n, rows)
    np.testing.assert_array_equal(sums, inputs.astype(int) @ chip.weights[:rows, :cols].T.astype(int))


def test_sums_of_a_wide_array_and_the_default_frames() -> None:
    geometry = Geometry(3, 300)
    chip = FakeChip(geometry)
    with served(chip) as server, open_framed(server.port) as link:
        inputs = np.ones((1000, 300), dtype=np.int8)
        inputs[::2] = -1
        sums = FramedBoard(link, LIMITS).xnor(inputs, TIME_S, TIME_S, geometry)
        assert (sums[::2] == -300).all()
        assert (sums[1::2] == 300).all()


BAD_NUMBERS: list[Any] = [math.nan, math.inf, -math.inf, -1.0, 0, 1e9, True, "1e-5", None]
GOOD_INPUTS = np.ones((2, 11), dtype=np.int8)


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, -0.0, 1e-8, 2e-3])
def test_a_bad_time_is_refused_before_anything_is_sent(board: FramedBoard, chip: FakeChip, bad: Any) -> None:
    sent = board.link.stats.bytes_out
    for call in (
        lambda: board.pulse(Polarity.SET, EVERYTHING, bad),
        lambda: board.cycle(EVERYTHING, bad, TIME_S, 1),
        lambda: board.cycle(EVERYTHING, TIME_S, bad, 1),
        lambda: board.sense(bad, TIME_S),
        lambda: board.sense(TIME_S, bad),
        lambda: board.xnor(GOOD_INPUTS, bad, TIME_S, GEOMETRY),
        lambda: board.xnor(GOOD_INPUTS, TIME_S, bad, GEOMETRY),
    ):
        with pytest.raises(LimitError):
            call()
    assert board.link.stats.bytes_out == sent
    assert chip.calls == []


@pytest.mark.parametrize("bad", [*BAD_NUMBERS, 1.5])
def test_a_bad_number_is_refused_before_anything_is_sent(board: FramedBoard, chip: FakeChip, bad: Any) -> None:
    sent = board.link.stats.bytes_out
    calls = [
        lambda: board.pulse(Polarity.SET, EVERYTHING, TIME_S, bad),
        lambda: board.cycle(EVERYTHING, TIME_S, TIME_S, bad),
        lambda: board.sense(TIME_S, TIME_S, bad),
        lambda: board.xnor(GOOD_INPUTS, TIME_S, TIME_S, Geometry(bad, 11)),
    ]
    if bad != 0:
        calls += [
            lambda: board.connect_device(bad, 0, Device.BL),
            lambda: board.connect_device(0, bad, Device.BL),
            lambda: board.connect_device(0, 0, bad),
            lambda: board.pulse(bad, EVERYTHING, TIME_S),
        ]
    for call in calls:
        with pytest.raises(LimitError):
            call()
    assert board.link.stats.bytes_out == sent
    assert chip.calls == []


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, True, "1", None, 1e9, 1e-4])
def test_a_bad_watchdog_is_refused_before_anything_is_sent(board: FramedBoard, bad: Any) -> None:
    sent = board.link.stats.bytes_out
    with pytest.raises(LimitError):
        board.set_watchdog(bad)
    assert board.link.stats.bytes_out == sent


@pytest.mark.parametrize(
    "mask", [EVERYTHING[:-1], EVERYTHING[:, :, 0], EVERYTHING.transpose(1, 0, 2), EVERYTHING.astype(np.int8), None]
)
def test_a_mask_of_another_shape_or_type_is_refused(board: FramedBoard, chip: FakeChip, mask: Any) -> None:
    with pytest.raises(LimitError, match=r"expected bool of shape \(5, 11, 2\)"):
        board.pulse(Polarity.SET, mask, TIME_S)
    with pytest.raises(LimitError, match=r"expected bool of shape \(5, 11, 2\)"):
        board.cycle(mask, TIME_S, TIME_S, 1)
    assert chip.calls == []


@pytest.mark.parametrize("bad", [1.0, True, np.int64(1), np.float64(0.0), Device.BLB, "SET", 2])
def test_a_polarity_is_the_enum_or_a_plain_int_that_names_it(board: FramedBoard, chip: FakeChip, bad: Any) -> None:
    with pytest.raises(LimitError, match="the framed board allows RESET, SET"):
        board.pulse(bad, EVERYTHING, TIME_S)
    assert chip.calls == []
    board.pulse(int(Polarity.SET), EVERYTHING, TIME_S)  # type: ignore[arg-type]
    assert (chip.pulses[..., Polarity.SET] == 1).all()


@pytest.mark.parametrize("bad", [0.0, 1.0, False, Polarity.SET, 2])
def test_a_device_is_the_enum_or_a_plain_int_that_names_it(board: FramedBoard, chip: FakeChip, bad: Any) -> None:
    with pytest.raises(LimitError, match="the framed board allows BL, BLB"):
        board.connect_device(0, 0, bad)
    assert chip.connected is None
    board.connect_device(0, 0, int(Device.BLB))  # type: ignore[arg-type]
    assert chip.connected == (0, 0, Device.BLB)


@pytest.mark.parametrize(
    "inputs",
    [GOOD_INPUTS[0], GOOD_INPUTS[:, :-1], GOOD_INPUTS.T, GOOD_INPUTS * 0, GOOD_INPUTS > 0, GOOD_INPUTS * np.nan, "no"],
)
def test_inputs_of_another_shape_or_value_are_refused(board: FramedBoard, chip: FakeChip, inputs: Any) -> None:
    with pytest.raises(LimitError, match="XNOR inputs"):
        board.xnor(inputs, TIME_S, TIME_S, GEOMETRY)
    assert chip.calls == []


def test_the_refusal_names_the_layer(board: FramedBoard) -> None:
    with pytest.raises(
        LimitError, match=r"pulse width: 0.002 s is refused; limits.pulse_width_s allows 1e-07 to 0.001"
    ):
        board.pulse(Polarity.SET, EVERYTHING, 2e-3)
    wide = FramedBoard(board.link, BoardLimits(Range(0, 1, "s", "bench"), LIMITS.count))
    with pytest.raises(LimitError, match=r"the framed board allows 1e-09 to 0.004999 s"):
        wide.pulse(Polarity.SET, EVERYTHING, 5e-3)
    with pytest.raises(LimitError, match="one sense of the array would take 0.01"):
        wide.sense(1e-3, 1e-3)


def test_counters(board: FramedBoard) -> None:
    assert board.status() == BoardStatus(0, 0, 0, False)
    board.pulse(Polarity.SET, EVERYTHING, TIME_S, 2)
    board.sense(TIME_S, TIME_S, 3)
    board.xnor(GOOD_INPUTS, TIME_S, TIME_S, GEOMETRY)
    board.cycle(EVERYTHING, TIME_S, TIME_S, 3)
    assert board.status() == BoardStatus(220 + 660, 5, 0, False)


def test_direct_access(board: FramedBoard, chip: FakeChip) -> None:
    board.connect_device(4, 10, Device.BLB)
    assert chip.connected == (4, 10, Device.BLB)
    board.disconnect_device()
    assert chip.connected is None
    for row, col in ((5, 0), (0, 11)):
        with pytest.raises(LimitError):
            board.connect_device(row, col, Device.BL)
    assert chip.connected is None


def test_safe_off_disconnects_and_reads_back(board: FramedBoard, chip: FakeChip, server: BoardServer) -> None:
    board.connect_device(0, 0, Device.BL)
    board.safe_off()
    assert chip.connected is None

    def lines_stay_high(data: bytes) -> bytes:
        frame = decode(data[:-1])
        if frame.opcode == Opcode.STATUS | RESPONSE:
            frame = frame._replace(payload=frame.payload[:-1] + b"\2")
        return encode(frame)

    server.to_host = lines_stay_high
    with pytest.raises(ReadBackError, match="0x02"):
        board.safe_off()


def test_safe_off_needs_no_session(board: FramedBoard, chip: FakeChip, server: BoardServer) -> None:
    board.connect_device(0, 0, Device.BL)
    server.reset()
    assert chip.connected is None
    chip.connected = (0, 0, Device.BL)
    board.safe_off()
    assert chip.connected is None


def until(happened: Callable[[], bool], pause_s: float = 0.001) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(pause_s)


def test_the_watchdog_trips_and_is_cleared(board: FramedBoard, chip: FakeChip) -> None:
    board.connect_device(0, 0, Device.BL)
    board.set_watchdog(0.005)
    # Nothing is sent here: the chip itself shows that the board acted alone.
    until(lambda: chip.connected is None)
    assert board.status().watchdog_tripped
    for call in (
        lambda: board.pulse(Polarity.SET, EVERYTHING, TIME_S),
        lambda: board.cycle(EVERYTHING, TIME_S, TIME_S, 1),
        lambda: board.sense(TIME_S, TIME_S),
        lambda: board.xnor(GOOD_INPUTS, TIME_S, TIME_S, GEOMETRY),
        lambda: board.connect_device(0, 0, Device.BL),
    ):
        with pytest.raises(InstrumentError, match="WATCHDOG: the watchdog has tripped"):
            call()
    board.safe_off()
    board.set_watchdog(0)
    board.sense(TIME_S, TIME_S)
    assert not board.status().watchdog_tripped
    assert chip.pulses.sum() == 0


def test_reopening_arms_the_watchdog_again(board: FramedBoard) -> None:
    board.set_watchdog(0.005)
    board.reopen()
    until(lambda: board.status().watchdog_tripped, pause_s=0.02)


def test_a_board_that_fails_during_a_pulse_leaves_it_in_doubt(board: FramedBoard, chip: FakeChip) -> None:
    chip.broken = True
    mask = ~EVERYTHING
    mask[1, 2, 0] = True
    with pytest.raises(InDoubt, match="word line driver") as caught:
        board.pulse(Polarity.SET, mask, TIME_S)
    assert caught.value.devices == [(1, 2, 0)]


@pytest.mark.parametrize("call", ["sense", "xnor", "status"])
def test_a_malformed_answer_is_never_a_number(board: FramedBoard, server: BoardServer, call: str) -> None:
    def shortened(data: bytes) -> bytes:
        frame = decode(data[:-1])
        return encode(frame._replace(payload=frame.payload[:-1]))

    server.to_host = shortened
    with pytest.raises(ReplyError, match="malformed"):
        match call:
            case "sense":
                board.sense(TIME_S, TIME_S)
            case "xnor":
                board.xnor(GOOD_INPUTS, TIME_S, TIME_S, GEOMETRY)
            case _:
                board.status()
