"""Frames and payloads: what goes in comes out, and damage is noticed."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.framed import messages as m
from drivers.framed.codec import Deframer, Frame, FrameError, decode, encode, wire_bytes
from models.cells import Device, Geometry, Polarity

BYTE, WORD, LONG = st.integers(0, 0xFF), st.integers(0, 0xFFFF), st.integers(1, 0xFFFF_FFFF)
FRAMES = st.builds(Frame, BYTE, WORD, WORD, BYTE, st.binary(max_size=600))
GEOMETRIES = st.builds(Geometry, st.integers(1, 9), st.integers(1, 19))
EXAMPLE = Frame(1, 0x0A01, 0x0100, m.Opcode.PULSE, bytes(range(8)))


@given(FRAMES)
def test_frame_round_trip(frame: Frame) -> None:
    wire = encode(frame)
    assert wire.index(b"\0") == len(wire) - 1
    assert len(wire) <= wire_bytes(len(frame.payload))
    assert decode(wire[:-1]) == frame


@given(st.lists(FRAMES, max_size=5), st.lists(st.integers(1, 40), min_size=1, max_size=40), st.integers(0, 3))
def test_a_stream_cut_anywhere_gives_the_same_frames(frames: list[Frame], cuts: list[int], zeros: int) -> None:
    stream = b"".join(bytes(zeros) + encode(frame) for frame in frames)
    deframer = Deframer(600)
    found: list[Frame | FrameError] = []
    for turn in range(len(stream)):
        size = cuts[turn % len(cuts)]
        found += deframer.feed(stream[:size])
        stream = stream[size:]
    assert found == frames


def bit_errors(data: bytes, count: int) -> Any:
    for bits in combinations(range(8 * len(data)), count):
        damaged = bytearray(data)
        for bit in bits:
            damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


@pytest.mark.parametrize("count", [1, 2])
def test_the_checksum_rejects_every_bit_error_of_the_data(count: int) -> None:
    for damaged in bit_errors(cobs.decode(encode(EXAMPLE)[:-1]), count):
        with pytest.raises(FrameError):
            decode(cobs.encode(damaged))


@pytest.mark.parametrize("count", [1, 2])
def test_bit_errors_on_the_wire_never_make_another_frame(count: int) -> None:
    for damaged in bit_errors(encode(EXAMPLE), count):
        found = Deframer(600).feed(damaged + b"\0")
        assert all(isinstance(item, FrameError) for item in found)


def test_what_is_too_long_is_dropped_and_the_next_frame_is_read() -> None:
    deframer = Deframer(8)
    for _ in range(100):
        assert deframer.feed(b"x" * 1000) == []
    dropped, frame = deframer.feed(b"x\0" + encode(EXAMPLE))
    assert isinstance(dropped, FrameError)
    assert frame == EXAMPLE


def test_the_longest_payload_fits() -> None:
    frame = EXAMPLE._replace(payload=b"\1" * 600)
    assert Deframer(600).feed(encode(frame)) == [frame]
    longer = Deframer(598).feed(encode(frame))
    assert [type(item) for item in longer] == [FrameError]


def masks(geometry: Geometry, seed: int) -> Any:
    return np.random.default_rng(seed).random((*geometry, 2)) < 0.5


@given(GEOMETRIES, st.sampled_from(Polarity), LONG, LONG, st.integers(0, 9))
def test_pulse_round_trip(geometry: Geometry, polarity: Polarity, width_ns: int, count: int, seed: int) -> None:
    sent = m.Pulse(polarity, width_ns, count, masks(geometry, seed))
    got = m.Pulse.unpack(sent.pack(), geometry)
    assert (got.polarity, got.width_ns, got.count) == (polarity, width_ns, count)
    np.testing.assert_array_equal(got.devices, sent.devices)
    assert got.busy_ns(7) == int(sent.devices.sum()) * count * (width_ns + 7)


@given(GEOMETRIES, st.integers(1, 4), st.booleans(), st.integers(0, 9))
def test_sensed_round_trip(geometry: Geometry, repeats: int, decided: bool, seed: int) -> None:
    choices = [-1, 1] if decided else [-1, 0, 1]
    sensed = np.random.default_rng(seed).choice(choices, (repeats, *geometry)).astype(np.int8)
    packed = m.pack_sensed(sensed)
    np.testing.assert_array_equal(m.unpack_sensed(packed, repeats, geometry), sensed)
    assert packed[0] == 1 + bool((sensed == 0).any())
    assert len(packed) + 1 <= m.Sense.reply_bytes(geometry, repeats)
    for wrong in (packed[:-1], packed + b"\0", b"", b"\3" + packed[1:]):
        with pytest.raises(m.PayloadError):
            m.unpack_sensed(wrong, repeats, geometry)


def test_a_cell_that_is_both_plus_and_minus_is_refused() -> None:
    with pytest.raises(m.PayloadError, match="both"):
        m.unpack_sensed(b"\2\1\1", 1, Geometry(1, 1))


@given(GEOMETRIES, st.integers(1, 12), LONG, LONG, st.integers(0, 9))
def test_xnor_round_trip(geometry: Geometry, n: int, precharge_ns: int, window_ns: int, seed: int) -> None:
    inputs = np.random.default_rng(seed).choice([-1, 1], (n, geometry.cols)).astype(np.int8)
    sent = m.Xnor(precharge_ns, window_ns, geometry.rows, inputs)
    packed = sent.pack()
    got = m.Xnor.unpack(packed, geometry)
    assert (got.precharge_ns, got.window_ns, got.rows) == (precharge_ns, window_ns, geometry.rows)
    np.testing.assert_array_equal(got.inputs, inputs)
    assert len(packed) == m.Xnor.request_bytes(n, geometry.cols)


@pytest.mark.parametrize("cols", [1, 127, 128, 1000])
def test_sums_round_trip_at_every_width(cols: int) -> None:
    sums = np.array([[-cols, cols], [0, cols - 1], [1 - cols, 1]], dtype=np.int16)
    used = Geometry(2, cols)
    packed = m.pack_sums(sums, cols)
    np.testing.assert_array_equal(m.unpack_sums(packed, 3, used), sums)
    assert len(packed) + 1 == m.Xnor.reply_bytes(3, used)
    with pytest.raises(m.PayloadError):
        m.unpack_sums(packed[:-1], 3, used)


def test_a_sum_beyond_the_columns_is_refused() -> None:
    with pytest.raises(m.PayloadError, match="beyond 3 columns"):
        m.unpack_sums(b"\4", 1, Geometry(1, 3))


WELCOME = m.Welcome(2**64 - 1, 1, 7, 2**32 - 1, 8, 4160, 100, 1000, 32, 64, "maker", "model", "", "1.2", "CHIP-9")


def test_small_messages_round_trip() -> None:
    geometry = Geometry(32, 64)
    assert m.Welcome.unpack(WELCOME.pack()) == WELCOME
    assert WELCOME.geometry == geometry
    for message in (m.Hello(5, 1, 3), m.Counters(2**64 - 1, 3, 2**32 - 1, 2, 1), m.Watchdog(2**32 - 1)):
        assert type(message).unpack(message.pack()) == message
    sense = m.Sense(5000, 6000, 3)
    assert m.Sense.unpack(sense.pack()) == sense
    assert sense.busy_ns(geometry, 10) == 3 * 32 * 11010
    connect = m.DirectConnect(31, 63, Device.BLB)
    assert m.DirectConnect.unpack(connect.pack(), geometry) == connect


GEOMETRY = Geometry(3, 5)
PAYLOADS: list[tuple[Any, bytes, tuple[Any, ...]]] = [
    (m.Hello, m.Hello(5, 1, 1).pack(), ()),
    (m.Welcome, WELCOME.pack(), ()),
    (m.Counters, m.Counters(1, 2, 3, 0, 0).pack(), ()),
    (m.Watchdog, m.Watchdog(1).pack(), ()),
    (m.Pulse, m.Pulse(Polarity.SET, 1, 1, masks(GEOMETRY, 0)).pack(), (GEOMETRY,)),
    (m.Sense, m.Sense(1, 1, 1).pack(), ()),
    (m.Xnor, m.Xnor(1, 1, 3, np.ones((2, 5), dtype=np.int8)).pack(), (GEOMETRY,)),
    (m.DirectConnect, m.DirectConnect(2, 4, Device.BL).pack(), (GEOMETRY,)),
]


@pytest.mark.parametrize(("kind", "payload", "extra"), PAYLOADS)
def test_a_payload_of_any_other_length_is_refused(kind: Any, payload: bytes, extra: tuple[Any, ...]) -> None:
    for length in range(len(payload)):
        with pytest.raises(m.PayloadError) as caught:
            kind.unpack(payload[:length], *extra)
        assert caught.value.status == m.Status.BAD_LENGTH
    with pytest.raises(m.PayloadError):
        kind.unpack(payload + b"\0", *extra)


@pytest.mark.parametrize(
    ("kind", "payload", "extra"),
    [
        (m.Hello, m.Hello(5, 2, 1).pack(), ()),
        (m.Hello, m.Hello(5, 0, 1).pack(), ()),
        (m.Pulse, b"\2" + PAYLOADS[4][1][1:], (GEOMETRY,)),
        (m.Pulse, m.Pulse(Polarity.SET, 0, 1, masks(GEOMETRY, 0)).pack(), (GEOMETRY,)),
        (m.Pulse, m.Pulse(Polarity.SET, 1, 0, masks(GEOMETRY, 0)).pack(), (GEOMETRY,)),
        (m.Sense, m.Sense(0, 1, 1).pack(), ()),
        (m.Sense, m.Sense(1, 0, 1).pack(), ()),
        (m.Sense, m.Sense(1, 1, 0).pack(), ()),
        (m.Xnor, m.Xnor(1, 1, 4, np.ones((2, 5), dtype=np.int8)).pack(), (GEOMETRY,)),
        (m.Xnor, m.Xnor(1, 1, 3, np.ones((2, 6), dtype=np.int8)).pack(), (GEOMETRY,)),
        (m.Xnor, m.Xnor(1, 1, 3, np.ones((0, 5), dtype=np.int8)).pack(), (GEOMETRY,)),
        (m.DirectConnect, m.DirectConnect(3, 0, Device.BL).pack(), (GEOMETRY,)),
        (m.DirectConnect, m.DirectConnect(0, 5, Device.BL).pack(), (GEOMETRY,)),
        (m.DirectConnect, b"\0\0\0\0\2", (GEOMETRY,)),
    ],
)
def test_a_value_out_of_range_is_refused(kind: Any, payload: bytes, extra: tuple[Any, ...]) -> None:
    with pytest.raises(m.PayloadError) as caught:
        kind.unpack(payload, *extra)
    assert caught.value.status == m.Status.BAD_ARGUMENT


@settings(max_examples=300)
@given(st.sampled_from(PAYLOADS), st.binary(max_size=40))
def test_no_payload_can_do_worse_than_be_refused(entry: tuple[Any, bytes, tuple[Any, ...]], payload: bytes) -> None:
    kind, good, extra = entry
    for received in (payload, good[: len(payload)] + payload):
        try:
            message = kind.unpack(received, *extra)
        except m.PayloadError:
            continue
        assert isinstance(message, kind)
