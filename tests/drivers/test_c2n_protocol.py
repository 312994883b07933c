"""The C2N dialects byte by byte, and how masks, weights and addresses are written down in them."""

from __future__ import annotations

import re
from enum import IntEnum
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from drivers.c2n.protocol import (
    COLUMN,
    NO_LINES,
    TERNARY,
    ColumnCommand,
    ColumnSignal,
    Dialect,
    Register,
    TernaryCommand,
    TernarySignal,
    Words,
    integers,
    pack_cells,
    pack_sensed,
    packets,
    select_device,
    unpack_cells,
    unpack_sensed,
)
from drivers.c2n.register_walk import PATTERNS, explain_walk
from drivers.errors import ReplyError
from drivers.simulated.c2n_firmware import FrameReader
from models.cells import Device, Polarity, lrs_devices

WORDS = st.builds(Words, *[st.integers(0, 2**64 - 1)] * 5)
ADDRESSES = st.tuples(st.integers(0, 127), st.integers(0, 63), st.sampled_from(Device), st.sampled_from(Polarity))


@pytest.mark.parametrize(
    ("dialect", "code", "payload", "wire"),
    [
        (TERNARY, TernaryCommand.WRITE_CS, "0101", "aa000101aa"),
        (TERNARY, TernaryCommand.SENSE, "", "aa04aa"),
        (TERNARY, TernaryCommand.SENSE_UC, "", "aa05aa"),
        (TERNARY, TernaryCommand.ACK_MODE, "3f", "aa083faa"),
        (TERNARY, TernaryCommand.DEBUG_ECHO, "21", "aa0921aa"),
        (TERNARY, TernaryCommand.DEBUG_LED, "", "aa0aaa"),
        (COLUMN, ColumnCommand.SET_CS, "0001", "aa020001aa"),
        (COLUMN, ColumnCommand.GET_CTL, "04", "aa0504aa"),
        (COLUMN, ColumnCommand.CLK_SR, "", "aa07aa"),
        (COLUMN, ColumnCommand.CLK_XNOR, "", "aa08aa"),
        (COLUMN, ColumnCommand.ACK_MODE, "ff", "aa09ffaa"),
        (COLUMN, ColumnCommand.DEBUG_ECHO, "aa", "aa0aaaaa"),
        (COLUMN, ColumnCommand.DEBUG_LED, "", "aa0baa"),
        (COLUMN, ColumnCommand.FILL_SRS, "aa" * 40, "aa01" + "aa" * 40 + "aa"),
    ],
)
def test_short_commands_to_the_byte(dialect: Dialect, code: IntEnum, payload: str, wire: str) -> None:
    assert [packet.hex() for packet in packets(dialect, code, bytes.fromhex(payload))] == [wire]


def test_a_whole_array_takes_two_packets_of_at_most_64_bytes() -> None:
    cells = bytes(index % 4 for index in range(64))
    first, second = packets(TERNARY, TernaryCommand.RESET, cells)
    assert first == bytes([0xAA, 3]) + cells[:61] + b"\xab"
    assert second == cells[61:] + b"\xaa"
    assert (len(first), len(second)) == (64, 4)


def test_a_payload_of_the_wrong_length_never_becomes_a_frame() -> None:
    with pytest.raises(ValueError, match="SET takes 64 payload bytes, not 40"):
        packets(TERNARY, TernaryCommand.SET, bytes(40))


def test_codes_masks_and_ids_are_those_published() -> None:
    ternary = ["WRITE_CS", "SET_ADR", "SET", "RESET", "SENSE", "SENSE_UC", "CLK", "CLK2", "ACK_MODE", "DEBUG_ECHO"]
    column = ["SET_SR", "FILL_SRS", "SET_CS", "SET_ADR_R", "SET_ADR_C", "GET_CTL", "CLK", "CLK_SR", "CLK_XNOR"]
    assert [code.name for code in TernaryCommand] == [*ternary, "DEBUG_LED"]
    assert [code.name for code in ColumnCommand] == [*column, "ACK_MODE", "DEBUG_ECHO", "DEBUG_LED"]
    for codes in (TernaryCommand, ColumnCommand, TernarySignal, ColumnSignal, Register):
        assert [int(code) for code in codes] == list(range(len(codes)))
    assert [signal.name for signal in TernarySignal] == ["CBL", "CBLEN", "CWL", "CSL", "READ", "BIT_IN", "CLK", "CLK2"]
    names = "CARAC_EN CSL CBLEN ACTIVATE_XNOR SR_XNOR CBL CWL READ READ_OUT"
    assert [signal.name for signal in ColumnSignal] == names.split()
    assert (TERNARY.ack_all, COLUMN.ack_all) == (63, 255)
    assert TERNARY.forms[TernaryCommand.CLK2].ack == 32
    assert COLUMN.forms[ColumnCommand.CLK_XNOR].ack == 128


@pytest.mark.parametrize("dialect", [TERNARY, COLUMN], ids=["ternary", "column"])
def test_a_command_is_acknowledged_or_answers_never_both(dialect: Dialect) -> None:
    for code, form in dialect.forms.items():
        assert not (form.ack and form.reply_bytes), code
        assert form.ack or form.reply_bytes or code == dialect.ack_mode, code


@given(st.lists(st.integers(0, 2**32), min_size=1, max_size=5))
def test_integers_are_short_and_little_endian(values: list[int]) -> None:
    written = [integers(value) for value in values]
    assert integers(*values) == b"".join(written)
    for value, data in zip(values, written, strict=True):
        assert int.from_bytes(data, "little") == value
        assert len(data) == 1 or data[-1] != 0


def test_zero_is_one_byte() -> None:
    assert integers(0) == b"\0"
    assert integers(0, 0, 256) == b"\0\0\0\1"


