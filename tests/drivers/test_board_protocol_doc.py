"""The specification's examples are what the code does, byte for byte."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pytest
from cobs import cobs

from drivers.framed.codec import FrameError, decode
from drivers.framed.messages import Opcode, Status
from drivers.simulated.chip import SimulatedChip
from drivers.simulated.firmware import BoardFirmware, BoardProperties
from drivers.simulated.world import World
from models.cells import Geometry
from tests.drivers.fake_chip import FakeChip

PAGE = (Path(__file__).parents[2] / "docs" / "board-protocol.md").read_text(encoding="utf-8")


class Line(NamedTuple):
    """One frame of an example."""

    sender: str
    name: str
    frame: bytes | None
    wire: bytes


def examples() -> list[Line]:
    lines = []
    for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL):
        for sender, name, body in re.findall(r"^(host|board) +(\w+)\n((?:  .*\n)+)", block, re.MULTILINE):
            parts = dict.fromkeys(("frame", "wire"), "")
            tag = ""
            for row in body.splitlines():
                tag = row[2:7].strip() or tag
                parts[tag] += row[7:]
            frame = bytes.fromhex(parts["frame"]) if parts["frame"] else None
            lines.append(Line(sender, name, frame, bytes.fromhex(parts["wire"])))
    return lines


def example_board() -> tuple[BoardFirmware, FakeChip]:
    chip = FakeChip(Geometry(2, 3), np.array([[1, -1, 0], [-1, 1, 1]], dtype=np.int8))
    chip.chip_id = "EXAMPLE-1"
    properties = BoardProperties(window=4, max_payload=512, manufacturer="ACME", model="B2", serial="7")
    return BoardFirmware(World(cast(SimulatedChip, chip)), properties, 0xB007B007, 0x0A01, lambda: 0.0), chip


def test_the_page_has_the_examples() -> None:
    assert len(examples()) == 32


@pytest.mark.parametrize("line", [line for line in examples() if line.frame is not None])
def test_frame_and_wire_agree(line: Line) -> None:
    assert line.wire == cobs.encode(line.frame) + b"\0"
    opcode = decode(line.wire[:-1]).opcode
    assert opcode >> 7 == (line.sender == "board")
    assert Opcode(opcode & 0x7F).name == line.name


def test_the_board_holds_this_conversation() -> None:
    board, chip = example_board()
    lines = iter(examples())
    for asked, answered in zip(lines, lines, strict=True):
        assert (asked.sender, answered.sender) == ("host", "board")
        try:
            received = decode(asked.wire[:-1])
        except FrameError as error:
            received = error
        assert board.handle(received).hex(" ") == answered.wire.hex(" "), asked
    pulsed = [[0, 0, 0, 1], [0, 1, 1, 1], [1, 2, 1, 1]]
    cycled = [[1, 0, 0, 0], [1, 0, 0, 1]]
    assert np.argwhere(chip.pulses == 1).tolist() == pulsed
    assert np.argwhere(chip.pulses == 2).tolist() == cycled
    assert chip.pulses.sum() == 7


def test_tables_name_every_opcode_and_status() -> None:
    opcodes = {name: int(code, 16) for code, name in re.findall(r"^\| (0x\w\w) \| (\w+) \|", PAGE, re.MULTILINE)}
    statuses = {name: int(code) for code, name in re.findall(r"^\| (\d+) \| (\w+) \|.*\|.*\|$", PAGE, re.MULTILINE)}
    assert opcodes == {code.name: code.value for code in Opcode if code is not Opcode.BAD_FRAME}
    assert statuses.items() >= {code.name: code.value for code in Status}.items()