@given(arrays(np.bool_, (8, 8, 2)))
def test_masks_come_back(devices: np.ndarray) -> None:
    assert (unpack_cells(pack_cells(devices)) == devices).all()


@given(arrays(np.int8, (8, 8), elements=st.integers(-1, 1)))
def test_weights_come_back_and_no_mask_is_mistaken_for_a_sense(weights: np.ndarray) -> None:
    assert (unpack_sensed(pack_sensed(weights)) == weights).all()
    # +1 is SET with 0b01 and senses as 0b10: the same two bits mean opposite things.
    nonzero = weights.ravel() != 0
    set_codes, sense_codes = (
        np.frombuffer(data, dtype=np.uint8) for data in (pack_cells(lrs_devices(weights)), pack_sensed(weights))
    )
    assert (set_codes[nonzero] + sense_codes[nonzero] == 3).all()
    assert (set_codes[~nonzero] == 0).all()


def test_the_set_mask_of_each_weight() -> None:
    weights = np.zeros((8, 8), dtype=np.int8)
    weights[0, :3] = (1, -1, 0)
    assert pack_cells(lrs_devices(weights))[:3] == bytes([0b01, 0b10, 0b00])
    assert pack_cells(~lrs_devices(weights))[:3] == bytes([0b10, 0b01, 0b11])


@pytest.mark.parametrize("code", [0b11, 0xAA, 0xFF])
def test_an_impossible_sense_code_names_its_cell(code: int) -> None:
    with pytest.raises(ReplyError, match=r"1 cells .* cell \(2, 5\) with 0x"):
        unpack_sensed(bytes(21) + bytes([code]) + bytes(42))


@given(WORDS)
def test_words_come_back(words: Words) -> None:
    assert Words.unpack(words.pack()) == words
    assert len(words.pack()) == 40


def test_word_bytes_are_little_endian_in_register_order() -> None:
    assert Words(1, 1 << 63, 0, 0x0102, 0).pack().hex() == (
        "01000000000000000000000000000080000000000000000002010000000000000000000000000000"
    )


@given(ADDRESSES)
def test_an_address_stresses_one_device_and_in_the_right_direction(
    address: tuple[int, int, Device, Polarity],
) -> None:
    row, col, device, polarity = address
    words = select_device(row, col, device, polarity)
    opened = [2 * bit for bit in range(64) if words.wle >> bit & 1]
    opened += [2 * bit + 1 for bit in range(64) if words.wlo >> bit & 1]
    assert opened == [row]
    source, bit_lines = words.sl, {Device.BL: words.bl, Device.BLB: words.blb}
    for other in range(64):
        for which, line in bit_lines.items():
            across = (source >> other & 1) - (line >> other & 1)
            expected = (1 if polarity == Polarity.SET else -1) if (other, which) == (col, device) else 0
            assert across == expected


@pytest.mark.parametrize("dialect", [TERNARY, COLUMN], ids=["ternary", "column"])
@given(data=st.data())
def test_frames_are_found_however_the_stream_is_cut(dialect: Dialect, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.sampled_from(list(dialect.forms)), max_size=5))
    sent = [
        (code, data.draw(st.binary(min_size=n, max_size=n)))
        for code in codes
        for n in [dialect.forms[code].payload_bytes]
    ]
    stream = b"".join(packet for command in sent for packet in packets(dialect, *command))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = FrameReader(dialect)
    found = [item for start, end in pairwise([0, *cuts, len(stream)]) for item in reader.feed(stream[start:end])]
    assert found == sent


def test_filler_between_frames_means_nothing() -> None:
    reader = FrameReader(TERNARY)
    half = packets(TERNARY, TernaryCommand.SET, b"\3" * 64)[0]
    assert list(reader.feed(half + bytes(64) + b"\xaa\x09\x21\xaa")) == [(TernaryCommand.DEBUG_ECHO, b"!")]


def test_a_sound_walk_has_nothing_to_explain() -> None:
    for pattern in (*PATTERNS, NO_LINES):
        assert explain_walk(pattern, pattern) == ""


def test_the_patterns_tell_every_bit_and_every_register() -> None:
    first, second = PATTERNS
    assert len({*first, *second, *(int(f"{word:064b}"[::-1], 2) for word in (*first, *second))}) == 20
    assert all(one ^ other == 2**64 - 1 for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("register", Register)
@pytest.mark.parametrize(
    ("what", "explanation"),
    [
        ("stuck", "is stuck at 0"),
        ("reversed", "is reversed"),
        ("late", "comes late by 3"),
        ("early", "comes early by 1"),
        ("one bit", r"is wrong in 1 of its bits \(17\)"),
        ("other", "gives what (SL|WLE) was given"),
    ],
)
def test_what_is_wrong_with_a_register_is_said(register: Register, what: str, explanation: str) -> None:
    for sent in PATTERNS:
        word, other = sent[register], sent[Register.WLE if register == Register.SL else Register.SL]
        damaged = {
            "stuck": 0,
            "reversed": int(f"{word:064b}"[::-1], 2),
            "late": word >> 3,
            "early": word << 1 & (2**64 - 1),
            "one bit": word ^ 1 << 17,
            "other": other,
        }[what]
        read = sent._replace(**{register.name.lower(): damaged})
        assert re.fullmatch(f"{register.name} {explanation}", explain_walk(sent, read))


def test_the_page_lists_every_code() -> None:
    page = (Path(__file__).parents[2] / "docs/c2n-boards.md").read_text(encoding="utf-8")
    for codes in (TernaryCommand, ColumnCommand):
        for code in codes:
            assert f"| {int(code)} | {code.name} |" in page, code
    for signals in (TernarySignal, ColumnSignal, Register):
        assert ", ".join(f"{signal.name} {int(signal)}" for signal in signals) in page
